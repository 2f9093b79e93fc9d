//! What can be measured: each case with the calls that lead to it, the call that is timed, and the floor under it.
//!
//! A case starts from a container as new. What has to be there for the timed call is made by the same subject's own
//! plugins in calls that are not timed, so that nobody has to undo what another has done.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::Result;
use crate::call::Call;
use crate::sandbox::Container;

/// One thing to measure.
#[derive(Debug)]
pub struct Case {
    /// As on the command line and in the table.
    pub name: &'static str,
    /// For the help text.
    pub about: &'static str,
    /// Calls that come before, untimed. The last reply is the `prevResult` of the timed call, as for a runtime.
    pub before: &'static [Step],
    /// The call that is timed.
    pub timed: Step,
    /// Whether the loopback is up when it has worked.
    pub leaves_up: bool,
}

/// One call of a plugin, and what takes its place on the floor.
#[derive(Debug)]
pub struct Step {
    /// The name of the executable.
    pub plugin: &'static str,
    /// `CNI_COMMAND`
    pub command: &'static str,
    /// The configuration on standard input, a JSON object.
    pub config: &'static str,
    /// The job of the program `floor` that makes the kernel do the same.
    pub floor: &'static str,
}

/// Spec 1.0.0, which the reference plugins have understood since 1.0.
const LOOPBACK: &str = r#"{"cniVersion":"1.0.0","name":"lo","type":"loopback"}"#;

const fn loopback(command: &'static str, floor: &'static str) -> Step {
    Step { plugin: "loopback", command, config: LOOPBACK, floor }
}

const LOOPBACK_ADD: Step = loopback("ADD", "loopback-up");

/// All cases, in the order of the table.
pub static CASES: [Case; 4] = [
    Case {
        name: "version",
        about: "loopback VERSION: what it takes to start a plugin at all",
        before: &[],
        timed: Step { config: r#"{"cniVersion":"1.0.0"}"#, ..loopback("VERSION", "empty") },
        leaves_up: false,
    },
    Case {
        name: "loopback-add",
        about: "loopback ADD: set lo up and report its addresses",
        before: &[],
        timed: LOOPBACK_ADD,
        leaves_up: true,
    },
    Case {
        name: "loopback-check",
        about: "loopback CHECK: is lo up?",
        before: &[LOOPBACK_ADD],
        timed: loopback("CHECK", "loopback-get"),
        leaves_up: true,
    },
    Case {
        name: "loopback-del",
        about: "loopback DEL: set lo down",
        before: &[LOOPBACK_ADD],
        timed: loopback("DEL", "loopback-down"),
        leaves_up: false,
    },
];

/// Whose calls are measured.
#[derive(Debug)]
pub enum Subject {
    /// The program `floor`.
    Floor(PathBuf),
    /// The plugins in a directory.
    Plugins(PathBuf),
}

impl Subject {
    /// The executable that takes `step`.
    pub fn program(&self, step: &Step) -> PathBuf {
        match self {
            Subject::Floor(program) => program.clone(),
            Subject::Plugins(directory) => directory.join(step.plugin),
        }
    }

    /// Brings `container` to where `case` starts, and returns the call to be timed.
    pub fn prepare(&self, case: &Case, container: &Container) -> Result<Call> {
        container.renew()?;
        let mut previous = Vec::new();
        for step in case.before {
            previous = self.call(step, container, &previous).timed()?.reply;
        }
        Ok(self.call(&case.timed, container, &previous))
    }

    /// Whether the call, which has succeeded, has done what it says.
    pub fn verify(&self, case: &Case, container: &Container, reply: &[u8]) -> Result<()> {
        if container.loopback_is_up()? != case.leaves_up {
            let should = if case.leaves_up { "up" } else { "down" };
            return Err(
                format!("{}: it has succeeded, but lo is not {should}", self.named(&case.timed)).into()
            );
        }
        let answers = matches!(case.timed.command, "VERSION" | "ADD");
        let is_plugin = matches!(self, Subject::Plugins(_));
        if answers && is_plugin && !reply.trim_ascii_start().starts_with(b"{") {
            return Err(format!("{}: the reply is no JSON object", self.named(&case.timed)).into());
        }
        Ok(())
    }

    fn named(&self, step: &Step) -> String {
        format!("{} {}", self.program(step).display(), step.command)
    }

    fn call(&self, step: &Step, container: &Container, previous: &[u8]) -> Call {
        let arguments = match self {
            Subject::Floor(_) => vec![step.floor.into()],
            Subject::Plugins(_) => Vec::new(),
        };
        Call {
            program: self.program(step),
            arguments,
            environment: self.environment(step, container),
            input: with_previous(step.config, previous),
        }
    }

    /// What containerd passes on for a pod. For VERSION libcni fills in placeholders, and so does this.
    fn environment(&self, step: &Step, container: &Container) -> Vec<(&'static str, OsString)> {
        let mut environment = vec![
            ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into()),
            ("CNI_COMMAND", step.command.into()),
        ];
        if step.command == "VERSION" {
            environment.extend(["CNI_NETNS", "CNI_IFNAME", "CNI_PATH"].map(|name| (name, "dummy".into())));
            return environment;
        }
        let arguments = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0;\
             K8S_POD_INFRA_CONTAINER_ID=6f0bd1d4c0f5f2c7a1f6a4c8a7c63a9d3f0c1e6fd8a9b7a1c5d4e3f2a1b0c9d8";
        environment.extend([
            ("CNI_CONTAINERID", "6f0bd1d4c0f5f2c7a1f6a4c8a7c63a9d3f0c1e6fd8a9b7a1c5d4e3f2a1b0c9d8".into()),
            ("CNI_NETNS", container.path().into()),
            ("CNI_IFNAME", "lo".into()),
            ("CNI_ARGS", arguments.into()),
            ("CNI_PATH", self.search_path()),
        ]);
        environment
    }

    fn search_path(&self) -> OsString {
        match self {
            Subject::Floor(_) => OsString::new(),
            Subject::Plugins(directory) => directory.into(),
        }
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
        let input = with_previous(LOOPBACK, b"{\"dns\":{}}\n");
        let expected = r#"{"cniVersion":"1.0.0","name":"lo","type":"loopback","prevResult":{"dns":{}}}"#;
        assert_eq!(String::from_utf8(input).unwrap(), expected);
    }

    #[test]
    fn without_one_the_configuration_is_as_written() {
        assert_eq!(with_previous(LOOPBACK, b""), LOOPBACK.as_bytes());
    }

    #[test]
    fn names_of_cases_differ() {
        let names: std::collections::BTreeSet<_> = CASES.iter().map(|case| case.name).collect();
        assert_eq!(names.len(), CASES.len());
    }
}
