//! Many containers at once on one host: they share a bridge, a firewall and a pool of addresses.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Coded, CodedGroup, at_once, execute, stages};
use crate::commands::tree;
use crate::judge::Standard;
use crate::play::{Failure, Subject};
use crate::stage::Stage;

/// How many start at once.
const MANY: usize = 40;

pub(super) const HOST_LOCAL: CodedGroup = (
    "host-local/parallel",
    "many at once",
    &[Coded {
        name: "40 ADDs at once get 40 addresses, and 40 DELs at once leave none",
        why: "two containers with one address are the worst that an IPAM plugin can do",
        plugins: &["host-local"],
        play: addresses,
    }],
);

pub(super) const BRIDGE: CodedGroup = (
    "bridge/parallel",
    "many at once",
    &[
        Coded {
            name: "40 ADDs at once on a bridge that is not there yet, and 40 DELs at once",
            why: "a node that boots starts its pods at once; one makes the bridge, and none may fail over it",
            plugins: &["bridge", "host-local"],
            play: bridge,
        },
        Coded {
            name: "20 whole lives at once on one bridge",
            why: "ADD and CHECK of one container next to DEL of another",
            plugins: &["bridge", "host-local"],
            play: bridge_lives,
        },
    ],
);

pub(super) const PTP: CodedGroup = (
    "ptp/parallel",
    "many at once",
    &[Coded {
        name: "40 ADDs at once, and 40 DELs at once",
        why: "they share forwarding, the firewall and the pool of addresses",
        plugins: &["ptp", "host-local"],
        play: ptp,
    }],
);

fn addresses(subject: &Subject) -> Result<(), Failure> {
    together(subject, "host-local", &json!({}))
}

fn bridge(subject: &Subject) -> Result<(), Failure> {
    together(subject, "bridge", &json!({ "isDefaultGateway": true, "ipMasq": masquerades(subject) }))
}

fn ptp(subject: &Subject) -> Result<(), Failure> {
    together(subject, "ptp", &json!({ "ipMasq": masquerades(subject) }))
}

fn bridge_lives(subject: &Subject) -> Result<(), Failure> {
    let stages = stages(subject, 20)?;
    let keys = json!({ "isDefaultGateway": true, "ipMasq": masquerades(subject) });
    at_once(stages.iter().enumerate().map(|(number, stage)| {
        let (host, keys) = (&stages[0], &keys);
        move || {
            let attachment = Attachment { subject, host, stage, number, plugin: "bridge", keys };
            let result = attachment.play("ADD", &Value::Null, json!("success"))?;
            let result = result.unwrap_or_default();
            attachment.play("CHECK", &result, json!("nothing"))?;
            attachment.play("DEL", &result, json!("nothing")).map(drop)
        }
    }))?;
    nothing_is_left(&stages[0])
}

/// The reference takes turns at iptables, one rule a process: that is no race, only slow.
fn masquerades(subject: &Subject) -> bool {
    subject.standard == Standard::Ours
}

/// Adds many containers at once, and deletes them at once.
fn together(subject: &Subject, plugin: &str, keys: &Value) -> Result<(), Failure> {
    let stages = stages(subject, MANY)?;
    let attachments: Vec<Attachment<'_>> = stages
        .iter()
        .enumerate()
        .map(|(number, stage)| Attachment { subject, host: &stages[0], stage, number, plugin, keys })
        .collect();
    let results = at_once(
        attachments.iter().map(|attachment| || attachment.play("ADD", &Value::Null, json!("success"))),
    )?;
    let results: Vec<Value> = results.into_iter().map(Option::unwrap_or_default).collect();
    let address = |result: &Value| result["ips"][0]["address"].to_string();
    let addresses: BTreeSet<String> = results.iter().map(address).collect();
    if addresses.len() != MANY {
        let all: Vec<String> = results.iter().map(address).collect();
        return Err(Failure::of("the results", "as many addresses as containers", all.join(", ")));
    }
    at_once(
        attachments
            .iter()
            .zip(&results)
            .map(|(attachment, result)| || attachment.play("DEL", result, json!("nothing"))),
    )?;
    nothing_is_left(&stages[0])
}

/// One of many: a container of its own on the host of the first.
struct Attachment<'a> {
    subject: &'a Subject,
    host: &'a Stage,
    stage: &'a Stage,
    number: usize,
    plugin: &'a str,
    keys: &'a Value,
}

impl Attachment<'_> {
    fn play(&self, verb: &str, prev_result: &Value, reply: Value) -> Result<Option<Value>, Failure> {
        let mut config = json!({ "ipam": {
            "type": "host-local", "dataDir": data_dir(self.host), "ranges": [[{ "subnet": "10.1.0.0/16" }]]
        }, "prevResult": prev_result });
        for (key, value) in self.keys.as_object().into_iter().flatten() {
            config[key] = value.clone();
        }
        let step = json!({
            "plugin": self.plugin, "verb": verb, "config": config, "expect": { "reply": reply },
            "env": { "CNI_CONTAINERID": format!("container-{}", self.number), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin" }
        });
        execute(self.subject, self.host, self.stage.names(), step)
    }
}

fn data_dir(stage: &Stage) -> String {
    stage.names().fill("${dir}/networks")
}

/// What is each container's own must be gone from the host.
fn nothing_is_left(stage: &Stage) -> Result<(), Failure> {
    let network = tree(std::path::Path::new(&data_dir(stage)).join("conformance").as_path());
    let reserved: Vec<&String> = network
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, _)| name)
        .filter(|name| name.starts_with("10."))
        .collect();
    if !reserved.is_empty() {
        return Err(Failure::of("the folder of addresses", "no reservation", format!("{reserved:?}")));
    }
    let picture = stage.picture().map_err(|err| Failure::of("this machine", "a look at it", err))?;
    let owned = |line: &&String| {
        line.starts_with("link veth") || line.starts_with("nft ") && line.contains("container-")
    };
    let left: Vec<&str> = picture.host.lines().iter().filter(owned).map(String::as_str).collect();
    if left.is_empty() { Ok(()) } else { Err(Failure::of("the host", "nothing is left", left.join("\n"))) }
}
