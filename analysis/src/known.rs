//! What a recording knows of the work of nodes beyond their shapes: distinct experts, and
//! cells of the cache in use.
//!
//! Means over the executions of a node in a phase, and only where *all* of them are known: else
//! the shapes' upper bound stays.

use crate::executions::Contexts;
use crate::experts::distinct;
use crate::inference::KvCurve;
use crate::work::Known;
use crate::{Phase, Trace};
use llmtrace_format::constants::NONE;
use llmtrace_format::meta::Graph;
use std::collections::HashMap;

/// A sum, over how many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Mean {
    sum: u64,
    count: u64,
}

impl Mean {
    fn add(&mut self, value: u64) {
        self.sum = self.sum.saturating_add(value);
        self.count = self.count.saturating_add(1);
    }

    /// The mean, when it is of so many at least.
    fn of(self, count: u64) -> Option<u64> {
        (self.count >= count.max(1)).then(|| (self.sum.saturating_add(self.count / 2)) / self.count)
    }
}

/// Means by phase and graph.
#[derive(Debug, Default)]
pub(crate) struct KnownWork {
    /// Distinct experts, also by the tensor that has their ids.
    experts: HashMap<(u8, u32, u32), Mean>,
    cells: HashMap<(u8, u32), Mean>,
}

impl KnownWork {
    pub(crate) fn of(trace: &Trace) -> Self {
        let mut all = Self::default();
        let contexts = Contexts::new(trace);
        let spans: HashMap<u32, (Phase, u32)> = trace
            .graph_spans
            .iter()
            .map(|span| (span.id, (contexts.of(span.id).phase(trace), span.graph)))
            .collect();
        for (selection, experts) in distinct(trace) {
            let Some(&(phase, graph)) = spans.get(&selection.graph_span) else { continue };
            let Some(ids) = trace.graph(graph).and_then(|graph| ids_of(graph, selection.node)) else {
                continue;
            };
            all.experts.entry((phase as u8, graph, ids)).or_default().add(experts);
        }
        all.add_cells(trace, &spans);
        all
    }

    fn add_cells(&mut self, trace: &Trace, spans: &HashMap<u32, (Phase, u32)>) {
        let curves: HashMap<(u32, u32), &KvCurve> = trace
            .around()
            .kv
            .iter()
            .filter(|curve| curve.whole)
            .map(|curve| ((curve.process, curve.context), curve))
            .collect();
        if curves.is_empty() {
            return;
        }
        let decodes: HashMap<u32, _> = trace.decodes.iter().map(|row| (row.id, row)).collect();
        let ubatches: HashMap<u32, _> = trace.ubatches.iter().map(|row| (row.id, row)).collect();
        for span in trace.graph_spans.iter().filter(|span| span.ubatch != NONE) {
            let (Some(&(phase, graph)), Some(ubatch)) = (spans.get(&span.id), ubatches.get(&span.ubatch))
            else {
                continue;
            };
            let Some(decode) = decodes.get(&ubatch.decode).filter(|decode| decode.is_encode == 0) else {
                continue;
            };
            let curve = curves.get(&(decode.process, decode.context));
            if let Some(point) = curve.and_then(|curve| curve.at(ubatch.begin)) {
                self.cells.entry((phase as u8, graph)).or_default().add(point.cells);
            }
        }
    }

    /// What is known of a kernel that was executed `count` times in a phase.
    pub(crate) fn of_node(
        &self,
        (phase, graph): (u8, u32),
        described: &Graph,
        (node, fused): (u32, u32),
        count: u64,
    ) -> Known {
        let nodes = node..=node.saturating_add(fused.min(64));
        let experts =
            nodes.filter_map(|node| self.experts.get(&(phase, graph, ids_of(described, node)?))).next();
        Known {
            experts: experts.and_then(|mean| mean.of(count)),
            cells: self.cells.get(&(phase, graph)).and_then(|mean| mean.of(count)),
        }
    }
}

/// The tensor with the experts of a node of experts.
fn ids_of(graph: &Graph, node: u32) -> Option<u32> {
    graph.tensors.get(node as usize)?.sources.get(2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_of_fewer_than_all_is_none() {
        let mut mean = Mean::default();
        assert_eq!(mean.of(0), None);
        [4, 7, 7].into_iter().for_each(|value| mean.add(value));
        assert_eq!((mean.of(3), mean.of(2), mean.of(4)), (Some(6), Some(6), None));
    }
}
