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

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead as _, BufReader, PipeReader, Read as _},
        sync::Mutex,
    };

    use super::*;
    use crate::output::sample;

    const LONG: Duration = Duration::from_secs(20);

    /// What the writer says on stderr.
    #[derive(Clone, Default)]
    struct Notes(Arc<Mutex<Vec<u8>>>);

    impl Write for Notes {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn printer(capacity: (usize, usize)) -> (Printer, PipeReader, Notes) {
        let (reader, writer) = io::pipe().unwrap();
        let notes = Notes::default();
        let printer = Printer::with_capacity(Format::Json, Colour::Off, writer, notes.clone(), capacity).unwrap();
        (printer, reader, notes)
    }

    fn sequences(text: &str) -> Vec<u64> {
        let sequence =
            |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["sequence"].as_u64().unwrap();
        text.lines().map(sequence).collect()
    }

    #[test]
    fn findings_are_printed_in_order_and_at_once() {
        let (printer, reader, notes) = printer((CAPACITY, CAPACITY_BYTES));
        let mut reader = BufReader::new(reader);
        let mut text = String::new();
        for sequence in 1..=3 {
            assert_eq!(printer.print(Arc::new(sample::drift(sequence))), Printed::Queued);
            reader.read_line(&mut text).unwrap();
        }
        assert_eq!(sequences(&text), [1, 2, 3]);
        let summary = printer.finish(LONG);
        assert!(matches!(summary, Summary { lost: 0, unfinished: false, error: None }), "{summary:?}");
        assert!(notes.0.lock().unwrap().is_empty());
    }

    #[test]
    fn a_reader_that_stops_loses_findings_and_is_told_the_exact_number() {
        for capacity in [(64, CAPACITY_BYTES), (CAPACITY, 64 << 10)] {
            let (printer, mut reader, notes) = printer(capacity);
            let made = 20_000;
            let mut queued = 0;
            for sequence in 1..=made {
                match printer.print(Arc::new(sample::drift(sequence))) {
                    Printed::Queued => queued += 1,
                    Printed::Lost => {}
                    Printed::Closed => panic!("the reader is there"),
                }
            }
            let lost = printer.lost();
            assert!(lost > 0);
            assert_eq!(queued + lost, made);
            let reading = thread::spawn(move || {
                let mut text = String::new();
                reader.read_to_string(&mut text).unwrap();
                text
            });
            let summary = printer.finish(LONG);
            assert!(!summary.unfinished);
            assert_eq!(summary.lost, lost);
            let shown = sequences(&reading.join().unwrap());
            assert_eq!(shown.len() as u64, queued);
            assert!(shown.is_sorted());
            let said = String::from_utf8(notes.0.lock().unwrap().clone()).unwrap();
            let told = said.lines().map(|line| {
                let number = line.strip_prefix("monitor: ").unwrap().split(' ').next().unwrap();
                assert!(line.ends_with(" not printed: stdout too slow"), "{line}");
                number.parse::<u64>().unwrap()
            });
            assert_eq!(told.sum::<u64>(), lost, "{said}");
        }
    }

    #[test]
    fn a_reader_that_goes_away_ends_output_quietly() {
        let (printer, reader, notes) = printer((CAPACITY, CAPACITY_BYTES));
        drop(reader);
        printer.print(Arc::new(sample::drift(1)));
        let started = Instant::now();
        while !printer.is_closed() {
            assert!(started.elapsed() < LONG);
            thread::yield_now();
        }
        assert_eq!(printer.print(Arc::new(sample::drift(2))), Printed::Closed);
        let summary = printer.finish(LONG);
        assert!(matches!(summary, Summary { lost: 0, unfinished: true, error: None }), "{summary:?}");
        assert!(notes.0.lock().unwrap().is_empty());
    }

    #[test]
    fn a_full_disk_is_an_error() {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let printer = Printer::start(Format::Falco, Colour::Off, full, io::sink()).unwrap();
        printer.print(Arc::new(sample::drift(1)));
        let error = printer.finish(LONG).error.unwrap();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn a_reader_that_never_reads_does_not_keep_the_agent_from_ending() {
        let (printer, reader, _) = printer((CAPACITY, CAPACITY_BYTES));
        for sequence in 1..=1000 {
            printer.print(Arc::new(sample::drift(sequence)));
        }
        assert!(printer.finish(Duration::from_millis(20)).unfinished);
        drop(reader);
    }

    #[test]
    fn direct_output_loses_nothing_and_tells_of_a_closed_reader() {
        let (reader, writer) = io::pipe().unwrap();
        let reading =
            thread::spawn(move || BufReader::new(reader).lines().take(5000).map(Result::unwrap).collect::<Vec<_>>());
        let mut direct = Direct::new(Format::Json, Colour::Off, writer);
        for sequence in 1..=5000 {
            direct.buffer(&sample::drift(sequence)).unwrap();
        }
        direct.flush().unwrap();
        assert_eq!(sequences(&reading.join().unwrap().join("\n")), (1..=5000).collect::<Vec<_>>());
        let error = direct.print(&sample::drift(1)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
