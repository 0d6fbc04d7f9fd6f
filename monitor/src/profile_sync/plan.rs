//! What is to be done with a name: from what is offered, what was installed, and what is there.

use super::{Outcome, directory::Seen, manifest::Entry};

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// None.
    Nothing,
    /// Only the manifest learns that it is there.
    Settle,
    /// The file is written; a fresh one takes nobody's place.
    Write {
        /// Whether there is none.
        fresh: bool,
    },
    /// The file is removed.
    Remove,
    /// The manifest does not name it any more.
    Forget,
}

/// The step, what comes of it, and why where that is bad. `wanted` is the digest of a profile that is offered, `refused` why one that
/// is offered is none.
pub(super) fn plan(
    wanted: Option<&str>,
    refused: Option<&str>,
    entry: Option<&Entry>,
    seen: &Seen,
) -> (Step, Outcome, String) {
    let good = |step, outcome| (step, outcome, String::new());
    let foreign = |step| (step, Outcome::Refused, format!("its place is taken by {}", foreign(seen)));
    match (wanted, refused, entry) {
        (_, Some(reason), None) => (Step::Nothing, Outcome::Refused, reason.to_owned()),
        (_, Some(reason), Some(entry)) => {
            (Step::Nothing, Outcome::Refused, format!("{reason}; {}", from_before(entry, seen)))
        }
        (Some(_), None, None) => match seen {
            Seen::Missing => good(Step::Write { fresh: true }, Outcome::Installed),
            Seen::File(_) | Seen::Other(_) => foreign(Step::Nothing),
        },
        (Some(wanted), None, Some(entry)) => match seen {
            Seen::Missing if entry.may_be_missing => good(Step::Write { fresh: true }, Outcome::Installed),
            Seen::Missing => good(Step::Write { fresh: true }, Outcome::PutBackMissing),
            Seen::File(sha256) if sha256 == wanted => match entry.sha256.as_slice() {
                [only] if only == wanted && !entry.may_be_missing => good(Step::Nothing, Outcome::Unchanged),
                _ => good(Step::Settle, Outcome::Unchanged),
            },
            Seen::File(sha256) if entry.allows(sha256) => good(Step::Write { fresh: false }, Outcome::Updated),
            // It was never there, so this is not what became of it.
            Seen::File(_) | Seen::Other(_) if entry.may_be_missing => foreign(Step::Forget),
            Seen::File(_) | Seen::Other(_) => good(Step::Write { fresh: false }, Outcome::PutBackChanged),
        },
        (None, None, Some(entry)) => match seen {
            Seen::Missing => good(Step::Forget, Outcome::Removed),
            Seen::File(sha256) if entry.allows(sha256) => good(Step::Remove, Outcome::Removed),
            Seen::File(_) | Seen::Other(_) => {
                let reason = "somebody else has changed it since it was installed, so it stays: look at it, and remove it yourself";
                (Step::Forget, Outcome::Left, reason.to_owned())
            }
        },
        (None, None, None) => good(Step::Nothing, Outcome::Unchanged),
    }
}

fn foreign(seen: &Seen) -> String {
    let what = match seen {
        Seen::Other(what) => what,
        Seen::Missing | Seen::File(_) => "a file",
    };
    format!("{what} that was not installed from here: remove that, or name another directory")
}

/// What of a profile is on the node whose new version is none.
fn from_before(entry: &Entry, seen: &Seen) -> &'static str {
    match seen {
        Seen::File(sha256) if entry.allows(sha256) => "the one from before stays",
        Seen::Missing if entry.may_be_missing => "there is none from before",
        Seen::Missing => "somebody else has removed the one from before, which cannot be put back",
        Seen::File(_) | Seen::Other(_) => "somebody else has changed the one from before, which cannot be put back",
    }
}
