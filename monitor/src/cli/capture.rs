//! Captures of either kind, as commands take them: ours, and those of Falco and sysdig.

use std::{fs::File, ops::RangeInclusive, path::Path, time::Duration};

use crate::{
    capture::{Reader, Unpacked},
    decode::decode,
    event::Event,
    pipeline::Pipeline,
    proto::v1::Finding,
    scap,
    source::{Source as _, SourceError, Status},
};

/// Events that are passed on in one call.
const BATCH: usize = 4096;

/// A capture being replayed.
pub(super) enum Capture {
    /// Records of our sensor.
    Records(Reader),
    /// Events of Falco's table.
    Events(scap::Ahead),
}

/// Everything that happened.
pub(super) const ALWAYS: RangeInclusive<u64> = 0..=u64::MAX;

impl Capture {
    /// Opens a file, plain or gzip; its first bytes say which kind it is.
    pub(super) fn open(path: &Path) -> Result<Self, SourceError> {
        let input = Unpacked::new(File::open(path)?)?;
        Ok(if scap::is_section_header(input.head()) {
            Self::Events(scap::Ahead::new(scap::Reader::unpacked(input)?)?)
        } else {
            Self::Records(Reader::unpacked(input)?)
        })
    }

    /// Takes some of what there is through the flow. Rules look at what happened within `times`, nanoseconds since 1970.
    pub(super) fn feed(
        &mut self,
        pipeline: &mut Pipeline,
        times: &RangeInclusive<u64>,
        emit: &mut dyn FnMut(Finding),
    ) -> Result<Status, SourceError> {
        match self {
            Self::Records(reader) => {
                reader.drain(Duration::ZERO, &mut |bytes| pipeline.record_within(bytes, times, emit))
            }
            Self::Events(ahead) => {
                let mut feed = |event: &Event<'_>| {
                    let is_wanted = event.call().is_none_or(|call| times.contains(&call.ts_ns));
                    pipeline.event(event, is_wanted, emit);
                };
                take(ahead, &mut feed)
            }
        }
    }

    /// Gives some of the events that there are to `each`.
    pub(super) fn each(&mut self, each: &mut dyn FnMut(&Event<'_>)) -> Result<Status, SourceError> {
        match self {
            Self::Records(reader) => reader.drain(Duration::ZERO, &mut |bytes| {
                // What cannot be decoded is counted by a replay; here it tells of no call.
                if let Ok(event) = decode(bytes) {
                    each(&event);
                }
            }),
            Self::Events(ahead) => take(ahead, &mut |event| each(event)),
        }
    }

    /// Bytes of the file that were read.
    pub(super) fn file_bytes(&self) -> u64 {
        match self {
            Self::Records(reader) => reader.file_bytes(),
            Self::Events(ahead) => ahead.file_bytes(),
        }
    }
}

/// Some of what there is.
fn take(ahead: &mut scap::Ahead, each: &mut impl FnMut(&Event<'_>)) -> Result<Status, SourceError> {
    for _ in 0..BATCH {
        if !ahead.take(each)? {
            return Ok(Status::Ended);
        }
    }
    Ok(Status::Open)
}
