//! `fnmatch(3)` without flags: `*` and `?` match any byte, `[…]` a class, `\` takes the next byte as it is.

/// Whether the whole text matches the pattern. Linear in practice, quadratic at worst: one star is retried at a time.
pub fn matches(pattern: &[u8], text: &[u8], ignore_case: bool) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        let step = match pattern.get(p) {
            Some(b'*') => {
                retry = Some((p + 1, t));
                p += 1;
                continue;
            }
            Some(_) => one(pattern, p, text.get(t).copied().unwrap_or(0), ignore_case),
            None => None,
        };
        match (step, retry) {
            (Some(next), _) => (p, t) = (next, t + 1),
            (None, Some((star, from))) => {
                (p, t) = (star, from + 1);
                retry = Some((star, from + 1));
            }
            (None, None) => return false,
        }
    }
    pattern.get(p..).unwrap_or_default().iter().all(|byte| *byte == b'*')
}

/// Matches one byte; returns the pattern's next position.
fn one(pattern: &[u8], at: usize, byte: u8, ignore_case: bool) -> Option<usize> {
    let same = |a: u8, b: u8| if ignore_case { a.eq_ignore_ascii_case(&b) } else { a == b };
    match *pattern.get(at)? {
        b'?' => Some(at + 1),
        b'[' => match class(pattern, at + 1, byte, ignore_case) {
            Some((true, next)) => Some(next),
            Some((false, _)) => None,
            // Without an end it is an ordinary byte.
            None => same(b'[', byte).then_some(at + 1),
        },
        b'\\' => match pattern.get(at + 1) {
            Some(escaped) => same(*escaped, byte).then_some(at + 2),
            None => (byte == b'\\').then_some(at + 1),
        },
        literal => same(literal, byte).then_some(at + 1),
    }
}

/// Whether a byte is in the class that begins here, and where the pattern goes on.
fn class(pattern: &[u8], mut at: usize, byte: u8, ignore_case: bool) -> Option<(bool, usize)> {
    let negated = matches!(pattern.get(at), Some(b'!' | b'^'));
    at += usize::from(negated);
    let byte = if ignore_case { byte.to_ascii_lowercase() } else { byte };
    let fold = |b: u8| if ignore_case { b.to_ascii_lowercase() } else { b };
    let mut found = false;
    let first = at;
    loop {
        let low = *pattern.get(at)?;
        if low == b']' && at > first {
            return Some((found != negated, at + 1));
        }
        if let Some((name, len)) = named(pattern.get(at..)?) {
            found |= is_in(name, byte) || ignore_case && is_in(name, byte.to_ascii_uppercase());
            at += len;
            continue;
        }
        let (low, next) = literal(pattern, at)?;
        match (pattern.get(next), pattern.get(next + 1)) {
            (Some(b'-'), Some(high)) if *high != b']' => {
                let (high, next) = literal(pattern, next + 1)?;
                found |= (fold(low)..=fold(high)).contains(&byte);
                at = next;
            }
            _ => {
                found |= fold(low) == byte;
                at = next;
            }
        }
    }
}

/// A byte of a class, which may be escaped, and where the pattern goes on.
fn literal(pattern: &[u8], at: usize) -> Option<(u8, usize)> {
    match pattern.get(at)? {
        b'\\' => pattern.get(at + 1).map(|escaped| (*escaped, at + 2)),
        byte => Some((*byte, at + 1)),
    }
}

/// The name in `[:name:]` and the length of that.
fn named(pattern: &[u8]) -> Option<(&[u8], usize)> {
    let rest = pattern.strip_prefix(b"[:")?;
    let len = rest.windows(2).position(|pair| pair == b":]")?;
    Some((rest.get(..len)?, len + 4))
}

/// POSIX character classes of ASCII.
fn is_in(class: &[u8], byte: u8) -> bool {
    match class {
        b"alpha" => byte.is_ascii_alphabetic(),
        b"digit" => byte.is_ascii_digit(),
        b"alnum" => byte.is_ascii_alphanumeric(),
        b"upper" => byte.is_ascii_uppercase(),
        b"lower" => byte.is_ascii_lowercase(),
        b"space" => byte.is_ascii_whitespace() || byte == 0xb,
        b"blank" => matches!(byte, b' ' | b'\t'),
        b"punct" => byte.is_ascii_punctuation(),
        b"print" => byte.is_ascii_graphic() || byte == b' ',
        b"graph" => byte.is_ascii_graphic(),
        b"cntrl" => byte.is_ascii_control(),
        b"xdigit" => byte.is_ascii_hexdigit(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_match_as_fnmatch_says() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("*.sh", "/a/b.sh", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("[]]", "]", true),
            ("[a", "[a", true),
            ("a\\*", "a*", true),
            ("a\\*", "ab", false),
            ("[[:alpha:]]x", "bx", true),
            ("[![:digit:]]", "4", false),
            ("[a\\]]x", "]x", true),
            ("[[:nonsense:]]", "n", false),
            ("*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaac", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes(), false), expected, "{pattern} {text}");
        }
        assert!(matches(b"*.SH", b"x.sh", true));
    }
}
