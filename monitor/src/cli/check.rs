//! `monitor check`: what this kernel and machine offer.

use std::io::Write as _;

use anyhow::Result;

use super::Exit;
use crate::sensor::{
    Sensor,
    features::{self, Line, Status},
    load,
};

/// Options of `monitor check`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// As JSON, for programs
    #[arg(long)]
    json: bool,
}

/// Prints one line per thing that is needed; exit code 2 if something is missing.
pub(super) fn run(args: &Args) -> Result<Exit> {
    let mut lines = features::check();
    lines.push(programs());
    let text = if args.json { features::json(&lines)? } else { features::text(&lines) };
    anstream::stdout().write_all(text.as_bytes())?;
    let missing = lines.iter().any(|line| line.status == Status::Missing);
    Ok(if missing { Exit::Usage } else { Exit::Done })
}

/// Whether the programs load and attach: the only answer that counts.
fn programs() -> Line {
    let name = "BPF programs".to_owned();
    match Sensor::start(&load::Settings::default()) {
        Ok(sensor) => Line { name, status: Status::Ok, detail: verified(&sensor), mend: String::new() },
        Err(error) => Line { name, status: Status::Missing, detail: error.to_string(), mend: String::new() },
    }
}

/// What the verifier had to look at, of the million instructions that it would.
fn verified(sensor: &Sensor) -> String {
    let costs = sensor.programs().read();
    let verified = costs.iter().filter_map(|cost| Some((cost.verified?, &cost.name)));
    match verified.max() {
        Some((most, name)) => format!("load and attach; at most {most} instructions verified ({name})"),
        None => "load and attach".to_owned(),
    }
}
