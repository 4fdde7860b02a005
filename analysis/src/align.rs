//! Two runs on one time axis: which token of one is which of the other, what times of B lie under
//! those of A, and how much longer each token took.
//!
//! ```text
//! A   │ d0 │ d1 │ d2 │          pairs: (begin of dn in A, begin of dn in B)
//! B   │ d0  │ d1  │ d2  │       offset: B − A, steady in a token, gliding to the next one's
//! ```

use crate::{Nanos, Phase, TimeRange, Token, Trace};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Part of the way to the next pair after which the offset glides to that of the next one, so that
/// moving about is smooth and the begin of a token in the middle fits exactly.
const STEADY: f64 = 0.75;
/// Pairs that are summed up together.
const CHUNK: usize = 64;

/// What is put under what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AlignBy {
    /// The nth decoded token of A over that of B; likewise prefills.
    #[default]
    Token,
    /// The first token of each phase.
    Phase,
    /// The begin of the recordings.
    Time,
    /// As the user put it.
    Hand,
}

impl AlignBy {
    /// All, with their names.
    pub const ALL: [(Self, &'static str); 4] =
        [(Self::Token, "token"), (Self::Phase, "phase"), (Self::Time, "time"), (Self::Hand, "hand")];
}

/// A token that both have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Phase.
    pub phase: Phase,
    /// Number among those of the phase, from 0.
    pub number: u32,
    /// When, in A.
    pub a: TimeRange,
    /// When, in B.
    pub b: TimeRange,
    /// Nanoseconds that B took longer; `None` when its batch has another number of tokens.
    pub longer: Option<i64>,
}

/// Tokens of the same phase and number, by begin in A.
pub fn pairs(a: &[Token], b: &[Token]) -> Vec<Pair> {
    let of_phase = |phase: Phase| b.iter().filter(move |token| token.phase == phase).collect::<Vec<_>>();
    let phases = [Phase::Unknown, Phase::Prefill, Phase::Decode, Phase::Encode];
    let by_phase = phases.map(|phase| (phase, of_phase(phase)));
    let pair = |token: &Token| {
        let (_, others) = by_phase.iter().find(|(phase, _)| *phase == token.phase)?;
        // Numbers go up from 0 without holes.
        let other = others.get(token.number as usize)?;
        let longer = i128::from(other.range.nanos()) - i128::from(token.range.nanos());
        Some(Pair {
            phase: token.phase,
            number: token.number,
            a: token.range,
            b: other.range,
            longer: (token.tokens == other.tokens).then(|| i64::try_from(longer).unwrap_or(0)),
        })
    };
    let mut found: Vec<Pair> = a.iter().filter_map(pair).collect();
    found.sort_by_key(|pair| pair.a.begin);
    found
}

/// What times of B lie under those of A.
#[derive(Clone, Debug, PartialEq)]
pub struct Alignment {
    /// Times that lie under each other, ascending on both sides; never empty.
    known: Vec<(Nanos, Nanos)>,
    /// Part of the way between two of them in which the offset stays.
    steady: f64,
}

impl Alignment {
    /// Of two traces whose tokens were paired. `offset` in nanoseconds is used when aligned by hand.
    pub fn new(a: &Trace, b: &Trace, pairs: &[Pair], by: AlignBy, offset: i64) -> Self {
        let begins = (a.range().begin, b.range().begin);
        match by {
            AlignBy::Token => Self::of(pairs.iter().map(|pair| (pair.a.begin, pair.b.begin)), begins, STEADY),
            AlignBy::Phase => {
                let first = |pair: &&Pair| pair.number == 0;
                let firsts = pairs.iter().filter(first).map(|pair| (pair.a.begin, pair.b.begin));
                Self::of(firsts, begins, 1.0)
            }
            AlignBy::Time => Self { known: vec![begins], steady: 1.0 },
            AlignBy::Hand => Self::steady(offset),
        }
    }

    /// B's times are `offset` nanoseconds later than A's.
    pub fn steady(offset: i64) -> Self {
        let known = if offset < 0 { (offset.unsigned_abs(), 0) } else { (0, offset.unsigned_abs()) };
        Self { known: vec![known], steady: 1.0 }
    }

    fn of(pairs: impl Iterator<Item = (Nanos, Nanos)>, begins: (Nanos, Nanos), steady: f64) -> Self {
        let mut known: Vec<(Nanos, Nanos)> = Vec::new();
        for (a, b) in pairs {
            // Requests may be served in another order; what would go back is left out.
            if known.last().is_none_or(|last| last.0 < a && last.1 < b) {
                known.push((a, b));
            }
        }
        if known.is_empty() {
            known.push(begins);
        }
        Self { known, steady }
    }

    /// Nanoseconds from a time in A to what lies under it in B.
    pub fn offset_at(&self, a: i64) -> i64 {
        let after = self.known.partition_point(|(at, _)| i64::try_from(*at).unwrap_or(i64::MAX) <= a);
        let offset = |index: usize| {
            self.known
                .get(index)
                .map_or(0, |(a, b)| i64::try_from(i128::from(*b) - i128::from(*a)).unwrap_or(0))
        };
        let Some(before) = after.checked_sub(1) else { return offset(0) };
        let (here, next) = (offset(before), offset(after));
        let Some(((from, _), (to, _))) = self.known.get(before).zip(self.known.get(after)) else {
            return here;
        };
        let way = (a as f64 - *from as f64) / (to - from) as f64;
        let glide = ((way - self.steady) / (1.0 - self.steady).max(f64::EPSILON)).clamp(0.0, 1.0);
        here.saturating_add((next.saturating_sub(here) as f64 * glide) as i64)
    }
}

/// How much longer tokens took in B, to be drawn at any scale.
#[derive(Clone, Debug, Default)]
pub struct Differences {
    /// The tokens that both have, by begin in A.
    pub pairs: Vec<Pair>,
    chunks: Vec<Sum>,
}

/// Several tokens together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// Tokens whose difference is known.
    pub known: u64,
    /// Nanoseconds that they took longer in B, together.
    pub nanos: i64,
    /// The least difference of one.
    pub least: i64,
    /// The greatest.
    pub most: i64,
}

impl Sum {
    fn add(&mut self, other: Self) {
        if other.known == 0 {
            return;
        }
        let ends = if self.known == 0 { (other.least, other.most) } else { (self.least, self.most) };
        (self.least, self.most) = (ends.0.min(other.least), ends.1.max(other.most));
        self.known += other.known;
        self.nanos = self.nanos.saturating_add(other.nanos);
    }

    fn of(pair: &Pair) -> Self {
        pair.longer.map_or_else(Self::default, |nanos| Self { known: 1, nanos, least: nanos, most: nanos })
    }

    /// Nanoseconds that one takes longer on average; `None` when none is known.
    pub fn mean(&self) -> Option<f64> {
        (self.known > 0).then(|| self.nanos as f64 / self.known as f64)
    }
}

/// One bar of the difference lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// From the first token's begin to the last one's end, in A.
    pub range: TimeRange,
    /// The tokens, as indexes into [`Differences::pairs`].
    pub tokens: Range<usize>,
    /// How much longer they took.
    pub sum: Sum,
}

impl Differences {
    /// Of tokens that were paired.
    pub fn new(pairs: Vec<Pair>) -> Self {
        let sum = |pairs: &[Pair]| {
            let mut sum = Sum::default();
            pairs.iter().for_each(|pair| sum.add(Sum::of(pair)));
            sum
        };
        let chunks = pairs.chunks(CHUNK).map(sum).collect();
        Self { pairs, chunks }
    }

    /// Tokens together, by their indexes.
    pub fn sum(&self, tokens: Range<usize>) -> Sum {
        let mut sum = Sum::default();
        let mut at = tokens.start;
        while at < tokens.end.min(self.pairs.len()) {
            if at.is_multiple_of(CHUNK) && at + CHUNK <= tokens.end {
                self.chunks.get(at / CHUNK).into_iter().for_each(|chunk| sum.add(*chunk));
                at += CHUNK;
            } else {
                self.pairs.get(at).into_iter().for_each(|pair| sum.add(Sum::of(pair)));
                at += 1;
            }
        }
        sum
    }

    /// The bars of a window of A: tokens shorter than `min_nanos` are taken together.
    pub fn columns(&self, window: TimeRange, min_nanos: u64) -> Vec<Column> {
        let mut found = Vec::new();
        let mut at = self.pairs.partition_point(|pair| pair.a.begin < window.begin).saturating_sub(1);
        while let Some(first) = self.pairs.get(at).filter(|pair| pair.a.begin < window.end) {
            let stop = first.a.begin.saturating_add(min_nanos);
            let end = match first.a.end < stop {
                false => at + 1,
                true => {
                    at + 1 + self.pairs.get(at + 1..).unwrap_or_default().partition_point(|p| p.a.end <= stop)
                }
            };
            let last = self.pairs.get(end - 1).unwrap_or(first);
            if last.a.end >= window.begin {
                let range = TimeRange::new(first.a.begin, last.a.end.max(first.a.end));
                found.push(Column { range, tokens: at..end, sum: self.sum(at..end) });
            }
            at = end;
        }
        found
    }

    /// The token at a time in A, or near it.
    pub fn at(&self, a: Nanos, slack: u64) -> Option<usize> {
        let after = self.pairs.partition_point(|pair| pair.a.begin <= a.saturating_add(slack));
        let at = after.checked_sub(1)?;
        self.pairs.get(at).filter(|pair| a < pair.a.end.saturating_add(slack)).map(|_| at)
    }

    /// The token during which a time in B lies.
    pub fn at_in_b(&self, b: Nanos) -> Option<usize> {
        self.pairs.iter().position(|pair| pair.b.contains(b))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(lengths: &[u64], phase: Phase, from: u64) -> Vec<Token> {
        let mut begin = from;
        let token = |(number, length): (u32, &u64)| {
            let range = TimeRange::new(begin, begin + length);
            begin += length + 10;
            Token { range, phase, tokens: 1, number, ubatch: number }
        };
        (0..).zip(lengths).map(token).collect()
    }

    fn alignment(pairs: &[Pair], steady: f64) -> Alignment {
        Alignment::of(pairs.iter().map(|pair| (pair.a.begin, pair.b.begin)), (0, 0), steady)
    }

    #[test]
    fn the_begin_of_every_token_fits_and_moving_is_smooth() {
        let a = tokens(&[100, 100, 100, 100], Phase::Decode, 1000);
        let b = tokens(&[150, 90, 400, 100, 100], Phase::Decode, 50);
        let pairs = pairs(&a, &b);
        assert_eq!(pairs.iter().map(|pair| pair.longer).collect::<Vec<_>>(), [50, -10, 300, 0].map(Some));
        let alignment = alignment(&pairs, STEADY);
        for pair in &pairs {
            let offset = pair.b.begin as i64 - pair.a.begin as i64;
            assert_eq!(alignment.offset_at(pair.a.begin as i64), offset);
            // Through most of the token.
            assert_eq!(alignment.offset_at(pair.a.begin as i64 + 70), offset);
        }
        let offsets: Vec<i64> = (900..1600).map(|time| alignment.offset_at(time)).collect();
        assert!(offsets.windows(2).all(|pair| (pair[1] - pair[0]).abs() <= 12), "{offsets:?}");
        assert_eq!(alignment.offset_at(i64::MIN), -950);
        assert_eq!(alignment.offset_at(i64::MAX), pairs[3].b.begin as i64 - pairs[3].a.begin as i64);
    }

    #[test]
    fn what_goes_back_in_time_or_has_another_batch_is_left_out() {
        let a = [tokens(&[100, 100], Phase::Prefill, 0), tokens(&[10, 10], Phase::Decode, 1000)].concat();
        let mut b = [tokens(&[10, 10], Phase::Decode, 0), tokens(&[100], Phase::Prefill, 500)].concat();
        b[2].tokens = 64;
        let pairs = pairs(&a, &b);
        assert_eq!(pairs.len(), 3, "A's second prefill has nothing to go with");
        assert_eq!(pairs[0].longer, None);
        let alignment = alignment(&pairs, 1.0);
        assert_eq!(alignment.known, [(0, 500)]);
        assert_eq!(alignment.offset_at(1010), 500);
        assert_eq!(Alignment::of(std::iter::empty(), (7, 9), 1.0).offset_at(3), 2);
        assert_eq!(Alignment::steady(-40).offset_at(123), -40);
    }

    #[test]
    fn columns_are_those_of_a_slow_obvious_sum_and_few() {
        let mut seed = 7u64;
        let mut next = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            50 + (seed >> 33) % 100
        };
        let lengths: Vec<u64> = (0..5000).map(|_| next()).collect();
        let others: Vec<u64> = (0..4900).map(|_| next()).collect();
        let differences =
            Differences::new(pairs(&tokens(&lengths, Phase::Decode, 0), &tokens(&others, Phase::Decode, 0)));
        for (window, min) in [(TimeRange::new(0, 600_000), 3000), (TimeRange::new(777, 9000), 40)] {
            let columns = differences.columns(window, min);
            assert!(columns.len() as u64 <= 2 * window.nanos() / min + 2, "{}", columns.len());
            let mut at = columns[0].tokens.start;
            for column in &columns {
                assert_eq!(column.tokens.start, at, "none is left out");
                at = column.tokens.end;
                let each: Vec<i64> =
                    differences.pairs[column.tokens.clone()].iter().filter_map(|pair| pair.longer).collect();
                assert_eq!(column.sum.nanos, each.iter().sum::<i64>());
                assert_eq!(Some(&column.sum.most), each.iter().max());
                assert_eq!(Some(&column.sum.least), each.iter().min());
                assert_eq!(column.sum.known as usize, each.len());
            }
        }
        let pair = differences.pairs[17];
        assert_eq!(differences.at(pair.a.begin + 3, 0), Some(17));
        assert_eq!(differences.at_in_b(pair.b.begin + 3), Some(17));
    }
}
