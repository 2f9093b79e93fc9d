//! What the conversions between versions of a result must do, written a second time on plain JSON values.
//!
//! It follows the table of conversions, not the crate's code; it expects addresses as they are printed.

use cni_spec::Version;
use serde_json::{Map, Value, json};

/// The result document of version `from`, as a document of version `to`. Nothing where there is no address for a version
/// that needs one.
pub(crate) fn convert(document: &Value, from: Version, to: Version) -> Option<Value> {
    let newest = if from < Version::V0_3_0 { from_families(document) } else { document.clone() };
    let mut new = tidy(&newest);
    new.insert("cniVersion".into(), json!(to.as_str()));
    if to < Version::V0_3_0 {
        new = to_families(new)?;
    } else if to < Version::V1_0_0 {
        each(&mut new, "interfaces", |i| i.retain(|k, _| ["name", "mac", "sandbox"].contains(&k.as_str())));
        each(&mut new, "ips", |ip| {
            let version = if is_v6(&ip["address"]) { "6" } else { "4" };
            ip.insert("version".into(), json!(version));
        });
    }
    if to < Version::V1_0_0 {
        new.entry("dns").or_insert(json!({}));
    }
    Some(Value::Object(new))
}

fn from_families(document: &Value) -> Value {
    let families = ["ip4", "ip6"].map(|f| document[f].clone());
    let families = || families.iter().filter(|f| f.is_object());
    let ips: Vec<Value> =
        families().map(|f| json!({"address": f["ip"].clone(), "gateway": f["gateway"].clone()})).collect();
    let routes: Vec<Value> =
        families().flat_map(|f| f["routes"].as_array().cloned().unwrap_or_default()).collect();
    json!({"ips": ips, "routes": routes, "dns": document["dns"].clone()})
}

fn to_families(new: Map<String, Value>) -> Option<Map<String, Value>> {
    let list = |key: &str| new.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let mut old = Map::new();
    for (family, v6) in [("ip4", false), ("ip6", true)] {
        let Some(ip) = list("ips").into_iter().find(|ip| is_v6(&ip["address"]) == v6) else { continue };
        let routes: Vec<Value> = list("routes")
            .into_iter()
            .filter(|r| is_v6(&r["dst"]) == v6)
            .map(|r| json!({"dst": r["dst"].clone(), "gw": r["gw"].clone()}))
            .collect();
        let family_of = json!({"ip": ip["address"], "gateway": ip["gateway"], "routes": routes});
        old.insert(family.into(), Value::Object(tidy(&family_of)));
    }
    if old.is_empty() {
        return None;
    }
    old.insert("cniVersion".into(), new["cniVersion"].clone());
    old.insert("dns".into(), new.get("dns").cloned().unwrap_or(json!({})));
    Some(old)
}

/// Without the members that are not printed: those that say nothing, and the `version` of addresses.
fn tidy(value: &Value) -> Map<String, Value> {
    fn says_something(key: &str, value: &Value) -> bool {
        match value {
            Value::Null => false,
            Value::String(s) => !s.is_empty() || key == "name",
            Value::Array(a) => !a.is_empty(),
            Value::Object(o) => !o.is_empty(),
            Value::Number(n) => !(n.as_u64() == Some(0) && ["mtu", "advmss", "priority"].contains(&key)),
            Value::Bool(_) => true,
        }
    }
    fn walk(value: &Value) -> Value {
        match value {
            Value::Object(_) => Value::Object(tidy(value)),
            Value::Array(list) => list.iter().map(walk).collect(),
            other => other.clone(),
        }
    }
    let members = value.as_object().expect("only objects are tidied").iter();
    members
        .filter(|(key, _)| *key != "version")
        .map(|(key, value)| (key.clone(), walk(value)))
        .filter(|(key, value)| says_something(key, value))
        .collect()
}

fn each(document: &mut Map<String, Value>, key: &str, mut change: impl FnMut(&mut Map<String, Value>)) {
    if let Some(Value::Array(list)) = document.get_mut(key) {
        list.iter_mut().filter_map(Value::as_object_mut).for_each(&mut change);
    }
}

fn is_v6(address: &Value) -> bool {
    address.as_str().is_some_and(|text| text.contains(':'))
}
