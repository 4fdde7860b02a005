//! The tables: each column once, with its type and where its value comes from.
//! `docs/cli.md` says what they mean.

use super::super::labels::Label;
use super::super::table::{Column, Get, known};
use super::{phase, row_phase};
use crate::{Nanos, Phase};
use llmtrace_format::OpSpan;
use llmtrace_format::meta::{Ending, Level, Recording, Tensor};
use llmtrace_format::tables::{Decode, EVENT_KINDS, GraphSpan, LevelChange, Loss, Thread, Ubatch};
use parquet::data_type::ByteArray;
use std::rc::Rc;

/// A [`Label`], in texts that rows share.
pub(super) struct Named {
    op: ByteArray,
    name: ByteArray,
    kind: ByteArray,
    shape: ByteArray,
    layer: Option<u32>,
}

impl Named {
    pub(super) fn new(label: &Label) -> Self {
        let [op, name, kind, shape] =
            [&label.op, &label.name, &label.kind, &label.shape].map(|text| ByteArray::from(text.as_str()));
        Self { op, name, kind, shape, layer: label.layer }
    }
}

/// Where a graph run belongs.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) graph: Option<u32>,
    pub(super) ubatch: Option<u32>,
    pub(super) decode: Option<u32>,
    pub(super) token: Option<u32>,
    pub(super) phase: Phase,
}

pub(super) struct OneSpan {
    pub(super) span: OpSpan,
    pub(super) lane: u32,
    pub(super) name: Rc<Named>,
    pub(super) thread: Option<Thread>,
    pub(super) place: Place,
    pub(super) waits_known: bool,
}

pub(super) const OP_SPANS: &[Column<OneSpan>] = &[
    ("lane", Get::U32(|row| row.lane)),
    ("ith", Get::MaybeU32(|row| row.thread.map(|thread| thread.ith))),
    ("tid", Get::MaybeU32(|row| row.thread.map(|thread| thread.tid))),
    ("pid", Get::MaybeU32(|row| row.thread.map(|thread| thread.pid))),
    ("cpu", Get::U32(|row| row.span.cpu)),
    ("begin_ns", Get::Times(|row| row.span.begin)),
    ("compute_ns", Get::Times(|row| row.span.compute)),
    ("wait_ns", Get::MaybeTimes(|row| row.waits_known.then_some(row.span.wait))),
    ("op", Get::Text(|row| row.name.op.clone())),
    ("name", Get::Text(|row| row.name.name.clone())),
    ("layer", Get::MaybeU32(|row| row.name.layer)),
    ("type", Get::Text(|row| row.name.kind.clone())),
    ("shape", Get::Text(|row| row.name.shape.clone())),
    ("phase", Get::Text(|row| phase(row.place.phase))),
    ("token", Get::MaybeU32(|row| row.place.token)),
    ("graph_span", Get::U32(|row| row.span.graph_span)),
    ("graph", Get::MaybeU32(|row| row.place.graph)),
    ("ubatch", Get::MaybeU32(|row| row.place.ubatch)),
    ("decode", Get::MaybeU32(|row| row.place.decode)),
    ("node", Get::U32(|row| row.span.node)),
    ("fused", Get::U32(|row| row.span.fused)),
    ("touched_by_loss", Get::Bool(|row| row.span.touched_by_loss)),
];

pub(super) const GRAPH_SPANS: &[Column<GraphSpan>] = &[
    ("id", Get::U32(|row| row.id)),
    ("begin_ns", Get::Times(|row| row.begin)),
    ("end_ns", Get::Times(|row| row.end)),
    ("graph", Get::MaybeU32(|row| known(row.graph))),
    ("ubatch", Get::MaybeU32(|row| known(row.ubatch))),
    ("threads", Get::U32(|row| row.threads)),
    ("tid", Get::U32(|row| row.tid)),
    ("process", Get::U32(|row| row.process)),
    ("probe_hits", Get::U32(|row| row.probe_hits)),
    ("inferred_begins", Get::Bool(|row| row.inferred_begins != 0)),
    ("touched_by_loss", Get::Bool(|row| row.touched_by_loss != 0)),
];

/// With the place among all tokens.
pub(super) const UBATCHES: &[Column<(Ubatch, Option<u32>)>] = &[
    ("id", Get::U32(|row| row.0.id)),
    ("begin_ns", Get::Times(|row| row.0.begin)),
    ("end_ns", Get::Times(|row| row.0.end)),
    ("decode", Get::MaybeU32(|row| known(row.0.decode))),
    ("token", Get::MaybeU32(|row| row.1)),
    ("phase", Get::Text(|row| row_phase(row.0.phase))),
    ("tokens", Get::U32(|row| row.0.tokens)),
    ("sequences", Get::U32(|row| row.0.sequences)),
];

pub(super) const DECODES: &[Column<Decode>] = &[
    ("id", Get::U32(|row| row.id)),
    ("begin_ns", Get::Times(|row| row.begin)),
    ("end_ns", Get::Times(|row| row.end)),
    ("tid", Get::U32(|row| row.tid)),
    // 0 when the build does not tell.
    ("tokens", Get::MaybeU32(|row| Some(row.tokens).filter(|tokens| *tokens > 0))),
    ("is_encode", Get::Bool(|row| row.is_encode != 0)),
    ("result", Get::I32(|row| row.result as i32)),
    ("context", Get::MaybeU32(|row| known(row.context))),
    ("process", Get::U32(|row| row.process)),
];

pub(super) struct TensorRow {
    graph: u32,
    index: u32,
    is_node: bool,
    op: ByteArray,
    name: ByteArray,
    layer: Option<u32>,
    kind: ByteArray,
    shape: ByteArray,
    ne: [i64; 4],
    nb: [u64; 4],
    view_of: Option<u32>,
    view_offset: u64,
    flags: i32,
    op_params: [i32; 16],
}

impl TensorRow {
    /// `texts` are operator, name, type and shape.
    pub(super) fn new(
        (graph, index, is_node): (u32, u32, bool),
        tensor: &Tensor,
        texts: [&str; 4],
        layer: Option<u32>,
    ) -> Self {
        let [op, name, kind, shape] = texts.map(ByteArray::from);
        Self {
            graph,
            index,
            is_node,
            op,
            name,
            layer,
            kind,
            shape,
            ne: tensor.ne,
            nb: tensor.nb,
            view_of: tensor.view_of,
            view_offset: tensor.view_offset,
            flags: tensor.flags,
            op_params: tensor.op_params,
        }
    }
}

pub(super) const TENSORS: &[Column<TensorRow>] = &[
    ("graph", Get::U32(|row| row.graph)),
    ("tensor", Get::U32(|row| row.index)),
    ("is_node", Get::Bool(|row| row.is_node)),
    ("op", Get::Text(|row| row.op.clone())),
    ("name", Get::Text(|row| row.name.clone())),
    ("layer", Get::MaybeU32(|row| row.layer)),
    ("type", Get::Text(|row| row.kind.clone())),
    ("shape", Get::Text(|row| row.shape.clone())),
    ("ne0", Get::Signed(|row| row.ne[0])),
    ("ne1", Get::Signed(|row| row.ne[1])),
    ("ne2", Get::Signed(|row| row.ne[2])),
    ("ne3", Get::Signed(|row| row.ne[3])),
    ("nb0", Get::I64(|row| row.nb[0])),
    ("nb1", Get::I64(|row| row.nb[1])),
    ("nb2", Get::I64(|row| row.nb[2])),
    ("nb3", Get::I64(|row| row.nb[3])),
    ("view_of", Get::MaybeU32(|row| row.view_of)),
    ("view_offset", Get::MaybeI64(|row| row.view_of.map(|_| row.view_offset))),
    ("flags", Get::I32(|row| row.flags)),
    ("op_params", Get::Bytes(|row| row.op_params.map(i32::to_le_bytes).concat().into())),
];

pub(super) struct Edge {
    pub(super) graph: u32,
    pub(super) tensor: u32,
    pub(super) position: u32,
    pub(super) source: u32,
}

pub(super) const EDGES: &[Column<Edge>] = &[
    ("graph", Get::U32(|row| row.graph)),
    ("tensor", Get::U32(|row| row.tensor)),
    ("position", Get::U32(|row| row.position)),
    ("source", Get::U32(|row| row.source)),
];

pub(super) const THREADS: &[Column<Thread>] = &[
    ("id", Get::U32(|row| row.id)),
    ("ith", Get::U32(|row| row.ith)),
    ("tid", Get::U32(|row| row.tid)),
    ("pid", Get::U32(|row| row.pid)),
];

pub(super) const LOSSES: &[Column<Loss>] = &[
    ("begin_ns", Get::Times(|row| row.begin)),
    ("end_ns", Get::Times(|row| row.end)),
    ("event", Get::Text(|row| EVENT_KINDS.get(row.event as usize).copied().unwrap_or("unknown").into())),
    ("count", Get::I64(|row| row.count)),
    ("cpu", Get::MaybeU32(|row| known(row.cpu))),
];

pub(super) struct Change {
    pub(super) row: LevelChange,
    pub(super) reason: ByteArray,
}

pub(super) const LEVEL_CHANGES: &[Column<Change>] = &[
    ("time_ns", Get::Times(|row| row.row.time)),
    ("process", Get::U32(|row| row.row.process)),
    ("level", Get::Text(|row| level(row.row.level))),
    ("begins", Get::Bool(|row| row.row.begins != 0)),
    ("window", Get::U32(|row| row.row.window)),
    ("reason", Get::Text(|row| row.reason.clone())),
];

/// Name of a level by its number in the file.
fn level(number: u8) -> ByteArray {
    const LEVELS: [Level; 4] = [Level::Token, Level::Graph, Level::Op, Level::Thread];
    LEVELS.get(usize::from(number)).map_or("", |level| level.name()).into()
}

pub(super) struct Marked {
    pub(super) time: Nanos,
    pub(super) label: ByteArray,
}

pub(super) const MARKS: &[Column<Marked>] =
    &[("time_ns", Get::Times(|row| row.time)), ("label", Get::Text(|row| row.label.clone()))];

pub(super) struct Recorded {
    pub(super) started_unix_nanos: u64,
    pub(super) duration_nanos: u64,
    pub(super) recording: Recording,
    pub(super) ending: Option<Ending>,
    /// Lost events, as far as losses or the ending tell.
    pub(super) lost: u64,
}

pub(super) const RECORDING: &[Column<Recorded>] = &[
    ("model", Get::Text(|row| row.recording.target.models.join(", ").as_str().into())),
    ("host", Get::Text(|row| row.recording.host.name.as_str().into())),
    ("cpu_model", Get::Text(|row| row.recording.host.cpu_model.as_str().into())),
    ("cpus", Get::U32(|row| row.recording.host.cpus)),
    ("memory_bytes", Get::I64(|row| row.recording.host.memory_bytes)),
    ("kernel", Get::Text(|row| row.recording.host.kernel.as_str().into())),
    ("arch", Get::Text(|row| row.recording.host.arch.as_str().into())),
    ("exe", Get::Text(|row| row.recording.target.exe.as_str().into())),
    ("pid", Get::U32(|row| row.recording.target.pid)),
    ("launched", Get::Bool(|row| row.recording.target.launched)),
    ("ggml_version", Get::Text(|row| row.recording.target.ggml_version.as_str().into())),
    ("llama_version", Get::Text(|row| row.recording.target.llama_version.as_str().into())),
    ("started_unix_ns", Get::I64(|row| row.started_unix_nanos)),
    ("duration_ns", Get::I64(|row| row.duration_nanos)),
    ("recorder_version", Get::Text(|row| row.recording.recorder_version.as_str().into())),
    ("level", Get::Text(|row| row.recording.level.name().into())),
    ("level_asked", Get::Text(|row| row.recording.level_asked.name().into())),
    ("level_reason", Get::Text(|row| row.recording.level_reason.as_str().into())),
    ("processes", Get::U32(|row| row.recording.processes.len().max(1) as u32)),
    ("window", Get::U32(|row| row.recording.window.max(1))),
    ("ending", Get::Text(|row| row.ending.as_ref().map_or("", |ending| ending.reason.as_str()).into())),
    ("events", Get::MaybeI64(|row| row.ending.as_ref().map(|ending| ending.events))),
    ("lost", Get::I64(|row| row.lost)),
];
