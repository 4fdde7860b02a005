//! Counts beside op spans that are handed out block by block.

use crate::Trace;
use llmtrace_format::counters::{OpCounter, OpCounters};
use llmtrace_format::{BlockInfo, ColumnSet, OpSpan};
use std::collections::HashMap;

/// Finds the counts of the op spans of each lane, which are asked for by begin; one block of a
/// lane is in memory.
pub(super) struct Counted<'a> {
    trace: &'a Trace,
    lanes: HashMap<u32, Lane<'a>>,
}

#[derive(Default)]
struct Lane<'a> {
    /// Blocks not looked at yet, the next one last.
    blocks: Vec<&'a BlockInfo>,
    rows: OpCounters,
    at: usize,
}

impl<'a> Counted<'a> {
    pub(super) fn new(trace: &'a Trace) -> Self {
        let mut lanes: HashMap<u32, Lane<'_>> = HashMap::new();
        for block in trace.file.blocks_of::<OpCounters>() {
            lanes.entry(block.lane).or_default().blocks.push(block);
        }
        for lane in lanes.values_mut() {
            lane.blocks.sort_by_key(|block| std::cmp::Reverse((block.range.begin, block.range.end)));
        }
        Self { trace, lanes }
    }

    /// What was counted for an op span, if anything was.
    pub(super) fn of(&mut self, lane: u32, span: &OpSpan) -> Option<OpCounter> {
        let lane = self.lanes.get_mut(&lane)?;
        loop {
            while let Some(row) = lane.rows.get(lane.at) {
                if row.begin > span.begin {
                    return None;
                }
                let is_its =
                    (row.begin, row.graph_span, row.node) == (span.begin, span.graph_span, span.node);
                if is_its {
                    return Some(row);
                }
                lane.at += 1;
            }
            let block = lane.blocks.pop()?;
            // A damaged block has no counts.
            lane.rows = self.trace.file.read::<OpCounters>(block, ColumnSet::ALL).unwrap_or_default();
            lane.at = lane.rows.begin.partition_point(|begin| *begin < span.begin);
        }
    }
}
