//! The client: a few requests to the Kubernetes API, each bounded in time and size.
//!
//! kube brings connection, TLS and the token (which it reads again each minute); paths and objects are ours, so that nothing is read that
//! is not used. A client is made anew after each failure, with files and addresses as they are then.

use std::{env, time::Duration};

use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::{Method, Request, Response, StatusCode, header};
use kube::{Client, Config, client::Body, config::AuthInfo};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::time::timeout;

use super::settings::Access;

/// How long an answer may take, but for a watch.
const WITHIN: Duration = Duration::from_secs(20);
/// Longest answer. A page of pods has some hundreds of kibibytes.
const MAX_BYTES: usize = 16 << 20;
/// Longest line of a watch: the API server's store takes objects of 1.5 MiB.
const MAX_LINE_BYTES: usize = 4 << 20;
/// Longest text of an error.
const MAX_ERROR_BYTES: usize = 64 << 10;

/// Why a request had no good answer.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// Nothing says where the API is.
    #[error("no address of the Kubernetes API: set kubernetes.server, or run in a pod with a service account")]
    NoServer,
    /// The address is none.
    #[error("kubernetes.server: {0:?} is no address")]
    Server(String),
    /// There is no connection, or no token, or no certificate to trust.
    #[error("cannot reach the Kubernetes API: {0}")]
    Connect(String),
    /// No answer in time.
    #[error("the Kubernetes API has not answered in {WITHIN:?}")]
    Slow,
    /// An answer that is none.
    #[error("the Kubernetes API's answer is not understood: {0}")]
    Malformed(String),
    /// More than is taken.
    #[error("the Kubernetes API's answer is longer than {0} bytes")]
    Large(usize),
    /// It said no.
    #[error("the Kubernetes API says {code}: {message}{mend}", mend = mend(*code))]
    Status {
        /// HTTP status.
        code: u16,
        /// What it said.
        message: String,
    },
}

/// What to do about a status.
const fn mend(code: u16) -> &'static str {
    match code {
        401 => " (the token is not taken: see kubernetes.token_file)",
        403 => " (the service account may not: see the ClusterRole of the chart)",
        _ => "",
    }
}

impl ApiError {
    /// A bounded word for it.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::NoServer | Self::Server(_) => "server",
            Self::Connect(_) => "connect",
            Self::Slow => "slow",
            Self::Malformed(_) => "malformed",
            Self::Large(_) => "large",
            Self::Status { code: 401, .. } => "unauthorized",
            Self::Status { code: 403, .. } => "forbidden",
            Self::Status { code: 404, .. } => "not_found",
            Self::Status { code: 409 | 422, .. } => "conflict",
            Self::Status { code: 410, .. } => "gone",
            Self::Status { code: 429, .. } => "too_many_requests",
            Self::Status { code: 500.., .. } => "server_error",
            Self::Status { .. } => "refused",
        }
    }

    /// Whether the object had changed meanwhile: a patch that tests something is refused then.
    pub(super) const fn is_conflict(&self) -> bool {
        matches!(self, Self::Status { code: 409 | 422, .. })
    }

    /// Whether what was asked for is too old to be had.
    pub(super) const fn is_gone(&self) -> bool {
        matches!(self, Self::Status { code: 410, .. })
    }

    fn of(error: &kube::Error) -> Self {
        Self::Connect(chain(error))
    }
}

/// An error with its causes.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.fold(String::new(), |text, cause| match cause.to_string() {
        cause if text.is_empty() => cause,
        cause if text.contains(&cause) => text,
        cause => format!("{text}: {cause}"),
    })
}

/// How a patch is meant.
#[derive(Clone, Copy, Debug)]
pub(super) enum Patch {
    /// RFC 6902.
    Json,
    /// Kubernetes' own: lists are merged by their keys.
    StrategicMerge,
}

/// A connection.
pub(super) struct Api(Client);

impl Api {
    /// Makes a client; it connects with the first request.
    pub(super) fn connect(access: &Access) -> Result<Self, ApiError> {
        let server = access.server.clone().or_else(server_of_environment).ok_or(ApiError::NoServer)?;
        let mut config = Config::new(server.parse().map_err(|_| ApiError::Server(server))?);
        config.root_cert_file = Some(access.ca_file.clone());
        config.auth_info =
            AuthInfo { token_file: Some(access.token_file.display().to_string()), ..AuthInfo::default() };
        config.connect_timeout = Some(WITHIN);
        config.default_retry = false;
        Client::try_from(config).map(Self).map_err(|error| ApiError::of(&error))
    }

    /// Reads an object, or a page of a list.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ApiError> {
        self.object(Method::GET, path, None).await
    }

    /// Changes an object, and reads what it is then.
    pub(super) async fn patch<T: DeserializeOwned>(
        &self,
        path: &str,
        kind: Patch,
        body: &Value,
    ) -> Result<T, ApiError> {
        self.object(Method::PATCH, path, Some((kind, body))).await
    }

    /// Begins a watch.
    pub(super) async fn watch(&self, path: &str) -> Result<Lines, ApiError> {
        let response = timeout(WITHIN, self.send(Method::GET, path, None)).await.map_err(|_| ApiError::Slow)??;
        Ok(Lines { body: response.into_body(), buffer: Vec::new(), from: 0 })
    }

    async fn object<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        change: Option<(Patch, &Value)>,
    ) -> Result<T, ApiError> {
        let answer = async {
            let response = self.send(method, path, change).await?;
            let bytes = collect(response.into_body(), MAX_BYTES).await?;
            serde_json::from_slice(&bytes).map_err(|error| ApiError::Malformed(error.to_string()))
        };
        timeout(WITHIN, answer).await.map_err(|_| ApiError::Slow)?
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        change: Option<(Patch, &Value)>,
    ) -> Result<Response<Body>, ApiError> {
        let mut request = Request::builder().method(method).uri(path).header(header::ACCEPT, "application/json");
        let mut body = Vec::new();
        if let Some((kind, value)) = change {
            let content_type = match kind {
                Patch::Json => "application/json-patch+json",
                Patch::StrategicMerge => "application/strategic-merge-patch+json",
            };
            request = request.header(header::CONTENT_TYPE, content_type);
            body = value.to_string().into_bytes();
        }
        let request = request.body(Body::from(body)).map_err(|error| ApiError::Malformed(error.to_string()))?;
        let response = self.0.send(request).await.map_err(|error| ApiError::of(&error))?;
        let code = response.status();
        if code.is_success() { Ok(response) } else { Err(refusal(code, response.into_body()).await) }
    }
}

async fn collect(body: Body, most: usize) -> Result<Vec<u8>, ApiError> {
    let collected = Limited::new(body, most).collect().await;
    collected.map(|collected| collected.to_bytes().to_vec()).map_err(|error| {
        if error.is::<LengthLimitError>() { ApiError::Large(most) } else { ApiError::Connect(chain(&*error)) }
    })
}

/// What a `Status` object, or whatever it is instead, says.
async fn refusal(code: StatusCode, body: Body) -> ApiError {
    #[derive(Deserialize)]
    struct Said {
        message: String,
    }
    let bytes = collect(body, MAX_ERROR_BYTES).await.unwrap_or_default();
    let said = serde_json::from_slice::<Said>(&bytes).map(|said| said.message);
    let message = said.unwrap_or_else(|_| code.canonical_reason().unwrap_or_default().to_owned());
    ApiError::Status { code: code.as_u16(), message: message.chars().take(512).collect() }
}

/// The lines of a watch.
pub(super) struct Lines {
    body: Body,
    buffer: Vec<u8>,
    /// What of the buffer has no line feed.
    from: usize,
}

impl Lines {
    /// The next one; `None` when the watch has ended.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<u8>>, ApiError> {
        loop {
            let unseen = self.buffer.get(self.from..).unwrap_or_default();
            if let Some(at) = memchr::memchr(b'\n', unseen) {
                let rest = self.buffer.split_off(self.from + at + 1);
                self.from = 0;
                return Ok(Some(std::mem::replace(&mut self.buffer, rest)));
            }
            self.from = self.buffer.len();
            if self.buffer.len() > MAX_LINE_BYTES {
                return Err(ApiError::Large(MAX_LINE_BYTES));
            }
            let Some(frame) = self.body.frame().await else { return Ok(None) };
            let frame = frame.map_err(|error| ApiError::of(&error))?;
            if let Some(data) = frame.data_ref() {
                self.buffer.extend_from_slice(data);
            }
        }
    }
}

/// Where pods are told that the API is.
fn server_of_environment() -> Option<String> {
    let (host, port) = (env::var("KUBERNETES_SERVICE_HOST").ok()?, env::var("KUBERNETES_SERVICE_PORT").ok()?);
    Some(if host.contains(':') { format!("https://[{host}]:{port}") } else { format!("https://{host}:{port}") })
}
