//! Reads small accessor functions without executing them.
//!
//! `ggml_op_name` and its like do one thing: turn an argument into an address and load from it.
//! We follow the code with values of the form `per_arg × first argument + constant`, which is
//! enough for field offsets (`1 × tensor + 256`), table elements (`56 × type + table`) and string
//! constants (`0 × … + string`), however the compiler multiplies.
//!
//! Control flow is followed forwards; where paths meet, values that differ become unknown.
//! Functions with loops say nothing. Code spilling its argument to the stack (`-O0`) is not
//! understood.

use std::collections::HashMap;

use iced_x86::{
    Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind,
    Register,
};

/// Accessors are far shorter.
const MAX_INSTRUCTIONS: usize = 64;
const GENERAL_REGISTERS: usize = 16;

/// `per_arg × first argument + constant`, modulo 2⁶⁴.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Affine {
    pub(super) per_arg: u64,
    pub(super) constant: u64,
}

impl Affine {
    const ARGUMENT: Self = Self { per_arg: 1, constant: 0 };

    fn constant(constant: u64) -> Self {
        Self { per_arg: 0, constant }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            per_arg: self.per_arg.wrapping_add(other.per_arg),
            constant: self.constant.wrapping_add(other.constant),
        }
    }

    fn times(self, factor: u64) -> Self {
        Self { per_arg: self.per_arg.wrapping_mul(factor), constant: self.constant.wrapping_mul(factor) }
    }
}

/// Something the function does, in the order of its code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fact {
    /// It reads `bytes` bytes.
    Load { from: Affine, bytes: usize },
    /// It compares what is stored there with a number.
    Compare { at: Affine, number: u64 },
    /// It returns this.
    Return(Affine),
}

/// What a register holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Value {
    Unknown,
    Known(Affine),
    LoadedFrom(Affine),
}

/// What each general register holds.
#[derive(Clone, Copy, PartialEq, Eq)]
struct State([Value; GENERAL_REGISTERS]);

impl State {
    fn at_entry() -> Self {
        let mut state = Self([Value::Unknown; GENERAL_REGISTERS]);
        state.set(Register::RDI, Value::Known(Affine::ARGUMENT));
        state
    }

    fn get(&self, register: Register) -> Value {
        general(register).and_then(|index| self.0.get(index)).copied().unwrap_or(Value::Unknown)
    }

    /// The affine value of a register, with that of "no register" being zero.
    fn known(&self, register: Register) -> Option<Affine> {
        match (register, self.get(register)) {
            (Register::None, _) => Some(Affine::constant(0)),
            (_, Value::Known(value)) => Some(value),
            _ => None,
        }
    }

    fn set(&mut self, register: Register, value: Value) {
        if let Some(slot) = general(register).and_then(|index| self.0.get_mut(index)) {
            *slot = value;
        }
    }

    fn meet(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            if *mine != theirs {
                *mine = Value::Unknown;
            }
        }
    }
}

fn general(register: Register) -> Option<usize> {
    let full = register.full_register();
    full.is_gpr64().then(|| full.number())
}

/// What the function at `vaddr` does; addresses in the answer are relative to the same base.
pub(super) fn facts(code: &[u8], vaddr: u64) -> Vec<Fact> {
    let mut facts = Vec::new();
    let mut factory = InstructionInfoFactory::new();
    // States on jumps to places not reached yet.
    let mut pending: HashMap<u64, State> = HashMap::new();
    let mut current = Some(State::at_entry());
    let decoder = Decoder::with_ip(64, code, vaddr, DecoderOptions::NONE);
    for instruction in decoder.into_iter().take(MAX_INSTRUCTIONS) {
        if instruction.is_invalid() {
            break;
        }
        current = match (current, pending.remove(&instruction.ip())) {
            (Some(mut fallen), Some(jumped)) => {
                fallen.meet(&jumped);
                Some(fallen)
            }
            (fallen, jumped) => fallen.or(jumped),
        };
        let Some(mut state) = current else { continue };
        let flow = instruction.flow_control();
        if matches!(flow, FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch) {
            let target = instruction.near_branch_target();
            if target <= instruction.ip() && target >= vaddr {
                return Vec::new();
            }
            pending.entry(target).and_modify(|other| other.meet(&state)).or_insert(state);
        }
        if flow == FlowControl::Return
            && let Some(value) = state.known(Register::RAX)
        {
            facts.push(Fact::Return(value));
        }
        current = match flow {
            FlowControl::Next => {
                step(&instruction, &mut state, &mut factory, &mut facts);
                Some(state)
            }
            FlowControl::ConditionalBranch => Some(state),
            // The accessors of an interface go where one of its fields leads.
            FlowControl::IndirectBranch | FlowControl::IndirectCall => {
                if let Some(from) = memory_address(&instruction, &state) {
                    facts.push(Fact::Load { from, bytes: 8 });
                }
                None
            }
            // A call clobbers what we know; no accessor needs it afterwards.
            _ => None,
        };
    }
    facts
}

/// The effect of one instruction that is not a branch.
fn step(
    instruction: &Instruction,
    state: &mut State,
    factory: &mut InstructionInfoFactory,
    facts: &mut Vec<Fact>,
) {
    let address = memory_address(instruction, state);
    let reads_memory = (0..instruction.op_count())
        .any(|i| instruction.op_kind(i) == OpKind::Memory && instruction.mnemonic() != Mnemonic::Lea);
    if let Some(from) = address.filter(|_| reads_memory) {
        facts.push(Fact::Load { from, bytes: instruction.memory_size().size() });
    }
    if instruction.mnemonic() == Mnemonic::Cmp {
        let at = match instruction.op0_kind() {
            OpKind::Memory => address,
            OpKind::Register => match state.get(instruction.op0_register()) {
                Value::LoadedFrom(at) => Some(at),
                _ => None,
            },
            _ => None,
        };
        if let (Some(at), Some(number)) = (at, immediate(instruction, 1)) {
            facts.push(Fact::Compare { at, number });
        }
    }
    let result = result_of(instruction, state, address);
    for used in factory.info(instruction).used_registers() {
        if !matches!(used.access(), OpAccess::Read | OpAccess::CondRead | OpAccess::None) {
            state.set(used.register(), Value::Unknown);
        }
    }
    // A result implies that the first operand is a register.
    if let Some(value) = result {
        state.set(instruction.op0_register(), value);
    }
}

/// What the first operand holds afterwards; `None` if it is not one of the forms we follow.
///
/// Operands of 32 and 64 bits are treated alike: an enum argument is small and not negative.
fn result_of(instruction: &Instruction, state: &State, address: Option<Affine>) -> Option<Value> {
    let destination = instruction.op0_register();
    let is_register = instruction.op_count() > 0 && instruction.op0_kind() == OpKind::Register;
    if !is_register || !(destination.is_gpr64() || destination.is_gpr32()) {
        return None;
    }
    let old = state.known(destination);
    let number = immediate(instruction, 1);
    let source = match instruction.op1_kind() {
        OpKind::Register => state.known(instruction.op1_register()),
        _ => number.map(Affine::constant),
    };
    let known = match instruction.mnemonic() {
        Mnemonic::Lea => address,
        Mnemonic::Mov | Mnemonic::Movsxd if instruction.op1_kind() == OpKind::Memory => {
            return address.map(Value::LoadedFrom);
        }
        Mnemonic::Mov | Mnemonic::Movsxd => source,
        Mnemonic::Xor if destination == instruction.op1_register() => Some(Affine::constant(0)),
        Mnemonic::Add => old.zip(source).map(|(a, b)| a.plus(b)),
        Mnemonic::Sub => old.zip(source).map(|(a, b)| a.plus(b.times(u64::MAX))),
        Mnemonic::Shl => old.zip(number).map(|(a, n)| a.times(1u64.wrapping_shl(n as u32))),
        Mnemonic::Imul if instruction.op_count() == 3 => {
            source.zip(immediate(instruction, 2)).map(|(a, n)| a.times(n))
        }
        _ => None,
    };
    known.map(Value::Known)
}

/// The address of the memory operand, if there is one and it can be told.
fn memory_address(instruction: &Instruction, state: &State) -> Option<Affine> {
    if !(0..instruction.op_count()).any(|i| instruction.op_kind(i) == OpKind::Memory)
        || instruction.segment_prefix() != Register::None
    {
        return None;
    }
    if instruction.is_ip_rel_memory_operand() {
        return Some(Affine::constant(instruction.ip_rel_memory_address()));
    }
    let base = state.known(instruction.memory_base())?;
    let index = state.known(instruction.memory_index())?;
    let scaled = index.times(u64::from(instruction.memory_index_scale()));
    Some(base.plus(scaled).plus(Affine::constant(instruction.memory_displacement64())))
}

fn immediate(instruction: &Instruction, operand: u32) -> Option<u64> {
    let has = operand < instruction.op_count();
    has.then(|| instruction.try_immediate(operand).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn affine(per_arg: u64, constant: u64) -> Affine {
        Affine { per_arg, constant }
    }

    #[test]
    fn shift_and_subtract_multiplies_by_fifty_six() {
        // ggml_type_name of node-llama-cpp 3.22.1 (GCC 11): endbr64; mov edi,edi;
        // lea rdx,[rip+0xadaf3]; lea rax,[rdi*8]; sub rax,rdi; mov rax,[rdx+rax*8]; ret
        let code = [
            0xf3, 0x0f, 0x1e, 0xfa, 0x89, 0xff, 0x48, 0x8d, 0x15, 0xf3, 0xda, 0x0a, 0x00, 0x48, 0x8d, 0x04,
            0xfd, 0, 0, 0, 0, 0x48, 0x29, 0xf8, 0x48, 0x8b, 0x04, 0xc2, 0xc3,
        ];
        let wanted = Fact::Load { from: affine(56, 0xcc380), bytes: 8 };
        assert_eq!(facts(&code, 0x1e880), [wanted]);
    }

    #[test]
    fn multiplication_and_absolute_tables_are_followed() {
        // imul rax,rdi,56; mov rax,[rax+0x404000]; ret
        let code = [0x48, 0x6b, 0xc7, 0x38, 0x48, 0x8b, 0x80, 0x00, 0x40, 0x40, 0x00, 0xc3];
        assert_eq!(facts(&code, 0), [Fact::Load { from: affine(56, 0x40_4000), bytes: 8 }]);
    }

    #[test]
    fn a_loaded_field_may_be_compared_in_a_register() {
        // mov eax,[rdi+0x50]; cmp eax,0x5b; jne +4; mov eax,[rdi+0x54]; ret; ud2
        let code = [0x8b, 0x47, 0x50, 0x83, 0xf8, 0x5b, 0x75, 0x04, 0x8b, 0x47, 0x54, 0xc3, 0x0f, 0x0b];
        let found = facts(&code, 0x100);
        assert!(found.contains(&Fact::Compare { at: affine(1, 0x50), number: 0x5b }));
        assert!(found.contains(&Fact::Load { from: affine(1, 0x54), bytes: 4 }));
    }

    #[test]
    fn values_that_differ_between_paths_are_unknown() {
        // lea rax,[rip+0x100]; cmp edi,3; ja +3; mov eax,7 … joined at ret
        let code = [0x48, 0x8d, 0x05, 0x00, 0x01, 0, 0, 0x83, 0xff, 0x03, 0x77, 0x05, 0xb8, 7, 0, 0, 0, 0xc3];
        assert_eq!(facts(&code, 0x1000), []);
    }

    #[test]
    fn a_null_result_is_the_constant_zero() {
        assert_eq!(facts(&[0x31, 0xc0, 0xc3], 0), [Fact::Return(affine(0, 0))]);
    }

    #[test]
    fn loops_and_garbage_say_nothing() {
        assert_eq!(facts(&[0x90, 0xeb, 0xfd], 0x10), []);
        assert_eq!(facts(&[0x06, 0xff, 0xff], 0), []);
        assert_eq!(facts(&[], 0), []);
    }

    #[test]
    fn random_code_never_panics() {
        for code in crate::binary::fixtures::random_code() {
            facts(&code, 0);
            facts(&code, u64::MAX - 20);
        }
    }
}
