//! The end of a system call as the sensor tells it, before it becomes an event of Falco's table.

use monitor_ebpf::record::{CallRecord, SocketFacts, header_flag};

use super::path::RawPath;

/// A system call that ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Syscall<'a> {
    /// Numbers and the file.
    pub record: CallRecord,
    /// The socket, where the descriptor is one.
    pub socket: Option<SocketFacts>,
    /// Texts that it was given.
    pub texts: [&'a [u8]; 3],
    /// Structure that it was given, or the name of a Unix socket.
    pub structure: &'a [u8],
    /// Path of the open file.
    pub path: RawPath<'a>,
    /// Directories that the first two texts are relative to.
    pub directories: [Option<RawPath<'a>>; 2],
}

impl Syscall<'_> {
    /// Whether it came through the 32-bit entry.
    pub const fn is_compat(&self) -> bool {
        self.record.header.flags & header_flag::COMPAT != 0
    }

    /// Whether its first text is an absolute path.
    pub fn is_absolute(&self) -> bool {
        self.texts[0].starts_with(b"/")
    }

    /// An argument, or what it returned, by the number that a plan has for it.
    pub fn number(&self, index: u8) -> u64 {
        self.record.args.get(usize::from(index)).copied().unwrap_or(self.record.ret.cast_unsigned())
    }
}
