//! What a plugin finds in its environment. The runtime here is this program once more, started with an environment that
//! has something stale of everything.

use std::process::Command;

use libcni::{Attachment, Cni, Process, TraceContext};

use crate::world::{Way, World, attachment, well};

pub(crate) const ALL: &[(&str, fn())] = &[
    ("nothing_stale_shines_through", nothing_stale_shines_through),
    ("an_inherited_trace_goes_on", an_inherited_trace_goes_on),
];

/// The argument that makes this program a runtime.
pub(crate) const PROBE: &str = "--environment-probe";

/// The runtime: adds container `x` to the network, with or without a trace of its own.
pub(crate) fn probe(mut args: impl Iterator<Item = String>) {
    let mut next = || args.next().unwrap();
    let (bin, cache, conflist, traceparent) = (next(), next(), next(), next());
    let net = libcni::load_file(conflist).unwrap();
    let trace = TraceContext { traceparent, ..TraceContext::default() };
    let attachment = Attachment { trace, netns: String::new(), ..attachment("x") };
    Cni::new(Process::search([bin])).cache_dir(cache).add(&net, &attachment).unwrap();
}

fn run_probe(world: &World, traceparent: &str) {
    let net = world.net("1.0.0", well());
    std::fs::write(world.file("n.conflist"), &net.source).unwrap();
    let status = Command::new(std::env::current_exe().unwrap())
        .arg(PROBE)
        .args([world.bin(), world.cache_dir(), world.file("n.conflist")])
        .arg(traceparent)
        .envs(["CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"].map(|name| (name, "stale")))
        .envs(["CNI_ARGS", "CNI_PATH", "CNI_NETNS_OVERRIDE"].map(|name| (name, "stale")))
        .envs(["TRACEPARENT", "TRACESTATE", "BAGGAGE"].map(|name| (name, "inherited")))
        .status()
        .unwrap();
    assert!(status.success());
}

fn nothing_stale_shines_through() {
    let world = World::new(Way::Process);
    run_probe(&world, "00-1-2-01");
    let calls = world.calls();
    assert_eq!(calls.len(), 3);
    for call in calls {
        assert_eq!((call.command.as_str(), call.container_id.as_str()), ("ADD", "x"));
        assert_eq!((call.netns.as_str(), call.args.as_str(), call.netns_override.as_str()), ("", "", ""));
        assert_eq!(call.path, world.bin().to_str().unwrap());
        assert_eq!(
            (call.traceparent.as_str(), call.tracestate.as_str(), call.baggage.as_str()),
            ("00-1-2-01", "", "")
        );
    }
}

fn an_inherited_trace_goes_on() {
    let world = World::new(Way::Process);
    run_probe(&world, "");
    for call in world.calls() {
        assert_eq!(
            (call.traceparent.as_str(), call.tracestate.as_str(), call.baggage.as_str()),
            ("inherited", "inherited", "inherited")
        );
    }
}
