//! A lane's time cut into buckets of equal length, a power of two of nanoseconds.
//!
//! Built as spans arrive: the buckets double whenever there would be more than a
//! limit, so that memory is bounded however long a lane is. What finer buckets
//! say, coarser ones say too: [`BucketBuilder::merge`] adds those of a segment
//! to those of the whole lane.

use crate::OpSpan;
use crate::meta::StrId;

/// Longest bucket: half of all times.
const MAX_SHIFT: u32 = 63;

/// One bucket.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bucket {
    /// Nanoseconds of computing inside.
    pub(crate) compute: u64,
    /// Nanoseconds of waiting inside.
    pub(crate) wait: u64,
    /// Spans that begin inside.
    pub(crate) count: u32,
    /// The longest computing of a span that begins inside.
    pub(crate) longest: u64,
    /// Computing by operator; real graphs have about fifteen.
    ops: Vec<(StrId, u64)>,
}

impl Bucket {
    fn add_op(&mut self, op: StrId, nanos: u64) {
        match self.ops.iter_mut().find(|(known, _)| *known == op) {
            Some((_, sum)) => *sum = sum.saturating_add(nanos),
            None => self.ops.push((op, nanos)),
        }
    }

    fn merge(&mut self, other: &Self) {
        self.compute = self.compute.saturating_add(other.compute);
        self.wait = self.wait.saturating_add(other.wait);
        self.count = self.count.saturating_add(other.count);
        self.longest = self.longest.max(other.longest);
        for &(op, nanos) in &other.ops {
            self.add_op(op, nanos);
        }
    }

    /// Whether nothing happened in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.compute == 0 && self.wait == 0 && self.count == 0
    }

    /// The operator that computed longest: of several the one with the lowest id.
    pub(crate) fn op(&self) -> StrId {
        let longest =
            self.ops.iter().max_by(|(a, long), (b, longer)| long.cmp(longer).then_with(|| b.cmp(a)));
        longest.map_or(StrId(0), |(op, _)| *op)
    }

    /// Nanoseconds that an operator computed.
    pub(crate) fn of_op(&self, op: StrId) -> u64 {
        self.ops.iter().find(|(known, _)| *known == op).map_or(0, |(_, nanos)| *nanos)
    }
}

/// Builds buckets from spans in order of time.
#[derive(Clone, Debug)]
pub(crate) struct BucketBuilder {
    shift: u32,
    /// Index of the first bucket; bucket i begins at i << shift.
    base: u64,
    buckets: Vec<Bucket>,
    limit: usize,
    /// Whether the limit is of buckets from time 0 on. Those before the first that is not empty
    /// are not kept: there may be many lanes.
    from_zero: bool,
}

impl BucketBuilder {
    /// At most `limit` buckets, none shorter than 2^`shift` nanoseconds.
    pub(crate) fn new(shift: u32, limit: usize) -> Self {
        Self {
            shift: shift.min(MAX_SHIFT),
            base: 0,
            buckets: Vec::new(),
            limit: limit.max(1),
            from_zero: false,
        }
    }

    /// Like [`BucketBuilder::new`], with all buckets from time 0 on.
    pub(crate) fn from_zero(shift: u32, limit: usize) -> Self {
        Self { from_zero: true, ..Self::new(shift, limit) }
    }

    /// Length of each bucket.
    pub(crate) fn nanos(&self) -> u64 {
        1 << self.shift
    }

    /// The buckets by index, from the first with something in it.
    pub(crate) fn buckets(&self) -> impl Iterator<Item = (u64, &Bucket)> {
        (self.base..).zip(&self.buckets)
    }

    /// How many buckets there are from time 0 on.
    pub(crate) fn count_from_zero(&self) -> usize {
        (self.base as usize).saturating_add(self.buckets.len())
    }

    /// Buckets with something in them.
    pub(crate) fn filled(&self) -> usize {
        self.buckets.iter().filter(|bucket| !bucket.is_empty()).count()
    }

    #[inline]
    pub(crate) fn add(&mut self, span: &OpSpan, op: StrId) {
        let (compute_end, end) = (span.compute_end(), span.end());
        self.cover(span.begin, end);
        let shift = self.shift;
        if let Some(bucket) = self.at(span.begin >> shift) {
            bucket.count = bucket.count.saturating_add(1);
            bucket.longest = bucket.longest.max(span.compute);
            if end >> shift == span.begin >> shift {
                bucket.compute = bucket.compute.saturating_add(compute_end - span.begin);
                bucket.wait = bucket.wait.saturating_add(end - compute_end);
                bucket.add_op(op, compute_end - span.begin);
                return;
            }
        }
        self.spread(span.begin, compute_end, |bucket, nanos| {
            bucket.compute = bucket.compute.saturating_add(nanos);
            bucket.add_op(op, nanos);
        });
        self.spread(compute_end, end, |bucket, nanos| bucket.wait = bucket.wait.saturating_add(nanos));
    }

    /// Adds another's buckets, which are at most as long as these will be.
    pub(crate) fn merge(&mut self, other: &Self) {
        while self.shift < other.shift {
            self.halve();
        }
        let last = other.base + (other.buckets.len() as u64).saturating_sub(1);
        self.cover(other.base << other.shift, last << other.shift);
        for (index, bucket) in other.buckets() {
            let index = index >> (self.shift - other.shift);
            if let Some(mine) = self.at(index) {
                mine.merge(bucket);
            }
        }
    }

    /// Doubles the buckets' length until at most so many are filled.
    pub(crate) fn shrink(&mut self, filled: usize) {
        while self.filled() > filled.max(1) && self.shift < MAX_SHIFT {
            self.halve();
        }
    }

    /// Makes room for buckets from `begin` to `end`.
    fn cover(&mut self, begin: u64, end: u64) {
        if self.buckets.is_empty() {
            self.base = begin >> self.shift;
        }
        while (end >> self.shift).saturating_sub(self.first()) >= self.limit as u64 && self.shift < MAX_SHIFT
        {
            self.halve();
        }
    }

    /// Index of the bucket from which the limit counts.
    fn first(&self) -> u64 {
        if self.from_zero { 0 } else { self.base }
    }

    /// The bucket with this index. What comes before the first one, in a lane
    /// that runs backwards, counts there.
    fn at(&mut self, index: u64) -> Option<&mut Bucket> {
        if self.from_zero && index < self.base {
            let earlier = (self.base - index) as usize;
            self.buckets.splice(0..0, std::iter::repeat_n(Bucket::default(), earlier));
            self.base = index;
        }
        let offset = index.saturating_sub(self.base) as usize;
        if offset >= self.buckets.len() {
            self.buckets.resize(offset + 1, Bucket::default());
        }
        self.buckets.get_mut(offset)
    }

    fn spread(&mut self, mut begin: u64, end: u64, mut add: impl FnMut(&mut Bucket, u64)) {
        while begin < end {
            let index = begin >> self.shift;
            let until = end.min((index + 1).saturating_mul(1 << self.shift));
            if let Some(bucket) = self.at(index) {
                add(bucket, until - begin);
            }
            begin = until;
        }
    }

    fn halve(&mut self) {
        let fine = std::mem::take(&mut self.buckets);
        let base = self.base;
        self.base >>= 1;
        self.shift += 1;
        for (index, bucket) in (base..).zip(fine) {
            match self.buckets.last_mut() {
                Some(last) if index % 2 == 1 => last.merge(&bucket),
                _ => self.buckets.push(bucket),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_stay_bounded_lose_nothing_and_say_the_same_at_any_length() {
        let spans: Vec<OpSpan> = (0..20_000u64)
            .map(|i| OpSpan {
                begin: 777_000_000 + i * 1_000_000,
                compute: 600_000 + i * 7,
                wait: if i % 900 == 0 { 150_000 } else { 7 },
                ..OpSpan::default()
            })
            .collect();
        for limit in [1, 3, 100, 2048] {
            let mut whole = BucketBuilder::new(10, limit);
            let mut merged = BucketBuilder::new(10, limit);
            let mut part = BucketBuilder::new(10, limit.min(64));
            for (index, span) in spans.iter().enumerate() {
                let op = StrId(index as u32 % 3);
                whole.add(span, op);
                part.add(span, op);
                if index % 777 == 776 {
                    merged.merge(&part);
                    part = BucketBuilder::new(10, limit.min(64));
                }
            }
            merged.merge(&part);
            while whole.shift < merged.shift {
                whole.halve();
            }
            let said = |builder: &BucketBuilder| -> Vec<_> {
                let filled = builder.buckets().filter(|(_, bucket)| !bucket.is_empty());
                filled.map(|(i, b)| (i, b.compute, b.wait, b.count, b.longest, b.op())).collect()
            };
            assert!(whole.buckets.len() <= limit);
            assert_eq!(said(&whole), said(&merged), "limit {limit}");
            let compute: u64 = whole.buckets.iter().map(|bucket| bucket.compute).sum();
            assert_eq!(compute, spans.iter().map(|span| span.compute).sum::<u64>());
            assert_eq!(whole.buckets.iter().map(|bucket| bucket.count).sum::<u32>(), 20_000);
        }
    }

    #[test]
    fn what_is_empty_before_a_lane_begins_takes_no_memory_and_counts_all_the_same() {
        let span = |begin| OpSpan { begin, compute: 3, ..OpSpan::default() };
        let mut late = BucketBuilder::from_zero(0, 2048);
        late.add(&span(2000), StrId(1));
        assert_eq!((late.buckets.len(), late.count_from_zero(), late.nanos()), (3, 2003, 1));
        // Backwards, and beyond the limit.
        late.add(&span(1000), StrId(1));
        assert_eq!((late.buckets.len(), late.count_from_zero()), (1003, 2003));
        late.add(&span(2500), StrId(1));
        assert_eq!(late.nanos(), 2);
        let said: Vec<(u64, u32)> =
            late.buckets().map(|(i, b)| (i, b.count)).filter(|(_, count)| *count > 0).collect();
        assert_eq!(said, [(500, 1), (1000, 1), (1250, 1)]);
    }

    #[test]
    fn absurd_times_end() {
        let mut builder = BucketBuilder::new(0, 8);
        let long = OpSpan { begin: 1, compute: u64::MAX, wait: u64::MAX, ..OpSpan::default() };
        for span in [OpSpan::default(), long, OpSpan { begin: u64::MAX, ..long }, OpSpan::default()] {
            builder.add(&span, StrId(1));
        }
        assert!(builder.buckets.len() <= 8);
        assert_eq!(builder.buckets.iter().map(|bucket| bucket.count).sum::<u32>(), 4);
    }
}
