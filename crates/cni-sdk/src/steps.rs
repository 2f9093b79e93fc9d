//! Steps that several plugins take: what is between a request's words and the kernel's.
//!
//! | step | is |
//! |---|---|
//! | [`names`] | what everything that outlives a container's namespace is called |
//! | [`veth`], [`Veth`] | a pair of links with one end in the container |
//! | [`configure`] | a result's addresses and routes on the container's interface |
//! | [`compare`] | a result against the kernel, for CHECK |
//! | [`masquerade`] | the container's packets to the world come from an address of the host |
//! | [`forwarding`] | the host passes packets on |
//! | [`describe`] and its kin | interfaces of the kernel as those of a result |
//! | [`DnsKey`] | whose DNS ends up in the result |
//! | [`all`] | several steps, of which each is attempted whatever becomes of the others |

pub mod compare;
mod dns;
pub mod forwarding;
mod interface;
pub mod masquerade;
pub mod names;
pub mod veth;

use cni_linux::{Errno, Netns};
use cni_spec::Result;

pub use dns::DnsKey;
pub use interface::{
    Configuration, Dad, Subnets, addresses, configure, container_interface, describe, host_interface,
};
pub use veth::{Veth, VethSpec};

/// The outcome of steps that have all been attempted: success, or the first error with the others in its details.
///
/// ```
/// use cni_sdk::{Error, steps};
///
/// let failed = steps::all([Ok(()), Err(Error::failed("no link")), Err(Error::failed("no chain"))]);
/// assert_eq!(failed.unwrap_err().to_string(), "no link; and then: no chain");
/// ```
///
/// # Errors
/// The first, if there is any.
pub fn all(outcomes: impl IntoIterator<Item = Result<()>>) -> Result<()> {
    let mut errors = outcomes.into_iter().filter_map(Result::err);
    let Some(first) = errors.next() else { return Ok(()) };
    Err(errors.fold(first, |first, next| first.with_details(format!("and then: {next}"))))
}

/// Gives kernel parameters these values that are good to have, and no reason to fail where there are no such parameters (a
/// kernel without IPv6) or they must not be written (`/proc/sys` is read-only).
///
/// # Errors
/// Any other reason.
pub fn write_unless_refused(netns: &Netns, values: &[(&str, &str)]) -> Result<()> {
    match netns.ensure_sysctls(values) {
        Err(e) if e.is_gone() || e.is_denied() || e.errno() == Some(Errno::ROFS) => Ok(()),
        outcome => Ok(outcome?),
    }
}

/// An answer about what there is in nf_tables; nothing of it where the kernel has no nf_tables.
///
/// # Errors
/// Any other that the kernel gave.
pub fn without_nftables<T: Default>(asked: cni_linux::Result<T>) -> Result<T> {
    match asked {
        // The latter is nfnetlink's answer where only the module nf_tables is missing.
        Err(e) if e.is_unsupported() || e.errno() == Some(Errno::INVAL) => Ok(T::default()),
        answer => Ok(answer?),
    }
}
