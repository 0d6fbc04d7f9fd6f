//! Secrets out of findings: command lines, environments and whatever else quotes them, before anything leaves the flow.
//!
//! A finding is looked at as a whole, so that what is hidden on the terminal is hidden from every consumer, live and in
//! replay alike. A value goes, its name stays: `--password=***` still says what happened. Texts without any of the words
//! that the patterns need are not looked at further.

use std::sync::LazyLock;

use aho_corasick::AhoCorasick;
use regex::{Captures, Regex};

use crate::proto::v1::{Ancestor, Finding, Process, Value, finding::Detail, value};

/// What stands in the place of a secret.
pub const HIDDEN: &str = "***";

/// Words of which one is in every text that a built-in pattern matches; lower case.
const WORDS: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "pwd=",
    "pwd:",
    "pgpassword",
    "secret",
    "token",
    "apikey",
    "api_key",
    "api-key",
    "accesskey",
    "access_key",
    "access-key",
    "accountkey",
    "sharedaccess",
    "sig=",
    "bearer",
    "basic ",
    "authorization",
    "://",
    "private key",
    "akia",
    "asia",
    "ghp_",
    "github_pat_",
    "eyj",
    "credential",
    "mysql",
    "sshpass",
    "curl",
    "--user",
];

/// What is hidden by default: the group `secret`, or all of it.
const PATTERNS: &[(&str, &str)] = &[
    // name=value and name: value, with or without quotes, as options, variables and JSON.
    (
        "assignment",
        r#"(?i)[\w.-]*(?:password|passwd|passphrase|pwd|secret|token|api[_-]?key|access[_-]?key|account[_-]?key|sharedaccesskey|sharedaccesssignature|credentials?)[\w.-]*["']?\s*[=:]\s*(?:"(?<secret>[^"]+)"|'(?<secret2>[^']+)'|(?<secret3>[^\s"'&;,]+))"#,
    ),
    // --password value
    (
        "option",
        r"(?i)(?:^|\s)--?(?:password|passwd|passphrase|pwd|secret|token|api[_-]?key|access[_-]?key|client-secret)\s+(?<secret>[^\s-]\S*)",
    ),
    // The signature of a shared access URL of Azure, and of others; as a word of its own a short one is a signal (`sig=0`).
    ("signature", r"(?i)[?&;]sig=(?<secret>[^&\s;]+)|(?:^|\s)sig=(?<secret2>[^&\s;]{20,})"),
    // Authorization headers.
    ("authorization", r"(?i)\b(?:bearer|basic)\s+(?<secret>[A-Za-z0-9._~+/=-]{8,})"),
    // user:password@host
    ("url", r"(?i)\b[a-z][a-z0-9+.-]*://[^\s/:@]*:(?<secret>[^\s/@]+)@"),
    // curl -u user:password, and what is like it.
    ("user", r"(?i)(?:^|\s)(?:-u|--user)[\s=]+[^\s:]+:(?<secret>\S+)"),
    // mysql -pPASSWORD, sshpass -p PASSWORD
    ("mysql", r"(?i)\bmysql\w*\s(?:.*\s)?-p(?<secret>[^\s-]\S*)"),
    ("sshpass", r"(?i)\bsshpass\s+-p\s*(?<secret>\S+)"),
    // Keys that are known by their form.
    ("aws", r"\b(?<secret>(?:AKIA|ASIA)[A-Z0-9]{16})\b"),
    ("github", r"\b(?<secret>gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,})"),
    ("jwt", r"\b(?<secret>eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+)"),
    ("pem", r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?<secret>[\s\S]*?)(?:-----END|$)"),
];

/// Options whose value is the next argument.
const SECRET_OPTIONS: &str =
    r"(?i)^--?(?:password|passwd|passphrase|pwd|secret|token|api[_-]?key|access[_-]?key|client-secret)$";

/// A pattern that is none.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{pattern:?}: {reason}")]
pub struct PatternError {
    pattern: String,
    reason: String,
}

/// Hides secrets.
#[derive(Clone, Debug)]
pub struct Redactor {
    words: AhoCorasick,
    patterns: Vec<Regex>,
    own: Vec<Regex>,
    options: Regex,
}

/// Compiled once: it takes some milliseconds.
static BUILTIN: LazyLock<Option<Redactor>> = LazyLock::new(|| Redactor::new(&[]).ok());

impl Redactor {
    /// With the built-in patterns alone. `None` only if one of them were wrong, which a test excludes.
    pub fn builtin() -> Option<Self> {
        BUILTIN.clone()
    }

    /// With the built-in patterns and these.
    pub fn new(patterns: &[String]) -> Result<Self, PatternError> {
        const MAX_PATTERNS: usize = 100;
        if patterns.len() > MAX_PATTERNS {
            return Err(PatternError { pattern: String::new(), reason: format!("more than {MAX_PATTERNS}") });
        }
        let compile = |pattern: &str| {
            let built = regex::RegexBuilder::new(pattern).size_limit(1 << 20).build();
            built.map_err(|error| PatternError { pattern: pattern.to_owned(), reason: error.to_string() })
        };
        let words = AhoCorasick::builder().ascii_case_insensitive(true).build(WORDS);
        let words = words.map_err(|error| PatternError { pattern: String::new(), reason: error.to_string() })?;
        Ok(Self {
            words,
            patterns: PATTERNS.iter().map(|(_, pattern)| compile(pattern)).collect::<Result<_, _>>()?,
            own: patterns.iter().map(|pattern| compile(pattern)).collect::<Result<_, _>>()?,
            options: compile(SECRET_OPTIONS)?,
        })
    }

    /// Hides what a finding quotes.
    pub fn finding(&self, finding: &mut Finding) {
        // First the arguments, where it is known what is one and what is the next: what is hidden there is hidden wherever
        // else it is quoted.
        let mut known = Vec::new();
        if let Some(process) = &mut finding.process {
            self.process(process, &mut known);
        }
        if let Some(Detail::Drift(drift)) = &mut finding.detail
            && let Some(process) = drift.writer.as_mut().and_then(|writer| writer.process.as_mut())
        {
            self.process(process, &mut known);
        }
        self.text(&mut finding.message, &known);
        for value in finding.output_fields.values_mut() {
            self.value(value, &known);
        }
    }

    fn process(&self, process: &mut Process, known: &mut Vec<String>) {
        self.arguments(&mut process.arguments, known);
        for Ancestor { arguments, .. } in &mut process.ancestors {
            self.arguments(arguments, known);
        }
    }

    fn arguments(&self, arguments: &mut [String], known: &mut Vec<String>) {
        // A value that is this short is quoted by chance in other places.
        const LEAST: usize = 4;
        let mut is_value = false;
        for argument in arguments.iter_mut() {
            if is_value && !argument.is_empty() {
                if argument.len() >= LEAST {
                    known.push(std::mem::replace(argument, HIDDEN.to_owned()));
                } else {
                    HIDDEN.clone_into(argument);
                }
                is_value = false;
                continue;
            }
            is_value = self.options.is_match(argument);
            self.text(argument, &[]);
        }
    }

    fn value(&self, value: &mut Value, known: &[String]) {
        match &mut value.value {
            Some(value::Value::Text(text)) => self.text(text, known),
            Some(value::Value::List(list)) => list.items.iter_mut().for_each(|item| self.text(item, known)),
            _ => {}
        }
    }

    /// Hides what a text quotes.
    pub fn text(&self, text: &mut String, known: &[String]) {
        for secret in known {
            if text.contains(secret.as_str()) {
                *text = text.replace(secret.as_str(), HIDDEN);
            }
        }
        if self.words.is_match(text.as_str()) {
            self.patterns.iter().for_each(|pattern| hide(pattern, text));
        }
        self.own.iter().for_each(|pattern| hide(pattern, text));
    }
}

/// Replaces what a pattern's groups `secret…` match, or all that it matches where it has none.
fn hide(pattern: &Regex, text: &mut String) {
    let replace = |found: &Captures<'_>| {
        let whole = found.get(0).map_or("", |whole| whole.as_str());
        let start = found.get(0).map_or(0, |whole| whole.start());
        let names = pattern.capture_names().flatten().filter(|name| name.starts_with("secret"));
        let Some(secret) = names.into_iter().find_map(|name| found.name(name)) else { return HIDDEN.to_owned() };
        let (before, after) = (whole.get(..secret.start() - start), whole.get(secret.end() - start..));
        format!("{}{HIDDEN}{}", before.unwrap_or_default(), after.unwrap_or_default())
    };
    if let std::borrow::Cow::Owned(hidden) = pattern.replace_all(text, replace) {
        *text = hidden;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::sample;

    fn redactor() -> Redactor {
        Redactor::new(&["(?<secret>hunter[0-9])".to_owned()]).unwrap()
    }

    fn hidden(text: &str) -> String {
        let mut text = text.to_owned();
        redactor().text(&mut text, &[]);
        text
    }

    #[test]
    fn the_obvious_is_hidden_and_its_name_stays() {
        for (text, expected) in [
            ("app --password=swordfish --verbose", "app --password=*** --verbose"),
            ("app --password swordfish -v", "app --password *** -v"),
            ("DB_PASSWORD=swordfish PATH=/bin", "DB_PASSWORD=*** PATH=/bin"),
            ("MY_API_TOKEN='a b c' x", "MY_API_TOKEN='***' x"),
            (r#"{"client_secret": "abc", "a": 1}"#, r#"{"client_secret": "***", "a": 1}"#),
            (
                "curl https://a.blob.core.windows.net/c?sv=1&sig=abc%3D&se=2",
                "curl https://a.blob.core.windows.net/c?sv=1&sig=***&se=2",
            ),
            ("sig=YWJjZGVmZ2hpamtsbW5vcA%3D%3D&se=2", "sig=***&se=2"),
            (
                "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=abc123==;EndpointSuffix=core",
                "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=***;EndpointSuffix=core",
            ),
            (
                "Endpoint=sb://a.servicebus.windows.net/;SharedAccessKeyName=root;SharedAccessKey=abc=",
                "Endpoint=sb://a.servicebus.windows.net/;SharedAccessKeyName=***;SharedAccessKey=***",
            ),
            ("curl -H Authorization: Bearer abcdefgh.ijk", "curl -H Authorization: Bearer ***"),
            ("psql postgres://user:swordfish@db/x", "psql postgres://user:***@db/x"),
            ("curl -u user:swordfish http://a", "curl -u user:*** http://a"),
            ("mysql -h db -pswordfish", "mysql -h db -p***"),
            ("sshpass -p swordfish ssh a", "sshpass -p *** ssh a"),
            ("aws AKIAIOSFODNN7EXAMPLE", "aws ***"),
            ("x hunter2 y", "x *** y"),
        ] {
            assert_eq!(hidden(text), expected);
        }
    }

    #[test]
    fn the_built_in_patterns_compile() {
        assert!(Redactor::builtin().is_some());
    }

    #[test]
    fn what_is_no_secret_stays() {
        for text in [
            "passwd root",
            "cat /etc/passwd",
            "new program run (path=/tmp/x proc=x)",
            "ls --color=auto token.txt",
            "https://example.com:8443/path",
            "a=b c:d",
            "status=0 ret=0 sig=SIGTERM core=0 reaper_tid=0",
        ] {
            assert_eq!(hidden(text), text);
        }
    }

    #[test]
    fn a_finding_is_hidden_wherever_it_quotes_an_argument() {
        let mut finding = sample::drift(1);
        let arguments = ["app", "--token", "swordfish", "--password=other", "file"].map(str::to_owned).to_vec();
        if let Some(process) = &mut finding.process {
            process.arguments.clone_from(&arguments);
            process.ancestors[0].arguments = vec!["sh".to_owned(), "-c".to_owned(), "PGPASSWORD=x123 psql".to_owned()];
        }
        finding.message = "started (proc.args=[--token,swordfish] cmdline=app --token swordfish)".to_owned();
        finding.output_fields.insert("proc.args".to_owned(), Value::from(arguments));
        redactor().finding(&mut finding);
        let json = serde_json::to_string(&finding).unwrap();
        for secret in ["swordfish", "other", "x123"] {
            assert!(!json.contains(secret), "{secret} in {json}");
        }
        let process = finding.process.unwrap();
        assert_eq!(process.arguments, ["app", "--token", "***", "--password=***", "file"]);
    }

    #[test]
    fn a_finding_without_secrets_is_left_as_it_is() {
        for mut finding in [sample::drift(1), sample::seccomp(1)] {
            let before = finding.clone();
            redactor().finding(&mut finding);
            assert_eq!(finding, before);
        }
    }

    #[test]
    fn every_pattern_has_a_word_in_the_list() {
        // One text for each pattern by which it is found; without a word of the list it never would be.
        for (name, text) in [
            ("assignment", "secret=a1"),
            ("option", "--token a"),
            ("signature", "?sig=a"),
            ("authorization", "basic abcdefgh"),
            ("url", "ftp://a:b@c"),
            ("user", "curl -u a:b"),
            ("mysql", "mysql -pabc"),
            ("sshpass", "sshpass -p a"),
            ("aws", "ASIAIOSFODNN7EXAMPLE"),
            ("github", "ghp_abcdefghijklmnopqrst"),
            ("jwt", "eyJabcdefgh.abcdefgh.abc"),
            ("pem", "-----BEGIN PRIVATE KEY-----abc"),
        ] {
            let (_, pattern) = PATTERNS.iter().find(|(found, _)| *found == name).unwrap();
            assert!(Regex::new(pattern).unwrap().is_match(text), "{name}");
            assert!(hidden(text).contains(HIDDEN), "{name}");
        }
    }
}
