//! GC, STATUS, and everything else that is about a whole network or about all verbs, whichever way plugins are run.

use std::fs;
use std::sync::{Arc, Mutex};

use cni_spec::{AttachmentId, Code};
use libcni::{Attachment, Cni, Error, NetworkConfig};
use serde_json::json;

use crate::cases::names;
use crate::world::{Case, Way, World, attachment, fails, well};

pub(crate) const ALL: &[Case] = &[
    ("gc_deletes_what_is_stale_and_only_that", gc_deletes_what_is_stale_and_only_that),
    ("gc_goes_on_and_reports_everything", gc_goes_on_and_reports_everything),
    ("gc_enters_no_strangers_namespace", gc_enters_no_strangers_namespace),
    ("gc_has_gates", gc_has_gates),
    ("status_keeps_the_code", status_keeps_the_code),
    ("validate_asks_for_versions", validate_asks_for_versions),
    ("no_name_is_trusted", no_name_is_trusted),
    ("an_observer_sees_every_step", an_observer_sees_every_step),
    ("what_is_cached_can_be_listed", what_is_cached_can_be_listed),
];

fn gc_deletes_what_is_stale_and_only_that(way: Way) {
    let world = World::new(way);
    let cni = world.cni();
    let net = |name| world.net_with(name, "1.1.0", well(), json!({}));
    for (network, container) in [("n", "live"), ("n", "dead"), ("n-dead", "x"), ("m", "dead")] {
        let args = vec![("FOR".into(), container.to_owned())];
        cni.add(&net(network), &Attachment { args, ..attachment(container) }).unwrap();
    }
    world.calls();
    let valid = [AttachmentId::parse("live", "eth0").unwrap()];
    cni.gc(&net("n"), &valid).unwrap();
    let calls = world.calls();
    assert_eq!(
        calls.iter().map(|c| c.short()).collect::<Vec<_>>(),
        ["DEL c", "DEL b", "DEL a", "GC a", "GC b", "GC c"]
    );
    for call in &calls {
        assert_eq!(call.config["name"], "n");
        if call.command == "DEL" {
            assert_eq!((call.container_id.as_str(), call.args.as_str()), ("dead", "FOR=dead"));
            assert_eq!(call.netns, "/run/netns/dead");
            assert_eq!(names(&call.config["prevResult"]["interfaces"]), ["a", "b", "c"]);
        } else {
            let ids = json!([{"containerID": "live", "ifname": "eth0"}]);
            assert_eq!(call.config["cni.dev/valid-attachments"], ids);
            assert_eq!(call.config["cni.dev/attachments"], ids);
            assert_eq!((call.container_id.as_str(), call.netns.as_str(), call.ifname.as_str()), ("", "", ""));
            assert!(call.config.get("prevResult").is_none());
        }
    }
    let left = cni.cached_attachments(None).unwrap();
    let left: Vec<_> = left.iter().map(|a| format!("{} {}", a.network, a.id.container_id)).collect();
    assert_eq!(left, ["m dead", "n-dead x", "n live"]);
}

fn gc_goes_on_and_reports_everything(way: Way) {
    let world = World::new(way);
    let cni = world.cni();
    for container in ["x", "y"] {
        cni.add(&world.net("1.1.0", well()), &attachment(container)).unwrap();
    }
    world.calls();
    let failing =
        json!({"DEL": {"error": {"code": 1, "msg": "stuck"}}, "GC": {"error": {"code": 7, "msg": "bad"}}});
    let error = cni.gc(&world.net("1.1.0", [json!({}), failing, json!({})]), &[]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "failed to delete stale attachment x eth0: plugin type=\"b\" failed (delete): stuck\n\
         failed to delete stale attachment y eth0: plugin type=\"b\" failed (delete): stuck\n\
         failed to GC plugin b: bad"
    );
    assert_eq!(world.calls().len(), 3 + 3 + 3);
    assert_eq!(cni.cached_attachments(None).unwrap().len(), 2);

    // A cache that cannot be listed does not keep the plugins from their GC.
    fs::remove_dir_all(world.cache_dir()).unwrap();
    fs::create_dir_all(world.cache_dir()).unwrap();
    fs::write(world.cache_dir().join("results"), "").unwrap();
    let error = cni.gc(&world.net("1.1.0", well()), &[]).unwrap_err();
    assert!(error.to_string().starts_with("failed to list the cached attachments: "), "{error}");
    assert!(error.to_string().ends_with("/cache/results: not a directory"), "{error}");
    assert_eq!(world.short_calls(), ["GC a", "GC b", "GC c"]);
}

fn gc_enters_no_strangers_namespace(way: Way) {
    let world = World::new(way);
    let (cni, net) = (world.cni(), world.net("1.0.0", well()));
    let path = |container: &str| world.file(&format!("netns-{container}"));
    let there = |container: &str| Attachment {
        netns: path(container).to_str().unwrap().to_owned(),
        ..attachment(container)
    };
    for container in ["another", "go", "gone", "same"] {
        fs::write(path(container), "").unwrap();
        cni.add(&net, &there(container)).unwrap();
    }
    fs::remove_file(path("gone")).unwrap();
    for container in ["another", "go"] {
        fs::write(path("new"), "").unwrap();
        fs::rename(path("new"), path(container)).unwrap();
    }
    // The reference does not keep which namespace it was.
    let written = fs::read(world.cache_file("n", "go")).unwrap();
    let mut written: serde_json::Value = serde_json::from_slice(&written).unwrap();
    assert!(written.as_object_mut().unwrap().remove("netnsId").is_some());
    fs::write(world.cache_file("n", "go"), written.to_string()).unwrap();

    world.calls();
    cni.gc(&net, &[]).unwrap();
    let calls = world.calls();
    assert_eq!(calls.len(), 4 * 3);
    for call in calls {
        let expected = match call.container_id.as_str() {
            "go" | "same" => there(&call.container_id).netns,
            _ => String::new(),
        };
        assert_eq!(call.netns, expected, "{}", call.container_id);
    }
    let text = format!("DEL without namespace: {} is not that of another any more", there("another").netns);
    assert_eq!(world.warnings(), [text]);
    assert!(cni.cached_attachments(None).unwrap().is_empty());
}

fn gc_has_gates(way: Way) {
    let world = World::new(way);
    let cni = world.cni();
    let older = world.net("1.0.0", well());
    cni.add(&older, &attachment("x")).unwrap();
    world.calls();
    cni.gc(&world.net_with("n", "1.1.0", well(), json!({"disableGC": true})), &[]).unwrap();
    assert!(world.calls().is_empty());
    cni.gc(&older, &[]).unwrap();
    assert_eq!(world.short_calls(), ["DEL c", "DEL b", "DEL a"]);
}

fn status_keeps_the_code(way: Way) {
    let world = World::new(way);
    let cni = world.cni();
    let limited = json!({"STATUS": {"error": {"code": 51, "msg": "no route", "details": "to anywhere"}}});
    cni.status(&world.net("1.1.0", well())).unwrap();
    assert_eq!(world.short_calls(), ["STATUS a", "STATUS b", "STATUS c"]);
    let error = cni.status(&world.net("1.1.0", [json!({}), limited.clone(), json!({})])).unwrap_err();
    assert_eq!(error.code(), Code::LIMITED_CONNECTIVITY);
    assert_eq!(error.to_string(), "plugin type=\"b\" failed (status): no route; to anywhere");
    let calls = world.calls();
    assert_eq!(calls.iter().map(|c| c.short()).collect::<Vec<_>>(), ["STATUS a", "STATUS b"]);
    assert_eq!(calls[0].config["name"], "n");
    cni.status(&world.net("1.0.0", [limited.clone(), limited.clone(), limited])).unwrap();
    assert!(world.calls().is_empty());
}

fn validate_asks_for_versions(way: Way) {
    let world = World::new(way);
    let keys = json!({"capabilities": {"mac": true, "ips": false, "bandwidth": true}});
    let behaviours = [json!({ "keys": keys }), json!({}), json!({})];
    let capabilities = world.cni().validate(&world.net("0.4.0", behaviours)).unwrap();
    assert_eq!(capabilities.into_iter().collect::<Vec<_>>(), ["bandwidth", "mac"]);
    let error = world.cni_with(&["a", "c"]).validate(&world.net("1.0.0", well())).unwrap_err().to_string();
    let lines: Vec<&str> = error.lines().collect();
    assert!(lines[0].starts_with("failed to find plugin \"b\" in path ["), "{error}");
    assert_eq!(lines[1], "plugin c does not support config version \"1.0.0\"; it supports 0.3.1, 0.4.0");
    assert_eq!(world.cni().versions("c").unwrap(), ["0.3.1", "0.4.0"]);
    assert!(world.cni().versions("../c").unwrap_err().msg.starts_with("invalid plugin name: "));
}

type Attached = fn(&Cni, &NetworkConfig, &Attachment) -> Result<(), Error>;
type Unattached = fn(&Cni, &NetworkConfig) -> Result<(), Error>;

/// CVE-2021-20206
fn no_name_is_trusted(way: Way) {
    let world = World::new(way);
    let good = world.net("1.1.0", well());
    let cni = world.cni();
    let attached: [Attached; 3] =
        [|c, n, a| c.add(n, a).map(|_| ()), |c, n, a| c.check(n, a), |c, n, a| c.del(n, a)];
    let unattached: [Unattached; 3] =
        [|c, n| c.gc(n, &[]), |c, n| c.status(n), |c, n| c.validate(n).map(|_| ())];

    let mut nets = Vec::new();
    for name in ["", "../x", "a/b", "a\0", &"-".repeat(4096)] {
        let net = NetworkConfig { name: name.into(), ..good.clone() };
        nets.push((net, Code::INVALID_CONFIG));
    }
    for bad in ["../../bin/sh", "/bin/sh", "..", "a b", "sh\0"] {
        let mut net = good.clone();
        net.plugins[2].common.plugin_type = bad.into();
        nets.push((net, Code::INTERNAL));
        let mut net = good.clone();
        net.plugins[2].common.ipam.plugin_type = bad.into();
        nets.push((net, Code::INTERNAL));
    }
    nets.push((NetworkConfig { plugins: Vec::new(), ..good.clone() }, Code::INVALID_CONFIG));
    for (net, code) in &nets {
        let results = attached.iter().map(|verb| verb(&cni, net, &attachment("x")));
        for result in results.chain(unattached.iter().map(|verb| verb(&cni, net))) {
            assert_eq!(result.unwrap_err().code(), *code, "{:?}", net.name);
        }
    }
    let attachments = [
        (Attachment { container_id: String::new(), ..attachment("x") }, Code::UNKNOWN_CONTAINER),
        (attachment("../x"), Code::INVALID_ENVIRONMENT),
        (attachment(&"x".repeat(4096)), Code::INVALID_ENVIRONMENT),
        (Attachment { ifname: "a/../b".into(), ..attachment("x") }, Code::INVALID_ENVIRONMENT),
        (Attachment { ifname: String::new(), ..attachment("x") }, Code::INVALID_ENVIRONMENT),
        (
            Attachment { args: vec![("a".into(), "b;IP=9".into())], ..attachment("x") },
            Code::INVALID_ENVIRONMENT,
        ),
    ];
    for (attachment, code) in &attachments {
        for verb in attached {
            let error = verb(&cni, &good, attachment).unwrap_err();
            assert!(matches!(error, Error::Refused(_)));
            assert_eq!(error.code(), *code, "{error}");
        }
    }
    assert!(world.calls().is_empty());
    assert!(!world.cache_dir().exists());
}

fn an_observer_sees_every_step(way: Way) {
    let world = World::new(way);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&seen);
    let cni = world.cni().observe(move |step| {
        let outcome = step.outcome.map_or_else(|e| e.msg.clone(), |_| "well".into());
        let undoing = if step.undoing { " (undoing)" } else { "" };
        let text = format!(
            "{} {} {} {}: {outcome}{undoing}",
            step.network, step.index, step.command, step.plugin_type
        );
        told.lock().unwrap().push((text, step.duration));
    });
    cni.add(&world.net("1.0.0", [json!({}), fails("ADD", "no luck"), json!({})]), &attachment("x"))
        .unwrap_err();
    cni.versions("b").unwrap();
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    let texts: Vec<&str> = seen.iter().map(|(text, _)| text.as_str()).collect();
    assert_eq!(
        texts,
        [
            "n 0 ADD a: well",
            "n 1 ADD b: no luck",
            "n 1 DEL b: well (undoing)",
            "n 0 DEL a: well (undoing)",
            " 0 VERSION b: well",
        ]
    );
    assert!(seen.iter().all(|(_, duration)| !duration.is_zero()));
}

fn what_is_cached_can_be_listed(way: Way) {
    let world = World::new(way);
    let cni = world.cni();
    assert!(cni.cached_attachments(None).unwrap().is_empty());
    let net = world.net("1.0.0", well());
    for container in ["x", "x-x", "y"] {
        cni.add(&net, &attachment(container)).unwrap();
    }
    fs::write(world.cache_file("n", "torn"), "").unwrap();
    let of = |container| {
        let known = cni.cached_attachments(container).unwrap();
        known.iter().map(|a| a.id.container_id.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(of(None), ["x", "x-x", "y"]);
    assert_eq!(of(Some("x")), ["x"]);
    assert!(world.warnings()[0].contains("n-torn-eth0: broken: it is empty"));
    let again: Attachment = cni.cached(&net, &attachment("y")).unwrap().unwrap().into();
    assert_eq!((again.container_id.as_str(), again.netns.as_str()), ("y", "/run/netns/y"));
}
