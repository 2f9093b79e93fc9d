//! What is promised to every client: containers that reach each other, the host and the world, and nothing left,
//! whatever happened in between.

use std::fs;

use crate::command::{Result, run, until};
use crate::machine::{Machine, OUTSIDE, Plugins};
use crate::report::Report;
use crate::traces::{Traces, is_lost, is_ours_alone};

/// The network of the client, the same for all of them: its subnets, and the host's addresses in it.
pub(crate) const SUBNETS: [&str; 2] = ["10.22.0.0/24", "fd00:22::/64"];
const GATEWAYS: [&str; 2] = ["10.22.0.1", "fd00:22::1"];

/// Its name.
pub(crate) const NETWORK: &str = "podnet";

/// Where libcni remembers attachments.
const CACHE: &str = "/var/lib/cni/results";

/// Where host-local keeps reservations.
const RESERVATIONS: &str = "/var/lib/cni/networks";

/// A program that runs containers and calls CNI for them.
pub(crate) trait Client {
    /// Runs a container on the network, and waits until it is there.
    fn start(&mut self, container: &str) -> Result<()>;

    /// Runs a program in the container.
    fn exec(&self, container: &str, line: &[&str]) -> Result<String>;

    /// Ends the container and removes it. What the client complains of is an error.
    fn stop(&mut self, container: &str) -> Result<()>;

    /// Kills the container, and before it whatever of the client would have called DEL; its namespace is gone then.
    fn crash(&mut self, container: &str) -> Result<()>;

    /// Removes what the client itself still knows of a container that has crashed.
    fn forget(&mut self, container: &str) -> Result<()>;

    /// What the container is called in CNI.
    fn id(&self, container: &str) -> Result<String>;

    /// What the client says of the container's network, as text.
    fn inspect(&self, container: &str) -> Result<String>;
}

/// A client on its machine, and what came of its promises.
pub(crate) struct Play<'a> {
    pub(crate) client: &'a mut dyn Client,
    pub(crate) machine: &'a Machine,
    pub(crate) report: &'a mut Report,
}

impl Play<'_> {
    /// All of them. What stops one stops those after it.
    pub(crate) fn all(&mut self) -> Result<()> {
        // Makes what is shared and stays.
        self.client.start("first").and_then(|()| self.client.stop("first"))?;
        self.life()?;
        self.crashes()?;
        if self.machine.has(Plugins::Reference, "bridge") {
            self.upgrade()
        } else {
            self.report.skipped("upgrade and roll back", "there are no reference plugins");
            Ok(())
        }
    }

    fn life(&mut self) -> Result<()> {
        let before = Traces::at_rest()?;
        let started = self.client.start("a").and_then(|()| self.client.start("b"));
        let seen = started.and_then(|()| Ok((self.addresses("a")?, self.addresses("b")?)));
        let promise = "two containers start, each with an address of both families";
        let (a, b) = self.report.promise(promise, seen).ok_or("there is nothing to try then")?;
        let told = self.told("a", &a).and_then(|()| self.told("b", &b));
        self.report.promise("the client knows these addresses", told);
        let reached = self.reach("a", &b).and_then(|()| self.reach("b", &a));
        self.report.promise("they reach each other", reached);
        let gateways = GATEWAYS.map(str::to_owned);
        self.report.promise("they reach the host", self.reach("a", &gateways));
        let pinged = b.iter().try_for_each(|address| self.reach_from_host(address));
        self.report.promise("the host reaches them", pinged);
        let outside = OUTSIDE.map(str::to_owned);
        self.report.promise("they reach the world, which sees the host", self.reach("a", &outside));
        let stopped = self.client.stop("a").and_then(|()| self.client.stop("b"));
        self.report.promise("they are removed without a complaint", stopped);
        self.report.promise("nothing is left of them", before.are_back());
        Ok(())
    }

    fn crashes(&mut self) -> Result<()> {
        if !self.machine.has(Plugins::Ours, "ferrocni") {
            self.report.skipped("cleaning up after crashes", "the plugins' folder has no ferrocni");
            return Ok(());
        }
        self.client.start("kept")?;
        let before = Traces::at_rest()?;
        for (promise, cache_is_lost) in [
            ("killed without DEL: `ferrocni gc` removes what is left, and only that", false),
            ("the same with the cache lost: what is left is found from its names", true),
        ] {
            let outcome = self.crash(&before, cache_is_lost);
            self.report.promise(promise, outcome);
        }
        let reached = self.reach("kept", &OUTSIDE.map(str::to_owned));
        self.report.promise("a container that is kept does not notice", reached);
        self.client.stop("kept")?;
        self.report.promise("`cnitool del` after `ip netns del` leaves nothing", self.cnitool());
        Ok(())
    }

    /// A container that is killed, and GC after it.
    fn crash(&mut self, before: &Traces, cache_is_lost: bool) -> Result<()> {
        self.client.start("crashed")?;
        let address = self.addresses("crashed")?[0].clone();
        let id = self.client.id("crashed")?;
        self.client.crash("crashed")?;
        let reserved = format!("{RESERVATIONS}/{NETWORK}/{address}");
        fs::metadata(&reserved).map_err(|err| format!("nothing to clean up: {reserved}: {err}"))?;
        // Without the cache the reference's firewall does not know which rules were the container's.
        let theirs = cache_is_lost && !self.machine.has(Plugins::Ours, "firewall");
        let are_back = || before.are_back_but(|line| theirs && line.contains(" filter: "));
        let collected = self.collect(&id, cache_is_lost).and_then(|()| are_back());
        // A client that recovers sends its DEL in the end.
        self.client.forget("crashed")?;
        collected.and_then(|()| are_back())
    }

    fn collect(&self, id: &str, cache_is_lost: bool) -> Result<()> {
        if cache_is_lost {
            let cached = format!("{CACHE}/{NETWORK}-{id}-eth0");
            fs::remove_file(&cached).map_err(|err| format!("{cached}: {err}"))?;
        }
        let kept = self.client.id("kept")?;
        self.gc(&["--keep", &format!("{kept}/eth0")], cache_is_lost).map(drop)
    }

    /// `ferrocni gc`. Plugins themselves are asked from version 1.1.0 on; the clients' configurations are older, so that
    /// takes a copy of them.
    fn gc(&self, valid: &[&str], by_plugins: bool) -> Result<String> {
        let ferrocni = self.machine.path("plugins/ferrocni");
        let configuration = if by_plugins { self.newer_configuration()? } else { NETWORK.to_owned() };
        let path = self.machine.plugin_path();
        run(&[[&ferrocni, "gc", &configuration, "--path", &path].as_slice(), valid].concat())
    }

    /// A copy of the network's configuration in version 1.1.0, with those of its plugins that are ours.
    fn newer_configuration(&self) -> Result<String> {
        let written = format!("/etc/cni/net.d/{NETWORK}.conflist");
        let text = fs::read(&written).map_err(|err| format!("{written}: {err}"))?;
        let mut list: serde_json::Value =
            serde_json::from_slice(&text).map_err(|err| format!("{written}: {err}"))?;
        list["cniVersion"] = "1.1.0".into();
        if let Some(plugins) = list["plugins"].as_array_mut() {
            let ours = |name: &str| self.machine.has(Plugins::Ours, name);
            plugins.retain(|plugin| plugin["type"].as_str().is_some_and(ours));
        }
        let path = self.machine.path(&format!("gc/{NETWORK}.conflist"));
        fs::write(&path, list.to_string()).map_err(|err| format!("{path}: {err}"))?;
        Ok(path)
    }

    fn cnitool(&self) -> Result<()> {
        let before = Traces::at_rest()?;
        run(&["ip", "netns", "add", "blue"])?;
        let cnitool = self.machine.path("plugins/cnitool");
        let path = format!("CNI_PATH={}", self.machine.plugin_path());
        for step in [
            ["env", &path, &cnitool, "add", NETWORK, "/run/netns/blue"].as_slice(),
            &["ip", "netns", "del", "blue"],
            &["env", &path, &cnitool, "del", NETWORK, "/run/netns/blue"],
        ] {
            run(step)?;
        }
        before.are_back()
    }

    /// Plugins are exchanged under running containers, in both directions.
    fn upgrade(&mut self) -> Result<()> {
        self.machine.use_plugins(Plugins::Reference)?;
        self.client.start("first").and_then(|()| self.client.stop("first"))?;
        let before = Traces::at_rest()?;
        self.client.start("old")?;
        self.machine.use_plugins(Plugins::Ours)?;
        self.client.start("new")?;
        let (old, new) = (self.addresses("old")?, self.addresses("new")?);
        let reached = self.reach("old", &new).and_then(|()| self.reach("new", &old));
        self.report.promise("upgrade: a container of the reference's plugins reaches a new one", reached);
        let stopped = self.client.stop("new").and_then(|()| self.client.stop("old"));
        let outcome = stopped.and_then(|()| before.are_back());
        self.report.promise("upgrade: DEL removes what the reference's plugins made", outcome);

        self.client.start("new")?;
        self.machine.use_plugins(Plugins::Reference)?;
        let stopped = self.client.stop("new");
        // Its bridge frees all that, and then fails once for want of a chain of iptables, so the result stays cached.
        let outcome =
            stopped.and_then(|()| before.are_back_but(|line| is_ours_alone(line) || line.contains(CACHE)));
        self.report
            .promise("roll back: the reference's DEL frees links and addresses that ours made", outcome);
        self.machine.use_plugins(Plugins::Ours)?;
        if !self.machine.has(Plugins::Ours, "ferrocni") {
            return Ok(());
        }
        // It may also remove what the reference has left behind.
        let collected = self.gc(&["--all-gone"], true).and_then(|_| before.are_back_but(is_lost));
        self.report.promise("roll back: `ferrocni gc` then removes what only ours know of", collected);
        Ok(())
    }

    /// The container's own addresses, v4 and v6.
    fn addresses(&self, container: &str) -> Result<[String; 2]> {
        let shown = self.client.exec(container, &["/bin/ip", "address", "show", "dev", "eth0"])?;
        let address = |family: &str| {
            let line = shown.lines().map(str::trim).find(|line| {
                line.strip_prefix(family).is_some_and(|rest| rest.starts_with(' '))
                    && line.contains("scope global")
            });
            let address = line.and_then(|line| line.split([' ', '/']).nth(1)).map(str::to_owned);
            address.ok_or_else(|| format!("{container} has no {family} address:\n{shown}"))
        };
        Ok([address("inet")?, address("inet6")?])
    }

    fn told(&self, container: &str, addresses: &[String]) -> Result<()> {
        let told = self.client.inspect(container)?;
        match addresses.iter().find(|address| !told.contains(*address)) {
            Some(address) => Err(format!("{container} has {address}, of which it says nothing:\n{told}")),
            None => Ok(()),
        }
    }

    fn reach_from_host(&self, address: &str) -> Result<()> {
        let rootfs = self.machine.path("rootfs");
        until(|| run(&[["chroot", &rootfs].as_slice(), &ping(address)].concat())).map(drop)
    }

    fn reach(&self, container: &str, addresses: &[String]) -> Result<()> {
        addresses.iter().try_for_each(|address| {
            until(|| self.client.exec(container, &ping(address)))
                .map(drop)
                .map_err(|err| format!("from {container}: {err}"))
        })
    }
}

/// One answer is enough. The first request may be lost to duplicate address detection, hence several.
fn ping(address: &str) -> [&str; 6] {
    ["/bin/busybox", "ping", "-c1", "-W1", "-q", address]
}
