//! The calls that captures tell of.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use crate::{
    cli::{capture::Capture, say},
    context::Context,
    seccomp::observe::Observed,
    source::{SourceError, Status},
    state::State,
};

/// Which calls.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ObserveArgs {
    /// Captures of `monitor record` or `monitor run -w`, or .scap files of Falco or sysdig; plain or gzip
    #[arg(required = true, value_name = "CAPTURE")]
    captures: Vec<PathBuf>,
    /// Only this container, by its id or the beginning of it [default: all containers, or the host if there are none]
    #[arg(long, value_name = "ID")]
    pub(super) container: Option<String>,
}

impl ObserveArgs {
    /// Reads the captures. Whether one was damaged is the second: what came before the damage counts.
    pub(super) fn observe(&self) -> Result<(Observed, bool)> {
        let mut observed = Observed::default();
        let (mut has_records, mut is_damaged) = (false, false);
        for path in &self.captures {
            let name = path.display();
            match read(path, &mut observed) {
                Ok(is_ours) => has_records |= is_ours,
                Err(SourceError::Io(error)) => return Err(error).with_context(|| format!("cannot read {name}")),
                Err(error) => {
                    say(format_args!("monitor: {name}: {error}"));
                    is_damaged = true;
                }
            }
        }
        if has_records {
            say(
                "note: captures of this agent tell of executed programs, files opened for writing, and calls that a filter did \
                 not simply allow. Under a profile whose default is SCMP_ACT_LOG that is every call",
            );
        }
        match &self.container {
            Some(id) if !observed.keep(id) => bail!("the captures tell of no container {id:?}"),
            None if observed.containers.len() > 1 => drop(observed.containers.remove("")),
            _ => {}
        }
        Ok((observed, is_damaged))
    }
}

/// Reads a capture; whether it is one of this agent's.
fn read(path: &std::path::Path, observed: &mut Observed) -> Result<bool, SourceError> {
    let mut capture = Capture::open(path)?;
    let is_ours = matches!(capture, Capture::Records(_));
    let mut state = State::default();
    let (mut number, mut scratch) = (0, Vec::new());
    loop {
        let status = capture.each(&mut |event| {
            number += 1;
            state.apply(event);
            if let Some(context) = Context::observed(&state, event, number, &mut scratch) {
                observed.event(&context);
            }
        })?;
        if status == Status::Ended {
            return Ok(is_ours);
        }
    }
}
