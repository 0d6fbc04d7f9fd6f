//! Containers: which one a thread is in, and what is known of it.
//!
//! Either a control group tells it. Records of the sensor name the cgroup of each event ([`cgroup`]). Captures of other tools
//! tell the control groups of threads when they begin and when they run another program, and Falco's container plugin takes
//! the container's id from their paths ([`matcher`]) at these events alone: a thread that its maker told of is outside of
//! containers until it is heard itself. What is known of a container ([`metadata`]) is told by events of its own, by its id.

pub mod cgroup;
mod matcher;
pub mod metadata;
mod recent;

use std::sync::Arc;

use cgroup::Cgroups;
pub use cgroup::Container;
use metadata::{Engine, Metadata};
use recent::Recent;

use super::{
    State,
    call::returned,
    thread::{ThreadKey, split},
};
use crate::event::{call::Call, path::until_nul, schema::Code};

/// Containers of which something may be known at once. A node runs some hundreds.
const MAX_CONTAINERS: usize = 8192;
/// Paths whose container is remembered.
const MAX_PATHS: usize = 4096;
/// Lists of control groups that are shared.
const MAX_LISTS: usize = 1024;
/// The longest list, or path, that is worth it: what Falco's drivers give at most.
const MAX_AREA: usize = 4096;

/// What a path tells: an id, and the engine where it tells that.
type Identity = (Arc<str>, Option<Engine>);

/// Containers.
#[derive(Debug, Default)]
pub struct Containers {
    /// Of the sensor's records.
    cgroups: Cgroups,
    /// Lists of control groups as captures have them, and as they are kept; `None` for those that Falco does not take.
    lists: Recent<Arc<[u8]>, Option<Arc<[u8]>>, MAX_LISTS>,
    /// Containers by the path of a control group, and what runs them where the path tells that.
    paths: Recent<Arc<[u8]>, Option<Identity>, MAX_PATHS>,
    /// What is known of containers, by their ids.
    known: Recent<Arc<str>, Arc<Metadata>, MAX_CONTAINERS>,
    /// What the event at hand tells of a container.
    told: Option<Arc<Metadata>>,
    /// How often an event about a container was not understood.
    malformed: u64,
}

impl Containers {
    /// The container of a cgroup, as the sensor's records tell it; `None` on the host and where the cgroup is not known.
    pub fn get(&self, cgroup_id: u64) -> Option<&Container> {
        self.cgroups.get(cgroup_id)
    }

    pub(super) fn insert(&mut self, cgroup_id: u64, path: &[u8]) {
        self.cgroups.insert(cgroup_id, path);
    }

    /// What is known of the container of this id; of the host for an empty one.
    pub fn metadata(&self, id: &str) -> Option<&Metadata> {
        if id.is_empty() { Some(Metadata::host()) } else { self.known.get(id).map(Arc::as_ref) }
    }

    /// What is known of all containers.
    pub fn all_metadata(&self) -> impl Iterator<Item = &Metadata> {
        self.known.values().map(Arc::as_ref)
    }

    /// What the event at hand tells of a container: it is about that one, whoever the event's thread is.
    pub fn told(&self) -> Option<&Metadata> {
        self.told.as_deref()
    }

    /// How often an event about a container was not understood.
    pub const fn malformed(&self) -> u64 {
        self.malformed
    }

    /// Control groups of a capture, `subsystem=path` separated by NUL, under the kernel's names of subsystems. `None` for a
    /// list of which an entry has no `=`: Falco leaves what it knew.
    pub(super) fn control_groups(&mut self, area: &[u8]) -> Option<Arc<[u8]>> {
        if let Some(known) = self.lists.get(area) {
            return known.clone();
        }
        let list = normalized(area.strip_suffix(&[0]).unwrap_or(area)).map(Arc::from);
        if area.len() <= MAX_AREA {
            self.lists.insert(area.into(), list.clone());
        }
        list
    }

    /// The container of a list of control groups: that of the first path that has one.
    pub(super) fn of_control_groups(&mut self, list: &[u8]) -> Option<Arc<str>> {
        split(list).find_map(|entry| {
            let path = entry.get(memchr::memchr(b'=', entry)? + 1..).filter(|path| !path.is_empty())?;
            self.of_path(path)
        })
    }

    fn of_path(&mut self, path: &[u8]) -> Option<Arc<str>> {
        let found = match self.paths.get(path) {
            Some(known) => known.clone(),
            None => {
                let found = matcher::find(path).filter(|(id, _)| !id.is_empty());
                let found = found.map(|(id, engine)| (Arc::from(&*String::from_utf8_lossy(id)), engine));
                if path.len() <= MAX_AREA {
                    self.paths.insert(path.into(), found.clone());
                }
                found
            }
        };
        let (id, engine) = found?;
        if let Some(engine) = engine {
            self.known.insert(Arc::clone(&id), Arc::new(Metadata::bare(&id, engine)));
        }
        Some(id)
    }

    /// Takes in what an event says of a container.
    fn tell(&mut self, metadata: Option<Metadata>, is_removed: bool) {
        let Some(metadata) = metadata.map(Arc::new) else {
            self.malformed += 1;
            return;
        };
        if metadata.id.is_empty() {
            // It would be the host's entry.
            self.malformed += 1;
        } else if is_removed {
            self.known.remove(&*metadata.id);
        } else {
            self.known.insert(metadata.id.as_str().into(), Arc::clone(&metadata));
        }
        self.told = Some(metadata);
    }
}

/// The list under the kernel's names: drivers of old kernels gave those of their own source.
fn normalized(list: &[u8]) -> Option<Vec<u8>> {
    const INFIX: &[u8] = b"_cgroup";
    let mut normalized = Vec::with_capacity(list.len());
    for entry in split(list) {
        let (subsystem, path) = entry.split_at_checked(memchr::memchr(b'=', entry)?)?;
        let at = memchr::memmem::find(subsystem, INFIX).unwrap_or(subsystem.len());
        let name =
            [subsystem.get(..at).unwrap_or_default(), subsystem.get(at + INFIX.len()..).unwrap_or_default()].concat();
        normalized.extend_from_slice(match &*name {
            b"perf" => b"perf_event",
            b"mem" => b"memory",
            b"io" => b"blkio",
            name => name,
        });
        normalized.extend_from_slice(path);
        normalized.push(0);
    }
    normalized.pop();
    Some(normalized)
}

impl State {
    /// Does what Falco's container plugin does with an event, after everything else has changed.
    pub(super) fn contain(&mut self, call: &Call<'_>) {
        self.containers.told = None;
        let params = &call.params;
        match call.info.code {
            Code::ASYNCEVENT_E => {
                let is_removed = match params.text(1) {
                    Some(b"container") => false,
                    Some(b"container_removed") => true,
                    _ => return,
                };
                self.containers.tell(params.bytes(2).and_then(|json| Metadata::parse(until_nul(json))), is_removed);
            }
            Code::CONTAINER_JSON_E | Code::CONTAINER_JSON_2_E => {
                self.containers.tell(params.bytes(0).and_then(|json| Metadata::parse(until_nul(json))), false);
            }
            Code::CONTAINER_E => self.containers.tell(old_metadata(call), false),
            Code::SYSCALL_CLONE_20_X
            | Code::SYSCALL_FORK_20_X
            | Code::SYSCALL_VFORK_20_X
            | Code::SYSCALL_CLONE3_X
            | Code::SYSCALL_EXECVE_19_X
            | Code::SYSCALL_EXECVEAT_X
            | Code::SYSCALL_CHROOT_X => {
                if returned(call).is_some_and(|ret| ret >= 0)
                    && let Some(thread) = self.threads.get_mut(ThreadKey::exact(call.tid))
                {
                    thread.container = self.containers.of_control_groups(&thread.cgroups);
                }
            }
            _ => {}
        }
    }
}

/// What the oldest events about containers say.
fn old_metadata(call: &Call<'_>) -> Option<Metadata> {
    let text =
        |index| call.params.text(index).map(|text| String::from_utf8_lossy(text).into_owned()).unwrap_or_default();
    let engine = Engine(call.params.u32(1)?);
    Some(Metadata { id: text(0), engine, name: text(2), image: text(3), ..Metadata::default() })
}

#[cfg(test)]
mod tests;
