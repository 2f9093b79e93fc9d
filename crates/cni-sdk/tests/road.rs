//! The whole road in memory: environment and standard input in, standard output and exit status out.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use cni_sdk::skel::{Dispatcher, Program, Versions};
use cni_sdk::{
    Add, AddResult, Check, Code, Del, Doing, Error, Gc, IpConfig, Plugin, Result, Status, Undo, Version,
};
use cni_sdk::{entry, serde};

/// A plugin that keeps a file as its state, and fails on demand.
#[derive(Default, serde::Deserialize)]
#[serde(crate = "cni_sdk::serde", default)]
struct Moody {
    state: Option<PathBuf>,
    mood: String,
    decoding: Explosive,
    fuse: Fuse,
}

/// A type whose decoding panics, as somebody's may.
#[derive(Default)]
struct Explosive;

impl<'de> serde::Deserialize<'de> for Explosive {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> std::result::Result<Self, D::Error> {
        panic!("while decoding")
    }
}

/// A type that panics when it goes, if it is told to.
#[derive(Default, serde::Deserialize)]
#[serde(crate = "cni_sdk::serde", transparent)]
struct Fuse(bool);

impl Drop for Fuse {
    fn drop(&mut self) {
        assert!(!self.0, "while dropping");
    }
}

impl Plugin for Moody {
    const TYPE: &'static str = "moody";
    const VERSIONS: &'static [Version] = Version::since(Version::V0_3_0);

    fn add(&self, cx: &Add, undo: &mut Undo) -> Result<AddResult> {
        if let Some(state) = self.state.clone() {
            std::fs::write(&state, "made")?;
            let stubborn = self.mood == "stubborn";
            undo.push("the state file", move || {
                std::fs::remove_file(state)?;
                if stubborn { Err("it would not go".into()) } else { Ok(()) }
            });
        }
        match self.mood.as_str() {
            "fail" | "stubborn" => {
                Err(Error::new(Code::TRY_AGAIN_LATER, "not today")).doing("asking nicely").doing("adding")
            }
            "panic" => panic!("at the disco"),
            _ => {
                let mut result = cx.prev_result.clone().unwrap_or_default();
                let address = "192.0.2.1/24".parse()?;
                result.ips.push(IpConfig { address, gateway: None, interface: None });
                Ok(result)
            }
        }
    }

    fn del(&self, cx: &Del) -> Result<()> {
        match (&cx.netns, &cx.prev_result) {
            (Some(netns), _) => Err(Error::failed(format!("netns {}", netns.display()))),
            (None, Some(_)) => Err(Error::failed("prevResult")),
            (None, None) => Ok(()),
        }
    }

    fn check(&self, cx: &Check) -> Result<()> {
        cx.prev_result().map(drop)
    }

    fn gc(&self, cx: &Gc) -> Result<()> {
        Err(Error::failed(format!("{} valid", cx.valid.len())))
    }

    fn status(&self, _: &Status) -> Result<()> {
        Err(Error::new(Code::PLUGIN_NOT_AVAILABLE, "moody"))
    }
}

/// What came out.
struct Outcome {
    status: u8,
    stdout: String,
    stderr: String,
}

impl Outcome {
    fn error(&self) -> (u64, String) {
        assert_eq!(self.status, 1, "{}", self.stdout);
        let document: serde_json::Value = serde_json::from_str(&self.stdout).expect(&self.stdout);
        (document["code"].as_u64().expect("a code"), document["msg"].as_str().expect("a message").to_owned())
    }
}

const ADD: [(&str, &str); 5] = [
    ("CNI_COMMAND", "ADD"),
    ("CNI_CONTAINERID", "c1"),
    ("CNI_NETNS", "/nonexistent/netns"),
    ("CNI_IFNAME", "eth0"),
    ("CNI_PATH", "/nonexistent"),
];

fn call_with(env: &[(&str, &str)], stdin: &mut dyn Read, stdout: &mut dyn Write) -> (u8, String) {
    let env: HashMap<&str, &str> = env.iter().copied().collect();
    let mut stderr = Vec::new();
    let mut dispatcher = Dispatcher {
        getenv: &|name| env.get(name).map(OsString::from),
        stdin,
        stdout,
        stderr: &mut stderr,
        versions: Versions::default(),
        program: &Program::default(),
    };
    let status = dispatcher.plugin_main(&entry::<Moody>());
    (status, String::from_utf8(stderr).expect("UTF-8"))
}

fn call(env: &[(&str, &str)], stdin: &str) -> Outcome {
    let mut stdout = Vec::new();
    let (status, stderr) = call_with(env, &mut stdin.as_bytes(), &mut stdout);
    Outcome { status, stdout: String::from_utf8(stdout).expect("UTF-8"), stderr }
}

/// The environment of ADD with some variables changed; an empty value takes one away.
fn env<'a>(changes: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut env: Vec<_> = ADD.to_vec();
    for (name, value) in changes {
        env.retain(|(n, _)| n != name);
        env.push((name, value));
    }
    env
}

const CONFIG: &str = r#"{"cniVersion":"1.1.0","name":"net","type":"moody"}"#;

#[test]
fn a_result_is_printed_in_the_version_of_the_configuration() {
    let outcome = call(&ADD, CONFIG);
    assert_eq!(outcome.status, 0);
    let expected = "{\n    \"cniVersion\": \"1.1.0\",\n    \"ips\": [\n        {\n            \
                    \"address\": \"192.0.2.1/24\"\n        }\n    ]\n}";
    assert_eq!(outcome.stdout, expected);
    assert_eq!(outcome.stderr, "");
    let old =
        call(&ADD, r#"{"cniVersion":"0.3.1","name":"net","prevResult":{"ips":[{"address":"::1/128"}]}}"#);
    assert!(
        old.stdout.contains("\"version\": \"6\"") && old.stdout.contains("\"dns\": {}"),
        "{}",
        old.stdout
    );
}

#[test]
fn without_a_command_it_says_what_it_is_and_reads_nothing() {
    struct Never;
    impl Read for Never {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            panic!("standard input was read");
        }
    }
    let mut stdout = Vec::new();
    let (status, stderr) = call_with(&[], &mut Never, &mut stdout);
    assert_eq!((status, stdout.as_slice()), (0, &b""[..]));
    assert_eq!(
        stderr,
        "CNI moody plugin version unknown\nCNI protocol versions supported: 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0\n"
    );
    let (status, _) = call_with(&[("CNI_COMMAND", "VERSION")], &mut Never, &mut stdout);
    assert_eq!(status, 0);
    assert!(stdout.starts_with(br#"{"cniVersion":"1.1.0","supportedVersions":["0.3.0""#));
    assert!(stdout.ends_with(b"]}\n"));
    // a required variable that is missing is told before anything is read
    let (status, _) = call_with(&[("CNI_COMMAND", "ADD")], &mut Never, &mut Vec::new());
    assert_eq!(status, 1);
}

#[test]
fn parameters_are_judged_before_missing_ones_are_told_all_at_once() {
    let missing = call(&env(&[("CNI_NETNS", ""), ("CNI_PATH", ""), ("CNI_IFNAME", "")]), CONFIG);
    let text = "required env variables [CNI_NETNS,CNI_IFNAME,CNI_PATH] missing";
    assert_eq!(missing.error(), (4, text.into()));
    let invalid = call(&env(&[("CNI_CONTAINERID", ""), ("CNI_IFNAME", "a/b")]), CONFIG);
    assert_eq!(invalid.error().1, "interface name contains / or : or whitespace characters");
    let passed_through = call(&env(&[("CNI_COMMAND", "GC"), ("CNI_CONTAINERID", "/")]), CONFIG);
    assert_eq!(passed_through.error(), (999, "0 valid".into()));
}

#[test]
fn the_name_is_judged_before_the_command_and_the_command_before_the_version() {
    let unknown = env(&[("CNI_COMMAND", "NOPE")]);
    assert_eq!(call(&unknown, "").error().0, 6);
    assert_eq!(call(&unknown, "{}").error(), (7, "missing network name".into()));
    assert_eq!(
        call(&unknown, r#"{"name":"a/b"}"#).error(),
        (7, "invalid characters found in network name".into())
    );
    let text = "unknown CNI_COMMAND: NOPE";
    assert_eq!(call(&unknown, r#"{"name":"n","cniVersion":7}"#).error(), (4, text.into()));
    let placed = call(&ADD, "{\"name\":\"n\",\n\"cniVersion\":7}").error();
    assert_eq!(placed.0, 6);
    assert!(placed.1.starts_with("decoding version from network config: cniVersion: "), "{}", placed.1);
    assert!(placed.1.ends_with("at line 2 column 14"), "{}", placed.1);
    assert_eq!(
        call(&ADD, r#"{"name":"n","cniVersion":"0.2.0"}"#).error(),
        (1, "incompatible CNI versions".into())
    );
    let check = env(&[("CNI_COMMAND", "CHECK")]);
    let text = "config version does not allow CHECK";
    assert_eq!(call(&check, r#"{"name":"n","cniVersion":"0.3.1"}"#).error(), (1, text.into()));
}

#[test]
fn the_own_namespace_is_refused_before_any_work() {
    let dir = tempfile::tempdir().expect("a folder");
    let state = dir.path().join("state");
    let config = format!(r#"{{"name":"n","cniVersion":"1.0.0","state":{state:?},"mood":"fail"}}"#);
    let own = env(&[("CNI_NETNS", "/proc/thread-self/ns/net")]);
    let text = "plugin's netns and netns from CNI_NETNS should not be the same";
    assert_eq!(call(&own, &config).error(), (8, text.into()));
    for allowed in ["1", "TRUE", "true"] {
        let mut own = own.clone();
        own.push(("CNI_NETNS_OVERRIDE", allowed));
        assert_eq!(call(&own, &config).error().0, 11, "{allowed}");
    }
    let mut refused = own.clone();
    refused.push(("CNI_NETNS_OVERRIDE", "yes"));
    assert_eq!(call(&refused, &config).error().0, 8);
}

#[test]
fn a_failure_keeps_its_code_and_tells_the_chain() {
    let outcome = call(&ADD, r#"{"name":"n","cniVersion":"1.0.0","mood":"fail"}"#);
    let expected = "{\n    \"cniVersion\": \"1.0.0\",\n    \"code\": 11,\n    \"msg\": \"not today\",\n    \
                    \"details\": \"while asking nicely; while adding\"\n}";
    assert_eq!((outcome.status, outcome.stdout.as_str()), (1, expected));
}

#[test]
fn what_was_made_is_undone_by_failure_panic_and_a_broken_standard_output() {
    struct Broken;
    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::Error::from(io::ErrorKind::BrokenPipe))
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let dir = tempfile::tempdir().expect("a folder");
    let state = dir.path().join("state");
    let config =
        |mood: &str| format!(r#"{{"name":"n","cniVersion":"1.0.0","state":{state:?},"mood":{mood:?}}}"#);

    assert_eq!(call(&ADD, &config("fail")).error().0, 11);
    assert!(!state.exists());
    assert_eq!(call(&ADD, &config("panic")).error(), (999, "plugin moody panicked: at the disco".into()));
    assert!(!state.exists());
    let fuse = config("").replace('}', r#","fuse":true}"#);
    assert_eq!(call(&ADD, &fuse).error(), (999, "plugin moody panicked: while dropping".into()));
    assert!(!state.exists());
    let decoding = r#"{"name":"n","cniVersion":"1.0.0","decoding":1}"#;
    assert_eq!(call(&ADD, decoding).error(), (999, "plugin moody panicked: while decoding".into()));
    let outcome = call(&ADD, &config("stubborn"));
    assert!(outcome.stdout.contains("undo the state file: it would not go"), "{}", outcome.stdout);
    let (status, stderr) = call_with(&ADD, &mut config("").as_bytes(), &mut Broken);
    assert_eq!(status, 1);
    assert!(stderr.contains("while writing the answer to standard output"), "{stderr}");
    assert!(!state.exists());

    assert_eq!(call(&ADD, &config("")).status, 0);
    assert!(state.exists(), "a success is kept");
}

#[test]
fn every_verb_gets_what_the_specification_says() {
    let verb = |verb, config: &str| call(&env(&[("CNI_COMMAND", verb)]), config);
    assert_eq!(verb("DEL", CONFIG).error().1, "netns /nonexistent/netns");
    let gone = env(&[("CNI_COMMAND", "DEL"), ("CNI_NETNS", "")]);
    assert_eq!(call(&gone, CONFIG).status, 0);
    let with = |prev: &str| format!(r#"{{"name":"n","cniVersion":"1.0.0","prevResult":{prev}}}"#);
    assert_eq!(call(&gone, &with("{}")).error().1, "prevResult");
    // DEL does without a prevResult that makes no sense, the others say what is wrong with it
    assert_eq!(call(&gone, &with(r#"{"ips":[{"address":"nonsense"}]}"#)).status, 0);
    let text = verb("ADD", &with(r#"{"ips":[{"address":"nonsense"}]}"#)).error().1;
    let expected = "could not parse prevResult: prevResult.ips[0].address: invalid CIDR address: nonsense \
                    at line 1 column 66";
    assert_eq!(text, expected);
    let text = verb("ADD", &with(r#"{"cniVersion":"7.0.0"}"#)).error().1;
    assert_eq!(text, "could not parse prevResult: unsupported CNI result version \"7.0.0\"");
    assert_eq!(verb("CHECK", CONFIG).error(), (7, "Required prevResult missing".into()));
    assert_eq!(verb("CHECK", &with("{}")).status, 0);
    let gc = |key: &str| {
        let ids = r#"[{"containerID":"a","ifname":"eth0"}]"#;
        verb("GC", &format!(r#"{{"name":"n","cniVersion":"1.1.0","{key}":{ids}}}"#)).error().1
    };
    assert_eq!(gc("cni.dev/valid-attachments"), "1 valid");
    assert_eq!(gc("cni.dev/attachments"), "1 valid");
    assert_eq!(verb("STATUS", CONFIG).error(), (50, "moody".into()));
}

#[test]
fn a_plugins_own_keys_are_placed_when_they_are_wrong() {
    let outcome = call(&ADD, "{\"name\":\"n\",\"cniVersion\":\"1.0.0\",\n\"mood\": [1]}");
    let text =
        "failed to load netconf: moody: mood: invalid type: sequence, expected a string at line 2 column 9";
    assert_eq!(outcome.error(), (6, text.into()));
    assert_eq!(call(&ADD, r#"{"NAME":"n","CNIVERSION":"1.0.0","MOOD":null}"#).status, 0);
}

#[test]
fn standard_input_is_bounded_and_its_failure_is_told() {
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("cable pulled"))
        }
    }
    let mut stdout = Vec::new();
    assert_eq!(call_with(&ADD, &mut Failing, &mut stdout).0, 1);
    assert!(String::from_utf8_lossy(&stdout).contains("error reading from stdin: cable pulled"));
    stdout.clear();
    assert_eq!(call_with(&ADD, &mut io::repeat(b' '), &mut stdout).0, 1);
    assert!(String::from_utf8_lossy(&stdout).contains("more than 64 MiB of configuration"));
}

#[test]
fn variables_that_are_no_text_are_refused() {
    use std::os::unix::ffi::OsStringExt;
    let mut stdout = Vec::new();
    let mut dispatcher = Dispatcher {
        getenv: &|name| Some(if name == "CNI_NETNS" { OsString::from_vec(vec![0xff]) } else { "ADD".into() }),
        stdin: &mut io::empty(),
        stdout: &mut stdout,
        stderr: &mut io::sink(),
        versions: Versions::default(),
        program: &Program::default(),
    };
    assert_eq!(dispatcher.plugin_main(&entry::<Moody>()), 1);
    assert!(String::from_utf8_lossy(&stdout).contains("CNI_NETNS is not UTF-8"));
    // what the verb does not read may be anything
    for (command, code) in [("VERSION", 0), ("STATUS", 1)] {
        let junk = |name: &str| {
            Some(OsString::from_vec(if name == "CNI_NETNS" { vec![0xff] } else { b"/x".to_vec() }))
        };
        let mut stdout = Vec::new();
        let mut dispatcher = Dispatcher {
            getenv: &|name| if name == "CNI_COMMAND" { Some(command.into()) } else { junk(name) },
            stdin: &mut CONFIG.as_bytes(),
            stdout: &mut stdout,
            stderr: &mut io::sink(),
            versions: Versions::default(),
            program: &Program::default(),
        };
        assert_eq!(dispatcher.plugin_main(&entry::<Moody>()), code);
        assert!(!String::from_utf8_lossy(&stdout).contains("UTF-8"), "{command}");
    }
}
