//! CNI_ARGS: a value is what stands behind its key.

#![no_main]

use cni_spec::Args;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let args = Args::new(text);
    assert_eq!(args.as_str(), text);
    let Ok(values) = args.load(["IP", "MAC"]) else { return };
    for (key, value) in ["IP", "MAC"].into_iter().zip(values) {
        match value {
            Some(value) => assert!(text.split(';').any(|pair| pair == format!("{key}={value}"))),
            None => assert!(!text.split(';').any(|pair| pair.starts_with(&format!("{key}=")))),
        }
    }
});
