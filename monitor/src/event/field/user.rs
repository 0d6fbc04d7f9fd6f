//! `user.*` and `group.*`: whose process it is. Tabular.

use super::{Source, fields};
use crate::event::value::Value;

fields! {
    "user.uid", Uint32, [], None, "Uid of the thread.", "0"
        => Source::One(|c, _| c.process.map(|p| Value::Uint(p.task.uid.into())));
    "user.name", Text, [], None, "Name of the user: `root`, or `<NA>` for those that are known by number only.", "root"
        => Source::One(|c, _| c.process.map(|p| Value::text(if p.task.uid == 0 { "root" } else { "<NA>" })));
    "user.homedir", Text, [], None, "Home dir.", "/root"
        => Source::Refused("users and groups are known by number only yet");
    "user.shell", Text, [], None, "Shell.", "/bin/bash"
        => Source::Refused("users and groups are known by number only yet");
    "user.loginuid", Int, [], None, "Audit uid, -1 when unset.", "-1"
        => Source::One(|c, _| c.process.map(|p| Value::Int(if p.task.loginuid == u32::MAX { -1 } else { p.task.loginuid.into() })));
    "user.loginname", Text, [], None, "Name for loginuid.", "alice"
        => Source::Awaited;
    "group.gid", Uint32, [], None, "Gid.", "0"
        => Source::One(|c, _| c.process.map(|p| Value::Uint(p.task.gid.into())));
    "group.name", Text, [], None, "Group name.", "root"
        => Source::Awaited;
}
