//! Forwarding between links, without which a container reaches nothing but its own host.
//!
//! It is the host's and stays: nothing is undone, and nothing turns it off again.

use cni_linux::{Netns, Result};

const IPV4: &str = "net/ipv4/ip_forward";
const IPV6: &str = "net/ipv6/conf/all/forwarding";

/// Turns forwarding on for the families that are asked for. What is on is left as it is, and nothing is written.
///
/// Kernel twin: `sysctl -w net.ipv4.ip_forward=1`, `net.ipv6.conf.all.forwarding=1`.
///
/// # Errors
/// The kernel's: `/proc/sys` is mounted read-only, or the host has no IPv6.
#[doc(alias = "EnableForward")]
pub fn ensure(host: &Netns, ipv4: bool, ipv6: bool) -> Result<()> {
    for key in keys(ipv4, ipv6) {
        if !is_on(host, key)? {
            host.ensure_sysctls(&[(key, "1")])?;
        }
    }
    Ok(())
}

/// Whether [`ensure`] would succeed. Changes nothing.
///
/// # Errors
/// As for [`ensure`].
pub fn status(host: &Netns, ipv4: bool, ipv6: bool) -> Result<()> {
    for key in keys(ipv4, ipv6) {
        if !is_on(host, key)? {
            host.writable_sysctl(key)?;
        }
    }
    Ok(())
}

/// The first kernel parameter that says that packets are not passed on, if any does. For CHECK.
///
/// # Errors
/// The host has no IPv6.
pub fn is_off(host: &Netns, ipv4: bool, ipv6: bool) -> Result<Option<&'static str>> {
    for key in keys(ipv4, ipv6) {
        if !is_on(host, key)? {
            return Ok(Some(key));
        }
    }
    Ok(None)
}

fn keys(ipv4: bool, ipv6: bool) -> impl Iterator<Item = &'static str> {
    [(ipv4, IPV4), (ipv6, IPV6)].into_iter().filter_map(|(wanted, key)| wanted.then_some(key))
}

/// Any number but nought is on.
fn is_on(host: &Netns, key: &str) -> Result<bool> {
    Ok(host.sysctl(key)?.trim() != "0")
}
