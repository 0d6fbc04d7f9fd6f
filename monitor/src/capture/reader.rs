//! Reading captures: streaming, bounded, and honest about damage.

use std::{
    fs::File,
    io::{BufReader, Read},
    path::Path,
    time::Duration,
};

use monitor_ebpf::record::{ABI_VERSION, Kind, MAX_RECORD_BYTES};

use super::{
    FRAME_BYTES, HEADER_BYTES, MAGIC,
    unpacked::{Unpacked, broken, read_full},
};
use crate::source::{Source, SourceError, Status};

/// Bytes of the unpacked stream that are read at once.
const BUFFER_BYTES: usize = 1 << 16;
/// Records passed on in one call.
const BATCH: usize = 1024;

/// A capture being read. Holds one record at a time.
pub struct Reader {
    input: BufReader<Unpacked>,
    /// Bytes of the (unpacked) stream consumed so far.
    offset: u64,
    buffer: Vec<u8>,
    ended: bool,
}

impl Reader {
    /// Opens a capture file, plain or gzip.
    pub fn open(path: &Path) -> Result<Self, SourceError> {
        Self::new(File::open(path)?)
    }

    /// Reads a capture, plain or gzip.
    pub fn new(input: impl Read + Send + 'static) -> Result<Self, SourceError> {
        Self::unpacked(Unpacked::new(input)?)
    }

    /// Reads a capture that was opened, and perhaps looked at, before.
    pub fn unpacked(input: Unpacked) -> Result<Self, SourceError> {
        let mut input = BufReader::with_capacity(BUFFER_BYTES, input);
        let mut header = [0; HEADER_BYTES];
        let got = read_full(&mut input, &mut header).map_err(|error| broken(0, error))?;
        let (magic, rest) = header.split_at(MAGIC.len());
        if !magic.starts_with(MAGIC.get(..got.min(MAGIC.len())).unwrap_or_default()) {
            let magic = str::from_utf8(MAGIC).unwrap_or_default();
            let what = format!("the file begins neither with {magic:?}, as ours do, nor as a .scap file does");
            return Err(SourceError::Format(what));
        }
        if got < HEADER_BYTES {
            return Err(SourceError::Damaged { offset: got as u64, reason: "the file ends inside its header".into() });
        }
        let version = u32_at(rest, 0);
        if version != ABI_VERSION {
            return Err(SourceError::Format(format!(
                "record layout version {version}; this monitor reads version {ABI_VERSION}: replay it with the monitor that wrote it"
            )));
        }
        Ok(Self { input, offset: HEADER_BYTES as u64, buffer: vec![0; MAX_RECORD_BYTES], ended: false })
    }

    /// Bytes of the file that were read.
    pub fn file_bytes(&self) -> u64 {
        self.input.get_ref().file_bytes()
    }

    /// Reads one record into the buffer; returns its length.
    fn next(&mut self) -> Result<usize, SourceError> {
        let damaged = |offset, reason: &str| SourceError::Damaged { offset, reason: reason.into() };
        let mut frame = [0; FRAME_BYTES];
        match self.fill_frame(&mut frame)? {
            0 => {
                return Err(damaged(
                    self.offset,
                    "the file ends without an end record: it was cut short, or its writer was killed",
                ));
            }
            FRAME_BYTES => {}
            _ => return Err(damaged(self.offset, "the file ends between two records")),
        }
        let (len, crc) = (u32_at(&frame, 0) as usize, u32_at(&frame, 4));
        let Some(record) = self.buffer.get_mut(..len) else {
            return Err(damaged(self.offset, "a record is longer than any record can be"));
        };
        let got = read_full(&mut self.input, record).map_err(|error| broken(self.offset, error))?;
        if got < len {
            return Err(damaged(self.offset, "the file ends inside a record"));
        }
        if crc32fast::hash(record) != crc {
            return Err(damaged(self.offset, "the checksum of a record does not match"));
        }
        self.offset += (FRAME_BYTES + len) as u64;
        Ok(len)
    }

    fn fill_frame(&mut self, frame: &mut [u8]) -> Result<usize, SourceError> {
        read_full(&mut self.input, frame).map_err(|error| broken(self.offset, error))
    }
}

impl Source for Reader {
    fn drain(&mut self, _patience: Duration, each: &mut dyn FnMut(&[u8])) -> Result<Status, SourceError> {
        for _ in 0..BATCH {
            if self.ended {
                return Ok(Status::Ended);
            }
            let len = self.next()?;
            let record = self.buffer.get(..len).unwrap_or_default();
            self.ended = record.starts_with(&Kind::END.0.to_le_bytes());
            each(record);
        }
        Ok(Status::Open)
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes)
}
