//! What nodes take longer since their threads had no CPU.
//!
//! ```text
//! thread 0   ├──computes──┤░░░ runnable ░░░├─computes─┤
//! thread 1   ├──computes──────┤ waits ────────────────┤
//!                             └ as long as the node would have taken: with a CPU for thread 0
//! ```
//!
//! A node without that ends when the last of its threads would have, had each computed without a
//! break. The difference is time that the machine took from the program; what the others waited in
//! it was no imbalance of their work.

use crate::executions::LaneSpan;
use crate::{Nanos, TimeRange, Trace};
use llmtrace_format::machine::State;

/// When the threads of each lane could run, but did not.
pub(crate) struct Held {
    /// By index of the lane, by begin; none of them overlap.
    lanes: Vec<Vec<TimeRange>>,
}

/// What an execution lost; nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lost {
    /// Of its wall time.
    pub(crate) wall: u64,
    /// Of the computing of its threads, on average.
    pub(crate) mean: u64,
}

impl Held {
    /// `None` when states of threads were not recorded.
    pub(crate) fn of(trace: &Trace) -> Option<Self> {
        if !trace.machine.has_states {
            return None;
        }
        let ids = trace.lane_ids();
        let lanes_of = trace.lanes_of_threads();
        let mut lanes = vec![Vec::new(); ids.len()];
        trace.each_state(TimeRange::new(0, Nanos::MAX), |row| {
            if !State::from_u8(row.state).is_runnable() {
                return;
            }
            for lane in lanes_of.get(&(row.process, row.tid)).map_or(&[][..], Vec::as_slice) {
                let at = ids.iter().position(|id| id == lane);
                if let Some(ranges) = at.and_then(|at| lanes.get_mut(at)) {
                    ranges.push(TimeRange::new(row.begin, row.end));
                }
            }
        });
        Some(Self { lanes: lanes.into_iter().map(joined).collect() })
    }

    /// Nanoseconds of a lane within a range.
    pub(crate) fn inside(&self, lane: u32, range: TimeRange) -> u64 {
        let Some(rows) = self.lanes.get(lane as usize) else { return 0 };
        let from = rows.partition_point(|row| row.end <= range.begin);
        let rest = rows.get(from..).unwrap_or_default();
        let inside = rest.iter().take_while(|row| row.begin < range.end);
        let part = |row: &TimeRange| row.end.min(range.end).saturating_sub(row.begin.max(range.begin));
        inside.fold(0, |sum, row| sum.saturating_add(part(row)))
    }

    /// What one execution lost, of the spans of its threads.
    pub(crate) fn lost(&self, spans: &[LaneSpan]) -> Lost {
        let begin = spans.iter().map(|(_, span)| span.begin).min().unwrap_or(0);
        let (mut end, mut without, mut sum) = (begin, begin, 0u64);
        for (lane, span) in spans {
            let computing = self.inside(*lane, TimeRange::new(span.begin, span.compute_end()));
            // A thread that begins late may have had no CPU for that.
            let before = self.inside(*lane, TimeRange::new(begin, span.begin));
            let alone = span.compute_end().saturating_sub(computing.saturating_add(before));
            end = span.compute_end().max(end);
            without = alone.max(without);
            sum = sum.saturating_add(computing.min(span.compute));
        }
        Lost { wall: end - without, mean: sum / spans.len().max(1) as u64 }
    }

    /// What all threads lost in a range in which none of them computes.
    pub(crate) fn gap(&self, range: TimeRange, lanes: impl Iterator<Item = u32>) -> u64 {
        lanes.map(|lane| self.inside(lane, range)).min().unwrap_or(0)
    }
}

/// Sorted, and without overlaps: lanes whose kernel threads change may have several at a time.
fn joined(mut ranges: Vec<TimeRange>) -> Vec<TimeRange> {
    ranges.sort_by_key(|range| (range.begin, range.end));
    let mut all: Vec<TimeRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match all.last_mut() {
            Some(last) if range.begin <= last.end => last.end = last.end.max(range.end),
            _ => all.push(range),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use llmtrace_format::OpSpan;

    fn held(lanes: &[&[(u64, u64)]]) -> Held {
        let of = |rows: &&[(u64, u64)]| rows.iter().map(|row| TimeRange::new(row.0, row.1)).collect();
        Held { lanes: lanes.iter().map(of).collect() }
    }

    fn span(lane: u32, begin: u64, compute: u64) -> LaneSpan {
        (lane, OpSpan { begin, compute, ..OpSpan::default() })
    }

    #[test]
    fn an_execution_without_interruptions_ends_with_its_slowest_thread() {
        let held = held(&[&[(20, 70)], &[(30, 35), (200, 300)]]);
        // Thread 0 lost 50, and would have been done at 50; thread 1 at 55.
        let lost = held.lost(&[span(0, 0, 100), span(1, 0, 60)]);
        assert_eq!(lost, Lost { wall: 45, mean: 27 });
        // Another thread is as late by its own work: nothing is lost.
        assert_eq!(held.lost(&[span(0, 0, 100), span(2, 0, 100)]), Lost { wall: 0, mean: 25 });
        assert_eq!(held.lost(&[span(1, 210, 50)]), Lost { wall: 50, mean: 50 });
        // Thread 1 begins late, since it had no CPU from 30 to 35.
        assert_eq!(held.lost(&[span(2, 25, 5), span(1, 36, 4)]), Lost { wall: 5, mean: 0 });
        assert_eq!(held.lost(&[]), Lost::default());
    }

    #[test]
    fn a_gap_is_lost_as_far_as_no_thread_had_a_cpu() {
        let held = held(&[&[(10, 40)], &[(20, 60)]]);
        let gap = |lanes: &[u32]| held.gap(TimeRange::new(0, 50), lanes.iter().copied());
        assert_eq!((gap(&[0, 1]), gap(&[1]), gap(&[])), (30, 30, 0));
        assert_eq!((held.inside(1, TimeRange::new(30, 45)), held.inside(7, TimeRange::new(0, 9))), (15, 0));
    }
}
