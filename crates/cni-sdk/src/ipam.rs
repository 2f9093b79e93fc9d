//! Delegation to the network's IPAM plugin (spec §4): the same parameters, the same configuration, another file.
//!
//! A delegate whose ADD fails with an error of its own has undone itself, so it gets no DEL, although spec §4 asks for one:
//! the reference never sends it, and for an ADD that came twice it would release the address of the healthy attachment.
//! One that ended without a word that could be understood gets its DEL, for nobody knows what it did; and one whose ADD
//! succeeded is released by the undo if anything later fails.
//!
//! A plugin never delegates to itself: an IPAM plugin is given the whole configuration, in which it is the IPAM plugin, and
//! would go on for ever.

use cni_linux::Undo;
use cni_spec::{AddResult, Code, Command, Doing, Error, Result};
use libcni::{Invocation, Reply};

use crate::Network;

impl Network {
    /// The `type` in the configuration's `ipam` section; empty where there is none.
    pub fn ipam_type(&self) -> &str {
        &self.ipam_type
    }

    /// Whether the configuration names an IPAM plugin, other than this plugin itself.
    pub fn has_ipam(&self) -> bool {
        !self.ipam_type.is_empty() && *self.ipam_type != *self.plugin
    }

    /// Asks for addresses; they are given back by the undo.
    ///
    /// # Errors
    /// The IPAM plugin's own, with its code; what [`libcni::Invoke::invoke`] says where it cannot be run.
    #[doc(alias("ExecAdd", "DelegateAdd"))]
    pub fn ipam_add(&self, undo: &mut Undo) -> Result<AddResult> {
        let result = match self.ipam(Command::Add) {
            Ok(reply) => reply.added()?.result,
            Err(error) if error.code == Code::UNKNOWN => {
                let released = self.ipam_del();
                return Err(
                    released.map_or_else(|e| error.clone().with_details(e.to_string()), |()| error.clone())
                );
            }
            Err(error) => return Err(error),
        };
        let net = self.clone();
        undo.push(format!("addresses from {}", self.ipam_type), move || {
            net.ipam_del().map_err(|e| e.to_string().into())
        });
        Ok(result)
    }

    /// Gives the attachment's addresses back; a network without IPAM has none.
    ///
    /// # Errors
    /// As for [`Network::ipam_add`].
    #[doc(alias("ExecDel", "DelegateDel"))]
    pub fn ipam_del(&self) -> Result<()> {
        self.ipam_unless_none(Command::Del)
    }

    /// Has the addresses checked; without IPAM there is nothing to check.
    ///
    /// # Errors
    /// As for [`Network::ipam_add`].
    #[doc(alias("ExecCheck", "DelegateCheck"))]
    pub fn ipam_check(&self) -> Result<()> {
        self.ipam_unless_none(Command::Check)
    }

    /// Has the addresses of dead attachments freed.
    ///
    /// # Errors
    /// As for [`Network::ipam_add`].
    #[doc(alias = "DelegateGC")]
    pub fn ipam_gc(&self) -> Result<()> {
        self.ipam_unless_none(Command::Gc)
    }

    /// Asks whether there are addresses to give.
    ///
    /// # Errors
    /// As for [`Network::ipam_add`].
    #[doc(alias("ExecStatus", "DelegateStatus"))]
    pub fn ipam_status(&self) -> Result<()> {
        self.ipam_unless_none(Command::Status)
    }

    fn ipam_unless_none(&self, command: Command) -> Result<()> {
        if self.has_ipam() { self.ipam(command).map(|_| ()) } else { Ok(()) }
    }

    fn ipam(&self, command: Command) -> Result<Reply> {
        if self.ipam_type.is_empty() {
            return Err(Error::failed("no plugin name provided").with_details("ipam.type is missing"));
        }
        if !self.has_ipam() {
            let text = format!("plugin {} is told to get addresses from itself", self.plugin);
            return Err(Error::new(Code::INVALID_CONFIG, text).with_details("ipam.type names an IPAM plugin"));
        }
        let invocation = Invocation { command: command.to_string(), ..(*self.invocation).clone() };
        self.delegates
            .invoke(&self.ipam_type, &invocation)
            .doing(format_args!("delegating {command} to the IPAM plugin {}", self.ipam_type))
    }
}
