//! Work against ceilings: how fast each node, operator, layer or phase could be, and
//! how much of that it reaches.
//!
//! The roof of a node is the longer of two times: its bytes at the host's reading
//! rate, and its operations at the rate of dot products. A share above 1 means that
//! operands came from a cache, which reads faster than memory.

use crate::ceilings::Roofs;
use crate::profile::{NodeProfile, Profile};
use crate::traffic::Traffic;
use crate::verdict::{self, Verdict};
use crate::work::{Known, Work};
use crate::{Phase, TimeRange, Trace};
use llmtrace_format::meta::Graph;
use serde::Serialize;
use std::collections::BTreeMap;

/// What a row stands for; each within its phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Of {
    /// All nodes.
    Phase,
    /// Parts of the model.
    Module,
    /// Layers.
    Layer,
    /// Operators.
    Op,
    /// Nodes, by name and operator.
    Node,
}

impl Of {
    /// All, from the whole to the smallest.
    pub const ALL: [Self; 5] = [Self::Phase, Self::Module, Self::Layer, Self::Op, Self::Node];

    /// The name on the command line and in the interface.
    pub fn name(self) -> &'static str {
        match self {
            Self::Phase => "phase",
            Self::Module => "module",
            Self::Layer => "layer",
            Self::Op => "op",
            Self::Node => "node",
        }
    }
}

/// Executions taken together; nanoseconds, operations and bytes are sums. What recording cost
/// is taken off.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Group {
    /// Executions.
    pub count: u64,
    /// Wall time.
    pub wall_nanos: u64,
    /// Mean computing of the threads; the rest of the wall time threads waited.
    pub balanced_nanos: u64,
    /// Operations of nodes whose arithmetic is known.
    pub flops: u64,
    /// Bytes of nodes whose types are known.
    pub bytes: u64,
    /// Part of the wall time that is left out of rates and shares: threads could run, but had no CPU;
    /// `None` when their states were not recorded.
    pub preempted_nanos: Option<u64>,
    /// Whether operations or bytes are an upper bound.
    pub at_most: bool,
    /// Whether most operations are products of 8-bit integers.
    pub int8: bool,
    /// Nanoseconds of computing in nodes whose work is known, while threads had a CPU.
    pub known_nanos: u64,
    /// Nanoseconds in which memory would have brought the bytes; `None` without ceilings.
    pub memory_nanos: Option<f64>,
    /// Nanoseconds in which the threads would have done the operations; likewise.
    pub compute_nanos: Option<f64>,
    /// Nanoseconds under the roof: for each node the longer of both; likewise.
    pub roof_nanos: Option<f64>,
    /// Bytes that came from memory, beside those needed; `None` where these were not counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traffic: Option<Traffic>,
    /// What of `balanced_nanos` threads had no CPU.
    #[serde(skip)]
    pub(crate) preempted_balanced: u64,
    #[serde(skip)]
    int8_flops: u64,
    /// Where the longest execution was.
    #[serde(skip)]
    pub longest: TimeRange,
}

impl Group {
    /// Operations for each byte.
    pub fn intensity(&self) -> Option<f64> {
        (self.bytes > 0 && self.flops > 0).then(|| self.flops as f64 / self.bytes as f64)
    }

    /// Operations a second, while the threads computed.
    pub fn flops_per_second(&self) -> Option<f64> {
        (self.known_nanos > 0 && self.flops > 0).then(|| self.flops as f64 * 1e9 / self.known_nanos as f64)
    }

    /// Bytes a second, while the threads computed.
    pub fn bytes_per_second(&self) -> Option<f64> {
        (self.known_nanos > 0 && self.bytes > 0).then(|| self.bytes as f64 * 1e9 / self.known_nanos as f64)
    }

    /// Part of what the roof allows that is reached; above 1 from caches.
    pub fn roof_share(&self) -> Option<f64> {
        let roof = self.roof_nanos.filter(|&nanos| nanos > 0.0)?;
        (self.known_nanos > 0).then(|| roof / self.known_nanos as f64)
    }

    /// Mean wall time of an execution in nanoseconds.
    pub fn mean_nanos(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.wall_nanos as f64 / self.count as f64 }
    }

    /// The same while threads had a CPU.
    pub(crate) fn mean_on_cpu(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.on_cpu().0 as f64 / self.count as f64 }
    }

    /// Nanoseconds of wall time, and of computing, while threads had a CPU.
    pub(crate) fn on_cpu(&self) -> (u64, u64) {
        let balanced = self.balanced_nanos.saturating_sub(self.preempted_balanced);
        (self.wall_nanos.saturating_sub(self.preempted_nanos.unwrap_or(0)).max(balanced), balanced)
    }

    /// Leaves waiting out, and what threads had no CPU.
    pub(crate) fn only_computes(&mut self) {
        let (_, balanced) = self.on_cpu();
        (self.wall_nanos, self.balanced_nanos) = (balanced, balanced);
        (self.preempted_nanos, self.preempted_balanced) = (self.preempted_nanos.map(|_| 0), 0);
    }

    pub(crate) fn add(&mut self, node: &NodeProfile, roofs: &Roofs) {
        let sums = &node.sums;
        if let Some(preempted) = sums.preempted {
            let sum = self.preempted_nanos.get_or_insert(0);
            *sum = sum.saturating_add(preempted);
            self.preempted_balanced = self.preempted_balanced.saturating_add(sums.preempted_balanced);
        }
        if sums.longest.0 >= self.longest.nanos() {
            self.longest = TimeRange::new(sums.longest.1, sums.longest.1.saturating_add(sums.longest.0));
        }
        self.count = self.count.saturating_add(sums.count);
        let balanced = sums.balanced.saturating_sub(node.probes);
        self.wall_nanos = self.wall_nanos.saturating_add(sums.wall.saturating_sub(node.probes));
        self.balanced_nanos = self.balanced_nanos.saturating_add(balanced);
        let Some(work) = &node.work else { return };
        let times = |value: u64| value.saturating_mul(sums.count);
        let (flops, bytes) = (work.flops.map(times), work.bytes().map(times));
        if let (Some(flops), Some(bytes)) = (flops, bytes) {
            self.flops = self.flops.saturating_add(flops);
            self.bytes = self.bytes.saturating_add(bytes);
            if let Some(lines) = &node.lines {
                self.traffic.get_or_insert_default().add(lines, bytes);
            }
            self.at_most |= work.at_most;
            self.known_nanos =
                self.known_nanos.saturating_add(balanced.saturating_sub(sums.preempted_balanced));
            if work.int8 {
                self.int8_flops = self.int8_flops.saturating_add(flops);
            }
            self.int8 = self.int8_flops > self.flops / 2;
        }
        if let Some((memory, compute)) = roof_nanos(work, roofs) {
            let count = sums.count as f64;
            *self.memory_nanos.get_or_insert(0.0) += memory * count;
            *self.compute_nanos.get_or_insert(0.0) += compute * count;
            *self.roof_nanos.get_or_insert(0.0) += memory.max(compute) * count;
        }
    }
}

/// Nanoseconds that bytes and operations of one execution take under their roofs.
pub(crate) fn roof_nanos(work: &Work, roofs: &Roofs) -> Option<(f64, f64)> {
    let memory = work.bytes()? as f64 * 1e9 / roofs.bytes?;
    let compute = work.flops? as f64 * 1e9 / roofs.ops(work.int8)?;
    Some((memory, compute))
}

/// Nanoseconds that one execution of a kernel takes under the host's roof: the longer of both times.
/// `None` when its work or the ceilings are not known.
pub fn kernel_roof(trace: &Trace, graph: &Graph, (node, fused): (u32, u32), roofs: &Roofs) -> Option<f64> {
    let work = crate::work::work(&trace.file, graph, node, fused, Known::default())?;
    roof_nanos(&work, roofs).map(|(memory, compute)| memory.max(compute))
}

/// A point of the roofline, and what limits it.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Phase.
    #[serde(serialize_with = "phase_name")]
    pub phase: Phase,
    /// Operator, layer, module or name.
    pub key: String,
    /// Operator of a node; only of nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub op: Option<String>,
    /// Sums.
    #[serde(flatten)]
    pub group: Group,
    /// What limits it.
    pub verdict: Verdict,
}

/// Phase, place in the order of layers or modules, name, and operator of a node.
type Key = (u8, u32, String, Option<String>);

/// Nodes taken together, the longest first; layers and modules in order.
pub fn rows(profile: &Profile, roofs: &Roofs, of: Of, phase: Option<Phase>) -> Vec<Row> {
    let mut groups: BTreeMap<Key, (Phase, Group)> = BTreeMap::new();
    for node in profile.nodes.iter().filter(|node| phase.is_none_or(|phase| node.phase == phase)) {
        let key = match of {
            Of::Phase => (0, node.phase.name().to_owned(), None),
            Of::Module => (node.location.module as u32, node.location.module.name().to_owned(), None),
            Of::Layer => match node.location.layer {
                Some(layer) => (layer, layer.to_string(), None),
                None => (u32::MAX, "other".to_owned(), None),
            },
            Of::Op => (0, node.key.op.clone(), None),
            Of::Node => (0, node.key.name.clone(), Some(node.key.op.clone())),
        };
        let group = groups.entry((node.phase as u8, key.0, key.1, key.2));
        group.or_insert_with(|| (node.phase, Group::default())).1.add(node, roofs);
    }
    let row = |((_, _, key, op), (phase, group)): (Key, (Phase, Group))| {
        let verdict = verdict::of_group(&group, roofs);
        Row { phase, key, op, group, verdict }
    };
    let mut rows: Vec<Row> = groups.into_iter().map(row).collect();
    if matches!(of, Of::Op | Of::Node | Of::Phase) {
        rows.sort_by(|a, b| b.group.wall_nanos.cmp(&a.group.wall_nanos).then_with(|| a.key.cmp(&b.key)));
    }
    rows
}

fn phase_name<S: serde::Serializer>(phase: &Phase, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(phase.name())
}
