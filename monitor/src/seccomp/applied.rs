//! Which profile a container runs under, and which rule of it decided about a call.
//!
//! The sensor tells of the profile when it reads the container's bundle. What a filter did is only said to be a rule's doing if the
//! profile gives that very answer to that very call: a program may have put filters of its own on top.

use std::{collections::VecDeque, sync::Arc};

use hashbrown::HashMap;
use serde::Deserialize;
use serde_json::Value;

use super::{
    Violation,
    classic::Data,
    profile::{
        Abi, Action, Condition, Filter, Profile, Target, filter::BAD_ARCHITECTURE, filter::TOO_NEW, parse, select,
    },
};
use crate::{proto::v1::SeccompAction, syscall::Arch};

/// Containers whose profile is remembered; the one that was told of first goes first.
const MAX_CONTAINERS: usize = 8192;
/// Different profiles that are kept whole.
const MAX_PROFILES: usize = 256;
/// Longest text of a rule.
const MAX_TEXT: usize = 256;

/// What a container has where it has no profile.
pub const UNCONFINED: &str = "Unconfined";

/// What a violation is the doing of, as far as that is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// `RuntimeDefault`, `Localhost/FILE`, `Unconfined`, `custom` for any other; empty where the bundle was not read.
    pub profile: Arc<str>,
    /// SHA-256 of the profile as the runtime was given it; empty without one.
    pub digest: Arc<str>,
    /// The rule of it; empty where it is none's, or the profile is not known.
    pub rule: String,
}

/// The document of a record.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Document {
    name: String,
    digest: String,
    /// Absent where it is too long for a record.
    profile: Option<Value>,
}

/// A profile and the filters that runtimes make of it.
#[derive(Debug)]
struct Rules {
    profile: Profile,
    filters: Vec<Filter>,
}

#[derive(Clone, Debug)]
struct Applied {
    name: Arc<str>,
    digest: Arc<str>,
    rules: Option<Arc<Rules>>,
}

/// The profiles of containers.
#[derive(Debug, Default)]
pub struct Profiles {
    by_container: HashMap<String, Applied>,
    order: VecDeque<String>,
    /// By digest and machine.
    known: HashMap<(Arc<str>, bool), Option<Arc<Rules>>>,
    malformed: u64,
}

impl Profiles {
    /// Takes in what the sensor says of a container.
    pub fn tell(&mut self, container: &str, machine: u32, document: &[u8]) {
        // An array would be taken for a structure without keys.
        let is_object = document.trim_ascii_start().starts_with(b"{");
        let Some(document) = is_object.then(|| serde_json::from_slice::<Document>(document).ok()).flatten() else {
            self.malformed += 1;
            return;
        };
        let digest: Arc<str> = document.digest.into();
        let native = Abi::of_call(Arch::of(machine, false), 0);
        let rules = document.profile.as_ref().and_then(|profile| {
            let key = (Arc::clone(&digest), native == Abi::Aarch64);
            if let Some(known) = self.known.get(&key) {
                return known.clone();
            }
            let rules = Rules::of(profile, native).map(Arc::new);
            if self.known.len() == MAX_PROFILES {
                // Those that containers have stay alive with them.
                self.known.clear();
            }
            self.known.insert(key, rules.clone());
            rules
        });
        if !self.by_container.contains_key(container) {
            if self.order.len() == MAX_CONTAINERS
                && let Some(oldest) = self.order.pop_front()
            {
                self.by_container.remove(&oldest);
            }
            self.order.push_back(container.to_owned());
        }
        self.by_container.insert(container.to_owned(), Applied { name: document.name.into(), digest, rules });
    }

    /// How often a document was none.
    pub const fn malformed(&self) -> u64 {
        self.malformed
    }

    /// What a violation in a container is the doing of.
    pub fn origin(&self, container: &str, violation: &Violation) -> Origin {
        let Some(Applied { name, digest, rules }) = self.by_container.get(container) else { return Origin::default() };
        let rule = rules.as_ref().and_then(|rules| rules.decided(violation));
        Origin { profile: Arc::clone(name), digest: Arc::clone(digest), rule: rule.unwrap_or_default() }
    }
}

impl Rules {
    fn of(profile: &Value, native: Abi) -> Option<Self> {
        let profile = parse("", profile.to_string().as_bytes()).profile?;
        // Runtimes know none of Docker's keys.
        let selected = select::select(&profile, &Target { reads_docker: false, ..Target::new(native) });
        // runc answers ENOSYS to calls that are newer than all that are named; crun does not.
        let filters = [Filter::for_runc(&selected), Filter::for_libseccomp(&selected)];
        Some(Self { profile, filters: filters.into_iter().flatten().collect() })
    }

    /// The rule that gave the answer, in words; `None` if the profile would have given another.
    fn decided(&self, violation: &Violation) -> Option<String> {
        let Violation { arch, nr, args, ip, .. } = violation;
        let data = Data { nr: *nr, arch: arch.audit(), ip: *ip, args: *args };
        let answers: Vec<_> = self.filters.iter().map(|filter| filter.answer(&data)).collect();
        let answer = *answers.iter().find(|answer| is_what_happened(**answer, violation))?;
        let abi = Abi::of_call(*arch, nr.cast_unsigned());
        let name = abi.call_name(nr.cast_unsigned());
        let mut rules = self.profile.rules.iter().enumerate();
        let found = rules.find(|(_, rule)| {
            rule.action == answer && rule.names.iter().any(|named| *named == *name) && holds(&rule.conditions, args)
        });
        let text = match found {
            Some((index, rule)) => {
                let conditions: Vec<_> = rule.conditions.iter().map(ToString::to_string).collect();
                let when = if conditions.is_empty() { String::new() } else { format!(" if {}", conditions.join(", ")) };
                format!("syscalls[{index}]: {}{when}", rule.action.name())
            }
            None if answer == self.profile.default_action => format!("defaultAction: {}", answer.name()),
            None if answer == TOO_NEW => "newer than the calls that it names".to_owned(),
            None if answer == BAD_ARCHITECTURE => "architectures: not listed".to_owned(),
            None => return None,
        };
        Some(text.get(..text.floor_char_boundary(MAX_TEXT)).unwrap_or_default().to_owned())
    }
}

/// Two conditions about one argument are alternatives, as runc takes them; else all must hold.
fn holds(conditions: &[Condition], args: &[u64; 6]) -> bool {
    let mut each = conditions
        .iter()
        .map(|condition| args.get(usize::from(condition.index)).is_some_and(|argument| condition.holds(*argument)));
    let repeats = (0..6).any(|index| conditions.iter().filter(|condition| condition.index == index).count() > 1);
    if repeats { each.any(|holds| holds) } else { each.all(|holds| holds) }
}

fn is_what_happened(answer: Action, violation: &Violation) -> bool {
    let errno = || violation.errno == Some(answer.data().min(4095));
    match violation.action {
        SeccompAction::KillProcess => answer.kind() == Action::KILL_PROCESS,
        SeccompAction::KillThread => answer.kind() == Action::KILL_THREAD,
        SeccompAction::Trap => answer.kind() == Action::TRAP,
        SeccompAction::Errno => answer.kind() == Action::ERRNO && errno(),
        SeccompAction::Notified => answer.kind() == Action::NOTIFY,
        SeccompAction::Trace => answer.kind() == Action::TRACE,
        SeccompAction::Log => answer.kind() == Action::LOG,
        SeccompAction::Unspecified => !answer.lets_pass(),
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use serde_json::json;

    use super::*;
    use crate::seccomp::{Evidence, window::Occurrences};

    const X86_64: u32 = 62;

    fn violation(name: &'static str, action: SeccompAction, errno: Option<u16>, first: u64) -> Violation {
        Violation {
            syscall: Cow::Borrowed(name),
            nr: Abi::X86_64.number(name).unwrap().cast_signed(),
            arch: Arch::X86_64,
            action,
            errno,
            signal: None,
            args: [first, 0, 0, 0, 0, 0],
            ip: 0,
            evidence: Evidence::Filter,
            origin: Origin::default(),
            occurrences: Occurrences::once(0),
        }
    }

    fn told() -> Profiles {
        let profile = json!({
            "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1,
            "syscalls": [
                {"names": ["read", "openat2"], "action": "SCMP_ACT_ALLOW"},
                {"names": ["mkdir", "acct"], "action": "SCMP_ACT_KILL_PROCESS"},
                {"names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13,
                 "args": [{"index": 0, "value": 40, "op": "SCMP_CMP_EQ"}]},
                {"names": ["socket"], "action": "SCMP_ACT_ALLOW",
                 "args": [{"index": 0, "value": 40, "op": "SCMP_CMP_NE"}]},
            ],
        });
        let mut profiles = Profiles::default();
        let document = json!({"name": "Localhost/p.json", "digest": "ab", "profile": profile});
        profiles.tell("c1", X86_64, document.to_string().as_bytes());
        profiles
    }

    #[test]
    fn the_rule_that_decided_is_named() {
        let profiles = told();
        let rule = |violation: &Violation| profiles.origin("c1", violation).rule;
        let errno = SeccompAction::Errno;
        assert_eq!(
            rule(&violation("mkdir", SeccompAction::KillProcess, None, 0)),
            "syscalls[1]: SCMP_ACT_KILL_PROCESS"
        );
        assert_eq!(rule(&violation("socket", errno, Some(13), 40)), "syscalls[2]: SCMP_ACT_ERRNO if arg0 == 0x28");
        assert_eq!(rule(&violation("mount", errno, Some(1), 0)), "defaultAction: SCMP_ACT_ERRNO");
        assert_eq!(rule(&violation("cachestat", errno, Some(38), 0)), "newer than the calls that it names");
        assert_eq!(rule(&violation("cachestat", errno, Some(1), 0)), "defaultAction: SCMP_ACT_ERRNO", "by crun");
    }

    #[test]
    fn what_the_profile_would_not_have_done_is_no_rules_doing() {
        let profiles = told();
        let origin = profiles.origin("c1", &violation("read", SeccompAction::Errno, Some(1), 0));
        assert_eq!((&*origin.profile, &*origin.digest, &*origin.rule), ("Localhost/p.json", "ab", ""));
        assert_eq!(profiles.origin("c1", &violation("mount", SeccompAction::Errno, Some(2), 0)).rule, "");
        assert_eq!(profiles.origin("other", &violation("mount", SeccompAction::Errno, Some(1), 0)), Origin::default());
    }

    #[test]
    fn documents_that_are_none_are_counted_and_what_is_kept_is_bounded() {
        let mut profiles = Profiles::default();
        for document in ["", "[]", "{\"name\": 1}", "{\"profile\": [1]}", "{\"profile\": {}}"] {
            profiles.tell("c", X86_64, document.as_bytes());
        }
        assert_eq!((profiles.malformed(), profiles.by_container.len()), (3, 1));
        for number in 0..MAX_CONTAINERS + 10 {
            let document = json!({"digest": number.to_string(), "profile": {"defaultAction": "SCMP_ACT_ALLOW"}});
            profiles.tell(&number.to_string(), X86_64, document.to_string().as_bytes());
        }
        assert_eq!((profiles.by_container.len(), profiles.order.len()), (MAX_CONTAINERS, MAX_CONTAINERS));
        assert!(profiles.known.len() <= MAX_PROFILES);
    }
}
