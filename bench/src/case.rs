//! What can be measured: each case with what it starts from, the calls that lead to it, the call that is timed, and
//! the floor under it.
//!
//! What has to be there for the timed call is made by the same subject's own plugins in calls that are not timed, so
//! that nobody has to undo what another has done.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::call::Call;
use crate::floor::{BRIDGE, IFNAME};
use crate::sandbox::{Container, Node};

/// One thing to measure.
#[derive(Debug)]
pub struct Case {
    /// As on the command line and in the table.
    pub name: &'static str,
    /// For the help text.
    pub about: &'static str,
    /// What it is measured together with, call by call in turn.
    pub group: Group,
    /// What is there before the first call.
    pub scene: Scene,
    /// How the timed call is made.
    pub how: How,
    /// Calls that come before, untimed. The reply of ADD is the `prevResult` of those that follow, as for a runtime.
    pub before: &'static [Step],
    /// The call that is timed.
    pub timed: Step,
    /// Calls that bring back what was there before.
    pub after: &'static [Step],
    /// What can be seen when the timed call has worked.
    pub leaves: Leaves,
}

/// Cases that are measured in turns, in one stretch of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// What hardly does anything.
    Loopback,
    /// A container on a bridge.
    Bridge,
    /// The same with masquerade, on an empty and on a crowded host.
    Masquerade,
    /// Addresses alone.
    HostLocal,
    /// A hundred at once.
    Burst,
    /// A hundred that are left over.
    Collection,
}

impl Group {
    /// In the order in which they are measured.
    pub const ALL: [Group; 6] = [
        Group::Loopback,
        Group::Bridge,
        Group::Masquerade,
        Group::HostLocal,
        Group::Burst,
        Group::Collection,
    ];

    /// How often each call is timed where a single one is timed `runs` times. A hundred calls count more than one.
    pub fn rounds(self, runs: usize) -> usize {
        match self {
            Group::Burst | Group::Collection => runs.div_ceil(20),
            _ => runs,
        }
    }
}

/// What is there before the first call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scene {
    /// A host and a container, each with a loopback that is down.
    Bare,
    /// A bridge with this many containers, at least one.
    Bridge {
        /// How many.
        attached: u16,
        /// Whether what they send is masqueraded.
        masquerade: bool,
    },
    /// This many addresses are reserved.
    Reservations(u16),
}

impl Scene {
    /// How many containers are there already.
    pub fn attached(self) -> usize {
        match self {
            Scene::Bridge { attached, .. } => usize::from(attached),
            Scene::Bare | Scene::Reservations(_) => 0,
        }
    }
}

/// How the timed call is made.
#[derive(Clone, Copy, Debug)]
pub enum How {
    /// As a process.
    Process,
    /// As a process for each of so many containers, all started without waiting.
    AtOnce(usize),
    /// Ours without a process, by a runtime that stays; the other as a process, for it knows no other way.
    Resident,
    /// For so many containers, ours with the one call; the other, which cannot do that, with this one for each in turn.
    Collect(usize, Step),
}

impl How {
    /// How many containers it is about.
    pub fn containers(self) -> usize {
        match self {
            How::AtOnce(count) | How::Collect(count, _) => count,
            How::Process | How::Resident => 1,
        }
    }
}

/// What can be seen of a call from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaves {
    /// The container's loopback is up.
    LoopbackUp,
    /// It is down.
    LoopbackDown,
    /// All containers have their interface, and it is up.
    Attached,
    /// None has one.
    Detached,
    /// Nothing.
    Nothing,
}

/// One call of a plugin, and what takes its place on the floor.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// The name of the executable.
    pub plugin: &'static str,
    /// `CNI_COMMAND`
    pub command: &'static str,
    /// The configuration on standard input.
    pub config: Config,
    /// The job of the program `floor` that makes the kernel do the same.
    pub floor: &'static str,
}

/// The configurations of the steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Config {
    /// Just a version, for VERSION.
    Version,
    /// Of a loopback.
    Loopback,
    /// Of a bridge that is the containers' gateway, with addresses from host-local.
    Bridge,
    /// The same with masquerade.
    Masquerade,
    /// The same for GC, where only the first container is still valid.
    Collect,
}

impl Config {
    /// The JSON object. Spec 1.0.0, which the reference plugins have understood since 1.0, but for what came later.
    pub fn json(self, node: &Node) -> String {
        match self {
            Config::Version => r#"{"cniVersion":"1.0.0"}"#.to_owned(),
            Config::Loopback => r#"{"cniVersion":"1.0.0","name":"lo","type":"loopback"}"#.to_owned(),
            Config::Bridge => format!(r#"{{"cniVersion":"1.0.0","name":"pods",{}}}"#, bridge(node, false)),
            Config::Masquerade => format!(r#"{{"cniVersion":"1.0.0","name":"pods",{}}}"#, bridge(node, true)),
            Config::Collect => {
                let valid =
                    format!(r#"[{{"containerID":"{}","ifname":"{IFNAME}"}}]"#, node.containers[0].id());
                let bridge = bridge(node, true);
                format!(
                    r#"{{"cniVersion":"1.1.0","name":"pods","cni.dev/valid-attachments":{valid},{bridge}}}"#
                )
            }
        }
    }

    /// The configuration list of a network with just this plugin.
    pub fn list(self, node: &Node) -> String {
        let plugin = bridge(node, self != Config::Bridge);
        format!(r#"{{"cniVersion":"1.0.0","name":"pods","plugins":[{{{plugin}}}]}}"#)
    }
}

fn bridge(node: &Node, masquerade: bool) -> String {
    let state = node.state().display();
    format!(
        r#""type":"bridge","bridge":"{BRIDGE}","isGateway":true,"ipMasq":{masquerade},"ipam":{{"type":"host-local","dataDir":"{state}","ranges":[[{{"subnet":"10.1.0.0/16"}}]],"routes":[{{"dst":"0.0.0.0/0"}}]}}"#
    )
}

/// Whose calls are measured.
#[derive(Debug)]
pub enum Subject {
    /// The program `floor`.
    Floor(PathBuf),
    /// Our plugins.
    Ours {
        /// Their directory.
        directory: PathBuf,
        /// The program `runtime`, in which they are linked.
        runtime: PathBuf,
    },
    /// The plugins in another directory.
    Other(PathBuf),
}

impl Subject {
    /// For the names of what is its own.
    pub fn name(&self) -> &'static str {
        match self {
            Subject::Floor(_) => "floor",
            Subject::Ours { .. } => "ours",
            Subject::Other(_) => "other",
        }
    }

    /// The directory of its plugins.
    fn directory(&self) -> Option<&Path> {
        match self {
            Subject::Floor(_) => None,
            Subject::Ours { directory, .. } | Subject::Other(directory) => Some(directory),
        }
    }

    /// The executable that takes `step`.
    pub fn program(&self, step: &Step) -> PathBuf {
        match self {
            Subject::Floor(program) => program.clone(),
            Subject::Ours { directory, .. } | Subject::Other(directory) => directory.join(step.plugin),
        }
    }

    /// The call of `step` for a container, with the result of the ADD before it.
    pub fn call(&self, step: &Step, node: &Node, container: &Container, previous: &[u8]) -> Call {
        let arguments = match self {
            Subject::Floor(_) => vec![step.floor.into()],
            _ => Vec::new(),
        };
        Call {
            program: self.program(step),
            arguments,
            environment: self.environment(step, node, container),
            input: with_previous(&step.config.json(node), previous),
        }
    }

    /// What containerd passes on for a pod. For VERSION libcni fills in placeholders, and so does this.
    fn environment(&self, step: &Step, node: &Node, container: &Container) -> Vec<(&'static str, OsString)> {
        let mut environment = vec![
            ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into()),
            ("CNI_COMMAND", step.command.into()),
            ("CNI_PATH", self.directory().map(OsString::from).unwrap_or_default()),
        ];
        if matches!(self, Subject::Floor(_)) {
            environment.push(("FLOOR_STATE", node.state().into()));
        }
        match step.command {
            "VERSION" => {
                environment.extend(["CNI_NETNS", "CNI_IFNAME"].map(|name| (name, "dummy".into())));
                return environment;
            }
            "GC" => return environment,
            _ => {}
        }
        let id = container.id();
        let arguments = format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID={id}"
        );
        let ifname = if step.config == Config::Loopback { "lo" } else { IFNAME };
        environment.extend([
            ("CNI_CONTAINERID", id.into()),
            ("CNI_NETNS", container.path().into()),
            ("CNI_IFNAME", ifname.into()),
            ("CNI_ARGS", arguments.into()),
        ]);
        environment
    }
}

/// `config` with the reply of the call before as its `prevResult`, if there was one.
fn with_previous(config: &str, previous: &[u8]) -> Vec<u8> {
    let mut input = config.as_bytes().to_vec();
    let previous = previous.trim_ascii();
    if !previous.is_empty() && input.pop_if(|last| *last == b'}').is_some() {
        input.extend_from_slice(br#","prevResult":"#);
        input.extend_from_slice(previous);
        input.push(b'}');
    }
    input
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_previous_result_goes_into_the_configuration() {
        let input = with_previous(r#"{"name":"lo"}"#, b"{\"dns\":{}}\n");
        assert_eq!(String::from_utf8(input).unwrap(), r#"{"name":"lo","prevResult":{"dns":{}}}"#);
    }

    #[test]
    fn without_one_the_configuration_is_as_written() {
        assert_eq!(with_previous(r#"{"name":"lo"}"#, b""), br#"{"name":"lo"}"#);
    }

    #[test]
    fn a_hundred_calls_are_made_less_often_than_one() {
        assert_eq!(Group::ALL.map(|group| group.rounds(100)), [100, 100, 100, 100, 5, 5]);
        assert_eq!(Group::Burst.rounds(1), 1);
    }
}
