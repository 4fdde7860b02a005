//! Generated traces, through the same file format as recorded ones: fast
//! answers equal slow, obvious ones.
#![expect(clippy::unwrap_used, reason = "tests may panic")]

use llmtrace_analysis::format::constants::kind;
use llmtrace_analysis::format::meta::{Ending, Graph, Tensor};
use llmtrace_analysis::format::tables::{Decode, GraphSpan, Loss, Ubatch};
use llmtrace_analysis::format::{Header, Source, Writer};
use llmtrace_analysis::search::{Direction, first_from, matches, occurrence};
use llmtrace_analysis::stats::{By, Distribution, Durations, Query, Stats};
use llmtrace_analysis::summary::summary;
use llmtrace_analysis::synth::{self, Options, Slow};
use llmtrace_analysis::totals::Total;
use llmtrace_analysis::{Found, NodeKey, OpSpan, Phase, Place, TimeRange, Trace, node};
use std::collections::BTreeMap;

fn trace_of(options: &Options) -> Trace {
    let bytes = synth::bytes(options).unwrap();
    let trace = Trace::open(Source::Bytes(bytes), &mut |_| true).unwrap();
    trace.load_nodes(&|_| true).unwrap();
    assert_eq!(trace.all_warnings(), []);
    trace
}

fn stats(trace: &Trace, query: &Query) -> Stats {
    llmtrace_analysis::stats::stats(trace, query, &|_| true).unwrap()
}

fn distribution(trace: &Trace, key: &NodeKey, lane: Option<u32>) -> Distribution {
    llmtrace_analysis::stats::distribution(trace, key, lane, &|_| true).unwrap()
}

fn totals_in_range(trace: &Trace, range: TimeRange, by: By) -> Vec<Total> {
    llmtrace_analysis::totals::totals_in_range(trace, range, by, &|_| true).unwrap()
}

fn trace(spans: u64, threads: u32, seed: u64) -> Trace {
    trace_of(&Options::new(spans, threads, seed))
}

fn all_spans(trace: &Trace) -> Vec<(u32, OpSpan)> {
    let lanes = trace.lanes().iter();
    lanes.flat_map(|lane| trace.spans(lane.id).into_iter().map(|span| (lane.id, span))).collect()
}

fn slow_key(trace: &Trace, by: By, lane: u32, span: &OpSpan) -> (String, Option<String>) {
    let (graph, _) = trace.node_of(span).unwrap();
    let name = trace.file.string(node::result(graph, span.node, span.fused).unwrap().name);
    let key = match by {
        By::Op => node::op_label(&trace.file, graph, span.node, span.fused),
        By::Name => name.to_owned(),
        By::Layer => node::layer(name).map_or("other".to_owned(), |layer| layer.to_string()),
        By::Thread => lane.to_string(),
        By::Token => {
            let token = trace.token_at(span.begin).unwrap();
            format!("{} {}", token.phase.name(), token.number)
        }
    };
    (key, (by == By::Name).then(|| node::op_label(&trace.file, graph, span.node, span.fused)))
}

/// Executions by key: for each (graph span, node), begin, end, compute, wait.
type Slow4 = BTreeMap<(String, Option<String>), BTreeMap<(u32, u32, u32), (u64, u64, u64, u64)>>;

fn slow_groups(trace: &Trace, query: &Query) -> Slow4 {
    let mut groups = Slow4::new();
    for (lane, span) in &all_spans(trace) {
        let (lane, span) = (*lane, span);
        let token = trace.token_at(span.begin).unwrap();
        if query.phase.is_some_and(|phase| phase != token.phase) {
            continue;
        }
        let separate = if query.by == By::Thread { lane } else { 0 };
        let executions = groups.entry(slow_key(trace, query.by, lane, span)).or_default();
        let found = executions.entry((span.graph_span, span.node, separate)).or_insert((u64::MAX, 0, 0, 0));
        found.0 = found.0.min(span.begin);
        found.1 = found.1.max(span.compute_end());
        found.2 += span.compute;
        found.3 += span.wait;
    }
    for executions in groups.values_mut() {
        executions.retain(|_, found| query.range.is_none_or(|range| range.contains(found.0)));
    }
    groups.retain(|_, executions| !executions.is_empty());
    groups
}

#[test]
fn groups_equal_the_slow_version() {
    // The last one is read in several pieces.
    for (spans, threads, seed) in [(12_000, 1, 1), (12_000, 2, 2), (12_000, 5, 3), (300_000, 2, 4)] {
        let trace = trace(spans, threads, seed);
        let middle = TimeRange::new(trace.range().nanos() / 4, trace.range().nanos() / 2);
        for by in By::ALL.into_iter().take(if spans > 20_000 { 1 } else { 5 }) {
            let whole = Query::by(by);
            let queries = [
                whole,
                Query { range: Some(middle), ..whole },
                Query { phase: Some(Phase::Decode), ..whole },
            ];
            for query in &queries[..if spans > 20_000 { 1 } else { 3 }] {
                let fast = stats(&trace, query);
                let slow = slow_groups(&trace, query);
                assert_eq!(fast.rows.len(), slow.len());
                let all: u64 = slow.values().flat_map(|group| group.values()).map(|e| e.2).sum();
                assert_eq!(fast.compute_nanos, all);
                assert!((fast.rows.iter().map(|row| row.share).sum::<f64>() - 1.0).abs() < 1e-9);
                for row in &fast.rows {
                    let group = &slow[&(row.key.clone(), row.op.clone())];
                    let mut walls: Vec<u64> = group.values().map(|e| e.1 - e.0).collect();
                    assert_eq!(row.count, group.len() as u64, "{by:?} {}", row.key);
                    assert_eq!(row.compute_nanos, group.values().map(|e| e.2).sum::<u64>());
                    assert_eq!(row.wait_nanos, Some(group.values().map(|e| e.3).sum::<u64>()));
                    assert_eq!(row.critical_nanos, walls.iter().sum::<u64>());
                    assert_eq!(row.wall, Durations::of(&mut walls));
                }
            }
        }
    }
}

#[test]
fn totals_of_a_range_are_exact_at_its_edges() {
    let trace = trace(260_000, 2, 9);
    let all = all_spans(&trace);
    let whole = trace.range();
    for by in [By::Op, By::Layer, By::Thread] {
        let keys: Vec<String> = all.iter().map(|(lane, span)| slow_key(&trace, by, *lane, span).0).collect();
        for (begin, end) in [
            (0, u64::MAX),
            (whole.nanos() / 3, whole.nanos() / 3 + 777),
            (5, 4),
            (whole.nanos() / 9, whole.nanos() / 9 * 7),
            (whole.begin, whole.end),
        ] {
            let range = TimeRange::new(begin, end);
            let mut slow = BTreeMap::<&str, (u64, u64, u64)>::new();
            let touches = |span: &OpSpan| span.begin < range.end && span.end() > range.begin;
            for (key, (_, span)) in keys.iter().zip(&all).filter(|(_, (_, span))| touches(span)) {
                let inside = |a: u64, b: u64| b.min(range.end).saturating_sub(a.max(range.begin));
                let sum = slow.entry(key).or_default();
                sum.0 += 1;
                sum.1 += inside(span.begin, span.compute_end());
                sum.2 += inside(span.compute_end(), span.end());
            }
            let rows = totals_in_range(&trace, range, by);
            let sums = |row: &Total| (row.spans, row.compute_nanos, row.wait_nanos.unwrap());
            let fast: BTreeMap<_, _> = rows.iter().map(|row| (row.key.as_str(), sums(row))).collect();
            assert_eq!(fast, slow, "{by:?} {range:?}");
            assert_eq!(rows.len(), fast.len());
        }
    }
    assert!(llmtrace_analysis::totals::totals_in_range(&trace, whole, By::Op, &|_| false).is_err());
}

#[test]
fn sums_that_the_file_brings_are_those_of_its_rows() {
    let bytes = synth::bytes(&Options::new(280_000, 2, 5)).unwrap();
    let stored = Trace::open(Source::Bytes(bytes.clone()), &mut |_| true).unwrap();
    // Without footer and sums: as if the recorder had been killed before it wrote them.
    let end = stored.file.blocks.iter().find(|block| block.kind == kind::EXECUTION_TOTALS).unwrap().offset;
    let killed = Trace::open(Source::Bytes(bytes[..end as usize].to_vec()), &mut |_| true).unwrap();
    assert!(stored.nodes_are_stored() && !killed.nodes_are_stored());
    stored.load_nodes(&|_| true).unwrap();
    assert!(killed.load_nodes(&|_| false).is_err() && killed.nodes().is_none());
    killed.load_nodes(&|_| true).unwrap();
    assert_eq!(stored.nodes(), killed.nodes());
    let operators = summary(&stored).operators;
    let rows = stats(&stored, &Query::by(By::Op)).rows;
    assert_eq!(operators.len(), rows.len());
    for (operator, row) in operators.iter().zip(&rows) {
        assert_eq!(
            (
                &operator.op,
                operator.count,
                operator.compute_nanos,
                operator.wait_nanos,
                operator.critical_nanos
            ),
            (&row.key, row.count, row.compute_nanos, row.wait_nanos, row.critical_nanos)
        );
        assert_eq!((operator.share, operator.wait_share), (row.share, row.wait_share));
    }
}

#[test]
fn a_summary_counts_tokens_and_time() {
    let trace = trace(40_000, 2, 4);
    let found = summary(&trace);
    assert_eq!((found.prefill.calls, found.prefill.tokens), (1, Some(128)));
    let decodes = trace.decodes.len() as u64 - 1;
    assert_eq!((found.decode.phase.calls, found.decode.phase.tokens), (decodes, Some(decodes)));
    let nanos: u64 = trace.decodes[1..].iter().map(|call| call.end - call.begin).sum();
    let rate = found.decode.phase.tokens_per_second.unwrap();
    assert!((rate - decodes as f64 * 1e9 / nanos as f64).abs() < 1e-6);
    let tpot = found.decode.tpot_ms.unwrap();
    assert!(tpot.min <= tpot.p50 && tpot.p50 <= tpot.p95 && tpot.p95 <= tpot.max);
    assert!((0.18..0.30).contains(&found.decode.between_ms.unwrap().p50));
    assert_eq!(
        (found.op_spans, found.threads, found.lost_events),
        (all_spans(&trace).len() as u64, Some(2), 0)
    );
    let names: Vec<_> = found.operators.iter().map(|operator| operator.op.as_str()).collect();
    assert!(names.contains(&"RMS_NORM+MUL") && names.contains(&"GEGLU"), "{names:?}");
    let json = serde_json::to_value(&found).unwrap();
    assert!(json["decode"]["tpot_ms"]["p95"].is_f64() && json["operators"][0]["time_ms"].is_f64());
    assert_eq!(json["level"], "thread");
}

#[test]
fn nothing_is_made_up_for_an_unloaded_or_empty_trace() {
    let bytes = synth::bytes(&Options::new(100, 1, 1)).unwrap();
    let trace = Trace::open(Source::Bytes(bytes), &mut |_| true).unwrap();
    assert!(summary(&trace).operators.is_empty());
    assert_eq!(summary(&trace).decode.tpot_ms, None);
    assert!(matches(&trace, "").is_empty());
}

#[test]
fn the_distribution_of_a_node_equals_its_row() {
    let trace = trace(20_000, 2, 6);
    let rows = stats(&trace, &Query::by(By::Name)).rows;
    for row in [&rows[0], &rows[50], rows.last().unwrap()] {
        let key = NodeKey { name: row.key.clone(), op: row.op.clone().unwrap() };
        let found = distribution(&trace, &key, None);
        assert_eq!((found.count, found.durations), (row.count, row.wall));
        assert_eq!(found.bins.iter().map(|bin| bin.count).sum::<u64>(), row.count);
        let lane = distribution(&trace, &key, Some(1));
        assert_eq!(lane.count, row.count);
        assert!(lane.durations.median_nanos <= found.durations.median_nanos);
    }
    assert_eq!(distribution(&trace, &NodeKey { name: "no".into(), op: "no".into() }, None).count, 0);
}

#[test]
fn search_finds_names_and_operators_and_steps_through_occurrences() {
    let trace = trace(20_000, 2, 7);
    let found = matches(&trace, "FFN_up");
    assert_eq!(found.len(), 18);
    assert_eq!((found[7].key.name.as_str(), found[7].key.op.as_str()), ("ffn_up-7", "MUL_MAT"));
    assert_eq!(found[7].count, trace.graph_spans.len() as u64);
    assert_eq!(matches(&trace, "geglu").len(), 18);
    assert!(matches(&trace, "nothing like it").is_empty());

    steps(&trace, "ffn_up-7");
}

/// Steps through all occurrences of a node, there and back.
fn steps(trace: &Trace, name: &str) {
    let key = matches(trace, name)[0].key.clone();
    let places: Vec<Found> = trace
        .spans(1)
        .into_iter()
        .zip(0..)
        .filter(|(span, _)| NodeKey::of(trace, span) == Some(key.clone()))
        .map(|(span, index)| Found { place: Place { lane: 1, index }, span })
        .collect();
    assert!(!places.is_empty());
    let next = |from: &Found, direction| occurrence(trace, &key, from.place, direction, &|| true);
    for pair in places.windows(2) {
        assert_eq!(next(&pair[0], Direction::Forward), Some(pair[1]));
        assert_eq!(next(&pair[1], Direction::Backward), Some(pair[0]));
        assert_eq!(first_from(trace, &key, (1, pair[1].span.begin), &|| true), Some(pair[1]));
        assert_eq!(first_from(trace, &key, (1, pair[0].span.begin + 1), &|| true), Some(pair[1]));
    }
    let last = places.last().unwrap();
    assert_eq!(next(last, Direction::Forward), None);
    assert_eq!(next(&places[0], Direction::Backward), None);
    assert_eq!(first_from(trace, &key, (1, 0), &|| true), Some(places[0]));
    assert_eq!(first_from(trace, &key, (9, 0), &|| true), None);
    assert_eq!(trace.span(last.place), Some(last.span));
    if places.len() > 1 {
        assert_eq!(occurrence(trace, &key, places[0].place, Direction::Forward, &|| false), None);
    }
}

#[test]
fn occurrences_are_found_across_blocks() {
    // The prompt's graph runs once, at the begin: nothing of it is in later segments.
    let trace = trace(330_000, 2, 3);
    assert!(trace.file.blocks.iter().filter(|block| block.kind == kind::NODE_TOTALS).count() > 4);
    steps(&trace, "result_output");
}

#[test]
fn generated_traces_keep_the_rules_of_recorded_ones() {
    let trace = trace(30_000, 3, 8);
    for lane in trace.lanes() {
        let spans = trace.spans(lane.id);
        assert!(spans.is_sorted_by(|a, b| a.end() <= b.begin));
        assert!(spans.iter().all(|span| trace.node_of(span).is_some()));
    }
    for run in &trace.graph_spans {
        let ubatch = trace.ubatches.iter().find(|ubatch| ubatch.id == run.ubatch).unwrap();
        assert!(ubatch.begin <= run.begin && run.end <= ubatch.end);
    }
    let decode = |span: &&OpSpan| span.graph_span > 0;
    let per_token = trace.spans(0).iter().filter(decode).count() / (trace.graph_spans.len() - 1);
    assert_eq!(per_token, 400);
    let options = Options::new(5_000, 2, 3);
    assert_eq!(synth::bytes(&options).unwrap(), synth::bytes(&options).unwrap());
    let slow: Slow = "ffn_up=+50%".parse().unwrap();
    assert!("ffn_up".parse::<Slow>().is_err() && "a=20".parse::<Slow>().is_err());
    let slowed = trace_of(&Options { slow: vec![slow], ..options.clone() });
    let median = |trace: &Trace| {
        let key = NodeKey { name: "ffn_up-3".into(), op: "MUL_MAT".into() };
        distribution(trace, &key, Some(0)).durations.median_nanos as f64
    };
    let ratio = median(&slowed) / median(&trace_of(&options));
    assert!((1.4..1.6).contains(&ratio), "{ratio}");
}

/// A file whose checksums hold and whose numbers are nonsense.
#[test]
fn nonsense_in_a_file_is_no_panic() {
    let mut writer = Writer::new(Vec::new(), Header::new(u64::MAX, u64::MAX)).unwrap();
    let graph = Graph { id: 7, tensors: vec![Tensor::default(); 2], nodes: 9 };
    writer.write_graph(&graph).unwrap();
    writer.write_graph(&graph).unwrap();
    for id in [0, 0, u32::MAX] {
        let (begin, end) = (u64::MAX - 5, u64::MAX);
        writer.push_decode(Decode { id, begin: 0, end, tokens: u32::MAX, ..Decode::default() });
        writer.push_decode(Decode { id, begin, end: 3, tokens: 1, ..Decode::default() });
        writer.push_ubatch(Ubatch { id, begin: 9, end: 2, decode: id, phase: 77, ..Ubatch::default() });
        writer.push_graph_span(GraphSpan { id, begin, end: 0, graph: 7, ubatch: id, ..GraphSpan::default() });
        writer.push_loss(Loss { begin, end: 0, event: 999, count: u64::MAX, cpu: 0 });
    }
    for node in [0, 1, 5, u32::MAX] {
        for (graph_span, fused) in [(0, 0), (0, u32::MAX), (5, 3), (u32::MAX, 1)] {
            let compute = u64::from(node) << 20;
            let span = OpSpan { begin: 5, compute, wait: 3, node, fused, graph_span, ..OpSpan::default() };
            writer.push_op_span(node % 3, span).unwrap();
        }
    }
    let trace =
        Trace::open(Source::Bytes(writer.finish(&Ending::default()).unwrap()), &mut |_| true).unwrap();
    trace.load_nodes(&|_| true).unwrap();
    assert!(summary(&trace).lost_events == u64::MAX);
    for by in By::ALL {
        assert!(!stats(&trace, &Query::by(by)).rows.is_empty());
    }
    for range in [TimeRange::new(0, u64::MAX), TimeRange::new(u64::MAX, u64::MAX)] {
        totals_in_range(&trace, range, By::Op);
    }
    for found in matches(&trace, "") {
        distribution(&trace, &found.key, None);
        for direction in [Direction::Forward, Direction::Backward] {
            occurrence(&trace, &found.key, Place { lane: found.lane, index: 1 }, direction, &|| true);
        }
    }
}
