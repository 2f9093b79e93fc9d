//! Ranges of addresses as the configuration has them, and the order in which their addresses are tried.
//!
//! Which of them are taken is not known here: that is the store's.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use cni_sdk::spec::address;
use cni_sdk::{Error, Result, Version};
use ipnet::IpNet;

/// A range as it is written. What is empty is not given.
///
/// It is text here, so that DEL can decode what ADD would refuse.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RangeKeys {
    /// The subnet, without host bits.
    pub subnet: String,
    /// The first address to hand out; the one after the network's where it is not given.
    pub range_start: String,
    /// The last address to hand out; the subnet's last where it is not given, less IPv4's broadcast address.
    pub range_end: String,
    /// The gateway, which is not handed out; the address after the network's where it is not given.
    pub gateway: String,
}

/// Addresses of one subnet, from `first` to `last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    subnet: IpNet,
    first: IpAddr,
    last: IpAddr,
    gateway: IpAddr,
}

/// The ranges that one address is taken from: at least one, of one family, none overlapping another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RangeSet(Vec<Range>);

/// Addresses to try, in their order: from `first` to `last`, but for the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) range: Range,
    pub(super) first: IpAddr,
    pub(super) last: IpAddr,
}

/// A set of ranges as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) place: Place,
    pub(super) ranges: Vec<RangeKeys>,
}

/// Where in the configuration a set is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Its only range is the section `ipam` itself.
    Ipam,
    /// It is the nth of the list of this path of keys.
    List(&'static str, usize),
}

/// What is wrong, and the path of the key that says it.
struct Invalid {
    why: String,
    key: String,
}

/// Reads the sets that every attachment gets an address of.
///
/// # Errors
/// In the reference's words, for what it refuses, and for a gateway that could not be reached. The key is in the details.
pub(super) fn read(sets: &[Written], version: Version) -> Result<Vec<RangeSet>> {
    if sets.is_empty() {
        return Err(Error::failed("no IP ranges specified").with_details("ipam.ranges"));
    }
    let mut read = Vec::with_capacity(sets.len());
    for (n, set) in sets.iter().enumerate() {
        let named =
            |e: Invalid| Error::failed(format!("invalid range set {n}: {}", e.why)).with_details(e.key);
        read.push(RangeSet::read(set).map_err(named)?);
    }
    let ipv4 = read.iter().filter(|set| set.is_ipv4()).count();
    if version < Version::V0_3_0 && (ipv4 > 1 || read.len() - ipv4 > 1) {
        let text = format!("CNI version {version} does not support more than 1 address per family");
        return Err(Error::failed(text));
    }
    for (i, set) in read.iter().enumerate() {
        if let Some(j) = (i + 1..read.len()).find(|j| set.overlaps(&read[*j])) {
            let text = format!("range set {i} overlaps with {j}");
            return Err(Error::failed(text).with_details(format!("{} and {}", sets[i].place, sets[j].place)));
        }
    }
    Ok(read)
}

impl Place {
    /// The path of a range of the set.
    fn range(self, n: usize) -> String {
        match self {
            Place::Ipam => self.to_string(),
            Place::List(..) => format!("{self}[{n}]"),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Ipam => f.write_str("ipam"),
            Place::List(list, n) => write!(f, "{list}[{n}]"),
        }
    }
}

impl RangeSet {
    fn read(written: &Written) -> std::result::Result<RangeSet, Invalid> {
        let place = written.place;
        let mut ranges: Vec<Range> = Vec::with_capacity(written.ranges.len());
        for (n, keys) in written.ranges.iter().enumerate() {
            let range = Range::read(keys)
                .map_err(|(key, why)| Invalid { why, key: format!("{}.{key}", place.range(n)) })?;
            if ranges.first().is_some_and(|first| first.is_ipv4() != range.is_ipv4()) {
                return Err(Invalid { why: "mixed address families".into(), key: place.to_string() });
            }
            ranges.push(range);
        }
        for (i, range) in ranges.iter().enumerate() {
            if let Some(j) = (i + 1..ranges.len()).find(|j| range.overlaps(&ranges[*j])) {
                let why = format!("subnets {range} and {} overlap", ranges[j]);
                return Err(Invalid { why, key: format!("{} and {}", place.range(i), place.range(j)) });
            }
        }
        if ranges.is_empty() {
            return Err(Invalid { why: "empty range set".into(), key: place.to_string() });
        }
        Ok(RangeSet(ranges))
    }

    /// The range that an address is of.
    pub(super) fn range_of(&self, ip: IpAddr) -> Option<&Range> {
        self.0.iter().find(|range| range.contains(ip))
    }

    /// Whether there is anything but gateways.
    pub(super) fn has_addresses(&self) -> bool {
        self.0.iter().any(|range| range.first != range.last || range.first != range.gateway)
    }

    /// The order in which addresses are tried: every one once, beginning after the one that was handed out last.
    pub(super) fn stretches(&self, last: Option<IpAddr>) -> Vec<Stretch> {
        let whole = |range: &Range| Stretch { range: *range, first: range.first, last: range.last };
        let found = last.and_then(|ip| Some((self.0.iter().position(|range| range.contains(ip))?, ip)));
        let Some((at, ip)) = found else { return self.0.iter().map(whole).collect() };
        let (before, from) = self.0.split_at(at);
        let (range, after) = (&from[0], &from[1..]);
        let rest = (ip != range.last).then(|| Stretch { first: next(ip), ..whole(range) });
        let start = Stretch { last: ip, ..whole(range) };
        let others = after.iter().chain(before).map(whole);
        rest.into_iter().chain(others).chain([start]).collect()
    }

    fn is_ipv4(&self) -> bool {
        self.0.iter().all(Range::is_ipv4)
    }

    fn overlaps(&self, other: &RangeSet) -> bool {
        self.0.iter().any(|a| other.0.iter().any(|b| a.overlaps(b)))
    }
}

impl Range {
    /// Reads a range, or says which key is wrong, and how.
    fn read(keys: &RangeKeys) -> std::result::Result<Range, (&'static str, String)> {
        let subnet = subnet(&keys.subnet).map_err(|why| ("subnet", why))?;
        let first = optional("rangeStart", &keys.range_start)?;
        let last = optional("rangeEnd", &keys.range_end)?;
        let gateway = match optional("gateway", &keys.gateway)? {
            Some(gateway) if subnet.contains(&gateway) || is_link_local_of(gateway, &subnet) => gateway,
            Some(gateway) => return Err(("gateway", format!("gateway {gateway} not in network {subnet}"))),
            None => next(subnet.network()),
        };
        // The reference judges a start that is given by the end, and the end by the start, given or not.
        let after = |first: IpAddr| last.is_some_and(|last| same_family(first, last) && first > last);
        let first = match first {
            Some(first) if !subnet.contains(&first) || after(first) => {
                return Err(("rangeStart", format!("RangeStart {first} not in network {subnet}")));
            }
            Some(first) => first,
            None => next(subnet.network()),
        };
        let last = last.unwrap_or_else(|| last_of(&subnet));
        if !subnet.contains(&last) || last < first {
            return Err(("rangeEnd", format!("RangeEnd {last} not in network {subnet}")));
        }
        Ok(Range { subnet, first, last, gateway })
    }

    /// The gateway of the subnet.
    pub(super) fn gateway(&self) -> IpAddr {
        self.gateway
    }

    /// An address of the range with the prefix of its subnet.
    ///
    /// # Panics
    /// If the address is of the other family.
    pub(super) fn with_prefix(&self, ip: IpAddr) -> IpNet {
        IpNet::new(ip, self.subnet.prefix_len()).expect("the address is of the subnet's family")
    }

    fn contains(&self, ip: IpAddr) -> bool {
        same_family(self.first, ip) && self.first <= ip && ip <= self.last
    }

    fn is_ipv4(&self) -> bool {
        self.first.is_ipv4()
    }

    fn overlaps(&self, other: &Range) -> bool {
        self.contains(other.first) || other.contains(self.first)
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl fmt::Display for RangeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, range) in self.0.iter().enumerate() {
            write!(f, "{}{range}", if n == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

/// An address as a number of its family.
pub(super) fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(v4) => u32::from(v4).into(),
        IpAddr::V6(v6) => v6.into(),
    }
}

/// The address of this number in the family of `like`; numbers beyond it wrap.
pub(super) fn address(like: IpAddr, number: u128) -> IpAddr {
    match like {
        IpAddr::V4(_) => Ipv4Addr::from(number as u32).into(),
        IpAddr::V6(_) => Ipv6Addr::from(number).into(),
    }
}

/// The next address; the last of all has none and is followed by the first.
pub(super) fn next(ip: IpAddr) -> IpAddr {
    address(ip, number(ip).wrapping_add(1))
}

fn subnet(text: &str) -> std::result::Result<IpNet, String> {
    if text.is_empty() {
        return Err("a range has no subnet".into());
    }
    let subnet = address::parse_cidr(text).ok_or_else(|| format!("invalid CIDR address: {text}"))?;
    if subnet.prefix_len() + 2 > subnet.max_prefix_len() {
        return Err(format!("Network {subnet} too small to allocate from"));
    }
    if subnet.addr() != subnet.network() {
        let (length, network) = (subnet.prefix_len(), subnet.network());
        return Err(format!(
            "Network has host bits set. For a subnet mask of length {length} the network address is {network}"
        ));
    }
    Ok(subnet)
}

fn optional(key: &'static str, text: &str) -> std::result::Result<Option<IpAddr>, (&'static str, String)> {
    match text {
        "" => Ok(None),
        text => address::parse_ip(text).map(Some).ok_or_else(|| (key, format!("invalid IP address: {text}"))),
    }
}

fn same_family(a: IpAddr, b: IpAddr) -> bool {
    a.is_ipv4() == b.is_ipv4()
}

/// The last address to hand out: not IPv4's broadcast address.
fn last_of(subnet: &IpNet) -> IpAddr {
    match subnet {
        IpNet::V4(v4) => address(v4.broadcast().into(), number(v4.broadcast().into()) - 1),
        IpNet::V6(v6) => v6.broadcast().into(),
    }
}

/// A gateway that is reached on the link itself, whatever the subnet.
fn is_link_local_of(gateway: IpAddr, subnet: &IpNet) -> bool {
    match (gateway, subnet) {
        (IpAddr::V4(v4), IpNet::V4(_)) => v4.is_link_local(),
        (IpAddr::V6(v6), IpNet::V6(_)) => v6.is_unicast_link_local(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys(subnet: &str, first: &str, last: &str, gateway: &str) -> RangeKeys {
        let [subnet, range_start, range_end, gateway] = [subnet, first, last, gateway].map(String::from);
        RangeKeys { subnet, range_start, range_end, gateway }
    }

    fn subnet(subnet: &str) -> RangeKeys {
        keys(subnet, "", "", "")
    }

    fn read(sets: &[Vec<RangeKeys>], version: Version) -> Result<Vec<RangeSet>> {
        let numbered = sets.iter().cloned().enumerate();
        let written: Vec<_> =
            numbered.map(|(n, ranges)| Written { place: Place::List("ipam.ranges", n), ranges }).collect();
        super::read(&written, version)
    }

    fn set(keys: &[RangeKeys]) -> RangeSet {
        read(&[keys.to_vec()], Version::CURRENT).unwrap().remove(0)
    }

    fn refused(sets: &[&[RangeKeys]]) -> Error {
        let sets: Vec<_> = sets.iter().map(|set| set.to_vec()).collect();
        read(&sets, Version::CURRENT).unwrap_err()
    }

    fn error(sets: &[&[RangeKeys]]) -> String {
        refused(sets).msg
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_not_given_follows_from_the_subnet() {
        let v4 = set(&[subnet("10.1.0.0/24")]);
        assert_eq!(v4.to_string(), "10.1.0.1-10.1.0.254");
        assert_eq!(v4.range_of(ip("10.1.0.7")).unwrap().gateway(), ip("10.1.0.1"));
        let v6 = set(&[subnet("2001:db8::/64")]);
        assert_eq!(v6.to_string(), "2001:db8::1-2001:db8::ffff:ffff:ffff:ffff");
        assert_eq!(v6.range_of(ip("2001:db8::7")).unwrap().with_prefix(ip("2001:db8::7")).prefix_len(), 64);
        assert_eq!(set(&[subnet("0.0.0.0/0")]).to_string(), "0.0.0.1-255.255.255.254");
        let all = set(&[subnet("::/0")]);
        assert!(all.range_of(ip("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")).is_some());
    }

    #[test]
    fn what_is_given_counts() {
        let set = set(&[
            keys("10.1.0.0/24", "10.1.0.10", "10.1.0.10", "10.1.0.9"),
            keys("10.1.0.0/24", "", "10.1.0.9", "169.254.1.1"),
            keys("10.1.0.0/24", "10.1.0.20", "10.1.0.255", ""),
        ]);
        assert_eq!(set.to_string(), "10.1.0.10-10.1.0.10,10.1.0.1-10.1.0.9,10.1.0.20-10.1.0.255");
        assert_eq!(set.range_of(ip("10.1.0.10")).unwrap().gateway(), ip("10.1.0.9"));
        assert_eq!(set.range_of(ip("10.1.0.9")).unwrap().gateway(), ip("169.254.1.1"));
        assert_eq!(set.range_of(ip("10.1.0.11")), None);
        assert_eq!(set.range_of(ip("::a01:a")), None);
        read(&[vec![keys("fd00::/64", "", "", "fe80::1")]], Version::CURRENT).unwrap();
    }

    #[test]
    fn mistakes_are_named_in_the_words_of_the_reference() {
        let one = |keys: RangeKeys| error(&[&[keys]]);
        assert_eq!(error(&[]), "no IP ranges specified");
        assert_eq!(error(&[&[]]), "invalid range set 0: empty range set");
        assert_eq!(one(subnet("10.1.0/24")), "invalid range set 0: invalid CIDR address: 10.1.0/24");
        assert_eq!(
            one(subnet("10.1.0.0/31")),
            "invalid range set 0: Network 10.1.0.0/31 too small to allocate from"
        );
        assert_eq!(
            one(subnet("fd00::1/127")),
            "invalid range set 0: Network fd00::1/127 too small to allocate from"
        );
        assert_eq!(
            one(subnet("10.1.0.5/24")),
            "invalid range set 0: Network has host bits set. For a subnet mask of length 24 the network address is \
             10.1.0.0"
        );
        let range = |first, last| one(keys("10.1.0.0/24", first, last, ""));
        let not_in = |what: &str| format!("invalid range set 0: {what} not in network 10.1.0.0/24");
        assert_eq!(range("10.2.0.1", ""), not_in("RangeStart 10.2.0.1"));
        assert_eq!(range("fd00::1", ""), not_in("RangeStart fd00::1"));
        assert_eq!(range("10.1.0.9", "10.1.0.8"), not_in("RangeStart 10.1.0.9"));
        assert_eq!(range("", "10.2.0.1"), not_in("RangeEnd 10.2.0.1"));
        assert_eq!(range("", "10.1.0.0"), not_in("RangeEnd 10.1.0.0"));
        assert_eq!(range("10.1.0.x", ""), "invalid range set 0: invalid IP address: 10.1.0.x");
        assert_eq!(
            error(&[&[subnet("10.1.0.0/24"), subnet("fd00::/64")]]),
            "invalid range set 0: mixed address families"
        );
    }

    #[test]
    fn the_details_say_which_key() {
        let key = |sets: &[&[RangeKeys]]| refused(sets).details;
        let (good, other) = (subnet("10.1.0.0/24"), subnet("10.2.0.0/24"));
        let bad = |subnet, first, last, gateway| [good.clone(), keys(subnet, first, last, gateway)];
        let other = [other];
        assert_eq!(key(&[]), "ipam.ranges");
        assert_eq!(key(&[&[]]), "ipam.ranges[0]");
        assert_eq!(key(&[&other, &bad("", "", "", "")]), "ipam.ranges[1][1].subnet");
        assert_eq!(key(&[&bad("10.3.0.0/24", "x", "", "")]), "ipam.ranges[0][1].rangeStart");
        assert_eq!(key(&[&bad("10.3.0.0/24", "", "10.4.0.1", "")]), "ipam.ranges[0][1].rangeEnd");
        assert_eq!(key(&[&bad("10.3.0.0/24", "", "", "10.4.0.1")]), "ipam.ranges[0][1].gateway");
        assert_eq!(key(&[&bad("fd00::/64", "", "", "")]), "ipam.ranges[0]");
        assert_eq!(key(&[&bad("10.1.0.0/16", "", "", "")]), "ipam.ranges[0][0] and ipam.ranges[0][1]");
        assert_eq!(
            key(&[&other, std::slice::from_ref(&good), std::slice::from_ref(&good)]),
            "ipam.ranges[1] and ipam.ranges[2]"
        );
        let single = Written { place: Place::Ipam, ranges: vec![subnet("10.1.0.5/24")] };
        assert_eq!(super::read(&[single], Version::CURRENT).unwrap_err().details, "ipam.subnet");
    }

    #[test]
    fn overlaps_are_found_within_a_set_and_across() {
        let (a, b) = (subnet("10.1.0.0/24"), keys("10.1.0.0/16", "10.1.0.254", "10.1.1.9", ""));
        assert_eq!(
            error(&[&[subnet("10.2.0.0/24")], &[a.clone(), b.clone()]]),
            "invalid range set 1: subnets 10.1.0.1-10.1.0.254 and 10.1.0.254-10.1.1.9 overlap"
        );
        let v6 = subnet("fd00::/64");
        assert_eq!(error(&[&[v6], std::slice::from_ref(&a), &[b]]), "range set 1 overlaps with 2");
        let beside = keys("10.1.0.0/16", "10.1.0.255", "10.1.1.9", "");
        read(&[vec![a], vec![beside]], Version::CURRENT).unwrap();
    }

    #[test]
    fn a_gateway_that_cannot_be_reached_is_refused() {
        let gateway = |subnet, gateway| error(&[&[keys(subnet, "", "", gateway)]]);
        assert_eq!(
            gateway("10.1.0.0/24", "10.2.0.1"),
            "invalid range set 0: gateway 10.2.0.1 not in network 10.1.0.0/24"
        );
        assert_eq!(
            gateway("10.1.0.0/24", "fe80::1"),
            "invalid range set 0: gateway fe80::1 not in network 10.1.0.0/24"
        );
        assert_eq!(
            gateway("fd00::/64", "169.254.1.1"),
            "invalid range set 0: gateway 169.254.1.1 not in network fd00::/64"
        );
    }

    #[test]
    fn old_versions_have_one_address_a_family() {
        let sets = [vec![subnet("10.1.0.0/24")], vec![subnet("10.2.0.0/24")]];
        assert_eq!(
            read(&sets, Version::V0_2_0).unwrap_err().msg,
            "CNI version 0.2.0 does not support more than 1 address per family"
        );
        read(&sets, Version::V0_3_0).unwrap();
        read(&[vec![subnet("10.1.0.0/24")], vec![subnet("fd00::/64")]], Version::V0_1_0).unwrap();
    }

    proptest! {
        /// Every address once, from the one after the last: that is what round-robin means.
        #[test]
        fn stretches_go_round(parts in prop::collection::vec((0u32..3, 1u32..5), 1..5), last in 0u32..40) {
            let base = u32::from(Ipv4Addr::new(10, 1, 0, 1));
            let (mut at, mut ranges, mut all) = (base, Vec::new(), Vec::new());
            for (gap, length) in parts {
                let [first, last] = [at + gap, at + gap + length - 1].map(|n| Ipv4Addr::from(n).to_string());
                ranges.push(keys("10.1.0.0/24", &first, &last, ""));
                all.extend(at + gap..at + gap + length);
                at += gap + length;
            }
            // Not in the order of their addresses: what counts is that of the configuration.
            let middle = ranges.len() / 2;
            ranges.rotate_left(middle);
            let lengths: Vec<u32> = ranges.iter().flat_map(|r| [&r.range_start, &r.range_end])
                .map(|text| text.parse::<Ipv4Addr>().unwrap().into()).collect();
            all = lengths.chunks(2).flat_map(|ends| ends[0]..=ends[1]).collect();

            let last = base + last;
            if let Some(at) = all.iter().position(|n| *n == last) {
                all.rotate_left(at + 1);
            }
            let stretches = set(&ranges).stretches(Some(Ipv4Addr::from(last).into()));
            let tried: Vec<u32> = stretches
                .iter()
                .flat_map(|s| number(s.first) as u32..=number(s.last) as u32)
                .collect();
            prop_assert_eq!(tried, all);
        }
    }
}
