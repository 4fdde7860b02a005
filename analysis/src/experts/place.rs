//! Where a selection belongs: its graph, when that was computed, its layer.

use super::MAX_EXPERTS;
use crate::{TimeRange, Trace, node};
use llmtrace_format::constants::NONE;
use llmtrace_format::meta::{Graph, Tensor};
use llmtrace_format::offload::Split;
use llmtrace_format::tables::Selection;
use std::collections::HashMap;

/// Where a selection belongs.
pub(super) struct Place<'a> {
    pub(super) graph: &'a Graph,
    /// The node that uses it.
    pub(super) tensor: &'a Tensor,
    /// The layer's number; `None` when the names do not tell.
    pub(super) layer: Option<u32>,
    /// Name of the weights that it is used for.
    pub(super) name: &'a str,
    /// Experts to choose from.
    pub(super) experts: u32,
}

/// The place of a selection that `node` uses.
pub(super) fn place_of(trace: &Trace, graph: u32, node: u32) -> Option<Place<'_>> {
    let graph = trace.graph(graph)?;
    let tensor = graph.tensors.get(node as usize)?;
    let weights = source(graph, tensor, 0)?;
    let name = trace.file.string(weights.name);
    let experts = u32::try_from(weights.ne[2]).ok().filter(|&experts| experts <= MAX_EXPERTS)?;
    let layer = node::layer(name).or_else(|| node::layer(trace.file.string(tensor.name)));
    Some(Place { graph, tensor, layer, name, experts })
}

pub(super) fn source<'a>(graph: &'a Graph, tensor: &Tensor, index: usize) -> Option<&'a Tensor> {
    graph.tensors.get(*tensor.sources.get(index)? as usize)
}

/// What computed a selection's graph.
#[derive(Clone, Copy, Debug)]
pub(super) struct Computed {
    pub(super) graph: u32,
    pub(super) time: TimeRange,
    /// The micro-batch; [`NONE`] when unknown.
    pub(super) ubatch: u32,
}

/// Finds it: a graph span, or a split that a device computed.
pub(super) struct Spans<'a> {
    trace: &'a Trace,
    splits: HashMap<u32, &'a Split>,
    /// Of each scheduler run.
    ubatches: HashMap<u32, u32>,
}

impl<'a> Spans<'a> {
    pub(super) fn new(trace: &'a Trace) -> Self {
        let splits = trace.offload.splits.iter().map(|split| (split.id, split)).collect();
        let ubatches = trace.offload.runs.iter().map(|run| (run.id, run.ubatch)).collect();
        Self { trace, splits, ubatches }
    }

    pub(super) fn of(&self, row: &Selection) -> Option<Computed> {
        if row.graph_span != NONE {
            let span = self.trace.graph_span(row.graph_span)?;
            let time = TimeRange::new(span.begin, span.end);
            return Some(Computed { graph: span.graph, time, ubatch: span.ubatch });
        }
        let split = self.splits.get(&row.split)?;
        let ubatch = self.ubatches.get(&split.run).copied().unwrap_or(NONE);
        Some(Computed { graph: split.graph, time: TimeRange::new(split.begin, split.end), ubatch })
    }
}
