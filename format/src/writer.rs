//! Writes a trace, block after block.

use crate::block::{BlockHead, BlockInfo, EncodedColumn, write_block};
use crate::constants::{NO_LANE, NONE, TRAILER_LEN, encoding, kind};
use crate::counters::{CounterTables, OpCounter, ProcessSample, SystemSample};
use crate::footer::{Footer, trailer_to_bytes};
use crate::inference::{InferenceRow, InferenceTables};
use crate::machine::{MachineRow, MachineTables};
use crate::meta::{Ending, Graph, Recording, StrId};
use crate::nodes::Joiner;
use crate::offload::{OffloadRow, OffloadTables};
use crate::raw::{Content, RawBlock, node_ops};
use crate::segment::{LaneBuilder, NodeOf, ROWS_PER_SEGMENT, SegmentBuilder};
use crate::small::Siblings;
use crate::summary::{MAX_SUMMARIES_BYTES, MAX_SUMMARY_BYTES, fitting};
use crate::tables::{
    self, Decode, Decodes, Expert, Experts, GraphSpan, GraphSpans, LevelChange, LevelChanges, Loss, Losses,
    Mark, Marks, OpSpan, OpSpans, Selection, Selections, Table, Thread, Threads, Ubatch, Ubatches,
};
use crate::{Error, Header, Nanos, Result, TimeRange, structured};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::io::Write;

/// Rows after which a lane's op spans become a block.
const ROWS_PER_BLOCK: usize = 1 << 16;
/// The same where a small file is worth more work; still read at once.
const ROWS_PER_SMALL_BLOCK: usize = 1 << 17;
/// Rows after which experts become a block.
const EXPERTS_PER_BLOCK: usize = 1 << 18;
/// Where a small file's blocks may begin for all lanes alike, they do after so many.
const ROWS_PER_ALIGNED_BLOCK: usize = ROWS_PER_SMALL_BLOCK / 4 * 3;
/// Graphs of which a writer remembers the operators: of the newest so many ids.
/// Whoever numbers graphs refers to no older ones.
pub const MAX_LIVE_GRAPHS: usize = 4096;
/// Speed comes first while recording.
pub(crate) const ZSTD_LEVEL: i32 = 3;
/// A small file comes first afterwards.
const SMALL_ZSTD_LEVEL: i32 = 19;
/// Nodes of graph runs to which threads may still add executions: many runs of
/// a recorder, which brings all threads of a run together.
const OPEN_NODES: usize = 1 << 16;
/// The same for whoever brings one thread's whole block after the other's.
pub(crate) const MANY_OPEN_NODES: usize = 1 << 20;

/// A trace being written. Rows are buffered until [`Writer::flush`]; memory is
/// bounded by 65,536 rows a lane and the dictionaries.
pub struct Writer<W: Write> {
    sink: W,
    offset: u64,
    blocks: Vec<BlockInfo>,
    scratch: Vec<u8>,
    strings: HashMap<String, StrId>,
    new_strings: Vec<String>,
    lanes: BTreeMap<u32, Lane>,
    /// Operator of each node of each graph, for the summaries.
    graph_ops: HashMap<u32, Vec<StrId>>,
    /// Graph of recent graph spans, for the same, and their end, for sums of counts.
    span_graphs: HashMap<u32, (u32, Nanos)>,
    forgets_graph_spans: bool,
    /// Whether a small file is worth more work.
    small: bool,
    /// Whether sums of segments and executions are written.
    sums: bool,
    joiner: Joiner,
    threads: Threads,
    decodes: Buffered<Decodes>,
    ubatches: Buffered<Ubatches>,
    graph_spans: Buffered<GraphSpans>,
    losses: Buffered<Losses>,
    level_changes: Buffered<LevelChanges>,
    marks: Buffered<Marks>,
    selections: Buffered<Selections>,
    experts: Buffered<Experts>,
    inference: InferenceTables,
    offload: OffloadTables,
    counters: CounterTables,
    machine: MachineTables,
}

struct Lane {
    rows: OpSpans,
    range: TimeRange,
    segment: SegmentBuilder,
    summary: LaneBuilder,
}

#[derive(Default)]
struct Buffered<T> {
    rows: T,
    range: Option<TimeRange>,
}

impl<T> Buffered<T> {
    fn cover(&mut self, begin: Nanos, end: Nanos) {
        let range = self.range.get_or_insert(TimeRange::new(begin, end));
        range.begin = range.begin.min(begin);
        range.end = range.end.max(end);
    }
}

impl<W: Write> Writer<W> {
    /// Starts a trace.
    ///
    /// # Errors
    /// When the sink cannot be written.
    pub fn new(mut sink: W, header: Header) -> Result<Self> {
        let bytes = header.to_bytes();
        sink.write_all(&bytes)?;
        Ok(Self {
            sink,
            offset: bytes.len() as u64,
            blocks: Vec::new(),
            scratch: Vec::new(),
            strings: HashMap::from([(String::new(), StrId(0))]),
            new_strings: Vec::new(),
            lanes: BTreeMap::new(),
            graph_ops: HashMap::new(),
            span_graphs: HashMap::new(),
            forgets_graph_spans: true,
            small: false,
            sums: true,
            joiner: Joiner::new(OPEN_NODES),
            threads: Threads::default(),
            decodes: Buffered::default(),
            ubatches: Buffered::default(),
            graph_spans: Buffered::default(),
            losses: Buffered::default(),
            level_changes: Buffered::default(),
            marks: Buffered::default(),
            selections: Buffered::default(),
            experts: Buffered::default(),
            inference: InferenceTables::default(),
            offload: OffloadTables::default(),
            counters: CounterTables::default(),
            machine: MachineTables::default(),
        })
    }

    /// Bytes written so far.
    pub fn bytes(&self) -> u64 {
        self.offset
    }

    /// The sink, for what is not the writer's business (such as its file name).
    pub fn sink(&self) -> &W {
        &self.sink
    }

    /// The sink, to change how it writes; whoever writes to it spoils the file.
    pub fn sink_mut(&mut self) -> &mut W {
        &mut self.sink
    }

    /// Lets op spans refer to any graph span before them, not only to recent
    /// ones; takes memory for each graph span. Comes before the first op span.
    pub fn remember_graph_spans(&mut self) {
        self.forgets_graph_spans = false;
        self.joiner = Joiner::new(MANY_OPEN_NODES);
    }

    /// Writes no more sums of segments and executions, whose length is not known
    /// before. Readers then decode the rows; `check --repair` adds them.
    pub fn leave_out_sums(&mut self) {
        self.sums = false;
    }

    /// Takes ten times the time for a smaller file.
    pub fn prefer_small(&mut self) {
        self.small = true;
    }

    /// All lanes have come equally far: a good place for a small file's blocks to
    /// begin, so that those of one lane tell those of the others.
    ///
    /// # Errors
    /// When blocks are full and the sink cannot be written.
    pub fn lanes_are_even(&mut self) -> Result<()> {
        let full = |lane: &Lane| lane.rows.len() >= ROWS_PER_ALIGNED_BLOCK;
        if self.small && self.lanes.values().any(full) { self.flush() } else { Ok(()) }
    }

    /// The id of a string, which is added when it is new.
    pub fn string(&mut self, text: &str) -> StrId {
        if let Some(&id) = self.strings.get(text) {
            return id;
        }
        let id = StrId(self.strings.len() as u32);
        self.strings.insert(text.to_owned(), id);
        self.new_strings.push(text.to_owned());
        id
    }

    /// Writes what is known of the recording; may be called again.
    ///
    /// # Errors
    /// When the sink cannot be written.
    pub fn write_recording(&mut self, recording: &Recording) -> Result<()> {
        self.write_structured(kind::RECORDING, recording)
    }

    /// Writes a graph, and the strings it refers to.
    ///
    /// # Errors
    /// When the sink cannot be written.
    pub fn write_graph(&mut self, graph: &Graph) -> Result<()> {
        self.write_strings()?;
        self.remember_graph(graph.id, node_ops(graph));
        self.write_structured(kind::GRAPH, graph)
    }

    fn remember_graph(&mut self, id: u32, ops: Vec<StrId>) {
        if self.graph_ops.len() >= 2 * MAX_LIVE_GRAPHS {
            let oldest = id.saturating_sub(MAX_LIVE_GRAPHS as u32 + 64);
            self.graph_ops.retain(|&id, _| id >= oldest);
        }
        self.graph_ops.insert(id, ops);
    }

    /// Writes a block that was encoded before. Strings that it refers to were
    /// added; graph spans were pushed or announced before their op spans.
    ///
    /// # Errors
    /// When the sink cannot be written.
    pub fn write_raw(&mut self, block: &RawBlock) -> Result<()> {
        match &block.content {
            Content::Graph(id, ops) => {
                self.write_strings()?;
                self.remember_graph(*id, ops.clone());
                self.append(&block.bytes, block.info)
            }
            Content::OpSpans => {
                self.write_lanes()?;
                self.append(&block.bytes, block.info)?;
                let (lane, range) = (block.info.lane, block.info.range);
                self.lane(lane).range.end = range.end;
                self.sum_up(lane, &block.decode()?, range);
                self.write_segments(ROWS_PER_SEGMENT)
            }
        }
    }

    /// Adds a thread.
    pub fn push_thread(&mut self, row: Thread) {
        self.threads.push(row);
    }

    /// Adds a decode call.
    pub fn push_decode(&mut self, row: Decode) {
        self.decodes.cover(row.begin, row.end);
        self.decodes.rows.push(row);
    }

    /// Adds a micro-batch.
    pub fn push_ubatch(&mut self, row: Ubatch) {
        self.ubatches.cover(row.begin, row.end);
        self.ubatches.rows.push(row);
    }

    /// Says which graph is computed, and until when, by a graph span whose row comes
    /// later than its op spans.
    pub fn announce_graph_span(&mut self, row: &GraphSpan) {
        self.span_graphs.insert(row.id, (row.graph, row.end));
    }

    /// Adds a graph span; it, or its announcement, comes before its op spans.
    pub fn push_graph_span(&mut self, row: GraphSpan) {
        self.graph_spans.cover(row.begin, row.end);
        self.announce_graph_span(&row);
        self.graph_spans.rows.push(row);
    }

    /// Adds a loss.
    pub fn push_loss(&mut self, row: Loss) {
        self.losses.cover(row.begin, row.end);
        self.losses.rows.push(row);
    }

    /// Adds a change of what is recorded.
    pub fn push_level_change(&mut self, row: LevelChange) {
        self.level_changes.cover(row.time, row.time);
        self.level_changes.rows.push(row);
    }

    /// Adds a mark.
    pub fn push_mark(&mut self, row: Mark) {
        self.marks.cover(row.time, row.time);
        self.marks.rows.push(row);
    }

    /// Adds a selection of experts; it comes before its experts.
    pub fn push_selection(&mut self, row: Selection) {
        self.selections.cover(row.time, row.time);
        self.selections.rows.push(row);
    }

    /// Adds an expert of a selection that was made at `time`.
    ///
    /// # Errors
    /// When a block is full and the sink cannot be written.
    pub fn push_expert(&mut self, time: Nanos, row: Expert) -> Result<()> {
        self.experts.cover(time, time);
        self.experts.rows.push(row);
        if self.experts.rows.len() >= EXPERTS_PER_BLOCK {
            self.flush()?;
        }
        Ok(())
    }

    /// Adds a row of what goes on around graphs.
    pub fn push_inference(&mut self, row: InferenceRow) {
        self.inference.push(row);
    }

    /// Adds a row of what the scheduler sends to backends.
    pub fn push_offload(&mut self, row: OffloadRow) {
        self.offload.push(row);
    }

    /// Adds what was counted for an op span of a lane, in the order of these, after its graph
    /// span was pushed or announced.
    ///
    /// # Errors
    /// When a block is full and the sink cannot be written.
    pub fn push_op_counter(&mut self, lane: u32, row: OpCounter) -> Result<()> {
        let until = self.span_graphs.get(&row.graph_span).map(|(_, end)| *end);
        if self.counters.push(lane, row, until) >= ROWS_PER_BLOCK {
            self.flush()?;
        }
        Ok(())
    }

    /// Adds a sample of a process.
    pub fn push_process_sample(&mut self, row: ProcessSample) {
        self.counters.push_process(row);
    }

    /// Adds a sample of the machine.
    pub fn push_system_sample(&mut self, row: SystemSample) {
        self.counters.push_system(row);
    }

    /// Adds a row of what the kernel did with threads and memory.
    pub fn push_machine(&mut self, row: MachineRow) {
        self.machine.push(row);
    }

    /// Adds a node execution to a lane. Spans of a lane come in order and do
    /// not overlap; a span that begins too early is moved, so that a lane never
    /// runs backwards.
    ///
    /// # Errors
    /// When a block is full and the sink cannot be written.
    pub fn push_op_span(&mut self, lane_id: u32, span: OpSpan) -> Result<()> {
        // A small file's lanes come one after the other, and are better cut where all are even.
        let most = if self.small { 2 * ROWS_PER_SMALL_BLOCK } else { ROWS_PER_BLOCK };
        let lane = self.lane(lane_id);
        let mut span = span;
        span.begin = span.begin.max(lane.range.end);
        if lane.rows.is_empty() {
            lane.range.begin = span.begin;
        }
        lane.rows.push_span(&span, lane.range.end);
        lane.range.end = span.end();
        if lane.rows.len() >= most {
            self.flush()?;
        }
        Ok(())
    }

    /// Writes everything buffered. A reader of the file sees it afterwards.
    ///
    /// # Errors
    /// When the sink cannot be written.
    pub fn flush(&mut self) -> Result<()> {
        self.write_strings()?;
        if !self.threads.is_empty() {
            let threads = std::mem::take(&mut self.threads);
            if let Err(error) = self.write_table(&threads, NO_LANE, TimeRange::default()) {
                self.threads = threads;
                return Err(error);
            }
        }
        // Rows that cannot be written stay: others that were refer to them.
        macro_rules! write {
            ($($table:ident)+) => { $( if let Some(range) = self.$table.range {
                let mut rows = std::mem::take(&mut self.$table.rows);
                let written = self.write_table(&rows, NO_LANE, range);
                if written.is_ok() {
                    rows.clear();
                    self.$table.range = None;
                }
                self.$table.rows = rows;
                written?;
            } )+ };
        }
        write!(decodes ubatches graph_spans losses level_changes marks selections experts);
        let mut inference = std::mem::take(&mut self.inference);
        let written = inference.write(&mut |head, columns| self.write(head, columns));
        self.inference = inference;
        written?;
        let mut offload = std::mem::take(&mut self.offload);
        let written = offload.write(&mut |head, columns| self.write(head, columns));
        self.offload = offload;
        written?;
        let mut machine = std::mem::take(&mut self.machine);
        let written = machine.write(&mut |head, columns| self.write(head, columns));
        self.machine = machine;
        written?;
        self.write_lanes()?;
        let mut counters = std::mem::take(&mut self.counters);
        let written = counters.write(self.sums, &mut |head, columns| self.write(head, columns));
        self.counters = counters;
        written?;
        self.write_segments(ROWS_PER_SEGMENT)?;
        // Spans of a graph arrive together with it; one graph may straddle a flush.
        if self.forgets_graph_spans && self.span_graphs.len() > 4096 {
            let newest = self.span_graphs.keys().max().copied().unwrap_or(0);
            self.span_graphs.retain(|&id, _| id + 1024 > newest);
        }
        self.sink.flush()?;
        Ok(())
    }

    /// Forgets op spans that are not written, after the sink could not be: the
    /// little that is left can then be finished, if the sink was cut back to
    /// [`Writer::bytes`].
    pub fn discard(&mut self) {
        self.lanes.values_mut().for_each(|lane| lane.rows.clear());
        self.counters.discard();
    }

    /// Most bytes that footer and trailer take, however long the lanes that there
    /// are become, if no more blocks are written and sums are left out.
    pub fn closing_bytes(&self) -> u64 {
        let summaries = (MAX_SUMMARY_BYTES * self.lanes.len() as u64).min(MAX_SUMMARIES_BYTES);
        Footer::encoded_len(self.blocks.len() + 1) + summaries + TRAILER_LEN as u64
    }

    /// Writes the ending, footer and trailer; gives the sink back.
    ///
    /// # Errors
    /// When the sink cannot be written.
    pub fn finish(mut self, ending: &Ending) -> Result<W> {
        self.close(ending)?;
        Ok(self.sink)
    }

    /// Writes the ending, footer and trailer, after which nothing may follow.
    ///
    /// # Errors
    /// When the sink cannot be written.
    pub fn close(&mut self, ending: &Ending) -> Result<()> {
        self.flush()?;
        self.write_segments(1)?;
        if self.sums {
            let joiner = std::mem::replace(&mut self.joiner, Joiner::new(0));
            if let Some(totals) = joiner.finish().filter(|totals| !totals.is_empty()) {
                self.write_table(&totals, NO_LANE, TimeRange::default())?;
            }
        }
        self.write_structured(kind::ENDING, ending)?;
        let ids = self.lane_ids();
        let summaries = ids.iter().filter_map(|id| Some(self.lanes.get(id)?.summary.finish())).collect();
        let footer = Footer::new(&self.blocks, fitting(summaries));
        let (kind, columns) = footer.encode().ok_or(self.too_large())?;
        let footer_offset = self.offset;
        let head = BlockHead { kind, lane: NO_LANE, rows: 1, range: TimeRange::default() };
        self.write(&head, &columns)?;
        self.sink.write_all(&trailer_to_bytes(footer_offset))?;
        self.offset += TRAILER_LEN as u64;
        self.sink.flush()?;
        Ok(())
    }

    fn lane(&mut self, id: u32) -> &mut Lane {
        self.lanes.entry(id).or_insert_with(|| Lane {
            rows: OpSpans::default(),
            range: TimeRange::default(),
            segment: SegmentBuilder::default(),
            summary: LaneBuilder::new(id),
        })
    }

    /// Adds rows to their lane's sums once they are in the file, so that these
    /// never tell of rows that could not be written.
    fn sum_up(&mut self, lane_id: u32, rows: &OpSpans, range: TimeRange) {
        let Some(lane) = self.lanes.get_mut(&lane_id) else { return };
        let mut graph_span = NONE;
        let (mut graph, mut ops) = (NONE, &[][..]);
        for span in rows.spans(range) {
            if span.graph_span != graph_span {
                graph_span = span.graph_span;
                graph = self.span_graphs.get(&graph_span).map_or(NONE, |(graph, _)| *graph);
                ops = self.graph_ops.get(&graph).map_or(&[][..], Vec::as_slice);
            }
            let op = ops.get(span.node as usize).copied().unwrap_or_default();
            lane.segment.add(&span, NodeOf { graph, nodes: ops.len(), op });
            self.joiner.add(lane_id, &span, graph, ops.len());
        }
    }

    fn lane_ids(&self) -> Vec<u32> {
        self.lanes.keys().copied().collect()
    }

    /// Sums up the segments that have so many rows.
    fn write_segments(&mut self, rows: u64) -> Result<()> {
        for id in self.lane_ids() {
            let Some(lane) = self.lanes.get_mut(&id).filter(|lane| lane.segment.rows() >= rows) else {
                continue;
            };
            let segment = std::mem::take(&mut lane.segment).finish();
            lane.summary.add(&segment);
            if self.sums {
                self.write_table(&segment.buckets(), id, segment.range)?;
                if let Some(nodes) = &segment.nodes {
                    self.write_table(nodes, id, segment.range)?;
                }
            }
        }
        Ok(())
    }

    fn write_lanes(&mut self) -> Result<()> {
        let mut siblings = Siblings::default();
        for id in self.lane_ids() {
            let Some(lane) = self.lanes.get_mut(&id) else { continue };
            if lane.rows.is_empty() {
                continue;
            }
            let range = lane.range;
            let mut rows = std::mem::take(&mut lane.rows);
            if self.small {
                let head = BlockHead { kind: kind::OP_SPANS, lane: id, rows: rows.len() as u32, range };
                let (columns, independent) = siblings.encode(&rows, range);
                self.write(&head, &columns)?;
                if let Some(info) = self.blocks.last().filter(|_| independent) {
                    siblings.add(*info, &rows);
                }
            } else {
                self.write_table(&rows, id, range)?;
            }
            self.sum_up(id, &rows, range);
            rows.clear();
            if let Some(lane) = self.lanes.get_mut(&id) {
                lane.rows = rows;
            }
        }
        Ok(())
    }

    fn write_strings(&mut self) -> Result<()> {
        if self.new_strings.is_empty() {
            return Ok(());
        }
        let strings = std::mem::take(&mut self.new_strings);
        let written = self.write_structured(kind::STRINGS, &strings);
        if written.is_err() {
            self.new_strings = strings;
        }
        written
    }

    fn write_table<T: Table>(&mut self, table: &T, lane: u32, range: TimeRange) -> Result<()> {
        let head = BlockHead { kind: T::KIND, lane, rows: table.len() as u32, range };
        self.write(&head, &tables::encode(table))
    }

    fn write_structured<T: Serialize>(&mut self, kind: u16, value: &T) -> Result<()> {
        let bytes = structured::to_bytes(value).ok_or(self.too_large())?;
        let head = BlockHead { kind, lane: NO_LANE, rows: 1, range: TimeRange::default() };
        self.write(&head, &[EncodedColumn { id: 0, encoding: encoding::STRUCTURED, bytes }])
    }

    fn too_large(&self) -> Error {
        Error::Malformed { what: "description", offset: self.offset, why: "larger than a block can hold" }
    }

    fn write(&mut self, head: &BlockHead, columns: &[EncodedColumn]) -> Result<()> {
        let mut bytes = std::mem::take(&mut self.scratch);
        bytes.clear();
        let level = if self.small { SMALL_ZSTD_LEVEL } else { ZSTD_LEVEL };
        let info = write_block(head, columns, level, self.offset, &mut bytes)?;
        let appended = self.append(&bytes, info);
        self.scratch = bytes;
        appended
    }

    fn append(&mut self, bytes: &[u8], info: BlockInfo) -> Result<()> {
        self.sink.write_all(bytes)?;
        self.blocks.push(BlockInfo { offset: self.offset, ..info });
        self.offset += bytes.len() as u64;
        Ok(())
    }
}
