//! The spool as a whole: what comes back after kills, damage, full and broken disks.
use std::{
    any::Any,
    io::{self, ErrorKind},
    sync::atomic::AtomicBool,
    time::Instant,
};

use prost::Message as _;
use tempfile::TempDir;

use super::{
    files::{Disk, File},
    reader::{Cause, Item, Most},
    *,
};
use crate::output::sample;

const LONG: Duration = Duration::from_secs(20);
const EVERYTHING: Most = Most { entries: usize::MAX, bytes: usize::MAX };

/// A disk that fails when it is told to.
#[derive(Clone, Debug, Default)]
struct Faulty(Arc<Faults>);

#[derive(Debug, Default)]
struct Faults {
    /// Bytes that still fit, where that is limited.
    room: Mutex<Option<u64>>,
    read_only: AtomicBool,
    unreadable: AtomicBool,
}

impl Faulty {
    fn read_only() -> Self {
        let disk = Self::default();
        disk.set_read_only(true);
        disk
    }

    fn set_room(&self, bytes: Option<u64>) {
        *self.0.room.lock().unwrap() = bytes;
    }

    fn set_read_only(&self, read_only: bool) {
        self.0.read_only.store(read_only, Ordering::Relaxed);
    }

    fn check_writable(&self) -> io::Result<()> {
        if self.0.read_only.load(Ordering::Relaxed) { Err(ErrorKind::ReadOnlyFilesystem.into()) } else { Ok(()) }
    }
}

impl Files for Faulty {
    fn create_directory(&self, path: &Path) -> io::Result<()> {
        self.check_writable()?;
        Disk.create_directory(path)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<(String, u64)>> {
        Disk.list(directory)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.check_writable()?;
        Ok(Arc::new(FaultyFile { file: Disk.create(path)?, disk: self.clone() }))
    }

    fn open(&self, path: &Path, writable: bool) -> io::Result<Arc<dyn File>> {
        if writable {
            self.check_writable()?;
        }
        Ok(Arc::new(FaultyFile { file: Disk.open(path, writable)?, disk: self.clone() }))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.check_writable()?;
        let bytes = std::fs::metadata(path)?.len();
        Disk.remove(path)?;
        if let Some(room) = &mut *self.0.room.lock().unwrap() {
            *room += bytes;
        }
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Any + Send + Sync>>> {
        Disk.lock(path)
    }
}

#[derive(Debug)]
struct FaultyFile {
    file: Arc<dyn File>,
    disk: Faulty,
}

impl File for FaultyFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.disk.check_writable()?;
        let mut room = self.disk.0.room.lock().unwrap();
        let Some(room) = &mut *room else { return self.file.write_at(bytes, offset) };
        if *room == 0 {
            return Err(ErrorKind::StorageFull.into());
        }
        let fits = usize::try_from(*room).unwrap().min(bytes.len());
        *room -= fits as u64;
        self.file.write_at(&bytes[..fits], offset)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        if self.disk.0.unreadable.load(Ordering::Relaxed) {
            return Err(io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error()));
        }
        self.file.read_at(bytes, offset)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.disk.check_writable()?;
        let mut rest = vec![0; 64 << 10];
        let freed = files::read_full(&*self.file, &mut rest, len)?;
        if let Some(room) = &mut *self.disk.0.room.lock().unwrap() {
            *room += freed as u64;
        }
        self.file.truncate(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }
}

fn limits() -> Limits {
    Limits { retry_every: Duration::from_millis(20), ..Limits::default() }
}

fn small() -> Limits {
    Limits { bytes: 64 << 10, segment_bytes: 8 << 10, cache_bytes: 4 << 10, memory_bytes: 32 << 10, ..limits() }
}

struct Run {
    spool: Spool,
    threads: Threads,
    recovery: Recovery,
    sequence: u64,
}

impl Run {
    fn new(directory: &TempDir, epoch: u128) -> Self {
        Self::with(directory, epoch, limits(), Arc::new(Disk))
    }

    fn with(directory: &TempDir, epoch: u128, limits: Limits, files: Arc<dyn Files>) -> Self {
        let opened = Spool::open(files, &directory.path().join("spool"), limits, Uuid::from_u128(epoch));
        let (spool, threads, recovery) = opened.unwrap();
        Self { spool, threads, recovery, sequence: 0 }
    }

    fn append(&mut self, count: u64) {
        for _ in 0..count {
            self.sequence += 1;
            self.spool.append(&sample::drift(self.sequence));
        }
    }

    fn wait_saved(&self) {
        wait(|| self.spool.status().unsaved == 0);
    }

    fn save(&mut self, count: u64) {
        self.append(count);
        self.wait_saved();
    }

    /// Ends without a word, as SIGKILL does.
    fn kill(self) {
        self.wait_saved();
        self.spool.0.ending.store(true, Ordering::Release);
        self.threads.writer.join().unwrap();
    }

    fn read_all(&self) -> Vec<Item> {
        self.spool.reader(self.spool.earliest()).read(EVERYTHING)
    }
}

fn wait(done: impl Fn() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < LONG, "it does not come");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// `epoch/sequence` of findings, `cause` of losses, `cause count` of holes.
fn shown(items: &[Item]) -> Vec<String> {
    let entry = |entry: &reader::Entry| match entry.kind {
        Kind::FINDING => {
            let finding = Finding::decode(entry.payload.clone()).unwrap();
            assert_eq!(finding, sample::drift(entry.sequence));
            Some(format!("{}/{}", entry.epoch.as_u128(), entry.sequence))
        }
        Kind::LOSS => Some(LossReport::decode(entry.payload.clone()).unwrap().cause),
        _ => None,
    };
    let item = |item: &Item| match item {
        Item::Entry(found) => entry(found),
        Item::Missing { findings, cause, .. } => Some(format!("{} {findings}", cause.word())),
    };
    items.iter().filter_map(item).collect()
}

fn range(epoch: u32, sequences: std::ops::RangeInclusive<u64>) -> Vec<String> {
    sequences.map(|sequence| format!("{epoch}/{sequence}")).collect()
}

fn segments(directory: &TempDir) -> Vec<PathBuf> {
    let mut paths: Vec<_> = std::fs::read_dir(directory.path().join("spool"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "seg"))
        .collect();
    paths.sort();
    paths
}

#[test]
fn findings_are_there_after_orderly_ends_and_runs_are_told_apart() {
    let directory = tempfile::tempdir().unwrap();
    let mut first = Run::new(&directory, 1);
    assert_eq!(first.recovery, Recovery { clean: true, ..Recovery::default() });
    first.append(3);
    first.threads.finish();
    let mut second = Run::new(&directory, 2);
    assert_eq!((second.recovery.epoch.as_u128(), second.recovery.sequence, second.recovery.clean), (1, 3, true));
    second.save(2);
    assert_eq!(shown(&second.read_all()), [range(1, 1..=3), range(2, 1..=2)].concat());
    let after = second.spool.after(Uuid::from_u128(1), 2).unwrap();
    let mut reader = second.spool.reader(after);
    assert_eq!(shown(&reader.read(Most { entries: 2, bytes: usize::MAX })), range(1, 1..=2));
    assert_eq!(second.spool.after(Uuid::from_u128(9), 2), None);
    second.threads.finish();
}

#[test]
fn a_run_that_was_killed_is_told_of_in_front_of_the_next_findings() {
    let directory = tempfile::tempdir().unwrap();
    let mut run = Run::new(&directory, 1);
    run.append(2);
    run.kill();
    // One that made nothing leaves nothing, and does not hide what was before.
    Run::new(&directory, 2).kill();
    let mut run = Run::new(&directory, 3);
    assert_eq!((run.recovery.sequence, run.recovery.clean), (2, false));
    run.save(1);
    let all = shown(&run.read_all());
    assert_eq!(all.first().map(String::as_str), Some("1/1"));
    assert_eq!(all.last().map(String::as_str), Some("3/1"));
    assert!(all.contains(&"crash".to_owned()), "{all:?}");
    run.threads.finish();
}

#[test]
fn readers_follow_from_memory_and_from_disk_alike() {
    let directory = tempfile::tempdir().unwrap();
    let mut run = Run::with(&directory, 1, Limits { bytes: 64 << 20, ..small() }, Arc::new(Disk));
    let mut quick = run.spool.reader(run.spool.earliest());
    let mut from_quick = Vec::new();
    for _ in 0..50 {
        run.save(20);
        from_quick.extend(shown(&quick.read(EVERYTHING)));
    }
    assert_eq!(from_quick, range(1, 1..=1000));
    assert!(segments(&directory).len() > 10);
    let mut slow = run.spool.reader(run.spool.earliest());
    let mut from_slow = Vec::new();
    loop {
        let items = slow.read(Most { entries: 7, bytes: 5000 });
        if items.is_empty() {
            break;
        }
        assert!(items.len() <= 7);
        from_slow.extend(shown(&items));
    }
    assert_eq!(from_slow, range(1, 1..=1000));
    run.threads.finish();
}

#[test]
fn a_full_spool_gives_up_the_oldest_and_tells_the_exact_number() {
    let directory = tempfile::tempdir().unwrap();
    let mut run = Run::with(&directory, 1, small(), Arc::new(Disk));
    let mut reader = run.spool.reader(run.spool.earliest());
    run.save(10);
    assert_eq!(shown(&reader.read(EVERYTHING)), range(1, 1..=10));
    for _ in 0..50 {
        run.save(10);
    }
    let bytes: u64 = segments(&directory).iter().map(|path| path.metadata().unwrap().len()).sum();
    assert!(bytes <= small().bytes, "{bytes}");
    let items = reader.read(EVERYTHING);
    // The segment that it was in stays readable as long as it is open.
    let hole = items.iter().position(|item| matches!(item, Item::Missing { .. })).unwrap();
    let Item::Missing { findings, cause: Cause::Evicted, first_sequence, .. } = items[hole] else { panic!() };
    assert_eq!(shown(&items[..hole]), range(1, 11..=first_sequence - 1));
    assert_eq!(shown(&items[hole + 1..]), range(1, first_sequence + findings..=510));
    run.threads.finish();
}

#[test]
fn a_torn_last_entry_is_cut_off_wherever_it_was_torn() {
    let directory = tempfile::tempdir().unwrap();
    let mut run = Run::new(&directory, 1);
    run.append(3);
    run.kill();
    let path = segments(&directory).remove(0);
    let whole = std::fs::read(&path).unwrap();
    let third = frame::Frames::new(&whole).nth(2).unwrap().0;
    for len in [third + 1, third + 20, third + frame::HEADER_BYTES, whole.len() - 1] {
        std::fs::write(&path, &whole[..len]).unwrap();
        let (log, recovery) =
            Log::open(Arc::new(Disk), &directory.path().join("spool"), limits(), Uuid::from_u128(2)).unwrap();
        assert_eq!((recovery.sequence, recovery.torn_bytes), (2, (len - third) as u64));
        assert_eq!(path.metadata().unwrap().len(), third as u64);
        drop(log);
    }
}

#[test]
fn damage_in_the_middle_costs_what_it_hit_and_is_counted() {
    let directory = tempfile::tempdir().unwrap();
    let mut run = Run::new(&directory, 1);
    run.append(20);
    run.threads.finish();
    let path = segments(&directory).remove(0);
    let mut bytes = std::fs::read(&path).unwrap();
    let starts: Vec<usize> = frame::Frames::new(&bytes).map(|(at, _)| at).collect();
    // A payload, a length that covers far more than there is, and three entries in a row.
    bytes[starts[4] + 100] ^= 0x10;
    bytes[starts[8] + 6] ^= 0x20;
    bytes[starts[11]..starts[14]].fill(0xaa);
    std::fs::write(&path, &bytes).unwrap();
    let mut run = Run::new(&directory, 2);
    run.save(1);
    let mut expected = range(1, 1..=4);
    expected.push("damaged 1".into());
    expected.extend(range(1, 6..=8));
    expected.push("damaged 1".into());
    expected.extend(range(1, 10..=11));
    expected.push("damaged 3".into());
    expected.extend(range(1, 15..=20));
    expected.extend(range(2, 1..=1));
    assert_eq!(shown(&run.read_all()), expected);
    run.threads.finish();
}

#[test]
fn a_full_disk_costs_the_oldest_segments_and_nothing_new() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Faulty::default();
    disk.set_room(Some(40 << 10));
    let mut run = Run::with(&directory, 1, small(), Arc::new(disk.clone()));
    for _ in 0..30 {
        run.save(10);
    }
    let items = run.read_all();
    assert_eq!(shown(&items).last().map(String::as_str), Some("1/300"));
    assert!(run.spool.status().evicted_segments > 0);
    run.threads.finish();
}

#[test]
fn while_the_disk_is_read_only_memory_stands_in_and_it_recovers() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Faulty::default();
    let mut run = Run::with(&directory, 1, small(), Arc::new(disk.clone()));
    let mut reader = run.spool.reader(run.spool.earliest());
    run.save(5);
    assert_eq!(shown(&reader.read(EVERYTHING)), range(1, 1..=5));
    disk.set_read_only(true);
    run.append(5);
    wait(|| run.spool.status().failing.is_some());
    assert_eq!(shown(&reader.read(EVERYTHING)), range(1, 6..=10), "who reads gets them all the same");
    // More than fits into memory: the oldest go, and are told.
    let begin = Instant::now();
    run.append(1000);
    assert!(begin.elapsed() < LONG, "nobody waits for the disk");
    let items = reader.read(EVERYTHING);
    let Some(Item::Missing { findings, cause: Cause::NotStored, first_sequence: 11, .. }) = items.first() else {
        panic!("{:?}", items.first())
    };
    let kept = range(1, findings + 11..=1010);
    assert_eq!(shown(&items[1..]), kept);
    disk.set_read_only(false);
    wait(|| run.spool.status().failing.is_none());
    run.save(1);
    assert_eq!(shown(&reader.read(EVERYTHING)), range(1, 1011..=1011));
    // What memory had is on the disk now.
    let mut late = run.spool.reader(run.spool.earliest());
    let all = shown(&late.read(EVERYTHING));
    assert_eq!(all.iter().filter(|item| item.starts_with("1/")).count(), 5 + kept.len() + 1);
    run.threads.finish();
}

#[test]
fn a_spool_that_cannot_be_opened_for_writing_gives_what_it_has() {
    let directory = tempfile::tempdir().unwrap();
    let mut run = Run::new(&directory, 1);
    run.append(3);
    run.threads.finish();
    let disk = Faulty::default();
    disk.set_read_only(true);
    let mut run = Run::with(&directory, 2, limits(), Arc::new(disk));
    run.append(1);
    wait(|| run.spool.status().failing.is_some());
    assert_eq!(shown(&run.read_all()), [range(1, 1..=3), range(2, 1..=1)].concat());
    let mut cursor = run.spool.cursor("a");
    let position = run.spool.latest();
    assert!(cursor.store(&Faulty::read_only(), position).is_err());
    assert_eq!(cursor.position(), Some(position));
    run.threads.finish();
}

#[test]
fn a_disk_that_cannot_be_read_costs_what_is_only_there() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Faulty::default();
    let mut run = Run::with(&directory, 1, Limits { bytes: 1 << 20, ..small() }, Arc::new(disk.clone()));
    run.save(100);
    disk.0.unreadable.store(true, Ordering::Relaxed);
    let items = run.read_all();
    assert!(matches!(items.first(), Some(Item::Missing { cause: Cause::Damaged, .. })), "{:?}", items.first());
    assert_eq!(shown(&items).last().map(String::as_str), Some("1/100"));
    run.threads.finish();
}

#[test]
fn a_second_agent_is_refused_and_told_who_is_first() {
    let directory = tempfile::tempdir().unwrap();
    let run = Run::new(&directory, 1);
    let path = directory.path().join("spool");
    let error = Spool::open(Arc::new(Disk), &path, limits(), Uuid::from_u128(2)).unwrap_err();
    assert_eq!(error.kind(), "locked");
    assert!(error.to_string().contains(&format!("(pid {})", std::process::id())), "{error}");
    run.threads.finish();
    Run::new(&directory, 3).kill();
}

#[test]
fn indices_that_a_sink_had_are_not_given_out_again() {
    let directory = tempfile::tempdir().unwrap();
    let mut run = Run::new(&directory, 1);
    run.save(10);
    run.spool.cursor("a").store(&Disk, run.spool.latest()).unwrap();
    run.kill();
    // The power went: the disk has less than the sink.
    let path = segments(&directory).remove(0);
    let bytes = std::fs::read(&path).unwrap();
    let sixth = frame::Frames::new(&bytes).nth(5).unwrap().0;
    std::fs::write(&path, &bytes[..sixth]).unwrap();
    let mut run = Run::new(&directory, 2);
    assert_eq!(run.recovery.next_index, 10);
    run.save(1);
    let mut sink = run.spool.reader(run.spool.cursor("a").position().unwrap());
    assert_eq!(shown(&sink.read(EVERYTHING)), ["crash", "2/1"]);
    run.threads.finish();
}

#[test]
fn a_finding_that_is_too_long_is_missed_and_not_the_others() {
    let directory = tempfile::tempdir().unwrap();
    let mut run = Run::new(&directory, 1);
    run.save(1);
    run.sequence += 1;
    run.spool.append(&Finding { message: "x".repeat(5 << 20), ..sample::drift(run.sequence) });
    run.save(1);
    assert_eq!(shown(&run.read_all()), ["1/1", "not_stored 1", "1/3"]);
    run.threads.finish();
}

#[test]
fn what_a_spool_holds_is_seen_from_outside() {
    let directory = tempfile::tempdir().unwrap();
    let mut run = Run::new(&directory, 1);
    run.save(5);
    run.spool.store(&mut run.spool.cursor("a"), run.spool.latest()).unwrap();
    let path = directory.path().join("spool");
    let report = inspect::inspect(&Disk, &path).unwrap();
    assert_eq!((report.findings(), report.segments.len(), report.is_damaged()), (5, 1, false));
    assert_eq!(report.cursors, [("a".to_owned(), Some(run.spool.latest()))]);
    run.threads.finish();
    let segment = segments(&directory).remove(0);
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[300] ^= 1;
    bytes.extend(b"torn");
    std::fs::write(&segment, bytes).unwrap();
    let report = inspect::inspect(&Disk, &path).unwrap();
    let found = &report.segments[0];
    assert_eq!(
        (found.findings, found.missing, found.damaged_places, found.torn_bytes, found.ended),
        (4, 1, 1, 4, true)
    );
    assert!(report.is_damaged());
}

#[test]
fn a_clock_that_steps_back_between_runs_changes_no_order_no_place_and_nothing_that_is_given_up() {
    let directory = tempfile::tempdir().unwrap();
    // Runs are named by the time: after the step a later run has the lower name.
    let mut before = Run::with(&directory, 9, small(), Arc::new(Disk));
    for _ in 0..20 {
        before.save(1);
    }
    let mut cursor = before.spool.cursor("s");
    let place = Position { index: 5, epoch: Uuid::from_u128(9), sequence: 5 };
    before.spool.store(&mut cursor, place).unwrap();
    before.threads.finish();
    let mut after = Run::with(&directory, 3, small(), Arc::new(Disk));
    assert_eq!((after.recovery.epoch, after.recovery.sequence, after.recovery.clean), (Uuid::from_u128(9), 20, true));
    after.save(2);
    let expected = [range(9, 1..=20), range(3, 1..=2)].concat();
    assert_eq!(shown(&after.read_all()), expected);
    let reader = |position| shown(&after.spool.reader(position).read(EVERYTHING));
    assert_eq!(after.spool.cursor("s").position(), Some(place));
    assert_eq!(reader(place), expected[5..], "a sink goes on where it was");
    let epoch = Uuid::from_u128(9);
    let mut behind = after.spool.reader(after.spool.after(epoch, 18).unwrap());
    behind.skip_to(epoch, 18);
    assert_eq!(shown(&behind.read(EVERYTHING)), expected[18..], "and a subscriber by its cursor");
    after.kill();

    // The next run follows the one that was last, not the one with the highest name; and the oldest goes first.
    let mut last = Run::with(&directory, 5, small(), Arc::new(Disk));
    assert_eq!((last.recovery.epoch, last.recovery.sequence, last.recovery.clean), (Uuid::from_u128(3), 2, false));
    while last.spool.status().evicted_segments == 0 {
        last.save(1);
    }
    let kept = shown(&last.read_all());
    let of_first: Vec<_> = kept.iter().take_while(|line| line.starts_with("9/")).cloned().collect();
    assert_eq!(of_first, range(9, 21 - of_first.len() as u64..=20), "the newest of the first run");
    assert!((1..20).contains(&of_first.len()), "{kept:?}");
    let of_others = [range(3, 1..=2), vec!["crash".to_owned()], range(5, 1..=last.sequence)].concat();
    assert_eq!(kept[of_first.len()..], of_others);
    last.threads.finish();
}
