//! Statistics: node executions grouped by operator, name, layer, thread or token.
//!
//! Every thread of the pool computes its part of every node. What all threads
//! do for one node in one graph computation is one *execution*. The numbers of
//! a group, each defined in `docs/cli.md` too:
//!
//! ```text
//! thread 0  ├──compute──┤         ├wait┤    time     = both computes
//! thread 1    ├──────compute──────┤         wait     = both waits
//!           ├───────critical──────┤         critical = first begin to last compute end
//! ```
//!
//! [`stats`] groups the whole trace, [`distribution`] looks at one node. Both go
//! through all op spans, a piece at a time.

mod counted;
mod distribution;
mod durations;

pub use counted::{Counted, counts_by_operator};
pub use distribution::{Bin, Distribution, distribution, distribution_in};
pub use durations::{Durations, percentile};

use crate::executions::{Context, Contexts, LaneSpan, NodeKey, NodeTable, blocks_of, each_run, join};
use crate::trace::LoadProgress;
use crate::{Phase, TimeRange, Trace, node};
use llmtrace_format::Result;
use llmtrace_format::meta::Level;
use rayon::prelude::*;
use serde::{Serialize, Serializer};
use std::collections::HashMap;

/// What rows stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// Operators, those fused into one kernel together: `RMS_NORM+MUL`.
    Op,
    /// Nodes of the graph, by the name (and operator) of their tensor.
    Name,
    /// Layers of the model, and `other` for what belongs to none.
    Layer,
    /// Places in the thread pool.
    Thread,
    /// Micro-batches: `prefill 0`, `decode 12`.
    Token,
}

impl By {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Op, Self::Name, Self::Layer, Self::Thread, Self::Token];

    /// The name used on the command line and in the interface.
    pub fn name(self) -> &'static str {
        match self {
            Self::Op => "op",
            Self::Name => "name",
            Self::Layer => "layer",
            Self::Thread => "thread",
            Self::Token => "token",
        }
    }
}

/// What to group, and how.
#[derive(Clone, Copy, Debug)]
pub struct Query {
    /// What rows stand for.
    pub by: By,
    /// Only executions that begin in this range; they count whole.
    pub range: Option<TimeRange>,
    /// Only executions of this phase.
    pub phase: Option<Phase>,
}

impl Query {
    /// All executions of a trace.
    pub fn by(by: By) -> Self {
        Self { by, range: None, phase: None }
    }
}

/// Rows and their totals.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stats {
    /// What rows stand for.
    pub by: By,
    /// Node executions (spans, when grouped by thread).
    pub count: u64,
    /// Nanoseconds of computing, summed over threads.
    #[serde(rename = "time_ms", serialize_with = "millis")]
    pub compute_nanos: u64,
    /// Nanoseconds of waiting, summed over threads; `None` when the recording
    /// does not tell computing and waiting apart.
    #[serde(rename = "wait_ms", serialize_with = "opt_millis")]
    pub wait_nanos: Option<u64>,
    /// Names of the counters, in the order of the rows' counts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub counters: Vec<String>,
    /// The groups: by operator and by name the longest first, else in order.
    pub rows: Vec<Row>,
}

/// One group.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Operator, name, layer, thread or token.
    pub key: String,
    /// Operator of a node; only when grouped by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub op: Option<String>,
    /// Index into [`Trace::tokens`]; only when grouped by token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<u32>,
    /// Node executions (spans, when grouped by thread).
    pub count: u64,
    /// Nanoseconds of computing, summed over threads.
    #[serde(rename = "time_ms", serialize_with = "millis")]
    pub compute_nanos: u64,
    /// Nanoseconds of waiting, summed over threads; `None` when the recording
    /// does not tell computing and waiting apart.
    #[serde(rename = "wait_ms", serialize_with = "opt_millis")]
    pub wait_nanos: Option<u64>,
    /// Wall nanoseconds from the first thread's begin to the last thread's
    /// compute end, summed over executions.
    #[serde(rename = "critical_ms", serialize_with = "millis")]
    pub critical_nanos: u64,
    /// Part of all computing, from 0 to 1.
    pub share: f64,
    /// Waiting as a part of computing and waiting, from 0 to 1.
    pub wait_share: Option<f64>,
    /// Wall durations of the executions.
    #[serde(flatten)]
    pub wall: Durations,
    /// What was counted, by counter.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub counters: Vec<Counted>,
}

/// Groups executions, on all cores. Memory is that of a few blocks and a number
/// for each execution.
///
/// # Errors
/// [`llmtrace_format::Error::Cancelled`] when `progress` returned `false`.
pub fn stats(trace: &Trace, query: &Query, progress: LoadProgress<'_>) -> Result<Stats> {
    let contexts = Contexts::new(trace);
    let blocks = blocks_of(trace, None, query.range);
    let in_phase = |id: u32, _: u32| query.phase.is_none_or(|phase| contexts.of(id).phase(trace) == phase);
    let new = || Grouper::new(trace, *query);
    let each = |grouper: &mut Grouper<'_>, id: u32, spans: &mut Vec<LaneSpan>| {
        grouper.add(contexts.of(id), spans);
    };
    let grouped = each_run(trace, &blocks, progress, in_phase, new, each)?;
    let mut merged: HashMap<Key, Group> = HashMap::new();
    for grouper in grouped {
        for (key, index) in grouper.index {
            let Some(group) = grouper.groups.get(index as usize) else { continue };
            merged.entry(key).or_default().merge(group);
        }
    }
    for (key, counted) in counted::counted(trace, query, &contexts) {
        if let Some(group) = merged.get_mut(&key) {
            group.counters = counted;
        }
    }
    Ok(finish(query.by, merged, waits_known(trace), trace))
}

/// Whether the recording tells computing and waiting apart.
pub fn waits_known(trace: &Trace) -> bool {
    trace.file.recording.as_ref().is_none_or(|recording| recording.level >= Level::Thread)
}

fn finish(by: By, merged: HashMap<Key, Group>, waits_known: bool, trace: &Trace) -> Stats {
    // A group may be left empty by the range.
    let mut merged: Vec<(Key, Group)> =
        merged.into_iter().filter(|(_, group)| !group.walls.is_empty()).collect();
    match by {
        By::Op | By::Name => {
            merged.sort_by(|a, b| b.1.compute.cmp(&a.1.compute).then_with(|| a.0.cmp(&b.0)));
        }
        By::Layer | By::Thread | By::Token => merged.sort_by(|a, b| a.0.cmp(&b.0)),
    }
    let sum =
        |part: fn(&Group) -> u64| merged.iter().fold(0u64, |sum, (_, group)| sum.saturating_add(part(group)));
    let (count, compute, wait) =
        (sum(|group| group.walls.len() as u64), sum(|group| group.compute), sum(|group| group.wait));
    let rows = merged.into_par_iter().map(|(key, mut group)| Row {
        op: key.op(),
        token: key.token(),
        count: group.walls.len() as u64,
        compute_nanos: group.compute,
        wait_nanos: waits_known.then_some(group.wait),
        critical_nanos: group.critical,
        share: ratio(group.compute, compute),
        wait_share: waits_known.then(|| ratio(group.wait, group.compute.saturating_add(group.wait))),
        wall: Durations::of(&mut group.walls),
        counters: group.counters,
        key: key.text(trace),
    });
    let counters = trace.counters().iter().map(|counter| counter.name.clone()).collect();
    Stats {
        by,
        count,
        compute_nanos: compute,
        wait_nanos: waits_known.then_some(wait),
        counters,
        rows: rows.collect(),
    }
}

/// What a group stands for; the order of keys is the order of rows.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Key {
    Unknown,
    Op(String),
    Name(NodeKey),
    Layer(u32),
    NoLayer,
    Thread(u32),
    Token(u32),
    NoToken,
}

impl Key {
    fn text(self, trace: &Trace) -> String {
        match self {
            Self::Unknown => "unknown".to_owned(),
            Self::Op(op) => op,
            Self::Name(key) => key.name,
            Self::Layer(layer) => layer.to_string(),
            Self::NoLayer | Self::NoToken => "other".to_owned(),
            Self::Thread(ith) => ith.to_string(),
            Self::Token(index) => match trace.tokens.get(index as usize) {
                Some(token) => format!("{} {}", token.phase.name(), token.number),
                None => "other".to_owned(),
            },
        }
    }

    fn op(&self) -> Option<String> {
        if let Self::Name(key) = self { Some(key.op.clone()) } else { None }
    }

    fn token(&self) -> Option<u32> {
        if let Self::Token(index) = self { Some(*index) } else { None }
    }
}

#[derive(Debug, Default)]
struct Group {
    compute: u64,
    wait: u64,
    critical: u64,
    walls: Vec<u64>,
    counters: Vec<Counted>,
}

impl Group {
    fn add(&mut self, compute: u64, wait: u64, wall: u64) {
        self.compute = self.compute.saturating_add(compute);
        self.wait = self.wait.saturating_add(wait);
        self.critical = self.critical.saturating_add(wall);
        self.walls.push(wall);
    }

    fn merge(&mut self, other: &Self) {
        self.compute = self.compute.saturating_add(other.compute);
        self.wait = self.wait.saturating_add(other.wait);
        self.critical = self.critical.saturating_add(other.critical);
        self.walls.extend_from_slice(&other.walls);
    }
}

/// One worker's groups.
struct Grouper<'a> {
    trace: &'a Trace,
    query: Query,
    nodes: NodeTable<u32>,
    index: HashMap<Key, u32>,
    groups: Vec<Group>,
}

impl<'a> Grouper<'a> {
    fn new(trace: &'a Trace, query: Query) -> Self {
        Self { trace, query, nodes: NodeTable::new(), index: HashMap::new(), groups: Vec::new() }
    }

    fn add(&mut self, context: Context, spans: &mut [LaneSpan]) {
        if self.query.by == By::Thread {
            spans.iter().for_each(|span| self.add_thread(span));
            return;
        }
        let token = context.token.map_or(Key::NoToken, Key::Token);
        let token = (self.query.by == By::Token).then(|| group_id(&mut self.index, &mut self.groups, token));
        join(spans, |execution| {
            if self.query.range.is_none_or(|range| range.contains(execution.begin)) {
                let id = token.unwrap_or_else(|| self.group_of(context, execution.node, execution.fused));
                if let Some(group) = self.groups.get_mut(id as usize) {
                    group.add(execution.compute, execution.wait, execution.wall());
                }
            }
        });
    }

    fn add_thread(&mut self, (lane, span): &LaneSpan) {
        if self.query.range.is_none_or(|range| range.contains(span.begin)) {
            let lane = self.trace.lanes().get(*lane as usize).map_or(0, |lane| lane.id);
            let id = group_id(&mut self.index, &mut self.groups, Key::Thread(lane));
            if let Some(group) = self.groups.get_mut(id as usize) {
                group.add(span.compute, span.wait, span.compute);
            }
        }
    }

    fn group_of(&mut self, context: Context, node: u32, fused: u32) -> u32 {
        let Self { trace, query, nodes, index, groups } = self;
        let found = nodes.get(trace, context.graph, (node, fused), |graph| {
            let key = match query.by {
                By::Op => Key::Op(node::op_label(&trace.file, graph, node, fused)),
                By::Layer => {
                    let name = node::result(graph, node, fused).map(|tensor| trace.file.string(tensor.name));
                    name.and_then(node::layer).map_or(Key::NoLayer, Key::Layer)
                }
                _ => Key::Name(NodeKey::in_graph(trace, graph, node, fused)),
            };
            group_id(index, groups, key)
        });
        found.unwrap_or_else(|| {
            let key = if query.by == By::Layer { Key::NoLayer } else { Key::Unknown };
            group_id(index, groups, key)
        })
    }
}

fn group_id(index: &mut HashMap<Key, u32>, groups: &mut Vec<Group>, key: Key) -> u32 {
    *index.entry(key).or_insert_with(|| {
        groups.push(Group::default());
        groups.len() as u32 - 1
    })
}

pub(crate) fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

pub(crate) fn millis<S: Serializer>(nanos: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(*nanos as f64 / 1e6)
}

pub(crate) fn opt_millis<S: Serializer>(nanos: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
    nanos.map(|nanos| nanos as f64 / 1e6).serialize(serializer)
}

pub(crate) fn micros<S: Serializer>(nanos: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(*nanos as f64 / 1e3)
}
