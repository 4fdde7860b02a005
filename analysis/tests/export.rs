//! Exports hold every row.
#![expect(clippy::unwrap_used, reason = "tests may panic")]

use llmtrace_analysis::export::{CSV_FILES, chrome, csv, perfetto};
use llmtrace_analysis::format::Source;
use llmtrace_analysis::{Place, TimeRange, Trace};
use serde_json::Value;

const ALL: TimeRange = TimeRange { begin: 0, end: u64::MAX };

fn sample(name: &str) -> Trace {
    let path = format!("{}/../sample-traces/{name}.llmtrace", env!("CARGO_MANIFEST_DIR"));
    Trace::open(Source::Bytes(std::fs::read(path).unwrap()), &mut |_| true).unwrap()
}

#[test]
fn chrome_json_has_an_event_for_every_row() {
    for name in ["gemma3-270m-1t", "gemma3-270m-2t", "qwen3moe-synthetic-2t"] {
        let trace = sample(name);
        let (bytes, report) = chrome(&trace, ALL, Vec::new(), &mut |_| true).unwrap();
        let json: Value = serde_json::from_slice(&bytes).unwrap();
        let events = json["traceEvents"].as_array().unwrap();
        let of = |category: &str| events.iter().filter(|event| event["cat"] == category).count();
        assert_eq!(of("op") as u64, trace.op_span_count());
        assert_eq!(report.op_spans, trace.op_span_count());
        assert_eq!(of("decode"), trace.decodes.len());
        assert_eq!(of("ubatch"), trace.ubatches.len());
        assert_eq!(of("graph"), trace.graph_spans.len());
        let span = trace.span(Place { lane: trace.lanes()[0].id, index: 10 }).unwrap();
        let event = events.iter().filter(|event| event["cat"] == "op" && event["tid"] == 1).nth(10).unwrap();
        assert_eq!((event["ts"].as_f64().unwrap() * 1000.0).round() as u64, span.begin);
        assert_eq!((event["dur"].as_f64().unwrap() * 1000.0).round() as u64, span.compute);
        assert_eq!((event["args"]["wait_us"].as_f64().unwrap() * 1000.0).round() as u64, span.wait);
    }
}

#[test]
fn csv_has_a_line_for_every_row_and_as_many_fields_as_its_heading() {
    let trace = sample("gemma3-270m-2t");
    let mut sinks = [const { Vec::new() }; 4];
    csv(&trace, ALL, &mut sinks, &mut |_| true).unwrap();
    let rows = [
        trace.decodes.len() as u64,
        trace.ubatches.len() as u64,
        trace.graph_spans.len() as u64,
        trace.op_span_count(),
    ];
    for ((name, bytes), rows) in CSV_FILES.iter().zip(&sinks).zip(rows) {
        let text = std::str::from_utf8(bytes).unwrap();
        let mut lines = text.lines();
        let fields = lines.next().unwrap().split(',').count();
        assert_eq!(lines.clone().count() as u64, rows, "{name}");
        assert!(lines.all(|line| line.split(',').count() == fields), "{name}");
    }
    assert!(String::from_utf8_lossy(&sinks[3]).contains(",MUL_MAT,"));
}

#[test]
fn a_range_limits_every_export_and_all_can_be_cancelled() {
    let trace = sample("gemma3-270m-2t");
    let range = trace.tokens[2].range;
    let whole = chrome(&trace, ALL, Vec::new(), &mut |_| true).unwrap().1;
    let a = chrome(&trace, range, Vec::new(), &mut |_| true).unwrap().1;
    let b = perfetto(&trace, range, Vec::new(), &mut |_| true).unwrap().1;
    let c = csv(&trace, range, &mut [const { Vec::new() }; 4], &mut |_| true).unwrap();
    assert!(a.op_spans > 0 && a.op_spans < whole.op_spans);
    assert_eq!(a, b);
    assert_eq!(a, c);
    assert!(chrome(&trace, ALL, Vec::new(), &mut |_| false).is_err());
    assert!(perfetto(&trace, ALL, Vec::new(), &mut |_| false).is_err());
    assert!(csv(&trace, ALL, &mut [const { Vec::new() }; 4], &mut |_| false).is_err());
}
