//! Level of detail: what a lane looks like at a given scale.
//!
//! A lane may have millions of spans and a screen has a few thousand pixels.
//! [`fold`] walks pixels, not spans: a span at least `min_nanos` long becomes
//! one [`Bar`]; shorter neighbours merge into one bar until it is that long.
//! The result has at most one bar for each `min_nanos` of the range, whatever
//! the number of spans.

use crate::{Lane, Nanos, OpSpan, TimeRange};
use llmtrace_format::meta::StrId;
use llmtrace_format::summary::LaneSummary;

/// One shape to draw.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bar {
    /// Where it lies.
    pub range: TimeRange,
    /// How many spans it stands for.
    pub count: u32,
    /// Nanoseconds of computing.
    pub compute: u64,
    /// Nanoseconds of waiting.
    pub wait: u64,
    /// What it shows.
    pub what: What,
}

/// What a bar stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// The span at this index of the lane.
    Span(usize),
    /// Several spans; the one at this index computed longest.
    Folded(usize),
    /// Part of a summary; this operator computed longest.
    Summary(StrId),
}

/// What folding needs besides the spans: running sums and longest spans.
#[derive(Debug, Default)]
pub(crate) struct LaneIndex {
    /// Sums of compute and wait over all spans before each index.
    sums: Vec<(u64, u64)>,
    /// Compute time of each span, close together: walking the spans themselves
    /// misses the cache at each.
    computes: Vec<u32>,
    /// `longest[level][i]`: the longest span among `FAN.pow(level + 1)` from
    /// `i * FAN.pow(level + 1)`.
    longest: Vec<Vec<u32>>,
}

const FAN: usize = 16;

impl LaneIndex {
    pub(crate) fn new(spans: &[OpSpan]) -> Self {
        let mut sums = Vec::with_capacity(spans.len() + 1);
        let mut sum = (0u64, 0u64);
        sums.push(sum);
        for span in spans {
            sum = (sum.0.saturating_add(span.compute), sum.1.saturating_add(span.wait));
            sums.push(sum);
        }
        let saturated = |span: &OpSpan| u32::try_from(span.compute).unwrap_or(u32::MAX);
        let computes: Vec<u32> = spans.iter().map(saturated).collect();
        let longest_of = |candidates: &[u32]| {
            candidates.iter().copied().max_by_key(|&i| computes.get(i as usize).copied().unwrap_or(0))
        };
        let all: Vec<u32> = (0..spans.len() as u32).collect();
        let mut longest = vec![];
        let mut below = all;
        while below.len() > FAN {
            below = below.chunks(FAN).filter_map(longest_of).collect();
            longest.push(below.clone());
        }
        Self { sums, computes, longest }
    }

    fn sum(&self, from: usize, to: usize) -> (u64, u64) {
        let at = |index: usize| self.sums.get(index).copied().unwrap_or_default();
        (at(to).0 - at(from).0, at(to).1 - at(from).1)
    }

    /// The longest span of those from `from` to `to`, in time logarithmic in
    /// their number.
    fn longest(&self, mut from: usize, to: usize) -> usize {
        let mut best = from;
        let compute = |index: usize| self.computes.get(index).copied().unwrap_or(0);
        let mut consider = |index: usize| {
            if compute(index) > compute(best) {
                best = index;
            }
        };
        while from < to {
            // The largest aligned group that begins here and ends in time.
            let mut level = 0;
            let mut size = 1;
            while level < self.longest.len() && from.is_multiple_of(size * FAN) && from + size * FAN <= to {
                size *= FAN;
                level += 1;
            }
            match level.checked_sub(1).and_then(|level| self.longest.get(level)?.get(from / size)) {
                Some(&index) => consider(index as usize),
                None => consider(from),
            }
            from += size;
        }
        best
    }
}

/// The bars of `lane` within `range`, none shorter than `min_nanos` unless it
/// is followed by a gap. Appends to `bars`, which the caller may reuse.
pub fn fold(lane: &Lane, range: TimeRange, min_nanos: u64, bars: &mut Vec<Bar>) {
    let spans = &lane.spans;
    let min_nanos = min_nanos.max(1);
    let mut at = spans.partition_point(|span| span.end() <= range.begin);
    let mut merged = 1;
    while let Some(span) = spans.get(at) {
        if span.begin >= range.end {
            break;
        }
        let end = span.end();
        if end - span.begin >= min_nanos {
            bars.push(bar(lane, at, at + 1));
            at += 1;
            continue;
        }
        // Merge the short spans that begin within one pixel of here; a long
        // one ends the merging and gets its own bar.
        let limit = span.begin.saturating_add(min_nanos);
        let mut next = first_from(spans, at + 1, limit, merged);
        merged = next - at;
        let last_is_long = spans.get(next - 1).is_some_and(|span| span.end() - span.begin >= min_nanos);
        if last_is_long && next - 1 > at {
            next -= 1;
        }
        bars.push(bar(lane, at, next));
        at = next;
    }
}

/// The first span from `from` on that does not begin before `limit`. Looks near
/// `guess` spans further first: neighbouring bars hold similar numbers, and a
/// search through all spans would miss the cache at each step.
fn first_from(spans: &[OpSpan], from: usize, limit: Nanos, guess: usize) -> usize {
    let before = |index: usize| spans.get(index).is_some_and(|span| span.begin < limit);
    let (mut low, mut step) = (from, (guess / 8).max(1));
    let mut high = from.saturating_add(guess.saturating_sub(step));
    while before(high) {
        low = high + 1;
        high = high.saturating_add(step);
        step = step.saturating_mul(2);
    }
    let between = spans.get(low..high.min(spans.len())).unwrap_or_default();
    low + between.partition_point(|span| span.begin < limit)
}

fn bar(lane: &Lane, from: usize, to: usize) -> Bar {
    let begin = lane.spans.get(from).map_or(0, |span| span.begin);
    let end = to.checked_sub(1).and_then(|last| lane.spans.get(last)).map_or(begin, OpSpan::end);
    let (compute, wait) = lane.index.sum(from, to);
    let what = if to - from == 1 { What::Span(from) } else { What::Folded(lane.index.longest(from, to)) };
    Bar { range: TimeRange::new(begin, end), count: (to - from) as u32, compute, wait, what }
}

/// The bars of a lane whose spans are not loaded, from its summary.
pub fn fold_summary(summary: &LaneSummary, range: TimeRange, min_nanos: u64, bars: &mut Vec<Bar>) {
    let bucket = summary.bucket_nanos.max(1);
    let step = (min_nanos / bucket).max(1);
    let mut index = range.begin / bucket / step * step;
    while index < summary.compute.len() as u64 && index.saturating_mul(bucket) < range.end {
        let next = index.saturating_add(step).min(summary.compute.len() as u64);
        let part = index as usize..next as usize;
        let sum = |values: &[u64]| {
            values.get(part.clone()).unwrap_or_default().iter().fold(0u64, |sum, &n| sum.saturating_add(n))
        };
        let (compute, wait) = (sum(&summary.compute), sum(&summary.wait));
        let counts = summary.count.get(part.clone()).unwrap_or_default();
        let count = counts.iter().fold(0u32, |sum, &n| sum.saturating_add(n));
        let dominant = part.max_by_key(|&i| summary.compute.get(i).copied().unwrap_or(0));
        let op = dominant.and_then(|i| summary.op.get(i)).copied().unwrap_or_default();
        if compute > 0 || wait > 0 {
            let range = TimeRange::new(index.saturating_mul(bucket), next.saturating_mul(bucket));
            bars.push(Bar { range, count, compute, wait, what: What::Summary(op) });
        }
        index = next;
    }
}

/// The span of `lane` at `time`, if any.
pub fn span_at(lane: &Lane, time: Nanos) -> Option<usize> {
    let after = lane.spans.partition_point(|span| span.begin <= time);
    let index = after.checked_sub(1)?;
    lane.spans.get(index).filter(|span| time < span.end().max(span.begin.saturating_add(1))).map(|_| index)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random_lane(seed: u64, count: usize) -> Lane {
        let mut state = seed;
        let mut random = move |limit: u64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) % limit
        };
        let mut at = 0;
        let spans: Vec<OpSpan> = (0..count)
            .map(|_| {
                let long = random(20) == 0;
                let compute = random(if long { 50_000 } else { 900 }) + 1;
                let span = OpSpan { begin: at, compute, wait: random(300), ..OpSpan::default() };
                at = span.end() + random(200);
                span
            })
            .collect();
        Lane { id: 0, index: LaneIndex::new(&spans), spans }
    }

    #[test]
    fn folded_bars_are_ordered_bounded_and_lose_nothing() {
        for seed in 0..20 {
            let lane = random_lane(seed, 3000);
            let whole = TimeRange::new(0, lane.spans.last().map_or(0, OpSpan::end));
            for min_nanos in [1, 10, 1000, 30_000, 1_000_000] {
                let mut bars = Vec::new();
                fold(&lane, whole, min_nanos, &mut bars);
                assert!(bars.is_sorted_by(|a, b| a.range.end <= b.range.begin));
                assert!(bars.len() as u64 <= 2 * (whole.nanos() / min_nanos) + 2);
                assert_eq!(bars.iter().map(|bar| bar.count).sum::<u32>(), 3000);
                assert_eq!(
                    bars.iter().map(|bar| bar.compute).sum::<u64>(),
                    lane.spans.iter().map(|s| s.compute).sum()
                );
                assert_eq!(
                    bars.iter().map(|bar| bar.wait).sum::<u64>(),
                    lane.spans.iter().map(|s| s.wait).sum()
                );
            }
        }
    }

    #[test]
    fn longest_span_of_a_fold_is_found() {
        let lane = random_lane(7, 5000);
        for (from, to) in [(0, 5000), (1, 2), (15, 17), (16, 272), (3, 4097), (255, 4999)] {
            let slow = (from..to).max_by_key(|&i| (lane.spans[i].compute, usize::MAX - i));
            let fast = lane.index.longest(from, to);
            assert_eq!(Some(lane.spans[fast].compute), slow.map(|i| lane.spans[i].compute));
        }
    }

    #[test]
    fn only_bars_in_sight_are_returned() {
        let lane = random_lane(3, 3000);
        let range = TimeRange::new(100_000, 200_000);
        let mut bars = Vec::new();
        fold(&lane, range, 1, &mut bars);
        let expected = lane.spans.iter().filter(|s| s.end() > range.begin && s.begin < range.end).count();
        assert_eq!(bars.len(), expected);
        assert!(bars.iter().all(|bar| matches!(bar.what, What::Span(_))));
    }

    #[test]
    fn absurd_summaries_do_not_overflow() {
        let summary = LaneSummary {
            bucket_nanos: u64::MAX / 2,
            compute: vec![u64::MAX; 5],
            wait: vec![u64::MAX; 3],
            count: vec![u32::MAX; 9],
            ..LaneSummary::default()
        };
        let mut bars = Vec::new();
        fold_summary(&summary, TimeRange::new(0, u64::MAX), u64::MAX, &mut bars);
        fold_summary(&summary, TimeRange::new(0, u64::MAX), 1, &mut bars);
        assert!(bars.len() > 1);
    }

    #[test]
    fn span_under_the_pointer_is_found() {
        let lane = random_lane(5, 100);
        for (index, span) in lane.spans.iter().enumerate() {
            assert_eq!(span_at(&lane, span.begin), Some(index));
            assert_eq!(span_at(&lane, span.end() - 1), Some(index));
        }
    }
}
