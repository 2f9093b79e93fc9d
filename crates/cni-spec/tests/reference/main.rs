//! The same documents to this crate and to the Go types of the reference: the same bytes, or the same refusal.
//!
//! Needs Go and the reference's sources in a GOPATH, as Debian's golang-github-containernetworking-plugins-dev lays
//! them out; where there are none it says so on standard error. These sources know versions up to 1.0.0.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that runs a compiler")]

mod corpus;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use cni_spec::version::{self, Numbers};
use cni_spec::{
    AddResult, Args, ContainerId, Error, InterfaceName, NetworkConfig, NetworkName, PluginConfig, Version,
    json,
};
use corpus::{
    BAD_IP, BAD_PREFIXES, Dice, ODD_IP4, ODD_IP6, PREFIXES4, PREFIXES6, VERSIONS, config, families, lists,
    string,
};
use serde::{Deserialize, Serialize};

/// Where Debian puts the sources of libraries.
const GOPATH: &str = "/usr/share/gocode";

#[derive(Clone, Serialize)]
struct Request {
    r#do: &'static str,
    text: String,
    to: &'static str,
}

#[derive(Deserialize)]
struct Answer {
    output: String,
    error: String,
}

/// The reference as a program, or why there is none.
fn reference() -> &'static Result<PathBuf, String> {
    static PROGRAM: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let gopath = std::env::var("GOPATH").unwrap_or(GOPATH.into());
        let library = Path::new(&gopath).join("src/github.com/containernetworking/cni");
        if !library.is_dir() {
            return Err(format!("there is no {}", library.display()));
        }
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("reference");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/reference.go");
        let mut go = Command::new("go");
        go.args(["build", "-o"]).arg(&program).arg(source);
        go.env("GO111MODULE", "off")
            .env("GOPATH", gopath)
            .env("GOCACHE", env!("CARGO_TARGET_TMPDIR").to_owned() + "/go");
        match go.output() {
            Err(error) => Err(format!("go cannot be run: {error}")),
            Ok(built) if !built.status.success() => panic!("{}", String::from_utf8_lossy(&built.stderr)),
            Ok(_) => Ok(program),
        }
    })
}

/// What the reference answers to each of these; nothing where it is not there.
fn ask(test: &str, requests: &[Request]) -> Option<Vec<Result<String, String>>> {
    let program = match reference() {
        Ok(program) => program,
        Err(why) => {
            // `eprintln!` would be hidden by the harness when the test passes
            std::io::stderr().write_all(format!("skipped: {test}: {why}\n").as_bytes()).unwrap();
            return None;
        }
    };
    let mut child = Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let lines: String = requests.iter().map(|r| serde_json::to_string(r).unwrap() + "\n").collect();
    let mut stdin = child.stdin.take().unwrap();
    let feeder = std::thread::spawn(move || stdin.write_all(lines.as_bytes()).unwrap());
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap();
    let answers: Vec<_> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| {
            let answer: Answer = serde_json::from_str(line).unwrap();
            if answer.error.is_empty() { Ok(as_newer_go_prints(&answer.output)) } else { Err(answer.error) }
        })
        .collect();
    assert_eq!(answers.len(), requests.len());
    Some(answers)
}

/// Go had no short escapes for these two before 1.22.
fn as_newer_go_prints(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let (escape, short) = match &rest[at..] {
            e if e.starts_with("\\u0008") => (6, "\\b"),
            e if e.starts_with("\\u000c") => (6, "\\f"),
            e => (2, &e[..2]),
        };
        out.push_str(&rest[..at]);
        out.push_str(short);
        rest = &rest[at + escape..];
    }
    out + rest
}

/// Asks both and compares: equal output, or an error from both. What the reference prints as `<nil>` it read as
/// nothing at all, which is refused here.
fn compare(test: &str, requests: &[Request], ours: impl Fn(&Request) -> Result<String, String>) {
    let Some(theirs) = ask(test, requests) else { return };
    let mut accepted = 0;
    let mut differences = Vec::new();
    for (request, theirs) in requests.iter().zip(theirs) {
        let ours = ours(request);
        let same = match (&ours, &theirs) {
            (Ok(ours), Ok(theirs)) => ours == theirs,
            (Err(_), Ok(theirs)) => theirs.contains("\\u003cnil\\u003e"),
            (ours, theirs) => ours.is_err() && theirs.is_err(),
        };
        accepted += usize::from(ours.is_ok());
        if !same {
            let Request { text, to, .. } = request;
            differences.push(format!("{text:?} to {to:?}\n  ours:   {ours:?}\n  theirs: {theirs:?}"));
        }
    }
    let (different, all) = (differences.len(), requests.len());
    differences.truncate(10);
    assert!(differences.is_empty(), "{different} of {all} differ, for instance\n{}", differences.join("\n"));
    assert!(accepted * 15 > all, "only {accepted} of {all} are accepted: that compares little");
    assert!(accepted < all, "all {all} are accepted: that compares no refusal");
}

/// What this makes of a result.
fn converted(request: &Request) -> Result<String, String> {
    let (result, _) =
        AddResult::decode(request.text.as_bytes(), Version::DEFAULT).map_err(|e| e.to_string())?;
    result.encode(Version::known(request.to).unwrap()).map_err(|e| e.to_string())
}

#[test]
fn results_in_every_version() {
    let mut dice = Dice(7);
    let mut requests = Vec::new();
    for _ in 0..150 {
        for from in ["", "0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0"] {
            let text = if from < "0.3.0" { families(&mut dice, from) } else { lists(&mut dice, from) };
            requests.extend(VERSIONS.map(|to| Request { r#do: "result", text: text.clone(), to }));
        }
    }
    // see DIFFERENT
    requests
        .retain(|r| r.to >= "0.3.0" || converted(r) != Err("cannot convert: no valid IP addresses".into()));
    compare("results_in_every_version", &requests, converted);
}

#[test]
fn every_odd_address() {
    let mut requests = Vec::new();
    for ip in ODD_IP4.iter().chain(ODD_IP6).chain(BAD_IP).chain(&[""]) {
        for prefix in PREFIXES4.iter().chain(PREFIXES6).chain(BAD_PREFIXES) {
            let text = format!("{{\"cniVersion\":\"1.0.0\",\"ips\":[{{\"address\":\"{ip}{prefix}\"}}]}}");
            requests.push(Request { r#do: "result", text, to: "1.0.0" });
        }
        let text = format!("{{\"cniVersion\":\"1.0.0\",\"routes\":[{{\"dst\":\"::/0\",\"gw\":\"{ip}\"}}]}}");
        requests.push(Request { r#do: "result", text, to: "1.0.0" });
    }
    // Go 1.19 reads leading zeros in front of four digits and before "::" of no groups; later ones do not.
    requests.retain(|r| !r.text.contains("12345::"));
    compare("every_odd_address", &requests, converted);
}

/// Documents that are broken, or say nothing, or the wrong thing.
fn odd_texts() -> impl Iterator<Item = &'static str> {
    ["", " ", "\u{feff}{}", "{\"a\":\"\t\"}", " {} \n"]
        .into_iter()
        .chain(include_str!("documents.txt").lines())
}

#[test]
fn odd_documents() {
    let each = |r#do, to| odd_texts().map(move |t| Request { r#do, to, text: t.to_string() });
    let results: Vec<_> = each("result", "1.0.0").chain(each("result", "0.4.0")).collect();
    compare("odd_documents: results", &results, converted);
    compare("odd_documents: configurations", &each("config", "").collect::<Vec<_>>(), configured);
    compare("odd_documents: errors", &each("error", "").collect::<Vec<_>>(), failed);
}

/// What differs on purpose: what, a request, what is read here, what the reference reads. Part of the answer will do;
/// an error begins with an exclamation mark.
#[rustfmt::skip]
const DIFFERENT: &[(&str, &str, &str, &str, &str, &str)] = &[
    ("what has no address has none in 0.1 and 0.2 either, even as it came",
        "result", "0.2.0", r#"{"cniVersion":"0.2.0","dns":{"domain":"a"}}"#, "!cannot convert", "\"domain\": \"a\""),
    ("an address without an address is refused, not printed as <nil>",
        "result", "1.0.0", r#"{"cniVersion":"1.0.0","ips":[{}]}"#, "!ips[0]: missing field `address`", "nil"),
    ("a route without a destination, too",
        "result", "1.0.0", r#"{"cniVersion":"1.0.0","routes":[{}]}"#, "!routes[0]: missing field `dst`", "nil"),
    ("the family of an address is its own, not what `version` says",
        "result", "0.4.0", r#"{"cniVersion":"0.4.0","ips":[{"version":"6","address":"10.0.0.1/8"}]}"#,
        "\"version\": \"4\"", "\"version\": \"6\""),
    ("nor is it lost where `version` is missing",
        "result", "0.2.0", r#"{"cniVersion":"0.4.0","ips":[{"address":"10.0.0.1/8"}]}"#, "10.0.0.1/8", "!cannot convert"),
    ("an interface that is null is one without a name",
        "result", "0.4.0", r#"{"cniVersion":"0.4.0","interfaces":[null]}"#, "\"name\": \"\"", "null"),
    ("of two equal keys the last one counts as a whole",
        "result", "0.4.0", r#"{"cniVersion":"0.4.0","dns":{"domain":"a"},"dns":{"search":["b"]}}"#,
        "\"dns\": {\n        \"search\"", "\"domain\": \"a\""),
    ("null is nothing, even behind something",
        "result", "1.0.0", r#"{"cniVersion":"1.0.0","ips":[{"address":"::/0","gateway":"::1","gateway":null}]}"#,
        "\"gateway\": \"::1\"", "\"address\": \"::/0\"\n"),
    ("half a surrogate pair is no text",
        "error", "", r#"{"msg":"\ud800"}"#, "!msg: ", "\u{fffd}"),
    ("minus nothing is no whole number",
        "lenient", "", r#"{"offset":-0}"#, "!offset: ", "\"offset\":0"),
    ("numbers that nobody reads may be of any size",
        "list", "", r#"{"name":"n","plugins":[{"type":"t","x":1e400}]}"#, "[\"n\"", "!"),
    ("codes have 32 bits",
        "error", "", r#"{"code":4294967296}"#, "!code: ", "4294967296"),
    ("names have no control characters",
        "interface", "", "a\u{1b}", "!4 interface name contains control characters", ""),
    ("no colon behind which nothing comes",
        "network", "", "", "!7 missing network name", "!7 missing network name:"),
    ("groups of IPv6 have four digits, as they have in newer Go",
        "result", "1.0.0", r#"{"cniVersion":"1.0.0","routes":[{"dst":"00001::/8"}]}"#, "!routes[0].dst: invalid CIDR", "1::/8"),
];

#[test]
fn what_differs_on_purpose() {
    let requests: Vec<Request> = DIFFERENT
        .iter()
        .map(|(_, r#do, to, text, ..)| Request { r#do, to, text: text.to_string() })
        .collect();
    let shown = |answer: Result<String, String>| answer.unwrap_or_else(|error| format!("!{error}"));
    let matches = |answer: &str, expected: &str| {
        answer.contains(expected) && answer.starts_with('!') == expected.starts_with('!')
    };
    for (request, (what, .., expected, _)) in requests.iter().zip(DIFFERENT) {
        let ours = shown(match request.r#do {
            "result" => converted(request),
            "error" => failed(request),
            "list" => listed(request),
            "lenient" => lenient(request),
            "interface" => interface(request),
            _ => network(request),
        });
        assert!(matches(&ours, expected), "{what}: {ours}");
    }
    let theirs = ask("what_differs_on_purpose", &requests).unwrap_or_default();
    for (theirs, (what, .., expected)) in theirs.into_iter().zip(DIFFERENT) {
        let theirs = shown(theirs);
        assert!(matches(&theirs, expected), "{what}: {theirs}");
    }
}

/// The members of a plugin's configuration, in the order in which `common` of the Go program prints them.
fn common(config: &PluginConfig) -> String {
    let common = &config.common;
    let capability = common.capabilities.get("mac").is_some_and(|c| *c);
    let dns = [
        ("nameservers", json::to_compact(&common.dns.nameservers)),
        ("domain", json::to_compact(&common.dns.domain)),
        ("search", json::to_compact(&common.dns.search)),
        ("options", json::to_compact(&common.dns.options)),
    ];
    let dns = dns.iter().filter(|(_, v)| v != "[]" && v != "\"\"").map(|(k, v)| format!("\"{k}\":{v}"));
    format!(
        "[{},{},{},{},{capability},{},{{{}}},{}]",
        json::to_compact(&common.cni_version),
        json::to_compact(&common.name),
        json::to_compact(&common.plugin_type),
        common.capabilities.len(),
        json::to_compact(&common.ipam.plugin_type),
        dns.collect::<Vec<_>>().join(","),
        common.prev_result.is_some(),
    )
}

fn configured(request: &Request) -> Result<String, String> {
    let net = NetworkConfig::from_plugin(request.text.as_bytes()).map_err(|e| e.to_string())?;
    Ok(common(&net.plugins[0]))
}

fn listed(request: &Request) -> Result<String, String> {
    let net = NetworkConfig::parse(request.text.as_bytes()).map_err(|e| e.to_string())?;
    let mut parts = vec![json::to_compact(&net.name), json::to_compact(&net.cni_version)];
    parts.push(net.disable_check.to_string());
    parts.extend(net.plugins.iter().map(common));
    Ok(format!("[{}]", parts.join(",")))
}

fn failed(request: &Request) -> Result<String, String> {
    let error: Error = json::decode(request.text.as_bytes()).map_err(|e| e.to_string())?;
    Ok(json::to_compact(&(error.code, &error.msg, &error.details, error.to_string())))
}

#[test]
fn configurations() {
    let mut dice = Dice(11);
    let request = |r#do, text| Request { r#do, text, to: "" };
    let plugins: Vec<_> = (0..1500).map(|_| request("config", config(&mut dice))).collect();
    compare("configurations: plugins", &plugins, configured);

    let mut list = || {
        let mut members = vec![("plugins", dice.list(3, config)), ("name", dice.text())];
        if dice.seldom(2) {
            members.push(("cniVersion", string(dice.pick(&["0.4.0", "9.9", "", "x"]))));
        }
        if dice.seldom(2) {
            members.push(("disableCheck", dice.pick(&["true", "false", "7", "[]"]).to_owned()));
        }
        let text: Vec<String> = members.iter().map(|(k, v)| format!("{}: {v}", string(k))).collect();
        request("list", format!("{{{}}}", text.join(",")))
    };
    let lists: Vec<_> = (0..800).map(|_| list()).collect();
    compare("configurations: lists", &lists, listed);
}

#[test]
fn errors_and_version_replies() {
    let mut dice = Dice(13);
    let codes = ["0", "7", "100", "4294967295", "-1", "1.5", "\"7\"", "999", "11", "50"];
    let mut error = || {
        let mut members =
            vec![("msg", dice.text()), ("code", dice.pick(&codes).to_owned()), ("details", dice.text())];
        members.truncate(1 + dice.roll(3));
        Request { r#do: "error", text: dice.object(members), to: "" }
    };
    compare("errors", &(0..500).map(|_| error()).collect::<Vec<_>>(), failed);

    let mut reply = || {
        let version = string(dice.pick(&["1.0.0", "0.2.0", "0.2.0", "", "x"]));
        let list = dice.list(3, Dice::text);
        let mut members = vec![("cniVersion", version), ("supportedVersions", list)];
        members.truncate(1 + dice.roll(2));
        Request { r#do: "reply", text: dice.object(members), to: "" }
    };
    compare("replies", &(0..500).map(|_| reply()).collect::<Vec<_>>(), |r| {
        Ok(json::to_compact(&version::parse_reply(r.text.as_bytes())?))
    });
}

/// Compares the words of refusals too.
fn compare_words(test: &str, requests: &[Request], ours: impl Fn(&Request) -> Result<String, String>) {
    compare(test, requests, &ours);
    for (request, theirs) in requests.iter().zip(ask(test, requests).unwrap_or_default()) {
        assert_eq!(ours(request), theirs, "{:?}", request.text);
    }
}

fn refused(error: Error) -> Result<String, String> {
    Err(format!("{} {error}", error.code))
}

fn interface(request: &Request) -> Result<String, String> {
    InterfaceName::parse(&request.text).map_or_else(refused, |_| Ok(String::new()))
}

fn network(request: &Request) -> Result<String, String> {
    NetworkName::parse(&request.text).map_or_else(refused, |_| Ok(String::new()))
}

#[test]
fn names() {
    let good = ["a", "Z9", "_b", "eth0", "c-.", "ab"];
    let odd = ["_", ".", "-", "/", ":", " ", "\n", "\u{85}", "\u{a0}", "\u{2003}", "\u{200b}", "é", "%d"];
    let mut dice = Dice(17);
    let mut texts: Vec<String> =
        ["", ".", "..", "...", "0123456789abcde", "0123456789abcdef", "ééééééé", "éééééééé"]
            .map(String::from)
            .into();
    let piece = |dice: &mut Dice| if dice.seldom(4) { dice.pick(&odd) } else { dice.pick(&good) };
    texts.extend((0..1500).map(|_| (0..1 + dice.roll(4)).map(|_| piece(&mut dice)).collect::<String>()));
    let requests = |r#do| texts.iter().map(|t| Request { r#do, text: t.clone(), to: "" }).collect::<Vec<_>>();
    compare_words("names: containers", &requests("container"), |r| {
        ContainerId::parse(&r.text).map_or_else(refused, |_| Ok(String::new()))
    });
    compare_words("names: interfaces", &requests("interface"), interface);
    compare("names: networks", &requests("network"), network);
}

#[test]
fn version_numbers() {
    let mut dice = Dice(19);
    let odd =
        ["0", "1", ".", "1.", ".2", "+", "-", "x", "_", "9223372036854775807", "9223372036854775808", "007"];
    let requests: Vec<_> = (0..2000)
        .map(|_| (0..dice.roll(5)).map(|_| dice.pick(&odd)).collect::<String>())
        .map(|text| Request { r#do: "number", text, to: "" })
        .collect();
    let Some(theirs) = ask("version_numbers", &requests) else { return };
    for (request, theirs) in requests.iter().zip(theirs) {
        let ours = Numbers::parse(&request.text);
        assert_eq!(ours.is_ok(), theirs.is_ok(), "{:?}: {ours:?}, {theirs:?}", request.text);
        if let Ok(theirs) = theirs {
            let [major, minor, micro]: [i64; 3] = serde_json::from_str(&theirs).unwrap();
            assert_eq!(Numbers::parse(&format!("{major}.{minor}.{micro}")), ours, "{:?}", request.text);
        }
    }
}

#[test]
fn arguments() {
    let mut dice = Dice(23);
    let odd = ["IP=1", "IP=", "MAC=x", "ip=1", "IgnoreUnknown=1", "IgnoreUnknown=TRUE", "IgnoreUnknown=Yes"];
    let rare =
        ["K=V", "", "=", "=x", "A=B=C", "none", "IP=<>\"", "IgnoreUnknown=", "K8S_POD_NAME=é", "MAC=a b"];
    let requests: Vec<_> = (0..2000)
        .map(|_| {
            (0..dice.roll(4))
                .map(|_| if dice.seldom(3) { dice.pick(&rare) } else { dice.pick(&odd) })
                .collect()
        })
        .map(|pairs: Vec<&str>| Request { r#do: "args", text: pairs.join(";"), to: "" })
        .collect();
    compare_words("arguments", &requests, |r| {
        let args = Args::new(r.text.as_str());
        args.load(["IP", "MAC"])
            .map(|v| json::to_compact(&v.map(Option::unwrap_or_default)))
            .map_err(|e| e.msg)
    });
}

/// The twin of the Go program's type.
#[derive(Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Careless {
    name: String,
    is_gateway: bool,
    mtu: u32,
    offset: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    maybe: Option<i64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    list: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    sysctl: BTreeMap<String, String>,
    nested: Nested,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Nested {
    kind: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    deep: Vec<Vec<i64>>,
}

fn lenient(request: &Request) -> Result<String, String> {
    json::decode::<Careless>(request.text.as_bytes()).map(|c| json::to_compact(&c)).map_err(|e| e.to_string())
}

#[test]
fn careless_documents() {
    let mut dice = Dice(29);
    let mut document = || {
        let numbers = ["0", "1", "4294967295", "7", "8", "9"];
        let wrong = ["1.0", "1e3", "\"7\"", "true", "-1", "4294967296", "[]", "{}"];
        let number = |dice: &mut Dice| {
            let from = if dice.seldom(40) { &wrong[..] } else { &numbers[..] };
            dice.pick(from).to_owned()
        };
        let mtu = dice.pick(&["0", "1", "7", "1500", "9000", "4294967295", "4294967296"]).to_owned();
        let mut members = vec![
            ("mtu", mtu),
            ("offset", number(&mut dice)),
            ("maybe", number(&mut dice)),
            ("isGateway", dice.pick(&["true", "false", "true", "false", "true", "\"true\""]).to_owned()),
            ("name", dice.text()),
            ("list", dice.list(3, |dice| if dice.seldom(5) { "null".to_owned() } else { dice.text() })),
            (
                "sysctl",
                format!("{{\"A\":{},\"a\":{},\"A\":{},\"n\":null}}", dice.text(), dice.text(), dice.text()),
            ),
        ];
        // scalars twice: the later one counts
        members.push(("name", dice.text()));
        let deep =
            dice.list(2, |dice| dice.list(2, |dice| dice.pick(&["1", "2", "null", "3", "4"]).to_owned()));
        let nested = vec![("kind", dice.text()), ("deep", deep)];
        members.push(("nested", dice.object(nested)));
        Request { r#do: "lenient", text: dice.object(members), to: "" }
    };
    let requests: Vec<_> = (0..2000).map(|_| document()).collect();
    compare("careless_documents", &requests, lenient);
}
