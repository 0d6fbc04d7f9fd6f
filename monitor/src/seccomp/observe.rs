//! Which system calls containers made: the set that profiles are simulated on and generated from.
//!
//! Whoever sees a call adds it with [`Observed::add`]: container, program, call, and what is known of its arguments. Today that
//! is [`Observed::event`], which takes what captures hold: every call of a `.scap` (on x86-64; often without its arguments); of
//! our own captures the calls that rules look at and those that a filter did not simply allow, with all arguments; and
//! [`Observed::calls_made`], the calls that a container made at all, without arguments (`monitor record --calls`).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Serialize;

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
    state::{State, container::metadata::Metadata},
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
    /// The image's digest, where the reference has it.
    pub digest: String,
    /// Its pod, as `NAMESPACE/NAME`, where that is known.
    pub pod: String,
    /// Its calls.
    pub calls: BTreeMap<Made, Seen>,
    /// How many different arguments each call had.
    variants: HashMap<(Abi, u32), usize>,
    /// Calls of which nothing is known but that they were made.
    noted: BTreeSet<(Abi, u32)>,
}

/// What is known of the containers of one image together: how far their calls are all that there are to see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Coverage {
    /// The image: its digest, else its name, else the container's id; empty for the host.
    pub image: String,
    /// Containers of it.
    pub containers: usize,
    /// Calls that they made.
    pub calls: u64,
    /// Names of these, each once.
    pub names: BTreeSet<String>,
    /// When one of them was seen for the first time, the last of all, nanoseconds since 1970.
    pub newest_ns: u64,
    /// The last call.
    pub last_ns: u64,
}

impl Coverage {
    /// For how long nothing new was seen.
    pub const fn age_ns(&self) -> u64 {
        self.last_ns.saturating_sub(self.newest_ns)
    }

    /// "12 calls in 2 containers, 3 different; no new one for 6h0m0s".
    pub fn text(&self) -> String {
        let Self { containers, calls, names, .. } = self;
        let seconds = self.age_ns() / 1_000_000_000;
        let age = format!("{}h{}m{}s", seconds / 3600, seconds / 60 % 60, seconds % 60);
        let plural = if *containers == 1 { "" } else { "s" };
        format!("{calls} calls in {containers} container{plural}, {} different; no new one for {age}", names.len())
    }
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

impl Container {
    fn is_of(&self, id: &str, image: &str) -> bool {
        [&*self.digest, &*self.image, id].into_iter().find(|name| !name.is_empty()).unwrap_or_default() == image
    }
}

impl Observed {
    /// A call was made.
    pub fn add(&mut self, container: &str, program: &str, made: Made, time_ns: u64) {
        if !self.containers.contains_key(container) && self.containers.len() == MAX_CONTAINERS {
            self.left_out += 1;
            return;
        }
        let own = self.containers.entry(container.to_owned()).or_default();
        let key = (made.abi, made.nr);
        if own.noted.remove(&key) {
            // The call that was noted is this one.
            own.calls.remove(&Made { arguments: [None; 6], ..made });
            own.variants.remove(&key);
        }
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

    /// A call was made, and nothing else is known of it: what is known already says so, and so will what comes.
    fn note(&mut self, container: &str, made: Made, time_ns: u64) {
        let key = (made.abi, made.nr);
        if self.containers.get(container).is_some_and(|own| own.variants.contains_key(&key)) {
            return;
        }
        self.add(container, "<unknown>", made, time_ns);
        if let Some(own) = self.containers.get_mut(container) {
            own.noted.insert(key);
        }
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
        if let Some(metadata) = context.container_metadata() {
            self.describe(id, metadata);
        }
    }

    fn describe(&mut self, id: &str, metadata: &Metadata) {
        let Some(own) = self.containers.get_mut(id).filter(|own| own.image.is_empty()) else { return };
        own.image.clone_from(&metadata.image);
        own.digest.clone_from(&metadata.image_digest);
        let label = |key: &str| metadata.label(&format!("io.kubernetes.pod.{key}")).to_owned();
        if !label("name").is_empty() {
            own.pod = [label("namespace"), label("name")].join("/");
        }
    }

    /// What is known of each image, merged over its containers.
    pub fn coverage(&self) -> Vec<Coverage> {
        let mut images: BTreeMap<&str, Coverage> = BTreeMap::new();
        for (id, container) in &self.containers {
            let named = [&*container.digest, &*container.image, id].into_iter().find(|name| !name.is_empty());
            let image = named.unwrap_or_default();
            let of_image = images.entry(image).or_insert_with(|| Coverage {
                image: image.to_owned(),
                containers: 0,
                calls: 0,
                names: BTreeSet::new(),
                newest_ns: 0,
                last_ns: 0,
            });
            of_image.containers += 1;
        }
        for coverage in images.values_mut() {
            let of_image = self.containers.iter().filter(|(id, container)| container.is_of(id, &coverage.image));
            let mut first_seen: BTreeMap<String, u64> = BTreeMap::new();
            for (made, seen) in of_image.flat_map(|(_, container)| &container.calls) {
                coverage.calls += seen.count;
                coverage.last_ns = coverage.last_ns.max(seen.times_ns.1);
                let first = first_seen.entry(made.abi.call_name(made.nr).into_owned()).or_insert(u64::MAX);
                *first = seen.times_ns.0.min(*first);
            }
            coverage.newest_ns = first_seen.values().copied().max().unwrap_or(0);
            coverage.names = first_seen.into_keys().collect();
        }
        images.into_values().collect()
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
                self.note(id, Made { abi: Abi::of_call(arch, nr), nr, arguments: [None; 6] }, time_ns);
            }
        }
        if let Some(metadata) = state.containers.metadata(id).filter(|_| !id.is_empty()) {
            self.describe(id, metadata);
        }
    }

    /// Leaves only containers of this pod, by its name, with or without the namespace. Whether there is one.
    pub fn keep_pod(&mut self, pod: &str) -> bool {
        let is_it = |own: &str| own == pod || own.rsplit_once('/').is_some_and(|(_, name)| name == pod);
        self.containers.retain(|_, container| is_it(&container.pod));
        !self.containers.is_empty()
    }

    /// Leaves only containers of this image, by its name or digest. Whether there is one.
    pub fn keep_image(&mut self, image: &str) -> bool {
        self.containers.retain(|_, own| !image.is_empty() && (own.image == image || own.digest == image));
        !self.containers.is_empty()
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
    fn a_call_that_is_only_noted_counts_until_it_is_told() {
        let mut observed = Observed::default();
        let noted = |nr| Made { arguments: [None; 6], ..made(nr, 0) };
        observed.note("a", noted(0), 5);
        observed.note("a", noted(1), 5);
        observed.add("a", "/bin/x", made(0, 1), 6);
        observed.add("a", "/bin/x", made(0, 2), 6);
        observed.note("a", noted(0), 7);
        let calls = &observed.containers["a"].calls;
        assert_eq!(calls.values().map(|seen| seen.count).sum::<u64>(), 3, "two told, one noted: {calls:?}");
        assert!(calls.contains_key(&noted(1)) && !calls.contains_key(&noted(0)));
    }

    #[test]
    fn what_is_known_of_an_image_is_that_of_all_its_containers() {
        const HOUR_NS: u64 = 3_600_000_000_000;
        let mut observed = Observed::default();
        for (container, nr, time_ns) in [("a", 0, 1), ("a", 1, 5), ("b", 1, 2), ("b", 0, 5 + 6 * HOUR_NS), ("c", 2, 3)]
        {
            observed.add(container, "/bin/x", made(nr, 1), time_ns);
        }
        for (container, digest) in [("a", "sha256:1"), ("b", "sha256:1")] {
            let own = observed.containers.get_mut(container).unwrap();
            (own.image, own.digest, own.pod) = ("web".to_owned(), digest.to_owned(), format!("prod/{container}"));
        }
        let coverage = observed.coverage();
        let images: Vec<_> = coverage.iter().map(|one| (&*one.image, one.containers, one.calls)).collect();
        assert_eq!(images, [("c", 1, 1), ("sha256:1", 2, 4)]);
        assert_eq!(coverage[1].newest_ns, 2, "write was seen at 2 in one container, at 5 in the other");
        let text = coverage[1].text();
        assert_eq!(text, "4 calls in 2 containers, 2 different; no new one for 6h0m0s");
        assert!(
            observed.clone().keep_pod("a") && observed.clone().keep_pod("prod/b") && !observed.clone().keep_pod("prod")
        );
        assert!(observed.clone().keep_image("web") && !observed.keep_image(""));
    }

    #[test]
    fn falcos_names_have_numbers() {
        assert_eq!((number_of("pread"), number_of("openat"), number_of("prlimit")), (Some(17), Some(257), Some(302)));
    }
}
