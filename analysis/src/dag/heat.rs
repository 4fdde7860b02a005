//! What each node of a graph cost, and the way through it that bounds its time.

use super::{behind_views, nodes_of};
use crate::ceilings::Roofs;
use crate::executions::{Contexts, LaneSpan, blocks_of, each_run, join};
use crate::roofline::roof_nanos;
use crate::trace::LoadProgress;
use crate::work::{Known, work};
use crate::{TimeRange, Trace};
use llmtrace_format::meta::Graph;
use llmtrace_format::{Result, TraceFile};

/// Executions of one node of one graph; nanoseconds are sums unless they say otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct NodeHeat {
    /// Executions. 0 for views, and for nodes that are fused with an earlier one.
    pub count: u64,
    /// From the first thread's begin until the last one was done.
    pub wall: u64,
    /// Computing, over all threads.
    pub compute: u64,
    /// Waiting, over all threads.
    pub wait: u64,
    /// The shortest and the longest execution.
    pub extremes: (u64, u64),
    /// How many nodes after it the same kernel computes.
    pub fused: u32,
    /// Bytes that an execution needs to read and write; `None` when unknown.
    pub bytes: Option<u64>,
    /// Part of what the host's roof allows that is reached; `None` without ceilings.
    pub roof_share: Option<f64>,
}

impl NodeHeat {
    /// Mean wall time in nanoseconds.
    pub fn mean(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.wall as f64 / self.count as f64 }
    }
}

/// What each node of the graph at `graph` (an index into the file's graphs) cost, of all
/// executions or of those that begin in a range; by index of the node.
///
/// # Errors
/// [`llmtrace_format::Error::Cancelled`] when `progress` returned `false`.
pub fn heat(
    trace: &Trace,
    graph: u32,
    range: Option<TimeRange>,
    progress: LoadProgress<'_>,
) -> Result<Vec<NodeHeat>> {
    let Some(of) = trace.file.graphs.get(graph as usize) else { return Ok(Vec::new()) };
    let contexts = Contexts::new(trace);
    let len = nodes_of(of).len();
    let blocks = blocks_of(trace, None, range);
    let wanted = |id: u32, _: u32| contexts.of(id).graph == Some(graph);
    let new = || (vec![NodeHeat::default(); len], 0u32);
    let each = |(all, threads): &mut (Vec<NodeHeat>, u32), _: u32, spans: &mut Vec<LaneSpan>| {
        *threads = (*threads).max(distinct_lanes(spans));
        join(spans, |execution| {
            if range.is_some_and(|range| !range.contains(execution.begin)) {
                return;
            }
            let Some(heat) = all.get_mut(execution.node as usize) else { return };
            let wall = execution.wall();
            let one = NodeHeat {
                count: 1,
                wall,
                compute: execution.compute,
                wait: execution.wait,
                extremes: (wall, wall),
                fused: execution.fused,
                ..NodeHeat::default()
            };
            heat.add(&one);
        });
    };
    let states = each_run(trace, &blocks, progress, wanted, new, each)?;
    let threads = states.iter().map(|(_, threads)| *threads).max().unwrap_or(1).max(1);
    let mut all = vec![NodeHeat::default(); len];
    for (state, _) in states {
        all.iter_mut().zip(&state).for_each(|(known, more)| known.add(more));
    }
    let roofs = Roofs::of(trace, threads);
    for (index, heat) in (0u32..).zip(&mut all).filter(|(_, heat)| heat.count > 0) {
        let Some(work) = work(&trace.file, of, index, heat.fused, Known::default()) else { continue };
        heat.bytes = work.bytes();
        let computing = heat.compute as f64 / f64::from(threads) / heat.count as f64;
        let roof = roof_nanos(&work, &roofs).map(|(memory, compute)| memory.max(compute));
        heat.roof_share = roof.filter(|_| computing > 0.0).map(|roof| roof / computing);
    }
    Ok(all)
}

impl NodeHeat {
    fn add(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        let (low, high) = self.extremes;
        let low = if self.count == 0 { other.extremes.0 } else { low.min(other.extremes.0) };
        self.extremes = (low, high.max(other.extremes.1));
        self.count = self.count.saturating_add(other.count);
        self.wall = self.wall.saturating_add(other.wall);
        self.compute = self.compute.saturating_add(other.compute);
        self.wait = self.wait.saturating_add(other.wait);
        self.fused = self.fused.max(other.fused);
    }
}

fn distinct_lanes(spans: &[LaneSpan]) -> u32 {
    let mut lanes: Vec<u32> = spans.iter().map(|(lane, _)| *lane).collect();
    lanes.sort_unstable();
    lanes.dedup();
    lanes.len() as u32
}

/// The nodes on the longest way through a graph by mean wall time, and the time of that way: what
/// would be left if all that does not depend on each other were done at once.
pub fn critical_path(file: &TraceFile, graph: &Graph, heat: &[NodeHeat]) -> (Vec<u32>, f64) {
    let nodes = nodes_of(graph);
    // Until a node is done, and the source that it waited for last.
    let mut done: Vec<(f64, Option<u32>)> = Vec::with_capacity(nodes.len());
    for (index, tensor) in nodes.iter().enumerate() {
        let own = heat.get(index).map_or(0.0, NodeHeat::mean);
        let sources = tensor.sources.iter().map(|&source| behind_views(file, graph, source));
        let before = sources.filter_map(|source| Some((source, done.get(source as usize)?.0)));
        let last = before.max_by(|a, b| a.1.total_cmp(&b.1));
        done.push((last.map_or(0.0, |(_, time)| time) + own, last.map(|(source, _)| source)));
    }
    let last = (0u32..).zip(&done).max_by(|a, b| a.1.0.total_cmp(&b.1.0));
    let Some((last, (time, _))) = last else { return (Vec::new(), 0.0) };
    let before = |&node: &u32| done.get(node as usize)?.1.filter(|source| *source < node);
    let mut path: Vec<u32> = std::iter::successors(Some(last), before).collect();
    path.reverse();
    (path, *time)
}
