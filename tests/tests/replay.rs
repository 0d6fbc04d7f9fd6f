//! Replay of recorded captures: the same bytes each time, and an honest end on every kind of damage. Needs no privileges.
//!
//! The captures are those that the project bundles, recorded from live runs.
use std::{
    fs,
    num::NonZero,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use tests::{
    agent,
    capture::{HEADER_BYTES, Numbers, boundaries},
    finding::parse,
    process::{self, Finished},
};

/// Exit code where the input is damaged.
const DAMAGED: i32 = 3;

/// The captures, which must be there.
fn fixtures() -> Result<Vec<PathBuf>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../monitor/demo");
    let entries = fs::read_dir(&directory).with_context(|| format!("no captures in {}", directory.display()))?;
    let mut captures: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    captures.retain(|path| path.extension().is_some_and(|extension| extension == "mcap"));
    captures.sort();
    ensure!(!captures.is_empty(), "no *.mcap in {}", directory.display());
    Ok(captures)
}

/// Replays a capture that must be whole.
fn replay_whole(capture: &Path) -> Result<Finished> {
    agent::replay(capture, &[])?.successful().with_context(|| capture.display().to_string())
}

/// Replays bytes from a file of their own.
fn replay_bytes(directory: &Path, name: &str, bytes: &[u8]) -> Result<Finished> {
    let path = directory.join(name);
    fs::write(&path, bytes)?;
    let finished = agent::replay(&path, &[]);
    fs::remove_file(&path)?;
    finished
}

/// No signal, no panic: an exit code that is documented.
fn honest_end(finished: &Finished, codes: &[i32]) -> Result<()> {
    ensure!(
        finished.status.code().is_some_and(|code| codes.contains(&code)),
        "{}\n{}",
        finished.status,
        finished.stderr
    );
    ensure!(!finished.stderr.contains("panicked"), "{}", finished.stderr);
    ensure!(finished.status.success() || !finished.stderr.trim().is_empty(), "the damage is not told");
    Ok(())
}

/// Calls `check` with every item, on all cores, and gives the first error.
fn on_all_cores<T: Sync>(items: &[T], check: impl Fn(&T) -> Result<()> + Sync) -> Result<()> {
    let next = AtomicUsize::new(0);
    let work = || -> Result<()> {
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            check(item)?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers = thread::available_parallelism().map_or(1, NonZero::get);
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

#[test]
fn a_capture_replays_to_the_same_bytes_each_time() -> Result<()> {
    for capture in fixtures()? {
        let (first, second) = (replay_whole(&capture)?, replay_whole(&capture)?);
        ensure!(first.stdout == second.stdout, "{} differs", capture.display());
        ensure!(!parse(&first.stdout_text())?.is_empty(), "{} has no findings: it tests nothing", capture.display());
    }
    Ok(())
}

#[test]
fn the_place_of_a_capture_does_not_matter() -> Result<()> {
    let directory = tempfile::tempdir()?;
    for capture in fixtures()? {
        let moved = replay_bytes(directory.path(), "moved", &fs::read(&capture)?)?;
        ensure!(moved.stdout == replay_whole(&capture)?.stdout, "{} differs under another name", capture.display());
    }
    Ok(())
}

#[test]
fn a_capture_cut_anywhere_gives_the_findings_before_the_cut() -> Result<()> {
    let directory = tempfile::tempdir()?;
    for capture in fixtures()? {
        let bytes = fs::read(&capture)?;
        let whole = replay_whole(&capture)?.stdout;
        let mut cuts = boundaries(&bytes)?;
        // The last boundary is the end: nothing is cut there.
        cuts.pop();
        let last = cuts.last().copied().context("no records")?;
        let mut numbers = Numbers::new(4);
        cuts.extend((0..100).map(|_| HEADER_BYTES + numbers.below(bytes.len() - HEADER_BYTES)));
        cuts.sort_unstable();
        cuts.dedup();
        let lengths: Vec<(usize, AtomicUsize)> = cuts.into_iter().map(|cut| (cut, AtomicUsize::new(0))).collect();
        on_all_cores(&lengths, |(cut, length)| {
            let finished =
                replay_bytes(directory.path(), &format!("cut-{cut}"), bytes.get(..*cut).unwrap_or_default())?;
            let context = || format!("{} cut at {cut}", capture.display());
            honest_end(&finished, &[DAMAGED]).with_context(context)?;
            ensure!(whole.starts_with(&finished.stdout), "{}: not the findings before the cut", context());
            ensure!(finished.stdout.is_empty() || finished.stdout.ends_with(b"\n"), "{}: half a line", context());
            ensure!(finished.elapsed < Duration::from_secs(10), "{}: {:?}", context(), finished.elapsed);
            length.store(finished.stdout.len(), Ordering::Relaxed);
            Ok(())
        })?;
        let found: Vec<usize> = lengths.iter().map(|(_, length)| length.load(Ordering::Relaxed)).collect();
        ensure!(found.is_sorted(), "{}: a later cut gives fewer findings", capture.display());
        let before_last = lengths.iter().zip(&found).filter(|((cut, _), _)| *cut >= last).map(|(_, length)| *length);
        ensure!(
            before_last.max() == Some(whole.len()),
            "{}: only the end mark is cut, and findings are missing",
            capture.display()
        );
    }
    Ok(())
}

#[test]
fn a_cut_within_the_header_is_an_error() -> Result<()> {
    let directory = tempfile::tempdir()?;
    for capture in fixtures()? {
        let bytes = fs::read(&capture)?;
        for cut in 0..HEADER_BYTES {
            let finished = replay_bytes(directory.path(), "cut", bytes.get(..cut).unwrap_or_default())?;
            honest_end(&finished, &[2, DAMAGED]).with_context(|| format!("cut at {cut}"))?;
            ensure!(finished.stdout.is_empty());
        }
    }
    Ok(())
}

#[test]
fn a_flipped_byte_anywhere_never_crashes() -> Result<()> {
    let directory = tempfile::tempdir()?;
    for capture in fixtures()? {
        let bytes = fs::read(&capture)?;
        let mut numbers = Numbers::new(2026);
        let mut flips: Vec<(usize, u8)> =
            (0..200).map(|_| (numbers.below(bytes.len()), 1 << numbers.below(8))).collect();
        flips.extend((0..HEADER_BYTES).map(|offset| (offset, 1 << numbers.below(8))));
        flips.sort_unstable();
        flips.dedup();
        on_all_cores(&flips, |&(offset, mask)| {
            let mut damaged = bytes.clone();
            if let Some(byte) = damaged.get_mut(offset) {
                *byte ^= mask;
            }
            let finished = replay_bytes(directory.path(), &format!("flip-{offset}-{mask}"), &damaged)?;
            // A header that names another format, or another version of this one, is no damage but an unknown input.
            let codes: &[i32] = if offset < HEADER_BYTES { &[0, 2, DAMAGED] } else { &[0, DAMAGED] };
            honest_end(&finished, codes)
                .with_context(|| format!("{} with bit {mask:#x} of {offset} flipped", capture.display()))?;
            ensure!(finished.elapsed < Duration::from_secs(10), "{offset}: {:?}", finished.elapsed);
            Ok(())
        })?;
    }
    Ok(())
}

/// A checksum covers every record: damage in one is noticed, and what came before it is still told.
#[test]
fn a_damaged_record_is_noticed() -> Result<()> {
    let directory = tempfile::tempdir()?;
    for capture in fixtures()? {
        let bytes = fs::read(&capture)?;
        let whole = replay_whole(&capture)?.stdout;
        let boundaries = boundaries(&bytes)?;
        let middle = boundaries.get(boundaries.len() / 2).copied().context("no records")?;
        let mut damaged = bytes.clone();
        *damaged.get_mut(middle + 8).context("an empty record")? ^= 1;
        let finished = replay_bytes(directory.path(), "damaged", &damaged)?;
        honest_end(&finished, &[DAMAGED])?;
        let before = replay_bytes(directory.path(), "before", bytes.get(..middle).unwrap_or_default())?.stdout;
        ensure!(
            finished.stdout.starts_with(&before) && before.len() <= whole.len(),
            "{}: findings before the damage",
            capture.display()
        );
    }
    Ok(())
}

fn gzip(path: &Path) -> Result<Vec<u8>> {
    Ok(process::run(Command::new("gzip").args(["-n", "-c"]).arg(path), Duration::from_secs(30))?.successful()?.stdout)
}

#[test]
fn a_compressed_capture_replays_the_same_and_a_cut_one_is_damaged() -> Result<()> {
    let directory = tempfile::tempdir()?;
    for capture in fixtures()? {
        let whole = replay_whole(&capture)?.stdout;
        let compressed = gzip(&capture)?;
        let finished = replay_bytes(directory.path(), "whole.gz", &compressed)?.successful()?;
        ensure!(finished.stdout == whole, "{}: compressed it differs", capture.display());
        let cut = replay_bytes(directory.path(), "cut.gz", compressed.get(..compressed.len() / 2).unwrap_or_default())?;
        honest_end(&cut, &[DAMAGED])?;
        ensure!(whole.starts_with(&cut.stdout), "{}: cut", capture.display());
    }
    Ok(())
}

#[test]
fn fail_on_and_count_shape_the_end_of_a_replay() -> Result<()> {
    for capture in fixtures()? {
        let whole = replay_whole(&capture)?;
        ensure!(
            agent::replay(&capture, &["--fail-on", "debug"])?.status.code() == Some(1),
            "a finding is at or above debug"
        );
        let one = agent::replay(&capture, &["-n", "1"])?.successful()?.stdout;
        ensure!(
            whole.stdout.starts_with(&one) && parse(&String::from_utf8_lossy(&one))?.len() == 1,
            "the first finding alone"
        );
        let none = agent::replay(&capture, &["--min-priority", "emergency"])?.successful()?.stdout;
        ensure!(none.is_empty(), "no built-in rule is an emergency");
    }
    Ok(())
}
