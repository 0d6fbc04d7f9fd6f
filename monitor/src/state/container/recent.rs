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

    pub(super) fn remove<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let (age, value) = self.entries.remove(key)?;
        self.by_age.remove(&age);
        Some(value)
    }

    /// Forgets of the older half what is not to be kept.
    pub(super) fn forget(&mut self, is_kept: impl Fn(&K) -> bool) {
        let older: Vec<_> =
            self.by_age.iter().take(self.by_age.len() / 2).map(|(age, key)| (*age, key.clone())).collect();
        for (age, key) in older.into_iter().filter(|(_, key)| !is_kept(key)) {
            self.by_age.remove(&age);
            self.entries.remove(&key);
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.entries.len() >= MOST
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.entries.values().map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_older_half_goes_what_is_not_kept() {
        let mut recent = Recent::<u32, u32, 6>::default();
        for key in 0..6 {
            recent.insert(key, key);
        }
        assert!(recent.is_full());
        recent.forget(|key| *key == 1);
        assert_eq!([0, 1, 2, 3, 4, 5].map(|key| recent.get(&key).is_some()), [false, true, false, true, true, true]);
        assert_eq!((recent.by_age.len(), recent.is_full()), (4, false));
    }

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
