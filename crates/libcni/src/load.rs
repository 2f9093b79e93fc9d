//! Finds and reads network configurations: `*.conflist`, and the older `*.conf` and `*.json` with a single plugin.
//!
//! What is in a file is judged by [`NetworkConfig::parse`]; whether its names are good, by the verbs that use them.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use cni_spec::config::ConfigError;
use cni_spec::json::Object;
use cni_spec::{NetworkConfig, NetworkName, PluginConfig};

use crate::error::os_text;
use crate::file;

/// Why a configuration could not be had.
#[derive(Debug)]
#[non_exhaustive]
pub enum LoadError {
    /// The folder has configurations, but none of that name.
    #[doc(alias = "NotFoundError")]
    NotFound {
        /// The folder.
        dir: PathBuf,
        /// The network's name.
        name: String,
    },
    /// The folder has no configurations, or is not there.
    #[doc(alias = "NoConfigsFoundError")]
    NoConfigs {
        /// The folder.
        dir: PathBuf,
    },
    /// A file or folder could not be read.
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
    /// A file holds no configuration.
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, in the reference's words.
        error: String,
    },
    /// A list has no plugins, neither of its own nor in the folder named after the network.
    NoPlugins {
        /// The list's file.
        path: PathBuf,
    },
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadError::NotFound { dir, name } => {
                write!(f, "no net configuration with name {name:?} in {}", dir.display())
            }
            LoadError::NoConfigs { dir } => write!(f, "no net configurations found in {}", dir.display()),
            LoadError::Read { path, error } => {
                write!(f, "error reading {}: {}", path.display(), os_text(error))
            }
            LoadError::Parse { path, error } => write!(f, "{}: {error}", path.display()),
            LoadError::NoPlugins { path } => write!(f, "{}: no plugin configs found", path.display()),
        }
    }
}

// There is no `source`: what the kernel said is in the text, and whoever prints a chain would say it twice.
impl std::error::Error for LoadError {}

/// Loads the network `name` from `dir`, usually `/etc/cni/net.d`.
///
/// Lists come first (`*.conflist`), then files with a single plugin (`*.conf` and `*.json`), each kind in the order
/// of file names; the first of that name is it.
///
/// # Errors
/// [`LoadError::NotFound`] and [`LoadError::NoConfigs`]. A file before the one that is looked for that cannot be read
/// or parsed ends the search, as in the reference: it might have been meant to come first.
#[doc(alias("LoadNetworkConf", "LoadConfList"))]
pub fn load(dir: impl AsRef<Path>, name: &str) -> Result<NetworkConfig, LoadError> {
    let dir = dir.as_ref();
    let lists = config_files(dir, &["conflist"])?;
    let singles = config_files(dir, &["conf", "json"])?;
    for path in lists.iter().chain(&singles) {
        let net = load_file(path)?;
        if net.name == name {
            return Ok(net);
        }
    }
    Err(if lists.is_empty() && singles.is_empty() {
        LoadError::NoConfigs { dir: dir.into() }
    } else {
        LoadError::NotFound { dir: dir.into(), name: name.into() }
    })
}

/// Loads one file: a single plugin if it ends in `.conf` or `.json`, else a list.
///
/// A list that does not say `loadOnlyInlinedPlugins` also gets the plugins in `<its folder>/<network>/*.conf`, in the
/// order of their names, behind its own.
///
/// # Errors
/// What cannot be read or parsed, what is no regular file or has more than [`MAX_FILE`](crate::MAX_FILE) bytes, and a
/// list without plugins.
#[doc(alias("NetworkConfFromFile", "ConfListFromFile", "ConfFromFile"))]
pub fn load_file(path: impl AsRef<Path>) -> Result<NetworkConfig, LoadError> {
    let path = path.as_ref();
    let document = read(path)?;
    if has_extension(path, &["conf", "json"]) {
        return NetworkConfig::from_plugin(&document).map_err(|e| parse_error(path, &e, &document));
    }
    let mut net = NetworkConfig::parse(&document)
        .map_err(|e| LoadError::Parse { path: path.into(), error: e.to_string() })?;
    // A name that breaks the rule could lead out of the folder; no verb accepts such a network.
    if !net.load_only_inlined_plugins && NetworkName::parse(&net.name).is_ok() {
        let folder = path.parent().unwrap_or(Path::new("")).join(&net.name);
        for file in config_files(&folder, &["conf"])? {
            net.plugins.push(load_plugin(&file)?);
        }
    }
    if net.plugins.is_empty() {
        return Err(LoadError::NoPlugins { path: path.into() });
    }
    Ok(net)
}

/// The files in `dir` with one of these extensions (without the dot), in the order of their names. Folders are left
/// out and not looked into. A folder that is not there has no files.
///
/// # Errors
/// A folder that cannot be read.
#[doc(alias = "ConfFiles")]
pub fn config_files(dir: impl AsRef<Path>, extensions: &[&str]) -> Result<Vec<PathBuf>, LoadError> {
    let dir = dir.as_ref();
    let failed = |error| LoadError::Read { path: dir.into(), error };
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(failed(e)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        if has_extension(&path, extensions) && !entry.file_type().map_err(failed)?.is_dir() {
            files.push(path);
        }
    }
    files.sort_unstable();
    Ok(files)
}

fn load_plugin(path: &Path) -> Result<PluginConfig, LoadError> {
    let failed = |error| LoadError::Parse { path: path.into(), error };
    let document = read(path)?;
    let plugin =
        PluginConfig::parse(&document).map_err(|e| failed(format!("error parsing configuration: {e}")))?;
    if plugin.common.plugin_type.is_empty() {
        return Err(failed("error parsing configuration: missing 'type'".into()));
    }
    Ok(plugin)
}

fn read(path: &Path) -> Result<Vec<u8>, LoadError> {
    file::read(path).map_err(|error| LoadError::Read { path: path.into(), error })
}

/// Whether the file name ends in one of the extensions; unlike [`Path::extension`], that may be all of the name.
fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    let mut parts = name.rsplitn(2, |b| *b == b'.');
    match (parts.next(), parts.next()) {
        (Some(extension), Some(_)) => extensions.iter().any(|e| e.as_bytes() == extension),
        _ => false,
    }
}

/// A list that was saved under the name of a single plugin is a common mistake (cni#997).
fn parse_error(path: &Path, error: &ConfigError, document: &[u8]) -> LoadError {
    let is_list =
        Object::parse(document).is_ok_and(|o| o.get("plugins").is_some() && o.get("type").is_none());
    let hint = if is_list { " (it has 'plugins': a list belongs in a .conflist file)" } else { "" };
    LoadError::Parse { path: path.into(), error: format!("{error}{hint}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with these files.
    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        dir
    }

    fn list(name: &str, plugin: &str) -> String {
        format!(r#"{{"cniVersion":"1.0.0","name":"{name}","plugins":[{{"type":"{plugin}"}}]}}"#)
    }

    fn types(net: &NetworkConfig) -> Vec<&str> {
        net.plugins.iter().map(|p| p.common.plugin_type.as_str()).collect()
    }

    #[test]
    fn lists_come_first_then_the_order_of_names() {
        let dir = folder(&[
            ("00-single.conf", r#"{"name":"n","type":"single"}"#),
            ("20-late.conflist", &list("n", "late")),
            ("10-early.conflist", &list("n", "early")),
            ("05-other.conflist", &list("m", "other")),
            ("99.conflist/not-looked-into.conflist", "{"),
            ("ignored.txt", "{"),
        ]);
        assert_eq!(types(&load(dir.path(), "n").unwrap()), ["early"]);
        assert_eq!(types(&load(dir.path(), "m").unwrap()), ["other"]);
    }

    #[test]
    fn single_plugins_of_both_extensions_are_one_order() {
        let dir = folder(&[
            ("2.conf", r#"{"name":"n","type":"second"}"#),
            ("1.json", r#"{"name":"n","type":"first","cniVersion":"0.3.1"}"#),
        ]);
        let net = load(dir.path(), "n").unwrap();
        assert_eq!((types(&net), net.cni_version.as_str()), (vec!["first"], "0.3.1"));
    }

    #[test]
    fn a_broken_file_ends_the_search_and_is_named() {
        let dir = folder(&[("1.conflist", "{"), ("2.conflist", &list("n", "a"))]);
        let error = load(dir.path(), "n").unwrap_err();
        assert!(matches!(&error, LoadError::Parse { path, .. } if path.ends_with("1.conflist")));
        assert!(
            error.to_string().contains("1.conflist: error parsing configuration list: unexpected end"),
            "{error}"
        );
        // … but not one behind the file that is looked for.
        let dir = folder(&[("1.conflist", &list("n", "a")), ("2.conflist", "{"), ("0.conf", "{")]);
        assert!(load(dir.path(), "n").is_ok());
    }

    #[test]
    fn nothing_at_all_and_nothing_of_that_name_are_two_things() {
        let dir = folder(&[]);
        let error = load(dir.path(), "n").unwrap_err();
        assert_eq!(error.to_string(), format!("no net configurations found in {}", dir.path().display()));
        assert!(matches!(load(dir.path().join("missing"), "n"), Err(LoadError::NoConfigs { .. })));

        for file in [("1.conflist", list("m", "a")), ("1.conf", r#"{"name":"m","type":"a"}"#.into())] {
            let dir = folder(&[(file.0, &file.1)]);
            let error = load(dir.path(), "n").unwrap_err();
            assert!(matches!(error, LoadError::NotFound { .. }));
            assert_eq!(
                error.to_string(),
                format!("no net configuration with name \"n\" in {}", dir.path().display())
            );
        }
    }

    #[test]
    fn plugins_of_the_networks_folder_come_behind_the_inlined_ones() {
        let plugins = [
            ("n/2.conf", r#"{"type":"c"}"#),
            ("n/1.conf", r#"{"type":"b"}"#),
            ("n/1.json", "{"),
            ("n/sub/1.conf", "{"),
        ];
        let inlined = list("n", "a");
        let dir = folder(&[&plugins[..], &[("1.conflist", &inlined)]].concat());
        assert_eq!(types(&load(dir.path(), "n").unwrap()), ["a", "b", "c"]);

        let dir = folder(&[&plugins[..], &[("1.conflist", r#"{"name":"n"}"#)]].concat());
        assert_eq!(types(&load(dir.path(), "n").unwrap()), ["b", "c"]);

        let only = r#"{"name":"n","loadOnlyInlinedPlugins":true,"plugins":[{"type":"a"}]}"#;
        let dir = folder(&[&plugins[..], &[("1.conflist", only)]].concat());
        assert_eq!(types(&load(dir.path(), "n").unwrap()), ["a"]);

        let dir = folder(&[("1.conflist", inlined.as_str()), ("n/1.conf", "{}")]);
        let error = load(dir.path(), "n").unwrap_err().to_string();
        assert!(error.ends_with("n/1.conf: error parsing configuration: missing 'type'"), "{error}");

        let dir = folder(&[("1.conflist", r#"{"name":"n"}"#)]);
        assert!(matches!(load(dir.path(), "n"), Err(LoadError::NoPlugins { .. })));
    }

    #[test]
    fn a_name_that_leads_out_of_the_folder_is_not_followed() {
        let dir =
            folder(&[("etc/1.conflist", r#"{"name":"../secret"}"#), ("secret/1.conf", r#"{"type":"a"}"#)]);
        assert!(matches!(load(dir.path().join("etc"), "../secret"), Err(LoadError::NoPlugins { .. })));
        let dir = folder(&[("1.conflist", r#"{"name":""}"#), ("1.conf", r#"{"type":"a"}"#)]);
        assert!(matches!(load_file(dir.path().join("1.conflist")), Err(LoadError::NoPlugins { .. })));
    }

    #[test]
    fn a_list_in_a_json_file_is_explained() {
        let dir = folder(&[("1.json", &list("n", "a"))]);
        let error = load(dir.path(), "n").unwrap_err().to_string();
        assert!(error.contains("error parsing configuration: missing 'type'"), "{error}");
        assert!(error.ends_with("(it has 'plugins': a list belongs in a .conflist file)"), "{error}");
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let error = load_file("/nonexistent/1.conflist").unwrap_err();
        assert_eq!(error.to_string(), "error reading /nonexistent/1.conflist: no such file or directory");
        let dir = folder(&[]);
        std::os::unix::fs::symlink("/nonexistent", dir.path().join("1.conflist")).unwrap();
        let error = load(dir.path(), "n").unwrap_err();
        assert!(error.to_string().ends_with("1.conflist: no such file or directory"), "{error}");
        // As those print it who follow the sources.
        assert!(std::error::Error::source(&error).is_none());
        for other in ["/dev/zero", "/"] {
            fs::remove_file(dir.path().join("1.conflist")).unwrap();
            std::os::unix::fs::symlink(other, dir.path().join("1.conflist")).unwrap();
            let error = load(dir.path(), "n").unwrap_err().to_string();
            assert!(error.ends_with("1.conflist: it is no regular file"), "{error}");
        }
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(matches!(config_files(&file, &["conf"]), Err(LoadError::Read { .. })));
    }

    #[test]
    fn an_extension_may_be_the_whole_name() {
        let dir = folder(&[(".conflist", ""), ("conflist", ""), ("a.b.conflist", ""), ("a.conflist~", "")]);
        let names: Vec<_> = config_files(dir.path(), &["conflist"])
            .unwrap()
            .iter()
            .map(|p| p.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        assert_eq!(names, [".conflist", "a.b.conflist"]);
    }
}
