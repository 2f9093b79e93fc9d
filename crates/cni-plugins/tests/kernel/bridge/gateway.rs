//! Gateways, and what is in their way.

use cni_sdk::Result;
use cni_sdk::testing::{Sandbox, Test, kernel, tests};

use super::{GATEWAY, Net};

pub(super) fn tests() -> Vec<Test> {
    tests![another_address_is_refused_and_stays => [kernel::bridge, kernel::veth]]
}

fn another_address_is_refused_and_stays(sandbox: &Sandbox) -> Result<()> {
    let (host, container) = (sandbox.host(), sandbox.container());
    let net = Net::new(GATEWAY);
    net.with_addresses(&["10.1.2.2/24"], &container).id("a", "eth0").add()?;
    let error = net.with_addresses(&["10.9.9.2/24"], &container).id("b", "eth1").add().unwrap_err();
    assert_eq!(
        error.msg,
        r#"failed to set bridge addr: "cni0" already has an IP address different from 10.9.9.1/24"#
    );
    let addresses: Vec<_> = host.addresses("cni0")?.iter().map(ToString::to_string).collect();
    assert_eq!(addresses[0], "10.1.2.1/24", "{addresses:?}");
    assert!(!addresses.iter().any(|address| address.starts_with("10.9")), "{addresses:?}");
    Ok(())
}
