//! Blocks: the fixed header, the column directory, and the columns.

use crate::constants::{
    BLOCK_HEADER_LEN, BLOCK_MARKER, DIRECTORY_ENTRY_LEN, MAX_COLUMN_BYTES, MAX_COLUMNS, MAX_ROWS,
    MAX_STRUCTURED_BYTES, compression, encoding, kind,
};
use crate::{Error, Result, TimeRange};
use std::cell::RefCell;
use zstd::bulk::{Compressor, Decompressor};

/// What a block's header says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockInfo {
    /// Where the block begins in the file.
    pub offset: u64,
    /// Which table ([`crate::constants::kind`]).
    pub kind: u16,
    /// Version of the table.
    pub version: u16,
    /// Which lane; [`crate::constants::NO_LANE`] for tables without lanes.
    pub lane: u32,
    /// Number of rows.
    pub rows: u32,
    /// From the first row's begin to the last row's end.
    pub range: TimeRange,
    /// Bytes after the fixed header: directory and columns.
    pub payload_len: u32,
    /// Number of columns.
    pub columns: u16,
}

impl BlockInfo {
    /// Bytes that the whole block takes in the file.
    pub fn file_len(&self) -> u64 {
        BLOCK_HEADER_LEN as u64 + u64::from(self.payload_len)
    }
}

/// One encoded column, ready to be stored.
pub(crate) struct EncodedColumn {
    pub(crate) id: u16,
    pub(crate) encoding: u8,
    pub(crate) bytes: Vec<u8>,
}

/// One entry of the directory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DirectoryEntry {
    pub(crate) id: u16,
    pub(crate) encoding: u8,
    compression: u8,
    stored_len: u32,
    raw_len: u32,
    crc: u32,
    /// Where its bytes begin, counted from the start of the payload.
    at: u32,
}

impl DirectoryEntry {
    /// Bytes after decompression, as the file says; checked when it is unpacked.
    pub(crate) fn raw_len(&self) -> u32 {
        self.raw_len
    }
}

/// Identity of a block about to be written.
pub(crate) struct BlockHead {
    pub(crate) kind: u16,
    pub(crate) lane: u32,
    pub(crate) rows: u32,
    pub(crate) range: TimeRange,
}

thread_local! {
    /// Its tables are large, and would be made anew for every column.
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
}

/// Compresses with zstd.
///
/// # Errors
/// When there is no memory for it.
pub(crate) fn compress(bytes: &[u8], level: i32) -> std::io::Result<Vec<u8>> {
    COMPRESSOR.with_borrow_mut(|kept| {
        let compressor = match kept {
            Some(compressor) => compressor,
            None => kept.insert(Compressor::new(level)?),
        };
        compressor.set_compression_level(level)?;
        compressor.compress(bytes)
    })
}

/// Appends a block to `out`; `offset` is where it will lie in the file.
///
/// # Errors
/// When the columns take more bytes than a block can hold.
pub(crate) fn write_block(
    head: &BlockHead,
    columns: &[EncodedColumn],
    level: i32,
    offset: u64,
    out: &mut Vec<u8>,
) -> Result<BlockInfo> {
    let start = out.len();
    let directory_at = start + BLOCK_HEADER_LEN;
    out.resize(directory_at + columns.len() * DIRECTORY_ENTRY_LEN, 0);
    for (index, column) in columns.iter().enumerate() {
        let packed = compress(&column.bytes, level)?;
        let (method, stored) = if packed.len() < column.bytes.len() {
            (compression::ZSTD, packed.as_slice())
        } else {
            (compression::NONE, column.bytes.as_slice())
        };
        out.extend_from_slice(stored);
        let entry = &mut out[directory_at + index * DIRECTORY_ENTRY_LEN..][..DIRECTORY_ENTRY_LEN];
        entry[0..2].copy_from_slice(&column.id.to_le_bytes());
        entry[2] = column.encoding;
        entry[3] = method;
        entry[4..8].copy_from_slice(&(stored.len() as u32).to_le_bytes());
        entry[8..12].copy_from_slice(&(column.bytes.len() as u32).to_le_bytes());
        entry[12..16].copy_from_slice(&crc32fast::hash(stored).to_le_bytes());
    }
    let payload_len = u32::try_from(out.len() - directory_at).map_err(|_| Error::Malformed {
        what: "block",
        offset,
        why: "too many bytes for one block",
    })?;
    let info = BlockInfo {
        offset,
        kind: head.kind,
        version: 1,
        lane: head.lane,
        rows: head.rows,
        range: head.range,
        payload_len,
        columns: columns.len() as u16,
    };
    let fixed = &mut out[start..directory_at];
    fixed[0..4].copy_from_slice(&BLOCK_MARKER);
    fixed[4..6].copy_from_slice(&info.kind.to_le_bytes());
    fixed[6..8].copy_from_slice(&info.version.to_le_bytes());
    fixed[8..12].copy_from_slice(&info.lane.to_le_bytes());
    fixed[12..16].copy_from_slice(&info.rows.to_le_bytes());
    fixed[16..24].copy_from_slice(&info.range.begin.to_le_bytes());
    fixed[24..32].copy_from_slice(&info.range.end.to_le_bytes());
    fixed[32..36].copy_from_slice(&info.payload_len.to_le_bytes());
    fixed[36..38].copy_from_slice(&info.columns.to_le_bytes());
    // The header's checksum covers the directory too, which is written by now.
    let mut crc = crc32fast::Hasher::new();
    crc.update(&out[start..start + 44]);
    crc.update(&out[directory_at..directory_at + columns.len() * DIRECTORY_ENTRY_LEN]);
    out[start + 44..directory_at].copy_from_slice(&crc.finalize().to_le_bytes());
    Ok(info)
}

/// Reads the fixed header of the block at `offset`. Its checksum covers the
/// directory too and is checked by [`read_directory`].
pub(crate) fn read_fixed(bytes: &[u8; BLOCK_HEADER_LEN], offset: u64) -> Result<(BlockInfo, u32)> {
    let malformed = |why| Error::Malformed { what: "block", offset, why };
    if bytes[..4] != BLOCK_MARKER {
        return Err(malformed("no block begins here"));
    }
    let mut fields = Fields::new(&bytes[4..]);
    let (kind, version, lane, rows) = (fields.u16(), fields.u16(), fields.u32(), fields.u32());
    let range = TimeRange { begin: fields.u64(), end: fields.u64() };
    let (payload_len, columns) = (fields.u32(), fields.u16());
    fields.u16();
    fields.u32();
    let crc = fields.u32();
    if rows > MAX_ROWS {
        return Err(malformed("too many rows"));
    }
    if usize::from(columns) > MAX_COLUMNS
        || (payload_len as usize) < usize::from(columns) * DIRECTORY_ENTRY_LEN
    {
        return Err(malformed("too many columns"));
    }
    if range.end < range.begin {
        return Err(malformed("time runs backwards"));
    }
    Ok((BlockInfo { offset, kind, version, lane, rows, range, payload_len, columns }, crc))
}

/// Reads and checks the directory, which follows the fixed header.
pub(crate) fn read_directory(
    fixed: &[u8; BLOCK_HEADER_LEN],
    info: &BlockInfo,
    crc: u32,
    directory: &[u8],
) -> Result<Vec<DirectoryEntry>> {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&fixed[..44]);
    hasher.update(directory);
    if hasher.finalize() != crc {
        return Err(Error::Checksum { what: "block header", offset: info.offset });
    }
    let mut at = directory.len() as u64;
    let mut entries = Vec::with_capacity(usize::from(info.columns));
    for bytes in directory.chunks_exact(DIRECTORY_ENTRY_LEN) {
        let mut fields = Fields::new(bytes);
        let id = fields.u16();
        let [encoding, compression] = fields.u16().to_le_bytes();
        let (stored_len, raw_len, crc) = (fields.u32(), fields.u32(), fields.u32());
        entries.push(DirectoryEntry { id, encoding, compression, stored_len, raw_len, crc, at: at as u32 });
        at += u64::from(stored_len);
    }
    if at != u64::from(info.payload_len) {
        return Err(Error::Malformed { what: "block", offset: info.offset, why: "columns do not fill it" });
    }
    Ok(entries)
}

/// The stored bytes of a column within its block's payload.
pub(crate) fn stored_range(entry: &DirectoryEntry) -> (u64, u32) {
    (u64::from(entry.at), entry.stored_len)
}

/// Checks and decompresses one column's stored bytes.
pub(crate) fn unpack(entry: &DirectoryEntry, stored: &[u8], info: &BlockInfo) -> Result<Vec<u8>> {
    let offset = info.offset + BLOCK_HEADER_LEN as u64 + u64::from(entry.at);
    if crc32fast::hash(stored) != entry.crc {
        return Err(Error::Checksum { what: "column", offset });
    }
    let limit = if entry.encoding == encoding::STRUCTURED || kind::is_footer(info.kind) {
        MAX_STRUCTURED_BYTES
    } else {
        MAX_COLUMN_BYTES
    };
    let malformed = |why| Error::Malformed { what: "column", offset, why };
    if entry.raw_len > limit {
        return Err(malformed("larger than any column may be"));
    }
    match entry.compression {
        compression::NONE if entry.stored_len == entry.raw_len => Ok(stored.to_vec()),
        compression::ZSTD => {
            let raw = decompress(stored, entry.raw_len as usize)
                .map_err(|_| malformed("zstd cannot decompress it"))?;
            if raw.len() == entry.raw_len as usize { Ok(raw) } else { Err(malformed("wrong length")) }
        }
        _ => Err(malformed("unknown compression")),
    }
}

thread_local! {
    /// Making one costs more than decompressing a small column.
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

fn decompress(stored: &[u8], capacity: usize) -> std::io::Result<Vec<u8>> {
    DECOMPRESSOR.with_borrow_mut(|known| match known {
        Some(decompressor) => decompressor.decompress(stored, capacity),
        None => known.insert(Decompressor::new()?).decompress(stored, capacity),
    })
}

/// Little-endian fields of a fixed-size record. Reading past the end gives
/// zero; callers size their slices with constants.
pub(crate) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (head, tail) = self.0.split_first_chunk::<N>().unwrap_or((&[0; N], &[]));
        self.0 = tail;
        *head
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.take())
    }

    pub(crate) fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    pub(crate) fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }
}
