//! The op spans of one place in the thread pool: which blocks and segments hold
//! them, and how to get at them.

use crate::cache::{Part, SegmentSummary, Value};
use crate::picture::Picture;
use crate::rows::Rows;
use crate::{Nanos, OpSpan, TimeRange, Trace};
use llmtrace_format::segment::{NodeOf, SegmentBlocks, SegmentBuilder};
use llmtrace_format::summary::LaneSummary;
use llmtrace_format::tables::{Buckets, NodeTotals};
use llmtrace_format::{BlockInfo, ColumnSet, constants};
use std::ops::Range;
use std::sync::Arc;

/// A lane. Its spans are in order of time and do not overlap.
#[derive(Debug)]
pub struct Lane {
    /// `ith` of its threads.
    pub id: u32,
    /// Number of its spans.
    pub rows: u64,
    pub(crate) blocks: Vec<LaneBlock>,
    pub(crate) segments: Vec<LaneSegment>,
    /// The whole lane, from the footer.
    pub(crate) picture: Option<Picture>,
}

/// A block of a lane, and the number of the lane's rows before it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LaneBlock {
    pub(crate) info: BlockInfo,
    pub(crate) first: u64,
}

/// Some consecutive blocks of a lane.
#[derive(Clone, Debug)]
pub(crate) struct LaneSegment {
    pub(crate) blocks: Range<usize>,
    pub(crate) range: TimeRange,
    pub(crate) buckets: Option<BlockInfo>,
    pub(crate) nodes: Option<BlockInfo>,
}

/// A span, by its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// [`Lane::id`].
    pub lane: u32,
    /// Its number among the spans of the lane.
    pub index: u64,
}

/// A span and its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where it is.
    pub place: Place,
    /// What it is.
    pub span: OpSpan,
}

/// What is known of a part without waiting.
#[derive(Clone, Debug)]
pub(crate) enum Lookup<T> {
    /// It is there.
    Ready(T),
    /// It has to be decoded first.
    Missing,
    /// It cannot be read.
    Damaged,
}

impl<T> Lookup<T> {
    pub(crate) fn ready(self) -> Option<T> {
        if let Self::Ready(value) = self { Some(value) } else { None }
    }
}

impl Lane {
    pub(crate) fn new(id: u32, segments: Vec<SegmentBlocks>, summary: Option<&LaneSummary>) -> Self {
        let mut lane = Self {
            id,
            rows: 0,
            blocks: Vec::new(),
            segments: Vec::with_capacity(segments.len()),
            picture: summary.and_then(Picture::of_lane),
        };
        for segment in segments {
            let first = lane.blocks.len();
            for info in &segment.blocks {
                lane.blocks.push(LaneBlock { info: *info, first: lane.rows });
                lane.rows += u64::from(info.rows);
            }
            lane.segments.push(LaneSegment {
                blocks: first..lane.blocks.len(),
                range: segment.range(),
                buckets: segment.buckets,
                nodes: segment.nodes,
            });
        }
        lane
    }

    /// Indexes of the blocks that touch a range.
    pub(crate) fn blocks_in(&self, range: TimeRange) -> Range<usize> {
        let first = self.blocks.partition_point(|block| {
            block.info.range.end <= range.begin && block.info.range.begin < range.begin
        });
        let last = self.blocks.partition_point(|block| block.info.range.begin < range.end);
        first..last.max(first)
    }

    /// Indexes of the segments that touch a range.
    pub(crate) fn segments_in(&self, range: TimeRange) -> Range<usize> {
        let first = self
            .segments
            .partition_point(|segment| segment.range.end <= range.begin && segment.range.begin < range.begin);
        let last = self.segments.partition_point(|segment| segment.range.begin < range.end);
        first..last.max(first)
    }

    /// The block of a span's number, and its row there.
    pub(crate) fn block_of(&self, index: u64) -> Option<(usize, usize)> {
        let block = self.blocks.partition_point(|block| block.first <= index).checked_sub(1)?;
        let found = self.blocks.get(block)?;
        let row = index - found.first;
        (row < u64::from(found.info.rows)).then_some((block, row as usize))
    }
}

impl Trace {
    /// What a segment says, as far as it is known.
    pub(crate) fn segment_if_known(&self, lane: usize, segment: usize) -> Lookup<Arc<SegmentSummary>> {
        match self.cache.get(Part::Segment(lane as u32, segment as u32)) {
            Some(Value::Segment(summary)) => Lookup::Ready(summary),
            Some(_) => Lookup::Damaged,
            None => Lookup::Missing,
        }
    }

    /// The rows of a block, as far as they are known.
    pub(crate) fn rows_if_known(&self, lane: usize, block: usize) -> Lookup<Arc<Rows>> {
        match self.cache.get(Part::Rows(lane as u32, block as u32)) {
            Some(Value::Rows(rows)) => Lookup::Ready(rows),
            Some(_) => Lookup::Damaged,
            None => Lookup::Missing,
        }
    }

    /// The rows of a block, decoded if they must be; `None` when it is damaged.
    pub(crate) fn rows(&self, lane: usize, block: usize) -> Option<Arc<Rows>> {
        match self.rows_if_known(lane, block) {
            Lookup::Ready(rows) => Some(rows),
            Lookup::Damaged => None,
            Lookup::Missing => {
                let rows = self.read_rows(lane, block);
                let value = rows.clone().map_or(Value::Damaged, Value::Rows);
                self.cache.put(Part::Rows(lane as u32, block as u32), value);
                rows
            }
        }
    }

    /// The rows of a block, from the cache or decoded for the caller alone: what
    /// reads a whole trace once leaves the cache to what is looked at.
    pub(crate) fn rows_once(&self, lane: usize, block: usize) -> Option<Arc<Rows>> {
        match self.rows_if_known(lane, block) {
            Lookup::Ready(rows) => Some(rows),
            Lookup::Damaged => None,
            Lookup::Missing => self.read_rows(lane, block),
        }
    }

    fn read_rows(&self, lane: usize, block: usize) -> Option<Arc<Rows>> {
        let info = &self.lanes().get(lane)?.blocks.get(block)?.info;
        let rows = Rows::read(&self.file, info);
        if rows.is_err() {
            self.add_damaged(info);
        }
        rows.ok().map(Arc::new)
    }

    /// What a segment says, read or made from its rows.
    pub(crate) fn segment(&self, lane: usize, segment: usize) -> Option<Arc<SegmentSummary>> {
        match self.segment_if_known(lane, segment) {
            Lookup::Ready(summary) => Some(summary),
            Lookup::Damaged => None,
            Lookup::Missing => {
                let of = self.lanes().get(lane)?.segments.get(segment)?;
                let summary = self.read_segment(of).unwrap_or_else(|| self.build_segment(lane, of));
                let summary = Arc::new(summary);
                let value = Value::Segment(Arc::clone(&summary));
                self.cache.put(Part::Segment(lane as u32, segment as u32), value);
                Some(summary)
            }
        }
    }

    fn read_segment(&self, segment: &LaneSegment) -> Option<SegmentSummary> {
        let table: Buckets = self.file.read(segment.buckets.as_ref()?, ColumnSet::ALL).ok()?;
        Some(SegmentSummary { picture: Picture::of_segment(&table, segment.range)?, nodes: None })
    }

    fn build_segment(&self, lane: usize, segment: &LaneSegment) -> SegmentSummary {
        let mut builder = SegmentBuilder::default();
        for block in segment.blocks.clone() {
            let Some(rows) = self.rows_once(lane, block) else { continue };
            for row in 0..rows.len() {
                let span = rows.span(row);
                builder.add(&span, self.node_info(&span));
            }
        }
        let built = builder.finish();
        let picture = Picture::of_segment(&built.buckets(), segment.range).unwrap_or_default();
        SegmentSummary { picture, nodes: built.nodes }
    }

    fn node_info(&self, span: &OpSpan) -> NodeOf {
        let id = self.graph_span(span.graph_span).map_or(constants::NONE, |run| run.graph);
        let graph = self.graph(id);
        let nodes = graph.map_or(0, |graph| graph.tensors.len().min(graph.nodes as usize));
        let op = graph.and_then(|graph| graph.tensors.get(span.node as usize)).map(|tensor| tensor.op);
        NodeOf { graph: id, nodes, op: op.unwrap_or_default() }
    }

    /// The sums by node of a segment, without its rows; `None` when there are none.
    pub(crate) fn segment_nodes(&self, lane: usize, segment: usize) -> Option<Arc<NodeTotals>> {
        let of = self.lanes().get(lane)?.segments.get(segment)?;
        if let Some(info) = &of.nodes
            && let Ok(table) = self.file.read::<NodeTotals>(info, ColumnSet::ALL)
        {
            return Some(Arc::new(table));
        }
        if of.buckets.is_some() {
            // It was left out: there are few rows.
            return None;
        }
        Some(Arc::new(self.segment(lane, segment)?.nodes.clone()?))
    }

    /// Decodes a part that is not known yet.
    pub fn decode(&self, part: Part) {
        match part {
            Part::Segment(lane, segment) => drop(self.segment(lane as usize, segment as usize)),
            Part::Rows(lane, block) => drop(self.rows(lane as usize, block as usize)),
        }
    }

    /// The span at a place; decodes its block if it must.
    pub fn span(&self, place: Place) -> Option<OpSpan> {
        let lane = self.lane_index(place.lane)?;
        let (block, row) = self.lanes().get(lane)?.block_of(place.index)?;
        self.rows(lane, block)?.get(row)
    }

    /// All spans of a lane that touch a range, in order, block by block; until
    /// `each` returns `false`. Damaged blocks are left out.
    pub fn each_span(&self, lane: u32, range: TimeRange, mut each: impl FnMut(u64, &OpSpan) -> bool) {
        let Some(index) = self.lane_index(lane) else { return };
        let Some(lane) = self.lanes().get(index) else { return };
        for block in lane.blocks_in(range) {
            let Some((rows, of)) = self.rows_once(index, block).zip(lane.blocks.get(block)) else { continue };
            for row in rows_in(&rows, range) {
                if !each(of.first + row as u64, &rows.span(row)) {
                    return;
                }
            }
        }
    }

    /// All spans of a lane, in memory: for tests and short traces.
    pub fn spans(&self, lane: u32) -> Vec<OpSpan> {
        let mut spans = Vec::new();
        self.each_span(lane, TimeRange::new(0, Nanos::MAX), |_, span| {
            spans.push(*span);
            true
        });
        spans
    }

    /// The span of a lane at `time`, if any, and if its block is decoded.
    pub fn span_at_if_known(&self, lane: u32, time: Nanos) -> Option<Found> {
        let index = self.lane_index(lane)?;
        let of = self.lanes().get(index)?;
        let block = of.blocks.partition_point(|block| block.info.range.begin <= time).checked_sub(1)?;
        let rows = self.rows_if_known(index, block).ready()?;
        let row = rows.partition(0, |row| rows.begin(row) <= time).checked_sub(1)?;
        let inside = time < rows.end(row).max(rows.begin(row).saturating_add(1));
        let place = Place { lane, index: of.blocks.get(block)?.first + row as u64 };
        inside.then(|| Found { place, span: rows.span(row) })
    }

    /// The spans of the same execution as one, a span for each lane, as far as
    /// they are decoded; and what would have to be decoded for the others. They
    /// lie in `range`, and most likely at the same time.
    pub fn execution(&self, span: &OpSpan, range: TimeRange) -> (Vec<Found>, Vec<Part>) {
        let (mut found, mut missing) = (Vec::new(), Vec::new());
        let is_it = |other: &OpSpan| other.graph_span == span.graph_span && other.node == span.node;
        for (index, lane) in self.lanes().iter().enumerate() {
            let at_once = self.span_at_if_known(lane.id, span.begin);
            if let Some(other) = at_once.filter(|other| is_it(&other.span)) {
                found.push(other);
                continue;
            }
            let mut lacks = Vec::new();
            let mut here = None;
            for block in lane.blocks_in(range) {
                match self.rows_if_known(index, block) {
                    Lookup::Missing => lacks.push(Part::Rows(index as u32, block as u32)),
                    Lookup::Damaged => {}
                    Lookup::Ready(rows) => {
                        let first = lane.blocks.get(block).map_or(0, |block| block.first);
                        let row = rows_in(&rows, range).find(|&row| {
                            rows.node(row) == span.node && rows.graph_span(row) == span.graph_span
                        });
                        let place = |row: usize| Place { lane: lane.id, index: first + row as u64 };
                        here = here.or(row.map(|row| Found { place: place(row), span: rows.span(row) }));
                    }
                }
            }
            match here {
                Some(other) => found.push(other),
                None => missing.extend(lacks),
            }
        }
        (found, missing)
    }

    /// The longest span of a lane of those that touch a range; decodes what it must.
    pub fn longest_in(&self, lane: u32, range: TimeRange) -> Option<Found> {
        let mut longest: Option<Found> = None;
        self.each_span(lane, range, |index, span| {
            if longest.is_none_or(|known| span.compute > known.span.compute) {
                longest = Some(Found { place: Place { lane, index }, span: *span });
            }
            true
        });
        longest
    }
}

/// Rows that share a nanosecond with `range`, or begin in it.
pub(crate) fn rows_in(rows: &Rows, range: TimeRange) -> Range<usize> {
    let first = rows.partition(0, |row| rows.end(row) <= range.begin && rows.begin(row) < range.begin);
    let last = rows.partition(first, |row| rows.begin(row) < range.end);
    first..last
}
