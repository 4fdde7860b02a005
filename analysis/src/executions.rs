//! Node executions: what the threads of a pool did together, put together again.
//!
//! Every thread of a pool computes its part of every node, so that one
//! execution of a node leaves one span on each lane. An [`Execution`] joins
//! them: the spans with the same graph span and node.

use crate::node;
use crate::{Lane, Nanos, OpSpan, Phase, TimeRange, Trace};
use llmtrace_format::meta::Graph;
use std::collections::HashMap;

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
}

impl Execution {
    fn of(span: &OpSpan) -> Self {
        Self {
            node: span.node,
            fused: span.fused,
            begin: span.begin,
            compute_end: span.compute_end(),
            compute: span.compute,
            wait: span.wait,
        }
    }

    fn join(&mut self, span: &OpSpan) {
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

/// Neighbouring spans of one lane and one graph span.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run<'a> {
    pub(crate) graph_span: u32,
    pub(crate) lane: u32,
    pub(crate) spans: &'a [OpSpan],
}

/// All runs, those of one graph span side by side; `within` limits them to the
/// spans that touch a range.
pub(crate) fn runs(lanes: &[Lane], within: Option<TimeRange>) -> Vec<Run<'_>> {
    let mut runs = Vec::new();
    for lane in lanes {
        let spans = within.map_or(&lane.spans[..], |range| lane.within(range));
        for spans in spans.chunk_by(|a, b| a.graph_span == b.graph_span) {
            let Some(first) = spans.first() else { continue };
            runs.push(Run { graph_span: first.graph_span, lane: lane.id, spans });
        }
    }
    runs.sort_by_key(|run| run.graph_span);
    runs
}

/// Cuts runs into at most `parts` pieces of similar size, for as many workers;
/// a graph span is never cut.
pub(crate) fn pieces<'r, 'a>(runs: &'r [Run<'a>], parts: usize) -> Vec<&'r [Run<'a>]> {
    let wanted = runs.len().div_ceil(parts.max(1)).max(1);
    let mut pieces = Vec::with_capacity(parts);
    let mut rest = runs;
    while rest.len() > wanted {
        let last = rest.get(wanted - 1).map(|run| run.graph_span);
        let tail = rest.get(wanted..).unwrap_or_default();
        let more = tail.iter().take_while(|run| Some(run.graph_span) == last).count();
        let (piece, after) = rest.split_at(wanted + more);
        pieces.push(piece);
        rest = after;
    }
    if !rest.is_empty() {
        pieces.push(rest);
    }
    pieces
}

/// Joins the spans of one graph span into executions, by node. `scratch` is
/// memory to reuse.
pub(crate) fn join<'a>(
    runs: &[Run<'a>],
    scratch: &mut Vec<(u32, &'a OpSpan)>,
    mut each: impl FnMut(&Execution),
) {
    if let [run] = runs {
        // One thread, whose nodes come in order: nothing to join.
        if run.spans.is_sorted_by(|a, b| a.node < b.node) {
            run.spans.iter().for_each(|span| each(&Execution::of(span)));
            return;
        }
    }
    scratch.clear();
    for run in runs {
        scratch.extend(run.spans.iter().map(|span| (span.node, span)));
    }
    // The stable sort merges sorted runs, which these are, in linear time.
    scratch.sort_by_key(|(node, _)| *node);
    let mut current: Option<Execution> = None;
    for (_, span) in scratch.iter() {
        match &mut current {
            Some(execution) if execution.node == span.node => execution.join(span),
            _ => {
                if let Some(done) = current.replace(Execution::of(span)) {
                    each(&done);
                }
            }
        }
    }
    if let Some(done) = current {
        each(&done);
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

    fn span(graph_span: u32, node: u32, begin: u64, compute: u64) -> OpSpan {
        OpSpan { begin, compute, wait: 1, node, graph_span, ..OpSpan::default() }
    }

    fn lane(id: u32, spans: Vec<OpSpan>) -> Lane {
        Lane { id, spans, ..Lane::default() }
    }

    #[test]
    fn spans_of_one_node_are_joined_and_missing_ones_do_no_harm() {
        let lanes = [
            lane(0, vec![span(0, 0, 0, 10), span(0, 2, 20, 10), span(1, 0, 50, 5)]),
            lane(1, vec![span(0, 0, 1, 12), span(0, 1, 14, 2), span(0, 2, 18, 3)]),
        ];
        let runs = runs(&lanes, None);
        let mut found = Vec::new();
        for group in runs.chunk_by(|a, b| a.graph_span == b.graph_span) {
            join(group, &mut Vec::new(), |e| found.push((e.node, e.begin, e.wall(), e.compute, e.wait)));
        }
        assert_eq!(found, [(0, 0, 13, 22, 2), (1, 14, 2, 2, 1), (2, 18, 12, 13, 2), (0, 50, 5, 5, 1)]);
    }

    #[test]
    fn pieces_never_cut_a_graph_span() {
        let lanes: Vec<Lane> =
            (0..3).map(|id| lane(id, (0..50).map(|g| span(g, 0, u64::from(g), 1)).collect())).collect();
        let runs = runs(&lanes, None);
        for parts in [1, 2, 7, 200] {
            let pieces = pieces(&runs, parts);
            assert_eq!(pieces.iter().map(|piece| piece.len()).sum::<usize>(), 150);
            for pair in pieces.windows(2) {
                assert_ne!(pair[0].last().map(|r| r.graph_span), pair[1].first().map(|r| r.graph_span));
            }
        }
    }
}
