//! The world beside the plugin: lines for the shell, and what files and folders hold.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Map, Value};

/// Where the shell finds programs. Not where the plugins do: a case says that in `env`.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs a line in the namespace of the calling thread.
///
/// # Errors
/// If it fails: what it printed to standard error.
pub(crate) fn shell(line: &str) -> Result<String, String> {
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(line).env_clear().env("PATH", PATH).current_dir("/");
    let ran = command.output().map_err(|err| format!("{line}: {err}"))?;
    if ran.status.success() {
        return Ok(String::from_utf8_lossy(&ran.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&ran.stderr);
    Err(format!("{line}: {}: {}", ran.status, said.trim_end()))
}

/// What is at a path: the text of a file, an object with what is in a folder, null where nothing is. What is hidden is
/// left out, as `ls` does: how somebody finds quickly what lies there openly is nobody else's business.
pub(crate) fn tree(path: &Path) -> Value {
    let Ok(kind) = fs::metadata(path) else { return Value::Null };
    if !kind.is_dir() {
        return fs::read(path).map_or(Value::Null, |bytes| String::from_utf8_lossy(&bytes).into());
    }
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let entries = entries.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()));
    let shown = entries.filter(|(name, _)| !name.starts_with('.'));
    Value::Object(shown.map(|(name, path)| (name, tree(&path))).collect::<Map<_, _>>())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_prints_or_fails() {
        assert_eq!(shell("printf %s a").unwrap(), "a");
        assert!(shell("echo no >&2; exit 3").unwrap_err().ends_with("exit status: 3: no"));
    }

    #[test]
    fn a_folder_is_an_object() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("d")).unwrap();
        fs::write(dir.path().join("d/f"), "a\r\nb").unwrap();
        fs::write(dir.path().join("d/.hidden"), "").unwrap();
        assert_eq!(tree(dir.path()), json!({"d": {"f": "a\r\nb"}}));
        assert_eq!(tree(&dir.path().join("x")), Value::Null);
    }
}
