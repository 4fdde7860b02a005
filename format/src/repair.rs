//! Writes the readable blocks of a damaged file as a whole file.

use crate::block::{BlockHead, BlockInfo, EncodedColumn, write_block};
use crate::check::Checked;
use crate::constants::NO_LANE;
use crate::footer::{Footer, trailer_to_bytes};
use crate::tables::{self, Table};
use crate::{Error, Result, ScanProgress, TimeRange};
use std::io::Write;

/// Speed and size as while recording.
const ZSTD_LEVEL: i32 = 3;

impl Checked {
    /// Writes the header, every readable block byte by byte, summaries that were
    /// missing or wrong, and a fresh footer. Rows that refer to nothing stay:
    /// they mean nothing, and readers know it. An ending is not made up: the
    /// recording was not closed. `progress` returns `false` to cancel.
    ///
    /// # Errors
    /// When the file cannot be read or the sink not written, and
    /// [`Error::Cancelled`].
    pub fn repair<W: Write>(&self, mut sink: W, progress: ScanProgress<'_>) -> Result<W> {
        let header = self.file.header.to_bytes();
        sink.write_all(&header)?;
        let blocks = Vec::with_capacity(self.readable.len());
        let mut out = Output { sink, offset: header.len() as u64, blocks };
        for (done, info) in self.readable.iter().enumerate() {
            if done.is_multiple_of(16) && !progress(done as f32 / self.readable.len() as f32) {
                return Err(Error::Cancelled);
            }
            out.sink.write_all(&self.file.block_bytes(info)?)?;
            out.blocks.push(BlockInfo { offset: out.offset, ..*info });
            out.offset += info.file_len();
            if let Some((lane, segment)) = self.fresh.get(&info.offset) {
                out.table(&segment.buckets(), *lane, segment.range)?;
                if let Some(nodes) = &segment.nodes {
                    out.table(nodes, *lane, segment.range)?;
                }
            }
        }
        if let Some(executions) = &self.executions {
            out.table(executions, NO_LANE, TimeRange::default())?;
        }
        let offset = out.offset;
        let why = "larger than a block can hold";
        let too_large = Error::Malformed { what: "description", offset, why };
        let (kind, columns) = Footer::new(&out.blocks, self.summaries.clone()).encode().ok_or(too_large)?;
        let head = BlockHead { kind, lane: NO_LANE, rows: 1, range: TimeRange::default() };
        out.block(&head, &columns)?;
        out.sink.write_all(&trailer_to_bytes(offset))?;
        out.sink.flush()?;
        Ok(out.sink)
    }
}

struct Output<W> {
    sink: W,
    offset: u64,
    blocks: Vec<BlockInfo>,
}

impl<W: Write> Output<W> {
    fn table<T: Table>(&mut self, table: &T, lane: u32, range: TimeRange) -> Result<()> {
        let head = BlockHead { kind: T::KIND, lane, rows: table.len() as u32, range };
        self.block(&head, &tables::encode(table))
    }

    fn block(&mut self, head: &BlockHead, columns: &[EncodedColumn]) -> Result<()> {
        let mut bytes = Vec::new();
        let info = write_block(head, columns, ZSTD_LEVEL, self.offset, &mut bytes)?;
        self.sink.write_all(&bytes)?;
        self.offset += bytes.len() as u64;
        self.blocks.push(info);
        Ok(())
    }
}
