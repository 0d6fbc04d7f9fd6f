//! Where the records of a capture begin and end, for tests that cut or damage one.
//!
//! A capture is a header of 16 bytes and then records: length (u32, little endian), CRC-32 of the record's bytes (u32), the bytes.
use anyhow::{Context as _, Result, ensure};

/// Length of the header.
pub const HEADER_BYTES: usize = 16;

/// The offsets at which a record begins, and at last the end of the capture. The header is the first record's beginning.
pub fn boundaries(capture: &[u8]) -> Result<Vec<usize>> {
    ensure!(capture.len() >= HEADER_BYTES, "no header in {} bytes", capture.len());
    let mut boundaries = vec![HEADER_BYTES];
    let mut offset = HEADER_BYTES;
    while offset < capture.len() {
        let length = capture.get(offset..offset + 4).context("cut in a length")?;
        let length = u32::from_le_bytes(length.try_into()?);
        offset += 8 + usize::try_from(length)?;
        ensure!(offset <= capture.len(), "the record before offset {offset} is cut");
        boundaries.push(offset);
    }
    Ok(boundaries)
}

/// Numbers that look random and are the same in every run (xorshift64*).
#[derive(Clone, Debug)]
pub struct Numbers(u64);

impl Numbers {
    /// From a seed that is not 0.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// One below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(number).unwrap_or(0) % bound.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boundaries_are_where_records_meet() {
        let mut capture = vec![0; HEADER_BYTES];
        for record in [&b"abc"[..], b"", b"defgh"] {
            capture.extend_from_slice(&u32::try_from(record.len()).unwrap().to_le_bytes());
            capture.extend_from_slice(&[0; 4]);
            capture.extend_from_slice(record);
        }
        assert_eq!(boundaries(&capture).unwrap(), [16, 27, 35, 48]);
        assert!(boundaries(&capture[..47]).is_err());
        assert!(boundaries(&capture[..15]).is_err());
    }
}
