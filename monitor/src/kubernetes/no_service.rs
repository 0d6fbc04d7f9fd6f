//! The client of a build without one: there is none, and the configuration refuses to ask for it.

use std::sync::Arc;

use super::{settings::Settings, status::Status};

/// Who it is for.
#[derive(Clone, Debug)]
pub struct Node {
    /// The node's name in the API.
    pub name: String,
    /// This boot.
    pub boot_id: String,
}

/// Never there.
pub enum Service {}

impl Service {
    /// No configuration of this build asks for it.
    pub fn start(_: &Settings, _: &Node) -> std::io::Result<Self> {
        Err(std::io::ErrorKind::Unsupported.into())
    }

    /// What was learned since the last call, record by record.
    pub fn record(&mut self) -> Option<Vec<u8>> {
        match *self {}
    }

    /// What the agent waits for, or nothing.
    pub fn set_why_not(&self, _: Option<String>) {
        match *self {}
    }

    /// Counters and health.
    pub fn status(&self) -> Arc<Status> {
        match *self {}
    }

    /// The agent stops.
    pub fn stop(self) {
        match self {}
    }

    /// The agent cannot go on.
    pub fn give_up(self, _: String) {
        match self {}
    }
}
