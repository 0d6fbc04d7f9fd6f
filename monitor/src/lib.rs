//! Runtime security monitor for Kubernetes nodes.
pub mod event;
pub mod finding;
pub mod output;
pub mod proto;
