//! Drift policy: what is made of drift, by where it happens and what it is.
//!
//! Rules are read in order. One whose scope and kinds fit lets pass what its exceptions name; of the rest its mode decides, if
//! it has one, else the next rule is read. What no rule decides gets the policy's own mode. A scope that asks for something
//! that is not known of the container does not fit, so that ignorance raises alarms and does not hide them.
//!
//! Everything here is a plain function of the event and the state, so that a replay under the same policy decides the same.

mod parse;

use std::ops::RangeInclusive;

use monitor_ebpf::record::file_flag;

use super::{Drift, classify};
use crate::{
    context::Context,
    event::Body,
    proto::v1::DriftKind,
    rules::{
        diagnostic::{Diagnostic, Text},
        glob,
    },
    state::{
        container::{metadata::Metadata, pod::Pod},
        thread::Image,
    },
};

/// What is made of drift.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Findings are informational.
    Observe,
    /// Findings are as urgent as their rules say.
    Alert,
}

impl Mode {
    /// Its word in policies and findings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Alert => "alert",
        }
    }
}

/// What a policy says of one drift.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict<'p> {
    /// What is made of it.
    pub mode: Mode,
    /// The rule that said so; `None` where none did.
    pub rule: Option<&'p str>,
}

/// A policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// What no rule decides; `None` for what suits the kind.
    mode: Option<Mode>,
    rules: Vec<Rule>,
}

/// A rule of a policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Rule {
    name: String,
    scope: Scope,
    /// Kinds that it is about; empty for all.
    kinds: Vec<DriftKind>,
    exceptions: Exceptions,
    mode: Option<Mode>,
}

/// Patterns of shells (`fnmatch`), of which one must match; none means that anything does.
type Globs = Vec<String>;

/// Where a rule applies. All that is given must fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Scope {
    namespaces: Globs,
    pods: Globs,
    /// Labels of the pod and patterns of their values.
    pod_labels: Vec<(String, String)>,
    /// Of the image as it was asked for, or of its repository.
    images: Globs,
    containers: Globs,
}

/// What passes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Exceptions {
    /// Of the file that drifted.
    paths: Globs,
    /// Of the program that runs it, which must be the image's own.
    processes: Globs,
    /// Of the program that wrote it, which must be the image's own.
    writers: Globs,
    sha256: Vec<[u8; 32]>,
    /// Seconds from the container's start in which package managers of the image may write programs.
    package_managers_s: Option<u64>,
}

/// Programs that install what a distribution packs.
const PACKAGE_MANAGERS: &[&str] = &[
    "apk",
    "apt",
    "apt-get",
    "aptitude",
    "dnf",
    "dnf5",
    "dpkg",
    "dpkg-deb",
    "microdnf",
    "pacman",
    "rpm",
    "tdnf",
    "unattended-upgrade",
    "yum",
    "zypper",
];

/// Longest package window: a policy that trusts them for longer trusts them always.
const PACKAGE_WINDOW_S: RangeInclusive<u64> = 1..=3600;

impl Policy {
    /// Reads a policy. What is wrong with it is all there.
    pub fn parse(text: Text) -> Result<(Self, Vec<Diagnostic>), Vec<Diagnostic>> {
        parse::policy(text)
    }

    /// How many rules it has.
    pub const fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether it has no rules.
    pub const fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// What it says of a drift; `None` where an exception lets it pass.
    pub fn judge(&self, context: &Context<'_>, drift: &Drift<'_>) -> Option<Verdict<'_>> {
        let metadata = context.container_metadata();
        for rule in &self.rules {
            if !(rule.kinds.is_empty() || rule.kinds.contains(&drift.kind)) || !rule.scope.fits(metadata, context.pod())
            {
                continue;
            }
            if rule.exceptions.cover(context, drift) {
                return None;
            }
            if let Some(mode) = rule.mode {
                return Some(Verdict { mode, rule: Some(&rule.name) });
            }
        }
        let usual = usual_mode(drift);
        // A policy that only observes does so always; one that alerts does not make alarms of what is none.
        let mode = if self.mode == Some(Mode::Observe) { Mode::Observe } else { usual };
        Some(Verdict { mode, rule: None })
    }
}

/// What suits a kind where nobody said anything.
fn usual_mode(drift: &Drift<'_>) -> Mode {
    match drift.kind {
        DriftKind::MetadataOnly | DriftKind::InterpreterStdin => Mode::Observe,
        // Volumes hold programs on purpose, but for one that was just written there.
        DriftKind::FromVolume if drift.writer.is_none() => Mode::Observe,
        _ => Mode::Alert,
    }
}

impl Scope {
    fn fits(&self, metadata: Option<&Metadata>, pod: Option<&Pod>) -> bool {
        if *self == Self::default() {
            return true;
        }
        let told = |value: fn(&Metadata) -> &str| metadata.map(value).unwrap_or_default();
        let of_pod = |value: fn(&Pod) -> &str| pod.map(value).unwrap_or_default();
        any(&self.namespaces, &[told(|m| m.label("io.kubernetes.pod.namespace")), of_pod(|pod| &pod.namespace)])
            && any(&self.pods, &[told(|m| m.label("io.kubernetes.pod.name")), of_pod(|pod| &pod.name)])
            && any(&self.containers, &[told(|m| m.label("io.kubernetes.container.name")), told(|m| &m.name)])
            && any(&self.images, &[told(|m| &m.image), told(|m| &m.image_repository)])
            && self.pod_labels.iter().all(|(name, value)| {
                let told = metadata.map(|metadata| [metadata.sandbox_labels.get(name), metadata.labels.get(name)]);
                let of_pod = pod.and_then(|pod| pod.labels.get(name));
                let mut labels = told.into_iter().flatten().chain([of_pod]).flatten();
                labels.any(|label| matches(value, label.as_bytes()))
            })
    }
}

/// Whether one of the patterns matches one of the texts; what is not known matches none.
fn any(patterns: &Globs, texts: &[&str]) -> bool {
    patterns.is_empty() || texts.iter().any(|text| !text.is_empty() && is_any(patterns, text.as_bytes()))
}

fn is_any(patterns: &Globs, text: &[u8]) -> bool {
    patterns.iter().any(|pattern| matches(pattern, text))
}

fn matches(pattern: &str, text: &[u8]) -> bool {
    glob::matches(pattern.as_bytes(), text, false)
}

impl Exceptions {
    fn cover(&self, context: &Context<'_>, drift: &Drift<'_>) -> bool {
        let root = context.state.containers.root(context.event.header.cgroup_id);
        // A name is no proof: only what the image holds may vouch for something else.
        let is_trusted = |image: &Image| is_of_image(image, root);
        let by = |patterns: &Globs, image: &Image| is_any(patterns, &image.executable) && is_trusted(image);
        let runner = match context.event.body {
            Body::Exec(_) => context.thread.and_then(|thread| context.state.threads.get(thread.parent)),
            _ => context.thread,
        };
        let writer = drift.writer.map(|writer| &*writer.image);
        is_any(&self.paths, &drift.path.to_absolute())
            || drift.sha256().is_some_and(|sha256| self.sha256.contains(sha256))
            || runner.is_some_and(|thread| by(&self.processes, &thread.image))
            || writer.is_some_and(|image| by(&self.writers, image))
            || self.is_installed(context, drift) && writer.is_some_and(is_trusted)
    }

    /// Whether a package manager wrote the file while that is granted.
    fn is_installed(&self, context: &Context<'_>, drift: &Drift<'_>) -> bool {
        const SECOND_NS: u64 = 1_000_000_000;
        let (Some(seconds), Some(writer)) = (self.package_managers_s, drift.writer) else { return false };
        let Some(start_ns) = context.state.containers.start_ns(context.event.header.cgroup_id) else { return false };
        let name = writer.image.executable.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        PACKAGE_MANAGERS.iter().any(|known| known.as_bytes() == name)
            && writer.ktime_ns.saturating_sub(start_ns) <= seconds.saturating_mul(SECOND_NS)
    }
}

/// Whether a program is the image's own, unchanged.
fn is_of_image(image: &Image, root: Option<u32>) -> bool {
    image.file.flags & file_flag::OVERLAY != 0 && root.is_some() && classify(&image.file, root).is_none()
}

#[cfg(test)]
mod tests;
