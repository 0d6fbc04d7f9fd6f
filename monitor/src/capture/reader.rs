//! Reading captures: streaming, bounded, and honest about damage.

use std::{
    fs::File,
    io::{BufRead, BufReader, ErrorKind, Read, Seek},
    path::Path,
    time::Duration,
};

use flate2::read::MultiGzDecoder;
use monitor_ebpf::record::{ABI_VERSION, Kind, MAX_RECORD_BYTES};

use super::{FRAME_BYTES, HEADER_BYTES, MAGIC};
use crate::source::{Source, SourceError, Status};

/// First bytes of a gzip member.
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// Records passed on in one call.
const BATCH: usize = 1024;

/// A capture being read. Holds one record at a time.
pub struct Reader {
    input: Box<dyn Read + Send>,
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
    pub fn new(input: impl Read + Seek + Send + 'static) -> Result<Self, SourceError> {
        let mut input = BufReader::with_capacity(1 << 16, input);
        let gzip = input.fill_buf()?.starts_with(&GZIP_MAGIC);
        let mut input: Box<dyn Read + Send> =
            if gzip { Box::new(BufReader::new(MultiGzDecoder::new(input))) } else { Box::new(input) };
        let mut header = [0; HEADER_BYTES];
        let got = fill(&mut input, &mut header)?;
        let (magic, rest) = header.split_at(MAGIC.len());
        if !magic.starts_with(MAGIC.get(..got.min(MAGIC.len())).unwrap_or_default()) {
            return Err(SourceError::Format(describe(&header)));
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
        let got = read_full(&mut self.input, record).map_err(|error| io(self.offset, error))?;
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
        read_full(&mut self.input, frame).map_err(|error| io(self.offset, error))
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

/// What a file is that is not a capture.
fn describe(header: &[u8]) -> String {
    /// Section header block of pcapng, which `.scap` files are framed in.
    const SECTION_HEADER: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];
    if header.starts_with(&SECTION_HEADER) {
        return "this is a .scap file, and this version replays only captures of `monitor record`".into();
    }
    format!("the file does not begin with {:?}", str::from_utf8(MAGIC).unwrap_or_default())
}

/// Reads until the buffer is full or the input ends.
fn read_full(input: &mut dyn Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut got = 0;
    while let Some(rest) = buffer.get_mut(got..).filter(|rest| !rest.is_empty()) {
        match input.read(rest) {
            Ok(0) => break,
            Ok(more) => got += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(got)
}

fn fill(input: &mut dyn Read, buffer: &mut [u8]) -> Result<usize, SourceError> {
    read_full(input, buffer).map_err(|error| io(0, error))
}

/// A gzip that is cut or broken is damage, not a failing disk.
fn io(offset: u64, error: std::io::Error) -> SourceError {
    match error.kind() {
        ErrorKind::UnexpectedEof | ErrorKind::InvalidData | ErrorKind::InvalidInput => {
            SourceError::Damaged { offset, reason: format!("the gzip stream is broken: {error}") }
        }
        _ => SourceError::Io(error),
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes)
}
