//! Looking into a spool from outside, also while an agent writes it: nothing is locked and nothing is changed.

use std::{io, path::Path};

use super::{
    cursor::{self, Cursor, Position},
    files::{self, Files},
    frame::{Frames, Kind},
    segment::Name,
};

/// The most that is read of one segment.
const MAX_SEGMENT_BYTES: u64 = 64 << 20;

/// What a spool holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Segments, oldest first.
    pub segments: Vec<SegmentReport>,
    /// Sinks and where they stand.
    pub cursors: Vec<(String, Option<Position>)>,
}

/// What a segment holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentReport {
    /// What its name tells.
    pub name: Name,
    /// Its length.
    pub bytes: u64,
    /// Findings in it.
    pub findings: u64,
    /// Loss reports in it.
    pub losses: u64,
    /// Index behind its last entry.
    pub end: u64,
    /// Whether its run ended in order.
    pub ended: bool,
    /// Entries that are missing between those that are there.
    pub missing: u64,
    /// Bytes that are no entry, in the middle.
    pub damaged_bytes: u64,
    /// Places where there are such.
    pub damaged_places: u64,
    /// Bytes at its end that are no whole entry.
    pub torn_bytes: u64,
}

impl Report {
    /// Whether anything in it is not as it was written. A torn end is not that: it is what a kill leaves.
    pub fn is_damaged(&self) -> bool {
        self.segments.iter().any(|segment| segment.damaged_places > 0)
    }

    /// All findings.
    pub fn findings(&self) -> u64 {
        self.segments.iter().map(|segment| segment.findings).sum()
    }
}

/// Reads all of a spool.
pub fn inspect(files: &dyn Files, directory: &Path) -> io::Result<Report> {
    let mut report = Report::default();
    let mut listed = files.list(directory)?;
    listed.sort();
    for (file, bytes) in listed {
        if let Some(name) = Name::parse(&file) {
            let opened = match files.open(&directory.join(&file), false) {
                // Given up in this moment.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                opened => opened?,
            };
            let mut content = vec![0; usize::try_from(bytes.min(MAX_SEGMENT_BYTES)).unwrap_or(0)];
            let read = files::read_full(&*opened, &mut content, 0)?;
            content.truncate(read);
            report.segments.push(segment(name, &content));
        } else if let Some(sink) = file.strip_suffix(cursor::SUFFIX) {
            let position = Cursor::load(files, directory, sink).position();
            report.cursors.push((sink.to_owned(), position));
        }
    }
    Ok(report)
}

fn segment(name: Name, content: &[u8]) -> SegmentReport {
    let mut report = SegmentReport {
        name,
        bytes: content.len() as u64,
        findings: 0,
        losses: 0,
        end: name.index,
        ended: false,
        missing: 0,
        damaged_bytes: 0,
        damaged_places: 0,
        torn_bytes: 0,
    };
    let mut frames = Frames::new(content);
    for (_, frame) in frames.by_ref() {
        report.findings += u64::from(frame.kind == Kind::FINDING);
        report.losses += u64::from(frame.kind == Kind::LOSS);
        report.ended = frame.kind == Kind::END;
        report.missing += frame.index.saturating_sub(report.end);
        report.end = frame.index.saturating_add(1);
    }
    report.torn_bytes = (content.len() - frames.good_bytes) as u64;
    report.damaged_bytes = frames.damaged_bytes as u64 - report.torn_bytes;
    report.damaged_places = frames.damaged_places - u64::from(report.torn_bytes > 0);
    report
}
