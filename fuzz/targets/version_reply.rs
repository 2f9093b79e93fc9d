//! The answer to VERSION, and the numbers in it.

#![no_main]

use cni_spec::version::{Numbers, parse_reply};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|document: &[u8]| {
    if let Ok(versions) = parse_reply(document) {
        assert!(!versions.is_empty());
        let _ = versions.iter().map(|v| Numbers::parse(v)).filter(Result::is_ok).count();
    }
    let Ok(text) = std::str::from_utf8(document) else { return };
    if Numbers::parse(text).is_ok() {
        assert!(text.matches('.').count() <= 2);
    }
});
