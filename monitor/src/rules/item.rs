//! From YAML nodes to lists, macros and rules as they are written.
//!
//! What is wrong with an item is told and the next one is read, so that a user sees every problem of a file at once.

use std::{ops::Range, sync::Arc};

use super::{
    diagnostic::{Code, Diagnostic, Text, nearest},
    exception::{self, Exception},
    yaml::{self, Node, Scalar, Value},
};
use crate::proto::v1::Priority;

/// Engine version that we answer as: that of Falco 0.44.
const ENGINE_VERSION: (u64, u64, u64) = (0, 62, 0);
/// The plugin whose fields are our own.
const NATIVE_PLUGIN: &str = "container";

const ITEM_KINDS: &[&str] = &["required_engine_version", "required_plugin_versions", "list", "macro", "rule"];
const LIST_KEYS: &[&str] = &["list", "items", "append", "override"];
const MACRO_KEYS: &[&str] = &["macro", "condition", "append", "override"];
const RULE_KEYS: &[&str] = &[
    "rule",
    "condition",
    "output",
    "desc",
    "priority",
    "source",
    "enabled",
    "capture",
    "capture_duration",
    "warn_evttypes",
    "skip-if-unknown-filter",
    "tags",
    "exceptions",
    "override",
    "append",
];
/// Keys of a rule that `override` can append to, and those that it can replace.
const RULE_APPENDABLE: &[&str] = &["condition", "output", "desc", "tags", "exceptions"];
const RULE_REPLACEABLE: &[&str] = &[
    "condition",
    "output",
    "desc",
    "priority",
    "capture",
    "capture_duration",
    "tags",
    "exceptions",
    "enabled",
    "warn_evttypes",
    "skip-if-unknown-filter",
];

/// An item of a rule file.
#[derive(Debug)]
pub(super) enum Item {
    List { name: Scalar, items: Vec<Scalar>, append: bool },
    Macro { name: Scalar, condition: Scalar, append: bool },
    Rule { name: Scalar, action: Action, keys: Box<RuleKeys> },
}

/// What a rule item does to the rule of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Define,
    Append,
    Replace,
    Enable,
}

/// Keys of a rule item. A definition has those that a rule needs.
#[derive(Debug, Default)]
pub(super) struct RuleKeys {
    pub(super) condition: Option<Scalar>,
    pub(super) output: Option<Scalar>,
    pub(super) desc: Option<String>,
    pub(super) priority: Option<Priority>,
    pub(super) tags: Option<Vec<String>>,
    pub(super) source: Option<Scalar>,
    pub(super) enabled: Option<bool>,
    pub(super) warn_event_types: Option<bool>,
    pub(super) skip_if_unknown: Option<bool>,
    pub(super) exceptions: Option<Vec<Exception>>,
}

/// Reads one file. What is wrong with it goes to `diagnostics`; the other items are still given.
pub(super) fn read(text: &Arc<Text>, diagnostics: &mut Vec<Diagnostic>) -> Vec<Item> {
    let mut reader = Reader { text, diagnostics, items: Vec::new() };
    match yaml::parse(text, reader.diagnostics) {
        Ok(documents) => documents.into_iter().for_each(|document| reader.document(document)),
        Err(diagnostic) => reader.diagnostics.push(diagnostic),
    }
    reader.items
}

type Entries = Vec<(Scalar, Node)>;
type Read<T> = Result<T, Diagnostic>;

/// Reads the parts of items of one file.
pub(super) struct Reader<'a> {
    text: &'a Arc<Text>,
    diagnostics: &'a mut Vec<Diagnostic>,
    items: Vec<Item>,
}

/// The first line of a span: a mark under a whole item helps nobody.
fn first_line(text: &Text, span: Range<usize>) -> Range<usize> {
    let shown = text.text.get(span.clone()).unwrap_or_default();
    span.start..span.start + shown.lines().next().unwrap_or_default().trim_end().len()
}

impl Reader<'_> {
    /// The file that is read.
    pub(super) fn text(&self) -> &Arc<Text> {
        self.text
    }

    pub(super) fn error(&self, span: Range<usize>, message: impl Into<String>) -> Diagnostic {
        Diagnostic::new(Code::YamlValidate, self.text, first_line(self.text, span), message)
    }

    pub(super) fn warn(&mut self, code: Code, span: Range<usize>, message: impl Into<String>) {
        self.diagnostics.push(Diagnostic::new(code, self.text, first_line(self.text, span), message));
    }

    fn document(&mut self, document: Node) {
        if document.is_null() {
            return;
        }
        let Value::Sequence(nodes) = document.value else {
            let message = "a rule file is a list of items, each beginning with `- rule:`, `- macro:` or `- list:`";
            let error = self.error(document.span, message);
            return self.diagnostics.push(error);
        };
        for node in nodes.into_iter().filter(|node| !node.is_null()) {
            let before = self.diagnostics.len();
            if let Err(error) = self.item(node) {
                let mut told = self.diagnostics.split_off(before);
                told.retain(|diagnostic| diagnostic.code != Code::UnknownKey);
                self.diagnostics.append(&mut told);
                self.diagnostics.push(error);
            }
        }
    }

    /// Reads an item. Keys that mean nothing are told only if nothing else is wrong with it.
    fn item(&mut self, node: Node) -> Read<()> {
        let span = node.span;
        let Value::Mapping(mut entries) = node.value else {
            return Err(self.error(span, "an item is a mapping that begins with `rule:`, `macro:` or `list:`"));
        };
        let kind = ITEM_KINDS.iter().copied().find(|kind| entries.iter().any(|(key, _)| key.text == *kind));
        match kind {
            Some("list") => self.list(&mut entries, &span),
            Some("macro") => self.macro_(&mut entries, &span),
            Some("rule") => self.rule(&mut entries, &span),
            Some(kind @ ("required_engine_version" | "required_plugin_versions")) => {
                self.warn_unknown(&entries, &[kind]);
                if kind == "required_plugin_versions" {
                    return self.check_plugins(take(&mut entries, kind), &span);
                }
                let version = self.scalar(&mut entries, "required_engine_version", &span)?;
                self.check_version(&version)
            }
            _ => {
                let (other, place) =
                    entries.first().map_or(("", span.clone()), |(key, _)| (key.text.as_str(), key.span.clone()));
                let help = nearest(other, ITEM_KINDS.iter().copied());
                let message = format!("unknown item `{other}`: it is passed over");
                self.diagnostics.push(Diagnostic::new(Code::UnknownItem, self.text, place, message).help(help));
                Ok(())
            }
        }
    }

    fn list(&mut self, entries: &mut Entries, span: &Range<usize>) -> Read<()> {
        let name = self.scalar(entries, "list", span)?;
        if name.text.contains(|c: char| c.is_ascii_whitespace() || "()\"'=,".contains(c)) {
            let message = format!("no condition can name a list `{}`: blanks and ()\"'=, end a name", name.text);
            self.warn(Code::InvalidListName, name.span.clone(), message);
        }
        self.warn_unknown(entries, LIST_KEYS);
        let items = take(entries, "items").ok_or_else(|| self.error(span.clone(), "the list has no `items`"))?;
        let items = self.scalars_of(items, "items")?;
        let append = self.appends(entries, "items", span)?;
        self.items.push(Item::List { name, items, append });
        Ok(())
    }

    fn macro_(&mut self, entries: &mut Entries, span: &Range<usize>) -> Read<()> {
        let name = self.scalar(entries, "macro", span)?;
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if !name.text.starts_with(|c: char| c.is_ascii_alphabetic()) || !name.text.chars().all(is_name) {
            let message = format!("no condition can name a macro `{}`: a name is letters, digits and _", name.text);
            self.warn(Code::InvalidMacroName, name.span.clone(), message);
        }
        self.warn_unknown(entries, MACRO_KEYS);
        let condition = self.scalar(entries, "condition", span)?;
        let append = self.appends(entries, "condition", span)?;
        self.items.push(Item::Macro { name, condition, append });
        Ok(())
    }

    /// Whether an item adds to the one before: by `append` or by `override` of its only key.
    fn appends(&mut self, entries: &mut Entries, key: &str, span: &Range<usize>) -> Read<bool> {
        let append = self.append(entries)?;
        let (appended, replaced) = self.overrides(entries, &[key], &[key])?;
        if append && !(appended.is_empty() && replaced.is_empty()) {
            return Err(self.error(span.clone(), "`append: true` and `override` cannot stand together"));
        }
        Ok(append || !appended.is_empty())
    }

    fn append(&mut self, entries: &mut Entries) -> Read<bool> {
        let Some(node) = take(entries, "append") else { return Ok(false) };
        let span = node.span.clone();
        let append = self.truth(node, "append")?;
        if append {
            let message =
                "`append` is deprecated: write `override: {condition: append}`, or what it is that you add to";
            self.warn(Code::DeprecatedItem, span, message);
        }
        Ok(append)
    }

    /// Keys that `override` appends to, and those that it replaces.
    fn overrides(
        &mut self,
        entries: &mut Entries,
        appendable: &[&str],
        replaceable: &[&str],
    ) -> Read<(Vec<Scalar>, Vec<Scalar>)> {
        let (mut appended, mut replaced) = (Vec::new(), Vec::new());
        let Some(node) = take(entries, "override") else { return Ok((appended, replaced)) };
        let Value::Mapping(overrides) = node.value else {
            return Err(self.error(node.span, "`override` is a mapping of keys to `append` or `replace`"));
        };
        for (key, node) in overrides {
            let span = node.span.clone();
            let action = self.scalar_of(node, &key.text)?;
            let known = |keys: &[&str]| keys.contains(&&*key.text);
            match &*action.text {
                "append" if known(appendable) => appended.push(key),
                "replace" if known(replaceable) => replaced.push(key),
                "append" if known(replaceable) => {
                    let message = format!("the key `{}` cannot be appended to, only replaced", key.text);
                    return Err(self.error(key.span, message));
                }
                "append" | "replace" => {
                    let help = nearest(&key.text, replaceable.iter().copied());
                    return Err(self
                        .error(key.span, format!("the key `{}` cannot be overridden", key.text))
                        .help(help));
                }
                other => return Err(self.error(span, format!("`{other}` is neither `append` nor `replace`"))),
            }
        }
        Ok((appended, replaced))
    }

    fn rule(&mut self, entries: &mut Entries, span: &Range<usize>) -> Read<()> {
        let name = self.scalar(entries, "rule", span)?;
        self.warn_unknown(entries, RULE_KEYS);
        let append = self.append(entries)?;
        let (appended, replaced) = self.overrides(entries, RULE_APPENDABLE, RULE_REPLACEABLE)?;
        if !appended.is_empty() || !replaced.is_empty() {
            if append {
                return Err(self.error(span.clone(), "`append: true` and `override` cannot stand together"));
            }
            return self.rule_override(&name, entries, &appended, &replaced);
        }
        let has = |key: &str| entries.iter().any(|(other, _)| other.text == key);
        let action = if append {
            Action::Append
        } else if ["condition", "output", "desc", "priority"].iter().any(|key| has(key)) {
            Action::Define
        } else {
            Action::Enable
        };
        let needed: &[&str] = match action {
            Action::Define => &["condition", "output", "desc", "priority"],
            Action::Enable => &["enabled"],
            _ => &[],
        };
        if let Some(missing) = needed.iter().find(|key| !has(key)) {
            return Err(self.error(name.span.clone(), format!("the rule `{}` has no `{missing}`", name.text)));
        }
        if action == Action::Enable {
            let message = "switching a rule by `enabled` alone is deprecated: write `override: {enabled: replace}`";
            self.warn(Code::DeprecatedItem, name.span.clone(), message);
        }
        if append {
            self.keep_appendable(&name, entries)?;
        }
        let keys = self.rule_keys(entries, append)?;
        self.items.push(Item::Rule { name, action, keys: Box::new(keys) });
        Ok(())
    }

    /// `append: true` adds to the condition and to exceptions; whatever else stands there has no effect.
    fn keep_appendable(&mut self, name: &Scalar, entries: &mut Entries) -> Read<()> {
        const KEYS: [&str; 3] = ["condition", "exceptions", "source"];
        for (key, _) in entries.iter().filter(|(key, _)| RULE_KEYS.contains(&&*key.text)) {
            if !KEYS.contains(&&*key.text) {
                let message = format!("`{}` has no effect beside `append: true`: use `override`", key.text);
                self.diagnostics.push(Diagnostic::new(Code::UnknownKey, self.text, key.span.clone(), message));
            }
        }
        entries.retain(|(key, _)| KEYS.contains(&&*key.text));
        if entries.iter().all(|(key, _)| key.text == "source") {
            let message = "a rule item that appends needs `condition` or `exceptions`";
            return Err(Diagnostic::new(Code::Validate, self.text, name.span.clone(), message));
        }
        Ok(())
    }

    /// A rule item with `override`: every key has an entry there, and every entry a key.
    fn rule_override(
        &mut self,
        name: &Scalar,
        entries: &mut Entries,
        appended: &[Scalar],
        replaced: &[Scalar],
    ) -> Read<()> {
        let source = entries.iter().find(|(key, _)| key.text == "source").cloned();
        for (keys, action) in [(appended, Action::Append), (replaced, Action::Replace)] {
            if keys.is_empty() {
                continue;
            }
            let mut chosen: Entries = source.clone().into_iter().collect();
            for key in keys {
                let node = take(entries, &key.text).ok_or_else(|| {
                    let message = format!("`override` names `{}`, which the item does not have", key.text);
                    self.error(key.span.clone(), message)
                })?;
                chosen.push((key.clone(), node));
            }
            let keys = self.rule_keys(&mut chosen, action == Action::Append)?;
            self.items.push(Item::Rule { name: name.clone(), action, keys: Box::new(keys) });
        }
        match entries.iter().find(|(key, _)| RULE_REPLACEABLE.contains(&&*key.text)) {
            None => Ok(()),
            Some((key, _)) => {
                let message = format!("`override` says nothing about the key `{}`", key.text);
                let help = Some(format!("add `{}: append` or `{}: replace` to it", key.text, key.text));
                Err(self.error(key.span.clone(), message).help(help))
            }
        }
    }

    fn rule_keys(&mut self, entries: &mut Entries, append: bool) -> Read<RuleKeys> {
        // Elsewhere a source without a name says nothing.
        let is_definition = entries.iter().any(|(key, _)| key.text == "priority");
        let mut keys = RuleKeys {
            condition: self.optional(entries, "condition")?,
            output: self.optional(entries, "output")?,
            desc: self.optional(entries, "desc")?.map(|desc| desc.text),
            source: match take(entries, "source") {
                Some(node) if !node.is_empty() || is_definition => Some(self.scalar_of(node, "source")?),
                _ => None,
            },
            enabled: self.optional_truth(entries, "enabled")?,
            warn_event_types: self.optional_truth(entries, "warn_evttypes")?,
            skip_if_unknown: self.optional_truth(entries, "skip-if-unknown-filter")?,
            ..RuleKeys::default()
        };
        if let Some(priority) = self.optional(entries, "priority")? {
            let parsed = Priority::parse(priority.text.trim());
            keys.priority = Some(parsed.map_err(|error| self.error(priority.span, error.to_string()))?);
        }
        if let Some(node) = take(entries, "tags") {
            keys.tags = Some(self.scalars_of(node, "tags")?.into_iter().map(|tag| tag.text).collect());
        }
        if let Some(node) = take(entries, "exceptions").filter(|node| !node.is_null()) {
            keys.exceptions = Some(exception::read(self, node, append)?);
        }
        if let Some(duration) = self.optional(entries, "capture_duration")?
            && duration.text.parse::<u64>().is_err()
        {
            return Err(self.error(duration.span, "`capture_duration` is a number of milliseconds"));
        }
        if let Some(node) = take(entries, "capture") {
            let span = node.span.clone();
            if self.truth(node, "capture")? {
                self.warn(Code::UnknownKey, span, "`capture` has no effect: no file is written when a rule hits");
            }
        }
        Ok(keys)
    }

    fn optional(&self, entries: &mut Entries, key: &str) -> Read<Option<Scalar>> {
        take(entries, key).map(|node| self.scalar_of(node, key)).transpose()
    }

    fn optional_truth(&self, entries: &mut Entries, key: &str) -> Read<Option<bool>> {
        take(entries, key).map(|node| self.truth(node, key)).transpose()
    }

    /// The text of a key that must be there.
    pub(super) fn scalar(&self, entries: &mut Entries, key: &str, span: &Range<usize>) -> Read<Scalar> {
        match take(entries, key) {
            Some(node) => self.scalar_of(node, key),
            None => Err(self.error(span.clone(), format!("the item has no `{key}`"))),
        }
    }

    /// A node that must be text.
    pub(super) fn scalar_of(&self, node: Node, key: &str) -> Read<Scalar> {
        let null = node.is_null();
        match node.value {
            Value::Scalar(scalar) if null || scalar.text.is_empty() => {
                Err(self.error(node.span, format!("`{key}` is empty")))
            }
            Value::Scalar(scalar) => Ok(scalar),
            _ => Err(self.error(node.span, format!("`{key}` must be text"))),
        }
    }

    /// A node that must be a list of texts, of which some may be empty.
    fn scalars_of(&self, node: Node, key: &str) -> Read<Vec<Scalar>> {
        let Value::Sequence(nodes) = node.value else {
            return Err(self.error(node.span, format!("`{key}` must be a list")));
        };
        let scalar = |node: Node| match node.value {
            Value::Scalar(scalar) if !scalar.is_null() => Ok(scalar),
            _ => Err(self.error(node.span, format!("an item of `{key}` must be text"))),
        };
        nodes.into_iter().map(scalar).collect()
    }

    fn truth(&self, node: Node, key: &str) -> Read<bool> {
        let scalar = self.scalar_of(node, key)?;
        match &*scalar.text.to_ascii_lowercase() {
            "true" | "yes" | "on" | "y" => Ok(true),
            "false" | "no" | "off" | "n" => Ok(false),
            _ => Err(self.error(scalar.span, format!("`{key}` must be true or false"))),
        }
    }

    /// Keys that mean nothing are passed over, as in Falco, but not silently.
    fn warn_unknown(&mut self, entries: &Entries, known: &[&str]) {
        for (key, _) in entries.iter().filter(|(key, _)| !known.contains(&&*key.text)) {
            // The name has been taken out already.
            let help = nearest(&key.text, known.iter().copied());
            let message = format!("unknown key `{}`: it is passed over", key.text);
            self.diagnostics.push(Diagnostic::new(Code::UnknownKey, self.text, key.span.clone(), message).help(help));
        }
    }

    /// A number N means 0.N.0.
    fn check_version(&self, version: &Scalar) -> Read<()> {
        let wanted = match version.text.parse::<u64>() {
            Ok(minor) => (0, minor, 0),
            Err(_) => parse_version(&version.text).ok_or_else(|| {
                self.error(version.span.clone(), "not a version: write a number or MAJOR.MINOR.PATCH")
            })?,
        };
        if wanted.0 == ENGINE_VERSION.0 && wanted <= ENGINE_VERSION {
            return Ok(());
        }
        let (major, minor, patch) = ENGINE_VERSION;
        let message = format!("these rules need engine version {}, this is {major}.{minor}.{patch}", version.text);
        Err(Diagnostic::new(Code::Validate, self.text, version.span.clone(), message))
    }

    /// Container fields are our own: every version of that plugin is satisfied, and no other plugin.
    fn check_plugins(&self, node: Option<Node>, span: &Range<usize>) -> Read<()> {
        let list = |node: Option<Node>| match node.map(|node| node.value) {
            Some(Value::Sequence(nodes)) => Ok(nodes),
            _ => Err(self.error(span.clone(), "`required_plugin_versions` is a list of `name` and `version`")),
        };
        for node in list(node)? {
            let (place, Value::Mapping(mut entries)) = (node.span.clone(), node.value) else {
                return Err(self.error(node.span, "a required plugin has `name` and `version`"));
            };
            let alternatives = match take(&mut entries, "alternatives") {
                Some(node) => list(Some(node))?,
                None => Vec::new(),
            };
            let mut names = vec![self.plugin(&mut entries, &place)?];
            for node in alternatives {
                let (place, Value::Mapping(mut entries)) = (node.span.clone(), node.value) else {
                    return Err(self.error(node.span, "a required plugin has `name` and `version`"));
                };
                let name = self.plugin(&mut entries, &place)?;
                if names.iter().any(|other| other.text == name.text) {
                    let message = format!("the plugin `{}` is named twice", name.text);
                    return Err(Diagnostic::new(Code::Validate, self.text, name.span, message));
                }
                names.push(name);
            }
            if !names.iter().any(|name| name.text == NATIVE_PLUGIN) {
                let known = format!("there are no plugins here; the fields of `{NATIVE_PLUGIN}` are built in");
                let name = names.swap_remove(0);
                let message = format!("these rules need the plugin `{}`", name.text);
                return Err(Diagnostic::new(Code::Validate, self.text, name.span, message).help(Some(known)));
            }
        }
        Ok(())
    }

    fn plugin(&self, entries: &mut Entries, span: &Range<usize>) -> Read<Scalar> {
        let name = self.scalar(entries, "name", span)?;
        let version = self.scalar(entries, "version", span)?;
        match parse_version(&version.text) {
            Some(_) => Ok(name),
            None => {
                let message = format!("`{}` is not a version: write MAJOR.MINOR.PATCH", version.text);
                Err(Diagnostic::new(Code::Validate, self.text, version.span, message))
            }
        }
    }
}

/// `MAJOR.MINOR.PATCH`, with or without what may follow a `-` or `+`.
fn parse_version(text: &str) -> Option<(u64, u64, u64)> {
    let core = text.split(['-', '+']).next()?;
    let parts: Vec<_> = core.split('.').map(|part| part.parse::<u64>().ok()).collect::<Option<_>>()?;
    match parts.as_slice() {
        [major, minor, patch] => Some((*major, *minor, *patch)),
        _ => None,
    }
}

/// Takes a key's node out of a mapping.
pub(super) fn take(entries: &mut Entries, key: &str) -> Option<Node> {
    let at = entries.iter().position(|(other, _)| other.text == key)?;
    Some(entries.remove(at).1)
}
