//! An event in the layout of Falco's event table: system calls, and the tracepoints and notices that the table has besides.
//!
//! Parameters stay where they were read and are found when they are asked for. Whatever bytes a capture holds, a reader
//! here gives a value or nothing.

use super::{schema::EventInfo, syscall::Syscall};

/// An event of the table.
#[derive(Clone, Debug, PartialEq)]
pub struct Call<'a> {
    /// Which event.
    pub info: &'static EventInfo,
    /// Its number in the stream, from 1.
    pub number: u64,
    /// When, in nanoseconds since 1970.
    pub ts_ns: u64,
    /// The thread, in the initial pid namespace.
    pub tid: i64,
    /// The processor.
    pub cpu: u16,
    /// It is there for what is known of the machine alone: no rule looks at it.
    pub state_only: bool,
    /// What it carries, in order of [`EventInfo::params`]; old captures may have fewer.
    pub params: Params<'a>,
    /// What the sensor told beside that, if it was the sensor.
    pub told: Option<Told<'a>>,
}

/// A call as the sensor told it: with what a capture's reader has to know from earlier events.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Told<'a> {
    /// The call itself.
    pub syscall: &'a Syscall<'a>,
    /// Descriptors of the directories that its first two texts are relative to; `AT_FDCWD` for the working directory.
    pub directories: [i64; 2],
    /// Whether it made the descriptor that it is about.
    pub makes_descriptor: bool,
}

/// What an event carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Params<'a> {
    /// The lengths of the values, little endian.
    lengths: &'a [u8],
    /// The values, one behind the other.
    values: &'a [u8],
    /// Whether a length has four bytes, not two.
    wide: bool,
}

impl<'a> Params<'a> {
    /// `lengths` has two bytes for each parameter, or four if `wide`. Values that lengths lead beyond are absent.
    pub const fn new(lengths: &'a [u8], values: &'a [u8], wide: bool) -> Self {
        Self { lengths, values, wide }
    }

    /// How many there are.
    pub const fn len(&self) -> usize {
        self.lengths.len() / if self.wide { 4 } else { 2 }
    }

    /// Their lengths, as they were given.
    pub(crate) const fn lengths(&self) -> &'a [u8] {
        self.lengths
    }

    /// Their values, as they were given.
    pub(crate) const fn values(&self) -> &'a [u8] {
        self.values
    }

    /// Whether lengths have four bytes.
    pub(crate) const fn is_wide(&self) -> bool {
        self.wide
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of one.
    pub fn get(&self, index: usize) -> Option<&'a [u8]> {
        let (start, len) = if self.wide {
            let lengths = self.lengths.as_chunks().0;
            let sum = lengths.get(..index)?.iter().map(|len| u64::from(u32::from_le_bytes(*len))).sum::<u64>();
            (usize::try_from(sum).ok()?, usize::try_from(u32::from_le_bytes(*lengths.get(index)?)).ok()?)
        } else {
            let lengths = self.lengths.as_chunks().0;
            let sum = lengths.get(..index)?.iter().map(|len| usize::from(u16::from_le_bytes(*len))).sum();
            (sum, usize::from(u16::from_le_bytes(*lengths.get(index)?)))
        };
        self.values.get(start..)?.get(..len)
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let width = if self.wide { 4 } else { 2 };
        let mut rest = self.values;
        self.lengths.chunks_exact(width).map_while(move |len| {
            let len = len.iter().rev().fold(0, |len, byte| len << 8 | usize::from(*byte));
            let (value, behind) = rest.split_at_checked(len)?;
            rest = behind;
            Some(value)
        })
    }

    /// The bytes of one, unless it is empty.
    pub fn bytes(&self, index: usize) -> Option<&'a [u8]> {
        self.get(index).filter(|bytes| !bytes.is_empty())
    }

    /// A text up to its NUL. What the kernel had no address of is none: `(NULL)`, or empty.
    pub fn text(&self, index: usize) -> Option<&'a [u8]> {
        let bytes = self.bytes(index)?;
        let text = memchr::memchr(0, bytes).and_then(|end| bytes.get(..end)).unwrap_or(bytes);
        (text != b"(NULL)").then_some(text)
    }

    /// A number of one byte.
    pub fn u8(&self, index: usize) -> Option<u8> {
        self.get(index)?.first().copied()
    }

    /// A number of two bytes.
    pub fn u16(&self, index: usize) -> Option<u16> {
        self.number(index).map(u16::from_le_bytes)
    }

    /// A number of four bytes.
    pub fn u32(&self, index: usize) -> Option<u32> {
        self.number(index).map(u32::from_le_bytes)
    }

    /// A number of four bytes.
    pub fn i32(&self, index: usize) -> Option<i32> {
        self.number(index).map(i32::from_le_bytes)
    }

    /// A number of eight bytes.
    pub fn u64(&self, index: usize) -> Option<u64> {
        self.number(index).map(u64::from_le_bytes)
    }

    /// A number of eight bytes.
    pub fn i64(&self, index: usize) -> Option<i64> {
        self.number(index).map(i64::from_le_bytes)
    }

    fn number<const BYTES: usize>(&self, index: usize) -> Option<[u8; BYTES]> {
        self.get(index)?.first_chunk().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lengths and values of some parameters.
    fn parts(values: &[&[u8]], wide: bool) -> (Vec<u8>, Vec<u8>) {
        let width = if wide { 4 } else { 2 };
        let lengths =
            values.iter().flat_map(|value| u32::try_from(value.len()).unwrap().to_le_bytes()[..width].to_vec());
        (lengths.collect(), values.concat())
    }

    #[test]
    fn parameters_are_found_at_their_places() {
        let expected: [&[u8]; 6] =
            [&7_u64.to_le_bytes(), b"", b"name\0rest\0", &(-2_i32).to_le_bytes(), b"(NULL)\0", &[5]];
        for wide in [false, true] {
            let (lengths, values) = parts(&expected, wide);
            let params = Params::new(&lengths, &values, wide);
            assert_eq!((params.len(), params.iter().collect::<Vec<_>>()), (6, expected.to_vec()));
            assert!(expected.iter().enumerate().all(|(index, value)| params.get(index) == Some(value)));
            assert_eq!(
                (params.u64(0), params.i64(0), params.u32(0), params.u16(0)),
                (Some(7), Some(7), Some(7), Some(7))
            );
            assert_eq!(
                (params.get(1), params.bytes(1), params.text(1), params.u8(1)),
                (Some(&b""[..]), None, None, None)
            );
            assert_eq!(params.text(2), Some(&b"name"[..]));
            assert_eq!((params.i32(3), params.u64(3)), (Some(-2), None), "four bytes are no eight");
            assert_eq!((params.text(4), params.u8(5), params.get(6)), (None, Some(5), None));
        }
    }

    #[test]
    fn lengths_that_lead_beyond_the_values_give_nothing() {
        for wide in [false, true] {
            let params = Params::new(&[0xff; 12], b"abc", wide);
            assert!((0..8).all(|index| params.get(index).is_none() && params.text(index).is_none()));
            assert_eq!(params.iter().count(), 0);
        }
    }
}
