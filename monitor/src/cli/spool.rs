//! `monitor spool`: what a spool holds, and whether it is as it was written.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::{Exit, say};
use crate::{
    config::file,
    output::spool::{
        files::Disk,
        inspect::{Report, inspect},
    },
};

/// Options of `monitor spool`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Command {
    /// Show segments, what is in them, and how far each sink has come
    Inspect(Place),
    /// Check every entry; exit code 3 if one is damaged
    Verify(Place),
}

/// Which spool.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Nothing is changed, and an agent may be at work meanwhile.\n\nExamples:\n  sudo monitor spool inspect\n  \
                        sudo monitor spool verify /var/lib/monitor/spool"
)]
struct Place {
    /// Directory of the spool
    #[arg(value_name = "DIRECTORY", default_value_os_t = file::Spool::default().directory)]
    directory: PathBuf,
}

/// Runs the command.
pub(super) fn run(args: &Args) -> Result<Exit> {
    let (Command::Inspect(place) | Command::Verify(place)) = &args.command;
    let directory = &place.directory;
    let report = inspect(&Disk, directory).with_context(|| format!("cannot read the spool {}", directory.display()))?;
    if let Command::Inspect(_) = args.command {
        show(&report);
    }
    for segment in report.segments.iter().filter(|segment| segment.damaged_places > 0) {
        say(format_args!(
            "monitor: {}: damaged in {} places, {} bytes; {} entries missing",
            segment.name.file_name(),
            segment.damaged_places,
            segment.damaged_bytes,
            segment.missing
        ));
    }
    if report.is_damaged() {
        return Ok(Exit::Damaged);
    }
    if let Command::Verify(_) = args.command {
        println!("{} findings in {} segments, none damaged", report.findings(), report.segments.len());
    }
    Ok(Exit::Done)
}

fn show(report: &Report) {
    println!(
        "{:>12} {:>12} {:>9} {:>7} {:>10}  {:36}  end",
        "first", "behind last", "findings", "losses", "bytes", "run"
    );
    for segment in &report.segments {
        let end = match (segment.torn_bytes, segment.ended) {
            (0, true) => "orderly".to_owned(),
            (0, false) => "open, or killed".to_owned(),
            (bytes, _) => format!("torn: {bytes} bytes"),
        };
        println!(
            "{:>12} {:>12} {:>9} {:>7} {:>10}  {:36}  {end}",
            segment.name.index, segment.end, segment.findings, segment.losses, segment.bytes, segment.name.epoch
        );
    }
    let newest = report.segments.last().map_or(0, |segment| segment.end);
    for (sink, position) in &report.cursors {
        match position {
            Some(position) => {
                println!("sink {sink}: at {}, {} behind", position.index, newest.saturating_sub(position.index));
            }
            None => println!("sink {sink}: has nothing yet"),
        }
    }
}
