//! The process tree.
//!
//! A process is keyed by `(tgid, start time)`, which is not reused. What an exec brings is an [`Image`], shared by the forks
//! that run it. A process that ended stays while it has children, so that ancestors can be named, and a moment longer, because
//! records of different CPUs may arrive out of order.

use std::{collections::VecDeque, sync::Arc};

use hashbrown::HashMap;
use monitor_ebpf::record::{COMM_LEN, FileFacts, ForkRecord, Header, TaskFacts};
use zerocopy::FromZeros as _;

use crate::event::{
    Exec, Task,
    path::{RawPath, arguments, until_nul},
};

/// Processes that may be known at once, running and ended.
const MAX_PROCESSES: usize = 262_144;
/// Ended processes kept for their children.
const MAX_ENDED: usize = 16_384;
/// How long an ended process without children is kept.
const LINGER_NS: u64 = 2_000_000_000;
/// Ancestors that are followed.
const MAX_ANCESTORS: usize = 16;

/// What makes a process one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct ProcessKey {
    /// Process id in the initial pid namespace.
    pub tgid: u32,
    /// Start, `CLOCK_BOOTTIME`.
    pub start_ns: u64,
}

impl ProcessKey {
    /// The process that a record is about.
    pub const fn of(header: &Header) -> Self {
        Self { tgid: header.tgid, start_ns: header.start_ns }
    }
}

/// What a process runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Command name and arguments without the first, joined by blanks. Made once, for rules ask for it with every event.
    line: Vec<u8>,
    comm_len: usize,
    /// Path of the program; empty where it is not known.
    pub executable: Vec<u8>,
    /// The argument area.
    arguments: Vec<u8>,
    /// Working directory at the exec.
    pub cwd: Vec<u8>,
    /// The program's file.
    pub file: FileFacts,
}

impl Image {
    fn new(
        comm: &[u8; COMM_LEN],
        argument_area: &[u8],
        executable: RawPath<'_>,
        cwd: RawPath<'_>,
        file: FileFacts,
    ) -> Self {
        let comm = until_nul(comm);
        let mut line = comm.to_vec();
        for argument in arguments(argument_area).skip(1) {
            line.push(b' ');
            line.extend_from_slice(argument);
        }
        Self {
            line,
            comm_len: comm.len(),
            executable: executable.to_absolute(),
            arguments: argument_area.to_vec(),
            cwd: cwd.to_directory(),
            file,
        }
    }

    /// Of a process of which only the command name is known.
    fn unknown(comm: &[u8; COMM_LEN]) -> Self {
        let line = until_nul(comm).to_vec();
        Self {
            comm_len: line.len(),
            line,
            executable: Vec::new(),
            arguments: Vec::new(),
            cwd: Vec::new(),
            file: FileFacts::new_zeroed(),
        }
    }

    /// Command name, without padding.
    pub fn comm(&self) -> &[u8] {
        self.line.get(..self.comm_len).unwrap_or_default()
    }

    /// The arguments.
    pub fn arguments(&self) -> impl Iterator<Item = &[u8]> {
        arguments(&self.arguments)
    }

    /// Arguments without the first, joined by blanks: Falco's `proc.args`.
    pub fn args_text(&self) -> &[u8] {
        self.line.get(self.comm_len + 1..).unwrap_or_default()
    }

    /// Command name and arguments, joined by blanks: Falco's `proc.cmdline`.
    pub fn command_line(&self) -> &[u8] {
        &self.line
    }

    /// The first argument and the others, joined by blanks: Falco's `proc.exeline`.
    pub fn exe_line(&self) -> Vec<u8> {
        self.arguments().collect::<Vec<_>>().join(&b' ')
    }
}

/// A process.
#[derive(Clone, Debug)]
pub struct Process {
    /// Its key.
    pub key: ProcessKey,
    /// Its parent's key; of the parent at its start.
    pub parent: ProcessKey,
    /// What it runs.
    pub image: Arc<Image>,
    /// Credentials and namespaces, as of its last record that told them.
    pub task: TaskFacts,
    /// Its cgroup.
    pub cgroup_id: u64,
    /// When it ended.
    ended_ns: Option<u64>,
    /// Processes in the table whose parent it is.
    children: u32,
}

/// The table.
#[derive(Debug, Default)]
pub struct Processes {
    table: HashMap<ProcessKey, Process>,
    /// Ended processes, oldest first.
    ended: VecDeque<(u64, ProcessKey)>,
}

impl Processes {
    /// A process, running or recently ended.
    pub fn get(&self, key: ProcessKey) -> Option<&Process> {
        self.table.get(&key)
    }

    /// Processes known.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Ancestors, parent first; ends where one is not known. Bounded, and so safe against a forged circle.
    pub fn ancestors(&self, process: &Process) -> impl Iterator<Item = &Process> {
        let mut next = process.parent;
        std::iter::from_fn(move || {
            let parent = self.table.get(&next)?;
            next = parent.parent;
            Some(parent)
        })
        .take(MAX_ANCESTORS)
    }

    /// The process of a record, made from the record where it is not known.
    pub fn known(&mut self, header: &Header, comm: &[u8; COMM_LEN]) -> &Process {
        let key = ProcessKey::of(header);
        if !self.table.contains_key(&key) {
            let mut task = TaskFacts::new_zeroed();
            task.comm = *comm;
            self.insert(key, ProcessKey::default(), Arc::new(Image::unknown(comm)), task, header.cgroup_id);
        }
        let process = self.table.entry(key).or_insert_with(|| Process {
            key,
            parent: ProcessKey::default(),
            image: Arc::new(Image::unknown(comm)),
            task: TaskFacts::new_zeroed(),
            cgroup_id: header.cgroup_id,
            ended_ns: None,
            children: 0,
        });
        process.cgroup_id = header.cgroup_id;
        process
    }

    pub(super) fn snapshot(&mut self, header: &Header, task: &Task<'_>) {
        let image = Image::new(&task.task.comm, task.arguments, task.executable, task.cwd, task.file);
        let parent = ProcessKey { tgid: task.task.parent_tgid, start_ns: task.task.parent_start_ns };
        self.insert(ProcessKey::of(header), parent, Arc::new(image), task.task, header.cgroup_id);
    }

    pub(super) fn fork(&mut self, header: &Header, fork: &ForkRecord) {
        let child = ProcessKey { tgid: fork.child_tgid, start_ns: fork.child_start_ns };
        if self.table.contains_key(&child) {
            // The snapshot met the child already, and knows it at least as well.
            return;
        }
        let parent = ProcessKey::of(header);
        let (image, mut task) = match self.table.get(&parent) {
            Some(process) => (Arc::clone(&process.image), process.task),
            None => (Arc::new(Image::unknown(&[0; COMM_LEN])), TaskFacts::new_zeroed()),
        };
        task.parent_tgid = parent.tgid;
        task.parent_start_ns = parent.start_ns;
        task.vpid = fork.child_vpid;
        task.pid_ns = fork.child_pid_ns;
        self.insert(child, parent, image, task, header.cgroup_id);
    }

    pub(super) fn exec(&mut self, header: &Header, exec: &Exec<'_>) {
        let image = Image::new(&exec.task.comm, exec.arguments, exec.executable, exec.cwd, exec.file);
        let key = ProcessKey::of(header);
        // The parent at the fork says more than the reaper that may be the parent by now.
        let parent = match self.table.get(&key) {
            Some(process) if process.parent != ProcessKey::default() => process.parent,
            _ => ProcessKey { tgid: exec.task.parent_tgid, start_ns: exec.task.parent_start_ns },
        };
        self.insert(key, parent, Arc::new(image), exec.task, header.cgroup_id);
    }

    pub(super) fn exit(&mut self, header: &Header) {
        let key = ProcessKey::of(header);
        if let Some(process) = self.table.get_mut(&key)
            && process.ended_ns.is_none()
        {
            process.ended_ns = Some(header.ktime_ns);
            self.ended.push_back((header.ktime_ns, key));
        }
    }

    pub(super) fn moved(&mut self, key: ProcessKey, cgroup_id: u64) {
        if let Some(process) = self.table.get_mut(&key) {
            process.cgroup_id = cgroup_id;
        }
    }

    /// Forgets ended processes that nothing needs any more.
    pub(super) fn expire(&mut self, now_ns: u64) {
        // Each pass looks at the oldest only; one that must stay for its children goes to the back. At most a few per
        // record, so that the work per record is bounded.
        for _ in 0..2 {
            let Some(&(ended_ns, key)) = self.ended.front() else { return };
            let crowded = self.ended.len() > MAX_ENDED;
            if !crowded && now_ns.saturating_sub(ended_ns) < LINGER_NS {
                return;
            }
            self.ended.pop_front();
            match self.table.get(&key) {
                Some(process) if process.children > 0 && !crowded => self.ended.push_back((now_ns, key)),
                Some(_) => self.remove(key),
                None => {}
            }
        }
    }

    fn insert(&mut self, key: ProcessKey, parent: ProcessKey, image: Arc<Image>, task: TaskFacts, cgroup_id: u64) {
        if let Some(process) = self.table.get_mut(&key) {
            (process.image, process.task, process.cgroup_id) = (image, task, cgroup_id);
            if process.parent == ProcessKey::default() {
                process.parent = parent;
                self.adopt(parent, true);
            }
            return;
        }
        if self.table.len() >= MAX_PROCESSES {
            match self.ended.pop_front() {
                Some((_, oldest)) => self.remove(oldest),
                // Nothing has ended: more processes than the kernel's largest pid_max run, or exits were lost.
                None => return,
            }
        }
        self.table.insert(key, Process { key, parent, image, task, cgroup_id, ended_ns: None, children: 0 });
        self.adopt(parent, true);
    }

    fn remove(&mut self, key: ProcessKey) {
        if let Some(process) = self.table.remove(&key) {
            self.adopt(process.parent, false);
        }
    }

    fn adopt(&mut self, parent: ProcessKey, more: bool) {
        if let Some(parent) = self.table.get_mut(&parent) {
            parent.children = if more { parent.children + 1 } else { parent.children.saturating_sub(1) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{decode::decode, record::builder, state::State};

    fn play(records: &[Vec<u8>]) -> State {
        let mut state = State::default();
        for bytes in records {
            state.apply(&decode(bytes).unwrap());
        }
        state
    }

    fn key(tgid: u32) -> ProcessKey {
        ProcessKey { tgid, start_ns: u64::from(tgid) }
    }

    #[test]
    fn a_child_runs_its_parents_program_until_it_execs() {
        let mut records = vec![builder::exec(1, 0, "/bin/sh", &["sh", "-c", "ls"]), builder::fork(1, 2)];
        let state = play(&records);
        assert_eq!(state.processes.get(key(2)).unwrap().image.command_line(), b"sh -c ls");
        records.push(builder::exec(2, 1, "/bin/ls", &["ls"]));
        let state = play(&records);
        let child = state.processes.get(key(2)).unwrap();
        assert_eq!(child.image.executable, b"/bin/ls");
        assert_eq!(state.processes.ancestors(child).map(|p| p.image.comm()).collect::<Vec<_>>(), [&b"sh"[..]]);
    }

    #[test]
    fn an_ended_parent_stays_while_it_has_children() {
        let mut state = play(&[builder::exec(1, 0, "/bin/sh", &["sh"]), builder::fork(1, 2), builder::exit(1)]);
        for now in 1..100 {
            state.processes.expire(now * LINGER_NS);
        }
        assert!(state.processes.get(key(1)).is_some(), "the child's ancestor");
        state.apply(&decode(&builder::exit(2)).unwrap());
        for now in 100..110 {
            state.processes.expire(now * LINGER_NS);
        }
        assert_eq!(state.processes.len(), 0);
    }

    #[test]
    fn a_million_short_lived_processes_do_not_grow_the_table() {
        let mut state = play(&[builder::exec(1, 0, "/bin/sh", &["sh"])]);
        let mut most = 0;
        for tgid in 2..1_000_002_u32 {
            let mut header = builder::of(monitor_ebpf::record::Kind::FORK, 1);
            header.ktime_ns = u64::from(tgid) * 1000;
            let fork = ForkRecord {
                header,
                child_start_ns: u64::from(tgid),
                child_tgid: tgid,
                child_vpid: 0,
                child_pid_ns: 0,
                reserved: 0,
            };
            state.processes.fork(&header, &fork);
            (header.tgid, header.start_ns) = (tgid, u64::from(tgid));
            state.processes.exit(&header);
            state.processes.expire(header.ktime_ns);
            most = most.max(state.processes.len());
        }
        assert!(most <= MAX_ENDED + 8, "{most} processes");
    }
}
