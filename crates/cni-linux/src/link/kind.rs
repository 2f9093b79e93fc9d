//! The kinds of links that can be made, and what is particular to each.
//!
//! What all of them have is in [`spec`](super::spec).

use netlink_packet_route::link::{
    InfoBridge, InfoData, InfoIpVlan, InfoKind, InfoMacVlan, InfoVeth, InfoVlan, InfoVrf, IpVlanMode,
    LinkInfo, MacVlanMode,
};

use super::spec::VethPeer;
use crate::error::Result;

/// What kind of link is to be made.
#[derive(Debug, Clone)]
pub(super) enum Kind {
    Veth(VethPeer),
    Bridge { vlan_filtering: Option<bool> },
    Dummy,
    Ifb,
    Macvlan { parent: u32, mode: MacvlanMode },
    Ipvlan { parent: u32, mode: IpvlanMode },
    Vlan { parent: u32, id: u16 },
    Vrf { table: u32 },
}

/// How the macvlan links of one parent treat each other (`ip link add … type macvlan mode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum MacvlanMode {
    /// They do not talk to each other.
    Private,
    /// They talk to each other by way of the switch that the parent is attached to.
    Vepa,
    /// They talk to each other directly.
    Bridge,
    /// There is only one, and it takes the parent over.
    Passthru,
}

/// At which layer the ipvlan links of one parent are joined (`ip link add … type ipvlan mode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum IpvlanMode {
    /// They are on the parent's network.
    L2,
    /// The parent routes for them.
    L3,
    /// The parent routes for them, by way of its firewall.
    L3s,
}

impl Kind {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Kind::Veth(_) => "veth",
            Kind::Bridge { .. } => "bridge",
            Kind::Dummy => "dummy",
            Kind::Ifb => "ifb",
            Kind::Macvlan { .. } => "macvlan",
            Kind::Ipvlan { .. } => "ipvlan",
            Kind::Vlan { .. } => "vlan",
            Kind::Vrf { .. } => "vrf",
        }
    }

    /// The index of the link that it sits on.
    pub(super) fn parent(&self) -> Option<u32> {
        match self {
            Kind::Macvlan { parent, .. } | Kind::Ipvlan { parent, .. } | Kind::Vlan { parent, .. } => {
                Some(*parent)
            }
            _ => None,
        }
    }

    pub(super) fn info(&self, doing: &'static str) -> Result<Vec<LinkInfo>> {
        let (kind, data) = match self {
            Kind::Veth(peer) => {
                (InfoKind::Veth, Some(InfoData::Veth(InfoVeth::Peer(peer.common.message(doing)?))))
            }
            Kind::Bridge { vlan_filtering } => {
                let filtering =
                    vlan_filtering.map(|on| InfoData::Bridge(vec![InfoBridge::VlanFiltering(on)]));
                (InfoKind::Bridge, filtering)
            }
            Kind::Dummy => (InfoKind::Dummy, None),
            Kind::Ifb => (InfoKind::Ifb, None),
            Kind::Macvlan { mode, .. } => {
                let mode = match mode {
                    MacvlanMode::Private => MacVlanMode::Private,
                    MacvlanMode::Vepa => MacVlanMode::Vepa,
                    MacvlanMode::Bridge => MacVlanMode::Bridge,
                    MacvlanMode::Passthru => MacVlanMode::Passthrough,
                };
                (InfoKind::MacVlan, Some(InfoData::MacVlan(vec![InfoMacVlan::Mode(mode)])))
            }
            Kind::Ipvlan { mode, .. } => {
                let mode = match mode {
                    IpvlanMode::L2 => IpVlanMode::L2,
                    IpvlanMode::L3 => IpVlanMode::L3,
                    IpvlanMode::L3s => IpVlanMode::L3S,
                };
                (InfoKind::IpVlan, Some(InfoData::IpVlan(vec![InfoIpVlan::Mode(mode)])))
            }
            Kind::Vlan { id, .. } => (InfoKind::Vlan, Some(InfoData::Vlan(vec![InfoVlan::Id(*id)]))),
            Kind::Vrf { table } => (InfoKind::Vrf, Some(InfoData::Vrf(vec![InfoVrf::TableId(*table)]))),
        };
        let mut info = vec![LinkInfo::Kind(kind)];
        info.extend(data.map(LinkInfo::Data));
        Ok(info)
    }
}
