//! Operators closely: nodes with their durations, grouped as one likes, and the single
//! executions behind a group.
//!
//! ```text
//! all spans ─► nodes ─► rows  (by op, name, node, layer, module, shape, phase)
//!                └─ filter ─► occurrences (each execution: when, how long, of which token)
//! ```
//!
//! [`nodes`] goes through the op spans once and keeps, for each node, sums and a [`Histogram`];
//! grouping and filtering are then instant, whatever the length of the trace.

mod histogram;
mod occurrences;

pub use histogram::Histogram;
pub use occurrences::{MOST, Occurrence, Occurrences, occurrences};

use crate::executions::{Contexts, LaneSpan, NodeKey, blocks_of, each_run, join};
use crate::rollup::{self, Location};
use crate::trace::LoadProgress;
use crate::work::{Known, Work, work};
use crate::{Nanos, Phase, TimeRange, Trace, node};
use llmtrace_format::Result;
use llmtrace_format::meta::Graph;
use std::collections::{BTreeMap, HashMap};

/// Which executions count.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Query {
    /// Only those that begin in this range; they count whole.
    pub range: Option<TimeRange>,
    /// Only those of this phase.
    pub phase: Option<Phase>,
}

/// One kind of node: same phase, name, operator and shapes, in whatever graph.
#[derive(Clone, Debug)]
pub struct Node {
    /// Phase.
    pub phase: Phase,
    /// Name and operator.
    pub key: NodeKey,
    /// Name without its layer, such as `ffn_up`.
    pub role: String,
    /// Layer and module.
    pub location: Location,
    /// Types and shapes of operands and result.
    pub shape: String,
    /// Elements of the result; `None` when the trace does not describe the node.
    pub elements: Option<u64>,
    /// Work of one execution; likewise.
    pub work: Option<Work>,
    /// Its executions.
    pub sums: Sums,
}

/// Executions taken together; nanoseconds are sums unless they say otherwise.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sums {
    /// Executions.
    pub count: u64,
    /// Computing, over all threads.
    pub compute: u64,
    /// Waiting at the barrier after the node, over all threads.
    pub wait: u64,
    /// From the first thread's begin until the last one was done.
    pub wall: u64,
    /// The shortest execution's wall time.
    pub shortest: u64,
    /// The longest execution's wall time, and when it began.
    pub longest: (u64, Nanos),
    /// Executions near which events were lost: their times may be wrong.
    pub touched_by_loss: u64,
    /// Wall times.
    pub walls: Histogram,
    /// Computing and waiting by lane, by the lane's id.
    pub lanes: BTreeMap<u32, (u64, u64)>,
}

impl Sums {
    fn add(&mut self, wall: u64, begin: Nanos) {
        self.shortest = if self.count == 0 { wall } else { self.shortest.min(wall) };
        self.longest = self.longest.max((wall, begin));
        self.count = self.count.saturating_add(1);
        self.wall = self.wall.saturating_add(wall);
        self.walls.add(wall);
    }

    /// Takes others in.
    pub fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        self.shortest = if self.count == 0 { other.shortest } else { self.shortest.min(other.shortest) };
        self.longest = self.longest.max(other.longest);
        let add = |a: &mut u64, b: u64| *a = a.saturating_add(b);
        add(&mut self.count, other.count);
        add(&mut self.compute, other.compute);
        add(&mut self.wait, other.wait);
        add(&mut self.wall, other.wall);
        add(&mut self.touched_by_loss, other.touched_by_loss);
        self.walls.merge(&other.walls);
        for (lane, (compute, wait)) in &other.lanes {
            let known = self.lanes.entry(*lane).or_default();
            add(&mut known.0, *compute);
            add(&mut known.1, *wait);
        }
    }

    /// Mean wall time of an execution in nanoseconds.
    pub fn mean(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.wall as f64 / self.count as f64 }
    }
}

type NodeId = (u8, u32, u32, u32);

/// All nodes that ran, in no promised order.
///
/// # Errors
/// [`llmtrace_format::Error::Cancelled`] when `progress` returned `false`.
pub fn nodes(trace: &Trace, query: &Query, progress: LoadProgress<'_>) -> Result<Vec<Node>> {
    let contexts = Contexts::new(trace);
    let blocks = blocks_of(trace, None, query.range);
    let wanted = |id: u32, _: u32| query.phase.is_none_or(|phase| contexts.of(id).phase(trace) == phase);
    let each = |state: &mut HashMap<NodeId, Sums>, id: u32, spans: &mut Vec<LaneSpan>| {
        let context = contexts.of(id);
        let place = (context.phase(trace) as u8, context.graph.unwrap_or(u32::MAX));
        run(trace, query, state, place, spans);
    };
    let states = each_run(trace, &blocks, progress, wanted, HashMap::new, each)?;
    let mut all: BTreeMap<NodeId, Sums> = BTreeMap::new();
    for (id, sums) in states.into_iter().flatten() {
        all.entry(id).or_default().merge(&sums);
    }
    Ok(described(trace, all))
}

fn run(
    trace: &Trace,
    query: &Query,
    state: &mut HashMap<NodeId, Sums>,
    (phase, graph): (u8, u32),
    spans: &mut [LaneSpan],
) {
    join(spans, |execution| {
        if query.range.is_some_and(|range| !range.contains(execution.begin)) {
            return;
        }
        let sums = state.entry((phase, graph, execution.node, execution.fused)).or_default();
        sums.add(execution.wall(), execution.begin);
        sums.compute = sums.compute.saturating_add(execution.compute);
        sums.wait = sums.wait.saturating_add(execution.wait);
        sums.touched_by_loss += u64::from(execution.touched_by_loss);
    });
    // `join` has sorted them by node.
    for group in spans.chunk_by(|(_, a), (_, b)| a.node == b.node) {
        let begin = group.iter().map(|(_, span)| span.begin).min().unwrap_or(0);
        if query.range.is_some_and(|range| !range.contains(begin)) {
            continue;
        }
        let fused = group.iter().map(|(_, span)| span.fused).max().unwrap_or(0);
        let Some((_, first)) = group.first() else { continue };
        let Some(sums) = state.get_mut(&(phase, graph, first.node, fused)) else { continue };
        for (lane, span) in group {
            let lane = trace.lanes().get(*lane as usize).map_or(*lane, |of| of.id);
            let known = sums.lanes.entry(lane).or_default();
            known.0 = known.0.saturating_add(span.compute);
            known.1 = known.1.saturating_add(span.wait);
        }
    }
}

/// Says of sums by place what they are sums of, and takes equal nodes of several graphs together.
fn described(trace: &Trace, sums: BTreeMap<NodeId, Sums>) -> Vec<Node> {
    let mut found: Vec<Node> = Vec::new();
    let mut known: HashMap<(u8, NodeKey, String), usize> = HashMap::new();
    let mut locations: HashMap<u32, Vec<Location>> = HashMap::new();
    for ((phase, graph, index, fused), sums) in sums {
        let described = trace.file.graphs.get(graph as usize);
        let described = described.filter(|of| of.tensors.get(index as usize).is_some());
        let of = match described {
            Some(of) => {
                let all = locations.entry(graph).or_insert_with(|| rollup::locations(&trace.file, of));
                describe(trace, of, all, (index, fused), Phase::from_u8(phase))
            }
            None => unknown(Phase::from_u8(phase)),
        };
        let key = (phase, of.key.clone(), of.shape.clone());
        match known.get(&key).and_then(|&at| found.get_mut(at)) {
            Some(node) => node.sums.merge(&sums),
            None => {
                known.insert(key, found.len());
                found.push(Node { sums, ..of });
            }
        }
    }
    found
}

fn unknown(phase: Phase) -> Node {
    Node {
        phase,
        key: NodeKey { name: "unknown".into(), op: "unknown".into() },
        role: "unknown".into(),
        location: Location::default(),
        shape: String::new(),
        elements: None,
        work: None,
        sums: Sums::default(),
    }
}

/// A node without its executions.
fn describe(
    trace: &Trace,
    graph: &Graph,
    locations: &[Location],
    (index, fused): (u32, u32),
    phase: Phase,
) -> Node {
    let key = NodeKey::in_graph(trace, graph, index, fused);
    let result = node::result(graph, index, fused);
    let elements = result.map(|tensor| {
        tensor.ne.iter().fold(1u64, |all, &n| all.saturating_mul(u64::try_from(n).unwrap_or(0)))
    });
    Node {
        phase,
        role: node::role(&key.name).to_owned(),
        location: rollup::location_of(locations, index, fused),
        shape: rollup::signature(&trace.file, graph, index, fused),
        elements,
        work: work(&trace.file, graph, index, fused, Known::default()),
        sums: Sums::default(),
        key,
    }
}

/// What a row of the table stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Group {
    /// Operators, those fused into one kernel together.
    #[default]
    Op,
    /// Names without their layer: `ffn_up`.
    Name,
    /// Nodes by name and operator: `ffn_up-7`.
    Node,
    /// Layers of the model.
    Layer,
    /// Parts of a layer.
    Module,
    /// Types and shapes of operands and result.
    Shape,
    /// Phases.
    Phase,
}

impl Group {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Op, Self::Name, Self::Node, Self::Layer, Self::Module, Self::Shape, Self::Phase];

    /// The name in the interface.
    pub fn name(self) -> &'static str {
        match self {
            Self::Op => "operator",
            Self::Name => "name",
            Self::Node => "node",
            Self::Layer => "layer",
            Self::Module => "module",
            Self::Shape => "shape",
            Self::Phase => "phase",
        }
    }

    /// What a node belongs to.
    pub fn key(self, node: &Node) -> String {
        match self {
            Self::Op => node.key.op.clone(),
            Self::Name => node.role.clone(),
            Self::Node => node.key.name.clone(),
            Self::Layer => node.location.layer.map_or_else(|| "no layer".into(), |layer| layer.to_string()),
            Self::Module => node.location.module.name().to_owned(),
            Self::Shape if node.shape.is_empty() => "unknown".to_owned(),
            Self::Shape => node.shape.clone(),
            Self::Phase => node.phase.name().to_owned(),
        }
    }

    /// The level below, which drilling down shows: what makes up a row of this one.
    pub fn below(self) -> Option<Self> {
        match self {
            Self::Phase | Self::Module | Self::Layer => Some(Self::Op),
            Self::Op | Self::Shape => Some(Self::Name),
            Self::Name => Some(Self::Node),
            Self::Node => None,
        }
    }
}

/// Which nodes count: those of each chosen row, with a piece of text in name, operator or shape.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Rows drilled into, from the top.
    pub path: Vec<(Group, String)>,
    /// A piece of text, in any case.
    pub text: String,
}

impl Filter {
    /// Whether a node counts.
    pub fn takes(&self, node: &Node) -> bool {
        let in_path = self.path.iter().all(|(group, key)| group.key(node) == *key);
        in_path && self.has_text(node)
    }

    fn has_text(&self, node: &Node) -> bool {
        let wanted = self.text.trim().to_lowercase();
        let has = |text: &str| text.to_lowercase().contains(&wanted);
        wanted.is_empty() || [&node.key.name, &node.key.op, &node.shape].into_iter().any(|text| has(text))
    }
}

/// A row: nodes taken together.
#[derive(Clone, Debug)]
pub struct Row {
    /// What it stands for.
    pub key: String,
    /// The operator, if all its nodes have the same.
    pub op: Option<String>,
    /// Number of different nodes.
    pub nodes: usize,
    /// Their executions.
    pub sums: Sums,
    /// Part of the computing of all rows, from 0 to 1.
    pub share: f64,
    /// Bytes that its executions need to read and write; `None` when it is not known of all.
    pub bytes: Option<u64>,
}

/// Groups nodes, those that computed longest first.
pub fn rows(nodes: &[Node], group: Group, filter: &Filter) -> Vec<Row> {
    let mut found: BTreeMap<String, Row> = BTreeMap::new();
    for node in nodes.iter().filter(|node| filter.takes(node)) {
        let key = group.key(node);
        let of = node.work.and_then(|work| work.bytes()).map(|bytes| bytes.saturating_mul(node.sums.count));
        let row = found.entry(key.clone()).or_insert_with(|| Row {
            key,
            op: Some(node.key.op.clone()),
            nodes: 0,
            sums: Sums::default(),
            share: 0.0,
            bytes: Some(0),
        });
        row.nodes += 1;
        row.sums.merge(&node.sums);
        row.op.take_if(|op| *op != node.key.op);
        row.bytes = row.bytes.zip(of).map(|(all, more)| all.saturating_add(more));
    }
    let all: u64 = found.values().fold(0, |all, row| all.saturating_add(row.sums.compute));
    let mut rows: Vec<Row> = found.into_values().collect();
    for row in &mut rows {
        row.share = row.sums.compute as f64 / all.max(1) as f64;
    }
    rows.sort_by(|a, b| b.sums.compute.cmp(&a.sums.compute).then_with(|| a.key.cmp(&b.key)));
    rows
}

#[cfg(test)]
mod tests;
