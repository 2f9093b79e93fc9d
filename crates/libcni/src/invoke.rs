//! The one seam between those who want a plugin run and the ways to run it: as a process, or as a function.

use cni_spec::Error;

use crate::{Invocation, Reply};

/// How many names of a folder an error tells: an error is read by people.
const MAX_NAMES: usize = 40;

/// A way to run a plugin by its `type`.
///
/// The runtime calls the plugins of a list through it, and a plugin its delegates: whoever can be called by one way can
/// be called by the other, with the same answers (spec §3 and §4).
#[doc(alias = "Exec")]
pub trait Invoke: Send + Sync {
    /// Makes sure that `plugin` could be run, without running it.
    ///
    /// # Errors
    /// A `type` that is no plain file name (CVE-2021-20206), and one that is not found: the error says where it was
    /// looked for, what is there, and which name comes nearest.
    #[doc(alias = "FindInPath")]
    fn find(&self, plugin: &str) -> Result<(), Error>;

    /// Runs `plugin` and waits for its answer.
    ///
    /// # Errors
    /// Those of [`Invoke::find`]; the plugin's own, with its code; code 0 where it failed without a word that could be
    /// understood.
    #[doc(alias = "ExecPlugin")]
    fn invoke(&self, plugin: &str, invocation: &Invocation) -> Result<Reply, Error>;

    /// The folders that are searched, separated by `:`: what plugins are told as `CNI_PATH`.
    fn path(&self) -> &str;
}

/// A `type` is a file name and nothing else: it is joined to a folder and executed (CVE-2021-20206).
///
/// # Errors
/// Empty names, `.`, `..`, and names with anything but letters, digits, `.`, `_` and `-`.
pub(crate) fn check_type(plugin: &str) -> Result<(), Error> {
    if plugin.is_empty() {
        return Err(Error::failed("no plugin name provided"));
    }
    let plain = plugin.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if !plain || plugin == "." || plugin == ".." {
        return Err(Error::failed(format!("invalid plugin name: {plugin}"))
            .with_details("a type is the name of a file in CNI_PATH: letters, digits, '.', '_' and '-'"));
    }
    Ok(())
}

/// A folder in which a plugin was not found.
pub(crate) struct Searched {
    pub(crate) folder: String,
    /// The plugins in it, or why it could not be read.
    pub(crate) plugins: Result<Vec<String>, String>,
    /// What there is of the very name, if it is nothing that could be run: `a directory`.
    pub(crate) instead: Option<String>,
}

/// `failed to find plugin …`, with what is there instead.
pub(crate) fn not_found(plugin: &str, there: &[Searched]) -> Error {
    let folders: Vec<&str> = there.iter().map(|searched| searched.folder.as_str()).collect();
    let mut details = Vec::new();
    for Searched { folder, plugins, instead } in there {
        if let Some(what) = instead {
            details.push(format!("{folder}/{plugin} is {what}"));
        }
        details.push(match plugins {
            Ok(names) if names.is_empty() => format!("{folder} has no plugins"),
            Ok(names) if names.len() > MAX_NAMES => {
                let more = names.len() - MAX_NAMES;
                format!("{folder} has {} and {more} more", names[..MAX_NAMES].join(", "))
            }
            Ok(names) => format!("{folder} has {}", names.join(", ")),
            Err(why) => format!("{folder} cannot be read: {why}"),
        });
    }
    let names = there.iter().filter_map(|searched| searched.plugins.as_ref().ok()).flatten();
    if let Some(nearest) = nearest(plugin, names.map(String::as_str)) {
        details.push(format!("did you mean {nearest:?}?"));
    }
    Error::failed(format!("failed to find plugin {plugin:?} in path [{}]", folders.join(" ")))
        .with_details(details.join("; "))
}

/// The name that `wanted` was most likely meant to be, if any is near enough.
pub fn nearest<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    names
        .map(|name| (strsim::damerau_levenshtein(wanted, name), name))
        .filter(|(distance, _)| *distance <= 1 + wanted.chars().count() / 4)
        .min()
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_a_plain_file_name() {
        for good in ["bridge", "host-local", "a.b_c"] {
            assert!(check_type(good).is_ok(), "{good}");
        }
        for bad in ["../../bin/sh", "/bin/sh", ".", "..", "a b", "a\0", "é"] {
            assert!(check_type(bad).unwrap_err().msg.starts_with("invalid plugin name: "), "{bad:?}");
        }
        assert_eq!(check_type("").unwrap_err().msg, "no plugin name provided");
    }

    #[test]
    fn what_is_not_found_is_explained() {
        let searched = |folder: &str, plugins: Result<Vec<String>, &str>| Searched {
            folder: folder.into(),
            plugins: plugins.map_err(String::from),
            instead: None,
        };
        let there = [
            searched("/a", Ok(vec!["bridge".to_owned(), "ptp".to_owned()])),
            searched("/b", Err("no such file or directory")),
        ];
        let error = not_found("birdge", &there);
        assert_eq!(error.msg, "failed to find plugin \"birdge\" in path [/a /b]");
        assert_eq!(
            error.details,
            "/a has bridge, ptp; /b cannot be read: no such file or directory; did you mean \"bridge\"?"
        );
        assert!(!not_found("flannel", &there).details.contains("did you mean"));
        let many = (0..100).map(|i| format!("p{i}x")).collect();
        let details = not_found("p99y", &[searched("/c", Ok(many))]).details;
        assert!(details.contains("p39x and 60 more; did you mean \"p"), "{details}");
        let instead = Searched { instead: Some("a directory".into()), ..searched("/c", Ok(Vec::new())) };
        assert_eq!(not_found("p", &[instead]).details, "/c/p is a directory; /c has no plugins");
    }
}
