//! Sending records, and counting those that could not be sent.

use core::ffi::c_void;

use aya_ebpf::helpers::{bpf_get_current_cgroup_id, bpf_ktime_get_boot_ns, bpf_ringbuf_output};
use monitor_ebpf::{
    record::{Header, Kind},
    settings::{Budget, Counter, LossKey, WAKEUP_BYTES},
};

use super::{
    globals::setting,
    maps::{BUDGETS, COUNTERS, LOSSES, RECORDS, SCRATCH_BYTES, Scratch},
};

const BPF_RB_NO_WAKEUP: u64 = 1;
const BPF_RB_FORCE_WAKEUP: u64 = 2;
const BPF_RB_AVAIL_DATA: u64 = 0;

/// Offsets into scratch memory are masked with this before every write; a write of at most 4 KiB behind it stays inside.
pub const OFFSET_MASK: u32 = SCRATCH_BYTES as u32 / 2 - 1;

/// Whether the agent should look at once.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// When it next looks, or when much is queued.
    Normal,
    /// Now: this may become a finding.
    Alert,
}

/// Counts one event of a kind.
#[inline(always)]
pub fn count(kind: Kind, counter: Counter) {
    if let Some(slot) = COUNTERS.get_ptr_mut(counter.index(kind)) {
        // SAFETY: the pointer is this CPU's slot; the program is not preempted by another writer of it, and the worst of
        // an interrupt between load and store is one count.
        unsafe { *slot += 1 }
    }
}

/// Counts one lost event of a kind, and whose it was.
#[inline(always)]
fn lose(kind: Kind, counter: Counter) {
    count(kind, counter);
    // SAFETY: the helper has no preconditions.
    let key =
        LossKey { cgroup_id: unsafe { bpf_get_current_cgroup_id() }, kind: u32::from(kind.0), counter: counter.0 };
    match LOSSES.get_ptr_mut(&key) {
        // SAFETY: the value is the map's; two CPUs at once lose one count of the attribution, the counters are exact.
        Some(lost) => unsafe { *lost += 1 },
        None => drop(LOSSES.insert(&key, &1, 0)),
    }
}

/// Whether a call may go into the ring. While that has room, every one. Under pressure each cgroup has a budget, so that one
/// that floods it does not drown the others; and what may become a finding by itself has room of its own.
#[inline(always)]
pub fn admit(kind: Kind) -> bool {
    let queued = RECORDS.query(BPF_RB_AVAIL_DATA);
    if queued < u64::from(setting!(pressure_bytes)) {
        return true;
    }
    if queued >= u64::from(setting!(reserve_bytes)) {
        lose(kind, Counter::RING_FULL);
        return false;
    }
    // SAFETY: the helpers have no preconditions.
    let (cgroup_id, window) = unsafe { (bpf_get_current_cgroup_id(), bpf_ktime_get_boot_ns() / Budget::WINDOW_NS) };
    let Some(budget) = BUDGETS.get_ptr_mut(&cgroup_id) else {
        let _ = BUDGETS.insert(&cgroup_id, &Budget { window, used: 1 }, 0);
        return true;
    };
    // SAFETY: the value is the map's; CPUs that race miscount by a few, which a budget can bear.
    unsafe {
        if (*budget).window != window {
            (*budget).window = window;
            (*budget).used = 0;
        }
        (*budget).used += 1;
        if (*budget).used <= u64::from(setting!(budget)) {
            return true;
        }
    }
    lose(kind, Counter::OVER_BUDGET);
    false
}

/// Wakeups cost more than records, so there is none until enough is queued or a record is urgent.
#[inline(always)]
fn wakeup(urgency: Urgency) -> u64 {
    if urgency == Urgency::Alert || RECORDS.query(BPF_RB_AVAIL_DATA) >= WAKEUP_BYTES {
        BPF_RB_FORCE_WAKEUP
    } else {
        BPF_RB_NO_WAKEUP
    }
}

/// Sends a record of fixed size.
#[inline(always)]
pub fn fixed<T: 'static>(kind: Kind, record: T, urgency: Urgency) {
    let Some(mut entry) = RECORDS.reserve::<T>(0) else {
        lose(kind, Counter::RING_FULL);
        return;
    };
    entry.write(record);
    entry.submit(wakeup(urgency));
    count(kind, Counter::EMITTED);
}

/// Sends the first `len` bytes of scratch memory, whose header is filled in.
#[inline(always)]
pub fn variable(kind: Kind, scratch: *mut Scratch, len: u32, urgency: Urgency) {
    let len = core::hint::black_box(len) & (SCRATCH_BYTES as u32 - 1);
    // SAFETY: scratch memory is larger than any masked length, and the header lies at its start.
    let sent = unsafe {
        (*scratch.cast::<Header>()).len = len;
        bpf_ringbuf_output(
            (&raw const RECORDS).cast_mut().cast::<c_void>(),
            scratch.cast(),
            u64::from(len),
            wakeup(urgency),
        )
    };
    if sent == 0 {
        count(kind, Counter::EMITTED);
    } else {
        lose(kind, Counter::RING_FULL);
    }
}
