//! Finds decode calls that took too long.

use llmtrace_format::Nanos;
use llmtrace_format::constants::NONE;
use llmtrace_format::tables::{Decode, Phase, Ubatch};
use std::collections::VecDeque;

/// Micro-batches remembered; their calls return soon after, or much later for a
/// long prompt, which is no decode anyway.
const REMEMBERED: usize = 4096;

/// Rows of one look at the kernel's ring come calls first, so they are judged
/// when all of them are there.
pub(super) struct Watch {
    threshold: Option<Nanos>,
    calls: Vec<Decode>,
    /// Micro-batches of calls that the build does not show.
    alone: Vec<Ubatch>,
    /// Call and phase of recent micro-batches.
    phases: VecDeque<(u32, Phase)>,
}

/// A token that took longer than it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Slow {
    pub(super) begin: Nanos,
    pub(super) end: Nanos,
    /// What the mark says.
    pub(super) label: String,
}

impl Watch {
    pub(super) fn new(threshold: Option<Nanos>) -> Self {
        Self { threshold, calls: Vec::new(), alone: Vec::new(), phases: VecDeque::new() }
    }

    pub(super) fn decode(&mut self, row: Decode) {
        if self.threshold.is_some_and(|threshold| row.end.saturating_sub(row.begin) > threshold) {
            self.calls.push(row);
        }
    }

    pub(super) fn ubatch(&mut self, row: Ubatch) {
        let Some(threshold) = self.threshold else { return };
        if row.decode == NONE {
            if row.end.saturating_sub(row.begin) > threshold {
                self.alone.push(row);
            }
            return;
        }
        if self.phases.len() >= REMEMBERED {
            self.phases.pop_front();
        }
        self.phases.push_back((row.decode, Phase::from_u8(row.phase)));
    }

    /// The slow tokens since the last call.
    pub(super) fn slow(&mut self) -> Vec<Slow> {
        let Some(threshold) = self.threshold else { return Vec::new() };
        let millis = |nanos: Nanos| nanos as f64 / 1e6;
        let slow = |begin: Nanos, end: Nanos| {
            let (took, allowed) = (millis(end.saturating_sub(begin)), millis(threshold));
            // Fractions only where they are needed to see that it was longer.
            let took = if took < 10.0 { format!("{took:.3}") } else { format!("{took:.1}") };
            Slow { begin, end, label: format!("token of {took} ms, above {allowed} ms") }
        };
        let calls = std::mem::take(&mut self.calls);
        let alone = std::mem::take(&mut self.alone);
        let calls = calls.iter().filter(|row| self.is_decode(row)).map(|row| slow(row.begin, row.end));
        let alone = alone.iter().filter(|row| row.phase == Phase::Decode as u8);
        calls.chain(alone.map(|row| slow(row.begin, row.end))).collect()
    }

    /// Whether a call generates: none of its micro-batches reads a prompt, or,
    /// where the build does not show them, it has one token.
    fn is_decode(&self, row: &Decode) -> bool {
        let mut phases = self.phases.iter().filter(|(call, _)| *call == row.id).peekable();
        match phases.peek() {
            Some(_) => phases.all(|(_, phase)| *phase == Phase::Decode),
            None => row.is_encode == 0 && row.tokens == 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(id: u32, millis: u64, tokens: u32) -> Decode {
        Decode { id, begin: 5_000_000, end: (5 + millis) * 1_000_000, tokens, ..Decode::default() }
    }

    fn part(decode: u32, phase: Phase) -> Ubatch {
        Ubatch { decode, phase: phase as u8, begin: 0, end: 93_000_000, ..Ubatch::default() }
    }

    #[test]
    fn only_slow_decodes_count() {
        let mut watch = Watch::new(Some(50_000_000));
        for row in [call(0, 93, 1), call(1, 93, 3), call(2, 50, 1), call(3, 93, 1), call(4, 93, 512)] {
            watch.decode(row);
        }
        // Three sequences that generate; a prompt, whose last part is one token.
        watch.ubatch(part(1, Phase::Decode));
        watch.ubatch(part(3, Phase::Prefill));
        watch.ubatch(part(3, Phase::Decode));
        let slow = watch.slow();
        assert_eq!(slow.len(), 2);
        assert_eq!(slow[0].label, "token of 93.0 ms, above 50 ms");
        assert_eq!((slow[0].begin, slow[0].end), (5_000_000, 98_000_000));
        assert_eq!(watch.slow(), []);
        watch.ubatch(part(NONE, Phase::Decode));
        watch.ubatch(part(NONE, Phase::Prefill));
        assert_eq!(watch.slow().len(), 1);
    }

    #[test]
    fn nothing_is_slow_without_a_threshold() {
        let mut watch = Watch::new(None);
        watch.decode(call(0, 9000, 1));
        assert_eq!(watch.slow(), []);
    }
}
