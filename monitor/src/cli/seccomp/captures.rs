//! The calls that captures tell of, or this machine as they are made.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    cli::{
        capture::Capture,
        live::{self, SensorArgs},
        options::duration,
        say,
    },
    context::Context,
    decode::decode,
    event::{Body, Event},
    rules::Demand,
    seccomp::observe::Observed,
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

/// Which calls.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ObserveArgs {
    /// Captures of `monitor record` or `monitor run -w`, or .scap files of Falco or sysdig; plain or gzip
    #[arg(required_unless_present = "live", value_name = "CAPTURE")]
    captures: Vec<PathBuf>,
    /// Watch this machine instead, until it is told to stop (Ctrl-C, SIGTERM); needs root
    #[arg(long, conflicts_with = "captures")]
    live: bool,
    /// Watch for this long, e.g. 30s, 5m, 1h
    #[arg(long, value_name = "DURATION", value_parser = duration, requires = "live")]
    duration: Option<Duration>,
    /// Only this container, by its id or the beginning of it [default: all containers, or the host if there are none]
    #[arg(long, value_name = "ID")]
    pub(super) container: Option<String>,
    /// Only containers of this pod, NAME or NAMESPACE/NAME
    #[arg(long, value_name = "POD")]
    pod: Option<String>,
    /// Only containers of this image, by its name or its digest
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    #[command(flatten)]
    sensor: SensorArgs,
}

impl ObserveArgs {
    /// The calls. Whether a capture was damaged is the second: what came before the damage counts.
    pub(super) fn observe(&self) -> Result<(Observed, bool)> {
        let mut observed = Observed::default();
        let is_damaged = if self.live { self.watch(&mut observed)? } else { self.read(&mut observed)? };
        let source = if self.live { "nothing was seen of" } else { "the captures tell of no" };
        match &self.container {
            Some(id) if !observed.keep(id) => bail!("{source} container {id:?}"),
            None if observed.containers.len() > 1 => drop(observed.containers.remove("")),
            _ => {}
        }
        if let Some(pod) = self.pod.as_ref().filter(|pod| !observed.keep_pod(pod)) {
            bail!("{source} pod {pod:?}");
        }
        if let Some(image) = self.image.as_ref().filter(|image| !observed.keep_image(image)) {
            bail!("{source} image {image:?}");
        }
        Ok((observed, is_damaged))
    }

    fn read(&self, observed: &mut Observed) -> Result<bool> {
        let (mut has_records, mut is_damaged) = (false, false);
        for path in &self.captures {
            let name = path.display();
            match read(path, observed) {
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
        Ok(is_damaged)
    }

    /// Watches every call of this machine.
    fn watch(&self, observed: &mut Observed) -> Result<bool> {
        load::check_build_and_privileges()?;
        let mut sensor = Sensor::start(&Settings { observe: true, ..self.sensor.settings(Demand::ALL) })?;
        let (stop, begin, mut taker) = (live::stop_on_signal()?, Instant::now(), Taker::default());
        eprintln!("monitor: ready");
        loop {
            if stop.is_set() || self.duration.is_some_and(|duration| begin.elapsed() >= duration) {
                sensor.detach();
            }
            let drained = sensor.drain(PATIENCE, &mut |bytes| {
                if let Ok(event) = decode(bytes) {
                    taker.take(&event, observed);
                }
            });
            if drained? == Status::Ended {
                break;
            }
        }
        let lost = sensor.counts().total().lost();
        if lost > 0 {
            say(format_args!(
                "note: {lost} records were lost, so calls are counted too low; which calls were made is known all the same"
            ));
        }
        Ok(false)
    }
}

/// Follows a stream.
#[derive(Default)]
struct Taker {
    state: State,
    number: u64,
    room: Room,
}

impl Taker {
    fn take(&mut self, event: &Event<'_>, observed: &mut Observed) {
        let Self { state, number, room } = self;
        *number += 1;
        let ts_ns = state.unix_ns(event.header.ktime_ns);
        match &event.body {
            Body::Syscall(syscall) => {
                if let Some(call) = tell(syscall, state.session.machine, ts_ns, *number, room) {
                    take(state, &Event { header: event.header, body: Body::Call(call) }, *number, observed);
                }
            }
            Body::CallsMade(made) => observed.calls_made(state, made),
            _ => take(state, event, *number, observed),
        }
    }
}

fn take(state: &mut State, event: &Event<'_>, number: u64, observed: &mut Observed) {
    state.apply(event);
    if let Some(context) = Context::observed(state, event, number) {
        observed.event(&context);
    }
}

/// Reads a capture; whether it is one of this agent's.
fn read(path: &Path, observed: &mut Observed) -> Result<bool, SourceError> {
    let mut capture = Capture::open(path)?;
    let is_ours = matches!(capture, Capture::Records(_));
    let mut taker = Taker::default();
    while capture.each(&mut |event| taker.take(event, observed))? != Status::Ended {}
    Ok(is_ours)
}
