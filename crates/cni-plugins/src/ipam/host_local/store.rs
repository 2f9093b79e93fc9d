//! The directory in which a network's reservations are kept: `<dataDir>/<network>`, in the format of the reference's
//! plugin, which may work in the same one, before, after and in between.
//!
//! | entry | is |
//! |---|---|
//! | `10.1.0.5`, `2001:db8::5` | a reservation: a file that says whose the address is |
//! | `last_reserved_ip.0` | the address that was handed out last, of set 0: a hint, so that addresses are not used again at once |
//! | `lock` | whoever works here holds it (flock(2)) |
//! | `.ferrocni` | ours: the [index](super::index), and `new`, a reservation on its way |
//!
//! A reservation is written to `new` and then renamed, so that it is there as a whole or not at all, wherever the program is
//! killed. What is lost when the power fails is from an earlier boot by then and would be
//! freed anyway, so nothing is flushed; what is torn then is freed as well.
//!
//! # What it costs
//!
//! While the [index](super::index) is complete every question is answered by a few system calls, however many
//! reservations there are. It is not after the reference's plugin, or a person, has made or removed an entry; after this
//! program was killed at work; in the first call after a boot, or after a new version; and never on a file
//! system that may be shared with other machines. Then the whole directory is read once, as the reference does in each call,
//! what is torn or from an earlier boot is freed, and the index is made again.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use cni_sdk::{Error, Result, Undo};
use rustix::fs::Access;
use rustix::io::Errno;

use super::boot::{self, Boot};
use super::disk;
use super::index::{self, Index};
use super::ranges::next;
use super::reservation::{self, Owner, Reservations};

/// Where a network's reservations are, and what is to be known before they are looked at.
#[derive(Debug, Clone)]
pub(super) struct Directory {
    /// `<dataDir>/<network>`
    pub(super) path: PathBuf,
    /// The boot that this is; nothing where it is not known.
    pub(super) boot: Option<Boot>,
    /// Whether reservations of an earlier boot are freed.
    pub(super) release_after_reboot: bool,
}

/// The directory, locked until this is dropped.
#[derive(Debug)]
pub(super) struct Store {
    directory: Directory,
    folder: File,
    /// The boot to stamp reservations with; nothing on file systems that may be shared.
    boot: Option<Boot>,
    view: View,
    /// Whether entries have come or gone, which has moved the directory's time of modification.
    changed: bool,
    /// Whoever has locked this file works here.
    _lock: File,
}

/// How questions are answered.
#[derive(Debug)]
enum View {
    /// By the index, which is complete.
    Index(Index),
    /// By what the directory was found to hold.
    Read(Reservations),
}

impl Directory {
    /// Locks the directory, which is made where it is missing, and waits for whoever is at work there.
    pub(super) fn open(&self) -> Result<Store> {
        loop {
            let made = fs::DirBuilder::new().recursive(true).mode(0o755).create(&self.path);
            made.map_err(|e| failed("create", &self.path, &e))?;
            if let Some(store) = self.lock()? {
                return Ok(store);
            }
        }
    }

    /// Locks the directory if it is there.
    pub(super) fn open_if_exists(&self) -> Result<Option<Store>> {
        match fs::metadata(&self.path) {
            Ok(metadata) if metadata.is_dir() => self.lock(),
            Ok(_) => Ok(None),
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
            Err(e) => Err(failed("look at", &self.path, &e)),
        }
    }

    /// Locks the directory; nothing if it is gone by then.
    fn lock(&self) -> Result<Option<Store>> {
        let path = self.path.join("lock");
        let lock = match lock_file(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            lock => lock.map_err(|e| failed("lock", &path, &e))?,
        };
        // What a program that was killed had on its way is nothing.
        let _not_ours = disk::remove(&self.draft_path());
        let look = || {
            let folder = File::open(&self.path)?;
            let boot = if boot::is_of_this_machine(&folder)? { self.boot.clone() } else { None };
            let metadata = folder.metadata()?;
            let index = boot.as_ref().and_then(|boot| Index::open(&self.path, &metadata, boot));
            Ok((folder, boot, index))
        };
        let (folder, boot, index) = look().map_err(|e| failed("look at", &self.path, &e))?;
        let complete = index.is_some();
        let view = index.map_or_else(|| View::Read(Reservations::new()), View::Index);
        let mut store = Store { directory: self.clone(), folder, boot, view, changed: false, _lock: lock };
        if !complete {
            store.look_through()?;
        }
        Ok(Some(store))
    }

    /// Says why there could be no reservation. Nothing is tried: whoever asks, asks often.
    ///
    /// # Errors
    /// The directory, or what would have to hold it, cannot be written to, or there is no room.
    pub(super) fn could_be_written(&self) -> Result<()> {
        let there = self.path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
        let failed = |errno: Errno| failed("write to", there, &errno.into());
        if !there.is_dir() {
            return Err(failed(Errno::NOTDIR));
        }
        rustix::fs::access(there, Access::WRITE_OK | Access::EXEC_OK).map_err(failed)?;
        let room = rustix::fs::statvfs(there).map_err(failed)?;
        // Where there is no count there is no limit either.
        let full = |count: u64, left: u64| count > 0 && left == 0;
        if full(room.f_blocks, room.f_bfree) || full(room.f_files, room.f_ffree) {
            return Err(failed(Errno::NOSPC));
        }
        Ok(())
    }

    fn release(&self, ip: IpAddr, owner: &Owner) -> Result<()> {
        let Some(mut store) = self.open_if_exists()? else { return Ok(()) };
        store.release(ip, owner)?;
        store.settle();
        Ok(())
    }

    /// Where a reservation is written before it gets its name.
    fn draft_path(&self) -> PathBuf {
        self.path.join(index::FOLDER).join("new")
    }
}

impl Store {
    /// Reads the whole directory, frees what is torn or from an earlier boot, and makes the index of the rest.
    pub(super) fn look_through(&mut self) -> Result<Reservations> {
        self.changed = true;
        let path = &self.directory.path;
        let (found, freed) = self.read().map_err(|e| failed("read", path, &e))?;
        let metadata = self.folder.metadata().map_err(|e| failed("look at", path, &e))?;
        // As long as something is to be freed the next call has to look again.
        let boot = self.boot.as_ref().filter(|_| freed);
        self.view = match boot.map(|boot| Index::make(path, &metadata, boot, &found)) {
            Some(Ok(index)) => View::Index(index),
            // Where none can be kept, or not now, there is none, and every call reads the directory.
            Some(Err(_)) | None => View::Read(found.clone()),
        };
        Ok(found)
    }

    /// The addresses that an owner has.
    pub(super) fn addresses_of(&mut self, owner: &Owner) -> Result<Vec<IpAddr>> {
        let of_owner = |found: &Reservations| {
            found.iter().filter(|(_, other)| *other == owner).map(|(ip, _)| *ip).collect::<Vec<_>>()
        };
        let known = match &self.view {
            View::Read(found) => Some(of_owner(found)),
            View::Index(index) => self.verified(index, owner),
        };
        match known {
            Some(addresses) => Ok(addresses),
            None => Ok(of_owner(&self.look_through()?)),
        }
    }

    /// The first address from `first` to `last` that is free.
    pub(super) fn next_free(&mut self, first: IpAddr, last: IpAddr) -> Result<Option<IpAddr>> {
        if let View::Index(index) = &self.view {
            if let Ok(free) = index.next_free(first, last) {
                return Ok(free);
            }
            self.look_through()?;
        }
        match &self.view {
            View::Read(found) => Ok(next_gap(found, first, last)),
            View::Index(index) => index
                .next_free(first, last)
                .map_err(|e| failed("read the index of", &self.directory.path, &e)),
        }
    }

    /// Reserves an address, and says whether it was free. The undo frees it.
    pub(super) fn reserve(&mut self, ip: IpAddr, owner: &Owner, undo: &mut Undo) -> Result<bool> {
        let path = self.path(ip);
        self.changed = true;
        let draft = self.directory.draft_path();
        let reserved = self.draft(&draft, owner).and_then(|()| disk::rename_new(&draft, &path));
        if !reserved.as_ref().is_ok_and(|reserved| *reserved) {
            // Whoever comes next removes it otherwise.
            let _left = disk::remove(&draft);
        }
        if !reserved.map_err(|e| failed("reserve", &path, &e))? {
            // Somebody works here without the lock: what is known of the directory is not so.
            self.look_through()?;
            return Ok(false);
        }
        let (directory, of) = (self.directory.clone(), owner.clone());
        undo.push(format!("reservation {}", path.display()), move || {
            directory.release(ip, &of).map_err(|e| e.to_string().into())
        });
        let noted = match &mut self.view {
            View::Index(index) => index.add(ip, owner),
            View::Read(found) => {
                found.insert(ip, owner.clone());
                Ok(())
            }
        };
        self.unless(noted).map(|()| true)
    }

    /// Frees an address, if it is this owner's.
    pub(super) fn release(&mut self, ip: IpAddr, owner: &Owner) -> Result<()> {
        let path = self.path(ip);
        match reservation::read(&path) {
            Ok((_, Some(found))) if found == *owner => {}
            Ok(_) => return Ok(()),
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(failed("read", &path, &e)),
        }
        self.changed = true;
        disk::remove(&path).map_err(|e| failed("remove", &path, &e))?;
        let noted = match &mut self.view {
            View::Index(index) => index.remove(ip, owner),
            View::Read(found) => {
                found.remove(&ip);
                Ok(())
            }
        };
        self.unless(noted)
    }

    /// The address that a set handed out last, if that is known: a hint.
    pub(super) fn last_reserved(&self, set: usize) -> Option<IpAddr> {
        fs::read_to_string(self.hint(set)).ok()?.parse().ok()
    }

    /// Notes the address that a set has handed out last. Without the note addresses are used again sooner, which is no reason
    /// to have none.
    pub(super) fn set_last_reserved(&mut self, set: usize, ip: IpAddr) {
        self.changed = true;
        let _sooner = disk::rewrite(&self.hint(set), ip.to_string().as_bytes());
    }

    /// Ends the work: from here on the index counts as complete.
    pub(super) fn settle(self) {
        if let (true, View::Index(index)) = (self.changed, &self.view) {
            // Otherwise the next call reads the directory.
            let _incomplete = index.settle(&self.folder);
        }
    }

    /// The addresses that the index has for an owner; nothing where it is mistaken.
    fn verified(&self, index: &Index, owner: &Owner) -> Option<Vec<IpAddr>> {
        let mut addresses = Vec::new();
        for ip in index.addresses(owner).ok()? {
            match reservation::read(&self.path(ip)).ok()?.1? {
                found if found == *owner => addresses.push(ip),
                found if index::hash(&found) == index::hash(owner) => {}
                _ => return None,
            }
        }
        Some(addresses)
    }

    /// Reads every reservation, and says whether all that were void are freed.
    fn read(&self) -> io::Result<(Reservations, bool)> {
        let (mut found, mut freed) = (Reservations::new(), true);
        for entry in fs::read_dir(&self.directory.path)? {
            let entry = entry?;
            let Some(ip) = entry.file_name().to_str().and_then(reservation::address_of) else { continue };
            let path = entry.path();
            if !entry.file_type()?.is_file() {
                found.insert(ip, Owner::nobody());
                continue;
            }
            let (file, owner) = match reservation::read(&path) {
                Err(e) if e.kind() == ErrorKind::NotFound => continue,
                read => read?,
            };
            let void = owner.is_none() || self.is_from_earlier_boot(&file);
            if void && disk::remove(&path).is_ok() {
                continue;
            }
            freed &= !void;
            found.insert(ip, owner.unwrap_or_else(Owner::nobody));
        }
        Ok((found, freed))
    }

    /// Whether a reservation is known to be from an earlier boot. One of which nothing is known may be of this one, and is
    /// known from now on.
    fn is_from_earlier_boot(&self, file: &File) -> bool {
        let Some(boot) = &self.boot else { return false };
        let Some(made) = Boot::of(file) else {
            boot.stamp(file);
            return false;
        };
        made != *boot && self.directory.release_after_reboot
    }

    /// Writes a reservation that has no address yet.
    fn draft(&self, path: &Path, owner: &Owner) -> io::Result<()> {
        let file = match disk::create(path) {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                disk::make_folder(&self.directory.path.join(index::FOLDER))?;
                disk::create(path)?
            }
            created => created?,
        };
        disk::write_at(&file, owner.as_str().as_bytes(), 0)?;
        if let Some(boot) = &self.boot {
            boot.stamp(&file);
        }
        Ok(())
    }

    /// Goes on without an index that could not be written.
    fn unless(&mut self, noted: io::Result<()>) -> Result<()> {
        if noted.is_err() {
            self.look_through()?;
        }
        Ok(())
    }

    fn path(&self, ip: IpAddr) -> PathBuf {
        self.directory.path.join(ip.to_string())
    }

    fn hint(&self, set: usize) -> PathBuf {
        self.directory.path.join(format!("last_reserved_ip.{set}"))
    }
}

/// Opens a lock file and waits until it is ours.
fn lock_file(path: &Path) -> io::Result<File> {
    loop {
        let opened =
            File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
        let file = opened.or_else(|e| match e.kind() {
            // What can only be read can be locked all the same.
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => File::open(path).map_err(|_| e),
            _ => Err(e),
        })?;
        match file.lock() {
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            locked => locked?,
        }
        // While we waited the directory may have been removed, and made anew by others, with another lock.
        if let Ok(there) = fs::metadata(path)
            && same_file(&there, &file.metadata()?)
        {
            return Ok(file);
        }
    }
}

fn same_file(a: &fs::Metadata, b: &fs::Metadata) -> bool {
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

/// The first address from `first` to `last` that is not reserved.
fn next_gap(found: &Reservations, first: IpAddr, last: IpAddr) -> Option<IpAddr> {
    let mut candidate = first;
    for (ip, _) in found.range(first..=last) {
        if *ip != candidate {
            break;
        }
        if candidate == last {
            return None;
        }
        candidate = next(candidate);
    }
    Some(candidate)
}

fn failed(doing: &str, path: &Path, error: &io::Error) -> Error {
    Error::failed(format!("{doing} {}: {error}", path.display()))
}
