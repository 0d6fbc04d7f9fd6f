//! The profiles that are offered: a directory as somebody filled it or the kubelet mounted it, read and checked.
//!
//! A `ConfigMap` is a directory of links (`a.json` -> `..data/a.json`, `..data` -> `..2026_…`): links are followed, as far as they
//! stay in the directory.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read as _},
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{Dir, FileType, Mode, OFlags, ResolveFlags, fstat, open, openat2},
    io::Errno,
};
use sha2::{Digest as _, Sha256};

use super::{MAX_PROFILES, SyncError, odd};
use crate::{
    drift::hexadecimal,
    rules::diagnostic::{Diagnostic, Severity},
    seccomp::profile::{Abi, KernelVersion, Parsed, Target, doubt::doubts, parse},
};

/// Longest profile: an object of Kubernetes is not larger.
pub(super) const MAX_BYTES: u64 = 1 << 20;
/// Most bytes of all together, which are in memory while they are installed.
const MAX_TOTAL: usize = 8 << 20;
/// Names that are looked at in the directory.
const MAX_ENTRIES: usize = 4096;
/// How often a directory that changes while it is read is read again.
const MAX_READS: usize = 3;
const EXTENSION: &str = ".json";

/// What the directory holds, by name of the file.
#[derive(Debug, Default)]
pub(super) struct Offered {
    pub(super) good: BTreeMap<String, Profile>,
    pub(super) refused: BTreeMap<String, Refused>,
}

/// A profile that a runtime takes.
#[derive(Debug)]
pub(super) struct Profile {
    pub(super) bytes: Vec<u8>,
    pub(super) sha256: String,
    pub(super) text: Text,
}

/// A file that is none.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) reason: String,
    pub(super) text: Text,
}

/// What there is to say of a text.
#[derive(Clone, Debug, Default)]
pub(super) struct Text {
    pub(super) problems: Vec<Diagnostic>,
    pub(super) doubts: Vec<String>,
}

impl Offered {
    /// Reads a directory at a moment at which nothing in it vanishes, if there is one.
    pub(super) fn read(from: &Path) -> Result<Self, SyncError> {
        let failed = |source| SyncError::Offered { path: from.to_owned(), source };
        for _ in 1..MAX_READS {
            if let (offered, false) = Self::once(from, failed)? {
                return Ok(offered);
            }
        }
        Self::once(from, failed).map(|(offered, _)| offered)
    }

    /// Reads it once; whether something vanished meanwhile.
    fn once(from: &Path, failed: impl Fn(io::Error) -> SyncError) -> Result<(Self, bool), SyncError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = open(from, flags, Mode::empty()).map_err(|error| failed(error.into()))?;
        let too_much = |what: String| SyncError::TooMuch { path: from.to_owned(), what };
        let names = names(&directory).map_err(|error| failed(error.into()))?;
        let names = names.ok_or_else(|| too_much(format!("more than {MAX_ENTRIES} names")))?;
        if names.is_empty() {
            return Err(SyncError::Nothing { path: from.to_owned() });
        }
        if names.len() > MAX_PROFILES {
            return Err(too_much(format!("{} profiles: at most {MAX_PROFILES}", names.len())));
        }
        let (mut offered, mut vanished, mut total) = (Self::default(), false, 0);
        for name in names {
            let Some(name) = name.to_str().ok().filter(|name| odd(name).is_none()).map(str::to_owned) else {
                let shown = name.to_string_lossy().escape_debug().to_string();
                let reason = odd(&shown).unwrap_or("it is no UTF-8");
                offered.refuse(shown, format!("the name of this file cannot be taken: {reason}"), Text::default());
                continue;
            };
            let bytes = match contents(&directory, &name) {
                Ok(bytes) => bytes,
                Err(error) => {
                    vanished |= error.kind() == io::ErrorKind::NotFound;
                    offered.refuse(name, format!("cannot be read: {error}"), Text::default());
                    continue;
                }
            };
            total += bytes.len();
            if total > MAX_TOTAL {
                return Err(too_much(format!("profiles of more than {MAX_TOTAL} bytes together")));
            }
            offered.take(name, from, bytes);
        }
        Ok((offered, vanished))
    }

    fn refuse(&mut self, name: String, reason: String, text: Text) {
        self.refused.insert(name, Refused { reason, text });
    }

    /// Checks a profile as the node's runtime would take it.
    fn take(&mut self, name: String, from: &Path, bytes: Vec<u8>) {
        let Parsed { profile, problems } = parse(&from.join(&name).display().to_string(), &bytes);
        let found = profile.as_ref().map(|profile| doubts(profile, &target())).unwrap_or_default();
        let refused = found.iter().find(|doubt| doubt.severity == Severity::Error).map(|doubt| doubt.message.clone());
        let text = Text { problems, doubts: found.into_iter().map(|doubt| doubt.message).collect() };
        match (profile, refused) {
            (Some(_), None) => {
                let sha256 = sha256(&bytes);
                self.good.insert(name, Profile { bytes, sha256, text });
            }
            (_, reason) => {
                let reason = reason.unwrap_or_else(|| "it is no profile that a runtime takes".to_owned());
                self.refuse(name, reason, text);
            }
        }
    }
}

/// A container of this node: the runtimes of Kubernetes do not read what Docker added to profiles.
fn target() -> Target {
    let native = if cfg!(target_arch = "aarch64") { Abi::Aarch64 } else { Abi::X86_64 };
    let kernel = KernelVersion::parse(&rustix::system::uname().release().to_string_lossy());
    Target { kernel, reads_docker: false, ..Target::new(native) }
}

/// Names with the extension of profiles; `None` where there are too many names.
fn names(directory: &OwnedFd) -> rustix::io::Result<Option<Vec<std::ffi::CString>>> {
    let mut names = Vec::new();
    for (number, entry) in Dir::read_from(directory)?.enumerate() {
        if number >= MAX_ENTRIES {
            return Ok(None);
        }
        let entry = entry?;
        if entry.file_name().to_bytes().ends_with(EXTENSION.as_bytes()) {
            names.push(entry.file_name().to_owned());
        }
    }
    names.sort();
    Ok(Some(names))
}

/// What a file holds, of which nothing is read that is no file or lies elsewhere.
fn contents(directory: impl AsFd, name: &str) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let opened = match openat2(&directory, name, flags, Mode::empty(), within) {
        Err(Errno::XDEV | Errno::LOOP) => {
            return Err(io::Error::other("it is a link that leads out of the directory, or in circles"));
        }
        other => other?,
    };
    bounded(opened)
}

/// What an open file holds, if it is a file and no longer than profiles are.
pub(super) fn bounded(opened: OwnedFd) -> io::Result<Vec<u8>> {
    let stat = fstat(&opened)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(io::Error::other("it is no file"));
    }
    let mut bytes = Vec::new();
    File::from(opened).take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(io::Error::other(format!("it is longer than {MAX_BYTES} bytes")));
    }
    Ok(bytes)
}

/// In hexadecimal digits.
pub(super) fn sha256(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes).into())
}
