//! The contract between the BPF programs and the agent: record layouts, kernel offsets, and load-time settings.
//!
//! Both sides of the kernel boundary compile this crate, so a layout exists once. Everything here is plain data:
//! `#[repr(C)]`, without padding (`zerocopy::IntoBytes` refuses it), valid for any bit pattern, so that bytes from a
//! hostile capture are as safe to look at as bytes from the kernel.
//!
//! - [`record`]: what the kernel tells the agent, and what the agent itself adds to the stream.
//! - [`offsets`]: where members lie in this kernel's structs; resolved from BTF.
//! - [`settings`]: what to send.
//! - [`subject`]: of which files nothing is to be sent.
//! - [`immediate`]: how both come into the programs: as constants, so that the verifier removes what is switched off.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod immediate;
pub mod offsets;
pub mod record;
pub mod settings;
pub mod subject;
