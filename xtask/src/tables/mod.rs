//! `cargo xtask tables DIR`: makes the tables of Falco's event schema from the facts about it.
//!
//! DIR holds tables of tab-separated values: `scap-events.tsv`, `scap-flags.tsv`, `scap-syscalls.tsv` and
//! `scap-conversions.tsv`. What is made is committed, so that building needs no DIR; `--check` says whether it is current, and
//! so does a test where DIR is there.

mod conversions;
mod facts;
mod names;
mod schema;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

use self::facts::Facts;
use crate::repository;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Directory with the facts: scap-events.tsv and its neighbours
    dir: PathBuf,
    /// Change nothing; fail if a committed table is not what would be made
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    for (path, made) in make(&args.dir)? {
        let path = repository::root().join(path);
        if args.check {
            let committed = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            ensure!(committed == made, "{} is not current: run cargo xtask tables", path.display());
        } else {
            fs::write(&path, made).with_context(|| path.display().to_string())?;
        }
    }
    Ok(())
}

/// Every table, with its path from the repository's root.
fn make(dir: &Path) -> Result<Vec<(&'static str, String)>> {
    let facts = Facts::read(dir)?;
    Ok(vec![
        ("monitor/src/event/table.rs", names::make(&facts)),
        ("monitor/src/event/schema/table.rs", schema::make(&facts)?),
        ("monitor/src/scap/convert/table.rs", conversions::make(&facts)?),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_tables_are_current() {
        let dir = repository::root().join("../shared/reference");
        if !dir.is_dir() {
            eprintln!("SKIPPED: whether the committed tables are current, because {} is not there", dir.display());
            return;
        }
        run(&Args { dir, check: true }).unwrap();
    }
}
