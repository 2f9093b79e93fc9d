//! Every change that the store makes to a disk, a system call each, so that tests can end the program between any two.
//!
//! What is changed, and why, is not known here.

use std::fs::{self, File, FileTimes};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, OpenOptionsExt, symlink};
use std::path::Path;
use std::time::SystemTime;

use rustix::fs::{CWD, RenameFlags, XattrFlags, fsetxattr, renameat_with};
use rustix::io::Errno;

/// Makes a folder, if it is not there.
pub(super) fn make_folder(path: &Path) -> io::Result<()> {
    step()?;
    match fs::create_dir(path) {
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

/// Makes a file that must not be there, for its owner alone.
pub(super) fn create(path: &Path) -> io::Result<File> {
    step()?;
    File::options().write(true).create_new(true).mode(0o600).open(path)
}

/// Opens a file to read and write it, and makes it if it is not there.
pub(super) fn open(path: &Path) -> io::Result<File> {
    step()?;
    File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// Writes over what a file has there.
pub(super) fn write_at(file: &File, content: &[u8], place: u64) -> io::Result<()> {
    step()?;
    file.write_all_at(content, place)
}

/// Writes a file over what it held. It is not emptied first: on a disk that is full there would be no room to fill it again,
/// and ext4 would flush it.
pub(super) fn rewrite(path: &Path, content: &[u8]) -> io::Result<()> {
    let file = open(path)?;
    write_at(&file, content, 0)?;
    step()?;
    file.set_len(content.len() as u64)
}

/// Sets an extended attribute.
pub(super) fn set_attribute(file: &File, name: &str, value: &[u8]) -> io::Result<()> {
    step()?;
    Ok(fsetxattr(file, name, value, XattrFlags::empty())?)
}

/// Gives a file another name, and says whether the name was free.
pub(super) fn rename_new(from: &Path, to: &Path) -> io::Result<bool> {
    step()?;
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        // A file system that cannot look and rename in one: nobody else comes in between, for we have the lock.
        Err(Errno::INVAL | Errno::NOSYS) if !to.exists() => fs::rename(from, to).map(|()| true),
        Err(Errno::INVAL | Errno::NOSYS) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Removes a file, if it is there.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    step()?;
    match fs::remove_file(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Makes a symbolic link of this target.
pub(super) fn link(target: &str, path: &Path) -> io::Result<()> {
    step()?;
    symlink(target, path)
}

/// Sets a folder's time of modification.
pub(super) fn set_modified(folder: &File, time: SystemTime) -> io::Result<()> {
    step()?;
    folder.set_times(FileTimes::new().set_modified(time))
}

#[cfg(not(test))]
fn step() -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
use faults::step;

#[cfg(test)]
pub(super) mod faults {
    //! Changes that are not made.

    use std::cell::Cell;
    use std::io;

    /// What happens to a change.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(in super::super) enum Fault {
        /// The program is killed: this change is not made, nor is any after it.
        Killed,
        /// There is no room for this one.
        Full,
    }

    thread_local! {
        /// How many changes are made until it happens, and what does.
        static PENDING: Cell<Option<(usize, Fault)>> = const { Cell::new(None) };
    }

    /// Does something with the change after `made` others failing, and says whether it came that far.
    pub(in super::super) fn with_fault<T>(made: usize, fault: Fault, work: impl FnOnce() -> T) -> (T, bool) {
        PENDING.set(Some((made, fault)));
        let outcome = work();
        let reached = match PENDING.take() {
            None => true,
            Some((left, fault)) => fault == Fault::Killed && left == 0,
        };
        (outcome, reached)
    }

    pub(super) fn step() -> io::Result<()> {
        match PENDING.get() {
            None => return Ok(()),
            Some((0, Fault::Killed)) => {}
            Some((0, Fault::Full)) => PENDING.set(None),
            Some((left, fault)) => {
                PENDING.set(Some((left - 1, fault)));
                return Ok(());
            }
        }
        Err(io::ErrorKind::StorageFull.into())
    }
}
