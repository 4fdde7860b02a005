//! Finding nodes: by a piece of their name or operator, and from one occurrence
//! of a node to the next.

use crate::executions::{Contexts, NodeKey, NodeTable};
use crate::{Lane, Nanos, Trace};
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

/// A span, by its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// [`Lane::id`].
    pub lane: u32,
    /// Index into [`Lane::spans`].
    pub index: usize,
}

/// A node that a query finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeMatch {
    /// Name and operator.
    pub key: NodeKey,
    /// Executions.
    pub count: u64,
    /// The first of its spans.
    pub first: Place,
}

/// The nodes whose name or operator contains `query`, whatever its case, in the
/// order in which they first run. An empty query finds all.
pub fn matches(trace: &Trace, query: &str) -> Vec<NodeMatch> {
    let contexts = Contexts::new(trace);
    let needle = query.trim().to_lowercase();
    let of_lanes: Vec<Vec<NodeMatch>> =
        trace.lanes().par_iter().map(|lane| matches_in(trace, lane, &contexts, &needle)).collect();
    let mut merged: HashMap<NodeKey, (Nanos, NodeMatch)> = HashMap::new();
    for found in of_lanes.into_iter().flatten() {
        let begin = begin_of(trace, found.first);
        match merged.get_mut(&found.key) {
            Some((earliest, known)) => {
                // Each lane has a span for each execution.
                known.count = known.count.max(found.count);
                if begin < *earliest {
                    (*earliest, known.first) = (begin, found.first);
                }
            }
            None => {
                merged.insert(found.key.clone(), (begin, found));
            }
        }
    }
    let mut all: Vec<(Nanos, NodeMatch)> = merged.into_values().collect();
    all.sort_by(|a, b| (a.0, &a.1.key).cmp(&(b.0, &b.1.key)));
    all.into_iter().map(|(_, found)| found).collect()
}

fn begin_of(trace: &Trace, place: Place) -> Nanos {
    let span = trace.lane(place.lane).and_then(|lane| lane.spans.get(place.index));
    span.map_or(Nanos::MAX, |span| span.begin)
}

fn matches_in(trace: &Trace, lane: &Lane, contexts: &Contexts, needle: &str) -> Vec<NodeMatch> {
    let mut table = NodeTable::new();
    let mut found: Vec<NodeMatch> = Vec::new();
    let mut by_key: HashMap<NodeKey, Option<u32>> = HashMap::new();
    let mut index = 0;
    for run in lane.spans.chunk_by(|a, b| a.graph_span == b.graph_span) {
        let graph = run.first().and_then(|span| contexts.of(span.graph_span).graph);
        for span in run {
            let node = table.get(trace, graph, (span.node, span.fused), |graph| {
                let key = NodeKey::in_graph(trace, graph, span.node, span.fused);
                *by_key.entry(key.clone()).or_insert_with(|| {
                    contains(&key, needle).then(|| {
                        found.push(NodeMatch { key, count: 0, first: Place { lane: lane.id, index } });
                        found.len() as u32 - 1
                    })
                })
            });
            if let Some(node) = node.flatten().and_then(|id| found.get_mut(id as usize)) {
                node.count += 1;
            }
            index += 1;
        }
    }
    found
}

fn contains(key: &NodeKey, needle: &str) -> bool {
    key.name.to_lowercase().contains(needle) || key.op.to_lowercase().contains(needle)
}

/// The nearest span of a lane, after (or before) `time`, whose name or operator
/// contains `query`. Forward finds spans that begin after `time`, backward ones
/// that begin before it.
pub fn find(trace: &Trace, query: &str, from: (u32, Nanos), direction: Direction) -> Option<Place> {
    let needle = query.trim().to_lowercase();
    let lane = trace.lane(from.0)?;
    let start = match direction {
        Direction::Forward => lane.spans.partition_point(|span| span.begin <= from.1),
        Direction::Backward => lane.spans.partition_point(|span| span.begin < from.1),
    };
    nearest(trace, lane, start, direction, |key| contains(key, &needle))
}

/// The next execution of the same node (name and operator) on the same lane.
pub fn next_occurrence(trace: &Trace, place: Place) -> Option<Place> {
    occurrence(trace, place, Direction::Forward)
}

/// The execution of the same node on the same lane before this one.
pub fn previous_occurrence(trace: &Trace, place: Place) -> Option<Place> {
    occurrence(trace, place, Direction::Backward)
}

fn occurrence(trace: &Trace, place: Place, direction: Direction) -> Option<Place> {
    let lane = trace.lane(place.lane)?;
    let wanted = NodeKey::of(trace, lane.spans.get(place.index)?)?;
    let start = match direction {
        Direction::Forward => place.index.saturating_add(1),
        Direction::Backward => place.index,
    };
    nearest(trace, lane, start, direction, |key| *key == wanted)
}

/// The first wanted span from `start` on, or the last one before `start`.
fn nearest(
    trace: &Trace,
    lane: &Lane,
    start: usize,
    direction: Direction,
    wanted: impl Fn(&NodeKey) -> bool,
) -> Option<Place> {
    let contexts = Contexts::new(trace);
    let mut table = NodeTable::new();
    let mut is_wanted = |index: usize| {
        let Some(span) = lane.spans.get(index) else { return false };
        let graph = contexts.of(span.graph_span).graph;
        let found = table.get(trace, graph, (span.node, span.fused), |graph| {
            wanted(&NodeKey::in_graph(trace, graph, span.node, span.fused))
        });
        found == Some(true)
    };
    let index = match direction {
        Direction::Forward => (start..lane.spans.len()).find(|&index| is_wanted(index)),
        Direction::Backward => (0..start.min(lane.spans.len())).rev().find(|&index| is_wanted(index)),
    };
    Some(Place { lane: lane.id, index: index? })
}
