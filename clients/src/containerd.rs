//! containerd, by its own `ctr`: `ctr run --cni` calls ADD, and DEL when the container has ended.
//!
//! DEL comes with an empty CNI_NETNS, because by then the namespace is gone.

use std::collections::BTreeMap;
use std::fs;

use rustix::process::{Pid, Signal, kill_process};

use crate::command::{Result, Running, run, start, until};
use crate::machine::Machine;
use crate::scenarios::{Client, NETWORK, SUBNETS};

/// The programs without which it is skipped, and the Debian packages that have them.
pub(crate) const PROGRAMS: [(&str, &str); 4] =
    [("containerd", "containerd"), ("ctr", "containerd"), ("runc", "runc"), ("busybox", "busybox-static")];

/// A daemon of its own, and the `ctr` that stands beside each container.
pub(crate) struct Containerd {
    /// containerd's namespace, which is also the parent of its control groups.
    namespace: String,
    rootfs: String,
    containers: BTreeMap<String, Running>,
    /// Ends with the machine.
    _daemon: Running,
}

impl Containerd {
    /// Starts the daemon and writes the network's configuration, for the bridge or for ptp.
    pub(crate) fn new(machine: &Machine, plugin: &str) -> Result<Containerd> {
        let configuration = machine.path("containerd.toml");
        write(
            &configuration,
            r#"version = 2
disabled_plugins = [
    "io.containerd.grpc.v1.cri",
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.zfs",
]
"#,
        )?;
        let [v4, v6] = SUBNETS;
        let list = serde_json::json!({
            "cniVersion": "1.0.0",
            "name": NETWORK,
            "plugins": [{
                "type": plugin,
                // ptp knows nothing of the next three.
                "bridge": "pods0",
                "isGateway": true,
                "hairpinMode": true,
                "ipMasq": true,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{ "subnet": v4 }], [{ "subnet": v6 }]],
                    "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }]
                }
            }]
        });
        write(&format!("/etc/cni/net.d/{NETWORK}.conflist"), &list.to_string())?;
        let daemon = start(&["containerd", "--config", &configuration])?;
        until(|| run(&["ctr", "version"]))?;
        Ok(Containerd {
            namespace: machine.name.clone(),
            rootfs: machine.path("rootfs"),
            containers: BTreeMap::new(),
            _daemon: daemon,
        })
    }

    fn ctr(&self, args: &[&str]) -> Result<String> {
        run(&[["ctr", "--namespace", &self.namespace].as_slice(), args].concat())
    }

    /// The first process of a container that is running.
    fn pid(&self, container: &str) -> Result<i32> {
        let tasks = self.ctr(&["task", "list"])?;
        let mut rows = tasks.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let row = rows.find(|row| row.first() == Some(&container) && row.contains(&"RUNNING"));
        let pid = row.and_then(|row| row.get(1)?.parse().ok());
        pid.ok_or_else(|| format!("{container} is not running:\n{tasks}"))
    }

    /// What became of a `ctr run` that has ended; a container that was killed is no failure of it.
    fn ended(&mut self, container: &str) -> Result<()> {
        let ctr = self.containers.remove(container).ok_or("there is no such container")?.wait()?;
        if ctr.stderr.is_empty() { Ok(()) } else { Err(ctr.to_string()) }
    }
}

impl Client for Containerd {
    fn start(&mut self, container: &str) -> Result<()> {
        let run = ["ctr", "--namespace", &self.namespace, "run", "--cni", "--rootfs"];
        let line = [run.as_slice(), &[&self.rootfs, container, "/bin/sleep", "1000"]].concat();
        self.containers.insert(container.to_owned(), start(&line)?);
        let runs = until(|| match self.pid(container) {
            Ok(_) => Ok(true),
            Err(_) if self.containers.get_mut(container).is_some_and(Running::has_ended) => Ok(false),
            Err(problem) => Err(problem),
        })?;
        if runs {
            return Ok(());
        }
        self.ended(container)?;
        Err(format!("{container} has ended by itself"))
    }

    fn exec(&self, container: &str, line: &[&str]) -> Result<String> {
        self.ctr(&[["task", "exec", "--exec-id", "look", container].as_slice(), line].concat())
    }

    fn stop(&mut self, container: &str) -> Result<()> {
        self.ctr(&["task", "kill", "--signal", "SIGKILL", container])?;
        self.ended(container)?;
        self.ctr(&["container", "rm", container]).map(drop)
    }

    fn crash(&mut self, container: &str) -> Result<()> {
        let pid = self.pid(container)?;
        self.containers.remove(container).ok_or("there is no such container")?.kill();
        for shim in processes(&["containerd-shim", "-id", container])? {
            kill(shim);
        }
        kill(pid);
        until(|| match fs::exists(format!("/proc/{pid}/ns/net")) {
            Ok(false) => Ok(()),
            _ => Err(format!("process {pid} of {container} does not end")),
        })
    }

    fn forget(&mut self, container: &str) -> Result<()> {
        until(|| self.ctr(&["container", "rm", container])).map(drop)
    }

    fn id(&self, container: &str) -> Result<String> {
        Ok(format!("{}-{container}", self.namespace))
    }

    /// It has no word for that; what it keeps is libcni's cache.
    fn inspect(&self, container: &str) -> Result<String> {
        let cached = format!("/var/lib/cni/results/{NETWORK}-{}-eth0", self.id(container)?);
        fs::read_to_string(&cached).map_err(|err| format!("{cached}: {err}"))
    }
}

/// The processes of this machine whose arguments have these among them; the first is the beginning of the program's name.
fn processes(words: &[&str]) -> Result<Vec<i32>> {
    let all = fs::read_dir("/proc").map_err(|err| format!("/proc: {err}"))?;
    let pids = all.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    Ok(pids
        .filter(|pid| {
            let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let args: Vec<&str> = line.split('\0').collect();
            args[0].rsplit('/').next().is_some_and(|program| program.starts_with(words[0]))
                && words[1..].iter().all(|word| args.contains(word))
        })
        .collect())
}

/// SIGKILL; the process may be gone already.
pub(crate) fn kill(pid: i32) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// Writes a file, creating it.
pub(crate) fn write(path: &str, text: &str) -> Result<()> {
    fs::write(path, text).map_err(|err| format!("{path}: {err}"))
}
