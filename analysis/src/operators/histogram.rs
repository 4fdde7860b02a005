//! Counts of durations in steps that grow with the duration: of any number of executions a few
//! hundred numbers, which add up.

/// Bits of a duration that a step keeps: 32 steps between a power of two and the next, so that
/// a step is at most 3.2 % of what is in it.
const BITS: u32 = 5;

/// How many durations lie in each step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// The step of the first count.
    first: u16,
    counts: Vec<u32>,
    total: u64,
}

/// The step that a duration lies in.
fn step_of(nanos: u64) -> u16 {
    let above = (u64::BITS - nanos.leading_zeros()).saturating_sub(BITS + 1);
    (above as u16) * (1 << BITS) + (nanos >> above) as u16
}

/// The shortest duration of a step.
fn begin_of(step: u16) -> u64 {
    let steps = 1u16 << BITS;
    let above = u32::from((step / steps).saturating_sub(1));
    u64::try_from(u128::from(step - above as u16 * steps) << above).unwrap_or(u64::MAX)
}

impl Histogram {
    /// Counts a duration.
    pub fn add(&mut self, nanos: u64) {
        self.add_at(step_of(nanos), 1);
    }

    fn add_at(&mut self, step: u16, count: u32) {
        self.total = self.total.saturating_add(u64::from(count));
        if self.counts.is_empty() {
            self.first = step;
        }
        if step < self.first {
            let more = usize::from(self.first - step);
            self.counts.splice(0..0, std::iter::repeat_n(0, more));
            self.first = step;
        }
        let at = usize::from(step - self.first);
        if self.counts.len() <= at {
            self.counts.resize(at + 1, 0);
        }
        if let Some(known) = self.counts.get_mut(at) {
            *known = known.saturating_add(count);
        }
    }

    /// Counts all of another one.
    pub fn merge(&mut self, other: &Self) {
        for (step, count) in (other.first..).zip(&other.counts).filter(|(_, count)| **count > 0) {
            self.add_at(step, *count);
        }
    }

    /// Durations counted.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The steps that are not empty: shortest duration, first one above it, count.
    pub fn steps(&self) -> impl Iterator<Item = (u64, u64, u64)> {
        let steps = (self.first..).zip(&self.counts).filter(|(_, count)| **count > 0);
        steps.map(|(step, count)| (begin_of(step), begin_of(step + 1), u64::from(*count)))
    }

    /// About the `percent` percentile: the middle of the step in which the nearest rank lies, at
    /// most 1.6 % from it. `None` when nothing was counted.
    pub fn percentile(&self, percent: f64) -> Option<u64> {
        let rank = ((self.total as f64 * percent / 100.0).ceil() as u64).clamp(1, self.total.max(1));
        let mut seen = 0;
        self.steps().find_map(|(begin, end, count)| {
            seen += count;
            (seen >= rank).then_some(begin + (end - begin) / 2)
        })
    }

    /// Counts in `bars` steps of equal ratio from the shortest to the longest: a small picture.
    pub fn picture(&self, bars: usize) -> Vec<u64> {
        let mut picture = vec![0; bars];
        let len = self.counts.len().max(1);
        for (at, count) in self.counts.iter().enumerate() {
            if let Some(bar) = picture.get_mut(at * bars / len) {
                *bar += u64::from(*count);
            }
        }
        picture
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_cover_every_duration_and_are_narrow() {
        let mut previous = None;
        for nanos in (0..70_000).chain([1 << 40, u64::MAX / 2, u64::MAX - 1]) {
            let step = step_of(nanos);
            let (begin, end) = (begin_of(step), begin_of(step + 1));
            assert!(begin <= nanos && nanos < end, "{nanos}: {begin}..{end}");
            assert!((end - begin) as f64 <= (begin as f64 * 0.032).max(1.0), "{nanos}: {begin}..{end}");
            assert!(previous.is_none_or(|previous| step >= previous));
            previous = Some(step);
        }
    }

    #[test]
    fn parts_add_up_to_the_whole() {
        let (mut whole, mut a, mut b) = (Histogram::default(), Histogram::default(), Histogram::default());
        let mut values = Vec::new();
        let mut state = 7u64;
        for index in 0..5000 {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let nanos = (state >> 33) % 100_000;
            values.push(nanos);
            whole.add(nanos);
            if index % 3 == 0 { a.add(nanos) } else { b.add(nanos) }
        }
        a.merge(&b);
        assert_eq!(a, whole);
        assert_eq!(whole.total(), 5000);
        assert_eq!(whole.picture(12).iter().sum::<u64>(), 5000);
        values.sort_unstable();
        for percent in [1.0, 50.0, 90.0, 99.0, 99.9] {
            let exact = values[((values.len() as f64 * percent / 100.0).ceil() as usize).max(1) - 1];
            let about = whole.percentile(percent).unwrap();
            assert!(about.abs_diff(exact) as f64 <= exact as f64 * 0.017 + 1.0, "{about} {exact}");
        }
        assert_eq!(Histogram::default().percentile(50.0), None);
    }
}
