//! The tail of a record: strings and paths, one behind the other in scratch memory.
//!
//! A path is walked from the file up to the task's root, name by name. All state of the writing (where the next piece goes,
//! where the walk is) lives in scratch memory, not in registers: then every round and every branch looks the same to the
//! verifier (tens of thousands of instructions instead of more than a million), and plain bounded loops suffice, which
//! 5.3 has.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{
    bpf_probe_read_kernel, bpf_probe_read_kernel_str, bpf_probe_read_user, bpf_probe_read_user_str,
};
use monitor_ebpf::record::header_flag;

use super::{
    emit::OFFSET_MASK,
    globals::offset,
    maps::{SCRATCH_BYTES, Scratch},
    read::{Typed, probed, typed},
};

/// Components that a path may have; longer ones lose their beginning.
const MAX_COMPONENTS: u32 = 48;
/// Longest name of a file, NUL included.
const NAME_BYTES: u32 = 256;
/// Room that must be left for one more name and the fixed parts around it.
const RESERVE: u32 = 512;
/// Most bytes of user memory in one piece; a mask, too.
const USER_BYTES: u32 = 4095;
/// Longest text that a call is given (`PATH_MAX`), NUL included.
const TEXT_BYTES: u32 = 4096;
/// Most bytes of a structure; a mask, too. The longest of those that are read, `struct sockaddr_un`, has 110.
const STRUCTURE_BYTES: u32 = 127;

/// A dentry seen through a mount.
#[derive(Clone, Copy)]
pub struct Path {
    /// `struct dentry *`
    pub dentry: u64,
    /// `struct vfsmount *`
    pub mount: u64,
}

impl Path {
    /// No place.
    pub const NONE: Self = Self { dentry: 0, mount: 0 };

    /// The `struct path` at an offset in a struct that the verifier follows.
    ///
    /// # Safety
    /// `base` must be a pointer that the verifier holds for a BTF type, with a `struct path` at `offset`.
    #[inline(always)]
    pub unsafe fn within(base: Typed, offset: u32) -> Self {
        // SAFETY: the caller's promise.
        unsafe {
            Self { dentry: typed(base, offset + offset!(path_dentry)), mount: typed(base, offset + offset!(path_mnt)) }
        }
    }

    /// The `struct path` at an address.
    #[inline(always)]
    pub fn at(address: u64) -> Self {
        if offset!(path_dentry) == offset!(path_mnt) + 8 {
            let [mount, dentry]: [u64; 2] = probed(address, offset!(path_mnt));
            return Self { dentry, mount };
        }
        Self { dentry: probed(address, offset!(path_dentry)), mount: probed(address, offset!(path_mnt)) }
    }
}

/// State of the writing, at the end of scratch memory where no record reaches.
#[repr(C)]
struct State {
    here: Path,
    root: Path,
    offset: u64,
    start: u64,
    flags: u64,
}

/// Reads a member of the state, and really from memory.
macro_rules! get {
    ($tail:expr, $($member:ident).+) => {
        {
            // SAFETY: the state lies inside scratch memory and is aligned.
            let value = unsafe { (&raw const (*$tail.state()).$($member).+).read_volatile() };
            value
        }
    };
}

/// Writes a member of the state, and really to memory.
macro_rules! set {
    ($tail:expr, $($member:ident).+, $value:expr) => {
        {
            let value = $value;
            // SAFETY: as for `get!`.
            unsafe { (&raw mut (*$tail.state()).$($member).+).write_volatile(value) }
        }
    };
}

/// Writes the pieces of one record's tail.
#[derive(Clone, Copy)]
pub struct Tail {
    base: *mut u8,
}

impl Tail {
    /// Starts behind the fixed part.
    ///
    /// # Safety
    /// `scratch` must be scratch memory of the running program.
    #[inline(always)]
    pub unsafe fn behind<T>(scratch: *mut Scratch) -> Self {
        let tail = Self { base: scratch.cast() };
        set!(tail, offset, size_of::<T>() as u64);
        set!(tail, flags, 0);
        tail
    }

    /// Goes on behind the piece that was written last.
    ///
    /// # Safety
    /// As for [`Tail::behind`], which must have been called for this record.
    #[inline(always)]
    pub unsafe fn resume(scratch: *mut Scratch) -> Self {
        Self { base: scratch.cast() }
    }

    #[inline(always)]
    fn state(self) -> *mut State {
        // SAFETY: the last bytes of scratch memory are inside it; its alignment is the state's.
        unsafe { self.base.add(SCRATCH_BYTES - size_of::<State>()) }.cast()
    }

    /// Bytes of the record so far.
    #[inline(always)]
    pub fn len(self) -> u32 {
        get!(self, offset) as u32
    }

    /// Bits of [`header_flag`] that the pieces gave.
    #[inline(always)]
    pub fn flags(self) -> u16 {
        get!(self, flags) as u16
    }

    #[inline(always)]
    fn here(self) -> *mut c_void {
        // SAFETY: a masked offset is in the first half of scratch memory.
        unsafe { self.base.add((self.len() & OFFSET_MASK) as usize) }.cast()
    }

    #[inline(always)]
    fn advance(self, bytes: u32) {
        set!(self, offset, get!(self, offset) + u64::from(bytes));
    }

    #[inline(always)]
    fn flag(self, flag: u16) {
        set!(self, flags, get!(self, flags) | u64::from(flag));
    }

    /// Leaves room for a piece that is written by other means.
    #[inline(always)]
    pub fn skip(self, bytes: u32) {
        self.advance(bytes);
    }

    /// Marks the start of a piece, for [`Tail::piece`].
    #[inline(always)]
    fn begin(self) {
        set!(self, start, get!(self, offset));
    }

    /// Bytes since the last [`Tail::begin`].
    #[inline(always)]
    fn piece(self) -> u16 {
        (get!(self, offset) - get!(self, start)) as u16
    }

    /// Copies a NUL-terminated kernel string of at most `max` (up to 4096) bytes. Returns its bytes, NUL included.
    #[inline(always)]
    pub fn kernel_str(self, max: u32, source: u64) -> u16 {
        self.begin();
        self.name(max, source);
        self.piece()
    }

    #[inline(always)]
    fn name(self, max: u32, source: u64) {
        // SAFETY: `max` bytes behind a masked offset are inside scratch memory; the helper takes any source.
        let read = unsafe { bpf_probe_read_kernel_str(self.here(), max, source as *const c_void) };
        if read > 0 && read <= i64::from(max) {
            self.advance(read as u32);
        }
    }

    /// Copies user memory from `start` to `end`, cut at 4095 bytes. Returns the bytes copied.
    #[inline(always)]
    pub fn user_bytes(self, start: u64, end: u64) -> u16 {
        self.begin();
        let len = end.wrapping_sub(start);
        if len > u64::from(USER_BYTES) {
            self.flag(header_flag::TRUNCATED);
        }
        let len = core::hint::black_box(if len > u64::from(USER_BYTES) { USER_BYTES } else { len as u32 }) & USER_BYTES;
        // SAFETY: at most 4095 bytes behind a masked offset are inside scratch memory; the helper takes any source.
        if unsafe { bpf_probe_read_user(self.here(), len, start as *const c_void) } == 0 {
            self.advance(len);
        } else {
            self.flag(header_flag::UNREADABLE);
        }
        self.piece()
    }

    /// Copies a text of the caller's, cut at `PATH_MAX`; nothing from address 0. Returns its bytes, NUL included.
    #[inline(always)]
    pub fn user_str(self, source: u64) -> u16 {
        self.begin();
        if source == 0 {
            return 0;
        }
        // SAFETY: the text fits behind a masked offset; the helper takes any source.
        let read = unsafe { bpf_probe_read_user_str(self.here(), TEXT_BYTES, source as *const c_void) };
        if read < 0 {
            self.flag(header_flag::UNREADABLE);
        } else if read <= i64::from(TEXT_BYTES) {
            self.advance(read as u32);
        }
        self.piece()
    }

    /// Whether the last piece was a text that does not begin with a slash.
    #[inline(always)]
    pub fn is_relative(self) -> bool {
        let start = get!(self, start) as u32;
        // SAFETY: a masked offset is in the first half of scratch memory.
        let first = unsafe { self.base.add((start & OFFSET_MASK) as usize).read_volatile() };
        u64::from(start) != get!(self, offset) && first != b'/'
    }

    /// Copies a structure of the caller's, a socket address in most cases. Returns its bytes.
    #[inline(always)]
    pub fn structure(self, source: u64, len: u32) -> u16 {
        self.begin();
        let len = if source == 0 { 0 } else { bounded(len) };
        // SAFETY: at most 127 bytes behind a masked offset are inside scratch memory; the helper takes any source.
        if unsafe { bpf_probe_read_user(self.here(), len, source as *const c_void) } == 0 {
            self.advance(len);
        } else {
            self.flag(header_flag::UNREADABLE);
        }
        self.piece()
    }

    /// Copies a socket address of the kernel's. Returns its bytes.
    #[inline(always)]
    pub fn kernel_address(self, source: u64, len: u32) -> u16 {
        self.begin();
        let len = bounded(len);
        // SAFETY: as for the caller's.
        if unsafe { bpf_probe_read_kernel(self.here(), len, source as *const c_void) } == 0 {
            self.advance(len);
        }
        self.piece()
    }

    /// Writes a path as leaf-first components. Returns its bytes.
    #[inline(always)]
    pub fn path(self, from: Path, root: Path) -> u16 {
        self.begin();
        set!(self, here.dentry, from.dentry);
        set!(self, here.mount, from.mount);
        set!(self, root.dentry, root.dentry);
        set!(self, root.mount, root.mount);
        for _ in 0..MAX_COMPONENTS {
            if self.len() >= OFFSET_MASK - RESERVE || !self.step() {
                break;
            }
        }
        // The walk sets its place to null at the top; elsewhere it ran out of rounds or room.
        if get!(self, here.dentry) != 0 {
            self.flag(header_flag::TRUNCATED);
        }
        self.piece()
    }

    /// Writes the path of a directory that there is, as [`Tail::path`]; the root as one empty name.
    #[inline(always)]
    pub fn directory(self, place: Path, root: Path) -> u16 {
        let bytes = self.path(place, root);
        if bytes != 0 || place.dentry == 0 {
            return bytes;
        }
        // SAFETY: a masked offset is in the first half of scratch memory.
        unsafe { self.here().cast::<u8>().write(0) }
        self.advance(1);
        1
    }

    /// Goes one component up; false, and the place null, at the top.
    #[inline(always)]
    fn step(self) -> bool {
        let (dentry, mount): (u64, u64) = (get!(self, here.dentry), get!(self, here.mount));
        if dentry == 0 || (dentry == get!(self, root.dentry) && mount == get!(self, root.mount)) {
            set!(self, here.dentry, 0);
            return false;
        }
        if dentry == probed::<u64>(mount, offset!(vfsmount_root)) {
            // The root of a mount: go on at the place it is mounted on.
            let this = mount - u64::from(offset!(mount_mnt));
            let parent: u64 = probed(this, offset!(mount_parent));
            let top = parent == this || parent == 0;
            set!(self, here.dentry, if top { 0 } else { probed(this, offset!(mount_mountpoint)) });
            set!(self, here.mount, parent + u64::from(offset!(mount_mnt)));
            return true;
        }
        self.name(NAME_BYTES, probed(dentry, offset!(dentry_name)));
        // A dentry that is its own parent is the top of a tree that hangs nowhere: a memory file.
        let parent: u64 = probed(dentry, offset!(dentry_parent));
        set!(self, here.dentry, if parent == dentry { 0 } else { parent });
        true
    }
}

/// A length that the verifier believes; what claims to be longer is cut.
#[inline(always)]
fn bounded(len: u32) -> u32 {
    core::hint::black_box(if len > STRUCTURE_BYTES { STRUCTURE_BYTES } else { len }) & STRUCTURE_BYTES
}
