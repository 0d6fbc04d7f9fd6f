//! Who a task is.

use aya_ebpf::helpers::{bpf_get_current_cgroup_id, bpf_get_current_task_btf, bpf_ktime_get_boot_ns};
use monitor_ebpf::{
    offsets::MISSING,
    record::{COMM_LEN, Header, Kind, TaskFacts, header_flag},
};

use super::{
    globals::{offset, setting},
    read::{Typed, probed, typed},
};

/// The running task.
#[inline(always)]
pub fn current() -> Typed {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_get_current_task_btf() }.cast_const().cast()
}

/// Process id.
///
/// # Safety
/// As for [`typed`], like every function of this module that takes a task.
#[inline(always)]
pub unsafe fn tgid(task: Typed) -> u32 {
    // SAFETY: the caller's promise.
    unsafe { typed(task, offset!(task_tgid)) }
}

/// Start of the task's process: the half of its key that is not reused.
///
/// # Safety
/// See [`tgid`].
#[inline(always)]
pub unsafe fn process_start_ns(task: Typed) -> u64 {
    // SAFETY: the caller's promise; the group leader outlives its threads.
    unsafe { typed(typed::<Typed>(task, offset!(task_group_leader)), offset!(task_start)) }
}

/// Command name.
///
/// # Safety
/// See [`tgid`].
#[inline(always)]
pub unsafe fn comm(task: Typed) -> [u8; COMM_LEN] {
    // SAFETY: the caller's promise; the array is 16 bytes in every kernel.
    let words: [u64; 2] = unsafe { [typed(task, offset!(task_comm)), typed(task, offset!(task_comm) + 8)] };
    // Loads of 8 bytes: the verifier follows them where it would refuse 16 single bytes' worth of states.
    let mut name = [0; COMM_LEN];
    name[..8].copy_from_slice(&words[0].to_ne_bytes());
    name[8..].copy_from_slice(&words[1].to_ne_bytes());
    name
}

/// Whether the running system call came through the 32-bit entry.
///
/// # Safety
/// See [`tgid`].
#[inline(always)]
pub unsafe fn is_compat(task: Typed) -> bool {
    if setting!(compat_mask) == 0 || offset!(task_compat_word) == MISSING {
        return false;
    }
    // SAFETY: the caller's promise.
    unsafe { typed::<u32>(task, offset!(task_compat_word)) & setting!(compat_mask) != 0 }
}

/// Seccomp mode.
///
/// # Safety
/// See [`tgid`].
#[inline(always)]
pub unsafe fn seccomp_mode(task: Typed) -> u32 {
    // SAFETY: the caller's promise.
    unsafe { typed(task, offset!(task_seccomp_mode)) }
}

/// Header of a record about the running task, `T` being the record's layout.
///
/// # Safety
/// See [`tgid`]; `task` must be the running task.
#[inline(always)]
pub unsafe fn header<T>(kind: Kind, flags: u16, task: Typed) -> Header {
    // SAFETY: the caller's promise; the helpers have no preconditions.
    unsafe {
        Header {
            kind,
            flags: flags | if is_compat(task) { header_flag::COMPAT } else { 0 },
            len: size_of::<T>() as u32,
            ktime_ns: bpf_ktime_get_boot_ns(),
            cgroup_id: bpf_get_current_cgroup_id(),
            start_ns: process_start_ns(task),
            tgid: tgid(task),
            tid: typed(task, offset!(task_pid)),
        }
    }
}

/// Process id in the task's own pid namespace, and that namespace's inode number.
///
/// # Safety
/// See [`tgid`].
#[inline(always)]
pub unsafe fn own_pid(task: Typed) -> (u32, u32) {
    // Probed, not typed: before 6.2 the verifier lets no number that varies be added to a pointer that it follows.
    own_number(probed(task as u64, offset!(task_thread_pid)))
}

/// A `struct pid *`'s number in its own namespace, and that namespace's inode number.
#[inline(always)]
fn own_number(pid: u64) -> (u32, u32) {
    // numbers[level] is the innermost namespace; an array element is out of the verifier's sight.
    let level: u32 = probed(pid, offset!(pid_level));
    let upid = pid + u64::from(offset!(pid_numbers)) + u64::from(level) * u64::from(offset!(upid_size));
    let namespace: u64 = probed(upid, offset!(upid_ns));
    (probed(upid, offset!(upid_nr)), probed(namespace, offset!(pid_ns_inum)))
}

/// Credentials, namespaces and parent.
///
/// # Safety
/// See [`tgid`].
#[inline(always)]
pub unsafe fn facts(task: Typed) -> TaskFacts {
    // SAFETY: the caller's promise; each member's type is the one that the kernel declares, and the verifier checks.
    unsafe {
        let parent: Typed = typed(task, offset!(task_real_parent));
        let cred: Typed = typed(task, offset!(task_cred));
        let user_ns: Typed = typed(cred, offset!(cred_user_ns));
        let (mnt_ns, net_ns) = namespaces(typed(task, offset!(task_nsproxy)));
        let (vpid, pid_ns) = own_pid(task);
        let signal = typed::<Typed>(task, offset!(task_signal)) as u64;
        let process_group = pid_of(signal, offset!(pid_type_pgid));
        TaskFacts {
            parent_start_ns: process_start_ns(parent),
            cap_effective: typed(cred, offset!(cred_cap_effective)),
            cap_permitted: typed(cred, offset!(cred_cap_permitted)),
            parent_tgid: tgid(parent),
            vpid,
            uid: typed(cred, offset!(cred_uid)),
            euid: typed(cred, offset!(cred_euid)),
            gid: typed(cred, offset!(cred_gid)),
            loginuid: if offset!(task_loginuid) == MISSING { u32::MAX } else { typed(task, offset!(task_loginuid)) },
            mnt_ns,
            pid_ns,
            net_ns,
            user_ns: typed(user_ns, offset!(user_ns_inum)),
            seccomp_mode: seccomp_mode(task),
            task_flags: typed(task, offset!(task_flags)),
            session: number(pid_of(signal, offset!(pid_type_sid))),
            process_group: number(process_group),
            own_process_group: own_number(process_group).0,
            tty: tty(signal),
            no_new_privs: (typed::<u64>(task, offset!(task_atomic_flags)) & NO_NEW_PRIVS) as u32,
            reserved: 0,
            comm: comm(task),
        }
    }
}

/// `PFA_NO_NEW_PRIVS` of `task_struct.atomic_flags`, unchanged since it exists.
const NO_NEW_PRIVS: u64 = 1;

/// The `struct pid *` of a process's session or group (`signal_struct.pids`).
#[inline(always)]
fn pid_of(signal: u64, kind: u32) -> u64 {
    probed(signal + u64::from(offset!(signal_pids)) + u64::from(kind) * 8, 0)
}

/// A `struct pid *`'s number in the initial namespace.
#[inline(always)]
fn number(pid: u64) -> u32 {
    probed(pid + u64::from(offset!(pid_numbers)), offset!(upid_nr))
}

/// Number of the controlling terminal, as `new_encode_dev` makes it; 0 where there is none.
#[inline(always)]
fn tty(signal: u64) -> u32 {
    let tty: u64 = probed(signal, offset!(signal_tty));
    let driver: u64 = probed(tty, offset!(tty_driver));
    if tty == 0 || driver == 0 {
        return 0;
    }
    let major: u32 = probed(driver, offset!(tty_driver_major));
    let minor = probed::<u32>(driver, offset!(tty_driver_minor_start)) + probed::<u32>(tty, offset!(tty_index));
    minor & 0xff | major << 8 | (minor & !0xff) << 12
}

/// Inode numbers of mount and network namespace; 0 for a task that is past `exit_task_namespaces`.
///
/// # Safety
/// `nsproxy` must be a task's `nsproxy`.
#[inline(always)]
unsafe fn namespaces(nsproxy: Typed) -> (u32, u32) {
    if nsproxy.is_null() {
        return (0, 0);
    }
    // SAFETY: the caller's promise.
    unsafe {
        let mnt: Typed = typed(nsproxy, offset!(nsproxy_mnt_ns));
        let net: Typed = typed(nsproxy, offset!(nsproxy_net_ns));
        (typed(mnt, offset!(mnt_ns_inum)), typed(net, offset!(net_ns_inum)))
    }
}

/// Id of the cgroup that a task, not only the running one, has in the v2 hierarchy.
///
/// # Safety
/// See [`tgid`].
#[inline(always)]
pub unsafe fn cgroup_id(task: Typed) -> u64 {
    // SAFETY: the caller's promise.
    unsafe {
        let set: Typed = typed(task, offset!(task_cgroups));
        let cgroup: Typed = typed(set, offset!(css_set_dfl_cgrp));
        let node: Typed = typed(cgroup, offset!(cgroup_kn));
        typed(node, offset!(kernfs_node_id))
    }
}
