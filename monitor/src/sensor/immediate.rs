//! Writes offsets and settings into the programs' instructions, in place of their tokens ([`monitor_ebpf::immediate`]).

use monitor_ebpf::immediate::Group;
use object::{Object as _, ObjectSection as _, SectionFlags, elf::SHF_EXECINSTR};

/// `BPF_LD | BPF_DW | BPF_IMM`: loads a 64-bit immediate; two slots of eight bytes.
const LD_DW_IMM: u8 = 0x18;
/// Bytes of one slot.
const SLOT_BYTES: usize = 8;

/// Why the object cannot be filled in. All are faults of the build.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ImmediateError {
    #[error("not an ELF object")]
    Elf,
    #[error("a token for byte {0} of a struct that is shorter")]
    Member(u32),
    #[error("no token in the programs: they were built for another loader")]
    None,
}

/// The object with the members of each group's struct in its instructions.
pub(super) fn fill(object: &[u8], groups: &[(Group, &[u8])]) -> Result<Vec<u8>, ImmediateError> {
    let file = object::File::parse(object).map_err(|_| ImmediateError::Elf)?;
    let mut filled = object.to_vec();
    let mut tokens = 0;
    for section in file.sections() {
        let SectionFlags::Elf { sh_flags } = section.flags() else { continue };
        let range = section.file_range().filter(|_| sh_flags & u64::from(SHF_EXECINSTR) != 0);
        let Some((offset, len)) = range else { continue };
        let bounds = usize::try_from(offset).ok().zip(usize::try_from(offset.saturating_add(len)).ok());
        let code = bounds.and_then(|(begin, end)| filled.get_mut(begin..end)).ok_or(ImmediateError::Elf)?;
        tokens += fill_code(code, groups)?;
    }
    if tokens == 0 { Err(ImmediateError::None) } else { Ok(filled) }
}

/// Fills in one section; returns how many tokens it had.
fn fill_code(code: &mut [u8], groups: &[(Group, &[u8])]) -> Result<usize, ImmediateError> {
    let mut tokens = 0;
    let mut slots = code.chunks_exact_mut(SLOT_BYTES);
    while let Some(slot) = slots.next() {
        let [LD_DW_IMM, registers, _, _, low @ ..] = slot else { continue };
        // The second slot belongs to this instruction, whatever it holds.
        let Some([_, _, _, _, high @ ..]) = slots.next() else { break };
        let word = |bytes: &[u8]| bytes.try_into().map_or(0, u32::from_le_bytes);
        let group = groups.iter().find(|(group, _)| group.0 == word(high));
        // A source register makes it the address of a map.
        let (Some((_, members)), 0) = (group, *registers >> 4) else { continue };
        let member = word(low);
        let value = usize::try_from(member).ok().and_then(|at| members.get(at..at.checked_add(4)?));
        low.copy_from_slice(value.ok_or(ImmediateError::Member(member))?);
        high.fill(0);
        tokens += 1;
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMBERS: [u8; 8] = [1, 2, 3, 4, 5, 6, 7, 8];

    fn load(token: u64, registers: u8) -> Vec<u8> {
        let (low, high) = (token.to_le_bytes()[..4].to_vec(), token.to_le_bytes()[4..].to_vec());
        [&[LD_DW_IMM, registers, 0, 0][..], &low, &[0; 4], &high].concat()
    }

    #[test]
    fn a_token_becomes_its_members_value() {
        let mut code = [load(Group::OFFSETS.token(4), 3), load(77, 3), load(Group::SETTINGS.token(0), 3)].concat();
        assert_eq!(fill_code(&mut code, &[(Group::OFFSETS, &MEMBERS)]), Ok(1));
        assert_eq!(code[..16], load(u64::from(u32::from_le_bytes([5, 6, 7, 8])), 3));
        assert_eq!(code[16..32], load(77, 3), "other numbers stay");
        assert_eq!(code[32..], load(Group::SETTINGS.token(0), 3), "of another group");
    }

    #[test]
    fn what_only_looks_like_a_token_stays() {
        let map = load(Group::OFFSETS.token(0), 0x13);
        // The second slot of an instruction may look like the first of another.
        let inner = [load(0, 3)[..8].to_vec(), load(Group::OFFSETS.token(0), 3)[..8].to_vec(), vec![0; 8]].concat();
        for original in [map, inner, load(Group::OFFSETS.token(0), 3)[..12].to_vec()] {
            let mut code = original.clone();
            assert_eq!(fill_code(&mut code, &[(Group::OFFSETS, &MEMBERS)]), Ok(0));
            assert_eq!(code, original);
        }
    }

    #[test]
    fn a_token_beyond_the_struct_is_an_error() {
        let mut code = load(Group::OFFSETS.token(8), 1);
        assert_eq!(fill_code(&mut code, &[(Group::OFFSETS, &MEMBERS)]), Err(ImmediateError::Member(8)));
        assert_eq!(fill(b"not an object", &[]), Err(ImmediateError::Elf));
    }
}
