//! podman 4 with its CNI backend, which writes the network's configuration itself.
//!
//! Its lists end in portmap, firewall and tuning. Plugins that are not in the folder under test come from the
//! reference's; which these are is said.

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use crate::command::{Result, run, until};
use crate::containerd::{kill, write};
use crate::machine::{Machine, Plugins};
use crate::report::Report;
use crate::scenarios::{Client, NETWORK, SUBNETS};
use crate::traces::Traces;

/// The programs without which it is skipped, and the Debian packages that have them.
pub(crate) const PROGRAMS: [(&str, &str); 4] =
    [("podman", "podman"), ("conmon", "conmon"), ("runc", "runc"), ("busybox", "busybox-static")];

/// The plugins of the lists that podman writes.
const LIST: [&str; 5] = ["bridge", "host-local", "portmap", "firewall", "tuning"];

/// What it takes here: no systemd, no store of images, and as many files and processes as everybody may have.
pub(crate) struct Podman {
    env: [String; 2],
    cgroup_parent: String,
    rootfs: String,
}

impl Podman {
    pub(crate) fn new(machine: &Machine) -> Result<Podman> {
        let dirs = machine.plugin_path().replace(':', "\", \"");
        let [configuration, storage] = ["containers.conf", "storage.conf"].map(|file| machine.path(file));
        write(
            &configuration,
            &format!(
                r#"[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
[network]
network_backend = "cni"
cni_plugin_dirs = ["{dirs}"]
"#
            ),
        )?;
        write(
            &storage,
            "[storage]\ndriver = \"vfs\"\nrunroot = \"/run/containers/storage\"\ngraphroot = \"/var/lib/containers/storage\"\n",
        )?;
        Ok(Podman {
            env: [format!("CONTAINERS_CONF={configuration}"), format!("CONTAINERS_STORAGE_CONF={storage}")],
            cgroup_parent: format!("--cgroup-parent=/{}", machine.name),
            rootfs: machine.path("rootfs"),
        })
    }

    /// Says which plugins are not those under test.
    pub(crate) fn say_whose(machine: &Machine, report: &Report) {
        for plugin in LIST.into_iter().filter(|name| !machine.has(Plugins::Ours, name)) {
            report.skipped(plugin, "it is not among these plugins, so podman takes the reference's");
        }
    }

    /// `podman network create`; it chooses a name for the bridge.
    pub(crate) fn create_network(&self) -> Result<()> {
        let [v4, v6] = SUBNETS;
        self.podman(&["network", "create", "--ipv6", "--subnet", v4, "--subnet", v6, NETWORK])?;
        let known = self.podman(&["network", "inspect", NETWORK])?;
        if known.contains(v4) && known.contains(v6) { Ok(()) } else { Err(known) }
    }

    pub(crate) fn remove_network(&self) -> Result<()> {
        self.podman(&["network", "rm", NETWORK])?;
        let left = Traces::take()?;
        if left.mention("link cni-podman") { Err("its bridge is left".into()) } else { Ok(()) }
    }

    fn podman(&self, args: &[&str]) -> Result<String> {
        let [configuration, storage] = &self.env;
        run(&[["env", configuration, storage, "podman"].as_slice(), args].concat())
    }

    fn field(&self, container: &str, field: &str) -> Result<String> {
        let format = format!("{{{{{field}}}}}");
        Ok(self.podman(&["container", "inspect", "--format", &format, container])?.trim().to_owned())
    }
}

impl Client for Podman {
    fn start(&mut self, container: &str) -> Result<()> {
        let name = format!("--name={container}");
        let network = format!("--network={NETWORK}");
        let container = ["--rootfs", &self.rootfs, "sleep", "1000"];
        self.podman(&[["run", "-d", &name, &network, &self.cgroup_parent].as_slice(), &container].concat())
            .map(drop)
    }

    fn exec(&self, container: &str, line: &[&str]) -> Result<String> {
        self.podman(&[["exec", container].as_slice(), line].concat())
    }

    fn stop(&mut self, container: &str) -> Result<()> {
        self.podman(&["rm", "--force", "--time=0", container]).map(drop)
    }

    fn crash(&mut self, container: &str) -> Result<()> {
        let netns = self.field(container, ".NetworkSettings.SandboxKey")?;
        for field in [".State.ConmonPid", ".State.Pid"] {
            let text = self.field(container, field)?;
            let pid = text.parse().map_err(|_| format!("{field} of {container} is {text:?}"))?;
            kill(pid);
            let gone = || Pid::from_raw(pid).is_none_or(|pid| test_kill_process(pid) == Err(Errno::SRCH));
            until(|| if gone() { Ok(()) } else { Err(format!("process {pid} does not end")) })?;
        }
        run(&["umount", &netns])?;
        run(&["rm", &netns]).map(drop)
    }

    fn forget(&mut self, container: &str) -> Result<()> {
        self.stop(container)
    }

    fn id(&self, container: &str) -> Result<String> {
        self.field(container, ".Id")
    }

    fn inspect(&self, container: &str) -> Result<String> {
        self.field(container, "json .NetworkSettings.Networks")
    }
}
