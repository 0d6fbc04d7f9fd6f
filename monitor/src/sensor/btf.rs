//! A reader of BTF, the kernel's description of its types, that answers one question: where does a member lie.
//!
//! One pass notes where each of the (some hundred thousand) types begins; names are compared only for the structs that are
//! asked for. Format: `Documentation/bpf/btf.rst` of the kernel. Bytes are not trusted: every access is checked, and chains
//! of types are followed a bounded number of steps.

use hashbrown::HashMap;
use thiserror::Error;

const MAGIC: u16 = 0xeb9f;
/// Types that are followed from one to the next (`const`, `typedef`, …), and anonymous structs within each other.
const MAX_DEPTH: usize = 16;

/// Kinds of types, `BTF_KIND_*`.
mod kind {
    pub(super) const INT: u32 = 1;
    pub(super) const PTR: u32 = 2;
    pub(super) const ARRAY: u32 = 3;
    pub(super) const STRUCT: u32 = 4;
    pub(super) const UNION: u32 = 5;
    pub(super) const ENUM: u32 = 6;
    pub(super) const FWD: u32 = 7;
    pub(super) const TYPEDEF: u32 = 8;
    pub(super) const VOLATILE: u32 = 9;
    pub(super) const CONST: u32 = 10;
    pub(super) const RESTRICT: u32 = 11;
    pub(super) const FUNC: u32 = 12;
    pub(super) const FUNC_PROTO: u32 = 13;
    pub(super) const VAR: u32 = 14;
    pub(super) const DATASEC: u32 = 15;
    pub(super) const FLOAT: u32 = 16;
    pub(super) const DECL_TAG: u32 = 17;
    pub(super) const TYPE_TAG: u32 = 18;
    pub(super) const ENUM64: u32 = 19;
}

/// Why bytes are not BTF.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BtfError {
    /// Not BTF, or of another byte order.
    #[error("the type information does not begin with BTF's magic number")]
    Magic,
    /// Cut short, or with lengths that lead outside.
    #[error("the type information is damaged at byte {0}")]
    Damaged(usize),
    /// A kind of type that this reader does not know the length of.
    #[error("the type information has a type of unknown kind {0}")]
    Kind(u32),
}

/// Parsed BTF.
pub struct Btf<'a> {
    bytes: &'a [u8],
    /// Where the strings begin.
    strings: usize,
    /// Where each type begins; index 0 is the type `first_id`.
    types: Vec<u32>,
    /// Id of the first type: 1, or in a module one more than the last of vmlinux.
    first_id: u32,
    /// Strings below this offset, and types below `first_id`, are the base's.
    base: Option<&'a Btf<'a>>,
    base_strings: usize,
    /// Structs, unions, enums and typedefs by name.
    by_name: HashMap<(&'a [u8], bool), u32>,
}

/// A type's first twelve bytes, and where the rest is.
#[derive(Clone, Copy)]
struct Type<'a> {
    bytes: &'a [u8],
    at: usize,
    kind: u32,
    count: usize,
    flag: bool,
    size_or_id: u32,
}

/// A member within a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Member {
    offset_bits: u64,
    type_id: u32,
    bitfield: bool,
}

impl<'a> Btf<'a> {
    /// Parses the kernel's own types, and remembers where those of these names are.
    pub fn parse(bytes: &'a [u8], names: &[&str]) -> Result<Self, BtfError> {
        Self::parse_on(bytes, None, names)
    }

    /// Parses a module's types, which build on the kernel's.
    pub fn parse_split(base: &'a Btf<'a>, bytes: &'a [u8], names: &[&str]) -> Result<Self, BtfError> {
        Self::parse_on(bytes, Some(base), names)
    }

    fn parse_on(bytes: &'a [u8], base: Option<&'a Btf<'a>>, names: &[&str]) -> Result<Self, BtfError> {
        let word = |at: usize| u32_at(bytes, at).ok_or(BtfError::Damaged(at));
        if bytes.get(..2) != Some(&MAGIC.to_le_bytes()) {
            return Err(BtfError::Magic);
        }
        let header = word(4)? as usize;
        let begin = header.saturating_add(word(8)? as usize);
        let end = begin.saturating_add(word(12)? as usize);
        let strings = header.saturating_add(word(16)? as usize);
        let strings_len = word(20)? as usize;
        if end > bytes.len() || strings.saturating_add(strings_len) > bytes.len() {
            return Err(BtfError::Damaged(8));
        }
        let first_id = base.map_or(1, |base| base.first_id + u32::try_from(base.types.len()).unwrap_or(u32::MAX / 2));
        let base_strings = base.map_or(0, |base| base.base_strings + base.strings_len());
        let mut btf = Self { bytes, strings, types: Vec::new(), first_id, base, base_strings, by_name: HashMap::new() };
        btf.types.reserve((end - begin) / 24);
        let mut at = begin;
        while at < end {
            btf.types.push(u32::try_from(at).map_err(|_| BtfError::Damaged(at))?);
            at += btf.type_at(at).ok_or(BtfError::Damaged(at))?.len()?;
        }
        if at != end {
            return Err(BtfError::Damaged(at));
        }
        btf.index(names);
        Ok(btf)
    }

    fn strings_len(&self) -> usize {
        u32_at(self.bytes, 20).map_or(0, |len| len as usize)
    }

    fn index(&mut self, names: &[&str]) {
        let wanted: hashbrown::HashSet<&[u8]> = names.iter().map(|name| name.as_bytes()).collect();
        for (index, at) in self.types.iter().enumerate() {
            let Some(ty) = self.type_at(*at as usize) else { continue };
            let is_enum = matches!(ty.kind, kind::ENUM | kind::ENUM64);
            if !is_enum && !matches!(ty.kind, kind::STRUCT | kind::UNION | kind::TYPEDEF) {
                continue;
            }
            let Some(name) = u32_at(self.bytes, ty.at).and_then(|offset| self.string(offset)) else { continue };
            if let (true, Ok(index)) = (wanted.contains(name), u32::try_from(index)) {
                // The first of a name: later ones are a translation unit's own of the same name.
                self.by_name.entry((name, is_enum)).or_insert(self.first_id + index);
            }
        }
    }

    /// Whether there is a type of this kind and name (a linear search: for a few questions only).
    pub fn has_typedef(&self, name: &str) -> bool {
        self.types.iter().any(|at| {
            self.type_at(*at as usize).is_some_and(|ty| {
                ty.kind == kind::TYPEDEF
                    && u32_at(self.bytes, ty.at).and_then(|offset| self.string(offset)) == Some(name.as_bytes())
            })
        })
    }

    /// Byte offset of `member.member…` in a struct, and the size in bytes of what lies there.
    pub fn member(&self, path: &str) -> Option<(u32, u32)> {
        let mut names = path.split('.');
        let mut id = self.find(names.next()?, false)?;
        let mut bits = 0_u64;
        for name in names {
            let member = self.find_member(self.resolve(id)?, name, 0)?;
            if member.bitfield {
                return None;
            }
            bits = bits.checked_add(member.offset_bits)?;
            id = member.type_id;
        }
        Some((u32::try_from(bits / 8).ok()?, self.size(id, 0)?))
    }

    /// Value of an enumerator.
    pub fn enumerator(&self, name: &str, enumerator: &str) -> Option<u32> {
        let ty = self.ty(self.find(name, true)?)?;
        let stride = if ty.kind == kind::ENUM64 { 12 } else { 8 };
        (0..ty.count).find_map(|index| {
            let at = ty.at + 12 + stride * index;
            (self.string(u32_at(ty.bytes, at)?)? == enumerator.as_bytes()).then(|| u32_at(ty.bytes, at + 4))?
        })
    }

    fn find(&self, name: &str, is_enum: bool) -> Option<u32> {
        self.by_name
            .get(&(name.as_bytes(), is_enum))
            .copied()
            .or_else(|| self.base.and_then(|base| base.find(name, is_enum)))
    }

    fn find_member(&self, ty: Type<'a>, name: &str, depth: usize) -> Option<Member> {
        if depth > MAX_DEPTH || !matches!(ty.kind, kind::STRUCT | kind::UNION) {
            return None;
        }
        (0..ty.count).find_map(|index| {
            let at = ty.at + 12 + 12 * index;
            let member_name = self.string(u32_at(ty.bytes, at)?)?;
            let type_id = u32_at(ty.bytes, at + 4)?;
            let raw = u32_at(ty.bytes, at + 8)?;
            // With the flag set, the upper byte is the size of a bit-field.
            let (offset_bits, bitfield) = if ty.flag { (raw & 0xff_ffff, raw >> 24 != 0) } else { (raw, false) };
            if member_name == name.as_bytes() {
                return Some(Member { offset_bits: offset_bits.into(), type_id, bitfield });
            }
            if !member_name.is_empty() {
                return None;
            }
            let inner = self.find_member(self.resolve(type_id)?, name, depth + 1)?;
            Some(Member { offset_bits: inner.offset_bits + u64::from(offset_bits), ..inner })
        })
    }

    /// The type behind `const`, `volatile`, `typedef` and tags.
    fn resolve(&self, mut id: u32) -> Option<Type<'a>> {
        for _ in 0..MAX_DEPTH {
            let ty = self.ty(id)?;
            match ty.kind {
                kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG => id = ty.size_or_id,
                _ => return Some(ty),
            }
        }
        None
    }

    fn size(&self, id: u32, depth: usize) -> Option<u32> {
        let ty = self.resolve(id)?;
        match ty.kind {
            kind::PTR => Some(8),
            kind::ARRAY if depth < MAX_DEPTH => {
                let element = u32_at(ty.bytes, ty.at + 12)?;
                let count = u32_at(ty.bytes, ty.at + 20)?;
                self.size(element, depth + 1)?.checked_mul(count)
            }
            kind::INT | kind::STRUCT | kind::UNION | kind::ENUM | kind::ENUM64 | kind::FLOAT => Some(ty.size_or_id),
            _ => None,
        }
    }

    fn ty(&self, id: u32) -> Option<Type<'a>> {
        match (id.checked_sub(self.first_id), self.base) {
            (Some(index), _) => self.type_at(*self.types.get(index as usize)? as usize),
            (None, Some(base)) => base.ty(id),
            (None, None) => None,
        }
    }

    fn type_at(&self, at: usize) -> Option<Type<'a>> {
        let info = u32_at(self.bytes, at + 4)?;
        Some(Type {
            bytes: self.bytes,
            at,
            kind: info >> 24 & 0x1f,
            count: (info & 0xffff) as usize,
            flag: info >> 31 != 0,
            size_or_id: u32_at(self.bytes, at + 8)?,
        })
    }

    fn string(&self, offset: u32) -> Option<&'a [u8]> {
        let offset = offset as usize;
        match self.base {
            Some(base) if offset < self.base_strings => base.string(u32::try_from(offset).ok()?),
            _ => {
                let rest = self.bytes.get(self.strings.checked_add(offset.checked_sub(self.base_strings)?)?..)?;
                rest.split(|byte| *byte == 0).next()
            }
        }
    }
}

impl Type<'_> {
    /// Bytes of the whole description.
    fn len(self) -> Result<usize, BtfError> {
        let tail = match self.kind {
            kind::INT | kind::VAR | kind::DECL_TAG => 4,
            kind::ARRAY => 12,
            kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => 12 * self.count,
            kind::ENUM | kind::FUNC_PROTO => 8 * self.count,
            kind::PTR
            | kind::FWD
            | kind::TYPEDEF
            | kind::VOLATILE
            | kind::CONST
            | kind::RESTRICT
            | kind::FUNC
            | kind::FLOAT
            | kind::TYPE_TAG => 0,
            unknown => return Err(BtfError::Kind(unknown)),
        };
        Ok(12 + tail)
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// BTF of `struct a { int x; struct { int y; int z[3]; }; }` and `enum e { V = 7 }`.
    fn sample() -> Vec<u8> {
        let strings = b"\0a\0x\0y\0z\0e\0V\0int\0";
        let words: &[u32] = &[
            // 1: int
            13,
            1 << 24,
            4,
            32, // 2: array of 3 int
            0,
            3 << 24,
            0,
            1,
            1,
            3, // 3: anonymous struct
            0,
            4 << 24 | 2,
            16,
            5,
            1,
            0,
            7,
            2,
            32, // 4: struct a
            1,
            4 << 24 | 2,
            20,
            3,
            1,
            0,
            0,
            3,
            32, // 5: enum e
            9,
            6 << 24 | 1,
            4,
            11,
            7,
        ];
        let types: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let lens =
            [24, 0, types.len(), types.len(), strings.len()].map(|len| u32::try_from(len).unwrap().to_le_bytes());
        [&[0x9f, 0xeb, 1, 0][..], &lens.concat(), &types, strings].concat()
    }

    #[test]
    fn members_of_anonymous_structs_are_found() {
        let bytes = sample();
        let btf = Btf::parse(&bytes, &["a", "e"]).unwrap();
        assert_eq!(btf.member("a.x"), Some((0, 4)));
        assert_eq!(btf.member("a.y"), Some((4, 4)));
        assert_eq!(btf.member("a.z"), Some((8, 12)), "an array's size is all of it");
        assert_eq!(btf.member("a.nothing"), None);
        assert_eq!(btf.enumerator("e", "V"), Some(7));
    }

    #[test]
    fn a_cut_at_every_length_is_an_error() {
        let bytes = sample();
        for len in 0..bytes.len() {
            assert!(Btf::parse(&bytes[..len], &[]).is_err(), "cut at {len}");
        }
    }

    proptest! {
        #[test]
        fn flipped_bytes_never_panic(flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
            let mut bytes = sample();
            for (at, value) in flips {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            if let Ok(btf) = Btf::parse(&bytes, &["a", "e"]) {
                let _ = (btf.member("a.z"), btf.enumerator("e", "V"), btf.has_typedef("a"));
            }
        }
    }
}
