//! The CNI runtime library: runs the plugins of a network.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use libcni::{Attachment, Cni, Process};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let plugins = Process::search(["/opt/cni/bin"]).deadline(Duration::from_secs(60));
//! let cni = Cni::new(plugins);
//! let net = libcni::load("/etc/cni/net.d", "podnet")?;
//! cni.status(&net)?;
//!
//! let attachment = Attachment {
//!     container_id: "cd8a0b9f3c".into(),
//!     netns: "/run/netns/cd8a0b9f3c".into(),
//!     ifname: "eth0".into(),
//!     ..Attachment::default()
//! };
//! let added = cni.add(&net, &attachment)?;
//! for ip in &added.result.ips {
//!     // tell the container of ip.address
//! }
//! cni.check(&net, &attachment)?;
//! cni.del(&net, &attachment)?;
//! # Ok(())
//! # }
//! ```
//!
//! # What a runtime is promised
//!
//! * Every name is judged before anything is executed or looked up.
//! * A failed ADD is undone: DEL for the plugin that failed and for those before it. Nothing is left in the cache.
//! * DEL goes on past a plugin that fails or is missing, reports every failure, and can be repeated until none is
//!   left: only then is the attachment forgotten.
//! * GC touches no attachment of another network, and no namespace but the one that an ADD was given.
//! * Whatever a plugin does with its streams, nobody waits for ever: see [`Process`].
//!
//! Configurations, results and the cache are those of the reference's libcni, read and written both ways: a host can
//! be taken over from a runtime in Go, and given back.
//!
//! # What it is not
//!
//! There is no async: a call takes as long as the plugins take. An async runtime gives it a thread that may block, sets a
//! [deadline](Process::deadline), and bounds how many run at a time. Verbs for different attachments may run at the
//! same time on one [`Cni`]; those for one attachment may not (spec §2).
//!
//! Nothing is printed, and no variable of the environment is read, save that plugins inherit it and that what they log
//! goes to standard error: [`Process::stderr`] changes that.
//!
//! # The map
//!
//! | for | there is |
//! |---|---|
//! | configurations | [`load`], [`load_file`], [`config_files`], [`NetworkConfig`] |
//! | a whole network | [`Cni`]: [`add`](Cni::add) [`check`](Cni::check) [`del`](Cni::del) [`gc`](Cni::gc) [`status`](Cni::status), [`validate`](Cni::validate) |
//! | what is known since an ADD | [`Cni::cached`], [`Cni::cached_attachments`] |
//! | seeing each step | [`Cni::observe`], [`Cni::on_warning`] |
//! | one plugin | [`Invoke`], its two ways [`Process`] and [`Embedded`], [`Invocation`] and [`Reply`] |
//! | failures | [`Error`] for a network, [`cni_spec::Error`] for a plugin, [`LoadError`] for files |

mod cache;
mod chain;
mod cni;
mod embedded;
mod error;
mod file;
mod invocation;
mod invoke;
mod load;
mod netns;
mod process;
mod request;

pub use cache::CachedAttachment;
pub use cni::{Attachment, Cni, DEFAULT_CACHE_DIR, Step};
pub use cni_spec::{self, AttachmentId, NetworkConfig};
pub use embedded::{Embedded, Run};
pub use error::{CacheAction, CacheFailure, Error, PluginFailure};
pub use file::MAX_FILE;
pub use invocation::{Added, Invocation, Reply, TraceContext};
pub use invoke::{Invoke, nearest};
pub use load::{LoadError, config_files, load, load_file};
pub use process::{BUSY_GRACE, MAX_STDERR, MAX_STDOUT, OUTPUT_GRACE, Process};
