//! What files hold that run in containers and are not their images': SHA-256, and whether a copy of an image's file still has
//! the image's content.
//!
//! A file is read when the record comes that tells of it, and what is found goes into the stream right in front of that
//! record, so that a finding has it. It is read by a thread of its own, which the ring waits for [`PATIENCE`] at most, for not
//! more than a quarter of its time, and not at all while an earlier file is being read: what comes late stands behind the
//! finding, which then says that it has no digest, and serves the next one. A file is read once for as long as its inode does
//! not change.

mod overlay;
mod read;

use std::{
    collections::{HashSet, VecDeque},
    path::PathBuf,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
    time::{Duration, Instant},
};

use monitor_ebpf::{
    record::{CallRecord, ExecRecord, FileFacts, Header, Kind, file_flag},
    settings::SCRIPT_OPENS,
};
use zerocopy::FromBytes as _;

use crate::{
    decode::decode,
    event::{Body, path::RawPath},
    syscall::{self, Arch},
};

/// How long the ring waits for a file. One of a megabyte takes some milliseconds.
const PATIENCE: Duration = Duration::from_millis(100);
/// Of its time the ring waits one part in so many.
const SHARE: u32 = 4;
/// Files that may wait to be read.
const MAX_WAITING: usize = 64;
/// Files that are known to have been read.
const MAX_KNOWN: usize = 16_384;
/// Largest file that may be a script.
const MAX_SCRIPT_BYTES: u64 = 1 << 20;
/// Processes that may be about to open a script.
const MAX_BEGUN: usize = 1024;

/// What makes the content of a file one content.
type Content = (u32, u64, u64);

/// A file that is to be read.
struct Wanted {
    /// The header of the record that tells of it.
    header: Header,
    /// The parent of its process, which is there when that is gone; 0 where the record does not tell it.
    parent: u32,
    file: FileFacts,
    /// Its path, as its process sees it.
    path: Vec<u8>,
    /// Whether it is what the process executes.
    is_program: bool,
}

/// The reader's side of the ring.
pub(super) struct Digests {
    wanted: SyncSender<Wanted>,
    answers: Receiver<Vec<u8>>,
    /// Answers that are due.
    due: usize,
    known: HashSet<Content>,
    /// The same, oldest first.
    order: VecDeque<Content>,
    /// Processes that began lately, by their ids, and how many of their opens may be that of a script.
    begun: Vec<(u32, u8)>,
    /// Time that may be waited.
    credit: Duration,
    refilled: Instant,
}

impl Digests {
    /// Starts the thread. It ends with this value, or when the file that it reads gives in.
    pub(super) fn start(host_root: PathBuf) -> std::io::Result<Self> {
        let (wanted, requests) = sync_channel::<Wanted>(MAX_WAITING);
        let (replies, answers) = sync_channel(MAX_WAITING);
        thread::Builder::new().name("digests".into()).spawn(move || {
            while let Ok(wanted) = requests.recv() {
                if replies.send(read::record(&wanted, &host_root)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self {
            wanted,
            answers,
            due: 0,
            known: HashSet::new(),
            order: VecDeque::new(),
            begun: vec![(0, 0); MAX_BEGUN],
            credit: PATIENCE,
            refilled: Instant::now(),
        })
    }

    /// Passes on what came late.
    pub(super) fn late(&mut self, each: &mut dyn FnMut(&[u8])) {
        while let Ok(record) = self.answers.try_recv() {
            self.due = self.due.saturating_sub(1);
            each(&record);
        }
    }

    /// Looks at a record of the ring that is about to be passed on: in front of it comes what the file holds that it tells of.
    pub(super) fn before(&mut self, record: &[u8], each: &mut dyn FnMut(&[u8])) {
        let Some(wanted) = self.wanted(record) else { return };
        let content = (wanted.file.dev, wanted.file.ino, wanted.file.ctime_ns);
        if self.known.contains(&content) || self.wanted.try_send(wanted).is_err() {
            // Where too many wait already the finding says that there is no digest.
            return;
        }
        self.remember(content);
        self.due += 1;
        let begin = Instant::now();
        self.credit = (self.credit + begin.duration_since(self.refilled) / SHARE).min(PATIENCE);
        let deadline = begin + self.credit;
        // What was due before did not come in time: no more waiting until it has.
        while self.due == 1
            && let Ok(record) = self.answers.recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
            self.due = 0;
            each(&record);
        }
        self.refilled = Instant::now();
        self.credit = self.credit.saturating_sub(self.refilled.duration_since(begin));
    }

    fn remember(&mut self, content: Content) {
        if self.known.insert(content) {
            self.order.push_back(content);
        }
        if self.order.len() > MAX_KNOWN
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    /// The file that a record tells of, if it may have drifted.
    fn wanted(&mut self, record: &[u8]) -> Option<Wanted> {
        let (header, _) = Header::read_from_prefix(record).ok()?;
        match header.kind {
            Kind::EXEC => {
                let (fixed, _) = ExecRecord::read_from_prefix(record).ok()?;
                self.begin(header.tgid, if fixed.file.flags & file_flag::OVERLAY == 0 { 0 } else { SCRIPT_OPENS });
                if !may_have_drifted(&fixed.file) {
                    return None;
                }
                let event = decode(record).ok()?;
                let Body::Exec(exec) = event.body else { return None };
                Some(wanted(header, fixed.task.parent_tgid, fixed.file, exec.executable, true))
            }
            Kind::CALL => {
                let (fixed, _) = CallRecord::read_from_prefix(record).ok()?;
                if fixed.ret < 0 || !may_have_drifted(&fixed.file) || !(is_code(&fixed) || self.may_be_script(&fixed)) {
                    return None;
                }
                let event = decode(record).ok()?;
                let Body::Syscall(call) = event.body else { return None };
                Some(wanted(header, 0, fixed.file, call.path, false))
            }
            _ => None,
        }
    }

    fn slot(&mut self, tgid: u32) -> Option<&mut (u32, u8)> {
        self.begun.get_mut(usize::try_from(tgid).ok()? % MAX_BEGUN)
    }

    fn begin(&mut self, tgid: u32, opens: u8) {
        if let Some(slot) = self.slot(tgid) {
            *slot = (tgid, opens);
        }
    }

    /// Whether a call is an open for reading soon after its program began.
    fn may_be_script(&mut self, call: &CallRecord) -> bool {
        const FMODE_WRITE: u32 = 2;
        const FMODE_READ: u32 = 1;
        let is_small = call.file.size_bytes <= MAX_SCRIPT_BYTES;
        if call.open_mode & (FMODE_READ | FMODE_WRITE) != FMODE_READ
            || !is_small
            || !is_one_of(&["open", "openat", "openat2"], call.nr)
        {
            return false;
        }
        let tgid = call.header.tgid;
        match self.slot(tgid) {
            Some((owner, opens)) if *owner == tgid && *opens > 0 => {
                *opens -= 1;
                true
            }
            _ => false,
        }
    }
}

fn wanted(header: Header, parent: u32, file: FileFacts, path: RawPath<'_>, is_program: bool) -> Wanted {
    Wanted { header, parent, file, path: path.to_absolute(), is_program }
}

/// Whether a file is one that no image holds as it is.
const fn may_have_drifted(file: &FileFacts) -> bool {
    file.flags & (file_flag::OVERLAY_UPPER | file_flag::UNLINKED | file_flag::MEMFD) != 0
}

const NATIVE: Arch = if cfg!(target_arch = "aarch64") { Arch::Aarch64 } else { Arch::X86_64 };

/// Whether a call maps code. Numbers of 32-bit calls are not told apart: at worst a file is read that need not be.
fn is_code(call: &CallRecord) -> bool {
    const PROT_EXEC: u64 = 4;
    let [_, _, protection, ..] = call.args;
    protection & PROT_EXEC != 0 && is_one_of(&["mmap", "mprotect"], call.nr)
}

fn is_one_of(names: &[&str], nr: i32) -> bool {
    let nr = u32::try_from(nr).ok();
    nr.is_some() && names.iter().any(|name| syscall::number(NATIVE, name) == nr)
}

#[cfg(test)]
mod tests;
