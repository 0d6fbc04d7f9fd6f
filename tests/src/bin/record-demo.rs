//! Records the capture that `monitor demo` replays: two containers on a live agent, and nothing else of the machine.
//!
//! `record-demo FILE`, as root. The snapshot of a machine holds the command line of every process on it; only records of
//! the two containers' own cgroups are kept, which is all that their findings rest on.
use std::{env, fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use monitor::{
    capture::{Reader, Writer},
    source::{Source as _, Status},
};
use monitor_ebpf::record::{Header, Kind};
use tests::{
    agent::Agent,
    container::{Container, Runtime},
    seccomp::Profile,
};
use zerocopy::FromBytes as _;

fn main() -> Result<()> {
    let target = env::args().nth(1).context("usage: record-demo FILE")?;
    let agent = Agent::start(&["--node-name", "demo-node"])?;
    let intruder = "/bin/cp /bin/workload /tmp/update; /tmp/update noop; /bin/workload memfd";
    let intruder = Container::script(Runtime::any(), intruder, None)?;
    intruder.run()?.successful()?;
    let profile = Profile::new().errno(&["mount", "unshare"], 1).kill_process(&["acct"]);
    let confined = "/bin/unshare -n true || :; /bin/mount -t tmpfs none /tmp || :; exec /bin/workload killed";
    let confined = Container::script(Runtime::any(), confined, Some(&profile))?;
    confined.run()?;
    agent.fence()?;
    let stopped = agent.stop()?;
    ensure!(stopped.summary.lost == 0, "records were lost: record again");
    let kept = keep(&stopped.capture, Path::new(&target), &[intruder.id(), confined.id()])?;
    println!("{target}: {kept} records");
    Ok(())
}

/// Copies the records of the containers with these ids.
fn keep(from: &Path, to: &Path, ids: &[&str]) -> Result<u64> {
    let mut writer = Writer::create(to)?;
    let mut cgroups = Vec::new();
    let mut kept = 0;
    let mut end = 0;
    let mut failed = None;
    let mut reader = Reader::new(fs::File::open(from)?)?;
    let mut each = |bytes: &[u8]| {
        let Ok((header, _)) = Header::read_from_prefix(bytes) else { return };
        end = header.ktime_ns;
        let names_one = ids.iter().any(|id| bytes.windows(id.len()).any(|window| window == id.as_bytes()));
        let wanted = match header.kind {
            Kind::SESSION => true,
            Kind::CGROUP if names_one => {
                cgroups.push(header.cgroup_id);
                true
            }
            _ => cgroups.contains(&header.cgroup_id),
        };
        if wanted {
            kept += 1;
            failed = failed.take().or_else(|| writer.record(bytes).err());
        }
    };
    while reader.drain(std::time::Duration::ZERO, &mut each)? == Status::Open {}
    if let Some(error) = failed {
        return Err(error.into());
    }
    writer.finish(end)?;
    Ok(kept)
}
