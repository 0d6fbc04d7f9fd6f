//! Findings as OpenTelemetry log records, in the words of its semantic conventions.
//!
//! What they have a word for has that word (`process.*`, `container.*`, `k8s.*`, `security_rule.*`); the rest stands under
//! `monitor.*`. The uid is `log.record.uid`, by which a consumer drops what it has already.

use opentelemetry_proto::tonic::{
    collector::logs::v1::{ExportLogsServiceRequest, logs_service_client::LogsServiceClient},
    common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList, any_value::Value as Any},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs, SeverityNumber},
    resource::v1::Resource,
};
use prost::Message as _;
use tonic::{Request, Status, codec::CompressionEncoding, transport::Channel};

use super::push::batch::Batch;
use crate::proto::v1::{
    Container, Drift, Finding, LossReport, PodSecurity, Priority, Process, SeccompViolation, Source, Value,
    finding::Detail, value,
};

/// Sends it; how many records the collector did not take. Those must not be sent again.
pub(super) async fn export(
    channel: Channel,
    gzip: bool,
    request: Request<ExportLogsServiceRequest>,
) -> Result<usize, Status> {
    let mut client = LogsServiceClient::new(channel);
    if gzip {
        client = client.send_compressed(CompressionEncoding::Gzip).accept_compressed(CompressionEncoding::Gzip);
    }
    let partial = client.export(request).await?.into_inner().partial_success;
    let Some(partial) = partial else { return Ok(0) };
    if partial.rejected_log_records > 0 {
        let (count, reason) = (partial.rejected_log_records, super::push::state::short(&partial.error_message));
        tracing::warn!(kind = "otlp_rejected", "the collector did not take {count} log records: {reason}");
    }
    Ok(usize::try_from(partial.rejected_log_records).unwrap_or(0))
}

/// The request of a batch.
pub(super) fn request(source: &Source, batch: &Batch) -> ExportLogsServiceRequest {
    let epoch = batch.epoch.to_string();
    let losses = batch.losses.iter().map(|loss| loss_record(loss, &epoch));
    let findings = batch.findings.iter().filter_map(|entry| Finding::decode(entry.payload.clone()).ok());
    let findings = findings.map(|finding| record(&finding, &epoch));
    let scope = InstrumentationScope {
        name: "monitor".to_owned(),
        version: source.agent_version.clone(),
        ..Default::default()
    };
    let logs = ScopeLogs { scope: Some(scope), log_records: losses.chain(findings).collect(), ..Default::default() };
    let mut attributes = vec![
        text("service.name", "monitor"),
        text("service.version", &source.agent_version),
        text("service.instance.id", &source.epoch),
        text("host.name", &source.node_name),
        text("k8s.node.name", &source.node_name),
    ];
    attributes.extend(present("k8s.cluster.name", &source.cluster_name));
    let resource = Resource { attributes, ..Default::default() };
    let logs = ResourceLogs { resource: Some(resource), scope_logs: vec![logs], ..Default::default() };
    ExportLogsServiceRequest { resource_logs: vec![logs] }
}

/// A finding as a log record.
pub fn record(finding: &Finding, epoch: &str) -> LogRecord {
    let mut attributes = vec![
        text("log.record.uid", &finding.uid),
        text("security_rule.name", &finding.rule),
        text("monitor.epoch", epoch),
        number("monitor.sequence", finding.sequence),
        text("monitor.kind", &finding.kind().as_str_name().trim_start_matches("KIND_").to_lowercase()),
        text("monitor.event.type", &finding.event_type),
        number("monitor.event.number", finding.event_number),
        array("monitor.tags", &finding.tags),
    ];
    let categories = finding.tags.iter().find(|tag| tag.starts_with("mitre_"));
    attributes.extend(categories.map(|tag| text("security_rule.category", tag)));
    attributes.extend(finding.process.iter().flat_map(process));
    attributes.extend(finding.container.iter().flat_map(container));
    // Findings of captures have them in output fields alone.
    for (field, attribute) in [
        ("k8s.ns.name", "k8s.namespace.name"),
        ("k8s.pod.name", "k8s.pod.name"),
        ("container.name", "container.name"),
        ("container.image.repository", "container.image.name"),
    ] {
        if let Some(value::Value::Text(known)) = finding.output_fields.get(field).and_then(|value| value.value.as_ref())
            && !attributes.iter().any(|known| known.key == attribute)
        {
            attributes.extend(present(attribute, known));
        }
    }
    match &finding.detail {
        Some(Detail::Drift(detail)) => attributes.extend(drift(detail)),
        Some(Detail::Seccomp(detail)) => attributes.extend(seccomp(detail)),
        Some(Detail::PodSecurity(detail)) => attributes.extend(pod_security(detail)),
        None => {}
    }
    let fields = finding.output_fields.iter().map(|(name, value)| key(name, any(value)));
    attributes.push(key("monitor.output_fields", Some(Any::KvlistValue(KeyValueList { values: fields.collect() }))));
    LogRecord {
        time_unix_nano: finding.time_unix_nano,
        observed_time_unix_nano: finding.observed_time_unix_nano,
        severity_number: severity(finding.priority()).into(),
        severity_text: finding.priority().word().to_owned(),
        body: Some(AnyValue { value: Some(Any::StringValue(finding.message.clone())) }),
        event_name: "monitor.finding".to_owned(),
        attributes,
        ..Default::default()
    }
}

fn loss_record(loss: &LossReport, epoch: &str) -> LogRecord {
    let body = format!("lost: {} findings, {} records ({})", loss.findings, loss.records, loss.cause);
    LogRecord {
        severity_number: SeverityNumber::Warn.into(),
        severity_text: "Warning".to_owned(),
        body: Some(AnyValue { value: Some(Any::StringValue(body)) }),
        event_name: "monitor.loss".to_owned(),
        attributes: vec![
            text("monitor.loss.cause", &loss.cause),
            number("monitor.loss.findings", loss.findings),
            number("monitor.loss.records", loss.records),
            text("monitor.loss.epoch", &loss.epoch),
            number("monitor.loss.first_sequence", loss.first_sequence),
            text("monitor.epoch", epoch),
        ],
        ..Default::default()
    }
}

/// The scale of OpenTelemetry's log data model: <https://opentelemetry.io/docs/specs/otel/logs/data-model/#field-severitynumber>.
fn severity(priority: Priority) -> SeverityNumber {
    match priority {
        Priority::Emergency => SeverityNumber::Fatal4,
        Priority::Alert => SeverityNumber::Fatal,
        Priority::Critical => SeverityNumber::Error3,
        Priority::Error => SeverityNumber::Error,
        Priority::Warning => SeverityNumber::Warn,
        Priority::Notice => SeverityNumber::Info2,
        Priority::Informational => SeverityNumber::Info,
        Priority::Debug => SeverityNumber::Debug,
        Priority::Unspecified => SeverityNumber::Unspecified,
    }
}

fn process(process: &Process) -> Vec<KeyValue> {
    let mut attributes = vec![
        number("process.pid", process.pid.into()),
        text("process.executable.name", &process.name),
        array("process.command_args", &process.arguments),
        number("process.real_user.id", process.uid.into()),
        number("thread.id", process.tid.into()),
    ];
    attributes.extend(present("process.executable.path", &process.executable));
    attributes.extend(present("process.working_directory", &process.working_directory));
    attributes.extend((process.vpid != 0).then(|| number("process.vpid", process.vpid.into())));
    attributes.extend(process.ancestors.first().map(|parent| number("process.parent_pid", parent.pid.into())));
    let started = jiff::Timestamp::from_nanosecond(process.start_time_unix_nano.into()).ok();
    let started = started.filter(|_| process.start_time_unix_nano > 0);
    attributes.extend(started.map(|started| text("process.creation.time", &started.to_string())));
    let ancestors: Vec<String> = process.ancestors.iter().map(|one| format!("{}[{}]", one.name, one.pid)).collect();
    attributes.push(array("monitor.process.ancestors", &ancestors));
    attributes
}

fn container(container: &Container) -> Vec<KeyValue> {
    let mut attributes = vec![text("container.id", &container.id)];
    attributes.extend(present("container.runtime.name", &container.runtime));
    attributes.extend(present("k8s.pod.uid", &container.pod_uid));
    attributes.extend(present("process.linux.cgroup", &container.cgroup_path));
    attributes.extend(present("container.name", &container.name));
    attributes.extend(present("container.image.name", &container.image));
    attributes.extend(present("k8s.pod.name", &container.pod_name));
    attributes.extend(present("k8s.namespace.name", &container.namespace));
    if let Some(pod) = &container.pod {
        attributes.extend(pod.labels.iter().map(|(key, value)| text(&format!("k8s.pod.label.{key}"), value)));
        attributes.extend(present("k8s.pod.ip", &pod.ip));
        attributes.extend(present("monitor.pod.owner.kind", &pod.owner_kind));
        attributes.extend(present("monitor.pod.owner.name", &pod.owner_name));
        attributes.extend(present("monitor.pod.service_account", &pod.service_account));
    }
    attributes
}

fn drift(drift: &Drift) -> Vec<KeyValue> {
    let kind = drift.kind().as_str_name().trim_start_matches("DRIFT_KIND_").to_lowercase();
    let mut attributes = vec![text("monitor.drift.kind", &kind)];
    if let Some(file) = &drift.file {
        attributes.push(text("file.path", &file.path));
        attributes.push(text("file.inode", &file.inode.to_string()));
        attributes.push(number("file.size", file.size_bytes));
        attributes.push(text("file.mode", &format!("{:04o}", file.mode & 0o7777)));
    }
    if let Some(writer) = drift.writer.as_ref().and_then(|writer| writer.process.as_ref()) {
        attributes.push(text("monitor.drift.writer.name", &writer.name));
        attributes.push(number("monitor.drift.writer.pid", writer.pid.into()));
    }
    attributes
}

fn pod_security(breach: &PodSecurity) -> Vec<KeyValue> {
    let level = breach.level().as_str_name().trim_start_matches("POD_SECURITY_LEVEL_").to_lowercase();
    let mut attributes = vec![
        text("monitor.pod_security.check", &breach.check),
        text("monitor.pod_security.level", &level),
        text("monitor.pod_security.actual", &breach.actual),
    ];
    attributes.extend(present("monitor.pod_security.field", &breach.field));
    attributes
}

fn seccomp(seccomp: &SeccompViolation) -> Vec<KeyValue> {
    let action = seccomp.action().as_str_name().trim_start_matches("SECCOMP_ACTION_").to_lowercase();
    let mut attributes = vec![
        text("monitor.seccomp.syscall", &seccomp.syscall),
        text("monitor.seccomp.action", &action),
        text("monitor.seccomp.evidence", &seccomp.evidence),
        text("host.arch", &seccomp.arch),
    ];
    attributes.extend(present("monitor.seccomp.errno", &seccomp.errno_name));
    attributes.extend(present("monitor.seccomp.signal", &seccomp.signal));
    attributes.extend(present("monitor.seccomp.profile", &seccomp.profile));
    attributes.extend(present("monitor.seccomp.rule", &seccomp.rule));
    attributes.push(key("monitor.seccomp.count", Some(Any::IntValue(seccomp.count.try_into().unwrap_or(i64::MAX)))));
    attributes
}

fn key(name: &str, value: Option<Any>) -> KeyValue {
    KeyValue { key: name.to_owned(), value: Some(AnyValue { value }), ..Default::default() }
}

fn text(name: &str, value: &str) -> KeyValue {
    key(name, Some(Any::StringValue(value.to_owned())))
}

/// OpenTelemetry has no unsigned numbers: what is too large is text.
fn number(name: &str, value: u64) -> KeyValue {
    key(name, Some(unsigned(value)))
}

fn unsigned(value: u64) -> Any {
    i64::try_from(value).map_or_else(|_| Any::StringValue(value.to_string()), Any::IntValue)
}

fn present(name: &str, value: &str) -> Option<KeyValue> {
    (!value.is_empty()).then(|| text(name, value))
}

fn array(name: &str, items: &[String]) -> KeyValue {
    key(name, Some(texts(items)))
}

fn texts(items: &[String]) -> Any {
    let values = items.iter().map(|item| AnyValue { value: Some(Any::StringValue(item.clone())) }).collect();
    Any::ArrayValue(ArrayValue { values })
}

fn any(value: &Value) -> Option<Any> {
    Some(match value.value.as_ref()? {
        value::Value::Text(text) => Any::StringValue(text.clone()),
        value::Value::Int(number) => Any::IntValue(*number),
        value::Value::Uint(number) => unsigned(*number),
        value::Value::Bool(truth) => Any::BoolValue(*truth),
        value::Value::Double(number) => Any::DoubleValue(*number),
        value::Value::List(list) => texts(&list.items),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::sample;

    fn get<'a>(record: &'a LogRecord, name: &str) -> Option<&'a Any> {
        record.attributes.iter().find(|attribute| attribute.key == name)?.value.as_ref()?.value.as_ref()
    }

    #[test]
    fn a_finding_has_the_words_of_the_conventions() {
        let record = record(&sample::drift(7), "e");
        let string = |text: &str| Some(Any::StringValue(text.to_owned()));
        for (name, expected) in [
            ("log.record.uid", string("0198c0de-0000-7000-8000-000000000001")),
            ("security_rule.name", string("Drift Execution")),
            ("security_rule.category", string("mitre_execution")),
            ("process.pid", Some(Any::IntValue(4242))),
            ("process.parent_pid", Some(Any::IntValue(4200))),
            ("process.executable.path", string("/tmp/x")),
            ("k8s.pod.uid", string("7b0f2c9e-1111-2222-3333-444455556666")),
            ("container.runtime.name", string("cri-containerd")),
            ("file.mode", string("0755")),
            ("monitor.sequence", Some(Any::IntValue(7))),
            ("monitor.drift.kind", string("new_executable")),
        ] {
            assert_eq!(get(&record, name), expected.as_ref(), "{name}");
        }
        assert_eq!((record.severity_number(), record.severity_text.as_str()), (SeverityNumber::Warn, "Warning"));
        assert_eq!(record.time_unix_nano, sample::TIME);
        let keys: std::collections::BTreeSet<_> = record.attributes.iter().map(|attribute| &attribute.key).collect();
        assert_eq!(keys.len(), record.attributes.len(), "no attribute twice");
    }

    #[test]
    fn what_is_too_large_for_a_signed_number_is_text() {
        assert_eq!(any(&Value::from(u64::MAX)), Some(Any::StringValue(u64::MAX.to_string())));
        assert_eq!(any(&Value::NONE), None);
    }
}
