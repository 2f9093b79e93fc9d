//! Plugins as functions: a table instead of executables, for a runtime that has them linked in.

use std::sync::Arc;

use cni_spec::Error;

use crate::invoke::{Searched, check_type, not_found};
use crate::{Invocation, Invoke, Reply};

/// A plugin as a function. The second argument is the way to its delegates.
pub type Run = fn(&Invocation, Arc<dyn Invoke>) -> Result<Reply, Error>;

/// Runs plugins that are part of this program, and others by another way if there is one. Cheap to clone.
#[derive(Clone)]
pub struct Embedded(Arc<Inner>);

struct Inner {
    table: Vec<(&'static str, Run)>,
    otherwise: Option<Box<dyn Invoke>>,
}

impl Embedded {
    /// Only what is in the table.
    pub fn new(table: impl IntoIterator<Item = (&'static str, Run)>) -> Self {
        Embedded(Arc::new(Inner { table: table.into_iter().collect(), otherwise: None }))
    }

    /// The table, and for what is not in it another way, usually a [`Process`](crate::Process).
    pub fn or_else(
        table: impl IntoIterator<Item = (&'static str, Run)>,
        otherwise: impl Invoke + 'static,
    ) -> Self {
        Embedded(Arc::new(Inner { table: table.into_iter().collect(), otherwise: Some(Box::new(otherwise)) }))
    }

    fn row(&self, plugin: &str) -> Option<Run> {
        self.0.table.iter().find(|(name, _)| *name == plugin).map(|(_, run)| *run)
    }

    fn missing(&self, plugin: &str) -> Error {
        let names = self.0.table.iter().map(|(name, _)| (*name).to_owned()).collect();
        not_found(plugin, &[Searched { folder: "this program".into(), plugins: Ok(names), instead: None }])
    }
}

impl Invoke for Embedded {
    fn find(&self, plugin: &str) -> Result<(), Error> {
        check_type(plugin)?;
        match (self.row(plugin), &self.0.otherwise) {
            (Some(_), _) => Ok(()),
            (None, Some(otherwise)) => otherwise.find(plugin),
            (None, None) => Err(self.missing(plugin)),
        }
    }

    fn invoke(&self, plugin: &str, invocation: &Invocation) -> Result<Reply, Error> {
        check_type(plugin)?;
        match (self.row(plugin), &self.0.otherwise) {
            (Some(run), _) => run(invocation, Arc::new(self.clone())),
            (None, Some(otherwise)) => otherwise.invoke(plugin, invocation),
            (None, None) => Err(self.missing(plugin)),
        }
    }

    /// A plugin requires CNI_PATH even if nothing is ever looked up in it.
    fn path(&self) -> &str {
        self.0.otherwise.as_ref().map_or("embedded", |o| o.path())
    }
}

impl std::fmt::Debug for Embedded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.table.iter().map(|(name, _)| name)).finish()
    }
}
