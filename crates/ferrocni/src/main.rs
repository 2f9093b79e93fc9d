//! The one binary. By the name of its file it is a plugin, `cnitool`, or the command line `ferrocni`.
#![cfg_attr(not(test), no_main)]

mod cli;
mod cnitool;
#[cfg(not(test))]
mod start;

use std::path::Path;
use std::process::ExitCode;

use cni_plugins::PLUGINS;
use cni_sdk::skel::{self, Program};

/// What the plugins say of themselves.
const PROGRAM: Program = Program { version: concat!("v", env!("CARGO_PKG_VERSION")), plugins: &PLUGINS };

/// What the program does, once `start.rs` has started it.
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
