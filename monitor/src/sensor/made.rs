//! Which system calls each cgroup makes, as the programs note it: what is new since the last look, as records.

use std::collections::BTreeMap;

use aya::maps::{HashMap, MapData};
use monitor_ebpf::settings::Made as Bits;

use crate::record;

/// The map that the programs note calls in.
pub(super) type MadeMap = HashMap<MapData, u64, [u8; size_of::<Bits>()]>;

/// What was told of it so far.
pub(super) struct Made {
    map: MadeMap,
    told: BTreeMap<u64, Bits>,
}

impl Made {
    pub(super) const fn new(map: MadeMap) -> Self {
        Self { map, told: BTreeMap::new() }
    }

    /// A record for each cgroup that has made calls which it had not made before.
    pub(super) fn news(&mut self, ktime_ns: u64) -> Vec<Vec<u8>> {
        let mut records = Vec::new();
        for (cgroup_id, bytes) in self.map.iter().filter_map(Result::ok) {
            let now: Bits = zerocopy::transmute!(bytes);
            let told = self.told.entry(cgroup_id).or_default();
            let new = Bits {
                native: std::array::from_fn(|word| new_bits(&now.native, &told.native, word)),
                compat: std::array::from_fn(|word| new_bits(&now.compat, &told.compat, word)),
            };
            if new != Bits::default() {
                records.push(record::calls_made(ktime_ns, cgroup_id, &new));
                *told = now;
            }
        }
        records
    }
}

fn new_bits(now: &[u64], told: &[u64], word: usize) -> u64 {
    now.get(word).zip(told.get(word)).map_or(0, |(now, told)| now & !told)
}
