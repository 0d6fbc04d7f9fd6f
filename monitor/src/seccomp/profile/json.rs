//! JSON that knows where it stands in its text, so that what is wrong with a profile can be shown.
//!
//! `serde_json` finds where a value begins and ends and checks its syntax, however deep it is nested; here a value is opened when
//! it is asked for. Nothing is kept of values that are not, so that a hostile text costs no more memory than its own length.

use std::{borrow::Cow, fmt, ops::Range};

use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// A value, and where it stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Json<'a> {
    text: &'a str,
    raw: &'a RawValue,
}

/// A member of an object.
pub(super) type Member<'a> = (Cow<'a, str>, Json<'a>);

/// A problem with the text itself: where, and what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Misplaced {
    pub(super) span: Range<usize>,
    pub(super) message: String,
}

impl<'a> Json<'a> {
    /// The whole text; an error where it is not JSON.
    pub(super) fn parse(text: &'a str) -> Result<Self, Misplaced> {
        let broken = |error: serde_json::Error| {
            let at = offset(text, error.line(), error.column());
            let message = error.to_string();
            let message = message.split(" at line ").next().unwrap_or_default().to_owned();
            Misplaced { span: at..at + 1, message: format!("not JSON: {message}") }
        };
        serde_json::from_str::<IgnoredAny>(text).map_err(broken)?;
        let raw = serde_json::from_str::<&RawValue>(text).map_err(broken)?;
        Ok(Self { text, raw })
    }

    /// Where it stands.
    pub(super) fn span(&self) -> Range<usize> {
        // Both are pieces of one text.
        let start = self.raw.get().as_ptr().addr().saturating_sub(self.text.as_ptr().addr());
        start..start + self.raw.get().len()
    }

    fn read<T: Deserialize<'a>>(&self, expected: &str) -> Result<T, Misplaced> {
        serde_json::from_str(self.raw.get())
            .map_err(|_| Misplaced { span: self.span(), message: format!("this must be {expected}") })
    }

    /// Whether it is `null`, which Go takes as not written at all.
    pub(super) fn is_null(&self) -> bool {
        self.raw.get() == "null"
    }

    /// A string.
    pub(super) fn string(&self) -> Result<Cow<'a, str>, Misplaced> {
        self.read::<Text<'a>>("a string").map(|text| text.0)
    }

    /// A number from 0 to 2^64 - 1.
    pub(super) fn number(&self) -> Result<u64, Misplaced> {
        self.read("a whole number from 0 to 18446744073709551615")
    }

    /// The elements of a list; none where it is `null`.
    pub(super) fn list(&self) -> Result<Vec<Json<'a>>, Misplaced> {
        if self.is_null() {
            return Ok(Vec::new());
        }
        let raws = self.read::<Vec<&'a RawValue>>("a list")?;
        Ok(raws.into_iter().map(|raw| Json { text: self.text, raw }).collect())
    }

    /// The members of an object, as written; none where it is `null`.
    pub(super) fn members(&self) -> Result<Vec<Member<'a>>, Misplaced> {
        if self.is_null() {
            return Ok(Vec::new());
        }
        let members = self.read::<Members<'a>>("an object")?;
        Ok(members.0.into_iter().map(|(key, raw)| (key, Json { text: self.text, raw })).collect())
    }
}

/// Byte of a line and column, both from 1, as `serde_json` counts them.
fn offset(text: &str, line: usize, column: usize) -> usize {
    let before = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum::<usize>();
    (before + column.saturating_sub(1)).min(text.len())
}

/// A string that is borrowed where it has no escapes.
struct Text<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Read)
    }
}

/// Members in the order in which they are written, repeated ones included.
struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(Text(key)) = map.next_key()? {
                    members.push((key, map.next_value()?));
                }
                Ok(Members(members))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<Self::Value, A::Error> {
                Err(A::Error::custom("a list"))
            }
        }
        deserializer.deserialize_map(Read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_know_where_they_stand() {
        let text = "{ \"a\": [1, \"\\u0062\"],\n\t\"c\": null }";
        let members = Json::parse(text).unwrap().members().unwrap();
        let (key, list) = &members[0];
        assert_eq!((&**key, &text[list.span()]), ("a", "[1, \"\\u0062\"]"));
        let list = list.list().unwrap();
        assert_eq!((list[0].number(), &*list[1].string().unwrap()), (Ok(1), "b"));
        assert_eq!(&text[list[1].span()], "\"\\u0062\"");
        assert!(members[1].1.is_null() && members[1].1.list().unwrap().is_empty());
    }

    #[test]
    fn what_is_no_json_says_where() {
        let error = Json::parse("{\n  \"a\": ?\n}").unwrap_err();
        assert_eq!((error.span.start, error.message.as_str()), (9, "not JSON: expected value"));
        assert!(Json::parse("").is_err() && Json::parse("{} {}").is_err());
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(Json::parse(&deep).unwrap().list().unwrap().len(), 1, "depth costs no stack");
    }

    #[test]
    fn the_wrong_kind_of_value_is_an_error_at_its_place() {
        let text = "[-1, 1.5, {}]";
        let list = Json::parse(text).unwrap().list().unwrap();
        assert_eq!(list[0].number().unwrap_err().span, 1..3);
        assert!(list[1].number().is_err() && list[2].string().is_err() && list[2].list().is_err());
    }
}
