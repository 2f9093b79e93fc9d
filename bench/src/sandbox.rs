//! Namespaces of the bench's own, so that it needs no privileges and leaves nothing behind: a network, a mount and,
//! where there is no other way, a user namespace; in it, the network namespaces of hosts and of their containers.
//!
//! The process must have one thread only. What a plugin does to the host it does to these.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change};
use rustix::process::{getegid, geteuid};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

use crate::Result;
use crate::rtnl::Rtnl;

/// The namespace of the calling thread.
const OWN: &str = "/proc/thread-self/ns/net";

/// Where a runtime mounts the namespaces of its containers; it is covered by a file system of the bench's own.
const RUN: &str = "/run";
const NETNS: &str = "/run/netns";
/// Where plugins keep their files, in memory for all alike.
const STATE: &str = "/run/state";

/// The namespaces that the process is in.
pub struct Sandbox {
    network: fs::File,
}

impl Sandbox {
    /// Enters new namespaces, for good (`unshare --net --mount`, if need be with `--map-root-user`).
    ///
    /// # Errors
    ///
    /// If the machine forbids it: then neither root's powers nor unprivileged user namespaces are to be had.
    pub fn enter() -> Result<Sandbox> {
        let wanted = UnshareFlags::NEWNET | UnshareFlags::NEWNS;
        match unshare(wanted) {
            Err(Errno::PERM) => become_root_of(wanted),
            result => result.map_err(io::Error::from),
        }
        .map_err(|err| format!("enter namespaces of its own: {err}"))?;

        let covered = || {
            mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
            mount("bench", RUN, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, None)
        };
        covered().map_err(|err| format!("cover {RUN}: {err}"))?;
        [NETNS, STATE]
            .iter()
            .try_for_each(fs::create_dir)
            .map_err(|err| format!("create {NETNS} and {STATE}: {err}"))?;
        let network = fs::File::open(OWN).map_err(|err| format!("open {OWN}: {err}"))?;
        Ok(Sandbox { network })
    }

    /// A new host: a network namespace with a loopback that is up, a folder in memory, and so many containers.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub fn node(&self, name: &str, containers: usize) -> Result<Node> {
        let host = self.container(name, 0)?;
        host.rtnl.set_loopback(true)?;
        let network = fs::File::open(host.path())?;
        let state = Path::new(STATE).join(name);
        fs::create_dir(&state).map_err(|err| format!("create {}: {err}", state.display()))?;
        let containers = (0..containers)
            .map(|number| self.container(&format!("{name}-{number}"), number))
            .collect::<Result<_>>()?;
        Ok(Node { network, state, containers })
    }

    /// A new container: a network namespace mounted under `/run/netns`, with nothing in it but a loopback that is down
    /// (`ip netns add`).
    fn container(&self, name: &str, number: usize) -> Result<Container> {
        let path = Path::new(NETNS).join(name);
        let made = || -> io::Result<Rtnl> {
            fs::write(&path, "")?;
            unshare(UnshareFlags::NEWNET)?;
            let inside = mount_bind(OWN, &path).map_err(io::Error::from).and_then(|()| Rtnl::open());
            move_into_link_name_space(self.network.as_fd(), Some(LinkNameSpaceType::Network))?;
            inside
        };
        let rtnl = made().map_err(|err| format!("create network namespace {}: {err}", path.display()))?;
        let id = format!("6f0bd1d4c0f5f2c7a1f6a4c8a7c63a9d3f0c1e6fd8a9b7a1c5d4e3f2a1b0{number:04x}");
        Ok(Container { id, path, rtnl })
    }
}

/// A host for plugins to work on.
pub struct Node {
    network: fs::File,
    state: PathBuf,
    /// Its containers.
    pub containers: Vec<Container>,
}

impl Node {
    /// Has the thread, and what it starts, work on this host.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub fn enter(&self) -> Result<()> {
        let entered = move_into_link_name_space(self.network.as_fd(), Some(LinkNameSpaceType::Network));
        entered.map_err(|err| format!("enter the namespace of a host: {err}").into())
    }

    /// A folder in memory for what plugins keep.
    pub fn state(&self) -> &Path {
        &self.state
    }
}

/// A container on a host.
pub struct Container {
    id: String,
    path: PathBuf,
    rtnl: Rtnl,
}

impl Container {
    /// What `CNI_CONTAINERID` says: 64 hexadecimal digits, of which the last are its number on the host.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What `CNI_NETNS` says.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the loopback down, as it is in a new namespace.
    ///
    /// Not a new namespace each time: the kernel takes the old one apart in the background, in the middle of the next
    /// measurement.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub fn renew(&self) -> Result<()> {
        self.rtnl.set_loopback(false).map_err(|err| format!("set lo down: {err}").into())
    }

    /// Whether the loopback is up.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub fn loopback_is_up(&self) -> Result<bool> {
        self.rtnl.loopback_is_up().map_err(|err| format!("look at lo: {err}").into())
    }

    /// Whether an interface is up. None if it is not there.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub fn is_up(&self, name: &str) -> Result<Option<bool>> {
        self.rtnl.is_up(name).map_err(|err| format!("look at {name}: {err}").into())
    }
}

/// Enters a user namespace in which the caller is root, and with it the `others`.
fn become_root_of(others: UnshareFlags) -> io::Result<()> {
    let (user, group) = (geteuid(), getegid());
    unshare(UnshareFlags::NEWUSER | others)?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {} 1", user.as_raw()))?;
    fs::write("/proc/self/gid_map", format!("0 {} 1", group.as_raw()))
}

#[allow(unsafe_code, reason = "rustix marks unshare unsafe because of CLONE_FILES, which is not used here")]
fn unshare(namespaces: UnshareFlags) -> rustix::io::Result<()> {
    // SAFETY: only new namespaces are asked for, which touches neither memory nor open files.
    unsafe { unshare_unsafe(namespaces) }
}
