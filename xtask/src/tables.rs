//! `cargo xtask tables DIR`: makes the tables of event names from the facts about Falco's event schema.
//!
//! DIR holds `scap-events.tsv` (code, enum, name, …, parameters) and `scap-syscalls.tsv` (code, name, …). What is made is
//! committed, so that building needs no DIR; `--check` says whether it is current.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

use crate::repository;

/// Events of our own.
const OWN: &[&str] = &["seccomp_violation"];
/// What unused codes are called.
const UNUSED: &str = "NA";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Directory with scap-events.tsv and scap-syscalls.tsv
    dir: PathBuf,
    /// Change nothing; fail if the committed table is not what would be made
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let path = repository::root().join("monitor/src/event/table.rs");
    let made = make(&args.dir)?;
    if args.check {
        let committed = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        ensure!(committed == made, "{} is not current: run cargo xtask tables", path.display());
        return Ok(());
    }
    fs::write(&path, made).with_context(|| path.display().to_string())
}

fn make(dir: &Path) -> Result<String> {
    let (mut codes, mut parameters) = (BTreeMap::<String, u32>::new(), BTreeSet::new());
    for row in rows(&dir.join("scap-events.tsv"))? {
        let name = row.get(2).context("an event without a name")?;
        if name != UNUSED {
            *codes.entry(name.clone()).or_default() += 1;
        }
        let described = row.get(7).map(String::as_str).unwrap_or_default();
        parameters
            .extend(described.split("; ").filter_map(|parameter| parameter.split_once(':')).map(|p| p.0.to_owned()));
    }
    for row in rows(&dir.join("scap-syscalls.tsv"))? {
        codes.entry(row.get(1).context("a call without a name")?.clone()).or_default();
    }
    for own in OWN {
        codes.insert((*own).to_owned(), 1);
    }
    let mut text = String::from(
        "//! Names of events and of their parameters, sorted. Made by `cargo xtask tables`: change that, not this.\n\n\
         /// Event types: name, and how many codes Falco's event table has for it; those with none are calls that Falco knows by\n\
         /// number only (its two generic codes).\n#[rustfmt::skip]\npub(super) const TYPES: &[(&str, u8)] = &[\n",
    );
    lines(&mut text, codes.iter().map(|(name, codes)| format!("(\"{name}\", {codes})")));
    text.push_str("];\n\n/// Parameters of events: what `evt.arg.NAME` may name.\n#[rustfmt::skip]\npub(super) const PARAMETERS: &[&str] = &[\n");
    lines(&mut text, parameters.iter().map(|name| format!("\"{name}\"")));
    text.push_str("];\n");
    Ok(text)
}

fn lines(text: &mut String, items: impl Iterator<Item = String>) {
    const WIDTH: usize = 116;
    let mut line = String::new();
    for item in items {
        if !line.is_empty() && line.len() + item.len() > WIDTH {
            let _ = writeln!(text, "    {}", line.trim_end());
            line.clear();
        }
        let _ = write!(line, "{item}, ");
    }
    let _ = writeln!(text, "    {}", line.trim_end());
}

/// Rows of a table of tab-separated values, without comments and the header.
fn rows(path: &Path) -> Result<Vec<Vec<String>>> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let rows = text.lines().filter(|line| !line.starts_with('#')).skip(1);
    Ok(rows.map(|line| line.split('\t').map(str::to_owned).collect()).collect())
}
