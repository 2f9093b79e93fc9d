//! What a runtime is told when a verb fails: which plugin of the list, doing what, and the plugin's own error with its
//! code.
//!
//! A plugin's own error is [`cni_spec::Error`]; errors of reading configurations are [`LoadError`](crate::LoadError).

use std::fmt;
use std::io;

use cni_spec::{AttachmentId, Code, Command};

/// Why a verb over a network failed. The texts are those of the reference, as far as it has one for the case.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// It was refused before anything was executed or looked up: a name that is none, a version that does not know
    /// the verb.
    Refused(cni_spec::Error),
    /// A plugin failed, or could not be run.
    Plugin(PluginFailure),
    /// The cache could not be read or written.
    Cache(CacheFailure),
    /// GC: a stale attachment could not be deleted.
    Stale {
        /// The attachment.
        id: AttachmentId,
        /// Why.
        cause: Box<Error>,
    },
    /// Several things failed, each tried although those before it had failed.
    Several(Vec<Error>),
}

/// A plugin of the list that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginFailure {
    /// Its place in the list, from 0.
    pub index: usize,
    /// Its `type`.
    pub plugin_type: String,
    /// The `name` in its own configuration, usually none: the list has one.
    pub name: String,
    /// What it was asked to do.
    pub command: Command,
    /// What it answered; code 0 where it said nothing that could be understood. After a failed ADD the details also
    /// say what could not be undone.
    pub error: cni_spec::Error,
}

/// What was wanted of the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheAction {
    /// The result of the ADD before.
    Get,
    /// Keeping the result of an ADD.
    Set,
    /// A list of what is there.
    List,
}

/// The cache could not be read or written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheFailure {
    /// The network's name.
    pub network: String,
    /// What was wanted.
    pub action: CacheAction,
    /// Why it failed.
    pub error: cni_spec::Error,
}

impl Error {
    /// The errors beneath, in the order in which they came: one, or as many as things failed.
    pub fn causes(&self) -> Vec<&cni_spec::Error> {
        match self {
            Error::Refused(error) => vec![error],
            Error::Plugin(failure) => vec![&failure.error],
            Error::Cache(failure) => vec![&failure.error],
            Error::Stale { cause, .. } => cause.causes(),
            Error::Several(errors) => errors.iter().flat_map(Error::causes).collect(),
        }
    }

    /// The plugins that failed.
    pub fn plugins(&self) -> Vec<&PluginFailure> {
        match self {
            Error::Plugin(failure) => vec![failure],
            Error::Stale { cause, .. } => cause.plugins(),
            Error::Several(errors) => errors.iter().flat_map(Error::plugins).collect(),
            Error::Refused(_) | Error::Cache(_) => Vec::new(),
        }
    }

    /// The code of the first error: 11 asks to try again, 50 and 51 are STATUS's.
    pub fn code(&self) -> Code {
        self.causes().first().map_or(Code::UNKNOWN, |e| e.code)
    }

    /// Nothing failed, one thing did, or several.
    pub(crate) fn all(mut errors: Vec<Error>) -> Result<(), Error> {
        match errors.len() {
            0 => Ok(()),
            1 => Err(errors.remove(0)),
            _ => Err(Error::Several(errors)),
        }
    }

    /// Puts what failed afterwards behind the details of what failed first.
    pub(crate) fn with_details(mut self, details: &str) -> Self {
        let error = match &mut self {
            Error::Refused(error) => error,
            Error::Plugin(failure) => &mut failure.error,
            Error::Cache(failure) => &mut failure.error,
            Error::Stale { .. } | Error::Several(_) => return self,
        };
        *error = error.clone().with_details(details);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Refused(error) => error.fmt(f),
            Error::Plugin(failure) => failure.fmt(f),
            Error::Cache(failure) => failure.fmt(f),
            Error::Stale { id, cause } => {
                write!(f, "failed to delete stale attachment {} {}: {cause}", id.container_id, id.ifname)
            }
            Error::Several(errors) => {
                let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
                f.write_str(&texts.join("\n"))
            }
        }
    }
}

impl std::error::Error for Error {}

impl fmt::Display for PluginFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PluginFailure { plugin_type, name, error, .. } = self;
        let verb = match self.command {
            Command::Gc => return write!(f, "failed to GC plugin {plugin_type}: {error}"),
            // It names the plugin by itself.
            Command::Version => return error.fmt(f),
            Command::Add => "add",
            Command::Del => "delete",
            Command::Check => "check",
            Command::Status => "status",
        };
        write!(f, "plugin type={plugin_type:?}")?;
        if !name.is_empty() {
            write!(f, " name={name:?}")?;
        }
        write!(f, " failed ({verb}): {error}")
    }
}

impl fmt::Display for CacheFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CacheFailure { network, error, .. } = self;
        match self.action {
            CacheAction::Get => write!(f, "failed to get network {network:?} cached result: {error}"),
            CacheAction::Set => write!(f, "failed to set network {network:?} cached result: {error}"),
            CacheAction::List => write!(f, "failed to list the cached attachments: {error}"),
        }
    }
}

/// The kernel's own words, without the number behind them and in lower case.
pub(crate) fn os_text(error: &io::Error) -> String {
    let text = error.to_string();
    let words = match text.rsplit_once(" (os error ") {
        Some((words, _)) => words,
        None => &text,
    };
    let mut chars = words.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(command: Command, name: &str) -> Error {
        Error::Plugin(PluginFailure {
            index: 1,
            plugin_type: "bridge".into(),
            name: name.into(),
            command,
            error: cni_spec::Error::new(Code::TRY_AGAIN_LATER, "busy").with_details("very"),
        })
    }

    #[test]
    fn texts_are_the_references() {
        let text = |command, name| failure(command, name).to_string();
        assert_eq!(text(Command::Add, "y"), "plugin type=\"bridge\" name=\"y\" failed (add): busy; very");
        assert_eq!(text(Command::Del, ""), "plugin type=\"bridge\" failed (delete): busy; very");
        assert_eq!(text(Command::Gc, ""), "failed to GC plugin bridge: busy; very");
        let stale = Error::Stale {
            id: AttachmentId::parse("c1", "eth0").unwrap(),
            cause: Box::new(failure(Command::Del, "")),
        };
        assert!(stale.to_string().starts_with("failed to delete stale attachment c1 eth0: plugin type="));
        let cache = |action| CacheFailure {
            network: "n".into(),
            action,
            error: cni_spec::Error::failed("disk full"),
        };
        assert_eq!(
            cache(CacheAction::Get).to_string(),
            "failed to get network \"n\" cached result: disk full"
        );
        assert_eq!(
            cache(CacheAction::Set).to_string(),
            "failed to set network \"n\" cached result: disk full"
        );
    }

    #[test]
    fn every_cause_can_be_reached() {
        assert_eq!(Error::all(Vec::new()), Ok(()));
        assert_eq!(Error::all(vec![failure(Command::Del, "")]), Err(failure(Command::Del, "")));
        let both = Error::all(vec![failure(Command::Del, ""), failure(Command::Del, "b")]).unwrap_err();
        assert_eq!(both.causes().len(), 2);
        assert_eq!(both.plugins()[1].name, "b");
        assert_eq!(both.code(), Code::TRY_AGAIN_LATER);
        assert_eq!(both.to_string().lines().count(), 2);
    }

    #[test]
    fn system_errors_are_told_in_lower_case() {
        assert_eq!(os_text(&io::Error::from_raw_os_error(2)), "no such file or directory");
        assert_eq!(os_text(&io::Error::other("Weird")), "weird");
    }
}
