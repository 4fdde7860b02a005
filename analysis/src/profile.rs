//! One way through all op spans, and what attribution, roofline, verdicts and
//! findings need of them.
//!
//! ```text
//!           ├──────────────── call ─────────────────────────┤
//!               ├─────────── graph span ──────────────┤
//! thread 0         ├─compute──┤       wait┤├compute┤wait┤
//! thread 1         ├───compute────────┤    ├───compute──┤
//!                  ├──── wall ────────┤ gap ├── wall ───┤
//!                  operators: mean computing of the threads
//!                  waits: wall less that
//! ```

use crate::attribution::{self, CallParts};
use crate::executions::{Contexts, LaneSpan, NodeKey, blocks_of, each_run};
use crate::known::KnownWork;
use crate::machine::Held;
use crate::rollup::{self, Location};
use crate::stats::Counted;
use crate::trace::LoadProgress;
use crate::traffic;
use crate::work::{Work, work};
use crate::{Nanos, Phase, TimeRange, Trace};
use llmtrace_format::Result;
use llmtrace_format::meta::Graph;
use std::collections::{BTreeSet, HashMap};

/// All that one way through the trace tells.
#[derive(Clone, Debug, Default)]
pub struct Profile {
    /// Calls by begin, with where their time went.
    pub calls: Vec<CallParts>,
    /// Nodes by phase, graph and place, in this order.
    pub nodes: Vec<NodeProfile>,
    /// Threads of the pool by phase and lane.
    pub lanes: Vec<LaneProfile>,
    /// Most threads that computed one node.
    pub threads: u32,
}

/// What one node of one graph did in one phase.
#[derive(Clone, Debug)]
pub struct NodeProfile {
    /// Phase.
    pub phase: Phase,
    /// Layer and module.
    pub location: Location,
    /// Name and operator.
    pub key: NodeKey,
    /// Of one execution; `None` when the trace does not describe the node.
    pub work: Option<Work>,
    /// Whether it reads weights, which may not be in memory the first time.
    pub reads_weights: bool,
    /// Sums.
    pub sums: NodeSums,
    /// Nanoseconds of these that recording cost: its part of what attribution took from nodes.
    pub probes: u64,
    /// Lines that came from memory, over all threads; `None` where these were not counted.
    pub lines: Option<Counted>,
}

/// Sums over executions of a node; nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct NodeSums {
    /// Executions.
    pub count: u64,
    /// Wall time.
    pub wall: u64,
    /// Mean computing of the threads.
    pub balanced: u64,
    /// Computing, over all threads.
    pub compute: u64,
    /// Wall time that it took longer since its threads could run, but had no CPU; `None` when
    /// states of threads were not recorded.
    pub preempted: Option<u64>,
    /// The same of `balanced`.
    pub preempted_balanced: u64,
    /// The first execution's begin and wall time, as far as its threads had a CPU.
    pub first: (Nanos, u64),
    /// The shortest execution and the longest, likewise.
    pub shortest: u64,
    /// See `shortest`.
    pub slowest: u64,
    /// The least computing of an execution, over all threads.
    pub least_compute: u64,
    /// The longest execution's wall time and begin.
    pub longest: (u64, Nanos),
    /// For the line through wall times over token numbers: Σx, Σx², Σxy, Σy², of `count` points.
    pub over_tokens: [f64; 4],
}

impl NodeSums {
    fn add(&mut self, other: &Self) {
        let add = |a: &mut u64, b: u64| *a = a.saturating_add(b);
        if self.count == 0 {
            *self = *other;
            return;
        }
        add(&mut self.count, other.count);
        add(&mut self.wall, other.wall);
        add(&mut self.balanced, other.balanced);
        add(&mut self.compute, other.compute);
        self.preempted = self.preempted.zip(other.preempted).map(|(a, b)| a.saturating_add(b));
        add(&mut self.preempted_balanced, other.preempted_balanced);
        self.first = self.first.min(other.first);
        self.shortest = self.shortest.min(other.shortest);
        self.slowest = self.slowest.max(other.slowest);
        self.least_compute = self.least_compute.min(other.least_compute);
        self.longest = self.longest.max(other.longest);
        for (sum, more) in self.over_tokens.iter_mut().zip(other.over_tokens) {
            *sum += more;
        }
    }

    /// Nanoseconds that an execution gets longer with each token: the slope of the line of
    /// least squares. `None` for fewer than 16 executions, or when the line explains less
    /// than half of how they differ.
    pub fn growth(&self) -> Option<f64> {
        let n = self.count as f64;
        let [x, xx, xy, yy] = self.over_tokens;
        let y = self.wall as f64;
        let (spread, differ) = (n * xx - x * x, n * yy - y * y);
        if self.count < 16 || spread <= 0.0 || differ <= 0.0 {
            return None;
        }
        let along = n * xy - x * y;
        (along * along / spread / differ >= 0.5).then_some(along / spread)
    }
}

/// What a thread did in one phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneProfile {
    /// Phase.
    pub phase: Phase,
    /// Lane.
    pub lane: u32,
    /// Nanoseconds of computing.
    pub compute: u64,
    /// Nanoseconds of waiting.
    pub wait: u64,
    /// Nodes for which it arrived last, of those that several threads computed.
    pub last: u64,
    /// Those nodes.
    pub shared: u64,
}

/// What happened inside a graph span; nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct InGraph {
    pub(crate) first_begin: Nanos,
    pub(crate) last_end: Nanos,
    pub(crate) operators: u64,
    pub(crate) waits: u64,
    pub(crate) gaps: u64,
    /// Gaps that are too long to be a barrier's release and the loop over nodes.
    pub(crate) long_gaps: u64,
    /// Of wall times of nodes: what they took longer since threads had no CPU.
    pub(crate) preempted_nodes: u64,
    /// Of long gaps: while no thread had a CPU.
    pub(crate) preempted_gaps: u64,
}

/// Phase, graph, node, and how many are fused with it.
pub(crate) type NodeId = (u8, u32, u32, u32);

#[derive(Default)]
struct State {
    nodes: HashMap<NodeId, NodeSums>,
    lanes: HashMap<(u8, u32), [u64; 4]>,
    graphs: Vec<(u32, InGraph)>,
    threads: u32,
}

/// A release of all threads and the way to the next node take a microsecond or a few.
/// What is longer has a cause that the trace does not show.
const LONG_GAP_NANOS: u64 = 20_000;

/// Goes through a trace, on all cores.
///
/// # Errors
/// [`llmtrace_format::Error::Cancelled`] when `progress` returned `false`.
pub fn profile(trace: &Trace, progress: LoadProgress<'_>) -> Result<Profile> {
    let contexts = Contexts::new(trace);
    let blocks = blocks_of(trace, None, None);
    let held = Held::of(trace);
    let each = |state: &mut State, id: u32, spans: &mut Vec<LaneSpan>| {
        let context = contexts.of(id);
        let token = context.token.and_then(|index| trace.tokens.get(index as usize));
        let number = token.map_or(0, |token| token.number);
        state.run(id, (context.phase(trace), context.graph, number), spans, held.as_ref());
    };
    let states = each_run(trace, &blocks, progress, |_, _| true, State::default, each)?;
    let mut all = State::default();
    for state in states {
        for (id, sums) in state.nodes {
            all.nodes.entry(id).or_default().add(&sums);
        }
        for (id, sums) in state.lanes {
            let known = all.lanes.entry(id).or_default();
            known.iter_mut().zip(sums).for_each(|(sum, more)| *sum = sum.saturating_add(more));
        }
        all.graphs.extend(state.graphs);
        all.threads = all.threads.max(state.threads);
    }
    let graphs: HashMap<u32, InGraph> = all.graphs.into_iter().collect();
    let calls = attribution::calls(trace, &graphs);
    let mut nodes = nodes(trace, all.nodes, &traffic::lines(trace, &contexts));
    share_probes(&calls, &mut nodes);
    Ok(Profile { calls, nodes, lanes: lanes(trace, all.lanes), threads: all.threads })
}

impl State {
    fn run(
        &mut self,
        id: u32,
        (phase, graph, number): (Phase, Option<u32>, u32),
        spans: &mut [LaneSpan],
        held: Option<&Held>,
    ) {
        spans.sort_by_key(|(_, span)| span.node);
        let mut walls: Vec<(Nanos, Nanos)> = Vec::new();
        let mut inside = InGraph { first_begin: Nanos::MAX, ..InGraph::default() };
        let x = f64::from(number);
        for group in spans.chunk_by(|(_, a), (_, b)| a.node == b.node) {
            let begin = group.iter().map(|(_, span)| span.begin).min().unwrap_or(0);
            let end = group.iter().map(|(_, span)| span.compute_end()).max().unwrap_or(0);
            let compute = group.iter().fold(0u64, |sum, (_, span)| sum.saturating_add(span.compute));
            let Some((_, first)) = group.first() else { continue };
            let fused = group.iter().map(|(_, span)| span.fused).max().unwrap_or(0);
            let wall = end.saturating_sub(begin);
            let balanced = (compute / group.len() as u64).min(wall);
            let lost = held.map(|held| held.lost(group));
            let on_cpu = wall.saturating_sub(lost.map_or(0, |lost| lost.wall));
            let sums = NodeSums {
                count: 1,
                wall,
                balanced,
                compute,
                preempted: lost.map(|lost| lost.wall),
                preempted_balanced: lost.map_or(0, |lost| lost.mean.min(balanced)),
                first: (begin, on_cpu),
                shortest: on_cpu,
                slowest: on_cpu,
                least_compute: compute,
                longest: (wall, begin),
                over_tokens: [x, x * x, x * wall as f64, wall as f64 * wall as f64],
            };
            let node = (phase as u8, graph.unwrap_or(u32::MAX), first.node, fused);
            self.nodes.entry(node).or_default().add(&sums);
            self.threads = self.threads.max(group.len() as u32);
            inside.first_begin = inside.first_begin.min(begin);
            inside.operators = inside.operators.saturating_add(balanced);
            inside.waits = inside.waits.saturating_add(wall - balanced);
            inside.preempted_nodes = inside.preempted_nodes.saturating_add(lost.map_or(0, |lost| lost.wall));
            walls.push((begin, end));
            let last = group.iter().max_by_key(|(_, span)| span.compute_end()).map(|(lane, _)| *lane);
            for (lane, span) in group {
                let sums = self.lanes.entry((phase as u8, *lane)).or_default();
                let shared = u64::from(group.len() > 1);
                let late = shared * u64::from(last == Some(*lane));
                for (sum, more) in sums.iter_mut().zip([span.compute, span.wait, late, shared]) {
                    *sum = sum.saturating_add(more);
                }
            }
        }
        walls.sort_unstable();
        let lanes: BTreeSet<u32> = spans.iter().map(|(lane, _)| *lane).collect();
        let mut reached = inside.first_begin;
        let mut overlapping = 0u64;
        for (begin, end) in walls {
            let gap = begin.saturating_sub(reached);
            let sum = if gap > LONG_GAP_NANOS { &mut inside.long_gaps } else { &mut inside.gaps };
            *sum = sum.saturating_add(gap);
            if let Some(held) = held.filter(|_| gap > LONG_GAP_NANOS) {
                let held = held.gap(TimeRange::new(reached, begin), lanes.iter().copied());
                inside.preempted_gaps = inside.preempted_gaps.saturating_add(held);
            }
            overlapping = overlapping.saturating_add(reached.saturating_sub(begin).min(end - begin));
            reached = reached.max(end);
        }
        // A thread may begin the next node before we see the last one leave this: time
        // counts once.
        let from_waits = overlapping.min(inside.waits);
        inside.waits -= from_waits;
        inside.operators = inside.operators.saturating_sub(overlapping - from_waits);
        inside.last_end = reached;
        self.graphs.push((id, inside));
    }
}

fn nodes(
    trace: &Trace,
    sums: HashMap<NodeId, NodeSums>,
    lines: &HashMap<NodeId, Counted>,
) -> Vec<NodeProfile> {
    let mut sorted: Vec<(NodeId, NodeSums)> = sums.into_iter().collect();
    sorted.sort_by_key(|(id, _)| *id);
    let mut locations: HashMap<u32, Vec<Location>> = HashMap::new();
    let known_work = KnownWork::of(trace);
    let each = |((phase, graph, node, fused), sums): (NodeId, NodeSums)| {
        let described = trace.file.graphs.get(graph as usize);
        let described = described.filter(|of| of.tensors.get(node as usize).is_some());
        let known = match described {
            Some(of) => {
                let all =
                    locations.entry(graph).or_insert_with(|| rollup::locations(&trace.file, of)).as_slice();
                let key = NodeKey::in_graph(trace, of, node, fused);
                (
                    rollup::location_of(all, node, fused),
                    key,
                    work(
                        &trace.file,
                        of,
                        node,
                        fused,
                        known_work.of_node((phase, graph), of, (node, fused), sums.count),
                    ),
                    reads_weights(trace, of, node, fused),
                )
            }
            None => {
                let key = NodeKey { name: "unknown".into(), op: "unknown".into() };
                (Location::default(), key, None, false)
            }
        };
        let (location, key, work, reads_weights) = known;
        let lines = lines.get(&(phase, graph, node, fused)).copied();
        let phase = Phase::from_u8(phase);
        NodeProfile { phase, location, key, work, reads_weights, sums, probes: 0, lines }
    };
    sorted.into_iter().map(each).collect()
}

/// Whether a source of a kernel is a weight: no node, and called so.
fn reads_weights(trace: &Trace, graph: &Graph, node: u32, fused: u32) -> bool {
    let nodes = (node..=node.saturating_add(fused.min(8))).filter_map(|at| graph.tensors.get(at as usize));
    let mut sources = nodes.flat_map(|tensor| &tensor.sources);
    sources.any(|&source| {
        let source = graph.tensors.get(source as usize).filter(|_| source >= graph.nodes);
        source.is_some_and(|tensor| trace.file.string(tensor.name).contains(".weight"))
    })
}

/// A thread hits about one probe a node, so that each execution has an equal part of what
/// probes cost in nodes.
fn share_probes(calls: &[CallParts], nodes: &mut [NodeProfile]) {
    for phase in [Phase::Unknown, Phase::Prefill, Phase::Decode, Phase::Encode] {
        let calls = calls.iter().filter(|call| call.phase == phase);
        let cost = calls.fold(0u64, |sum, call| sum.saturating_add(call.probes_in_nodes));
        let of_phase = |node: &NodeProfile| node.phase == phase;
        let counts = nodes.iter().filter(|node| of_phase(node)).map(|node| node.sums.count);
        let executions = counts.fold(0u64, u64::saturating_add).max(1);
        for node in nodes.iter_mut().filter(|node| of_phase(node)) {
            let part = u128::from(cost) * u128::from(node.sums.count) / u128::from(executions);
            node.probes = (part as u64).min(node.sums.balanced);
        }
    }
}

fn lanes(trace: &Trace, sums: HashMap<(u8, u32), [u64; 4]>) -> Vec<LaneProfile> {
    let each = |((phase, lane), [compute, wait, last, shared]): ((u8, u32), [u64; 4])| {
        let lane = trace.lanes().get(lane as usize).map_or(lane, |of| of.id);
        LaneProfile { phase: Phase::from_u8(phase), lane, compute, wait, last, shared }
    };
    let mut all: Vec<LaneProfile> = sums.into_iter().map(each).collect();
    all.sort_by_key(|of| (of.phase as u8, of.lane));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(walls: impl Iterator<Item = (f64, u64)>) -> NodeSums {
        let mut all = NodeSums::default();
        for (x, wall) in walls {
            let y = wall as f64;
            let over_tokens = [x, x * x, x * y, y * y];
            all.add(&NodeSums { count: 1, wall, shortest: wall, over_tokens, ..NodeSums::default() });
        }
        all
    }

    #[test]
    fn growth_is_the_slope_of_what_grows_and_of_nothing_else() {
        let grows = sums((0..100u32).map(|x| (f64::from(x), 1000 + 7 * u64::from(x) + u64::from(x % 3))));
        assert!(grows.growth().is_some_and(|slope| (slope - 7.0).abs() < 0.1));
        let jumps = sums((0..100u32).map(|x| (f64::from(x), 1000 + 500 * u64::from(x % 2))));
        assert_eq!(jumps.growth(), None);
        let few = sums((0..15u32).map(|x| (f64::from(x), 1000 + 7 * u64::from(x))));
        assert_eq!(few.growth(), None);
        assert_eq!((grows.count, grows.shortest), (100, 1000));
    }
}
