//! Captures: a stream of records in a file, exact enough that its replay gives what the live run gave.
//!
//! ```text
//! file   = header record*            the last record is an END record; a file without it was cut short
//! header = "MONITOR\0" abi:u32 0:u32
//! record = len:u32 crc32:u32 bytes[len]
//! ```
//! All numbers are little-endian. A gzip of that is read as well.

mod reader;
pub(crate) mod unpacked;
mod writer;

pub use reader::Reader;
pub use unpacked::Unpacked;
pub use writer::Writer;

/// First bytes of a capture.
pub const MAGIC: &[u8; 8] = b"MONITOR\0";
/// Bytes of the file header.
pub const HEADER_BYTES: usize = 16;
/// Bytes in front of each record.
pub const FRAME_BYTES: usize = 8;

#[cfg(test)]
mod tests {
    use std::{io::Write as _, time::Duration};

    use proptest::prelude::*;

    use super::*;
    use crate::{
        record::builder,
        source::{Source, SourceError, Status},
    };

    fn capture() -> Vec<u8> {
        let mut writer = Writer::new(Vec::new()).unwrap();
        for record in builder::one_of_each().iter().filter(|record| record[..2] != [2, 1]) {
            writer.record(record).unwrap();
        }
        writer.finish(99).unwrap()
    }

    fn read(bytes: &[u8]) -> (Vec<Vec<u8>>, Result<Status, SourceError>) {
        let mut records = Vec::new();
        let mut reader = match Reader::new(std::io::Cursor::new(bytes.to_vec())) {
            Ok(reader) => reader,
            Err(error) => return (records, Err(error)),
        };
        loop {
            match reader.drain(Duration::ZERO, &mut |record| records.push(record.to_vec())) {
                Ok(Status::Open) => {}
                end => return (records, end),
            }
        }
    }

    #[test]
    fn what_was_written_is_read() {
        let (records, end) = read(&capture());
        assert!(matches!(end, Ok(Status::Ended)));
        assert_eq!(records.len(), builder::one_of_each().len(), "all of them and the end record");
    }

    #[test]
    fn a_gzip_reads_the_same() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&capture()).unwrap();
        assert_eq!(read(&gzip.finish().unwrap()).0, read(&capture()).0);
    }

    #[test]
    fn a_cut_is_damage_at_every_length_and_what_came_before_is_read() {
        let whole = capture();
        let all = read(&whole).0;
        for len in 0..whole.len() {
            let (records, end) = read(&whole[..len]);
            assert!(end.is_err(), "cut at {len}");
            assert_eq!(records, all[..records.len()], "cut at {len}");
        }
    }

    #[test]
    fn a_capture_of_another_version_names_both() {
        let mut bytes = capture();
        bytes[8] = 9;
        let (_, end) = read(&bytes);
        let text = end.unwrap_err().to_string();
        assert!(
            text.contains("version 9") && text.contains(&format!("version {}", monitor_ebpf::record::ABI_VERSION)),
            "{text}"
        );
    }

    proptest! {
        #[test]
        fn a_flipped_byte_is_damage_or_harmless(at in 0_usize..2000, value in any::<u8>()) {
            let whole = capture();
            let mut bytes = whole.clone();
            let at = at % bytes.len();
            bytes[at] = value;
            let (records, end) = read(&bytes);
            prop_assert!(end.is_err() || bytes == whole || at < HEADER_BYTES);
            let all = read(&whole).0;
            prop_assert_eq!(&records[..], &all[..records.len()]);
        }
    }
}
