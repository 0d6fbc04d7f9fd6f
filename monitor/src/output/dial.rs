//! Connections to other machines: names resolved anew each time, TLS from files that change, a bearer token from a file.
//!
//! In the clear only to this machine. A connection is made when it is needed and made again when it broke; one that has been
//! idle for longer than load balancers keep it, or that is old, is given up for a new one.

use std::{
    collections::hash_map::RandomState,
    fmt, fs,
    hash::BuildHasher as _,
    io::{self, ErrorKind},
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream, lookup_host},
    time::timeout,
};
use tokio_rustls::{TlsConnector, rustls::pki_types::ServerName};
use tonic::{
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint, Uri},
};

use super::tls::{ClientFiles, Reloading, TlsError};

/// How long a name, a connection and a handshake may take together.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// While something is asked: after how long in silence whether the other side still lives, and how long it may take to say so.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(20));
/// Longest token that is read.
const MAX_TOKEN_BYTES: u64 = 64 << 10;

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A unix socket.
    Unix(PathBuf),
    /// `HOST:PORT` on this machine, in the clear.
    Loopback(String),
    /// A host and a port, by TLS.
    Tls {
        /// Name or address.
        host: String,
        /// Port.
        port: u16,
    },
}

/// A target that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// Not one of the schemes that work.
    #[error("unsupported endpoint {0:?}: expected unix:PATH, https://HOST:PORT or http://127.0.0.1:PORT")]
    Unsupported(String),
    /// Findings would cross the network in the clear.
    #[error("refusing {0:?}: findings would cross the network unencrypted; use https://")]
    NotLoopback(String),
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let unsupported = || TargetError::Unsupported(text.to_owned());
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.is_empty() { Err(unsupported()) } else { Ok(Target::Unix(PathBuf::from(path))) };
        }
        let uri: Uri = text.parse().map_err(|_| unsupported())?;
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(unsupported)?;
        let is_bare = matches!(uri.path(), "" | "/") && uri.query().is_none();
        match (uri.scheme_str(), uri.port_u16()) {
            (Some("https"), port) if is_bare => {
                let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
                Ok(Target::Tls { host, port: port.unwrap_or(443) })
            }
            (Some("http"), Some(port)) if is_bare => {
                let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
                if host != "localhost" && !address.is_ok_and(|address| address.is_loopback()) {
                    return Err(TargetError::NotLoopback(text.to_owned()));
                }
                Ok(Target::Loopback(format!("{host}:{port}")))
            }
            _ => Err(unsupported()),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Unix(path) => write!(f, "unix:{}", path.display()),
            Target::Loopback(address) => write!(f, "http://{address}"),
            Target::Tls { host, port } if host.contains(':') => write!(f, "https://[{host}]:{port}"),
            Target::Tls { host, port } => write!(f, "https://{host}:{port}"),
        }
    }
}

/// How to get to a server.
#[derive(Debug)]
pub struct Dialer {
    target: Target,
    tls: Option<Tls>,
    token_file: Option<PathBuf>,
}

#[derive(Clone, Debug)]
struct Tls {
    files: Arc<Reloading<ClientFiles>>,
    name: ServerName<'static>,
}

/// Why a dialer cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialerError {
    /// The certificates are not right.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The name cannot stand in a certificate.
    #[error("{0:?} cannot be the name of a server")]
    Name(String),
}

impl Dialer {
    /// To a target. `server_name` is what its certificate must be for; its host without.
    pub fn new(
        target: Target,
        files: ClientFiles,
        server_name: Option<String>,
        token_file: Option<PathBuf>,
    ) -> Result<Self, DialerError> {
        let tls = match &target {
            Target::Tls { host, .. } => {
                let name = server_name.unwrap_or_else(|| host.clone());
                let name = ServerName::try_from(name.clone()).map_err(|_| DialerError::Name(name))?;
                Some(Tls { files: Arc::new(Reloading::new(files)?), name })
            }
            Target::Unix(_) | Target::Loopback(_) => None,
        };
        Ok(Self { target, tls, token_file })
    }

    /// Where it leads.
    pub const fn target(&self) -> &Target {
        &self.target
    }

    /// A channel that connects when it is used, and again when that broke.
    pub fn channel(&self) -> Channel {
        let (target, tls) = (self.target.clone(), self.tls.clone());
        let connector = tower::service_fn(move |_: Uri| {
            let (target, tls) = (target.clone(), tls.clone());
            async move {
                let connected = timeout(CONNECT_WITHIN, connect(&target, tls.as_ref())).await;
                connected.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into())).map(TokioIo::new)
            }
        });
        let endpoint = Endpoint::from_static("http://localhost")
            .http2_keep_alive_interval(KEEPALIVE.0)
            .keep_alive_timeout(KEEPALIVE.1)
            .user_agent(concat!("monitor/", env!("CARGO_PKG_VERSION")));
        // The connector does TLS; the other side sees the scheme and the name that belong to it.
        let origin = match &self.target {
            Target::Tls { .. } => self.target.to_string().parse().ok(),
            Target::Loopback(address) => format!("http://{address}").parse().ok(),
            Target::Unix(_) => None,
        };
        let endpoint = match (endpoint, origin) {
            (Ok(endpoint), Some(origin)) => endpoint.origin(origin),
            (Ok(endpoint), None) => endpoint,
            (Err(_), _) => Endpoint::from_static("http://localhost"),
        };
        endpoint.connect_with_connector_lazy(connector)
    }

    /// A connection, by TLS where it is to be.
    pub(super) async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        connect(&self.target, self.tls.as_ref()).await
    }

    /// The value of the `authorization` header, read from the file now: tokens that Kubernetes mounts are replaced.
    pub fn authorization(&self) -> io::Result<Option<MetadataValue<Ascii>>> {
        let Some(path) = &self.token_file else { return Ok(None) };
        if fs::metadata(path)?.len() > MAX_TOKEN_BYTES {
            return Err(io::Error::new(ErrorKind::InvalidData, "the token file is too long"));
        }
        let token = fs::read_to_string(path)?;
        let mut value: MetadataValue<Ascii> = format!("Bearer {}", token.trim())
            .parse()
            .map_err(|_| io::Error::new(ErrorKind::InvalidData, "the token has characters that no header takes"))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

/// A connection, whatever it is made of.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

async fn connect(target: &Target, tls: Option<&Tls>) -> io::Result<Box<dyn Stream>> {
    let stream = match target {
        Target::Unix(path) => return Ok(Box::new(UnixStream::connect(path).await?)),
        Target::Loopback(address) => dial(lookup_host(address.as_str()).await?.collect()).await?,
        Target::Tls { host, port } => dial(lookup_host((host.as_str(), *port)).await?.collect()).await?,
    };
    match tls {
        None => Ok(Box::new(stream)),
        Some(tls) => {
            let connector = TlsConnector::from(tls.files.current());
            Ok(Box::new(connector.connect(tls.name.clone(), stream).await?))
        }
    }
}

/// Tries addresses in turn, beginning with a random one.
async fn dial(mut addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    if !addresses.is_empty() {
        let first = usize::try_from(random() % addresses.len() as u64).unwrap_or(0);
        addresses.rotate_left(first);
    }
    let mut last = io::Error::new(ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// A number that differs from process to process and from call to call; not for secrets.
pub(super) fn random() -> u64 {
    RandomState::new().hash_one(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_read_back_as_they_are_shown() {
        for text in ["unix:/run/a.sock", "http://127.0.0.1:80", "https://sink.example:8443", "https://[::1]:443"] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
        assert_eq!("https://a".parse::<Target>().unwrap().to_string(), "https://a:443");
        assert!(matches!("http://10.0.0.1:80".parse::<Target>(), Err(TargetError::NotLoopback(_))));
        for text in ["", "unix:", "tcp://a:1", "http://127.0.0.1", "https://a/path", "https://"] {
            assert!(matches!(text.parse::<Target>(), Err(TargetError::Unsupported(_))), "{text}");
        }
    }

    #[test]
    fn a_token_is_read_from_its_file_each_time() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let target = Target::Loopback("127.0.0.1:1".to_owned());
        let dialer = Dialer::new(target, ClientFiles::default(), None, Some(path.clone())).unwrap();
        assert!(dialer.authorization().is_err());
        for token in ["one", "two"] {
            fs::write(&path, format!("{token}\n")).unwrap();
            assert_eq!(dialer.authorization().unwrap().unwrap().to_str().unwrap(), format!("Bearer {token}"));
        }
        fs::write(&path, "a\nb").unwrap();
        assert!(dialer.authorization().is_err());
    }
}
