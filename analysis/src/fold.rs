//! Level of detail: what a lane looks like at a given scale.
//!
//! A lane may have a hundred million spans and a screen has a few thousand
//! pixels. [`fold`] takes the coarsest source that is still as fine as a pixel:
//!
//! ```text
//! footer: the whole lane in 2048 buckets     ─► zoomed out
//! segments: a bucket for some 64 spans        ─► between
//! rows of the blocks in sight                 ─► zoomed in
//! ```
//!
//! The last two are decoded on demand. What is not there yet is asked for, and
//! shown from the next coarser source meanwhile. From rows, a span at least
//! `min_nanos` long becomes one [`Bar`]; shorter neighbours merge into one bar
//! until it is that long. The result has about one bar for each `min_nanos` of
//! the range, whatever the number of spans.

use crate::cache::Part;
use crate::lane::{Lane, LaneSegment, Lookup};
use crate::rows::Rows;
use crate::{OpSpan, TimeRange, Trace};
use llmtrace_format::meta::StrId;

/// Folding of rows begins at multiples of this many shortest bars, so that bars
/// do not flicker while panning.
const ANCHOR_BARS: u64 = 512;

/// One shape to draw.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bar {
    /// Where it lies.
    pub range: TimeRange,
    /// How many spans it stands for: those that begin in it.
    pub count: u64,
    /// Nanoseconds of computing inside.
    pub compute: u64,
    /// Nanoseconds of waiting inside.
    pub wait: u64,
    /// What it shows.
    pub what: What,
}

/// What a bar stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// One span, and its number in the lane.
    Span(u64, OpSpan),
    /// Several spans; this one computed longest.
    Folded(u64, OpSpan),
    /// Time in buckets.
    Buckets {
        /// The operator that computed longest.
        op: StrId,
        /// The longest computing of a span; 0 when not known.
        longest: u64,
    },
}

/// What a lane shows within `range`, no bar much shorter than `min_nanos` unless
/// it is followed by a gap. Appends to `bars`, which the caller may reuse, and to
/// `missing` what should be decoded ([`Trace::decode`]) for a finer picture.
pub fn fold(
    trace: &Trace,
    lane: &Lane,
    range: TimeRange,
    min_nanos: u64,
    bars: &mut Vec<Bar>,
    missing: &mut Vec<Part>,
) {
    let Some(lane_index) = trace.lane_index(lane.id) else { return };
    let min_nanos = min_nanos.max(1);
    // The shortest buckets that are no shorter than a pixel.
    let shift = min_nanos.checked_next_power_of_two().map_or(63, u64::trailing_zeros);
    let bucket = 1u64 << shift;
    if let Some(picture) = lane.picture.as_ref().filter(|picture| picture.nanos() <= bucket) {
        return picture.bars(range, shift, bars);
    }
    for index in lane.segments_in(range) {
        let Some(segment) = lane.segments.get(index) else { continue };
        match trace.segment_if_known(lane_index, index) {
            Lookup::Ready(summary) if summary.picture.nanos() <= bucket => {
                summary.picture.bars(range, shift, bars);
            }
            summary => {
                if matches!(summary, Lookup::Missing) {
                    missing.push(Part::Segment(lane_index as u32, index as u32));
                }
                let summary = summary.ready();
                let picture = summary.as_ref().map(|summary| &summary.picture).or(lane.picture.as_ref());
                let coarse = |part: TimeRange, bars: &mut Vec<Bar>| {
                    if let Some(picture) = picture {
                        let mut all = Vec::new();
                        picture.bars(part, shift, &mut all);
                        // The one that begins before belongs to what is before.
                        bars.extend(all.into_iter().filter(|bar| bar.range.begin >= part.begin));
                    }
                };
                // Rows are worth decoding once the segment says that they are needed.
                let wanted = summary.is_some();
                rows_of(
                    trace,
                    (lane, lane_index),
                    segment,
                    (range, min_nanos),
                    wanted,
                    coarse,
                    bars,
                    missing,
                );
            }
        }
    }
}

/// The bars of a segment's rows; `coarse` stands in for a block's.
#[expect(clippy::too_many_arguments, reason = "private, and called once")]
fn rows_of(
    trace: &Trace,
    (lane, lane_index): (&Lane, usize),
    segment: &LaneSegment,
    (range, min_nanos): (TimeRange, u64),
    wanted: bool,
    coarse: impl Fn(TimeRange, &mut Vec<Bar>),
    bars: &mut Vec<Bar>,
    missing: &mut Vec<Part>,
) {
    let in_sight = lane.blocks_in(range);
    let blocks = segment.blocks.start.max(in_sight.start)..segment.blocks.end.min(in_sight.end);
    for index in blocks {
        let Some(block) = lane.blocks.get(index) else { continue };
        match trace.rows_if_known(lane_index, index) {
            Lookup::Ready(rows) => fold_rows(&rows, block.first, range, min_nanos, bars),
            Lookup::Missing => {
                if wanted {
                    missing.push(Part::Rows(lane_index as u32, index as u32));
                }
                let begin = block.info.range.begin.max(range.begin);
                coarse(TimeRange::new(begin, block.info.range.end.min(range.end)), bars);
            }
            Lookup::Damaged => {}
        }
    }
}

/// Like [`fold`], and decodes what it needs: for whoever can wait.
pub fn fold_whole(trace: &Trace, lane: &Lane, range: TimeRange, min_nanos: u64, bars: &mut Vec<Bar>) {
    use rayon::prelude::*;
    let from = bars.len();
    let mut before = Vec::new();
    loop {
        let mut missing = Vec::new();
        bars.truncate(from);
        fold(trace, lane, range, min_nanos, bars, &mut missing);
        // Asked for again: the cache is smaller than what is in sight.
        if missing.is_empty() || missing == before {
            return;
        }
        missing.par_iter().for_each(|part| trace.decode(*part));
        before = missing;
    }
}

fn fold_rows(rows: &Rows, first: u64, range: TimeRange, min_nanos: u64, bars: &mut Vec<Bar>) {
    let anchor = min_nanos.saturating_mul(ANCHOR_BARS).max(1);
    let begin = range.begin / anchor * anchor;
    let mut at = rows.partition(0, |row| rows.end(row) <= begin && rows.begin(row) < begin);
    let mut merged = 1;
    while at < rows.len() && rows.begin(at) < range.end {
        let begin = rows.begin(at);
        if rows.end(at) - begin >= min_nanos {
            bars.push(bar(rows, first, at, at + 1));
            at += 1;
            continue;
        }
        // Merge the short spans that begin within one pixel of here; a long
        // one ends the merging and gets its own bar.
        let limit = begin.saturating_add(min_nanos);
        let mut next = first_not_before(at + 1, rows.len(), merged, |row| rows.begin(row) < limit);
        merged = next - at;
        if next - 1 > at && rows.end(next - 1) - rows.begin(next - 1) >= min_nanos {
            next -= 1;
        }
        bars.push(bar(rows, first, at, next));
        at = next;
    }
}

/// The first of `from..len` that is not `before`, which those before it all are. Looks near
/// `guess` places further first: neighbouring bars hold similar numbers, and a search through
/// all would miss the cache at each step.
pub fn first_not_before(from: usize, len: usize, guess: usize, before: impl Fn(usize) -> bool) -> usize {
    let before = |index: usize| index < len && before(index);
    let (mut low, mut step) = (from, (guess / 8).max(1));
    let mut high = from.saturating_add(guess.saturating_sub(step));
    while before(high) {
        low = high + 1;
        high = high.saturating_add(step);
        step = step.saturating_mul(2);
    }
    let mut high = high.min(len);
    while low < high {
        let middle = low + (high - low) / 2;
        if before(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

fn bar(rows: &Rows, first: u64, from: usize, to: usize) -> Bar {
    let range = TimeRange::new(rows.begin(from), rows.end(to.saturating_sub(1)));
    if to - from == 1 {
        let span = rows.span(from);
        let what = What::Span(first + from as u64, span);
        return Bar { range, count: 1, compute: span.compute, wait: span.wait, what };
    }
    let (compute, wait) = rows.sums(from, to);
    let longest = rows.longest(from, to);
    let what = What::Folded(first + longest as u64, rows.span(longest));
    Bar { range, count: (to - from) as u64, compute, wait, what }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::tests::random_lane;
    use llmtrace_format::Source;

    fn open(bytes: Vec<u8>) -> Trace {
        Trace::open(Source::Bytes(bytes), &mut |_| true).unwrap()
    }

    #[test]
    fn bars_are_ordered_bounded_and_lose_nothing_at_any_scale() {
        for seed in 0..8 {
            let (spans, bytes) = random_lane(seed, 3000);
            let trace = open(bytes);
            let lane = &trace.lanes()[0];
            let whole = TimeRange::new(0, spans.last().map_or(0, OpSpan::end));
            for min_nanos in [1, 10, 1000, 30_000, 100_000, 1_000_000, 1 << 40] {
                let mut bars = Vec::new();
                fold_whole(&trace, lane, whole, min_nanos, &mut bars);
                assert!(bars.is_sorted_by(|a, b| a.range.end <= b.range.begin));
                assert!(bars.len() as u64 <= 2 * (whole.nanos() / min_nanos) + 2);
                let sum = |of: fn(&Bar) -> u64| bars.iter().map(of).sum::<u64>();
                assert_eq!(sum(|bar| bar.count), 3000);
                assert_eq!(sum(|bar| bar.compute), spans.iter().map(|span| span.compute).sum());
                assert_eq!(sum(|bar| bar.wait), spans.iter().map(|span| span.wait).sum());
            }
        }
    }

    #[test]
    fn only_bars_in_sight_are_returned() {
        let (spans, bytes) = random_lane(3, 3000);
        let trace = open(bytes);
        let range = TimeRange::new(100_000, 200_000);
        let mut bars = Vec::new();
        fold_whole(&trace, &trace.lanes()[0], range, 1, &mut bars);
        bars.retain(|bar| bar.range.end > range.begin);
        let expected = spans.iter().filter(|span| span.end() > range.begin && span.begin < range.end).count();
        assert_eq!(bars.len(), expected);
        assert!(bars.iter().all(|bar| matches!(bar.what, What::Span(..))));
    }

    #[test]
    fn something_is_shown_before_anything_is_decoded() {
        let (spans, bytes) = random_lane(4, 30_000);
        let trace = open(bytes);
        let whole = TimeRange::new(0, spans.last().map_or(0, OpSpan::end));
        let (mut bars, mut missing) = (Vec::new(), Vec::new());
        fold(&trace, &trace.lanes()[0], whole, 1, &mut bars, &mut missing);
        assert_eq!(missing, [Part::Segment(0, 0)]);
        assert!(bars.len() > 100);
        trace.decode(missing[0]);
        missing.clear();
        fold(&trace, &trace.lanes()[0], whole, 1, &mut bars, &mut missing);
        assert_eq!(missing, [Part::Rows(0, 0)]);
    }
}
