//! What is refused, and that nothing is left of it.

use cni_sdk::linux::{LinkSpec, VethPeer};
use cni_sdk::testing::{Sandbox, Snapshot, Test, kernel, tests};
use cni_sdk::{Result, Undo};

use super::{GATEWAY, Net};

pub(super) fn tests() -> Vec<Test> {
    tests![a_name_that_is_no_bridge => [kernel::veth]]
}

fn a_name_that_is_no_bridge(sandbox: &Sandbox) -> Result<()> {
    let (host, container, mut undo) = (sandbox.host(), sandbox.container(), Undo::new());
    host.add_link(LinkSpec::veth("cni0", VethPeer::new("other")), &mut undo)?;
    let before = Snapshot::take(host)?;
    let error = Net::new(GATEWAY).pod(2, &container).add().unwrap_err();
    assert_eq!(error.to_string(), r#""cni0" already exists but is not a bridge; it is a veth"#);
    assert_eq!(before.diff(&Snapshot::take(host)?), Vec::<String>::new());
    undo.run().unwrap();
    Ok(())
}
