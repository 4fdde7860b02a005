//! On a recorded sample and on a synthetic trace.

use super::*;
use crate::Trace;
use crate::synth::{Options, bytes};
use llmtrace_format::Source;
use std::collections::BTreeSet;

fn sample(name: &str) -> Trace {
    let path = format!("{}/../sample-traces/{name}.llmtrace", env!("CARGO_MANIFEST_DIR"));
    Trace::open(Source::from_file(std::fs::File::open(path).unwrap()), &mut |_| true).unwrap()
}

fn largest(trace: &Trace) -> (u32, &Graph) {
    let graphs = (0u32..).zip(&trace.file.graphs);
    graphs.max_by_key(|(_, graph)| graph.nodes).unwrap()
}

#[test]
fn parts_cover_every_node_once_at_every_level() {
    for name in ["gemma3-270m-2t", "qwen3moe-synthetic-2t"] {
        let trace = sample(name);
        let (_, graph) = largest(&trace);
        let outline = Outline::of(&trace.file, graph);
        let mut level = outline.top.clone();
        while !level.is_empty() {
            let covered: u32 = level.iter().map(|part| outline.parts[*part].nodes.len() as u32).sum();
            let next: Vec<usize> = level.iter().flat_map(|part| outline.parts[*part].parts.clone()).collect();
            let inner: u32 = next.iter().map(|part| outline.parts[*part].nodes.len() as u32).sum();
            let nodes = level.iter().filter(|part| outline.parts[**part].parts.is_empty()).count() as u32;
            assert_eq!(covered, inner + nodes);
            level = next;
        }
        let all: u32 = outline.top.iter().map(|part| outline.parts[*part].nodes.len() as u32).sum();
        assert_eq!(all, graph.nodes);
        for node in 0..graph.nodes {
            let part = outline.of_node(node).unwrap();
            assert_eq!(outline.parts[part].kind, Kind::Node(node));
        }
    }
}

#[test]
fn equal_layers_are_one_stack() {
    let trace = sample("gemma3-270m-2t");
    let (_, graph) = largest(&trace);
    let outline = Outline::of(&trace.file, graph);
    let stacks: Vec<Kind> = outline.top.iter().map(|part| outline.parts[*part].kind).collect();
    // Of the last of 18 layers only the rows with an output are computed.
    assert!(stacks.contains(&Kind::Stack(0, 16)), "{stacks:?}");
    assert!(stacks.contains(&Kind::Layer(17)), "{stacks:?}");
    assert!(stacks.len() < 12, "{stacks:?}");
}

#[test]
fn edges_lead_to_later_parts_whichever_are_expanded() {
    let trace = sample("qwen3moe-synthetic-2t");
    let (_, graph) = largest(&trace);
    let outline = Outline::of(&trace.file, graph);
    let mut expanded = BTreeSet::new();
    for step in 0..40usize {
        for views in [false, true] {
            let found = visible(&trace.file, graph, &outline, &expanded, views);
            assert!(found.edges.iter().all(|edge| edge.from < edge.to));
            assert!(found.edges.iter().all(|edge| edge.tensors > 0));
            assert_eq!(found.leaves.len(), found.items.len());
            // All is connected: one picture, but for parts that only read inputs.
            assert!(found.edges.len() + 3 >= found.items.len(), "{step}");
            let placed = layout(&found, |_| (100.0, 30.0));
            assert_eq!(placed.placed.len(), found.items.len());
            for edge in &found.edges {
                let (from, to) = (placed.placed[edge.from as usize], placed.placed[edge.to as usize]);
                assert!(from.y < to.y, "{step}: {edge:?}");
            }
        }
        // Something else each time, and more and more.
        let next = (step * 7919) % outline.parts.len();
        expanded.extend(outline.around(next).chain([next]));
    }
}

#[test]
fn nothing_that_is_seen_lies_over_something_else() {
    let trace = sample("qwen3moe-synthetic-2t");
    let (_, graph) = largest(&trace);
    let outline = Outline::of(&trace.file, graph);
    let expanded: BTreeSet<usize> = (0..outline.parts.len()).collect();
    let found = visible(&trace.file, graph, &outline, &expanded, false);
    let placed = layout(&found, |item| (80.0 + (item % 5) as f32 * 30.0, 40.0));
    for (index, a) in placed.placed.iter().enumerate() {
        for b in placed.placed.iter().skip(index + 1) {
            let apart = (a.x - b.x).abs() * 2.0 >= a.width + b.width - 0.1
                || (a.y - b.y).abs() * 2.0 >= a.height + b.height - 0.1;
            assert!(apart, "{a:?} {b:?}");
        }
    }
}

#[test]
fn weights_and_caches_are_told_apart() {
    let trace = sample("gemma3-270m-2t");
    let (_, graph) = largest(&trace);
    let outline = Outline::of(&trace.file, graph);
    let found = visible(&trace.file, graph, &outline, &BTreeSet::new(), false);
    let stack = found.items.iter().position(|part| matches!(outline.parts[*part].kind, Kind::Stack(..)));
    let leaves = found.leaves[stack.unwrap()];
    // Keys and values of 17 layers.
    assert_eq!(leaves.caches.tensors, 34);
    assert!(leaves.weights.tensors > 17 * 8 && leaves.weights.bytes.unwrap() > 10_000_000);
    assert_eq!(Leaf::of("cache_k_l3"), Leaf::Cache);
    assert_eq!(Leaf::of("blk.3.attn_q.weight"), Leaf::Weight);
    assert_eq!(Leaf::of("inp_pos"), Leaf::Input);
    assert_eq!(Leaf::of("Vulkan0#norm-3#0"), Leaf::Copied);
    assert_eq!(Leaf::of("node#12"), Leaf::Input);
}

#[test]
fn heat_adds_up_and_the_critical_path_is_no_longer_than_all() {
    let bytes = bytes(&Options::new(20_000, 2, 3)).unwrap();
    let trace = Trace::open(Source::Bytes(bytes), &mut |_| true).unwrap();
    let mut whole = 0;
    for (index, graph) in (0u32..).zip(&trace.file.graphs) {
        let heat = heat(&trace, index, None, &|_| true).unwrap();
        whole += heat.iter().map(|node| node.compute).sum::<u64>();
        let (path, time) = critical_path(&trace.file, graph, &heat);
        let all: f64 = heat.iter().map(NodeHeat::mean).sum();
        assert!(time > 0.0 && time <= all * 1.000_001, "{time} {all}");
        assert!(path.is_sorted() && !path.is_empty());
        let along: f64 = path.iter().map(|node| heat[*node as usize].mean()).sum();
        assert!((along - time).abs() < 1.0);
    }
    let nodes = crate::operators::nodes(&trace, &Default::default(), &|_| true).unwrap();
    assert_eq!(whole, nodes.iter().map(|node| node.sums.compute).sum::<u64>());
    let token = trace.tokens[1];
    let one = heat(&trace, 1, Some(token.range), &|_| true).unwrap();
    assert!(one.iter().all(|node| node.count <= 1) && one.iter().any(|node| node.count == 1));
}

#[test]
fn a_graph_is_found_again_in_another_run() {
    let (a, b) = (sample("gemma3-270m-undisturbed-2t"), sample("gemma3-270m-preempted-2t"));
    let computed =
        |trace: &Trace, graph: u32| trace.graph_spans.iter().filter(|span| span.graph == graph).count();
    for (index, graph) in (0u32..).zip(&a.file.graphs).filter(|(_, graph)| graph.nodes > 0) {
        let found = &b.file.graphs[counterpart(&a, index, &b).unwrap() as usize];
        let shapes = |file: &TraceFile, graph: &Graph| -> Vec<_> {
            nodes_of(graph).iter().map(|node| (file.string(node.name).to_owned(), node.ne)).collect()
        };
        // The same tokens were computed in both.
        assert_eq!(shapes(&a.file, graph), shapes(&b.file, found), "graph {}", graph.id);
        assert!(computed(&b, found.id) > 0);
    }
    // Another model has no such layers, but what its graphs have is found; nothing has no counterpart.
    let other = sample("qwen3moe-synthetic-2t");
    assert!(counterpart(&a, 0, &other).is_some());
    assert_eq!(counterpart(&a, u32::MAX, &b), None);
}
