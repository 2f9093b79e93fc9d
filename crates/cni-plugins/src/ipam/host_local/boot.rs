//! Which boot of the machine a reservation is from.
//!
//! No clock tells: a clock that is set after the boot makes the living older than the boot. Each reservation carries the
//! kernel's identifier of the boot in an extended attribute, which the reference's plugin neither reads nor minds.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use rustix::fs::{FsWord, fgetxattr, fstatfs};

use super::disk;

/// Where the kernel says which boot this is (random(4)).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The extended attribute with the boot that a reservation is from.
pub(super) const ATTRIBUTE: &str = "user.ferrocni.boot";

/// The length of the identifier.
const LENGTH: usize = 36;

/// The kernel's identifier of one boot: `6fb2b1f6-…`, 36 characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boot(String);

impl Boot {
    /// This boot; nothing where the kernel does not say.
    pub fn current() -> Option<Boot> {
        fs::read_to_string(Path::new(BOOT_ID)).ok().and_then(|text| Boot::parse(text.trim_end()))
    }

    /// Reads an identifier.
    pub fn parse(text: &str) -> Option<Boot> {
        let plain = text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
        (text.len() == LENGTH && plain).then(|| Boot(text.into()))
    }

    /// The boot that a reservation is from; nothing where nobody said.
    pub(super) fn of(file: &File) -> Option<Boot> {
        let mut value = [0; LENGTH];
        let length = fgetxattr(file, ATTRIBUTE, &mut value[..]).ok()?;
        Boot::parse(std::str::from_utf8(value.get(..length)?).ok()?)
    }

    /// Says that a reservation is from this boot. Where a file system has no attributes, or no room for one, nobody says, as
    /// with the reference's reservations.
    pub(super) fn stamp(&self, file: &File) {
        let _nobody_says = disk::set_attribute(file, ATTRIBUTE, self.0.as_bytes());
    }
}

impl fmt::Display for Boot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a folder is on a file system of this machine alone: its reservations end with this machine's boot, and its times
/// are set by this kernel. What is not known to be may be shared with others, for which neither is true.
///
/// The numbers are those of `linux/magic.h` and of statfs(2).
pub(super) fn is_of_this_machine(folder: &File) -> io::Result<bool> {
    const LOCAL: [u32; 12] = [
        0xef53,      // ext2, ext3, ext4
        0x5846_5342, // xfs
        0x9123_683e, // btrfs
        0xf2f5_2010, // f2fs
        0xca45_1a4e, // bcachefs
        0x2fc1_2fc1, // zfs
        0x3153_464a, // jfs
        0x5265_4973, // reiserfs
        0x2405_1905, // ubifs
        0x0102_1994, // tmpfs
        0x8584_58f6, // ramfs
        0x794c_7630, // overlayfs
    ];
    let magic: FsWord = fstatfs(folder)?.f_type;
    Ok(LOCAL.contains(&(magic as u32)))
}
