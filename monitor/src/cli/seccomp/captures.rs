//! The calls that captures tell of, or this machine as they are made.

use anyhow::{Result, bail};

use crate::{
    cli::{
        events::{EventArgs, Wanted},
        say,
    },
    context::Context,
    event::{Body, Event},
    rules::Demand,
    seccomp::observe::Observed,
    state::State,
};

/// Which calls.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ObserveArgs {
    /// Only this container, by its id or the beginning of it [default: all containers, or the host if there are none]
    #[arg(long, value_name = "ID")]
    pub(super) container: Option<String>,
    /// Only containers of this pod, NAME or NAMESPACE/NAME
    #[arg(long, value_name = "POD")]
    pod: Option<String>,
    /// Only containers of this image, by its name or its digest
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    // Last: what follows the sensor's options stands under their heading in the help.
    #[command(flatten)]
    events: EventArgs,
}

impl ObserveArgs {
    /// The calls. Whether a capture was damaged is the second: what came before the damage counts.
    pub(super) fn observe(&self) -> Result<(Observed, bool)> {
        let mut observed = Observed::default();
        let wanted = Wanted { calls: Demand::ALL, made: true };
        let followed =
            self.events.follow(wanted, &mut |state, event, number| take(state, event, number, &mut observed))?;
        if followed.has_records {
            say(
                "note: captures of `monitor record --calls` tell of every call; others of this agent only of calls that rules look \
                 at, and of those that a filter did not simply allow",
            );
        }
        if followed.lost > 0 {
            say(format_args!(
                "note: {} records were lost, so calls are counted too low; which calls were made is known all the same",
                followed.lost
            ));
        }
        let source = if self.events.live { "nothing was seen of" } else { "the captures tell of no" };
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
        Ok((observed, followed.is_damaged))
    }
}

fn take(state: &mut State, event: &Event<'_>, number: u64, observed: &mut Observed) {
    if let Body::CallsMade(made) = &event.body {
        return observed.calls_made(state, made);
    }
    state.apply(event);
    if let Some(context) = Context::observed(state, event, number) {
        observed.event(&context);
    }
}
