//! The Kubernetes client in `monitor run`: what it brings into the flow, and what it is told of the agent.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::{live, status::AgentStatus};
use crate::kubernetes::{
    service::{Node, Service},
    settings::{self, Settings},
};

/// How often the client is told how the agent is.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// Records that are taken at a time, so that the ring does not wait.
const BATCH: usize = 64;

/// The client, where the configuration asks for one.
pub(super) struct Client {
    service: Option<Service>,
    told: Option<Instant>,
}

impl Client {
    /// Starts it before anything of the agent's that may fail: a node must not stay closed because of that.
    pub(super) fn start(settings: Option<&Settings>, node_name: Option<&str>) -> Result<Self> {
        let Some(settings) = settings else { return Ok(Self { service: None, told: None }) };
        let name = live::node_name(node_name);
        ensure!(
            settings::is_node_name(&name),
            "{name:?} cannot be the name of a node in Kubernetes: give it with --node-name or MONITOR_NODE_NAME"
        );
        let service = Service::start(settings, &Node { name, boot_id: live::boot_id() });
        Ok(Self { service: Some(service.context("cannot start the Kubernetes client")?), told: None })
    }

    /// Whether there is one.
    pub(super) const fn is_there(&self) -> bool {
        self.service.is_some()
    }

    /// Lets others see how it is.
    pub(super) fn show(&self, status: &AgentStatus) {
        if let Some(service) = &self.service {
            status.set_kubernetes(service.status());
        }
    }

    /// What was learned since the last call.
    pub(super) fn records(&mut self) -> impl Iterator<Item = Vec<u8>> {
        std::iter::from_fn(|| self.service.as_mut()?.record()).take(BATCH)
    }

    /// Tells it how the agent is.
    pub(super) fn tell(&mut self, status: &AgentStatus) {
        let Some(service) = self.service.as_ref().filter(|_| self.told.is_none_or(|at| at.elapsed() >= TELL_EVERY))
        else {
            return;
        };
        service.set_why_not(status.why_not_ready());
        self.told = Some(Instant::now());
    }

    /// The agent ends: in good order, or because it cannot go on.
    pub(super) fn finish(self, failed: Option<&anyhow::Error>) {
        match (self.service, failed) {
            (Some(service), None) => service.stop(),
            (Some(service), Some(error)) => service.give_up(super::chain(error)),
            (None, _) => {}
        }
    }
}
