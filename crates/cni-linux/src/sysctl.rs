//! Kernel parameters of a network namespace: `/proc/sys/net`.
//!
//! Keys are written with slashes, as in `net/ipv4/conf/eth0/arp_notify`: names of links have dots in them. Nothing outside
//! of `net` can be reached; it would not be the namespace's but the machine's.

use std::fs::OpenOptions;
use std::io::Write as _;

use crate::error::{Errno, Error, Result};
use crate::netns::Netns;
use crate::undo::Undo;

const ROOT: &str = "/proc/sys/";

impl Netns {
    /// The value of a key, without the line break at its end (`sysctl -n`).
    ///
    /// # Errors
    ///
    /// [`Error::is_gone`] if the kernel has no such key, as without IPv6, or if there is no such link.
    pub fn sysctl(&self, key: &str) -> Result<String> {
        let path = path(key)?;
        self.visit(|| read(key, &path))?
    }

    /// The values of several keys, in their order, and all in one visit of the namespace.
    ///
    /// # Errors
    ///
    /// As [`Netns::sysctl`], for the first that fails.
    pub fn sysctls(&self, keys: &[&str]) -> Result<Vec<String>> {
        let paths = keys.iter().map(|key| path(key)).collect::<Result<Vec<_>>>()?;
        self.visit(|| keys.iter().zip(&paths).map(|(key, path)| read(key, path)).collect())?
    }

    /// Gives keys these values, unless they have them already (`sysctl -w`). For what is shared and stays.
    ///
    /// In their order, and all in one visit of the namespace.
    ///
    /// # Errors
    ///
    /// As [`Netns::sysctl`]. Those before the one that failed have their values.
    pub fn ensure_sysctls(&self, values: &[(&str, &str)]) -> Result<()> {
        self.write_sysctls(values, &mut Vec::new())
    }

    /// Gives keys these values, unless they have them already, and pushes to `undo` that those which had others get them
    /// back.
    ///
    /// # Errors
    ///
    /// As [`Netns::sysctl`]. Those before the one that failed have their values, and are undone with the rest.
    pub fn set_sysctls(&self, values: &[(&str, &str)], undo: &mut Undo) -> Result<()> {
        let mut changed = Vec::new();
        let outcome = self.write_sysctls(values, &mut changed);
        if !changed.is_empty() {
            let netns = self.clone();
            let keys: Vec<_> = changed.iter().map(|(key, _)| key.as_str()).collect();
            undo.push(format!("sysctl {}", keys.join(", ")), move || {
                let values: Vec<_> = changed.iter().map(|(key, old)| (key.as_str(), old.as_str())).collect();
                Ok(gone_with_its_link(netns.write_sysctls(&values, &mut Vec::new()))?)
            });
        }
        outcome
    }

    /// Whether a key could be given another value. It is not given any.
    ///
    /// # Errors
    ///
    /// Why not: as for [`Netns::sysctl`], or because `/proc/sys` is mounted read-only.
    pub fn writable_sysctl(&self, key: &str) -> Result<()> {
        let path = path(key)?;
        #[cfg(feature = "testing")]
        crate::testing::fault::query("open", "open sysctl", &key);
        let opened = self.visit(|| OpenOptions::new().write(true).open(path))?;
        opened.map(|_file| ()).map_err(|err| failed("open sysctl", key, &err))
    }

    /// Notes what it changed, the last first, and what it was before.
    fn write_sysctls(&self, values: &[(&str, &str)], changed: &mut Vec<(String, String)>) -> Result<()> {
        let paths = values.iter().map(|(key, _)| path(key)).collect::<Result<Vec<_>>>()?;
        self.visit(|| {
            for ((key, value), path) in values.iter().zip(&paths) {
                let old = match read(key, path) {
                    Ok(old) if is_same(&old, value) => continue,
                    Ok(old) => Some(old),
                    Err(gone) if gone.is_gone() => return Err(gone),
                    // Some can be written, but not read.
                    Err(_) => None,
                };
                write(key, path, value)?;
                changed.splice(0..0, old.map(|old| ((*key).to_owned(), old)));
            }
            Ok(())
        })?
    }
}

/// A key as people write it, in the form that [`Netns::sysctl`] takes: the first separator decides. After a dot, dots and
/// slashes change places (`net.ipv4.conf.eth0/7.forwarding` is of the link `eth0.7`); after a slash, all is as it stands.
///
/// # Errors
///
/// If it is not a key below `net`, or has a part that is empty, `.` or `..`.
pub fn sysctl_key(text: &str) -> Result<String> {
    let dots = text.find(['.', '/']).is_some_and(|at| text[at..].starts_with('.'));
    let swap = |letter| match letter {
        '.' => '/',
        '/' => '.',
        letter => letter,
    };
    let key = if dots { text.chars().map(swap).collect() } else { text.to_owned() };
    match path(&key) {
        Ok(_path) => Ok(key),
        // Called by the name that the caller knows.
        Err(_) => path(text).map(|_path| key),
    }
}

/// Where a key is to be found.
fn path(key: &str) -> Result<String> {
    let mut parts = key.split('/');
    let is_name = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('\0');
    if parts.next() == Some("net") && parts.clone().next().is_some() && parts.all(is_name) {
        return Ok(format!("{ROOT}{key}"));
    }
    Err(Error::os("find sysctl", format!("{key:?}"), Errno::INVAL).with_cause("not a key below net/"))
}

fn read(key: &str, path: &str) -> Result<String> {
    #[cfg(feature = "testing")]
    crate::testing::fault::query("read", "read sysctl", &key);
    let mut value = std::fs::read_to_string(path).map_err(|err| failed("read sysctl", key, &err))?;
    if value.ends_with('\n') {
        value.pop();
    }
    Ok(value)
}

fn write(key: &str, path: &str, value: &str) -> Result<()> {
    let doing = "set sysctl";
    let what = format!("{key} to {value:?}");
    #[cfg(feature = "testing")]
    crate::testing::fault::change("write", doing, &what)?;
    let file = OpenOptions::new().write(true).open(path);
    file.and_then(|mut file| file.write_all(value.as_bytes())).map_err(|err| failed(doing, &what, &err))
}

fn failed(doing: &'static str, what: &str, err: &std::io::Error) -> Error {
    let error = Error::io(doing, what, err);
    if error.is_gone() { error.with_cause("the kernel has no such key") } else { error }
}

/// Several numbers are separated by tabs when they are read.
fn is_same(one: &str, other: &str) -> bool {
    one.split_whitespace().eq(other.split_whitespace())
}

/// The keys of a link go with it.
fn gone_with_its_link(restored: Result<()>) -> Result<()> {
    match restored {
        Err(gone) if gone.is_gone() => Ok(()),
        restored => restored,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stay_below_net() {
        assert_eq!(
            path("net/ipv4/conf/eth0.7/arp_notify").unwrap(),
            "/proc/sys/net/ipv4/conf/eth0.7/arp_notify"
        );
        for key in [
            "",
            "net",
            "net/",
            "kernel/hostname",
            "/net/ipv4/ip_forward",
            "net/../kernel/hostname",
            "net/./ipv4",
            "net//ipv4",
            "net/ipv4/ip_forward/",
            "net/ipv4/ip_forward\0",
            "net.ipv4.ip_forward",
        ] {
            let error = path(key).unwrap_err();
            assert_eq!(error.to_string(), format!("find sysctl {key:?}: not a key below net/"));
        }
    }

    #[test]
    fn the_first_separator_of_a_key_decides() {
        for (text, key) in [
            ("net.ipv4.ip_forward", "net/ipv4/ip_forward"),
            ("net/ipv4/ip_forward", "net/ipv4/ip_forward"),
            ("net.ipv4.conf.eth0/7.arp_notify", "net/ipv4/conf/eth0.7/arp_notify"),
            ("net/ipv4/conf/eth0.7/arp_notify", "net/ipv4/conf/eth0.7/arp_notify"),
        ] {
            assert_eq!(sysctl_key(text).unwrap(), key);
        }
        // Slashes become dots, so `..` can come of `//`.
        for text in
            ["net.//.kernel", "net/../kernel", "kernel.hostname", "net", "", "net..x", "/net/x", ".net.x"]
        {
            let error = sysctl_key(text).unwrap_err();
            assert_eq!(error.to_string(), format!("find sysctl {text:?}: not a key below net/"));
        }
    }

    #[test]
    fn white_space_between_numbers_does_not_count() {
        assert!(is_same("4096\t131072\t6291456", "4096 131072 6291456"));
        assert!(!is_same("1", "11") && !is_same("1 1", "11"));
    }
}
