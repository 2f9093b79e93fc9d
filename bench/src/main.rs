//! Two directories of CNI plugins against each other and against the kernel's floor.

fn main() {}
