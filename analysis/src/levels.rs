//! What was recorded when: changes of level, as ranges; and names of lanes.

use crate::TimeRange;
use llmtrace_format::Nanos;
use llmtrace_format::meta::{Level, StrId};
use llmtrace_format::tables::LevelChange;
use std::collections::BTreeMap;

/// A process was recorded at one level throughout a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LevelRange {
    /// From the change to the next one.
    pub range: TimeRange,
    /// Index into [`llmtrace_format::meta::Recording::processes`].
    pub process: u32,
    /// The level; `None` for a number that this build does not know.
    pub level: Option<Level>,
    /// Operators are recorded for one token in so many.
    pub window: u32,
    /// Why; empty for the first one.
    pub reason: StrId,
}

/// The ranges of each process that changed, until `end`. `changes` are by time;
/// `first` says at which level a process is recorded before, and for one token in
/// how many.
pub fn level_ranges(
    changes: &[LevelChange],
    first: impl Fn(u32) -> (Level, u32),
    end: Nanos,
) -> Vec<Vec<LevelRange>> {
    let mut processes: BTreeMap<u32, Vec<LevelRange>> = BTreeMap::new();
    for change in changes {
        let range = |begin: Nanos| TimeRange::new(begin, end.max(change.time));
        let ranges = processes.entry(change.process).or_insert_with(|| {
            let (level, window) = first(change.process);
            let (level, reason) = (Some(level), StrId::default());
            vec![LevelRange { range: range(0), process: change.process, level, window, reason }]
        });
        if let Some(last) = ranges.last_mut() {
            last.range.end = change.time;
        }
        ranges.push(LevelRange {
            range: range(change.time),
            process: change.process,
            level: level(change.level),
            window: change.window,
            reason: StrId(change.reason),
        });
    }
    processes.into_values().collect()
}

fn level(number: u8) -> Option<Level> {
    [Level::Token, Level::Graph, Level::Op, Level::Thread].get(usize::from(number)).copied()
}

/// What a lane is of: a place in the thread pool, for a graph of a process. A
/// recorder numbers lanes so: bits 0 to 9 are the place, 10 to 19 tell graphs
/// apart that ran at once, 20 to 27 are the process.
pub fn lane_name(lane: u32) -> String {
    let (process, slot, ith) = (lane >> 20, lane >> 10 & 1023, lane & 1023);
    let of = |what: &str, number: u32| if number == 0 { String::new() } else { format!("{what}{number} ") };
    let also = if slot == 0 { String::new() } else { format!(" ({})", slot + 1) };
    format!("{}thread {ith}{also}", of("process ", process))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_process_has_ranges_without_gaps() {
        let change =
            |time, process, level, reason| LevelChange { time, process, level, begins: 0, window: 4, reason };
        let changes = [change(10, 0, 1, 5), change(20, 1, 0, 6), change(30, 0, 9, 7)];
        let ranges = level_ranges(&changes, |process| (Level::Thread, process + 1), 100);
        let shown = |ranges: &[LevelRange]| -> Vec<(u64, u64, Option<Level>, u32)> {
            ranges.iter().map(|r| (r.range.begin, r.range.end, r.level, r.reason.0)).collect()
        };
        assert_eq!(ranges.len(), 2);
        let first = [(0, 10, Some(Level::Thread), 0), (10, 30, Some(Level::Graph), 5), (30, 100, None, 7)];
        assert_eq!(shown(&ranges[0]), first);
        assert_eq!((ranges[1][0].process, ranges[1][0].window), (1, 2));
        assert_eq!(shown(&ranges[1]), [(0, 20, Some(Level::Thread), 0), (20, 100, Some(Level::Token), 6)]);
        assert!(level_ranges(&[], |_| (Level::Thread, 1), 100).is_empty());
    }

    #[test]
    fn lanes_are_named_after_what_they_are_of() {
        assert_eq!(lane_name(3), "thread 3");
        assert_eq!(lane_name(1024), "thread 0 (2)");
        assert_eq!(lane_name(2 << 20 | 1), "process 2 thread 1");
        assert!(lane_name(u32::MAX).starts_with("process 4095"));
    }
}
