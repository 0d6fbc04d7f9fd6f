//! A map that forgets its oldest entries when it is full.

use std::{borrow::Borrow, collections::BTreeMap, hash::Hash};

use hashbrown::HashMap;

/// At most `MOST` entries. Those that were put in first go first.
#[derive(Debug)]
pub(super) struct Recent<K, V, const MOST: usize> {
    /// Values, and when they came.
    entries: HashMap<K, (u64, V)>,
    by_age: BTreeMap<u64, K>,
    next: u64,
}

impl<K, V, const MOST: usize> Default for Recent<K, V, MOST> {
    fn default() -> Self {
        Self { entries: HashMap::new(), by_age: BTreeMap::new(), next: 0 }
    }
}

impl<K: Clone + Eq + Hash, V, const MOST: usize> Recent<K, V, MOST> {
    pub(super) fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.entries.get(key).map(|(_, value)| value)
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        if let Some((age, _)) = self.entries.insert(key.clone(), (self.next, value)) {
            self.by_age.remove(&age);
        }
        self.by_age.insert(self.next, key);
        self.next += 1;
        if self.entries.len() > MOST
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.entries.remove(&oldest);
        }
    }

    pub(super) fn remove<Q: Eq + Hash + ?Sized>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
    {
        if let Some((age, _)) = self.entries.remove(key) {
            self.by_age.remove(&age);
        }
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.entries.values().map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_entries_make_room() {
        let mut recent = Recent::<u32, u32, 3>::default();
        for key in [1, 2, 3, 1, 4] {
            recent.insert(key, key * 10);
        }
        assert_eq!([1, 2, 3, 4].map(|key| recent.get(&key).copied()), [Some(10), None, Some(30), Some(40)]);
        recent.remove(&3);
        recent.insert(5, 50);
        let mut values: Vec<_> = recent.values().copied().collect();
        values.sort_unstable();
        assert_eq!((values, recent.by_age.len()), (vec![10, 40, 50], 3));
    }
}
