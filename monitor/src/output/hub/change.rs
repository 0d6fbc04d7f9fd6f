//! What is told among the findings and is none: changes of the rules and of the node's seccomp profiles.

use std::sync::Arc;

use crate::proto::v1::{ProfilesChange, RulesChange, subscribe_response::Response};

/// A change, and its place among the findings and among all changes.
#[derive(Debug)]
pub(super) struct Change {
    /// Sequence of the last finding before it.
    pub(super) after: u64,
    /// Counts all changes, from 1.
    pub(super) place: u64,
    pub(super) what: What,
}

/// What has changed.
#[derive(Clone, Debug)]
pub(super) enum What {
    Rules(Arc<RulesChange>),
    Profiles(Arc<ProfilesChange>),
}

impl What {
    /// As a subscriber is told of it.
    pub(super) fn response(&self, cursor: String) -> Response {
        match self {
            Self::Rules(change) => Response::RulesChange(RulesChange { cursor, ..RulesChange::clone(change) }),
            Self::Profiles(change) => {
                Response::ProfilesChange(ProfilesChange { cursor, ..ProfilesChange::clone(change) })
            }
        }
    }
}
