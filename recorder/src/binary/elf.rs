//! One ELF64 x86-64 file: symbols, segments, build id.
//!
//! A static build has a file of a hundred megabytes, most of it debug information. [`Object`]
//! therefore keeps the file open, reads headers and symbol tables only, and keeps the symbols
//! that its caller asked for. Code and data are read on demand.

use std::fs::File;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use object::LittleEndian as LE;
use object::elf::{self, DynamicTag, FileHeader64, ProgramHeader64, SectionHeader64};
use object::pod::from_bytes;
use object::read::elf::NoteIterator;

use super::BinaryError;
use super::symbols::{Symbol, Symbols, all_of};

/// No symbol or string table may be larger; llama.cpp with CUDA stays below a tenth of it.
const MAX_TABLE_BYTES: u64 = 256 << 20;
/// No single read of code or data may be larger.
const MAX_READ_BYTES: u64 = 16 << 20;
/// Code is read up to this length when a symbol has none, as hand-written assembly does.
const UNSIZED_CODE_BYTES: u64 = 256;
/// Longest function read by [`Object::code`]; the largest in llama.cpp has some 100 KB.
const MAX_CODE_BYTES: u64 = 1 << 20;
/// Granularity of mappings on x86-64.
const PAGE_BYTES: u64 = 4096;

/// A `PT_LOAD` entry.
#[derive(Clone, Copy, Debug)]
struct Segment {
    vaddr: u64,
    offset: u64,
    file_size: u64,
    executable: bool,
}

/// Where the bytes come from.
#[derive(Debug)]
enum Source {
    File(File),
    /// In memory: for tests and the fuzzer.
    Bytes(Vec<u8>),
}

/// The parsed view of one file.
#[derive(Debug)]
pub(crate) struct Object {
    source: Source,
    file_len: u64,
    segments: Vec<Segment>,
    dynamic: Option<Segment>,
    unwind_header: Option<Segment>,
    symbols: Symbols,
    build_id: Option<String>,
    stripped: bool,
}

impl Object {
    /// Reads the headers of `file` and the symbols whose name `keep` accepts.
    pub(crate) fn open(file: File, keep: &dyn Fn(&str) -> bool) -> Result<Self, BinaryError> {
        let file_len = file.metadata()?.len();
        Self::from_source(Source::File(file), file_len, keep)
    }

    /// The same for a file in memory.
    pub(crate) fn parse(bytes: &[u8], keep: &dyn Fn(&str) -> bool) -> Result<Self, BinaryError> {
        Self::from_source(Source::Bytes(bytes.to_vec()), bytes.len() as u64, keep)
    }

    fn from_source(source: Source, file_len: u64, keep: &dyn Fn(&str) -> bool) -> Result<Self, BinaryError> {
        let mut object = Self {
            source,
            file_len,
            segments: Vec::new(),
            dynamic: None,
            unwind_header: None,
            symbols: Symbols::default(),
            build_id: None,
            stripped: true,
        };
        let header = object.header()?;
        object.read_segments(&header)?;
        object.read_symbols(&header, keep)?;
        Ok(object)
    }

    /// A path that leads to this very file for as long as the object lives, whatever became of its
    /// name and of the mapping it was found by.
    pub(crate) fn path(&self) -> PathBuf {
        match &self.source {
            Source::File(file) => PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd())),
            Source::Bytes(_) => PathBuf::new(),
        }
    }

    /// The symbol of that name, if it was kept. `.dynsym` wins over `.symtab`.
    pub(crate) fn symbol(&self, name: &str) -> Option<Symbol> {
        self.symbols.get(name)
    }

    /// Kept symbols whose name satisfies `wanted`, in no defined order.
    pub(crate) fn symbols_matching_unsorted(
        &self,
        wanted: impl Fn(&str) -> bool,
    ) -> impl Iterator<Item = (&str, Symbol)> {
        self.symbols.iter_unsorted().filter(move |(name, _)| wanted(name))
    }

    /// GNU build id in lower-case hexadecimal.
    pub(crate) fn build_id(&self) -> Option<&str> {
        self.build_id.as_deref()
    }

    /// True if there is no `.symtab`, so that `static` functions cannot be found.
    pub(crate) fn stripped(&self) -> bool {
        self.stripped
    }

    /// Offset in the file of the byte loaded at `vaddr`.
    pub(crate) fn file_offset(&self, vaddr: u64) -> Option<u64> {
        let (segment, delta) = self.segment_at(vaddr)?;
        segment.offset.checked_add(delta)
    }

    /// The number to add to a vaddr to get a runtime address, from one line of `/proc/PID/maps`.
    ///
    /// `executable` is the `x` of the line. It matters where the linker let segments share a page
    /// of the file, as lld does. `None` if the line is not of this file or fits several segments;
    /// executable lines are the most telling, so try them first.
    pub(crate) fn load_bias(&self, map_start: u64, map_file_offset: u64, executable: bool) -> Option<u64> {
        let page_of = |address: u64| address & !(PAGE_BYTES - 1);
        let biases = |from_start: bool| {
            self.segments.iter().filter(move |s| s.executable == executable).filter_map(move |s| {
                // The kernel maps whole pages, and mprotect (RELRO) may have split the mapping.
                let first = page_of(s.offset);
                let delta = map_file_offset.checked_sub(first)?;
                let fits = if from_start {
                    delta == 0
                } else {
                    map_file_offset < s.offset.saturating_add(s.file_size)
                };
                fits.then(|| map_start.wrapping_sub(page_of(s.vaddr).wrapping_add(delta)))
            })
        };
        unanimous(biases(true)).or_else(|| unanimous(biases(false)))
    }

    /// `len` bytes of the file as loaded at `vaddr`, before relocation. `None` outside the file.
    pub(crate) fn bytes_at_vaddr(&self, vaddr: u64, len: u64) -> Option<Vec<u8>> {
        let (segment, delta) = self.segment_at(vaddr)?;
        if len > MAX_READ_BYTES || delta.checked_add(len)? > segment.file_size {
            return None;
        }
        self.read(segment.offset.checked_add(delta)?, len, "segment").ok()
    }

    /// The code of a function, cut at 1 MiB and at the end of its segment.
    pub(crate) fn code(&self, symbol: Symbol) -> Option<Vec<u8>> {
        let (segment, delta) = self.segment_at(symbol.vaddr)?;
        let wanted = if symbol.size == 0 { UNSIZED_CODE_BYTES } else { symbol.size };
        let len = wanted.min(MAX_CODE_BYTES).min(segment.file_size - delta);
        self.bytes_at_vaddr(symbol.vaddr, len)
    }

    /// Entries of the dynamic section as `(tag, value)`; empty in a static executable.
    pub(super) fn dynamic_entries(&self) -> Vec<(DynamicTag, u64)> {
        let Some(dynamic) = self.dynamic else { return Vec::new() };
        // Read through the file offset: some linkers give this entry a stale address.
        let len = dynamic.file_size.min(MAX_READ_BYTES);
        let Ok(bytes) = self.read(dynamic.offset, len, "dynamic section") else {
            return Vec::new();
        };
        all_of::<elf::Dyn64<LE>>(&bytes)
            .iter()
            .map(|entry| (entry.d_tag.get(LE), entry.d_val.get(LE)))
            .take_while(|&(tag, _)| tag != elf::DT_NULL)
            .collect()
    }

    /// Addresses of the executable segment around `vaddr`, as far as the file has them.
    pub(super) fn executable_around(&self, vaddr: u64) -> Option<Range<u64>> {
        let (segment, _) = self.segment_at(vaddr)?;
        let end = segment.vaddr.checked_add(segment.file_size)?;
        segment.executable.then_some(segment.vaddr..end)
    }

    /// What is loaded from `vaddr` to the end of its segment, cut at 16 MiB.
    pub(super) fn rest_of_segment(&self, vaddr: u64) -> Option<Vec<u8>> {
        let (segment, delta) = self.segment_at(vaddr)?;
        self.bytes_at_vaddr(vaddr, (segment.file_size - delta).min(MAX_READ_BYTES))
    }

    /// Address and content of `.eh_frame_hdr`, which stripping leaves alone.
    pub(super) fn unwind_header(&self) -> Option<(u64, Vec<u8>)> {
        let header = self.unwind_header?;
        let len = header.file_size.min(MAX_READ_BYTES);
        Some((header.vaddr, self.bytes_at_vaddr(header.vaddr, len)?))
    }

    fn segment_at(&self, vaddr: u64) -> Option<(Segment, u64)> {
        self.segments.iter().find_map(|&segment| {
            let delta = vaddr.checked_sub(segment.vaddr)?;
            (delta < segment.file_size).then_some((segment, delta))
        })
    }

    fn read(&self, offset: u64, len: u64, what: &'static str) -> Result<Vec<u8>, BinaryError> {
        let malformed = BinaryError::Malformed { what, offset };
        if len > MAX_TABLE_BYTES || offset.checked_add(len).is_none_or(|end| end > self.file_len) {
            return Err(malformed);
        }
        match &self.source {
            Source::File(file) => {
                let mut bytes = vec![0; len as usize];
                file.read_exact_at(&mut bytes, offset)?;
                Ok(bytes)
            }
            Source::Bytes(bytes) => {
                bytes.get(offset as usize..(offset + len) as usize).map(<[u8]>::to_vec).ok_or(malformed)
            }
        }
    }

    fn header(&self) -> Result<FileHeader64<LE>, BinaryError> {
        let wanted = size_of::<FileHeader64<LE>>() as u64;
        let bytes = self.read(0, wanted.min(self.file_len), "file header")?;
        if !bytes.starts_with(&elf::ELFMAG) {
            return Err(BinaryError::NotElf);
        }
        // Class and byte order come before everything whose place depends on them.
        if bytes.get(4) != Some(&elf::ELFCLASS64.0) || bytes.get(5) != Some(&elf::ELFDATA2LSB.0) {
            return Err(BinaryError::NotElf64);
        }
        let malformed = BinaryError::Malformed { what: "file header", offset: 0 };
        let (header, _) = from_bytes::<FileHeader64<LE>>(&bytes).map_err(|()| malformed)?;
        let machine = header.e_machine.get(LE);
        if machine != elf::EM_X86_64 {
            return Err(BinaryError::ForeignArchitecture { machine: machine.0 });
        }
        Ok(*header)
    }

    fn read_segments(&mut self, header: &FileHeader64<LE>) -> Result<(), BinaryError> {
        let count = u64::from(header.e_phnum.get(LE));
        let len = count * size_of::<ProgramHeader64<LE>>() as u64;
        let table = self.read(header.e_phoff.get(LE), len, "program headers")?;
        for entry in all_of::<ProgramHeader64<LE>>(&table) {
            let segment = Segment {
                vaddr: entry.p_vaddr.get(LE),
                offset: entry.p_offset.get(LE),
                file_size: entry.p_filesz.get(LE),
                executable: entry.p_flags.get(LE).0 & elf::PF_X.0 != 0,
            };
            match entry.p_type.get(LE) {
                elf::PT_LOAD => self.segments.push(segment),
                elf::PT_DYNAMIC => self.dynamic = Some(segment),
                elf::PT_GNU_EH_FRAME => self.unwind_header = Some(segment),
                elf::PT_NOTE if self.build_id.is_none() => {
                    self.build_id = self.read_build_id(segment, entry.p_align.get(LE));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn read_build_id(&self, notes: Segment, align: u64) -> Option<String> {
        let len = notes.file_size.min(MAX_READ_BYTES);
        let bytes = self.read(notes.offset, len, "notes").ok()?;
        let mut notes = NoteIterator::<FileHeader64<LE>>::new(LE, align, &bytes).ok()?;
        while let Ok(Some(note)) = notes.next() {
            if note.name() == elf::ELF_NOTE_GNU && note.n_type(LE) == elf::NT_GNU_BUILD_ID {
                let id = note.desc().iter().take(64);
                return Some(id.map(|byte| format!("{byte:02x}")).collect());
            }
        }
        None
    }

    fn read_symbols(
        &mut self,
        header: &FileHeader64<LE>,
        keep: &dyn Fn(&str) -> bool,
    ) -> Result<(), BinaryError> {
        let count = u64::from(header.e_shnum.get(LE));
        let len = count * size_of::<SectionHeader64<LE>>() as u64;
        let table = self.read(header.e_shoff.get(LE), len, "section headers")?;
        let sections = all_of::<SectionHeader64<LE>>(&table);
        for wanted in [elf::SHT_DYNSYM, elf::SHT_SYMTAB] {
            let Some(section) = sections.iter().find(|s| s.sh_type.get(LE) == wanted) else {
                continue;
            };
            if wanted == elf::SHT_SYMTAB {
                self.stripped = false;
            }
            let strings = sections.get(section.sh_link.get(LE) as usize).ok_or(BinaryError::Malformed {
                what: "string table index",
                offset: header.e_shoff.get(LE),
            })?;
            let symbols = self.read(section.sh_offset.get(LE), section.sh_size.get(LE), "symbol table")?;
            let strings = self.read(strings.sh_offset.get(LE), strings.sh_size.get(LE), "string table")?;
            let first_global = section.sh_info.get(LE) as usize;
            self.symbols.add_table(&symbols, &strings, first_global, keep);
        }
        Ok(())
    }
}

/// The value that all candidates agree on.
fn unanimous(mut candidates: impl Iterator<Item = u64>) -> Option<u64> {
    let first = candidates.next()?;
    candidates.all(|other| other == first).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binary::fixtures::{put, segment, tiny_elf};

    fn parse(file: &[u8]) -> Result<Object, BinaryError> {
        Object::parse(file, &|_| true)
    }

    #[test]
    fn symbols_code_and_build_id_are_found() -> Result<(), BinaryError> {
        let object = parse(&tiny_elf())?;
        let entry = Symbol { vaddr: 0x400, size: 3 };
        assert_eq!(object.symbol("entry"), Some(entry));
        assert_eq!(object.symbols_matching_unsorted(|name| name == "entry").count(), 1);
        assert_eq!(object.code(entry), Some(vec![0x55, 0x5d, 0xc3]));
        assert_eq!(object.build_id(), Some("deadbeef"));
        assert!(object.stripped());
        Ok(())
    }

    #[test]
    fn addresses_map_to_the_file() -> Result<(), BinaryError> {
        let object = parse(&tiny_elf())?;
        assert_eq!(object.file_offset(0x400), Some(0x400));
        assert_eq!(object.file_offset(0x2010), Some(0x1010));
        assert_eq!(object.file_offset(0x1800), None);
        assert_eq!(object.bytes_at_vaddr(0x20ff, 2), None);
        assert_eq!(object.bytes_at_vaddr(0x2000, u64::MAX), None);
        Ok(())
    }

    #[test]
    fn every_line_of_maps_gives_the_same_bias() -> Result<(), BinaryError> {
        let object = parse(&tiny_elf())?;
        let bias = 0x7f00_0000_0000;
        assert_eq!(object.load_bias(bias, 0, true), Some(bias));
        assert_eq!(object.load_bias(bias + 0x2000, 0x1000, false), Some(bias));
        assert_eq!(object.load_bias(bias, 0x9000, true), None);
        Ok(())
    }

    #[test]
    fn a_page_shared_by_two_segments_is_told_apart_by_permission() -> Result<(), BinaryError> {
        let mut file = tiny_elf();
        // As lld lays out: read-only up to 0x480, code from there, one page later in memory.
        let segments = [segment(1, 4, 0, 0, 0x480), segment(1, 5, 0x480, 0x1480, 0xb80)];
        put(&mut file, 64, &segments.concat());
        let object = parse(&file)?;
        assert_eq!(object.load_bias(0x7000_1000, 0, true), Some(0x7000_0000));
        assert_eq!(object.load_bias(0x7000_0000, 0, false), Some(0x7000_0000));
        Ok(())
    }

    #[test]
    fn foreign_files_are_refused_with_their_reason() {
        let changed = |at, byte| {
            let mut file = tiny_elf();
            put(&mut file, at, &[byte]);
            parse(&file)
        };
        assert!(matches!(parse(b""), Err(BinaryError::NotElf)));
        assert!(matches!(parse(b"MZ\x90\0"), Err(BinaryError::NotElf)));
        assert!(matches!(parse(b"\x7fELF\x02\x01\x01"), Err(BinaryError::Malformed { .. })));
        assert!(matches!(changed(4, 1), Err(BinaryError::NotElf64)));
        assert!(matches!(changed(5, 2), Err(BinaryError::NotElf64)));
        let arm = changed(18, 183);
        assert!(matches!(arm, Err(BinaryError::ForeignArchitecture { machine: 183 })));
        assert!(matches!(changed(47, 0xff), Err(BinaryError::Malformed { .. })));
    }

    #[test]
    fn no_changed_byte_or_cut_makes_it_panic() {
        let file = tiny_elf();
        for at in (0..0x680).chain(0x1000..file.len()) {
            for byte in [0, 1, 0x7f, 0x80, 0xff] {
                let mut changed = file.clone();
                put(&mut changed, at, &[byte]);
                exercise(&changed);
            }
            exercise(file.get(..at).unwrap_or_default());
        }
    }

    fn exercise(file: &[u8]) {
        let Ok(object) = parse(file) else { return };
        for (_, symbol) in object.symbols_matching_unsorted(|_| true) {
            object.code(symbol);
            object.file_offset(symbol.vaddr);
        }
        object.load_bias(0x7000_0000, 0x1000, false);
        crate::binary::FileImage::new(&object);
    }
}
