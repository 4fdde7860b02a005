//! A time range of a trace as a trace of its own, how people name ranges, and a
//! whole trace as a smaller file.

use crate::{Nanos, TimeRange, Trace};
use llmtrace_format::constants::{NONE, kind};
use llmtrace_format::counters::{OpCounters, ProcessSamples, SystemSamples};
use llmtrace_format::inference::{InferenceRow, read_rows};
use llmtrace_format::machine::{self, MachineRow};
use llmtrace_format::meta::{Ending, Graph, StrId};
use llmtrace_format::offload::{self, OffloadRow};
use llmtrace_format::tables::{
    Decodes, Experts, GraphSpans, LevelChange, LevelChanges, Losses, Mark, Marks, Selection, Selections,
    Table, Ubatches,
};
use llmtrace_format::{BlockInfo, ColumnSet, Error, Header, OpSpans, Result, Warning, Writer};
use std::collections::{HashMap, HashSet};
use std::io::Write;

/// Rows of small tables after which they become blocks.
const ROWS_PER_BLOCK: usize = 60_000;

/// How far a command has come, from 0 to 1; returning `false` cancels it.
pub type Progress<'a> = &'a mut dyn FnMut(f32) -> bool;

/// Why a text names no range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RangeError {
    /// Neither `all`, nor a token, nor two ends.
    #[error("`{text}` is no range; write 1.5s..3s, 200ms.., ..2s, token:5..token:9, token:5 or all")]
    Form {
        /// What was given.
        text: String,
    },
    /// An end that is no time.
    #[error("`{text}` is no time; write 1.5s, 200ms, 30us, 7ns or token:5")]
    Time {
        /// What was given.
        text: String,
    },
    /// A token that the trace does not have.
    #[error("no token {number}: the trace has {tokens}, counted from 0")]
    Token {
        /// The token asked for.
        number: usize,
        /// How many there are.
        tokens: usize,
    },
    /// The second end is not after the first.
    #[error("`{text}` is empty: it ends before it begins")]
    Empty {
        /// What was given.
        text: String,
    },
}

/// Reads a range such as `1.5s..3s`, `200ms..`, `..2s`, `token:5..token:9` (up to
/// the end of token 8), `token:5` or `all`. Times count from the start of the
/// recording; tokens are micro-batches of any phase.
///
/// # Errors
/// When the text names no range of this trace.
pub fn parse_range(text: &str, trace: &Trace) -> std::result::Result<TimeRange, RangeError> {
    let text = text.trim();
    if text == "all" {
        return Ok(TimeRange::new(0, Nanos::MAX));
    }
    let Some((begin, end)) = text.split_once("..") else {
        return match text.strip_prefix("token:").and_then(|number| number.parse::<usize>().ok()) {
            Some(number) => match trace.tokens.get(number) {
                Some(token) => Ok(token.range),
                None => Err(RangeError::Token { number, tokens: trace.tokens.len() }),
            },
            None => Err(RangeError::Form { text: text.to_owned() }),
        };
    };
    let begin = if begin.is_empty() { 0 } else { parse_end(begin, false, trace)? };
    let end = if end.is_empty() { Nanos::MAX } else { parse_end(end, true, trace)? };
    if begin < end {
        Ok(TimeRange::new(begin, end))
    } else {
        Err(RangeError::Empty { text: text.to_owned() })
    }
}

/// One end of a range; a token's begin, or with `last` the end of the token
/// before, since the call of the token itself begins earlier than the token.
fn parse_end(text: &str, last: bool, trace: &Trace) -> std::result::Result<Nanos, RangeError> {
    let no_time = || RangeError::Time { text: text.to_owned() };
    if let Some(number) = text.strip_prefix("token:") {
        let number: usize = number.parse().map_err(|_| no_time())?;
        let token = |number: usize| trace.tokens.get(number).map(|token| token.range);
        let before = number.checked_sub(1).filter(|_| last);
        let found = match before {
            Some(before) => token(before).map(|range| range.end),
            None => token(number).map(|range| range.begin),
        };
        return found.ok_or(RangeError::Token { number, tokens: trace.tokens.len() });
    }
    let units = [("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("ms", 1e6), ("s", 1e9)];
    let found = units.iter().find_map(|(unit, nanos)| Some((text.strip_suffix(unit)?, nanos)));
    let (number, nanos) = found.ok_or_else(no_time)?;
    let number: f64 = number.trim().parse().map_err(|_| no_time())?;
    if number.is_finite() && number >= 0.0 { Ok((number * nanos).round() as Nanos) } else { Err(no_time()) }
}

/// Whether a row shares a nanosecond with a range, or happens inside it.
pub(crate) fn touches(begin: Nanos, end: Nanos, range: TimeRange) -> bool {
    begin < range.end && (end > range.begin || begin >= range.begin)
}

/// What a cut took along.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CutReport {
    /// Op spans written.
    pub op_spans: u64,
    /// Rows of the other tables written.
    pub rows: u64,
    /// Blocks that could not be read and are missing.
    pub warnings: Vec<Warning>,
}

/// Writes the rows that touch `range` as a trace, whole: a row that begins
/// before the range or ends after it is not cut. Calls, micro-batches and graph
/// spans that these rows refer to come along. Times, ids and the start stay
/// those of the original, so that both can be laid side by side; only graphs
/// that ran are kept. Memory is bounded by two blocks, the dictionaries and an
/// entry for each graph run.
///
/// # Errors
/// When the sink cannot be written, and [`Error::Cancelled`].
pub fn cut<W: Write>(
    trace: &Trace,
    range: TimeRange,
    sink: W,
    progress: Progress<'_>,
) -> Result<(W, CutReport)> {
    let original = trace.file.ending.clone().unwrap_or_default();
    let reason = "cut from a longer recording".into();
    let ending = Ending { reason, end_nanos: original.end_nanos.min(range.end), ..original };
    rewrite(trace, range, Some(ending), false, sink, progress)
}

/// Writes all rows as a smaller file: like [`cut`], with more work for each block
/// and larger blocks. The ending stays the recording's.
///
/// # Errors
/// When the sink cannot be written, and [`Error::Cancelled`].
pub fn compact<W: Write>(trace: &Trace, sink: W, progress: Progress<'_>) -> Result<(W, CutReport)> {
    rewrite(trace, TimeRange::new(0, Nanos::MAX), None, true, sink, progress)
}

/// `ending` is that of a cut, whose losses are counted anew.
fn rewrite<W: Write>(
    trace: &Trace,
    range: TimeRange,
    ending: Option<Ending>,
    small: bool,
    sink: W,
    progress: Progress<'_>,
) -> Result<(W, CutReport)> {
    let kept = Kept::new(trace, range);
    let original = trace.file.header;
    // What is written is of this version, whatever was read.
    let header = Header::new(original.start_unix_nanos, original.start_monotonic_nanos);
    let mut cutter = Cutter {
        trace,
        range,
        writer: Writer::new(sink, header)?,
        pending: 0,
        last_lane: None,
        report: CutReport::default(),
    };
    cutter.writer.remember_graph_spans();
    if small {
        cutter.writer.prefer_small();
    }
    cutter.dictionaries(&kept)?;
    let blocks = &trace.file.blocks;
    let mut lost = 0u64;
    // When those kept were made; their experts come later.
    let mut selections = HashMap::new();
    let splits = trace.offload.splits.iter().filter(|row| touches(row.begin, row.end, range));
    let splits: HashSet<u32> = splits.map(|row| row.id).collect();
    for (done, info) in blocks.iter().enumerate() {
        if !progress(done as f32 / blocks.len() as f32) {
            return Err(Error::Cancelled);
        }
        match info.kind {
            kind::DECODES => cutter.rows(info, |writer, table: Decodes| {
                let rows = table.rows().filter(|row| kept.decodes.contains(&row.id));
                rows.map(|row| writer.push_decode(row)).count()
            })?,
            kind::UBATCHES => cutter.rows(info, |writer, table: Ubatches| {
                let rows = table.rows().filter(|row| kept.ubatches.contains(&row.id));
                rows.map(|row| writer.push_ubatch(row)).count()
            })?,
            kind::GRAPH_SPANS => cutter.rows(info, |writer, table: GraphSpans| {
                let rows = table.rows().filter(|row| kept.graph_spans.contains(&row.id));
                rows.map(|row| writer.push_graph_span(row)).count()
            })?,
            kind::LOSSES => cutter.rows(info, |writer, table: Losses| {
                let rows = table.rows().filter(|row| touches(row.begin, row.end, range));
                rows.map(|row| {
                    lost = lost.saturating_add(row.count);
                    writer.push_loss(row);
                })
                .count()
            })?,
            kind::LEVEL_CHANGES => cutter.rows(info, |writer, table: LevelChanges| {
                // Those before the range tell what was recorded when it begins.
                let rows = table.rows().filter(|row| row.time < range.end);
                rows.map(|row| {
                    let reason = writer.string(trace.file.string(StrId(row.reason))).0;
                    writer.push_level_change(LevelChange { reason, ..row });
                })
                .count()
            })?,
            kind::MARKS => cutter.rows(info, |writer, table: Marks| {
                let rows = table.rows().filter(|row| touches(row.time, row.time, range));
                rows.map(|row| {
                    let label = writer.string(trace.file.string(StrId(row.label))).0;
                    writer.push_mark(Mark { label, ..row });
                })
                .count()
            })?,
            kind::SELECTIONS => cutter.rows(info, |writer, table: Selections| {
                let of_device = |row: &Selection| row.graph_span == NONE && splits.contains(&row.split);
                let rows = table.rows();
                let rows = rows.filter(|row| kept.graph_spans.contains(&row.graph_span) || of_device(row));
                rows.map(|row| {
                    selections.insert(row.id, row.time);
                    writer.push_selection(row);
                })
                .count()
            })?,
            kind::OP_COUNTERS => cutter.op_counters(info, &kept)?,
            kind::PROCESS_SAMPLES => cutter.rows(info, |writer, table: ProcessSamples| {
                let rows = table.rows().filter(|row| touches(row.time, row.time, range));
                rows.map(|row| writer.push_process_sample(row)).count()
            })?,
            kind::SYSTEM_SAMPLES => cutter.rows(info, |writer, table: SystemSamples| {
                let rows = table.rows().filter(|row| touches(row.time, row.time, range));
                rows.map(|row| writer.push_system_sample(row)).count()
            })?,
            kind::EXPERTS => cutter.experts(info, &selections)?,
            kind::OP_SPANS => cutter.op_spans(info)?,
            kind::SPLITS | kind::COPIES | kind::SYNCS | kind::SCHEDULER_RUNS => cutter.offload(info)?,
            kind::THREAD_STATES..=kind::BLOCK_READS => cutter.machine(info)?,
            _ => cutter.inference(info, &kept)?,
        }
    }
    let ending = match ending {
        Some(ending) => Ending { lost, ..ending },
        None => trace.file.ending.clone().unwrap_or_default(),
    };
    Ok((cutter.writer.finish(&ending)?, cutter.report))
}

struct Cutter<'a, W: Write> {
    trace: &'a Trace,
    range: TimeRange,
    writer: Writer<W>,
    pending: usize,
    /// Lane of the last block of op spans.
    last_lane: Option<u32>,
    report: CutReport,
}

impl<W: Write> Cutter<'_, W> {
    fn dictionaries(&mut self, kept: &Kept) -> Result<()> {
        let file = &self.trace.file;
        if let Some(recording) = &file.recording {
            self.writer.write_recording(recording)?;
        }
        for graph in file.graphs.iter().filter(|graph| kept.graphs.contains(&graph.id)) {
            // Strings of the original may be damaged or double: number them anew.
            let mut string = |id: StrId| self.writer.string(file.string(id));
            let mut tensors = graph.tensors.clone();
            for tensor in &mut tensors {
                tensor.name = string(tensor.name);
                tensor.op = string(tensor.op);
                tensor.variant = string(tensor.variant);
            }
            self.writer.write_graph(&Graph { tensors, ..*graph })?;
        }
        file.threads.rows().for_each(|row| self.writer.push_thread(row));
        Ok(())
    }

    fn experts(&mut self, info: &BlockInfo, selections: &HashMap<u32, Nanos>) -> Result<()> {
        let Ok(table) = self.trace.file.read::<Experts>(info, ColumnSet::ALL) else {
            self.report.warnings.push(Warning::Unreadable { what: Experts::NAME, offset: info.offset });
            return Ok(());
        };
        for row in table.rows() {
            if let Some(&time) = selections.get(&row.selection) {
                self.writer.push_expert(time, row)?;
                self.report.rows += 1;
            }
        }
        Ok(())
    }

    /// What was counted for the op spans that are kept: one lasts until the next begins, at most.
    fn op_counters(&mut self, info: &BlockInfo, kept: &Kept) -> Result<()> {
        let Ok(table) = self.trace.file.read::<OpCounters>(info, ColumnSet::ALL) else {
            self.report.warnings.push(Warning::Unreadable { what: OpCounters::NAME, offset: info.offset });
            return Ok(());
        };
        for (index, row) in table.rows().enumerate() {
            let next = table.begin.get(index + 1).copied().unwrap_or(Nanos::MAX);
            if kept.graph_spans.contains(&row.graph_span) && touches(row.begin, next, self.range) {
                self.writer.push_op_counter(info.lane, row)?;
                self.report.rows += 1;
            }
        }
        Ok(())
    }

    fn rows<T: Table>(
        &mut self,
        info: &BlockInfo,
        push: impl FnOnce(&mut Writer<W>, T) -> usize,
    ) -> Result<()> {
        // Opening has reported what cannot be read of the small tables.
        let Ok(table) = self.trace.file.read::<T>(info, ColumnSet::ALL) else { return Ok(()) };
        let rows = push(&mut self.writer, table);
        self.pushed(rows)
    }

    /// Counts rows of small tables, and makes blocks of them.
    fn pushed(&mut self, rows: usize) -> Result<()> {
        self.report.rows += rows as u64;
        self.pending += rows;
        if self.pending > ROWS_PER_BLOCK {
            self.pending = 0;
            self.writer.flush()?;
        }
        Ok(())
    }

    /// Rows of what goes on around graphs, with their micro-batches.
    fn inference(&mut self, info: &BlockInfo, kept: &Kept) -> Result<()> {
        let Some(Ok(rows)) = read_rows(&self.trace.file, info) else { return Ok(()) };
        let mut written = 0;
        for row in rows {
            let TimeRange { begin, end } = row.range();
            let with_ubatch = match row {
                InferenceRow::Sequence(row) => kept.ubatches.contains(&row.ubatch),
                InferenceRow::Token(row) => kept.ubatches.contains(&row.ubatch),
                _ => false,
            };
            if with_ubatch || touches(begin, end, self.range) {
                self.writer.push_inference(row);
                written += 1;
            }
        }
        self.pushed(written)
    }

    fn offload(&mut self, info: &BlockInfo) -> Result<()> {
        let Some(Ok(rows)) = offload::read_rows(&self.trace.file, info) else { return Ok(()) };
        let file = &self.trace.file;
        let mut written = 0;
        for mut row in rows {
            let range = row.range();
            if !touches(range.begin, range.end, self.range) {
                continue;
            }
            if let OffloadRow::Copy(copy) = &mut row {
                let mut again = |id: u32| self.writer.string(file.string(StrId(id))).0;
                copy.source_memory = again(copy.source_memory);
                copy.target_memory = again(copy.target_memory);
                copy.tensor = again(copy.tensor);
            }
            self.writer.push_offload(row);
            written += 1;
        }
        self.pushed(written)
    }

    fn machine(&mut self, info: &BlockInfo) -> Result<()> {
        let Some(Ok(rows)) = machine::read_rows(&self.trace.file, info) else { return Ok(()) };
        let file = &self.trace.file;
        let mut written = 0;
        for mut row in rows {
            let range = row.range();
            if !touches(range.begin, range.end, self.range) {
                continue;
            }
            if let MachineRow::State(state) = &mut row {
                state.other = self.writer.string(file.string(StrId(state.other))).0;
            }
            self.writer.push_machine(row);
            written += 1;
        }
        self.pushed(written)
    }

    fn op_spans(&mut self, info: &BlockInfo) -> Result<()> {
        if !touches(info.range.begin, info.range.end, self.range) {
            return Ok(());
        }
        let Ok(table) = self.trace.file.read::<OpSpans>(info, ColumnSet::ALL) else {
            self.report.warnings.push(Warning::Unreadable { what: OpSpans::NAME, offset: info.offset });
            return Ok(());
        };
        // A writer writes the blocks of all lanes together, by lane.
        if self.last_lane.is_some_and(|last| info.lane <= last) {
            self.writer.lanes_are_even()?;
        }
        self.last_lane = Some(info.lane);
        for span in table.spans(info.range).filter(|span| touches(span.begin, span.end(), self.range)) {
            self.writer.push_op_span(info.lane, span)?;
            self.report.op_spans += 1;
        }
        Ok(())
    }
}

/// Ids of the rows that come along.
struct Kept {
    graphs: HashSet<u32>,
    graph_spans: HashSet<u32>,
    ubatches: HashSet<u32>,
    decodes: HashSet<u32>,
}

impl Kept {
    fn new(trace: &Trace, range: TimeRange) -> Self {
        let inside = |begin, end| touches(begin, end, range);
        let mut graph_spans: HashSet<u32> = HashSet::new();
        // Spans at the edges may belong to a graph that is not in the range itself.
        for info in trace.file.blocks_of::<OpSpans>() {
            let whole = range.begin <= info.range.begin && info.range.end <= range.end;
            if whole || !inside(info.range.begin, info.range.end) {
                continue;
            }
            let Ok(table) = trace.file.read::<OpSpans>(info, ColumnSet::ALL) else { continue };
            let spans = table.spans(info.range).filter(|span| inside(span.begin, span.end()));
            graph_spans.extend(spans.map(|span| span.graph_span));
        }
        let mut graphs = HashSet::new();
        let mut ubatches = HashSet::new();
        let mut decodes = HashSet::new();
        for row in &trace.graph_spans {
            if inside(row.begin, row.end) || graph_spans.contains(&row.id) {
                graph_spans.insert(row.id);
                graphs.insert(row.graph);
                ubatches.insert(row.ubatch);
            }
        }
        let splits = trace.offload.splits.iter().filter(|row| inside(row.begin, row.end));
        graphs.extend(splits.map(|row| row.graph));
        for row in &trace.ubatches {
            if inside(row.begin, row.end) || ubatches.contains(&row.id) {
                ubatches.insert(row.id);
                decodes.insert(row.decode);
            }
        }
        let inside_decodes = trace.decodes.iter().filter(|row| inside(row.begin, row.end));
        decodes.extend(inside_decodes.map(|row| row.id));
        Self { graphs, graph_spans, ubatches, decodes }
    }
}
