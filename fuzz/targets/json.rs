//! A typed document by the rules of JSON: what is read is written so that it is read the same, errors are in place.

#![no_main]

use std::collections::BTreeMap;

use cni_spec::json;
use libfuzzer_sys::fuzz_target;
use serde::{Deserialize, Serialize};

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Config {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    is_gateway: bool,
    mtu: u32,
    scope: Option<u8>,
    sysctl: BTreeMap<String, String>,
    dns: BTreeMap<String, Vec<String>>,
    ipam: Option<Box<Config>>,
    plugins: Vec<Config>,
    letter: Option<char>,
    pair: (i8, String),
    args: Option<BTreeMap<String, Vec<i64>>>, // no floats: serde_json may read their last digit differently
}

fuzz_target!(|document: &[u8]| {
    match json::decode::<Config>(document) {
        Ok(config) => {
            for text in [json::to_compact(&config), json::to_pretty(&config)] {
                assert_eq!(json::decode::<Config>(text.as_bytes()).expect("it was written here"), config);
            }
        }
        Err(error) => {
            let line =
                document.split(|b| *b == b'\n').nth(error.line - 1).expect("the line is one of the document");
            assert!(error.column <= line.len() + 1, "{error}");
        }
    }
    assert_eq!(
        json::check(document).is_ok(),
        serde_json::from_slice::<&serde_json::value::RawValue>(document).is_ok()
    );
});
