//! Where findings go: the terminal, and consumers over gRPC.
//!
//! The pipeline runs on a plain thread and is never made to wait by an output: each takes an `Arc` of the finding and
//! returns at once, and what a slow reader misses is counted and told to that reader.
//!
//! ```text
//! pipeline ──┬─ queue ── writer thread ── stdout         (lost: counted, said on stderr)
//!            ├─ spool ─┬─ sink ── FindingsSink or OTLP   (kept until it is acknowledged)
//!            │         └─ sink
//!            └─ hub ───┬─ subscription ── gRPC stream    (lost: loss report in the stream)
//!                      └─ subscription ── gRPC stream    (what is older comes from the spool)
//! ```

pub mod bound;
pub mod consumer;
pub mod cursor;
pub mod dial;
pub mod filter;
mod history;
pub mod hub;
pub mod listen;
pub mod metrics;
pub mod ocsf;
pub mod otlp;
pub mod outputs;
pub mod push;
pub mod queue;
pub mod service;
pub mod socket;
pub mod spool;
pub mod stdout;
pub mod subscribe;
pub mod tail;
pub mod tls;

#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
mod tests;
