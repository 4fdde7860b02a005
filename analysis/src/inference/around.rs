//! Calls between micro-batches, and what drafts were worth.

use crate::stats::{millis, percentile, ratio};
use crate::{TimeRange, Trace};
use llmtrace_format::constants::NONE;
use llmtrace_format::inference::CallKind;
use serde::Serialize;

/// All calls of a kind.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CallSummary {
    /// What they do.
    pub kind: &'static str,
    /// How many.
    pub count: u64,
    /// Nanoseconds inside, summed.
    #[serde(rename = "time_ms", serialize_with = "millis")]
    pub nanos: u64,
    /// Half take at most this long.
    #[serde(rename = "p50_ms", serialize_with = "millis")]
    pub median_nanos: u64,
    /// The longest.
    #[serde(rename = "max_ms", serialize_with = "millis")]
    pub max_nanos: u64,
}

/// Calls by kind, the longest first; only those that touch `range`, which count whole.
pub fn call_summaries(trace: &Trace, range: Option<TimeRange>) -> Vec<CallSummary> {
    let touches = |begin: u64, end: u64| range.is_none_or(|range| begin < range.end && end > range.begin);
    let of_kind = |kind: CallKind| {
        let calls = trace.inference.calls.iter().filter(|call| CallKind::from_u8(call.kind) == kind);
        let calls = calls.filter(|call| touches(call.begin, call.end));
        let mut nanos: Vec<u64> = calls.map(|call| call.end.saturating_sub(call.begin)).collect();
        nanos.sort_unstable();
        Some(CallSummary {
            kind: kind.name(),
            count: nanos.len() as u64,
            nanos: nanos.iter().fold(0, |sum, nanos| sum.saturating_add(*nanos)),
            median_nanos: percentile(&nanos, 50)?,
            max_nanos: *nanos.last()?,
        })
    };
    let mut found: Vec<CallSummary> = CallKind::ALL.into_iter().filter_map(of_kind).collect();
    found.sort_by_key(|summary| std::cmp::Reverse(summary.nanos));
    found
}

/// All rounds of speculative decoding.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SpeculationSummary {
    /// Rounds.
    pub rounds: u64,
    /// Tokens drafted and verified, of the rounds of which that is known.
    pub drafted: u64,
    /// How many of these the target model agreed with.
    pub accepted: u64,
    /// Rounds of which it is not known how much was drafted; they count nowhere else.
    pub unknown_rounds: u64,
    /// Accepted as a part of drafted; `None` when nothing was drafted.
    pub acceptance: Option<f64>,
    /// Tokens for each round: those accepted, and the one that the target adds.
    pub tokens_per_round: Option<f64>,
}

/// What drafts were worth; `None` when none were seen.
pub fn speculation(trace: &Trace, range: Option<TimeRange>) -> Option<SpeculationSummary> {
    let mut found = SpeculationSummary::default();
    let rounds = trace.inference.speculations.iter();
    for row in rounds.filter(|row| range.is_none_or(|range| range.contains(row.time))) {
        found.rounds += 1;
        if row.drafted == NONE || row.accepted > row.drafted {
            found.unknown_rounds += 1;
            continue;
        }
        found.drafted += u64::from(row.drafted);
        found.accepted += u64::from(row.accepted);
    }
    let known = found.rounds - found.unknown_rounds;
    found.acceptance = (found.drafted > 0).then(|| ratio(found.accepted, found.drafted));
    found.tokens_per_round = (known > 0).then(|| ratio(found.accepted + known, known));
    (found.rounds > 0).then_some(found)
}
