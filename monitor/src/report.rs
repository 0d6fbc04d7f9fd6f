//! From a match to a finding: who did what, where, and how it is known.

use uuid::Uuid;

use crate::{
    context::Context,
    drift::{self, Drift},
    event::field::errno_name,
    proto::v1::{self as proto, finding::Detail},
    rules::Rule,
    seccomp::Violation,
    state::{
        State,
        container::{Container, metadata::Metadata, pod::Pod},
        thread::{Image, Thread, ThreadKey},
        writer::Writer,
    },
};

/// Whether findings are made as things happen, or again from a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Uids are fresh, and the time of making is the clock's.
    Live,
    /// Everything follows from the capture, so that two replays give the same bytes.
    Replay,
}

/// Makes findings.
#[derive(Debug)]
pub struct Reporter {
    mode: Mode,
    sequence: u64,
    /// The clock, for live findings; passed in, because nothing below the edges reads one.
    now: fn() -> u64,
}

impl Reporter {
    /// Starts at sequence 1.
    pub fn new(mode: Mode, now: fn() -> u64) -> Self {
        Self { mode, sequence: 0, now }
    }

    /// Findings given out.
    pub const fn made(&self) -> u64 {
        self.sequence
    }

    /// Numbers a finding, which is given out now.
    pub fn number(&mut self, finding: &mut proto::Finding) {
        self.sequence += 1;
        finding.sequence = self.sequence;
        finding.observed_time_unix_nano = match self.mode {
            Mode::Live => (self.now)(),
            Mode::Replay => finding.time_unix_nano,
        };
    }

    /// The finding of a rule that matched, without its number.
    pub fn report(&self, context: &Context<'_>, rule: &Rule) -> proto::Finding {
        let rendered = rule.render(context);
        let time = context.time_ns();
        let uid = match self.mode {
            Mode::Live => Uuid::now_v7(),
            Mode::Replay => replay_uid(context, &rule.name),
        };
        let detail = detail(context);
        let kind = match detail {
            Some(Detail::Drift(_)) => proto::Kind::Drift,
            Some(Detail::Seccomp(_)) => proto::Kind::SeccompViolation,
            Some(Detail::PodSecurity(_)) => proto::Kind::PodSecurity,
            None => proto::Kind::RuleMatch,
        };
        proto::Finding {
            uid: uid.to_string(),
            sequence: 0,
            time_unix_nano: time,
            observed_time_unix_nano: 0,
            kind: kind.into(),
            priority: context.priority(rule.priority).into(),
            rule: rule.name.clone(),
            message: rendered.message,
            output_fields: rendered.output_fields,
            tags: rule.tags.clone(),
            source: rule.source.clone(),
            hostname: context.state.session.hostname.clone(),
            event_number: context.number,
            event_type: context.event_type.name().to_owned(),
            process: context.thread.map(|thread| process(context.state, thread, id(context.tid()))),
            container: context.container.map(|container| self::container(context, container)),
            detail,
        }
    }
}

/// Follows from session, event and rule, and from what a pod was checked for.
fn replay_uid(context: &Context<'_>, rule: &str) -> Uuid {
    let mut name = format!("{}/{}/{rule}", context.state.session.identity, context.number);
    if let Some(breach) = context.breach {
        name.extend(["/", breach.check, "/", &breach.actual]);
    }
    Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes())
}

/// Ancestors that a finding names.
const MAX_ANCESTORS: usize = 16;

/// An id of the initial pid namespace; 0 where there is none.
fn id(tid: i64) -> u32 {
    u32::try_from(tid).unwrap_or_default()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn arguments(image: &Image) -> Vec<String> {
    image.arguments().map(text).collect()
}

fn process(state: &State, thread: &Thread, tid: u32) -> proto::Process {
    let ancestors =
        state.threads.ancestors(thread).take(MAX_ANCESTORS).map(|thread| ancestor(thread.key, &thread.image)).collect();
    let key = ThreadKey { tid: thread.pid, ..thread.key };
    let who = Who { key, vpid: thread.task.vpid, uid: thread.uid };
    proto::Process { tid, ancestors, ..image_of(state, &who, &thread.image) }
}

fn ancestor(key: ThreadKey, image: &Image) -> proto::Ancestor {
    proto::Ancestor {
        pid: id(key.tid),
        name: text(image.comm()),
        executable: text(&image.executable),
        arguments: arguments(image),
    }
}

/// Identity of a process, for one that may not exist any more.
struct Who {
    key: ThreadKey,
    vpid: u32,
    uid: u32,
}

fn image_of(state: &State, who: &Who, image: &Image) -> proto::Process {
    proto::Process {
        pid: id(who.key.tid),
        tid: id(who.key.tid),
        vpid: who.vpid,
        start_time_unix_nano: state.unix_ns(who.key.start_ns),
        name: text(image.comm()),
        executable: text(&image.executable),
        arguments: arguments(image),
        working_directory: text(&image.cwd),
        uid: who.uid,
        ancestors: Vec::new(),
    }
}

fn container(context: &Context<'_>, container: &Container) -> proto::Container {
    let (known, pod) = (context.container_metadata(), context.pod());
    let known = |value: fn(&Metadata) -> &str| known.map(value).unwrap_or_default();
    let of_pod =
        |label, value: fn(&Pod) -> &str| match context.container_metadata().map(|metadata| metadata.label(label)) {
            Some(text) if !text.is_empty() => text.to_owned(),
            _ => pod.map(value).unwrap_or_default().to_owned(),
        };
    proto::Container {
        id: container.id.clone(),
        runtime: container.runtime.clone(),
        pod_uid: container.pod_uid.clone(),
        cgroup_path: container.cgroup_path.clone(),
        name: known(|metadata| &metadata.name).to_owned(),
        image: known(|metadata| &metadata.image).to_owned(),
        image_digest: context.image_digest().unwrap_or_default().to_owned(),
        pod_name: of_pod("io.kubernetes.pod.name", |pod| &pod.name),
        namespace: of_pod("io.kubernetes.pod.namespace", |pod| &pod.namespace),
        pod: pod.map(self::pod),
    }
}

fn pod(pod: &Pod) -> proto::Pod {
    let owner = pod.owner.clone().unwrap_or_default();
    proto::Pod {
        labels: pod.labels.clone(),
        owner_kind: owner.kind,
        owner_name: owner.name,
        service_account: pod.service_account.clone(),
        ip: pod.ip.clone(),
    }
}

fn detail(context: &Context<'_>) -> Option<Detail> {
    if let Some(breach) = context.breach {
        return Some(Detail::PodSecurity(proto::PodSecurity {
            check: breach.check.to_owned(),
            level: breach.level.into(),
            field: breach.field.clone(),
            actual: breach.actual.clone(),
        }));
    }
    if let Some(violation) = context.violation {
        return Some(Detail::Seccomp(seccomp(context.state, violation)));
    }
    let drift = context.drift?;
    Some(Detail::Drift(proto::Drift {
        kind: drift.kind.into(),
        file: Some(file(&drift)),
        writer: drift.writer.map(|writer| self::writer(context.state, writer)),
        mode: context.verdict.map(|verdict| verdict.mode.name()).unwrap_or_default().to_owned(),
        policy_rule: context.verdict.and_then(|verdict| verdict.rule).unwrap_or_default().to_owned(),
    }))
}

fn file(drift: &Drift<'_>) -> proto::File {
    let facts = drift.file;
    proto::File {
        path: text(&drift.path.to_absolute()),
        inode: facts.ino,
        device: facts.dev,
        size_bytes: facts.size_bytes,
        mode: facts.mode,
        modified_time_unix_nano: facts.mtime_ns,
        changed_time_unix_nano: facts.ctime_ns,
        layer: drift::layer(facts).unwrap_or_default().to_owned(),
        sha256: drift.sha256().map(drift::hexadecimal).unwrap_or_default(),
        sha256_missing: drift.sha256_missing().to_owned(),
    }
}

fn writer(state: &State, writer: &Writer) -> proto::Writer {
    let who = Who { key: writer.process, vpid: writer.vpid, uid: writer.uid };
    proto::Writer {
        process: Some(proto::Process {
            name: text(&writer.comm),
            ancestors: writer.ancestors.iter().map(|(key, image)| ancestor(*key, image)).collect(),
            ..image_of(state, &who, &writer.image)
        }),
        time_unix_nano: state.unix_ns(writer.ktime_ns),
        path: text(&writer.path),
        connections: writer.connections.iter().map(|ends| text(&ends.text())).collect(),
    }
}

fn seccomp(state: &State, violation: &Violation) -> proto::SeccompViolation {
    let errno = violation.errno.map(u32::from);
    proto::SeccompViolation {
        syscall: violation.syscall.to_string(),
        number: violation.nr,
        arch: violation.arch.name().to_owned(),
        action: violation.action.into(),
        errno: errno.unwrap_or(0),
        errno_name: errno.map(errno_name).unwrap_or_default(),
        signal: violation.signal.unwrap_or_default().to_owned(),
        arguments: violation.args.to_vec(),
        instruction_pointer: violation.ip,
        evidence: violation.evidence.name().to_owned(),
        profile: violation.origin.profile.to_string(),
        profile_digest: violation.origin.digest.to_string(),
        rule: violation.origin.rule.clone(),
        count: violation.occurrences.count,
        first_time_unix_nano: state.unix_ns(violation.occurrences.first_ns),
        last_time_unix_nano: state.unix_ns(violation.occurrences.last_ns),
    }
}
