//! How a folder gets new files under given names, all of them or none, even if the machine stops half-way.
//!
//! Everything happens in one hidden folder inside the target, so that each step is a rename within a file system. The
//! name of that folder says how far an install has come:
//!
//! | name | means | whoever finds it |
//! |---|---|---|
//! | `.ferrocni-install.staging` | new files are being written | removes it |
//! | `.ferrocni-install.commit` | they are being renamed to where they belong | puts the old ones back |
//! | `.ferrocni-install.done` | all are where they belong, or all the old ones are back | removes it |
//!
//! In it, `new/` has the new files, `old/` what they replace, and `absent/` an empty file for each name that nothing had.

use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::{BINARY, Link};
use crate::cli::failure::reason;

const STAGING: &str = ".ferrocni-install.staging";
const COMMIT: &str = ".ferrocni-install.commit";
const DONE: &str = ".ferrocni-install.done";

/// A rename, in the tests one that can fail.
pub(super) type Rename<'a> = &'a mut dyn FnMut(&Path, &Path) -> io::Result<()>;

/// What an interrupted install has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leftover {
    /// Nothing.
    None,
    /// Files that are of no use to anybody.
    Temporary,
    /// Some names had their new file and others not.
    HalfInstalled,
}

/// A folder to install into.
pub(super) struct Folder {
    path: PathBuf,
    /// For the lock, and for syncing names to disk.
    handle: File,
}

impl Folder {
    pub(super) fn open(path: &Path) -> io::Result<Folder> {
        let handle = File::open(path)?;
        if !handle.metadata()?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(Folder { path: path.to_owned(), handle })
    }

    /// Keeps other installers out until the folder is dropped.
    pub(super) fn lock(&self) -> io::Result<()> {
        self.handle.try_lock().map_err(io::Error::from)
    }

    /// What an interrupted install has left here. Nothing is changed.
    pub(super) fn leftover(&self) -> io::Result<Leftover> {
        if self.path.join(COMMIT).try_exists()? {
            return Ok(Leftover::HalfInstalled);
        }
        let temporary = self.path.join(STAGING).try_exists()? || self.path.join(DONE).try_exists()?;
        Ok(if temporary { Leftover::Temporary } else { Leftover::None })
    }

    /// Undoes an interrupted install, and removes what it left.
    pub(super) fn recover(&self) -> io::Result<Leftover> {
        let leftover = self.leftover()?;
        for name in [STAGING, DONE] {
            self.remove(name)?;
        }
        if leftover == Leftover::HalfInstalled {
            self.roll_back(&mut |from, to| fs::rename(from, to))?;
        }
        Ok(leftover)
    }

    /// Writes the new files to where nobody looks for them: `binary` under these names.
    pub(super) fn stage(&self, binary: &Path, names: &[&'static str], link: Link) -> io::Result<Staged<'_>> {
        let staged = Staged { folder: self, names: names.to_vec(), committing: false };
        for part in ["new", "old", "absent"] {
            fs::create_dir_all(self.path.join(STAGING).join(part))?;
        }
        copy(binary, &staged.path(BINARY))?;
        for name in names.iter().filter(|name| **name != BINARY) {
            let path = staged.path(name);
            match link {
                Link::Hard => fs::hard_link(staged.path(BINARY), path).map_err(without_hard_links)?,
                Link::Symbolic => symlink(BINARY, path)?,
                Link::Copy => copy(&staged.path(BINARY), &path)?,
            }
        }
        for name in names {
            self.back_up(name)?;
        }
        for part in ["new", "old", "absent", ""] {
            sync(&self.path.join(STAGING).join(part))?;
        }
        Ok(staged)
    }

    /// Keeps what has the name now.
    fn back_up(&self, name: &str) -> io::Result<()> {
        let (now, old) = (self.path.join(name), self.path.join(STAGING).join("old").join(name));
        match fs::symlink_metadata(&now) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                File::create(self.path.join(STAGING).join("absent").join(name)).map(drop)
            }
            Err(e) => Err(e),
            Ok(_) if fs::hard_link(&now, &old).is_ok() => Ok(()),
            // A file system without hard links, or a file of somebody else's (`fs.protected_hardlinks`).
            Ok(metadata) if metadata.is_symlink() => symlink(fs::read_link(&now)?, old),
            Ok(metadata) => copy(&now, &old).and_then(|()| fs::set_permissions(old, metadata.permissions())),
        }
    }

    /// Puts everything back that a commit has replaced so far. If it fails it can be tried again.
    fn roll_back(&self, rename: Rename<'_>) -> io::Result<()> {
        let commit = self.path.join(COMMIT);
        // A new file that is still here has not replaced anything.
        let waiting = entries(&commit.join("new"))?;
        let replaced = |part: &str| -> io::Result<Vec<OsString>> {
            let names = entries(&commit.join(part))?;
            Ok(names.into_iter().filter(|name| !waiting.contains(name)).collect())
        };
        for name in replaced("old")? {
            rename(&commit.join("old").join(&name), &self.path.join(&name))?;
        }
        for name in replaced("absent")? {
            remove_if_there(fs::remove_file(self.path.join(name)))?;
        }
        self.handle.sync_all()?;
        rename(&commit, &self.path.join(DONE))?;
        self.remove(DONE)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        remove_if_there(fs::remove_dir_all(self.path.join(name)))
    }
}

/// New files that wait to be put where they belong. Dropped without a commit, they are removed.
pub(super) struct Staged<'a> {
    folder: &'a Folder,
    names: Vec<&'static str>,
    committing: bool,
}

impl Staged<'_> {
    /// Where the new file of this name is now.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path.join(STAGING).join("new").join(name)
    }

    /// Renames the new files over the old ones, all of them or none.
    ///
    /// # Errors
    /// What went wrong, and whether the old files are back.
    pub(super) fn commit(mut self, rename: Rename<'_>) -> Result<(), CommitError> {
        let folder = self.folder;
        self.committing = true;
        let mut at = BINARY;
        let Err(error) = self.replace(rename, &mut at) else {
            // The next install removes it if this one cannot.
            let _ = folder.remove(DONE);
            return Ok(());
        };
        let restored = match folder.leftover() {
            Ok(Leftover::HalfInstalled) => folder.roll_back(rename),
            Ok(_) => folder.remove(STAGING),
            Err(e) => Err(e),
        };
        Err(CommitError { name: at, error, restored, kept: folder.path.join(COMMIT) })
    }

    fn replace(&self, rename: Rename<'_>, at: &mut &'static str) -> io::Result<()> {
        let Folder { path, handle } = self.folder;
        let commit = path.join(COMMIT);
        rename(&path.join(STAGING), &commit)?;
        handle.sync_all()?;
        for name in &self.names {
            *at = name;
            rename(&commit.join("new").join(name), &path.join(name))?;
        }
        handle.sync_all()?;
        rename(&commit, &path.join(DONE))?;
        handle.sync_all()
    }
}

impl Drop for Staged<'_> {
    fn drop(&mut self) {
        if !self.committing {
            // Whatever stays is removed by the next install.
            let _ = self.folder.remove(STAGING);
        }
    }
}

/// A commit that did not succeed.
#[derive(Debug)]
pub(super) struct CommitError {
    /// The name whose turn it was.
    pub(super) name: &'static str,
    /// What went wrong.
    pub(super) error: io::Error,
    restored: io::Result<()>,
    kept: PathBuf,
}

impl CommitError {
    /// The state in which the folder is now.
    pub(super) fn outcome(&self) -> String {
        match &self.restored {
            Ok(()) => "the folder is as it was".into(),
            Err(e) => format!(
                "what was replaced could not be put back ({}): it is in {}, and the next install tries again",
                reason(e),
                self.kept.display()
            ),
        }
    }
}

/// Copies a program to a new file, and waits until it is on disk.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mut copy = File::create_new(to)?;
    io::copy(&mut File::open(from)?, &mut copy)?;
    // Whatever the umask says, runtimes of other users execute it.
    copy.set_permissions(Permissions::from_mode(0o755))?;
    copy.sync_all()
}

/// Some file systems say "operation not permitted" for what they do not have.
fn without_hard_links(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported => {
            io::Error::new(io::ErrorKind::Unsupported, "the file system has no hard links")
        }
        _ => error,
    }
}

fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// The names in a folder, in order.
fn entries(dir: &Path) -> io::Result<Vec<OsString>> {
    let mut names = fs::read_dir(dir)?.map(|e| e.map(|e| e.file_name())).collect::<io::Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

fn remove_if_there(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    const NAMES: [&str; 4] = [BINARY, "cnitool", "loopback", "bridge"];

    /// Everything in a folder: names, and contents or targets.
    fn content(dir: &Path) -> BTreeMap<String, String> {
        let describe = |path: &Path| match fs::read_link(path) {
            Ok(target) => format!("-> {}", target.display()),
            Err(_) => fs::read_to_string(path).unwrap(),
        };
        entries(dir)
            .unwrap()
            .into_iter()
            .map(|name| (name.to_string_lossy().into_owned(), describe(&dir.join(&name))))
            .collect()
    }

    /// A folder with an old file, an old link, and something that is none of our business.
    fn folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("loopback"), "old loopback").unwrap();
        symlink("/old/bridge", dir.path().join("bridge")).unwrap();
        fs::write(dir.path().join("calico"), "foreign").unwrap();
        dir
    }

    /// Renames that work until the nth, which fails; those after it too, as if the machine had stopped, if `for_good`.
    fn failing(nth: usize, for_good: bool) -> impl FnMut(&Path, &Path) -> io::Result<()> {
        let mut count = 0;
        move |from, to| {
            count += 1;
            let fails = if for_good { count >= nth } else { count == nth };
            if fails { Err(io::Error::from_raw_os_error(5)) } else { fs::rename(from, to) }
        }
    }

    fn stage(folder: &Folder, link: Link) -> Staged<'_> {
        let source = tempfile::NamedTempFile::new().unwrap();
        fs::write(source.path(), "binary").unwrap();
        folder.stage(source.path(), &NAMES, link).unwrap()
    }

    fn install(dir: &Path, link: Link, rename: Rename<'_>) -> Result<(), CommitError> {
        let folder = Folder::open(dir).unwrap();
        folder.lock().unwrap();
        stage(&folder, link).commit(rename)
    }

    #[test]
    fn every_kind_of_link_ends_with_the_names_and_nothing_else() {
        for link in [Link::Hard, Link::Symbolic, Link::Copy] {
            let dir = folder();
            install(dir.path(), link, &mut |from, to| fs::rename(from, to)).unwrap();
            let found = content(dir.path());
            let target = if link == Link::Symbolic { "-> ferrocni" } else { "binary" };
            let expected = [
                ("bridge", target),
                ("calico", "foreign"),
                ("cnitool", target),
                ("ferrocni", "binary"),
                ("loopback", target),
            ];
            let found: Vec<_> = found.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            assert_eq!(found, expected, "{link:?}");
        }
    }

    #[test]
    fn a_failure_at_any_rename_leaves_the_folder_as_it_was() {
        let untouched = content(folder().path());
        // To the commit folder, four files, to the done folder.
        for nth in 1..=6 {
            let dir = folder();
            let error = install(dir.path(), Link::Hard, &mut failing(nth, false)).unwrap_err();
            assert_eq!(error.outcome(), "the folder is as it was", "{nth}");
            assert_eq!(content(dir.path()), untouched, "{nth}");
        }
        assert!(install(folder().path(), Link::Hard, &mut failing(7, false)).is_ok());
    }

    #[test]
    fn after_a_crash_at_any_rename_the_next_install_starts_from_what_was_there() {
        let untouched = content(folder().path());
        for nth in 1..=6 {
            let dir = folder();
            let error = install(dir.path(), Link::Symbolic, &mut failing(nth, true)).unwrap_err();
            let folder = Folder::open(dir.path()).unwrap();
            let expected = if nth == 1 { Leftover::None } else { Leftover::HalfInstalled };
            assert_eq!(folder.leftover().unwrap(), expected, "{nth}: {}", error.outcome());
            assert_eq!(folder.recover().unwrap(), expected, "{nth}");
            assert_eq!(content(dir.path()), untouched, "{nth}");
            assert_eq!(folder.recover().unwrap(), Leftover::None, "{nth}");
        }
    }

    #[test]
    fn a_crash_before_the_commit_leaves_only_what_can_be_thrown_away() {
        let dir = folder();
        let folder = Folder::open(dir.path()).unwrap();
        std::mem::forget(stage(&folder, Link::Hard));
        assert_eq!(folder.recover().unwrap(), Leftover::Temporary);
        assert_eq!(content(dir.path()), content(super::tests::folder().path()));
    }

    #[test]
    fn what_is_not_committed_is_removed() {
        let dir = folder();
        let folder = Folder::open(dir.path()).unwrap();
        drop(stage(&folder, Link::Copy));
        assert_eq!(folder.leftover().unwrap(), Leftover::None);
    }

    #[test]
    fn two_installers_do_not_meet() {
        let dir = folder();
        let (first, second) = (Folder::open(dir.path()).unwrap(), Folder::open(dir.path()).unwrap());
        first.lock().unwrap();
        assert_eq!(second.lock().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}
