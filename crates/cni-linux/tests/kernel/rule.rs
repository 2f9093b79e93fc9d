//! Policy routing: what `ip` prints of it, that there are no two of the same, and that the right one is deleted.

use std::process::Command;

use cni_linux::testing::{Sandbox, Snapshot, Test, fail_at, record, tests};
use cni_linux::{IpFamily, Netns, Result, Rule, RuleSpec, Undo};
use ipnet::IpNet;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        ip_prints_what_was_asked_for,
        what_ip_made_is_read,
        there_are_no_two_of_the_same,
        exactly_the_rule_is_deleted,
        a_rule_that_would_take_another_with_it_stays,
        undoing_deletes_it,
    ]
}

fn net(text: &str) -> IpNet {
    text.parse().expect("a network")
}

fn ip(netns: &Netns, arguments: &str) -> String {
    let run = || Command::new("ip").args(arguments.split_whitespace()).output().unwrap();
    let output = netns.run(run).unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The rules that the kernel does not begin with.
fn added(netns: &Netns, family: IpFamily) -> Result<Vec<Rule>> {
    let begins_with = |rule: &Rule| [0, 32766, 32767].contains(&rule.priority) && rule.from.is_none();
    Ok(netns.rules(family)?.into_iter().filter(|rule| !begins_with(rule)).collect())
}

fn ip_prints_what_was_asked_for(sandbox: &Sandbox) -> Result<()> {
    let (host, mut undo) = (sandbox.host(), Undo::new());
    let four = || RuleSpec::new(IpFamily::V4, 100);
    for (spec, family, printed) in [
        (four().from(net("10.1.2.3/32")).priority(7), "-4", "7:\tfrom 10.1.2.3 lookup 100"),
        (four().to(net("10.1.2.3/16")).priority(8), "-4", "8:\tfrom all to 10.1.0.0/16 lookup 100"),
        (
            RuleSpec::new(IpFamily::V4, 70_000).iif("eth0").oif("lo").priority(9),
            "-4",
            "9:\tfrom all iif eth0 [detached] oif lo lookup 70000",
        ),
        (four().mark(0xff12, 0xff).priority(10), "-4", "10:\tfrom all fwmark 0x12/0xff lookup 100"),
        (
            RuleSpec::new(IpFamily::V6, 100).from(net("fd00::3/128")).priority(11),
            "-6",
            "11:\tfrom fd00::3 lookup 100",
        ),
    ] {
        let (made, requests) = record(|| host.add_rule(&spec, &mut undo));
        made?;
        assert_eq!(
            requests.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [format!("RTM_NEWRULE add rule {spec}")]
        );
        let rules = ip(host, &format!("{family} rule show"));
        assert!(rules.lines().any(|line| line.trim_end() == printed), "{printed:?} in\n{rules}");
        let read = added(host, if family == "-4" { IpFamily::V4 } else { IpFamily::V6 })?;
        assert!(read.iter().any(|rule| rule.spec() == spec && !rule.has_more), "{read:?}");
    }
    undo.run().unwrap();
    assert!(added(host, IpFamily::V4)?.is_empty() && added(host, IpFamily::V6)?.is_empty());
    Ok(())
}

fn what_ip_made_is_read(sandbox: &Sandbox) -> Result<()> {
    let host = sandbox.host();
    ip(host, "-4 rule add from 10.1.0.0/16 to 10.2.0.0/16 fwmark 5 iif lo pref 50 lookup 1000");
    ip(host, "-4 rule add not from 10.1.0.0/16 pref 51 lookup 1000");
    ip(host, "-4 rule add from 10.1.0.0/16 ipproto tcp pref 52 lookup 1000");
    ip(host, "-6 rule add to fd00::/64 pref 53 prohibit");
    let rules = added(host, IpFamily::V4)?;
    assert_eq!(rules.iter().map(|rule| rule.priority).collect::<Vec<_>>(), [50, 51, 52]);
    assert_eq!((rules[0].from, rules[0].to), (Some(net("10.1.0.0/16")), Some(net("10.2.0.0/16"))));
    assert_eq!((rules[0].mark, rules[0].iif.as_deref()), (Some((5, u32::MAX)), Some("lo")));
    assert_eq!((rules[0].table, rules[0].action, rules[0].has_more), (1000, 1, false));
    assert!(rules[1].has_more && rules[2].has_more);
    let six = added(host, IpFamily::V6)?;
    assert_eq!((six.len(), six[0].action, six[0].table), (1, 8, 0));
    // None of these is one that only says where packets come from.
    let spec = RuleSpec::new(IpFamily::V4, 1000).from(net("10.1.0.0/16"));
    assert!(!host.del_rule(&spec)?);
    assert_eq!(added(host, IpFamily::V4)?.len(), 3);
    Ok(())
}

fn there_are_no_two_of_the_same(sandbox: &Sandbox) -> Result<()> {
    let (host, mut undo) = (sandbox.host(), Undo::new());
    let spec = RuleSpec::new(IpFamily::V4, 100).from(net("10.1.2.3/32"));
    for spec in [spec.clone(), spec.clone().priority(7)] {
        host.add_rule(&spec, &mut undo)?;
        let error = host.add_rule(&spec, &mut undo).unwrap_err();
        assert!(error.is_exists(), "{error}");
        assert_eq!(error.to_string(), format!("add rule {spec}: file exists"));
    }
    assert_eq!((undo.len(), added(host, IpFamily::V4)?.len()), (2, 2));
    // Of another table, or with another condition, it is another rule.
    host.add_rule(&RuleSpec::new(IpFamily::V4, 101).from(net("10.1.2.3/32")), &mut undo)?;
    host.add_rule(&spec.iif("eth0"), &mut undo)?;
    undo.run().unwrap();
    assert!(added(host, IpFamily::V4)?.is_empty());
    Ok(())
}

fn exactly_the_rule_is_deleted(sandbox: &Sandbox) -> Result<()> {
    let (host, mut undo) = (sandbox.host(), Undo::new());
    let spec = || RuleSpec::new(IpFamily::V4, 100).from(net("10.1.2.3/32"));
    // The kernel asks them in this order, and would delete the first for the second.
    host.add_rule(&spec().iif("eth0").priority(5), &mut undo)?;
    host.add_rule(&spec().priority(6), &mut undo)?;
    host.add_rule(&RuleSpec::new(IpFamily::V4, 101).from(net("10.1.2.3/32")).priority(7), &mut undo)?;
    undo.keep();
    let (deleted, requests) = record(|| host.del_rule(&spec()));
    assert!(deleted?);
    assert_eq!(
        requests.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["RTM_GETRULE list rules ipv4", "RTM_DELRULE delete rule from 10.1.2.3/32 lookup 100 priority 6",]
    );
    let left: Vec<_> = added(host, IpFamily::V4)?.iter().map(|rule| rule.priority).collect();
    assert_eq!(left, [5, 7]);
    assert!(!host.del_rule(&spec())?, "it is gone");
    Ok(())
}

fn a_rule_that_would_take_another_with_it_stays(sandbox: &Sandbox) -> Result<()> {
    let (host, mut undo) = (sandbox.host(), Undo::new());
    let spec = || RuleSpec::new(IpFamily::V4, 100).priority(5);
    host.add_rule(&spec().iif("eth0"), &mut undo)?;
    host.add_rule(&spec(), &mut undo)?;
    let error = host.del_rule(&spec()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "delete rule from all lookup 100 priority 5: the kernel would delete another one, which is like it and more: \
         from all iif \"eth0\" lookup 100 priority 5"
    );
    assert_eq!(added(host, IpFamily::V4)?.len(), 2);
    assert!(host.del_rule(&spec().iif("eth0"))?);
    assert!(host.del_rule(&spec())?);
    undo.run().unwrap();
    Ok(())
}

fn undoing_deletes_it(sandbox: &Sandbox) -> Result<()> {
    let host = sandbox.host();
    let spec = RuleSpec::new(IpFamily::V6, 100).from(net("fd00::3/128"));
    let before = Snapshot::take(host)?;
    let mut undo = Undo::new();
    host.add_rule(&spec, &mut undo)?;
    assert_eq!(undo.names(), ["rule from fd00::3/128 lookup 100"]);
    assert_eq!(before.diff(&Snapshot::take(host)?).len(), 1);
    // Somebody else was faster.
    assert!(host.del_rule(&spec)?);
    undo.run().unwrap();
    assert_eq!(before.diff(&Snapshot::take(host)?), [""; 0]);
    let injected = fail_at(1, || host.add_rule(&spec, &mut Undo::new()));
    assert!(injected.outcome.unwrap_err().is_injected());
    assert_eq!(before.diff(&Snapshot::take(host)?), [""; 0]);
    Ok(())
}
