//! Lane summaries: a complete, coarse picture of each lane in the footer.

use crate::buckets::BucketBuilder;
use crate::meta::StrId;
use serde::{Deserialize, Serialize};

/// Most buckets of one lane.
pub const MAX_BUCKETS: usize = 2048;
/// Most bytes of one lane in the footer, before compression: three numbers, four
/// lists with their lengths.
pub const MAX_SUMMARY_BYTES: u64 = 4 + 8 + 8 + 4 * 8 + MAX_BUCKETS as u64 * (8 + 8 + 4 + 4);

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

impl LaneSummary {
    /// Of buckets from time 0 on.
    pub(crate) fn of(lane: u32, spans: u64, builder: &BucketBuilder) -> Self {
        let mut summary = Self { lane, spans, bucket_nanos: builder.nanos(), ..Self::default() };
        for (_, bucket) in builder.buckets() {
            summary.compute.push(bucket.compute);
            summary.wait.push(bucket.wait);
            summary.count.push(bucket.count);
            summary.op.push(bucket.op());
        }
        summary
    }

    /// Whether the buckets of a lane with so many spans, built from time 0 on,
    /// say the same. Of operators that computed equally long, any will do.
    pub(crate) fn agrees(&self, spans: u64, builder: &BucketBuilder) -> bool {
        let len = self.compute.len();
        let equally_long = [self.wait.len(), self.count.len(), self.op.len()].iter().all(|&it| it == len);
        let same = builder.buckets().all(|(index, bucket)| {
            let at = index as usize;
            let sums = (self.compute.get(at), self.wait.get(at), self.count.get(at));
            let op = self.op.get(at).copied().unwrap_or_default();
            let is_longest = bucket.of_op(op) == bucket.of_op(bucket.op());
            let absent = sums.0.is_none() && bucket.is_empty();
            absent || sums == (Some(&bucket.compute), Some(&bucket.wait), Some(&bucket.count)) && is_longest
        });
        let built = builder.buckets().count();
        let rest_is_empty = self.compute.iter().zip(&self.wait).skip(built).all(|sums| sums == (&0, &0));
        self.spans == spans && self.bucket_nanos == builder.nanos() && equally_long && same && rest_is_empty
    }
}
