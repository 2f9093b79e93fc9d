//! A room of `try`'s own: namespaces in which it is root, and private folders where plugins would leave files on the
//! host. All of it goes when the process ends.
//!
//! Not a security boundary: see [`cni_linux::sandbox`].

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use cni_linux::{Netns, sandbox};
use cni_plugins::PLUGINS;
use rustix::fs::OFlags;
use rustix::mount::{MountFlags, mount, mount_bind_recursive};

use crate::cli::failure::{Failure, Result, reason};

/// Folders that the room has for itself, and the names in them that it does not share with the host: there plugins keep
/// their state, and there are the services of the host that a plugin could ask to change something for it.
const PRIVATE: [(&str, &[&str]); 2] = [
    ("/run", &["cni", "dbus", "ferrocni-try", "firewalld", "netns", "xtables.lock"]),
    ("/var/lib", &["cni"]),
];

/// Where the room's plugins are.
const BIN: &str = "/run/ferrocni-try/bin";

/// The room. The process cannot leave it.
pub(super) struct Room {
    /// What is the host's network namespace in here.
    pub(super) host: Netns,
    /// The plugins of this binary, as executables.
    pub(super) bin: PathBuf,
}

impl Room {
    /// Moves the process into a new room. It must still have just one thread.
    pub(super) fn enter() -> Result<Room> {
        sandbox::enter_own_namespaces().map_err(|e| {
            Failure::new(e.to_string())
                .help("`try` needs namespaces of its own, so that nothing on this host is touched")
        })?;
        for (dir, own) in PRIVATE {
            make_private(Path::new(dir), own)
                .map_err(|e| Failure::new(format!("making a private {dir}: {}", reason(&e))))?;
        }
        let linked = link_plugins(Path::new(BIN));
        linked.map_err(|e| Failure::new(format!("making links in {BIN}: {}", reason(&e))))?;
        let host = Netns::current().and_then(|host| host.set_up("lo").map(|_| host));
        let host = host.map_err(|e| Failure::new(e.to_string()))?;
        Ok(Room { host, bin: BIN.into() })
    }

    /// The files that were made in the private folders, without those of the room itself.
    pub(super) fn files() -> Vec<String> {
        let mut files = Vec::new();
        for (dir, _) in PRIVATE {
            if let Ok(metadata) = fs::metadata(dir) {
                collect(Path::new(dir), metadata.dev(), &mut files);
            }
        }
        files.sort();
        files
    }
}

/// Puts an empty folder over `dir`, and in it everything that was there but for the names in `own`.
///
/// The folder cannot simply be empty: programs and configurations may be below it, on some hosts all of them.
fn make_private(dir: &Path, own: &[&str]) -> io::Result<()> {
    // Leads to what is there now, even when something else has been mounted over it.
    let flags = (OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC).bits() as i32;
    let below = OpenOptions::new().read(true).custom_flags(flags).open(dir)?;
    let below = PathBuf::from(format!("/proc/self/fd/{}", below.as_raw_fd()));
    let entries: Vec<_> = fs::read_dir(dir)?.collect::<io::Result<_>>()?;
    mount("tmpfs", dir, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, c"mode=0755")?;
    for entry in entries {
        let name = entry.file_name();
        if !own.iter().any(|own| name == *own) {
            // What cannot be had, a plugin of this user could not have used either.
            let _ = share(&below.join(&name), &dir.join(&name), entry.file_type()?);
        }
    }
    Ok(())
}

fn share(there: &Path, here: &Path, kind: fs::FileType) -> io::Result<()> {
    if kind.is_symlink() {
        return symlink(fs::read_link(there)?, here);
    }
    if kind.is_dir() {
        fs::create_dir(here)?;
    } else {
        File::create_new(here)?;
    }
    Ok(mount_bind_recursive(there, here)?)
}

/// Gives each plugin of this binary a name that can be executed.
fn link_plugins(bin: &Path) -> io::Result<()> {
    fs::create_dir_all(bin)?;
    // Not /proc/self: a plugin that is not ours, and delegates to one that is, would find itself there.
    let program = format!("/proc/{}/exe", std::process::id());
    PLUGINS.iter().try_for_each(|plugin| symlink(&program, bin.join(plugin.name)))
}

/// Names the files on this file system below `dir`. An empty folder is not worth a word.
fn collect(dir: &Path, filesystem: u64, files: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        if metadata.dev() != filesystem || Path::new(BIN).starts_with(&path) {
            continue;
        }
        if metadata.is_dir() {
            collect(&path, filesystem, files);
        } else {
            files.push(format!("file {}", path.display()));
        }
    }
}
