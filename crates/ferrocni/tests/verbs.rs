//! `ferrocni add`, `check`, `del`, `gc` and `status`, with plugins made of a few lines of shell: nothing here touches a
//! network.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Command;

use common::{DEAF, Done, FRIENDLY, asked, ferrocni, list, plugin, redirected, run};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::Value;

/// A folder with a configuration, a plugin and room for the cache.
struct Lab(tempfile::TempDir);

impl Lab {
    fn new(version: &str, script: &str) -> Lab {
        let dir = tempfile::tempdir().unwrap();
        for name in ["net.d", "bin", "cache"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        fs::write(dir.path().join("net.d/10-podnet.conflist"), list("podnet", version, "fake")).unwrap();
        plugin(&dir.path().join("bin"), "fake", script);
        Lab(dir)
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = ferrocni(arguments);
        let (conf, bin, cache) = (self.path("net.d"), self.path("bin"), self.path("cache"));
        command.args(["--conf-dir", &conf, "--path", &bin, "--cache-dir", &cache]);
        command
    }

    fn run(&self, arguments: &[&str]) -> Done {
        run(&mut self.command(arguments))
    }

    fn asked(&self) -> Vec<String> {
        asked(&self.0.path().join("bin"), "fake")
    }

    /// The attachments that are remembered.
    fn remembered(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.0.path().join("cache/results")) else { return Vec::new() };
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

#[test]
fn an_attachment_from_its_beginning_to_its_end() {
    let lab = Lab::new("1.1.0", FRIENDLY);
    let done = lab.run(&["add", "podnet", "--netns", "/ns/blue", "--container-id", "c1"]);
    let result: Value = serde_json::from_str(done.ok()).unwrap();
    assert_eq!(
        (result["cniVersion"].as_str(), result["ips"][0]["address"].as_str()),
        (Some("1.1.0"), Some("10.1.0.2/16"))
    );
    assert_eq!(lab.remembered(), ["podnet-c1-eth0"]);

    let done = lab.run(&["check", "podnet", "--netns", "/ns/blue", "--container-id", "c1"]);
    assert!(
        done.ok().starts_with("eth0 of container c1 is attached to podnet, as it should be; took "),
        "{done:#?}"
    );
    let done = lab.run(&["status", "podnet"]);
    assert_eq!(done.ok(), "podnet: ready\n");

    let done = lab.run(&["del", "podnet", "--container-id", "c1"]);
    assert!(
        done.ok().starts_with("eth0 of container c1 is not attached to podnet any more; took "),
        "{done:#?}"
    );
    assert_eq!(lab.remembered(), [""; 0]);
    let done = lab.run(&["del", "podnet", "--container-id", "c1"]);
    assert!(done.ok().contains("no ADD of it was remembered"), "{done:#?}");

    let verbs: Vec<String> =
        lab.asked().iter().map(|line| line.split(' ').next().unwrap().to_owned()).collect();
    assert_eq!(verbs, ["ADD", "CHECK", "STATUS", "DEL", "DEL"]);
    assert!(lab.asked()[0].starts_with("ADD id=c1 netns=/ns/blue ifname=eth0 args= {"), "{:?}", lab.asked());
    assert!(lab.asked()[3].starts_with("DEL id=c1 netns= ifname=eth0 args= {"), "{:?}", lab.asked());
}

#[test]
fn flags_win_over_the_environment_which_wins_over_defaults() {
    let lab = Lab::new("1.0.0", FRIENDLY);
    // What a namespace of this path is called by the reference's cnitool.
    let netns = "/var/run/netns/testing";
    let mut environment = lab.command(&["add", "podnet", "--netns", netns]);
    environment.env("CNI_IFNAME", "net1").env("CNI_ARGS", "IP=10.1.0.9;X=y");
    run(&mut environment).ok();
    assert!(
        lab.asked()[0].starts_with(&format!(
            "ADD id=cnitool-77383ca0a0715733ca6f netns={netns} ifname=net1 args=IP=10.1.0.9;X=y {{"
        )),
        "{:?}",
        lab.asked()
    );
    let mut flags =
        lab.command(&["add", "podnet", "--netns", netns, "-i", "net2", "--arg", "A=b", "--arg", "C=d"]);
    flags.env("CNI_IFNAME", "net1").env("CNI_ARGS", "IP=10.1.0.9");
    run(&mut flags).ok();
    assert!(lab.asked()[1].contains(" ifname=net2 args=A=b;C=d {"), "{:?}", lab.asked());
}

#[test]
fn capabilities_reach_the_plugin_that_has_them() {
    let lab = Lab::new("1.0.0", FRIENDLY);
    let conf = r#"{"cniVersion": "1.0.0", "name": "podnet", "plugins": [{"type": "fake", "capabilities": {"mac": true}}]}"#;
    fs::write(lab.path("net.d/10-podnet.conflist"), conf).unwrap();
    let mac = r#"mac="02:00:00:00:00:01""#;
    lab.run(&["add", "podnet", "--netns", "/ns/blue", "--capability", mac, "--capability", "ips=[]"]).ok();
    let (_, config) = lab.asked()[0].split_once("args= ").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    let config: Value = serde_json::from_str(&config).unwrap();
    assert_eq!(config["runtimeConfig"], serde_json::json!({"mac": "02:00:00:00:00:01"}));
}

#[test]
fn a_network_may_be_a_file() {
    let lab = Lab::new("1.0.0", FRIENDLY);
    let file = lab.path("net.d/10-podnet.conflist");
    lab.run(&["add", &file, "--netns", "/ns/blue"]).ok();
    let single = lab.path("other.conf");
    fs::write(&single, r#"{"cniVersion": "0.4.0", "name": "single", "type": "fake"}"#).unwrap();
    let mut relative = lab.command(&["add", "other.conf", "--netns", "/ns/blue"]);
    run(relative.current_dir(lab.0.path())).ok();
    assert_eq!(lab.remembered().len(), 2);
    assert!(lab.remembered()[1].starts_with("single-cnitool-"), "{:?}", lab.remembered());
}

#[test]
fn a_terminal_gets_tables_and_colours() {
    let lab = Lab::new("1.1.0", FRIENDLY);
    let mut add = lab.command(&["add", "podnet", "--netns", "/ns/blue", "--container-id", "c1"]);
    let shown = on_a_terminal(&mut add);
    assert!(shown.contains("\u{1b}[1mINTERFACE  WHERE\u{1b}[0m\r\neth0       container\r\n"), "{shown:?}");
    assert!(shown.contains("10.1.0.2/16  eth0\r\n"), "{shown:?}");
    assert!(shown.contains("(fake "), "{shown:?}");
    let mut json = lab.command(&["add", "podnet", "--netns", "/ns/blue", "--container-id", "c2", "--json"]);
    let shown = on_a_terminal(&mut json);
    assert!(shown.starts_with("{\r\n    \"cniVersion\": \"1.1.0\""), "{shown:?}");
}

#[test]
fn an_attachment_that_nobody_is_told_of_is_undone() {
    let add = ["add", "podnet", "--netns", "/ns/blue", "--container-id", "c1"];
    for (to, said) in DEAF {
        let lab = Lab::new("1.1.0", FRIENDLY);
        let done = run(&mut redirected(&lab.command(&add), to));
        assert_eq!(
            done.failed(1),
            format!(
                "error: writing to standard output: {said}\n  \
                   details: the container was detached again, for nobody has the result\n"
            )
        );
        assert!(lab.asked()[1].starts_with("DEL id=c1 netns=/ns/blue ifname=eth0 "), "{:?}", lab.asked());
        assert_eq!((lab.asked().len(), lab.remembered()), (2, Vec::new()));
    }
    let stubborn = format!(
        "[ $CNI_COMMAND = DEL ] && echo '{{\"code\": 100, \"msg\": \"stuck\"}}' && exit 1\n{FRIENDLY}"
    );
    let lab = Lab::new("1.1.0", &stubborn);
    let done = run(&mut redirected(&lab.command(&add), ">&-"));
    assert!(
        done.failed(1).ends_with(
            "details: nobody has the result, and detaching the container failed: \
             plugin type=\"fake\" failed (delete): stuck\n"
        ),
        "{done:#?}"
    );
}

#[test]
fn a_plugins_words_do_not_move_the_cursor() {
    let script = r#"case $CNI_COMMAND in ADD) printf '%s\n' '{"code": 100, "msg": "a\u001b[2Jb\r", "details": "c\u009b1m; d\nerror: e"}'; exit 1 ;; esac"#;
    let lab = Lab::new("1.0.0", script);
    let done = lab.run(&["add", "podnet", "--netns", "/ns/blue"]);
    let said = done.failed(1);
    assert!(said.starts_with("error: plugin fake failed on ADD: a\\u{1b}[2Jb\\r\n    where: "), "{said}");
    assert!(said.contains("\n  details: c\\u{9b}1m\n           d\n           error: e\n"), "{said}");

    let script = r#"case $CNI_COMMAND in ADD) printf '%s\n' '{"cniVersion": "1.0.0", "interfaces": [{"name": "e\u001b[31mth0", "mac": "\u0007"}], "dns": {"domain": "x\ny", "search": ["\u007f\u009b1m"]}}' ;; esac"#;
    let lab = Lab::new("1.0.0", script);
    let add = ["add", "podnet", "--netns", "/ns/blue"];
    let shown = on_a_terminal(&mut lab.command(&add));
    assert!(shown.contains("\r\ne\\u{1b}[31mth0  host   \\u{7}\r\n"), "{shown:?}");
    assert!(shown.contains("x\\ny    \\u{7f}\\u{9b}1m\r\n"), "{shown:?}");
    let ours = ["\u{1b}[1m", "\u{1b}[2m", "\u{1b}[0m", "\r\n"];
    let rest = ours.iter().fold(shown.clone(), |text, ours| text.replace(ours, ""));
    assert!(!rest.contains(char::is_control), "{shown:?}");
    // A document is what it is, on a terminal or not: JSON has no need to escape U+007F and U+009B.
    let document: Value = serde_json::from_str(lab.run(&add).ok()).unwrap();
    assert_eq!(document["interfaces"][0]["name"], "e\u{1b}[31mth0");
    assert_eq!(document["dns"]["search"][0], "\u{7f}\u{9b}1m");
}

#[test]
fn an_argument_that_no_plugin_would_take_is_refused_like_one_of_the_environment() {
    let lab = Lab::new("1.0.0", FRIENDLY);
    for pair in ["A=b=c", "A=", "=b", "A"] {
        let done = lab.run(&["add", "podnet", "--netns", "/ns/blue", "--arg", pair]);
        assert!(done.failed(2).contains(&format!("invalid value '{pair}' for '--arg <K=V>'")), "{done:#?}");
        let done = run(lab.command(&["add", "podnet", "--netns", "/ns/blue"]).env("CNI_ARGS", pair));
        assert!(done.failed(1).starts_with(&format!("error: invalid CNI_ARGS pair {pair:?}\n")), "{done:#?}");
    }
    assert_eq!(lab.asked(), [""; 0]);
}

/// What a program shows on a terminal.
fn on_a_terminal(command: &mut Command) -> String {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
    let slave: OwnedFd = fs::File::options().read(true).write(true).open(name).unwrap().into();
    let mut child = command.env("TERM", "xterm").env_remove("NO_COLOR").stdout(slave).spawn().unwrap();
    // The command keeps its own copy of the other end, without which the reader would not see the end.
    command.stdout(std::process::Stdio::null());
    let mut shown = Vec::new();
    let mut terminal = fs::File::from(terminal);
    let mut buffer = [0; 4096];
    // At the end a terminal says EIO.
    while let Ok(read @ 1..) = terminal.read(&mut buffer) {
        shown.extend_from_slice(&buffer[..read]);
    }
    assert!(child.wait().unwrap().success());
    String::from_utf8(shown).unwrap()
}

#[test]
fn a_failed_plugin_is_told_with_its_place_and_its_details() {
    let script = r#"case $CNI_COMMAND in ADD) echo '{"code": 11, "msg": "no free address", "details": "all 3 are taken"}'; exit 1 ;; esac"#;
    let lab = Lab::new("1.0.0", script);
    let done = lab.run(&["add", "podnet", "--netns", "/ns/blue", "--container-id", "c1"]);
    assert_eq!(
        done.failed(1),
        "error: plugin fake failed on ADD: no free address\n    \
             where: network podnet, eth0 of container c1, in /ns/blue, plugin 1 of 1\n  \
           details: all 3 are taken\n     \
              help: it may pass by itself: try again later\n"
    );
    assert_eq!((done.stdout.as_str(), lab.remembered()), ("", Vec::new()));
}

#[test]
fn a_missing_plugin_is_told_with_where_it_was_looked_for() {
    let lab = Lab::new("1.0.0", FRIENDLY);
    fs::write(lab.path("net.d/10-podnet.conflist"), list("podnet", "1.0.0", "fkae")).unwrap();
    let done = lab.run(&["add", "podnet", "--netns", "/ns/blue"]);
    let bin = lab.path("bin");
    let said = done.failed(1);
    assert!(said.starts_with(&format!("error: failed to find plugin \"fkae\" in path [{bin}]\n")), "{said}");
    assert!(said.contains("did you mean \"fake\"?") && said.contains("help: install the plugin"), "{said}");
}

#[test]
fn a_missing_network_is_told_with_the_files_that_were_looked_at() {
    let lab = Lab::new("1.0.0", FRIENDLY);
    fs::write(lab.path("net.d/20-other.conf"), r#"{"name": "other", "type": "fake"}"#).unwrap();
    let done = lab.run(&["add", "potnet", "--netns", "/ns/blue"]);
    let dir = lab.path("net.d");
    assert_eq!(
        done.failed(1),
        format!(
            "error: no net configuration with name \"potnet\" in {dir}\n  \
               details: looked at, in this order:\n           \
                        10-podnet.conflist has network \"podnet\"\n           \
                        20-other.conf has network \"other\"\n     \
                  help: did you mean \"podnet\"?\n"
        )
    );
    let done = run(ferrocni(["status", "podnet", "--conf-dir", "/nonexistent"]).env_remove("NETCONFPATH"));
    assert!(done.failed(1).contains("details: /nonexistent does not exist"), "{done:#?}");
}

#[test]
fn a_namespace_has_to_be_named() {
    let lab = Lab::new("1.0.0", FRIENDLY);
    for verb in ["add", "check"] {
        assert!(lab.run(&[verb, "podnet"]).failed(1).contains("no network namespace was given"));
    }
    assert!(lab.run(&["del", "podnet"]).failed(1).contains("neither a namespace nor a container was given"));
    assert_eq!(lab.asked(), [""; 0]);
}

#[test]
fn a_plugin_that_takes_too_long_is_killed() {
    let lab = Lab::new("1.0.0", "sleep 60");
    let done = lab.run(&["add", "podnet", "--netns", "/ns/blue", "--timeout", "200ms"]);
    assert!(done.failed(1).contains("timed out after 200ms"), "{done:#?}");
    assert!(lab.run(&["add", "podnet", "--netns", "/x", "--timeout", "1h"]).failed(2).contains("ms, s or m"));
}

#[test]
fn gc_deletes_what_is_not_to_be_kept_and_everything_only_on_demand() {
    let lab = Lab::new("1.1.0", FRIENDLY);
    for id in ["c1", "c2", "c3"] {
        lab.run(&["add", "podnet", "--netns", "/ns/blue", "--container-id", id]).ok();
    }
    let done = lab.run(&["gc", "podnet"]);
    assert!(done.failed(2).contains("--keep"), "{done:#?}");
    let done = lab.run(&["gc", "podnet", "--all-gone", "--keep", "c1/eth0"]);
    assert!(done.failed(2).contains("cannot be used with"), "{done:#?}");
    assert!(lab.run(&["gc", "podnet", "--keep", "c1"]).failed(2).contains("ID/IFNAME"));
    assert_eq!(lab.remembered().len(), 3);

    let done = lab.run(&["gc", "podnet", "--keep", "c1/eth0", "--keep", "c3/eth0"]);
    assert_eq!(
        done.ok(),
        "deleted eth0 of container c2\n\
         podnet: 1 deleted, 2 kept; the plugins collected what was not remembered\n"
    );
    assert_eq!(lab.remembered(), ["podnet-c1-eth0", "podnet-c3-eth0"]);
    let last = lab.asked().pop().unwrap();
    let config: Value = serde_json::from_str(last.split_once("args= ").unwrap().1).unwrap();
    assert!(last.starts_with("GC "), "{last}");
    assert_eq!(
        config["cni.dev/valid-attachments"],
        serde_json::json!([{"containerID": "c1", "ifname": "eth0"}, {"containerID": "c3", "ifname": "eth0"}])
    );

    let done = lab.run(&["gc", "podnet", "--all-gone"]);
    assert_eq!(
        done.ok(),
        "deleted eth0 of container c1\ndeleted eth0 of container c3\n\
         podnet: 2 deleted, 0 kept; the plugins collected what was not remembered\n"
    );
}

#[test]
fn gc_says_where_plugins_are_not_asked() {
    let lab = Lab::new("1.0.0", FRIENDLY);
    lab.run(&["add", "podnet", "--netns", "/ns/blue", "--container-id", "c1"]).ok();
    let done = lab.run(&["gc", "podnet", "--all-gone"]);
    assert!(done.ok().contains("1 deleted, 0 kept; what was not remembered stays"), "{done:#?}");
    assert!(lab.asked().iter().all(|call| !call.starts_with("GC ")), "{:#?}", lab.asked());
}

#[test]
fn a_network_that_is_not_ready_says_what_that_means() {
    let script = r#"echo '{"code": 51, "msg": "uplink is down"}'; exit 1"#;
    let done = Lab::new("1.1.0", script).run(&["status", "podnet"]);
    let said = done.failed(1);
    assert!(said.starts_with("error: plugin fake failed on STATUS: uplink is down\n"), "{said}");
    assert!(said.contains("those that are may not reach everything"), "{said}");
    let done = Lab::new("1.0.0", script).run(&["status", "podnet"]);
    assert!(done.ok().contains("nobody was asked"), "{done:#?}");
}

#[test]
fn a_check_of_what_was_never_attached_says_so() {
    let script = r#"echo '{"code": 7, "msg": "no prevResult"}'; exit 1"#;
    let lab = Lab::new("1.0.0", script);
    let said = lab.run(&["check", "podnet", "--netns", "/ns/blue"]).failed(1).to_owned();
    assert!(said.contains("no ADD of it is remembered in "), "{said}");
    assert!(Path::new(&lab.path("cache")).is_dir());
}
