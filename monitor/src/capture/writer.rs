//! Writing captures.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufWriter, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use monitor_ebpf::record::ABI_VERSION;

use super::{FRAME_BYTES, HEADER_BYTES, MAGIC};
use crate::record;

/// A capture being written.
pub struct Writer<W: Write> {
    output: W,
    records: u64,
}

impl Writer<BufWriter<File>> {
    /// Creates a capture file that only its owner may read: arguments of programs hold secrets.
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        Self::new(BufWriter::with_capacity(1 << 18, file))
    }
}

impl<W: Write> Writer<W> {
    /// Begins a capture.
    pub fn new(mut output: W) -> io::Result<Self> {
        let mut header = Vec::with_capacity(HEADER_BYTES);
        header.extend_from_slice(MAGIC);
        header.extend_from_slice(&ABI_VERSION.to_le_bytes());
        header.extend_from_slice(&[0; 4]);
        output.write_all(&header)?;
        Ok(Self { output, records: 0 })
    }

    /// Adds a record.
    pub fn record(&mut self, bytes: &[u8]) -> io::Result<()> {
        let len = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        let mut frame = [0; FRAME_BYTES];
        let (len_field, crc_field) = frame.split_at_mut(FRAME_BYTES / 2);
        len_field.copy_from_slice(&len.to_le_bytes());
        crc_field.copy_from_slice(&crc32fast::hash(bytes).to_le_bytes());
        self.output.write_all(&frame)?;
        self.output.write_all(bytes)?;
        self.records += 1;
        Ok(())
    }

    /// Writes the end record; returns what was written to.
    pub fn finish(mut self, ktime_ns: u64) -> io::Result<W> {
        let end = record::end(ktime_ns, self.records);
        self.record(&end)?;
        self.output.flush()?;
        Ok(self.output)
    }
}
