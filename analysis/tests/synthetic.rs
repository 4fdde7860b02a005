//! Generated traces, through the same file format as recorded ones: fast
//! answers equal slow, obvious ones.
#![expect(clippy::unwrap_used, reason = "tests may panic")]

use llmtrace_analysis::format::meta::{Ending, Graph, Tensor};
use llmtrace_analysis::format::tables::{Decode, GraphSpan, Loss, Ubatch};
use llmtrace_analysis::format::{Header, Source, Writer};
use llmtrace_analysis::search::{Direction, Place, find, matches, next_occurrence, previous_occurrence};
use llmtrace_analysis::stats::{By, Durations, Query, distribution, stats, totals_in_range};
use llmtrace_analysis::summary::summary;
use llmtrace_analysis::synth::{self, Options, Slow};
use llmtrace_analysis::{NodeKey, OpSpan, Phase, TimeRange, Trace, node};
use std::collections::BTreeMap;

fn trace_of(options: &Options) -> Trace {
    let bytes = synth::bytes(options).unwrap();
    let trace = Trace::open(Source::Bytes(bytes), &mut |_| true).unwrap();
    trace.load_spans(&|_| true).unwrap();
    assert_eq!(trace.all_warnings().count(), 0);
    trace
}

fn trace(spans: u64, threads: u32, seed: u64) -> Trace {
    trace_of(&Options::new(spans, threads, seed))
}

fn all_spans(trace: &Trace) -> impl Iterator<Item = (u32, &OpSpan)> {
    trace.lanes().iter().flat_map(|lane| lane.spans.iter().map(|span| (lane.id, span)))
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
    for (lane, span) in all_spans(trace) {
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
    for (threads, seed) in [(1, 1), (2, 2), (5, 3)] {
        let trace = trace(12_000, threads, seed);
        let middle = TimeRange::new(trace.range().nanos() / 4, trace.range().nanos() / 2);
        for by in By::ALL {
            let whole = Query::by(by);
            for query in
                [whole, Query { range: Some(middle), ..whole }, Query { phase: Some(Phase::Decode), ..whole }]
            {
                let fast = stats(&trace, &query);
                let slow = slow_groups(&trace, &query);
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
    let trace = trace(8_000, 3, 9);
    let whole = trace.range();
    for (begin, end) in [
        (0, u64::MAX),
        (whole.nanos() / 3, whole.nanos() / 3 + 777),
        (5, 4),
        (whole.nanos() / 2, whole.nanos()),
    ] {
        let range = TimeRange::new(begin, end);
        let (mut compute, mut wait) = (BTreeMap::<String, u64>::new(), 0u64);
        for (lane, span) in all_spans(&trace) {
            let inside = |a: u64, b: u64| b.min(range.end).saturating_sub(a.max(range.begin));
            let nanos = inside(span.begin, span.compute_end());
            *compute.entry(slow_key(&trace, By::Op, lane, span).0).or_default() += nanos;
            wait += inside(span.compute_end(), span.end());
        }
        let rows = totals_in_range(&trace, range);
        assert_eq!(rows.iter().map(|row| row.wait_nanos.unwrap()).sum::<u64>(), wait);
        for row in &rows {
            assert_eq!(row.compute_nanos, compute[&row.op]);
        }
        assert_eq!(rows.iter().map(|r| r.compute_nanos).sum::<u64>(), compute.values().sum::<u64>());
    }
    let executions: u64 = totals_in_range(&trace, whole).iter().map(|row| row.count).sum();
    assert_eq!(executions, stats(&trace, &Query::by(By::Op)).count);
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
        (all_spans(&trace).count() as u64, Some(2), 0)
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
    assert!(stats(&trace, &Query::by(By::Name)).rows.is_empty());
    assert!(matches(&trace, "").is_empty() && totals_in_range(&trace, trace.range()).is_empty());
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

    let lane = trace.lane(1).unwrap();
    let slow: Vec<usize> = (0..lane.spans.len())
        .filter(|&i| NodeKey::of(&trace, &lane.spans[i]).is_some_and(|key| key.name == "ffn_up-7"))
        .collect();
    for pair in slow.windows(2) {
        let places = [pair[0], pair[1]].map(|index| Place { lane: 1, index });
        assert_eq!(next_occurrence(&trace, places[0]), Some(places[1]));
        assert_eq!(previous_occurrence(&trace, places[1]), Some(places[0]));
        let time = lane.spans[pair[0]].begin;
        assert_eq!(find(&trace, "ffn_up-7", (1, time), Direction::Forward), Some(places[1]));
        let time = lane.spans[pair[1]].begin;
        assert_eq!(find(&trace, "ffn_up-7", (1, time), Direction::Backward), Some(places[0]));
    }
    let last = Place { lane: 1, index: *slow.last().unwrap() };
    assert_eq!(next_occurrence(&trace, last), None);
    assert_eq!(find(&trace, "x", (9, 0), Direction::Forward), None);
}

#[test]
fn generated_traces_keep_the_rules_of_recorded_ones() {
    let trace = trace(30_000, 3, 8);
    for lane in trace.lanes() {
        assert!(lane.spans.is_sorted_by(|a, b| a.end() <= b.begin));
        assert!(lane.spans.iter().all(|span| trace.node_of(span).is_some()));
    }
    for run in &trace.graph_spans {
        let ubatch = trace.ubatches.iter().find(|ubatch| ubatch.id == run.ubatch).unwrap();
        assert!(ubatch.begin <= run.begin && run.end <= ubatch.end);
    }
    let decode = |span: &&OpSpan| span.graph_span > 0;
    let per_token = trace.lanes()[0].spans.iter().filter(decode).count() / (trace.graph_spans.len() - 1);
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
    trace.load_spans(&|_| true).unwrap();
    assert!(summary(&trace).lost_events == u64::MAX);
    for by in By::ALL {
        assert!(!stats(&trace, &Query::by(by)).rows.is_empty());
    }
    for range in [TimeRange::new(0, u64::MAX), TimeRange::new(u64::MAX, u64::MAX)] {
        totals_in_range(&trace, range);
    }
    for found in matches(&trace, "") {
        distribution(&trace, &found.key, None);
        next_occurrence(&trace, found.first);
        previous_occurrence(&trace, found.first);
    }
}
