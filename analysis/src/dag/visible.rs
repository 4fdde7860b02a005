//! What is to be seen with some parts expanded: parts, and what flows between them.

use super::outline::{Kind, Outline};
use super::{Leaf, behind_views, is_view, nodes_of};
use crate::work::bytes_of;
use llmtrace_format::TraceFile;
use llmtrace_format::meta::Graph;
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// Parts to draw and the edges between them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Visible {
    /// Indexes into [`Outline::parts`], in the order of execution.
    pub items: Vec<usize>,
    /// Edges, by index into `items`; from earlier to later ones.
    pub edges: Vec<Edge>,
    /// What each item reads that no node computes.
    pub leaves: Vec<Leaves>,
    /// Which item stands for each node; `None` for views, if those are left out.
    pub item_of: Vec<Option<u32>>,
}

/// What flows from one part to another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Edge {
    /// Where it is computed, by index into [`Visible::items`].
    pub from: u32,
    /// Where it is read.
    pub to: u32,
    /// Bytes of the tensors, each once; `None` when a type is not known.
    pub bytes: Option<u64>,
    /// How many different tensors.
    pub tensors: u32,
}

/// Bytes of leaves that a part reads, each tensor once; `None` when a type is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Leaves {
    /// Weights.
    pub weights: Sum,
    /// Caches.
    pub caches: Sum,
    /// Inputs of the call.
    pub inputs: Sum,
    /// What another backend computed, and was copied.
    pub copied: Sum,
}

/// Tensors and their bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sum {
    /// How many.
    pub tensors: u32,
    /// Their bytes; `None` when a type is not known.
    pub bytes: Option<u64>,
}

impl Default for Sum {
    fn default() -> Self {
        Self { tensors: 0, bytes: Some(0) }
    }
}

impl Sum {
    fn add(&mut self, bytes: Option<u64>) {
        self.tensors += 1;
        self.bytes = self.bytes.zip(bytes).map(|(all, more)| all.saturating_add(more));
    }
}

/// The parts to draw when those in `expanded` are shown by what they are made of. `views` says
/// whether nodes that only look at others are drawn too.
pub fn visible(
    file: &TraceFile,
    graph: &Graph,
    outline: &Outline,
    expanded: &BTreeSet<usize>,
    views: bool,
) -> Visible {
    let nodes = nodes_of(graph);
    let mut found = Visible { item_of: vec![None; nodes.len()], ..Visible::default() };
    let mut rest: Vec<usize> = outline.top.iter().rev().copied().collect();
    while let Some(index) = rest.pop() {
        let Some(part) = outline.parts.get(index) else { continue };
        if expanded.contains(&index) && !part.parts.is_empty() {
            rest.extend(part.parts.iter().rev());
            continue;
        }
        if let Kind::Node(node) = part.kind {
            let op = nodes.get(node as usize).map_or("", |tensor| file.string(tensor.op));
            if !views && is_view(op) {
                continue;
            }
        }
        let item = found.items.len() as u32;
        found.items.push(index);
        let of = found.item_of.get_mut(part.nodes.start as usize..part.nodes.end as usize);
        of.into_iter().flatten().for_each(|of| *of = Some(item));
    }
    found.flow(file, graph, views);
    found
}

impl Visible {
    fn flow(&mut self, file: &TraceFile, graph: &Graph, views: bool) {
        let types = file.recording.as_ref().map_or(&[][..], |recording| &recording.types);
        let size = |index: u32| bytes_of(types, graph.tensors.get(index as usize)?);
        let mut edges: BTreeMap<(u32, u32), Edge> = BTreeMap::new();
        let mut seen: HashSet<(u32, u32)> = HashSet::new();
        self.leaves = vec![Leaves::default(); self.items.len()];
        for (index, tensor) in (0u32..).zip(nodes_of(graph)) {
            let Some(to) = self.item_of.get(index as usize).copied().flatten() else { continue };
            for &source in &tensor.sources {
                let whole = behind_views(file, graph, source);
                let from = if views { source } else { whole };
                if whole >= graph.nodes && !(views && source < graph.nodes) {
                    let Some(leaf) = graph.tensors.get(whole as usize) else { continue };
                    if seen.insert((whole, to))
                        && let Some(leaves) = self.leaves.get_mut(to as usize)
                    {
                        let sum = match Leaf::of(file.string(leaf.name)) {
                            Leaf::Weight => &mut leaves.weights,
                            Leaf::Cache => &mut leaves.caches,
                            Leaf::Input => &mut leaves.inputs,
                            Leaf::Copied => &mut leaves.copied,
                        };
                        sum.add(size(whole));
                    }
                    continue;
                }
                // Sources come first; what does not would be a damaged file.
                let Some(from_item) = self.item_of.get(from as usize).copied().flatten() else { continue };
                if from_item >= to || !seen.insert((from, to)) {
                    continue;
                }
                let edge = edges.entry((from_item, to)).or_insert(Edge {
                    from: from_item,
                    to,
                    bytes: Some(0),
                    tensors: 0,
                });
                edge.tensors += 1;
                edge.bytes = edge.bytes.zip(size(from)).map(|(all, more)| all.saturating_add(more));
            }
        }
        self.edges = edges.into_values().collect();
    }
}
