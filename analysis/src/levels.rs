//! What was recorded when: changes of level, as ranges; and names of lanes.

use crate::TimeRange;
use llmtrace_format::Nanos;
use llmtrace_format::meta::{Level, StrId};
use llmtrace_format::tables::LevelChange;

/// A process was recorded at one level throughout a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LevelRange {
    /// From the change to the next one.
    pub range: TimeRange,
    /// The level; `None` for a number that this build does not know.
    pub level: Option<Level>,
    /// Operators are recorded for one token in so many.
    pub window: u32,
    /// Why; empty for the first one.
    pub reason: StrId,
}

/// The ranges of each process that changed, until `end`. `changes` are by time;
/// before its first one a process is recorded at level `first`.
pub fn level_ranges(changes: &[LevelChange], first: Level, end: Nanos) -> Vec<Vec<LevelRange>> {
    let mut processes: Vec<(u32, Vec<LevelRange>)> = Vec::new();
    for change in changes {
        let at = processes.iter().position(|(process, _)| *process == change.process);
        let ranges = match at.and_then(|at| processes.get_mut(at)) {
            Some((_, ranges)) => ranges,
            None => {
                let whole = TimeRange::new(0, end.max(change.time));
                let before =
                    LevelRange { range: whole, level: Some(first), window: 1, reason: StrId::default() };
                processes.push((change.process, vec![before]));
                let Some((_, ranges)) = processes.last_mut() else { continue };
                ranges
            }
        };
        if let Some(last) = ranges.last_mut() {
            last.range.end = change.time;
        }
        ranges.push(LevelRange {
            range: TimeRange::new(change.time, end.max(change.time)),
            level: level(change.level),
            window: change.window,
            reason: StrId(change.reason),
        });
    }
    processes.into_iter().map(|(_, ranges)| ranges).collect()
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
        let ranges = level_ranges(&changes, Level::Thread, 100);
        let shown = |ranges: &[LevelRange]| -> Vec<(u64, u64, Option<Level>, u32)> {
            ranges.iter().map(|r| (r.range.begin, r.range.end, r.level, r.reason.0)).collect()
        };
        assert_eq!(ranges.len(), 2);
        let first = [(0, 10, Some(Level::Thread), 0), (10, 30, Some(Level::Graph), 5), (30, 100, None, 7)];
        assert_eq!(shown(&ranges[0]), first);
        assert_eq!(shown(&ranges[1]), [(0, 20, Some(Level::Thread), 0), (20, 100, Some(Level::Token), 6)]);
        assert!(level_ranges(&[], Level::Thread, 100).is_empty());
    }

    #[test]
    fn lanes_are_named_after_what_they_are_of() {
        assert_eq!(lane_name(3), "thread 3");
        assert_eq!(lane_name(1024), "thread 0 (2)");
        assert_eq!(lane_name(2 << 20 | 1), "process 2 thread 1");
        assert!(lane_name(u32::MAX).starts_with("process 4095"));
    }
}
