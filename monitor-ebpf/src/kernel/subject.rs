//! The subject of an open: a digest of the call, its flags, and the way from the file up to the task's root; or where there is
//! no file, because it failed, of the name that it was given.
//!
//! Each step has the dentry's address and the hash of its name, which the kernel makes with the parent's address, so that two files
//! with one digest have one path: a file that is renamed, or a directory above it, has another. No name is read. Where
//! a file system begins that is mounted, the mount and the place that it is mounted on go in as well. All state of the walk
//! lies in scratch memory, for the reason that [`super::tail`] gives.

use monitor_ebpf::subject::{Digest, SLOTS, Subject};

use super::{
    globals::{SETTINGS, offset},
    maps::{SCRATCH_BYTES, SUBJECTS, Scratch},
    read::probed,
    tail::Path,
};

const S_IFMT: u32 = 0o170_000;
/// Words of a name that was given; a longer one has no subject.
const MAX_TEXT_WORDS: u32 = 64;

/// State of the walk, in the second half of scratch memory, where no record reaches.
#[repr(C)]
struct State {
    here: Path,
    root: Path,
    digest: u64,
    factor: u64,
    is_complete: u64,
    inode: u64,
    bytes: u64,
    answer: u64,
}

/// A digest that is being made.
#[derive(Clone, Copy)]
pub struct Walk {
    state: *mut State,
}

/// Reads a member of the state, and really from memory.
macro_rules! get {
    ($walk:expr, $($member:ident).+) => {
        {
            // SAFETY: the state lies inside scratch memory and is aligned.
            let value = unsafe { (&raw const (*$walk.state).$($member).+).read_volatile() };
            value
        }
    };
}

/// Writes a member of the state, and really to memory.
macro_rules! set {
    ($walk:expr, $($member:ident).+, $value:expr) => {
        {
            let value = $value;
            // SAFETY: as for `get!`.
            unsafe { (&raw mut (*$walk.state).$($member).+).write_volatile(value) }
        }
    };
}

/// Four times, until it is false.
macro_rules! four {
    ($step:expr) => {
        $step && $step && $step && $step
    };
}

/// Six times, until it is false.
macro_rules! six {
    ($step:expr) => {
        $step && $step && $step && $step && $step && $step
    };
}

/// What came of asking whether rules want to hear of an open.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Answer(u64);

impl Answer {
    /// It was not asked.
    pub const NONE: Self = Self(0);
    /// Some rule may: the record has the subject for the agent to find out, and its first text.
    pub const WANTED: Self = Self(1);
    /// None does. The record has its first text.
    pub const BORING: Self = Self(2);
    /// None does, and no text was read.
    pub const BORING_UNREAD: Self = Self(3);

    /// Whether no rule does.
    #[inline(always)]
    pub const fn is_boring(self) -> bool {
        self.0 >= Self::BORING.0
    }

    /// Whether the record has its first text.
    #[inline(always)]
    pub const fn has_text(self) -> bool {
        self.0 == Self::WANTED.0 || self.0 == Self::BORING.0
    }

    /// Leaves it to the program that goes on.
    ///
    /// # Safety
    /// `scratch` must be scratch memory of the running program.
    #[inline(always)]
    pub unsafe fn leave(self, scratch: *mut Scratch) {
        // SAFETY: the caller's promise.
        let walk = unsafe { Walk::of(scratch) };
        set!(walk, answer, self.0);
    }

    /// What the program before has left, once.
    ///
    /// # Safety
    /// As for [`Answer::leave`].
    #[inline(always)]
    pub unsafe fn take(scratch: *mut Scratch) -> Self {
        // SAFETY: the caller's promise.
        let walk = unsafe { Walk::of(scratch) };
        let answer = get!(walk, answer);
        set!(walk, answer, Self::NONE.0);
        Self(answer)
    }
}

/// Whether no rule wants to hear of it.
#[inline(always)]
pub fn is_boring(subject: Subject) -> bool {
    subject != Subject::NONE && SUBJECTS.get(subject.slot() & (SLOTS - 1)).is_some_and(|known| *known == subject.0)
}

impl Walk {
    /// The one in scratch memory.
    ///
    /// # Safety
    /// `scratch` must be scratch memory of the running program.
    #[inline(always)]
    unsafe fn of(scratch: *mut Scratch) -> Self {
        // SAFETY: the caller's promise; the state fits behind the middle.
        Self { state: unsafe { scratch.cast::<u8>().add(SCRATCH_BYTES / 2) }.cast() }
    }

    /// Begins with what tells calls apart besides files and names.
    ///
    /// # Safety
    /// `scratch` must be scratch memory of the running program.
    #[inline(always)]
    pub unsafe fn begin(scratch: *mut Scratch, call: [u64; 3]) -> Self {
        // SAFETY: the caller's promise; the key is read-only data.
        let (walk, seed, factor) = unsafe {
            let key = &raw const SETTINGS.subject_key;
            (Self::of(scratch), (&raw const (*key).seed).read_volatile(), (&raw const (*key).factor).read_volatile())
        };
        set!(walk, factor, factor);
        set!(walk, digest, Digest(seed).with(factor, call[0]).with(factor, call[1]).with(factor, call[2]).0);
        walk
    }

    /// Begins anew with a subject.
    #[inline(always)]
    pub fn again(self, start: u64, subject: Subject) {
        set!(self, digest, start);
        self.take(subject.0);
    }

    /// Goes up from a file, or a directory, to the task's root, and takes what kind of file it is. The subject so far; none where
    /// the way has more than 24 steps or does not lead there.
    #[inline(always)]
    pub fn up(self, from: Path, root: Path) -> Subject {
        set!(self, is_complete, 0);
        set!(self, inode, 0);
        set!(self, here.dentry, from.dentry);
        set!(self, here.mount, from.mount);
        set!(self, root.dentry, root.dentry);
        set!(self, root.mount, root.mount);
        // Written out, for in a loop the compiler lets a round fall into the next one, which Linux 6.1 refuses ("back-edge").
        let _ = four!(six!(self.step()));
        self.take(u64::from(u32::from(probed::<u16>(get!(self, inode), offset!(inode_mode))) & S_IFMT));
        if get!(self, is_complete) == 0 { Subject::NONE } else { self.subject() }
    }

    /// Takes a text of so many bytes. The subject so far; none where the text is too long or there is none.
    ///
    /// # Safety
    /// `text` must be in the first half of scratch memory, aligned to eight bytes.
    #[inline(always)]
    pub unsafe fn text(self, text: *const u8, bytes: u32) -> Subject {
        set!(self, bytes, u64::from(bytes));
        for at in 0..MAX_TEXT_WORDS {
            // From memory each time: how long the text is must not tell the rounds apart.
            let rest = get!(self, bytes).wrapping_sub(u64::from(at) * 8) as i64;
            if rest <= 0 {
                break;
            }
            // SAFETY: the caller's promise; it reaches no further than the second half of scratch memory.
            let word = unsafe { text.add(at as usize * 8).cast::<u64>().read_volatile() };
            // What stands behind the text is of an earlier record.
            let unused = if rest < 8 { (8 - rest as u64) * 8 } else { 0 };
            self.take(word & u64::MAX >> (unused & 63));
        }
        let bytes = get!(self, bytes);
        self.take(bytes);
        if bytes == 0 || bytes > u64::from(MAX_TEXT_WORDS) * 8 { Subject::NONE } else { self.subject() }
    }

    /// What has been taken so far.
    #[inline(always)]
    pub fn subject(self) -> Subject {
        Digest(get!(self, digest)).subject()
    }

    /// Takes a word.
    #[inline(always)]
    pub fn take(self, word: u64) {
        set!(self, digest, Digest(get!(self, digest)).with(get!(self, factor), word).0);
    }

    /// Goes one step up; false at the task's root, where the way is complete, and where nothing is above.
    #[inline(always)]
    fn step(self) -> bool {
        let (dentry, mount): (u64, u64) = (get!(self, here.dentry), get!(self, here.mount));
        self.take(dentry);
        if dentry == get!(self, root.dentry) && mount == get!(self, root.mount) {
            set!(self, is_complete, 1);
            return false;
        }
        let [parent, name, inode] = links(dentry);
        if get!(self, inode) == 0 {
            set!(self, inode, inode);
        }
        if parent != dentry {
            self.take(name);
            set!(self, here.dentry, parent);
            return true;
        }
        // The top of a file system: go on at the place it is mounted on. There is none for a memory file.
        let this = mount - u64::from(offset!(mount_mnt));
        let above: u64 = probed(this, offset!(mount_parent));
        self.take(mount);
        self.take(probed(mount, offset!(vfsmount_root)));
        set!(self, here.dentry, probed(this, offset!(mount_mountpoint)));
        set!(self, here.mount, above + u64::from(offset!(mount_mnt)));
        above != this && above != 0
    }
}

/// The dentry above, hash and length of the name, and the inode.
#[inline(always)]
fn links(dentry: u64) -> [u64; 3] {
    let first = offset!(dentry_parent);
    if offset!(dentry_name_hash) == first + 8 && offset!(dentry_inode) == first + 24 {
        // At once: what costs is the call.
        let [parent, name, _, inode]: [u64; 4] = probed(dentry, first);
        return [parent, name, inode];
    }
    [probed(dentry, first), probed(dentry, offset!(dentry_name_hash)), probed(dentry, offset!(dentry_inode))]
}
