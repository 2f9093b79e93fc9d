//! Names: what is accepted can be part of a path, a rule and a link.

#![no_main]

use cni_spec::{AttachmentId, ContainerId, InterfaceName, NetworkName};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let container = ContainerId::parse(text);
    assert_eq!(container.is_ok(), NetworkName::parse(text).is_ok());
    if let Ok(id) = &container {
        assert_eq!(id.as_str(), text);
        assert!(text.is_ascii() && !text.starts_with('.') && !text.contains(['/', ' ', '\n', '\0']));
    }
    let interface = InterfaceName::parse(text);
    if interface.is_ok() {
        assert!((1..=15).contains(&text.len()) && text != "." && text != "..");
        assert!(!text.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control()));
    }
    assert_eq!(AttachmentId::parse(text, text).is_ok(), container.is_ok() && interface.is_ok());
});
