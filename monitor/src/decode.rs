//! From a record's bytes to an [`Event`].
//!
//! Total: any bytes give an event or an error, never a panic, and nothing is allocated. The layouts come from the ABI's own
//! table, so a new kind is missing here only until the compiler says so.

use monitor_ebpf::{
    for_each_record,
    record::{
        CallRecord, CallsMadeRecord, CgroupAttachRecord, CgroupRecord, ClockRecord, ContainerRecord, DigestRecord,
        EndRecord, ExecRecord, ExitRecord, ForkRecord, GroupRecord, Header, Kind, LossRecord, MAX_RECORD_BYTES,
        PodRecord, RulesRecord, SeccompCallRecord, SeccompFilterRecord, SeccompProfileRecord, SessionRecord,
        SigsysRecord, SocketFacts, TaskRecord, UserRecord,
    },
};
use thiserror::Error;
use zerocopy::FromBytes as _;

use crate::event::{
    Body, Event, Exec, Session, Task,
    listed::{Group, User},
    path::{RawPath, until_nul},
    syscall::Syscall,
};

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// Shorter than its kind's fixed part.
    #[error("record of kind {kind} has {got} bytes, its fixed part needs {need}", kind = kind.name())]
    Short {
        /// Which kind, as far as it is known.
        kind: Kind,
        /// Bytes there.
        got: usize,
        /// Bytes needed.
        need: usize,
    },
    /// Longer than any record.
    #[error("record of {got} bytes is longer than {MAX_RECORD_BYTES}")]
    Long {
        /// Bytes there.
        got: usize,
    },
    /// The header's length is not the length of the bytes.
    #[error("record of kind {kind} says {said} bytes and has {got}", kind = kind.name())]
    Length {
        /// Which kind.
        kind: Kind,
        /// Length in the header.
        said: u32,
        /// Bytes there.
        got: usize,
    },
    /// A kind that this version does not know.
    #[error("record of unknown kind {0}", kind.0)]
    Unknown {
        /// Its number.
        kind: Kind,
    },
    /// The lengths of the pieces do not add up to the tail.
    #[error("pieces of a record of kind {kind} do not fit its tail of {tail} bytes", kind = kind.name())]
    Pieces {
        /// Which kind.
        kind: Kind,
        /// Bytes of the tail.
        tail: usize,
    },
}

impl DecodeError {
    /// A word for metrics.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Short { .. } => "short",
            Self::Long { .. } => "long",
            Self::Length { .. } => "length",
            Self::Unknown { .. } => "unknown",
            Self::Pieces { .. } => "pieces",
        }
    }
}

/// Decodes one record.
pub fn decode(bytes: &[u8]) -> Result<Event<'_>, DecodeError> {
    let got = bytes.len();
    if got > MAX_RECORD_BYTES {
        return Err(DecodeError::Long { got });
    }
    let Ok((header, _)) = Header::read_from_prefix(bytes) else {
        return Err(DecodeError::Short { kind: Kind(0), got, need: size_of::<Header>() });
    };
    let kind = header.kind;
    if usize::try_from(header.len) != Ok(got) {
        return Err(DecodeError::Length { kind, said: header.len, got });
    }
    macro_rules! dispatch {
        ($(($constant:ident, $layout:ident)),*) => {
            match kind {
                $(Kind::$constant => {
                    let need = size_of::<$layout>();
                    let Ok((fixed, tail)) = $layout::read_from_prefix(bytes) else {
                        return Err(DecodeError::Short { kind, got, need });
                    };
                    let mut pieces = Pieces { rest: tail, short: false };
                    let body = fixed.body(&mut pieces);
                    // The kernel's programs mask lengths, never pad: every byte belongs to a piece.
                    if pieces.short || !pieces.rest.is_empty() {
                        return Err(DecodeError::Pieces { kind, tail: tail.len() });
                    }
                    body
                })*
                _ => return Err(DecodeError::Unknown { kind }),
            }
        };
    }
    Ok(Event { header, body: for_each_record!(dispatch) })
}

/// The tail, taken piece by piece.
struct Pieces<'a> {
    rest: &'a [u8],
    short: bool,
}

impl<'a> Pieces<'a> {
    fn take(&mut self, len: impl Into<u32>) -> &'a [u8] {
        let len = usize::try_from(len.into()).unwrap_or(usize::MAX);
        if let Some((piece, rest)) = self.rest.split_at_checked(len) {
            self.rest = rest;
            piece
        } else {
            self.short = true;
            &[]
        }
    }

    fn string(&mut self, len: u16) -> &'a [u8] {
        until_nul(self.take(len))
    }

    fn path(&mut self, len: u16) -> RawPath<'a> {
        RawPath(self.take(len))
    }
}

/// Puts fixed part and tail together.
trait IntoBody<'a> {
    fn body(self, pieces: &mut Pieces<'a>) -> Body<'a>;
}

/// Kinds without a tail.
macro_rules! fixed_only {
    ($($layout:ident => $variant:ident),*) => {
        $(impl<'a> IntoBody<'a> for $layout {
            fn body(self, _: &mut Pieces<'a>) -> Body<'a> {
                Body::$variant(self)
            }
        })*
    };
}

fixed_only! {
    ForkRecord => Fork, ExitRecord => Exit, CgroupAttachRecord => CgroupAttach, SigsysRecord => Sigsys,
    SeccompCallRecord => SeccompCall, CallsMadeRecord => CallsMade, DigestRecord => Digest, LossRecord => Loss, EndRecord => End, RulesRecord => Rules,
    ClockRecord => Clock
}

impl<'a> IntoBody<'a> for ExecRecord {
    fn body(self, pieces: &mut Pieces<'a>) -> Body<'a> {
        Body::Exec(Exec {
            task: self.task,
            file: self.file,
            stdin_mode: self.stdin_mode,
            filename: pieces.string(self.filename_len),
            interpreter: pieces.string(self.interpreter_len),
            arguments: pieces.take(self.arguments_len),
            executable: pieces.path(self.executable_len),
            cwd: pieces.path(self.cwd_len),
            environment: (self.environment_len > 0).then(|| pieces.take(self.environment_len)),
        })
    }
}

impl<'a> IntoBody<'a> for CgroupRecord {
    fn body(self, pieces: &mut Pieces<'a>) -> Body<'a> {
        Body::Cgroup(pieces.string(self.path_len))
    }
}

impl<'a> IntoBody<'a> for ContainerRecord {
    fn body(self, pieces: &mut Pieces<'a>) -> Body<'a> {
        Body::Container(pieces.take(self.document_len))
    }
}

impl<'a> IntoBody<'a> for SeccompProfileRecord {
    fn body(self, pieces: &mut Pieces<'a>) -> Body<'a> {
        Body::SeccompProfile(pieces.take(self.document_len))
    }
}

impl<'a> IntoBody<'a> for PodRecord {
    fn body(self, pieces: &mut Pieces<'a>) -> Body<'a> {
        Body::Pod(pieces.take(self.document_len))
    }
}

impl<'a> IntoBody<'a> for SeccompFilterRecord {
    fn body(self, pieces: &mut Pieces<'a>) -> Body<'a> {
        Body::SeccompFilter(self, pieces.take(self.instructions_len))
    }
}

impl<'a> IntoBody<'a> for CallRecord {
    fn body(self, pieces: &mut Pieces<'a>) -> Body<'a> {
        let socket = pieces.take(self.socket_len);
        let texts = self.text_len.map(|len| pieces.string(len));
        Body::Syscall(Syscall {
            record: self,
            socket: SocketFacts::read_from_bytes(socket).ok(),
            texts,
            structure: pieces.take(self.structure_len),
            path: pieces.path(self.path_len),
            directories: self.directory_len.map(|len| (len > 0).then(|| pieces.path(len))),
        })
    }
}

impl<'a> IntoBody<'a> for TaskRecord {
    fn body(self, pieces: &mut Pieces<'a>) -> Body<'a> {
        Body::Task(Task {
            task: self.task,
            file: self.file,
            arguments: pieces.take(self.arguments_len),
            executable: pieces.path(self.executable_len),
            cwd: pieces.path(self.cwd_len),
        })
    }
}

impl<'a> IntoBody<'a> for UserRecord {
    fn body(self, pieces: &mut Pieces<'a>) -> Body<'a> {
        let [name, home, shell] = [self.name_len, self.home_len, self.shell_len].map(|len| pieces.take(len));
        Body::ListedUser(User { uid: self.uid, gid: self.gid, name, home, shell })
    }
}

impl<'a> IntoBody<'a> for GroupRecord {
    fn body(self, pieces: &mut Pieces<'a>) -> Body<'a> {
        Body::ListedGroup(Group { gid: self.gid, name: pieces.take(self.name_len) })
    }
}

impl<'a> IntoBody<'a> for SessionRecord {
    fn body(self, pieces: &mut Pieces<'a>) -> Body<'a> {
        Body::Session(Session {
            facts: self,
            hostname: pieces.take(self.hostname_len),
            kernel_release: pieces.take(self.kernel_release_len),
            boot_id: pieces.take(self.boot_id_len),
            agent_version: pieces.take(self.agent_version_len),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::builder;
    use proptest::prelude::*;

    #[test]
    fn every_kind_survives_truncation_at_every_length() {
        for bytes in builder::one_of_each() {
            decode(&bytes).unwrap();
            for len in 0..bytes.len() {
                assert!(decode(&bytes[..len]).is_err(), "kind {} cut at {len}", bytes[0]);
            }
        }
    }

    #[test]
    fn a_length_that_does_not_fit_the_tail_is_an_error() {
        let mut bytes = builder::exec(1, 1, "/bin/ls", &["ls"]);
        bytes.push(0);
        let len = u32::try_from(bytes.len()).unwrap();
        bytes[4..8].copy_from_slice(&len.to_le_bytes());
        assert_eq!(decode(&bytes).unwrap_err().kind(), "pieces");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = decode(&bytes);
        }

        #[test]
        fn flipped_bytes_never_panic(index in 0_usize..14, at in 0_usize..1000, value in any::<u8>()) {
            let all = builder::one_of_each();
            let mut bytes = all[index % all.len()].clone();
            let at = at % bytes.len();
            bytes[at] = value;
            let _ = decode(&bytes);
        }
    }
}
