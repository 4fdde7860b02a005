//! A graph while it runs: what each of its threads did, and what follows from it.

use super::counters::{NOTHING, Packed, unpack};
use super::graphs::KnownGraph;
use super::sequence::{Item, begins};
use llmtrace_format::OpSpan;
use llmtrace_format::counters::{MAX_COUNTERS, OpCounter, WITH_WAIT_BEFORE};
use llmtrace_format::tables::GraphSpan;
use std::rc::Rc;

/// A lane holds what one place in the thread pool did for one of the graphs that
/// run at once in one process: bits 0 to 9 are the place, 10 to 19 the graph's
/// slot, 20 to 27 the process.
pub(super) fn lane_id(process: u8, slot: u32, ith: u32) -> u32 {
    u32::from(process) << 20 | (slot % PLACES) << 10 | (ith % PLACES)
}

const PLACES: u32 = 1024;

/// A graph that has begun and not yet returned.
pub(super) struct RunningGraph {
    pub(super) span: GraphSpan,
    pub(super) slot: u32,
    pub(super) known: Option<Rc<KnownGraph>>,
    pub(super) lanes: Vec<LaneRun>,
}

/// One thread's part in it.
pub(super) struct LaneRun {
    pub(super) tid: u32,
    pub(super) ith: u32,
    pub(super) hits: u32,
    /// Those of them that began fused nodes.
    pub(super) fused_hits: u32,
    pub(super) steps: Vec<Step>,
    /// Each arrival at a barrier, and the CPU it was on.
    pub(super) arrivals: Vec<u64>,
    pub(super) cpus: Vec<u32>,
    /// What was counted up to each arrival; empty when nothing is.
    pub(super) counts: Vec<Packed>,
    /// Arrivals before each step that was seen to begin.
    pub(super) before: Vec<u32>,
}

/// One node of one thread.
#[derive(Clone, Copy)]
pub(super) struct Step {
    pub(super) node: u32,
    pub(super) fused: u32,
    pub(super) cpu: u32,
    pub(super) begin: u64,
    /// Last arrival at a barrier; 0 before the first.
    pub(super) arrival: u64,
}

impl RunningGraph {
    #[cfg(test)]
    pub(super) fn empty() -> Self {
        Self { span: GraphSpan::default(), slot: 0, known: None, lanes: Vec::new() }
    }

    /// Nodes begun so far, over all threads.
    pub(super) fn steps(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.steps.len() as u64).sum()
    }
}

impl LaneRun {
    pub(super) fn new(tid: u32, ith: u32) -> Self {
        let ith = ith % PLACES;
        Self {
            tid,
            ith,
            hits: 0,
            fused_hits: 0,
            steps: Vec::new(),
            arrivals: Vec::new(),
            cpus: Vec::new(),
            counts: Vec::new(),
            before: Vec::new(),
        }
    }

    pub(super) fn arrive(&mut self, time: u64, cpu: u32) {
        self.hits += 1;
        self.arrivals.push(time);
        self.cpus.push(cpu);
        if let Some(step) = self.steps.last_mut() {
            step.arrival = time;
        }
    }

    /// Takes what was counted up to the last arrival.
    pub(super) fn counted(&mut self, counts: Option<Packed>) {
        // Of arrivals before the first that tells, nothing is known.
        if counts.is_some() || !self.counts.is_empty() {
            self.counts.resize(self.arrivals.len().saturating_sub(1), NOTHING);
            self.counts.push(counts.unwrap_or(NOTHING));
        }
    }

    pub(super) fn items(&self) -> Vec<Item> {
        self.steps.iter().map(|step| (step.node, step.fused)).collect()
    }
}

/// Replaces the steps of all threads by those that their arrivals count.
pub(super) fn infer_steps(graph: &mut RunningGraph, order: &[Item]) {
    let arrivals: Vec<&[u64]> = graph.lanes.iter().map(|lane| lane.arrivals.as_slice()).collect();
    let begins = begins(&arrivals, graph.span.begin);
    for lane in &mut graph.lanes {
        let seen = lane.arrivals.iter().zip(&lane.cpus);
        let steps = order.iter().zip(&begins).zip(seen);
        lane.steps = steps
            .map(|((&(node, fused), &begin), (&arrival, &cpu))| Step { node, fused, cpu, begin, arrival })
            .collect();
    }
}

/// When the last thread arrived at the barrier that closes each node.
pub(super) fn releases(graph: &RunningGraph) -> Vec<u64> {
    let nodes = graph.known.as_ref().map_or(0, |known| known.len());
    let mut release = vec![0; nodes];
    for step in graph.lanes.iter().flat_map(|lane| &lane.steps) {
        if let Some(release) = release.get_mut(step.node as usize) {
            *release = step.arrival.max(*release);
        }
    }
    release
}

/// The rows of one thread.
pub(super) fn op_spans(lane: &LaneRun, graph: &GraphSpan, release: &[u64], thread: u32) -> Vec<OpSpan> {
    let nexts = lane.steps.iter().skip(1).map(|step| step.begin).chain([graph.end]);
    let steps = lane.steps.iter().zip(nexts);
    steps
        .map(|(step, next)| {
            // Without barriers (level `op`) a node ends where the next begins.
            let compute_end = if step.arrival == 0 { next } else { step.arrival }.max(step.begin);
            let released = release.get(step.node as usize).copied().unwrap_or(0);
            let wait_end = released.min(next).max(compute_end);
            OpSpan {
                begin: step.begin,
                compute: compute_end - step.begin,
                wait: wait_end - compute_end,
                node: step.node,
                fused: step.fused,
                graph_span: graph.id,
                thread,
                cpu: step.cpu,
                touched_by_loss: false,
            }
        })
        .collect()
}

/// What one thread counted for each of its op spans, which are `spans`.
///
/// Where begins were not seen, arrivals are one for each node, and its counts begin at the
/// arrival before: for the first node of a thread that did not begin the graph itself, that
/// was in another graph, and says nothing.
pub(super) fn op_counters(lane: &LaneRun, graph: &GraphSpan, spans: &[OpSpan]) -> Vec<OpCounter> {
    if lane.counts.is_empty() {
        return Vec::new();
    }
    let inferred = graph.inferred_begins != 0;
    let arrivals_of = |index: usize| match inferred {
        true => index..index + 1,
        false => {
            let at = |index: usize| lane.before.get(index).map_or(lane.arrivals.len(), |&at| at as usize);
            at(index)..at(index + 1)
        }
    };
    let row = |(index, span): (usize, &OpSpan)| {
        let mut counts = [None; MAX_COUNTERS];
        let mut scaled = 0u8;
        let told = !(inferred && index == 0 && lane.tid != graph.tid);
        let range = arrivals_of(index);
        if let Some(packed) = lane.counts.get(range).filter(|packed| told && !packed.is_empty()) {
            for (counter, count) in counts.iter_mut().enumerate() {
                let parts = packed.iter().map(|packed| unpack(packed.get(counter).copied()?));
                let parts: Option<Vec<(u64, bool)>> = parts.collect();
                *count = parts.map(|parts| {
                    scaled |= u8::from(parts.iter().any(|(_, scaled)| *scaled)) << counter;
                    parts.iter().map(|(count, _)| count).sum()
                });
            }
        }
        OpCounter {
            begin: span.begin,
            node: span.node,
            fused: span.fused,
            graph_span: span.graph_span,
            flags: if inferred { WITH_WAIT_BEFORE } else { 0 },
            scaled,
            ..OpCounter::default()
        }
        .with_counts(counts)
    };
    spans.iter().enumerate().map(row).collect()
}
