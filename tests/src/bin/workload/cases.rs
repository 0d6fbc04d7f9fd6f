//! What may be done to a call by seccomp, and what only looks like it: one case each, under filters that the case installs.
//!
//! Each returns; where something has to die, it is a child.

use std::{
    fs,
    io::{self, Read as _},
    process::Command,
    sync::{
        atomic::{AtomicU8, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use super::{
    SELF, SIGSTOP, call, call0, execute,
    filters::{
        ALLOW, ERRNO, KILL_PROCESS, KILL_THREAD, LISTENER, LOG, TRACE, TRAP, TSYNC, USER_NOTIF, answer, deny,
        deny_argument, install, install_by_prctl, int80,
    },
    fork, handled, kill, number, signal, signals, spawn_siblings, vfork, wait,
};

const PIPE2: i64 = 293;
const READ: i64 = 0;
const WRITE: i64 = 1;
const IOCTL: i64 = 16;
const SETITIMER: i64 = 38;
const GETPID: i64 = 39;
const PR_SET_NAME: i64 = 15;
const PR_SET_SECCOMP: i64 = 22;
const PR_SET_SYSCALL_USER_DISPATCH: i64 = 59;
const X32_GETPGID: i64 = 0x4000_0000 | number::GETPGID;
const SIGALRM: i32 = 14;
const SIGSYS: i32 = 31;
const EPERM: u32 = 1;
const EINTR: u32 = 4;
const EBADF: u32 = 9;

/// Makes a case. `None` where there is none of this name.
pub(super) fn make(name: &str) -> Option<io::Result<Vec<i64>>> {
    let plain = match name {
        "errno" => denied(ERRNO | EPERM, 3),
        "errno-0" => denied(ERRNO, 2),
        "errno-too-large" => denied(ERRNO | 0x1388, 1),
        "trap" => handled_sigsys(|| denied(TRAP | 7, 2)),
        "trace-without-tracer" => denied(TRACE, 2),
        "log" => denied(LOG, 2),
        "kill-process" => vec![dies(KILL_PROCESS)],
        "kill-thread" => vec![dies(KILL_THREAD)],
        "kill-unknown-action" => vec![dies(0x1234_0000)],
        "strict" => vec![wait(fork(strict), 0)],
        "notified" => notified(),
        "traced" => vec![traced()],
        "skipped" => vec![skipped(PTRACE_SYSCALL)],
        "emulated" => vec![skipped(PTRACE_SYSEMU)],
        "compat" => under(&deny(132, ERRNO | EPERM), || vec![int80(20, 0, 0), int80(132, 0, 0), int80(132, 0, 0)]),
        "x32" => under(&deny(X32_GETPGID, ERRNO | EPERM), || [X32_GETPGID, number::GETPGID].map(call0).to_vec()),
        "no-such-call" => under(&deny(1000, ERRNO | EPERM), || [1000, 1001, -1, 0x7fff_fff0].map(call0).to_vec()),
        "children" => under(&deny(number::GETPGID, ERRNO | EPERM), children),
        "no-clone" => under(&deny(number::CLONE, ERRNO | EPERM), || vec![call(number::CLONE, [17, 0, 0, 0, 0, 0])]),
        "exec-arguments" => execs(ERRNO | EPERM),
        "exec-arguments-0" => execs(ERRNO),
        "genuine-errno" => under(&deny_argument(number::CLOSE, 0, 77, ERRNO | EBADF), || {
            (50..110).map(|fd| call(number::CLOSE, [fd, 0, 0, 0, 0, 0])).collect()
        }),
        "signals" => interrupted(),
        "user-dispatch" => dispatched(),
        "tsync" => tsync(),
        "stacked" => stacked(),
        "no-filters" => under(&deny(number::SECCOMP, ERRNO | EPERM), || vec![install(&[answer(ALLOW)], 0)]),
        "no-filters-0" => under(&deny(number::SECCOMP, ERRNO), || vec![install(&[answer(ALLOW)], 0)]),
        "no-prctl-0" => under(&deny(number::PRCTL, ERRNO), || vec![install_by_prctl(&[answer(ALLOW)])]),
        "prctl-logged" => under(&deny(number::PRCTL, LOG), || {
            (0..2).map(|_| call(number::PRCTL, [PR_SET_NAME, c"x".as_ptr() as i64, 0, 0, 0, 0])).collect()
        }),
        "kill-thread-among-siblings" => return Some(lost_thread()),
        "kill-among-siblings" => return Some(again("dies-among-siblings")),
        "dies-among-siblings" => dies_among_siblings(),
        "exec-from-thread" => return Some(exec_from_thread()),
        "early" => return Some(early()),
        _ => return None,
    };
    Some(Ok(plain))
}

fn under(filter: &[super::filters::Instruction], work: impl FnOnce() -> Vec<i64>) -> Vec<i64> {
    let mut returns = vec![install(filter, 0)];
    returns.extend(work());
    returns
}

fn denied(action: u32, times: usize) -> Vec<i64> {
    under(&deny(number::GETPGID, action), || (0..times).map(|_| call0(number::GETPGID)).collect())
}

/// The same in a child that does not survive it; how it ended.
fn dies(action: u32) -> i64 {
    wait(fork(|| denied(action, 1).into_iter().sum()), 0)
}

fn handled_sigsys(work: impl FnOnce() -> Vec<i64>) -> Vec<i64> {
    // SAFETY: the handler does nothing, so that it is async-signal-safe.
    unsafe { signal(SIGSYS, handled) };
    work()
}

/// Strict mode: any call but a few kills.
fn strict() -> i64 {
    call(number::PRCTL, [PR_SET_SECCOMP, 1, 0, 0, 0, 0]);
    call0(GETPID)
}

/// A supervisor that refuses one call of its child and lets another go on.
fn notified() -> Vec<i64> {
    const RECEIVE: i64 = 0xc050_2100;
    const SEND: i64 = 0xc018_2101;
    const CONTINUE: u64 = 1;
    let listener = install(&deny(number::GETPGID, USER_NOTIF), LISTENER);
    let child = fork(|| call0(number::GETPGID) + call0(number::GETPGID));
    let mut returns = vec![];
    for (error, flags) in [(-13_i32, 0), (0, CONTINUE)] {
        let mut notice = [0_u64; 10];
        returns.push(call(IOCTL, [listener, RECEIVE, notice.as_mut_ptr() as i64, 0, 0, 0]));
        let [id, ..] = notice;
        let answer = [id, 0, u64::from(error.cast_unsigned()) | flags << 32];
        returns.push(call(IOCTL, [listener, SEND, answer.as_ptr() as i64, 0, 0, 0]));
    }
    returns.push(wait(child, 0).min(0));
    returns
}

const PTRACE_CONT: i64 = 7;
const PTRACE_SYSCALL: i64 = 24;
const PTRACE_SYSEMU: i64 = 31;
const PTRACE_GETREGS: i64 = 12;
const PTRACE_SETREGS: i64 = 13;
const PTRACE_SETOPTIONS: i64 = 0x4200;
const PTRACE_O_TRACESECCOMP: i64 = 0x80;
/// Places of the number and of the result in `struct user_regs_struct`.
const ORIG_RAX: usize = 15;
const RAX: usize = 10;

fn ptrace(request: i64, child: i64, data: i64) -> i64 {
    call(number::PTRACE, [request, child, 0, data, 0, 0])
}

/// The child's call is not made, and it gets this instead.
fn skip(child: i64, result: i64) {
    let mut registers = [0_i64; 27];
    ptrace(PTRACE_GETREGS, child, registers.as_mut_ptr() as i64);
    registers[ORIG_RAX] = -1;
    registers[RAX] = result;
    ptrace(PTRACE_SETREGS, child, registers.as_ptr() as i64);
}

fn tracee(filter: &[super::filters::Instruction]) -> i64 {
    fork(|| {
        ptrace(0, 0, 0);
        install(filter, 0);
        kill(call0(number::GETTID), SIGSTOP);
        call0(number::GETPGID);
        call0(number::GETPGID)
    })
}

/// A filter that asks the tracer, which skips the first call and lets the second go on.
fn traced() -> i64 {
    let child = tracee(&deny(number::GETPGID, TRACE));
    wait(child, 0);
    ptrace(PTRACE_SETOPTIONS, child, PTRACE_O_TRACESECCOMP);
    ptrace(PTRACE_CONT, child, 0);
    wait(child, 0);
    skip(child, -13);
    ptrace(PTRACE_CONT, child, 0);
    wait(child, 0);
    ptrace(PTRACE_CONT, child, 0);
    wait(child, 0).min(0)
}

/// A tracer that stops its child at the entry of a call, by this request, and skips it; seccomp has no part in that.
fn skipped(request: i64) -> i64 {
    let child = tracee(&deny(number::ACCT, ERRNO | EPERM));
    wait(child, 0);
    ptrace(request, child, 0);
    wait(child, 0);
    skip(child, 77);
    ptrace(PTRACE_CONT, child, 0);
    wait(child, 0).min(0)
}

/// First exits of children, of all kinds.
fn children() -> Vec<i64> {
    let mut returns = Vec::new();
    for _ in 0..10 {
        returns.extend([wait(fork(|| 0), 0), wait(vfork(), 0)]);
    }
    let threads: Vec<_> = (0..4).map(|_| thread::spawn(|| call0(number::GETPPID))).collect();
    returns.extend(threads.into_iter().map(|thread| thread.join().unwrap_or(-1).min(0)));
    for step in ["noop", "siblings"] {
        let status = Command::new(SELF).arg(step).output().ok().and_then(|output| output.status.code());
        returns.push(status.unwrap_or(-1).into());
    }
    returns
}

/// A filter that looks at an argument of exec, which is gone when exec succeeds. Half of them are denied.
fn execs(action: u32) -> Vec<i64> {
    under(&deny_argument(number::EXECVE, 1, 0, action), || {
        let run = |round: i64| {
            let path = c"/proc/self/exe".as_ptr() as i64;
            wait(
                fork(|| {
                    if round % 2 == 0 {
                        call(number::EXECVE, [path, 0, 0, 0, 0, 0]);
                    }
                    execute_quietly()
                }),
                0,
            )
        };
        (0..10).map(run).collect()
    })
}

/// Runs this program so that it prints nothing.
fn execute_quietly() -> i64 {
    call(number::CLOSE, [1, 0, 0, 0, 0, 0]);
    execute(-1, SELF, "quiet")
}

/// A thousand signals a second, restarted calls, and a filter that answers as an interrupted call does.
fn interrupted() -> Vec<i64> {
    let mut returns = under(&deny(number::GETPGID, ERRNO | EINTR), signals);
    // SAFETY: the handler does nothing, so that it is async-signal-safe.
    unsafe { signal(SIGALRM, handled) };
    let every = [0_i64, 1000, 0, 1000];
    call(SETITIMER, [0, every.as_ptr() as i64, 0, 0, 0, 0]);
    for _ in 0..200 {
        returns.push(call0(number::GETPGID));
        let pause = [0_i64, 300_000];
        call(number::NANOSLEEP, [pause.as_ptr() as i64, 0, 0, 0, 0, 0]);
    }
    call(SETITIMER, [0, [0_i64; 4].as_ptr() as i64, 0, 0, 0, 0]);
    returns
}

/// Whether calls are handed to the process itself by SIGSYS: a byte that the kernel reads.
static SELECTOR: AtomicU8 = AtomicU8::new(0);

extern "C" fn take_back(_signal: i32) {
    SELECTOR.store(0, Ordering::Relaxed);
}

/// A call that the process itself asked to be told of by SIGSYS: no filter said so.
fn dispatched() -> Vec<i64> {
    under(&deny(number::ACCT, ERRNO | EPERM), || {
        // SAFETY: the handler stores a byte, which is async-signal-safe.
        unsafe { signal(SIGSYS, take_back) };
        let selector = SELECTOR.as_ptr() as i64;
        let on = call(number::PRCTL, [PR_SET_SYSCALL_USER_DISPATCH, 1, 0, 0, selector, 0]);
        if on == 0 {
            SELECTOR.store(1, Ordering::Relaxed);
            call0(number::GETSID);
            SELECTOR.store(0, Ordering::Relaxed);
        }
        vec![on.min(0)]
    })
}

/// Threads sit in a read when a filter that denies it is put on them.
fn tsync() -> Vec<i64> {
    let mut ends = [0_i32; 2];
    call(PIPE2, [ends.as_mut_ptr() as i64, 0, 0, 0, 0, 0]);
    let [reader, writer] = ends.map(i64::from);
    let threads: Vec<_> = (0..4)
        .map(|_| {
            thread::spawn(move || {
                let mut byte = 0_u8;
                call(READ, [reader, (&raw mut byte) as i64, 1, 0, 0, 0])
            })
        })
        .collect();
    // Not this thread, which is reading, too: the file that says so.
    let own = std::process::id().to_string();
    let sleeping = || {
        let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
        tasks.filter(|task| {
            let is_reading = |call: String| call.starts_with("0 ");
            task.file_name() != *own && fs::read_to_string(task.path().join("syscall")).is_ok_and(is_reading)
        })
    };
    while sleeping().count() < threads.len() {
        thread::sleep(Duration::from_millis(1));
    }
    let installed = install(&deny(READ, ERRNO | EPERM), TSYNC);
    call(WRITE, [writer, c"abcd".as_ptr() as i64, 4, 0, 0, 0]);
    let mut returns = vec![installed];
    returns.extend(threads.into_iter().map(|thread| thread.join().unwrap_or(-1)));
    returns
}

fn stacked() -> Vec<i64> {
    let older = install(&deny(number::GETPGID, ERRNO | 1), 0);
    let newer = install(&deny(number::GETSID, ERRNO | 2), 0);
    // Of two that deny the same the stricter action wins, and of equal actions the newer filter.
    let both = install(&deny(number::ACCT, ERRNO | 3), 0) + install(&deny(number::ACCT, ERRNO | 4), 0);
    let calls = [number::GETPGID, number::GETSID, number::ACCT, number::GETPPID].map(call0);
    [&[older, newer, both][..], &calls].concat()
}

/// One thread of several is killed. Its end is awaited by hand: a thread that does not return leaves nothing to join.
fn lost_thread() -> io::Result<Vec<i64>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        // A receiver that is gone is the parent's problem.
        let _ = sender.send(call0(number::GETTID));
        denied(KILL_THREAD, 1)
    });
    let thread = receiver.recv().map_err(io::Error::other)?;
    while fs::exists(format!("/proc/self/task/{thread}"))? {
        thread::sleep(Duration::from_millis(1));
    }
    Ok(vec![0])
}

/// Runs another case in a program of its own.
fn again(case: &str) -> io::Result<Vec<i64>> {
    let output = Command::new(SELF).args(["case", case]).output()?;
    Ok(vec![output.status.code().unwrap_or(-1).into()])
}

fn dies_among_siblings() -> Vec<i64> {
    spawn_siblings();
    thread::sleep(Duration::from_millis(5));
    let installed = install(&deny(number::GETPGID, KILL_PROCESS), TSYNC);
    vec![installed, call0(number::GETPGID)]
}

/// An exec by a thread that is not the leader, which takes the leader's id.
fn exec_from_thread() -> io::Result<Vec<i64>> {
    let installed = install(&deny(number::GETPGID, ERRNO | EPERM), 0);
    let mut returns = vec![installed];
    for _ in 0..5 {
        returns.push(Command::new(SELF).arg("thread-exec").output()?.status.code().unwrap_or(-1).into());
    }
    Ok(returns)
}

/// Waits inside of a call, under a filter, until standard input ends.
fn early() -> io::Result<Vec<i64>> {
    let installed = install(&deny(number::GETPGID, ERRNO | EPERM), 0);
    eprintln!("waiting");
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(vec![installed, call0(number::GETPGID), call0(number::GETPGID)])
}
