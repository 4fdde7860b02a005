//! What lies inside a range of time, to the nanosecond.

use super::{millis, opt_millis, ratio, waits_known};
use crate::executions::{Contexts, NodeTable, runs};
use crate::{Nanos, TimeRange, Trace, node};
use serde::Serialize;
use std::collections::HashMap;

/// One operator inside a range.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OpTotal {
    /// Operator, such as `MUL_MAT` or `RMS_NORM+MUL`.
    pub op: String,
    /// Node executions that touch the range.
    pub count: u64,
    /// Nanoseconds of computing inside the range, summed over threads.
    #[serde(rename = "time_ms", serialize_with = "millis")]
    pub compute_nanos: u64,
    /// Nanoseconds of waiting inside the range, summed over threads.
    #[serde(rename = "wait_ms", serialize_with = "opt_millis")]
    pub wait_nanos: Option<u64>,
    /// Part of all computing inside the range, from 0 to 1.
    pub share: f64,
}

#[derive(Default)]
struct Total {
    count: u64,
    compute: u64,
    wait: u64,
}

/// Totals by operator of what lies inside `range`: spans that reach over its
/// edges count with the part inside. The longest operator first. Takes time in
/// proportion to the spans inside.
pub fn totals_in_range(trace: &Trace, range: TimeRange) -> Vec<OpTotal> {
    let contexts = Contexts::new(trace);
    let runs = runs(trace.lanes(), Some(range));
    let mut table = NodeTable::new();
    let mut names: HashMap<String, u32> = HashMap::new();
    let mut totals: Vec<Total> = Vec::new();
    let mut seen = Vec::new();
    for group in runs.chunk_by(|a, b| a.graph_span == b.graph_span) {
        let Some(first) = group.first() else { continue };
        let graph = contexts.of(first.graph_span).graph;
        seen.clear();
        for span in group.iter().flat_map(|run| run.spans) {
            let found = table.get(trace, graph, (span.node, span.fused), |graph| {
                let label = node::op_label(&trace.file, graph, span.node, span.fused);
                total_id(&mut names, &mut totals, label)
            });
            let id = found.unwrap_or_else(|| total_id(&mut names, &mut totals, "unknown".to_owned()));
            seen.push((span.node, id));
            if let Some(total) = totals.get_mut(id as usize) {
                let compute = inside(range, span.begin, span.compute_end());
                let wait = inside(range, span.compute_end(), span.end());
                total.compute = total.compute.saturating_add(compute);
                total.wait = total.wait.saturating_add(wait);
            }
        }
        // Several threads computed the same node: one execution.
        seen.sort_unstable();
        seen.dedup_by_key(|(node, _)| *node);
        for (_, id) in &seen {
            if let Some(total) = totals.get_mut(*id as usize) {
                total.count += 1;
            }
        }
    }
    let all = totals.iter().fold(0u64, |sum, total| sum.saturating_add(total.compute));
    let waits_known = waits_known(trace);
    let mut rows: Vec<OpTotal> = names
        .into_iter()
        .filter_map(|(op, id)| {
            let total = totals.get(id as usize)?;
            let wait_nanos = waits_known.then_some(total.wait);
            let share = ratio(total.compute, all);
            Some(OpTotal { op, count: total.count, compute_nanos: total.compute, wait_nanos, share })
        })
        .collect();
    rows.sort_by(|a, b| b.compute_nanos.cmp(&a.compute_nanos).then_with(|| a.op.cmp(&b.op)));
    rows
}

fn total_id(names: &mut HashMap<String, u32>, totals: &mut Vec<Total>, name: String) -> u32 {
    *names.entry(name).or_insert_with(|| {
        totals.push(Total::default());
        totals.len() as u32 - 1
    })
}

fn inside(range: TimeRange, begin: Nanos, end: Nanos) -> u64 {
    end.min(range.end).saturating_sub(begin.max(range.begin))
}
