//! CNI plugins, cnitool and the operator's command line in one binary.

fn main() {}
