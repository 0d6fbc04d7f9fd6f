//! The cgroup directories that a container's runtime makes, in every hierarchy, and their removal.
//!
//! A runtime makes the whole path and deletes only the last step. The parents are shared by all containers on the machine, so
//! they may only go while no container is between "parent made" and "child made": [`Presence`] is the lock for that.
use std::{
    env, fs,
    fs::File,
    io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;

/// Where cgroup hierarchies are mounted, version 1 and 2.
pub fn hierarchies() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let cgroup = |line: &&str| line.split(" - ").nth(1).is_some_and(|rest| rest.starts_with("cgroup"));
    mounts.lines().filter(cgroup).filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from).collect()
}

/// Whether the machine has version 2 alone; else crun needs a view that shows only version 2.
pub(crate) fn is_unified() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// Held while a container may exist, by every test process.
#[derive(Debug)]
pub(crate) struct Presence(File);

impl Presence {
    pub(crate) fn new() -> Result<Self> {
        let lock =
            File::options().create(true).append(true).open(env::temp_dir().join("monitor-tests-cgroups.lock"))?;
        lock.lock_shared()?;
        Ok(Self(lock))
    }

    /// Ends it, and calls `last` where no other container exists.
    pub(crate) fn end(&self, last: impl FnOnce()) {
        let _ = self.0.unlock();
        if self.0.try_lock().is_ok() {
            last();
            let _ = self.0.unlock();
        }
    }
}

/// Removes a directory tree of cgroups in every hierarchy, after killing what still runs there.
pub(crate) fn remove(path: &str) {
    for root in hierarchies() {
        let directory = root.join(path.trim_start_matches('/'));
        if !directory.is_dir() {
            continue;
        }
        let _ = fs::write(directory.join("cgroup.kill"), "1");
        // A killed process leaves its cgroup only when it is reaped.
        let deadline = Instant::now() + Duration::from_secs(3);
        while remove_tree(&directory, 4).is_err() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Removes the empty ones of these cgroups, given children first.
pub(crate) fn remove_empty(paths: &[String]) {
    for root in hierarchies() {
        for path in paths {
            let _ = fs::remove_dir(root.join(path.trim_start_matches('/')));
        }
    }
}

/// `remove_dir_all` cannot be used: the files of a cgroup are not removable, and go with their directory.
fn remove_tree(directory: &Path, depth: u32) -> io::Result<()> {
    for entry in fs::read_dir(directory)?.flatten() {
        if depth > 0 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path(), depth - 1)?;
        }
    }
    fs::remove_dir(directory)
}
