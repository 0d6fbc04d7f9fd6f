//! Runtime security monitor for Kubernetes nodes.
//!
//! One flow: a source yields records, [`decode`] makes events of them, [`state`] keeps the model of the node, rules are
//! evaluated, findings leave. See `ARCHITECTURE.md`.

pub mod capture;
pub mod cli;
pub mod config;
pub mod context;
pub mod decode;
pub mod drift;
pub mod event;
pub mod finding;
pub mod kubernetes;
pub mod output;
pub mod pipeline;
pub mod pod_security;
pub mod profile_sync;
pub mod proto;
mod push_down;
pub mod record;
pub mod redact;
pub mod report;
pub mod rules;
pub mod scap;
pub mod seccomp;
pub mod sensor;
pub mod source;
pub mod state;
pub mod syscall;
