//! What a plugin prints, whatever it was asked.

#![no_main]

use cni_spec::{AddResult, Command, Version};
use libcni::{Added, Invocation, Reply};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|stdout: &[u8]| {
    for command in Command::ALL {
        let invocation = Invocation {
            command: command.to_string(),
            config: br#"{"cniVersion": "1.0.0", "name": "n", "type": "t"}"#.to_vec(),
            ..Invocation::default()
        };
        let _ = Reply::decode(&invocation, stdout);
    }
    let Ok(added) = Added::decode(stdout, Version::V0_4_0) else { return };
    // what the next plugin gets says which version it is, and is the same result
    let next =
        AddResult::decode(added.document.get().as_bytes(), Version::DEFAULT).expect("it was read before");
    assert_eq!(next, (added.result, added.version));
});
