//! The one binary. By the name of its file it is a plugin, `cnitool`, or the command line `ferrocni`.
#![cfg_attr(all(not(test), target_env = "gnu"), no_main)]

mod cli;
mod cnitool;
#[cfg(all(not(test), target_env = "gnu"))]
mod start;

use std::path::Path;
use std::process::ExitCode;

use cni_plugins::PLUGINS;
use cni_sdk::skel::{self, Program};

/// What the plugins say of themselves.
const PROGRAM: Program = Program { version: concat!("v", env!("CARGO_PKG_VERSION")), plugins: &PLUGINS };

/// Where `start.rs` cannot start it, Rust does.
#[cfg(all(not(test), not(target_env = "gnu")))]
fn main() -> ExitCode {
    run()
}

/// What the program does, once it has been started.
#[cfg_attr(test, allow(dead_code, reason = "the test harness has a main of its own"))]
fn run() -> ExitCode {
    // argv[0], not current_exe(), which would follow the link that carries the name.
    let called = std::env::args_os().next().unwrap_or_default();
    let name = Path::new(&called).file_name().and_then(|name| name.to_str()).unwrap_or_default();
    match PLUGINS.iter().find(|plugin| plugin.name == name) {
        Some(plugin) => skel::plugin_main(plugin, &PROGRAM),
        None if name == "cnitool" => cnitool::main(),
        None => cli::main(name),
    }
}
