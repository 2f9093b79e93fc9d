//! How much is asked of the kernel: what the plugin's page says, line by line.

use cni_plugins::PLUGINS;
use cni_plugins::interface::bridge::Bridge;
use cni_sdk::spec::NetworkName;
use cni_sdk::spec::json::Object;
use cni_sdk::steps::names;
use cni_sdk::testing::{Caller, Recorded, Sandbox, Test, kernel, record, tests};
use cni_sdk::{Netns, Result};

use super::id;

pub(super) fn tests() -> Vec<Test> {
    tests![
        the_requests_are_those_of_the_page => [kernel::bridge, kernel::veth, kernel::nftables],
        they_are_no_more_with_a_hundred_others => [kernel::bridge, kernel::veth, kernel::nftables],
    ]
}

const PAGE: &str = include_str!("../../../../../docs/plugins/bridge.md");

/// The blocks of this kind on the page, from the section about requests on.
fn blocks(kind: &str) -> Vec<&'static str> {
    let section = PAGE.split("\n## Requests\n").nth(1).expect("the page has that section");
    section.split(&format!("\n```{kind}\n")).skip(1).map(|rest| rest.split("\n```").next().unwrap()).collect()
}

/// The network of the page, with this key as well.
fn caller(key: Option<&str>, container: &Netns) -> Caller {
    let mut config = Object::parse(blocks("json")[0].as_bytes()).unwrap();
    if let Some(key) = key {
        config.set(key, &true);
    }
    Caller::new::<Bridge>(&config.to_json()).container(container).delegates(PLUGINS)
}

/// The requests as the page writes them.
fn lines(requests: &[Recorded], container: &Netns) -> Vec<String> {
    let (net, id) = (NetworkName::parse("pods").unwrap(), id("test"));
    let eth0 = container.link_if_exists("eth0").unwrap();
    let mac = eth0.as_ref().and_then(|eth0| eth0.mac()).map(|mac| mac.to_string());
    let index = eth0.map(|eth0| format!("dev {}", eth0.index));
    let plain = |request: &Recorded| {
        let mut line = request.to_string().replace(&names::host_end(&net, &id), "<host end>");
        line = line.replace(&names::reference::masquerade_chain(&net, &id), "<chain>");
        if let (Some(mac), Some(index)) = (&mac, &index) {
            line = line.replace(mac, "<mac>").replace(index, "dev <index>");
        }
        line
    };
    let mut lines: Vec<String> = requests.iter().map(plain).collect();
    // How often it is looked until the port carries packets, then by its number, is the kernel's business.
    lines.retain(|line| !line.starts_with("RTM_GETLINK look up link number "));
    lines
}

fn the_requests_are_those_of_the_page(sandbox: &Sandbox) -> Result<()> {
    let [add, spoof_check, masquerade, del] = blocks("text").try_into().expect("four blocks");
    for (key, more) in [(None, ""), (Some("macspoofchk"), spoof_check), (Some("ipMasq"), masquerade)] {
        let container = sandbox.container();
        let pod = caller(key, &container);
        pod.add()?;
        pod.del(None)?;
        let (result, requests) = record(|| pod.add());
        let found = lines(&requests, &container);
        let (others, found): (Vec<_>, Vec<_>) =
            found.iter().map(String::as_str).partition(|line| more.lines().any(|more| more == *line));
        assert_eq!(found, add.lines().collect::<Vec<_>>(), "{key:?}");
        assert_eq!(others, more.lines().collect::<Vec<_>>(), "{key:?}");
        let (deleted, requests) = record(|| pod.del(Some(&result?)));
        deleted?;
        if key.is_none() {
            assert_eq!(lines(&requests, &container), del.lines().collect::<Vec<_>>());
        } else {
            assert_eq!(requests.iter().filter(|request| request.change).count(), 2, "{requests:?}");
        }
    }
    Ok(())
}

fn they_are_no_more_with_a_hundred_others(sandbox: &Sandbox) -> Result<()> {
    let containers: Vec<Netns> = (0..100).map(|_| sandbox.container()).collect();
    let net = super::Net::new(r#""isDefaultGateway": true, "ipMasq": true, "macspoofchk": true"#);
    let count = |nth: u32, container: &Netns| {
        let (result, added) = record(|| net.pod(nth, container).add());
        let (deleted, requests) = record(|| net.pod(nth, container).del(Some(&result?)));
        deleted?;
        let mut messages: Vec<_> = added.iter().chain(&requests).map(|request| request.message).collect();
        messages.dedup();
        Ok::<_, cni_sdk::Error>(messages)
    };
    let alone = sandbox.container();
    net.pod(200, &alone).add()?;
    net.pod(200, &alone).del(None)?;
    let first = count(201, &alone)?;
    for (nth, container) in (2..).zip(&containers) {
        net.pod(nth, container).add()?;
    }
    assert_eq!(count(202, &alone)?, first);
    Ok(())
}
