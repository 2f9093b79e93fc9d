//! A picture of what was made: a box for each container, a box for the host, and what joins them.
//!
//! It looks ([`Place::look`]) and draws ([`draw`]); it judges nothing.

use std::net::IpAddr;

use cni_linux::{Link, Netns};
use serde::Serialize;

use super::trace::is_automatic;
use crate::cli::failure::{Failure, Result};
use crate::cli::output::visible;

/// The host, or a container, and the interfaces in it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Place {
    name: String,
    interfaces: Vec<Interface>,
}

#[derive(Debug, Clone, Default, Serialize)]
struct Interface {
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    mac: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    addresses: Vec<String>,
    /// The bridge or VRF that it is a port of.
    #[serde(skip_serializing_if = "String::is_empty")]
    controller: String,
    #[serde(skip)]
    index: u32,
    /// The number of the other end, or of the link that it sits on.
    #[serde(skip)]
    peer: Option<u32>,
}

impl Place {
    /// Looks at a namespace. The loopback interface is everywhere, and says nothing.
    pub(super) fn look(name: &str, netns: &Netns) -> Result<Place> {
        let failed = |e: cni_linux::Error| Failure::new(e.to_string());
        let links = netns.links().map_err(failed)?;
        let mut interfaces = Vec::new();
        for link in links.iter().filter(|link| !link.is_loopback()) {
            let addresses = netns.addresses(link).map_err(failed)?;
            let addresses = addresses.iter().filter(|address| !is_automatic(address));
            let addresses = addresses.map(|address| address.net.to_string()).collect();
            interfaces.push(Interface::new(link, &links, addresses));
        }
        Ok(Place { name: name.to_owned(), interfaces })
    }

    /// The address that this place has, and by which who has `gateway` reaches it.
    pub(super) fn has(&self, gateway: IpAddr) -> bool {
        let gateway = gateway.to_string();
        let mut addresses = self.interfaces.iter().flat_map(|interface| &interface.addresses);
        addresses.any(|address| address.split('/').next() == Some(&gateway))
    }
}

impl Interface {
    fn new(link: &Link, links: &[Link], addresses: Vec<String>) -> Interface {
        let controller = links.iter().find(|other| Some(other.index) == link.controller());
        Interface {
            name: visible(&link.name),
            kind: link.kind().unwrap_or_default().to_owned(),
            mac: link.mac().map(|mac| mac.to_string()).unwrap_or_default(),
            addresses,
            controller: controller.map(|other| visible(&other.name)).unwrap_or_default(),
            index: link.index,
            peer: link.peer(),
        }
    }

    /// The other end of a pair, in a place that is another namespace.
    fn other_end<'a>(&self, place: &'a Place) -> Option<&'a Interface> {
        let pair = |other: &&Interface| other.kind == "veth" && other.peer == Some(self.index);
        self.lower(place).filter(|_| self.kind == "veth").filter(pair)
    }

    /// What it sits on.
    fn lower<'a>(&self, place: &'a Place) -> Option<&'a Interface> {
        place.interfaces.iter().find(|other| Some(other.index) == self.peer)
    }

    /// Its name, and its addresses below.
    fn lines(&self) -> Vec<String> {
        let head = [&self.name, &self.mac].map(String::as_str).join("  ").trim_end().to_owned();
        std::iter::once(head).chain(self.addresses.iter().map(|address| format!("  {address}"))).collect()
    }

    /// The same, and what kind it is.
    fn described(&self) -> Vec<String> {
        let mut lines = self.lines();
        lines[0] = format!("{} {}", self.kind, lines[0]).trim_start().to_owned();
        lines
    }
}

/// A container, and what the host has of it: one below the other.
struct Column {
    /// How far from the left it begins.
    start: usize,
    /// Of what is written in it.
    width: usize,
    title: String,
    inside: Vec<String>,
    outside: Vec<String>,
    /// The ends of its pairs on the host.
    ends: Vec<u32>,
}

impl Column {
    fn new(container: &Place, host: &Place, start: usize) -> Column {
        let (mut outside, mut ends) = (Vec::new(), Vec::new());
        for interface in &container.interfaces {
            if let Some(end) = interface.other_end(host) {
                outside.extend(end.lines());
                outside.extend(
                    Some(&end.controller).filter(|name| !name.is_empty()).map(|c| format!("  port of {c}")),
                );
                ends.push(end.index);
            } else if let Some(lower) = interface.lower(host) {
                outside.push(format!("{} on {}", interface.kind, lower.name));
            }
        }
        let title = format!(" container {} ", container.name);
        let inside: Vec<String> = container.interfaces.iter().flat_map(Interface::lines).collect();
        let width = widest(&inside).max(widest(&outside)).max(title.len() + JOINT);
        Column { start, width, title, inside, outside, ends }
    }

    /// The container's box.
    fn lines(&self) -> Vec<String> {
        let joint = if self.outside.is_empty() { vec![] } else { vec![(JOINT, '┬')] };
        let mut lines = vec![border(['┌', '┐'], self.width, &self.title, &[])];
        lines.extend(self.inside.iter().map(|line| row(line, self.width)));
        lines.push(border(['└', '┘'], self.width, "", &joint));
        lines
    }
}

/// Where a box is joined to the one below, from its left.
const JOINT: usize = 3;
/// What a box has around what is written in it: two lines, two blanks.
const FRAME: usize = 4;

/// Draws containers side by side, and the host below them. Nothing where the containers have no interfaces.
pub(super) fn draw(host: &Place, containers: &[Place]) -> Vec<String> {
    if containers.iter().all(|container| container.interfaces.is_empty()) {
        return Vec::new();
    }
    let mut columns: Vec<Column> = Vec::new();
    for container in containers {
        let start = columns.last().map_or(0, |last| last.start + last.width + FRAME + 1);
        columns.push(Column::new(container, host, start));
    }
    let mut rows = side_by_side(&columns, |column| column.outside.clone());
    let is_end = |interface: &&Interface| columns.iter().any(|column| column.ends.contains(&interface.index));
    rows.extend(host.interfaces.iter().filter(|interface| !is_end(interface)).flat_map(Interface::described));

    let width = columns.last().map_or(0, |last| last.start + last.width).max(widest(&rows));
    let joined = columns.iter().filter(|column| !column.outside.is_empty());
    let joints: Vec<_> = joined.map(|column| (column.start + JOINT, '┴')).collect();
    let mut picture = side_by_side(&columns, Column::lines);
    picture.push(border(['┌', '┐'], width, " host ", &joints));
    picture.extend(rows.iter().map(|line| row(line, width)));
    picture.push(border(['└', '┘'], width, "", &[]));
    picture
}

/// Lines of all columns, each where its column begins.
fn side_by_side(columns: &[Column], lines: impl Fn(&Column) -> Vec<String>) -> Vec<String> {
    let cells: Vec<Vec<String>> = columns.iter().map(lines).collect();
    let height = cells.iter().map(Vec::len).max().unwrap_or(0);
    let line = |nth: usize| {
        columns.iter().zip(&cells).fold(String::new(), |line, (column, cells)| {
            let cell = cells.get(nth).map_or("", String::as_str);
            format!("{line:width$}{cell}", width = column.start)
        })
    };
    (0..height).map(line).map(|line| line.trim_end().to_owned()).collect()
}

/// The upper or lower border of a box, with a title and joints.
fn border(corners: [char; 2], width: usize, title: &str, joints: &[(usize, char)]) -> String {
    let mut line = vec!['─'; width + FRAME];
    (line[0], line[width + FRAME - 1]) = (corners[0], corners[1]);
    for (place, c) in line[JOINT + 2..].iter_mut().zip(title.chars()) {
        *place = c;
    }
    joints.iter().for_each(|&(at, c)| line[at] = c);
    line.into_iter().collect()
}

fn row(line: &str, width: usize) -> String {
    format!("│ {line:width$} │")
}

fn widest(lines: &[String]) -> usize {
    lines.iter().map(|line| line.chars().count()).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(index: u32, name: &str, kind: &str, addresses: &[&str]) -> Interface {
        let addresses = addresses.iter().map(|&a| a.to_owned()).collect();
        let mac = format!("02:00:00:00:00:{index:02x}");
        Interface { name: name.into(), kind: kind.into(), mac, addresses, index, ..Interface::default() }
    }

    fn place(name: &str, interfaces: Vec<Interface>) -> Place {
        Place { name: name.into(), interfaces }
    }

    #[test]
    fn ports_of_a_bridge_stand_below_their_containers() {
        let port = |index, name: &str| Interface {
            peer: Some(2),
            controller: "cni0".into(),
            ..interface(index, name, "veth", &[])
        };
        let host = place(
            "host",
            vec![
                interface(3, "cni0", "bridge", &["10.88.0.1/16", "fd00::1/64"]),
                port(4, "veth1"),
                port(5, "veth2"),
            ],
        );
        let eth0 = |peer, address| Interface { peer: Some(peer), ..interface(2, "eth0", "veth", &[address]) };
        let containers =
            [place("one", vec![eth0(4, "10.88.0.2/16")]), place("two", vec![eth0(5, "10.88.0.3/16")])];
        let expected = [
            "┌──── container one ───────┐ ┌──── container two ───────┐",
            "│ eth0  02:00:00:00:00:02  │ │ eth0  02:00:00:00:00:02  │",
            "│   10.88.0.2/16           │ │   10.88.0.3/16           │",
            "└──┬───────────────────────┘ └──┬───────────────────────┘",
            "┌──┴─ host ─────────────────────┴───────────────────────┐",
            "│ veth1  02:00:00:00:00:04     veth2  02:00:00:00:00:05 │",
            "│   port of cni0                 port of cni0           │",
            "│ bridge cni0  02:00:00:00:00:03                        │",
            "│   10.88.0.1/16                                        │",
            "│   fd00::1/64                                          │",
            "└───────────────────────────────────────────────────────┘",
        ];
        assert_eq!(draw(&host, &containers).join("\n"), expected.join("\n"));
    }

    #[test]
    fn what_sits_on_a_link_of_the_host_says_so_and_what_is_not_joined_is_not() {
        let host = place("host", vec![interface(7, "ens3", "", &["192.0.2.1/24"])]);
        let containers = [
            place("one", vec![Interface { peer: Some(7), ..interface(2, "eth0", "macvlan", &[]) }]),
            place("two", vec![interface(2, "tap0", "tun", &[])]),
        ];
        let picture = draw(&host, &containers);
        assert!(picture.iter().any(|line| line.starts_with("│ macvlan on ens3 ")), "{picture:#?}");
        assert_eq!(picture.concat().matches('┴').count(), 1, "{picture:#?}");
        let width = picture[0].chars().count();
        assert!(picture.iter().all(|line| line.chars().count() == width), "{picture:#?}");
    }

    #[test]
    fn loopback_alone_is_not_worth_a_picture() {
        assert!(draw(&place("host", vec![]), &[place("one", vec![])]).is_empty());
    }
}
