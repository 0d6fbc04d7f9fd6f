//! `container.*`: the container that the process is in. Tabular.

use super::{Source, fields};
use crate::event::value::Value;

fields! {
    "container.id", Text, [], None, "First 12 chars of the id from cgroups; literal host for threads outside containers; null when the thread is unknown.", "3ad7b26ded6d"
        => Source::One(|c, _| Some(Value::text(c.container.map_or("host", |container| container.short_id()))));
    "container.full_id", Text, [], None, "Full runtime id.", "3ad7b26ded6d8e7b23da7d48fe889434573036c27ae5a74837233de441c3601e"
        => Source::One(|c, _| c.container.map(|container| Value::text(&container.id)));
    "container.name", Text, [], None, "Runtime name, 'host' on host.", "web"
        => Source::Awaited;
    "container.image", Text, [], None, "Image reference.", "registry.example.com/team/web:1.4"
        => Source::Refused("container metadata is not read yet");
    "container.image.id", Text, [], None, "Image id.", "5b1c9a2e7f10"
        => Source::Refused("container metadata is not read yet");
    "container.type", Text, [], None, "Docker lxc libvirt-lxc cri containerd cri-o bpm podman host...", "containerd"
        => Source::Refused("container metadata is not read yet");
    "container.privileged", Bool, [], None, "Privileged flag.", "true"
        => Source::Awaited;
    "container.mounts", Text, [], None, "All mounts, comma separated source:dest:mode:rw:propagation.", "/var/lib/kubelet:/data:rw:true:private"
        => Source::Awaited;
    "container.mount", Text, [], Needed, "One mount by index or source pattern (regex search).", "/var/lib/kubelet:/data:rw:true:private"
        => Source::Refused("container metadata is not read yet");
    "container.mount.source", Text, [], Needed, "Source of mount by index or by destination pattern.", "/var/lib/kubelet"
        => Source::Refused("container metadata is not read yet");
    "container.mount.dest", Text, [], Needed, "Destination of mount by index or by source pattern.", "/data"
        => Source::Awaited;
    "container.mount.mode", Text, [], Needed, "Mode of mount by index or source pattern.", "rw"
        => Source::Refused("container metadata is not read yet");
    "container.mount.rdwr", Text, [], Needed, "True/false by index or source pattern.", "true"
        => Source::Refused("container metadata is not read yet");
    "container.mount.propagation", Text, [], Needed, "Propagation by index or source pattern.", "private"
        => Source::Refused("container metadata is not read yet");
    "container.image.repository", Text, [], None, "Image repository.", "registry.example.com/team/web"
        => Source::Awaited;
    "container.image.tag", Text, [], None, "Image tag.", "1.4"
        => Source::Awaited;
    "container.image.digest", Text, [], None, "Image digest.", "sha256:2a0c6f1b"
        => Source::Refused("container metadata is not read yet");
    "container.healthcheck", Text, [DEPRECATED], None, "Deprecated, always null.", "web"
        => Source::Never;
    "container.liveness_probe", Text, [DEPRECATED], None, "Deprecated, always null.", "web"
        => Source::Never;
    "container.readiness_probe", Text, [DEPRECATED], None, "Deprecated, always null.", "web"
        => Source::Never;
    "container.start_ts", Time, [], None, "Pidns start ns epoch of the thread.", "1795408269588000000"
        => Source::Awaited;
    "container.duration", Duration, [], None, "Event time minus container.start_ts.", "1500000000"
        => Source::Refused("container metadata is not read yet");
    "container.ip", Text, [], None, "Primary IPv4.", "10.244.1.7"
        => Source::Refused("container metadata is not read yet");
    "container.cni.json", Text, [], None, "CNI result text.", "{}"
        => Source::Refused("container metadata is not read yet");
    "container.host_pid", Bool, [], None, "Host pidns.", "true"
        => Source::Refused("container metadata is not read yet");
    "container.host_network", Bool, [], None, "Host netns.", "true"
        => Source::Refused("container metadata is not read yet");
    "container.host_ipc", Bool, [], None, "Host ipcns.", "true"
        => Source::Refused("container metadata is not read yet");
    "container.label", Text, [], Needed, "One label by key.", "web"
        => Source::Refused("container metadata is not read yet");
    "container.labels", Text, [], None, "All labels k:v comma separated.", "app:web,tier:front"
        => Source::Refused("container metadata is not read yet");
}
