//! iptables, by its own programs, for where it is asked for: other programs read and write the same chains, and only
//! `iptables-restore` knows whether they are kept by nf_tables or by the older x_tables.
//!
//! This is the one place that starts a program. It looks for none but where it is told to, and asks for nothing but
//! `iptables-restore` and `iptables-save`: everything is one transaction, and no rule is looked for in the text of an
//! error.

use std::ffi::OsStr;
use std::fmt;
use std::fmt::Write as _;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rustix::fs::{Access, access};

use crate::error::{Errno, Error, Result};
use crate::netns::Netns;
use crate::undo::Undo;

/// Which of the two firewalls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "there are two versions of IP")]
pub enum Protocol {
    /// `iptables`
    Ipv4,
    /// `ip6tables`
    Ipv6,
}

impl Protocol {
    fn program(self) -> &'static str {
        match self {
            Protocol::Ipv4 => "iptables",
            Protocol::Ipv6 => "ip6tables",
        }
    }

    fn abbreviation(self) -> &'static str {
        match self {
            Protocol::Ipv4 => "ip",
            Protocol::Ipv6 => "ip6",
        }
    }
}

/// The programs of one protocol, where they were found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Iptables {
    restore: PathBuf,
    save: PathBuf,
}

impl Iptables {
    /// Finds `iptables-restore` and `iptables-save`, or `ip6tables-…`, in the first of these folders that has them.
    ///
    /// # Errors
    ///
    /// [`Error::is_gone`] if none has.
    pub fn find<P: AsRef<OsStr>>(
        protocol: Protocol,
        folders: impl IntoIterator<Item = P>,
    ) -> Result<Iptables> {
        Iptables::find_named(protocol.program(), folders)
    }

    /// As [`Iptables::find`], those that are of the older x_tables where both are installed (`iptables-legacy-restore`).
    ///
    /// # Errors
    ///
    /// [`Error::is_gone`] if no folder has them under this name; those that [`Iptables::find`] finds may be of the older
    /// kind then.
    pub fn find_legacy<P: AsRef<OsStr>>(
        protocol: Protocol,
        folders: impl IntoIterator<Item = P>,
    ) -> Result<Iptables> {
        Iptables::find_named(&format!("{}-legacy", protocol.program()), folders)
    }

    fn find_named<P: AsRef<OsStr>>(name: &str, folders: impl IntoIterator<Item = P>) -> Result<Iptables> {
        let mut searched = Vec::new();
        for folder in folders {
            let folder = Path::new(&folder);
            let programs = ["restore", "save"].map(|verb| folder.join(format!("{name}-{verb}")));
            if programs.iter().all(|program| access(program, Access::EXEC_OK).is_ok()) {
                let [restore, save] = programs;
                return Ok(Iptables { restore, save });
            }
            searched.push(folder.display().to_string());
        }
        let cause = format!("neither {name}-restore nor {name}-save is in {}", searched.join(":"));
        Err(Error::new("find", name, cause).with_errno(Errno::NOENT))
    }

    /// Makes the changes, in one transaction (`iptables-restore --noflush --wait`). For what is shared and stays.
    ///
    /// It waits for others that change the same, however long they take.
    pub fn ensure(&self, netns: &Netns, transaction: &Transaction) -> Result<()> {
        self.run_restore(netns, &transaction.table, &transaction.lines)
    }

    /// Makes the changes, in one transaction, and pushes their reversal to `undo`: rules that were added are deleted, and
    /// chains that were made.
    pub fn add(&self, netns: &Netns, transaction: &Transaction, undo: &mut Undo) -> Result<()> {
        self.ensure(netns, transaction)?;
        let (iptables, netns, table) = (self.clone(), netns.clone(), transaction.table.clone());
        // Chains can go once nothing jumps to them.
        let reversal: Vec<_> =
            transaction.undo_rules.iter().rev().chain(&transaction.undo_chains).cloned().collect();
        undo.push(format!("iptables rules in table {table}"), move || {
            Ok(iptables.run_restore(&netns, &table, &reversal)?)
        });
        Ok(())
    }

    /// The chains and rules of a table (`iptables-save -t`). Its time grows with their number.
    pub fn list(&self, netns: &Netns, table: &str) -> Result<Listing> {
        let what = format!("table {table}");
        #[cfg(feature = "testing")]
        crate::testing::fault::query("execve", "list iptables", &what);
        let output = self.run(netns, &self.save, &["-t", table], "", "list iptables", &what)?;
        Ok(Listing::read(&String::from_utf8_lossy(&output.stdout)))
    }

    fn run_restore(&self, netns: &Netns, table: &str, lines: &[String]) -> Result<()> {
        if let Some(line) = lines.iter().find(|line| line.contains(['\n', '\0'])) {
            return Err(
                Error::os("change iptables", format!("{line:?}"), Errno::INVAL).with_cause("not one line")
            );
        }
        let mut input = format!("*{table}\n");
        for line in lines {
            // Writing to a string cannot fail.
            let _ = writeln!(input, "{line}");
        }
        input.push_str("COMMIT\n");
        let (doing, what) = ("change iptables", format!("table {table}"));
        #[cfg(feature = "testing")]
        crate::testing::fault::change("execve", doing, &what)?;
        self.run(netns, &self.restore, &["--noflush", "--wait"], &input, doing, &what).map(|_output| ())
    }

    /// Runs a program in the namespace, and waits for it.
    fn run(
        &self,
        netns: &Netns,
        program: &Path,
        arguments: &[&str],
        input: &str,
        doing: &'static str,
        what: &str,
    ) -> Result<Output> {
        let failed = |err: &std::io::Error| {
            Error::io(doing, what, err).with_hint(format!("it was to be done by {}", program.display()))
        };
        let output = netns.run_child(|| run(program, arguments, input))?.map_err(|err| failed(&err))?;
        if output.status.success() {
            return Ok(output);
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.trim().replace('\n', "; ");
        let cause = if said.is_empty() { output.status.to_string() } else { said };
        Err(Error::new(doing, what, cause).with_hint(format!("it was to be done by {}", program.display())))
    }
}

impl fmt::Display for Iptables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.restore.display().fmt(f)
    }
}

impl Netns {
    /// Whether the older x_tables have a table of this name (`nat`, `filter`), which they have from the first time on
    /// that somebody looks at it or changes it. No program is asked. `false` where the kernel does not let us look, as in
    /// a namespace that was made together with its user namespace (`unshare --user --net`), for whoever was not root
    /// before: the list belongs to nobody there.
    pub fn has_legacy_table(&self, protocol: Protocol, table: &str) -> Result<bool> {
        // Of the thread, not of the process: that is which namespace's it is.
        let path = format!("/proc/thread-self/net/{}_tables_names", protocol.abbreviation());
        #[cfg(feature = "testing")]
        crate::testing::fault::query("read", "read tables of", &path);
        match self.visit(|| std::fs::read_to_string(&path))? {
            Ok(names) => Ok(names.lines().any(|name| name == table)),
            Err(err) if matches!(err.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => Ok(false),
            Err(err) => Err(Error::io("read tables of", path, &err)),
        }
    }
}

/// Changes to one table, to be made all at once.
#[derive(Debug, Clone)]
#[must_use = "a Transaction changes nothing until it is given to an Iptables"]
pub struct Transaction {
    table: String,
    lines: Vec<String>,
    undo_rules: Vec<String>,
    undo_chains: Vec<String>,
}

impl Transaction {
    /// Changes to this table: `nat`, `filter`.
    pub fn new(table: impl Into<String>) -> Transaction {
        Transaction {
            table: table.into(),
            lines: Vec::new(),
            undo_rules: Vec::new(),
            undo_chains: Vec::new(),
        }
    }

    /// The chain is there, and empty (`-N`, `-F`).
    pub fn chain(mut self, chain: &str) -> Transaction {
        self.lines.push(format!(":{} - [0:0]", quoted(chain)));
        self.undo_chains.extend([format!("-F {}", quoted(chain)), format!("-X {}", quoted(chain))]);
        self
    }

    /// A rule at the end of a chain (`-A`), in the words of `iptables(8)` after the name of the chain.
    pub fn append(self, chain: &str, rule: &[&str]) -> Transaction {
        self.rule("-A", chain, rule)
    }

    /// A rule at the beginning of a chain (`-I`).
    pub fn insert(self, chain: &str, rule: &[&str]) -> Transaction {
        self.rule("-I", chain, rule)
    }

    /// Deletes the first rule of a chain that is like this (`-D`), which has to be there.
    pub fn delete(mut self, chain: &str, rule: &[&str]) -> Transaction {
        self.lines.push(line("-D", chain, rule));
        self
    }

    /// Deletes a rule that was [listed](Listing::rules), in its very words.
    pub fn delete_listed(mut self, rule: &str) -> Transaction {
        let rule = rule.strip_prefix("-A").unwrap_or(rule);
        self.lines.push(format!("-D{rule}"));
        self
    }

    /// Deletes a chain with its rules (`-F`, `-X`), which has to be there and to which nothing may jump.
    pub fn del_chain(mut self, chain: &str) -> Transaction {
        self.lines.extend([format!("-F {}", quoted(chain)), format!("-X {}", quoted(chain))]);
        self
    }

    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    fn rule(mut self, verb: &str, chain: &str, rule: &[&str]) -> Transaction {
        self.lines.push(line(verb, chain, rule));
        self.undo_rules.push(line("-D", chain, rule));
        self
    }
}

/// What is in a table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Listing {
    /// The names of its chains.
    pub chains: Vec<String>,
    /// Its rules in their order, as `iptables-save` prints them: `-A POSTROUTING -s 10.1.2.3/32 -j CNI-…`.
    pub rules: Vec<String>,
}

impl Listing {
    fn read(text: &str) -> Listing {
        let mut listing = Listing::default();
        for line in text.lines() {
            if let Some(chain) = line.strip_prefix(':') {
                listing.chains.extend(chain.split(' ').next().map(str::to_owned));
            } else if line.starts_with("-A ") {
                listing.rules.push(line.to_owned());
            }
        }
        listing
    }
}

fn line(verb: &str, chain: &str, rule: &[&str]) -> String {
    let mut line = format!("{verb} {}", quoted(chain));
    for word in rule {
        // Writing to a string cannot fail.
        let _ = write!(line, " {}", quoted(word));
    }
    line
}

/// A word as `iptables-restore` takes it apart (`add_param_to_argv` in `iptables/xshared.c`).
fn quoted(word: &str) -> String {
    if !word.is_empty() && !word.contains([' ', '\t', '"', '\\', '\'']) {
        return word.to_owned();
    }
    format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\""))
}

#[allow(
    clippy::disallowed_methods,
    reason = "iptables is asked for, and only its own programs can change it"
)]
fn run(program: &Path, arguments: &[&str], input: &str) -> std::io::Result<Output> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // Who does not read to the end has said why, and is asked below.
        let _ = stdin.write_all(input.as_bytes());
    }
    child.wait_with_output()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_they_need_it() {
        assert_eq!(line("-A", "POSTROUTING", &["!", "-d", "224.0.0.0/4"]), "-A POSTROUTING ! -d 224.0.0.0/4");
        let comment = r#"name: "a\b" id: "x""#;
        let expected = r#"-A c --comment "name: \"a\\b\" id: \"x\"" """#;
        assert_eq!(line("-A", "c", &["--comment", comment, ""]), expected);
    }

    #[test]
    fn listings_are_read_without_comments_and_counters() {
        let text = "# Generated\n*nat\n:PREROUTING ACCEPT [0:0]\n:CNI-1 - [0:0]\n-A PREROUTING -j CNI-1\nCOMMIT\n# Done\n";
        let listing = Listing::read(text);
        assert_eq!(listing.chains, ["PREROUTING", "CNI-1"]);
        assert_eq!(listing.rules, ["-A PREROUTING -j CNI-1"]);
    }

    #[test]
    fn programs_that_are_not_there_are_named() {
        let error = Iptables::find(Protocol::Ipv6, ["/no/such", "/nor/such"]).unwrap_err();
        assert!(error.is_gone());
        assert_eq!(
            error.to_string(),
            "find ip6tables: neither ip6tables-restore nor ip6tables-save is in /no/such:/nor/such"
        );
    }
}
