//! What the kernel knows of a file: times, owner, and on an overlay the layer it comes from.

use monitor_ebpf::{
    offsets::MISSING,
    record::{FileFacts, file_flag},
};

use super::{globals::offset, read::probed, tail::Path};

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
    if file == 0 {
        return FileFacts::NONE;
    }
    let dentry = path(file).dentry;
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
