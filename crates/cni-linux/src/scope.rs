//! The scope of an address or a route: how far away it makes sense.
//!
//! Not a policy: which scope an object gets is the caller's decision.

use std::fmt;

/// How far away the destination of a route may be, or where an address is valid (`scope` in `ip-address(8)` and
/// `ip-route(8)`; `enum rt_scope_t` in `include/uapi/linux/rtnetlink.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Scope(pub u8);

impl Scope {
    /// Anywhere (`global`).
    pub const UNIVERSE: Scope = Scope(0);
    /// Inside the site; IPv6 only, deprecated.
    pub const SITE: Scope = Scope(200);
    /// On the directly attached network.
    pub const LINK: Scope = Scope(253);
    /// On this host.
    pub const HOST: Scope = Scope(254);
    /// The destination does not exist.
    pub const NOWHERE: Scope = Scope(255);
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Scope::UNIVERSE => f.write_str("global"),
            Scope::SITE => f.write_str("site"),
            Scope::LINK => f.write_str("link"),
            Scope::HOST => f.write_str("host"),
            Scope::NOWHERE => f.write_str("nowhere"),
            Scope(other) => write!(f, "{other}"),
        }
    }
}
