//! A trace file in pieces that can be changed and put together again.

use llmtrace_format::constants::{
    BLOCK_HEADER_LEN, BLOCK_MARKER, DIRECTORY_ENTRY_LEN, END_MAGIC, HEADER_LEN, MAGIC, NO_LANE, TRAILER_LEN,
    compression, encoding, kind,
};

/// Columns that decompress to more are left compressed.
const MOST_RAW: usize = 4 << 20;
/// Bytes of an entry of the footer's index.
pub const INDEX_ENTRY_LEN: usize = 42;

/// A trace file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// The 40 bytes; the checksum is made when it is written.
    pub header: [u8; HEADER_LEN],
    /// The blocks, without the footer.
    pub blocks: Vec<Block>,
    /// How it ends.
    pub end: End,
}

/// How a file ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Not at all: the recorder was killed.
    Open,
    /// With a footer: an index of the blocks as they are, and these bytes behind it (summaries).
    Footer(Vec<u8>),
    /// With a footer of exactly these bytes.
    Raw(Vec<u8>),
}

/// A block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Block {
    /// Which table.
    pub kind: u16,
    /// Version of the table.
    pub version: u16,
    /// Which lane.
    pub lane: u32,
    /// Rows, as the header says.
    pub rows: u32,
    /// Begin of the first row.
    pub begin: u64,
    /// End of the last row.
    pub end: u64,
    /// Its columns.
    pub columns: Vec<Column>,
}

/// A column of a block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Column {
    /// Number.
    pub id: u16,
    /// How values are encoded.
    pub encoding: u8,
    /// What is compressed or stored.
    pub raw: Vec<u8>,
    /// Compression of `raw` when it is written; of `stored` when that is there.
    pub compression: u8,
    /// Bytes that are stored in place of `raw`, and the raw length that is claimed.
    pub stored: Option<(Vec<u8>, u32)>,
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

impl Block {
    /// A block with one structured column.
    pub fn structured(kind: u16, raw: Vec<u8>) -> Self {
        let column = Column {
            encoding: encoding::STRUCTURED,
            compression: compression::ZSTD,
            raw,
            ..Column::default()
        };
        Self { kind, version: 1, lane: NO_LANE, rows: 1, columns: vec![column], ..Self::default() }
    }

    /// The block at the begin of `bytes`, and its length. Checksums are not looked at.
    pub fn parse(bytes: &[u8]) -> Option<(Self, usize)> {
        if !bytes.starts_with(&BLOCK_MARKER) {
            return None;
        }
        let len = BLOCK_HEADER_LEN + u32_at(bytes, 32)? as usize;
        let count = usize::from(u16_at(bytes, 36)?);
        let directory = bytes.get(BLOCK_HEADER_LEN..BLOCK_HEADER_LEN + count * DIRECTORY_ENTRY_LEN)?;
        let mut at = BLOCK_HEADER_LEN + directory.len();
        let mut columns = Vec::with_capacity(count);
        for entry in directory.chunks_exact(DIRECTORY_ENTRY_LEN) {
            let stored_len = u32_at(entry, 4)? as usize;
            let stored = bytes.get(at..at.checked_add(stored_len)?)?;
            at += stored_len;
            columns.push(Column::parse(entry, stored)?);
        }
        let block = Self {
            kind: u16_at(bytes, 4)?,
            version: u16_at(bytes, 6)?,
            lane: u32_at(bytes, 8)?,
            rows: u32_at(bytes, 12)?,
            begin: u64_at(bytes, 16)?,
            end: u64_at(bytes, 24)?,
            columns,
        };
        (at == len).then_some((block, len))
    }

    /// Appends the block to `out`, with right checksums.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut directory = Vec::new();
        let mut stored = Vec::new();
        for column in &self.columns {
            column.write(&mut directory, &mut stored);
        }
        let start = out.len();
        out.extend(BLOCK_MARKER);
        out.extend(self.kind.to_le_bytes());
        out.extend(self.version.to_le_bytes());
        out.extend(self.lane.to_le_bytes());
        out.extend(self.rows.to_le_bytes());
        out.extend(self.begin.to_le_bytes());
        out.extend(self.end.to_le_bytes());
        out.extend(((directory.len() + stored.len()) as u32).to_le_bytes());
        out.extend((self.columns.len() as u16).to_le_bytes());
        out.extend([0; 6]);
        let mut crc = crc32fast::Hasher::new();
        crc.update(out.get(start..).unwrap_or_default());
        crc.update(&directory);
        out.extend(crc.finalize().to_le_bytes());
        out.extend(directory);
        out.extend(stored);
    }

    /// Its entry in the footer's index.
    fn index_entry(&self, offset: usize, len: usize) -> Vec<u8> {
        let mut entry = Vec::with_capacity(INDEX_ENTRY_LEN);
        entry.extend((offset as u64).to_le_bytes());
        entry.extend(self.kind.to_le_bytes());
        entry.extend(self.version.to_le_bytes());
        entry.extend(self.lane.to_le_bytes());
        entry.extend(self.rows.to_le_bytes());
        entry.extend(self.begin.to_le_bytes());
        entry.extend(self.end.to_le_bytes());
        entry.extend(((len - BLOCK_HEADER_LEN) as u32).to_le_bytes());
        entry.extend((self.columns.len() as u16).to_le_bytes());
        entry
    }
}

impl Column {
    /// A column of integers, all the same: eight bytes, whatever the rows.
    pub fn constant(id: u16, value: u64) -> Self {
        Self { id, encoding: encoding::CONSTANT, raw: value.to_le_bytes().to_vec(), ..Self::default() }
    }

    fn parse(entry: &[u8], stored: &[u8]) -> Option<Self> {
        let (id, compression, raw_len) = (u16_at(entry, 0)?, *entry.get(3)?, u32_at(entry, 8)?);
        let column = Self { id, encoding: *entry.get(2)?, compression, ..Self::default() };
        let raw = match compression {
            compression::NONE => Some(stored.to_vec()),
            compression::ZSTD if raw_len as usize <= MOST_RAW => {
                zstd::bulk::decompress(stored, raw_len as usize).ok()
            }
            _ => None,
        };
        Some(match raw.filter(|raw| raw.len() == raw_len as usize) {
            Some(raw) => Self { raw, ..column },
            None => Self { stored: Some((stored.to_vec(), raw_len)), ..column },
        })
    }

    fn write(&self, directory: &mut Vec<u8>, out: &mut Vec<u8>) {
        let packed;
        let (bytes, raw_len) = match &self.stored {
            Some((bytes, raw_len)) => (bytes.as_slice(), *raw_len),
            None if self.compression == compression::ZSTD => {
                packed = zstd::bulk::compress(&self.raw, 1).unwrap_or_default();
                (packed.as_slice(), self.raw.len() as u32)
            }
            None => (self.raw.as_slice(), self.raw.len() as u32),
        };
        directory.extend(self.id.to_le_bytes());
        directory.extend([self.encoding, self.compression]);
        directory.extend((bytes.len() as u32).to_le_bytes());
        directory.extend(raw_len.to_le_bytes());
        directory.extend(crc32fast::hash(bytes).to_le_bytes());
        out.extend_from_slice(bytes);
    }
}

impl File {
    /// A file with these blocks and a footer.
    pub fn of(blocks: Vec<Block>) -> Self {
        let mut header = [0; HEADER_LEN];
        header[..8].copy_from_slice(&MAGIC);
        header[8..10].copy_from_slice(&llmtrace_format::constants::VERSION_MAJOR.to_le_bytes());
        header[10..12].copy_from_slice(&llmtrace_format::constants::VERSION_MINOR.to_le_bytes());
        // No summaries.
        Self { header, blocks, end: End::Footer(vec![0; 8]) }
    }

    /// Takes a file apart, as far as its blocks follow each other; `None` for other files.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let header: [u8; HEADER_LEN] = *bytes.first_chunk()?;
        if !header.starts_with(&MAGIC) {
            return None;
        }
        let mut file = Self { header, blocks: Vec::new(), end: End::Open };
        let mut at = HEADER_LEN;
        while let Some((block, len)) = bytes.get(at..).and_then(Block::parse) {
            at += len;
            if kind::is_footer(block.kind) {
                file.end = block.columns.into_iter().next().and_then(end).unwrap_or(End::Open);
                break;
            }
            file.blocks.push(block);
        }
        Some(file)
    }

    /// Puts it together, with right checksums, index and trailer.
    pub fn write(&self) -> Vec<u8> {
        let mut out = self.header.to_vec();
        let crc = crc32fast::hash(&self.header[..36]);
        out[36..].copy_from_slice(&crc.to_le_bytes());
        let mut index = Vec::new();
        for block in &self.blocks {
            let offset = out.len();
            block.write(&mut out);
            index.extend(block.index_entry(offset, out.len() - offset));
        }
        let raw = match &self.end {
            End::Open => return out,
            End::Raw(raw) => raw.clone(),
            End::Footer(summaries) => {
                let count = (self.blocks.len() as u64).to_le_bytes();
                [&count[..], &index, summaries].concat()
            }
        };
        close(&mut out, raw);
        out
    }
}

/// Appends a footer of these bytes, and the trailer.
fn close(out: &mut Vec<u8>, raw: Vec<u8>) {
    let at = (out.len() as u64).to_le_bytes();
    Block::structured(kind::FOOTER, raw).write(out);
    let mut trailer = [0; TRAILER_LEN];
    trailer[..8].copy_from_slice(&at);
    trailer[8..12].copy_from_slice(&crc32fast::hash(&at).to_le_bytes());
    trailer[16..].copy_from_slice(&END_MAGIC);
    out.extend(trailer);
}

fn end(column: Column) -> Option<End> {
    let entries = usize::try_from(u64_at(&column.raw, 0)?).ok()?;
    let at = entries.checked_mul(INDEX_ENTRY_LEN)?.checked_add(8)?;
    Some(match column.raw.get(at..) {
        Some(summaries) => End::Footer(summaries.to_vec()),
        None => End::Raw(column.raw),
    })
}
