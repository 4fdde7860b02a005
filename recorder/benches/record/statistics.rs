//! Medians and their confidence.

/// Enough for the second digit of an interval.
const RESAMPLES: usize = 4000;

/// A statistic with its 95 % confidence interval.
#[derive(Clone, Copy)]
pub(crate) struct Estimate {
    pub(crate) value: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Estimate {
    /// `value (low … high)` with so many decimals.
    pub(crate) fn text(self, decimals: usize, unit: &str) -> String {
        let Self { value, low, high } = self;
        format!("{value:.decimals$} {unit} ({low:.decimals$} … {high:.decimals$})")
    }

    pub(crate) fn map(self, scale: impl Fn(f64) -> f64) -> Self {
        Self { value: scale(self.value), low: scale(self.low), high: scale(self.high) }
    }
}

/// The median of the values, by percentile bootstrap.
pub(crate) fn median(values: &[f64]) -> Estimate {
    bootstrap(values.len(), |rounds| median_of(rounds.iter().filter_map(|round| values.get(*round).copied())))
}

/// The mean of the values.
pub(crate) fn mean(values: &[f64]) -> Estimate {
    bootstrap(values.len(), |rounds| {
        rounds.iter().filter_map(|round| values.get(*round)).sum::<f64>() / rounds.len() as f64
    })
}

/// The median of one figure divided by that of another, measured in the same rounds.
pub(crate) fn ratio_of_medians(over: &[f64], under: &[f64]) -> Estimate {
    let median = |values: &[f64], rounds: &[usize]| {
        median_of(rounds.iter().filter_map(|round| values.get(*round).copied()))
    };
    bootstrap(over.len(), |rounds| median(over, rounds) / median(under, rounds))
}

/// `statistic` of rounds 0 … `count`, and how it varies when rounds are drawn anew.
fn bootstrap(count: usize, statistic: impl Fn(&[usize]) -> f64) -> Estimate {
    let all: Vec<usize> = (0..count).collect();
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let mut drawn: Vec<f64> = (0..RESAMPLES)
        .map(|_| statistic(&all.iter().map(|_| random.below(count)).collect::<Vec<_>>()))
        .collect();
    drawn.sort_by(f64::total_cmp);
    let at = |share: f64| drawn.get((share * RESAMPLES as f64) as usize).copied().unwrap_or(f64::NAN);
    Estimate { value: statistic(&all), low: at(0.025), high: at(0.975) }
}

pub(crate) fn median_of(values: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
    (at(sorted.len().saturating_sub(1) / 2) + at(sorted.len() / 2)) / 2.0
}

/// xorshift64*: the same draws every time.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % limit
    }
}
