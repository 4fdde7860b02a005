//! Bytes that came from memory, where a counter tells, beside those that operators need.
//!
//! Events that count lines of the last cache which had to come from memory give the bytes; the
//! kernel's hardware events have two names for these. Without a PMU nothing is known.

use crate::Trace;
use crate::executions::Contexts;
use crate::profile::NodeId;
use crate::stats::Counted;
use llmtrace_format::ColumnSet;
use llmtrace_format::counters::OpCounters;
use serde::Serialize;
use std::collections::HashMap;

/// Bytes of a cache line, on all CPUs that we know of.
const LINE_BYTES: u64 = 64;
/// Counters of such lines, the one that tells more exactly first.
const COUNTERS: [&str; 2] = ["LLC-load-misses", "cache-misses"];

/// What lines were counted by, of a trace whose recorder did: index of the counter, and its name.
pub fn counter(trace: &Trace) -> Option<(usize, &str)> {
    COUNTERS.iter().find_map(|name| {
        let index = trace.counters().iter().position(|counter| counter.name.eq_ignore_ascii_case(name))?;
        Some((index, *name))
    })
}

/// Lines that came from memory, by node; nothing when none were counted. Damaged blocks are left
/// out.
pub(crate) fn lines(trace: &Trace, contexts: &Contexts) -> HashMap<NodeId, Counted> {
    let mut lines: HashMap<NodeId, Counted> = HashMap::new();
    let Some((counter, _)) = counter(trace) else { return lines };
    for block in trace.file.blocks_of::<OpCounters>() {
        let Ok(table) = trace.file.read::<OpCounters>(block, ColumnSet::ALL) else { continue };
        for row in table.rows() {
            let context = contexts.of(row.graph_span);
            let node = (context.phase(trace) as u8, context.graph.unwrap_or(u32::MAX), row.node, row.fused);
            let scaled = row.scaled >> counter & 1 != 0;
            lines.entry(node).or_default().add(row.count(counter), scaled);
        }
    }
    lines
}

/// Bytes from memory of some op spans, and the bytes that these needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Traffic {
    /// Bytes that were counted.
    #[serde(rename = "counted_bytes")]
    pub counted: u64,
    /// Bytes that the operators needed meanwhile.
    #[serde(rename = "needed_bytes")]
    pub needed: u64,
}

impl Traffic {
    /// Adds the lines of a node whose executions needed `bytes`. Where some op spans were not
    /// counted, those that were stand for their part of the bytes.
    pub(crate) fn add(&mut self, lines: &Counted, bytes: u64) {
        let Some(sum) = lines.sum else { return };
        let all = lines.known.saturating_add(lines.unknown).max(1);
        let needed = u128::from(bytes) * u128::from(lines.known) / u128::from(all);
        self.counted = self.counted.saturating_add(sum.saturating_mul(LINE_BYTES));
        self.needed = self.needed.saturating_add(u64::try_from(needed).unwrap_or(u64::MAX));
    }

    /// Bytes from memory for each byte needed: below 1 caches helped, above 1 bytes came more than
    /// once, or others were fetched with them.
    pub fn ratio(&self) -> Option<f64> {
        (self.needed > 0).then(|| self.counted as f64 / self.needed as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::explain;
    use crate::roofline::{Of, rows};
    use crate::stats::counts_by_operator;
    use llmtrace_format::Source;

    #[test]
    fn lines_of_a_whole_trace_are_those_of_its_operators() {
        let path =
            format!("{}/../sample-traces/gemma3-270m-counters-2t.llmtrace", env!("CARGO_MANIFEST_DIR"));
        let open = || Trace::open(Source::from_file(std::fs::File::open(&path).unwrap()), &mut |_| true);
        let mut trace = open().unwrap();
        assert_eq!(counter(&trace), None, "no PMU where it was recorded");
        let without = explain(&trace, &|_| true).unwrap();
        let points = rows(&without.profile, &without.roofs, Of::Op, None);
        assert!(points.iter().all(|row| row.group.traffic.is_none()));

        // What it did count, taken for lines from memory.
        let recording = trace.file.recording.as_mut().unwrap();
        recording.counters[0].name = "cache-misses".to_owned();
        let all = counts_by_operator(&trace);
        let found = explain(&trace, &|_| true).unwrap();
        let points = rows(&found.profile, &found.roofs, Of::Op, None);
        for (op, counted) in &all {
            let known: Vec<_> = points.iter().filter(|row| row.key == *op).collect();
            if known.iter().any(|row| row.group.bytes == 0) {
                continue;
            }
            let sum: u64 = known.iter().filter_map(|row| Some(row.group.traffic?.counted)).sum();
            assert_eq!(sum, counted[0].sum.unwrap_or(0) * LINE_BYTES, "{op}");
            let needed: u64 = known.iter().filter_map(|row| Some(row.group.traffic?.needed)).sum();
            let bytes: u64 = known.iter().map(|row| row.group.bytes).sum();
            assert!(needed <= bytes && needed > bytes / 2, "{op}: {needed} of {bytes}");
        }
    }

    #[test]
    fn spans_that_were_not_counted_stand_for_no_bytes() {
        let mut traffic = Traffic::default();
        assert_eq!(traffic.ratio(), None);
        traffic.add(&Counted { sum: None, known: 0, unknown: 7, scaled: 0 }, 1000);
        assert_eq!(traffic, Traffic::default());
        traffic.add(&Counted { sum: Some(10), known: 1, unknown: 3, scaled: 0 }, 5120);
        assert_eq!((traffic.counted, traffic.needed, traffic.ratio()), (640, 1280, Some(0.5)));
        traffic.add(&Counted { sum: Some(u64::MAX), known: 1, unknown: 0, scaled: 0 }, u64::MAX);
        assert_eq!(traffic.counted, u64::MAX);
    }
}
