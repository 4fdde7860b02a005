//! Where the time of requests went: each call's parts, shared among the sequences in its batch.
//!
//! ```text
//! calls          ├── prompt of 0 ──┤├─ 0 ─┤├── 0, prompt of 1 ──┤├─ 0, 1 ─┤
//! request 0      ├──── prompt ─────┤├─────────────── output ──────────────┤
//! request 1                                ├────── prompt ──────┤├─ output ┤
//! ```
//!
//! A call is shared by tokens: what one token costs in a batch of many is not measured. The time
//! before a call belongs to it, except before the first call of requests alone: nobody tells
//! whether the program waited for them. Shares, what is between requests, and calls of which the
//! sequences are not known add up to the parts of all calls, to the nanosecond.

use crate::attribution::{CallParts, Parts};
use crate::explain::parts_millis;
use crate::inference::{Request, SequenceKey};
use crate::{Nanos, Trace};
use llmtrace_format::constants::NONE;
use serde::Serialize;
use std::collections::{HashMap, HashSet};

/// One request.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Share {
    /// Which; with its times to first token and per token.
    #[serde(skip)]
    pub request: Request,
    /// Calls that computed it.
    pub calls: u64,
    /// Its tokens in them.
    pub tokens: u64,
    /// Its share of calls up to the one that gives its first output.
    #[serde(rename = "prompt_parts_ms", serialize_with = "parts_millis")]
    pub prompt: Parts,
    /// Its share of those after.
    #[serde(rename = "output_parts_ms", serialize_with = "parts_millis")]
    pub output: Parts,
}

/// All of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shares {
    /// Requests by begin.
    pub requests: Vec<Share>,
    /// Before calls with which all their requests began.
    pub between_requests: Parts,
    /// Calls of which not all tokens' sequences are known.
    pub unknown: Parts,
}

/// A request in a call.
struct InCall {
    request: usize,
    tokens: u64,
    begins: bool,
}

/// Shares calls among requests; `None` when sequences were not recorded.
pub fn shares(trace: &Trace, calls: &[CallParts]) -> Option<Shares> {
    if trace.inference.sequences.is_empty() {
        return None;
    }
    let around = trace.around();
    let empty = |request: &Request| Share {
        request: request.clone(),
        calls: 0,
        tokens: 0,
        prompt: Parts::default(),
        output: Parts::default(),
    };
    let mut all = Shares { requests: around.requests.iter().map(empty).collect(), ..Shares::default() };
    let by_call = by_call(trace);
    let unknown: HashSet<u32> = of_unknown(trace);
    for call in calls {
        let inside =
            call.decode.filter(|decode| !unknown.contains(decode)).and_then(|decode| by_call.get(&decode));
        let Some(inside) = inside else {
            all.unknown.add(&call.parts);
            continue;
        };
        let mut parts = call.parts;
        if inside.iter().all(|one| one.begins) {
            let between = std::mem::take(&mut parts.between_calls);
            let sampling = parts.sampling.as_mut().map(std::mem::take);
            all.between_requests.add(&Parts { between_calls: between, sampling, ..Parts::default() });
        }
        let weights: Vec<u64> = inside.iter().map(|one| one.tokens).collect();
        for (one, part) in inside.iter().zip(parts.shared(&weights)) {
            let Some(share) = all.requests.get_mut(one.request) else { continue };
            share.calls += 1;
            share.tokens = share.tokens.saturating_add(one.tokens);
            let first = share.request.first_output.filter(|_| share.request.whole);
            let in_output = !share.request.whole || first.is_some_and(|first| call.range.begin >= first);
            if in_output { &mut share.output } else { &mut share.prompt }.add(&part);
        }
    }
    Some(all)
}

/// Which requests each call has, by the id of its decode.
fn by_call(trace: &Trace) -> HashMap<u32, Vec<InCall>> {
    let around = trace.around();
    let mut of_sequence: HashMap<SequenceKey, Vec<(Nanos, usize)>> = HashMap::new();
    for (index, request) in around.requests.iter().enumerate() {
        of_sequence.entry(request.key).or_default().push((request.begin, index));
    }
    let mut calls: HashMap<u32, Vec<InCall>> = HashMap::new();
    for (key, steps) in &around.sequences {
        let begins = of_sequence.get(key).map_or(&[][..], Vec::as_slice);
        for step in steps.iter().filter(|step| step.decode != NONE) {
            let after = begins.partition_point(|(begin, _)| *begin <= step.range.begin);
            let Some(&(begin, request)) = after.checked_sub(1).and_then(|at| begins.get(at)) else {
                continue;
            };
            let inside = calls.entry(step.decode).or_default();
            let tokens = u64::from(step.tokens);
            match inside.iter_mut().find(|one| one.request == request) {
                Some(one) => one.tokens = one.tokens.saturating_add(tokens),
                None => inside.push(InCall { request, tokens, begins: begin == step.range.begin }),
            }
        }
    }
    calls
}

/// Calls that have tokens of unknown sequences.
fn of_unknown(trace: &Trace) -> HashSet<u32> {
    let mut known: HashMap<u32, u64> = HashMap::new();
    for run in trace.inference.sequences.iter().filter(|run| run.sequence != NONE) {
        *known.entry(run.ubatch).or_default() += u64::from(run.tokens);
    }
    let lacks = |row: &&llmtrace_format::tables::Ubatch| {
        known.get(&row.id).copied().unwrap_or(0) < u64::from(row.tokens)
    };
    trace.ubatches.iter().filter(lacks).map(|row| row.decode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::profile;
    use llmtrace_format::Source;

    #[test]
    fn shares_of_requests_add_up_to_all_calls() {
        for (name, requests) in [("gemma3-270m-server-1t", 7), ("gemma3-270m-2t", 1)] {
            let path = format!("{}/../sample-traces/{name}.llmtrace", env!("CARGO_MANIFEST_DIR"));
            let file = Source::from_file(std::fs::File::open(path).unwrap());
            let trace = Trace::open(file, &mut |_| true).unwrap();
            let calls = profile(&trace, &|_| true).unwrap().calls;
            let Some(found) = shares(&trace, &calls) else {
                assert!(trace.inference.sequences.is_empty(), "{name}");
                continue;
            };
            let mut whole = Parts::default();
            calls.iter().for_each(|call| whole.add(&call.parts));
            let mut sum = found.between_requests;
            sum.add(&found.unknown);
            for share in &found.requests {
                sum.add(&share.prompt);
                sum.add(&share.output);
            }
            assert_eq!(sum, whole, "{name}");
            let real = found.requests.iter().filter(|share| share.request.generated_tokens > Some(1));
            assert!(real.clone().count() >= requests, "{name}: {:?}", found.requests);
            for share in real {
                assert!(share.output.operators > 0 && share.calls > 0, "{share:?}");
            }
        }
    }

    #[test]
    fn pieces_of_parts_add_up_whatever_the_weights() {
        let parts = Parts { operators: 100, waits: 7, sampling: Some(5), ..Parts::default() };
        for weights in [&[1, 1, 1][..], &[0, 3], &[0, 0], &[u64::MAX, u64::MAX, 1]] {
            let mut sum = Parts::default();
            parts.shared(weights).iter().for_each(|piece| sum.add(piece));
            assert_eq!(sum, parts, "{weights:?}");
        }
        let [a, b] = parts.shared(&[1, 3])[..] else { panic!() };
        assert_eq!((a.operators, b.operators, a.copies), (25, 75, None));
    }
}
