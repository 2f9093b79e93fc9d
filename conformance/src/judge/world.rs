//! What is there after an execution: lines of a snapshot, files, what commands say, and whether a result tells the
//! truth.

use std::path::Path;

use cni_linux::testing::Snapshot;
use serde_json::{Value, json};

use super::differs;
use crate::case::{Change, Expect, Packet, ShellCommand, Since};
use crate::commands::tree;
use crate::names::Names;
use crate::packets;
use crate::pattern::{Mismatch, matches_text, mismatches};
use crate::stage::{Picture, Place, Stage};

/// The most lines that are shown where one was looked for.
const MOST: usize = 12;

/// Everything around the plugin that is not as expected.
pub(crate) fn judge_world(
    expect: &Expect,
    start: &Picture,
    before: &Picture,
    after: &Picture,
) -> Vec<Mismatch> {
    let from = match expect.changes.since {
        Since::Start => start,
        Since::Step => before,
    };
    let mut found = Vec::new();
    for (place, change, state) in [
        (Place::Container, &expect.changes.container, &expect.state.container),
        (Place::Host, &expect.changes.host, &expect.state.host),
        (Place::Other, &expect.changes.other, &expect.state.other),
    ] {
        if let (Some(before), Some(after)) = (from.of(place), after.of(place)) {
            found.extend(judge_change(place, change, before, after));
            found.extend(judge_state(place, state, after));
        }
    }
    found
}

/// What files hold and commands say.
pub(crate) fn judge_surroundings(expect: &Expect, stage: &Stage, names: &Names) -> Vec<Mismatch> {
    let mut found = Vec::new();
    for (path, pattern) in &expect.files {
        let there = tree(Path::new(&names.fill(path)));
        found.extend(mismatches(&names.fill_in(pattern), &there, path));
    }
    found.extend(expect.commands.iter().filter_map(|command| judge_command(command, stage, names)));
    found.extend(expect.packets.iter().filter_map(|packet| judge_packet(packet, stage)));
    found
}

/// Whether what a successful ADD tells is there: interfaces with their MACs, addresses, and routes.
pub(crate) fn judge_truth(result: &Value, after: &Picture, names: &Names) -> Vec<Mismatch> {
    let list = |key: &str| result[key].as_array().cloned().unwrap_or_default();
    let place_of = |interface: &Value| match interface["sandbox"].as_str().unwrap_or_default() {
        "" => Some(Place::Host),
        sandbox if sandbox == names.fill("${container}") => Some(Place::Container),
        sandbox if sandbox == names.fill("${other}") => Some(Place::Other),
        _ => None,
    };
    let mut found = Vec::new();
    let mut told = |place: Option<Place>, line: String| {
        let Some((place, snapshot)) = place.and_then(|place| Some((place, after.of(place)?))) else { return };
        if let Some(mut mismatch) = judge_line(place, &line, snapshot) {
            mismatch.place = format!("{} after what the result tells", mismatch.place);
            found.push(mismatch);
        }
    };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let interfaces = list("interfaces");
    for interface in &interfaces {
        let line = format!("link {}: * mac {}*", text(&interface["name"]), text(&interface["mac"]));
        told(place_of(interface), line);
    }
    for ip in list("ips") {
        let interface =
            ip["interface"].as_u64().and_then(|index| interfaces.get(usize::try_from(index).ok()?));
        let Some(interface) = interface else { continue };
        let line = format!("address of {}: {} *", text(&interface["name"]), text(&ip["address"]));
        told(place_of(interface), line);
    }
    let container =
        interfaces.iter().find_map(|interface| place_of(interface).filter(|place| *place != Place::Host));
    for route in list("routes") {
        told(container, format!("route in table *: {} *", text(&route["dst"])));
    }
    found
}

fn judge_change(place: Place, change: &Change, before: &Snapshot, after: &Snapshot) -> Vec<Mismatch> {
    let patterns = change.lines().iter().map(|line| match line.strip_prefix('?') {
        Some(line) => (line, false),
        None => (line.as_str(), true),
    });
    let patterns: Vec<(&str, bool)> = patterns.collect();
    let lines = before.diff(after);
    let unexpected: Vec<&str> = lines
        .iter()
        .map(String::as_str)
        .filter(|line| !patterns.iter().any(|(pattern, _)| is_like(pattern, line)))
        .collect();
    let missing = patterns
        .iter()
        .filter(|(pattern, required)| *required && !lines.iter().any(|line| is_like(pattern, line)));
    let place = place.to_string();
    let unexpected =
        (!unexpected.is_empty()).then(|| differs(&place, "no such change", &unexpected.join("\n")));
    let missing = missing.map(|(pattern, _)| differs(&place, pattern, "no such change"));
    unexpected.into_iter().chain(missing).collect()
}

fn judge_state(place: Place, lines: &[String], snapshot: &Snapshot) -> Vec<Mismatch> {
    lines.iter().filter_map(|line| judge_line(place, line, snapshot)).collect()
}

/// A line that must be there, or must not if there is a `!` before it.
fn judge_line(place: Place, line: &str, snapshot: &Snapshot) -> Option<Mismatch> {
    let place = place.to_string();
    if let Some(pattern) = line.strip_prefix('!') {
        let there = snapshot.lines().iter().find(|line| is_like(pattern, line))?;
        return Some(differs(&place, &format!("no {pattern}"), there));
    }
    if snapshot.lines().iter().any(|there| is_like(line, there)) {
        return None;
    }
    // What begins alike is what was meant, or what is there instead.
    let subject = line.split_once(':').map_or(line, |(subject, _)| subject);
    let kind = subject.split_once(' ').map_or(subject, |(kind, _)| kind);
    let starting = |with: &str| -> Vec<&str> {
        let alike = snapshot.lines().iter().filter(|line| line.starts_with(with));
        alike.map(String::as_str).take(MOST).collect()
    };
    let alike = Some(starting(subject)).filter(|lines| !lines.is_empty()).unwrap_or_else(|| starting(kind));
    let got = if alike.is_empty() { format!("no {kind} at all") } else { alike.join("\n") };
    Some(differs(&place, line, &got))
}

fn judge_command(command: &ShellCommand, stage: &Stage, names: &Names) -> Option<Mismatch> {
    let lines = [
        (Place::Host, &command.host),
        (Place::Container, &command.container),
        (Place::Other, &command.other),
    ];
    let (place, line) = lines.into_iter().find_map(|(place, line)| Some((place, line.as_ref()?)))?;
    let title = format!("{place}: {line}");
    match (stage.shell(place, &names.fill(line)), command.fails, &command.prints) {
        (Ok(printed), true, _) => Some(differs(&title, "it fails", &format!("it prints {printed:?}"))),
        (Err(problem), false, _) => Some(differs(&title, "it succeeds", &problem)),
        (Ok(printed), false, Some(pattern)) => {
            let pattern = names.fill_in(pattern);
            let printed = printed.trim_end();
            (!matches_text(&pattern, printed)).then(|| differs(&title, &shown(&pattern), printed))
        }
        _ => None,
    }
}

fn judge_packet(packet: &Packet, stage: &Stage) -> Option<Mismatch> {
    let title = format!("a packet from {} to {} of {}", packet.from, packet.address, packet.to);
    let arrives = |from: &str| format!("it arrives, from {from}");
    let lost = || "it does not arrive".to_owned();
    let expected = packet.seen_as.as_deref().map_or_else(lost, arrives);
    let got = match packets::send(packet, stage) {
        Ok(from) => from.map_or_else(lost, |from| arrives(&from.to_string())),
        Err(problem) => problem,
    };
    (expected != got).then(|| differs(&title, &expected, &got))
}

/// A pattern without the quotes of JSON, where it is a text.
fn shown(pattern: &Value) -> String {
    pattern.as_str().map_or_else(|| pattern.to_string(), str::to_owned)
}

fn is_like(pattern: &str, line: &str) -> bool {
    matches_text(&json!({ "$like": pattern }), line)
}
