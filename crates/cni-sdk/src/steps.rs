//! Steps that several plugins take: what is between a request's words and the kernel's.

mod interface;

pub use interface::{addresses, container_interface, describe, host_interface};
