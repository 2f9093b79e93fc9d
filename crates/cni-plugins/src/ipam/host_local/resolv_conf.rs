//! A resolv.conf(5), as the DNS of a result.

use std::fs;
use std::path::Path;

use cni_sdk::{Dns, Error, Result};

/// Reads a resolv.conf. Of `domain` the last counts; everything else adds up.
///
/// # Errors
/// The file cannot be read.
pub(super) fn read(path: &Path) -> Result<Dns> {
    let text = fs::read(path).map_err(|e| Error::failed(format!("read {}: {e}", path.display())))?;
    Ok(parse(&String::from_utf8_lossy(&text)))
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
    fn a_file_that_is_not_there_is_named() {
        let error = read(Path::new("/nonexistent/resolv.conf")).unwrap_err();
        assert!(error.msg.starts_with("read /nonexistent/resolv.conf: No such file"), "{error}");
    }
}
