//! What host-local finds in files: a reservation of somebody else, the address that was handed out last, its own index, and a
//! resolv.conf. Whatever they say, ADD gives a free address, and DEL frees it and no other.

#![no_main]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cni_plugins::ipam::host_local::HostLocal;
use cni_sdk::{Embedded, Invocation, Reply, run};
use libfuzzer_sys::fuzz_target;

fn call(verb: &str, dir: &Path) -> cni_sdk::Result<Reply> {
    let dir = dir.display();
    let config = format!(
        r#"{{"cniVersion": "1.0.0", "name": "net", "type": "x", "ipam": {{"type": "host-local", "dataDir": "{dir}",
            "subnet": "10.1.0.0/29", "resolvConf": "{dir}/resolv.conf"}}}}"#
    );
    let invocation = Invocation {
        command: verb.into(),
        container_id: "ours".into(),
        ifname: "eth0".into(),
        netns: "/dev/null".into(),
        path: "/x".into(),
        config: config.into_bytes(),
        ..Invocation::default()
    };
    run::<HostLocal>(&invocation, Arc::new(Embedded::new([])))
}

/// The first file in a folder of the index.
fn first(folder: PathBuf) -> Option<PathBuf> {
    fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path()).next()
}

fuzz_target!(|files: (&[u8], &[u8], &[u8], &[u8], &[u8])| {
    let dir = std::env::temp_dir().join(format!("host_local-{}", std::process::id()));
    let net = dir.join("net");
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&net).unwrap();
    let (reservation, last, dns, owners, taken) = files;
    fs::write(net.join("10.1.0.3"), reservation).unwrap();
    fs::write(net.join("last_reserved_ip.0"), last).unwrap();
    fs::write(dir.join("resolv.conf"), dns).unwrap();
    let others = !matches!(reservation.trim_ascii(), b"ours\r\neth0" | b"ours");

    let added = call("ADD", &dir);
    assert_eq!(added.is_ok(), others, "only who has one already gets none");
    if let Ok(added) = added {
        let result = added.added().unwrap().result;
        let text = String::from_utf8_lossy(dns);
        assert!(result.dns.nameservers.iter().all(|server| text.contains(server)));
        let ip = result.ips[0].address.addr().to_string();
        assert_eq!(fs::read(net.join(ip)).unwrap(), b"ours\r\neth0");
    }
    // The index is ours alone, but what others write there must not end the program.
    for (kind, text) in [("owners", owners), ("taken", taken)] {
        if let Some(file) = first(net.join(".ferrocni").join(kind)) {
            fs::write(file, text).unwrap();
        }
    }
    let _ = call("CHECK", &dir);
    fs::remove_dir_all(net.join(".ferrocni")).unwrap();
    call("DEL", &dir).unwrap();
    let names = fs::read_dir(&net).unwrap().flatten().map(|entry| entry.file_name());
    for name in names.filter(|name| name.to_str().unwrap().starts_with("10.")) {
        assert!(others && name == "10.1.0.3", "{name:?} is left");
    }
});
