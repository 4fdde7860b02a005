//! The footer and the trailer: an index of the blocks, and the lane summaries.

use crate::block::{BlockInfo, EncodedColumn, Fields};
use crate::constants::{BLOCK_HEADER_LEN, DIRECTORY_ENTRY_LEN, END_MAGIC, TRAILER_LEN, encoding, kind};
use crate::summary::LaneSummary;
use crate::{TimeRange, structured};
use serde::{Deserialize, Serialize};

/// Entries of the index in one column: 44 MB of at most 64 MiB.
const ENTRIES_PER_COLUMN: usize = 1 << 20;
/// Bytes of an entry.
const ENTRY_LEN: u64 = 42;

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Footer {
    blocks: Vec<IndexEntry>,
    pub(crate) summaries: Vec<LaneSummary>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct IndexEntry {
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

    /// Kind and columns of the block. The index of a very long recording takes
    /// columns of its own, behind the first.
    pub(crate) fn encode(self) -> Option<(u16, Vec<EncodedColumn>)> {
        self.encode_by(ENTRIES_PER_COLUMN)
    }

    fn encode_by(mut self, entries: usize) -> Option<(u16, Vec<EncodedColumn>)> {
        let column = |id, bytes| EncodedColumn { id, encoding: encoding::STRUCTURED, bytes };
        if self.blocks.len() <= entries {
            return Some((kind::FOOTER, vec![column(0, structured::to_bytes(&self)?)]));
        }
        let index = std::mem::take(&mut self.blocks);
        let mut columns = vec![column(0, structured::to_bytes(&self)?)];
        for (at, part) in index.chunks(entries).enumerate() {
            columns.push(column(at as u16 + 1, structured::to_bytes(&part.to_vec())?));
        }
        Some((kind::LONG_FOOTER, columns))
    }

    /// Adds what a further column holds.
    pub(crate) fn extend(&mut self, part: Vec<IndexEntry>) {
        self.blocks.extend(part);
    }

    /// Bytes of a footer block with so many entries and without summaries, at most.
    pub(crate) fn encoded_len(entries: usize) -> u64 {
        let columns = 2 + entries / ENTRIES_PER_COLUMN;
        let column = DIRECTORY_ENTRY_LEN + 2 * size_of::<u64>();
        BLOCK_HEADER_LEN as u64 + (columns * column) as u64 + ENTRY_LEN * entries as u64
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Source;
    use crate::block::{BlockHead, write_block};
    use crate::constants::NO_LANE;
    use crate::meta::Ending;
    use crate::tables::Mark;
    use crate::{Header, TraceFile, Writer};

    /// A file with many blocks, closed with a footer of `entries` entries a column.
    fn file(entries: usize) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new(), Header::new(1, 2)).expect("writes");
        for time in 0..100 {
            writer.push_mark(Mark { time, label: 0 });
            writer.flush().expect("writes");
        }
        let mut bytes = writer.finish(&Ending::default()).expect("writes");
        let whole = TraceFile::open(Source::Bytes(bytes.clone())).expect("opens");
        let offset = whole.footer_offset().expect("closed");
        bytes.truncate(offset as usize);
        let (kind, columns) = Footer::new(&whole.blocks, Vec::new()).encode_by(entries).expect("fits");
        let head = BlockHead { kind, lane: NO_LANE, rows: 1, range: TimeRange::default() };
        write_block(&head, &columns, 3, offset, &mut bytes).expect("fits");
        bytes.extend(trailer_to_bytes(offset));
        bytes
    }

    #[test]
    fn an_index_of_several_columns_is_read_and_checked() {
        let one = TraceFile::open(Source::Bytes(file(1000))).expect("opens");
        for entries in [7, 50, 100, 101] {
            let bytes = file(entries);
            let trace = TraceFile::open(Source::Bytes(bytes.clone())).expect("opens");
            assert_eq!((trace.blocks, trace.warnings), (one.blocks.clone(), Vec::new()));
            let checked = crate::check::check(Source::Bytes(bytes), &mut |_| true).expect("checks");
            assert_eq!(checked.problems, []);
        }
    }

    #[test]
    fn a_week_of_recording_fits_into_a_footer() {
        let block = BlockInfo {
            offset: 1 << 40,
            kind: 19,
            version: 1,
            lane: 7,
            rows: 10_000,
            range: TimeRange::new(1 << 50, 1 << 51),
            payload_len: 80_000,
            columns: 9,
        };
        // Twelve blocks (eight lanes, four tables) each 0.9 seconds.
        let blocks = 7 * 86_400 * 10 / 9 * 12;
        assert!(blocks / ENTRIES_PER_COLUMN < 60, "a block has at most 64 columns");
        // Its first two hours, in the same proportion to a column.
        let (kind, columns) = Footer::new(&vec![block; 96_000], Vec::new()).encode_by(12_500).expect("fits");
        assert_eq!((kind, columns.len()), (kind::LONG_FOOTER, 9));
        assert_eq!(columns[1].bytes.len() as u64, 8 + 12_500 * ENTRY_LEN);
        let full = ENTRY_LEN * ENTRIES_PER_COLUMN as u64 + 8;
        assert!(full < u64::from(crate::constants::MAX_STRUCTURED_BYTES));
    }
}
