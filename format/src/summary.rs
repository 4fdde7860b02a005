//! Lane summaries: a complete, coarse picture of each lane in the footer.

use crate::buckets::BucketBuilder;
use crate::meta::StrId;
use serde::{Deserialize, Serialize};

/// Most buckets of one lane.
pub const MAX_BUCKETS: usize = 2048;
/// Bytes of a bucket in the footer, before compression.
const BUCKET_BYTES: u64 = 8 + 8 + 4 + 4;
/// Most bytes of one lane in the footer, before compression: three numbers, four
/// lists with their lengths.
pub const MAX_SUMMARY_BYTES: u64 = 4 + 8 + 8 + 4 * 8 + MAX_BUCKETS as u64 * BUCKET_BYTES;

/// Most bytes of all lanes in the footer, before compression, so that they fit into a column
/// beside the index: some 340 lanes with as many buckets as can be.
pub(crate) const MAX_SUMMARIES_BYTES: u64 = 16 << 20;

/// The summaries that a footer has: those of the first lanes, as many as there is room for.
pub(crate) fn fitting(mut summaries: Vec<LaneSummary>) -> Vec<LaneSummary> {
    let mut bytes = 0;
    let fit = |summary: &&LaneSummary| {
        let unused = MAX_BUCKETS.saturating_sub(summary.compute.len()) as u64;
        bytes += MAX_SUMMARY_BYTES - unused * BUCKET_BYTES;
        bytes <= MAX_SUMMARIES_BYTES
    };
    let kept = summaries.iter().take_while(fit).count();
    summaries.truncate(kept);
    summaries
}

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
        for (index, bucket) in builder.buckets() {
            summary.skip_to(index as usize);
            summary.compute.push(bucket.compute);
            summary.wait.push(bucket.wait);
            summary.count.push(bucket.count);
            summary.op.push(bucket.op());
        }
        summary
    }

    /// Buckets of before are empty.
    fn skip_to(&mut self, index: usize) {
        self.compute.resize(index, 0);
        self.wait.resize(index, 0);
        self.count.resize(index, 0);
        self.op.resize(index, StrId(0));
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
        let built = builder.count_from_zero();
        let rest_is_empty = self.compute.iter().zip(&self.wait).skip(built).all(|sums| sums == (&0, &0));
        self.spans == spans && self.bucket_nanos == builder.nanos() && equally_long && same && rest_is_empty
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::constants::MAX_STRUCTURED_BYTES;
    use crate::footer::Footer;
    use crate::{BlockInfo, TimeRange};

    #[test]
    fn lanes_without_room_have_no_summary_and_the_footer_fits() {
        let full = |lane| LaneSummary {
            lane,
            compute: vec![1; MAX_BUCKETS],
            wait: vec![1; MAX_BUCKETS],
            count: vec![1; MAX_BUCKETS],
            op: vec![StrId(1); MAX_BUCKETS],
            ..LaneSummary::default()
        };
        let kept = fitting((0..1500).map(full).collect());
        assert_eq!(kept.len() as u64, MAX_SUMMARIES_BYTES / MAX_SUMMARY_BYTES);
        assert_eq!(fitting(kept.clone()).len(), kept.len());
        // Beside as many blocks as one column takes.
        let range = TimeRange::default();
        let block = BlockInfo {
            offset: 0,
            kind: 19,
            version: 1,
            lane: 0,
            rows: 1,
            range,
            payload_len: 1,
            columns: 9,
        };
        let (_, columns) = Footer::new(&vec![block; 1 << 20], kept).encode().expect("fits");
        assert!(columns[0].bytes.len() <= MAX_STRUCTURED_BYTES as usize);
    }
}
