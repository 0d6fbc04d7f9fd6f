//! The smallest parts of conditions: words, numbers, quoted strings, and what separates them.

use super::{Parsed, Parser, SyntaxError, Word};
use std::ops::Range;

impl<'a> Parser<'a> {
    pub(super) fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    pub(super) fn blanks(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches(is_blank).len();
    }

    /// A problem with the character that comes next.
    pub(super) fn error(&self, message: impl Into<String>) -> SyntaxError {
        let len = self.rest().chars().next().map_or(0, char::len_utf8);
        self.error_at(self.at..self.at + len, message)
    }

    #[expect(clippy::unused_self, reason = "reads as the other one")]
    pub(super) fn error_at(&self, span: Range<usize>, message: impl Into<String>) -> SyntaxError {
        SyntaxError { message: message.into(), help: None, span }
    }

    /// Takes a keyword, if a blank or a parenthesis follows.
    pub(super) fn keyword(&mut self, keyword: &str) -> bool {
        self.blanks();
        let follows = self.rest().strip_prefix(keyword);
        let taken = follows.is_some_and(|rest| rest.is_empty() || rest.starts_with(|c| is_blank(c) || c == '('));
        if taken {
            self.at += keyword.len();
        }
        taken
    }

    /// Takes a text, if it is next.
    pub(super) fn token(&mut self, token: &str) -> bool {
        let is_next = self.rest().starts_with(token);
        if is_next {
            self.at += token.len();
        }
        is_next
    }

    /// `0x` and digits, or digits with a sign, a point, an exponent.
    pub(super) fn number(&mut self) -> Option<Word> {
        let rest = self.rest().as_bytes();
        let digits = |from: usize, is_digit: fn(&u8) -> bool| {
            rest.get(from..).unwrap_or_default().iter().take_while(|byte| is_digit(byte)).count()
        };
        let hexadecimal = match rest {
            [b'0', b'x' | b'X', ..] => digits(2, u8::is_ascii_hexdigit),
            _ => 0,
        };
        let mut len = if hexadecimal > 0 { 2 + hexadecimal } else { 0 };
        if len == 0 {
            let sign = usize::from(matches!(rest.first(), Some(b'+' | b'-')));
            let whole = digits(sign, u8::is_ascii_digit);
            if whole == 0 {
                return None;
            }
            len = sign + whole;
            if rest.get(len) == Some(&b'.') {
                len += 1 + digits(len + 1, u8::is_ascii_digit);
            }
            if let (Some(b'e' | b'E'), Some(b'+' | b'-')) = (rest.get(len), rest.get(len + 1)) {
                let exponent = digits(len + 2, u8::is_ascii_digit);
                len += if exponent > 0 { 2 + exponent } else { 0 };
            }
        }
        let span = self.at..self.at + len;
        self.at = span.end;
        Some(Word { text: self.text.get(span.clone()).unwrap_or_default().to_owned(), span })
    }

    pub(super) fn take(&mut self, wanted: impl Fn(char) -> bool) -> Word {
        let rest = self.rest();
        let len = rest.find(|c| !wanted(c)).unwrap_or(rest.len());
        let span = self.at..self.at + len;
        self.at += len;
        Word { text: rest.get(..len).unwrap_or_default().to_owned(), span }
    }

    pub(super) fn quoted(&mut self) -> Parsed<Word> {
        let start = self.at;
        let mut characters = self.rest().char_indices();
        let quote = characters.next().map_or('"', |(_, quote)| quote);
        let mut text = String::new();
        while let Some((at, c)) = characters.next() {
            if c == quote {
                self.at = start + at + 1;
                return Ok(Word { text, span: start..self.at });
            }
            if c != '\\' {
                text.push(c);
                continue;
            }
            match characters.next().map(|(_, escaped)| escaped) {
                Some('b') => text.push('\u{8}'),
                Some('f') => text.push('\u{c}'),
                Some('n') => text.push('\n'),
                Some('r') => text.push('\r'),
                Some('t') => text.push('\t'),
                Some(same @ ('\\' | '/')) => text.push(same),
                Some(same) if same == quote => text.push(same),
                // As Falco does, for rules of before there were escapes.
                Some(' ') => text.push('\\'),
                escaped => {
                    let place = start + at;
                    let shown = escaped.map(String::from).unwrap_or_default();
                    let message = format!("unsupported string escape sequence `\\{shown}`");
                    let help = Some("write `\\\\` for a backslash".into());
                    return Err(SyntaxError { help, ..self.error_at(place..place + 1 + shown.len(), message) });
                }
            }
        }
        Err(self.error_at(start..start + 1, "this string is not closed"))
    }
}

pub(super) fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// What separates the parts of a condition.
pub(super) fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\u{8}')
}

/// What ends a bare value: blanks, and what POSIX calls space.
pub(super) fn is_blank_or_space(c: char) -> bool {
    is_blank(c) || matches!(c, '\u{b}' | '\u{c}')
}
