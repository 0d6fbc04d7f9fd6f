//! Both sides of the kernel boundary lay out the same structs in the same way: those of this build, and those of the BPF
//! object as its own type information describes them.
use std::{fs, mem::offset_of};

use anyhow::{Context as _, Result, ensure};
use monitor::sensor::btf::Btf;
use monitor_ebpf::{
    record::{self, FileFacts, Header, TaskFacts},
    settings::{Settings, Table},
};
use object::{Object as _, ObjectSection as _};
use tests::environment::bpf_object;

/// A struct of this build.
struct Layout {
    name: &'static str,
    size: usize,
    members: &'static [(&'static str, usize)],
}

macro_rules! layouts_of_kinds {
    ($(($kind:ident, $layout:ident)),*) => {
        [$(Layout {
            name: stringify!($layout), size: size_of::<record::$layout>(), members: record::$layout::MEMBERS,
        }),*]
    };
}

macro_rules! members {
    ($layout:ident: $($member:ident),*) => {
        &[$((stringify!($member), offset_of!($layout, $member))),*]
    };
}

/// Everything that crosses the boundary.
fn layouts() -> Vec<Layout> {
    let mut layouts: Vec<_> = monitor_ebpf::for_each_record!(layouts_of_kinds).into();
    layouts.extend([
        Layout { name: "Header", size: size_of::<Header>(), members: Header::MEMBERS },
        Layout { name: "FileFacts", size: size_of::<FileFacts>(), members: FileFacts::MEMBERS },
        Layout { name: "TaskFacts", size: size_of::<TaskFacts>(), members: TaskFacts::MEMBERS },
        Layout {
            name: "Settings",
            size: size_of::<Settings>(),
            members: members!(Settings: compat_mask, nr_mask, seccomp_method, agent_tgid, observe, pressure_bytes, reserve_bytes, budget, native, compat),
        },
        Layout {
            name: "Table",
            size: size_of::<Table>(),
            members: members!(Table: seccomp, prctl, bitmap_limit, plans),
        },
    ]);
    layouts
}

#[test]
fn the_bpf_object_and_the_agent_agree_on_every_layout() -> Result<()> {
    let Some(path) = bpf_object() else { return Ok(()) };
    let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
    let file = object::File::parse(&*bytes)?;
    let types = file.section_by_name(".BTF").context("the object has no type information")?.data()?;
    let layouts = layouts();
    let names: Vec<_> = layouts.iter().map(|layout| layout.name).collect();
    let btf = Btf::parse(types, &names)?;
    for Layout { name, size, members } in layouts {
        let (_, bytes) = btf.member(name).with_context(|| format!("the object does not describe {name}"))?;
        ensure!(bytes as usize == size, "{name} has {bytes} bytes in the object, {size} here");
        ensure!(!members.is_empty(), "{name} has no members");
        for (member, offset) in members {
            let path = format!("{name}.{member}");
            let (at, _) = btf.member(&path).with_context(|| format!("the object has no {path}"))?;
            ensure!(at as usize == *offset, "{path} is at {at} in the object, at {offset} here");
        }
    }
    Ok(())
}
