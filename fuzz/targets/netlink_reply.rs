//! What the kernel answers to requests for links, addresses, routes and all the rest.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|datagram: &[u8]| cni_linux::testing::decode(datagram));
