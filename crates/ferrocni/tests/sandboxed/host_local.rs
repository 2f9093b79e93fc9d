//! host-local as a process among others of its kind: the reference's, in the same directory and at the same time; a hundred
//! at once; and on disks that take nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CStr;
use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use cni_linux::Netns;
use cni_linux::testing::Snapshot;
use rustix::mount::{MountFlags, mount, mount_remount};
use serde_json::{Value, json};

use crate::Test;
use crate::common::{Done, command, link};

const REFERENCE: &str = "/usr/lib/cni/host-local";

/// The reference's bridge, which delegates to whatever CNI_PATH leads to.
const BRIDGE: &str = "/usr/lib/cni/bridge";

pub(crate) fn tests() -> Vec<Test> {
    let shared = |name, run| Test::new(name, run).needs(REFERENCE);
    vec![
        Test::new("a_hundred_at_once_get_a_hundred_addresses", a_hundred_at_once_get_a_hundred_addresses),
        shared("a_live_network_changes_plugins_and_back", a_live_network_changes_plugins_and_back),
        shared("both_choose_the_same_addresses", both_choose_the_same_addresses),
        shared(
            "both_at_once_share_a_pool_to_its_last_address",
            both_at_once_share_a_pool_to_its_last_address,
        ),
        shared("the_references_bridge_delegates_to_ours", the_references_bridge_delegates_to_ours)
            .needs(BRIDGE),
        Test::new("a_full_disk_is_named_and_nothing_stays", a_full_disk_is_named_and_nothing_stays),
        Test::new("a_read_only_disk_is_named", a_read_only_disk_is_named),
    ]
}

/// A network, and ours beside the reference's.
struct Place {
    dir: tempfile::TempDir,
    ours: PathBuf,
    ranges: Value,
}

impl Place {
    fn new(subnet: &str) -> Place {
        Place::with_ranges(json!([[{"subnet": subnet}]]))
    }

    fn with_ranges(ranges: Value) -> Place {
        let dir = tempfile::tempdir().unwrap();
        let ours = link(dir.path(), "host-local");
        Place { dir, ours, ranges }
    }

    fn data_dir(&self) -> PathBuf {
        self.dir.path().join("networks")
    }

    fn file(&self, address: &str) -> PathBuf {
        self.data_dir().join("net").join(address)
    }

    fn config(&self) -> Value {
        json!({
            "cniVersion": "1.0.0", "name": "net", "type": "bridge", "bridge": "cni0",
            "ipam": {"type": "host-local", "dataDir": self.data_dir(), "ranges": self.ranges},
        })
    }

    fn start(&self, plugin: &Path, verb: &str, id: &str, netns: &str) -> Child {
        self.start_with(plugin, verb, id, netns, "")
    }

    fn start_with(&self, plugin: &Path, verb: &str, id: &str, netns: &str, args: &str) -> Child {
        let mut config = self.config();
        if verb == "STATUS" {
            config["cniVersion"] = "1.1.0".into();
        }
        if verb == "CHECK" {
            config["prevResult"] = json!({"cniVersion": "1.0.0", "ips": []});
        }
        let mut plugin = command(plugin);
        plugin.env("CNI_COMMAND", verb).env("CNI_CONTAINERID", id).env("CNI_IFNAME", "eth0");
        plugin.env("CNI_NETNS", netns).env("CNI_PATH", self.dir.path()).env("CNI_ARGS", args);
        plugin.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = plugin.spawn().unwrap();
        child.stdin.take().unwrap().write_all(config.to_string().as_bytes()).unwrap();
        child
    }

    fn call(&self, plugin: &Path, verb: &str, id: &str) -> Done {
        ended(self.start(plugin, verb, id, "/dev/null"))
    }

    /// The address that an ADD gets.
    fn add(&self, plugin: &Path, id: &str) -> String {
        address(&self.call(plugin, "ADD", id))
    }

    fn reserved(&self) -> BTreeMap<IpAddr, String> {
        let entries = fs::read_dir(self.data_dir().join("net")).into_iter().flatten().flatten();
        let named = entries.filter_map(|e| Some((e.file_name().to_str()?.parse().ok()?, e.path())));
        named.map(|(ip, path)| (ip, fs::read_to_string(path).unwrap())).collect()
    }
}

fn ended(child: Child) -> Done {
    Done::new(child.wait_with_output().unwrap())
}

fn address(done: &Done) -> String {
    let result: Value = serde_json::from_str(done.ok()).unwrap();
    result["ips"][0]["address"].as_str().unwrap().split('/').next().unwrap().to_owned()
}

fn a_hundred_at_once_get_a_hundred_addresses() {
    let place = Place::new("10.1.0.0/16");
    let start = |verb| -> Vec<Child> {
        (0..100).map(|n| place.start(&place.ours, verb, &format!("c{n}"), "/dev/null")).collect()
    };
    let adding = start("ADD");
    let addresses: BTreeSet<String> = adding.into_iter().map(|child| address(&ended(child))).collect();
    assert_eq!(addresses.len(), 100);
    let first: Vec<IpAddr> = place.reserved().into_keys().collect();
    assert_eq!([first[0], first[99]].map(|ip| ip.to_string()), ["10.1.0.2", "10.1.0.101"], "none left out");
    start("DEL").into_iter().for_each(|child| drop(ended(child).ok().to_owned()));
    assert_eq!(place.reserved().len(), 0);
}

fn a_live_network_changes_plugins_and_back() {
    let place = Place::new("10.1.0.0/24");
    let (go, ours) = (Path::new(REFERENCE), place.ours.as_path());
    assert_eq!(place.add(go, "a"), "10.1.0.2");
    assert_eq!(place.add(ours, "b"), "10.1.0.3");
    assert_eq!(place.add(ours, "c"), "10.1.0.4");
    assert_eq!(place.add(go, "d"), "10.1.0.5", "it goes on where ours was");
    for plugin in [ours, go] {
        for id in ["a", "b", "c", "d"] {
            place.call(plugin, "CHECK", id).ok();
        }
        let twice = place.call(plugin, "ADD", "a");
        assert!(
            twice.stdout.contains("10.1.0.2 has been allocated to a, duplicate allocation"),
            "{twice:#?}"
        );
        place.call(plugin, "CHECK", "e").failed(1);
    }
    place.call(go, "DEL", "b").ok();
    place.call(ours, "DEL", "a").ok();
    assert_eq!(place.add(ours, "e"), "10.1.0.6");
    place.call(go, "DEL", "e").ok();
    place.call(ours, "CHECK", "e").failed(1);
    let left: Vec<_> = place.reserved().into_iter().map(|(ip, owner)| format!("{ip} {owner}")).collect();
    assert_eq!(left, ["10.1.0.4 c\r\neth0", "10.1.0.5 d\r\neth0"]);
    for (plugin, id) in [(go, "c"), (ours, "d")] {
        place.call(plugin, "DEL", id).ok();
        place.call(plugin, "DEL", id).ok();
    }
    assert!(place.reserved().is_empty());
    // Whoever finds the folder of ours takes nothing in it for a reservation.
    assert!(place.file(".ferrocni").exists());
    assert_eq!(place.add(go, "a"), "10.1.0.7");
}

/// Two directories, the same calls: what one answers the other answers too, the words of errors included.
fn both_choose_the_same_addresses() {
    let ranges = json!([
        [
            {"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.20", "rangeEnd": "10.1.0.23"},
            {"subnet": "10.1.0.0/24", "rangeEnd": "10.1.0.5"},
            {"subnet": "10.2.0.0/29", "gateway": "10.2.0.3"},
        ],
        [{"subnet": "fd00::/64", "rangeStart": "fd00::9", "rangeEnd": "fd00::14"}],
    ]);
    let (theirs, ours) = (Place::with_ranges(ranges.clone()), Place::with_ranges(ranges));
    let mut seed = 7_u32;
    let mut below = |n: u32| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 16) % n
    };
    let mut refused = 0;
    for _ in 0..120 {
        let id = format!("c{}", below(16));
        let (verb, args) = match below(10) {
            0..4 => ("ADD", String::new()),
            4..6 => ("ADD", format!("IP=10.1.0.{}", below(24))),
            6 => ("CHECK", String::new()),
            _ => ("DEL", String::new()),
        };
        let call = |place: &Place, plugin: &Path| {
            let done = ended(place.start_with(plugin, verb, &id, "/dev/null", &args));
            let mut answer: Value = serde_json::from_str(&done.stdout).unwrap_or_default();
            // The reference's of Debian says `dns` always, and the version of an error never.
            if let Some(answer) = answer.as_object_mut() {
                answer.retain(|key, _| key != "dns" && key != "cniVersion");
            }
            (done.code, answer)
        };
        let answer = call(&theirs, Path::new(REFERENCE));
        refused += usize::from(answer.0 != Some(0));
        assert_eq!(call(&ours, &ours.ours), answer, "{verb} {id} {args}");
        assert_eq!(ours.reserved(), theirs.reserved(), "{verb} {id} {args}");
    }
    assert!((10..110).contains(&refused), "{refused}");
}

fn both_at_once_share_a_pool_to_its_last_address() {
    // 29 addresses without the gateway.
    let place = Place::new("10.1.0.0/27");
    let plugins = [Path::new(REFERENCE), &place.ours];
    for round in 0..2 {
        let id = |n: usize| format!("r{round}c{n}");
        let adding: Vec<Child> =
            (0..40).map(|n| place.start(plugins[n % 2], "ADD", &id(n), "/dev/null")).collect();
        let added: Vec<Done> = adding.into_iter().map(ended).collect();
        let got: Vec<String> = added.iter().filter(|done| done.code == Some(0)).map(address).collect();
        assert_eq!((got.len(), got.iter().collect::<BTreeSet<_>>().len()), (29, 29));
        for none in added.iter().filter(|done| done.code != Some(0)) {
            assert!(
                none.stdout.contains("no IP addresses available in range set: 10.1.0.1-10.1.0.30"),
                "{none:#?}"
            );
        }
        // Each frees what the other has reserved.
        let deleting: Vec<Child> =
            (0..40).map(|n| place.start(plugins[(n + 1) % 2], "DEL", &id(n), "/dev/null")).collect();
        deleting.into_iter().for_each(|child| drop(ended(child).ok().to_owned()));
        assert_eq!(place.reserved(), BTreeMap::new());
    }
}

fn the_references_bridge_delegates_to_ours() {
    let place = Place::new("10.1.0.0/24");
    let (host, container) = (Netns::temporary().unwrap(), Netns::temporary().unwrap());
    let path = container.path().unwrap().display().to_string();
    let call = |verb| host.run(|| ended(place.start(Path::new(BRIDGE), verb, "a", &path))).unwrap();
    let empty = Snapshot::take(&container).unwrap();
    assert_eq!(address(&call("ADD")), "10.1.0.2");
    assert_eq!(container.addresses("eth0").unwrap()[0].net.to_string(), "10.1.0.2/24");
    assert_eq!(fs::read_to_string(place.file("10.1.0.2")).unwrap(), "a\r\neth0");
    let twice = call("ADD");
    assert_eq!(twice.code, Some(1));
    assert!(place.file("10.1.0.2").exists(), "the first attachment keeps its address: {twice:#?}");
    call("DEL").ok();
    call("DEL").ok();
    assert_eq!(place.reserved(), BTreeMap::new());
    assert_eq!(empty.diff(&Snapshot::take(&container).unwrap()), Vec::<String>::new());
}

/// A disk of its own for the network's reservations.
fn mounted(place: &Place, options: &CStr) {
    fs::create_dir(place.data_dir()).unwrap();
    mount("tmpfs", place.data_dir(), "tmpfs", MountFlags::empty(), options).unwrap();
}

fn a_full_disk_is_named_and_nothing_stays() {
    let place = Place::new("10.1.0.0/24");
    mounted(&place, c"size=256k");
    assert_eq!(place.add(&place.ours, "a"), "10.1.0.2");
    let ballast = place.data_dir().join("ballast");
    fs::File::create(&ballast).unwrap().write_all(&[1; 1 << 20]).unwrap_err();
    let full = place.call(&place.ours, "ADD", "b");
    assert_eq!(full.code, Some(1), "{full:#?}");
    let error: Value = serde_json::from_str(&full.stdout).unwrap();
    let reserve = place.file("10.1.0.3").display().to_string();
    assert_eq!(
        error["msg"],
        format!("failed to allocate for range 0: reserve {reserve}: No space left on device (os error 28)")
    );
    let status = place.call(&place.ours, "STATUS", "");
    assert!(status.stdout.contains("\"code\": 50") && status.stdout.contains("No space left"), "{status:#?}");
    place.call(&place.ours, "CHECK", "a").ok();
    assert_eq!(place.reserved().into_values().collect::<Vec<_>>(), ["a\r\neth0"]);
    place.call(&place.ours, "DEL", "a").ok();
    assert!(place.reserved().is_empty(), "there is room enough to free something");
    fs::remove_file(ballast).unwrap();
    assert_eq!(place.add(&place.ours, "b"), "10.1.0.3");
}

fn a_read_only_disk_is_named() {
    let place = Place::new("10.1.0.0/24");
    mounted(&place, c"");
    assert_eq!(place.add(&place.ours, "a"), "10.1.0.2");
    mount_remount(place.data_dir(), MountFlags::RDONLY, c"").unwrap();
    for (verb, id) in [("ADD", "b"), ("DEL", "a"), ("STATUS", "")] {
        let done = place.call(&place.ours, verb, id);
        assert_eq!(done.code, Some(1), "{done:#?}");
        let net = place.file("").display().to_string();
        assert!(done.stdout.contains(net.trim_end_matches('/')), "{verb}: {done:#?}");
        assert!(done.stdout.contains("Read-only file system"), "{verb}: {done:#?}");
    }
    place.call(&place.ours, "CHECK", "a").ok();
    place.call(&place.ours, "DEL", "nobody").ok();
}
