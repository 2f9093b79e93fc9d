//! Killed at any instruction: a plugin is ended with SIGKILL after each of its system calls in turn, and then one more call
//! leaves everything as it was before: DEL, or GC alone.
//!
//! All calls, not a sample: those of the program's start, of all its threads, and of whatever it starts.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../common/mod.rs"]
mod common;
mod trace;
mod world;

use std::io;
use std::process::ExitCode;

use cni_linux::testing::{self, Need, Sandbox, Test, kernel};
use serde_json::Value;
use trace::Ended;
use world::{Case, Verb, Who, World};

/// How many instants are told at which something went wrong.
const TOLD: usize = 5;

/// What is tested, in which ways, and what it needs of the kernel.
const CASES: [(&str, Case<'static>, &[Pass], &[Need]); 6] = [
    // These two make nothing that outlives the container, so there is nothing for GC to collect.
    ("loopback", ours("loopback", r#"{"cniVersion": "1.1.0", "type": "loopback"}"#), &WITHOUT_GC, &[]),
    ("static", ours("static", STATIC), &WITHOUT_GC, &[]),
    ("host_local", ours("host-local", PTP), &ONCE, &[]),
    ("bridge", ours("bridge", BRIDGE), &ALL, &[kernel::veth, kernel::bridge, kernel::nftables]),
    // It differs in the firewall, of which half a dozen programs make a thousand calls.
    (
        "bridge_by_iptables",
        ours("bridge", BY_IPTABLES),
        &ADD_ONLY,
        &[kernel::veth, kernel::bridge, kernel::iptables],
    ),
    ("ptp", ours("ptp", PTP), &ONCE, &[kernel::veth, kernel::nftables]),
];

const STATIC: &str = r#"{"cniVersion": "1.1.0", "type": "ptp", "ipam": {
    "type": "static", "addresses": [{"address": "10.9.0.7/16", "gateway": "10.9.0.1"}]
}}"#;
const BRIDGE: &str = r#"{"cniVersion": "1.1.0", "type": "bridge", "bridge": "br0",
    "isDefaultGateway": true, "ipMasq": true, "macspoofchk": true, "hairpinMode": true, "ipam": {
    "type": "host-local", "dataDir": "DIR", "ranges": [
        [{"subnet": "10.9.0.0/16", "rangeStart": "10.9.NUMBER.2", "rangeEnd": "10.9.NUMBER.254"}],
        [{"subnet": "fd00:9::/64", "rangeStart": "fd00:9::NUMBER:2", "rangeEnd": "fd00:9::NUMBER:ffff"}]
    ]
}}"#;
const PTP: &str = r#"{"cniVersion": "1.1.0", "type": "ptp", "ipMasq": true, "ipam": {
    "type": "host-local", "dataDir": "DIR", "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}], "ranges": [
        [{"subnet": "10.9.0.0/16", "rangeStart": "10.9.NUMBER.2", "rangeEnd": "10.9.NUMBER.254"}],
        [{"subnet": "fd00:9::/64", "rangeStart": "fd00:9::NUMBER:2", "rangeEnd": "fd00:9::NUMBER:ffff"}]
    ]
}}"#;
const BY_IPTABLES: &str = r#"{"cniVersion": "1.1.0", "type": "bridge", "bridge": "br0",
    "isGateway": true, "ipMasq": true, "ipMasqBackend": "iptables", "ipam": {
    "type": "host-local", "dataDir": "DIR", "routes": [{"dst": "0.0.0.0/0"}],
    "subnet": "10.9.0.0/16", "rangeStart": "10.9.NUMBER.2", "rangeEnd": "10.9.NUMBER.254"
}}"#;

const fn ours(plugin: &'static str, config: &'static str) -> Case<'static> {
    Case { plugin, config, plugins: None }
}

/// What is killed, and what comes after it.
#[derive(Clone, Copy)]
enum Pass {
    AddThenDel,
    AddThenGc,
    /// With no attachment left in the network.
    AddThenGcOfAll,
    DelThenDel,
    /// The runtime has lost the result of the ADD.
    DelThenDelWithoutResult,
    DelThenGc,
    GcThenGc,
}

/// Each verb killed, with what is hardest after it. What the other passes add is the same code for every plugin.
const ONCE: [Pass; 4] =
    [Pass::AddThenDel, Pass::AddThenGcOfAll, Pass::DelThenDelWithoutResult, Pass::GcThenGc];

const ALL: [Pass; 7] = [
    Pass::AddThenDel,
    Pass::AddThenGc,
    Pass::AddThenGcOfAll,
    Pass::DelThenDel,
    Pass::DelThenDelWithoutResult,
    Pass::DelThenGc,
    Pass::GcThenGc,
];
const WITHOUT_GC: [Pass; 3] = [Pass::AddThenDel, Pass::DelThenDel, Pass::DelThenDelWithoutResult];
const ADD_ONLY: [Pass; 2] = [Pass::AddThenDel, Pass::AddThenGc];

impl Pass {
    /// What is to be as before at the end.
    fn attached(self) -> &'static [Who] {
        match self {
            Pass::AddThenGcOfAll => &[Who::Foreign],
            _ => &[Who::Healthy, Who::Foreign],
        }
    }

    fn valid(self) -> &'static [Who] {
        match self {
            Pass::AddThenGcOfAll => &[],
            _ => &[Who::Healthy],
        }
    }

    fn name(self) -> &'static str {
        match self {
            Pass::AddThenDel => "add_then_del",
            Pass::AddThenGc => "add_then_gc",
            Pass::AddThenGcOfAll => "add_then_gc_of_all",
            Pass::DelThenDel => "del_then_del",
            Pass::DelThenDelWithoutResult => "del_then_del_without_result",
            Pass::DelThenGc => "del_then_gc",
            Pass::GcThenGc => "gc_then_gc",
        }
    }

    /// Kills at the nth call, if there is one, and then does what has to make up for it. Returns the call.
    fn at(self, world: &World<'_>, nth: usize) -> io::Result<Option<String>> {
        let victim = Who::Victim;
        let broken = |verb| match world.call(verb, nth)? {
            Ended::Killed(call) => Ok(Some(call)),
            Ended::Exited { code: Some(0), .. } => Ok(None),
            Ended::Exited { stdout, stderr, .. } => Err(io::Error::other(format!("{stdout} {stderr}"))),
        };
        let add = || world.succeed(Verb::Add(victim));
        let del = |result: Option<&Value>| world.succeed(Verb::Del(victim, result)).map(drop);
        let gc = || world.succeed(Verb::Gc(self.valid())).map(drop);
        let (call, repaired) = match self {
            Pass::AddThenDel => (broken(Verb::Add(victim))?, del(None)),
            Pass::AddThenGc | Pass::AddThenGcOfAll => (broken(Verb::Add(victim))?, gc()),
            Pass::DelThenDel => {
                let result = add()?;
                (broken(Verb::Del(victim, Some(&result)))?, del(Some(&result)))
            }
            Pass::DelThenDelWithoutResult => {
                let result = add()?;
                (broken(Verb::Del(victim, Some(&result)))?, del(None))
            }
            Pass::DelThenGc => {
                let result = add()?;
                (broken(Verb::Del(victim, Some(&result)))?, gc())
            }
            Pass::GcThenGc => {
                add()?;
                (broken(Verb::Gc(self.valid()))?, gc())
            }
        };
        let at =
            |error| io::Error::other(format!("after call {}: {error}", call.as_deref().unwrap_or("none")));
        repaired.map_err(at)?;
        Ok(call)
    }
}

/// Kills at each call, and returns how many there are, and what went wrong at the first few.
fn sweep(case: Case<'_>, pass: Pass, told: usize) -> io::Result<(usize, Vec<String>)> {
    let mut wrong = Vec::new();
    let mut world = World::new(case, pass.attached())?;
    let mut before = world.at_rest()?;
    for nth in 1.. {
        let (call, changes) = match pass.at(&world, nth) {
            Ok(call) => (call, world.changes(&before)?),
            Err(error) => (Some(String::new()), vec![error.to_string()]),
        };
        if !changes.is_empty() {
            let call = call.as_deref().unwrap_or("none");
            wrong.push(format!("killed after call {nth} ({call}):\n{}", changes.join("\n")));
            world = World::new(case, pass.attached())?;
            before = world.at_rest()?;
        }
        if call.is_none() || wrong.len() == told {
            return Ok((nth - 1, wrong));
        }
    }
    unreachable!("a plugin makes a finite number of calls")
}

fn leaves_nothing(case: Case<'_>, pass: Pass) -> io::Result<()> {
    let (calls, wrong) = sweep(case, pass, TOLD)?;
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    // Otherwise the program was not even loaded.
    assert!(calls > 20, "{calls} calls");
    Ok(())
}

/// A plugin that finds what it made only when it has made all of it.
const LEAKY: &str = r#"#!/bin/sh
read -r config; dir=${config#*'"dir":"'}; dir=${dir%%'"'*}; id=$CNI_CONTAINERID
case $CNI_COMMAND in
ADD) : > "$dir/$id.first"; : > "$dir/$id.second"; echo '{}' ;;
DEL) [ ! -e "$dir/$id.second" ] || rm "$dir/$id.first" "$dir/$id.second" ;;
esac"#;

fn what_is_left_is_noticed(_: &Sandbox) -> io::Result<()> {
    let folder = tempfile::tempdir()?;
    common::executable(folder.path(), "leaky", LEAKY);
    let config = r#"{"cniVersion": "1.1.0", "dir": "DIR"}"#;
    let case = Case { plugin: "leaky", config, plugins: Some(folder.path()) };
    let (_, wrong) = sweep(case, Pass::AddThenDel, 1)?;
    assert!(wrong[0].ends_with("\nfile + victim.first: "), "{wrong:?}");
    Ok(())
}

fn main() -> ExitCode {
    let mut tests = testing::tests![what_is_left_is_noticed];
    for (name, case, passes, needs) in CASES {
        for &pass in passes {
            let name = format!("{name}::killed_{}", pass.name());
            let test = Test::new(name, move |_: &Sandbox| leaves_nothing(case, pass));
            tests.push(needs.iter().fold(test.needs(kernel::nft), |test, need| test.needs(*need)));
        }
    }
    testing::main(tests)
}
