//! Rules without a sensor: `cargo run --example evaluate_rules`.
//!
//! A program that has events of its own (an audit log, a test, a stream from somewhere) evaluates Falco rules on them. It says
//! what the fields of an event are; everything else is the library's.

use std::process::ExitCode;

use monitor::{
    event::{
        EventType,
        field::{Argument, Field, Fields},
        value::Value,
    },
    rules::{Matching, Options, RuleSet, Source, Supply},
};

const RULES: &str = r#"
- list: shells
  items: [sh, bash, zsh]

- macro: container
  condition: container.id != host

- rule: Shell in container
  desc: A shell runs in a container.
  condition: evt.type = execve and container and proc.name in (shells)
  output: "Shell in container (command=%proc.cmdline parent=%proc.pname container=%container.id user=%toupper(user.name))"
  priority: WARNING
  exceptions:
    - name: entrypoints
      fields: [proc.pname, proc.cmdline]
      comps: [=, startswith]
      values:
        - [tini, sh /entrypoint.sh]

- rule: Shell history removed
  desc: Somebody does not want to be seen.
  condition: evt.type in (unlink, unlinkat) and basename(fd.name) in (.bash_history, .zsh_history)
  output: "Shell history removed (file=%fd.name command=%proc.cmdline)"
  priority: CRITICAL
"#;

/// An event as this program knows it.
struct LogLine {
    event_type: EventType,
    container: &'static str,
    user: &'static str,
    parent: &'static str,
    command: &'static str,
    file: Option<&'static str>,
}

/// What rules may ask it. A field that it does not have is `None`: comparisons with it are false.
impl Fields for LogLine {
    fn value(&self, field: Field, _argument: &Argument) -> Option<Value<'_>> {
        match field.info().name {
            "evt.type" => Some(Value::text(self.event_type.name())),
            "container.id" => Some(Value::text(self.container)),
            "user.name" => Some(Value::text(self.user)),
            "proc.name" => self.command.split(' ').next().map(Value::text),
            "proc.pname" => Some(Value::text(self.parent)),
            "proc.cmdline" => Some(Value::text(self.command)),
            "fd.name" => self.file.map(Value::text),
            _ => None,
        }
    }
}

fn events() -> Option<Vec<LogLine>> {
    let exec = |container, parent, command| LogLine {
        event_type: EventType::EXECVE,
        container,
        user: "root",
        parent,
        command,
        file: None,
    };
    Some(vec![
        exec("host", "sshd", "bash -l"),
        exec("3ad7b26ded6d", "tini", "sh /entrypoint.sh --port 80"),
        exec("3ad7b26ded6d", "nginx", "sh -c id"),
        LogLine {
            event_type: EventType::find("unlink")?,
            file: Some("/root/.bash_history"),
            ..exec("host", "bash", "rm .bash_history")
        },
    ])
}

fn main() -> ExitCode {
    let source = Source { name: "rules.yaml".into(), text: RULES.into() };
    // Every field is ours to bring; without this, those that the agent has no values for would be refused.
    let options = Options { matching: Matching::All, supply: Supply::Caller, ..Options::default() };
    let loaded = RuleSet::load(&[source], &options);
    for diagnostic in &loaded.diagnostics {
        eprintln!("{}", diagnostic.render());
    }
    let (Some(mut rules), Some(events)) = (loaded.rules, events()) else { return ExitCode::FAILURE };
    for event in &events {
        rules.evaluate(event.event_type, event, |rule| {
            println!("{}: {}", rule.priority, rule.render(event).message);
        });
    }
    ExitCode::SUCCESS
}
