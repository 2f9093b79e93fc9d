//! host-local: hands out addresses of configured ranges, and keeps account of them in files of this host.
//!
//! On the host it makes: a file `<dataDir>/<network>/<address>` for each address, which names container and interface, and
//! beside it what the store (`store.rs`) needs; in the container: nothing. The directory is the
//! [reference](https://www.cni.dev/plugins/current/ipam/host-local/)'s, which can work in it before, after and in between.
//!
//! Reservations of an earlier boot are freed by themselves, for no container outlives the boot; see [`Boot`].

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::Path;

use cni_sdk::spec::{NetworkName, address};
use cni_sdk::{
    Add, AddResult, Args, AttachmentId, Check, Code, Del, Doing, Error, Gc, IpConfig, Plugin, Result, Route,
    Status, Undo, Version, steps,
};

mod boot;
mod disk;
mod index;
#[cfg(test)]
mod model;
mod ranges;
mod reservation;
mod resolv_conf;
mod store;

pub use self::boot::Boot;
pub use self::ranges::RangeKeys;
use self::ranges::{Place, RangeSet, Written, next};
use self::reservation::Owner;
use self::store::{Directory, Store};

/// Where reservations are kept if the configuration does not say.
pub const DATA_DIR: &str = "/var/lib/cni/networks";

/// The configuration: that of the plugin that makes the interface, of which these parts are ours.
///
/// Addresses are text here: what ADD would refuse today must not keep DEL from decoding it tomorrow.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct HostLocal {
    /// `ipam`: our own section.
    pub ipam: Option<Ipam>,
    /// `runtimeConfig`: what the runtime sets for this container.
    pub runtime_config: RuntimeConfig,
    /// `args`: the same by an older convention.
    pub args: Conventions,
}

/// The section `ipam`.
#[derive(Debug, serde::Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Ipam {
    /// `ranges`: sets of ranges; each attachment gets an address of each set.
    pub ranges: Vec<Vec<RangeKeys>>,
    /// `subnet`, with the three below: a single range, from before there were sets. It comes before `ranges`.
    pub subnet: String,
    /// `rangeStart`
    pub range_start: String,
    /// `rangeEnd`
    pub range_end: String,
    /// `gateway`
    pub gateway: String,
    /// `routes`: become the result's.
    pub routes: Vec<Route>,
    /// `dataDir`: the folder of reservations, in which each network has one; by default [`DATA_DIR`].
    pub data_dir: String,
    /// `resolvConf`: a resolv.conf(5) that becomes the result's DNS; by default there is none.
    pub resolv_conf: String,
    /// `releaseAfterReboot`: whether reservations of an earlier boot are freed; by default they are. The reference has
    /// no such key and keeps them.
    pub release_after_reboot: bool,
}

/// The section `runtimeConfig`.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RuntimeConfig {
    /// `ipRanges`, for networks with that capability: sets that come before all others.
    pub ip_ranges: Vec<Vec<RangeKeys>>,
    /// `ips`, for networks with that capability: addresses that are asked for, with or without a prefix.
    pub ips: Vec<String>,
}

/// The section `args`.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
pub struct Conventions {
    /// `cni`: that of the conventions.
    pub cni: Requests,
}

/// The section `args.cni`.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
pub struct Requests {
    /// `ips`: addresses that are asked for.
    pub ips: Vec<String>,
}

impl Default for Ipam {
    fn default() -> Self {
        Ipam {
            ranges: Vec::new(),
            subnet: String::new(),
            range_start: String::new(),
            range_end: String::new(),
            gateway: String::new(),
            routes: Vec::new(),
            data_dir: DATA_DIR.into(),
            resolv_conf: String::new(),
            release_after_reboot: true,
        }
    }
}

impl Plugin for HostLocal {
    const TYPE: &'static str = "host-local";
    const SUMMARY: &'static str =
        "hands out addresses of ranges, and keeps account of them in files of this host";

    fn add(&self, cx: &Add, undo: &mut Undo) -> Result<AddResult> {
        let ipam = self.ipam()?;
        let requested = self.requested(&cx.args)?;
        let sets = self.sets(cx.net.cni_version)?;
        let dns = match ipam.resolv_conf.as_str() {
            "" => Default::default(),
            path => resolv_conf::read(Path::new(path))?,
        };
        let mut store = self.directory(&cx.net.name).open()?;
        let outcome = allocate(&mut store, &sets, requested, &cx.id, undo);
        store.settle();
        Ok(AddResult { ips: outcome?, routes: ipam.routes.clone(), dns, ..AddResult::default() })
    }

    fn del(&self, cx: &Del) -> Result<()> {
        let Some(mut store) = self.directory(&cx.net.name).open_if_exists()? else { return Ok(()) };
        let (owner, addresses) = owned(&mut store, &cx.id)?;
        let released: Vec<Result<()>> = addresses.iter().map(|ip| store.release(*ip, &owner)).collect();
        store.settle();
        steps::all(released)
    }

    fn check(&self, cx: &Check) -> Result<()> {
        self.ipam()?;
        let missing = || {
            let id = &cx.id.container_id;
            Error::failed(format!("host-local: Failed to find address added by container {id}"))
        };
        let Some(mut store) = self.directory(&cx.net.name).open_if_exists()? else { return Err(missing()) };
        let (_, addresses) = owned(&mut store, &cx.id)?;
        store.settle();
        // A result that is not there, and ranges that no ADD would take, say nothing about the reservations.
        let ips = cx.prev_result().map(|result| result.ips.as_slice()).unwrap_or_default();
        let sets = self.sets(cx.net.cni_version).unwrap_or_default();
        let mut ours = ips.iter().map(|ip| ip.address.addr());
        let lost = ours.find(|ip| sets.iter().any(|s| s.range_of(*ip).is_some()) && !addresses.contains(ip));
        match lost {
            _ if addresses.is_empty() => Err(missing()),
            Some(ip) => Err(missing().with_details(format!("{ip} of the result is not reserved for it"))),
            None => Ok(()),
        }
    }

    fn gc(&self, cx: &Gc) -> Result<()> {
        let Some(mut store) = self.directory(&cx.net.name).open_if_exists()? else { return Ok(()) };
        let both = |id: &AttachmentId| [Owner::of(id), Owner::legacy(id)];
        let valid: HashSet<Owner> = cx.valid.iter().flat_map(both).collect();
        let collected = store.collect(&valid);
        store.settle();
        collected
    }

    fn status(&self, cx: &Status) -> Result<()> {
        self.could_add(&cx.net.name, cx.net.cni_version).code(Code::PLUGIN_NOT_AVAILABLE)
    }
}

impl HostLocal {
    fn ipam(&self) -> Result<&Ipam> {
        self.ipam.as_ref().ok_or_else(|| Error::failed("IPAM config missing 'ipam' key"))
    }

    /// The addresses that are asked for: those of all three ways together, each once.
    fn requested(&self, args: &Args) -> Result<Vec<IpAddr>> {
        let [arg] = args.load(["IP"])?;
        let arg = arg.filter(|text| !text.is_empty()).map(|text| {
            requested_ip(text).map_err(|e| {
                Error::failed(format!(
                    "ARGS: error parsing value of pair {:?}: {}",
                    format!("IP={text}"),
                    e.msg
                ))
            })
        });
        let others = self.args.cni.ips.iter().chain(&self.runtime_config.ips).map(|text| requested_ip(text));
        let mut requested = Vec::new();
        for ip in arg.into_iter().chain(others) {
            let ip = ip?;
            if !requested.contains(&ip) {
                requested.push(ip);
            }
        }
        Ok(requested)
    }

    /// The sets of ranges: the runtime's, then the single one, then the list.
    fn sets(&self, version: Version) -> Result<Vec<RangeSet>> {
        let ipam = self.ipam()?;
        let single = RangeKeys {
            subnet: ipam.subnet.clone(),
            range_start: ipam.range_start.clone(),
            range_end: ipam.range_end.clone(),
            gateway: ipam.gateway.clone(),
        };
        let listed = |list, sets: &[Vec<RangeKeys>]| {
            let numbered = sets.iter().cloned().enumerate();
            numbered.map(|(n, ranges)| Written { place: Place::List(list, n), ranges }).collect::<Vec<_>>()
        };
        let mut sets = listed("runtimeConfig.ipRanges", &self.runtime_config.ip_ranges);
        let single =
            (!single.subnet.is_empty()).then(|| Written { place: Place::Ipam, ranges: vec![single] });
        sets.extend(single);
        sets.extend(listed("ipam.ranges", &ipam.ranges));
        ranges::read(&sets, version)
    }

    /// Where the network's reservations are: known even where everything else is not, for DEL must find them.
    fn directory(&self, network: &NetworkName) -> Directory {
        let data_dir = self.ipam.as_ref().map_or("", |ipam| &ipam.data_dir);
        let data_dir = if data_dir.is_empty() { DATA_DIR } else { data_dir };
        Directory {
            path: Path::new(data_dir).join(network.as_str()),
            boot: Boot::current(),
            earliest: boot::earliest,
            release_after_reboot: self.ipam.as_ref().is_none_or(|ipam| ipam.release_after_reboot),
        }
    }

    /// Says why an ADD would fail. A directory that is not there is not made.
    fn could_add(&self, network: &NetworkName, version: Version) -> Result<()> {
        let sets = self.sets(version)?;
        let directory = self.directory(network);
        directory.could_be_written()?;
        let mut sets = sets.iter();
        let Some(mut store) = directory.open_if_exists()? else {
            let mut empty = sets.filter(|set| !set.has_addresses());
            return empty.next().map_or(Ok(()), |set| Err(exhausted(set)));
        };
        let outcome =
            sets.try_for_each(|set| free(&mut store, set, None)?.map(|_| ()).ok_or_else(|| exhausted(set)));
        store.settle();
        outcome
    }
}

fn requested_ip(text: &str) -> Result<IpAddr> {
    let ip = match text.contains('/') {
        true => address::parse_cidr(text).map(|net| net.addr()),
        false => address::parse_ip(text),
    };
    ip.ok_or_else(|| Error::failed(format!("invalid IP address {text}")))
}

/// One address of each set.
fn allocate(
    store: &mut Store,
    sets: &[RangeSet],
    mut requested: Vec<IpAddr>,
    id: &AttachmentId,
    undo: &mut Undo,
) -> Result<Vec<IpConfig>> {
    let mut ips = Vec::with_capacity(sets.len());
    for (n, set) in sets.iter().enumerate() {
        let wanted =
            requested.iter().position(|ip| set.range_of(*ip).is_some()).map(|at| requested.remove(at));
        let ip = match wanted {
            Some(ip) => take(store, set, ip, id, undo),
            None => pick(store, set, n, id, undo),
        };
        let named = |e: Error| Error { msg: format!("failed to allocate for range {n}: {}", e.msg), ..e };
        let ip = ip.map_err(named)?;
        store.set_last_reserved(n, ip.address.addr());
        ips.push(ip);
    }
    if requested.is_empty() {
        return Ok(ips);
    }
    let left: Vec<String> = requested.iter().map(IpAddr::to_string).collect();
    Err(Error::failed(format!("failed to allocate all requested IPs: {}", left.join(" "))))
}

/// The address that was asked for. That the owner has another one is no obstacle.
fn take(
    store: &mut Store,
    set: &RangeSet,
    ip: IpAddr,
    id: &AttachmentId,
    undo: &mut Undo,
) -> Result<IpConfig> {
    let unavailable =
        || Error::failed(format!("requested IP address {ip} is not available in range set {set}"));
    let range = set.range_of(ip).ok_or_else(unavailable)?;
    if ip == range.gateway() {
        return Err(Error::failed(format!("requested ip {ip} is subnet's gateway")));
    }
    if store.next_free(ip, ip)?.is_none() || !store.reserve(ip, &Owner::of(id), undo)? {
        return Err(unavailable());
    }
    Ok(config(range, ip))
}

/// The next free address after the one that was handed out last.
fn pick(
    store: &mut Store,
    set: &RangeSet,
    number: usize,
    id: &AttachmentId,
    undo: &mut Undo,
) -> Result<IpConfig> {
    for owner in [Owner::of(id), Owner::legacy(id)] {
        if let Some(ip) = store.addresses_of(&owner)?.into_iter().find(|ip| set.range_of(*ip).is_some()) {
            let id = &id.container_id;
            let text = format!("{ip} has been allocated to {id}, duplicate allocation is not allowed");
            return Err(Error::failed(text));
        }
    }
    let mut last = store.last_reserved(number);
    // Ends, for an address that could not be had although it was free is known to be taken from then on.
    while let Some(ip) = free(store, set, last)? {
        if store.reserve(ip.address.addr(), &Owner::of(id), undo)? {
            return Ok(ip);
        }
        last = Some(ip.address.addr());
    }
    Err(exhausted(set))
}

/// The first free address after `last`, in the order of the set.
fn free(store: &mut Store, set: &RangeSet, last: Option<IpAddr>) -> Result<Option<IpConfig>> {
    for stretch in set.stretches(last) {
        let mut found = store.next_free(stretch.first, stretch.last)?;
        if found == Some(stretch.range.gateway()) && found != Some(stretch.last) {
            found = store.next_free(next(stretch.range.gateway()), stretch.last)?;
        }
        if let Some(ip) = found.filter(|ip| *ip != stretch.range.gateway()) {
            return Ok(Some(config(&stretch.range, ip)));
        }
    }
    Ok(None)
}

fn config(range: &ranges::Range, ip: IpAddr) -> IpConfig {
    IpConfig { address: range.with_prefix(ip), gateway: Some(range.gateway()), interface: None }
}

fn exhausted(set: &RangeSet) -> Error {
    Error::failed(format!("no IP addresses available in range set: {set}"))
}

/// The addresses of an attachment, and by which name they are its own.
fn owned(store: &mut Store, id: &AttachmentId) -> Result<(Owner, Vec<IpAddr>)> {
    let owner = Owner::of(id);
    let addresses = store.addresses_of(&owner)?;
    if !addresses.is_empty() {
        return Ok((owner, addresses));
    }
    let legacy = Owner::legacy(id);
    let addresses = store.addresses_of(&legacy)?;
    Ok((legacy, addresses))
}
