//! `ferrocni try`, and what else must work without privileges: as whoever runs the tests, and if that is root also as
//! nobody.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::OnceLock;

use common::{BINARY, DEAF, Done, command, list, names_of_all, plugin, redirected, run};
use libtest_mimic::{Arguments, Trial};
use serde_json::Value;

/// Set to 1, it makes every test count as ignored: for machines that forbid namespaces.
const SKIP: &str = "CNI_SKIP_KERNEL_TESTS";
/// Makes a user namespace.
const UNSHARE: &str = "/usr/bin/unshare";
/// Runs programs as somebody else.
const SETPRIV: &str = "/usr/bin/setpriv";

/// Who runs the program.
#[derive(Clone, Copy)]
enum User {
    Me,
    Nobody,
}

/// A copy of the binary that everybody may read: that of the build may be in somebody's home.
///
/// It is made before there are threads. A thread that starts a program hands it, for a moment, the files that another
/// thread is writing, and a file that is being written cannot be executed.
static COPY: OnceLock<PathBuf> = OnceLock::new();

/// A folder that everybody may read, with the binary in it.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Place {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        fs::hard_link(COPY.get().unwrap(), dir.path().join("ferrocni")).unwrap();
        Place(dir)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn ferrocni(&self, user: User) -> Command {
        let binary = self.path().join("ferrocni");
        match user {
            User::Me => command(binary),
            User::Nobody => {
                let mut setpriv = command(SETPRIV);
                setpriv.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(binary);
                setpriv
            }
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let dir = tempfile::tempdir().unwrap();
    let copy = COPY.get_or_init(|| dir.path().join("ferrocni"));
    fs::copy(BINARY, copy).unwrap();
    let skipped = std::env::var_os(SKIP).is_some_and(|value| value == "1");
    let can_be_nobody = rustix::process::getuid().is_root() && Path::new(SETPRIV).exists();
    type Test = (&'static str, fn(User));
    let tests: [Test; 11] = [
        ("a_bridge_is_what_a_newcomer_sees", a_bridge_is_what_a_newcomer_sees),
        ("a_given_list_carries_packets", a_given_list_carries_packets),
        ("loopback_works_and_leaves_nothing", loopback_works_and_leaves_nothing),
        ("json_has_every_step", json_has_every_step),
        ("a_report_that_nobody_receives_is_no_success", a_report_that_nobody_receives_is_no_success),
        ("a_broken_plugin_is_named_and_undone", a_broken_plugin_is_named_and_undone),
        ("a_missing_plugin_is_named", a_missing_plugin_is_named),
        ("what_leaks_is_told", what_leaks_is_told),
        ("what_is_kept_for_the_next_is_no_leak", what_is_kept_for_the_next_is_no_leak),
        ("state_stays_in_the_room", state_stays_in_the_room),
        ("an_install_that_fails_half_way_is_undone", an_install_that_fails_half_way_is_undone),
    ];
    let mut trials = Vec::new();
    for (name, run) in tests {
        for user in [User::Me, User::Nobody] {
            let (suffix, possible) = match user {
                User::Me => ("", true),
                User::Nobody => ("_as_nobody", can_be_nobody),
            };
            let kind = if skipped { "CNI_SKIP_KERNEL_TESTS=1" } else { "needs root and setpriv" };
            let trial = Trial::test(format!("{name}{suffix}"), move || {
                run(user);
                Ok(())
            });
            let ignored = skipped || !possible;
            trials.push(trial.with_kind(if ignored { kind } else { "" }).with_ignored_flag(ignored));
        }
    }
    trials.push(forbidden_trial(skipped));
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// A machine that allows no namespaces: here, a user namespace that does not.
fn forbidden_trial(skipped: bool) -> Trial {
    let trial = Trial::test("a_machine_that_forbids_it_is_told_how_to_allow_it", || {
        a_machine_that_forbids_it_is_told_how_to_allow_it();
        Ok(())
    });
    let kind = if skipped { "CNI_SKIP_KERNEL_TESTS=1" } else { "needs unshare" };
    let ignored = skipped || !Path::new(UNSHARE).exists();
    trial.with_kind(if ignored { kind } else { "" }).with_ignored_flag(ignored)
}

fn a_machine_that_forbids_it_is_told_how_to_allow_it() {
    let place = Place::new();
    let script = r#"echo 0 > /proc/sys/user/max_net_namespaces && exec "$0" try"#;
    let mut unshare = command(UNSHARE);
    unshare.args(["--map-root-user", "sh", "-c", script]).arg(place.path().join("ferrocni"));
    let done = run(&mut unshare);
    let said = done.failed(1);
    assert!(said.contains("/proc/sys/user/max_net_namespaces is 0, which forbids it"), "{said}");
    assert!(!done.stdout.contains("it works"), "{done:#?}");
}

fn loopback_works_and_leaves_nothing(user: User) {
    let place = Place::new();
    let file = place.path().join("lo.conflist");
    fs::write(&file, r#"{"cniVersion": "1.1.0", "name": "lo", "plugins": [{"type": "loopback"}]}"#).unwrap();
    let done = run(place.ferrocni(user).arg("try").arg(file).args(["--ifname", "lo"]));
    let said = done.ok();
    assert!(said.starts_with("network lo: loopback; cniVersion 1.1.0\n"), "{said}");
    let steps = steps(said);
    let expected = [("ADD", 1), ("CHECK", 1), ("SEND", 2), ("DEL", 1)];
    let expected: Vec<(&str, &str)> = expected
        .into_iter()
        .flat_map(|(step, times)| {
            ["one", "two"].into_iter().flat_map(move |name| std::iter::repeat_n((step, name), times))
        })
        .collect();
    assert_eq!(steps, expected, "{said}");
    assert!(said.contains("32 bytes to itself at 127.0.0.1 and back"), "{said}");
    assert!(said.contains("32 bytes to itself at ::1 and back"), "{said}");
    assert!(said.contains("\nit works, and nothing is left: 1 link, 2 addresses, "), "{said}");
    assert!(!said.contains('\u{1b}'), "colours are for terminals");
}

/// The steps that a report shows, and whose.
fn steps(report: &str) -> Vec<(&str, &str)> {
    let is_step = |line: &&str| ["ADD", "CHECK", "SEND", "DEL"].iter().any(|step| line.starts_with(step));
    let words = report.lines().filter(is_step).map(|line| {
        let mut words = line.split_whitespace();
        (words.next().unwrap(), words.next().unwrap())
    });
    words.collect()
}

fn a_bridge_is_what_a_newcomer_sees(user: User) {
    let place = Place::new();
    let done = run(place.ferrocni(user).arg("try"));
    let said = done.ok();
    assert!(said.starts_with("network try: bridge; cniVersion 1.1.0\n"), "{said}");
    let expected = [
        ("ADD", "one"),
        ("ADD", "two"),
        ("CHECK", "one"),
        ("CHECK", "two"),
        ("SEND", "one"),
        ("SEND", "one"),
        ("SEND", "one"),
        ("SEND", "host"),
        ("SEND", "one"),
        ("SEND", "host"),
        ("DEL", "one"),
        ("DEL", "two"),
    ];
    assert_eq!(steps(said), expected, "{said}");
    for packet in ["two at 10.88.0.3", "two at fd00:88::3", "the host at 10.88.0.1", "one at fd00:88::2"] {
        assert!(said.contains(&format!("32 bytes to {packet} and back\n")), "{said}");
    }
    assert!(said.contains("\n┌──── container one ─"), "{said}");
    assert!(said.contains("\n┌──┴─ host ─") && said.contains("\n│ bridge cni0  "), "{said}");
    let (_, kept) = said.split_once("the network keeps:").expect("a bridge is kept");
    assert!(kept.contains("\n  link cni0 (bridge, up, ") && !kept.contains("veth"), "{said}");
    assert!(!kept.contains("\n  file /var/lib/cni/networks/try/10."), "{said}");
}

fn json_has_every_step(user: User) {
    let place = Place::new();
    let done = run(place.ferrocni(user).args(["try", "--json"]));
    let document: Value = serde_json::from_str(done.ok()).unwrap();
    assert_eq!((document["ok"].as_bool(), document["plugins"][0].as_str()), (Some(true), Some("bridge")));
    let steps = document["steps"].as_array().unwrap();
    assert_eq!(steps[0]["result"]["ips"][0]["address"], "10.88.0.2/24");
    assert_eq!(steps[0]["plugins"][0]["type"], "bridge");
    assert_eq!(document["topology"]["containers"][1]["interfaces"][0]["addresses"][0], "10.88.0.3/24");
    assert!(
        steps.iter().all(|step| step["milliseconds"].as_f64().is_some_and(|ms| ms > 0.0)),
        "{document:#}"
    );
    assert!(document.get("error").is_none() && document["kept"].is_array(), "{document:#}");
}

fn a_report_that_nobody_receives_is_no_success(user: User) {
    let place = Place::new();
    for (to, said) in DEAF {
        for arguments in [&["try"][..], &["try", "--json"]] {
            let done = run(&mut redirected(place.ferrocni(user).args(arguments), to));
            assert_eq!(done.failed(1), format!("error: writing to standard output: {said}\n"));
        }
    }
}

/// A list of our loopback and a plugin that is a script, in a file.
fn chain(place: &Place, script: &str) -> PathBuf {
    fs::create_dir(place.path().join("bin")).unwrap();
    // Nobody could not write a log here: it goes where the script says.
    plugin(&place.path().join("bin"), "fake", script);
    fs::write(place.path().join("bin/fake"), format!("#!/bin/sh\ninput=$(cat)\n{script}\n")).unwrap();
    let file = place.path().join("chain.conflist");
    let conf =
        r#"{"cniVersion": "1.0.0", "name": "chain", "plugins": [{"type": "loopback"}, {"type": "fake"}]}"#;
    fs::write(&file, conf).unwrap();
    file
}

fn try_chain(user: User, script: &str) -> Done {
    let place = Place::new();
    let file = chain(&place, script);
    run(place.ferrocni(user).arg("try").arg(file).arg("--path").arg(place.path().join("bin")))
}

fn a_broken_plugin_is_named_and_undone(user: User) {
    let script = r#"case $CNI_COMMAND in
        ADD) [ $CNI_CONTAINERID = try-one ] && echo '{"cniVersion": "1.0.0"}' && exit
            echo '{"code": 100, "msg": "no second one"}'; exit 1 ;;
        VERSION) echo '{"cniVersion": "1.0.0", "supportedVersions": ["1.0.0"]}' ;;
        esac"#;
    let done = try_chain(user, script);
    let said = done.failed(1);
    assert!(said.starts_with("error: plugin fake failed on ADD: no second one\n"), "{said}");
    assert!(said.contains("plugin 2 of 2") && said.contains("ADD of container two"), "{said}");
    assert!(said.contains("everything that was made has been undone"), "{said}");
    let steps: Vec<&str> = done.stdout.lines().filter(|line| line.contains(" ms ")).collect();
    assert_eq!(steps.len(), 3, "{done:#?}");
    assert!(steps[1].starts_with("ADD    two") && steps[1].contains("failed"), "{done:#?}");
    assert!(steps[2].starts_with("DEL    one") && steps[2].contains("detached"), "{done:#?}");
    assert!(!done.stdout.contains("it works"), "{done:#?}");
}

fn a_missing_plugin_is_named(user: User) {
    let place = Place::new();
    let file = place.path().join("missing.conflist");
    fs::write(&file, list("missing", "1.0.0", "loopbakc")).unwrap();
    let done = run(place.ferrocni(user).arg("try").arg(file).args(["--path", "/nonexistent"]));
    let said = done.failed(1);
    assert!(
        said.contains("failed to find plugin \"loopbakc\"") && said.contains("did you mean \"loopback\"?"),
        "{said}"
    );
}

fn what_leaks_is_told(user: User) {
    let script = format!("[ $CNI_COMMAND = ADD ] && touch /run/leak-of-$CNI_CONTAINERID\n{PASS}");
    let done = try_chain(user, &script);
    let said = done.failed(1);
    assert!(said.starts_with("error: the plugins of network chain leave something behind\n"), "{said}");
    assert!(said.contains("details: file /run/leak-of-try-three\n"), "{said}");
    assert!(!Path::new("/run/leak-of-try-three").exists());
}

fn what_is_kept_for_the_next_is_no_leak(user: User) {
    let script =
        format!("mkdir -p /var/lib/cni/networks/chain; touch /var/lib/cni/networks/chain/lock\n{PASS}");
    let done = try_chain(user, &script);
    assert!(
        done.ok().contains("for the next one the network keeps:\n  file /var/lib/cni/networks/chain/lock\n"),
        "{done:#?}"
    );
}

/// Passes on what the plugin before it made.
const PASS: &str = r#"case $CNI_COMMAND in
    ADD) echo '{"cniVersion": "1.0.0"}' ;;
    VERSION) echo '{"cniVersion": "1.0.0", "supportedVersions": ["1.0.0"]}' ;;
    esac"#;

/// A plugin that says on standard error what it can reach of the host.
fn state_stays_in_the_room(user: User) {
    let host = fs::read_link("/proc/self/ns/net").unwrap();
    let script = format!(
        r#"for name in /run/dbus /run/firewalld /run/netns /run/cni /var/lib/cni/networks; do
            [ -e $name ] && echo "$name is there" >&2
        done
        [ "$(readlink /proc/self/ns/net)" = "{}" ] && echo "this is the host" >&2
        touch /run/mine /var/lib/mine && rm /run/mine /var/lib/mine
        {PASS}"#,
        host.display()
    );
    let done = try_chain(user, &script);
    assert!(done.ok().contains("left out: no addresses"), "{done:#?}");
    assert!(done.stdout.contains("it works, and nothing is left"), "{done:#?}");
    for name in ["/run/mine", "/var/lib/mine"] {
        assert!(!Path::new(name).exists());
    }
}

/// In a folder whose files belong to somebody else and may not be replaced, but where there is room for new ones.
fn an_install_that_fails_half_way_is_undone(user: User) {
    let place = Place::new();
    let dir = place.path().join("bin");
    fs::create_dir(&dir).unwrap();
    fs::set_permissions(&dir, Permissions::from_mode(0o1777)).unwrap();
    fs::write(dir.join("loopback"), "old").unwrap();
    let done = run(place.ferrocni(user).arg("install").arg(&dir));
    let names: Vec<_> = fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name()).collect();
    match user {
        User::Me => {
            done.ok();
            assert_eq!(names.len(), names_of_all().len());
        }
        User::Nobody => {
            let said = done.failed(1);
            assert!(said.starts_with("error: replacing loopback in "), "{said}");
            assert!(said.contains("the folder is as it was"), "{said}");
            assert_eq!((names.len(), fs::read(dir.join("loopback")).unwrap().as_slice()), (1, &b"old"[..]));
        }
    }
}

/// Without gateways there is nobody on the host to write to.
fn a_given_list_carries_packets(user: User) {
    let place = Place::new();
    let file = place.path().join("podnet.conflist");
    let conf = r#"{"cniVersion": "1.0.0", "name": "podnet", "plugins": [{"type": "bridge", "bridge": "br7",
        "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.98.0.0/16"}], [{"subnet": "fd00:98::/64"}]]}}]}"#;
    fs::write(&file, conf).unwrap();
    let done = run(place.ferrocni(user).arg("try").arg(file));
    let said = done.ok();
    assert!(said.contains("32 bytes to two at 10.98.0.3 and back"), "{said}");
    assert!(said.contains("32 bytes to two at fd00:98::3 and back"), "{said}");
    assert!(!steps(said).contains(&("SEND", "host")), "{said}");
}
