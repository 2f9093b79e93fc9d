//! ADD, CHECK and DEL, whichever way plugins are run.

use std::collections::BTreeMap;
use std::fs;

use cni_spec::{Code, Version};
use libcni::{Attachment, Error, TraceContext};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::world::{Case, Way, World, attachment, fails, well};

pub(crate) const ALL: &[Case] = &[
    ("a_chain_hands_its_results_on", a_chain_hands_its_results_on),
    ("parameters_arrive", parameters_arrive),
    ("a_failed_add_is_undone_wherever_it_fails", a_failed_add_is_undone_wherever_it_fails),
    ("what_cannot_be_undone_is_told", what_cannot_be_undone_is_told),
    ("an_add_that_misses_a_plugin_executes_none", an_add_that_misses_a_plugin_executes_none),
    ("a_second_add_that_fails_leaves_the_first", a_second_add_that_fails_leaves_the_first),
    ("an_add_that_cannot_be_remembered_is_undone", an_add_that_cannot_be_remembered_is_undone),
    ("an_add_does_not_take_anothers_place_in_the_cache", an_add_does_not_take_anothers_place_in_the_cache),
    ("results_of_mixed_versions_are_understood", results_of_mixed_versions_are_understood),
    ("del_goes_backwards_and_forgets", del_goes_backwards_and_forgets),
    ("del_goes_on_wherever_it_fails", del_goes_on_wherever_it_fails),
    ("del_goes_on_past_a_missing_plugin", del_goes_on_past_a_missing_plugin),
    ("del_has_no_previous_result_before_0_4_0", del_has_no_previous_result_before_0_4_0),
    ("del_copes_with_a_broken_cache", del_copes_with_a_broken_cache),
    ("a_file_of_no_names_is_nobodys", a_file_of_no_names_is_nobodys),
    ("a_fifo_keeps_nobody_waiting", a_fifo_keeps_nobody_waiting),
    ("del_fills_in_what_the_cache_knows", del_fills_in_what_the_cache_knows),
    ("args_that_others_wrote_block_nothing", args_that_others_wrote_block_nothing),
    ("results_of_an_older_libcni_are_found", results_of_an_older_libcni_are_found),
    ("check_goes_forwards_and_stops", check_goes_forwards_and_stops),
    ("check_has_gates", check_has_gates),
];

pub(crate) fn names(interfaces: &Value) -> Vec<&str> {
    interfaces.as_array().unwrap().iter().map(|i| i["name"].as_str().unwrap()).collect()
}

fn raw(json: Value) -> Box<RawValue> {
    RawValue::from_string(json.to_string()).unwrap()
}

fn a_chain_hands_its_results_on(way: Way) {
    let world = World::new(way);
    let (cni, net) = (world.cni(), world.net("1.0.0", well()));
    let added = cni.add(&net, &attachment("x")).unwrap();
    assert_eq!(added.version, Version::V1_0_0);
    let made: Vec<_> = added.result.interfaces.iter().map(|i| i.name.as_str()).collect();
    assert_eq!(made, ["a", "b", "c"]);

    let calls = world.calls();
    assert_eq!(calls.iter().map(|c| c.short()).collect::<Vec<_>>(), ["ADD a", "ADD b", "ADD c"]);
    assert!(calls[0].config.get("prevResult").is_none());
    assert_eq!(names(&calls[1].config["prevResult"]["interfaces"]), ["a"]);
    assert_eq!(names(&calls[2].config["prevResult"]["interfaces"]), ["a", "b"]);
    for call in &calls {
        assert_eq!((&call.config["name"], &call.config["cniVersion"]), (&json!("n"), &json!("1.0.0")));
    }
    let cached = cni.cached(&net, &attachment("x")).unwrap().unwrap();
    assert_eq!(cached.added().unwrap().unwrap().result, added.result);
    assert_eq!(cached.config, net.source);
}

fn parameters_arrive(way: Way) {
    let world = World::new(way);
    let keys = json!({"capabilities": {"mac": true, "ips": false}, "args": {"cni": {"x": 1}}});
    let net = world.net("1.0.0", [json!({ "keys": keys }), json!({}), json!({})]);
    let attachment = Attachment {
        args: vec![("K".into(), "V".into()), ("IgnoreUnknown".into(), "1".into())],
        capability_args: BTreeMap::from([
            ("mac".into(), raw(json!("00:01"))),
            ("ips".into(), raw(json!(["10.0.0.1/8"]))),
        ]),
        trace: TraceContext {
            traceparent: "00-1-2-01".into(),
            tracestate: "k=v".into(),
            baggage: "u=1".into(),
        },
        netns_override: true,
        ..attachment("x")
    };
    world.cni().add(&net, &attachment).unwrap();
    for call in world.calls() {
        assert_eq!(
            (call.container_id.as_str(), call.netns.as_str(), call.ifname.as_str(), call.args.as_str()),
            ("x", "/run/netns/x", "eth0", "K=V;IgnoreUnknown=1")
        );
        assert_eq!((call.netns_override.as_str(), call.path.is_empty()), ("1", false));
        assert_eq!(
            (call.traceparent.as_str(), call.tracestate.as_str(), call.baggage.as_str()),
            ("00-1-2-01", "k=v", "u=1")
        );
        let expected = if call.plugin == "a" { json!({"mac": "00:01"}) } else { Value::Null };
        assert_eq!(call.config.get("runtimeConfig").unwrap_or(&Value::Null), &expected);
        if call.plugin == "a" {
            assert_eq!(call.config["args"], json!({"cni": {"x": 1}}));
            assert_eq!(call.config["capabilities"], json!({"mac": true, "ips": false}));
        }
    }
}

fn a_failed_add_is_undone_wherever_it_fails(way: Way) {
    for failing in 0..3 {
        let world = World::new(way);
        let mut behaviours = well();
        behaviours[failing] = fails("ADD", "no luck");
        behaviours[failing]["keys"] = json!({"name": "mine"});
        let net = world.net("1.0.0", behaviours);
        let error = world.cni().add(&net, &attachment("x")).unwrap_err();
        let plugin = ["a", "b", "c"][failing];
        assert_eq!(
            error.to_string(),
            format!("plugin type=\"{plugin}\" name=\"mine\" failed (add): no luck")
        );
        assert_eq!(error.code(), Code::TRY_AGAIN_LATER);
        assert_eq!(error.plugins()[0].index, failing);

        let calls = world.calls();
        let forwards = ["ADD a", "ADD b", "ADD c"][..=failing].iter();
        let backwards = ["DEL a", "DEL b", "DEL c"][..=failing].iter().rev();
        let expected: Vec<&str> = forwards.chain(backwards).copied().collect();
        assert_eq!(calls.iter().map(|c| c.short()).collect::<Vec<_>>(), expected);
        for del in calls.iter().filter(|c| c.command == "DEL") {
            match failing {
                0 => assert!(del.config.get("prevResult").is_none()),
                n => assert_eq!(names(&del.config["prevResult"]["interfaces"]), ["a", "b", "c"][..n]),
            }
        }
        assert!(world.cni().cached(&net, &attachment("x")).unwrap().is_none());
    }
}

fn what_cannot_be_undone_is_told(way: Way) {
    let world = World::new(way);
    let net = world.net("1.0.0", [fails("DEL", "stuck"), fails("ADD", "no luck"), json!({})]);
    let error = world.cni().add(&net, &attachment("x")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "plugin type=\"b\" failed (add): no luck; \
         undoing the ADD: plugin type=\"a\" failed (delete): stuck"
    );
    assert_eq!(error.causes()[0].msg, "no luck");
}

fn an_add_that_misses_a_plugin_executes_none(way: Way) {
    let world = World::new(way);
    let error = world.cni_with(&["a", "c"]).add(&world.net("1.0.0", well()), &attachment("x")).unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("plugin type=\"b\" failed (add): failed to find plugin \"b\" in path ["),
        "{text}"
    );
    assert!(text.contains("has a, c"), "{text}");
    assert!(world.calls().is_empty());
}

fn a_second_add_that_fails_leaves_the_first(way: Way) {
    let world = World::new(way);
    let cni = world.cni();
    cni.add(&world.net("1.0.0", well()), &attachment("x")).unwrap();
    world.calls();
    let net = world.net("1.0.0", [json!({}), fails("ADD", "eth0 exists"), json!({})]);
    let error = cni.add(&net, &attachment("x")).unwrap_err();
    assert!(error.to_string().contains("eth0 exists; not undone"), "{error}");
    assert_eq!(world.short_calls(), ["ADD a", "ADD b"]);
    assert!(cni.cached(&net, &attachment("x")).unwrap().is_some());
    // Another container is no concern of the first.
    cni.add(&net, &attachment("y")).unwrap_err();
    assert_eq!(world.short_calls(), ["ADD a", "ADD b", "DEL b", "DEL a"]);
}

fn an_add_that_cannot_be_remembered_is_undone(way: Way) {
    let world = World::new(way);
    let net = world.net("1.0.0", well());
    let file = world.file("file");
    fs::write(&file, "").unwrap();
    // There is a folder to look in, but no folder can be made.
    fs::create_dir_all(world.cache_dir()).unwrap();
    std::os::unix::fs::symlink(world.file("nowhere/at/all"), world.cache_dir().join("results")).unwrap();
    let error = world.cni().add(&net, &attachment("x")).unwrap_err();
    assert!(error.to_string().starts_with("failed to set network \"n\" cached result: "), "{error}");
    assert!(matches!(error, Error::Cache(_)));
    assert_eq!(world.short_calls(), ["ADD a", "ADD b", "ADD c", "DEL c", "DEL b", "DEL a"]);
}

fn an_add_does_not_take_anothers_place_in_the_cache(way: Way) {
    let world = World::new(way);
    let (cni, net) = (world.cni(), |name| world.net_with(name, "1.0.0", well(), json!({})));
    cni.add(&net("p"), &attachment("q-x")).unwrap();
    world.calls();
    let error = cni.add(&net("p-q"), &attachment("x")).unwrap_err();
    assert!(error.to_string().contains("belongs to network \"p\", container \"q-x\""), "{error}");
    assert!(world.calls().is_empty());
    cni.del(&net("p-q"), &attachment("x")).unwrap();
    assert!(world.warnings()[0].contains("belongs to network \"p\""));
    assert!(cni.cached(&net("p"), &attachment("q-x")).unwrap().is_some());
}

fn results_of_mixed_versions_are_understood(way: Way) {
    let world = World::new(way);
    let result = json!({"cniVersion": "0.4.0", "ips": [{"version": "4", "address": "10.0.0.2/24"}], "x": 1});
    let newer = json!({"cniVersion": "1.0.0", "ips": [{"address": "10.0.0.3/24"}], "x": 2});
    let net = world
        .net("1.1.0", [json!({"ADD": {"result": result}}), json!({"ADD": {"result": newer}}), json!({})]);
    let added = world.cni().add(&net, &attachment("x")).unwrap();
    let calls = world.calls();
    assert_eq!(
        calls[1].config["prevResult"],
        json!({"cniVersion": "1.1.0", "ips": [{"address": "10.0.0.2/24"}]})
    );
    assert_eq!(
        calls[2].config["prevResult"],
        json!({"cniVersion": "1.1.0", "ips": [{"address": "10.0.0.3/24"}], "x": 2})
    );
    assert_eq!(added.version, Version::V1_1_0);

    // The configuration was changed while the container ran.
    let older = world.net("0.4.0", well());
    world.cni().check(&older, &attachment("x")).unwrap();
    let previous = &world.calls()[0].config["prevResult"];
    assert_eq!(previous["ips"][0], json!({"version": "4", "address": "10.0.0.3/24"}));
}

fn del_goes_backwards_and_forgets(way: Way) {
    let world = World::new(way);
    let (cni, net) = (world.cni(), world.net("0.4.0", well()));
    cni.add(&net, &attachment("x")).unwrap();
    world.calls();
    cni.del(&net, &attachment("x")).unwrap();
    let calls = world.calls();
    assert_eq!(calls.iter().map(|c| c.short()).collect::<Vec<_>>(), ["DEL c", "DEL b", "DEL a"]);
    for call in &calls {
        assert_eq!(names(&call.config["prevResult"]["interfaces"]), ["a", "b", "c"]);
    }
    assert!(!world.cache_file("n", "x").exists());
    cni.del(&net, &attachment("x")).unwrap();
    let calls = world.calls();
    assert_eq!(calls.len(), 3, "DEL without ADD is executed");
    assert!(calls[0].config.get("prevResult").is_none());
    assert!(world.warnings().is_empty());
}

fn del_goes_on_wherever_it_fails(way: Way) {
    for failing in [&[0][..], &[1], &[2], &[0, 2], &[0, 1, 2]] {
        let world = World::new(way);
        let cni = world.cni();
        cni.add(&world.net("1.0.0", well()), &attachment("x")).unwrap();
        world.calls();
        let mut behaviours = well();
        failing.iter().for_each(|at| behaviours[*at] = fails("DEL", "stuck"));
        let error = cni.del(&world.net("1.0.0", behaviours), &attachment("x")).unwrap_err();
        assert_eq!(world.short_calls(), ["DEL c", "DEL b", "DEL a"]);
        let expected: Vec<usize> = failing.iter().rev().copied().collect();
        assert_eq!(error.plugins().iter().map(|p| p.index).collect::<Vec<_>>(), expected);
        assert_eq!(error.code(), Code::TRY_AGAIN_LATER);
        for line in error.to_string().lines() {
            assert!(
                line.starts_with("plugin type=\"") && line.ends_with("\" failed (delete): stuck"),
                "{line}"
            );
        }
        assert!(world.cache_file("n", "x").exists(), "it can be repeated");
        cni.del(&world.net("1.0.0", well()), &attachment("x")).unwrap();
        assert!(world.calls()[0].config.get("prevResult").is_some());
        assert!(!world.cache_file("n", "x").exists());
    }
}

/// containerd#12130
fn del_goes_on_past_a_missing_plugin(way: Way) {
    let world = World::new(way);
    let net = world.net("1.0.0", well());
    world.cni().add(&net, &attachment("x")).unwrap();
    world.calls();
    let error = world.cni_with(&["a", "c"]).del(&net, &attachment("x")).unwrap_err();
    assert_eq!(world.short_calls(), ["DEL c", "DEL a"]);
    let text = error.to_string();
    assert!(
        text.starts_with("plugin type=\"b\" failed (delete): failed to find plugin \"b\" in path ["),
        "{text}"
    );
    assert!(world.cache_file("n", "x").exists());
}

fn del_has_no_previous_result_before_0_4_0(way: Way) {
    let world = World::new(way);
    let (cni, net) = (world.cni(), world.net("0.3.1", well()));
    cni.add(&net, &attachment("x")).unwrap();
    world.calls();
    cni.del(&net, &attachment("x")).unwrap();
    assert!(world.calls().iter().all(|c| c.config.get("prevResult").is_none()));
    assert!(!world.cache_file("n", "x").exists());
}

/// cni#1149
fn del_copes_with_a_broken_cache(way: Way) {
    let world = World::new(way);
    let (cni, net) = (world.cni(), world.net("1.0.0", well()));
    cni.add(&net, &attachment("x")).unwrap();
    let whole = fs::read(world.cache_file("n", "x")).unwrap();
    let result = json!({"kind": "cniCacheV1", "containerId": "x", "ifName": "eth0", "networkName": "n",
                        "result": {"cniVersion": "6.6.6"}});
    for torn in [&b""[..], &whole[..whole.len() / 2], b"\0\0\0\0\0\0\0\0", result.to_string().as_bytes()] {
        fs::write(world.cache_file("n", "x"), torn).unwrap();
        let error = cni.check(&net, &attachment("x")).unwrap_err();
        assert!(error.to_string().starts_with("failed to get network \"n\" cached result: "), "{error}");
        world.calls();
        world.warnings();
        cni.gc(&net, &[]).unwrap();
        cni.del(&net, &attachment("x")).unwrap();
        let warnings = world.warnings();
        assert!(warnings.last().unwrap().starts_with("DEL without prevResult: "), "{warnings:?}");
        assert!(!world.cache_file("n", "x").exists());
        let calls = world.calls();
        assert_eq!(calls.last().unwrap().short(), "DEL a");
        assert!(calls.iter().all(|c| c.config.get("prevResult").is_none()));
    }
    // An ADD takes the place of a broken file.
    fs::write(world.cache_file("n", "x"), "").unwrap();
    cni.add(&net, &attachment("x")).unwrap();
    cni.check(&net, &attachment("x")).unwrap();
}

fn a_file_of_no_names_is_nobodys(way: Way) {
    let world = World::new(way);
    let (cni, net) = (world.cni(), world.net("1.0.0", well()));
    let nameless = json!({"kind": "cniCacheV1"});
    let other = json!({"kind": "cniCacheV1", "containerId": "y", "ifName": "eth0", "networkName": "n"});
    fs::create_dir_all(world.cache_dir().join("results")).unwrap();
    for document in [nameless, other] {
        fs::write(world.cache_file("n", "x"), document.to_string()).unwrap();
        cni.add(&net, &attachment("x")).unwrap();
        cni.check(&net, &attachment("x")).unwrap();
        world.warnings();
        fs::write(world.cache_file("n", "x"), document.to_string()).unwrap();
        cni.del(&net, &attachment("x")).unwrap();
        assert!(world.warnings()[0].contains("n-x-eth0: broken: "));
        assert!(!world.cache_file("n", "x").exists());
    }
}

fn a_fifo_keeps_nobody_waiting(way: Way) {
    let world = World::new(way);
    let (cni, net) = (world.cni(), world.net("1.0.0", well()));
    fs::create_dir_all(world.cache_dir().join("results")).unwrap();
    let made = std::process::Command::new("mkfifo").arg(world.cache_file("n", "x")).status().unwrap();
    assert!(made.success());
    let error = cni.check(&net, &attachment("x")).unwrap_err().to_string();
    assert!(error.ends_with("n-x-eth0: it is no regular file"), "{error}");
    assert!(cni.cached_attachments(None).unwrap().is_empty());
    cni.del(&net, &attachment("x")).unwrap();
    assert!(!world.cache_file("n", "x").exists());
    assert_eq!(world.short_calls(), ["DEL c", "DEL b", "DEL a"]);
}

fn del_fills_in_what_the_cache_knows(way: Way) {
    let world = World::new(way);
    let keys = json!({"capabilities": {"mac": true}});
    let net = world.net("1.0.0", [json!({ "keys": keys }), json!({}), json!({})]);
    let args = |value: &str| Attachment {
        args: vec![("K".into(), value.into())],
        capability_args: BTreeMap::from([("mac".into(), raw(json!(value)))]),
        ..attachment("x")
    };
    let cni = world.cni();
    let bare = Attachment { netns: String::new(), ..attachment("x") };
    for (caller, expected) in [(&bare, "first"), (&args("second"), "second")] {
        cni.add(&net, &args("first")).unwrap();
        world.calls();
        cni.check(&net, caller).unwrap();
        cni.del(&net, caller).unwrap();
        for call in world.calls() {
            assert_eq!(call.args, format!("K={expected}"));
            assert_eq!(call.netns, caller.netns, "a namespace that is gone is not called back");
            if call.plugin == "a" {
                assert_eq!(call.config["runtimeConfig"], json!({"mac": expected}));
            }
        }
    }
}

fn args_that_others_wrote_block_nothing(way: Way) {
    let world = World::new(way);
    let (cni, net) = (world.cni(), world.net("1.0.0", well()));
    let args = vec![("K".into(), "V".into()), ("a".into(), "X".into())];
    cni.add(&net, &Attachment { args, ..attachment("x") }).unwrap();
    let written = fs::read_to_string(world.cache_file("n", "x")).unwrap();
    let spoilt = written.replace(r#"["a","X"]"#, r#"["a","b;IP=9"]"#);
    assert_ne!(spoilt, written);
    let verbs: [(&str, &dyn Fn()); 4] = [
        ("CHECK", &|| cni.check(&net, &attachment("x")).unwrap()),
        ("DEL", &|| cni.del(&net, &attachment("x")).unwrap()),
        ("GC", &|| cni.gc(&net, &[]).unwrap()),
        ("DEL of what is known", &|| {
            let known: Attachment = cni.cached(&net, &attachment("x")).unwrap().unwrap().into();
            cni.del(&net, &known).unwrap();
        }),
    ];
    for (verb, run) in verbs {
        fs::write(world.cache_file("n", "x"), &spoilt).unwrap();
        world.calls();
        world.warnings();
        run();
        let calls = world.calls();
        assert_eq!(calls.len(), 3, "{verb}");
        assert!(calls.iter().all(|c| c.args == "K=V"), "{verb}: {calls:?}");
        let text = "left out of what the cache knows: invalid CNI_ARGS pair \"a\"=\"b;IP=9\": ";
        let told = world.warnings().iter().any(|w| w.starts_with(text));
        assert_eq!(told, verb != "DEL of what is known", "{verb}");
    }
}

fn results_of_an_older_libcni_are_found(way: Way) {
    let world = World::new(way);
    fs::create_dir_all(world.cache_dir().join("results")).unwrap();
    let bare = json!({"cniVersion": "0.4.0", "ips": [{"version": "4", "address": "10.0.0.2/24"}], "dns": {}});
    fs::write(world.cache_file("n", "x"), bare.to_string()).unwrap();
    world.cni().del(&world.net("1.0.0", well()), &attachment("x")).unwrap();
    let previous = &world.calls()[0].config["prevResult"];
    assert_eq!(previous, &json!({"cniVersion": "1.0.0", "ips": [{"address": "10.0.0.2/24"}]}));
    assert!(!world.cache_file("n", "x").exists());
}

fn check_goes_forwards_and_stops(way: Way) {
    let world = World::new(way);
    let cni = world.cni();
    let net = world.net("1.0.0", well());
    cni.add(&net, &attachment("x")).unwrap();
    world.calls();
    cni.check(&net, &attachment("x")).unwrap();
    let calls = world.calls();
    assert_eq!(calls.iter().map(|c| c.short()).collect::<Vec<_>>(), ["CHECK a", "CHECK b", "CHECK c"]);
    for call in &calls {
        assert_eq!(names(&call.config["prevResult"]["interfaces"]), ["a", "b", "c"]);
    }
    let net = world.net("1.0.0", [json!({}), fails("CHECK", "eth0 is gone"), json!({})]);
    let error = cni.check(&net, &attachment("x")).unwrap_err();
    assert_eq!(error.to_string(), "plugin type=\"b\" failed (check): eth0 is gone");
    assert_eq!(world.short_calls(), ["CHECK a", "CHECK b"]);
    assert!(world.cache_file("n", "x").exists());
}

fn check_has_gates(way: Way) {
    let world = World::new(way);
    let cni = world.cni();
    let disabled = |version| world.net_with("n", version, well(), json!({"disableCheck": true}));
    let error = cni.check(&disabled("0.3.1"), &attachment("x")).unwrap_err();
    assert_eq!(error.to_string(), "configuration version \"0.3.1\" does not support the CHECK command");
    assert_eq!(cni.check(&disabled("0.4.0"), &attachment("x")), Ok(()));
    assert_eq!(cni.check(&world.net("x", well()), &attachment("x")).unwrap_err().code(), Code::DECODE);
    assert!(world.calls().is_empty());
    // Whether a plugin can do without prevResult is for it to say.
    cni.check(&world.net("0.4.0", well()), &attachment("x")).unwrap();
    assert_eq!(world.calls().len(), 3);
}
