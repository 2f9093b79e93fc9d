//! An error object: read, written, read.

#![no_main]

use cni_spec::{Error, Version, json};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|document: &[u8]| {
    let Ok(error) = json::decode::<Error>(document) else { return };
    let again: Error = json::decode(error.to_json(Version::CURRENT).as_bytes()).expect("it was written here");
    assert_eq!(again, error);
    let _ = error.to_string();
});
