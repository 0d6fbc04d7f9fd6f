//! What the kernel leaves out because the agent learned that no rule wants it: it is left out indeed, and nothing else is.
use std::{collections::BTreeMap, fs, path::Path, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::{
    agent::{Agent, replay},
    container::{BUSYBOX, Container, Runtime},
    environment::can_run_live,
    finding::{of_container, text},
    process,
};

const BUILTIN: &str = include_str!("../../monitor/rules/monitor_rules.yaml");
const LIMIT: Duration = Duration::from_mins(2);

/// Rules about a directory of the test's.
fn rules(directory: &Path) -> String {
    let rule = |name: &str, condition: &str| {
        let condition = condition.replace('D', &directory.display().to_string());
        format!(
            "- rule: {name}\n  desc: d\n  condition: evt.type in (open, openat, openat2) and ({condition})\n  \
             output: \"%fd.name %evt.res %proc.name\"\n  priority: WARNING\n"
        )
    };
    [
        rule("Secret", "fd.name startswith D/secret/ or fd.name = /inner"),
        rule("Written", "evt.is_open_write = true and fd.num >= 0 and fd.name = D/plain/written"),
        rule("Roundabout", "fd.nameraw contains /../ and fd.name = D/plain/near"),
        rule("Directory", "fd.typechar = d and fd.name = D/kind"),
        rule("Not found", "evt.failed = true and fd.name = D/other/missing"),
    ]
    .concat()
}

/// What changes the meaning of a file that the agent has learned is of no interest.
struct Step {
    what: &'static str,
    /// What is opened again and again beforehand, below the directory.
    learned: &'static str,
    /// What is done then, with `$D` for the directory.
    script: &'static str,
    /// Rule and name of the finding that this must give.
    expected: (&'static str, &'static str),
}

const STEPS: &[Step] = &[
    Step {
        what: "the file is renamed",
        learned: "plain/a",
        script: "mv $D/plain/a $D/secret/a; cat $D/secret/a",
        expected: ("Secret", "D/secret/a"),
    },
    Step {
        what: "its directory is renamed",
        learned: "deep/b",
        script: "mv $D/deep $D/secret/deep; cat $D/secret/deep/b",
        expected: ("Secret", "D/secret/deep/b"),
    },
    Step {
        what: "a directory further up is renamed",
        learned: "deeper/x/y/c",
        script: "mv $D/deeper $D/secret/deeper; cat $D/secret/deeper/x/y/c",
        expected: ("Secret", "D/secret/deeper/x/y/c"),
    },
    Step {
        what: "its directory is mounted elsewhere as well",
        learned: "bound/d",
        script: "mount --bind $D/bound $D/secret/bound; cat $D/secret/bound/d; umount $D/secret/bound",
        expected: ("Secret", "D/secret/bound/d"),
    },
    Step {
        what: "it has a second name",
        learned: "plain/e",
        script: "ln $D/plain/e $D/secret/e; cat $D/secret/e",
        expected: ("Secret", "D/secret/e"),
    },
    Step {
        what: "it becomes a link",
        learned: "plain/f",
        script: "rm $D/plain/f; ln -s ../secret/target $D/plain/f; cat $D/plain/f",
        expected: ("Secret", "D/secret/target"),
    },
    Step {
        what: "the task has another root",
        learned: "jail/inner",
        script: "chroot $D/jail /busybox cat /inner",
        expected: ("Secret", "/inner"),
    },
    Step {
        what: "it is opened to write",
        learned: "plain/written",
        script: "echo more >> $D/plain/written",
        expected: ("Written", "D/plain/written"),
    },
    Step {
        what: "it is opened by another name",
        learned: "plain/near",
        script: "cat $D/plain/../plain/near",
        expected: ("Roundabout", "D/plain/near"),
    },
    Step {
        what: "it becomes a directory",
        learned: "kind",
        script: "rm $D/kind; mkdir $D/kind; exec 3< $D/kind",
        expected: ("Directory", "D/kind"),
    },
    Step {
        what: "the same name is asked for in another directory",
        learned: "plain/missing",
        script: "cd $D/other; cat missing || true",
        expected: ("Not found", "D/other/missing"),
    },
];

/// A mount below a directory that is renamed, and a mount that is moved: they are learned in the mount namespace in which that happens.
const MOUNTS: &str = "
    mount --bind $D/bound $D/above/mount; learn $D/above/mount/d
    mv $D/above $D/secret/above; cat $D/secret/above/mount/d
    umount $D/secret/above/mount
    mount --bind $D/bound $D/moving; learn $D/moving/d
    mount --move $D/moving $D/secret/moved; cat $D/secret/moved/d";

/// Opens of each file that are to be learned from.
const OPENS: usize = 60;

/// Runs a script in a mount namespace of its own.
fn run(directory: &Path, script: &str) -> Result<()> {
    let learn = format!("learn() {{ for i in $(seq {OPENS}); do cat $1 || true; sleep 0.02; done 2>/dev/null; }}");
    let mut command = Command::new("unshare");
    command.args(["-m", "--propagation", "private", "sh", "-euc", &format!("{learn}\n{script}")]);
    command.env("D", directory);
    process::run(&mut command, LIMIT)?.successful()?;
    Ok(())
}

/// How often each file of a directory was opened, as a capture has it.
fn opens_in(capture: &Path, directory: &Path) -> Result<BTreeMap<String, usize>> {
    let rules = directory.join("all.yaml");
    let condition = format!("evt.type in (open, openat, openat2) and fd.name startswith {}/", directory.display());
    let rule = format!("- {{rule: All, desc: d, condition: '{condition}', output: '%fd.name', priority: INFO}}\n");
    fs::write(&rules, rule)?;
    let replayed = replay(capture, &["-r", rules.to_str().context("path")?])?.successful()?;
    let mut opens = BTreeMap::new();
    for finding in tests::finding::parse(&replayed.stdout_text())? {
        *opens.entry(text(&finding, "/message").to_owned()).or_default() += 1;
    }
    Ok(opens)
}

fn prepare(directory: &Path) -> Result<()> {
    let directories = [
        "plain",
        "secret/bound",
        "secret/moved",
        "deep",
        "deeper/x/y",
        "bound",
        "jail",
        "other",
        "above/mount",
        "moving",
    ];
    directories.iter().try_for_each(|name| fs::create_dir_all(directory.join(name)))?;
    let files = STEPS.iter().map(|step| step.learned).filter(|name| *name != "plain/missing");
    files.chain(["secret/target"]).try_for_each(|name| fs::write(directory.join(name), name))?;
    fs::copy(BUSYBOX, directory.join("jail/busybox"))?;
    Ok(())
}

#[test]
fn what_was_learned_of_a_file_is_held_against_no_other() -> Result<()> {
    if !can_run_live() {
        return Ok(());
    }
    let place = tempfile::tempdir()?;
    let directory = place.path().join("test");
    prepare(&directory)?;
    let path = place.path().join("rules.yaml");
    fs::write(&path, [BUILTIN, &rules(&directory)].concat())?;
    let agent = Agent::start(&["-r", path.to_str().context("path")?])?;
    for step in STEPS {
        run(&directory, &format!("learn $D/{}\n{}", step.learned, step.script)).context(step.what)?;
    }
    run(&directory, MOUNTS).context("mounts")?;
    agent.fence()?;
    let stopped = agent.stop()?;
    ensure!(stopped.stderr.contains("undecodable=0"), "{}", stopped.stderr);
    let found = |(rule, name): (&str, &str)| {
        let name = name.replace('D', &directory.display().to_string());
        stopped.findings.iter().any(|finding| {
            text(finding, "/rule") == rule && text(finding, "/message").split(' ').next() == Some(&*name)
        })
    };
    let mounts = ["D/secret/above/mount/d", "D/secret/moved/d"].map(|name| ("a mount", ("Secret", name)));
    let expected = STEPS.iter().map(|step| (step.what, step.expected)).chain(mounts);
    let missed: Vec<_> = expected.filter(|(_, expected)| !found(*expected)).collect();
    ensure!(missed.is_empty(), "not found: {missed:#?}\n{:#?}", stopped.findings);
    // And it was learned.
    let opens = opens_in(&stopped.capture, &directory)?;
    let sent = |name: &str| opens.get(&directory.join(name).display().to_string()).copied().unwrap_or_default();
    let learned = STEPS.iter().map(|step| step.learned).chain(["above/mount/d", "moving/d"]);
    let counts: Vec<_> = learned.map(|name| (name, sent(name))).collect();
    println!("of {OPENS} opens each were sent: {counts:?}");
    let all = counts.iter().all(|(_, sent)| (1..OPENS / 2).contains(sent));
    ensure!(all, "of {OPENS} opens were sent: {counts:?}");
    Ok(())
}

#[test]
fn new_rules_want_what_the_old_ones_did_not() -> Result<()> {
    if !can_run_live() {
        return Ok(());
    }
    let place = tempfile::tempdir()?;
    let directory = place.path().join("test");
    prepare(&directory)?;
    let path = place.path().join("rules.yaml");
    fs::write(&path, [BUILTIN, &rules(&directory)].concat())?;
    let agent = Agent::start(&["-r", path.to_str().context("path")?])?;
    run(&directory, "learn $D/plain/a")?;
    fs::write(&path, [BUILTIN, &rules(&directory).replace("/secret/", "/plain/")].concat())?;
    agent.wait_for_stderr("rules reloaded", 1)?;
    run(&directory, "cat $D/plain/a")?;
    agent.wait_for("what the new rules want", |finding| text(finding, "/rule") == "Secret")?;
    let stopped = agent.stop()?;
    ensure!(stopped.findings.len() == 1, "{:#?}", stopped.findings);
    Ok(())
}

/// Rules of all kinds that look at opens, as Falco's are.
const MIXED: &str = r#"
- macro: opens
  condition: evt.type in (open, openat, openat2)
- rule: Reads
  desc: d
  condition: opens and evt.is_open_read = true and fd.typechar = f and fd.num >= 0 and fd.name in (/etc/group, /etc/passwd)
  output: "%fd.name %proc.cmdline"
  priority: INFO
- rule: Writes
  desc: d
  condition: opens and evt.is_open_write = true and fd.num >= 0 and fd.directory in (/etc, /srv) and proc.name in (cp, mv, sh)
  output: "%fd.name %proc.cmdline"
  priority: INFO
- rule: Names
  desc: d
  condition: opens and (fd.name contains odd or fd.name glob /tmp/*.t?t or fd.name endswith .conf) and container.id != host
  output: "%fd.name %evt.res %proc.cmdline"
  priority: INFO
- rule: Fails
  desc: d
  condition: opens and evt.failed = true and fd.nameraw startswith mis and proc.pname = sh
  output: "%fd.name %evt.res %proc.cmdline"
  priority: INFO
- rule: Roundabout
  desc: d
  condition: opens and fd.nameraw contains ../ and fd.name pmatch (/etc, /srv)
  output: "%fd.name %fd.nameraw %proc.cmdline"
  priority: INFO
"#;

/// What a container does, over and over.
const WORK: &str = "
    mkdir -p /etc /srv /tmp/odd; echo root > /etc/passwd; echo root > /etc/group; echo a > /srv/a; echo b > /tmp/b.txt
    i=0; while [ $i -lt 60 ]; do
        cat /etc/passwd /srv/a /tmp/b.txt > /dev/null; grep -r root /etc > /dev/null
        cp /srv/a /srv/copy; cp /srv/a /tmp/odd/copy; mv /srv/copy /etc/moved; echo x >> /srv/a
        cat missing /srv/missing /tmp/none 2> /dev/null || true
        cd /srv; cat ../etc/group a missing > /dev/null 2>&1 || true; cd /
        ls -lR /etc /srv /tmp > /dev/null; find / -maxdepth 2 -name nothing > /dev/null
        [ $((i % 20)) = 0 ] && sleep 0.1
        mv /tmp/odd /tmp/even; mv /tmp/even /tmp/odd; : > /tmp/site.conf; rm /tmp/site.conf
        i=$((i + 1))
    done";

#[test]
fn findings_are_those_of_a_kernel_that_sends_everything() -> Result<()> {
    if !can_run_live() {
        return Ok(());
    }
    let place = tempfile::tempdir()?;
    let path = place.path().join("rules.yaml");
    fs::write(&path, [BUILTIN, MIXED].concat())?;
    let rules = ["-r", path.to_str().context("path")?, "--rule-matching", "all"];
    let some = Agent::start(&rules)?;
    let all = Agent::start(&[&rules[..], &["--no-push-down", "--ring-mib", "32"]].concat())?;
    let container = Container::script(Runtime::any(), WORK, None)?;
    container.run_within(LIMIT)?.successful()?;
    some.fence()?;
    all.fence()?;
    let (some, all) = (some.stop()?, all.stop()?);
    ensure!((some.summary.lost, all.summary.lost) == (0, 0), "something was lost");
    ensure!(some.stderr.contains("undecodable=0"), "{}", some.stderr);
    let findings = |stopped: &[Value]| -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for finding in of_container(stopped, container.id()) {
            *counts.entry(format!("{}: {}", text(finding, "/rule"), text(finding, "/message"))).or_default() += 1;
        }
        counts
    };
    let (found, expected) = (findings(&some.findings), findings(&all.findings));
    println!(
        "{} of {} records, {} findings",
        some.summary.records,
        all.summary.records,
        expected.values().sum::<usize>()
    );
    for rule in ["Reads", "Writes", "Names", "Fails", "Roundabout"] {
        ensure!(expected.keys().any(|finding| finding.starts_with(rule)), "nothing is found by {rule}");
    }
    ensure!(found == expected, "{found:#?} instead of {expected:#?}");
    ensure!(some.summary.records * 2 < all.summary.records, "next to nothing is left out");
    Ok(())
}
