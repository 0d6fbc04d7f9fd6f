//! Looks up every row of the offset table in this kernel's BTF.

use monitor_ebpf::offsets::{MISSING, Need, Offsets};
use zerocopy::FromBytes as _;

use super::btf::{Btf, BtfError};

/// The answers, and what the kernel lacks.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// For the programs.
    pub offsets: Offsets,
    /// Rows without an answer.
    pub missing: Vec<Missing>,
}

/// A member that the kernel lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    /// What was looked up.
    pub path: &'static str,
    /// What does not work without it.
    pub need: Need,
}

/// Parses the kernel's BTF so that [`resolve`] finds what it looks for.
pub fn parse(vmlinux: &[u8]) -> Result<Btf<'_>, BtfError> {
    Btf::parse(vmlinux, &type_names())
}

/// Resolves the table in the kernel's BTF, and that of the overlay module where it is one.
pub fn resolve(vmlinux: &Btf<'_>, overlay: Option<&[u8]>) -> Result<Resolved, BtfError> {
    let module = overlay.map(|bytes| Btf::parse_split(vmlinux, bytes, &type_names())).transpose()?;
    let mut answers = Vec::with_capacity(size_of::<Offsets>());
    let mut missing = Vec::new();
    for row in Offsets::TABLE {
        let found = row.path.split('|').find_map(|alternative| {
            look_up(vmlinux, alternative).or_else(|| module.as_ref().and_then(|module| look_up(module, alternative)))
        });
        if found.is_none() {
            missing.push(Missing { path: row.path, need: row.need });
        }
        answers.extend_from_slice(&found.unwrap_or(MISSING).to_ne_bytes());
    }
    Ok(Resolved { offsets: Offsets::read_from_bytes(&answers).unwrap_or(Offsets::NONE), missing })
}

fn type_names() -> Vec<&'static str> {
    Offsets::TABLE.iter().flat_map(|row| row.path.split('|')).map(type_name).collect()
}

/// The struct or enum that a path begins with.
fn type_name(path: &str) -> &str {
    let path = path.strip_prefix("sizeof ").or_else(|| path.strip_prefix("enum ")).unwrap_or(path);
    path.split(['.', ':', '+']).next().unwrap_or(path)
}

fn look_up(btf: &Btf<'_>, path: &str) -> Option<u32> {
    if let Some(path) = path.strip_prefix("sizeof ") {
        return btf.member(path).map(|(_, size)| size);
    }
    if let Some(path) = path.strip_prefix("enum ") {
        let (name, enumerator) = path.split_once(':')?;
        return btf.enumerator(name, enumerator);
    }
    let (path, plus) = match path.split_once('+') {
        Some((path, plus)) => (path, plus.parse().ok()?),
        None => (path, 0),
    };
    btf.member(path)?.0.checked_add(plus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_begin_with_a_type() {
        assert_eq!(type_name("sizeof upid"), "upid");
        assert_eq!(type_name("enum ovl_inode_flag:OVL_UPPERDATA"), "ovl_inode_flag");
        assert_eq!(type_name("pt_regs.regs+8"), "pt_regs");
    }

    #[test]
    fn this_kernel_has_all_that_the_sensor_cannot_do_without() {
        let Ok(bytes) = std::fs::read("/sys/kernel/btf/vmlinux") else {
            assert!(std::env::var_os("CI").is_none(), "no BTF on this machine");
            eprintln!("SKIPPED: this kernel has no BTF");
            return;
        };
        let resolved = resolve(&parse(&bytes).unwrap(), None).unwrap();
        let core: Vec<_> = resolved.missing.iter().filter(|m| m.need == Need::Core).collect();
        assert!(core.is_empty(), "{core:?}");
        assert_eq!(resolved.offsets.upid_size, 16);
    }
}
