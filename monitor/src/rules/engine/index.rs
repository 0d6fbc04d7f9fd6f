//! Many constants on one operand, looked up at once: which of the predicates that ask alike hold for a value.

use aho_corasick::{AhoCorasick, AhoCorasickBuilder, AhoCorasickKind, Input, MatchKind, packed};
use hashbrown::HashMap;

use crate::event::value::Value;

/// How constants are looked for in a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Kind {
    /// The value equals one.
    Equal,
    /// It begins with one.
    Prefix,
    /// It ends with one.
    Suffix,
    /// It contains one.
    Contains,
    /// It contains one, whatever the case of letters.
    ContainsIgnoringCase,
}

/// Constants by number, and the predicates that hold when one is found.
#[derive(Debug)]
pub(super) struct Index {
    finder: Finder,
    /// For each constant the predicates that name it, sorted.
    predicates: Lists,
}

#[derive(Debug)]
enum Finder {
    Equal(Texts),
    Prefix(Prefixes),
    Suffix(Prefixes),
    Contains(Search),
}

/// Finds all constants within a value. Most values contain none, and something quicker tells that first.
#[derive(Debug)]
struct Search {
    automaton: Box<AhoCorasick>,
    /// Tells it with vectors, where there is one and a value is long enough for it.
    packed: Option<Box<packed::Searcher>>,
    /// One byte of each constant, which is seldom in other texts: tells it of short values.
    rare: Bytes,
}

/// A set of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Bytes([u64; 4]);

impl Bytes {
    const ALL: Self = Self([u64::MAX; 4]);

    fn insert(&mut self, byte: u8) {
        self.0.get_mut(usize::from(byte >> 6)).into_iter().for_each(|word| *word |= 1 << (byte & 63));
    }

    fn has(&self, byte: u8) -> bool {
        self.0.get(usize::from(byte >> 6)).is_some_and(|word| word >> (byte & 63) & 1 != 0)
    }
}

/// Many short lists in one vector: list `n` goes from `starts[n]` to `starts[n + 1]`.
#[derive(Debug)]
pub(super) struct Lists {
    starts: Vec<u32>,
    items: Vec<u32>,
}

impl Lists {
    /// Of lists in order; `None` if they are too long.
    pub(super) fn new(lists: impl Iterator<Item = Vec<u32>>) -> Option<Self> {
        let (mut starts, mut items) = (vec![0], Vec::new());
        for list in lists {
            items.extend(list);
            starts.push(u32::try_from(items.len()).ok()?);
        }
        Some(Self { starts, items })
    }

    /// A list; empty if there is none of this number.
    pub(super) fn of(&self, number: u32) -> &[u32] {
        let at = |number: usize| self.starts.get(number).map(|start| *start as usize);
        let range = at(number as usize).zip(at((number as usize).saturating_add(1)));
        range.and_then(|(start, end)| self.items.get(start..end)).unwrap_or_default()
    }

    fn len(&self) -> usize {
        self.starts.len() - 1
    }
}

/// Calls `each` with the bytes by which a value is looked up: text as it is, numbers as 16 bytes.
pub(super) fn with_key(value: &Value<'_>, each: impl FnOnce(&[u8])) {
    match value {
        Value::Text(text) => each(text),
        other => {
            if let Some(number) = other.as_number() {
                number_key(number, each);
            }
        }
    }
}

/// The bytes by which a number is looked up.
pub(super) fn number_key<T>(number: i128, each: impl FnOnce(&[u8]) -> T) -> T {
    each(&number.to_le_bytes())
}

impl Index {
    /// Of constants and the predicates that name them; none is empty. `None` if there are too many to look for.
    pub(super) fn new(kind: Kind, constants: HashMap<Vec<u8>, Vec<u32>>) -> Option<Self> {
        let mut constants: Vec<_> = constants.into_iter().collect();
        for (constant, named_by) in &mut constants {
            named_by.sort_unstable();
            if kind == Kind::Suffix {
                constant.reverse();
            }
        }
        constants.sort();
        let (texts, named_by): (Vec<_>, Vec<_>) = constants.into_iter().unzip();
        let finder = match kind {
            Kind::Equal => Finder::Equal(Texts::new(texts)),
            Kind::Prefix => Finder::Prefix(Prefixes::new(texts)),
            Kind::Suffix => Finder::Suffix(Prefixes::new(texts)),
            Kind::Contains | Kind::ContainsIgnoringCase => Finder::Contains(Search::new(kind, &texts)?),
        };
        Some(Self { finder, predicates: Lists::new(named_by.into_iter())? })
    }

    /// How many constants there are.
    pub(super) fn len(&self) -> usize {
        self.predicates.len()
    }

    /// The predicates that name a constant.
    pub(super) fn named_by(&self, constant: u32) -> &[u32] {
        self.predicates.of(constant)
    }

    /// Whether a predicate names a constant.
    pub(super) fn is_named(&self, constant: u32, predicate: u32) -> bool {
        self.named_by(constant).binary_search(&predicate).is_ok()
    }

    /// Calls `on_hit` for each constant that is found in a value; for some more than once.
    pub(super) fn lookup(&self, bytes: &[u8], on_hit: &mut impl FnMut(u32)) {
        match &self.finder {
            Finder::Equal(texts) => texts.find(bytes).into_iter().for_each(on_hit),
            Finder::Prefix(prefixes) => prefixes.lookup(bytes, false, on_hit),
            Finder::Suffix(prefixes) => prefixes.lookup(bytes, true, on_hit),
            Finder::Contains(search) => search.lookup(bytes, on_hit),
        }
    }
}

impl Search {
    fn new(kind: Kind, texts: &[Vec<u8>]) -> Option<Self> {
        let bytes: usize = texts.iter().map(Vec::len).sum();
        let automaton = AhoCorasickBuilder::new()
            .match_kind(MatchKind::Standard)
            // Values are short: looking for a place to begin takes longer than to begin.
            .prefilter(false)
            .ascii_case_insensitive(kind == Kind::ContainsIgnoringCase)
            // The fastest, where its memory is bounded: some hundred bytes for each byte of a constant.
            .kind((bytes <= MAX_DFA_BYTES).then_some(AhoCorasickKind::DFA))
            .build(texts)
            .ok()?;
        let exact = kind == Kind::Contains && texts.len() <= MAX_PACKED;
        let packed = if exact { packed::Searcher::new(texts).map(Box::new) } else { None };
        let mut rare = Bytes::default();
        for byte in texts.iter().filter_map(|text| text.iter().copied().min_by_key(|byte| commonness(*byte))) {
            rare.insert(byte.to_ascii_lowercase());
            rare.insert(byte.to_ascii_uppercase());
        }
        Some(Self { automaton: Box::new(automaton), packed, rare })
    }

    fn lookup(&self, bytes: &[u8], on_hit: &mut impl FnMut(u32)) {
        let first = match self.packed.as_ref().filter(|packed| bytes.len() >= packed.minimum_len()) {
            Some(packed) => packed.find(bytes).map(|found| found.start()),
            None => bytes.iter().any(|byte| self.rare.has(*byte)).then_some(0),
        };
        if let Some(first) = first {
            for found in self.automaton.find_overlapping_iter(Input::new(bytes).range(first..)) {
                on_hit(found.pattern().as_u32());
            }
        }
    }
}

/// How common a byte is in paths and command lines, as an order.
const fn commonness(byte: u8) -> u8 {
    match byte {
        b'/' | b' ' => 3,
        b'a'..=b'z' => 2,
        b'0'..=b'9' | b'-' | b'.' => 1,
        _ => 0,
    }
}

/// Texts of which a value may equal one. Where they are few, length and ends of nearly any other value tell that it is none,
/// which spares the hash.
#[derive(Debug)]
struct Texts {
    numbers: HashMap<Box<[u8]>, u32>,
    /// A bit for each kind of length and ends that there is among them.
    shapes: [u64; Self::SHAPES / 64],
}

impl Texts {
    const SHAPES: usize = 512;

    fn new(texts: Vec<Vec<u8>>) -> Self {
        let mut shapes = [0; Self::SHAPES / 64];
        for text in &texts {
            let (word, bit) = Self::shape(text);
            shapes.get_mut(word).into_iter().for_each(|word| *word |= bit);
        }
        Self { numbers: texts.into_iter().map(Vec::into_boxed_slice).zip(0..).collect(), shapes }
    }

    /// The bit for a text: its word, and its place in there.
    fn shape(text: &[u8]) -> (usize, u64) {
        let end = |byte: Option<&u8>| byte.copied().map_or(0, usize::from);
        let number = text.len().wrapping_mul(31) ^ end(text.first()) << 1 ^ end(text.last()) << 3;
        (number % Self::SHAPES / 64, 1 << (number % 64))
    }

    fn find(&self, text: &[u8]) -> Option<u32> {
        let (word, bit) = Self::shape(text);
        let may_be = self.shapes.get(word).is_some_and(|shapes| shapes & bit != 0);
        if may_be { self.numbers.get(text).copied() } else { None }
    }
}

/// Constants up to which they are searched for with vector instructions first.
const MAX_PACKED: usize = 64;
/// Bytes of constants up to which a DFA looks for them.
const MAX_DFA_BYTES: usize = 1 << 17;

/// Sorted constants, of which those are found that a value begins with.
///
/// All that a value begins with are prefixes of the last constant that does not sort behind the value: whatever sorts
/// between a prefix and the value has that prefix, too. So one binary search and a walk up the chain of prefixes find them.
#[derive(Debug)]
struct Prefixes {
    texts: Vec<Vec<u8>>,
    /// The first bytes of each text, as a number that sorts alike.
    heads: Vec<u64>,
    /// For each text the longest other one that it begins with.
    parents: Vec<Option<u32>>,
    /// Their second bytes, which tell most paths apart; all if a text has none.
    seconds: Bytes,
}

impl Prefixes {
    fn new(texts: Vec<Vec<u8>>) -> Self {
        let mut parents: Vec<Option<u32>> = Vec::with_capacity(texts.len());
        let mut chain: Vec<u32> = Vec::new();
        for (text, number) in texts.iter().zip(0..) {
            let is_prefix = |of: &u32| texts.get(*of as usize).is_some_and(|other| text.starts_with(other));
            while chain.last().is_some_and(|last| !is_prefix(last)) {
                chain.pop();
            }
            parents.push(chain.last().copied());
            chain.push(number);
        }
        let heads = texts.iter().map(|text| head(text, false)).collect();
        let mut seconds = Bytes::default();
        for text in &texts {
            match text.get(1) {
                Some(byte) => seconds.insert(*byte),
                None => seconds = Bytes::ALL,
            }
        }
        Self { texts, heads, parents, seconds }
    }

    /// `reversed` if the texts were, so that the value is to be.
    fn lookup(&self, value: &[u8], reversed: bool, hit: &mut impl FnMut(u32)) {
        let second = if reversed { value.iter().nth_back(1) } else { value.get(1) };
        if !second.map_or(self.seconds == Bytes::ALL, |byte| self.seconds.has(*byte)) {
            return;
        }
        let head = head(value, reversed);
        let from = self.heads.partition_point(|other| *other < head);
        // Few begin alike with as many bytes.
        let alike = self.heads.get(from..).unwrap_or_default().iter().take_while(|other| **other == head).count();
        let alike = self.texts.get(from..from + alike).unwrap_or_default();
        let behind = from
            + alike.partition_point(|text| {
                let order = if reversed { text.iter().cmp(value.iter().rev()) } else { text.as_slice().cmp(value) };
                order.is_le()
            });
        let mut candidate = behind.checked_sub(1).and_then(|last| u32::try_from(last).ok());
        let mut shared = None;
        while let Some(number) = candidate {
            let at = number as usize;
            let Some(text) = self.texts.get(at) else { return };
            // How much of the first candidate the value shares tells it of all up the chain.
            let shared = *shared.get_or_insert_with(|| {
                let differing = self.heads.get(at).map_or(0, |other| other ^ head);
                let within_head = (differing.leading_zeros() / u8::BITS) as usize;
                if differing != 0 { within_head.min(value.len()) } else { shared_len(text, value, reversed) }
            });
            if text.len() <= shared {
                hit(number);
            }
            candidate = self.parents.get(at).copied().flatten();
        }
    }
}

/// The first eight bytes, or the last ones from the end, with zeros behind a shorter text.
fn head(text: &[u8], reversed: bool) -> u64 {
    let whole = if reversed {
        text.last_chunk().map(|bytes| u64::from_le_bytes(*bytes))
    } else {
        text.first_chunk().map(|bytes| u64::from_be_bytes(*bytes))
    };
    whole.unwrap_or_else(|| {
        let mut bytes = [0; 8];
        let copy = |(to, from): (&mut u8, &u8)| *to = *from;
        if reversed {
            bytes.iter_mut().zip(text.iter().rev()).for_each(copy);
        } else {
            bytes.iter_mut().zip(text).for_each(copy);
        }
        u64::from_be_bytes(bytes)
    })
}

fn shared_len(text: &[u8], value: &[u8], reversed: bool) -> usize {
    if reversed {
        text.iter().zip(value.iter().rev()).take_while(|(a, b)| a == b).count()
    } else {
        text.iter().zip(value).take_while(|(a, b)| a == b).count()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hits(kind: Kind, constants: &[String], value: &[u8]) -> Vec<u32> {
        let named = constants.iter().zip(0..).map(|(c, n)| (c.as_bytes().to_vec(), vec![n])).collect();
        let mut found = Vec::new();
        let index = Index::new(kind, named).unwrap();
        index.lookup(value, &mut |constant| found.extend_from_slice(index.named_by(constant)));
        found.sort_unstable();
        found.dedup();
        found
    }

    proptest! {
        #[test]
        fn an_index_finds_what_looking_one_by_one_finds(
            constants in proptest::collection::btree_set("[ab/]{1,4}", 1..20), value in "[ab/]{0,8}",
        ) {
            let constants: Vec<String> = constants.into_iter().collect();
            let expected = |holds: fn(&str, &str) -> bool| -> Vec<u32> {
                constants.iter().zip(0..).filter(|(c, _)| holds(&value, c)).map(|(_, n)| n).collect()
            };
            for (kind, holds) in [
                (Kind::Equal, (|v, c| v == c) as fn(&str, &str) -> bool),
                (Kind::Prefix, |v, c| v.starts_with(c)),
                (Kind::Suffix, |v, c| v.ends_with(c)),
                (Kind::Contains, |v, c| v.contains(c)),
                (Kind::ContainsIgnoringCase, |v, c| v.contains(c)),
            ] {
                prop_assert_eq!(hits(kind, &constants, value.as_bytes()), expected(holds), "{:?}", kind);
            }
        }
    }
}
