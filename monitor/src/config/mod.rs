//! The configuration file: read, then resolved and checked.
//!
//! Two stages: [`file::File`] is what is written, [`Config`] is what the agent works with, with every address parsed, every
//! certificate read and every bound checked. An error names the key.

pub mod file;

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    kubernetes::settings::{self, Access, Mode, NodeSettings, Settings},
    output::{
        dial::{Dialer, DialerError, Target, TargetError},
        push::{Backoff, Begin, Protocol, SinkOptions},
        spool::{Limits, reader::Most},
        tls::{ClientFiles, Identity, ServerFiles},
    },
    profile_sync::{self, Node},
    redact::{PatternError, Redactor},
};

/// Longest file that is read.
const MAX_BYTES: u64 = 1 << 20;
/// Most sinks.
const MAX_SINKS: usize = 16;

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// It cannot be read.
    #[error("cannot read the configuration {path:?}: {source}")]
    Read {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not what a configuration is.
    #[error("{path}: {message}", path = path.display())]
    Syntax {
        /// Where.
        path: PathBuf,
        /// What, with line and column.
        message: String,
    },
    /// A value cannot be meant.
    #[error("configuration: {key}: {reason}")]
    Value {
        /// The key.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An endpoint cannot be used.
    #[error("configuration: {key}: {source}")]
    Endpoint {
        /// The key.
        key: String,
        /// Why.
        source: TargetError,
    },
    /// A sink cannot be reached as configured.
    #[error("configuration: {key}: {source}")]
    Dialer {
        /// The key.
        key: String,
        /// Why.
        source: DialerError,
    },
    /// A pattern is none.
    #[error("configuration: redaction.patterns: {0}")]
    Pattern(#[from] PatternError),
}

impl ConfigError {
    /// A bounded word for it.
    pub const fn kind(&self) -> &'static str {
        match self {
            ConfigError::Read { .. } => "read",
            ConfigError::Syntax { .. } => "syntax",
            ConfigError::Value { .. } => "value",
            ConfigError::Endpoint { .. } => "endpoint",
            ConfigError::Dialer { .. } => "dialer",
            ConfigError::Pattern(_) => "pattern",
        }
    }

    fn value(key: impl Into<String>, reason: impl Into<String>) -> Self {
        ConfigError::Value { key: key.into(), reason: reason.into() }
    }
}

/// What the agent works with.
#[derive(Debug, Default)]
pub struct Config {
    /// Name of the cluster, or empty.
    pub cluster_name: String,
    /// File with the drift policy.
    pub drift_policy: Option<PathBuf>,
    /// Hides secrets; `None` where nothing is hidden.
    pub redactor: Option<Redactor>,
    /// Where findings are kept.
    pub spool: Option<(PathBuf, Limits)>,
    /// To whom they are pushed.
    pub sinks: Vec<SinkOptions>,
    /// Where consumers may connect by mutual TLS.
    pub serve: Option<(SocketAddr, ServerFiles)>,
    /// Where metrics are.
    pub metrics: Option<SocketAddr>,
    /// Seccomp profiles that are kept on the node.
    pub seccomp_profiles: Option<SeccompProfiles>,
    /// How the Kubernetes API is asked, and what for.
    pub kubernetes: Option<Settings>,
}

/// Seccomp profiles of the node, and where they come from.
#[derive(Clone, Debug)]
pub struct SeccompProfiles {
    /// Directory with the profiles.
    pub from: PathBuf,
    /// Where they go.
    pub node: Node,
    /// How often they are looked at, whatever the kernel tells.
    pub every: Duration,
}

impl Config {
    /// Reads a file, or takes the defaults.
    pub fn load(path: Option<&Path>) -> Result<Config, ConfigError> {
        let Some(path) = path else { return Config::resolve(file::File::default()) };
        let read = |path: &Path| {
            if fs::metadata(path)?.len() > MAX_BYTES {
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, "longer than 1 MiB"));
            }
            fs::read_to_string(path)
        };
        let text = read(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Config::resolve(parse(&text).map_err(|message| ConfigError::Syntax { path: path.to_owned(), message })?)
    }

    /// Checks what is written, and makes of it what the agent works with.
    pub fn resolve(file: file::File) -> Result<Config, ConfigError> {
        let redactor = match file.redaction {
            file::Redaction { enabled: false, .. } => None,
            file::Redaction { patterns, .. } if patterns.is_empty() => Redactor::builtin(),
            file::Redaction { patterns, .. } => Some(Redactor::new(&patterns)?),
        };
        // Sinks live from the spool.
        let spool = file.spool.or_else(|| (!file.sinks.is_empty()).then(file::Spool::default));
        let spool = spool.map(self::spool).transpose()?;
        if file.sinks.len() > MAX_SINKS {
            return Err(ConfigError::value("sinks", format!("more than {MAX_SINKS}")));
        }
        let mut sinks: Vec<SinkOptions> = Vec::new();
        for (index, sink) in file.sinks.into_iter().enumerate() {
            let directory = spool.as_ref().map_or(Path::new("."), |(directory, _)| directory);
            let resolved = self::sink(&format!("sinks[{index}]"), sink, directory)?;
            if sinks.iter().any(|other| other.name == resolved.name) {
                return Err(ConfigError::value(format!("sinks[{index}].name"), "there is another sink of this name"));
            }
            sinks.push(resolved);
        }
        let serve = file.serve.map(|serve| {
            let identity = Identity { certificate_file: serve.certificate_file, key_file: serve.key_file };
            (serve.listen, ServerFiles { identity, client_ca_file: Some(serve.client_ca_file) })
        });
        let metrics = file.metrics.map(|metrics| metrics.listen);
        let seccomp_profiles = file.seccomp_profiles.map(seccomp_profiles).transpose()?;
        let drift_policy = Some(file.drift_policy).filter(|path| !path.as_os_str().is_empty());
        let kubernetes = file.kubernetes.map(kubernetes).transpose()?;
        let cluster_name = file.cluster_name;
        Ok(Config { cluster_name, drift_policy, redactor, spool, sinks, serve, metrics, seccomp_profiles, kubernetes })
    }
}

/// Reads what is written. The message has line and column.
pub fn parse(text: &str) -> Result<file::File, String> {
    if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        return Ok(file::File::default());
    }
    serde_saphyr::from_str(text).map_err(|error| error.to_string())
}

fn spool(written: file::Spool) -> Result<(PathBuf, Limits), ConfigError> {
    within("spool.max_mib", written.max_mib, 16, 1 << 20)?;
    within("spool.memory_mib", written.memory_mib.into(), 1, 1024)?;
    within("spool.sync_ms", written.sync_ms, 1, 60_000)?;
    if !written.directory.is_absolute() {
        return Err(ConfigError::value("spool.directory", "must be an absolute path"));
    }
    let limits = Limits {
        bytes: written.max_mib << 20,
        memory_bytes: usize::try_from(written.memory_mib).unwrap_or(0) << 20,
        sync_every: Duration::from_millis(written.sync_ms),
        ..Limits::default()
    };
    Ok((written.directory, limits))
}

fn seccomp_profiles(written: file::SeccompProfiles) -> Result<SeccompProfiles, ConfigError> {
    let file::SeccompProfiles { from, root, directory, look_every_s } = written;
    for (key, path) in [("seccomp_profiles.from", &from), ("seccomp_profiles.root", &root)] {
        if !path.is_absolute() {
            return Err(ConfigError::value(key, "must be an absolute path"));
        }
    }
    if let Some(reason) = profile_sync::odd(&directory) {
        return Err(ConfigError::value("seccomp_profiles.directory", reason));
    }
    within("seccomp_profiles.look_every_s", look_every_s, 1, 3600)?;
    Ok(SeccompProfiles { from, node: Node { root, directory }, every: Duration::from_secs(look_every_s) })
}

fn sink(key: &str, written: file::Sink, directory: &Path) -> Result<SinkOptions, ConfigError> {
    let at = |name: &str| format!("{key}.{name}");
    let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if written.name.is_empty() || written.name.len() > 63 || !written.name.bytes().all(good) {
        return Err(ConfigError::value(at("name"), "must be 1 to 63 of a-z, 0-9 and -"));
    }
    within(&at("batch.findings"), written.batch.findings as u64, 1, 4096)?;
    within(&at("batch.kib"), written.batch.kib as u64, 1, 3072)?;
    within(&at("batch.linger_ms"), written.batch.linger_ms, 0, 10_000)?;
    within(&at("in_flight"), written.in_flight as u64, 1, 64)?;
    within(&at("timeout_ms"), written.timeout_ms, 100, 120_000)?;
    within(&at("retry.first_ms"), written.retry.first_ms, 1, written.retry.longest_ms)?;
    within(&at("retry.longest_ms"), written.retry.longest_ms, 1, 600_000)?;
    let endpoint = |source| ConfigError::Endpoint { key: at("endpoint"), source };
    let target: Target = written.endpoint.parse().map_err(endpoint)?;
    if written.tls != file::ClientTls::default() && !matches!(target, Target::Tls { .. }) {
        return Err(ConfigError::value(at("tls"), "only an endpoint that begins with https:// has it"));
    }
    let identity = match (written.tls.certificate_file, written.tls.key_file) {
        (Some(certificate_file), Some(key_file)) => Some(Identity { certificate_file, key_file }),
        (None, None) => None,
        _ => return Err(ConfigError::value(at("tls"), "certificate_file and key_file go together")),
    };
    let files = ClientFiles { ca_file: written.tls.ca_file, identity };
    let dialer = Dialer::new(target, files, written.tls.server_name, written.token_file)
        .map_err(|source| ConfigError::Dialer { key: key.to_owned(), source })?;
    Ok(SinkOptions {
        dead_letters: directory.join(format!("{}.rejected.jsonl", written.name)),
        name: written.name,
        protocol: match written.protocol {
            file::Protocol::Monitor => Protocol::Findings,
            file::Protocol::Otlp => Protocol::Otlp,
        },
        dialer,
        gzip: written.compression == file::Compression::Gzip,
        most: Most { entries: written.batch.findings, bytes: written.batch.kib << 10 },
        linger: Duration::from_millis(written.batch.linger_ms),
        in_flight: written.in_flight,
        timeout: Duration::from_millis(written.timeout_ms),
        backoff: Backoff {
            first: Duration::from_millis(written.retry.first_ms),
            longest: Duration::from_millis(written.retry.longest_ms),
        },
        begin: match written.begin {
            file::Begin::Earliest => Begin::Earliest,
            file::Begin::Latest => Begin::Latest,
        },
    })
}

fn kubernetes(written: file::Kubernetes) -> Result<Settings, ConfigError> {
    const KEY: &str = "kubernetes";
    if !cfg!(feature = "kubernetes") {
        let reason =
            "this build has no Kubernetes client: build it with --features kubernetes, or leave this section away";
        return Err(ConfigError::value(KEY, reason));
    }
    let server = Some(written.server).filter(|server| !server.is_empty());
    if server.as_ref().is_some_and(|server| !server.starts_with("https://")) {
        return Err(ConfigError::value("kubernetes.server", "must begin with https://"));
    }
    for (key, path) in [("ca_file", &written.ca_file), ("token_file", &written.token_file)] {
        if !path.is_absolute() {
            return Err(ConfigError::value(format!("{KEY}.{key}"), "must be an absolute path"));
        }
    }
    let access = Access { server, ca_file: written.ca_file, token_file: written.token_file };
    let node = written.node.map(node).transpose()?;
    if node.is_none() && !written.pods {
        return Err(ConfigError::value(KEY, "asks for nothing: set pods or node, or leave this section away"));
    }
    Ok(Settings { access, watches_pods: written.pods, node })
}

fn node(written: file::Node) -> Result<NodeSettings, ConfigError> {
    within("kubernetes.node.check_s", written.check_s, 1, 3600)?;
    within("kubernetes.node.heartbeat_s", written.heartbeat_s, 10, 86_400)?;
    within("kubernetes.node.fail_open_s", written.fail_open_s, 0, 86_400)?;
    if !is_taint_key(&written.taint) {
        return Err(ConfigError::value(
            "kubernetes.node.taint",
            "is no key of a taint, such as monitor/agent-not-ready",
        ));
    }
    if !written.state_directory.is_absolute() {
        return Err(ConfigError::value("kubernetes.node.state_directory", "must be an absolute path"));
    }
    Ok(NodeSettings {
        mode: match written.mode {
            file::NodeMode::Own => Mode::Own,
            file::NodeMode::Condition => Mode::Condition,
        },
        taint: written.taint,
        fail_open: Duration::from_secs(written.fail_open_s),
        check: Duration::from_secs(written.check_s),
        heartbeat: Duration::from_secs(written.heartbeat_s),
        state_directory: written.state_directory,
    })
}

/// A qualified name: at most 253 bytes of a DNS name, a slash, and 63 of a name.
fn is_taint_key(key: &str) -> bool {
    let (prefix, name) = key.split_once('/').unwrap_or(("d", key));
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    settings::is_node_name(prefix) && (1..=63).contains(&name.len()) && name.bytes().all(is_plain)
}

fn within(key: &str, value: u64, least: u64, most: u64) -> Result<(), ConfigError> {
    let good = (least..=most).contains(&value);
    good.then_some(()).ok_or_else(|| ConfigError::value(key, format!("{value} is not between {least} and {most}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(text: &str) -> Result<Config, String> {
        Config::resolve(parse(text)?).map_err(|error| error.to_string())
    }

    fn error(text: &str) -> String {
        resolve(text).unwrap_err()
    }

    const SINK: &str = "sinks:\n  - name: a\n    endpoint: http://127.0.0.1:1\n";

    #[test]
    fn nothing_is_a_configuration_and_hides_secrets() {
        for text in ["", "# nothing\n", "{}"] {
            let config = resolve(text).unwrap();
            assert!(config.redactor.is_some() && config.spool.is_none() && config.metrics.is_none());
        }
        assert!(resolve("redaction:\n  enabled: false\n").unwrap().redactor.is_none());
    }

    #[test]
    fn a_sink_brings_a_spool_and_has_defaults() {
        let config = resolve(SINK).unwrap();
        assert_eq!(config.spool, Some((PathBuf::from("/var/lib/monitor/spool"), Limits::default())));
        let sink = &config.sinks[0];
        assert_eq!((sink.name.as_str(), sink.most.entries, sink.most.bytes, sink.in_flight), ("a", 512, 1 << 20, 4));
        assert_eq!(sink.dead_letters, Path::new("/var/lib/monitor/spool/a.rejected.jsonl"));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_its_key() {
        let with = |more: &str| error(&format!("{SINK}    {more}\n"));
        assert_eq!(with("in_flight: 0"), "configuration: sinks[0].in_flight: 0 is not between 1 and 64");
        assert!(with("tls: {ca_file: /a}").contains("sinks[0].tls: only an endpoint"));
        assert!(error("sinks: [{name: A, endpoint: 'unix:/a'}]").contains("sinks[0].name"));
        assert!(error("sinks: [{name: a, endpoint: 'http://10.0.0.1:1'}]").contains("unencrypted"));
        assert!(
            error("sinks: [{name: a, endpoint: 'unix:/a'}, {name: a, endpoint: 'unix:/b'}]").contains("another sink")
        );
        assert!(error("spool: {directory: here}").contains("spool.directory: must be an absolute path"));
        assert!(error("spool: {max_mib: 1}").contains("spool.max_mib: 1 is not between"));
        assert!(error("seccomp_profiles: {from: here}").contains("seccomp_profiles.from: must be an absolute path"));
        assert!(
            error("seccomp_profiles: {from: /a, directory: ../b}").contains("seccomp_profiles.directory: it begins")
        );
        assert!(error("seccomp_profiles: {from: /a, look_every_s: 0}").contains("is not between 1 and 3600"));
        assert!(error("seccomp_profiles: {root: /a}").contains("from"));
        assert!(error("redaction: {patterns: ['(']}").contains("redaction.patterns"));
        let text = error("metrics:\n  lisen: 127.0.0.1:1\n");
        assert!(text.contains("lisen") && text.contains("line 2"), "{text}");
    }

    #[cfg(not(feature = "kubernetes"))]
    #[test]
    fn a_build_without_the_client_refuses_what_it_cannot_do() {
        assert!(error("kubernetes: {}").contains("kubernetes: this build has no Kubernetes client"));
    }

    #[cfg(feature = "kubernetes")]
    #[test]
    fn the_kubernetes_section_has_defaults_and_bounds() {
        let settings = resolve("kubernetes: {node: {mode: condition}}").unwrap().kubernetes.unwrap();
        assert!(settings.watches_pods && settings.access.server.is_none());
        assert_eq!(settings.node.unwrap().mode, Mode::Condition);
        for (text, key) in [
            ("{server: 'http://10.0.0.1'}", "kubernetes.server: must begin with https://"),
            ("{token_file: token}", "kubernetes.token_file: must be an absolute path"),
            ("{pods: false}", "kubernetes: asks for nothing"),
            ("{node: {check_s: 0}}", "kubernetes.node.check_s: 0 is not between 1 and 3600"),
            ("{node: {taint: 'a/b/c'}}", "kubernetes.node.taint"),
            ("{node: {taint: ''}}", "kubernetes.node.taint"),
            ("{node: {state_directory: run}}", "kubernetes.node.state_directory"),
        ] {
            assert!(error(&format!("kubernetes: {text}")).contains(key), "{text}");
        }
    }

    #[test]
    fn the_file_that_ships_is_read_and_says_what_the_defaults_are() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/monitor.yaml");
        let shipped = parse(&fs::read_to_string(path).unwrap()).unwrap();
        let expected = file::File {
            spool: Some(file::Spool::default()),
            metrics: Some(file::Metrics::default()),
            ..file::File::default()
        };
        assert_eq!(shipped, expected);
    }

    #[test]
    fn every_key_that_the_shipped_file_shows_is_one() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/monitor.yaml");
        let text = fs::read_to_string(path).unwrap();
        // What is commented out as an example, `#- ` or `#  `, with its mark taken off.
        let examples: String = text
            .lines()
            .map(|line| match line.strip_prefix("#:") {
                Some(example) => format!("{example}\n"),
                None => format!("{line}\n"),
            })
            .collect();
        let all = parse(&examples).unwrap_or_else(|error| panic!("{error}\n{examples}"));
        assert_eq!((all.sinks.len(), all.serve.is_some()), (2, true));
        let profiles = all.seccomp_profiles.unwrap();
        let of_from = parse(&format!("seccomp_profiles: {{from: {}}}", profiles.from.display())).unwrap();
        assert_eq!(of_from.seccomp_profiles, Some(profiles), "the example shows the defaults");
        let shown = file::Kubernetes { node: Some(file::Node::default()), ..file::Kubernetes::default() };
        assert_eq!(all.kubernetes, Some(shown), "what is shown are the defaults");
    }
}
