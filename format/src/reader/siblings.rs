//! Reads columns that another lane's block tells.

use super::{Columns, TraceFile};
use crate::block::DirectoryEntry;
use crate::sibling::{self, Ends, Reference, Told};
use crate::tables::{self, ColumnSet, OpSpans, Table as _};
use crate::{Error, Result, column};
use std::sync::Arc;

impl TraceFile {
    /// A column of op spans that follows from another lane's.
    pub(super) fn sibling(
        &self,
        block: &Columns<'_>,
        entry: &DirectoryEntry,
        told: Told,
    ) -> Result<Vec<u64>> {
        let malformed = |why| Error::Malformed { what: "column", offset: block.offset_of(entry), why };
        let bytes = self.column_bytes(block, entry)?;
        let (reference, planes) = Reference::split(&bytes).ok_or(malformed("cut off"))?;
        let reference = self.references.find(&reference, &self.blocks);
        let reference = reference.ok_or(malformed("the block of the other lane that tells it is missing"))?;
        let ends = match self.references.get(reference.offset) {
            Some(ends) => ends,
            None => {
                let read =
                    |other| self.independent(&other, &["gap", "compute", "wait", "node", "graph_span"]);
                let unreadable = malformed("the block of the other lane that tells it cannot be read");
                let rows = self.columns(&reference, true).and_then(read).map_err(|_| unreadable)?;
                let ends = Arc::new(Ends::of(&rows, reference.range.begin));
                self.references.put(reference.offset, &ends);
                ends
            }
        };
        let other = if told == Told::Compute { "wait" } else { "compute" };
        let rows = self.independent(block, &["gap", other, "node", "graph_span"])?;
        sibling::decode(planes, &rows, block.info.range.begin, told, &ends)
            .ok_or(malformed("it does not decode"))
    }

    /// Columns of op spans that follow from no other block: so nothing refers in circles.
    fn independent(&self, block: &Columns<'_>, names: &[&str]) -> Result<OpSpans> {
        let mut rows = OpSpans::default();
        let offset = block.info.offset;
        for (index, spec) in tables::selected::<OpSpans>(ColumnSet::only::<OpSpans>(names)) {
            let missing = Error::MissingColumn { offset, column: spec.name };
            let entry = block.directory.iter().find(|entry| entry.id == spec.id).ok_or(missing)?;
            let bytes = self.column_bytes(block, entry)?;
            let values = column::decode(&bytes, entry.encoding, block.info.rows);
            if !values.is_some_and(|values| rows.set_column(index, values)) {
                let why = "it does not decode by itself";
                return Err(Error::Malformed { what: "column", offset: block.offset_of(entry), why });
            }
        }
        Ok(rows)
    }
}
