//! What a consumer has of each run, and what it has not: duplicates, gaps, and gaps that a loss report explains.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::proto::v1::LossReport;

/// Most uids that are remembered.
const MAX_UIDS: usize = 2_000_000;

/// Sequences of one run.
#[derive(Clone, Debug, Default)]
pub struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    /// Adds `first..=last`.
    pub fn add(&mut self, mut first: u64, mut last: u64) {
        // Whatever touches it becomes one with it.
        while let Some((start, end)) =
            self.0.range(..=last.saturating_add(1)).next_back().map(|(start, end)| (*start, *end))
        {
            if end.saturating_add(1) < first {
                break;
            }
            self.0.remove(&start);
            (first, last) = (first.min(start), last.max(end));
        }
        self.0.insert(first, last);
    }

    /// What is not in it, from 1 up to its last.
    pub fn holes(&self) -> Vec<(u64, u64)> {
        let mut next = 1;
        let mut holes = Vec::new();
        for (first, last) in &self.0 {
            if *first > next {
                holes.push((next, first - 1));
            }
            next = last + 1;
        }
        holes
    }
}

/// What became of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It is new.
    New,
    /// It was there, with the same content.
    Again,
    /// Its uid was there with another content.
    Differs,
}

/// Everything that was received.
#[derive(Debug, Default)]
pub struct Ledger {
    uids: HashMap<String, u64>,
    order: VecDeque<String>,
    runs: BTreeMap<String, Run>,
    /// Counts.
    pub counts: Counts,
}

/// Counts of a ledger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Different findings.
    pub findings: u64,
    /// Findings that were there already.
    pub duplicates: u64,
    /// Uids that came with another content: never.
    pub conflicts: u64,
    /// Loss reports, each time they came.
    pub losses: u64,
}

#[derive(Debug, Default)]
struct Run {
    received: Ranges,
    explained: Ranges,
    /// There is a loss report whose place in the run is not known.
    vague: bool,
}

impl Ledger {
    /// Takes a finding in. `content` stands for all of it.
    pub fn finding(&mut self, epoch: &str, sequence: u64, uid: &str, content: u64) -> Seen {
        if let Some(before) = self.uids.get(uid) {
            self.counts.duplicates += 1;
            let same = *before == content;
            self.counts.conflicts += u64::from(!same);
            return if same { Seen::Again } else { Seen::Differs };
        }
        self.uids.insert(uid.to_owned(), content);
        self.order.push_back(uid.to_owned());
        if self.order.len() > MAX_UIDS
            && let Some(oldest) = self.order.pop_front()
        {
            self.uids.remove(&oldest);
        }
        self.counts.findings += 1;
        self.run(epoch).received.add(sequence, sequence);
        Seen::New
    }

    /// Takes a loss report in, that stands in front of `next` in the run `epoch`.
    pub fn loss(&mut self, epoch: &str, next: u64, loss: &LossReport) {
        self.counts.losses += 1;
        if loss.findings == 0 {
            return;
        }
        if loss.first_sequence > 0 && loss.epoch == epoch {
            self.run(epoch).explained.add(loss.first_sequence, loss.first_sequence + loss.findings - 1);
        } else {
            // Of an earlier run, and of this one up to its first finding.
            if next > 1 {
                self.run(epoch).explained.add(1, next - 1);
            }
            self.run(&loss.epoch).vague = true;
        }
    }

    fn run(&mut self, epoch: &str) -> &mut Run {
        self.runs.entry(epoch.to_owned()).or_default()
    }

    /// Sequences that neither came nor were reported lost, by run.
    pub fn gaps(&self) -> Vec<(&str, u64, u64)> {
        let unexplained = |(epoch, run): (&String, &Run)| {
            let mut all = run.received.clone();
            run.explained.0.iter().for_each(|(first, last)| all.add(*first, *last));
            all.holes().into_iter().map(|(first, last)| (epoch.clone(), first, last)).collect::<Vec<_>>()
        };
        let mut gaps = Vec::new();
        for (epoch, run) in &self.runs {
            gaps.extend(unexplained((epoch, run)).into_iter().map(|(_, first, last)| (epoch.as_str(), first, last)));
        }
        gaps
    }

    /// Runs that something was received of.
    pub fn runs(&self) -> usize {
        self.runs.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ranges_are_the_set_of_what_was_added(added in prop::collection::vec((1_u64..60, 0_u64..8), 0..20)) {
            let mut ranges = Ranges::default();
            let mut set = std::collections::BTreeSet::new();
            for (first, more) in added {
                ranges.add(first, first + more);
                set.extend(first..=first + more);
            }
            let holes: Vec<u64> = ranges.holes().into_iter().flat_map(|(first, last)| first..=last).collect();
            let expected: Vec<u64> = (1..=set.last().copied().unwrap_or(0)).filter(|n| !set.contains(n)).collect();
            prop_assert_eq!(holes, expected);
        }
    }

    #[test]
    fn gaps_are_what_nobody_explains() {
        let mut ledger = Ledger::default();
        for sequence in [1, 2, 5, 9] {
            assert_eq!(ledger.finding("e", sequence, &sequence.to_string(), 7), Seen::New);
        }
        assert_eq!(ledger.gaps(), [("e", 3, 4), ("e", 6, 8)]);
        let loss = LossReport { findings: 2, first_sequence: 3, epoch: "e".to_owned(), ..LossReport::default() };
        ledger.loss("e", 5, &loss);
        assert_eq!(ledger.gaps(), [("e", 6, 8)]);
        assert_eq!(ledger.finding("e", 1, "1", 7), Seen::Again);
        assert_eq!(ledger.finding("e", 1, "1", 8), Seen::Differs);
        assert_eq!(ledger.counts, Counts { findings: 4, duplicates: 2, conflicts: 1, losses: 1 });
        // A new run whose beginning is lost too.
        ledger.finding("f", 4, "f4", 7);
        ledger.loss("f", 4, &LossReport { findings: 9, ..LossReport::default() });
        assert_eq!(ledger.gaps(), [("e", 6, 8)]);
    }
}
