//! Which system calls containers made: the set that profiles are simulated on and generated from.
//!
//! Whoever sees a call adds it with [`Observed::add`]: container, program, call, and what is known of its arguments. Today that
//! is [`Observed::event`], which takes what captures hold: every call of a `.scap` (on x86-64; often without its arguments); of
//! our own captures the calls that rules look at and those that a filter did not simply allow, with all arguments; and
//! [`Observed::calls_made`], the calls that a container made at all, without arguments (`monitor record --calls`).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{
    profile::{Abi, filter::Arguments},
    verdict,
};
use crate::{
    context::Context,
    event::{
        Body, EventType,
        call::Call,
        schema::{Category, Code},
    },
    state::State,
    syscall::{self, Arch},
};
use monitor_ebpf::record::CallsMadeRecord;

/// Containers that are kept apart; what further ones do is counted and left out.
const MAX_CONTAINERS: usize = 4096;
/// Different arguments of a call that are kept; beyond, nothing is known of them.
const MAX_ARGUMENTS: usize = 256;
/// Programs that are named for a call.
const MAX_PROGRAMS: usize = 32;
/// Threads whose last call of that kind is remembered.
const MAX_TOLD: usize = 4096;
/// A call, and what is known of its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Made {
    /// Through this ABI.
    pub abi: Abi,
    /// With this number.
    pub nr: u32,
    /// With these arguments, as far as they are known.
    pub arguments: Arguments,
}

/// How often a call was made, and by whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// How often.
    pub count: u64,
    /// By these programs, each with its number of calls.
    pub programs: BTreeMap<String, u64>,
    /// First and last time, nanoseconds since 1970.
    pub times_ns: (u64, u64),
}

/// What a container did.
#[derive(Clone, Debug, Default)]
pub struct Container {
    /// Its image, where that is known.
    pub image: String,
    /// Its calls.
    pub calls: BTreeMap<Made, Seen>,
    /// How many different arguments each call had.
    variants: HashMap<(Abi, u32), usize>,
}

/// The calls of all containers.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// By id as it is shown; the host's own processes are under the empty one.
    pub containers: BTreeMap<String, Container>,
    /// Calls of containers beyond those that are kept, and calls without a number.
    pub left_out: u64,
    /// Whether calls were seen that came without arguments.
    pub lacks_arguments: bool,
    /// Calls of threads that were told by a record of their own, and may be told again by one that a filter judged.
    told: HashMap<i64, (Abi, u32)>,
}

impl Observed {
    /// A call was made.
    pub fn add(&mut self, container: &str, program: &str, made: Made, time_ns: u64) {
        if !self.containers.contains_key(container) && self.containers.len() == MAX_CONTAINERS {
            self.left_out += 1;
            return;
        }
        let own = self.containers.entry(container.to_owned()).or_default();
        let known = own.calls.contains_key(&made);
        let variants = own.variants.entry((made.abi, made.nr)).or_default();
        let made = if known || *variants < MAX_ARGUMENTS { made } else { Made { arguments: [None; 6], ..made } };
        let seen = own.calls.entry(made).or_insert_with(|| {
            *variants += 1;
            Seen { times_ns: (time_ns, time_ns), ..Seen::default() }
        });
        seen.count += 1;
        seen.times_ns = (seen.times_ns.0.min(time_ns), seen.times_ns.1.max(time_ns));
        if let Some(count) = seen.programs.get_mut(program) {
            *count += 1;
        } else if seen.programs.len() < MAX_PROGRAMS {
            seen.programs.insert(program.to_owned(), 1);
        }
        self.lacks_arguments |= made.arguments.contains(&None);
    }

    /// Takes in what an event tells of a call.
    pub fn event(&mut self, context: &Context<'_>) {
        let Some(made) = made(context) else {
            self.left_out += u64::from(context.event.call().is_some_and(is_exit));
            return;
        };
        match context.event.body {
            Body::Exec(_) | Body::Call(Call { told: Some(_), .. }) => {
                if self.told.len() == MAX_TOLD {
                    self.told.clear();
                }
                self.told.insert(context.tid(), (made.abi, made.nr));
            }
            Body::SeccompCall(_) if self.told.remove(&context.tid()) == Some((made.abi, made.nr)) => return,
            _ => {}
        }
        let id = context.container_id().unwrap_or_default();
        let program = context.thread.map(|thread| {
            let image = &thread.image;
            String::from_utf8_lossy(if image.executable.is_empty() { &image.exe } else { &image.executable })
                .into_owned()
        });
        self.add(id, program.as_deref().unwrap_or("<unknown>"), made, context.time_ns());
        if let (Some(metadata), Some(own)) = (context.container_metadata(), self.containers.get_mut(id))
            && own.image.is_empty()
        {
            own.image.clone_from(&metadata.image);
        }
    }

    /// Takes in which calls a container made for the first time; by which program is not known.
    pub fn calls_made(&mut self, state: &State, record: &CallsMadeRecord) {
        let id = state.containers.get(record.header.cgroup_id).map_or("", |container| container.short_id());
        let time_ns = state.unix_ns(record.header.ktime_ns);
        let tables = [(false, &record.native), (true, &record.compat)];
        for (compat, words) in tables {
            let arch = Arch::of(state.session.machine, compat);
            let set = |(word, bits): (usize, &u64)| {
                let bits = *bits;
                (0..64)
                    .filter(move |bit| bits >> bit & 1 != 0)
                    .filter_map(move |bit| u32::try_from(word * 64 + bit).ok())
            };
            for nr in words.iter().enumerate().flat_map(set) {
                self.add(id, "<unknown>", Made { abi: Abi::of_call(arch, nr), nr, arguments: [None; 6] }, time_ns);
            }
        }
    }

    /// Leaves only this container; its id may be shortened. Whether there is one.
    pub fn keep(&mut self, container: &str) -> bool {
        self.containers.retain(|id, _| {
            !container.is_empty() && (id.starts_with(container) || container.starts_with(id) && !id.is_empty())
        });
        !self.containers.is_empty()
    }

    /// Names of all calls, in order.
    pub fn names(&self) -> BTreeSet<String> {
        let calls = self.containers.values().flat_map(|container| container.calls.keys());
        calls.map(|made| made.abi.call_name(made.nr).into_owned()).collect()
    }
}

/// The call that an event tells of.
fn made(context: &Context<'_>) -> Option<Made> {
    let machine = context.state.session.machine;
    let known = |arch: Arch, nr: i32, arguments| {
        let nr = nr.cast_unsigned();
        Some(Made { abi: Abi::of_call(arch, nr), nr, arguments })
    };
    match &context.event.body {
        Body::SeccompCall(call) => {
            let arguments = call.args.map(Some);
            let cleared =
                call.ret == 0 && call.args == [0; 6] && is_exec_name(verdict::arch(machine, &call.header), call.nr);
            // A successful exec leaves empty registers.
            known(verdict::arch(machine, &call.header), call.nr, if cleared { [None; 6] } else { arguments })
        }
        Body::Call(Call { told: Some(told), .. }) => {
            let record = &told.syscall.record;
            known(verdict::arch(machine, &record.header), record.nr, record.args.map(Some))
        }
        Body::Exec(_) => {
            let arch = verdict::arch(machine, &context.event.header);
            known(arch, syscall::number(arch, "execve")?.cast_signed(), [None; 6])
        }
        Body::Call(call) if is_exit(call) => {
            let nr = number(call, context.event_type)?;
            Some(Made { abi: Abi::X86_64, nr, arguments: arguments(call) })
        }
        _ => None,
    }
}

fn is_exec_name(arch: Arch, nr: i32) -> bool {
    ["execve", "execveat"].contains(&&*syscall::name(arch, nr))
}

/// A call is told at its end. Calls of the kernel's own (`procexit`, a switch) are none.
fn is_exit(call: &Call<'_>) -> bool {
    call.info.code.is_exit() && call.info.category.is(Category::SYSCALL)
}

/// Its number on x86-64.
fn number(call: &Call<'_>, event_type: EventType) -> Option<u32> {
    if call.info.code == Code::GENERIC_X
        && let Some(native) = call.params.u16(1).filter(|native| *native > 0)
    {
        return Some(native.into());
    }
    number_of(event_type.name())
}

/// The number of a name of Falco's on x86-64. A few are not the kernel's: `pread` for `pread64`.
fn number_of(name: &str) -> Option<u32> {
    Abi::X86_64.number(name).or_else(|| Abi::X86_64.number(&format!("{name}64")))
}

/// Parameters that are an argument as it was: call, parameter, argument.
const RAW: &[(&str, &str, usize)] = &[("ioctl", "request", 1), ("socket", "domain", 0), ("socket", "proto", 2)];

fn arguments(call: &Call<'_>) -> Arguments {
    let mut arguments = [None; 6];
    for (_, parameter, argument) in RAW.iter().filter(|(name, ..)| *name == call.info.name) {
        let Some(at) = call.info.position(parameter) else { continue };
        let value = match call.params.get(at).map(<[u8]>::len) {
            Some(8) => call.params.u64(at),
            Some(4) => call.params.u32(at).map(u64::from),
            _ => None,
        };
        if let Some(place) = arguments.get_mut(*argument) {
            *place = value;
        }
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(nr: u32, argument: u64) -> Made {
        Made { abi: Abi::X86_64, nr, arguments: [Some(argument); 6] }
    }

    #[test]
    fn calls_are_counted_by_container_arguments_and_program() {
        let mut observed = Observed::default();
        observed.add("a", "/bin/x", made(0, 1), 20);
        observed.add("a", "/bin/y", made(0, 1), 10);
        observed.add("a", "/bin/x", made(0, 2), 30);
        observed.add("b", "/bin/x", made(1, 1), 30);
        let a = &observed.containers["a"];
        let seen = &a.calls[&made(0, 1)];
        assert_eq!((seen.count, seen.times_ns, seen.programs.len(), a.calls.len()), (2, (10, 20), 2, 2));
        assert_eq!(observed.names().into_iter().collect::<Vec<_>>(), ["read", "write"]);
        assert!(observed.keep("b") && observed.containers.len() == 1);
        assert!(!observed.keep("c"));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut observed = Observed::default();
        for argument in 0..1000 {
            observed.add("a", &argument.to_string(), made(0, argument), 0);
        }
        let calls = &observed.containers["a"].calls;
        assert!(calls.len() <= MAX_ARGUMENTS + 1 && calls.values().map(|seen| seen.count).sum::<u64>() == 1000);
        assert!(calls.values().all(|seen| seen.programs.len() <= MAX_PROGRAMS) && observed.lacks_arguments);
        for container in 0..MAX_CONTAINERS + 5 {
            observed.add(&format!("c{container}"), "x", made(0, 0), 0);
        }
        assert_eq!((observed.containers.len(), observed.left_out), (MAX_CONTAINERS, 6));
    }

    #[test]
    fn falcos_names_have_numbers() {
        assert_eq!((number_of("pread"), number_of("openat"), number_of("prlimit")), (Some(17), Some(257), Some(302)));
    }
}
