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
    let brackets = match info.brackets {
        Brackets::None => "",
        Brackets::Index => "[N]",
    };
    format!("{}{brackets}", info.name)
}

/// Every field: name, type, meaning, example.
pub fn fields_text() -> String {
    let mut text = String::new();
    for field in Field::all() {
        let info = field.info();
        let _ = writeln!(text, "{:<26} {:<9} {}", signature(field), info.ty.name(), info.doc);
        let _ = writeln!(text, "{:<26} {:<9} e.g. {}", "", "", info.example);
    }
    text
}

#[derive(Serialize)]
struct FieldView {
    name: String,
    #[serde(rename = "type")]
    ty: &'static str,
    description: &'static str,
    example: &'static str,
}

/// Every field, as an array of objects.
pub fn fields_json() -> serde_json::Result<String> {
    let view = |field: Field| {
        let info = field.info();
        FieldView { name: signature(field), ty: info.ty.name(), description: info.doc, example: info.example }
    };
    let fields: Vec<_> = Field::all().map(view).collect();
    serde_json::to_string_pretty(&fields).map(|text| text + "\n")
}
