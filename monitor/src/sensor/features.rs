//! What this kernel and machine offer to the sensor: `monitor check`.
//!
//! Each line says what was looked at, whether it will do, and how to mend it. Nothing is loaded here.

use std::{fmt::Write as _, fs, os::unix::fs::MetadataExt as _};

use monitor_ebpf::offsets::Need;
use serde::Serialize;

use super::{
    load::{self, HAS_OBJECT, SensorError},
    offsets::Missing,
    privileges, snapshot,
};

/// Whether something will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It will.
    Ok,
    /// The agent works, but knows less.
    Warn,
    /// The agent does not work.
    Missing,
}

impl Status {
    const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Missing => "missing",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// What.
    pub name: String,
    /// Whether it will do.
    pub status: Status,
    /// What was found.
    pub detail: String,
    /// How to mend it; empty where there is nothing to mend.
    pub mend: String,
}

impl Line {
    /// Fine as it is.
    pub fn ok(name: &str, detail: impl Into<String>) -> Self {
        Self { name: name.to_owned(), status: Status::Ok, detail: detail.into(), mend: String::new() }
    }

    /// Not fine.
    pub fn poor(name: &str, status: Status, detail: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { name: name.to_owned(), status, detail: detail.into(), mend: mend.into() }
    }
}

/// Looks at everything.
pub fn check() -> Vec<Line> {
    let mut lines = vec![kernel(), build(), privileges(), pid_namespace(), cgroups()];
    lines.extend(members());
    lines
}

fn kernel() -> Line {
    let uname = rustix::system::uname();
    Line::ok("kernel", format!("{} {}", uname.release().to_string_lossy(), uname.machine().to_string_lossy()))
}

fn build() -> Line {
    if HAS_OBJECT {
        Line::ok("build", "with sensor")
    } else {
        Line::poor(
            "build",
            Status::Missing,
            "without sensor: this binary can only replay",
            "build it with `cargo xtask build`",
        )
    }
}

fn privileges() -> Line {
    let missing = privileges::missing(&fs::read_to_string("/proc/self/status").unwrap_or_default());
    if missing.is_empty() {
        let names: Vec<_> = privileges::NEEDED.iter().map(|capability| capability.name).collect();
        return Line::ok("privileges", names.join(", "));
    }
    let names: Vec<_> = missing.iter().map(|capability| capability.name).collect();
    let mend = "run it as root (sudo monitor check), or give it these capabilities";
    Line::poor("privileges", Status::Missing, format!("without {}", names.join(", ")), mend)
}

fn pid_namespace() -> Line {
    const NAME: &str = "pid namespace";
    match fs::metadata("/proc/self/ns/pid") {
        Ok(metadata) if metadata.ino() == u64::from(snapshot::INITIAL_PID_NS) => Line::ok(NAME, "the host's"),
        Ok(_) => Line::poor(
            NAME,
            Status::Warn,
            "not the host's: /proc shows other process ids than the kernel reports",
            "in Kubernetes set hostPID: true; in a container engine use --pid=host",
        ),
        Err(error) => Line::poor(NAME, Status::Missing, format!("/proc/self/ns/pid: {error}"), "mount /proc"),
    }
}

fn cgroups() -> Line {
    const NAME: &str = "cgroup v2";
    match snapshot::cgroup2() {
        Some(mount) => Line::ok(NAME, mount.display().to_string()),
        None => Line::poor(
            NAME,
            Status::Warn,
            "not mounted: containers that run already have no id",
            "mount it, or in a container mount the host's /sys/fs/cgroup read-only",
        ),
    }
}

/// One line per group of kernel members.
fn members() -> Vec<Line> {
    let missing = match load::resolve() {
        Ok(resolved) => resolved.missing,
        Err(error @ SensorError::NoBtf(_)) => {
            let mend = "use a kernel with BTF: every distribution's since 5.15 has it";
            return vec![Line::poor("kernel types", Status::Missing, error.to_string(), mend)];
        }
        Err(error) => {
            return vec![Line::poor("kernel types", Status::Missing, error.to_string(), "use Linux 5.15 or newer")];
        }
    };
    let mut lines = vec![Line::ok("kernel types", load::VMLINUX_BTF)];
    lines.extend(GROUPS.iter().map(|group| group.line(&missing)));
    lines
}

/// What a group of members is for, and what is without it.
struct Group {
    need: Need,
    name: &'static str,
    have: &'static str,
    lack: &'static str,
    mend: &'static str,
}

const GROUPS: &[Group] = &[
    Group {
        need: Need::SeccompExit,
        name: "seccomp verdicts",
        have: "from sys_exit alone, with the filter's action",
        lack: "from the sys_enter/sys_exit pair: the filter's action stays unknown",
        mend: "the kernel needs CONFIG_SECCOMP_FILTER and CONFIG_CHECKPOINT_RESTORE",
    },
    Group {
        need: Need::Overlay,
        name: "overlay layers",
        have: "known",
        lack: "unknown: drift sees programs run from memory only",
        mend: "load the module first: modprobe overlay; its BTF must be in /sys/kernel/btf/overlay",
    },
    Group {
        need: Need::OverlayLower,
        name: "overlay originals",
        have: "known",
        lack: "unknown: a modified program of the image counts as a new one",
        mend: "use Linux 5.15 or newer",
    },
    Group {
        need: Need::Mapping,
        name: "late code",
        have: "known",
        lack: "unknown: a file that is mapped first and made code afterwards (mprotect) is no drift",
        mend: "use Linux 5.17 or newer",
    },
    Group {
        need: Need::LoginUid,
        name: "login users",
        have: "known",
        lack: "unknown: user.loginuid is -1",
        mend: "the kernel needs CONFIG_AUDIT",
    },
    Group {
        need: Need::Compat,
        name: "32-bit calls",
        have: "told apart",
        lack: "not told apart from 64-bit ones",
        mend: "use a kernel of a supported architecture: x86_64, aarch64",
    },
];

impl Group {
    fn line(&self, missing: &[Missing]) -> Line {
        let lacking: Vec<_> = missing.iter().filter(|m| m.need == self.need).map(|m| m.path).collect();
        if lacking.is_empty() {
            return Line::ok(self.name, self.have);
        }
        let detail = format!("{} (this kernel lacks {})", self.lack, lacking.join(", "));
        Line::poor(self.name, Status::Warn, detail, self.mend)
    }
}

/// For people: a line each, the mend below.
pub fn text(lines: &[Line]) -> String {
    let width = lines.iter().map(|line| line.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for line in lines {
        let _ = writeln!(text, "{:<7} {:<width$}  {}", line.status.word(), line.name, line.detail);
        if !line.mend.is_empty() {
            let _ = writeln!(text, "{:<7} {:<width$}  -> {}", "", "", line.mend);
        }
    }
    text
}

/// For programs: an array of objects.
pub fn json(lines: &[Line]) -> serde_json::Result<String> {
    serde_json::to_string_pretty(lines).map(|text| text + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_its_mend() {
        let missing = [Missing { path: "ovl_inode.__upperdentry", need: Need::Overlay }];
        let overlay = GROUPS.iter().map(|group| group.line(&missing)).find(|line| line.status != Status::Ok);
        let overlay = overlay.unwrap();
        assert_eq!((overlay.name.as_str(), overlay.status), ("overlay layers", Status::Warn));
        assert!(overlay.detail.contains("ovl_inode.__upperdentry") && !overlay.mend.is_empty());
    }

    #[test]
    fn every_line_that_is_not_ok_says_how_to_mend_it() {
        for line in check() {
            assert!(line.status == Status::Ok || !line.mend.is_empty(), "{line:?}");
        }
    }

    #[test]
    fn lines_are_text_and_json() {
        let lines = [Line::ok("a", "fine"), Line::poor("bcd", Status::Missing, "gone", "get it")];
        assert_eq!(text(&lines), "ok      a    fine\nmissing bcd  gone\n             -> get it\n");
        let parsed: serde_json::Value = serde_json::from_str(&json(&lines).unwrap()).unwrap();
        assert_eq!(parsed[1]["status"], "missing");
    }
}
