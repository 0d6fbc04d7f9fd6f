//! A consumer of a running agent: connects, subscribes, and comes back where it was when the agent goes away.
//!
//! The agent's cursor is all that is kept between two connections, and the agent gives one before the first finding, so
//! that a restart of the agent or a lost connection shows nothing twice and misses nothing without saying so.

use std::{
    collections::hash_map::RandomState,
    fmt, fs,
    hash::BuildHasher as _,
    io::{self, ErrorKind},
    ops::ControlFlow,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    time::{sleep, timeout},
};
use tonic::{
    Code, Status,
    transport::{Channel, Uri},
};

use super::{
    dial::{Dialer, DialerError, Target, TargetError},
    socket::DEFAULT_PATH,
    tls::ClientFiles,
};
use crate::proto::v1::{
    Filter, Finding, Heartbeat, LossReport, Open, ProfilesChange, RulesChange, StartFrom, SubscribeRequest,
    SubscribeResponse, findings_client::FindingsClient, subscribe_request, subscribe_response::Response,
};

/// How long connecting and the first answer may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// After how long without a sign of life the agent counts as gone: three heartbeats and a little.
const SILENCE: Duration = Duration::from_secs(35);
/// First and longest wait before the next try.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// Longest response that is read; the agent sends at most 1 MiB but for a single finding.
const MAX_RESPONSE_BYTES: usize = 16 << 20;

/// Where an agent serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A unix socket.
    Unix(PathBuf),
    /// `HOST:PORT` on this machine.
    Loopback(String),
    /// A host and a port, by mutual TLS.
    Tls {
        /// Name or address.
        host: String,
        /// Port.
        port: u16,
    },
}

impl Default for Endpoint {
    fn default() -> Self {
        Endpoint::Unix(PathBuf::from(DEFAULT_PATH))
    }
}

impl FromStr for Endpoint {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        Ok(match text.parse()? {
            Target::Unix(path) => Endpoint::Unix(path),
            Target::Loopback(address) => Endpoint::Loopback(address),
            Target::Tls { host, port } => Endpoint::Tls { host, port },
        })
    }
}

impl From<&Endpoint> for Target {
    fn from(endpoint: &Endpoint) -> Self {
        match endpoint.clone() {
            Endpoint::Unix(path) => Target::Unix(path),
            Endpoint::Loopback(address) => Target::Loopback(address),
            Endpoint::Tls { host, port } => Target::Tls { host, port },
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Target::from(self).fmt(f)
    }
}

/// What to read.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// From whom.
    pub endpoint: Endpoint,
    /// What is trusted and shown, with [`Endpoint::Tls`].
    pub tls: ClientFiles,
    /// What the agent's certificate must be for, if not the endpoint's host.
    pub server_name: Option<String>,
    /// Name for the agent's logs.
    pub consumer: String,
    /// Where to begin.
    pub start_from: StartFrom,
    /// With [`StartFrom::Cursor`].
    pub cursor: String,
    /// With [`StartFrom::Since`].
    pub since_unix_nano: u64,
    /// What to be sent.
    pub filter: Filter,
    /// End after so many findings.
    pub count: Option<u64>,
    /// End with the connection instead of coming back.
    pub once: bool,
}

/// What happened.
#[derive(Debug)]
pub enum Event<'a> {
    /// The subscription stands: findings from now on will come.
    Subscribed,
    /// A finding.
    Finding(&'a Finding),
    /// Something is missing.
    Loss(&'a LossReport),
    /// The agent has read its rules again.
    RulesChange(&'a RulesChange),
    /// The agent has done something about its node's seccomp profiles.
    ProfilesChange(&'a ProfilesChange),
    /// A sign of life.
    Heartbeat(&'a Heartbeat),
    /// The agent is gone; the next try follows.
    Disconnected {
        /// Why.
        reason: &'a TailError,
        /// In how long.
        retry_in: Duration,
    },
}

/// Why reading ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// [`Options::count`] findings were read.
    Count,
    /// The caller broke off.
    Stopped,
    /// The agent stopped, and had sent everything ([`Options::once`]).
    AgentStopped,
}

/// What was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Why it ended.
    pub end: End,
    /// How many findings.
    pub findings: u64,
    /// Position after the last response that was read as a whole.
    pub cursor: Option<String>,
}

/// Why nothing more can be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TailError {
    /// Nothing is at the path.
    #[error("no socket at {0:?}: is the agent running? start it with: sudo monitor run")]
    NoSocket(PathBuf),
    /// A socket without an owner.
    #[error("nobody serves on {0}: is the agent running? start it with: sudo monitor run")]
    NobodyServes(Endpoint),
    /// The socket is not for this user.
    #[error("permission denied: {path:?} belongs to {}", owner(*uid))]
    Permission {
        /// The socket.
        path: PathBuf,
        /// Its owner, if that can be seen.
        uid: Option<u32>,
    },
    /// Another reason not to get there.
    #[error("cannot connect to {endpoint}: {source}")]
    Connect {
        /// Where to.
        endpoint: Endpoint,
        /// Why.
        source: io::Error,
    },
    /// The certificates cannot be used.
    #[error(transparent)]
    Dialer(#[from] DialerError),
    /// Whoever serves there is no agent, or does not answer.
    #[error("{endpoint} does not answer as an agent: {detail}")]
    NotAnAgent {
        /// Who.
        endpoint: Endpoint,
        /// How.
        detail: String,
    },
    /// The agent does not take the request.
    #[error("the agent refused the subscription: {} ({:?})", .0.message(), .0.code())]
    Refused(Box<Status>),
    /// The connection broke.
    #[error("the connection to the agent broke: {}", .0.message())]
    Broken(Box<Status>),
    /// The agent ended.
    #[error("the agent stopped")]
    AgentStopped,
    /// Not even a heartbeat.
    #[error("the agent has been silent for {} s", SILENCE.as_secs())]
    Silent,
}

fn owner(uid: Option<u32>) -> String {
    match uid {
        Some(0) => "root: use sudo".to_owned(),
        Some(uid) => format!("the user with id {uid}: read as that user, or use sudo"),
        None => "another user: use sudo".to_owned(),
    }
}

impl TailError {
    /// Whether the same request may succeed later.
    fn may_pass(&self) -> bool {
        match self {
            TailError::Refused(status) => status.code() == Code::ResourceExhausted,
            TailError::Permission { .. } | TailError::Dialer(_) => false,
            _ => true,
        }
    }
}

/// Reads findings and hands them, and what happens around them, to `on_event` until it breaks off. The first connection
/// must succeed; after that the agent may come and go.
pub async fn run(options: Options, on_event: impl FnMut(Event<'_>) -> ControlFlow<()>) -> Result<Outcome, TailError> {
    let mut tail = Tail { cursor: None, findings: 0, tries: 0, options, on_event };
    let end = tail.run().await?;
    Ok(Outcome { end, findings: tail.findings, cursor: tail.cursor })
}

struct Tail<F> {
    options: Options,
    on_event: F,
    /// Where to go on; set as soon as the first subscription stands.
    cursor: Option<String>,
    findings: u64,
    /// Tries since the last response.
    tries: u32,
}

impl<F: FnMut(Event<'_>) -> ControlFlow<()>> Tail<F> {
    async fn run(&mut self) -> Result<End, TailError> {
        if self.options.count == Some(0) {
            return Ok(End::Count);
        }
        loop {
            let reason = match self.connection().await {
                Ok(end) => return Ok(end),
                Err(TailError::AgentStopped) if self.options.once => return Ok(End::AgentStopped),
                Err(error) if self.options.once || self.cursor.is_none() || !error.may_pass() => return Err(error),
                Err(error) => error,
            };
            let retry_in = backoff(self.tries, random());
            self.tries = self.tries.saturating_add(1);
            if (self.on_event)(Event::Disconnected { reason: &reason, retry_in }).is_break() {
                return Ok(End::Stopped);
            }
            sleep(retry_in).await;
        }
    }

    /// One connection, from dialling to its end.
    async fn connection(&mut self) -> Result<End, TailError> {
        let endpoint = &self.options.endpoint;
        let silent = || TailError::NotAnAgent {
            endpoint: endpoint.clone(),
            detail: format!("no answer within {} s", CONNECT_WITHIN.as_secs()),
        };
        let channel = timeout(CONNECT_WITHIN, dial(&self.options)).await.map_err(|_| silent())??;
        let mut client = FindingsClient::new(channel).max_decoding_message_size(MAX_RESPONSE_BYTES);
        let requests = tokio_stream::once(self.open());
        let answer = timeout(CONNECT_WITHIN, client.subscribe(requests)).await.map_err(|_| silent())?;
        let mut responses = answer.map_err(|status| self.failed(status))?.into_inner();
        let mut subscribed = false;
        loop {
            let response = timeout(SILENCE, responses.message()).await.map_err(|_| TailError::Silent)?;
            let response = response.map_err(|status| self.failed(status))?.ok_or(TailError::AgentStopped)?;
            self.tries = 0;
            if !subscribed && (self.on_event)(Event::Subscribed).is_break() {
                return Ok(End::Stopped);
            }
            subscribed = true;
            if let ControlFlow::Break(end) = self.response(response) {
                return Ok(end);
            }
        }
    }

    fn open(&self) -> SubscribeRequest {
        let Options { consumer, start_from, cursor, filter, .. } = &self.options;
        let (start_from, cursor) = match &self.cursor {
            Some(cursor) => (StartFrom::Cursor, cursor),
            None => (*start_from, cursor),
        };
        let open = Open {
            consumer: consumer.clone(),
            start_from: start_from.into(),
            cursor: cursor.clone(),
            filter: Some(filter.clone()),
            since_unix_nano: if self.cursor.is_none() { self.options.since_unix_nano } else { 0 },
            ..Open::default()
        };
        SubscribeRequest { request: Some(subscribe_request::Request::Open(open)) }
    }

    fn response(&mut self, response: SubscribeResponse) -> ControlFlow<End> {
        let stopped = |flow: ControlFlow<()>| match flow {
            ControlFlow::Continue(()) => ControlFlow::Continue(()),
            ControlFlow::Break(()) => ControlFlow::Break(End::Stopped),
        };
        let cursor = match response.response {
            Some(Response::Batch(batch)) => {
                for finding in &batch.findings {
                    self.findings += 1;
                    stopped((self.on_event)(Event::Finding(finding)))?;
                    if self.options.count.is_some_and(|count| self.findings >= count) {
                        return ControlFlow::Break(End::Count);
                    }
                }
                batch.cursor
            }
            Some(Response::Loss(loss)) => {
                stopped((self.on_event)(Event::Loss(&loss)))?;
                loss.cursor
            }
            Some(Response::RulesChange(change)) => {
                stopped((self.on_event)(Event::RulesChange(&change)))?;
                change.cursor
            }
            Some(Response::ProfilesChange(change)) => {
                stopped((self.on_event)(Event::ProfilesChange(&change)))?;
                change.cursor
            }
            Some(Response::Heartbeat(heartbeat)) => {
                stopped((self.on_event)(Event::Heartbeat(&heartbeat)))?;
                heartbeat.cursor
            }
            // Of a newer agent: nothing to show, and its cursor comes with the next.
            None => return ControlFlow::Continue(()),
        };
        self.cursor = Some(cursor);
        ControlFlow::Continue(())
    }

    /// What a status means: a word of the agent, or the end of the connection.
    fn failed(&self, status: Status) -> TailError {
        let endpoint = self.options.endpoint.clone();
        match status.code() {
            Code::InvalidArgument
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::ResourceExhausted
            | Code::FailedPrecondition => TailError::Refused(Box::new(status)),
            Code::Unimplemented => TailError::NotAnAgent { endpoint, detail: "it does not serve findings".to_owned() },
            _ if self.cursor.is_none() => TailError::NotAnAgent { endpoint, detail: status.message().to_owned() },
            _ => TailError::Broken(Box::new(status)),
        }
    }
}

async fn dial(options: &Options) -> Result<Channel, TailError> {
    let endpoint = &options.endpoint;
    let channel = match endpoint {
        Endpoint::Tls { .. } => {
            let dialer = Dialer::new(endpoint.into(), options.tls.clone(), options.server_name.clone(), None)?;
            let stream = dialer.connect().await.map_err(|source| connect_error(endpoint, source))?;
            speak(stream).await
        }
        Endpoint::Unix(path) => {
            let stream = UnixStream::connect(path).await.map_err(|error| unix_error(path, error))?;
            speak(stream).await
        }
        Endpoint::Loopback(address) => {
            let stream = TcpStream::connect(address).await.map_err(|source| connect_error(endpoint, source))?;
            speak(stream).await
        }
    };
    channel.map_err(|error| TailError::NotAnAgent { endpoint: endpoint.clone(), detail: error.to_string() })
}

fn unix_error(path: &Path, error: io::Error) -> TailError {
    let path = path.to_owned();
    match error.kind() {
        ErrorKind::NotFound => TailError::NoSocket(path),
        ErrorKind::PermissionDenied => {
            TailError::Permission { uid: fs::metadata(&path).ok().map(|metadata| metadata.uid()), path }
        }
        _ => connect_error(&Endpoint::Unix(path), error),
    }
}

fn connect_error(endpoint: &Endpoint, source: io::Error) -> TailError {
    match source.kind() {
        ErrorKind::ConnectionRefused => TailError::NobodyServes(endpoint.clone()),
        _ => TailError::Connect { endpoint: endpoint.clone(), source },
    }
}

/// Speaks HTTP/2 on a connection that stands already, so that errors of connecting keep their kind. The channel does not
/// come back by itself when the connection ends.
async fn speak<S>(stream: S) -> Result<Channel, tonic::transport::Error>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut stream = Some(TokioIo::new(stream));
    let connector = tower::service_fn(move |_: Uri| {
        let stream = stream.take().ok_or_else(|| io::Error::from(ErrorKind::NotConnected));
        async move { stream }
    });
    tonic::transport::Endpoint::from_static("http://agent").connect_with_connector(connector).await
}

/// How long to wait after so many tries in vain: doubling, and scattered so that consumers do not come back all at once.
fn backoff(tries: u32, random: u64) -> Duration {
    let (first, longest) = BACKOFF;
    let full = first.saturating_mul(1 << tries.min(16)).min(longest);
    let half = full / 2;
    let share = u32::try_from(random % 1024).unwrap_or_default();
    half + half * share / 1024
}

/// Some number. The standard library seeds its hashers from the system's randomness.
fn random() -> u64 {
    RandomState::new().hash_one(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_unix_sockets_and_loopback_ports() {
        let unix = |path: &str| Ok(Endpoint::Unix(PathBuf::from(path)));
        assert_eq!("unix:/run/a.sock".parse(), unix("/run/a.sock"));
        assert_eq!("unix:///run/a.sock".parse(), unix("/run/a.sock"));
        assert_eq!("unix:a.sock".parse(), unix("a.sock"));
        for port in ["127.0.0.1:5000", "127.9.9.9:1", "[::1]:5000", "localhost:5000"] {
            let endpoint: Endpoint = format!("http://{port}").parse().unwrap();
            assert_eq!(endpoint, Endpoint::Loopback(port.to_owned()));
            assert_eq!(endpoint.to_string().parse(), Ok(endpoint));
        }
    }

    #[test]
    fn endpoints_that_do_not_work_say_what_does() {
        for text in
            ["", "unix:", "unix://", "/run/a.sock", "https://127.0.0.1/x", "tcp://x:1", "http://127.0.0.1", "http://:1"]
        {
            let error = text.parse::<Endpoint>().unwrap_err();
            assert_eq!(error, TargetError::Unsupported(text.to_owned()));
            assert!(error.to_string().contains("expected unix:PATH, https://HOST:PORT or"));
        }
        for text in
            ["http://10.0.0.1:1", "http://node-1:1", "http://localhost.evil.example:1", "http://[2001:db8::1]:1"]
        {
            assert_eq!(text.parse::<Endpoint>(), Err(TargetError::NotLoopback(text.to_owned())));
        }
    }

    #[test]
    fn a_socket_of_root_asks_for_sudo() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let denied = || io::Error::from(ErrorKind::PermissionDenied);
        let error = unix_error(file.path(), denied());
        let expected = owner(Some(fs::metadata(file.path()).unwrap().uid()));
        assert_eq!(error.to_string(), format!("permission denied: {:?} belongs to {expected}", file.path()));
        assert_eq!(owner(Some(0)), "root: use sudo");
        let error = unix_error(Path::new("/no/such"), denied());
        assert!(error.to_string().ends_with("belongs to another user: use sudo"));
        assert!(!error.may_pass());
    }

    #[test]
    fn waits_grow_to_ten_seconds_and_are_scattered() {
        let waits: Vec<Duration> = (0..40).map(|tries| backoff(tries, u64::MAX)).collect();
        assert!(waits.is_sorted());
        assert!(waits[0] <= Duration::from_millis(100));
        assert!(waits[39] <= Duration::from_secs(10) && waits[39] > Duration::from_secs(9));
        assert_eq!(backoff(u32::MAX, 0), Duration::from_secs(5));
        let scattered: std::collections::BTreeSet<Duration> = (0..64).map(|_| backoff(10, random())).collect();
        assert!(scattered.len() > 8);
    }
}
