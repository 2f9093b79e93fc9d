//! Queueing disciplines, their classes, and filters (`tc(8)`).
//!
//! Of filters only which there are: what they do comes with counters and the times of their use.

use super::dump;
use crate::error::Result;
use crate::netlink::rtm;
use crate::netlink::wire::{attributes, string, u32_at};
use crate::netns::Netns;

/// `struct tcmsg` and `TCA_…`, `include/uapi/linux/rtnetlink.h`.
const TCMSG: usize = 20;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
/// The two places of a `clsact` (`TC_H_MIN_INGRESS`, `TC_H_MIN_EGRESS`, `include/uapi/linux/pkt_sched.h`).
const CLSACT: [u32; 2] = [0xffff_fff2, 0xffff_fff3];

/// Something that is attached to a link.
struct Attached {
    link: u32,
    handle: u32,
    parent: u32,
    /// Of a filter: priority and protocol.
    info: u32,
    kind: String,
    options: String,
}

impl Attached {
    fn read(body: &[u8]) -> Option<Attached> {
        let (link, handle) = (u32_at(body, 4)?, u32_at(body, 8)?);
        let (parent, info) = (u32_at(body, 12)?, u32_at(body, 16)?);
        let mut attached =
            Attached { link, handle, parent, info, kind: String::new(), options: String::new() };
        for (kind, value) in attributes(body.get(TCMSG..)?) {
            match kind {
                TCA_KIND => attached.kind = string(value),
                TCA_OPTIONS => attached.options = super::hex(value),
                _ => {}
            }
        }
        Some(attached)
    }
}

pub(super) fn lines(netns: &Netns, name_of: &dyn Fn(u32) -> String) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for qdisc in dump(netns, rtm::GETQDISC, "list qdiscs", &[0; TCMSG], Attached::read)? {
        let link = name_of(qdisc.link);
        let Attached { kind, handle, parent, options, .. } = &qdisc;
        lines.push(format!("qdisc of {link}: {kind} {handle:x} parent {parent:x} options [{options}]"));
        if *handle == 0 {
            // The kernel's own, which can have neither classes nor filters.
            continue;
        }
        for class in attached(netns, rtm::GETTCLASS, "list classes", qdisc.link, *handle)? {
            // The kernel lists those of all qdiscs of the link.
            if class.handle >> 16 == handle >> 16 {
                let Attached { kind, handle, parent, options, .. } = class;
                lines.push(format!(
                    "class of {link}: {kind} {handle:x} parent {parent:x} options [{options}]"
                ));
            }
        }
        let places = if kind == "clsact" { CLSACT.to_vec() } else { vec![*handle] };
        for place in places {
            for filter in attached(netns, rtm::GETTFILTER, "list filters", qdisc.link, place)? {
                let Attached { kind, handle, info, .. } = filter;
                // `TC_H_MAKE`: the protocol in network byte order, above it the priority.
                let [low, high, ..] = info.to_le_bytes();
                let (priority, protocol) = (info >> 16, u16::from_be(u16::from_le_bytes([low, high])));
                lines.push(format!(
                    "filter of {link}: {kind} {handle:x} parent {place:x} priority {priority} protocol {protocol:#06x}"
                ));
            }
        }
    }
    Ok(lines)
}

fn attached(netns: &Netns, kind: u16, doing: &'static str, link: u32, parent: u32) -> Result<Vec<Attached>> {
    let mut header = [0; TCMSG];
    header[4..8].copy_from_slice(&link.to_ne_bytes());
    header[12..16].copy_from_slice(&parent.to_ne_bytes());
    dump(netns, kind, doing, &header, Attached::read)
}

pub(super) fn read_all(body: &[u8]) {
    let _ = Attached::read(body);
}
