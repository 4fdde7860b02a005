//! What holds for every recording at level `thread` in which nothing was lost.

use llmtrace_analysis::{OpSpan, Phase, TimeRange, Trace};
use llmtrace_format::constants::NONE;
use llmtrace_format::meta::Level;
use std::collections::{HashMap, HashSet};

/// What holds for Gemma 3 270M.
pub(crate) fn check_whole(trace: &Trace, threads: usize) {
    check_every(trace, threads);
    assert!(trace.graph_spans.iter().all(|graph| graph.graph != NONE), "each graph could be read");
    names_come_from_the_target(trace);
    decodes_have_the_same_nodes(trace, 300);
    graphs_are_mostly_nodes(trace);
}

/// What holds for every model and build.
pub(crate) fn check_every(trace: &Trace, threads: usize) {
    let warnings: Vec<String> = trace.all_warnings().iter().map(ToString::to_string).collect();
    assert!(warnings.is_empty(), "{warnings:?}");
    let recording = trace.file.recording.as_ref().expect("described");
    assert_eq!((recording.level, recording.level_reason.as_str()), (Level::Thread, ""));
    assert_eq!(trace.file.ending.as_ref().expect("closed").lost, 0);
    assert!(trace.losses.is_empty());
    assert_eq!(trace.lanes().len(), threads);
    spans_nest_and_do_not_overlap(trace);
    every_node_has_a_span_on_each_thread(trace, threads);
    spans_fit_into_wall_time(trace);
}

/// The graphs' operators include these.
pub(crate) fn operators_are_named(trace: &Trace, wanted: &[&str]) {
    let tensors = trace.file.graphs.iter().flat_map(|graph| &graph.tensors);
    let ops: HashSet<&str> = tensors.map(|tensor| trace.file.string(tensor.op)).collect();
    for op in wanted {
        assert!(ops.contains(op), "{op} is not among {ops:?}");
    }
}

fn names_come_from_the_target(trace: &Trace) {
    operators_are_named(trace, &["NONE", "MUL_MAT", "RMS_NORM", "ROPE", "GLU", "ADD", "GET_ROWS"]);
    let variants =
        trace.file.graphs.iter().flat_map(|graph| &graph.tensors).map(|t| trace.file.string(t.variant));
    assert!(variants.into_iter().any(|variant| variant == "GEGLU"));
    let types = &trace.file.recording.as_ref().expect("described").types;
    let q4_k = types.iter().find(|known| known.name == "q4_K").expect("q4_K");
    assert_eq!((q4_k.block_elements, q4_k.block_bytes), (256, 144));
}

fn spans_nest_and_do_not_overlap(trace: &Trace) {
    for lane in trace.lanes() {
        let spans = trace.spans(lane.id);
        assert!(spans.is_sorted_by(|a, b| a.end() <= b.begin), "lane {} overlaps", lane.id);
        for span in &spans {
            let graph = trace.graph_span(span.graph_span).expect("a span has its graph");
            assert!(graph.begin <= span.begin && span.end() <= graph.end, "{span:?} leaves {graph:?}");
            assert!(trace.node_of(span).is_some());
            // Above the place are the number of the graph that runs beside, and of the process.
            assert_eq!(trace.thread_of(span).expect("a span has its thread").ith, lane.id % 1024);
        }
    }
    for graph in &trace.graph_spans {
        let Some(ubatch) = trace.ubatches.iter().find(|ubatch| ubatch.id == graph.ubatch) else { continue };
        assert!(ubatch.begin <= graph.begin && graph.end <= ubatch.end);
        if let Some(decode) = trace.decodes.iter().find(|decode| decode.id == ubatch.decode) {
            assert!(decode.begin <= ubatch.begin && ubatch.end <= decode.end);
        }
    }
}

fn every_node_has_a_span_on_each_thread(trace: &Trace, threads: usize) {
    let mut count: HashMap<(u32, u32), usize> = HashMap::new();
    for span in trace.lanes().iter().flat_map(|lane| trace.spans(lane.id)) {
        *count.entry((span.graph_span, span.node)).or_default() += 1;
    }
    assert!(!count.is_empty());
    for ((graph, node), count) in count {
        assert_eq!(count, threads, "node {node} of graph span {graph}");
    }
}

/// More than `least` of them.
pub(crate) fn decodes_have_the_same_nodes(trace: &Trace, least: usize) {
    let mut nodes: HashMap<u32, usize> = HashMap::new();
    for span in &trace.spans(trace.lanes()[0].id) {
        *nodes.entry(span.graph_span).or_default() += 1;
    }
    let mut counts = HashSet::new();
    let mut decodes = 0;
    for token in trace.tokens.iter().filter(|token| token.phase == Phase::Decode) {
        let graphs: Vec<_> = trace.graph_spans.iter().filter(|graph| graph.ubatch == token.ubatch).collect();
        // The one that ran when the recorder attached or left is not whole.
        if graphs.is_empty() || graphs.iter().any(|graph| graph.graph == NONE) {
            continue;
        }
        decodes += 1;
        counts.insert(graphs.iter().map(|graph| nodes.get(&graph.id).copied().unwrap_or(0)).sum::<usize>());
    }
    assert!(decodes > 2);
    assert_eq!(counts.len(), 1, "node counts differ between decode tokens: {counts:?}");
    assert!(counts.iter().all(|&count| count > least), "{counts:?}");
}

fn spans_fit_into_wall_time(trace: &Trace) {
    for lane in trace.lanes() {
        let spans = trace.spans(lane.id);
        let wall =
            TimeRange::new(spans.first().map_or(0, |span| span.begin), spans.last().map_or(0, OpSpan::end));
        let sum = busy(&spans);
        assert!(sum <= wall.nanos() && sum <= inside_graphs(trace), "{sum} ns");
    }
}

/// A busy machine takes its share between a barrier and the next begin.
fn graphs_are_mostly_nodes(trace: &Trace) {
    let inside = inside_graphs(trace);
    for lane in trace.lanes() {
        let sum = busy(&trace.spans(lane.id));
        assert!(sum * 2 > inside, "{sum} of {inside} ns");
    }
}

fn busy(spans: &[OpSpan]) -> u64 {
    spans.iter().map(|span| span.compute + span.wait).sum()
}

fn inside_graphs(trace: &Trace) -> u64 {
    trace.graph_spans.iter().map(|graph| graph.end - graph.begin).sum()
}
