//! Seccomp violations: which calls a filter did not simply allow, and what it did to them.
//!
//! The kernel side sends the calls that may have been denied and the filters that judged them; here the filters are run
//! ([`classic`], [`filters`]) and their answer is checked against what the call returned ([`verdict`]). A call can reach the
//! ring before its filter, from another CPU: it is parked until the filter is there.

pub mod applied;
pub mod classic;
pub mod filters;
pub mod generate;
pub mod observe;
pub mod profile;
pub mod simulate;
pub mod verdict;
pub mod window;

use std::collections::VecDeque;

use monitor_ebpf::record::{ExitRecord, Header, SeccompCallRecord, SeccompFilterRecord, SigsysRecord, seccomp_flag};

pub use verdict::{Evidence, Verdict, Violation};

use filters::{Chain, FilterKey, Filters};

/// Calls that may wait for their filter.
const MAX_PARKED: usize = 1024;
/// Threads whose kill was reported and whose end has not come.
const MAX_KILLED: usize = 1024;
/// Threads that got SIGSYS and have not left the call.
const MAX_SIGNALLED: usize = 256;

/// What makes a thread one thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Thread {
    start_ns: u64,
    tgid: u32,
    tid: u32,
}

impl Thread {
    const fn of(header: &Header) -> Self {
        Self { start_ns: header.start_ns, tgid: header.tgid, tid: header.tid }
    }
}

/// A parked call that can be judged now, with what its owner left with it.
#[derive(Debug)]
pub struct Released<T> {
    /// The call.
    pub call: SeccompCallRecord,
    /// What became of it.
    pub verdict: Verdict,
    /// What the owner left.
    pub context: T,
}

/// The detection's memory. `T` is what the owner wants back with a call that had to wait.
#[derive(Debug)]
pub struct Detector<T> {
    filters: Filters,
    parked: VecDeque<(SeccompCallRecord, T)>,
    killed: VecDeque<Thread>,
    signalled: VecDeque<(Thread, i32)>,
    unjudged: u64,
    misfits: u64,
}

impl<T> Default for Detector<T> {
    fn default() -> Self {
        Self {
            filters: Filters::default(),
            parked: VecDeque::new(),
            killed: VecDeque::new(),
            signalled: VecDeque::new(),
            unjudged: 0,
            misfits: 0,
        }
    }
}

impl<T> Detector<T> {
    /// Takes in a chunk of a filter; returns the calls that waited for it.
    pub fn filter(&mut self, machine: u32, record: &SeccompFilterRecord, bytes: &[u8]) -> Vec<Released<T>> {
        if !self.filters.insert(record, bytes) || self.parked.is_empty() {
            return Vec::new();
        }
        let waiting = std::mem::take(&mut self.parked);
        let mut released = Vec::new();
        for (call, context) in waiting {
            match self.judge(machine, &call) {
                None => self.parked.push_back((call, context)),
                Some(verdict) => {
                    self.remember(&call, &verdict);
                    released.push(Released { call, verdict, context });
                }
            }
        }
        released
    }

    /// Judges a call; `None` if it has to wait, or if it never can be judged.
    pub fn call(&mut self, machine: u32, call: &SeccompCallRecord, context: T) -> Option<Verdict> {
        let verdict = if call.flags & seccomp_flag::DENIED_BY_PAIR == 0 {
            match self.judge(machine, call) {
                Some(verdict) => verdict,
                None => {
                    self.park(*call, context);
                    return None;
                }
            }
        } else {
            let sigsys = self.take_signal(call);
            verdict::by_pair(machine, call, sigsys)
        };
        self.remember(call, &verdict);
        Some(verdict)
    }

    /// Notes that a thread got SIGSYS from seccomp.
    pub fn signal(&mut self, record: &SigsysRecord) {
        push_bounded(&mut self.signalled, (Thread::of(&record.header), record.syscall), MAX_SIGNALLED);
    }

    /// A thread that seccomp killed, unless its call was reported already.
    pub fn exit(&mut self, machine: u32, record: &ExitRecord) -> Option<Verdict> {
        let violation = verdict::by_exit(machine, record)?;
        let thread = Thread::of(&record.header);
        if let Some(at) = self.killed.iter().position(|killed| *killed == thread) {
            self.killed.remove(at);
            return None;
        }
        // The call still waits for its filter: the end of the thread says enough.
        self.parked.retain(|(call, _)| Thread::of(&call.header) != thread);
        Some(Verdict::Violation(violation))
    }

    /// Ends the stream: what still waits is not judged any more.
    pub fn finish(&mut self) {
        self.unjudged += self.parked.len() as u64;
        self.parked.clear();
    }

    /// Calls that could not be judged: their filters never came, or the kernel does not keep them.
    pub const fn unjudged(&self) -> u64 {
        self.unjudged
    }

    /// Calls whose filters gave an answer that does not fit what was seen: not reported, because the filter came later than
    /// the call (`SECCOMP_FILTER_FLAG_TSYNC`), or another mechanism decided.
    pub const fn misfits(&self) -> u64 {
        self.misfits
    }

    /// `None` if the filters are not all there yet.
    fn judge(&mut self, machine: u32, call: &SeccompCallRecord) -> Option<Verdict> {
        let key = FilterKey { address: call.filter, generation: call.filter_generation };
        match self.filters.chain(key) {
            Chain::Complete(programs) => {
                let verdict = verdict::by_filters(machine, call, &programs);
                self.misfits += u64::from(verdict == Verdict::Mismatch);
                Some(verdict)
            }
            Chain::Waiting => None,
            Chain::Unavailable => {
                self.unjudged += 1;
                Some(Verdict::Mismatch)
            }
        }
    }

    fn park(&mut self, call: SeccompCallRecord, context: T) {
        if self.parked.len() == MAX_PARKED {
            self.parked.pop_front();
            self.unjudged += 1;
        }
        self.parked.push_back((call, context));
    }

    /// A kill is told by the call and again by the end of the thread: the second is left out.
    fn remember(&mut self, call: &SeccompCallRecord, verdict: &Verdict) {
        if verdict.violation().is_some_and(Violation::kills) {
            push_bounded(&mut self.killed, Thread::of(&call.header), MAX_KILLED);
        }
    }

    fn take_signal(&mut self, call: &SeccompCallRecord) -> bool {
        let signal = (Thread::of(&call.header), call.nr);
        let found = self.signalled.iter().position(|seen| *seen == signal);
        found.is_some_and(|at| self.signalled.remove(at).is_some())
    }
}

fn push_bounded<V>(queue: &mut VecDeque<V>, value: V, max: usize) {
    if queue.len() == max {
        queue.pop_front();
    }
    queue.push_back(value);
}

#[cfg(test)]
mod tests {
    use zerocopy::FromZeros as _;

    use super::*;
    use crate::seccomp::{
        classic::tests::{bytes, deny},
        filters::tests::record,
    };

    const X86_64: u32 = 62;

    fn call(tid: u32, ret: i64, mode: u32) -> SeccompCallRecord {
        let mut call = SeccompCallRecord {
            nr: 83,
            ret,
            mode,
            filter: 1,
            filter_generation: 10,
            ..SeccompCallRecord::new_zeroed()
        };
        (call.header.tgid, call.header.tid) = (tid, tid);
        call
    }

    fn exit(tid: u32) -> ExitRecord {
        let mut exit = ExitRecord { exit_code: 31, seccomp_mode: 3, syscall: 83, ..ExitRecord::new_zeroed() };
        (exit.header.tgid, exit.header.tid) = (tid, tid);
        exit
    }

    fn filter(detector: &mut Detector<u32>, answer: u32) -> Vec<Released<u32>> {
        detector.filter(X86_64, &record(1, 10, (0, 0), 4), &bytes(&deny(83, answer)))
    }

    #[test]
    fn a_call_that_comes_before_its_filter_waits_for_it() {
        let mut detector = Detector::default();
        assert_eq!(detector.call(X86_64, &call(5, -1, 2), 77), None);
        let released = filter(&mut detector, 0x5_0001);
        assert_eq!(released.len(), 1);
        assert_eq!(released[0].context, 77);
        assert!(released[0].verdict.violation().is_some());
        detector.finish();
        assert_eq!(detector.unjudged(), 0);
    }

    #[test]
    fn a_kill_is_told_once() {
        let mut detector = Detector::default();
        filter(&mut detector, 0x8000_0000);
        assert!(detector.call(X86_64, &call(5, 83, 3), 1).unwrap().violation().is_some());
        assert_eq!(detector.exit(X86_64, &exit(5)), None);
        assert!(detector.exit(X86_64, &exit(6)).is_some(), "another thread, whose call was never seen");
    }

    #[test]
    fn a_kill_whose_filter_never_came_is_told_by_the_end_alone() {
        let mut detector = Detector::default();
        assert_eq!(detector.call(X86_64, &call(5, 83, 3), 1), None);
        assert!(detector.exit(X86_64, &exit(5)).is_some());
        assert!(filter(&mut detector, 0x8000_0000).is_empty(), "told already");
    }

    #[test]
    fn an_answer_that_does_not_fit_is_counted_and_no_violation() {
        let mut detector = Detector::default();
        filter(&mut detector, 0x5_0001);
        assert_eq!(detector.call(X86_64, &call(5, 0, 2), 1), Some(Verdict::Mismatch), "denied, yet it succeeded");
        assert_eq!(detector.call(X86_64, &call(5, -1, 2), 1).map(|verdict| verdict.violation().is_some()), Some(true));
        assert_eq!((detector.misfits(), detector.unjudged()), (1, 0));
    }

    #[test]
    fn what_waits_is_bounded_and_counted() {
        let mut detector = Detector::default();
        for tid in 0..u32::try_from(MAX_PARKED).unwrap() + 3 {
            detector.call(X86_64, &call(tid, -1, 2), tid);
        }
        assert_eq!(detector.unjudged(), 3);
        detector.finish();
        assert_eq!(detector.unjudged(), MAX_PARKED as u64 + 3);
    }
}
