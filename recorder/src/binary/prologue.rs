//! Where in a function a uprobe belongs.
//!
//! Linux emulates a few instructions under a uprobe and single-steps all others. Stepping costs
//! some ten times as much, and nearly every function begins with `endbr64`, which is stepped. So
//! we probe the first emulated instruction instead, as long as nothing the probe wants to read
//! has changed by then.
//!
//! What is emulated is decided by `branch_setup_xol_ops` and `push_setup_xol_ops` in the kernel's
//! `arch/x86/kernel/uprobes.c`: `push r64` without a prefix or with REX.B alone, `jmp`, `jcc` and
//! `call` with a relative target, `nop`. We accept only encodings without prefixes, because
//! kernels before 6.2 *refuse* to probe `66 90`, and leave out the multi-byte `nop`, which is
//! emulated since 6.16 only.

use std::collections::HashSet;

use iced_x86::{
    Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, OpAccess, OpKind, Register,
};

/// How far from its beginning a function is searched.
const SEARCH_BYTES: u64 = 64;

/// An integer argument register of the System V ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arg {
    /// First argument, or `this`.
    Rdi,
    /// Second argument.
    Rsi,
    /// Third argument.
    Rdx,
    /// Fourth argument.
    Rcx,
    /// Fifth argument.
    R8,
    /// Sixth argument.
    R9,
}

impl Arg {
    fn register(self) -> Register {
        match self {
            Self::Rdi => Register::RDI,
            Self::Rsi => Register::RSI,
            Self::Rdx => Register::RDX,
            Self::Rcx => Register::RCX,
            Self::R8 => Register::R8,
            Self::R9 => Register::R9,
        }
    }
}

/// The instruction to probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Site {
    /// Distance from the function's first byte.
    pub(crate) offset_in_function: u32,
    /// Whether the kernel emulates the instruction; if not, each hit costs a single step.
    pub(crate) emulated: bool,
    /// The instruction, for the reader of a log: `push r13`.
    pub(crate) instruction: String,
    /// Whether `rsp` differs from its value at entry, so that arguments on the stack and the
    /// return address are elsewhere.
    pub(crate) stack_moved: bool,
}

/// The best place for an entry probe that reads `args`.
///
/// `code` is the whole function, at `vaddr`. The place lies in the entry basic block, which its
/// terminating branch belongs to, so that it is passed exactly once per call. Without such a place
/// the answer is the entry itself, with `emulated` false.
pub(crate) fn probe_site(code: &[u8], vaddr: u64, args: &[Arg]) -> Site {
    let registers: Vec<Register> = args.iter().map(|arg| arg.register()).collect();
    find_site(code, vaddr, &registers)
}

/// The best place for a return probe: nothing may have moved `rsp`, since the kernel replaces the
/// return address where `rsp` points to.
pub(crate) fn return_site(code: &[u8], vaddr: u64) -> Site {
    find_site(code, vaddr, &[Register::RSP])
}

/// All instructions of a function that return from it.
pub(crate) fn return_instructions(code: &[u8], vaddr: u64) -> Vec<Site> {
    let decoder = Decoder::with_ip(64, code, vaddr, DecoderOptions::NONE);
    let returns = decoder.into_iter().filter(|it| it.flow_control() == FlowControl::Return);
    returns
        .filter_map(|it| {
            let offset_in_function = u32::try_from(it.ip().wrapping_sub(vaddr)).ok()?;
            Some(Site { offset_in_function, emulated: false, instruction: describe(&it), stack_moved: false })
        })
        .collect()
}

/// First emulated instruction before which none of `intact` is written, else the entry.
fn find_site(code: &[u8], vaddr: u64, intact: &[Register]) -> Site {
    let targets = early_branch_targets(code, vaddr);
    let mut factory = InstructionInfoFactory::new();
    let mut stack_moved = false;
    for instruction in &mut Decoder::with_ip(64, code, vaddr, DecoderOptions::NONE) {
        let offset = instruction.ip().wrapping_sub(vaddr);
        // Another way leads here as well: from here on, hits are no longer calls.
        let joined = offset > 0 && targets.contains(&offset);
        if instruction.is_invalid() || offset >= SEARCH_BYTES || joined {
            break;
        }
        if is_emulated(&instruction, code.get(offset as usize..).unwrap_or_default()) {
            return site(&instruction, offset, true, stack_moved);
        }
        if instruction.flow_control() != FlowControl::Next {
            break;
        }
        let info = factory.info(&instruction);
        let mut written = info
            .used_registers()
            .iter()
            .filter(|used| may_write(used.access()))
            .map(|used| used.register().full_register());
        if written.clone().any(|register| intact.contains(&register)) {
            break;
        }
        stack_moved |= written.any(|register| register == Register::RSP);
    }
    let entry = Decoder::with_ip(64, code, vaddr, DecoderOptions::NONE).decode();
    site(&entry, 0, false, false)
}

fn site(instruction: &Instruction, offset: u64, emulated: bool, stack_moved: bool) -> Site {
    Site {
        offset_in_function: offset as u32, // below SEARCH_BYTES
        emulated,
        instruction: describe(instruction),
        stack_moved,
    }
}

/// Mnemonic and, if it is a register, first operand.
pub(super) fn describe(instruction: &Instruction) -> String {
    let mut text = format!("{:?}", instruction.mnemonic()).to_lowercase();
    if instruction.op_count() > 0 && instruction.op0_kind() == OpKind::Register {
        text += &format!(" {:?}", instruction.op0_register()).to_lowercase();
    }
    text
}

fn may_write(access: OpAccess) -> bool {
    matches!(access, OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite)
}

/// Whether every kernel that we support emulates the instruction that `bytes` begins with.
pub(super) fn is_emulated(instruction: &Instruction, bytes: &[u8]) -> bool {
    let encoding = bytes.get(..instruction.len()).unwrap_or_default();
    matches!(
        *encoding,
        [0x50..=0x57 | 0x90] // push r64, nop
            | [0x41, 0x50..=0x57] // push r8 … r15
            | [0x70..=0x7f | 0xeb, _] // jcc, jmp rel8
            | [0xe8 | 0xe9, _, _, _, _] // call, jmp rel32
            | [0x0f, 0x80..=0x8f, _, _, _, _] // jcc rel32
    )
}

/// Offsets in the searched part that some jump of the function leads to.
///
/// Calls do not count: a function that calls itself is entered anew. Jump tables are not seen;
/// they do not lead into entry blocks.
fn early_branch_targets(code: &[u8], vaddr: u64) -> HashSet<u64> {
    Decoder::with_ip(64, code, vaddr, DecoderOptions::NONE)
        .iter()
        .filter(|instruction| {
            matches!(
                instruction.flow_control(),
                FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch
            )
        })
        .map(|instruction| instruction.near_branch_target().wrapping_sub(vaddr))
        .filter(|&offset| offset < SEARCH_BYTES)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry_site(code: &[u8], args: &[Arg]) -> (u32, bool, String, bool) {
        let site = probe_site(code, 0x1000, args);
        (site.offset_in_function, site.emulated, site.instruction, site.stack_moved)
    }

    /// Bytes of node-llama-cpp 3.22.1, libggml-cpu-haswell.so (GCC 11).
    const EXTRA_COMPUTE_FORWARD: &[u8] = &[
        0xf3, 0x0f, 0x1e, 0xfa, 0x41, 0x55, 0x49, 0x89, 0xfd, 0x41, 0x54, 0x49, 0x89, 0xf4, 0x55, 0x53, 0x48,
        0x83, 0xec, 0x08,
    ];
    const BARRIER: &[u8] = &[
        0xf3, 0x0f, 0x1e, 0xfa, 0x8b, 0x47, 0x68, 0x0f, 0xb7, 0xf0, 0x66, 0x83, 0xf8, 0x01, 0x74, 0x3e, 0x8b,
        0x97, 0xc0, 0x00, 0x00, 0x00,
    ];
    const RMS_NORM_MUL_FUSED: &[u8] = &[
        0xf3, 0x0f, 0x1e, 0xfa, 0x4c, 0x8d, 0x54, 0x24, 0x08, 0x48, 0x83, 0xe4, 0xe0, 0x48, 0x89, 0xd0, 0x41,
        0xff, 0x72, 0xf8, 0x55, 0x48, 0x89, 0xe5, 0x41, 0x57,
    ];

    #[test]
    fn the_first_push_is_taken_behind_endbr64() {
        let site = entry_site(EXTRA_COMPUTE_FORWARD, &[Arg::Rdi, Arg::Rsi]);
        assert_eq!(site, (4, true, "push r13".to_owned(), false));
        assert_eq!(return_site(EXTRA_COMPUTE_FORWARD, 0).offset_in_function, 4);
    }

    #[test]
    fn every_return_is_found() {
        // test edi, edi; je +1; ret; push rbx; pop rbx; ret
        let code = [0x85, 0xff, 0x74, 0x01, 0xc3, 0x53, 0x5b, 0xc3];
        let offsets: Vec<u32> =
            return_instructions(&code, 0x1000).iter().map(|site| site.offset_in_function).collect();
        assert_eq!(offsets, [4, 7]);
    }

    #[test]
    fn the_branch_that_ends_the_block_is_taken() {
        let wanted = (14, true, "je".to_owned(), false);
        assert_eq!(entry_site(BARRIER, &[Arg::Rdi]), wanted);
        // `movzx esi, ax` comes before the branch.
        assert_eq!(entry_site(BARRIER, &[Arg::Rsi]), (0, false, "endbr64".to_owned(), false));
        assert_eq!(return_site(BARRIER, 0).offset_in_function, 14);
    }

    #[test]
    fn a_realigned_stack_is_reported_and_bars_return_probes() {
        let site = entry_site(RMS_NORM_MUL_FUSED, &[Arg::Rdi, Arg::Rsi, Arg::Rdx]);
        assert_eq!(site, (20, true, "push rbp".to_owned(), true));
        let site = return_site(RMS_NORM_MUL_FUSED, 0);
        assert_eq!((site.offset_in_function, site.emulated), (0, false));
    }

    #[test]
    fn a_loop_head_is_no_site() {
        // inc eax; push rbx; pop rbx; jmp to the push
        let code = [0xff, 0xc0, 0x53, 0x5b, 0xeb, 0xfc];
        assert_eq!(entry_site(&code, &[]), (0, false, "inc eax".to_owned(), false));
        // Without the jump it would be.
        assert_eq!(entry_site(&[0xff, 0xc0, 0x53, 0x5b, 0xc3], &[]).0, 2);
    }

    #[test]
    fn writing_half_of_an_argument_spoils_it() {
        // mov edi,edi; push rbx
        let code = [0x89, 0xff, 0x53, 0xc3];
        assert!(!entry_site(&code, &[Arg::Rdi]).1);
        assert!(entry_site(&code, &[Arg::Rsi]).1);
    }

    #[test]
    fn prefixed_and_long_nops_are_not_trusted() {
        // xchg ax,ax (66 90), pause (f3 90), nopl (0f 1f 00), then push r12
        let code = [0x66, 0x90, 0xf3, 0x90, 0x0f, 0x1f, 0x00, 0x41, 0x54];
        assert_eq!(entry_site(&code, &[]), (7, true, "push r12".to_owned(), false));
        // A REX.W push is legal, but stepped.
        assert!(!entry_site(&[0x48, 0x53, 0xc3], &[]).1);
    }

    #[test]
    fn the_search_stops_at_returns_garbage_and_the_limit() {
        assert!(!entry_site(&[], &[]).1);
        assert!(!entry_site(&[0xc3, 0x53], &[]).1);
        assert!(!entry_site(&[0x06, 0x53], &[]).1);
        assert!(!entry_site(&[0xff, 0xe0, 0x53], &[]).1);
        let mut far = vec![0xf8; 64]; // clc
        far.push(0x53);
        assert!(!entry_site(&far, &[]).1);
        far.remove(0);
        assert_eq!(entry_site(&far, &[]).0, 63);
    }

    #[test]
    fn random_code_never_panics() {
        for code in crate::binary::fixtures::random_code() {
            entry_site(&code, &[Arg::Rdi, Arg::Rsi, Arg::Rdx]);
            return_site(&code, u64::MAX - 20);
        }
    }
}
