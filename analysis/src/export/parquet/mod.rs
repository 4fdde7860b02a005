//! Parquet, one file a table, with names instead of ids where people ask for
//! names: for DuckDB, pandas, Polars, and many traces at once.
//!
//! [`columns`], [`super::around`] and [`super::machine`] declare the tables; [`table`] writes them, a row group at a
//! time.
//! References to nothing, and texts that are not known, are null.

mod columns;
mod table;

use super::labels::Labels;
use super::machine::machine;
use super::table::{Files, Kind, known};
use super::{ExportReport, around, each_span};
use crate::cut::{Progress, touches};
use crate::executions::Contexts;
use crate::stats::waits_known;
use crate::{Phase, TimeRange, Trace, node};
use columns::{Change, Edge, Marked, Named, OneSpan, Place, Recorded, TensorRow};
use llmtrace_format::tables::{Phase as RowPhase, Thread};
use llmtrace_format::{Error, Result};
use parquet::data_type::ByteArray;
use std::collections::HashMap;
use std::io::Write;
use std::rc::Rc;
pub(super) use table::Groups;

/// Names of the files; `recording.parquet` is written last.
pub const PARQUET_FILES: [&str; 29] = [
    "op_spans.parquet",
    "graph_spans.parquet",
    "ubatches.parquet",
    "decodes.parquet",
    "tensors.parquet",
    "edges.parquet",
    "threads.parquet",
    "losses.parquet",
    "level_changes.parquet",
    "marks.parquet",
    "scheduler_runs.parquet",
    "splits.parquet",
    "copies.parquet",
    "waits.parquet",
    "sequence_runs.parquet",
    "kv_operations.parquet",
    "calls.parquet",
    "speculations.parquet",
    "token_ids.parquet",
    "selections.parquet",
    "experts.parquet",
    "thread_states.parquet",
    "cpu_frequencies.parquet",
    "page_faults.parquet",
    "block_reads.parquet",
    "op_counters.parquet",
    "process_samples.parquet",
    "system_samples.parquet",
    "recording.parquet",
];

/// Writes the rows that touch `range`, each table to the sink that `open` gives
/// for its name; `close` gets the sinks back. A row group is in memory, and an
/// entry for each graph run.
///
/// # Errors
/// When a sink cannot be opened or written, and [`Error::Cancelled`].
pub fn parquet<W: Write + Send>(
    trace: &Trace,
    range: TimeRange,
    open: &mut dyn FnMut(&str) -> Result<W>,
    close: &mut dyn FnMut(W) -> Result<()>,
    progress: Progress<'_>,
) -> Result<ExportReport> {
    let mut files = Files { kind: Kind::Parquet, open, close };
    let mut report = ExportReport::default();
    op_spans(trace, range, &mut files, &mut report, progress)?;
    calls(trace, range, &mut files, &mut report)?;
    graphs(trace, &mut files)?;
    events(trace, range, &mut files)?;
    around::around(trace, range, &mut files)?;
    machine(trace, range, &mut files)?;
    files.write("recording", columns::RECORDING, [recorded(trace)])?;
    Ok(report)
}

fn op_spans<W: Write + Send>(
    trace: &Trace,
    range: TimeRange,
    files: &mut Files<'_, W>,
    report: &mut ExportReport,
    progress: Progress<'_>,
) -> Result<()> {
    let mut labels = Labels::new(trace);
    let mut names: Vec<Rc<Named>> = Vec::new();
    let places = Places::new(trace);
    let threads: HashMap<u32, Thread> = trace.file.threads.rows().map(|row| (row.id, row)).collect();
    let waits_known = waits_known(trace);
    let mut table = files.table("op_spans", columns::OP_SPANS)?;
    each_span(trace, range, report, progress, |lane, span| {
        let label = labels.of(span);
        while names.len() <= label.number as usize {
            names.push(Rc::new(Named::new(label)));
        }
        let Some(name) = names.get(label.number as usize).cloned() else { return Ok(()) };
        let thread = threads.get(&span.thread).copied();
        let place = places.of(span.graph_span);
        table.push(OneSpan { span: *span, lane, name, thread, place, waits_known })
    })?;
    files.finish(table)
}

/// Where graph runs belong.
struct Places<'a> {
    trace: &'a Trace,
    contexts: Contexts,
    graphs: HashMap<u32, (u32, u32)>,
    decodes: HashMap<u32, u32>,
}

impl<'a> Places<'a> {
    fn new(trace: &'a Trace) -> Self {
        Self {
            trace,
            contexts: Contexts::new(trace),
            graphs: trace.graph_spans.iter().map(|row| (row.id, (row.graph, row.ubatch))).collect(),
            decodes: trace.ubatches.iter().map(|row| (row.id, row.decode)).collect(),
        }
    }

    fn of(&self, graph_span: u32) -> Place {
        let context = self.contexts.of(graph_span);
        let graph = self.graphs.get(&graph_span).copied();
        let ubatch = graph.and_then(|(_, ubatch)| known(ubatch));
        Place {
            graph: graph.and_then(|(graph, _)| known(graph)),
            ubatch,
            decode: ubatch.and_then(|id| self.decodes.get(&id).copied()).and_then(known),
            token: context.token,
            phase: context.phase(self.trace),
        }
    }
}

fn calls<W: Write + Send>(
    trace: &Trace,
    range: TimeRange,
    files: &mut Files<'_, W>,
    report: &mut ExportReport,
) -> Result<()> {
    let inside = |begin, end| touches(begin, end, range);
    let graph_spans = trace.graph_spans.iter().filter(|row| inside(row.begin, row.end));
    report.rows += files.write("graph_spans", columns::GRAPH_SPANS, graph_spans.copied())?;
    // Ids count over the whole trace, tokens too: both stay those of `stats --by token`.
    let tokens: HashMap<u32, u32> =
        trace.tokens.iter().enumerate().map(|(index, token)| (token.ubatch, index as u32)).collect();
    let ubatches = trace.ubatches.iter().filter(|row| inside(row.begin, row.end));
    let ubatches = ubatches.map(|row| (*row, tokens.get(&row.id).copied()));
    report.rows += files.write("ubatches", columns::UBATCHES, ubatches)?;
    let decodes = trace.decodes.iter().filter(|row| inside(row.begin, row.end));
    report.rows += files.write("decodes", columns::DECODES, decodes.copied())?;
    Ok(())
}

fn graphs<W: Write + Send>(trace: &Trace, files: &mut Files<'_, W>) -> Result<()> {
    let file = &trace.file;
    let tensors = file.graphs.iter().flat_map(|graph| {
        graph.tensors.iter().enumerate().map(|(index, tensor)| {
            let index = index as u32;
            let name = file.string(tensor.name);
            // `?` is what people read where the type has no name.
            let kind = Some(node::type_name(file, tensor)).filter(|kind| *kind != "?").unwrap_or_default();
            let texts = [node::op_name(file, tensor), name, kind, &node::shape(tensor)];
            TensorRow::new((graph.id, index, index < graph.nodes), tensor, texts, node::layer(name))
        })
    });
    files.write("tensors", columns::TENSORS, tensors)?;
    let edges = file.graphs.iter().flat_map(|graph| {
        graph.tensors.iter().enumerate().flat_map(move |(index, tensor)| {
            tensor.sources.iter().enumerate().map(move |(position, source)| Edge {
                graph: graph.id,
                tensor: index as u32,
                position: position as u32,
                source: *source,
            })
        })
    });
    files.write("edges", columns::EDGES, edges)?;
    files.write("threads", columns::THREADS, file.threads.rows())?;
    Ok(())
}

fn events<W: Write + Send>(trace: &Trace, range: TimeRange, files: &mut Files<'_, W>) -> Result<()> {
    let losses = trace.losses.iter().filter(|row| touches(row.begin, row.end, range));
    files.write("losses", columns::LOSSES, losses.copied())?;
    let text = |id| trace.file.string(llmtrace_format::meta::StrId(id)).into();
    // What was recorded in the range, the changes before it say, too.
    let changes = trace.level_changes.iter().filter(|row| row.time < range.end);
    let changes = changes.map(|row| Change { row: *row, reason: text(row.reason) });
    files.write("level_changes", columns::LEVEL_CHANGES, changes)?;
    let marks = trace.marks.iter().filter(|row| range.contains(row.time));
    let marks = marks.map(|row| Marked { time: row.time, label: text(row.label) });
    files.write("marks", columns::MARKS, marks)?;
    Ok(())
}

fn recorded(trace: &Trace) -> Recorded {
    let file = &trace.file;
    let losses = trace.losses.iter().map(|loss| loss.count).fold(0, u64::saturating_add);
    Recorded {
        started_unix_nanos: file.header.start_unix_nanos,
        duration_nanos: trace.range().nanos(),
        recording: file.recording.clone().unwrap_or_default(),
        ending: file.ending.clone(),
        lost: file.ending.as_ref().map_or(0, |ending| ending.lost).max(losses),
    }
}

/// An error of the Parquet writer. It writes nowhere but to the sink.
fn io(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Io(std::io::Error::other(error))
}

fn phase(phase: Phase) -> ByteArray {
    phase.name().into()
}

fn row_phase(number: u8) -> ByteArray {
    phase(RowPhase::from_u8(number))
}
