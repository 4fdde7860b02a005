//! Node executions: what the threads of a pool did together, put together again.
//!
//! Every thread of a pool computes its part of every node, so that one
//! execution of a node leaves one span on each lane. An [`Execution`] joins
//! them: the spans with the same graph span and node.
//!
//! [`each_run`] goes through a trace of any size. Blocks are decoded once, a
//! piece of the file at a time on each core; the few graph spans that lie in two
//! pieces wait for the end.

use crate::node;
use crate::rows::Rows;
use crate::trace::LoadProgress;
use crate::{Nanos, OpSpan, Phase, TimeRange, Trace};
use llmtrace_format::meta::Graph;
use llmtrace_format::{BlockInfo, ColumnSet, Error, OpSpans, Result};
use rayon::prelude::*;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Rows of a piece, at least; a worker holds so many.
const ROWS_PER_PIECE: u64 = 1 << 18;

/// One node computed once, by all threads of the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Execution {
    pub(crate) node: u32,
    pub(crate) fused: u32,
    /// When the first thread began.
    pub(crate) begin: Nanos,
    /// When the last thread was done computing.
    pub(crate) compute_end: Nanos,
    /// Nanoseconds of computing, summed over the threads.
    pub(crate) compute: u64,
    /// Nanoseconds of waiting, summed over the threads.
    pub(crate) wait: u64,
    /// Index of the lane that began first.
    pub(crate) lane: u32,
    /// Whether events were lost near it.
    pub(crate) touched_by_loss: bool,
}

impl Execution {
    pub(crate) fn of(lane: u32, span: &OpSpan) -> Self {
        Self {
            lane,
            touched_by_loss: span.touched_by_loss,
            node: span.node,
            fused: span.fused,
            begin: span.begin,
            compute_end: span.compute_end(),
            compute: span.compute,
            wait: span.wait,
        }
    }

    fn join(&mut self, lane: u32, span: &OpSpan) {
        if span.begin < self.begin {
            self.lane = lane;
        }
        self.touched_by_loss |= span.touched_by_loss;
        self.fused = self.fused.max(span.fused);
        self.begin = self.begin.min(span.begin);
        self.compute_end = self.compute_end.max(span.compute_end());
        self.compute = self.compute.saturating_add(span.compute);
        self.wait = self.wait.saturating_add(span.wait);
    }

    /// From the first thread's begin until the last thread was done computing.
    pub(crate) fn wall(&self) -> u64 {
        self.compute_end.saturating_sub(self.begin)
    }
}

/// A block by its place: lane and block, as indexes.
type BlockAt = (usize, usize);

/// Blocks of all lanes (or one) that touch a range, by begin.
pub(crate) fn blocks_of(trace: &Trace, lane: Option<usize>, range: Option<TimeRange>) -> Vec<BlockAt> {
    let mut found = Vec::new();
    for (index, of) in trace.lanes().iter().enumerate() {
        if lane.is_none_or(|lane| lane == index) {
            let blocks = range.map_or(0..of.blocks.len(), |range| of.blocks_in(range));
            found.extend(blocks.map(|block| (index, block)));
        }
    }
    found.sort_by_key(|&at| info_of(trace, at).map_or(Nanos::MAX, |info| info.range.begin));
    found
}

fn info_of(trace: &Trace, (lane, block): BlockAt) -> Option<&BlockInfo> {
    Some(&trace.lanes().get(lane)?.blocks.get(block)?.info)
}

/// Cuts blocks into pieces of consecutive ones, where the blocks of all lanes end:
/// a writer ends them together, but for a part of a graph span.
fn pieces<'a>(trace: &Trace, blocks: &'a [BlockAt]) -> Vec<&'a [BlockAt]> {
    let mut pieces = Vec::new();
    let (mut first, mut rows, mut range) = (0, 0, TimeRange::default());
    for (index, &block) in blocks.iter().enumerate() {
        let Some(info) = info_of(trace, block) else { continue };
        let all_end = range.end <= info.range.begin.saturating_add(range.nanos() / 32);
        if rows >= ROWS_PER_PIECE && (all_end || rows >= 8 * ROWS_PER_PIECE) {
            pieces.extend(blocks.get(first..index));
            (first, rows) = (index, 0);
        }
        range =
            if rows == 0 { info.range } else { TimeRange::new(range.begin, range.end.max(info.range.end)) };
        rows += u64::from(info.rows);
    }
    pieces.extend(blocks.get(first..).filter(|rest| !rest.is_empty()));
    pieces
}

/// In which piece a graph span lies; `None` for one that lies in several.
fn homes(trace: &Trace, pieces: &[&[BlockAt]]) -> HashMap<u32, Option<u32>> {
    let columns = ColumnSet::only::<OpSpans>(&["graph_span"]);
    let ids_of = |blocks: &&[BlockAt]| -> Vec<u32> {
        let mut ids = Vec::new();
        for &block in *blocks {
            let Some(info) = info_of(trace, block) else { continue };
            // A damaged block shows when it is decoded.
            let Ok(table) = trace.file.read::<OpSpans>(info, columns) else { continue };
            ids.extend(table.graph_span.chunk_by(|a, b| a == b).filter_map(|run| run.first()));
        }
        ids.sort_unstable();
        ids.dedup();
        ids
    };
    let ids: Vec<Vec<u32>> = pieces.par_iter().map(ids_of).collect();
    let mut homes: HashMap<u32, Option<u32>> = HashMap::new();
    for (piece, ids) in (0u32..).zip(ids) {
        for id in ids {
            homes.entry(id).and_modify(|home| *home = None).or_insert(Some(piece));
        }
    }
    homes
}

/// A span of some lane, by the lane's index.
pub(crate) type LaneSpan = (u32, OpSpan);

/// A state, and spans that lie in several pieces: graph span, piece, span.
type WithSeams<S> = (S, Vec<(u32, u32, LaneSpan)>);

/// Hands out all spans of each graph span together, lane after lane, to states
/// of their own on all cores; gives the states back. `wanted` says which nodes
/// of which graph spans are worth it. `None` of a lane is all.
///
/// # Errors
/// [`Error::Cancelled`] when `progress` returned `false`.
pub(crate) fn each_run<S: Send>(
    trace: &Trace,
    blocks: &[BlockAt],
    progress: LoadProgress<'_>,
    wanted: impl Fn(u32, u32) -> bool + Sync,
    new: impl Fn() -> S + Sync + Send,
    each: impl Fn(&mut S, u32, &mut Vec<LaneSpan>) + Sync + Send,
) -> Result<Vec<S>> {
    let pieces = pieces(trace, blocks);
    let homes = if pieces.len() > 1 { homes(trace, &pieces) } else { HashMap::new() };
    let done = AtomicUsize::new(0);
    let work = |(mut state, mut seams): (S, Vec<(u32, u32, LaneSpan)>),
                (number, piece): (usize, &&[BlockAt])| {
        if !progress(done.fetch_add(1, Ordering::Relaxed) as f32 / pieces.len() as f32) {
            return Err(Error::Cancelled);
        }
        let decode = |&(lane, block): &BlockAt| trace.rows_once(lane, block).map(|rows| (lane as u32, rows));
        let decoded: Vec<(u32, Arc<Rows>)> = piece.iter().filter_map(decode).collect();
        let mut runs: Vec<(u32, u32, usize, usize, usize)> = Vec::new();
        for (index, (lane, rows)) in decoded.iter().enumerate() {
            let mut from = 0;
            while from < rows.len() {
                let id = rows.graph_span(from);
                let mut to = from + 1;
                while to < rows.len() && rows.graph_span(to) == id {
                    to += 1;
                }
                runs.push((id, *lane, index, from, to));
                from = to;
            }
        }
        // By graph span, then lane; a lane's in order of time.
        runs.sort_unstable();
        let mut spans = Vec::new();
        for group in runs.chunk_by(|a, b| a.0 == b.0) {
            let Some(&(id, ..)) = group.first() else { continue };
            spans.clear();
            for &(_, lane, index, from, to) in group {
                let Some((_, rows)) = decoded.get(index) else { continue };
                let rows = (from..to).filter(|&row| wanted(id, rows.node(row))).map(|row| rows.span(row));
                spans.extend(rows.map(|span| (lane, span)));
            }
            if homes.get(&id).is_none_or(Option::is_some) {
                each(&mut state, id, &mut spans);
            } else {
                seams.extend(spans.iter().map(|&span| (id, number as u32, span)));
            }
        }
        Ok((state, seams))
    };
    let states: Vec<WithSeams<S>> =
        pieces.par_iter().enumerate().try_fold(|| (new(), Vec::new()), work).collect::<Result<_>>()?;
    let mut seams = Vec::new();
    let mut all = Vec::with_capacity(states.len() + 1);
    for (state, rest) in states {
        all.push(state);
        seams.extend(rest);
    }
    seams.sort_by_key(|&(id, piece, (lane, span))| (id, lane, piece, span.begin));
    let mut state = new();
    let mut spans = Vec::new();
    for group in seams.chunk_by(|a, b| a.0 == b.0) {
        let Some(&(id, ..)) = group.first() else { continue };
        spans.clear();
        spans.extend(group.iter().map(|(_, _, span)| *span));
        each(&mut state, id, &mut spans);
    }
    all.push(state);
    Ok(all)
}

/// Joins the spans of one graph span into executions, by node; changes their
/// order.
pub(crate) fn join(spans: &mut [LaneSpan], mut each: impl FnMut(&Execution)) {
    join_with(spans, |execution, _| each(execution));
}

/// The same; also hands out the spans of each.
pub(crate) fn join_with(spans: &mut [LaneSpan], mut each: impl FnMut(&Execution, &[LaneSpan])) {
    // One thread's nodes come in order; the stable sort merges several threads',
    // which are sorted runs, in linear time.
    spans.sort_by_key(|(_, span)| span.node);
    for group in spans.chunk_by(|(_, a), (_, b)| a.node == b.node) {
        let Some(((lane, first), others)) = group.split_first() else { continue };
        let mut execution = Execution::of(*lane, first);
        others.iter().for_each(|(lane, span)| execution.join(*lane, span));
        each(&execution, group);
    }
}

/// What a graph span's spans have in common.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Context {
    /// Index into `trace.file.graphs`.
    pub(crate) graph: Option<u32>,
    /// Index into `trace.tokens`.
    pub(crate) token: Option<u32>,
}

/// [`Context`] by graph span id.
pub(crate) struct Contexts(HashMap<u32, Context>);

impl Contexts {
    pub(crate) fn new(trace: &Trace) -> Self {
        let index_of = |(index, id): (usize, u32)| (id, index as u32);
        let graphs: HashMap<u32, u32> =
            trace.file.graphs.iter().map(|graph| graph.id).enumerate().map(index_of).collect();
        let ubatches: HashMap<u32, u32> =
            trace.tokens.iter().map(|token| token.ubatch).enumerate().map(index_of).collect();
        let context = |span: &llmtrace_format::tables::GraphSpan| Context {
            graph: graphs.get(&span.graph).copied(),
            token: match ubatches.get(&span.ubatch) {
                Some(&index) if span.ubatch != llmtrace_format::constants::NONE => Some(index),
                _ => token_index_at(trace, span.begin),
            },
        };
        Self(trace.graph_spans.iter().map(|span| (span.id, context(span))).collect())
    }

    pub(crate) fn of(&self, graph_span: u32) -> Context {
        self.0.get(&graph_span).copied().unwrap_or_default()
    }
}

impl Context {
    pub(crate) fn phase(self, trace: &Trace) -> Phase {
        let token = self.token.and_then(|index| trace.tokens.get(index as usize));
        token.map_or(Phase::Unknown, |token| token.phase)
    }
}

fn token_index_at(trace: &Trace, time: Nanos) -> Option<u32> {
    let after = trace.tokens.partition_point(|token| token.range.begin <= time);
    let index = after.checked_sub(1)?;
    trace.tokens.get(index).filter(|token| token.range.contains(time)).map(|_| index as u32)
}

/// A value for each kind of node, found out once: a trace runs the same few
/// hundred nodes again and again.
pub(crate) struct NodeTable<T> {
    /// By graph and node, for nodes that are not fused.
    plain: Vec<Vec<Option<T>>>,
    /// By graph, node and number of fused nodes.
    fused: HashMap<(u32, u32, u32), T>,
}

impl<T: Copy> NodeTable<T> {
    pub(crate) fn new() -> Self {
        Self { plain: Vec::new(), fused: HashMap::new() }
    }

    /// The value of a node; `make` finds it out. `None` when the trace does not
    /// describe the node.
    pub(crate) fn get(
        &mut self,
        trace: &Trace,
        graph: Option<u32>,
        (node, fused): (u32, u32),
        make: impl FnOnce(&Graph) -> T,
    ) -> Option<T> {
        let graph_index = graph?;
        let at = graph_index as usize;
        if fused == 0
            && let Some(&Some(known)) = self.plain.get(at).and_then(|nodes| nodes.get(node as usize))
        {
            return Some(known);
        }
        let graph = trace.file.graphs.get(at)?;
        graph.tensors.get(node as usize)?;
        if fused > 0 {
            return Some(*self.fused.entry((graph_index, node, fused)).or_insert_with(|| make(graph)));
        }
        let value = make(graph);
        if self.plain.len() <= at {
            self.plain.resize_with(at + 1, Vec::new);
        }
        let nodes = self.plain.get_mut(at)?;
        nodes.resize(graph.tensors.len(), None);
        *nodes.get_mut(node as usize)? = Some(value);
        Some(value)
    }
}

/// Name and operator of a node: what makes executions in different graphs and
/// tokens executions of the same node.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeKey {
    /// Name of the tensor that the kernel gives, such as `ffn_up-7`.
    pub name: String,
    /// Operator with those fused into it, such as `RMS_NORM+MUL`.
    pub op: String,
}

impl NodeKey {
    /// The key of what a span computed.
    pub fn of(trace: &Trace, span: &OpSpan) -> Option<Self> {
        let (graph, _) = trace.node_of(span)?;
        Some(Self::in_graph(trace, graph, span.node, span.fused))
    }

    pub(crate) fn in_graph(trace: &Trace, graph: &Graph, node: u32, fused: u32) -> Self {
        let name = node::result(graph, node, fused).map_or("", |tensor| trace.file.string(tensor.name));
        Self { name: name.to_owned(), op: node::op_label(&trace.file, graph, node, fused) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(lane: u32, graph_span: u32, node: u32, begin: u64, compute: u64) -> LaneSpan {
        (lane, OpSpan { begin, compute, wait: 1, node, graph_span, ..OpSpan::default() })
    }

    #[test]
    fn spans_of_one_node_are_joined_and_missing_ones_do_no_harm() {
        let mut spans = [
            span(0, 0, 0, 0, 10),
            span(0, 0, 2, 20, 10),
            span(1, 0, 0, 1, 12),
            span(1, 0, 1, 14, 2),
            span(1, 0, 2, 18, 3),
        ];
        let mut found = Vec::new();
        join(&mut spans, |e| found.push((e.node, e.begin, e.wall(), e.compute, e.wait)));
        assert_eq!(found, [(0, 0, 13, 22, 2), (1, 14, 2, 2, 1), (2, 18, 12, 13, 2)]);
    }
}
