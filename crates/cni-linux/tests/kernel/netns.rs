//! Opening namespaces, running in them, and never leaving one's own.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::time::Duration;

use cni_linux::testing::{Sandbox, Test, tests};
use cni_linux::{LinkSpec, Netns, Result, Undo, VethPeer};

pub(crate) fn tests() -> Vec<Test> {
    tests![
        the_tests_own_namespace_is_the_host,
        sockets_stay_in_their_namespace_whatever_the_thread,
        a_namespace_can_be_opened_by_its_path,
        a_temporary_namespace_goes_with_its_last_clone,
        what_is_not_a_namespace_is_refused_in_known_words,
        what_is_gone_is_none,
        an_unmounted_namespace_is_gone,
        is_current_compares_device_and_inode,
        run_is_inside_and_the_caller_stays_outside,
        a_panic_inside_goes_on_outside_and_breaks_nothing,
        children_of_run_are_inside,
    ]
}

fn own() -> (u64, u64) {
    let own = fs::metadata("/proc/thread-self/ns/net").unwrap();
    (own.dev(), own.ino())
}

fn the_tests_own_namespace_is_the_host(sandbox: &Sandbox) -> Result<()> {
    assert!(Netns::current()?.is_same_as(sandbox.host()));
    assert!(!sandbox.container().is_same_as(sandbox.host()));
    let links = sandbox.host().links()?;
    assert_eq!(links.iter().map(|link| link.name.as_str()).collect::<Vec<_>>(), ["lo"]);
    assert!(!links[0].is_up() && links[0].is_loopback());
    Ok(())
}

/// A hundred namespaces, each with a link of its own name, looked at by several threads at the same time.
fn sockets_stay_in_their_namespace_whatever_the_thread(sandbox: &Sandbox) -> Result<()> {
    const THREADS: usize = 8;
    let before = own();
    let mut undo = Undo::new();
    let mut containers = Vec::new();
    for nth in 0..100 {
        let container = Netns::temporary()?;
        let peer = VethPeer::new(format!("eth{nth}")).into_netns(&container);
        sandbox.host().add_link(LinkSpec::veth(format!("veth{nth}"), peer), &mut undo)?;
        containers.push(container);
    }
    let barrier = Barrier::new(THREADS);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (containers, barrier) = (&containers, &barrier);
            scope.spawn(move || {
                let home = own();
                barrier.wait();
                for turn in 0..containers.len() {
                    let nth = (turn * 7 + thread * 13) % containers.len();
                    let names: Vec<_> =
                        containers[nth].links().unwrap().into_iter().map(|link| link.name).collect();
                    assert_eq!(names, ["lo".to_owned(), format!("eth{nth}")]);
                    containers[nth].set_up(&format!("eth{nth}")).unwrap();
                    assert!(containers[nth].link("veth0").unwrap_err().is_gone());
                    assert_eq!(own(), home, "the thread was moved");
                }
            });
        }
    });
    assert_eq!(sandbox.host().links()?.len(), 101);
    assert_eq!(own(), before);
    undo.run().unwrap();
    Ok(())
}

fn a_namespace_can_be_opened_by_its_path(sandbox: &Sandbox) -> Result<()> {
    let container = sandbox.container();
    container.set_up("lo")?;
    let path = container.path().unwrap();
    let opened = Netns::open(path)?;
    assert!(opened.is_same_as(&container));
    assert_eq!(opened.path(), Some(path));
    assert!(opened.link("lo")?.is_up());
    assert!(Netns::open(format!("/proc/{}/ns/net", std::process::id())).is_ok());
    Ok(())
}

/// A pair of links goes when the namespace of either does, which tells from the host whether it is still there.
fn a_temporary_namespace_goes_with_its_last_clone(sandbox: &Sandbox) -> Result<()> {
    let (host, mut undo) = (sandbox.host(), Undo::new());
    let container = Netns::temporary()?;
    host.add_link(LinkSpec::veth("veth0", VethPeer::new("eth0").into_netns(&container)), &mut undo)?;
    undo.keep();
    let clone = container.clone();
    drop(container);
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(host.link("veth0")?.kind(), Some("veth"));
    drop(clone);
    // The kernel takes namespaces down in its own time.
    for _ in 0..1000 {
        if host.link_if_exists("veth0")?.is_none() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("the namespace is still there");
}

fn identity_of(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

fn what_is_not_a_namespace_is_refused_in_known_words(_: &Sandbox) {
    let message = |path: &str| Netns::open(path).unwrap_err().to_string();
    assert_eq!(message(""), r#"failed to open netns "": failed to Statfs "": no such file or directory"#);
    assert_eq!(
        message("/no/such"),
        r#"failed to open netns "/no/such": failed to Statfs "/no/such": no such file or directory"#
    );
    let file = scratch("plain-file");
    fs::write(&file, "").unwrap();
    let text = file.to_str().unwrap();
    let refused = message(text);
    let expected = format!(r#"failed to open netns "{text}": unknown FS magic on "{text}": "#);
    let magic = refused.strip_prefix(&expected).unwrap();
    assert!(u64::from_str_radix(magic, 16).is_ok(), "{refused}");
    for path in ["/proc/version", "/proc/self/ns/mnt"] {
        assert_eq!(
            message(path),
            format!(r#"failed to open netns "{path}": Error switching to ns {path}: invalid argument"#)
        );
    }
    fs::remove_file(file).unwrap();
}

fn what_is_gone_is_none(sandbox: &Sandbox) -> Result<()> {
    let is_none = |path: &str| Netns::open_if_exists(Some(Path::new(path))).map(|found| found.is_none());
    assert!(Netns::open_if_exists(None)?.is_none());
    assert!(is_none("")?);
    assert!(is_none("/no/such/path")?);
    assert!(is_none("/proc/version/below-a-file")?);
    assert!(is_none(&format!("/proc/{}/ns/net", i32::MAX))?);
    let file = scratch("left-over");
    fs::write(&file, "").unwrap();
    assert!(is_none(file.to_str().unwrap())?);
    fs::remove_file(file).unwrap();
    let container = sandbox.container();
    assert!(Netns::open_if_exists(container.path())?.unwrap().is_same_as(&container));
    // A wrong path is not a missing one.
    assert!(is_none("/proc/self/ns/mnt").is_err());
    Ok(())
}

/// As `ip netns add` and `ip netns delete` do it.
fn an_unmounted_namespace_is_gone(sandbox: &Sandbox) -> Result<()> {
    let container = sandbox.container();
    let file = scratch("mounted");
    fs::write(&file, "").unwrap();
    rustix::mount::mount_bind(container.path().unwrap(), &file).unwrap();
    assert!(Netns::open(&file)?.is_same_as(&container));
    rustix::mount::unmount(&file, rustix::mount::UnmountFlags::DETACH).unwrap();
    assert!(Netns::open_if_exists(Some(&file))?.is_none());
    assert!(Netns::open(&file).unwrap_err().to_string().contains("unknown FS magic"));
    fs::remove_file(file).unwrap();
    Ok(())
}

fn is_current_compares_device_and_inode(sandbox: &Sandbox) -> Result<()> {
    let container = sandbox.container();
    assert!(Netns::is_current("/proc/thread-self/ns/net")?);
    assert!(!Netns::is_current(container.path().unwrap())?);
    // The main thread is not in the test's namespace, and the test's thread is what counts.
    assert!(!Netns::is_current("/proc/self/ns/net")?);
    assert!(container.run(|| Netns::is_current(container.path().unwrap()))??);
    assert!(!Netns::is_current("/no/such/path")?);
    assert!(!Netns::is_current("")?);
    Ok(())
}

fn run_is_inside_and_the_caller_stays_outside(sandbox: &Sandbox) -> Result<()> {
    let (container, before) = (sandbox.container(), own());
    let inside = container.run(own)?;
    assert_eq!(Some(inside), identity_of(container.path().unwrap()));
    assert_ne!(inside, before);
    assert_eq!(own(), before);
    // /proc/sys is that of the thread.
    fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
    let forwards = || fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap();
    assert_eq!(container.run(forwards)?.trim(), "0");
    assert_eq!(forwards().trim(), "1");
    Ok(())
}

fn a_panic_inside_goes_on_outside_and_breaks_nothing(sandbox: &Sandbox) -> Result<()> {
    let (container, before) = (sandbox.container(), own());
    let panic = catch_unwind(AssertUnwindSafe(|| {
        container.run(|| std::panic::resume_unwind(Box::new("on purpose")))
    }));
    assert_eq!(panic.unwrap_err().downcast_ref(), Some(&"on purpose"));
    assert_eq!(own(), before);
    assert!(container.set_up("lo")?.is_up());
    assert!(container.run(own)? != before);
    Ok(())
}

fn children_of_run_are_inside(sandbox: &Sandbox) -> Result<()> {
    let container = sandbox.container();
    let command = || std::process::Command::new("readlink").arg("/proc/self/ns/net").output().unwrap().stdout;
    let inside = container.run(command)?;
    let expected = format!("net:[{}]", identity_of(container.path().unwrap()).unwrap().1);
    assert_eq!(String::from_utf8(inside).unwrap().trim(), expected);
    assert_ne!(String::from_utf8(command()).unwrap().trim(), expected);
    Ok(())
}

/// A path that no other test uses.
fn scratch(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("cni-linux-{}-{name}", std::process::id()))
}
