//! `monitor seccomp sync` as users meet it, killed at any moment, and as the agent does it: profiles on the node are what was offered,
//! or what they were before, and nobody else's file is touched.
use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use monitor::proto::v1::{ProfileOutcome, ProfilesChange};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::{
    agent::{self, Agent, PATIENCE},
    capture::Numbers,
    container::{Container, Runtime},
    environment::{can_run_containers, can_run_live},
    process::{self, Finished, Group},
    seccomp::Profile,
    subscriber::Subscriber,
};

const ALLOW: &str = r#"{"defaultAction": "SCMP_ACT_ALLOW"}"#;
const DENY: &str = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["getsid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13}]}"#;
const BROKEN: &str = "{\n  \"defaultAction\": \"SCMP_ACT_ALOW\"\n}";
/// What is beside the profiles: the manifest and the lock.
const OWN: [&str; 2] = [".installed.json", ".lock"];

/// A directory of profiles, laid out as the kubelet lays out a `ConfigMap`, and a kubelet's directory.
struct Place {
    home: TempDir,
    versions: u32,
}

impl Place {
    fn new(profiles: &[(&str, &str)]) -> Result<Self> {
        let mut place = Self { home: tempfile::tempdir()?, versions: 0 };
        fs::create_dir(place.from())?;
        place.offer(profiles)?;
        Ok(place)
    }

    fn from(&self) -> PathBuf {
        self.home.path().join("from")
    }

    fn root(&self) -> PathBuf {
        self.home.path().join("seccomp")
    }

    fn node(&self, name: &str) -> PathBuf {
        self.root().join("monitor").join(name)
    }

    /// Offers these and no others, in the kubelet's steps (`AtomicWriter` of Kubernetes).
    fn offer(&mut self, profiles: &[(&str, &str)]) -> Result<()> {
        self.versions += 1;
        let version = format!("..2026_01_01_00_00_00.{:09}", self.versions);
        fs::create_dir(self.from().join(&version))?;
        for (name, text) in profiles {
            fs::write(self.from().join(&version).join(name), text)?;
        }
        let temporary = self.from().join("..data_tmp");
        symlink(&version, &temporary)?;
        let before = fs::read_link(self.from().join("..data")).ok();
        fs::rename(temporary, self.from().join("..data"))?;
        for (name, _) in profiles {
            let _ = symlink(format!("..data/{name}"), self.from().join(name));
        }
        for entry in fs::read_dir(self.from())? {
            let path = entry?.path();
            // Links whose files are not in the new version.
            if !path.exists() {
                fs::remove_file(path)?;
            }
        }
        before.map(|before| fs::remove_dir_all(self.from().join(before))).transpose()?;
        Ok(())
    }

    fn command(&self, args: &[&str]) -> Result<Command> {
        let mut command = Command::new(agent::binary()?);
        command.args(["seccomp", "sync", "--root"]).arg(self.root()).args(args);
        Ok(command)
    }

    fn run(&self, args: &[&str]) -> Result<Finished> {
        process::run(&mut self.command(args)?, PATIENCE)
    }

    fn sync(&self, more: &[&str]) -> Result<Finished> {
        let from = self.from().display().to_string();
        self.run(&[&["--from", &from], more].concat())
    }

    /// What became of each profile, by `--json`.
    fn outcomes(&self, more: &[&str], code: i32) -> Result<Vec<(String, String)>> {
        let finished = self.sync(&[&["--json"], more].concat())?;
        ensure!(finished.status.code() == Some(code), "{}\n{}", finished.status, finished.stderr);
        let told: Value = serde_json::from_str(&finished.stdout_text())?;
        let profiles = told.pointer("/profiles").and_then(Value::as_array).context("profiles")?;
        let text = |profile: &Value, key: &str| profile.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        Ok(profiles.iter().map(|profile| (text(profile, "name"), text(profile, "outcome"))).collect())
    }

    /// The names in the node's directory, without those that are for the work itself.
    fn names(&self) -> Result<BTreeSet<String>> {
        let names = fs::read_dir(self.root().join("monitor"))?;
        let names: Result<BTreeSet<_>, _> =
            names.map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned())).collect();
        Ok(names?.into_iter().filter(|name| !OWN.contains(&name.as_str())).collect())
    }
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(name, outcome)| ((*name).to_owned(), (*outcome).to_owned())).collect()
}

#[test]
fn profiles_are_installed_updated_and_removed_as_they_are_offered() -> Result<()> {
    let mut place = Place::new(&[("a.json", ALLOW), ("b.json", DENY)])?;
    assert_eq!(place.outcomes(&["--check"], 1)?, pairs(&[("a.json", "installed"), ("b.json", "installed")]));
    assert!(!place.root().exists(), "--check changes nothing");
    let first = place.sync(&[])?.successful()?;
    assert_eq!(first.stdout_text(), "monitor/a.json: installed\nmonitor/b.json: installed\n");
    assert_eq!(fs::read_to_string(place.node("b.json"))?, DENY);
    let mode = |path: &Path| fs::metadata(path).map(|metadata| metadata.mode() & 0o7777);
    assert_eq!((mode(&place.node("a.json"))?, mode(&place.root().join("monitor"))?), (0o644, 0o755));

    assert_eq!(place.outcomes(&["--check"], 0)?, pairs(&[("a.json", "unchanged"), ("b.json", "unchanged")]));
    place.offer(&[("a.json", DENY), ("c.json", ALLOW)])?;
    let expected = pairs(&[("a.json", "updated"), ("b.json", "removed"), ("c.json", "installed")]);
    assert_eq!(place.outcomes(&["--check"], 1)?, expected);
    assert_eq!(fs::read_to_string(place.node("a.json"))?, ALLOW, "--check changes nothing");
    assert_eq!(place.outcomes(&[], 0)?, expected);
    assert_eq!(place.names()?, BTreeSet::from(["a.json", "c.json"].map(str::to_owned)));
    assert_eq!(fs::read_to_string(place.node("a.json"))?, DENY);

    fs::write(place.node("a.json"), ALLOW)?;
    fs::remove_file(place.node("c.json"))?;
    let put_back = pairs(&[("a.json", "put_back_changed"), ("c.json", "put_back_missing")]);
    assert_eq!(place.outcomes(&["--check"], 1)?, put_back);
    assert_eq!(place.outcomes(&[], 0)?, put_back);
    assert_eq!(fs::read_to_string(place.node("a.json"))?, DENY);
    // The content is the same, but others can change it.
    fs::set_permissions(place.node("a.json"), fs::Permissions::from_mode(0o666))?;
    assert_eq!(place.outcomes(&[], 0)?, pairs(&[("a.json", "put_back_changed"), ("c.json", "unchanged")]));
    assert_eq!(mode(&place.node("a.json"))?, 0o644);

    let removed = place.run(&["--remove"])?.successful()?;
    assert_eq!(removed.stdout_text(), "monitor/a.json: removed\nmonitor/c.json: removed\n");
    assert!(place.root().exists() && !place.root().join("monitor").exists());
    assert_eq!(place.run(&["--remove"])?.successful()?.stdout_text(), "nothing is installed\n");
    Ok(())
}

#[test]
fn what_is_no_profile_is_refused_with_its_place_and_the_others_go_in() -> Result<()> {
    let mut place = Place::new(&[("bad.json", BROKEN), ("good.json", ALLOW), ("note.txt", "no profile at all")])?;
    let refused = place.sync(&[])?;
    assert_eq!(refused.status.code(), Some(2), "{}", refused.stderr);
    for told in ["bad.json:2:20", "did you mean `SCMP_ACT_ALLOW`", "^^^"] {
        assert!(refused.stderr.contains(told), "{told} is not in {}", refused.stderr);
    }
    assert!(refused.stdout_text().contains("monitor/bad.json: REFUSED: it is no profile"), "{}", refused.stdout_text());
    assert_eq!(place.names()?, BTreeSet::from(["good.json".to_owned()]));

    // What no runtime can make a filter of, and what becomes bad after it was good.
    let conflict = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
      {"names": ["read"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]},
      {"names": ["read"], "action": "SCMP_ACT_LOG", "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]}]}"#;
    place.offer(&[("conflict.json", conflict), ("good.json", BROKEN)])?;
    let refused = place.sync(&[])?;
    let text = refused.stdout_text();
    assert!(refused.status.code() == Some(2) && text.contains("another rule gives the same arguments"), "{text}");
    assert!(text.contains("good.json: REFUSED") && text.contains("the one from before stays"), "{text}");
    assert_eq!(fs::read_to_string(place.node("good.json"))?, ALLOW);
    Ok(())
}

#[test]
fn odd_names_links_that_lead_out_and_what_is_no_file_are_refused_and_not_read() -> Result<()> {
    let place = Place::new(&[("good.json", ALLOW)])?;
    let outside = place.home.path().join("outside.json");
    fs::write(&outside, ALLOW)?;
    let from = place.from();
    symlink(&outside, from.join("absolute.json"))?;
    symlink("../outside.json", from.join("dots.json"))?;
    symlink("circle.json", from.join("circle.json"))?;
    symlink("/proc/self/environ", from.join("magic.json"))?;
    symlink("nowhere", from.join("dangling.json"))?;
    fs::create_dir(from.join("directory.json"))?;
    rustix::fs::mknodat(
        rustix::fs::CWD,
        from.join("fifo.json"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )?;
    for name in [".hidden.json", "with space.json", "new\nline.json", "\u{1b}[31m.json"] {
        fs::write(from.join(name), ALLOW)?;
    }
    fs::write(from.join("long.json"), format!("{ALLOW}{}", " ".repeat(1 << 20)))?;
    let outcomes = place.outcomes(&[], 2)?;
    let installed: Vec<_> = outcomes.iter().filter(|(_, outcome)| outcome != "refused").collect();
    assert_eq!((installed.len(), outcomes.len()), (1, 13), "{outcomes:?}");
    assert_eq!(place.names()?, BTreeSet::from(["good.json".to_owned()]));
    let text = place.sync(&[])?.stdout_text();
    for told in [
        "absolute.json: REFUSED: cannot be read: it is a link that leads out of the directory",
        "fifo.json: REFUSED: cannot be read: it is no file",
        ".hidden.json: REFUSED: the name of this file cannot be taken: it begins with a dot",
        "long.json: REFUSED: cannot be read: it is longer than 1048576 bytes",
    ] {
        assert!(text.contains(told), "{told} is not in {text}");
    }
    assert!(!text.contains('\u{1b}') && !text.contains("new\nline"), "{text:?}");
    Ok(())
}

#[test]
fn too_many_profiles_and_directories_without_any_are_errors_that_remove_nothing() -> Result<()> {
    let place = Place::new(&[("a.json", ALLOW)])?;
    place.sync(&[])?.successful()?;
    let fails = |from: &Path, told: &str| -> Result<()> {
        let finished = place.run(&["--from", &from.display().to_string()])?;
        ensure!(finished.status.code() == Some(2) && finished.stderr.contains(told), "{told}: {}", finished.stderr);
        ensure!(place.names()?.contains("a.json"), "{told}: it is gone");
        Ok(())
    };
    let many = place.home.path().join("many");
    fs::create_dir(&many)?;
    fails(&many, "no *.json file in")?;
    fails(&place.home.path().join("nowhere"), "cannot read the profiles in")?;
    fails(&place.from().join("a.json"), "cannot read the profiles in")?;
    for number in 0..=256 {
        fs::write(many.join(format!("{number}.json")), ALLOW)?;
    }
    fails(&many, "257 profiles: at most 256")?;
    for number in 0..=10 {
        fs::write(many.join(format!("{number}.json")), format!("{ALLOW}{}", " ".repeat(1_000_000)))?;
    }
    for number in 11..=256 {
        fs::remove_file(many.join(format!("{number}.json")))?;
    }
    fails(&many, "more than 8388608 bytes together")?;
    Ok(())
}

#[test]
fn files_of_others_are_never_touched() -> Result<()> {
    let place = Place::new(&[("a.json", ALLOW), ("b.json", ALLOW), ("c.json", ALLOW)])?;
    let directory = place.root().join("monitor");
    fs::create_dir_all(&directory)?;
    let target = place.home.path().join("target");
    fs::write(&target, "target")?;
    fs::write(directory.join("a.json"), DENY)?;
    symlink(&target, directory.join("b.json"))?;
    fs::write(directory.join("theirs.json"), DENY)?;
    for _ in 0..2 {
        let expected = pairs(&[("a.json", "refused"), ("b.json", "refused")]);
        assert_eq!(place.outcomes(&[], 2)?.get(..2), Some(&expected[..]));
    }
    let text = place.sync(&[])?.stdout_text();
    assert!(text.contains("a.json: REFUSED: its place is taken by a file that was not installed from here"), "{text}");
    assert!(text.contains("b.json: REFUSED: its place is taken by a symbolic link"), "{text}");

    // One of ours that somebody changed is no longer what was installed.
    fs::write(directory.join("c.json"), DENY)?;
    let removed = place.run(&["--remove"])?;
    assert_eq!(removed.status.code(), Some(2), "{}", removed.stderr);
    assert!(
        removed.stdout_text().contains("c.json: left alone: somebody else has changed it"),
        "{}",
        removed.stdout_text()
    );
    let left: BTreeSet<_> =
        fs::read_dir(&directory)?.map(|entry| entry.map(|entry| entry.file_name())).collect::<Result<_, _>>()?;
    assert_eq!(left, BTreeSet::from(["a.json", "b.json", "c.json", "theirs.json"].map(Into::into)));
    assert_eq!(
        (fs::read_to_string(&target)?.as_str(), fs::read_to_string(directory.join("a.json"))?.as_str()),
        ("target", DENY)
    );
    assert!(directory.join("b.json").is_symlink());
    Ok(())
}

#[test]
fn a_directory_in_which_others_could_put_profiles_is_refused() -> Result<()> {
    let place = Place::new(&[("a.json", ALLOW)])?;
    let fails = |args: &[&str], told: &str| -> Result<()> {
        for more in [&[][..], &["--check"]] {
            let finished = place.sync(&[args, more].concat())?;
            ensure!(finished.status.code() == Some(2) && finished.stderr.contains(told), "{told}: {}", finished.stderr);
        }
        Ok(())
    };
    for (name, told) in [
        ("..", "it begins with a dot"),
        ("../x", "it begins with a dot"),
        ("a/b", "may stand in it"),
        ("", "it is empty"),
        ("/etc", "may stand in it"),
    ] {
        fails(&["--directory", name], told)?;
    }
    let elsewhere = place.home.path().join("elsewhere");
    fs::create_dir(&elsewhere)?;
    fs::create_dir(place.root())?;
    symlink(&elsewhere, place.root().join("monitor"))?;
    fails(&[], "is a symbolic link: remove it, or name another with --directory")?;
    assert_eq!(fs::read_dir(&elsewhere)?.count(), 0);
    fs::remove_file(place.root().join("monitor"))?;
    fs::write(place.root().join("monitor"), "")?;
    fails(&[], "is a file: remove it")?;
    fs::remove_file(place.root().join("monitor"))?;
    fs::create_dir(place.root().join("monitor"))?;
    fs::set_permissions(place.root().join("monitor"), fs::Permissions::from_mode(0o777))?;
    fails(&[], "can be written by others (mode 777), so that others could put profiles there")?;
    fs::set_permissions(place.root().join("monitor"), fs::Permissions::from_mode(0o755))?;
    fs::set_permissions(place.root(), fs::Permissions::from_mode(0o775))?;
    fails(&[], "seccomp can be written by others")?;
    fs::set_permissions(place.root(), fs::Permissions::from_mode(0o755))?;
    place.sync(&[])?.successful()?;
    let nowhere = place.home.path().join("no/kubelet/seccomp").display().to_string();
    let from = place.from().display().to_string();
    let mut command = Command::new(agent::binary()?);
    let finished = process::run(command.args(["seccomp", "sync", "--from", &from, "--root", &nowhere]), PATIENCE)?;
    assert!(finished.stderr.contains("is this a node of Kubernetes? name its directory"), "{}", finished.stderr);
    Ok(())
}

/// Wherever a run is killed, each file has the old or the new content, and the next run brings everything in order: nothing is refused
/// as somebody else's, nothing is left over.
#[test]
fn a_run_that_is_killed_leaves_old_or_new_content_and_nothing_that_the_next_does_not_clear() -> Result<()> {
    const PROFILES: usize = 24;
    let version = |number: usize| -> Vec<(String, String)> {
        // Some stay, some come, some go, some change.
        let of = |index: usize| {
            let padding = " ".repeat(20_000 + number + index * (number % 3));
            (format!("{index:02}.json"), format!("{ALLOW}{padding}"))
        };
        (0..PROFILES).filter(|index| !(number + index).is_multiple_of(5)).map(of).collect()
    };
    let mut place = Place::new(&[("00.json", ALLOW)])?;
    let offer = |place: &mut Place, profiles: &[(String, String)]| {
        let profiles: Vec<_> = profiles.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        place.offer(&profiles)
    };
    let mut before = version(0);
    offer(&mut place, &before)?;
    let whole = place.sync(&[])?.successful()?.elapsed;
    let (mut numbers, mut cut, mut temporaries) = (Numbers::new(7), 0, 0);
    for number in 1..=60 {
        let after = version(number);
        offer(&mut place, &after)?;
        let from = place.from().display().to_string();
        let mut running = Group::spawn(place.command(&["--from", &from])?.stdout(Stdio::null()))?;
        let micros = u64::try_from(whole.as_micros())?;
        std::thread::sleep(Duration::from_micros(u64::try_from(numbers.below(usize::try_from(micros)?))?));
        let _ = running.signal(Signal::KILL);
        let status = running.wait(PATIENCE)?.context("it does not end")?;
        cut += usize::from(!status.success());
        let mut names = place.names()?;
        temporaries += usize::from(names.remove(".temporary"));
        let is_old_or_new = |name: &String| -> Result<bool> {
            let text = fs::read_to_string(place.node(name))?;
            Ok([&before, &after].iter().any(|version| version.contains(&(name.clone(), text.clone()))))
        };
        for name in &names {
            ensure!(is_old_or_new(name)?, "round {number}: {name} is neither the old nor the new one");
        }
        // Whoever stays is never missing, not for a moment.
        for (name, _) in before.iter().filter(|(name, _)| after.iter().any(|(other, _)| other == name)) {
            ensure!(names.contains(name), "round {number}: {name} is missing");
        }
        place.sync(&[])?.successful().with_context(|| format!("round {number}: the next run"))?;
        let expected: BTreeSet<_> = after.iter().map(|(name, _)| name.clone()).collect();
        ensure!(place.names()? == expected, "round {number}: {:?}", place.names()?);
        for (name, text) in &after {
            ensure!(fs::read_to_string(place.node(name))? == *text, "round {number}: {name}");
        }
        before = after;
    }
    println!("{cut} of 60 runs were cut short, {temporaries} of them with a temporary file");
    ensure!(cut >= 10, "{cut} of 60 runs were cut short: the test shows little");
    place.run(&["--remove"])?.successful()?;
    assert!(!place.root().join("monitor").exists());
    Ok(())
}

/// A disk that is full, as far as a process can have that for itself: files of more than 8 KiB cannot be written.
#[test]
fn a_profile_that_cannot_be_written_leaves_the_old_one_and_is_told() -> Result<()> {
    let mut place = Place::new(&[("large.json", ALLOW), ("small.json", ALLOW)])?;
    place.sync(&[])?.successful()?;
    let large = format!("{ALLOW}{}", " ".repeat(20_000));
    place.offer(&[("large.json", &large), ("small.json", DENY)])?;
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"trap '' XFSZ; ulimit -f 16; exec "$@""#, "sh"]).arg(agent::binary()?);
    shell.args(["seccomp", "sync", "--root"]).arg(place.root()).arg("--from").arg(place.from());
    let finished = process::run(&mut shell, PATIENCE)?;
    let text = finished.stdout_text();
    assert_eq!(finished.status.code(), Some(2), "{text}\n{}", finished.stderr);
    assert!(text.contains("large.json: FAILED: File too large") && text.contains("small.json: updated"), "{text}");
    assert_eq!(
        (
            fs::read_to_string(place.node("large.json"))?.as_str(),
            fs::read_to_string(place.node("small.json"))?.as_str()
        ),
        (ALLOW, DENY)
    );
    assert_eq!(place.names()?.len(), 2, "no temporary file");
    assert_eq!(place.outcomes(&[], 0)?, pairs(&[("large.json", "updated"), ("small.json", "unchanged")]));
    Ok(())
}

/// What the pod has: root, and of its capabilities only the one to read.
#[test]
fn root_needs_no_capability_to_write_there() -> Result<()> {
    if !can_run_live() {
        return Ok(());
    }
    let mut place = Place::new(&[("a.json", ALLOW)])?;
    for (version, expected) in [(DENY, "installed"), (ALLOW, "updated")] {
        place.offer(&[("a.json", version)])?;
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]).arg(agent::binary()?);
        command.args(["seccomp", "sync", "--root"]).arg(place.root()).arg("--from").arg(place.from());
        let finished = process::run(&mut command, PATIENCE)?.successful()?;
        assert_eq!(finished.stdout_text(), format!("monitor/a.json: {expected}\n"));
    }
    Ok(())
}

/// The kubelet hands a runtime the file that a pod names; here the file goes to runc.
#[test]
fn a_container_runs_under_the_profile_that_was_installed() -> Result<()> {
    if !can_run_containers(Runtime::Runc) {
        return Ok(());
    }
    let mut place = Place::new(&[("web.json", DENY)])?;
    let errno = |place: &Place| -> Result<String> {
        place.sync(&[])?.successful()?;
        let profile: Value = serde_json::from_str(&fs::read_to_string(place.node("web.json"))?)?;
        let script = "/bin/workload call getsid 1; grep Seccomp: /proc/self/status";
        let container = Container::script(Runtime::Runc, script, Some(&Profile::from(profile)))?;
        Ok(container.run()?.successful()?.stdout_text())
    };
    let denied = errno(&place)?;
    assert!(denied.contains("\"returns\":[-13]") && denied.contains("Seccomp:\t2"), "{denied}");
    place.offer(&[("web.json", &DENY.replace("13", "1"))])?;
    let denied = errno(&place)?;
    assert!(denied.contains("\"returns\":[-1]"), "{denied}");
    Ok(())
}

/// Waits for the change of this number; its profiles, and how many are installed.
fn nth(subscriber: &Subscriber, number: usize) -> Result<(Vec<(String, ProfileOutcome)>, ProfilesChange)> {
    let received = subscriber.wait("a change of the profiles", |received| received.profiles.len() >= number)?;
    let change = received.profiles.get(number - 1).cloned().context("no such change")?;
    ensure!(change.number == u64::try_from(number)?, "{change:?}");
    let profiles = change.profiles.iter().map(|profile| (profile.localhost_profile.clone(), profile.outcome()));
    Ok((profiles.collect(), change))
}

/// The agent on these profiles.
fn start(place: &Place) -> Result<Agent> {
    let config = place.home.path().join("monitor.yaml");
    let (from, root) = (place.from(), place.root());
    let profiles = json!({"from": from, "root": root, "look_every_s": 3600});
    fs::write(&config, json!({"seccomp_profiles": profiles}).to_string())?;
    Agent::start(&["-c", &config.display().to_string()])
}

#[test]
fn the_agent_keeps_profiles_as_they_are_offered_and_says_who_touched_them() -> Result<()> {
    if !can_run_live() {
        return Ok(());
    }
    let mut place = Place::new(&[("a.json", ALLOW), ("bad.json", BROKEN)])?;
    let agent = start(&place)?;
    assert_eq!(fs::read_to_string(place.node("a.json"))?, ALLOW, "it is there when the agent is ready");
    let at_start = agent.stderr();
    let said = |text: &str| at_start.find(text).with_context(|| format!("{text} is not in {at_start}"));
    ensure!(said("1 seccomp profile on this node: 1 installed")? < said("monitor: ready")?, "{at_start}");
    ensure!(at_start.contains("bad.json:2:20"), "{at_start}");
    let subscriber = Subscriber::earliest(&agent.socket())?;
    let name = |name: &str| format!("monitor/{name}");
    let (first, change) = nth(&subscriber, 1)?;
    assert_eq!(first, [(name("a.json"), ProfileOutcome::Installed), (name("bad.json"), ProfileOutcome::Refused)]);
    assert!(change.profiles[1].messages[0].contains("bad.json:2:20"), "{change:?}");

    place.offer(&[("a.json", DENY), ("b.json", ALLOW)])?;
    let (updated, change) = nth(&subscriber, 2)?;
    assert_eq!(updated, [(name("a.json"), ProfileOutcome::Updated), (name("b.json"), ProfileOutcome::Installed)]);
    assert_eq!((fs::read_to_string(place.node("a.json"))?.as_str(), change.installed), (DENY, 2));

    fs::write(place.node("a.json"), ALLOW)?;
    let (changed, change) = nth(&subscriber, 3)?;
    assert_eq!(changed, [(name("a.json"), ProfileOutcome::PutBackChanged)]);
    assert_eq!((fs::read_to_string(place.node("a.json"))?.as_str(), change.installed), (DENY, 2));
    fs::remove_file(place.node("b.json"))?;
    assert_eq!(nth(&subscriber, 4)?.0, [(name("b.json"), ProfileOutcome::PutBackMissing)]);
    assert_eq!(fs::read_to_string(place.node("b.json"))?, ALLOW);
    // The whole directory, its manifest with it: what is offered is new again.
    fs::remove_dir_all(place.root())?;
    assert_eq!(nth(&subscriber, 5)?.0.len(), 2);
    assert_eq!(fs::read_to_string(place.node("b.json"))?, ALLOW);

    // What is offered goes, as when a mount fails: nothing is removed, and it is told once.
    fs::rename(place.from(), place.home.path().join("away"))?;
    let (_, failed) = nth(&subscriber, 6)?;
    assert!(failed.error.contains("cannot read the profiles in"), "{failed:?}");
    fs::rename(place.home.path().join("away"), place.from())?;
    let (again, change) = nth(&subscriber, 7)?;
    assert!(again.is_empty() && change.error.is_empty() && change.installed == 2, "{change:?}");

    let endpoint = format!("unix:{}", agent.socket().display());
    let last = Container::script(Runtime::any(), "cp /bin/workload /tmp/last; /tmp/last noop", None)?;
    last.run()?.successful()?;
    let is_last = format!("container.full_id = {}", last.id());
    let args = ["tail", "--endpoint", &endpoint, "--from", "earliest", "-n", "1", "--where", &is_last];
    let tail = agent::monitor(args)?.successful()?;
    let stopped = agent.stop()?;
    for said in [&tail.stderr, &stopped.stderr] {
        for (told, times) in [
            ("monitor: seccomp profile monitor/bad.json is REFUSED: it is no profile", 1),
            ("monitor: seccomp profile monitor/a.json was changed by somebody else, and is put back", 1),
            ("monitor: seccomp profile monitor/b.json was removed by somebody else, and is put back", 1),
            ("monitor: seccomp profiles NOT synced: cannot read the profiles in", 1),
        ] {
            assert_eq!(said.matches(told).count(), times, "{told}:\n{said}");
        }
    }
    assert!(stopped.status.success() && !stopped.stderr.contains("panicked"), "{}", stopped.stderr);
    assert_eq!(fs::read_to_string(place.node("a.json"))?, DENY, "pods need it when the agent is gone");
    Ok(())
}

#[test]
fn profiles_that_cannot_be_installed_do_not_stop_detection() -> Result<()> {
    if !can_run_live() {
        return Ok(());
    }
    let place = Place::new(&[("a.json", ALLOW)])?;
    fs::create_dir(place.root())?;
    symlink("/tmp", place.root().join("monitor"))?;
    let agent = start(&place)?;
    assert!(agent.stderr().contains("monitor: seccomp profiles NOT synced: "), "{}", agent.stderr());
    agent.fence()?;
    agent.stop()?;
    Ok(())
}
