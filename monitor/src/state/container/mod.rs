//! Containers: which one a thread is in, and what is known of it.
//!
//! Either a control group tells it. Records of the sensor name the cgroup of each event ([`cgroup`]). Captures of other tools
//! tell the control groups of threads when they begin and when they run another program, and Falco's container plugin takes
//! the container's id from their paths ([`matcher`]) at these events alone: a thread that its maker told of is outside of
//! containers until it is heard itself. What is known of a container ([`metadata`]) is told by events of its own, by its id.

pub mod cgroup;
mod matcher;
pub mod metadata;
pub mod pod;
pub mod promises;
mod recent;

use std::{collections::HashSet, sync::Arc};

use monitor_ebpf::record::{FileFacts, file_flag};

use cgroup::Cgroups;
pub use cgroup::Container;
use metadata::{Engine, Metadata};
use pod::{Pod, Pods};
use promises::Promises;
use recent::Recent;

use super::{
    State,
    call::returned,
    thread::{Thread, ThreadKey, split},
};
use crate::event::{Body, Event, call::Call, path::until_nul, schema::Code};

/// Containers of which something may be known at once. A node runs some hundreds.
const MAX_CONTAINERS: usize = 8192;
/// Containers whose first process may be awaited at once.
const MAX_PROMISES: usize = 512;
/// Paths whose container is remembered.
const MAX_PATHS: usize = 4096;
/// Lists of control groups that are shared.
const MAX_LISTS: usize = 1024;
/// Where a document of the sensor has what was promised of the first process.
pub const PROMISES: &str = "promises";
/// The longest list, or path, that is worth it: what Falco's drivers give at most.
const MAX_AREA: usize = 4096;

/// What a path tells: an id, and the engine where it tells that.
type Identity = (Arc<str>, Option<Engine>);

/// Where a container has its image, and since when.
#[derive(Clone, Copy, Debug)]
struct Root {
    /// Device of the overlay.
    dev: u32,
    /// Start of its first process.
    start_ns: u64,
}

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
    /// What was promised of containers whose first process has not been seen.
    promises: Recent<Arc<str>, Promises, MAX_PROMISES>,
    /// What the Kubernetes API says of pods.
    pods: Pods,
    /// Where containers have their images, by id.
    roots: Recent<Arc<str>, Root, MAX_CONTAINERS>,
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

    /// What is known of the container of this id; of the host for an empty one.
    pub fn metadata(&self, id: &str) -> Option<&Metadata> {
        if id.is_empty() { Some(Metadata::host()) } else { self.known.get(id).map(Arc::as_ref) }
    }

    /// What is known of all containers.
    pub fn all_metadata(&self) -> impl Iterator<Item = &Metadata> {
        self.known.values().map(Arc::as_ref)
    }

    /// What the Kubernetes API says of a container's pod.
    pub fn pod(&self, container: &Container) -> Option<&Pod> {
        self.pods.get(&container.pod_uid)
    }

    /// Takes in the document of a pod record.
    pub(super) fn tell_pod(&mut self, json: &[u8]) {
        self.malformed += u64::from(!self.pods.tell(json));
    }

    /// Device of the overlay that has a container's image, once something of it has run. It is not the only overlay that its
    /// programs may see: whoever may mount can make one whose lower layers are of his own choice.
    pub fn root(&self, cgroup_id: u64) -> Option<u32> {
        self.roots.get(&*self.get(cgroup_id)?.id).map(|root| root.dev)
    }

    /// When a container's first process that was seen began, `CLOCK_BOOTTIME`.
    pub fn start_ns(&self, cgroup_id: u64) -> Option<u64> {
        self.roots.get(&*self.get(cgroup_id)?.id).map(|root| root.start_ns)
    }

    /// Learns the root of a container from the first program that runs in a mount namespace of its own: the runtime mounts
    /// the image and starts that one, before anything of the container's can mount.
    pub(super) fn see_program(&mut self, cgroup_id: u64, start_ns: u64, file: &FileFacts) {
        if file.flags & file_flag::OVERLAY != 0
            && let Some(container) = self.cgroups.get(cgroup_id)
            && self.roots.get(&*container.id).is_none()
        {
            self.roots.insert(container.id.as_str().into(), Root { dev: file.dev, start_ns });
        }
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

    /// Takes in the document of a container record, which the sensor made.
    fn describe(&mut self, json: &[u8]) {
        let read = || {
            let mut document: serde_json::Value = serde_json::from_slice(json).ok()?;
            let promises = document.get_mut(PROMISES).map(serde_json::Value::take);
            Some((Metadata::of_document(&document).filter(|metadata| !metadata.id.is_empty())?, promises))
        };
        let Some((metadata, promises)) = read() else {
            self.malformed += 1;
            return;
        };
        let id: Arc<str> = metadata.id.as_str().into();
        // The container that stands for a pod runs nothing of the pod's.
        if !metadata.is_sandbox {
            match promises.map(serde_json::from_value) {
                Some(Ok(promises)) => self.promises.insert(Arc::clone(&id), promises),
                Some(Err(_)) => self.malformed += 1,
                None => {}
            }
        }
        self.known.insert(id, Arc::new(metadata));
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
    /// A cgroup, as the sensor tells it.
    pub(super) fn cgroup(&mut self, cgroup_id: u64, path: &[u8]) {
        self.forget_ended_containers();
        self.containers.cgroups.insert(cgroup_id, path);
    }

    /// Makes room where there is none: nobody tells when a container ends, so those go first in which nothing runs.
    fn forget_ended_containers(&mut self) {
        let Containers { cgroups, known, .. } = &mut self.containers;
        if !cgroups.is_full() && !known.is_full() {
            return;
        }
        let running: HashSet<u64> =
            self.threads.all().filter(|thread| thread.ended_ns.is_none()).map(|thread| thread.cgroup_id).collect();
        let ids: HashSet<&str> = running.iter().filter_map(|id| cgroups.get(*id)).map(Container::short_id).collect();
        known.forget(|id| ids.contains(&**id));
        drop(ids);
        cgroups.forget(|id| running.contains(&id));
    }

    /// What the sensor read of a container. Where its first process runs already, the event is about that one.
    pub(super) fn describe(&mut self, event: &Event<'_>, document: &[u8]) -> Option<ThreadKey> {
        self.containers.describe(document);
        let cgroup_id = event.header.cgroup_id;
        let promises = self.containers.promises.get(self.containers.get(cgroup_id)?.short_id())?;
        let is_first = |thread: &&Thread| {
            thread.cgroup_id == cgroup_id && thread.ended_ns.is_none() && promises.are_of(thread, &self.session, false)
        };
        self.threads.all().filter(is_first).map(|thread| thread.key).min_by_key(|key| key.start_ns)
    }

    /// What was promised of the container whose first process the event at hand is about. It is given out once.
    pub fn take_promises(&mut self, event: &Event<'_>) -> Option<Promises> {
        let ran = matches!(event.body, Body::Exec(_));
        if !ran && !matches!(event.body, Body::Task(_) | Body::Container(_)) {
            return None;
        }
        let id = self.containers.get(event.header.cgroup_id)?.short_id();
        let promises = self.containers.promises.get(id)?;
        if !promises.are_of(self.thread()?, &self.session, ran) {
            return None;
        }
        let id = id.to_owned();
        self.containers.promises.remove(&*id)
    }

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
