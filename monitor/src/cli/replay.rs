//! `monitor replay`: the findings of captures, by the same flow as a live run.

use std::{
    collections::BTreeMap,
    io::{self, ErrorKind, IsTerminal as _},
    ops::RangeInclusive,
    path::PathBuf,
    time::Instant,
};

use anyhow::{Context as _, Result, bail};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::Timestamp;

use super::{
    Exit,
    capture::{ALWAYS, Capture},
    drift::PolicyArgs,
    options::{self, FindingArgs, RuleArgs},
};
use crate::{
    drift::policy::Policy,
    output::{queue::Direct, stdout::Colour},
    pipeline::{Pipeline, Selection, Summary},
    proto::v1::Finding,
    report::Mode,
    source::{SourceError, Status},
};

/// Files above this many bytes have a progress bar on a terminal.
const LONG_BYTES: u64 = 16 << 20;
/// Event types and rules that a summary lists.
const MAX_LISTED: usize = 12;

/// Options of `monitor replay`.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Replaying a capture twice prints identical bytes.\n\nExit code 3: a capture is damaged; what came \
                        before the damage was reported."
)]
pub(super) struct Args {
    /// Captures of `monitor record` or `monitor run -w`, or .scap files of Falco or sysdig; plain or gzip
    #[arg(required = true, value_name = "CAPTURE")]
    captures: Vec<PathBuf>,
    /// Only findings of what happened at this time or later: RFC 3339, or seconds since 1970
    #[arg(long, value_name = "TIME", value_parser = unix_ns)]
    from: Option<u64>,
    /// Only findings of what happened at this time or before
    #[arg(long, value_name = "TIME", value_parser = unix_ns)]
    to: Option<u64>,
    #[command(flatten)]
    rules: RuleArgs,
    #[command(flatten)]
    drift: PolicyArgs,
    #[command(flatten)]
    findings: FindingArgs,
}

impl Args {
    fn times(&self) -> Result<RangeInclusive<u64>> {
        let times = self.from.unwrap_or(*ALWAYS.start())..=self.to.unwrap_or(*ALWAYS.end());
        if times.is_empty() {
            bail!("--from is later than --to: nothing can have happened then");
        }
        Ok(times)
    }
}

/// Nanoseconds since 1970 of a time as people write it.
fn unix_ns(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no time: write 2026-11-23T04:31:09Z, or seconds since 1970 (1795408269.5)");
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    if let Ok(seconds) = seconds.parse::<u64>()
        && fraction.len() <= 9
        && fraction.bytes().all(|byte| byte.is_ascii_digit())
    {
        let nanoseconds = format!("{fraction:0<9}").parse().unwrap_or(0);
        return seconds.checked_mul(1_000_000_000).and_then(|ns| ns.checked_add(nanoseconds)).ok_or_else(wrong);
    }
    let time: Timestamp = text.parse().map_err(|_| wrong())?;
    u64::try_from(time.as_nanosecond()).map_err(|_| wrong())
}

/// Replays the captures one after the other. A damaged one does not keep the next from being replayed.
pub(super) fn run(args: &Args) -> Result<Exit> {
    let mut exit = Exit::Done;
    let times = args.times()?;
    let policy = args.drift.load()?;
    for path in &args.captures {
        let name = path.display();
        let selection = args.findings.selection(args.rules.for_format(args.findings.format()).load()?)?;
        let size = std::fs::metadata(path).with_context(|| format!("cannot open {name}"))?.len();
        let replayed = match Capture::open(path) {
            Ok(mut capture) => replay(&mut capture, selection, policy.clone(), &times, &args.findings, size)?,
            Err(SourceError::Io(error)) => return Err(error).with_context(|| format!("cannot open {name}")),
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
    by_rule: BTreeMap<String, u64>,
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
            match self.by_rule.get_mut(&finding.rule) {
                Some(found) => *found += 1,
                None => drop(self.by_rule.insert(finding.rule.clone(), 1)),
            }
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

/// Takes a capture through the flow and prints the findings. `size` is the file's, for progress.
pub(super) fn replay(
    capture: &mut Capture,
    selection: Selection,
    policy: Policy,
    times: &RangeInclusive<u64>,
    args: &FindingArgs,
    size: u64,
) -> Result<Replayed> {
    let begin = Instant::now();
    // The clock is never asked in a replay.
    let mut pipeline = Pipeline::new(selection, Mode::Replay, || 0);
    pipeline.set_seccomp_window(args.seccomp_window_ns());
    pipeline.set_drift_policy(policy);
    let out = Direct::new(args.format(), Colour::of_stdout(), io::stdout().lock());
    let mut printed = Printed { out, args, found: 0, by_rule: BTreeMap::new(), failed: false, broken: None };
    let progress = progress(size);
    let damage = loop {
        match capture.feed(&mut pipeline, times, &mut |finding| printed.print(&finding)) {
            Ok(Status::Open) if printed.is_enough() => break None,
            Ok(Status::Open) => progress.set_position(capture.file_bytes()),
            Ok(Status::Ended) => break None,
            Err(error) => break Some(error),
        }
    };
    progress.finish_and_clear();
    let summary = pipeline.finish(&mut |finding| printed.print(&finding));
    let (failed, by_rule) = (printed.failed, std::mem::take(&mut printed.by_rule));
    printed.finish().context("cannot write to stdout")?;
    sum_up(&pipeline, &summary, &by_rule, begin);
    Ok(Replayed { failed, damage })
}

/// A bar on a terminal if it will take a while, else nothing.
fn progress(size: u64) -> ProgressBar {
    if size < LONG_BYTES || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(size), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta} left");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// What there was, on stderr.
fn sum_up(pipeline: &Pipeline, summary: &Summary, by_rule: &BTreeMap<String, u64>, begin: Instant) {
    if summary.rules_changes > 0 {
        let times = options::plural(usize::try_from(summary.rules_changes).unwrap_or(usize::MAX), "time");
        eprintln!(
            "monitor: note: the rules changed {times} in this capture, and it was replayed with one set of rules: findings \
             can differ from those of the live run"
        );
    }
    if summary.events > 0 {
        let types = pipeline.seen().map(|(event_type, seen)| (event_type.name(), seen));
        eprintln!("monitor: events: {}", listed(types.collect()));
    }
    if !by_rule.is_empty() {
        let rules = by_rule.iter().map(|(rule, found)| (rule.as_str(), *found));
        eprintln!("monitor: findings: {}", listed(rules.collect()));
    }
    let seconds = begin.elapsed().as_secs_f64().max(f64::MIN_POSITIVE);
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = (summary.records + summary.events) as f64 / seconds;
    eprintln!(
        "monitor: summary: records={} events={} findings={} lost={} filtered=0 unjudged={} misfits={} undecodable={} \
         seconds={seconds:.2} per_second={rate:.0}",
        summary.records,
        summary.events,
        summary.findings,
        summary.lost,
        summary.unjudged,
        summary.misfits,
        summary.undecodable
    );
}

/// `4711 openat, 12 execve and 3 more`, the most frequent first.
fn listed(mut counts: Vec<(&str, u64)>) -> String {
    counts.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    let more = counts.len().saturating_sub(MAX_LISTED);
    let shown: Vec<_> = counts.iter().take(MAX_LISTED).map(|(name, count)| format!("{count} {name}")).collect();
    match more {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_two_ways() {
        assert_eq!(unix_ns("1795408269"), Ok(1_795_408_269_000_000_000));
        assert_eq!(unix_ns("1795408269.5"), Ok(1_795_408_269_500_000_000));
        assert_eq!(unix_ns("2026-11-23T04:31:09Z"), Ok(1_795_408_269_000_000_000));
        assert_eq!(unix_ns("2026-11-23T05:31:09.25+01:00"), Ok(1_795_408_269_250_000_000));
        assert!(unix_ns("yesterday").is_err() && unix_ns("1.1234567890").is_err());
        assert!(unix_ns("99999999999999").is_err());
    }

    #[test]
    fn the_most_frequent_is_listed_first() {
        assert_eq!(listed(vec![("b", 1), ("a", 1), ("c", 7)]), "7 c, 1 a, 1 b");
    }
}
