//! The footer and the trailer: an index of the blocks, and the lane summaries.

use crate::TimeRange;
use crate::block::{BlockInfo, Fields};
use crate::constants::{END_MAGIC, TRAILER_LEN};
use crate::summary::LaneSummary;
use serde::{Deserialize, Serialize};

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Footer {
    blocks: Vec<IndexEntry>,
    pub(crate) summaries: Vec<LaneSummary>,
}

#[derive(Debug, Serialize, Deserialize)]
struct IndexEntry {
    offset: u64,
    kind: u16,
    version: u16,
    lane: u32,
    rows: u32,
    begin: u64,
    end: u64,
    payload_len: u32,
    columns: u16,
}

impl Footer {
    pub(crate) fn new(blocks: &[BlockInfo], summaries: Vec<LaneSummary>) -> Self {
        let entry = |block: &BlockInfo| IndexEntry {
            offset: block.offset,
            kind: block.kind,
            version: block.version,
            lane: block.lane,
            rows: block.rows,
            begin: block.range.begin,
            end: block.range.end,
            payload_len: block.payload_len,
            columns: block.columns,
        };
        Self { blocks: blocks.iter().map(entry).collect(), summaries }
    }

    /// The index. Entries are checked against the blocks when those are read.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = BlockInfo> + '_ {
        self.blocks.iter().map(|entry| BlockInfo {
            offset: entry.offset,
            kind: entry.kind,
            version: entry.version,
            lane: entry.lane,
            rows: entry.rows,
            range: TimeRange::new(entry.begin, entry.end),
            payload_len: entry.payload_len,
            columns: entry.columns,
        })
    }
}

/// The last bytes of a closed file: where the footer block begins.
pub(crate) fn trailer_to_bytes(footer_offset: u64) -> [u8; TRAILER_LEN] {
    let mut bytes = [0; TRAILER_LEN];
    bytes[0..8].copy_from_slice(&footer_offset.to_le_bytes());
    let crc = crc32fast::hash(&bytes[0..8]);
    bytes[8..12].copy_from_slice(&crc.to_le_bytes());
    bytes[16..24].copy_from_slice(&END_MAGIC);
    bytes
}

pub(crate) fn trailer_from_bytes(bytes: &[u8; TRAILER_LEN]) -> Option<u64> {
    let mut fields = Fields::new(bytes);
    let (offset, crc) = (fields.u64(), fields.u32());
    (bytes[16..24] == END_MAGIC && crc == crc32fast::hash(&bytes[0..8])).then_some(offset)
}
