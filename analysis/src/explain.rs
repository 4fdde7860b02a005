//! Answers: what limits the run, where each token's time goes, and what to try.

use crate::attribution::{CallParts, Parts, Preempted};
use crate::ceilings::Roofs;
use crate::findings::{Finding, findings};
use crate::profile::{Profile, profile};
use crate::shares::{Shares, shares};
use crate::trace::LoadProgress;
use crate::verdict::{self, Verdict};
use crate::{Phase, Trace};
use llmtrace_format::Result;
use serde::{Serialize, Serializer};

/// The answers.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// Sums that all else comes from.
    pub profile: Profile,
    /// What the host can do; without ceilings in the trace nothing is known.
    pub roofs: Roofs,
    /// What limits all calls together.
    pub run: Verdict,
    /// Each phase that occurred, the longest first.
    pub phases: Vec<PhaseAnswer>,
    /// Where the time of requests went; `None` when sequences were not recorded.
    pub requests: Option<Shares>,
    /// The dearest first.
    pub findings: Vec<Finding>,
}

/// One phase.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PhaseAnswer {
    /// Which.
    #[serde(serialize_with = "phase_name")]
    pub phase: Phase,
    /// Calls.
    pub calls: u64,
    /// Tokens in their batches; `None` when the build does not tell.
    pub tokens: Option<u64>,
    /// Where their time went.
    #[serde(rename = "parts_ms", serialize_with = "parts_millis")]
    pub parts: Parts,
    /// What of it threads could run, but had no CPU; `None` when their states were not recorded.
    #[serde(rename = "preempted_ms", serialize_with = "preempted_millis")]
    pub preempted: Option<Preempted>,
    /// Part of the wall time inside the calls that no event explains, from 0 to 1.
    pub unattributed_share: f64,
    /// What limits it.
    pub verdict: Verdict,
}

/// Explains a trace: one way through all op spans.
///
/// # Errors
/// [`llmtrace_format::Error::Cancelled`] when `progress` returned `false`.
pub fn explain(trace: &Trace, progress: LoadProgress<'_>) -> Result<Explanation> {
    let profile = profile(trace, progress)?;
    let threads = profile.threads.max(1);
    let roofs = Roofs::of(trace, threads);
    let phase = |phase: Phase| {
        let calls: Vec<&CallParts> = profile.calls.iter().filter(|call| call.phase == phase).collect();
        let mut parts = Parts::default();
        calls.iter().for_each(|call| parts.add(&call.parts));
        let inside = parts.wall() - parts.between_calls;
        let preempted = trace.machine.has_states.then(|| {
            let mut all = Preempted::default();
            calls.iter().filter_map(|call| call.preempted).for_each(|lost| all.add(&lost));
            all
        });
        (!calls.is_empty()).then(|| PhaseAnswer {
            phase,
            calls: calls.len() as u64,
            tokens: calls.iter().map(|call| call.tokens).sum(),
            parts,
            preempted,
            unattributed_share: crate::stats::ratio(parts.unattributed, inside),
            verdict: verdict::of_phase(trace, &profile, &roofs, Some(phase)),
        })
    };
    let mut phases: Vec<PhaseAnswer> = [Phase::Prefill, Phase::Decode, Phase::Encode, Phase::Unknown]
        .into_iter()
        .filter_map(phase)
        .collect();
    phases.sort_by_key(|answer| std::cmp::Reverse(answer.parts.wall() - answer.parts.between_calls));
    let run = verdict::of_phase(trace, &profile, &roofs, None);
    let findings = findings(trace, &profile, &roofs);
    let requests = shares(trace, &profile.calls);
    Ok(Explanation { profile, roofs, run, phases, requests, findings })
}

fn phase_name<S: Serializer>(phase: &Phase, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.serialize_str(phase.name())
}

fn preempted_millis<S: Serializer>(
    lost: &Option<Preempted>,
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    lost.map(|lost| lost.nanos() as f64 / 1e6).serialize(serializer)
}

/// Milliseconds of each part by its name with underscores.
pub(crate) fn parts_millis<S: Serializer>(
    parts: &Parts,
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    let millis = |nanos: u64| nanos as f64 / 1e6;
    let named = parts.named().map(|(name, nanos)| (name.replace(' ', "_"), nanos.map(millis)));
    serializer.collect_map(named)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::Bound;
    use llmtrace_format::Source;

    fn sample(name: &str) -> Trace {
        let path = format!("{}/../sample-traces/{name}.llmtrace", env!("CARGO_MANIFEST_DIR"));
        Trace::open(Source::from_file(std::fs::File::open(path).unwrap()), &mut |_| true).unwrap()
    }

    #[test]
    fn parts_of_every_call_add_up_and_hardly_anything_is_unattributed() {
        let samples = [
            ("gemma3-270m-1t", 73, false),
            ("gemma3-270m-2t", 73, false),
            ("qwen3moe-synthetic-2t", 73, true),
            ("gemma3-270m-server-1t", 52, true),
        ];
        for (name, calls, sampled) in samples {
            let trace = sample(name);
            let found = explain(&trace, &|_| true).unwrap();
            assert_eq!(found.profile.calls.len(), calls, "{name}");
            let sampling: u64 = found.profile.calls.iter().filter_map(|call| call.parts.sampling).sum();
            assert_eq!(sampling > 0, sampled, "{name}: {sampling}");
            for call in &found.profile.calls {
                let before = call.parts.between_calls + call.parts.sampling.unwrap_or(0);
                let wall = call.range.nanos() + before;
                assert_eq!(call.parts.wall(), wall, "{name}");
            }
            let decode = found.phases.iter().find(|answer| answer.phase == Phase::Decode).unwrap();
            assert!(decode.unattributed_share <= 0.005, "{name}: {}", decode.unattributed_share);
            assert!(decode.parts.operators > decode.parts.wall() / 2, "{name}: {:?}", decode.parts);
        }
    }

    #[test]
    fn sums_are_those_of_the_file() {
        let trace = sample("gemma3-270m-2t");
        let found = explain(&trace, &|_| true).unwrap();
        trace.load_nodes(&|_| true).unwrap();
        let nodes = trace.nodes().unwrap();
        let sum = |of: fn(&crate::totals::Node) -> u64| nodes.iter().map(of).sum::<u64>();
        let mine = |of: fn(&crate::profile::NodeSums) -> u64| {
            found.profile.nodes.iter().map(|node| of(&node.sums)).sum::<u64>()
        };
        assert_eq!(mine(|sums| sums.count), sum(|node| node.count));
        assert_eq!(mine(|sums| sums.compute), sum(|node| node.compute));
        assert_eq!(mine(|sums| sums.wall), sum(|node| node.critical));
    }

    #[test]
    fn without_ceilings_a_verdict_says_what_it_misses() {
        let found = explain(&sample("gemma3-270m-1t"), &|_| true).unwrap();
        let decode = found.phases.iter().find(|answer| answer.phase == Phase::Decode).unwrap();
        assert_eq!(decode.verdict.bound, Bound::Memory, "{:?}", decode.verdict);
        assert!(decode.verdict.missing.iter().any(|missing| missing.contains("calibrate")));
        assert!(decode.verdict.confidence < crate::verdict::Confidence::High);
    }

    #[test]
    fn cancelling_ends_it() {
        let cancelled = explain(&sample("gemma3-270m-1t"), &|_| false);
        assert!(matches!(cancelled, Err(llmtrace_format::Error::Cancelled)));
    }
}
