//! How sure a difference is: block bootstrap, over runs where there are enough of them.
//!
//! Times of tokens one after the other are alike (frequency, neighbours, a growing
//! context), so a run is resampled in blocks of consecutive tokens, not token by token.
//! With three runs a side or more, runs are resampled first, and blocks in each: runs of
//! the same thing differ by more than their tokens tell. With fewer, that cannot be seen, and a
//! fixed spread of runs is added instead ([`RUN_SPREAD`]). The interval is the estimate
//! plus and minus t standard errors of the resampled estimates, with Student's t for as
//! many degrees of freedom as there are blocks (or runs) less two, so that few of them
//! make it wide. The seed is fixed: the same files give the same answer.

use super::run::windows;
use rayon::prelude::*;

/// Runs a side from which on runs are resampled.
pub(super) const RUNS_TO_RESAMPLE: usize = 3;
/// How much medians of runs of the same thing are taken to differ beyond what their own tokens
/// tell, as a standard deviation relative to them, where there are too few runs to see it: where
/// pages lie in memory, which CPUs threads get, what a host's other guests do. Measured; see
/// docs/cli.md.
pub(super) const RUN_SPREAD: f64 = 0.03;
/// Values a side below which nothing is said.
pub(super) const FEWEST: usize = 8;
/// Blocks of a run that are resampled. Few, so that they are long: neighbours in different
/// blocks are taken to be independent.
const BLOCKS: usize = 10;
/// Resampled estimates of the time of a call.
pub(super) const ROUNDS: usize = 500;
/// Resampled estimates of each node.
pub(super) const NODE_ROUNDS: usize = 200;

/// An estimated difference, in any unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Estimate {
    pub(super) value: f64,
    /// Half the width of the 95 % interval; `None` when there is too little to tell.
    pub(super) half: Option<f64>,
}

impl Estimate {
    /// Whether it is beyond what chance does to one of `many` differences.
    pub(super) fn is_significant(&self, many: bool) -> bool {
        // Four standard errors where there are hundreds to choose from.
        let factor = if many { 4.0 / 1.96 } else { 1.0 };
        self.half.is_some_and(|half| self.value.abs() > half * factor)
    }
}

/// For each round and drawn run: which run, and which of its values.
pub(super) struct Draws {
    rounds: Vec<Vec<(usize, Vec<u32>)>>,
    /// Blocks or runs that are resampled.
    units: usize,
}

impl Draws {
    /// Draws from runs with so many values each.
    pub(super) fn new(lengths: &[usize], rounds: usize, seed: u64) -> Self {
        let mut random = Random(seed ^ 0x9E37_79B9_7F4A_7C15);
        let over_runs = lengths.len() >= RUNS_TO_RESAMPLE;
        let blocks: Vec<_> = lengths.iter().map(|&length| windows(length, usize::MAX, BLOCKS)).collect();
        let one = |run: usize, random: &mut Random| {
            let mut drawn = Vec::with_capacity(lengths.get(run).copied().unwrap_or(0));
            if let Some(blocks) = blocks.get(run) {
                for _ in 0..blocks.len() {
                    let block = blocks.get(random.below(blocks.len())).cloned().unwrap_or(0..0);
                    drawn.extend(block.map(|index| index as u32));
                }
            }
            (run, drawn)
        };
        let mut round = || -> Vec<(usize, Vec<u32>)> {
            let runs = 0..lengths.len();
            runs.map(|run| one(if over_runs { random.below(lengths.len()) } else { run }, &mut random))
                .collect()
        };
        let rounds = (0..rounds).map(|_| round()).collect();
        let units = if over_runs { lengths.len() } else { blocks.iter().map(Vec::len).sum() };
        Self { rounds, units }
    }

    /// The mean over runs of a statistic of each, for all rounds.
    pub(super) fn resample(&self, runs: &[&[f32]], statistic: fn(&mut [f32]) -> f64) -> Vec<f64> {
        let mut values = Vec::new();
        let round = |round: &Vec<(usize, Vec<u32>)>| {
            let mut sum = 0.0;
            for (run, drawn) in round {
                let Some(run) = runs.get(*run) else { continue };
                values.clear();
                values.extend(drawn.iter().filter_map(|&index| run.get(index as usize)));
                sum += statistic(&mut values);
            }
            sum / round.len().max(1) as f64
        };
        self.rounds.iter().map(round).collect()
    }
}

/// The mean over runs of a statistic of each.
pub(super) fn estimate(runs: &[&[f32]], statistic: fn(&mut [f32]) -> f64) -> f64 {
    let each = runs.iter().map(|run| statistic(&mut run.to_vec()));
    each.sum::<f64>() / runs.len().max(1) as f64
}

/// An estimate with the interval that its resampled values give.
pub(super) fn with_interval(value: f64, resampled: &[f64], [a, b]: [&Draws; 2]) -> Estimate {
    let fewest = a.units.min(b.units);
    if fewest < 2 || resampled.len() < 2 {
        return Estimate { value, half: None };
    }
    let n = resampled.len() as f64;
    let mean = resampled.iter().sum::<f64>() / n;
    let variance = resampled.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / (n - 1.0);
    // Resampling k things understates the variance by (k - 1) / k.
    let variance = variance * fewest as f64 / (fewest as f64 - 1.0);
    let t = student(a.units + b.units - 2);
    Estimate { value, half: Some(t * variance.sqrt()) }
}

impl Estimate {
    /// Widened by how much runs are taken to differ, on sides that have too few to tell: each
    /// side with its estimate and number of runs.
    pub(super) fn across_runs(self, sides: [(f64, usize); 2]) -> Self {
        let variance = |(value, runs): (f64, usize)| match runs {
            RUNS_TO_RESAMPLE.. => 0.0,
            runs => (value * RUN_SPREAD).powi(2) / runs.max(1) as f64,
        };
        let more = student(usize::MAX) * sides.map(variance).iter().sum::<f64>().sqrt();
        Self { half: self.half.map(|half| half.hypot(more)), ..self }
    }
}

/// The 97.5th percentile of Student's t, by its expansion around the normal one.
fn student(freedom: usize) -> f64 {
    let (z, n) = (1.959_964_f64, freedom.max(1) as f64);
    let terms = [
        z,
        (z.powi(3) + z) / 4.0,
        (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / 96.0,
        (3.0 * z.powi(7) + 19.0 * z.powi(5) + 17.0 * z.powi(3) - 15.0 * z) / 384.0,
    ];
    terms.iter().rev().fold(0.0, |sum, term| sum / n + term)
}

/// The median; of an even number the mean of the middle two, 0 of none.
pub(super) fn median(values: &mut [f32]) -> f64 {
    let middle = values.len() / 2;
    if values.is_empty() {
        return 0.0;
    }
    let even = values.len().is_multiple_of(2);
    let (below, at, _) = values.select_nth_unstable_by(middle, f32::total_cmp);
    let upper = f64::from(*at);
    match below.iter().copied().max_by(f32::total_cmp) {
        Some(lower) if even => f64::midpoint(upper, f64::from(lower)),
        _ => upper,
    }
}

/// The mean, 0 of none.
pub(super) fn mean(values: &mut [f32]) -> f64 {
    values.iter().map(|&value| f64::from(value)).sum::<f64>() / values.len().max(1) as f64
}

/// Differences of medians (B less A) of many things at once, in nanoseconds: the estimate
/// and the resampled estimates of each.
pub(super) fn differences(things: &[[Vec<&[f32]>; 2]], [a, b]: [&Draws; 2]) -> Vec<(f64, f64, Vec<f64>)> {
    let one = |[in_a, in_b]: &[Vec<&[f32]>; 2]| {
        let resampled = a.resample(in_a, median).into_iter().zip(b.resample(in_b, median));
        (estimate(in_a, median), estimate(in_b, median), resampled.map(|(a, b)| b - a).collect())
    };
    things.par_iter().map(one).collect()
}

/// xorshift64*: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % limit.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values around 100 whose neighbours are alike.
    fn series(random: &mut Random, length: usize) -> Vec<f32> {
        let mut drift = 0.0f32;
        let mut noise = || random.below(2000) as f32 / 1000.0 - 1.0;
        (0..length)
            .map(|_| {
                drift = 0.8 * drift + noise();
                100.0 + drift + noise()
            })
            .collect()
    }

    fn interval(a: &[Vec<f32>], b: &[Vec<f32>], seed: u64) -> Estimate {
        let slices = |side: &[Vec<f32>]| side.iter().map(Vec::len).collect::<Vec<_>>();
        let draws = [Draws::new(&slices(a), 200, seed), Draws::new(&slices(b), 200, seed + 1)];
        let views = |side: &'_ [Vec<f32>]| -> Vec<Vec<f32>> { side.to_vec() };
        let (a, b) = (views(a), views(b));
        let refs = [a.iter().map(Vec::as_slice).collect(), b.iter().map(Vec::as_slice).collect()];
        let [(in_a, in_b, resampled)] = &differences(&[refs], [&draws[0], &draws[1]])[..] else { panic!() };
        with_interval(in_b - in_a, resampled, [&draws[0], &draws[1]])
    }

    #[test]
    fn about_one_in_twenty_intervals_of_alike_series_misses_zero() {
        let mut random = Random(7);
        let missed = (0..200)
            .filter(|&seed| {
                let (a, b) = (vec![series(&mut random, 300)], vec![series(&mut random, 300)]);
                interval(&a, &b, seed).is_significant(false)
            })
            .count();
        assert!((1..=18).contains(&missed), "{missed} of 200");
    }

    #[test]
    fn runs_that_differ_make_the_interval_wide_when_there_are_several() {
        let mut random = Random(9);
        let mut side = |shifts: [f32; 3]| -> Vec<Vec<f32>> {
            let run = |shift: &f32| series(&mut random, 300).iter().map(|value| value + shift).collect();
            shifts.iter().map(run).collect()
        };
        let (a, b) = (side([0.0, 3.0, 6.0]), side([2.0, 5.0, 8.0]));
        assert!(!interval(&a, &b, 1).is_significant(false));
        assert!(interval(&a[..1], &b[2..], 1).is_significant(false));
        let (a, b) = (side([0.0, 0.3, 0.6]), side([5.0, 5.3, 5.6]));
        let found = interval(&a, &b, 1);
        assert!(found.is_significant(true) && (found.value - 5.0).abs() < 0.5, "{found:?}");
    }

    #[test]
    fn too_few_runs_widen_the_interval_and_three_do_not() {
        let found = Estimate { value: 3.0, half: Some(1.0) };
        let half = |runs: [usize; 2]| found.across_runs(runs.map(|runs| (100.0, runs))).half.unwrap();
        let by = |variance: f64| 1.0f64.hypot(1.96 * 100.0 * RUN_SPREAD * variance.sqrt());
        assert!((half([1, 1]) - by(2.0)).abs() < 0.01 && (half([2, 1]) - by(1.5)).abs() < 0.01);
        assert!((half([3, 1]) - by(1.0)).abs() < 0.01);
        assert_eq!(half([3, 4]), 1.0);
        assert_eq!(Estimate { half: None, ..found }.across_runs([(1.0, 1); 2]).half, None);
    }

    #[test]
    fn medians_and_t() {
        assert_eq!(
            (median(&mut [3.0, 1.0, 2.0]), median(&mut [4.0, 1.0, 2.0, 3.0]), median(&mut [])),
            (2.0, 2.5, 0.0)
        );
        for (freedom, t) in [(4, 2.776), (10, 2.228), (38, 2.024), (1000, 1.962)] {
            assert!((student(freedom) - t).abs() < 0.01, "{freedom}: {}", student(freedom));
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_answer_and_too_little_gives_none() {
        let a = vec![series(&mut Random(3), 100)];
        let b = vec![series(&mut Random(4), 100)];
        assert_eq!(interval(&a, &b, 5), interval(&a, &b, 5));
        assert_eq!(interval(&[vec![1.0]], &[vec![2.0]], 5), Estimate { value: 1.0, half: None });
    }
}
