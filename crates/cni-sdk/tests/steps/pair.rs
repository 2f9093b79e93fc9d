//! The smallest plugin that takes the steps: a veth pair whose addresses and routes are in its configuration.

use cni_sdk::linux::Mac;
use cni_sdk::spec::json;
use cni_sdk::steps::{self, Configuration, Dad, Veth, VethSpec};
use cni_sdk::testing::Caller;
use cni_sdk::{Add, AddResult, Check, Del, Gc, Netns, Plugin, Result, Undo, serde};

#[derive(Default, serde::Deserialize)]
#[serde(crate = "cni_sdk::serde", default)]
pub(crate) struct Pair {
    ips: Vec<cni_sdk::IpConfig>,
    routes: Vec<cni_sdk::Route>,
    mtu: Option<u32>,
    mac: String,
    dad: Option<bool>,
    /// Whether addresses are left out altogether.
    bare: bool,
}

impl Plugin for Pair {
    const TYPE: &'static str = "pair";

    fn add(&self, cx: &Add, undo: &mut Undo) -> Result<AddResult> {
        let (host, container) = (Netns::current()?, Netns::open(&cx.netns)?);
        let mac: Option<Mac> = if self.mac.is_empty() { None } else { Some(self.mac.parse()?) };
        let spec = VethSpec { mtu: self.mtu, mac, bridge: None };
        let veth = Veth::add(cx, &host, &container, spec, undo)?;
        let mut result = steps::describe(&container, &veth.container);
        result.interfaces.push(steps::host_interface(&veth.host));
        (result.ips, result.routes) = (self.ips.clone(), self.routes.clone());
        if self.bare {
            return Ok(result);
        }
        let dad = match self.dad {
            None => Dad::AsConfigured,
            Some(true) => Dad::On,
            Some(false) => Dad::Off,
        };
        let how = Configuration { dad, arp_notify: true, ..Configuration::default() };
        steps::configure(&container, &veth.container, &result, how, undo)?;
        Ok(result)
    }

    fn del(&self, cx: &Del) -> Result<()> {
        steps::veth::del(cx, &Netns::current()?)
    }

    fn check(&self, _: &Check) -> Result<()> {
        Ok(())
    }

    fn gc(&self, cx: &Gc) -> Result<()> {
        steps::veth::gc(&cx.net.name, &cx.valid, &Netns::current()?)
    }
}

/// A call with these keys, as they stand in JSON, in the configuration of this network.
pub(crate) fn caller(net: &str, keys: &str, container: &Netns) -> Caller {
    let config = format!(r#"{{"cniVersion": "1.1.0", "name": "{net}", "type": "pair"{keys}}}"#);
    assert!(json::check(config.as_bytes()).is_ok(), "{config}");
    Caller::new::<Pair>(&config).container(container)
}
