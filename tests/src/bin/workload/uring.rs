//! The least of `io_uring`: one request at a time, waited for.

use std::{
    ffi::CString,
    io, ptr,
    sync::atomic::{AtomicU32, Ordering},
};

use super::{call, number};

const ENTRIES: i64 = 4;
const OPENAT: u8 = 18;
const CLOSE: u8 = 19;
const WRITE: u8 = 23;
const AT_FDCWD: i32 = -100;
const O_WRONLY_CREAT: u32 = 0o101;
const GETEVENTS: i64 = 1;
const RINGS: i64 = 0;
const REQUESTS: i64 = 0x1000_0000;
const PROT_READ_WRITE: i64 = 3;
const MAP_SHARED: i64 = 1;

/// `struct io_uring_params`
#[repr(C)]
#[derive(Default)]
struct Params {
    entries: [u32; 10],
    /// `head`, `tail`, `ring_mask`, `ring_entries`, `flags`, `dropped`, `array`, and what is not used here.
    submission: [u32; 10],
    /// `head`, `tail`, `ring_mask`, `ring_entries`, `overflow`, `cqes`, and what is not used here.
    completion: [u32; 10],
}

/// `struct io_uring_sqe`
#[repr(C)]
struct Request {
    opcode: u8,
    flags: u8,
    priority: u16,
    fd: i32,
    offset: u64,
    address: u64,
    len: u32,
    operation: u32,
    rest: [u64; 4],
}

struct Ring {
    fd: i64,
    params: Params,
    rings: *mut AtomicU32,
    requests: *mut Request,
}

/// Writes a file that can be executed.
pub(super) fn write_program(path: &str, content: &[u8]) -> io::Result<()> {
    let ring = Ring::new()?;
    let path = CString::new(path)?;
    let request = |opcode, fd, offset, address: *const u8, len, operation| Request {
        opcode,
        flags: 0,
        priority: 0,
        fd,
        offset,
        address: address as u64,
        len,
        operation,
        rest: [0; 4],
    };
    let fd = ring.ask(request(OPENAT, AT_FDCWD, 0, path.as_ptr().cast(), 0o755, O_WRONLY_CREAT))?;
    let mut written = 0;
    while let Some(rest) = content.get(written..).filter(|rest| !rest.is_empty()) {
        let len = u32::try_from(rest.len()).unwrap_or(u32::MAX);
        let done = ring.ask(request(WRITE, fd, written as u64, rest.as_ptr(), len, 0))?;
        written += usize::try_from(done).unwrap_or(0);
    }
    ring.ask(request(CLOSE, fd, 0, ptr::null(), 0, 0)).map(drop)
}

impl Ring {
    fn new() -> io::Result<Self> {
        let mut params = Params::default();
        let fd = checked(call(number::IO_URING_SETUP, [ENTRIES, (&raw mut params) as i64, 0, 0, 0, 0]))?;
        let map = |offset| checked(call(number::MMAP, [0, 4096, PROT_READ_WRITE, MAP_SHARED, fd, offset]));
        let (rings, requests) = (map(RINGS)?, map(REQUESTS)?);
        Ok(Self { fd, params, rings: rings as *mut AtomicU32, requests: requests as *mut Request })
    }

    fn word(&self, offset: u32) -> &AtomicU32 {
        // SAFETY: the kernel's own offsets are of whole words in the first page of the rings, which stays mapped.
        unsafe { &*self.rings.add(offset as usize / size_of::<u32>()) }
    }

    fn ask(&self, request: Request) -> io::Result<i32> {
        let ([_, tail, _, _, _, _, array, ..], [head, _, mask, _, _, answers, ..]) =
            (self.params.submission, self.params.completion);
        // SAFETY: only one request is under way, so the first place is free.
        unsafe { self.requests.write(request) };
        let next = self.word(tail).load(Ordering::Acquire);
        let slots = u32::try_from(ENTRIES).unwrap_or(1);
        self.word(array + 4 * (next % slots)).store(0, Ordering::Relaxed);
        self.word(tail).store(next.wrapping_add(1), Ordering::Release);
        checked(call(number::IO_URING_ENTER, [self.fd, 1, 1, GETEVENTS, 0, 0]))?;
        let taken = self.word(head).load(Ordering::Acquire);
        let answer = answers + 16 * (taken & self.word(mask).load(Ordering::Relaxed));
        let returned = self.word(answer + 8).load(Ordering::Acquire).cast_signed();
        self.word(head).store(taken.wrapping_add(1), Ordering::Release);
        checked(i64::from(returned)).map(|_| returned)
    }
}

fn checked(returned: i64) -> io::Result<i64> {
    if returned < 0 { Err(io::Error::from_raw_os_error(i32::try_from(-returned).unwrap_or(0))) } else { Ok(returned) }
}
