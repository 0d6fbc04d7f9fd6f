//! Calls that open files.

use std::borrow::Cow;

use super::{returned, text_or_na};
use crate::{
    event::{call::Call, path::concatenate, schema::Code},
    state::{
        State,
        descriptor::{Descriptor, Kind, flag},
        thread::{NOT_AVAILABLE, Thread},
    },
};

/// `AT_FDCWD` in the numbers of Falco's captures.
const WORKING_DIRECTORY: i64 = -100;

/// Flags of an open file in the numbers of Falco's captures (`PPM_O_*`).
mod open_flag {
    pub(super) const DIRECTORY: u32 = 1 << 10;
    /// From here on the kernel's findings, which only the end of a call has.
    pub(super) const CREATED: u32 = 1 << 14;
    pub(super) const UPPER_LAYER: u32 = 1 << 15;
    pub(super) const LOWER_LAYER: u32 = 1 << 16;
}

/// What `creat` has instead of flags.
mod creat_flag {
    pub(super) const UPPER_LAYER: u16 = 1;
    pub(super) const LOWER_LAYER: u16 = 2;
}

/// A file as a call opened it.
struct Opened<'a> {
    name: &'a [u8],
    directory: Cow<'a, [u8]>,
    flags: u32,
    dev: u32,
    ino: u64,
}

/// Where a call has what. `None` for the directory: the working directory.
struct Layout {
    directory: Option<usize>,
    name: usize,
    flags: usize,
    dev: usize,
}

const OPEN: Layout = Layout { directory: None, name: 1, flags: 2, dev: 4 };
const OPENAT: Layout = Layout { directory: Some(1), name: 2, flags: 3, dev: 5 };
const OPENAT2: Layout = Layout { directory: Some(1), name: 2, flags: 3, dev: 6 };

impl State {
    /// Calls that open a file. `false` for others.
    pub(super) fn change_file(&mut self, code: Code, call: &Call<'_>) -> bool {
        let is_open = matches!(
            code,
            Code::SYSCALL_OPEN_X
                | Code::SYSCALL_OPENAT_2_X
                | Code::SYSCALL_OPENAT2_X
                | Code::SYSCALL_CREAT_X
                | Code::SYSCALL_OPEN_BY_HANDLE_AT_X
        );
        if is_open
            && let Some(fd) = returned(call).filter(|fd| *fd >= 0)
            && let Some(descriptor) = self.opened_descriptor(code, call)
        {
            self.open(fd, descriptor);
        }
        is_open
    }

    fn opened_descriptor(&self, code: Code, call: &Call<'_>) -> Option<Descriptor> {
        let opened = match code {
            Code::SYSCALL_OPEN_X => self.opened(call, &OPEN)?,
            Code::SYSCALL_OPENAT_2_X => self.opened(call, &OPENAT)?,
            Code::SYSCALL_OPENAT2_X => self.opened(call, &OPENAT2)?,
            Code::SYSCALL_CREAT_X => self.created(call)?,
            _ => Opened {
                name: text_or_na(call, 3),
                directory: Cow::default(),
                flags: call.params.u32(2).unwrap_or_default(),
                dev: call.params.u32(4).unwrap_or_default(),
                ino: call.params.u64(5).unwrap_or_default(),
            },
        };
        let kind = if opened.flags & open_flag::DIRECTORY != 0 { Kind::DIRECTORY } else { Kind::FILE_V2 };
        let mut flags = 0;
        if opened.flags & open_flag::UPPER_LAYER != 0 {
            flags |= flag::UPPER;
        }
        if opened.flags & open_flag::LOWER_LAYER != 0 {
            flags |= flag::LOWER;
        }
        let mut descriptor = Descriptor {
            flags,
            open_flags: opened.flags,
            name: concatenate(&opened.directory, opened.name),
            dev: opened.dev,
            ino: opened.ino,
            ..Descriptor::new(kind)
        };
        descriptor.set_name_raw(opened.name);
        Some(descriptor)
    }

    /// `open` and its kin. What the call's beginning said counts more than what its end says: the memory that held the name
    /// may have been changed meanwhile.
    fn opened<'a>(&'a self, call: &Call<'a>, layout: &Layout) -> Option<Opened<'a>> {
        let thread = self.thread()?;
        let mut name = text_or_na(call, layout.name);
        let mut flags = call.params.u32(layout.flags).unwrap_or_default();
        let mut directory = layout.directory.map(|index| call.params.i64(index));
        let (dev, ino) = device_and_inode(call, layout.dev);
        // Parameters of the beginning are those of the end without what it returned.
        if self.has_begun(call.info.code)
            && let Some(begun_name) = thread.begun.text(layout.name - 1)
        {
            name = begun_name;
            let begun_flags = thread.begun.u32(layout.flags - 1).unwrap_or_default();
            flags = begun_flags | (flags & !(open_flag::CREATED - 1));
            directory = layout.directory.map(|index| thread.begun.i64(index - 1));
        }
        let directory = match directory {
            None => Cow::Borrowed(self.threads.cwd(thread)),
            Some(None) => Cow::default(),
            Some(Some(fd)) => self.directory_or_unknown(thread, name, fd),
        };
        Some(Opened { name, directory, flags, dev, ino })
    }

    fn created<'a>(&'a self, call: &Call<'a>) -> Option<Opened<'a>> {
        let thread = self.thread()?;
        let (dev, ino) = device_and_inode(call, 3);
        let found = call.params.u16(5).unwrap_or_default();
        let flags = match found {
            found if found & creat_flag::UPPER_LAYER != 0 => open_flag::UPPER_LAYER,
            found if found & creat_flag::LOWER_LAYER != 0 => open_flag::LOWER_LAYER,
            _ => 0,
        };
        let begun = self.has_begun(call.info.code).then(|| thread.begun.text(0)).flatten();
        let name = begun.unwrap_or_else(|| text_or_na(call, 1));
        Some(Opened { name, directory: Cow::Borrowed(self.threads.cwd(thread)), flags, dev, ino })
    }

    /// The directory that a name is relative to, with a slash at its end; `.` for an absolute name, `None` if not known.
    pub fn directory_of<'a>(&'a self, thread: &'a Thread, name: &[u8], dirfd: i64) -> Option<Cow<'a, [u8]>> {
        if name.starts_with(b"/") {
            return Some(Cow::Borrowed(b"."));
        }
        if dirfd == WORKING_DIRECTORY {
            return Some(Cow::Borrowed(self.threads.cwd(thread)));
        }
        let name = &self.descriptor_of(thread, dirfd)?.name;
        Some(match name.last() {
            None | Some(b'/') => Cow::Borrowed(name),
            Some(_) => Cow::Owned([name, &b"/"[..]].concat()),
        })
    }

    /// The same, with Falco's word for what is not known.
    pub fn directory_or_unknown<'a>(&'a self, thread: &'a Thread, name: &[u8], dirfd: i64) -> Cow<'a, [u8]> {
        self.directory_of(thread, name, dirfd).unwrap_or(Cow::Borrowed(b"<UNKNOWN>"))
    }
}

impl super::Begun {
    /// A text of it, if there is one.
    fn text(&self, index: usize) -> Option<&[u8]> {
        let text = crate::event::path::until_nul(self.get(index));
        (!text.is_empty() && text != NOT_AVAILABLE && text != b"(NULL)").then_some(text)
    }

    fn u32(&self, index: usize) -> Option<u32> {
        self.get(index).first_chunk().copied().map(u32::from_le_bytes)
    }

    fn i64(&self, index: usize) -> Option<i64> {
        self.get(index).first_chunk().copied().map(i64::from_le_bytes)
    }
}

fn device_and_inode(call: &Call<'_>, dev: usize) -> (u32, u64) {
    (call.params.u32(dev).unwrap_or_default(), call.params.u64(dev + 1).unwrap_or_default())
}
