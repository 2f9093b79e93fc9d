//! No document costs more than its length: eight times the text is about eight times the work, never sixty-four.
//!
//! Work is the processor time of this thread, the least of a few runs, so that a busy machine changes nothing; what is
//! compared are two lengths, not seconds.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::hint::black_box;

use cni_spec::json::{self, Object};
use cni_spec::{AddResult, Args, NetworkConfig, PluginConfig, Version};
use rustix::time::{ClockId, clock_gettime};

/// Text of about this many members, elements or levels.
const SHORT: usize = 1_000;
/// How much longer the long text is.
const LONGER: usize = 8;
/// Between the 8 of linear work, with room for caches and the allocator, and the 64 of quadratic work.
const AT_MOST: f64 = 20.0;

fn nanoseconds() -> i128 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    i128::from(now.tv_sec) * 1_000_000_000 + i128::from(now.tv_nsec)
}

/// What `work` costs on a document of this size, without making the document.
fn cost<T>(size: usize, document: fn(usize) -> String, work: fn(&str) -> T) -> i128 {
    let document = document(size);
    let run = || {
        let start = nanoseconds();
        black_box(work(black_box(&document)));
        nanoseconds() - start
    };
    (0..3).map(|_| run()).min().unwrap()
}

fn grows_with_the_text<T>(what: &str, document: fn(usize) -> String, work: fn(&str) -> T) {
    let (short, long) = (cost(SHORT, document, work), cost(SHORT * LONGER, document, work));
    let ratio = long as f64 / short.max(1) as f64;
    assert!(ratio < AT_MOST, "{what}: {LONGER} times the text is {ratio:.1} times the work");
}

fn repeated(before: &str, part: fn(usize) -> String, after: &str, size: usize) -> String {
    let parts: Vec<String> = (0..size).map(part).collect();
    format!("{before}{}{after}", parts.join(","))
}

fn unknown_members(size: usize) -> String {
    repeated("{", |i| format!("\"key{i}\":{i}"), "}", size)
}

fn equal_members(size: usize) -> String {
    repeated("{", |_| "\"name\":\"a\",\"NAME\":\"b\"".to_owned(), "}", size)
}

fn capabilities(size: usize) -> String {
    repeated("{\"capabilities\":{", |i| format!("\"c{i}\":true"), "}}", size)
}

fn attachments(size: usize) -> String {
    let one = |i| format!("{{\"containerID\":\"c{i}\",\"ifname\":\"eth0\"}}");
    repeated("{\"cni.dev/valid-attachments\":[", one, "]}", size)
}

fn plugins(size: usize) -> String {
    repeated("{\"name\":\"n\",\"plugins\":[", |i| format!("{{\"type\":\"t{i}\",\n\"x\":{i}}}"), "]}", size)
}

fn versions(size: usize) -> String {
    repeated("{\"name\":\"n\",\"cniVersions\":[", |i| format!("\"0.{i}.0\""), "]}", size)
}

fn result(size: usize) -> String {
    let one = |i| format!("{{\"address\":\"10.{}.{}.1/16\",\"interface\":{i}}}", i / 256 % 256, i % 256);
    let route = |i| format!("{{\"dst\":\"fd00:{:x}::/64\"}}", i % 65536);
    repeated("{\"cniVersion\":\"1.0.0\",\"ips\":[", one, "],", size)
        + &repeated("\"routes\":[", route, "]}", size)
}

fn lines_before_an_error(size: usize) -> String {
    format!("{{{}\"name\":{}7}}", "\n".repeat(size * 20), " ".repeat(size * 20))
}

fn levels(size: usize) -> String {
    format!("{{\"name\":\"n\",\"plugins\":[],\"deep\":{}{}}}", "[".repeat(size * 20), "]".repeat(size * 20))
}

fn broken_at_the_end(size: usize) -> String {
    repeated("{\"a\":[", |i| format!("{{\"b\":{i}}}"), ",}", size)
}

fn escapes(size: usize) -> String {
    format!("{{\"name\":\"{}\"}}", "\\u00e9\\n<&".repeat(size))
}

fn pairs(size: usize) -> String {
    (0..size).map(|i| format!("K{i}=V;")).collect::<String>() + "IgnoreUnknown=1"
}

#[test]
fn reading_is_linear() {
    grows_with_the_text("unknown members", unknown_members, |t| PluginConfig::parse(t.as_bytes()).unwrap());
    grows_with_the_text("equal members", equal_members, |t| PluginConfig::parse(t.as_bytes()).unwrap());
    grows_with_the_text("a map", capabilities, |t| PluginConfig::parse(t.as_bytes()).unwrap());
    grows_with_the_text("structs in a list", attachments, |t| PluginConfig::parse(t.as_bytes()).unwrap());
    grows_with_the_text("plugins", plugins, |t| NetworkConfig::parse(t.as_bytes()).unwrap());
    grows_with_the_text("versions", versions, |t| NetworkConfig::parse(t.as_bytes()).unwrap());
    grows_with_the_text("a result", result, |t| AddResult::decode(t.as_bytes(), Version::DEFAULT).unwrap());
    grows_with_the_text("levels", levels, |t| PluginConfig::parse(t.as_bytes()).unwrap());
    grows_with_the_text("escapes", escapes, |t| PluginConfig::parse(t.as_bytes()).unwrap());
    grows_with_the_text("arguments", pairs, |t| Args::new(t).load(["IP"]).unwrap()[0].map(String::from));
}

#[test]
fn refusing_is_linear() {
    grows_with_the_text("a syntax error", broken_at_the_end, |t| json::check(t.as_bytes()).unwrap_err());
    grows_with_the_text("a place far down", lines_before_an_error, |t| {
        PluginConfig::parse(t.as_bytes()).unwrap_err()
    });
    grows_with_the_text("levels", levels, |t| NetworkConfig::parse(t.as_bytes()).unwrap_err());
    grows_with_the_text("a list of the wrong kind", attachments, |t| {
        json::decode::<Vec<String>>(t.as_bytes()).unwrap_err()
    });
}

#[test]
fn writing_is_linear() {
    fn decoded(text: &str) -> AddResult {
        AddResult::decode(text.as_bytes(), Version::DEFAULT).unwrap().0
    }
    grows_with_the_text("the newest version", result, |t| decoded(t).encode(Version::V1_1_0).unwrap());
    grows_with_the_text("0.4.0", result, |t| decoded(t).encode(Version::V0_4_0).unwrap());
    grows_with_the_text("0.2.0", result, |t| decoded(t).encode(Version::V0_2_0).unwrap());
    grows_with_the_text("an object", unknown_members, |t| {
        let mut object = Object::parse(t.as_bytes()).unwrap();
        object.set("name", "n");
        object.to_json()
    });
    grows_with_the_text(
        "a single plugin as a list",
        |n| unknown_members(n).replace("\"key0\"", "\"type\"").replace(":0,", ":\"t\","),
        |t| NetworkConfig::from_plugin(t.as_bytes()).unwrap(),
    );
}

#[test]
fn levels_do_not_cost_stack() {
    std::thread::Builder::new()
        .stack_size(1024 * 1024) // half of what threads have
        .spawn(|| {
            let deep = levels(5_000); // a hundred thousand of them
            assert!(PluginConfig::parse(deep.as_bytes()).is_ok());
            assert!(NetworkConfig::parse(deep.as_bytes()).is_err());
            let result = deep.replace("plugins", "ips");
            assert!(AddResult::decode(result.as_bytes(), Version::V1_0_0).is_ok());
            assert!(Object::parse(deep.as_bytes()).is_ok());
            assert!(json::check(&deep.as_bytes()[..50_000]).is_err());
        })
        .unwrap()
        .join()
        .unwrap();
}
