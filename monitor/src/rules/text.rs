//! Text that is put together from pieces of files, and where each piece was written.
//!
//! What is compiled is seldom what the user wrote in one place: conditions are appended to, exceptions become conditions,
//! lists are put in. An error in the outcome is shown where the user wrote the piece that is wrong.

use std::{borrow::Cow, ops::Range, sync::Arc};

use super::{
    diagnostic::{Code, Diagnostic, Text},
    yaml::Scalar,
};

/// Text made of pieces.
#[derive(Clone, Debug, Default)]
pub(super) struct Composed {
    text: String,
    /// By where they start; the first starts at 0.
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug)]
struct Piece {
    start: usize,
    origin: Origin,
}

/// Where a piece comes from.
#[derive(Clone, Debug)]
pub(super) enum Origin {
    /// From a scalar of a file: its text from some byte on.
    Scalar(Arc<Scalar>, Arc<Text>, usize),
    /// Made for what stands here.
    Place(Arc<Text>, Range<usize>),
}

impl Origin {
    /// The whole of a scalar as one place.
    pub(super) fn of(scalar: &Scalar, text: &Arc<Text>) -> Self {
        Origin::Place(Arc::clone(text), scalar.span.clone())
    }

    fn place(&self, range: Range<usize>) -> (&Arc<Text>, Range<usize>) {
        match self {
            Origin::Scalar(scalar, text, from) => (text, scalar.place(range.start + from..range.end + from)),
            Origin::Place(text, span) => (text, span.clone()),
        }
    }

    fn from(&self, bytes: usize) -> Self {
        match self {
            Origin::Scalar(scalar, text, from) => Origin::Scalar(Arc::clone(scalar), Arc::clone(text), from + bytes),
            Origin::Place(..) => self.clone(),
        }
    }
}

impl Composed {
    /// A scalar as it is.
    pub(super) fn new(scalar: Scalar, text: &Arc<Text>) -> Self {
        let mut composed = Self::default();
        let written = scalar.text.clone();
        composed.push(&written, Origin::Scalar(Arc::new(scalar), Arc::clone(text), 0));
        composed
    }

    /// The text.
    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// Adds a piece.
    pub(super) fn push(&mut self, text: &str, origin: Origin) {
        if !text.is_empty() {
            self.pieces.push(Piece { start: self.text.len(), origin });
            self.text.push_str(text);
        }
    }

    /// Without white space at both ends.
    pub(super) fn trimmed(&self) -> Self {
        let start = self.text.len() - self.text.trim_start().len();
        let mut trimmed = Self::default();
        trimmed.extend_from(self, start..self.text.trim_end().len().max(start));
        trimmed
    }

    /// Adds a copy of other text.
    pub(super) fn extend(&mut self, other: &Composed) {
        self.extend_from(other, 0..other.text.len());
    }

    fn extend_from(&mut self, other: &Composed, range: Range<usize>) {
        let mut at = range.start;
        let first = other.piece(at);
        for (index, piece) in other.pieces.iter().enumerate().skip(first) {
            let end = other.pieces.get(index + 1).map_or(other.text.len(), |next| next.start).min(range.end);
            if at >= end {
                break;
            }
            self.push(other.text.get(at..end).unwrap_or_default(), piece.origin.from(at - piece.start));
            at = end;
        }
    }

    /// Index of the piece that a byte belongs to.
    fn piece(&self, at: usize) -> usize {
        self.pieces.partition_point(|piece| piece.start <= at).saturating_sub(1)
    }

    /// Where a range of it was written.
    pub(super) fn place(&self, range: &Range<usize>) -> (Arc<Text>, Range<usize>) {
        let (first, last) = (self.piece(range.start), self.piece(range.end.saturating_sub(1).max(range.start)));
        let part = |index: usize| {
            let piece = self.pieces.get(index)?;
            let end = self.pieces.get(index + 1).map_or(usize::MAX, |next| next.start);
            let start = range.start.max(piece.start) - piece.start;
            Some(piece.origin.place(start..range.end.min(end).max(piece.start) - piece.start))
        };
        match (part(first), part(last)) {
            (Some((text, start)), Some((other, end))) if Arc::ptr_eq(text, other) && start.start <= end.end => {
                (Arc::clone(text), start.start..end.end)
            }
            (Some((text, span)), _) => (Arc::clone(text), span),
            (None, _) => (Arc::new(Text { name: String::new(), text: String::new() }), 0..0),
        }
    }

    /// A problem with a range of it.
    pub(super) fn problem(&self, code: Code, range: &Range<usize>, message: impl Into<String>) -> Diagnostic {
        let (text, span) = self.place(range);
        Diagnostic::new(code, &text, span, message)
    }

    /// Puts in lists, as Falco does it: textually. A word between blanks, parentheses, commas and equal signs that names a
    /// list is replaced by its items, also within quotes; with the blanks around it. `items` gives a list's items.
    pub(super) fn with_lists<'a>(&self, items: &mut dyn FnMut(&str) -> Option<&'a str>) -> Cow<'_, Self> {
        let mut expanded: Option<Composed> = None;
        let mut copied = 0;
        for word in words(&self.text) {
            let Some(replacement) = self.text.get(word.clone()).and_then(&mut *items) else { continue };
            let (text, span) = self.place(&word);
            let into = expanded.get_or_insert_default();
            let mut end = word.end + leading_blanks(self.text.get(word.end..).unwrap_or_default());
            into.extend_from(self, copied..word.start);
            into.truncate(into.text.trim_end_matches(BLANKS).len());
            if replacement.is_empty() {
                // An empty list takes the comma along.
                if into.text.ends_with(',') {
                    into.truncate(into.text.len() - 1);
                } else if self.text.get(end..).unwrap_or_default().starts_with(',') {
                    end += 1;
                }
            }
            let origin = Origin::Place(text, span);
            if !into.text.is_empty() {
                into.push(" ", origin.clone());
            }
            into.push(replacement, origin.clone());
            into.push(" ", origin);
            copied = end;
        }
        match expanded {
            None => Cow::Borrowed(self),
            Some(mut into) => {
                into.extend_from(self, copied..self.text.len());
                Cow::Owned(into)
            }
        }
    }

    fn truncate(&mut self, len: usize) {
        self.text.truncate(len);
        let kept = self.pieces.partition_point(|piece| piece.start < len);
        self.pieces.truncate(kept);
    }
}

const BLANKS: [char; 4] = [' ', '\t', '\n', '\r'];

fn leading_blanks(text: &str) -> usize {
    text.len() - text.trim_start_matches(BLANKS).len()
}

/// Ranges of the words that could name a list.
fn words(text: &str) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    text.split(|c: char| BLANKS.contains(&c) || "(),=".contains(c)).filter_map(move |word| {
        let range = at..at + word.len();
        // All delimiters are one byte.
        at = range.end + 1;
        (!word.is_empty()).then_some(range)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn composed(text: &str) -> Composed {
        let file = Arc::new(Text { name: "f".into(), text: text.into() });
        Composed::new(Scalar::whole(text), &file)
    }

    fn expand(text: &str) -> String {
        let lists = |name: &str| match name {
            "shells" => Some("bash, sh"),
            "none" => Some(""),
            _ => None,
        };
        composed(text).with_lists(&mut { lists }).as_str().to_owned()
    }

    #[test]
    fn lists_are_put_in_where_their_name_stands_alone() {
        for (text, expected) in [
            ("proc.name in (shells)", "proc.name in ( bash, sh )"),
            ("proc.name in (a, shells, b)", "proc.name in (a, bash, sh , b)"),
            ("proc.name in (a,none)", "proc.name in (a  )"),
            ("proc.name in (none, a)", "proc.name in (   a)"),
            ("proc.name = my_shells", "proc.name = my_shells"),
            ("proc.name=shells", "proc.name= bash, sh "),
            ("shells", "bash, sh "),
            ("x = \"a shells b\"", "x = \"a bash, sh b\""),
            ("x = \"shells\"", "x = \"shells\""),
        ] {
            assert_eq!(expand(text), expected, "{text}");
        }
    }

    #[test]
    fn places_lead_to_where_each_piece_was_written() {
        let lists = |name: &str| (name == "shells").then_some("bash, sh");
        let one = composed("proc.name in (shells) or x");
        let text = one.with_lists(&mut { lists });
        let at = |part: &str| {
            let start = text.as_str().find(part).unwrap();
            text.place(&(start..start + part.len())).1
        };
        assert_eq!(at("in"), 10..12);
        assert_eq!(at("bash"), 14..20, "what a list brought is where its name stands");
        assert_eq!(at("x"), 25..26);
        let mut both = one.clone();
        both.push(" ", Origin::Place(Arc::new(Text { name: "g".into(), text: "abc".into() }), 1..2));
        assert_eq!(both.place(&(26..27)).1, 1..2);
    }
}
