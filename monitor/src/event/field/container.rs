//! `container.*`: the container that the process is in. Tabular.
//!
//! What is known of a container is what a capture or the sensor tells of it. For a container of which only the id is known all but that is
//! null; what its runtime left empty is empty text.

use std::{cell::RefCell, fmt::Write as _};

use hashbrown::HashMap;
use regex::bytes::{Regex, RegexBuilder};

use super::{Argument, Source, fields};
use crate::{
    context::Context,
    event::value::Value,
    state::container::metadata::{Labels, Metadata, Mount},
};

/// A field of what is known of the container.
macro_rules! known {
    ($value:expr) => {
        Source::One(|c, _| known(c).map($value))
    };
}

/// A field of one of its mounts, which is found by its number or by a pattern that its source matches.
macro_rules! mount {
    ($value:expr) => {
        Source::One(|c, argument| {
            let value: fn(&Mount) -> Value<'_> = $value;
            mount(known(c)?, argument, |mount| &mount.source).map(value)
        })
    };
}

fields! {
    "container.id", Text, [], None, "First 12 chars of the id from cgroups; literal host for threads outside containers; null when the thread is unknown.", "3ad7b26ded6d"
        => Source::One(|c, _| id(c));
    "container.full_id", Text, [], None, "Full runtime id.", "3ad7b26ded6d8e7b23da7d48fe889434573036c27ae5a74837233de441c3601e"
        => Source::One(|c, _| match c.container {
            Some(container) => Some(Value::text(&container.id)),
            None => known(c).map(|m| Value::text(&m.full_id)),
        });
    "container.name", Text, [], None, "Runtime name, 'host' on host.", "web"
        => known!(|m| Value::text(&m.name));
    "container.image", Text, [], None, "Image reference.", "registry.example.com/team/web:1.4"
        => known!(|m| Value::text(&m.image));
    "container.image.id", Text, [CAPTURE], None, "Image id.", "5b1c9a2e7f10"
        => known!(|m| Value::text(&m.image_id));
    "container.type", Text, [], None, "Docker lxc libvirt-lxc cri containerd cri-o bpm podman host...", "containerd"
        => known!(|m| Value::text(m.engine.name()));
    "container.privileged", Bool, [], None, "Privileged flag.", "true"
        => known!(|m| Value::Bool(m.is_privileged));
    "container.mounts", Text, [], None, "All mounts, comma separated source:dest:mode:rw:propagation.", "/var/lib/kubelet:/data:rw:true:private"
        => known!(|m| Value::owned(m.mounts.iter().map(Mount::text).collect::<Vec<_>>().join(",")));
    "container.mount", Text, [], Needed, "One mount by index or source pattern (regex search).", "/var/lib/kubelet:/data:rw:true:private"
        => mount!(|mount| Value::owned(mount.text()));
    "container.mount.source", Text, [], Needed, "Source of mount by index or by destination pattern.", "/var/lib/kubelet"
        => Source::One(|c, argument| {
            mount(known(c)?, argument, |mount| &mount.destination).map(|mount| Value::text(&mount.source))
        });
    "container.mount.dest", Text, [], Needed, "Destination of mount by index or by source pattern.", "/data"
        => mount!(|mount| Value::text(&mount.destination));
    "container.mount.mode", Text, [], Needed, "Mode of mount by index or source pattern.", "rw"
        => mount!(|mount| Value::text(&mount.mode));
    "container.mount.rdwr", Text, [], Needed, "True/false by index or source pattern.", "true"
        => mount!(|mount| Value::text(if mount.is_writable { "true" } else { "false" }));
    "container.mount.propagation", Text, [], Needed, "Propagation by index or source pattern.", "private"
        => mount!(|mount| Value::text(&mount.propagation));
    "container.image.repository", Text, [], None, "Image repository.", "registry.example.com/team/web"
        => known!(|m| Value::text(&m.image_repository));
    "container.image.tag", Text, [], None, "Image tag.", "1.4"
        => known!(|m| Value::text(&m.image_tag));
    "container.image.digest", Text, [], None, "Image digest.", "sha256:2a0c6f1b"
        => Source::One(|c, _| c.image_digest().map(Value::text));
    "container.healthcheck", Text, [DEPRECATED], None, "Deprecated, always null.", "web"
        => Source::Never;
    "container.liveness_probe", Text, [DEPRECATED], None, "Deprecated, always null.", "web"
        => Source::Never;
    "container.readiness_probe", Text, [DEPRECATED], None, "Deprecated, always null.", "web"
        => Source::Never;
    "container.start_ts", Time, [CAPTURE], None, "Pidns start ns epoch of the thread.", "1795408269588000000"
        => Source::One(|c, _| start_ns(c).map(Value::Uint));
    "container.duration", Duration, [CAPTURE], None, "Event time minus container.start_ts.", "1500000000"
        => Source::One(|c, _| start_ns(c).map(|start_ns| Value::Uint(c.time_ns().wrapping_sub(start_ns))));
    "container.ip", Text, [CAPTURE], None, "Primary IPv4.", "10.244.1.7"
        => known!(|m| Value::text(&m.ip));
    "container.cni.json", Text, [CAPTURE], None, "CNI result text.", "{}"
        => known!(|m| Value::text(&m.cni_json));
    "container.host_pid", Bool, [], None, "Host pidns.", "true"
        => known!(|m| Value::Bool(m.has_host_pid));
    "container.host_network", Bool, [], None, "Host netns.", "true"
        => known!(|m| Value::Bool(m.has_host_network));
    "container.host_ipc", Bool, [], None, "Host ipcns.", "true"
        => known!(|m| Value::Bool(m.has_host_ipc));
    "container.label", Text, [], Needed, "One label by key.", "web"
        => Source::One(|c, argument| label(&known(c)?.labels, argument));
    "container.labels", Text, [], None, "All labels k:v comma separated.", "app:web,tier:front"
        => known!(|m| labels(&m.labels));
}

fn id<'c>(c: &'c Context<'_>) -> Option<Value<'c>> {
    // Not what is known of it, which an engine may have told under another id.
    c.container_id()
        .map(|id| Value::text(if id.is_empty() && c.state.containers.told().is_none() { "host" } else { id }))
}

/// What a capture, or the sensor, tells of the container.
pub(super) fn known<'c>(c: &'c Context<'_>) -> Option<&'c Metadata> {
    c.container_metadata()
}

/// When the thread's pid namespace began. An event that tells of a container is not about its thread.
fn start_ns(c: &Context<'_>) -> Option<u64> {
    let thread = c.thread.filter(|_| c.state.containers.told().is_none())?;
    Some(thread.pidns_start_ns).filter(|start_ns| *start_ns != 0)
}

fn mount<'m>(metadata: &'m Metadata, argument: &Argument, place: fn(&Mount) -> &str) -> Option<&'m Mount> {
    match argument {
        Argument::None => None,
        Argument::Index(index) => metadata.mount(*index),
        Argument::Key(pattern) => metadata.mounts.iter().find(|mount| is_in(pattern, place(mount))),
    }
}

/// Patterns that are kept ready. Rules hold a few.
const MAX_PATTERNS: usize = 1024;

thread_local! {
    /// Patterns of rules, made ready once: a rule is asked about every event. `None`: what is no pattern matches nothing.
    static PATTERNS: RefCell<HashMap<String, Option<Regex>>> = RefCell::new(HashMap::new());
}

/// Whether a part of a text matches a pattern. Falco's documentation has globs, but its plugin takes regular expressions:
/// `/etc/*` is found in whatever contains `/etc`.
fn is_in(pattern: &str, text: &str) -> bool {
    PATTERNS.with_borrow_mut(|patterns| {
        if patterns.len() >= MAX_PATTERNS {
            patterns.clear();
        }
        let regex = patterns
            .entry_ref(pattern)
            .or_insert_with(|| RegexBuilder::new(pattern).multi_line(true).unicode(false).build().ok());
        // A match of nothing is none.
        regex.as_ref().is_some_and(|regex| regex.find_iter(text.as_bytes()).any(|found| !found.is_empty()))
    })
}

/// One label. The text of a number in brackets is a key, too.
pub(super) fn label<'l>(labels: &'l Labels, argument: &Argument) -> Option<Value<'l>> {
    let label = match argument {
        Argument::None => None,
        Argument::Index(number) => labels.get(&number.to_string()),
        Argument::Key(key) => labels.get(&**key),
    };
    label.map(Value::text)
}

/// All labels but those that runtimes set for themselves.
pub(super) fn labels(labels: &Labels) -> Value<'static> {
    const INTERNAL: [&str; 2] = ["annotation.", "io.kubernetes."];
    let mut text = String::new();
    for (key, value) in labels.iter().filter(|(key, _)| !INTERNAL.iter().any(|prefix| key.starts_with(prefix))) {
        let (separator, colon) = (if text.is_empty() { "" } else { ", " }, if value.is_empty() { "" } else { ":" });
        // Text takes whatever is written.
        let _ = write!(text, "{separator}{key}{colon}{value}");
    }
    Value::owned(text)
}

#[cfg(test)]
mod tests;
