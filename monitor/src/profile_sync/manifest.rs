//! What was installed: a file beside the profiles that says which are from here, and what may be in them.
//!
//! It is written before and after the profiles are. In between an entry allows both the old and the new content, or that there is
//! no file yet or any more.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    MAX_PROFILES, SyncError,
    directory::{Directory, Seen},
    odd,
    offered::{bounded, sha256},
    plan::Step,
};

/// Its name in the directory. No profile is called so.
pub(super) const NAME: &str = ".installed.json";
const VERSION: u32 = 1;
/// Those from before and those that come in their place.
const MAX_ENTRIES: usize = 2 * MAX_PROFILES;

/// The file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    version: u32,
    /// By name of the file.
    pub(super) profiles: BTreeMap<String, Entry>,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    /// SHA-256 of what may be in it: one, or two while it changes.
    pub(super) sha256: Vec<String>,
    /// Whether it may not be there: it comes or goes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) may_be_missing: bool,
}

impl Default for Manifest {
    fn default() -> Self {
        Self { version: VERSION, profiles: BTreeMap::new() }
    }
}

impl Manifest {
    /// Reads it; where there is none, nothing was installed.
    pub(super) fn read(directory: &Directory) -> Result<Self, SyncError> {
        let failed = |reason: String| SyncError::Manifest { path: directory.path(NAME), reason };
        match directory.look(NAME).map_err(|error| failed(error.to_string()))? {
            Seen::Missing => return Ok(Self::default()),
            Seen::Other(what) => return Err(failed(format!("it is {what}"))),
            Seen::File(_) => {}
        }
        let opened = directory.read(NAME).map_err(|error| failed(error.to_string()))?;
        let bytes = bounded(opened).map_err(|error| failed(error.to_string()))?;
        Self::parse(&bytes).map_err(failed)
    }

    /// Takes what was written here, and no name that leads elsewhere.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let manifest: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if manifest.version != VERSION {
            return Err(format!("it is of version {}, and this agent knows {VERSION}", manifest.version));
        }
        if manifest.profiles.len() > MAX_ENTRIES {
            return Err(format!("it has more than {MAX_ENTRIES} entries"));
        }
        match manifest.profiles.keys().find_map(|name| odd(name).map(|reason| (name, reason))) {
            Some((name, reason)) => Err(format!("{name:?} can be no profile's name: {reason}")),
            None => Ok(manifest),
        }
    }

    /// Writes it.
    pub(super) fn write(&self, directory: &Directory) -> Result<(), SyncError> {
        let failed = |reason: String| SyncError::Manifest {
            path: directory.path(NAME),
            reason: format!("it cannot be written: {reason}"),
        };
        let bytes = serde_json::to_vec_pretty(self).map_err(|error| failed(error.to_string()))?;
        directory.write(NAME, &bytes, &sha256(&bytes), false).map_err(|error| failed(error.to_string()))
    }

    /// Says what may be there while a step is made.
    pub(super) fn intend(&mut self, name: &str, step: Step, wanted: Option<&str>) {
        match (step, wanted) {
            (Step::Write { fresh: true }, Some(wanted)) => {
                let entry = Entry { sha256: vec![wanted.to_owned()], may_be_missing: true };
                self.profiles.insert(name.to_owned(), entry);
            }
            (Step::Write { fresh: false }, Some(wanted)) => {
                let entry = self.profiles.entry(name.to_owned());
                let entry = entry.or_insert(Entry { sha256: Vec::new(), may_be_missing: false });
                if !entry.allows(wanted) {
                    entry.sha256.push(wanted.to_owned());
                }
            }
            (Step::Remove, _) => {
                self.profiles.entry(name.to_owned()).and_modify(|entry| entry.may_be_missing = true);
            }
            (Step::Forget, _) => _ = self.profiles.remove(name),
            (Step::Nothing | Step::Settle | Step::Write { .. }, _) => {}
        }
    }

    /// Says what is there when a step was made.
    pub(super) fn settle(&mut self, name: &str, step: Step, wanted: Option<&str>) {
        match (step, wanted) {
            (Step::Write { .. } | Step::Settle, Some(wanted)) => {
                let entry = Entry { sha256: vec![wanted.to_owned()], may_be_missing: false };
                self.profiles.insert(name.to_owned(), entry);
            }
            (Step::Remove | Step::Forget, _) => _ = self.profiles.remove(name),
            (Step::Nothing | Step::Write { .. } | Step::Settle, _) => {}
        }
    }
}

impl Entry {
    /// Whether a file with this digest is from here.
    pub(super) fn allows(&self, sha256: &str) -> bool {
        self.sha256.iter().any(|known| known == sha256)
    }
}
