//! Files of which no rule wants to hear, as the programs are told: [`monitor_ebpf::subject`].

use aya::maps::{Array, MapData};
use monitor_ebpf::subject::{By, Key, Subject};
use rustix::rand::{GetRandomFlags, getrandom};

use super::SensorError;

/// The programs' table.
pub struct Subjects {
    table: Array<MapData, u64>,
    key: Key,
}

impl Subjects {
    pub(super) const fn new(table: Array<MapData, u64>, key: Key) -> Self {
        Self { table, key }
    }

    /// Tells the programs that no rule wants to hear of it: of none, or of those that are opened by whoever this is.
    pub fn bore(&mut self, subject: Subject, by: Option<By<'_>>) {
        let subject = by.map_or(subject, |by| by.subject(self.key, subject));
        // Where that fails they go on sending it.
        if let Err(error) = self.table.set(subject.slot(), subject.0, 0) {
            tracing::debug!("subject not told: {error}");
        }
    }
}

/// A key that nobody can guess.
pub(super) fn new_key() -> Result<Key, SensorError> {
    let mut bytes = [0; size_of::<Key>()];
    getrandom(&mut bytes, GetRandomFlags::empty()).map_err(std::io::Error::from)?;
    let key: Key = zerocopy::transmute!(bytes);
    Ok(Key { factor: key.factor | 1, ..key })
}
