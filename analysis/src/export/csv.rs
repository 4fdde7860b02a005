//! Comma-separated values, one file a table, with names instead of ids.
//!
//! The first line has the names of the columns; times are nanoseconds since the
//! start of the recording. Fields with a comma, a quote or a line break are
//! quoted as RFC 4180 says.

use super::labels::Labels;
use super::{ExportReport, each_span};
use crate::cut::{Progress, touches};
use crate::{Phase, TimeRange, Trace};
use llmtrace_format::Result;
use llmtrace_format::constants::NONE;
use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Write;

/// Names of the files, in the order of the sinks.
pub const CSV_FILES: [&str; 4] = ["decodes.csv", "ubatches.csv", "graph_spans.csv", "op_spans.csv"];

/// Writes the rows that touch `range`, each table to its sink; `sinks` are in
/// the order of [`CSV_FILES`].
///
/// # Errors
/// When a sink cannot be written, and [`llmtrace_format::Error::Cancelled`].
pub fn csv<W: Write>(
    trace: &Trace,
    range: TimeRange,
    sinks: &mut [W; 4],
    progress: Progress<'_>,
) -> Result<ExportReport> {
    let mut report = ExportReport::default();
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
    each_span(trace, range, &mut report, progress, |lane, span| {
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
    })?;
    for sink in sinks {
        sink.flush()?;
    }
    Ok(report)
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
