//! Where a case is played: network namespaces and a folder, made for it and gone after it.
//!
//! One namespace is the host of the plugins, one the container's, and a case may ask for another container. None is
//! the machine's, so nothing that a plugin does in error reaches it.

use std::fs;
use std::path::{Path, PathBuf};

use cni_linux::testing::Snapshot;
use cni_linux::{AddressSpec, Netns, Scope};
use ipnet::IpNet;
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, unmount};
use serde::Deserialize;
use tempfile::TempDir;

use crate::case::Preparation;
use crate::commands;
use crate::names::{Names, PLACEHOLDERS};

/// The namespaces of one case.
pub(crate) struct Stage {
    pub(crate) host: Netns,
    pub(crate) container: Netns,
    /// Another container, where the case has one.
    pub(crate) other: Option<Netns>,
    dir: TempDir,
    names: Names,
}

/// One of the namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Place {
    Host,
    Container,
    Other,
}

/// A look at the namespaces.
pub(crate) struct Picture {
    pub(crate) host: Snapshot,
    pub(crate) container: Snapshot,
    pub(crate) other: Option<Snapshot>,
}

/// Puts empty folders in the places where plugins keep what they remember, so that cases neither see nor change the
/// machine's.
pub(crate) fn hide_state() -> Result<(), String> {
    let place = ["/var/lib/cni", "/var/lib"].into_iter().find(|place| Path::new(place).is_dir());
    let place = place.ok_or("there is no /var/lib")?;
    mount("tmpfs", place, "tmpfs", MountFlags::empty(), None)
        .map_err(|err| format!("cannot hide {place}: {err}"))
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Place::Host => "the host",
            Place::Container => "the container",
            Place::Other => "the other container",
        })
    }
}

impl Picture {
    pub(crate) fn of(&self, place: Place) -> Option<&Snapshot> {
        match place {
            Place::Host => Some(&self.host),
            Place::Container => Some(&self.container),
            Place::Other => self.other.as_ref(),
        }
    }
}

impl Stage {
    /// New namespaces, in which nothing is configured. `path` is what CNI_PATH is.
    pub(crate) fn new(plugins: &str, path: &str, with_other: bool) -> Result<Stage, String> {
        let failed = |err: &dyn std::fmt::Display| format!("cannot make a place to play: {err}");
        let dir = tempfile::Builder::new().prefix("conformance-").tempdir().map_err(|err| failed(&err))?;
        let host = Netns::temporary().map_err(|err| failed(&err))?;
        let container = Netns::temporary().map_err(|err| failed(&err))?;
        let other = with_other.then(Netns::temporary).transpose().map_err(|err| failed(&err))?;
        let within = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
        let values: [String; PLACEHOLDERS.len()] = [
            within("container"),
            within("host"),
            within("other"),
            dir.path().to_string_lossy().into_owned(),
            plugins.to_owned(),
            path.to_owned(),
        ];
        let stage = Stage { host, container, other, dir, names: Names::new(values) };
        stage.furnish().map_err(|err| failed(&err))?;
        Ok(stage)
    }

    pub(crate) fn names(&self) -> &Names {
        &self.names
    }

    /// What is configured at this moment.
    pub(crate) fn picture(&self) -> Result<Picture, String> {
        let take = |netns| Snapshot::take(netns).map_err(|err| format!("cannot look at the kernel: {err}"));
        let other = self.other.as_ref().map(take).transpose()?;
        Ok(Picture { host: take(&self.host)?, container: take(&self.container)?, other })
    }

    /// Runs a line of the shell in a namespace; says what it printed.
    pub(crate) fn shell(&self, place: Place, line: &str) -> Result<String, String> {
        self.netns(place)?.run(|| commands::shell(line)).map_err(|err| err.to_string())?
    }

    pub(crate) fn netns(&self, place: Place) -> Result<&Netns, String> {
        match place {
            Place::Host => Ok(&self.host),
            Place::Container => Ok(&self.container),
            Place::Other => self.other.as_ref().ok_or_else(|| "the case has no other container".into()),
        }
    }

    /// Does something before an execution.
    pub(crate) fn prepare(&self, preparation: &Preparation, names: &Names) -> Result<(), String> {
        let done = match preparation {
            Preparation::Container(line) => return self.shell(Place::Container, &names.fill(line)).map(drop),
            Preparation::Host(line) => return self.shell(Place::Host, &names.fill(line)).map(drop),
            Preparation::Other(line) => return self.shell(Place::Other, &names.fill(line)).map(drop),
            Preparation::File(path, bytes) => {
                let path = PathBuf::from(names.fill(path));
                let folder = path.parent().unwrap_or(Path::new("/"));
                let written = fs::create_dir_all(folder)
                    .and_then(|()| fs::write(&path, bytes.render(|text| names.fill(text))));
                return written.map_err(|err| format!("cannot write {}: {err}", path.display()));
            }
            Preparation::Up(link) => self.container.set_up(link.as_str()).map(drop),
            Preparation::Down(link) => self.container.set_down(link.as_str()),
            Preparation::Address(address) => {
                let net: IpNet = address.parse().map_err(|err| format!("{address}: {err}"))?;
                let scope = if net.addr().is_loopback() { Scope::HOST } else { Scope::UNIVERSE };
                self.container.add_address("lo", AddressSpec::new(net).scope(scope))
            }
            Preparation::Sysctl(path, value) => {
                let path = PathBuf::from("/proc/sys").join(path);
                let written = self.container.run(|| fs::write(&path, value));
                return match written {
                    Ok(Ok(())) => Ok(()),
                    Ok(Err(err)) => Err(format!("cannot write {}: {err}", path.display())),
                    Err(err) => Err(err.to_string()),
                };
            }
            Preparation::UnmountContainer => {
                let path = self.dir.path().join("container");
                return unmount(&path, UnmountFlags::DETACH).map_err(|err| format!("cannot unmount: {err}"));
            }
        };
        done.map_err(|err| format!("cannot prepare the namespace: {err}"))
    }

    /// Gives the namespaces their paths, as `ip netns` does, and lays out what cases stumble over.
    fn furnish(&self) -> std::io::Result<()> {
        let dir = self.dir.path();
        for name in ["container", "host", "other", "plain-file"] {
            fs::write(dir.join(name), "")?;
        }
        fs::create_dir(dir.join("directory"))?;
        for link in ["link", "odd <&> \"é\""] {
            std::os::unix::fs::symlink("container", dir.join(link))?;
        }
        let namespaces = [(&self.container, "container"), (&self.host, "host")];
        let other = self.other.iter().map(|netns| (netns, "other"));
        for (netns, name) in namespaces.into_iter().chain(other) {
            let path = netns.path().unwrap_or(std::path::Path::new(""));
            mount_bind(path, dir.join(name))?;
        }
        Ok(())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let other = self.other.iter().map(|_| "other");
        for name in ["container", "host"].into_iter().chain(other) {
            // A case may have unmounted it already.
            let _ = unmount(self.dir.path().join(name), UnmountFlags::DETACH);
        }
    }
}
