//! The unix socket that the agent serves on: made safely, or a clear word why not.
//!
//! The socket is readable for its owner only (0600) from the moment it exists. Which agent owns the path is decided by a
//! lock on `PATH.lock`, held while the agent lives and released by the kernel however it ends; a socket that is left
//! without a living owner is replaced. Nothing that is not a socket is ever removed.

use std::{
    fs,
    io::{self, ErrorKind},
    os::{
        fd::OwnedFd,
        unix::{
            ffi::OsStrExt as _,
            fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _},
            net::UnixListener,
        },
    },
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::{
    fs::{FlockOperation, Mode, OFlags},
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType},
};
use tokio::{net::UnixStream, time::timeout};

/// Where the agent serves if nothing else is configured.
pub const DEFAULT_PATH: &str = "/run/monitor/monitor.sock";
/// Bytes of a path that fit into `sockaddr_un.sun_path` with its terminating zero, see unix(7).
pub const MAX_PATH_BYTES: usize = 107;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;
/// How long a socket that is there already may take to show whether somebody serves on it.
const PROBE: Duration = Duration::from_secs(1);

/// Why the socket could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The path does not fit into a socket address.
    #[error("socket path {path:?} has {bytes} bytes, but at most {MAX_PATH_BYTES} are possible: choose a shorter one")]
    PathTooLong {
        /// The path.
        path: PathBuf,
        /// Its length.
        bytes: usize,
    },
    /// The path names no file.
    #[error("socket path {0:?} must name a file in a directory, such as {DEFAULT_PATH}")]
    NoFileName(PathBuf),
    /// The directory is missing, and so is the one above.
    #[error("cannot create the socket {path:?}: the directory {directory:?} does not exist: create it first")]
    NoDirectory {
        /// The socket.
        path: PathBuf,
        /// What is missing.
        directory: PathBuf,
    },
    /// The directory does not take the socket.
    #[error(
        "cannot create the socket {path:?}: {source}: run as root, or choose a path in a directory that you can write to"
    )]
    NotWritable {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Somebody serves there.
    #[error("another agent is serving on {path:?}{}: stop it, or choose another path", by(*pid))]
    Occupied {
        /// The socket.
        path: PathBuf,
        /// Who, if the kernel tells (not across pid namespaces).
        pid: Option<i32>,
    },
    /// Something else has this name.
    #[error("{0:?} exists and is not a socket: remove it yourself, or choose another path")]
    NotASocket(PathBuf),
    /// Anything else.
    #[error("cannot create the socket {path:?}: {source}")]
    Io {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

fn by(pid: Option<i32>) -> String {
    pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
}

impl BindError {
    fn io(path: &Path, error: impl Into<io::Error>) -> Self {
        let (path, source) = (path.to_owned(), error.into());
        match source.kind() {
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => BindError::NotWritable { path, source },
            _ => BindError::Io { path, source },
        }
    }
}

/// A listening socket and its place in the file system, which is given back when it is dropped.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of what was bound, so that nothing else is removed.
    identity: (u64, u64),
    lock: Lock,
}

impl Socket {
    /// Binds `path` and listens there. Needs a tokio runtime.
    pub async fn bind(path: &Path) -> Result<Socket, BindError> {
        let bytes = path.as_os_str().as_bytes().len();
        if bytes > MAX_PATH_BYTES {
            return Err(BindError::PathTooLong { path: path.to_owned(), bytes });
        }
        make_directory(path)?;
        let Some(lock) = Lock::take(path).map_err(|error| BindError::io(path, error))? else {
            let pid = probe(path).await.ok().flatten().flatten();
            return Err(BindError::Occupied { path: path.to_owned(), pid });
        };
        let made = match clear(path).await {
            Ok(()) => listen(path).map_err(|error| BindError::io(path, error)),
            Err(error) => Err(error),
        };
        match made {
            Ok((listener, identity)) => Ok(Socket { listener, path: path.to_owned(), identity, lock }),
            Err(error) => {
                lock.remove();
                Err(error)
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The listener, for the runtime that calls.
    pub fn listener(&self) -> io::Result<tokio::net::UnixListener> {
        tokio::net::UnixListener::from_std(self.listener.try_clone()?)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            // Who removed it meanwhile has done what is wanted here.
            let _ = fs::remove_file(&self.path);
        }
        self.lock.remove();
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Makes the socket's directory if only that one is missing: `/run/monitor` is gone after every boot.
fn make_directory(path: &Path) -> Result<(), BindError> {
    let directory = match (path.file_name(), path.parent()) {
        (Some(_), Some(directory)) if directory.as_os_str().is_empty() => return Ok(()),
        (Some(_), Some(directory)) => directory,
        _ => return Err(BindError::NoFileName(path.to_owned())),
    };
    match fs::DirBuilder::new().mode(0o755).create(directory) {
        Ok(()) => Ok(()),
        // Whatever it is that exists: making the lock tells, and names the path.
        Err(_) if directory.exists() => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Err(BindError::NoDirectory { path: path.to_owned(), directory: directory.to_owned() })
        }
        Err(error) => Err(BindError::io(path, error)),
    }
}

/// Makes way at `path`: removes a socket that nobody serves on, refuses everything else.
async fn clear(path: &Path) -> Result<(), BindError> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(BindError::io(path, error)),
    };
    if !metadata.file_type().is_socket() {
        return Err(BindError::NotASocket(path.to_owned()));
    }
    match probe(path).await {
        Ok(Some(pid)) => Err(BindError::Occupied { path: path.to_owned(), pid }),
        Ok(None) => fs::remove_file(path).map_err(|error| BindError::io(path, error)),
        Err(error) => Err(BindError::io(path, error)),
    }
}

/// Whether somebody listens at `path`, and who: the kernel remembers who called listen(2).
async fn probe(path: &Path) -> io::Result<Option<Option<i32>>> {
    match timeout(PROBE, UnixStream::connect(path)).await {
        Ok(Ok(stream)) => Ok(Some(stream.peer_cred().ok().and_then(|peer| peer.pid()).filter(|pid| *pid > 0))),
        Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => Ok(None),
        // Its backlog is full: it lives, if not well.
        Ok(Err(error)) if error.kind() == ErrorKind::WouldBlock => Ok(Some(None)),
        Err(_) => Ok(Some(None)),
        Ok(Err(error)) => Err(error),
    }
}

/// Binds and listens. bind(2) gives the file the mode of the socket's own inode (`unix_bind_bsd` in Linux's
/// `net/unix/af_unix.c`), so setting that first leaves no moment in which others could connect, and needs no umask, which
/// is the whole process's.
fn listen(path: &Path) -> io::Result<(UnixListener, (u64, u64))> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    let identity = identity(path)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok((UnixListener::from(socket), identity))
}

/// The right to a path: an exclusive flock(2) on the file beside it.
#[derive(Debug)]
struct Lock {
    path: PathBuf,
    /// Open is locked.
    _file: OwnedFd,
}

impl Lock {
    /// `None` if somebody else has it.
    fn take(socket: &Path) -> io::Result<Option<Lock>> {
        // Each turn is one agent that ended in between; more than a few mean that something else is wrong.
        const TURNS: usize = 16;
        let mut path = socket.as_os_str().to_owned();
        path.push(".lock");
        let path = PathBuf::from(path);
        for _ in 0..TURNS {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            let file = rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR)?;
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
            // The owner before removes the file while it holds the lock: a lock on a removed file is worth nothing.
            if rustix::fs::fstat(&file)?.st_nlink > 0 {
                return Ok(Some(Lock { path, _file: file }));
            }
        }
        Ok(None)
    }

    /// Removes the file, while the lock is held. Dropping the lock then releases it.
    fn remove(&self) {
        // A file that is left is no lock: the next agent takes it over.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn directory() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[tokio::test]
    async fn the_socket_is_its_owners_alone_and_goes_with_it() {
        let directory = directory();
        let path = directory.path().join("monitor").join("monitor.sock");
        let socket = Socket::bind(&path).await.unwrap();
        let metadata = fs::metadata(&path).unwrap();
        assert!(metadata.file_type().is_socket());
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
        assert_eq!(socket.path(), path);
        UnixStream::connect(&path).await.unwrap();
        drop(socket);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_second_agent_is_told_who_is_first() {
        let directory = directory();
        let path = directory.path().join("a.sock");
        let first = Socket::bind(&path).await.unwrap();
        let error = Socket::bind(&path).await.unwrap_err();
        let pid = std::process::id();
        assert_eq!(
            error.to_string(),
            format!("another agent is serving on {path:?} (pid {pid}): stop it, or choose another path")
        );
        UnixStream::connect(&path).await.unwrap();
        drop(first);
        Socket::bind(&path).await.unwrap();
    }

    #[tokio::test]
    async fn a_server_without_our_lock_is_left_alone_too() {
        let directory = directory();
        let path = directory.path().join("a.sock");
        let _foreign = UnixListener::bind(&path).unwrap();
        let error = Socket::bind(&path).await.unwrap_err();
        assert!(matches!(error, BindError::Occupied { pid: Some(_), .. }), "{error}");
        assert!(path.exists());
        assert!(!directory.path().join("a.sock.lock").exists());
    }

    #[tokio::test]
    async fn a_socket_without_an_owner_is_replaced() {
        let directory = directory();
        let path = directory.path().join("a.sock");
        drop(UnixListener::bind(&path).unwrap());
        fs::write(directory.path().join("a.sock.lock"), "").unwrap();
        let _socket = Socket::bind(&path).await.unwrap();
        UnixStream::connect(&path).await.unwrap();
    }

    #[tokio::test]
    async fn what_is_not_a_socket_is_refused_and_kept() {
        let directory = directory();
        let file = directory.path().join("file");
        fs::write(&file, "precious").unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        for path in [&file, &link, &directory.path().join("sub")] {
            let _ = fs::create_dir(directory.path().join("sub"));
            let error = Socket::bind(path).await.unwrap_err();
            assert!(matches!(error, BindError::NotASocket(_)), "{error}");
        }
        assert_eq!(fs::read_to_string(&link).unwrap(), "precious");
    }

    #[tokio::test]
    async fn a_socket_that_took_our_place_is_not_removed() {
        let directory = directory();
        let path = directory.path().join("a.sock");
        let socket = Socket::bind(&path).await.unwrap();
        fs::remove_file(&path).unwrap();
        let _other = UnixListener::bind(&path).unwrap();
        drop(socket);
        assert!(path.exists());
    }

    #[tokio::test]
    async fn impossible_paths_say_why() {
        let directory = directory();
        let deep = directory.path().join("no/such/a.sock");
        let error = Socket::bind(&deep).await.unwrap_err();
        assert!(matches!(error, BindError::NoDirectory { .. }), "{error}");
        assert!(error.to_string().contains("no/such\" does not exist"), "{error}");

        let room = MAX_PATH_BYTES - directory.path().as_os_str().len() - 1;
        let longest = directory.path().join("s".repeat(room));
        drop(Socket::bind(&longest).await.unwrap());
        let error = Socket::bind(&directory.path().join("s".repeat(room + 1))).await.unwrap_err();
        assert!(matches!(error, BindError::PathTooLong { bytes: 108, .. }), "{error}");

        // Not even root can make files in sysfs.
        let error = Socket::bind(Path::new("/sys/monitor.sock")).await.unwrap_err();
        assert!(matches!(error, BindError::NotWritable { .. }), "{error}");

        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        let error = Socket::bind(&file.join("a.sock")).await.unwrap_err();
        assert!(matches!(error, BindError::Io { .. }), "{error}");

        for path in ["/", "", ".."] {
            let error = Socket::bind(Path::new(path)).await.unwrap_err();
            assert!(matches!(error, BindError::NoFileName(_)), "{path}: {error}");
        }
    }

    #[test]
    fn a_lock_on_a_removed_file_is_not_taken_for_the_lock() {
        let directory = directory();
        let socket = directory.path().join("a.sock");
        let first = Lock::take(&socket).unwrap().unwrap();
        assert!(Lock::take(&socket).unwrap().is_none());
        first.remove();
        let second = Lock::take(&socket).unwrap().unwrap();
        drop(first);
        assert!(Lock::take(&socket).unwrap().is_none());
        drop(second);
        assert!(Lock::take(&socket).unwrap().is_some());
    }

    #[test]
    fn the_lock_has_one_holder_although_each_removes_its_file() {
        use std::sync::atomic::{AtomicUsize, Ordering};

        let directory = directory();
        let socket = directory.path().join("a.sock");
        let (holders, taken) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while taken.load(Ordering::SeqCst) < 500 {
                        let Some(lock) = Lock::take(&socket).unwrap() else { continue };
                        assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0);
                        taken.fetch_add(1, Ordering::SeqCst);
                        std::thread::yield_now();
                        holders.fetch_sub(1, Ordering::SeqCst);
                        lock.remove();
                    }
                });
            }
        });
    }
}
