//! Two directories of CNI plugins against each other, and against what the kernel itself takes.
//!
//! It starts executables and looks at them from outside, as a container runtime does. It knows nothing of how they are
//! made, links none of the project's crates, and so treats every directory of plugins alike.
//!
//! | module | is |
//! |---|---|
//! | [`options`] | the command line |
//! | [`case`] | what can be measured: the calls, the state they start from, their floor |
//! | [`sandbox`] | namespaces of the bench's own, and the container's among them |
//! | [`call`] | one call of a plugin, timed |
//! | [`trace`] | the same call, watched: memory, processes, threads |
//! | [`measure`] | a whole case: rounds in changing order |
//! | [`stats`] | medians and percentiles |
//! | [`figures`] | what is known of a subject in the end, and how it is written |
//! | [`target`] | how fast is fast enough |
//! | [`report`] | the table and the document |
//! | [`rtnl`] | the two requests to the kernel that the floor and the sandbox need |

pub mod call;
pub mod case;
pub mod figures;
pub mod measure;
pub mod options;
pub mod report;
pub mod rtnl;
pub mod sandbox;
pub mod stats;
pub mod target;
pub mod trace;

/// What went wrong, in a sentence for the person at the terminal; nothing here is handled by kind.
pub type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;
