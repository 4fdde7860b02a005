//! Percentiles of durations, by nearest rank: each is a duration that occurred.

use super::micros;
use serde::Serialize;

/// A set of durations in a few numbers; all zero for an empty set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Durations {
    /// Sum divided by number, rounded down.
    #[serde(rename = "mean_us", serialize_with = "micros")]
    pub mean_nanos: u64,
    /// Half are at most this long.
    #[serde(rename = "median_us", serialize_with = "micros")]
    pub median_nanos: u64,
    /// One in twenty is at most this long.
    #[serde(rename = "p5_us", serialize_with = "micros")]
    pub p5_nanos: u64,
    /// Nineteen in twenty are at most this long.
    #[serde(rename = "p95_us", serialize_with = "micros")]
    pub p95_nanos: u64,
    /// All but one in a hundred are at most this long.
    #[serde(rename = "p99_us", serialize_with = "micros")]
    pub p99_nanos: u64,
    /// The longest.
    #[serde(rename = "max_us", serialize_with = "micros")]
    pub max_nanos: u64,
}

impl Durations {
    /// Summarises `values`, whose order it changes.
    pub fn of(values: &mut [u64]) -> Self {
        let Some(&max_nanos) = values.iter().max() else { return Self::default() };
        let sum: u128 = values.iter().map(|&value| u128::from(value)).sum();
        let mean_nanos = (sum / values.len() as u128) as u64;
        // From the highest down: each selection leaves all lower values, and
        // only those, in front of it.
        let len = values.len();
        let [mut p99_nanos, mut p95_nanos, mut median_nanos, mut p5_nanos] = [max_nanos; 4];
        let mut below = values;
        for (percent, result) in
            [(99, &mut p99_nanos), (95, &mut p95_nanos), (50, &mut median_nanos), (5, &mut p5_nanos)]
        {
            let rank = rank(len, percent).min(below.len() - 1);
            *result = *below.select_nth_unstable(rank).1;
            below = below.get_mut(..=rank).unwrap_or_default();
        }
        Self { mean_nanos, median_nanos, p5_nanos, p95_nanos, p99_nanos, max_nanos }
    }
}

/// Index of the nearest rank among `len` sorted values.
fn rank(len: usize, percent: u32) -> usize {
    (len.saturating_mul(percent as usize).div_ceil(100)).saturating_sub(1)
}

/// The `percent` percentile of sorted values: the smallest that is no less
/// than `percent` of a hundred of them.
pub fn percentile(sorted: &[u64], percent: u32) -> Option<u64> {
    sorted.get(rank(sorted.len(), percent)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_equal_those_of_the_sorted_list() {
        let mut state = 1u64;
        for len in (1..250).chain([1000, 4097]) {
            let mut values: Vec<u64> = (0..len)
                .map(|_| {
                    state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    (state >> 33) % 500
                })
                .collect();
            let mut sorted = values.clone();
            sorted.sort_unstable();
            let slow = |percent: f64| sorted[((len as f64 * percent / 100.0).ceil() as usize).max(1) - 1];
            let durations = Durations::of(&mut values);
            assert_eq!(durations.p5_nanos, slow(5.0), "{len}");
            assert_eq!(durations.median_nanos, slow(50.0), "{len}");
            assert_eq!(durations.p95_nanos, slow(95.0), "{len}");
            assert_eq!(durations.p99_nanos, slow(99.0), "{len}");
            assert_eq!(Some(&durations.max_nanos), sorted.last());
            assert_eq!(durations.mean_nanos, sorted.iter().sum::<u64>() / len as u64);
            assert_eq!(percentile(&sorted, 95), Some(durations.p95_nanos));
        }
    }

    #[test]
    fn an_empty_set_has_no_durations() {
        assert_eq!(Durations::of(&mut []), Durations::default());
        assert_eq!(percentile(&[], 50), None);
    }
}
