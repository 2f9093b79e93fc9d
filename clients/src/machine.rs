//! A machine for one client: network, mounts, processes and state of its own, of which nothing is seen outside.
//!
//! Only the kernel and the programs are the host's. What a client leaves running dies with the machine's first process,
//! and the control groups, which are the one thing that has no namespace here, are in a parent that is removed.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use rustix::process::{WaitOptions, wait};

use crate::command::{Result, run};

/// The longest that everything about one client may take.
const LIMIT: Duration = Duration::from_secs(240);

/// Where the runtimes that are played here look for plugins.
const PLUGIN_DIR: &str = "/opt/cni/bin";

/// The host outside, which knows no way back to containers' addresses: what it answers has been masqueraded.
pub(crate) const OUTSIDE: [&str; 2] = ["192.0.2.2", "2001:db8::2"];

/// The machine, seen from inside.
pub(crate) struct Machine {
    /// Of its own, also on the host: it is the name of the control groups.
    pub(crate) name: String,
    /// Its files; on the host an empty folder.
    pub(crate) base: PathBuf,
}

/// Whose plugins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plugins {
    /// Those under test.
    Ours,
    /// The Go ones, for upgrades and for what ours lack.
    Reference,
}

impl Plugins {
    fn folder(self) -> &'static str {
        match self {
            Plugins::Ours => "plugins",
            Plugins::Reference => "reference",
        }
    }
}

/// Makes a machine, runs this program in it with the arguments, and takes the machine away. Says whether it succeeded.
pub(crate) fn with(args: &[&str]) -> Result<bool> {
    let failed = |err| format!("make a machine: {err}");
    let dir = tempfile::Builder::new().prefix("ferrocni-clients-").tempdir().map_err(failed)?;
    let name = format!("ferrocni-clients-{}", std::process::id());
    let mut machine = Command::new("unshare");
    machine.args(["--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "--"]);
    machine.arg(std::env::current_exe().map_err(failed)?);
    machine.arg("--first-process").arg(dir.path()).arg(&name).args(args);
    let mut machine = machine.spawn().map_err(failed)?;
    let deadline = Instant::now() + LIMIT;
    let outcome = loop {
        match machine.try_wait().map_err(failed)? {
            Some(status) => break Ok(status.success()),
            None if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(50)),
            None => {
                machine.kill().and_then(|()| machine.wait()).map_err(failed)?;
                break Err(format!("it was stopped after {} s", LIMIT.as_secs()));
            }
        }
    };
    remove_control_groups(&name)?;
    outcome
}

/// The machine's first process: starts the program once more to do the work, and buries whoever has lost its parent.
pub(crate) fn first_process(args: &[String]) -> Result<ExitCode> {
    let failed = |err| format!("start the work: {err}");
    let worker = Command::new("/proc/self/exe").arg("--work").args(args).spawn().map_err(failed)?;
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid.as_raw_nonzero().get().cast_unsigned() == worker.id() => {
                return Ok(if status.exit_status() == Some(0) {
                    ExitCode::SUCCESS
                } else {
                    ExitCode::FAILURE
                });
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(err) => return Err(failed(err.into())),
        }
    }
}

impl Machine {
    /// Covers what of the host is to be neither seen nor changed, and makes the host outside.
    pub(crate) fn set_up(base: &Path, name: &str, ours: &str, reference: &str) -> Result<Machine> {
        let machine = Machine { name: name.to_owned(), base: base.to_owned() };
        run(&["mount", "--make-rprivate", "/"])?;
        run(&["mount", "-t", "tmpfs", "clients", &machine.path("")])?;
        for dir in ["plugins", "reference", "etc", "work", "gc", "rootfs/bin"] {
            fs::create_dir_all(base.join(dir)).map_err(|err| format!("create {dir}: {err}"))?;
        }
        run(&["mount", "--bind", ours, &machine.path("plugins")])?;
        run(&["mount", "--bind", reference, &machine.path("reference")])?;
        // Podman keeps its locks in /dev/shm.
        for dir in ["/run", "/opt", "/var/lib", "/dev/shm"] {
            run(&["mount", "-t", "tmpfs", "clients", dir])?;
        }
        let overlay = format!("lowerdir=/etc,upperdir={0}/etc,workdir={0}/work", base.display());
        run(&["mount", "-t", "overlay", "clients", "-o", &overlay, "/etc"])?;
        run(&["sh", "-c", "rm -rf /etc/cni && mkdir -p /etc/cni/net.d /opt/cni /run/netns"])?;
        machine.use_plugins(Plugins::Ours)?;
        // One static program makes a container.
        let rootfs = machine.path("rootfs");
        run(&[
            "sh",
            "-c",
            "cp $(command -v busybox) $0/bin && chroot $0 /bin/busybox --install -s /bin",
            &rootfs,
        ])?;
        run(&["sh", "-c", "mkdir $0/proc $0/sys $0/dev $0/etc $0/tmp $0/run", &rootfs])?;
        machine.make_outside()?;
        Ok(machine)
    }

    /// A path among the machine's files.
    pub(crate) fn path(&self, of: &str) -> String {
        self.base.join(of).to_string_lossy().into_owned()
    }

    /// Puts the plugins where runtimes look for them, in place of whatever was there, under running containers.
    pub(crate) fn use_plugins(&self, plugins: Plugins) -> Result<()> {
        let failed = |err| format!("put {plugins:?} into {PLUGIN_DIR}: {err}");
        let new = format!("{PLUGIN_DIR}.new");
        symlink(self.path(plugins.folder()), &new).map_err(failed)?;
        fs::rename(new, PLUGIN_DIR).map_err(failed)
    }

    /// Where plugins are looked for: what is in place, and for what it lacks the reference's.
    pub(crate) fn plugin_path(&self) -> String {
        format!("{PLUGIN_DIR}:{}", self.path(Plugins::Reference.folder()))
    }

    /// Whether there is such a plugin.
    pub(crate) fn has(&self, plugins: Plugins, name: &str) -> bool {
        self.base.join(plugins.folder()).join(name).is_file()
    }

    fn make_outside(&self) -> Result<()> {
        for line in [
            "ip link set lo up",
            "ip netns add outside",
            "ip link add uplink type veth peer name eth0 netns outside",
            "ip address add 192.0.2.1/24 dev uplink",
            "ip address add 2001:db8::1/64 dev uplink nodad",
            "ip link set uplink up",
            "ip -n outside address add 192.0.2.2/24 dev eth0",
            "ip -n outside address add 2001:db8::2/64 dev eth0 nodad",
            "ip -n outside link set eth0 up",
        ] {
            run(&line.split(' ').collect::<Vec<_>>())?;
        }
        Ok(())
    }
}

/// Removes the parents of the containers' control groups, of either version, with whatever is below them.
fn remove_control_groups(name: &str) -> Result<()> {
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    for parent in hierarchies.chain([root.to_owned()]).map(|dir| dir.join(name)) {
        // The processes in them have been killed, and may take a moment to be gone.
        crate::command::until(|| {
            remove_group(&parent).map_err(|err| format!("{}: {err}", parent.display()))
        })?;
    }
    Ok(())
}

fn remove_group(group: &Path) -> std::io::Result<()> {
    let Ok(below) = fs::read_dir(group) else { return Ok(()) };
    for entry in below.flatten().filter(|entry| entry.path().is_dir()) {
        remove_group(&entry.path())?;
    }
    fs::remove_dir(group)
}
