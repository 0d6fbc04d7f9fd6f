//! The parts of an OCI bundle's `config.json` that are looked at:
//! <https://github.com/opencontainers/runtime-spec/blob/v1.2.0/config.md>. Null stands for nothing, as Go writes it.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// `null` is what is not there.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

macro_rules! spec {
    ($($(#[$doc:meta])* struct $name:ident { $($field:ident: $ty:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Default, Deserialize)]
        #[serde(default, rename_all = "camelCase")]
        pub(super) struct $name {
            $(#[serde(deserialize_with = "or_default")] pub(super) $field: $ty,)*
        }
    )*};
}

spec! {
    /// All of it.
    struct Spec { process: Process, root: Root, mounts: Vec<Mount>, annotations: BTreeMap<String, String>, linux: Linux, }
    /// The first process.
    struct Process {
        args: Vec<String>,
        user: User,
        no_new_privileges: bool,
        capabilities: Capabilities,
        apparmor_profile: String,
    }
    /// Who runs it.
    struct User { uid: u32, }
    /// What it may do.
    struct Capabilities { bounding: Vec<String>, }
    /// The root file system.
    struct Root { readonly: bool, }
    /// One mount. A bind mount has the kind `bind`, or says so in its options.
    struct Mount { destination: String, source: String, r#type: String, options: Vec<String>, }
    /// What only Linux has.
    struct Linux {
        namespaces: Vec<Namespace>,
        seccomp: Option<Value>,
        masked_paths: Vec<String>,
        resources: Resources,
    }
    /// A namespace: a new one, or the one of this path.
    struct Namespace { r#type: String, path: String, }
    /// Limits.
    struct Resources { devices: Vec<Device>, memory: Memory, cpu: Cpu, }
    /// A rule about devices. Without type and numbers it is about all.
    struct Device { allow: bool, r#type: String, major: Option<i64>, access: String, }
    /// Memory in bytes; 0 or less without a limit.
    struct Memory { limit: i64, }
    /// Microseconds in each period; 0 or less without a limit.
    struct Cpu { quota: i64, }
}

impl Mount {
    pub(super) fn is_bind(&self) -> bool {
        self.r#type == "bind" || self.options.iter().any(|option| option == "bind" || option == "rbind")
    }

    pub(super) fn is_writable(&self) -> bool {
        !self.options.iter().any(|option| option == "ro")
    }

    pub(super) fn propagation(&self) -> &str {
        const WORDS: [&str; 4] = ["private", "shared", "slave", "unbindable"];
        let is_one = |option: &&String| WORDS.contains(&option.strip_prefix('r').unwrap_or(option));
        self.options.iter().find(is_one).map_or("", String::as_str)
    }
}

impl Device {
    /// Whether it lets the container use every device.
    pub(super) fn is_all(&self) -> bool {
        self.allow && self.major.is_none() && matches!(&*self.r#type, "" | "a") && self.access.contains('w')
    }
}
