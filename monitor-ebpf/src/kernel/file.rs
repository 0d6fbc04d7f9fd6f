//! What the kernel knows of a file: times, owner, and on an overlay the layer it comes from.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_find_vma;
use monitor_ebpf::{
    offsets::MISSING,
    record::{FileFacts, file_flag},
};

use super::{
    globals::offset,
    read::{Typed, probed, typed},
    tail::Path,
};

/// `OVERLAYFS_SUPER_MAGIC`
pub const OVERLAY_MAGIC: u32 = 0x794c_7630;
/// `TMPFS_MAGIC`
pub const TMPFS_MAGIC: u32 = 0x0102_1994;

const NANOSECONDS: u64 = 1_000_000_000;
/// "memfd:" as the first six bytes of a little-endian word.
const MEMFD_PREFIX: u64 = 0x3a64_666d_656d;
const MEMFD_PREFIX_MASK: u64 = 0xffff_ffff_ffff;

/// Facts of the file behind a `struct file *`; all zero for a null pointer.
#[inline(always)]
pub fn facts(file: u64) -> FileFacts {
    if file == 0 { FileFacts::NONE } else { facts_at(path(file)) }
}

/// Facts of the file at a place; all zero where there is none.
#[inline(always)]
pub fn facts_at(place: Path) -> FileFacts {
    let dentry = place.dentry;
    if dentry == 0 {
        return FileFacts::NONE;
    }
    // Through the dentry, not `f_inode`: before 6.5 the latter is the lower file system's inode for a mapped overlay file.
    let inode: u64 = probed(dentry, offset!(dentry_inode));
    let sb: u64 = probed(inode, offset!(inode_sb));
    let fs_magic = probed::<u64>(sb, offset!(sb_magic)) as u32;
    let nlink: u32 = probed(inode, offset!(inode_nlink));
    FileFacts {
        ino: probed(inode, offset!(inode_ino)),
        size_bytes: probed(inode, offset!(inode_size)),
        ctime_ns: time(inode, offset!(inode_ctime_sec), offset!(inode_ctime_nsec)),
        mtime_ns: time(inode, offset!(inode_mtime_sec), offset!(inode_mtime_nsec)),
        dev: probed(sb, offset!(sb_dev)),
        fs_magic,
        mode: u32::from(probed::<u16>(inode, offset!(inode_mode))),
        nlink,
        uid: probed(inode, offset!(inode_uid)),
        flags: links(dentry, nlink) | if fs_magic == OVERLAY_MAGIC { layer(inode) } else { 0 },
    }
}

/// The file that is mapped at an address of the running task, as the task opened it.
///
/// # Safety
/// `current` must be the running task.
#[inline(always)]
pub unsafe fn mapped(current: Typed, address: u64) -> Path {
    if offset!(find_vma) == MISSING || offset!(vma_file) == MISSING {
        return Path::NONE;
    }
    let mut file = 0_u64;
    // SAFETY: the caller's promise; the helper calls back before it returns, with the pointer that it is given.
    unsafe {
        bpf_find_vma(current.cast_mut().cast(), address, see_mapping as *mut c_void, (&raw mut file).cast(), 0);
    }
    if file == 0 {
        return Path::NONE;
    }
    // An overlay maps the layer's file in place of its own, and the overlay's path stands behind that (6.8 and newer). Which
    // files have one no flag says that stays the same: what leads to an overlay is such a path.
    if offset!(backing_user_path) != MISSING {
        let place = Path::at(file + u64::from(offset!(backing_user_path)));
        let inode: u64 = probed(place.dentry, offset!(dentry_inode));
        if probed::<u64>(probed(inode, offset!(inode_sb)), offset!(sb_magic)) as u32 == OVERLAY_MAGIC {
            return place;
        }
    }
    path(file)
}

/// Notes the file of a mapping.
unsafe extern "C" fn see_mapping(_task: *mut c_void, mapping: *mut c_void, file: *mut c_void) -> i64 {
    let seen: u64 = probed(mapping as u64, offset!(vma_file));
    // SAFETY: `mapped` gave the pointer to a word of its own.
    unsafe { *file.cast::<u64>() = seen };
    0
}

/// Device of the file system that a task has as its root.
///
/// # Safety
/// `task` must be a pointer that the verifier holds for a task.
#[inline(always)]
pub unsafe fn root_device(task: Typed) -> u32 {
    // SAFETY: the caller's promise.
    let fs: u64 = unsafe { typed(task, offset!(task_fs)) };
    let inode: u64 = probed(Path::at(fs + u64::from(offset!(fs_root))).dentry, offset!(dentry_inode));
    probed(probed::<u64>(inode, offset!(inode_sb)), offset!(sb_dev))
}

/// Type and permission bits of a task's standard input; 0 where it has none.
///
/// # Safety
/// As for [`root_device`].
#[inline(always)]
pub unsafe fn stdin_mode(task: Typed) -> u32 {
    // SAFETY: the caller's promise.
    let file = unsafe { descriptor(task, 0) };
    let inode: u64 = if file == 0 { 0 } else { probed(path(file).dentry, offset!(dentry_inode)) };
    if inode == 0 { 0 } else { u32::from(probed::<u16>(inode, offset!(inode_mode))) }
}

/// The `struct file *` behind a descriptor of a task, 0 if there is none.
///
/// # Safety
/// As for [`root_device`].
#[inline(always)]
pub unsafe fn descriptor(task: Typed, fd: u32) -> u64 {
    // SAFETY: the caller's promise.
    let (max_fds, files): (u32, u64) = unsafe {
        let fdt: Typed = typed(typed(task, offset!(task_files)), offset!(files_fdt));
        (typed(fdt, offset!(fdt_max_fds)), typed(fdt, offset!(fdt_fd)))
    };
    if fd >= max_fds {
        return 0;
    }
    probed(files + u64::from(fd) * 8, 0)
}

/// The path of a `struct file *`.
#[inline(always)]
pub fn path(file: u64) -> Path {
    Path::at(file + u64::from(offset!(file_path)))
}

#[inline(always)]
fn time(inode: u64, seconds: u32, nanoseconds: u32) -> u64 {
    probed::<u64>(inode, seconds).wrapping_mul(NANOSECONDS).wrapping_add(u64::from(probed::<u32>(inode, nanoseconds)))
}

/// Whether a name leads to the file. By the count of links, not by the dentry: file systems unhash dentries of files that
/// are still there.
#[inline(always)]
fn links(dentry: u64, nlink: u32) -> u32 {
    if nlink != 0 {
        return 0;
    }
    let name: u64 = probed(probed(dentry, offset!(dentry_name)), 0);
    if name & MEMFD_PREFIX_MASK == MEMFD_PREFIX { file_flag::UNLINKED | file_flag::MEMFD } else { file_flag::UNLINKED }
}

/// Layers of an overlay inode: `container_of(inode, struct ovl_inode, vfs_inode)`.
#[inline(always)]
fn layer(inode: u64) -> u32 {
    if offset!(ovl_vfs_inode) == MISSING || offset!(ovl_upperdentry) == MISSING {
        return file_flag::OVERLAY | file_flag::OVERLAY_LOWER_UNKNOWN;
    }
    let overlay = inode - u64::from(offset!(ovl_vfs_inode));
    let mut flags = file_flag::OVERLAY;
    if probed::<u64>(overlay, offset!(ovl_upperdentry)) != 0 {
        flags |= file_flag::OVERLAY_UPPER;
    }
    if offset!(ovl_flags) != MISSING && offset!(ovl_upperdata_bit) != MISSING {
        let bits: u64 = probed(overlay, offset!(ovl_flags));
        if bits >> (offset!(ovl_upperdata_bit) & 63) & 1 != 0 {
            flags |= file_flag::OVERLAY_UPPER_DATA;
        }
    }
    flags | lower(overlay)
}

/// Whether a lower layer has the file: a dentry before 6.5, a counted entry since.
#[inline(always)]
fn lower(overlay: u64) -> u32 {
    if offset!(ovl_lower) == MISSING {
        return file_flag::OVERLAY_LOWER_UNKNOWN;
    }
    let lower: u64 = probed(overlay, offset!(ovl_lower));
    let present = if offset!(ovl_entry_numlower) == MISSING {
        lower != 0
    } else {
        lower != 0 && probed::<u32>(lower, offset!(ovl_entry_numlower)) != 0
    };
    if present { file_flag::OVERLAY_LOWER } else { 0 }
}
