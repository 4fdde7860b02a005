//! How many threads to use: from runs of the same model with different numbers of them.
//!
//! Each number of threads is set against the fewest: how much faster tokens, prompts and
//! operators get, how much of the threads' time is waiting, and how many bytes a second
//! the nodes move. The count to use is the smallest whose median is within
//! `CLOSE_ENOUGH` of the best.

use super::bootstrap::{self, Draws, FEWEST, ROUNDS, median, with_interval};
use super::run::{Calls, Run};
use crate::trace::LoadProgress;
use crate::{Phase, Trace, summary};
use llmtrace_format::Result;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// A count of threads is as good as the best when tokens take at most so much longer.
const CLOSE_ENOUGH: f64 = 0.02;
/// Bandwidth has reached its end where as many threads more bring less than this.
const SATURATED: f64 = 0.10;

/// Advice.
#[derive(Clone, Debug, Serialize)]
pub struct Advice {
    /// What to know before believing it.
    pub warnings: Vec<String>,
    /// Numbers of threads that were recorded, from the fewest.
    pub counts: Vec<Count>,
    /// Threads to generate with; `None` when fewer than two counts were recorded.
    pub decode_threads: Option<u32>,
    /// Threads to read prompts with.
    pub prefill_threads: Option<u32>,
    /// Threads from which on more bring no bandwidth; `None` when that was not seen.
    pub saturated_at: Option<u32>,
    /// Why.
    pub evidence: Vec<String>,
    /// Operators, the longest on the fewest threads first.
    pub operators: Vec<Scaling>,
}

/// All runs with one number of threads.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Count {
    /// Threads that computed graphs.
    pub threads: u32,
    /// Runs.
    pub runs: usize,
    /// Decode calls.
    pub calls: usize,
    /// Median milliseconds for each decoded token.
    pub ms_per_token: f64,
    /// Half the width of its 95 % interval; `None` when there is too little to tell.
    pub ms_half: Option<f64>,
    /// How many times faster than the fewest threads.
    pub speedup: f64,
    /// Prompt tokens a second; `None` without a prompt.
    pub prefill_tokens_per_second: Option<f64>,
    /// Waiting at barriers as part of the threads' time in nodes; `None` when not recorded.
    pub wait_share: Option<f64>,
    /// Bytes that the nodes of a token read and write, by shapes, over the time they take;
    /// `None` when not known.
    pub gigabytes_per_second: Option<f64>,
}

/// How one operator gets faster with threads.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scaling {
    /// Operator.
    pub op: String,
    /// Median wall milliseconds for each token, by count, in the order of `counts`;
    /// `None` where it was not seen.
    pub ms: Vec<Option<f64>>,
    /// How many times faster than on the fewest threads, in the same order.
    pub speedup: Vec<Option<f64>>,
}

/// Advises from runs of one model.
///
/// # Errors
/// [`llmtrace_format::Error::Cancelled`] when `progress` returned `false`.
pub fn advise(traces: &[Trace], progress: LoadProgress<'_>) -> Result<Advice> {
    let mut warnings = Vec::new();
    let mut by_threads: BTreeMap<u32, Vec<(&Trace, Run)>> = BTreeMap::new();
    let all: Vec<Calls> = traces.iter().map(|trace| Calls::of(trace, Phase::Decode)).collect();
    let count = all.iter().map(|calls| calls.calls.len()).filter(|&count| count > 0).min().unwrap_or(0);
    for (number, (trace, calls)) in traces.iter().zip(&all).enumerate() {
        if calls.calls.is_empty() {
            warnings.push(format!("run {} has no decode calls, and is left out", number + 1));
            continue;
        }
        let part = |part: f32| progress((number as f32 + part) / traces.len() as f32);
        let run = Run::read(trace, calls, count, None, &part)?;
        if run.threads == 0 {
            warnings
                .push(format!("run {} does not say how many threads computed, and is left out", number + 1));
            continue;
        }
        by_threads.entry(run.threads).or_default().push((trace, run));
    }
    warnings.extend(not_alike(&by_threads));
    let mut counts: Vec<Count> = by_threads.iter().map(|(threads, runs)| count_of(*threads, runs)).collect();
    let slowest = counts.first().map_or(0.0, |first| first.ms_per_token);
    for count in &mut counts {
        count.speedup = if count.ms_per_token > 0.0 { slowest / count.ms_per_token } else { 0.0 };
    }
    let operators = operators(&by_threads);
    let cpus = traces.iter().filter_map(|trace| Some(trace.file.recording.as_ref()?.host.cpus)).max();
    let (decode_threads, prefill_threads) = (best_decode(&counts), best_prefill(&counts));
    let saturated_at = saturated_at(&counts);
    let evidence = evidence(&counts, decode_threads, prefill_threads, saturated_at, cpus);
    if counts.len() < 2 {
        warnings.push("all runs have the same number of threads: record others to compare".to_owned());
    }
    Ok(Advice { warnings, counts, decode_threads, prefill_threads, saturated_at, evidence, operators })
}

fn not_alike(by_threads: &BTreeMap<u32, Vec<(&Trace, Run)>>) -> Vec<String> {
    let runs = || by_threads.values().flatten();
    let recording = |of: fn(&llmtrace_format::meta::Recording) -> String| -> BTreeSet<String> {
        runs().filter_map(|(trace, _)| trace.file.recording.as_ref()).map(of).collect()
    };
    let facts = [
        ("models", recording(|of| of.target.models.join(", "))),
        ("CPUs", recording(|of| of.host.cpu_model.clone())),
        ("hosts", recording(|of| of.host.name.clone())),
        ("levels", recording(|of| of.level.name().to_owned())),
    ];
    let differ = facts.into_iter().filter(|(_, values)| values.len() > 1);
    differ
        .map(|(what, values)| {
            let values: Vec<String> = values.into_iter().collect();
            format!("{what} differ ({}): scaling is mixed with that", values.join(", "))
        })
        .collect()
}

fn count_of(threads: u32, runs: &[(&Trace, Run)]) -> Count {
    let totals: Vec<&[f32]> = runs.iter().map(|(_, run)| run.totals.as_slice()).collect();
    let draws = Draws::new(&totals.iter().map(|run| run.len()).collect::<Vec<_>>(), ROUNDS, threads.into());
    let calls: usize = totals.iter().map(|run| run.len()).sum();
    let value = bootstrap::estimate(&totals, median);
    let resampled = if calls >= FEWEST { draws.resample(&totals, median) } else { Vec::new() };
    let found = with_interval(value, &resampled, [&draws, &draws]);
    let (mut tokens, mut ms) = (0u64, 0.0);
    for (trace, _) in runs {
        let prefill = summary::summary(trace).prefill;
        if let (Some(more), Some(time)) = (prefill.tokens, prefill.ms) {
            tokens += more;
            ms += time;
        }
    }
    let waits: Vec<&[f32]> = runs
        .iter()
        .filter(|(trace, run)| crate::stats::waits_known(trace) && run.sampled > 0)
        .map(|(_, run)| run.wait_shares.as_slice())
        .collect();
    let rates: Option<Vec<f64>> = runs.iter().map(|(_, run)| bandwidth(run)).collect();
    Count {
        threads,
        runs: runs.len(),
        calls,
        ms_per_token: value / 1e6,
        ms_half: found.half.map(|half| half / 1e6),
        speedup: 0.0,
        prefill_tokens_per_second: (tokens > 0 && ms > 0.0).then(|| tokens as f64 * 1e3 / ms),
        wait_share: (!waits.is_empty()).then(|| bootstrap::estimate(&waits, median)),
        gigabytes_per_second: rates
            .filter(|rates| !rates.is_empty())
            .map(|rates| rates.iter().sum::<f64>() / rates.len() as f64),
    }
}

/// Gigabytes a second over all nodes whose bytes are known, if these are nearly all.
fn bandwidth(run: &Run) -> Option<f64> {
    let (mut bytes, mut known, mut all) = (0.0, 0.0, 0.0);
    for node in run.nodes.values() {
        let nanos = median(&mut node.nanos.clone());
        all += nanos;
        if let Some(of) = node.bytes.filter(|_| nanos > 0.0) {
            bytes += of as f64;
            known += nanos;
        }
    }
    (known > 0.9 * all && known > 0.0).then(|| bytes / known)
}

fn operators(by_threads: &BTreeMap<u32, Vec<(&Trace, Run)>>) -> Vec<Scaling> {
    let mut by_op: BTreeMap<&str, Vec<Option<f64>>> = BTreeMap::new();
    for (at, runs) in by_threads.values().enumerate() {
        for (_, run) in runs {
            for (id, node) in &run.nodes {
                let times = by_op.entry(&id.op).or_insert_with(|| vec![None; by_threads.len()]);
                if let Some(time) = times.get_mut(at) {
                    let more = median(&mut node.nanos.clone()) / 1e6 / runs.len() as f64;
                    *time = Some(time.unwrap_or(0.0) + more);
                }
            }
        }
    }
    let mut all: Vec<Scaling> = by_op
        .into_iter()
        .map(|(op, ms)| {
            let first = ms.first().copied().flatten();
            let speedup = |time: &Option<f64>| Some(first? / (*time).filter(|time| *time > 0.0)?);
            Scaling { op: op.to_owned(), speedup: ms.iter().map(speedup).collect(), ms }
        })
        .collect();
    let first = |scaling: &Scaling| scaling.ms.iter().flatten().next().copied().unwrap_or(0.0);
    all.sort_by(|a, b| first(b).total_cmp(&first(a)).then_with(|| a.op.cmp(&b.op)));
    all
}

fn best_decode(counts: &[Count]) -> Option<u32> {
    let best = counts.iter().map(|count| count.ms_per_token).min_by(f64::total_cmp)?;
    let enough = |count: &&Count| count.ms_per_token <= best * (1.0 + CLOSE_ENOUGH);
    counts.iter().find(enough).filter(|_| counts.len() > 1).map(|count| count.threads)
}

fn best_prefill(counts: &[Count]) -> Option<u32> {
    let rate = |count: &Count| count.prefill_tokens_per_second;
    let best = counts.iter().filter_map(rate).max_by(f64::total_cmp)?;
    let enough = |count: &&Count| rate(count).is_some_and(|rate| rate >= best * (1.0 - CLOSE_ENOUGH));
    counts.iter().find(enough).filter(|_| counts.len() > 1).map(|count| count.threads)
}

/// The first count after which no other has much more bandwidth.
fn saturated_at(counts: &[Count]) -> Option<u32> {
    let rates: Vec<(u32, f64)> =
        counts.iter().filter_map(|count| Some((count.threads, count.gigabytes_per_second?))).collect();
    let last = rates.len().checked_sub(1)?;
    let enough = |(at, (_, rate)): &(usize, &(u32, f64))| {
        *at < last && rates.iter().skip(at + 1).all(|(_, more)| *more < rate * (1.0 + SATURATED))
    };
    rates.iter().enumerate().find(enough).map(|(_, (threads, _))| *threads)
}

fn evidence(
    counts: &[Count],
    decode: Option<u32>,
    prefill: Option<u32>,
    saturated: Option<u32>,
    cpus: Option<u32>,
) -> Vec<String> {
    let find = |threads: Option<u32>| counts.iter().find(|count| Some(count.threads) == threads);
    let mut all = Vec::new();
    if let (Some(chosen), Some(first)) = (find(decode), counts.first()) {
        let (threads, ms) = (chosen.threads, chosen.ms_per_token);
        all.push(format!(
            "generating: {ms:.2} ms a token on {threads}, {:.2} on {}",
            first.ms_per_token, first.threads
        ));
        for more in counts.iter().filter(|count| count.threads > threads) {
            let percent = (more.ms_per_token / ms - 1.0) * 100.0;
            all.push(format!("{} threads: {percent:+.1} % a token", more.threads));
        }
        let both = [chosen, first].map(|count| count.ms_half);
        if let [Some(a), Some(b)] = both
            && first.threads != threads
            && (first.ms_per_token - ms).abs() < (a * a + b * b).sqrt()
        {
            all.push(format!("{threads} against {} is within what chance does: record more", first.threads));
        }
        if let Some(share) = chosen.wait_share {
            all.push(format!("{:.0} % of the threads' time in nodes is waiting at barriers", share * 100.0));
        }
    }
    if let Some(chosen) = find(prefill).filter(|chosen| Some(chosen.threads) != decode)
        && let Some(rate) = chosen.prefill_tokens_per_second
    {
        all.push(format!("prompts: {rate:.0} tokens/s on {}, which is another count", chosen.threads));
    }
    if let Some(at) = find(saturated)
        && let Some(rate) = at.gigabytes_per_second
    {
        all.push(format!(
            "bandwidth ends at {rate:.1} GB/s with {}: more threads bring less than 10 %",
            at.threads
        ));
    }
    let most = counts.last().map_or(0, |count| count.threads);
    match cpus {
        Some(cpus) if most > cpus => {
            all.push(format!("{most} threads are more than the {cpus} CPUs: they take turns, and all wait"));
        }
        Some(cpus) if most < cpus => {
            all.push(format!("no run used more than {most} of the {cpus} CPUs: more may be faster still"));
        }
        _ => {}
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(all: &[(u32, f64, f64)]) -> Vec<Count> {
        let count = |&(threads, ms, rate): &(u32, f64, f64)| Count {
            threads,
            ms_per_token: ms,
            gigabytes_per_second: Some(rate),
            ..Count::default()
        };
        all.iter().map(count).collect()
    }

    #[test]
    fn the_smallest_of_equally_good_counts_is_advised() {
        let found = counts(&[(1, 40.0, 10.0), (2, 22.0, 18.0), (4, 15.0, 26.0), (8, 14.8, 26.4)]);
        assert_eq!((best_decode(&found), saturated_at(&found)), (Some(4), Some(4)));
        let slower = counts(&[(1, 20.0, 10.0), (2, 30.0, 6.0)]);
        assert_eq!((best_decode(&slower), saturated_at(&slower)), (Some(1), Some(1)));
        let rising = counts(&[(1, 40.0, 10.0), (2, 21.0, 19.0)]);
        assert_eq!((best_decode(&rising), saturated_at(&rising)), (Some(2), None));
        assert_eq!((best_decode(&counts(&[(2, 1.0, 1.0)])), saturated_at(&[])), (None, None));
    }
}
