//! Names, keys and tags that are functions of (network, container id, interface name), so that DEL and GC find what ADD made
//! without any record of it.
//!
//! Nothing here looks whether the things exist. Everything is SHA-512, of which the names of the Go plugins are made as well;
//! those are in [`mod@reference`], to recognise what they left behind.

use std::fmt::Write as _;

use cni_spec::{AttachmentId, NetworkName};

/// What `nft` lets a comment have, in octets.
const LONGEST_COMMENT: usize = 128;

/// The sign bit of a link group, which groups of networks do not have.
const DEAD: u32 = 1 << 31;

/// The host's end of a veth pair: `veth` and eleven hexadecimal digits, fifteen characters, all that a name may have.
///
/// Of a million attachments on one host, two have the same name with a probability of three in a hundred.
pub fn host_end(net: &NetworkName, id: &AttachmentId) -> String {
    // None of the three can have a slash in it.
    let digest = hex(&format!("{net}/{}/{}", id.container_id, id.ifname));
    format!("veth{}", &digest[..11])
}

/// Whether a link's name is one that [`host_end`] could have made.
pub fn is_host_end(name: &str) -> bool {
    let is_digit = |digit: u8| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit);
    name.strip_prefix("veth").is_some_and(|digits| digits.len() == 11 && digits.bytes().all(is_digit))
}

/// The port of a bridge behind which its interface for a VLAN is. It is no attachment's.
pub fn vlan_port(bridge: &str, vlan: u16) -> String {
    // The name of a link can have no slash in it.
    format!("veth{}", &hex(&format!("{bridge}/{vlan}"))[..11])
}

/// The group of all links that are a network's: how GC knows whose a link is. Never 0, which is everybody's.
pub fn group(net: &NetworkName) -> u32 {
    let digest = hmac_sha512::Hash::hash(net.as_str());
    let number = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
    (number & !DEAD).max(1)
}

/// The group of those links of a network that are to go.
pub fn dead_group(net: &NetworkName) -> u32 {
    group(net) | DEAD
}

/// The comment of what belongs to an attachment in nf_tables, as the Go plugins have it: [`owner_key`], then in words.
pub fn owner(net: &NetworkName, id: &AttachmentId) -> String {
    let key = owner_key(net, id);
    let mut comment = format!("{key}, net: {net}, if: {}, id: {}", id.ifname, id.container_id);
    comment.retain(|c| c != '"');
    while comment.len() > LONGEST_COMMENT {
        comment.pop();
    }
    comment
}

/// What the [comments](owner) of an attachment begin with, and no others do.
pub fn owner_key(net: &NetworkName, id: &AttachmentId) -> String {
    format!("{}{}", network_key(net), &hex(&format!("{}:{}", id.ifname, id.container_id))[..16])
}

/// What the [comments](owner) of all attachments of a network begin with, and no others do.
pub fn network_key(net: &NetworkName) -> String {
    format!("{}-", &hex(net.as_str())[..16])
}

/// Names that the Go plugins give, where ours are others.
pub mod reference {
    use super::{AttachmentId, NetworkName, hex};

    /// The chain of an attachment's masquerading, in iptables: of all of a container's interfaces.
    #[doc(alias = "MustFormatChainNameWithPrefix")]
    pub fn masquerade_chain(net: &NetworkName, id: &AttachmentId) -> String {
        format!("CNI-{}", &hex(&format!("{net}{}", id.container_id))[..24])
    }

    /// The comment of the rules in and to that chain.
    #[doc(alias = "FormatComment")]
    pub fn masquerade_comment(net: &NetworkName, id: &AttachmentId) -> String {
        format!("name: \"{net}\" id: \"{}\"", id.container_id)
    }

    /// The chain of an attachment's check of hardware addresses, in nf_tables; the second is this with `-mac`.
    pub fn spoof_check_chain(id: &AttachmentId) -> String {
        format!("cni-br-iface-{}-{}", id.container_id, id.ifname)
    }

    /// The comment of the rules in and to those chains.
    pub fn spoof_check_comment(id: &AttachmentId) -> String {
        format!("macspoofchk-{}-{}", id.container_id, id.ifname)
    }
}

/// The digest in hexadecimal digits.
fn hex(text: &str) -> String {
    let digest = hmac_sha512::Hash::hash(text);
    digest.iter().fold(String::with_capacity(128), |mut digits, octet| {
        // Writing to a string cannot fail.
        let _ = write!(digits, "{octet:02x}");
        digits
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(name: &str) -> NetworkName {
        NetworkName::parse(name).unwrap()
    }

    fn id(container_id: &str, ifname: &str) -> AttachmentId {
        AttachmentId::parse(container_id, ifname).unwrap()
    }

    /// These names are on people's hosts: they must never change.
    #[test]
    fn names_stay_what_they_are() {
        let (net, id) = (net("dbnet"), id("cnitool-77383ca0", "eth0"));
        // printf dbnet/cnitool-77383ca0/eth0 | sha512sum
        assert_eq!(host_end(&net, &id), "veth5ba12d60f91");
        // printf dbnet | sha512sum, and printf eth0:cnitool-77383ca0 | sha512sum
        assert_eq!(group(&net), 0x77fa_157b);
        assert_eq!(dead_group(&net), group(&net) + 0x8000_0000);
        assert_eq!(
            owner(&net, &id),
            "77fa157b4f32b23b-f6ebe73ec569d900, net: dbnet, if: eth0, id: cnitool-77383ca0"
        );
    }

    /// The vector of the Go plugins' own test of chain names (`pkg/utils/utils_test.go`).
    #[test]
    fn chains_are_those_of_the_reference() {
        let chain = reference::masquerade_chain(&net("test"), &id("1234", "eth0"));
        assert_eq!(chain, "CNI-2bbe0c48b91a7d1b8a6753a8");
        let comment = reference::masquerade_comment(&net("test"), &id("1234", "eth0"));
        assert_eq!(comment, r#"name: "test" id: "1234""#);
        assert_eq!(reference::spoof_check_chain(&id("1234", "eth0")), "cni-br-iface-1234-eth0");
        assert_eq!(reference::spoof_check_comment(&id("1234", "eth0")), "macspoofchk-1234-eth0");
    }

    #[test]
    fn each_of_the_three_counts() {
        let names: std::collections::BTreeSet<String> = [
            ("a", "b", "c"),
            ("a", "b", "d"),
            ("a", "d", "c"),
            ("d", "b", "c"),
            ("ab", "c", "c"),
            ("a", "bc", "c"),
        ]
        .iter()
        .map(|(n, c, i)| host_end(&net(n), &id(c, i)))
        .collect();
        assert_eq!(names.len(), 6);
        assert!(names.iter().all(|name| name.len() == 15 && is_host_end(name)), "{names:?}");
        for foreign in
            ["veth1a2b3c4d", "veth", "vethABCDEF01234", "eth0", "veth0123456789ab", "veth012345678é"]
        {
            assert!(!is_host_end(foreign), "{foreign}");
        }
    }

    #[test]
    fn groups_are_of_networks_and_none_is_the_default() {
        let groups: Vec<u32> = ["a", "b", "podman"].map(|name| group(&net(name))).into();
        assert!(groups.iter().all(|group| *group > 0 && *group < DEAD), "{groups:?}");
        assert!(groups[0] != groups[1] && groups[1] != groups[2]);
    }

    #[test]
    fn comments_are_cut_where_nft_would_refuse_them() {
        let long = owner(&net("n"), &id(&"c".repeat(300), "é\"é"));
        assert_eq!(long.len(), LONGEST_COMMENT);
        assert!(long.contains(", if: éé, id: ccc"), "{long}");
        let wide = id("c", "ééééééé");
        assert!(owner(&net(&"n".repeat(75)), &wide).len() <= LONGEST_COMMENT);
        assert!(owner(&net("n"), &wide).starts_with(&owner_key(&net("n"), &wide)));
        assert!(owner_key(&net("n"), &wide).starts_with(&network_key(&net("n"))));
    }
}
