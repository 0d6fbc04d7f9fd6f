//! Rules and fields, for people and for programs.

use std::fmt::Write as _;

use serde::Serialize;

use super::{Rule, RuleSet};
use crate::event::{
    EventType,
    field::{Brackets, Field},
};

/// The rules in use: name, priority, what they are about.
pub fn list_text(rules: &RuleSet) -> String {
    let mut text = String::new();
    for rule in rules.rules() {
        let _ = writeln!(text, "{} ({})", rule.name, rule.priority.word());
        for line in rule.desc.lines() {
            let _ = writeln!(text, "    {}", line.trim());
        }
        let _ = writeln!(text, "    events: {}", event_types(rule).join(", "));
        let _ = writeln!(text, "    tags:   {}\n", rule.tags.join(", "));
    }
    text
}

fn event_types(rule: &Rule) -> Vec<&'static str> {
    rule.event_types.iter().map(EventType::name).collect()
}

#[derive(Serialize)]
struct RuleView<'a> {
    name: &'a str,
    description: &'a str,
    priority: &'static str,
    source: &'a str,
    tags: &'a [String],
    condition: &'a str,
    output: String,
    event_types: Vec<&'static str>,
}

impl<'a> RuleView<'a> {
    fn of(rule: &'a Rule) -> Self {
        Self {
            name: &rule.name,
            description: &rule.desc,
            priority: rule.priority.word(),
            source: &rule.source,
            tags: &rule.tags,
            condition: &rule.condition,
            output: rule.output.to_string(),
            event_types: event_types(rule),
        }
    }
}

/// The rules in use, as an array of objects.
pub fn list_json(rules: &RuleSet) -> serde_json::Result<String> {
    let rules: Vec<_> = rules.rules().map(RuleView::of).collect();
    serde_json::to_string_pretty(&rules).map(|text| text + "\n")
}

/// Name with what may stand in brackets behind it.
fn signature(field: Field) -> String {
    let info = field.info();
    let behind = match info.brackets {
        Brackets::None => "",
        Brackets::Index => "[N]",
        Brackets::Key => "[KEY]",
        Brackets::Needed => "[N|KEY]",
        Brackets::Name => ".NAME",
    };
    format!("{}{behind}", info.name)
}

/// What a user should know before using a field, if there is something.
fn note(field: Field) -> Option<String> {
    let info = field.info();
    let mut notes: Vec<String> = Vec::new();
    notes.extend(info.refused().map(|reason| format!("not supported: {reason}")));
    notes.extend(info.is_awaited().then(|| "no value yet: no event tells it".to_owned()));
    notes.extend(info.is_of_api().then(|| "live where the agent asks the Kubernetes API".to_owned()));
    notes.extend(info.is_deprecated().then(|| "deprecated".to_owned()));
    notes.extend(info.is_filter_only().then(|| "in conditions only".to_owned()));
    notes.extend(info.is_print_only().then(|| "in outputs only".to_owned()));
    (!notes.is_empty()).then(|| notes.join("; "))
}

/// Type with the mark of a list.
fn type_name(field: Field) -> String {
    let info = field.info();
    if info.is_list() { format!("LIST({})", info.ty.name()) } else { info.ty.name().to_owned() }
}

/// Every field: name, type, meaning, example.
pub fn fields_text() -> String {
    let mut text = String::new();
    for field in Field::all() {
        let info = field.info();
        let _ = writeln!(text, "{:<32} {:<13} {}", signature(field), type_name(field), info.doc);
        let _ = writeln!(text, "{:<32} {:<13} e.g. {}", "", "", info.example);
        if let Some(note) = note(field) {
            let _ = writeln!(text, "{:<32} {:<13} ({note})", "", "");
        }
    }
    text
}

#[derive(Serialize)]
struct FieldView {
    name: String,
    #[serde(rename = "type")]
    ty: String,
    description: &'static str,
    example: &'static str,
    supported: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

/// Every field, as an array of objects.
pub fn fields_json() -> serde_json::Result<String> {
    let view = |field: Field| {
        let info = field.info();
        FieldView {
            name: signature(field),
            ty: type_name(field),
            description: info.doc,
            example: info.example,
            supported: info.refused().is_none(),
            note: note(field),
        }
    };
    let fields: Vec<_> = Field::all().map(view).collect();
    serde_json::to_string_pretty(&fields).map(|text| text + "\n")
}
