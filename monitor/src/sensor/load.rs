//! Loading and attaching the programs.

use std::fs;

use aya::{
    Btf, Ebpf, EbpfLoader, Endianness, VerifierLogLevel, include_bytes_aligned,
    maps::{Array, HashMap, MapData, PerCpuArray, ProgramArray, RingBuf},
    programs::{BtfTracePoint, Iter, ProgramError},
};
use monitor_ebpf::{
    immediate::Group,
    offsets::Need,
    settings::{Class, SeccompMethod, Wanted},
    subject::Key,
};
use thiserror::Error;
use zerocopy::IntoBytes as _;

use super::{
    bundle::Places,
    immediate,
    made::MadeMap,
    offsets, privileges, settings,
    stats::LossMap,
    subjects::{self, Subjects},
};
use crate::rules::Demand;

/// Where the kernel describes its types.
pub const VMLINUX_BTF: &str = "/sys/kernel/btf/vmlinux";
/// Types of the overlay file system where it is a module.
const OVERLAY_BTF: &str = "/sys/kernel/btf/overlay";
/// Smallest ring that a record surely fits, and largest that makes sense.
const RING_BYTES: std::ops::RangeInclusive<u32> = (1 << 18)..=(1 << 30);

/// The BPF object; empty in a build without a BPF toolchain.
static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/monitor.bpf.o"));

/// Whether this build has a sensor at all.
pub const HAS_OBJECT: bool = cfg!(bpf_object);

/// How denied system calls are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum SeccompChoice {
    /// `exit` where the kernel has what it needs, else `pair`.
    #[default]
    Auto,
    /// From `sys_exit` alone: exact verdicts, cheapest.
    Exit,
    /// From `sys_exit` without `sys_enter`: works everywhere, knows no actions.
    Pair,
    /// Not at all.
    Off,
}

/// What the user can choose.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Bytes of the ring, a power of two.
    pub ring_bytes: u32,
    /// How denied system calls are found.
    pub seccomp: SeccompChoice,
    /// What the rules need to be told: calls that nobody needs are not sent.
    pub wanted: Demand,
    /// Note which system calls each cgroup makes.
    pub observe: bool,
    /// Name of the node, instead of the host name.
    pub node_name: Option<String>,
    /// Where bundles of containers are.
    pub places: Places,
    /// Print the programs' own debug lines (needs a build with the feature `bpf-log`).
    pub bpf_log: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ring_bytes: 8 << 20,
            seccomp: SeccompChoice::Auto,
            wanted: Demand::NONE,
            observe: false,
            node_name: None,
            places: Places::default(),
            bpf_log: false,
        }
    }
}

/// Why there is no sensor.
#[derive(Debug, Error)]
pub enum SensorError {
    /// Built without a BPF toolchain.
    #[error(
        "this build has no sensor, it can only replay: build it with `cargo xtask build`, which needs a BPF toolchain (`cargo xtask setup`)"
    )]
    NoObject,
    /// Not enough privileges.
    #[error("not permitted: {} missing; run as root (sudo), or give the agent these capabilities", list(.0))]
    Privileges(Vec<privileges::Capability>),
    /// The kernel does not describe its types.
    #[error("{VMLINUX_BTF}: {0}; the kernel must be built with CONFIG_DEBUG_INFO_BTF (5.15 or newer is supported)")]
    NoBtf(String),
    /// The kernel lacks members without which nothing works.
    #[error("this kernel lacks {}; `monitor check` lists what it offers", .0.join(", "))]
    Members(Vec<String>),
    /// A setting cannot be used.
    #[error("{0}")]
    Setting(String),
    /// The object could not be loaded.
    #[error("cannot load the BPF object: {0}")]
    Object(String),
    /// A program was refused.
    #[error("the kernel refused program {name}: {reason}")]
    Program {
        /// Which.
        name: &'static str,
        /// What the kernel said, the end of the verifier's log included.
        reason: String,
    },
    /// The snapshot failed.
    #[error("cannot take the snapshot of what runs: {0}")]
    Snapshot(#[from] std::io::Error),
}

fn list(capabilities: &[privileges::Capability]) -> String {
    capabilities.iter().map(|cap| format!("{} (to {})", cap.name, cap.why)).collect::<Vec<_>>().join(", ")
}

/// A program, the tracepoint it is for, and where it goes.
struct Entry {
    program: &'static str,
    tracepoint: &'static str,
    place: Place,
}

/// What is done with a loaded program.
enum Place {
    /// Attached to its tracepoint.
    Attach,
    /// Put behind `sys_exit` for this class.
    Class(Class),
}

const fn attach(program: &'static str, tracepoint: &'static str) -> Entry {
    Entry { program, tracepoint, place: Place::Attach }
}

const fn behind(program: &'static str, class: Class) -> Entry {
    Entry { program, tracepoint: "sys_exit", place: Place::Class(class) }
}

/// Programs of every configuration. Process hooks come first: what they tell is needed to understand the rest.
const ALWAYS: &[Entry] = &[
    attach("sched_process_fork", "sched_process_fork"),
    attach("sched_process_exit", "sched_process_exit"),
    attach("cgroup_mkdir", "cgroup_mkdir"),
    attach("cgroup_attach_task", "cgroup_attach_task"),
    attach("signal_generate", "signal_generate"),
    attach("sched_process_exec", "sched_process_exec"),
    behind("sys_exit_call", Class::CALL),
    behind("sys_exit_open", Class::OPEN),
];

/// Programs of each way to find denied calls.
fn seccomp_programs(method: u32) -> &'static [Entry] {
    match method {
        SeccompMethod::EXIT => const { &[behind("sys_exit_seccomp", Class::SECCOMP), attach("sys_exit", "sys_exit")] },
        // sys_enter first: a call that enters before it is attached is not taken for a denied one (the task is not yet
        // watched), one that leaves would be.
        SeccompMethod::PAIR => const { &[attach("sys_enter_pair", "sys_enter"), attach("sys_exit_pair", "sys_exit")] },
        _ => const { &[attach("sys_exit", "sys_exit")] },
    }
}

/// Loaded and attached programs. Dropping it detaches them.
pub struct Loaded {
    ebpf: Ebpf,
    /// The kernel's type ids; dropped when the last program is loaded.
    ids: Option<Btf>,
    /// Keeps the tail-call table: without a reference from user space the kernel empties it.
    _classes: ProgramArray<MapData>,
    /// Which calls are wanted.
    wanted: Array<MapData, WantedBytes>,
    /// How often that has changed.
    epoch: u32,
    subject_key: Key,
    /// How denied system calls are found.
    pub seccomp_method: u32,
}

/// [`Wanted`] as a map's value.
type WantedBytes = [u8; size_of::<Wanted>()];

/// An attached program that does nothing, on the hook that all system calls pass: what a sensor there costs at least.
pub fn baseline() -> Result<Ebpf, SensorError> {
    check_build_and_privileges()?;
    let (_, ids) = kernel_types()?;
    let mut ebpf = EbpfLoader::new()
        .btf(Some(&ids))
        .allow_unsupported_maps()
        .load(OBJECT)
        .map_err(|error| SensorError::Object(chain(&error)))?;
    let mut classes = take_classes(&mut ebpf)?;
    place(&mut ebpf, &ids, &mut classes, &attach("sys_exit_empty", "sys_exit"))?;
    Ok(ebpf)
}

/// What can be known to be missing before anything is tried.
pub fn check_build_and_privileges() -> Result<(), SensorError> {
    if !HAS_OBJECT {
        return Err(SensorError::NoObject);
    }
    let missing = privileges::missing(&fs::read_to_string("/proc/self/status").unwrap_or_default());
    if missing.is_empty() { Ok(()) } else { Err(SensorError::Privileges(missing)) }
}

/// What the kernel says of its types: the offsets, and ids for the loader.
fn kernel_types() -> Result<(offsets::Resolved, Btf), SensorError> {
    let no_btf = |error: &dyn std::error::Error| SensorError::NoBtf(error.to_string());
    let bytes = fs::read(VMLINUX_BTF).map_err(|error| no_btf(&error))?;
    let module = fs::read(OVERLAY_BTF).ok();
    let vmlinux = offsets::parse(&bytes).map_err(|error| no_btf(&error))?;
    let resolved = offsets::resolve(&vmlinux, module.as_deref()).map_err(|error| no_btf(&error))?;
    // The names that aya asks for: a tracepoint's typedef, an iterator's function.
    let ids = vmlinux.skeleton(|name| name.starts_with(b"btf_trace_") || name.starts_with(b"bpf_iter_"));
    let ids = Btf::parse(&ids, Endianness::default()).map_err(|error| no_btf(&error))?;
    Ok((resolved, ids))
}

fn take_classes(ebpf: &mut Ebpf) -> Result<ProgramArray<MapData>, SensorError> {
    let map = ebpf.take_map("SYS_EXIT_CLASSES").ok_or_else(|| SensorError::Object("no map SYS_EXIT_CLASSES".into()))?;
    ProgramArray::try_from(map).map_err(|error| SensorError::Object(error.to_string()))
}

/// Loads and attaches everything.
pub fn load(choice: &Settings) -> Result<Loaded, SensorError> {
    check_build_and_privileges()?;
    if !RING_BYTES.contains(&choice.ring_bytes) || !choice.ring_bytes.is_power_of_two() {
        return Err(SensorError::Setting(format!(
            "a ring of {} bytes cannot be used: choose a power of two from {} to {}",
            choice.ring_bytes,
            RING_BYTES.start(),
            RING_BYTES.end()
        )));
    }
    let (resolved, ids) = kernel_types()?;
    require_core(&resolved)?;
    let method = seccomp_method(choice.seccomp, &resolved)?;
    let key = subjects::new_key()?;
    let settings =
        settings::for_machine(&resolved.offsets, method, std::process::id(), choice.ring_bytes, choice.observe, key);
    let numbers = [(Group::OFFSETS, resolved.offsets.as_bytes()), (Group::SETTINGS, settings.as_bytes())];
    let object = immediate::fill(OBJECT, &numbers).map_err(|error| SensorError::Object(chain(&error)))?;
    let mut ebpf = EbpfLoader::new()
        .btf(Some(&ids))
        .allow_unsupported_maps()
        // A first load without the log is quick; only a refused one is asked for reasons.
        .verifier_log_level(VerifierLogLevel::VERBOSE | VerifierLogLevel::STATS)
        .map_max_entries("RECORDS", choice.ring_bytes)
        .override_global("SETTINGS", settings.as_bytes(), true)
        .load(&object)
        .map_err(|error| SensorError::Object(chain(&error)))?;
    let mut classes = take_classes(&mut ebpf)?;
    start_log(&mut ebpf, choice.bpf_log)?;
    let mut wanted = take_wanted(&mut ebpf)?;
    want(&mut wanted, choice.wanted, 0)?;
    for entry in ALWAYS.iter().chain(seccomp_programs(method)) {
        place(&mut ebpf, &ids, &mut classes, entry)?;
    }
    Ok(Loaded { ebpf, ids: Some(ids), _classes: classes, wanted, epoch: 0, subject_key: key, seccomp_method: method })
}

fn take_wanted(ebpf: &mut Ebpf) -> Result<Array<MapData, WantedBytes>, SensorError> {
    let map = ebpf.take_map("WANTED").ok_or_else(|| SensorError::Object("no map WANTED".into()))?;
    Array::try_from(map).map_err(|error| SensorError::Object(error.to_string()))
}

/// Tells the programs which calls to send.
fn want(map: &mut Array<MapData, WantedBytes>, demand: Demand, epoch: u32) -> Result<(), SensorError> {
    let value: WantedBytes = zerocopy::transmute!(settings::wanted(&demand, epoch));
    map.set(0, value, 0).map_err(|error| SensorError::Object(chain(&error)))
}

/// Looks the members up; fails if one is missing without which nothing works.
pub fn resolve() -> Result<offsets::Resolved, SensorError> {
    let (resolved, _) = kernel_types()?;
    require_core(&resolved)?;
    Ok(resolved)
}

fn require_core(resolved: &offsets::Resolved) -> Result<(), SensorError> {
    let core: Vec<_> = resolved.missing.iter().filter(|m| m.need == Need::Core).map(|m| m.path.to_owned()).collect();
    if core.is_empty() { Ok(()) } else { Err(SensorError::Members(core)) }
}

fn seccomp_method(choice: SeccompChoice, resolved: &offsets::Resolved) -> Result<u32, SensorError> {
    let missing = resolved.missing.iter().find(|m| m.need == Need::SeccompExit);
    match (choice, missing) {
        (SeccompChoice::Off, _) => Ok(SeccompMethod::OFF),
        (SeccompChoice::Pair, _) | (SeccompChoice::Auto, Some(_)) => Ok(SeccompMethod::PAIR),
        (SeccompChoice::Exit | SeccompChoice::Auto, None) => Ok(SeccompMethod::EXIT),
        (SeccompChoice::Exit, Some(missing)) => Err(SensorError::Setting(format!(
            "seccomp verdicts from sys_exit need {}, which this kernel lacks: use --seccomp pair",
            missing.path
        ))),
    }
}

fn place(ebpf: &mut Ebpf, ids: &Btf, classes: &mut ProgramArray<MapData>, entry: &Entry) -> Result<(), SensorError> {
    let name = entry.program;
    let refused = |error: &dyn std::error::Error| SensorError::Program { name, reason: chain(error) };
    let program: &mut BtfTracePoint = ebpf
        .program_mut(name)
        .ok_or_else(|| SensorError::Object(format!("no program {name}")))?
        .try_into()
        .map_err(|error: ProgramError| refused(&error))?;
    program.load(entry.tracepoint, ids).map_err(|error| refused(&error))?;
    match entry.place {
        Place::Attach => {
            program.attach().map_err(|error| refused(&error))?;
        }
        Place::Class(class) => {
            let fd = program.fd().map_err(|error| refused(&error))?;
            classes.set(class.0, fd, 0).map_err(|error| refused(&error))?;
        }
    }
    Ok(())
}

/// The programs' own debug lines go to the agent's log.
#[cfg(feature = "bpf-log")]
fn start_log(ebpf: &mut Ebpf, wanted: bool) -> Result<(), SensorError> {
    if !wanted {
        return Ok(());
    }
    let mut logger = aya_log::EbpfLogger::init(ebpf).map_err(|error| SensorError::Object(error.to_string()))?;
    std::thread::spawn(move || {
        loop {
            logger.flush();
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    });
    Ok(())
}

#[cfg(not(feature = "bpf-log"))]
fn start_log(_ebpf: &mut Ebpf, wanted: bool) -> Result<(), SensorError> {
    if wanted {
        return Err(SensorError::Setting(
            "this build has no --bpf-log: build it with `cargo xtask build --bpf-log`".into(),
        ));
    }
    Ok(())
}

/// An error with its causes, cut to what a person reads: the end of a verifier log names the instruction.
fn chain(error: &dyn std::error::Error) -> String {
    const MAX: usize = 4000;
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    let cut = text.len().saturating_sub(MAX);
    let cut = (cut..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text.split_off(cut)
}

impl Loaded {
    pub(super) fn ring(&mut self) -> Result<RingBuf<MapData>, SensorError> {
        let map = self.ebpf.take_map("RECORDS").ok_or_else(|| SensorError::Object("no map RECORDS".into()))?;
        RingBuf::try_from(map).map_err(|error| SensorError::Object(error.to_string()))
    }

    /// Changes which calls are sent. What was found out of files before counts no more.
    pub(super) fn want(&mut self, demand: Demand) -> Result<(), SensorError> {
        self.epoch = self.epoch.wrapping_add(1);
        want(&mut self.wanted, demand, self.epoch)
    }

    pub(super) fn subjects(&mut self) -> Result<Subjects, SensorError> {
        let map = self.ebpf.take_map("SUBJECTS").ok_or_else(|| SensorError::Object("no map SUBJECTS".into()))?;
        Array::try_from(map)
            .map(|table| Subjects::new(table, self.subject_key))
            .map_err(|error| SensorError::Object(error.to_string()))
    }

    pub(super) fn counters(&mut self) -> Result<PerCpuArray<MapData, u64>, SensorError> {
        let map = self.ebpf.take_map("COUNTERS").ok_or_else(|| SensorError::Object("no map COUNTERS".into()))?;
        PerCpuArray::try_from(map).map_err(|error| SensorError::Object(error.to_string()))
    }

    pub(super) fn made(&mut self) -> Result<MadeMap, SensorError> {
        let map = self.ebpf.take_map("MADE").ok_or_else(|| SensorError::Object("no map MADE".into()))?;
        HashMap::try_from(map).map_err(|error| SensorError::Object(error.to_string()))
    }

    pub(super) fn losses(&mut self) -> Result<LossMap, SensorError> {
        let map = self.ebpf.take_map("LOSSES").ok_or_else(|| SensorError::Object("no map LOSSES".into()))?;
        HashMap::try_from(map).map_err(|error| SensorError::Object(error.to_string()))
    }

    /// The programs that are in the kernel.
    pub(super) fn programs(&self) -> super::stats::Programs {
        let loaded = self.ebpf.programs().filter_map(|(name, program)| Some((name, program.fd().ok()?)));
        super::stats::Programs::new(loaded.map(|(name, fd)| (name, std::os::fd::AsFd::as_fd(fd))))
    }

    /// Runs the task iterator, which can be done once; returns what it wrote.
    pub(super) fn tasks(&mut self) -> Result<Vec<u8>, SensorError> {
        const NAME: &str = "task_iter";
        let refused = |error: ProgramError| SensorError::Program { name: NAME, reason: chain(&error) };
        let Some(ids) = self.ids.take() else { return Ok(Vec::new()) };
        let program: &mut Iter = self
            .ebpf
            .program_mut(NAME)
            .ok_or_else(|| SensorError::Object(format!("no program {NAME}")))?
            .try_into()
            .map_err(refused)?;
        program.load("task", &ids).map_err(refused)?;
        let link = program.attach().and_then(|id| program.take_link(id)).map_err(refused)?;
        let mut file = link.into_file().map_err(|error| SensorError::Program { name: NAME, reason: chain(&error) })?;
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut file, &mut bytes)?;
        Ok(bytes)
    }
}
