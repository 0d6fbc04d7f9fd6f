//! `monitor replay`: the findings of captures, by the same flow as a live run.

use std::{
    io::{self, ErrorKind},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context as _, Result};

use super::{
    Exit,
    options::{FindingArgs, RuleArgs},
};
use crate::{
    capture::Reader,
    output::{queue::Direct, stdout::Colour},
    pipeline::{Pipeline, Selection},
    proto::v1::Finding,
    report::Mode,
    source::{Source, SourceError, Status},
};

/// Options of `monitor replay`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Replaying a capture twice prints identical bytes.")]
pub(super) struct Args {
    /// Captures of `monitor record` or `monitor run -w`, plain or gzip
    #[arg(required = true, value_name = "CAPTURE")]
    captures: Vec<PathBuf>,
    #[command(flatten)]
    rules: RuleArgs,
    #[command(flatten)]
    findings: FindingArgs,
}

/// Replays the captures one after the other.
pub(super) fn run(args: &Args) -> Result<Exit> {
    let mut exit = Exit::Done;
    for path in &args.captures {
        let selection = args.findings.selection(args.rules.load()?)?;
        let name = path.display().to_string();
        let opened = match std::fs::File::open(path) {
            Ok(file) => Reader::new(file),
            Err(error) => return Err(error).with_context(|| format!("cannot open {name}")),
        };
        let ended = match opened {
            Ok(mut reader) => replay(&mut reader, selection, &args.findings)?,
            Err(error) => Replayed { exit: Exit::Done, damage: Some(error) },
        };
        if let Some(error) = ended.damage {
            eprintln!("monitor: {name}: {error}");
            return Ok(Exit::Damaged);
        }
        if ended.exit != Exit::Done {
            exit = ended.exit;
        }
    }
    Ok(exit)
}

/// How a replay ended.
pub(super) struct Replayed {
    pub(super) exit: Exit,
    pub(super) damage: Option<SourceError>,
}

/// Takes everything that a source has through the flow and prints the findings.
pub(super) fn replay(source: &mut dyn Source, selection: Selection, args: &FindingArgs) -> Result<Replayed> {
    // The clock is never asked in a replay.
    let mut pipeline = Pipeline::new(selection, Mode::Replay, || 0);
    let mut printer = Direct::new(args.format(), Colour::of_stdout(), io::BufWriter::new(io::stdout().lock()));
    let mut found = 0;
    let mut failed = false;
    let mut broken: Option<io::Error> = None;
    let mut emit = |finding: Finding| {
        if broken.is_some() || args.count.is_some_and(|count| found >= count) {
            return;
        }
        found += 1;
        failed |= args.fails(&finding);
        broken = printer.buffer(&finding).err();
    };
    let damage = loop {
        match source.drain(Duration::ZERO, &mut |bytes| pipeline.record(bytes, &mut emit)) {
            Ok(Status::Open) => {}
            Ok(Status::Ended) => break None,
            Err(error) => break Some(error),
        }
    };
    if let Err(error) = broken.map_or_else(|| printer.flush(), Err)
        && error.kind() != ErrorKind::BrokenPipe
    {
        return Err(error).context("cannot write to stdout");
    }
    let summary = pipeline.finish();
    eprintln!(
        "monitor: summary: records={} findings={} lost={} filtered=0 unjudged={} undecodable={}",
        summary.records, summary.findings, summary.lost, summary.unjudged, summary.undecodable
    );
    Ok(Replayed { exit: if failed { Exit::Found } else { Exit::Done }, damage })
}
