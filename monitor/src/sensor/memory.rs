//! Gives back the memory that starting took.
//!
//! glibc learns from the first large block that is freed (the kernel's types, some five MiB) to keep blocks of that size, and
//! would hold on to everything that loading the programs needs for a moment: twelve MiB for nothing.

/// Large blocks go back to the kernel when they are freed; `mallopt(3)`. Setting the limits also keeps them from growing.
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "the allocator's limits are set through its C interface alone")]
pub(super) fn return_large_blocks() {
    const LARGE_BYTES: i32 = 128 * 1024;
    // SAFETY: sets two numbers of the allocator under its own lock; any value is valid.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE_BYTES);
        libc::mallopt(libc::M_TRIM_THRESHOLD, LARGE_BYTES);
    }
}

/// Other allocators do not learn that.
#[cfg(not(target_env = "gnu"))]
pub(super) fn return_large_blocks() {}
