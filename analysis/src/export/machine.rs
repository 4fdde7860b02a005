//! Tables of the machine under the inference: states of threads, page faults, reads from disks,
//! frequencies, counts of op spans, samples.

use super::table::{Column, Files, Get, known};
use crate::cut::touches;
use crate::machine::{During, tensors_of};
use crate::{TimeRange, Trace};
use llmtrace_format::constants::NONE;
use llmtrace_format::counters::{OpCounter, OpCounters, ProcessSample, SystemSample, WITH_WAIT_BEFORE};
use llmtrace_format::machine::{BlockRead, Fault, Frequency, State, ThreadState, ThreadStates};
use llmtrace_format::meta::{Counter, StrId};
use llmtrace_format::{ColumnSet, Result};
use parquet::data_type::ByteArray;
use std::io::Write;

/// With the name of who runs in the thread's place.
const STATES: &[Column<(ThreadState, ByteArray)>] = &[
    ("begin_ns", Get::Times(|it| it.0.begin)),
    ("end_ns", Get::Times(|it| it.0.end)),
    ("tid", Get::U32(|it| it.0.tid)),
    ("process", Get::U32(|it| it.0.process)),
    ("state", Get::Text(|it| State::from_u8(it.0.state).name().into())),
    ("cpu", Get::MaybeU32(|it| known(it.0.cpu))),
    ("other_tid", Get::MaybeU32(|it| known(it.0.other_tid))),
    ("other_pid", Get::MaybeU32(|it| known(it.0.other_pid))),
    ("other", Get::Text(|it| it.1.clone())),
    ("continues", Get::Bool(|it| it.0.continues != 0)),
    ("touched_by_loss", Get::Bool(|it| it.0.touched_by_loss != 0)),
];

const FREQUENCIES: &[Column<Frequency>] = &[
    ("begin_ns", Get::Times(|row| row.begin)),
    ("time_ns", Get::Times(|row| row.end)),
    ("cpu", Get::U32(|row| row.cpu)),
    ("khz", Get::U32(|row| row.khz)),
];

/// A fault with what its numbers stand for.
struct FaultRow {
    row: Fault,
    /// Nanoseconds asleep; `None` where states were not recorded.
    wait: Option<u64>,
    /// Name of the file; empty when there is none, or it is unknown.
    file: ByteArray,
    /// First of the tensors that lie there; empty when none does.
    tensor: ByteArray,
    tensors: u32,
    /// Operator or call.
    during: ByteArray,
}

const FAULTS: &[Column<FaultRow>] = &[
    ("begin_ns", Get::Times(|it| it.row.begin)),
    ("end_ns", Get::Times(|it| it.row.end)),
    ("tid", Get::U32(|it| it.row.tid)),
    ("process", Get::U32(|it| it.row.process)),
    ("count", Get::U32(|it| it.row.count)),
    ("major", Get::MaybeU32(|it| known(it.row.major))),
    ("unaddressed", Get::U32(|it| it.row.unaddressed)),
    ("wait_ns", Get::MaybeTimes(|it| it.wait)),
    // Where all of them were made by system calls, no address is known.
    ("address", Get::MaybeTimes(|it| (it.row.unaddressed < it.row.count).then_some(it.row.address))),
    ("bytes", Get::MaybeI64(|it| (it.row.unaddressed < it.row.count).then_some(it.row.bytes))),
    ("known", Get::Bool(|it| it.row.known != 0)),
    ("file", Get::Text(|it| it.file.clone())),
    ("offset", Get::MaybeTimes(|it| known(it.row.file).map(|_| it.row.offset))),
    ("tensor", Get::Text(|it| it.tensor.clone())),
    ("tensors", Get::U32(|it| it.tensors)),
    ("during", Get::Text(|it| it.during.clone())),
    ("touched_by_loss", Get::Bool(|it| it.row.touched_by_loss != 0)),
];

const READS: &[Column<BlockRead>] = &[
    ("begin_ns", Get::Times(|row| row.begin)),
    ("end_ns", Get::Times(|row| row.end)),
    ("tid", Get::U32(|row| row.tid)),
    ("process", Get::U32(|row| row.process)),
    ("bytes", Get::U32(|row| row.bytes)),
    ("device", Get::Text(|row| device(row.device).as_str().into())),
    ("touched_by_loss", Get::Bool(|row| row.touched_by_loss != 0)),
];

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

/// With name and unit of the source.
const SYSTEM_SAMPLES: &[Column<(SystemSample, [ByteArray; 2])>] = &[
    ("time_ns", Get::Times(|it| it.0.time)),
    ("source", Get::Text(|it| it.1[0].clone())),
    ("unit", Get::Text(|it| it.1[1].clone())),
    ("value", Get::Times(|it| it.0.value)),
];

/// A block device as the kernel writes it: major and minor number.
pub(super) fn device(number: u32) -> String {
    format!("{}:{}", number >> 20, number & 0xF_FFFF)
}

/// Writes these tables, as far as they touch `range`. Damaged blocks are left out.
///
/// # Errors
/// When a sink cannot be opened or written.
pub(super) fn machine<W: Write + Send>(
    trace: &Trace,
    range: TimeRange,
    files: &mut Files<'_, W>,
) -> Result<()> {
    states(trace, range, files)?;
    let inside = |begin, end| touches(begin, end, range);
    let machine = &trace.machine;
    let rows = machine.frequencies.iter().filter(|row| range.contains(row.end)).copied();
    files.write("cpu_frequencies", FREQUENCIES, rows)?;
    let during = During::new(trace);
    let mapped = trace.file.recording.as_ref().map_or(&[][..], |recording| &recording.files);
    let rows = machine.faults.iter().filter(|row| inside(row.begin, row.end)).map(|row| {
        let tensors = tensors_of(trace, row);
        let file = mapped.get(row.file as usize).filter(|_| row.file != NONE);
        FaultRow {
            row: *row,
            wait: machine.has_states.then_some(row.wait),
            file: file.map_or("", |file| file.name.as_str()).into(),
            tensor: tensors.first().map_or("", |tensor| tensor.name.as_str()).into(),
            tensors: tensors.len() as u32,
            during: during.of(row).as_str().into(),
        }
    });
    files.write("page_faults", FAULTS, rows)?;
    let rows = machine.reads.iter().filter(|row| inside(row.begin, row.end)).copied();
    files.write("block_reads", READS, rows)?;
    counts(trace, range, files)?;
    let samples = trace.counts.samples.processes.iter().filter(|row| range.contains(row.time));
    files.write("process_samples", PROCESS_SAMPLES, samples.copied())?;
    let sources = trace.file.recording.as_ref().map_or(&[][..], |recording| &recording.sampled);
    let names: Vec<[ByteArray; 2]> = sources.iter().map(texts).collect();
    let samples = trace.counts.samples.system.iter().filter(|row| range.contains(row.time));
    let named = samples.map(|row| (*row, names.get(row.source as usize).cloned().unwrap_or_default()));
    files.write("system_samples", SYSTEM_SAMPLES, named)?;
    Ok(())
}

/// Name and unit.
fn texts(source: &Counter) -> [ByteArray; 2] {
    [&source.name, &source.unit].map(|text| text.as_str().into())
}

/// A block at a time: there may be many.
fn states<W: Write + Send>(trace: &Trace, range: TimeRange, files: &mut Files<'_, W>) -> Result<()> {
    let mut table = files.table("thread_states", STATES)?;
    for block in trace.file.blocks_of::<ThreadStates>() {
        let Ok(states) = trace.file.read::<ThreadStates>(block, ColumnSet::ALL) else { continue };
        for row in states.rows().filter(|row| touches(row.begin, row.end, range)) {
            table.push((row, trace.file.string(StrId(row.other)).into()))?;
        }
    }
    files.finish(table)
}

/// A row for each counter, a block at a time.
fn counts<W: Write + Send>(trace: &Trace, range: TimeRange, files: &mut Files<'_, W>) -> Result<()> {
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
    files.finish(table)
}
