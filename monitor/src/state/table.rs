//! Threads by key. Those that were asked for lately are found without a hash: one event asks for its thread, its leader and its
//! parent many times over.

use std::cell::Cell;

use hashbrown::HashMap;

use super::thread::{Thread, ThreadKey};

/// Threads whose places are remembered, by the low bits of their ids.
const RECENT: usize = 64;

/// Where a thread is.
type Place = Option<(ThreadKey, usize)>;

#[derive(Debug)]
pub(super) struct Table {
    // Thread ids are sparse, and a process that ended may share its id with the next: no array has them by id.
    places: HashMap<ThreadKey, usize>,
    threads: Vec<Option<Box<Thread>>>,
    /// Places that are free.
    free: Vec<usize>,
    recent: [Cell<Place>; RECENT],
}

impl Default for Table {
    fn default() -> Self {
        Self {
            places: HashMap::new(),
            threads: Vec::new(),
            free: Vec::new(),
            recent: [const { Cell::new(None) }; RECENT],
        }
    }
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    #[inline]
    pub(super) fn get(&self, key: ThreadKey) -> Option<&Thread> {
        self.threads.get(self.place(key)?)?.as_deref()
    }

    #[inline]
    pub(super) fn get_mut(&mut self, key: ThreadKey) -> Option<&mut Thread> {
        let place = self.place(key)?;
        self.threads.get_mut(place)?.as_deref_mut()
    }

    /// Puts a thread in, in place of the one with its key.
    pub(super) fn insert(&mut self, thread: Box<Thread>) {
        let key = thread.key;
        if let Some(known) = self.place(key).and_then(|place| self.threads.get_mut(place)) {
            *known = Some(thread);
            return;
        }
        let place = self.free.pop().unwrap_or(self.threads.len());
        match self.threads.get_mut(place) {
            Some(free) => *free = Some(thread),
            None => self.threads.push(Some(thread)),
        }
        self.places.insert(key, place);
    }

    pub(super) fn remove(&mut self, key: ThreadKey) -> Option<Box<Thread>> {
        let place = self.places.remove(&key)?;
        if let Some(recent) = self.recent(key).filter(|recent| recent.get().is_some_and(|(known, _)| known == key)) {
            recent.set(None);
        }
        self.free.push(place);
        self.threads.get_mut(place)?.take()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = ThreadKey> {
        self.places.keys().copied()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Thread> {
        self.threads.iter().flatten().map(|thread| &**thread)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Thread> {
        self.threads.iter_mut().flatten().map(|thread| &mut **thread)
    }

    /// Where the place of a thread would be remembered.
    #[inline]
    fn recent(&self, key: ThreadKey) -> Option<&Cell<Place>> {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the low bits are meant")]
        self.recent.get(key.tid as usize % RECENT)
    }

    #[inline]
    fn place(&self, key: ThreadKey) -> Option<usize> {
        let recent = self.recent(key)?;
        match recent.get() {
            Some((known, place)) if known == key => Some(place),
            _ => {
                let place = *self.places.get(&key)?;
                recent.set(Some((key, place)));
                Some(place)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::state::thread::Image;

    fn thread(tid: i64, pid: i64) -> Box<Thread> {
        let image = Image::new(b"", b"", b"", b"");
        Box::new(Thread { pid, ..Thread::new(ThreadKey::exact(tid), Arc::new(image)) })
    }

    proptest! {
        #[test]
        fn it_holds_what_a_plain_map_holds(steps in proptest::collection::vec((0..3, 0..200_i64), 1..400)) {
            let (mut table, mut plain) = (Table::default(), HashMap::new());
            for ((what, tid), number) in steps.into_iter().zip(0_i64..) {
                let key = ThreadKey::exact(tid);
                match what {
                    0 => {
                        table.insert(thread(tid, number));
                        plain.insert(key, number);
                    }
                    1 => prop_assert_eq!(table.remove(key).map(|thread| thread.pid), plain.remove(&key)),
                    _ => prop_assert_eq!(table.get_mut(key).map(|thread| thread.pid), plain.get(&key).copied()),
                }
                let pid = |tid| table.get(ThreadKey::exact(tid)).map(|thread| thread.pid);
                prop_assert!((0..200).all(|tid| pid(tid) == plain.get(&ThreadKey::exact(tid)).copied()));
                prop_assert_eq!(table.len(), plain.len());
            }
            let mut pids: Vec<_> = table.iter_mut().map(|thread| thread.pid).collect();
            let mut expected: Vec<_> = plain.values().copied().collect();
            pids.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!((pids, table.keys().count()), (expected, plain.len()));
        }
    }
}
