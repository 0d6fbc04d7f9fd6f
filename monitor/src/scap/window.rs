//! The part of a file that is in memory: it moves over the file, and blocks are read where they lie in it.

use std::io::{ErrorKind, Read as _};

use crate::{
    capture::unpacked::{Unpacked, broken},
    source::SourceError,
};

/// Bytes read at once, and kept as long as nothing is longer.
const WINDOW_BYTES: usize = 1 << 18;

pub(super) struct Window {
    input: Unpacked,
    buffer: Vec<u8>,
    /// Where in the buffer the next byte is.
    start: usize,
    /// Where in the buffer the bytes that were read end.
    end: usize,
    /// Where in the stream the buffer begins.
    base: u64,
}

impl Window {
    pub(super) fn new(input: Unpacked) -> Self {
        Self { input, buffer: vec![0; WINDOW_BYTES], start: 0, end: 0, base: 0 }
    }

    /// Where in the stream the next byte is.
    pub(super) const fn offset(&self) -> u64 {
        self.base + self.start as u64
    }

    /// Bytes of the file itself that were read.
    pub(super) fn file_bytes(&self) -> u64 {
        self.input.file_bytes()
    }

    /// What was read and not yet passed over.
    pub(super) fn bytes(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// Where in [`Self::buffer`] the next byte is; it stays there until [`Self::require`] is called.
    pub(super) const fn position(&self) -> usize {
        self.start
    }

    pub(super) fn buffer(&self) -> &[u8] {
        &self.buffer
    }

    /// Reads until there are `len` bytes; says whether there are. Only as much is allocated as the file really has.
    #[inline]
    pub(super) fn require(&mut self, len: usize) -> Result<bool, SourceError> {
        if self.end - self.start >= len { Ok(true) } else { self.read(len) }
    }

    #[cold]
    fn read(&mut self, len: usize) -> Result<bool, SourceError> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.base += self.start as u64;
        self.end -= self.start;
        self.start = 0;
        if len <= WINDOW_BYTES && self.end <= WINDOW_BYTES && self.buffer.len() > WINDOW_BYTES {
            self.buffer.truncate(WINDOW_BYTES);
            self.buffer.shrink_to_fit();
        }
        while self.end < len {
            if self.end == self.buffer.len() {
                self.buffer.resize(self.buffer.len().saturating_mul(2), 0);
            }
            let room = self.buffer.get_mut(self.end..).unwrap_or_default();
            match self.input.read(room) {
                Ok(0) => return Ok(false),
                Ok(got) => self.end += got,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(broken(self.base + self.end as u64, error)),
            }
        }
        Ok(true)
    }

    /// Passes over bytes that are there.
    pub(super) fn pass(&mut self, len: usize) {
        self.start = self.start.saturating_add(len).min(self.end);
    }

    /// Passes over bytes, however many; says whether the file has them.
    pub(super) fn skip(&mut self, mut len: u64) -> Result<bool, SourceError> {
        loop {
            let step = usize::try_from(len).unwrap_or(usize::MAX).min(WINDOW_BYTES);
            if !self.require(step)? {
                return Ok(false);
            }
            self.pass(step);
            len -= step as u64;
            if len == 0 {
                return Ok(true);
            }
        }
    }
}
