//! Reads a profile: the `linux.seccomp` object of the OCI runtime spec, or Docker's extension of it.
//!
//! What runc, containerd or Docker refuse is an error, and what they take without doing what it says is a warning; each with
//! its place. Calls that nobody knows are left out, as runc does, which says nothing of it. Sizes are bounded.

use std::{ops::Range, sync::Arc};

use super::{
    Abi, Action, Architecture, Condition, KernelVersion, Operator, Profile, Rule, Scope, abi,
    json::{Json, Member, Misplaced},
};
use crate::rules::diagnostic::{Code, Diagnostic, Text, nearest};

/// Longest text. etcd, and so a Kubernetes object, takes less.
const MAX_BYTES: usize = 4 << 20;
/// Most names of calls in all rules together; the kernel's own limit of 4096 instructions is far below.
const MAX_NAMES: usize = 16_384;
/// Most conditions of a rule.
const MAX_CONDITIONS: usize = 64;
/// Problems that are told.
const MAX_PROBLEMS: usize = 100;
/// Arguments of a call.
const ARGUMENTS: u64 = 6;
/// runc gives this to ERRNO and TRACE that name no errno.
const EPERM: u16 = 1;
/// `MAX_ERRNO`.
const MAX_ERRNO: u64 = 4095;

const FLAGS: &[&str] = &[
    "SECCOMP_FILTER_FLAG_TSYNC",
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
];
const PROFILE_KEYS: &[&str] = &[
    "defaultAction",
    "defaultErrnoRet",
    "architectures",
    "archMap",
    "flags",
    "listenerPath",
    "listenerMetadata",
    "syscalls",
];
const RULE_KEYS: &[&str] = &["names", "name", "action", "errnoRet", "args", "comment", "includes", "excludes"];
const CONDITION_KEYS: &[&str] = &["index", "value", "valueTwo", "op"];
const MAP_KEYS: &[&str] = &["architecture", "subArchitectures"];
const SCOPE_KEYS: &[&str] = &["caps", "arches", "minKernel"];

/// What came of reading.
#[derive(Debug)]
pub struct Parsed {
    /// The profile, unless a problem is an error.
    pub profile: Option<Profile>,
    /// What is wrong, in the order of the text.
    pub problems: Vec<Diagnostic>,
}

/// Reads a profile; `name` is what the text is called in messages.
pub fn parse(name: &str, bytes: &[u8]) -> Parsed {
    let fail = |text: &str, span: Range<usize>, message: String| {
        let text = Arc::new(Text { name: name.to_owned(), text: text.to_owned() });
        Parsed { profile: None, problems: vec![Diagnostic::new(Code::Profile, &text, span, message)] }
    };
    if bytes.len() > MAX_BYTES {
        return fail("", 0..0, format!("{} bytes are no profile: at most {MAX_BYTES}", bytes.len()));
    }
    let text = match str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let start = String::from_utf8_lossy(bytes.get(..error.valid_up_to()).unwrap_or_default()).into_owned();
            return fail(&start, start.len()..start.len(), "not UTF-8 from here on".to_owned());
        }
    };
    let json = match Json::parse(text) {
        Ok(json) => json,
        Err(Misplaced { span, message }) => return fail(text, span, message),
    };
    let text = Arc::new(Text { name: name.to_owned(), text: text.to_owned() });
    let mut reader = Reader { text: &text, problems: Vec::new(), names: 0 };
    let profile = reader.document(&json);
    let problems = reader.problems;
    let failed = problems.iter().any(Diagnostic::is_error);
    Parsed { profile: profile.filter(|_| !failed), problems }
}

struct Reader<'t> {
    text: &'t Arc<Text>,
    problems: Vec<Diagnostic>,
    names: usize,
}

/// What a rule is made from.
#[derive(Default)]
struct RuleParts<'a> {
    names: Vec<Json<'a>>,
    name: Option<Json<'a>>,
    action: Option<Json<'a>>,
    errno: Option<Json<'a>>,
    conditions: Vec<Json<'a>>,
    includes: Scope,
    excludes: Scope,
}

impl Reader<'_> {
    fn tell(&mut self, code: Code, span: Range<usize>, message: String, help: Option<String>) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(Diagnostic::new(code, self.text, span, message).help(help));
        }
    }

    fn error(&mut self, json: &Json<'_>, message: impl Into<String>) {
        self.tell(Code::Profile, json.span(), message.into(), None);
    }

    fn doubt(&mut self, json: &Json<'_>, message: impl Into<String>, help: Option<String>) {
        self.tell(Code::ProfileDoubt, json.span(), message.into(), help);
    }

    fn unknown<'k>(&mut self, json: &Json<'_>, what: &str, name: &str, known: impl IntoIterator<Item = &'k str>) {
        self.tell(Code::Profile, json.span(), format!("{name:?} is no {what}"), nearest(name, known));
    }

    /// What was read, or nothing and an error.
    fn take<T>(&mut self, read: Result<T, Misplaced>) -> Option<T> {
        read.map_err(|Misplaced { span, message }| self.tell(Code::Profile, span, message, None)).ok()
    }

    /// Members of an object; keys that mean nothing are doubtful, because the runtimes pass them over in silence.
    fn members<'a>(&mut self, json: &Json<'a>, known: &[&'static str]) -> Vec<(&'static str, Json<'a>)> {
        let members: Vec<Member<'a>> = self.take(json.members()).unwrap_or_default();
        let mut seen: Vec<(&'static str, Json<'a>)> = Vec::new();
        for (key, value) in members {
            match known.iter().find(|known| **known == key) {
                Some(known) => {
                    if seen.iter().any(|(seen, _)| seen == known) {
                        self.doubt(
                            &value,
                            format!("`{known}` stands here a second time, and the last one counts"),
                            None,
                        );
                        seen.retain(|(seen, _)| seen != known);
                    }
                    if !value.is_null() {
                        seen.push((known, value));
                    }
                }
                None => {
                    let help = nearest(&key, known.iter().copied());
                    self.doubt(&value, format!("the key {key:?} means nothing here, and no runtime says so"), help);
                }
            }
        }
        seen
    }

    fn strings(&mut self, json: &Json<'_>) -> Vec<String> {
        let list = self.take(json.list()).unwrap_or_default();
        list.iter().filter_map(|item| self.take(item.string())).map(std::borrow::Cow::into_owned).collect()
    }

    /// The profile, or the one that stands in an OCI bundle's `config.json`.
    fn document(&mut self, json: &Json<'_>) -> Option<Profile> {
        let members = self.take(json.members())?;
        let member = |members: &[Member<'_>], name: &str| {
            members.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.span())
        };
        if member(&members, "ociVersion").is_some() && member(&members, "defaultAction").is_none() {
            let linux = members.iter().rev().find(|(key, _)| key == "linux");
            let linux = linux.and_then(|(_, linux)| self.take(linux.members())).unwrap_or_default();
            let Some((_, seccomp)) = linux.iter().rev().find(|(key, _)| key == "seccomp") else {
                self.error(json, "this OCI bundle has no linux.seccomp: the container runs without a filter");
                return None;
            };
            return self.profile(seccomp);
        }
        self.profile(json)
    }

    fn profile(&mut self, json: &Json<'_>) -> Option<Profile> {
        let mut profile = Profile::new(Action::KILL_THREAD);
        let (mut action, mut errno, mut architectures) = (None, None, None);
        for (key, value) in self.members(json, PROFILE_KEYS) {
            match key {
                "defaultAction" => action = Some(value),
                "defaultErrnoRet" => errno = Some(value),
                "architectures" => {
                    architectures = Some(value);
                    let list = self.take(value.list()).unwrap_or_default();
                    profile.architectures = list.iter().filter_map(|item| self.architecture(item)).collect();
                }
                "archMap" => profile.architecture_map = self.architecture_map(&value),
                "flags" => profile.flags = self.flags(&value),
                "listenerPath" => profile.listener_path = self.take(value.string()).map(std::borrow::Cow::into_owned),
                "syscalls" => {
                    let rules = self.take(value.list()).unwrap_or_default();
                    profile.rules = rules.iter().filter_map(|rule| self.rule(rule)).collect();
                }
                _ => {}
            }
        }
        if let Some(architectures) = architectures.filter(|_| !profile.architecture_map.is_empty()) {
            self.error(&architectures, "Docker takes `architectures` or `archMap`, not both");
        }
        let Some(action) = action else {
            self.error(
                json,
                "there is no `defaultAction`: runtimes refuse that, or run the container without a filter",
            );
            return None;
        };
        profile.default_action = self.action(&action, errno.as_ref())?;
        if profile.default_action.kind() == Action::NOTIFY {
            self.error(&action, "runc refuses SCMP_ACT_NOTIFY as the default action");
        }
        let notifies = profile.rules.iter().any(|rule| rule.action.kind() == Action::NOTIFY);
        if notifies && profile.listener_path.is_none() {
            self.doubt(&action, "SCMP_ACT_NOTIFY without `listenerPath`: runtimes refuse to start the container", None);
        }
        Some(profile)
    }

    fn architecture(&mut self, json: &Json<'_>) -> Option<Architecture> {
        let name = self.take(json.string())?;
        if let Some(abi) = Abi::parse(&name) {
            return Some(Architecture::Known(abi));
        }
        if Abi::names().any(|known| known == name) {
            return Some(Architecture::Foreign(name.into_owned()));
        }
        self.unknown(json, "architecture", &name, Abi::names());
        None
    }

    fn architecture_map(&mut self, json: &Json<'_>) -> Vec<(Architecture, Vec<Architecture>)> {
        let mut map = Vec::new();
        for entry in self.take(json.list()).unwrap_or_default() {
            let (mut main, mut subordinate) = (None, Vec::new());
            for (key, value) in self.members(&entry, MAP_KEYS) {
                match key {
                    "architecture" => main = self.architecture(&value),
                    _ => {
                        let list = self.take(value.list()).unwrap_or_default();
                        subordinate = list.iter().filter_map(|item| self.architecture(item)).collect();
                    }
                }
            }
            match main {
                Some(main) => map.push((main, subordinate)),
                None => self.error(&entry, "an entry of `archMap` needs an `architecture`"),
            }
        }
        map
    }

    fn flags(&mut self, json: &Json<'_>) -> Vec<String> {
        let list = self.take(json.list()).unwrap_or_default();
        for item in &list {
            if let Some(flag) = self.take(item.string())
                && !FLAGS.contains(&&*flag)
            {
                self.unknown(item, "flag of a filter", &flag, FLAGS.iter().copied());
            }
        }
        list.iter().filter_map(|item| item.string().ok()).map(std::borrow::Cow::into_owned).collect()
    }

    fn action(&mut self, json: &Json<'_>, errno: Option<&Json<'_>>) -> Option<Action> {
        let name = self.take(json.string())?;
        let Some(action) = Action::parse(&name) else {
            self.unknown(json, "action", &name, Action::names());
            return None;
        };
        let Some(errno) = errno else {
            return Some(if action.has_errno() { action.with_data(EPERM) } else { action });
        };
        let number = self.take(errno.number())?;
        if !action.has_errno() {
            self.doubt(errno, format!("{name} has no errno: this does nothing"), None);
            return Some(action);
        }
        if number > MAX_ERRNO {
            self.doubt(
                errno,
                format!("{number} is no errno: runc cuts it to 16 bits, the kernel to {MAX_ERRNO}"),
                None,
            );
        }
        Some(action.with_data(u16::try_from(number & 0xffff).unwrap_or_default()))
    }

    fn rule(&mut self, json: &Json<'_>) -> Option<Rule> {
        let mut parts = RuleParts::default();
        for (key, value) in self.members(json, RULE_KEYS) {
            match key {
                "names" => parts.names = self.take(value.list()).unwrap_or_default(),
                "name" => parts.name = Some(value).filter(|name| name.string().as_deref() != Ok("")),
                "action" => parts.action = Some(value),
                "errnoRet" => parts.errno = Some(value),
                "args" => parts.conditions = self.take(value.list()).unwrap_or_default(),
                "includes" => parts.includes = self.scope(&value),
                "excludes" => parts.excludes = self.scope(&value),
                _ => {}
            }
        }
        let Some(action) = &parts.action else {
            self.error(json, "a rule needs an `action`");
            return None;
        };
        let action = self.action(action, parts.errno.as_ref())?;
        let names = self.names(json, &parts, action);
        if parts.conditions.len() > MAX_CONDITIONS {
            self.error(json, format!("{} conditions: at most {MAX_CONDITIONS}", parts.conditions.len()));
            return None;
        }
        let conditions: Vec<_> = parts.conditions.iter().filter_map(|condition| self.condition(condition)).collect();
        self.repeated(&parts.conditions, &conditions);
        Some(Rule { names, action, conditions, includes: parts.includes, excludes: parts.excludes })
    }

    /// The names of a rule's calls, without those that nobody knows.
    fn names(&mut self, rule: &Json<'_>, parts: &RuleParts<'_>, action: Action) -> Vec<String> {
        if let Some(name) = parts.name {
            if !parts.names.is_empty() {
                self.error(&name, "Docker takes `name` or `names`, not both");
            }
            self.doubt(&name, "`name` is Docker's old form, which containerd and runc pass over", None);
        } else if parts.names.is_empty() {
            self.doubt(rule, "this rule names no call, and does nothing", None);
        }
        let mut names = Vec::new();
        for json in parts.name.iter().chain(&parts.names) {
            let Some(name) = self.take(json.string()) else { continue };
            self.names += 1;
            if self.names > MAX_NAMES {
                self.error(json, format!("more than {MAX_NAMES} names of calls"));
                return Vec::new();
            }
            if name.is_empty() {
                self.error(json, "runc refuses a call without a name");
            } else if action.kind() == Action::NOTIFY && name == "write" {
                self.error(json, "runc refuses SCMP_ACT_NOTIFY for `write`, which it needs itself");
            } else if !abi::is_call(&name) {
                let help = nearest(&name, abi::call_names());
                self.doubt(json, format!("{name:?} is no system call that is known here: runtimes leave it out"), help);
            } else {
                names.push(name.into_owned());
            }
        }
        names
    }

    fn condition(&mut self, json: &Json<'_>) -> Option<Condition> {
        // What is not written is 0 to Go.
        let (mut index, mut value, mut value_two, mut operator) = (0, 0, None, None);
        for (key, member) in self.members(json, CONDITION_KEYS) {
            match key {
                "index" => {
                    index = self.take(member.number())?;
                    if index >= ARGUMENTS {
                        self.error(
                            &member,
                            format!("a call has {ARGUMENTS} arguments, from 0 on: there is no {index}"),
                        );
                        return None;
                    }
                }
                "value" => value = self.take(member.number())?,
                "valueTwo" => value_two = Some((self.take(member.number())?, member)),
                _ => operator = Some(member),
            }
        }
        let Some(place) = operator else {
            self.error(json, "a condition needs an `op`");
            return None;
        };
        let name = self.take(place.string())?;
        let Some(operator) = Operator::parse(&name) else {
            self.unknown(&place, "operator", &name, Operator::names());
            return None;
        };
        let condition = Condition {
            index: u8::try_from(index).unwrap_or_default(),
            operator,
            value,
            value_two: value_two.map_or(0, |(value, _)| value),
        };
        match (operator, value_two) {
            (Operator::MaskedEqual, _) if condition.value_two & !value != 0 => {
                self.doubt(json, "bits outside of the mask are not compared", None);
            }
            (Operator::MaskedEqual, _) | (_, None | Some((0, _))) => {}
            (_, Some((_, place))) => self.doubt(&place, format!("{name} looks at `value` alone"), None),
        }
        Some(condition)
    }

    /// runc makes a rule of each condition where two are about the same argument: they are alternatives then.
    fn repeated(&mut self, places: &[Json<'_>], conditions: &[Condition]) {
        let again = conditions
            .iter()
            .enumerate()
            .find(|(at, condition)| conditions.iter().take(*at).any(|earlier| earlier.index == condition.index));
        if let Some(place) = again.and_then(|(at, _)| places.get(at)) {
            let message = "a second condition on the same argument: runc then takes each of the rule's conditions alone, and \
                           the rule applies where any of them holds";
            self.doubt(place, message, None);
        }
    }

    fn scope(&mut self, json: &Json<'_>) -> Scope {
        let mut scope = Scope::default();
        for (key, value) in self.members(json, SCOPE_KEYS) {
            match key {
                "caps" => scope.capabilities = self.strings(&value),
                "arches" => scope.architectures = self.strings(&value),
                _ => {
                    let Some(text) = self.take(value.string()) else { continue };
                    match KernelVersion::parse(&text) {
                        Some(version) => scope.min_kernel = Some(version),
                        None => self.error(&value, format!("{text:?} is no kernel version: write it as \"4.8\"")),
                    }
                }
            }
        }
        scope
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        parse("p.json", text.as_bytes()).problems.iter().map(ToString::to_string).collect()
    }

    fn only(text: &str) -> String {
        let [problem] = &problems(text)[..] else { panic!("{:?}", problems(text)) };
        problem.clone()
    }

    fn rule(rule: &str) -> String {
        format!("{{\"defaultAction\": \"SCMP_ACT_ERRNO\", \"syscalls\": [\n{rule}\n]}}")
    }

    #[test]
    fn an_oci_profile_is_read_whole() {
        let text = r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "flags": ["SECCOMP_FILTER_FLAG_LOG"],
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_S390X"], "listenerMetadata": "x", "syscalls": [
            {"names": ["read", "clone"], "action": "SCMP_ACT_ALLOW",
             "args": [{"index": 0, "value": 2114060288, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]}]}"#;
        let parsed = parse("p.json", text.as_bytes());
        assert_eq!(parsed.problems, []);
        let profile = parsed.profile.unwrap();
        assert_eq!(profile.default_action, Action::ERRNO.with_data(38));
        let foreign = Architecture::Foreign("SCMP_ARCH_S390X".into());
        assert_eq!(profile.architectures, [Architecture::Known(Abi::X86_64), foreign]);
        let condition = Condition { index: 0, operator: Operator::MaskedEqual, value: 0x7e02_0000, value_two: 0 };
        assert_eq!((&profile.rules[0].names[1][..], &profile.rules[0].conditions[..]), ("clone", &[condition][..]));
        assert!(!profile.is_docker());
    }

    #[test]
    fn dockers_format_is_read_too() {
        let text = r#"{"defaultAction": "SCMP_ACT_ERRNO", "archMap": [
            {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]}],
            "syscalls": [{"names": ["bpf"], "action": "SCMP_ACT_ALLOW", "args": [], "comment": "",
             "includes": {"caps": ["CAP_SYS_ADMIN"], "minKernel": "4.8"}, "excludes": {"arches": ["s390"]}}]}"#;
        let parsed = parse("p.json", text.as_bytes());
        assert_eq!(parsed.problems, []);
        let profile = parsed.profile.unwrap();
        assert!(profile.is_docker() && profile.architecture_map[0].1.len() == 2);
        assert_eq!(profile.rules[0].includes.min_kernel, KernelVersion::parse("4.8"));
        assert_eq!(profile.rules[0].excludes.architectures, ["s390"]);
    }

    #[test]
    fn the_profile_of_an_oci_bundle_is_found() {
        let text = r#"{"ociVersion": "1.0.2", "linux": {"seccomp": {"defaultAction": "SCMP_ACT_LOG"}}}"#;
        assert_eq!(parse("config.json", text.as_bytes()).profile.unwrap().default_action, Action::LOG);
        assert!(only(r#"{"ociVersion": "1.0.2", "linux": {}}"#).contains("no linux.seccomp"));
    }

    #[test]
    fn what_no_runtime_takes_is_an_error_with_its_place() {
        let cases = [
            (r#"{"defaultAction": "SCMP_ACT_ALOW"}"#, "p.json:1:19: SECCOMP_PROFILE: \"SCMP_ACT_ALOW\" is no action"),
            ("{}", "p.json:1:1: SECCOMP_PROFILE: there is no `defaultAction`"),
            ("[]", "p.json:1:1: SECCOMP_PROFILE: this must be an object"),
            (
                r#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#,
                "p.json:1:19: SECCOMP_PROFILE: runc refuses SCMP_ACT_NOTIFY as",
            ),
            (&rule(r#"{"names": ["read"]}"#), "p.json:2:1: SECCOMP_PROFILE: a rule needs an `action`"),
            (
                &rule(r#"{"names": [1], "action": "SCMP_ACT_ALLOW"}"#),
                "p.json:2:12: SECCOMP_PROFILE: this must be a string",
            ),
            (
                &rule(
                    r#"{"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 6, "op": "SCMP_CMP_EQ"}]}"#,
                ),
                "p.json:2:68: SECCOMP_PROFILE: a call has 6 arguments",
            ),
            (
                &rule(
                    r#"{"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "op": "SCMP_CMP_EG"}]}"#,
                ),
                "p.json:2:77: SECCOMP_PROFILE: \"SCMP_CMP_EG\" is no operator",
            ),
            (
                &rule(
                    r#"{"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{"value": -1, "op": "SCMP_CMP_EQ"}]}"#,
                ),
                "p.json:2:68: SECCOMP_PROFILE: this must be a whole number",
            ),
            (
                r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["x86"]}"#,
                "p.json:1:55: SECCOMP_PROFILE: \"x86\" is no architecture",
            ),
            (
                r#"{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["LOG"]}"#,
                "p.json:1:47: SECCOMP_PROFILE: \"LOG\" is no flag of a filter",
            ),
            (
                &rule(r#"{"names": ["write"], "action": "SCMP_ACT_NOTIFY"}"#),
                "p.json:2:12: SECCOMP_PROFILE: runc refuses",
            ),
        ];
        for (text, expected) in cases {
            let told = problems(text);
            assert!(told.iter().any(|problem| problem.starts_with(expected)), "{text}: {told:?}, not {expected}");
            assert!(parse("p.json", text.as_bytes()).profile.is_none(), "{text}");
        }
    }

    #[test]
    fn what_runtimes_pass_over_is_a_warning_with_its_place() {
        let cases = [
            (
                r#"{"names": ["raed"], "action": "SCMP_ACT_ALLOW"}"#,
                "p.json:2:12: SECCOMP_PROFILE_DOUBT: \"raed\" is no system",
            ),
            (
                r#"{"names": [], "action": "SCMP_ACT_ALLOW"}"#,
                "p.json:2:1: SECCOMP_PROFILE_DOUBT: this rule names no call",
            ),
            (
                r#"{"names": ["read"], "action": "SCMP_ACT_ALLOW", "errnoRet": 1}"#,
                "p.json:2:61: SECCOMP_PROFILE_DOUBT: SCMP_ACT_ALLOW has no errno",
            ),
            (
                r#"{"names": ["read"], "action": "SCMP_ACT_ALLOW", "erno": 1}"#,
                "p.json:2:57: SECCOMP_PROFILE_DOUBT: the key \"erno\" means nothing here",
            ),
            (
                r#"{"names": ["read"], "action": "SCMP_ACT_ALLOW",
"args": [{"index": 1, "op": "SCMP_CMP_EQ"}, {"index": 1, "op": "SCMP_CMP_NE"}]}"#,
                "p.json:3:45: SECCOMP_PROFILE_DOUBT: a second condition on the same argument",
            ),
        ];
        for (text, expected) in cases {
            let told = only(&rule(text));
            assert!(told.starts_with(expected), "{told}, not {expected}");
            assert!(parse("p.json", rule(text).as_bytes()).profile.is_some(), "{text}");
        }
        let suggestion = parse("p.json", rule(r#"{"names": ["openatt"], "action": "SCMP_ACT_ALLOW"}"#).as_bytes());
        assert_eq!(suggestion.problems[0].help.as_deref(), Some("did you mean `openat`?"));
    }

    #[test]
    fn huge_and_deep_input_is_refused() {
        assert!(only(&" ".repeat(MAX_BYTES + 1)).contains("at most"));
        assert!(only(&"{\"a\":".repeat(100_000)).contains("not JSON"));
        let deep = format!("{}1{}", "{\"defaultAction\":".repeat(50_000), "}".repeat(50_000));
        assert!(only(&deep).contains("this must be a string"));
        let names = vec!["\"read\""; MAX_NAMES + 1].join(",");
        assert!(only(&rule(&format!(r#"{{"names": [{names}], "action": "SCMP_ACT_ALLOW"}}"#))).contains("more than"));
        let many = vec!["{\"names\": 1}"; 1000].join(",");
        assert_eq!(problems(&rule(&many)).len(), MAX_PROBLEMS);
        assert!(parse("p", b"{\"a\xff").problems[0].message.contains("UTF-8"));
    }
}
