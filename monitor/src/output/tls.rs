//! TLS from files that change: certificates are rotated under a running agent, and the next connection uses the new ones.
//!
//! Files are looked at before each connection and read when they are others than before. What cannot be read or does not fit
//! together leaves what was there, and is said. As a server: TLS 1.3 alone. As a client: TLS 1.2 or 1.3, and what the other
//! side has to be is never in doubt.

use std::{
    fmt, fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use tokio_rustls::rustls::{
    self, ClientConfig, RootCertStore, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
    version,
};

const ALPN_HTTP2: &[u8] = b"h2";

/// Why files do not make a TLS configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {path:?}: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("{path:?} has no {what} in PEM form")]
    Content {
        /// Which.
        path: PathBuf,
        /// What is missing.
        what: &'static str,
    },
    /// The machine has no certificates to trust.
    #[error("this machine has no trusted certificates: name a CA file")]
    NoRoots,
    /// They do not fit together.
    #[error("the certificates do not fit together: {0}")]
    Rustls(#[from] rustls::Error),
    /// Clients could not be checked.
    #[error("the client CA cannot be used: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

impl TlsError {
    /// A bounded word for it.
    pub const fn kind(&self) -> &'static str {
        match self {
            TlsError::Read { .. } => "tls_read",
            TlsError::Content { .. } => "tls_content",
            TlsError::NoRoots => "tls_no_roots",
            TlsError::Rustls(_) => "tls_mismatch",
            TlsError::Verifier(_) => "tls_client_ca",
        }
    }
}

/// A certificate chain and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The chain, own certificate first.
    pub certificate_file: PathBuf,
    /// The private key.
    pub key_file: PathBuf,
}

impl Identity {
    fn load(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
        let key = PrivateKeyDer::from_pem_slice(&read(&self.key_file)?);
        let key = key.map_err(|_| TlsError::Content { path: self.key_file.clone(), what: "private key" })?;
        Ok((certificates(&self.certificate_file)?, key))
    }

    fn files(&self) -> [&Path; 2] {
        [&self.certificate_file, &self.key_file]
    }
}

/// What a client trusts, and what it shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientFiles {
    /// Who may sign the other side's certificate; the machine's own list without.
    pub ca_file: Option<PathBuf>,
    /// What is shown to a server that asks.
    pub identity: Option<Identity>,
}

/// What a server shows, and whom it lets in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFiles {
    /// What it shows.
    pub identity: Identity,
    /// Who may sign the clients' certificates; without it any client is let in.
    pub client_ca_file: Option<PathBuf>,
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    found.ok().filter(|found| !found.is_empty()).ok_or(TlsError::Content { path: path.to_owned(), what: "certificate" })
}

fn roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(path)? {
        store.add(certificate)?;
    }
    Ok(store)
}

fn native_roots() -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if store.is_empty() { Err(TlsError::NoRoots) } else { Ok(store) }
}

/// The one provider of the agent.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Files that make a configuration.
pub trait Files: fmt::Debug + Send + Sync {
    /// What they make.
    type Config: Send + Sync;
    /// Which they are.
    fn paths(&self) -> Vec<&Path>;
    /// Reads them.
    fn load(&self) -> Result<Self::Config, TlsError>;
}

impl Files for ClientFiles {
    type Config = ClientConfig;

    fn paths(&self) -> Vec<&Path> {
        let identity = self.identity.iter().flat_map(Identity::files);
        self.ca_file.iter().map(PathBuf::as_path).chain(identity).collect()
    }

    fn load(&self) -> Result<ClientConfig, TlsError> {
        let roots = self.ca_file.as_deref().map_or_else(native_roots, roots)?;
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])?
            .with_root_certificates(roots);
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let (chain, key) = identity.load()?;
                builder.with_client_auth_cert(chain, key)?
            }
        };
        config.alpn_protocols = vec![ALPN_HTTP2.to_vec()];
        Ok(config)
    }
}

impl Files for ServerFiles {
    type Config = ServerConfig;

    fn paths(&self) -> Vec<&Path> {
        self.identity.files().into_iter().chain(self.client_ca_file.as_deref()).collect()
    }

    fn load(&self) -> Result<ServerConfig, TlsError> {
        let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[&version::TLS13])?;
        let builder = match &self.client_ca_file {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let clients = Arc::new(roots(path)?);
                builder.with_client_cert_verifier(
                    WebPkiClientVerifier::builder_with_provider(clients, provider()).build()?,
                )
            }
        };
        let (chain, key) = self.identity.load()?;
        let mut config = builder.with_single_cert(chain, key)?;
        config.alpn_protocols = vec![ALPN_HTTP2.to_vec()];
        // A connection that is resumed would outlive the certificate that it was let in with.
        config.send_tls13_tickets = 0;
        Ok(config)
    }
}

/// What tells whether a file is another one: device, inode, size, time of change.
type Mark = Option<(u64, u64, u64, i64, i64)>;

fn mark(path: &Path) -> Mark {
    // Through links: a Kubernetes secret is replaced by turning one.
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino(), metadata.len(), metadata.mtime(), metadata.mtime_nsec()))
}

/// A configuration that follows its files.
#[derive(Debug)]
pub struct Reloading<F: Files> {
    files: F,
    loaded: Mutex<Loaded<F::Config>>,
}

#[derive(Debug)]
struct Loaded<C> {
    marks: Vec<Mark>,
    config: Arc<C>,
}

impl<F: Files> Reloading<F> {
    /// Reads the files for the first time, when an error still has somebody to hear it.
    pub fn new(files: F) -> Result<Self, TlsError> {
        let marks = files.paths().into_iter().map(mark).collect();
        let config = Arc::new(files.load()?);
        Ok(Self { files, loaded: Mutex::new(Loaded { marks, config }) })
    }

    /// What the files make now; what they made before, where they do not make anything any more.
    pub fn current(&self) -> Arc<F::Config> {
        let marks: Vec<Mark> = self.files.paths().into_iter().map(mark).collect();
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if loaded.marks != marks {
            loaded.marks = marks;
            match self.files.load() {
                Ok(config) => {
                    loaded.config = Arc::new(config);
                    tracing::info!("certificates reloaded");
                }
                Err(error) => {
                    tracing::warn!(kind = error.kind(), "certificates NOT reloaded, those from before stay: {error}");
                }
            }
        }
        Arc::clone(&loaded.config)
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn write(directory: &Path, name: &str) -> Identity {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(&key).unwrap();
        let identity = Identity { certificate_file: directory.join("tls.crt"), key_file: directory.join("tls.key") };
        fs::write(&identity.key_file, key.serialize_pem()).unwrap();
        fs::write(&identity.certificate_file, certificate.pem()).unwrap();
        identity
    }

    #[test]
    fn files_that_change_are_read_again_and_bad_ones_change_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let identity = write(directory.path(), "a");
        let client_ca_file = identity.certificate_file.clone();
        let reloading =
            Reloading::new(ServerFiles { identity: identity.clone(), client_ca_file: Some(client_ca_file) }).unwrap();
        let first = reloading.current();
        assert!(Arc::ptr_eq(&first, &reloading.current()));
        write(directory.path(), "longer.example");
        let second = reloading.current();
        assert!(!Arc::ptr_eq(&first, &second));
        fs::write(&identity.certificate_file, "nothing").unwrap();
        assert!(Arc::ptr_eq(&second, &reloading.current()));
    }

    #[test]
    fn what_is_wrong_with_files_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let identity = write(directory.path(), "a");
        let missing = ClientFiles { ca_file: Some(directory.path().join("no")), identity: None };
        assert_eq!(missing.load().unwrap_err().kind(), "tls_read");
        let not_a_certificate = ClientFiles { ca_file: Some(identity.key_file.clone()), identity: None };
        assert_eq!(not_a_certificate.load().unwrap_err().kind(), "tls_content");
        let other = tempfile::tempdir().unwrap();
        let key_file = write(other.path(), "b").key_file;
        let mismatch = ClientFiles {
            ca_file: Some(identity.certificate_file.clone()),
            identity: Some(Identity { certificate_file: identity.certificate_file, key_file }),
        };
        assert_eq!(mismatch.load().unwrap_err().kind(), "tls_mismatch");
    }
}
