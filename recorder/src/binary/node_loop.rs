//! Where the loop over a graph's nodes meets its barriers.
//!
//! Each thread computes its part of a node and then waits for the others. `ggml_barrier` is also
//! called inside operators, so a probe at its entry is hit half as often again as needed. The
//! calls in the loop itself are few, and a `call` is cheap to probe. Clang leaves no call: it
//! copies the barrier into the loop, where we find it by the counter that every thread increments.
//!
//! ```text
//!   loop:  …                                    loop:  …
//!          call ggml_cpu_extra_compute_forward         call ggml_cpu_extra_compute_forward
//!          …                                           …
//!          call ggml_barrier        ◄── site           cmp  n_threads, 1
//!          jmp  loop                                   je   loop             ◄── site
//!                                                      lock xadd [tp + 0x80], 1
//!                                                      cmp  …, n_threads - 1
//!                                                      jne  wait             ◄── else this one
//! ```
//!
//! The loop is the function from whose call of `ggml_cpu_extra_compute_forward` execution comes
//! back to that call. Until 2025 that call was in a function of its own with GCC; then the
//! function's call plays its part.

use std::collections::VecDeque;
use std::ops::Range;

use iced_x86::{Code, ConditionCode, Decoder, DecoderOptions, FlowControl, Instruction, OpKind, Register};

use super::elf::Object;
use super::frames::{Frames, symbol_at};
use super::plt::{Callee, Imports, Text};
use super::prologue::{describe, is_emulated};

/// Called once for each node by each thread, from one place.
const BEGIN: &str = "ggml_cpu_extra_compute_forward";
const BARRIER: &str = "ggml_barrier";
/// What a barrier consists of in builds with OpenMP, where it is small enough to be inlined.
const OPENMP_BARRIERS: &[&str] = &["GOMP_barrier", "__kmpc_barrier"];
/// From the call of `BEGIN` up to the loop.
const MAX_LEVELS: usize = 2;
/// More callers than that are not what we look for; there is one.
const MAX_CALLERS: usize = 8;
/// The loop has 24 KB, with many operators inlined.
const MAX_FUNCTION_BYTES: u64 = 1 << 20;
/// The comparison with one thread is at most so many instructions before the counter.
const MAX_BARRIER_HEAD: usize = 8;

/// How a barrier appears in the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BarrierKind {
    /// The site is the call.
    Call,
    /// The site is an instruction of the inlined barrier, passed once by each arriving thread.
    Inlined {
        /// Whether a thread that is alone gets there. Barriers return early for it; if this is
        /// false, such a graph shows no arrivals.
        passed_when_alone: bool,
    },
}

/// An instruction to probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LoopSite {
    /// Its address as linked.
    pub(crate) vaddr: u64,
    /// The instruction, for the reader of a log: `call`.
    pub(crate) instruction: String,
    pub(crate) kind: BarrierKind,
    /// Whether the kernel emulates the instruction; if not, each hit costs a single step.
    pub(crate) emulated: bool,
    /// Whether a node ends here, or the graph. The others belong to operators that were inlined.
    pub(crate) closing: bool,
}

/// The loop over the nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodeLoop {
    /// The functions that contain it, as linked. More than one if the compiler made copies.
    pub(crate) functions: Vec<Range<u64>>,
    /// Barriers of all these functions, ascending. At least one per function is closing.
    pub(crate) sites: Vec<LoopSite>,
    /// Whether the compiler inlined the barrier.
    pub(crate) inlined: bool,
}

/// Finds the barriers of the loop over the nodes.
///
/// The object must have been opened with `ggml_cpu_extra_compute_forward` and `ggml_barrier`
/// among its kept symbols. `None` if the loop is not in this object or is not recognised; then
/// the entry of `ggml_barrier` is all there is to probe.
pub(crate) fn barrier_sites(object: &Object) -> Option<NodeLoop> {
    let begin = object.symbol(BEGIN)?.vaddr;
    let barrier = object.symbol(BARRIER).map(|symbol| symbol.vaddr);
    let text = Text::read(object, barrier.unwrap_or(begin))?;
    let imports = Imports::read(object);
    let frames = Frames::read(object);
    let barrier = Callee::find(&imports, &text, barrier, &[BARRIER]);
    let openmp = Callee::find(&imports, &text, None, OPENMP_BARRIERS);
    let mut callee = Callee::find(&imports, &text, Some(begin), &[BEGIN]);
    for _ in 0..MAX_LEVELS {
        let bodies = callers(object, frames.as_ref(), &text, &callee)?;
        let passed: Option<Vec<_>> = bodies.iter().map(|body| body.passed_after(&callee)).collect();
        if let Some(passed) = passed {
            let mut sites = Vec::new();
            for (body, passed) in bodies.iter().zip(&passed) {
                sites.extend(body.barriers(passed, &barrier, &openmp)?);
            }
            sites.sort_unstable_by_key(|site| site.vaddr);
            let inlined = sites.iter().any(|site| site.kind != BarrierKind::Call);
            return Some(NodeLoop {
                functions: bodies.into_iter().map(|body| body.range).collect(),
                sites,
                inlined,
            });
        }
        callee =
            bodies.iter().map(|body| Callee::local(body.range.start)).fold(Callee::default(), Callee::or);
    }
    None
}

/// The functions that call `callee`; `None` unless all of them are known.
fn callers(object: &Object, frames: Option<&Frames>, text: &Text, callee: &Callee) -> Option<Vec<Body>> {
    let mut bodies: Vec<Body> = Vec::new();
    for call in text.calls(callee) {
        if bodies.iter().any(|body| body.range.contains(&call)) {
            continue;
        }
        let range = frames.and_then(|frames| frames.function_at(call)).or_else(|| symbol_at(object, call))?;
        if bodies.len() == MAX_CALLERS {
            return None;
        }
        bodies.push(Body::read(object, range)?);
    }
    // A constant may look like a call.
    bodies.retain(|body| body.instructions.iter().any(|instruction| callee.is_called_by(instruction)));
    (!bodies.is_empty()).then_some(bodies)
}

/// One disassembled function.
struct Body {
    range: Range<u64>,
    bytes: Vec<u8>,
    instructions: Vec<Instruction>,
}

impl Body {
    fn read(object: &Object, range: Range<u64>) -> Option<Self> {
        let len = range.end.checked_sub(range.start).filter(|&len| len <= MAX_FUNCTION_BYTES)?;
        Some(Self::decode(range.clone(), object.bytes_at_vaddr(range.start, len)?))
    }

    fn decode(range: Range<u64>, bytes: Vec<u8>) -> Self {
        let instructions =
            Decoder::with_ip(64, &bytes, range.start, DecoderOptions::NONE).into_iter().collect();
        Self { range, bytes, instructions }
    }

    fn index_of(&self, vaddr: u64) -> Option<usize> {
        self.instructions.binary_search_by_key(&vaddr, Instruction::ip).ok()
    }

    /// The barriers in the loop, given what [`Body::passed_after`] tells; `None` if none is closing.
    fn barriers(&self, passed: &[bool], barrier: &Callee, openmp: &Callee) -> Option<Vec<LoopSite>> {
        let joins = self.joins();
        let call = |index, closing| self.site(index, BarrierKind::Call, closing);
        let inlined = |index, closing| self.inlined_site(index, &joins, closing);
        self.sites(passed, &|instruction| barrier.is_called_by(instruction), &call)
            .or_else(|| self.sites(passed, &|instruction| openmp.is_called_by(instruction), &inlined))
            .or_else(|| {
                let mut counters = self.instructions.iter().zip(passed);
                let (first, _) = counters.find(|&(i, &passed)| passed && counts_arrivals(i))?;
                // Operators count chunks of work in the same way, in another field.
                let field = first.memory_displacement64();
                let wanted = |i: &Instruction| counts_arrivals(i) && i.memory_displacement64() == field;
                self.sites(passed, &wanted, &inlined)
            })
    }

    /// A site for each instruction that is `wanted`, if one of them is closing.
    fn sites(
        &self,
        passed: &[bool],
        wanted: &dyn Fn(&Instruction) -> bool,
        site: &dyn Fn(usize, bool) -> LoopSite,
    ) -> Option<Vec<LoopSite>> {
        let found = (0..).zip(&self.instructions).zip(passed).filter(|((_, i), _)| wanted(i));
        let sites: Vec<LoopSite> = found.map(|((index, _), &closing)| site(index, closing)).collect();
        sites.iter().any(|site| site.closing).then_some(sites)
    }

    /// For each instruction, whether it can follow the call of `begin` before the next one.
    ///
    /// Only direct branches are followed. The operators hang on a jump table, so that their code
    /// is not reached, but what comes after them is: it also follows when `begin` has done the
    /// work itself. `None` if the next call is not reached: then there is no loop.
    fn passed_after(&self, begin: &Callee) -> Option<Vec<bool>> {
        let calls: Vec<bool> =
            self.instructions.iter().map(|instruction| begin.is_called_by(instruction)).collect();
        let mut passed = vec![false; self.instructions.len()];
        let mut looped = false;
        let mut queue: VecDeque<usize> =
            (1..).zip(&calls).filter(|&(_, &call)| call).map(|(next, _)| next).collect();
        while let Some(index) = queue.pop_front() {
            let (Some(instruction), Some(seen)) = (self.instructions.get(index), passed.get_mut(index))
            else {
                continue;
            };
            if calls.get(index) == Some(&true) {
                looped = true;
                continue;
            }
            if std::mem::replace(seen, true) || instruction.is_invalid() {
                continue;
            }
            let (falls_through, branches) = match instruction.flow_control() {
                FlowControl::Next | FlowControl::Call | FlowControl::IndirectCall => (true, false),
                FlowControl::ConditionalBranch => (true, true),
                FlowControl::UnconditionalBranch => (false, true),
                _ => (false, false),
            };
            if falls_through {
                queue.push_back(index + 1);
            }
            if branches {
                queue.extend(self.index_of(instruction.near_branch_target()));
            }
        }
        looped.then_some(passed)
    }

    /// Targets of the function's direct branches, sorted.
    fn joins(&self) -> Vec<u64> {
        let mut joins: Vec<u64> = self
            .instructions
            .iter()
            .filter(|instruction| {
                matches!(
                    instruction.flow_control(),
                    FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch
                )
            })
            .map(Instruction::near_branch_target)
            .collect();
        joins.sort_unstable();
        joins
    }

    /// The instruction to probe for the inlined barrier whose arrival is the instruction at
    /// `arrival`: the increment of a counter or a call of the OpenMP library.
    fn inlined_site(&self, arrival: usize, joins: &[u64], closing: bool) -> LoopSite {
        if let Some(early) = self.comparison_with_one(arrival, joins) {
            return self.site(early, BarrierKind::Inlined { passed_when_alone: true }, closing);
        }
        let kind = BarrierKind::Inlined { passed_when_alone: false };
        for (index, instruction) in self.instructions.iter().enumerate().skip(arrival) {
            let joined = index > arrival && joins.binary_search(&instruction.ip()).is_ok();
            if instruction.is_invalid() || joined {
                break;
            }
            if self.emulated(instruction) {
                return self.site(index, kind, closing);
            }
            if instruction.flow_control() != FlowControl::Next {
                break;
            }
        }
        self.site(arrival, kind, closing)
    }

    /// The branch by which a barrier returns early if there is one thread, before `arrival`.
    ///
    /// It is passed exactly as often as the barrier is entered, if nothing else leads there.
    fn comparison_with_one(&self, arrival: usize, joins: &[u64]) -> Option<usize> {
        let mut branch = None;
        for index in (arrival.saturating_sub(MAX_BARRIER_HEAD)..arrival).rev() {
            let next = self.instructions.get(index + 1)?;
            let instruction = self.instructions.get(index)?;
            if instruction.is_invalid() || joins.binary_search(&next.ip()).is_ok() {
                return None;
            }
            match (instruction.flow_control(), branch) {
                (FlowControl::ConditionalBranch, None)
                    if instruction.condition_code() == ConditionCode::e && self.emulated(instruction) =>
                {
                    branch = Some(index);
                }
                (FlowControl::Next, Some(_)) if is_comparison_with_one(instruction) => return branch,
                (FlowControl::Next, Some(_)) if instruction.rflags_modified() != 0 => return None,
                (FlowControl::Next, _) => {}
                _ => return None,
            }
        }
        None
    }

    fn emulated(&self, instruction: &Instruction) -> bool {
        let offset = usize::try_from(instruction.ip().wrapping_sub(self.range.start)).ok();
        let bytes = offset.and_then(|offset| self.bytes.get(offset..)).unwrap_or_default();
        is_emulated(instruction, bytes)
    }

    fn site(&self, index: usize, kind: BarrierKind, closing: bool) -> LoopSite {
        let instruction = self.instructions.get(index).copied().unwrap_or_default();
        LoopSite {
            vaddr: instruction.ip(),
            instruction: describe(&instruction),
            kind,
            emulated: self.emulated(&instruction),
            closing,
        }
    }
}

/// Whether this is `lock xadd [register + constant], r32`, which increments and tells the value
/// before.
fn counts_arrivals(instruction: &Instruction) -> bool {
    instruction.code() == Code::Xadd_rm32_r32
        && instruction.has_lock_prefix()
        && instruction.op0_kind() == OpKind::Memory
        && instruction.memory_base() != Register::None
        && instruction.memory_index() == Register::None
}

fn is_comparison_with_one(instruction: &Instruction) -> bool {
    let compares = matches!(
        instruction.code(),
        Code::Cmp_rm32_imm8 | Code::Cmp_rm32_imm32 | Code::Cmp_EAX_imm32 | Code::Cmp_rm16_imm8
    );
    compares && instruction.immediate(1) == 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binary::BinaryError;
    use crate::binary::fixtures::{put, random_code, segment, tiny_elf};

    const FUNCTION: u64 = 0x700;
    const BEGIN_STUB: u64 = 0x404;
    const BARRIER_STUB: u64 = 0x414;
    const OPENMP_STUB: u64 = 0x424;

    fn body(code: &[u8]) -> Body {
        Body::decode(FUNCTION..FUNCTION + code.len() as u64, code.to_vec())
    }

    fn call(code: &mut Vec<u8>, target: u64) {
        let next = FUNCTION + code.len() as u64 + 5;
        code.push(0xe8);
        code.extend((target.wrapping_sub(next) as u32).to_le_bytes());
    }

    /// The shape of GCC's loop, with an operator that has a barrier of its own.
    fn loop_with_calls(begin: u64, barrier: u64) -> Vec<u8> {
        let mut code = vec![0x53]; // push rbx
        call(&mut code, begin);
        code.extend([0x84, 0xc0, 0x75, 0x07, 0xff, 0xe0]); // test al,al; jne; jmp rax
        call(&mut code, barrier); // 0x70c: the operator
        call(&mut code, barrier); // 0x711: end of node
        code.extend([0xff, 0xcb, 0x75, 0xe7]); // dec ebx; jne 0x701
        call(&mut code, barrier); // 0x71a: end of graph
        code.push(0xc3);
        code
    }

    /// Clang 14, ggml-cpu.c of llama.cpp 0c1e570, with shorter jumps. The loop begins at 0x700.
    fn loop_with_barrier_inside(one: u8) -> Vec<u8> {
        let mut code = Vec::new();
        call(&mut code, BEGIN_STUB);
        code.extend([0x8b, 0x48, 0x68]); // 0x705: mov ecx,[rax+0x68]
        code.extend([0x0f, 0xb7, 0xd1]); // 0x708: movzx edx,cx
        code.extend([0x83, 0xfa, one, 0x74, 0xf0]); // 0x70b: cmp edx,1; je 0x700
        code.extend([0x8b, 0x88, 0xc0, 0, 0, 0]); // 0x710: mov ecx,[rax+0xc0]
        code.extend([0xbe, 1, 0, 0, 0]); // 0x716: mov esi,1
        code.extend([0xf0, 0x0f, 0xc1, 0xb0, 0x80, 0, 0, 0]); // 0x71b: lock xadd [rax+0x80],esi
        code.extend([0x83, 0xc2, 0xff, 0x39, 0xd6]); // 0x723: add edx,-1; cmp esi,edx
        code.extend([0x75, 0x14]); // 0x728: jne 0x73e
        code.extend([0xc7, 0x80, 0x80, 0, 0, 0, 0, 0, 0, 0]); // 0x72a: mov [rax+0x80],0
        code.extend([0xf0, 0x83, 0x80, 0xc0, 0, 0, 0, 1]); // 0x734: lock add [rax+0xc0],1
        code.extend([0xeb, 0xc2]); // 0x73c: jmp 0x700
        code.extend([0x8b, 0x90, 0xc0, 0, 0, 0, 0x39, 0xca]); // 0x73e: mov edx,[rax+0xc0]; cmp edx,ecx
        code.extend([0x75, 0xb8, 0xf3, 0x90, 0xeb, 0xf2]); // 0x746: jne 0x700; pause; jmp 0x73e
        code.extend([0xf0, 0x0f, 0xc1, 0x06]); // an operator: lock xadd [rsi],eax
        code
    }

    fn sites_in(body: &Body) -> Option<Vec<LoopSite>> {
        let passed = body.passed_after(&Callee::local(BEGIN_STUB))?;
        body.barriers(&passed, &Callee::local(BARRIER_STUB), &Callee::local(OPENMP_STUB))
    }

    fn barriers(code: &[u8]) -> Option<Vec<LoopSite>> {
        sites_in(&body(code))
    }

    fn only_site(code: &[u8]) -> Option<(u64, String, BarrierKind, bool, bool)> {
        match barriers(code)?.as_slice() {
            [s] => Some((s.vaddr, s.instruction.clone(), s.kind, s.emulated, s.closing)),
            _ => None,
        }
    }

    fn places(sites: &[LoopSite]) -> Vec<(u64, bool)> {
        sites.iter().map(|site| (site.vaddr, site.closing)).collect()
    }

    #[test]
    fn calls_behind_the_jump_table_do_not_close_nodes() {
        let sites = barriers(&loop_with_calls(BEGIN_STUB, BARRIER_STUB)).unwrap();
        assert_eq!(places(&sites), [(0x70c, false), (0x711, true), (0x71a, true)]);
        assert!(sites.iter().all(|site| site.emulated && site.kind == BarrierKind::Call));
        assert!(sites.iter().all(|site| site.instruction == "call"));
    }

    #[test]
    fn without_a_way_back_it_is_no_loop() {
        let mut code = loop_with_calls(BEGIN_STUB, BARRIER_STUB);
        code[0x18] = 0x90; // the `jne` to the begin becomes two `nop`
        code[0x19] = 0x90;
        assert_eq!(barriers(&code), None);
        assert_eq!(barriers(&loop_with_calls(BEGIN_STUB, 0x5000)), None);
        assert_eq!(barriers(&[]), None);
    }

    #[test]
    fn the_early_return_of_an_inlined_barrier_is_taken() {
        let kind = BarrierKind::Inlined { passed_when_alone: true };
        let site = only_site(&loop_with_barrier_inside(1));
        assert_eq!(site, Some((0x70e, "je".to_owned(), kind, true, true)));
    }

    #[test]
    fn without_it_the_branch_behind_the_counter_is_taken() {
        let kind = BarrierKind::Inlined { passed_when_alone: false };
        let site = only_site(&loop_with_barrier_inside(2));
        assert_eq!(site, Some((0x728, "jne".to_owned(), kind, true, true)));
    }

    #[test]
    fn an_inlined_call_of_openmp_is_an_inlined_barrier() {
        let mut code = Vec::new();
        call(&mut code, BEGIN_STUB);
        code.extend([0x66, 0x83, 0xf8, 0x01, 0x74, 0xf5]); // 0x705: cmp ax,1; je 0x700
        call(&mut code, OPENMP_STUB); // 0x70b
        code.extend([0xeb, 0xee]); // jmp 0x700
        let kind = |passed_when_alone| BarrierKind::Inlined { passed_when_alone };
        assert_eq!(only_site(&code), Some((0x709, "je".to_owned(), kind(true), true, true)));
        code[0x8] = 2;
        assert_eq!(only_site(&code), Some((0x70b, "call".to_owned(), kind(false), true, true)));
    }

    #[test]
    fn a_place_that_others_jump_to_is_no_arrival() {
        let kind = BarrierKind::Inlined { passed_when_alone: false };
        let mut code = loop_with_barrier_inside(1);
        code[0x47] = 0xe0; // the last `jne` leads to the one at 0x728
        code[0x4b] = 0xc4; // the last `jmp` leads to 0x710, behind the `je`
        let site = only_site(&code);
        assert_eq!(site, Some((0x71b, "xadd".to_owned(), kind, false, true)));
    }

    /// A library with a loop that calls through stubs, without symbols of its `static` functions.
    fn library() -> Vec<u8> {
        let words = |values: &[u64]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
        let mut file = tiny_elf();
        put(&mut file, 64 + 2 * 56, &segment(2, 6, 0x1020, 0x2020, 96));
        put(&mut file, 64 + 3 * 56, &segment(0x6474_e550, 4, 0x800, 0x800, 20));
        // Dynamic section: JMPREL, PLTRELSZ, SYMTAB, STRTAB, STRSZ.
        put(&mut file, 0x1020, &words(&[23, 0x300, 2, 48, 6, 0x500, 5, 0x600, 10, 64, 0, 0]));
        put(&mut file, 0x300, &words(&[0x2010, 1 << 32 | 7, 0, 0x2018, 2 << 32 | 7, 0]));
        // endbr64; bnd jmp *[rip+slot]
        put(&mut file, 0x404, &[0xf3, 0x0f, 0x1e, 0xfa, 0xf2, 0xff, 0x25, 0x01, 0x1c, 0, 0]);
        put(&mut file, 0x414, &[0xf3, 0x0f, 0x1e, 0xfa, 0xf2, 0xff, 0x25, 0xf9, 0x1b, 0, 0]);
        let symbol = |name: u64, vaddr| words(&[name | 0x12 << 32 | 1 << 48, vaddr, 8]);
        put(&mut file, 0x500, &[vec![0; 24], symbol(1, 0x440), symbol(32, 0x450)].concat());
        put(&mut file, 0x600, b"\0ggml_cpu_extra_compute_forward\0ggml_barrier\0");
        put(&mut file, 0x1160, &words(&[72])); // size of .dynsym
        put(&mut file, 0x11a0, &words(&[64])); // size of .dynstr
        put(&mut file, 0x700, &loop_with_calls(BEGIN_STUB, BARRIER_STUB));
        // Header: version, encodings, .eh_frame at 0x820, one entry: function, its FDE.
        put(&mut file, 0x800, &[1, 0x1b, 0x03, 0x3b, 0x1c, 0, 0, 0, 1, 0, 0, 0]);
        put(&mut file, 0x80c, &[0x00, 0xff, 0xff, 0xff, 0x38, 0, 0, 0]);
        // CIE "zR" with addresses relative to their place, then the FDE at 0x838.
        put(&mut file, 0x820, &[0x14, 0, 0, 0, 0, 0, 0, 0, 1, b'z', b'R', 0, 1, 0x78, 0x10, 1, 0x1b]);
        put(&mut file, 0x838, &[0x10, 0, 0, 0, 0x1c, 0, 0, 0, 0xc0, 0xfe, 0xff, 0xff, 0x20, 0, 0, 0, 0]);
        file
    }

    fn sites_of(file: &[u8]) -> Result<Option<NodeLoop>, BinaryError> {
        Ok(barrier_sites(&Object::parse(file, &|_| true)?))
    }

    #[test]
    fn stubs_and_bounds_are_found_without_symbols() -> Result<(), BinaryError> {
        let found = sites_of(&library())?.unwrap();
        assert_eq!(found.functions.first(), Some(&(0x700..0x720)));
        assert_eq!(places(&found.sites), [(0x70c, false), (0x711, true), (0x71a, true)]);
        assert!(!found.inlined);
        Ok(())
    }

    #[test]
    fn calls_that_the_linker_bound_are_found() -> Result<(), BinaryError> {
        let mut file = library();
        put(&mut file, 0x700, &loop_with_calls(0x440, 0x450));
        assert_eq!(sites_of(&file)?.map(|found| found.sites.len()), Some(3));
        // What is called is another function.
        put(&mut file, 0x700, &loop_with_calls(0x441, 0x450));
        assert_eq!(sites_of(&file)?, None);
        Ok(())
    }

    #[test]
    fn the_loop_may_be_in_the_caller() -> Result<(), BinaryError> {
        let mut file = library();
        put(&mut file, 0x700, &loop_with_calls(0x720, BARRIER_STUB));
        // call begin; call barrier; ret: an operator's barrier is no reason to stop here.
        put(&mut file, 0x720, &[0xe8, 0xdf, 0xfc, 0xff, 0xff, 0xe8, 0xea, 0xfc, 0xff, 0xff, 0xc3]);
        put(&mut file, 0x808, &[2]);
        put(&mut file, 0x814, &[0x20, 0xff, 0xff, 0xff, 0x4c, 0, 0, 0]);
        put(&mut file, 64 + 3 * 56, &segment(0x6474_e550, 4, 0x800, 0x800, 28));
        put(&mut file, 0x84c, &[0x10, 0, 0, 0, 0x30, 0, 0, 0, 0xcc, 0xfe, 0xff, 0xff, 0x10, 0, 0, 0, 0]);
        let found = sites_of(&file)?.unwrap();
        assert_eq!(found.functions.first(), Some(&(0x700..0x720)));
        assert_eq!(found.sites.len(), 3);
        Ok(())
    }

    #[test]
    fn no_changed_byte_makes_it_panic() {
        let file = library();
        // Most of the file is padding.
        let used = (0..file.len()).filter(|&at| file[at.saturating_sub(4)..=at].iter().any(|&b| b != 0));
        for at in used {
            for byte in [0, 0x7f, 0x80, 0xff] {
                let mut changed = file.clone();
                put(&mut changed, at, &[byte]);
                let _ = sites_of(&changed);
            }
        }
    }

    #[test]
    fn no_frame_information_makes_it_panic() {
        let file = library();
        for (at, code) in (0..0x48).cycle().zip(random_code().step_by(5)) {
            let mut changed = file.clone();
            put(&mut changed, 0x804 + at, &code);
            let _ = sites_of(&changed);
        }
    }

    #[test]
    fn random_code_never_panics() {
        for code in random_code() {
            barriers(&code);
            let mut behind = loop_with_barrier_inside(1);
            let at = code.first().map_or(0, |&byte| usize::from(byte) % behind.len());
            put(&mut behind, at, &code);
            barriers(&behind);
            sites_in(&Body::decode(u64::MAX - 20..u64::MAX, code));
        }
    }
}
