//! Tables as CSV (RFC 4180): numbers without units, times in nanoseconds, nothing where a trace
//! does not tell.

use crate::memo::Going;
use llmtrace_analysis::diff::{Contribution, Diff};
use llmtrace_analysis::experts::{self, Query as ExpertsQuery};
use llmtrace_analysis::operators::Row as OperatorRow;
use llmtrace_analysis::roofline::Row as RoofRow;
use llmtrace_analysis::stats::{By, Query, counts_by_operator, stats};
use llmtrace_analysis::summary::Summary;
use llmtrace_analysis::totals::totals_in_range;
use llmtrace_analysis::{TimeRange, Trace};
use std::fmt::Display;

struct Csv(String);

impl Csv {
    fn new(columns: &[&str]) -> Self {
        let mut csv = Self(String::new());
        csv.row(columns.iter().map(|column| (*column).to_owned()));
        csv
    }

    fn row(&mut self, fields: impl IntoIterator<Item = String>) {
        for (at, field) in fields.into_iter().enumerate() {
            if at > 0 {
                self.0.push(',');
            }
            if field.contains([',', '"', '\n', '\r']) {
                self.0.push('"');
                self.0.push_str(&field.replace('"', "\"\""));
                self.0.push('"');
            } else {
                self.0.push_str(&field);
            }
        }
        self.0.push_str("\r\n");
    }
}

fn known<T: Display>(value: Option<T>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

pub(super) fn summary(found: &Summary) -> String {
    let mut csv = Csv::new(&["operator", "count", "time_ns", "wait_ns", "critical_ns", "share"]);
    for row in &found.operators {
        csv.row([
            row.op.clone(),
            row.count.to_string(),
            row.compute_nanos.to_string(),
            known(row.wait_nanos),
            row.critical_nanos.to_string(),
            row.share.to_string(),
        ]);
    }
    csv.0
}

pub(super) fn totals(trace: &Trace, range: TimeRange, going: &Going) -> Option<String> {
    let rows = totals_in_range(trace, range, By::Op, &|_| going.on()).ok()?;
    let mut csv = Csv::new(&["operator", "op_spans", "time_ns", "wait_ns", "share"]);
    for row in rows {
        let wait = known(row.wait_nanos);
        csv.row([row.key, row.spans.to_string(), row.compute_nanos.to_string(), wait, row.share.to_string()]);
    }
    Some(csv.0)
}

/// What adds up to the change, with what is in no node below the parts.
pub(super) fn compared(diff: &Diff, parts: &[Contribution]) -> String {
    let mut csv = Csv::new(&[
        "part",
        "nodes",
        "a_ms",
        "b_ms",
        "change_ms",
        "half_95_ms",
        "significant",
        "became",
        "mostly",
    ]);
    for part in parts {
        csv.row([
            part.key.clone(),
            part.nodes.to_string(),
            known(part.a_ms),
            known(part.b_ms),
            part.ms.to_string(),
            known(part.ms_half),
            part.significant.to_string(),
            part.became.clone().unwrap_or_default(),
            part.mostly.clone().unwrap_or_default(),
        ]);
    }
    let mut whole = |name: &str, [a, b]: [Option<f64>; 2], ms: f64, half: Option<f64>| {
        let none = String::new;
        let fields = [name.to_owned(), none(), known(a), known(b), ms.to_string(), known(half)];
        csv.row(fields.into_iter().chain([none(), none(), none()]));
    };
    for (name, ms, _) in diff.outside_nodes(!parts.is_empty()) {
        whole(name, [None; 2], ms, None);
    }
    let medians = [Some(diff.a.median_ms), Some(diff.b.median_ms)];
    whole("change", medians, diff.change.ms, diff.change.ms_half);
    csv.0
}

pub(super) fn nodes(trace: &Trace, going: &Going) -> Option<String> {
    let found = stats(trace, &Query::by(By::Name), &|_| going.on()).ok()?;
    let mut csv = Csv::new(&["name", "operator", "count", "time_ns", "wait_ns", "critical_ns", "share"]);
    for row in found.rows {
        csv.row([
            row.key,
            row.op.unwrap_or_default(),
            row.count.to_string(),
            row.compute_nanos.to_string(),
            known(row.wait_nanos),
            row.critical_nanos.to_string(),
            row.share.to_string(),
        ]);
    }
    Some(csv.0)
}

pub(super) fn operators(by: &str, rows: &[OperatorRow], waits: bool) -> String {
    let mut csv = Csv::new(&[
        by,
        "operator",
        "nodes",
        "count",
        "time_ns",
        "wait_ns",
        "wall_ns",
        "shortest_ns",
        "longest_ns",
        "share",
    ]);
    for row in rows {
        let sums = &row.sums;
        csv.row([
            row.key.clone(),
            row.op.clone().unwrap_or_default(),
            row.nodes.to_string(),
            sums.count.to_string(),
            sums.compute.to_string(),
            known(waits.then_some(sums.wait)),
            sums.wall.to_string(),
            sums.shortest.to_string(),
            sums.longest.0.to_string(),
            row.share.to_string(),
        ]);
    }
    csv.0
}

pub(super) fn roofline(rows: &[RoofRow]) -> String {
    let mut csv = Csv::new(&[
        "phase",
        "key",
        "operator",
        "count",
        "wall_ns",
        "operations",
        "bytes",
        "at_most",
        "roof_share",
        "limit",
        "confidence",
    ]);
    for row in rows {
        let group = &row.group;
        csv.row([
            row.phase.name().to_owned(),
            row.key.clone(),
            row.op.clone().unwrap_or_default(),
            group.count.to_string(),
            group.wall_nanos.to_string(),
            group.flops.to_string(),
            group.bytes.to_string(),
            group.at_most.to_string(),
            known(group.roof_share()),
            row.verdict.bound.name().to_owned(),
            row.verdict.confidence.name().to_owned(),
        ]);
    }
    csv.0
}

pub(super) fn experts(trace: &Trace, going: &Going) -> Option<String> {
    let found = experts::experts(trace, &ExpertsQuery::default(), &|| going.on())?;
    let mut csv = Csv::new(&["layer", "expert", "tokens", "micro_batches", "share", "bytes"]);
    for layer in &found.layers {
        for expert in 0..layer.counts.len() {
            csv.row([
                known(layer.layer),
                expert.to_string(),
                known(layer.counts.get(expert)),
                known(layer.reads.get(expert)),
                layer.share(expert).to_string(),
                layer.bytes(expert).to_string(),
            ]);
        }
    }
    Some(csv.0)
}

pub(super) fn counters(trace: &Trace) -> String {
    let mut csv = Csv::new(&["operator", "counter", "unit", "sum", "known", "unknown", "scaled"]);
    for (operator, counts) in counts_by_operator(trace) {
        for (counter, counted) in trace.counters().iter().zip(counts) {
            csv.row([
                operator.clone(),
                counter.name.clone(),
                counter.unit.clone(),
                known(counted.sum),
                counted.known.to_string(),
                counted.unknown.to_string(),
                counted.scaled.to_string(),
            ]);
        }
    }
    csv.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_that_would_break_a_row_are_quoted() {
        let mut csv = Csv::new(&["a", "b"]);
        csv.row(["x,\"y\"".to_owned(), "two\nlines".to_owned()]);
        csv.row([known::<u64>(None), known(Some(3))]);
        assert_eq!(csv.0, "a,b\r\n\"x,\"\"y\"\"\",\"two\nlines\"\r\n,3\r\n");
    }
}
