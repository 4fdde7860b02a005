//! One node over the whole trace: the durations of all its occurrences.

use super::{Durations, micros};
use crate::executions::{Contexts, LaneSpan, NodeKey, blocks_of, each_run, join};
use crate::trace::LoadProgress;
use crate::{Phase, Trace};
use llmtrace_format::Result;
use serde::Serialize;
use std::collections::HashSet;

/// Bars of the histogram.
const BINS: usize = 40;

/// How long one node took, each time.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Distribution {
    /// Occurrences.
    pub count: u64,
    /// Nanoseconds of computing, summed over occurrences and threads.
    pub compute_nanos: u64,
    /// Nanoseconds of waiting, summed over occurrences and threads.
    pub wait_nanos: u64,
    /// The shortest.
    #[serde(rename = "min_us", serialize_with = "micros")]
    pub min_nanos: u64,
    /// Durations in a few numbers.
    #[serde(flatten)]
    pub durations: Durations,
    /// Histogram from the shortest to the 99th percentile in equal steps; the
    /// last bin also holds what is longer. Empty when nothing occurred.
    pub bins: Vec<Bin>,
}

/// One bar of a histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Bin {
    /// Shortest duration in it.
    pub from_nanos: u64,
    /// First duration above it.
    pub to_nanos: u64,
    /// Occurrences.
    pub count: u64,
}

/// All occurrences of a node, in all graphs and tokens. On one lane a duration
/// is that thread's computing; over all lanes (`None`) it is the wall time from
/// the first thread's begin until the last one was done.
///
/// # Errors
/// [`llmtrace_format::Error::Cancelled`] when `progress` returned `false`.
pub fn distribution(
    trace: &Trace,
    key: &NodeKey,
    lane: Option<u32>,
    progress: LoadProgress<'_>,
) -> Result<Distribution> {
    distribution_in(trace, key, lane, None, progress)
}

/// Like [`distribution`], of the occurrences in one phase: a node that reads a
/// prompt takes a hundred times as long as when it generates.
///
/// # Errors
/// As [`distribution`].
pub fn distribution_in(
    trace: &Trace,
    key: &NodeKey,
    lane: Option<u32>,
    phase: Option<Phase>,
    progress: LoadProgress<'_>,
) -> Result<Distribution> {
    let contexts = Contexts::new(trace);
    let lane_index = lane.map(|id| trace.lane_index(id).unwrap_or(usize::MAX));
    // A node's first tensor decides; how many are fused with it shows later.
    let mut nodes: HashSet<(u32, u32)> = HashSet::new();
    for (index, graph) in (0u32..).zip(&trace.file.graphs) {
        let of = |fused: u32| {
            (0..graph.nodes).filter(move |&node| NodeKey::in_graph(trace, graph, node, fused) == *key)
        };
        let fused = key.op.bytes().filter(|&byte| byte == b'+').count() as u32;
        nodes.extend(of(fused).map(|node| (index, node)));
    }
    let wanted = |id: u32, node: u32| {
        let context = contexts.of(id);
        let in_phase = phase.is_none_or(|phase| context.phase(trace) == phase);
        in_phase && context.graph.is_some_and(|graph| nodes.contains(&(graph, node)))
    };
    let each = |(found, durations): &mut (Distribution, Vec<u64>), id: u32, spans: &mut Vec<LaneSpan>| {
        let graph = contexts.of(id).graph.and_then(|graph| trace.file.graphs.get(graph as usize));
        join(spans, |execution| {
            let is_it = graph.is_some_and(|graph| {
                NodeKey::in_graph(trace, graph, execution.node, execution.fused) == *key
            });
            if is_it {
                found.compute_nanos = found.compute_nanos.saturating_add(execution.compute);
                found.wait_nanos = found.wait_nanos.saturating_add(execution.wait);
                durations.push(execution.wall());
            }
        });
    };
    let blocks = blocks_of(trace, lane_index, None);
    let parts = each_run(trace, &blocks, progress, wanted, Default::default, each)?;
    let mut found = Distribution::default();
    let mut durations = Vec::new();
    for (part, more) in parts {
        found.compute_nanos = found.compute_nanos.saturating_add(part.compute_nanos);
        found.wait_nanos = found.wait_nanos.saturating_add(part.wait_nanos);
        durations.extend(more);
    }
    found.count = durations.len() as u64;
    found.min_nanos = durations.iter().min().copied().unwrap_or(0);
    found.durations = Durations::of(&mut durations);
    found.bins = bins(&durations, found.min_nanos, &found.durations);
    Ok(found)
}

fn bins(values: &[u64], min: u64, durations: &Durations) -> Vec<Bin> {
    if values.is_empty() {
        return Vec::new();
    }
    let step = (durations.p99_nanos.saturating_sub(min) / BINS as u64).saturating_add(1);
    let wanted = (durations.p99_nanos.saturating_sub(min) / step + 1).min(BINS as u64);
    let mut bins: Vec<Bin> = (0..wanted)
        .map(|index| {
            let from_nanos = min.saturating_add(index.saturating_mul(step));
            Bin { from_nanos, to_nanos: from_nanos.saturating_add(step), count: 0 }
        })
        .collect();
    let last = bins.len().saturating_sub(1);
    for &value in values {
        let index = (value.saturating_sub(min) / step).min(last as u64);
        if let Some(bin) = bins.get_mut(index as usize) {
            bin.count += 1;
        }
    }
    if let Some(bin) = bins.last_mut() {
        bin.to_nanos = bin.to_nanos.max(durations.max_nanos.saturating_add(1));
    }
    bins
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_cover_everything_once() {
        for values in [vec![5], vec![7; 30], (0..1000).collect(), vec![1, 2, 3, 1_000_000], vec![0, u64::MAX]]
        {
            let min = values.iter().min().copied().unwrap_or(0);
            let bins = bins(&values, min, &Durations::of(&mut values.clone()));
            assert!(bins.len() <= BINS);
            assert!(bins.windows(2).all(|pair| pair[0].to_nanos == pair[1].from_nanos));
            assert_eq!(bins.iter().map(|bin| bin.count).sum::<u64>(), values.len() as u64);
            for bin in bins {
                let inside = |value: &&u64| bin.from_nanos <= **value && **value < bin.to_nanos;
                let counted = values.iter().filter(inside).count() as u64;
                assert!(bin.count == counted || bin.to_nanos == u64::MAX);
            }
        }
    }
}
