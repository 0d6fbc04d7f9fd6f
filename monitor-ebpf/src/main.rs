//! The BPF programs. On any other target this is an empty program, so that the workspace builds and tests everywhere.
//!
//! [`kernel`] reads kernel structures, [`probes`] holds one file per hook. A probe is a thin entry named after its hook and
//! a `try_` body that leaves early; whatever it learns it sends as a record of `monitor_ebpf::record`.
//!
//! Invariants: work per event is bounded and does not depend on user input; a kernel's own copy is read, not the user's
//! pointer, wherever there is one; every record that was due is counted as emitted, filtered or lost.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

#[cfg(target_arch = "bpf")]
mod kernel;
#[cfg(target_arch = "bpf")]
mod probes;

/// The programs call GPL-only helpers.
#[cfg(target_arch = "bpf")]
// SAFETY: the section and the name are the loader's convention; nothing else in the object has them.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// An endless loop, which the verifier refuses: a panic that can be reached keeps the object from loading.
#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[cfg(not(target_arch = "bpf"))]
fn main() {
    eprintln!("monitor-ebpf runs in the kernel: build it for bpfel-unknown-none with `cargo xtask build`");
}
