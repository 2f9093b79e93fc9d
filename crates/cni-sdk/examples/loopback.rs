//! loopback: brings `lo` up inside the container.
use cni_sdk::{Add, AddResult, Check, Del, Error, Netns, Plugin, Result, Undo, serde, steps};

#[derive(serde::Deserialize)]
#[serde(crate = "cni_sdk::serde")]
struct Loopback {} // no keys of its own

impl Plugin for Loopback {
    const TYPE: &'static str = "loopback";

    fn add(&self, cx: &Add, _: &mut Undo) -> Result<AddResult> {
        let container = Netns::open(&cx.netns)?;
        let lo = container.set_up("lo")?;
        Ok(cx.prev_result.clone().unwrap_or(steps::describe(&container, &lo)))
    }

    fn del(&self, cx: &Del) -> Result<()> {
        let Some(container) = Netns::open_if_exists(cx.netns.as_deref())? else { return Ok(()) };
        Ok(container.set_down("lo")?)
    }

    fn check(&self, cx: &Check) -> Result<()> {
        let lo = Netns::open(&cx.netns)?.link("lo")?;
        if lo.is_up() { Ok(()) } else { Err(Error::failed("lo is down")) }
    }
}

fn main() -> std::process::ExitCode {
    cni_sdk::plugin_main::<Loopback>()
}
