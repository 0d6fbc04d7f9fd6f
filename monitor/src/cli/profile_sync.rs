//! Seccomp profiles on the node while the agent runs: brought in line before anything else, again when those that are offered
//! change, and again when somebody else has touched what was installed.
//!
//! After the first time this happens on a thread of its own. Both directories are watched, and looked at regularly besides, because
//! a watch can be too late or not be had. Nothing about profiles ends the agent or holds it up; what cannot be done is told, on
//! stderr, to subscribers through the hub, and in metrics.

use std::{
    io,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{profiles_change, say, status::AgentStatus, watch::Watch};
use crate::{
    config::SeccompProfiles,
    output::hub::Hub,
    profile_sync::{Outcome, Report, sync},
    proto::v1::{ProfileChange, ProfileOutcome, ProfilesChange},
};

/// What profiles are in a directory.
const EXTENSIONS: &[&str] = &["json"];
/// How long after a change the directories are looked at: a `ConfigMap` changes in several steps, and somebody who changes profiles all
/// the time does not keep the agent busy.
const PAUSE: Duration = Duration::from_millis(500);

/// What metrics and health tell.
#[derive(Clone, Debug, Default)]
pub(super) struct ProfilesStatus {
    /// Profiles that are on the node as they should be.
    pub(super) installed: u64,
    /// Those that somebody has to look at.
    pub(super) refused: u64,
    /// How often one was put back that somebody had changed, and that somebody had removed.
    pub(super) put_back: [u64; 2],
    /// Why not everything is in order.
    pub(super) failing: Option<String>,
}

/// Keeps the node's profiles.
pub(super) struct Keeper {
    profiles: SeccompProfiles,
    status: ProfilesStatus,
    /// What somebody has to look at, as it was told last.
    told: (String, Vec<ProfileChange>),
    /// What became of the first time, until somebody can be told.
    first: Option<ProfilesChange>,
}

impl Keeper {
    /// Brings the node in line for the first time, before the sensor is attached and rules are in use: pods may wait for it.
    pub(super) fn start(profiles: SeccompProfiles) -> Self {
        let mut keeper = Self { profiles, status: ProfilesStatus::default(), told: Default::default(), first: None };
        keeper.first = keeper.sync();
        if keeper.first.is_none() {
            let change = ProfilesChange { installed: count(keeper.status.installed), ..ProfilesChange::default() };
            say_lines(&profiles_change::lines(&change));
        }
        keeper
    }

    /// Goes on with it on a thread of its own.
    pub(super) fn follow(mut self, hub: Arc<Hub>, status: Arc<AgentStatus>) -> Result<()> {
        status.set_profiles(self.status.clone());
        self.first.take().into_iter().for_each(|change| hub.report_profiles_change(change));
        let watch = self.watch();
        thread::Builder::new().name("profiles".into()).spawn(move || self.run(watch, &hub, &status))?;
        Ok(())
    }

    fn run(mut self, mut watch: Option<Watch>, hub: &Hub, status: &AgentStatus) {
        loop {
            // Watched first and looked at then, so that what comes in between is seen.
            let placed = watch.as_mut().map(|watch| watch.place().and_then(|()| watch.has_changed())).transpose();
            if self.or_say(placed).is_none() {
                watch = None;
            }
            if let Some(change) = self.sync() {
                hub.report_profiles_change(change);
            }
            status.set_profiles(self.status.clone());
            wait(watch.as_mut(), self.profiles.every);
            thread::sleep(PAUSE);
        }
    }

    fn watch(&self) -> Option<Watch> {
        let node = &self.profiles.node;
        let watch = Watch::new(&[self.profiles.from.clone(), node.root.join(&node.directory)], EXTENSIONS);
        self.or_say(watch)
    }

    /// What watching gave; that it cannot be is said.
    fn or_say<T>(&self, watched: io::Result<T>) -> Option<T> {
        let seconds = self.profiles.every.as_secs();
        let say = |error: &io::Error| {
            say(format_args!(
                "monitor: the seccomp profiles cannot be watched, and are looked at every {seconds} s: {error}"
            ));
        };
        watched.inspect_err(say).ok()
    }

    /// Brings the node in line; what is to be told, if anything is.
    fn sync(&mut self) -> Option<ProfilesChange> {
        let report = sync(&self.profiles.from, &self.profiles.node);
        let change = match &report {
            Ok(report) => profiles_change::of_report(report, &self.profiles.node.directory),
            Err(error) => profiles_change::of_error(&error.to_string()),
        };
        self.account(report.as_ref().ok(), &change);
        let to_look_at =
            (change.error.clone(), change.profiles.iter().filter(|profile| is_bad(profile)).cloned().collect());
        let is_news = to_look_at != self.told || report.as_ref().is_ok_and(Report::has_changes);
        self.told = to_look_at;
        if !is_news {
            return None;
        }
        let profiles = report.iter().flat_map(|report| report.profiles.values());
        for told in profiles.filter(|told| told.outcome == Outcome::Refused) {
            told.problems.iter().for_each(|problem| say(problem.render()));
        }
        // The lines without the quotes, which stand there in full.
        let quoted = change.profiles.iter().map(|profile| profile.messages.len()).sum();
        say_lines(profiles_change::lines(&change).get(quoted..).unwrap_or_default());
        Some(change)
    }

    fn account(&mut self, report: Option<&Report>, change: &ProfilesChange) {
        let Some(report) = report else {
            self.status.failing = Some(change.error.clone());
            return;
        };
        let outcomes = || report.profiles.values().map(|told| told.outcome);
        let number = |wanted: Outcome| outcomes().filter(|outcome| *outcome == wanted).count() as u64;
        let refused = outcomes().filter(|outcome| outcome.is_bad()).count() as u64;
        let [changed, missing] = self.status.put_back;
        self.status = ProfilesStatus {
            installed: change.installed.into(),
            refused,
            put_back: [changed + number(Outcome::PutBackChanged), missing + number(Outcome::PutBackMissing)],
            failing: (refused > 0).then(|| format!("{refused} refused or not installed: see the log")),
        };
    }
}

fn say_lines(lines: &[String]) {
    for line in lines {
        say(format_args!("monitor: {line}"));
    }
}

/// Whether somebody has to look at it.
fn is_bad(profile: &ProfileChange) -> bool {
    let outcome = profile.outcome();
    matches!(outcome, ProfileOutcome::Left | ProfileOutcome::Refused | ProfileOutcome::Failed)
}

/// Waits until something changes, or for so long.
fn wait(mut watch: Option<&mut Watch>, limit: Duration) {
    let until = Instant::now() + limit;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let mut files: Vec<_> = watch.iter().map(|watch| PollFd::new(*watch, PollFlags::IN)).collect();
        // An interrupted wait is as one that found nothing.
        let _ = poll(&mut files, Timespec::try_from(left).ok().as_ref());
        drop(files);
        let changed = watch.as_mut().is_some_and(|watch| watch.has_changed().unwrap_or(true));
        if changed || Instant::now() >= until {
            return;
        }
        // Others may be busy in the same directories: they do not keep us busy too.
        thread::sleep(PAUSE);
    }
}

fn count(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
