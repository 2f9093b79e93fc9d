//! Network namespaces: open ones, new ones, and a thread inside one.
//!
//! Whoever calls is in the same namespace before and after, and no code but this crate's runs in between. Requests go
//! through netlink sockets, which belong to the namespace that they were opened in. To open sockets there, and for
//! `/proc/sys`, the calling thread goes and comes back, because a thread of its own costs more than everything else that
//! a small plugin does. Whatever else looks at the namespace of its thread (`/dev/net/tun`, child processes, code that
//! is not ours) gets such a thread.

use std::fmt;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;

use rustix::fs::{FsWord, Mode, OFlags, PROC_SUPER_MAGIC};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use crate::error::{Errno, Error, Result, errno_text};
use crate::netlink::Socket;
use crate::sandbox::unshare;

/// The calling thread's own namespace. Not `/proc/self`, which is that of the main thread.
const OWN: &str = "/proc/thread-self/ns/net";

/// `include/uapi/linux/magic.h`.
const NSFS_MAGIC: FsWord = 0x6e73_6673;

/// Enough for a handful of system calls and the thread-local data of whatever program this is part of; a thread that
/// does nothing else need not map megabytes.
const SMALL_STACK: usize = 128 * 1024;

/// An open network namespace: a descriptor, and one rtnetlink socket that was opened inside. An nfnetlink socket is
/// opened there when it is first needed.
///
/// Clones share them. The namespace lives at least as long as they do, even if nothing else refers to it.
#[derive(Clone)]
#[doc(alias = "NetNS")]
pub struct Netns(Arc<Open>);

struct Open {
    namespace: OwnedFd,
    /// Device and inode of the namespace, which is its identity.
    identity: (u64, u64),
    path: Option<PathBuf>,
    socket: Mutex<Socket>,
    netfilter: Mutex<Option<Socket>>,
}

impl Netns {
    /// The namespace of the calling thread.
    pub fn current() -> Result<Netns> {
        let failed = |err: &std::io::Error| Error::io("open own netns", "", err);
        let namespace = File::open(OWN).map_err(|err| failed(&err))?;
        let identity = identity(&namespace).map_err(|err| failed(&err))?;
        let socket = Socket::open().map_err(|err| Error::io("open netlink socket", "", &err))?;
        Ok(Netns::assemble(namespace.into(), identity, None, socket))
    }

    /// The namespace at `path`: a bind mount as in `/run/netns`, or `/proc/<pid>/ns/net`.
    ///
    /// # Errors
    ///
    /// If the path does not exist (as for the empty path) or is on a file system that holds no namespaces, if it is
    /// not a network namespace, or if the caller may not enter it (`CAP_SYS_ADMIN`).
    #[doc(alias = "GetNS")]
    pub fn open(path: impl AsRef<Path>) -> Result<Netns> {
        let path = path.as_ref();
        match look_at(path) {
            Ok(Found::Namespace) => Netns::open_namespace(path),
            Ok(Found::Other(magic)) => {
                Err(failed_to_open(path, format!("unknown FS magic on {path:?}: {magic:x}")))
            }
            Err(errno) => Err(failed_to_statfs(path, errno)),
        }
    }

    /// Like [`Netns::open`], but a namespace that is gone is no error.
    ///
    /// Gone means: there is no path, nothing is there, or what is there is no longer a namespace, as the plain file
    /// that is left when a namespace has been unmounted.
    pub fn open_if_exists(path: Option<&Path>) -> Result<Option<Netns>> {
        let Some(path) = path else { return Ok(None) };
        match look_at(path) {
            Ok(Found::Namespace) => match Netns::open_namespace(path) {
                Err(gone) if gone.is_gone() => Ok(None),
                opened => opened.map(Some),
            },
            Ok(Found::Other(_)) | Err(Errno::NOENT | Errno::NOTDIR | Errno::SRCH) => Ok(None),
            Err(errno) => Err(failed_to_statfs(path, errno)),
        }
    }

    /// A new namespace, with nothing but a loopback interface that is down (`ip netns add`, `unshare --net`).
    ///
    /// It is mounted nowhere and leaves nothing behind: it goes when the last clone of the value does.
    /// [`path`](Netns::path) names it for other processes, by way of this one, until then.
    pub fn temporary() -> Result<Netns> {
        let failed = |err: &std::io::Error| Error::io("create netns", "", err);
        let made = on_a_thread(SMALL_STACK, || {
            unshare(UnshareFlags::NEWNET)?;
            let namespace = File::open(OWN)?;
            let identity = identity(&namespace)?;
            Ok((namespace, identity, Socket::open()?))
        });
        let made: std::io::Result<_> = made.map_err(|err| failed(&err))?;
        let (namespace, identity, socket) = made.map_err(|err| failed(&err))?;
        let namespace = OwnedFd::from(namespace);
        let number = namespace.as_raw_fd();
        let path = PathBuf::from(format!("/proc/{}/fd/{number}", std::process::id()));
        Ok(Netns::assemble(namespace, identity, Some(path), socket))
    }

    /// Whether `path` is the namespace of the calling thread. A path that cannot be looked at is not.
    #[doc(alias = "CheckNetNS")]
    pub fn is_current(path: impl AsRef<Path>) -> Result<bool> {
        let own = std::fs::metadata(OWN).map_err(|err| Error::io("get plugin's netns failed", "", &err))?;
        let same = |other: &std::fs::Metadata| (own.dev(), own.ino()) == (other.dev(), other.ino());
        Ok(std::fs::metadata(path).is_ok_and(|other| same(&other)))
    }

    /// Where the namespace was opened, or can be opened by others. Unknown for [`Netns::current`].
    pub fn path(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }

    /// Whether both are the same namespace, however they were opened.
    pub fn is_same_as(&self, other: &Netns) -> bool {
        self.0.identity == other.0.identity
    }

    /// Runs `work` on a thread of its own, inside the namespace, and waits for it (`ip netns exec`).
    ///
    /// For what looks at the namespace of its thread. Everything that has a method here is better done by that.
    /// A panic in `work` goes on in the caller.
    ///
    /// # Errors
    ///
    /// If the thread cannot be started or may not enter the namespace; `work` has not run then.
    #[doc(alias = "Do")]
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        #[cfg(feature = "testing")]
        let work = crate::testing::fault::inherited(work);
        let entered = on_a_thread(None, || enter(self.as_fd()).map(|()| work()));
        let entered = entered.map_err(|err| Error::io("start thread in netns", self.to_string(), &err))?;
        entered.map_err(|errno| Error::os("Error switching to ns", self.to_string(), errno))
    }

    /// The socket, for the length of one conversation with the kernel.
    pub(crate) fn socket(&self) -> MutexGuard<'_, Socket> {
        // A panic between two requests leaves nothing but unread answers, which the next request passes over.
        self.0.socket.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds one conversation with netfilter.
    pub(crate) fn netfilter<T>(&self, talk: impl FnOnce(&mut Socket) -> Result<T>) -> Result<T> {
        let mut socket = self.0.netfilter.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(socket) = &mut *socket {
            return talk(socket);
        }
        let opened = self.visit(Socket::open_netfilter)?;
        let opened = opened.map_err(|err| Error::io("open netfilter socket in", self.to_string(), &err))?;
        talk(socket.insert(opened))
    }

    /// Runs `work`, which starts a child process, where the child is to be: on a thread of its own, unless the calling one
    /// is there already.
    pub(crate) fn run_child<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let own = std::fs::metadata(OWN).map_err(|err| Error::io("get own netns", "", &err))?;
        if (own.dev(), own.ino()) == self.0.identity { Ok(work()) } else { self.run(work) }
    }

    /// Runs `work`, which is this crate's own and short, in the namespace: on the calling thread, if that may be.
    pub(crate) fn visit<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let failed = |err: &std::io::Error| Error::io("visit netns", self.to_string(), err);
        let own = File::open(OWN).map_err(|err| failed(&err))?;
        if identity(&own).map_err(|err| failed(&err))? == self.0.identity {
            return Ok(work());
        }
        let entered = inside(self.as_fd(), own, work).map_err(|err| failed(&err))?;
        entered.map_err(|errno| Error::os("Error switching to ns", self.to_string(), errno))
    }

    fn open_namespace(path: &Path) -> Result<Netns> {
        let opened = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let namespace = opened.map_err(|errno| {
            failed_to_open(path, format!("open {}: {}", path.display(), errno_text(errno))).with_errno(errno)
        })?;
        let failed = |err: &std::io::Error| Error::io("failed to open netns", format!("{path:?}"), err);
        let namespace = File::from(namespace);
        let identity = identity(&namespace).map_err(|err| failed(&err))?;
        let own = File::open(OWN).map_err(|err| failed(&err))?;
        let opened = inside(namespace.as_fd(), own, Socket::open).map_err(|err| failed(&err))?;
        let socket = opened.map_err(|errno| {
            let cause = format!("Error switching to ns {}: {}", path.display(), errno_text(errno));
            failed_to_open(path, cause).with_errno(errno)
        })?;
        let socket = socket.map_err(|err| failed(&err))?;
        Ok(Netns::assemble(namespace.into(), identity, Some(path.to_owned()), socket))
    }

    fn assemble(namespace: OwnedFd, identity: (u64, u64), path: Option<PathBuf>, socket: Socket) -> Netns {
        let (socket, netfilter) = (Mutex::new(socket), Mutex::new(None));
        Netns(Arc::new(Open { namespace, identity, path, socket, netfilter }))
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.namespace.as_fd()
    }
}

impl fmt::Display for Netns {
    /// The path if there is one, else what `readlink` shows for it: `net:[4026531840]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path() {
            Some(path) => path.display().fmt(f),
            None => write!(f, "net:[{}]", self.0.identity.1),
        }
    }
}

impl fmt::Debug for Netns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Netns({self})")
    }
}

/// What a path turned out to be.
enum Found {
    Namespace,
    /// On a file system with this magic number, which holds no namespaces.
    Other(FsWord),
}

fn look_at(path: &Path) -> rustix::io::Result<Found> {
    let magic = rustix::fs::statfs(path)?.f_type;
    // Before Linux 3.19 namespaces were files of procfs.
    let holds_namespaces = magic == NSFS_MAGIC || magic == PROC_SUPER_MAGIC;
    Ok(if holds_namespaces { Found::Namespace } else { Found::Other(magic) })
}

fn failed_to_open(path: &Path, cause: String) -> Error {
    Error::new("failed to open netns", format!("{path:?}"), cause)
}

fn failed_to_statfs(path: &Path, errno: Errno) -> Error {
    failed_to_open(path, format!("failed to Statfs {path:?}: {}", errno_text(errno))).with_errno(errno)
}

fn identity(namespace: &File) -> std::io::Result<(u64, u64)> {
    let metadata = namespace.metadata()?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Does `work` inside the namespace: `Err` if that is impossible, `Ok(Err)` if the namespace cannot be entered.
///
/// The calling thread goes there and comes back to `own`, the namespace that it is in. Before it goes it enters that one:
/// the kernel asks the same capabilities for that as for coming back, so it says beforehand whether the way back is open. It
/// may be closed for a process in a user namespace of its own that is still in the machine's network; a thread that need
/// not come back goes in its place then.
fn inside<T: Send>(
    namespace: BorrowedFd<'_>,
    own: File,
    work: impl FnOnce() -> T + Send,
) -> std::io::Result<rustix::io::Result<T>> {
    if enter(own.as_fd()).is_err() {
        #[cfg(feature = "testing")]
        let work = crate::testing::fault::inherited(work);
        return on_a_thread(SMALL_STACK, || enter(namespace).map(|()| work()));
    }
    if let Err(errno) = enter(namespace) {
        return Ok(Err(errno));
    }
    let way_back = WayBack(own);
    let done = work();
    drop(way_back);
    Ok(Ok(done))
}

/// Brings the thread back to its namespace when it is dropped, also by a panic.
struct WayBack(File);

impl Drop for WayBack {
    #[allow(
        clippy::disallowed_methods,
        reason = "a thread in a namespace that is not its own would change what it must not"
    )]
    fn drop(&mut self) {
        if enter(self.0.as_fd()).is_err() {
            std::process::abort();
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "called by this file only, which sees to the way back")]
fn enter(namespace: BorrowedFd<'_>) -> rustix::io::Result<()> {
    move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))
}

/// Runs `work` on a thread that may do to itself what it likes, because it ends afterwards.
fn on_a_thread<T: Send>(
    stack: impl Into<Option<usize>>,
    work: impl FnOnce() -> T + Send,
) -> std::io::Result<T> {
    let builder = Builder::new().name("netns".into());
    let builder = match stack.into() {
        Some(stack) => builder.stack_size(stack),
        None => builder,
    };
    std::thread::scope(|scope| {
        let thread = builder.spawn_scoped(scope, work)?;
        Ok(thread.join().unwrap_or_else(|panic| resume_unwind(panic)))
    })
}
