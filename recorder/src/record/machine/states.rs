//! States of threads from what the scheduler does.
//!
//! ```text
//!            off, could go on                 off, sleeps
//! preempted ◄──────────────── on a CPU ──────────────────► asleep (or in a fault)
//!     └────────── on ────────►     ◄── on ── woken ◄── woken ──┘
//! ```
//!
//! Strange sequences seen in practice: a thread is woken while it still runs (it was about to
//! sleep, and then does not); one goes on without having been seen to be woken (that came just
//! before it was off the CPU): it counts as asleep until it runs;
//! one runs or leaves its CPU without having been put there: on a crowded host the kernel's
//! tracepoint left out one switch in a thousand. What it did since its last switch is unknown.

use llmtrace_format::constants::NONE;
use llmtrace_format::machine::{State, ThreadState};
use llmtrace_format::{Nanos, TimeRange};
use std::collections::HashMap;

/// Threads remembered.
const MAX_THREADS: usize = 1 << 14;
/// A state that lasts is written in pieces, so that whoever reads along sees it.
const PIECE_NANOS: Nanos = 1_000_000_000;

/// Twins of `enum off_cpu` in events.h.
const RUNNABLE: u32 = 1;
const UNINTERRUPTIBLE: u32 = 2;
const EXCEPTION: u32 = 4;
const ENDED: u32 = 8;

/// Why a thread is off the CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Off {
    Preempted,
    Sleeping,
    Uninterruptible,
    Faulting,
    Ended,
}

impl Off {
    pub(super) fn of(flags: u32) -> Self {
        match flags {
            flags if flags & RUNNABLE != 0 => Self::Preempted,
            flags if flags & ENDED != 0 => Self::Ended,
            flags if flags & EXCEPTION != 0 => Self::Faulting,
            flags if flags & UNINTERRUPTIBLE != 0 => Self::Uninterruptible,
            _ => Self::Sleeping,
        }
    }
}

/// Of one process.
pub(super) struct States {
    process: u32,
    threads: HashMap<u32, Now>,
    /// From then on each switch was seen, so that a thread without one has not moved.
    since: Option<Nanos>,
    /// Once events have come so far, what is known may be wrong.
    doubt: Option<Nanos>,
    rows: Vec<(ThreadState, String)>,
}

/// What a thread is doing.
#[derive(Clone, Debug)]
struct Now {
    state: State,
    begin: Nanos,
    cpu: u32,
    other: (u32, u32),
    name: String,
    continues: bool,
}

impl Now {
    fn new(state: State, begin: Nanos, cpu: u32) -> Self {
        Self { state, begin, cpu, other: (NONE, NONE), name: String::new(), continues: false }
    }
}

impl States {
    pub(super) fn new(process: u32) -> Self {
        Self { process, threads: HashMap::new(), since: None, doubt: None, rows: Vec::new() }
    }

    /// From now on each switch is seen.
    pub(super) fn begin(&mut self, now: Nanos) {
        self.since = Some(now);
    }

    pub(super) fn off(&mut self, time: Nanos, tid: u32, cpu: u32, off: Off, next: (u32, u32)) {
        self.expect_running(time, tid);
        self.runs_after_all(time, tid);
        if let Some(now) =
            self.threads.get_mut(&tid).filter(|now| now.state == State::Running && now.cpu == NONE)
        {
            now.cpu = cpu;
        }
        let state = match off {
            Off::Preempted => State::Preempted,
            Off::Sleeping => State::Sleeping,
            Off::Uninterruptible => State::Uninterruptible,
            Off::Faulting => State::Faulting,
            Off::Ended => {
                self.close(time, tid);
                self.threads.remove(&tid);
                return;
            }
        };
        let other = if state == State::Preempted { next } else { (NONE, NONE) };
        self.change(time, tid, Now { other, ..Now::new(state, time, cpu) });
    }

    /// The name of who runs in its place since `time`.
    pub(super) fn name(&mut self, time: Nanos, tid: u32, name: String) {
        if let Some(now) = self.threads.get_mut(&tid)
            && now.state == State::Preempted
            && now.begin == time
        {
            now.name = name;
        }
    }

    /// By a thread of a process, or by none: then its number is 0.
    pub(super) fn woken(&mut self, time: Nanos, tid: u32, waker: (u32, u32)) {
        self.doubts(time);
        let other = if waker.0 == 0 { (NONE, NONE) } else { waker };
        if let Some(now) = self.threads.get(&tid)
            && now.state.is_asleep()
        {
            let cpu = now.cpu;
            self.change(time, tid, Now { other, ..Now::new(State::Woken, time, cpu) });
        }
    }

    pub(super) fn on(&mut self, time: Nanos, tid: u32, cpu: u32) {
        self.doubts(time);
        self.change(time, tid, Now::new(State::Running, time, cpu));
    }

    /// A probe was hit: the thread runs.
    pub(super) fn seen(&mut self, time: Nanos, tid: u32) {
        // A look into the table for each hit is all that this costs.
        match self.threads.get(&tid) {
            None => self.expect_running(time, tid),
            Some(now) if now.state != State::Running && now.begin < time => {
                self.runs_after_all(time, tid);
                self.change(time, tid, Now::new(State::Running, time, NONE));
            }
            Some(_) => {}
        }
    }

    /// The thread runs, and nobody said since when: what it did until now is not known.
    fn runs_after_all(&mut self, time: Nanos, tid: u32) {
        if let Some(now) = self.threads.get_mut(&tid)
            && now.state != State::Running
            && now.begin < time
        {
            *now = Now::new(State::Unknown, now.begin, NONE);
        }
    }

    /// A thread of which nothing was seen has been running ever since everything is.
    fn expect_running(&mut self, time: Nanos, tid: u32) {
        self.doubts(time);
        if !self.threads.contains_key(&tid) {
            let begin = self.since.unwrap_or(time);
            self.change(time, tid, Now::new(State::Running, begin, NONE));
        }
    }

    /// Events were lost, which is known before all events of that time have come.
    pub(super) fn lost(&mut self, range: TimeRange) {
        self.doubt = Some(self.doubt.unwrap_or(0).max(range.end));
    }

    fn doubts(&mut self, time: Nanos) {
        if self.doubt.is_some_and(|after| after < time) {
            self.doubt = None;
            self.since = None;
            self.threads.clear();
        }
    }

    fn change(&mut self, time: Nanos, tid: u32, next: Now) {
        self.close(time, tid);
        if self.threads.len() >= MAX_THREADS && !self.threads.contains_key(&tid) {
            self.threads.clear();
            self.since = None;
        }
        self.threads.insert(tid, next);
    }

    /// The row of what a thread did until now.
    fn close(&mut self, time: Nanos, tid: u32) {
        let Some(now) = self.threads.get(&tid).filter(|now| now.begin < time) else { return };
        let row = ThreadState {
            begin: now.begin,
            end: time,
            tid,
            process: self.process,
            state: now.state as u8,
            cpu: now.cpu,
            other_tid: now.other.0,
            other_pid: now.other.1,
            other: 0,
            continues: now.continues.into(),
            touched_by_loss: 0,
        };
        self.rows.push((row, now.name.clone()));
    }

    /// Cuts what has lasted long by `until`.
    pub(super) fn settle(&mut self, until: Nanos) {
        self.doubts(until);
        self.cut(until, PIECE_NANOS);
    }

    pub(super) fn finish(&mut self, until: Nanos) {
        self.doubts(until);
        self.cut(until, 1);
        self.threads.clear();
    }

    fn cut(&mut self, until: Nanos, least: Nanos) {
        let long = |now: &Now| now.begin.saturating_add(least) <= until;
        let tids: Vec<u32> = self.threads.iter().filter(|(_, now)| long(now)).map(|(tid, _)| *tid).collect();
        for tid in tids {
            self.close(until, tid);
            if let Some(now) = self.threads.get_mut(&tid) {
                (now.begin, now.continues) = (until, true);
            }
        }
    }

    /// Rows that are complete, with the name of who ran instead.
    pub(super) fn take(&mut self) -> Vec<(ThreadState, String)> {
        std::mem::take(&mut self.rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(states: &mut States) -> Vec<(u64, u64, State, u32)> {
        let of = |(row, _): &(ThreadState, String)| (row.begin, row.end, State::from_u8(row.state), row.cpu);
        states.take().iter().map(of).collect()
    }

    #[test]
    fn a_thread_is_somewhere_at_all_times() {
        let mut states = States::new(0);
        states.begin(5);
        states.off(10, 7, 1, Off::Preempted, (70, 69));
        states.name(10, 7, "stress".into());
        states.on(14, 7, 0);
        states.off(20, 7, 0, Off::Sleeping, (0, 0));
        // Another one may be woken while it runs.
        states.woken(25, 7, (70, 69));
        states.woken(26, 7, (71, 71));
        states.on(27, 7, 0);
        states.woken(28, 7, (0, 0));
        states.off(30, 7, 0, Off::Faulting, (0, 0));
        states.on(40, 7, 0);
        states.off(41, 7, 0, Off::Ended, (0, 0));
        states.finish(99);
        let preempted = states.rows.get(1).cloned().expect("a row");
        assert_eq!((preempted.0.other_tid, preempted.0.other_pid, preempted.1.as_str()), (70, 69, "stress"));
        let woken = states.rows.get(4).map(|(row, _)| (row.state, row.other_tid, row.other_pid));
        assert_eq!(woken, Some((State::Woken as u8, 70, 69)));
        assert_eq!(
            rows(&mut states),
            [
                (5, 10, State::Running, 1),
                (10, 14, State::Preempted, 1),
                (14, 20, State::Running, 0),
                (20, 25, State::Sleeping, 0),
                (25, 27, State::Woken, 0),
                (27, 30, State::Running, 0),
                (30, 40, State::Faulting, 0),
                (40, 41, State::Running, 0),
            ]
        );
    }

    #[test]
    fn what_was_not_seen_is_not_told() {
        let mut states = States::new(0);
        states.begin(5);
        // It slept before; since when, nobody knows.
        states.woken(8, 7, (0, 0));
        states.on(10, 7, 3);
        // Nothing but a probe tells of this one: it never left its CPU.
        states.seen(11, 8);
        states.lost(TimeRange::new(20, 30));
        // Of before the loss.
        states.off(19, 7, 3, Off::Sleeping, (0, 0));
        assert_eq!(rows(&mut states), [(10, 19, State::Running, 3)]);
        states.off(40, 7, 3, Off::Sleeping, (0, 0));
        states.seen(42, 8);
        states.finish(50);
        let mut found = rows(&mut states);
        found.sort_by_key(|row| row.0);
        assert_eq!(found, [(40, 50, State::Sleeping, 3), (42, 50, State::Running, NONE)]);
    }

    #[test]
    fn long_states_come_in_pieces() {
        let mut states = States::new(0);
        states.begin(0);
        states.on(0, 7, 0);
        states.settle(PIECE_NANOS - 1);
        assert_eq!(rows(&mut states), []);
        states.settle(PIECE_NANOS + 5);
        states.off(PIECE_NANOS + 9, 7, 0, Off::Sleeping, (0, 0));
        let pieces = states.take();
        let of = |(row, _): &(ThreadState, String)| (row.begin, row.end, row.continues);
        let pieces: Vec<_> = pieces.iter().map(of).collect();
        assert_eq!(pieces, [(0, PIECE_NANOS + 5, 0), (PIECE_NANOS + 5, PIECE_NANOS + 9, 1)]);
    }

    #[test]
    fn a_switch_that_nobody_told_leaves_the_time_before_unknown() {
        let mut states = States::new(0);
        states.on(0, 7, 1);
        states.off(10, 7, 1, Off::Preempted, (70, 69));
        // It was put on a CPU in between, and is preempted once more.
        states.off(20, 7, 1, Off::Preempted, (71, 71));
        // A probe of before that comes late says nothing; one of after says that it runs.
        states.seen(19, 7);
        states.seen(25, 7);
        states.off(30, 7, 0, Off::Sleeping, (0, 0));
        assert_eq!(
            rows(&mut states),
            [
                (0, 10, State::Running, 1),
                (10, 20, State::Unknown, NONE),
                (20, 25, State::Unknown, NONE),
                (25, 30, State::Running, 0),
            ]
        );
    }

    #[test]
    fn flags_are_told_apart() {
        let all = [RUNNABLE | EXCEPTION, ENDED, UNINTERRUPTIBLE | EXCEPTION, UNINTERRUPTIBLE, 0];
        let expected = [Off::Preempted, Off::Ended, Off::Faulting, Off::Uninterruptible, Off::Sleeping];
        assert_eq!(all.map(Off::of), expected);
    }
}
