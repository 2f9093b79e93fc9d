//! What a trial shows: a line for each event as it happens, or one JSON document at the end.

use std::net::IpAddr;
use std::time::Duration;

use anstyle::Style;
use cni_spec::{AddResult, NetworkConfig};
use libcni::Added;
use serde::Serialize;
use serde_json::Value;

use super::picture::{self, Place};
use super::trace::Traces;
use super::traffic::Echo;
use crate::cli::failure::{Failure, Result};
use crate::cli::output::{BAD, FAINT, GOOD, HEAD, Line, Output, milliseconds};

/// Shows events.
pub(super) struct Report<'a> {
    out: &'a mut Output,
    as_json: bool,
    document: Document,
    /// Of the verb whose event comes next.
    timing: Option<Timing>,
}

/// Everything that has happened.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    network: String,
    cni_version: String,
    plugins: Vec<String>,
    steps: Vec<Event>,
    #[serde(skip_serializing_if = "Option::is_none")]
    topology: Option<Topology>,
    /// What a network keeps for its next container.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    kept: Vec<String>,
    /// What was still there after a failure.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    left: Vec<String>,
    ok: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    error: String,
}

/// Something that has happened.
#[derive(Debug, Serialize)]
pub(super) struct Event {
    step: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    container: &'static str,
    #[serde(flatten)]
    timing: Option<Timing>,
    /// What came of it, in a few words.
    said: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Value>,
}

/// What joins the containers and the host.
#[derive(Debug, Serialize)]
struct Topology {
    host: Place,
    containers: Vec<Place>,
}

/// How long a verb took, and each of its plugins.
#[derive(Debug, Serialize)]
struct Timing {
    milliseconds: Milliseconds,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    plugins: Vec<PluginTime>,
}

#[derive(Debug, Serialize)]
struct PluginTime {
    r#type: String,
    milliseconds: Milliseconds,
}

/// A duration that is written as milliseconds with three decimals.
#[derive(Debug, Clone, Copy)]
struct Milliseconds(Duration);

impl Serialize for Milliseconds {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0.as_micros() as f64 / 1e3)
    }
}

impl Event {
    /// A verb that has nothing else to say.
    pub(super) fn said(step: &'static str, container: &'static str, said: &str) -> Event {
        Event { step, container, timing: None, said: said.into(), result: None }
    }

    /// A step for which there was no reason.
    pub(super) fn skipped(step: &'static str, why: &str) -> Event {
        Event::said(step, "", &format!("left out: {why}"))
    }

    /// A container was attached; its namespace is at `netns`.
    pub(super) fn added(container: &'static str, added: &Added, netns: &str) -> Event {
        let said = describe(&added.result, netns);
        Event {
            result: serde_json::from_str(added.document.get()).ok(),
            ..Event::said("ADD", container, &said)
        }
    }

    /// A packet went there and came back.
    pub(super) fn sent(from: &'static str, to: &str, address: IpAddr, echo: &Echo) -> Event {
        let whose = match to {
            _ if from == to => "itself",
            "host" => "the host",
            container => container,
        };
        let said = format!("{} bytes to {whose} at {address} and back", echo.bytes);
        let timing = Some(Timing { milliseconds: Milliseconds(echo.took), plugins: Vec::new() });
        Event { timing, ..Event::said("SEND", from, &said) }
    }
}

impl<'a> Report<'a> {
    pub(super) fn new(out: &'a mut Output, as_json: bool) -> Report<'a> {
        Report { out, as_json, document: Document::default(), timing: None }
    }

    /// Says what will be tried.
    pub(super) fn start(&mut self, net: &NetworkConfig) -> Result<()> {
        self.document.network.clone_from(&net.name);
        self.document.cni_version.clone_from(&net.cni_version);
        self.document.plugins = net.plugins.iter().map(|p| p.common.plugin_type.clone()).collect();
        let (name, version) = (&net.name, &net.cni_version);
        let plugins = self.document.plugins.join(", ");
        let what = format!(": {plugins}; cniVersion {version}");
        self.line(Line::styled(HEAD, format!("network {name}")).and(what))?;
        self.line(Line::styled(FAINT, "in namespaces of its own: nothing on this host is touched"))?;
        self.line("")
    }

    /// How long the verb took whose event comes next.
    pub(super) fn timed(&mut self, whole: Duration, each: Vec<(String, Duration)>) {
        let plugins = each
            .into_iter()
            .map(|(plugin, time)| PluginTime { r#type: plugin, milliseconds: Milliseconds(time) });
        self.timing = Some(Timing { milliseconds: Milliseconds(whole), plugins: plugins.collect() });
    }

    /// Shows an event.
    pub(super) fn event(&mut self, event: Event) -> Result<()> {
        self.show(event, Style::new())
    }

    fn show(&mut self, mut event: Event, style: Style) -> Result<()> {
        event.timing = event.timing.or(self.timing.take());
        let time = event.timing.as_ref().map(|t| milliseconds(t.milliseconds.0)).unwrap_or_default();
        let each = event.timing.as_ref().map(|t| each(&t.plugins)).unwrap_or_default();
        let Event { step, container, said, .. } = &event;
        let line = Line::styled(HEAD, format!("{step:<5}"))
            .and(format!("  {container:<4}  {time:>9}  "))
            .and_styled(style, said)
            .and_styled(FAINT, each);
        self.document.steps.push(event);
        self.line(line)
    }

    /// Shows what joins the containers and the host.
    pub(super) fn topology(&mut self, host: Place, containers: Vec<Place>) -> Result<()> {
        let picture = picture::draw(&host, &containers);
        if picture.is_empty() {
            return Ok(());
        }
        self.document.topology = Some(Topology { host, containers });
        self.line("")?;
        picture.into_iter().try_for_each(|line| self.line(line))?;
        self.line("")
    }

    /// Shows that a step failed; why comes at the end.
    pub(super) fn failed(&mut self, step: &'static str, container: &'static str) {
        // If this cannot be written, the failure itself will say so.
        let _ = self.show(Event::said(step, container, "failed"), BAD);
    }

    /// Says that nothing is left, having looked.
    pub(super) fn clean(&mut self, before: &Traces) -> Result<()> {
        let summary = before.summary();
        let left = format!(", and nothing is left: {summary} on the host, as before");
        self.line("")?;
        self.line(Line::styled(GOOD, "it works").and(left))
    }

    /// Says that nothing is left of the containers, and what their network keeps for the next.
    pub(super) fn kept(&mut self, kept: &[String]) -> Result<()> {
        self.document.kept = kept.to_vec();
        let left = ", and nothing is left of the containers; for the next one the network keeps:";
        self.line("")?;
        self.line(Line::styled(GOOD, "it works").and(left))?;
        kept.iter().try_for_each(|line| self.line(format!("  {line}")))?;
        self.line(Line::styled(FAINT, "(a third container came and went, and it became no more)"))
    }

    /// Notes what was there after a failure, for who reads JSON.
    pub(super) fn still_there(&mut self, left: &[String]) {
        self.document.left = left.to_vec();
    }

    /// The end, good or bad.
    pub(super) fn finish(mut self, outcome: Result<()>) -> Result<()> {
        self.document.ok = outcome.is_ok();
        if let Err(failure) = &outcome {
            failure.what().clone_into(&mut self.document.error);
        }
        let told = if self.as_json {
            self.out.json(&self.document)
        } else if outcome.is_err() && !self.document.steps.is_empty() {
            self.line("")
        } else {
            Ok(())
        };
        outcome.and(told)
    }

    fn line(&mut self, line: impl Into<Line>) -> Result<()> {
        if self.as_json { Ok::<(), Failure>(()) } else { self.out.line(line) }
    }
}

/// What each plugin took, where there are several.
fn each(plugins: &[PluginTime]) -> String {
    if plugins.len() < 2 {
        return String::new();
    }
    let each: Vec<String> =
        plugins.iter().map(|p| format!("{} {}", p.r#type, milliseconds(p.milliseconds.0))).collect();
    format!("  ({})", each.join(", "))
}

/// The interfaces of a result, those in the container with their addresses.
fn describe(result: &AddResult, netns: &str) -> String {
    let (inside, outside): (Vec<_>, Vec<_>) = result.interfaces.iter().partition(|i| i.sandbox == netns);
    let mut parts: Vec<String> = Vec::new();
    for interface in inside {
        let addresses = result.ips.iter().filter(|ip| result.interface_of(ip) == Some(interface));
        let addresses: Vec<String> = addresses.map(|ip| format!(" {}", ip.address)).collect();
        parts.push(format!("{}{}", interface.name, addresses.concat()));
    }
    let homeless = result.ips.iter().filter(|ip| result.interface_of(ip).is_none());
    parts.extend(homeless.map(|ip| ip.address.to_string()));
    if !outside.is_empty() {
        let names: Vec<&str> = outside.iter().map(|interface| interface.name.as_str()).collect();
        parts.push(format!("{} on the host", names.join(" ")));
    }
    if parts.is_empty() { "attached, with nothing to show".into() } else { parts.join(", ") }
}
