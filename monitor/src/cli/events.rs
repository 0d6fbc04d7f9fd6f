//! Where commands that learn from what happens take it from: captures, or this machine as it is now.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::{
    capture::Capture,
    live::{self, SensorArgs},
    options::duration,
    say,
};
use crate::{
    decode::decode,
    event::{Body, Event},
    rules::Demand,
    sensor::{
        Sensor,
        load::{self, Settings},
    },
    source::{Source as _, SourceError, Status},
    state::State,
    syscall::tell::{Room, tell},
};

/// How long a record may wait in the ring when the kernel saw no reason to wake us.
const PATIENCE: Duration = Duration::from_millis(50);

/// Which events.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct EventArgs {
    /// Captures of `monitor record` or `monitor run -w`, or .scap files of Falco or sysdig; plain or gzip
    #[arg(required_unless_present = "live", value_name = "CAPTURE")]
    captures: Vec<PathBuf>,
    /// Watch this machine instead, until it is told to stop (Ctrl-C, SIGTERM); needs root
    #[arg(long, conflicts_with = "captures")]
    pub(super) live: bool,
    /// Watch for this long, e.g. 30s, 5m, 1h
    #[arg(long, value_name = "DURATION", value_parser = duration, requires = "live")]
    duration: Option<Duration>,
    #[command(flatten)]
    sensor: SensorArgs,
}

/// What a command is to be told, if it watches this machine.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    /// Which calls are sent.
    pub(super) calls: Demand,
    /// Whether it is noted which calls each cgroup makes.
    pub(super) made: bool,
}

/// What there was.
#[derive(Default)]
pub(super) struct Followed {
    /// Whether a capture was of this agent.
    pub(super) has_records: bool,
    /// Whether one was damaged: what came before the damage was passed on.
    pub(super) is_damaged: bool,
    /// Records that the kernel lost while this machine was watched.
    pub(super) lost: u64,
}

/// Takes an event and its number, with the state from before it: whoever wants that of afterwards applies the event.
pub(super) type Each<'e> = dyn FnMut(&mut State, &Event<'_>, u64) + 'e;

impl EventArgs {
    /// Calls `each` with every event.
    pub(super) fn follow(&self, wanted: Wanted, each: &mut Each<'_>) -> Result<Followed> {
        if self.live { self.watch(wanted, each) } else { self.read(each) }
    }

    fn read(&self, each: &mut Each<'_>) -> Result<Followed> {
        let mut followed = Followed::default();
        for path in &self.captures {
            let name = path.display();
            match read(path, each) {
                Ok(is_ours) => followed.has_records |= is_ours,
                Err(SourceError::Io(error)) => return Err(error).with_context(|| format!("cannot read {name}")),
                Err(error) => {
                    say(format_args!("monitor: {name}: {error}"));
                    followed.is_damaged = true;
                }
            }
        }
        Ok(followed)
    }

    fn watch(&self, wanted: Wanted, each: &mut Each<'_>) -> Result<Followed> {
        load::check_build_and_privileges()?;
        let mut sensor = Sensor::start(&Settings { observe: wanted.made, ..self.sensor.settings(wanted.calls) })?;
        let (stop, begin, mut stream) = (live::stop_on_signal()?, Instant::now(), Stream::default());
        say("monitor: ready");
        loop {
            if stop.is_set() || self.duration.is_some_and(|duration| begin.elapsed() >= duration) {
                sensor.detach();
            }
            let drained = sensor.drain(PATIENCE, &mut |bytes| {
                if let Ok(event) = decode(bytes) {
                    stream.pass(&event, each);
                }
            });
            if drained? == Status::Ended {
                return Ok(Followed { lost: sensor.counts().total().lost(), ..Followed::default() });
            }
        }
    }
}

/// Reads a capture; whether it is one of this agent's. Each has processes and files of its own.
fn read(path: &Path, each: &mut Each<'_>) -> Result<bool, SourceError> {
    let mut capture = Capture::open(path)?;
    let is_ours = matches!(capture, Capture::Records(_));
    let mut stream = Stream::default();
    while capture.each(&mut |event| stream.pass(event, each))? != Status::Ended {}
    Ok(is_ours)
}

/// A stream of events: system calls become those of Falco's table.
#[derive(Default)]
struct Stream {
    state: State,
    number: u64,
    room: Room,
}

impl Stream {
    fn pass(&mut self, event: &Event<'_>, each: &mut Each<'_>) {
        let Self { state, number, room } = self;
        *number += 1;
        let Body::Syscall(syscall) = &event.body else { return each(state, event, *number) };
        let ts_ns = state.unix_ns(event.header.ktime_ns);
        if let Some(call) = tell(syscall, state.session.machine, ts_ns, *number, room) {
            each(state, &Event { header: event.header, body: Body::Call(call) }, *number);
        }
    }
}
