//! What a getter of the target returns, found by reading along instead of calling it.
//!
//! `ggml_backend_i.get_name` and its like return a constant, or follow a few pointers from
//! their argument: `mov rax, [rdi + 0x90]; mov rax, [rax]; ret` is the `c_str()` of a
//! `std::string` in the backend's context. We do what a short piece of straight code of
//! loads and moves does, with the target's memory, and give up at anything else.

use super::tables::{Memory, read_string};
use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};

/// Getters are far shorter.
const MAX_INSTRUCTIONS: usize = 16;
const GENERAL_REGISTERS: usize = 16;

/// The text that the getter at `vaddr` returns for `argument`.
pub(crate) fn returned_text(code: &[u8], vaddr: u64, argument: u64, memory: &dyn Memory) -> Option<String> {
    read_string(memory, returned(code, vaddr, argument, memory)?)
}

/// What the getter at `vaddr` returns for `argument`; `None` for code that we do not follow.
pub(crate) fn returned(code: &[u8], vaddr: u64, argument: u64, memory: &dyn Memory) -> Option<u64> {
    let mut registers = Registers([None; GENERAL_REGISTERS]);
    registers.set(Register::RDI, Some(argument));
    let decoder = Decoder::with_ip(64, code, vaddr, DecoderOptions::NONE);
    for instruction in decoder.into_iter().take(MAX_INSTRUCTIONS) {
        match instruction.mnemonic() {
            Mnemonic::Endbr64 | Mnemonic::Nop | Mnemonic::Test | Mnemonic::Cmp => {}
            Mnemonic::Ret => return registers.get(Register::RAX),
            Mnemonic::Mov | Mnemonic::Lea | Mnemonic::Xor => registers.step(&instruction, memory)?,
            _ => return None,
        }
    }
    None
}

/// What each general register holds, where that is known.
struct Registers([Option<u64>; GENERAL_REGISTERS]);

impl Registers {
    fn get(&self, register: Register) -> Option<u64> {
        let full = register.full_register();
        full.is_gpr64().then(|| self.0.get(full.number()).copied().flatten()).flatten()
    }

    fn set(&mut self, register: Register, value: Option<u64>) {
        if let Some(slot) = self.0.get_mut(register.full_register().number()) {
            *slot = value;
        }
    }

    /// One move to a register of 32 or 64 bits.
    fn step(&mut self, instruction: &Instruction, memory: &dyn Memory) -> Option<()> {
        let to = instruction.op0_register();
        // Of a byte, such as a `bool`, the rest is not known, and not asked for.
        if instruction.op0_kind() != OpKind::Register || !to.is_gpr() || to.is_gpr16() {
            return None;
        }
        let value = match (instruction.mnemonic(), instruction.op1_kind()) {
            (Mnemonic::Xor, OpKind::Register) if instruction.op1_register() == to => Some(0),
            (Mnemonic::Lea, OpKind::Memory) => self.address(instruction),
            (Mnemonic::Mov, OpKind::Register) => self.get(instruction.op1_register()),
            (Mnemonic::Mov, OpKind::Memory) => {
                let mut bytes = [0; 8];
                let wanted = bytes.get_mut(..instruction.memory_size().size())?;
                memory.read(self.address(instruction)?, wanted).then_some(u64::from_le_bytes(bytes))
            }
            (Mnemonic::Mov, _) => Some(instruction.try_immediate(1).ok()?),
            _ => return None,
        };
        let narrow = |value: u64| if to.is_gpr32() { value & 0xffff_ffff } else { value };
        self.set(to, value.map(narrow));
        Some(())
    }

    fn address(&self, instruction: &Instruction) -> Option<u64> {
        if instruction.segment_prefix() != Register::None || instruction.memory_index() != Register::None {
            return None;
        }
        if instruction.is_ip_rel_memory_operand() {
            return Some(instruction.ip_rel_memory_address());
        }
        let base = match instruction.memory_base() {
            Register::None => 0,
            base => self.get(base)?,
        };
        Some(base.wrapping_add(instruction.memory_displacement64()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binary::fixtures::{Range, add_text, add_words, random_code};

    #[test]
    fn constants_and_strings_of_contexts_are_read() {
        let mut memory = Range { start: 0x1000, bytes: Vec::new() };
        let text = add_text(&mut memory, "Vulkan0");
        let context = add_words(&mut memory, &[text, 7]);
        let backend = add_words(&mut memory, &[0, 0, context]);
        memory.bytes.extend([0; 64]);
        // endbr64; mov rax,[rdi+0x10]; mov rax,[rax]; ret
        let getter = [0xf3, 0x0f, 0x1e, 0xfa, 0x48, 0x8b, 0x47, 0x10, 0x48, 0x8b, 0x00, 0xc3];
        assert_eq!(returned_text(&getter, 0x4000, backend, &memory).as_deref(), Some("Vulkan0"));
        assert_eq!(returned_text(&getter, 0x4000, 0x9000, &memory), None);
        // lea rax,[rip+…]; ret
        let mut constant = vec![0x48, 0x8d, 0x05];
        constant.extend((text.wrapping_sub(0x4007) as u32).to_le_bytes());
        constant.push(0xc3);
        assert_eq!(returned_text(&constant, 0x4000, 0, &memory).as_deref(), Some("Vulkan0"));
        // mov eax,1; ret
        assert_eq!(returned(&[0xb8, 1, 0, 0, 0, 0xc3], 0, 0, &memory), Some(1));
    }

    #[test]
    fn other_code_says_nothing() {
        let memory = Range { start: 0, bytes: vec![0; 64] };
        // call +0; jmp -2; push rbx; mov [rdi],rax
        for code in
            [&[0xe8, 0, 0, 0, 0, 0xc3][..], &[0xeb, 0xfe], &[0x53, 0xc3], &[0x48, 0x89, 0x07, 0xc3], &[]]
        {
            assert_eq!(returned(code, 0, 8, &memory), None);
        }
        // What was never set is not known.
        assert_eq!(returned(&[0xc3], 0, 8, &memory), None);
        for code in random_code() {
            returned(&code, 0, 16, &memory);
        }
    }
}
