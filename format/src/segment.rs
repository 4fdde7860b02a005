//! Segments: what a lane's consecutive blocks of op spans say together, so that
//! a picture and totals need not decode them.
//!
//! A segment ends with its lane's block once it has [`ROWS_PER_SEGMENT`] rows.
//! Its buckets and its sums by node are blocks of their own, behind it in the
//! file, and bounded by a share of its rows.

use crate::buckets::BucketBuilder;
use crate::constants::kind;
use crate::meta::StrId;
use crate::nodes::NodeSums;
use crate::summary::{LaneSummary, MAX_BUCKETS};
use crate::tables::{Bucket, Buckets, NodeTotals};
use crate::{BlockInfo, Nanos, OpSpan, TimeRange};
use std::collections::BTreeMap;

/// Rows of a lane after which a segment ends with the block: a little less than
/// a writer's blocks have, which are not all full.
pub const ROWS_PER_SEGMENT: u64 = 48 << 10;
/// Rows for each bucket, at least.
const ROWS_PER_BUCKET: u64 = 64;
/// Rows for each row of node totals, at least: else they are left out.
const ROWS_PER_NODE: u64 = 32;
/// Most buckets of a segment.
pub(crate) const MAX_SEGMENT_BUCKETS: usize = 2048;
/// Shortest bucket, as a power of two.
const FIRST_SHIFT: u32 = 12;
/// Rows of a lane for each bucket of its summary in the footer, at least.
const ROWS_PER_LANE_BUCKET: u64 = 128;

/// What a node is, for sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeOf {
    /// [`crate::meta::Graph::id`]; [`crate::constants::NONE`] when unknown.
    pub graph: u32,
    /// Nodes of that graph.
    pub nodes: usize,
    /// The node's operator.
    pub op: StrId,
}

/// Builds what a segment says from its rows, in order of time.
#[derive(Debug)]
pub struct SegmentBuilder {
    rows: u64,
    range: TimeRange,
    buckets: BucketBuilder,
    /// Whether the buckets' length is given.
    fixed: bool,
    nodes: NodeSums,
}

impl Default for SegmentBuilder {
    fn default() -> Self {
        Self::new(None)
    }
}

impl SegmentBuilder {
    /// A segment without rows; its buckets as long as asked for (a power of
    /// two), else as its rows need.
    pub fn new(nanos: Option<u64>) -> Self {
        let nanos = nanos.filter(|nanos| nanos.is_power_of_two());
        let shift = nanos.map_or(FIRST_SHIFT, u64::trailing_zeros);
        Self {
            rows: 0,
            range: TimeRange::default(),
            buckets: BucketBuilder::new(shift, MAX_SEGMENT_BUCKETS),
            fixed: nanos.is_some(),
            nodes: NodeSums::default(),
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// From the first row's begin to the last one's end.
    pub fn range(&self) -> TimeRange {
        self.range
    }

    /// Adds a row.
    #[inline]
    pub fn add(&mut self, span: &OpSpan, of: NodeOf) {
        if self.rows == 0 {
            self.range.begin = span.begin;
        }
        self.rows += 1;
        self.range.end = self.range.end.max(span.end());
        self.buckets.add(span, of.op);
        self.nodes.add(span, of.graph, of.nodes);
    }

    /// What the rows say.
    pub fn finish(mut self) -> Segment {
        if !self.fixed {
            self.buckets.shrink((self.rows / ROWS_PER_BUCKET).max(1) as usize);
        }
        let totals = self.nodes.table();
        let totals = totals.filter(|table| table.spans.len() as u64 <= self.rows / ROWS_PER_NODE);
        Segment { rows: self.rows, range: self.range, builder: self.buckets, nodes: totals }
    }
}

/// What the rows of a segment say.
#[derive(Debug)]
pub struct Segment {
    /// Number of rows.
    pub rows: u64,
    /// From the first row's begin to the last one's end.
    pub range: TimeRange,
    builder: BucketBuilder,
    /// Sums by node; none where they would not be much shorter than the rows.
    pub nodes: Option<NodeTotals>,
}

impl Segment {
    /// The buckets that are not empty, by index.
    pub fn buckets(&self) -> Buckets {
        let mut table = Buckets::default();
        let nanos = self.builder.nanos();
        for (index, bucket) in self.builder.buckets().filter(|(_, bucket)| !bucket.is_empty()) {
            let (compute, wait, count, longest) = (bucket.compute, bucket.wait, bucket.count, bucket.longest);
            let op = bucket.op().0;
            table.push(Bucket { nanos, index, compute, wait, count, longest, op });
        }
        table
    }
}

/// Builds the summary of a whole lane from its segments.
#[derive(Debug)]
pub(crate) struct LaneBuilder {
    lane: u32,
    spans: u64,
    buckets: BucketBuilder,
}

impl LaneBuilder {
    pub(crate) fn new(lane: u32) -> Self {
        Self { lane, spans: 0, buckets: BucketBuilder::from_zero(FIRST_SHIFT, MAX_BUCKETS) }
    }

    pub(crate) fn add(&mut self, segment: &Segment) {
        self.spans += segment.rows;
        if segment.rows > 0 {
            self.buckets.merge(&segment.builder);
        }
    }

    pub(crate) fn finish(&self) -> LaneSummary {
        let most = (self.spans / ROWS_PER_LANE_BUCKET).clamp(16, MAX_BUCKETS as u64);
        let mut buckets = self.buckets.clone();
        buckets.shrink(most as usize);
        LaneSummary::of(self.lane, self.spans, &buckets)
    }
}

/// The blocks of a segment, as the file's buckets say, or cut as a writer would
/// where the file says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SegmentBlocks {
    /// Its blocks of op spans, by time.
    pub blocks: Vec<BlockInfo>,
    /// The block with its buckets.
    pub buckets: Option<BlockInfo>,
    /// The block with its sums by node.
    pub nodes: Option<BlockInfo>,
}

impl SegmentBlocks {
    /// Number of rows.
    pub fn rows(&self) -> u64 {
        self.blocks.iter().map(|block| u64::from(block.rows)).sum()
    }

    /// From the first row's begin to the last one's end.
    pub fn range(&self) -> TimeRange {
        let begin: Nanos = self.blocks.first().map_or(0, |block| block.range.begin);
        TimeRange::new(begin, self.blocks.last().map_or(begin, |block| block.range.end))
    }
}

/// Cuts the lanes of a file into segments, by lane. Blocks that begin before the
/// one before them in their lane ended come second: a hostile file may have
/// them, and they belong nowhere.
pub fn segments(blocks: &[BlockInfo]) -> (BTreeMap<u32, Vec<SegmentBlocks>>, Vec<BlockInfo>) {
    #[derive(Default)]
    struct Lane {
        closed: Vec<SegmentBlocks>,
        open: SegmentBlocks,
        end: Nanos,
    }
    impl Lane {
        fn close(&mut self) {
            if !self.open.blocks.is_empty() {
                self.closed.push(std::mem::take(&mut self.open));
            }
        }
    }
    let mut lanes: BTreeMap<u32, Lane> = BTreeMap::new();
    let mut misplaced = Vec::new();
    for block in blocks {
        match block.kind {
            kind::OP_SPANS => {
                let lane = lanes.entry(block.lane).or_default();
                if block.range.begin < lane.end {
                    misplaced.push(*block);
                    continue;
                }
                if lane.open.rows() >= ROWS_PER_SEGMENT {
                    lane.close();
                }
                lane.end = block.range.end;
                lane.open.blocks.push(*block);
            }
            kind::BUCKETS => {
                let Some(lane) = lanes.get_mut(&block.lane) else { continue };
                if !lane.open.blocks.is_empty() && lane.open.range() == block.range {
                    lane.open.buckets = Some(*block);
                    lane.close();
                }
            }
            kind::NODE_TOTALS => {
                let Some(lane) = lanes.get_mut(&block.lane) else { continue };
                if !lane.open.blocks.is_empty() && lane.open.range() == block.range {
                    lane.open.nodes = Some(*block);
                    lane.close();
                } else if let Some(last) = lane.closed.last_mut()
                    && lane.open.blocks.is_empty()
                    && last.range() == block.range
                {
                    last.nodes.get_or_insert(*block);
                }
            }
            _ => {}
        }
    }
    let close = |(id, mut lane): (u32, Lane)| {
        lane.close();
        (id, lane.closed)
    };
    (lanes.into_iter().map(close).collect(), misplaced)
}
