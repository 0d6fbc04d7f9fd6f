//! Capabilities of Linux: their names and numbers.

/// Names of capabilities in order of number: `include/uapi/linux/capability.h`.
const NAMES: &[&str] = &[
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// What names begin with.
const PREFIX: &str = "CAP_";

/// Names of a set of capabilities, joined by blanks.
pub fn names(set: u64) -> String {
    let names = NAMES.iter().enumerate().filter(|(bit, _)| set >> bit & 1 != 0);
    names.map(|(_, name)| format!("{PREFIX}{name}")).collect::<Vec<_>>().join(" ")
}

/// The set of these capabilities, by their names with or without `CAP_`. What is no name adds nothing.
pub fn set<'n>(names: impl IntoIterator<Item = &'n str>) -> u64 {
    let bit = |name: &str| NAMES.iter().position(|known| *known == name.strip_prefix(PREFIX).unwrap_or(name));
    names.into_iter().filter_map(bit).fold(0, |set, bit| set | 1 << bit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_go_both_ways() {
        assert_eq!(set(["CAP_CHOWN", "SYS_ADMIN", "CAP_NONE"]), 1 | 1 << 21);
        assert_eq!(names(1 | 1 << 40 | 1 << 63), "CAP_CHOWN CAP_CHECKPOINT_RESTORE");
    }
}
