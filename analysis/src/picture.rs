//! Time in buckets, at every scale: each level's buckets are four times as long
//! as those of the level before.

use crate::fold::{Bar, What};
use crate::{Nanos, TimeRange};
use llmtrace_format::meta::StrId;
use llmtrace_format::summary::LaneSummary;
use llmtrace_format::tables::{Bucket, Buckets};

/// How much longer the buckets of the next level are, as a power of two.
const STEP: u32 = 2;

/// Buckets of one part of a lane.
#[derive(Debug, Default)]
pub(crate) struct Picture {
    /// What is outside belongs to somebody else.
    range: TimeRange,
    /// Levels with at least one bucket, the finest first.
    levels: Vec<Level>,
}

#[derive(Debug, Default)]
struct Level {
    shift: u32,
    buckets: Vec<Cell>,
}

/// A bucket that is not empty.
#[derive(Clone, Copy, Debug)]
struct Cell {
    index: u64,
    compute: u64,
    wait: u64,
    longest: u64,
    count: u32,
    op: StrId,
    /// Computing of all buckets below in which that operator was the longest.
    op_nanos: u64,
}

impl Cell {
    fn merge(&mut self, other: &Self) {
        self.compute = self.compute.saturating_add(other.compute);
        self.wait = self.wait.saturating_add(other.wait);
        self.count = self.count.saturating_add(other.count);
        self.longest = self.longest.max(other.longest);
        if self.op == other.op {
            self.op_nanos = self.op_nanos.saturating_add(other.op_nanos);
        } else if other.op_nanos > self.op_nanos {
            (self.op, self.op_nanos) = (other.op, other.op_nanos);
        }
    }
}

impl Picture {
    /// Of a segment's buckets; `None` when they make no sense.
    pub(crate) fn of_segment(buckets: &Buckets, range: TimeRange) -> Option<Self> {
        let nanos = buckets.nanos.first().copied().unwrap_or(1);
        let in_order = buckets.index.is_sorted_by(|a, b| a < b);
        if !nanos.is_power_of_two() || !in_order || buckets.nanos.iter().any(|&other| other != nanos) {
            return None;
        }
        let inside = range.begin / nanos..=range.end / nanos;
        if buckets.index.iter().any(|index| !inside.contains(index)) {
            return None;
        }
        let cell = |bucket: Bucket| Cell {
            index: bucket.index,
            compute: bucket.compute,
            wait: bucket.wait,
            longest: bucket.longest,
            count: bucket.count,
            op: StrId(bucket.op),
            op_nanos: bucket.compute,
        };
        Some(Self::new(nanos.trailing_zeros(), buckets.rows().map(cell).collect(), range))
    }

    /// Of a lane's summary in the footer; `None` when it makes no sense.
    pub(crate) fn of_lane(summary: &LaneSummary) -> Option<Self> {
        let shift = summary.bucket_nanos.is_power_of_two().then(|| summary.bucket_nanos.trailing_zeros())?;
        let sums = summary.compute.iter().zip(&summary.wait).zip(&summary.count).zip(&summary.op);
        let cell = |(index, (((&compute, &wait), &count), &op))| Cell {
            index,
            compute,
            wait,
            longest: 0,
            count,
            op,
            op_nanos: compute,
        };
        let filled = |cell: &Cell| cell.compute > 0 || cell.wait > 0 || cell.count > 0;
        let cells = (0..).zip(sums).map(cell).filter(filled).collect();
        Some(Self::new(shift, cells, TimeRange::new(0, Nanos::MAX)))
    }

    fn new(shift: u32, buckets: Vec<Cell>, range: TimeRange) -> Self {
        let mut levels = vec![Level { shift, buckets }];
        while let Some(below) = levels.last().filter(|level| level.buckets.len() > 1 && level.shift < 62) {
            let mut above = Level { shift: (below.shift + STEP).min(63), buckets: Vec::new() };
            let up = above.shift - below.shift;
            for cell in &below.buckets {
                let index = cell.index >> up;
                match above.buckets.last_mut().filter(|last| last.index == index) {
                    Some(last) => last.merge(cell),
                    None => above.buckets.push(Cell { index, ..*cell }),
                }
            }
            levels.push(above);
        }
        Self { range, levels }
    }

    /// Length of its shortest buckets.
    pub(crate) fn nanos(&self) -> u64 {
        self.levels.first().map_or(1, |level| 1 << level.shift)
    }

    /// Bytes of memory.
    pub(crate) fn bytes(&self) -> usize {
        self.levels.iter().map(|level| level.buckets.len() * size_of::<Cell>()).sum::<usize>() + 128
    }

    /// The buckets that begin inside `range` (and the one that reaches into it),
    /// put together to such of 2^`shift` nanoseconds, or as they are when they
    /// are longer. A bar goes on where another picture's ended in the same bucket.
    pub(crate) fn bars(&self, range: TimeRange, shift: u32, bars: &mut Vec<Bar>) {
        let Some(level) = self.levels.iter().rev().find(|level| level.shift <= shift).or(self.levels.first())
        else {
            return;
        };
        let up = shift.saturating_sub(level.shift).min(63 - level.shift);
        let shift = level.shift + up;
        // Whole bars, whatever is in sight of them.
        let begin = range.begin.max(self.range.begin) >> shift << up;
        let first = level.buckets.partition_point(|cell| cell.index < begin);
        let mut open: Option<Cell> = None;
        for cell in level.buckets.get(first..).unwrap_or_default() {
            let index = cell.index >> up;
            if index.saturating_mul(1 << shift) >= range.end {
                break;
            }
            match &mut open {
                Some(open) if open.index == index => open.merge(cell),
                _ => {
                    if let Some(done) = open.replace(Cell { index, ..*cell }) {
                        self.bar(&done, shift, bars);
                    }
                }
            }
        }
        if let Some(done) = open {
            self.bar(&done, shift, bars);
        }
    }

    fn bar(&self, cell: &Cell, shift: u32, bars: &mut Vec<Bar>) {
        let begin = cell.index.saturating_mul(1 << shift);
        let end = begin.saturating_add(1 << shift).min(self.range.end);
        if let Some(last) = bars.last_mut()
            && let What::Buckets { op, longest } = &mut last.what
            && last.range.end > begin
            && last.range.begin >> shift == cell.index
        {
            // The last segment ended inside this bucket.
            let before = last.compute;
            last.range.end = end.max(last.range.end);
            last.count = last.count.saturating_add(u64::from(cell.count));
            last.compute = last.compute.saturating_add(cell.compute);
            last.wait = last.wait.saturating_add(cell.wait);
            *longest = (*longest).max(cell.longest);
            if cell.compute > before {
                *op = cell.op;
            }
            return;
        }
        bars.push(Bar {
            range: TimeRange::new(begin.max(self.range.begin), end),
            count: cell.count.into(),
            compute: cell.compute,
            wait: cell.wait,
            what: What::Buckets { op: cell.op, longest: cell.longest },
        });
    }
}
