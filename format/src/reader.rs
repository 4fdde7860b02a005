//! Opens a trace: dictionaries and index at once, tables when asked for.

use crate::block::{self, BlockInfo, DirectoryEntry};
use crate::constants::{
    BLOCK_HEADER_LEN, BLOCK_MARKER, DIRECTORY_ENTRY_LEN, HEADER_LEN, TRAILER_LEN, VERSION_MINOR, encoding,
    kind,
};
use crate::footer::{Footer, trailer_from_bytes};
use crate::meta::{Ending, Graph, Recording, StrId};
use crate::sibling::{References, Told};
use crate::summary::LaneSummary;
use crate::tables::{self, ColumnSet, Table, Threads};
use crate::{Error, Header, Result, TimeRange, Warning, column, structured};
use serde::de::DeserializeOwned;
use std::fs::File;

mod limits;
mod siblings;

/// Where the bytes come from.
pub enum Source {
    /// A file, read piece by piece, by several threads at once.
    File(File),
    /// Bytes in memory.
    Bytes(Vec<u8>),
}

impl Source {
    /// A source that reads `file`.
    pub fn from_file(file: File) -> Self {
        Self::File(file)
    }

    /// Length in bytes.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn len(&self) -> Result<u64> {
        match self {
            Self::File(file) => Ok(file.metadata()?.len()),
            Self::Bytes(bytes) => Ok(bytes.len() as u64),
        }
    }

    /// Whether there are no bytes.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Reads `len` bytes at `offset`. The caller has checked that they exist.
    fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>> {
        match self {
            Self::File(file) => {
                let mut bytes = vec![0; len];
                read_exact_at(file, &mut bytes, offset)?;
                Ok(bytes)
            }
            Self::Bytes(bytes) => {
                let range = usize::try_from(offset).ok().and_then(|at| bytes.get(at..at.checked_add(len)?));
                range.map(<[u8]>::to_vec).ok_or(Error::TooShort { len: bytes.len() as u64 })
            }
        }
    }
}

#[cfg(unix)]
fn read_exact_at(file: &File, bytes: &mut [u8], offset: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut bytes: &mut [u8], mut offset: u64) -> std::io::Result<()> {
    while !bytes.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, bytes, offset)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            read => {
                bytes = bytes.get_mut(read..).unwrap_or_default();
                offset += read as u64;
            }
        }
    }
    Ok(())
}

/// How far opening has come; returning `false` cancels it.
pub type ScanProgress<'a> = &'a mut dyn FnMut(f32) -> bool;

/// An open trace. Reading a block takes `&self`, so that several threads can.
pub struct TraceFile {
    source: Source,
    len: u64,
    /// The file's header.
    pub header: Header,
    /// What was recorded; `None` when the file holds no such block.
    pub recording: Option<Recording>,
    /// How it ended; `None` when the recorder did not close the file.
    pub ending: Option<Ending>,
    /// Strings by [`StrId`].
    pub strings: Vec<String>,
    /// Graphs, in the order of the file.
    pub graphs: Vec<Graph>,
    /// Threads.
    pub threads: Threads,
    /// All readable blocks, in the order of the file.
    pub blocks: Vec<BlockInfo>,
    /// One summary a lane; empty for a file without its footer.
    pub summaries: Vec<LaneSummary>,
    /// What is wrong with the file.
    pub warnings: Vec<Warning>,
    references: References,
}

impl TraceFile {
    /// Opens a trace: reads header, footer and dictionaries, no table.
    ///
    /// # Errors
    /// When the source cannot be read, is no trace, or is of a later version.
    pub fn open(source: Source) -> Result<Self> {
        Self::open_with_progress(source, &mut |_| true)
    }

    /// Like [`TraceFile::open`], for files that may need a scan of all blocks.
    ///
    /// # Errors
    /// As [`TraceFile::open`], and [`Error::Cancelled`].
    pub fn open_with_progress(source: Source, progress: ScanProgress<'_>) -> Result<Self> {
        let mut trace = Self::open_header(source)?;
        match trace.read_footer() {
            Some(footer) => {
                trace.blocks = footer.blocks().collect();
                trace.summaries = footer.summaries;
            }
            None => trace.scan(progress)?,
        }
        trace.leave_out_bombs();
        trace.read_dictionaries();
        Ok(trace)
    }

    /// Opens a trace without believing its footer.
    pub(crate) fn open_scanned(source: Source, progress: ScanProgress<'_>) -> Result<Self> {
        let mut trace = Self::open_header(source)?;
        trace.scan(progress)?;
        trace.leave_out_bombs();
        trace.read_dictionaries();
        Ok(trace)
    }

    fn open_header(source: Source) -> Result<Self> {
        let len = source.len()?;
        let header = Header::from_bytes(&source.read(0, len.min(HEADER_LEN as u64) as usize)?)?;
        let mut trace = Self {
            source,
            len,
            header,
            recording: None,
            ending: None,
            strings: vec![String::new()],
            graphs: Vec::new(),
            threads: Threads::default(),
            blocks: Vec::new(),
            summaries: Vec::new(),
            warnings: Vec::new(),
            references: References::default(),
        };
        if header.minor > VERSION_MINOR {
            let Header { major, minor, .. } = header;
            trace.warnings.push(Warning::NewerMinor { major, minor });
        }
        Ok(trace)
    }

    /// Length of the file in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the file has no blocks.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// The text of a string id; empty for an id that does not exist.
    pub fn string(&self, id: StrId) -> &str {
        self.strings.get(id.0 as usize).map_or("", String::as_str)
    }

    /// The blocks of one table, in the order of the file.
    pub fn blocks_of<T: Table>(&self) -> impl Iterator<Item = &BlockInfo> {
        self.blocks.iter().filter(|block| block.kind == T::KIND)
    }

    /// Decodes the asked columns of one block; the others stay empty.
    ///
    /// # Errors
    /// When the block is damaged or lacks a column.
    pub fn read<T: Table>(&self, info: &BlockInfo, columns: ColumnSet) -> Result<T> {
        let malformed = |why| Error::Malformed { what: "block", offset: info.offset, why };
        if info.kind != T::KIND {
            return Err(malformed("it holds another table"));
        }
        let mut table = T::default();
        let block = self.columns(info, columns == ColumnSet::ALL)?;
        for (index, spec) in tables::selected::<T>(columns) {
            let Some(entry) = block.directory.iter().find(|entry| entry.id == spec.id) else {
                let absent = vec![spec.absent; info.rows as usize];
                if self.header.minor < spec.since && table.set_column(index, absent) {
                    continue;
                }
                return Err(Error::MissingColumn { offset: info.offset, column: spec.name });
            };
            let values = self.values::<T>(&block, entry)?;
            if !table.set_column(index, values) {
                return Err(malformed("a value is out of range"));
            }
        }
        Ok(table)
    }

    fn values<T: Table>(&self, block: &Columns<'_>, entry: &DirectoryEntry) -> Result<Vec<u64>> {
        let info = block.info;
        let malformed = |why| Error::Malformed { what: "column", offset: block.offset_of(entry), why };
        if !column::is_known(entry.encoding) {
            return Err(malformed("its encoding is not known to this build; a newer llmtrace may read it"));
        }
        if entry.encoding == encoding::SIBLING {
            let told = Told::of_id(entry.id).filter(|_| T::KIND == kind::OP_SPANS);
            return self.sibling(block, entry, told.ok_or(malformed("no other lane tells it"))?);
        }
        let bytes = self.column_bytes(block, entry)?;
        column::decode(&bytes, entry.encoding, info.rows).ok_or(malformed("it does not decode"))
    }

    /// Bytes that each column of a block takes in the file, by column id.
    ///
    /// # Errors
    /// When the block is damaged.
    pub fn column_bytes_of(&self, info: &BlockInfo) -> Result<Vec<(u16, u32)>> {
        let block = self.columns(info, false)?;
        Ok(block.directory.iter().map(|entry| (entry.id, block::stored_range(entry).1)).collect())
    }

    /// Decodes all rows of a table; damaged blocks are left out and reported.
    pub fn read_all<T: Table>(&self, mut each: impl FnMut(&BlockInfo, T), warnings: &mut Vec<Warning>) {
        for block in self.blocks_of::<T>() {
            match self.read(block, ColumnSet::ALL) {
                Ok(table) => each(block, table),
                Err(_) => warnings.push(Warning::Unreadable { what: T::NAME, offset: block.offset }),
            }
        }
    }

    /// Checks every column of a block, also those that this build does not
    /// know, as far as that can be done without knowing them.
    pub(crate) fn verify(&self, info: &BlockInfo) -> Result<()> {
        let block = self.columns(info, true)?;
        block.directory.iter().try_for_each(|entry| self.column_bytes(&block, entry).map(drop))
    }

    /// A block as it is in the file.
    pub(crate) fn block_bytes(&self, info: &BlockInfo) -> Result<Vec<u8>> {
        self.source.read(info.offset, info.file_len() as usize)
    }

    /// Where the footer begins, as the trailer says.
    pub(crate) fn footer_offset(&self) -> Option<u64> {
        let at = self.len.checked_sub(TRAILER_LEN as u64)?;
        let trailer = self.source.read(at, TRAILER_LEN).ok()?;
        trailer_from_bytes(trailer.first_chunk()?)
    }

    pub(crate) fn read_footer(&self) -> Option<Footer> {
        let info = self.fixed(self.footer_offset()?).ok()?;
        if self.raw_bytes(&info).ok()? > limits::footer_bytes(self.len) {
            return None;
        }
        let mut footer: Footer = self.read_structured(&info).ok()?;
        if info.kind == kind::LONG_FOOTER {
            self.read_index(&info, &mut footer)?;
        }
        // Each block once, one after the other: else a small file could name a
        // large dictionary again and again.
        let mut end = HEADER_LEN as u64;
        let orderly = footer.blocks().all(|block| {
            let begins_after = block.offset >= end;
            end = block.offset.saturating_add(block.file_len());
            begins_after && self.holds(&block) && end <= info.offset
        });
        (kind::is_footer(info.kind) && orderly).then_some(footer)
    }

    /// The index of a very long recording, which takes columns of its own.
    fn read_index(&self, info: &BlockInfo, footer: &mut Footer) -> Option<()> {
        let block = self.columns(info, false).ok()?;
        let parts = block.directory.get(1..)?;
        // An entry takes less than the block that it names.
        if parts.iter().map(|entry| u64::from(entry.raw_len())).sum::<u64>() > self.len {
            return None;
        }
        for entry in parts.iter().filter(|entry| entry.encoding == encoding::STRUCTURED) {
            footer.extend(structured::from_bytes(&self.column_bytes(&block, entry).ok()?)?);
        }
        Some(())
    }

    fn holds(&self, info: &BlockInfo) -> bool {
        info.offset.checked_add(info.file_len()).is_some_and(|end| end <= self.len)
    }

    fn fixed(&self, offset: u64) -> Result<BlockInfo> {
        let malformed = |why| Error::Malformed { what: "block", offset, why };
        if self.len.checked_sub(BLOCK_HEADER_LEN as u64).is_none_or(|last| offset > last) {
            return Err(malformed("the file ends inside it"));
        }
        let bytes = self.source.read(offset, BLOCK_HEADER_LEN)?;
        let Some(&bytes) = bytes.first_chunk::<BLOCK_HEADER_LEN>() else {
            return Err(malformed("the file ends inside it"));
        };
        let (info, _) = block::read_fixed(&bytes, offset)?;
        if !self.holds(&info) {
            return Err(malformed("the file ends inside it"));
        }
        Ok(info)
    }

    /// Opens a block for reading its columns; with `whole` its bytes are read at
    /// once.
    fn columns<'a>(&self, info: &'a BlockInfo, whole: bool) -> Result<Columns<'a>> {
        let malformed = |why| Error::Malformed { what: "block", offset: info.offset, why };
        if !self.holds(info) {
            return Err(malformed("the file ends inside it"));
        }
        let directory_len = usize::from(info.columns) * DIRECTORY_ENTRY_LEN;
        let len = if whole { info.file_len() as usize } else { BLOCK_HEADER_LEN + directory_len };
        let bytes = self.source.read(info.offset, len)?;
        let Some((fixed, rest)) = bytes.split_first_chunk::<BLOCK_HEADER_LEN>() else {
            return Err(malformed("the file ends inside it"));
        };
        let (found, crc) = block::read_fixed(fixed, info.offset)?;
        if found != *info {
            return Err(malformed("it is not what the footer says"));
        }
        let directory = rest.get(..directory_len).ok_or(malformed("the file ends inside it"))?;
        let directory = block::read_directory(fixed, info, crc, directory)?;
        Ok(Columns { info, directory, bytes: if whole { bytes } else { Vec::new() } })
    }

    fn column_bytes(&self, block: &Columns<'_>, entry: &DirectoryEntry) -> Result<Vec<u8>> {
        let (at, len) = block::stored_range(entry);
        let at = BLOCK_HEADER_LEN as u64 + at;
        match block.bytes.get(at as usize..).and_then(|bytes| bytes.get(..len as usize)) {
            Some(stored) => block::unpack(entry, stored, block.info),
            None => {
                block::unpack(entry, &self.source.read(block.info.offset + at, len as usize)?, block.info)
            }
        }
    }

    pub(crate) fn read_structured<T: DeserializeOwned>(&self, info: &BlockInfo) -> Result<T> {
        let block = self.columns(info, true)?;
        let entry = block.directory.iter().find(|entry| entry.encoding == encoding::STRUCTURED);
        let malformed = |why| Error::Malformed { what: "description", offset: info.offset, why };
        let mut bytes = self.column_bytes(&block, entry.ok_or(malformed("no description in it"))?)?;
        // Of this version, too: it may have been written before the version was released.
        structured::append_later_fields(&mut bytes);
        structured::from_bytes(&bytes).ok_or(malformed("it does not decode"))
    }

    /// Finds the blocks of a file without footer; skips damage.
    fn scan(&mut self, progress: ScanProgress<'_>) -> Result<()> {
        let mut offset = HEADER_LEN as u64;
        let mut closed = false;
        while offset < self.len {
            if self.blocks.len().is_multiple_of(256) && !progress(offset as f32 / self.len as f32) {
                return Err(Error::Cancelled);
            }
            let found = self.fixed(offset).and_then(|info| self.columns(&info, false).map(|_| info));
            match found {
                Ok(info) => {
                    closed = kind::is_footer(info.kind);
                    if !closed {
                        self.blocks.push(info);
                    }
                    offset += info.file_len();
                }
                Err(_) if closed && self.len - offset <= TRAILER_LEN as u64 => break,
                Err(_) => match self.next_marker(offset + 1, progress)? {
                    Some(next) => {
                        self.warnings.push(Warning::Skipped { offset, bytes: next - offset });
                        offset = next;
                    }
                    None => {
                        self.warnings.push(Warning::CutOff { offset, bytes: self.len - offset });
                        break;
                    }
                },
            }
        }
        self.warnings.insert(0, Warning::NoFooter { blocks: self.blocks.len() });
        Ok(())
    }

    /// Where the next intact block header after damage begins.
    fn next_marker(&self, from: u64, progress: ScanProgress<'_>) -> Result<Option<u64>> {
        const WINDOW: u64 = 1 << 20;
        let mut at = from;
        while at + BLOCK_HEADER_LEN as u64 <= self.len {
            if !progress(at as f32 / self.len as f32) {
                return Err(Error::Cancelled);
            }
            let window = self.source.read(at, WINDOW.min(self.len - at) as usize)?;
            for (index, bytes) in window.windows(BLOCK_MARKER.len()).enumerate() {
                let candidate = at + index as u64;
                if bytes == BLOCK_MARKER
                    && self.fixed(candidate).is_ok_and(|info| self.columns(&info, false).is_ok())
                {
                    return Ok(Some(candidate));
                }
            }
            // Overlap, so that a marker across the edge is found.
            at += (window.len() as u64).saturating_sub(BLOCK_MARKER.len() as u64 - 1).max(1);
        }
        Ok(None)
    }

    fn read_dictionaries(&mut self) {
        for info in self.blocks.clone() {
            let what = match info.kind {
                kind::RECORDING => {
                    let read = self.read_structured(&info).map(|recording| self.recording = Some(recording));
                    read.is_err().then_some("description of the recording")
                }
                kind::ENDING => {
                    let read = self.read_structured(&info).map(|ending| self.ending = Some(ending));
                    read.is_err().then_some("ending")
                }
                kind::STRINGS => {
                    let read = self.read_structured::<Vec<String>>(&info);
                    read.map(|strings| self.strings.extend(strings)).is_err().then_some("strings")
                }
                kind::GRAPH => {
                    let read = self.read_structured(&info).map(|graph| self.graphs.push(graph));
                    read.is_err().then_some("graph")
                }
                kind::THREADS => {
                    let read = self.read::<Threads>(&info, ColumnSet::ALL);
                    read.map(|table| table.rows().for_each(|row| self.threads.push(row)))
                        .is_err()
                        .then_some("threads")
                }
                _ => None,
            };
            if let Some(what) = what {
                self.warnings.push(Warning::Unreadable { what, offset: info.offset });
            }
        }
    }

    /// From the first row to the last row or the recorded end.
    pub fn range(&self) -> TimeRange {
        let timed = || self.blocks.iter().filter(|block| block.range.end > 0);
        TimeRange::new(
            timed().map(|block| block.range.begin).min().unwrap_or(0),
            timed().map(|block| block.range.end).max().unwrap_or(0),
        )
    }
}

/// A block whose directory was read.
struct Columns<'a> {
    info: &'a BlockInfo,
    directory: Vec<DirectoryEntry>,
    /// All bytes of the block, or none.
    bytes: Vec<u8>,
}

impl Columns<'_> {
    /// Where a column begins in the file.
    fn offset_of(&self, entry: &DirectoryEntry) -> u64 {
        self.info.offset + BLOCK_HEADER_LEN as u64 + block::stored_range(entry).0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{BlockHead, EncodedColumn, write_block};
    use crate::constants::NO_LANE;
    use crate::footer::trailer_to_bytes;
    use crate::{Header, Writer};

    fn append(bytes: &mut Vec<u8>, kind: u16, structured: Vec<u8>) -> BlockInfo {
        let head = BlockHead { kind, lane: NO_LANE, rows: 1, range: TimeRange::default() };
        let column = EncodedColumn { id: 0, encoding: encoding::STRUCTURED, bytes: structured };
        let offset = bytes.len() as u64;
        write_block(&head, &[column], 3, offset, bytes).expect("fits")
    }

    /// A header and a block that names many empty strings.
    fn bomb(strings: usize) -> (Vec<u8>, BlockInfo) {
        let mut bytes = Writer::new(Vec::new(), Header::new(1, 2)).expect("writes").sink().clone();
        let empty = structured::to_bytes(&vec![String::new(); strings]).expect("fits");
        let block = append(&mut bytes, kind::STRINGS, empty);
        (bytes, block)
    }

    #[test]
    fn a_footer_that_names_a_block_twice_is_not_believed() {
        for (times, expected) in [(1, 0), (2, 1)] {
            let (mut bytes, block) = bomb(3);
            let footer = Footer::new(&vec![block; times], Vec::new());
            let at = bytes.len() as u64;
            append(&mut bytes, kind::FOOTER, structured::to_bytes(&footer).expect("fits"));
            bytes.extend(trailer_to_bytes(at));
            let trace = TraceFile::open(Source::Bytes(bytes)).expect("opens");
            assert_eq!((trace.strings.len(), trace.warnings.len()), (1 + 3, expected));
        }
    }

    #[test]
    fn dictionaries_out_of_proportion_are_left_out() {
        let (mut bytes, block) = bomb(1 << 19);
        let again = bytes[block.offset as usize..].to_vec();
        for _ in 0..5 {
            bytes.extend_from_slice(&again);
        }
        assert!(bytes.len() < 1 << 20);
        let trace = TraceFile::open(Source::Bytes(bytes)).expect("opens");
        assert!(trace.strings.len() <= 1 << 20);
        assert!(trace.warnings.iter().any(|warning| matches!(warning, Warning::TooLarge { .. })));
    }
}
