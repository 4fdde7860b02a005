//! What threads did, in sums.

use super::{STATE_COUNT, StateRows};
use crate::stats::{millis, percentile};
use crate::{TimeRange, Trace, lane_name};
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

/// Sums up a range, or all.
pub fn state_totals(trace: &Trace, range: Option<TimeRange>) -> StateTotals {
    let mut places: BTreeMap<(u32, u32), Vec<String>> = BTreeMap::new();
    for lane in trace.lane_ids() {
        for tid in super::tids_of(&trace.file, lane) {
            places.entry((lane >> super::PROCESS_SHIFT, tid)).or_default().push(lane_name(lane));
        }
    }
    let mut threads = Vec::new();
    let mut preempters: BTreeMap<(u32, u32), Preempter> = BTreeMap::new();
    for (key, states) in &trace.machine.threads {
        let places = places.remove(key).unwrap_or_default();
        let rows = range.map_or(states.rows(), |range| states.within(range));
        if !places.is_empty() {
            rows.iter().for_each(|row| preempted(trace, row, &mut preempters));
        }
        if !rows.is_empty() {
            threads.push(thread_totals(*key, places, rows, states, range));
        }
    }
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

fn thread_totals(
    (process, tid): (u32, u32),
    places: Vec<String>,
    rows: &[ThreadState],
    states: &StateRows,
    range: Option<TimeRange>,
) -> ThreadTotals {
    let whole = TimeRange::new(rows.first().map_or(0, |row| row.begin), rows.last().map_or(0, |row| row.end));
    let mut wakes = Vec::new();
    let (mut preemptions, mut migrations, mut cpu) = (0, 0, NONE);
    for row in rows {
        let nanos = row.end.saturating_sub(row.begin);
        match State::from_u8(row.state) {
            State::Preempted => preemptions += u64::from(row.continues == 0),
            State::Woken if row.continues == 0 => wakes.push(nanos),
            State::Woken => {
                if let Some(last) = wakes.last_mut() {
                    *last += nanos;
                }
            }
            State::Running => {
                migrations += u64::from(cpu != NONE && row.cpu != NONE && row.cpu != cpu);
                cpu = row.cpu;
            }
            _ => {}
        }
    }
    wakes.sort_unstable();
    ThreadTotals {
        tid,
        process,
        places,
        sums: states.sums(range.unwrap_or(whole)),
        preemptions,
        migrations,
        wakeups: wakes.len() as u64,
        wake_p50_nanos: percentile(&wakes, 50),
        wake_p99_nanos: percentile(&wakes, 99),
        wake_max_nanos: wakes.last().copied(),
    }
}
