//! What is drawn: parts with their names, where they are, and what flows between them. Made on
//! another thread when parts are expanded or folded.

use llmtrace_analysis::dag::{self, Kind, Layout, Outline, Part, Visible, layout, visible};
use llmtrace_analysis::format::TraceFile;
use llmtrace_analysis::format::meta::Graph;
use llmtrace_analysis::node;
use std::collections::BTreeSet;

/// Height of a part that has others, and of a node.
const HEIGHTS: [f32; 2] = [50.0, 38.0];
/// About the width of a character.
const CHARACTER: f32 = 7.4;

/// What a picture is of: graph, expanded parts, whether views are drawn.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Shown {
    pub(crate) graph: u32,
    pub(crate) expanded: BTreeSet<usize>,
    pub(crate) views: bool,
}

/// A picture.
pub(crate) struct Picture {
    pub(crate) visible: Visible,
    pub(crate) layout: Layout,
    /// Names, by item.
    pub(crate) names: Vec<String>,
    /// Operators of nodes, by item; empty for other parts.
    pub(crate) ops: Vec<String>,
}

impl Picture {
    /// Draws up what `shown` asks for.
    pub(crate) fn of(file: &TraceFile, graph: &Graph, outline: &Outline, shown: &Shown) -> Self {
        let visible = visible(file, graph, outline, &shown.expanded, shown.views);
        let part = |item: &usize| outline.parts.get(*item);
        let names: Vec<String> = visible
            .items
            .iter()
            .map(|item| part(item).map_or_else(String::new, |part| name(file, graph, part)))
            .collect();
        let ops: Vec<String> = visible
            .items
            .iter()
            .map(|item| match part(item).map(|part| part.kind) {
                Some(Kind::Node(node)) => node::op_label(file, graph, node, 0),
                _ => String::new(),
            })
            .collect();
        let size = |item: usize| {
            let own = |list: &[String]| list.get(item).map_or(0, |text| text.chars().count());
            let is_node = ops.get(item).is_some_and(|op| !op.is_empty());
            // Below a node's name: its operator and a time.
            let below = if is_node { own(&ops) + 10 } else { 18 };
            let width = own(&names).max(below).clamp(12, 34) as f32 * CHARACTER + 22.0;
            (width, HEIGHTS[usize::from(is_node)])
        };
        let layout = layout(&visible, size);
        Self { visible, layout, names, ops }
    }

    /// The item under a place of the picture.
    pub(crate) fn at(&self, x: f32, y: f32) -> Option<usize> {
        self.layout.placed.iter().position(|placed| {
            (placed.x - x).abs() * 2.0 <= placed.width && (placed.y - y).abs() * 2.0 <= placed.height
        })
    }

    /// The item that shows a part: itself, or what it is folded into.
    pub(crate) fn item_of(&self, outline: &Outline, part: usize) -> Option<usize> {
        let node = outline.parts.get(part)?.nodes.clone();
        let of = |node: u32| self.visible.item_of.get(node as usize).copied().flatten();
        node.clone().find_map(of).map(|item| item as usize)
    }
}

/// A part's name.
pub(crate) fn name(file: &TraceFile, graph: &Graph, part: &Part) -> String {
    match part.kind {
        Kind::Stack(first, last) => format!("layers {first}–{last}  ×{}", part.parts.len()),
        Kind::Layer(layer) => format!("layer {layer}"),
        Kind::Block(module) => module.name().to_owned(),
        Kind::Node(node) => {
            let found = graph.tensors.get(node as usize).map_or("", |tensor| file.string(tensor.name));
            if found.is_empty() { format!("node {node}") } else { found.to_owned() }
        }
    }
}

/// Whether a node only looks at another one.
pub(crate) fn is_view(op: &str) -> bool {
    dag::is_view(op)
}
