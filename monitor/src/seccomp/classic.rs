//! Classic BPF as seccomp runs it: a filter's instructions over `struct seccomp_data`.
//!
//! The kernel checks a filter when it is installed (`bpf_check_classic` and `seccomp_check_filter`) and then runs a
//! translation of it. Here the original runs; what the translation makes of odd cases (division by zero ends the program
//! with 0, shifts take five bits) is kept. Programs come from records and so from captures: nothing about them is trusted.

/// Bytes of one instruction (`struct sock_filter`).
pub const INSTRUCTION_BYTES: usize = 8;
/// Longest program (`BPF_MAXINSNS`).
pub const MAX_INSTRUCTIONS: usize = 4096;
/// Words of scratch memory (`BPF_MEMWORDS`).
const MEMORY_WORDS: usize = 16;
/// Bytes of `struct seccomp_data`, which is what `BPF_LEN` loads.
const DATA_BYTES: u32 = 64;

/// One instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    code: u16,
    jump_true: u8,
    jump_false: u8,
    k: u32,
}

impl Instruction {
    /// From the bytes of a `struct sock_filter`.
    pub const fn from_bytes(bytes: [u8; INSTRUCTION_BYTES]) -> Self {
        let [c0, c1, jump_true, jump_false, k0, k1, k2, k3] = bytes;
        Self { code: u16::from_le_bytes([c0, c1]), jump_true, jump_false, k: u32::from_le_bytes([k0, k1, k2, k3]) }
    }

    /// The bytes of a `struct sock_filter`.
    pub const fn to_bytes(self) -> [u8; INSTRUCTION_BYTES] {
        let ([c0, c1], [k0, k1, k2, k3]) = (self.code.to_le_bytes(), self.k.to_le_bytes());
        [c0, c1, self.jump_true, self.jump_false, k0, k1, k2, k3]
    }
}

/// What a filter looks at: `struct seccomp_data`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Data {
    /// Number of the call.
    pub nr: i32,
    /// `AUDIT_ARCH_*` of its entry.
    pub arch: u32,
    /// Instruction pointer.
    pub ip: u64,
    /// Arguments.
    pub args: [u64; 6],
}

impl Data {
    /// The word at a byte offset; the kernel refuses filters that load anything else.
    #[expect(clippy::cast_sign_loss, clippy::cast_possible_truncation, reason = "filters see 32-bit halves")]
    fn word(&self, offset: u32) -> Option<u32> {
        let half = |value: u64| if offset & 4 == 0 { value as u32 } else { (value >> 32) as u32 };
        match offset {
            _ if !offset.is_multiple_of(4) => None,
            0 => Some(self.nr as u32),
            4 => Some(self.arch),
            8 | 12 => Some(half(self.ip)),
            _ => self.args.get(usize::try_from(offset - 16).ok()? / 8).map(|argument| half(*argument)),
        }
    }
}

/// Codes of the instructions that `seccomp_check_filter` lets pass.
mod code {
    pub(super) const LD_W_ABS: u16 = 0x20;
    pub(super) const LD_W_LEN: u16 = 0x80;
    pub(super) const LDX_W_LEN: u16 = 0x81;
    pub(super) const LD_IMM: u16 = 0x00;
    pub(super) const LDX_IMM: u16 = 0x01;
    pub(super) const LD_MEM: u16 = 0x60;
    pub(super) const LDX_MEM: u16 = 0x61;
    pub(super) const ST: u16 = 0x02;
    pub(super) const STX: u16 = 0x03;
    pub(super) const TAX: u16 = 0x07;
    pub(super) const TXA: u16 = 0x87;
    pub(super) const RET_K: u16 = 0x06;
    pub(super) const RET_A: u16 = 0x16;
    pub(super) const NEG: u16 = 0x84;
    pub(super) const JA: u16 = 0x05;
    /// Low three bits of arithmetic and jumps.
    pub(super) const CLASS_ALU: u16 = 4;
    pub(super) const CLASS_JMP: u16 = 5;
    /// Operand is X, not K.
    pub(super) const X: u16 = 8;
}

/// A program's result, or `None` where it does what no kernel would have let it do: the verdict is unknown then.
pub fn run(program: &[Instruction], data: &Data) -> Option<u32> {
    let mut machine = Machine { a: 0, x: 0, memory: [0; MEMORY_WORDS] };
    let mut at = 0_usize;
    // Jumps go forward only, so every round is another instruction.
    loop {
        let instruction = program.get(at)?;
        at += 1;
        match machine.step(*instruction, data)? {
            Step::Next => {}
            Step::Skip(count) => at = at.checked_add(usize::try_from(count).ok()?)?,
            Step::Return(value) => return Some(value),
        }
    }
}

struct Machine {
    a: u32,
    x: u32,
    memory: [u32; MEMORY_WORDS],
}

enum Step {
    Next,
    Skip(u32),
    Return(u32),
}

impl Machine {
    fn step(&mut self, instruction: Instruction, data: &Data) -> Option<Step> {
        let Instruction { code, k, .. } = instruction;
        let cell = usize::try_from(k).ok();
        match code {
            code::LD_W_ABS => self.a = data.word(k)?,
            code::LD_W_LEN => self.a = DATA_BYTES,
            code::LDX_W_LEN => self.x = DATA_BYTES,
            code::LD_IMM => self.a = k,
            code::LDX_IMM => self.x = k,
            code::LD_MEM => self.a = *self.memory.get(cell?)?,
            code::LDX_MEM => self.x = *self.memory.get(cell?)?,
            code::ST => *self.memory.get_mut(cell?)? = self.a,
            code::STX => *self.memory.get_mut(cell?)? = self.x,
            code::TAX => self.x = self.a,
            code::TXA => self.a = self.x,
            code::RET_K => return Some(Step::Return(k)),
            code::RET_A => return Some(Step::Return(self.a)),
            code::NEG => self.a = self.a.wrapping_neg(),
            code::JA => return Some(Step::Skip(k)),
            _ => {
                let operand = if code & code::X == 0 { k } else { self.x };
                return match code & 7 {
                    code::CLASS_ALU => self.arithmetic(code & 0xf0, operand),
                    code::CLASS_JMP => Some(Step::Skip(u32::from(self.jump(code & 0xf0, operand, instruction)?))),
                    _ => None,
                };
            }
        }
        Some(Step::Next)
    }

    /// `BPF_ADD` … `BPF_XOR`. Modulo is not among them: `seccomp_check_filter` refuses it.
    fn arithmetic(&mut self, operation: u16, operand: u32) -> Option<Step> {
        self.a = match operation {
            0x00 => self.a.wrapping_add(operand),
            0x10 => self.a.wrapping_sub(operand),
            0x20 => self.a.wrapping_mul(operand),
            0x30 => match self.a.checked_div(operand) {
                Some(quotient) => quotient,
                None => return Some(Step::Return(0)),
            },
            0x40 => self.a | operand,
            0x50 => self.a & operand,
            0x60 => self.a.wrapping_shl(operand),
            0x70 => self.a.wrapping_shr(operand),
            0xa0 => self.a ^ operand,
            _ => return None,
        };
        Some(Step::Next)
    }

    /// How many instructions to skip.
    fn jump(&self, operation: u16, operand: u32, instruction: Instruction) -> Option<u8> {
        let taken = match operation {
            0x10 => self.a == operand,
            0x20 => self.a > operand,
            0x30 => self.a >= operand,
            0x40 => self.a & operand != 0,
            _ => return None,
        };
        Some(if taken { instruction.jump_true } else { instruction.jump_false })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn ins(code: u16, jump_true: u8, jump_false: u8, k: u32) -> Instruction {
        Instruction { code, jump_true, jump_false, k }
    }

    pub(crate) fn bytes(program: &[Instruction]) -> Vec<u8> {
        program.iter().flat_map(|instruction| instruction.to_bytes()).collect()
    }

    /// Returns `action` for one call, allows all others.
    pub(crate) fn deny(nr: u32, action: u32) -> Vec<Instruction> {
        vec![ins(0x20, 0, 0, 0), ins(0x15, 0, 1, nr), ins(6, 0, 0, action), ins(6, 0, 0, 0x7fff_0000)]
    }

    fn data(nr: i32) -> Data {
        Data { nr, arch: 0xc000_003e, ip: 0x1_0000_0002, args: [1, 2 << 32 | 3, 0, 0, 0, u64::MAX] }
    }

    #[test]
    fn a_filter_sees_number_architecture_pointer_and_arguments() {
        let load = |offset| run(&[ins(0x20, 0, 0, offset), ins(0x16, 0, 0, 0)], &data(83));
        let seen: Vec<_> = [0, 4, 8, 12, 16, 24, 28, 60].map(load).into_iter().collect();
        assert_eq!(seen, [83, 0xc000_003e, 2, 1, 1, 3, 2, u32::MAX].map(Some));
        assert_eq!(load(64), None, "outside of seccomp_data");
        assert_eq!(load(2), None, "not on a word");
    }

    #[test]
    fn jumps_choose_by_the_call() {
        assert_eq!(run(&deny(83, 0x5_0001), &data(83)), Some(0x5_0001));
        assert_eq!(run(&deny(83, 0x5_0001), &data(84)), Some(0x7fff_0000));
    }

    #[test]
    fn arithmetic_is_the_kernels() {
        let alu = |code, a, k| run(&[ins(0, 0, 0, a), ins(code, 0, 0, k), ins(0x16, 0, 0, 0)], &data(0));
        assert_eq!(alu(0x04, u32::MAX, 2), Some(1), "add wraps");
        assert_eq!(alu(0x34, 7, 0), Some(0), "division by zero ends the program with 0");
        assert_eq!(alu(0x34, 7, 2), Some(3));
        assert_eq!(alu(0x54, 0xff, 0x0f), Some(0x0f));
        assert_eq!(alu(0xa4, 0xff, 0x0f), Some(0xf0));
        assert_eq!(alu(0x84, 1, 0), Some(u32::MAX), "neg");
        assert_eq!(alu(0x94, 7, 2), None, "modulo is refused by the kernel");
    }

    #[test]
    fn memory_keeps_words() {
        let program = [ins(0, 0, 0, 9), ins(2, 0, 0, 15), ins(0, 0, 0, 0), ins(0x60, 0, 0, 15), ins(0x16, 0, 0, 0)];
        assert_eq!(run(&program, &data(0)), Some(9));
        assert_eq!(run(&[ins(2, 0, 0, 16)], &data(0)), None);
    }

    proptest! {
        #[test]
        fn arbitrary_programs_end_without_panic(raw in proptest::collection::vec(any::<[u8; 8]>(), 0..200), nr in any::<i32>()) {
            let program: Vec<_> = raw.into_iter().map(Instruction::from_bytes).collect();
            let _ = run(&program, &data(nr));
        }
    }
}
