//! Places parts of a graph in layers (Sugiyama), from top to bottom.

use super::visible::Visible;
use petgraph::graph::NodeIndex;
use petgraph::stable_graph::StableDiGraph;
use rust_sugiyama::configure::{Config, RankingType};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Space between parts beside each other, and between layers.
const SPACING: f64 = 28.0;
/// An edge over more layers than this takes no part in the layout: it would need a bend in each.
const LONG: u32 = 24;

/// Where a part is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Placed {
    /// Middle, from the left.
    pub x: f32,
    /// Middle, from the top.
    pub y: f32,
    /// Width.
    pub width: f32,
    /// Height.
    pub height: f32,
}

/// Where all parts are, by index into [`Visible::items`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Layout {
    /// Places.
    pub placed: Vec<Placed>,
    /// Width of it all.
    pub width: f32,
    /// Height of it all.
    pub height: f32,
}

/// Places parts whose sizes are known. Stacks them in the order of execution should that fail.
pub fn layout(visible: &Visible, size: impl Fn(usize) -> (f32, f32)) -> Layout {
    let sizes: Vec<(f32, f32)> = (0..visible.items.len()).map(size).collect();
    let ranks = ranks(visible);
    let rank = |item: u32| ranks.get(item as usize).copied().unwrap_or(0);
    let mut graph: StableDiGraph<(f32, f32), ()> = StableDiGraph::new();
    for size in &sizes {
        graph.add_node(*size);
    }
    for edge in &visible.edges {
        if rank(edge.to).saturating_sub(rank(edge.from)) <= LONG {
            graph.add_edge(NodeIndex::new(edge.from as usize), NodeIndex::new(edge.to as usize), ());
        }
    }
    // Network simplex takes longer than all the rest on thousands of parts, and swapping neighbours is
    // for small graphs.
    let many = sizes.len() > 400;
    let config = Config {
        vertex_spacing: SPACING,
        dummy_size: 0.4,
        ranking_type: if many { RankingType::Up } else { RankingType::MinimizeEdgeLength },
        transpose: !many,
        ..Config::default()
    };
    // The crate panics should its bookkeeping fail; a picture is not worth the app.
    let place = || {
        let size = |_: NodeIndex, (width, height): &(f32, f32)| (f64::from(*width), f64::from(*height));
        rust_sugiyama::from_graph(&graph, &size, &config)
    };
    match catch_unwind(AssertUnwindSafe(place)) {
        Ok(parts) => beside_each_other(parts, &sizes),
        Err(_) => one_below_the_other(&sizes),
    }
}

/// The longest way to each item, in edges.
fn ranks(visible: &Visible) -> Vec<u32> {
    let mut ranks = vec![0u32; visible.items.len()];
    // Edges are sorted by where they come from, and go to later items.
    for edge in &visible.edges {
        let next = ranks.get(edge.from as usize).map_or(0, |rank| rank + 1);
        if let Some(rank) = ranks.get_mut(edge.to as usize) {
            *rank = (*rank).max(next);
        }
    }
    ranks
}

type Parts = Vec<(Vec<(NodeIndex, (f64, f64))>, f64, f64)>;

/// Parts that no edge connects: the largest first, the others right of it.
fn beside_each_other(mut parts: Parts, sizes: &[(f32, f32)]) -> Layout {
    parts.sort_by_key(|(nodes, ..)| std::cmp::Reverse(nodes.len()));
    let mut layout = Layout { placed: vec![Placed::default(); sizes.len()], ..Layout::default() };
    let mut left = 0.0;
    for (nodes, ..) in parts {
        let sized =
            nodes.iter().filter_map(|(node, at)| Some((node.index(), *at, *sizes.get(node.index())?)));
        let mut edges = [f64::MAX, f64::MAX, f64::MIN, f64::MIN];
        for (_, (x, y), (width, height)) in sized.clone() {
            let (width, height) = (f64::from(width) / 2.0, f64::from(height) / 2.0);
            edges = [
                edges[0].min(x - width),
                edges[1].min(y - height),
                edges[2].max(x + width),
                edges[3].max(y + height),
            ];
        }
        let [min_x, min_y, max_x, max_y] = edges;
        for (index, (x, y), (width, height)) in sized {
            if let Some(placed) = layout.placed.get_mut(index) {
                let (x, y) = ((x - min_x) as f32 + left, (y - min_y) as f32);
                *placed = Placed { x, y, width, height };
            }
        }
        if max_x >= min_x {
            left += (max_x - min_x) as f32 + SPACING as f32;
            layout.width = left - SPACING as f32;
            layout.height = layout.height.max((max_y - min_y) as f32);
        }
    }
    layout
}

fn one_below_the_other(sizes: &[(f32, f32)]) -> Layout {
    let width = sizes.iter().map(|(width, _)| *width).fold(0.0, f32::max);
    let mut layout = Layout { width, ..Layout::default() };
    for (own, height) in sizes {
        let y = layout.height + height / 2.0;
        layout.placed.push(Placed { x: width / 2.0, y, width: *own, height: *height });
        layout.height += height + SPACING as f32;
    }
    layout
}
