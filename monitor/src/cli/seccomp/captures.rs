//! The calls that captures tell of.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use crate::{
    cli::{capture::Capture, say},
    context::Context,
    event::{Body, Event},
    seccomp::observe::Observed,
    source::{SourceError, Status},
    state::State,
    syscall::tell::{Room, tell},
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
                "note: captures of `monitor record --calls` tell of every call; others of this agent only of calls that rules look \
                 at, and of those that a filter did not simply allow",
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

fn take(state: &mut State, event: &Event<'_>, number: u64, observed: &mut Observed) {
    state.apply(event);
    if let Some(context) = Context::observed(state, event, number) {
        observed.event(&context);
    }
}

/// Reads a capture; whether it is one of this agent's.
fn read(path: &std::path::Path, observed: &mut Observed) -> Result<bool, SourceError> {
    let mut capture = Capture::open(path)?;
    let is_ours = matches!(capture, Capture::Records(_));
    let mut state = State::default();
    let (mut number, mut room) = (0, Room::default());
    loop {
        let status = capture.each(&mut |event| {
            number += 1;
            let ts_ns = state.unix_ns(event.header.ktime_ns);
            match &event.body {
                Body::Syscall(syscall) => {
                    if let Some(call) = tell(syscall, state.session.machine, ts_ns, number, &mut room) {
                        take(&mut state, &Event { header: event.header, body: Body::Call(call) }, number, observed);
                    }
                }
                Body::CallsMade(made) => observed.calls_made(&state, made),
                _ => take(&mut state, event, number, observed),
            }
        })?;
        if status == Status::Ended {
            return Ok(is_ours);
        }
    }
}
