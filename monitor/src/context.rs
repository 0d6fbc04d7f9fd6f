//! An event with everything around it: what rules look at and findings are made from.

use std::net::IpAddr;

use crate::{
    drift::{
        self, Drift,
        policy::{Mode, Policy, Verdict},
    },
    event::{
        Body, Event, EventType,
        call::Call,
        schema::{self, Category, Code},
    },
    pod_security::Breach,
    proto::v1::Priority,
    seccomp::Violation,
    state::{
        State,
        call::returned,
        container::{Container, metadata::Metadata, pod::Pod},
        descriptor::Descriptor,
        thread::{Thread, ThreadKey},
        writer::Writer,
    },
};

/// What rules look at an event for.
#[derive(Clone, Copy, Debug)]
pub enum Evidence<'a> {
    /// Itself.
    Event,
    /// What the seccomp detection says.
    Violation(&'a Violation),
    /// What the check of a pod says.
    Breach(&'a Breach),
}

/// An enriched event.
pub struct Context<'a> {
    /// The model of the node after the event.
    pub state: &'a State,
    /// The event.
    pub event: &'a Event<'a>,
    /// Its number in the stream.
    pub number: u64,
    /// Its type, as rules see it.
    pub event_type: EventType,
    /// The thread that it is about.
    pub thread: Option<&'a Thread>,
    /// The descriptor that it is about.
    pub descriptor: Option<&'a Descriptor>,
    /// The container that this thread is in.
    pub container: Option<&'a Container>,
    /// What the drift detection says.
    pub drift: Option<Drift<'a>>,
    /// What the drift policy says of that.
    pub verdict: Option<Verdict<'a>>,
    /// What the seccomp detection says.
    pub violation: Option<&'a Violation>,
    /// What the check of the pod says.
    pub breach: Option<&'a Breach>,
}

impl<'a> Context<'a> {
    /// Puts it together; `None` for records that are not events to rules.
    pub fn new(state: &'a State, event: &'a Event<'a>, number: u64, evidence: Evidence<'a>) -> Option<Self> {
        let event_type = match evidence {
            Evidence::Event => event_type(event)?,
            Evidence::Violation(_) => EventType::SECCOMP_VIOLATION,
            Evidence::Breach(_) => EventType::POD_SECURITY,
        };
        Some(Self::of_type(state, event, number, event_type, evidence))
    }

    /// Lets the drift policy decide: what it lets pass is none.
    pub fn judge(&mut self, policy: &'a Policy) {
        let Some(drift) = self.drift else { return };
        self.verdict = policy.judge(self, &drift);
        self.drift = self.drift.filter(|_| self.verdict.is_some());
    }

    /// How urgent the finding of a rule is: drift that is only observed is informational.
    pub fn priority(&self, rule: Priority) -> Priority {
        match self.verdict {
            Some(Verdict { mode: Mode::Observe, .. }) => rule.max(Priority::Informational),
            _ => rule,
        }
    }

    /// The same for whoever counts calls: one that a filter judged is a call whatever the verdict.
    pub fn observed(state: &'a State, event: &'a Event<'a>, number: u64) -> Option<Self> {
        let event_type = match &event.body {
            Body::SeccompCall(_) => EventType::SYSCALL,
            _ => event_type(event)?,
        };
        Some(Self::of_type(state, event, number, event_type, Evidence::Event))
    }

    fn of_type(
        state: &'a State,
        event: &'a Event<'a>,
        number: u64,
        event_type: EventType,
        evidence: Evidence<'a>,
    ) -> Self {
        let (violation, breach) = match evidence {
            Evidence::Event => (None, None),
            Evidence::Violation(violation) => (Some(violation), None),
            Evidence::Breach(breach) => (None, Some(breach)),
        };
        // Fields find an event's thread by its number where the event itself has not looked for one.
        let thread = state.thread().or_else(|| state.threads.get(ThreadKey::exact(event.call()?.tid)));
        let descriptor = state.descriptor();
        // The record's own cgroup is the truth at that moment; the process may have been moved since.
        let container = state.containers.get(event.header.cgroup_id);
        // A container's first process may drift, too, but that is another event.
        let drift = breach.is_none().then(|| drift::detect(state, event)).flatten();
        let verdict = None;
        Self { state, event, number, event_type, thread, descriptor, container, drift, verdict, violation, breach }
    }

    /// When it happened, nanoseconds since 1970.
    pub fn time_ns(&self) -> u64 {
        match self.event.call() {
            Some(call) => call.ts_ns,
            None => self.state.unix_ns(self.event.header.ktime_ns),
        }
    }

    /// Id of the thread, in the initial pid namespace.
    pub fn tid(&self) -> i64 {
        match &self.event.body {
            Body::Call(call) => call.tid,
            // The agent's own thread read it.
            Body::Container(_) => self.thread.map_or(0, |thread| thread.key.tid),
            _ => self.event.header.tid.into(),
        }
    }

    /// The container that the event is about: empty on the host, `None` where the thread is not known.
    /// An event that tells of a container is about that one.
    pub fn container_id(&self) -> Option<&'a str> {
        if let Some(told) = self.state.containers.told() {
            return Some(&told.id);
        }
        if self.event.is_recorded() {
            return Some(self.container.map_or("", Container::short_id));
        }
        self.thread.map(|thread| thread.container.as_deref().unwrap_or_default())
    }

    /// What is known of this container.
    pub fn container_metadata(&self) -> Option<&'a Metadata> {
        let containers = &self.state.containers;
        containers.told().or_else(|| containers.metadata(self.container_id()?))
    }

    /// What the Kubernetes API says of the container's pod.
    pub fn pod(&self) -> Option<&'a Pod> {
        self.state.containers.pod(self.container?)
    }

    /// Digest of the container's image: of the reference that its runtime was told, else what the Kubernetes API says of this
    /// container.
    pub fn image_digest(&self) -> Option<&'a str> {
        let told = self.container_metadata().map(|metadata| &*metadata.image_digest);
        told.filter(|digest| !digest.is_empty()).or_else(|| self.pod()?.image_digest(&self.container?.id)).or(told)
    }

    /// The thread's process (0), its parent (1), and so on.
    pub fn ancestor(&self, generations: u32) -> Option<&'a Thread> {
        self.state.threads.ancestor(self.thread?, generations)
    }

    /// The ancestors of the thread's process, the parent first.
    pub fn ancestors(&self) -> impl Iterator<Item = &'a Thread> {
        let leader = self.thread.and_then(|thread| self.state.threads.leader(thread));
        leader.into_iter().flat_map(|leader| self.state.threads.ancestors(leader))
    }

    /// What the system call returned.
    pub fn result(&self) -> Option<i64> {
        match &self.event.body {
            Body::Exec(_) => Some(0),
            Body::SeccompCall(call) => Some(call.ret),
            Body::Fork(fork) => Some(fork.child_tgid.into()),
            // Falco takes a result of an odd width for 0.
            Body::Call(call) if has_result(call) => Some(returned(call).unwrap_or_default()),
            _ => None,
        }
    }

    /// The container whose users a thread's are: empty on the host. A number means another user in each.
    fn users_of(&self) -> Option<&'a str> {
        let thread = self.thread?;
        if self.event.is_recorded() {
            return Some(self.container.map_or("", Container::short_id));
        }
        Some(thread.container.as_deref().unwrap_or_default())
    }

    /// Name of a user where the thread is.
    pub fn user_name(&self, uid: u32) -> Option<&'a [u8]> {
        self.state.users.user(self.users_of()?, uid).map(|user| &*user.name)
    }

    /// Name of a group where the thread is.
    pub fn group_name(&self, gid: u32) -> Option<&'a [u8]> {
        self.state.users.group(self.users_of()?, gid).map(|group| &*group.name)
    }

    /// Whether an address is this machine's, as the thread sees it: its container's, any container's if that is not known, or
    /// an interface's.
    pub fn is_local(&self, address: IpAddr) -> bool {
        let container = self.thread.and_then(|thread| thread.container.as_deref()).unwrap_or_default();
        if container.is_empty() {
            return self.state.interfaces.is_local(address);
        }
        if address.is_ipv6() {
            return false;
        }
        let is = |metadata: &Metadata| metadata.ip.parse() == Ok(address);
        let containers = &self.state.containers;
        match containers.metadata(container).filter(|metadata| !metadata.ip.is_empty()) {
            Some(metadata) => is(metadata) || self.state.interfaces.is_local(address),
            None => containers.all_metadata().any(is),
        }
    }

    /// Seccomp mode of the thread.
    pub fn seccomp_mode(&self) -> Option<u32> {
        match &self.event.body {
            Body::SeccompCall(call) => Some(call.mode),
            Body::Exit(exit) => Some(exit.seccomp_mode),
            _ => self.thread.map(|thread| thread.task.seccomp_mode),
        }
    }

    /// Who wrote the executed program.
    pub fn writer(&self) -> Option<&'a Writer> {
        self.drift.and_then(|drift| drift.writer)
    }
}

fn event_type(event: &Event<'_>) -> Option<EventType> {
    match &event.body {
        Body::Exec(_) => Some(EventType::EXECVE),
        Body::Fork(_) => Some(EventType::CLONE),
        Body::Exit(exit) if exit.group_dead != 0 => Some(EventType::PROCEXIT),
        Body::Call(call) => Some(call_type(call)),
        _ => None,
    }
}

/// Calls that Falco has no event for are told by their number, notices of plugins by their name.
pub(crate) fn call_type(call: &Call<'_>) -> EventType {
    let found = match call.info.code {
        Code::GENERIC_X | Code::GENERIC_E => {
            let id = call.params.u16(0);
            // What its recorder did not know yet may be known now, by the number that the machine has for it.
            let native = call.params.u16(1).filter(|_| id == Some(0)).and_then(schema::native_event_type);
            let named = native.or_else(|| id.and_then(schema::syscall_event_type));
            Some(named.unwrap_or(call.info.event_type).by_number())
        }
        Code::ASYNCEVENT_E => {
            let name = call.params.text(1).and_then(|name| str::from_utf8(name).ok());
            name.and_then(EventType::find)
        }
        _ => None,
    };
    found.unwrap_or(call.info.event_type)
}

/// Whether a call returns something.
fn has_result(call: &Call<'_>) -> bool {
    let info = call.info;
    info.category.is(Category::SYSCALL)
        && info.code.is_exit()
        && info.code != Code::GENERIC_X
        && !call.params.is_empty()
}
