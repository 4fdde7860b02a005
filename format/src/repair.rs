//! Writes the readable blocks of a damaged file as a whole file.

use crate::block::{BlockHead, BlockInfo, write_block};
use crate::check::Checked;
use crate::constants::NO_LANE;
use crate::footer::{Footer, trailer_to_bytes};
use crate::{Error, Result, ScanProgress, TimeRange};
use std::io::Write;

/// Speed and size as while recording.
const ZSTD_LEVEL: i32 = 3;

impl Checked {
    /// Writes the header, every readable block byte by byte, and a fresh
    /// footer. Rows that refer to nothing stay: they mean nothing, and readers
    /// know it. An ending is not made up: the recording was not closed.
    /// `progress` returns `false` to cancel.
    ///
    /// # Errors
    /// When the file cannot be read or the sink not written, and
    /// [`Error::Cancelled`].
    pub fn repair<W: Write>(&self, mut sink: W, progress: ScanProgress<'_>) -> Result<W> {
        let header = self.file.header.to_bytes();
        sink.write_all(&header)?;
        let mut offset = header.len() as u64;
        let mut blocks = Vec::with_capacity(self.readable.len());
        for (done, info) in self.readable.iter().enumerate() {
            if done.is_multiple_of(16) && !progress(done as f32 / self.readable.len() as f32) {
                return Err(Error::Cancelled);
            }
            sink.write_all(&self.file.block_bytes(info)?)?;
            blocks.push(BlockInfo { offset, ..*info });
            offset += info.file_len();
        }
        let why = "larger than a block can hold";
        let too_large = Error::Malformed { what: "description", offset, why };
        let (kind, columns) = Footer::new(&blocks, self.summaries.clone()).encode().ok_or(too_large)?;
        let head = BlockHead { kind, lane: NO_LANE, rows: 1, range: TimeRange::default() };
        let mut block = Vec::new();
        write_block(&head, &columns, ZSTD_LEVEL, offset, &mut block)?;
        sink.write_all(&block)?;
        sink.write_all(&trailer_to_bytes(offset))?;
        sink.flush()?;
        Ok(sink)
    }
}
