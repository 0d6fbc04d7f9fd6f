//! The last findings of this run, which any number of subscribers read at their own pace.
//!
//! One ring and positions in it: starting at the tail, at the earliest kept finding or at a cursor, and falling behind,
//! are all the same thing, a position that is compared with what the ring still holds. Publishing takes a short lock and
//! wakes the subscribers; it does not know how many there are or how slow.
//!
//! Invariants: sequences in the ring rise by one; a subscriber gets every finding after its position or is told the exact
//! number that it did not get; a change of rules or profiles is told behind the findings before it, before those after it.

mod change;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use prost::Message as _;
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use self::change::{Change, What};
use super::{
    cursor::{self, Losses, Position, RecordLoss},
    filter::Choice,
    history::{self, History, Told},
    spool::Spool,
};
use crate::proto::v1::{
    Batch, Finding, Heartbeat, ListResponse, LossReport, Open, ProfilesChange, RulesChange, StartFrom,
    SubscribeResponse, subscribe_response::Response,
};

/// Most findings in one batch.
const BATCH_FINDINGS: usize = 256;
/// Most bytes of findings in one batch; a larger finding is sent alone. Consumers accept messages of 4 MiB by default.
const BATCH_BYTES: usize = 1 << 20;
/// Changes of the rules that are kept, and as many of the profiles.
const KEPT_CHANGES: usize = 16;

/// Bounds of a hub.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most findings kept.
    pub findings: usize,
    /// Most bytes of findings kept, as they are encoded.
    pub bytes: usize,
    /// Most subscribers at a time.
    pub subscribers: usize,
    /// After how long without anything to send a subscriber gets a heartbeat.
    pub heartbeat: Duration,
    /// How long a consumer may take to say what it wants.
    pub open_within: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            findings: 4096,
            bytes: 8 << 20,
            subscribers: 64,
            heartbeat: Duration::from_secs(10),
            open_within: Duration::from_secs(10),
        }
    }
}

/// Why a subscription was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// A field of the request cannot be meant.
    #[error("open.{field}: {reason}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// Too many are subscribed.
    #[error("{0} consumers are subscribed already")]
    TooManySubscribers(
        /// How many.
        usize,
    ),
}

impl OpenError {
    pub(super) fn invalid(field: &'static str, reason: impl Into<String>) -> Self {
        OpenError::Invalid { field, reason: reason.into() }
    }
}

/// The last findings, shared by the pipeline that publishes and the subscriptions that read.
#[derive(Debug)]
pub struct Hub {
    epoch: String,
    limits: Limits,
    ring: Mutex<Ring>,
    changed: watch::Sender<()>,
    /// Findings that the ring does not hold any more, and those of earlier runs.
    history: Option<Spool>,
}

#[derive(Debug, Default)]
struct Ring {
    entries: VecDeque<Entry>,
    bytes: usize,
    /// Sequence of the newest finding ever published; 0 before the first.
    newest: u64,
    losses: Losses,
    /// The last changes; their places rise.
    changes: VecDeque<Change>,
    /// How many there were, by kind.
    rules_changes: u64,
    profiles_changes: u64,
    closed: bool,
}

#[derive(Debug)]
struct Entry {
    finding: Arc<Finding>,
    bytes: usize,
}

impl Ring {
    /// The position before the oldest finding that is kept.
    fn earliest(&self) -> u64 {
        self.entries.front().map_or(self.newest, |entry| entry.finding.sequence.saturating_sub(1))
    }

    /// Place of the newest change; 0 before the first.
    fn newest_change(&self) -> u64 {
        self.rules_changes + self.profiles_changes
    }

    /// Keeps a change, and of its kind no more than there is room for: changes of one kind do not push those of the other out.
    fn keep(&mut self, what: What) {
        let is_like = |kept: &Change| std::mem::discriminant(&kept.what) == std::mem::discriminant(&what);
        if self.changes.iter().filter(|kept| is_like(kept)).count() >= KEPT_CHANGES {
            let oldest = self.changes.iter().position(is_like);
            oldest.map(|oldest| self.changes.remove(oldest));
        }
        let (after, place) = (self.newest, self.newest_change());
        self.changes.push_back(Change { after, place, what });
    }

    fn evict_oldest(&mut self) {
        if let Some(entry) = self.entries.pop_front() {
            self.bytes -= entry.bytes;
        }
    }
}

/// What follows a position.
struct Next {
    /// Findings between the position and the first of `findings` that are not kept any more.
    missing: u64,
    /// Changes before the first of `findings`, with their places.
    changes: Vec<(u64, What)>,
    /// Findings up to the next change.
    findings: Vec<Arc<Finding>>,
    /// Records lost since the start.
    losses: Losses,
    /// Nothing more will come after `findings`, if they are empty.
    closed: bool,
}

impl Hub {
    /// A hub for the run that `epoch` names. The name must differ from that of every other run on this host.
    pub fn new(epoch: impl Into<String>) -> Arc<Hub> {
        Hub::with_limits(epoch, Limits::default())
    }

    /// A hub for the run of a spool, which has what the ring has not any more.
    pub fn with_history(spool: Spool) -> Arc<Hub> {
        let (changed, _) = watch::channel(());
        let (epoch, limits) = (spool.epoch().to_string(), Limits::default());
        Arc::new(Hub { epoch, limits, ring: Mutex::default(), changed, history: Some(spool) })
    }

    /// The same as [`new`](Self::new) with other bounds.
    pub fn with_limits(epoch: impl Into<String>, limits: Limits) -> Arc<Hub> {
        let (changed, _) = watch::channel(());
        Arc::new(Hub { epoch: epoch.into(), limits, ring: Mutex::default(), changed, history: None })
    }

    /// Identity of this run.
    pub fn epoch(&self) -> &str {
        &self.epoch
    }

    /// The bounds it keeps.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Subscribers now.
    pub fn subscribers(&self) -> usize {
        self.changed.receiver_count()
    }

    /// Hands a finding to every subscriber. Its sequence must be the one after that of the finding before, from 1 on. To
    /// be called from one thread; waits for no subscriber.
    pub fn publish(&self, finding: Arc<Finding>) {
        let bytes = finding.encoded_len();
        let mut ring = self.lock();
        debug_assert_eq!(finding.sequence, ring.newest + 1, "sequences rise by one");
        ring.newest = finding.sequence;
        ring.bytes += bytes;
        ring.entries.push_back(Entry { finding, bytes });
        while ring.entries.len() > self.limits.findings || ring.bytes > self.limits.bytes {
            ring.evict_oldest();
        }
        drop(ring);
        self.changed.send_replace(());
    }

    /// Tells every subscriber that `records` more did not become events.
    pub fn report_record_loss(&self, cause: RecordLoss, records: u64) {
        if records == 0 {
            return;
        }
        self.lock().losses.add(cause, records);
        self.changed.send_replace(());
    }

    /// Tells every subscriber that the rules were read again, behind the findings published so far. Number, time and
    /// cursor are filled in here.
    pub fn report_rules_change(&self, change: RulesChange) {
        let mut ring = self.lock();
        ring.rules_changes += 1;
        let (number, time_unix_nano) = (ring.rules_changes, now_unix_nano());
        ring.keep(What::Rules(Arc::new(RulesChange { number, time_unix_nano, ..change })));
        drop(ring);
        self.changed.send_replace(());
    }

    /// The same of the node's seccomp profiles.
    pub fn report_profiles_change(&self, change: ProfilesChange) {
        let mut ring = self.lock();
        ring.profiles_changes += 1;
        let (number, time_unix_nano) = (ring.profiles_changes, now_unix_nano());
        ring.keep(What::Profiles(Arc::new(ProfilesChange { number, time_unix_nano, ..change })));
        drop(ring);
        self.changed.send_replace(());
    }

    /// Says that nothing more will be published: subscriptions end when they have sent what is left.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.send_replace(());
    }

    /// A subscription as `open` asks for it. Findings published after this returns are in it.
    pub fn subscribe(self: &Arc<Self>, open: Open) -> Result<Subscription, OpenError> {
        let since = open.since_unix_nano;
        if (open.start_from == i32::from(StartFrom::Since)) != (since > 0) {
            return Err(OpenError::invalid("since_unix_nano", "START_FROM_SINCE needs it, and nothing else takes it"));
        }
        let choice = Choice::new(open.filter.unwrap_or_default(), open.fields)?.between(since, None);
        let ring = self.lock();
        let start = self.start(&ring, open.start_from, &open.cursor)?;
        if self.subscribers() >= self.limits.subscribers {
            return Err(OpenError::TooManySubscribers(self.subscribers()));
        }
        // Still under the lock, which makes the count exact.
        let changed = self.changed.subscribe();
        drop(ring);
        let mut subscription = Subscription {
            hub: Arc::clone(self),
            epoch: start.epoch,
            position: start.position,
            history: start.history,
            choice,
            changed,
            pending: VecDeque::new(),
            reached: String::new(),
            idle_until: Instant::now(),
            credit: (open.initial_credit > 0).then_some(open.initial_credit.into()),
        };
        if let Some(findings) = start.expired {
            subscription.push_loss(LossReport { findings, cause: "expired".to_owned(), ..LossReport::default() });
        }
        subscription.push_heartbeat();
        Ok(subscription)
    }

    /// Where to start.
    fn start(&self, ring: &Ring, start_from: i32, cursor: &str) -> Result<Start, OpenError> {
        let start_from = StartFrom::try_from(start_from)
            .map_err(|_| OpenError::invalid("start_from", format!("{start_from} is not known to this agent")))?;
        if start_from != StartFrom::Cursor && !cursor.is_empty() {
            return Err(OpenError::invalid("cursor", "only START_FROM_CURSOR takes one"));
        }
        let kept = Position { sequence: ring.earliest(), ..Position::default() };
        let here = |position| Start { epoch: self.epoch.clone(), position, history: None, expired: None };
        let earliest = || match &self.history {
            None => here(kept),
            // The ring is a part of it; what was lost is told from the beginning.
            Some(spool) => Start {
                history: Some(History::new(spool.reader(spool.earliest()))),
                ..here(Position { sequence: 0, ..kept })
            },
        };
        match start_from {
            StartFrom::Unspecified | StartFrom::Tail => {
                let changes = ring.newest_change();
                Ok(here(Position { sequence: ring.newest, losses: ring.losses, changes }))
            }
            StartFrom::Earliest | StartFrom::Since => Ok(earliest()),
            StartFrom::Cursor => {
                let (epoch, position) =
                    cursor::parse(cursor).map_err(|error| OpenError::invalid("cursor", error.to_string()))?;
                let is_this_run = epoch == self.epoch;
                if is_this_run && position.sequence > ring.newest {
                    return Err(OpenError::invalid("cursor", "is ahead of the newest finding of this agent"));
                }
                if is_this_run && position.sequence >= kept.sequence {
                    return Ok(here(position));
                }
                let history = self.history.as_ref();
                if let Some(reader) = history.and_then(|spool| history::at(spool, epoch, position.sequence)) {
                    let epoch = epoch.to_owned();
                    return Ok(Start { epoch, position, history: Some(History::new(reader)), expired: None });
                }
                if !is_this_run {
                    return Ok(Start { expired: Some(kept.sequence), ..earliest() });
                }
                let missing = kept.sequence - position.sequence;
                let start = Position { sequence: position.sequence + missing, ..position };
                Ok(Start { expired: Some(missing), ..here(start) })
            }
        }
    }

    /// The spool, where there is one.
    pub(super) fn history(&self) -> Option<&Spool> {
        self.history.as_ref()
    }

    /// A page of what the ring holds, for a hub without a spool.
    pub(super) fn list_ring(&self, choice: &Choice, token: &str, size: usize) -> Result<ListResponse, OpenError> {
        let invalid = |error: cursor::Malformed| OpenError::invalid("page_token", error.to_string());
        let from = match token {
            "" => 0,
            token => cursor::parse(token).map_err(invalid)?.1.sequence,
        };
        let ring = self.lock();
        let rest = ring.entries.iter().map(|entry| &entry.finding).filter(|finding| finding.sequence > from);
        let findings: Vec<Finding> =
            rest.filter(|finding| choice.passes(finding)).take(size).map(|finding| choice.masked(finding)).collect();
        let last = findings.last().filter(|last| findings.len() == size && last.sequence < ring.newest);
        let next_page_token = last.map_or_else(String::new, |last| {
            Position { sequence: last.sequence, ..Position::default() }.cursor(&self.epoch)
        });
        Ok(ListResponse { findings, next_page_token, losses: Vec::new() })
    }

    /// What follows a position, bounded to one batch.
    fn after(&self, position: Position) -> Next {
        let ring = self.lock();
        let missing = ring.earliest().saturating_sub(position.sequence);
        let here = position.sequence + missing;
        let untold = ring.changes.iter().filter(|kept| kept.place > position.changes);
        let changes =
            untold.clone().take_while(|kept| kept.after <= here).map(|kept| (kept.place, kept.what.clone())).collect();
        let until = untold.map(|kept| kept.after).find(|after| *after > here).unwrap_or(u64::MAX);
        let from = ring.entries.partition_point(|entry| entry.finding.sequence <= here);
        let mut bytes = 0;
        let findings = ring
            .entries
            .range(from..)
            .take_while(|entry| entry.finding.sequence <= until)
            .take(BATCH_FINDINGS)
            .take_while(|entry| {
                let first = bytes == 0;
                bytes += entry.bytes;
                first || bytes <= BATCH_BYTES
            })
            .map(|entry| Arc::clone(&entry.finding))
            .collect();
        Next { missing, changes, findings, losses: ring.losses, closed: ring.closed }
    }

    /// Nothing under the lock can panic half-way, so a poisoned ring is whole.
    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a subscription starts.
struct Start {
    epoch: String,
    position: Position,
    history: Option<History>,
    /// How many findings the consumer cannot have any more, if it asked for some.
    expired: Option<u64>,
}

/// One subscriber's place in the stream.
#[derive(Debug)]
pub struct Subscription {
    hub: Arc<Hub>,
    /// The run that the position is in: the hub's, but in the history.
    epoch: String,
    position: Position,
    /// What is read before the ring.
    history: Option<History>,
    choice: Choice,
    changed: watch::Receiver<()>,
    pending: VecDeque<Response>,
    /// The cursor of what was sent last, which is behind the position while something is pending.
    reached: String,
    idle_until: Instant,
    /// How many findings more the consumer takes, where it counts.
    credit: Option<u64>,
}

impl Subscription {
    /// The next thing to send; `None` when the hub is closed and everything was sent. Nothing is lost if the future is
    /// dropped before it is ready.
    pub async fn next(&mut self) -> Option<SubscribeResponse> {
        loop {
            if let Some(response) = self.take_pending() {
                return Some(self.sent(response));
            }
            if !self.pending.is_empty() {
                // Findings that wait for credit: who comes back from here gets them.
                tokio::time::sleep_until(self.idle_until).await;
                let heartbeat = Heartbeat { cursor: self.reached.clone(), time_unix_nano: now_unix_nano() };
                return Some(self.sent(Response::Heartbeat(heartbeat)));
            }
            if let Some(history) = &mut self.history {
                let told = history.next().await;
                self.recall(told);
                continue;
            }
            // Before the look at the ring, so that a change after it is not missed.
            self.changed.mark_unchanged();
            let next = self.hub.after(self.position);
            let end = next.closed && next.findings.is_empty();
            let advanced = self.advance(&next);
            if !self.pending.is_empty() {
                continue;
            }
            if end {
                return None;
            }
            if Instant::now() >= self.idle_until {
                self.push_heartbeat();
            } else if advanced {
                // The filter left out a whole batch: give way before the next one.
                tokio::task::yield_now().await;
            } else if timeout_at(self.idle_until, self.changed.changed()).await.is_err() {
                self.push_heartbeat();
            }
        }
    }

    /// What is to be sent next, as far as there is credit for it.
    fn take_pending(&mut self) -> Option<Response> {
        let (Some(credit), Some(Response::Batch(batch))) = (&mut self.credit, self.pending.front_mut()) else {
            return self.pending.pop_front();
        };
        let most = usize::try_from(*credit).unwrap_or(usize::MAX).min(batch.findings.len());
        if most == 0 {
            return None;
        }
        *credit -= most as u64;
        if most == batch.findings.len() {
            return self.pending.pop_front();
        }
        let rest = batch.findings.split_off(most);
        let findings = std::mem::replace(&mut batch.findings, rest);
        let cursor = findings.last().and_then(|last| cursor::moved(&batch.cursor, last.sequence));
        // A cursor that were too far behind would send twice, one too far ahead would lose.
        Some(Response::Batch(Batch { findings, cursor: cursor.unwrap_or_else(|| self.reached.clone()) }))
    }

    /// Notes how far the consumer has come.
    fn sent(&mut self, response: Response) -> SubscribeResponse {
        match &response {
            Response::Batch(Batch { cursor, .. })
            | Response::Loss(LossReport { cursor, .. })
            | Response::RulesChange(RulesChange { cursor, .. })
            | Response::ProfilesChange(ProfilesChange { cursor, .. })
            | Response::Heartbeat(Heartbeat { cursor, .. }) => self.reached.clone_from(cursor),
        }
        self.idle_until = Instant::now() + self.hub.limits.heartbeat;
        SubscribeResponse { response: Some(response) }
    }

    /// Lets it send more.
    pub fn add_credit(&mut self, findings: u32) -> bool {
        let Some(credit) = &mut self.credit else { return false };
        *credit = credit.saturating_add(findings.into());
        true
    }

    /// Takes in what the history told; where it has ended, or reached the ring, the ring goes on.
    fn recall(&mut self, told: Vec<Told>) {
        let ended = told.is_empty();
        let mut findings = Vec::new();
        for told in told {
            match told {
                Told::Finding(epoch, finding) => {
                    if epoch != self.epoch {
                        self.push_batch(&mut findings);
                        (self.epoch, self.position) = (epoch, Position::default());
                    }
                    self.position.sequence = finding.sequence;
                    if self.choice.passes(&finding) {
                        findings.push(self.choice.masked(&finding));
                    }
                }
                Told::Loss(epoch, sequence, loss) => {
                    self.push_batch(&mut findings);
                    if epoch == self.epoch {
                        self.position.sequence = self.position.sequence.max(sequence);
                    }
                    if epoch == self.hub.epoch {
                        self.position.losses.count(&loss);
                    }
                    self.push_loss(loss);
                }
            }
        }
        self.push_batch(&mut findings);
        let in_ring = self.epoch == self.hub.epoch && self.position.sequence >= self.hub.lock().earliest();
        if ended && self.epoch != self.hub.epoch {
            let epoch = self.hub.epoch.clone();
            (self.epoch, self.position) =
                (epoch, Position { sequence: self.hub.lock().earliest(), ..Position::default() });
        }
        if ended || in_ring {
            self.history = None;
        }
    }

    fn push_batch(&mut self, findings: &mut Vec<Finding>) {
        if !findings.is_empty() {
            let findings = std::mem::take(findings);
            self.pending.push_back(Response::Batch(Batch { findings, cursor: self.cursor() }));
        }
    }

    /// Moves past what is next and queues what is to be said of it; whether there were findings.
    fn advance(&mut self, next: &Next) -> bool {
        for (cause, records) in next.losses.since(self.position.losses) {
            self.position.losses.add(cause, records);
            self.push_loss(LossReport { records, cause: cause.cause().to_owned(), ..LossReport::default() });
        }
        if next.missing > 0 {
            self.position.sequence += next.missing;
            let (cause, epoch) = ("slow_subscriber".to_owned(), self.epoch.clone());
            let first_sequence = self.position.sequence - next.missing + 1;
            self.push_loss(LossReport {
                findings: next.missing,
                cause,
                epoch,
                first_sequence,
                ..LossReport::default()
            });
        }
        for (place, what) in &next.changes {
            self.position.changes = *place;
            self.pending.push_back(what.response(self.cursor()));
        }
        let Some(last) = next.findings.last() else { return false };
        self.position.sequence = last.sequence;
        let passing = next.findings.iter().filter(|finding| self.choice.passes(finding));
        let mut findings: Vec<Finding> = passing.map(|finding| self.choice.masked(finding)).collect();
        self.push_batch(&mut findings);
        true
    }

    fn push_loss(&mut self, loss: LossReport) {
        self.pending.push_back(Response::Loss(LossReport { cursor: self.cursor(), ..loss }));
    }

    fn push_heartbeat(&mut self) {
        let time_unix_nano = now_unix_nano();
        self.pending.push_back(Response::Heartbeat(Heartbeat { cursor: self.cursor(), time_unix_nano }));
    }

    fn cursor(&self) -> String {
        self.position.cursor(&self.epoch)
    }
}

/// The wall clock; 0 before 1970.
fn now_unix_nano() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
