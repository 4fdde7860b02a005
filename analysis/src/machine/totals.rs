//! What threads did, in sums.

use super::STATE_COUNT;
use crate::stats::{millis, percentile};
use crate::{Nanos, TimeRange, Trace, lane_name};
use llmtrace_format::constants::NONE;
use llmtrace_format::machine::{State, ThreadState};
use llmtrace_format::meta::StrId;
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;

/// Nanoseconds in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateSums {
    /// By number of the state.
    pub nanos: [u64; STATE_COUNT],
}

impl StateSums {
    /// Nanoseconds in one state.
    pub fn of(&self, state: State) -> u64 {
        self.nanos.get(state as usize).copied().unwrap_or(0)
    }

    /// Nanoseconds in which it could run, but did not.
    pub fn runnable(&self) -> u64 {
        self.sum(State::is_runnable)
    }

    /// Nanoseconds asleep, for whatever reason.
    pub fn asleep(&self) -> u64 {
        self.sum(State::is_asleep)
    }

    /// Nanoseconds of which the state is known.
    pub fn known(&self) -> u64 {
        self.sum(|state| state != State::Unknown)
    }

    fn sum(&self, wanted: fn(State) -> bool) -> u64 {
        State::ALL
            .into_iter()
            .filter(|state| wanted(*state))
            .fold(0, |sum, state| sum.saturating_add(self.of(state)))
    }

    /// Adds what of a row lies in a range.
    pub(super) fn add_row(&mut self, row: &ThreadState, range: TimeRange) {
        let nanos = row.end.min(range.end).saturating_sub(row.begin.max(range.begin));
        if let Some(sum) = self.nanos.get_mut(State::from_u8(row.state) as usize) {
            *sum = sum.saturating_add(nanos);
        }
    }

    /// Adds others.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.nanos.iter_mut().zip(&other.nanos) {
            *mine = mine.saturating_add(*theirs);
        }
    }
}

impl Serialize for StateSums {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let names = [
            "unknown_ms",
            "on_cpu_ms",
            "preempted_ms",
            "woken_ms",
            "sleeping_ms",
            "uninterruptible_ms",
            "faulting_ms",
        ];
        serializer.collect_map(names.into_iter().zip(self.nanos.iter().map(|nanos| *nanos as f64 / 1e6)))
    }
}

/// One kernel thread.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ThreadTotals {
    /// Kernel thread.
    pub tid: u32,
    /// Index into the recording's processes.
    pub process: u32,
    /// Its places in the thread pool; none for threads that compute no nodes.
    pub places: Vec<String>,
    /// Time in each state.
    #[serde(flatten)]
    pub sums: StateSums,
    /// How often it was preempted.
    pub preemptions: u64,
    /// How often it went on on another CPU than before.
    pub migrations: u64,
    /// How often it was woken and then ran.
    pub wakeups: u64,
    /// From being woken to running, in nanoseconds: median; `None` when it never was.
    pub wake_p50_nanos: Option<u64>,
    /// The same, 99th percentile.
    pub wake_p99_nanos: Option<u64>,
    /// The longest.
    pub wake_max_nanos: Option<u64>,
}

/// Somebody who ran in place of the target's threads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Preempter {
    /// Its name; empty when unknown.
    pub name: String,
    /// Its process; `None` when unknown.
    pub pid: Option<u32>,
    /// Whether it is a thread of the recorded programs.
    pub is_target: bool,
    /// How often.
    pub count: u64,
    /// Nanoseconds that threads were preempted for it (and for whoever came after it).
    #[serde(rename = "ms", serialize_with = "millis")]
    pub nanos: u64,
}

impl Preempter {
    /// Its name and process, such as `python3 (pid 4711)`.
    pub fn label(&self) -> String {
        let name = if self.name.is_empty() { "unknown" } else { &self.name };
        match self.pid {
            Some(0) => "the kernel".to_owned(),
            Some(pid) => format!("{name} (pid {pid})"),
            None => name.to_owned(),
        }
    }
}

/// What threads did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StateTotals {
    /// By thread: those that compute first, by how long they could have run.
    pub threads: Vec<ThreadTotals>,
    /// Who preempted those that compute, the longest first.
    pub preempters: Vec<Preempter>,
}

/// Sums up a range, or all; goes through the rows once.
pub fn state_totals(trace: &Trace, range: Option<TimeRange>) -> StateTotals {
    let lanes = trace.lanes_of_threads();
    let mut counted: BTreeMap<(u32, u32), Counted> = BTreeMap::new();
    let mut preempters: BTreeMap<(u32, u32), Preempter> = BTreeMap::new();
    let range = range.unwrap_or(TimeRange::new(0, Nanos::MAX));
    trace.each_state(range, |row| {
        let key = (row.process, row.tid);
        counted.entry(key).or_default().add(row, range);
        if lanes.contains_key(&key) {
            preempted(trace, row, &mut preempters);
        }
    });
    let totals = counted.into_iter().map(|(key, counted)| {
        let places = lanes.get(&key).map_or(&[][..], Vec::as_slice);
        counted.totals(key, places.iter().map(|lane| lane_name(*lane)).collect())
    });
    let mut threads: Vec<ThreadTotals> = totals.collect();
    threads.sort_by_key(|thread: &ThreadTotals| {
        (thread.places.is_empty(), std::cmp::Reverse(thread.sums.of(State::Running)), thread.tid)
    });
    let mut preempters: Vec<Preempter> = preempters.into_values().collect();
    preempters.sort_by_key(|row| std::cmp::Reverse(row.nanos));
    StateTotals { threads, preempters }
}

fn preempted(trace: &Trace, row: &ThreadState, all: &mut BTreeMap<(u32, u32), Preempter>) {
    if State::from_u8(row.state) != State::Preempted {
        return;
    }
    let processes = trace.file.recording.as_ref().map_or(&[][..], |recording| &recording.processes);
    let found = all.entry((row.other_pid, row.other)).or_insert_with(|| Preempter {
        name: trace.file.string(StrId(row.other)).to_owned(),
        pid: (row.other_pid != NONE).then_some(row.other_pid),
        is_target: processes.iter().any(|process| process.pid == row.other_pid),
        count: 0,
        nanos: 0,
    });
    found.count += u64::from(row.continues == 0);
    found.nanos = found.nanos.saturating_add(row.end.saturating_sub(row.begin));
}

/// What of a thread was seen so far.
#[derive(Default)]
struct Counted {
    sums: StateSums,
    preemptions: u64,
    migrations: u64,
    /// CPU that it ran on last.
    cpu: Option<u32>,
    /// Nanoseconds of each time from being woken to running.
    wakes: Vec<u64>,
}

impl Counted {
    /// Adds a row; of its time what lies in a range.
    fn add(&mut self, row: &ThreadState, range: TimeRange) {
        self.sums.add_row(row, range);
        let nanos = row.end.saturating_sub(row.begin);
        match State::from_u8(row.state) {
            State::Preempted => self.preemptions += u64::from(row.continues == 0),
            State::Woken if row.continues == 0 => self.wakes.push(nanos),
            State::Woken => {
                if let Some(last) = self.wakes.last_mut() {
                    *last = last.saturating_add(nanos);
                }
            }
            State::Running => {
                let cpu = Some(row.cpu).filter(|cpu| *cpu != NONE);
                self.migrations += u64::from(cpu.is_some() && self.cpu.is_some() && self.cpu != cpu);
                self.cpu = cpu;
            }
            _ => {}
        }
    }

    fn totals(mut self, (process, tid): (u32, u32), places: Vec<String>) -> ThreadTotals {
        self.wakes.sort_unstable();
        ThreadTotals {
            tid,
            process,
            places,
            sums: self.sums,
            preemptions: self.preemptions,
            migrations: self.migrations,
            wakeups: self.wakes.len() as u64,
            wake_p50_nanos: percentile(&self.wakes, 50),
            wake_p99_nanos: percentile(&self.wakes, 99),
            wake_max_nanos: self.wakes.last().copied(),
        }
    }
}
