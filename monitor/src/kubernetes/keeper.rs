//! The keeper of the node: writes the condition, removes the startup taint, and opens the node when the agent does not become ready.
//!
//! It looks at the node every few seconds through the API's cache, and writes only what is not there yet. So a taint that comes again
//! goes again, and whoever takes the condition away gets it back.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::{
    sync::watch::Receiver,
    time::{sleep, timeout},
};

use super::{
    api::{Api, ApiError, Patch},
    node::{Condition, Decision, Node, Readiness, decide},
    service::say,
    settings::{Access, NodeSettings},
    status::Status,
    trouble::Trouble,
    unready,
};
use crate::{
    output::push::Backoff,
    sensor::{ktime_ns, realtime_ns},
};

const BACKOFF: Backoff = Backoff { first: Duration::from_millis(500), longest: Duration::from_secs(30) };
/// Tries of a patch that is refused because the node has changed meanwhile.
const TRIES: u32 = 5;
/// How long the last words may take.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How long an agent that cannot go on tries to open its node.
const LAST_RESORT: Duration = Duration::from_secs(10);

/// What is needed for it.
pub(super) struct Keeper {
    pub(super) access: Access,
    pub(super) node_name: String,
    pub(super) settings: NodeSettings,
    pub(super) boot_id: String,
    /// What the agent waits for; `None` for nothing.
    pub(super) why_not: Receiver<Option<String>>,
    pub(super) status: Arc<Status>,
}

/// What was done so far.
#[derive(Default)]
struct Done {
    /// When the condition was written last.
    wrote: Option<Instant>,
    has_told_fail_open: bool,
}

impl Keeper {
    /// Goes on until it is dropped.
    pub(super) async fn run(mut self) {
        let (begin, mut trouble, mut done) = (Instant::now(), Trouble::default(), Done::default());
        loop {
            let pause = match self.look(&mut done).await {
                Ok(()) => {
                    if trouble.is_over() {
                        say("the node is kept again");
                    }
                    self.settings.check
                }
                Err(error) => {
                    self.status.failed(error.kind(), &error.to_string());
                    if trouble.failed(error.kind(), begin.elapsed()) {
                        say(&format!("the node's condition and taint are not kept: {error}"));
                    }
                    BACKOFF.after(trouble.failures())
                }
            };
            tokio::select! {
                () = sleep(pause) => {}
                // Whether it is ready is news at once.
                changed = self.why_not.changed() => if changed.is_err() { sleep(pause).await },
            }
        }
    }

    fn decision(&self) -> Decision {
        let why_not = self.why_not.borrow().clone();
        let directory = &self.settings.state_directory;
        let unready_for = if why_not.is_none() {
            unready::clear(directory);
            Duration::ZERO
        } else {
            let now = ktime_ns();
            Duration::from_nanos(now - unready::since_ns(directory, &self.boot_id, now))
        };
        decide(&self.settings, &Readiness { why_not, unready_for })
    }

    async fn look(&self, done: &mut Done) -> Result<(), ApiError> {
        let decision = self.decision();
        let api = Api::connect(&self.access)?;
        let node: Node = api.get(&format!("{}?resourceVersion=0", self.path())).await?;
        self.write(&api, &node, &decision.condition, done).await?;
        if !decision.fails_open {
            done.has_told_fail_open = false;
        } else if !done.has_told_fail_open {
            done.has_told_fail_open = true;
            say(&format!("FAIL OPEN: {}", decision.condition.message));
        }
        if decision.removes_taint && node.has_taint(&self.settings.taint) {
            self.remove_taint(&api, decision.fails_open).await?;
        }
        Ok(())
    }

    async fn write(&self, api: &Api, node: &Node, condition: &Condition, done: &mut Done) -> Result<(), ApiError> {
        let is_due = done.wrote.is_none_or(|wrote| wrote.elapsed() >= self.settings.heartbeat);
        if node.says(condition) && !is_due {
            return Ok(());
        }
        self.patch_condition(api, &node.with_condition(condition, now_s())).await?;
        done.wrote = Some(Instant::now());
        self.status.wrote_condition();
        Ok(())
    }

    async fn patch_condition(&self, api: &Api, patch: &Value) -> Result<(), ApiError> {
        api.patch::<Node>(&format!("{}/status", self.path()), Patch::StrategicMerge, patch).await.map(drop)
    }

    /// Reads the node as it is and takes the taint away, again where somebody changed the taints meanwhile.
    async fn remove_taint(&self, api: &Api, is_fail_open: bool) -> Result<(), ApiError> {
        let key = &self.settings.taint;
        for attempt in 1..=TRIES {
            let node: Node = api.get(&self.path()).await?;
            let Some(patch) = node.without_taint(key) else { return Ok(()) };
            match api.patch::<Node>(&self.path(), Patch::Json, &patch).await {
                Ok(_) => {
                    self.status.removed_taint(is_fail_open);
                    let why = if is_fail_open { "although the agent is NOT ready" } else { "the agent is ready" };
                    say(&format!("removed the taint {key} of node {}: {why}", self.node_name));
                    return Ok(());
                }
                Err(error) if error.is_conflict() && attempt < TRIES => sleep(BACKOFF.after(attempt)).await,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The last words of an agent that was told to stop.
    pub(super) async fn stop(&self) {
        let words = async {
            let api = Api::connect(&self.access)?;
            let node: Node = api.get(&format!("{}?resourceVersion=0", self.path())).await?;
            self.patch_condition(&api, &node.with_condition(&Condition::stopped(), now_s())).await
        };
        if let Ok(Err(error)) | Err(error) = timeout(LAST_WORDS, words).await.map_err(|_| ApiError::Slow) {
            say(&format!("the node's condition does not say that the agent has stopped: {error}"));
        }
    }

    /// What an agent does that cannot go on: it says why, and opens the node if that has waited long enough.
    pub(super) async fn give_up(&self) {
        let mut done = Done::default();
        if let Ok(Err(error)) | Err(error) =
            timeout(LAST_RESORT, self.look(&mut done)).await.map_err(|_| ApiError::Slow)
        {
            say(&format!("the node's condition and taint are not kept: {error}"));
        }
    }

    fn path(&self) -> String {
        format!("/api/v1/nodes/{}", self.node_name)
    }
}

fn now_s() -> u64 {
    realtime_ns() / 1_000_000_000
}
