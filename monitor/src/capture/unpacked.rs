//! A file's bytes, whether it is packed with gzip or not.

use std::{
    io::{self, BufReader, Cursor, ErrorKind, Read},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use flate2::read::MultiGzDecoder;

use crate::source::SourceError;

/// First bytes of a gzip member.
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// How many bytes can be looked at before they are read.
const HEAD_BYTES: usize = 8;
/// Bytes of a packed file that are read at once.
const PACKED_BYTES: usize = 1 << 16;

/// The bytes of a file: as they are, or out of the gzip members that it consists of.
pub struct Unpacked {
    input: Box<dyn Read + Send>,
    head: Cursor<Vec<u8>>,
    file_bytes: Arc<AtomicU64>,
}

impl Unpacked {
    /// Looks at the first bytes, which say whether the rest is packed.
    pub fn new(input: impl Read + Send + 'static) -> Result<Self, SourceError> {
        let file_bytes = Arc::new(AtomicU64::new(0));
        let mut input = Counted { input, count: Arc::clone(&file_bytes) };
        let mut magic = [0; GZIP_MAGIC.len()];
        let got = read_full(&mut input, &mut magic)?;
        let input = Cursor::new(magic).take(got as u64).chain(input);
        let mut input: Box<dyn Read + Send> = if magic == GZIP_MAGIC {
            Box::new(MultiGzDecoder::new(BufReader::with_capacity(PACKED_BYTES, input)))
        } else {
            Box::new(input)
        };
        let mut head = vec![0; HEAD_BYTES];
        let got = read_full(&mut input, &mut head).map_err(|error| broken(0, error))?;
        head.truncate(got);
        Ok(Self { input, head: Cursor::new(head), file_bytes })
    }

    /// The first bytes, eight unless there are fewer, as long as nothing was read.
    pub fn head(&self) -> &[u8] {
        self.head.get_ref()
    }

    /// Bytes of the file itself that were read so far, of which some may not have been unpacked yet.
    pub fn file_bytes(&self) -> u64 {
        self.file_bytes.load(Ordering::Relaxed)
    }
}

impl Read for Unpacked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.head.read(buffer)? {
            0 => self.input.read(buffer),
            got => Ok(got),
        }
    }
}

struct Counted<R> {
    input: R,
    count: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.input.read(buffer)?;
        self.count.fetch_add(got as u64, Ordering::Relaxed);
        Ok(got)
    }
}

/// Reads until the buffer is full or the input ends.
pub(crate) fn read_full(input: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
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

/// A gzip that is cut or broken is damage, not a failing disk.
pub(crate) fn broken(offset: u64, error: io::Error) -> SourceError {
    match error.kind() {
        ErrorKind::UnexpectedEof | ErrorKind::InvalidData | ErrorKind::InvalidInput => {
            SourceError::Damaged { offset, reason: format!("the gzip stream is broken: {error}") }
        }
        _ => SourceError::Io(error),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    /// Gives one byte at a time, as a slow pipe does.
    struct Slow(Cursor<Vec<u8>>);

    impl Read for Slow {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.read(buffer.get_mut(..1).unwrap_or_default())
        }
    }

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn plain_and_packed_files_read_the_same() {
        for text in [&b"0123456789 and more"[..], b"short", b"1", b""] {
            let members = [packed(&text[..text.len() / 2]), packed(&text[text.len() / 2..])].concat();
            for file in [text.to_vec(), packed(text), members] {
                let len = file.len() as u64;
                let mut unpacked = Unpacked::new(Slow(Cursor::new(file))).unwrap();
                assert_eq!(unpacked.head(), &text[..text.len().min(8)]);
                let mut read = Vec::new();
                unpacked.read_to_end(&mut read).unwrap();
                assert_eq!((read.as_slice(), unpacked.file_bytes()), (text, len));
            }
        }
    }

    #[test]
    fn a_cut_gzip_is_damage() {
        let file = packed(b"0123456789");
        let opened = Unpacked::new(Cursor::new(file[..12].to_vec()));
        assert!(matches!(opened.err(), Some(SourceError::Damaged { offset: 0, .. })));
    }
}
