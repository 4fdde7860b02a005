//! Finding the calls of a function.
//!
//! ```text
//!   call f            E8 rel32          f in this object, bound by the linker
//!   call f@plt        E8 rel32  ──►  [endbr64] [bnd] jmp *[rip+slot]   f may be replaced at run time
//!   call *[rip+slot]  FF 15             the same, compiled with -fno-plt
//! ```
//!
//! A slot is a pointer that the dynamic linker fills in; its relocation names the function.

use std::ops::Range;

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic};
use object::LittleEndian as LE;
use object::elf::{self, Rela64, Sym64};

use super::elf::Object;
use super::symbols::all_of;

/// How far from the named function its callers are searched, on either side. They come from the
/// same source file, which compiles to some 50 KB; a static build has 15 MB of code.
const WINDOW_BYTES: u64 = 512 << 10;
/// How much of the beginning and the end of the code is searched for stubs, where linkers put
/// them. 15 MB of code came with 100 KB of stubs.
const STUBS_BYTES: u64 = 512 << 10;
/// A stub is at most that long before its jump.
const STUB_HEAD_BYTES: u64 = 12;
/// A function has one slot or two, and as many stubs. Bounds the work on hostile files.
const MAX_SLOTS: usize = 8;
/// The same for beginnings of stubs, of which some are none.
const MAX_STUB_STARTS: usize = 128;

/// A run of code.
#[derive(Debug)]
struct Region {
    vaddr: u64,
    bytes: Vec<u8>,
}

/// The code of one object, as far as it gets searched.
#[derive(Debug)]
pub(super) struct Text {
    /// Around the function of interest.
    window: Region,
    /// Further places of stubs.
    ends: Vec<Region>,
}

impl Text {
    /// Reads the code around `vaddr`.
    pub(super) fn read(object: &Object, vaddr: u64) -> Option<Self> {
        let all = object.executable_around(vaddr)?;
        let region = |range: Range<u64>| {
            let bytes = object.bytes_at_vaddr(range.start, range.end.checked_sub(range.start)?)?;
            Some(Region { vaddr: range.start, bytes })
        };
        let mut window = vaddr.saturating_sub(WINDOW_BYTES).max(all.start)
            ..vaddr.saturating_add(WINDOW_BYTES).min(all.end);
        let (head, tail) = (all.start.saturating_add(STUBS_BYTES), all.end.saturating_sub(STUBS_BYTES));
        let mut ends = Vec::new();
        if head < window.start {
            ends.extend(region(all.start..head));
        } else {
            window.start = all.start;
        }
        if tail > window.end {
            ends.extend(region(tail..all.end));
        } else {
            window.end = all.end;
        }
        Some(Self { window: region(window)?, ends })
    }

    /// Addresses in the window of what looks like a call of `callee`, ascending.
    pub(super) fn calls(&self, callee: &Callee) -> Vec<u64> {
        let direct = self.window.operands(&[0xe8]).filter(|&(_, target)| callee.entries.contains(&target));
        let mut calls: Vec<u64> = direct.map(|(call, _)| call).collect();
        if !callee.slots.is_empty() {
            let through = self.window.operands(&[0xff, 0x15]);
            calls.extend(through.filter(|(_, slot)| callee.slots.contains(slot)).map(|(call, _)| call));
        }
        calls.sort_unstable();
        calls
    }

    /// Where stubs that jump through one of `slots` begin.
    ///
    /// Some of the addresses lie within the stub; nothing calls these.
    fn stubs(&self, slots: &[u64]) -> Vec<u64> {
        let mut stubs = Vec::new();
        for region in self.ends.iter().chain([&self.window]) {
            for (jump, slot) in region.operands(&[0xff, 0x25]) {
                if stubs.len() >= MAX_STUB_STARTS {
                    return stubs;
                }
                if slots.contains(&slot) {
                    let starts = (0..=STUB_HEAD_BYTES).filter_map(|back| jump.checked_sub(back));
                    stubs.extend(starts.filter(|&start| region.leads_to(start, jump)));
                }
            }
        }
        stubs
    }
}

impl Region {
    /// Each place where the bytes of `opcode` are, with the address that the four bytes behind it
    /// name relative to what follows.
    fn operands(&self, opcode: &'static [u8]) -> impl Iterator<Item = (u64, u64)> {
        // The last byte of an opcode is the rarer one. Millions of bytes pass here.
        let last = opcode.last().copied().unwrap_or_default();
        let ends = self.bytes.iter().enumerate().filter(move |&(_, &byte)| byte == last);
        ends.filter_map(move |(end, _)| {
            let operand = end + 1;
            let start = operand.checked_sub(opcode.len())?;
            let displacement = self.bytes.get(operand..)?.first_chunk::<4>()?;
            let displacement = i64::from(i32::from_le_bytes(*displacement));
            let next = self.vaddr.wrapping_add(operand as u64 + 4);
            (self.bytes.get(start..operand)? == opcode)
                .then(|| (self.vaddr.wrapping_add(start as u64), next.wrapping_add_signed(displacement)))
        })
    }

    /// Whether execution from `start` comes to the jump at `jump` without any other branch.
    fn leads_to(&self, start: u64, jump: u64) -> bool {
        let Some(code) =
            start.checked_sub(self.vaddr).and_then(|from| self.bytes.get(usize::try_from(from).ok()?..))
        else {
            return false;
        };
        for instruction in &mut Decoder::with_ip(64, code, start, DecoderOptions::NONE) {
            // `bnd jmp` begins one byte earlier.
            if instruction.flow_control() == FlowControl::IndirectBranch {
                return instruction.ip() == jump || instruction.ip() == jump.wrapping_sub(1);
            }
            if instruction.flow_control() != FlowControl::Next || instruction.ip() > jump {
                return false;
            }
        }
        false
    }
}

/// A function, by all the addresses that stand for it in code.
#[derive(Debug, Default)]
pub(super) struct Callee {
    /// Of its code and of the stubs that lead there.
    entries: Vec<u64>,
    /// Of pointers to it.
    slots: Vec<u64>,
}

impl Callee {
    /// A function that is called within its object only.
    pub(super) fn local(vaddr: u64) -> Self {
        Self { entries: vec![vaddr], slots: Vec::new() }
    }

    /// The function defined at `vaddr`, or an imported one of these names.
    pub(super) fn find(imports: &Imports, text: &Text, vaddr: Option<u64>, names: &[&str]) -> Self {
        let slots = imports.slots_of(vaddr, names);
        let mut entries = if slots.is_empty() { Vec::new() } else { text.stubs(&slots) };
        entries.extend(vaddr);
        Self { entries, slots }
    }

    /// Adds what stands for `other`.
    pub(super) fn or(mut self, other: Self) -> Self {
        self.entries.extend(other.entries);
        self.slots.extend(other.slots);
        self
    }

    /// Whether the instruction calls the function, or jumps to it in a function's last line.
    pub(super) fn is_called_by(&self, instruction: &Instruction) -> bool {
        match instruction.flow_control() {
            FlowControl::Call | FlowControl::UnconditionalBranch => {
                self.entries.contains(&instruction.near_branch_target())
            }
            FlowControl::IndirectCall | FlowControl::IndirectBranch => {
                instruction.is_ip_rel_memory_operand()
                    && matches!(instruction.mnemonic(), Mnemonic::Call | Mnemonic::Jmp)
                    && self.slots.contains(&instruction.ip_rel_memory_address())
            }
            _ => false,
        }
    }
}

/// The pointers that the dynamic linker fills in with addresses of functions.
#[derive(Debug, Default)]
pub(super) struct Imports {
    relocations: Vec<u8>,
    symbols: Vec<u8>,
    strings: Vec<u8>,
}

impl Imports {
    /// Reads the relocations of `object`; what is missing or damaged counts as empty.
    pub(super) fn read(object: &Object) -> Self {
        let dynamic = object.dynamic_entries();
        let value_of = |tag| dynamic.iter().find(|&&(t, _)| t == tag).map(|&(_, value)| value);
        let table = |start, len| object.bytes_at_vaddr(value_of(start)?, value_of(len)?);
        let mut relocations = table(elf::DT_JMPREL, elf::DT_PLTRELSZ).unwrap_or_default();
        // -fno-plt and the addresses of functions use the other table.
        relocations.extend(table(elf::DT_RELA, elf::DT_RELASZ).unwrap_or_default());
        let mut imports = Self { relocations, ..Self::default() };
        let last = imports.slots().map(|(_, symbol)| symbol as u64).max().unwrap_or_default();
        let symbols_len = (last + 1) * size_of::<Sym64<LE>>() as u64;
        imports.symbols = value_of(elf::DT_SYMTAB)
            .and_then(|vaddr| object.bytes_at_vaddr(vaddr, symbols_len))
            .unwrap_or_default();
        imports.strings = table(elf::DT_STRTAB, elf::DT_STRSZ).unwrap_or_default();
        imports
    }

    /// Address of each slot and index of its symbol.
    fn slots(&self) -> impl Iterator<Item = (u64, usize)> {
        all_of::<Rela64<LE>>(&self.relocations)
            .iter()
            .filter(|rela| {
                let kind = rela.r_type(LE, false);
                kind == elf::R_X86_64_JUMP_SLOT || kind == elf::R_X86_64_GLOB_DAT
            })
            .map(|rela| (rela.r_offset.get(LE), rela.r_sym(LE, false) as usize))
    }

    fn slots_of(&self, vaddr: Option<u64>, names: &[&str]) -> Vec<u64> {
        let symbols = all_of::<Sym64<LE>>(&self.symbols);
        let wanted = |symbol: &Sym64<LE>| {
            if symbol.st_shndx.get(LE) != elf::SHN_UNDEF {
                return Some(symbol.st_value.get(LE)) == vaddr;
            }
            let name = self.strings.get(symbol.st_name.get(LE) as usize..).unwrap_or_default();
            names.iter().any(|wanted| {
                name.strip_prefix(wanted.as_bytes()).is_some_and(|rest| rest.first() == Some(&0))
            })
        };
        self.slots()
            .filter(|&(_, index)| symbols.get(index).is_some_and(wanted))
            .map(|(slot, _)| slot)
            .take(MAX_SLOTS)
            .collect()
    }
}
