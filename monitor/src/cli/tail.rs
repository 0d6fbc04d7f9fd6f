//! `monitor tail`: the findings of a running agent, over gRPC.

use std::{
    io::{self, Stdout},
    ops::ControlFlow,
    path::PathBuf,
};

use anyhow::{Context as _, Result};
use clap::ValueEnum;

use super::{Exit, profiles_change, rules_change};
use crate::{
    output::{
        queue::Direct,
        stdout::{Colour, Format},
        tail::{self, Endpoint, Event, Options},
        tls::{ClientFiles, Identity},
    },
    proto::v1::{Filter, Finding, LossReport, Priority, StartFrom},
};

/// Options of `monitor tail`.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  sudo monitor tail\n  sudo monitor tail --from earliest -o json --min-priority warning\n  \
                        monitor tail --endpoint unix:/tmp/monitor.sock -n 1 --fail-on critical"
)]
pub(super) struct Args {
    /// Where the agent serves: unix:PATH, https://HOST:PORT or http://127.0.0.1:PORT
    #[arg(long, value_name = "ENDPOINT", default_value_t = Endpoint::default())]
    endpoint: Endpoint,
    /// Where to begin
    #[arg(long, value_name = "WHERE", default_value = "tail", conflicts_with = "cursor")]
    from: From,
    /// Begin behind this cursor, as a former run told it on stderr
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
    /// Begin with what was observed this long ago, such as 10m or 2h
    #[arg(long, value_name = "DURATION", conflicts_with_all = ["cursor", "from"])]
    since: Option<jiff::SignedDuration>,
    /// Who may sign the agent's certificate (PEM), with https
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Certificate to show (PEM), with https
    #[arg(long, value_name = "FILE", requires = "key")]
    certificate: Option<PathBuf>,
    /// Its key (PEM)
    #[arg(long, value_name = "FILE", requires = "certificate")]
    key: Option<PathBuf>,
    /// What the agent's certificate is for, if not the endpoint's host
    #[arg(long, value_name = "NAME")]
    server_name: Option<String>,
    /// Only findings that satisfy this condition (rule language), over what a finding carries
    #[arg(long = "where", value_name = "CONDITION")]
    condition: Option<String>,
    /// Only findings of this Kubernetes namespace; may be given more than once
    #[arg(long = "namespace", value_name = "NAME")]
    namespaces: Vec<String>,
    /// How findings are printed [default: compact on a terminal, else json]
    #[arg(short = 'o', long, value_name = "FORMAT")]
    output: Option<Format>,
    /// Only findings at least this urgent
    #[arg(long, value_name = "PRIORITY", default_value = "debug", value_parser = Priority::parse)]
    min_priority: Priority,
    /// Only findings of this rule; may be given more than once
    #[arg(long = "rule", value_name = "NAME")]
    rules: Vec<String>,
    /// Stop after this many findings
    #[arg(short = 'n', long, value_name = "COUNT")]
    count: Option<u64>,
    /// Exit with 1 if there was a finding at least this urgent
    #[arg(long, value_name = "PRIORITY", value_parser = Priority::parse)]
    fail_on: Option<Priority>,
    /// End with the agent instead of waiting for it to come back
    #[arg(long)]
    once: bool,
}

/// Where a subscription begins.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum From {
    /// With findings made from now on
    Tail,
    /// With everything that the agent still has
    Earliest,
}

impl Args {
    fn options(&self) -> Options {
        let start_from = match (&self.cursor, self.from) {
            (Some(_), _) => StartFrom::Cursor,
            _ if self.since.is_some() => StartFrom::Since,
            (None, From::Tail) => StartFrom::Tail,
            (None, From::Earliest) => StartFrom::Earliest,
        };
        let filter = Filter {
            min_priority: self.min_priority.into(),
            rules: self.rules.clone(),
            namespaces: self.namespaces.clone(),
            r#where: self.condition.clone().unwrap_or_default(),
            ..Filter::default()
        };
        let identity = self.certificate.clone().zip(self.key.clone());
        let identity = identity.map(|(certificate_file, key_file)| Identity { certificate_file, key_file });
        let since = self.since.map_or(0, |since| (jiff::Timestamp::now() - since).as_nanosecond());
        Options {
            endpoint: self.endpoint.clone(),
            tls: ClientFiles { ca_file: self.ca.clone(), identity },
            server_name: self.server_name.clone(),
            since_unix_nano: u64::try_from(since).unwrap_or(0),
            consumer: format!("monitor tail ({})", std::process::id()),
            start_from,
            cursor: self.cursor.clone().unwrap_or_default(),
            filter,
            count: self.count,
            once: self.once,
        }
    }
}

/// Follows until told to stop, or nobody reads stdout any more.
pub(super) fn run(args: Args) -> Result<Exit> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the gRPC client")?;
    let format = args.output.unwrap_or_else(Format::of_stdout);
    let mut screen =
        Screen { out: Direct::new(format, Colour::of_stdout(), io::stdout()), failed: None, found: false, args };
    let options = screen.args.options();
    let ended = runtime.block_on(async {
        tokio::select! {
            outcome = tail::run(options, |event| screen.show(&event)) => outcome.map(Some),
            _ = tokio::signal::ctrl_c() => Ok(None),
        }
    });
    if let Some(error) = screen.failed.filter(|error| error.kind() != io::ErrorKind::BrokenPipe) {
        return Err(error).context("cannot write to stdout");
    }
    if let Some(cursor) = ended?.and_then(|outcome| outcome.cursor) {
        eprintln!("monitor: cursor: {cursor}");
    }
    Ok(if screen.found { Exit::Found } else { Exit::Done })
}

/// What the user sees.
struct Screen {
    out: Direct<Stdout>,
    args: Args,
    failed: Option<io::Error>,
    /// Whether a finding was at or above `--fail-on`.
    found: bool,
}

impl Screen {
    fn show(&mut self, event: &Event<'_>) -> ControlFlow<()> {
        match event {
            Event::Finding(finding) => return self.finding(finding),
            Event::Subscribed => eprintln!("monitor: following {}", self.args.endpoint),
            Event::RulesChange(change) => {
                rules_change::messages(change).for_each(|message| eprintln!("monitor: {message}"));
                eprintln!("monitor: {}", rules_change::line(change));
            }
            Event::ProfilesChange(change) => {
                for line in profiles_change::lines(change) {
                    eprintln!("monitor: {line}");
                }
            }
            Event::Loss(loss) => eprintln!("monitor: {}", loss_text(loss)),
            Event::Disconnected { reason, retry_in } => {
                eprintln!("monitor: {reason}; next try in {:.1} s", retry_in.as_secs_f32());
            }
            Event::Heartbeat(_) => {}
        }
        ControlFlow::Continue(())
    }

    fn finding(&mut self, finding: &Finding) -> ControlFlow<()> {
        self.found |= self.args.fail_on.is_some_and(|floor| finding.priority().at_least(floor));
        match self.out.print(finding) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                self.failed = Some(error);
                ControlFlow::Break(())
            }
        }
    }
}

/// `lost: 3 findings (slow_subscriber)`
fn loss_text(loss: &LossReport) -> String {
    let what = match (loss.findings, loss.records) {
        (0, 0) => "an unknown number of findings".to_owned(),
        (findings, 0) => format!("{findings} findings"),
        (0, records) => format!("{records} kernel records"),
        (findings, records) => format!("{findings} findings and {records} kernel records"),
    };
    format!("lost: {what} ({})", loss.cause)
}
