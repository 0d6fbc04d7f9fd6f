//! Findings on the disk until every sink has them: one log, and a position in it for each sink.
//!
//! ```text
//! pipeline -- append --> memory --> writer thread --> segments     (group commit: all that waits in one write)
//!                           \________________ \___ readers: one for each sink, List, Subscribe
//! ```
//!
//! Appending takes a short lock and never waits for the disk. A reader sees what was handed to the kernel, so that an agent
//! that is killed forgets nothing that a sink had. While the disk cannot be written, memory stands in for it, and readers
//! see that; what then does not fit is missing, and told. When the spool is full the oldest segment is given up.
//!
//! | what happens | what comes of it |
//! |---|---|
//! | the agent is killed | what was not yet handed to the kernel is gone; the next run says so with a loss report `crash` |
//! | the machine loses power | the same, of at most [`Limits::sync_every`]; indices that a sink had are not given out again |
//! | the last entry is torn | it is cut off |
//! | bytes in the middle are damaged | entries around them are read; the number of those in between is reported, `damaged` |
//! | the disk is full | the oldest segment is given up; if that does not help, as for a disk that is read-only |
//! | the disk is read-only, or gone | memory keeps the newest, the rest is reported, `not_stored`; tried again each second |
//! | a second agent | is refused, with the pid of the first |
//! | the clock steps back | order, places and what is given up stay as they are, because all go by index; waits go by a clock that cannot be set. Reading since a time compares each finding's own time, so those made after the step may be left out |

pub mod cursor;
pub mod files;
pub mod frame;
pub mod inspect;
mod log;
pub mod reader;
pub mod segment;
mod tail;
mod writer;

#[cfg(test)]
mod tests;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use prost::Message as _;
use tokio::sync::watch;
use uuid::Uuid;

pub use self::log::Recovery;
use self::{
    cursor::{Cursor, Position},
    files::Files,
    frame::{Kind, MAX_PAYLOAD_BYTES},
    log::{Log, Segments},
    reader::Reader,
    segment::{Name, Segment},
    tail::Tail,
    writer::Writer,
};
use crate::proto::v1::{Finding, LossReport};

/// Bounds of a spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes on the disk.
    pub bytes: u64,
    /// Bytes after which another segment is begun.
    pub segment_bytes: u64,
    /// Most bytes in memory that are not on the disk.
    pub memory_bytes: usize,
    /// Most bytes in memory that are on the disk too, for readers that keep up.
    pub cache_bytes: usize,
    /// How often the disk is told to keep what it was given.
    pub sync_every: Duration,
    /// After how long a disk that failed is tried again.
    pub retry_every: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes: 256 << 20,
            segment_bytes: 8 << 20,
            memory_bytes: 16 << 20,
            cache_bytes: 2 << 20,
            sync_every: Duration::from_millis(500),
            retry_every: Duration::from_secs(1),
        }
    }
}

/// Why a spool cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpoolError {
    /// Another agent has it.
    #[error("the spool {directory:?} is in use by another agent{}: stop it, or choose another directory", by(*pid))]
    Locked {
        /// Where.
        directory: PathBuf,
        /// Who, if that is known.
        pid: Option<u32>,
    },
    /// No thread could be started.
    #[error("cannot start the spool's thread: {0}")]
    Thread(#[source] std::io::Error),
}

impl SpoolError {
    /// A bounded word for it.
    pub const fn kind(&self) -> &'static str {
        match self {
            SpoolError::Locked { .. } => "locked",
            SpoolError::Thread(_) => "thread",
        }
    }
}

fn by(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
}

/// How a spool is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Bytes on the disk.
    pub bytes: u64,
    /// Segments on the disk.
    pub segments: u64,
    /// Index of the next entry.
    pub next_index: u64,
    /// Index of the oldest entry.
    pub first_index: u64,
    /// Entries in memory that are not on the disk.
    pub unsaved: u64,
    /// Entries written, in this run.
    pub written: u64,
    /// Bytes written, in this run.
    pub written_bytes: u64,
    /// Entries that were dropped because neither disk nor memory had room, in this run.
    pub dropped: u64,
    /// Segments given up, in this run.
    pub evicted_segments: u64,
    /// Times that writing failed, in this run.
    pub failures: u64,
    /// Why writing fails now, if it does.
    pub failing: Option<String>,
}

/// What the spool's threads and readers share.
#[derive(Debug)]
struct Shared {
    files: Arc<dyn Files>,
    directory: PathBuf,
    epoch: Uuid,
    limits: Limits,
    tail: Mutex<Tail>,
    /// Something waits to be written, or it is time to end.
    work: Condvar,
    /// For readers: something may be seen that was not.
    changed: watch::Sender<()>,
    segments: Arc<Segments>,
    ending: AtomicBool,
    written: AtomicU64,
    written_bytes: AtomicU64,
    evicted_segments: AtomicU64,
    failures: AtomicU64,
    /// Index of the oldest entry that was not given up.
    evicted_before: AtomicU64,
}

impl Shared {
    fn tail(&self) -> MutexGuard<'_, Tail> {
        // Nothing under the lock can panic half-way.
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The segment that an index is in, or the first behind it.
    fn segment_at(&self, index: u64) -> Option<Arc<Segment>> {
        let segments = self.segments.lock();
        let behind = segments.partition_point(|segment| segment.name.index <= index);
        segments.get(behind.saturating_sub(1)).map(Arc::clone)
    }

    fn segment_after(&self, name: Name) -> Option<Arc<Segment>> {
        self.segments.lock().iter().find(|segment| segment.name > name).map(Arc::clone)
    }

    /// A segment that cannot be opened is not looked at again.
    fn forget(&self, segment: &Arc<Segment>) {
        self.segments.lock().retain(|kept| !Arc::ptr_eq(kept, segment));
    }

    fn evicted_before(&self) -> u64 {
        self.evicted_before.load(Ordering::Acquire)
    }
}

/// A spool that is appended to. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Spool(Arc<Shared>);

/// The threads of a spool. They end with [`finish`](Self::finish).
#[derive(Debug)]
pub struct Threads {
    spool: Spool,
    writer: JoinHandle<()>,
}

impl Spool {
    /// Opens the spool in a directory for a new run. Only another agent's lock is a reason to fail: a directory that cannot be
    /// used leaves a spool in memory, which says so in its [`status`](Self::status).
    pub fn open(
        files: Arc<dyn Files>,
        directory: &Path,
        limits: Limits,
        epoch: Uuid,
    ) -> Result<(Spool, Threads, Recovery), SpoolError> {
        let (log, recovery) = Log::open(Arc::clone(&files), directory, limits, epoch)?;
        let segments = log.segments();
        let first = segments.lock().front().map_or(recovery.next_index, |segment| segment.name.index);
        let mut tail = Tail::new(recovery.next_index);
        if !recovery.clean {
            let epoch = recovery.epoch.to_string();
            let loss = LossReport { cause: "crash".to_owned(), epoch, ..LossReport::default() };
            tail.begin_with(loss.encode_to_vec());
        }
        let shared = Arc::new(Shared {
            files,
            directory: directory.to_owned(),
            epoch,
            limits,
            tail: Mutex::new(tail),
            work: Condvar::new(),
            changed: watch::channel(()).0,
            segments,
            ending: AtomicBool::new(false),
            written: AtomicU64::new(0),
            written_bytes: AtomicU64::new(0),
            evicted_segments: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            evicted_before: AtomicU64::new(first),
        });
        let writer = Writer::start(Arc::clone(&shared), log).map_err(SpoolError::Thread)?;
        let spool = Spool(shared);
        Ok((spool.clone(), Threads { spool, writer }, recovery))
    }

    /// Takes a finding in. Never waits for the disk.
    pub fn append(&self, finding: &Finding) {
        self.add(Kind::FINDING, finding.sequence, finding.encode_to_vec());
    }

    /// Takes a loss report in, which goes out in front of the findings that follow.
    pub fn report(&self, loss: &LossReport) {
        self.add(Kind::LOSS, 0, loss.encode_to_vec());
    }

    fn add(&self, kind: Kind, sequence: u64, payload: Vec<u8>) {
        let too_long = payload.len() > MAX_PAYLOAD_BYTES;
        let wake = self.0.tail().add(kind, self.0.epoch, sequence, payload, &self.0.limits, too_long);
        if wake {
            self.0.work.notify_one();
        }
    }

    /// Somebody who reads from a position on.
    pub fn reader(&self, position: Position) -> Reader {
        Reader::new(Arc::clone(&self.0), position)
    }

    /// In front of the oldest entry.
    pub fn earliest(&self) -> Position {
        let tail = self.0.tail().first();
        let index = self.0.segments.lock().front().map_or(tail, |segment| segment.name.index.min(tail));
        Position { index, ..Position::default() }
    }

    /// Behind the newest entry.
    pub fn latest(&self) -> Position {
        self.0.tail().latest(self.0.epoch)
    }

    /// In front of what follows a finding of a run that is still here; `None` where nothing of that run is.
    pub fn after(&self, epoch: Uuid, sequence: u64) -> Option<Position> {
        let segments = self.0.segments.lock();
        let of_run = segments.iter().filter(|segment| segment.name.epoch == epoch);
        // The last one that begins at or before it; the first where all begin later.
        let best = of_run.clone().rfind(|segment| segment.name.sequence <= sequence).or_else(|| of_run.clone().next());
        best.map(|segment| Position {
            index: segment.name.index,
            epoch,
            sequence: segment.name.sequence.saturating_sub(1),
        })
    }

    /// The position of a sink, as it was stored last.
    pub fn cursor(&self, sink: &str) -> Cursor {
        Cursor::load(&*self.0.files, &self.0.directory, sink)
    }

    /// Keeps the position of a sink.
    pub fn store(&self, cursor: &mut Cursor, position: Position) -> std::io::Result<()> {
        cursor.store(&*self.0.files, position)
    }

    /// Told when there is something new to read.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.0.changed.subscribe()
    }

    /// The run that appends.
    pub fn epoch(&self) -> Uuid {
        self.0.epoch
    }

    /// Where it is.
    pub fn directory(&self) -> &Path {
        &self.0.directory
    }

    /// How it is doing.
    pub fn status(&self) -> Status {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let first_index = self.earliest().index;
        let tail = self.0.tail();
        Status {
            bytes: self.0.segments.bytes(),
            segments: self.0.segments.lock().len() as u64,
            next_index: tail.next_index(),
            first_index,
            unsaved: tail.unsaved() as u64,
            dropped: tail.dropped(),
            failing: tail.failing().map(str::to_owned),
            written: count(&self.0.written),
            written_bytes: count(&self.0.written_bytes),
            evicted_segments: count(&self.0.evicted_segments),
            failures: count(&self.0.failures),
        }
    }

    /// Everything up to this sequence of this run was handed to the kernel.
    pub fn saved_sequence(&self) -> u64 {
        self.0.tail().saved_sequence()
    }
}

impl Threads {
    /// Writes what waits and the mark of an orderly end, if the disk takes it at once.
    pub fn finish(self) {
        self.spool.add(Kind::END, 0, Vec::new());
        self.spool.0.ending.store(true, Ordering::Release);
        self.spool.0.work.notify_one();
        // It ends by itself; that it panicked would have been told by then.
        let _ = self.writer.join();
    }
}
