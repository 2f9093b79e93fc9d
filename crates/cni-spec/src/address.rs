//! IP addresses as CNI documents write them: read by the rules of Go's `net` package, which has read them for ten years.
//!
//! * Host bits are kept: `10.1.0.5/16` is an address in a network, not the network.
//! * An IPv4 address written as IPv6 (`::ffff:10.1.0.5`) is an IPv4 address.
//! * An octet with a leading zero is refused: half of the world reads `010` as ten, the other half as eight.
//! * There are no zones (`fe80::1%eth0`).
//!
//! The functions with a deserializer are for `#[serde(deserialize_with = "…")]`, in the types of plugins too.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Deserializer, de};

/// How many bits of an IPv6 address come before the IPv4 address that is mapped into it (RFC 4291, 2.5.5.2).
const MAPPED: u8 = 96;

/// Reads an address with the length of its prefix.
///
/// The prefix of an IPv4 address written as IPv6 counts from the left of the IPv6 address.
///
/// ```
/// use cni_spec::address::parse_cidr;
///
/// assert_eq!(parse_cidr("10.1.0.5/16").unwrap().to_string(), "10.1.0.5/16");
/// assert_eq!(parse_cidr("::ffff:10.1.0.5/112").unwrap().to_string(), "10.1.0.5/16");
/// assert!(parse_cidr("10.1.0.05/16").is_none());
/// ```
#[doc(alias = "ParseCIDR")]
pub fn parse_cidr(text: &str) -> Option<IpNet> {
    // std reads the address, because ipnet takes leading zeros
    let (address, prefix) = text.split_once('/')?;
    if !prefix.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let prefix: u8 = prefix.parse().ok()?;
    match address.parse().ok()? {
        IpAddr::V4(v4) => Ipv4Net::new(v4, prefix).map(IpNet::V4).ok(),
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) if prefix <= Ipv6Addr::BITS as u8 => {
                Ipv4Net::new(v4, prefix.saturating_sub(MAPPED)).map(IpNet::V4).ok()
            }
            _ => Ipv6Net::new(v6, prefix).map(IpNet::V6).ok(),
        },
    }
}

/// Reads an address without a prefix.
#[doc(alias = "ParseIP")]
pub fn parse_ip(text: &str) -> Option<IpAddr> {
    text.parse().ok().map(|ip: IpAddr| ip.to_canonical())
}

/// An address with its prefix, in the reference's words where it is none.
///
/// # Errors
/// `invalid CIDR address: x`, also for no text at all.
pub fn cidr<'de, D: Deserializer<'de>>(deserializer: D) -> Result<IpNet, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_cidr(&text).ok_or_else(|| de::Error::custom(format_args!("invalid CIDR address: {text}")))
}

/// An address, where empty text and `null` mean none; for fields with `#[serde(default)]`.
///
/// # Errors
/// `invalid IP address: x`.
pub fn optional_ip<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<IpAddr>, D::Error> {
    match Option::<String>::deserialize(deserializer)?.as_deref() {
        None | Some("") => Ok(None),
        Some(text) => match parse_ip(text) {
            None => Err(de::Error::custom(format_args!("invalid IP address: {text}"))),
            ip => Ok(ip),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<String> {
        parse_cidr(text).map(|net| net.to_string())
    }

    #[test]
    fn host_bits_and_the_spelling_of_go_stay() {
        for text in ["10.1.0.5/16", "0.0.0.0/0", "1.2.3.4/32", "::/0", "2001:db8::5/64", "::102:304/128"] {
            assert_eq!(read(text).as_deref(), Some(text));
        }
        assert_eq!(read("2001:DB8:0:0:1::1/64").as_deref(), Some("2001:db8::1:0:0:1/64"));
        assert_eq!(read("::1.2.3.4/08").as_deref(), Some("::102:304/8"));
    }

    #[test]
    fn mapped_addresses_are_ipv4() {
        assert_eq!(read("::ffff:10.0.0.1/128").as_deref(), Some("10.0.0.1/32"));
        assert_eq!(read("::FFFF:a00:1/104").as_deref(), Some("10.0.0.1/8"));
        assert_eq!(read("::ffff:10.0.0.1/64").as_deref(), Some("10.0.0.1/0"));
        assert_eq!(read("::ffff:10.0.0.1/129"), None);
        assert_eq!(parse_ip("::ffff:10.0.0.1"), parse_ip("10.0.0.1"));
    }

    #[test]
    fn what_go_refuses_is_refused() {
        let bad_addresses = ["", "010.0.0.1", "10.0.0", "10.0.0.256", "fe80::1%eth0", " 10.0.0.1", "::1::"];
        for bad in bad_addresses {
            assert_eq!(parse_ip(bad), None, "{bad}");
            assert_eq!(read(&format!("{bad}/8")), None, "{bad}");
        }
        // a double colon that stands for nothing
        assert_eq!(parse_ip("::1:2:3:4:5:6:7:8"), None);
        for bad in ["10.0.0.1", "10.0.0.1/", "10.0.0.1/33", "10.0.0.1/+8", "10.0.0.1/8 ", "::1/129", "::/256"]
        {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
