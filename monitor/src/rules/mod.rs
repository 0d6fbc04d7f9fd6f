//! The rule engine: Falco's language, from files to matches. Usable as a library; it does no IO and reads no clock.
//!
//! ```text
//! bytes ─ yaml ─ item ─ collect ─ text ─ parse ─ resolve ─ compile ─ condition ─ engine   a RuleSet, evaluated per event
//!                  │       │                                  │
//!                  └ exception (becomes text) ── output ── format                         templates
//! ```
//! Every problem is a [`diagnostic`] at the place where the user wrote it. Everything is resolved when rules are loaded; an
//! event touches only the rules that can match it. [`reference`] says plainly what a condition means.
//!
//! ```
//! use std::borrow::Cow;
//! use monitor::{
//!     event::{EventType, field::{Argument, Field, Fields}, value::Value},
//!     rules::Condition,
//! };
//!
//! struct Bash;
//!
//! impl Fields for Bash {
//!     fn value(&self, field: Field, _: &Argument) -> Option<Value<'_>> {
//!         (field.info().name == "proc.name").then(|| Value::text("bash"))
//!     }
//! }
//!
//! let mut condition = Condition::compile("evt.type = execve and proc.name in (bash, sh)", "example").unwrap();
//! assert!(condition.matches(EventType::EXECVE, &Bash));
//! ```

mod collect;
mod compile;
mod condition;
mod constant;
mod cost;
mod demand;
pub mod diagnostic;
mod engine;
mod exception;
mod expectation;
mod explain;
mod format;
mod gaps;
pub mod glob;
mod item;
mod list;
mod operand;
mod parse;
mod push_down;
pub mod reference;
mod resolve;
#[cfg(test)]
mod tests;
mod text;
pub(crate) mod yaml;

use std::{ops::ControlFlow, sync::Arc};

use crate::{
    event::{EventType, field::Fields},
    proto::v1::Priority,
};
use collect::{Collection, SOURCE};
use compile::Compiler;
pub use condition::{EventTypes, Expr};
pub use cost::{Cost, Costs};
pub use demand::Demand;
use diagnostic::{Code, Diagnostic, Text};
use engine::Engine;
pub use expectation::{counts_text, expected_counts};
pub use explain::explain;
use format::CONTAINER_INFO;
pub use format::{Rendered, Template};
pub use gaps::Gaps;
pub use list::{fields_json, fields_text, list_json, list_text};
pub use push_down::Bored;
use push_down::Subjects;
pub use resolve::Supply;
use text::{Composed, Origin};
use yaml::Scalar;

/// Largest rule file.
pub const MAX_FILE_BYTES: usize = 16 << 20;
/// Problems that are reported.
const MAX_DIAGNOSTICS: usize = 100;

/// The rules that ship with the agent.
const BUILTIN: &str =
    concat!(include_str!("../../rules/monitor_rules.yaml"), "\n", include_str!("../../rules/pod_security.yaml"));

/// What Falco adds to every output unless it is told not to.
pub const SUGGESTED_OUTPUT: &str = "container_id=%container.id container_name=%container.name \
                                    container_image_repository=%container.image.repository \
                                    container_image_tag=%container.image.tag k8s_pod_name=%k8s.pod.name \
                                    k8s_ns_name=%k8s.ns.name";

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
    /// What is added to outputs.
    pub append_output: Vec<AppendOutput>,
    /// Whose fields they can name.
    pub supply: Supply,
    /// Whether it is to be found out what the kernel need not send for them.
    pub push_down: bool,
}

/// Text that is added to the outputs of some rules, behind a blank.
#[derive(Clone, Debug, Default)]
pub struct AppendOutput {
    /// The text, with `%field`s.
    pub text: String,
    /// Only for the rule of this name.
    pub rule: Option<String>,
    /// Only for rules with all of these tags.
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
    /// Its condition as written, with exceptions.
    pub condition: String,
    /// The condition with everything resolved.
    pub expr: Expr,
    /// Its output.
    pub output: Template,
    /// Event types that it can match.
    pub event_types: EventTypes,
}

impl Rule {
    /// Its output with an event's values.
    pub fn render<F: Fields + ?Sized>(&self, event: &F) -> Rendered {
        self.output.render(event)
    }
}

/// Compiled rules.
#[derive(Debug)]
pub struct RuleSet {
    rules: Vec<Rule>,
    engine: Engine,
    matching: Matching,
    /// What the kernel need not send for them, where that is to be found out.
    subjects: Option<Subjects>,
}

impl RuleSet {
    /// Loads rule files, in order.
    pub fn load(sources: &[Source], options: &Options) -> Loaded {
        let (rules, mut diagnostics) = compile_sources(sources, options);
        let sound = !diagnostics.iter().any(Diagnostic::is_error);
        let rules = if sound { Self::new(rules, options, sources, &mut diagnostics) } else { None };
        Loaded { rules, diagnostics }
    }

    fn new(
        rules: Vec<(Rule, bool)>,
        options: &Options,
        sources: &[Source],
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Option<Self> {
        let rules: Vec<Rule> =
            rules.into_iter().filter(|(rule, enabled)| options.want(rule, *enabled)).map(|(rule, _)| rule).collect();
        let conditions: Vec<&Expr> = rules.iter().map(|rule| &rule.expr).collect();
        match Engine::new(&conditions) {
            Ok(engine) => {
                let subjects = options.push_down.then(|| Subjects::of(&rules)).flatten();
                Some(Self { rules, engine, matching: options.matching, subjects })
            }
            Err(engine::TooLarge) => {
                let name = sources.first().map_or_else(String::new, |source| source.name.clone());
                let text = Arc::new(Text { name, text: String::new() });
                let message = "the rules are too many to be compiled together; those that name no evt.type count most";
                diagnostics.push(Diagnostic::new(Code::Validate, &text, 0..0, message));
                None
            }
        }
    }

    /// Whether it is to be found out what the kernel need not send for them.
    const fn pushes_down(&self) -> bool {
        self.subjects.is_some()
    }

    /// Whether no rule can match an open that ends as this event does, whatever else is true.
    pub fn bored<F: Fields + ?Sized>(&mut self, event_type: EventType, event: &F, failed: bool) -> Option<Bored> {
        self.subjects.as_mut().and_then(|subjects| subjects.bored(event_type, event, failed))
    }

    /// The rules in use, in order.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter()
    }

    /// Whether there is a rule that an event of this type can satisfy.
    pub fn concerns(&self, event_type: EventType) -> bool {
        self.engine.concerns(event_type)
    }

    /// Calls `on_match` for the rules that an event satisfies: the first, or all.
    pub fn evaluate<F: Fields + ?Sized>(&mut self, event_type: EventType, event: &F, mut on_match: impl FnMut(&Rule)) {
        let Self { rules, engine, matching, .. } = self;
        engine.evaluate(event_type, event, &mut |number| {
            rules.get(number).into_iter().for_each(&mut on_match);
            matching.after_match()
        });
    }
}

impl Matching {
    /// Whether more rules are wanted once one has matched.
    const fn after_match(self) -> ControlFlow<()> {
        match self {
            Matching::First => ControlFlow::Break(()),
            Matching::All => ControlFlow::Continue(()),
        }
    }
}

impl Options {
    fn want(&self, rule: &Rule, enabled: bool) -> bool {
        let any = |patterns: &[String], name: &str| {
            patterns.iter().any(|pattern| glob::matches(pattern.as_bytes(), name.as_bytes(), false))
        };
        (enabled || any(&self.enable, &rule.name))
            && !any(&self.disable, &rule.name)
            && (self.tags.is_empty() || rule.tags.iter().any(|tag| self.tags.contains(tag)))
    }
}

/// A condition by itself: `--where`.
#[derive(Debug)]
pub struct Condition(Engine);

impl Condition {
    /// Compiles a condition; `name` is what it is called in messages. The lists and macros of rules are not known here.
    pub fn compile(condition: &str, name: &str) -> Result<Self, Vec<Diagnostic>> {
        let expr = Self::resolve(condition, name, Supply::Agent)?;
        Self::new(&expr).ok_or_else(|| {
            let text = Arc::new(Text { name: name.to_owned(), text: condition.to_owned() });
            vec![Diagnostic::new(Code::CompileCondition, &text, 0..1, "the condition is too large")]
        })
    }

    /// Of a resolved condition, unless it is too large.
    pub fn new(expr: &Expr) -> Option<Self> {
        Engine::new(&[expr]).ok().map(Self)
    }

    /// A condition with everything resolved.
    pub fn resolve(condition: &str, name: &str, supply: Supply) -> Result<Expr, Vec<Diagnostic>> {
        let text = Arc::new(Text { name: name.to_owned(), text: condition.to_owned() });
        let collection = Collection::default();
        let outcome = Compiler::new(&collection, supply).compile(&Composed::new(Scalar::whole(condition), &text));
        outcome.expr.ok_or_else(|| outcome.errors.into_iter().map(|error| error.diagnostic).collect())
    }

    /// Whether an event satisfies it.
    pub fn matches<F: Fields + ?Sized>(&mut self, event_type: EventType, event: &F) -> bool {
        let mut matches = false;
        self.0.evaluate(event_type, event, &mut |_| {
            matches = true;
            ControlFlow::Break(())
        });
        matches
    }
}

/// Every rule of some files, with whether it is enabled; and what is wrong with them, in their order.
fn compile_sources(sources: &[Source], options: &Options) -> (Vec<(Rule, bool)>, Vec<Diagnostic>) {
    let mut diagnostics = Vec::new();
    let mut collection = Collection::default();
    let mut texts = Vec::with_capacity(sources.len());
    for source in sources {
        let (text, items) = read(source, &mut diagnostics);
        for item in items {
            collection.add(item, &text, &mut diagnostics);
        }
        texts.push(text);
    }
    let rules = compile_rules(&collection, options, &mut diagnostics);
    if diagnostics.len() > MAX_DIAGNOSTICS {
        // What is wrong matters more than what is odd.
        diagnostics.sort_by_key(|diagnostic| !diagnostic.is_error());
        diagnostics.truncate(MAX_DIAGNOSTICS);
    }
    let file = |diagnostic: &Diagnostic| texts.iter().position(|text| Arc::ptr_eq(text, &diagnostic.text));
    diagnostics.sort_by_key(|diagnostic| (file(diagnostic), diagnostic.span.start));
    (rules, diagnostics)
}

fn read(source: &Source, diagnostics: &mut Vec<Diagnostic>) -> (Arc<Text>, Vec<item::Item>) {
    let (text, valid) = match str::from_utf8(&source.text) {
        Ok(text) => (text.to_owned(), text.len()),
        Err(error) => (String::from_utf8_lossy(&source.text).into_owned(), error.valid_up_to()),
    };
    let text = Arc::new(Text { name: source.name.clone(), text });
    if source.text.len() > MAX_FILE_BYTES {
        let message = format!("the file is larger than {} MiB", MAX_FILE_BYTES >> 20);
        diagnostics.push(Diagnostic::new(Code::YamlParse, &text, 0..0, message));
        return (text, Vec::new());
    }
    if valid < source.text.len() {
        diagnostics.push(Diagnostic::new(Code::YamlParse, &text, valid..valid + 1, "the file is not UTF-8 here"));
        return (text, Vec::new());
    }
    let items = item::read(&text, diagnostics);
    (text, items)
}

fn compile_rules(collection: &Collection, options: &Options, diagnostics: &mut Vec<Diagnostic>) -> Vec<(Rule, bool)> {
    let mut compiler = Compiler::new(collection, options.supply);
    diagnostics.extend(compiler.check_macros());
    let mut rules = Vec::new();
    for rule in collection.rules.iter().filter(|rule| rule.source == SOURCE) {
        // Nobody reads more; and looking for what was meant takes time.
        if diagnostics.iter().filter(|diagnostic| diagnostic.is_error()).count() >= MAX_DIAGNOSTICS {
            return rules;
        }
        rules.extend(compile_rule(rule, options, &mut compiler, diagnostics));
    }
    // What a rule with an error would have used is not known.
    if !diagnostics.iter().any(Diagnostic::is_error) {
        let macros = collection.macros.iter().filter(|one| !compiler.used_macros.contains(&*one.name.text));
        diagnostics.extend(macros.map(|one| unused(Code::UnusedMacro, "macro", &one.name, &one.text)));
        let lists = collection.lists.iter().filter(|one| !compiler.used_lists.contains(&*one.name.text));
        diagnostics.extend(lists.map(|one| unused(Code::UnusedList, "list", &one.name, &one.text)));
    }
    rules
}

fn unused(code: Code, what: &str, name: &Scalar, text: &Arc<Text>) -> Diagnostic {
    Diagnostic::new(code, text, name.span.clone(), format!("nothing uses the {what} `{}`", name.text))
}

fn compile_rule(
    rule: &collect::Rule,
    options: &Options,
    compiler: &mut Compiler<'_>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<(Rule, bool)> {
    let condition = with_exceptions(rule).map_err(|problem| diagnostics.push(problem)).ok()?;
    let mut outcome = compiler.compile(&condition);
    let output = compile_output(rule, options, &mut outcome);
    if rule.skip_if_unknown && outcome.errors.iter().any(|error| error.unknown) {
        let skipped = outcome.errors.into_iter().filter(|error| error.unknown);
        diagnostics.extend(skipped.map(|error| Diagnostic { code: Code::UnknownFilter, ..error.diagnostic }));
        diagnostics.extend(outcome.warnings);
        return None;
    }
    // What is wrong or odd about a macro is told once, however many rules use it.
    for problem in outcome.errors.into_iter().map(|error| error.diagnostic).chain(outcome.warnings) {
        if !diagnostics.contains(&problem) {
            diagnostics.push(problem);
        }
    }
    let (expr, output) = (outcome.expr?, output?);
    let event_types = expr.event_types();
    if rule.warn_event_types && event_types.iter().map(EventType::codes).sum::<usize>() > MANY_EVENT_CODES {
        let message =
            "the rule looks at nearly every event, which costs: name its evt.type, or set `warn_evttypes: false`";
        diagnostics.push(Diagnostic::new(Code::NoEventType, &rule.text, rule.name.span.clone(), message));
    }
    let rule_set_entry = Rule {
        name: rule.name.text.clone(),
        desc: rule.desc.trim().to_owned(),
        priority: rule.priority,
        tags: rule.tags.iter().cloned().collect(),
        source: rule.source.clone(),
        condition: condition.as_str().trim().to_owned(),
        expr,
        output,
        event_types,
    };
    Some((rule_set_entry, rule.enabled))
}

/// Codes of Falco's event table from which on a rule looks at too many.
const MANY_EVENT_CODES: usize = 100;

/// The condition, and what its exceptions take out of it.
fn with_exceptions(rule: &collect::Rule) -> Result<Composed, Diagnostic> {
    if rule.exceptions.is_empty() {
        return Ok(rule.condition.clone());
    }
    let here = || Origin::of(&rule.name, &rule.text);
    let mut condition = Composed::default();
    condition.push("(", here());
    condition.extend(&rule.condition);
    condition.push(")", here());
    rule.exceptions.iter().try_for_each(|exception| exception.push_to(&mut condition))?;
    Ok(condition)
}

fn compile_output(rule: &collect::Rule, options: &Options, outcome: &mut compile::Outcome) -> Option<Template> {
    let mut output = rule.output.trimmed();
    for added in &options.append_output {
        let is_meant = added.rule.as_ref().is_none_or(|name| *name == rule.name.text);
        if is_meant && added.tags.iter().all(|tag| rule.tags.contains(tag)) {
            let text = format!(" {}", added.text);
            output.push(&text, Origin::of(&rule.name, &rule.text));
        }
    }
    if let Some(at) = output.as_str().find(CONTAINER_INFO) {
        let message = "%container.info is deprecated and means nothing: name the fields that you want to see";
        outcome.warnings.push(output.problem(Code::DeprecatedItem, &(at..at + CONTAINER_INFO.len()), message));
    }
    match Template::compile(output.as_str(), options.supply) {
        Ok(template) => {
            for field in template.fields().filter(|field| field.info().is_deprecated()) {
                let name = field.info().name;
                let at = output.as_str().find(name).unwrap_or(0);
                let message = format!("usage of deprecated field '{name}' in the rule output");
                outcome.warnings.push(output.problem(Code::DeprecatedItem, &(at..at + name.len()), message));
            }
            Some(template)
        }
        Err(error) => {
            let diagnostic = output.problem(Code::CompileOutput, &error.span, error.message).help(error.help);
            outcome.errors.push(compile::Error { diagnostic, unknown: error.unknown });
            None
        }
    }
}
