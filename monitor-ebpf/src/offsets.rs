//! Where members lie in this kernel's structs.
//!
//! Rust emits no CO-RE relocations, so the agent looks every member up in `/sys/kernel/btf/vmlinux` before it loads the
//! programs and writes the answers into their instructions ([`crate::immediate`]). The verifier sees constants: a typed load at a wrong
//! offset is refused, and code behind an offset that this kernel lacks vanishes.
//!
//! The [`offsets!`] table is the one list: the struct, its order, and the paths to look up come from it. A path is
//! `struct.member.member` with alternatives for older kernels after `|`; `+N` adds bytes; `sizeof X` and `enum E:V` ask
//! for a size and a value.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Stands for a member that this kernel lacks.
pub const MISSING: u32 = u32::MAX;

/// What does not work without a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Need {
    /// The sensor cannot run at all.
    Core,
    /// Seccomp verdicts from `sys_exit` alone; the fallback is the enter/exit pair.
    SeccompExit,
    /// Telling the layers of an overlay file system apart.
    Overlay,
    /// Telling a copied-up image file from a new one.
    OverlayLower,
    /// Telling which file a mapping shows that becomes code only afterwards.
    Mapping,
    /// Login user ids.
    LoginUid,
    /// 32-bit entry on this architecture.
    Compat,
    /// Nothing: older and newer kernels differ, the programs take what is there.
    Nothing,
}

/// One row of the table, for the resolver.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Name of the member in [`Offsets`].
    pub name: &'static str,
    /// What to look up: alternatives separated by `|`.
    pub path: &'static str,
    /// What its absence costs.
    pub need: Need,
}

macro_rules! offsets {
    ($($need:ident { $($name:ident = $path:literal;)* })*) => {
        /// Byte offsets (or sizes, or enum values), [`MISSING`] where the kernel has no such member.
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
        pub struct Offsets { $($(#[doc = concat!("`", $path, "`")] pub $name: u32,)*)* }

        impl Offsets {
            /// No member known: what the programs are compiled with.
            pub const NONE: Self = Self { $($($name: MISSING,)*)* };

            /// The table, in the order of the struct's fields.
            pub const TABLE: &'static [Row] = &[$($(Row { name: stringify!($name), path: $path, need: Need::$need },)*)*];
        }
    };
}

offsets! {
    Core {
        task_tgid = "task_struct.tgid";
        task_pid = "task_struct.pid";
        task_comm = "task_struct.comm";
        task_flags = "task_struct.flags";
        task_start = "task_struct.start_boottime";
        task_group_leader = "task_struct.group_leader";
        task_real_parent = "task_struct.real_parent";
        task_cred = "task_struct.cred";
        task_nsproxy = "task_struct.nsproxy";
        task_thread_pid = "task_struct.thread_pid";
        task_fs = "task_struct.fs";
        task_files = "task_struct.files";
        task_mm = "task_struct.mm";
        task_signal = "task_struct.signal";
        task_exit_code = "task_struct.exit_code";
        task_ptrace = "task_struct.ptrace";
        task_cgroups = "task_struct.cgroups";
        task_seccomp_mode = "task_struct.seccomp.mode";
        task_atomic_flags = "task_struct.atomic_flags";
        signal_live = "signal_struct.live";
        signal_pids = "signal_struct.pids";
        signal_tty = "signal_struct.tty";
        pid_type_pgid = "enum pid_type:PIDTYPE_PGID";
        pid_type_sid = "enum pid_type:PIDTYPE_SID";
        tty_driver = "tty_struct.driver";
        tty_index = "tty_struct.index";
        tty_driver_major = "tty_driver.major";
        tty_driver_minor_start = "tty_driver.minor_start";
        mm_arg_start = "mm_struct.arg_start";
        mm_arg_end = "mm_struct.arg_end";
        mm_env_start = "mm_struct.env_start";
        mm_env_end = "mm_struct.env_end";
        mm_exe_file = "mm_struct.exe_file";
        css_set_dfl_cgrp = "css_set.dfl_cgrp";
        cgroup_kn = "cgroup.kn";
        cgroup_root = "cgroup.root";
        cgroup_root_hierarchy_id = "cgroup_root.hierarchy_id";
        kernfs_node_id = "kernfs_node.id";
        cred_uid = "cred.uid";
        cred_gid = "cred.gid";
        cred_euid = "cred.euid";
        cred_cap_effective = "cred.cap_effective";
        cred_cap_permitted = "cred.cap_permitted";
        cred_user_ns = "cred.user_ns";
        user_ns_inum = "user_namespace.ns.inum";
        nsproxy_mnt_ns = "nsproxy.mnt_ns";
        nsproxy_net_ns = "nsproxy.net_ns";
        mnt_ns_inum = "mnt_namespace.ns.inum";
        net_ns_inum = "net.ns.inum";
        pid_ns_inum = "pid_namespace.ns.inum";
        pid_level = "pid.level";
        pid_numbers = "pid.numbers";
        upid_nr = "upid.nr";
        upid_ns = "upid.ns";
        upid_size = "sizeof upid";
        fs_root = "fs_struct.root";
        fs_pwd = "fs_struct.pwd";
        path_dentry = "path.dentry";
        path_mnt = "path.mnt";
        files_fdt = "files_struct.fdt";
        fdt_fd = "fdtable.fd";
        fdt_max_fds = "fdtable.max_fds";
        file_path = "file.f_path";
        file_flags = "file.f_flags";
        file_mode = "file.f_mode";
        file_private_data = "file.private_data";
        dentry_parent = "dentry.d_parent";
        dentry_name = "dentry.d_name.name";
        dentry_name_hash = "dentry.d_name.hash_len";
        dentry_inode = "dentry.d_inode";
        vfsmount_root = "vfsmount.mnt_root";
        mount_mnt = "mount.mnt";
        mount_parent = "mount.mnt_parent";
        mount_mountpoint = "mount.mnt_mountpoint";
        inode_ino = "inode.i_ino";
        inode_mode = "inode.i_mode";
        inode_nlink = "inode.i_nlink";
        inode_uid = "inode.i_uid";
        inode_size = "inode.i_size";
        inode_sb = "inode.i_sb";
        inode_ctime_sec = "inode.i_ctime_sec|inode.__i_ctime.tv_sec|inode.i_ctime.tv_sec";
        inode_ctime_nsec = "inode.i_ctime_nsec|inode.__i_ctime.tv_nsec|inode.i_ctime.tv_nsec";
        inode_mtime_sec = "inode.i_mtime_sec|inode.__i_mtime.tv_sec|inode.i_mtime.tv_sec";
        inode_mtime_nsec = "inode.i_mtime_nsec|inode.__i_mtime.tv_nsec|inode.i_mtime.tv_nsec";
        sb_magic = "super_block.s_magic";
        sb_dev = "super_block.s_dev";
        socket_sk = "socket.sk";
        sock_family = "sock.__sk_common.skc_family";
        sock_state = "sock.__sk_common.skc_state";
        sock_type = "sock.sk_type";
        sock_protocol = "sock.sk_protocol";
        sock_local4 = "sock.__sk_common.skc_rcv_saddr";
        sock_remote4 = "sock.__sk_common.skc_daddr";
        sock_local_port = "sock.__sk_common.skc_num";
        sock_remote_port = "sock.__sk_common.skc_dport";
        bprm_file = "linux_binprm.file";
        bprm_filename = "linux_binprm.filename";
        bprm_interp = "linux_binprm.interp";
        siginfo_code = "kernel_siginfo.si_code";
        siginfo_errno = "kernel_siginfo.si_errno";
        siginfo_syscall = "kernel_siginfo._sifields._sigsys._syscall";
        siginfo_arch = "kernel_siginfo._sifields._sigsys._arch";
        regs_nr = "pt_regs.orig_ax|pt_regs.syscallno";
        regs_ip = "pt_regs.ip|pt_regs.pc";
        regs_arg0 = "pt_regs.di|pt_regs.orig_x0";
        regs_arg1 = "pt_regs.si|pt_regs.regs+8";
        regs_arg2 = "pt_regs.dx|pt_regs.regs+16";
        regs_arg3 = "pt_regs.r10|pt_regs.regs+24";
        regs_arg4 = "pt_regs.r8|pt_regs.regs+32";
        regs_arg5 = "pt_regs.r9|pt_regs.regs+40";
    }
    Compat {
        task_compat_word = "task_struct.thread_info.status|task_struct.thread_info.flags";
        regs_compat_arg0 = "pt_regs.bx|pt_regs.orig_x0";
        regs_compat_arg1 = "pt_regs.cx|pt_regs.regs+8";
        regs_compat_arg2 = "pt_regs.dx|pt_regs.regs+16";
        regs_compat_arg3 = "pt_regs.si|pt_regs.regs+24";
        regs_compat_arg4 = "pt_regs.di|pt_regs.regs+32";
        regs_compat_arg5 = "pt_regs.bp|pt_regs.regs+40";
    }
    SeccompExit {
        task_seccomp_filter = "task_struct.seccomp.filter";
        filter_prev = "seccomp_filter.prev";
        filter_prog = "seccomp_filter.prog";
        filter_log = "seccomp_filter.log";
        filter_allow_native = "seccomp_filter.cache.allow_native";
        prog_orig = "bpf_prog.orig_prog";
        fprog_len = "sock_fprog_kern.len";
        fprog_filter = "sock_fprog_kern.filter";
    }
    Nothing {
        filter_allow_compat = "seccomp_filter.cache.allow_compat";
        allow_native_size = "sizeof seccomp_filter.cache.allow_native";
        allow_compat_size = "sizeof seccomp_filter.cache.allow_compat";
    }
    Overlay {
        ovl_vfs_inode = "ovl_inode.vfs_inode";
        ovl_upperdentry = "ovl_inode.__upperdentry";
        ovl_flags = "ovl_inode.flags";
        ovl_upperdata_bit = "enum ovl_inode_flag:OVL_UPPERDATA";
    }
    OverlayLower {
        ovl_lower = "ovl_inode.oe|ovl_inode.lowerpath.dentry|ovl_inode.lower";
    }
    Nothing {
        ovl_entry_numlower = "ovl_entry.__numlower";
    }
    Mapping {
        find_vma = "enum bpf_func_id:BPF_FUNC_find_vma";
        vma_file = "vm_area_struct.vm_file";
    }
    Nothing {
        backing_user_path = "backing_file.user_path";
    }
    LoginUid {
        task_loginuid = "task_struct.loginuid";
    }
    Nothing {
        sock_local6 = "sock.__sk_common.skc_v6_rcv_saddr";
        sock_remote6 = "sock.__sk_common.skc_v6_daddr";
        unix_address = "unix_sock.addr";
        unix_address_len = "unix_address.len";
        unix_address_name = "unix_address.name";
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_one_row_per_field() {
        assert_eq!(Offsets::TABLE.len() * size_of::<u32>(), size_of::<Offsets>());
    }
}
