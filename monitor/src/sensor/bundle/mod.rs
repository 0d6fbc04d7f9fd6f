//! What runtimes were told of containers, read as soon as their cgroups are made.
//!
//! A runtime writes a container's bundle before it makes the cgroup, and runs the first process after it. So the bundle is
//! read when the cgroup's record comes, and what is read goes into the stream right behind that record: in front of
//! everything that the container does. Files are read by a thread of their own, because whoever wrote the bundle's path may
//! have put it on a file system that never answers; the ring waits for an answer for [`PATIENCE`] at most, and not at all
//! while an earlier one is due. A bundle that is not there yet is looked for again, and its record comes late.

mod describe;
mod place;
mod profile;
mod spec;

use std::{
    collections::HashSet,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use monitor_ebpf::record::{Header, Kind};
use zerocopy::FromBytes as _;

use super::ktime_ns;
use crate::{
    decode::decode,
    event::Body,
    record,
    state::container::{Container, metadata::Engine},
};
use place::Bundle;

/// How long the ring waits for a bundle. It takes a fraction of a millisecond where a processor is free for the thread.
const PATIENCE: Duration = Duration::from_millis(100);
/// How often a bundle that was not there is looked for.
const RETRY: Duration = Duration::from_millis(20);
/// How long.
const LATEST: Duration = Duration::from_secs(2);
/// Containers that may wait to be looked at, and bundles that may be looked for again.
const MAX_WAITING: usize = 256;

/// Where bundles are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// Where the node's root directory is seen.
    pub host_root: PathBuf,
    /// Directories of containerd's tasks besides the usual ones: `NAMESPACE/ID/config.json` is in them.
    pub tasks: Vec<PathBuf>,
}

impl Default for Places {
    fn default() -> Self {
        Self { host_root: PathBuf::from("/"), tasks: Vec::new() }
    }
}

/// The documents that a `config.json` gives on this machine, of the container and of its seccomp profile: a bundle is written by
/// whoever may start containers.
pub fn documents(config: Vec<u8>) -> Option<(Vec<u8>, Vec<u8>)> {
    const ID: &str = "0000000000000000000000000000000000000000000000000000000000000000";
    let bundle = Bundle { engine: Engine::CONTAINERD, config, docker: None };
    let (places, spec) = (Places::default(), describe::spec(&bundle)?);
    let node = place::Node::new(&places);
    Some((describe::document(ID, &bundle, &spec, &node)?, profile::document(&spec, &node)?))
}

/// How many containers came, and of how many it is known what they are.
#[derive(Clone, Debug, Default)]
pub struct Counts(Arc<[AtomicU64; 2]>);

impl Counts {
    /// Containers whose cgroup was seen.
    pub fn containers(&self) -> u64 {
        let [containers, _] = &*self.0;
        containers.load(Ordering::Relaxed)
    }

    /// Those of which the bundle was read.
    pub fn identified(&self) -> u64 {
        let [_, identified] = &*self.0;
        identified.load(Ordering::Relaxed)
    }

    fn count(&self, is_identified: bool) {
        let [containers, identified] = &*self.0;
        (if is_identified { identified } else { containers }).fetch_add(1, Ordering::Relaxed);
    }
}

/// A container whose bundle is wanted.
struct Wanted {
    cgroup_id: u64,
    id: String,
}

/// What was found.
struct Answer {
    /// Whether it is the first answer for its container, which the ring may be waiting for.
    is_first: bool,
    records: Vec<Vec<u8>>,
}

/// The reader's side of the ring.
pub(super) struct Bundles {
    wanted: SyncSender<Wanted>,
    answers: Receiver<Answer>,
    /// First answers that are due.
    due: usize,
    /// Cgroups of the snapshot, of which the ring may tell again.
    listed: HashSet<u64>,
    counts: Counts,
}

impl Bundles {
    /// Starts the thread. It ends with this value, or when the file that it reads gives in.
    pub(super) fn start(places: Places) -> std::io::Result<Self> {
        let (wanted, requests) = sync_channel(MAX_WAITING);
        let (replies, answers) = sync_channel(MAX_WAITING);
        let counts = Counts::default();
        let counted = counts.clone();
        thread::Builder::new().name("bundles".into()).spawn(move || serve(&places, &requests, &replies, &counted))?;
        Ok(Self { wanted, answers, due: 0, listed: HashSet::new(), counts })
    }

    /// How many containers came.
    pub(super) fn counts(&self) -> Counts {
        self.counts.clone()
    }

    /// Passes on what came late.
    pub(super) fn late(&mut self, each: &mut dyn FnMut(&[u8])) {
        while let Ok(answer) = self.answers.try_recv() {
            self.take(&answer, each);
        }
    }

    /// Looks at a record of the snapshot.
    pub(super) fn listed(&mut self, record: &[u8], each: &mut dyn FnMut(&[u8])) {
        if let Some(wanted) = wanted(record) {
            self.listed.insert(wanted.cgroup_id);
            self.ask(wanted, each);
        }
    }

    /// Looks at a record of the ring that has been passed on: behind that of a container's cgroup comes what the container is.
    pub(super) fn behind(&mut self, record: &[u8], each: &mut dyn FnMut(&[u8])) {
        if let Some(wanted) = wanted(record).filter(|wanted| !self.listed.contains(&wanted.cgroup_id)) {
            self.ask(wanted, each);
        }
    }

    fn ask(&mut self, wanted: Wanted, each: &mut dyn FnMut(&[u8])) {
        self.counts.count(false);
        if self.wanted.try_send(wanted).is_err() {
            // Too many wait already: this one stays unidentified, as the counts show.
            return;
        }
        self.due += 1;
        let deadline = Instant::now() + PATIENCE;
        // What was due before did not come in time: no more waiting until it has.
        while self.due == 1
            && let Ok(answer) = self.answers.recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
            self.take(&answer, each);
        }
    }

    fn take(&mut self, answer: &Answer, each: &mut dyn FnMut(&[u8])) {
        self.due = self.due.saturating_sub(usize::from(answer.is_first));
        answer.records.iter().for_each(|record| each(record));
    }
}

/// The container that a cgroup's record is about. Cgroups below a container's own are not asked for again.
fn wanted(record: &[u8]) -> Option<Wanted> {
    let (header, _) = Header::read_from_prefix(record).ok().filter(|(header, _)| header.kind == Kind::CGROUP)?;
    let event = decode(record).ok()?;
    let Body::Cgroup(path) = event.body else { return None };
    let container = Container::from_cgroup(path)?;
    let is_own = container.cgroup_path.rsplit('/').next().is_some_and(|last| last.contains(&container.id));
    is_own.then_some(Wanted { cgroup_id: header.cgroup_id, id: container.id })
}

/// The thread: one answer at once for each container, and one more for each bundle that came later.
fn serve(places: &Places, requests: &Receiver<Wanted>, replies: &SyncSender<Answer>, counts: &Counts) {
    let reply = |is_first, records: Vec<Vec<u8>>| {
        if !records.is_empty() {
            counts.count(true);
        }
        replies.send(Answer { is_first, records }).is_ok()
    };
    let mut awaited: Vec<(Instant, Wanted)> = Vec::new();
    loop {
        let patience = if awaited.is_empty() { Duration::MAX } else { RETRY };
        match requests.recv_timeout(patience) {
            Ok(wanted) => {
                let records = look(places, &wanted).unwrap_or_default();
                if records.is_empty() && awaited.len() < MAX_WAITING {
                    awaited.push((Instant::now() + LATEST, wanted));
                }
                if !reply(true, records) {
                    return;
                }
            }
            Err(RecvTimeoutError::Timeout) => {
                let mut is_open = true;
                awaited.retain(|(latest, wanted)| match look(places, wanted) {
                    Some(records) => {
                        is_open &= reply(false, records);
                        false
                    }
                    None => Instant::now() < *latest,
                });
                if !is_open {
                    return;
                }
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// The records of a container, if its bundle is there: what it is, and its seccomp profile.
fn look(places: &Places, wanted: &Wanted) -> Option<Vec<Vec<u8>>> {
    let (bundle, node) = (Bundle::find(places, &wanted.id)?, place::Node::new(places));
    let spec = describe::spec(&bundle)?;
    let document = describe::document(&wanted.id, &bundle, &spec, &node)?;
    let profile = profile::document(&spec, &node)?;
    let now = ktime_ns();
    Some(vec![
        record::container(now, wanted.cgroup_id, &document),
        record::seccomp_profile(now, wanted.cgroup_id, &profile),
    ])
}

#[cfg(test)]
mod tests;
