//! What is wrong with rules, where, and how to mend it.
//!
//! Codes are Falco's, so that users find them in its documentation. Every diagnostic points into the text as the user wrote
//! it, through YAML's folding and quoting.

use std::{fmt, ops::Range, sync::Arc};

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

/// Lines longer than this are not shown whole.
const MAX_SHOWN_BYTES: usize = 400;

/// A rule file, or a condition given on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// What it is called in messages.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The rules are not loaded.
    Error,
    /// They are, but probably do not mean what was meant.
    Warning,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $severity:ident;)*) => {
        /// What kind of problem: the names that Falco prints.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code { $($(#[$doc])* $name),* }

        impl Code {
            /// Falco's name.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }

            const fn severity(self) -> Severity {
                match self { $(Self::$name => Severity::$severity),* }
            }
        }
    };
}

codes! {
    /// Not YAML.
    YamlParse = "LOAD_ERR_YAML_PARSE", Error;
    /// YAML, but not rules.
    YamlValidate = "LOAD_ERR_YAML_VALIDATE", Error;
    /// A condition is wrong.
    CompileCondition = "LOAD_ERR_COMPILE_CONDITION", Error;
    /// An output is wrong.
    CompileOutput = "LOAD_ERR_COMPILE_OUTPUT", Error;
    /// Rules do not fit together.
    Validate = "LOAD_ERR_VALIDATE", Error;
    /// A rule for events that do not come from here.
    UnknownSource = "LOAD_UNKNOWN_SOURCE", Warning;
    /// A comparison with the text that stands for no value.
    UnsafeNaCheck = "LOAD_UNSAFE_NA_CHECK", Warning;
    /// A rule that looks at nearly every event.
    NoEventType = "LOAD_NO_EVTTYPE", Warning;
    /// A rule with an unknown field, which asked to be left out then.
    UnknownFilter = "LOAD_UNKNOWN_FILTER", Warning;
    /// A macro that nothing uses.
    UnusedMacro = "LOAD_UNUSED_MACRO", Warning;
    /// A list that nothing uses.
    UnusedList = "LOAD_UNUSED_LIST", Warning;
    /// An item that is no rule, macro or list.
    UnknownItem = "LOAD_UNKNOWN_ITEM", Warning;
    /// A key that means nothing.
    UnknownKey = "LOAD_UNKNOWN_KEY", Warning;
    /// What Falco means to drop.
    DeprecatedItem = "LOAD_DEPRECATED_ITEM", Warning;
    /// An exception that adds nothing.
    AppendNoValues = "LOAD_APPEND_NO_VALUES", Warning;
    /// Two exceptions of one name in a rule.
    ExceptionNameNotUnique = "LOAD_EXCEPTION_NAME_NOT_UNIQUE", Warning;
    /// A macro whose name conditions cannot write.
    InvalidMacroName = "LOAD_INVALID_MACRO_NAME", Warning;
    /// A list whose name conditions cannot write.
    InvalidListName = "LOAD_INVALID_LIST_NAME", Warning;
    /// A condition that probably does not mean what was meant.
    Condition = "LOAD_COMPILE_CONDITION", Warning;
    /// Ours, not Falco's: a seccomp profile that no container runtime would take.
    Profile = "SECCOMP_PROFILE", Error;
    /// Ours, not Falco's: a seccomp profile that a runtime takes, and that probably does not do what was meant.
    ProfileDoubt = "SECCOMP_PROFILE_DOUBT", Warning;
    /// Ours, not Falco's: a drift policy that cannot be used.
    DriftPolicy = "DRIFT_POLICY", Error;
}

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// What kind.
    pub code: Code,
    /// What is wrong.
    pub message: String,
    /// Where: the text.
    pub text: Arc<Text>,
    /// Where: bytes of it.
    pub span: Range<usize>,
    /// How to mend it.
    pub help: Option<String>,
}

impl Diagnostic {
    /// A problem at a place.
    pub fn new(code: Code, text: &Arc<Text>, span: Range<usize>, message: impl Into<String>) -> Self {
        let len = text.text.len();
        let span = span.start.min(len)..span.end.clamp(span.start.min(len), len);
        Self { code, message: message.into(), text: Arc::clone(text), span, help: None }
    }

    /// Says how to mend it.
    #[must_use]
    pub fn help(mut self, help: Option<String>) -> Self {
        self.help = help;
        self
    }

    /// Whether the rules are not loaded because of it.
    pub fn is_error(&self) -> bool {
        self.code.severity() == Severity::Error
    }

    /// Line and column, from 1; columns count characters.
    pub fn position(&self) -> (usize, usize) {
        let before = self.text.text.get(..self.start()).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let column = before.get(line_start..).unwrap_or_default().chars().count();
        (before.matches('\n').count() + 1, column + 1)
    }

    /// Start of the span, moved to a character.
    fn start(&self) -> usize {
        let text = &self.text.text;
        let mut at = self.span.start.min(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    }

    /// With the offending text and a caret under it, coloured; strip the colours where they are not wanted.
    pub fn render(&self) -> String {
        let text = &self.text.text;
        let (start, line) = (self.start(), self.position().0);
        // Only the lines of the span: a rule file has thousands.
        let line_start = text.get(..start).and_then(|before| before.rfind('\n')).map_or(0, |at| at + 1);
        let line_end = text.get(start..).and_then(|after| after.find('\n')).map_or(text.len(), |at| start + at);
        let mut end = self.span.end.clamp(start, line_end.max(start));
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let title = format!("{}: {}", self.code.name(), self.message);
        let level = if self.is_error() { Level::ERROR } else { Level::WARNING };
        let shown = text.get(line_start..line_end).unwrap_or_default();
        let mut group = Group::with_title(level.primary_title(title));
        if shown.len() <= MAX_SHOWN_BYTES {
            let annotation = AnnotationKind::Primary.span(start - line_start..end - line_start);
            group = group.element(Snippet::source(shown).line_start(line).path(&self.text.name).annotation(annotation));
        } else {
            let (line, column) = self.position();
            group = group.element(Level::NOTE.message(format!("at {}:{line}:{column}", self.text.name)));
        }
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        Renderer::styled().render(&[group])
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (line, column) = self.position();
        write!(f, "{}:{line}:{column}: {}: {}", self.text.name, self.code.name(), self.message)
    }
}

/// Names that a misspelt one is compared with.
const MAX_CANDIDATES: usize = 1000;

/// The known name that a misspelt one was probably meant to be.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let most = (name.chars().count() / 3).clamp(1, 3);
    known
        .into_iter()
        .filter(|candidate| candidate.len().abs_diff(name.len()) <= most)
        .take(MAX_CANDIDATES)
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= most)
        .min()
        .map(|(_, candidate)| format!("did you mean `{candidate}`?"))
}

/// Edits between two short texts; long ones are far from everything.
fn distance(a: &str, b: &str) -> usize {
    const MAX: usize = 64;
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(MAX).collect(), b.chars().take(MAX).collect());
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (cell, y) in row.iter_mut().skip(1).zip(&b) {
            let replaced = diagonal + usize::from(x != y);
            diagonal = *cell;
            left = replaced.min(*cell + 1).min(left + 1);
            *cell = left;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_name_is_guessed_and_a_strange_one_is_not() {
        assert_eq!(nearest("proc.nmae", ["proc.name", "proc.pid"]).as_deref(), Some("did you mean `proc.name`?"));
        assert_eq!(nearest("something", ["proc.name"]), None);
    }

    #[test]
    fn positions_count_characters_from_one() {
        let text = Arc::new(Text { name: "r.yaml".into(), text: "a\nü b\n".into() });
        let diagnostic = Diagnostic::new(Code::Validate, &text, 5..6, "x");
        assert_eq!(diagnostic.position(), (2, 3));
        assert_eq!(diagnostic.to_string(), "r.yaml:2:3: LOAD_ERR_VALIDATE: x");
    }

    #[test]
    fn spans_outside_of_the_text_do_not_panic() {
        let text = Arc::new(Text { name: "r".into(), text: "ü".into() });
        for span in [0..0, 1..1, 0..99, 50..60] {
            Diagnostic::new(Code::Validate, &text, span, "x").render();
        }
    }
}
