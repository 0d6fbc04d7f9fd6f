//! The reference consumer: takes what agents push, drops what it has, and says what is missing.
//!
//! It acknowledges when a batch is written, never before. It can be told to misbehave, so that users see how their agents
//! take it.

pub mod ledger;

use std::{
    collections::HashMap,
    fmt,
    fs::{File, OpenOptions},
    hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher},
    io::{self, BufRead as _, BufReader, Write},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use prost::Message as _;
use serde::{Deserialize, Serialize};
use tonic::{Code, Request, Response, Status, codec::CompressionEncoding, transport::Server};
use tonic_types::{ErrorDetails, StatusExt as _};

use self::ledger::{Ledger, Seen};
use super::{
    dial::random,
    listen::{Bounds, Listener, connections},
    queue::Direct,
};
use crate::{
    finding::write_json_line,
    proto::v1::{
        DeliverRequest, DeliverResponse, Finding, LossReport, Rejected,
        findings_sink_server::{FindingsSink, FindingsSinkServer},
    },
};

/// Longest request that is read.
const MAX_REQUEST_BYTES: usize = 8 << 20;

/// How it misbehaves.
#[derive(Clone, Debug, Default)]
pub struct Behaviour {
    /// How long an answer takes.
    pub delay: Duration,
    /// The code that some requests are answered with.
    pub fail: Option<Code>,
    /// Of a thousand requests, how many are answered with it.
    pub fail_per_mille: u32,
    /// Of a thousand requests, how many are not answered.
    pub hang_per_mille: u32,
    /// With it a failing answer says after what time to try again.
    pub retry_after: Option<Duration>,
    /// Rules whose findings are not wanted.
    pub reject_rules: Vec<String>,
    /// Findings that are taken of each batch.
    pub accept_at_most: Option<usize>,
    /// The bearer token that is asked for.
    pub token: Option<String>,
}

/// Where findings go.
pub enum Out {
    /// As lines for people or programs.
    Printed(Direct<io::Stdout>),
    /// As records with their run, to a file that is gone on with.
    Written(File),
    /// Nowhere.
    Dropped,
}

impl fmt::Debug for Out {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Out::Printed(_) => "printed",
            Out::Written(_) => "written",
            Out::Dropped => "dropped",
        })
    }
}

/// A line of the file.
#[derive(Serialize)]
struct Record<'a> {
    node: &'a str,
    epoch: &'a str,
    sequence: u64,
    content: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    finding: Option<&'a Finding>,
    #[serde(skip_serializing_if = "Option::is_none")]
    loss: Option<&'a LossReport>,
}

/// The part of it that is read again.
#[derive(Debug, Deserialize)]
struct Known {
    epoch: String,
    sequence: u64,
    content: u64,
    finding: Option<KnownFinding>,
}

#[derive(Debug, Deserialize)]
struct KnownFinding {
    uid: String,
}

/// The consumer. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Consumer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    behaviour: Behaviour,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    ledger: Ledger,
    out: Out,
    line: Vec<u8>,
    bytes: u64,
    batches: u64,
    /// How often each node was heard of.
    nodes: HashMap<String, u64>,
}

impl Consumer {
    /// One that gives findings to `out`. What a file holds already counts as received.
    pub fn new(behaviour: Behaviour, out: Out, ledger: Ledger) -> Self {
        let state = State { ledger, out, line: Vec::new(), bytes: 0, batches: 0, nodes: HashMap::new() };
        Self(Arc::new(Inner { behaviour, state: Mutex::new(state) }))
    }

    /// Opens a file to go on with: what is whole in it is known, a torn last line is cut off.
    pub fn resume(path: &Path) -> io::Result<(Out, Ledger)> {
        let file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        let (mut ledger, mut whole) = (Ledger::default(), 0_u64);
        let mut reader = BufReader::new(&file);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line)? > 0 && line.ends_with(b"\n") {
            if let Ok(known) = serde_json::from_slice::<Known>(&line)
                && let Some(finding) = known.finding
            {
                ledger.finding(&known.epoch, known.sequence, &finding.uid, known.content);
            }
            whole += line.len() as u64;
            line.clear();
        }
        file.set_len(whole)?;
        Ok((Out::Written(file), ledger))
    }

    /// Looks at what was received.
    pub fn with_ledger<T>(&self, look: impl FnOnce(&Ledger) -> T) -> T {
        look(&self.state().ledger)
    }

    /// Batches, and bytes of findings as they are encoded.
    pub fn traffic(&self) -> (u64, u64) {
        let state = self.state();
        (state.batches, state.bytes)
    }

    /// A line about what was received and what is missing.
    pub fn summary(&self) -> String {
        let state = self.state();
        let counts = state.ledger.counts;
        let missing: u64 = state.ledger.gaps().iter().map(|(_, first, last)| last - first + 1).sum();
        format!(
            "findings={} duplicates={} conflicts={} losses={} missing={missing} runs={} nodes={} batches={}",
            counts.findings,
            counts.duplicates,
            counts.conflicts,
            counts.losses,
            state.ledger.runs(),
            state.nodes.len(),
            state.batches
        )
    }

    /// Serves until `shutdown`.
    pub async fn serve(
        &self,
        listener: Listener,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), super::service::ServeError> {
        let (reporter, health) = tonic_health::server::health_reporter();
        reporter.set_service_status("monitor.v1.FindingsSink", tonic_health::ServingStatus::Serving).await;
        let (reflection, older_reflection) =
            (super::service::reflection(), super::service::reflection().build_v1alpha()?);
        let service = FindingsSinkServer::new(self.clone())
            .max_decoding_message_size(MAX_REQUEST_BYTES)
            .accept_compressed(CompressionEncoding::Gzip)
            .send_compressed(CompressionEncoding::Gzip);
        let incoming = connections(listener, Bounds::default());
        let server = Server::builder()
            .http2_keepalive_interval(Some(Duration::from_mins(1)))
            .add_service(service)
            .add_service(health)
            .add_service(reflection.build_v1()?)
            .add_service(older_reflection)
            .serve_with_incoming(incoming);
        tokio::select! {
            result = server => Ok(result?),
            () = shutdown => Ok(()),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_token(&self, request: &Request<DeliverRequest>) -> Result<(), Status> {
        let Some(token) = &self.0.behaviour.token else { return Ok(()) };
        let shown = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        if shown.and_then(|shown| shown.strip_prefix("Bearer ")) == Some(token) {
            return Ok(());
        }
        Err(Status::unauthenticated("the token is not the one that is asked for"))
    }

    async fn misbehave(&self) -> Result<(), Status> {
        let behaviour = &self.0.behaviour;
        tokio::time::sleep(behaviour.delay).await;
        if random() % 1000 < u64::from(behaviour.hang_per_mille) {
            std::future::pending::<()>().await;
        }
        if let Some(code) = behaviour.fail
            && random() % 1000 < u64::from(behaviour.fail_per_mille)
        {
            let details = match behaviour.retry_after {
                Some(after) => ErrorDetails::with_retry_info(Some(after)),
                None => ErrorDetails::new(),
            };
            return Err(Status::with_error_details(code, "told to fail", details));
        }
        Ok(())
    }
}

impl State {
    fn take(&mut self, request: &DeliverRequest, behaviour: &Behaviour) -> io::Result<DeliverResponse> {
        let DeliverRequest { epoch, first_sequence, findings, losses, source, .. } = request;
        let node = source.as_ref().map_or("", |source| &source.node_name);
        *self.nodes.entry(node.to_owned()).or_default() += 1;
        self.batches += 1;
        self.line.clear();
        for loss in losses {
            self.ledger.loss(epoch, *first_sequence, loss);
            let (sequence, loss) = (*first_sequence, Some(loss));
            if let Out::Written(_) = self.out {
                let record = Record { node, epoch, sequence, content: 0, finding: None, loss };
                write_json_line(&record, &mut self.line)?;
            }
        }
        let mut response = DeliverResponse { accepted_through: first_sequence.saturating_sub(1), ..Default::default() };
        for finding in findings.iter().take(behaviour.accept_at_most.unwrap_or(usize::MAX)) {
            response.accepted_through = finding.sequence;
            if behaviour.reject_rules.contains(&finding.rule) {
                let (uid, message) = (finding.uid.clone(), format!("{} is not wanted", finding.rule));
                response.rejected.push(Rejected { uid, code: Code::InvalidArgument.into(), message });
                continue;
            }
            let encoded = finding.encode_to_vec();
            self.bytes += encoded.len() as u64;
            let content = BuildHasherDefault::<DefaultHasher>::default().hash_one(&encoded);
            if self.ledger.finding(epoch, finding.sequence, &finding.uid, content) == Seen::Again {
                continue;
            }
            match &mut self.out {
                Out::Printed(out) => out.buffer(finding)?,
                Out::Written(_) => {
                    let (sequence, finding) = (finding.sequence, Some(finding));
                    let record = Record { node, epoch, sequence, content, finding, loss: None };
                    write_json_line(&record, &mut self.line)?;
                }
                Out::Dropped => {}
            }
        }
        match &mut self.out {
            Out::Printed(out) => out.flush()?,
            Out::Written(file) => file.write_all(&self.line)?,
            Out::Dropped => {}
        }
        Ok(response)
    }
}

#[tonic::async_trait]
impl FindingsSink for Consumer {
    async fn deliver(&self, request: Request<DeliverRequest>) -> Result<Response<DeliverResponse>, Status> {
        self.check_token(&request)?;
        self.misbehave().await?;
        let taken = self.state().take(request.get_ref(), &self.0.behaviour);
        let response = taken.map_err(|error| Status::unavailable(format!("cannot write: {error}")))?;
        Ok(Response::new(response))
    }
}
