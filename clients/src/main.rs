//! Real clients on a directory of CNI plugins: containerd and podman run containers on them, crash, upgrade and clean up.
//!
//! It knows plugins and clients by their executables alone. The clients are the distribution's own; nothing of the
//! host's network, configuration or state is touched (`machine.rs`). It needs root, because they do.

mod command;
mod containerd;
mod machine;
mod podman;
mod report;
mod scenarios;
mod traces;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use lexopt::{Arg, Parser, ValueExt};

use command::Result;
use containerd::Containerd;
use machine::Machine;
use podman::Podman;
use report::{Report, say};
use scenarios::Play;

const HELP: &str = "\
Runs containers with containerd and podman on a directory of CNI plugins.

Usage: clients DIR [OPTION…]

  DIR              the plugins, as `ferrocni install DIR` puts them there
  --reference DIR  the Go plugins, for upgrades, and for podman's portmap, firewall and tuning [default: /usr/lib/cni]
  --only CLIENT    containerd, containerd-ptp or podman
  --help           this text

Clients that are not installed are skipped by name; with CI=true in the environment that is a failure.
Exit status: 0 if every promise was kept, 1 if one was not, 2 if nothing could be tried.
";

/// A client, and the programs and packages without which it is skipped.
const CLIENTS: [(&str, &[(&str, &str)]); 3] = [
    ("containerd", &containerd::PROGRAMS),
    ("containerd-ptp", &containerd::PROGRAMS),
    ("podman", &podman::PROGRAMS),
];

/// The exit status when nothing could be tried.
const BAD_USAGE: u8 = 2;

/// What was asked for.
struct Options {
    plugins: PathBuf,
    reference: PathBuf,
    only: Option<String>,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match args.split_first() {
        Some((mode, rest)) if mode == "--first-process" => machine::first_process(rest),
        Some((mode, rest)) if mode == "--work" => work(rest),
        _ => options().and_then(|options| options.map_or(Ok(ExitCode::SUCCESS), |options| play(&options))),
    };
    outcome.unwrap_or_else(|problem| {
        // Without standard error nobody is left to be told.
        let _ = writeln!(io::stderr(), "clients: {problem}");
        ExitCode::from(BAD_USAGE)
    })
}

/// Reads the command line; none if only help was asked for.
fn options() -> Result<Option<Options>> {
    let (mut plugins, mut reference, mut only) = (None, PathBuf::from("/usr/lib/cni"), None);
    let mut parser = Parser::from_env();
    let mut read = || -> std::result::Result<bool, lexopt::Error> {
        while let Some(arg) = parser.next()? {
            match arg {
                Arg::Long("reference") => reference = parser.value()?.into(),
                Arg::Long("only") => only = Some(parser.value()?.string()?),
                Arg::Long("help") | Arg::Short('h') => return Ok(false),
                Arg::Value(dir) if plugins.is_none() => plugins = Some(PathBuf::from(dir)),
                other => return Err(other.unexpected()),
            }
        }
        Ok(true)
    };
    if !read().map_err(|err| err.to_string())? {
        say(HELP.trim_end());
        return Ok(None);
    }
    let plugins = plugins.ok_or("which directory? say for instance `clients target/plugins`")?;
    if only.as_ref().is_some_and(|only| CLIENTS.iter().all(|(client, _)| client != only)) {
        return Err("the clients are containerd, containerd-ptp and podman".into());
    }
    Ok(Some(Options { plugins, reference, only }))
}

/// Each client on a machine of its own.
fn play(options: &Options) -> Result<ExitCode> {
    let folder = |dir: &Path| {
        let found = dir.canonicalize().map_err(|err| format!("{}: {err}", dir.display()))?;
        Ok::<_, String>(found.to_string_lossy().into_owned())
    };
    let plugins = folder(&options.plugins)?;
    for plugin in ["bridge", "ptp", "host-local"] {
        if !Path::new(&plugins).join(plugin).is_file() {
            return Err(format!("{plugins}: there is no {plugin} in it"));
        }
    }
    // Without the reference's plugins the folder is an empty one.
    let nothing = tempfile::tempdir().map_err(|err| format!("make an empty folder: {err}"))?;
    let reference = folder(&options.reference).or_else(|_| folder(nothing.path()))?;
    if !rustix::process::geteuid().is_root() {
        say("skipped: containerd and podman, because it takes root to run them");
        return Ok(ExitCode::SUCCESS);
    }
    let must = std::env::var("CI").is_ok_and(|value| value == "true");
    let mut good = true;
    for (client, programs) in CLIENTS {
        if options.only.as_ref().is_some_and(|only| only != client) {
            continue;
        }
        let missing: Vec<_> = programs.iter().filter(|(program, _)| !is_installed(program)).collect();
        if missing.is_empty() {
            say(&format!("{client} on {plugins}"));
            good &= machine::with(&[client, &plugins, &reference])?;
            continue;
        }
        for (program, package) in missing {
            say(&format!(
                "{}: {client}: no {program} (apt-get install {package})",
                if must { "FAILED" } else { "skipped" }
            ));
        }
        good &= !must;
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn is_installed(program: &str) -> bool {
    command::PATH.split(':').any(|dir| Path::new(dir).join(program).is_file())
}

/// Inside the machine: one client, from its start to its last promise.
fn work(args: &[String]) -> Result<ExitCode> {
    let [base, name, client, plugins, reference] = args else {
        return Err(format!("these are not the arguments of a machine: {args:?}"));
    };
    let machine = Machine::set_up(Path::new(base), name, plugins, reference)?;
    let mut report = Report::default();
    let played = match client.as_str() {
        "containerd" => containerd(&machine, &mut report, "bridge"),
        "containerd-ptp" => containerd(&machine, &mut report, "ptp"),
        _ => podman(&machine, &mut report),
    };
    if let Err(problem) = played {
        report.promise::<()>("everything can be tried", Err(problem));
    }
    Ok(if report.end() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn containerd(machine: &Machine, report: &mut Report, plugin: &str) -> Result<()> {
    let mut client = Containerd::new(machine, plugin)?;
    Play { client: &mut client, machine, report }.all()
}

fn podman(machine: &Machine, report: &mut Report) -> Result<()> {
    let mut client = Podman::new(machine)?;
    Podman::say_whose(machine, report);
    report.promise("`podman network create` makes the network", client.create_network());
    let played = Play { client: &mut client, machine, report }.all();
    report.promise("`podman network rm` removes it", client.remove_network());
    played
}
