//! What a call is about, as a number on which both sides agree: by it the agent tells the programs of which files no rule
//! wants to hear.
//!
//! The programs make a [`Digest`] of the call, its flags, and every name on the way from the file up to the root. The
//! agent, which sees path and flags in full, finds out whether any rule could match whatever else is true, and if none could puts the
//! [`Subject`] into a table. From then on the programs drop such calls. So the kernel compares no texts, and rules may ask of a
//! path whatever they like.
//!
//! A digest is made under a key that is new with each start and never leaves the machine's memory, so that nobody can choose two files
//! with one digest.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Slots of the table. A subject has one slot; what was in it before has to be learned again.
pub const SLOTS: u32 = 1 << 16;

/// Bits of a digest that are kept.
const BITS: u32 = 48;

/// Key of the digests.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct Key {
    /// Where each digest begins.
    pub seed: u64,
    /// What each word is multiplied by; odd.
    pub factor: u64,
}

impl Key {
    /// No key: what the programs are compiled with.
    pub const NONE: Self = Self { seed: 0, factor: 1 };
}

/// A digest that is being made, word by word. Each step is a bijection, so that no difference is lost by later ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest(pub u64);

impl Digest {
    /// With one word more.
    #[inline]
    #[must_use]
    pub const fn with(self, factor: u64, word: u64) -> Self {
        let mixed = (self.0 ^ word).wrapping_mul(factor | 1);
        Self(mixed ^ mixed >> 32)
    }

    /// What is kept of it.
    #[inline]
    pub const fn subject(self) -> Subject {
        let bits = self.0 >> (u64::BITS - BITS);
        Subject(if bits == 0 { 1 } else { bits })
    }
}

/// Who opens something, and by which name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct By<'a> {
    /// The task's cgroup.
    pub cgroup_id: u64,
    /// The name, without NUL; `None` where the subject has it already.
    pub name: Option<&'a [u8]>,
}

impl By<'_> {
    /// Where such digests begin: not with the seed, as all others.
    pub const START: u64 = 0;

    /// The subject of an open by whoever this is.
    pub fn subject(&self, key: Key, of: Subject) -> Subject {
        let take = |digest: Digest, word| digest.with(key.factor, word);
        let digest = take(take(Digest(Self::START), of.0), self.cgroup_id);
        let Some(name) = self.name else { return digest.subject() };
        // The NUL counts, as in the record.
        let len = name.len() + 1;
        let words = name.chunks(8).chain(name.len().is_multiple_of(8).then_some(&[][..]));
        let digest = words.fold(digest, |digest, chunk| {
            let mut word = [0; 8];
            word.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
            take(digest, u64::from_le_bytes(word))
        });
        take(digest, len as u64).subject()
    }
}

/// What a call is about; zero where that is not to be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Subject(pub u64);

impl Subject {
    /// Not to be asked.
    pub const NONE: Self = Self(0);

    /// Its slot in the table.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "its lower bits are meant")]
    pub const fn slot(self) -> u32 {
        self.0 as u32 & (SLOTS - 1)
    }

    /// As a record has it.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "48 bits, in three words")]
    pub const fn to_words(self) -> [u16; 3] {
        [self.0 as u16, (self.0 >> 16) as u16, (self.0 >> 32) as u16]
    }

    /// From a record.
    pub const fn from_words([low, middle, high]: [u16; 3]) -> Self {
        Self(low as u64 | (middle as u64) << 16 | (high as u64) << 32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = Key { seed: 0x0123_4567_89ab_cdef, factor: 0x9e37_79b9_7f4a_7c15 };

    fn subject(words: &[u64]) -> Subject {
        words.iter().fold(Digest(KEY.seed), |digest, word| digest.with(KEY.factor, *word)).subject()
    }

    #[test]
    fn words_order_and_number_matter() {
        let all = [subject(&[1, 2]), subject(&[2, 1]), subject(&[1, 2, 0]), subject(&[1]), subject(&[])];
        for (at, one) in all.iter().enumerate() {
            assert!(!all.iter().skip(at + 1).any(|other| other == one), "{all:?}");
        }
    }

    #[test]
    fn a_record_has_all_of_it() {
        let subject = subject(&[7, 8, 9]);
        assert_eq!(Subject::from_words(subject.to_words()), subject);
        assert_eq!(Subject::from_words([0; 3]), Subject::NONE);
        assert_eq!(subject.0 >> BITS, 0);
    }

    #[test]
    fn neighbours_spread_over_the_slots() {
        // Addresses of one slab, which differ in a few bits.
        let slots: std::collections::HashSet<u32> =
            (0..1000_u64).map(|at| subject(&[0xffff_8881_0000_0000 + at * 192]).slot()).collect();
        assert!(slots.len() > 970, "{} of 1000", slots.len());
    }
}
