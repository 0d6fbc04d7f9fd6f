//! Which findings a consumer is sent, and how much of each: checked when it asks, applied to every finding.

use std::{net::IpAddr, sync::Mutex};

use prost_types::FieldMask;

use super::hub::OpenError;
use crate::{
    event::{
        EventType,
        field::{Argument, Field, Fields},
        value::{Address, Type, Value},
    },
    proto::v1::{self, Container, Filter, Finding, Kind, Priority, value},
    rules::{Condition, Supply},
};

const MAX_NAMES: usize = 1024;
const MAX_WHERE_BYTES: usize = 4096;

/// A filter and a field mask that can be meant.
#[derive(Debug, Default)]
pub struct Choice {
    filter: Filter,
    /// A condition keeps room for its own work.
    condition: Option<Mutex<Condition>>,
    mask: Option<Vec<String>>,
    since: u64,
    until: Option<u64>,
}

impl Choice {
    /// Checks what a consumer asks for.
    pub fn new(filter: Filter, fields: Option<FieldMask>) -> Result<Self, OpenError> {
        check(&filter)?;
        let condition = match filter.r#where.as_str() {
            "" => None,
            text => Some(Mutex::new(condition(text)?)),
        };
        let mask = fields.map(|fields| fields.paths).filter(|paths| !paths.is_empty());
        if let Some(unknown) = mask.iter().flatten().find(|path| !FIELDS.contains(&path.as_str())) {
            let shown: String = unknown.chars().take(64).collect();
            return Err(OpenError::invalid("fields", format!("{shown:?} is not a field of Finding")));
        }
        Ok(Self { filter, condition, mask, since: 0, until: None })
    }

    /// Only what was observed in this time.
    #[must_use]
    pub fn between(mut self, since: u64, until: Option<u64>) -> Self {
        (self.since, self.until) = (since, until);
        self
    }

    /// Whether a finding is chosen.
    pub fn passes(&self, finding: &Finding) -> bool {
        let Filter { rules, kinds, namespaces, .. } = &self.filter;
        let least = self.filter.min_priority();
        let observed = finding.observed_time_unix_nano;
        (least == Priority::Unspecified || finding.priority().at_least(least))
            && (rules.is_empty() || rules.contains(&finding.rule))
            && (kinds.is_empty() || kinds.contains(&finding.kind))
            && (namespaces.is_empty()
                || namespace(finding).is_some_and(|known| namespaces.iter().any(|name| name == known)))
            && observed >= self.since
            && self.until.is_none_or(|until| observed < until)
            && self.condition.as_ref().is_none_or(|condition| holds(condition, finding))
    }

    /// As much of a finding as was asked for.
    pub fn masked(&self, finding: &Finding) -> Finding {
        match &self.mask {
            None => finding.clone(),
            Some(paths) => keep(finding, |name| paths.iter().any(|path| path == name)),
        }
    }
}

fn holds(condition: &Mutex<Condition>, finding: &Finding) -> bool {
    let Some(event_type) = EventType::find(&finding.event_type) else { return false };
    // A condition that panicked once has no state that could be half-way.
    let mut condition = condition.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    condition.matches(event_type, &Carried(finding))
}

fn namespace(finding: &Finding) -> Option<&str> {
    let known = finding.container.as_ref().map_or("", |container| &container.namespace);
    if !known.is_empty() {
        return Some(known);
    }
    match finding.output_fields.get("k8s.ns.name")?.value.as_ref()? {
        value::Value::Text(name) => Some(name),
        _ => None,
    }
}

fn condition(text: &str) -> Result<Condition, OpenError> {
    let invalid = |reason: String| OpenError::invalid("filter.where", reason);
    if text.len() > MAX_WHERE_BYTES {
        return Err(invalid(format!("longer than {MAX_WHERE_BYTES} bytes")));
    }
    let wrong = |diagnostics: Vec<crate::rules::diagnostic::Diagnostic>| {
        invalid(diagnostics.first().map_or_else(|| "does not compile".to_owned(), ToString::to_string))
    };
    // What a finding carries is not what the agent's events have: its output may name anything.
    let expr = Condition::resolve(text, "where", Supply::Caller).map_err(wrong)?;
    Condition::new(&expr).ok_or_else(|| invalid("is too large".to_owned()))
}

/// Refuses a filter that cannot be meant.
fn check(filter: &Filter) -> Result<(), OpenError> {
    if Priority::try_from(filter.min_priority).is_err() {
        let reason = format!("{} is not known to this agent", filter.min_priority);
        return Err(OpenError::invalid("filter.min_priority", reason));
    }
    for (name, list) in [("filter.rules", &filter.rules), ("filter.namespaces", &filter.namespaces)] {
        if list.len() > MAX_NAMES {
            return Err(OpenError::invalid(name, format!("more than {MAX_NAMES}")));
        }
    }
    for kind in &filter.kinds {
        if matches!(Kind::try_from(*kind), Err(_) | Ok(Kind::Unspecified)) {
            return Err(OpenError::invalid("filter.kinds", format!("{kind} is not known to this agent")));
        }
    }
    Ok(())
}

macro_rules! fields {
    ($($name:literal => $field:ident),* $(,)?) => {
        /// Fields of a finding that a mask may name.
        pub const FIELDS: &[&str] = &[$($name),*];

        fn keep(finding: &Finding, wanted: impl Fn(&str) -> bool) -> Finding {
            let mut kept = Finding { uid: finding.uid.clone(), sequence: finding.sequence, ..Finding::default() };
            $(if wanted($name) {
                kept.$field = finding.$field.clone();
            })*
            kept
        }
    };
}

fields! {
    "uid" => uid, "sequence" => sequence, "time_unix_nano" => time_unix_nano,
    "observed_time_unix_nano" => observed_time_unix_nano, "kind" => kind, "priority" => priority, "rule" => rule,
    "message" => message, "output_fields" => output_fields, "tags" => tags, "source" => source, "hostname" => hostname,
    "event_number" => event_number, "event_type" => event_type, "process" => process, "container" => container,
    "drift" => detail, "seccomp" => detail, "pod_security" => detail,
}

/// What a finding can answer of the rule language's fields.
struct Carried<'a>(&'a Finding);

impl Fields for Carried<'_> {
    fn value(&self, field: Field, argument: &Argument) -> Option<Value<'_>> {
        let name = field.info().name;
        let known = if *argument == Argument::None { self.own(name) } else { self.of_ancestor(name, argument) };
        known.or_else(|| {
            let output = self.0.output_fields.get(&format!("{name}{}", argument.suffix(field)))?;
            typed(output, field.info().ty)
        })
    }

    fn values(&self, field: Field, argument: &Argument, each: &mut dyn FnMut(Value<'_>)) {
        let ancestors = self.0.process.iter().flat_map(|process| &process.ancestors);
        match (field.info().name, argument) {
            ("proc.aname", Argument::None) => ancestors.for_each(|ancestor| each(Value::text(&ancestor.name))),
            ("proc.aexepath", Argument::None) => ancestors.for_each(|ancestor| each(Value::text(&ancestor.executable))),
            ("proc.apid", Argument::None) => ancestors.for_each(|ancestor| each(Value::Int(ancestor.pid.into()))),
            _ => self.value(field, argument).into_iter().for_each(each),
        }
    }
}

/// What a finding knows of its container; `None` where that is nothing.
fn of_container(finding: &Finding, value: fn(&Container) -> &str) -> Option<Value<'_>> {
    finding.container.as_ref().map(value).filter(|value| !value.is_empty()).map(Value::text)
}

impl Carried<'_> {
    fn own(&self, name: &str) -> Option<Value<'_>> {
        let finding = self.0;
        match name {
            "evt.type" => return Some(Value::text(&finding.event_type)),
            "evt.num" => return Some(Value::Uint(finding.event_number)),
            "evt.time" | "evt.rawtime" => return Some(Value::Uint(finding.time_unix_nano)),
            "evt.hostname" => return Some(Value::text(&finding.hostname)),
            "container.id" => {
                // Falco's: the first twelve digits, or "host".
                let id = finding
                    .container
                    .as_ref()
                    .map_or("host", |container| container.id.get(..12).unwrap_or(&container.id));
                return Some(Value::text(id));
            }
            "container.full_id" => return finding.container.as_ref().map(|container| Value::text(&container.id)),
            "k8s.pod.uid" => return of_container(finding, |container| &container.pod_uid),
            "k8s.pod.name" => return of_container(finding, |container| &container.pod_name),
            "k8s.ns.name" => return of_container(finding, |container| &container.namespace),
            "container.name" => return of_container(finding, |container| &container.name),
            "container.image" => return of_container(finding, |container| &container.image),
            _ => {}
        }
        let process = finding.process.as_ref()?;
        let parent = process.ancestors.first();
        match name {
            "proc.name" => Some(Value::text(&process.name)),
            "proc.exepath" => Some(Value::text(&process.executable)),
            "proc.cwd" => Some(Value::text(&process.working_directory)),
            "proc.pid" => Some(Value::Int(process.pid.into())),
            "thread.tid" => Some(Value::Int(process.tid.into())),
            "proc.vpid" => Some(Value::Int(process.vpid.into())),
            "user.uid" => Some(Value::Uint(process.uid.into())),
            "proc.cmdline" => Some(Value::Text(cmdline(&process.name, &process.arguments).into_bytes().into())),
            "proc.pname" => parent.map(|parent| Value::text(&parent.name)),
            "proc.pexepath" => parent.map(|parent| Value::text(&parent.executable)),
            "proc.ppid" => parent.map(|parent| Value::Int(parent.pid.into())),
            "proc.pcmdline" => {
                parent.map(|parent| Value::Text(cmdline(&parent.name, &parent.arguments).into_bytes().into()))
            }
            _ => None,
        }
    }

    fn of_ancestor(&self, name: &str, argument: &Argument) -> Option<Value<'_>> {
        let Argument::Index(index) = argument else { return None };
        let behind = usize::try_from(*index).ok()?.checked_sub(1);
        let process = self.0.process.as_ref()?;
        let Some(behind) = behind else {
            return self.own(match name {
                "proc.aname" => "proc.name",
                "proc.aexepath" => "proc.exepath",
                "proc.apid" => "proc.pid",
                _ => return None,
            });
        };
        let ancestor = process.ancestors.get(behind)?;
        match name {
            "proc.aname" => Some(Value::text(&ancestor.name)),
            "proc.aexepath" => Some(Value::text(&ancestor.executable)),
            "proc.apid" => Some(Value::Int(ancestor.pid.into())),
            _ => None,
        }
    }
}

/// Falco's `proc.cmdline`: the name, then the arguments.
fn cmdline(name: &str, arguments: &[String]) -> String {
    let mut line = name.to_owned();
    for argument in arguments.iter().skip(1) {
        line.push(' ');
        line.push_str(argument);
    }
    line
}

/// An output's value as one of an event.
fn typed(value: &v1::Value, ty: Type) -> Option<Value<'_>> {
    Some(match value.value.as_ref()? {
        value::Value::Text(text) => match text.parse::<IpAddr>() {
            Ok(address) if ty == Type::Ip => Value::Ip(Address(address)),
            _ => Value::text(text),
        },
        value::Value::Int(number) => Value::Int(*number),
        value::Value::Uint(number) => Value::Uint(*number),
        value::Value::Bool(truth) => Value::Bool(*truth),
        value::Value::Double(number) => Value::Float(*number),
        value::Value::List(list) => Value::List(list.items.iter().map(Value::text).collect()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::sample;

    fn passes(text: &str, finding: &Finding) -> bool {
        let filter = Filter { r#where: text.to_owned(), ..Filter::default() };
        Choice::new(filter, None).unwrap().passes(finding)
    }

    #[test]
    fn a_condition_is_asked_of_what_the_finding_carries() {
        let finding = sample::drift(1);
        for (text, expected) in [
            ("proc.name = x", true),
            ("proc.name != x", false),
            ("proc.pname = sh and evt.type = execve", true),
            ("proc.aname = sh", true),
            ("proc.aname[1] = sh", true),
            ("proc.pid > 4000", true),
            ("container.id != host", true),
            ("container.id = 3f2a9c0d1e4b", true),
            ("fd.num = -1", true),
            ("proc.is_exe_upper_layer = true", true),
            ("fd.name = /etc/passwd", false),
            ("not fd.name = /etc/passwd", true),
            ("k8s.pod.uid startswith 7b0f2c9e", true),
        ] {
            assert_eq!(passes(text, &finding), expected, "{text}");
        }
        assert!(passes("container.id = host", &sample::seccomp(1)));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_the_field() {
        let refused = |filter: Filter, paths: &[&str]| {
            let mask = FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() };
            Choice::new(filter, Some(mask)).unwrap_err().to_string()
        };
        let with = |text: &str| Filter { r#where: text.to_owned(), ..Filter::default() };
        assert!(refused(with("proc.nam = a"), &[]).starts_with("open.filter.where: where:1:1"));
        assert!(refused(with(&"a".repeat(5000)), &[]).contains("longer than 4096 bytes"));
        assert_eq!(
            refused(Filter::default(), &["rule", "process.pid"]),
            "open.fields: \"process.pid\" is not a field of Finding"
        );
    }

    #[test]
    fn a_mask_leaves_what_it_names_and_the_identity() {
        let mask = FieldMask { paths: vec!["rule".to_owned(), "drift".to_owned()] };
        let finding = sample::drift(3);
        let expected = Finding {
            uid: finding.uid.clone(),
            sequence: 3,
            rule: finding.rule.clone(),
            detail: finding.detail.clone(),
            ..Finding::default()
        };
        assert_eq!(Choice::new(Filter::default(), Some(mask)).unwrap().masked(&finding), expected);
        assert_eq!(Choice::default().masked(&finding), finding);
    }

    #[test]
    fn every_field_of_the_contract_can_be_named() {
        use prost::Message as _;
        let files = prost_types::FileDescriptorSet::decode(v1::FILE_DESCRIPTOR_SET).unwrap().file;
        let finding =
            files.iter().flat_map(|file| &file.message_type).find(|message| message.name() == "Finding").unwrap();
        let names: Vec<&str> = finding.field.iter().map(prost_types::FieldDescriptorProto::name).collect();
        assert_eq!(names, FIELDS);
    }

    #[test]
    fn namespaces_and_times_restrict() {
        // Of a capture of another tool, which has it in output fields alone.
        let mut finding = Finding { container: None, ..sample::drift(1) };
        finding.output_fields.insert("k8s.ns.name".to_owned(), v1::Value::from("shop"));
        let of = |names: &[&str]| {
            let namespaces = names.iter().map(|name| (*name).to_owned()).collect();
            Choice::new(Filter { namespaces, ..Filter::default() }, None).unwrap()
        };
        assert!(of(&["web", "shop"]).passes(&finding));
        assert!(!of(&["web"]).passes(&finding));
        assert!(!of(&["web"]).passes(&sample::seccomp(1)), "where it is not known");
        assert!(of(&["web", "prod"]).passes(&sample::drift(1)) && !of(&["shop"]).passes(&sample::drift(1)));
        let observed = finding.observed_time_unix_nano;
        assert!(Choice::default().between(observed, Some(observed + 1)).passes(&finding));
        assert!(!Choice::default().between(observed + 1, None).passes(&finding));
        assert!(!Choice::default().between(0, Some(observed)).passes(&finding));
    }
}
