//! Plugins that make an interface in the container (the reference's `main`).

pub mod bridge;
pub mod loopback;
pub mod ptp;
