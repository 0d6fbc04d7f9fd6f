//! Captures of Falco and sysdig that are cut or damaged: what came before the damage is reported, and nothing worse happens.
//!
//! One capture is bundled. The public ones are not part of this repository: they are looked for in
//! `MONITOR_FALCO_CAPTURES`, else in `../shared/captures` beside it.

use std::{
    env, fs,
    io::{Cursor, Read as _},
    num::NonZero,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use anyhow::{Context as _, Result, ensure};
use monitor::{
    capture::Unpacked,
    pipeline::{Pipeline, Selection},
    proto::v1::Priority,
    report::Mode,
    rules::{Matching, Options, RuleSet, Source},
    scap::Reader,
    source::SourceError,
};
use tests::agent;

/// Places at which each capture is cut, and as many at which it is damaged.
const PLACES: usize = 200;
/// Of these, how many the program itself replays.
const OF_THE_PROGRAM: usize = 4;
/// Most memory of all replays together: the bytes of some captures and their unpacked forms are in it.
const MOST_RESIDENT_KIB: u64 = 512 << 10;
const DAMAGED: i32 = 3;

fn bundled() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance")
}

fn captures() -> Result<Vec<PathBuf>> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/captures");
    let public = env::var_os("MONITOR_FALCO_CAPTURES").map_or(beside, PathBuf::from);
    let mut captures = Vec::new();
    for directory in [bundled(), public] {
        let Ok(entries) = fs::read_dir(&directory) else {
            eprintln!("SKIPPED (needs public captures): {} is no directory", directory.display());
            continue;
        };
        captures.extend(
            entries.flatten().map(|entry| entry.path()).filter(|path| path.extension() == Some("scap".as_ref())),
        );
    }
    captures.sort();
    ensure!(!captures.is_empty());
    Ok(captures)
}

/// A replay: what was found, by event and rule, and how it ended.
#[derive(Debug)]
struct Replayed {
    found: Vec<(u64, String)>,
    end: Result<(), SourceError>,
}

fn replay(bytes: &[u8], rules: &[u8]) -> Result<Replayed> {
    let options = Options { matching: Matching::All, ..Options::default() };
    let source = Source { name: "own_rules.yaml".into(), text: rules.to_vec() };
    let rules = RuleSet::load(&[source], &options).rules.context("the bundled rules are wrong")?;
    let mut pipeline =
        Pipeline::new(Selection { rules, filter: None, min_priority: Priority::Debug }, Mode::Replay, || 0);
    let mut found = Vec::new();
    let mut read = || -> Result<(), SourceError> {
        let mut reader = Reader::new(Cursor::new(bytes.to_vec()))?;
        while let Some(event) = reader.next()? {
            pipeline.event(&event, true, &mut |finding| found.push((finding.event_number, finding.rule)));
        }
        Ok(())
    };
    let end = read();
    Ok(Replayed { found, end })
}

/// Numbers without a pattern, the same in each run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or(0) % limit.max(1)
    }
}

fn unpacked(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    Unpacked::new(Cursor::new(bytes.to_vec()))?.read_to_end(&mut all)?;
    Ok(all)
}

/// A file as it is and as it is without gzip, one of the two for each number.
struct Forms([Vec<u8>; 2]);

impl Forms {
    fn of(path: &Path) -> Result<Self> {
        let bytes = fs::read(path)?;
        let plain = unpacked(&bytes)?;
        Ok(Self([bytes, plain]))
    }

    fn get(&self, number: usize) -> &[u8] {
        let [packed, plain] = &self.0;
        if number.is_multiple_of(2) { packed } else { plain }
    }
}

/// Does something with every capture, on all processors.
fn each_capture(check: impl Fn(&Path, &[u8]) -> Result<()> + Sync) -> Result<()> {
    let captures = captures()?;
    let rules = fs::read(bundled().join("own_rules.yaml"))?;
    let next = AtomicUsize::new(0);
    let work = || -> Result<()> {
        while let Some(path) = captures.get(next.fetch_add(1, Ordering::Relaxed)) {
            check(path, &rules).with_context(|| path.display().to_string())?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let count = thread::available_parallelism().map_or(1, NonZero::get);
        let threads: Vec<_> = (0..count).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?)
    })?;
    let status = fs::read_to_string("/proc/self/status")?;
    let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    let most: u64 = most.trim().trim_end_matches(" kB").parse()?;
    ensure!(most < MOST_RESIDENT_KIB, "{most} KiB of memory were used");
    Ok(())
}

#[test]
fn a_cut_capture_gives_what_came_before_the_cut() -> Result<()> {
    each_capture(|path, rules| {
        let forms = Forms::of(path)?;
        let whole = replay(forms.get(0), rules)?;
        ensure!(whole.end.is_ok(), "{:?}", whole.end);
        let mut numbers = Numbers(1);
        for number in 0..PLACES {
            let bytes = forms.get(number);
            let at = numbers.below(bytes.len());
            let cut = replay(bytes.get(..at).unwrap_or_default(), rules)?;
            ensure!(whole.found.starts_with(&cut.found), "cut at {at}: other findings than those of the whole");
            // Between two blocks a file may end.
            let has_events = cut.end.is_ok();
            ensure!(
                has_events || matches!(cut.end, Err(SourceError::Damaged { .. } | SourceError::Format(_))),
                "{:?}",
                cut.end
            );
        }
        Ok(())
    })
}

#[test]
fn a_damaged_capture_ends_in_an_error_or_well() -> Result<()> {
    each_capture(|path, rules| {
        let forms = Forms::of(path)?;
        let mut numbers = Numbers(2);
        for number in 0..PLACES {
            let mut bytes = forms.get(number).to_vec();
            let at = numbers.below(bytes.len());
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= u8::try_from(1 + numbers.below(255))?;
            }
            let damaged = replay(&bytes, rules)?;
            let honest = matches!(damaged.end, Ok(()) | Err(SourceError::Damaged { .. } | SourceError::Format(_)));
            ensure!(honest, "a bit flipped at {at}: {:?}", damaged.end);
        }
        Ok(())
    })
}

#[test]
fn the_program_says_so_and_exits_with_3() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let rules = bundled().join("own_rules.yaml");
    let rules = rules.to_str().context("no UTF-8")?.to_owned();
    each_capture(|path, own| {
        let forms = Forms::of(path)?;
        let whole = replay(forms.get(0), own)?.found.len();
        let mut numbers = Numbers(3);
        for number in 0..OF_THE_PROGRAM {
            let bytes = forms.get(number);
            let at = numbers.below(bytes.len());
            let bytes = bytes.get(..at).unwrap_or_default();
            let cut = replay(bytes, own)?;
            let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or("capture");
            let file = directory.path().join(format!("{name}-{number}.scap"));
            fs::write(&file, bytes)?;
            let finished = agent::replay(&file, &["-r", &rules, "--rule-matching", "all"])?;
            let expected = if cut.end.is_ok() { 0 } else { DAMAGED };
            ensure!(finished.status.code() == Some(expected), "cut at {at}: {}\n{}", finished.status, finished.stderr);
            let lines = String::from_utf8_lossy(&finished.stdout).lines().count();
            ensure!(lines == cut.found.len() && lines <= whole, "cut at {at}: {lines} findings of {}", cut.found.len());
            fs::remove_file(&file)?;
        }
        Ok(())
    })
}
