//! An empty program on `sys_exit`: what any sensor at this hook costs at least. `cargo xtask bench` compares with it.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};

/// Does nothing.
#[btf_tracepoint(function = "sys_exit")]
pub fn sys_exit_empty(_ctx: BtfTracePointContext) -> i32 {
    0
}
