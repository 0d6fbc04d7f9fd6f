//! Events of entering a call, kept until the call is left: old captures tell half of what a call was when it began.
//!
//! One per thread. Bounded in number and in bytes: what was kept longest goes, which in a capture of any length are
//! threads that ended within a call. What goes is counted, because the leaving events then lack what it told.

use hashbrown::HashMap;

use crate::event::{call::Params, schema::Code};

/// Threads of one generation; there are two.
const MAX_THREADS: usize = 8192;
/// Bytes of one generation that lie outside the table.
const MAX_BYTES: usize = 1 << 21;
/// Bytes that lie inside the table: enough for nearly all.
const INLINE_BYTES: usize = 56;

/// Kept events. When the younger generation is full, it becomes the older one, which goes.
// Thread ids are sparse and go up to four million: an array indexed by them would not be bounded.
#[derive(Default)]
pub(super) struct Enters {
    young: HashMap<i64, Enter>,
    old: HashMap<i64, Enter>,
    /// Bytes outside the table, of the younger generation.
    bytes: usize,
    /// Events that went before anybody asked.
    evicted: u64,
}

/// An event that is kept.
pub(super) struct Enter {
    /// Which event, unless it was used.
    code: Option<Code>,
    lengths: u16,
    len: u16,
    inline: [u8; INLINE_BYTES],
    outline: Box<[u8]>,
}

impl Enters {
    pub(super) const fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Keeps a thread's event in the place of an earlier one.
    pub(super) fn keep(&mut self, tid: i64, code: Code, params: Params<'_>) {
        let enter = match self.young.get_mut(&tid) {
            Some(enter) => enter,
            None => {
                if self.young.len() >= MAX_THREADS {
                    self.age();
                }
                self.young.entry(tid).or_default()
            }
        };
        self.bytes -= enter.outline.len();
        enter.set(code, params);
        self.bytes += enter.outline.len();
        if self.bytes > MAX_BYTES {
            self.age();
        }
    }

    /// The event with which a thread entered the call that it is in.
    pub(super) fn get(&mut self, tid: i64) -> Option<&mut Enter> {
        self.young.get_mut(&tid).or_else(|| self.old.get_mut(&tid)).filter(|enter| enter.code.is_some())
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
        self.bytes = 0;
    }

    #[cold]
    fn age(&mut self) {
        let gone = self.old.iter().filter(|(tid, enter)| enter.code.is_some() && !self.young.contains_key(*tid));
        self.evicted += gone.count() as u64;
        std::mem::swap(&mut self.young, &mut self.old);
        self.young.clear();
        self.bytes = 0;
    }
}

impl Default for Enter {
    fn default() -> Self {
        Self { code: None, lengths: 0, len: 0, inline: [0; INLINE_BYTES], outline: Box::default() }
    }
}

impl Enter {
    fn set(&mut self, code: Code, params: Params<'_>) {
        let (lengths, values) = (params.lengths(), params.values());
        let len = lengths.len() + values.len();
        let (Ok(short), Ok(short_lengths)) = (u16::try_from(len), u16::try_from(lengths.len())) else {
            self.code = None;
            return;
        };
        (self.code, self.len, self.lengths) = (Some(code), short, short_lengths);
        let room = self.inline.get_mut(..len).and_then(|room| room.split_at_mut_checked(lengths.len()));
        match room {
            Some((lengths_room, values_room)) => {
                lengths_room.copy_from_slice(lengths);
                values_room.copy_from_slice(values);
                self.outline = Box::default();
            }
            None => self.outline = [lengths, values].concat().into(),
        }
    }

    /// Which event, unless it was used.
    pub(super) const fn code(&self) -> Option<Code> {
        self.code
    }

    /// Its parameters. No event of entering a call is one with lengths of four bytes.
    pub(super) fn params(&self) -> Params<'_> {
        let inline = self.inline.get(..self.len.into()).unwrap_or_default();
        let bytes = if self.outline.is_empty() { inline } else { &self.outline };
        let (lengths, values) = bytes.split_at_checked(self.lengths.into()).unwrap_or_default();
        Params::new(lengths, values, false)
    }

    /// Its call was left.
    pub(super) const fn used(&mut self) {
        self.code = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(enters: &mut Enters, tid: i64) -> Option<Code> {
        enters.get(tid)?.code()
    }

    #[test]
    fn a_threads_event_is_there_until_it_is_used() {
        let mut enters = Enters::default();
        for (tid, len) in [(1, 8), (2, 56), (3, 54), (4, 5000)] {
            enters.keep(tid, Code::SYSCALL_READ_E, Params::new(&[1, 2], &vec![7; len], false));
            let enter = enters.get(tid).unwrap();
            let values = vec![7; len];
            assert_eq!(enter.code(), Some(Code::SYSCALL_READ_E));
            assert_eq!(enter.params(), Params::new(&[1, 2], &values, false));
        }
        enters.keep(1, Code::SYSCALL_WRITE_E, Params::new(&[], &[], false));
        assert_eq!(code(&mut enters, 1), Some(Code::SYSCALL_WRITE_E));
        enters.get(1).unwrap().used();
        assert_eq!((code(&mut enters, 1), code(&mut enters, 2)), (None, Some(Code::SYSCALL_READ_E)));
        enters.clear();
        assert_eq!((code(&mut enters, 2), enters.evicted()), (None, 0));
    }

    #[test]
    fn however_many_threads_there_are_few_are_kept_and_the_rest_is_counted() {
        let mut enters = Enters::default();
        let threads = 100_000_i64;
        for tid in 0..threads {
            enters.keep(tid, Code::SYSCALL_READ_E, Params::new(&[1, 2], &[0; 100], false));
        }
        let kept = (0..threads).filter(|tid| enters.get(*tid).is_some()).count();
        assert!((MAX_THREADS..=2 * MAX_THREADS).contains(&kept) && code(&mut enters, threads - 1).is_some(), "{kept}");
        assert_eq!(enters.evicted() + kept as u64, 100_000);
    }

    #[test]
    fn however_long_they_are_few_bytes_are_kept() {
        let mut enters = Enters::default();
        for tid in 0..1000 {
            enters.keep(tid, Code::SYSCALL_READ_E, Params::new(&[1, 2], &vec![0; 60_000], false));
            assert!(enters.young.len() <= 1 + MAX_BYTES / 60_000 && enters.old.len() <= 1 + MAX_BYTES / 60_000);
        }
        assert!(enters.evicted() > 900);
    }
}
