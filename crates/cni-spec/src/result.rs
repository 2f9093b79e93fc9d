//! What an ADD answers: interfaces, addresses, routes and DNS (spec §5), always in the newest shape.
//!
//! A plugin makes and changes an [`AddResult`]; the older shapes exist only where a document is read or written. Which
//! of it an older version cannot say is lost on the way, and written down in the source of the `legacy` module.
//!
//! ```
//! use cni_spec::{AddResult, Version};
//!
//! let document = br#"{"cniVersion": "0.2.0", "ip4": {"ip": "10.1.0.5/16", "routes": [{"dst": "0.0.0.0/0"}]}}"#;
//! let (result, version) = AddResult::decode(document, Version::DEFAULT)?;
//! assert_eq!(version, Version::V0_2_0);
//! assert_eq!(result.ips[0].address.to_string(), "10.1.0.5/16");
//! assert_eq!(
//!     result.encode(Version::V1_0_0)?,
//!     r#"{
//!     "cniVersion": "1.0.0",
//!     "ips": [
//!         {
//!             "address": "10.1.0.5/16"
//!         }
//!     ],
//!     "routes": [
//!         {
//!             "dst": "0.0.0.0/0"
//!         }
//!     ]
//! }"#
//! );
//! # Ok::<(), cni_spec::result::ResultError>(())
//! ```

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize, Serializer};

use crate::{Version, address, json};

mod legacy;

/// The success result of ADD (spec §5 "ADD Success"). Keys come out in alphabetical order, as the reference's do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddResult {
    /// What DNS the network knows of.
    pub dns: Dns,
    /// The interfaces that the attachment made, on the host and in the container.
    pub interfaces: Vec<Interface>,
    /// The addresses it was given.
    pub ips: Vec<IpConfig>,
    /// The routes that were made for it.
    pub routes: Vec<Route>,
}

/// An interface of the result.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Interface {
    /// The hardware address, lower case with colons; empty where there is none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mac: String,
    /// The MTU in bytes (1.1.0); 0 where it is not told.
    #[serde(skip_serializing_if = "is_zero")]
    pub mtu: u32,
    /// The interface's name.
    pub name: String,
    /// The PCI address or the like (1.1.0).
    #[serde(rename = "pciID", skip_serializing_if = "String::is_empty")]
    pub pci_id: String,
    /// The container's namespace, as CNI_NETNS gave it; empty for an interface of the host.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sandbox: String,
    /// The path of a socket that stands for the interface, for instance vhost-user's (1.1.0).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub socket_path: String,
}

/// An address of the result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IpConfig {
    /// The address with its prefix; host bits are kept.
    #[serde(deserialize_with = "address::cidr")]
    pub address: IpNet,
    /// The gateway of its subnet, if there is one.
    #[serde(default, deserialize_with = "address::optional_ip", skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// The index of its interface in [`AddResult::interfaces`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<i64>,
}

/// A route of the result. What is `None` is left to the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The maximum segment size to advertise, in bytes; 0 is none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub advmss: u32,
    /// The destination.
    #[serde(deserialize_with = "address::cidr")]
    pub dst: IpNet,
    /// The next hop.
    #[serde(default, deserialize_with = "address::optional_ip", skip_serializing_if = "Option::is_none")]
    pub gw: Option<IpAddr>,
    /// The path's MTU in bytes; 0 is none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub mtu: u32,
    /// The metric: lower is preferred; 0 is the kernel's own.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub priority: u32,
    /// The scope, 0 to 255 (`ip route … scope`, rtnetlink(7)).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<u8>,
    /// The routing table's number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<u32>,
}

/// What a resolver needs to know: the content of a resolv.conf (resolv.conf(5)).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Dns {
    /// The domain for short names.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub domain: String,
    /// The name servers' addresses, by priority.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nameservers: Vec<String>,
    /// The resolver's options.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// The domains to search, by priority.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
}

impl Dns {
    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        *self == Dns::default()
    }
}

impl Route {
    /// A route to `dst`, with everything else left to the kernel.
    pub fn to(dst: IpNet) -> Self {
        Route { advmss: 0, dst, gw: None, mtu: 0, priority: 0, scope: None, table: None }
    }
}

impl AddResult {
    /// The interface that an address belongs to; nothing where it names none of this result's.
    pub fn interface_of(&self, ip: &IpConfig) -> Option<&Interface> {
        self.interfaces.get(usize::try_from(ip.interface?).ok()?)
    }

    /// Reads a result document of any version. One without `cniVersion` is taken to be of version `otherwise`.
    ///
    /// # Errors
    /// What is not JSON, not a result of its version, or of a version that is not known.
    pub fn decode(document: &[u8], otherwise: Version) -> Result<(AddResult, Version), ResultError> {
        AddResult::decode_within(json::check(document)?.get(), document, otherwise)
    }

    /// Reads a result that is a part of a larger document; an error says where it is in that document.
    ///
    /// # Errors
    /// As for [`AddResult::decode`].
    pub fn decode_within(
        value: &str,
        document: &[u8],
        otherwise: Version,
    ) -> Result<(AddResult, Version), ResultError> {
        #[derive(Default, Deserialize)]
        #[serde(default, rename_all = "camelCase")]
        struct Label {
            cni_version: String,
        }
        let label: Label = json::decode_within(value, document)?;
        let version = match label.cni_version.as_str() {
            "" => otherwise,
            text => Version::known(text).ok_or_else(|| ResultError::UnknownVersion(text.into()))?,
        };
        let result = match version {
            Version::V0_1_0 | Version::V0_2_0 => {
                json::decode_within::<legacy::Result020>(value, document)?.into()
            }
            Version::V0_3_0 | Version::V0_3_1 | Version::V0_4_0 => {
                json::decode_within::<legacy::Result040>(value, document)?.into()
            }
            Version::V1_0_0 | Version::V1_1_0 => json::decode_within::<Document>(value, document)?.into(),
        };
        Ok((result, version))
    }

    /// The document of this result in the shape of `version`: four spaces of indentation, no newline at the end.
    ///
    /// # Errors
    /// Versions 0.1.0 and 0.2.0 cannot say anything without an address.
    pub fn encode(&self, version: Version) -> Result<String, ResultError> {
        Ok(match version {
            Version::V0_1_0 | Version::V0_2_0 => {
                json::to_pretty(&legacy::Result020::new(self, version).ok_or(ResultError::NoAddress)?)
            }
            Version::V0_3_0 | Version::V0_3_1 | Version::V0_4_0 => {
                json::to_pretty(&legacy::Result040::new(self, version))
            }
            Version::V1_0_0 | Version::V1_1_0 => json::to_pretty(&Document::new(self.clone(), version)),
        })
    }
}

/// Why a result could not be read or written.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResultError {
    /// It is not JSON, or not the JSON of a result.
    Decode(json::DecodeError),
    /// Its `cniVersion` is none that is known.
    UnknownVersion(String),
    /// It has no address, and the version that is wanted cannot do without.
    NoAddress,
}

impl From<json::DecodeError> for ResultError {
    fn from(error: json::DecodeError) -> Self {
        ResultError::Decode(error)
    }
}

impl ResultError {
    /// The same error, of a result that is found under `key` of a larger document.
    #[must_use]
    pub fn under(self, key: &str) -> Self {
        match self {
            ResultError::Decode(error) => ResultError::Decode(error.under(key)),
            other => other,
        }
    }
}

impl fmt::Display for ResultError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ResultError::Decode(error) => error.fmt(f),
            ResultError::UnknownVersion(text) => write!(f, "unsupported CNI result version {text:?}"),
            ResultError::NoAddress => f.write_str("cannot convert: no valid IP addresses"),
        }
    }
}

impl std::error::Error for ResultError {}

/// The document of versions 1.0.0 and 1.1.0.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    #[serde(default, skip_deserializing)]
    cni_version: Option<Version>,
    #[serde(default, skip_serializing_if = "Dns::is_empty")]
    dns: Dns,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    interfaces: Vec<Interface>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ips: Vec<IpConfig>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    routes: Vec<Route>,
}

impl Document {
    fn new(result: AddResult, version: Version) -> Self {
        let AddResult { dns, interfaces, ips, routes } = result;
        Document { cni_version: Some(version), dns, interfaces, ips, routes }
    }
}

impl From<Document> for AddResult {
    fn from(document: Document) -> Self {
        let Document { cni_version: _, dns, interfaces, ips, routes } = document;
        AddResult { dns, interfaces, ips, routes }
    }
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// Results are written in the newest shape where nobody says which, for instance by `serde_json::to_value`.
impl Serialize for AddResult {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Document::new(self.clone(), Version::CURRENT).serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEWEST: &str = r#"{
    "cniVersion": "1.1.0",
    "dns": {
        "domain": "example.org",
        "nameservers": [
            "10.1.0.1"
        ]
    },
    "interfaces": [
        {
            "mac": "00:11:22:33:44:55",
            "mtu": 1500,
            "name": "eth0",
            "pciID": "0000:00:01.0",
            "sandbox": "/run/netns/x",
            "socketPath": "/run/vhost.sock"
        }
    ],
    "ips": [
        {
            "address": "10.1.0.5/16",
            "gateway": "10.1.0.1",
            "interface": 0
        },
        {
            "address": "2001:db8::5/64"
        }
    ],
    "routes": [
        {
            "advmss": 1400,
            "dst": "0.0.0.0/0",
            "gw": "10.1.0.1",
            "mtu": 1450,
            "priority": 5,
            "scope": 0,
            "table": 0
        },
        {
            "dst": "2001:db8:1::/48"
        }
    ]
}"#;

    fn newest() -> AddResult {
        AddResult::decode(NEWEST.as_bytes(), Version::V0_1_0).unwrap().0
    }

    #[test]
    fn the_newest_shape_is_printed_as_it_was_read() {
        let (result, version) = AddResult::decode(NEWEST.as_bytes(), Version::V0_1_0).unwrap();
        assert_eq!(version, Version::V1_1_0);
        assert_eq!(result.encode(Version::V1_1_0).unwrap(), NEWEST);
        assert_eq!(result.interface_of(&result.ips[0]).unwrap().name, "eth0");
        assert!(result.interface_of(&result.ips[1]).is_none());
    }

    #[test]
    fn version_0_4_loses_what_it_cannot_say_and_keeps_the_attributes_of_routes() {
        let text = newest().encode(Version::V0_4_0).unwrap();
        for kept in ["\"version\": \"4\"", "\"version\": \"6\"", "\"table\": 0", "\"priority\": 5"] {
            assert!(text.contains(kept), "{kept} in {text}");
        }
        assert!(!text.contains("pciID") && !text.contains("1500"), "{text}");
        let order: Vec<usize> = ["\"cniVersion\"", "\"interfaces\"", "\"ips\"", "\"routes\"", "\"dns\""]
            .map(|k| text.find(k).unwrap())
            .into();
        assert!(order.is_sorted(), "{text}");
    }

    #[test]
    fn version_0_2_keeps_one_address_a_family_with_its_routes() {
        let text = newest().encode(Version::V0_2_0).unwrap();
        let (back, version) = AddResult::decode(text.as_bytes(), Version::CURRENT).unwrap();
        assert_eq!(version, Version::V0_2_0);
        assert!(back.interfaces.is_empty());
        assert_eq!(back.ips.len(), 2);
        assert_eq!(back.routes.len(), 2);
        assert_eq!(back.routes[0].priority, 0);
        let none = AddResult::default();
        assert_eq!(none.encode(Version::V0_1_0), Err(ResultError::NoAddress));
        assert_eq!(
            none.encode(Version::V0_3_1).unwrap(),
            "{\n    \"cniVersion\": \"0.3.1\",\n    \"dns\": {}\n}"
        );
        assert_eq!(none.encode(Version::V1_0_0).unwrap(), "{\n    \"cniVersion\": \"1.0.0\"\n}");
    }

    #[test]
    fn a_document_without_version_is_what_it_was_said_to_be() {
        let (result, version) =
            AddResult::decode(br#"{"ip4":{"ip":"10.0.0.2/8"}}"#, Version::V0_2_0).unwrap();
        assert_eq!((result.ips.len(), version), (1, Version::V0_2_0));
        let (result, _) = AddResult::decode(b"null", Version::V1_0_0).unwrap();
        assert_eq!(result, AddResult::default());
    }

    #[test]
    fn what_is_wrong_is_said_in_the_words_of_the_reference() {
        let error = |json: &str| AddResult::decode(json.as_bytes(), Version::V1_1_0).unwrap_err().to_string();
        assert_eq!(
            error(r#"{"ips":[{"address":"10.0.0.256/8"}]}"#),
            "ips[0].address: invalid CIDR address: 10.0.0.256/8 at line 1 column 20"
        );
        assert!(
            error(r#"{"ips":[{"address":"10.0.0.2/8","gateway":"x"}]}"#).contains("invalid IP address: x")
        );
        assert_eq!(error(r#"{"cniVersion":"2.0.0"}"#), "unsupported CNI result version \"2.0.0\"");
        assert!(error(r#"{"ips":[{}]}"#).contains("ips[0]: missing field `address`"));
    }

    #[test]
    fn empty_text_and_null_are_no_gateway() {
        let json =
            br#"{"ips":[{"address":"10.0.0.2/8","gateway":""},{"address":"10.0.0.3/8","gateway":null}]}"#;
        let (result, _) = AddResult::decode(json, Version::V1_1_0).unwrap();
        assert!(result.ips.iter().all(|ip| ip.gateway.is_none()));
    }
}
