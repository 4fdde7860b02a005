//! Counters over time and of single op spans, and samples of processes and the machine.
//!
//! A series of a range takes the sums that stand beside the rows in the file where these
//! are fine enough, so that it needs no rows of a long trace; else the rows.

use crate::{Nanos, OpSpan, TimeRange, Trace};
use llmtrace_format::counters::SystemSamples;
use llmtrace_format::counters::{
    CounterSums, OpCounter, OpCounters, ProcessSample, ProcessSamples, SystemSample,
};
use llmtrace_format::meta::Counter;
use llmtrace_format::{BlockInfo, ColumnSet, TraceFile, Warning};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Blocks of counts that stay decoded: 6 MB each at most.
const CACHED_BLOCKS: usize = 16;

/// Samples, by time.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    /// Of processes.
    pub processes: Vec<ProcessSample>,
    /// Of the machine.
    pub system: Vec<SystemSample>,
}

/// Counts of one lane's block.
type Cached = Mutex<Vec<(u64, Arc<OpCounters>)>>;

/// What was counted and sampled.
#[derive(Debug, Default)]
pub struct Counts {
    /// Samples of processes and of the machine.
    pub samples: Samples,
    cached: Cached,
}

impl Counts {
    pub(crate) fn read(file: &TraceFile, warnings: &mut Vec<Warning>) -> Self {
        let mut samples = Samples::default();
        file.read_all::<ProcessSamples>(|_, table| samples.processes.extend(table.rows()), warnings);
        file.read_all::<SystemSamples>(|_, table| samples.system.extend(table.rows()), warnings);
        samples.processes.sort_by_key(|row| row.time);
        samples.system.sort_by_key(|row| row.time);
        Self { samples, cached: Mutex::default() }
    }
}

/// Something that can be drawn over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Series {
    /// A counter of op spans, all threads together: counts a second.
    Counter(u32),
    /// CPUs that a process has: seconds of CPU a second.
    Cpus(u32),
    /// Bytes of a process that are resident.
    Resident(u32),
    /// Bytes of model files that are resident in a process.
    Model(u32),
    /// Its proportional share of these.
    ModelShare(u32),
    /// What the machine counts: counts a second.
    System(u32),
}

/// A series over a range.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Drawn {
    /// Time and value, by time; `None` where nothing is known.
    pub points: Vec<(Nanos, Option<f64>)>,
    /// Whether counts of some op spans are unknown and missing from it.
    pub partial: bool,
}

impl Trace {
    /// What was counted for op spans, in the order of their counts.
    pub fn counters(&self) -> &[Counter] {
        let counters = self.file.recording.as_ref().map_or(&[][..], |recording| &recording.counters);
        counters.get(..counters.len().min(llmtrace_format::counters::MAX_COUNTERS)).unwrap_or_default()
    }

    /// What there is to draw, in the order in which people look at it.
    pub fn series(&self) -> Vec<Series> {
        let mut all = Vec::new();
        if self.file.blocks_of::<OpCounters>().next().is_some() {
            all.extend((0..self.counters().len() as u32).map(Series::Counter));
        }
        let mut processes: Vec<u32> = self.counts.samples.processes.iter().map(|row| row.process).collect();
        processes.sort_unstable();
        processes.dedup();
        for process in processes {
            let has = |of: fn(&ProcessSample) -> u64| {
                self.counts.samples.processes.iter().any(|row| row.process == process && of(row) > 0)
            };
            let found = [
                (Series::Cpus(process), has(|row| row.cpu_nanos)),
                (Series::Resident(process), has(|row| row.resident)),
                (Series::Model(process), has(|row| row.model_resident.saturating_sub(1))),
                (Series::ModelShare(process), has(|row| row.model_share.saturating_sub(1))),
            ];
            all.extend(found.into_iter().filter(|(_, has)| *has).map(|(series, _)| series));
        }
        let sampled = self.file.recording.as_ref().map_or(0, |recording| recording.sampled.len() as u32);
        all.extend((0..sampled).map(Series::System));
        all
    }

    /// Name of a series, and its unit; empty for a number of events.
    pub fn series_name(&self, series: Series) -> (String, &str) {
        let recording = self.file.recording.as_ref();
        let of = |what: &str, process: u32| {
            let processes = recording.map_or(&[][..], |recording| &recording.processes);
            match processes.get(process as usize).filter(|_| processes.len() > 1) {
                Some(of) => format!("{what}, {} ({})", of.exe, of.pid),
                None => what.to_owned(),
            }
        };
        match series {
            Series::Counter(number) => match self.counters().get(number as usize) {
                Some(counter) if counter.unit == "ns" => (counter.name.clone(), "CPUs"),
                Some(counter) => (counter.name.clone(), "/s"),
                None => ("unknown".to_owned(), "/s"),
            },
            Series::Cpus(process) => (of("CPU time", process), "CPUs"),
            Series::Resident(process) => (of("memory", process), "bytes"),
            Series::Model(process) => (of("model in memory", process), "bytes"),
            Series::ModelShare(process) => (of("model, its share", process), "bytes"),
            Series::System(number) => {
                let sampled = recording.and_then(|recording| recording.sampled.get(number as usize));
                sampled.map_or(("unknown".to_owned(), "/s"), |sampled| match sampled.unit.as_str() {
                    "µJ" => (sampled.name.clone(), "W"),
                    "bytes" => (sampled.name.clone(), "bytes/s"),
                    _ => (sampled.name.clone(), "/s"),
                })
            }
        }
    }

    /// A series in a range, in `bins` parts or, of samples, as they were taken.
    pub fn drawn(&self, series: Series, range: TimeRange, bins: usize) -> Drawn {
        let samples = &self.counts.samples;
        let rows = |process: u32| samples.processes.iter().filter(move |row| row.process == process);
        let level = |process: u32, of: fn(&ProcessSample) -> u64| {
            let points =
                rows(process).filter_map(|row| Some((row.time, Some(of(row).checked_sub(1)? as f64))));
            Drawn { points: around(points, range), partial: false }
        };
        match series {
            Series::Counter(counter) => {
                let unit = if self.counters().get(counter as usize).is_some_and(|c| c.unit == "ns") {
                    1e9
                } else {
                    1.0
                };
                self.counter_rate(counter as usize, range, bins, unit)
            }
            Series::Cpus(process) => {
                let points = rows(process).filter_map(|row| Some((row.time, row.cpu_nanos.checked_sub(1)?)));
                rate(points, 1e9, range)
            }
            Series::Resident(process) => level(process, |row| row.resident),
            Series::Model(process) => level(process, |row| row.model_resident),
            Series::ModelShare(process) => level(process, |row| row.model_share),
            Series::System(number) => {
                let rows = samples.system.iter().filter(|row| row.source == number);
                let unit = if self.series_name(series).1 == "W" { 1e6 } else { 1.0 };
                rate(rows.map(|row| (row.time, row.value)), unit, range)
            }
        }
    }

    /// Counts a second, in units of `unit`, over all threads.
    fn counter_rate(&self, counter: usize, range: TimeRange, bins: usize, unit: f64) -> Drawn {
        let bins = bins.clamp(1, 1 << 14);
        let width = (range.nanos() as f64 / bins as f64).max(1.0);
        // Nothing is known of a part of time that no op span began in.
        let mut sums: Vec<Option<f64>> = vec![None; bins];
        let mut partial = false;
        let mut add = |begin: Nanos, nanos: u64, sum: f64| {
            let from = begin as f64 - range.begin as f64;
            let to = from + nanos as f64;
            let at = |x: f64| (x / width).floor().clamp(0.0, bins as f64 - 1.0) as usize;
            if to < 0.0 || from >= bins as f64 * width {
                return;
            }
            for (bin, total) in sums.iter_mut().enumerate().take(at(to) + 1).skip(at(from)) {
                let (left, right) = (bin as f64 * width, (bin + 1) as f64 * width);
                let inside = (to.min(right) - from.max(left)).max(0.0);
                let part = if nanos == 0 { 1.0 } else { inside / nanos as f64 };
                if part > 0.0 {
                    *total = Some(total.unwrap_or(0.0) + sum * part);
                }
            }
        };
        let with_sums: HashMap<(u32, Nanos, Nanos), &BlockInfo> = self
            .file
            .blocks_of::<CounterSums>()
            .map(|block| ((block.lane, block.range.begin, block.range.end), block))
            .collect();
        let inside = |block: &&BlockInfo| block.range.begin < range.end && range.begin <= block.range.end;
        let few = self.file.blocks_of::<OpCounters>().filter(inside).nth(CACHED_BLOCKS).is_none();
        for block in self.file.blocks_of::<OpCounters>().filter(inside) {
            let sums = with_sums.get(&(block.lane, block.range.begin, block.range.end));
            let sums = sums.and_then(|sums| self.file.read::<CounterSums>(sums, ColumnSet::ALL).ok());
            let fine = |sums: &CounterSums| {
                let narrow = sums.nanos.first().is_some_and(|&nanos| nanos as f64 <= 2.0 * width);
                // Files of before count all of a long op span where it begins: rows say where its
                // time is, as long as there are few.
                narrow && (!few || sums.spread.first() == Some(&1))
            };
            if let Some(sums) = sums.filter(fine) {
                for row in sums.rows() {
                    partial |= row.partial >> counter & 1 != 0;
                    if let Some(sum) = row.sum(counter) {
                        add(row.index.saturating_mul(row.nanos), row.nanos, sum as f64);
                    }
                }
                continue;
            }
            let Some(rows) = self.counts_of(block) else { continue };
            for (index, row) in rows.rows().enumerate() {
                // Until the next one begins, or the graph ends.
                let next = rows.begin.get(index + 1).copied();
                let ends = self.graph_span(row.graph_span).map(|graph| graph.end.max(row.begin));
                let next = next.into_iter().chain(ends).min().unwrap_or(row.begin);
                match row.count(counter) {
                    Some(count) => add(row.begin, next.saturating_sub(row.begin), count as f64),
                    None => partial = true,
                }
            }
        }
        let seconds = width / 1e9;
        let point = |(bin, sum): (usize, Option<f64>)| {
            (
                range.begin.saturating_add(((bin as f64 + 0.5) * width) as u64),
                sum.map(|sum| sum / unit / seconds),
            )
        };
        Drawn { points: sums.into_iter().enumerate().map(point).collect(), partial }
    }

    /// Decoded counts of a block; `None` when it is damaged.
    fn counts_of(&self, block: &BlockInfo) -> Option<Arc<OpCounters>> {
        let mut cached = self.counts.cached.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = cached.iter().position(|(offset, _)| *offset == block.offset) {
            let found = cached.remove(at);
            let table = found.1.clone();
            cached.push(found);
            return Some(table);
        }
        let table = Arc::new(self.file.read::<OpCounters>(block, ColumnSet::ALL).ok()?);
        if cached.len() >= CACHED_BLOCKS {
            cached.remove(0);
        }
        cached.push((block.offset, table.clone()));
        Some(table)
    }

    /// What was counted for an op span of a lane; `None` when nothing was. Decodes a block
    /// if it must.
    pub fn counts_of_span(&self, lane: u32, span: &OpSpan) -> Option<OpCounter> {
        let covers = |block: &&BlockInfo| {
            block.lane == lane && block.range.begin <= span.begin && span.begin <= block.range.end
        };
        self.file.blocks_of::<OpCounters>().filter(covers).find_map(|block| {
            let table = self.counts_of(block)?;
            let at = table.begin.partition_point(|&begin| begin < span.begin);
            table.get(at).filter(|row| {
                (row.begin, row.graph_span, row.node) == (span.begin, span.graph_span, span.node)
            })
        })
    }
}

/// Points in a range, and the ones beside it, so that a line goes on to the edges.
fn around(points: impl Iterator<Item = (Nanos, Option<f64>)>, range: TimeRange) -> Vec<(Nanos, Option<f64>)> {
    let all: Vec<_> = points.collect();
    let first = all.partition_point(|(time, _)| *time < range.begin).saturating_sub(1);
    let last = all.partition_point(|(time, _)| *time < range.end).saturating_add(1).min(all.len());
    all.get(first..last).unwrap_or_default().to_vec()
}

/// Differences of what grows, a second.
fn rate(points: impl Iterator<Item = (Nanos, u64)>, unit: f64, range: TimeRange) -> Drawn {
    let all: Vec<(Nanos, u64)> = points.collect();
    let between = all.windows(2).filter_map(|pair| {
        let [(from, before), (to, after)] = pair else { return None };
        let seconds = to.checked_sub(*from).filter(|nanos| *nanos > 0)? as f64 / 1e9;
        Some((*to, after.checked_sub(*before).map(|more| more as f64 / unit / seconds)))
    });
    Drawn { points: around(between, range), partial: false }
}

#[cfg(test)]
mod tests {
    use super::*;
    use llmtrace_format::meta::{Ending, Recording};
    use llmtrace_format::{Header, Source, Writer};

    /// Two lanes of op spans that last 1 µs each, the first of which counts 2 for each, the
    /// second 1, but nothing in its second half.
    fn trace(rows: u64) -> Trace {
        let mut writer = Writer::new(Vec::new(), Header::new(1, 2)).unwrap();
        let counter = |name: &str, unit: &str| Counter {
            name: name.into(),
            unit: unit.into(),
            source: "task".into(),
            event: String::new(),
        };
        let counters = vec![counter("page-faults", ""), counter("task-clock", "ns")];
        writer.write_recording(&Recording { counters, ..Recording::default() }).unwrap();
        for index in 0..rows {
            for lane in 0..2 {
                let span =
                    OpSpan { begin: index * 1000, compute: 900, node: index as u32 % 7, ..OpSpan::default() };
                writer.push_op_span(lane, span).unwrap();
                let count = if lane == 0 { Some(2) } else { (index < rows / 2).then_some(1) };
                let mut counts = [None; 8];
                (counts[0], counts[1]) = (count, Some(500));
                let row = OpCounter { begin: span.begin, node: span.node, ..OpCounter::default() };
                writer.push_op_counter(lane, row.with_counts(counts)).unwrap();
            }
        }
        for (time, cpu) in [(0, 0), (100, 50), (200, 50), (300, 150)] {
            writer.push_process_sample(ProcessSample {
                time: time * 1_000_000,
                cpu_nanos: cpu * 1_000_000 + 1,
                resident: 4097,
                ..ProcessSample::default()
            });
        }
        let bytes = writer.finish(&Ending::default()).unwrap();
        Trace::open(Source::Bytes(bytes), &mut |_| true).unwrap()
    }

    #[test]
    fn rates_are_the_same_from_sums_and_from_rows() {
        let trace = trace(100_000);
        let all = TimeRange::new(0, 100_000_000);
        let coarse = trace.drawn(Series::Counter(0), all, 10);
        assert!(coarse.partial);
        let fine = trace.drawn(Series::Counter(0), all, 10_000);
        for (bin, (_, value)) in coarse.points.iter().enumerate() {
            let rate = if bin < 5 { 3e6 } else { 2e6 };
            assert!((value.unwrap() / rate - 1.0).abs() < 0.02, "{bin} {value:?}");
            let rows = &fine.points[bin * 1000..(bin + 1) * 1000];
            let mean = rows.iter().map(|(_, value)| value.unwrap_or(0.0)).sum::<f64>() / 1000.0;
            assert!((mean / rate - 1.0).abs() < 0.01, "{bin} {mean}");
        }
        // Two threads, each half of the time on a CPU.
        let clock = trace.drawn(Series::Counter(1), all, 4);
        assert!(clock.points.iter().all(|(_, value)| (value.unwrap() - 1.0).abs() < 0.01), "{clock:?}");
        // Nothing ran: nothing is known, which is not zero.
        let behind = trace.drawn(Series::Counter(0), TimeRange::new(200_000_000, 300_000_000), 3);
        assert_eq!(behind.points.iter().map(|(_, value)| *value).collect::<Vec<_>>(), [None; 3]);
    }

    #[test]
    fn counts_are_found_by_op_span_and_samples_make_lines() {
        let trace = trace(100);
        let spans = trace.spans(1);
        let found = trace.counts_of_span(1, &spans[10]).unwrap();
        assert_eq!((found.count(0), found.count(1), found.count(2)), (Some(1), Some(500), None));
        assert_eq!(trace.counts_of_span(1, &spans[90]).unwrap().count(0), None);
        assert_eq!(trace.counts_of_span(1, &OpSpan { begin: 10_001, ..spans[10] }), None);
        assert_eq!(trace.counts_of_span(2, &spans[10]), None);
        let expected = [Series::Counter(0), Series::Counter(1), Series::Cpus(0), Series::Resident(0)];
        assert_eq!(trace.series(), expected);
        let cpus = trace.drawn(Series::Cpus(0), TimeRange::new(0, Nanos::MAX), 1);
        let values: Vec<f64> = cpus.points.iter().map(|(_, value)| value.unwrap()).collect();
        assert_eq!(values, [0.5, 0.0, 1.0]);
        let memory = trace.drawn(Series::Resident(0), TimeRange::new(150_000_000, 160_000_000), 1);
        assert_eq!(memory.points.len(), 2);
        assert_eq!(trace.series_name(Series::Counter(1)), ("task-clock".to_owned(), "CPUs"));
    }

    #[test]
    fn a_long_node_shows_no_more_cpus_than_its_threads() {
        use llmtrace_format::tables::GraphSpan;
        let mut writer = Writer::new(Vec::new(), Header::new(1, 2)).unwrap();
        let clock = Counter { name: "task-clock".into(), unit: "ns".into(), ..Counter::default() };
        writer.write_recording(&Recording { counters: vec![clock], ..Recording::default() }).unwrap();
        // Two threads, always on a CPU: 20,000 nodes, one in 500 takes 40 ms, as does the last.
        let nanos = |index: u64| if index % 500 == 499 { 40_000_000 } else { 20_000 };
        let end: u64 = (0..20_000).map(nanos).sum();
        writer.push_graph_span(GraphSpan { end, ..GraphSpan::default() });
        let mut begin = 0;
        for index in 0..20_000 {
            for lane in 0..2 {
                let span = OpSpan { begin, compute: nanos(index), ..OpSpan::default() };
                writer.push_op_span(lane, span).unwrap();
                let mut counts = [None; 8];
                counts[0] = Some(nanos(index));
                let row = OpCounter { begin, ..OpCounter::default() };
                writer.push_op_counter(lane, row.with_counts(counts)).unwrap();
            }
            begin += nanos(index);
        }
        let bytes = writer.finish(&Ending::default()).unwrap();
        let trace = Trace::open(Source::Bytes(bytes), &mut |_| true).unwrap();
        // The first from sums, the last from rows.
        for bins in [40, 100, 1000, 10_000] {
            let drawn = trace.drawn(Series::Counter(0), TimeRange::new(0, end), bins);
            for (at, value) in drawn.points {
                // The last part of the sums goes on behind the trace's end.
                let least = if at + end / 20 > end { 1.8 } else { 1.999 };
                assert!((least..2.001).contains(&value.unwrap()), "{value:?} CPUs at {at}, {bins} bins");
            }
        }
        assert_eq!(trace.file.blocks_of::<CounterSums>().count(), 2);
    }

    #[test]
    fn a_file_of_before_shows_no_more_cpus_than_its_threads_either() {
        let sample = "../sample-traces/gemma3-270m-counters-2t.llmtrace";
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(sample);
        let source = Source::Bytes(std::fs::read(path).unwrap());
        let trace = Trace::open(source, &mut |_| true).unwrap();
        let clock = trace.counters().iter().position(|counter| counter.name == "task-clock").unwrap();
        for bins in [20, 100, 600] {
            let drawn = trace.drawn(Series::Counter(clock as u32), trace.range(), bins);
            let most = drawn.points.iter().filter_map(|(_, value)| *value).fold(0.0, f64::max);
            assert!((0.5..2.2).contains(&most), "{most} CPUs, {bins} bins");
        }
    }
}
