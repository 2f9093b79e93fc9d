//! Which boot of the machine a reservation is from.
//!
//! No clock tells: one that is set after the boot makes the living older than the boot. Each reservation carries the
//! kernel's identifier of the boot in an extended attribute, which the reference's plugin neither reads nor minds.
//!
//! What the reference's plugin wrote has no such attribute. It is known to be from an earlier boot only if it is older than
//! the [`earliest`] time that this boot is known to have had; otherwise it counts as this boot's, and is freed in the next.

use std::fmt;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{FsWord, fgetxattr, fstatfs};

use super::disk;

/// Where the kernel says which boot this is (random(4)).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The extended attribute with the boot that a reservation is from.
pub(super) const ATTRIBUTE: &str = "user.ferrocni.boot";

/// Seconds since the boot, those asleep included (proc(5)).
const UPTIME: &str = "/proc/uptime";

/// A file that the kernel makes when it boots, with the time that the clock has then.
const FIRST_FILE: &str = "/dev/null";

/// What clocks that are slowly corrected may be off.
const SLACK: Duration = Duration::from_secs(60);

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

/// The earliest time that the clock is known to have shown since the boot; nothing where that is not known.
///
/// It is the time that the clock has now, less the time since the boot, unless the clock has been set forward in between: then
/// it is what the clock showed when the kernel made its first files.
pub(super) fn earliest() -> Option<SystemTime> {
    let uptime: f64 = fs::read_to_string(UPTIME).ok()?.split_whitespace().next()?.parse().ok()?;
    let by_now = SystemTime::now().checked_sub(Duration::try_from_secs_f64(uptime).ok()?)?;
    let by_then = fs::metadata(FIRST_FILE).and_then(|metadata| metadata.modified()).ok()?;
    Some(by_now.min(by_then))
}

/// Whether a file was last touched before that. Its time of status change counts as well, which nobody can set.
pub(super) fn is_older_than(file: &Metadata, earliest: SystemTime) -> bool {
    let seconds = file.mtime().max(file.ctime());
    let touched = u64::try_from(seconds).map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds) + SLACK);
    touched.is_ok_and(|touched| touched < earliest)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_boot_is_known() {
        let boot = Boot::current().unwrap();
        assert_eq!(Boot::parse(&boot.to_string()), Some(boot));
        for text in ["", "11111111-2222-3333-4444-55555555555", "11111111-2222-3333-4444-55555555555\n"] {
            assert_eq!(Boot::parse(text), None);
        }
    }

    #[test]
    fn what_is_made_now_is_not_older_than_the_boot() {
        let file = tempfile::tempfile().unwrap();
        let metadata = file.metadata().unwrap();
        assert!(!is_older_than(&metadata, earliest().unwrap()));
        assert!(!is_older_than(&metadata, SystemTime::now() + SLACK / 2));
        assert!(is_older_than(&metadata, SystemTime::now() + SLACK * 2));
        // Whoever restores a file sets its time of modification, and shows when by the other.
        file.set_modified(UNIX_EPOCH).unwrap();
        assert!(!is_older_than(&file.metadata().unwrap(), SystemTime::now()));
    }
}
