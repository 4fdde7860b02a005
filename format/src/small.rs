//! Encodes op spans for a small file: what another lane tells is left out.

use crate::block::{BlockInfo, EncodedColumn};
use crate::sibling::{self, Ends, Told};
use crate::tables::{self, OpSpans, Table as _};
use crate::{TimeRange, column};

/// The blocks of one flush that others may refer to: those of lanes that were
/// written before and stand by themselves.
#[derive(Default)]
pub(crate) struct Siblings(Vec<(BlockInfo, Ends)>);

impl Siblings {
    /// The columns of a block, and whether it stands by itself.
    pub(crate) fn encode(&self, rows: &OpSpans, range: TimeRange) -> (Vec<EncodedColumn>, bool) {
        let mut columns = tables::encode_small(rows, rows.period());
        let matched = self.0.iter().map(|(info, ends)| (ends.matches(rows), info, ends));
        let best =
            matched.max_by_key(|(matches, ..)| *matches).filter(|(matches, ..)| *matches > rows.len() / 2);
        let Some((_, info, ends)) = best else { return (columns, true) };
        let told = [Told::Compute, Told::Wait].map(|told| {
            let mut bytes = Vec::new();
            let encoding = sibling::encode(rows, range.begin, told, info, ends, &mut bytes);
            let usual = columns.get(told.column()).map_or(0, |column| column::packed(&column.bytes));
            (usual.saturating_sub(column::packed(&bytes)), told, encoding, bytes)
        });
        let Some((saved, told, encoding, bytes)) = told.into_iter().max_by_key(|(saved, ..)| *saved) else {
            return (columns, true);
        };
        match columns.get_mut(told.column()) {
            Some(column) if saved > 0 => (column.encoding, column.bytes) = (encoding, bytes),
            _ => return (columns, true),
        }
        (columns, false)
    }

    /// Later lanes may refer to a block that was written.
    pub(crate) fn add(&mut self, info: BlockInfo, rows: &OpSpans) {
        self.0.push((info, Ends::of(rows, info.range.begin)));
    }
}
