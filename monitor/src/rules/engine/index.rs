//! Many constants on one operand, looked up at once: which of the predicates that ask alike hold for a value.

use aho_corasick::{AhoCorasick, AhoCorasickBuilder, AhoCorasickKind, MatchKind, packed};
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

/// Constants, and the predicates that hold when one is found.
#[derive(Debug)]
pub(super) struct Index {
    finder: Finder,
    /// Predicates of each constant, in one vector: constant `n` has those from `starts[n]` to `starts[n + 1]`.
    starts: Vec<u32>,
    predicates: Vec<u32>,
}

#[derive(Debug)]
enum Finder {
    Equal(HashMap<Box<[u8]>, u32>),
    Prefix(Prefixes),
    Suffix(Prefixes),
    /// Most values contain nothing: a vectorized search for any constant tells that first, where there is one.
    Contains(Option<Box<packed::Searcher>>, Box<AhoCorasick>),
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
        if kind == Kind::Suffix {
            for (constant, _) in &mut constants {
                constant.reverse();
            }
        }
        constants.sort();
        let (mut starts, mut predicates) = (vec![0], Vec::new());
        for (_, named_by) in &constants {
            predicates.extend_from_slice(named_by);
            starts.push(u32::try_from(predicates.len()).ok()?);
        }
        let texts: Vec<Vec<u8>> = constants.into_iter().map(|(constant, _)| constant).collect();
        let finder = match kind {
            Kind::Equal => Finder::Equal(
                texts.into_iter().zip(0..).map(|(text, number)| (text.into_boxed_slice(), number)).collect(),
            ),
            Kind::Prefix => Finder::Prefix(Prefixes::new(texts)),
            Kind::Suffix => Finder::Suffix(Prefixes::new(texts)),
            Kind::Contains | Kind::ContainsIgnoringCase => {
                let bytes: usize = texts.iter().map(Vec::len).sum();
                let automaton = AhoCorasickBuilder::new()
                    .match_kind(MatchKind::Standard)
                    // Values are short: looking for a place to begin takes longer than to begin.
                    .prefilter(false)
                    .ascii_case_insensitive(kind == Kind::ContainsIgnoringCase)
                    // The fastest, where its memory is bounded: some hundred bytes for each byte of a constant.
                    .kind((bytes <= MAX_DFA_BYTES).then_some(AhoCorasickKind::DFA))
                    .build(&texts);
                let exact = kind == Kind::Contains && texts.len() <= MAX_PACKED;
                let packed = if exact { packed::Searcher::new(&texts).map(Box::new) } else { None };
                Finder::Contains(packed, Box::new(automaton.ok()?))
            }
        };
        Some(Self { finder, starts, predicates })
    }

    /// Calls `on_hit` for each predicate that holds for a value; for some more than once.
    pub(super) fn lookup(&self, bytes: &[u8], on_hit: &mut impl FnMut(u32)) {
        let mut hit = |constant: u32| {
            let at = |number: u32| self.starts.get(number as usize).map_or(0, |start| *start as usize);
            let predicates = self.predicates.get(at(constant)..at(constant + 1));
            predicates.unwrap_or_default().iter().for_each(|predicate| on_hit(*predicate));
        };
        match &self.finder {
            Finder::Equal(constants) => constants.get(bytes).copied().into_iter().for_each(hit),
            Finder::Prefix(prefixes) => prefixes.lookup(bytes, false, &mut hit),
            Finder::Suffix(prefixes) => prefixes.lookup(bytes, true, &mut hit),
            Finder::Contains(packed, automaton) => {
                if packed.as_ref().is_some_and(|packed| packed.find(bytes).is_none()) {
                    return;
                }
                for found in automaton.find_overlapping_iter(bytes) {
                    hit(found.pattern().as_u32());
                }
            }
        }
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
        Self { texts, heads, parents }
    }

    /// `reversed` if the texts were, so that the value is to be.
    fn lookup(&self, value: &[u8], reversed: bool, hit: &mut impl FnMut(u32)) {
        let head = head(value, reversed);
        let from = self.heads.partition_point(|other| *other < head);
        let alike = self.heads.get(from..).unwrap_or_default().partition_point(|other| *other == head);
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
            let shared = *shared.get_or_insert_with(|| shared_len(text, value, reversed));
            if text.len() <= shared {
                hit(number);
            }
            candidate = self.parents.get(at).copied().flatten();
        }
    }
}

/// The first eight bytes, or the last ones from the end, with zeros behind a shorter text.
fn head(text: &[u8], reversed: bool) -> u64 {
    let mut bytes = [0; 8];
    if reversed {
        bytes.iter_mut().zip(text.iter().rev()).for_each(|(to, from)| *to = *from);
    } else {
        bytes.iter_mut().zip(text).for_each(|(to, from)| *to = *from);
    }
    u64::from_be_bytes(bytes)
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
        Index::new(kind, named).unwrap().lookup(value, &mut |predicate| found.push(predicate));
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
