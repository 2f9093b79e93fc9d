//! `ferrocni list`: the plugins in this binary.

use cni_plugins::PLUGINS;
use cni_sdk::Entry;
use cni_spec::Version;
use serde::Serialize;

use super::failure::{Failure, Result};
use super::output::{Output, Table};

/// Show the plugins in this binary, and the versions of the specification that they speak
#[derive(Debug, clap::Args)]
pub(crate) struct List {
    /// Show only this plugin
    name: Option<String>,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A plugin, as it is listed.
#[derive(Serialize)]
struct Row {
    name: &'static str,
    versions: &'static [Version],
    about: &'static str,
}

impl List {
    pub(crate) fn run(&self, out: &mut Output) -> Result<()> {
        let chosen = |entry: &&Entry| self.name.as_ref().is_none_or(|name| name == entry.name);
        let rows: Vec<Row> = PLUGINS
            .iter()
            .filter(chosen)
            .map(|entry| Row { name: entry.name, versions: entry.versions, about: entry.summary })
            .collect();
        match &self.name {
            Some(name) if rows.is_empty() => Err(unknown(name)),
            _ if self.json => out.json(&rows),
            _ => print(&rows, out),
        }
    }
}

fn print(rows: &[Row], out: &mut Output) -> Result<()> {
    let mut table = Table::new(["PLUGIN", "VERSIONS", "WHAT IT DOES"]);
    for row in rows {
        let versions = match row.versions {
            [first, .., last] => format!("{first} to {last}"),
            [only] => only.to_string(),
            [] => String::new(),
        };
        table.row([row.name.into(), versions, row.about.into()]);
    }
    out.lines(table.lines())
}

/// A name that no plugin has.
pub(crate) fn unknown(name: &str) -> Failure {
    let failure = Failure::new(format!("no plugin {name:?} in this binary"));
    match nearest_plugin(name) {
        Some(nearest) => failure.help(format!("did you mean {nearest:?}?")),
        None => failure.help("`ferrocni list` shows what there is"),
    }
}

/// The plugin that `name` was most likely meant to be, if any is near enough.
pub(crate) fn nearest_plugin(name: &str) -> Option<&'static str> {
    libcni::nearest(name, PLUGINS.iter().map(|entry| entry.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_plugin_is_described() {
        let names = PLUGINS.iter().filter(|plugin| plugin.summary.is_empty()).map(|plugin| plugin.name);
        let undescribed: Vec<&str> = names.collect();
        assert!(undescribed.is_empty(), "these have no SUMMARY: {}", undescribed.join(", "));
    }
}
