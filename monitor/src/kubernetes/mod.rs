//! What the agent does with the Kubernetes API: it learns what bundles do not say of this node's pods, and says of the node whether it
//! is watched.
//!
//! What is asked and what is answered is here for every build; the client that does it comes with the cargo feature `kubernetes`. It has a
//! thread of its own: whatever the API does, the flow does not wait.

#[cfg(feature = "kubernetes")]
pub mod api;
#[cfg(feature = "kubernetes")]
mod keeper;
pub mod ledger;
pub mod node;
pub mod pod;
#[cfg(feature = "kubernetes")]
pub mod release;
#[cfg(feature = "kubernetes")]
pub mod service;
#[cfg(not(feature = "kubernetes"))]
#[path = "no_service.rs"]
pub mod service;
pub mod settings;
pub mod status;
pub mod trouble;
pub mod unready;
#[cfg(feature = "kubernetes")]
mod watch;
