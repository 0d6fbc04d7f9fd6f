//! What is decided for each combination of what is offered, known and there; and directories that somebody prepared.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
};

use super::{manifest::Entry, *};

const ALLOW: &str = r#"{"defaultAction": "SCMP_ACT_ALLOW"}"#;
const DENY: &str = r#"{"defaultAction": "SCMP_ACT_ERRNO"}"#;

fn entry(sha256: &[&str], may_be_missing: bool) -> Entry {
    Entry { sha256: sha256.iter().map(|digest| (*digest).to_owned()).collect(), may_be_missing }
}

#[test]
fn every_combination_has_one_answer() {
    let write = |fresh| Step::Write { fresh };
    let file = |sha256: &str| Seen::File(sha256.to_owned());
    let link = Seen::Other("a symbolic link".to_owned());
    let (old, coming, both) = (entry(&["old"], false), entry(&["new"], true), entry(&["old", "new"], false));
    let going = entry(&["old"], true);
    for (wanted, known, seen, step, outcome) in [
        // Nothing is known of the name: what is there is somebody else's, whatever is in it.
        (Some("new"), None, Seen::Missing, write(true), Outcome::Installed),
        (Some("new"), None, file("new"), Step::Nothing, Outcome::Refused),
        (Some("new"), None, file("x"), Step::Nothing, Outcome::Refused),
        (Some("new"), None, link.clone(), Step::Nothing, Outcome::Refused),
        // It was installed.
        (Some("old"), Some(&old), file("old"), Step::Nothing, Outcome::Unchanged),
        (Some("new"), Some(&old), file("old"), write(false), Outcome::Updated),
        (Some("old"), Some(&old), file("x"), write(false), Outcome::PutBackChanged),
        (Some("old"), Some(&old), link.clone(), write(false), Outcome::PutBackChanged),
        (Some("old"), Some(&old), Seen::Missing, write(true), Outcome::PutBackMissing),
        // A run was killed while it installed it.
        (Some("new"), Some(&coming), Seen::Missing, write(true), Outcome::Installed),
        (Some("new"), Some(&coming), file("new"), Step::Settle, Outcome::Unchanged),
        (Some("new"), Some(&coming), file("x"), Step::Forget, Outcome::Refused),
        (None, Some(&coming), Seen::Missing, Step::Forget, Outcome::Removed),
        // While it updated it.
        (Some("new"), Some(&both), file("old"), write(false), Outcome::Updated),
        (Some("new"), Some(&both), file("new"), Step::Settle, Outcome::Unchanged),
        (Some("new"), Some(&both), file("x"), write(false), Outcome::PutBackChanged),
        // While it removed it.
        (None, Some(&going), file("old"), Step::Remove, Outcome::Removed),
        (None, Some(&going), Seen::Missing, Step::Forget, Outcome::Removed),
        (None, Some(&going), file("x"), Step::Forget, Outcome::Left),
        // It is offered no more.
        (None, Some(&old), file("old"), Step::Remove, Outcome::Removed),
        (None, Some(&old), file("x"), Step::Forget, Outcome::Left),
        (None, Some(&old), link.clone(), Step::Forget, Outcome::Left),
    ] {
        let (planned, told, reason) = plan(wanted, None, known, &seen);
        assert_eq!((planned, told), (step, outcome), "{wanted:?} {known:?} {seen:?}");
        assert_eq!(reason.is_empty(), !outcome.is_bad(), "{wanted:?} {known:?} {seen:?}: {reason}");
    }
    for (known, seen, told) in [
        (None, file("x"), "is none"),
        (Some(&old), file("old"), "stays"),
        (Some(&old), file("x"), "cannot be put back"),
        (Some(&old), Seen::Missing, "cannot be put back"),
        (Some(&coming), Seen::Missing, "there is none"),
    ] {
        let (step, outcome, reason) = plan(None, Some("is none"), known, &seen);
        assert_eq!((step, outcome), (Step::Nothing, Outcome::Refused));
        assert!(reason.contains(told), "{reason}");
    }
}

/// A directory that is offered and one of the kubelet's.
fn places() -> (tempfile::TempDir, PathBuf, Node) {
    let home = tempfile::tempdir().unwrap();
    let (from, root) = (home.path().join("from"), home.path().join("seccomp"));
    fs::create_dir(&from).unwrap();
    (home, from, Node { root, directory: DIRECTORY.to_owned() })
}

fn outcomes(report: &Report) -> Vec<(&str, Outcome)> {
    report.profiles.iter().map(|(name, told)| (name.as_str(), told.outcome)).collect()
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn every_step_that_a_killed_run_leaves_behind_is_taken_up() {
    let (_home, from, node) = places();
    fs::write(from.join("a.json"), ALLOW).unwrap();
    sync(&from, &node).unwrap();
    let directory = node.root.join(DIRECTORY);
    let manifest = directory.join(manifest::NAME);
    let settled = fs::read_to_string(&manifest).unwrap();
    for (text, kept) in [(DENY, true), (ALLOW, false)] {
        // The manifest of the beginning, and a temporary file; with and without the file itself.
        fs::write(from.join("a.json"), text).unwrap();
        let open = Directory::open(&node, true).unwrap().unwrap();
        let mut intended = Manifest::read(&open).unwrap();
        let digest = offered::sha256(text.as_bytes());
        intended.intend("a.json", Step::Write { fresh: !kept }, Some(&digest));
        intended.write(&open).unwrap();
        fs::write(directory.join(".temporary"), "{").unwrap();
        if !kept {
            fs::remove_file(directory.join("a.json")).unwrap();
        }
        let report = sync(&from, &node).unwrap();
        let expected = if kept { Outcome::Updated } else { Outcome::Installed };
        assert_eq!(outcomes(&report), [("a.json", expected)]);
        assert_eq!(fs::read_to_string(directory.join("a.json")).unwrap(), text);
        assert_eq!(names(&directory), [".installed.json", ".lock", "a.json"]);
    }
    assert_eq!(fs::read_to_string(&manifest).unwrap(), settled);
}

#[test]
fn where_nothing_has_to_be_done_nothing_is_written() {
    let (_home, from, node) = places();
    fs::write(from.join("a.json"), ALLOW).unwrap();
    sync(&from, &node).unwrap();
    let facts = || {
        let directory = node.root.join(DIRECTORY);
        let inode = |name: &String| {
            let metadata = fs::metadata(directory.join(name)).unwrap();
            (std::os::unix::fs::MetadataExt::ino(&metadata), metadata.modified().unwrap())
        };
        (fs::metadata(&directory).unwrap().modified().unwrap(), names(&directory).iter().map(inode).collect::<Vec<_>>())
    };
    let before = facts();
    assert_eq!(outcomes(&sync(&from, &node).unwrap()), [("a.json", Outcome::Unchanged)]);
    assert_eq!(outcomes(&check(&from, &node).unwrap()), [("a.json", Outcome::Unchanged)]);
    assert_eq!(facts(), before);
}

#[test]
fn a_manifest_that_is_not_ours_stops_everything() {
    let (_home, from, node) = places();
    fs::write(from.join("a.json"), ALLOW).unwrap();
    let outside = node.root.with_file_name("outside.json");
    fs::write(&outside, ALLOW).unwrap();
    sync(&from, &node).unwrap();
    let manifest = node.root.join(DIRECTORY).join(manifest::NAME);
    let digest = offered::sha256(ALLOW.as_bytes());
    let good = |name: &str| format!(r#"{{"version": 1, "profiles": {{"{name}": {{"sha256": ["{digest}"]}}}}}}"#);
    for text in [
        "",
        "{",
        r#"{"version": 2, "profiles": {}}"#,
        r#"{"version": 1, "profiles": {}, "more": 1}"#,
        &good("../../outside.json"),
        &good(".lock"),
        &good(""),
    ] {
        fs::write(&manifest, text).unwrap();
        for result in [sync(&from, &node), remove(&node)] {
            assert!(matches!(result, Err(SyncError::Manifest { .. })), "{text}");
        }
        assert!(outside.exists() && node.root.join(DIRECTORY).join("a.json").exists());
    }
    fs::write(&manifest, good("a.json")).unwrap();
    fs::set_permissions(&manifest, fs::Permissions::from_mode(0o666)).unwrap();
    let error = remove(&node).unwrap_err().to_string();
    assert!(error.contains("can be written by others"), "{error}");
    fs::remove_file(&manifest).unwrap();
    symlink(&outside, &manifest).unwrap();
    assert!(remove(&node).unwrap_err().to_string().contains("a symbolic link"));
}

#[test]
fn any_manifest_is_read_or_refused() {
    let manifest = serde_json::to_vec(&Manifest::default()).unwrap();
    for end in 0..manifest.len() {
        assert!(Manifest::parse(&manifest[..end]).is_err());
    }
    assert_eq!(Manifest::parse(&manifest), Ok(Manifest::default()));
    let many: Vec<_> = (0..=2 * MAX_PROFILES).map(|n| format!(r#""{n}.json": {{"sha256": []}}"#)).collect();
    assert!(Manifest::parse(format!(r#"{{"version": 1, "profiles": {{{}}}}}"#, many.join(",")).as_bytes()).is_err());
}

#[test]
fn two_at_a_time_wait_for_each_other() {
    let (_home, from, node) = places();
    fs::write(from.join("a.json"), ALLOW).unwrap();
    let threads: Vec<_> = (0..4)
        .map(|number| {
            let (from, node) = (from.clone(), node.clone());
            std::thread::spawn(move || {
                for _ in 0..20 {
                    let done = if number == 0 { remove(&node) } else { sync(&from, &node) };
                    // The directory may go between opening and locking it.
                    match done {
                        Ok(report) => assert!(!report.is_bad(), "{report:?}"),
                        Err(error) => assert!(matches!(error, SyncError::Node { .. }), "{error}"),
                    }
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    sync(&from, &node).unwrap();
    assert_eq!(fs::read_to_string(node.root.join("monitor/a.json")).unwrap(), ALLOW);
}
