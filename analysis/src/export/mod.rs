//! A trace in the formats of other tools, as a stream: a block of op spans is in
//! memory, never all of them.
//!
//! * [`chrome()`]: JSON for `chrome://tracing`, Perfetto, Speedscope and scripts;
//! * [`perfetto()`]: protobuf for Perfetto and its SQL engine, a quarter the size;
//! * [`csv()`]: one file a table, for spreadsheets and data frames;
//! * [`parquet()`]: the same with types, compressed, for SQL over many traces.
//!
//! All of them write the rows that touch a range, whole.

mod around;
mod chrome;
mod counted;
mod csv;
mod curves;
mod labels;
mod machine;
mod parquet;
mod perfetto;
mod proto;
mod slices;
mod states;
mod table;

pub use chrome::chrome;
pub use csv::{CSV_FILES, csv};
pub use parquet::{PARQUET_FILES, parquet};
pub use perfetto::perfetto;

use crate::cut::{Progress, touches};
use crate::lane_name;
use crate::{TimeRange, Trace};
use llmtrace_format::tables::Table as _;
use llmtrace_format::{BlockInfo, ColumnSet, Error, OpSpan, OpSpans, Result, Warning};

/// What an export wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExportReport {
    /// Op spans written.
    pub op_spans: u64,
    /// Rows of the other tables written.
    pub rows: u64,
    /// Blocks that could not be read and are missing.
    pub warnings: Vec<Warning>,
}

/// Hands out the op spans that touch a range, block by block; counts them.
fn each_span(
    trace: &Trace,
    range: TimeRange,
    report: &mut ExportReport,
    progress: Progress<'_>,
    mut each: impl FnMut(u32, &OpSpan) -> Result<()>,
) -> Result<()> {
    let wanted = |info: &&BlockInfo| touches(info.range.begin, info.range.end, range);
    let blocks: Vec<&BlockInfo> = trace.file.blocks_of::<OpSpans>().filter(wanted).collect();
    for (done, info) in blocks.iter().enumerate() {
        if !progress(done as f32 / blocks.len() as f32) {
            return Err(Error::Cancelled);
        }
        let Ok(table) = trace.file.read::<OpSpans>(info, ColumnSet::ALL) else {
            report.warnings.push(Warning::Unreadable { what: OpSpans::NAME, offset: info.offset });
            continue;
        };
        for span in table.spans(info.range).filter(|span| touches(span.begin, span.end(), range)) {
            each(info.lane, &span)?;
            report.op_spans += 1;
        }
    }
    Ok(())
}

/// Base name of the target, and its process id.
fn process(trace: &Trace) -> (&str, u32) {
    let target = trace.file.recording.as_ref().map(|recording| &recording.target);
    target.map_or(("llama.cpp", 0), |target| (target.exe.as_str(), target.pid))
}
