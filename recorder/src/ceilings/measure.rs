//! Rates of several threads at once, over rounds.

use super::kernels::{self, Kernels, OPERAND_BYTES, PASSES, PRODUCTS};
use anyhow::{Context as _, Result};
use llmtrace_format::meta::{CeilingRate, Quantity};
use std::hint::black_box;
use std::sync::Barrier;
use std::time::Instant;

/// More than any last cache of today that one socket's threads share.
const BUFFER_BYTES: u64 = 1 << 30;
/// Nor may a small machine swap.
const PART_OF_MEMORY: u64 = 4;
/// About how long one round of dot products takes.
const ROUND_NANOS: f64 = 40e6;

/// Rates of everything, and the bytes that were read a round.
pub(super) fn rates(cpus: u32, rounds: u32) -> Result<(Vec<CeilingRate>, u64)> {
    let bytes =
        BUFFER_BYTES.min(super::store::memory_bytes().map_or(BUFFER_BYTES, |all| all / PART_OF_MEMORY));
    let words = (bytes / 8) as usize;
    let mut buffer = Vec::new();
    buffer.try_reserve_exact(words).context("no memory to measure with")?;
    // Different words: pages of zeros may all be one page.
    buffer.extend((0..words as u64).map(|n| n.wrapping_mul(0x9E37_79B9_7F4A_7C15)));
    let mut all = Vec::new();
    let found = kernels::found();
    let counts = counts(cpus);
    // Wider is not always faster.
    for &threads in &counts {
        let each = found.iter().map(|kernels| read(&buffer, *kernels, threads, rounds));
        all.extend(each.max_by_key(|rate| rate.median));
    }
    drop(buffer);
    for &threads in &counts {
        let each = found.iter().map(|kernels| f32_ops(*kernels, threads, rounds));
        all.extend(each.max_by_key(|rate| rate.median));
    }
    for &threads in &counts {
        let each = found.iter().filter_map(|kernels| int8_ops(kernels.int8?, threads, rounds));
        all.extend(each.max_by_key(|rate| rate.median));
    }
    Ok((all, bytes))
}

/// All numbers of threads on small machines; else each twice the one before.
fn counts(cpus: u32) -> Vec<u32> {
    let mut counts: Vec<u32> = (1..=cpus.min(8)).collect();
    let mut next = 16;
    while next < cpus {
        counts.push(next);
        next *= 2;
    }
    counts.push(cpus.max(1));
    counts.dedup();
    counts
}

fn read(buffer: &[u64], kernels: Kernels, threads: u32, rounds: u32) -> CeilingRate {
    let part = buffer.len().div_ceil(threads as usize).max(1);
    let parts: Vec<&[u64]> = buffer.chunks(part).collect();
    let bytes = buffer.len() as f64 * 8.0;
    let seconds = together(parts.len(), rounds, |thread| {
        if let Some(part) = parts.get(thread) {
            black_box((kernels.read)(black_box(part)));
        }
    });
    rate_of(Quantity::ReadBytes, threads, bytes, &seconds)
}

fn f32_ops(kernels: Kernels, threads: u32, rounds: u32) -> CeilingRate {
    let values: Vec<f32> = (0..OPERAND_BYTES / 2).map(|n| 1.0 + n as f32 / 4096.0).collect();
    let (first, _) = values.split_at(OPERAND_BYTES / 4);
    let once = || {
        black_box((kernels.f32)(black_box(first), black_box(&values)));
    };
    dot(Quantity::F32Ops, operations(first.len()), &once, threads, rounds)
}

fn int8_ops(kernel: fn(&[u8], &[u8]) -> i32, threads: u32, rounds: u32) -> Option<CeilingRate> {
    let values: Vec<u8> = (0..OPERAND_BYTES * 2).map(|n| (n % 127) as u8).collect();
    let (first, _) = values.split_at(OPERAND_BYTES);
    let once = || {
        black_box(kernel(black_box(first), black_box(&values)));
    };
    Some(dot(Quantity::Int8Ops, operations(first.len()), &once, threads, rounds))
}

/// Multiplications and additions of one call whose first operand has so many elements.
fn operations(elements: usize) -> f64 {
    (elements * PRODUCTS * PASSES * 2) as f64
}

/// As many calls as make a round, each with so many operations.
fn dot(
    quantity: Quantity,
    ops_a_call: f64,
    once: &(dyn Fn() + Sync),
    threads: u32,
    rounds: u32,
) -> CeilingRate {
    let many = |calls: u32| (0..calls).for_each(|_| once());
    let begin = Instant::now();
    many(1000);
    let each = begin.elapsed().as_nanos() as f64 / 1000.0;
    let calls = (ROUND_NANOS / each.max(1.0)) as u32;
    let seconds = together(threads as usize, rounds, |_| many(calls));
    rate_of(quantity, threads, ops_a_call * f64::from(calls) * f64::from(threads), &seconds)
}

/// Seconds of each round: from the moment that all threads are there until the last
/// one is done.
fn together(threads: usize, rounds: u32, work: impl Fn(usize) + Sync) -> Vec<f64> {
    let barrier = Barrier::new(threads);
    let run = |thread: usize| {
        let mut times = Vec::with_capacity(rounds as usize);
        // The first round warms up.
        for _ in 0..=rounds {
            barrier.wait();
            let begin = Instant::now();
            work(thread);
            times.push((begin, Instant::now()));
        }
        times
    };
    let all: Vec<Vec<(Instant, Instant)>> = std::thread::scope(|scope| {
        let run = &run;
        let handles: Vec<_> = (1..threads).map(|thread| scope.spawn(move || run(thread))).collect();
        let ours = run(0);
        handles.into_iter().filter_map(|handle| handle.join().ok()).chain([ours]).collect()
    });
    let round = |round: usize| {
        let times = || all.iter().filter_map(|times| times.get(round));
        let begin = times().map(|time| time.0).min();
        let end = times().map(|time| time.1).max();
        end.zip(begin).map(|(end, begin)| end.duration_since(begin).as_secs_f64())
    };
    (1..=rounds as usize).filter_map(round).collect()
}

fn rate_of(quantity: Quantity, threads: u32, amount: f64, seconds: &[f64]) -> CeilingRate {
    let mut rates: Vec<u64> = seconds.iter().map(|seconds| (amount / seconds.max(1e-9)) as u64).collect();
    rates.sort_unstable();
    let at = |index: usize| rates.get(index).copied().unwrap_or(0);
    CeilingRate {
        quantity,
        threads,
        rounds: rates.len() as u32,
        median: at(rates.len() / 2),
        lowest: at(0),
        highest: at(rates.len().saturating_sub(1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_threads_end_with_all_cpus() {
        assert_eq!(counts(1), [1]);
        assert_eq!(counts(4), [1, 2, 3, 4]);
        assert_eq!(counts(48), [1, 2, 3, 4, 5, 6, 7, 8, 16, 32, 48]);
        assert_eq!(counts(16).last(), Some(&16));
    }

    #[test]
    fn a_rate_is_amount_by_time_and_its_spread_that_of_the_rounds() {
        let rate = rate_of(Quantity::ReadBytes, 2, 100.0, &[0.5, 0.25, 1.0]);
        assert_eq!((rate.lowest, rate.median, rate.highest, rate.rounds), (100, 200, 400, 3));
    }

    #[test]
    fn all_threads_work_in_every_round() {
        let calls = std::sync::atomic::AtomicU32::new(0);
        let seconds = together(3, 4, |_| {
            calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        });
        assert_eq!((seconds.len(), calls.into_inner()), (4, 3 * 5));
    }
}
