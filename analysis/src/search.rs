//! Finding nodes: by a piece of their name or operator, and from one occurrence
//! of a node to the next.

use crate::executions::{Contexts, NodeKey, NodeTable};
use crate::lane::{Found, LaneSegment, Place};
use crate::{Nanos, Trace};
use llmtrace_format::constants;
use rayon::prelude::*;
use std::collections::HashMap;

/// Which way to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Later in time.
    Forward,
    /// Earlier in time.
    Backward,
}

/// A node that a query finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeMatch {
    /// Name and operator.
    pub key: NodeKey,
    /// Executions.
    pub count: u64,
    /// When the first one began.
    pub first: Nanos,
    /// Lane that began it.
    pub lane: u32,
}

/// The nodes whose name or operator contains `query`, whatever its case, in the
/// order in which they first ran. An empty query finds all; nothing is found
/// before [`Trace::load_nodes`].
pub fn matches(trace: &Trace, query: &str) -> Vec<NodeMatch> {
    let needle = query.trim().to_lowercase();
    let fits = |text: &str| text.to_lowercase().contains(&needle);
    // A few hundred nodes, most often; a trace may have a million.
    let nodes = trace.nodes().unwrap_or_default().par_iter().with_min_len(1 << 12);
    let found = nodes.filter_map(|node| {
        let key = node.key.as_ref().filter(|key| fits(&key.name) || fits(&key.op))?;
        Some(NodeMatch { key: key.clone(), count: node.count, first: node.first, lane: node.lane })
    });
    found.collect()
}

/// The execution of a node on a lane nearest to a place: after it, or before.
/// Decodes blocks; segments in which the node does not occur are passed over.
/// `going_on` returns `false` to cancel.
pub fn occurrence(
    trace: &Trace,
    key: &NodeKey,
    from: Place,
    direction: Direction,
    going_on: &dyn Fn() -> bool,
) -> Option<Found> {
    Search::new(trace, key, from.lane)?.nearest(from.index, direction, going_on)
}

/// The first execution of a node on a lane that begins at `time` or later.
pub fn first_from(
    trace: &Trace,
    key: &NodeKey,
    (lane, time): (u32, Nanos),
    going_on: &dyn Fn() -> bool,
) -> Option<Found> {
    let search = Search::new(trace, key, lane)?;
    let of = trace.lanes().get(search.lane)?;
    let block = of.blocks.partition_point(|block| block.info.range.begin <= time).saturating_sub(1);
    let first = of.blocks.get(block)?.first;
    let rows = trace.rows(search.lane, block);
    let row = rows.map_or(0, |rows| rows.partition(0, |row| rows.begin(row) < time));
    // The row itself may be it.
    match (first + row as u64).checked_sub(1) {
        Some(before) => search.nearest(before, Direction::Forward, going_on),
        None => search.at(0).or_else(|| search.nearest(0, Direction::Forward, going_on)),
    }
}

struct Search<'a> {
    trace: &'a Trace,
    key: &'a NodeKey,
    /// Index of the lane, and its id.
    lane: usize,
    id: u32,
    contexts: Contexts,
    graphs: HashMap<u32, u32>,
}

impl<'a> Search<'a> {
    fn new(trace: &'a Trace, key: &'a NodeKey, id: u32) -> Option<Self> {
        let lane = trace.lane_index(id)?;
        let contexts = Contexts::new(trace);
        let graphs = (0..).zip(&trace.file.graphs).map(|(index, graph)| (graph.id, index)).collect();
        Some(Self { trace, key, lane, id, contexts, graphs })
    }

    fn is_it(&self, table: &mut NodeTable<bool>, graph: Option<u32>, node: u32, fused: u32) -> bool {
        let found = table.get(self.trace, graph, (node, fused), |graph| {
            NodeKey::in_graph(self.trace, graph, node, fused) == *self.key
        });
        found == Some(true)
    }

    /// Whether the node may occur in a segment.
    fn may_be_in(&self, table: &mut NodeTable<bool>, index: usize, segment: &LaneSegment) -> bool {
        if segment.nodes.is_none() {
            return true;
        }
        let Some(sums) = self.trace.segment_nodes(self.lane, index) else { return true };
        sums.rows().any(|row| {
            let graph = Some(row.graph).filter(|graph| *graph != constants::NONE);
            let graph = graph.and_then(|graph| self.graphs.get(&graph).copied());
            self.is_it(table, graph, row.node, row.fused)
        })
    }

    fn at(&self, index: u64) -> Option<Found> {
        let (block, row) = self.trace.lanes().get(self.lane)?.block_of(index)?;
        let span = self.trace.rows(self.lane, block)?.get(row)?;
        let mut table = NodeTable::new();
        let graph = self.contexts.of(span.graph_span).graph;
        let place = Place { lane: self.id, index };
        self.is_it(&mut table, graph, span.node, span.fused).then_some(Found { place, span })
    }

    /// The nearest after, or before, the span with this number.
    fn nearest(&self, from: u64, direction: Direction, going_on: &dyn Fn() -> bool) -> Option<Found> {
        let lane = self.trace.lanes().get(self.lane)?;
        let forward = direction == Direction::Forward;
        let (first_block, _) = lane.block_of(from)?;
        let mut table = NodeTable::new();
        let segments = lane.segments.iter().enumerate();
        let mut ahead: Vec<(usize, &LaneSegment)> = segments
            .filter(|(_, segment)| {
                if forward { segment.blocks.end > first_block } else { segment.blocks.start <= first_block }
            })
            .collect();
        if !forward {
            ahead.reverse();
        }
        for (index, segment) in ahead {
            let is_here = segment.blocks.contains(&first_block);
            if !is_here && !self.may_be_in(&mut table, index, segment) {
                continue;
            }
            let mut blocks: Vec<usize> = segment.blocks.clone().collect();
            if !forward {
                blocks.reverse();
            }
            for block in blocks {
                if !going_on() {
                    return None;
                }
                let (Some(of), Some(rows)) = (lane.blocks.get(block), self.trace.rows(self.lane, block))
                else {
                    continue;
                };
                let mut is_it = |row: usize| {
                    let graph = self.contexts.of(rows.graph_span(row)).graph;
                    self.is_it(&mut table, graph, rows.node(row), rows.span(row).fused)
                };
                // Rows after (or before) where we come from.
                let next = (from + 1).saturating_sub(of.first).min(rows.len() as u64) as usize;
                let before = from.saturating_sub(of.first).min(rows.len() as u64) as usize;
                let row = if forward {
                    (next..rows.len()).find(|&row| is_it(row))
                } else {
                    (0..before).rev().find(|&row| is_it(row))
                };
                if let Some(row) = row {
                    let place = Place { lane: self.id, index: of.first + row as u64 };
                    return Some(Found { place, span: rows.span(row) });
                }
            }
        }
        None
    }
}
