//! A finding as a line: for people, as native JSON, or as Falco's JSON alert.
//!
//! Every format is one line, ends in a line feed, and holds nothing that a terminal would obey but its own colours: names
//! and paths come from the processes that are watched, and must not move the cursor of those who watch.

use std::{
    borrow::Cow,
    fmt,
    io::{self, IsTerminal as _, Write},
    str::FromStr,
};

use jiff::Timestamp;
use owo_colors::{OwoColorize as _, Style};
use serde::Serialize;

use super::{bound, ocsf};
use crate::{
    finding::{is_unprintable, write_json_line},
    proto::v1::{Finding, Priority, Process, Value, finding::Detail},
};

/// Digits of a container's id that a person needs, as container tools show it.
const SHORT_ID: usize = 12;

/// How findings are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One readable line.
    Compact,
    /// The finding itself, see [`crate::finding`].
    Json,
    /// The alert that Falco prints with `json_output`, key for key.
    Falco,
    /// An OCSF Detection Finding.
    Ocsf,
}

/// Whether lines for people have colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// ANSI colours.
    On,
    /// Plain text.
    Off,
}

impl Colour {
    /// Colours if stdout is a terminal that shows them and `NO_COLOR` and its kin do not forbid it.
    pub fn of_stdout() -> Self {
        match anstream::AutoStream::choice(&io::stdout()) {
            anstream::ColorChoice::Never => Colour::Off,
            _ => Colour::On,
        }
    }
}

/// A word that names no format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown output format {0:?}: expected compact, json, falco or ocsf")]
pub struct UnknownFormat(String);

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(word: &str) -> Result<Self, UnknownFormat> {
        match word {
            "compact" => Ok(Format::Compact),
            "json" => Ok(Format::Json),
            "falco" => Ok(Format::Falco),
            "ocsf" => Ok(Format::Ocsf),
            _ => Err(UnknownFormat(word.chars().take(64).collect())),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Format::Compact => "compact",
            Format::Json => "json",
            Format::Falco => "falco",
            Format::Ocsf => "ocsf",
        })
    }
}

impl Format {
    /// What suits stdout if nothing is asked for: compact for a person, JSON for a program.
    pub fn of_stdout() -> Self {
        if io::stdout().is_terminal() { Format::Compact } else { Format::Json }
    }

    /// Writes one finding and its line feed. Colour concerns [`Format::Compact`] alone.
    pub fn write(self, finding: &Finding, colour: Colour, out: &mut impl Write) -> io::Result<()> {
        match self {
            Format::Compact => compact(finding, colour, out),
            Format::Json => bound::line(finding, out, |finding, out| write_json_line(finding, out)),
            Format::Falco => bound::line(finding, out, |finding, out| write_json_line(&Alert::of(finding), out)),
            Format::Ocsf => bound::line(finding, out, |finding, out| write_json_line(&ocsf::of(finding), out)),
        }
    }
}

/// `12:34:56.789 Warning   3f2a9c0d1e4b pod=UID sh[4242]: message (written by cp[4240])`
fn compact(finding: &Finding, colour: Colour, out: &mut impl Write) -> io::Result<()> {
    let paint = |style: Style| if colour == Colour::On { style } else { Style::new() };
    let time = timestamp(finding.time_unix_nano).strftime("%H:%M:%S.%3f");
    let priority = finding.priority();
    write!(out, "{} {}", time.style(paint(Style::new().dimmed())), Padded(priority).style(paint(style(priority))))?;
    match &finding.container {
        None => write!(out, " {}", "host".style(paint(Style::new().dimmed())))?,
        Some(container) => {
            let id: String = container.id.chars().take(SHORT_ID).collect();
            write!(out, " {}", Printable(&id).style(paint(Style::new().cyan())))?;
            if !container.pod_name.is_empty() {
                write!(out, " pod={}/{}", Printable(&container.namespace), Printable(&container.pod_name))?;
            } else if !container.pod_uid.is_empty() {
                write!(out, " pod={}", Printable(&container.pod_uid))?;
            }
        }
    }
    if let Some(process) = &finding.process {
        write!(out, " {}:", Named(process).style(paint(Style::new().bold())))?;
    }
    write!(out, " {}", Printable(&finding.message))?;
    if let Some(writer) = writer(finding)
        && !finding.message.contains(&Named(writer).to_string())
    {
        write!(out, " (written by {})", Named(writer))?;
    }
    out.write_all(b"\n")
}

/// The process that wrote the program, where the finding knows it.
fn writer(finding: &Finding) -> Option<&Process> {
    match &finding.detail {
        Some(Detail::Drift(drift)) => drift.writer.as_ref()?.process.as_ref(),
        _ => None,
    }
}

fn style(priority: Priority) -> Style {
    match priority {
        Priority::Emergency | Priority::Alert | Priority::Critical => Style::new().red().bold(),
        Priority::Error => Style::new().red(),
        Priority::Warning => Style::new().yellow(),
        Priority::Notice => Style::new().blue(),
        Priority::Informational | Priority::Debug | Priority::Unspecified => Style::new().dimmed(),
    }
}

/// A priority as wide as most of them.
struct Padded(Priority);

impl fmt::Display for Padded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<9}", self.0)
    }
}

/// `name[pid]`
struct Named<'a>(&'a Process);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", Printable(&self.0.name), self.0.pid)
    }
}

/// Text on one line with nothing in it that a terminal obeys; `\n`, `\u{1b}` and their like stand for what was there.
pub struct Printable<'a>(
    /// The text as it came.
    pub &'a str,
);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut plain = self.0;
        while let Some(at) = plain.find(is_unprintable) {
            let (before, rest) = plain.split_at(at);
            f.write_str(before)?;
            let mut characters = rest.chars();
            if let Some(character) = characters.next() {
                // `escape_default` would also escape quotes, but those are not unprintable.
                write!(f, "{}", character.escape_default())?;
            }
            plain = characters.as_str();
        }
        f.write_str(plain)
    }
}

/// Falco's alert. Its keys are in alphabetical order because Falco's JSON library sorts them.
#[derive(Serialize)]
struct Alert<'a> {
    hostname: &'a str,
    output: String,
    output_fields: OutputFields<'a>,
    priority: &'static str,
    rule: &'a str,
    source: &'a str,
    tags: &'a [String],
    time: String,
}

impl<'a> Alert<'a> {
    fn of(finding: &'a Finding) -> Self {
        let time = timestamp(finding.time_unix_nano);
        let priority = finding.priority().word();
        Alert {
            hostname: &finding.hostname,
            output: format!("{}: {priority} {}", time.strftime("%H:%M:%S.%9f"), finding.message),
            output_fields: OutputFields(finding),
            priority,
            rule: &finding.rule,
            source: &finding.source,
            tags: &finding.tags,
            time: time.strftime("%Y-%m-%dT%H:%M:%S.%9fZ").to_string(),
        }
    }
}

/// The output's fields and, as in Falco, those of the prefix: `evt.time`, a number of nanoseconds.
struct OutputFields<'a>(&'a Finding);

impl Serialize for OutputFields<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        const TIME: &str = "evt.time";
        let fields = &self.0.output_fields;
        let sorted = fields.iter().map(|(name, value)| (name.as_str(), Cow::Borrowed(value)));
        if fields.contains_key(TIME) {
            return serializer.collect_map(sorted);
        }
        let before = sorted.clone().take_while(|(name, _)| *name < TIME);
        let after = sorted.skip_while(|(name, _)| *name < TIME);
        let time = (TIME, Cow::Owned(Value::from(self.0.time_unix_nano)));
        serializer.collect_map(before.chain([time]).chain(after))
    }
}

/// In UTC wherever the agent runs, so that lines of different nodes compare. Every `u64` of nanoseconds is in range.
fn timestamp(unix_nano: u64) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(unix_nano)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        output::sample,
        proto::v1::{Drift, Writer},
    };

    fn line(format: Format, colour: Colour, finding: &Finding) -> String {
        let mut out = Vec::new();
        format.write(finding, colour, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn compact_says_when_how_bad_where_who_and_what() {
        assert_eq!(
            line(Format::Compact, Colour::Off, &sample::drift(1)),
            "12:34:56.789 Warning   3f2a9c0d1e4b pod=prod/web-0 x[4242]: new program run (path=/tmp/x proc=x) \
             (written by cp[4240])\n"
        );
        let mut unnamed = sample::drift(1);
        unnamed.container.iter_mut().for_each(|container| container.pod_name.clear());
        let unnamed = line(Format::Compact, Colour::Off, &unnamed);
        assert!(unnamed.contains(" pod=7b0f2c9e-1111-2222-3333-444455556666 x[4242]: "), "{unnamed}");
        assert_eq!(
            line(Format::Compact, Colour::Off, &sample::seccomp(1)),
            "12:34:56.789 Notice    host x[4242]: new program run (path=/tmp/x proc=x)\n"
        );
        assert_eq!(line(Format::Compact, Colour::Off, &Finding::default()), "00:00:00.000 Unspecified host \n");
    }

    #[test]
    fn compact_does_not_repeat_a_writer_that_the_message_names() {
        let finding = Finding { message: "written by cp[4240]".to_owned(), ..sample::drift(1) };
        let text = line(Format::Compact, Colour::Off, &finding);
        assert!(text.ends_with("x[4242]: written by cp[4240]\n"), "{text}");
    }

    #[test]
    fn colours_add_escape_sequences_and_nothing_else() {
        let coloured = line(Format::Compact, Colour::On, &sample::drift(1));
        assert!(coloured.contains("\u{1b}[33mWarning"), "{coloured:?}");
        let plain = anstream::adapter::strip_str(&coloured).to_string();
        assert_eq!(plain, line(Format::Compact, Colour::Off, &sample::drift(1)));
        for format in [Format::Json, Format::Falco] {
            assert_eq!(line(format, Colour::On, &sample::drift(1)), line(format, Colour::Off, &sample::drift(1)));
        }
    }

    #[test]
    fn hostile_names_stay_on_their_line_and_do_not_reach_the_terminal() {
        let hostile = "a\n\r\t\u{1b}[2J\u{7f}\u{9b}31m\u{202e}\"é";
        let mut finding = sample::drift(1);
        finding.message = hostile.to_owned();
        if let Some(process) = &mut finding.process {
            process.name = hostile.to_owned();
        }
        if let Some(container) = &mut finding.container {
            (container.id, container.pod_uid) = (hostile.to_owned(), hostile.to_owned());
            (container.namespace, container.pod_name) = (hostile.to_owned(), hostile.to_owned());
        }
        if let Some(Detail::Drift(Drift { writer: Some(Writer { process: Some(writer), .. }), .. })) =
            &mut finding.detail
        {
            writer.name = hostile.to_owned();
        }
        for format in [Format::Compact, Format::Json, Format::Falco] {
            let text = line(format, Colour::Off, &finding);
            assert_eq!(text.matches(is_unprintable).collect::<String>(), "\n", "{format}: {text:?}");
        }
        let compact = line(Format::Compact, Colour::Off, &finding);
        assert!(compact.contains(r#" a\n\r\t\u{1b}[2J\u{7f}\u{9b}31m\u{202e}"é[4242]: "#), "{compact}");
    }

    #[test]
    fn falco_alerts_are_falcos_key_for_key() {
        assert_eq!(
            line(Format::Falco, Colour::Off, &sample::drift(1)),
            "{\"hostname\":\"node-1\",\"output\":\"12:34:56.789012345: Warning new program run (path=/tmp/x proc=x)\",\
             \"output_fields\":{\"evt.time\":1795437296789012345,\"fd.num\":-1,\"k8s.ns.name\":null,\
             \"proc.args\":[\"-a\",\"-b\"],\"proc.is_exe_upper_layer\":true,\"proc.name\":\"x\",\"proc.pid\":4242},\
             \"priority\":\"Warning\",\"rule\":\"Drift Execution\",\"source\":\"syscall\",\
             \"tags\":[\"container\",\"mitre_execution\"],\"time\":\"2026-11-23T12:34:56.789012345Z\"}\n"
        );
    }

    #[test]
    fn falco_alerts_keep_the_time_field_of_the_output_and_sort_it_in() {
        let fields = |names: &[&str]| {
            let output_fields = names.iter().map(|name| ((*name).to_owned(), Value::from("v"))).collect();
            let text = line(Format::Falco, Colour::Off, &Finding { output_fields, ..Finding::default() });
            let start = text.find("\"output_fields\":").unwrap();
            text[start..text.find(",\"priority\"").unwrap()].to_owned()
        };
        assert_eq!(fields(&["evt.time"]), r#""output_fields":{"evt.time":"v"}"#);
        assert_eq!(fields(&[]), r#""output_fields":{"evt.time":0}"#);
        assert_eq!(fields(&["a", "evt.type"]), r#""output_fields":{"a":"v","evt.time":0,"evt.type":"v"}"#);
        assert_eq!(fields(&["a", "b"]), r#""output_fields":{"a":"v","b":"v","evt.time":0}"#);
    }

    #[test]
    fn every_time_of_64_bits_has_a_text() {
        let finding = Finding { time_unix_nano: u64::MAX, ..sample::drift(1) };
        assert!(line(Format::Falco, Colour::Off, &finding).contains("\"time\":\"2554-07-21T23:34:33.709551615Z\""));
    }

    #[test]
    fn formats_read_back_by_name() {
        for format in [Format::Compact, Format::Json, Format::Falco] {
            assert_eq!(format.to_string().parse(), Ok(format));
        }
        assert_eq!("yaml".parse::<Format>(), Err(UnknownFormat("yaml".to_owned())));
    }
}
