//! `cgroup_mkdir` and `cgroup_attach_task`, of the v2 hierarchy only: what ties a cgroup id to a container.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use monitor_ebpf::record::{CgroupAttachRecord, CgroupRecord, Kind};

use crate::kernel::{
    emit::{self, Urgency},
    globals::offset,
    maps::CGROUP_SCRATCH,
    read::{Typed, typed},
    tail::Tail,
    task,
};

/// Longest cgroup path, NUL included.
const PATH_BYTES: u32 = 4096;

/// Id of a cgroup, `None` in a v1 hierarchy (those have ids from 1).
///
/// # Safety
/// `cgroup` must be a pointer that the verifier holds for a cgroup.
#[inline(always)]
unsafe fn v2_id(cgroup: Typed) -> Option<u64> {
    // SAFETY: the caller's promise.
    unsafe {
        let root: Typed = typed(cgroup, offset!(cgroup_root));
        if typed::<u32>(root, offset!(cgroup_root_hierarchy_id)) != 0 {
            return None;
        }
        let node: Typed = typed(cgroup, offset!(cgroup_kn));
        Some(typed(node, offset!(kernfs_node_id)))
    }
}

/// `trace_cgroup_mkdir(struct cgroup *cgrp, const char *path)`
#[btf_tracepoint(function = "cgroup_mkdir")]
pub fn cgroup_mkdir(ctx: BtfTracePointContext) -> i32 {
    let _ = try_cgroup_mkdir(&ctx);
    0
}

#[inline(always)]
fn try_cgroup_mkdir(ctx: &BtfTracePointContext) -> Option<()> {
    let cgroup: Typed = ctx.arg(0);
    let path: u64 = ctx.arg(1);
    let scratch = CGROUP_SCRATCH.get_ptr_mut(0)?;
    // SAFETY: the argument is a cgroup; scratch memory starts with the record, and one path fits behind it.
    unsafe {
        let id = v2_id(cgroup)?;
        let record = scratch.cast::<CgroupRecord>();
        (*record).header = task::header::<CgroupRecord>(Kind::CGROUP, 0, task::current());
        (*record).header.cgroup_id = id;
        (*record).reserved = [0; 3];
        let tail = Tail::behind::<CgroupRecord>(scratch);
        (*record).path_len = tail.kernel_str(PATH_BYTES, path);
        // The agent reads the bundle of a new container now: a container that lives for a moment takes it along when it goes.
        emit::variable(Kind::CGROUP, scratch, tail.len(), Urgency::Alert);
    }
    Some(())
}

/// `trace_cgroup_attach_task(struct cgroup *dst_cgrp, const char *path, struct task_struct *task, bool threadgroup)`
#[btf_tracepoint(function = "cgroup_attach_task")]
pub fn cgroup_attach_task(ctx: BtfTracePointContext) -> i32 {
    let _ = try_cgroup_attach_task(&ctx);
    0
}

#[inline(always)]
fn try_cgroup_attach_task(ctx: &BtfTracePointContext) -> Option<()> {
    let cgroup: Typed = ctx.arg(0);
    let target: Typed = ctx.arg(2);
    let whole_process: u64 = ctx.arg(3);
    // SAFETY: the arguments are a cgroup and a task.
    unsafe {
        let record = CgroupAttachRecord {
            target_cgroup_id: v2_id(cgroup)?,
            header: task::header::<CgroupAttachRecord>(Kind::CGROUP_ATTACH, 0, task::current()),
            target_start_ns: task::process_start_ns(target),
            target_tgid: task::tgid(target),
            whole_process: (whole_process & 0xff) as u32,
        };
        emit::fixed(Kind::CGROUP_ATTACH, record, Urgency::Normal);
    }
    Some(())
}
