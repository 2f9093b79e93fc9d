//! A host with three attachments and a folder for state, and everything that there is to compare in it.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use cni_linux::Netns;
use cni_linux::testing::Snapshot;
use cni_plugins::PLUGINS;
use serde_json::{Value, json};

use crate::common::{command, link};
use crate::trace::{Ended, run};

/// For what the kernel does a little later by itself, such as telling routes of a link that is up.
const PATIENCE: Duration = Duration::from_secs(2);

/// One attachment.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    /// The one whose plugin is killed.
    Victim,
    /// Another of the same network.
    Healthy,
    /// One of another network, with the same configuration but for the name.
    Foreign,
}

/// What a plugin is asked to do.
#[derive(Clone, Copy)]
pub(crate) enum Verb<'a> {
    Add(Who),
    /// With the result of its ADD, if the runtime still has it.
    Del(Who, Option<&'a Value>),
    /// Of the network, with these attachments still there.
    Gc(&'a [Who]),
}

/// A plugin and its configuration, in which `DIR` stands for the folder for state, and `NUMBER` for one of the network.
#[derive(Clone, Copy)]
pub(crate) struct Case<'a> {
    pub(crate) plugin: &'static str,
    pub(crate) config: &'static str,
    /// A folder with other plugins than ours.
    pub(crate) plugins: Option<&'a Path>,
}

pub(crate) struct World<'a> {
    case: Case<'a>,
    host: Netns,
    containers: [Netns; 3],
    /// `bin` with the plugins, `state` for what they write.
    dir: tempfile::TempDir,
}

impl<'a> World<'a> {
    /// A host where the attachments are made that have to outlive everything. What plugins make once and leave for the next is
    /// there as well.
    pub(crate) fn new(case: Case<'a>, attached: &[Who]) -> io::Result<World<'a>> {
        let container = || Netns::temporary().map_err(io::Error::other);
        let world = World {
            case,
            host: container()?,
            containers: [container()?, container()?, container()?],
            dir: tempfile::tempdir()?,
        };
        for netns in [&world.host].into_iter().chain(&world.containers) {
            netns.set_up("lo").map_err(io::Error::other)?;
            // Nobody else can have these addresses, and to wait for that at every call takes a second.
            let undetected = || fs::write("/proc/sys/net/ipv6/conf/default/accept_dad", "0");
            netns.run(undetected).map_err(io::Error::other)??;
        }
        let bin = world.dir.path().join("bin");
        fs::create_dir(&bin)?;
        fs::create_dir(world.dir.path().join("state"))?;
        PLUGINS.iter().for_each(|plugin| drop(link(&bin, plugin.name)));
        for who in attached {
            world.succeed(Verb::Add(*who))?;
        }
        Ok(world)
    }

    /// What there is once an attachment has come and gone.
    pub(crate) fn at_rest(&self) -> io::Result<Picture> {
        let mut before = Picture::take(self)?;
        let give_up = Instant::now() + PATIENCE;
        loop {
            let result = self.succeed(Verb::Add(Who::Victim))?;
            self.succeed(Verb::Del(Who::Victim, Some(&result)))?;
            let after = Picture::take(self)?;
            let left = before.compare(&after);
            if left.is_empty() {
                return Ok(before);
            }
            if Instant::now() > give_up {
                return Err(io::Error::other(format!("ADD and DEL leave:\n{}", left.join("\n"))));
            }
            before = after;
            sleep(Duration::from_millis(50));
        }
    }

    /// What is different from `before`, and remains so.
    pub(crate) fn changes(&self, before: &Picture) -> io::Result<Vec<String>> {
        let give_up = Instant::now() + PATIENCE;
        loop {
            let changes = before.compare(&Picture::take(self)?);
            if changes.is_empty() || Instant::now() > give_up {
                return Ok(changes);
            }
            sleep(Duration::from_millis(20));
        }
    }

    /// Runs the plugin to its end, and returns what it answers.
    pub(crate) fn succeed(&self, verb: Verb<'_>) -> io::Result<Value> {
        match self.call(verb, usize::MAX)? {
            Ended::Exited { code: Some(0), stdout, .. } => {
                Ok(serde_json::from_str(&stdout).unwrap_or_default())
            }
            Ended::Exited { stdout, stderr, .. } => {
                Err(io::Error::other(format!("{} failed: {stdout} {stderr}", verb.name())))
            }
            Ended::Killed(call) => Err(io::Error::other(format!("killed at {call}"))),
        }
    }

    /// Runs the plugin up to its `nth` system call.
    pub(crate) fn call(&self, verb: Verb<'_>, nth: usize) -> io::Result<Ended> {
        let bin = self.dir.path().join("bin");
        let plugins = self.case.plugins.unwrap_or(&bin);
        let mut command = command(plugins.join(self.case.plugin));
        command.env("CNI_COMMAND", verb.name()).env("CNI_PATH", plugins);
        if let Verb::Add(who) | Verb::Del(who, _) = verb {
            let netns = self.containers[who as usize].path().expect("temporary ones have a path");
            command.env("CNI_CONTAINERID", who.name()).env("CNI_IFNAME", "eth0").env("CNI_NETNS", netns);
        }
        let config = self.config(verb).to_string();
        self.host.run(|| run(&mut command, config.as_bytes(), nth)).map_err(io::Error::other)?
    }

    fn config(&self, verb: Verb<'_>) -> Value {
        let state = self.dir.path().join("state");
        let foreign = matches!(verb, Verb::Add(Who::Foreign) | Verb::Del(Who::Foreign, _));
        let (name, number) = if foreign { ("foreign", "2") } else { ("net", "1") };
        let text = self.case.config.replace("DIR", &state.to_string_lossy()).replace("NUMBER", number);
        let mut config: Value = serde_json::from_str(&text).expect("the configuration of a test is JSON");
        config["name"] = name.into();
        match verb {
            Verb::Del(_, Some(result)) => config["prevResult"] = result.clone(),
            Verb::Gc(valid) => {
                let valid = valid.iter().map(|who| json!({"containerID": who.name(), "ifname": "eth0"}));
                config["cni.dev/valid-attachments"] = valid.collect();
            }
            _ => {}
        }
        config
    }
}

impl Who {
    fn name(self) -> &'static str {
        ["victim", "healthy", "foreign"][self as usize]
    }
}

impl Verb<'_> {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Verb::Add(_) => "ADD",
            Verb::Del(..) => "DEL",
            Verb::Gc(_) => "GC",
        }
    }
}

/// Everything that a plugin may change.
pub(crate) struct Picture {
    namespaces: Vec<(&'static str, Snapshot)>,
    files: Vec<String>,
}

impl Picture {
    fn take(world: &World<'_>) -> io::Result<Picture> {
        let names = ["host", "victim", "healthy", "foreign"];
        let all = names.into_iter().zip([&world.host].into_iter().chain(&world.containers));
        let taken = all.map(|(name, netns)| Ok((name, Snapshot::take(netns).map_err(io::Error::other)?)));
        let mut files = Vec::new();
        list(&world.dir.path().join("state"), Path::new(""), &mut files)?;
        files.sort();
        Ok(Picture { namespaces: taken.collect::<io::Result<_>>()?, files })
    }

    /// What there is only here (`-`), and only there (`+`).
    fn compare(&self, after: &Picture) -> Vec<String> {
        let mut changes = Vec::new();
        for ((name, old), (_, new)) in self.namespaces.iter().zip(&after.namespaces) {
            changes.extend(old.diff(new).into_iter().map(|line| format!("{name} {line}")));
        }
        let only = |some: &[String], others: &[String], sign: &str| {
            let missing = some.iter().filter(|line| !others.contains(line));
            missing.map(|line| format!("file {sign} {line}")).collect::<Vec<_>>()
        };
        changes.extend(only(&self.files, &after.files, "-"));
        changes.extend(only(&after.files, &self.files, "+"));
        changes
    }
}

/// Everything that is in `folder` below `root`, with its content.
fn list(root: &Path, folder: &Path, lines: &mut Vec<String>) -> io::Result<()> {
    for entry in fs::read_dir(root.join(folder))? {
        let path = folder.join(entry?.file_name());
        let name = path.display();
        if let Ok(target) = fs::read_link(root.join(&path)) {
            // By when the folder changed last host-local knows whether somebody else has been there.
            let now = fs::metadata(root.join(folder).join(".."))?;
            let now = format!("mtime={}.{:09}", now.mtime(), now.mtime_nsec());
            lines.push(format!("{name} -> {}", target.display()).replace(&now, "mtime=now"));
            continue;
        }
        if root.join(&path).is_dir() {
            lines.push(format!("{name}/"));
            list(root, &path, lines)?;
            continue;
        }
        let content = fs::read(root.join(&path))?;
        if content.strip_prefix(b"taken\0\0\n").is_some_and(|bits| bits.iter().all(|bits| *bits == 0)) {
            // host-local's note of which addresses are taken says that none is: so does no note.
            continue;
        }
        // Where host-local goes on looking moves with every ADD, and stays.
        let is_address = String::from_utf8_lossy(&content).parse::<IpAddr>().is_ok();
        match name.to_string().contains("last_reserved_ip") && is_address {
            true => lines.push(format!("{name}: an address")),
            false => lines.push(format!("{name}: {}", content.escape_ascii())),
        }
    }
    Ok(())
}
