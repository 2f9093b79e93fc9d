//! The CNI runtime library: runs plugins for a network.

mod embedded;
mod invocation;
mod invoke;

pub use embedded::{Embedded, Run};
pub use invocation::{Added, Invocation, Reply, TraceContext};
pub use invoke::{Invoke, check_type, nearest, not_found};
