//! What of calls and nodes threads spent asleep in page faults, or runnable without a CPU.

use crate::{NodeKey, Phase, TimeRange, Trace};
use llmtrace_format::Nanos;
use llmtrace_format::machine::State;
use std::collections::HashMap;

/// Nanoseconds during which a thread that computed a node slept in a page fault, by number of
/// the phase and node; what several threads slept at once counts once. `None` when states of threads were
/// not recorded.
pub(crate) fn fault_waits(trace: &Trace) -> Option<HashMap<(u8, NodeKey), u64>> {
    if !trace.machine.has_states {
        return None;
    }
    let lanes = trace.lanes_of_threads();
    let mut sleeps: Vec<(Nanos, Nanos, (u8, NodeKey))> = Vec::new();
    trace.each_state(TimeRange::new(0, Nanos::MAX), |row| {
        if State::from_u8(row.state) != State::Faulting {
            return;
        }
        let at = TimeRange::new(row.begin, row.begin.saturating_add(1));
        for &lane in lanes.get(&(row.process, row.tid)).map_or(&[][..], Vec::as_slice) {
            let mut node = None;
            trace.each_span(lane, at, |_, span| {
                let is_its = trace.thread_of(span).is_some_and(|thread| thread.tid == row.tid);
                if is_its && span.begin <= row.begin && row.begin < span.end() {
                    node = NodeKey::of(trace, span);
                }
                node.is_none()
            });
            if let Some(key) = node {
                let phase = trace.token_at(row.begin).map_or(Phase::Unknown, |token| token.phase);
                sleeps.push((row.begin, row.end, (phase as u8, key)));
            }
        }
    });
    sleeps.sort_by_key(|sleep| (sleep.0, sleep.1));
    let mut waits: HashMap<(u8, NodeKey), u64> = HashMap::new();
    let mut until = 0;
    for (begin, end, key) in sleeps {
        let nanos = end.saturating_sub(begin.max(until));
        until = until.max(end);
        let wait = waits.entry(key).or_default();
        *wait = wait.saturating_add(nanos);
    }
    Some(waits)
}

/// What the thread that was held up longest lost in a range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct HeldUp {
    /// Nanoseconds in which it could run, but did not.
    pub(crate) runnable: u64,
    /// Nanoseconds asleep in page faults.
    pub(crate) faulting: u64,
}

/// For each limit the thread that it held up longest in a range, of those that compute: the others
/// wait for it at a barrier.
pub(crate) fn held_up(trace: &Trace, range: TimeRange) -> HeldUp {
    let mut most = HeldUp::default();
    for lane in trace.lane_ids() {
        if trace.machine.has_lane(lane) {
            let sums = trace.lane_state_sums(lane, range);
            most.runnable = most.runnable.max(sums.runnable());
            most.faulting = most.faulting.max(sums.of(State::Faulting));
        }
    }
    most
}
