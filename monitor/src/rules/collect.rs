//! Items of all files in order, put together: later ones replace, append to and switch earlier ones.

use std::{collections::BTreeSet, sync::Arc};

use hashbrown::HashMap;

use super::{
    diagnostic::{Code, Diagnostic, Text, nearest},
    exception::Exception,
    item::{Action, Item, RuleKeys},
    text::{Composed, Origin},
    yaml::Scalar,
};
use crate::proto::v1::Priority;

/// The source of the events that are looked at here.
pub(super) const SOURCE: &str = "syscall";

/// Definitions of one kind in order of their first one, found by name.
#[derive(Debug)]
pub(super) struct Definitions<T> {
    all: Vec<T>,
    by_name: HashMap<String, usize>,
}

impl<T> Default for Definitions<T> {
    fn default() -> Self {
        Self { all: Vec::new(), by_name: HashMap::new() }
    }
}

impl<T> Definitions<T> {
    pub(super) fn get(&self, name: &str) -> Option<&T> {
        self.all.get(*self.by_name.get(name)?)
    }

    fn get_mut(&mut self, name: &str) -> Option<&mut T> {
        self.all.get_mut(*self.by_name.get(name)?)
    }

    /// Position in the order.
    pub(super) fn position(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.all.iter()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    fn push(&mut self, name: &str, definition: T) {
        self.by_name.insert(name.to_owned(), self.all.len());
        self.all.push(definition);
    }
}

/// When something was defined first, and when something was last said of it: what comes later than the latter it cannot name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Age {
    first: usize,
    last: usize,
}

impl Age {
    /// Whether this can name that.
    pub(super) fn sees(self, other: Age) -> bool {
        other.first < self.last
    }
}

/// A list.
#[derive(Debug)]
pub(super) struct List {
    pub(super) name: Scalar,
    pub(super) text: Arc<Text>,
    pub(super) items: Vec<String>,
    pub(super) age: Age,
}

/// A macro.
#[derive(Debug)]
pub(super) struct Macro {
    pub(super) name: Scalar,
    pub(super) text: Arc<Text>,
    pub(super) condition: Composed,
    pub(super) age: Age,
}

/// A rule.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) name: Scalar,
    pub(super) text: Arc<Text>,
    pub(super) condition: Composed,
    pub(super) output: Composed,
    pub(super) desc: String,
    pub(super) priority: Priority,
    pub(super) tags: BTreeSet<String>,
    pub(super) source: String,
    pub(super) enabled: bool,
    pub(super) warn_event_types: bool,
    pub(super) skip_if_unknown: bool,
    pub(super) exceptions: Vec<Exception>,
}

/// Everything that the files define.
#[derive(Debug, Default)]
pub(super) struct Collection {
    pub(super) lists: Definitions<List>,
    pub(super) macros: Definitions<Macro>,
    pub(super) rules: Definitions<Rule>,
    items: usize,
}

impl Collection {
    /// Adds an item of a file.
    pub(super) fn add(&mut self, item: Item, text: &Arc<Text>, diagnostics: &mut Vec<Diagnostic>) {
        self.items += 1;
        let added = match item {
            Item::List { name, items, append } => self.list(&name, items, append, text),
            Item::Macro { name, condition, append } => self.macro_(&name, condition, append, text),
            Item::Rule { name, action, keys } => self.rule(&name, action, *keys, text, diagnostics),
        };
        diagnostics.extend(added.err());
    }

    fn list(&mut self, name: &Scalar, items: Vec<Scalar>, append: bool, text: &Arc<Text>) -> Result<(), Diagnostic> {
        let now = self.items;
        let items = items.into_iter().map(|item| item.text);
        match self.lists.get_mut(&name.text) {
            Some(list) if append => list.items.extend(items),
            None if append => return Err(nothing_to_change("list", name, text, self.lists.names())),
            Some(list) => (list.items, list.text, list.name) = (items.collect(), Arc::clone(text), name.clone()),
            None => {
                let list = List {
                    name: name.clone(),
                    text: Arc::clone(text),
                    items: items.collect(),
                    age: Age { first: now, last: now },
                };
                self.lists.push(&name.text, list);
            }
        }
        if let Some(list) = self.lists.get_mut(&name.text) {
            list.age.last = now;
        }
        Ok(())
    }

    fn macro_(&mut self, name: &Scalar, condition: Scalar, append: bool, text: &Arc<Text>) -> Result<(), Diagnostic> {
        let now = self.items;
        match self.macros.get_mut(&name.text) {
            Some(earlier) if append => append_text(&mut earlier.condition, condition, text),
            None if append => return Err(nothing_to_change("macro", name, text, self.macros.names())),
            Some(earlier) => {
                earlier.condition = Composed::new(condition, text);
                (earlier.text, earlier.name) = (Arc::clone(text), name.clone());
            }
            None => {
                let definition = Macro {
                    name: name.clone(),
                    text: Arc::clone(text),
                    condition: Composed::new(condition, text),
                    age: Age { first: now, last: now },
                };
                self.macros.push(&name.text, definition);
            }
        }
        if let Some(definition) = self.macros.get_mut(&name.text) {
            definition.age.last = now;
        }
        Ok(())
    }

    fn rule(
        &mut self,
        name: &Scalar,
        action: Action,
        keys: RuleKeys,
        text: &Arc<Text>,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Result<(), Diagnostic> {
        if action == Action::Define {
            return self.define(name, keys, text, diagnostics);
        }
        let Some(rule) = self.rules.get_mut(&name.text) else {
            return Err(nothing_to_change("rule", name, text, self.rules.names()));
        };
        check_source(rule, keys.source.as_ref(), text)?;
        match action {
            Action::Append => rule.append(keys, text),
            _ => {
                rule.replace(keys, text);
                Ok(())
            }
        }
    }

    /// A definition of the same name replaces an earlier one, in its place.
    fn define(
        &mut self,
        name: &Scalar,
        keys: RuleKeys,
        text: &Arc<Text>,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Result<(), Diagnostic> {
        let earlier = self.rules.get_mut(&name.text);
        if let Some(earlier) = &earlier {
            check_source(earlier, keys.source.as_ref(), text)?;
        }
        if let Some(source) = keys.source.as_ref().filter(|source| source.text != SOURCE) {
            let message = format!("unknown source `{}`: the rule is left out", source.text);
            diagnostics.push(Diagnostic::new(Code::UnknownSource, text, source.span.clone(), message));
        }
        let composed = |scalar: Option<Scalar>| scalar.map(|scalar| Composed::new(scalar, text)).unwrap_or_default();
        let rule = Rule {
            name: name.clone(),
            text: Arc::clone(text),
            condition: composed(keys.condition),
            output: composed(keys.output),
            desc: keys.desc.unwrap_or_default(),
            priority: keys.priority.unwrap_or(Priority::Debug),
            tags: keys.tags.into_iter().flatten().collect(),
            source: keys.source.map_or_else(|| SOURCE.to_owned(), |source| source.text),
            enabled: keys.enabled.unwrap_or(true),
            warn_event_types: keys.warn_event_types.unwrap_or(true),
            skip_if_unknown: keys.skip_if_unknown.unwrap_or(false),
            exceptions: keys.exceptions.unwrap_or_default(),
        };
        match earlier {
            Some(earlier) => *earlier = rule,
            None => self.rules.push(&name.text, rule),
        }
        Ok(())
    }
}

fn check_source(rule: &Rule, source: Option<&Scalar>, text: &Arc<Text>) -> Result<(), Diagnostic> {
    match source.filter(|source| source.text != rule.source) {
        None => Ok(()),
        Some(source) => {
            let message = format!("the rule `{}` has another source already, `{}`", rule.name.text, rule.source);
            Err(Diagnostic::new(Code::Validate, text, source.span.clone(), message))
        }
    }
}

fn nothing_to_change<'a>(
    what: &str,
    name: &Scalar,
    text: &Arc<Text>,
    known: impl Iterator<Item = &'a str>,
) -> Diagnostic {
    let message = format!("there is no {what} `{}` before this that could be changed", name.text);
    Diagnostic::new(Code::Validate, text, name.span.clone(), message).help(nearest(&name.text, known))
}

/// Text is appended behind one blank.
fn append_text(to: &mut Composed, scalar: Scalar, text: &Arc<Text>) {
    to.push(" ", Origin::of(&scalar, text));
    to.extend(&Composed::new(scalar, text));
}

impl Rule {
    fn append(&mut self, keys: RuleKeys, text: &Arc<Text>) -> Result<(), Diagnostic> {
        if let Some(condition) = keys.condition {
            append_text(&mut self.condition, condition, text);
        }
        if let Some(output) = keys.output {
            self.output = self.output.trimmed();
            append_text(&mut self.output, output, text);
        }
        if let Some(desc) = keys.desc {
            self.desc.push(' ');
            self.desc.push_str(&desc);
        }
        self.tags.extend(keys.tags.into_iter().flatten());
        for exception in keys.exceptions.into_iter().flatten() {
            match self.exceptions.iter_mut().find(|other| other.name.text == exception.name.text) {
                Some(other) => other.append(exception)?,
                None => {
                    exception.check_new()?;
                    self.exceptions.push(exception);
                }
            }
        }
        Ok(())
    }

    fn replace(&mut self, keys: RuleKeys, text: &Arc<Text>) {
        let RuleKeys { condition, output, desc, priority, tags, enabled, exceptions, .. } = keys;
        if let Some(condition) = condition {
            self.condition = Composed::new(condition, text);
        }
        if let Some(output) = output {
            self.output = Composed::new(output, text);
        }
        self.desc = desc.unwrap_or_else(|| std::mem::take(&mut self.desc));
        self.priority = priority.unwrap_or(self.priority);
        if let Some(tags) = tags {
            self.tags = tags.into_iter().collect();
        }
        self.enabled = enabled.unwrap_or(self.enabled);
        self.warn_event_types = keys.warn_event_types.unwrap_or(self.warn_event_types);
        self.skip_if_unknown = keys.skip_if_unknown.unwrap_or(self.skip_if_unknown);
        if let Some(exceptions) = exceptions {
            self.exceptions = exceptions;
        }
    }
}
