//! Seccomp profiles of test containers, as an OCI bundle wants them: everything is allowed but what is named.
use serde_json::{Value, json};

/// What a profile denies. Every architecture of the machine is covered, so that calls of the 32-bit table pass too.
#[derive(Clone, Debug, Default)]
pub struct Profile(Vec<Value>);

impl Profile {
    /// A profile that allows everything.
    pub fn new() -> Self {
        Self::default()
    }

    /// These calls fail with `errno`.
    #[must_use]
    pub fn errno(mut self, names: &[&str], errno: u32) -> Self {
        self.0.push(json!({"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": errno}));
        self
    }

    /// These calls kill the process.
    #[must_use]
    pub fn kill_process(self, names: &[&str]) -> Self {
        self.action(names, "SCMP_ACT_KILL_PROCESS")
    }

    /// These calls are allowed and logged.
    #[must_use]
    pub fn log(self, names: &[&str]) -> Self {
        self.action(names, "SCMP_ACT_LOG")
    }

    fn action(mut self, names: &[&str], action: &str) -> Self {
        self.0.push(json!({"names": names, "action": action}));
        self
    }

    /// The `linux.seccomp` object of a bundle.
    pub(crate) fn to_json(&self) -> Value {
        let architectures: &[&str] = if cfg!(target_arch = "aarch64") {
            &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]
        } else {
            &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
        };
        json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": architectures, "syscalls": self.0})
    }
}
