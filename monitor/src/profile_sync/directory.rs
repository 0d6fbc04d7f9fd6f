//! The directory on the node, held open: files are looked at, written and removed by their name in it, and no link is followed.
//!
//! Names that begin with a dot are for the work itself: the manifest, the lock, and the one temporary file, which only the holder of
//! the lock writes and the next holder removes.

use std::{
    fs::File,
    io::{self, Write as _},
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use rustix::{
    fs::{
        AtFlags, FileType, FlockOperation, Mode, OFlags, RenameFlags, Stat, fchmod, flock, fstat, fsync, mkdir,
        mkdirat, open, openat, renameat_with, statat, unlinkat,
    },
    io::Errno,
};

use super::{
    Node, SyncError, manifest, odd,
    offered::{bounded, sha256},
};

/// Who has it open and locked may write; a file of its own, because whoever can read a directory can lock it.
const LOCK: &str = ".lock";
const TEMPORARY: &str = ".temporary";
/// How often, and with which pause, the lock is asked for.
const LOCK_TRIES: usize = 50;
const LOCK_PAUSE: Duration = Duration::from_millis(100);

const DIRECTORY_MODE: Mode = Mode::from_raw_mode(0o755);
const FILE_MODE: Mode = Mode::from_raw_mode(0o644);
const OWN_MODE: Mode = Mode::from_raw_mode(0o600);

/// The open directory.
#[derive(Debug)]
pub(super) struct Directory {
    fd: OwnedFd,
    path: PathBuf,
}

/// What is at a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// Nothing.
    Missing,
    /// A file with this digest.
    File(String),
    /// What no profile from here is.
    Other(String),
}

impl Directory {
    /// Opens it; where it does not exist it is made, or there is none.
    pub(super) fn open(node: &Node, may_make: bool) -> Result<Option<Self>, SyncError> {
        if let Some(reason) = odd(&node.directory) {
            return Err(SyncError::Name { name: node.directory.clone(), reason });
        }
        let Some(root) = root(&node.root, may_make)? else { return Ok(None) };
        let path = node.root.join(&node.directory);
        let failed = |error: Errno| SyncError::Node { path: path.clone(), source: error.into(), mend: "" };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = match openat(&root, &node.directory, flags, Mode::empty()) {
            Err(Errno::NOENT) if !may_make => return Ok(None),
            Err(Errno::NOENT) => {
                mkdirat(&root, &node.directory, DIRECTORY_MODE).map_err(failed)?;
                let made = openat(&root, &node.directory, flags, Mode::empty()).map_err(failed)?;
                // Whatever the umask left of it.
                fchmod(&made, DIRECTORY_MODE).and_then(|()| fsync(&root)).map_err(failed)?;
                made
            }
            Err(Errno::NOTDIR | Errno::LOOP) => {
                let kind = statat(&root, &node.directory, AtFlags::SYMLINK_NOFOLLOW).map(|stat| kind(&stat));
                let what = kind.unwrap_or("no directory");
                let reason = format!("is {what}: remove it, or name another with --directory");
                return Err(SyncError::Unsafe { path, reason });
            }
            other => other.map_err(failed)?,
        };
        safe(&fd, &path, false)?;
        Ok(Some(Self { fd, path }))
    }

    /// Where a file of it is, for messages.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Waits a little for the lock, which ends with what is returned.
    pub(super) fn lock(&self) -> Result<OwnedFd, SyncError> {
        let failed = |error: Errno| SyncError::Node { path: self.path(LOCK), source: error.into(), mend: "" };
        // For reading: closing it is then no change that somebody who watches the directory is woken for.
        let flags = OFlags::RDONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for _ in 0..LOCK_TRIES {
            let lock = openat(&self.fd, LOCK, flags, OWN_MODE).map_err(failed)?;
            match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                // Whoever had it may have removed it.
                Ok(()) if fstat(&lock).is_ok_and(|stat| stat.st_nlink > 0) => return Ok(lock),
                Ok(()) => {}
                Err(Errno::WOULDBLOCK | Errno::INTR) => thread::sleep(LOCK_PAUSE),
                Err(error) => return Err(failed(error)),
            }
        }
        Err(SyncError::Busy { path: self.path.clone() })
    }

    /// Removes what a run that was killed left half-way.
    pub(super) fn clear(&self) {
        // Where it cannot be, writing says so.
        let _ = unlinkat(&self.fd, TEMPORARY, AtFlags::empty());
    }

    /// What is at a name.
    pub(super) fn look(&self, name: &str) -> io::Result<Seen> {
        let stat = match statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(Seen::Missing),
            other => other?,
        };
        // Not even opened, because opening a device can do something.
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(Seen::Other(kind(&stat).to_owned()));
        }
        let opened = match self.read(name) {
            Err(Errno::NOENT) => return Ok(Seen::Missing),
            Err(Errno::LOOP) => return Ok(Seen::Other("a symbolic link".to_owned())),
            other => other?,
        };
        if let Some(reason) = exposed(&fstat(&opened)?, false) {
            return Ok(Seen::Other(format!("a file that {reason}")));
        }
        match bounded(opened) {
            Ok(bytes) => Ok(Seen::File(sha256(&bytes))),
            Err(error) if error.kind() == io::ErrorKind::Other => Ok(Seen::Other(format!("none of ours: {error}"))),
            Err(error) => Err(error),
        }
    }

    /// A file for reading.
    pub(super) fn read(&self, name: &str) -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        openat(&self.fd, name, flags, Mode::empty())
    }

    /// Puts a file in place, whole or not at all, and reads it back. A fresh one takes nobody's place.
    pub(super) fn write(&self, name: &str, bytes: &[u8], digest: &str, fresh: bool) -> io::Result<()> {
        self.clear();
        let written = self.place(name, bytes, fresh);
        if written.is_err() {
            self.clear();
        }
        written?;
        match self.look(name)? {
            Seen::File(read) if read == digest => Ok(()),
            _ => Err(io::Error::other("what was written reads back otherwise")),
        }
    }

    fn place(&self, name: &str, bytes: &[u8], fresh: bool) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(openat(&self.fd, TEMPORARY, flags, OWN_MODE)?);
        file.write_all(bytes)?;
        fchmod(&file, FILE_MODE)?;
        file.sync_all()?;
        drop(file);
        let flags = if fresh { RenameFlags::NOREPLACE } else { RenameFlags::empty() };
        match renameat_with(&self.fd, TEMPORARY, &self.fd, name, flags) {
            Err(Errno::EXIST) if fresh => return Err(io::Error::other("somebody else has just put a file there")),
            other => other?,
        }
        Ok(fsync(&self.fd)?)
    }

    /// Removes a file.
    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        unlinkat(&self.fd, name, AtFlags::empty())?;
        Ok(fsync(&self.fd)?)
    }

    /// Removes what is for the work itself, and the directory if that was all.
    pub(super) fn dissolve(&self, node: &Node, _lock: &OwnedFd) {
        for name in [manifest::NAME, TEMPORARY, LOCK] {
            let _ = unlinkat(&self.fd, name, AtFlags::empty());
        }
        // Files of others keep it.
        if let Ok(Some(root)) = root(&node.root, false) {
            let _ = unlinkat(&root, &node.directory, AtFlags::REMOVEDIR);
            let _ = fsync(&root);
        }
    }
}

/// Opens the kubelet's directory, through links: where that lies is the node's own affair.
fn root(path: &Path, may_make: bool) -> Result<Option<OwnedFd>, SyncError> {
    const MEND: &str = ": is this a node of Kubernetes? name its directory of profiles with --root";
    let failed = |error: Errno, mend| SyncError::Node { path: path.to_owned(), source: error.into(), mend };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = match open(path, flags, Mode::empty()) {
        Err(Errno::NOENT) if !may_make => return Ok(None),
        // The kubelet does not make it, only what it lies in.
        Err(Errno::NOENT) => {
            mkdir(path, DIRECTORY_MODE).map_err(|error| failed(error, MEND))?;
            let made = open(path, flags | OFlags::NOFOLLOW, Mode::empty()).map_err(|error| failed(error, ""))?;
            fchmod(&made, DIRECTORY_MODE).map_err(|error| failed(error, ""))?;
            made
        }
        other => other.map_err(|error| failed(error, ""))?,
    };
    safe(&fd, path, true)?;
    Ok(Some(fd))
}

/// Refuses a directory in which others could put profiles.
fn safe(fd: impl AsFd, path: &Path, or_of_root: bool) -> Result<(), SyncError> {
    let stat = fstat(fd).map_err(|error| SyncError::Node { path: path.to_owned(), source: error.into(), mend: "" })?;
    match exposed(&stat, or_of_root) {
        None => Ok(()),
        Some(reason) => {
            let reason =
                format!("{reason}, so that others could put profiles there: give it to root, and `chmod go-w`");
            Err(SyncError::Unsafe { path: path.to_owned(), reason })
        }
    }
}

/// How somebody else could change it, if at all.
fn exposed(stat: &Stat, or_of_root: bool) -> Option<String> {
    let ours = stat.st_uid == rustix::process::geteuid().as_raw() || (or_of_root && stat.st_uid == 0);
    if !ours {
        return Some(format!("belongs to user {}", stat.st_uid));
    }
    (stat.st_mode & 0o022 != 0).then(|| format!("can be written by others (mode {:o})", stat.st_mode & 0o7777))
}

fn kind(stat: &Stat) -> &'static str {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Symlink => "a symbolic link",
        FileType::Directory => "a directory",
        FileType::RegularFile => "a file",
        _ => "neither file nor directory",
    }
}
