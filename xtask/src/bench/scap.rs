//! Replay of a `.scap` capture: events per second and most memory. Its events are repeated to 128 MiB, and once to a gigabyte,
//! which is streamed through a pipe and stored nowhere.
//!
//! The capture is the largest of the public ones, which are not part of this repository: they are looked for in
//! `MONITOR_FALCO_CAPTURES`, else in `../shared/captures` beside it, and where there are none, the bundled one is taken. With the
//! built-in rules, and with Falco's where they are found ([`super::rules::falco_files`]).

use std::{
    env, fs,
    io::{self, Read as _},
    path::PathBuf,
    process::{Command, Stdio},
    thread,
    time::Instant,
};

use anyhow::{Context as _, Result, bail};
use flate2::read::GzDecoder;

use super::{Bench, report::Row, rules};
use crate::{cmd, repository};

const BENCHMARK: &str = "replay of a .scap capture";
/// Rounds with a stream of [`ROUND_BYTES`].
const ROUNDS: usize = 7;
const ROUND_BYTES: u64 = 128 << 20;
/// The long stream.
const LONG_BYTES: u64 = 1 << 30;
/// Most memory, in MiB.
const AIM_MIB: f64 = 32.0;

/// A capture taken apart: what comes before its events, and these.
struct Parts {
    head: Vec<u8>,
    events: Vec<u8>,
}

/// One replay.
struct Replayed {
    events_per_second: f64,
    most_mib: f64,
}

/// Rules, and what they are called.
type Set = (&'static str, Vec<PathBuf>);

/// Measures all sets, alternating.
pub(super) fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let capture = largest_capture();
    eprintln!("bench: scap: {}", capture.display());
    let parts = Parts::of(&fs::read(&capture).with_context(|| capture.display().to_string())?)?;
    let falco = rules::falco_files()?;
    let mut sets: Vec<Set> = vec![("built-in rules", Vec::new())];
    if let Some(stable) = falco.iter().find(|path| path.ends_with("falco_rules.yaml")) {
        sets.push(("Falco's stable rules", vec![stable.clone()]));
        sets.push(("Falco's three files", falco));
    }
    let mut rates = vec![Vec::new(); sets.len()];
    for round in 1..=ROUNDS {
        eprintln!("bench: scap: round {round} of {ROUNDS}");
        for ((_, files), rates) in sets.iter().zip(&mut rates) {
            rates.push(parts.replay(bench, files, ROUND_BYTES)?.events_per_second);
        }
    }
    let mut rows = Vec::new();
    for ((name, files), rates) in sets.iter().zip(rates) {
        rows.push(Row::new(BENCHMARK, format!("events, {name}"), "M events/s", rates));
        eprintln!("bench: scap: {name}, one gigabyte");
        let long = parts.replay(bench, files, LONG_BYTES)?;
        rows.push(Row::new(BENCHMARK, format!("events, {name}, 1 GiB"), "M events/s", [long.events_per_second]));
        rows.push(Row::new(BENCHMARK, format!("most memory, {name}, 1 GiB"), "MiB", [long.most_mib]).at_most(AIM_MIB));
    }
    Ok(rows)
}

fn largest_capture() -> PathBuf {
    let public = repository::root().join("../shared/captures");
    let public = env::var_os("MONITOR_FALCO_CAPTURES").map_or(public, PathBuf::from);
    let found = fs::read_dir(public).into_iter().flatten().flatten().map(|entry| entry.path());
    found
        .filter(|path| path.extension().is_some_and(|extension| extension == "scap"))
        .max_by_key(|path| fs::metadata(path).map_or(0, |metadata| metadata.len()))
        .unwrap_or_else(|| repository::root().join("tests/conformance/node_scenario_a.scap"))
}

impl Parts {
    /// Splits a capture, plain or gzip, in front of its first event.
    fn of(file: &[u8]) -> Result<Self> {
        const EVENTS: [u32; 8] = [0x204, 0x208, 0x216, 0x217, 0x221, 0x222, 0x8010_abcd, 0x8010_abce];
        let mut bytes = Vec::new();
        if file.starts_with(&[0x1f, 0x8b]) {
            GzDecoder::new(file).read_to_end(&mut bytes)?;
        } else {
            bytes = file.to_vec();
        }
        let word = |at: usize| bytes.get(at..)?.first_chunk().map(|word| u32::from_le_bytes(*word));
        let mut at = 0;
        while let (Some(ty), Some(len)) = (word(at), word(at + 4)) {
            if EVENTS.contains(&ty) {
                let events = bytes.split_off(at);
                return Ok(Self { head: bytes, events });
            }
            at += usize::try_from(len)?.max(1);
        }
        bail!("the capture has no event")
    }

    /// Streams the events over and over, until there are so many bytes.
    fn replay(&self, bench: &Bench, rules: &[PathBuf], bytes: u64) -> Result<Replayed> {
        // Not on one CPU: reading is a thread of its own, and Falco's figures are of an idle machine, too.
        let mut command = Command::new(&bench.agent);
        command.args(["replay", "/dev/stdin", "-o", "falco", "--min-priority", "emergency"]);
        for file in rules {
            command.arg("-r").arg(file);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| cmd::line(&command))?;
        let mut input = child.stdin.take().context("no pipe")?;
        let pid = child.id();
        let begin = Instant::now();
        let status = thread::scope(|scope| -> Result<Option<String>> {
            scope.spawn(move || {
                // The agent's end of the pipe tells its own story.
                let _ = self.stream(&mut input, bytes);
            });
            let mut last = None;
            while child.try_wait()?.is_none() {
                last = fs::read_to_string(format!("/proc/{pid}/status"))
                    .ok()
                    .filter(|text| text.contains("VmHWM"))
                    .or(last);
                thread::sleep(std::time::Duration::from_millis(5));
            }
            Ok(last)
        })?;
        let seconds = begin.elapsed().as_secs_f64();
        let output = child.wait_with_output()?;
        let told = String::from_utf8_lossy(&output.stderr);
        let events = told.split_whitespace().find_map(|word| word.strip_prefix("events=")?.parse::<f64>().ok());
        match (events, output.status.success()) {
            (Some(events), true) if events > 0.0 => Ok(Replayed {
                events_per_second: events / seconds / 1e6,
                most_mib: super::memory::mebibytes(&status.unwrap_or_default(), "VmHWM")?,
            }),
            _ => bail!("`{}`: {}\n{told}", cmd::line(&command), output.status),
        }
    }

    fn stream(&self, out: &mut impl io::Write, bytes: u64) -> io::Result<()> {
        out.write_all(&self.head)?;
        let mut written = self.head.len() as u64;
        while written < bytes {
            out.write_all(&self.events)?;
            written += self.events.len() as u64;
        }
        Ok(())
    }
}
