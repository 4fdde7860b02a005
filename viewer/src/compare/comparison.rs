//! Two open traces: which token is which, and what times of B lie under those of A.

use crate::session::Aligned;
use crate::timeline::view::View;
use llmtrace_analysis::align::{Alignment, Differences, pairs};
use llmtrace_analysis::diff::{self, Difference};
use llmtrace_analysis::{TimeRange, Trace};
use std::sync::Arc;

/// What is known of a pair as soon as both are open.
pub struct Comparison {
    /// What is put under what.
    pub aligned: Aligned,
    /// How much longer tokens took in B.
    pub differences: Arc<Differences>,
    /// What to say before anything else.
    pub warnings: Vec<String>,
    /// What differs around the runs, what matters first.
    pub environment: Vec<Difference>,
    alignment: Alignment,
    ranges: [TimeRange; 2],
}

impl Comparison {
    /// Of two traces.
    pub fn new(a: &Trace, b: &Trace, aligned: Aligned) -> Self {
        let pairs = pairs(&a.tokens, &b.tokens);
        let (warnings, environment) = diff::mismatch(a, b);
        let alignment = Alignment::new(a, b, &pairs, aligned.by, aligned.offset);
        let ranges = [a.range(), b.range()];
        let differences = Arc::new(Differences::new(pairs));
        Self { aligned, differences, warnings, environment, alignment, ranges }
    }

    /// Puts B under A in another way.
    pub fn align(&mut self, a: &Trace, b: &Trace, aligned: Aligned) {
        self.alignment = Alignment::new(a, b, &self.differences.pairs, aligned.by, aligned.offset);
        self.aligned = aligned;
    }

    /// Nanoseconds by which B's times are later at a time of A.
    pub fn offset_at(&self, a: i64) -> i64 {
        self.alignment.offset_at(a)
    }

    /// Nanoseconds by which B's times are later, where the middle of A's window is.
    pub fn offset(&self, view: &View) -> i64 {
        self.alignment.offset_at(view.begin().saturating_add((view.nanos() / 2.0) as i64))
    }

    /// A's window with room for what B has, and B's under it.
    pub fn linked(&self, view: &View) -> [View; 2] {
        let [a, b] = self.ranges;
        let signed = |time: u64| i64::try_from(time).unwrap_or(i64::MAX);
        let ends = |range: TimeRange| [signed(range.begin), signed(range.end)];
        let ([begin, end], [b_begin, b_end]) = (ends(a), ends(b));
        let before = |offset: i64| begin.saturating_sub(b_begin.saturating_sub(offset)).max(0);
        let after = |offset: i64| b_end.saturating_sub(offset).saturating_sub(end).max(0);
        // At the ends of A, and when all is in sight, which is aligned in its middle.
        let mut room = [before(self.alignment.offset_at(begin)), after(self.alignment.offset_at(end))];
        for _ in 0..3 {
            let [left, right] = room;
            let middle = (begin.saturating_sub(left) / 2).saturating_add(end.saturating_add(right) / 2);
            let offset = self.alignment.offset_at(middle);
            room = [left.max(before(offset)), right.max(after(offset))];
        }
        let [before, after] = room;
        let room = [before, after].map(|nanos| nanos.max(0).unsigned_abs());
        let first = view.with_room(room);
        [first, first.shifted(b, self.offset(&first))]
    }

    /// A's window, given that of B.
    pub fn unlinked(&self, b: &View, now: &View) -> View {
        let [a, _] = self.ranges;
        b.shifted(a, self.offset(now).saturating_neg())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use llmtrace_analysis::align::AlignBy;
    use llmtrace_analysis::format::Source;
    use llmtrace_analysis::synth::{Options, bytes};

    fn trace(spans: u64, slow: &str) -> Trace {
        let options = Options { slow: vec![slow.parse().unwrap()], ..Options::new(spans, 2, 1) };
        Trace::open(Source::Bytes(bytes(&options).unwrap()), &mut |_| true).unwrap()
    }

    #[test]
    fn windows_stay_linked_whatever_side_moves() {
        let (a, b) = (trace(20_000, "MUL_MAT=+1%"), trace(30_000, "MUL_MAT=+60%"));
        for by in [AlignBy::Token, AlignBy::Phase, AlignBy::Time] {
            let comparison = Comparison::new(&a, &b, Aligned { by, offset: 0 });
            let mut view = View::whole(a.range(), 900.0);
            for step in 0..60u16 {
                let [in_a, in_b] = comparison.linked(&view);
                assert_eq!(in_a.nanos(), in_b.nanos());
                assert_eq!(in_b.begin() - in_a.begin(), comparison.offset(&in_a), "{by:?}");
                let back = comparison.unlinked(&in_b, &in_a);
                assert_eq!((back.begin(), back.nanos()), (in_a.begin(), in_a.nanos()));
                view = in_a;
                if step < 30 {
                    view.zoom(1.2, 100.0 + f32::from(step));
                } else {
                    view.pan(f32::from(step) * 20.0 - 700.0);
                }
            }
        }
    }

    #[test]
    fn all_of_both_is_in_sight_of_the_whole() {
        let (a, b) = (trace(10_000, "MUL_MAT=+1%"), trace(40_000, "MUL_MAT=+9%"));
        let ways = [AlignBy::Time, AlignBy::Token, AlignBy::Phase];
        for ((a, b), by) in [(&a, &b), (&b, &a)].into_iter().flat_map(|pair| ways.map(|by| (pair, by))) {
            let comparison = Comparison::new(a, b, Aligned { by, offset: 0 });
            let [view, _] = comparison.linked(&View::whole(a.range(), 900.0));
            let [in_a, in_b] = comparison.linked(&view.whole_with_room());
            for (view, range) in [(in_a, a.range()), (in_b, b.range())] {
                let (left, right) = (view.x_from_time(range.begin), view.x_from_time(range.end));
                assert!(left >= 0.0 && right <= 900.0, "{by:?} {left} {right}");
            }
        }
    }
}
