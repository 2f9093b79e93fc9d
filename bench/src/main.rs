//! Two directories of CNI plugins against each other and against the kernel's floor.
//!
//! The program itself: what happens in which order, and what is printed. See `--help`.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bench::Result;
use bench::case::{Group, Subject};
use bench::measure::measure;
use bench::options::{Options, Wish, help};
use bench::report::{Described, Linked, Results, Setting, document, is_busy, machine, tables, targets};
use bench::sandbox::Sandbox;

const TARGET_MISSED: u8 = 1;
const WRONG_USAGE: u8 = 2;
const NOT_MEASURED: u8 = 3;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = env::args_os().skip(1).collect();
    let options = match Options::parse(arguments.clone(), default_programs()) {
        Ok(Wish::Run(options)) => options,
        Ok(Wish::Help) => return done(say(&help())),
        Err(sentence) => {
            complain(&format!("{sentence}\ntry: bench --help"));
            return ExitCode::from(WRONG_USAGE);
        }
    };
    match run(&options, &arguments) {
        Ok(all_met) if options.check && !all_met => ExitCode::from(TARGET_MISSED),
        Ok(_) => ExitCode::SUCCESS,
        Err(err) => done(Err(err)),
    }
}

/// Measures, prints and writes. Returns whether all targets were met.
fn run(options: &Options, arguments: &[OsString]) -> Result<bool> {
    let subjects = [
        Subject::Floor(options.floor.clone()),
        Subject::Ours { directory: options.ours.clone(), runtime: options.runtime.clone() },
        Subject::Other(options.other.clone()),
    ];
    let setting = setting(options, arguments, &subjects)?;
    let floor = &setting.subjects[0];
    if floor.linked != Linked::Statically {
        complain("the floor is not static, so it is not the floor: build it with `tools/build-static floor`");
    }
    // Opened before the sandbox covers /run, where it may lie; what it holds is kept until there is something better.
    let document_file = options.write.as_ref().map(|path| open(path)).transpose()?;

    let sandbox = Sandbox::enter()?;
    let mut results = Results::new();
    for group in Group::ALL {
        let cases: Vec<_> = options.cases.iter().copied().filter(|case| case.group == group).collect();
        let names: Vec<_> = cases.iter().map(|case| case.name).collect();
        if cases.is_empty() {
            continue;
        }
        complain(&format!("{}: {} times each", names.join(", "), group.rounds(options.runs)));
        let figures = measure(&cases, &subjects, &sandbox, options.runs)?;
        if figures.iter().any(|[floor, ..]| is_busy(floor)) {
            complain("the machine was busy with something else: do not trust these figures");
        }
        results.extend(cases.into_iter().zip(figures));
    }

    let (promises, verdicts) = targets(&results);
    say(&format!("{}.\n\n{}{promises}", machine(), tables(&results)))?;
    if let Some(mut file) = document_file {
        file.set_len(0)?;
        file.write_all(document(&setting, &machine(), &results).as_bytes())?;
    }
    Ok(verdicts.iter().all(|verdict| verdict.met))
}

fn setting(options: &Options, arguments: &[OsString], subjects: &[Subject; 3]) -> Result<Setting> {
    let [floor, ours, other] = subjects;
    let first = options.cases.first().ok_or("there is nothing to measure")?;
    let named = |name: &Option<String>, path: &PathBuf| match name {
        Some(name) => name.clone(),
        None => path.display().to_string(),
    };
    Ok(Setting {
        arguments: arguments.iter().map(|argument| argument.to_string_lossy().into_owned()).collect(),
        runs: options.runs,
        subjects: [
            Described::new("floor", "as few requests to the kernel as the job needs", floor, first)?,
            Described::new("ours", &named(&options.names[0], &options.ours), ours, first)?,
            Described::new("other", &named(&options.names[1], &options.other), other, first)?,
        ],
    })
}

fn open(path: &Path) -> Result<fs::File> {
    let opened = fs::File::options().write(true).create(true).truncate(false).open(path);
    opened.map_err(|err| format!("--write {}: {err}", path.display()).into())
}

/// `target/static`, where this program is `target/release/bench`.
fn default_programs() -> Option<PathBuf> {
    let own = env::current_exe().ok()?;
    Some(own.parent()?.parent()?.join("static"))
}

fn done(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            complain(&err.to_string());
            ExitCode::from(NOT_MEASURED)
        }
    }
}

fn say(text: &str) -> Result<()> {
    Ok(io::stdout().lock().write_all(text.as_bytes())?)
}

/// Says something beside the results. If nobody can hear it, there is nobody to tell.
fn complain(text: &str) {
    let _ = writeln!(io::stderr().lock(), "bench: {text}");
}
