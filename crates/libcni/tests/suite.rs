//! What a runtime may rely on, asked of both ways to run plugins: every case of `cases.rs` and `upkeep.rs` runs once with processes and
//! once with functions, and expects the same of both.
//!
//! This program is at the same time the plugin that is run: under the name of a plugin it is one (see `fake.rs`).

#![allow(clippy::unwrap_used, reason = "these are tests")]
#![allow(clippy::disallowed_methods, reason = "this is a program, and the owner of its process")]
#![allow(clippy::disallowed_macros, clippy::print_stderr, reason = "so it may print what it skips")]

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

#[path = "suite/cases.rs"]
mod cases;
#[path = "suite/environment.rs"]
mod environment;
#[path = "suite/fake.rs"]
mod fake;
#[path = "suite/go.rs"]
mod go;
#[path = "suite/spawn.rs"]
mod spawn;
#[path = "suite/upkeep.rs"]
mod upkeep;
#[path = "suite/world.rs"]
mod world;

use world::Way;

fn main() -> ExitCode {
    let mut args = std::env::args();
    let name = args.next().unwrap_or_default();
    if let Some(name) = fake::NAMES.into_iter().find(|n| name.ends_with(&format!("/{n}"))) {
        return fake::main(name);
    }
    if args.next().as_deref() == Some(environment::PROBE) {
        environment::probe(args);
        return ExitCode::SUCCESS;
    }
    let mut trials = Vec::new();
    for way in [Way::Process, Way::Embedded] {
        for (case, run) in cases::ALL.iter().chain(upkeep::ALL) {
            trials.push(Trial::test(format!("{way:?}::{case}"), move || {
                run(way);
                Ok(())
            }));
        }
    }
    let only = spawn::ALL.iter().chain(environment::ALL);
    trials.extend(only.map(|(case, run)| {
        Trial::test(format!("Process::{case}"), move || {
            run();
            Ok(())
        })
    }));
    trials.extend(go::trials());
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
