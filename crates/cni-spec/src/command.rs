//! The six commands, and the parameters that each of them requires (spec §2).
//!
//! Nothing here reads the environment; it says what should be found there.
//!
//! ```
//! use cni_spec::{Command, Parameter};
//!
//! let required: Vec<&str> =
//!     Parameter::ALL.into_iter().filter(|p| Command::Del.requires(*p)).map(Parameter::variable).collect();
//! assert_eq!(required, ["CNI_COMMAND", "CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH"]);
//! assert_eq!(Command::known("del"), None);
//! ```

use std::fmt;

use crate::Version;

/// What a plugin is asked to do: the value of `CNI_COMMAND`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Command {
    /// Add a container to a network, or apply modifications.
    Add,
    /// Remove it, or un-apply them.
    Del,
    /// Check that its networking is as ADD left it.
    Check,
    /// Clean up what belongs to no valid attachment.
    Gc,
    /// Say whether an ADD could be serviced.
    Status,
    /// Say which versions are spoken.
    Version,
}

/// The variables of the environment that carry parameters, in the order in which they are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Parameter {
    /// `CNI_COMMAND`
    Command,
    /// `CNI_CONTAINERID`
    ContainerId,
    /// `CNI_NETNS`
    Netns,
    /// `CNI_IFNAME`
    IfName,
    /// `CNI_ARGS`
    Args,
    /// `CNI_PATH`
    Path,
    /// `CNI_NETNS_OVERRIDE`: `1` or `TRUE` allows the plugin's own namespace as `CNI_NETNS`
    NetnsOverride,
}

impl Parameter {
    /// All of them, in order.
    pub const ALL: [Parameter; 7] = [
        Parameter::Command,
        Parameter::ContainerId,
        Parameter::Netns,
        Parameter::IfName,
        Parameter::Args,
        Parameter::Path,
        Parameter::NetnsOverride,
    ];

    /// The variable's name.
    pub const fn variable(self) -> &'static str {
        match self {
            Parameter::Command => "CNI_COMMAND",
            Parameter::ContainerId => "CNI_CONTAINERID",
            Parameter::Netns => "CNI_NETNS",
            Parameter::IfName => "CNI_IFNAME",
            Parameter::Args => "CNI_ARGS",
            Parameter::Path => "CNI_PATH",
            Parameter::NetnsOverride => "CNI_NETNS_OVERRIDE",
        }
    }
}

impl Command {
    /// All of them.
    pub const ALL: [Command; 6] =
        [Command::Add, Command::Del, Command::Check, Command::Gc, Command::Status, Command::Version];

    /// `ADD`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Command::Add => "ADD",
            Command::Del => "DEL",
            Command::Check => "CHECK",
            Command::Gc => "GC",
            Command::Status => "STATUS",
            Command::Version => "VERSION",
        }
    }

    /// The command of exactly this spelling: capitals.
    pub fn known(text: &str) -> Option<Command> {
        Command::ALL.into_iter().find(|c| c.as_str() == text)
    }

    /// The version of the specification that introduced the command; nothing for those that need no gate.
    pub const fn since(self) -> Option<Version> {
        match self {
            Command::Check => Some(Version::V0_4_0),
            Command::Gc | Command::Status => Some(Version::V1_1_0),
            Command::Add | Command::Del | Command::Version => None,
        }
    }

    /// Whether the command cannot do without this parameter.
    ///
    /// `CNI_PATH` is optional for most verbs in the specification and required by the reference, which this follows.
    pub const fn requires(self, parameter: Parameter) -> bool {
        use Command::*;
        match parameter {
            Parameter::Command => true,
            Parameter::ContainerId | Parameter::IfName => matches!(self, Add | Check | Del),
            Parameter::Netns => matches!(self, Add | Check),
            Parameter::Path => !matches!(self, Version),
            Parameter::Args | Parameter::NetnsOverride => false,
        }
    }

    /// Whether the command looks at this parameter at all (spec §2, the tables of each operation's input).
    pub const fn reads(self, parameter: Parameter) -> bool {
        match self {
            Command::Add | Command::Del | Command::Check => true,
            Command::Gc | Command::Status | Command::Version => self.requires(parameter),
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
