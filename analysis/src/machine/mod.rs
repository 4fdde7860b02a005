//! The machine under the inference: what threads did besides computing, page faults, reads
//! from disks.
//!
//! States are those of kernel threads; a lane is a place in the thread pool, and shows the
//! states of all kernel threads that had this place. Engines that start new threads for every
//! graph have many, one after the other.

mod faults;
mod fold;
mod held;
mod store;
mod totals;
mod waits;

pub(crate) use faults::During;
pub use faults::{FaultGroup, FaultTotals, fault_groups, fault_totals, place_of, tensors_of};
pub use fold::Piece;
pub(crate) use fold::fold_states;
pub(crate) use held::Held;
pub(crate) use waits::{HeldUp, fault_waits, held_up};

pub use totals::{Preempter, StateSums, StateTotals, ThreadTotals, state_totals};

use crate::{Nanos, TimeRange};
use llmtrace_format::constants::kind;
use llmtrace_format::machine::{self, BlockRead, Fault, Frequency, MachineRow, State, ThreadState};
use llmtrace_format::meta::Source;
use llmtrace_format::{TraceFile, Warning};
use std::collections::{BTreeMap, BTreeSet};

/// Bits of a lane's number below that of its process, and below that of its graph's slot.
const PROCESS_SHIFT: u32 = 20;
const SLOT_SHIFT: u32 = 10;

/// How the recorder calls the sources, in [`Source::name`].
const STATES: &str = "thread states";
const FAULTS: &str = "page faults and block reads";

/// The rows.
#[derive(Debug, Default)]
pub struct Machine {
    /// States of threads.
    store: store::Store,
    /// Page faults, by begin.
    pub faults: Vec<Fault>,
    /// Those of them that waited for a disk.
    pub major_faults: Vec<Fault>,
    /// Sums of all faults before each.
    faults_before: Vec<FaultTotals>,
    /// Bytes of all reads before each.
    read_before: Vec<u64>,
    /// Places in `faults` by process and kernel thread, by begin.
    by_thread: BTreeMap<(u32, u32), Vec<u32>>,
    /// Reads from disks, by begin.
    pub reads: Vec<BlockRead>,
    /// Samples of how fast CPUs ran, by time.
    pub frequencies: Vec<Frequency>,
    /// Whether states were recorded: then a thread without rows did not run.
    pub has_states: bool,
    /// Whether faults and reads were: then no rows mean that there were none.
    pub has_faults: bool,
}

/// States, by begin, with sums that make any part of them as fast as a single one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateRows {
    rows: Vec<ThreadState>,
    /// Nanoseconds in each state, of all rows before.
    before: Vec<[u64; STATE_COUNT]>,
}

const STATE_COUNT: usize = State::ALL.len();

fn range_of(row: &ThreadState) -> TimeRange {
    TimeRange::new(row.begin, row.end)
}

impl StateRows {
    fn new(mut rows: Vec<ThreadState>) -> Self {
        rows.sort_by_key(|row| (row.begin, row.end));
        let mut sum = [0u64; STATE_COUNT];
        let mut before = Vec::with_capacity(rows.len() + 1);
        before.push(sum);
        for row in &rows {
            if let Some(of_state) = sum.get_mut(State::from_u8(row.state) as usize) {
                *of_state = of_state.saturating_add(range_of(row).nanos());
            }
            before.push(sum);
        }
        Self { rows, before }
    }

    /// The rows.
    pub fn rows(&self) -> &[ThreadState] {
        &self.rows
    }

    /// The state at a time.
    pub fn at(&self, time: Nanos) -> Option<&ThreadState> {
        let after = self.rows.partition_point(|row| row.begin <= time);
        self.rows.get(after.checked_sub(1)?).filter(|row| time < row.end)
    }

    /// Rows that touch a range.
    pub fn within(&self, range: TimeRange) -> &[ThreadState] {
        let from = self.rows.partition_point(|row| row.begin <= range.begin).saturating_sub(1);
        let from = from + usize::from(self.rows.get(from).is_some_and(|row| row.end <= range.begin));
        let to = self.rows.partition_point(|row| row.begin < range.end);
        self.rows.get(from..to.max(from)).unwrap_or_default()
    }

    /// Nanoseconds in each state within a range.
    pub fn sums(&self, range: TimeRange) -> StateSums {
        let rows = self.within(range);
        let mut sums = StateSums::default();
        let Some((first, last)) = rows.first().zip(rows.last()) else { return sums };
        let from = self.rows.partition_point(|row| (row.begin, row.end) < (first.begin, first.end));
        let between = self.before.get(from).zip(self.before.get(from + rows.len()));
        if let Some((before, after)) = between {
            sums.nanos.iter_mut().zip(before.iter().zip(after)).for_each(|(sum, (before, after))| {
                *sum = after.saturating_sub(*before);
            });
        }
        // What of the first and the last lies outside.
        let mut cut = |row: &ThreadState, nanos: u64| {
            if let Some(of_state) = sums.nanos.get_mut(State::from_u8(row.state) as usize) {
                *of_state = of_state.saturating_sub(nanos);
            }
        };
        cut(first, range.begin.saturating_sub(first.begin));
        cut(last, last.end.saturating_sub(range.end));
        sums
    }
}

impl Machine {
    /// Reads the tables of a file; damaged blocks are left out and reported.
    pub(crate) fn read(file: &TraceFile, lanes: &[u32], warnings: &mut Vec<Warning>) -> Self {
        let mut found = Self::default();
        // States may be too many to have them all.
        for info in file.blocks.iter().filter(|info| info.kind != kind::THREAD_STATES) {
            let rows = match machine::read_rows(file, info) {
                Some(Ok(rows)) => rows,
                Some(Err(_)) => {
                    let what = machine::table_name(info.kind).unwrap_or_default();
                    warnings.push(Warning::Unreadable { what, offset: info.offset });
                    continue;
                }
                None => continue,
            };
            for row in rows {
                match row {
                    MachineRow::State(_) => {}
                    MachineRow::Frequency(row) => found.frequencies.push(row),
                    MachineRow::Fault(row) => found.faults.push(row),
                    MachineRow::Read(row) => found.reads.push(row),
                }
            }
        }
        found.frequencies.sort_by_key(|row| row.end);
        found.faults.sort_by_key(|row| row.begin);
        found.reads.sort_by_key(|row| row.begin);
        for (place, fault) in (0..).zip(&found.faults) {
            found.by_thread.entry((fault.process, fault.tid)).or_default().push(place);
        }
        // A page that another thread has asked for already is waited for without being counted.
        let major = |fault: &&Fault| {
            fault.wait > 0 || fault.major != 0 && fault.major != llmtrace_format::constants::NONE
        };
        found.major_faults = found.faults.iter().filter(major).copied().collect();
        let mut totals = FaultTotals::default();
        found.faults_before.push(totals);
        for fault in &found.faults {
            totals.add(fault);
            found.faults_before.push(totals);
        }
        let mut bytes = 0u64;
        found.read_before.push(bytes);
        for read in &found.reads {
            bytes = bytes.saturating_add(read.bytes.into());
            found.read_before.push(bytes);
        }
        let sources = file.recording.as_ref().map_or(&[][..], |recording| &recording.sources);
        let recorded =
            |name: &str| sources.iter().any(|source: &Source| source.name == name && source.recorded);
        (found.has_states, found.has_faults) = (recorded(STATES), recorded(FAULTS));
        found.store = store::Store::open(file, lanes, warnings);
        found
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.store.threads.is_empty()
            && self.faults.is_empty()
            && self.reads.is_empty()
            && self.frequencies.is_empty()
    }

    /// Whether there are states of threads that had a place in the pool.
    pub fn has_lane(&self, lane: u32) -> bool {
        self.store.has_lane(lane)
    }

    /// Threads with states.
    pub fn thread_count(&self) -> usize {
        self.store.threads.len()
    }

    /// Those threads, by process and kernel thread.
    pub fn threads(&self) -> impl Iterator<Item = (u32, u32)> {
        self.store.threads.keys().copied()
    }

    /// Rows of states.
    pub fn state_rows(&self) -> u64 {
        self.store.rows()
    }

    /// Blocks of states that turned out to be unreadable.
    pub(crate) fn damaged(&self) -> Vec<Warning> {
        self.store.damaged()
    }

    /// Faults of a kernel thread that begin in a range.
    pub fn faults_of(&self, process: u32, tid: u32, range: TimeRange) -> impl Iterator<Item = &Fault> {
        let places = self.by_thread.get(&(process, tid)).map_or(&[][..], Vec::as_slice);
        let begin = |place: &u32| self.faults.get(*place as usize).map_or(0, |fault| fault.begin);
        let from = places.partition_point(|place| begin(place) < range.begin);
        let to = places.partition_point(|place| begin(place) < range.end);
        let places = places.get(from..to.max(from)).unwrap_or_default();
        places.iter().filter_map(|place| self.faults.get(*place as usize))
    }

    /// Sums of the faults of all threads that begin in a range.
    pub fn fault_sums(&self, range: TimeRange) -> FaultTotals {
        let before = |time| {
            let at = self.faults.partition_point(|fault| fault.begin < time);
            self.faults_before.get(at).copied().unwrap_or_default()
        };
        before(range.end).since(&before(range.begin))
    }

    /// Reads that begin in a range, and their bytes.
    pub fn read_sums(&self, range: TimeRange) -> (u64, u64) {
        let at = |time| self.reads.partition_point(|read| read.begin < time);
        let (from, to) = (at(range.begin), at(range.end));
        let bytes = |at: usize| self.read_before.get(at).copied().unwrap_or(0);
        (to.saturating_sub(from) as u64, bytes(to).saturating_sub(bytes(from)))
    }

    /// The frequency of a CPU that was sampled last, in kilohertz.
    pub fn frequency_at(&self, cpu: u32, time: Nanos) -> Option<u32> {
        let after = self.frequencies.partition_point(|row| row.end <= time);
        let before = self.frequencies.get(..after)?;
        // Each sample is of all CPUs.
        before.iter().rev().take(4096).find(|row| row.cpu == cpu).map(|row| row.khz)
    }
}

/// Kernel threads that had the place of a lane. Lanes of graphs that run at once share places.
pub(crate) fn tids_of(file: &TraceFile, lane: u32) -> BTreeSet<u32> {
    let processes = file.recording.as_ref().map_or(&[][..], |recording| &recording.processes);
    let pid = processes.get((lane >> PROCESS_SHIFT) as usize).map(|process| process.pid);
    let ith = lane & ((1 << SLOT_SHIFT) - 1);
    let of_it =
        |row: &llmtrace_format::tables::Thread| row.ith == ith && pid.is_none_or(|pid| row.pid == pid);
    file.threads.rows().filter(of_it).map(|row| row.tid).collect()
}
