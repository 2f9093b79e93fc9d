//! The one error of this crate: what was being done, to what, and the kernel's own words.
//!
//! It is not an enumeration of everything that can go wrong: callers ask the few questions that matter
//! ([`Error::is_exists`], [`Error::is_gone`], …) and print the rest.

use std::borrow::Cow;
use std::fmt;

/// A Linux error number, as the kernel returned it.
pub use rustix::io::Errno;

/// What every function of this crate returns.
pub type Result<T> = std::result::Result<T, Error>;

/// A failed operation on the kernel.
///
/// Prints as `add link veth eth0: file exists (the kernel's extended acknowledgement)`. The words for error
/// numbers are this crate's own table and do not depend on the C library.
#[derive(Clone)]
pub struct Error(Box<Report>);

#[derive(Clone)]
struct Report {
    doing: Cow<'static, str>,
    what: String,
    cause: Cow<'static, str>,
    errno: Option<Errno>,
    said: Option<String>,
    attribute: Option<u16>,
    hint: Option<String>,
    injected: bool,
}

impl Error {
    /// What was being done: `add link`.
    pub fn doing(&self) -> &str {
        &self.0.doing
    }

    /// What it was done to: `veth eth0`. Empty where there is no object.
    pub fn what(&self) -> &str {
        &self.0.what
    }

    /// The kernel's error number, if it was the kernel that refused.
    pub fn errno(&self) -> Option<Errno> {
        self.0.errno
    }

    /// The words of the kernel's extended acknowledgement, if it sent any.
    pub fn said(&self) -> Option<&str> {
        self.0.said.as_deref()
    }

    /// The number of the attribute that the kernel objected to, if it said so (`IFLA_…`, `IFA_…`, `RTA_…`).
    pub fn attribute(&self) -> Option<u16> {
        self.0.attribute
    }

    /// The object to be made is there already (`EEXIST`).
    pub fn is_exists(&self) -> bool {
        self.errno() == Some(Errno::EXIST)
    }

    /// The object is not there, or not there any more (`ENOENT`, `ENODEV`, `ENXIO`, `ESRCH`).
    pub fn is_gone(&self) -> bool {
        matches!(self.errno(), Some(Errno::NOENT | Errno::NODEV | Errno::NXIO | Errno::SRCH))
    }

    /// The caller lacks a privilege (`EPERM`, `EACCES`).
    pub fn is_denied(&self) -> bool {
        matches!(self.errno(), Some(Errno::PERM | Errno::ACCESS))
    }

    /// This kernel cannot do it: the module or the option is missing (`EOPNOTSUPP`, `EAFNOSUPPORT`,
    /// `EPROTONOSUPPORT`, `ENOSYS`).
    pub fn is_unsupported(&self) -> bool {
        matches!(
            self.errno(),
            Some(Errno::OPNOTSUPP | Errno::AFNOSUPPORT | Errno::PROTONOSUPPORT | Errno::NOSYS)
        )
    }

    /// The failure was provoked by `testing::fail_at`.
    pub fn is_injected(&self) -> bool {
        self.0.injected
    }

    /// An error for which no error number says enough.
    pub(crate) fn new(
        doing: impl Into<Cow<'static, str>>,
        what: impl Into<String>,
        cause: impl Into<Cow<'static, str>>,
    ) -> Error {
        Error(Box::new(Report {
            doing: doing.into(),
            what: what.into(),
            cause: cause.into(),
            errno: None,
            said: None,
            attribute: None,
            hint: None,
            injected: false,
        }))
    }

    /// A failed system call.
    pub(crate) fn os(doing: impl Into<Cow<'static, str>>, what: impl Into<String>, errno: Errno) -> Error {
        Error::new(doing, what, errno_text(errno)).with_errno(errno)
    }

    /// A failed call of the standard library.
    pub(crate) fn io(
        doing: impl Into<Cow<'static, str>>,
        what: impl Into<String>,
        err: &std::io::Error,
    ) -> Error {
        match Errno::from_io_error(err) {
            Some(errno) => Error::os(doing, what, errno),
            None => Error::new(doing, what, err.to_string()),
        }
    }

    pub(crate) fn with_errno(mut self, errno: Errno) -> Error {
        self.0.errno = Some(errno);
        self
    }

    /// Replaces the words for the error number by better ones.
    pub(crate) fn with_cause(mut self, cause: impl Into<Cow<'static, str>>) -> Error {
        self.0.cause = cause.into();
        self
    }

    pub(crate) fn with_said(mut self, said: Option<String>, attribute: Option<u16>) -> Error {
        self.0.said = said;
        self.0.attribute = attribute;
        self
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Error {
        self.0.hint = Some(hint.into());
        self
    }

    #[cfg(feature = "testing")]
    pub(crate) fn injected(doing: impl Into<Cow<'static, str>>, what: impl Into<String>) -> Error {
        let mut error = Error::os(doing, what, Errno::IO).with_said(Some("injected fault".into()), None);
        error.0.injected = true;
        error
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { doing, what, cause, said, attribute, hint, .. } = &*self.0;
        f.write_str(doing)?;
        if !what.is_empty() {
            write!(f, " {what}")?;
        }
        write!(f, ": {cause}")?;
        match (said, attribute) {
            (Some(said), _) => write!(f, " ({said})")?,
            // Without words, the number of the attribute is all the kernel gave away.
            (None, Some(attribute)) => write!(f, " (attribute {attribute})")?,
            (None, None) => {}
        }
        match hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Error({self})")
    }
}

impl std::error::Error for Error {}

/// The words for an error number.
///
/// The C libraries disagree on these texts and people search logs for them, so they are fixed here, in the
/// spelling that Go programs print.
pub(crate) fn errno_text(errno: Errno) -> Cow<'static, str> {
    let number = errno.raw_os_error();
    match ERRNO_TEXTS.binary_search_by_key(&number, |(number, _)| *number) {
        Ok(at) => Cow::Borrowed(ERRNO_TEXTS[at].1),
        Err(_) => Cow::Owned(format!("errno {number}")),
    }
}

/// Sorted by number; `include/uapi/asm-generic/errno-base.h` and `errno.h`.
const ERRNO_TEXTS: &[(i32, &str)] = &[
    (1, "operation not permitted"),
    (2, "no such file or directory"),
    (3, "no such process"),
    (4, "interrupted system call"),
    (5, "input/output error"),
    (6, "no such device or address"),
    (7, "argument list too long"),
    (9, "bad file descriptor"),
    (11, "resource temporarily unavailable"),
    (12, "cannot allocate memory"),
    (13, "permission denied"),
    (14, "bad address"),
    (16, "device or resource busy"),
    (17, "file exists"),
    (18, "invalid cross-device link"),
    (19, "no such device"),
    (20, "not a directory"),
    (21, "is a directory"),
    (22, "invalid argument"),
    (23, "too many open files in system"),
    (24, "too many open files"),
    (25, "inappropriate ioctl for device"),
    (26, "text file busy"),
    (27, "file too large"),
    (28, "no space left on device"),
    (30, "read-only file system"),
    (31, "too many links"),
    (32, "broken pipe"),
    (34, "numerical result out of range"),
    (35, "resource deadlock avoided"),
    (36, "file name too long"),
    (38, "function not implemented"),
    (39, "directory not empty"),
    (40, "too many levels of symbolic links"),
    (61, "no data available"),
    (62, "timer expired"),
    (71, "protocol error"),
    (74, "bad message"),
    (75, "value too large for defined data type"),
    (76, "name not unique on network"),
    (87, "too many users"),
    (88, "socket operation on non-socket"),
    (89, "destination address required"),
    (90, "message too long"),
    (91, "protocol wrong type for socket"),
    (92, "protocol not available"),
    (93, "protocol not supported"),
    (94, "socket type not supported"),
    (95, "operation not supported"),
    (96, "protocol family not supported"),
    (97, "address family not supported by protocol"),
    (98, "address already in use"),
    (99, "cannot assign requested address"),
    (100, "network is down"),
    (101, "network is unreachable"),
    (102, "network dropped connection on reset"),
    (103, "software caused connection abort"),
    (104, "connection reset by peer"),
    (105, "no buffer space available"),
    (106, "transport endpoint is already connected"),
    (107, "transport endpoint is not connected"),
    (108, "cannot send after transport endpoint shutdown"),
    (109, "too many references: cannot splice"),
    (110, "connection timed out"),
    (111, "connection refused"),
    (112, "host is down"),
    (113, "no route to host"),
    (114, "operation already in progress"),
    (115, "operation now in progress"),
    (122, "disk quota exceeded"),
    (125, "operation canceled"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_what_was_done_and_why_it_failed() {
        let error =
            Error::os("add link", "veth eth0", Errno::EXIST).with_said(Some("name is taken".into()), Some(3));
        assert_eq!(error.to_string(), "add link veth eth0: file exists (name is taken)");
        assert!(error.is_exists() && !error.is_gone());
    }

    #[test]
    fn names_the_attribute_only_when_the_kernel_has_no_words() {
        let error = Error::os("add address", "1.2.3.4/40", Errno::INVAL).with_said(None, Some(2));
        assert_eq!(error.to_string(), "add address 1.2.3.4/40: invalid argument (attribute 2)");
    }

    #[test]
    fn leaves_out_an_empty_object_and_appends_the_hint() {
        let error = Error::os("create namespaces", "", Errno::PERM).with_hint("set the sysctl x to 1");
        assert_eq!(error.to_string(), "create namespaces: operation not permitted; set the sysctl x to 1");
    }

    #[test]
    fn error_numbers_have_the_same_words_everywhere() {
        assert!(ERRNO_TEXTS.is_sorted_by_key(|(number, _)| *number));
        assert_eq!(errno_text(Errno::NOENT), "no such file or directory");
        assert_eq!(errno_text(Errno::OPNOTSUPP), "operation not supported");
        assert_eq!(errno_text(Errno::from_raw_os_error(524)), "errno 524");
    }

    #[test]
    fn gone_means_one_of_four_errors() {
        for errno in [Errno::NOENT, Errno::NODEV, Errno::NXIO, Errno::SRCH] {
            assert!(Error::os("look up link", "x", errno).is_gone());
        }
        assert!(!Error::os("look up link", "x", Errno::INVAL).is_gone());
        assert!(!Error::new("look up link", "x", "whatever").is_gone());
    }
}
