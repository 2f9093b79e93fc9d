//! Plugins that hand out addresses to those that make interfaces (the reference's `ipam`).

pub mod host_local;
pub mod static_ips;
