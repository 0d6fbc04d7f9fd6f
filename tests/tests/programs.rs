//! Debian's own programs in containers under containerd's `RuntimeDefault`: they start, work and stop, and nothing is said of it;
//! what is done to them beside that is found, all of it. Their scripts are arguments: one that was written where it runs is drift.
use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::{
    agent::Agent,
    container::{Container, Runtime},
    containerd::Containerd,
    environment::{can_run_containerd, can_run_live_with, debian_root},
    finding::{number, of_container, text},
    seccomp::Profile,
};

/// Generous: a database is made, on a machine that does other things.
const LIMIT: Duration = Duration::from_mins(3);

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\npostgres:x:100:100::/tmp:/bin/sh\n_apt:x:42:65534::/:/bin/false\n\
                      nobody:x:65534:65534::/:/bin/false\n";
const GROUP: &str = "root:x:0:\npostgres:x:100:\nnogroup:x:65534:\n";

const NGINX: &str = "
mkdir -p /tmp/site /var/lib/nginx; echo hello > /tmp/site/index.html
cat > /tmp/nginx.conf <<END
user root; worker_processes 2; error_log /tmp/nginx.log; pid /tmp/nginx.pid;
events { }
http { access_log off; server { listen unix:/tmp/nginx.sock; root /tmp/site; } }
END
get() { /usr/bin/curl -s --unix-socket /tmp/nginx.sock http://localhost/; }
/usr/sbin/nginx -c /tmp/nginx.conf
get; get
/usr/sbin/nginx -c /tmp/nginx.conf -s reload
get
/usr/sbin/nginx -c /tmp/nginx.conf -s quit
while [ -e /tmp/nginx.pid ]; do sleep 0.1; done";

const REDIS: &str = "
/usr/bin/redis-server --port 0 --unixsocket /tmp/redis.sock --dir /tmp --save '' --logfile /tmp/redis.log &
while [ ! -S /tmp/redis.sock ]; do sleep 0.1; done
ask() { /usr/bin/redis-cli -s /tmp/redis.sock \"$@\"; }
ask set a 1; ask incr a; ask save; ask bgsave; ask eval \"return redis.call('get', 'a')\" 0
ask shutdown nosave
wait";

const POSTGRES: &str = "
mkdir -p /dev/shm; chmod 1777 /tmp /dev/shm
WORK=$(cat <<'END'
set -eu
PATH=$(echo /usr/lib/postgresql/*/bin):/usr/bin:/bin
initdb --no-sync -D /tmp/data -A trust > /tmp/initdb.log
pg_ctl -D /tmp/data -o \"-k /tmp -h ''\" -w -l /tmp/postgres.log start > /tmp/ctl.log
psql -h /tmp -d postgres -c 'create table t as select generate_series(1, 1000) n' -c 'create index on t (n)' \\
    -c 'select sum(n) from t' -c vacuum
pg_ctl -D /tmp/data -m fast -w stop >> /tmp/ctl.log
END
)
su -s /bin/sh postgres -c \"$WORK\"";

const PYTHON: &str = "
mkdir -p /dev/shm
cat > /tmp/work.py <<END
import asyncio, ctypes, hashlib, mmap, multiprocessing, socket, sqlite3, ssl, subprocess, threading
threads = [threading.Thread(target=lambda: hashlib.sha256(bytes(100000)).digest()) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(subprocess.run(['/bin/echo', 'hello'], capture_output=True).stdout)
base = sqlite3.connect('/tmp/work.db')
base.execute('create table t (a)')
base.commit()
mmap.mmap(-1, 4096)[0] = 1
left, right = socket.socketpair()
left.send(b'x')
right.recv(1)
ctypes.CDLL(None).getpid()
with multiprocessing.Pool(2) as pool:
    print(pool.map(abs, [-1, -2]))
asyncio.run(asyncio.sleep(0.01))
END
/usr/bin/python3 -m py_compile /tmp/work.py
/usr/bin/python3 -c \"$(cat /tmp/work.py)\"";

const APT: &str = "
mkdir -p /etc/apt/apt.conf.d /etc/apt/preferences.d /etc/apt/sources.list.d /etc/apt/trusted.gpg.d /var/lib/dpkg \\
    /var/lib/apt/lists/partial /var/cache/apt/archives/partial /tmp/repository
: > /var/lib/dpkg/status; : > /tmp/repository/Packages
echo 'deb [trusted=yes] file:/tmp/repository ./' > /etc/apt/sources.list
/usr/bin/apt-get -o APT::Architecture=amd64 update
/usr/bin/apt-cache -o APT::Architecture=amd64 stats";

/// What is done to each of them afterwards: a new program, a changed one, a new library, and calls that the profile denies.
const SEEDED: &str = "
/bin/cp /bin/workload /tmp/dropped; /tmp/dropped noop
echo more >> /opt/program; /opt/program noop
/bin/cp /lib/x86_64-linux-gnu/libm.so.6 /tmp/evil.so; LD_PRELOAD=/tmp/evil.so /usr/bin/curl --version > /tmp/version
/bin/workload call acct 3
unshare -m true || true";

/// What is said of that: kind and what of it, and how many calls. Nothing else may be said.
const FOUND: [(&str, &str, u64); 6] = [
    ("new_executable", "/tmp/dropped", 1),
    ("modified_executable", "/opt/program", 1),
    ("new_library", "/tmp/evil.so", 1),
    ("errno", "acct", 1),
    ("errno", "acct", 2),
    ("errno", "unshare", 1),
];

const PROGRAMS: &[(&str, &str)] =
    &[("nginx and curl", NGINX), ("redis", REDIS), ("postgres", POSTGRES), ("python3", PYTHON), ("apt", APT)];

/// C libraries try this for a thread, and take another call where the profile says that there is none.
const HIDDEN: &[&str] = &["clone3"];

/// A container that runs a script on top of Debian.
fn container(runtime: Runtime, root: &Path, script: &str, profile: &Profile) -> Result<Container> {
    let container = Container::script(runtime, script, Some(profile))?.over(root);
    fs::write(container.lower().join("etc/passwd"), PASSWD)?;
    fs::write(container.lower().join("etc/group"), GROUP)?;
    let ran = container.run_within(LIMIT)?.successful()?;
    ensure!(ran.stdout_text().ends_with("done\n"), "{}", ran.stdout_text());
    Ok(container)
}

/// Findings of drift and seccomp; what was only hidden is returned apart.
fn found<'f>(findings: &'f [Value], container: &Container) -> (Vec<&'f Value>, BTreeSet<&'f str>) {
    let all = of_container(findings, container.id());
    let (hidden, found): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|finding| text(finding, "/rule") == "System call hidden by seccomp");
    (found, hidden.into_iter().map(|finding| text(finding, "/seccomp/syscall")).collect())
}

#[test]
fn programs_of_debian_work_unnoticed_and_what_is_done_to_them_is_found() -> Result<()> {
    let (true, true, Some(root)) = (can_run_live_with(Runtime::Runc), can_run_containerd(), debian_root()) else {
        return Ok(());
    };
    let spec = Containerd::start()?.spec("default", &[])?;
    let profile = Profile::from(spec.pointer("/linux/seccomp").context("a profile")?.clone());
    let agent = Agent::start(&[])?;
    let mut containers = Vec::new();
    for (number, (name, script)) in PROGRAMS.iter().enumerate() {
        let runtime = if number % 2 == 1 && Runtime::Crun.is_installed() { Runtime::Crun } else { Runtime::Runc };
        let script = format!("{script}\n{SEEDED}\necho done");
        containers.push((name, container(runtime, &root, &script, &profile).context(*name)?));
    }
    agent.fence()?;
    let stopped = agent.stop()?;
    ensure!(stopped.summary.lost == 0, "{:?}\n{}", stopped.summary, stopped.stderr);
    for (name, container) in &containers {
        let (found, hidden) = found(&stopped.findings, container);
        let of_drift = |finding| (text(finding, "/drift/kind"), text(finding, "/drift/file/path"), 1);
        let of_seccomp = |finding| {
            let count = number(finding, "/seccomp/count");
            (text(finding, "/seccomp/action"), text(finding, "/seccomp/syscall"), count)
        };
        let is_drift = |finding| text(finding, "/kind") == "drift";
        let said = found.iter().map(|finding| if is_drift(finding) { of_drift(finding) } else { of_seccomp(finding) });
        let told: BTreeSet<_> = said.collect();
        let expected = BTreeSet::from(FOUND);
        ensure!(told == expected && found.len() == FOUND.len(), "{name}, and what was done to it: {found:#?}");
        ensure!(hidden.iter().all(|call| HIDDEN.contains(call)), "{name}: {hidden:?}");
        println!("{name}: nothing said of its work (hidden: {hidden:?}), all {} of what was done to it", found.len());
    }
    Ok(())
}
