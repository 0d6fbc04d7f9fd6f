//! What shows only when a profile becomes a filter: for the container that a target describes.

use super::{Abi, Filter, Profile, Target, select::select};
use crate::rules::diagnostic::Severity;

/// Something to know about a profile, without a place in its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doubt {
    /// An error where no filter comes of it.
    pub severity: Severity,
    /// What it is.
    pub message: String,
}

/// Everything there is to know.
pub fn doubts(profile: &Profile, target: &Target) -> Vec<Doubt> {
    let warning = |message| Doubt { severity: Severity::Warning, message };
    let mut doubts = Vec::new();
    if profile.is_docker() {
        let message = "it has keys of Docker's (includes, excludes, archMap), which containerd and runc pass over: as a \
                       Localhost profile of Kubernetes all of its rules apply, on the native architecture alone";
        doubts.push(warning(message.to_owned()));
    }
    match Filter::for_runc(&select(profile, target)) {
        Err(refused) => doubts.push(Doubt { severity: Severity::Error, message: refused.to_string() }),
        Ok(filter) => doubts.extend(filter.blind().iter().map(|abi| warning(blind(*abi)))),
    }
    doubts
}

/// What it means that a filter does not look at the calls of an architecture.
pub fn blind(abi: Abi) -> String {
    format!(
        "no rule applies to {}: libseccomp does not load the number of the call, because the rules in front are about a call \
         that this architecture has not; every call gets the default action",
        abi.name()
    )
}
