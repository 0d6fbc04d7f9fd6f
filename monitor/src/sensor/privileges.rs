//! What the agent must be allowed to do.

/// A capability that the sensor needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability {
    /// Name as `capabilities(7)` has it.
    pub name: &'static str,
    /// Its bit.
    bit: u32,
    /// A broader one that includes it, for kernels and users of before its time.
    broader: Option<u32>,
    /// What it is needed for.
    pub why: &'static str,
}

const CAP_SYS_ADMIN: u32 = 21;

/// Everything that the sensor needs.
pub const NEEDED: &[Capability] = &[
    Capability { name: "CAP_BPF", bit: 39, broader: Some(CAP_SYS_ADMIN), why: "load BPF programs" },
    Capability { name: "CAP_PERFMON", bit: 38, broader: Some(CAP_SYS_ADMIN), why: "attach them to tracepoints" },
    Capability { name: "CAP_SYS_PTRACE", bit: 19, broader: None, why: "read /proc of other users' processes" },
    Capability { name: "CAP_DAC_READ_SEARCH", bit: 2, broader: None, why: "read cgroups and BTF whatever their mode" },
];

/// Those that `status`, the text of `/proc/self/status`, does not show as effective.
pub fn missing(status: &str) -> Vec<Capability> {
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0);
    let has = |bit: u32| effective >> bit & 1 != 0;
    NEEDED.iter().filter(|cap| !has(cap.bit) && !cap.broader.is_some_and(has)).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_has_all_and_an_ordinary_user_none() {
        assert!(missing("CapEff:\t000001ffffffffff\n").is_empty());
        assert_eq!(missing("CapEff:\t0000000000000000\n"), NEEDED);
        assert_eq!(missing("nonsense"), NEEDED);
    }

    #[test]
    fn sys_admin_stands_for_bpf_and_perfmon() {
        let names: Vec<_> = missing("CapEff:\t0000000000200000\n").iter().map(|cap| cap.name).collect();
        assert_eq!(names, ["CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"]);
    }
}
