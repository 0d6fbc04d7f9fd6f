//! A policy that lets pass what was seen: drift of a time in which nothing bad happened, by image.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{self, Write as _},
};

use super::{Drift, hexadecimal, kind_name};
use crate::context::Context;

/// Images, and files of each, that are taken in.
const MAX_IMAGES: usize = 1000;
const MAX_FILES: usize = 1000;

/// A file that drifted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Seen {
    path: String,
    kind: &'static str,
    sha256: Option<String>,
}

/// What was seen.
#[derive(Clone, Debug, Default)]
pub struct Baseline {
    /// By the image's repository; empty where the image is not known.
    by_image: BTreeMap<String, BTreeSet<Seen>>,
    /// Files that there was no room for.
    left_out: u64,
}

impl Baseline {
    /// Takes in what drifted, in a container.
    pub fn take(&mut self, context: &Context<'_>, drift: &Drift<'_>) {
        if context.container.is_none() {
            return;
        }
        let image = context.container_metadata().map(|metadata| match &*metadata.image_repository {
            "" => metadata.image.clone(),
            repository => repository.to_owned(),
        });
        let image = image.unwrap_or_default();
        let has_room = self.by_image.len() < MAX_IMAGES || self.by_image.contains_key(&image);
        let seen = Seen {
            path: String::from_utf8_lossy(&drift.path.to_absolute()).into_owned(),
            kind: kind_name(drift.kind),
            sha256: drift.sha256().map(hexadecimal),
        };
        let files = if has_room { Some(self.by_image.entry(image).or_default()) } else { None };
        match files {
            Some(files) if files.len() < MAX_FILES || files.contains(&seen) => drop(files.insert(seen)),
            _ => self.left_out += 1,
        }
    }

    /// How many files there are.
    pub fn len(&self) -> usize {
        self.by_image.values().map(BTreeSet::len).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// As a policy. What has no digest passes by its path, in its image; where the image is not known only digests pass,
    /// because a path would let everything pass that is put there in any container.
    pub fn policy(&self) -> String {
        let (mut rules, mut notes) = (String::new(), String::new());
        for (image, files) in &self.by_image {
            // Text takes whatever is written.
            let _ = write_rule(&mut rules, image, files);
            for file in files.iter().filter(|file| image.is_empty() && file.sha256.is_none()) {
                let _ = writeln!(
                    notes,
                    "# Not let pass, image and digest are not known: {} {}",
                    file.kind,
                    comment(&file.path)
                );
            }
        }
        if self.left_out > 0 {
            let _ = writeln!(notes, "# {} more were seen, for which there was no room.", self.left_out);
        }
        let rules = if rules.is_empty() { " []\n".to_owned() } else { format!("\n{rules}") };
        format!(
            "# Drift that was seen, and is let pass from now on. Read it before it is used.\ndrift:\n  rules:{rules}{notes}"
        )
    }
}

/// The rule of an image, where anything of it is let pass.
fn write_rule(text: &mut String, image: &str, files: &BTreeSet<Seen>) -> fmt::Result {
    let by_digest: Vec<_> = files.iter().filter_map(|file| Some((file.sha256.as_deref()?, file))).collect();
    let by_path: Vec<_> = files.iter().filter(|file| file.sha256.is_none() && !image.is_empty()).collect();
    if by_digest.is_empty() && by_path.is_empty() {
        return Ok(());
    }
    writeln!(text, "    - name: {}", quoted(if image.is_empty() { "seen in unknown images" } else { image }))?;
    if !image.is_empty() {
        writeln!(text, "      images: [{}]", quoted(&literal(image)))?;
    }
    writeln!(text, "      except:")?;
    if !by_digest.is_empty() {
        writeln!(text, "        sha256:")?;
    }
    for (digest, file) in by_digest {
        writeln!(text, "          - {digest} # {} {}", file.kind, comment(&file.path))?;
    }
    if !by_path.is_empty() {
        writeln!(text, "        paths:")?;
    }
    for file in by_path {
        writeln!(text, "          - {} # {}", quoted(&literal(&file.path)), file.kind)?;
    }
    Ok(())
}

/// A text in double quotes, with the escapes of YAML.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            character if character.is_control() || !('\u{20}'..='\u{d7ff}').contains(&character) => {
                // Text takes whatever is written.
                let _ = write!(quoted, "\\U{:08X}", u32::from(character));
            }
            character => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
}

/// A pattern that matches this text alone.
fn literal(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '*' | '?' | '[' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern
}

/// A text that stays in its line.
fn comment(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { '?' } else { character }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{drift::policy::Policy, rules::diagnostic::Text};

    fn seen(path: &str, sha256: Option<&str>) -> Seen {
        Seen { path: path.into(), kind: "new_executable", sha256: sha256.map(Into::into) }
    }

    #[test]
    fn what_is_printed_is_a_policy() {
        let digest = "ab".repeat(32);
        let odd = "/tmp/\"[x]\\\n# \u{1f980}*";
        let mut baseline = Baseline::default();
        assert!(Policy::parse(Text { name: "b".into(), text: baseline.policy() }).unwrap().0.is_empty());
        baseline.by_image.insert("registry:5000/web".into(), [seen("/tmp/x", Some(&digest)), seen(odd, None)].into());
        baseline.by_image.insert(String::new(), [seen("/tmp/y", Some(&digest)), seen(odd, None)].into());
        let text = baseline.policy();
        let parsed = Policy::parse(Text { name: "b".into(), text: text.clone() });
        assert_eq!(parsed.map(|(policy, _)| policy.len()), Ok(2), "{text}");
        assert!(text.contains("# Not let pass"), "{text}");
        baseline.by_image.insert(String::new(), [seen(odd, None)].into());
        let text = baseline.policy();
        assert_eq!(Policy::parse(Text { name: "b".into(), text: text.clone() }).unwrap().0.len(), 1, "{text}");
        baseline.by_image.remove("registry:5000/web");
        let text = baseline.policy();
        assert!(Policy::parse(Text { name: "b".into(), text: text.clone() }).unwrap().0.is_empty(), "{text}");
    }
}
