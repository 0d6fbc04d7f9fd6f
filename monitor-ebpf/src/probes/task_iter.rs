//! `iter/task`: every process that exists when the sensor starts, as records.

use core::ffi::c_void;

use aya_ebpf::{bindings::seq_file, helpers::bpf_ktime_get_boot_ns, helpers::generated::bpf_seq_write};
use monitor_ebpf::record::{Header, Kind, TaskRecord, header_flag};

use crate::kernel::{
    file,
    globals::offset,
    maps::TASK_SCRATCH,
    read::{Typed, typed},
    task,
};

/// `struct bpf_iter__task`: two pointers in eight bytes each.
#[repr(C)]
struct Context {
    meta: *const Meta,
    task: Typed,
}

/// `struct bpf_iter_meta`, its first member.
#[repr(C)]
struct Meta {
    seq: *mut seq_file,
}

/// Writes one [`TaskRecord`] per thread group leader; the agent adds the strings.
// SAFETY: the section is the loader's convention for this program type; the name is unique in the object.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
pub extern "C" fn task_iter(ctx: *mut c_void) -> i32 {
    // SAFETY: the context of an iter/task program; the task is null in the last call.
    unsafe {
        let context = ctx.cast::<Context>();
        let leader = (&raw const (*context).task).read_volatile();
        let meta = (&raw const (*context).meta).read_volatile();
        if leader.is_null() || typed::<u32>(leader, offset!(task_pid)) != task::tgid(leader) {
            return 0;
        }
        let Some(scratch) = TASK_SCRATCH.get_ptr_mut(0) else { return 0 };
        let record = scratch.cast::<TaskRecord>();
        (*record).header = Header {
            kind: Kind::TASK,
            flags: header_flag::SNAPSHOT,
            len: size_of::<TaskRecord>() as u32,
            ktime_ns: bpf_ktime_get_boot_ns(),
            cgroup_id: task::cgroup_id(leader),
            start_ns: task::process_start_ns(leader),
            tgid: task::tgid(leader),
            tid: task::tgid(leader),
        };
        (*record).task = task::facts(leader);
        (*record).file = file::facts(exe_file(leader));
        // The agent adds the strings; the memory holds zeros where nothing was written.
        let seq = (&raw const (*meta).seq).read_volatile();
        bpf_seq_write(seq, scratch.cast(), size_of::<TaskRecord>() as u32);
    }
    0
}

/// The program's file; 0 for a kernel thread, or a process that is ending.
///
/// # Safety
/// `leader` must be a task that the verifier knows.
#[inline(always)]
unsafe fn exe_file(leader: Typed) -> u64 {
    // SAFETY: the caller's promise.
    unsafe {
        let mm: Typed = typed(leader, offset!(task_mm));
        if mm.is_null() {
            return 0;
        }
        typed(mm, offset!(mm_exe_file))
    }
}
