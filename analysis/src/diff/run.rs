//! What a comparison needs of one run: the time of each call, and of a sample of calls
//! the time of each node.
//!
//! ```text
//! calls of the phase  ├──┼──┼──┼──┼──┼──┼──┼──┼──┼──┼──┤    all of them are timed
//! windows             ├──┼──┤        ├──┼──┤        ├──┤    nodes are read here
//! ```

use crate::executions::{LaneSpan, NodeKey, blocks_of, each_run, join_with};
use crate::machine::Held;
use crate::node::{self, role};
use crate::rollup::{self, Location, Module};
use crate::summary;
use crate::trace::LoadProgress;
use crate::work::{Known, work};
use crate::{Phase, TimeRange, Trace};
use llmtrace_format::Result;
use llmtrace_format::constants::NONE;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

/// Calls whose nodes are read, at most.
const SAMPLED_CALLS: usize = 640;
/// Op spans that are read for them, about.
const SAMPLED_SPANS: usize = 3_000_000;
/// Pieces of a run in which calls are sampled.
pub(super) const WINDOWS: usize = 20;

/// What makes nodes of different graphs and runs the same node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct NodeId {
    /// Layer and module.
    #[serde(flatten)]
    pub location: Location,
    /// Operator with those fused into it.
    pub op: String,
    /// Its name. Of those that nobody named the number among its like in the layer:
    /// `unnamed 2`; the engine's own numbers shift with every change of the graph.
    pub name: String,
}

impl NodeId {
    /// The name without its layer.
    pub fn role(&self) -> String {
        if self.name.starts_with(UNNAMED) {
            return UNNAMED.to_owned();
        }
        let found = role(&self.name);
        match self.location.layer {
            Some(layer) => found.strip_suffix(&format!("_l{layer}")).unwrap_or(found).to_owned(),
            None => found.to_owned(),
        }
    }
}

const UNNAMED: &str = "unnamed";

/// What is compared of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Time of a call for each token in its batch.
    Token,
    /// Time of a call: a build does not tell how many tokens are in it.
    Call,
    /// Time of a graph: the recording has no calls.
    GraphRun,
}

impl Unit {
    /// Its name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Call => "call",
            Self::GraphRun => "graph run",
        }
    }
}

/// The calls of one phase, by begin.
#[derive(Clone, Debug)]
pub(super) struct Calls {
    pub(super) unit: Unit,
    pub(super) calls: Vec<OneCall>,
    /// Calls of other contexts or processes, which are left out.
    pub(super) left_out: usize,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct OneCall {
    pub(super) range: TimeRange,
    /// 0 when unknown.
    pub(super) tid: u32,
    /// Index into the recording's processes.
    pub(super) process: u32,
    /// Tokens; 1 when unknown.
    pub(super) tokens: f64,
}

impl OneCall {
    /// Nanoseconds for each unit.
    pub(super) fn nanos(&self) -> f64 {
        self.range.nanos() as f64 / self.tokens
    }
}

impl Calls {
    /// The calls of a phase that did not fail, of the context that took most time: a
    /// draft model's are not the target's.
    pub(super) fn of(trace: &Trace, phase: Phase) -> Self {
        let known = summary::calls(trace);
        if known.is_empty() && phase == Phase::Unknown {
            let call = |span: &llmtrace_format::tables::GraphSpan| OneCall {
                range: TimeRange::new(span.begin, span.end),
                tid: span.tid,
                process: 0,
                tokens: 1.0,
            };
            let calls = trace.graph_spans.iter().map(call).collect();
            return Self { unit: Unit::GraphRun, calls, left_out: 0 };
        }
        let whose = |index: usize| trace.decodes.get(index).map_or((0, 0), |row| (row.process, row.context));
        let wanted: Vec<_> = known
            .iter()
            .enumerate()
            .filter(|(_, call)| call.phase == phase && !call.failed && call.range.nanos() > 0)
            .map(|(index, call)| (whose(index), call))
            .collect();
        let mut by: BTreeMap<(u32, u32), u64> = BTreeMap::new();
        for (whose, call) in &wanted {
            let sum = by.entry(*whose).or_default();
            *sum = sum.saturating_add(call.range.nanos());
        }
        let main = by.iter().max_by_key(|(_, nanos)| **nanos).map(|(whose, _)| *whose);
        let all = wanted.len();
        let mine: Vec<_> = wanted.into_iter().filter(|(whose, _)| Some(*whose) == main).collect();
        let unit = if mine.iter().all(|(_, call)| call.tokens.is_some()) { Unit::Token } else { Unit::Call };
        let one = |(whose, call): &((u32, u32), &summary::Call)| OneCall {
            range: call.range,
            tid: call.tid,
            process: whose.0,
            tokens: call.tokens.filter(|_| unit == Unit::Token).map_or(1.0, |tokens| tokens as f64),
        };
        Self { unit, calls: mine.iter().map(one).collect(), left_out: all - mine.len() }
    }

    /// As if no call had said how many tokens it has.
    pub(super) fn by_call(mut self) -> Self {
        self.unit = Unit::Call;
        self.calls.iter_mut().for_each(|call| call.tokens = 1.0);
        self
    }
}

/// One node in one run.
#[derive(Clone, Debug, Default)]
pub(super) struct NodeTimes {
    /// Wall nanoseconds for each unit, by sampled call.
    pub(super) nanos: Vec<f32>,
    /// Types and shapes that it had.
    pub(super) shapes: BTreeSet<String>,
    /// Lengths of the rows of its first operand and its result: what neither the type, nor
    /// the batch, nor the context changes.
    pub(super) rows: BTreeSet<(i64, i64)>,
    /// Type of its first operand, such as that of a weight.
    pub(super) weight_type: String,
    /// Bytes to read and write, by shapes; of the last execution that was seen.
    pub(super) bytes: Option<u64>,
}

/// A run, as far as it is compared.
#[derive(Clone, Debug, Default)]
pub(super) struct Run {
    /// Nanoseconds for each unit, of all calls.
    pub(super) totals: Vec<f32>,
    /// Calls whose nodes were read, as many as the vectors below have values.
    pub(super) sampled: usize,
    /// These calls: their place among all, and when.
    pub(super) sampled_calls: Vec<(usize, TimeRange)>,
    pub(super) nodes: HashMap<NodeId, NodeTimes>,
    /// Nanoseconds in graphs, but in no node.
    pub(super) between: Vec<f32>,
    /// Nanoseconds in the call, but in no graph.
    pub(super) outside: Vec<f32>,
    /// Nanoseconds in which threads could run, but had no CPU, which are in none of these but the
    /// totals; by sampled call. `None` when that is not told apart.
    pub(super) preempted: Option<Vec<f32>>,
    /// Waiting at barriers as part of the threads' time in nodes; by sampled call.
    pub(super) wait_shares: Vec<f32>,
    /// Sampled calls that are left out, since events of their time were lost.
    pub(super) lossy: usize,
    /// Threads that computed, at most.
    pub(super) threads: u32,
}

/// An execution as it is found: sampled call, graph, node, fused, wall, wait, compute, and what of the
/// wall its threads had no CPU.
type Found = (u32, (u32, u32, u32), u64, u64, u64, u64);

/// What is known of a sampled call besides its nodes; nanoseconds.
#[derive(Clone, Copy, Default)]
struct Around {
    in_graphs: u64,
    /// In the call, but in no graph: while its thread had no CPU.
    preempted: u64,
    lost: bool,
}

impl Run {
    /// Reads the first `count` calls; with `held` what they take while threads have a CPU, and the rest
    /// apart.
    pub(super) fn read(
        trace: &Trace,
        calls: &Calls,
        count: usize,
        held: Option<&Held>,
        progress: LoadProgress<'_>,
    ) -> Result<Self> {
        let all = calls.calls.get(..count).unwrap_or(&calls.calls);
        let totals: Vec<f32> = all.iter().map(|call| call.nanos() as f32).collect();
        let spans_a_call = trace.op_span_count() as usize / calls.calls.len().max(1);
        let most = (SAMPLED_SPANS / spans_a_call.max(1)).clamp(2 * WINDOWS, SAMPLED_CALLS);
        let chosen: Vec<usize> = windows(all.len(), most, WINDOWS).into_iter().flatten().collect();
        let mut run = Self { totals, ..Self::default() };

        // Graphs of each chosen call.
        let place_of: HashMap<usize, u32> = chosen.iter().copied().zip(0u32..).collect();
        let mut graph_spans: HashMap<u32, (u32, u32)> = HashMap::new();
        let without_cpu = |call: &OneCall, range: TimeRange| {
            held.map_or(0, |_| trace.runnable(call.process, call.tid, range))
        };
        let around = |&at: &usize| {
            let preempted = all.get(at).map_or(0, |call| without_cpu(call, call.range));
            Around { preempted, ..Around::default() }
        };
        let mut around: Vec<Around> = chosen.iter().map(around).collect();
        let mut ranges: Vec<TimeRange> = Vec::new();
        for span in &trace.graph_spans {
            let after = all.partition_point(|call| call.range.begin <= span.begin);
            let Some(call) = after.checked_sub(1).and_then(|at| all.get(at)) else { continue };
            let other_thread = call.tid != 0 && span.tid != 0 && call.tid != span.tid;
            if !call.range.contains(span.begin) || other_thread {
                continue;
            }
            run.threads = run.threads.max(span.threads);
            let Some(&place) = place_of.get(&(after - 1)) else { continue };
            graph_spans.insert(span.id, (place, span.graph));
            if let Some(of) = around.get_mut(place as usize) {
                of.in_graphs = of.in_graphs.saturating_add(span.end.saturating_sub(span.begin));
                let inside = without_cpu(call, TimeRange::new(span.begin, span.end));
                of.preempted = of.preempted.saturating_sub(inside);
                of.lost |= span.touched_by_loss != 0;
            }
            let range = TimeRange::new(span.begin, span.end.saturating_add(1));
            match ranges.last_mut() {
                Some(last) if span.begin.saturating_sub(last.end) < 2_000_000 => {
                    last.end = range.end.max(last.end)
                }
                _ => ranges.push(range),
            }
        }

        let mut blocks: Vec<_> =
            ranges.iter().flat_map(|range| blocks_of(trace, None, Some(*range))).collect();
        let mut seen = std::collections::HashSet::new();
        blocks.retain(|block| seen.insert(*block));
        let each = |found: &mut Vec<Found>, id: u32, spans: &mut Vec<LaneSpan>| {
            let Some(&(place, graph)) = graph_spans.get(&id) else { return };
            join_with(spans, |execution, spans| {
                let node = (graph, execution.node, execution.fused);
                let lost = held.map_or(0, |held| held.lost(spans).wall.min(execution.wall()));
                found.push((place, node, execution.wall(), execution.wait, execution.compute, lost));
            });
        };
        let wanted = |id: u32, _: u32| graph_spans.contains_key(&id);
        let found = each_run(trace, &blocks, progress, wanted, Vec::new, each)?;
        run.preempted = held.map(|_| Vec::new());
        run.collect(trace, all, &chosen, found.into_iter().flatten(), &around);
        Ok(run)
    }

    fn collect(
        &mut self,
        trace: &Trace,
        all: &[OneCall],
        chosen: &[usize],
        found: impl Iterator<Item = Found>,
        around: &[Around],
    ) {
        let mut names = Names::default();
        let (mut in_nodes, mut waits) = (vec![0u64; chosen.len()], vec![(0u64, 0u64); chosen.len()]);
        let mut preempted: Vec<u64> = around.iter().map(|of| of.preempted).collect();
        let mut sums: Vec<Vec<u64>> = Vec::new();
        for (place, node, wall, wait, compute, lost) in found {
            let at = place as usize;
            if let Some(sum) = preempted.get_mut(at) {
                *sum = sum.saturating_add(lost);
            }
            if let (Some(sum), Some(waits)) = (in_nodes.get_mut(at), waits.get_mut(at)) {
                *sum = sum.saturating_add(wall);
                *waits = (waits.0.saturating_add(wait), waits.1.saturating_add(compute));
            }
            let name = names.of(trace, node);
            if sums.len() <= name {
                sums.resize_with(name + 1, || vec![0; chosen.len()]);
            }
            if let Some(sum) = sums.get_mut(name).and_then(|times| times.get_mut(at)) {
                *sum = sum.saturating_add(wall - lost);
            }
        }
        self.lossy = around.iter().filter(|of| of.lost).count();
        let lost = |at: usize| around.get(at).is_some_and(|of| of.lost);
        // Calls without operators were not recorded at that level, and say nothing of them.
        let kept: Vec<(usize, f64)> = (0..chosen.len())
            .filter(|&at| in_nodes.get(at).is_some_and(|&sum| sum > 0) && !lost(at))
            .filter_map(|at| Some((at, all.get(*chosen.get(at)?)?.tokens)))
            .collect();
        self.sampled = kept.len();
        let call = |&(at, _): &(usize, f64)| chosen.get(at).and_then(|&at| Some((at, all.get(at)?.range)));
        self.sampled_calls = kept.iter().filter_map(call).collect();
        let get = |values: &[u64], at: usize| values.get(at).copied().unwrap_or(0) as f64;
        for &(at, tokens) in &kept {
            let whole =
                chosen.get(at).and_then(|&call| all.get(call)).map_or(0.0, |call| call.range.nanos() as f64);
            let of = around.get(at).copied().unwrap_or_default();
            let in_graphs = of.in_graphs as f64;
            self.between.push(((in_graphs - get(&in_nodes, at)) / tokens) as f32);
            self.outside.push(((whole - in_graphs - of.preempted as f64) / tokens) as f32);
            if let Some(all) = &mut self.preempted {
                all.push((get(&preempted, at) / tokens) as f32);
            }
            let (wait, compute) = waits.get(at).copied().unwrap_or_default();
            self.wait_shares.push((wait as f64 / (wait as f64 + compute as f64).max(1.0)) as f32);
        }
        for (index, (id, facts)) in names.known.into_iter().enumerate() {
            let sums = sums.get(index).map_or(&[][..], Vec::as_slice);
            let nanos = kept.iter().map(|&(at, tokens)| (get(sums, at) / tokens) as f32).collect();
            self.nodes.insert(id, NodeTimes { nanos, ..facts });
        }
    }
}

/// Names of nodes, found out once for each graph.
#[derive(Default)]
pub(super) struct Names {
    by_node: HashMap<(u32, u32, u32), usize>,
    by_id: HashMap<NodeId, usize>,
    pub(super) known: Vec<(NodeId, NodeTimes)>,
    graphs: HashMap<u32, (Vec<Location>, HashMap<u32, u32>)>,
}

impl Names {
    pub(super) fn of(&mut self, trace: &Trace, at: (u32, u32, u32)) -> usize {
        if let Some(&known) = self.by_node.get(&at) {
            return known;
        }
        let (id, facts) = self.describe(trace, at);
        let index = *self.by_id.entry(id.clone()).or_insert(self.known.len());
        match self.known.get_mut(index) {
            Some((_, known)) => {
                known.shapes.extend(facts.shapes);
                known.rows.extend(facts.rows);
                known.bytes = facts.bytes.or(known.bytes);
            }
            None => self.known.push((id, facts)),
        }
        self.by_node.insert(at, index);
        index
    }

    fn describe(&mut self, trace: &Trace, (graph, node, fused): (u32, u32, u32)) -> (NodeId, NodeTimes) {
        let described = (graph != NONE).then(|| trace.graph(graph)).flatten();
        let Some((of, tensor)) = described.and_then(|of| Some((of, of.tensors.get(node as usize)?))) else {
            let id = NodeId { op: "unknown".into(), name: "unknown".into(), ..NodeId::default() };
            return (id, NodeTimes::default());
        };
        let (locations, numbers) = self.graphs.entry(graph).or_insert_with(|| {
            let locations = rollup::locations(&trace.file, of);
            let numbers = numbers(trace, of, &locations);
            (locations, numbers)
        });
        let NodeKey { mut name, op } = NodeKey::in_graph(trace, of, node, fused);
        let last = node.saturating_add(fused);
        if let Some(number) = numbers.get(&last).or_else(|| numbers.get(&node)) {
            name = format!("{UNNAMED} {number}");
        }
        let weight = tensor.sources.first().and_then(|&source| of.tensors.get(source as usize));
        let facts = NodeTimes {
            shapes: BTreeSet::from([rollup::signature(&trace.file, of, node, fused)]),
            rows: BTreeSet::from([(weight.map_or(0, |weight| weight.ne[0]), tensor.ne[0])]),
            weight_type: weight.map_or("", |weight| node::type_name(&trace.file, weight)).to_owned(),
            bytes: work(&trace.file, of, node, fused, Known::default()).and_then(|work| work.bytes()),
            ..NodeTimes::default()
        };
        (NodeId { location: rollup::location_of(locations, node, fused), op, name }, facts)
    }
}

/// The number of each node that nobody named, among those of its operator in its layer
/// and module; from 1.
fn numbers(trace: &Trace, graph: &llmtrace_format::meta::Graph, at: &[Location]) -> HashMap<u32, u32> {
    let mut counts: HashMap<(Option<u32>, Module, &str), u32> = HashMap::new();
    let mut numbers = HashMap::new();
    for ((index, tensor), location) in (0u32..).zip(&graph.tensors).zip(at) {
        if rollup::is_automatic(trace.file.string(tensor.name)) {
            let key = (location.layer, location.module, node::op_name(&trace.file, tensor));
            let count = counts.entry(key).or_default();
            *count += 1;
            numbers.insert(index, *count);
        }
    }
    numbers
}

/// `count` things, or `most` of them, in `parts` windows that are spread evenly.
pub(super) fn windows(count: usize, most: usize, parts: usize) -> Vec<Range<usize>> {
    let parts = parts.min(count);
    let length = (count.min(most) / parts.max(1)).max(1);
    (0..parts)
        .map(|part| {
            let (begin, end) = (part * count / parts, (part + 1) * count / parts);
            if count <= most { begin..end } else { begin..(begin + length).min(end) }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_spread_evenly_and_hold_all_of_a_few() {
        assert!(windows(0, 640, 20).is_empty());
        assert_eq!(windows(3, 640, 20), [0..1, 1..2, 2..3]);
        let all: Vec<usize> = windows(130, 640, 20).into_iter().flatten().collect();
        assert_eq!(all, (0..130).collect::<Vec<_>>());
        let some = windows(100_000, 640, 20);
        assert_eq!((some.len(), some[0].clone(), some[19].clone()), (20, 0..32, 95_000..95_032));
    }

    #[test]
    fn roles_drop_the_layer_wherever_it_stands() {
        let id = |name: &str, layer| NodeId {
            name: name.to_owned(),
            location: Location { layer, module: Module::Attention },
            ..NodeId::default()
        };
        assert_eq!(id("cache_k_l3 (view)", Some(3)).role(), "cache_k");
        assert_eq!(id("ffn_up-7", Some(7)).role(), "ffn_up");
        assert_eq!(id("unnamed 4", Some(7)).role(), "unnamed");
    }
}
