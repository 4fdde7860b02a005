//! Counts of op spans, a row for each counter, and samples.

use super::{Error, Files, Result};
use crate::cut::touches;
use crate::export::table::{Column, Get};
use crate::{TimeRange, Trace};
use llmtrace_format::ColumnSet;
use llmtrace_format::counters::{OpCounter, OpCounters, ProcessSample, WITH_WAIT_BEFORE};
use parquet::data_type::ByteArray;
use std::io::Write;

/// One counter of one op span.
struct Count {
    row: OpCounter,
    lane: u32,
    name: ByteArray,
    counter: usize,
}

const OP_COUNTERS: &[Column<Count>] = &[
    ("lane", Get::U32(|of| of.lane)),
    ("begin_ns", Get::Times(|of| of.row.begin)),
    ("graph_span", Get::U32(|of| of.row.graph_span)),
    ("node", Get::U32(|of| of.row.node)),
    ("fused", Get::U32(|of| of.row.fused)),
    ("counter", Get::Text(|of| of.name.clone())),
    ("count", Get::MaybeTimes(|of| of.row.count(of.counter))),
    ("scaled", Get::Bool(|of| of.row.scaled >> of.counter & 1 == 1)),
    ("with_wait_before", Get::Bool(|of| of.row.flags & WITH_WAIT_BEFORE != 0)),
];

const PROCESS_SAMPLES: &[Column<ProcessSample>] = &[
    ("time_ns", Get::Times(|row| row.time)),
    ("process", Get::U32(|row| row.process)),
    ("cpu_ns", Get::MaybeTimes(|row| row.cpu_nanos.checked_sub(1))),
    ("resident_bytes", Get::MaybeTimes(|row| row.resident.checked_sub(1))),
    ("resident_file_bytes", Get::MaybeTimes(|row| row.resident_files.checked_sub(1))),
    ("model_resident_bytes", Get::MaybeTimes(|row| row.model_resident.checked_sub(1))),
    ("model_share_bytes", Get::MaybeTimes(|row| row.model_share.checked_sub(1))),
];

/// Writes both tables. Damaged blocks are left out.
///
/// # Errors
/// When a sink cannot be opened or written.
pub(super) fn write<W: Write + Send>(
    trace: &Trace,
    range: TimeRange,
    files: &mut Files<'_, W>,
) -> Result<(), Error> {
    let names: Vec<ByteArray> =
        trace.counters().iter().map(|counter| ByteArray::from(counter.name.as_str())).collect();
    let mut table = files.table("op_counters", OP_COUNTERS)?;
    for block in trace.file.blocks_of::<OpCounters>() {
        let Ok(counts) = trace.file.read::<OpCounters>(block, ColumnSet::ALL) else { continue };
        for row in counts.rows().filter(|row| range.contains(row.begin)) {
            for (counter, name) in names.iter().enumerate() {
                table.push(Count { row, lane: block.lane, name: name.clone(), counter })?;
            }
        }
    }
    files.finish(table)?;
    let samples = trace.counts.samples.processes.iter().filter(|row| touches(row.time, row.time, range));
    files.write("process_samples", PROCESS_SAMPLES, samples.copied())?;
    Ok(())
}
