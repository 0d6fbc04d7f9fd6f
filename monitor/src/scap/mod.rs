//! Captures of Falco and sysdig: `.scap` files, read as events of Falco's table.
//!
//! ```text
//! file    = section+
//! section = header block, blocks that list what existed, blocks with one event each
//! block   = type:u32 length:u32 body padding length:u32            (pcapng; little endian)
//! ```
//! A file may be packed with gzip. Every version that the recorders ever wrote is read; events of old versions are
//! [upgraded](convert) to those of today. The facts are those of falcosecurity/libs 0.25.4 (`engine/savefile`).
//!
//! # Invariants
//! * Any bytes give events or a [`SourceError`](crate::source::SourceError), and what came before the damage was passed on.
//! * Memory is bounded whatever a file claims: lists are read entry by entry, and of what is longer than any event
//!   only as much is kept as there really is.
//! * An event that needs no upgrade is read in place and nothing is allocated for it.

mod ahead;
mod block;
#[cfg(test)]
mod builder;
mod convert;
mod enters;
mod event;
mod fields;
mod list;
mod reader;
#[cfg(test)]
mod tests;
mod window;

use std::borrow::Cow;

pub use ahead::Ahead;
pub use block::is_section_header;
pub use reader::{Counters, Reader};

/// What is wrong with some bytes.
type Flaw = Cow<'static, str>;
