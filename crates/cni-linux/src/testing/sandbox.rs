//! What a test gets: a host of its own, and containers.
//!
//! Not isolation from files and processes: those are the machine's.

use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use super::Snapshot;
use crate::error::Result;
use crate::netns::Netns;

/// A network namespace of a test's own, which it can take for the host's, and from which it can make containers.
///
/// The thread of the test is in the host's namespace, so that [`Netns::current`] is the host.
pub struct Sandbox {
    host: Netns,
    containers: Mutex<Vec<Netns>>,
}

impl Sandbox {
    /// The namespace of the test's thread. Nothing in it but a loopback interface that is down.
    pub fn host(&self) -> &Netns {
        &self.host
    }

    /// A new namespace, nothing in it but a loopback interface that is down. Its
    /// [`path`](Netns::path) can be given to child processes.
    ///
    /// # Panics
    ///
    /// If the kernel refuses.
    pub fn container(&self) -> Netns {
        let container = Netns::temporary().expect("namespaces can be made inside the sandbox");
        self.containers.lock().unwrap_or_else(PoisonError::into_inner).push(container.clone());
        container
    }

    /// The sandbox of a thread that is in a namespace of its own.
    pub(super) fn here() -> Result<Sandbox> {
        Ok(Sandbox { host: Netns::current()?, containers: Mutex::default() })
    }

    /// What is configured in the host and in all containers, for whoever has to find out why a test failed.
    pub(super) fn state(&self) -> String {
        let mut state = String::new();
        let containers = self.containers.lock().unwrap_or_else(PoisonError::into_inner);
        let host = std::iter::once(("host".to_owned(), &self.host));
        let numbered = containers.iter().zip(1..).map(|(netns, nth)| (format!("container {nth}"), netns));
        for (name, netns) in host.chain(numbered) {
            let lines = match Snapshot::take(netns) {
                Ok(snapshot) => snapshot.to_string(),
                Err(error) => format!("cannot be looked at: {error}"),
            };
            // Writing to a string cannot fail.
            let _ = write!(state, "\n{name} ({netns}):\n");
            for line in lines.lines() {
                let _ = writeln!(state, "    {line}");
            }
        }
        state
    }
}
