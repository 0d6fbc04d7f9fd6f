//! The maps: one ring, counters, scratch memory, and what seccomp needs to remember.

use core::{ffi::c_void, ptr};

use aya_ebpf::{
    bindings::task_struct,
    helpers::bpf_task_storage_get,
    macros::{btf_map, map},
    maps::{Array, HashMap, LruHashMap, PerCpuArray, ProgramArray, RingBuf},
};
use monitor_ebpf::{
    settings::{Budget, Class, Counter, LossKey, Made, Wanted},
    subject::SLOTS,
};

/// Bytes of one scratch buffer: twice what a record may fill, so that masked offsets plus one bounded read stay inside.
pub const SCRATCH_BYTES: usize = 32 * 1024;

/// Scratch memory of one program on one CPU. A program never interrupts itself on a CPU (the kernel counts and skips
/// that), and no two programs share one.
#[repr(C, align(8))]
pub struct Scratch(pub [u8; SCRATCH_BYTES]);

/// Records to the agent. The agent sets the size.
#[map]
pub static RECORDS: RingBuf = RingBuf::with_byte_size(8 << 20, 0);

/// Counters by kind, see [`Counter::index`].
#[map]
pub static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Counter::KINDS * Counter::PER_KIND, 0);

/// Which calls each cgroup makes, where that is to be noted. A hash, because ids are sparse; a full one takes no more cgroups.
#[map]
pub static MADE: HashMap<u64, Made> = HashMap::with_max_entries(4096, 0);

/// What cgroups have used of the ring lately. A hash, because ids are sparse; LRU, because cgroups come and go: one that is
/// evicted starts anew.
#[map]
pub static BUDGETS: LruHashMap<u64, Budget> = LruHashMap::with_max_entries(4096, 0);

/// Lost records by whose they were. Written when something is lost, and then only. LRU: the counters have the whole number.
#[map]
pub static LOSSES: LruHashMap<LossKey, u64> = LruHashMap::with_max_entries(4096, 0);

/// Scratch of the exec program.
#[map]
pub static EXEC_SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

/// Scratch of the program for wanted calls.
#[map]
pub static CALL_SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

/// Scratch of the task iterator, which runs once.
#[map]
pub static TASK_SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

/// Scratch of the seccomp program.
#[map]
pub static FILTER_SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

/// Scratch of the cgroup programs.
#[map]
pub static CGROUP_SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

/// Programs behind `sys_exit`, by [`monitor_ebpf::settings::Class`].
#[map]
pub static SYS_EXIT_CLASSES: ProgramArray = ProgramArray::with_max_entries(Class::COUNT, 0);

/// What is wanted. A map, not read-only data: rules change while the programs run.
#[map]
pub static WANTED: Array<Wanted> = Array::with_max_entries(1, 0);

/// Subjects that no rule wants to hear of, each in its slot. The agent puts them in.
#[map]
pub static SUBJECTS: Array<u64> = Array::with_max_entries(SLOTS, 0);

/// Generation of each seccomp filter that was sent, by address. A hash, because addresses are sparse; LRU, because no
/// hook tells of a filter's end. An evicted filter is sent again.
#[map]
pub static FILTER_GENERATIONS: LruHashMap<u64, u64> = LruHashMap::with_max_entries(4096, 0);

/// Where a task is between `sys_enter` and `sys_exit`: bits of [`entered`].
#[btf_map]
pub static ENTERED: TaskStorage<u64> = TaskStorage::new();

/// Opens for reading that a program may still make before nobody takes them for a script's any more, see
/// [`super::script`]. Only tasks that run a program of an overlay have an entry.
#[btf_map]
pub static SCRIPT_OPENS: TaskStorage<u64> = TaskStorage::new();

/// Bits of [`ENTERED`].
pub mod entered {
    /// The task's calls have been watched since before the current one.
    pub const WATCHED: u64 = 1;
    /// The task passed `sys_enter`.
    pub const INSIDE: u64 = 1 << 1;
}

/// `BPF_MAP_TYPE_TASK_STORAGE`, which aya-ebpf 0.2 does not offer: freed with its task, and unlike a hash by thread id right
/// across an exec from a thread.
#[repr(C)]
pub struct TaskStorage<T> {
    r#type: *const [i32; 29],
    key: *const i32,
    value: *const T,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; 1],
}

// SAFETY: the struct only describes a map to the loader; its pointers are null and never followed.
unsafe impl<T> Sync for TaskStorage<T> {}

impl<T> TaskStorage<T> {
    const fn new() -> Self {
        Self {
            r#type: ptr::null(),
            key: ptr::null(),
            value: ptr::null(),
            max_entries: ptr::null(),
            map_flags: ptr::null(),
        }
    }

    /// The task's entry, made on first use.
    ///
    /// # Safety
    /// `task` must be a pointer that the verifier holds for a task.
    #[inline(always)]
    pub unsafe fn entry(&self, task: *mut task_struct) -> Option<*mut T> {
        const CREATE: u64 = 1;
        // SAFETY: the caller's promise.
        unsafe { self.find(task, CREATE) }
    }

    /// The task's entry, if it has one.
    ///
    /// # Safety
    /// As for [`TaskStorage::entry`].
    #[inline(always)]
    pub unsafe fn get(&self, task: *mut task_struct) -> Option<*mut T> {
        // SAFETY: the caller's promise.
        unsafe { self.find(task, 0) }
    }

    #[inline(always)]
    unsafe fn find(&self, task: *mut task_struct, flags: u64) -> Option<*mut T> {
        // SAFETY: the map pointer is this map, the task is the caller's promise.
        let entry = unsafe {
            bpf_task_storage_get(ptr::from_ref(self).cast_mut().cast::<c_void>(), task, ptr::null_mut(), flags)
        };
        (!entry.is_null()).then_some(entry.cast())
    }
}
