//! Tables that are written either way, as comma-separated values or as Parquet: their columns
//! once, each with its type and where its value comes from.

use super::csv::Lines;
use super::parquet::Groups;
use llmtrace_format::Result;
use llmtrace_format::constants::NONE;
use parquet::data_type::ByteArray;
use std::io::Write;

/// A column: its name, and how to take its value from a row.
pub(super) type Column<R> = (&'static str, Get<R>);

/// Type of a column, and how to take its value from a row. `Maybe` is null
/// without a value, a text when it is empty.
pub(super) enum Get<R> {
    U32(fn(&R) -> u32),
    MaybeU32(fn(&R) -> Option<u32>),
    I32(fn(&R) -> i32),
    /// Nanoseconds, bytes and the like: signed, so that differences work.
    I64(fn(&R) -> u64),
    MaybeI64(fn(&R) -> Option<u64>),
    /// The same for values without repetition, such as times: no dictionary.
    Times(fn(&R) -> u64),
    MaybeTimes(fn(&R) -> Option<u64>),
    /// Values with a sign.
    Signed(fn(&R) -> i64),
    MaybeSigned(fn(&R) -> Option<i64>),
    MaybeF32(fn(&R) -> Option<f32>),
    Bool(fn(&R) -> bool),
    Text(fn(&R) -> ByteArray),
    Bytes(fn(&R) -> ByteArray),
}

/// An id, or none for a reference to nothing.
pub(super) fn known(id: u32) -> Option<u32> {
    Some(id).filter(|id| *id != NONE)
}

/// What files are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Csv,
    Parquet,
}

/// Where tables go.
pub(super) struct Files<'a, W> {
    pub(super) kind: Kind,
    /// Gives the sink of a file by its name.
    pub(super) open: &'a mut dyn FnMut(&str) -> Result<W>,
    /// Gets the sinks back.
    pub(super) close: &'a mut dyn FnMut(W) -> Result<()>,
}

impl<W: Write + Send> Files<'_, W> {
    /// Begins a table; [`Self::finish`] ends it.
    pub(super) fn table<R: 'static>(
        &mut self,
        name: &str,
        columns: &'static [Column<R>],
    ) -> Result<Table<R, W>> {
        Ok(match self.kind {
            Kind::Csv => Table::Csv(Lines::new(columns, (self.open)(&format!("{name}.csv"))?)?),
            Kind::Parquet => {
                let sink = (self.open)(&format!("{name}.parquet"))?;
                Table::Parquet(Box::new(Groups::new(name, columns, sink)?))
            }
        })
    }

    pub(super) fn finish<R: 'static>(&mut self, table: Table<R, W>) -> Result<()> {
        let sink = match table {
            Table::Csv(table) => table.finish()?,
            Table::Parquet(table) => table.finish()?,
        };
        (self.close)(sink)
    }

    /// Writes a table; gives its number of rows.
    pub(super) fn write<R: 'static>(
        &mut self,
        name: &str,
        columns: &'static [Column<R>],
        rows: impl IntoIterator<Item = R>,
    ) -> Result<u64> {
        let mut table = self.table(name, columns)?;
        let mut count = 0;
        for row in rows {
            table.push(row)?;
            count += 1;
        }
        self.finish(table)?;
        Ok(count)
    }
}

/// A file that is being written.
pub(super) enum Table<R: 'static, W: Write + Send> {
    Csv(Lines<R, W>),
    Parquet(Box<Groups<R, W>>),
}

impl<R: 'static, W: Write + Send> Table<R, W> {
    pub(super) fn push(&mut self, row: R) -> Result<()> {
        match self {
            Self::Csv(table) => table.push(&row),
            Self::Parquet(table) => table.push(row),
        }
    }
}
