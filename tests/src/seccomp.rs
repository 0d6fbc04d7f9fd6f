//! Seccomp profiles of test containers, as an OCI bundle wants them: made from a default and what is named, or taken as they are.
use serde_json::{Value, json};

/// A profile. One that is made here covers every architecture of the machine, so that calls of the 32-bit table pass too.
#[derive(Clone, Debug)]
pub struct Profile(Value);

impl Profile {
    /// A profile that allows everything.
    pub fn new() -> Self {
        Self::of_default("SCMP_ACT_ALLOW")
    }

    /// A profile with another default action.
    pub fn of_default(action: &str) -> Self {
        let architectures: &[&str] = if cfg!(target_arch = "aarch64") {
            &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]
        } else {
            &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
        };
        Self(json!({"defaultAction": action, "architectures": architectures, "syscalls": []}))
    }

    /// These calls fail with `errno`.
    #[must_use]
    pub fn errno(mut self, names: &[&str], errno: u32) -> Self {
        self.push(json!({"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": errno}));
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
        self.push(json!({"names": names, "action": action}));
        self
    }

    fn push(&mut self, rule: Value) {
        if let Some(rules) = self.0.pointer_mut("/syscalls").and_then(Value::as_array_mut) {
            rules.push(rule);
        }
    }

    /// The `linux.seccomp` object of a bundle.
    pub(crate) fn to_json(&self) -> Value {
        self.0.clone()
    }
}

impl Default for Profile {
    fn default() -> Self {
        Self::new()
    }
}

/// A profile as it is.
impl From<Value> for Profile {
    fn from(profile: Value) -> Self {
        Self(profile)
    }
}
