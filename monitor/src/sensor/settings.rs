//! Fills in what the programs are told at load time: system call numbers and classes of this machine.

use monitor_ebpf::{
    offsets::{MISSING, Offsets},
    settings::{CLASS_TABLE_LEN, Class, SeccompMethod, Settings, Table},
};

use crate::syscall::{self, Arch};

/// `TS_COMPAT` in `thread_info.status` (x86).
const TS_COMPAT: u32 = 2;
/// `_TIF_32BIT` in `thread_info.flags` (arm64).
const TIF_32BIT: u32 = 1 << 22;
/// `__X32_SYSCALL_BIT`
const X32_BIT: u32 = 0x4000_0000;
/// Bits in a word of the kernel's bitmaps.
const WORD_BITS: u32 = 64;

/// The open family and where its flags argument is.
const OPEN_CLASSES: &[(&str, Class)] = &[
    ("open", Class::OPEN_FLAGS_1),
    ("openat", Class::OPEN_FLAGS_2),
    ("openat2", Class::OPEN_ANY),
    ("creat", Class::OPEN_ANY),
];

/// Settings for this machine.
pub fn for_machine(offsets: &Offsets, method: u32, agent_tgid: u32) -> Settings {
    let (native, compat, compat_mask, nr_mask) = if cfg!(target_arch = "aarch64") {
        (Arch::Aarch64, Arch::Arm, TIF_32BIT, u32::MAX)
    } else {
        (Arch::X86_64, Arch::I386, TS_COMPAT, !X32_BIT)
    };
    let mut settings = Settings {
        compat_mask,
        nr_mask,
        seccomp_method: method,
        agent_tgid,
        wanted: [0; CLASS_TABLE_LEN],
        native: table(native, offsets.allow_native_size),
        compat: table(compat, offsets.allow_compat_size),
    };
    let classes = settings.native.classes.iter().zip(&settings.compat.classes);
    for (wanted, (native, compat)) in settings.wanted.iter_mut().zip(classes) {
        *wanted = u8::from(*native != Class::NONE || *compat != Class::NONE);
    }
    if method == SeccompMethod::OFF {
        settings.native.bitmap_limit = 0;
        settings.compat.bitmap_limit = 0;
    }
    settings
}

fn table(arch: Arch, bitmap_bytes: u32) -> Table {
    let number = |name| syscall::number(arch, name).unwrap_or(u32::MAX);
    let mut classes = [Class::NONE; CLASS_TABLE_LEN];
    for (name, class) in OPEN_CLASSES {
        if let Some(slot) = usize::try_from(number(name)).ok().and_then(|nr| classes.get_mut(nr)) {
            *slot = *class;
        }
    }
    Table { seccomp: number("seccomp"), prctl: number("prctl"), bitmap_limit: bitmap_limit(bitmap_bytes), classes }
}

/// The kernel sets the bits past its last call in the bitmap's last word, so that word is left out: a few of the newest
/// calls are always judged, which costs little and misses nothing.
fn bitmap_limit(bytes: u32) -> u32 {
    if bytes == MISSING { 0 } else { (bytes / 8).saturating_sub(1) * WORD_BITS }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_of_the_bitmap_is_not_trusted() {
        assert_eq!(bitmap_limit(64), 448);
        assert_eq!(bitmap_limit(8), 0);
        assert_eq!(bitmap_limit(MISSING), 0);
    }

    #[test]
    fn opens_are_classed_by_where_their_flags_are() {
        let table = table(Arch::X86_64, 64);
        assert_eq!(table.classes[2], Class::OPEN_FLAGS_1);
        assert_eq!(table.classes[257], Class::OPEN_FLAGS_2);
        assert_eq!(table.classes[0], Class::NONE);
        assert_eq!((table.seccomp, table.prctl), (317, 157));
    }
}
