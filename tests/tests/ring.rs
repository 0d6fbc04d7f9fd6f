//! The ring's accounts: every call that was made is seen or said to be lost, to the last one, while nobody drains the ring.
//!
//! The agent is stopped (SIGSTOP) while a container makes a number of calls that nothing else on the machine makes; then it goes
//! on. What its capture holds must add up, and what was lost must be told as the container's.
use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use monitor::{
    capture::Reader,
    source::{Source as _, Status},
};
use monitor_ebpf::record::{CallRecord, CgroupRecord, Header, Kind, LossRecord};
use rustix::process::Signal;
use tests::{
    agent::Agent,
    container::{Container, Runtime},
    environment::can_run_live,
};
use zerocopy::FromBytes as _;

/// Bytes of the ring, and of one such call in it: a record without pieces, and the ring's own header of eight bytes.
const RING_BYTES: usize = 1 << 20;
const CALL_BYTES: usize = size_of::<CallRecord>() + 8;
/// Calls that would fill it.
const CAPACITY: usize = RING_BYTES / CALL_BYTES;

/// `personality` is never lost on the way to a finding: the rule takes every one.
const RULE: &str = "\
- rule: Personality
  desc: d
  condition: evt.type = personality
  output: o
  priority: INFO
";

/// What a capture holds of a container.
#[derive(Debug, Default)]
struct Accounts {
    seen: usize,
    lost: u64,
}

fn accounts(capture: &Path, id: &str) -> Result<Accounts> {
    let mut accounts = Accounts::default();
    let mut cgroup_id = None;
    let mut each = |bytes: &[u8]| {
        let Ok((header, _)) = Header::read_from_prefix(bytes) else { return };
        let names_it = bytes.windows(id.len()).any(|window| window == id.as_bytes());
        if header.kind == Kind::CGROUP && names_it && bytes.len() > size_of::<CgroupRecord>() {
            cgroup_id = Some(header.cgroup_id);
        }
        if Some(header.cgroup_id) != cgroup_id {
            return;
        }
        if header.kind == Kind::CALL {
            accounts.seen += usize::from(is_personality(bytes));
        } else if let (Kind::LOSS, Ok((loss, _))) = (header.kind, LossRecord::read_from_prefix(bytes)) {
            accounts.lost += loss.ring_full + loss.over_budget + loss.unreadable;
        }
    };
    let mut reader = Reader::new(fs::File::open(capture)?)?;
    while reader.drain(std::time::Duration::ZERO, &mut each)? != Status::Ended {}
    ensure!(cgroup_id.is_some(), "the capture does not know container {id}");
    Ok(accounts)
}

fn is_personality(bytes: &[u8]) -> bool {
    const NUMBER: i32 = if cfg!(target_arch = "aarch64") { 92 } else { 135 };
    CallRecord::read_from_prefix(bytes).is_ok_and(|(call, _)| call.nr == NUMBER)
}

fn burst(calls: usize) -> Result<Accounts> {
    let directory = tempfile::tempdir()?;
    let rules = directory.path().join("rules.yaml");
    fs::write(&rules, [include_str!("../../monitor/rules/monitor_rules.yaml"), RULE].concat())?;
    let agent = Agent::start(&["--ring-mib", "1", "-r", rules.to_str().context("path")?])?;
    let container = Container::new(Runtime::any(), &["/bin/workload", "burst", &calls.to_string()], None)?;
    agent.signal(Signal::STOP)?;
    let ran = container.run();
    agent.signal(Signal::CONT)?;
    ran?.successful()?;
    agent.fence()?;
    let stopped = agent.stop()?;
    ensure!(stopped.status.success(), "{}", stopped.stderr);
    accounts(&stopped.capture, container.id())
}

#[test]
fn calls_are_seen_or_told_as_lost_to_the_last_one() -> Result<()> {
    if !can_run_live() {
        return Ok(());
    }
    for calls in [0, 1, CAPACITY - 1, 8 * CAPACITY] {
        let Accounts { seen, lost } = burst(calls)?;
        println!("made {calls}, seen {seen}, lost {lost}");
        ensure!(seen as u64 + lost == calls as u64, "{calls} calls were made, {seen} seen and {lost} told as lost");
        ensure!(calls < 2 || lost > 0, "a ring that nobody drains took {calls} calls");
        ensure!(calls > 1 || lost == 0, "{lost} of {calls} calls were lost in an empty ring");
    }
    Ok(())
}
