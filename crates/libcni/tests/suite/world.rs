//! What a case starts with: plugins `a`, `b` and `c`, an empty cache, and a log of what was executed.

use std::cell::RefCell;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use libcni::{Attachment, Cni, Embedded, NetworkConfig, Process};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fake::{self, Call};

/// A case, by its name.
pub(crate) type Case = (&'static str, fn(Way));

/// How plugins are run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Way {
    Process,
    Embedded,
}

pub(crate) struct World {
    way: Way,
    dir: TempDir,
    /// What [`Cni::on_warning`] was told.
    pub(crate) warnings: Arc<Mutex<Vec<String>>>,
    read: RefCell<usize>,
}

impl World {
    pub(crate) fn new(way: Way) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let this = World { way, dir, warnings: Arc::default(), read: RefCell::new(0) };
        fs::create_dir(this.bin()).unwrap();
        for name in fake::NAMES {
            std::os::unix::fs::symlink(std::env::current_exe().unwrap(), this.bin().join(name)).unwrap();
        }
        this
    }

    pub(crate) fn bin(&self) -> PathBuf {
        self.dir.path().join("bin")
    }

    pub(crate) fn cache_dir(&self) -> PathBuf {
        self.dir.path().join("cache")
    }

    /// The cache's file of an attachment.
    pub(crate) fn cache_file(&self, network: &str, container: &str) -> PathBuf {
        self.cache_dir().join("results").join(format!("{network}-{container}-eth0"))
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn cni(&self) -> Cni {
        self.cni_with(&fake::NAMES)
    }

    /// A handle that finds only these plugins.
    pub(crate) fn cni_with(&self, names: &[&'static str]) -> Cni {
        let cni = match self.way {
            Way::Embedded => Cni::new(Embedded::new(fake::table(names))),
            Way::Process => {
                let bin = self.dir.path().join(format!("bin-{}", names.join("-")));
                fs::create_dir_all(&bin).unwrap();
                for name in names {
                    let _ = std::os::unix::fs::symlink(self.bin().join(name), bin.join(name));
                }
                Cni::new(Process::search([bin.to_str().unwrap()]))
            }
        };
        let warnings = Arc::clone(&self.warnings);
        cni.cache_dir(self.cache_dir()).on_warning(move |text| warnings.lock().unwrap().push(text.into()))
    }

    /// A network `n` with the plugins `a`, `b` and `c`, which behave as told.
    pub(crate) fn net(&self, version: &str, behaviours: [Value; 3]) -> NetworkConfig {
        self.net_with("n", version, behaviours, json!({}))
    }

    /// As [`World::net`], with another name and further keys of the list.
    pub(crate) fn net_with(
        &self,
        name: &str,
        version: &str,
        behaviours: [Value; 3],
        keys: Value,
    ) -> NetworkConfig {
        let plugin = |(name, behaviour): (&str, Value)| {
            let mut plugin = json!({"type": name, "fake": behaviour});
            plugin["fake"]["log"] = self.file("log").to_str().unwrap().into();
            if let Some(keys) = plugin["fake"].as_object_mut().unwrap().remove("keys") {
                merge(&mut plugin, keys);
            }
            plugin
        };
        let plugins: Vec<Value> = fake::NAMES.into_iter().zip(behaviours).map(plugin).collect();
        let mut list = json!({"name": name, "cniVersion": version, "plugins": plugins});
        merge(&mut list, keys);
        NetworkConfig::parse(list.to_string().as_bytes()).unwrap()
    }

    /// The calls since this was last asked.
    pub(crate) fn calls(&self) -> Vec<Call> {
        let log = fs::read_to_string(self.file("log")).unwrap_or_default();
        let calls: Vec<Call> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let read = self.read.replace(calls.len());
        calls[read..].to_vec()
    }

    /// The calls since this was last asked, as `ADD a`.
    pub(crate) fn short_calls(&self) -> Vec<String> {
        self.calls().iter().map(Call::short).collect()
    }

    pub(crate) fn warnings(&self) -> Vec<String> {
        std::mem::take(&mut *self.warnings.lock().unwrap())
    }
}

/// Three plugins that do what they are asked.
pub(crate) fn well() -> [Value; 3] {
    [json!({}), json!({}), json!({})]
}

/// A plugin that fails at `command`.
pub(crate) fn fails(command: &str, msg: &str) -> Value {
    json!({ command: {"error": {"code": 11, "msg": msg}} })
}

pub(crate) fn attachment(container: &str) -> Attachment {
    Attachment {
        container_id: container.into(),
        netns: format!("/run/netns/{container}"),
        ifname: "eth0".into(),
        ..Attachment::default()
    }
}

fn merge(to: &mut Value, from: Value) {
    for (key, value) in from.as_object().unwrap() {
        to[key] = value.clone();
    }
}
