//! Random stacks of filters, and random calls under them: each stack in a process of its own, named after the parent.
//!
//! What is called follows no pointer and changes nothing outside of the process, whatever its arguments. What the program itself
//! needs to live is allowed by every filter.

use super::{
    call, call0,
    filters::{ALLOW, ERRNO, Instruction, KILL_PROCESS, LOG, TRACE, TRAP, answer, argument, install, int80, load},
    fork, handled, number, signal, wait,
};

/// Calls that filters judge: `getpgid`, `getsid`, `personality`, `socket`, `kcmp`, `getpriority`, `lseek`, `dup2`, `fcntl`, `ioctl`,
/// `getppid`, `getuid`, `getgid`, `getpid`, `gettid`, `umask`, `io_uring_setup`, `clone`, `prctl`, and numbers that no call has.
const CALLS: [i64; 22] =
    [121, 124, 135, 41, 312, 140, 8, 33, 72, 16, 110, 102, 104, 39, 186, 95, 425, 56, 157, 1000, 490, 500];
/// The same for the 32-bit table: `getpid`, `getpgid`, `getsid`, `getuid32`, `getuid`, `getppid`, `socket`, and none.
const COMPAT_CALLS: [i64; 8] = [20, 132, 147, 199, 24, 64, 359, 3000];
/// What every filter allows, by number: calls without which a process cannot go on, install filters, handle signals and end.
const NEEDED: &[u32] = &[15, 231, 60, 13, 9, 11, 12, 1, 131, 202, 14, 158, 218, 273, 334, 0, 3, 28, 10];
const SECCOMP: u32 = 317;
const SOCKET: i64 = 41;
const PR_SET_NAME: i64 = 15;
const CLONE_THREAD: i64 = 0x1_0000;
const CLONE_SIGHAND: i64 = 0x800;
const X32_BIT: i64 = 0x4000_0000;

const ERRNOS: [u32; 10] = [1, 9, 22, 38, 0, 3, 4000, 4095, 5000, 0xffff];

/// Numbers that look random (xorshift64*).
struct Numbers(u64);

impl Numbers {
    fn new(seed: u64) -> Self {
        let mut numbers = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        for _ in 0..9 {
            numbers.next();
        }
        numbers
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    /// One below `bound`.
    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    #[expect(clippy::cast_possible_truncation, clippy::indexing_slicing, reason = "no list here is empty or long")]
    fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len() as u64) as usize]
    }

    /// A value of an argument, or that one is compared with: few, so that they meet.
    fn value(&mut self) -> u64 {
        match self.below(8) {
            0 => self.below(4),
            1 => 40,
            2 => u64::MAX,
            3 => 0xffff_ffff,
            4 => 1 << self.below(64),
            5 => self.next(),
            6 => 0x7fff_ffff,
            _ => self.below(64),
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "half of it is wanted")]
    fn word(&mut self) -> u32 {
        self.value() as u32
    }

    #[expect(clippy::cast_possible_truncation, reason = "small")]
    fn small(&mut self, bound: u64) -> u32 {
        self.below(bound) as u32
    }
}

/// What a filter says.
fn action(numbers: &mut Numbers, may_kill: bool) -> u32 {
    match numbers.below(12) {
        0..=3 => ERRNO | numbers.pick(&ERRNOS),
        4 => TRAP | numbers.small(9),
        5 => LOG,
        6 => TRACE | numbers.small(5),
        // The last is an action that no kernel knows.
        7 if may_kill => numbers.pick(&[0, KILL_PROCESS, 0x1234_0000]),
        7 => ERRNO | 0xe,
        _ => ALLOW,
    }
}

/// Some arithmetic on what was loaded.
fn arithmetic(numbers: &mut Numbers, block: &mut Vec<Instruction>) {
    match numbers.below(9) {
        0 => block.push(Instruction(0x54, 0, 0, numbers.word())),
        1 => {
            // By memory and the index register: add, sub, mul, div, or, and, shifts, xor.
            let operation = numbers.pick(&[0x0c, 0x1c, 0x2c, 0x3c, 0x4c, 0x5c, 0x6c, 0x7c, 0xac]);
            let (store, to_index) = (Instruction(0x02, 0, 0, 3), Instruction(0x07, 0, 0, 0));
            block.extend([store, load(argument(1)), to_index, Instruction(0x60, 0, 0, 3)]);
            block.push(Instruction(operation, 0, 0, 0));
        }
        2 => block.push(Instruction(0x74, 0, 0, numbers.small(32))),
        3 => block.push(Instruction(0x84, 0, 0, 0)),
        4 => block.push(Instruction(0xa4, 0, 0, numbers.word())),
        // Divided by the length of what a filter sees.
        5 => block.extend([Instruction(0x81, 0, 0, 0), Instruction(0x3c, 0, 0, 0)]),
        6 => block.push(Instruction(0x64, 0, 0, numbers.small(32))),
        7 => block.push(Instruction(0x04, 0, 0, numbers.word())),
        _ => block.push(Instruction(0x34, 0, 0, 1 + numbers.small(50))),
    }
}

/// A filter. It allows what is needed, most of them the next filter, too.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "numbers and blocks are small")]
fn filter(numbers: &mut Numbers, may_kill: bool) -> Vec<Instruction> {
    let mut program = vec![load(0)];
    let denies_filters = numbers.below(20) == 0;
    for nr in NEEDED.iter().copied().chain((!denies_filters).then_some(SECCOMP)) {
        program.extend([Instruction(0x15, 0, 1, nr), answer(ALLOW)]);
    }
    if denies_filters {
        program.extend([Instruction(0x15, 0, 1, SECCOMP), answer(ERRNO | numbers.pick(&[0, 1, 22]))]);
    }
    for _ in 0..3 + numbers.below(12) {
        let nr = if numbers.below(6) == 0 { numbers.pick(&COMPAT_CALLS) } else { numbers.pick(&CALLS) };
        let mut block = Vec::new();
        let low = argument(numbers.small(6));
        if numbers.below(3) != 0 {
            // Either half of an argument, either half of the instruction pointer, or the architecture.
            block.push(load(numbers.pick(&[low, low + 4, 16, 8, 12, 4])));
            for _ in 0..numbers.below(4) {
                arithmetic(numbers, &mut block);
            }
            // Equal, greater, greater or equal, any bit.
            block.push(Instruction(numbers.pick(&[0x15, 0x25, 0x35, 0x45]), 0, 1, numbers.word()));
        }
        block.extend([answer(action(numbers, may_kill)), answer(action(numbers, may_kill))]);
        program.extend([load(0), Instruction(0x15, 0, block.len() as u8, nr as u32)]);
        program.extend(block);
    }
    let default = if numbers.below(5) == 0 { action(numbers, false) } else { ALLOW };
    program.push(answer(default));
    program
}

/// One random call.
#[expect(clippy::cast_possible_wrap, reason = "arguments are bits")]
fn make(numbers: &mut Numbers) {
    let args = [(); 6].map(|()| numbers.value() as i64);
    let [first, second, third, rest @ ..] = args;
    let with = |first| [first, second, third, rest[0], rest[1], rest[2]];
    if numbers.below(8) == 0 {
        int80(numbers.pick(&COMPAT_CALLS), first, second);
        return;
    }
    let nr = numbers.pick(&CALLS);
    let returned = match nr {
        // Made so that nothing comes of it: a thread that shares no handlers, an unknown option, bad descriptors.
        56 => call(56, [(first | CLONE_THREAD) & !CLONE_SIGHAND, 0, 0, 0, 0, 0]),
        157 => call(157, with(1000 + (first & 7))),
        425 => call(425, [0; 6]),
        8 | 16 | 33 | 72 => call(nr, with(-1)),
        135 => call(135, with(0xffff_ffff)),
        SOCKET => call(SOCKET, [first & 63, second & 15, third & 255, rest[0], rest[1], rest[2]]),
        _ => call(nr | if numbers.below(20) == 0 { X32_BIT } else { 0 }, args),
    };
    if nr == SOCKET && returned > 2 {
        call(number::CLOSE, [returned, 0, 0, 0, 0, 0]);
    }
}

/// Calls by all processes, and filters that were installed; in memory that parent and children share.
struct Counts {
    calls: *mut u64,
    filters: *mut u64,
}

impl Counts {
    fn new() -> Option<Self> {
        const MAP_SHARED_ANONYMOUS: i64 = 0x21;
        let page = call(9, [0, 4096, 3, MAP_SHARED_ANONYMOUS, -1, 0]);
        (page > 0).then(|| Self { calls: page as *mut u64, filters: (page + 8) as *mut u64 })
    }

    fn of(counter: *mut u64) -> u64 {
        // SAFETY: the page stays mapped as long as this process lives.
        unsafe { counter.read_volatile() }
    }

    fn count(counter: *mut u64) {
        // SAFETY: as above; one process at a time writes.
        unsafe { counter.write_volatile(counter.read_volatile() + 1) }
    }
}

/// One stack of one to four filters, with calls between.
fn stack(seed: u64, counts: &Counts) -> i64 {
    let mut numbers = Numbers::new(seed);
    // SAFETY: the handler does nothing, so that it is async-signal-safe.
    unsafe { signal(31, handled) };
    let filters: Vec<_> = (0..=numbers.below(4))
        .map(|_| {
            let may_kill = numbers.below(8) == 0;
            filter(&mut numbers, may_kill)
        })
        .collect();
    for (index, filter) in filters.iter().enumerate() {
        if install(filter, 0) == 0 {
            Counts::count(counts.filters);
        }
        let calls = if index + 1 == filters.len() { 900 } else { 60 };
        for _ in 0..calls {
            Counts::count(counts.calls);
            make(&mut numbers);
        }
    }
    0
}

/// Goes on with stacks until so many calls were made. Returns stacks, filters and calls.
pub(super) fn stacks(seed: u64, calls: u64) -> Vec<i64> {
    let Some(counts) = Counts::new() else { return Vec::new() };
    let name = format!("o{}\0", std::process::id());
    call(number::PRCTL, [PR_SET_NAME, name.as_ptr() as i64, 0, 0, 0, 0]);
    let mut stacks = 0;
    while Counts::of(counts.calls) < calls {
        wait(fork(|| stack(seed + stacks, &counts)), 0);
        stacks += 1;
    }
    call0(number::GETTID);
    [stacks, Counts::of(counts.filters), Counts::of(counts.calls)].map(u64::cast_signed).to_vec()
}
