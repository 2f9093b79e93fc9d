//! A result of any version, in every version: what is written is read, and written the same again.

#![no_main]

use cni_spec::{AddResult, Version};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((choice, document)) = input.split_last() else { return };
    let otherwise = Version::ALL[usize::from(*choice) % Version::ALL.len()];
    for document in [document, input] {
        let Ok((result, _)) = AddResult::decode(document, otherwise) else { continue };
        for &version in Version::ALL {
            let Ok(text) = result.encode(version) else {
                assert!(result.ips.is_empty());
                continue;
            };
            let (again, read) =
                AddResult::decode(text.as_bytes(), Version::DEFAULT).expect("it was written here");
            assert_eq!(read, version);
            assert_eq!(again.encode(version).expect("it was written before"), text);
            if version >= Version::V1_0_0 {
                assert_eq!(again, result);
            }
        }
        let _ = result.ips.iter().map(|ip| result.interface_of(ip)).count();
    }
});
