//! Which VLANs a port of the bridge is in.
//!
//! Whether the bridge heeds VLANs at all is decided when it is made, see [`Bridge`](super::Bridge).

use std::ops::RangeInclusive;

use cni_sdk::linux::bridge::Vlans;
use cni_sdk::linux::{Link, LinkRef};
use cni_sdk::{Error, Netns, Result};
use serde::Deserialize;

/// All that there are; 0 and 4095 are reserved (IEEE 802.1Q).
const ALL: RangeInclusive<u16> = 1..=4094;

/// The VLAN of what comes without a tag to a trunk that has no `vlan`.
const DEFAULT: u16 = 1;

/// An element of `vlanTrunk`: a range, a single VLAN, or both.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Trunk {
    #[serde(rename = "minID")]
    min_id: Option<i64>,
    #[serde(rename = "maxID")]
    max_id: Option<i64>,
    id: Option<i64>,
}

/// The VLANs that a port is to be in.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PortVlans {
    /// That of what comes without a tag.
    native: Option<u16>,
    /// Those with a tag: apart from each other, in order, without the native one.
    tagged: Vec<RangeInclusive<u16>>,
    /// It stays in those that the bridge puts it in.
    preserve: bool,
}

impl PortVlans {
    /// Judges `vlan` and `vlanTrunk`.
    pub(super) fn new(vlan: i64, trunk: Option<&[Trunk]>, preserve: bool) -> Result<PortVlans> {
        let native = match u16::try_from(vlan) {
            Ok(0) => None,
            Ok(id) if ALL.contains(&id) => Some(id),
            _ => {
                let text = format!("invalid VLAN ID {vlan} (must be between 0 and 4094)");
                return Err(Error::failed(text));
            }
        };
        let mut wanted = Vec::new();
        for element in trunk.unwrap_or_default() {
            wanted.extend(element.range()?);
            wanted.extend(element.single()?);
        }
        let native = native.or((!wanted.is_empty()).then_some(DEFAULT));
        Ok(PortVlans { native, tagged: without(native, merged(wanted)), preserve })
    }

    /// The port is in these, and in no others unless they are preserved. None at all are left to the bridge.
    ///
    /// Two requests, one of which takes it out of those that the bridge put it in.
    pub(super) fn set(&self, host: &Netns, port: &Link) -> Result<()> {
        if self.native.is_none() {
            return Ok(());
        }
        let failed = |e: cni_sdk::linux::Error| {
            Error::failed(format!("failed to setup vlan tag on interface {:?}: {e}", port.name))
        };
        if !self.preserve {
            host.del_vlans(port, ALL).map_err(failed)?;
        }
        host.add_vlans(port, &self.vlans()).map_err(failed)
    }

    /// Checks that the port is in these, and in no others unless they are preserved.
    pub(super) fn check(&self, host: &Netns, port: &Link) -> Result<()> {
        if self.native.is_none() {
            return Ok(());
        }
        let found = host.vlans(port)?;
        let covers = |wanted: &Vlans, found: &Vlans| {
            (wanted.pvid, wanted.untagged) == (found.pvid, found.untagged)
                && found.first <= wanted.first
                && wanted.last <= found.last
        };
        let wanted = self.vlans();
        let missing = wanted.iter().find(|wanted| !found.iter().any(|found| covers(wanted, found)));
        let others = found.iter().find(|found| !wanted.iter().any(|wanted| covers(found, wanted)));
        let (vlans, is) = match (missing, others.filter(|_| !self.preserve)) {
            (Some(vlans), _) => (vlans, "is not in"),
            (None, Some(vlans)) => (vlans, "is in"),
            (None, None) => return Ok(()),
        };
        let ids = if vlans.first == vlans.last {
            format!("VLAN {}", vlans.first)
        } else {
            format!("VLANs {} to {}", vlans.first, vlans.last)
        };
        let how = if vlans.pvid { "as the native one" } else { "with a tag" };
        Err(Error::failed(format!("port {} {is} {ids} {how}", port.name)))
    }

    fn vlans(&self) -> Vec<Vlans> {
        let tagged = self.tagged.iter().cloned().map(Vlans::tagged);
        self.native.map(Vlans::access).into_iter().chain(tagged).collect()
    }
}

/// The port is in this VLAN, and in no other unless they are preserved: made so where it is not, without a moment in none.
pub(super) fn ensure_access<'a>(
    host: &Netns,
    port: impl Into<LinkRef<'a>>,
    vlan: u16,
    preserve: bool,
) -> Result<()> {
    let port = port.into();
    let wanted = Vlans::access(vlan);
    let is_so = |found: &[Vlans]| found == [wanted] || preserve && found.contains(&wanted);
    // Before Linux 5.6 they cannot be asked for.
    if host.vlans(port).is_ok_and(|found| is_so(&found)) {
        return Ok(());
    }
    host.add_vlans(port, &[wanted])?;
    let others = [*ALL.start()..=vlan - 1, vlan + 1..=*ALL.end()];
    for range in others.into_iter().filter(|range| !preserve && !range.is_empty()) {
        host.del_vlans(port, range)?;
    }
    Ok(())
}

impl Trunk {
    fn range(&self) -> Result<Option<RangeInclusive<u16>>> {
        let missing = |which: &str| {
            let text = "minID and maxID should be configured simultaneously";
            Err(Error::failed(format!("{text}, {which} is missing")))
        };
        match (self.min_id, self.max_id) {
            (None, None) => Ok(None),
            (None, Some(_)) => missing("minID"),
            (Some(_), None) => missing("maxID"),
            (Some(min), Some(max)) => {
                let (min, max) = (id(min, "minID")?, id(max, "maxID")?);
                if min > max {
                    return Err(Error::failed("minID is greater than maxID in trunk parameter"));
                }
                Ok(Some(min..=max))
            }
        }
    }

    fn single(&self) -> Result<Option<RangeInclusive<u16>>> {
        self.id.map(|number| id(number, "id").map(|id| id..=id)).transpose()
    }
}

fn id(number: i64, which: &str) -> Result<u16> {
    let valid = u16::try_from(number).ok().filter(|id| ALL.contains(id));
    valid.ok_or_else(|| Error::failed(format!("incorrect trunk {which} parameter")))
}

/// The same VLANs in order, neighbours together.
fn merged(mut ranges: Vec<RangeInclusive<u16>>) -> Vec<RangeInclusive<u16>> {
    ranges.sort_by_key(|range| *range.start());
    let mut merged: Vec<RangeInclusive<u16>> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if *range.start() <= last.end() + 1 => {
                *last = *last.start()..=*last.end().max(range.end());
            }
            _ => merged.push(range),
        }
    }
    merged
}

/// The same VLANs but for this one, which is the native one and would lose its place to a tag.
fn without(native: Option<u16>, ranges: Vec<RangeInclusive<u16>>) -> Vec<RangeInclusive<u16>> {
    let Some(native) = native else { return ranges };
    let split = ranges.into_iter().flat_map(|range| {
        if range.contains(&native) {
            [*range.start()..=native - 1, native + 1..=*range.end()]
        } else {
            [range, RangeInclusive::new(1, 0)]
        }
    });
    split.filter(|range| !range.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vlans(vlan: i64, trunk: &str) -> std::result::Result<PortVlans, String> {
        let trunk: Vec<Trunk> = cni_sdk::spec::json::decode(trunk.as_bytes()).unwrap();
        PortVlans::new(vlan, Some(&trunk), false).map_err(|e| e.msg)
    }

    #[test]
    fn ranges_and_single_ones_come_together() {
        let all =
            r#"[{"minID": 30, "maxID": 32, "id": 33}, {"id": 7}, {"minID": 5, "maxID": 9}, {"id": 100}]"#;
        let found = vlans(0, all).unwrap();
        assert_eq!((found.native, found.tagged), (Some(1), vec![5..=9, 30..=33, 100..=100]));
        assert_eq!(vlans(0, "[]").unwrap().native, None);
        assert_eq!(vlans(0, "[{}]").unwrap().native, None);
        assert_eq!(vlans(4094, "[]").unwrap().native, Some(4094));
    }

    #[test]
    fn the_native_one_has_no_tag() {
        let within = vlans(7, r#"[{"minID": 1, "maxID": 4094}]"#).unwrap();
        assert_eq!((within.native, within.tagged), (Some(7), vec![1..=6, 8..=4094]));
        assert_eq!(vlans(7, r#"[{"id": 7}]"#).unwrap().tagged, []);
        assert_eq!(vlans(1, r#"[{"minID": 1, "maxID": 2}]"#).unwrap().tagged, [2..=2]);
        assert_eq!(vlans(2, r#"[{"minID": 1, "maxID": 2}]"#).unwrap().tagged, [1..=1]);
    }

    #[test]
    fn what_is_wrong_is_said_in_the_words_of_the_reference() {
        for vlan in [-1, 4095, 65536, i64::MAX] {
            let error = vlans(vlan, "[]").unwrap_err();
            assert_eq!(error, format!("invalid VLAN ID {vlan} (must be between 0 and 4094)"));
        }
        for (trunk, text) in [
            (r#"[{"minID": 0, "maxID": 5}]"#, "incorrect trunk minID parameter"),
            (r#"[{"minID": 5, "maxID": 4095}]"#, "incorrect trunk maxID parameter"),
            (r#"[{"minID": 5, "maxID": 4}]"#, "minID is greater than maxID in trunk parameter"),
            (r#"[{"maxID": 4}]"#, "minID and maxID should be configured simultaneously, minID is missing"),
            (r#"[{"minID": 4}]"#, "minID and maxID should be configured simultaneously, maxID is missing"),
            (r#"[{"id": 0}]"#, "incorrect trunk id parameter"),
            (r#"[{"id": 1}, {"id": 4095}]"#, "incorrect trunk id parameter"),
        ] {
            assert_eq!(vlans(0, trunk).unwrap_err(), text);
        }
    }
}
