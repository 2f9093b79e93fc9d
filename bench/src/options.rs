//! The command line, read into something that cannot be wrong, or a sentence that says why not.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use lexopt::prelude::*;

use crate::case::{Case, How};
use crate::cases::CASES;

/// What the person wants.
#[derive(Debug)]
pub enum Wish {
    /// To read the help text.
    Help,
    /// To measure.
    Run(Box<Options>),
}

/// What to measure, and what to do with it.
#[derive(Debug)]
pub struct Options {
    /// The directory of our plugins, absolute.
    pub ours: PathBuf,
    /// The directory that they are compared with, absolute.
    pub other: PathBuf,
    /// What the two are, in the words of the person who runs it.
    pub names: [Option<String>; 2],
    /// The program `floor`, absolute.
    pub floor: PathBuf,
    /// The program `runtime`, absolute.
    pub runtime: PathBuf,
    /// How often each call is timed.
    pub runs: usize,
    /// Where the document goes.
    pub write: Option<PathBuf>,
    /// Whether a missed target is a failure.
    pub check: bool,
    /// What to measure, in the order of the table.
    pub cases: Vec<&'static Case>,
}

const DEFAULT_RUNS: usize = 200;
const MOST_RUNS: usize = 1_000_000;

impl Options {
    /// Reads the arguments that follow the program's name.
    ///
    /// `default_programs` is the folder in which the floor and the runtime are expected if nothing is said about them.
    ///
    /// # Errors
    ///
    /// A sentence for the person who typed it.
    pub fn parse(
        arguments: impl IntoIterator<Item = OsString>,
        default_programs: Option<PathBuf>,
    ) -> Result<Wish, String> {
        let mut given = Given::default();
        let mut parser = lexopt::Parser::from_args(arguments);
        while let Some(argument) = parser.next().map_err(sentence)? {
            match argument {
                Short('h') | Long("help") => return Ok(Wish::Help),
                Long("check") => given.check = true,
                Long(option) => {
                    let option = option.to_owned();
                    given.take(&option, &mut parser)?;
                }
                Value(name) => given.cases.extend(cases(&name)?),
                other @ Short(_) => return Err(sentence(other.unexpected())),
            }
        }
        given.complete(default_programs).map(|options| Wish::Run(Box::new(options)))
    }
}

/// What has been read so far.
#[derive(Default)]
struct Given {
    ours: Option<PathBuf>,
    other: Option<PathBuf>,
    names: [Option<String>; 2],
    floor: Option<PathBuf>,
    runtime: Option<PathBuf>,
    runs: Option<usize>,
    write: Option<PathBuf>,
    check: bool,
    cases: Vec<&'static Case>,
}

impl Given {
    fn take(&mut self, option: &str, parser: &mut lexopt::Parser) -> Result<(), String> {
        let mut value = || parser.value().map_err(sentence);
        match option {
            "ours" => self.ours = Some(directory("ours", &value()?)?),
            "other" => self.other = Some(directory("other", &value()?)?),
            "ours-is" => self.names[0] = Some(value()?.to_string_lossy().into_owned()),
            "other-is" => self.names[1] = Some(value()?.to_string_lossy().into_owned()),
            "floor" => self.floor = Some(value()?.into()),
            "runtime" => self.runtime = Some(value()?.into()),
            "runs" => self.runs = Some(number(&value()?)?),
            "write" => self.write = Some(value()?.into()),
            _ => return Err(format!("there is no option --{option}")),
        }
        Ok(())
    }

    fn complete(self, default_programs: Option<PathBuf>) -> Result<Options, String> {
        let ours = self.ours.ok_or("--ours DIR is missing: which plugins are to be measured?")?;
        let other =
            self.other.ok_or("--other DIR is missing: which plugins are they to be compared with?")?;
        let wanted = |case: &&Case| self.cases.is_empty() || self.cases.iter().any(|w| w.name == case.name);
        let cases: Vec<_> = CASES.iter().filter(wanted).collect();
        let embedded = cases.iter().any(|case| matches!(case.how, How::Resident));
        let default = |name| default_programs.as_ref().map(|folder| folder.join(name));
        Ok(Options {
            ours,
            other,
            names: self.names,
            floor: program("floor", self.floor.or_else(|| default("floor")), true)?,
            runtime: program("runtime", self.runtime.or_else(|| default("runtime")), embedded)?,
            runs: self.runs.unwrap_or(DEFAULT_RUNS),
            write: self.write,
            check: self.check,
            cases,
        })
    }
}

/// A program of the bench's own, which has to be there if it is needed.
fn program(name: &str, path: Option<PathBuf>, needed: bool) -> Result<PathBuf, String> {
    let path = path.ok_or_else(|| format!("--{name} FILE is missing"))?;
    let path = std::path::absolute(&path).map_err(|err| format!("{}: {err}", path.display()))?;
    if needed && !path.is_file() {
        let path = path.display();
        return Err(format!("the {name} is not at {path}: build it with `tools/build-static {name}`"));
    }
    Ok(path)
}

/// The help text.
pub fn help() -> String {
    let cases = CASES.iter().map(|case| format!("  {:<22} {}\n", case.name, case.about));
    format!(
        "\
Compares two directories of CNI plugins with each other and with the kernel's floor.

Calls each as a container runtime does, in turn, and prints times, CPU time, peak memory, processes and threads.
It needs no privileges: it works in namespaces of its own, in which /run is empty.

A name stands for all cases that begin with it: bridge, host-local-10, host-local. For a look, --runs 3.

usage: cargo run --release -p bench -- --ours DIR --other DIR [OPTION]... [CASE]...

  --ours DIR       the plugins to measure, built as for a release: tools/build-static
  --other DIR      the plugins to compare them with, for example /usr/lib/cni
  --ours-is TEXT   what these are, for the document; likewise --other-is TEXT
  --floor FILE     the floor (default: static/floor in cargo's target directory, made by tools/build-static floor)
  --runtime FILE   the runtime with our plugins linked in (default: static/runtime, made by tools/build-static runtime)
  --runs N         how often each call is timed, from 1 to {MOST_RUNS} (default: {DEFAULT_RUNS})
  --write FILE     write the tables and this very command to a document
  --check          fail if a target is missed
  -h, --help       print this

cases (default: all)
{}
exit status: 0 if all went well, 1 if --check has found a target missed, 2 if the command line is wrong,
3 if something could not be measured
",
        cases.collect::<String>()
    )
}

/// The case of this name, or those whose names begin with it and a hyphen.
fn cases(name: &OsString) -> Result<Vec<&'static Case>, String> {
    let begins = |case: &Case| {
        let rest = name.to_str().and_then(|name| case.name.strip_prefix(name));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    };
    let found: Vec<_> = CASES.iter().filter(|case| begins(case)).collect();
    if found.is_empty() {
        let all: Vec<_> = CASES.iter().map(|case| case.name).collect();
        return Err(format!("there is no case {}; there are: {}", name.display(), all.join(", ")));
    }
    Ok(found)
}

fn directory(option: &str, path: &OsString) -> Result<PathBuf, String> {
    // Where the link leads does not matter, but from where it is followed does: plugins are started by full path.
    let path = Path::new(path);
    let failed = |why: &dyn std::fmt::Display| format!("--{option} {}: {why}", path.display());
    let path_in_full = std::path::absolute(path).map_err(|err| failed(&err))?;
    match path_in_full.metadata() {
        Ok(found) if found.is_dir() => Ok(path_in_full),
        Ok(_) => Err(failed(&"this is not a directory")),
        Err(err) => Err(failed(&err)),
    }
}

fn number(text: &OsString) -> Result<usize, String> {
    let number = text.to_str().and_then(|text| text.parse().ok());
    number
        .filter(|runs| (1..=MOST_RUNS).contains(runs))
        .ok_or_else(|| format!("--runs {}: this is no number from 1 to {MOST_RUNS}", text.display()))
}

fn sentence(error: lexopt::Error) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Wish, String> {
        let programs = tempfile::tempdir().unwrap();
        for name in ["floor", "runtime"] {
            std::fs::write(programs.path().join(name), "").unwrap();
        }
        Options::parse(line.split_whitespace().map(OsString::from), Some(programs.path().into()))
    }

    fn options(line: &str) -> Options {
        match parse(line).unwrap() {
            Wish::Run(options) => *options,
            Wish::Help => panic!("that was no wish for help"),
        }
    }

    #[test]
    fn two_directories_are_enough() {
        let options = options("--ours /usr --other /tmp");
        assert_eq!((options.ours, options.other), ("/usr".into(), "/tmp".into()));
        assert_eq!((options.runs, options.check, options.write), (DEFAULT_RUNS, false, None));
        assert_eq!(options.cases.len(), CASES.len());
    }

    #[test]
    fn cases_keep_the_order_of_the_table() {
        let options = options("--runs=7 loopback-add --ours / --other / version --check --write x.md");
        let names: Vec<_> = options.cases.iter().map(|case| case.name).collect();
        assert_eq!(names, ["version", "loopback-add"]);
        assert_eq!((options.runs, options.check, options.write), (7, true, Some("x.md".into())));
    }

    #[test]
    fn the_beginning_of_a_name_stands_for_all_that_have_it() {
        let names = |line: &str| options(line).cases.iter().map(|case| case.name).collect::<Vec<_>>();
        let begin = "--ours / --other / ";
        assert_eq!(names(&format!("{begin} bridge")), ["bridge-add", "bridge-check", "bridge-del"]);
        assert_eq!(names(&format!("{begin} host-local-10")).len(), 3);
        assert_eq!(names(&format!("{begin} host-local gc")).len(), 10);
    }

    #[test]
    fn a_runtime_is_needed_only_where_something_is_embedded() {
        let line = "--ours / --other / --runtime /nowhere ";
        assert!(parse(&format!("{line} embedded")).unwrap_err().contains("build-static runtime"));
        assert_eq!(options(&format!("{line} version")).runtime, Path::new("/nowhere"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (line, word) in [
            ("", "--ours DIR is missing"),
            ("--ours /", "--other DIR is missing"),
            ("--ours /nowhere --other /", "/nowhere"),
            ("--ours /bin/sh --other /", "not a directory"),
            ("--ours / --other / --runs 0", "no number from 1"),
            ("--ours / --other / --runs many", "many"),
            ("--ours / --other / --floor /nowhere", "build-static"),
            ("--ours / --other / --fast", "--fast"),
            ("--ours / --other / -x", "-x"),
            ("--ours / --other / --check=yes", "check"),
            ("--ours / --other / loopback-ad", "loopback-add"),
            ("--ours", "--ours"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(word), "{line:?} gives {error:?}");
        }
    }

    #[test]
    fn help_comes_before_complaints_and_lists_all_cases() {
        assert!(matches!(parse("--help"), Ok(Wish::Help)));
        for case in &CASES {
            assert!(help().contains(case.name) && help().contains(case.about));
        }
    }
}
