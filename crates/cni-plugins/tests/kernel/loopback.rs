//! loopback in containers of a sandbox.

use std::thread;

use cni_plugins::interface::loopback::Loopback;
use cni_sdk::testing::{Caller, Sandbox, Test, break_add, record, tests};
use cni_sdk::{AddResult, Interface, IpConfig, Netns, Result};

const CONFIG: &str = r#"{"cniVersion": "1.1.0", "name": "lo", "type": "loopback"}"#;

fn caller(container: &Netns) -> Caller {
    Caller::new::<Loopback>(CONFIG).container(container)
}

fn add_reports_lo_with_the_addresses_that_the_kernel_gave_it(sandbox: &Sandbox) -> Result<()> {
    let container = sandbox.container();
    let result = caller(&container).add()?;
    let sandbox = container.path().expect("a path").display().to_string();
    let lo =
        Interface { name: "lo".into(), mac: "00:00:00:00:00:00".into(), sandbox, ..Interface::default() };
    assert_eq!(result.interfaces, [lo]);
    assert_eq!(
        result.ips[0],
        IpConfig { address: "127.0.0.1/8".parse()?, gateway: None, interface: Some(0) }
    );
    assert!(result.ips.iter().skip(1).all(|ip| ip.address.to_string() == "::1/128"), "{result:?}");
    assert!(container.link("lo")?.is_up());
    assert_eq!(caller(&container).add()?, result, "a second ADD answers the same");
    Ok(())
}

fn what_came_before_is_passed_through(sandbox: &Sandbox) -> Result<()> {
    let container = sandbox.container();
    let interface = Interface { name: "eth0".into(), mtu: 1400, ..Interface::default() };
    let before = AddResult { interfaces: vec![interface], ..AddResult::default() };
    assert_eq!(caller(&container).prev_result(&before).add()?, before);
    assert!(container.link("lo")?.is_up());
    Ok(())
}

fn a_foreign_address_is_refused_and_lo_goes_down_again(sandbox: &Sandbox) -> Result<()> {
    let container = sandbox.container();
    container.add_address("lo", "192.0.2.7/24".parse::<ipnet::IpNet>()?)?;
    let error = caller(&container).add().unwrap_err();
    assert_eq!(error.msg, "loopback interface found with non-loopback address \"192.0.2.7\"");
    assert!(!container.link("lo")?.is_up());
    container.set_up("lo")?;
    caller(&container).add().unwrap_err();
    assert!(container.link("lo")?.is_up(), "what was up before stays up");
    Ok(())
}

fn check_and_del_follow_the_state_of_lo(sandbox: &Sandbox) -> Result<()> {
    let container = sandbox.container();
    let down = caller(&container).check(&AddResult::default()).unwrap_err();
    assert_eq!(down.msg, "loopback interface is down");
    let result = caller(&container).add()?;
    caller(&container).check(&result)?;
    caller(&container).del(Some(&result))?;
    assert!(!container.link("lo")?.is_up());
    caller(&container).del(None)?;
    caller(&container).netns("").del(None)?;
    caller(&container).netns("/nonexistent/netns").del(None)
}

fn junk_in_cni_args_is_ignored(sandbox: &Sandbox) -> Result<()> {
    caller(&sandbox.container()).args("none").id("c", "net1").add().map(drop)
}

fn a_broken_add_leaves_nothing(sandbox: &Sandbox) {
    assert_eq!(break_add(sandbox, caller), 1, "loopback changes one thing");
}

fn one_add_makes_four_requests(sandbox: &Sandbox) -> Result<()> {
    let container = sandbox.container();
    let (result, requests) = record(|| caller(&container).add());
    result?;
    let requests: Vec<String> = requests.iter().map(ToString::to_string).collect();
    assert_eq!(
        requests,
        [
            "RTM_GETLINK look up link \"lo\"",
            "RTM_GETADDR list addresses of link \"lo\"",
            "RTM_SETLINK set up link \"lo\"",
            "RTM_GETADDR list addresses of link \"lo\"",
        ]
    );
    Ok(())
}

fn a_hundred_containers_from_a_hundred_threads(sandbox: &Sandbox) -> Result<()> {
    let own = Netns::current()?;
    let containers: Vec<Netns> = (0..100).map(|_| sandbox.container()).collect();
    thread::scope(|scope| {
        let threads: Vec<_> = containers
            .iter()
            .map(|container| {
                scope.spawn(|| {
                    let before = Netns::current()?;
                    caller(container).add()?;
                    assert!(Netns::current()?.is_same_as(&before), "the calling thread was moved");
                    container.link("lo").map(|lo| lo.is_up()).map_err(cni_sdk::Error::from)
                })
            })
            .collect();
        for thread in threads {
            assert!(thread.join().expect("no panic")?);
        }
        Ok::<_, cni_sdk::Error>(())
    })?;
    assert!(Netns::current()?.is_same_as(&own));
    assert!(!sandbox.host().link("lo")?.is_up(), "the host is as it was");
    Ok(())
}

pub(crate) fn tests() -> Vec<Test> {
    tests![
        add_reports_lo_with_the_addresses_that_the_kernel_gave_it,
        what_came_before_is_passed_through,
        a_foreign_address_is_refused_and_lo_goes_down_again,
        check_and_del_follow_the_state_of_lo,
        junk_in_cni_args_is_ignored,
        a_broken_add_leaves_nothing,
        one_add_makes_four_requests,
        a_hundred_containers_from_a_hundred_threads,
    ]
}
