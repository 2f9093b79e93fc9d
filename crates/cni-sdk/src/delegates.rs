//! How a plugin that runs as a process reaches its delegates: what CNI_PATH leads to, but as a function where it
//! leads back to this very program.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use cni_spec::Error;
use libcni::{Invocation, Invoke, Process, Reply};

use crate::plugin::Entry;

/// The way to delegates for a process. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Delegates {
    process: Arc<Process>,
    plugins: &'static [Entry],
}

impl Delegates {
    /// `path` is CNI_PATH; `plugins` is what this program is.
    pub(crate) fn new(path: &str, plugins: &'static [Entry]) -> Self {
        Delegates { process: Arc::new(Process::search(path.split(":"))), plugins }
    }

    /// The function for a plugin whose file is this program's own; nothing where it is any other file.
    ///
    /// # Errors
    /// A plugin that is this program, but not one of those it says it is: it would call itself for ever.
    fn own(&self, plugin: &str) -> Result<Option<&'static Entry>, Error> {
        let identity = |path: &Path| std::fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
        let found = self.process.locate(plugin)?;
        if identity(&found) != identity(Path::new("/proc/self/exe")) {
            return Ok(None);
        }
        match self.plugins.iter().find(|e| e.name == plugin) {
            Some(entry) => Ok(Some(entry)),
            None => Err(Error::failed(format!("plugin {plugin} at {} delegates to itself", found.display()))),
        }
    }
}

impl Invoke for Delegates {
    fn find(&self, plugin: &str) -> Result<(), Error> {
        self.process.find(plugin)
    }

    fn invoke(&self, plugin: &str, invocation: &Invocation) -> Result<Reply, Error> {
        match self.own(plugin)? {
            Some(entry) => (entry.run)(invocation, Arc::new(self.clone())),
            None => self.process.invoke(plugin, invocation),
        }
    }

    fn path(&self) -> &str {
        self.process.path()
    }
}
