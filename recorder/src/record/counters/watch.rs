//! How well counters were counted, for what is said at the end.

use llmtrace_format::Nanos;
use llmtrace_format::counters::{MAX_COUNTERS, OpCounter};

/// Op spans without a count after which a counter has stopped.
const STOPPED: u64 = 1000;

/// Of each counter.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    known: u64,
    unknown: u64,
    scaled: u64,
    /// Since it was last known, and when that was.
    unknown_since: u64,
    last: Nanos,
}

/// Of all counters.
#[derive(Debug, Default)]
pub(in super::super) struct Watch {
    seen: [Seen; MAX_COUNTERS],
}

impl Watch {
    /// Looks at the row of an op span. That of a thread's first node in a graph tells
    /// nothing where begins are not seen.
    pub(in super::super) fn row(&mut self, row: &OpCounter) {
        for (counter, seen) in self.seen.iter_mut().enumerate() {
            if row.count(counter).is_some() {
                seen.known += 1;
                seen.scaled += u64::from(row.scaled >> counter & 1);
                (seen.unknown_since, seen.last) = (0, row.begin);
            } else {
                seen.unknown += 1;
                seen.unknown_since += 1;
            }
        }
    }

    /// What there is to say of counters with these names.
    pub(in super::super) fn warnings(&self, names: &[&str]) -> Vec<String> {
        let mut warnings = Vec::new();
        for (name, seen) in names.iter().zip(&self.seen) {
            if seen.known == 0 && seen.unknown > 0 {
                warnings.push(format!("{name} was never counted: its count is unknown for all nodes"));
            } else if seen.unknown_since >= STOPPED {
                let secs = seen.last as f64 / 1e9;
                warnings.push(format!(
                    "{name} stopped counting after {secs:.1} s: its count is unknown for the last {} nodes",
                    seen.unknown_since
                ));
            }
            if seen.scaled > 0 {
                let share = 100.0 * seen.scaled as f64 / (seen.known + seen.unknown) as f64;
                warnings.push(format!(
                    "{name} took turns with other events: its count is scaled for {share:.1} % of the nodes"
                ));
            }
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(begin: Nanos, count: Option<u64>, scaled: u8) -> OpCounter {
        let mut counts = [None; MAX_COUNTERS];
        counts[0] = count;
        OpCounter { begin, scaled, ..OpCounter::default() }.with_counts(counts)
    }

    #[test]
    fn a_counter_that_stops_is_said_once_and_one_that_rests_is_not() {
        let mut watch = Watch::default();
        watch.row(&row(1_500_000_000, Some(7), 0));
        for _ in 0..STOPPED {
            watch.row(&row(2_000_000_000, None, 0));
        }
        let warnings = watch.warnings(&["cycles"]);
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].contains("cycles stopped counting after 1.5 s"), "{warnings:?}");
        watch.row(&row(3_000_000_000, Some(1), 1));
        let warnings = watch.warnings(&["cycles"]);
        assert!(warnings.len() == 1 && warnings[0].contains("took turns"), "{warnings:?}");
        assert!(watch.warnings(&[]).is_empty());
        assert!(Watch::default().warnings(&["cycles"]).is_empty());
    }

    #[test]
    fn a_counter_that_never_counts_is_said() {
        let mut watch = Watch::default();
        watch.row(&row(1, None, 0));
        assert!(watch.warnings(&["cycles"])[0].contains("never counted"));
    }
}
