//! Bridges: what is particular to their ports, and which VLANs they carry.
//!
//! Bridges themselves are links ([`LinkSpec::bridge`]), and so are their ports ([`LinkSpec::controller`]). Not the
//! forwarding database, and no multicast groups.

use std::ops::RangeInclusive;

use netlink_packet_route::AddressFamily;
use netlink_packet_route::link::{
    AfSpecBridge, BridgeVlanInfo, BridgeVlanInfoFlags, InfoBridge, InfoBridgePort, LinkAttribute, LinkMessage,
};

use crate::error::{Errno, Error, Result};
use crate::link::change::LinkChange;
use crate::link::spec::LinkSpec;
use crate::link::{LinkRef, link_not_found};
use crate::mac::Mac;
use crate::netlink::encode::Body;
use crate::netlink::wire::{attributes, u8_at, u16_at};
use crate::netlink::{Change, Request, rtm};
use crate::netns::Netns;

/// `IFLA_BRPORT_…`, `include/uapi/linux/if_link.h`.
const IFLA_BRPORT_STATE: u16 = 1;
const IFLA_BRPORT_MODE: u16 = 4;
const IFLA_BRPORT_LEARNING: u16 = 8;
const IFLA_BRPORT_UNICAST_FLOOD: u16 = 9;
const IFLA_BRPORT_BRIDGE_ID: u16 = 14;
const IFLA_BRPORT_ISOLATED: u16 = 33;

/// `struct br_vlan_msg`, `include/uapi/linux/if_bridge.h`, and what of its attributes is read.
const BR_VLAN_MSG: usize = 8;
const BRIDGE_VLANDB_ENTRY: u16 = 1;
const BRIDGE_VLANDB_ENTRY_INFO: u16 = 1;
const BRIDGE_VLANDB_ENTRY_RANGE: u16 = 2;
/// `PF_BRIDGE`
const AF_BRIDGE: u8 = 7;

/// A link as the port of a bridge (`bridge -d link show`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct BridgePort {
    /// What the bridge does with it.
    pub state: PortState,
    /// Packets may leave by the port that they came in by.
    pub hairpin: bool,
    /// It exchanges packets only with ports that are not isolated.
    pub isolated: bool,
    /// The bridge learns who is behind it.
    pub learning: bool,
    /// It gets what is for nobody that the bridge knows.
    pub unicast_flood: bool,
    /// The hardware address of its bridge, by which bridges know each other.
    pub bridge: Option<Mac>,
}

impl BridgePort {
    /// Reads `IFLA_INFO_SLAVE_DATA` of a link that is a bridge's.
    pub(crate) fn read(data: &[u8]) -> Option<BridgePort> {
        let mut port = BridgePort {
            state: PortState::Disabled,
            hairpin: false,
            isolated: false,
            learning: false,
            unicast_flood: false,
            bridge: None,
        };
        for (kind, value) in attributes(data) {
            let on = || u8_at(value, 0).map(|value| value != 0);
            match kind {
                IFLA_BRPORT_STATE => port.state = PortState::from_number(u8_at(value, 0)?),
                IFLA_BRPORT_MODE => port.hairpin = on()?,
                IFLA_BRPORT_LEARNING => port.learning = on()?,
                IFLA_BRPORT_UNICAST_FLOOD => port.unicast_flood = on()?,
                IFLA_BRPORT_ISOLATED => port.isolated = on()?,
                // `struct ifla_bridge_id`: a priority comes first.
                IFLA_BRPORT_BRIDGE_ID => {
                    port.bridge = value.get(2..).and_then(|mac| <[u8; 6]>::try_from(mac).ok()).map(Mac::new);
                }
                _ => {}
            }
        }
        Some(port)
    }
}

/// What a bridge does with a port (`BR_STATE_…`, `include/uapi/linux/if_bridge.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PortState {
    /// Nothing: it is down, or has no carrier.
    Disabled,
    /// It looks for loops.
    Listening,
    /// It learns who is there.
    Learning,
    /// It passes packets on.
    Forwarding,
    /// Nothing: there would be a loop.
    Blocking,
}

impl PortState {
    fn from_number(number: u8) -> PortState {
        match number {
            1 => PortState::Listening,
            2 => PortState::Learning,
            3 => PortState::Forwarding,
            4 => PortState::Blocking,
            _ => PortState::Disabled,
        }
    }
}

/// What can be changed of a link that is the port of a bridge already, and of a bridge.
impl LinkChange {
    /// Packets may leave by the port that they came in by (`ip link set … type bridge_slave hairpin on|off`).
    pub fn hairpin(self, on: bool) -> LinkChange {
        self.of_port(InfoBridgePort::HairpinMode(on))
    }

    /// The port exchanges packets only with ports that are not isolated (`type bridge_slave isolated on|off`).
    pub fn isolated(self, on: bool) -> LinkChange {
        self.of_port(InfoBridgePort::Isolated(on))
    }

    /// The bridge learns who is behind the port (`type bridge_slave learning on|off`).
    pub fn learning(self, on: bool) -> LinkChange {
        self.of_port(InfoBridgePort::Learning(on))
    }

    /// The port gets what is for nobody that the bridge knows (`type bridge_slave flood on|off`).
    pub fn unicast_flood(self, on: bool) -> LinkChange {
        self.of_port(InfoBridgePort::UnicastFlood(on))
    }

    /// The bridge heeds VLANs (`type bridge vlan_filtering 0|1`). Old kernels without them pass over it in silence; the
    /// link [tells](crate::Link::vlan_filtering).
    pub fn vlan_filtering(mut self, on: bool) -> LinkChange {
        self.bridge.push(InfoBridge::VlanFiltering(on));
        self
    }

    fn of_port(mut self, attribute: InfoBridgePort) -> LinkChange {
        self.port.push(attribute);
        self
    }
}

/// VLANs of a port (`bridge vlan show`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Vlans {
    /// The first.
    pub first: u16,
    /// The last, which may be the first.
    pub last: u16,
    /// Packets without a tag that come in belong to it.
    pub pvid: bool,
    /// Its packets go out without a tag.
    pub untagged: bool,
}

impl Vlans {
    /// The port is in this VLAN, and whoever is behind it does not know of VLANs (`vid N pvid untagged`).
    pub fn access(id: u16) -> Vlans {
        Vlans { first: id, last: id, pvid: true, untagged: true }
    }

    /// Packets of these VLANs come and go with a tag (`vid M-N`).
    pub fn tagged(ids: RangeInclusive<u16>) -> Vlans {
        Vlans { first: *ids.start(), last: *ids.end(), pvid: false, untagged: false }
    }

    fn flags(self) -> BridgeVlanInfoFlags {
        let mut flags = BridgeVlanInfoFlags::empty();
        flags.set(BridgeVlanInfoFlags::Pvid, self.pvid);
        flags.set(BridgeVlanInfoFlags::Untagged, self.untagged);
        flags
    }

    fn attributes(self) -> Vec<AfSpecBridge> {
        let (flags, one) = (self.flags(), self.first == self.last);
        let info = |vid, flags| AfSpecBridge::VlanInfo(BridgeVlanInfo { flags, vid });
        if one {
            return vec![info(self.first, flags)];
        }
        let (begin, end) = (BridgeVlanInfoFlags::RangeBegin, BridgeVlanInfoFlags::RangeEnd);
        vec![info(self.first, flags | begin), info(self.last, flags | end)]
    }

    /// Reads the body of an `RTM_NEWVLAN` message.
    fn read(body: &[u8]) -> Option<Vec<Vlans>> {
        let entries = attributes(body.get(BR_VLAN_MSG..)?).filter(|(kind, _)| *kind == BRIDGE_VLANDB_ENTRY);
        entries.map(|(_, entry)| Vlans::read_entry(entry)).collect()
    }

    fn read_entry(entry: &[u8]) -> Option<Vlans> {
        let (mut info, mut last) = (None, None);
        for (kind, value) in attributes(entry) {
            match kind {
                BRIDGE_VLANDB_ENTRY_INFO => info = Some((u16_at(value, 0)?, u16_at(value, 2)?)),
                BRIDGE_VLANDB_ENTRY_RANGE => last = u16_at(value, 0),
                _ => {}
            }
        }
        let (flags, first) = info?;
        let has = |flag: BridgeVlanInfoFlags| flags & flag.bits() != 0;
        let (pvid, untagged) = (has(BridgeVlanInfoFlags::Pvid), has(BridgeVlanInfoFlags::Untagged));
        Some(Vlans { first, last: last.unwrap_or(first), pvid, untagged })
    }
}

impl LinkSpec {
    /// A bridge that heeds VLANs from its birth (`vlan_filtering 1`).
    ///
    /// Ports then are in VLAN 1, without a tag, until they are taken out of it. [`Netns::add_link`] fails, with
    /// [`Error::is_unsupported`], where the kernel has no VLANs on bridges.
    pub fn vlan_filtering(self, on: bool) -> LinkSpec {
        self.with_vlan_filtering(on)
    }
}

impl Netns {
    /// Puts the port of a bridge in VLANs, all in one request (`bridge vlan add dev … vid …`). It stays in those that it is
    /// in already.
    ///
    /// # Errors
    ///
    /// [`Error::is_unsupported`] where the kernel has no VLANs on bridges, or the link is no port of a bridge.
    pub fn add_vlans<'a>(&self, port: impl Into<LinkRef<'a>>, vlans: &[Vlans]) -> Result<()> {
        self.change_vlans(rtm::SETLINK, "add vlans of link", port.into(), vlans)
    }

    /// Takes the port of a bridge out of VLANs, in one request (`bridge vlan del dev … vid …`). Those that it is not in are
    /// passed over: 1 to 4094 takes it out of all.
    pub fn del_vlans<'a>(&self, port: impl Into<LinkRef<'a>>, ids: RangeInclusive<u16>) -> Result<()> {
        self.change_vlans(rtm::DELLINK, "delete vlans of link", port.into(), &[Vlans::tagged(ids)])
    }

    /// The VLANs that the port of a bridge is in, or the bridge itself (`bridge vlan show dev …`).
    ///
    /// Neighbours that are alike come as one. Linux 5.6 and later.
    pub fn vlans<'a>(&self, link: impl Into<LinkRef<'a>>) -> Result<Vec<Vlans>> {
        let link = link.into();
        let mut header = [0; BR_VLAN_MSG];
        header[0] = AF_BRIDGE;
        header[4..].copy_from_slice(&self.index_of(link)?.to_ne_bytes());
        let body = Body::new(&header);
        let what = format_args!("of link {link}");
        let request = Request { kind: rtm::GETVLAN, body: &body, doing: "list vlans", what: &what };
        let listed = self.socket().dump(&request, Vlans::read).map_err(link_not_found)?;
        Ok(listed.into_iter().flatten().collect())
    }

    fn change_vlans(&self, kind: u16, doing: &'static str, port: LinkRef<'_>, vlans: &[Vlans]) -> Result<()> {
        // The kernel takes a range that is the wrong way round for an empty one.
        if let Some(wrong) = vlans.iter().find(|vlans| vlans.first > vlans.last) {
            let what = format!("{port}: {} to {}", wrong.first, wrong.last);
            return Err(Error::os(doing, what, Errno::INVAL));
        }
        let mut message = LinkMessage::default();
        message.header.interface_family = AddressFamily::Bridge;
        message.header.index = self.index_of(port)?;
        let ranges = vlans.iter().flat_map(|vlans| vlans.attributes()).collect();
        message.attributes.push(LinkAttribute::AfSpecBridge(ranges));
        let request = Request { kind, body: &message, doing, what: &port };
        self.socket().change(&request, Change::Modify).map_err(link_not_found)
    }
}

/// For fuzzers.
#[cfg(feature = "testing")]
pub(crate) fn read_all(body: &[u8]) {
    let _ = (Vlans::read(body), BridgePort::read(body));
}
