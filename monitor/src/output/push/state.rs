//! How a sink is doing, for metrics, health and `GetStatus`.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::SinkOptions;
use crate::{finding::is_unprintable, proto::v1::SinkStatus};

/// Longest text of a failure that is kept.
const MAX_FAILURE_BYTES: usize = 300;

/// Counts of one sink, written by its thread.
#[derive(Debug)]
pub struct SinkState {
    name: String,
    target: String,
    acknowledged: AtomicU64,
    delivered: AtomicU64,
    rejected: AtomicU64,
    retries: AtomicU64,
    requests: AtomicU64,
    bytes: AtomicU64,
    in_flight: AtomicU64,
    trouble: Mutex<Trouble>,
}

#[derive(Debug, Default)]
struct Trouble {
    failing: Option<String>,
    since: Option<Instant>,
    answered: Option<Instant>,
}

/// What can be counted up.
#[derive(Clone, Copy, Debug)]
pub(super) enum Count {
    Delivered,
    Rejected,
    Retries,
    Requests,
    Bytes,
}

impl SinkState {
    pub(super) fn new(options: &SinkOptions) -> Self {
        Self {
            name: options.name.clone(),
            target: options.dialer.target().to_string(),
            acknowledged: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            trouble: Mutex::default(),
        }
    }

    fn counter(&self, count: Count) -> &AtomicU64 {
        match count {
            Count::Delivered => &self.delivered,
            Count::Rejected => &self.rejected,
            Count::Retries => &self.retries,
            Count::Requests => &self.requests,
            Count::Bytes => &self.bytes,
        }
    }

    pub(super) fn add(&self, count: Count, by: usize) {
        self.counter(count).fetch_add(by as u64, Ordering::Relaxed);
    }

    pub(super) fn set_acknowledged(&self, index: u64) {
        self.acknowledged.store(index, Ordering::Relaxed);
    }

    pub(super) fn set_in_flight(&self, requests: usize) {
        self.in_flight.store(requests as u64, Ordering::Relaxed);
    }

    /// It does not take what it is sent. Whether that is news.
    pub(super) fn fail(&self, why: &str) -> bool {
        let mut trouble = self.trouble();
        let news = trouble.failing.is_none();
        trouble.since.get_or_insert_with(Instant::now);
        trouble.failing = Some(short(why));
        news
    }

    /// It took something. For how long it did not, if it did not.
    pub(super) fn recover(&self) -> Option<Duration> {
        let mut trouble = self.trouble();
        trouble.failing = None;
        trouble.answered = Some(Instant::now());
        trouble.since.take().map(|since| since.elapsed())
    }

    fn trouble(&self) -> std::sync::MutexGuard<'_, Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its name in the configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it is.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// Requests sent, in this run.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Bytes of requests sent, before compression, in this run.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Requests without an answer now.
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// For how long it has not taken anything although there was something to take.
    pub fn failing_for(&self) -> Option<Duration> {
        self.trouble().since.map(|since| since.elapsed())
    }

    /// All of it. `newest` is the spool's next index.
    pub fn status(&self, newest: u64) -> SinkStatus {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        SinkStatus {
            name: self.name.clone(),
            lag: newest.saturating_sub(count(&self.acknowledged)),
            delivered: count(&self.delivered),
            rejected: count(&self.rejected),
            retries: count(&self.retries),
            failing: self.trouble().failing.clone().unwrap_or_default(),
        }
    }
}

/// Text of another machine, for a log: bounded, on one line, and nothing that a terminal obeys.
pub(in crate::output) fn short(text: &str) -> String {
    let mut end = text.len().min(MAX_FAILURE_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let kept = text.get(..end).unwrap_or_default();
    kept.chars().map(|c| if is_unprintable(c) { ' ' } else { c }).collect()
}
