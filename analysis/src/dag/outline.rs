//! Parts of a graph within parts.

use super::nodes_of;
use crate::node;
use crate::rollup::{self, Location, Module};
use llmtrace_format::TraceFile;
use llmtrace_format::meta::Graph;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::ops::Range;

/// What a part is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Layers with the same operators, one after the other: the first and the last.
    Stack(u32, u32),
    /// A layer.
    Layer(u32),
    /// Nodes of one module, within a layer or outside of all.
    Block(Module),
    /// One node, by its index.
    Node(u32),
}

/// A part: nodes one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// What it is.
    pub kind: Kind,
    /// Its nodes, by index.
    pub nodes: Range<u32>,
    /// What it is made of, by index into [`Outline::parts`]; empty for a node.
    pub parts: Vec<usize>,
    /// What it is part of.
    pub within: Option<usize>,
}

/// A graph in parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outline {
    /// All parts.
    pub parts: Vec<Part>,
    /// Those that are within no other, in the order of execution.
    pub top: Vec<usize>,
}

impl Outline {
    /// The parts of a graph.
    pub fn of(file: &TraceFile, graph: &Graph) -> Self {
        let locations = rollup::locations(file, graph);
        let layers = runs(&smooth(&locations));
        let mut outline = Self::default();
        let mut top: Vec<(usize, u64)> = Vec::new();
        for (nodes, layer) in layers {
            let blocks = outline.blocks(file, graph, &locations, nodes.clone());
            match layer {
                Some(layer) => {
                    let part = outline.add(Kind::Layer(layer), nodes.clone(), blocks);
                    top.push((part, signature(file, graph, nodes)));
                }
                // Outside of layers, blocks are parts by themselves.
                None => top.extend(blocks.into_iter().map(|block| (block, 0))),
            }
        }
        outline.top = outline.stacks(&top);
        outline
    }

    fn add(&mut self, kind: Kind, nodes: Range<u32>, parts: Vec<usize>) -> usize {
        let index = self.parts.len();
        for &part in &parts {
            if let Some(part) = self.parts.get_mut(part) {
                part.within = Some(index);
            }
        }
        self.parts.push(Part { kind, nodes, parts, within: None });
        index
    }

    /// Runs of nodes of one module; a single node stands for itself.
    fn blocks(
        &mut self,
        file: &TraceFile,
        graph: &Graph,
        locations: &[Location],
        nodes: Range<u32>,
    ) -> Vec<usize> {
        let module_of = |index: u32| {
            let op = graph.tensors.get(index as usize).map_or("", |tensor| file.string(tensor.op));
            let module = locations.get(index as usize).map_or(Module::Other, |location| location.module);
            // A view goes with what it stands among.
            (module, super::is_view(op) || module == Module::Other)
        };
        let mut found: Vec<(Range<u32>, Module)> = Vec::new();
        for index in nodes {
            let (module, goes_along) = module_of(index);
            match found.last_mut() {
                Some((range, known)) if goes_along || *known == module || *known == Module::Other => {
                    range.end = index + 1;
                    if *known == Module::Other {
                        *known = module;
                    }
                }
                _ => found.push((index..index + 1, module)),
            }
        }
        // What is normalised inside of a block, as keys are, is part of it.
        let mut merged: Vec<(Range<u32>, Module)> = Vec::new();
        for (range, module) in found {
            if let [.., (before, known), (norm, Module::Norm)] = merged.as_mut_slice()
                && *known == module
                && module != Module::Norm
                && before.end == norm.start
            {
                before.end = range.end;
                merged.pop();
            } else {
                merged.push((range, module));
            }
        }
        let each = |(range, module): (Range<u32>, Module)| {
            let nodes: Vec<usize> = range
                .clone()
                .map(|index| self.add(Kind::Node(index), index..index + 1, Vec::new()))
                .collect();
            match nodes.as_slice() {
                [only] => *only,
                _ => self.add(Kind::Block(module), range, nodes),
            }
        };
        merged.into_iter().map(each).collect()
    }

    /// Equal layers one after the other become a stack.
    fn stacks(&mut self, top: &[(usize, u64)]) -> Vec<usize> {
        let layer_of = |outline: &Self, part: usize| match outline.parts.get(part)?.kind {
            Kind::Layer(layer) => Some(layer),
            _ => None,
        };
        let mut found = Vec::new();
        let mut at = 0;
        while let Some(&(first, signature)) = top.get(at) {
            let same = |(part, of): &&(usize, u64)| *of == signature && layer_of(self, *part).is_some();
            let count = top.iter().skip(at).take_while(same).count();
            let last = top.get(at + count.max(1) - 1).and_then(|(part, _)| layer_of(self, *part));
            match (layer_of(self, first), last) {
                (Some(first), Some(last)) if count >= 2 => {
                    let layers: Vec<usize> = top.iter().skip(at).take(count).map(|(part, _)| *part).collect();
                    let ends = (layers.first(), layers.last());
                    let range = |part: Option<&usize>| {
                        part.and_then(|part| self.parts.get(*part)).map_or(0..0, |part| part.nodes.clone())
                    };
                    let nodes = range(ends.0).start..range(ends.1).end;
                    found.push(self.add(Kind::Stack(first, last), nodes, layers));
                }
                _ => found.push(first),
            }
            at += count.max(1);
        }
        found
    }

    /// The part that stands for one node.
    pub fn of_node(&self, node: u32) -> Option<usize> {
        let mut parts: &[usize] = &self.top;
        loop {
            let after = parts
                .partition_point(|part| self.parts.get(*part).is_some_and(|part| part.nodes.start <= node));
            let index = *parts.get(after.checked_sub(1)?)?;
            let part = self.parts.get(index).filter(|part| part.nodes.contains(&node))?;
            if part.parts.is_empty() {
                return Some(index);
            }
            parts = &part.parts;
        }
    }

    /// The parts that a part is within, from the inside out.
    pub fn around(&self, part: usize) -> impl Iterator<Item = usize> {
        let within = |part: usize| self.parts.get(part)?.within;
        std::iter::successors(within(part), move |&outer| within(outer))
    }

    /// The layers of a stack; one for a layer.
    pub fn layers(&self, part: &Part) -> usize {
        if let Kind::Stack(..) = part.kind { part.parts.len() } else { 1 }
    }
}

/// Layers by node. What lies between two nodes of a layer is of that layer, unless it is of a
/// later one: it reads what an earlier layer gave, or nothing says where it belongs.
fn smooth(locations: &[Location]) -> Vec<Option<u32>> {
    let mut layers: Vec<Option<u32>> = locations.iter().map(|location| location.layer).collect();
    // Where the latest layer so far was seen last.
    let mut latest: Option<(usize, u32)> = None;
    for at in 0..layers.len() {
        let Some(layer) = layers.get(at).copied().flatten() else { continue };
        match latest {
            Some((before, known)) if known == layer => {
                if let Some(between) = layers.get_mut(before..at) {
                    between.fill(Some(layer));
                }
                latest = Some((at, layer));
            }
            Some((_, known)) if layer < known => {}
            _ => latest = Some((at, layer)),
        }
    }
    layers
}

fn runs(layers: &[Option<u32>]) -> Vec<(Range<u32>, Option<u32>)> {
    let mut begin = 0u32;
    let each = |run: &[Option<u32>]| {
        let range = begin..begin + run.len() as u32;
        begin = range.end;
        (range, run.first().copied().flatten())
    };
    layers.chunk_by(|a, b| a == b).map(each).collect()
}

/// Equal for layers of the same operators, roles and types, whatever their shapes.
fn signature(file: &TraceFile, graph: &Graph, nodes: Range<u32>) -> u64 {
    let mut hasher = DefaultHasher::new();
    for tensor in nodes_of(graph).get(nodes.start as usize..nodes.end as usize).unwrap_or_default() {
        let name = file.string(tensor.name);
        // Numbers are those of layers and nodes: `cache_k_l7 (view)`, `node_52`.
        let role: String = name.chars().filter(|char| !char.is_ascii_digit()).collect();
        (node::op_name(file, tensor), role, tensor.tensor_type).hash(&mut hasher);
    }
    // 0 is for what is no layer.
    hasher.finish().max(1)
}
