//! `user.*` and `group.*`: whose process it is. Tabular.

use super::{Source, fields};
use crate::{
    context::Context,
    event::{schema::Code, value::Value},
    state::{
        thread::{NOT_AVAILABLE, Thread},
        user::User,
    },
};

fields! {
    "user.uid", Uint32, [], None, "Uid of the thread.", "0"
        => Source::One(|c, _| c.thread.map(|p| Value::Uint(p.uid.into())));
    "user.name", Text, [], None, "Name of the user: `root`, or `<NA>` for those that are known by number only.", "root"
        => Source::One(|c, _| user_of_container(c).or_else(|| user(c, |p| p.uid, |user| &user.name, b"root")));
    "user.homedir", Text, [CAPTURE], None, "Home dir.", "/root"
        => Source::One(|c, _| user(c, |p| p.uid, |user| &user.home, b"/root"));
    "user.shell", Text, [CAPTURE], None, "Shell.", "/bin/bash"
        => Source::One(|c, _| user(c, |p| p.uid, |user| &user.shell, NOT_AVAILABLE));
    "user.loginuid", Int, [], None, "Audit uid, -1 when unset.", "-1"
        => Source::One(|c, _| c.thread.map(|p| Value::Int(if p.loginuid == u32::MAX { -1 } else { p.loginuid.into() })));
    "user.loginname", Text, [CAPTURE], None, "Name for loginuid.", "alice"
        => Source::One(|c, _| user(c, |p| p.loginuid, |user| &user.name, b"root"));
    "group.gid", Uint32, [], None, "Gid.", "0"
        => Source::One(|c, _| c.thread.map(|p| Value::Uint(p.gid.into())));
    "group.name", Text, [CAPTURE], None, "Group name.", "root"
        => Source::One(|c, _| {
            let thread = c.thread?;
            let group = c.state.users.group(container_id(thread), thread.gid);
            Some(Value::text(match group {
                Some(group) => &*group.name,
                None if thread.gid == 0 => b"root",
                None => NOT_AVAILABLE,
            }))
        });
}

fn container_id(thread: &Thread) -> &str {
    thread.container.as_deref().unwrap_or_default()
}

/// What is known of a user of the thread; of root without being told.
fn user<'c>(
    c: &'c Context<'_>,
    id: fn(&Thread) -> u32,
    value: fn(&User) -> &[u8],
    of_root: &'static [u8],
) -> Option<Value<'c>> {
    let thread = c.thread?;
    let uid = id(thread);
    let user = c.state.users.user(container_id(thread), uid);
    Some(Value::text(user.map_or(if uid == 0 { of_root } else { NOT_AVAILABLE }, value)))
}

/// The user that a container runs as, if the event tells of one and its thread is in one.
fn user_of_container<'c>(c: &'c Context<'_>) -> Option<Value<'c>> {
    let call = c.event.call()?;
    let is_about_container = match call.info.code {
        Code::CONTAINER_JSON_2_E => true,
        Code::ASYNCEVENT_E => call.params.text(1) == Some(b"container"),
        _ => false,
    };
    let container = c.thread.filter(|_| is_about_container)?.container.as_deref()?;
    let user = &c.state.containers.metadata(container)?.user;
    (!user.is_empty()).then(|| Value::text(user))
}
