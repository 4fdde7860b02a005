//! Where the time of each call went, with nothing left over.
//!
//! The parts of a call add up to its wall time, from the end of the call before it on
//! the same thread to its own end, to the nanosecond: each part is measured on one
//! line of time, and what no event explains is *unattributed*.

use crate::profile::InGraph;
use crate::summary::calls as all_calls;
use crate::{Nanos, Phase, TimeRange, Trace, price};
use llmtrace_format::inference::CallKind;
use serde::Serialize;
use std::collections::HashMap;

/// Where time went; nanoseconds. The sum of all parts is the wall time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Parts {
    /// Computing of nodes: the mean of the threads.
    pub operators: u64,
    /// Waiting at barriers: what a node took longer than the mean of its threads.
    pub waits: u64,
    /// Between nodes: releasing the threads, the loop over nodes, starting the graph.
    pub between_nodes: u64,
    /// In the call outside its graphs: preparing the batch, building the graph, setting
    /// inputs, fetching results.
    pub build: u64,
    /// Copies between backends; `None` when they were not recorded.
    pub copies: Option<u64>,
    /// Sampling; `None` when it was not recorded, and is then part of `between_calls`.
    pub sampling: Option<u64>,
    /// From the end of the call before it on the same thread.
    pub between_calls: u64,
    /// What recording cost, by its own calibration; `None` when the recorder did not
    /// measure it, and is then part of the others.
    pub probes: Option<u64>,
    /// What no event explains.
    pub unattributed: u64,
}

impl Parts {
    /// All parts together.
    pub fn wall(&self) -> u64 {
        let parts = [
            self.operators,
            self.waits,
            self.between_nodes,
            self.build,
            self.copies.unwrap_or(0),
            self.sampling.unwrap_or(0),
            self.between_calls,
            self.probes.unwrap_or(0),
            self.unattributed,
        ];
        parts.into_iter().fold(0, u64::saturating_add)
    }

    /// The parts with their names, in the order of a call; those that were not recorded
    /// are `None`.
    pub fn named(&self) -> [(&'static str, Option<u64>); 9] {
        [
            ("operators", Some(self.operators)),
            ("barrier waits", Some(self.waits)),
            ("between nodes", Some(self.between_nodes)),
            ("graph build and call", Some(self.build)),
            ("copies", self.copies),
            ("sampling", self.sampling),
            ("between calls", Some(self.between_calls)),
            ("probes", self.probes),
            ("unattributed", Some(self.unattributed)),
        ]
    }

    /// Cuts it into pieces of such weights; the pieces add up to it, to the nanosecond. Without
    /// any weight all is in the first piece.
    pub fn shared(&self, weights: &[u64]) -> Vec<Self> {
        let all: u128 = weights.iter().map(|&weight| u128::from(weight)).sum();
        let mut reached = 0u128;
        let mut piece = |(index, &weight): (usize, &u64)| {
            let from = reached;
            reached += u128::from(weight);
            let to = reached;
            let cut = |nanos: u64| match all {
                0 => {
                    if index == 0 {
                        nanos
                    } else {
                        0
                    }
                }
                _ => {
                    let until =
                        |part: u128| (u128::from(nanos).saturating_mul(part) / all).min(nanos.into()) as u64;
                    until(to).saturating_sub(until(from))
                }
            };
            Self {
                operators: cut(self.operators),
                waits: cut(self.waits),
                between_nodes: cut(self.between_nodes),
                build: cut(self.build),
                copies: self.copies.map(cut),
                sampling: self.sampling.map(cut),
                between_calls: cut(self.between_calls),
                probes: self.probes.map(cut),
                unattributed: cut(self.unattributed),
            }
        };
        weights.iter().enumerate().map(&mut piece).collect()
    }

    /// Adds another's.
    pub fn add(&mut self, other: &Self) {
        let add = |a: &mut u64, b: u64| *a = a.saturating_add(b);
        let maybe = |a: &mut Option<u64>, b: Option<u64>| {
            *a = a.map_or(b, |a| Some(a.saturating_add(b.unwrap_or(0))));
        };
        add(&mut self.operators, other.operators);
        add(&mut self.waits, other.waits);
        add(&mut self.between_nodes, other.between_nodes);
        add(&mut self.build, other.build);
        maybe(&mut self.copies, other.copies);
        maybe(&mut self.sampling, other.sampling);
        add(&mut self.between_calls, other.between_calls);
        maybe(&mut self.probes, other.probes);
        add(&mut self.unattributed, other.unattributed);
    }
}

/// One call of decode or encode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallParts {
    /// Entry to return.
    pub range: TimeRange,
    /// Id of its decode; `None` when the recording has no calls.
    pub decode: Option<u32>,
    /// What it does.
    pub phase: Phase,
    /// Tokens in its batch; `None` when the build does not tell.
    pub tokens: Option<u64>,
    /// Where its time went.
    pub parts: Parts,
    /// Nanoseconds of `parts.probes` that were taken from operators.
    pub probes_in_nodes: u64,
    /// What of it threads could run, but had no CPU; `None` when their states were not recorded.
    pub preempted: Option<Preempted>,
}

/// How much longer something took since threads could run, but had no CPU; nanoseconds, which
/// are in [`Parts`] as computing, waiting or whatever the threads were at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Preempted {
    /// Nodes: what was computed and waited.
    pub nodes: u64,
    /// Between nodes.
    pub gaps: u64,
    /// In the call, outside its graphs.
    pub build: u64,
}

impl Preempted {
    /// All of it.
    pub fn nanos(&self) -> u64 {
        self.nodes.saturating_add(self.gaps).saturating_add(self.build)
    }

    /// Adds another's.
    pub fn add(&mut self, other: &Self) {
        self.nodes = self.nodes.saturating_add(other.nodes);
        self.gaps = self.gaps.saturating_add(other.gaps);
        self.build = self.build.saturating_add(other.build);
    }
}

/// When each thread did something, in ranges that do not overlap, by begin.
struct Busy(HashMap<u32, Vec<TimeRange>>);

impl Busy {
    /// Sampling; `None` when it was not recorded.
    fn sampling(trace: &Trace) -> Option<Self> {
        let sources = &trace.file.recording.as_ref()?.sources;
        sources.iter().find(|source| source.name == "calls" && source.recorded)?;
        let calls = trace.inference.calls.iter().filter(|call| call.kind == CallKind::Sample as u8);
        Some(Self::new(calls.map(|call| (call.tid, call.begin, call.end))))
    }

    /// Copies between backends; `None` when they were not recorded.
    fn copying(trace: &Trace) -> Option<Self> {
        let recorded = !trace.file.recording.as_ref()?.backends.is_empty();
        let copies = trace.offload.copies.iter().map(|copy| (copy.tid, copy.begin, copy.end));
        recorded.then(|| Self::new(copies))
    }

    /// `ranges` come by begin.
    fn new(ranges: impl Iterator<Item = (u32, Nanos, Nanos)>) -> Self {
        let mut busy: HashMap<u32, Vec<TimeRange>> = HashMap::new();
        for (tid, begin, end) in ranges {
            let ranges = busy.entry(tid).or_default();
            let begin = ranges.last().map_or(begin, |last| last.end.max(begin));
            if begin < end {
                ranges.push(TimeRange::new(begin, end));
            }
        }
        Self(busy)
    }

    /// Nanoseconds of them within a range.
    fn inside(&self, tid: u32, range: TimeRange) -> u64 {
        let Some(ranges) = self.0.get(&tid) else { return 0 };
        let first = ranges.partition_point(|other| other.end <= range.begin);
        let rest = ranges.get(first..).unwrap_or_default();
        let inside = rest.iter().take_while(|other| other.begin < range.end);
        inside.map(|other| other.end.min(range.end).saturating_sub(other.begin.max(range.begin))).sum()
    }
}

/// The parts of all calls that did not fail.
pub(crate) fn calls(trace: &Trace, graphs: &HashMap<u32, InGraph>) -> Vec<CallParts> {
    let prices = price::of_hits(trace);
    let (sampling, copies) = (Busy::sampling(trace), Busy::copying(trace));
    let calls = all_calls(trace);
    let mut ended: HashMap<u32, Nanos> = HashMap::new();
    let mut all = Vec::with_capacity(calls.len());
    for (index, call) in calls.into_iter().enumerate() {
        let row = trace.decodes.get(index);
        let decode = row.map(|row| row.id);
        let mut preempted = Preempted::default();
        let before = ended.insert(call.tid, call.range.end);
        if call.failed {
            continue;
        }
        let between = before.map_or(0, |before| call.range.begin.saturating_sub(before));
        let first = trace.graph_spans.partition_point(|span| span.begin < call.range.begin);
        let inside = trace.graph_spans.get(first..).unwrap_or_default();
        let inside = inside.iter().take_while(|span| span.begin < call.range.end);
        // Another context's graph may run at the same time, on another thread.
        let inside = inside.filter(|span| call.tid == 0 || span.tid == 0 || span.tid == call.tid);
        let mut parts = Parts { between_calls: between, ..Parts::default() };
        let gap = TimeRange::new(call.range.begin - between.min(call.range.begin), call.range.begin);
        parts.sampling = sampling.as_ref().map(|sampling| sampling.inside(call.tid, gap));
        parts.between_calls = between.saturating_sub(parts.sampling.unwrap_or(0));
        parts.copies = copies.as_ref().map(|_| 0);
        // The call outside its graphs: copies, and everything else.
        let outside = |parts: &mut Parts, preempted: &mut Preempted, range: TimeRange| {
            let held = row.map_or(0, |row| trace.runnable(row.process, row.tid, range));
            preempted.build = preempted.build.saturating_add(held);
            let copied = copies.as_ref().map_or(0, |copies| copies.inside(call.tid, range));
            parts.copies = parts.copies.map(|all| all.saturating_add(copied));
            parts.build = parts.build.saturating_add(range.nanos().saturating_sub(copied));
        };
        let mut reached = call.range.begin;
        let mut hits = 0u64;
        for span in inside {
            let (begin, end) = (span.begin.max(reached), span.end.min(call.range.end));
            if end <= begin {
                continue;
            }
            outside(&mut parts, &mut preempted, TimeRange::new(reached, begin));
            hits = hits.saturating_add(span.probe_hits.into());
            let of_graph = graphs.get(&span.id);
            parts.add(&in_graph(of_graph, TimeRange::new(begin, end)));
            preempted.nodes = preempted.nodes.saturating_add(of_graph.map_or(0, |of| of.preempted_nodes));
            preempted.gaps = preempted.gaps.saturating_add(of_graph.map_or(0, |of| of.preempted_gaps));
            reached = end;
        }
        let rest = call.range.end.saturating_sub(reached);
        if reached > call.range.begin {
            outside(&mut parts, &mut preempted, TimeRange::new(reached, call.range.end));
        } else {
            // No graph was recorded: what the call did is not known.
            parts.unattributed = parts.unattributed.saturating_add(rest);
        }
        let operators = parts.operators;
        if let Some((in_graph, of_call)) = prices {
            take_probes(&mut parts, hits.saturating_mul(in_graph), of_call);
        }
        let probes_in_nodes = operators - parts.operators;
        let (range, phase, tokens) = (call.range, call.phase, call.tokens);
        let preempted = trace.machine.has_states.then_some(preempted);
        all.push(CallParts { range, decode, phase, tokens, parts, probes_in_nodes, preempted });
    }
    all
}

/// Splits a graph span; all of it.
fn in_graph(inside: Option<&InGraph>, range: TimeRange) -> Parts {
    let whole = range.nanos();
    let Some(inside) = inside else { return Parts { unattributed: whole, ..Parts::default() } };
    // Op spans may reach over the graph span's end by the time that a probe takes.
    let mut left = whole;
    let mut take = |wanted: u64| {
        let taken = wanted.min(left);
        left -= taken;
        taken
    };
    let edges = inside
        .first_begin
        .saturating_sub(range.begin)
        .saturating_add(range.end.saturating_sub(inside.last_end));
    let mut parts = Parts {
        operators: take(inside.operators),
        waits: take(inside.waits),
        between_nodes: take(inside.gaps.saturating_add(edges)),
        unattributed: take(inside.long_gaps),
        ..Parts::default()
    };
    parts.unattributed = parts.unattributed.saturating_add(left);
    parts
}

/// Takes the price of probes from where they were paid: those in graphs between nodes,
/// then at the beginning of nodes; those of calls in the call.
fn take_probes(parts: &mut Parts, in_graph: u64, of_call: u64) {
    let mut taken = 0u64;
    let mut take = |part: &mut u64, wanted: u64| {
        let part_taken = wanted.min(*part);
        *part -= part_taken;
        taken = taken.saturating_add(part_taken);
        wanted - part_taken
    };
    let rest = take(&mut parts.between_nodes, in_graph);
    take(&mut parts.operators, rest);
    take(&mut parts.build, of_call);
    parts.probes = Some(taken);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_graph_is_split_without_rest_even_when_spans_reach_over_its_end() {
        let range = TimeRange::new(100, 1100);
        let inside = InGraph {
            first_begin: 150,
            last_end: 1090,
            operators: 700,
            waits: 200,
            gaps: 30,
            long_gaps: 10,
            ..InGraph::default()
        };
        let parts = in_graph(Some(&inside), range);
        assert_eq!((parts.operators, parts.waits, parts.between_nodes), (700, 200, 90));
        assert_eq!((parts.unattributed, parts.wall()), (10, 1000));
        let over = InGraph { operators: 5000, ..inside };
        assert_eq!(in_graph(Some(&over), range).wall(), 1000);
        assert_eq!(in_graph(None, range).unattributed, 1000);
    }

    #[test]
    fn probes_are_taken_from_where_they_were_paid_and_the_sum_stays() {
        let before = Parts { operators: 1000, between_nodes: 50, build: 30, ..Parts::default() };
        let mut parts = before;
        take_probes(&mut parts, 120, 40);
        assert_eq!((parts.operators, parts.between_nodes, parts.build), (930, 0, 0));
        assert_eq!((parts.probes, parts.wall()), (Some(150), before.wall()));
    }

    #[test]
    fn ranges_count_once_and_only_inside() {
        let busy = Busy::new([(1, 10, 20), (1, 15, 30), (2, 0, 100), (1, 40, 50)].into_iter());
        let inside = |begin, end| busy.inside(1, TimeRange::new(begin, end));
        assert_eq!((inside(0, 100), inside(12, 45), inside(20, 20), inside(50, 60)), (30, 23, 0, 0));
        assert_eq!(busy.inside(3, TimeRange::new(0, 100)), 0);
    }
}
