//! One entry of the spool as bytes: a mark, lengths, a checksum, and what it holds.
//!
//! ```text
//! mark u32 | payload_bytes u32 | crc32c u32 | kind u8, 0 0 0 | index u64 | sequence u64 | payload
//! ```
//!
//! Numbers are little-endian; the checksum is over everything behind it. The mark lets a reader find the next entry behind
//! bytes that were damaged: the index in it says how many are missing. Reading is total: any bytes are entries, damage, or
//! the beginning of an entry that is not there as a whole.

/// Bytes in front of the payload.
pub const HEADER_BYTES: usize = 32;
/// Longest payload; a finding that is larger is not stored.
pub const MAX_PAYLOAD_BYTES: usize = 4 << 20;

/// Unlikely in text, in protobuf and in itself shifted.
const MARK: [u8; 4] = [0xf5, b'm', 0xc7, 0x9a];
/// Where the checksum stands, and where what it covers begins.
const CRC_AT: usize = 8;
const COVERED_FROM: usize = 12;

/// What an entry holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind(pub u8);

impl Kind {
    /// An encoded `Finding`.
    pub const FINDING: Kind = Kind(1);
    /// An encoded `LossReport`.
    pub const LOSS: Kind = Kind(2);
    /// Nothing: the run ended in order.
    pub const END: Kind = Kind(3);
}

/// An entry, as it stands in a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it is.
    pub kind: Kind,
    /// Its place in the spool; rises by one from entry to entry.
    pub index: u64,
    /// Of a finding its own sequence, else that of the finding before.
    pub sequence: u64,
    /// The message.
    pub payload: &'a [u8],
}

impl Frame<'_> {
    /// How many bytes it takes.
    pub const fn encoded_bytes(&self) -> usize {
        HEADER_BYTES + self.payload.len()
    }

    /// Appends it to a buffer. The payload must not be longer than [`MAX_PAYLOAD_BYTES`].
    pub fn encode(&self, out: &mut Vec<u8>) {
        debug_assert!(self.payload.len() <= MAX_PAYLOAD_BYTES, "checked where it is taken in");
        let start = out.len();
        out.extend(MARK);
        out.extend(u32::try_from(self.payload.len()).unwrap_or(u32::MAX).to_le_bytes());
        out.extend([0; 4]);
        out.extend([self.kind.0, 0, 0, 0]);
        out.extend(self.index.to_le_bytes());
        out.extend(self.sequence.to_le_bytes());
        out.extend(self.payload);
        let crc = out.get(start + COVERED_FROM..).map_or(0, crc32c::crc32c);
        if let Some(place) = out.get_mut(start + CRC_AT..start + COVERED_FROM) {
            place.copy_from_slice(&crc.to_le_bytes());
        }
    }
}

/// What stands at the beginning of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// An entry, and how many bytes it takes.
    Frame(Frame<'a>, usize),
    /// No entry; the next one may begin after so many bytes.
    Damaged(usize),
    /// Too few bytes to tell.
    Incomplete,
}

/// Looks at the beginning of `bytes`.
pub fn parse(bytes: &[u8]) -> Parsed<'_> {
    let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else {
        let is_start = bytes.iter().zip(&MARK).all(|(byte, mark)| byte == mark);
        return if is_start { Parsed::Incomplete } else { Parsed::Damaged(next_mark(bytes)) };
    };
    let payload_bytes = usize::try_from(number(header, 4, 4)).unwrap_or(usize::MAX);
    if !header.starts_with(&MARK) || payload_bytes > MAX_PAYLOAD_BYTES {
        return Parsed::Damaged(next_mark(bytes));
    }
    let end = HEADER_BYTES + payload_bytes;
    let Some(covered) = bytes.get(COVERED_FROM..end) else { return Parsed::Incomplete };
    if u64::from(crc32c::crc32c(covered)) != number(header, CRC_AT, 4) {
        return Parsed::Damaged(next_mark(bytes));
    }
    let frame = Frame {
        kind: Kind(header.get(12).copied().unwrap_or(0)),
        index: number(header, 16, 8),
        sequence: number(header, 24, 8),
        payload: bytes.get(HEADER_BYTES..end).unwrap_or_default(),
    };
    Parsed::Frame(frame, end)
}

/// Where the next entry may begin; at least 1, at most the end.
pub(super) fn next_mark(bytes: &[u8]) -> usize {
    let rest = bytes.get(1..).unwrap_or_default();
    if let Some(at) = memchr::memmem::find(rest, &MARK) {
        return at + 1;
    }
    // A mark that is cut by the end of the bytes.
    let cut = (1..MARK.len()).rev().find(|len| MARK.get(..*len).is_some_and(|start| rest.ends_with(start)));
    bytes.len() - cut.unwrap_or(0)
}

fn number(header: &[u8; HEADER_BYTES], at: usize, bytes: usize) -> u64 {
    let mut number = [0; 8];
    for (to, from) in number.iter_mut().zip(header.iter().skip(at).take(bytes)) {
        *to = *from;
    }
    u64::from_le_bytes(number)
}

/// A pass over bytes that are all there is: entries, and how many bytes between them are none.
#[derive(Debug)]
pub struct Frames<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Bytes passed over that were no entry.
    pub damaged_bytes: usize,
    /// Places where that was so.
    pub damaged_places: u64,
    /// Where the last whole entry ended.
    pub good_bytes: usize,
    in_damage: bool,
}

impl<'a> Frames<'a> {
    /// From the beginning.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, damaged_bytes: 0, damaged_places: 0, good_bytes: 0, in_damage: false }
    }
}

impl<'a> Iterator for Frames<'a> {
    /// An entry and where it begins.
    type Item = (usize, Frame<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        while let Some(rest) = self.bytes.get(self.at..).filter(|rest| !rest.is_empty()) {
            match parse(rest) {
                Parsed::Frame(frame, bytes) => {
                    let at = self.at;
                    self.at += bytes;
                    self.good_bytes = self.at;
                    self.in_damage = false;
                    return Some((at, frame));
                }
                // Nothing follows that could complete it, but an entry may stand inside of what its damaged length covers.
                Parsed::Incomplete => self.skip(next_mark(rest)),
                Parsed::Damaged(bytes) => self.skip(bytes),
            }
        }
        None
    }
}

impl Frames<'_> {
    fn skip(&mut self, bytes: usize) {
        self.damaged_places += u64::from(!self.in_damage);
        self.in_damage = true;
        self.damaged_bytes += bytes.max(1);
        self.at += bytes.max(1);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(entries: &[(u64, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        for (index, payload) in entries {
            Frame { kind: Kind::FINDING, index: *index, sequence: index + 100, payload }.encode(&mut out);
        }
        out
    }

    #[test]
    fn entries_read_back_as_they_were_written() {
        let bytes = encoded(&[(1, b"a"), (2, b""), (3, &[0xf5; 300])]);
        let read: Vec<_> = Frames::new(&bytes).map(|(_, frame)| (frame.index, frame.sequence, frame.payload)).collect();
        assert_eq!(read, [(1, 101, &b"a"[..]), (2, 102, b""), (3, 103, &[0xf5; 300])]);
    }

    #[test]
    fn a_torn_tail_is_told_at_every_length() {
        let bytes = encoded(&[(1, b"first"), (2, b"second")]);
        let first = HEADER_BYTES + 5;
        for len in 0..bytes.len() {
            let mut frames = Frames::new(&bytes[..len]);
            let read = frames.by_ref().count();
            assert_eq!((read, frames.good_bytes), if len < first { (0, 0) } else { (1, first) }, "{len}");
        }
    }

    #[test]
    fn every_flipped_bit_costs_one_entry_and_no_other() {
        let bytes = encoded(&[(1, b"first"), (2, b"second"), (3, b"third")]);
        let (start, end) = (HEADER_BYTES + 5, 2 * HEADER_BYTES + 11);
        for bit in start * 8..end * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let mut frames = Frames::new(&bytes);
            let read: Vec<_> = frames.by_ref().map(|(_, frame)| frame.index).collect();
            assert_eq!(read, [1, 3], "bit {bit}");
            assert_eq!((frames.damaged_bytes, frames.damaged_places), (end - start, 1), "bit {bit}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_passed_over_as_a_whole(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let mut frames = Frames::new(&bytes);
            let good: usize = frames.by_ref().map(|(_, frame)| frame.encoded_bytes()).sum();
            prop_assert_eq!(good + frames.damaged_bytes, bytes.len());
        }
    }
}
