//! What the recording host can do at most, at so many threads.

use crate::Trace;
use llmtrace_format::meta::{CeilingRate, Ceilings, Quantity};

/// The rate at `threads` threads, a second: that of the fastest round, as nothing exceeds a
/// ceiling and whatever else ran only slows it down; as measured, or between the measurements
/// on both sides; beyond the last the last. `None` when it was not measured.
pub fn rate(ceilings: &Ceilings, quantity: Quantity, threads: u32) -> Option<f64> {
    let mut rates: Vec<&CeilingRate> =
        ceilings.rates.iter().filter(|rate| rate.quantity == quantity && rate.highest > 0).collect();
    rates.sort_by_key(|rate| rate.threads);
    let below = rates.iter().rev().find(|rate| rate.threads <= threads);
    let above = rates.iter().find(|rate| rate.threads >= threads);
    match (below, above) {
        (Some(a), Some(b)) if a.threads < b.threads => {
            let part = f64::from(threads - a.threads) / f64::from(b.threads - a.threads);
            Some(a.highest as f64 + part * (b.highest as f64 - a.highest as f64))
        }
        (Some(a), _) => Some(a.highest as f64),
        (None, b) => b.map(|rate| rate.highest as f64),
    }
}

/// Threads after which reading gets no faster: the fewest with nine tenths of the best rate.
pub fn saturation(ceilings: &Ceilings) -> Option<u32> {
    let rates = || ceilings.rates.iter().filter(|rate| rate.quantity == Quantity::ReadBytes);
    let best = rates().map(|rate| rate.highest).max()?;
    rates().filter(|rate| rate.highest >= best / 10 * 9).map(|rate| rate.threads).min()
}

/// The three roofs at the number of threads that a trace used.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Roofs {
    /// Bytes a second from memory.
    pub bytes: Option<f64>,
    /// Operations a second of 32-bit floating point.
    pub f32_ops: Option<f64>,
    /// Operations a second of 8-bit integers.
    pub int8_ops: Option<f64>,
}

impl Roofs {
    /// Of a trace, for `threads` threads; none without ceilings.
    pub fn of(trace: &Trace, threads: u32) -> Self {
        let ceilings = trace.file.recording.as_ref().and_then(|recording| recording.ceilings.as_ref());
        let Some(ceilings) = ceilings else { return Self::default() };
        let rate = |quantity| rate(ceilings, quantity, threads);
        Self {
            bytes: rate(Quantity::ReadBytes),
            f32_ops: rate(Quantity::F32Ops),
            int8_ops: rate(Quantity::Int8Ops),
        }
    }

    /// Operations a second for work of a kind; quantised work on a CPU without fast
    /// 8-bit products has the roof of floating point.
    pub fn ops(&self, int8: bool) -> Option<f64> {
        if int8 { self.int8_ops.or(self.f32_ops) } else { self.f32_ops }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_between_measurements_lie_between_and_beyond_are_the_last() {
        let rate_of = |threads, highest| CeilingRate {
            quantity: Quantity::ReadBytes,
            threads,
            highest,
            ..CeilingRate::default()
        };
        let rates = vec![rate_of(4, 400), rate_of(1, 100), rate_of(8, 410)];
        let ceilings = Ceilings { rates, ..Ceilings::default() };
        let at = |threads| rate(&ceilings, Quantity::ReadBytes, threads);
        assert_eq!([at(1), at(2), at(4), at(64)], [Some(100.0), Some(200.0), Some(400.0), Some(410.0)]);
        assert_eq!(rate(&ceilings, Quantity::Int8Ops, 2), None);
        assert_eq!((saturation(&ceilings), saturation(&Ceilings::default())), (Some(4), None));
    }
}
