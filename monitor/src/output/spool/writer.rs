//! The thread that writes: everything that waits in one write, and once in a while it makes sure that the disk has it.
//!
//! Making sure has a thread of its own, because it may take long and writing must go on meanwhile.

use std::{
    io,
    sync::{
        Arc, PoisonError,
        atomic::Ordering,
        mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TrySendError},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{
    Shared,
    files::File,
    frame::Frame,
    log::{Chunk, Log},
    reader::Entry,
};

/// Most bytes in one write.
const CHUNK_BYTES: usize = 1 << 20;
/// How often the thread looks whether it is to end, although nobody woke it.
const LOOK: Duration = Duration::from_millis(100);

/// The writer's own side.
pub(super) struct Writer {
    shared: Arc<Shared>,
    log: Log,
    buffer: Vec<u8>,
    sync: SyncSender<Vec<Arc<dyn File>>>,
    synced_at: Instant,
    dirty: bool,
}

impl Writer {
    /// Starts the threads.
    pub(super) fn start(shared: Arc<Shared>, log: Log) -> io::Result<JoinHandle<()>> {
        let (sync, to_sync) = mpsc::sync_channel(1);
        thread::Builder::new().name("spool-sync".to_owned()).spawn(move || keep(&to_sync))?;
        let mut writer = Self { shared, log, buffer: Vec::new(), sync, synced_at: Instant::now(), dirty: false };
        thread::Builder::new().name("spool".to_owned()).spawn(move || writer.run())
    }

    fn run(&mut self) {
        loop {
            let ending = self.shared.ending.load(Ordering::Acquire);
            let entries = self.wait(ending);
            let wrote = match (entries.first(), entries.last()) {
                (Some(first), Some(last)) => self.write(first, last, &entries),
                _ if ending => return self.sync_now(),
                _ => true,
            };
            self.sync_when_due();
            if !wrote {
                if ending {
                    return;
                }
                self.pause();
            }
        }
    }

    /// What is to be written; nothing after a while.
    fn wait(&self, ending: bool) -> Vec<Entry> {
        let mut tail = self.shared.tail();
        let entries = tail.take_unsaved(CHUNK_BYTES);
        if !entries.is_empty() || ending {
            return entries;
        }
        let waited = self.shared.work.wait_timeout(tail, LOOK).unwrap_or_else(PoisonError::into_inner);
        let mut tail = waited.0;
        tail.take_unsaved(CHUNK_BYTES)
    }

    fn write(&mut self, first: &Entry, last: &Entry, entries: &[Entry]) -> bool {
        self.buffer.clear();
        for entry in entries {
            let Entry { kind, index, sequence, payload, .. } = entry;
            Frame { kind: *kind, index: *index, sequence: *sequence, payload }.encode(&mut self.buffer);
        }
        let result = self.log.append(&Chunk { bytes: &self.buffer, index: first.index, sequence: first.sequence });
        let shared = &self.shared;
        match result {
            Ok(evicted) => {
                if evicted > 0 {
                    shared.evicted_segments.fetch_add(evicted, Ordering::Relaxed);
                    let oldest = shared.segments.lock().front().map_or(0, |segment| segment.name.index);
                    shared.evicted_before.store(oldest, Ordering::Release);
                }
                shared.written.fetch_add(entries.len() as u64, Ordering::Relaxed);
                shared.written_bytes.fetch_add(self.buffer.len() as u64, Ordering::Relaxed);
                let mut tail = shared.tail();
                let failed = tail.failing().is_some();
                tail.saved(last, &shared.limits);
                drop(tail);
                if failed {
                    tracing::warn!(kind = "spool_recovered", "spool {}: writes again", shared.directory.display());
                }
                self.dirty = true;
            }
            Err(error) => {
                shared.failures.fetch_add(1, Ordering::Relaxed);
                let mut tail = shared.tail();
                if tail.failing().is_none() {
                    let directory = shared.directory.display();
                    tracing::warn!(
                        kind = "spool_write",
                        "spool {directory}: {error}; memory keeps the newest findings"
                    );
                }
                tail.fail(error.to_string());
                drop(tail);
                shared.changed.send_replace(());
                return false;
            }
        }
        shared.changed.send_replace(());
        true
    }

    /// Waits before the disk is tried again; readers are told of what comes meanwhile.
    fn pause(&self) {
        let until = Instant::now() + self.shared.limits.retry_every;
        while Instant::now() < until && !self.shared.ending.load(Ordering::Acquire) {
            thread::sleep(LOOK.min(self.shared.limits.retry_every));
            self.shared.changed.send_replace(());
        }
    }

    fn sync_when_due(&mut self) {
        if self.dirty && self.synced_at.elapsed() >= self.shared.limits.sync_every {
            match self.sync.try_send(self.log.take_unsynced()) {
                Ok(()) => (self.dirty, self.synced_at) = (false, Instant::now()),
                // The disk is slow: the next turn tries again. What was taken is named again with the file that is open.
                Err(TrySendError::Full(files)) => self.log.put_back(files),
                Err(TrySendError::Disconnected(_)) => self.dirty = false,
            }
        }
    }

    fn sync_now(&mut self) {
        if self.dirty {
            sync_all(&self.log.take_unsynced());
        }
    }
}

/// The other thread: ends with the writer.
fn keep(to_sync: &Receiver<Vec<Arc<dyn File>>>) {
    loop {
        match to_sync.recv_timeout(Duration::from_secs(1)) {
            Ok(files) => sync_all(&files),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn sync_all(files: &[Arc<dyn File>]) {
    for file in files {
        if let Err(error) = file.sync() {
            // The kernel has given the pages up; what a sink has not taken by a loss of power is then reported as damaged.
            tracing::warn!(kind = "spool_sync", "spool: {error}");
        }
    }
}
