//! `ferrocni add`: attaches a container to a network, and shows what it got.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cni_spec::{AddResult, Dns, NetworkConfig};
use libcni::{Added, Attachment, Cni};

use super::failure::{Failure, Result};
use super::output::{FAINT, HEAD, Line, Output, Table, milliseconds};
use super::target::{AttachmentArgs, NetworkArgs};

/// Attach a container to a network (ADD)
#[derive(Debug, clap::Args)]
#[command(
    after_help = "On a terminal the result is a table, else it is the result document.\n\nExamples:\n  \
    ferrocni add podnet --netns /run/netns/blue\n  \
    ferrocni add ./10-podnet.conflist --netns blue --arg IP=10.1.2.3 --json"
)]
pub(crate) struct Add {
    #[command(flatten)]
    network: NetworkArgs,

    #[command(flatten)]
    attachment: AttachmentArgs,

    /// Print the result document even on a terminal
    #[arg(long)]
    json: bool,
}

/// The plugins that have run, and how long each took.
pub(crate) type Times = Arc<Mutex<Vec<(String, Duration)>>>;

impl Add {
    pub(crate) fn run(&self, out: &mut Output) -> Result<()> {
        let net = self.network.load()?;
        let attachment = self.attachment.resolve(true)?;
        let times = Times::default();
        let cni = self.network.cni().observe({
            let times = Arc::clone(&times);
            move |step| {
                let mut times = times.lock().unwrap_or_else(PoisonError::into_inner);
                times.push((step.plugin_type.to_owned(), step.duration));
            }
        });
        let start = Instant::now();
        let added =
            cni.add(&net, &attachment).map_err(|e| Failure::of_network(&e, &net, Some(&attachment)))?;
        let whole = start.elapsed();
        let told = if self.json || !out.is_terminal {
            out.text(document(&added) + "\n")
        } else {
            let title = Line::styled(HEAD, &attachment.ifname)
                .and(format!(" of container {} is attached to ", attachment.container_id))
                .and_styled(HEAD, &net.name);
            let tables = describe(&added.result, &attachment);
            let took = took(whole, &times.lock().unwrap_or_else(PoisonError::into_inner));
            out.lines([vec![title], tables, vec![Line::default(), took]].concat())
        };
        told.map_err(|failure| undone(failure, &cni, &net, &attachment))
    }
}

/// An ADD whose result nobody got: as nobody knows of the attachment, nobody would detach it. Plugins do the same.
pub(crate) fn undone(untold: Failure, cni: &Cni, net: &NetworkConfig, attachment: &Attachment) -> Failure {
    match cni.del(net, attachment) {
        Ok(()) => untold.details("the container was detached again, for nobody has the result"),
        Err(e) => untold.details(format!("nobody has the result, and detaching the container failed: {e}")),
    }
}

fn took(whole: Duration, each: &[(String, Duration)]) -> Line {
    let each: Vec<String> =
        each.iter().map(|(plugin, time)| format!("{plugin} {}", milliseconds(*time))).collect();
    Line::from(format!("took {} ", milliseconds(whole))).and_styled(FAINT, format!("({})", each.join(", ")))
}

/// The result as the reference prints it: in the version that the last plugin wrote.
pub(crate) fn document(added: &Added) -> String {
    added.result.encode(added.version).unwrap_or_else(|_| added.document.get().to_owned())
}

/// A result as tables.
fn describe(result: &AddResult, attachment: &Attachment) -> Vec<Line> {
    let mut interfaces = Table::new(["INTERFACE", "WHERE", "MAC", "MTU", "DEVICE"]);
    for interface in &result.interfaces {
        let place = match interface.sandbox.as_str() {
            "" => "host",
            sandbox if sandbox == attachment.netns => "container",
            other => other,
        };
        let mtu = if interface.mtu == 0 { String::new() } else { interface.mtu.to_string() };
        let device = [interface.pci_id.as_str(), interface.socket_path.as_str()].join(" ").trim().to_owned();
        interfaces.row([interface.name.clone(), place.to_owned(), interface.mac.clone(), mtu, device]);
    }
    let mut addresses = Table::new(["ADDRESS", "INTERFACE", "GATEWAY"]);
    for ip in &result.ips {
        let interface = result.interface_of(ip).map(|i| i.name.clone()).unwrap_or_default();
        addresses.row([ip.address.to_string(), interface, or_empty(ip.gateway)]);
    }
    let mut routes = Table::new(["ROUTE", "VIA", "METRIC", "TABLE", "MTU"]);
    for route in &result.routes {
        let number = |n: u32| if n == 0 { String::new() } else { n.to_string() };
        let table = route.table.map(|t| t.to_string()).unwrap_or_default();
        routes.row([
            route.dst.to_string(),
            or_empty(route.gw),
            number(route.priority),
            table,
            number(route.mtu),
        ]);
    }
    let mut lines = Vec::new();
    for table in [interfaces, addresses, routes].iter().filter(|table| !table.is_empty()) {
        lines.push(Line::default());
        lines.extend(table.lines());
    }
    lines.extend(describe_dns(&result.dns));
    lines
}

fn describe_dns(dns: &Dns) -> Vec<Line> {
    if dns.is_empty() {
        return Vec::new();
    }
    let mut table = Table::new(["DNS", "DOMAIN", "SEARCH", "OPTIONS"]);
    table.row([
        dns.nameservers.join(", "),
        dns.domain.clone(),
        dns.search.join(", "),
        dns.options.join(", "),
    ]);
    std::iter::once(Line::default()).chain(table.lines()).collect()
}

fn or_empty<T: ToString>(value: Option<T>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use cni_spec::{Interface, IpConfig, Route};

    #[test]
    fn a_result_is_a_few_tables() {
        let interface = |name: &str, sandbox: &str| Interface {
            name: name.into(),
            sandbox: sandbox.into(),
            mac: "02:00:00:00:00:01".into(),
            ..Interface::default()
        };
        let mut route = Route::to("0.0.0.0/0".parse().unwrap());
        route.gw = Some("10.1.0.1".parse().unwrap());
        let result = AddResult {
            dns: Dns { nameservers: vec!["10.1.0.1".into()], ..Dns::default() },
            interfaces: vec![interface("cni0", ""), interface("eth0", "/run/netns/blue")],
            ips: vec![IpConfig {
                address: "10.1.0.2/16".parse().unwrap(),
                gateway: Some("10.1.0.1".parse().unwrap()),
                interface: Some(1),
            }],
            routes: vec![route],
        };
        let attachment = Attachment { netns: "/run/netns/blue".into(), ..Attachment::default() };
        let lines = describe(&result, &attachment);
        let text = lines.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        assert_eq!(
            anstream::adapter::strip_str(&text).to_string(),
            "\nINTERFACE  WHERE      MAC\n\
             cni0       host       02:00:00:00:00:01\n\
             eth0       container  02:00:00:00:00:01\n\
             \nADDRESS      INTERFACE  GATEWAY\n\
             10.1.0.2/16  eth0       10.1.0.1\n\
             \nROUTE      VIA\n\
             0.0.0.0/0  10.1.0.1\n\
             \nDNS\n\
             10.1.0.1"
        );
    }
}
