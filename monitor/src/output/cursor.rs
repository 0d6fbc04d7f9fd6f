//! Positions in the stream of findings, and the text that consumers keep of them.
//!
//! A cursor is `epoch:sequence:ring_full:unreadable:changes`: the last finding passed, and how much loss of records
//! and how many changes of the rules and profiles had been told by then, so that those in the time between two connections are told too.
//! Consumers must not look into it.

use std::fmt;

use crate::proto::v1::LossReport;

/// Longest cursor that is looked at.
const MAX_BYTES: usize = 256;

/// Why records did not become events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordLoss {
    /// The kernel made them faster than the agent took them.
    RingFull,
    /// The agent could not decode them.
    Unreadable,
}

impl RecordLoss {
    /// The word for it in a loss report.
    pub const fn cause(self) -> &'static str {
        match self {
            RecordLoss::RingFull => "ring_full",
            RecordLoss::Unreadable => "unreadable",
        }
    }
}

/// Records lost since the start of the agent, by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Losses {
    pub(super) ring_full: u64,
    pub(super) unreadable: u64,
}

impl Losses {
    pub(super) fn add(&mut self, cause: RecordLoss, records: u64) {
        let count = match cause {
            RecordLoss::RingFull => &mut self.ring_full,
            RecordLoss::Unreadable => &mut self.unreadable,
        };
        *count = count.saturating_add(records);
    }

    /// What a report from the spool tells of records, so that it is not told again.
    pub(super) fn count(&mut self, loss: &LossReport) {
        let causes = [RecordLoss::RingFull, RecordLoss::Unreadable];
        if let Some(cause) = causes.into_iter().find(|cause| cause.cause() == loss.cause) {
            self.add(cause, loss.records);
        }
    }

    /// What was lost after `earlier`, without the causes that lost nothing.
    pub(super) fn since(self, earlier: Losses) -> impl Iterator<Item = (RecordLoss, u64)> {
        [
            (RecordLoss::RingFull, self.ring_full.saturating_sub(earlier.ring_full)),
            (RecordLoss::Unreadable, self.unreadable.saturating_sub(earlier.unreadable)),
        ]
        .into_iter()
        .filter(|(_, records)| *records > 0)
    }
}

/// A position in the stream of one epoch: after the finding `sequence`, 0 before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) sequence: u64,
    pub(super) losses: Losses,
    /// Place of the last change of rules or profiles that was told.
    pub(super) changes: u64,
}

impl Position {
    /// The cursor of this position.
    pub(super) fn cursor(self, epoch: &str) -> String {
        let Losses { ring_full, unreadable } = self.losses;
        format!("{epoch}:{}:{ring_full}:{unreadable}:{}", self.sequence, self.changes)
    }
}

/// The same cursor at another finding of its run.
pub(super) fn moved(cursor: &str, sequence: u64) -> Option<String> {
    let (epoch, position) = parse(cursor).ok()?;
    Some(Position { sequence, ..position }.cursor(epoch))
}

/// The text is not a cursor that an agent ever gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a cursor of an agent")
    }
}

/// Reads a cursor: the epoch and the position in it. Only what [`Position::cursor`] writes is read.
pub(super) fn parse(cursor: &str) -> Result<(&str, Position), Malformed> {
    if cursor.len() > MAX_BYTES {
        return Err(Malformed);
    }
    let mut parts = cursor.rsplitn(5, ':');
    let mut number = || parts.next().and_then(digits).ok_or(Malformed);
    let (changes, unreadable, ring_full, sequence) = (number()?, number()?, number()?, number()?);
    let epoch = parts.next().filter(|epoch| !epoch.is_empty()).ok_or(Malformed)?;
    Ok((epoch, Position { sequence, losses: Losses { ring_full, unreadable }, changes }))
}

/// A decimal number, with neither sign nor padding.
fn digits(text: &str) -> Option<u64> {
    let canonical = text == "0" || (!text.starts_with(['0', '+']) && !text.is_empty());
    canonical.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_cursor_reads_back_as_its_position(
            epoch in "[ -~]{1,100}",
            sequence in any::<u64>(),
            ring_full in any::<u64>(),
            unreadable in any::<u64>(),
            changes in any::<u64>(),
        ) {
            let position = Position { sequence, losses: Losses { ring_full, unreadable }, changes };
            let cursor = position.cursor(&epoch);
            prop_assert_eq!(parse(&cursor), Ok((epoch.as_str(), position)));
        }

        #[test]
        fn any_text_is_read_or_refused_and_what_is_read_writes_back(text in "\\PC{0,40}|[a:0-9+]{0,20}") {
            if let Ok((epoch, position)) = parse(&text) {
                prop_assert_eq!(position.cursor(epoch), text);
            }
        }
    }

    #[test]
    fn text_that_no_agent_gave_is_refused() {
        for text in [
            "",
            ":",
            "a:1",
            "a:1:2:3",
            ":1:2:3:4",
            "a:-1:0:0:0",
            "a:+1:0:0:0",
            "a:01:0:0:0",
            "a:1:0:0:",
            "a:1:0:0:18446744073709551616",
        ] {
            assert_eq!(parse(text), Err(Malformed), "{text:?}");
        }
        assert_eq!(parse(&format!("{}:1:0:0:0", "e".repeat(300))), Err(Malformed));
    }
}
