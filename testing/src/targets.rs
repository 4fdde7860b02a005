//! What must hold for any bytes: one function for each thing that reads them. They panic when it
//! does not.

use crate::tables;
use llmtrace_analysis::counters::Series;
use llmtrace_analysis::dag::{Outline, heat, layout, visible};
use llmtrace_analysis::explain::explain;
use llmtrace_analysis::fold::fold;
use llmtrace_analysis::operators::{Filter, occurrences};
use llmtrace_analysis::search::{first_from, matches};
use llmtrace_analysis::stats::{By, Query, stats};
use llmtrace_analysis::totals::totals_in_range;
use llmtrace_analysis::{
    TimeRange, Trace, cut, diff, experts, export, inference, machine, offload, operators,
};
use llmtrace_format::check::check;
use llmtrace_format::constants::NONE;
use llmtrace_format::tables::{Decode, GraphSpan, Ubatch};
use llmtrace_format::{Header, OpSpan, ProblemKind, Source, TraceFile, Writer, column};
use std::collections::BTreeSet;

/// Graphs of which the picture is laid out: the time of one is that of its nodes.
const GRAPHS: usize = 3;
/// Nodes of a graph up to which its picture is laid out here.
const MOST_NODES: u32 = 2000;

/// Opens a file, checks it, repairs it: what is left is whole.
pub fn open(bytes: &[u8]) {
    let source = || Source::Bytes(bytes.to_vec());
    let Ok(file) = TraceFile::open(source()) else { return };
    let _ = (file.range(), file.len(), file.is_empty(), file.string(llmtrace_format::meta::StrId(NONE)));
    let text: String = file.warnings.iter().map(ToString::to_string).collect();
    assert!(file.warnings.is_empty() == text.is_empty());
    drop(file);
    let Ok(checked) = check(source(), &mut |_| true) else { return };
    let Ok(repaired) = checked.repair(Vec::new(), &mut |_| true) else { return };
    let again = match check(Source::Bytes(repaired), &mut |_| true) {
        Ok(again) => again,
        Err(error) => panic!("the repaired file does not open: {error}"),
    };
    // A shorter file may have less; what is left out of it was left out before.
    if again.problems.iter().any(|problem| problem.kind == ProblemKind::TooLarge) {
        return;
    }
    let broken = again.problems.iter().find(|problem| {
        matches!(
            problem.kind,
            ProblemKind::NoFooter
                | ProblemKind::CutOff
                | ProblemKind::NoBlock
                | ProblemKind::Damaged
                | ProblemKind::Index
        )
    });
    assert!(broken.is_none(), "a repaired file is not whole: {broken:?}");
    let rows = |blocks: &[llmtrace_format::BlockInfo]| -> u64 {
        let spans = blocks.iter().filter(|block| block.kind == llmtrace_format::constants::kind::OP_SPANS);
        spans.map(|block| u64::from(block.rows)).sum()
    };
    assert_eq!(rows(&checked.readable), rows(&again.readable), "repairing lost rows");
}

/// Decodes every block with the table that it says it is of.
pub fn decode_tables(bytes: &[u8]) {
    let Ok(file) = TraceFile::open(Source::Bytes(bytes.to_vec())) else { return };
    for block in &file.blocks {
        if let Some(Ok(rows)) = tables::decode(&file, block) {
            assert_eq!(rows, block.rows as usize, "{block:?}");
        }
        let _ = file.column_bytes_of(block);
    }
}

/// Decodes bytes as a column: encoding, rows, the column.
pub fn decode_column(bytes: &[u8]) {
    let Some((&[encoding, low, high], raw)) = bytes.split_first_chunk::<3>() else { return };
    let rows = u32::from(u16::from_le_bytes([low, high]));
    if let Some(values) = column::decode(raw, encoding % 7, rows) {
        assert_eq!(values.len(), rows as usize);
    }
}

/// Values from bytes, over and over; zeros when there are none.
fn stream(bytes: &[u8]) -> impl FnMut() -> u64 {
    let words: Vec<u64> = bytes
        .chunks(9)
        .map(|chunk| {
            let mut word = [0; 8];
            let (kind, rest) = chunk.split_first().unwrap_or((&0, &[]));
            word.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
            // Small, equal and huge numbers are all common.
            u64::from_le_bytes(word) >> (kind % 64)
        })
        .collect();
    let mut at = 0;
    move || {
        let value = words.get(at % words.len().max(1)).copied().unwrap_or(0);
        at += 1;
        value.wrapping_add((at / words.len().max(1)) as u64)
    }
}

/// What is written is read again: every table by itself, and calls and op spans by the writer.
pub fn round_trip(bytes: &[u8]) {
    let mut values = stream(bytes);
    tables::round_trip(&mut values);
    for small in [false, true] {
        if let Err(error) = write_and_read(&mut values, small) {
            panic!("{error}");
        }
    }
}

fn write_and_read(values: &mut dyn FnMut() -> u64, small: bool) -> llmtrace_format::Result<()> {
    let mut writer = Writer::new(Vec::new(), Header::new(values(), values()))?;
    if small {
        writer.prefer_small();
    }
    let (lanes, runs) = (1 + values() % 4, values() % 40);
    let mut expected = vec![Vec::new(); lanes as usize];
    let mut ends = vec![0u64; lanes as usize];
    for run in 0..runs as u32 {
        writer.push_decode(Decode { id: run, begin: values(), end: values(), ..Decode::default() });
        writer.push_ubatch(Ubatch { id: run, begin: values(), end: values(), ..Ubatch::default() });
        writer.push_graph_span(GraphSpan { id: run, graph: NONE, ..GraphSpan::default() });
        for node in 0..values() % 9 {
            for ((lane, expected), end) in (0..).zip(&mut expected).zip(&mut ends) {
                let begin = end.saturating_add(values() >> 20);
                let times = [values() >> 20, values() >> 20];
                let span = OpSpan {
                    begin,
                    compute: times[0],
                    wait: times[1],
                    node: node as u32,
                    graph_span: run,
                    ..OpSpan::default()
                };
                // Times saturate, rows cannot.
                if span.end() == u64::MAX {
                    continue;
                }
                *end = span.end();
                expected.push(span);
                writer.push_op_span(lane, span)?;
            }
        }
        if values().is_multiple_of(8) {
            writer.flush()?;
        }
    }
    let bytes = writer.finish(&llmtrace_format::meta::Ending::default())?;
    let file = TraceFile::open(Source::Bytes(bytes))?;
    assert!(file.warnings.is_empty(), "{:?}", file.warnings);
    let mut found = vec![Vec::new(); lanes as usize];
    for block in file.blocks_of::<llmtrace_format::OpSpans>() {
        let table = file.read::<llmtrace_format::OpSpans>(block, llmtrace_format::ColumnSet::ALL)?;
        if let Some(lane) = found.get_mut(block.lane as usize) {
            lane.extend(table.spans(block.range));
        }
    }
    assert_eq!(found, expected);
    Ok(())
}

/// Everything that is answered about a file, by the command line and by the app.
pub fn answers(bytes: &[u8]) {
    let Ok(trace) = Trace::open(Source::Bytes(bytes.to_vec()), &mut |_| true) else { return };
    let range = trace.range();
    let _ = (trace.all_warnings(), trace.op_span_count(), trace.token_at(range.begin));
    pictures(&trace, range);
    let _ = llmtrace_analysis::summary::summary(&trace);
    for by in By::ALL {
        let _ = stats(&trace, &Query::by(by), &|_| true);
        let _ = totals_in_range(
            &trace,
            TimeRange::new(range.begin, range.begin / 2 + range.end / 2),
            by,
            &|_| true,
        );
    }
    let _ = explain(&trace, &|_| true);
    let _ = trace.load_nodes(&|_| true);
    for found in matches(&trace, "").iter().take(4) {
        let _ = first_from(&trace, &found.key, (found.lane, range.begin), &|| true);
    }
    let all = operators::Query::default();
    if let Ok(nodes) = operators::nodes(&trace, &all, &|_| true) {
        let count = nodes.iter().map(|node| node.sums.count).fold(0, u64::saturating_add);
        let _ = occurrences(&trace, &all, &Filter::default(), count, &|_| true);
    }
    let _ = experts::experts(&trace, &experts::Query::default(), &|| true);
    let _ = experts::chosen(&trace, range, 100);
    let _ = offload::totals(&trace, None, None);
    let _ = (inference::report(&trace), inference::kv_curves(&trace), inference::attention(&trace));
    let _ = (machine::state_totals(&trace, None), machine::fault_totals(&trace, None, None));
    let _ = machine::fault_groups(&trace, None, None);
    for series in trace.series() {
        let series: Series = series;
        let _ = (trace.series_name(series), trace.drawn(series, range, 50));
    }
    graphs(&trace);
    written(&trace, range);
    let side = [trace];
    let options = diff::Options { phase: None, grain: diff::Grain::Op };
    let _ = diff::diff(&side, &side, &options, &|_| true);
}

/// Bars of lanes from far and near, before and after decoding.
fn pictures(trace: &Trace, range: TimeRange) {
    let mut bars = Vec::new();
    for lane in trace.lanes().iter().take(8) {
        for shift in [10, 16, 40] {
            let (from, nanos) = (range.begin.max(range.end >> 3), range.nanos() >> (shift / 8));
            let range = TimeRange::new(from, from.saturating_add(nanos));
            let mut missing = Vec::new();
            bars.clear();
            fold(trace, lane, range, nanos >> shift, &mut bars, &mut missing);
            missing.iter().take(16).for_each(|part| trace.decode(*part));
            bars.clear();
            fold(trace, lane, range, nanos >> shift, &mut bars, &mut missing);
        }
    }
}

fn graphs(trace: &Trace) {
    for (index, graph) in (0..).zip(&trace.file.graphs).take(GRAPHS) {
        if graph.nodes > MOST_NODES || graph.tensors.len() > MOST_NODES as usize {
            continue;
        }
        let outline = Outline::of(&trace.file, graph);
        let all: BTreeSet<usize> = (0..outline.parts.len()).collect();
        for expanded in [BTreeSet::new(), all] {
            let visible = visible(&trace.file, graph, &outline, &expanded, true);
            let _ = layout(&visible, |_| (100.0, 20.0));
        }
        if let Ok(heat) = heat(trace, index, None, &|_| true) {
            let _ = llmtrace_analysis::dag::critical_path(&trace.file, graph, &heat);
        }
    }
}

/// What is written from a file: cut and compacted ones open without a warning.
fn written(trace: &Trace, range: TimeRange) {
    let half = TimeRange::new(range.begin, range.begin + range.nanos() / 2);
    let cut = cut::cut(trace, half, Vec::new(), &mut |_| true);
    let compact = cut::compact(trace, Vec::new(), &mut |_| true);
    for (bytes, _) in [cut, compact].into_iter().flatten() {
        match TraceFile::open(Source::Bytes(bytes)) {
            Ok(file) => assert!(file.warnings.is_empty(), "{:?}", file.warnings),
            Err(error) => panic!("what was written does not open: {error}"),
        }
    }
    let _ = export::chrome(trace, range, Vec::new(), &mut |_| true);
    let _ = export::perfetto(trace, range, Vec::new(), &mut |_| true);
    let (mut open, mut close) = (|_: &str| Ok(Vec::new()), |_| Ok(()));
    let _ = export::csv(trace, range, &mut open, &mut close, &mut |_| true);
    let _ = export::parquet(trace, range, &mut open, &mut close, &mut |_| true);
}
