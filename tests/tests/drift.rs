//! Ways around the detection of drift that must not work, each in a real container: every one gives the finding that it is, and
//! what the image itself holds gives none.
//!
//! Programs from memory, deleted ones, and what the dynamic loader maps are in `live.rs`.
use std::{ffi::OsStr, fs, os::unix::fs::PermissionsExt as _, process::Command};

use anyhow::{Context as _, Result, anyhow, ensure};
use serde_json::Value;
use tests::{
    agent::{self, Agent, PATIENCE, Stopped},
    container::{Container, Runtime},
    environment::can_run_live_with,
    finding::{comparable, of_container, parse, text},
    process,
};

/// What is done in a container, and what must be found.
struct Way {
    name: &'static str,
    args: &'static [&'static str],
    facts: &'static [(&'static str, &'static str)],
}

const fn way(name: &'static str, args: &'static [&'static str], facts: &'static [(&str, &str)]) -> Way {
    Way { name, args, facts }
}

const NEW: (&str, &str) = ("/drift/kind", "new_executable");
const SCRIPT: (&str, &str) = ("/drift/kind", "script");
const STDIN: (&str, &str) = ("/drift/kind", "interpreter_stdin");
const FILELESS: (&str, &str) = ("/drift/kind", "fileless");
const DROPPED: (&str, &str) = ("/drift/file/path", "/tmp/dropped");

/// One finding each.
const WAYS: &[Way] = &[
    way("execveat of a descriptor", &["/bin/workload", "drift", "fd"], &[NEW, DROPPED]),
    way("execve of /proc/self/fd", &["/bin/workload", "drift", "proc-fd"], &[NEW, DROPPED]),
    way("O_TMPFILE", &["/bin/workload", "drift", "tmpfile"], &[FILELESS]),
    way("memfd", &["/bin/workload", "memfd"], &[FILELESS]),
    way("a file that is deleted", &["/bin/workload", "deleted"], &[FILELESS]),
    way(
        "rename after write",
        &["/bin/sh", "-euc", "/bin/cp /bin/workload /tmp/.part; mv /tmp/.part /opt/tool; /opt/tool noop; true"],
        &[
            NEW,
            ("/drift/file/path", "/opt/tool"),
            ("/drift/writer/path", "/tmp/.part"),
            ("/drift/writer/process/name", "cp"),
        ],
    ),
    way(
        "a hard link",
        &[
            "/bin/sh",
            "-euc",
            "/bin/cp /bin/workload /tmp/.part; ln /tmp/.part /opt/tool; rm /tmp/.part; /opt/tool noop; true",
        ],
        &[NEW, ("/drift/file/path", "/opt/tool"), ("/drift/writer/path", "/tmp/.part")],
    ),
    way(
        "a symbolic link and the process's own root",
        &[
            "/bin/sh",
            "-euc",
            "/bin/cp /bin/workload /tmp/dropped; ln -s /proc/self/root/tmp/dropped /opt/link; /opt/link noop; true",
        ],
        &[NEW, DROPPED],
    ),
    way(
        "the name of an image's program",
        &["/bin/sh", "-euc", "rm /opt/program; /bin/cp /bin/workload /opt/program; /opt/program noop; true"],
        &[NEW, ("/drift/file/path", "/opt/program"), ("/drift/writer/process/name", "cp")],
    ),
    way(
        "another file moved over an image's program",
        &["/bin/sh", "-euc", "/bin/cp /bin/workload /tmp/.part; mv /tmp/.part /opt/program; /opt/program noop; true"],
        &[NEW, ("/drift/file/path", "/opt/program")],
    ),
    way(
        "a bind mount over an image's program",
        &["/bin/workload", "drift", "bind"],
        &[NEW, ("/drift/file/path", "/opt/program"), ("/drift/writer/path", "/tmp/dropped")],
    ),
    way(
        "the upper layer of an overlay of its own",
        &["/bin/workload", "drift", "overlay-upper"],
        &[NEW, ("/drift/file/path", "/opt/dropped")],
    ),
    way(
        "the lower layer of an overlay of its own",
        &["/bin/workload", "drift", "overlay-lower"],
        &[NEW, ("/drift/file/path", "/opt/program")],
    ),
    way(
        "code that is mapped to be read, and made code afterwards",
        &["/bin/sh", "-euc", "/bin/cp /bin/workload /tmp/.part; /bin/workload drift mprotect /tmp/.part; true"],
        &[("/drift/kind", "new_library"), ("/drift/file/path", "/tmp/.part"), ("/drift/writer/process/name", "cp")],
    ),
    way("io_uring", &["/bin/workload", "drift", "io-uring"], &[NEW, DROPPED]),
    #[cfg(target_arch = "x86_64")]
    way("a 32-bit program", &["/bin/workload", "drift", "i386"], &[NEW, DROPPED, ("/process/name", "dropped")]),
];

/// Exactly one finding of the container, with these facts.
fn expect<'a>(stopped: &'a Stopped, container: &Container, way: &Way) -> Result<&'a Value> {
    let [found] = <[&Value; 1]>::try_from(of_container(&stopped.findings, container.id()))
        .map_err(|found| anyhow!("{}: 1 finding expected, not {}: {found:#?}", way.name, found.len()))?;
    for (pointer, expected) in [("/kind", "drift")].iter().chain(way.facts) {
        ensure!(text(found, pointer) == *expected, "{}: {pointer} is not {expected:?}: {found:#}", way.name);
    }
    Ok(found)
}

/// What a machine refuses cannot be tried on it: said loudly, with the machine's words.
fn is_refused(way: &Way, stderr: &str) -> bool {
    let refusal = ["unshare: ", "/opt: ", "/opt/program: "].iter().find(|place| stderr.contains(*place));
    if refusal.is_some() {
        eprintln!("REFUSED by this machine: {}: {}", way.name, stderr.trim());
    }
    refusal.is_some()
}

fn ways_around(runtime: Runtime) -> Result<()> {
    if !can_run_live_with(runtime) {
        return Ok(());
    }
    let agent = Agent::start(&[])?;
    let image = Container::script(
        runtime,
        "/opt/program noop; /bin/workload noop; ls / >/dev/null; echo more >> /tmp/x",
        None,
    )?;
    image.run()?.successful()?;
    let mut tried = Vec::new();
    for way in WAYS {
        let container = Container::new(runtime, way.args, None)?;
        let finished = container.run().context(way.name)?;
        if !is_refused(way, &finished.stderr) {
            finished.successful().context(way.name)?;
            tried.push((way, container));
        }
    }
    agent.fence()?;
    let stopped = agent.stop()?;
    ensure!(stopped.status.success() && stopped.summary.lost == 0, "{:?}\n{}", stopped.summary, stopped.stderr);
    let of_image = of_container(&stopped.findings, image.id());
    ensure!(of_image.is_empty(), "programs of the image: {of_image:#?}");
    check_all(&stopped, &tried)
}

/// Each container's finding; all that is wrong at once.
fn check_all(stopped: &Stopped, tried: &[(&Way, Container)]) -> Result<()> {
    let errors = tried.iter().filter_map(|(way, container)| expect(stopped, container, way).err());
    let wrong: Vec<_> = errors.map(|error| error.to_string()).collect();
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[test]
fn runc_no_way_around_works() -> Result<()> {
    ways_around(Runtime::Runc)
}

#[test]
fn crun_no_way_around_works() -> Result<()> {
    ways_around(Runtime::Crun)
}

/// Scripts, which nothing executes: their interpreters open them.
const SCRIPTS: &[Way] = &[
    way(
        "sh file",
        &["/bin/sh", "-euc", "echo 'true; exit' > /tmp/dropped; /bin/sh -e /tmp/dropped with arguments; true"],
        &[SCRIPT, DROPPED, ("/process/name", "sh"), ("/drift/writer/process/name", "sh")],
    ),
    way(
        "sh file, relative and by a link",
        &[
            "/bin/sh",
            "-euc",
            "echo 'true; exit' > /tmp/dropped; ln -s dropped /tmp/link; cd /opt; sh ../tmp/./link; true",
        ],
        &[SCRIPT, DROPPED],
    ),
    way(
        "#!",
        &[
            "/bin/sh",
            "-euc",
            "printf '#!/bin/sh -e\\ntrue\\n' > /tmp/dropped; chmod +x /tmp/dropped; /tmp/dropped; true",
        ],
        &[SCRIPT, DROPPED, ("/process/name", "dropped")],
    ),
    way(
        "a script of the image that was changed",
        &["/bin/sh", "-euc", "echo true >> /opt/script; sh /opt/script; true"],
        &[SCRIPT, ("/drift/file/path", "/opt/script")],
    ),
    way(
        "a script in memory",
        &["/bin/sh", "-euc", "exec 9<>/tmp/dropped; rm /tmp/dropped; echo true >&9; sh /proc/self/fd/9; true"],
        &[SCRIPT],
    ),
    way(
        "a pipe into a shell",
        &["/bin/sh", "-euc", "echo true | sh; true"],
        &[STDIN, ("/process/executable", "/bin/busybox"), ("/priority", "informational")],
    ),
    way(
        "a file into a shell",
        &["/bin/sh", "-euc", "echo true > /tmp/x; sh < /tmp/x; true"],
        &[STDIN, ("/process/executable", "/bin/busybox")],
    ),
    way(
        "a program that was written to /dev/shm",
        &["/bin/sh", "-euc", "mkdir /dev/shm; cp /bin/workload /dev/shm/tool; /dev/shm/tool noop; true"],
        &[("/drift/kind", "from_volume"), ("/drift/file/path", "/dev/shm/tool"), ("/drift/writer/process/name", "cp")],
    ),
];

/// Scripts of the image, files that an interpreter opens and that are no scripts, and scripts that are read and not run.
const NO_SCRIPTS: &str = "sh /opt/script; /opt/script; echo data > /tmp/data; sh /opt/script /tmp/data; . /tmp/data || true; \
                          cat /tmp/data; cp /opt/script /tmp/copy; sh -c 'cat /tmp/copy' /tmp/copy; sh -n < /dev/null";

#[test]
fn scripts_of_the_writable_layer_are_drift_and_others_are_not() -> Result<()> {
    let runtime = Runtime::any();
    if !can_run_live_with(runtime) {
        return Ok(());
    }
    let agent = Agent::start(&[])?;
    let with_script = |args: &[&str]| -> Result<Container> {
        let container = Container::new(runtime, args, None)?;
        let script = container.lower().join("opt/script");
        fs::write(&script, "#!/bin/sh\ntrue\ncat \"$@\" < /dev/null\n")?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
        Ok(container)
    };
    let image = with_script(&["/bin/sh", "-uc", NO_SCRIPTS])?;
    image.run()?;
    let mut tried = Vec::new();
    for way in SCRIPTS {
        let container = with_script(way.args)?;
        container.run()?.successful().context(way.name)?;
        tried.push((way, container));
    }
    agent.fence()?;
    let stopped = agent.stop()?;
    ensure!(stopped.status.success() && stopped.summary.lost == 0, "{:?}\n{}", stopped.summary, stopped.stderr);
    let of_image = of_container(&stopped.findings, image.id());
    ensure!(of_image.is_empty(), "scripts of the image: {of_image:#?}");
    check_all(&stopped, &tried)
}

/// Whoever wrote the file and what it holds; and what was only chmod'ed is no alarm.
#[test]
fn findings_say_what_the_file_holds_and_who_wrote_it() -> Result<()> {
    let runtime = Runtime::any();
    if !can_run_live_with(runtime) {
        return Ok(());
    }
    let agent = Agent::start(&[])?;
    // The shell outlives what it runs, so that the file can be read through it.
    let run = |script: &str| -> Result<Container> {
        let container = Container::script(runtime, &format!("{script}; sleep 1"), None)?;
        container.run()?.successful()?;
        Ok(container)
    };
    let new = run("/bin/cp /bin/workload /tmp/dropped; /tmp/dropped noop")?;
    let touched = run("chmod 700 /opt/program; /opt/program noop")?;
    let changed = run("echo more >> /opt/program; /opt/program noop")?;
    agent.fence()?;
    let stopped = agent.stop()?;
    let found = expect(&stopped, &new, &way("a new program", &[], &[NEW, DROPPED]))?;
    let digest =
        process::run(Command::new("sha256sum").arg(new.upper().join("tmp/dropped")), PATIENCE)?.successful()?;
    let digest = digest.stdout_text().split(' ').next().unwrap_or_default().to_owned();
    let facts =
        [("/drift/file/sha256", &*digest), ("/drift/mode", "alert"), ("/drift/writer/process/ancestors/0/name", "sh")];
    for (pointer, expected) in facts {
        assert_eq!(text(found, pointer), expected, "{pointer}: {found:#}");
    }
    let metadata = way("chmod", &[], &[("/drift/kind", "metadata_only"), ("/priority", "informational")]);
    let found = expect(&stopped, &touched, &metadata)?;
    assert_eq!(text(found, "/drift/file/sha256"), digest, "{found:#}");
    expect(&stopped, &changed, &way("another content", &[], &[("/drift/kind", "modified_executable")]))?;

    // A replay of what was captured says the same, digests included.
    let replayed = parse(&agent::replay(&stopped.capture, &[])?.successful()?.stdout_text())?;
    let of = |findings: &[Value], container: &Container| -> Vec<Value> {
        of_container(findings, container.id()).into_iter().map(comparable).collect()
    };
    for container in [&new, &touched, &changed] {
        assert_eq!(of(&replayed, container), of(&stopped.findings, container));
    }
    let told = agent::monitor(
        ["drift", "explain", "--capture"].map(OsStr::new).into_iter().chain([stopped.capture.as_os_str()]),
    )?;
    assert!(told.successful()?.stdout_text().contains("Evidence"));
    Ok(())
}

const POLICY: &str = "\
drift:
  rules:
    - name: let pass
      kinds: [new_executable]
      except:
        paths: [/opt/plugin]
        writers: [/bin/busybox]
    - name: watch memory
      kinds: [fileless]
      mode: observe
";

#[test]
fn a_policy_decides_what_is_an_alarm() -> Result<()> {
    let runtime = Runtime::any();
    if !can_run_live_with(runtime) {
        return Ok(());
    }
    let directory = tempfile::tempdir()?;
    let policy = directory.path().join("policy.yaml");
    fs::write(&policy, POLICY)?;
    let policy = policy.to_str().unwrap_or_default();
    let agent = Agent::start(&["--drift-policy", policy])?;
    let run = |args: &[&str]| -> Result<Container> {
        let container = Container::new(runtime, args, None)?;
        container.run()?.successful()?;
        Ok(container)
    };
    let passes = run(&["/bin/sh", "-euc", "cp /bin/workload /tmp/x; /tmp/x noop; true"])?;
    let observed = run(&["/bin/workload", "memfd"])?;
    let alarm = run(&["/bin/workload", "drift", "fd"])?;
    // A fence would pass, too: its program is written by the image's busybox.
    agent.wait_for("the last finding", |finding| text(finding, "/container/id") == alarm.id())?;
    let stopped = agent.stop()?;
    assert!(of_container(&stopped.findings, passes.id()).is_empty(), "{:#?}", stopped.findings);
    let facts =
        [FILELESS, ("/priority", "informational"), ("/drift/mode", "observe"), ("/drift/policy_rule", "watch memory")];
    let [found] = of_container(&stopped.findings, observed.id())[..] else { panic!("{:#?}", stopped.findings) };
    for (pointer, expected) in facts {
        assert_eq!(text(found, pointer), expected, "{found:#}");
    }
    expect(&stopped, &alarm, &way("not let pass", &[], &[NEW, ("/priority", "critical"), ("/drift/policy_rule", "")]))?;
    // Without the policy the same capture has the finding that it let pass, and the baseline of it a rule.
    let replayed = parse(&agent::replay(&stopped.capture, &[])?.successful()?.stdout_text())?;
    assert_eq!(of_container(&replayed, passes.id()).len(), 1);
    let with_policy =
        parse(&agent::replay(&stopped.capture, &["--drift-policy", policy])?.successful()?.stdout_text())?;
    assert_eq!(with_policy.len(), stopped.findings.len());
    let baseline =
        agent::monitor(["drift", "baseline"].map(OsStr::new).into_iter().chain([stopped.capture.as_os_str()]))?;
    let learned = directory.path().join("learned.yaml");
    fs::write(&learned, baseline.successful()?.stdout_text())?;
    let checked = agent::monitor([OsStr::new("drift"), OsStr::new("check"), learned.as_os_str()])?;
    assert_eq!(checked.status.code(), Some(0), "{}\n{}", checked.stderr, fs::read_to_string(&learned)?);
    Ok(())
}

#[test]
fn a_policy_with_errors_starts_nothing_and_shows_them() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let policy = directory.path().join("policy.yaml");
    fs::write(&policy, "drift:\n  rules:\n    - name: a\n      mode: kill\n")?;
    let policy = policy.to_str().unwrap_or_default();
    for args in [&["drift", "check", policy][..], &["run", "--drift-policy", policy]] {
        let finished = agent::monitor(args)?;
        assert_eq!(finished.status.code(), Some(2), "{}", finished.stderr);
        let place = format!("{policy}:4:13");
        for part in [&*place, "^^^^", "would kill processes of the system", "1 error in the drift policy"] {
            assert!(finished.stderr.contains(part), "{part}\n{}", finished.stderr);
        }
    }
    Ok(())
}

#[test]
fn a_baseline_is_learned_from_what_happens_now() -> Result<()> {
    if !can_run_live_with(Runtime::any()) {
        return Ok(());
    }
    let learned = std::thread::scope(|scope| {
        let learning = scope.spawn(|| agent::monitor(["drift", "baseline", "--live", "--duration", "5s"]));
        // Again and again: whenever it is ready, one comes.
        while !learning.is_finished() {
            Container::script(Runtime::any(), "cp /bin/workload /tmp/learned; /tmp/learned noop", None)?
                .run()?
                .successful()?;
        }
        learning.join().map_err(|_| anyhow!("it panicked"))?
    })?
    .successful()?;
    ensure!(learned.stdout_text().contains("/tmp/learned"), "{}\n{}", learned.stdout_text(), learned.stderr);
    Ok(())
}
