//! Lane summaries: a complete, coarse picture of each lane in the footer.
//!
//! A lane's time is cut into at most [`MAX_BUCKETS`] buckets of equal length.
//! While recording, the bucket length doubles whenever the trace outgrows it,
//! so that memory is bounded however long it takes.

use crate::meta::StrId;
use crate::{Nanos, OpSpan};
use serde::{Deserialize, Serialize};

/// Most buckets of one lane.
pub const MAX_BUCKETS: usize = 2048;
/// Most bytes of one lane in the footer, before compression: three numbers, four
/// lists with their lengths.
pub const MAX_SUMMARY_BYTES: u64 = 4 + 8 + 8 + 4 * 8 + MAX_BUCKETS as u64 * (8 + 8 + 4 + 4);
const FIRST_BUCKET_NANOS: u64 = 1 << 16;

/// One lane's time, folded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneSummary {
    /// The lane: `ith` of the thread.
    pub lane: u32,
    /// Number of op spans.
    pub spans: u64,
    /// Length of each bucket.
    pub bucket_nanos: u64,
    /// Nanoseconds of computing in each bucket, counted from time 0.
    pub compute: Vec<u64>,
    /// Nanoseconds of waiting in each bucket.
    pub wait: Vec<u64>,
    /// Spans that begin in each bucket.
    pub count: Vec<u32>,
    /// The operator that computed longest in each bucket.
    pub op: Vec<StrId>,
}

/// Builds a [`LaneSummary`] as spans arrive.
#[derive(Debug)]
pub(crate) struct SummaryBuilder {
    lane: u32,
    spans: u64,
    bucket_nanos: u64,
    buckets: Vec<Bucket>,
}

#[derive(Clone, Debug, Default)]
struct Bucket {
    compute: u64,
    wait: u64,
    count: u32,
    /// Compute time by operator; real graphs have about fifteen.
    ops: Vec<(StrId, u64)>,
}

impl Bucket {
    fn add_op(&mut self, op: StrId, nanos: u64) {
        match self.ops.iter_mut().find(|(known, _)| *known == op) {
            Some((_, sum)) => *sum += nanos,
            None => self.ops.push((op, nanos)),
        }
    }

    fn merge(&mut self, other: Self) {
        self.compute += other.compute;
        self.wait += other.wait;
        self.count = self.count.saturating_add(other.count);
        for (op, nanos) in other.ops {
            self.add_op(op, nanos);
        }
    }
}

impl SummaryBuilder {
    pub(crate) fn new(lane: u32) -> Self {
        Self { lane, spans: 0, bucket_nanos: FIRST_BUCKET_NANOS, buckets: Vec::new() }
    }

    pub(crate) fn add(&mut self, span: &OpSpan, op: StrId) {
        self.spans += 1;
        while span.end() / self.bucket_nanos >= MAX_BUCKETS as u64 {
            self.halve();
        }
        let bucket = self.bucket(span.begin);
        bucket.count = bucket.count.saturating_add(1);
        self.spread(span.begin, span.compute_end(), |bucket, nanos| {
            bucket.compute += nanos;
            bucket.add_op(op, nanos);
        });
        self.spread(span.compute_end(), span.end(), |bucket, nanos| bucket.wait += nanos);
    }

    fn bucket(&mut self, time: Nanos) -> &mut Bucket {
        let index = (time / self.bucket_nanos) as usize;
        if index >= self.buckets.len() {
            self.buckets.resize(index + 1, Bucket::default());
        }
        &mut self.buckets[index]
    }

    fn spread(&mut self, mut begin: Nanos, end: Nanos, mut add: impl FnMut(&mut Bucket, u64)) {
        while begin < end {
            let bucket_end = (begin / self.bucket_nanos + 1).saturating_mul(self.bucket_nanos);
            let until = end.min(bucket_end);
            add(self.bucket(begin), until - begin);
            begin = until;
        }
    }

    fn halve(&mut self) {
        self.bucket_nanos = self.bucket_nanos.saturating_mul(2);
        let fine = std::mem::take(&mut self.buckets);
        for (index, bucket) in fine.into_iter().enumerate() {
            if index % 2 == 0 {
                self.buckets.push(bucket);
            } else if let Some(last) = self.buckets.last_mut() {
                last.merge(bucket);
            }
        }
    }

    pub(crate) fn build(&self) -> LaneSummary {
        let dominant = |bucket: &Bucket| {
            bucket.ops.iter().max_by_key(|(_, nanos)| *nanos).map_or(StrId(0), |(op, _)| *op)
        };
        LaneSummary {
            lane: self.lane,
            spans: self.spans,
            bucket_nanos: self.bucket_nanos,
            compute: self.buckets.iter().map(|bucket| bucket.compute).collect(),
            wait: self.buckets.iter().map(|bucket| bucket.wait).collect(),
            count: self.buckets.iter().map(|bucket| bucket.count).collect(),
            op: self.buckets.iter().map(dominant).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_stay_bounded_and_lose_nothing() {
        let mut builder = SummaryBuilder::new(0);
        let spans: Vec<_> = (0..50_000u64)
            .map(|i| OpSpan { begin: i * 1_000_000, compute: 600_000 + i, wait: 7, ..OpSpan::default() })
            .collect();
        for (index, span) in spans.iter().enumerate() {
            builder.add(span, StrId(1 + u32::from(index % 3 == 0)));
        }
        let summary = builder.build();
        assert!(summary.compute.len() <= MAX_BUCKETS);
        assert_eq!(summary.spans, 50_000);
        assert_eq!(summary.compute.iter().sum::<u64>(), spans.iter().map(|span| span.compute).sum());
        assert_eq!(summary.wait.iter().sum::<u64>(), 7 * 50_000);
        assert_eq!(summary.count.iter().map(|&n| u64::from(n)).sum::<u64>(), 50_000);
        assert!(summary.op.iter().all(|&op| op == StrId(1)));
    }
}
