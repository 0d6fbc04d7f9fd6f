//! Checks on tokens, which see into macros and skip comments and strings: `unsafe` and `#[allow]`.

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use super::{Finding, source::Source};

/// Where `unsafe` may stand: the kernel side, the part of the agent that talks to it, and tests.
const UNSAFE_PLACES: &[&str] = &["monitor-ebpf/", "monitor/src/sensor/", "tests/"];

pub(super) fn check(source: &Source<'_>) -> Vec<Finding> {
    // The tree was parsed from this text, so it has tokens.
    let tokens: TokenStream = source.file.text.parse().unwrap_or_default();
    let mut findings = Vec::new();
    let unsafe_is_fine = UNSAFE_PLACES.iter().any(|place| source.file.path.starts_with(place));
    walk(tokens, &mut |rest| {
        if let [TokenTree::Ident(word), ..] = rest
            && word == "unsafe"
            && !unsafe_is_fine
        {
            let text = format!("`unsafe` outside {}: use a safe interface", UNSAFE_PLACES.join(", "));
            findings.push(source.file.finding(word.span().start().line, text));
        }
        if let Some(attribute) = attribute(rest)
            && attribute.to_string() == "allow"
        {
            let text = "an `allow` attribute: write `expect(lint, reason = \"…\")`, which ends when its cause does";
            findings.push(source.file.finding(attribute.span().start().line, text));
        }
    });
    findings
}

/// The first word of the `#[…]` or `#![…]` that these tokens begin with.
fn attribute(tokens: &[TokenTree]) -> Option<TokenTree> {
    let (TokenTree::Punct(mark), rest) = tokens.split_first()? else { return None };
    let rest = match rest {
        [TokenTree::Punct(inner), rest @ ..] if inner.as_char() == '!' => rest,
        rest => rest,
    };
    match rest.first()? {
        TokenTree::Group(group) if mark.as_char() == '#' && group.delimiter() == Delimiter::Bracket => {
            group.stream().into_iter().next()
        }
        _ => None,
    }
}

/// Shows the rest of the tokens from every one of them on, at every depth.
fn walk(tokens: TokenStream, visit: &mut impl FnMut(&[TokenTree])) {
    let tokens: Vec<_> = tokens.into_iter().collect();
    let mut rest = &tokens[..];
    while let [first, after @ ..] = rest {
        visit(rest);
        if let TokenTree::Group(group) = first {
            walk(group.stream(), visit);
        }
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::{super::sample, *};

    fn lines(path: &str, text: &str) -> Vec<usize> {
        check(&Source::parse(&sample(path, text)).unwrap()).into_iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn unsafe_is_found_outside_its_places() {
        let text = "// unsafe\nfn a() {\n    let _ = \"unsafe\";\n    unsafe {}\n    m!(unsafe {});\n}\n";
        assert_eq!(lines("monitor/src/decode.rs", text), [4, 5]);
        assert_eq!(lines("monitor/src/sensor/ring.rs", text), [0; 0]);
        assert_eq!(lines("monitor-ebpf/src/main.rs", text), [0; 0]);
    }

    #[test]
    fn an_allow_attribute_is_found_with_and_without_reason() {
        let text = "#![allow(dead_code)]\n#[allow(unused, reason = \"x\")]\nfn allow() {\n    allow(vec![allow]);\n}\n";
        assert_eq!(lines("a.rs", text), [1, 2]);
        assert_eq!(lines("a.rs", "#[expect(dead_code, reason = \"x\")]\nfn a() {}\n"), [0; 0]);
    }
}
