//! The run on one page: how fast, where the time went, what was lost.
//!
//! Every number is defined in `docs/cli.md`. What a recording does not tell is
//! `None` (`null` in JSON), never zero.

use crate::stats::{millis, percentile, ratio, waits_known};
use crate::{Phase, TimeRange, Trace, price};
use llmtrace_format::constants::NONE;
use llmtrace_format::meta::Level;
use llmtrace_format::tables::Ubatch;
use serde::Serialize;
use std::collections::HashMap;

/// A trace on one page.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Model files, base names.
    pub models: Vec<String>,
    /// Level of the recording.
    pub level: Option<Level>,
    /// Seconds from the first to the last recorded event.
    pub duration_s: f64,
    /// Reading prompts.
    pub prefill: PhaseSummary,
    /// Generating.
    pub decode: DecodeSummary,
    /// Calls that the engine reports as failed; they count nowhere else.
    pub failed_calls: u64,
    /// Places in the thread pool.
    pub threads: Option<u32>,
    /// Different graphs.
    pub graphs: u64,
    /// Runs of a graph.
    pub graph_runs: u64,
    /// Node executions times threads.
    pub op_spans: u64,
    /// Events that were lost.
    pub lost_events: u64,
    /// Length of the file.
    pub file_bytes: u64,
    /// Bytes of the file for each op span.
    pub bytes_per_op_span: Option<f64>,
    /// Operators, the longest first; none before [`Trace::load_nodes`].
    pub operators: Vec<Operator>,
    /// What is wrong with the file.
    pub warnings: Vec<String>,
}

/// All calls of one phase.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PhaseSummary {
    /// Calls of decode.
    pub calls: u64,
    /// Tokens in their batches; `None` when the build does not tell.
    pub tokens: Option<u64>,
    /// Tokens divided by the time inside the calls.
    pub tokens_per_second: Option<f64>,
    /// Milliseconds inside the calls; `None` without a call.
    pub ms: Option<f64>,
}

/// Generation.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct DecodeSummary {
    /// Speed.
    #[serde(flatten)]
    pub phase: PhaseSummary,
    /// Time per output token: durations of the decode calls.
    pub tpot_ms: Option<Spread>,
    /// Time between a decode call and the call before it: sampling, and
    /// whatever else the program does.
    pub between_ms: Option<Spread>,
    /// Estimated milliseconds that probes added to a token, on the thread with
    /// the most hits.
    pub probe_ms_per_token: Option<f64>,
    /// Speed without them.
    pub tokens_per_second_corrected: Option<f64>,
}

/// A distribution in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// Half are at most this long.
    pub p50: f64,
    /// Nineteen in twenty are at most this long.
    pub p95: f64,
    /// The longest.
    pub max: f64,
    /// Sum divided by number.
    pub mean: f64,
    /// The shortest.
    pub min: f64,
}

/// One operator over the whole trace.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Operator {
    /// Name, such as `MUL_MAT` or `RMS_NORM+MUL`.
    pub op: String,
    /// Node executions.
    pub count: u64,
    /// Nanoseconds of computing, summed over threads.
    #[serde(rename = "time_ms", serialize_with = "millis")]
    pub compute_nanos: u64,
    /// Nanoseconds of waiting, summed over threads.
    #[serde(rename = "wait_ms", serialize_with = "crate::stats::opt_millis")]
    pub wait_nanos: Option<u64>,
    /// Wall nanoseconds, summed over executions.
    #[serde(rename = "critical_ms", serialize_with = "millis")]
    pub critical_nanos: u64,
    /// Part of all computing, from 0 to 1.
    pub share: f64,
    /// Waiting as a part of computing and waiting, from 0 to 1.
    pub wait_share: Option<f64>,
}

/// Summarises a trace. Operators need [`Trace::load_nodes`] first.
pub fn summary(trace: &Trace) -> Summary {
    let recording = trace.file.recording.as_ref();
    let calls = calls(trace);
    let op_spans = trace.op_span_count();
    let counted: u64 = trace.losses.iter().fold(0, |sum, loss| sum.saturating_add(loss.count));
    let lanes = trace.lanes().len() as u32;
    let pool = trace.graph_spans.iter().map(|span| span.threads).max().unwrap_or(0);
    Summary {
        models: recording.map_or_else(Vec::new, |recording| recording.target.models.clone()),
        level: recording.map(|recording| recording.level),
        duration_s: trace.range().nanos() as f64 / 1e9,
        prefill: phase(&calls, Phase::Prefill),
        decode: decode(&calls).corrected(price::probe_nanos(trace, Phase::Decode)),
        failed_calls: calls.iter().filter(|call| call.failed).count() as u64,
        threads: Some(if lanes > 0 { lanes } else { pool }).filter(|&threads| threads > 0),
        graphs: trace.file.graphs.len() as u64,
        graph_runs: trace.graph_spans.len() as u64,
        op_spans,
        lost_events: trace.file.ending.as_ref().map_or(0, |ending| ending.lost).max(counted),
        file_bytes: trace.file.len(),
        bytes_per_op_span: (op_spans > 0).then(|| ratio(trace.file.len(), op_spans)),
        operators: operators(trace),
        warnings: trace.all_warnings().iter().map(ToString::to_string).collect(),
    }
}

fn operators(trace: &Trace) -> Vec<Operator> {
    let waits_known = waits_known(trace);
    let mut by_op: HashMap<&str, Operator> = HashMap::new();
    let nodes = trace.nodes().unwrap_or_default();
    let all = nodes.iter().fold(0u64, |sum, node| sum.saturating_add(node.compute));
    for node in nodes {
        let op = node.key.as_ref().map_or("unknown", |key| key.op.as_str());
        let empty = || Operator { op: op.to_owned(), ..Operator::default() };
        let operator = by_op.entry(op).or_insert_with(empty);
        operator.count = operator.count.saturating_add(node.count);
        operator.compute_nanos = operator.compute_nanos.saturating_add(node.compute);
        let wait = operator.wait_nanos.unwrap_or(0).saturating_add(node.wait);
        operator.wait_nanos = Some(wait);
        operator.critical_nanos = operator.critical_nanos.saturating_add(node.critical);
    }
    let mut operators: Vec<Operator> = by_op.into_values().collect();
    for operator in &mut operators {
        let (compute, wait) = (operator.compute_nanos, operator.wait_nanos.unwrap_or(0));
        operator.share = ratio(compute, all);
        operator.wait_share = waits_known.then(|| ratio(wait, compute.saturating_add(wait)));
        operator.wait_nanos = operator.wait_nanos.filter(|_| waits_known);
    }
    operators.sort_by(|a, b| b.compute_nanos.cmp(&a.compute_nanos).then_with(|| a.op.cmp(&b.op)));
    operators
}

/// One call of decode or encode (or one micro-batch, in a recording without
/// calls).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) range: TimeRange,
    pub(crate) phase: Phase,
    /// `None` when the build does not tell.
    pub(crate) tokens: Option<u64>,
    pub(crate) tid: u32,
    pub(crate) failed: bool,
}

/// The calls by begin. A call is a prefill if any of its micro-batches is one:
/// the last micro-batch of a long prompt may hold a single token, which looks
/// like generation.
pub(crate) fn calls(trace: &Trace) -> Vec<Call> {
    if trace.decodes.is_empty() {
        let call = |token: &crate::Token| Call {
            range: token.range,
            phase: token.phase,
            tokens: some_tokens(token.tokens.into()),
            tid: 0,
            failed: false,
        };
        return trace.tokens.iter().map(call).collect();
    }
    let mut ubatches: HashMap<u32, Vec<&Ubatch>> = HashMap::new();
    for ubatch in trace.ubatches.iter().filter(|ubatch| ubatch.decode != NONE) {
        ubatches.entry(ubatch.decode).or_default().push(ubatch);
    }
    let call = |row: &llmtrace_format::tables::Decode| {
        let parts = ubatches.get(&row.id).map_or(&[][..], Vec::as_slice);
        let phases = || parts.iter().map(|ubatch| Phase::from_u8(ubatch.phase));
        let phase = match (row.is_encode, row.tokens) {
            (1.., _) => Phase::Encode,
            _ if phases().any(|phase| phase == Phase::Prefill) => Phase::Prefill,
            _ if !parts.is_empty() => phases().max().unwrap_or(Phase::Unknown),
            (0, 0) => Phase::Unknown,
            (0, 1) => Phase::Decode,
            (0, _) => Phase::Prefill,
        };
        let in_parts = parts.iter().map(|ubatch| u64::from(ubatch.tokens)).sum();
        Call {
            range: TimeRange::new(row.begin, row.end),
            phase,
            tokens: some_tokens(if row.tokens > 0 { row.tokens.into() } else { in_parts }),
            tid: row.tid,
            failed: row.result != 0,
        }
    };
    trace.decodes.iter().map(call).collect()
}

fn some_tokens(tokens: u64) -> Option<u64> {
    Some(tokens).filter(|&tokens| tokens > 0)
}

fn of_phase(calls: &[Call], phase: Phase) -> impl Iterator<Item = &Call> {
    calls.iter().filter(move |call| call.phase == phase && !call.failed)
}

fn phase(calls: &[Call], phase: Phase) -> PhaseSummary {
    let count = of_phase(calls, phase).count() as u64;
    let nanos = of_phase(calls, phase).fold(0u64, |sum, call| sum.saturating_add(call.range.nanos()));
    let tokens: Option<u64> = of_phase(calls, phase).map(|call| call.tokens).sum();
    let tokens_per_second = tokens.filter(|_| nanos > 0).map(|tokens| tokens as f64 * 1e9 / nanos as f64);
    PhaseSummary { calls: count, tokens, tokens_per_second, ms: (count > 0).then_some(nanos as f64 / 1e6) }
}

fn decode(calls: &[Call]) -> DecodeSummary {
    let durations = of_phase(calls, Phase::Decode).map(|call| call.range.nanos()).collect();
    let mut ended: HashMap<u32, u64> = HashMap::new();
    let mut between = Vec::new();
    for call in calls {
        // Calls of other threads belong to other contexts, which run at once.
        let before = ended.insert(call.tid, call.range.end);
        if call.phase == Phase::Decode
            && !call.failed
            && let Some(before) = before
        {
            between.push(call.range.begin.saturating_sub(before));
        }
    }
    DecodeSummary {
        phase: phase(calls, Phase::Decode),
        tpot_ms: Spread::of(durations),
        between_ms: Spread::of(between),
        probe_ms_per_token: None,
        tokens_per_second_corrected: None,
    }
}

impl DecodeSummary {
    /// With what the probes cost, in all.
    fn corrected(mut self, probe_nanos: Option<u64>) -> Self {
        if let (Some(probes), Some(tokens), Some(ms)) = (probe_nanos, self.phase.tokens, self.phase.ms)
            && tokens > 0
        {
            let probes_ms = probes as f64 / 1e6;
            self.probe_ms_per_token = Some(probes_ms / tokens as f64);
            self.tokens_per_second_corrected =
                Some(ms - probes_ms).filter(|&ms| ms > 0.0).map(|ms| tokens as f64 * 1e3 / ms);
        }
        self
    }
}

impl Spread {
    fn of(mut nanos: Vec<u64>) -> Option<Self> {
        nanos.sort_unstable();
        let millis = |nanos: u64| nanos as f64 / 1e6;
        let sum: u128 = nanos.iter().map(|&nanos| u128::from(nanos)).sum();
        Some(Self {
            p50: millis(percentile(&nanos, 50)?),
            p95: millis(percentile(&nanos, 95)?),
            max: millis(*nanos.last()?),
            mean: sum as f64 / nanos.len() as f64 / 1e6,
            min: millis(*nanos.first()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(phase: Phase, begin: u64, end: u64, tokens: u64) -> Call {
        Call { range: TimeRange::new(begin, end), phase, tokens: some_tokens(tokens), tid: 1, failed: false }
    }

    #[test]
    fn speed_is_tokens_by_time_inside_calls() {
        let calls = [
            call(Phase::Prefill, 0, 50_000_000, 100),
            call(Phase::Decode, 60_000_000, 70_000_000, 1),
            call(Phase::Decode, 71_000_000, 101_000_000, 1),
        ];
        let prefill = phase(&calls, Phase::Prefill);
        assert_eq!((prefill.tokens, prefill.tokens_per_second), (Some(100), Some(2000.0)));
        let decode = decode(&calls);
        assert_eq!((decode.phase.tokens, decode.phase.tokens_per_second), (Some(2), Some(50.0)));
        let tpot = Spread { min: 10.0, p50: 10.0, p95: 30.0, max: 30.0, mean: 20.0 };
        assert_eq!(decode.tpot_ms, Some(tpot));
        let between = Spread { min: 1.0, p50: 1.0, p95: 10.0, max: 10.0, mean: 5.5 };
        assert_eq!(decode.between_ms, Some(between));
    }

    #[test]
    fn what_is_not_known_is_not_zero() {
        let none = phase(&[], Phase::Prefill);
        assert_eq!((none.calls, none.tokens, none.tokens_per_second, none.ms), (0, Some(0), None, None));
        let unknown = phase(&[call(Phase::Decode, 0, 10, 0)], Phase::Decode);
        assert_eq!((unknown.calls, unknown.tokens, unknown.tokens_per_second), (1, None, None));
        assert_eq!(decode(&[]).tpot_ms, None);
    }

    #[test]
    fn probe_cost_is_taken_off() {
        let calls = [call(Phase::Decode, 0, 11_000_000, 1), call(Phase::Decode, 20_000_000, 31_000_000, 1)];
        let raw = decode(&calls);
        let corrected = raw.clone().corrected(Some(2_000_000));
        assert_eq!(corrected.probe_ms_per_token, Some(1.0));
        assert_eq!(corrected.tokens_per_second_corrected, Some(100.0));
        assert_eq!(raw.clone().corrected(None), raw);
    }

    #[test]
    fn failed_calls_do_not_count_as_speed() {
        let failed = Call { failed: true, ..call(Phase::Decode, 0, 10_000_000, 1) };
        let calls = [failed, call(Phase::Decode, 20_000_000, 30_000_000, 1)];
        let decode = decode(&calls);
        assert_eq!((decode.phase.calls, decode.phase.tokens_per_second), (1, Some(100.0)));
    }
}
