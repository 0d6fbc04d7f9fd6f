//! What records of the sensor tell of processes.

use std::sync::Arc;

use monitor_ebpf::record::{COMM_LEN, FileFacts, ForkRecord, Header, TaskFacts, file_flag};
use zerocopy::FromZeros as _;

use super::{
    State,
    container::promises::is_runtime,
    thread::{Capabilities, Executable, Image, Thread, ThreadKey},
};
use crate::event::{Exec, Task, path::until_nul};

impl State {
    /// The process of a record, made from the record where it is not known.
    pub(super) fn known(&mut self, header: &Header, comm: &[u8; COMM_LEN]) -> Option<&Thread> {
        let key = ThreadKey::of(header);
        if self.threads.get(key).is_none() {
            let mut task = TaskFacts::new_zeroed();
            task.comm = *comm;
            let image = Arc::new(Image::unknown(until_nul(comm)));
            self.put(key, ThreadKey::default(), image, task, header.cgroup_id);
        }
        let process = self.threads.get_mut(key)?;
        process.cgroup_id = header.cgroup_id;
        Some(process)
    }

    pub(super) fn snapshot(&mut self, header: &Header, task: &Task<'_>) {
        let image = Image::recorded(&task.task.comm, task.arguments, task.executable, task.cwd, task.file);
        let parent = ThreadKey::process(task.task.parent_tgid, task.task.parent_start_ns);
        self.see_program(header, &task.task, &image);
        self.put(ThreadKey::of(header), parent, Arc::new(image), task.task, header.cgroup_id);
    }

    pub(super) fn fork(&mut self, header: &Header, fork: &ForkRecord) {
        let child = ThreadKey::process(fork.child_tgid, fork.child_start_ns);
        if self.threads.get(child).is_some() {
            // The snapshot met the child already, and knows it at least as well.
            return;
        }
        let parent = ThreadKey::of(header);
        let (image, mut task, environment) = match self.threads.get(parent) {
            Some(process) => (Arc::clone(&process.image), process.task, Arc::clone(&process.environment)),
            None => (Arc::new(Image::unknown(&[])), TaskFacts::new_zeroed(), Arc::default()),
        };
        task.parent_tgid = header.tgid;
        task.parent_start_ns = header.start_ns;
        task.vpid = fork.child_vpid;
        task.pid_ns = fork.child_pid_ns;
        self.put(child, parent, image, task, header.cgroup_id);
        if let Some(child) = self.threads.get_mut(child) {
            child.environment = environment;
        }
    }

    pub(super) fn exec(&mut self, header: &Header, exec: &Exec<'_>) {
        let image = Image::recorded(&exec.task.comm, exec.arguments, exec.executable, exec.cwd, exec.file);
        let parent = ThreadKey::process(exec.task.parent_tgid, exec.task.parent_start_ns);
        self.see_program(header, &exec.task, &image);
        let key = ThreadKey::of(header);
        self.put(key, parent, Arc::new(image), exec.task, header.cgroup_id);
        let now = self.unix_ns(header.ktime_ns);
        if let Some(thread) = self.threads.get_mut(key) {
            thread.exec_ns = now;
            if let Some(environment) = exec.environment {
                thread.environment = environment.strip_suffix(&[0]).unwrap_or(environment).into();
            }
        }
        self.await_script(key, exec);
    }

    /// The first program that runs in a container's own mount namespace shows where its image is.
    fn see_program(&mut self, header: &Header, task: &TaskFacts, image: &Image) {
        if task.mnt_ns != self.session.host_mnt_ns && !is_runtime(image) {
            self.containers.see_program(header.cgroup_id, header.start_ns, &image.file);
        }
    }

    pub(super) fn moved(&mut self, key: ThreadKey, cgroup_id: u64) {
        if let Some(process) = self.threads.get_mut(key) {
            process.cgroup_id = cgroup_id;
        }
    }

    fn put(&mut self, key: ThreadKey, parent: ThreadKey, image: Arc<Image>, task: TaskFacts, cgroup_id: u64) {
        let clone_ns = self.unix_ns(key.start_ns);
        let cwd = match &*image.cwd {
            [.., b'/'] | [] => image.cwd.clone(),
            path => [path, b"/"].concat(),
        };
        self.threads.insert(Thread {
            pid: key.tid,
            parent,
            vtid: task.vpid.into(),
            vpid: task.vpid.into(),
            uid: task.euid,
            gid: task.gid,
            loginuid: task.loginuid,
            tty: task.tty,
            sid: task.session.into(),
            pgid: task.process_group.into(),
            vpgid: task.own_process_group.into(),
            executable: executable(&image.file, clone_ns),
            cwd,
            capabilities: Capabilities { inheritable: 0, permitted: task.cap_permitted, effective: task.cap_effective },
            clone_ns,
            cgroup_id,
            task,
            ..Thread::new(key, image)
        });
    }
}

fn executable(file: &FileFacts, clone_ns: u64) -> Executable {
    let has = |flag| file.flags & flag != 0;
    Executable {
        writable: false,
        upper_layer: has(file_flag::OVERLAY_UPPER),
        lower_layer: has(file_flag::OVERLAY) && !has(file_flag::OVERLAY_UPPER),
        from_memfd: has(file_flag::MEMFD),
        ino: file.ino,
        ctime_ns: file.ctime_ns,
        mtime_ns: file.mtime_ns,
        ctime_to_clone_ns: if file.ctime_ns == 0 { 0 } else { clone_ns.saturating_sub(file.ctime_ns) },
        pidns_start_to_ctime_ns: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{decode::decode, record::builder};
    use monitor_ebpf::record::Kind;

    fn play(records: &[Vec<u8>]) -> State {
        let mut state = State::default();
        for bytes in records {
            state.apply(&decode(bytes).unwrap());
        }
        state
    }

    fn key(tgid: u32) -> ThreadKey {
        ThreadKey::process(tgid, u64::from(tgid))
    }

    #[test]
    fn a_child_runs_its_parents_program_until_it_execs() {
        let mut records = vec![builder::exec(1, 0, "/bin/sh", &["sh", "-c", "ls"]), builder::fork(1, 2)];
        let state = play(&records);
        assert_eq!(state.threads.get(key(2)).unwrap().image.command_line(), b"sh -c ls");
        records.push(builder::exec(2, 1, "/bin/ls", &["ls"]));
        let state = play(&records);
        let child = state.threads.get(key(2)).unwrap();
        assert_eq!(child.image.executable, b"/bin/ls");
        assert_eq!(state.threads.ancestors(child).map(|p| p.image.comm()).collect::<Vec<_>>(), [&b"sh"[..]]);
    }

    #[test]
    fn an_ended_parent_stays_while_it_has_children() {
        const LONG_NS: u64 = 2_000_000_000;
        let mut state = play(&[builder::exec(1, 0, "/bin/sh", &["sh"]), builder::fork(1, 2), builder::exit(1)]);
        for now in 1..100 {
            state.threads.expire(now * LONG_NS);
        }
        assert!(state.threads.get(key(1)).is_some(), "the child's ancestor");
        state.apply(&decode(&builder::exit(2)).unwrap());
        for now in 100..110 {
            state.threads.expire(now * LONG_NS);
        }
        assert_eq!(state.threads.len(), 0);
    }

    #[test]
    fn a_million_short_lived_processes_do_not_grow_the_table() {
        const MOST: usize = 16_384 + 8;
        let mut state = play(&[builder::exec(1, 0, "/bin/sh", &["sh"])]);
        let mut most = 0;
        for tgid in 2..1_000_002_u32 {
            let mut header = builder::of(Kind::FORK, 1);
            header.ktime_ns = u64::from(tgid) * 1000;
            let fork = ForkRecord {
                header,
                child_start_ns: u64::from(tgid),
                child_tgid: tgid,
                child_vpid: 0,
                child_pid_ns: 0,
                reserved: 0,
            };
            state.fork(&header, &fork);
            (header.tgid, header.start_ns) = (tgid, u64::from(tgid));
            state.threads.linger(ThreadKey::of(&header), header.ktime_ns);
            state.threads.expire(header.ktime_ns);
            most = most.max(state.threads.len());
        }
        assert!(most <= MOST, "{most} processes");
    }
}
