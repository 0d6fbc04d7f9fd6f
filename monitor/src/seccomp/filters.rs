//! The filters that were seen, and their chains.
//!
//! A filter is an address and a generation (see `monitor_ebpf::record`), arrives in chunks, and names the one under it. Its
//! chain is complete when every filter down to the first has arrived.

use std::{collections::VecDeque, sync::Arc};

use hashbrown::HashMap;
use monitor_ebpf::record::SeccompFilterRecord;

use super::classic::{INSTRUCTION_BYTES, Instruction, MAX_INSTRUCTIONS};

/// Filters kept; the oldest goes first. The kernel side remembers as many.
const MAX_FILTERS: usize = 4096;
/// Filters in a chain that are followed; the kernel bounds a chain by instructions, 32,768 in all.
const MAX_CHAIN: usize = 64;

/// Identity of a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FilterKey {
    /// Address in the kernel.
    pub address: u64,
    /// When it was first seen.
    pub generation: u64,
}

/// A filter, perhaps not whole yet.
#[derive(Debug)]
struct Filter {
    previous: u64,
    /// 0 where the one under it had not been seen.
    previous_generation: u64,
    total: usize,
    instructions: Arc<Vec<Instruction>>,
}

/// The filters that judge a call, newest first.
pub type Programs = Vec<Arc<Vec<Instruction>>>;

/// What is known of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chain {
    /// All of it.
    Complete(Programs),
    /// This filter has not arrived, or not as a whole.
    Waiting,
    /// It never will: the kernel does not keep the program, or the chain is longer than is followed.
    Unavailable,
}

/// The store.
#[derive(Debug, Default)]
pub struct Filters {
    by_key: HashMap<FilterKey, Filter>,
    /// The newest generation of each address.
    newest: HashMap<u64, u64>,
    order: VecDeque<FilterKey>,
}

impl Filters {
    /// Takes in a chunk; whether its filter is whole now.
    pub fn insert(&mut self, record: &SeccompFilterRecord, bytes: &[u8]) -> bool {
        let key = FilterKey { address: record.filter, generation: record.generation };
        let total = usize::try_from(record.total).unwrap_or(usize::MAX);
        if total > MAX_INSTRUCTIONS {
            return false;
        }
        let filter = self.by_key.entry(key).or_insert_with(|| {
            self.order.push_back(key);
            Filter {
                previous: record.previous,
                previous_generation: record.previous_generation,
                total,
                instructions: Arc::default(),
            }
        });
        let instructions = Arc::make_mut(&mut filter.instructions);
        // Chunks come in order; one that does not continue what is there belongs to a damaged stream.
        if usize::try_from(record.first) == Ok(instructions.len()) {
            let (chunks, _) = bytes.as_chunks::<INSTRUCTION_BYTES>();
            let room = filter.total.saturating_sub(instructions.len());
            instructions.extend(chunks.iter().take(room).map(|chunk| Instruction::from_bytes(*chunk)));
        }
        let whole = instructions.len() == filter.total;
        self.newest.insert(key.address, key.generation);
        self.evict();
        whole
    }

    /// The filters that judge a call under this one, newest first.
    pub fn chain(&self, mut key: FilterKey) -> Chain {
        let mut programs = Vec::new();
        while key.address != 0 {
            let Some(filter) = self.by_key.get(&key) else { return Chain::Waiting };
            if filter.total == 0 || programs.len() == MAX_CHAIN {
                return Chain::Unavailable;
            }
            if filter.instructions.len() < filter.total {
                return Chain::Waiting;
            }
            programs.push(Arc::clone(&filter.instructions));
            let generation = match filter.previous_generation {
                0 => self.newest.get(&filter.previous).copied().unwrap_or(0),
                generation => generation,
            };
            key = FilterKey { address: filter.previous, generation };
        }
        Chain::Complete(programs)
    }

    fn evict(&mut self) {
        while self.by_key.len() > MAX_FILTERS
            && let Some(oldest) = self.order.pop_front()
        {
            self.by_key.remove(&oldest);
            if self.newest.get(&oldest.address) == Some(&oldest.generation) {
                self.newest.remove(&oldest.address);
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use zerocopy::FromZeros as _;

    use super::*;
    use crate::seccomp::classic::tests::{bytes, deny, ins};

    pub(crate) fn record(address: u64, generation: u64, previous: (u64, u64), total: usize) -> SeccompFilterRecord {
        SeccompFilterRecord {
            filter: address,
            generation,
            previous: previous.0,
            previous_generation: previous.1,
            total: u32::try_from(total).unwrap(),
            ..SeccompFilterRecord::new_zeroed()
        }
    }

    fn key(address: u64, generation: u64) -> FilterKey {
        FilterKey { address, generation }
    }

    #[test]
    fn a_chain_is_complete_when_every_filter_has_arrived() {
        let mut filters = Filters::default();
        let program = deny(83, 0x5_0001);
        assert!(filters.insert(&record(2, 20, (1, 0), 4), &bytes(&program)));
        assert_eq!(filters.chain(key(2, 20)), Chain::Waiting);
        filters.insert(&record(1, 10, (0, 0), 4), &bytes(&program));
        assert!(matches!(filters.chain(key(2, 20)), Chain::Complete(programs) if programs.len() == 2));
    }

    #[test]
    fn a_filter_in_chunks_is_whole_with_the_last() {
        let mut filters = Filters::default();
        let program: Vec<_> = (0..10).map(|k| ins(6, 0, 0, k)).collect();
        assert!(!filters.insert(&record(1, 1, (0, 0), 10), &bytes(&program[..6])));
        assert_eq!(filters.chain(key(1, 1)), Chain::Waiting);
        let mut second = record(1, 1, (0, 0), 10);
        second.first = 6;
        assert!(filters.insert(&second, &bytes(&program[6..])));
        assert_eq!(filters.chain(key(1, 1)), Chain::Complete(vec![Arc::new(program)]));
    }

    #[test]
    fn a_program_that_the_kernel_does_not_keep_is_never_waited_for() {
        let mut filters = Filters::default();
        filters.insert(&record(1, 1, (0, 0), 0), &[]);
        assert_eq!(filters.chain(key(1, 1)), Chain::Unavailable);
    }

    #[test]
    fn an_address_that_is_used_again_is_another_filter() {
        let mut filters = Filters::default();
        filters.insert(&record(1, 1, (0, 0), 4), &bytes(&deny(83, 0x5_0001)));
        filters.insert(&record(1, 2, (0, 0), 4), &bytes(&deny(84, 0x5_0001)));
        assert_ne!(filters.chain(key(1, 1)), filters.chain(key(1, 2)));
    }

    #[test]
    fn a_circle_and_a_flood_are_bounded() {
        let mut filters = Filters::default();
        filters.insert(&record(1, 1, (1, 1), 4), &bytes(&deny(83, 0x5_0001)));
        assert_eq!(filters.chain(key(1, 1)), Chain::Unavailable);
        for generation in 0..MAX_FILTERS as u64 + 100 {
            filters.insert(&record(7, generation, (0, 0), 1), &bytes(&[ins(6, 0, 0, 0)]));
        }
        assert_eq!(filters.by_key.len(), MAX_FILTERS);
        assert_eq!(filters.order.len(), MAX_FILTERS);
    }
}
