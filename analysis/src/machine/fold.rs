//! States at a scale: what is narrower than a pixel becomes one piece, at a cost that follows
//! pixels, not rows.

use super::{STATE_COUNT, StateRows, StateSums, range_of};
use crate::TimeRange;
use llmtrace_format::machine::ThreadState;

/// Part of a strip.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Piece {
    /// When.
    pub range: TimeRange,
    /// Nanoseconds in each state.
    pub sums: StateSums,
    /// The row, where it is only one.
    pub row: Option<ThreadState>,
}

/// Fills `pieces` with what there is in `range`: rows at least `min_nanos` long each by itself,
/// others together.
pub(crate) fn fold_states(states: &StateRows, range: TimeRange, min_nanos: u64, pieces: &mut Vec<Piece>) {
    pieces.clear();
    let rows = states.within(range);
    let Some(first) = rows.first() else { return };
    let offset = states.rows.partition_point(|row| (row.begin, row.end) < (first.begin, first.end));
    let min_nanos = min_nanos.max(1);
    let wide = |row: &ThreadState| range_of(row).nanos() >= min_nanos;
    let mut at = 0;
    while let Some(row) = rows.get(at) {
        let until = row.begin.saturating_add(min_nanos);
        let mut next = at + 1;
        if !wide(row) {
            let rest = rows.get(next..).unwrap_or_default();
            next += rest.partition_point(|other| other.begin < until);
            // One that is wide and begins within this length reaches beyond it: only the last can.
            if next > at + 1 && rows.get(next - 1).is_some_and(wide) {
                next -= 1;
            }
        }
        let single = next == at + 1;
        let end = rows.get(next - 1).map_or(row.end, |last| last.end);
        let mut sums = StateSums::default();
        if let Some((before, after)) = states.before.get(offset + at).zip(states.before.get(offset + next)) {
            for state in 0..STATE_COUNT {
                let of = |sums: &[u64; STATE_COUNT]| sums.get(state).copied().unwrap_or(0);
                if let Some(sum) = sums.nanos.get_mut(state) {
                    *sum = of(after).saturating_sub(of(before));
                }
            }
        }
        pieces.push(Piece { range: TimeRange::new(row.begin, end), sums, row: single.then_some(*row) });
        at = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use llmtrace_format::machine::State;

    fn row(begin: u64, end: u64, state: State) -> ThreadState {
        ThreadState { begin, end, state: state as u8, ..ThreadState::default() }
    }

    /// Lengths from a small generator, so that narrow and wide rows follow each other.
    fn random(count: u64) -> StateRows {
        let mut seed = 7u64;
        let mut time = 0;
        let mut rows = Vec::new();
        for _ in 0..count {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let length = 1 + (seed >> 33) % if (seed >> 60) == 0 { 5000 } else { 50 };
            let state = State::ALL[(seed >> 40) as usize % State::ALL.len()];
            rows.push(row(time, time + length, state));
            time += length + (seed >> 50) % 3;
        }
        StateRows::new(rows)
    }

    #[test]
    fn pieces_say_the_same_as_the_rows_at_any_scale() {
        let states = random(3000);
        let all = TimeRange::new(0, states.rows().last().map_or(0, |row| row.end));
        let brute = |range: TimeRange| {
            let mut sums = StateSums::default();
            for row in states.rows() {
                let (begin, end) = (row.begin.max(range.begin), row.end.min(range.end));
                sums.nanos[row.state as usize] += end.saturating_sub(begin);
            }
            sums
        };
        for min_nanos in [1, 30, 100, 1000, 1 << 40] {
            let mut pieces = Vec::new();
            fold_states(&states, all, min_nanos, &mut pieces);
            let mut total = StateSums::default();
            pieces.iter().for_each(|piece| total.add(&piece.sums));
            assert_eq!(total, brute(all));
            assert!(pieces.windows(2).all(|two| two[0].range.end <= two[1].range.begin));
            // Two narrow ones never lie within one length.
            let narrow = |piece: &&Piece| piece.range.nanos() < min_nanos;
            let most = 2 * (all.nanos() / min_nanos + 1) + 1;
            assert!(pieces.iter().filter(narrow).count() as u64 <= most);
        }
        for (begin, end) in [(10, 11), (777, 9_000), (0, 40_000), (123, 123)] {
            let range = TimeRange::new(begin, end);
            assert_eq!(states.sums(range), brute(range), "{range:?}");
        }
    }

    #[test]
    fn a_wide_row_stays_visible_beside_narrow_ones() {
        let narrow = |begin| row(begin, begin + 1, State::Running);
        let states = StateRows::new(vec![narrow(0), narrow(1), row(2, 500, State::Preempted), narrow(500)]);
        let mut pieces = Vec::new();
        fold_states(&states, TimeRange::new(0, 600), 100, &mut pieces);
        let single: Vec<_> = pieces.iter().map(|piece| (piece.range.begin, piece.row.is_some())).collect();
        assert_eq!(single, [(0, false), (2, true), (500, true)]);
        assert_eq!(states.at(499).map(|row| row.begin), Some(2));
        assert_eq!(states.at(501), None);
    }
}
