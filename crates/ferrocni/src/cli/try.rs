//! `ferrocni try`: a network at work, without root and without traces. Two containers are attached and checked, a packet
//! goes through, they are detached, and what is there afterwards is compared with what was there before.
//!
//! Everything happens in a [`Room`] of its own; this file has the order of events, [`Report`] shows them.

mod picture;
mod report;
mod room;
mod trace;
mod traffic;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cni_linux::Netns;
use cni_spec::{AddResult, Command, NetworkConfig};
use libcni::{Attachment, Cni, Process};

use self::picture::Place;
use self::report::{Event, Report};
use self::room::Room;
use self::trace::Traces;
use super::failure::{Failure, Result};
use super::output::Output;
use super::target::{self, WishArgs};

/// See a network work: two containers, a packet, and no traces; without root
///
/// Makes namespaces of its own, in which it is root and which nobody else sees. There it attaches two containers to
/// the network, checks them, sends a packet, detaches them, and compares what is there with what was there before.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    ferrocni try\n  \
    ferrocni try /etc/cni/net.d/10-podnet.conflist --path /usr/lib/cni")]
pub(crate) struct Try {
    /// A network's name, or the path of its .conflist or .conf file [default: one with bridge and host-local]
    network: Option<String>,

    /// Folders to search for plugins that are not in this binary, separated by ':' [env: CNI_PATH]
    /// [default: /opt/cni/bin]
    #[arg(long, value_name = "DIRS")]
    path: Option<String>,

    /// The interface's name in the containers [env: CNI_IFNAME] [default: eth0]
    #[arg(long, short, value_name = "NAME")]
    ifname: Option<String>,

    #[command(flatten)]
    wishes: WishArgs,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The network that is tried if none is given: containers that reach each other, their host, and the world if it had one.
const BUILT_IN: &str = r#"{
    "cniVersion": "1.1.0", "name": "try",
    "plugins": [{
        "type": "bridge", "bridge": "cni0", "isDefaultGateway": true, "ipMasq": true,
        "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.88.0.0/24"}], [{"subnet": "fd00:88::/64"}]]}
    }]
}"#;
/// The longest that a plugin may take: nobody shall wait for a broken one.
const DEADLINE: Duration = Duration::from_secs(60);

impl Try {
    pub(crate) fn run(&self, out: &mut Output) -> Result<()> {
        let net = match &self.network {
            Some(network) => target::load(network, None)?,
            None => NetworkConfig::parse(BUILT_IN.as_bytes()).map_err(|e| Failure::new(e.to_string()))?,
        };
        let ifname = target::ifname(self.ifname.as_deref());
        let wanted = self.wishes.resolve()?.attachment(String::new(), String::new(), ifname);
        let path = target::plugin_path(self.path.as_deref());

        let mut report = Report::new(out, self.json);
        report.start(&net)?;
        let trial = Room::enter().and_then(|room| Trial::new(&net, room, &path, &wanted));
        let outcome = trial.and_then(|mut trial| trial.run(&mut report));
        report.finish(outcome)
    }
}

/// How long each plugin took for the verb that ran last.
type Times = Arc<Mutex<Vec<(String, Duration)>>>;

/// The network, and who takes part.
struct Trial<'a> {
    net: &'a NetworkConfig,
    cni: Cni,
    times: Times,
    room: Room,
    containers: Vec<Container>,
    /// The host before anything was done.
    before: Traces,
    wanted: &'a Attachment,
}

/// A container: a namespace and what is known of it.
struct Container {
    name: &'static str,
    netns: Netns,
    /// Its namespace before anything was done.
    before: Traces,
    attachment: Attachment,
    result: Option<AddResult>,
}

/// What the host is called in reports.
const HOST: &str = "host";

/// Somebody who can send and receive.
type Party<'a> = (&'static str, &'a Netns);

/// A packet that is to be sent, and to come back.
struct Letter<'a> {
    from: Party<'a>,
    to: Party<'a>,
    address: IpAddr,
}

fn whose(name: &str) -> String {
    if name == HOST { "the host".into() } else { format!("container {name}") }
}

impl Container {
    fn party(&self) -> Party<'_> {
        (self.name, &self.netns)
    }

    fn new(name: &'static str, wanted: &Attachment) -> Result<Container> {
        let failed = |e: cni_linux::Error| Failure::new(e.to_string());
        let netns = Netns::temporary().map_err(failed)?;
        // Once it has been up, the loopback interface keeps 127.0.0.1: that is the kernel's doing, and no trace.
        netns.set_up("lo").and_then(|_| netns.set_down("lo")).map_err(failed)?;
        let path = netns.path().map(|path| path.display().to_string()).unwrap_or_default();
        let attachment = Attachment { container_id: format!("try-{name}"), netns: path, ..wanted.clone() };
        Ok(Container { name, before: Traces::of_container(&netns)?, netns, attachment, result: None })
    }

    /// The addresses that it was given; those of the loopback interface lead nowhere else.
    fn addresses(&self, loopback: bool) -> Vec<IpAddr> {
        let ips = self.result.iter().flat_map(|result| &result.ips).map(|ip| ip.address.addr());
        ips.filter(|ip| ip.is_loopback() == loopback).collect()
    }
}

impl<'a> Trial<'a> {
    fn new(net: &'a NetworkConfig, room: Room, path: &str, wanted: &'a Attachment) -> Result<Trial<'a>> {
        let times = Times::default();
        let dirs = std::iter::once(room.bin.display().to_string()).chain(path.split(':').map(str::to_owned));
        let cni = Cni::new(Process::search(dirs).deadline(DEADLINE)).on_warning(target::warn).observe({
            let times = Arc::clone(&times);
            move |step| {
                let mut times = times.lock().unwrap_or_else(PoisonError::into_inner);
                times.push((step.plugin_type.to_owned(), step.duration));
            }
        });
        let before = Traces::of_host(&room)?;
        let containers = vec![Container::new("one", wanted)?, Container::new("two", wanted)?];
        Ok(Trial { net, cni, times, room, containers, before, wanted })
    }

    /// The order of events. Whatever fails, the containers are detached and what is left is told.
    fn run(&mut self, report: &mut Report<'_>) -> Result<()> {
        self.cni.validate(self.net).map_err(|e| Failure::of_network(&e, self.net, None))?;
        let worked = self
            .attach(report)
            .and_then(|()| self.check(report))
            .and_then(|()| self.picture(report))
            .and_then(|()| self.send(report));
        let detached = self.detach(report);
        match worked.and(detached) {
            Ok(()) => self.compare(report),
            Err(failure) => {
                let left = self.left()?.lines();
                report.still_there(&left);
                let undone = match left.first() {
                    None => "everything that was made has been undone".to_owned(),
                    // It was in namespaces of its own, so that it goes in any case.
                    Some(line) => {
                        format!("the containers were detached; the rest went with the namespaces: {line}, …")
                    }
                };
                Err(failure.details(undone))
            }
        }
    }

    fn attach(&mut self, report: &mut Report<'_>) -> Result<()> {
        for nth in 0..self.containers.len() {
            let attachment = &self.containers[nth].attachment;
            let name = self.containers[nth].name;
            let added = self.verb(report, "ADD", name, |trial| trial.cni.add(trial.net, attachment))?;
            let event = Event::added(name, &added, &attachment.netns);
            // Before it is told, which may fail: what was attached will be detached.
            self.containers[nth].result = Some(added.result);
            report.event(event)?;
        }
        Ok(())
    }

    fn check(&self, report: &mut Report<'_>) -> Result<()> {
        let allowed =
            self.net.version().is_some_and(|v| Command::Check.since().is_some_and(|since| v >= since.into()));
        if !allowed || self.net.disable_check {
            return report
                .event(Event::skipped("CHECK", if allowed { "disableCheck" } else { "an old cniVersion" }));
        }
        for container in &self.containers {
            let name = container.name;
            self.verb(report, "CHECK", name, |trial| trial.cni.check(trial.net, &container.attachment))?;
            report.event(Event::said("CHECK", name, "as ADD left it"))?;
        }
        Ok(())
    }

    /// Shows what joins the containers and the host.
    fn picture(&self, report: &mut Report<'_>) -> Result<()> {
        let host = Place::look(HOST, &self.room.host)?;
        let containers =
            self.containers.iter().map(|c| Place::look(c.name, &c.netns)).collect::<Result<_>>()?;
        report.topology(host, containers)
    }

    /// Sends a packet to every address and has it come back.
    fn send(&self, report: &mut Report<'_>) -> Result<()> {
        let letters = self.letters()?;
        if letters.is_empty() {
            return report.event(Event::skipped("SEND", "no addresses"));
        }
        for Letter { from, to, address } in letters {
            let echo = traffic::echo(from.1, to.1, address).map_err(|e| {
                report.failed("SEND", from.0);
                Failure::new(format!("no packet from {} to {address}: {e}", whose(from.0))).at(format!(
                    "network {}, {}",
                    self.net.name,
                    whose(to.0)
                ))
            })?;
            report.event(Event::sent(from.0, to.0, address, &echo))?;
        }
        Ok(())
    }

    /// Who writes to whom: a container to its own loopback interface, the first to the second, and the first to the host,
    /// which answers where it is the gateway, and back.
    fn letters(&self) -> Result<Vec<Letter<'_>>> {
        let [one, two] = &self.containers[..] else { return Ok(Vec::new()) };
        let host = (HOST, &self.room.host);
        let mut letters = Vec::new();
        for container in [one, two] {
            let (from, to) = (container.party(), container.party());
            letters.extend(container.addresses(true).into_iter().map(|address| Letter { from, to, address }));
        }
        let to_two = two.addresses(false).into_iter();
        letters.extend(to_two.map(|address| Letter { from: one.party(), to: two.party(), address }));
        let place = Place::look(HOST, &self.room.host)?;
        for ip in one.result.iter().flat_map(|result| &result.ips) {
            if let Some(address) = ip.gateway.filter(|gateway| place.has(*gateway)) {
                letters.push(Letter { from: one.party(), to: host, address });
                letters.push(Letter { from: host, to: one.party(), address: ip.address.addr() });
            }
        }
        Ok(letters)
    }

    /// Detaches all, even if one cannot be; the first failure is the one that is told.
    fn detach(&mut self, report: &mut Report<'_>) -> Result<()> {
        let mut outcome = Ok(());
        for nth in 0..self.containers.len() {
            if self.containers[nth].result.take().is_none() {
                continue;
            }
            let Container { name, attachment, .. } = &self.containers[nth];
            let deleted = self.verb(report, "DEL", name, |trial| trial.cni.del(trial.net, attachment));
            let told = deleted.and_then(|()| report.event(Event::said("DEL", name, "detached")));
            outcome = outcome.and(told);
        }
        outcome
    }

    /// Runs a verb, and tells the report how long it took or that it failed.
    fn verb<T>(
        &self,
        report: &mut Report<'_>,
        step: &'static str,
        container: &'static str,
        run: impl FnOnce(&Self) -> std::result::Result<T, libcni::Error>,
    ) -> Result<T> {
        self.take_times();
        let start = Instant::now();
        let outcome = run(self);
        report.timed(start.elapsed(), self.take_times());
        outcome.map_err(|e| {
            report.failed(step, container);
            Failure::of_network(&e, self.net, None).at(format!("{step} of container {container}"))
        })
    }

    fn take_times(&self) -> Vec<(String, Duration)> {
        std::mem::take(&mut *self.times.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Nothing may be left, save what a network keeps on the host for its next container, like a bridge: of that, a
    /// third container that comes and goes must not make more.
    fn compare(&mut self, report: &mut Report<'_>) -> Result<()> {
        let left = self.left()?;
        if left.is_empty() {
            return report.clean(&self.before);
        }
        let leak = |lines: &[String]| {
            Err(Failure::new(format!("the plugins of network {} leave something behind", self.net.name))
                .details(lines.join("\n")))
        };
        let Left { host, gone, containers } = left;
        if !gone.is_empty() || !containers.is_empty() {
            return leak(&[gone, containers].concat());
        }
        let third = Container::new("three", self.wanted)?;
        let come_and_gone = self.cni.add(self.net, &third.attachment);
        let come_and_gone = come_and_gone.and_then(|_| self.cni.del(self.net, &third.attachment));
        come_and_gone.map_err(|e| Failure::of_network(&e, self.net, None).at("a third container"))?;
        let more: Vec<String> =
            self.left()?.lines().into_iter().filter(|line| !host.contains(line)).collect();
        if more.is_empty() { report.kept(&host) } else { leak(&more) }
    }

    /// Everything that is there and was not before, or was and is not any more.
    fn left(&self) -> Result<Left> {
        let (host, gone) = Traces::of_host(&self.room)?.since(&self.before);
        let gone = gone.into_iter().map(|line| format!("{line}: it is gone from the host")).collect();
        let mut containers = Vec::new();
        for Container { name, netns, before, .. } in &self.containers {
            let (more, less) = Traces::of_container(netns)?.since(before);
            containers.extend(more.into_iter().map(|line| format!("{line}, in container {name}")));
            containers
                .extend(less.into_iter().map(|line| format!("{line}: it is gone from container {name}")));
        }
        Ok(Left { host, gone, containers })
    }
}

/// How things differ from what they were before.
struct Left {
    /// What is new on the host.
    host: Vec<String>,
    /// What the host has no longer.
    gone: Vec<String>,
    /// What is not as it was in the containers.
    containers: Vec<String>,
}

impl Left {
    fn is_empty(&self) -> bool {
        self.host.is_empty() && self.gone.is_empty() && self.containers.is_empty()
    }

    fn lines(self) -> Vec<String> {
        [self.host, self.gone, self.containers].concat()
    }
}
