//! One reservation: a file that is named by the address and says whose it is, as the reference's plugin writes it.
//!
//! Files of other names are no reservations, whatever they say.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::Path;

use cni_sdk::AttachmentId;

/// The most that is read of a reservation, in bytes.
const MAX: usize = 8 << 10;

/// Every reservation of a directory.
pub(super) type Reservations = BTreeMap<IpAddr, Owner>;

/// Whose a reservation is: container id and interface name, with `\r\n` between them, or the id alone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Owner(String);

impl Owner {
    /// The attachment.
    pub(super) fn of(id: &AttachmentId) -> Owner {
        Owner(format!("{}\r\n{}", id.container_id, id.ifname))
    }

    /// The container, as it was written before interfaces were told apart (plugins before v0.7).
    pub(super) fn legacy(id: &AttachmentId) -> Owner {
        Owner(id.container_id.to_string())
    }

    /// What has an address for its name and cannot be read: it is taken, and no DEL frees it.
    pub(super) fn nobody() -> Owner {
        Owner(String::new())
    }

    /// What a file says; nothing where the write of it was torn: by a crash of the machine, or a disk that was full.
    pub(super) fn read(text: &[u8]) -> Option<Owner> {
        let owner = str::from_utf8(text).ok()?.trim();
        (!owner.is_empty() && !owner.contains('\0')).then(|| Owner(owner.into()))
    }

    /// What a file has to say.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// The address that a file is named by, in the one spelling that is used for names.
pub(super) fn address_of(name: &str) -> Option<IpAddr> {
    let ip: IpAddr = name.parse().ok()?;
    (ip.to_string() == name).then_some(ip)
}

/// Opens a reservation and reads what it says; nothing where it was torn.
pub(super) fn read(path: &Path) -> io::Result<(File, Option<Owner>)> {
    let mut file = File::open(path)?;
    let mut text = [0; MAX];
    let length = file.read(&mut text)?;
    Ok((file, Owner::read(&text[..length])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_spelt_as_the_reference_spells_them() {
        let id = AttachmentId::parse("3a5f", "eth0").unwrap();
        assert_eq!(Owner::of(&id).as_str(), "3a5f\r\neth0");
        assert_eq!(Owner::read(b"3a5f\r\neth0"), Some(Owner::of(&id)));
        assert_eq!(Owner::read(b" 3a5f\r\neth0\n"), Some(Owner::of(&id)));
        assert_eq!(Owner::read(b"3a5f\n"), Some(Owner::legacy(&id)));
        assert_ne!(Owner::read(b"3a5f\neth0"), Some(Owner::of(&id)));
    }

    #[test]
    fn what_a_crash_leaves_is_nobody_s() {
        for torn in [&b""[..], b" \r\n", b"\0\0\0\0", b"3a5f\r\n\0\0\0", b"\xff\xfe"] {
            assert_eq!(Owner::read(torn), None, "{torn:?}");
        }
    }

    #[test]
    fn only_canonical_addresses_name_reservations() {
        for name in ["10.1.0.5", "2001:db8::5", "::1", "::102:304"] {
            assert_eq!(address_of(name).map(|ip| ip.to_string()).as_deref(), Some(name));
        }
        for name in
            ["lock", "last_reserved_ip.0", "10.1.0.05", "2001:DB8::5", "10.1.0.5.swp", ".ferrocni", ""]
        {
            assert_eq!(address_of(name), None, "{name}");
        }
    }
}
