//! Runtime security monitor for Kubernetes nodes.
//!
//! One flow: a source yields records, [`decode`] makes events of them, [`state`] keeps the model of the node, rules are
//! evaluated, findings leave. See `ARCHITECTURE.md`.

pub mod capture;
pub mod decode;
pub mod event;
pub mod finding;
pub mod output;
pub mod proto;
pub mod record;
pub mod seccomp;
pub mod sensor;
pub mod source;
pub mod state;
pub mod syscall;
