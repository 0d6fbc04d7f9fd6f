//! Events that nothing matched, so that the next one like them need not be asked again.
//!
//! What rules make of an event follows from the values that they ask for. A process that opens the same file again, a probe
//! that runs every ten seconds: the same values are asked for in the same way, and the answer is the same. So for an
//! event that no rule matched everything that was asked is kept, and one whose values are all equal to it matches nothing either.
//! Values are compared, not their hashes: a hash only says which entry to compare with.
//!
//! Memory is bounded, and where events seldom repeat themselves this stops trying for a while.

use std::hash::{BuildHasher as _, Hasher as _};

use hashbrown::DefaultHashBuilder;

use super::program::{Asking, Plan};
use crate::event::{field::Fields, value::Value};

/// Events that are kept; each by its hash in one of two places.
const ENTRIES: usize = 512;
/// Slots by whose values its place is found.
pub(super) const KEY_SLOTS: usize = 2;
/// Bytes of texts of an entry.
const MAX_BYTES: usize = 4096;
/// Events after which it is looked at how many were known.
const WINDOW: u32 = 1024;
/// One in so many must be.
const LEAST_KNOWN: u32 = 8;
/// Events for which nothing is tried where fewer are.
const PAUSE: u32 = 16 * WINDOW;

/// What is kept of events of one class.
#[derive(Debug)]
pub(super) struct Seen {
    /// Slots by whose values an event's place is found: those that differ most.
    key: Vec<u32>,
    hashes: DefaultHashBuilder,
    /// None until there is one.
    entries: Vec<Entry>,
    tried: u32,
    known: u32,
    paused: u32,
}

/// What an event was asked, and what it answered.
#[derive(Clone, Debug, Default)]
struct Entry {
    hash: u64,
    /// Nothing yet: an event must come twice to be kept.
    is_kept: bool,
    /// Values of the key.
    key: [Option<Value<'static>>; KEY_SLOTS],
    /// Other values, by slot.
    values: Vec<(u32, Option<Value<'static>>)>,
    /// By operand that has several.
    several: Vec<(u32, Vec<Value<'static>>)>,
    /// Predicates of numbers, and whether they held.
    measured: Vec<(u32, bool)>,
}

/// Whether an event is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// Nothing matches it.
    Yes,
    /// It is not, and need not be.
    No,
    /// It came before: if nothing matches it, it can be kept here.
    Keep(usize),
}

impl Seen {
    pub(super) fn new(key: Vec<u32>) -> Self {
        let hashes = DefaultHashBuilder::default();
        Self { key, hashes, entries: Vec::new(), tried: 0, known: 0, paused: 0 }
    }

    /// Events of this window that were known.
    #[cfg(test)]
    pub(super) const fn known(&self) -> u32 {
        self.known
    }

    /// Looks for an event.
    pub(super) fn look_up<F: Fields + ?Sized>(&mut self, plan: &Plan, event: &F) -> Known {
        if self.paused > 0 {
            self.paused -= 1;
            return Known::No;
        }
        self.tried += 1;
        if self.tried == WINDOW {
            if self.known * LEAST_KNOWN < WINDOW {
                self.paused = PAUSE;
            }
            (self.tried, self.known) = (0, 0);
        }
        let key = self.key_of(plan, event);
        let hash = self.hash(&key);
        let place = usize::try_from(hash % (ENTRIES as u64 / 2)).unwrap_or_default() * 2;
        if self.entries.is_empty() {
            self.entries.resize(ENTRIES, Entry::default());
        }
        let Some([first, second]) = self.entries.get_mut(place..place + 2) else { return Known::No };
        if first.hash != hash {
            // The younger of both comes first.
            std::mem::swap(first, second);
        }
        if first.hash != hash {
            *first = Entry { hash, ..Entry::default() };
            return Known::No;
        }
        if first.is_kept && first.is_of(&key, plan, event) {
            self.known += 1;
            return Known::Yes;
        }
        Known::Keep(place)
    }

    /// Keeps what an event was asked that nothing matched.
    pub(super) fn keep<F: Fields + ?Sized>(&mut self, place: usize, plan: &Plan, event: &F, asking: &Asking<'_>) {
        let key = self.key_of(plan, event);
        let Some(entry) = self.entries.get_mut(place) else { return };
        let mut bytes = 0;
        let mut own = |value: Value<'_>| {
            bytes += value.bytes();
            value.into_owned()
        };
        entry.key = key.map(|value| value.map(&mut own));
        let slots = asking.slots().filter(|slot| !self.key.contains(slot));
        entry.values = slots.map(|slot| (slot, plan.value(slot, event).map(&mut own))).collect();
        entry.several.clear();
        for number in asking.several() {
            let mut values = Vec::new();
            plan.values(number, event, &mut |value| values.push(own(value)));
            entry.several.push((number, values));
        }
        entry.measured = asking.measured().collect();
        entry.is_kept = bytes <= MAX_BYTES;
        if !entry.is_kept {
            *entry = Entry { hash: entry.hash, ..Entry::default() };
        }
    }

    /// The values of the key's slots.
    fn key_of<'e, F: Fields + ?Sized>(&self, plan: &'e Plan, event: &'e F) -> [Option<Value<'e>>; KEY_SLOTS] {
        std::array::from_fn(|at| plan.value(*self.key.get(at)?, event))
    }

    fn hash(&self, key: &[Option<Value<'_>>; KEY_SLOTS]) -> u64 {
        let mut hasher = self.hashes.build_hasher();
        for value in key {
            match value {
                Some(Value::Text(text)) => hasher.write(text),
                other => hasher.write_u8(u8::from(other.is_some())),
            }
        }
        hasher.finish()
    }
}

impl Entry {
    /// Whether an event answers alike.
    fn is_of<F: Fields + ?Sized>(&self, key: &[Option<Value<'_>>; KEY_SLOTS], plan: &Plan, event: &F) -> bool {
        let is_same = |(slot, kept): &(u32, Option<Value<'static>>)| plan.value(*slot, event) == *kept;
        let are_same = |(number, kept): &(u32, Vec<Value<'static>>)| {
            let mut rest = kept.iter();
            let mut same = true;
            plan.values(*number, event, &mut |value| same &= rest.next() == Some(&value));
            same && rest.next().is_none()
        };
        self.key == *key
            && self.values.iter().all(is_same)
            && self.measured.iter().all(|(predicate, held)| plan.measure(*predicate, event) == *held)
            && self.several.iter().all(are_same)
    }
}
