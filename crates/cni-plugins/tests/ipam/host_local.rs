//! host-local in a directory of its own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use cni_plugins::ipam::host_local::HostLocal;
use cni_sdk::testing::Caller;
use cni_sdk::{AddResult, AttachmentId, Code, Error};
use tempfile::TempDir;

/// A network, and where it keeps its reservations.
struct Net {
    dir: TempDir,
    ipam: String,
    extra: String,
    version: &'static str,
}

impl Net {
    /// A network with these keys in `ipam`.
    fn new(ipam: &str) -> Net {
        let dir = tempfile::tempdir().unwrap();
        Net { dir, ipam: ipam.into(), extra: String::new(), version: "1.1.0" }
    }

    /// The same directory, other keys in `ipam`.
    fn edited(self, ipam: &str) -> Net {
        Net { ipam: ipam.into(), ..self }
    }

    fn version(self, version: &'static str) -> Net {
        Net { version, ..self }
    }

    /// Keys beside `ipam`.
    fn with(&self, extra: &str) -> Net {
        let dir = tempfile::tempdir_in(self.dir.path()).unwrap();
        Net { dir, ipam: self.ipam.clone(), extra: format!(", {extra}"), version: self.version }
    }

    fn data_dir(&self) -> &Path {
        self.dir.path()
    }

    fn folder(&self) -> PathBuf {
        self.data_dir().join("net")
    }

    fn caller(&self, id: &str) -> Caller {
        let (version, ipam, extra) = (self.version, &self.ipam, &self.extra);
        let comma = if ipam.is_empty() { "" } else { ", " };
        let data_dir = self.data_dir().display();
        let config = format!(
            r#"{{"cniVersion": "{version}", "name": "net", "type": "bridge",
                 "ipam": {{"type": "host-local", "dataDir": "{data_dir}"{comma}{ipam}}}{extra}}}"#
        );
        Caller::new::<HostLocal>(&config).netns("/dev/null").id(id, "eth0")
    }

    fn add(&self, id: &str) -> Result<Vec<String>, Error> {
        self.caller(id).add().map(|result| addresses(&result))
    }

    /// The reservations that there are: address and owner.
    fn reserved(&self) -> Vec<(String, String)> {
        let mut found: Vec<(String, String)> = fs::read_dir(self.folder())
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap())
            .filter(|entry| entry.file_name().to_str().unwrap().parse::<std::net::IpAddr>().is_ok())
            .map(|entry| {
                let text = fs::read_to_string(entry.path()).unwrap();
                (entry.file_name().into_string().unwrap(), text)
            })
            .collect();
        found.sort();
        found
    }

    fn reserve(&self, address: &str, owner: &str) {
        fs::create_dir_all(self.folder()).unwrap();
        fs::write(self.folder().join(address), owner).unwrap();
    }
}

fn addresses(result: &AddResult) -> Vec<String> {
    result.ips.iter().map(|ip| ip.address.to_string()).collect()
}

fn id(text: &str) -> AttachmentId {
    AttachmentId::parse(text, "eth0").unwrap()
}

const SMALL: &str = r#""ranges": [[{"subnet": "10.1.0.0/29"}]]"#;

#[test]
fn addresses_go_round_and_the_gateway_is_left_out() {
    let net = Net::new(SMALL);
    let result = net.caller("a").add().unwrap();
    assert_eq!(addresses(&result), ["10.1.0.2/29"]);
    assert_eq!(result.ips[0].gateway, Some("10.1.0.1".parse().unwrap()));
    assert_eq!(result.ips[0].interface, None);
    assert!(result.interfaces.is_empty() && result.routes.is_empty() && result.dns.is_empty());
    for (id, ip) in [("b", "10.1.0.3/29"), ("c", "10.1.0.4/29"), ("d", "10.1.0.5/29")] {
        assert_eq!(net.add(id).unwrap(), [ip]);
    }
    net.caller("a").del(None).unwrap();
    assert_eq!(net.add("e").unwrap(), ["10.1.0.6/29"], "not the one that has just been freed");
    assert_eq!(net.add("f").unwrap(), ["10.1.0.2/29"]);
    let exhausted = net.add("g").unwrap_err();
    assert_eq!(
        exhausted.msg,
        "failed to allocate for range 0: no IP addresses available in range set: 10.1.0.1-10.1.0.6"
    );
    assert_eq!(exhausted.code, Code::INTERNAL);
    let status = net.caller("g").status().unwrap_err();
    assert_eq!(status.msg, "no IP addresses available in range set: 10.1.0.1-10.1.0.6");
    assert_eq!(status.code, Code::PLUGIN_NOT_AVAILABLE);
}

#[test]
fn files_are_the_references() {
    let net = Net::new(r#""ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd00:0:0:1::/64"}]]"#);
    assert_eq!(net.add("3a5f").unwrap(), ["10.1.0.2/24", "fd00:0:0:1::2/64"]);
    let owner = "3a5f\r\neth0".to_owned();
    assert_eq!(net.reserved(), [("10.1.0.2".into(), owner.clone()), ("fd00:0:0:1::2".into(), owner)]);
    let read = |name: &str| fs::read_to_string(net.folder().join(name)).unwrap();
    assert_eq!([read("last_reserved_ip.0"), read("last_reserved_ip.1")], ["10.1.0.2", "fd00:0:0:1::2"]);
    assert_eq!(read("lock"), "");
    for name in ["10.1.0.2", "last_reserved_ip.0"] {
        let mode = fs::metadata(net.folder().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    net.caller("3a5f").del(None).unwrap();
    assert_eq!(net.reserved(), []);
}

#[test]
fn what_others_wrote_counts_and_is_freed() {
    let net = Net::new(SMALL);
    net.reserve("10.1.0.2", "before");
    net.reserve("10.1.0.3", "old\r\neth0\n");
    assert_eq!(net.add("new").unwrap(), ["10.1.0.4/29"]);
    net.reserve("10.1.0.5", "between\r\neth0");
    assert_eq!(net.add("newer").unwrap(), ["10.1.0.6/29"]);
    let duplicate = net.add("before").unwrap_err();
    assert_eq!(
        duplicate.msg,
        "failed to allocate for range 0: 10.1.0.2 has been allocated to before, duplicate allocation is not allowed"
    );
    for id in ["before", "old", "between"] {
        net.caller(id).check(&AddResult::default()).unwrap();
        net.caller(id).del(None).unwrap();
        let gone = net.caller(id).check(&AddResult::default()).unwrap_err();
        assert_eq!(gone.msg, format!("host-local: Failed to find address added by container {id}"));
    }
    let owners: Vec<_> = net.reserved().into_iter().map(|(_, owner)| owner).collect();
    assert_eq!(owners, ["new\r\neth0", "newer\r\neth0"]);
}

#[test]
fn torn_reservations_free_themselves() {
    let net = Net::new(SMALL);
    for (address, torn) in [("10.1.0.2", ""), ("10.1.0.3", "\0\0\0\0"), ("10.1.0.4", "\r\n")] {
        net.reserve(address, torn);
    }
    assert_eq!(net.add("a").unwrap(), ["10.1.0.2/29"]);
    assert_eq!(net.reserved(), [("10.1.0.2".into(), "a\r\neth0".into())]);
}

#[test]
fn requests_come_from_everywhere_and_all_count() {
    let ipam =
        r#""ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "10.2.0.0/24"}], [{"subnet": "fd00::/64"}]]"#;
    let net = Net::new(ipam).with(
        r#""args": {"cni": {"ips": ["10.2.0.9"]}}, "runtimeConfig": {"ips": ["fd00::9/64", "10.2.0.9"]}"#,
    );
    let asked = net.caller("a").args("IP=10.1.0.9/24;IgnoreUnknown=1;K8S_POD_NAME=web").add().unwrap();
    assert_eq!(addresses(&asked), ["10.1.0.9/24", "10.2.0.9/24", "fd00::9/64"]);
    let taken = net.caller("b").add().unwrap_err();
    assert_eq!(
        taken.msg,
        "failed to allocate for range 1: requested IP address 10.2.0.9 is not available in range set \
         10.2.0.1-10.2.0.254"
    );
    assert_eq!(net.reserved().len(), 3, "what b had by then is freed");

    let net = Net::new(ipam).with(r#""runtimeConfig": {"ips": ["10.1.0.1"]}"#);
    let gateway = net.add("a").unwrap_err();
    assert_eq!(gateway.msg, "failed to allocate for range 0: requested ip 10.1.0.1 is subnet's gateway");
    let net = Net::new(ipam).with(r#""runtimeConfig": {"ips": ["10.1.0.7", "10.3.0.1", "10.1.0.8"]}"#);
    assert_eq!(net.add("a").unwrap_err().msg, "failed to allocate all requested IPs: 10.3.0.1 10.1.0.8");
    assert_eq!(net.reserved(), []);
    for (args, said) in [
        ("IP=10.1.0.x", r#"ARGS: error parsing value of pair "IP=10.1.0.x": invalid IP address 10.1.0.x"#),
        ("MAC=02:00:00:00:00:01", r#"ARGS: unknown args ["MAC=02:00:00:00:00:01"]"#),
    ] {
        assert_eq!(net.caller("a").args(args).add().unwrap_err().msg, said);
    }
    let net = Net::new(ipam).with(r#""runtimeConfig": {"ips": ["10.1.0.256"]}"#);
    assert_eq!(net.add("a").unwrap_err().msg, "invalid IP address 10.1.0.256");
}

#[test]
fn ranges_come_from_the_runtime_the_section_and_the_list() {
    let ipam = r#""subnet": "10.2.0.0/24", "rangeStart": "10.2.0.8", "gateway": "10.2.0.3",
        "ranges": [[{"subnet": "10.3.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0", "mtu": 1400}]"#;
    let net = Net::new(ipam).with(r#""runtimeConfig": {"ipRanges": [[{"subnet": "10.1.0.0/24"}]]}"#);
    let result = net.caller("a").add().unwrap();
    assert_eq!(addresses(&result), ["10.1.0.2/24", "10.2.0.8/24", "10.3.0.2/24"]);
    assert_eq!(result.ips[1].gateway, Some("10.2.0.3".parse().unwrap()));
    assert_eq!(result.routes.len(), 1);
    assert_eq!(result.routes[0].mtu, 1400);
    let net = Net::new(ipam).with(r#""RuntimeConfig": {"ipRanges": [[{"subnet": "10.3.0.0/16"}]]}"#);
    let error = net.add("a").unwrap_err();
    assert_eq!(
        (error.msg.as_str(), error.details.as_str()),
        ("range set 0 overlaps with 2", "runtimeConfig.ipRanges[0] and ipam.ranges[0]")
    );
}

#[test]
fn one_container_may_have_several_interfaces() {
    let net = Net::new(SMALL);
    for ifname in ["eth0", "eth1"] {
        net.caller("a").id("a", ifname).add().unwrap();
    }
    net.caller("a").id("a", "eth1").del(None).unwrap();
    assert_eq!(net.reserved(), [("10.1.0.2".into(), "a\r\neth0".into())]);
}

#[test]
fn every_version_gets_its_shape() {
    for version in ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        let net = Net::new(r#""ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd00::/64"}]]"#);
        let net = net.version(version);
        assert_eq!(net.add("a").unwrap(), ["10.1.0.2/24", "fd00::2/64"], "{version}");
        net.caller("a").del(None).unwrap();
        assert_eq!(net.reserved(), []);
    }
    let twice = r#""ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "10.2.0.0/24"}]]"#;
    let error = Net::new(twice).version("0.2.0").add("a").unwrap_err();
    assert_eq!(error.msg, "CNI version 0.2.0 does not support more than 1 address per family");
}

#[test]
fn check_looks_for_every_address_of_the_result() {
    let net = Net::new(r#""ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd00::/64"}]]"#);
    let result = net.caller("a").add().unwrap();
    net.caller("a").check(&result).unwrap();
    fs::remove_file(net.folder().join("fd00::2")).unwrap();
    let error = net.caller("a").check(&result).unwrap_err();
    assert_eq!(error.msg, "host-local: Failed to find address added by container a");
    assert_eq!(error.details, "fd00::2 of the result is not reserved for it");
    net.reserve("fd00::2", "b\r\neth0");
    net.caller("a").check(&result).unwrap_err();
    net.caller("a").del(Some(&result)).unwrap();
    assert_eq!(net.reserved(), [("fd00::2".into(), "b\r\neth0".into())], "what is another's stays");
    net.caller("a").check(&result).unwrap_err();
}

#[test]
fn del_succeeds_whatever_became_of_the_configuration() {
    let net = Net::new(SMALL);
    net.add("a").unwrap();
    let net = net.edited(r#""ranges": [[{"subnet": "10.9.0.5/24", "gateway": "nonsense"}]]"#);
    net.caller("a").args("IP=nonsense;x").del(None).unwrap();
    assert_eq!(net.reserved(), []);
    net.caller("a").del(None).unwrap();
    let net = net.edited("");
    net.caller("a").del(None).unwrap();
    net.caller("a").gc(&[]).unwrap();
    assert_eq!(net.add("a").unwrap_err().msg, "no IP ranges specified");
    assert_eq!(net.caller("a").status().unwrap_err().code, Code::PLUGIN_NOT_AVAILABLE);
    assert!(!net.data_dir().join("other").exists(), "a DEL makes no directory");
    let caller = Caller::new::<HostLocal>(r#"{"name": "no-such-network", "type": "x"}"#).netns("/dev/null");
    caller.del(None).unwrap();
    caller.gc(&[]).unwrap();
    assert_eq!(caller.add().unwrap_err().msg, "IPAM config missing 'ipam' key");
    assert_eq!(caller.check(&AddResult::default()).unwrap_err().msg, "IPAM config missing 'ipam' key");
}

#[test]
fn gc_frees_what_is_not_valid_and_stays_in_its_network() {
    let net = Net::new(r#""ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd00::/64"}]]"#);
    for id in ["a", "b", "c"] {
        net.add(id).unwrap();
    }
    net.reserve("10.1.0.99", "legacy");
    net.reserve("10.1.0.98", "dead");
    let other = net.data_dir().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("10.1.0.7"), "b\r\neth0").unwrap();
    net.caller("").gc(&[id("a"), id("legacy"), AttachmentId::parse("b", "eth1").unwrap()]).unwrap();
    let left: Vec<_> = net.reserved().into_iter().map(|(ip, _)| ip).collect();
    assert_eq!(left, ["10.1.0.2", "10.1.0.99", "fd00::2"]);
    assert!(other.join("10.1.0.7").exists());
    net.caller("").gc(&[]).unwrap();
    assert_eq!(net.reserved(), []);
    assert_eq!(net.add("d").unwrap(), ["10.1.0.5/24", "fd00::5/64"], "and the round goes on");
}

#[test]
fn status_says_what_add_would() {
    let net = Net::new(r#""ranges": [[{"subnet": "10.1.0.0/29"}], [{"subnet": "10.2.0.0/30"}]]"#);
    net.caller("").status().unwrap();
    assert!(!net.folder().exists(), "STATUS makes nothing");
    net.add("a").unwrap();
    let status = net.caller("").status().unwrap_err();
    assert_eq!(status.code, Code::PLUGIN_NOT_AVAILABLE);
    assert_eq!(status.msg, "no IP addresses available in range set: 10.2.0.1-10.2.0.2");
    net.caller("a").del(None).unwrap();
    net.caller("").status().unwrap();
    let gateway_alone = r#""subnet": "10.1.0.0/24", "rangeStart": "10.1.0.1", "rangeEnd": "10.1.0.1""#;
    let status = Net::new(gateway_alone).caller("").status();
    assert_eq!(
        status.unwrap_err().msg,
        "no IP addresses available in range set: 10.1.0.1-10.1.0.1",
        "even where the directory is not there yet"
    );
}

#[test]
fn a_range_of_one_address_is_enough_for_one() {
    let net = Net::new(r#""subnet": "10.1.0.0/24", "rangeStart": "10.1.0.7", "rangeEnd": "10.1.0.7""#);
    assert_eq!(net.add("a").unwrap(), ["10.1.0.7/24"]);
    assert_eq!(
        net.add("b").unwrap_err().msg,
        "failed to allocate for range 0: no IP addresses available in range set: 10.1.0.7-10.1.0.7"
    );
    net.caller("a").del(None).unwrap();
    assert_eq!(net.add("b").unwrap(), ["10.1.0.7/24"]);
}

#[test]
fn a_data_dir_that_is_a_file_is_named() {
    let net = Net::new(SMALL);
    fs::write(net.folder(), "").unwrap();
    let path = net.folder().display().to_string();
    assert_eq!(net.add("a").unwrap_err().msg, format!("create {path}: File exists (os error 17)"));
    let status = net.caller("a").status().unwrap_err();
    assert_eq!(status.msg, format!("write to {path}: Not a directory (os error 20)"));
    assert_eq!(status.code, Code::PLUGIN_NOT_AVAILABLE);
    net.caller("a").del(None).unwrap();
    net.caller("a").gc(&[]).unwrap();
}

#[test]
fn dns_is_that_of_resolv_conf() {
    let net = Net::new(SMALL);
    let file = net.data_dir().join("resolv.conf");
    fs::write(&file, "nameserver 192.0.2.1\nsearch a.example b.example\n").unwrap();
    let ipam = format!(r#"{SMALL}, "resolvConf": "{}""#, file.display());
    let net = net.edited(&ipam);
    let dns = net.caller("a").add().unwrap().dns;
    assert_eq!(
        (dns.nameservers, dns.search),
        (vec!["192.0.2.1".into()], vec!["a.example".into(), "b.example".into()])
    );
    fs::remove_file(&file).unwrap();
    let error = net.add("b").unwrap_err();
    assert_eq!(error.msg, format!("read {}: No such file or directory (os error 2)", file.display()));
    assert_eq!(net.reserved().len(), 1);
}
