//! A profile that allows what containers were seen to do, and the evidence for each call.
//!
//! JSON has no comments and no runtime takes unknown keys for granted, so the evidence goes into a text of its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use serde_json::{Value, json};

use super::{
    observe::{Observed, Seen},
    profile::{Abi, Action},
};

/// Programs that are listed for a call.
const MAX_LISTED: usize = 5;
/// Calls that a container makes before its program runs, or whose end no capture tells: runc and crun need them under the
/// filter of a container that may gain privileges.
pub const ALWAYS: &[&str] = &[
    "brk",
    "capget",
    "capset",
    "chdir",
    "clone",
    "close",
    "close_range",
    "dup2",
    "dup3",
    "epoll_ctl",
    "epoll_pwait",
    "execve",
    "exit",
    "exit_group",
    "faccessat2",
    "fchdir",
    "fchown",
    "fcntl",
    "fstat",
    "fstatfs",
    "futex",
    "getdents64",
    "getpid",
    "getppid",
    "gettid",
    "getuid",
    "madvise",
    "mmap",
    "munmap",
    "nanosleep",
    "newfstatat",
    "openat",
    "openat2",
    "prctl",
    "read",
    "readlinkat",
    "restart_syscall",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "sched_yield",
    "setgid",
    "setgroups",
    "setuid",
    "sigaltstack",
    "statfs",
    "tgkill",
    "write",
];

/// A profile and what speaks for it.
#[derive(Clone, Debug)]
pub struct Generated {
    /// `linux.seccomp` of the OCI runtime spec.
    pub profile: Value,
    /// Markdown: each call with what was seen.
    pub evidence: String,
}

/// Makes the profile. Calls that neither were seen nor are needed fail with EPERM.
pub fn generate(observed: &Observed, native: Abi) -> Generated {
    let mut seen: BTreeMap<String, Seen> = BTreeMap::new();
    let mut abis = BTreeSet::from([native]);
    for (made, calls) in observed.containers.values().flat_map(|container| &container.calls) {
        abis.insert(made.abi);
        let own = seen
            .entry(made.abi.call_name(made.nr).into_owned())
            .or_insert_with(|| Seen { times_ns: calls.times_ns, ..Seen::default() });
        own.count += calls.count;
        own.times_ns = (own.times_ns.0.min(calls.times_ns.0), own.times_ns.1.max(calls.times_ns.1));
        for (program, count) in &calls.programs {
            *own.programs.entry(program.clone()).or_default() += count;
        }
    }
    // A number without a name cannot be allowed.
    let is_named = |name: &&String| abis.iter().any(|abi| abi.number(name).is_some());
    let unnamed: Vec<_> = seen.keys().filter(|name| !is_named(name)).cloned().collect();
    let observed_names: BTreeSet<_> = seen.keys().filter(is_named).map(String::as_str).collect();
    let always: BTreeSet<_> = ALWAYS.iter().copied().filter(|name| native.number(name).is_some()).collect();
    let further: Vec<_> = always.difference(&observed_names).copied().collect();
    let profile = json!({
        "defaultAction": Action::ERRNO.name(),
        "defaultErrnoRet": 1,
        "architectures": abis.iter().map(|abi| abi.name()).collect::<Vec<_>>(),
        "syscalls": [{"names": observed_names.union(&always).collect::<Vec<_>>(), "action": Action::ALLOW.name()}],
    });
    let evidence = evidence(observed, &seen, &further, &unnamed);
    Generated { profile, evidence }
}

fn evidence(observed: &Observed, seen: &BTreeMap<String, Seen>, further: &[&str], unnamed: &[String]) -> String {
    let mut text = String::from("# Evidence for a generated seccomp profile\n\nMade from the calls of:\n\n");
    for (id, container) in &observed.containers {
        let name = if id.is_empty() { "the host" } else { id };
        let calls: u64 = container.calls.values().map(|seen| seen.count).sum();
        let image = if container.image.is_empty() { "" } else { " of image " };
        let _ = writeln!(text, "- {name}{image}{}: {calls} calls", container.image.escape_debug());
    }
    text.push_str("\nFor each image, merged over its containers:\n\n");
    for coverage in observed.coverage() {
        let image = if coverage.image.is_empty() { "the host" } else { &coverage.image };
        let _ = writeln!(text, "- {}: {}", image.escape_debug(), coverage.text());
    }
    text.push_str("\n| call | times | programs |\n|---|---|---|\n");
    for (name, seen) in seen.iter().filter(|(name, _)| !unnamed.contains(name)) {
        let programs: Vec<_> = seen
            .programs
            .iter()
            .take(MAX_LISTED)
            .map(|(program, count)| {
                format!("`{}` ({count})", program.escape_debug().to_string().replace(['|', '`'], "_"))
            })
            .collect();
        let more = seen.programs.len().saturating_sub(MAX_LISTED);
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        let _ = writeln!(text, "| {name} | {} | {}{more} |", seen.count, programs.join(", "));
    }
    let _ = writeln!(
        text,
        "\nNot seen, and allowed because a container runtime needs them to start a container, or no capture tells of them:\n\n{}",
        further.join(", ")
    );
    if !unnamed.is_empty() {
        let _ = writeln!(text, "\nSeen, and **not** allowed because they have no name: {}", unnamed.join(", "));
    }
    if observed.left_out > 0 {
        let _ = writeln!(text, "\n{} calls are not in this: see the limits of the capture.", observed.left_out);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seccomp::{
        observe::Made,
        profile::{Filter, Target, filter::Answer, parse, select::select},
    };

    #[test]
    fn what_was_seen_is_allowed_and_what_was_not_is_denied() {
        let mut observed = Observed::default();
        for (abi, name) in [(Abi::X86_64, "mount"), (Abi::X86_64, "read"), (Abi::X86, "socket")] {
            let made = Made { abi, nr: abi.number(name).unwrap(), arguments: [None; 6] };
            observed.add("c", "/bin/evil|\u{1b}", made, 1);
        }
        observed.add("c", "x", Made { abi: Abi::X86_64, nr: 999, arguments: [None; 6] }, 1);
        let generated = generate(&observed, Abi::X86_64);
        let parsed = parse("generated", generated.profile.to_string().as_bytes());
        assert_eq!(parsed.problems, []);
        let filter = Filter::for_runc(&select(&parsed.profile.unwrap(), &Target::new(Abi::X86_64))).unwrap();
        let answer = |abi: Abi, name: &str| filter.possible(abi.arch(), abi.number(name).unwrap(), &[None; 6]);
        assert_eq!(answer(Abi::X86_64, "mount"), Answer::One(Action::ALLOW));
        assert_eq!(answer(Abi::X86, "socket"), Answer::One(Action::ALLOW));
        assert_eq!(answer(Abi::X86_64, "ptrace"), Answer::One(Action::ERRNO.with_data(1)));
        assert!(generated.evidence.contains("| mount | 1 | `/bin/evil_\\u{1b}` (1) |"), "{}", generated.evidence);
        assert!(generated.evidence.contains("no name: syscall_999"));
    }

    #[test]
    fn every_call_that_is_always_allowed_exists() {
        assert!(ALWAYS.iter().all(|name| Abi::X86_64.number(name).is_some()));
        assert!(ALWAYS.is_sorted());
    }
}
