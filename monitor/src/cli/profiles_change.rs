//! How it is told what became of the node's seccomp profiles: to subscribers as a message, to people as lines.

use super::{options::plural, rules_change::short};
use crate::{
    profile_sync::{Outcome, Report, Told},
    proto::v1::{ProfileChange, ProfileOutcome, ProfilesChange},
};

/// Most profiles that a message tells of.
const MAX_PROFILES: usize = 64;
/// Most problems of each that it quotes.
const MAX_MESSAGES: usize = 3;

/// What is to be told of a report: what changed, and what somebody has to look at.
pub(super) fn of_report(report: &Report, directory: &str) -> ProfilesChange {
    let told = report.profiles.iter().filter(|(_, told)| told.outcome.is_change() || told.outcome.is_bad());
    let is_there = |told: &&Told| !told.outcome.is_bad() && told.outcome != Outcome::Removed;
    ProfilesChange {
        profiles: told.clone().take(MAX_PROFILES).map(|(name, told)| of_profile(directory, name, told)).collect(),
        more: count(told.count().saturating_sub(MAX_PROFILES)),
        installed: count(report.profiles.values().filter(is_there).count()),
        ..ProfilesChange::default()
    }
}

/// The same where nothing could be done.
pub(super) fn of_error(error: &str) -> ProfilesChange {
    ProfilesChange { error: short(error), ..ProfilesChange::default() }
}

fn of_profile(directory: &str, name: &str, told: &Told) -> ProfileChange {
    let outcome = match told.outcome {
        Outcome::Unchanged => ProfileOutcome::Unspecified,
        Outcome::Installed => ProfileOutcome::Installed,
        Outcome::Updated => ProfileOutcome::Updated,
        Outcome::Removed => ProfileOutcome::Removed,
        Outcome::PutBackChanged => ProfileOutcome::PutBackChanged,
        Outcome::PutBackMissing => ProfileOutcome::PutBackMissing,
        Outcome::Left => ProfileOutcome::Left,
        Outcome::Refused => ProfileOutcome::Refused,
        Outcome::Failed => ProfileOutcome::Failed,
    };
    let problems = told.problems.iter().filter(|problem| problem.is_error()).take(MAX_MESSAGES);
    ProfileChange {
        localhost_profile: short(&format!("{directory}/{name}")),
        outcome: outcome.into(),
        sha256: told.sha256.clone(),
        reason: short(&told.reason),
        messages: problems.map(|problem| short(&problem.to_string())).collect(),
    }
}

/// What people are told: a line for each profile that is not as it was left, and one for all.
pub(super) fn lines(change: &ProfilesChange) -> Vec<String> {
    if !change.error.is_empty() {
        return vec![format!("seccomp profiles NOT synced: {}", short(&change.error))];
    }
    let profiles = change.profiles.iter().take(MAX_PROFILES);
    let mut lines: Vec<_> = profiles.clone().flat_map(messages).collect();
    lines.extend(profiles.clone().filter_map(line));
    let changes = [
        (ProfileOutcome::Installed, "installed"),
        (ProfileOutcome::Updated, "updated"),
        (ProfileOutcome::Removed, "removed"),
    ];
    let changes = changes.into_iter().filter_map(|(outcome, word)| {
        let number = profiles.clone().filter(|profile| profile.outcome() == outcome).count();
        (number > 0).then(|| format!("{number} {word}"))
    });
    let changes: Vec<_> = changes.chain((change.more > 0).then(|| format!("{} more", change.more))).collect();
    let changes = if changes.is_empty() { String::new() } else { format!(": {}", changes.join(", ")) };
    lines.push(format!("{} on this node{changes}", plural(usize_of(change.installed), "seccomp profile")));
    lines
}

fn messages(profile: &ProfileChange) -> impl Iterator<Item = String> {
    profile.messages.iter().take(MAX_MESSAGES).map(|message| short(message))
}

fn line(profile: &ProfileChange) -> Option<String> {
    let what = match profile.outcome() {
        ProfileOutcome::PutBackChanged => "was changed by somebody else, and is put back".to_owned(),
        ProfileOutcome::PutBackMissing => "was removed by somebody else, and is put back".to_owned(),
        ProfileOutcome::Left => format!("is left alone: {}", short(&profile.reason)),
        ProfileOutcome::Refused => format!("is REFUSED: {}", short(&profile.reason)),
        ProfileOutcome::Failed => format!("is NOT installed: {}", short(&profile.reason)),
        ProfileOutcome::Unspecified | ProfileOutcome::Installed | ProfileOutcome::Updated | ProfileOutcome::Removed => {
            return None;
        }
    };
    Some(format!("seccomp profile {} {what}", short(&profile.localhost_profile)))
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn usize_of(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(outcome: Outcome, reason: &str) -> Told {
        Told { outcome, sha256: String::new(), reason: reason.to_owned(), problems: Vec::new(), doubts: Vec::new() }
    }

    #[test]
    fn people_are_told_what_others_did_and_the_numbers_of_the_rest() {
        let profiles = [
            ("a.json", told(Outcome::Unchanged, "")),
            ("b.json", told(Outcome::Installed, "")),
            ("c.json", told(Outcome::PutBackChanged, "")),
            ("d.json", told(Outcome::Refused, "it is\u{1b}[31m none")),
            ("e.json", told(Outcome::Removed, "")),
        ];
        let report = Report { profiles: profiles.map(|(name, told)| (name.to_owned(), told)).into() };
        let change = of_report(&report, "monitor");
        assert_eq!((change.profiles.len(), change.installed, change.more), (4, 3, 0));
        assert_eq!(
            lines(&change),
            [
                "seccomp profile monitor/c.json was changed by somebody else, and is put back",
                "seccomp profile monitor/d.json is REFUSED: it is [31m none",
                "3 seccomp profiles on this node: 1 installed, 1 removed",
            ]
        );
        assert_eq!(lines(&of_error("no such directory")), ["seccomp profiles NOT synced: no such directory"]);
    }

    #[test]
    fn a_message_is_bounded() {
        let profiles = (0..200).map(|number| (format!("{number:03}.json"), told(Outcome::Refused, &"x".repeat(9999))));
        let change = of_report(&Report { profiles: profiles.collect() }, "monitor");
        assert_eq!((change.profiles.len(), change.more, change.installed), (64, 136, 0));
        assert!(prost::Message::encoded_len(&change) < 64 << 10);
    }
}
