//! Whether a name that was just written works: a plugin answers VERSION, a tool says which version it is.

use std::path::Path;
use std::process::{Command, Stdio};

use cni_plugins::PLUGINS;
use cni_spec::version;

use crate::cli::failure::reason;

/// Runs `file` and looks at its answer.
///
/// # Errors
/// What it did instead of answering.
pub(super) fn answers(file: &Path, name: &str) -> Result<(), String> {
    let mut command = Command::new(file);
    // Whatever the environment says, it is this and nothing else that is asked.
    command.env_clear().stdin(Stdio::null());
    let plugin = PLUGINS.iter().find(|plugin| plugin.name == name);
    match plugin {
        Some(_) => command.env("CNI_COMMAND", "VERSION"),
        None => command.arg("--version"),
    };
    let output = command.output().map_err(|e| reason(&e))?;
    if !output.status.success() {
        return Err(output.status.to_string());
    }
    match plugin {
        Some(plugin) => {
            let spoken = version::parse_reply(&output.stdout)?;
            let same = spoken.iter().map(String::as_str).eq(plugin.versions.iter().map(|v| v.as_str()));
            if same { Ok(()) } else { Err(format!("it speaks {}", spoken.join(", "))) }
        }
        None => {
            let expected = format!("{name} {}\n", env!("CARGO_PKG_VERSION"));
            let said = String::from_utf8_lossy(&output.stdout);
            if said == expected { Ok(()) } else { Err(format!("it says {said:?}")) }
        }
    }
}
