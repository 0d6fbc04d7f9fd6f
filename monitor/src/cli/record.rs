//! `monitor record`: what happens on this machine, as a capture.

use std::{
    io,
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::{Exit, live, options::duration};
use crate::{
    capture::Writer,
    rules::Demand,
    sensor::{Sensor, ktime_ns, load::Settings},
    source::{Source as _, Status},
};

/// How long the kernel may take to deliver what a command did last.
const PATIENCE: Duration = Duration::from_millis(50);

/// Options of `monitor record`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Without a command or a duration it records until it is told to stop (Ctrl-C, SIGTERM).\n\n\
                        Example: monitor record -w incident.mcap -- ls /tmp")]
pub(super) struct Args {
    /// Capture file to write; only its owner may read it
    #[arg(short = 'w', long = "write", value_name = "FILE")]
    write: PathBuf,
    /// Stop after this long, e.g. 30s, 5m, 1h
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    duration: Option<Duration>,
    /// Record every system call with its arguments, for `monitor seccomp`, not just those that rules can name; one that is
    /// lost is noted all the same
    #[arg(long)]
    calls: bool,
    #[command(flatten)]
    sensor: live::SensorArgs,
    /// Command to run while recording; recording ends with it
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Records.
pub(super) fn run(args: &Args) -> Result<Exit> {
    let demand = if args.calls { Demand::ALL } else { Demand::of_any_rules() };
    let mut sensor = Sensor::start(&Settings { observe: args.calls, ..args.sensor.settings(demand) })?;
    let mut writer =
        Writer::create(&args.write).with_context(|| format!("cannot write the capture {}", args.write.display()))?;
    let stop = live::stop_on_signal()?;
    let begin = Instant::now();
    let mut child = match args.command.split_first() {
        None => None,
        Some((program, rest)) => Some(
            Command::new(program)
                .args(rest)
                .stdin(Stdio::inherit())
                .spawn()
                .with_context(|| format!("cannot run {program}"))?,
        ),
    };
    eprintln!("monitor: ready");
    let mut records = 0_u64;
    let mut failure: Option<io::Error> = None;
    let mut keep = |bytes: &[u8]| {
        if failure.is_none() {
            records += 1;
            failure = writer.record(bytes).err();
        }
    };
    loop {
        let ended = match &mut child {
            Some(child) => child.try_wait().context("cannot wait for the command")?.is_some(),
            None => false,
        };
        let late = args.duration.is_some_and(|duration| begin.elapsed() >= duration);
        if ended || late || stop.is_set() {
            sensor.detach();
        }
        if sensor.drain(PATIENCE, &mut keep)? == Status::Ended {
            break;
        }
    }
    if let Some(error) = failure {
        return Err(error).with_context(|| format!("cannot write the capture {}", args.write.display()));
    }
    writer.finish(ktime_ns()).with_context(|| format!("cannot write the capture {}", args.write.display()))?;
    let total = sensor.counts().total();
    eprintln!("monitor: summary: records={records} lost={} filtered={}", total.lost(), total.filtered);
    Ok(Exit::Done)
}
