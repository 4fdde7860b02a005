//! Exports hold every row.
#![expect(clippy::unwrap_used, reason = "tests may panic")]

use llmtrace_analysis::export::{CSV_FILES, ExportReport, chrome, csv, perfetto};
use llmtrace_analysis::format::Source;
use llmtrace_analysis::format::constants::kind;
use llmtrace_analysis::format::machine::State;
use llmtrace_analysis::inference::{KvCurve, kv_curves};
use llmtrace_analysis::{Place, TimeRange, Trace};
use serde_json::Value;
use std::collections::BTreeMap;

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

/// The files of an export, in their order, with how many rows it says there are.
fn tables(trace: &Trace, range: TimeRange) -> (Vec<String>, ExportReport) {
    let (mut names, mut texts) = (Vec::new(), Vec::new());
    let mut open = |name: &str| {
        names.push(name.to_owned());
        Ok(Vec::new())
    };
    let mut close = |bytes| {
        texts.push(String::from_utf8(bytes).unwrap());
        Ok(())
    };
    let report = csv(trace, range, &mut open, &mut close, &mut |_| true).unwrap();
    assert_eq!(names, CSV_FILES);
    (texts, report)
}

#[test]
fn csv_has_a_line_for_every_row_and_as_many_fields_as_its_heading() {
    for name in [
        "gemma3-270m-2t",
        "gemma3-270m-server-1t",
        "gemma3-270m-vulkan9-2t",
        "qwen3moe-synthetic-2t",
        "gemma3-270m-preempted-2t",
        "gemma3-270m-cold-1t",
        "gemma3-270m-counters-2t",
    ] {
        let trace = sample(name);
        let (texts, _) = tables(&trace, ALL);
        let rows_of = |kind: u16| -> u64 {
            trace
                .file
                .blocks
                .iter()
                .filter(|block| block.kind == kind)
                .map(|block| u64::from(block.rows))
                .sum()
        };
        for (file, text) in CSV_FILES.iter().zip(&texts) {
            let rows = rows_of(match *file {
                "decodes.csv" => kind::DECODES,
                "ubatches.csv" => kind::UBATCHES,
                "graph_spans.csv" => kind::GRAPH_SPANS,
                "op_spans.csv" => kind::OP_SPANS,
                "scheduler_runs.csv" => kind::SCHEDULER_RUNS,
                "splits.csv" => kind::SPLITS,
                "copies.csv" => kind::COPIES,
                "waits.csv" => kind::SYNCS,
                "sequence_runs.csv" => kind::SEQUENCE_RUNS,
                "kv_operations.csv" => kind::KV_OPERATIONS,
                "calls.csv" => kind::CALLS,
                "speculations.csv" => kind::SPECULATIONS,
                "token_ids.csv" => kind::TOKENS,
                "selections.csv" => kind::SELECTIONS,
                "experts.csv" => kind::EXPERTS,
                "thread_states.csv" => kind::THREAD_STATES,
                "cpu_frequencies.csv" => kind::FREQUENCIES,
                "page_faults.csv" => kind::FAULTS,
                "block_reads.csv" => kind::BLOCK_READS,
                "op_counters.csv" => kind::OP_COUNTERS,
                "process_samples.csv" => kind::PROCESS_SAMPLES,
                "system_samples.csv" => kind::SYSTEM_SAMPLES,
                other => panic!("{other}"),
            });
            // A row for each counter.
            let rows = if *file == "op_counters.csv" { rows * trace.counters().len() as u64 } else { rows };
            let mut lines = text.lines();
            let fields = lines.next().unwrap().split(',').count();
            assert_eq!(lines.clone().count() as u64, rows, "{name} {file}");
            // Quoted are the names of what copies, in asynchronous ways.
            let split = |line: &str| line.replace("\"copy, a", "").split(',').count();
            assert!(lines.all(|line| line.contains('"') || split(line) == fields), "{name} {file}");
        }
        assert!(texts[3].contains(",MUL_MAT,"), "{name}");
    }
}

#[test]
fn csv_names_backends_and_says_nothing_of_what_is_unknown() {
    let (texts, _) = tables(&sample("gemma3-270m-vulkan9-2t"), ALL);
    let of = |name: &str| &texts[CSV_FILES.iter().position(|file| *file == name).unwrap()];
    assert!(of("splits.csv").contains(",Vulkan0,") && of("copies.csv").contains(",host to device,"));
    assert!(of("waits.csv").starts_with("begin_ns,end_ns,backend,run,tid,process,touched_by_loss\n"));
    let (texts, _) = tables(&sample("gemma3-270m-server-1t"), ALL);
    assert!(texts.iter().all(|text| !text.contains(&u32::MAX.to_string())));
    let (texts, _) = tables(&sample("qwen3moe-synthetic-2t"), ALL);
    let selections = &texts[CSV_FILES.iter().position(|file| *file == "selections.csv").unwrap()];
    assert!(selections.lines().nth(1).unwrap().ends_with(",whole"), "{selections}");
}

/// Events of a category, on tracks by themselves: nested, never crossing.
fn slices<'a>(events: &'a [Value], category: &str) -> Vec<&'a Value> {
    let of: Vec<&Value> = events.iter().filter(|event| event["cat"] == category).collect();
    let mut tracks: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for event in &of {
        let nanos = |value: &Value| (value.as_f64().unwrap() * 1000.0).round() as u64;
        let (begin, dur) = (nanos(&event["ts"]), nanos(&event["dur"]));
        let open = tracks.entry(event["tid"].as_u64().unwrap()).or_default();
        open.retain(|end| *end > begin);
        assert!(open.iter().all(|end| begin + dur <= *end), "{event}");
        open.push(begin + dur);
    }
    for other in events.iter().filter(|event| event["ph"] == "X" && event["cat"] != category) {
        assert!(!tracks.contains_key(&other["tid"].as_u64().unwrap()), "{other}");
    }
    of
}

#[test]
fn splits_copies_waits_and_calls_are_slices_and_cells_a_counter() {
    for name in ["gemma3-270m-vulkan9-2t", "gemma3-270m-server-1t"] {
        let trace = sample(name);
        let (bytes, report) = chrome(&trace, ALL, Vec::new(), &mut |_| true).unwrap();
        let json: Value = serde_json::from_slice(&bytes).unwrap();
        let events = json["traceEvents"].as_array().unwrap();
        let offload = &trace.offload;
        for (category, rows) in [
            ("scheduler", offload.runs.len()),
            ("split", offload.splits.len()),
            ("copy", offload.copies.len()),
            ("wait", offload.syncs.len()),
            ("call", trace.inference.calls.len()),
        ] {
            assert_eq!(slices(events, category).len(), rows, "{name} {category}");
        }
        let counters = events.iter().filter(|event| event["ph"] == "C");
        let cells: Vec<u64> = counters.filter_map(|event| event["args"]["cells"].as_u64()).collect();
        let curves = kv_curves(&trace);
        assert_eq!(cells.len(), curves.iter().map(|curve| curve.points.len()).sum::<usize>());
        assert_eq!(cells.iter().max().copied(), curves.iter().map(KvCurve::most).max());
        assert!(!cells.is_empty(), "{name}");
        let slices = events.iter().filter(|event| event["ph"] == "X").count() as u64;
        assert_eq!(slices, report.rows + report.op_spans);
    }
    let trace = sample("gemma3-270m-vulkan9-2t");
    let (bytes, _) = chrome(&trace, ALL, Vec::new(), &mut |_| true).unwrap();
    let json: Value = serde_json::from_slice(&bytes).unwrap();
    let events = json["traceEvents"].as_array().unwrap();
    let bytes = |event: &&Value| event["args"]["bytes"].as_u64().unwrap();
    let all: u64 = slices(events, "copy").iter().map(bytes).sum();
    assert_eq!(all, trace.offload.copies.iter().map(|copy| copy.bytes).sum::<u64>());
    let split = &trace.offload.splits[0];
    let found = slices(events, "split").into_iter().find(|event| event["args"]["split"] == split.id).unwrap();
    assert_eq!(found["args"]["nodes"], split.nodes);
}

/// Events of a counter by its name: times in nanoseconds and values.
fn counter(events: &[Value], name: &str, unit: &str) -> Vec<(u64, f64)> {
    let of = events.iter().filter(|event| event["ph"] == "C" && event["name"] == name);
    of.map(|event| {
        let time = (event["ts"].as_f64().unwrap() * 1000.0).round() as u64;
        (time, event["args"][unit].as_f64().unwrap())
    })
    .collect()
}

#[test]
fn states_faults_and_reads_are_slices_with_their_time() {
    let mut seen = [0; 3];
    for name in ["gemma3-270m-preempted-2t", "gemma3-270m-cold-1t"] {
        let trace = sample(name);
        let (bytes, report) = chrome(&trace, ALL, Vec::new(), &mut |_| true).unwrap();
        let json: Value = serde_json::from_slice(&bytes).unwrap();
        let events = json["traceEvents"].as_array().unwrap();
        let found = ["state", "fault", "read"].map(|category| slices(events, category));
        let states = llmtrace_analysis::machine::state_totals(&trace, None);
        let nanos = |state: &str| -> u64 {
            let of = found[0].iter().filter(|event| event["name"] == state);
            of.map(|event| (event["dur"].as_f64().unwrap() * 1000.0).round() as u64).sum()
        };
        for state in State::ALL {
            let wanted: u64 = states.threads.iter().map(|thread| thread.sums.of(state)).sum();
            assert_eq!(nanos(state.name()), wanted, "{name} {}", state.name());
        }
        let count = |events: &[&Value], what: &str| -> u64 {
            events.iter().filter_map(|event| event["args"][what].as_u64()).sum()
        };
        let faults = llmtrace_analysis::machine::fault_totals(&trace, None, None);
        assert_eq!(count(&found[1], "count"), faults.count);
        assert_eq!(count(&found[1], "major"), faults.major);
        assert_eq!(count(&found[1], "wait_ns"), faults.wait_nanos);
        assert_eq!(count(&found[2], "bytes"), trace.machine.read_sums(ALL).1);
        for (seen, found) in seen.iter_mut().zip(&found) {
            *seen += found.len();
        }
        assert_eq!(
            events.iter().filter(|event| event["ph"] == "X").count() as u64,
            report.rows + report.op_spans
        );
    }
    assert!(seen.iter().all(|seen| *seen > 0), "{seen:?}");
}

#[test]
fn op_spans_have_their_counts_and_counters_add_up_to_them() {
    let trace = sample("gemma3-270m-counters-2t");
    let (bytes, _) = chrome(&trace, ALL, Vec::new(), &mut |_| true).unwrap();
    let json: Value = serde_json::from_slice(&bytes).unwrap();
    let events = json["traceEvents"].as_array().unwrap();
    let by_op = llmtrace_analysis::stats::counts_by_operator(&trace);
    for (number, of) in trace.counters().iter().enumerate() {
        let counts = events.iter().filter(|event| event["cat"] == "op");
        let found: u64 = counts.filter_map(|event| event["args"][&of.name].as_u64()).sum();
        let wanted: u64 = by_op.iter().filter_map(|(_, counted)| counted[number].sum).sum();
        assert!(wanted > 0 && found == wanted, "{}: {found} of {wanted}", of.name);
        // Over time: rates until the next one.
        let (unit, per) = if of.unit == "ns" { ("CPUs", 1e9) } else { ("1/s", 1.0) };
        let name = format!("{} (in operators)", of.name);
        let at_least = format!("{} (at least, in operators)", of.name);
        let mut points = counter(events, &name, unit);
        points.extend(counter(events, &at_least, unit));
        points.push((trace.range().end, 0.0));
        let sum: f64 = points.windows(2).map(|two| two[0].1 * per * (two[1].0 - two[0].0) as f64 / 1e9).sum();
        assert!((sum / wanted as f64 - 1.0).abs() < 0.02, "{}: {sum} of {wanted}", of.name);
    }
    let samples = &trace.counts.samples.processes;
    let memory = counter(events, "memory", "bytes");
    let wanted: Vec<(u64, f64)> =
        samples.iter().filter_map(|row| Some((row.time, row.resident.checked_sub(1)? as f64))).collect();
    assert_eq!(memory, wanted);
    // A rate begins where the sample before was taken.
    let cpu = counter(events, "CPU time", "CPUs");
    assert_eq!(cpu.first().map(|point| point.0), samples.first().map(|row| row.time));
    assert_eq!(cpu.len() + 1, samples.len());
}

#[test]
fn a_range_limits_every_export_and_all_can_be_cancelled() {
    let trace = sample("gemma3-270m-2t");
    let range = trace.tokens[2].range;
    let whole = chrome(&trace, ALL, Vec::new(), &mut |_| true).unwrap().1;
    let a = chrome(&trace, range, Vec::new(), &mut |_| true).unwrap().1;
    let b = perfetto(&trace, range, Vec::new(), &mut |_| true).unwrap().1;
    let c = tables(&trace, range).1;
    assert!(a.op_spans > 0 && a.op_spans < whole.op_spans);
    assert_eq!(a, b);
    // The rows around graphs are of no call, and not counted by the tables.
    assert_eq!(a.op_spans, c.op_spans);
    assert!(chrome(&trace, ALL, Vec::new(), &mut |_| false).is_err());
    assert!(perfetto(&trace, ALL, Vec::new(), &mut |_| false).is_err());
    let mut open = |_: &str| Ok(Vec::new());
    assert!(csv(&trace, ALL, &mut open, &mut |_| Ok(()), &mut |_| false).is_err());
}
