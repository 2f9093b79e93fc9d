//! What the CNI specification says, as types: commands, names, configurations, results, errors, versions.
//!
//! There is no I/O here: no file, no environment, no clock. Text goes in, values that cannot be wrong come
//! out, and back. The modules stand in the order of the [specification]'s sections:
//!
//! | section | module |
//! |---|---|
//! | 1. Network configuration format | [`config`] |
//! | 2. Execution protocol: parameters | [`command`], [`names`], [`args`] |
//! | 2. Execution protocol: errors | [`error`] |
//! | 2. Execution protocol: versions | [`version`] |
//! | 5. Result types | [`result`] |
//!
//! [`json`] settles, once for all of them, where JSON as CNI's users write it differs from what serde
//! accepts, and says where in a document an error is; [`address`] does the same for IP addresses.
//!
//! [specification]: https://www.cni.dev/docs/spec/

pub mod address;
pub mod args;
pub mod command;
pub mod config;
pub mod error;
pub mod json;
pub mod names;
pub mod result;
pub mod version;

pub use args::Args;
pub use command::{Command, Parameter};
pub use config::{NetworkConfig, PluginConfig};
pub use error::{Code, Doing, Error, Result};
pub use names::{AttachmentId, ContainerId, InterfaceName, NetworkName};
pub use result::{AddResult, Dns, Interface, IpConfig, Route};
pub use version::Version;
