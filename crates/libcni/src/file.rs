//! Reads a whole configuration or cache file, and nothing else that might lie in its place.
//!
//! What a file holds is for its reader; missing files are errors here.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

/// The largest configuration or cache file that is read, in bytes: those of real hosts have some kilobytes.
pub const MAX_FILE: usize = 64 << 20;

/// Reads a regular file, behind symbolic links.
///
/// A FIFO is not waited for, and a device is not read: whoever can put one there must not keep everybody waiting.
///
/// # Errors
/// What the kernel says, what is no regular file, and one of more than [`MAX_FILE`] bytes.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits();
    let file = OpenOptions::new().read(true).custom_flags(flags.cast_signed()).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut content = Vec::new();
    file.take(MAX_FILE as u64 + 1).read_to_end(&mut content)?;
    check_size(&content)?;
    Ok(content)
}

/// # Errors
/// More than [`MAX_FILE`] bytes.
pub(crate) fn check_size(content: &[u8]) -> io::Result<()> {
    match content.len() {
        0..=MAX_FILE => Ok(()),
        _ => Err(io::Error::other(format!("it has more than {MAX_FILE} bytes"))),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::*;

    #[test]
    fn only_regular_files_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("/dev/zero", &link).unwrap();
        for path in [&fifo, &link, dir.path()] {
            assert_eq!(read(path).unwrap_err().to_string(), "it is no regular file", "{}", path.display());
        }
        fs::write(dir.path().join("file"), "x").unwrap();
        fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink("file", &link).unwrap();
        assert_eq!(read(&link).unwrap(), b"x");
    }

    #[test]
    fn a_file_has_a_largest_size() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let file = File::create(&path).unwrap();
        file.set_len(MAX_FILE as u64).unwrap();
        assert_eq!(read(&path).unwrap().len(), MAX_FILE);
        file.set_len(MAX_FILE as u64 + 1).unwrap();
        assert_eq!(read(&path).unwrap_err().to_string(), "it has more than 67108864 bytes");
    }
}
