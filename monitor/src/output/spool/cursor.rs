//! How far a sink has come, kept beside the segments in one small file for each.
//!
//! Two slots are written in turn, each with a generation and a checksum: whatever moment the agent is killed in, one of them
//! is whole. Where none is, the sink starts over with the earliest entry, and gets twice what it had.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use uuid::Uuid;

use super::files::{self, File, Files};

/// Ends of the names of cursor files.
pub(super) const SUFFIX: &str = ".cursor";

const SLOT_BYTES: usize = 64;
const USED_BYTES: usize = 44;

/// A place in the spool: in front of the entry `index`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Index of the next entry.
    pub index: u64,
    /// The run of the finding before it.
    pub epoch: Uuid,
    /// The sequence of the finding before it.
    pub sequence: u64,
}

/// A sink's position, and the file that it is kept in.
#[derive(Debug)]
pub struct Cursor {
    path: PathBuf,
    file: Option<Arc<dyn File>>,
    generation: u64,
    position: Option<Position>,
}

impl Cursor {
    /// Reads it, or begins one without a position.
    pub fn load(files: &dyn Files, directory: &Path, sink: &str) -> Self {
        let path = directory.join(format!("{sink}{SUFFIX}"));
        let file = files.open(&path, true).or_else(|_| files.open(&path, false));
        let mut cursor = Self { path, file: file.ok(), generation: 0, position: None };
        let mut slots = [0; 2 * SLOT_BYTES];
        let read = cursor.file.as_ref().and_then(|file| files::read_full(&**file, &mut slots, 0).ok()).unwrap_or(0);
        for slot in slots.get(..read).unwrap_or_default().chunks(SLOT_BYTES) {
            if let Some((generation, position)) = decode(slot).filter(|(generation, _)| *generation > cursor.generation)
            {
                (cursor.generation, cursor.position) = (generation, Some(position));
            }
        }
        cursor
    }

    /// Where it is; `None` before the first [`store`](Self::store).
    pub const fn position(&self) -> Option<Position> {
        self.position
    }

    /// Keeps a position. After an error it counts all the same, until the agent ends.
    pub fn store(&mut self, files: &dyn Files, position: Position) -> io::Result<()> {
        self.generation += 1;
        self.position = Some(position);
        let slot = encode(self.generation, &position);
        let file = match &self.file {
            Some(file) => file,
            None => self.file.insert(files.create(&self.path)?),
        };
        files::write_all(&**file, &slot, (self.generation % 2) * SLOT_BYTES as u64)
    }
}

fn encode(generation: u64, position: &Position) -> [u8; SLOT_BYTES] {
    let mut slot = [0; SLOT_BYTES];
    let fields = [
        &generation.to_le_bytes()[..],
        &position.index.to_le_bytes(),
        &position.sequence.to_le_bytes(),
        position.epoch.as_bytes(),
    ];
    for (to, from) in slot.iter_mut().zip(fields.into_iter().flatten()) {
        *to = *from;
    }
    let (used, _) = slot.split_at(USED_BYTES - 4);
    let crc = crc32c::crc32c(used).to_le_bytes();
    for (to, from) in slot.iter_mut().skip(USED_BYTES - 4).zip(crc) {
        *to = from;
    }
    slot
}

fn decode(slot: &[u8]) -> Option<(u64, Position)> {
    let (used, crc) = slot.get(..USED_BYTES)?.split_at(USED_BYTES - 4);
    if crc32c::crc32c(used).to_le_bytes() != crc {
        return None;
    }
    let number = |at: usize| used.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
    let epoch = Uuid::from_bytes(*used.get(24..)?.first_chunk()?);
    Some((number(0)?, Position { index: number(8)?, sequence: number(16)?, epoch }))
}

#[cfg(test)]
mod tests {
    use super::{super::files::Disk, *};

    fn position(index: u64) -> Position {
        Position { index, epoch: Uuid::from_u128(3), sequence: index + 1 }
    }

    #[test]
    fn the_newest_whole_slot_counts() {
        let directory = tempfile::tempdir().unwrap();
        let load = || Cursor::load(&Disk, directory.path(), "a");
        assert_eq!(load().position(), None);
        let mut cursor = load();
        for index in 1..=3 {
            cursor.store(&Disk, position(index)).unwrap();
            assert_eq!(load().position(), Some(position(index)));
        }
        let path = directory.path().join("a.cursor");
        let whole = std::fs::read(&path).unwrap();
        for at in 0..USED_BYTES {
            let mut damaged = whole.clone();
            damaged[SLOT_BYTES + at] ^= 1;
            std::fs::write(&path, &damaged).unwrap();
            assert_eq!(load().position(), Some(position(2)), "the third stood in the second slot");
        }
        std::fs::write(&path, [7; 128]).unwrap();
        assert_eq!(load().position(), None);
    }
}
