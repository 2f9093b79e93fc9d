//! What makes the directory of reservations quick to ask: who has which addresses, and which address is free.
//!
//! It is not the truth: the files of the directory are. Everything here can be made again from them, and is whenever it
//! cannot be shown to be complete. It is kept below the directory, in [`FOLDER`]:
//!
//! | entry | is |
//! |---|---|
//! | `index` | a link to nowhere, whose target says when the index is complete; see below |
//! | `owners/<n>` | the addresses of every owner whose hash ends with these bits: lines of `<hash> <address>` |
//! | `taken/4-<n>`, `taken/6-<n>` | which of [`BLOCK`] neighbouring addresses are taken, a bit each |
//!
//! The reference's plugin reads every file of the directory and of what is below it, and takes for a reservation what says
//! no more than an owner. It cannot follow the link, and no owner has a space or a NUL in its name.
//!
//! # When it is complete
//!
//! Whoever works in the directory creates or removes entries, for which the kernel sets the directory's time of
//! modification to the present. Whoever keeps the index sets it back, when all is done, to a *mark*: a time that was the
//! directory's when the index was made, but for its nanoseconds. The index is complete while the directory has the mark,
//! is the folder (by its inode number) and the *terms* (the kernel's boot, and whether reservations of others are freed) are
//! those that it was made for. No clock is compared with another,
//! so neither the clock's steps nor its granularity matter.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::disk;
use super::ranges::{address, number};
use super::reservation::{Owner, Reservations};

/// The folder below the directory of reservations that is ours.
pub(super) const FOLDER: &str = ".ferrocni";

/// The layout above: a program that has another makes its own.
const VERSION: u32 = 1;

/// Among how many files the owners are spread: 60,000 of them make lists of two kilobytes.
const LISTS: u64 = 1024;

/// How many addresses share a file of bits.
const BLOCK: u128 = 1 << 14;

/// What a file of bits begins with.
const HEADER: &[u8; 8] = b"taken\0\0\n";

/// The index of one directory.
#[derive(Debug)]
pub(super) struct Index {
    folder: PathBuf,
    mark: SystemTime,
}

impl Index {
    /// The index of a directory, if it is complete.
    pub(super) fn open(dir: &Path, metadata: &Metadata, terms: &str) -> Option<Index> {
        let folder = dir.join(FOLDER);
        let mark = metadata.modified().ok()?;
        let complete = fs::read_link(folder.join("index")).ok()?;
        (complete.as_os_str() == description(metadata, mark, terms)?.as_str())
            .then_some(Index { folder, mark })
    }

    /// Makes the index of these reservations.
    pub(super) fn make(
        dir: &Path,
        metadata: &Metadata,
        terms: &str,
        reservations: &Reservations,
    ) -> io::Result<Index> {
        let folder = dir.join(FOLDER);
        disk::make_folder(&folder)?;
        disk::remove(&folder.join("index"))?;
        replace(&folder.join("owners"), owners(reservations))?;
        replace(&folder.join("taken"), taken(reservations))?;
        let mark = mark(metadata, terms)?;
        let complete = description(metadata, mark, terms).ok_or(ErrorKind::InvalidData)?;
        disk::link(&complete, &folder.join("index"))?;
        Ok(Index { folder, mark })
    }

    /// Says that the index is complete: the last thing that is done under the lock.
    pub(super) fn settle(&self, dir: &File) -> io::Result<()> {
        disk::set_modified(dir, self.mark)
    }

    /// The addresses of an owner, and of others of the same hash.
    pub(super) fn addresses(&self, owner: &Owner) -> io::Result<Vec<IpAddr>> {
        let hash = format!("{:016x}", hash(owner));
        let list = read_if_exists(&self.list(owner))?;
        let lines = str::from_utf8(&list).map_err(io::Error::other)?.lines();
        let of_owner = lines.filter_map(|line| line.strip_prefix(&hash)?.strip_prefix(' '));
        of_owner.map(|ip| ip.parse().map_err(io::Error::other)).collect()
    }

    /// The first address from `first` to `last` that is free.
    pub(super) fn next_free(&self, first: IpAddr, last: IpAddr) -> io::Result<Option<IpAddr>> {
        let (from, to) = (number(first), number(last));
        for block in from / BLOCK..=to / BLOCK {
            let file = read_if_exists(&self.bits(first, block))?;
            let bits = file.strip_prefix(HEADER).unwrap_or_default();
            if bits.is_empty() && !file.is_empty() {
                return Err(ErrorKind::InvalidData.into());
            }
            let start = if block == from / BLOCK { from % BLOCK } else { 0 };
            let end = if block == to / BLOCK { to % BLOCK } else { BLOCK - 1 };
            if let Some(at) = first_clear(bits, start as usize, end as usize) {
                return Ok(Some(address(first, block * BLOCK + at as u128)));
            }
        }
        Ok(None)
    }

    /// Notes a reservation.
    pub(super) fn add(&self, ip: IpAddr, owner: &Owner) -> io::Result<()> {
        let list = disk::open(&self.list(owner))?;
        disk::write_at(&list, line(ip, owner).as_bytes(), list.metadata()?.len())?;
        self.set(ip, true)
    }

    /// Forgets a reservation.
    pub(super) fn remove(&self, ip: IpAddr, owner: &Owner) -> io::Result<()> {
        let path = self.list(owner);
        let list = String::from_utf8(read_if_exists(&path)?).map_err(io::Error::other)?;
        let line = line(ip, owner);
        let others: String = list.split_inclusive('\n').filter(|other| *other != line).collect();
        match others.as_str() {
            "" => disk::remove(&path)?,
            others => disk::rewrite(&path, others.as_bytes())?,
        }
        self.set(ip, false)
    }

    fn list(&self, owner: &Owner) -> PathBuf {
        self.folder.join("owners").join(list_name(owner))
    }

    fn bits(&self, like: IpAddr, block: u128) -> PathBuf {
        self.folder.join("taken").join(block_name(like, block))
    }

    fn set(&self, ip: IpAddr, taken: bool) -> io::Result<()> {
        let (block, at) = (number(ip) / BLOCK, number(ip) % BLOCK);
        let file = disk::open(&self.bits(ip, block))?;
        let place = HEADER.len() as u64 + at as u64 / 8;
        let mut byte = [0];
        if file.read_at(&mut byte, place)? == 0 {
            // The file has just been made.
            disk::write_at(&file, &empty_block(), 0)?;
        }
        let bit = 1 << (at % 8);
        byte[0] = if taken { byte[0] | bit } else { byte[0] & !bit };
        disk::write_at(&file, &byte, place)
    }
}

/// The hash by which owners are found (<http://www.isthe.com/chongo/tech/comp/fnv/>). It is written to disk, which rules
/// the standard library's out; whoever makes owners of the same hash makes their own calls slower, and no others wrong.
pub(super) fn hash(owner: &Owner) -> u64 {
    fnv1a(owner.as_str().as_bytes())
}

/// When the index is complete, in words: the target of the link `index`.
fn description(metadata: &Metadata, mark: SystemTime, terms: &str) -> Option<String> {
    let mark = mark.duration_since(UNIX_EPOCH).ok()?;
    let (inode, seconds, nanoseconds) = (metadata.ino(), mark.as_secs(), mark.subsec_nanos());
    Some(format!("v{VERSION},{terms},inode={inode},mtime={seconds}.{nanoseconds:09}"))
}

/// The present time of modification, with nanoseconds that the kernel would not come to think of.
fn mark(metadata: &Metadata, terms: &str) -> io::Result<SystemTime> {
    let present = metadata.modified()?.duration_since(UNIX_EPOCH).map_err(io::Error::other)?;
    let seed = format!("{terms} {} {}", metadata.ino(), present.as_nanos());
    let nanoseconds = fnv1a(seed.as_bytes()) % 1_000_000_000;
    Ok(UNIX_EPOCH + Duration::new(present.as_secs(), nanoseconds as u32))
}

/// The lists of owners, by their names.
fn owners(reservations: &Reservations) -> BTreeMap<String, Vec<u8>> {
    let mut lists = BTreeMap::<String, Vec<u8>>::new();
    for (ip, owner) in reservations {
        lists.entry(list_name(owner)).or_default().extend_from_slice(line(*ip, owner).as_bytes());
    }
    lists
}

/// The files of bits, by their names.
fn taken(reservations: &Reservations) -> BTreeMap<String, Vec<u8>> {
    let mut blocks = BTreeMap::new();
    for ip in reservations.keys() {
        let (block, at) = (number(*ip) / BLOCK, number(*ip) % BLOCK);
        let bits = blocks.entry(block_name(*ip, block)).or_insert_with(empty_block);
        bits[HEADER.len() + at as usize / 8] |= 1 << (at % 8);
    }
    blocks
}

/// Makes a folder hold these files and no others.
fn replace(folder: &Path, files: BTreeMap<String, Vec<u8>>) -> io::Result<()> {
    disk::make_folder(folder)?;
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        if !name.to_str().is_some_and(|name| files.contains_key(name)) {
            disk::remove(&folder.join(name))?;
        }
    }
    files.into_iter().try_for_each(|(name, content)| disk::rewrite(&folder.join(name), &content))
}

/// The first bit from `start` to `end` that is not set. What lies beyond the end of the bytes is not.
fn first_clear(bits: &[u8], start: usize, end: usize) -> Option<usize> {
    let mut at = start;
    while at <= end {
        match bits.get(at / 8) {
            Some(0xff) => at = (at / 8 + 1) * 8,
            Some(byte) if byte & (1 << (at % 8)) != 0 => at += 1,
            _ => return Some(at),
        }
    }
    None
}

fn empty_block() -> Vec<u8> {
    [&HEADER[..], &[0; BLOCK as usize / 8]].concat()
}

fn line(ip: IpAddr, owner: &Owner) -> String {
    let mut line = String::with_capacity(64);
    // Writing to a string cannot fail.
    let _ = writeln!(line, "{:016x} {ip}", hash(owner));
    line
}

fn list_name(owner: &Owner) -> String {
    format!("{:03x}", hash(owner) % LISTS)
}

fn block_name(like: IpAddr, block: u128) -> String {
    format!("{}-{block:x}", if like.is_ipv4() { 4 } else { 6 })
}

fn read_if_exists(path: &Path) -> io::Result<Vec<u8>> {
    match fs::read(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        read => read,
    }
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use cni_sdk::AttachmentId;
    use proptest::prelude::*;

    use super::*;

    const TERMS: &str = "boot=11111111-2222-3333-4444-555555555555";

    fn owner(name: &str) -> Owner {
        Owner::of(&AttachmentId::parse(name, "eth0").unwrap())
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// An index of nothing, settled.
    fn index(dir: &Path) -> Index {
        let folder = File::open(dir).unwrap();
        let index = Index::make(dir, &folder.metadata().unwrap(), TERMS, &Reservations::new()).unwrap();
        index.settle(&folder).unwrap();
        index
    }

    fn reopened(dir: &Path, terms: &str) -> Option<Index> {
        Index::open(dir, &fs::metadata(dir).unwrap(), terms)
    }

    #[test]
    fn it_is_complete_until_somebody_else_works_here() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        assert!(reopened(path, TERMS).is_none());
        let index = index(path);
        assert!(reopened(path, TERMS).is_some());
        assert!(
            reopened(path, "boot=11111111-2222-3333-4444-000000000000").is_none(),
            "after a boot anything may have happened"
        );

        // what is made and removed within one tick of the kernel's clock is seen as well
        for _ in 0..1000 {
            fs::write(path.join("10.1.0.5"), "a\r\neth0").unwrap();
            assert!(reopened(path, TERMS).is_none());
            index.settle(&File::open(path).unwrap()).unwrap();
            assert!(reopened(path, TERMS).is_some());
            fs::remove_file(path.join("10.1.0.5")).unwrap();
            assert!(reopened(path, TERMS).is_none());
            index.settle(&File::open(path).unwrap()).unwrap();
        }
    }

    #[test]
    fn a_copy_of_the_directory_has_none() {
        let dir = tempfile::tempdir().unwrap();
        let (original, copy) = (dir.path().join("a"), dir.path().join("b"));
        fs::create_dir(&original).unwrap();
        index(&original);
        let status = copied(&original, &copy);
        assert!(status && copy.join(FOLDER).join("index").is_symlink());
        assert_eq!(
            fs::metadata(&original).unwrap().modified().unwrap(),
            fs::metadata(&copy).unwrap().modified().unwrap()
        );
        assert!(reopened(&copy, TERMS).is_none());
    }

    #[expect(clippy::disallowed_methods, reason = "a test may start a program")]
    fn copied(from: &Path, to: &Path) -> bool {
        std::process::Command::new("cp").arg("-a").args([from, to]).status().unwrap().success()
    }

    #[test]
    fn what_it_holds_is_no_reservation_to_the_reference() {
        let dir = tempfile::tempdir().unwrap();
        let index = index(dir.path());
        // the bits of these addresses are the bytes of "A\r\neth0"
        let bits = b"A\r\neth0".iter().enumerate().flat_map(|(at, byte)| {
            (0..8).filter(move |bit| byte & (1 << bit) != 0).map(move |bit| at as u128 * 8 + bit)
        });
        for number in bits {
            index.add(address(ip("::"), number), &owner("A")).unwrap();
        }
        let spelt = fs::read(dir.path().join(FOLDER).join("taken/6-0")).unwrap();
        assert!(spelt.starts_with(b"taken\0\0\nA\r\neth0\0"));
        for file in [fs::read(index.list(&owner("A"))).unwrap(), spelt] {
            let says = String::from_utf8(file).unwrap();
            assert!(says.trim().contains(['\0', ' ']), "{says:?}");
        }
        assert!(fs::read(dir.path().join(FOLDER).join("index")).is_err(), "a link to nowhere");
    }

    #[test]
    fn what_cannot_be_understood_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let index = index(dir.path());
        index.add(ip("10.1.0.5"), &owner("a")).unwrap();
        fs::write(index.list(&owner("a")), format!("{:016x} 10.1.0.x\n", hash(&owner("a")))).unwrap();
        assert!(index.addresses(&owner("a")).is_err());
        fs::write(index.bits(ip("10.1.0.5"), number(ip("10.1.0.5")) / BLOCK), "0123456789").unwrap();
        assert!(index.next_free(ip("10.1.0.5"), ip("10.1.0.9")).is_err());
    }

    #[test]
    fn the_last_addresses_of_all_have_a_place() {
        let dir = tempfile::tempdir().unwrap();
        let index = index(dir.path());
        for last in ["255.255.255.255", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"].map(ip) {
            assert_eq!(index.next_free(last, last).unwrap(), Some(last));
            index.add(last, &owner("a")).unwrap();
            assert_eq!(index.next_free(last, last).unwrap(), None);
        }
        // the families do not share a place
        assert_eq!(index.next_free(ip("::ffff:ffff"), ip("::ffff:ffff")).unwrap(), Some(ip("::ffff:ffff")));
    }

    proptest! {
        /// Against a plain set, across the bounds of blocks.
        #[test]
        fn it_knows_what_is_free(
            steps in prop::collection::vec((any::<bool>(), 0u128..40), 1..60),
            from in 0u128..40,
            remade in any::<bool>(),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let mut index = index(dir.path());
            let at = |n| address(ip("fd00::"), number(ip("fd00::")) + BLOCK - 20 + n);
            let mut taken = BTreeSet::new();
            for (add, n) in steps {
                if add && taken.insert(n) {
                    index.add(at(n), &owner("a")).unwrap();
                } else if !add && taken.remove(&n) {
                    index.remove(at(n), &owner("a")).unwrap();
                }
            }
            if remade {
                let all = taken.iter().map(|n| (at(*n), owner("a"))).collect();
                let metadata = fs::metadata(dir.path()).unwrap();
                index = Index::make(dir.path(), &metadata, TERMS, &all).unwrap();
            }
            let free = (from..40).find(|n| !taken.contains(n)).map(at);
            prop_assert_eq!(index.next_free(at(from), at(39)).unwrap(), free);
            let mut owned = index.addresses(&owner("a")).unwrap();
            owned.sort();
            prop_assert_eq!(owned, taken.into_iter().map(at).collect::<Vec<_>>());
            prop_assert!(index.addresses(&owner("b")).unwrap().is_empty());
        }
    }
}
