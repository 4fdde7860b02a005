//! A table as a Parquet file: rows are gathered and written as a row group,
//! column by column.

use super::io;
use crate::export::table::{Column, Get};
use llmtrace_format::Result;
use parquet::basic::{Compression, Encoding, LogicalType, Repetition, Type as Physical, ZstdLevel};
use parquet::column::writer::ColumnWriter;
use parquet::data_type::{ByteArray, ByteArrayType, DataType};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{ColumnPath, Type};
use std::io::Write;
use std::sync::Arc;

/// Rows of a group: what DuckDB hands to one thread, and what is in memory.
const ROWS_PER_GROUP: usize = 122_880;

/// A file that is being written.
pub(in crate::export) struct Groups<R: 'static, W: Write + Send> {
    writer: SerializedFileWriter<W>,
    columns: &'static [Column<R>],
    rows: Vec<R>,
}

impl<R: 'static, W: Write + Send> Groups<R, W> {
    pub(in crate::export) fn new(name: &str, columns: &'static [Column<R>], sink: W) -> Result<Self> {
        let writer = SerializedFileWriter::new(sink, schema(name, columns)?, Arc::new(properties(columns)?));
        Ok(Self { writer: writer.map_err(io)?, columns, rows: Vec::new() })
    }

    pub(in crate::export) fn push(&mut self, row: R) -> Result<()> {
        self.rows.push(row);
        if self.rows.len() >= ROWS_PER_GROUP { self.write_group() } else { Ok(()) }
    }

    /// Writes what is left and the footer; gives the sink back.
    pub(in crate::export) fn finish(mut self) -> Result<W> {
        if !self.rows.is_empty() {
            self.write_group()?;
        }
        self.writer.into_inner().map_err(io)
    }

    fn write_group(&mut self) -> Result<()> {
        let mut group = self.writer.next_row_group().map_err(io)?;
        for (_, get) in self.columns {
            let Some(mut column) = group.next_column().map_err(io)? else { break };
            write_column(column.untyped(), get, &self.rows)?;
            column.close().map_err(io)?;
        }
        group.close().map_err(io)?;
        self.rows.clear();
        Ok(())
    }
}

fn write_column<R>(to: &mut ColumnWriter<'_>, get: &Get<R>, rows: &[R]) -> Result<()> {
    // Unsigned numbers are stored as the signed ones with the same bits.
    let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    match (to, get) {
        (ColumnWriter::Int32ColumnWriter(to), Get::U32(get)) => all(to, rows, |row| get(row) as i32),
        (ColumnWriter::Int32ColumnWriter(to), Get::I32(get)) => all(to, rows, get),
        (ColumnWriter::Int32ColumnWriter(to), Get::MaybeU32(get)) => {
            some(to, rows, |row| get(row).map(|value| value as i32))
        }
        (ColumnWriter::Int64ColumnWriter(to), Get::I64(get) | Get::Times(get)) => {
            all(to, rows, |row| signed(get(row)))
        }
        (ColumnWriter::Int64ColumnWriter(to), Get::MaybeI64(get) | Get::MaybeTimes(get)) => {
            some(to, rows, |row| get(row).map(signed))
        }
        (ColumnWriter::Int64ColumnWriter(to), Get::Signed(get)) => all(to, rows, get),
        (ColumnWriter::Int64ColumnWriter(to), Get::MaybeSigned(get)) => some(to, rows, get),
        (ColumnWriter::FloatColumnWriter(to), Get::MaybeF32(get)) => some(to, rows, get),
        (ColumnWriter::BoolColumnWriter(to), Get::Bool(get)) => all(to, rows, get),
        (ColumnWriter::ByteArrayColumnWriter(to), Get::Bytes(get)) => all(to, rows, get),
        (ColumnWriter::ByteArrayColumnWriter(to), Get::Text(get)) => texts(to, rows, get),
        // The schema is made of the same list.
        _ => Err(io("a column has another type than its schema")),
    }
}

type To<'a, 'b, T> = &'a mut parquet::column::writer::ColumnWriterImpl<'b, T>;

fn all<R, T: DataType<T: Clone>>(to: To<'_, '_, T>, rows: &[R], get: impl Fn(&R) -> T::T) -> Result<()> {
    let values: Vec<T::T> = rows.iter().map(get).collect();
    to.write_batch(&values, None, None).map_err(io)?;
    Ok(())
}

fn some<R, T: DataType>(to: To<'_, '_, T>, rows: &[R], get: impl Fn(&R) -> Option<T::T>) -> Result<()> {
    let mut values = Vec::with_capacity(rows.len());
    let mut levels = Vec::with_capacity(rows.len());
    for row in rows {
        let value = get(row);
        levels.push(i16::from(value.is_some()));
        values.extend(value);
    }
    to.write_batch(&values, Some(&levels), None).map_err(io)?;
    Ok(())
}

fn texts<R>(to: To<'_, '_, ByteArrayType>, rows: &[R], get: impl Fn(&R) -> ByteArray) -> Result<()> {
    some(to, rows, |row| Some(get(row)).filter(|text| !text.is_empty()))
}

fn schema<R>(name: &str, columns: &[Column<R>]) -> Result<Arc<Type>> {
    let unsigned = Some(LogicalType::integer(32, false));
    let field = |(name, get): &Column<R>| {
        let (physical, logical, optional) = match get {
            Get::U32(_) => (Physical::INT32, unsigned.clone(), false),
            Get::MaybeU32(_) => (Physical::INT32, unsigned.clone(), true),
            Get::I32(_) => (Physical::INT32, None, false),
            Get::I64(_) | Get::Times(_) | Get::Signed(_) => (Physical::INT64, None, false),
            Get::MaybeI64(_) | Get::MaybeTimes(_) | Get::MaybeSigned(_) => (Physical::INT64, None, true),
            Get::MaybeF32(_) => (Physical::FLOAT, None, true),
            Get::Bool(_) => (Physical::BOOLEAN, None, false),
            Get::Text(_) => (Physical::BYTE_ARRAY, Some(LogicalType::String), true),
            Get::Bytes(_) => (Physical::BYTE_ARRAY, None, false),
        };
        let repetition = if optional { Repetition::OPTIONAL } else { Repetition::REQUIRED };
        let field = Type::primitive_type_builder(name, physical);
        field.with_logical_type(logical).with_repetition(repetition).build().map(Arc::new)
    };
    let fields = columns.iter().map(field).collect::<parquet::errors::Result<Vec<_>>>().map_err(io)?;
    Ok(Arc::new(Type::group_type_builder(name).with_fields(fields).build().map_err(io)?))
}

fn properties<R>(columns: &[Column<R>]) -> Result<WriterProperties> {
    let zstd = Compression::ZSTD(ZstdLevel::try_new(3).map_err(io)?);
    let common = WriterProperties::builder()
        .set_created_by(concat!("llmtrace ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(zstd)
        .set_statistics_enabled(EnabledStatistics::Chunk);
    let plain = |properties: WriterPropertiesBuilder, (name, get): &Column<R>| {
        if !matches!(get, Get::Times(_) | Get::MaybeTimes(_)) {
            return properties;
        }
        let path = ColumnPath::from(*name);
        let properties = properties.set_column_dictionary_enabled(path.clone(), false);
        properties.set_column_encoding(path, Encoding::DELTA_BINARY_PACKED)
    };
    Ok(columns.iter().fold(common, plain).build())
}
