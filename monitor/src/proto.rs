//! The gRPC contract, generated from `proto/` at build time.
//!
//! [`v1::Finding`] is also what the terminal and JSON show: one definition of a finding, and every output is a view of it.

/// Package `monitor.v1`.
pub mod v1 {
    #![expect(
        unused_qualifications,
        clippy::allow_attributes,
        clippy::allow_attributes_without_reason,
        clippy::pedantic,
        reason = "generated code"
    )]
    tonic::include_proto!("monitor.v1");

    /// The compiled descriptors, for reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("monitor.v1");
}
