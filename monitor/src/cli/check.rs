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
        Ok(_) => Line { name, status: Status::Ok, detail: "load and attach".into(), mend: String::new() },
        Err(error) => Line { name, status: Status::Missing, detail: error.to_string(), mend: String::new() },
    }
}
