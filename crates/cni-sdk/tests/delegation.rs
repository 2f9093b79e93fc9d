//! Delegation: to a function in memory, to a process that CNI_PATH leads to, and what is undone with it.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use cni_sdk::libcni::Process;
use cni_sdk::spec::Command;
use cni_sdk::{
    Add, AddResult, Check, Code, Del, Embedded, Error, Gc, Invocation, Invoke, IpConfig, Plugin, Result,
};
use cni_sdk::{Status, Undo, entry, serde};

/// Hands everything on to its IPAM plugin; fails after that if it is told to.
#[derive(serde::Deserialize)]
#[serde(crate = "cni_sdk::serde")]
struct Front {
    #[serde(default)]
    fail: bool,
}

impl Plugin for Front {
    const TYPE: &'static str = "front";

    fn add(&self, cx: &Add, undo: &mut Undo) -> Result<AddResult> {
        let result = cx.net.ipam_add(undo)?;
        if self.fail { Err(Error::failed("after the addresses")) } else { Ok(result) }
    }

    fn del(&self, cx: &Del) -> Result<()> {
        cx.net.ipam_del()
    }

    fn check(&self, cx: &Check) -> Result<()> {
        cx.net.ipam_check()
    }
}

/// An IPAM plugin with one address, which is a file.
#[derive(serde::Deserialize)]
#[serde(crate = "cni_sdk::serde")]
struct Pool {
    ipam: PoolKeys,
}

#[derive(serde::Deserialize)]
#[serde(crate = "cni_sdk::serde")]
struct PoolKeys {
    file: std::path::PathBuf,
}

impl Plugin for Pool {
    const TYPE: &'static str = "pool";

    fn add(&self, cx: &Add, _: &mut Undo) -> Result<AddResult> {
        if self.ipam.file.exists() {
            return Err(Error::new(Code::TRY_AGAIN_LATER, "no address left"));
        }
        std::fs::write(&self.ipam.file, cx.id.container_id.as_str())?;
        let ip = IpConfig { address: "192.0.2.2/24".parse()?, gateway: None, interface: None };
        Ok(AddResult { ips: vec![ip], ..AddResult::default() })
    }

    fn del(&self, _: &Del) -> Result<()> {
        Ok(std::fs::remove_file(&self.ipam.file)?)
    }

    fn check(&self, _: &Check) -> Result<()> {
        if self.ipam.file.exists() { Ok(()) } else { Err(Error::failed("no address was given")) }
    }

    fn gc(&self, cx: &Gc) -> Result<()> {
        if cx.valid.is_empty() { Ok(std::fs::remove_file(&self.ipam.file)?) } else { Ok(()) }
    }

    fn status(&self, _: &Status) -> Result<()> {
        if self.ipam.file.exists() { Err(Error::new(Code::PLUGIN_NOT_AVAILABLE, "empty")) } else { Ok(()) }
    }
}

fn invocation(command: Command, config: String) -> Invocation {
    Invocation {
        command: command.to_string(),
        container_id: "c1".into(),
        netns: "/nonexistent/netns".into(),
        ifname: "eth0".into(),
        path: "/nonexistent".into(),
        config: config.into_bytes(),
        ..Invocation::default()
    }
}

fn embedded() -> Embedded {
    Embedded::new([entry::<Front>(), entry::<Pool>()].map(|e| (e.name, e.run)))
}

fn config(file: &Path, more: &str) -> String {
    format!(
        r#"{{"cniVersion":"1.1.0","name":"net","type":"front","ipam":{{"type":"pool","file":{file:?}}}{more}}}"#
    )
}

#[test]
fn every_verb_reaches_the_delegate_with_its_answer() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("address");
    let call = |command| embedded().invoke("front", &invocation(command, config(&file, ""))).map(|_| ());
    assert_eq!(call(Command::Status), Ok(()));
    assert_eq!(call(Command::Add), Ok(()));
    assert_eq!(std::fs::read_to_string(&file).expect("the address was taken"), "c1");
    assert_eq!(call(Command::Check), Ok(()));
    let error = call(Command::Add).unwrap_err();
    assert_eq!((error.code, error.msg.as_str()), (Code::TRY_AGAIN_LATER, "no address left"));
    assert_eq!(error.details, "while delegating ADD to the IPAM plugin pool");
    assert!(file.exists(), "the second ADD must not release what the first one took");
    assert_eq!(call(Command::Status).unwrap_err().code, Code::PLUGIN_NOT_AVAILABLE);
    assert_eq!(call(Command::Del), Ok(()));
    assert!(!file.exists());
    assert_eq!(call(Command::Add), Ok(()));
    assert_eq!(call(Command::Gc), Ok(()));
    assert!(!file.exists());
}

#[test]
fn a_failure_after_the_delegate_gives_the_addresses_back() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("address");
    let failing = invocation(Command::Add, config(&file, r#","fail":true"#));
    assert_eq!(embedded().invoke("front", &failing).unwrap_err().msg, "after the addresses");
    assert!(!file.exists());
}

#[test]
fn a_delegate_that_asks_for_itself_is_not_called_again() {
    let dir = tempfile::tempdir().expect("a folder");
    let config = config(&dir.path().join("address"), "");
    // an IPAM plugin is given the whole configuration, in which it is the IPAM plugin
    assert!(embedded().invoke("pool", &invocation(Command::Status, config)).is_ok());
    let own = r#"{"cniVersion":"1.1.0","name":"net","ipam":{"type":"front"}}"#;
    let call = |command| embedded().invoke("front", &invocation(command, own.into())).map(|_| ());
    assert_eq!(call(Command::Add).unwrap_err().msg, "plugin front is told to get addresses from itself");
    for command in [Command::Del, Command::Check, Command::Gc, Command::Status] {
        assert_eq!(call(command), Ok(()), "{command}");
    }
}

#[test]
fn without_an_ipam_plugin_there_is_nothing_to_hand_on_but_for_add() {
    let config = r#"{"cniVersion":"1.1.0","name":"net"}"#;
    for command in [Command::Gc, Command::Status, Command::Del, Command::Check] {
        assert!(embedded().invoke("front", &invocation(command, config.into())).is_ok(), "{command}");
    }
    let error = embedded().invoke("front", &invocation(Command::Add, config.into())).unwrap_err();
    assert_eq!(error.msg, "no plugin name provided");
}

#[test]
fn a_delegate_that_is_a_process_answers_the_same() {
    let dir = tempfile::tempdir().expect("a folder");
    let script = dir.path().join("pool");
    let text = "#!/bin/sh\ncat >/dev/null\nif [ $CNI_COMMAND = ADD ]; then echo '{\"ips\":[{\"address\":\"192.0.2.9/24\"}]}'; \
                else echo '{\"code\":11,\"msg\":\"'$CNI_COMMAND' of '$CNI_CONTAINERID'\"}'; exit 1; fi\n";
    std::fs::write(&script, text).expect("a script");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("executable");
    let processes = || Arc::new(Process::search([dir.path().to_string_lossy()]));
    let call = |command, more: &str| {
        cni_sdk::run::<Front>(&invocation(command, config(Path::new("/x"), more)), processes())
    };
    let added = call(Command::Add, "").and_then(cni_sdk::Reply::added).expect("a result");
    assert_eq!(added.result.ips[0].address.to_string(), "192.0.2.9/24");
    let error = call(Command::Del, "").unwrap_err();
    assert_eq!((error.code, error.msg.as_str()), (Code::TRY_AGAIN_LATER, "DEL of c1"));
    let error = call(Command::Add, r#","fail":true"#).unwrap_err();
    assert!(error.details.contains("undo addresses from pool: DEL of c1"), "{error:?}");

    // an ADD that ends without a word that can be understood may have made something
    let log = dir.path().join("log");
    let garbled = format!("#!/bin/sh\ncat >/dev/null\necho $CNI_COMMAND >>{}\necho started\n", log.display());
    std::fs::write(&script, garbled).expect("a script");
    let error = call(Command::Add, "").unwrap_err();
    assert!(error.msg.starts_with("failed to unmarshal raw result"), "{error:?}");
    assert_eq!(std::fs::read_to_string(&log).expect("the script ran"), "ADD\nDEL\n");

    std::fs::remove_file(script).expect("the script was there");
    let error = call(Command::Add, "").unwrap_err();
    assert!(error.msg.starts_with("failed to find plugin \"pool\" in path ["), "{error:?}");
}
