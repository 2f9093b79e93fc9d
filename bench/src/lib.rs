//! Two directories of CNI plugins against each other, and against what the kernel itself takes.
//!
//! It starts executables and looks at them from outside, as a container runtime does. It knows nothing of how they are
//! made, links none of the project's crates, and so treats every directory of plugins alike. The program `runtime` beside
//! it is such an executable: the one that has our plugins linked in.
//!
//! | module | is |
//! |---|---|
//! | [`options`] | the command line |
//! | [`case`] | what a case is: the calls, the state they start from, their floor |
//! | [`cases`] | all of them |
//! | [`sandbox`] | namespaces of the bench's own: hosts and their containers |
//! | [`stage`] | one subject on a host, playing a case |
//! | [`call`] | one call of a plugin, timed, or many at once |
//! | [`resident`] | a program that stays and does jobs without a new process |
//! | [`trace`] | a call, watched: memory, processes, threads |
//! | [`measure`] | cases together: rounds in changing order |
//! | [`stats`] | medians and percentiles |
//! | [`figures`] | what is known of a subject in the end, and how it is written |
//! | [`target`] | how fast is fast enough |
//! | [`report`] | the tables and the document |
//! | [`floor`] | the least that the kernel needs for a job |
//! | [`rtnl`], [`nft`] | its requests, and those of the sandbox |

pub mod call;
pub mod case;
pub mod cases;
pub mod figures;
pub mod floor;
pub mod measure;
mod netlink;
pub mod nft;
pub mod options;
pub mod report;
pub mod resident;
pub mod rtnl;
pub mod sandbox;
pub mod stage;
pub mod stats;
pub mod target;
pub mod trace;

/// What went wrong, in a sentence for the person at the terminal; nothing here is handled by kind.
pub type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;
