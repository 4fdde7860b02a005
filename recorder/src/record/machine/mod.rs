//! What the kernel does with a process's threads and memory: thread states, page faults,
//! reads from disks. Events of `machine.bpf.h` to rows.
//!
//! ```text
//! off CPU ─ name ─ woken ─ on CPU ──► states ──┐
//! page fault ─ (probe hits end a run) ► faults ─┼─► rows, with files and names by then
//! block read ──────────────────────────────────┘
//! ```

mod faults;
mod files;
mod frequency;
mod gguf;
mod states;

pub(super) use frequency::Frequencies;
pub(super) use gguf::tensors as model_tensors;

use super::budget::Seldom;
use faults::{Counts, Faults};
use files::Files;
use llmtrace_bpf::Event;
use llmtrace_format::machine::{BlockRead, MachineRow};
use llmtrace_format::meta::{Recording, Source};
use llmtrace_format::{Nanos, TimeRange};
use states::States;
use std::collections::VecDeque;

/// Losses remembered.
const MAX_LOSSES: usize = 64;
/// Twins of `enum event_kind` in events.h.
const KINDS: std::ops::RangeInclusive<u8> = 33..=39;
const STATE_KINDS: std::ops::RangeInclusive<usize> = 33..=37;
const FAULT: usize = 38;
const BLOCK_READ: usize = 39;

/// What is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Machine {
    /// States of threads.
    pub(crate) sched: bool,
    /// Page faults and reads from disks.
    pub(crate) faults: bool,
}

impl Machine {
    /// Whether anything is.
    pub(crate) fn any(self) -> bool {
        self.sched || self.faults
    }

    /// For the description of the recording: what is recorded of it, and why something is not.
    pub(super) fn described(self, given: Self, refusal: &str, frequency: bool) -> Vec<Source> {
        let source = |name: &str, asked: bool, given: bool, refusal: &str| {
            let reason = match (asked, given) {
                (false, _) => "not asked for",
                (true, false) => refusal,
                (true, true) => "",
            };
            Source { name: name.to_owned(), recorded: given && asked, reason: reason.to_owned() }
        };
        let silent = if given.sched { "this kernel reports none" } else { refusal };
        vec![
            source("thread states", self.sched, given.sched, refusal),
            source("CPU frequency", self.sched, given.sched && frequency, silent),
            source("page faults and block reads", self.faults, given.faults, refusal),
        ]
    }
}

/// Of one process.
pub(super) struct MachineEvents {
    pid: u32,
    process: u32,
    start: u64,
    given: Machine,
    states: States,
    faults: Faults,
    files: Files,
    reads: Vec<BlockRead>,
    losses: VecDeque<(TimeRange, Lost)>,
    /// Events that cost something, since they were last asked for.
    seldom: Seldom,
}

/// Which kinds were lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Lost {
    states: bool,
    faults: bool,
    reads: bool,
}

impl MachineEvents {
    /// `start` is the monotonic time from which rows count.
    pub(super) fn new(start: u64, pid: u32, process: u8) -> Self {
        let process = process.into();
        Self {
            pid,
            process,
            start,
            given: Machine::default(),
            states: States::new(process),
            faults: Faults::new(process),
            files: Files::new(pid),
            reads: Vec::new(),
            losses: VecDeque::new(),
            seldom: Seldom::default(),
        }
    }

    /// From now on all of it is seen.
    pub(super) fn begin(&mut self, now: Nanos, given: Machine) {
        self.given = given;
        self.states.begin(now);
    }

    /// Takes an event, if it is one of these. Of others it learns that their thread runs, and
    /// does something else than before.
    pub(super) fn handle(&mut self, event: &Event) -> bool {
        if !self.given.any() {
            return KINDS.contains(&event.head().kind);
        }
        let head = event.head();
        let (time, tid, cpu) = (head.time.saturating_sub(self.start), head.tid, u32::from(head.cpu));
        match event {
            Event::OffCpu(event) => {
                let state = states::Off::of(event.flags);
                self.states.off(time, tid, cpu, state, (event.next_tid, event.next_pid));
                if state == states::Off::Faulting {
                    self.faults.sleeps(time, tid);
                }
            }
            Event::ThreadName(event) => self.states.name(time, tid, event.text()),
            Event::Woken(event) => self.states.woken(time, tid, (event.waker_tid, event.waker_pid)),
            Event::OnCpu(_) => {
                self.seldom.switches += 1;
                self.states.on(time, tid, cpu);
                self.faults.runs(time, tid);
            }
            Event::ThreadEnded(event) => {
                self.faults.ended(time, tid, Counts::new(event.minor as u32, event.major as u32));
            }
            Event::Fault(event) => {
                self.seldom.faults += 1;
                let mapping = self.files.find(event.address);
                let counts = Counts::new(event.minor, event.major);
                self.faults.fault(time, tid, event.address, counts, mapping);
            }
            Event::BlockRead(event) => {
                self.seldom.reads += 1;
                let begin = time.saturating_sub(u64::from(event.micros) * 1000);
                let (bytes, device) = (event.bytes, event.device);
                let process = self.process;
                self.reads.push(BlockRead {
                    begin,
                    end: time,
                    tid,
                    process,
                    bytes,
                    device,
                    touched_by_loss: 0,
                });
            }
            _ => {
                if self.given.sched {
                    self.states.seen(time, tid);
                }
                self.faults.something_else(tid);
                return false;
            }
        }
        true
    }

    /// How many events that cost something there were since the last call.
    pub(super) fn take_seldom(&mut self) -> Seldom {
        std::mem::take(&mut self.seldom)
    }

    /// Events were lost, by kind.
    pub(super) fn lost(&mut self, range: TimeRange, kinds: &[usize]) {
        let lost = Lost {
            states: kinds.iter().any(|kind| STATE_KINDS.contains(kind)),
            faults: kinds.contains(&FAULT),
            reads: kinds.contains(&BLOCK_READ),
        };
        if lost == Lost::default() {
            return;
        }
        if lost.states {
            self.states.lost(range);
        }
        if self.losses.len() >= MAX_LOSSES {
            self.losses.pop_front();
        }
        self.losses.push_back((range, lost));
    }

    /// All events until `until` have come: what has lasted long is cut, and what nobody
    /// resolved is looked up.
    pub(super) fn settle(&mut self, until: Nanos) {
        if self.given.sched {
            self.states.settle(until);
        }
        if self.given.faults {
            let pid = self.pid;
            self.faults.settle(until, &mut |tid| faults::counts_of(pid, tid));
        }
    }

    /// The recording ends: rows of what goes on.
    pub(super) fn finish(&mut self, until: Nanos) {
        if self.given.any() {
            let pid = self.pid;
            self.states.finish(until);
            self.faults.finish(until, &mut |tid| faults::counts_of(pid, tid));
        }
    }

    /// Rows that are complete, with their names; `string` numbers these. Returns whether
    /// files were added to the description of the recording.
    pub(super) fn take(
        &mut self,
        recording: &mut Recording,
        mut string: impl FnMut(&str) -> u32,
        mut push: impl FnMut(MachineRow),
    ) -> bool {
        let before = recording.files.len();
        let losses = &self.losses;
        let touched = |row: MachineRow, wanted: fn(&Lost) -> bool| {
            let mut row = row;
            let range = row.range();
            let range = TimeRange::new(range.begin, range.end.saturating_add(1));
            if losses.iter().any(|(lost, kinds)| wanted(kinds) && lost.overlaps(range)) {
                row.touch();
            }
            row
        };
        for (row, name) in self.states.take() {
            let row = llmtrace_format::machine::ThreadState { other: string(&name), ..row };
            push(touched(MachineRow::State(row), |lost| lost.states));
        }
        for (row, file) in self.faults.take() {
            let file = self.files.index(file, recording);
            let row = llmtrace_format::machine::Fault { file, ..row };
            push(touched(MachineRow::Fault(row), |lost| lost.faults));
        }
        for row in std::mem::take(&mut self.reads) {
            push(touched(MachineRow::Read(row), |lost| lost.reads));
        }
        recording.files.len() > before
    }
}
