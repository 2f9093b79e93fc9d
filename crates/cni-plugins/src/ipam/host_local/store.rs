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
//! killed. What is lost when the power fails is from an earlier boot by then and would be freed anyway, so nothing is
//! flushed; what is torn then is freed as well.
//!
//! # What it costs
//!
//! While the [index](super::index) is complete every question is answered by a few system calls, however many
//! reservations there are. It is not after the reference's plugin, or a person, has made or removed an entry; after this
//! program was killed at work; in the first call after a boot, or after a new version; and never on a file
//! system that may be shared with other machines. Then the whole directory is read once, as the reference does in each call,
//! what is torn or from an earlier boot is freed, and the index is made again.

use std::collections::HashSet;
use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use cni_sdk::{Error, Result, Undo, steps};
use rustix::fs::Access;
use rustix::io::Errno;

use super::boot::{self, Boot};
use super::disk;
use super::index::{self, Index};
use super::ranges::next;
use super::reservation::{self, Owner, Reservations};

/// How often the directory is made again where somebody removes it in between.
const ATTEMPTS: usize = 10;

/// Where a network's reservations are, and what is to be known before they are looked at.
#[derive(Debug, Clone)]
pub(super) struct Directory {
    /// `<dataDir>/<network>`
    pub(super) path: PathBuf,
    /// The boot that this is; nothing where it is not known.
    pub(super) boot: Option<Boot>,
    /// Asks for the earliest time that the clock had in this boot.
    pub(super) earliest: fn() -> Option<SystemTime>,
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
        for _ in 0..ATTEMPTS {
            let made = fs::DirBuilder::new().recursive(true).mode(0o755).create(&self.path);
            made.map_err(|e| failed("create", &self.path, &e))?;
            if let Some(store) = self.lock()? {
                return Ok(store);
            }
        }
        Err(failed("lock", &self.path.join("lock"), &ErrorKind::NotFound.into()))
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
            let index = boot.as_ref().and_then(|boot| Index::open(&self.path, &metadata, &self.terms(boot)));
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

    /// What an index is made for.
    fn terms(&self, boot: &Boot) -> String {
        format!("boot={boot},release={}", self.release_after_reboot)
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
    fn look_through(&mut self) -> Result<Reservations> {
        self.changed = true;
        let (found, freed) = self.read()?;
        self.know(found.clone(), freed)?;
        Ok(found)
    }

    /// Frees everything whose owner is not valid.
    pub(super) fn collect(&mut self, valid: &HashSet<Owner>) -> Result<()> {
        let (found, freed) = self.read()?;
        let is_valid = |owner: &Owner| valid.contains(owner) || *owner == Owner::nobody();
        let (mut found, dead): (Reservations, Reservations) =
            found.into_iter().partition(|(_, owner)| is_valid(owner));
        if dead.is_empty() && freed && matches!(self.view, View::Index(_)) {
            return Ok(());
        }
        self.changed = true;
        let mut outcomes = Vec::new();
        for (ip, owner) in dead {
            let path = self.path(ip);
            if let Err(e) = disk::remove(&path) {
                found.insert(ip, owner);
                outcomes.push(Err(failed("remove", &path, &e)));
            }
        }
        outcomes.push(self.know(found, freed));
        steps::all(outcomes)
    }

    /// Makes the index of what was found, if all that was void is freed: as long as it is not, the next call has to look again.
    fn know(&mut self, found: Reservations, freed: bool) -> Result<()> {
        let path = &self.directory.path;
        let metadata = self.folder.metadata().map_err(|e| failed("look at", path, &e))?;
        let boot = self.boot.as_ref().filter(|_| freed);
        self.view = match boot.map(|boot| Index::make(path, &metadata, &self.directory.terms(boot), &found)) {
            Some(Ok(index)) => View::Index(index),
            // Where none can be kept, or not now, there is none, and every call reads the directory.
            Some(Err(_)) | None => View::Read(found),
        };
        Ok(())
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

    /// Every reservation, and whether all that were void are freed.
    fn read(&self) -> Result<(Reservations, bool)> {
        self.read_and_free().map_err(|e| failed("read", &self.directory.path, &e))
    }

    fn read_and_free(&self) -> io::Result<(Reservations, bool)> {
        let (mut found, mut freed) = (Reservations::new(), true);
        let earliest = (self.directory.earliest)();
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
            let void = owner.is_none() || self.is_from_earlier_boot(&file, earliest);
            if void && disk::remove(&path).is_ok() {
                continue;
            }
            freed &= !void;
            found.insert(ip, owner.unwrap_or_else(Owner::nobody));
        }
        Ok((found, freed))
    }

    /// Whether a reservation is from an earlier boot, and is to be freed. One of which nothing is known may be of this one, and
    /// is known from now on.
    fn is_from_earlier_boot(&self, file: &File, earliest: Option<SystemTime>) -> bool {
        let Some(boot) = &self.boot else { return false };
        let release = self.directory.release_after_reboot;
        if let Some(made) = Boot::of(file) {
            return release && made != *boot;
        }
        let is_older = |file: Metadata| earliest.is_some_and(|earliest| boot::is_older_than(&file, earliest));
        let earlier = release && file.metadata().is_ok_and(is_older);
        if !earlier {
            boot.stamp(file);
        }
        earlier
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

fn same_file(a: &Metadata, b: &Metadata) -> bool {
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use cni_sdk::AttachmentId;

    use super::*;

    fn boot(last: char) -> Option<Boot> {
        Boot::parse(&format!("11111111-2222-3333-4444-55555555555{last}"))
    }

    fn directory(dir: &Path, last: char) -> Directory {
        Directory { path: dir.into(), boot: boot(last), earliest: || None, release_after_reboot: true }
    }

    fn owner(name: &str) -> Owner {
        Owner::of(&AttachmentId::parse(name, "eth0").unwrap())
    }

    fn ip(last: u8) -> IpAddr {
        [10, 1, 0, last].into()
    }

    fn reserve(directory: &Directory, last: u8, name: &str) {
        let mut undo = Undo::new();
        let mut store = directory.open().unwrap();
        assert!(store.reserve(ip(last), &owner(name), &mut undo).unwrap());
        store.settle();
        undo.keep();
    }

    fn addresses(directory: &Directory, name: &str) -> Vec<IpAddr> {
        let mut store = directory.open().unwrap();
        let addresses = store.addresses_of(&owner(name)).unwrap();
        store.settle();
        addresses
    }

    #[test]
    fn a_boot_frees_unless_it_is_told_not_to() {
        let dir = tempfile::tempdir().unwrap();
        reserve(&directory(dir.path(), 'a'), 2, "a");
        fs::write(dir.path().join("10.1.0.3"), owner("go").as_str()).unwrap();
        let keeping = Directory { release_after_reboot: false, ..directory(dir.path(), 'b') };
        assert_eq!(addresses(&keeping, "a"), [ip(2)]);
        assert_eq!([addresses(&keeping, "a"), addresses(&keeping, "go")], [vec![ip(2)], vec![ip(3)]]);
        let unknown = Directory { boot: None, ..directory(dir.path(), 'b') };
        assert_eq!(addresses(&unknown, "a"), [ip(2)], "who does not know the boot frees nothing");
        assert!(addresses(&directory(dir.path(), 'b'), "a").is_empty());
        assert_eq!(addresses(&directory(dir.path(), 'b'), "go"), [ip(3)], "first seen in this boot");
        assert!(addresses(&directory(dir.path(), 'c'), "go").is_empty());
    }

    #[test]
    fn what_others_wrote_before_the_boot_is_freed_at_once() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("10.1.0.3"), owner("go").as_str()).unwrap();
        let later = || SystemTime::now().checked_add(Duration::from_secs(3600));
        let keeping =
            Directory { earliest: later, release_after_reboot: false, ..directory(dir.path(), 'a') };
        assert_eq!(addresses(&keeping, "go"), [ip(3)]);
        fs::write(dir.path().join("10.1.0.4"), owner("go").as_str()).unwrap();
        let later = Directory { earliest: later, ..directory(dir.path(), 'a') };
        assert_eq!(
            addresses(&later, "go"),
            [ip(3)],
            "what was seen in this boot is of this boot, whatever the clock says"
        );
        assert!(!dir.path().join("10.1.0.4").exists());
    }

    #[test]
    fn a_complete_index_is_asked_instead_of_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let directory = directory(dir.path(), 'a');
        for last in 2..200 {
            reserve(&directory, last, &format!("c{last}"));
        }
        // No entry comes or goes, so that whoever looks only where it has to does not see it.
        fs::write(dir.path().join("10.1.0.150"), owner("stranger").as_str()).unwrap();
        assert_eq!(addresses(&directory, "c77"), [ip(77)]);
        assert!(addresses(&directory, "nobody").is_empty());
        reserve(&directory, 200, "new");
        directory.release(ip(77), &owner("c77")).unwrap();
        assert!(addresses(&directory, "stranger").is_empty(), "the directory was read through");
        // Whoever is led there finds out, and then everything is known.
        assert!(addresses(&directory, "c150").is_empty());
        assert_eq!(addresses(&directory, "stranger"), [ip(150)]);
    }

    #[test]
    fn a_directory_that_is_made_anew_while_one_waits_is_used() {
        let dir = tempfile::tempdir().unwrap();
        let directory = directory(&dir.path().join("net"), 'a');
        let held = directory.open().unwrap();
        let waiting = {
            let directory = directory.clone();
            std::thread::spawn(move || reserve(&directory, 2, "a"))
        };
        fs::rename(&directory.path, dir.path().join("gone")).unwrap();
        held.settle();
        waiting.join().unwrap();
        assert_eq!(addresses(&directory, "a"), [ip(2)]);
    }

    #[test]
    fn a_lock_that_leads_nowhere_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("nowhere/lock", dir.path().join("lock")).unwrap();
        let error = directory(dir.path(), 'a').open().unwrap_err();
        let lock = dir.path().join("lock");
        assert!(error.msg.starts_with(&format!("lock {}: ", lock.display())), "{error}");
    }

    #[test]
    fn what_is_in_the_way_is_taken_and_never_freed() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("10.1.0.2")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("10.1.0.3")).unwrap();
        let directory = directory(dir.path(), 'a');
        let mut store = directory.open().unwrap();
        assert_eq!(store.next_free(ip(2), ip(9)).unwrap(), Some(ip(4)));
        assert!(!store.reserve(ip(2), &owner("a"), &mut Undo::new()).unwrap());
        store.collect(&HashSet::new()).unwrap();
        assert!(dir.path().join("10.1.0.3").is_symlink() && dir.path().join("10.1.0.2").is_dir());
    }
}
