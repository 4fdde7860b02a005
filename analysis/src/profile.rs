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
use crate::rollup::{self, Location};
use crate::trace::LoadProgress;
use crate::work::{Known, Work, work};
use crate::{Nanos, Phase, Trace};
use llmtrace_format::Result;
use std::collections::HashMap;

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
    /// Sums.
    pub sums: NodeSums,
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
    /// The first execution's begin and wall time.
    pub first: (Nanos, u64),
    /// The shortest execution.
    pub shortest: u64,
    /// The longest execution's wall time and begin.
    pub longest: (u64, Nanos),
    /// For the line through wall times over token numbers: Σx, Σx², Σxy, of `count` points.
    pub over_tokens: [f64; 3],
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
        self.first = self.first.min(other.first);
        self.shortest = self.shortest.min(other.shortest);
        self.longest = self.longest.max(other.longest);
        for (sum, more) in self.over_tokens.iter_mut().zip(other.over_tokens) {
            *sum += more;
        }
    }

    /// Nanoseconds that an execution gets longer with each token, and what it takes at
    /// token 0: the line of least squares. `None` for fewer than 16 executions.
    pub fn growth(&self) -> Option<(f64, f64)> {
        let n = self.count as f64;
        let [x, xx, xy] = self.over_tokens;
        let spread = n * xx - x * x;
        if self.count < 16 || spread <= 0.0 {
            return None;
        }
        let slope = (n * xy - x * self.wall as f64) / spread;
        Some((slope, (self.wall as f64 - slope * x) / n))
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
}

type NodeId = (u8, u32, u32, u32);

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
    let each = |state: &mut State, id: u32, spans: &mut Vec<LaneSpan>| {
        let context = contexts.of(id);
        let token = context.token.and_then(|index| trace.tokens.get(index as usize));
        let number = token.map_or(0, |token| token.number);
        state.run(id, (context.phase(trace), context.graph, number), spans);
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
    Ok(Profile {
        calls: attribution::calls(trace, &graphs),
        nodes: nodes(trace, all.nodes),
        lanes: lanes(trace, all.lanes),
        threads: all.threads,
    })
}

impl State {
    fn run(&mut self, id: u32, (phase, graph, number): (Phase, Option<u32>, u32), spans: &mut [LaneSpan]) {
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
            let sums = NodeSums {
                count: 1,
                wall,
                balanced,
                compute,
                first: (begin, wall),
                shortest: wall,
                longest: (wall, begin),
                over_tokens: [x, x * x, x * wall as f64],
            };
            let node = (phase as u8, graph.unwrap_or(u32::MAX), first.node, fused);
            self.nodes.entry(node).or_default().add(&sums);
            self.threads = self.threads.max(group.len() as u32);
            inside.first_begin = inside.first_begin.min(begin);
            inside.operators = inside.operators.saturating_add(balanced);
            inside.waits = inside.waits.saturating_add(wall - balanced);
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
        let mut reached = inside.first_begin;
        let mut overlapping = 0u64;
        for (begin, end) in walls {
            let gap = begin.saturating_sub(reached);
            let sum = if gap > LONG_GAP_NANOS { &mut inside.long_gaps } else { &mut inside.gaps };
            *sum = sum.saturating_add(gap);
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

fn nodes(trace: &Trace, sums: HashMap<NodeId, NodeSums>) -> Vec<NodeProfile> {
    let mut sorted: Vec<(NodeId, NodeSums)> = sums.into_iter().collect();
    sorted.sort_by_key(|(id, _)| *id);
    let mut locations: HashMap<u32, Vec<Location>> = HashMap::new();
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
                    work(&trace.file, of, node, fused, Known::default()),
                )
            }
            None => {
                let key = NodeKey { name: "unknown".into(), op: "unknown".into() };
                (Location::default(), key, None)
            }
        };
        NodeProfile { phase: Phase::from_u8(phase), location: known.0, key: known.1, work: known.2, sums }
    };
    sorted.into_iter().map(each).collect()
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
