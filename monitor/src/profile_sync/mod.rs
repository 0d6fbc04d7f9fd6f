//! Seccomp profiles on the node: makes a directory below the kubelet's hold the profiles of another one, and nothing else that
//! was put there from here.
//!
//! A pod that names a profile (`localhostProfile`) does not start where its node has no such file, and runs under whatever the file
//! says. So a profile is checked before it goes there, and goes there whole: written beside, synced, renamed, read back. A
//! [`manifest`] in the same directory says which files are from here and what may be in them; it is written before they are, so that
//! a run that is killed anywhere leaves old or new content and a next run that knows it.
//!
//! Invariants: a file that is not in the manifest is neither changed nor removed; every name is looked up relative to an open
//! directory, without following links; where nothing has to be done nothing is written.

mod directory;
mod manifest;
mod offered;
mod plan;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::PathBuf,
};

use serde::Serialize;

use self::{
    directory::{Directory, Seen},
    manifest::Manifest,
    offered::{Offered, Profile},
    plan::{Step, plan},
};
use crate::rules::diagnostic::Diagnostic;

/// The kubelet's directory of profiles, where it is everywhere unless somebody moved it.
pub const KUBELET_ROOT: &str = "/var/lib/kubelet/seccomp";
/// The directory in it that is ours, unless it is told otherwise.
pub const DIRECTORY: &str = "monitor";
/// Most profiles: as many as are compared when a container's profile is looked for.
pub const MAX_PROFILES: usize = 256;

/// Where profiles go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The kubelet's directory.
    pub root: PathBuf,
    /// Name of the directory in it.
    pub directory: String,
}

/// Why nothing could be done at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SyncError {
    /// The directory with the profiles.
    #[error("cannot read the profiles in {path}: {source}", path = path.display())]
    Offered {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is none in it, which may be a mount that failed.
    #[error("no *.json file in {path}: to take away what was installed, run `monitor seccomp sync --remove`", path = path.display())]
    Nothing {
        /// Where.
        path: PathBuf,
    },
    /// There are too many, or they are too large.
    #[error("{path} holds {what}", path = path.display())]
    TooMuch {
        /// Where.
        path: PathBuf,
        /// What, and the bound.
        what: String,
    },
    /// The name of the directory.
    #[error("{name:?} cannot name a directory of profiles: {reason}")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The node's directory cannot be opened or made.
    #[error("cannot use {path}: {source}{mend}", path = path.display())]
    Node {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
        /// What to do.
        mend: &'static str,
    },
    /// Others could put profiles there.
    #[error("{path} {reason}", path = path.display())]
    Unsafe {
        /// Which.
        path: PathBuf,
        /// How, and the mend.
        reason: String,
    },
    /// Somebody else is at it.
    #[error("another monitor is at work in {path}: try again", path = path.display())]
    Busy {
        /// Where.
        path: PathBuf,
    },
    /// What was installed is not known.
    #[error("{path} does not say what was installed: {reason}; remove it and the profiles beside it, and run this again", path = path.display())]
    Manifest {
        /// Which file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
}

impl SyncError {
    /// A bounded word for it.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Offered { .. } => "offered",
            Self::Nothing { .. } => "nothing",
            Self::TooMuch { .. } => "too_much",
            Self::Name { .. } => "name",
            Self::Node { .. } => "node",
            Self::Unsafe { .. } => "unsafe",
            Self::Busy { .. } => "busy",
            Self::Manifest { .. } => "manifest",
        }
    }
}

/// What became of a profile, or would become of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is there as it should be.
    Unchanged,
    /// It is new on the node.
    Installed,
    /// It has another content than before.
    Updated,
    /// It is not offered any more.
    Removed,
    /// Somebody else had changed it.
    PutBackChanged,
    /// Somebody else had removed it.
    PutBackMissing,
    /// It is not offered any more, and somebody else has changed it: it stays.
    Left,
    /// It is no profile, or its place is taken.
    Refused,
    /// The file system did not let it be.
    Failed,
}

impl Outcome {
    /// Whether something was done, or would be.
    pub const fn is_change(self) -> bool {
        matches!(self, Self::Installed | Self::Updated | Self::Removed | Self::PutBackChanged | Self::PutBackMissing)
    }

    /// Whether somebody has to look at it.
    pub const fn is_bad(self) -> bool {
        matches!(self, Self::Left | Self::Refused | Self::Failed)
    }
}

/// One profile.
#[derive(Clone, Debug)]
pub struct Told {
    /// What became of it.
    pub outcome: Outcome,
    /// Of what is on the node then; empty where that is not from here.
    pub sha256: String,
    /// Why, where it is bad.
    pub reason: String,
    /// What is wrong with the text, and what is doubtful.
    pub problems: Vec<Diagnostic>,
    /// What shows only when the profile becomes a filter.
    pub doubts: Vec<String>,
}

/// What was done, by name of the file.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Every profile that is offered or was installed.
    pub profiles: BTreeMap<String, Told>,
}

impl Report {
    /// Whether something was done, or would be.
    pub fn has_changes(&self) -> bool {
        self.profiles.values().any(|told| told.outcome.is_change())
    }

    /// Whether somebody has to look at something.
    pub fn is_bad(&self) -> bool {
        self.profiles.values().any(|told| told.outcome.is_bad())
    }
}

/// Installs what `from` offers, and removes what was installed and is offered no more.
pub fn sync(from: &std::path::Path, node: &Node) -> Result<Report, SyncError> {
    let offered = Offered::read(from)?;
    let Some(directory) = Directory::open(node, true)? else { return Ok(Report::default()) };
    let _lock = directory.lock()?;
    bring(&directory, &offered)
}

/// What [`sync`] would do. Changes nothing.
pub fn check(from: &std::path::Path, node: &Node) -> Result<Report, SyncError> {
    let offered = Offered::read(from)?;
    let directory = Directory::open(node, false)?;
    let manifest = directory.as_ref().map(Manifest::read).transpose()?.unwrap_or_default();
    let look = |name: &str| directory.as_ref().map_or(Ok(Seen::Missing), |directory| directory.look(name));
    Ok(Report { profiles: steps(&offered, &manifest, look).into_iter().map(Planned::told).collect() })
}

/// Removes what was installed, and the directory if nothing else is in it.
pub fn remove(node: &Node) -> Result<Report, SyncError> {
    let Some(directory) = Directory::open(node, false)? else { return Ok(Report::default()) };
    let lock = directory.lock()?;
    let report = bring(&directory, &Offered::default())?;
    if !report.profiles.values().any(|told| told.outcome == Outcome::Failed) {
        directory.dissolve(node, &lock);
    }
    Ok(report)
}

/// A profile, and what is to be done.
struct Planned<'a> {
    name: String,
    step: Step,
    profile: Option<&'a Profile>,
    told: Told,
}

impl Planned<'_> {
    fn told(self) -> (String, Told) {
        (self.name, self.told)
    }
}

/// What is to be done, without what is neither offered nor there.
fn steps<'a>(offered: &'a Offered, manifest: &Manifest, look: impl Fn(&str) -> io::Result<Seen>) -> Vec<Planned<'a>> {
    let names: BTreeSet<&String> =
        offered.good.keys().chain(offered.refused.keys()).chain(manifest.profiles.keys()).collect();
    let planned = names.into_iter().map(|name| {
        let (profile, refused) = (offered.good.get(name), offered.refused.get(name));
        let entry = manifest.profiles.get(name);
        // What is refused for its name alone is not looked for.
        let seen = if profile.is_some() || entry.is_some() { look(name) } else { Ok(Seen::Missing) };
        let wanted = profile.map(|profile| profile.sha256.as_str());
        let (step, outcome, reason) = match seen {
            Ok(seen) => plan(wanted, refused.map(|refused| refused.reason.as_str()), entry, &seen),
            Err(error) => (Step::Nothing, Outcome::Failed, format!("cannot be read on the node: {error}")),
        };
        let sha256 = profile.filter(|_| !outcome.is_bad()).map(|profile| profile.sha256.clone()).unwrap_or_default();
        let text = profile.map(|profile| &profile.text).or(refused.map(|refused| &refused.text));
        let (problems, doubts) = text.map(|text| (text.problems.clone(), text.doubts.clone())).unwrap_or_default();
        Planned { name: name.clone(), step, profile, told: Told { outcome, sha256, reason, problems, doubts } }
    });
    planned.collect()
}

/// Does it: what may be there first, then the files, then what is there.
fn bring(directory: &Directory, offered: &Offered) -> Result<Report, SyncError> {
    directory.clear();
    let before = Manifest::read(directory)?;
    let mut steps = steps(offered, &before, |name| directory.look(name));
    let mut manifest = before.clone();
    for planned in &steps {
        manifest.intend(&planned.name, planned.step, planned.profile.map(|profile| profile.sha256.as_str()));
    }
    if manifest != before {
        manifest.write(directory)?;
    }
    let intended = manifest.clone();
    for planned in &mut steps {
        let done = match (planned.step, planned.profile) {
            (Step::Write { fresh }, Some(profile)) => {
                directory.write(&planned.name, &profile.bytes, &profile.sha256, fresh)
            }
            (Step::Remove, _) => directory.remove(&planned.name),
            _ => Ok(()),
        };
        match done {
            Ok(()) => manifest.settle(&planned.name, planned.step, planned.profile.map(|p| p.sha256.as_str())),
            Err(error) => {
                planned.told.outcome = Outcome::Failed;
                planned.told.reason = error.to_string();
                planned.told.sha256.clear();
            }
        }
    }
    if manifest != intended {
        manifest.write(directory)?;
    }
    // What is gone and was not to be there any more is nothing to tell.
    let told = steps.into_iter().filter(|planned| planned.step != Step::Forget || planned.told.outcome.is_bad());
    Ok(Report { profiles: told.map(Planned::told).collect() })
}

/// What is wrong with a name of a file or directory, if anything: what keys of a `ConfigMap` are, and nothing hidden.
pub fn odd(name: &str) -> Option<&'static str> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    match name {
        "" => Some("it is empty"),
        _ if name.starts_with('.') => Some("it begins with a dot"),
        _ if name.len() > 253 => Some("it is longer than 253 bytes"),
        _ if !name.bytes().all(good) => Some("only a-z, A-Z, 0-9, -, _ and . may stand in it"),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
