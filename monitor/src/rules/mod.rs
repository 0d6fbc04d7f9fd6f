//! The rule engine: Falco's language, from files to matches. Usable as a library; it does no IO and reads no clock.
//!
//! ```text
//! bytes ─ yaml ─ file ─ parse ─ compile ─ eval      a RuleSet, evaluated per event
//!          │      │       │        │
//!          └──────┴───────┴────────┴─ diagnostic    every problem, where the user wrote it
//! output ─────── format                             templates
//! ```
//! Everything is resolved when rules are loaded; an event touches only the rules that name its type.

mod compile;
pub mod diagnostic;
mod eval;
mod file;
mod format;
pub mod glob;
mod list;
mod parse;
#[cfg(test)]
mod tests;
mod yaml;

use std::{ops::Range, sync::Arc};

use hashbrown::HashMap;

use crate::{
    event::{EventType, field::Fields},
    proto::v1::Priority,
};
use compile::{MacroDef, Names, Place};
use diagnostic::{Code, Diagnostic, Text};
pub use eval::EventTypes;
use eval::Node;
use file::{Item, RuleItem};
pub use format::{Rendered, Template};
pub use list::{fields_json, fields_text, list_json, list_text};
use yaml::Scalar;

/// Largest rule file.
pub const MAX_FILE_BYTES: usize = 16 << 20;
/// Problems that are reported.
const MAX_DIAGNOSTICS: usize = 100;

/// The source of the events that are looked at here.
const SOURCE: &str = "syscall";

/// The rules that ship with the agent.
const BUILTIN: &str = include_str!("../../rules/monitor_rules.yaml");

/// A rule file.
#[derive(Clone, Debug)]
pub struct Source {
    /// What it is called in messages.
    pub name: String,
    /// Its bytes.
    pub text: Vec<u8>,
}

impl Source {
    /// The rules that ship with the agent.
    pub fn builtin() -> Self {
        Self { name: "monitor_rules.yaml".into(), text: BUILTIN.into() }
    }
}

/// How many rules report an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Matching {
    /// The first that matches, in the order of the files.
    #[default]
    First,
    /// All that match.
    All,
}

/// Which rules are used.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// How many rules report an event.
    pub matching: Matching,
    /// Rules to enable, by globs on their names.
    pub enable: Vec<String>,
    /// Rules to disable, by globs on their names; stronger than `enable`.
    pub disable: Vec<String>,
    /// Only rules with one of these tags; all if empty.
    pub tags: Vec<String>,
}

/// What came of loading.
pub struct Loaded {
    /// The rules, unless there was an error.
    pub rules: Option<RuleSet>,
    /// Errors and warnings, in the order of the files.
    pub diagnostics: Vec<Diagnostic>,
}

/// A compiled rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its name.
    pub name: String,
    /// What it is about.
    pub desc: String,
    /// How urgent a match is.
    pub priority: Priority,
    /// Its tags, sorted.
    pub tags: Vec<String>,
    /// Its event source.
    pub source: String,
    /// Its condition as written.
    pub condition: String,
    /// Its output.
    pub output: Template,
    /// Event types that it can match.
    pub event_types: EventTypes,
    node: Node,
}

impl Rule {
    /// Its output with an event's values.
    pub fn render<F: Fields + ?Sized>(&self, event: &F) -> Rendered {
        self.output.render(event)
    }
}

/// Compiled rules.
#[derive(Clone, Debug)]
pub struct RuleSet {
    rules: Vec<Rule>,
    /// For each event type the rules that can match it, in order.
    by_type: Vec<Vec<usize>>,
    matching: Matching,
}

impl RuleSet {
    /// Loads rule files, in order.
    pub fn load(sources: &[Source], options: &Options) -> Loaded {
        let mut diagnostics = Vec::new();
        let items: Vec<_> = sources.iter().flat_map(|source| read(source, &mut diagnostics)).collect();
        let rules = build(items, &mut diagnostics);
        diagnostics.truncate(MAX_DIAGNOSTICS);
        let sound = !diagnostics.iter().any(Diagnostic::is_error);
        Loaded { rules: sound.then(|| Self::new(rules, options)), diagnostics }
    }

    fn new(rules: Vec<(Rule, bool)>, options: &Options) -> Self {
        let any = |patterns: &[String], name: &str| {
            patterns.iter().any(|pattern| glob::matches(pattern.as_bytes(), name.as_bytes(), false))
        };
        let wanted = |rule: &Rule, enabled: bool| {
            (enabled || any(&options.enable, &rule.name))
                && !any(&options.disable, &rule.name)
                && (options.tags.is_empty() || rule.tags.iter().any(|tag| options.tags.contains(tag)))
        };
        let rules: Vec<_> =
            rules.into_iter().filter(|(rule, enabled)| wanted(rule, *enabled)).map(|(rule, _)| rule).collect();
        let by_type = EventType::all()
            .map(|event_type| {
                let can_match = |(_, rule): &(usize, &Rule)| rule.event_types.contains(event_type);
                rules.iter().enumerate().filter(can_match).map(|(index, _)| index).collect()
            })
            .collect();
        Self { rules, by_type, matching: options.matching }
    }

    /// The rules in use, in order.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter()
    }

    /// Calls `on_match` for the rules that an event satisfies.
    pub fn evaluate<F: Fields + ?Sized>(&self, event_type: EventType, event: &F, mut on_match: impl FnMut(&Rule)) {
        let candidates = self.by_type.get(event_type.index()).into_iter().flatten();
        for rule in candidates.filter_map(|index| self.rules.get(*index)) {
            if rule.node.matches(event_type, event) {
                on_match(rule);
                if self.matching == Matching::First {
                    return;
                }
            }
        }
    }
}

/// A condition by itself: `--where`.
#[derive(Clone, Debug)]
pub struct Condition(Node);

impl Condition {
    /// Compiles a condition; `name` is what it is called in messages. The lists and macros of rules are not known here.
    pub fn compile(condition: &str, name: &str) -> Result<Self, Vec<Diagnostic>> {
        let text = Arc::new(Text { name: name.to_owned(), text: condition.to_owned() });
        let condition = Scalar::whole(condition);
        let place = Place { condition: &condition, text: &text };
        let compiled = compile::parse(place).and_then(|expr| compile::compile(&expr, place, &mut Names::default()));
        compiled.map(Self).map_err(|diagnostic| vec![diagnostic])
    }

    /// Whether an event satisfies it.
    pub fn matches<F: Fields + ?Sized>(&self, event_type: EventType, event: &F) -> bool {
        self.0.matches(event_type, event)
    }
}

fn read(source: &Source, diagnostics: &mut Vec<Diagnostic>) -> Vec<Item> {
    let (text, valid) = match str::from_utf8(&source.text) {
        Ok(text) => (text.to_owned(), text.len()),
        Err(error) => (String::from_utf8_lossy(&source.text).into_owned(), error.valid_up_to()),
    };
    let text = Arc::new(Text { name: source.name.clone(), text });
    if source.text.len() > MAX_FILE_BYTES {
        let message = format!("the file is larger than {} MiB", MAX_FILE_BYTES >> 20);
        diagnostics.push(Diagnostic::new(Code::YamlParse, &text, 0..0, message));
        return Vec::new();
    }
    if valid < source.text.len() {
        diagnostics.push(Diagnostic::new(Code::YamlParse, &text, valid..valid + 1, "the file is not UTF-8 here"));
        return Vec::new();
    }
    file::read(&text, diagnostics)
}

/// Resolves names and compiles.
fn build(items: Vec<Item>, diagnostics: &mut Vec<Diagnostic>) -> Vec<(Rule, bool)> {
    let mut resolver = Resolver::default();
    for item in items {
        match item {
            Item::List { name, items, text } => diagnostics.extend(resolver.list(&name, items, &text).err()),
            Item::Macro { name, condition, text } => diagnostics.extend(resolver.macro_(name, condition, text).err()),
            Item::Rule(rule) if rule.source != SOURCE => diagnostics.push(unknown_source(&rule)),
            Item::Rule(rule) => resolver.rule(*rule),
        }
    }
    let Resolver { mut names, rules, definitions, .. } = resolver;
    let mut compiled = Vec::with_capacity(rules.len());
    for rule in rules {
        // Nobody reads more; and looking for what was meant takes time.
        if diagnostics.len() >= MAX_DIAGNOSTICS {
            return compiled;
        }
        compiled.extend(compile_rule(rule, &mut names, diagnostics));
    }
    // What a rule with an error would have used is not known.
    if !diagnostics.iter().any(Diagnostic::is_error) {
        let unused = definitions.into_iter().filter(|definition| !names.used.contains(&definition.name));
        diagnostics.extend(unused.map(Definition::unused));
    }
    compiled
}

/// Rules for other sources are not for this engine; Falco, too, leaves them out.
fn unknown_source(rule: &RuleItem) -> Diagnostic {
    let message = format!("unknown source `{}`: the rule is left out", rule.source);
    Diagnostic::new(Code::UnknownSource, &rule.text, rule.name.span.clone(), message)
}

/// Collects items. A later one of the same name replaces an earlier one, a rule in its place.
#[derive(Default)]
struct Resolver {
    names: Names,
    rules: Vec<RuleItem>,
    rule_at: HashMap<String, usize>,
    definitions: Vec<Definition>,
}

/// A list or macro, for the warning that nothing uses it.
struct Definition {
    name: String,
    code: Code,
    text: Arc<Text>,
    span: Range<usize>,
}

impl Definition {
    fn unused(self) -> Diagnostic {
        let what = if self.code == Code::UnusedList { "list" } else { "macro" };
        Diagnostic::new(self.code, &self.text, self.span, format!("nothing uses the {what} `{}`", self.name))
    }
}

impl Resolver {
    fn define(&mut self, name: &Scalar, code: Code, text: Arc<Text>) {
        self.definitions.push(Definition { name: name.text.clone(), code, text, span: name.span.clone() });
    }

    /// Items that name an earlier list stand for its items.
    fn list(&mut self, name: &Scalar, items: Vec<Scalar>, text: &Arc<Text>) -> Result<(), Diagnostic> {
        self.define(name, Code::UnusedList, Arc::clone(text));
        let mut values = Vec::with_capacity(items.len());
        for item in items {
            match self.names.lists.get(&item.text) {
                Some(inner) if values.len() + inner.len() > compile::MAX_VALUES => break,
                Some(inner) => {
                    values.extend(inner.iter().cloned());
                    self.names.used.insert(item.text);
                }
                None => values.push(item.text),
            }
        }
        if !self.names.take_room(values.len()) {
            return Err(Diagnostic::new(Code::Validate, text, name.span.clone(), compile::TOO_MANY_VALUES));
        }
        self.names.lists.insert(name.text.clone(), values);
        Ok(())
    }

    fn macro_(&mut self, name: Scalar, condition: Scalar, text: Arc<Text>) -> Result<(), Diagnostic> {
        self.define(&name, Code::UnusedMacro, Arc::clone(&text));
        match compile::parse(Place { condition: &condition, text: &text }) {
            Ok(expr) => {
                self.names.broken.remove(&name.text);
                let definition = MacroDef { expr: Arc::new(expr), condition: Arc::new(condition), text };
                self.names.macros.insert(name.text, definition);
                Ok(())
            }
            Err(reason) => {
                self.names.broken.insert(name.text, reason.clone());
                Err(reason)
            }
        }
    }

    fn rule(&mut self, rule: RuleItem) {
        match self.rule_at.get(&rule.name.text).and_then(|at| self.rules.get_mut(*at)) {
            Some(earlier) => *earlier = rule,
            None => {
                self.rule_at.insert(rule.name.text.clone(), self.rules.len());
                self.rules.push(rule);
            }
        }
    }
}

fn compile_rule(item: RuleItem, names: &mut Names, diagnostics: &mut Vec<Diagnostic>) -> Option<(Rule, bool)> {
    let place = Place { condition: &item.condition, text: &item.text };
    let node = compile::parse(place).and_then(|expr| compile::compile(&expr, place, names));
    let output = Template::compile(item.output.text.trim_end()).map_err(|error| {
        let span = item.output.place(error.span);
        Diagnostic::new(Code::CompileOutput, &item.text, span, error.message).help(error.help)
    });
    match (node, output) {
        (Ok(node), Ok(output)) => {
            let rule = Rule {
                name: item.name.text,
                desc: item.desc.trim().to_owned(),
                priority: item.priority,
                tags: item.tags,
                source: item.source,
                condition: item.condition.text.trim().to_owned(),
                output,
                event_types: node.event_types(),
                node,
            };
            Some((rule, item.enabled))
        }
        (node, output) => {
            // What is wrong with a macro is told once, however many rules use it.
            let problems = node.err().into_iter().chain(output.err());
            for problem in problems {
                if !diagnostics.contains(&problem) {
                    diagnostics.push(problem);
                }
            }
            None
        }
    }
}
