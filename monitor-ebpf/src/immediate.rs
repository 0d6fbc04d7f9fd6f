//! Numbers that the agent writes into the programs' instructions before it loads them.
//!
//! A number in a map would be loaded from memory each time; in an instruction it costs nothing, and the verifier sees a
//! constant: what stands behind a switched-off setting vanishes, and a typed load may use it as offset. So wherever the
//! programs need one they load a *token*, a 64-bit immediate that names a struct and a member of it, and the agent puts the
//! member's value in its place.

/// A struct whose members stand in instructions: the upper half of their tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group(pub u32);

impl Group {
    /// [`crate::offsets::Offsets`].
    pub const OFFSETS: Group = Group(u32::from_be_bytes(*b"offs"));
    /// [`crate::settings::Settings`].
    pub const SETTINGS: Group = Group(u32::from_be_bytes(*b"sett"));

    /// The token of the member at a byte offset.
    pub const fn token(self, member: usize) -> u64 {
        (self.0 as u64) << 32 | member as u64
    }
}
