//! Watching paths with inotify: nothing that changes what they stand for, or what is in it, is missed.
//!
//! A path changes its meaning wherever a name on its way is looked up: a `ConfigMap` is a directory of links to
//! `..data/NAME`, where `..data` is a link that the kubelet replaces; an editor writes another file and renames it. So each
//! directory in which a name is looked up is watched for that name, through every link, and a directory of rules or profiles for
//! all names. Each watch is placed before the name is looked up: what changes in between is told.

use std::{
    collections::{HashMap, HashSet},
    ffi::{OsStr, OsString},
    fs, io,
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{self, Path, PathBuf},
};

use rustix::{
    fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags},
    io::Errno,
};

use super::rule_files;

/// Changes that are taken at a time.
const MAX_EVENTS: usize = 4096;
/// Directories that are watched.
const MAX_DIRECTORIES: usize = 1024;
/// Links that are followed on the way to a file, as many as the kernel follows.
const MAX_LINKS: usize = 40;

/// A name appears, goes, or leads elsewhere; or the directory itself does.
const NAMES: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR)
    .union(WatchFlags::MASK_ADD);
/// And what is in the files changes.
const CONTENTS: WatchFlags = WatchFlags::MODIFY.union(WatchFlags::CLOSE_WRITE);

/// The paths' watches.
pub(super) struct Watch {
    inotify: OwnedFd,
    paths: Vec<PathBuf>,
    /// Of the files in a directory that are followed to where they lead.
    extensions: &'static [&'static str],
    /// By watch descriptor.
    watched: HashMap<i32, Names>,
}

/// The names in a directory that matter.
#[derive(Debug, Default)]
struct Names {
    some: HashSet<OsString>,
    all: bool,
}

impl Watch {
    /// Prepares to watch. Nothing is watched before [`place`](Self::place).
    pub(super) fn new(paths: &[PathBuf], extensions: &'static [&'static str]) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let paths = paths.iter().map(path::absolute).collect::<io::Result<_>>()?;
        Ok(Self { inotify, paths, extensions, watched: HashMap::new() })
    }

    /// Watches where the paths lead now, and no more where they led before.
    pub(super) fn place(&mut self) -> io::Result<()> {
        let Self { inotify, extensions, .. } = self;
        let mut placing = Placing { inotify, extensions, directories: HashSet::new(), watched: HashMap::new() };
        let placed = self.paths.iter().try_for_each(|path| placing.path(path));
        let before = std::mem::replace(&mut self.watched, placing.watched);
        for descriptor in before.keys().filter(|descriptor| !self.watched.contains_key(descriptor)) {
            // Gone already, if its directory is.
            let _ = inotify::remove_watch(&self.inotify, *descriptor);
        }
        placed
    }

    /// Whether something has changed since this was asked last.
    pub(super) fn has_changed(&mut self) -> io::Result<bool> {
        take(&self.inotify, &mut self.watched)
    }
}

/// Readable when there is something to tell.
impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

/// Takes what the kernel has to tell; whether any of it matters.
fn take(inotify: &OwnedFd, watched: &mut HashMap<i32, Names>) -> io::Result<bool> {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut reader = inotify::Reader::new(inotify, &mut buffer);
    let mut matters = false;
    for _ in 0..MAX_EVENTS {
        let event = match reader.next() {
            Ok(event) => event,
            Err(Errno::AGAIN) => return Ok(matters),
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        };
        let flags = event.events();
        matters |= flags.contains(ReadFlags::QUEUE_OVERFLOW);
        let Some(names) = watched.get(&event.wd()) else { continue };
        matters |= match event.file_name() {
            Some(name) => names.all || names.some.contains(OsStr::from_bytes(name.to_bytes())),
            None => true,
        };
        if flags.contains(ReadFlags::IGNORED) {
            watched.remove(&event.wd());
        }
    }
    // There is more, and the rest of the buffer goes unseen.
    Ok(true)
}

/// One placing of the watches.
struct Placing<'a> {
    inotify: &'a OwnedFd,
    extensions: &'a [&'static str],
    /// For the bound on them.
    directories: HashSet<PathBuf>,
    watched: HashMap<i32, Names>,
}

impl Placing<'_> {
    fn path(&mut self, path: &Path) -> io::Result<()> {
        let place = self.follow(path)?;
        if !place.is_dir() {
            return Ok(());
        }
        if let Some(names) = self.directory(&place, NAMES | CONTENTS)? {
            names.all = true;
        }
        // What cannot be listed is told by whoever reads it.
        let files = rule_files::in_directory(&place, self.extensions).unwrap_or_default();
        files.iter().try_for_each(|file| self.follow(file).map(|_| ()))
    }

    /// Follows an absolute path as far as it leads, watching each name on the way; gives where it leads.
    fn follow(&mut self, path: &Path) -> io::Result<PathBuf> {
        let mut place = PathBuf::from("/");
        let mut rest = names_of(path);
        let mut links = 0;
        while let Some(name) = rest.pop() {
            match name.as_bytes() {
                b"/" => place = PathBuf::from("/"),
                b"." => {}
                b".." => _ = place.pop(),
                _ => {
                    let flags = if rest.is_empty() { NAMES | CONTENTS } else { NAMES };
                    let Some(names) = self.directory(&place, flags)? else { break };
                    names.some.insert(name.clone());
                    let next = place.join(name);
                    match fs::read_link(&next) {
                        Ok(target) if links < MAX_LINKS => {
                            links += 1;
                            rest.extend(names_of(&target));
                        }
                        Ok(_) => break,
                        Err(_) => place = next,
                    }
                }
            }
        }
        Ok(place)
    }

    /// Watches a directory, for more than before if it is watched already; `None` if there is none.
    fn directory(&mut self, directory: &Path, flags: WatchFlags) -> io::Result<Option<&mut Names>> {
        if self.directories.len() >= MAX_DIRECTORIES && !self.directories.contains(directory) {
            return Err(io::Error::other(format!("more than {MAX_DIRECTORIES} directories")));
        }
        let descriptor = match inotify::add_watch(self.inotify, directory, flags) {
            Ok(descriptor) => descriptor,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(error) => return Err(io::Error::new(error.kind(), format!("{}: {error}", directory.display()))),
        };
        self.directories.insert(directory.to_owned());
        Ok(Some(self.watched.entry(descriptor).or_default()))
    }
}

/// The names of a path, the last one first.
fn names_of(path: &Path) -> Vec<OsString> {
    path.components().rev().map(|component| component.as_os_str().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A directory as the kubelet lays out a `ConfigMap`, with one file in it.
    fn config_map(directory: &Path, version: &str) {
        fs::create_dir(directory.join(version)).unwrap();
        fs::write(directory.join(version).join("a.yaml"), version).unwrap();
        symlink(version, directory.join("..data_tmp")).unwrap();
        fs::rename(directory.join("..data_tmp"), directory.join("..data")).unwrap();
        let _ = symlink("..data/a.yaml", directory.join("a.yaml"));
    }

    fn watch(path: &Path) -> Watch {
        let mut watch = Watch::new(&[path.to_owned()], rule_files::RULE_EXTENSIONS).unwrap();
        watch.place().unwrap();
        assert!(!watch.has_changed().unwrap());
        watch
    }

    #[test]
    fn every_way_to_change_a_rule_file_is_seen() {
        let home = tempfile::tempdir().unwrap();
        let rules = home.path().join("rules");
        fs::create_dir(&rules).unwrap();
        config_map(&rules, "..1");
        let outside = home.path().join("outside.yaml");
        fs::write(&outside, "").unwrap();
        symlink("../outside.yaml", rules.join("z.yaml")).unwrap();
        let mut watch = watch(&rules);
        let changes: [(&str, &dyn Fn()); 7] = [
            ("a ConfigMap's new version", &|| config_map(&rules, "..2")),
            ("a new file", &|| fs::write(rules.join("b.yaml"), "").unwrap()),
            ("more in a file", &|| fs::write(rules.join("b.yaml"), "more").unwrap()),
            ("a rename over a file", &|| fs::rename(&outside, rules.join("b.yaml")).unwrap()),
            ("what a link leads to comes back", &|| fs::write(&outside, "again").unwrap()),
            ("another directory in its place", &|| {
                fs::rename(&rules, home.path().join("old")).unwrap();
                fs::create_dir(&rules).unwrap();
            }),
            ("a file in that", &|| fs::write(rules.join("c.yaml"), "").unwrap()),
        ];
        for (what, change) in changes {
            change();
            assert!(watch.has_changed().unwrap(), "{what}");
            watch.place().unwrap();
            assert!(!watch.has_changed().unwrap(), "{what}: told once");
        }
        fs::write(home.path().join("other.yaml"), "").unwrap();
        fs::write(home.path().join("old/b.yaml"), "").unwrap();
        assert!(!watch.has_changed().unwrap(), "nothing to do with the rules");
    }

    #[test]
    fn a_single_file_is_watched_by_its_name_also_while_it_is_missing() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("deep/er/a.yaml");
        let mut watch = watch(&file);
        fs::create_dir_all(home.path().join("deep/other")).unwrap();
        assert!(watch.has_changed().unwrap());
        watch.place().unwrap();
        fs::create_dir(home.path().join("deep/er")).unwrap();
        assert!(watch.has_changed().unwrap());
        watch.place().unwrap();
        fs::write(home.path().join("deep/er/b.yaml"), "").unwrap();
        assert!(!watch.has_changed().unwrap(), "another file");
        fs::write(&file, "").unwrap();
        assert!(watch.has_changed().unwrap());
        fs::remove_dir_all(home.path().join("deep")).unwrap();
        assert!(watch.has_changed().unwrap());
    }

    #[test]
    fn links_that_lead_nowhere_end() {
        let home = tempfile::tempdir().unwrap();
        symlink("loop.yaml", home.path().join("loop.yaml")).unwrap();
        symlink(".", home.path().join("itself.yaml")).unwrap();
        watch(home.path());
        watch(&home.path().join("loop.yaml"));
    }
}
