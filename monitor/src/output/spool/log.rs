//! The segments on the disk: opened after whatever the last run ended with, appended to, and given up from the old end.
//!
//! Every run begins a segment of its own, and only with its first entry: an agent that is restarted over and over leaves
//! nothing behind. What cannot be written changes nothing; the caller keeps it and tries again.

use std::{
    any::Any,
    collections::VecDeque,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use uuid::Uuid;

use super::{
    Limits, SpoolError,
    cursor::{self, Cursor},
    files::{self, File, Files},
    frame::{Frames, Kind},
    segment::{Name, Segment},
};

const LOCK: &str = "lock";
/// The most that is read of the last segment; none that an agent writes is longer.
const MAX_SEGMENT_BYTES: u64 = 64 << 20;

/// The segments that readers may read, oldest first.
#[derive(Debug, Default)]
pub(super) struct Segments(Mutex<VecDeque<Arc<Segment>>>);

impl Segments {
    pub(super) fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<Segment>>> {
        // Nothing under the lock can panic half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All bytes on the disk.
    pub(super) fn bytes(&self) -> u64 {
        self.lock().iter().map(|segment| segment.bytes()).sum()
    }
}

/// What was found when a spool was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// The last run that stored something; nil if none did.
    pub epoch: Uuid,
    /// Sequence of the last finding that it stored.
    pub sequence: u64,
    /// Whether it ended in order.
    pub clean: bool,
    /// Bytes of an entry that was being written when it ended, cut off.
    pub torn_bytes: u64,
    /// Index of the first entry of this run.
    pub next_index: u64,
}

/// Run of entries to append, encoded.
pub(super) struct Chunk<'a> {
    pub(super) bytes: &'a [u8],
    /// Index of the first.
    pub(super) index: u64,
    /// The sequence that its first finding has at least.
    pub(super) sequence: u64,
}

/// The segments, as their one writer has them.
#[derive(Debug)]
pub(super) struct Log {
    files: Arc<dyn Files>,
    directory: PathBuf,
    limits: Limits,
    epoch: Uuid,
    segments: Arc<Segments>,
    active: Option<Active>,
    /// Files that were written and may not be on the disk.
    unsynced: Vec<Arc<dyn File>>,
    _lock: Option<Box<dyn Any + Send + Sync>>,
}

#[derive(Debug)]
struct Active {
    file: Arc<dyn File>,
    segment: Arc<Segment>,
}

impl Log {
    /// Opens the spool in a directory for a new run. A directory that cannot be written is opened all the same.
    pub(super) fn open(
        files: Arc<dyn Files>,
        directory: &Path,
        limits: Limits,
        epoch: Uuid,
    ) -> Result<(Log, Recovery), SpoolError> {
        let made = files.create_directory(directory);
        let lock = match files.lock(&directory.join(LOCK)) {
            Ok(Some(lock)) => Some(lock),
            Ok(None) => {
                return Err(SpoolError::Locked { directory: directory.to_owned(), pid: owner(&*files, directory) });
            }
            Err(error) => {
                tracing::warn!(kind = "spool_directory", "spool {}: {error}", directory.display());
                None
            }
        };
        if let Err(error) = made {
            tracing::warn!(kind = "spool_directory", "spool {}: {error}", directory.display());
        }
        let (found, cursors) = survey(&*files, directory);
        let mut recovery = Recovery { clean: true, ..Recovery::default() };
        if let Some(last) = found.back() {
            recover(&*files, last, &mut recovery);
        }
        // What a sink was given but the disk forgot: those places are not given out again.
        recovery.next_index = cursors.into_iter().fold(recovery.next_index, u64::max);
        let segments = Arc::new(Segments(Mutex::new(found)));
        let log = Log {
            files,
            directory: directory.to_owned(),
            limits,
            epoch,
            segments,
            active: None,
            unsynced: Vec::new(),
            _lock: lock,
        };
        Ok((log, recovery))
    }

    pub(super) fn segments(&self) -> Arc<Segments> {
        Arc::clone(&self.segments)
    }

    /// Appends entries as a whole, or not at all. Gives up the oldest segments to stay within the limit, and one where the
    /// disk is full. Returns how many were given up.
    pub(super) fn append(&mut self, chunk: &Chunk<'_>) -> io::Result<u64> {
        let bytes = chunk.bytes.len() as u64;
        let mut evicted = 0;
        while self.segments.bytes() + bytes > self.limits.bytes && self.evict_oldest()? {
            evicted += 1;
        }
        let result = match self.write(chunk) {
            Err(error) if is_full(&error) && self.evict_oldest()? => {
                evicted += 1;
                self.write(chunk)
            }
            result => result,
        };
        result.map(|()| evicted)
    }

    fn write(&mut self, chunk: &Chunk<'_>) -> io::Result<()> {
        let active = match self.active.take() {
            Some(active) if active.segment.bytes() < self.limits.segment_bytes => active,
            _ => self.begin(chunk)?,
        };
        let at = active.segment.bytes();
        match files::write_all(&*active.file, chunk.bytes, at) {
            Ok(()) => {
                active.segment.commit(at + chunk.bytes.len() as u64);
                self.active = Some(active);
                Ok(())
            }
            Err(error) => {
                // Without the half of an entry the segment can be gone on with; else the next chunk begins another.
                if active.file.truncate(at).is_ok() {
                    self.active = Some(active);
                }
                Err(error)
            }
        }
    }

    fn begin(&mut self, chunk: &Chunk<'_>) -> io::Result<Active> {
        let name = Name { index: chunk.index, sequence: chunk.sequence, epoch: self.epoch };
        let path = self.directory.join(name.file_name());
        let file = match self.files.create(&path) {
            // From a try before, whose bytes could not be cut off.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let file = self.files.open(&path, true)?;
                file.truncate(0)?;
                file
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.files.create_directory(&self.directory)?;
                self.files.create(&path)?
            }
            created => created?,
        };
        let segment = Arc::new(Segment::new(name, path, 0));
        let mut segments = self.segments.lock();
        segments.retain(|kept| kept.path != segment.path);
        segments.push_back(Arc::clone(&segment));
        drop(segments);
        self.unsynced.push(Arc::clone(&file));
        Ok(Active { file, segment })
    }

    /// Gives up the oldest segment; false if only the one that is being written is left.
    fn evict_oldest(&mut self) -> io::Result<bool> {
        let mut segments = self.segments.lock();
        let Some(oldest) = segments.front().map(Arc::clone) else { return Ok(false) };
        if self.active.as_ref().is_some_and(|active| Arc::ptr_eq(&active.segment, &oldest)) {
            return Ok(false);
        }
        match self.files.remove(&oldest.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => segments.pop_front(),
        };
        Ok(true)
    }

    /// Files that were taken to be synced, and could not be.
    pub(super) fn put_back(&mut self, files: Vec<Arc<dyn File>>) {
        for file in files {
            if !self.unsynced.iter().any(|kept| Arc::ptr_eq(kept, &file)) {
                self.unsynced.push(file);
            }
        }
    }

    /// Files whose contents may not be on the disk yet. The one that is written now is among them.
    pub(super) fn take_unsynced(&mut self) -> Vec<Arc<dyn File>> {
        let files = std::mem::take(&mut self.unsynced);
        self.unsynced.extend(self.active.as_ref().map(|active| Arc::clone(&active.file)));
        files
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// The pid in the lock, where it is a number.
fn owner(files: &dyn Files, directory: &Path) -> Option<u32> {
    let file = files.open(&directory.join(LOCK), false).ok()?;
    let mut text = [0; 16];
    let read = files::read_full(&*file, &mut text, 0).ok()?;
    std::str::from_utf8(text.get(..read)?).ok()?.trim().parse().ok()
}

/// The segments in a directory, and the index that each cursor stands at.
pub(super) fn survey(files: &dyn Files, directory: &Path) -> (VecDeque<Arc<Segment>>, Vec<u64>) {
    let (mut segments, mut cursors) = (Vec::new(), Vec::new());
    for (name, bytes) in files.list(directory).unwrap_or_default() {
        let path = directory.join(&name);
        if let Some(parsed) = Name::parse(&name) {
            if bytes > 0 {
                segments.push(Arc::new(Segment::new(parsed, path, bytes)));
            } else {
                // Begun and never written; a disk that does not take its removal does no harm either.
                let _ = files.remove(&path);
            }
        } else if let Some(sink) = name.strip_suffix(cursor::SUFFIX) {
            cursors.extend(Cursor::load(files, directory, sink).position().map(|position| position.index));
        }
    }
    segments.sort_by_key(|segment| segment.name);
    (segments.into(), cursors)
}

/// Reads the last segment to its end, and cuts off what was not written as a whole.
fn recover(files: &dyn Files, last: &Segment, recovery: &mut Recovery) {
    recovery.epoch = last.name.epoch;
    recovery.sequence = last.name.sequence.saturating_sub(1);
    recovery.next_index = last.name.index;
    recovery.clean = false;
    let Ok(file) = files.open(&last.path, true).or_else(|_| files.open(&last.path, false)) else { return };
    let mut bytes = vec![0; usize::try_from(last.bytes().min(MAX_SEGMENT_BYTES)).unwrap_or(0)];
    let read = files::read_full(&*file, &mut bytes, 0).unwrap_or(0);
    bytes.truncate(read);
    let mut frames = Frames::new(&bytes);
    for (_, frame) in frames.by_ref() {
        recovery.next_index = frame.index.saturating_add(1);
        recovery.sequence = frame.sequence;
        recovery.clean = frame.kind == Kind::END;
    }
    recovery.torn_bytes = (bytes.len() - frames.good_bytes) as u64;
    last.commit(frames.good_bytes as u64);
    if recovery.torn_bytes > 0 {
        // Where it cannot be cut it is passed over each time.
        let _ = file.truncate(frames.good_bytes as u64);
    }
}
