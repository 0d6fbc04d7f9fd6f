//! Targets for fuzzing: one per parser of bytes that somebody hostile may have written.
//!
//! A target panics where a promise is broken, and not only where the parser itself does. `tests/tests/fuzz.rs` runs each over
//! its corpus and over mutations of it in every test run; under libFuzzer, with a nightly compiler, it is
//! `cd tests && cargo fuzz run NAME corpus/NAME`. What that finds goes into the corpus.
#![expect(clippy::missing_panics_doc, reason = "a target's panic is its finding")]

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Cursor,
    net::IpAddr,
    sync::LazyLock,
    time::Duration,
};

use monitor::{
    capture::Reader,
    decode::decode,
    drift::policy::Policy,
    event::{
        Body, EventType,
        field::{Argument, Brackets, Field, Fields},
        schema::Flags,
        value::{Address, Value},
    },
    kubernetes::{ledger::Ledger, pod::Change},
    output::spool::frame::Frames,
    pipeline::{Pipeline, Selection},
    proto::v1::Priority,
    record,
    report::Mode,
    rules::{
        self, AppendOutput, Condition, Options, RuleSet, Source, Supply,
        diagnostic::{Diagnostic, Text},
        reference::Reference,
    },
    scap,
    seccomp::{
        applied::Profiles,
        classic::{self, Data, Instruction},
        profile::{self, Abi, Filter, filter::Answer, select::select},
    },
    sensor::{btf::Btf, bundle},
    source::{Source as _, Status},
    state::State,
    syscall::Arch,
};
use prost::Message as _;

/// A parser, and what is promised of it.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of its corpus.
    pub name: &'static str,
    /// Gives it some bytes.
    pub run: fn(&[u8]),
}

macro_rules! targets {
    ($($name:ident),* $(,)?) => {
        /// Every target.
        pub const TARGETS: &[Target] = &[$(Target { name: stringify!($name), run: $name }),*];
    };
}

targets!(
    record,
    stream,
    capture,
    scap,
    scap_flow,
    btf,
    classic_bpf,
    seccomp_profile,
    rule_file,
    condition,
    output,
    expected_counts,
    subscribe,
    spool,
    config,
    bundle,
    drift_policy,
    pod_watch,
);

/// One record from the kernel or a capture.
pub fn record(bytes: &[u8]) {
    if let Ok(event) = decode(bytes) {
        assert_eq!(event.header.len as usize, bytes.len(), "a record is taken as a whole or not at all");
    }
}

/// A drift policy: what is taken has no error, and what is refused says where.
pub fn drift_policy(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes).into_owned();
    match Policy::parse(Text { name: "policy".into(), text }) {
        Ok((_, diagnostics)) => assert!(!diagnostics.iter().any(Diagnostic::is_error)),
        Err(diagnostics) => {
            assert!(diagnostics.iter().any(Diagnostic::is_error), "it is not said why");
            diagnostics.iter().for_each(points_into_its_text);
        }
    }
}

/// What a runtime was told of a container.
pub fn bundle(bytes: &[u8]) {
    let Some((document, profile)) = bundle::documents(bytes.to_vec()) else { return };
    assert!(document.len() <= record::DOCUMENT_BYTES && profile.len() <= record::PROFILE_BYTES);
    let mut profiles = Profiles::default();
    profiles.tell("000000000000", 62, &profile);
    assert_eq!(profiles.malformed(), 0, "what the sensor says is understood");
    let mut state = State::default();
    let cgroup = format!("/{}", "0".repeat(64));
    for record in [record::cgroup(1, 9, cgroup.as_bytes()), record::container(1, 9, &document)] {
        let Ok(event) = decode(&record) else { panic!("a record of ours is none") };
        state.apply(&event);
    }
    assert_eq!(state.containers.malformed(), 0, "what the sensor says is understood");
    assert!(state.containers.metadata("000000000000").is_some());
}

/// A line of a watch of pods.
pub fn pod_watch(bytes: &[u8]) {
    let Some(Change::Is(pod) | Change::Gone(pod)) = Change::read(bytes) else { return };
    let mut ledger = Ledger::default();
    let Some(document) = ledger.is(&pod) else {
        assert!(pod.uid().is_empty(), "a pod that is new is told");
        return;
    };
    assert!(ledger.is(&pod).is_none(), "and once");
    let ended = ledger.gone(pod.uid()).unwrap_or_default();
    let mut state = State::default();
    for document in [document, ended] {
        assert!(document.len() <= record::DOCUMENT_BYTES);
        let record = record::pod(1, &document);
        let Ok(event) = decode(&record) else { panic!("a record of ours is none") };
        state.apply(&event);
    }
    assert_eq!(state.containers.malformed(), 0, "what the client says is understood");
}

/// A stream of records through the whole flow. Each is preceded by its length in two bytes.
pub fn stream(mut bytes: &[u8]) {
    let rules = RuleSet::load(&[Source::builtin()], &Options::default()).rules;
    let Some(rules) = rules else { panic!("the built-in rules are wrong") };
    let selection = Selection { rules, filter: None, min_priority: Priority::Debug };
    let mut pipeline = Pipeline::new(selection, Mode::Replay, || 0);
    let (mut records, mut findings) = (0, 0);
    while let Some((len, rest)) = bytes.split_first_chunk() {
        let (record, rest) = rest.split_at(usize::from(u16::from_le_bytes(*len)).min(rest.len()));
        pipeline.record(record, &mut |finding| {
            findings += 1;
            assert_eq!(finding.sequence, findings, "findings are numbered without a gap");
            assert!(!finding.message.chars().any(char::is_control), "a message steers no terminal: {finding:?}");
        });
        records += 1;
        bytes = rest;
    }
    let summary = pipeline.finish(&mut |finding| {
        findings += 1;
        assert_eq!(finding.sequence, findings, "findings are numbered without a gap");
    });
    assert_eq!((summary.records, summary.findings), (records, findings));
}

/// A capture file.
pub fn capture(bytes: &[u8]) {
    let Ok(mut reader) = Reader::new(Cursor::new(bytes.to_vec())) else { return };
    let mut total = 0;
    let plain = !bytes.starts_with(&[0x1f, 0x8b]);
    while let Ok(Status::Open) = reader.drain(Duration::ZERO, &mut |record| total += record.len()) {
        assert!(!plain || total <= bytes.len(), "more was read than there is");
        if total > 1 << 24 {
            return;
        }
    }
}

/// A capture of Falco's.
pub fn scap(bytes: &[u8]) {
    let Ok(mut reader) = scap::Reader::new(Cursor::new(bytes.to_vec())) else { return };
    let plain = !bytes.starts_with(&[0x1f, 0x8b]);
    let (mut number, mut items) = (0, 0_usize);
    while let Ok(Some(event)) = reader.next() {
        if let Body::Call(call) = event.body {
            assert_eq!(call.params.iter().count(), call.params.len(), "every parameter is where its length says");
            assert!((0..call.params.len()).all(|index| call.params.get(index).is_some()));
            assert!(!call.info.flags.has(Flags::OLD_VERSION) || call.info.code.is_enter(), "{call:?} was not upgraded");
        }
        items += 1;
        assert!(reader.number() == number || reader.number() == number + 1, "numbers have no gaps");
        number = reader.number();
        assert!(!plain || items <= bytes.len(), "more was read than there is");
        if items > 1 << 16 {
            return;
        }
    }
    let counters = reader.counters();
    assert!(!plain || counters.bytes <= bytes.len() as u64, "{counters:?}");
    assert!(counters.events >= number, "{counters:?}");
}

/// The same through the whole flow, with a rule that looks at every field of every event.
pub fn scap_flow(bytes: &[u8]) {
    static RULES: LazyLock<String> = LazyLock::new(|| {
        let fields = Field::all().map(Field::info).filter(|info| {
            info.refused().is_none()
                && matches!(info.brackets, Brackets::None | Brackets::Index)
                && !info.is_filter_only()
        });
        let output = fields.map(|info| format!("%{}", info.name)).collect::<Vec<_>>().join(" ");
        format!(
            "- rule: A\n  desc: d\n  condition: evt.num > 0\n  output: \"{output} %evt.arg.res %evt.arg[1] %proc.aname[2]\"\n  \
             priority: DEBUG\n  warn_evttypes: false\n"
        )
    });
    let source = Source { name: "fields.yaml".into(), text: RULES.as_bytes().to_vec() };
    let loaded = RuleSet::load(&[source], &Options::default());
    let Some(rules) = loaded.rules else { panic!("{:?}", loaded.diagnostics) };
    let selection = Selection { rules, filter: None, min_priority: Priority::Debug };
    let mut pipeline = Pipeline::new(selection, Mode::Replay, || 0);
    let Ok(mut reader) = scap::Reader::new(Cursor::new(bytes.to_vec())) else { return };
    let mut last = 0;
    while let Ok(Some(event)) = reader.next() {
        pipeline.event(&event, true, &mut |finding| {
            assert!(finding.event_number >= last, "events come in order");
            last = finding.event_number;
            assert!(!finding.message.chars().any(char::is_control), "a message steers no terminal: {finding:?}");
        });
    }
}

/// Type information of a kernel, or of a module on top of one.
pub fn btf(bytes: &[u8]) {
    const NAMES: &[&str] = &["a", "e"];
    let Ok(parsed) = Btf::parse(bytes, NAMES) else { return };
    for path in ["a", "a.x", "a.z", "a.z.z.z"] {
        let _ = parsed.member(path);
    }
    let _ = parsed.enumerator("e", "V");
    let skeleton = parsed.skeleton(|_| true);
    assert!(Btf::parse(&skeleton, NAMES).is_ok(), "what was written here can be read");
    let _ = Btf::parse_split(&parsed, bytes, NAMES);
}

/// A seccomp filter and a call. The first 64 bytes are the call, then instructions.
pub fn classic_bpf(bytes: &[u8]) {
    let Some((call, program)) = bytes.split_at_checked(64) else { return };
    let word = |at: usize| call.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes);
    let [ip, nr, args @ ..] = [0, 8, 16, 24, 32, 40, 48, 56].map(word);
    let data =
        Data { nr: i32::from_le_bytes([nr.to_le_bytes()[0], nr.to_le_bytes()[1], 0, 0]), arch: 0xc000_003e, ip, args };
    let program: Vec<Instruction> = program.as_chunks().0.iter().map(|bytes| Instruction::from_bytes(*bytes)).collect();
    let first = classic::run(&program, &data);
    assert_eq!(first, classic::run(&program, &data), "a verdict depends on nothing else");
}

/// A seccomp profile, and the filter that it becomes.
pub fn seccomp_profile(bytes: &[u8]) {
    let parsed = profile::parse("profile.json", bytes);
    assert_eq!(parsed.profile.is_none(), parsed.problems.iter().any(Diagnostic::is_error));
    parsed.problems.iter().for_each(points_into_its_text);
    let Some(profile) = parsed.profile else { return };
    let target = profile::Target::new(Abi::X86_64);
    let Ok(filter) = Filter::for_runc(&select(&profile, &target)) else { return };
    for nr in [0, 56, 135, 0x4000_0208, u32::MAX] {
        for arch in [Arch::X86_64, Arch::I386] {
            let possible = match filter.possible(arch, nr, &[None; 6]) {
                Answer::One(action) => BTreeSet::from([action]),
                Answer::DependsOnArguments(actions) => actions,
            };
            for argument in [0, 8, u64::MAX] {
                let data = Data { nr: nr.cast_signed(), arch: arch.audit(), ip: 0, args: [argument; 6] };
                assert!(possible.contains(&filter.answer(&data)), "an answer that was not among the possible ones");
            }
        }
    }
}

/// A rule file.
pub fn rule_file(bytes: &[u8]) {
    let source = Source { name: "rules.yaml".into(), text: bytes.to_vec() };
    let loaded = RuleSet::load(&[source], &Options::default());
    assert_eq!(loaded.rules.is_none(), loaded.diagnostics.iter().any(Diagnostic::is_error));
    loaded.diagnostics.iter().for_each(points_into_its_text);
}

/// A condition from the command line.
pub fn condition(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    match Condition::resolve(text, "--where", Supply::Caller) {
        Ok(expr) => {
            let Some(mut condition) = Condition::new(&expr) else { return };
            for event_type in [EventType::EXECVE, EventType::OPENAT] {
                let event = Shell(event_type);
                let expected = Reference::new(&expr).matches(&event);
                assert_eq!(condition.matches(event_type, &event), expected, "{text}");
            }
        }
        Err(diagnostics) => {
            assert!(!diagnostics.is_empty(), "what is refused is told");
            diagnostics.iter().for_each(points_into_its_text);
        }
    }
}

/// An event with some values of every type.
struct Shell(EventType);

impl Fields for Shell {
    fn value(&self, field: Field, argument: &Argument) -> Option<Value<'_>> {
        match (field.info().name, argument) {
            ("evt.type", _) => Some(Value::text(self.0.name())),
            ("evt.num", _) => Some(Value::Uint(7)),
            ("proc.name", _) | ("proc.aname", Argument::Index(2)) => Some(Value::text("bash")),
            ("proc.cmdline", _) => Some(Value::text(b"bash -c \xff")),
            ("fd.name", _) => Some(Value::text("/etc/passwd")),
            ("proc.pid", _) => Some(Value::Int(42)),
            ("evt.failed", _) => Some(Value::Bool(true)),
            ("fd.sip", _) => Some(Value::Ip(Address(IpAddr::from([10, 0, 0, 1])))),
            ("fd.types", _) => Some(Value::List(vec![Value::text("file")])),
            _ => None,
        }
    }
}

/// The output of a rule, and what is added to it. Its values are those of an event that has none.
pub fn output(bytes: &[u8]) {
    struct Nothing;
    impl Fields for Nothing {
        fn value(&self, _: Field, _: &Argument) -> Option<Value<'_>> {
            None
        }
    }
    let Ok(text) = str::from_utf8(bytes) else { return };
    let rule =
        "- rule: R\n  desc: d\n  condition: evt.num > 0\n  output: x\n  priority: INFO\n  warn_evttypes: false\n";
    let source = Source { name: "rules.yaml".into(), text: rule.into() };
    let append_output = vec![AppendOutput { text: text.to_owned(), ..AppendOutput::default() }];
    let options = Options { append_output, supply: Supply::Caller, ..Options::default() };
    let loaded = RuleSet::load(&[source], &options);
    loaded.diagnostics.iter().for_each(points_into_its_text);
    if let Some(mut rules) = loaded.rules {
        let mut rendered = 0;
        rules.evaluate(EventType::EXECVE, &NumberOnly, |rule| {
            let message = rule.render(&Nothing).message;
            assert!(message.starts_with('x'), "what is added stands behind what is there: {message:?}");
            rendered += 1;
        });
        assert_eq!(rendered, 1);
    }
}

/// An event that has its number.
struct NumberOnly;

impl Fields for NumberOnly {
    fn value(&self, field: Field, _: &Argument) -> Option<Value<'_>> {
        (field.info().name == "evt.num").then_some(Value::Uint(1))
    }
}

/// A file of expected counts.
pub fn expected_counts(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    match rules::expected_counts("expected.yaml", text) {
        Ok(counts) => {
            let found: BTreeMap<_, _> = counts.into_iter().filter(|(_, count)| *count > 0).collect();
            let again = rules::expected_counts("expected.yaml", &rules::counts_text(&found));
            assert_eq!(again.ok(), Some(found), "what is written is read");
        }
        Err(diagnostic) => points_into_its_text(&diagnostic),
    }
}

fn points_into_its_text(diagnostic: &Diagnostic) {
    let len = diagnostic.text.text.len();
    assert!(diagnostic.span.start <= diagnostic.span.end && diagnostic.span.start <= len, "{diagnostic:?}");
    assert!(!diagnostic.render().is_empty());
}

/// What a consumer sends.
pub fn subscribe(bytes: &[u8]) {
    use monitor::{output::hub::Hub, proto::v1::SubscribeRequest, proto::v1::subscribe_request::Request};
    let Ok(request) = SubscribeRequest::decode(bytes) else { return };
    let Some(Request::Open(open)) = request.request else { return };
    let hub = Hub::new("epoch");
    if let Ok(subscription) = hub.subscribe(open) {
        assert_eq!(hub.subscribers(), 1);
        drop(subscription);
    }
    assert_eq!(hub.subscribers(), 0);
}

/// A segment of a spool.
pub fn spool(bytes: &[u8]) {
    let mut frames = Frames::new(bytes);
    let mut good = 0;
    for (at, frame) in frames.by_ref() {
        good += frame.encoded_bytes();
        let mut again = Vec::new();
        frame.encode(&mut again);
        let place = bytes.get(at..at + frame.encoded_bytes()).unwrap_or_default();
        // Bytes that nothing uses may differ; everything else reads back.
        assert_eq!(again.len(), place.len(), "an entry has the length that it is counted with");
    }
    assert_eq!(good + frames.damaged_bytes, bytes.len(), "every byte is an entry's, or counted as damaged");
    assert!(frames.good_bytes <= bytes.len());
}

/// A configuration file.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(file) = monitor::config::parse(text) {
        // Naming certificates that are not there is an error, not a panic.
        let _ = monitor::config::Config::resolve(file);
    }
}
