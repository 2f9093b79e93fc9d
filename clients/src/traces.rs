//! What networks leave on a host: links, addresses, routes, firewall rules, reservations, cached results, namespaces.
//!
//! Taken before and after, and compared line by line. What is shared and stays (a bridge, tables and chains) is made
//! by an earlier container, so that it is there both times.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::command::{Result, run, until};

/// What was not there before, and what is there no more.
const LEFT: &str = "left:";
const LOST: &str = "lost:";

/// A namespace takes its links with it only some time after it has gone.
const REST: Duration = Duration::from_millis(500);

/// All of it, a line each, sorted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Traces(Vec<String>);

impl Traces {
    pub(crate) fn take() -> Result<Traces> {
        let mut lines = Vec::new();
        for line in run(&["ip", "-o", "link"])?.lines() {
            // 4: veth0@if2: <…
            let name = line.split(": ").nth(1).unwrap_or(line);
            lines.push(format!("link {}", name.split('@').next().unwrap_or(name)));
        }
        for line in run(&["ip", "-o", "address", "show", "scope", "global"])?.lines() {
            let mut words = line.split_whitespace().skip(1);
            let (device, address) = (words.next().unwrap_or(""), words.nth(1).unwrap_or(""));
            lines.push(format!("address {address} on {device}"));
        }
        for family in ["-4", "-6"] {
            let routes = run(&["ip", family, "route"])?;
            let routes = routes.lines().filter(|line| !line.starts_with("fe80:"));
            // A bridge without ports has no carrier.
            lines.extend(routes.map(|line| format!("route {}", line.replace(" linkdown", "").trim())));
        }
        rules(&run(&["nft", "--stateless", "list", "ruleset"])?, &mut lines);
        for dir in ["/var/lib/cni", "/run/cni", "/run/netns"] {
            files(Path::new(dir), &mut lines);
        }
        lines.sort();
        Ok(Traces(lines))
    }

    /// Takes them when nothing changes any more.
    pub(crate) fn at_rest() -> Result<Traces> {
        until(|| {
            let traces = Traces::take()?;
            std::thread::sleep(REST);
            let difference = traces.against(&Traces::take()?);
            if difference.is_empty() { Ok(traces) } else { Err(difference.concat()) }
        })
    }

    /// Waits until everything is as it was here.
    pub(crate) fn are_back(&self) -> Result<()> {
        self.are_back_but(|_| false)
    }

    /// The same, leaving out some lines.
    pub(crate) fn are_back_but(&self, left_out: impl Fn(&str) -> bool) -> Result<()> {
        until(|| {
            let mut difference = self.against(&Traces::take()?);
            difference.retain(|line| !left_out(line));
            if difference.is_empty() { Ok(()) } else { Err(difference.concat()) }
        })
    }

    /// What has come and what has gone since.
    fn against(&self, now: &Traces) -> Vec<String> {
        let only = |mark: &str, these: &Traces, those: &Traces| -> Vec<String> {
            let missing = these.0.iter().filter(|line| !those.0.contains(line));
            missing.map(|line| format!("{mark} {line}\n")).collect()
        };
        [only(LEFT, now, self), only(LOST, self, now)].concat()
    }

    /// Whether a line begins so.
    pub(crate) fn mention(&self, beginning: &str) -> bool {
        self.0.iter().any(|line| line.starts_with(beginning))
    }
}

/// Whether a line of a difference is about what the reference cannot know of: rules, and host-local's index beside the
/// reservations.
pub(crate) fn is_ours_alone(line: &str) -> bool {
    line.contains(": rule ") || line.contains("/.ferrocni/")
}

/// Whether a line of a difference tells of something that is there no more.
pub(crate) fn is_lost(line: &str) -> bool {
    line.starts_with(LOST)
}

/// Each rule and each element of a set with its table, so that it can be told from its like.
fn rules(ruleset: &str, lines: &mut Vec<String>) {
    let (mut table, mut in_elements) = ("", false);
    for line in ruleset.lines() {
        if line.starts_with("table ") {
            table = line.trim_end_matches(" {");
        }
        let line = line.trim();
        in_elements |= line.starts_with("elements = {");
        let mut quoted = false;
        let ends = |char| {
            quoted ^= char == '"';
            in_elements && !quoted && char == ','
        };
        let elements = line.trim_start_matches("elements = {").split(ends);
        let elements =
            elements.map(|element| if in_elements { element.trim_end_matches('}') } else { element });
        let elements = elements.map(str::trim).filter(|element| !element.is_empty());
        lines.extend(elements.map(|element| format!("rule {table}: {element}")));
        in_elements &= !line.ends_with('}');
    }
}

fn files(dir: &Path, lines: &mut Vec<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            files(&entry.path(), lines);
        } else {
            lines.push(format!("file {}", entry.path().display()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traces(ruleset: &str) -> Traces {
        let mut lines = Vec::new();
        rules(ruleset, &mut lines);
        Traces(lines)
    }

    #[test]
    fn an_element_that_is_left_is_named_with_its_table() {
        let table = |elements| traces(&format!("table inet t {{\n\tset s {{\n\t\t{elements}\n\t}}\n}}\n"));
        let before = table("elements = { 10.0.0.2, 10.0.0.3 }");
        let after = table("elements = { 10.0.0.4 comment \"a, b\",\n\t\t\t     10.0.0.2 }");
        assert_eq!(
            before.against(&after),
            ["left: rule table inet t: 10.0.0.4 comment \"a, b\"\n", "lost: rule table inet t: 10.0.0.3\n"]
        );
        assert!(before.against(&before).is_empty());
        assert!(is_ours_alone(&before.against(&after)[0]) && is_lost(&before.against(&after)[1]));
    }

    #[test]
    fn a_rule_moved_to_another_table_is_noticed() {
        let (ip, ip6) = (traces("table ip t {\n\taccept\n}\n"), traces("table ip6 t {\n\taccept\n}\n"));
        assert_ne!(ip.against(&ip6), Vec::<String>::new());
    }
}
