//! Rule files as YAML trees in which every scalar knows where each of its bytes came from.
//!
//! Folding, indentation and quoting change white space only, so a scalar's text and its source are aligned by their other
//! characters; an error in a condition is shown where the user wrote it.

use std::{ops::Range, sync::Arc};

use granit_parser::{Event, Parser};

use super::diagnostic::{Code, Diagnostic, Text};

/// Nesting of a rule file; real ones have five levels.
const MAX_DEPTH: usize = 32;
/// Keys of one mapping; a rule has some fifteen.
const MAX_KEYS: usize = 64;
/// Nodes of a rule file.
const MAX_NODES: usize = 2_000_000;

/// A node.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) span: Range<usize>,
}

/// What a node is.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Scalar(Scalar),
    Sequence(Vec<Node>),
    Mapping(Vec<(Scalar, Node)>),
}

/// A scalar and the place of each of its bytes.
#[derive(Clone, Debug)]
pub(super) struct Scalar {
    pub(super) text: String,
    pub(super) span: Range<usize>,
    places: Vec<u32>,
}

impl Scalar {
    /// A scalar that is its own source: a condition from the command line.
    pub(super) fn whole(text: &str) -> Self {
        let places = (0..=text.len()).filter_map(|at| u32::try_from(at).ok()).collect();
        Self { text: text.to_owned(), span: 0..text.len(), places }
    }

    fn new(text: String, span: Range<usize>, source: &str) -> Self {
        let places = align(&text, span.clone(), source);
        Self { text, span, places }
    }

    /// Where a range of the scalar's text is in the file.
    pub(super) fn place(&self, range: Range<usize>) -> Range<usize> {
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

/// Parses a file into the nodes of its documents.
pub(super) fn parse(text: &Arc<Text>) -> Result<Vec<Node>, Diagnostic> {
    let mut builder = Builder { text, stack: Vec::new(), documents: Vec::new(), nodes: 0 };
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

/// A collection that is not complete yet.
enum Open {
    Sequence(Vec<Node>, usize),
    Mapping(Vec<(Scalar, Node)>, Option<Scalar>, usize),
}

struct Builder<'a> {
    text: &'a Arc<Text>,
    stack: Vec<Open>,
    documents: Vec<Node>,
    nodes: usize,
}

impl Builder<'_> {
    fn event(&mut self, event: Event<'_>, span: Range<usize>) -> Result<(), Diagnostic> {
        let refuse = |message: &str| Err(Diagnostic::new(Code::YamlValidate, self.text, span.clone(), message));
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return refuse("the file has too many items");
        }
        match event {
            Event::Scalar(value, ..) => {
                let scalar = Scalar::new(value.into_owned(), span.clone(), &self.text.text);
                self.scalar(scalar, span)
            }
            Event::SequenceStart(..) | Event::MappingStart(..) if self.stack.len() >= MAX_DEPTH => {
                refuse("the file is nested too deeply")
            }
            Event::SequenceStart(..) => {
                self.stack.push(Open::Sequence(Vec::new(), span.start));
                Ok(())
            }
            Event::MappingStart(..) => {
                self.stack.push(Open::Mapping(Vec::new(), None, span.start));
                Ok(())
            }
            Event::SequenceEnd | Event::MappingEnd => match self.stack.pop() {
                Some(Open::Sequence(items, start)) => {
                    self.add(Node { value: Value::Sequence(items), span: start..span.end.max(start) })
                }
                Some(Open::Mapping(entries, _, start)) => {
                    self.add(Node { value: Value::Mapping(entries), span: start..span.end.max(start) })
                }
                None => Ok(()),
            },
            Event::Alias(_) => refuse("aliases (*name) are not supported in rule files: write the value out"),
            _ => Ok(()),
        }
    }

    fn scalar(&mut self, scalar: Scalar, span: Range<usize>) -> Result<(), Diagnostic> {
        if let Some(Open::Mapping(entries, key @ None, _)) = self.stack.last_mut() {
            if entries.len() == MAX_KEYS {
                return Err(Diagnostic::new(
                    Code::YamlValidate,
                    self.text,
                    span,
                    "an item with so many keys is no rule",
                ));
            }
            if entries.iter().any(|(other, _)| other.text == scalar.text) {
                let message = format!("the key `{}` is there twice", scalar.text);
                return Err(Diagnostic::new(Code::YamlValidate, self.text, span, message));
            }
            *key = Some(scalar);
            return Ok(());
        }
        self.add(Node { value: Value::Scalar(scalar), span })
    }

    fn add(&mut self, node: Node) -> Result<(), Diagnostic> {
        match self.stack.last_mut() {
            None => self.documents.push(node),
            Some(Open::Sequence(items, _)) => items.push(node),
            Some(Open::Mapping(entries, key, _)) => match key.take() {
                Some(key) => entries.push((key, node)),
                None => {
                    let message = "a key must be plain text";
                    return Err(Diagnostic::new(Code::YamlValidate, self.text, node.span, message));
                }
            },
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first_scalar(source: &str) -> Scalar {
        let text = Arc::new(Text { name: "t".into(), text: source.into() });
        let nodes = parse(&text).unwrap();
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
    fn aliases_and_double_keys_are_refused() {
        for source in ["a: &x 1\nb: *x\n", "a: 1\na: 2\n"] {
            let text = Arc::new(Text { name: "t".into(), text: source.into() });
            assert_eq!(parse(&text).unwrap_err().code, Code::YamlValidate, "{source:?}");
        }
    }
}
