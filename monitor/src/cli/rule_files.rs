//! Rule files: which a path stands for, what is in them, and what identifies them.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};

use crate::rules::{self, Source};

/// Files that a directory of rules may hold; others in it are left alone.
pub(super) const RULE_EXTENSIONS: &[&str] = &["yaml", "yml"];

/// Rule files as they were at one moment.
pub(super) struct RuleFiles {
    /// The files, in order.
    pub(super) sources: Vec<Source>,
    /// What identifies them.
    pub(super) digest: Digest,
}

impl RuleFiles {
    /// Reads the files that paths stand for; the built-in rules where there is no path.
    pub(super) fn read(paths: &[PathBuf]) -> Result<Self> {
        let mut sources = Vec::new();
        for path in paths {
            for file in list(path)? {
                let text = read_bounded(&file)?;
                sources.push(Source { name: file.display().to_string(), text });
            }
        }
        if paths.is_empty() {
            sources.push(Source::builtin());
        }
        Ok(Self { digest: Digest::of(&sources), sources })
    }
}

/// SHA-256 over names and contents of rule files. A name is the file's own, without its directory: the same files are the
/// same rules wherever they lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Digest([u8; 32]);

impl Digest {
    fn of(sources: &[Source]) -> Self {
        let mut hash = Sha256::new();
        for source in sources {
            let name = source.name.rsplit('/').next().unwrap_or_default();
            // With its length in front, so that what is name and what is content cannot be mistaken.
            for piece in [name.as_bytes(), &source.text] {
                hash.update((piece.len() as u64).to_le_bytes());
                hash.update(piece);
            }
        }
        Self(hash.finalize().into())
    }

    /// Its bytes.
    pub(super) fn bytes(self) -> [u8; 32] {
        self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The rule files that a path stands for, sorted by name.
pub(super) fn list(path: &Path) -> Result<Vec<PathBuf>> {
    let metadata = fs::metadata(path).with_context(|| format!("cannot read rules {}", path.display()))?;
    if !metadata.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let files = in_directory(path, RULE_EXTENSIONS).with_context(|| format!("cannot read rules {}", path.display()))?;
    if files.is_empty() {
        bail!("no *.yaml file in the rules directory {}", path.display());
    }
    Ok(files)
}

/// The files of a directory with these extensions, sorted by name.
pub(super) fn in_directory(path: &Path, extensions: &[&str]) -> io::Result<Vec<PathBuf>> {
    let mut files: Vec<_> = fs::read_dir(path)?
        .flatten()
        .map(|entry| entry.path())
        .filter(|file| file.extension().and_then(|e| e.to_str()).is_some_and(|e| extensions.contains(&e)))
        .collect();
    files.sort();
    Ok(files)
}

/// A file of at most one byte more than the loader accepts, so that a huge one is refused and not read.
fn read_bounded(path: &Path) -> Result<Vec<u8>> {
    use std::io::Read as _;
    let file = fs::File::open(path).with_context(|| format!("cannot read rules {}", path.display()))?;
    let mut text = Vec::new();
    file.take(rules::MAX_FILE_BYTES as u64 + 1)
        .read_to_end(&mut text)
        .with_context(|| format!("cannot read rules {}", path.display()))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(files: &[(&str, &str)]) -> String {
        let source = |(name, text): &(&str, &str)| Source { name: (*name).into(), text: (*text).into() };
        Digest::of(&files.iter().map(source).collect::<Vec<_>>()).to_string()
    }

    #[test]
    fn a_digest_follows_from_names_contents_and_order_and_not_from_the_place() {
        let files = [("/etc/a.yaml", "x"), ("/etc/b.yaml", "y")];
        let same = digest(&files);
        assert_eq!(same.len(), 64);
        assert_eq!(digest(&[("a.yaml", "x"), ("/tmp/b.yaml", "y")]), same);
        for other in [
            &[("a.yaml", "x")][..],
            &[("b.yaml", "y"), ("a.yaml", "x")],
            &[("a.yaml", "x"), ("c.yaml", "y")],
            &[("a.yaml", "x"), ("b.yaml", "z")],
            &[("a.yaml", "xb"), (".yaml", "y")],
        ] {
            assert_ne!(digest(other), same, "{other:?}");
        }
    }

    #[test]
    fn no_path_means_the_built_in_rules() {
        let files = RuleFiles::read(&[]).unwrap();
        assert_eq!(files.digest, Digest::of(&[Source::builtin()]));
    }
}
