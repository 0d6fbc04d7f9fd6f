//! Many consumers of one agent at once: `subscribers SOCKET READING SILENT COUNT`.
//!
//! READING of them read everything from now on, SILENT open a subscription and never read. Says `subscribers: ready` on stderr
//! when all are subscribed, and `subscribers: summary: …` when each that reads was sent COUNT findings or told that they are
//! lost. The wait is bounded by whoever started it.
use std::{env, path::PathBuf, time::Instant};

use anyhow::{Context as _, Result, bail};
use monitor::proto::v1::{Open, StartFrom, SubscribeResponse, subscribe_response::Response};
use tests::subscriber::subscribe;
use tonic::Streaming;

/// What one of them was sent.
#[derive(Clone, Copy, Debug, Default)]
struct Sent {
    findings: u64,
    lost: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut args = env::args().skip(1);
    let mut next = || args.next().context("usage: subscribers SOCKET READING SILENT COUNT");
    let (socket, reading, silent, count): (PathBuf, u32, u32, u64) =
        (next()?.into(), next()?.parse()?, next()?.parse()?, next()?.parse()?);
    let open = || Open { consumer: "many".to_owned(), start_from: StartFrom::Tail.into(), ..Default::default() };
    let mut never_read = Vec::new();
    for _ in 0..silent {
        never_read.push(subscribe(socket.clone(), open()).await?);
    }
    let mut streams = Vec::new();
    for _ in 0..reading {
        streams.push(subscribe(socket.clone(), open()).await?);
    }
    eprintln!("subscribers: ready");
    let begin = Instant::now();
    let tasks: Vec<_> = streams.into_iter().map(|stream| tokio::spawn(read(stream, count))).collect();
    let (mut findings, mut lost) = (0, 0);
    for task in tasks {
        let sent = task.await??;
        findings += sent.findings;
        lost += sent.lost;
    }
    let seconds = begin.elapsed().as_secs_f64();
    eprintln!("subscribers: summary: findings={findings} lost={lost} seconds={seconds:.3}");
    drop(never_read);
    Ok(())
}

async fn read(mut stream: Streaming<SubscribeResponse>, count: u64) -> Result<Sent> {
    let mut sent = Sent::default();
    while sent.findings + sent.lost < count {
        let Some(response) = stream.message().await? else { bail!("the agent ends") };
        match response.response {
            Some(Response::Batch(batch)) => sent.findings += batch.findings.len() as u64,
            Some(Response::Loss(loss)) => sent.lost += loss.findings,
            _ => {}
        }
    }
    Ok(sent)
}
