//! What a container's runtime was told about its first process, against which the kernel's word can be held.
//!
//! The sensor writes it into a container record beside the document that Falco's plugin would make, and takes it from the
//! bundle's `config.json`. It is needed once, when the first process runs, and dropped then.

use serde::{Deserialize, Serialize};

use super::super::{
    Session,
    thread::{Image, Thread},
};

/// The promises. What a document does not have is nothing, and a document that has another type is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(clippy::struct_excessive_bools, reason = "facts that have nothing to do with each other")]
pub struct Promises {
    /// The first arguments of the first process.
    pub arguments: Vec<String>,
    /// Whether there are more.
    pub has_more_arguments: bool,
    /// User id, in the container's user namespace.
    pub uid: u32,
    /// Whether it cannot gain privileges by exec.
    pub no_new_privileges: bool,
    /// Whether its root file system is read-only.
    pub has_read_only_root: bool,
    /// The most capabilities that it can have.
    pub capabilities: u64,
    /// SHA-256 of the seccomp profile as the runtime was given it; empty without one.
    pub seccomp: String,
    /// `AppArmor` profile; empty where there is none.
    pub apparmor: String,
    /// Whether the node confines programs by `AppArmor` at all.
    pub node_has_apparmor: bool,
    /// Whether it has users of its own.
    pub has_user_namespace: bool,
    /// Whether it sees all of `/proc`.
    pub has_unmasked_proc: bool,
    /// Whether its memory is limited.
    pub has_memory_limit: bool,
    /// Whether its processor time is limited.
    pub has_cpu_limit: bool,
}

/// Arguments that an interpreter puts in front of a script's own: its name, and perhaps an option.
const INTERPRETER_ARGUMENTS: usize = 2;
/// Programs that are there before the first process, and become it.
const RUNTIMES: &[&[u8]] = &[b"runc", b"crun", b"exe", b"conmon"];

impl Promises {
    /// Whether a process is the one that they are about. `ran` is whether it was seen to run its program.
    pub(super) fn are_of(&self, thread: &Thread, session: &Session, ran: bool) -> bool {
        if !ran && is_runtime(&thread.image) {
            return false;
        }
        let is_init = thread.task.vpid == 1 && thread.task.pid_ns != session.host_pid_ns;
        is_init || self.names(&thread.image)
    }

    /// Whether a program was started with the arguments that were promised.
    fn names(&self, image: &Image) -> bool {
        let actual: Vec<&[u8]> = image.arguments().take(self.arguments.len() + INTERPRETER_ARGUMENTS + 1).collect();
        let Some((program, further)) = self.arguments.split_first() else { return false };
        (0..=INTERPRETER_ARGUMENTS).filter_map(|skipped| actual.get(skipped..)?.split_first()).any(|(first, rest)| {
            name(first) == name(program.as_bytes())
                && rest.iter().zip(further).all(|(actual, promised)| *actual == promised.as_bytes())
                && (rest.len() == further.len() || (self.has_more_arguments && rest.len() > further.len()))
        })
    }
}

/// A program's name: a promise may leave the directory to `PATH`.
fn name(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
}

/// Whether it is a runtime's own program, on its way to become the container's.
pub(in crate::state) fn is_runtime(image: &Image) -> bool {
    image.comm().starts_with(b"runc:[") || image.arguments().next().is_some_and(|first| RUNTIMES.contains(&name(first)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn promised(arguments: &[&str], has_more_arguments: bool) -> Promises {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        Promises { arguments, has_more_arguments, ..Promises::default() }
    }

    #[test]
    fn the_first_process_is_known_by_its_arguments() {
        let image = |arguments: &[&[u8]]| {
            let (exe, further) = arguments.split_first().unwrap();
            Image::new(b"x", exe, &further.join(&0), b"/x")
        };
        let of = |promises: &Promises, arguments: &[&[u8]]| promises.names(&image(arguments));
        let plain = promised(&["/app", "-v", "x"], false);
        assert!(of(&plain, &[b"/app", b"-v", b"x"]));
        assert!(of(&promised(&["app", "-v", "x"], false), &[b"/bin/app", b"-v", b"x"]), "found in PATH");
        assert!(of(&plain, &[b"/bin/sh", b"/app", b"-v", b"x"]), "a script");
        assert!(of(&plain, &[b"/bin/sh", b"-eu", b"/app", b"-v", b"x"]), "a script with an option");
        assert!(!of(&plain, &[b"/app", b"-v"]));
        assert!(!of(&plain, &[b"/app", b"-v", b"x", b"y"]));
        assert!(!of(&plain, &[b"runc", b"init"]));
        assert!(of(&promised(&["/app"], true), &[b"/app", b"much", b"more"]));
        assert!(!of(&promised(&[], false), &[b"/app"]));
    }

    #[test]
    fn a_runtime_that_waits_is_not_the_first_process() {
        assert!(is_runtime(&Image::new(b"runc:[2:INIT]", b"runc", b"init", b"/x")));
        assert!(is_runtime(&Image::new(b"crun", b"/usr/bin/crun", b"create", b"/x")));
        assert!(!is_runtime(&Image::new(b"sh", b"/bin/sh", b"", b"/x")));
    }
}
