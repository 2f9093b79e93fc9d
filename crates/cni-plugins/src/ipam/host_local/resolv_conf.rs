//! A resolv.conf(5), as the DNS of a result.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use cni_sdk::{Dns, Error, Result};
use rustix::fs::OFlags;

/// The largest file that is read, in bytes: the C library's resolver takes less than a thousand.
const LONGEST: u64 = 1 << 20;

/// Reads a resolv.conf. Of `domain` the last counts; everything else adds up.
///
/// # Errors
/// The file cannot be read, or is none: whoever puts a FIFO or a device in its place must not keep containers waiting, or take
/// the host's memory.
pub(super) fn read(path: &Path) -> Result<Dns> {
    let text = read_file(path).map_err(|e| Error::failed(format!("read {}: {e}", path.display())))?;
    Ok(parse(&String::from_utf8_lossy(&text)))
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits();
    let file = File::options().read(true).custom_flags(flags.cast_signed()).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut text = Vec::new();
    file.take(LONGEST + 1).read_to_end(&mut text)?;
    match text.len() as u64 {
        0..=LONGEST => Ok(text),
        _ => Err(io::Error::other(format!("it has more than {LONGEST} bytes"))),
    }
}

fn parse(text: &str) -> Dns {
    let mut dns = Dns::default();
    for line in text.lines().map(str::trim) {
        let mut words = line.split_whitespace().map(String::from);
        let (Some(keyword), Some(first)) = (words.next(), words.next()) else { continue };
        // Comments begin with `#` or `;` and are no keywords either.
        match keyword.as_str() {
            "nameserver" => dns.nameservers.push(first),
            "domain" => dns.domain = first,
            "search" => dns.search.extend([first].into_iter().chain(words)),
            "options" => dns.options.extend([first].into_iter().chain(words)),
            _ => {}
        }
    }
    dns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_what_the_reference_reads() {
        let text = "\
            # nameserver 192.0.2.66\n; search nowhere\n#nameserver 192.0.2.67\n\n\
            nameserver 192.0.2.1 ignored\n\t nameserver   192.0.2.2\r\nnameserver\n\
            domain first.example\ndomain last.example ignored\n\
            search a.example b.example\nsearch c.example\n\
            options ndots:2 edns0\noptions trust-ad\nsortlist 192.0.2.0\n";
        assert_eq!(
            parse(text),
            Dns {
                nameservers: vec!["192.0.2.1".into(), "192.0.2.2".into()],
                domain: "last.example".into(),
                search: vec!["a.example".into(), "b.example".into(), "c.example".into()],
                options: vec!["ndots:2".into(), "edns0".into(), "trust-ad".into()],
            }
        );
    }

    #[test]
    fn what_has_no_end_is_not_read() {
        let error = read(Path::new("/dev/zero")).unwrap_err();
        assert_eq!(error.msg, "read /dev/zero: it is no regular file");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("resolv.conf");
        File::create(&path).unwrap().set_len(LONGEST + 1).unwrap();
        assert!(read(&path).unwrap_err().msg.ends_with("it has more than 1048576 bytes"));
        File::create(&path).unwrap().set_len(LONGEST).unwrap();
        assert_eq!(read(&path).unwrap(), Dns::default());
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = read(Path::new("/nonexistent/resolv.conf")).unwrap_err();
        assert!(error.msg.starts_with("read /nonexistent/resolv.conf: No such file"), "{error}");
    }
}
