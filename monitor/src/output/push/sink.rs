//! One sink's thread: fills the room in flight, takes answers, keeps the cursor.

use std::{
    collections::{BTreeMap, HashMap},
    future::pending,
    time::{Duration, Instant},
};

use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use prost::Message as _;
use tokio::{
    sync::watch,
    time::{sleep, sleep_until, timeout},
};
use tonic::{Code, Request, Status, transport::Channel};

use super::{
    Begin, Protocol, Sender, SinkOptions, SinkState,
    batch::{Batch, Batches},
    dead_letter::DeadLetters,
    findings,
    retry::{Verdict, verdict},
    state::{Count, short},
};
use crate::{
    output::{
        otlp,
        spool::{
            Spool,
            cursor::{Cursor, Position},
            reader::Most,
        },
    },
    proto::v1::{Rejected, Source},
};

/// After how long without a request a connection is not trusted any more: load balancers forget it after four minutes.
const MAX_IDLE: Duration = Duration::from_mins(3);
/// After how long a connection is replaced, so that names and certificates that changed come into use.
const MAX_AGE: Duration = Duration::from_mins(30);
/// How long a sink that is asked to stop may take for what is in flight.
const FAREWELL: Duration = Duration::from_secs(2);
/// How often a single finding that is too much for the sink is tried.
const TRIES_ALONE: u32 = 5;

/// What a sink took.
#[derive(Debug, Default)]
pub(super) struct Accepted {
    /// The last sequence that it took.
    through: u64,
    rejected: Vec<Rejected>,
    /// Findings that it did not take and did not name.
    rejected_unnamed: usize,
    pause: Option<Duration>,
    max_batch: Option<usize>,
}

type Answer = (Batch, Result<Accepted, Status>);

/// A sink and everything that belongs to it.
pub(super) struct Sink {
    options: SinkOptions,
    source: Source,
    state: std::sync::Arc<SinkState>,
    dead_letters: DeadLetters,
    cursor: Cursor,
    batches: Batches,
    changes: watch::Receiver<()>,
    spool: Spool,
    /// Sent and not answered, or answered behind one that is not: by start, with the end where answered.
    open: BTreeMap<u64, Option<Position>>,
    /// To be sent again, by start.
    again: BTreeMap<u64, Batch>,
    /// Most findings in a batch, as the sink's answers have taught.
    cap: usize,
    failures: u32,
    paused_until: Option<tokio::time::Instant>,
    channel: Option<Connection>,
}

struct Connection {
    channel: Channel,
    made: Instant,
    used: Instant,
}

impl Sink {
    pub(super) fn new(spool: &Spool, sender: Sender, options: SinkOptions, state: std::sync::Arc<SinkState>) -> Self {
        let cursor = spool.cursor(&options.name);
        let start = cursor.position().unwrap_or_else(|| match options.begin {
            Begin::Earliest => spool.earliest(),
            Begin::Latest => spool.latest(),
        });
        state.set_acknowledged(start.index);
        let source = Source {
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            node_name: sender.node_name,
            cluster_name: sender.cluster_name,
            boot_id: sender.boot_id,
            epoch: spool.epoch().to_string(),
        };
        Self {
            source,
            state,
            dead_letters: DeadLetters::new(options.dead_letters.clone()),
            cursor,
            batches: Batches::new(spool.reader(start)),
            changes: spool.changes(),
            spool: spool.clone(),
            open: BTreeMap::new(),
            again: BTreeMap::new(),
            cap: options.most.entries,
            failures: 0,
            paused_until: None,
            channel: None,
            options,
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.options.name
    }

    /// Serves the sink until told to stop, and then sends what is there, but not for long.
    pub(super) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut in_flight: FuturesUnordered<BoxFuture<'static, Answer>> = FuturesUnordered::new();
        let mut deadline = None;
        loop {
            self.changes.mark_unchanged();
            let waits = self.fill(&mut in_flight, deadline.is_some()).await;
            self.state.set_in_flight(in_flight.len());
            if deadline.is_some() && in_flight.is_empty() && (waits || self.failures > 0) {
                return;
            }
            let pause = self.paused_until;
            tokio::select! {
                Some((batch, answer)) = in_flight.next(), if !in_flight.is_empty() => self.answered(batch, answer),
                // A sender that is gone means that nothing more comes.
                Ok(()) = self.changes.changed(), if waits => {}
                () = async { match pause { Some(until) => sleep_until(until).await, None => pending().await } } => {
                    self.paused_until = None;
                }
                _ = stop.wait_for(|stop| *stop), if deadline.is_none() => {
                    deadline = Some(tokio::time::Instant::now() + FAREWELL);
                }
                () = async { match deadline { Some(until) => sleep_until(until).await, None => pending().await } } => return,
            }
        }
    }

    /// Sends as long as there is room; whether it is worth waiting for more to send.
    async fn fill(&mut self, in_flight: &mut FuturesUnordered<BoxFuture<'static, Answer>>, ending: bool) -> bool {
        // A sink in trouble is asked with one batch at a time.
        let room = if self.failures > 0 { 1 } else { self.options.in_flight };
        while in_flight.len() < room {
            if self.paused_until.is_some() {
                return false;
            }
            if let Some((start, mut batch)) = self.again.pop_first() {
                if batch.findings.len() > self.cap {
                    let (first, second) = batch.halves();
                    self.again.extend(second.map(|second| (second.start, second)));
                    self.again.insert(start, first);
                    continue;
                }
                batch.attempts += 1;
                self.state.add(Count::Retries, 1);
                self.send(batch, in_flight);
                continue;
            }
            let most = Most { entries: self.cap, ..self.options.most };
            let ready = self.batches.ready(most);
            if ready == 0 {
                return true;
            }
            if ready < most.entries && !ending && !self.options.linger.is_zero() {
                sleep(self.options.linger).await;
                self.batches.ready(most);
            }
            let Some(batch) = self.batches.next(most) else { return true };
            if batch.findings.is_empty() && batch.losses.is_empty() {
                self.open.insert(batch.start, Some(batch.end));
                self.acknowledge();
                continue;
            }
            self.send(batch, in_flight);
        }
        false
    }

    fn send(&mut self, batch: Batch, in_flight: &mut FuturesUnordered<BoxFuture<'static, Answer>>) {
        self.open.insert(batch.start, None);
        self.state.add(Count::Requests, 1);
        let within = self.options.timeout;
        let authorization = match self.options.dialer.authorization() {
            Ok(authorization) => authorization,
            Err(error) => {
                let status = Status::unauthenticated(format!("cannot read the token: {error}"));
                in_flight.push(async move { (batch, Err(status)) }.boxed());
                return;
            }
        };
        let channel = self.channel();
        let gzip = self.options.gzip;
        let call = match self.options.protocol {
            Protocol::Findings => {
                let request = findings::request(&self.source, &batch);
                self.state.add(Count::Bytes, request.encoded_len());
                let mut request = Request::new(request);
                prepare(&mut request, within, authorization);
                async move {
                    let response = findings::deliver(channel, gzip, request).await?.into_inner();
                    let pause = response.pause.and_then(|pause| Duration::try_from(pause).ok());
                    let max_batch = usize::try_from(response.max_batch_hint).ok().filter(|most| *most > 0);
                    let (through, rejected) = (response.accepted_through, response.rejected);
                    Ok(Accepted { through, rejected, rejected_unnamed: 0, pause, max_batch })
                }
                .boxed()
            }
            Protocol::Otlp => {
                let request = otlp::request(&self.source, &batch);
                self.state.add(Count::Bytes, request.encoded_len());
                let mut request = Request::new(request);
                prepare(&mut request, within, authorization);
                let through = batch.end.sequence;
                async move {
                    let rejected_unnamed = otlp::export(channel, gzip, request).await?;
                    Ok(Accepted { through, rejected_unnamed, ..Accepted::default() })
                }
                .boxed()
            }
        };
        in_flight.push(
            async move {
                let late = |_| Err(Status::deadline_exceeded(format!("no answer within {within:?}")));
                (batch, timeout(within, call).await.unwrap_or_else(late))
            }
            .boxed(),
        );
    }

    /// The connection, or a new one where it cannot be relied on any more.
    fn channel(&mut self) -> Channel {
        let now = Instant::now();
        let usable = self.channel.take().filter(|connection| {
            now.duration_since(connection.used) < MAX_IDLE && now.duration_since(connection.made) < MAX_AGE
        });
        let connection =
            usable.unwrap_or_else(|| Connection { channel: self.options.dialer.channel(), made: now, used: now });
        let channel = connection.channel.clone();
        self.channel = Some(Connection { used: now, ..connection });
        channel
    }

    fn answered(&mut self, batch: Batch, answer: Result<Accepted, Status>) {
        match answer {
            Ok(accepted) => self.accepted(batch, &accepted),
            Err(status) => self.failed(batch, &status),
        }
    }

    fn accepted(&mut self, batch: Batch, accepted: &Accepted) {
        let took_some = batch.findings.first().is_none_or(|first| accepted.through >= first.sequence);
        if took_some {
            self.failures = 0;
            if let Some(failed_for) = self.state.recover() {
                let (name, seconds) = (&self.options.name, failed_for.as_secs());
                tracing::warn!(kind = "sink_recovered", "sink {name}: takes findings again after {seconds} s");
            }
            self.cap = accepted.max_batch.unwrap_or(self.cap * 2).clamp(1, self.options.most.entries);
        }
        let buried = self.bury_rejected(&batch, accepted);
        self.state.add(Count::Rejected, accepted.rejected_unnamed);
        let taken = batch.findings.iter().filter(|entry| entry.sequence <= accepted.through).count();
        self.state.add(Count::Delivered, taken.saturating_sub(buried + accepted.rejected_unnamed));
        let (start, end) = (batch.start, batch.end);
        if batch.findings.is_empty() {
            self.open.insert(start, Some(end));
        } else {
            match batch.behind(accepted.through) {
                None => _ = self.open.insert(start, Some(end)),
                Some(mut rest) => {
                    if rest.start > start {
                        let index = rest.start;
                        let sequence = rest.first_sequence() - 1;
                        self.open.insert(start, Some(Position { index, epoch: rest.epoch, sequence }));
                    }
                    rest.attempts += u32::from(!took_some);
                    self.open.insert(rest.start, None);
                    self.again.insert(rest.start, rest);
                    if !took_some {
                        self.trouble("it accepts nothing", None);
                    }
                }
            }
        }
        if let Some(pause) = accepted.pause {
            self.pause(pause.min(Duration::from_mins(5)));
        }
        self.acknowledge();
    }

    fn failed(&mut self, batch: Batch, status: &Status) {
        let why = format!("{:?}: {}", status.code(), with_cause(status));
        let alone = batch.findings.len() <= 1;
        let verdict = verdict(status);
        match verdict {
            Verdict::Smaller if !alone => self.cap = (batch.findings.len() / 2).max(1),
            Verdict::Divide if !alone => {
                let (first, second) = batch.halves();
                self.open.extend(second.iter().map(|second| (second.start, None)));
                self.again.extend(second.into_iter().chain([first]).map(|half| (half.start, half)));
                return self.note(&why);
            }
            Verdict::Divide => return self.give_up(&batch, status),
            Verdict::Smaller if batch.attempts >= TRIES_ALONE => return self.give_up(&batch, status),
            _ => {}
        }
        let wait = match verdict {
            Verdict::Retry(after) => after,
            Verdict::Refused => Some(self.options.backoff.longest()),
            Verdict::Smaller | Verdict::Divide => None,
        };
        if matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded) {
            // Perhaps the connection is dead and does not know it, or the name leads elsewhere by now.
            self.channel = None;
        }
        self.again.insert(batch.start, batch);
        self.trouble(&why, wait);
    }

    /// Puts the only finding of a batch, which the sink does not take, with the dead letters.
    fn give_up(&mut self, batch: &Batch, status: &Status) {
        for entry in &batch.findings {
            self.bury(entry, status.code().into(), status.message());
        }
        self.open.insert(batch.start, Some(batch.end));
        self.acknowledge();
    }

    /// Puts the findings that a sink took and named as refused with the dead letters; their number.
    fn bury_rejected(&self, batch: &Batch, accepted: &Accepted) -> usize {
        if accepted.rejected.is_empty() {
            return 0;
        }
        let by_uid: HashMap<&str, &Rejected> =
            accepted.rejected.iter().map(|rejected| (rejected.uid.as_str(), rejected)).collect();
        let mut buried = 0;
        for entry in batch.findings.iter().filter(|entry| entry.sequence <= accepted.through) {
            if let Some(rejected) = uid(&entry.payload).and_then(|uid| by_uid.get(uid.as_str())) {
                self.bury(entry, rejected.code, &rejected.message);
                buried += 1;
            }
        }
        buried
    }

    fn bury(&self, entry: &crate::output::spool::reader::Entry, code: i32, message: &str) {
        self.state.add(Count::Rejected, 1);
        let reason = short(message);
        let name = &self.options.name;
        tracing::warn!(kind = "sink_rejected", "sink {name}: finding {} refused: {reason}", entry.sequence);
        if let Err(error) = self.dead_letters.keep(entry, code, &reason) {
            tracing::warn!(kind = "dead_letter", "sink {name}: dead letter not kept: {error}");
        }
    }

    fn trouble(&mut self, why: &str, wait: Option<Duration>) {
        self.failures = self.failures.saturating_add(1);
        self.note(why);
        self.pause(wait.unwrap_or_else(|| self.options.backoff.after(self.failures)));
    }

    fn note(&self, why: &str) {
        if self.state.fail(why) {
            let (name, target) = (&self.options.name, self.options.dialer.target());
            tracing::warn!(kind = "sink_failed", "sink {name} ({target}): {}; findings wait in the spool", short(why));
        }
    }

    fn pause(&mut self, wait: Duration) {
        let until = tokio::time::Instant::now() + wait;
        self.paused_until = Some(self.paused_until.map_or(until, |earlier| earlier.max(until)));
    }

    /// Moves the cursor over everything that is answered without a hole.
    fn acknowledge(&mut self) {
        let mut reached = None;
        while let Some(entry) = self.open.first_entry() {
            let Some(end) = *entry.get() else { break };
            reached = Some(end);
            entry.remove();
        }
        let Some(position) = reached else { return };
        self.state.set_acknowledged(position.index);
        if let Err(error) = self.spool.store(&mut self.cursor, position)
            && self.spool.status().failing.is_none()
        {
            tracing::warn!(kind = "sink_cursor", "sink {}: cursor not kept: {error}", self.options.name);
        }
    }
}

fn prepare<T>(
    request: &mut Request<T>,
    within: Duration,
    authorization: Option<tonic::metadata::MetadataValue<tonic::metadata::Ascii>>,
) {
    request.set_timeout(within);
    if let Some(authorization) = authorization {
        request.metadata_mut().insert("authorization", authorization);
    }
}

/// The uid of an encoded finding.
fn uid(payload: &[u8]) -> Option<String> {
    crate::proto::v1::Finding::decode(payload).ok().map(|finding| finding.uid)
}

/// The message, and what it comes from: tonic's own errors say nothing without.
fn with_cause(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
