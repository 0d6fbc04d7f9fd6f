//! Alerts as Falco prints them: one JSON object on a line.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use flate2::read::GzDecoder;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::output;

/// What counts of an alert. The host's name is the replaying machine's.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(super) struct Alert {
    pub(super) rule: String,
    pub(super) time: String,
    pub(super) priority: String,
    #[serde(default)]
    pub(super) tags: Vec<String>,
    pub(super) output_fields: Map<String, Value>,
}

/// How rules are used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    pub(super) matches_all: bool,
    pub(super) enables_all: bool,
}

/// Reads a file of alerts, plain or gzip.
pub(super) fn read(path: &Path) -> Result<Vec<Alert>> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let is_packed = path.extension().is_some_and(|extension| extension == "gz");
    let reader: Box<dyn Read> = if is_packed { Box::new(GzDecoder::new(file)) } else { Box::new(file) };
    parse(reader).with_context(|| path.display().to_string())
}

/// The alerts of a replay.
pub(super) fn replay(agent: &Path, capture: &Path, rules: &[PathBuf], options: Options) -> Result<Vec<Alert>> {
    let mut command = Command::new(agent);
    command.arg("replay").arg(capture).args(["-o", "falco"]);
    for file in rules {
        command.arg("-r").arg(file);
    }
    if options.matches_all {
        command.args(["--rule-matching", "all"]);
    }
    if options.enables_all {
        command.args(["--enable-rule", "*"]);
    }
    parse(&*output(&mut command)?)
}

fn parse(reader: impl Read) -> Result<Vec<Alert>> {
    let lines = BufReader::new(reader).lines();
    let parsed = lines.map(|line| {
        let line = line?;
        serde_json::from_str(&line).with_context(|| format!("no alert: {}", line.chars().take(200).collect::<String>()))
    });
    parsed.collect()
}
