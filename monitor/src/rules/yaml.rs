//! Rule files as YAML trees in which every scalar knows where each of its bytes came from.
//!
//! Folding, indentation and quoting change white space only, so a scalar's text and its source are aligned by their other
//! characters; an error in a condition is shown where the user wrote it.

use std::{ops::Range, sync::Arc};

use granit_parser::{Event, Parser, ScalarStyle};
use hashbrown::HashMap;

use super::diagnostic::{Code, Diagnostic, Text};

/// Nesting of a rule file; real ones have five levels.
const MAX_DEPTH: usize = 32;
/// Keys of one mapping; a rule has some fifteen.
const MAX_KEYS: usize = 64;
/// Nodes of a rule file.
const MAX_NODES: usize = 2_000_000;
/// Nodes that anchors and aliases may copy.
const MAX_COPIED: usize = 100_000;

/// A node.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) span: Range<usize>,
}

/// What a node is.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Scalar(Scalar),
    Sequence(Vec<Node>),
    Mapping(Vec<(Scalar, Node)>),
}

impl Node {
    /// Whether there is nothing: an empty item, `~` or `null`.
    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar(scalar) if scalar.is_null())
    }

    /// Whether there is nothing, or an empty text.
    pub(crate) fn is_empty(&self) -> bool {
        self.is_null() || matches!(&self.value, Value::Scalar(scalar) if scalar.text.is_empty())
    }
}

/// A scalar and the place of each of its bytes.
#[derive(Clone, Debug)]
pub(crate) struct Scalar {
    pub(crate) text: String,
    pub(crate) span: Range<usize>,
    /// Without quotes.
    plain: bool,
    places: Vec<u32>,
}

impl Scalar {
    /// Whether it stands for nothing.
    pub(crate) fn is_null(&self) -> bool {
        self.plain && matches!(&*self.text, "" | "~" | "null" | "Null" | "NULL")
    }

    /// A scalar that is its own source: a condition from the command line.
    pub(crate) fn whole(text: &str) -> Self {
        let places = (0..=text.len()).filter_map(|at| u32::try_from(at).ok()).collect();
        Self { text: text.to_owned(), span: 0..text.len(), plain: false, places }
    }

    fn new(text: String, span: Range<usize>, plain: bool, source: &str) -> Self {
        let places = align(&text, span.clone(), source);
        Self { text, span, plain, places }
    }

    /// Where a range of the scalar's text is in the file.
    pub(crate) fn place(&self, range: Range<usize>) -> Range<usize> {
        let place = |at: usize| self.places.get(at).map_or(self.span.end, |place| *place as usize);
        let start = place(range.start);
        let end = match range.end.checked_sub(1) {
            Some(last) if range.end > range.start => place(last) + 1,
            _ => start,
        };
        start..end.max(start)
    }
}

/// Place of each byte of a scalar's text: both are walked in step; white space, which folding and indentation change, is
/// passed over on either side.
fn align(text: &str, span: Range<usize>, source: &str) -> Vec<u32> {
    let source = source.as_bytes().get(..span.end).unwrap_or(source.as_bytes());
    let (mut at, style) = match source.get(span.start) {
        // The indicator line of a block scalar is not content.
        Some(b'|' | b'>') => {
            let line = source.get(span.start..).and_then(|rest| rest.iter().position(|byte| *byte == b'\n'));
            (span.start + line.map_or(0, |line| line + 1), Style::Verbatim)
        }
        Some(b'"') => (span.start + 1, Style::DoubleQuoted),
        Some(b'\'') => (span.start + 1, Style::SingleQuoted),
        _ => (span.start, Style::Verbatim),
    };
    let mut places = Vec::with_capacity(text.len() + 1);
    let place = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
    for c in text.chars() {
        let blank = c.is_ascii_whitespace();
        while !blank && source.get(at).is_some_and(u8::is_ascii_whitespace) {
            at += 1;
        }
        let unit = style.unit(source.get(at..).unwrap_or_default(), c);
        // A line feed that folding made has no counterpart: the character behind it is still to come.
        let folded = blank && unit == 1 && !source.get(at).is_some_and(u8::is_ascii_whitespace);
        for byte in 0..c.len_utf8() {
            places.push(place(at + if unit == c.len_utf8() { byte } else { 0 }));
        }
        at = (at + if folded { 0 } else { unit }).min(span.end);
    }
    places.push(place(at));
    places
}

/// How a scalar is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    /// As it is, but for white space.
    Verbatim,
    /// A quote is doubled.
    SingleQuoted,
    /// With escapes.
    DoubleQuoted,
}

impl Style {
    /// Bytes of source that stand for a character: YAML 1.2, 5.7 and 7.3.
    fn unit(self, source: &[u8], c: char) -> usize {
        match (self, source) {
            (Self::DoubleQuoted, [b'\\', b'x', ..]) => 4,
            (Self::DoubleQuoted, [b'\\', b'u', ..]) => 6,
            (Self::DoubleQuoted, [b'\\', b'U', ..]) => 10,
            (Self::DoubleQuoted, [b'\\', ..]) | (Self::SingleQuoted, [b'\'', b'\'', ..]) => 2,
            _ => c.len_utf8(),
        }
    }
}

/// Parses a file into the nodes of its documents. What is odd but can be read goes to `diagnostics`.
pub(crate) fn parse(text: &Arc<Text>, diagnostics: &mut Vec<Diagnostic>) -> Result<Vec<Node>, Diagnostic> {
    let mut builder = Builder {
        text,
        diagnostics,
        stack: Vec::new(),
        documents: Vec::new(),
        anchors: HashMap::new(),
        nodes: 0,
        copied: 0,
    };
    let mut parser = Parser::new_from_str(&text.text);
    while let Some(next) = parser.next_event() {
        match next {
            Ok((event, span)) => builder.event(event, span.byte_range().unwrap_or(0..0))?,
            Err(error) => {
                let at = error.marker().byte_offset().unwrap_or(0);
                return Err(Diagnostic::new(Code::YamlParse, text, at..at + 1, error.to_string()));
            }
        }
    }
    Ok(builder.documents)
}

/// A collection that is not complete yet: its start and its anchor.
struct Open {
    kind: OpenKind,
    start: usize,
    anchor: usize,
}

enum OpenKind {
    Sequence(Vec<Node>),
    Mapping(Vec<(Scalar, Node)>, Option<Scalar>),
}

struct Builder<'a> {
    text: &'a Arc<Text>,
    diagnostics: &'a mut Vec<Diagnostic>,
    stack: Vec<Open>,
    documents: Vec<Node>,
    /// Nodes that an alias can name.
    anchors: HashMap<usize, Node>,
    nodes: usize,
    /// Nodes that aliases brought.
    copied: usize,
}

impl Builder<'_> {
    fn event(&mut self, event: Event<'_>, span: Range<usize>) -> Result<(), Diagnostic> {
        let refuse = |message: &str| Err(Diagnostic::new(Code::YamlValidate, self.text, span.clone(), message));
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return refuse("the file has too many items");
        }
        match event {
            Event::Scalar(value, style, anchor, _) => {
                let plain = style == ScalarStyle::Plain;
                let scalar = Scalar::new(value.into_owned(), span.clone(), plain, &self.text.text);
                self.add(Node { value: Value::Scalar(scalar), span }, anchor)
            }
            Event::SequenceStart(..) | Event::MappingStart(..) if self.stack.len() >= MAX_DEPTH => {
                refuse("the file is nested too deeply")
            }
            Event::SequenceStart(_, anchor, _) => {
                self.stack.push(Open { kind: OpenKind::Sequence(Vec::new()), start: span.start, anchor });
                Ok(())
            }
            Event::MappingStart(_, anchor, _) => {
                self.stack.push(Open { kind: OpenKind::Mapping(Vec::new(), None), start: span.start, anchor });
                Ok(())
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(Open { kind, start, anchor }) = self.stack.pop() else { return Ok(()) };
                let value = match kind {
                    OpenKind::Sequence(items) => Value::Sequence(items),
                    OpenKind::Mapping(entries, _) => Value::Mapping(entries),
                };
                self.add(Node { value, span: start..span.end.max(start) }, anchor)
            }
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor) else { return refuse("this alias names nothing before it") };
                // Against aliases of aliases of aliases.
                self.copied += size(node);
                if self.copied > MAX_COPIED {
                    return refuse("aliases make this file too large");
                }
                let node = node.clone();
                self.add(node, 0)
            }
            _ => Ok(()),
        }
    }

    /// Adds a node to what is open; 0 is no anchor.
    fn add(&mut self, node: Node, anchor: usize) -> Result<(), Diagnostic> {
        if anchor > 0 {
            self.copied += size(&node);
            if self.copied > MAX_COPIED {
                let message = "anchors make this file too large";
                return Err(Diagnostic::new(Code::YamlValidate, self.text, node.span, message));
            }
            self.anchors.insert(anchor, node.clone());
        }
        let Some(open) = self.stack.last_mut() else {
            self.documents.push(node);
            return Ok(());
        };
        match &mut open.kind {
            OpenKind::Sequence(items) => items.push(node),
            OpenKind::Mapping(entries, key) => match (key.take(), node) {
                (Some(key), node) if entries.iter().any(|(other, _)| other.text == key.text) => {
                    drop(node);
                    let message = format!("the key `{}` is there twice: the first counts", key.text);
                    self.diagnostics.push(Diagnostic::new(Code::UnknownKey, self.text, key.span, message));
                }
                (Some(key), node) => entries.push((key, node)),
                (None, Node { span, .. }) if entries.len() == MAX_KEYS => {
                    let message = "an item with so many keys is no rule";
                    return Err(Diagnostic::new(Code::YamlValidate, self.text, span, message));
                }
                (None, Node { value: Value::Scalar(scalar), .. }) => *key = Some(scalar),
                (None, Node { span, .. }) => {
                    let message = "a key must be plain text";
                    return Err(Diagnostic::new(Code::YamlValidate, self.text, span, message));
                }
            },
        }
        Ok(())
    }
}

/// Nodes in a node; a long text counts for several.
fn size(node: &Node) -> usize {
    match &node.value {
        Value::Scalar(scalar) => 1 + scalar.text.len() / 64,
        Value::Sequence(items) => 1 + items.iter().map(size).sum::<usize>(),
        Value::Mapping(entries) => 1 + entries.iter().map(|(_, node)| 1 + size(node)).sum::<usize>(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first_scalar(source: &str) -> Scalar {
        let text = Arc::new(Text { name: "t".into(), text: source.into() });
        let nodes = parse(&text, &mut Vec::new()).unwrap();
        let Value::Mapping(entries) = &nodes[0].value else { panic!("{nodes:?}") };
        let Value::Scalar(scalar) = &entries[0].1.value else { panic!("{nodes:?}") };
        scalar.clone()
    }

    #[test]
    fn a_word_is_found_in_the_source_through_every_style() {
        for source in [
            "a: one two three\n",
            "a: 'one two three'\n",
            "a: \"one \\ttwo\\x20three\"\n",
            "a: 'it''s one two three'\n",
            "a: \"\\\"\u{fc}\\u00fc one two\n   three\"\n",
            "a: >\n    one\n    two three\n",
            "a: >-\n  one two\n\n  three\n",
            "a: |\n  one\n  two\n  three\n",
            "a: one\n  two three\n",
        ] {
            let scalar = first_scalar(source);
            for word in ["one", "two", "three"] {
                let at = scalar.text.find(word).unwrap();
                assert_eq!(&source[scalar.place(at..at + word.len())], word, "{source:?}");
            }
        }
    }

    #[test]
    fn aliases_stand_for_what_they_name_and_do_not_explode() {
        let parsed = |source: &str| {
            let text = Arc::new(Text { name: "t".into(), text: source.into() });
            parse(&text, &mut Vec::new())
        };
        let nodes = parsed("- &x [a, b]\n- *x\n").unwrap();
        assert_eq!(size(&nodes[0]), 7);
        let mut bomb = String::from("- &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..12 {
            let names = vec![format!("*a{}", level - 1); 10].join(", ");
            bomb = bomb + "- &a" + &level.to_string() + " [" + &names + "]\n";
        }
        assert_eq!(parsed(&bomb).unwrap_err().code, Code::YamlValidate);
    }

    #[test]
    fn of_a_key_that_is_there_twice_the_first_counts() {
        let text = Arc::new(Text { name: "t".into(), text: "a: 1\na: 2\n".into() });
        let mut diagnostics = Vec::new();
        let nodes = parse(&text, &mut diagnostics).unwrap();
        assert_eq!(diagnostics[0].code, Code::UnknownKey);
        assert!(matches!(&nodes[0].value, Value::Mapping(entries) if entries.len() == 1));
    }
}
