//! Cutting time ranges out of traces.
#![expect(clippy::unwrap_used, reason = "tests may panic")]

use llmtrace_analysis::cut::{RangeError, compact, cut, parse_range};
use llmtrace_analysis::format::Source;
use llmtrace_analysis::format::check::check;
use llmtrace_analysis::synth::{self, Options};
use llmtrace_analysis::{TimeRange, Trace};

fn open(bytes: Vec<u8>) -> Trace {
    Trace::open(Source::Bytes(bytes), &mut |_| true).unwrap()
}

fn sample(name: &str) -> Trace {
    let path = format!("{}/../sample-traces/{name}.llmtrace", env!("CARGO_MANIFEST_DIR"));
    open(std::fs::read(path).unwrap())
}

fn cut_bytes(trace: &Trace, range: TimeRange) -> Vec<u8> {
    cut(trace, range, Vec::new(), &mut |_| true).unwrap().0
}

fn assert_whole(bytes: &[u8]) {
    let checked = check(Source::Bytes(bytes.to_vec()), &mut |_| true).unwrap();
    assert!(checked.is_whole(), "{:?}", checked.problems);
}

#[test]
fn samples_cut_to_everything_are_the_same() {
    for name in ["gemma3-270m-1t", "gemma3-270m-2t", "qwen3moe-synthetic-2t"] {
        let trace = sample(name);
        let bytes = cut_bytes(&trace, TimeRange::new(0, u64::MAX));
        assert_whole(&bytes);
        let again = open(bytes);
        assert_eq!(again.decodes, trace.decodes);
        assert_eq!(again.ubatches, trace.ubatches);
        assert_eq!(again.graph_spans, trace.graph_spans);
        assert_eq!(again.losses, trace.losses);
        assert_eq!(again.file.threads, trace.file.threads);
        for (a, b) in again.lanes().iter().zip(trace.lanes()) {
            assert_eq!((a.id, again.spans(a.id)), (b.id, trace.spans(b.id)));
        }
    }
}

#[test]
fn compacted_traces_hold_the_same_and_are_smaller() {
    let synthetic = open(synth::bytes(&Options::new(250_000, 2, 7)).unwrap());
    for trace in [sample("gemma3-270m-2t"), synthetic] {
        let (bytes, report) = compact(&trace, Vec::new(), &mut |_| true).unwrap();
        assert_whole(&bytes);
        let per_span = bytes.len() as f64 / trace.op_span_count() as f64;
        assert!(per_span <= 3.0, "{per_span} bytes an op span");
        let again = open(bytes);
        assert_eq!(report.op_spans, trace.op_span_count());
        assert_eq!(
            (&again.file.ending, &again.file.header.start_unix_nanos),
            (&trace.file.ending, &trace.file.header.start_unix_nanos)
        );
        for lane in trace.lanes() {
            assert_eq!(again.spans(lane.id), trace.spans(lane.id));
        }
        again.load_nodes(&|_| true).unwrap();
        trace.load_nodes(&|_| true).unwrap();
        assert_eq!(again.nodes(), trace.nodes());
        // What was compacted can be compacted, and cut.
        let twice = compact(&again, Vec::new(), &mut |_| true).unwrap().0;
        assert_whole(&twice);
        assert!(twice.len() as u64 <= again.file.len() + again.file.len() / 100);
        let cut = open(cut_bytes(&again, TimeRange::new(0, u64::MAX)));
        for lane in trace.lanes() {
            assert_eq!(cut.spans(lane.id), trace.spans(lane.id));
        }
    }
    let trace = sample("gemma3-270m-1t");
    assert!(compact(&trace, Vec::new(), &mut |_| false).is_err());
}

#[test]
fn a_range_keeps_exactly_the_rows_that_touch_it() {
    let trace = open(synth::bytes(&Options::new(300_000, 3, 7)).unwrap());
    let all = trace.range();
    for part in [(0.3, 0.4), (0.0, 0.01), (0.99, 1.0), (0.5, 0.500_001)] {
        let at = |share: f64| all.begin + (all.nanos() as f64 * share) as u64;
        let range = TimeRange::new(at(part.0), at(part.1));
        let bytes = cut_bytes(&trace, range);
        assert_whole(&bytes);
        let found = open(bytes);
        for lane in trace.lanes() {
            let expected: Vec<_> = trace
                .spans(lane.id)
                .into_iter()
                .filter(|span| {
                    span.begin < range.end && (span.end() > range.begin || span.begin >= range.begin)
                })
                .collect();
            assert_eq!(found.spans(lane.id), expected);
        }
        assert!(found.graph_spans.len() < trace.graph_spans.len());
        assert_eq!(found.file.header, trace.file.header);
    }
}

#[test]
fn ranges_are_read_as_people_write_them() {
    let trace = sample("gemma3-270m-2t");
    let parse = |text: &str| parse_range(text, &trace);
    assert_eq!(parse("1.5s..3s"), Ok(TimeRange::new(1_500_000_000, 3_000_000_000)));
    assert_eq!(parse("200ms.."), Ok(TimeRange::new(200_000_000, u64::MAX)));
    assert_eq!(parse("..2us"), Ok(TimeRange::new(0, 2_000)));
    assert_eq!(parse("all"), Ok(TimeRange::new(0, u64::MAX)));
    let (first, last) = (trace.tokens[1].range, trace.tokens[trace.tokens.len() - 1].range);
    assert_eq!(parse("token:1"), Ok(first));
    let end = trace.tokens.len();
    assert_eq!(parse(&format!("token:1..token:{end}")), Ok(TimeRange::new(first.begin, last.end)));
    assert!(matches!(parse("token:999999"), Err(RangeError::Token { number: 999_999, .. })));
    assert!(matches!(parse("3s..1s"), Err(RangeError::Empty { .. })));
    assert!(matches!(parse("3..4s"), Err(RangeError::Time { .. })));
    assert!(matches!(parse("-3s..4s"), Err(RangeError::Time { .. })));
    assert!(matches!(parse("yesterday"), Err(RangeError::Form { .. })));
}
