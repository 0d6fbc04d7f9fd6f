//! Delivery without a sensor: what a spool, a sink and many subscribers carry, what a finding costs, and how soon a sink that was
//! away has it all.
//!
//! A producer hands findings to the outputs of the agent; the reference consumer takes them over a unix socket. What a part costs
//! by itself, the spool and the redactor, is measured in one process.

mod place;

use std::{
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use self::place::{Place, count};
use super::{Bench, report::Row, statistics::number};
use crate::{
    build::{self, OBJECT_VARIABLE},
    cmd::Cmd,
    repository,
};

const BENCHMARK: &str = "delivery";
/// Findings per second, and for how long.
const LOAD: (u64, u64) = (20_000, 60);
/// The least that must arrive per second: what is made, but for the time that the last batch takes.
const AIM_LOAD: f64 = 19_800.0;
/// The same while the sink is away.
const AWAY: (u64, u64) = (1000, 60);
/// How long a sink that was away may take to have everything.
const AIM_CATCH_UP_SECONDS: f64 = 20.0;
/// Findings per second that each subscriber is sent, and how many.
const SUBSCRIBED: (u64, u64) = (1000, 20_000);
/// Subscribers that read, and such that never do: as many as an agent takes.
const SUBSCRIBERS: (u32, u32) = (56, 8);
/// The most that a finding may take on the wire, before compression.
const AIM_WIRE_BYTES: f64 = 1536.0;
/// Rounds of what is measured by itself.
const ROUNDS: u16 = 9;
/// How long a process may take for what it is to do, beyond the time that it needs.
const PATIENCE: Duration = Duration::from_mins(2);

/// Measures all of it.
pub(super) fn measure(bench: &Bench) -> Result<Vec<Row>> {
    // With the sensor inside, as the agent was built, or the agent's library would be compiled once more.
    Cmd::new("cargo")
        .args(["build", "--release", "--package", "tests", "--bin", "producer", "--bin", "subscribers"])
        .args(["--bin", "measure-delivery"])
        .env(OBJECT_VARIABLE, build::object(false)?)
        .run()?;
    let mut rows = load(&bench.agent)?;
    rows.extend(away(&bench.agent)?);
    rows.extend(subscribed(&bench.agent)?);
    rows.extend(by_themselves()?);
    Ok(rows)
}

fn row(quantity: &str, unit: &'static str, value: f64) -> Row {
    Row::new(BENCHMARK, quantity, unit, [value])
}

fn load(agent: &Path) -> Result<Vec<Row>> {
    let (rate, seconds) = LOAD;
    eprintln!("bench: delivery: {rate} findings/s for {seconds} s");
    let place = Place::new(agent, true)?;
    let sink = place.sink()?;
    let begin = Instant::now();
    let producer = place.producer(rate, rate * seconds)?;
    place.wait_for(rate * seconds, Duration::from_secs(seconds) + PATIENCE)?;
    let took = begin.elapsed().as_secs_f64();
    let sent = place.metric("sink_sent_bytes_total")?;
    let (made, received) = (producer.stop()?, sink.stop()?);
    let findings = count(&received, "findings")?;
    let lost = count(&made, "dropped")? + count(&received, "missing")?;
    let cpu = count(&made, "cpu_us")? - count(&made, "making_us")?;
    Ok(vec![
        row("carried to one sink", "findings/s", findings / took).at_least(AIM_LOAD),
        row("lost", "findings", lost).at_most(0.0),
        row("written to the spool", "bytes/finding", count(&made, "written_bytes")? / findings),
        row("on the wire, before compression", "bytes/finding", sent / findings).at_most(AIM_WIRE_BYTES),
        row("CPU of delivery", "ms/1000 findings", cpu / findings),
        row("the flow waits for outputs, at worst", "us/finding", count(&made, "slowest_us")?),
    ])
}

fn away(agent: &Path) -> Result<Vec<Row>> {
    let (rate, seconds) = AWAY;
    eprintln!("bench: delivery: a sink that is away for {seconds} s at {rate} findings/s");
    let place = Place::new(agent, true)?;
    let producer = place.producer(rate, u64::MAX)?;
    thread::sleep(Duration::from_secs(seconds));
    let waiting = place.metric("sink_lag_entries")?;
    let begin = Instant::now();
    let sink = place.sink()?;
    // As far behind as a sink always is: what is in flight.
    while place.metric("sink_lag_entries")? > 1000.0 {
        if begin.elapsed() > PATIENCE {
            bail!("the sink does not catch up");
        }
        thread::sleep(Duration::from_millis(20));
    }
    let took = begin.elapsed().as_secs_f64();
    producer.stop()?;
    let missing = count(&sink.stop()?, "missing")?;
    Ok(vec![
        row("waiting for a sink that was away", "findings", waiting),
        row("catching up after being away", "s", took).at_most(AIM_CATCH_UP_SECONDS),
        row("lost while away", "findings", missing).at_most(0.0),
    ])
}

fn subscribed(agent: &Path) -> Result<Vec<Row>> {
    let ((rate, findings), (reading, silent)) = (SUBSCRIBED, SUBSCRIBERS);
    eprintln!("bench: delivery: {reading} subscribers beside {silent} that never read, {rate} findings/s");
    let place = Place::new(agent, false)?;
    let producer = place.producer(rate, u64::MAX)?;
    let subscribers = place.subscribers(reading, silent, findings)?;
    let told = subscribers.wait_end(Duration::from_secs(findings / rate) + PATIENCE)?;
    let made = producer.stop()?;
    let (each, took) = (count(&told, "findings")? / f64::from(reading), count(&told, "seconds")?);
    let all = format!("to each of {reading} subscribers beside {silent} that never read");
    Ok(vec![
        Row::new(BENCHMARK, all, "findings/s", [each / took]).at_least(0.95 * number(rate)),
        row("lost by subscribers that read", "findings", count(&told, "lost")?).at_most(0.0),
        row("the flow waits for subscribers, at worst", "us/finding", count(&made, "slowest_us")?),
    ])
}

/// The spool and the redactor.
fn by_themselves() -> Result<Vec<Row>> {
    eprintln!("bench: delivery: {ROUNDS} rounds of spool and redactor");
    let output = Command::new(repository::target().join("release/measure-delivery"))
        .arg(ROUNDS.to_string())
        .arg(repository::root().join("monitor/demo/container.mcap"))
        .output()
        .context("cannot start measure-delivery")?;
    if !output.status.success() {
        bail!("measure-delivery: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    rows(&String::from_utf8_lossy(&output.stdout))
}

fn rows(measured: &str) -> Result<Vec<Row>> {
    let measured: Vec<Value> = measured.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let values = |what: &str, kind: Option<&str>, value: &dyn Fn(&Value) -> Option<f64>| -> Vec<f64> {
        let is = |measured: &&Value, key: &str, word: &str| measured.get(key).and_then(Value::as_str) == Some(word);
        let of = measured.iter().filter(|m| is(m, "what", what) && kind.is_none_or(|kind| is(m, "kind", kind)));
        of.filter_map(value).collect()
    };
    let key = |key: &'static str| move |measured: &Value| measured.get(key)?.as_f64();
    let redacting = |measured: &Value| Some(key("redacted_ns")(measured)? - key("copied_ns")(measured)?);
    let sizes = values("size", None, &key("bytes"));
    let largest = sizes.iter().copied().fold(f64::NAN, f64::max);
    Ok(vec![
        Row::new(
            BENCHMARK,
            "spool: append and acknowledge",
            "findings/s",
            values("spool", None, &key("findings_per_s")),
        ),
        Row::new(BENCHMARK, "spool: CPU", "us/finding", values("spool", None, &key("cpu_us"))),
        Row::new(BENCHMARK, "spool: written", "bytes/finding", values("spool", None, &key("written_bytes"))),
        Row::new(BENCHMARK, "findings of the demo, encoded", "bytes", sizes).at_most(AIM_WIRE_BYTES),
        row("the largest of them", "bytes", largest).at_most(AIM_WIRE_BYTES),
        Row::new(BENCHMARK, "a finding copied", "ns", values("redact", Some("plain"), &key("copied_ns"))),
        Row::new(BENCHMARK, "a finding redacted", "ns", values("redact", Some("plain"), &redacting)),
        Row::new(BENCHMARK, "a finding with a secret redacted", "ns", values("redact", Some("secret"), &redacting)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_made_of_what_is_printed() {
        let measured = "{\"what\":\"size\",\"bytes\":900}\n\
            {\"what\":\"spool\",\"findings_per_s\":5.0,\"cpu_us\":1.0,\"written_bytes\":700.0}\n\
            {\"what\":\"redact\",\"kind\":\"plain\",\"copied_ns\":10.0,\"redacted_ns\":12.5}\n";
        let shown = format!("{:?}", rows(measured).unwrap());
        assert!(shown.contains("median: 2.5") && shown.contains("median: 900.0"), "{shown}");
        assert!(rows("no json").is_err());
    }
}
