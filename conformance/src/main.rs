//! The same black-box cases against any directory of CNI plugins.
//!
//! A case says what a plugin is given (environment, standard input, the state of two network namespaces) and what
//! has to come of it: standard output, exit status, and what changed in the namespaces. The cases are played against
//! Ferrocni and against the Go plugins; where the two differ on purpose a case says so, and `docs/differences.md` says
//! why.
//!
//! It knows plugins by their executables alone and shares no code with them, so that both cannot be wrong together.

mod case;
mod coded;
mod commands;
mod differences;
mod judge;
mod names;
mod normal;
mod options;
mod packets;
mod pattern;
mod play;
mod process;
mod report;
mod run;
mod shell;
mod stage;
mod suite;

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use judge::Standard;
use options::{HELP, Options, directory};
use play::{Delegates, Subject};
use report::Report;
use run::Counts;
use suite::Suite;

/// The exit status when nothing could be played.
const BAD_USAGE: u8 = 2;

fn main() -> ExitCode {
    let result = Options::parse(std::env::args_os().skip(1)).and_then(|options| conform(&options));
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            // Without standard error nobody is left to be told.
            let _ = writeln!(io::stderr(), "conformance: {problem}");
            ExitCode::from(BAD_USAGE)
        }
    }
}

/// Does what the options ask for; says whether everything was as expected.
fn conform(options: &Options) -> Result<bool, String> {
    if options.help {
        return print(HELP).map(|()| true);
    }
    let mut suite = Suite::load()?;
    let disagreements = disagreements(options, &suite)?;
    suite.keep(&options.filter);
    if options.delegates.is_some() {
        suite.keep_delegations();
    }
    if suite.len() == 0 {
        return Err(format!("no case is called anything like {:?}", options.filter));
    }
    if options.list {
        return list(&suite).map(|()| true);
    }
    let mut subject =
        subject(options.dir.as_deref().unwrap_or(Path::new("")), Standard::of(options.reference), &suite)?;
    subject.delegates = options.delegates.as_deref().map(|dir| delegates(dir, options)).transpose()?;
    let against = options.against.as_deref().map(|dir| subject_of_comparison(dir, &suite)).transpose()?;
    cni_linux::sandbox::enter_own_namespaces().map_err(|err| err.to_string())?;
    stage::hide_state()?;

    let entries = run::run(&suite, &subject, against.as_ref())?;
    let mut counts = Counts::of(&entries);
    counts.failed += disagreements.len();
    let colours =
        options.output.is_none() && io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let title = title(&subject, against.as_ref(), entries.len());
    let report = Report { title, entries: &entries, disagreements: &disagreements, counts, colours };
    let written = match &options.output {
        Some(path) => File::create(path).and_then(|mut file| report.write(options.format, &mut file)),
        None => report.write(options.format, &mut io::stdout().lock()),
    };
    written.map_err(|err| format!("cannot write the report: {err}"))?;
    Ok(counts.failed == 0)
}

fn disagreements(options: &Options, suite: &Suite) -> Result<Vec<String>, String> {
    let document = match &options.differences {
        Some(path) => std::fs::read_to_string(path).map_err(|err| format!("{}: {err}", path.display()))?,
        None => differences::BUILT_IN.to_owned(),
    };
    Ok(differences::disagreements(&document, &suite.differences()))
}

/// The directory, which must hold at least one of the plugins.
fn subject(dir: &Path, standard: Standard, suite: &Suite) -> Result<Subject, String> {
    let dir = directory(dir)?;
    let plugins = suite.plugins();
    if !plugins.iter().any(|plugin| Path::new(&dir).join(plugin).is_file()) {
        let names: Vec<&str> = plugins.into_iter().collect();
        return Err(format!("{dir}: none of the plugins is in it ({})", names.join(", ")));
    }
    Ok(Subject { dir, standard, delegates: None })
}

fn delegates(dir: &Path, options: &Options) -> Result<Delegates, String> {
    Ok(Delegates { dir: directory(dir)?, standard: Standard::of(options.delegates_reference) })
}

fn subject_of_comparison(dir: &Path, suite: &Suite) -> Result<Subject, String> {
    subject(dir, Standard::Reference, suite)
}

fn title(subject: &Subject, against: Option<&Subject>, cases: usize) -> String {
    let how = match (subject.standard, against) {
        (Standard::Reference, _) => ", judged as the reference".to_owned(),
        (Standard::Ours, Some(against)) => format!(", compared with {}", against.dir),
        (Standard::Ours, None) => String::new(),
    };
    let delegates = match &subject.delegates {
        Some(delegates) => format!(", which delegate to {}", delegates.dir),
        None => String::new(),
    };
    format!("{cases} cases against {}{how}{delegates}", subject.dir)
}

fn list(suite: &Suite) -> Result<(), String> {
    let mut text = String::new();
    for group in &suite.groups {
        for play in &group.plays {
            text.push_str(&format!("{}: {}\n", group.name, play.name()));
        }
    }
    print(&text)
}

fn print(text: &str) -> Result<(), String> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(err) if err.kind() != io::ErrorKind::BrokenPipe => Err(format!("cannot write: {err}")),
        _ => Ok(()),
    }
}
