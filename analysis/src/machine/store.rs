//! States of threads, decoded when somebody looks: a recording of hours has more than fit into
//! memory.
//!
//! ```text
//! rows that touch a range  ≤ limit   the rows, to the nanosecond, from a cache
//!                          > limit   sums: of whole blocks, and a grid of the whole trace
//! ```

use super::{Piece, STATE_COUNT, StateRows, StateSums, fold_states, tids_of};
use crate::cut::touches;
use crate::{Nanos, TimeRange, Trace};
use llmtrace_format::machine::{State, ThreadState, ThreadStates};
use llmtrace_format::tables::Table as _;
use llmtrace_format::{BlockInfo, ColumnSet, TraceFile, Warning};
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Rows of a range that are shown one by one; 25 MB with their sums.
const DEFAULT_LIMIT: u64 = 1 << 18;
/// Decoded rows that stay, in limits: of several lanes, and of what was looked at before.
const KEPT: u64 = 4;
/// Parts of the grid over the whole trace, of one lane and of all.
const MAX_BUCKETS: u64 = 1 << 16;
const MAX_ALL_BUCKETS: u64 = 1 << 19;
/// Blocks that are decoded at once.
const AT_ONCE: usize = 16;

/// Whose states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Lane(u32),
    Thread(u32, u32),
}

/// Rows of somebody in blocks, from the first to the last.
type Kept = (Who, usize, usize, Arc<StateRows>);

/// What there is, and what of it is decoded.
#[derive(Debug, Default)]
pub(super) struct Store {
    /// By begin.
    blocks: Vec<BlockInfo>,
    /// Rows by process and kernel thread.
    pub(super) threads: BTreeMap<(u32, u32), u64>,
    /// Kernel threads of each lane that have rows.
    lanes: BTreeMap<u32, BTreeSet<u32>>,
    /// Changed by tests.
    limit: Option<u64>,
    kept: Mutex<Vec<Kept>>,
    /// Offsets of blocks that could not be read since.
    damaged: Mutex<BTreeSet<u64>>,
    sums: OnceLock<Sums>,
}

/// What stands for rows of long ranges.
#[derive(Debug, Default)]
struct Sums {
    /// Of each block, each lane.
    blocks: Vec<BTreeMap<u32, [u64; STATE_COUNT]>>,
    /// Begin of the first part of each grid, and the length of each.
    begin: Nanos,
    nanos: u64,
    grids: BTreeMap<u32, Vec<[u64; STATE_COUNT]>>,
}

impl Store {
    /// Looks at which threads there are; damaged blocks are left out and reported.
    pub(super) fn open(file: &TraceFile, lanes: &[u32], warnings: &mut Vec<Warning>) -> Self {
        let mut store = Self::default();
        let columns = ColumnSet::only::<ThreadStates>(&["tid", "process"]);
        let blocks: Vec<BlockInfo> = file.blocks_of::<ThreadStates>().copied().collect();
        for some in blocks.chunks(AT_ONCE) {
            let count = |block: &BlockInfo| {
                let mut threads: BTreeMap<(u32, u32), u64> = BTreeMap::new();
                let rows = file.read::<ThreadStates>(block, columns)?;
                for (process, tid) in rows.process.iter().zip(&rows.tid) {
                    *threads.entry((*process, *tid)).or_default() += 1;
                }
                Ok::<_, llmtrace_format::Error>(threads)
            };
            let read: Vec<_> = some.par_iter().map(count).collect();
            for (block, read) in some.iter().zip(read) {
                let Ok(threads) = read else {
                    let what = ThreadStates::NAME;
                    warnings.push(Warning::Unreadable { what, offset: block.offset });
                    continue;
                };
                store.blocks.push(*block);
                for (key, rows) in threads {
                    *store.threads.entry(key).or_default() += rows;
                }
            }
        }
        store.blocks.sort_by_key(|block| (block.range.begin, block.range.end));
        for &lane in lanes {
            let process = lane >> super::PROCESS_SHIFT;
            let mut tids = tids_of(file, lane);
            tids.retain(|tid| store.threads.contains_key(&(process, *tid)));
            if !tids.is_empty() {
                store.lanes.insert(lane, tids);
            }
        }
        if store.rows() > store.limit() {
            let _ = store.sums.set(Sums::of(&store, file));
        }
        store
    }

    pub(super) fn rows(&self) -> u64 {
        self.threads.values().fold(0, |sum, rows| sum.saturating_add(*rows))
    }

    pub(super) fn has_lane(&self, lane: u32) -> bool {
        self.lanes.contains_key(&lane)
    }

    fn limit(&self) -> u64 {
        self.limit.unwrap_or(DEFAULT_LIMIT)
    }

    pub(super) fn set_limit(&mut self, rows: u64) {
        self.limit = Some(rows);
    }

    fn sums(&self, file: &TraceFile) -> &Sums {
        self.sums.get_or_init(|| Sums::of(self, file))
    }

    /// From the first to the last block that touches a range: their places.
    fn blocks_in(&self, range: TimeRange) -> Option<(usize, usize)> {
        let inside = |block: &BlockInfo| touches(block.range.begin, block.range.end, range);
        Some((self.blocks.iter().position(inside)?, self.blocks.iter().rposition(inside)?))
    }

    /// Rows of somebody that touch a range, and more; `None` when they are too many, or not of
    /// this trace.
    fn window(&self, file: &TraceFile, who: Who, range: TimeRange) -> Option<Arc<StateRows>> {
        // A short trace is decoded as a whole, once.
        let (first, last) = match self.rows() <= self.limit() {
            true => (0, self.blocks.len().checked_sub(1)?),
            false => self.blocks_in(range)?,
        };
        let blocks = self.blocks.get(first..=last)?;
        let count = blocks.iter().fold(0u64, |sum, block| sum.saturating_add(block.rows.into()));
        // One block is always decoded: else nothing of it could be seen.
        if count > self.limit() && blocks.len() > 1 {
            return None;
        }
        self.rows_of(file, who, first, last)
    }

    /// Rows of somebody in blocks.
    fn rows_of(&self, file: &TraceFile, who: Who, first: usize, last: usize) -> Option<Arc<StateRows>> {
        if let Some(found) = self.kept(who, first, last) {
            return Some(found);
        }
        let is_its = |process: u32, tid: u32| match who {
            Who::Thread(of, thread) => (of, thread) == (process, tid),
            Who::Lane(lane) => {
                process == lane >> super::PROCESS_SHIFT
                    && self.lanes.get(&lane).is_some_and(|tids| tids.contains(&tid))
            }
        };
        let read = |block: &BlockInfo| {
            let table = self.read(file, block, ColumnSet::ALL);
            table.rows().filter(|row| is_its(row.process, row.tid)).collect::<Vec<_>>()
        };
        let parts: Vec<Vec<ThreadState>> = match self.blocks.get(first..=last)? {
            [one] => vec![read(one)],
            several => several.par_iter().map(read).collect(),
        };
        let rows = Arc::new(StateRows::new(parts.concat()));
        self.keep((who, first, last, rows.clone()));
        Some(rows)
    }

    /// Decodes a block; nothing of one that cannot be read, which is remembered.
    fn read(&self, file: &TraceFile, block: &BlockInfo, columns: ColumnSet) -> ThreadStates {
        file.read(block, columns).unwrap_or_else(|_| {
            self.damaged.lock().unwrap_or_else(PoisonError::into_inner).insert(block.offset);
            ThreadStates::default()
        })
    }

    /// Blocks that could not be read since the trace was opened.
    pub(super) fn damaged(&self) -> Vec<Warning> {
        let damaged = self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
        damaged.iter().map(|&offset| Warning::Unreadable { what: ThreadStates::NAME, offset }).collect()
    }

    fn kept(&self, who: Who, first: usize, last: usize) -> Option<Arc<StateRows>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let at = kept.iter().rposition(|it| (it.0, it.1, it.2) == (who, first, last))?;
        let found = kept.remove(at);
        let rows = found.3.clone();
        kept.push(found);
        Some(rows)
    }

    /// Keeps rows; what was used longest ago goes.
    fn keep(&self, rows: Kept) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push(rows);
        let most = self.limit().saturating_mul(KEPT);
        // Threads without rows take a little, too.
        let size = |it: &Kept| it.3.rows().len() as u64 + 8;
        let mut all: u64 = kept.iter().map(size).sum();
        let mut gone = 0;
        while all > most && gone + 1 < kept.len() {
            all -= kept.get(gone).map_or(0, size);
            gone += 1;
        }
        kept.drain(..gone);
    }

    #[cfg(test)]
    fn kept_rows(&self) -> u64 {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().map(|it| it.3.rows().len() as u64).sum()
    }
}

impl Sums {
    /// Reads all blocks once, some at a time.
    fn of(store: &Store, file: &TraceFile) -> Self {
        let all = store.blocks.iter().map(|block| block.range);
        let begin = all.clone().map(|range| range.begin).min().unwrap_or(0);
        let end = all.map(|range| range.end).max().unwrap_or(0);
        let most = (MAX_ALL_BUCKETS / (store.lanes.len() as u64).max(1)).clamp(1, MAX_BUCKETS);
        let shift = (0..63).find(|shift| end.saturating_sub(begin) >> shift < most).unwrap_or(63);
        let nanos = 1u64 << shift;
        let buckets = (end.saturating_sub(begin) >> shift) as usize + 1;
        let mut of_thread: HashMap<(u32, u32), Vec<u32>> = HashMap::new();
        for (lane, tids) in &store.lanes {
            for tid in tids {
                of_thread.entry((lane >> super::PROCESS_SHIFT, *tid)).or_default().push(*lane);
            }
        }
        let empty =
            || Grid { parts: vec![[0; STATE_COUNT]; buckets], whole: vec![[0; STATE_COUNT]; buckets] };
        let mut grids: BTreeMap<u32, Grid> = store.lanes.keys().map(|lane| (*lane, empty())).collect();
        let mut blocks = Vec::with_capacity(store.blocks.len());
        let columns = ColumnSet::only::<ThreadStates>(&["begin", "end", "tid", "process", "state"]);
        for some in store.blocks.chunks(AT_ONCE) {
            let read = |block: &BlockInfo| store.read(file, block, columns);
            let tables: Vec<ThreadStates> = some.par_iter().map(read).collect();
            for table in tables {
                let mut sums: BTreeMap<u32, [u64; STATE_COUNT]> = BTreeMap::new();
                let times = table.begin.iter().zip(&table.end);
                let keys = table.process.iter().zip(&table.tid);
                for (((from, to), (process, tid)), state) in times.zip(keys).zip(&table.state) {
                    let state = State::from_u8(*state) as usize;
                    for lane in of_thread.get(&(*process, *tid)).map_or(&[][..], Vec::as_slice) {
                        if let Some(sum) = sums.entry(*lane).or_default().get_mut(state) {
                            *sum = sum.saturating_add(to.saturating_sub(*from));
                        }
                        if let Some(grid) = grids.get_mut(lane) {
                            grid.add(from.saturating_sub(begin), to.saturating_sub(begin), nanos, state);
                        }
                    }
                }
                blocks.push(sums);
            }
        }
        let grids = grids.into_iter().map(|(lane, grid)| (lane, grid.finish(nanos))).collect();
        Self { blocks, begin, nanos, grids }
    }

    /// Fills `pieces` with parts of the grid, together where they are narrower than `min_nanos`.
    fn fold(&self, lane: u32, range: TimeRange, min_nanos: u64, pieces: &mut Vec<Piece>) {
        pieces.clear();
        let Some(grid) = self.grids.get(&lane) else { return };
        let together = min_nanos.div_ceil(self.nanos).clamp(1, grid.len().max(1) as u64) as usize;
        let at = |time: Nanos| (time.saturating_sub(self.begin) / self.nanos) as usize;
        // Pieces are the same wherever the range begins.
        let from = at(range.begin) / together * together;
        let to = at(range.end.saturating_sub(1)).saturating_add(1).min(grid.len());
        for first in (from..to).step_by(together) {
            let last = first.saturating_add(together).min(grid.len());
            let mut sums = StateSums::default();
            grid.get(first..last)
                .unwrap_or_default()
                .iter()
                .for_each(|nanos| sums.add(&StateSums { nanos: *nanos }));
            if sums.nanos.iter().any(|sum| *sum > 0) {
                let time =
                    |bucket: usize| self.begin.saturating_add((bucket as u64).saturating_mul(self.nanos));
                pieces.push(Piece { range: TimeRange::new(time(first), time(last)), sums, row: None });
            }
        }
    }
}

/// A grid that is being filled: at a cost that does not grow with the length of a row.
struct Grid {
    parts: Vec<[u64; STATE_COUNT]>,
    /// How many rows fill each part more than the one before it, as wrapping differences.
    whole: Vec<[u64; STATE_COUNT]>,
}

impl Grid {
    fn add(&mut self, begin: Nanos, end: Nanos, nanos: u64, state: usize) {
        let (first, last) = ((begin / nanos) as usize, (end / nanos) as usize);
        let mut part = |bucket: usize, nanos: u64| {
            if let Some(sum) = self.parts.get_mut(bucket).and_then(|sums| sums.get_mut(state)) {
                *sum = sum.saturating_add(nanos);
            }
        };
        if first == last {
            part(first, end.saturating_sub(begin));
            return;
        }
        part(first, (first as u64 + 1).saturating_mul(nanos).saturating_sub(begin));
        part(last, end.saturating_sub((last as u64).saturating_mul(nanos)));
        if first + 1 < last {
            for (bucket, more) in [(first + 1, 1), (last, u64::MAX)] {
                if let Some(count) = self.whole.get_mut(bucket).and_then(|counts| counts.get_mut(state)) {
                    *count = count.wrapping_add(more);
                }
            }
        }
    }

    fn finish(mut self, nanos: u64) -> Vec<[u64; STATE_COUNT]> {
        let mut counts = [0u64; STATE_COUNT];
        for (sums, more) in self.parts.iter_mut().zip(&self.whole) {
            for ((sum, count), more) in sums.iter_mut().zip(&mut counts).zip(more) {
                *count = count.wrapping_add(*more);
                *sum = sum.saturating_add(count.saturating_mul(nanos));
            }
        }
        self.parts
    }
}

impl Trace {
    /// How many rows of thread states are decoded for one lane at most.
    pub fn set_state_rows(&mut self, rows: u64) {
        self.machine.store.set_limit(rows);
    }

    /// States of the threads that had a place in the pool, those that touch a range and more;
    /// `None` when there are none, or too many to look at one by one.
    pub fn lane_states(&self, lane: u32, range: TimeRange) -> Option<Arc<StateRows>> {
        let store = &self.machine.store;
        store.has_lane(lane).then(|| store.window(&self.file, Who::Lane(lane), range))?
    }

    /// The same of a kernel thread.
    pub fn thread_states(&self, process: u32, tid: u32, range: TimeRange) -> Option<Arc<StateRows>> {
        let store = &self.machine.store;
        store.threads.contains_key(&(process, tid)).then_some(())?;
        store.window(&self.file, Who::Thread(process, tid), range)
    }

    /// Nanoseconds of a range in which a kernel thread could run, but had no CPU; 0 where that is not
    /// known.
    pub(crate) fn runnable(&self, process: u32, tid: u32, range: TimeRange) -> u64 {
        self.thread_states(process, tid, range).map_or(0, |rows| rows.sums(range).runnable())
    }

    /// Fills `pieces` with the states of a lane in a range: rows at least `min_nanos` long each by
    /// itself, others together; where they are too many, all together.
    pub fn fold_lane_states(&self, lane: u32, range: TimeRange, min_nanos: u64, pieces: &mut Vec<Piece>) {
        pieces.clear();
        if !self.machine.has_lane(lane) {
            return;
        }
        match self.lane_states(lane, range) {
            Some(rows) => fold_states(&rows, range, min_nanos, pieces),
            None => self.machine.store.sums(&self.file).fold(lane, range, min_nanos, pieces),
        }
    }

    /// Nanoseconds in each state of a lane within a range, exactly.
    pub fn lane_state_sums(&self, lane: u32, range: TimeRange) -> StateSums {
        let store = &self.machine.store;
        if let Some(rows) = self.lane_states(lane, range) {
            return rows.sums(range);
        }
        let mut sums = StateSums::default();
        if !store.has_lane(lane) {
            return sums;
        }
        let known = store.sums(&self.file);
        for (place, (block, of_block)) in store.blocks.iter().zip(&known.blocks).enumerate() {
            if range.begin <= block.range.begin && block.range.end <= range.end {
                sums.add(&StateSums { nanos: of_block.get(&lane).copied().unwrap_or_default() });
            } else if touches(block.range.begin, block.range.end, range) {
                let rows = store.rows_of(&self.file, Who::Lane(lane), place, place);
                rows.iter().for_each(|rows| sums.add(&rows.sums(range)));
            }
        }
        sums
    }

    /// Hands out all rows that touch a range, block by block; those of a thread by begin.
    pub(crate) fn each_state(&self, range: TimeRange, mut each: impl FnMut(&ThreadState)) {
        for block in &self.machine.store.blocks {
            if !touches(block.range.begin, block.range.end, range) {
                continue;
            }
            let table = self.machine.store.read(&self.file, block, ColumnSet::ALL);
            let mut rows: Vec<ThreadState> = table.rows().collect();
            rows.sort_by_key(|row| (row.begin, row.end));
            rows.iter().filter(|row| row.begin < range.end && range.begin < row.end).for_each(&mut each);
        }
    }

    /// Lanes by process and kernel thread.
    pub(crate) fn lanes_of_threads(&self) -> HashMap<(u32, u32), Vec<u32>> {
        let mut lanes: HashMap<(u32, u32), Vec<u32>> = HashMap::new();
        for lane in self.lane_ids() {
            for tid in tids_of(&self.file, lane) {
                lanes.entry((lane >> super::PROCESS_SHIFT, tid)).or_default().push(lane);
            }
        }
        lanes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use llmtrace_format::machine::MachineRow;
    use llmtrace_format::meta::{Ending, Recording};
    use llmtrace_format::tables::Thread;
    use llmtrace_format::{Header, OpSpan, Source, Writer};

    const ROWS: u64 = 40_000;

    /// Two lanes; the second has two kernel threads, one after the other. States of random length,
    /// in many blocks.
    fn trace(limit: u64) -> Trace {
        let mut writer = Writer::new(Vec::new(), Header::new(1, 2)).unwrap();
        writer.write_recording(&Recording::default()).unwrap();
        for (id, ith, tid) in [(0, 0, 10), (1, 1, 11), (2, 1, 12)] {
            writer.push_thread(Thread { id, ith, tid, ..Thread::default() });
        }
        let (mut seed, mut ends) = (7u64, [0u64; 2]);
        for index in 0..ROWS {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let place = (index % 2) as usize;
            let length = 1 + (seed >> 33) % if (seed >> 60) == 0 { 500_000 } else { 3_000 };
            let tid = if place == 1 && index > ROWS / 2 { 12 } else { 10 + place as u32 };
            let begin = ends[place] + (seed >> 50) % 3;
            ends[place] = begin + length;
            let state = (seed >> 40) as u8 % STATE_COUNT as u8;
            let row = ThreadState { begin, end: begin + length, tid, state, ..ThreadState::default() };
            writer.push_machine(MachineRow::State(row));
            if index % 1000 == 0 {
                for lane in 0..2 {
                    let span = OpSpan { begin: ends[lane as usize], compute: 1, ..OpSpan::default() };
                    writer.push_op_span(lane, span).unwrap();
                }
                writer.flush().unwrap();
            }
        }
        let bytes = writer.finish(&Ending::default()).unwrap();
        let mut trace = Trace::open(Source::Bytes(bytes), &mut |_| true).unwrap();
        trace.set_state_rows(limit);
        trace
    }

    fn ranges(trace: &Trace) -> Vec<TimeRange> {
        let end = trace.range().end;
        let part = |from: u64, to: u64| TimeRange::new(end / 100 * from, end / 100 * to);
        vec![part(0, 101), part(0, 50), part(3, 97), part(40, 41), part(10, 60), TimeRange::new(5, 6)]
    }

    #[test]
    fn a_long_trace_says_the_same_as_a_short_one_with_bounded_rows() {
        let (short, long) = (trace(u64::MAX), trace(4_000));
        assert!(long.machine.store.blocks.len() > 30);
        for range in ranges(&short) {
            for lane in 0..2 {
                let wanted = short.lane_state_sums(lane, range);
                assert_eq!(long.lane_state_sums(lane, range), wanted, "{lane} {range:?}");
            }
        }
        assert_eq!(super::super::state_totals(&long, None), super::super::state_totals(&short, None));
        assert!(long.lane_states(0, long.range()).is_none());
        // Some blocks are left for the other tests of the cache.
        for at in 0..100 {
            let begin = long.range().end / 100 * at;
            let range = TimeRange::new(begin, begin + 1);
            for lane in 0..2 {
                let rows = [&short, &long].map(|trace| trace.lane_states(lane, range).unwrap());
                assert_eq!(rows[0].at(begin), rows[1].at(begin));
                assert_eq!(rows[0].within(range), rows[1].within(range));
            }
            assert!(long.machine.store.kept_rows() <= 4_000 * KEPT);
        }
        assert_eq!(long.thread_states(0, 12, TimeRange::new(0, 1)).map(|rows| rows.rows().len()), Some(0));
        assert!(long.thread_states(0, 13, TimeRange::new(0, 1)).is_none());
        // The recorder's own limit: a short trace is decoded as a whole.
        assert_eq!(short.lane_states(0, TimeRange::new(0, 1)).unwrap().rows().len() as u64, ROWS / 2);
    }

    #[test]
    fn pieces_of_too_many_rows_have_their_sums_in_bounded_number() {
        let (short, long) = (trace(u64::MAX), trace(4_000));
        let all = TimeRange::new(0, short.range().end + 1);
        for lane in 0..2 {
            let wanted = short.lane_state_sums(lane, all);
            for min_nanos in [1, 100_000, 1 << 40] {
                let mut pieces = Vec::new();
                long.fold_lane_states(lane, all, min_nanos, &mut pieces);
                let mut sums = StateSums::default();
                pieces.iter().for_each(|piece| sums.add(&piece.sums));
                assert_eq!(sums, wanted, "{lane} {min_nanos}");
                assert!(pieces.len() as u64 <= MAX_BUCKETS.min(all.nanos() / min_nanos + 2));
                assert!(pieces.windows(2).all(|two| two[0].range.end <= two[1].range.begin));
            }
            // Near, they are the rows again.
            let near = TimeRange::new(all.end / 2, all.end / 2 + 10_000);
            let (mut a, mut b) = (Vec::new(), Vec::new());
            short.fold_lane_states(lane, near, 1, &mut a);
            long.fold_lane_states(lane, near, 1, &mut b);
            assert!(!a.is_empty());
            assert_eq!(a, b);
        }
        assert!(long.machine.store.sums.get().is_some());
        assert!(short.machine.store.sums.get().is_none(), "a short trace needs none");
    }
}
