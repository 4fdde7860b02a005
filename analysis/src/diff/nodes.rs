//! Nodes of two sides, and what each of them, or several together, add to the change.

use super::bootstrap::{self, Draws, Estimate, FEWEST, NODE_ROUNDS, with_interval};
use super::run::{NodeId, NodeTimes, Run};
use super::{Change, Contribution, Grain, TypeChange};
use std::collections::{BTreeMap, BTreeSet};

/// One node on both sides.
pub(super) struct Node {
    id: NodeId,
    /// Medians in nanoseconds; `None` on a side without it.
    sides: [Option<f64>; 2],
    pub(super) nanos: i64,
    resampled: Vec<f64>,
    /// Whether both sides have it, with rows of the same length.
    alike: bool,
    became: Option<String>,
    /// Types of its first operand, where they differ.
    types: Option<(String, String)>,
    /// Bytes to read and write in an execution.
    bytes: [Option<u64>; 2],
}

/// All nodes of both sides.
pub(super) struct Nodes<'a> {
    pub(super) all: Vec<Node>,
    /// Of what is between nodes and outside graphs.
    resampled: Vec<f64>,
    pub(super) between: Estimate,
    pub(super) outside: Estimate,
    draws: &'a [Draws; 2],
    enough: bool,
}

impl<'a> Nodes<'a> {
    pub(super) fn new(runs: &[Vec<Run>; 2], draws: &'a [Draws; 2]) -> Self {
        let none = Estimate { value: 0.0, half: None };
        // Without operators on both sides there is nothing to take apart.
        if runs.iter().flatten().any(|run| run.sampled == 0) {
            return Self {
                all: Vec::new(),
                resampled: Vec::new(),
                between: none,
                outside: none,
                draws,
                enough: false,
            };
        }
        let ids: BTreeSet<&NodeId> = runs.iter().flatten().flat_map(|run| run.nodes.keys()).collect();
        let ids: Vec<&NodeId> = ids.into_iter().collect();
        let zeros: Vec<f32> = vec![0.0; runs.iter().flatten().map(|run| run.sampled).max().unwrap_or(0)];
        let times = |side: &'_ Vec<Run>, id: &NodeId| -> Vec<Vec<f32>> {
            let of = |run: &Run| match run.nodes.get(id) {
                Some(node) => node.nanos.clone(),
                None => zeros.get(..run.sampled).unwrap_or_default().to_vec(),
            };
            side.iter().map(of).collect()
        };
        let [in_a, in_b] = runs;
        let mut values: Vec<[Vec<Vec<f32>>; 2]> =
            ids.iter().map(|id| [times(in_a, id), times(in_b, id)]).collect();
        let part = |side: &[Run], of: fn(&Run) -> &Vec<f32>| side.iter().map(|run| of(run).clone()).collect();
        values.push([part(in_a, |run| &run.between), part(in_b, |run| &run.between)]);
        values.push([part(in_a, |run| &run.outside), part(in_b, |run| &run.outside)]);
        let views: Vec<[Vec<&[f32]>; 2]> = values
            .iter()
            .map(|sides| sides.each_ref().map(|side| side.iter().map(Vec::as_slice).collect()))
            .collect();
        let [of_a, of_b] = draws;
        let mut found = bootstrap::differences(&views, [of_a, of_b]);
        let mut others = vec![0.0; NODE_ROUNDS];
        let mut last = || {
            found.pop().map_or(none, |(a, b, all)| {
                others.iter_mut().zip(&all).for_each(|(sum, more)| *sum += more);
                with_interval(b - a, &all, [of_a, of_b])
            })
        };
        let (outside, between) = (last(), last());
        let enough = runs.iter().all(|side| side.iter().map(|run| run.sampled).sum::<usize>() >= FEWEST);
        let all = ids.into_iter().zip(found).map(|(id, (a, b, resampled))| {
            let [in_a, in_b] = runs.each_ref().map(|side| side.iter().find_map(|run| run.nodes.get(id)));
            Node {
                id: id.clone(),
                sides: [in_a.map(|_| a), in_b.map(|_| b)],
                nanos: (b - a).round() as i64,
                resampled,
                alike: in_a.zip(in_b).is_some_and(|(a, b)| !a.rows.is_disjoint(&b.rows)),
                became: in_a.zip(in_b).and_then(|(a, b)| became(a, b)),
                types: in_a.zip(in_b).and_then(|(a, b)| {
                    let both = (a.weight_type.clone(), b.weight_type.clone());
                    (both.0 != both.1).then_some(both)
                }),
                bytes: [in_a.and_then(|a| a.bytes), in_b.and_then(|b| b.bytes)],
            }
        });
        Self { all: all.collect(), resampled: others, between, outside, draws, enough }
    }

    /// All that was recorded of the program's own work; percent of side A. Each side with its
    /// median in nanoseconds and number of runs.
    pub(super) fn undisturbed(&self, sides: [(f64, usize); 2]) -> Option<Change> {
        if self.all.is_empty() {
            return None;
        }
        let nanos: i64 = self.all.iter().map(|node| node.nanos).sum();
        let nanos = nanos as f64 + self.between.value.round() + self.outside.value.round();
        let sum = |(round, others): (usize, &f64)| {
            others + self.all.iter().filter_map(|node| node.resampled.get(round)).sum::<f64>()
        };
        let resampled: Vec<f64> =
            if self.enough { self.resampled.iter().enumerate().map(sum).collect() } else { Vec::new() };
        let [a, b] = self.draws;
        let found = with_interval(nanos, &resampled, [a, b]).across_runs(sides);
        let [(whole, _), _] = sides;
        Some(Change::of(found, whole))
    }

    /// Part of the nodes' time in nodes that both sides have, with rows of the same length.
    pub(super) fn matched_share(&self) -> Option<f64> {
        let time = |node: &Node| node.sides.iter().flatten().sum::<f64>();
        let all: f64 = self.all.iter().map(time).sum();
        let both = self.all.iter().filter(|node| node.alike);
        (all > 0.0).then(|| both.map(time).sum::<f64>() / all)
    }

    /// Nodes whose first operand, such as a weight, has another type, by types; the most bytes first.
    pub(super) fn type_changes(&self) -> Vec<TypeChange> {
        let mut by: BTreeMap<(&str, &str), TypeChange> = BTreeMap::new();
        for node in &self.all {
            let Some((a, b)) = &node.types else { continue };
            let new = || TypeChange {
                a: a.clone(),
                b: b.clone(),
                nodes: 0,
                a_bytes: Some(0),
                b_bytes: Some(0),
                ms: 0.0,
            };
            let change = by.entry((a, b)).or_insert_with(new);
            let [in_a, in_b] = node.bytes;
            let add = |sum: Option<u64>, more: Option<u64>| Some(sum?.saturating_add(more?));
            change.nodes += 1;
            change.a_bytes = add(change.a_bytes, in_a);
            change.b_bytes = add(change.b_bytes, in_b);
            change.ms += node.nanos as f64 / 1e6;
        }
        let mut all: Vec<TypeChange> = by.into_values().collect();
        all.sort_by_key(|change| std::cmp::Reverse(change.a_bytes.max(change.b_bytes)));
        all
    }

    pub(super) fn grouped(&self, by: Grain) -> Vec<Contribution> {
        let mut groups: BTreeMap<String, Vec<&Node>> = BTreeMap::new();
        for node in &self.all {
            let NodeId { location, op, name } = &node.id;
            let key = match by {
                Grain::Role => format!("{}\u{0}{} {op}", location.module.name(), node.id.role()),
                Grain::Name => format!("{:?}\u{0}{name} {op}", location.layer),
                Grain::Op => op.clone(),
                Grain::Layer => {
                    location.layer.map_or("no layer".to_owned(), |layer| format!("layer {layer}"))
                }
                Grain::Module => location.module.name().to_owned(),
            };
            groups.entry(key).or_default().push(node);
        }
        let mut all: Vec<Contribution> = groups
            .into_iter()
            .map(|(key, nodes)| self.contribution(key.rsplit('\u{0}').next().unwrap_or(&key), &nodes))
            .collect();
        // A large node jitters by more than a small one changes: what is certain comes first.
        all.sort_by(|a, b| {
            let sure = b.significant.cmp(&a.significant);
            sure.then_with(|| b.ms.abs().total_cmp(&a.ms.abs())).then_with(|| a.key.cmp(&b.key))
        });
        all
    }

    fn contribution(&self, key: &str, nodes: &[&Node]) -> Contribution {
        let nanos: i64 = nodes.iter().map(|node| node.nanos).sum();
        let rounds = nodes.first().map_or(0, |node| node.resampled.len());
        let sum = |round: usize| nodes.iter().filter_map(|node| node.resampled.get(round)).sum::<f64>();
        let resampled: Vec<f64> = if self.enough { (0..rounds).map(sum).collect() } else { Vec::new() };
        let [a, b] = self.draws;
        let found = with_interval(nanos as f64, &resampled, [a, b]);
        let side = |at: usize| {
            let of = |node: &&&Node| node.sides.get(at).copied().flatten();
            let known: Vec<f64> = nodes.iter().filter_map(|node| of(&node)).collect();
            (!known.is_empty()).then(|| known.iter().sum::<f64>() / 1e6)
        };
        let most = nodes.iter().max_by_key(|node| node.nanos.abs()).filter(|_| nodes.len() > 1);
        let most =
            most.filter(|most| most.nanos.signum() == nanos.signum() && most.nanos.abs() * 2 > nanos.abs());
        let one = |value: &dyn Fn(&Node) -> Option<String>| {
            let first = nodes.first().and_then(|node| value(node));
            first.filter(|first| nodes.iter().all(|node| value(node).as_ref() == Some(first)))
        };
        let layer = nodes.first().and_then(|node| node.id.location.layer);
        let module = nodes.first().map(|node| node.id.location.module);
        let changed: BTreeSet<&String> = nodes.iter().filter_map(|node| node.became.as_ref()).collect();
        let became = match changed.len() {
            0 => None,
            1..=2 => Some(changed.into_iter().cloned().collect::<Vec<_>>().join(", ")),
            _ => one(&|node| node.became.clone()).or(Some("types or shapes differ".to_owned())),
        };
        Contribution {
            key: key.to_owned(),
            layer: layer.filter(|_| nodes.iter().all(|node| node.id.location.layer == layer)),
            module: module.filter(|_| nodes.iter().all(|node| Some(node.id.location.module) == module)),
            nodes: nodes.len(),
            a_ms: side(0),
            b_ms: side(1),
            ms: nanos as f64 / 1e6,
            ms_half: found.half.map(|half| half / 1e6),
            significant: found.is_significant(true),
            mostly: most.map(|node| node.id.name.clone()),
            became,
            members: nodes.iter().map(|node| node.id.clone()).collect(),
        }
    }
}

/// What became of a node's types or shapes.
fn became(a: &NodeTimes, b: &NodeTimes) -> Option<String> {
    if a.weight_type != b.weight_type {
        return Some(format!("{} → {}", a.weight_type, b.weight_type));
    }
    // The context grows through several shapes in one run, too.
    if a.shapes.is_disjoint(&b.shapes) {
        return Some("other shapes".to_owned());
    }
    None
}
