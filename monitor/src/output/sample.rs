//! Findings for tests, with every field set.

use crate::proto::v1::{
    Ancestor, Container, Drift, DriftKind, File, Finding, Kind, Priority, Process, SeccompAction, SeccompViolation,
    Value, Writer, finding::Detail,
};

/// 2026-11-23T12:34:56.789012345Z
pub(crate) const TIME: u64 = 1_795_437_296_789_012_345;

/// A drift finding with this sequence.
pub(crate) fn drift(sequence: u64) -> Finding {
    Finding {
        uid: "0198c0de-0000-7000-8000-000000000001".to_owned(),
        sequence,
        time_unix_nano: TIME,
        observed_time_unix_nano: TIME + 5,
        kind: Kind::Drift.into(),
        priority: Priority::Warning.into(),
        rule: "Drift Execution".to_owned(),
        message: "new program run (path=/tmp/x proc=x)".to_owned(),
        output_fields: [
            ("proc.name", Value::from("x")),
            ("fd.num", Value::from(-1_i64)),
            ("proc.pid", Value::from(4242_u64)),
            ("proc.is_exe_upper_layer", Value::from(true)),
            ("proc.args", Value::from(vec!["-a".to_owned(), "-b".to_owned()])),
            ("k8s.ns.name", Value::NONE),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect(),
        tags: vec!["container".to_owned(), "mitre_execution".to_owned()],
        source: "syscall".to_owned(),
        hostname: "node-1".to_owned(),
        event_number: 17,
        event_type: "execve".to_owned(),
        process: Some(Process {
            ancestors: vec![Ancestor {
                pid: 4200,
                name: "sh".to_owned(),
                executable: "/bin/sh".to_owned(),
                arguments: vec!["sh".to_owned()],
            }],
            ..process(4242, "x")
        }),
        container: Some(Container {
            id: "3f2a9c0d1e4b5a69788796a5b4c3d2e1f0f1e2d3c4b5a69788796a5b4c3d2e1f".to_owned(),
            runtime: "cri-containerd".to_owned(),
            pod_uid: "7b0f2c9e-1111-2222-3333-444455556666".to_owned(),
            cgroup_path: "/kubepods.slice/x.scope".to_owned(),
            name: "app".to_owned(),
            image: "registry.example.com/team/web:1.4".to_owned(),
            image_digest: "sha256:2a0c6f1b".to_owned(),
            pod_name: "web-0".to_owned(),
            namespace: "prod".to_owned(),
            pod: None,
        }),
        detail: Some(Detail::Drift(Drift {
            kind: DriftKind::NewExecutable.into(),
            file: Some(File {
                path: "/tmp/x".to_owned(),
                inode: 7,
                device: 8,
                size_bytes: 9,
                mode: 0o100_755,
                modified_time_unix_nano: 10,
                changed_time_unix_nano: 11,
                layer: "upper".to_owned(),
                sha256: "e3b0".to_owned(),
                sha256_missing: String::new(),
            }),
            writer: Some(Writer {
                process: Some(process(4240, "cp")),
                time_unix_nano: 12,
                path: "/tmp/x".to_owned(),
                connections: Vec::new(),
            }),
            mode: "alert".to_owned(),
            policy_rule: String::new(),
        })),
    }
}

/// A seccomp finding on the host, with this sequence.
pub(crate) fn seccomp(sequence: u64) -> Finding {
    Finding {
        kind: Kind::SeccompViolation.into(),
        priority: Priority::Notice.into(),
        rule: "Denied Syscall".to_owned(),
        container: None,
        detail: Some(Detail::Seccomp(SeccompViolation {
            syscall: "mount".to_owned(),
            number: 165,
            arch: "x86_64".to_owned(),
            action: SeccompAction::Errno.into(),
            errno: 1,
            errno_name: "EPERM".to_owned(),
            signal: String::new(),
            arguments: vec![u64::MAX, 2, 3, 4, 5, 6],
            instruction_pointer: 0x7fff_1234,
            evidence: "filter".to_owned(),
            profile: "RuntimeDefault".to_owned(),
            profile_digest: "9f86d081".to_owned(),
            rule: "defaultAction: SCMP_ACT_ERRNO".to_owned(),
            count: 1,
            first_time_unix_nano: 1_795_437_296_789_012_345,
            last_time_unix_nano: 1_795_437_296_789_012_345,
        })),
        ..drift(sequence)
    }
}

fn process(pid: u32, name: &str) -> Process {
    Process {
        pid,
        tid: pid,
        vpid: 12,
        start_time_unix_nano: 1,
        name: name.to_owned(),
        executable: format!("/tmp/{name}"),
        arguments: vec![name.to_owned()],
        working_directory: "/".to_owned(),
        uid: 1000,
        ancestors: vec![],
    }
}
