//! Where records come from. Below this trait nobody knows whether the bytes are live, from a file, or from a test.

use std::time::Duration;

use thiserror::Error;

/// A stream of records.
pub trait Source {
    /// Passes the records that are there to `each`, in order. Waits at most `patience` for the first.
    fn drain(&mut self, patience: Duration, each: &mut dyn FnMut(&[u8])) -> Result<Status, SourceError>;
}

/// Whether there may be more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Ask again.
    Open,
    /// The stream has ended in good order.
    Ended,
}

/// Why a stream cannot go on. What came before was passed on.
#[derive(Debug, Error)]
pub enum SourceError {
    /// Not a capture of ours.
    #[error("not a capture: {0}")]
    Format(String),
    /// A capture, but damaged.
    #[error("capture is damaged at byte {offset}: {reason}")]
    Damaged {
        /// Where the damage begins.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// Reading failed.
    #[error("cannot read: {0}")]
    Io(#[from] std::io::Error),
}

impl SourceError {
    /// A word for metrics.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Format(_) => "format",
            Self::Damaged { .. } => "damaged",
            Self::Io(_) => "io",
        }
    }
}
