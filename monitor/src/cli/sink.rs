//! `monitor sink serve`: the reference consumer of pushed findings.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use tonic::Code;

use super::{Exit, say};
use crate::output::{
    consumer::{Behaviour, Consumer, Out, ledger::Ledger},
    listen::Listener,
    queue::Direct,
    socket::Socket,
    stdout::{Colour, Format},
    tls::{Identity, Reloading, ServerFiles},
};

/// Options of `monitor sink`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Command {
    /// Take findings from agents: drop duplicates, check for gaps, print or write them
    Serve(Box<Serve>),
}

/// Options of `monitor sink serve`.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  monitor sink serve --listen 127.0.0.1:8443\n  monitor sink serve --listen unix:/tmp/sink.sock \
                        --write findings.jsonl\n  monitor sink serve --listen 0.0.0.0:8443 --certificate tls.crt --key tls.key \
                        --client-ca ca.crt\n  monitor sink serve --listen 127.0.0.1:8443 --fail unavailable --fail-per-mille 100"
)]
struct Serve {
    /// Where to listen: ADDRESS:PORT or unix:PATH; in the clear only on this machine
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8443")]
    listen: String,
    /// Certificate chain (PEM)
    #[arg(long, value_name = "FILE", requires = "key")]
    certificate: Option<PathBuf>,
    /// Its key (PEM)
    #[arg(long, value_name = "FILE", requires = "certificate")]
    key: Option<PathBuf>,
    /// Who may sign agents' certificates (PEM); without it any agent is let in
    #[arg(long, value_name = "FILE", requires = "certificate")]
    client_ca: Option<PathBuf>,
    /// Ask for the bearer token in this file
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// How findings are printed [default: compact on a terminal, else json]
    #[arg(short = 'o', long, value_name = "FORMAT", conflicts_with_all = ["write", "quiet"])]
    output: Option<Format>,
    /// Append findings and loss reports to this file as JSON lines, and go on with what is in it
    #[arg(short = 'w', long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// Neither print nor write
    #[arg(short, long, conflicts_with = "write")]
    quiet: bool,
    /// Wait this long with every answer, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 0, help_heading = "Misbehaviour")]
    delay_ms: u64,
    /// Answer some requests with this code, such as unavailable
    #[arg(long, value_name = "CODE", value_parser = code, help_heading = "Misbehaviour")]
    fail: Option<i32>,
    /// How many of a thousand requests
    #[arg(long, value_name = "N", default_value_t = 1000, requires = "fail", help_heading = "Misbehaviour")]
    fail_per_mille: u32,
    /// Tell failing requests to come again after this long, in milliseconds
    #[arg(long, value_name = "MS", requires = "fail", help_heading = "Misbehaviour")]
    retry_after_ms: Option<u64>,
    /// Do not answer so many of a thousand requests
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Misbehaviour")]
    hang_per_mille: u32,
    /// Refuse the findings of this rule; may be given more than once
    #[arg(long, value_name = "NAME", help_heading = "Misbehaviour")]
    reject_rule: Vec<String>,
    /// Take only so many findings of each batch
    #[arg(long, value_name = "N", help_heading = "Misbehaviour")]
    accept_at_most: Option<usize>,
}

/// A gRPC code by its name, as tonic and everybody else spells it but for case and separators.
fn code(name: &str) -> Result<i32, String> {
    let plain = |text: &str| text.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    let codes = (1..=16).map(Code::from);
    let found = codes.into_iter().find(|code| plain(&format!("{code:?}")) == plain(name));
    found.map(i32::from).ok_or_else(|| "expected a gRPC code, such as unavailable or resource_exhausted".to_owned())
}

/// Runs the command.
pub(super) fn run(args: &Args) -> Result<Exit> {
    let Command::Serve(args) = &args.command;
    serve(args)
}

fn serve(args: &Serve) -> Result<Exit> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the gRPC server")?;
    let (out, ledger) = match &args.write {
        Some(path) => Consumer::resume(path).with_context(|| format!("cannot write {}", path.display()))?,
        None if args.quiet => (Out::Dropped, Ledger::default()),
        None => {
            let format = args.output.unwrap_or_else(Format::of_stdout);
            (Out::Printed(Direct::new(format, Colour::of_stdout(), io::stdout())), Ledger::default())
        }
    };
    let consumer = Consumer::new(behaviour(args)?, out, ledger);
    runtime.block_on(async {
        let (listener, _socket) = listener(args).await?;
        say(format_args!("monitor: ready: listening on {}", shown(&listener, &args.listen)));
        let shutdown = async {
            let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).ok();
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                () = async { match &mut terminate { Some(signal) => _ = signal.recv().await, None => std::future::pending().await } } => {}
            }
        };
        consumer.serve(listener, shutdown).await.context("the sink ended")
    })?;
    say(format_args!("monitor: sink: {}", consumer.summary()));
    consumer.with_ledger(|ledger| {
        for (epoch, first, last) in ledger.gaps().iter().take(20) {
            say(format_args!("monitor: sink: missing without a report: {first} to {last} of {epoch}"));
        }
    });
    runtime.shutdown_timeout(Duration::from_millis(100));
    Ok(Exit::Done)
}

/// The address with the port that the kernel chose, if it was asked to.
fn shown(listener: &Listener, asked: &str) -> String {
    match listener {
        Listener::Unix(_) => asked.to_owned(),
        Listener::Tcp(listener) | Listener::Tls(listener, _) => {
            listener.local_addr().map_or_else(|_| asked.to_owned(), |address| address.to_string())
        }
    }
}

fn behaviour(args: &Serve) -> Result<Behaviour> {
    let read = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        anyhow::Ok(text.trim().to_owned())
    };
    Ok(Behaviour {
        delay: Duration::from_millis(args.delay_ms),
        fail: args.fail.map(Code::from),
        fail_per_mille: args.fail_per_mille,
        hang_per_mille: args.hang_per_mille,
        retry_after: args.retry_after_ms.map(Duration::from_millis),
        reject_rules: args.reject_rule.clone(),
        accept_at_most: args.accept_at_most,
        token: args.token_file.as_ref().map(read).transpose()?,
    })
}

async fn listener(args: &Serve) -> Result<(Listener, Option<Socket>)> {
    if let Some(path) = args.listen.strip_prefix("unix:") {
        let socket = Socket::bind(Path::new(path)).await?;
        return Ok((Listener::Unix(socket.listener()?), Some(socket)));
    }
    let address: SocketAddr =
        args.listen.parse().with_context(|| format!("--listen {}: expected ADDRESS:PORT or unix:PATH", args.listen))?;
    let files = match (&args.certificate, &args.key) {
        (Some(certificate_file), Some(key_file)) => {
            let identity = Identity { certificate_file: certificate_file.clone(), key_file: key_file.clone() };
            Some(Reloading::new(ServerFiles { identity, client_ca_file: args.client_ca.clone() })?)
        }
        _ if address.ip().is_loopback() => None,
        _ => bail!("--listen {address}: findings would cross the network unencrypted: give --certificate and --key"),
    };
    let listener =
        tokio::net::TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
    let listener = match files {
        Some(files) => Listener::Tls(listener, Arc::new(files)),
        None => Listener::Tcp(listener),
    };
    Ok((listener, None))
}
