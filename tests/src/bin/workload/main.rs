//! What the test containers run: one misdeed or oddity per subcommand, so that a test knows exactly what happened.
//!
//! Linked statically and without dependencies (`rustc` alone builds it), because it runs in images that hold nothing else.
//! Every subcommand prints one JSON line with its name, pid, tid and what its calls returned (`-errno` for a failure).
#![expect(unsafe_code, reason = "raw system calls are what this program is for")]

mod calls;
#[cfg(target_arch = "x86_64")]
mod cases;
mod drift;
#[cfg(target_arch = "x86_64")]
mod filters;
#[cfg(target_arch = "x86_64")]
mod random;
mod uring;

use std::{
    env,
    ffi::{CString, c_int, c_long, c_void},
    fs::{self, File},
    hint, io,
    os::fd::AsRawFd as _,
    process::{Command, ExitCode, exit},
    ptr, thread,
    time::Duration,
};

/// Numbers of the system calls that the tests name.
#[cfg(target_arch = "x86_64")]
mod number {
    pub(super) const NAMED: &[(&str, i64)] = &[
        ("getpgid", GETPGID),
        ("acct", ACCT),
        ("getsid", GETSID),
        ("getppid", GETPPID),
        ("mkdir", 83),
        ("utime", UTIME),
        ("umount2", UMOUNT2),
    ];
    pub(super) const GETPGID: i64 = 121;
    pub(super) const ACCT: i64 = 163;
    pub(super) const GETSID: i64 = 124;
    pub(super) const GETPPID: i64 = 110;
    pub(super) const UTIME: i64 = 132;
    pub(super) const UMOUNT2: i64 = 166;
    pub(super) const CLONE: i64 = 56;
    pub(super) const EXIT_GROUP: i64 = 231;
    pub(super) const WAIT4: i64 = 61;
    pub(super) const KILL: i64 = 62;
    pub(super) const PAUSE: &[i64] = &[34];
    pub(super) const NANOSLEEP: i64 = 35;
    pub(super) const GETTID: i64 = 186;
    pub(super) const EXECVE: i64 = 59;
    pub(super) const EXECVEAT: i64 = 322;
    pub(super) const MEMFD_CREATE: i64 = 319;
    pub(super) const PTRACE: i64 = 101;
    pub(super) const PRCTL: i64 = 157;
    pub(super) const SECCOMP: i64 = 317;
    pub(super) const OPENAT: i64 = 257;
    pub(super) const PERSONALITY: i64 = 135;
    pub(super) const MMAP: i64 = 9;
    pub(super) const MPROTECT: i64 = 10;
    pub(super) const MOUNT: i64 = 165;
    pub(super) const UNSHARE: i64 = 272;
    pub(super) const IO_URING_SETUP: i64 = 425;
    pub(super) const IO_URING_ENTER: i64 = 426;
    pub(super) const CLOSE: i64 = 3;
}

/// Numbers of the system calls that the tests name.
#[cfg(target_arch = "aarch64")]
mod number {
    pub(super) const NAMED: &[(&str, i64)] =
        &[("getpgid", GETPGID), ("acct", ACCT), ("getsid", GETSID), ("getppid", GETPPID), ("umount2", UMOUNT2)];
    pub(super) const GETPGID: i64 = 155;
    pub(super) const ACCT: i64 = 89;
    pub(super) const GETSID: i64 = 156;
    pub(super) const GETPPID: i64 = 173;
    pub(super) const UMOUNT2: i64 = 39;
    pub(super) const CLONE: i64 = 220;
    pub(super) const EXIT_GROUP: i64 = 94;
    pub(super) const WAIT4: i64 = 260;
    pub(super) const KILL: i64 = 129;
    pub(super) const PAUSE: &[i64] = &[];
    pub(super) const NANOSLEEP: i64 = 101;
    pub(super) const GETTID: i64 = 178;
    pub(super) const EXECVE: i64 = 221;
    pub(super) const EXECVEAT: i64 = 281;
    pub(super) const MEMFD_CREATE: i64 = 279;
    pub(super) const PTRACE: i64 = 117;
    pub(super) const PRCTL: i64 = 167;
    pub(super) const SECCOMP: i64 = 277;
    pub(super) const OPENAT: i64 = 56;
    pub(super) const PERSONALITY: i64 = 92;
    pub(super) const MMAP: i64 = 222;
    pub(super) const MPROTECT: i64 = 226;
    pub(super) const MOUNT: i64 = 40;
    pub(super) const UNSHARE: i64 = 97;
    pub(super) const IO_URING_SETUP: i64 = 425;
    pub(super) const IO_URING_ENTER: i64 = 426;
    pub(super) const CLOSE: i64 = 57;
}

const SIGKILL: i64 = 9;
const SIGUSR1: i64 = 10;
const SIGCHLD: i64 = 17;
const SIGCONT: i64 = 18;
const SIGSTOP: i64 = 19;
const SIGSYS: i64 = 31;
const WUNTRACED: i64 = 2;
const AT_EMPTY_PATH: i64 = 0x1000;
const SELF: &str = "/proc/self/exe";

unsafe extern "C" {
    fn syscall(number: c_long, ...) -> c_long;
    fn signal(signal: c_int, handler: extern "C" fn(c_int)) -> usize;
}

/// One system call; `-errno` where it failed.
fn call(number: i64, args: [i64; 6]) -> i64 {
    let [first, second, third, fourth, fifth, sixth] = args;
    // SAFETY: libc's `syscall` passes the words on; every caller below passes numbers, null, or pointers into live buffers.
    let returned = unsafe { syscall(number, first, second, third, fourth, fifth, sixth) };
    if returned == -1 { -i64::from(io::Error::last_os_error().raw_os_error().unwrap_or(0)) } else { returned }
}

fn call0(number: i64) -> i64 {
    call(number, [0; 6])
}

/// The exit of a forked child: nothing of the parent's (buffers, handlers) may run there.
fn leave(code: i64) -> ! {
    loop {
        call(number::EXIT_GROUP, [code, 0, 0, 0, 0, 0]);
    }
}

/// A plain fork whose child does `work` (raw calls only) and leaves.
fn fork(work: impl FnOnce() -> i64) -> i64 {
    let pid = call(number::CLONE, [SIGCHLD, 0, 0, 0, 0, 0]);
    if pid == 0 {
        leave(work());
    }
    pid
}

fn wait(pid: i64, options: i64) -> i64 {
    let mut status: c_int = 0;
    let returned = call(number::WAIT4, [pid, (&raw mut status) as i64, options, 0, 0, 0]);
    if returned < 0 { returned } else { i64::from(status) }
}

fn kill(pid: i64, signal: i64) -> i64 {
    call(number::KILL, [pid, signal, 0, 0, 0, 0])
}

/// A vfork whose child leaves at once, without touching the stack that it shares.
#[cfg(target_arch = "x86_64")]
fn vfork() -> i64 {
    let mut returned: i64 = 58;
    // SAFETY: the child (rax = 0) only calls exit_group(0); it neither returns nor writes memory that the parent owns.
    unsafe {
        std::arch::asm!(
            "syscall", "test rax, rax", "jnz 2f", "mov eax, 231", "xor edi, edi", "syscall", "2:",
            inlateout("rax") returned, out("rcx") _, out("r11") _, out("rdi") _,
        );
    }
    returned
}

/// A vfork whose child leaves at once, without touching the stack that it shares.
#[cfg(target_arch = "aarch64")]
fn vfork() -> i64 {
    let mut returned: i64 = 0x4000 | 0x100 | SIGCHLD;
    // SAFETY: the child (x0 = 0) only calls exit_group(0); it neither returns nor writes memory that the parent owns.
    unsafe {
        std::arch::asm!(
            "svc 0", "cbnz x0, 2f", "mov x8, #94", "svc 0", "2:",
            inlateout("x0") returned, inout("x8") number::CLONE => _, in("x1") 0, in("x2") 0, in("x3") 0, in("x4") 0,
        );
    }
    returned
}

/// A system call of the 32-bit table: the second argument -1, so that no call named here does anything even to root; the others 0.
#[cfg(target_arch = "x86_64")]
fn int80(number: i32) -> i64 {
    let mut returned: i64 = i64::from(number);
    // SAFETY: rbx and rbp, which asm operands cannot name, are saved and restored; null arguments make the kernel touch no memory.
    unsafe {
        std::arch::asm!(
            "push rbx", "push rbp", "xor ebx, ebx", "xor ebp, ebp", "int 0x80", "pop rbp", "pop rbx",
            inlateout("rax") returned, in("rcx") 0xffff_ffff_u64, in("rdx") 0, in("rsi") 0, in("rdi") 0,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    returned
}

fn report(step: &str, returns: &[i64]) {
    println!(
        "{{\"step\":\"{step}\",\"pid\":{},\"tid\":{},\"returns\":{returns:?}}}",
        std::process::id(),
        call0(number::GETTID)
    );
}

/// Replaces this process by the program open at `fd`, as `noop`.
fn execute(fd: i64, path: &str, name: &str) -> i64 {
    let (Ok(path), Ok(name), Ok(noop)) = (CString::new(path), CString::new(name), CString::new("noop")) else {
        return -22;
    };
    let argv = [name.as_ptr(), noop.as_ptr(), ptr::null()];
    let envp = [ptr::null::<c_void>()];
    if fd < 0 {
        return call(number::EXECVE, [path.as_ptr() as i64, argv.as_ptr() as i64, envp.as_ptr() as i64, 0, 0, 0]);
    }
    call(number::EXECVEAT, [fd, path.as_ptr() as i64, argv.as_ptr() as i64, envp.as_ptr() as i64, AT_EMPTY_PATH, 0])
}

/// Runs itself from memory: no file ever existed.
fn memfd() -> io::Result<i64> {
    let fd = call(number::MEMFD_CREATE, [c"payload".as_ptr() as i64, 1, 0, 0, 0, 0]);
    io::copy(&mut File::open(SELF)?, &mut File::options().write(true).open(format!("/proc/self/fd/{fd}"))?)?;
    Ok(execute(fd, "", "from-memory"))
}

/// Runs a copy of itself whose name is gone already.
fn deleted() -> io::Result<i64> {
    let path = "/tmp/deleted";
    fs::copy(SELF, path)?;
    let file = File::open(path)?;
    fs::remove_file(path)?;
    Ok(execute(i64::from(file.as_raw_fd()), "", "deleted"))
}

/// Calls exec from a thread that is not the leader, while siblings sit in system calls.
fn thread_exec() -> ! {
    spawn_siblings();
    let _ = thread::spawn(|| execute(-1, SELF, "from-thread")).join();
    exit(1)
}

fn spawn_siblings() {
    for index in 0..4 {
        thread::spawn(move || {
            loop {
                if index % 2 == 0 {
                    call0(number::GETPPID);
                } else {
                    thread::sleep(Duration::from_mins(1));
                }
            }
        });
    }
}

extern "C" fn handled(_signal: c_int) {}

/// A filter that allows everything, on top of whatever the container has.
fn allow_all_filter() -> i64 {
    #[repr(C)]
    struct Instruction(u16, u8, u8, u32);
    #[repr(C)]
    struct Program(u16, *const Instruction);
    let code = [Instruction(0x06, 0, 0, 0x7fff_0000)];
    let program = Program(1, code.as_ptr());
    call(number::PRCTL, [38, 1, 0, 0, 0, 0]);
    call(number::SECCOMP, [1, 0, (&raw const program) as i64, 0, 0, 0])
}

/// Everything that is allowed and still looks odd to one who watches system calls: see each step.
fn churn() -> io::Result<Vec<i64>> {
    let mut returns = Vec::new();
    for _ in 0..20 {
        returns.push(wait(fork(|| 0), 0));
        returns.push(wait(vfork(), 0));
    }
    let threads: Vec<_> =
        (0..8).map(|_| thread::spawn(|| (0..50).map(|_| call0(number::GETPPID)).sum::<i64>())).collect();
    for thread in threads {
        let _ = hint::black_box(thread.join());
    }
    returns.extend(signals());
    returns.extend(odd_numbers());
    returns.push(emulated());
    // Refused by the kernel itself, with the errno that the profile uses (EFAULT, and no harm, where it is allowed).
    returns.push(call0(number::UMOUNT2));
    // Exec that fails, exec from a thread, and the end of a process whose threads are inside calls.
    returns.push(execute(-1, "/nonexistent", "x"));
    returns.push(execute(-1, "/proc/self/cmdline", "x"));
    for step in ["thread-exec", "siblings", "nested", "noop"] {
        returns.push(i64::from(Command::new(SELF).arg(step).status()?.code().unwrap_or(-1)));
    }
    Ok(returns)
}

/// Handlers (sigreturn), restarted calls, death inside a call, and a SIGSYS that seccomp did not send.
fn signals() -> Vec<i64> {
    let own = i64::from(std::process::id());
    // SAFETY: the handler does nothing, so that it is async-signal-safe.
    unsafe { signal(10, handled) };
    let mut returns: Vec<i64> = (0..20).map(|_| kill(own, SIGUSR1)).collect();
    let sleeper = fork(|| {
        let interval: [i64; 2] = [0, 30_000_000];
        call(number::NANOSLEEP, [interval.as_ptr() as i64, 0, 0, 0, 0, 0])
    });
    thread::sleep(Duration::from_millis(10));
    returns.extend([kill(sleeper, SIGSTOP), wait(sleeper, WUNTRACED), kill(sleeper, SIGCONT), wait(sleeper, 0)]);
    let blocked = fork(|| {
        let interval: [i64; 2] = [60, 0];
        for &pause in number::PAUSE {
            call0(pause);
        }
        call(number::NANOSLEEP, [interval.as_ptr() as i64, 0, 0, 0, 0, 0])
    });
    thread::sleep(Duration::from_millis(2));
    returns.extend([kill(blocked, SIGKILL), wait(blocked, 0)]);
    let suicide = fork(|| kill(call0(number::GETTID), SIGSYS));
    returns.push(wait(suicide, 0));
    returns
}

/// Numbers that mean something else in another table, or nothing at all.
fn odd_numbers() -> Vec<i64> {
    let mut returns = vec![call0(1000), call0(-1), call0(0x7fff_fff0)];
    #[cfg(target_arch = "x86_64")]
    {
        // x32's getpid; the 32-bit getpid; 32-bit calls with the numbers of the 64-bit denied and killed ones (setdomainname,
        // refused by the kernel itself with EPERM, and mremap); the 64-bit call with the number of the 32-bit denied one.
        returns.push(call0(0x4000_0027));
        returns.push(int80(20));
        #[expect(clippy::cast_possible_truncation, reason = "numbers of system calls are small")]
        returns.extend([int80(number::GETPGID as i32), int80(number::ACCT as i32), int80(30_000)]);
        returns.push(call0(number::UTIME));
    }
    returns
}

/// A tracer that skips a call of its child (as user-mode emulators do): the call never enters, and seccomp has no part in it.
fn emulated() -> i64 {
    let traced = fork(|| {
        call(number::PTRACE, [0, 0, 0, 0, 0, 0]);
        kill(call0(number::GETTID), SIGSTOP);
        call0(number::GETPPID);
        call0(number::GETPPID);
        0
    });
    wait(traced, 0);
    call(number::PTRACE, [31, traced, 0, 0, 0, 0]);
    wait(traced, 0);
    call(number::PTRACE, [7, traced, 0, 0, 0, 0]);
    wait(traced, 0)
}

/// How often a file could be opened within some milliseconds.
fn opens_for(milliseconds: u64) -> i64 {
    let end = std::time::Instant::now() + Duration::from_millis(milliseconds);
    let mut opens = 0;
    while std::time::Instant::now() < end {
        for _ in 0..100 {
            let fd = call(number::OPENAT, [-100, c"/bin/workload".as_ptr() as i64, 0, 0, 0, 0]);
            call(number::CLOSE, [fd, 0, 0, 0, 0, 0]);
            opens += 1;
        }
    }
    opens
}

/// Forks so often, with at most a few children at a time; how many there were.
fn bomb(processes: usize) -> i64 {
    const AT_ONCE: usize = 64;
    let mut born = 0;
    for left in (1..=processes).rev().step_by(AT_ONCE) {
        let children: Vec<i64> = (0..left.min(AT_ONCE)).map(|_| fork(|| 0)).collect();
        born += i64::try_from(children.iter().filter(|child| **child > 0).count()).unwrap_or(0);
        for child in children.into_iter().filter(|child| *child > 0) {
            wait(child, 0);
        }
    }
    born
}

fn times(argument: Option<&String>) -> usize {
    argument.and_then(|n| n.parse().ok()).unwrap_or(1)
}

fn main() -> ExitCode {
    let args: Vec<String> = env::args().collect();
    let step = args.get(1).map_or("noop", String::as_str);
    let returns = match step {
        "noop" => Ok(vec![]),
        "call" => {
            let named = number::NAMED.iter().find(|(name, _)| args.get(2).is_some_and(|wanted| wanted == name));
            let Some(&(_, number)) = named else {
                eprintln!("workload: no number for {:?}", args.get(2));
                return ExitCode::from(2);
            };
            Ok((0..times(args.get(3))).map(|_| call0(number)).collect())
        }
        "denied" => Ok((0..times(args.get(2))).map(|_| call0(number::GETPGID)).collect()),
        #[cfg(target_arch = "x86_64")]
        "denied-int80" => Ok((0..times(args.get(2))).map(|_| int80(132)).collect()),
        "logged" => Ok((0..times(args.get(2))).map(|_| call0(number::GETSID)).collect()),
        "killed" => Ok(vec![call0(number::ACCT)]),
        #[cfg(target_arch = "x86_64")]
        "calls" => {
            let done = calls::make_all(args.get(2).map_or("/tmp", String::as_str));
            return if done.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        }
        // Opens as fast as it can, for so many milliseconds, in so many processes.
        "flood" => {
            let milliseconds = times(args.get(2)) as u64;
            let others: Vec<i64> = (1..times(args.get(3)))
                .map(|_| {
                    fork(|| {
                        report(step, &[opens_for(milliseconds)]);
                        0
                    })
                })
                .collect();
            let opens = opens_for(milliseconds);
            for child in others {
                wait(child, 0);
            }
            Ok(vec![opens])
        }
        // So many processes, one after the other but for a few.
        "bomb" => Ok(vec![bomb(times(args.get(2)))]),
        // A call that nobody else makes and that changes nothing, so often.
        "burst" => {
            let made = (0..times(args.get(2))).map(|_| call(number::PERSONALITY, [0xffff_ffff, 0, 0, 0, 0, 0]));
            Ok(vec![made.fold(0, |_, returned| returned)])
        }
        #[cfg(target_arch = "x86_64")]
        "stacks" => Ok(random::stacks(times(args.get(2)) as u64, times(args.get(3)) as u64)),
        #[cfg(target_arch = "x86_64")]
        "case" => match args.get(2).and_then(|name| cases::make(name)) {
            Some(returns) => returns,
            None => {
                eprintln!("workload: no case {:?}", args.get(2));
                return ExitCode::from(2);
            }
        },
        "churn" => churn(),
        "memfd" => memfd().map(|e| vec![e]),
        "deleted" => deleted().map(|e| vec![e]),
        "drift" => drift::run(args.get(2).map_or("", String::as_str), args.get(3)),
        "thread-exec" => thread_exec(),
        "siblings" => {
            spawn_siblings();
            thread::sleep(Duration::from_millis(5));
            Ok(vec![])
        }
        #[cfg(target_arch = "x86_64")]
        "nested" if args.len() > 2 => {
            let installed = filters::install(&filters::deny(number::GETPGID, filters::ERRNO | 1), 0);
            Ok(vec![installed, call0(number::GETPGID)])
        }
        "nested" => Ok(vec![allow_all_filter(), call0(number::GETPPID), call0(number::UMOUNT2)]),
        other => {
            eprintln!("workload: unknown step {other:?}");
            return ExitCode::from(2);
        }
    };
    match returns {
        Ok(returns) => {
            report(step, &returns);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("workload: {step}: {error}");
            ExitCode::FAILURE
        }
    }
}
