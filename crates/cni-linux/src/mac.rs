//! A 48-bit hardware address.
//!
//! Not the 8 and 20 octet addresses of FireWire and InfiniBand: container links have six octets.

use std::fmt;
use std::str::FromStr;

use rustix::rand::{GetRandomFlags, getrandom};

use crate::error::{Error, Result};

/// Bits of the first octet (IEEE 802, section 8.2).
const MULTICAST: u8 = 1;
const LOCAL: u8 = 2;

/// The hardware address of an Ethernet link, six octets. Prints in lower case with colons.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mac([u8; 6]);

impl Mac {
    /// The address with these octets.
    pub const fn new(octets: [u8; 6]) -> Mac {
        Mac(octets)
    }

    /// A random address, locally administered and of one station: what the kernel gives to a link that is made without
    /// (`eth_random_addr`, `include/linux/etherdevice.h`).
    ///
    /// # Errors
    ///
    /// If the kernel has no randomness to give.
    pub fn random() -> Result<Mac> {
        let mut octets = [0; 6];
        let filled = getrandom(&mut octets, GetRandomFlags::empty());
        filled.map_err(|errno| Error::os("choose a hardware address", "", errno))?;
        octets[0] = octets[0] & !MULTICAST | LOCAL;
        Ok(Mac(octets))
    }

    /// The six octets, in the order in which they are sent.
    pub const fn octets(self) -> [u8; 6] {
        self.0
    }
}

impl From<[u8; 6]> for Mac {
    fn from(octets: [u8; 6]) -> Mac {
        Mac(octets)
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mac({self})")
    }
}

/// The text is not a 48-bit hardware address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseMacError(String);

impl fmt::Display for ParseMacError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "address {}: invalid MAC address", self.0)
    }
}

impl std::error::Error for ParseMacError {}

impl FromStr for Mac {
    type Err = ParseMacError;

    /// Reads `02:00:5e:10:00:01`, `02-00-5e-10-00-01` and `0200.5e10.0001`, in either case of the letters: what
    /// Go's `net.ParseMAC` accepts for six octets.
    fn from_str(text: &str) -> std::result::Result<Mac, ParseMacError> {
        let bytes = text.as_bytes();
        let (group, separator) = match bytes {
            [_, _, separator @ (b':' | b'-'), ..] => (2, *separator),
            [_, _, _, _, b'.', ..] => (4, b'.'),
            _ => return Err(ParseMacError(text.into())),
        };
        parse_groups(bytes, group, separator).ok_or_else(|| ParseMacError(text.into()))
    }
}

/// Reads twelve digits in groups of `group` digits, with the separator between the groups and nowhere else.
fn parse_groups(bytes: &[u8], group: usize, separator: u8) -> Option<Mac> {
    if bytes.len() != 12 + 12 / group - 1 {
        return None;
    }
    let mut octets = [0; 6];
    let mut digits = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        if at % (group + 1) == group {
            if byte != separator {
                return None;
            }
            continue;
        }
        let digit = char::from(byte).to_digit(16)?;
        octets[digits / 2] = octets[digits / 2] << 4 | u8::try_from(digit).ok()?;
        digits += 1;
    }
    Some(Mac(octets))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_the_three_notations() {
        let mac = Mac::new([0x02, 0, 0x5e, 0x10, 0xab, 0xff]);
        for text in ["02:00:5e:10:ab:ff", "02:00:5E:10:AB:FF", "02-00-5e-10-ab-ff", "0200.5e10.abff"] {
            assert_eq!(text.parse(), Ok(mac), "{text}");
        }
        assert_eq!(mac.to_string(), "02:00:5e:10:ab:ff");
    }

    #[test]
    fn refuses_everything_else() {
        for text in [
            "",
            "02",
            "02005e10abff",
            "02:00:5e:10:ab",
            "02:00:5e:10:ab:f",
            "02:00:5e:10:ab:fff",
            "02:00:5e:10:ab:ff:00:01",
            "02:00-5e:10:ab:ff",
            "02-00:5e-10-ab-ff",
            "0200.5e10:abff",
            "020.05e.10a.bff",
            "02:00:5e:10:ab:fg",
            " 02:00:5e:10:ab:ff",
            "02:00:5e:10:ab:ff ",
            "+2:00:5e:10:ab:ff",
            "٠٢:00:5e:10:ab",
        ] {
            assert_eq!(text.parse::<Mac>(), Err(ParseMacError(text.into())), "{text}");
        }
        assert_eq!("x".parse::<Mac>().unwrap_err().to_string(), "address x: invalid MAC address");
    }

    #[test]
    fn random_addresses_are_local_and_of_one_station() {
        let many: Vec<Mac> = (0..64).map(|_| Mac::random().unwrap()).collect();
        assert!(many.iter().all(|mac| mac.octets()[0] & 3 == 2), "{many:?}");
        assert!(many.iter().any(|mac| *mac != many[0]));
    }

    proptest! {
        #[test]
        fn what_is_printed_can_be_read(octets: [u8; 6]) {
            let mac = Mac::new(octets);
            let text = mac.to_string();
            prop_assert_eq!(text.parse(), Ok(mac));
            prop_assert_eq!(text.to_uppercase().replace(':', "-").parse(), Ok(mac));
            let hex = text.replace(':', "");
            prop_assert_eq!(format!("{}.{}.{}", &hex[..4], &hex[4..8], &hex[8..]).parse(), Ok(mac));
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,24}") {
            let _ = text.parse::<Mac>();
        }
    }
}
