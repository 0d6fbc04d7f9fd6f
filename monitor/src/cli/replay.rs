//! `monitor replay`: the findings of captures, by the same flow as a live run.

use std::{
    io::{self, ErrorKind},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context as _, Result};

use super::{
    Exit,
    options::{self, FindingArgs, RuleArgs},
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

/// Replays the captures one after the other. A damaged one does not keep the next from being replayed.
pub(super) fn run(args: &Args) -> Result<Exit> {
    let mut exit = Exit::Done;
    for path in &args.captures {
        let name = path.display();
        let selection = args.findings.selection(args.rules.for_format(args.findings.format()).load()?)?;
        let file = std::fs::File::open(path).with_context(|| format!("cannot open {name}"))?;
        let replayed = match Reader::new(file) {
            Ok(mut reader) => replay(&mut reader, selection, &args.findings)?,
            Err(error) => Replayed { failed: false, damage: Some(error) },
        };
        if let Some(error) = &replayed.damage {
            eprintln!("monitor: {name}: {error}");
        }
        exit = exit.max(replayed.exit());
    }
    Ok(exit)
}

/// How a replay ended.
pub(super) struct Replayed {
    /// Whether there was a finding at or above `--fail-on`.
    failed: bool,
    damage: Option<SourceError>,
}

impl Replayed {
    /// Damage weighs more than a finding: what is missing may be worse.
    pub(super) fn exit(&self) -> Exit {
        match (&self.damage, self.failed) {
            (Some(_), _) => Exit::Damaged,
            (None, true) => Exit::Found,
            (None, false) => Exit::Done,
        }
    }
}

/// Where the findings of a replay go.
struct Printed<'a> {
    out: Direct<io::StdoutLock<'static>>,
    args: &'a FindingArgs,
    found: u64,
    failed: bool,
    broken: Option<io::Error>,
}

impl Printed<'_> {
    /// Whether nobody wants more.
    fn is_enough(&self) -> bool {
        self.broken.is_some() || self.args.count.is_some_and(|count| self.found >= count)
    }

    fn print(&mut self, finding: &Finding) {
        if !self.is_enough() {
            self.found += 1;
            self.failed |= self.args.fails(finding);
            self.broken = self.out.buffer(finding).err();
        }
    }

    /// Writes the rest. A reader that has gone away is no error.
    fn finish(mut self) -> io::Result<()> {
        match self.broken.take().map_or_else(|| self.out.flush(), Err) {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error),
            _ => Ok(()),
        }
    }
}

/// Takes what a source has through the flow and prints the findings.
pub(super) fn replay(source: &mut dyn Source, selection: Selection, args: &FindingArgs) -> Result<Replayed> {
    // The clock is never asked in a replay.
    let mut pipeline = Pipeline::new(selection, Mode::Replay, || 0);
    let out = Direct::new(args.format(), Colour::of_stdout(), io::stdout().lock());
    let mut printed = Printed { out, args, found: 0, failed: false, broken: None };
    let damage = loop {
        let mut each = |bytes: &[u8]| pipeline.record(bytes, &mut |finding: Finding| printed.print(&finding));
        match source.drain(Duration::ZERO, &mut each) {
            Ok(Status::Open) if printed.is_enough() => break None,
            Ok(Status::Open) => {}
            Ok(Status::Ended) => break None,
            Err(error) => break Some(error),
        }
    };
    let failed = printed.failed;
    printed.finish().context("cannot write to stdout")?;
    let summary = pipeline.finish();
    if summary.rules_changes > 0 {
        let times = options::plural(usize::try_from(summary.rules_changes).unwrap_or(usize::MAX), "time");
        eprintln!(
            "monitor: note: the rules changed {times} in this capture, and it was replayed with one set of rules: findings \
             can differ from those of the live run"
        );
    }
    eprintln!(
        "monitor: summary: records={} findings={} lost={} filtered=0 unjudged={} misfits={} undecodable={}",
        summary.records, summary.findings, summary.lost, summary.unjudged, summary.misfits, summary.undecodable
    );
    Ok(Replayed { failed, damage })
}
