//! Builds every summary of a file afresh, and compares.

use super::Problems;
use crate::buckets::BucketBuilder;
use crate::constants::{HEADER_LEN, kind};
use crate::nodes::Joiner;
use crate::problem::{Problem, ProblemKind};
use crate::segment::{LaneBuilder, NodeOf, Segment, SegmentBlocks, SegmentBuilder, segments};
use crate::summary::{LaneSummary, MAX_BUCKETS, fitting};
use crate::tables::{Buckets, ExecutionTotals, NodeTotals, Table as _};
use crate::writer::MANY_OPEN_NODES;
use crate::{BlockInfo, ColumnSet, Nanos, OpSpan, TraceFile};
use std::collections::{BTreeMap, HashMap, HashSet};

/// Minor version since which files have the summaries of segments and executions.
const SINCE: u16 = 1;

pub(super) struct Summaries {
    lanes: BTreeMap<u32, Lane>,
    joiner: Joiner,
    /// Blocks of op spans that belong to no segment.
    misplaced: HashSet<u64>,
    /// Segments that the file lacks or has wrong, and blocks that are no good.
    fresh: HashMap<u64, (u32, Segment)>,
    replaced: HashSet<u64>,
}

struct Lane {
    /// Segments to come; the current one is the first.
    segments: std::vec::IntoIter<SegmentBlocks>,
    current: Option<SegmentBlocks>,
    builder: SegmentBuilder,
    /// The last block that gave rows.
    last: u64,
    summary: LaneBuilder,
    /// Spans, and buckets as long as those of the footer's summary.
    spans: u64,
    footer: BucketBuilder,
}

/// What was built.
pub(super) struct Rebuilt {
    pub(super) summaries: Vec<LaneSummary>,
    pub(super) fresh: HashMap<u64, (u32, Segment)>,
    pub(super) executions: Option<ExecutionTotals>,
    /// Offsets of summaries in the file that say something else.
    pub(super) replaced: HashSet<u64>,
}

impl Summaries {
    pub(super) fn new(file: &TraceFile) -> Self {
        let (lanes, misplaced) = segments(&file.blocks);
        // Summaries that belong to no segment say nothing true.
        let claimed: HashSet<u64> = lanes
            .values()
            .flatten()
            .flat_map(|segment| segment.buckets.iter().chain(&segment.nodes))
            .map(|block| block.offset)
            .collect();
        let stray = |block: &&BlockInfo| {
            matches!(block.kind, kind::BUCKETS | kind::NODE_TOTALS) && !claimed.contains(&block.offset)
        };
        let replaced = file.blocks.iter().filter(stray).map(|block| block.offset).collect();
        let footer = file.read_footer().map_or_else(Vec::new, |footer| footer.summaries);
        let known: HashMap<u32, (Nanos, usize)> = footer
            .iter()
            .rev()
            .map(|summary| (summary.lane, (summary.bucket_nanos, summary.compute.len())))
            .collect();
        let lane = |(id, segments): (u32, Vec<SegmentBlocks>)| {
            // As many buckets as are compared, and one that may be empty.
            let (nanos, buckets) = known.get(&id).copied().unwrap_or((1 << 63, 1));
            let shift = if nanos.is_power_of_two() { nanos.trailing_zeros() } else { 63 };
            let lane = Lane {
                segments: segments.into_iter(),
                current: None,
                builder: SegmentBuilder::default(),
                last: 0,
                summary: LaneBuilder::new(id),
                spans: 0,
                footer: BucketBuilder::from_zero(shift, (buckets + 1).min(MAX_BUCKETS)),
            };
            (id, lane)
        };
        Self {
            lanes: lanes.into_iter().map(lane).collect(),
            joiner: Joiner::new(MANY_OPEN_NODES),
            misplaced: misplaced.iter().map(|block| block.offset).collect(),
            fresh: HashMap::new(),
            replaced,
        }
    }

    /// A row of a block; blocks come in the order of the file.
    pub(super) fn add(&mut self, block: &BlockInfo, span: &OpSpan, of: NodeOf) {
        if self.misplaced.contains(&block.offset) {
            return;
        }
        self.joiner.add(block.lane, span, of.graph, of.nodes);
        let Some(lane) = self.lanes.get_mut(&block.lane) else { return };
        lane.spans += 1;
        lane.last = block.offset;
        lane.footer.add(span, of.op);
        lane.builder.add(span, of);
    }

    /// All rows of a block came that can be read.
    pub(super) fn end_of_block(&mut self, block: &BlockInfo, file: &TraceFile, problems: &mut Problems) {
        let Some(lane) = self.lanes.get_mut(&block.lane) else { return };
        if lane.current.is_none() {
            lane.current = lane.segments.next();
        }
        let is_last =
            |segment: &&SegmentBlocks| segment.blocks.last().is_some_and(|last| last.offset == block.offset);
        let Some(segment) = lane.current.as_ref().filter(is_last) else { return };
        let built = std::mem::take(&mut lane.builder).finish();
        lane.summary.add(&built);
        let same_buckets = segment.buckets.map(|info| {
            let table = file.read::<Buckets>(&info, ColumnSet::ALL).ok();
            table.is_some_and(|table| table == built.buckets())
        });
        let same_nodes = segment.nodes.map(|info| {
            let table = file.read::<NodeTotals>(&info, ColumnSet::ALL).ok();
            table == built.nodes
        });
        for (info, same) in [(segment.buckets, same_buckets), (segment.nodes, same_nodes)] {
            if let Some(info) = info
                && same == Some(false)
                && !problems.damaged.contains(&info.offset)
            {
                problems.add(ProblemKind::Summary, &info, super::name(info.kind), 1);
            }
        }
        let missing = file.header.minor >= SINCE
            && (segment.buckets.is_none() || segment.nodes.is_none() && built.nodes.is_some());
        if missing || same_buckets == Some(false) || same_nodes == Some(false) {
            self.replaced.extend(segment.buckets.iter().chain(&segment.nodes).map(|info| info.offset));
            if built.rows > 0 {
                self.fresh.insert(lane.last, (block.lane, built));
            }
        }
        lane.current = None;
    }

    pub(super) fn finish(mut self, file: &TraceFile, problems: &mut Problems) -> Rebuilt {
        let footer = file.read_footer();
        let summaries = self.lanes.values().filter(|lane| lane.spans > 0);
        let summaries = fitting(summaries.map(|lane| lane.summary.finish()).collect());
        let has_room: HashSet<u32> = summaries.iter().map(|summary| summary.lane).collect();
        let mut add = |offset, table, lane| {
            problems.list.push(Problem { kind: ProblemKind::Summary, offset, count: 1, table, lane });
        };
        if let Some(footer) = &footer {
            let offset = file.footer_offset().unwrap_or(HEADER_LEN as u64);
            let mut lanes: Vec<u32> = self.lanes.keys().copied().collect();
            lanes.extend(footer.summaries.iter().map(|summary| summary.lane));
            lanes.sort_unstable();
            lanes.dedup();
            let known: HashMap<u32, &LaneSummary> =
                footer.summaries.iter().rev().map(|summary| (summary.lane, summary)).collect();
            for id in lanes {
                let lane = self.lanes.get(&id);
                let summary = known.get(&id).copied();
                let same = match (lane, summary) {
                    (Some(lane), Some(summary)) => summary.agrees(lane.spans, &lane.footer),
                    (Some(lane), None) => lane.spans == 0 || !has_room.contains(&id),
                    _ => false,
                };
                if !same {
                    add(offset, "footer", Some(id));
                }
            }
        }
        let built = self.joiner.finish().filter(|totals| !totals.is_empty());
        let mut found = false;
        for info in file.blocks.iter().filter(|info| info.kind == kind::EXECUTION_TOTALS) {
            let table = file.read::<ExecutionTotals>(info, ColumnSet::ALL).ok();
            if table.is_none() || table != built || found {
                self.replaced.insert(info.offset);
                if table.is_some() {
                    add(info.offset, ExecutionTotals::NAME, None);
                }
            } else {
                found = true;
            }
        }
        let executions = built.filter(|_| !found && file.header.minor >= SINCE);
        Rebuilt { summaries, fresh: self.fresh, executions, replaced: self.replaced }
    }
}
