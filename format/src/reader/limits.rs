//! What a file may ask of memory and time, in proportion to its length: a few bytes can claim
//! millions of rows.
//!
//! Bounds are some times what the densest real recordings take. What is beyond them is left out
//! and named, and the rest is read.

use super::TraceFile;
use crate::block::BlockInfo;
use crate::constants::kind;
use crate::{Result, Warning};

const MIB: u64 = 1 << 20;

/// Memory that dictionaries may take: real ones take some twenty times what they do in the file.
fn dictionary_bytes(len: u64) -> u64 {
    len.saturating_mul(24).saturating_add(24 * MIB).min(1 << 30)
}

/// Memory that rows may take of tables that readers keep: those of real files up to nine times
/// the file.
fn kept_bytes(len: u64) -> u64 {
    len.saturating_mul(16).saturating_add(24 * MIB)
}

/// Bytes that a footer may decompress to: its index takes less than the blocks do, and the buckets
/// of lanes some 50 KB each.
pub(super) fn footer_bytes(len: u64) -> u64 {
    len.saturating_mul(8).saturating_add(8 * MIB)
}

/// Op spans, which are decoded block by block, but gone through: real files have one in three
/// bytes, and those of a program as regular as a clock many in a byte.
fn op_spans(len: u64) -> u64 {
    len.saturating_mul(16).saturating_add(MIB)
}

impl TraceFile {
    /// Leaves out blocks that decompress to more, or have more rows, than a file of this length
    /// can need.
    pub(super) fn leave_out_bombs(&mut self) {
        let mut described = dictionary_bytes(self.len);
        let (mut kept, mut spans) = (kept_bytes(self.len), op_spans(self.len));
        let mut blocks = std::mem::take(&mut self.blocks);
        let mut descriptions: Option<u64> = None;
        let mut rows: Option<(u64, u64)> = None;
        blocks.retain(|info| {
            let (budget, cost) = match info.kind {
                kind::OP_SPANS => (&mut spans, info.rows.into()),
                kind if kind::is_dictionary(kind) => (&mut described, self.dictionary_bytes(info)),
                _ => (&mut kept, u64::from(info.rows) * u64::from(info.columns) * 8),
            };
            let rest = budget.checked_sub(cost);
            match rest {
                Some(rest) => *budget = rest,
                None if kind::is_dictionary(info.kind) => {
                    descriptions.get_or_insert(info.offset);
                }
                None => rows.get_or_insert((info.offset, 0)).1 += 1,
            }
            rest.is_some()
        });
        self.blocks = blocks;
        self.warnings.extend(descriptions.map(|offset| Warning::TooLarge { offset }));
        self.warnings.extend(rows.map(|(offset, blocks)| Warning::TooManyRows { offset, blocks }));
    }

    /// Bytes that the columns of a block decompress to.
    pub(super) fn raw_bytes(&self, info: &BlockInfo) -> Result<u64> {
        let block = self.columns(info, false)?;
        Ok(block.directory.iter().map(|entry| u64::from(entry.raw_len())).sum())
    }

    /// Memory that a dictionary's block takes once it is read.
    fn dictionary_bytes(&self, info: &BlockInfo) -> u64 {
        // An empty string is eight bytes in the file.
        self.raw_bytes(info)
            .map_or(0, |raw| raw.saturating_mul(if info.kind == kind::STRINGS { 4 } else { 2 }))
    }
}
