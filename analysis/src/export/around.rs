//! Tables of what goes on around operators: experts, offloading, sequences, the KV cache, calls.

use super::table::{Column, Files, Get, known};
use crate::cut::touches;
use crate::experts::layers_of;
use crate::offload::backend_name;
use crate::{TimeRange, Trace};
use llmtrace_format::constants::NONE;
use llmtrace_format::inference::{
    ALL_SEQUENCES, Call, CallKind, KvOperation, KvOperationRow, SequenceRun, Speculation, TokenRow,
    UNKNOWN_RESULT, UNKNOWN_VALUE,
};
use llmtrace_format::meta::StrId;
use llmtrace_format::offload::{Copy, CopyCall, Direction, SchedulerRun, Split, Sync};
use llmtrace_format::tables::{Expert, Experts, Selection, SelectionStatus, Selections};
use llmtrace_format::{ColumnSet, Result};
use parquet::data_type::ByteArray;
use std::collections::HashSet;
use std::io::Write;

/// A row with texts that the file has as numbers.
struct With<R, const N: usize> {
    row: R,
    texts: [ByteArray; N],
}

const RUNS: &[Column<SchedulerRun>] = &[
    ("id", Get::U32(|row| row.id)),
    ("begin_ns", Get::Times(|row| row.begin)),
    ("end_ns", Get::Times(|row| row.end)),
    ("ubatch", Get::MaybeU32(|row| known(row.ubatch))),
    ("tid", Get::U32(|row| row.tid)),
    ("process", Get::U32(|row| row.process)),
    ("touched_by_loss", Get::Bool(|row| row.touched_by_loss != 0)),
];

const SPLITS: &[Column<With<Split, 1>>] = &[
    ("id", Get::U32(|it| it.row.id)),
    ("begin_ns", Get::Times(|it| it.row.begin)),
    ("end_ns", Get::Times(|it| it.row.end)),
    ("run", Get::MaybeU32(|it| known(it.row.run))),
    ("backend", Get::Text(|it| it.texts[0].clone())),
    ("graph", Get::MaybeU32(|it| known(it.row.graph))),
    ("first_node", Get::MaybeU32(|it| known(it.row.first_node))),
    ("nodes", Get::U32(|it| it.row.nodes)),
    ("graph_span", Get::MaybeU32(|it| known(it.row.graph_span))),
    ("tid", Get::U32(|it| it.row.tid)),
    ("process", Get::U32(|it| it.row.process)),
    ("touched_by_loss", Get::Bool(|it| it.row.touched_by_loss != 0)),
];

const COPIES: &[Column<With<Copy, 5>>] = &[
    ("begin_ns", Get::Times(|it| it.row.begin)),
    ("end_ns", Get::Times(|it| it.row.end)),
    ("call", Get::Text(|it| CopyCall::from_u8(it.row.call).name().into())),
    ("direction", Get::Text(|it| Direction::from_u8(it.row.direction).name().into())),
    ("source", Get::Text(|it| it.texts[0].clone())),
    ("target", Get::Text(|it| it.texts[1].clone())),
    ("source_memory", Get::Text(|it| it.texts[2].clone())),
    ("target_memory", Get::Text(|it| it.texts[3].clone())),
    ("bytes", Get::I64(|it| it.row.bytes)),
    ("tensor", Get::Text(|it| it.texts[4].clone())),
    ("split", Get::MaybeU32(|it| known(it.row.split))),
    ("run", Get::MaybeU32(|it| known(it.row.run))),
    ("tid", Get::U32(|it| it.row.tid)),
    ("process", Get::U32(|it| it.row.process)),
    ("touched_by_loss", Get::Bool(|it| it.row.touched_by_loss != 0)),
];

const WAITS: &[Column<With<Sync, 1>>] = &[
    ("begin_ns", Get::Times(|it| it.row.begin)),
    ("end_ns", Get::Times(|it| it.row.end)),
    ("backend", Get::Text(|it| it.texts[0].clone())),
    ("run", Get::MaybeU32(|it| known(it.row.run))),
    ("tid", Get::U32(|it| it.row.tid)),
    ("process", Get::U32(|it| it.row.process)),
    ("touched_by_loss", Get::Bool(|it| it.row.touched_by_loss != 0)),
];

const SEQUENCES: &[Column<SequenceRun>] = &[
    ("time_ns", Get::Times(|row| row.time)),
    ("ubatch", Get::U32(|row| row.ubatch)),
    ("sequence", Get::MaybeU32(|row| known(row.sequence))),
    ("position", Get::MaybeU32(|row| known(row.position))),
    ("tokens", Get::U32(|row| row.tokens)),
    ("outputs", Get::MaybeU32(|row| known(row.outputs))),
    ("further", Get::U32(|row| row.further.into())),
];

const KV: &[Column<KvOperationRow>] = &[
    ("time_ns", Get::Times(|row| row.time)),
    ("tid", Get::U32(|row| row.tid)),
    ("operation", Get::Text(|row| KvOperation::from_u8(row.operation).name().into())),
    ("memory", Get::U32(|row| row.memory)),
    ("context", Get::MaybeU32(|row| known(row.context))),
    ("sequence", Get::MaybeU32(|row| known(row.sequence).filter(|&sequence| sequence != ALL_SEQUENCES))),
    ("all_sequences", Get::Bool(|row| row.sequence == ALL_SEQUENCES)),
    ("begin", Get::U32(|row| row.begin)),
    ("end", Get::MaybeU32(|row| known(row.end))),
    (
        "value",
        Get::MaybeSigned(|row| Some(i64::from(row.value as i32)).filter(|_| row.value != UNKNOWN_VALUE)),
    ),
    ("process", Get::U32(|row| row.process)),
];

const CALLS: &[Column<Call>] = &[
    ("begin_ns", Get::Times(|row| row.begin)),
    ("end_ns", Get::Times(|row| row.end)),
    ("kind", Get::Text(|row| CallKind::from_u8(row.kind).name().into())),
    ("tid", Get::U32(|row| row.tid)),
    ("context", Get::MaybeU32(|row| known(row.context))),
    ("argument", Get::MaybeSigned(|row| known(row.argument).map(|value| (value as i32).into()))),
    ("result", Get::MaybeSigned(|row| Some(row.result as i64).filter(|_| row.result != UNKNOWN_RESULT))),
    ("process", Get::U32(|row| row.process)),
];

const SPECULATION: &[Column<Speculation>] = &[
    ("time_ns", Get::Times(|row| row.time)),
    ("tid", Get::U32(|row| row.tid)),
    ("sequence", Get::U32(|row| row.sequence)),
    ("ubatch", Get::MaybeU32(|row| known(row.ubatch))),
    ("drafted", Get::MaybeU32(|row| known(row.drafted))),
    ("accepted", Get::U32(|row| row.accepted)),
    ("process", Get::U32(|row| row.process)),
];

const TOKENS: &[Column<TokenRow>] = &[
    ("time_ns", Get::Times(|row| row.time)),
    ("ubatch", Get::MaybeU32(|row| known(row.ubatch))),
    ("index", Get::MaybeU32(|row| known(row.index))),
    ("token", Get::U32(|row| row.token)),
    ("tid", Get::U32(|row| row.tid)),
    ("process", Get::U32(|row| row.process)),
];

/// With the layer's number.
const SELECTIONS: &[Column<(Selection, Option<u32>)>] = &[
    ("id", Get::U32(|row| row.0.id)),
    ("time_ns", Get::Times(|row| row.0.time)),
    ("layer", Get::MaybeU32(|row| row.1)),
    ("graph_span", Get::MaybeU32(|row| known(row.0.graph_span))),
    ("split", Get::MaybeU32(|row| known(row.0.split))),
    ("node", Get::U32(|row| row.0.node)),
    ("tokens", Get::U32(|row| row.0.tokens)),
    ("used", Get::U32(|row| row.0.used)),
    ("recorded", Get::U32(|row| row.0.recorded)),
    ("status", Get::Text(|row| SelectionStatus::from_u8(row.0.status).name().into())),
];

/// With the rank.
const EXPERTS: &[Column<(Expert, u32)>] = &[
    ("selection", Get::U32(|row| row.0.selection)),
    ("token", Get::U32(|row| row.0.token)),
    ("rank", Get::U32(|row| row.1)),
    ("expert", Get::U32(|row| row.0.expert)),
    ("weight", Get::MaybeF32(|row| known(row.0.weight).map(f32::from_bits))),
];

/// Writes these tables, as far as they touch `range`.
pub(super) fn around<W: Write + Send>(
    trace: &Trace,
    range: TimeRange,
    files: &mut Files<'_, W>,
) -> Result<()> {
    let text = |id: u32| ByteArray::from(trace.file.string(StrId(id)));
    let backend = |id: u32| match id {
        NONE => ByteArray::from(""),
        id => backend_name(trace, id).as_str().into(),
    };
    let inside = |begin, end| touches(begin, end, range);
    let offload = &trace.offload;
    let rows = offload.runs.iter().filter(|row| inside(row.begin, row.end)).copied();
    files.write("scheduler_runs", RUNS, rows)?;
    let rows = offload.splits.iter().filter(|row| inside(row.begin, row.end));
    let rows = rows.map(|row| With { row: *row, texts: [backend(row.backend)] });
    files.write("splits", SPLITS, rows)?;
    let rows = offload.copies.iter().filter(|row| inside(row.begin, row.end)).map(|row| {
        let ends = [backend(row.source), backend(row.target)];
        let [source, target] = ends;
        let texts = [source, target, text(row.source_memory), text(row.target_memory), text(row.tensor)];
        With { row: *row, texts }
    });
    files.write("copies", COPIES, rows)?;
    let rows = offload.syncs.iter().filter(|row| inside(row.begin, row.end));
    let rows = rows.map(|row| With { row: *row, texts: [backend(row.backend)] });
    files.write("waits", WAITS, rows)?;
    let around = &trace.inference;
    let at = |time| range.contains(time);
    let rows = around.sequences.iter().filter(|row| at(row.time)).copied();
    files.write("sequence_runs", SEQUENCES, rows)?;
    files.write("kv_operations", KV, around.kv.iter().filter(|row| at(row.time)).copied())?;
    let rows = around.calls.iter().filter(|row| inside(row.begin, row.end)).copied();
    files.write("calls", CALLS, rows)?;
    let rows = around.speculations.iter().filter(|row| at(row.time)).copied();
    files.write("speculations", SPECULATION, rows)?;
    files.write("token_ids", TOKENS, around.tokens.iter().filter(|row| at(row.time)).copied())?;
    experts(trace, range, files)
}

/// A block at a time: there may be many.
fn experts<W: Write + Send>(trace: &Trace, range: TimeRange, files: &mut Files<'_, W>) -> Result<()> {
    let mut kept = HashSet::new();
    let layer_of = layers_of(trace);
    let mut table = files.table("selections", SELECTIONS)?;
    for block in trace.file.blocks_of::<Selections>() {
        let Ok(rows) = trace.file.read::<Selections>(block, ColumnSet::ALL) else { continue };
        for row in rows.rows().filter(|row| range.contains(row.time)) {
            kept.insert(row.id);
            table.push((row, layer_of(&row)))?;
        }
    }
    files.finish(table)?;
    let mut table = files.table("experts", EXPERTS)?;
    let (mut of, mut rank) = (None, 0);
    for block in trace.file.blocks_of::<Experts>() {
        let Ok(rows) = trace.file.read::<Experts>(block, ColumnSet::ALL) else { continue };
        for row in rows.rows() {
            rank = if of.replace((row.selection, row.token)) == Some((row.selection, row.token)) {
                rank + 1
            } else {
                0
            };
            if kept.contains(&row.selection) {
                table.push((row, rank))?;
            }
        }
    }
    files.finish(table)
}
