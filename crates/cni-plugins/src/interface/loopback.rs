//! loopback: brings `lo` up inside the container.
//!
//! On the host it makes nothing; in the container: `lo` is up, with the addresses that the kernel gives it.
//! What a plugin before it made is passed through. CNI_IFNAME and CNI_ARGS are ignored, as the
//! [reference](https://www.cni.dev/plugins/current/main/loopback/) does.

use cni_sdk::{Add, AddResult, Check, Del, Doing, Error, IpConfig, Netns, Plugin, Result, Undo, steps};

/// loopback has no keys of its own.
#[derive(Debug, serde::Deserialize)]
pub struct Loopback {}

impl Plugin for Loopback {
    const TYPE: &'static str = "loopback";
    const SUMMARY: &'static str = "brings the loopback interface up inside the container";

    fn add(&self, cx: &Add, undo: &mut Undo) -> Result<AddResult> {
        let container = Netns::open(&cx.netns)?;
        let lo = container.link("lo")?;
        if !lo.is_up() {
            // Before it comes up, for IPv6 addresses do not survive that it goes down again.
            refuse_foreign(&steps::addresses(&container, &lo)?)?;
            let reversal = container.clone();
            undo.push("lo up", move || Ok(reversal.set_down("lo")?));
            container.set_up(&lo)?;
        }
        let addresses = steps::addresses(&container, &lo)?;
        refuse_foreign(&addresses)?;
        let first = |v4: bool| addresses.iter().find(|ip| ip.address.addr().is_ipv4() == v4).cloned();
        let mut found = steps::describe(&container, &lo);
        found.ips = [first(true), first(false)].into_iter().flatten().collect();
        Ok(cx.prev_result.clone().unwrap_or(found))
    }

    fn del(&self, cx: &Del) -> Result<()> {
        let Some(container) = Netns::open_if_exists(cx.netns.as_deref())? else { return Ok(()) };
        container.set_down("lo").doing("taking lo down")
    }

    fn check(&self, cx: &Check) -> Result<()> {
        let lo = Netns::open(&cx.netns)?.link("lo")?;
        if lo.is_up() { Ok(()) } else { Err(Error::failed("loopback interface is down")) }
    }
}

/// An address that is not a loopback's says that somebody uses `lo` for something else.
fn refuse_foreign(addresses: &[IpConfig]) -> Result<()> {
    match addresses.iter().map(|ip| ip.address.addr()).find(|ip| !ip.is_loopback()) {
        Some(ip) => {
            Err(Error::failed(format!("loopback interface found with non-loopback address \"{ip}\"")))
        }
        None => Ok(()),
    }
}
