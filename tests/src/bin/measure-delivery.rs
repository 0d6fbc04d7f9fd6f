//! Measures parts of delivery by themselves: `measure-delivery ROUNDS CAPTURE`. Prints one JSON object per measurement;
//! `cargo xtask bench delivery` makes medians of them.
//!
//! - `spool`: one thread appends, another reads batches and keeps its place behind each, as a sink does that answers at once.
//! - `redact`: a finding of the capture copied, and copied and redacted; one without a secret, and one with.
//! - `size`: bytes of each finding of the capture, encoded.
use std::{
    hint::black_box,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use monitor::{
    capture::Reader,
    output::{
        outputs::Outputs,
        push::Sender,
        spool::{Limits, Spool, reader::Most},
    },
    pipeline::{Pipeline, Selection},
    proto::v1::{Finding, Priority},
    redact::Redactor,
    report::Mode,
    rules::{Options, RuleSet, Source},
    source::{Source as _, Status},
};
use prost::Message as _;
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

/// Entries of one measurement of the spool.
const ENTRIES: u64 = 200_000;
/// Entries that may wait for the disk: far fewer than the spool has memory for, so that none is dropped.
const WAITING: u64 = 4096;
/// What a sink takes at once.
const BATCH: Most = Most { entries: 512, bytes: 1 << 20 };
/// How long one measurement of the redactor takes, at least.
const TIME: Duration = Duration::from_millis(50);

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let mut next = || args.next().context("usage: measure-delivery ROUNDS CAPTURE");
    let rounds: u32 = next()?.parse()?;
    let findings = findings(Path::new(&next()?))?;
    let redactor = Redactor::builtin().context("the built-in patterns do not compile")?;
    let (plain, secret) = (&findings, findings.iter().map(with_secret).collect::<Vec<_>>());
    for finding in &findings {
        println!("{}", json!({"what": "size", "bytes": finding.encoded_len()}));
    }
    for _ in 0..rounds {
        println!("{}", spool(&findings)?);
        for (kind, findings) in [("plain", plain), ("secret", &secret)] {
            let copied = per_finding(findings, |_| {})?;
            let redacted = per_finding(findings, |finding| redactor.finding(finding))?;
            println!("{}", json!({"what": "redact", "kind": kind, "copied_ns": copied, "redacted_ns": redacted}));
        }
    }
    Ok(())
}

/// What the built-in rules find in a capture, with its secrets.
fn findings(capture: &Path) -> Result<Vec<Finding>> {
    let rules = RuleSet::load(&[Source::builtin()], &Options::default()).rules.context("the built-in rules")?;
    let selection = Selection { rules, filter: None, min_priority: Priority::Debug };
    let mut pipeline = Pipeline::new(selection, Mode::Replay, || 0);
    pipeline.set_redactor(None);
    let mut reader = Reader::open(capture)?;
    let mut findings = Vec::new();
    while reader.drain(Duration::ZERO, &mut |bytes| pipeline.record(bytes, &mut |finding| findings.push(finding)))?
        != Status::Ended
    {}
    ensure!(!findings.is_empty(), "{}: no findings", capture.display());
    Ok(findings)
}

/// The same finding, of a process that was given a password.
fn with_secret(finding: &Finding) -> Finding {
    let mut finding = finding.clone();
    if let Some(process) = &mut finding.process {
        process.arguments.extend(["--password".to_owned(), "swordfish".to_owned()]);
    }
    finding.message.push_str(" (command=app --password swordfish)");
    finding
}

/// Nanoseconds of CPU time per finding of a copy and what is done to it.
fn per_finding(findings: &[Finding], mut each: impl FnMut(&mut Finding)) -> Result<f64> {
    let (start, mut count, mut used) = (cpu()?, 0_u32, Duration::ZERO);
    while used < TIME {
        for finding in findings {
            let mut finding = finding.clone();
            each(&mut finding);
            black_box(&finding);
            count += 1;
        }
        used = cpu()?.saturating_sub(start);
    }
    Ok(used.as_secs_f64() * 1e9 / f64::from(count))
}

fn spool(findings: &[Finding]) -> Result<Value> {
    let directory = tempfile::Builder::new().prefix("monitor-spool-").tempdir()?;
    let outputs = Outputs::open(Some((directory.path(), Limits::default())), Vec::new(), &Sender::default())?;
    let spool = outputs.spool().context("no spool")?.clone();
    let mut findings = findings.to_vec();
    let (begin, used_before) = (Instant::now(), cpu()?);
    let reader_thread = {
        let spool = spool.clone();
        thread::spawn(move || take(&spool))
    };
    let mut sequence = 0;
    while sequence < ENTRIES {
        for finding in &mut findings {
            sequence += 1;
            finding.sequence = sequence;
            spool.append(finding);
        }
        while spool.status().unsaved > WAITING {
            thread::sleep(Duration::from_micros(100));
        }
    }
    let taken = reader_thread.join().map_err(|_| anyhow::anyhow!("the reader panicked"))??;
    let (seconds, used) = (begin.elapsed().as_secs_f64(), cpu()?.saturating_sub(used_before).as_secs_f64());
    let status = spool.status();
    ensure!(taken >= ENTRIES && status.dropped == 0, "taken {taken}, {status:?}");
    outputs.finish();
    let (taken, written) = (number(taken), number(status.written_bytes));
    Ok(json!({
        "what": "spool", "findings_per_s": taken / seconds, "cpu_us": used * 1e6 / taken,
        "written_bytes": written / number(status.written),
    }))
}

/// Reads until everything is there, and keeps its place after each batch.
fn take(spool: &Spool) -> Result<u64> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let (mut changes, mut cursor) = (spool.changes(), spool.cursor("measured"));
    let mut reader = spool.reader(spool.earliest());
    while reader.position().index < ENTRIES {
        changes.mark_unchanged();
        if reader.read(BATCH).is_empty() {
            runtime.block_on(changes.changed())?;
        } else {
            spool.store(&mut cursor, reader.position())?;
        }
    }
    Ok(reader.position().index)
}

fn cpu() -> Result<Duration> {
    Ok(clock_gettime(ClockId::ProcessCPUTime).try_into()?)
}

fn number(count: u64) -> f64 {
    monitor::output::metrics::number(count)
}
