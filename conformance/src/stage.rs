//! Where a case is played: two network namespaces and a folder, made for it and gone after it.
//!
//! One namespace is the host of the plugins, the other the container's. Neither is the machine's, so nothing that a
//! plugin does in error reaches it.

use std::fs;
use std::path::PathBuf;

use cni_linux::testing::Snapshot;
use cni_linux::{AddressSpec, Netns, Scope};
use ipnet::IpNet;
use rustix::mount::{UnmountFlags, mount_bind, unmount};
use serde_json::Value;
use tempfile::TempDir;

use crate::case::Preparation;

/// What may stand in a case between `${` and `}`.
///
/// `container` and `host` are the paths of the two namespaces, `dir` is the folder (with a `plain-file`, a
/// `directory`, and `link` and `odd <&> "é"`, which lead to the container's namespace), `plugins` the folder under test.
pub(crate) const PLACEHOLDERS: [&str; 4] = ["container", "host", "dir", "plugins"];

/// The namespaces of one case.
pub(crate) struct Stage {
    pub(crate) host: Netns,
    pub(crate) container: Netns,
    dir: TempDir,
    names: Names,
}

/// What the placeholders stand for.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    values: [String; PLACEHOLDERS.len()],
}

/// A look at both namespaces.
pub(crate) struct Picture {
    pub(crate) host: Snapshot,
    pub(crate) container: Snapshot,
}

impl Names {
    /// Values in the order of [`PLACEHOLDERS`].
    pub(crate) fn new(values: [String; PLACEHOLDERS.len()]) -> Names {
        Names { values }
    }

    /// The text with every placeholder replaced.
    pub(crate) fn fill(&self, text: &str) -> String {
        if !text.contains("${") {
            return text.to_owned();
        }
        let pairs = PLACEHOLDERS.iter().zip(&self.values);
        pairs.fold(text.to_owned(), |text, (key, value)| text.replace(&format!("${{{key}}}"), value))
    }

    /// The document with the placeholders of all its texts replaced.
    pub(crate) fn fill_in(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.fill(text)),
            Value::Array(list) => list.iter().map(|value| self.fill_in(value)).collect(),
            Value::Object(object) => object.iter().map(|(key, value)| (key, self.fill_in(value))).collect(),
            other => other.clone(),
        }
    }

    /// The reverse: the text with the placeholders instead of what they stand for.
    pub(crate) fn unfill(&self, text: &str) -> String {
        let pairs = PLACEHOLDERS.iter().zip(&self.values);
        pairs.fold(text.to_owned(), |text, (key, value)| text.replace(value.as_str(), &format!("${{{key}}}")))
    }
}

impl Stage {
    /// New namespaces, in which nothing is configured.
    pub(crate) fn new(plugins: &str) -> Result<Stage, String> {
        let failed = |err: &dyn std::fmt::Display| format!("cannot make a place to play: {err}");
        let dir = tempfile::Builder::new().prefix("conformance-").tempdir().map_err(|err| failed(&err))?;
        let host = Netns::temporary().map_err(|err| failed(&err))?;
        let container = Netns::temporary().map_err(|err| failed(&err))?;
        let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
        let values =
            [path("container"), path("host"), dir.path().to_string_lossy().into_owned(), plugins.to_owned()];
        let stage = Stage { host, container, dir, names: Names::new(values) };
        stage.furnish().map_err(|err| failed(&err))?;
        Ok(stage)
    }

    pub(crate) fn names(&self) -> &Names {
        &self.names
    }

    /// What is configured at this moment.
    pub(crate) fn picture(&self) -> Result<Picture, String> {
        let take = |netns| Snapshot::take(netns).map_err(|err| format!("cannot look at the kernel: {err}"));
        Ok(Picture { host: take(&self.host)?, container: take(&self.container)? })
    }

    /// Does something to the container's namespace.
    pub(crate) fn prepare(&self, preparation: &Preparation) -> Result<(), String> {
        let done = match preparation {
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
        for name in ["container", "host", "plain-file"] {
            fs::write(dir.join(name), "")?;
        }
        fs::create_dir(dir.join("directory"))?;
        for link in ["link", "odd <&> \"é\""] {
            std::os::unix::fs::symlink("container", dir.join(link))?;
        }
        for (netns, name) in [(&self.container, "container"), (&self.host, "host")] {
            let path = netns.path().unwrap_or(std::path::Path::new(""));
            mount_bind(path, dir.join(name))?;
        }
        Ok(())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for name in ["container", "host"] {
            // A case may have unmounted it already.
            let _ = unmount(self.dir.path().join(name), UnmountFlags::DETACH);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_filled_and_unfilled() {
        let names = Names::new(["/n/c".into(), "/n/h".into(), "/n".into(), "/p".into()]);
        assert_eq!(names.fill("a ${container} ${dir}/x ${other}"), "a /n/c /n/x ${other}");
        assert_eq!(names.unfill("/n/c /n/x"), "${container} ${dir}/x");
        let value = serde_json::json!({"a": ["${plugins}", 1]});
        assert_eq!(names.fill_in(&value), serde_json::json!({"a": ["/p", 1]}));
    }
}
