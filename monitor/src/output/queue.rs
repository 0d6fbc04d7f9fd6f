//! Between the pipeline and stdout: a bounded queue and a thread that writes.
//!
//! A terminal that is paused, or a reader that is slow, blocks the writer thread and nobody else. What does not fit into
//! the queue meanwhile is counted, and said on stderr when the reader has caught up. Replay has nothing to protect and must
//! not lose anything: it writes through [`Direct`].

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TryRecvError, TrySendError},
    },
    thread,
    time::{Duration, Instant},
};

use prost::Message as _;

use super::stdout::{Colour, Format};
use crate::proto::v1::Finding;

/// Most findings that wait.
const CAPACITY: usize = 4096;
/// Most bytes of findings that wait, as they are encoded.
const CAPACITY_BYTES: usize = 8 << 20;

/// How often loss is told of while the reader does not catch up.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// What became of a finding that was handed to the writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Printed {
    /// It waits for the writer.
    Queued,
    /// The queue was full: counted.
    Lost,
    /// Nobody reads stdout any more.
    Closed,
}

/// Prints findings from its own thread.
#[derive(Debug)]
pub struct Printer {
    queue: SyncSender<Arc<Finding>>,
    done: Receiver<io::Result<()>>,
    shared: Arc<Shared>,
    capacity_bytes: usize,
}

#[derive(Debug, Default)]
struct Shared {
    queued_bytes: AtomicUsize,
    lost: AtomicU64,
    closed: AtomicBool,
}

/// What a printer did.
#[derive(Debug)]
pub struct Summary {
    /// Findings that were not printed because the reader was too slow.
    pub lost: u64,
    /// Whether what was queued was not all written in time.
    pub unfinished: bool,
    /// Why writing ended early, unless the reader just went away.
    pub error: Option<io::Error>,
}

impl Printer {
    /// Starts the writer thread. `out` takes the findings, `notes` (stderr) what is to be said about them.
    pub fn start<W, N>(format: Format, colour: Colour, out: W, notes: N) -> io::Result<Self>
    where
        W: Write + Send + 'static,
        N: Write + Send + 'static,
    {
        Printer::with_capacity(format, colour, out, notes, (CAPACITY, CAPACITY_BYTES))
    }

    fn with_capacity<W, N>(
        format: Format,
        colour: Colour,
        out: W,
        notes: N,
        (findings, bytes): (usize, usize),
    ) -> io::Result<Self>
    where
        W: Write + Send + 'static,
        N: Write + Send + 'static,
    {
        let (queue, waiting) = mpsc::sync_channel(findings);
        let (finished, done) = mpsc::sync_channel(1);
        let shared = Arc::new(Shared::default());
        let direct = Direct::new(format, colour, out);
        let mut writer = Writer { direct, notes, shared: Arc::clone(&shared), told: 0, told_at: Instant::now() };
        thread::Builder::new().name("stdout".to_owned()).spawn(move || {
            let result = writer.run(&waiting);
            writer.shared.closed.store(true, Ordering::Release);
            // The printer may be gone already, which then does not want to know.
            let _ = finished.send(result);
        })?;
        Ok(Printer { queue, done, shared, capacity_bytes: bytes })
    }

    /// Hands a finding to the writer. Never waits.
    pub fn print(&self, finding: Arc<Finding>) -> Printed {
        if self.is_closed() {
            return Printed::Closed;
        }
        let bytes = finding.encoded_len();
        let before = self.shared.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        let sent = if before > 0 && before.saturating_add(bytes) > self.capacity_bytes {
            Err(TrySendError::Full(finding))
        } else {
            self.queue.try_send(finding)
        };
        if sent.is_ok() {
            return Printed::Queued;
        }
        self.shared.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        if let Err(TrySendError::Disconnected(_)) = sent {
            return Printed::Closed;
        }
        self.shared.lost.fetch_add(1, Ordering::Relaxed);
        Printed::Lost
    }

    /// Findings that were not printed because the reader was too slow, so far.
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }

    /// Whether writing has ended: the reader went away, or writing failed.
    pub fn is_closed(&self) -> bool {
        self.shared.closed.load(Ordering::Acquire)
    }

    /// Lets the writer finish what is queued, but waits no longer than `within`: a reader that has stopped reading would
    /// keep the agent from ending.
    pub fn finish(self, within: Duration) -> Summary {
        let Printer { queue, done, shared, .. } = self;
        drop(queue);
        let (unfinished, error) = match done.recv_timeout(within) {
            Ok(Ok(())) => (false, None),
            Ok(Err(error)) => (true, (error.kind() != io::ErrorKind::BrokenPipe).then_some(error)),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => (true, None),
        };
        Summary { lost: shared.lost.load(Ordering::Relaxed), unfinished, error }
    }
}

/// The thread's side.
struct Writer<W: Write, N> {
    direct: Direct<W>,
    notes: N,
    shared: Arc<Shared>,
    /// How many lost findings were told of.
    told: u64,
    told_at: Instant,
}

impl<W: Write, N: Write> Writer<W, N> {
    /// Writes until the queue's other end is dropped and the queue is empty, or the reader goes away.
    fn run(&mut self, waiting: &Receiver<Arc<Finding>>) -> io::Result<()> {
        while let Ok(finding) = waiting.recv() {
            let mut next = Ok(finding);
            // Flushes once for all that waits: a line is shown at once when it is alone, and a burst is written in blocks.
            while let Ok(finding) = next {
                self.shared.queued_bytes.fetch_sub(finding.encoded_len(), Ordering::Relaxed);
                self.direct.buffer(&finding)?;
                if self.told_at.elapsed() >= TELL_EVERY {
                    self.tell_loss();
                }
                next = waiting.try_recv();
            }
            self.direct.flush()?;
            self.tell_loss();
            if let Err(TryRecvError::Disconnected) = next {
                break;
            }
        }
        self.direct.flush()?;
        self.tell_loss();
        Ok(())
    }

    fn tell_loss(&mut self) {
        let lost = self.shared.lost.load(Ordering::Relaxed);
        let new = lost - self.told;
        if new > 0 {
            let findings = if new == 1 { "finding" } else { "findings" };
            // A closed stderr is no reason to stop printing findings.
            let _ = writeln!(self.notes, "monitor: {new} {findings} not printed: stdout too slow");
            self.told = lost;
            self.told_at = Instant::now();
        }
    }
}

/// Prints findings from the calling thread, which waits for the reader and so loses nothing.
#[derive(Debug)]
pub struct Direct<W: Write> {
    format: Format,
    colour: Colour,
    out: W,
    buffer: Vec<u8>,
}

impl<W: Write> Direct<W> {
    /// How much is gathered before it is written.
    const BLOCK: usize = 64 << 10;

    /// Prints to `out`.
    pub fn new(format: Format, colour: Colour, out: W) -> Self {
        Direct { format, colour, out, buffer: Vec::new() }
    }

    /// Writes one finding through to the reader. [`io::ErrorKind::BrokenPipe`] says that nobody reads any more, which
    /// ends a replay quietly.
    pub fn print(&mut self, finding: &Finding) -> io::Result<()> {
        self.buffer(finding)?;
        self.flush()
    }

    /// Writes one finding when enough has come together; [`Direct::flush`] writes the rest.
    pub fn buffer(&mut self, finding: &Finding) -> io::Result<()> {
        self.format.write(finding, self.colour, &mut self.buffer)?;
        if self.buffer.len() < Self::BLOCK { Ok(()) } else { self.write_out() }
    }

    /// Writes what has come together.
    pub fn flush(&mut self) -> io::Result<()> {
        self.write_out()?;
        self.out.flush()
    }

    fn write_out(&mut self) -> io::Result<()> {
        // Cleared even if writing fails: the error ends the output, and half a line is not written twice.
        let result = self.out.write_all(&self.buffer);
        self.buffer.clear();
        result
    }
}
