//! The store against a naive model: everything that may happen in a directory, in any order, and the program killed or the
//! disk full between any two changes.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::IpAddr;
use std::path::Path;

use cni_sdk::{AttachmentId, Result, Undo, Version};
use proptest::prelude::*;

use super::boot::Boot;
use super::disk::faults::{Fault, with_fault};
use super::ranges::{Place, RangeKeys, RangeSet, Written, read as read_ranges};
use super::reservation::{Owner, address_of};
use super::store::Directory;
use super::{allocate, owned};

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    /// ADD of this container, which may ask for an address.
    Add(u8, Option<u8>),
    /// DEL of this container.
    Del(u8),
    /// The reference's plugin reserves an address for this container, if it is free.
    Foreign(u8, u8),
    /// The disk has lost what a reservation says.
    Torn(u8),
    /// A person removes a reservation.
    Removed(u8),
    /// The machine starts anew.
    Boot,
}

/// The addresses of the two ranges in their order, without the gateway 10.1.0.1.
const POOL: [u8; 9] = [9, 10, 11, 12, 2, 3, 4, 5, 6];

const CONTAINERS: u8 = 5;

/// What there should be: of each address whose it is, and the boot that is known for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Model {
    reserved: BTreeMap<u8, (Option<u8>, Option<u32>)>,
    last: Option<u8>,
    boot: u32,
}

impl Model {
    /// What everyone does first: free what is torn or of an earlier boot, and take the rest for this one's.
    fn look(&mut self) {
        let boot = self.boot;
        self.reserved.retain(|_, (owner, made)| owner.is_some() && made.is_none_or(|made| made == boot));
        self.reserved.values_mut().for_each(|(_, made)| *made = Some(boot));
    }

    fn owned(&self, container: u8) -> impl Iterator<Item = u8> {
        let of_container = move |(ip, (owner, _)): (&u8, &(Option<u8>, Option<u32>))| {
            (*owner == Some(container)).then_some(*ip)
        };
        self.reserved.iter().filter_map(of_container)
    }

    /// The address that an ADD gets.
    fn add(&mut self, container: u8, wanted: Option<u8>) -> Option<u8> {
        self.look();
        let free = |ip: &u8| !self.reserved.contains_key(ip);
        let start = self.last.and_then(|last| POOL.iter().position(|ip| *ip == last)).map_or(0, |at| at + 1);
        let tried = POOL.iter().cycle().skip(start).take(POOL.len());
        let ip = match wanted {
            Some(ip) => POOL.contains(&ip).then_some(ip).filter(free),
            None if self.owned(container).next().is_some() => None,
            None => tried.copied().find(free),
        }?;
        self.reserved.insert(ip, (Some(container), Some(self.boot)));
        self.last = Some(ip);
        Some(ip)
    }

    fn del(&mut self, container: u8) {
        self.look();
        self.reserved.retain(|_, (owner, _)| *owner != Some(container));
    }
}

fn sets() -> Vec<RangeSet> {
    let keys = |first: &str, last: &str| RangeKeys {
        subnet: "10.1.0.0/24".into(),
        range_start: first.into(),
        range_end: last.into(),
        gateway: String::new(),
    };
    let ranges = vec![keys("10.1.0.9", "10.1.0.12"), keys("", "10.1.0.6")];
    read_ranges(&[Written { place: Place::List("ipam.ranges", 0), ranges }], Version::CURRENT).unwrap()
}

fn ip(last: u8) -> IpAddr {
    [10, 1, 0, last].into()
}

fn last_of(ip: IpAddr) -> u8 {
    match ip {
        IpAddr::V4(v4) => v4.octets()[3],
        IpAddr::V6(_) => panic!("{ip} is of no range"),
    }
}

fn id(container: u8) -> AttachmentId {
    AttachmentId::parse(&format!("c{container}"), "eth0").unwrap()
}

fn directory(path: &Path, boot: u32) -> Directory {
    let boot = Boot::parse(&format!("11111111-2222-3333-4444-{boot:012}"));
    // No clock, so that what others wrote is known from the first look only.
    Directory { path: path.into(), boot, earliest: || None, release_after_reboot: true }
}

/// What the disk has: read as the reference's plugin reads it, and the boot beside it.
fn on_disk(path: &Path, boot: u32) -> Model {
    let mut found = Model { boot, ..Model::default() };
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        let Some(ip) = address_of(entry.file_name().to_str().unwrap()) else { continue };
        let text = fs::read_to_string(entry.path()).unwrap();
        let owner = (0..CONTAINERS).find(|c| text == Owner::of(&id(*c)).as_str());
        assert!(owner.is_some() || text.is_empty(), "half a reservation: {text:?}");
        let made = Boot::of(&File::open(entry.path()).unwrap());
        let made = made.map(|boot| boot.to_string().rsplit('-').next().unwrap().parse().unwrap());
        found.reserved.insert(last_of(ip), (owner, made));
    }
    let last = fs::read_to_string(path.join("last_reserved_ip.0")).ok();
    found.last = last.and_then(|text| text.parse().ok()).map(last_of);
    found
}

/// Whether the reference's plugin would take anything else for a reservation; it reads what is below as well.
fn others_look_like_reservations(path: &Path) -> bool {
    fs::read_dir(path).into_iter().flatten().flatten().any(|entry| {
        let path = entry.path();
        let is_owner = |text: &str| (0..CONTAINERS).any(|c| text.trim() == Owner::of(&id(c)).as_str());
        match entry.file_name().to_str().unwrap() {
            _ if path.is_dir() => others_look_like_reservations(&path),
            name if address_of(name).is_some() => false,
            _ => fs::read_to_string(&path).is_ok_and(|text| is_owner(&text)),
        }
    })
}

fn add(directory: &Directory, container: u8, wanted: Option<u8>) -> Result<u8> {
    let mut undo = Undo::new();
    let mut store = directory.open()?;
    let outcome =
        allocate(&mut store, &sets(), wanted.map(ip).into_iter().collect(), &id(container), &mut undo);
    store.settle();
    let ips = outcome?;
    undo.keep();
    Ok(last_of(ips[0].address.addr()))
}

fn del(directory: &Directory, container: u8) -> Result<()> {
    let Some(mut store) = directory.open_if_exists()? else { return Ok(()) };
    let (owner, addresses) = owned(&mut store, &id(container))?;
    let outcome = addresses.iter().try_for_each(|ip| store.release(*ip, &owner));
    store.settle();
    outcome
}

/// What others do to the directory, and what is expected of it.
fn others(path: &Path, event: Event, model: &mut Model) {
    fs::create_dir_all(path).unwrap();
    let file = |last: u8| path.join(ip(last).to_string());
    match event {
        Event::Foreign(container, last) if !model.reserved.contains_key(&last) => {
            fs::write(file(last), Owner::of(&id(container)).as_str()).unwrap();
            model.reserved.insert(last, (Some(container), None));
        }
        // The machine has crashed: a new boot, or the index would be right to think that nothing happened.
        Event::Torn(last) => {
            if let Some((owner, _)) = model.reserved.get_mut(&last) {
                fs::write(file(last), "").unwrap();
                *owner = None;
                model.boot += 1;
            }
        }
        Event::Removed(last) if model.reserved.remove(&last).is_some() => {
            fs::remove_file(file(last)).unwrap();
        }
        Event::Boot => model.boot += 1,
        _ => {}
    }
}

/// One ADD or DEL that was killed or had no room: nothing half-done, nothing of others touched. The model continues from what
/// there is.
fn after_fault(before: &Model, event: Event, outcome: &Result<Option<u8>>, found: &Model, fault: Fault) {
    let mut looked = before.clone();
    looked.look();
    let owners = |model: &Model| -> BTreeMap<u8, u8> {
        model.reserved.iter().filter_map(|(ip, (owner, _))| Some((*ip, (*owner)?))).collect()
    };
    let (was, is, living) = (owners(before), owners(found), owners(&looked));
    for (ip, owner) in &is {
        let made = matches!(event, Event::Add(c, _) if c == *owner);
        assert!(was.get(ip) == Some(owner) || made, "{ip} came from nowhere");
    }
    for (ip, owner) in &living {
        let freed = matches!(event, Event::Del(c) if c == *owner);
        assert!(is.contains_key(ip) || freed, "{ip} is gone");
    }
    let new: Vec<_> = is.keys().filter(|ip| !was.contains_key(ip)).collect();
    assert!(new.len() <= 1);
    match (event, outcome) {
        (Event::Add(..), Ok(ip)) => assert!(ip.is_some_and(|ip| is.contains_key(&ip))),
        (Event::Add(..), Err(_)) if fault == Fault::Full => assert!(new.is_empty(), "not undone: {new:?}"),
        (Event::Del(c), Ok(_)) => assert!(is.values().all(|owner| *owner != c)),
        _ => {}
    }
}

fn play(events: Vec<(Event, Option<(usize, Fault)>)>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("net");
    let mut model = Model::default();
    let mut hindered = false;
    for (event, fault) in events {
        let directory = directory(&path, model.boot);
        let before = model.clone();
        let work = || match event {
            Event::Add(container, wanted) => add(&directory, container, wanted).map(Some),
            Event::Del(container) => del(&directory, container).map(|()| None),
            _ => Ok(None),
        };
        match (event, fault) {
            (Event::Add(..) | Event::Del(_), Some((made, fault))) => {
                let (outcome, reached) = with_fault(made, fault, work);
                let found = on_disk(&path, model.boot);
                if reached {
                    after_fault(&before, event, &outcome, &found, fault);
                }
                model = found;
                hindered |= fault == Fault::Full;
            }
            (Event::Add(container, wanted), None) => {
                assert_eq!(work().ok().flatten(), model.add(container, wanted), "{event:?} {before:?}");
            }
            (Event::Del(container), None) => {
                work().unwrap();
                if path.exists() {
                    model.del(container);
                }
            }
            _ => others(&path, event, &mut model),
        }
        let found = on_disk(&path, model.boot);
        if hindered {
            // There was perhaps no room to say which boot it was, and nobody tries again before the next.
            model.reserved.iter_mut().for_each(|(ip, (_, made))| {
                *made = found.reserved.get(ip).map_or(*made, |(_, found)| found.and(*made));
            });
        }
        assert_eq!(found, model, "{event:?} {before:?}");
        // A program that was killed may have left a reservation that has no address.
        assert!(fault.is_some() || !matches!(event, Event::Add(..)) || !others_look_like_reservations(&path));
    }
}

fn event() -> impl Strategy<Value = Event> {
    let container = || 0..CONTAINERS;
    let address = || prop::sample::select(POOL.to_vec());
    let wanted = prop::option::weighted(0.2, prop_oneof![9 => address(), 1 => Just(1)]);
    prop_oneof![
        8 => (container(), wanted).prop_map(|(c, ip)| Event::Add(c, ip)),
        4 => container().prop_map(Event::Del),
        1 => (container(), address()).prop_map(|(c, ip)| Event::Foreign(c, ip)),
        1 => address().prop_map(Event::Torn),
        1 => address().prop_map(Event::Removed),
        1 => Just(Event::Boot),
    ]
}

/// How many changes an ADD that has to make everything makes.
const CHANGES: usize = 30;

proptest! {
    // Each case plays dozens of events on a real disk.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_store_does_what_the_model_does(events in prop::collection::vec(event(), 1..60)) {
        play(events.into_iter().map(|event| (event, None)).collect());
    }

    #[test]
    fn no_fault_between_two_changes_matters(
        events in prop::collection::vec(
            (event(), prop::option::weighted(0.3, (0..CHANGES, prop_oneof![Just(Fault::Killed), Just(Fault::Full)]))),
            1..40,
        ),
    ) {
        play(events);
    }
}

/// Every change of the first ADD of all, of one like all others, and of their DELs: not a sample.
#[test]
fn every_change_of_add_and_del_may_be_the_last() {
    let others = [(Event::Foreign(3, 5), None), (Event::Add(1, None), None)];
    for before in [&others[..0], &others[..1], &others[..]] {
        for fault in [Fault::Killed, Fault::Full] {
            for made in 0..CHANGES {
                let hindered = |event| (event, Some((made, fault)));
                let repeated =
                    [(Event::Del(0), None), (Event::Add(0, None), None), (Event::Add(2, None), None)];
                let add = [before, &[hindered(Event::Add(0, None))], &repeated].concat();
                play(add);
                let del =
                    [before, &[(Event::Add(0, None), None), hindered(Event::Del(0))], &repeated].concat();
                play(del);
            }
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let directory = directory(&dir.path().join("net"), 0);
    let (outcome, reached) = with_fault(CHANGES - 1, Fault::Killed, || add(&directory, 0, None));
    assert!(outcome.is_ok() && !reached, "CHANGES is too small");
}
