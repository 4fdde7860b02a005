//! Parquet files say what the trace says, and what the manual says they hold.
#![expect(clippy::unwrap_used, reason = "tests may panic")]

use llmtrace_analysis::export::{ExportReport, PARQUET_FILES, parquet};
use llmtrace_analysis::format::machine::{State, ThreadStates};
use llmtrace_analysis::format::{ColumnSet, OpSpan, OpSpans, Result, Source};
use llmtrace_analysis::synth::{self, Options};
use llmtrace_analysis::{TimeRange, Trace, node};
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::{Field, Row};
use std::collections::BTreeMap;
use std::fs::File;

const ALL: TimeRange = TimeRange { begin: 0, end: u64::MAX };
const SAMPLES: [&str; 3] = ["gemma3-270m-1t", "gemma3-270m-2t", "qwen3moe-synthetic-2t"];

type Tables = BTreeMap<String, SerializedFileReader<File>>;

fn open(bytes: Vec<u8>) -> Trace {
    Trace::open(Source::Bytes(bytes), &mut |_| true).unwrap()
}

fn sample(name: &str) -> Trace {
    open(std::fs::read(format!("{}/../sample-traces/{name}.llmtrace", env!("CARGO_MANIFEST_DIR"))).unwrap())
}

/// The files of an export, by the names of their tables.
fn export(trace: &Trace, range: TimeRange) -> (Tables, ExportReport) {
    let (mut names, mut tables) = (Vec::new(), Vec::new());
    let mut open = |name: &str| {
        names.push(name.to_owned());
        Ok(tempfile::tempfile()?)
    };
    let mut close = |file| {
        tables.push(SerializedFileReader::new(file).unwrap());
        Ok(())
    };
    let report = parquet(trace, range, &mut open, &mut close, &mut |_| true).unwrap();
    assert_eq!(names, PARQUET_FILES);
    let names = names.iter().map(|name| name.trim_end_matches(".parquet").to_owned());
    (names.zip(tables).collect(), report)
}

fn rows(tables: &Tables, table: &str) -> Vec<Row> {
    tables[table].get_row_iter(None).unwrap().map(|row| row.unwrap()).collect()
}

/// A value by the name of its column.
fn value<'a>(row: &'a Row, name: &str) -> &'a Field {
    row.get_column_iter().find(|(column, _)| *column == name).unwrap().1
}

fn long(row: &Row, name: &str) -> i64 {
    match value(row, name) {
        Field::Long(value) => *value,
        other => panic!("{name}: {other}"),
    }
}

fn spans(trace: &Trace) -> Vec<(u32, OpSpan)> {
    let blocks = trace.file.blocks_of::<OpSpans>();
    let of = |block: &llmtrace_analysis::format::BlockInfo| {
        let table: OpSpans = trace.file.read(block, ColumnSet::ALL).unwrap();
        table.spans(block.range).map(|span| (block.lane, span)).collect::<Vec<_>>()
    };
    blocks.flat_map(of).collect()
}

#[test]
fn every_op_span_is_a_row_with_its_names() {
    for name in SAMPLES {
        let trace = sample(name);
        let (tables, report) = export(&trace, ALL);
        let (spans, rows) = (spans(&trace), rows(&tables, "op_spans"));
        assert_eq!(rows.len(), spans.len());
        assert_eq!(report.op_spans, spans.len() as u64);
        for (row, (lane, span)) in rows.iter().zip(&spans) {
            let number = |name| value(row, name).clone();
            assert_eq!(number("lane"), Field::UInt(*lane));
            assert_eq!(number("begin_ns"), Field::Long(span.begin as i64));
            assert_eq!(number("compute_ns"), Field::Long(span.compute as i64));
            assert_eq!(number("wait_ns"), Field::Long(span.wait as i64));
            assert_eq!(number("node"), Field::UInt(span.node));
            let (graph, tensor) = trace.node_of(span).unwrap();
            assert_eq!(number("graph"), Field::UInt(graph.id));
            let op = node::op_label(&trace.file, graph, span.node, span.fused);
            assert_eq!(number("op"), Field::Str(op));
            let thread = trace.thread_of(span).unwrap();
            assert_eq!(number("tid"), Field::UInt(thread.tid));
            if span.fused == 0 {
                let name = trace.file.string(tensor.name);
                assert_eq!(number("name"), Field::Str(name.to_owned()));
                let layer = node::layer(name).map_or(Field::Null, Field::UInt);
                assert_eq!(number("layer"), layer);
            }
            let token = trace.token_at(trace.graph_span(span.graph_span).unwrap().begin).unwrap();
            assert_eq!(number("phase"), Field::Str(token.phase.name().to_owned()));
            let Field::UInt(index) = number("token") else { panic!("a span of no token") };
            assert_eq!(trace.tokens[index as usize], *token);
        }
    }
}

#[test]
fn small_tables_have_a_row_for_each_of_theirs() {
    for name in SAMPLES {
        let trace = sample(name);
        let (tables, report) = export(&trace, ALL);
        let count = |table: &str| rows(&tables, table).len();
        let small = [trace.graph_spans.len(), trace.ubatches.len(), trace.decodes.len()];
        assert_eq!(["graph_spans", "ubatches", "decodes"].map(count), small);
        assert_eq!(report.rows, small.iter().sum::<usize>() as u64);
        let tensors = trace.file.graphs.iter().flat_map(|graph| &graph.tensors);
        assert_eq!(count("tensors"), tensors.clone().count());
        assert_eq!(count("edges"), tensors.map(|tensor| tensor.sources.len()).sum::<usize>());
        assert_eq!(count("threads"), trace.file.threads.rows().count());
        assert_eq!(count("losses"), trace.losses.len());
        let recording = rows(&tables, "recording");
        let recorded = trace.file.recording.as_ref().unwrap();
        assert_eq!(recording.len(), 1);
        assert_eq!(*value(&recording[0], "host"), Field::Str(recorded.host.name.clone()));
        assert_eq!(*value(&recording[0], "model"), Field::Str(recorded.target.models.join(", ")));
    }
}

#[test]
fn what_goes_on_around_operators_has_tables_of_its_own() {
    let mut seen = 0;
    for name in ["qwen3moe-synthetic-2t", "gemma3-270m-vulkan9-2t", "gemma3-270m-server-1t"] {
        let trace = sample(name);
        let (tables, _) = export(&trace, ALL);
        let count = |table: &str| tables[table].metadata().file_metadata().num_rows() as usize;
        let (offload, around) = (&trace.offload, &trace.inference);
        let wanted = [
            ("scheduler_runs", offload.runs.len()),
            ("splits", offload.splits.len()),
            ("copies", offload.copies.len()),
            ("waits", offload.syncs.len()),
            ("sequence_runs", around.sequences.len()),
            ("kv_operations", around.kv.len()),
            ("calls", around.calls.len()),
            ("speculations", around.speculations.len()),
            ("token_ids", around.tokens.len()),
        ];
        for (table, rows) in wanted {
            assert_eq!(count(table), rows, "{name}, {table}");
            seen += usize::from(rows > 0);
        }
        for (row, split) in rows(&tables, "splits").iter().zip(&offload.splits) {
            let name = llmtrace_analysis::offload::backend_name(&trace, split.backend);
            assert_eq!(*value(row, "backend"), Field::Str(name));
            assert_eq!(*value(row, "begin_ns"), Field::Long(split.begin as i64));
        }
        let all = llmtrace_analysis::experts::chosen(&trace, ALL, usize::MAX);
        assert_eq!(all.is_empty(), !name.starts_with("qwen3moe"));
        assert_eq!(count("experts"), all.iter().map(|token| token.chosen.len()).sum::<usize>());
        let first = rows(&tables, "experts").into_iter().take(4).map(|row| value(&row, "expert").clone());
        let chosen = all.first().map(|token| token.chosen.clone()).unwrap_or_default();
        assert_eq!(first.collect::<Vec<_>>(), chosen.into_iter().map(Field::UInt).collect::<Vec<_>>());
    }
    assert!(seen > 12, "{seen} tables with rows");
}

#[test]
fn a_range_limits_the_rows_and_rows_make_groups() {
    let trace = sample("gemma3-270m-2t");
    let range = trace.tokens[2].range;
    let (tables, report) = export(&trace, range);
    assert!(report.op_spans > 0 && report.op_spans < trace.op_span_count());
    assert_eq!(rows(&tables, "op_spans").len() as u64, report.op_spans);
    assert_eq!(rows(&tables, "ubatches").len(), 1);
    let trace = open(synth::bytes(&Options::new(150_000, 2, 1)).unwrap());
    let (tables, _) = export(&trace, ALL);
    let metadata = tables["op_spans"].metadata();
    assert_eq!(metadata.num_row_groups(), 2);
    assert_eq!(metadata.file_metadata().num_rows() as u64, trace.op_span_count());
}

#[test]
fn an_export_is_cancelled_and_tells_errors_of_its_sinks() {
    let trace = sample("gemma3-270m-1t");
    let mut open = |_: &str| Ok(Vec::new());
    assert!(parquet(&trace, ALL, &mut open, &mut |_| Ok(()), &mut |_| false).is_err());
    let full = || std::io::Error::from(std::io::ErrorKind::StorageFull);
    let mut closed = 0;
    let mut close = |_: Vec<u8>| {
        closed += 1;
        if closed == 3 { Err(full().into()) } else { Ok(()) }
    };
    assert!(parquet(&trace, ALL, &mut open, &mut close, &mut |_| true).is_err());
    let mut open = |_: &str| -> Result<Vec<u8>> { Err(full().into()) };
    assert!(parquet(&trace, ALL, &mut open, &mut |_| Ok(()), &mut |_| true).is_err());
}

#[test]
fn every_column_is_documented() {
    let (_, manual) = include_str!("../../docs/cli.md").split_once("### Parquet").unwrap();
    let (tables, _) = export(&open(synth::bytes(&Options::new(2_000, 2, 1)).unwrap()), ALL);
    for (table, file) in &tables {
        let row = manual.lines().find(|line| line.starts_with(&format!("| `{table}` |")));
        let row = row.unwrap_or_else(|| panic!("docs/cli.md does not define {table}"));
        for column in file.metadata().file_metadata().schema().get_fields() {
            let name = column.name();
            assert!(row.contains(&format!("`{name}`")), "docs/cli.md does not name {table}.{name}");
        }
    }
}

#[test]
fn counts_have_a_row_for_each_counter_and_add_up_to_those_of_stats() {
    let trace = sample("gemma3-270m-counters-2t");
    let (tables, _) = export(&trace, TimeRange::new(0, u64::MAX));
    let counts = rows(&tables, "op_counters");
    assert_eq!(counts.len() as u64, trace.op_span_count() * trace.counters().len() as u64);
    let by_op = llmtrace_analysis::stats::counts_by_operator(&trace);
    for (number, counter) in trace.counters().iter().enumerate() {
        let of_it = |row: &&Row| value(row, "counter") == &Field::Str(counter.name.clone());
        let known = counts.iter().filter(of_it).filter_map(|row| match value(row, "count") {
            Field::Long(count) => Some(*count as u64),
            _ => None,
        });
        let sum: u64 = by_op.iter().filter_map(|(_, counted)| counted[number].sum).sum();
        assert!(sum > 0 && known.sum::<u64>() == sum, "{}", counter.name);
    }
    assert_eq!(rows(&tables, "process_samples").len(), trace.counts.samples.processes.len());
    assert_eq!(rows(&tables, "system_samples").len(), trace.counts.samples.system.len());
}

#[test]
fn states_faults_and_reads_are_rows_and_unknown_is_null() {
    let mut seen = [0; 4];
    for name in ["gemma3-270m-preempted-2t", "gemma3-270m-cold-1t", "gemma3-270m-1t"] {
        let trace = sample(name);
        let machine = &trace.machine;
        let (tables, _) = export(&trace, ALL);
        let states = rows(&tables, "thread_states");
        let wanted: u64 = trace.file.blocks_of::<ThreadStates>().map(|block| u64::from(block.rows)).sum();
        assert_eq!(states.len() as u64, wanted);
        let totals = llmtrace_analysis::machine::state_totals(&trace, None);
        for state in State::ALL {
            let of = states.iter().filter(|row| *value(row, "state") == Field::Str(state.name().to_owned()));
            let sum: i64 = of.map(|row| long(row, "end_ns") - long(row, "begin_ns")).sum();
            let wanted: u64 = totals.threads.iter().map(|thread| thread.sums.of(state)).sum();
            assert_eq!(sum as u64, wanted, "{name} {}", state.name());
        }
        let named = states.iter().filter(|row| *value(row, "other") != Field::Null).count();
        let faults = rows(&tables, "page_faults");
        assert_eq!(faults.len(), machine.faults.len());
        let groups = llmtrace_analysis::machine::fault_groups(&trace, None, None);
        let during = |row: &&Row, name: &str| *value(row, "during") == Field::Str(name.to_owned());
        let op = groups.first().map(|group| group.during.clone()).unwrap_or_default();
        let count = |row: &Row| match value(row, "count") {
            Field::UInt(count) => u64::from(*count),
            other => panic!("{other}"),
        };
        let found: u64 = faults.iter().filter(|row| during(row, &op)).map(count).sum();
        let of_op = groups.iter().filter(|group| group.during == op);
        assert_eq!(found, of_op.map(|group| group.totals.count).sum::<u64>(), "{name} {op}");
        for (row, fault) in faults.iter().zip(&machine.faults) {
            assert_eq!(*value(row, "file") != Field::Null, fault.file != u32::MAX);
            assert_eq!(*value(row, "offset") != Field::Null, fault.file != u32::MAX);
            assert_eq!(*value(row, "address") != Field::Null, fault.unaddressed < fault.count);
            assert_eq!(*value(row, "major") == Field::Null, fault.major == u32::MAX);
        }
        let reads = rows(&tables, "block_reads");
        assert_eq!(reads.len(), machine.reads.len());
        let tensors = faults.iter().filter(|row| *value(row, "tensor") != Field::Null).count();
        for (seen, count) in seen.iter_mut().zip([named, faults.len(), reads.len(), tensors]) {
            *seen += count;
        }
        assert_eq!(rows(&tables, "cpu_frequencies").len(), machine.frequencies.len());
    }
    assert!(seen.iter().all(|seen| *seen > 0), "{seen:?}");
}
