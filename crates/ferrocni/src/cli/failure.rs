//! What a person is told when something did not work: what failed, where, and what to do about it.

use std::fmt;
use std::io;

use anstyle::{AnsiColor, Style};
use cni_spec::{Code, NetworkConfig};
use libcni::{Attachment, PluginFailure};

use super::output::visible;

/// How `error:` looks on a terminal.
const ERROR: Style = AnsiColor::Red.on_default().bold();
/// How the names of the lines beneath it look.
const NOTE: Style = Style::new().bold();

/// What every command returns.
pub(crate) type Result<T> = std::result::Result<T, Failure>;

/// A failed command.
///
/// Prints as `error: <what failed>` and, beneath it, one line for each thing that helps to find out why.
#[derive(Debug)]
pub(crate) struct Failure(Box<Report>);

#[derive(Debug)]
struct Report {
    what: String,
    notes: Vec<(&'static str, String)>,
}

/// The names of the lines, in their order.
const NOTES: [&str; 3] = ["where", "details", "help"];

impl Failure {
    /// What failed: lower case, no full stop, naming the thing.
    pub(crate) fn new(what: impl Into<String>) -> Failure {
        Failure(Box::new(Report { what: what.into(), notes: Vec::new() }))
    }

    /// A verb over a network that failed.
    pub(crate) fn of_network(
        error: &libcni::Error,
        net: &NetworkConfig,
        attachment: Option<&Attachment>,
    ) -> Failure {
        let mut place = format!("network {}", net.name);
        if let Some(attachment) = attachment {
            place += &format!(", {} of container {}", attachment.ifname, attachment.container_id);
            if !attachment.netns.is_empty() {
                place += &format!(", in {}", attachment.netns);
            }
        }
        let count = net.plugins.len();
        let failures = error.plugins();
        let (what, details) = match (error, &failures[..]) {
            (libcni::Error::Plugin(one), _) => {
                place += &format!(", plugin {} of {count}", one.index + 1);
                (told(one), one.error.details.replace("; ", "\n"))
            }
            (libcni::Error::Several(_), [first, _, ..]) => {
                let verb = first.command;
                (format!("{} plugins failed on {verb}", failures.len()), error.to_string())
            }
            _ => (error.to_string(), String::new()),
        };
        let help = error.causes().first().map_or("", |cause| advice(cause));
        Failure::new(what).at(place).details(details).help(help)
    }

    /// Where: the network, the container, the file.
    pub(crate) fn at(self, place: impl Into<String>) -> Failure {
        self.note("where", place)
    }

    /// More of what is known. Nothing is said where nothing is known.
    pub(crate) fn details(self, details: impl Into<String>) -> Failure {
        self.note("details", details)
    }

    /// What to do about it.
    pub(crate) fn help(self, help: impl Into<String>) -> Failure {
        self.note("help", help)
    }

    /// What failed, in one line.
    pub(crate) fn what(&self) -> &str {
        &self.0.what
    }

    /// Says it on standard error.
    pub(crate) fn print(&self) {
        // There is nobody left to tell if this fails.
        let _ = io::Write::write_all(&mut anstream::stderr(), format!("{self}\n").as_bytes());
    }

    fn note(mut self, name: &'static str, text: impl Into<String>) -> Failure {
        let text = text.into();
        match self.0.notes.iter_mut().find(|(other, _)| *other == name) {
            _ if text.is_empty() => {}
            Some((_, more)) => *more = format!("{more}\n{text}"),
            None => self.0.notes.push((name, text)),
        }
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{ERROR}error:{ERROR:#} {}", beneath(&self.0.what, 7))?;
        let ordered = NOTES.iter().flat_map(|name| self.0.notes.iter().find(|(other, _)| other == name));
        for (name, text) in ordered {
            write!(f, "\n{NOTE}{name:>9}:{NOTE:#} {}", beneath(text, 11))?;
        }
        Ok(())
    }
}

/// Text for a terminal, further lines beneath the first one: whoever wrote them, they cannot pass for lines of ours.
pub(crate) fn beneath(text: &str, indent: usize) -> String {
    text.split('\n').map(visible).collect::<Vec<_>>().join(&format!("\n{:indent$}", ""))
}

/// What a plugin failed to do. One that is not there did not fail at anything.
fn told(failure: &PluginFailure) -> String {
    let PluginFailure { plugin_type, command, error, .. } = failure;
    if error.msg.starts_with("failed to find plugin") {
        return error.msg.clone();
    }
    format!("plugin {plugin_type} failed on {command}: {}", error.msg)
}

/// What to do about a plugin's error, where it is one that many meet.
fn advice(error: &cni_spec::Error) -> &'static str {
    let text = error.to_string().to_lowercase();
    match error.code {
        _ if text.contains("failed to find plugin") => {
            "install the plugin, or name the folder that has it with --path or CNI_PATH"
        }
        Code::INCOMPATIBLE_VERSION => "give the network a cniVersion that the plugin speaks",
        Code::TRY_AGAIN_LATER => "it may pass by itself: try again later",
        _ if text.contains("failed to statfs") => {
            "is the namespace there? `ip netns add blue` makes one, `ls /run/netns` shows those that are"
        }
        _ if text.contains("operation not permitted") || text.contains("permission denied") => {
            "changing the network takes root; `ferrocni try` does without"
        }
        _ => "",
    }
}

/// The kernel's words for a failed call, in lower case and without the number.
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let words = text.split(" (os error ").next().unwrap_or_default();
    let mut chars = words.chars();
    chars.next().map(|first| first.to_lowercase().chain(chars).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_where_and_what_to_do() {
        let failure =
            Failure::new("no such network").at("/etc").details("").help("look").details("a").details("b");
        assert_eq!(
            anstream::adapter::strip_str(&failure.to_string()).to_string(),
            "error: no such network\n    where: /etc\n  details: a\n           b\n     help: look"
        );
    }

    #[test]
    fn what_others_wrote_is_shown_and_not_obeyed() {
        let failure = Failure::new("a\u{1b}[2J\nerror: b").details("c\u{7}\rd\ne");
        assert_eq!(
            anstream::adapter::strip_str(&failure.to_string()).to_string(),
            "error: a\\u{1b}[2J\n       error: b\n  details: c\\u{7}\\rd\n           e"
        );
    }

    #[test]
    fn reasons_have_no_number() {
        assert_eq!(reason(&io::Error::from_raw_os_error(2)), "no such file or directory");
    }
}
