//! Counters: what threads counted for each node, and what was sampled of
//! processes and of the machine.
//!
//! ```text
//! lane   ├─ op span ─┤├─ op span ──┤├─ op span ─┤      one row of counts for each, joined by begin
//!        └─────────── bucket ──────┘└─ bucket …        their sums, so that a picture needs no rows
//! process   ·     ·     ·     ·     ·     ·            samples, ten a second
//! ```
//!
//! Counts are stored as one more than the count, so that 0 says *unknown*: what
//! was not counted is never taken for nothing.

use crate::block::{BlockHead, EncodedColumn};
use crate::column::Preference;
use crate::constants::{NO_LANE, kind};
use crate::tables::{self, ColumnSpec, Table, convert, table};
use crate::{Nanos, Result, TimeRange};
use std::collections::BTreeMap;

/// Most counters of an op span.
pub const MAX_COUNTERS: usize = 8;
/// [`OpCounter::flags`]: the counts begin at the thread's arrival at the barrier
/// before, and so have its waiting there in them.
pub const WITH_WAIT_BEFORE: u8 = 1;
/// Most buckets into which a block of counts is summed up.
const MAX_BUCKETS: u64 = 256;
/// Rows for each bucket, at least.
const ROWS_PER_BUCKET: u64 = 64;

table! {
    /// Counts of op spans, of one lane a block.
    OpCounters of
    /// What a thread counted for one op span; counters are those of
    /// [`crate::meta::Recording::counters`].
    OpCounter, kind::OP_COUNTERS, "op counters";
    /// Begin of the op span.
    0 begin: Nanos as Delta,
    /// Index into [`crate::meta::Graph::tensors`].
    1 node: u32 as Delta,
    /// How many further nodes, from `node` on, the same kernel computed.
    2 fused: u32 as Runs,
    /// [`crate::tables::GraphSpan::id`].
    3 graph_span: u32 as Runs,
    /// [`WITH_WAIT_BEFORE`], or 0.
    4 flags: u8 as Runs,
    /// Bit i: counter i shared its place with others, and its count is scaled up.
    5 scaled: u8 as Runs,
    /// One more than the first counter's count; 0 when unknown.
    8 count0: u64 as Planes,
    /// The same of the second.
    9 count1: u64 as Planes,
    /// The same of the third.
    10 count2: u64 as Planes,
    /// The same of the fourth.
    11 count3: u64 as Planes,
    /// The same of the fifth.
    12 count4: u64 as Planes,
    /// The same of the sixth.
    13 count5: u64 as Planes,
    /// The same of the seventh.
    14 count6: u64 as Planes,
    /// The same of the eighth.
    15 count7: u64 as Planes,
}

table! {
    /// Sums of the block of [`OpCounters`] before them, in buckets of time; empty ones are
    /// left out.
    CounterSums of
    /// One bucket; what was counted for an op span is spread evenly over its time.
    CounterSum, kind::COUNTER_SUMS, "counter sums";
    /// Length of each bucket, a power of two; the same in all rows.
    0 nanos: u64 as Runs,
    /// Bucket i begins at trace time i times that.
    1 index: u64 as Delta,
    /// Op spans that begin inside.
    2 rows: u32 as Planes,
    /// Bit i: of some of them counter i is unknown, and missing from the sum.
    3 partial: u8 as Runs,
    /// 1: counts are spread over the time of their op spans. 0, in files before 1.3: all of
    /// them count where the op span begins.
    4 spread: u8 as Runs since 3 or 0,
    /// One more than the first counter's sum; 0 when it is unknown of all.
    8 sum0: u64 as Planes,
    /// The same of the second.
    9 sum1: u64 as Planes,
    /// The same of the third.
    10 sum2: u64 as Planes,
    /// The same of the fourth.
    11 sum3: u64 as Planes,
    /// The same of the fifth.
    12 sum4: u64 as Planes,
    /// The same of the sixth.
    13 sum5: u64 as Planes,
    /// The same of the seventh.
    14 sum6: u64 as Planes,
    /// The same of the eighth.
    15 sum7: u64 as Planes,
}

table! {
    /// What processes took, several times a second.
    ProcessSamples of
    /// One process at one time.
    ProcessSample, kind::PROCESS_SAMPLES, "process samples";
    /// When.
    0 time: Nanos as Delta,
    /// Index into [`crate::meta::Recording::processes`].
    1 process: u32 as Runs,
    /// One more than the nanoseconds of CPU that all its threads had so far; 0 when unknown.
    2 cpu_nanos: u64 as Planes,
    /// One more than the bytes of its memory that are resident; 0 when unknown.
    3 resident: u64 as Planes,
    /// One more than those of them that are of files or shared; 0 when unknown.
    4 resident_files: u64 as Planes,
    /// One more than the resident bytes of the mapped model files; 0 when it was not
    /// looked at, which is done seldom.
    5 model_resident: u64 as Planes,
    /// One more than its proportional share of these: a page that n processes have
    /// mapped counts as one n-th. 0 when it was not looked at.
    6 model_share: u64 as Planes,
}

table! {
    /// What the whole machine took, several times a second.
    SystemSamples of
    /// One source at one time.
    SystemSample, kind::SYSTEM_SAMPLES, "system samples";
    /// When.
    0 time: Nanos as Delta,
    /// Index into [`crate::meta::Recording::sampled`].
    1 source: u32 as Planes,
    /// What it has counted so far, in its unit.
    2 value: u64 as Planes,
}

impl OpCounter {
    /// The count of one counter; `None` when it is unknown.
    pub fn count(&self, counter: usize) -> Option<u64> {
        self.stored().get(counter)?.checked_sub(1)
    }

    /// As they are stored.
    pub fn stored(&self) -> [u64; MAX_COUNTERS] {
        [
            self.count0,
            self.count1,
            self.count2,
            self.count3,
            self.count4,
            self.count5,
            self.count6,
            self.count7,
        ]
    }

    /// The same row with these counts.
    pub fn with_counts(self, counts: [Option<u64>; MAX_COUNTERS]) -> Self {
        let [count0, count1, count2, count3, count4, count5, count6, count7] = counts.map(stored);
        Self { count0, count1, count2, count3, count4, count5, count6, count7, ..self }
    }
}

impl CounterSum {
    /// The sum of one counter; `None` when it is unknown of all op spans.
    pub fn sum(&self, counter: usize) -> Option<u64> {
        let sums = [self.sum0, self.sum1, self.sum2, self.sum3, self.sum4, self.sum5, self.sum6, self.sum7];
        sums.get(counter)?.checked_sub(1)
    }
}

/// As a count is stored.
pub fn stored(count: Option<u64>) -> u64 {
    count.map_or(0, |count| count.saturating_add(1))
}

/// Sums of a block's rows, which begin in `range` and end at `ends`.
pub(crate) fn sums(table: &OpCounters, ends: &[Nanos], range: TimeRange) -> CounterSums {
    #[derive(Default)]
    struct Bucket {
        rows: u32,
        partial: u8,
        sums: [Option<u64>; MAX_COUNTERS],
    }
    // One lasts until the next one begins, at most.
    let end = |index: usize, begin: Nanos| {
        let next = table.begin.get(index + 1).copied().unwrap_or(Nanos::MAX);
        let until = ends.get(index).copied().unwrap_or(Nanos::MAX).min(next);
        if until == Nanos::MAX { begin } else { until.max(begin) }
    };
    let last = table.len().saturating_sub(1);
    let last = table.begin.last().map_or(range.end, |&begin| end(last, begin)).max(range.end);
    let most = (table.len() as u64 / ROWS_PER_BUCKET).clamp(1, MAX_BUCKETS);
    // Between two edges lies one more bucket than fits in between.
    let span = last.saturating_sub(range.begin);
    let shift = (12..63).find(|shift| (span >> shift) + 1 < most.max(2)).unwrap_or(63);
    let mut buckets: BTreeMap<u64, Bucket> = BTreeMap::new();
    for (row_index, row) in table.rows().enumerate() {
        let until = end(row_index, row.begin);
        let nanos = until - row.begin;
        let first = row.begin >> shift;
        buckets.entry(first).or_default().rows += 1;
        for index in first..=(until.saturating_sub(1) >> shift).max(first) {
            // What was counted up to a time; the differences add up to the whole.
            let edge = |index: u64| (index << shift).clamp(row.begin, until) - row.begin;
            let (from, to) = (edge(index), if index + 1 > until >> shift { nanos } else { edge(index + 1) });
            let share = |count: u64| {
                let up_to =
                    |time: u64| (u128::from(count) * u128::from(time) / u128::from(nanos.max(1))) as u64;
                if nanos == 0 { count } else { up_to(to) - up_to(from) }
            };
            let bucket = buckets.entry(index).or_default();
            for (counter, sum) in bucket.sums.iter_mut().enumerate() {
                match row.count(counter) {
                    Some(count) => *sum = Some(sum.unwrap_or(0).saturating_add(share(count))),
                    None => bucket.partial |= 1 << counter,
                }
            }
        }
    }
    let mut sums = CounterSums::default();
    for (index, Bucket { rows, partial, sums: counts }) in buckets {
        let [sum0, sum1, sum2, sum3, sum4, sum5, sum6, sum7] = counts.map(stored);
        let (nanos, spread) = (1 << shift, 1);
        sums.push(CounterSum {
            nanos,
            index,
            rows,
            partial,
            spread,
            sum0,
            sum1,
            sum2,
            sum3,
            sum4,
            sum5,
            sum6,
            sum7,
        });
    }
    sums
}

/// Counts of a lane that wait to be written.
#[derive(Debug, Default)]
struct LaneCounts {
    rows: OpCounters,
    /// End of each row's graph span; the greatest time when it is unknown.
    ends: Vec<Nanos>,
    range: TimeRange,
}

/// Rows of all tables of this module that wait to be written.
#[derive(Debug, Default)]
pub(crate) struct CounterTables {
    lanes: BTreeMap<u32, LaneCounts>,
    processes: ProcessSamples,
    system: SystemSamples,
}

type WriteBlock<'a> = dyn FnMut(&BlockHead, &[EncodedColumn]) -> Result<()> + 'a;

impl CounterTables {
    /// Adds a row of a graph that lasts `until` a time; returns how many of its lane wait. A
    /// row that begins before the one before it is moved, as op spans are.
    pub(crate) fn push(&mut self, lane: u32, row: OpCounter, until: Option<Nanos>) -> usize {
        let LaneCounts { rows, ends, range } = self.lanes.entry(lane).or_default();
        let begin = row.begin.max(range.end);
        if rows.is_empty() {
            range.begin = begin;
        }
        range.end = begin;
        ends.push(until.unwrap_or(Nanos::MAX));
        rows.push(OpCounter { begin, ..row });
        rows.len()
    }

    pub(crate) fn push_process(&mut self, row: ProcessSample) {
        self.processes.push(row);
    }

    pub(crate) fn push_system(&mut self, row: SystemSample) {
        self.system.push(row);
    }

    /// Forgets counts that are not written.
    pub(crate) fn discard(&mut self) {
        for lane in self.lanes.values_mut() {
            lane.rows.clear();
            lane.ends.clear();
        }
    }

    /// Writes everything that waits, with sums if they are wanted; rows that cannot be
    /// written stay.
    pub(crate) fn write(&mut self, with_sums: bool, write: &mut WriteBlock<'_>) -> Result<()> {
        for (&id, lane) in self.lanes.iter_mut().filter(|(_, lane)| !lane.rows.is_empty()) {
            put(&lane.rows, id, lane.range, write)?;
            let sums = with_sums.then(|| sums(&lane.rows, &lane.ends, lane.range));
            lane.rows.clear();
            lane.ends.clear();
            if let Some(sums) = sums {
                put(&sums, id, lane.range, write)?;
            }
        }
        if let Some(range) = range_of(&self.processes.time) {
            put(&self.processes, NO_LANE, range, write)?;
            self.processes.clear();
        }
        if let Some(range) = range_of(&self.system.time) {
            put(&self.system, NO_LANE, range, write)?;
            self.system.clear();
        }
        Ok(())
    }
}

fn range_of(times: &[Nanos]) -> Option<TimeRange> {
    Some(TimeRange::new(*times.iter().min()?, *times.iter().max()?))
}

fn put<T: Table>(table: &T, lane: u32, range: TimeRange, write: &mut WriteBlock<'_>) -> Result<()> {
    let head = BlockHead { kind: T::KIND, lane, rows: table.len() as u32, range };
    write(&head, &tables::encode(table))
}

/// Name of a table of this module, by kind of block.
pub fn table_name(kind: u16) -> Option<&'static str> {
    match kind {
        kind::OP_COUNTERS => Some(OpCounters::NAME),
        kind::COUNTER_SUMS => Some(CounterSums::NAME),
        kind::PROCESS_SAMPLES => Some(ProcessSamples::NAME),
        kind::SYSTEM_SAMPLES => Some(SystemSamples::NAME),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(begin: Nanos, counts: &[Option<u64>]) -> OpCounter {
        let mut all = [None; MAX_COUNTERS];
        all.iter_mut().zip(counts).for_each(|(to, from)| *to = *from);
        OpCounter { begin, ..OpCounter::default() }.with_counts(all)
    }

    #[test]
    fn unknown_is_not_zero_and_survives_a_sum() {
        let counted = row(7, &[Some(0), None, Some(u64::MAX)]);
        assert_eq!(
            [0, 1, 2, 3, 9].map(|counter| counted.count(counter)),
            [Some(0), None, Some(u64::MAX - 1), None, None]
        );
        let mut table = OpCounters::default();
        for (begin, count) in [(10, Some(3)), (20, None), (30, Some(4))] {
            table.push(row(begin, &[Some(1), count]));
        }
        let sums = sums(&table, &[20, 30, 40], TimeRange::new(10, 30));
        let first = sums.get(0).expect("a bucket");
        assert_eq!((sums.len(), first.rows, first.partial), (1, 3, 0b1111_1110));
        assert_eq!((first.sum(0), first.sum(1), first.sum(2)), (Some(3), Some(7), None));
    }

    #[test]
    fn sums_are_those_of_the_rows_in_a_bounded_number_of_buckets() {
        let mut table = OpCounters::default();
        let mut state = 7u64;
        let mut begin = 1 << 40;
        for _ in 0..50_000 {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            begin += state >> 48;
            table.push(row(begin, &[Some(state >> 40)]));
        }
        let range = TimeRange::new(table.begin[0], begin);
        // None lasts: each counts where it begins.
        let sums = sums(&table, &table.begin, range);
        assert!((64..=MAX_BUCKETS as usize).contains(&sums.len()), "{}", sums.len());
        for bucket in sums.rows() {
            let inside = table.rows().filter(|row| row.begin / bucket.nanos == bucket.index);
            let (rows, sum) =
                inside.fold((0, 0), |(rows, sum), row| (rows + 1, sum + row.count(0).unwrap_or(0)));
            assert_eq!((bucket.rows, bucket.sum(0)), (rows, Some(sum)));
        }
        assert_eq!(sums.rows.iter().sum::<u32>(), 50_000);
    }

    #[test]
    fn a_long_op_span_counts_in_all_of_its_time_and_sums_keep_the_total() {
        let mut table = OpCounters::default();
        let mut ends = Vec::new();
        // Each always on a CPU; the last and every thousandth last as long as a thousand others.
        let mut begin = 123_457;
        for index in 0..20_000u64 {
            let nanos = if index % 1000 == 999 { 10_000_019 } else { 10_007 };
            table.push(row(begin, &[Some(nanos)]));
            begin += nanos;
            // The graph's end, which is later for all but the last.
            ends.push(begin.next_multiple_of(1 << 40));
        }
        ends[19_999] = begin;
        let range = TimeRange::new(table.begin[0], table.begin[19_999]);
        let sums = sums(&table, &ends, range);
        let total: u64 = sums.rows().filter_map(|bucket| bucket.sum(0)).sum();
        assert_eq!(total, begin - range.begin);
        assert_eq!(sums.rows.iter().sum::<u32>(), 20_000);
        assert!(sums.len() <= MAX_BUCKETS as usize, "{}", sums.len());
        let inner = sums.rows().skip(1).take(sums.len() - 2);
        for bucket in inner {
            let cpus = bucket.sum(0).expect("counted") as f64 / bucket.nanos as f64;
            assert!((cpus - 1.0).abs() < 0.001, "{cpus} CPUs of one thread at {}", bucket.index);
        }
    }
}
