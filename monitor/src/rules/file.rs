//! From YAML nodes to lists, macros and rules.

use std::{ops::Range, sync::Arc};

use super::{
    diagnostic::{Code, Diagnostic, Text, nearest},
    yaml::{self, Node, Scalar, Value},
};
use crate::proto::v1::Priority;

/// Engine version that we answer as: that of Falco 0.44.
const ENGINE_VERSION: (u64, u64, u64) = (0, 62, 0);

/// An item of a rule file.
#[derive(Clone, Debug)]
pub(super) enum Item {
    List { name: Scalar, items: Vec<Scalar>, text: Arc<Text> },
    Macro { name: Scalar, condition: Scalar, text: Arc<Text> },
    Rule(Box<RuleItem>),
}

/// A rule as written.
#[derive(Clone, Debug)]
pub(super) struct RuleItem {
    pub(super) name: Scalar,
    pub(super) desc: String,
    pub(super) condition: Scalar,
    pub(super) output: Scalar,
    pub(super) priority: Priority,
    pub(super) tags: Vec<String>,
    pub(super) source: String,
    pub(super) enabled: bool,
    pub(super) text: Arc<Text>,
}

/// Keys of the language that change what a rule means and that this version does not know: refused, never passed over.
const NOT_YET: &[&str] = &["exceptions", "append", "override", "skip-if-unknown-filter"];
/// Keys that have no effect here.
const WITHOUT_EFFECT: &[&str] = &["warn_evttypes", "capture", "capture_duration"];

const RULE_KEYS: &[&str] = &["rule", "desc", "condition", "output", "priority", "tags", "source", "enabled"];

/// Reads one file. What is wrong with it goes to `diagnostics`; the other items are still given.
pub(super) fn read(text: &Arc<Text>, diagnostics: &mut Vec<Diagnostic>) -> Vec<Item> {
    let documents = match yaml::parse(text) {
        Ok(documents) => documents,
        Err(diagnostic) => {
            diagnostics.push(diagnostic);
            return Vec::new();
        }
    };
    let mut items = Vec::new();
    for document in documents {
        let Value::Sequence(nodes) = document.value else {
            let empty = matches!(&document.value, Value::Scalar(scalar) if matches!(&*scalar.text, "" | "~" | "null"));
            if !empty {
                let message = "a rule file is a list of items, each beginning with `- rule:`, `- macro:` or `- list:`";
                diagnostics.push(Diagnostic::new(Code::YamlValidate, text, first_line(text, document.span), message));
            }
            continue;
        };
        for node in nodes {
            match (Reader { text }).item(node) {
                Ok(item) => items.extend(item),
                Err(diagnostic) => diagnostics.push(diagnostic),
            }
        }
    }
    items
}

/// The first line of a span: a mark under a whole item helps nobody.
fn first_line(text: &Text, span: Range<usize>) -> Range<usize> {
    let shown = text.text.get(span.clone()).unwrap_or_default();
    span.start..span.start + shown.lines().next().unwrap_or_default().trim_end().len()
}

struct Reader<'a> {
    text: &'a Arc<Text>,
}

impl Reader<'_> {
    fn error(&self, span: Range<usize>, message: impl Into<String>) -> Diagnostic {
        Diagnostic::new(Code::YamlValidate, self.text, first_line(self.text, span), message)
    }

    fn item(&self, node: Node) -> Result<Option<Item>, Diagnostic> {
        let span = node.span;
        let Value::Mapping(mut entries) = node.value else {
            return Err(self.error(span, "an item is a mapping that begins with `rule:`, `macro:` or `list:`"));
        };
        let kind = entries.first().map(|(key, _)| (key.text.clone(), key.span.clone())).unwrap_or_default();
        match &*kind.0 {
            "list" => self.list(&mut entries, span).map(Some),
            "macro" => self.macro_(&mut entries, span).map(Some),
            "rule" => self.rule(&mut entries, span).map(Some),
            "required_engine_version" => {
                let version = self.scalar(&mut entries, "required_engine_version", &span)?;
                self.check_version(&version)?;
                Ok(None)
            }
            // Container fields are our own: every version of the plugin is satisfied.
            "required_plugin_versions" => Ok(None),
            other => {
                let known = ["list", "macro", "rule", "required_engine_version", "required_plugin_versions"];
                let help = nearest(other, known);
                Err(self.error(kind.1, format!("unknown item `{other}`")).help(help))
            }
        }
    }

    fn list(&self, entries: &mut Vec<(Scalar, Node)>, span: Range<usize>) -> Result<Item, Diagnostic> {
        let name = self.scalar(entries, "list", &span)?;
        let items = self.scalars(entries, "items", &span)?;
        self.no_more(entries, &["list", "items"])?;
        Ok(Item::List { name, items, text: Arc::clone(self.text) })
    }

    fn macro_(&self, entries: &mut Vec<(Scalar, Node)>, span: Range<usize>) -> Result<Item, Diagnostic> {
        let name = self.scalar(entries, "macro", &span)?;
        let condition = self.scalar(entries, "condition", &span)?;
        self.no_more(entries, &["macro", "condition"])?;
        Ok(Item::Macro { name, condition, text: Arc::clone(self.text) })
    }

    fn rule(&self, entries: &mut Vec<(Scalar, Node)>, span: Range<usize>) -> Result<Item, Diagnostic> {
        let name = self.scalar(entries, "rule", &span)?;
        let desc = self.scalar(entries, "desc", &span)?.text;
        let condition = self.scalar(entries, "condition", &span)?;
        let output = self.scalar(entries, "output", &span)?;
        let priority = self.scalar(entries, "priority", &span)?;
        let place = priority.span.clone();
        let priority = Priority::parse(&priority.text).map_err(|error| self.error(place, error.to_string()))?;
        let mut tags = Vec::new();
        if let Some(node) = take(entries, "tags") {
            tags = self.scalars_of(node, "tags")?.into_iter().map(|tag| tag.text).collect();
        }
        tags.sort();
        tags.dedup();
        let source = match take(entries, "source") {
            Some(node) => self.scalar_of(node, "source")?.text,
            None => "syscall".to_owned(),
        };
        let enabled = match take(entries, "enabled") {
            Some(node) => self.truth(node, "enabled")?,
            None => true,
        };
        entries.retain(|(key, _)| !WITHOUT_EFFECT.contains(&&*key.text));
        self.no_more(entries, RULE_KEYS)?;
        let text = Arc::clone(self.text);
        Ok(Item::Rule(Box::new(RuleItem { name, desc, condition, output, priority, tags, source, enabled, text })))
    }

    fn scalar(&self, entries: &mut Vec<(Scalar, Node)>, key: &str, span: &Range<usize>) -> Result<Scalar, Diagnostic> {
        match take(entries, key) {
            Some(node) => self.scalar_of(node, key),
            None => Err(self.error(span.clone(), format!("the item has no `{key}`"))),
        }
    }

    fn scalar_of(&self, node: Node, key: &str) -> Result<Scalar, Diagnostic> {
        match node.value {
            Value::Scalar(scalar) if scalar.text.trim().is_empty() => {
                Err(self.error(node.span, format!("`{key}` is empty")))
            }
            Value::Scalar(scalar) => Ok(scalar),
            _ => Err(self.error(node.span, format!("`{key}` must be text"))),
        }
    }

    fn scalars(
        &self,
        entries: &mut Vec<(Scalar, Node)>,
        key: &str,
        span: &Range<usize>,
    ) -> Result<Vec<Scalar>, Diagnostic> {
        let node = take(entries, key).ok_or_else(|| self.error(span.clone(), format!("the item has no `{key}`")))?;
        self.scalars_of(node, key)
    }

    fn scalars_of(&self, node: Node, key: &str) -> Result<Vec<Scalar>, Diagnostic> {
        let Value::Sequence(nodes) = node.value else {
            return Err(self.error(node.span, format!("`{key}` must be a list")));
        };
        nodes.into_iter().map(|node| self.scalar_of(node, key)).collect()
    }

    fn truth(&self, node: Node, key: &str) -> Result<bool, Diagnostic> {
        let scalar = self.scalar_of(node, key)?;
        match &*scalar.text {
            "true" | "yes" | "on" => Ok(true),
            "false" | "no" | "off" => Ok(false),
            _ => Err(self.error(scalar.span, format!("`{key}` must be true or false"))),
        }
    }

    /// Complains about what was not taken.
    fn no_more(&self, entries: &[(Scalar, Node)], known: &[&str]) -> Result<(), Diagnostic> {
        let Some((key, _)) = entries.first() else { return Ok(()) };
        let name = &*key.text;
        if NOT_YET.contains(&name) {
            let message =
                format!("`{name}` is not supported by this version, and without it the item would mean something else");
            return Err(self.error(key.span.clone(), message));
        }
        let help = nearest(name, known.iter().copied());
        Err(self.error(key.span.clone(), format!("unknown key `{name}`")).help(help))
    }

    /// A number N means 0.N.0.
    fn check_version(&self, version: &Scalar) -> Result<(), Diagnostic> {
        let parts: Vec<_> = version.text.split('.').map(str::parse::<u64>).collect();
        let wanted = match parts.as_slice() {
            [Ok(minor)] => (0, *minor, 0),
            [Ok(major), Ok(minor), Ok(patch)] => (*major, *minor, *patch),
            _ => return Err(self.error(version.span.clone(), "not a version: write a number or MAJOR.MINOR.PATCH")),
        };
        if wanted.0 == ENGINE_VERSION.0 && wanted <= ENGINE_VERSION {
            return Ok(());
        }
        let (major, minor, patch) = ENGINE_VERSION;
        let message = format!("these rules need engine version {}, this is {major}.{minor}.{patch}", version.text);
        Err(Diagnostic::new(Code::Validate, self.text, version.span.clone(), message))
    }
}

fn take(entries: &mut Vec<(Scalar, Node)>, key: &str) -> Option<Node> {
    let at = entries.iter().position(|(other, _)| other.text == key)?;
    Some(entries.remove(at).1)
}
