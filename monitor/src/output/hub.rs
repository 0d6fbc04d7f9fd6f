//! The last findings of this run, which any number of subscribers read at their own pace.
//!
//! One ring and positions in it: starting at the tail, at the earliest kept finding or at a cursor, and falling behind,
//! are all the same thing, a position that is compared with what the ring still holds. Publishing takes a short lock and
//! wakes the subscribers; it does not know how many there are or how slow.
//!
//! Invariants: sequences in the ring rise by one; a subscriber gets every finding after its position or is told the exact
//! number that it did not get.

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

use super::cursor::{self, Losses, Position, RecordLoss};
use crate::proto::v1::{
    Batch, Filter, Finding, Heartbeat, Kind, LossReport, Open, Priority, StartFrom, SubscribeResponse,
    subscribe_response::Response,
};

/// Most findings in one batch.
const BATCH_FINDINGS: usize = 256;
/// Most bytes of findings in one batch; a larger finding is sent alone. Consumers accept messages of 4 MiB by default.
const BATCH_BYTES: usize = 1 << 20;

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
    fn invalid(field: &'static str, reason: impl Into<String>) -> Self {
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
}

#[derive(Debug, Default)]
struct Ring {
    entries: VecDeque<Entry>,
    bytes: usize,
    /// Sequence of the newest finding ever published; 0 before the first.
    newest: u64,
    losses: Losses,
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

    /// The same with other bounds.
    pub fn with_limits(epoch: impl Into<String>, limits: Limits) -> Arc<Hub> {
        let (changed, _) = watch::channel(());
        Arc::new(Hub { epoch: epoch.into(), limits, ring: Mutex::default(), changed })
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

    /// Says that nothing more will be published: subscriptions end when they have sent what is left.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.send_replace(());
    }

    /// A subscription as `open` asks for it. Findings published after this returns are in it.
    pub fn subscribe(self: &Arc<Self>, open: Open) -> Result<Subscription, OpenError> {
        let filter = open.filter.unwrap_or_default();
        check(&filter)?;
        let ring = self.lock();
        let (position, expired) = self.start(&ring, open.start_from, &open.cursor)?;
        if self.subscribers() >= self.limits.subscribers {
            return Err(OpenError::TooManySubscribers(self.subscribers()));
        }
        // Still under the lock, which makes the count exact.
        let changed = self.changed.subscribe();
        drop(ring);
        let mut subscription = Subscription {
            hub: Arc::clone(self),
            position,
            filter,
            changed,
            pending: VecDeque::new(),
            idle_until: Instant::now(),
        };
        if let Some(findings) = expired {
            subscription.push_loss(LossReport { findings, cause: "expired".to_owned(), ..LossReport::default() });
        }
        subscription.push_heartbeat();
        Ok(subscription)
    }

    /// Where to start, and how many findings the consumer can't have any more if it asked for some.
    fn start(&self, ring: &Ring, start_from: i32, cursor: &str) -> Result<(Position, Option<u64>), OpenError> {
        let start_from = StartFrom::try_from(start_from)
            .map_err(|_| OpenError::invalid("start_from", format!("{start_from} is not known to this agent")))?;
        if start_from != StartFrom::Cursor && !cursor.is_empty() {
            return Err(OpenError::invalid("cursor", "only START_FROM_CURSOR takes one"));
        }
        let earliest = Position { sequence: ring.earliest(), losses: Losses::default() };
        match start_from {
            StartFrom::Unspecified | StartFrom::Tail => {
                Ok((Position { sequence: ring.newest, losses: ring.losses }, None))
            }
            StartFrom::Earliest => Ok((earliest, None)),
            StartFrom::Cursor => {
                let (epoch, position) =
                    cursor::parse(cursor).map_err(|error| OpenError::invalid("cursor", error.to_string()))?;
                if epoch != self.epoch {
                    return Ok((earliest, Some(earliest.sequence)));
                }
                if position.sequence > ring.newest {
                    return Err(OpenError::invalid("cursor", "is ahead of the newest finding of this agent"));
                }
                let missing = earliest.sequence.saturating_sub(position.sequence);
                let start = Position { sequence: position.sequence + missing, losses: position.losses };
                Ok((start, (missing > 0).then_some(missing)))
            }
        }
    }

    /// What follows a position, bounded to one batch.
    fn after(&self, position: u64) -> Next {
        let ring = self.lock();
        let missing = ring.earliest().saturating_sub(position);
        let from = ring.entries.partition_point(|entry| entry.finding.sequence <= position);
        let mut bytes = 0;
        let findings = ring
            .entries
            .range(from..)
            .take(BATCH_FINDINGS)
            .take_while(|entry| {
                let first = bytes == 0;
                bytes += entry.bytes;
                first || bytes <= BATCH_BYTES
            })
            .map(|entry| Arc::clone(&entry.finding))
            .collect();
        Next { missing, findings, losses: ring.losses, closed: ring.closed }
    }

    /// Nothing under the lock can panic half-way, so a poisoned ring is whole.
    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Refuses a filter that cannot be meant.
fn check(filter: &Filter) -> Result<(), OpenError> {
    const MAX_RULES: usize = 1024;
    if Priority::try_from(filter.min_priority).is_err() {
        let reason = format!("{} is not known to this agent", filter.min_priority);
        return Err(OpenError::invalid("filter.min_priority", reason));
    }
    if filter.rules.len() > MAX_RULES {
        return Err(OpenError::invalid("filter.rules", format!("more than {MAX_RULES}")));
    }
    for kind in &filter.kinds {
        if matches!(Kind::try_from(*kind), Err(_) | Ok(Kind::Unspecified)) {
            return Err(OpenError::invalid("filter.kinds", format!("{kind} is not known to this agent")));
        }
    }
    Ok(())
}

/// Whether a finding passes a filter.
fn passes(filter: &Filter, finding: &Finding) -> bool {
    (filter.min_priority() == Priority::Unspecified || finding.priority().at_least(filter.min_priority()))
        && (filter.rules.is_empty() || filter.rules.contains(&finding.rule))
        && (filter.kinds.is_empty() || filter.kinds.contains(&finding.kind))
}

/// One subscriber's place in the stream.
#[derive(Debug)]
pub struct Subscription {
    hub: Arc<Hub>,
    position: Position,
    filter: Filter,
    changed: watch::Receiver<()>,
    pending: VecDeque<Response>,
    idle_until: Instant,
}

impl Subscription {
    /// The next thing to send; `None` when the hub is closed and everything was sent. Nothing is lost if the future is
    /// dropped before it is ready.
    pub async fn next(&mut self) -> Option<SubscribeResponse> {
        loop {
            if let Some(response) = self.pending.pop_front() {
                self.idle_until = Instant::now() + self.hub.limits.heartbeat;
                return Some(SubscribeResponse { response: Some(response) });
            }
            // Before the look at the ring, so that a change after it is not missed.
            self.changed.mark_unchanged();
            let next = self.hub.after(self.position.sequence);
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

    /// Moves past what is next and queues what is to be said of it; whether there were findings.
    fn advance(&mut self, next: &Next) -> bool {
        for (cause, records) in next.losses.since(self.position.losses) {
            self.position.losses.add(cause, records);
            self.push_loss(LossReport { records, cause: cause.cause().to_owned(), ..LossReport::default() });
        }
        if next.missing > 0 {
            self.position.sequence += next.missing;
            let cause = "slow_subscriber".to_owned();
            self.push_loss(LossReport { findings: next.missing, cause, ..LossReport::default() });
        }
        let Some(last) = next.findings.last() else { return false };
        self.position.sequence = last.sequence;
        let passing = next.findings.iter().filter(|finding| passes(&self.filter, finding));
        let findings: Vec<Finding> = passing.map(|finding| Finding::clone(finding)).collect();
        if !findings.is_empty() {
            self.pending.push_back(Response::Batch(Batch { findings, cursor: self.cursor() }));
        }
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
        self.position.cursor(&self.hub.epoch)
    }
}

/// The wall clock; 0 before 1970.
fn now_unix_nano() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
