//! `cnitool`, by the reference's rules: with our plugins, with the reference's, and with mistakes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use cni_linux::Netns;
use serde_json::Value;

use crate::Test;
use crate::common::{DEAF, Done, FRIENDLY, asked, command, link, list, plugin, redirected, run};

/// Where Debian puts the reference's plugins.
const REFERENCE: &str = "/usr/lib/cni";
const BRIDGE: &str = "/usr/lib/cni/bridge";
/// What the reference changes the firewall with, and what shows it.
const IPTABLES: &str = "/usr/sbin/iptables-nft";
const NFT: &str = "/usr/sbin/nft";

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::new("our_loopback_goes_up_and_down", our_loopback_goes_up_and_down),
        Test::new("the_references_plugins_make_a_network", the_references_plugins_make_a_network)
            .needs(BRIDGE)
            .needs(IPTABLES)
            .needs(NFT),
        Test::new("gc_tears_down_what_is_cached_of_the_network", gc_tears_down_what_is_cached_of_the_network),
        Test::new("the_container_is_named_after_the_namespace", the_container_is_named_after_the_namespace),
        Test::new("a_result_that_nobody_receives_is_undone", a_result_that_nobody_receives_is_undone),
        Test::new("the_environment_is_judged", the_environment_is_judged),
        Test::new("a_missing_network_is_explained", a_missing_network_is_explained),
        Test::new("mistakes_end_with_status_1", mistakes_end_with_status_1),
        Test::new("help_and_completions_are_asked_for", help_and_completions_are_asked_for),
    ]
}

/// A host of a test's own: a network namespace, configurations, and cnitool.
struct Host {
    netns: Netns,
    dir: tempfile::TempDir,
    cnitool: PathBuf,
}

impl Host {
    fn new(configuration: &str) -> Host {
        let dir = tempfile::tempdir().unwrap();
        let cnitool = link(dir.path(), "cnitool");
        for name in ["net.d", "bin"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        fs::write(dir.path().join("net.d/10-net.conflist"), configuration).unwrap();
        Host { netns: Netns::temporary().unwrap(), dir, cnitool }
    }

    fn bin(&self) -> PathBuf {
        self.dir.path().join("bin")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = command(&self.cnitool);
        command.args(arguments).env("NETCONFPATH", self.dir.path().join("net.d")).env("CNI_PATH", self.bin());
        command
    }

    /// Runs cnitool on this host.
    fn cnitool(&self, arguments: &[&str]) -> Done {
        self.run(&mut self.command(arguments))
    }

    fn run(&self, command: &mut Command) -> Done {
        self.netns.run(|| run(command)).unwrap()
    }
}

fn path(container: &Netns) -> String {
    container.path().unwrap().display().to_string()
}

fn remembered(network: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir("/var/lib/cni/results") else { return Vec::new() };
    let names = entries.map(|e| e.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with(&format!("{network}-"))).collect()
}

fn our_loopback_goes_up_and_down() {
    let host = Host::new(&list("lo-net", "1.1.0", "loopback"));
    link(&host.bin(), "loopback");
    let container = Netns::temporary().unwrap();
    let netns = path(&container);

    let done = host.cnitool(&["add", "lo-net", &netns]);
    let result: Value = serde_json::from_str(done.ok()).unwrap();
    assert_eq!(result["ips"][0]["address"], "127.0.0.1/8");
    assert!(
        done.stdout.starts_with("{\n    \"cniVersion\": \"1.1.0\"") && done.stdout.ends_with('}'),
        "{}",
        done.stdout
    );
    assert!(container.link("lo").unwrap().is_up());
    assert_eq!(remembered("lo-net").len(), 1);
    for verb in ["check", "status"] {
        assert_eq!(host.cnitool(&[verb, "lo-net", &netns]).ok(), "");
    }

    container.set_down("lo").unwrap();
    let done = host.cnitool(&["check", "lo-net", &netns]);
    let said = done.failed(1);
    assert!(said.contains("plugin type=\"loopback\" failed (check): loopback interface is down"), "{said}");

    assert_eq!(host.cnitool(&["del", "lo-net", &netns]).ok(), "");
    assert_eq!(remembered("lo-net"), [""; 0]);
}

fn the_references_plugins_make_a_network() {
    let host = Host::new(
        r#"{"cniVersion": "1.0.0", "name": "refnet", "plugins": [
            {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true,
             "ipam": {"type": "host-local", "subnet": "10.99.0.0/16", "routes": [{"dst": "0.0.0.0/0"}]}},
            {"type": "portmap", "capabilities": {"portMappings": true}}]}"#,
    );
    let cnitool = |arguments: &[&str]| host.run(host.command(arguments).env("CNI_PATH", REFERENCE));
    let (one, two) = (Netns::temporary().unwrap(), Netns::temporary().unwrap());
    let result: Value = serde_json::from_str(cnitool(&["add", "refnet", &path(&one)]).ok()).unwrap();
    assert_eq!(result["ips"][0]["address"], "10.99.0.2/16");
    let mut with_ports = host.command(&["add", "-i", "net1", "refnet", &path(&two)]);
    let ports = r#"{"portMappings": [{"hostPort": 8082, "containerPort": 80, "protocol": "tcp"}]}"#;
    host.run(with_ports.env("CNI_PATH", REFERENCE).env("CAP_ARGS", ports)).ok();
    assert_eq!(two.addresses("net1").unwrap()[0].net.to_string(), "10.99.0.3/16");
    let rules = || {
        // It warns of rules that iptables made.
        let listed = host.run(command(NFT).args(["list", "ruleset"]));
        assert_eq!(listed.code, Some(0), "{listed:#?}");
        listed.stdout.matches("dnat to 10.99.0.").count()
    };
    assert_eq!(rules(), 1);

    // Only the one without ports: the reference's portmap looks for IPv6 rules that it never made.
    assert_eq!(cnitool(&["check", "refnet", &path(&one)]).ok(), "");
    assert_eq!(cnitool(&["del", "refnet", &path(&one)]).ok(), "");
    assert!(one.link_if_exists("eth0").unwrap().is_none());
    assert_eq!((rules(), remembered("refnet").len()), (1, 1));
    assert!(!Path::new("/var/lib/cni/networks/refnet/10.99.0.2").exists());

    // The other one is found in the cache, with its interface and its ports.
    assert_eq!(cnitool(&["gc", "refnet", "/no/matter/which"]).ok(), "");
    assert!(two.link_if_exists("net1").unwrap().is_none());
    assert_eq!((rules(), remembered("refnet").len()), (0, 0));
    assert!(!Path::new("/var/lib/cni/networks/refnet/10.99.0.3").exists());
}

fn gc_tears_down_what_is_cached_of_the_network() {
    let host = Host::new(&list("gcnet", "1.1.0", "fake"));
    plugin(&host.bin(), "fake", FRIENDLY);
    for netns in ["/ns/one", "/ns/two"] {
        host.cnitool(&["add", "gcnet", netns]).ok();
    }
    assert_eq!(remembered("gcnet").len(), 2);
    assert_eq!(host.cnitool(&["gc", "gcnet", "/ns/three"]).ok(), "");
    assert_eq!(remembered("gcnet"), [""; 0]);
    let verbs: Vec<String> =
        asked(&host.bin(), "fake").iter().map(|line| line.split(' ').next().unwrap().to_owned()).collect();
    assert_eq!(verbs, ["ADD", "ADD", "DEL", "DEL", "GC"]);
}

fn the_container_is_named_after_the_namespace() {
    let host = Host::new(&list("idnet", "1.0.0", "fake"));
    plugin(&host.bin(), "fake", FRIENDLY);
    // Made absolute without following links; further arguments do not matter.
    let mut add = host.command(&["add", "idnet", "netns/./x/../testing", "more", "--ifname", "net5"]);
    add.current_dir("/var").env("CNI_IFNAME", "other").env("CNI_ARGS", "A=b;C=d");
    let done = host.run(&mut add);
    done.ok();
    let asked = asked(&host.bin(), "fake");
    // printf /var/netns/testing | sha512sum | cut -c-20
    let expected = "ADD id=cnitool-fa8f1fea99a4f1b2522c netns=/var/netns/testing ifname=net5 args=A=b;C=d {";
    assert!(asked[0].starts_with(expected), "{asked:?}");
    let mut del = host.command(&["del", "idnet", "/var/netns/testing"]);
    host.run(del.env("CNI_IFNAME", "net5")).ok();
    assert_eq!(remembered("idnet"), [""; 0]);
}

fn a_result_that_nobody_receives_is_undone() {
    for (to, said) in DEAF {
        let host = Host::new(&list("deafnet", "1.0.0", "fake"));
        plugin(&host.bin(), "fake", FRIENDLY);
        let done = host.run(&mut redirected(&host.command(&["add", "deafnet", "/ns/one"]), to));
        let expected = format!("error: writing to standard output: {said}\n");
        assert!(done.failed(1).starts_with(&expected), "{done:#?}");
        let asked = asked(&host.bin(), "fake");
        assert!(asked.len() == 2 && asked[1].starts_with("DEL id=cnitool-"), "{asked:?}");
        assert_eq!(remembered("deafnet"), [""; 0]);
    }
}

fn the_environment_is_judged() {
    let host = Host::new(&list("argnet", "1.0.0", "fake"));
    plugin(&host.bin(), "fake", FRIENDLY);
    for (args, pair) in [("A", "A"), ("A=b;", ""), ("A=b=c", "A=b=c"), ("A=", "A="), ("A=b;=c", "=c")] {
        let done = host.run(host.command(&["add", "argnet", "/ns"]).env("CNI_ARGS", args));
        let expected = format!("error: invalid CNI_ARGS pair {pair:?}\n");
        assert!(done.failed(1).starts_with(&expected), "{done:#?}");
    }
    for arguments in ["[]", "{", "portMappings"] {
        let done = host.run(host.command(&["add", "argnet", "/ns"]).env("CAP_ARGS", arguments));
        assert!(done.failed(1).starts_with("error: CAP_ARGS is not a JSON object: "), "{done:#?}");
    }
    assert_eq!(asked(&host.bin(), "fake"), [""; 0]);
    host.run(host.command(&["add", "argnet", "/ns"]).env("CAP_ARGS", "null")).ok();
    let done = host.run(host.command(&["add", "argnet", "/ns2"]).env_remove("CNI_PATH"));
    assert!(
        done.failed(1).starts_with("error: plugin type=\"fake\" failed (add): no paths provided"),
        "{done:#?}"
    );
}

fn a_missing_network_is_explained() {
    let host = Host::new(&list("podnet", "1.0.0", "fake"));
    let done = host.cnitool(&["add", "pod-net", "/ns"]);
    let dir = host.dir.path().join("net.d");
    assert_eq!(
        done.failed(1),
        format!(
            "error: no net configuration with name \"pod-net\" in {}\n  \
               details: looked at, in this order:\n           \
                        10-net.conflist has network \"podnet\"\n     \
                  help: did you mean \"podnet\"?\n",
            dir.display()
        )
    );
    // A broken file that comes first ends the search, as it does in the reference.
    fs::write(dir.join("00-broken.conflist"), "{").unwrap();
    let done = host.cnitool(&["add", "podnet", "/ns"]);
    assert!(done.failed(1).contains("00-broken.conflist: error parsing configuration list"), "{done:#?}");
    assert!(done.stderr.contains("files are read in the order of their names"), "{done:#?}");
}

fn mistakes_end_with_status_1() {
    let host = Host::new(&list("net", "1.0.0", "fake"));
    for arguments in [&["add"][..], &["add", "net"], &["ad", "net", "/ns"], &["--wrong"]] {
        let done = host.cnitool(arguments);
        assert!(done.failed(1).starts_with("error: "), "{done:#?}");
        assert_eq!(done.stdout, "");
    }
    assert!(host.cnitool(&["ad", "net", "/ns"]).stderr.contains("'add'"));
}

fn help_and_completions_are_asked_for() {
    let host = Host::new(&list("net", "1.0.0", "fake"));
    for arguments in [&[][..], &["--help"], &["help"]] {
        let done = host.cnitool(arguments);
        assert!(done.ok().contains("Usage: cnitool") && done.stdout.contains("NETCONFPATH"), "{done:#?}");
    }
    assert!(host.cnitool(&["completion", "bash"]).ok().contains("_cnitool()"));
}
