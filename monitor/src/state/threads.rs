//! The table of threads.
//!
//! Streams come in two kinds. Records of the sensor may arrive out of order, so a process that ended stays for a moment, and as
//! long as it has children, so that ancestors can be named. A capture of another tool is in exact order: what ended goes with the
//! next event, and its children go to who takes them over, as Falco says ([`Threads::end`]).

use std::{collections::VecDeque, sync::Arc};

use hashbrown::HashMap;

use super::{
    table::Table,
    thread::{Image, NOT_AVAILABLE, Thread, ThreadKey, flag},
};

/// Threads that may be known at once, running and ended.
const MAX_THREADS: usize = 262_144;
/// Ended processes kept for their children.
const MAX_ENDED: usize = 16_384;
/// How long an ended process without children is kept.
const LINGER_NS: u64 = 2_000_000_000;
/// Ancestors that are followed.
const MAX_ANCESTORS: usize = 1024;
/// Children that are gone and still counted before they are not.
const MAX_GONE_CHILDREN: u32 = 10;

/// The threads of one process.
#[derive(Clone, Debug, Default)]
struct Group {
    /// Thread ids; the leader's is the first if it is there.
    threads: VecDeque<i64>,
    /// How many have not ended.
    alive: u64,
    /// Whether it takes over children of others.
    is_reaper: bool,
}

/// The table.
#[derive(Debug, Default)]
pub struct Threads {
    table: Table,
    groups: HashMap<i64, Group>,
    /// Ended processes, oldest first.
    ended: VecDeque<(u64, ThreadKey)>,
}

impl Threads {
    /// A thread, running or recently ended.
    pub fn get(&self, key: ThreadKey) -> Option<&Thread> {
        self.table.get(key)
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, key: ThreadKey) -> Option<&mut Thread> {
        self.table.get_mut(key)
    }

    /// Threads known.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.table.len() == 0
    }

    /// The key of a thread's leader.
    fn leader_key(&self, thread: &Thread) -> Option<ThreadKey> {
        if thread.is_leader() {
            return Some(thread.key);
        }
        if !thread.grouped {
            return None;
        }
        let first = ThreadKey { tid: *self.groups.get(&thread.pid)?.threads.front()?, ..thread.key };
        self.get(first)?.is_leader().then_some(first)
    }

    /// The thread that leads a thread's process.
    pub fn leader<'a>(&'a self, thread: &'a Thread) -> Option<&'a Thread> {
        if thread.is_leader() { Some(thread) } else { self.get(self.leader_key(thread)?) }
    }

    /// The same by its key, to be changed.
    pub fn leader_mut(&mut self, key: ThreadKey) -> Option<&mut Thread> {
        let leader = self.leader_key(self.get(key)?)?;
        self.get_mut(leader)
    }

    /// The thread whose descriptors a thread uses.
    pub fn descriptor_owner<'a>(&'a self, thread: &'a Thread) -> Option<&'a Thread> {
        if thread.has(flag::CLONE_FILES) { self.leader(thread) } else { Some(thread) }
    }

    /// The same by its key, to be changed.
    pub fn descriptor_owner_mut(&mut self, key: ThreadKey) -> Option<&mut Thread> {
        if self.get(key)?.has(flag::CLONE_FILES) { self.leader_mut(key) } else { self.get_mut(key) }
    }

    /// Working directory of a thread's process, with a slash at its end.
    pub fn cwd<'a>(&'a self, thread: &'a Thread) -> &'a [u8] {
        self.leader(thread).map_or(b"./", |leader| &leader.cwd)
    }

    /// Environment of a thread's process: of its leader, or its own where there is none.
    pub fn environment_owner<'a>(&'a self, thread: &'a Thread) -> &'a Thread {
        self.leader(thread).unwrap_or(thread)
    }

    /// Threads of a process that have not ended.
    pub fn alive(&self, thread: &Thread) -> u64 {
        if thread.grouped { self.groups.get(&thread.pid).map_or(0, |group| group.alive) } else { 0 }
    }

    /// Ancestors of a thread, the parent first; ends where one is not known, and where a forged chain closes on itself: one
    /// that goes twice as fast meets it there.
    pub fn ancestors<'a>(&'a self, thread: &'a Thread) -> impl Iterator<Item = &'a Thread> {
        let above = |thread: Option<&'a Thread>| thread.and_then(|thread| self.get(thread.parent));
        let mut next = self.get(thread.parent);
        let mut fast = above(next);
        std::iter::from_fn(move || {
            let ancestor = next?;
            next = above(next);
            for _ in 0..2 {
                fast = above(fast);
                next = next.filter(|next| fast.is_none_or(|fast| fast.key != next.key) && next.key != next.parent);
            }
            Some(ancestor)
        })
        .take(MAX_ANCESTORS)
    }

    /// The process that is so many generations above a thread's: 0 is its own.
    pub fn ancestor<'a>(&'a self, thread: &'a Thread, generations: u32) -> Option<&'a Thread> {
        let mut leader = self.leader(thread)?;
        for _ in 0..generations {
            leader = self.leader(self.get(leader.parent)?)?;
        }
        Some(leader)
    }

    /// All threads, in no order.
    pub(super) fn all(&self) -> impl Iterator<Item = &Thread> {
        self.table.iter()
    }

    /// All threads, to be changed.
    pub(super) fn all_mut(&mut self) -> impl Iterator<Item = &mut Thread> {
        self.table.iter_mut()
    }

    /// Whether there is room for another.
    pub fn is_full(&self) -> bool {
        self.table.len() >= MAX_THREADS
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Streams in exact order.
impl Threads {
    /// The thread of an id, made up where it is not known; `None` if there is no room for it.
    pub fn known_or_placeholder(&mut self, tid: i64) -> Option<&mut Thread> {
        let key = ThreadKey::exact(tid);
        if self.table.get(key).is_none() {
            let image = Image::new(NOT_AVAILABLE, NOT_AVAILABLE, &[], &[]);
            self.add(Thread::new(key, Arc::new(image)));
        }
        self.get_mut(key)
    }

    /// Adds a thread to the table, its process and its parent. A full table takes no more.
    pub fn add(&mut self, mut thread: Thread) -> bool {
        if self.is_full() {
            return false;
        }
        self.relate(&mut thread);
        self.table.insert(Box::new(thread));
        true
    }

    /// Adds a thread of a list, in which a parent may come after its children.
    pub fn list(&mut self, thread: Thread) {
        if !self.is_full() {
            self.table.insert(Box::new(thread));
        }
    }

    /// Relates the threads of a list.
    pub fn relate_listed(&mut self) {
        let mut keys: Vec<_> = self.table.keys().collect();
        keys.sort_unstable();
        for key in keys {
            self.relate_known(key);
        }
    }

    /// Relates a thread that has become known.
    pub fn relate_known(&mut self, key: ThreadKey) {
        if let Some(mut thread) = self.table.remove(key) {
            self.relate(&mut thread);
            self.table.insert(thread);
        }
    }

    fn relate(&mut self, thread: &mut Thread) {
        if !thread.is_known() || thread.grouped {
            return;
        }
        let tid = thread.key.tid;
        if let Some(group) = self.groups.get_mut(&thread.pid) {
            if thread.is_leader() {
                group.threads.push_front(tid);
            } else {
                group.threads.push_back(tid);
            }
            group.alive += 1;
        } else {
            let is_reaper = thread.pid == 1 || thread.vpid == 1;
            self.groups.insert(thread.pid, Group { threads: VecDeque::from([tid]), alive: 1, is_reaper });
        }
        thread.grouped = true;
        if thread.pid == 1 {
            return;
        }
        match self.table.get_mut(thread.parent) {
            Some(parent) if parent.is_known() => parent.adopt(),
            _ => thread.parent = ThreadKey::exact(0),
        }
    }

    /// Marks a thread as ended; its entry stays until it is removed.
    pub fn end(&mut self, key: ThreadKey) {
        let Some(thread) = self.table.get_mut(key) else { return };
        if thread.has(flag::CLOSED) {
            return;
        }
        thread.flags |= flag::CLOSED;
        if thread.grouped
            && let Some(group) = self.groups.get_mut(&thread.pid)
        {
            group.alive = group.alive.saturating_sub(1);
        }
    }

    /// An ended leader whose process goes on in it: another of its threads called exec.
    pub fn resume(&mut self, key: ThreadKey) {
        let Some(thread) = self.table.get_mut(key) else { return };
        if thread.has(flag::CLOSED) {
            thread.flags &= !flag::CLOSED;
            if thread.grouped
                && let Some(group) = self.groups.get_mut(&thread.pid)
            {
                group.alive += 1;
            }
        }
    }

    /// Removes all threads of a process but its leader and one more.
    pub fn keep_leader(&mut self, key: ThreadKey) {
        let Some(thread) = self.table.get(key).filter(|thread| thread.grouped) else { return };
        let Some(group) = self.groups.get(&thread.pid).filter(|group| group.alive > 1) else { return };
        for tid in group.threads.clone() {
            let other = ThreadKey { tid, ..key };
            if other != key && self.get(other).is_some_and(|other| !other.is_leader()) {
                self.remove(other);
            }
        }
    }

    /// Says whether a thread's process takes over children of others.
    pub fn set_reaper(&mut self, key: ThreadKey, is_reaper: bool) {
        if let Some(group) = self.table.get(key).and_then(|thread| self.groups.get_mut(&thread.pid)) {
            group.is_reaper = is_reaper;
        }
    }

    /// Removes a thread, and with the last one of a process its leader.
    pub fn remove(&mut self, key: ThreadKey) {
        let Some(thread) = self.get(key) else { return };
        let (parent, pid) = (thread.parent, thread.pid);
        if !thread.is_known() || !thread.grouped {
            self.leave(parent);
            self.forget(key, pid);
            return;
        }
        self.end(key);
        self.hand_children_over(key);
        let is_leader = self.get(key).is_some_and(Thread::is_leader);
        if self.groups.get(&pid).is_none_or(|group| group.alive == 0) {
            self.leave(parent);
            self.groups.remove(&pid);
            self.table.remove(ThreadKey { tid: pid, ..key });
        }
        if !is_leader {
            self.leave(parent);
            self.forget(key, pid);
        }
    }

    fn forget(&mut self, key: ThreadKey, pid: i64) {
        self.table.remove(key);
        if let Some(group) = self.groups.get_mut(&pid) {
            group.threads.retain(|tid| *tid != key.tid);
        }
    }

    /// One child of a parent is gone.
    fn leave(&mut self, parent: ThreadKey) {
        if let Some(parent) = self.table.get_mut(parent) {
            parent.children = parent.children.saturating_sub(1);
            if parent.listed_children.saturating_sub(parent.children) >= MAX_GONE_CHILDREN {
                parent.listed_children = parent.children;
            }
        }
    }

    fn hand_children_over(&mut self, key: ThreadKey) {
        let Some(thread) = self.get(key).filter(|thread| thread.listed_children > 0) else { return };
        let (pid, named, children) = (thread.pid, thread.reaper_tid, thread.children);
        let named = (named > 0).then(|| self.known_or_placeholder(named).map(|reaper| (reaper.key, reaper.is_known())));
        let named = named.flatten().filter(|(_, is_known)| *is_known).map(|(reaper, _)| reaper);
        let reaper = named.or_else(|| self.new_reaper(key)).filter(|reaper| *reaper != key);
        if let Some(reaper) = reaper.and_then(|reaper| self.get(reaper))
            && reaper.pid != pid
            && reaper.grouped
        {
            self.set_reaper(reaper.key, true);
        }
        let parent = reaper.unwrap_or(ThreadKey::exact(0));
        let mut moved = 0;
        if children > 0 {
            for child in self.table.iter_mut().filter(|child| child.parent == key) {
                child.parent = parent;
                moved += 1;
            }
        }
        if let Some(reaper) = self.table.get_mut(parent) {
            reaper.children += moved;
            reaper.listed_children += moved;
        }
        if let Some(thread) = self.table.get_mut(key) {
            (thread.children, thread.listed_children) = (0, 0);
        }
    }

    /// Who takes a thread's children over: another of its process, else the nearest ancestor that does so.
    fn new_reaper(&self, key: ThreadKey) -> Option<ThreadKey> {
        let thread = self.get(key)?;
        let alive = |pid: i64| {
            let group = self.groups.get(&pid).filter(|group| group.alive > 0)?;
            let keys = group.threads.iter().map(|tid| ThreadKey { tid: *tid, ..key });
            keys.into_iter()
                .find(|other| *other != key && self.get(*other).is_some_and(|other| !other.has(flag::CLOSED)))
        };
        if let Some(other) = alive(thread.pid) {
            return Some(other);
        }
        for parent in self.ancestors(thread) {
            if parent.key == key || parent.is_in_pid_namespace() != thread.is_in_pid_namespace() {
                return None;
            }
            let reaps = parent.grouped && self.groups.get(&parent.pid).is_some_and(|group| group.is_reaper);
            if let Some(reaper) = reaps.then(|| alive(parent.pid)).flatten() {
                return Some(reaper);
            }
        }
        None
    }
}

impl Thread {
    fn adopt(&mut self) {
        self.children += 1;
        self.listed_children += 1;
    }
}

/// Streams of records.
impl Threads {
    /// Puts a process in, or what is new of one that is known.
    pub(super) fn insert(&mut self, thread: Thread) {
        let (key, parent) = (thread.key, thread.parent);
        if let Some(known) = self.table.get_mut(key) {
            let old_parent = known.parent;
            let (children, ended_ns) = (known.children, known.ended_ns);
            let descriptors = std::mem::take(&mut known.descriptors);
            *known = Thread { descriptors, children, ended_ns, ..thread };
            // The parent at the fork says more than the reaper that may be the parent by now.
            if old_parent == ThreadKey::default() {
                self.count_child(parent, true);
            } else {
                known.parent = old_parent;
            }
            return;
        }
        if self.is_full() {
            match self.ended.pop_front() {
                Some((_, oldest)) => self.drop_ended(oldest),
                // Nothing has ended: more processes than the kernel's largest pid_max run, or exits were lost.
                None => return,
            }
        }
        self.table.insert(Box::new(thread));
        self.count_child(parent, true);
    }

    /// A process has ended.
    pub(super) fn linger(&mut self, key: ThreadKey, ktime_ns: u64) {
        if let Some(process) = self.table.get_mut(key)
            && process.ended_ns.is_none()
        {
            process.ended_ns = Some(ktime_ns);
            self.ended.push_back((ktime_ns, key));
        }
    }

    /// Forgets ended processes that nothing needs any more.
    pub(super) fn expire(&mut self, now_ns: u64) {
        // Each pass looks at the oldest only; one that must stay for its children goes to the back. At most a few per
        // record, so that the work per record is bounded.
        for _ in 0..2 {
            let Some(&(ended_ns, key)) = self.ended.front() else { return };
            let crowded = self.ended.len() > MAX_ENDED;
            if !crowded && now_ns.saturating_sub(ended_ns) < LINGER_NS {
                return;
            }
            self.ended.pop_front();
            match self.table.get(key) {
                Some(process) if process.children > 0 && !crowded => self.ended.push_back((now_ns, key)),
                Some(_) => self.drop_ended(key),
                None => {}
            }
        }
    }

    fn drop_ended(&mut self, key: ThreadKey) {
        if let Some(process) = self.table.remove(key) {
            self.count_child(process.parent, false);
        }
    }

    fn count_child(&mut self, parent: ThreadKey, more: bool) {
        if let Some(parent) = self.table.get_mut(parent) {
            parent.children = if more { parent.children + 1 } else { parent.children.saturating_sub(1) };
        }
    }
}
