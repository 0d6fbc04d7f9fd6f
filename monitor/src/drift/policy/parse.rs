//! Reading a policy: total and bounded, with every problem where it stands.

use std::{ops::Range, sync::Arc};

use super::{Exceptions, Globs, Mode, PACKAGE_WINDOW_S, Policy, Rule, Scope};
use crate::{
    drift::{KINDS, kind_name},
    proto::v1::DriftKind,
    rules::{
        diagnostic::{Code, Diagnostic, Text, nearest},
        glob,
        yaml::{self, Node, Scalar, Value},
    },
};

/// Most rules, and most items of one list.
const MAX_RULES: usize = 1000;
const MAX_ITEMS: usize = 1000;
/// Largest policy.
const MAX_BYTES: usize = 4 << 20;

/// Namespaces of the cluster itself, of which a process must not be killed.
const SYSTEM_NAMESPACES: &[&str] = &[
    "kube-system",
    "kube-public",
    "kube-node-lease",
    "gatekeeper-system",
    "calico-system",
    "tigera-operator",
    "cilium",
    "istio-system",
];

/// Reads a policy; warnings beside it, or all that is wrong.
pub(super) fn policy(text: Text) -> Result<(Policy, Vec<Diagnostic>), Vec<Diagnostic>> {
    let mut reader = Reader { text: Arc::new(text), diagnostics: Vec::new() };
    if reader.text.text.len() > MAX_BYTES {
        reader.error(0..0, format!("a policy has at most {MAX_BYTES} bytes"), None);
        return Err(reader.diagnostics);
    }
    let policy = match yaml::parse(&Arc::clone(&reader.text), &mut reader.diagnostics) {
        Ok(documents) => reader.documents(&documents),
        Err(error) => {
            reader.diagnostics.push(error);
            Policy::default()
        }
    };
    if reader.diagnostics.iter().any(Diagnostic::is_error) {
        return Err(reader.diagnostics);
    }
    Ok((policy, reader.diagnostics))
}

struct Reader {
    text: Arc<Text>,
    diagnostics: Vec<Diagnostic>,
}

impl Reader {
    fn error(&mut self, span: Range<usize>, message: impl Into<String>, help: Option<String>) {
        self.diagnostics.push(Diagnostic::new(Code::DriftPolicy, &self.text, span, message).help(help));
    }

    fn documents(&mut self, documents: &[Node]) -> Policy {
        let mut policy = Policy::default();
        match documents {
            [document] => {
                for (key, node) in self.mapping(document, &["drift"]) {
                    if key.text == "drift" {
                        policy = self.policy(node);
                    }
                }
            }
            [] => self.error(0..0, "the file has no `drift:`", None),
            [_, second, ..] => self.error(second.span.clone(), "a policy is one document", None),
        }
        policy
    }

    fn policy(&mut self, node: &Node) -> Policy {
        let mut policy = Policy::default();
        for (key, node) in self.mapping(node, &["mode", "rules"]) {
            match &*key.text {
                "mode" => policy.mode = self.mode(node, None),
                _ => policy.rules = self.rules(node),
            }
        }
        policy
    }

    fn rules(&mut self, node: &Node) -> Vec<Rule> {
        let mut rules: Vec<Rule> = Vec::new();
        for item in self.items(node, MAX_RULES) {
            let rule = self.rule(item);
            if rules.iter().any(|known| known.name == rule.name) && !rule.name.is_empty() {
                self.error(item.span.clone(), format!("there is a rule `{}` already", rule.name), None);
            }
            rules.push(rule);
        }
        rules
    }

    fn rule(&mut self, node: &Node) -> Rule {
        const KEYS: &[&str] =
            &["name", "namespaces", "pods", "pod_labels", "images", "containers", "kinds", "except", "mode"];
        let mut rule = Rule::default();
        let pairs = self.mapping(node, KEYS);
        let said = self.diagnostics.len();
        // The scope first: whom a mode is for decides whether it may be.
        for (key, node) in &pairs {
            match &*key.text {
                "name" => rule.name = self.text(node).unwrap_or_default(),
                "namespaces" => rule.scope.namespaces = self.globs(node),
                "pods" => rule.scope.pods = self.globs(node),
                "pod_labels" => rule.scope.pod_labels = self.labels(node),
                "images" => rule.scope.images = self.globs(node),
                "containers" => rule.scope.containers = self.globs(node),
                "kinds" => rule.kinds = self.kinds(node),
                "except" => rule.exceptions = self.exceptions(node),
                _ => {}
            }
        }
        for (_, node) in pairs.iter().filter(|(key, _)| key.text == "mode") {
            rule.mode = self.mode(node, Some(&rule.scope));
        }
        let decides = rule.mode.is_some() || rule.exceptions != Exceptions::default();
        if !decides && self.diagnostics.len() == said {
            self.error(node.span.clone(), "a rule needs a `mode` or something that it lets pass (`except`)", None);
        }
        if rule.name.is_empty() {
            self.error(node.span.clone(), "a rule needs a `name`: findings say which rule decided", None);
        }
        rule
    }

    fn exceptions(&mut self, node: &Node) -> Exceptions {
        let mut exceptions = Exceptions::default();
        for (key, node) in self.mapping(node, &["paths", "processes", "writers", "sha256", "package_managers"]) {
            match &*key.text {
                "paths" => exceptions.paths = self.absolute_globs(node),
                "processes" => exceptions.processes = self.absolute_globs(node),
                "writers" => exceptions.writers = self.absolute_globs(node),
                "sha256" => exceptions.sha256 = self.digests(node),
                _ => exceptions.package_managers_s = self.window(node),
            }
        }
        exceptions
    }

    /// A mode. `scope` is that of the rule that has it; `None` for the policy's own.
    fn mode(&mut self, node: &Node, scope: Option<&Scope>) -> Option<Mode> {
        let text = self.text(node)?;
        match &*text {
            "observe" => Some(Mode::Observe),
            "alert" => Some(Mode::Alert),
            "kill" => {
                self.refuse_kill(node, scope);
                None
            }
            other => {
                let help = nearest(other, ["observe", "alert"]);
                self.error(node.span.clone(), format!("`{other}` is no mode: observe or alert"), help);
                None
            }
        }
    }

    fn refuse_kill(&mut self, node: &Node, scope: Option<&Scope>) {
        let namespaces = scope.map(|scope| scope.namespaces.as_slice()).unwrap_or_default();
        let hit =
            |system: &&&str| namespaces.iter().any(|glob| glob::matches(glob.as_bytes(), system.as_bytes(), false));
        let reached = SYSTEM_NAMESPACES.iter().find(hit);
        match reached {
            _ if namespaces.is_empty() => self.error(
                node.span.clone(),
                "this would kill processes of the system: `kill` without `namespaces` reaches every pod of the node",
                Some("name the namespaces whose processes may be killed".to_owned()),
            ),
            Some(system) => self.error(
                node.span.clone(),
                format!("this would kill processes of the system: the rule's `namespaces` include `{system}`"),
                None,
            ),
            None => self.error(
                node.span.clone(),
                "`kill` is not there yet: nothing in this version ends a process",
                Some("use `alert`".to_owned()),
            ),
        }
    }

    fn kinds(&mut self, node: &Node) -> Vec<DriftKind> {
        let mut kinds = Vec::new();
        for item in self.items(node, MAX_ITEMS) {
            let Some(name) = self.text(item) else { continue };
            match KINDS.iter().find(|kind| kind_name(**kind) == name) {
                Some(kind) => kinds.push(*kind),
                None => {
                    let help = nearest(&name, KINDS.iter().map(|kind| kind_name(*kind)));
                    self.error(item.span.clone(), format!("`{name}` is no kind of drift"), help);
                }
            }
        }
        kinds
    }

    fn labels(&mut self, node: &Node) -> Vec<(String, String)> {
        let Value::Mapping(pairs) = &node.value else {
            self.error(node.span.clone(), "labels are written as `name: pattern`", None);
            return Vec::new();
        };
        let pairs: Vec<_> = pairs.iter().map(|(name, node)| (name.text.clone(), self.text(node))).collect();
        pairs.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }

    fn globs(&mut self, node: &Node) -> Globs {
        let mut globs = Vec::new();
        for item in self.items(node, MAX_ITEMS) {
            globs.extend(self.text(item));
        }
        globs
    }

    fn absolute_globs(&mut self, node: &Node) -> Globs {
        for item in self.items(node, MAX_ITEMS) {
            let Some(text) = self.text(item) else { continue };
            if text.trim_matches('*').is_empty() {
                self.error(item.span.clone(), "this lets everything pass", Some("use a mode for that".to_owned()));
            } else if !text.starts_with(['/', '*']) {
                let help = Some(format!("write `/…/{text}`, or `*/{text}` for any directory"));
                self.error(item.span.clone(), "a path begins with a slash: a bare name matches nothing", help);
            }
        }
        // Whatever was said of them is said once.
        let said = self.diagnostics.len();
        let globs = self.globs(node);
        self.diagnostics.truncate(said);
        globs
    }

    fn digests(&mut self, node: &Node) -> Vec<[u8; 32]> {
        let mut digests = Vec::new();
        for item in self.items(node, MAX_ITEMS) {
            let Some(text) = self.text(item) else { continue };
            match digest(text.strip_prefix("sha256:").unwrap_or(&text)) {
                Some(digest) => digests.push(digest),
                None => self.error(item.span.clone(), "a digest has 64 hexadecimal digits", None),
            }
        }
        digests
    }

    /// `90`, `90s`, `2m`, `1h`: seconds.
    fn window(&mut self, node: &Node) -> Option<u64> {
        let text = self.text(node)?;
        let (digits, unit) = match text.strip_suffix(['s', 'm', 'h']) {
            Some(digits) => (digits, text.get(digits.len()..).unwrap_or_default()),
            None => (&*text, "s"),
        };
        let factor = match unit {
            "m" => 60,
            "h" => 3600,
            _ => 1,
        };
        let seconds = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
        let seconds = seconds.filter(|seconds| PACKAGE_WINDOW_S.contains(seconds));
        if seconds.is_none() {
            self.error(
                node.span.clone(),
                "package managers are trusted for some time from the container's start: 1s to 1h",
                Some("write it as `90s` or `2m`".to_owned()),
            );
        }
        seconds
    }

    /// The text of a scalar.
    fn text(&mut self, node: &Node) -> Option<String> {
        match &node.value {
            Value::Scalar(scalar) if !scalar.text.is_empty() => Some(scalar.text.clone()),
            _ => {
                self.error(node.span.clone(), "a text is expected here", None);
                None
            }
        }
    }

    /// The items of a list.
    fn items<'n>(&mut self, node: &'n Node, most: usize) -> &'n [Node] {
        match &node.value {
            Value::Sequence(items) if items.len() <= most => items,
            Value::Sequence(_) => {
                self.error(node.span.clone(), format!("this list has more than {most} items"), None);
                &[]
            }
            _ => {
                self.error(node.span.clone(), "a list is expected here", Some("write `[a, b]`".to_owned()));
                &[]
            }
        }
    }

    /// The pairs of a mapping that has these keys alone, each once.
    fn mapping<'n>(&mut self, node: &'n Node, known: &[&str]) -> Vec<&'n (Scalar, Node)> {
        let Value::Mapping(pairs) = &node.value else {
            let message = format!("keys are expected here: {}", known.join(", "));
            self.error(node.span.clone(), message, None);
            return Vec::new();
        };
        let mut taken: Vec<&(Scalar, Node)> = Vec::new();
        for pair in pairs {
            let (key, _) = pair;
            if !known.contains(&&*key.text) {
                let help = nearest(&key.text, known.iter().copied());
                self.error(key.span.clone(), format!("unknown key `{}`", key.text), help);
            } else if taken.iter().any(|(other, _)| other.text == key.text) {
                self.error(key.span.clone(), format!("`{}` is here twice", key.text), None);
            } else {
                taken.push(pair);
            }
        }
        taken
    }
}

fn digest(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    let mut digest = [0; 32];
    for (byte, at) in digest.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
    }
    Some(digest)
}
