//! Tells whether the path of a namespace still leads to the same one. Nothing is opened or entered.

use std::fs;
use std::os::unix::fs::MetadataExt;

/// What tells the namespace at `path` from those that were or will be there; nothing where there is none.
///
/// The kernel numbers namespaces, and uses a number again once it is free. Where the path is a bind mount, as those
/// in `/run/netns` are, the mount holds the inode, and so its time of change is that of the mount and tells the two
/// apart. Where it is a link (`/proc/PID/ns/net`) nothing might hold the inode, and it is made anew with a new time
/// whenever it is looked at: there the numbers have to do.
pub(crate) fn id(path: &str) -> Option<String> {
    let metadata = fs::metadata(path).ok()?;
    let id = format!("{}:{}", metadata.dev(), metadata.ino());
    if fs::symlink_metadata(path).ok()?.is_symlink() {
        return Some(id);
    }
    Some(format!("{id}:{}.{:09}", metadata.ctime(), metadata.ctime_nsec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_taken_the_place_of_another_is_told_from_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("netns");
        let path = path.to_str().unwrap();
        assert_eq!(id(path), None);
        fs::write(path, "").unwrap();
        let first = id(path).unwrap();
        assert_eq!(id(path).unwrap(), first);
        // Most file systems use the inode's number again, as the kernel does with namespaces.
        fs::remove_file(path).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
        fs::write(path, "").unwrap();
        assert_ne!(id(path).unwrap(), first);
    }

    #[test]
    fn the_namespace_of_a_process_is_known_again() {
        let own = id("/proc/self/ns/net").unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert_eq!(id("/proc/self/ns/net").unwrap(), own);
        assert_ne!(id("/proc/self/ns/mnt").unwrap(), own);
    }
}
