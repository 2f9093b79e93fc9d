//! Traffic control: what `tc` prints of it, what is left, and how much gets through.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use cni_linux::testing::{Sandbox, Snapshot, Test, fail_at, kernel, record, tests};
use cni_linux::traffic::{Place, Tbf};
use cni_linux::{Errno, Link, LinkSpec, Netns, Result, Undo, VethPeer};
use ipnet::IpNet;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        tc_prints_what_it_would_have_made_itself => [kernel::veth, kernel::tbf, kernel::traffic_control],
        tc_prints_the_redirection_as_its_own => [kernel::veth, kernel::redirection, kernel::traffic_control],
        what_was_made_is_read => [kernel::veth, kernel::tbf, kernel::redirection],
        what_others_made_is_read_as_theirs => [kernel::veth, kernel::ifb, kernel::traffic_control],
        a_second_one_is_an_error => [kernel::veth, kernel::tbf, kernel::redirection],
        refusals_name_the_object => [kernel::veth, kernel::tbf],
        deleting_what_is_not_there_is_no_error => [kernel::veth, kernel::tbf, kernel::redirection],
        every_change_can_fail_and_leaves_nothing => [kernel::veth, kernel::tbf, kernel::redirection],
        no_more_is_sent_than_the_bucket_has => [kernel::veth, kernel::tbf],
        what_arrives_is_queued_by_way_of_an_ifb => [kernel::veth, kernel::tbf, kernel::redirection],
    ]
}

fn net(text: &str) -> IpNet {
    text.parse().expect("a network")
}

fn run(netns: &Netns, program: &str, arguments: &str) -> String {
    let run = || Command::new(program).args(arguments.split_whitespace()).output().unwrap();
    let output = netns.run(run).unwrap();
    assert!(output.status.success(), "{program} {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// `veth0` on the host and `eth0` in a container, both up, with addresses.
fn connected(sandbox: &Sandbox) -> Result<(Netns, Link)> {
    let (host, container, mut undo) = (sandbox.host(), sandbox.container(), Undo::new());
    // Nothing is to come and go by itself.
    for netns in [host, &container] {
        netns.ensure_sysctls(&[("net/ipv6/conf/default/disable_ipv6", "1")])?;
    }
    let peer = VethPeer::new("eth0").into_netns(&container);
    let link = host.add_link(LinkSpec::veth("veth0", peer).up(), &mut undo)?;
    undo.keep();
    host.add_address(&link, net("10.1.0.1/24"))?;
    container.add_address("eth0", net("10.1.0.2/24"))?;
    container.set_up("eth0")?;
    Ok((container, link))
}

fn ifb(host: &Netns) -> Result<Link> {
    let mut undo = Undo::new();
    let made = host.add_link(LinkSpec::ifb("ifb0").up(), &mut undo);
    undo.keep();
    made
}

fn tc_prints_what_it_would_have_made_itself(sandbox: &Sandbox) -> Result<()> {
    let (ours, theirs) = (sandbox.host(), sandbox.container());
    for netns in [ours, &theirs] {
        run(netns, "ip", "link add veth0 type veth peer name veth1");
    }
    // Octets a second as asked for, and as `tc` is told: a sixty-fourth of a second, a slow, a fast and a crooked rate.
    for (rate, burst) in [
        (125_000, 2_000),
        (1_000_000, 10_000),
        (1_000, 1_600),
        (125_000_000, 1_250_000),
        (12_500_000_000, 12_500_000),
        (3_333_333, 54_321),
    ] {
        let (tbf, mut undo) = (Tbf::with_latency(rate, burst, Duration::from_millis(25)), Undo::new());
        ours.add_tbf("veth0", &tbf, &mut undo)?;
        undo.keep();
        let command =
            format!("qdisc add dev veth0 root handle 1: tbf rate {rate}bps burst {burst} latency 25ms");
        run(&theirs, "tc", &command);
        for show in ["qdisc show dev veth0", "-d -s qdisc show dev veth0", "-j -d qdisc show dev veth0"] {
            assert_eq!(run(ours, "tc", show), run(&theirs, "tc", show), "{tbf}");
        }
        let (read, by_tc) = (ours.qdisc("veth0", Place::Root)?, theirs.qdisc("veth0", Place::Root)?);
        assert_eq!(read.as_ref().unwrap().tbf, by_tc.unwrap().tbf);
        for netns in [ours, &theirs] {
            assert!(netns.del_qdisc("veth0", Place::Root)?);
        }
    }
    // In its own words.
    let tbf = Tbf::with_latency(1_000_000, 10_000, Duration::from_millis(25));
    let mut undo = Undo::new();
    ours.add_tbf("veth0", &tbf, &mut undo)?;
    let printed = run(ours, "tc", "qdisc show dev veth0");
    assert!(printed.starts_with("qdisc tbf 1: root refcnt "), "{printed}");
    assert!(printed.trim_end().ends_with("rate 8Mbit burst 10000b lat 25ms"), "{printed}");
    undo.run().unwrap();
    Ok(())
}

fn tc_prints_the_redirection_as_its_own(sandbox: &Sandbox) -> Result<()> {
    let (ours, theirs) = (sandbox.host(), sandbox.container());
    for netns in [ours, &theirs] {
        run(netns, "ip", "link add veth0 type veth peer name veth1");
        run(netns, "ip", "link add ifb0 type ifb");
    }
    let mut undo = Undo::new();
    ours.add_ingress("veth0", &mut undo)?;
    ours.redirect_ingress("veth0", ours.link("ifb0")?.index)?;
    run(&theirs, "tc", "qdisc add dev veth0 ingress");
    let filter = "filter add dev veth0 ingress protocol all prio 1 u32 match u32 0 0 \
                  action mirred egress redirect dev ifb0";
    run(&theirs, "tc", filter);
    for show in ["qdisc show dev veth0", "filter show dev veth0 ingress"] {
        assert_eq!(run(ours, "tc", show), run(&theirs, "tc", show));
    }
    undo.run().unwrap();
    assert_eq!(run(ours, "tc", "qdisc show dev veth0 ingress"), "");
    Ok(())
}

fn what_was_made_is_read(sandbox: &Sandbox) -> Result<()> {
    let (host, mut undo) = (sandbox.host(), Undo::new());
    let (_container, veth) = connected(sandbox)?;
    let ifb = ifb(host)?;
    let by_default = host.qdisc(&veth, Place::Root)?.expect("veth has one");
    assert_eq!((by_default.kind.as_str(), by_default.handle, by_default.tbf), ("noqueue", 0, None));
    assert_eq!((host.qdisc(&veth, Place::Ingress)?, host.ingress_filters(&veth)?), (None, vec![]));
    let tbf = Tbf { rate: 1_000_000, burst: 10_000, limit: 35_000 };
    let (made, requests) = record(|| {
        host.add_tbf(&veth, &tbf, &mut undo)?;
        host.add_ingress(&veth, &mut undo)?;
        host.redirect_ingress(&veth, ifb.index)
    });
    made?;
    let expected = [
        r#"RTM_NEWQDISC add qdisc tbf rate 1000000bps burst 10000 limit 35000 to link "veth0""#.to_owned(),
        r#"RTM_NEWQDISC add qdisc ingress to link "veth0""#.to_owned(),
        format!(
            r#"RTM_NEWTFILTER add filter u32 of link "veth0" that redirects to link number {}"#,
            ifb.index
        ),
    ];
    assert_eq!(requests.iter().map(ToString::to_string).collect::<Vec<_>>(), expected);
    let root = host.qdisc(&veth, Place::Root)?.expect("it was added");
    assert_eq!(
        (root.kind.as_str(), root.handle, root.link, root.tbf),
        ("tbf", 0x1_0000, veth.index, Some(tbf))
    );
    let ingress = host.qdisc("veth0", Place::Ingress)?.expect("it was added");
    assert_eq!((ingress.kind.as_str(), ingress.tbf), ("ingress", None));
    let filters = host.ingress_filters(&veth)?;
    assert_eq!(filters.len(), 1);
    let filter = &filters[0];
    assert_eq!((filter.kind.as_str(), filter.priority, filter.protocol), ("u32", 1, 3));
    assert_eq!(filter.redirects_to, Some(ifb.index));
    assert_eq!(undo.names(), [r#"qdisc root of link "veth0""#, r#"qdisc ingress of link "veth0""#]);
    undo.run().unwrap();
    assert_eq!(host.qdisc(&veth, Place::Root)?, Some(by_default));
    assert_eq!((host.qdisc(&veth, Place::Ingress)?, host.ingress_filters(&veth)?), (None, vec![]));
    Ok(())
}

fn what_others_made_is_read_as_theirs(sandbox: &Sandbox) -> Result<()> {
    let host = sandbox.host();
    let (_container, veth) = connected(sandbox)?;
    ifb(host)?;
    run(host, "tc", "qdisc add dev veth0 root handle 7: htb");
    run(host, "tc", "qdisc add dev veth0 ingress");
    for (priority, filter) in [
        (3, "u32 match ip dst 10.1.0.1 action mirred egress redirect dev ifb0"),
        (4, "u32 match u32 0 0 action mirred egress mirror dev ifb0"),
        (5, "u32 match u32 0 0 flowid 1:1"),
    ] {
        run(host, "tc", &format!("filter add dev veth0 ingress protocol ip prio {priority} {filter}"));
    }
    let root = host.qdisc(&veth, Place::Root)?.expect("it was added");
    assert_eq!((root.kind.as_str(), root.handle, root.tbf), ("htb", 0x7_0000, None));
    let filters = host.ingress_filters(&veth)?;
    assert_eq!(filters.iter().map(|filter| filter.priority).collect::<Vec<_>>(), [3, 4, 5]);
    assert!(
        filters.iter().all(|filter| filter.protocol == 0x800 && filter.redirects_to.is_none()),
        "{filters:?}"
    );
    Ok(())
}

fn a_second_one_is_an_error(sandbox: &Sandbox) -> Result<()> {
    let (host, mut undo) = (sandbox.host(), Undo::new());
    let (_container, veth) = connected(sandbox)?;
    let tbf = Tbf { rate: 1_000_000, burst: 10_000, limit: 35_000 };
    host.add_tbf(&veth, &tbf, &mut undo)?;
    host.add_ingress(&veth, &mut undo)?;
    let before = Snapshot::take(host)?;
    let error = host.add_tbf(&veth, &Tbf { rate: 500, ..tbf }, &mut undo).unwrap_err();
    assert!(error.is_exists(), "{error}");
    let words = r#"add qdisc tbf rate 500bps burst 10000 limit 35000 to link "veth0": file exists"#;
    assert!(error.to_string().starts_with(words), "{error}");
    assert!(host.add_ingress(&veth, &mut undo).unwrap_err().is_exists());
    assert_eq!(before.diff(&Snapshot::take(host)?), [""; 0]);
    assert_eq!(undo.len(), 2);
    undo.run().unwrap();
    Ok(())
}

fn refusals_name_the_object(sandbox: &Sandbox) -> Result<()> {
    let (host, mut undo) = (sandbox.host(), Undo::new());
    let (_container, veth) = connected(sandbox)?;
    let mut refused = |rate, burst| {
        let (made, requests) = record(|| host.add_tbf(&veth, &Tbf { rate, burst, limit: 5000 }, &mut undo));
        let error = made.unwrap_err();
        assert_eq!((error.errno(), requests.len()), (Some(Errno::INVAL), 0));
        error.to_string()
    };
    let nothing = r#"add qdisc tbf rate 0bps burst 5 limit 5000 to link "veth0": without a rate and a burst nothing is ever sent"#;
    assert_eq!(refused(0, 5), nothing);
    refused(5, 0);
    let slow = r#"add qdisc tbf rate 1bps burst 5000 limit 5000 to link "veth0": it takes too long to fill the bucket at this rate"#;
    assert_eq!(refused(1, 5000), slow);
    let tbf = Tbf { rate: 1_000_000, burst: 10_000, limit: 35_000 };
    assert!(host.add_tbf("nosuch", &tbf, &mut undo).unwrap_err().is_gone());
    // There is nothing that could hold a filter.
    let error = host.redirect_ingress(&veth, veth.index).unwrap_err();
    let words = format!(r#"add filter u32 of link "veth0" that redirects to link number {}: "#, veth.index);
    assert!(error.to_string().starts_with(&words), "{error}");
    assert!(undo.is_empty());
    Ok(())
}

fn deleting_what_is_not_there_is_no_error(sandbox: &Sandbox) -> Result<()> {
    let (host, mut undo) = (sandbox.host(), Undo::new());
    let (_container, veth) = connected(sandbox)?;
    for place in [Place::Root, Place::Ingress] {
        assert!(!host.del_qdisc(&veth, place)?);
        assert!(!host.del_qdisc("nosuch", place)?);
        match place {
            Place::Ingress => host.add_ingress(&veth, &mut undo)?,
            _ => host.add_tbf(&veth, &Tbf { rate: 1_000_000, burst: 10_000, limit: 35_000 }, &mut undo)?,
        }
        assert!(host.del_qdisc(&veth, place)?);
        assert!(!host.del_qdisc(&veth, place)?);
    }
    host.del_link(&veth)?;
    assert!(!host.del_qdisc(&veth, Place::Root)?, "the link is gone");
    undo.run().unwrap();
    Ok(())
}

fn every_change_can_fail_and_leaves_nothing(sandbox: &Sandbox) -> Result<()> {
    let host = sandbox.host();
    let (_container, veth) = connected(sandbox)?;
    let work = |undo: &mut Undo| -> Result<()> {
        let tbf = Tbf::with_latency(1_000_000, 10_000, Duration::from_millis(25));
        let ifb = host.add_link(LinkSpec::ifb("ifb0").up(), undo)?;
        host.add_tbf(&veth, &tbf, undo)?;
        host.add_ingress(&veth, undo)?;
        host.redirect_ingress(&veth, ifb.index)?;
        host.add_tbf(&ifb, &tbf, undo)
    };
    let before = Snapshot::take(host)?;
    for nth in 1.. {
        let mut undo = Undo::new();
        let injected = fail_at(nth, || work(&mut undo));
        if !injected.reached {
            injected.outcome?;
            undo.run().unwrap();
            assert_eq!(before.diff(&Snapshot::take(host)?), [""; 0]);
            assert_eq!(nth, 6);
            return Ok(());
        }
        assert!(injected.outcome.unwrap_err().is_injected());
        undo.run().unwrap();
        assert_eq!(before.diff(&Snapshot::take(host)?), [""; 0], "change {nth}");
    }
    Ok(())
}

const RATE: u64 = 1_000_000;
const BURST: u32 = 20_000;
/// Of a packet on the link, and what of it is not the sender's.
const SIZE: usize = 1_000;
const HEADERS: usize = 14 + 20 + 8;

/// Sends for a while, four times as much as gets through, and counts what arrives: octets, and from the first to the last.
fn octets_through(from: &Netns, to: &Netns, target: &str) -> (f64, f64) {
    let server = to.run(|| UdpSocket::bind(("0.0.0.0", 7)).unwrap()).unwrap();
    let client = from.run(|| UdpSocket::bind(("0.0.0.0", 0)).unwrap()).unwrap();
    let target = SocketAddr::new(target.parse::<IpAddr>().unwrap(), 7);
    let packet = [0; SIZE - HEADERS];
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let started = Instant::now();
            let mut sent = 0.0;
            while started.elapsed() < Duration::from_secs(2) {
                if sent < started.elapsed().as_secs_f64() * 4.0 * RATE as f64 {
                    // A full queue may be an error.
                    let _ = client.send_to(&packet, target);
                    sent += SIZE as f64;
                } else {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        });
        server.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let (mut octets, mut times, mut packet) = (0.0, None, [0; SIZE]);
        while server.recv(&mut packet).is_ok() {
            octets += SIZE as f64;
            let now = Instant::now();
            let (first, _) = times.unwrap_or((now, now));
            times = Some((first, now));
        }
        let (first, last) = times.expect("some arrived");
        (octets, (last - first).as_secs_f64())
    })
}

/// What the bucket lets through in a time is known beforehand, however slow the machine: a burst, and the rate.
fn check_rate(octets: f64, seconds: f64) {
    let most = f64::from(BURST) + RATE as f64 * seconds;
    let ratio = octets / most;
    // Too much would be the filter's fault. Too little may be the machine's, so it gets more room.
    assert!(ratio < 1.05, "{octets} in {seconds} s is {ratio} of {most}");
    assert!(ratio > 0.75, "{octets} in {seconds} s is {ratio} of {most}");
}

fn no_more_is_sent_than_the_bucket_has(sandbox: &Sandbox) -> Result<()> {
    let (host, mut undo) = (sandbox.host(), Undo::new());
    let (container, veth) = connected(sandbox)?;
    host.add_tbf(&veth, &Tbf::with_latency(RATE, BURST, Duration::from_millis(25)), &mut undo)?;
    let (octets, seconds) = octets_through(host, &container, "10.1.0.2");
    check_rate(octets, seconds);
    // The other direction is free.
    let (octets, seconds) = octets_through(&container, host, "10.1.0.1");
    assert!(octets > 2.0 * (f64::from(BURST) + RATE as f64 * seconds), "{octets} in {seconds} s");
    undo.run().unwrap();
    Ok(())
}

fn what_arrives_is_queued_by_way_of_an_ifb(sandbox: &Sandbox) -> Result<()> {
    let (host, mut undo) = (sandbox.host(), Undo::new());
    let (container, veth) = connected(sandbox)?;
    let ifb = ifb(host)?;
    host.add_ingress(&veth, &mut undo)?;
    host.redirect_ingress(&veth, ifb.index)?;
    host.add_tbf(&ifb, &Tbf::with_latency(RATE, BURST, Duration::from_millis(25)), &mut undo)?;
    let (octets, seconds) = octets_through(&container, host, "10.1.0.1");
    check_rate(octets, seconds);
    undo.run().unwrap();
    Ok(())
}
