//! Which experts of a mixture tokens were sent to, layer by layer.
//!
//! ```text
//! selections (layer, micro-batch) ─┐
//! experts (token, expert)  ────────┴─► counts, reads, pairs, distances ─► by layer
//!                                                                      └─► over time
//! ```
//!
//! One pass over the blocks, in the order of the file; memory is bounded by the
//! selections in the range (24 bytes each) and the layers.

mod place;
mod strip;

use crate::{Nanos, Phase, TimeRange, Trace};
use llmtrace_format::meta::Tensor;
use llmtrace_format::tables::{Experts as ExpertRows, Selection, SelectionStatus, Selections};
use llmtrace_format::{ColumnSet, constants};
use place::{Place, Spans, place_of, source};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
pub use strip::{Cell, Strip, StripLayer, strip, strip_rows};

/// More experts than any layer has; the rest of a hostile file is left out.
const MAX_EXPERTS: u32 = 1 << 16;
/// Experts of all layers, at most, for the same reason: 256 layers of 512.
const MAX_ALL_EXPERTS: u32 = 1 << 17;
/// Pairs are counted in layers of up to so many experts: half a megabyte each.
const MAX_PAIRED: u32 = 512;
/// What weights of experts are multiplied by.
const MUL_MAT_ID: &str = "MUL_MAT_ID";

/// Which selections to look at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Only those of this time.
    pub range: Option<TimeRange>,
    /// Only those of micro-batches of this phase.
    pub phase: Option<Phase>,
}

/// The experts of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Experts {
    /// Layers that have experts, in order.
    pub layers: Vec<Layer>,
    /// Selections of which all is in the file.
    pub whole: u64,
    /// Selections of which some is.
    pub partial: u64,
    /// Selections that found no room.
    pub lost: u64,
    /// Selections that could not be read.
    pub unknown: u64,
    /// Over time; equal lengths, those without tokens left out.
    pub over_time: Vec<Balance>,
}

/// How evenly tokens were spread in a part of the time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Balance {
    /// From when on, nanoseconds of trace time.
    pub begin_nanos: Nanos,
    /// Until when.
    pub end_nanos: Nanos,
    /// Tokens, counted in each layer.
    pub tokens: u64,
    /// Mean of the layers' coefficients of variation.
    pub variation: f64,
    /// Mean of the layers' [`Layer::top_share`].
    pub top_share: f64,
}

/// One layer's experts.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Layer {
    /// Its number; `None` when the names do not tell.
    pub layer: Option<u32>,
    /// Name of the first weights that the selection is used for.
    pub weights: String,
    /// Experts to choose from.
    pub experts: u32,
    /// Experts of each token.
    pub used: u32,
    /// Selections (micro-batches) with experts in the file.
    pub selections: u64,
    /// Tokens with experts in the file.
    pub tokens: u64,
    /// Tokens sent to each expert.
    pub counts: Vec<u64>,
    /// Selections in which each expert was used: its weights are read once in each.
    pub reads: Vec<u64>,
    /// Bytes of the weights of one expert.
    pub expert_bytes: u64,
    /// Nanoseconds of computing of the layer's `MUL_MAT_ID`, summed over threads and the whole
    /// run; `None` before the nodes are counted, or without operators.
    pub compute_nanos: Option<u64>,
    /// Standard deviation of `counts` over their mean; 0 is perfectly even.
    pub variation: f64,
    /// Share of tokens that the most used experts got, as many as a token has.
    pub top_share: f64,
    /// Selections from one use of an expert to the next: by distance 1, 2, 3 … up to
    /// [`DISTANCES`], the last one for all larger. 1 is the next micro-batch.
    pub distances: Vec<u64>,
    /// The pairs most often chosen together: both, and by how many tokens.
    pub pairs: Vec<(u32, u32, u64)>,
}

/// Distances that are told apart.
pub const DISTANCES: usize = 64;
/// Pairs of each layer.
pub const PAIRS: usize = 16;
/// Parts of the time.
pub const PARTS: u64 = 64;

impl Layer {
    /// Bytes of weights that were read of an expert.
    pub fn bytes(&self, expert: usize) -> u64 {
        self.reads.get(expert).copied().unwrap_or(0).saturating_mul(self.expert_bytes)
    }

    /// Share of the layer's tokens that an expert got, of `used` each: from 0 to 1.
    pub fn share(&self, expert: usize) -> f64 {
        self.counts.get(expert).map_or(0.0, |&count| count as f64 / self.tokens.max(1) as f64)
    }

    /// Computing time by share of tokens: an attribution, not a measurement.
    pub fn nanos(&self, expert: usize) -> Option<f64> {
        let all: u64 = self.counts.iter().sum();
        let count = *self.counts.get(expert)?;
        Some(self.compute_nanos? as f64 * count as f64 / all.max(1) as f64)
    }

    /// The distance that half of all reuses do not exceed; `None` without any.
    pub fn median_distance(&self) -> Option<usize> {
        let all: u64 = self.distances.iter().sum();
        let mut seen = 0;
        let mut counts = self.distances.iter().zip(1..);
        counts.find_map(|(count, distance)| {
            seen += count;
            (all > 0 && seen * 2 >= all).then_some(distance)
        })
    }

    /// Its name for people: the number, or else the weights.
    pub fn name(&self) -> String {
        self.layer.map_or_else(|| self.weights.clone(), |layer| layer.to_string())
    }
}

/// Finds the layer that a selection is of; `None` when the names do not tell.
pub(crate) fn layers_of(trace: &Trace) -> impl Fn(&Selection) -> Option<u32> {
    let spans = Spans::new(trace);
    move |row| place_of(trace, spans.of(row)?.graph, row.node)?.layer
}

/// Whether any selection was recorded, or should have been.
pub fn has_experts(trace: &Trace) -> bool {
    trace.file.blocks_of::<Selections>().next().is_some()
}

/// Sums up selections. Damaged blocks are left out; `going_on` returns `false` to
/// cancel, which gives nothing.
pub fn experts(trace: &Trace, query: &Query, going_on: &dyn Fn() -> bool) -> Option<Experts> {
    let mut sums = Sums::new(trace, query);
    for block in trace.file.blocks_of::<Selections>() {
        if !going_on() {
            return None;
        }
        if let Ok(table) = trace.file.read::<Selections>(block, ColumnSet::ALL) {
            table.rows().for_each(|row| sums.selection(&row));
        }
    }
    sums.begin_experts();
    let columns = ColumnSet::only::<ExpertRows>(&["selection", "token", "expert"]);
    let mut token: Vec<u32> = Vec::new();
    let mut of = None;
    for block in trace.file.blocks_of::<ExpertRows>() {
        if !going_on() {
            return None;
        }
        let Ok(table) = trace.file.read::<ExpertRows>(block, columns) else { continue };
        for ((&selection, &index), &expert) in table.selection.iter().zip(&table.token).zip(&table.expert) {
            if of != Some((selection, index)) {
                if let Some((selection, _)) = of.replace((selection, index)) {
                    sums.token(selection, &token);
                }
                token.clear();
            }
            token.push(expert);
        }
    }
    if let Some((selection, _)) = of {
        sums.token(selection, &token);
    }
    Some(sums.finish())
}

/// Selections that are whole, with how many distinct experts each has. Damaged blocks are left out.
pub(crate) fn distinct(trace: &Trace) -> Vec<(Selection, u64)> {
    let mut whole: HashMap<u32, (Selection, std::collections::BTreeSet<u32>)> = HashMap::new();
    for block in trace.file.blocks_of::<Selections>() {
        let Ok(table) = trace.file.read::<Selections>(block, ColumnSet::ALL) else { continue };
        let rows = table.rows().filter(|row| SelectionStatus::from_u8(row.status) == SelectionStatus::Whole);
        whole.extend(rows.map(|row| (row.id, (row, std::collections::BTreeSet::new()))));
    }
    let columns = ColumnSet::only::<ExpertRows>(&["selection", "expert"]);
    for block in trace.file.blocks_of::<ExpertRows>() {
        let Ok(table) = trace.file.read::<ExpertRows>(block, columns) else { continue };
        for (selection, &expert) in table.selection.iter().zip(&table.expert) {
            if let Some((_, experts)) = whole.get_mut(selection).filter(|_| expert < MAX_EXPERTS) {
                experts.insert(expert);
            }
        }
    }
    let with_any = whole.into_values().filter(|(_, experts)| !experts.is_empty());
    with_any.map(|(row, experts)| (row, experts.len() as u64)).collect()
}

/// A selection that is looked at.
#[derive(Clone, Copy)]
struct Of {
    layer: u32,
    time: Nanos,
    /// Its place among those of its layer.
    ordinal: u32,
}

/// Counts of one layer.
struct Counts {
    layer: Layer,
    /// The selection that each expert was last used in, and one more; 0 for none.
    last: Vec<u32>,
    /// Upper triangle of pairs, by the smaller expert.
    pairs: Vec<u32>,
    ordinals: u32,
    current: Option<u32>,
}

struct Sums<'a> {
    trace: &'a Trace,
    spans: Spans<'a>,
    query: Query,
    phases: HashMap<u32, u8>,
    selections: HashMap<u32, Of>,
    layers: Vec<Counts>,
    by_key: HashMap<(String, u32), u32>,
    /// Of each graph and node.
    of_node: HashMap<(u32, u32), Option<u32>>,
    range: TimeRange,
    /// Counts by part of the time and layer.
    parts: BTreeMap<(u64, u32), Vec<u32>>,
    result: Experts,
}

impl<'a> Sums<'a> {
    fn new(trace: &'a Trace, query: &Query) -> Self {
        let phases = match query.phase {
            Some(_) => trace.ubatches.iter().map(|row| (row.id, row.phase)).collect(),
            None => HashMap::new(),
        };
        let range = query.range.unwrap_or_else(|| trace.range());
        Self {
            trace,
            spans: Spans::new(trace),
            query: *query,
            phases,
            selections: HashMap::new(),
            layers: Vec::new(),
            by_key: HashMap::new(),
            of_node: HashMap::new(),
            range,
            parts: BTreeMap::new(),
            result: Experts::default(),
        }
    }

    fn selection(&mut self, row: &Selection) {
        let Some(span) = self.spans.of(row) else { return };
        let phase = || self.phases.get(&span.ubatch).copied().unwrap_or(0);
        if self.query.range.is_some_and(|range| !range.contains(row.time))
            || self.query.phase.is_some_and(|wanted| phase() != wanted as u8)
        {
            return;
        }
        match SelectionStatus::from_u8(row.status) {
            SelectionStatus::Whole => self.result.whole += 1,
            SelectionStatus::Partial => self.result.partial += 1,
            SelectionStatus::Lost => self.result.lost += 1,
            SelectionStatus::Unknown => self.result.unknown += 1,
        }
        let key = (span.graph, row.node);
        let known = self.of_node.get(&key).copied();
        let layer = known.unwrap_or_else(|| {
            let layer = self.layer(span.graph, row.node, row.used);
            self.of_node.insert(key, layer);
            layer
        });
        if let Some(layer) = layer {
            self.selections.insert(row.id, Of { layer, time: row.time, ordinal: 0 });
        }
    }

    /// The place of a node's layer, which is added when it is new.
    fn layer(&mut self, graph: u32, node: u32, used: u32) -> Option<u32> {
        let Place { graph, tensor, layer, name, experts } = place_of(self.trace, graph, node)?;
        let (file, name) = (&self.trace.file, name.to_owned());
        if let Some(&layer) = self.by_key.get(&(name.clone(), experts)) {
            return Some(layer);
        }
        let known = self.layers.iter().map(|counts| counts.layer.experts).sum::<u32>();
        if known.saturating_add(experts) > MAX_ALL_EXPERTS {
            return None;
        }
        let ids = tensor.sources.get(2);
        let nodes = graph.tensors.iter().take(graph.nodes as usize);
        let same = nodes.filter(|other| other.sources.get(2) == ids && file.string(other.op) == MUL_MAT_ID);
        let mut compute = Some(0u64);
        let mut expert_bytes = 0u64;
        for other in same {
            expert_bytes =
                expert_bytes.saturating_add(source(graph, other, 0).map_or(0, |weights| weights.nb[2]));
            compute = compute.and_then(|sum| Some(sum.saturating_add(self.compute(other)?)));
        }
        let all = experts as usize;
        let pairs = if experts <= MAX_PAIRED { all * all } else { 0 };
        self.layers.push(Counts {
            layer: Layer {
                layer,
                weights: name.clone(),
                experts,
                used,
                counts: vec![0; all],
                reads: vec![0; all],
                expert_bytes,
                compute_nanos: compute,
                distances: vec![0; DISTANCES],
                ..Layer::default()
            },
            last: vec![0; all],
            pairs: vec![0; pairs],
            ordinals: 0,
            current: None,
        });
        let place = self.layers.len() as u32 - 1;
        self.by_key.insert((name, experts), place);
        Some(place)
    }

    /// Computing of all executions of nodes with this name.
    fn compute(&self, tensor: &Tensor) -> Option<u64> {
        let name = self.trace.file.string(tensor.name);
        let nodes = self.trace.nodes()?.iter();
        let of_it = nodes
            .filter(|node| node.key.as_ref().is_some_and(|key| key.name == name && key.op == MUL_MAT_ID));
        // None where operators were not recorded, or a device computed it.
        of_it.map(|node| node.compute).reduce(u64::saturating_add)
    }

    /// Numbers the selections of each layer, by time.
    fn begin_experts(&mut self) {
        let mut order: Vec<(Nanos, u32)> = self.selections.iter().map(|(&id, of)| (of.time, id)).collect();
        order.sort_unstable();
        for (_, id) in order {
            if let Some(of) = self.selections.get_mut(&id)
                && let Some(counts) = self.layers.get_mut(of.layer as usize)
            {
                counts.ordinals += 1;
                of.ordinal = counts.ordinals;
            }
        }
    }

    /// Takes the experts of one token.
    fn token(&mut self, selection: u32, experts: &[u32]) {
        let Some(&of) = self.selections.get(&selection) else { return };
        let Some(counts) = self.layers.get_mut(of.layer as usize) else { return };
        let layer = &mut counts.layer;
        // Nothing of a hostile file may be counted elsewhere.
        if experts.iter().any(|&expert| expert >= layer.experts) {
            return;
        }
        if counts.current.replace(selection) != Some(selection) {
            layer.selections += 1;
        }
        layer.tokens += 1;
        let length = self.range.nanos().div_ceil(PARTS).max(1);
        let part = of.time.saturating_sub(self.range.begin) / length;
        let in_part = self.parts.entry((part, of.layer)).or_insert_with(|| vec![0; layer.experts as usize]);
        for (rank, &expert) in experts.iter().enumerate() {
            let at = expert as usize;
            if let Some(count) = layer.counts.get_mut(at) {
                *count += 1;
            }
            if let Some(count) = in_part.get_mut(at) {
                *count += 1;
            }
            if let (Some(last), Some(reads)) = (counts.last.get_mut(at), layer.reads.get_mut(at))
                && *last != of.ordinal
            {
                *reads += 1;
                if *last != 0 {
                    let distance = (of.ordinal.saturating_sub(*last) as usize).clamp(1, DISTANCES);
                    if let Some(count) = layer.distances.get_mut(distance - 1) {
                        *count += 1;
                    }
                }
                *last = of.ordinal;
            }
            for &other in experts.iter().skip(rank + 1).filter(|&&other| other != expert) {
                let (low, high) = (expert.min(other) as usize, expert.max(other) as usize);
                if let Some(pair) = counts.pairs.get_mut(low * layer.experts as usize + high) {
                    *pair = pair.saturating_add(1);
                }
            }
        }
    }

    fn finish(mut self) -> Experts {
        let length = self.range.nanos().div_ceil(PARTS).max(1);
        let mut parts: BTreeMap<u64, (Balance, u32)> = BTreeMap::new();
        for ((part, layer), counts) in &self.parts {
            let used = self.layers.get(*layer as usize).map_or(1, |counts| counts.layer.used).max(1);
            let counts: Vec<u64> = counts.iter().map(|&count| count.into()).collect();
            let (balance, layers) = parts.entry(*part).or_default();
            let begin = self.range.begin.saturating_add(part.saturating_mul(length));
            (balance.begin_nanos, balance.end_nanos) = (begin, begin.saturating_add(length));
            balance.tokens += counts.iter().sum::<u64>() / u64::from(used);
            balance.variation += variation(&counts);
            balance.top_share += top_share(&counts, used);
            *layers += 1;
        }
        let mean = |(balance, layers): (Balance, u32)| Balance {
            variation: balance.variation / f64::from(layers.max(1)),
            top_share: balance.top_share / f64::from(layers.max(1)),
            ..balance
        };
        self.result.over_time = parts.into_values().map(mean).collect();
        for counts in self.layers {
            let mut layer = counts.layer;
            layer.variation = variation(&layer.counts);
            layer.top_share = top_share(&layer.counts, layer.used);
            let all = layer.experts.max(1);
            let pairs = counts.pairs.iter().zip(0u32..).filter(|(count, _)| **count > 0);
            let mut pairs: Vec<(u32, u32, u64)> =
                pairs.map(|(&count, at)| (at / all, at % all, count.into())).collect();
            pairs.sort_by_key(|&(low, high, count)| (std::cmp::Reverse(count), low, high));
            pairs.truncate(PAIRS);
            layer.pairs = pairs;
            self.result.layers.push(layer);
        }
        self.result.layers.sort_by(|a, b| {
            let number = |layer: &Layer| layer.layer.unwrap_or(constants::NONE);
            (number(a), &a.weights).cmp(&(number(b), &b.weights))
        });
        self.result
    }
}

/// Standard deviation over mean; 0 without counts.
fn variation(counts: &[u64]) -> f64 {
    let n = counts.len().max(1) as f64;
    let mean = counts.iter().sum::<u64>() as f64 / n;
    if mean == 0.0 {
        return 0.0;
    }
    let square = |count: &u64| (*count as f64 - mean).powi(2);
    (counts.iter().map(square).sum::<f64>() / n).sqrt() / mean
}

/// Share of the `k` largest.
fn top_share(counts: &[u64], k: u32) -> f64 {
    let mut sorted = counts.to_vec();
    sorted.sort_unstable_by(|a, b| b.cmp(a));
    let all: u64 = sorted.iter().sum();
    sorted.iter().take(k as usize).sum::<u64>() as f64 / all.max(1) as f64
}

/// The experts of one token in one layer, for who shows what was chosen there.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Chosen {
    /// The layer's number; `None` when the names do not tell.
    pub layer: Option<u32>,
    /// When it was read.
    pub time: Nanos,
    /// [`llmtrace_format::tables::GraphSpan::id`].
    pub graph_span: u32,
    /// The token's place in the micro-batch.
    pub token: u32,
    /// Tokens of the micro-batch in this layer.
    pub tokens: u32,
    /// Experts to choose from.
    pub experts: u32,
    /// Those chosen, by rank.
    pub chosen: Vec<u32>,
    /// Their weights as gathered; empty when they were not recorded.
    pub weights: Vec<f32>,
}

/// What was chosen within `range`, at most `limit` tokens and layers, by time. Only the
/// blocks that touch the range are decoded.
pub fn chosen(trace: &Trace, range: TimeRange, limit: usize) -> Vec<Chosen> {
    let mut found: Vec<Chosen> = Vec::new();
    let mut selections: HashMap<u32, (Selection, Option<u32>, u32)> = HashMap::new();
    for block in trace.file.blocks_of::<Selections>().filter(|block| overlaps(block.range, range)) {
        let Ok(table) = trace.file.read::<Selections>(block, ColumnSet::ALL) else { continue };
        for row in table.rows().filter(|row| range.contains(row.time)) {
            let place =
                trace.graph_span(row.graph_span).and_then(|span| place_of(trace, span.graph, row.node));
            let (layer, experts) = place.map_or((None, 0), |place| (place.layer, place.experts));
            selections.insert(row.id, (row, layer, experts));
        }
    }
    for block in trace.file.blocks_of::<ExpertRows>().filter(|block| overlaps(block.range, range)) {
        let Ok(table) = trace.file.read::<ExpertRows>(block, ColumnSet::ALL) else { continue };
        let mut of = None;
        for row in table.rows() {
            let Some(&(of_it, layer, experts)) = selections.get(&row.selection) else { continue };
            if of.replace((row.selection, row.token)) != Some((row.selection, row.token)) {
                if found.len() >= limit {
                    break;
                }
                found.push(Chosen {
                    layer,
                    time: of_it.time,
                    graph_span: of_it.graph_span,
                    token: row.token,
                    tokens: of_it.tokens,
                    experts,
                    chosen: Vec::new(),
                    weights: Vec::new(),
                });
            }
            if let Some(last) = found.last_mut() {
                last.chosen.push(row.expert);
                if row.weight != constants::NONE {
                    last.weights.push(f32::from_bits(row.weight));
                }
            }
        }
    }
    found.sort_by_key(|chosen| (chosen.time, chosen.layer, chosen.token));
    found
}

/// Ranges of blocks end with their last row, and may be of one moment.
fn overlaps(block: TimeRange, range: TimeRange) -> bool {
    block.begin < range.end && block.end >= range.begin
}
