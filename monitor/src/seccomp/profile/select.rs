//! Which rules and architectures of a profile apply to a container: Docker's `includes`, `excludes` and `archMap`.
//!
//! containerd and runc know none of these keys. They read a profile that has them as if they were not there, so that every
//! rule applies and only the native architecture is covered; [`Target::reads_docker`] says who reads.

use std::{collections::BTreeSet, fmt};

use super::{Abi, Action, Architecture, Condition, Profile, Scope};

/// Version of a kernel, as far as profiles look at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KernelVersion {
    major: u32,
    minor: u32,
}

impl KernelVersion {
    /// From `4.8`, or a release such as `6.1.0-56-cloud-amd64`.
    pub fn parse(text: &str) -> Option<Self> {
        let (major, rest) = text.split_once('.')?;
        let digits = rest.find(|character: char| !character.is_ascii_digit()).unwrap_or(rest.len());
        Some(Self { major: major.parse().ok()?, minor: rest.get(..digits)?.parse().ok()? })
    }
}

impl fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// What a profile is applied to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The machine's own ABI.
    pub native: Abi,
    /// Capabilities in the container's bounding set.
    pub capabilities: BTreeSet<String>,
    /// The kernel; where it is not known, rules for a minimum one apply.
    pub kernel: Option<KernelVersion>,
    /// Whether the profile is read by Docker or CRI-O, which know Docker's keys.
    pub reads_docker: bool,
}

/// Capabilities that containerd gives to a container that asks for none.
pub const DEFAULT_CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

impl Target {
    /// A container with the usual capabilities.
    pub fn new(native: Abi) -> Self {
        let capabilities = DEFAULT_CAPABILITIES.into_iter().map(str::to_owned).collect();
        Self { native, capabilities, kernel: None, reads_docker: true }
    }

    fn has(&self, capabilities: &[String]) -> bool {
        capabilities.iter().any(|capability| self.capabilities.contains(capability))
    }

    fn is_of(&self, architectures: &[String]) -> bool {
        architectures.iter().any(|name| name == self.native.go_name())
    }

    /// All that is asked for must be there.
    fn includes(&self, scope: &Scope) -> bool {
        let architecture = scope.architectures.is_empty() || self.is_of(&scope.architectures);
        let capabilities = scope.capabilities.iter().all(|capability| self.capabilities.contains(capability));
        let kernel = scope.min_kernel.is_none_or(|least| self.kernel.is_none_or(|kernel| kernel >= least));
        architecture && capabilities && kernel
    }

    /// Anything of it is enough.
    fn excludes(&self, scope: &Scope) -> bool {
        let kernel = scope.min_kernel.is_some_and(|least| self.kernel.is_some_and(|kernel| kernel >= least));
        self.is_of(&scope.architectures) || self.has(&scope.capabilities) || kernel
    }
}

/// What is left of a profile for one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selected {
    /// What happens to calls that no rule is about.
    pub default_action: Action,
    /// ABIs that the filter covers; the native one is always there.
    pub abis: Vec<Abi>,
    /// A rule for each call, in order.
    pub rules: Vec<CallRule>,
}

/// A rule about one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallRule {
    /// Its name.
    pub name: String,
    /// What happens to it.
    pub action: Action,
    /// If these hold.
    pub conditions: Vec<Condition>,
}

/// Leaves what applies to a container.
pub fn select(profile: &Profile, target: &Target) -> Selected {
    let mapped = || profile.architecture_map.iter().find(|(main, _)| *main == Architecture::Known(target.native));
    let listed: Vec<&Architecture> = match mapped() {
        Some((main, subordinate)) if target.reads_docker => std::iter::once(main).chain(subordinate).collect(),
        _ => profile.architectures.iter().collect(),
    };
    let mut abis = vec![target.native];
    for architecture in listed {
        if let Architecture::Known(abi) = architecture
            && !abis.contains(abi)
        {
            abis.push(*abi);
        }
    }
    let applies = |rule: &&super::Rule| {
        !target.reads_docker || (target.includes(&rule.includes) && !target.excludes(&rule.excludes))
    };
    let of_call = |rule: &super::Rule, name: &String| CallRule {
        name: name.clone(),
        action: rule.action,
        conditions: rule.conditions.clone(),
    };
    let rules = profile.rules.iter().filter(applies);
    let rules = rules.flat_map(|rule| rule.names.iter().map(move |name| of_call(rule, name))).collect();
    Selected { default_action: profile.default_action, abis, rules }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seccomp::profile::parse;

    fn selected(target: &Target) -> (Vec<String>, Vec<Abi>) {
        let text = r#"{"defaultAction": "SCMP_ACT_ERRNO", "archMap": [
            {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
            {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]}], "syscalls": [
            {"names": ["read"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["bpf"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_BPF", "CAP_SYS_ADMIN"]}},
            {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
            {"names": ["arch_prctl"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["amd64", "x32"]}},
            {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_SYS_ADMIN"], "arches": ["s390"]}}
            ]}"#;
        let profile = parse("p", text.as_bytes()).profile.unwrap();
        let selected = select(&profile, target);
        (selected.rules.into_iter().map(|rule| rule.name).collect(), selected.abis)
    }

    #[test]
    fn rules_apply_by_capabilities_architecture_and_kernel() {
        let mut target = Target::new(Abi::X86_64);
        assert_eq!(selected(&target).0, ["read", "ptrace", "arch_prctl", "clone"]);
        target.kernel = KernelVersion::parse("4.4.0-1-amd64");
        assert_eq!(selected(&target).0, ["read", "arch_prctl", "clone"]);
        target.kernel = KernelVersion::parse("6.1");
        target.capabilities.extend(["CAP_SYS_ADMIN".to_owned()]);
        assert_eq!(selected(&target).0, ["read", "ptrace", "arch_prctl"]);
        target.capabilities.extend(["CAP_BPF".to_owned()]);
        assert_eq!(selected(&target).0, ["read", "bpf", "ptrace", "arch_prctl"]);
        assert_eq!(selected(&Target::new(Abi::Aarch64)).0, ["read", "ptrace", "clone"]);
    }

    #[test]
    fn architectures_follow_the_machine() {
        assert_eq!(selected(&Target::new(Abi::X86_64)).1, [Abi::X86_64, Abi::X86]);
        assert_eq!(selected(&Target::new(Abi::Aarch64)).1, [Abi::Aarch64, Abi::Arm]);
    }

    #[test]
    fn containerd_reads_no_keys_of_dockers() {
        let target = Target { reads_docker: false, ..Target::new(Abi::X86_64) };
        assert_eq!(
            selected(&target),
            (["read", "bpf", "ptrace", "arch_prctl", "clone"].map(str::to_owned).to_vec(), vec![Abi::X86_64])
        );
    }

    #[test]
    fn versions_are_read_from_releases() {
        let parse = KernelVersion::parse;
        assert!(parse("6.18.44-fc-v782") > parse("4.8") && parse("4.10") > parse("4.8"));
        assert_eq!((parse("4"), parse("x.1"), parse("4.x")), (None, None, None));
    }
}
