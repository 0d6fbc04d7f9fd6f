//! Reading the rules again while the agent runs: on SIGHUP, and when what `-r` names has changed.
//!
//! Waiting, reading and compiling happen on a thread of their own. The flow takes the new rules between two records and
//! gives the old ones back, so that it does not even have to free them. Rules with an error, and rules that cannot be read,
//! are refused: those in use stay. Each time is told, on stderr by this thread, to subscribers through the hub.

use std::{
    fs,
    io::{self, IsTerminal as _, Read as _},
    ops::ControlFlow,
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{self, Receiver, SyncSender},
    },
    thread,
    time::Duration,
};

use anyhow::{Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{
    chain,
    live::Stop,
    options::RuleArgs,
    rule_files::{Digest, RULE_EXTENSIONS, RuleFiles},
    rules_change, say,
    status::{AgentStatus, RulesInUse},
    watch::Watch,
};
use crate::{
    output::hub::Hub,
    proto::v1::{RulesChange, RulesOutcome},
    rules::{Loaded, RuleSet},
};

/// How often rules are read where changes cannot be watched.
const INTERVAL: Duration = Duration::from_secs(30);
/// How long nothing may have changed until a change counts as finished.
const QUIET: Duration = Duration::from_millis(200);
/// How often that is waited for, so that a file that is written all the time is read all the same.
const MAX_WAITS: usize = 10;
/// How often rules that change while they are read are read again.
const MAX_READS: usize = 5;

/// New rules on their way into the flow.
pub(super) struct NewRules {
    /// The rules.
    pub(super) rules: RuleSet,
    /// What others are to see of them.
    pub(super) in_use: Arc<RulesInUse>,
    /// What subscribers are told when they are in use.
    pub(super) change: RulesChange,
    /// Where the old ones go. Never waits.
    pub(super) replaced: SyncSender<RuleSet>,
}

/// Follows the rules of `args` on a thread of its own. New ones come out of the receiver; the thread ends when that is
/// dropped. A byte in `hangups` is a SIGHUP.
pub(super) fn start(
    args: RuleArgs,
    hangups: UnixStream,
    hub: Arc<Hub>,
    status: Arc<AgentStatus>,
    stop: Stop,
) -> Result<Receiver<NewRules>> {
    let (sender, new_rules) = mpsc::sync_channel(1);
    let tried = Ok(status.rules().digest);
    // The built-in rules do not change, and a pipe has nothing more to give.
    let follows = !args.rules.is_empty() && check_again(&args.rules).is_ok();
    let watch = if follows { or_say(Watch::new(&args.rules, RULE_EXTENSIONS)) } else { None };
    let terminals = Terminals::now();
    let mut follower = Follower { args, hangups, hub, status, stop, sender, follows, watch, terminals, tried };
    thread::Builder::new().name("rules".into()).spawn(move || follower.run())?;
    Ok(new_rules)
}

/// The thread's side.
struct Follower {
    args: RuleArgs,
    hangups: UnixStream,
    hub: Arc<Hub>,
    status: Arc<AgentStatus>,
    stop: Stop,
    sender: SyncSender<NewRules>,
    /// Whether the rules may change by themselves.
    follows: bool,
    /// Tells when; without it they are read at intervals.
    watch: Option<Watch>,
    terminals: Terminals,
    /// What the last try read, or why it could not: the same again is nothing new.
    tried: Result<Digest, String>,
}

/// Why to read the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    /// Somebody asks for it.
    Hangup,
    /// They may have changed.
    Change,
}

impl Follower {
    fn run(&mut self) {
        // The first time for what has changed since the start.
        let mut reason = if self.follows { Reason::Change } else { self.wait() };
        loop {
            if reason == Reason::Hangup && self.terminals.hung_up() {
                return self.stop.set();
            }
            let files = self.read(&mut reason);
            if self.take(files, reason).is_break() {
                return;
            }
            reason = self.wait();
        }
    }

    /// Waits for a reason to read the rules.
    fn wait(&mut self) -> Reason {
        loop {
            let limit = (self.follows && self.watch.is_none()).then_some(INTERVAL);
            if self.hears(self.watch.as_ref(), limit) {
                return Reason::Hangup;
            }
            if limit.is_some() || self.has_changed() {
                return self.quiet();
            }
            // Others may be busy in the same directory: they do not keep us busy too.
            if self.hears(None, Some(QUIET)) {
                return Reason::Hangup;
            }
        }
    }

    /// Waits until a change is finished.
    fn quiet(&mut self) -> Reason {
        for _ in 0..MAX_WAITS {
            if self.hears(None, Some(QUIET)) {
                return Reason::Hangup;
            }
            if !self.has_changed() {
                break;
            }
        }
        Reason::Change
    }

    /// Waits for SIGHUP, something from `watch`, or the limit; whether it was SIGHUP.
    fn hears(&self, watch: Option<&Watch>, limit: Option<Duration>) -> bool {
        let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
        let mut files = vec![PollFd::new(&self.hangups, PollFlags::IN)];
        files.extend(watch.map(|watch| PollFd::new(watch, PollFlags::IN)));
        // An interrupted wait is as one that found nothing.
        let _ = poll(&mut files, limit.as_ref());
        (&self.hangups).read(&mut [0; 64]).is_ok_and(|hangups| hangups > 0)
    }

    fn has_changed(&mut self) -> bool {
        let changed = self.watch.as_mut().map(Watch::has_changed).transpose();
        self.or_at_intervals(changed).flatten().unwrap_or_default()
    }

    /// Reads the rules at a moment at which they do not change, if there is one. SIGHUP in between becomes the reason.
    fn read(&mut self, reason: &mut Reason) -> Result<RuleFiles> {
        let mut reads = 0;
        loop {
            // Watched first and read then, so that what comes in between is seen.
            let placed = self.watch.as_mut().map(Watch::place).transpose();
            self.or_at_intervals(placed);
            let files = check_again(&self.args.rules).and_then(|()| RuleFiles::read(&self.args.rules));
            reads += 1;
            if reads == MAX_READS || !self.has_changed() {
                return files;
            }
            if self.quiet() == Reason::Hangup {
                *reason = Reason::Hangup;
            }
        }
    }

    /// What watching gave. Where it cannot go on, the rules are read at intervals instead.
    fn or_at_intervals<T>(&mut self, result: io::Result<T>) -> Option<T> {
        let result = or_say(result);
        if result.is_none() {
            self.watch = None;
        }
        result
    }

    /// Puts what was read into use, or refuses it; breaks off where nobody takes rules any more.
    fn take(&mut self, files: Result<RuleFiles>, reason: Reason) -> ControlFlow<()> {
        let tried = files.as_ref().map(|files| files.digest).map_err(chain);
        if tried == self.tried && reason == Reason::Change {
            return ControlFlow::Continue(());
        }
        self.tried = tried;
        let files = match files {
            Ok(files) => files,
            Err(error) => {
                let reason = chain(&error);
                say(format_args!("monitor: {reason}"));
                self.refuse(rules_change::unreadable(&reason));
                return ControlFlow::Continue(());
            }
        };
        let Loaded { rules, diagnostics } = self.args.compile(&files);
        let change = rules_change::of_diagnostics(&diagnostics);
        match rules {
            Some(rules) => self.hand_over(rules, files.digest, change),
            None => {
                for diagnostic in &diagnostics {
                    say(diagnostic.render());
                }
                self.refuse(change);
                ControlFlow::Continue(())
            }
        }
    }

    fn hand_over(&self, rules: RuleSet, digest: Digest, change: RulesChange) -> ControlFlow<()> {
        let in_use = RulesInUse::new(&rules, digest);
        let change = told(change, RulesOutcome::Loaded, &in_use);
        let line = rules_change::line(&change);
        let (replaced, before) = mpsc::sync_channel(1);
        let sent = self.sender.send(NewRules { rules, in_use, change, replaced });
        // What is said is so: it waits until the flow has taken them.
        let taken = sent.is_ok() && before.recv().map(drop).is_ok();
        if !taken {
            return ControlFlow::Break(());
        }
        say(format_args!("monitor: {line}"));
        ControlFlow::Continue(())
    }

    fn refuse(&self, change: RulesChange) {
        let change = told(change, RulesOutcome::Refused, &self.status.rules());
        let line = rules_change::line(&change);
        self.status.rules_refused();
        self.hub.report_rules_change(change);
        say(format_args!("monitor: {line}"));
    }
}

fn told(change: RulesChange, outcome: RulesOutcome, in_use: &RulesInUse) -> RulesChange {
    let (outcome, rules, digest) = (outcome.into(), in_use.count(), in_use.digest.to_string());
    RulesChange { outcome, rules, digest, ..change }
}

/// Whether paths can be read a second time: a pipe cannot.
fn check_again(paths: &[PathBuf]) -> Result<()> {
    for path in paths {
        let readable = fs::metadata(path).map(|metadata| metadata.is_file() || metadata.is_dir());
        // One that is missing is told by reading it.
        if let Ok(false) = readable {
            bail!("cannot read the rules in {} again: it is neither a file nor a directory", path.display());
        }
    }
    Ok(())
}

/// What watching gave; that it cannot be is said.
fn or_say<T>(watched: io::Result<T>) -> Option<T> {
    let seconds = INTERVAL.as_secs();
    watched
        .inspect_err(|error| {
            say(format_args!("monitor: the rules cannot be watched, and are read every {seconds} s instead: {error}"));
        })
        .ok()
}

/// Which of stdin, stdout and stderr are terminals.
struct Terminals([bool; 3]);

impl Terminals {
    fn now() -> Self {
        Self([io::stdin().is_terminal(), io::stdout().is_terminal(), io::stderr().is_terminal()])
    }

    /// Whether one of them is gone: then SIGHUP does not ask for anything, it tells that the user has left.
    fn hung_up(&self) -> bool {
        let (input, output, errors) = (io::stdin(), io::stdout(), io::stderr());
        let none = PollFlags::empty();
        let mut files = [PollFd::new(&input, none), PollFd::new(&output, none), PollFd::new(&errors, none)];
        let polled = poll(&mut files, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
        let gone = files.iter().map(|file| file.revents().contains(PollFlags::HUP));
        polled.is_ok() && gone.zip(self.0).any(|(gone, terminal)| gone && terminal)
    }
}
