//! Reads everything in a file and says what is wrong with it.
//!
//! The blocks are found by scanning, whatever the footer says; then every
//! column is read, every reference followed, the footer's index compared with
//! the blocks, and every summary with the rows. [`Checked::repair`] writes what
//! is left as a whole file.

mod references;
mod summaries;

use crate::constants::{NONE, kind};
use crate::counters::{self, CounterSums, OpCounters, ProcessSamples, SystemSamples};
use crate::inference::{self, InferenceRow};
use crate::machine::{self, MachineRow};
use crate::meta::{Ending, Graph, Recording, StrId};
use crate::offload::{self, OffloadRow};
use crate::problem::{Problem, ProblemKind};
use crate::segment::{NodeOf, Segment};
use crate::summary::LaneSummary;
use crate::tables::{
    Buckets, Decodes, ExecutionTotals, Experts, GraphSpans, LevelChanges, Losses, Marks, NodeTotals,
    Selections, Threads, Ubatches,
};
use crate::{
    BlockInfo, ColumnSet, Error, Nanos, OpSpans, Result, ScanProgress, Source, Table, TimeRange, TraceFile,
    Warning,
};
use std::collections::{HashMap, HashSet};
use summaries::Summaries;

/// A checked file.
pub struct Checked {
    /// The file, its blocks found by scanning.
    pub file: TraceFile,
    /// What is wrong, in the order of the checks.
    pub problems: Vec<Problem>,
    /// Blocks that can be read whole, in the order of the file.
    pub readable: Vec<BlockInfo>,
    /// Fresh summaries of the lanes.
    pub summaries: Vec<LaneSummary>,
    /// What segments say whose blocks in the file are missing or say otherwise,
    /// by lane and by the offset of the block behind which they belong.
    pub(crate) fresh: HashMap<u64, (u32, Segment)>,
    /// Sums of all executions, when those in the file are missing or say otherwise.
    pub(crate) executions: Option<ExecutionTotals>,
}

impl Checked {
    /// Whether nothing is wrong.
    pub fn is_whole(&self) -> bool {
        self.problems.is_empty()
    }
}

/// Checks a file. `progress` returns `false` to cancel.
///
/// # Errors
/// When the source cannot be read, is no trace or is of a later version, and
/// [`Error::Cancelled`]. Damage is no error.
pub fn check(source: Source, progress: ScanProgress<'_>) -> Result<Checked> {
    let file = TraceFile::open_scanned(source, progress)?;
    let mut checker = Checker::new(&file);
    checker.scanned();
    checker.graphs();
    let blocks = &file.blocks;
    let total = blocks.len().max(1) as f32;
    // Rows refer to rows of other tables, and blocks of tables interleave.
    for info in blocks.iter().filter(|info| info.kind != kind::OP_SPANS) {
        checker.small(info);
        for (kind, count) in references::dangling(&file, info) {
            checker.problems.add(kind, info, name(info.kind), count);
        }
    }
    checker.references();
    for (done, info) in blocks.iter().enumerate() {
        if done.is_multiple_of(16) && !progress(done as f32 / total) {
            return Err(Error::Cancelled);
        }
        if info.kind == kind::OP_SPANS {
            checker.op_spans(info);
        }
    }
    let Checker { mut problems, summaries, .. } = checker;
    let rebuilt = summaries.finish(&file, &mut problems);
    let gone = |info: &&BlockInfo| {
        problems.damaged.contains(&info.offset) || rebuilt.replaced.contains(&info.offset)
    };
    let readable = blocks.iter().filter(|info| !gone(info)).copied().collect();
    let summaries::Rebuilt { summaries, fresh, executions, .. } = rebuilt;
    Ok(Checked { problems: problems.list, readable, summaries, fresh, executions, file })
}

#[derive(Default)]
struct Problems {
    list: Vec<Problem>,
    /// Offsets of blocks that cannot be read.
    damaged: HashSet<u64>,
}

impl Problems {
    fn add(&mut self, kind: ProblemKind, info: &BlockInfo, table: &'static str, count: u64) {
        if count > 0 {
            let of_lane = matches!(info.kind, kind::OP_SPANS | kind::BUCKETS | kind::NODE_TOTALS);
            let lane = of_lane.then_some(info.lane);
            self.list.push(Problem { kind, offset: info.offset, count, table, lane });
        }
    }

    fn of_file(&mut self, kind: ProblemKind, offset: u64, count: u64) {
        if count > 0 {
            self.list.push(Problem { kind, offset, count, table: "file", lane: None });
        }
    }
}

struct Checker<'a> {
    file: &'a TraceFile,
    problems: Problems,
    graphs: HashMap<u32, &'a Graph>,
    threads: HashSet<u32>,
    decodes: HashSet<u32>,
    ubatches: HashSet<u32>,
    /// Graph of each graph span.
    graph_spans: HashMap<u32, u32>,
    /// References that can be judged once all blocks were seen.
    to_graphs: Vec<(BlockInfo, Vec<u32>)>,
    to_ubatches: Vec<(BlockInfo, Vec<u32>)>,
    /// The same of selections and counters.
    to_graph_spans: Vec<(BlockInfo, Vec<u32>)>,
    to_decodes: Vec<(BlockInfo, Vec<u32>)>,
    /// Where each lane has come.
    ends: HashMap<u32, Nanos>,
    summaries: Summaries,
}

impl<'a> Checker<'a> {
    fn new(file: &'a TraceFile) -> Self {
        Self {
            file,
            problems: Problems::default(),
            graphs: HashMap::new(),
            threads: HashSet::new(),
            decodes: HashSet::new(),
            ubatches: HashSet::new(),
            graph_spans: HashMap::new(),
            to_graphs: Vec::new(),
            to_ubatches: Vec::new(),
            to_graph_spans: Vec::new(),
            to_decodes: Vec::new(),
            ends: HashMap::new(),
            summaries: Summaries::new(file),
        }
    }

    /// What the scan met, and the index in the footer.
    fn scanned(&mut self) {
        for warning in &self.file.warnings {
            match *warning {
                Warning::CutOff { offset, bytes } => {
                    self.problems.of_file(ProblemKind::CutOff, offset, bytes)
                }
                Warning::Skipped { offset, bytes } => {
                    self.problems.of_file(ProblemKind::NoBlock, offset, bytes);
                }
                Warning::TooLarge { offset } => self.problems.of_file(ProblemKind::TooLarge, offset, 1),
                Warning::TooManyRows { offset, blocks } => {
                    self.problems.of_file(ProblemKind::TooLarge, offset, blocks);
                }
                _ => {}
            }
        }
        let Some(footer) = self.file.read_footer() else {
            return self.problems.of_file(ProblemKind::NoFooter, self.file.len(), 1);
        };
        let listed: HashMap<u64, BlockInfo> = footer.blocks().map(|info| (info.offset, info)).collect();
        let found: HashSet<u64> = self.file.blocks.iter().map(|info| info.offset).collect();
        for info in self.file.blocks.iter().filter(|info| listed.get(&info.offset) != Some(info)) {
            self.problems.add(ProblemKind::Index, info, name(info.kind), 1);
        }
        // Damaged blocks were reported as bytes that are no block, and those left out as too large.
        let left_out =
            |warning: &Warning| matches!(warning, Warning::TooLarge { .. } | Warning::TooManyRows { .. });
        let left_out = self.file.warnings.iter().any(left_out);
        let gone = footer.blocks().filter(|info| !left_out && !found.contains(&info.offset));
        for info in gone {
            self.problems.add(ProblemKind::Index, &info, name(info.kind), 1);
        }
    }

    fn graphs(&mut self) {
        // Graphs that could be read are in `file.graphs`, in the order of their blocks.
        let types = self.file.recording.as_ref().map(|recording| recording.types.len());
        let mut first: HashMap<u32, &Graph> = HashMap::new();
        for graph in &self.file.graphs {
            first.entry(graph.id).or_insert(graph);
        }
        for info in self.file.blocks.iter().filter(|info| info.kind == kind::GRAPH) {
            let Ok(read) = self.file.read_structured::<Graph>(info) else { continue };
            let Some(&graph) = first.get(&read.id) else { continue };
            let (mut strings, mut tensors) = (0, 0);
            for tensor in &read.tensors {
                let texts = [tensor.name, tensor.op, tensor.variant];
                strings += texts.iter().filter(|id| id.0 as usize >= self.file.strings.len()).count();
                let links = tensor.sources.iter().chain(tensor.view_of.as_ref());
                tensors += links.filter(|&&link| link as usize >= read.tensors.len()).count();
                tensors +=
                    usize::from(types.is_some_and(|types| types > 0 && tensor.tensor_type as usize >= types));
            }
            tensors += (read.nodes as usize).saturating_sub(read.tensors.len());
            self.problems.add(ProblemKind::NoString, info, "graph", strings as u64);
            self.problems.add(ProblemKind::NoTensor, info, "graph", tensors as u64);
            let again = self.graphs.insert(read.id, graph).is_some();
            self.problems.add(ProblemKind::DuplicateId, info, "graph", again.into());
        }
    }

    /// Reports a damaged block.
    fn damaged(&mut self, info: &BlockInfo, error: &Error) {
        let at = match error {
            Error::Checksum { offset, .. } | Error::Malformed { offset, .. } => *offset,
            _ => info.offset,
        };
        self.problems.add(ProblemKind::Damaged, &BlockInfo { offset: at, ..*info }, name(info.kind), 1);
        self.problems.damaged.insert(info.offset);
    }

    /// Every column of the block, also those that this build does not know;
    /// then the table.
    fn read<T: Table>(&mut self, info: &BlockInfo) -> Option<T> {
        let read = self.file.verify(info).and_then(|()| self.file.read::<T>(info, ColumnSet::ALL));
        read.map_err(|error| self.damaged(info, &error)).ok()
    }

    fn small(&mut self, info: &BlockInfo) {
        let structured = match info.kind {
            kind::RECORDING => self.file.read_structured::<Recording>(info).map(drop),
            kind::STRINGS => self.file.read_structured::<Vec<String>>(info).map(drop),
            kind::GRAPH => self.file.read_structured::<Graph>(info).map(drop),
            kind::ENDING => self.file.read_structured::<Ending>(info).map(drop),
            kind::THREADS => return self.threads(info),
            kind::DECODES => return self.decodes(info),
            kind::UBATCHES => return self.ubatches(info),
            kind::GRAPH_SPANS => return self.graph_spans(info),
            kind::BUCKETS => self.file.read::<Buckets>(info, ColumnSet::ALL).map(drop),
            kind::NODE_TOTALS => self.file.read::<NodeTotals>(info, ColumnSet::ALL).map(drop),
            kind::EXECUTION_TOTALS => self.file.read::<ExecutionTotals>(info, ColumnSet::ALL).map(drop),
            kind::LEVEL_CHANGES => {
                let Some(table) = self.read::<LevelChanges>(info) else { return };
                return self.times(info, LevelChanges::NAME, &table.time, &table.time);
            }
            kind::SELECTIONS => {
                let Some(table) = self.read::<Selections>(info) else { return };
                self.times(info, Selections::NAME, &table.time, &table.time);
                return self.to_graph_spans.push((*info, table.graph_span));
            }
            kind::OP_COUNTERS => {
                let Some(table) = self.read::<OpCounters>(info) else { return };
                self.times(info, OpCounters::NAME, &table.begin, &table.begin);
                return self.to_graph_spans.push((*info, table.graph_span));
            }
            kind::COUNTER_SUMS => self.file.read::<CounterSums>(info, ColumnSet::ALL).map(drop),
            kind::PROCESS_SAMPLES => {
                let Some(table) = self.read::<ProcessSamples>(info) else { return };
                return self.times(info, ProcessSamples::NAME, &table.time, &table.time);
            }
            kind::SYSTEM_SAMPLES => {
                let Some(table) = self.read::<SystemSamples>(info) else { return };
                return self.times(info, SystemSamples::NAME, &table.time, &table.time);
            }
            kind::EXPERTS => self.file.read::<Experts>(info, ColumnSet::ALL).map(drop),
            kind::MARKS => {
                let Some(table) = self.read::<Marks>(info) else { return };
                return self.times(info, Marks::NAME, &table.time, &table.time);
            }
            kind::LOSSES => {
                let Some(table) = self.read::<Losses>(info) else { return };
                return self.times(info, Losses::NAME, &table.begin, &table.end);
            }
            _ => match self.ranges(info) {
                Some(Ok(ranges)) => return self.beside(info, &ranges),
                Some(Err(error)) => Err(error),
                None => self.file.verify(info),
            },
        };
        if let Err(error) = structured.and_then(|()| self.file.verify(info)) {
            self.damaged(info, &error);
        }
    }

    fn times(&mut self, info: &BlockInfo, table: &'static str, begins: &[Nanos], ends: &[Nanos]) {
        let rows = begins.iter().zip(ends);
        let wrong =
            rows.filter(|(begin, end)| end < begin || **begin < info.range.begin || **end > info.range.end);
        self.problems.add(ProblemKind::Range, info, table, wrong.count() as u64);
    }

    /// When the rows happened of a table of what goes on beside operators.
    fn ranges(&self, info: &BlockInfo) -> Option<Result<Vec<TimeRange>>> {
        if let Some(rows) = inference::read_rows(self.file, info) {
            return Some(rows.map(|rows| rows.iter().map(InferenceRow::range).collect()));
        }
        if let Some(rows) = offload::read_rows(self.file, info) {
            return Some(rows.map(|rows| rows.iter().map(OffloadRow::range).collect()));
        }
        let rows = machine::read_rows(self.file, info)?;
        Some(rows.map(|rows| rows.iter().map(MachineRow::range).collect()))
    }

    /// Rows of these refer to calls that may be in another file of the recording.
    fn beside(&mut self, info: &BlockInfo, ranges: &[TimeRange]) {
        if let Err(error) = self.file.verify(info) {
            return self.damaged(info, &error);
        }
        let (begins, ends): (Vec<Nanos>, Vec<Nanos>) =
            ranges.iter().map(|range| (range.begin, range.end)).unzip();
        self.times(info, name(info.kind), &begins, &ends);
    }

    fn threads(&mut self, info: &BlockInfo) {
        let Some(table) = self.read::<Threads>(info) else { return };
        let again = table.id.iter().filter(|&&id| !self.threads.insert(id)).count();
        self.problems.add(ProblemKind::DuplicateId, info, Threads::NAME, again as u64);
    }

    fn decodes(&mut self, info: &BlockInfo) {
        let Some(table) = self.read::<Decodes>(info) else { return };
        self.times(info, Decodes::NAME, &table.begin, &table.end);
        let again = table.id.iter().filter(|&&id| !self.decodes.insert(id)).count();
        self.problems.add(ProblemKind::DuplicateId, info, Decodes::NAME, again as u64);
    }

    fn ubatches(&mut self, info: &BlockInfo) {
        let Some(table) = self.read::<Ubatches>(info) else { return };
        self.times(info, Ubatches::NAME, &table.begin, &table.end);
        let again = table.id.iter().filter(|&&id| !self.ubatches.insert(id)).count();
        self.problems.add(ProblemKind::DuplicateId, info, Ubatches::NAME, again as u64);
        self.to_decodes.push((*info, table.decode));
    }

    fn graph_spans(&mut self, info: &BlockInfo) {
        let Some(table) = self.read::<GraphSpans>(info) else { return };
        self.times(info, GraphSpans::NAME, &table.begin, &table.end);
        let rows = table.id.iter().zip(&table.graph);
        let again = rows.filter(|(id, graph)| self.graph_spans.insert(**id, **graph).is_some()).count();
        self.problems.add(ProblemKind::DuplicateId, info, GraphSpans::NAME, again as u64);
        self.to_graphs.push((*info, table.graph));
        self.to_ubatches.push((*info, table.ubatch));
    }

    fn references(&mut self) {
        for (info, ids) in std::mem::take(&mut self.to_graphs) {
            let gone = ids.iter().filter(|id| **id != NONE && !self.graphs.contains_key(id)).count();
            self.problems.add(ProblemKind::NoGraph, &info, GraphSpans::NAME, gone as u64);
        }
        for (info, ids) in std::mem::take(&mut self.to_graph_spans) {
            let gone = ids.iter().filter(|id| !self.graph_spans.contains_key(id)).count();
            self.problems.add(ProblemKind::NoGraphSpan, &info, name(info.kind), gone as u64);
        }
        for (info, ids) in std::mem::take(&mut self.to_ubatches) {
            let gone = ids.iter().filter(|id| **id != NONE && !self.ubatches.contains(id)).count();
            self.problems.add(ProblemKind::NoUbatch, &info, GraphSpans::NAME, gone as u64);
        }
        for (info, ids) in std::mem::take(&mut self.to_decodes) {
            let gone = ids.iter().filter(|id| **id != NONE && !self.decodes.contains(id)).count();
            self.problems.add(ProblemKind::NoDecode, &info, Ubatches::NAME, gone as u64);
        }
    }

    fn op_spans(&mut self, info: &BlockInfo) {
        let Some(table) = self.read::<OpSpans>(info) else {
            return self.summaries.end_of_block(info, self.file, &mut self.problems);
        };
        let before = self.ends.entry(info.lane).or_default();
        let overlaps = info.range.begin < *before;
        let (mut threads, mut graph_spans, mut nodes) = (0, 0, 0);
        let mut end = info.range.begin;
        for span in table.spans(info.range) {
            end = span.end();
            threads += u64::from(!self.threads.contains(&span.thread));
            let graph_id = self.graph_spans.get(&span.graph_span);
            graph_spans += u64::from(graph_id.is_none());
            let graph = graph_id.and_then(|graph| self.graphs.get(graph));
            let mut of = NodeOf { graph: graph_id.copied().unwrap_or(NONE), nodes: 0, op: StrId::default() };
            if let Some(graph) = graph {
                let last = span.node.checked_add(span.fused).filter(|last| *last < graph.nodes);
                nodes += u64::from(last.is_none());
                let known = graph.tensors.get(..graph.nodes as usize).unwrap_or(&graph.tensors);
                of.nodes = known.len();
                of.op = known.get(span.node as usize).map_or(StrId(0), |tensor| tensor.op);
            }
            self.summaries.add(info, &span, of);
        }
        *before = (*before).max(end);
        let wrong =
            u64::from(table.gap.first().is_some_and(|gap| *gap > 0)) + u64::from(end != info.range.end);
        let mut add = |kind, count| self.problems.add(kind, info, OpSpans::NAME, count);
        add(ProblemKind::Range, wrong);
        add(ProblemKind::Overlap, overlaps.into());
        add(ProblemKind::NoThread, threads);
        add(ProblemKind::NoGraphSpan, graph_spans);
        add(ProblemKind::NoNode, nodes);
        self.summaries.end_of_block(info, self.file, &mut self.problems);
    }
}

/// Name of a block's table.
fn name(kind: u16) -> &'static str {
    match kind {
        kind::RECORDING => "recording",
        kind::STRINGS => "strings",
        kind::GRAPH => "graph",
        kind::ENDING => "ending",
        kind::THREADS => Threads::NAME,
        kind::DECODES => Decodes::NAME,
        kind::UBATCHES => Ubatches::NAME,
        kind::GRAPH_SPANS => GraphSpans::NAME,
        kind::OP_SPANS => OpSpans::NAME,
        kind::BUCKETS => Buckets::NAME,
        kind::NODE_TOTALS => NodeTotals::NAME,
        kind::EXECUTION_TOTALS => ExecutionTotals::NAME,
        kind::LOSSES => Losses::NAME,
        kind::LEVEL_CHANGES => LevelChanges::NAME,
        kind::MARKS => Marks::NAME,
        kind::SELECTIONS => Selections::NAME,
        kind::EXPERTS => Experts::NAME,
        _ => inference::table_name(kind)
            .or(offload::table_name(kind))
            .or(counters::table_name(kind))
            .or(machine::table_name(kind))
            .unwrap_or("unknown"),
    }
}
