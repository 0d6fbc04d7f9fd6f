//! Users and groups, as captures tell them.
//!
//! Falco has a table for the host and one for each container. But it fills a container's from the container's own files
//! alone, which a replay cannot read: what events say of users in containers changes nothing, and their names are not known.
//! Falco also asks the machine it runs on for users of the host that a capture does not list. A replay gives the same
//! everywhere, so that is not done here; root alone needs no list.

use hashbrown::HashMap;

use super::{
    State,
    call::returned,
    thread::{NOT_AVAILABLE, ThreadKey},
};
use crate::event::{call::Call, listed, path::until_nul, schema::Code};

/// Users, and groups, that may be known at once.
const MAX_ENTRIES: usize = 16_384;
/// Bytes of a name, as Falco cuts it.
const MAX_NAME: usize = 255;
/// Bytes of a path, as Falco cuts it.
const MAX_PATH: usize = 1023;
/// Nobody.
const NONE: u32 = u32::MAX;

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its name.
    pub name: Box<[u8]>,
    /// Its home directory.
    pub home: Box<[u8]>,
    /// Its shell.
    pub shell: Box<[u8]>,
}

impl User {
    fn new(name: &[u8], home: &[u8], shell: &[u8]) -> Self {
        Self { name: cut(name, MAX_NAME), home: cut(home, MAX_PATH), shell: cut(shell, MAX_PATH) }
    }
}

/// A group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: Box<[u8]>,
}

impl Group {
    fn new(name: &[u8]) -> Self {
        Self { name: cut(name, MAX_NAME) }
    }
}

fn cut(text: &[u8], most: usize) -> Box<[u8]> {
    let text = until_nul(text);
    text.get(..most).unwrap_or(text).into()
}

/// Entries of the network's name service, which stand for others: Falco passes over them.
fn is_placeholder(name: &[u8]) -> bool {
    matches!(name, [b'+' | b'-', ..])
}

/// Users and groups of the host.
#[derive(Debug, Default)]
pub struct Users {
    by_uid: HashMap<u32, User>,
    by_gid: HashMap<u32, Group>,
    /// What the capture lists, until its first event that is not about users or containers: Falco takes the list in only then.
    listed: Listed,
}

#[derive(Debug, Default)]
struct Listed {
    users: Vec<(u32, User)>,
    groups: Vec<(u32, Group)>,
}

impl Users {
    /// A user, of a container or, if that is empty, of the host.
    pub fn user(&self, container_id: &str, uid: u32) -> Option<&User> {
        self.by_uid.get(&uid).filter(|_| container_id.is_empty())
    }

    /// A group, of a container or, if that is empty, of the host.
    pub fn group(&self, container_id: &str, gid: u32) -> Option<&Group> {
        self.by_gid.get(&gid).filter(|_| container_id.is_empty())
    }

    pub(super) fn list(&mut self, listed: &listed::User<'_>) {
        if self.listed.users.len() < MAX_ENTRIES && !is_placeholder(listed.name) {
            let user = User::new(listed.name, listed.home, listed.shell);
            self.put(listed.uid, user.clone());
            self.listed.users.push((listed.uid, user));
        }
    }

    pub(super) fn list_group(&mut self, listed: &listed::Group<'_>) {
        if self.listed.groups.len() < MAX_ENTRIES && !is_placeholder(listed.name) {
            let group = Group::new(listed.name);
            self.put_group(listed.gid, group.clone());
            self.listed.groups.push((listed.gid, group));
        }
    }

    /// The first events are over, which tell what was there before.
    fn end_lists(&mut self) {
        if self.listed.users.is_empty() && self.listed.groups.is_empty() {
            return;
        }
        for (uid, user) in std::mem::take(&mut self.listed.users) {
            self.put(uid, user);
        }
        for (gid, group) in std::mem::take(&mut self.listed.groups) {
            self.put_group(gid, group);
        }
    }

    fn put(&mut self, uid: u32, user: User) {
        if self.by_uid.len() < MAX_ENTRIES || self.by_uid.contains_key(&uid) {
            self.by_uid.insert(uid, user);
        }
    }

    fn put_group(&mut self, gid: u32, group: Group) {
        if self.by_gid.len() < MAX_ENTRIES || self.by_gid.contains_key(&gid) {
            self.by_gid.insert(gid, group);
        }
    }

    /// Takes in that a user or a group was added or removed.
    pub(super) fn notice(&mut self, call: &Call<'_>) {
        let code = call.info.code;
        let (name_at, container_at) = match code {
            Code::USER_ADDED_E | Code::USER_DELETED_E => (2, 5),
            _ => (1, 2),
        };
        let Some(id) = call.params.u32(0) else { return };
        if call.params.text(container_at).is_some_and(|container| !container.is_empty()) {
            return;
        }
        match code {
            Code::USER_DELETED_E => drop(self.by_uid.remove(&id)),
            Code::GROUP_DELETED_E => drop(self.by_gid.remove(&id)),
            _ => {
                let params = &call.params;
                let text = |index| params.bytes(index).map(|_| params.text(index).unwrap_or(NOT_AVAILABLE));
                let Some(name) = text(name_at).filter(|name| !is_placeholder(name)) else { return };
                if code == Code::USER_ADDED_E {
                    let path = |index| text(index).unwrap_or(NOT_AVAILABLE);
                    self.put(id, User::new(name, path(3), path(4)));
                } else {
                    self.put_group(id, Group::new(name));
                }
            }
        }
    }

    /// Somebody is seen: root has a name wherever it is.
    pub(super) fn meet(&mut self, uid: u32, gid: u32) {
        if uid == 0 && !self.by_uid.contains_key(&0) {
            self.put(0, User::new(b"root", b"/root", NOT_AVAILABLE));
        }
        if gid == 0 && !self.by_gid.contains_key(&0) {
            self.put_group(0, Group::new(b"root"));
        }
    }
}

impl State {
    /// Takes in who is seen with an event, after it has changed the thread and before that is in another container.
    pub(super) fn meet_users(&mut self, call: &Call<'_>) {
        const CLONE_UID: usize = 16;
        let code = call.info.code;
        if !code.is_notice_of_state() {
            self.users.end_lists();
        }
        let is_done = || returned(call).is_some_and(|ret| ret >= 0);
        match code {
            // Falco takes whoever is cloned for one of the host at first.
            Code::SYSCALL_CLONE_20_X | Code::SYSCALL_FORK_20_X | Code::SYSCALL_VFORK_20_X | Code::SYSCALL_CLONE3_X
                if is_done() =>
            {
                let id = |index| call.params.u32(index).unwrap_or(NONE);
                self.users.meet(id(CLONE_UID), id(CLONE_UID + 1));
            }
            Code::SYSCALL_EXECVE_19_X
            | Code::SYSCALL_EXECVEAT_X
            | Code::SYSCALL_SETUID_X
            | Code::SYSCALL_SETREUID_X
            | Code::SYSCALL_SETRESUID_X
            | Code::SYSCALL_SETGID_X
            | Code::SYSCALL_SETREGID_X
            | Code::SYSCALL_SETRESGID_X
                if is_done() =>
            {
                let thread = self.threads.get(ThreadKey::exact(call.tid));
                if let Some(thread) = thread.filter(|thread| thread.container.is_none()) {
                    let (uid, gid) = (thread.uid, thread.gid);
                    self.users.meet(uid, gid);
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
