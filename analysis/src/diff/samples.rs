//! What a comparison has read, for looking at one of its rows: how long that took in each call, and
//! a call in which it took about as long as it does.

use super::run::{Names, NodeId, Run};
use super::{Contribution, Grain, Groups};
use crate::executions::{LaneSpan, NodeKey, blocks_of, each_run, join};
use crate::{Nanos, TimeRange, Trace};
use llmtrace_format::Result;
use llmtrace_format::constants::NONE;
use std::collections::HashSet;

/// What was read of both sides.
pub struct Samples {
    pub(super) runs: [Vec<Run>; 2],
    pub(super) groups: Groups,
}

impl Samples {
    /// Contributions of nodes, in the order of the comparison.
    pub fn groups(&self, by: Grain) -> &[Contribution] {
        self.groups.iter().find(|(grain, _)| *grain == by).map_or(&[], |(_, found)| found)
    }

    /// Nanoseconds for each unit of every call that was compared, sorted; A and B.
    pub fn calls(&self) -> [Vec<u64>; 2] {
        self.runs.each_ref().map(|side| sorted(side.iter().flat_map(|run| run.totals.iter().copied())))
    }

    /// Nanoseconds for each unit of some nodes together, of each sampled call, sorted; A and B.
    pub fn nodes(&self, members: &[NodeId]) -> [Vec<u64>; 2] {
        self.runs.each_ref().map(|side| sorted(side.iter().flat_map(|run| sums(run, members))))
    }

    /// Of the first run of each side a call in which the nodes took about the median; the same on
    /// both sides (the nth of the phase), if one was sampled on both. Nothing for a side without.
    pub fn typical(&self, members: &[NodeId]) -> [Option<TimeRange>; 2] {
        let sides = self.runs.each_ref().map(|side| {
            let Some(run) = side.first() else { return Vec::new() };
            let sums = sums(run, members);
            let mut ordered = sums.clone();
            ordered.sort_by(f32::total_cmp);
            let median = ordered.get(ordered.len() / 2).copied().unwrap_or(0.0);
            let off = sums.iter().map(|sum| (sum - median).abs() / median.max(1.0));
            let calls = run.sampled_calls.iter().zip(off);
            calls.map(|(&(at, range), off)| (at, range, off)).collect::<Vec<_>>()
        });
        let [a, b] = &sides;
        let mut best: Option<(f32, [TimeRange; 2])> = None;
        for (at, in_a, off_a) in a {
            let found = b.binary_search_by_key(at, |(at, ..)| *at).ok().and_then(|found| b.get(found));
            let Some((_, in_b, off_b)) = found else { continue };
            if best.is_none_or(|(off, _)| off_a + off_b < off) {
                best = Some((off_a + off_b, [*in_a, *in_b]));
            }
        }
        if let Some((_, found)) = best {
            return found.map(Some);
        }
        sides.map(|side| side.iter().min_by(|a, b| a.2.total_cmp(&b.2)).map(|(_, range, _)| *range))
    }
}

/// Of each sampled call, in their order.
fn sums(run: &Run, members: &[NodeId]) -> Vec<f32> {
    let mut sums = vec![0.0; run.sampled];
    for node in members.iter().filter_map(|id| run.nodes.get(id)) {
        sums.iter_mut().zip(&node.nanos).for_each(|(sum, more)| *sum += more);
    }
    sums
}

fn sorted(values: impl Iterator<Item = f32>) -> Vec<u64> {
    let mut values: Vec<u64> = values.map(|value| value.max(0.0).round() as u64).collect();
    values.sort_unstable();
    values
}

/// Wall time, node, index of the lane and begin of an execution.
type Executed = (u64, (u32, u32, u32), u32, Nanos);

/// The longest execution of one of some nodes in a range of time: what it is of, the id of the lane
/// that began it, and when. Reads the op spans of the range.
///
/// # Errors
/// When op spans cannot be read.
pub fn execution_in(
    trace: &Trace,
    range: TimeRange,
    members: &[NodeId],
) -> Result<Option<(NodeKey, u32, Nanos)>> {
    let blocks = blocks_of(trace, None, Some(range));
    let each = |found: &mut Vec<Executed>, id: u32, spans: &mut Vec<LaneSpan>| {
        let graph = trace.graph_span(id).map_or(NONE, |span| span.graph);
        join(spans, |execution| {
            if range.contains(execution.begin) {
                let node = (graph, execution.node, execution.fused);
                found.push((execution.wall(), node, execution.lane, execution.begin));
            }
        });
    };
    let wanted =
        |id: u32, _: u32| trace.graph_span(id).is_some_and(|s| s.begin < range.end && range.begin < s.end);
    let found = each_run(trace, &blocks, &|_| true, wanted, Vec::new, each)?;
    let mut names = Names::default();
    let members: HashSet<&NodeId> = members.iter().collect();
    let mut all: Vec<_> = found.into_iter().flatten().collect();
    all.sort_unstable_by_key(|(wall, _, lane, begin)| (std::cmp::Reverse(*wall), *begin, *lane));
    for (_, node, lane, begin) in all {
        let at = names.of(trace, node);
        if !names.known.get(at).is_some_and(|(id, _)| members.contains(id)) {
            continue;
        }
        let (graph, node, fused) = node;
        let Some(graph) = trace.graph(graph) else { continue };
        let lane = trace.lanes().get(lane as usize).map_or(lane, |of| of.id);
        return Ok(Some((NodeKey::in_graph(trace, graph, node, fused), lane, begin)));
    }
    Ok(None)
}
