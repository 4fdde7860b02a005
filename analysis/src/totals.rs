//! Sums by node: of all executions of a trace, and of a range.
//!
//! Both come from the sums that the file brings. Only the blocks at the edges of
//! a range are decoded, and those of which the file has no sums.

use crate::executions::{Context, Contexts, NodeKey, NodeTable, blocks_of, each_run, join};
use crate::lane::rows_in;
use crate::stats::{By, millis, opt_millis, ratio, waits_known};
use crate::trace::LoadProgress;
use crate::{Nanos, TimeRange, Trace, node};
use llmtrace_format::tables::{ExecutionTotals, NodeTotal};
use llmtrace_format::{ColumnSet, Error, Result, constants};
use rayon::prelude::*;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};

/// All executions of one node: name and operator, in whatever graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Name and operator; `None` when the trace does not describe the node.
    pub key: Option<NodeKey>,
    /// Executions.
    pub count: u64,
    /// Nanoseconds of computing, summed over threads.
    pub compute: u64,
    /// Nanoseconds of waiting, summed over threads.
    pub wait: u64,
    /// Wall nanoseconds, summed over executions.
    pub critical: u64,
    /// When the first one began.
    pub first: Nanos,
    /// Lane that began it.
    pub lane: u32,
}

impl Node {
    fn merge(&mut self, other: &Self) {
        self.count = self.count.saturating_add(other.count);
        self.compute = self.compute.saturating_add(other.compute);
        self.wait = self.wait.saturating_add(other.wait);
        self.critical = self.critical.saturating_add(other.critical);
        (self.first, self.lane) = (self.first, self.lane).min((other.first, other.lane));
    }
}

impl Trace {
    /// The nodes of a trace by their first execution; `None` before
    /// [`Trace::load_nodes`].
    pub fn nodes(&self) -> Option<&[Node]> {
        self.nodes.get().map(Vec::as_slice)
    }

    /// Sums up all executions by node: from the file, at once, else from all op
    /// spans. Does nothing when it is done.
    ///
    /// # Errors
    /// [`Error::Cancelled`] when `progress` returned `false`.
    pub fn load_nodes(&self, progress: LoadProgress<'_>) -> Result<()> {
        if self.nodes.get().is_none() {
            let nodes = match self.stored_nodes() {
                Some(nodes) => nodes,
                None => self.count_nodes(progress)?,
            };
            // Whoever came first has found the same.
            let _ = self.nodes.set(nodes);
        }
        Ok(())
    }

    /// Whether [`Trace::load_nodes`] is quick.
    pub fn nodes_are_stored(&self) -> bool {
        self.lanes().is_empty() || self.file.blocks_of::<ExecutionTotals>().next().is_some()
    }

    fn stored_nodes(&self) -> Option<Vec<Node>> {
        if self.lanes().is_empty() {
            return Some(Vec::new());
        }
        let block = self.file.blocks_of::<ExecutionTotals>().next()?;
        let table: ExecutionTotals = self.file.read(block, ColumnSet::ALL).ok()?;
        let node = |row: llmtrace_format::tables::ExecutionTotal| Node {
            key: self.graph(row.graph).and_then(|graph| {
                graph.tensors.get(row.node as usize)?;
                Some(NodeKey::in_graph(self, graph, row.node, row.fused))
            }),
            count: row.count,
            compute: row.compute,
            wait: row.wait,
            critical: row.critical,
            first: row.first,
            lane: row.lane,
        };
        Some(merged(table.rows().map(node)))
    }

    fn count_nodes(&self, progress: LoadProgress<'_>) -> Result<Vec<Node>> {
        let contexts = Contexts::new(self);
        let blocks = blocks_of(self, None, None);
        type Counted = HashMap<(Option<u32>, u32, u32), Node>;
        let each = |counted: &mut Counted, id: u32, spans: &mut Vec<(u32, crate::OpSpan)>| {
            let graph = contexts.of(id).graph;
            let lane = |index: u32| self.lanes().get(index as usize).map_or(0, |lane| lane.id);
            let firsts: Vec<(u32, (Nanos, u32))> =
                spans.iter().map(|(index, span)| (span.node, (span.begin, lane(*index)))).collect();
            let mut first: HashMap<u32, (Nanos, u32)> = HashMap::new();
            for (node, begin) in firsts {
                first.entry(node).and_modify(|known| *known = begin.min(*known)).or_insert(begin);
            }
            join(spans, |execution| {
                let (first, lane) = first.get(&execution.node).copied().unwrap_or_default();
                let node = Node {
                    key: None,
                    count: 1,
                    compute: execution.compute,
                    wait: execution.wait,
                    critical: execution.wall(),
                    first,
                    lane,
                };
                let known = counted.entry((graph, execution.node, execution.fused));
                known.and_modify(|known| known.merge(&node)).or_insert(node);
            });
        };
        let counted = each_run(self, &blocks, progress, |_, _| true, Counted::new, each)?;
        let named = counted.into_iter().flatten().map(|((graph, node, fused), sums)| {
            let graph = graph.and_then(|graph| self.file.graphs.get(graph as usize));
            let key = graph.and_then(|graph| {
                graph.tensors.get(node as usize)?;
                Some(NodeKey::in_graph(self, graph, node, fused))
            });
            Node { key, ..sums }
        });
        Ok(merged(named))
    }
}

/// Nodes of the same name and operator as one, by their first execution.
fn merged(nodes: impl Iterator<Item = Node>) -> Vec<Node> {
    let mut by_key: HashMap<Option<NodeKey>, Node> = HashMap::new();
    for node in nodes {
        match by_key.get_mut(&node.key) {
            Some(known) => known.merge(&node),
            None => {
                by_key.insert(node.key.clone(), node);
            }
        }
    }
    let mut nodes: Vec<Node> = by_key.into_values().collect();
    nodes.sort_by(|a, b| (a.first, &a.key).cmp(&(b.first, &b.key)));
    nodes
}

/// One operator, name, layer or thread inside a range.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Total {
    /// Which one, such as `MUL_MAT` or `RMS_NORM+MUL`.
    pub key: String,
    /// Op spans that touch the range, of all threads.
    pub spans: u64,
    /// Nanoseconds of computing inside the range, summed over threads.
    #[serde(rename = "time_ms", serialize_with = "millis")]
    pub compute_nanos: u64,
    /// Nanoseconds of waiting inside the range, summed over threads.
    #[serde(rename = "wait_ms", serialize_with = "opt_millis")]
    pub wait_nanos: Option<u64>,
    /// Part of all computing inside the range, from 0 to 1.
    pub share: f64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    spans: u64,
    compute: u64,
    wait: u64,
}

impl Sum {
    fn add(&mut self, other: Self) {
        self.spans = self.spans.saturating_add(other.spans);
        self.compute = self.compute.saturating_add(other.compute);
        self.wait = self.wait.saturating_add(other.wait);
    }
}

/// A node on a lane: graph (by index), node, fused nodes, lane (by index).
type OnLane = (Option<u32>, u32, u32, u32);

/// Totals of what lies inside `range`, by operator, name, layer or thread: spans
/// that reach over its edges count with the part inside. The longest first,
/// layers and threads in order.
///
/// # Errors
/// [`Error::Cancelled`] when `progress` returned `false`.
pub fn totals_in_range(
    trace: &Trace,
    range: TimeRange,
    by: By,
    progress: LoadProgress<'_>,
) -> Result<Vec<Total>> {
    let contexts = Contexts::new(trace);
    let graphs: HashMap<u32, u32> =
        (0..).zip(&trace.file.graphs).map(|(index, graph)| (graph.id, index)).collect();
    let mut parts = Vec::new();
    for (lane, of) in trace.lanes().iter().enumerate() {
        parts.extend(of.segments_in(range).map(|segment| (lane, segment)));
    }
    let done = AtomicUsize::new(0);
    let work = |mut sums: HashMap<OnLane, Sum>, &(lane, segment): &(usize, usize)| {
        if !progress(done.fetch_add(1, Ordering::Relaxed) as f32 / parts.len() as f32) {
            return Err(Error::Cancelled);
        }
        let Some(of) = trace.lanes().get(lane) else { return Ok(sums) };
        let Some(found) = of.segments.get(segment) else { return Ok(sums) };
        let whole = range.begin <= found.range.begin && found.range.end <= range.end;
        if whole && let Some(table) = trace.segment_nodes(lane, segment) {
            for NodeTotal { graph, node, fused, spans, compute, wait } in table.rows() {
                let graph = Some(graph).filter(|graph| *graph != constants::NONE);
                let graph = graph.and_then(|graph| graphs.get(&graph).copied());
                sums.entry((graph, node, fused, lane as u32)).or_default().add(Sum { spans, compute, wait });
            }
            return Ok(sums);
        }
        let blocks = of.blocks_in(range);
        for block in blocks.start.max(found.blocks.start)..blocks.end.min(found.blocks.end) {
            let Some(rows) = trace.rows_once(lane, block) else { continue };
            let mut last = (u32::MAX, Context::default());
            for row in rows_in(&rows, range) {
                let span = rows.span(row);
                if last.0 != span.graph_span {
                    last = (span.graph_span, contexts.of(span.graph_span));
                }
                let sum = Sum {
                    spans: 1,
                    compute: inside(range, span.begin, span.compute_end()),
                    wait: inside(range, span.compute_end(), span.end()),
                };
                sums.entry((last.1.graph, span.node, span.fused, lane as u32)).or_default().add(sum);
            }
        }
        Ok(sums)
    };
    let sums: Vec<HashMap<OnLane, Sum>> =
        parts.par_iter().try_fold(HashMap::new, work).collect::<Result<_>>()?;
    Ok(named(trace, by, sums.into_iter().flatten()))
}

fn named(trace: &Trace, by: By, sums: impl Iterator<Item = (OnLane, Sum)>) -> Vec<Total> {
    let mut keys = NodeTable::new();
    let mut names: BTreeMap<(u32, String), usize> = BTreeMap::new();
    let mut totals: Vec<Sum> = Vec::new();
    let mut place_of = |key: (u32, String), totals: &mut Vec<Sum>| {
        *names.entry(key).or_insert_with(|| {
            totals.push(Sum::default());
            totals.len() - 1
        })
    };
    for ((graph, node, fused, lane), sum) in sums {
        let place = if by == By::Thread {
            let id = trace.lanes().get(lane as usize).map_or(0, |lane| lane.id);
            Some(place_of((id, id.to_string()), &mut totals))
        } else {
            keys.get(trace, graph, (node, fused), |graph| {
                let name =
                    || node::result(graph, node, fused).map_or("", |tensor| trace.file.string(tensor.name));
                let key = match by {
                    By::Layer => match node::layer(name()) {
                        Some(layer) => (layer, layer.to_string()),
                        None => (u32::MAX, "other".to_owned()),
                    },
                    By::Name => (0, name().to_owned()),
                    _ => (0, node::op_label(&trace.file, graph, node, fused)),
                };
                place_of(key, &mut totals)
            })
        };
        let unknown = if by == By::Layer { (u32::MAX, "other") } else { (0, "unknown") };
        let place = place.unwrap_or_else(|| place_of((unknown.0, unknown.1.to_owned()), &mut totals));
        if let Some(total) = totals.get_mut(place) {
            total.add(sum);
        }
    }
    let all = totals.iter().fold(0u64, |sum, total| sum.saturating_add(total.compute));
    let waits_known = waits_known(trace);
    let row = |((_, key), place): ((u32, String), usize)| {
        let Sum { spans, compute, wait } = totals.get(place).copied().unwrap_or_default();
        let wait_nanos = waits_known.then_some(wait);
        Total { key, spans, compute_nanos: compute, wait_nanos, share: ratio(compute, all) }
    };
    let mut rows: Vec<Total> = names.into_iter().map(row).collect();
    if !matches!(by, By::Layer | By::Thread) {
        rows.sort_by(|a, b| b.compute_nanos.cmp(&a.compute_nanos).then_with(|| a.key.cmp(&b.key)));
    }
    rows
}

fn inside(range: TimeRange, begin: Nanos, end: Nanos) -> u64 {
    end.min(range.end).saturating_sub(begin.max(range.begin))
}
