//! Comma-separated values, one file a table, with names instead of ids.
//!
//! The first line has the names of the columns; times are nanoseconds since the
//! start of the recording. Fields with a comma, a quote or a line break are
//! quoted as RFC 4180 says.

use super::around::around;
use super::labels::Labels;
use super::machine::machine;
use super::table::{Column, Files, Get, Kind};
use super::{ExportReport, each_span};
use crate::cut::{Progress, touches};
use crate::{Phase, TimeRange, Trace};
use llmtrace_format::Result;
use llmtrace_format::constants::NONE;
use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Display;
use std::io::Write;

/// Names of the files, in the order in which they are written.
pub const CSV_FILES: [&str; 22] = [
    "decodes.csv",
    "ubatches.csv",
    "graph_spans.csv",
    "op_spans.csv",
    "scheduler_runs.csv",
    "splits.csv",
    "copies.csv",
    "waits.csv",
    "sequence_runs.csv",
    "kv_operations.csv",
    "calls.csv",
    "speculations.csv",
    "token_ids.csv",
    "selections.csv",
    "experts.csv",
    "thread_states.csv",
    "cpu_frequencies.csv",
    "page_faults.csv",
    "block_reads.csv",
    "op_counters.csv",
    "process_samples.csv",
    "system_samples.csv",
];

/// Writes the rows that touch `range`, each table to the sink that `open` gives for its name;
/// `close` gets the sinks back.
///
/// # Errors
/// When a sink cannot be opened or written, and [`llmtrace_format::Error::Cancelled`].
pub fn csv<W: Write + Send>(
    trace: &Trace,
    range: TimeRange,
    open: &mut dyn FnMut(&str) -> Result<W>,
    close: &mut dyn FnMut(W) -> Result<()>,
    progress: Progress<'_>,
) -> Result<ExportReport> {
    let mut report = ExportReport::default();
    let mut of = |file: usize| open(CSV_FILES.get(file).copied().unwrap_or_default());
    let mut sinks = [of(0)?, of(1)?, of(2)?, of(3)?];
    calls_and_spans(trace, range, &mut sinks, &mut report, progress)?;
    for mut sink in sinks {
        sink.flush()?;
        close(sink)?;
    }
    let mut files = Files { kind: Kind::Csv, open, close };
    around(trace, range, &mut files)?;
    machine(trace, range, &mut files)?;
    Ok(report)
}

/// `sinks` are of the first four files.
fn calls_and_spans<W: Write>(
    trace: &Trace,
    range: TimeRange,
    sinks: &mut [W; 4],
    report: &mut ExportReport,
    progress: Progress<'_>,
) -> Result<()> {
    let [decodes, ubatches, graph_spans, op_spans] = sinks;
    let inside = |begin, end| touches(begin, end, range);
    writeln!(decodes, "id,begin_ns,end_ns,tid,tokens,is_encode,result")?;
    for row in trace.decodes.iter().filter(|row| inside(row.begin, row.end)) {
        let (is_encode, result) = (row.is_encode, row.result as i32);
        let (id, begin, end, tid, tokens) = (row.id, row.begin, row.end, row.tid, row.tokens);
        writeln!(decodes, "{id},{begin},{end},{tid},{tokens},{is_encode},{result}")?;
        report.rows += 1;
    }
    writeln!(ubatches, "id,begin_ns,end_ns,decode,tokens,sequences,phase")?;
    for row in trace.ubatches.iter().filter(|row| inside(row.begin, row.end)) {
        let (phase, decode) = (Phase::from_u8(row.phase).name(), known(row.decode));
        let (id, begin, end, tokens) = (row.id, row.begin, row.end, row.tokens);
        writeln!(ubatches, "{id},{begin},{end},{decode},{tokens},{},{phase}", row.sequences)?;
        report.rows += 1;
    }
    writeln!(graph_spans, "id,begin_ns,end_ns,graph,ubatch,threads,tid,touched_by_loss")?;
    for row in trace.graph_spans.iter().filter(|row| inside(row.begin, row.end)) {
        let (graph, ubatch) = (known(row.graph), known(row.ubatch));
        let (id, begin, end, tid, lost) = (row.id, row.begin, row.end, row.tid, row.touched_by_loss);
        writeln!(graph_spans, "{id},{begin},{end},{graph},{ubatch},{},{tid},{lost}", row.threads)?;
        report.rows += 1;
    }
    writeln!(
        op_spans,
        "lane,begin_ns,compute_ns,wait_ns,op,name,layer,type,shape,graph_span,node,fused,tid,cpu,touched_by_loss"
    )?;
    let mut labels = Labels::new(trace);
    let mut texts: Vec<String> = Vec::new();
    let tids: HashMap<u32, u32> = trace.file.threads.rows().map(|row| (row.id, row.tid)).collect();
    each_span(trace, range, report, progress, |lane, span| {
        let label = labels.of(span);
        while texts.len() <= label.number as usize {
            let layer = label.layer.map_or_else(String::new, |layer| layer.to_string());
            let [op, name, kind, shape] =
                [&label.op, &label.name, &label.kind, &label.shape].map(|text| field(text));
            texts.push(format!("{op},{name},{layer},{kind},{shape}"));
        }
        let text = texts.get(label.number as usize).map_or("", String::as_str);
        let tid = tids.get(&span.thread).map_or_else(String::new, u32::to_string);
        let (begin, compute, wait) = (span.begin, span.compute, span.wait);
        let (run, node, fused, cpu) = (span.graph_span, span.node, span.fused, span.cpu);
        let lost = u8::from(span.touched_by_loss);
        writeln!(op_spans, "{lane},{begin},{compute},{wait},{text},{run},{node},{fused},{tid},{cpu},{lost}")?;
        Ok(())
    })
}

/// A table of [`super::table`] that is being written.
pub(super) struct Lines<R: 'static, W> {
    sink: W,
    columns: &'static [Column<R>],
}

impl<R: 'static, W: Write> Lines<R, W> {
    pub(super) fn new(columns: &'static [Column<R>], mut sink: W) -> Result<Self> {
        let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
        writeln!(sink, "{}", names.join(","))?;
        Ok(Self { sink, columns })
    }

    pub(super) fn push(&mut self, row: &R) -> Result<()> {
        for (index, (_, get)) in self.columns.iter().enumerate() {
            if index > 0 {
                self.sink.write_all(b",")?;
            }
            value(&mut self.sink, get, row)?;
        }
        Ok(self.sink.write_all(b"\n")?)
    }

    /// Gives the sink back.
    pub(super) fn finish(mut self) -> Result<W> {
        self.sink.flush()?;
        Ok(self.sink)
    }
}

/// Writes a value; nothing where there is none.
fn value<R>(sink: &mut impl Write, get: &Get<R>, row: &R) -> Result<()> {
    fn some<T: Display>(sink: &mut impl Write, value: Option<T>) -> std::io::Result<()> {
        value.map_or(Ok(()), |value| write!(sink, "{value}"))
    }
    match get {
        Get::U32(get) => write!(sink, "{}", get(row))?,
        Get::MaybeU32(get) => some(sink, get(row))?,
        Get::I32(get) => write!(sink, "{}", get(row))?,
        Get::I64(get) | Get::Times(get) => write!(sink, "{}", get(row))?,
        Get::MaybeI64(get) | Get::MaybeTimes(get) => some(sink, get(row))?,
        Get::Signed(get) => write!(sink, "{}", get(row))?,
        Get::MaybeSigned(get) => some(sink, get(row))?,
        Get::MaybeF32(get) => some(sink, get(row))?,
        Get::Bool(get) => write!(sink, "{}", u8::from(get(row)))?,
        Get::Text(get) => write!(sink, "{}", field(&String::from_utf8_lossy(get(row).data())))?,
        Get::Bytes(get) => {
            for byte in get(row).data() {
                write!(sink, "{byte:02x}")?;
            }
        }
    }
    Ok(())
}

/// An id, or nothing for a reference to nothing.
fn known(id: u32) -> String {
    if id == NONE { String::new() } else { id.to_string() }
}

/// A field, quoted where it must be.
fn field(text: &str) -> Cow<'_, str> {
    if text.contains([',', '"', '\n', '\r']) {
        Cow::Owned(format!("\"{}\"", text.replace('"', "\"\"")))
    } else {
        Cow::Borrowed(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_fields_that_need_it_are_quoted() {
        assert_eq!(field("Kcur-11 (view)"), "Kcur-11 (view)");
        assert_eq!(field("a,\"b\""), "\"a,\"\"b\"\"\"");
    }
}
