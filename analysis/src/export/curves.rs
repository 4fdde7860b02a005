//! Numbers over time, for the formats that have tracks of counters: cells of KV caches, counts of
//! op spans, samples of processes, of the machine and of its CPUs.
//!
//! Viewers hold a value until the next one. So a rate stands where the time begins that it is of,
//! and where operators counted nothing, zero stands, which they did count.

use crate::counters::Series;
use crate::inference::{KvPoint, kv_curves};
use crate::{Nanos, TimeRange, Trace};
use llmtrace_format::constants::NONE;
use std::collections::BTreeMap;

/// Length of what counts of op spans are summed up to, where the range is not too long for it.
const BIN_NANOS: u64 = 1_000_000;
/// Most such parts of a range.
const MAX_BINS: u64 = 1 << 14;

/// A number over time.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Curve {
    pub(super) name: String,
    pub(super) unit: &'static str,
    /// By time.
    pub(super) points: Vec<(Nanos, f64)>,
}

/// All that there is in a range.
pub(super) fn curves(trace: &Trace, range: TimeRange) -> Vec<Curve> {
    let all = trace.range();
    let range = TimeRange::new(range.begin.max(all.begin), range.end.min(all.end.saturating_add(1)));
    let mut curves = cells(trace, range);
    for series in trace.series() {
        curves.extend(match series {
            Series::Counter(_) => counted(trace, series, range),
            _ => sampled(trace, series, range),
        });
    }
    curves.extend(frequencies(trace, range));
    curves.retain(|curve| !curve.points.is_empty());
    curves
}

/// Cells in use, of each context; what holds when the range begins is its first point.
fn cells(trace: &Trace, range: TimeRange) -> Vec<Curve> {
    let curves = kv_curves(trace);
    let several = curves.iter().any(|curve| curve.process != 0);
    let named = curves.into_iter().map(|curve| {
        let context = match curve.context {
            NONE => "unknown context".to_owned(),
            context => format!("context {context}"),
        };
        let process = if several { format!(", process {}", curve.process) } else { String::new() };
        // Not seen from its beginning: there may be more.
        let least = if curve.whole { "" } else { "at least, " };
        let first = curve.at(range.begin).map(|point| KvPoint { time: range.begin, ..point });
        let later = curve.points.iter().filter(|point| point.time > range.begin && point.time < range.end);
        let points = first.into_iter().chain(later.copied());
        Curve {
            name: format!("KV cells in use ({least}{context}{process})"),
            unit: "cells",
            points: points.map(|point| (point.time, point.cells as f64)).collect(),
        }
    });
    named.collect()
}

/// Counts of op spans, a second.
fn counted(trace: &Trace, series: Series, range: TimeRange) -> Option<Curve> {
    let bins = range.nanos().div_ceil(BIN_NANOS).clamp(1, MAX_BINS);
    let drawn = trace.drawn(series, range, bins as usize);
    let (name, unit) = trace.series_name(series);
    let least = if drawn.partial { "at least, " } else { "" };
    drawn.points.iter().any(|(_, value)| value.is_some()).then_some(())?;
    let width = range.nanos() as f64 / bins as f64;
    let mut points: Vec<(Nanos, f64)> = Vec::new();
    for (bin, (_, value)) in drawn.points.iter().enumerate() {
        let value = value.unwrap_or(0.0);
        if points.last().is_none_or(|(_, last)| *last != value) {
            points.push((range.begin.saturating_add((bin as f64 * width) as u64), value));
        }
    }
    Some(Curve { name: format!("{name} ({least}in operators)"), unit: unit_of(unit), points })
}

/// Samples: levels where they were taken, rates from the sample before.
fn sampled(trace: &Trace, series: Series, range: TimeRange) -> Option<Curve> {
    let (name, unit) = trace.series_name(series);
    let drawn = trace.drawn(series, trace.range(), 1);
    let is_rate = matches!(series, Series::Cpus(_) | Series::System(_));
    let times: Vec<Nanos> = match series {
        Series::Cpus(process) => {
            let of = trace.counts.samples.processes.iter();
            of.filter(|row| row.process == process && row.cpu_nanos > 0).map(|row| row.time).collect()
        }
        Series::System(source) => trace
            .counts
            .samples
            .system
            .iter()
            .filter(|row| row.source == source)
            .map(|row| row.time)
            .collect(),
        _ => Vec::new(),
    };
    let begin = |time: Nanos| {
        let before = times.partition_point(|other| *other < time).checked_sub(1);
        before.and_then(|before| times.get(before)).copied().filter(|_| is_rate).unwrap_or(time)
    };
    let known = drawn.points.iter().filter_map(|(time, value)| Some((begin(*time), (*value)?)));
    let points = known.filter(|(time, _)| range.contains(*time)).collect();
    Some(Curve { name, unit: unit_of(unit), points })
}

/// Units as words, so that they can be names of arguments.
fn unit_of(unit: &str) -> &'static str {
    match unit {
        "CPUs" => "CPUs",
        "bytes" => "bytes",
        "bytes/s" => "bytes/s",
        "W" => "W",
        _ => "1/s",
    }
}

/// How fast CPUs ran.
fn frequencies(trace: &Trace, range: TimeRange) -> Vec<Curve> {
    let mut cpus: BTreeMap<u32, Vec<(Nanos, f64)>> = BTreeMap::new();
    for row in trace.machine.frequencies.iter().filter(|row| range.contains(row.end)) {
        cpus.entry(row.cpu).or_default().push((row.end, f64::from(row.khz)));
    }
    let named = |(cpu, points)| Curve { name: format!("frequency of CPU {cpu}"), unit: "kHz", points };
    cpus.into_iter().map(named).collect()
}
