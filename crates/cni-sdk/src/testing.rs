//! The kit for testing plugins: call one as a runtime would, in a sandbox, and break the kernel under it.
//!
//! It stands on [`cni_linux::testing`], whose harness runs each test in namespaces of its own, without root. A test
//! program has `harness = false` in `Cargo.toml`:
//!
//! ```no_run
//! use cni_sdk::testing::{self, Caller, Sandbox, tests};
//! # use cni_sdk::{Add, AddResult, Check, Del, Plugin, Result, Undo, serde};
//! # #[derive(serde::Deserialize)]
//! # #[serde(crate = "cni_sdk::serde")]
//! # struct Loopback {}
//! # impl Plugin for Loopback {
//! #     const TYPE: &'static str = "loopback";
//! #     fn add(&self, _: &Add, _: &mut Undo) -> Result<AddResult> { unimplemented!() }
//! #     fn del(&self, _: &Del) -> Result<()> { unimplemented!() }
//! #     fn check(&self, _: &Check) -> Result<()> { unimplemented!() }
//! # }
//!
//! const CONFIG: &str = r#"{"cniVersion": "1.1.0", "name": "test", "type": "loopback"}"#;
//!
//! fn lo_comes_up_and_goes_down(sandbox: &Sandbox) -> Result<()> {
//!     let container = sandbox.container();
//!     let caller = Caller::new::<Loopback>(CONFIG).container(&container);
//!     let result = caller.add()?;
//!     assert_eq!(result.interfaces[0].name, "lo");
//!     caller.check(&result)?;
//!     caller.del(Some(&result))?;
//!     assert!(!container.link("lo")?.is_up());
//!     Ok(())
//! }
//!
//! fn a_broken_add_leaves_nothing(sandbox: &Sandbox) {
//!     testing::break_add(sandbox, |container| Caller::new::<Loopback>(CONFIG).container(container));
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     testing::main(tests![lo_comes_up_and_goes_down, a_broken_add_leaves_nothing])
//! }
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cni_linux::Netns;
pub use cni_linux::testing::*;
use cni_spec::json::Object;
use cni_spec::{AddResult, AttachmentId, Command, Result, Version};
use libcni::{Embedded, Invocation, Invoke, Reply};

use crate::plugin::{Entry, Plugin, entry};

/// Calls one plugin in memory, for one container: the parameters and documents are those that a process would get.
#[derive(Clone)]
pub struct Caller {
    entry: Entry,
    config: Object,
    invocation: Invocation,
    delegates: Arc<dyn Invoke>,
    state: Vec<PathBuf>,
}

impl Caller {
    /// Plugin `P` with this configuration, for container `test` and interface `eth0`.
    ///
    /// # Panics
    /// If `config` is no JSON object.
    pub fn new<P: Plugin>(config: &str) -> Self {
        Caller {
            entry: entry::<P>(),
            config: Object::parse(config.as_bytes()).expect("the configuration of a test is a JSON object"),
            invocation: Invocation {
                container_id: "test".into(),
                ifname: "eth0".into(),
                path: "/nonexistent".into(),
                ..Invocation::default()
            },
            delegates: Arc::new(Embedded::new([])),
            state: Vec::new(),
        }
    }

    /// The container's namespace.
    ///
    /// # Panics
    /// If the namespace has no path; those of a [`Sandbox`] have.
    #[must_use]
    pub fn container(self, container: &Netns) -> Self {
        let path = container.path().expect("the container's namespace has a path");
        self.netns(path)
    }

    /// CNI_NETNS, whatever is there.
    #[must_use]
    pub fn netns(mut self, path: impl AsRef<Path>) -> Self {
        self.invocation.netns = path.as_ref().to_string_lossy().into_owned();
        self
    }

    /// CNI_CONTAINERID and CNI_IFNAME.
    #[must_use]
    pub fn id(mut self, container_id: &str, ifname: &str) -> Self {
        self.invocation.container_id = container_id.into();
        self.invocation.ifname = ifname.into();
        self
    }

    /// CNI_ARGS.
    #[must_use]
    pub fn args(mut self, args: &str) -> Self {
        self.invocation.args = args.into();
        self
    }

    /// The plugins that it may delegate to.
    #[must_use]
    pub fn delegates(mut self, plugins: impl IntoIterator<Item = Entry>) -> Self {
        self.delegates = Arc::new(Embedded::new(plugins.into_iter().map(|e| (e.name, e.run))));
        self
    }

    /// A folder in which the plugin or its delegates keep state: [`break_add`] compares that as well.
    #[must_use]
    pub fn state(mut self, folder: impl Into<PathBuf>) -> Self {
        self.state.push(folder.into());
        self
    }

    /// The result of the plugin before this one.
    #[must_use]
    pub fn prev_result(mut self, result: &AddResult) -> Self {
        self.config.set("prevResult", result);
        self
    }

    /// ADD.
    ///
    /// # Errors
    /// The plugin's.
    pub fn add(&self) -> Result<AddResult> {
        Ok(self.call(Command::Add, self.config.clone())?.added()?.result)
    }

    /// CHECK with the result of the ADD.
    ///
    /// # Errors
    /// The plugin's.
    pub fn check(&self, result: &AddResult) -> Result<()> {
        self.call(Command::Check, self.with_result(Some(result))).map(drop)
    }

    /// DEL, with the result of the ADD if the runtime still knows it.
    ///
    /// # Errors
    /// The plugin's.
    pub fn del(&self, result: Option<&AddResult>) -> Result<()> {
        self.call(Command::Del, self.with_result(result)).map(drop)
    }

    /// GC with these attachments still there.
    ///
    /// # Errors
    /// The plugin's.
    pub fn gc(&self, valid: &[AttachmentId]) -> Result<()> {
        let mut config = self.config.clone();
        config.set("cni.dev/valid-attachments", valid);
        self.call(Command::Gc, config).map(drop)
    }

    /// STATUS.
    ///
    /// # Errors
    /// The plugin's.
    pub fn status(&self) -> Result<()> {
        self.call(Command::Status, self.config.clone()).map(drop)
    }

    fn with_result(&self, result: Option<&AddResult>) -> Object {
        let mut config = self.config.clone();
        if let Some(result) = result {
            config.set("prevResult", result);
        }
        config
    }

    fn call(&self, command: Command, mut config: Object) -> Result<Reply> {
        if config.get("cniVersion").is_none() {
            config.set("cniVersion", &Version::CURRENT);
        }
        let invocation = Invocation {
            command: command.to_string(),
            config: config.to_json().into_bytes(),
            ..self.invocation.clone()
        };
        (self.entry.run)(&invocation, self.delegates.clone())
    }
}

/// Runs ADD with its first kernel change failing, then with its second, and so on, each time in a new container, and
/// compares host, container and state folders before and after. Returns how many changes there are.
///
/// # Panics
/// If an ADD leaves anything behind, if it succeeds although a change failed, or if it makes no change at all; and if the
/// ADD that nothing broke fails.
pub fn break_add(sandbox: &Sandbox, caller: impl Fn(&Netns) -> Caller) -> usize {
    for nth in 1.. {
        let container = sandbox.container();
        let caller = caller(&container);
        let before = Picture::take(sandbox, &container, &caller);
        let injected = fail_at(nth, || caller.add());
        if !injected.reached {
            if let Err(error) = injected.outcome {
                panic!("ADD failed although nothing was broken: {error}");
            }
            assert!(nth > 1, "ADD made no change of the kernel");
            return nth - 1;
        }
        let Err(error) = injected.outcome else {
            panic!("change {nth} of ADD failed, and ADD succeeded");
        };
        let left = before.compare(&Picture::take(sandbox, &container, &caller));
        assert!(
            left.is_empty(),
            "change {nth} of ADD failed ({error}), which left behind:\n{}",
            left.join("\n")
        );
    }
    unreachable!("an ADD has an end")
}

/// Everything that an ADD may change.
struct Picture {
    host: Snapshot,
    container: Snapshot,
    files: Vec<String>,
}

impl Picture {
    fn take(sandbox: &Sandbox, container: &Netns, caller: &Caller) -> Self {
        let snapshot = |netns| Snapshot::take(netns).expect("a sandbox can be looked at");
        let mut files = Vec::new();
        caller.state.iter().for_each(|folder| list(folder, &mut files));
        files.sort();
        Picture { host: snapshot(sandbox.host()), container: snapshot(container), files }
    }

    fn compare(&self, after: &Picture) -> Vec<String> {
        let mut difference = self.host.diff(&after.host);
        difference.extend(self.container.diff(&after.container));
        difference.extend(self.files.iter().filter(|f| !after.files.contains(f)).map(|f| format!("- {f}")));
        difference.extend(after.files.iter().filter(|f| !self.files.contains(f)).map(|f| format!("+ {f}")));
        difference
    }
}

/// Everything below `folder`: files with their content, links with their target, and folders.
fn list(folder: &Path, entries: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = path.display();
        if path.is_symlink() {
            entries.push(format!("{name} -> {:?}", std::fs::read_link(&path).unwrap_or_default()));
        } else if path.is_dir() {
            entries.push(format!("{name}/"));
            list(&path, entries);
        } else {
            entries.push(match std::fs::read(&path) {
                Ok(content) => format!("{name}: {}", content.escape_ascii()),
                Err(e) => format!("{name}: {e}"),
            });
        }
    }
}
