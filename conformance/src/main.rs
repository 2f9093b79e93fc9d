//! The same black-box cases against any directory of CNI plugins.

fn main() {}
