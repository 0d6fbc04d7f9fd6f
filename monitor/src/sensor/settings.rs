//! Fills in what the programs are told at load time: system call numbers of this machine, what to collect of each call, and which
//! are wanted.

use monitor_ebpf::{
    offsets::{MISSING, Offsets},
    settings::{CALLS, Plan, SeccompMethod, Settings, Table, Wanted, wanted},
    subject::Key,
};

use crate::{
    event::EventType,
    rules::{Demand, EventTypes},
    syscall::{self, Arch, calls},
};

/// `TS_COMPAT` in `thread_info.status` (x86).
const TS_COMPAT: u32 = 2;
/// `_TIF_32BIT` in `thread_info.flags` (arm64).
const TIF_32BIT: u32 = 1 << 22;
/// `__X32_SYSCALL_BIT`
const X32_BIT: u32 = 0x4000_0000;
/// Bytes of the ring for one call of a cgroup's budget: of 8 MiB it may fill about an eighth in a tenth of a second, and so
/// send some 40,000 calls a second for as long as the agent does not keep up.
const BUDGET_SHARE: u32 = 2048;
/// Bits in a word of the kernel's bitmaps.
const WORD_BITS: u32 = 64;

/// Calls that are wanted whatever the rules are, because what is known of processes rests on them.
const ALWAYS: &[(&str, u8)] = &[
    ("open", wanted::DRIFT),
    ("openat", wanted::DRIFT),
    ("openat2", wanted::DRIFT),
    ("creat", wanted::DRIFT),
    ("mmap", wanted::DRIFT),
    ("mmap2", wanted::DRIFT),
    ("mprotect", wanted::DRIFT),
    ("chdir", wanted::ALL),
    ("fchdir", wanted::ALL),
];

/// This machine's tables: of the 64-bit entry, and of the 32-bit one.
const ARCHES: (Arch, Arch) =
    if cfg!(target_arch = "aarch64") { (Arch::Aarch64, Arch::Arm) } else { (Arch::X86_64, Arch::I386) };

/// What the programs are to send for rules with this demand, which are the ones of this number.
pub fn wanted(demand: &Demand, epoch: u32) -> Wanted {
    let mut wanted = Wanted { environment: u8::from(demand.environment), epoch, ..Wanted::NOTHING };
    let named = |types: EventTypes, level: fn(&Demand, EventType) -> u8| {
        types.iter().filter(|one| syscall::is_told(*one)).map(move |one| (one.name(), level(demand, one)))
    };
    let told = named(demand.all, Demand::level).chain(named(demand.drift, |_, _| wanted::DRIFT));
    for (name, level) in ALWAYS.iter().copied().chain(told) {
        for (arch, table) in [(ARCHES.0, &mut wanted.native), (ARCHES.1, &mut wanted.compat)] {
            let index = syscall::number(arch, name).and_then(|nr| usize::try_from(nr).ok());
            if let Some(index) = index
                && let (Some(slot), Some(either)) = (table.get_mut(index), wanted.either.get_mut(index))
            {
                *slot |= level;
                *either |= level;
            }
        }
    }
    wanted
}

/// Settings for this machine.
pub fn for_machine(
    offsets: &Offsets,
    method: u32,
    agent_tgid: u32,
    ring_bytes: u32,
    observe: bool,
    subject_key: Key,
) -> Settings {
    let (compat_mask, nr_mask) =
        if cfg!(target_arch = "aarch64") { (TIF_32BIT, u32::MAX) } else { (TS_COMPAT, !X32_BIT) };
    let mut settings = Settings {
        compat_mask,
        nr_mask,
        seccomp_method: method,
        agent_tgid,
        observe: u32::from(observe),
        pressure_bytes: ring_bytes / 4,
        reserve_bytes: ring_bytes / 8 * 7,
        budget: ring_bytes / BUDGET_SHARE,
        subject_key,
        native: table(ARCHES.0, offsets.allow_native_size),
        compat: table(ARCHES.1, offsets.allow_compat_size),
    };
    if method == SeccompMethod::OFF {
        settings.native.bitmap_limit = 0;
        settings.compat.bitmap_limit = 0;
    }
    settings
}

fn table(arch: Arch, bitmap_bytes: u32) -> Table {
    let number = |name| syscall::number(arch, name).unwrap_or(u32::MAX);
    let mut plans = [Plan::EMPTY; CALLS];
    for call in calls::CALLS {
        if let Some(slot) = usize::try_from(number(call.name)).ok().and_then(|nr| plans.get_mut(nr)) {
            *slot = call.plan;
        }
    }
    Table { seccomp: number("seccomp"), prctl: number("prctl"), bitmap_limit: bitmap_limit(bitmap_bytes), plans }
}

/// The kernel sets the bits past its last call in the bitmap's last word, so that word is left out: a few of the newest
/// calls are always judged, which costs little and misses nothing.
fn bitmap_limit(bytes: u32) -> u32 {
    if bytes == MISSING { 0 } else { (bytes / 8).saturating_sub(1) * WORD_BITS }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::EventType;

    #[test]
    fn the_last_word_of_the_bitmap_is_not_trusted() {
        assert_eq!(bitmap_limit(64), 448);
        assert_eq!(bitmap_limit(8), 0);
        assert_eq!(bitmap_limit(MISSING), 0);
    }

    #[test]
    fn plans_stand_at_the_numbers_of_their_calls() {
        let table = table(Arch::X86_64, 64);
        assert_eq!((table.plans[257].texts[0], table.plans[257].descriptor), (1, Plan::RESULT));
        assert_eq!(table.plans[0], Plan::EMPTY);
        assert_eq!((table.seccomp, table.prctl), (317, 157));
    }

    #[test]
    fn what_rules_name_is_wanted_and_what_drift_needs_always() {
        let mut types = EventTypes::NONE;
        types.insert_named(EventType::find("connect").unwrap());
        types.insert_named(EventType::find("personality").unwrap());
        let wanted = wanted(&Demand { all: types, ..Demand::NONE }, 0);
        let (all, drift) = (wanted::ALL, wanted::DRIFT);
        let (connect, personality, openat, read) = (42, 135, 257, 0);
        assert_eq!([connect, personality, openat, read].map(|nr| wanted.native[nr]), [all, all, drift, wanted::NOT]);
        assert_eq!(wanted.compat[362], all, "connect of 32-bit programs");
        assert_eq!((wanted.either[42], wanted.either[362]), (all, all));
    }
}
