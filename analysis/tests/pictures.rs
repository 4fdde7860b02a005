//! What is drawn from summaries and what is drawn from rows is the same, and
//! damage in between does no harm.
#![expect(clippy::unwrap_used, reason = "tests may panic")]

use llmtrace_analysis::fold::{Bar, What, fold, fold_whole};
use llmtrace_analysis::format::constants::kind;
use llmtrace_analysis::format::{OpSpans, Source};
use llmtrace_analysis::stats::By;
use llmtrace_analysis::synth::{self, Options};
use llmtrace_analysis::totals::totals_in_range;
use llmtrace_analysis::{OpSpan, TimeRange, Trace};

fn open(bytes: Vec<u8>) -> Trace {
    Trace::open(Source::Bytes(bytes), &mut |_| true).unwrap()
}

/// Compute, wait and begins inside a range, by looking at every span near it.
fn brute_force(spans: &[OpSpan], range: TimeRange) -> (u64, u64, u64) {
    let first = spans.partition_point(|span| span.end() <= range.begin && span.begin < range.begin);
    let near = spans[first..].iter().take_while(|span| span.begin < range.end);
    let inside = |from: u64, to: u64| to.min(range.end).saturating_sub(from.max(range.begin));
    near.fold((0, 0, 0), |(compute, wait, count), span| {
        (
            compute + inside(span.begin, span.compute_end()),
            wait + inside(span.compute_end(), span.end()),
            count + u64::from(range.contains(span.begin)),
        )
    })
}

fn assert_agree(trace: &Trace, seed: u64, zooms: u32) {
    let mut state = seed;
    let mut random = |limit: u64| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 30) % limit.max(1)
    };
    let whole = trace.range();
    let (mut from_buckets, mut from_rows) = (0, 0);
    for lane in trace.lanes() {
        let spans = trace.spans(lane.id);
        for zoom in 0..zooms {
            // Windows from the whole trace down to a few spans.
            let nanos = (whole.nanos() >> (zoom * 24 / zooms)).max(100_000);
            let begin = random(whole.end.saturating_sub(nanos));
            let range = TimeRange::new(begin, begin + nanos);
            let min_nanos = (nanos / (300 + random(2000))).max(1);
            let mut bars = Vec::new();
            fold_whole(trace, lane, range, min_nanos, &mut bars);
            assert!(bars.is_sorted_by(|a, b| a.range.end <= b.range.begin), "{range:?} {min_nanos}");
            assert!(bars.len() as u64 <= 2 * (nanos / min_nanos) + 1200);
            for bar in &bars {
                match bar.what {
                    What::Buckets { .. } => from_buckets += 1,
                    _ => from_rows += 1,
                }
                let found = (bar.compute, bar.wait, bar.count);
                assert_eq!(found, brute_force(&spans, bar.range), "{range:?} {min_nanos} {bar:?}");
            }
            // Nothing in the window is missing from the bars.
            let covered: u64 = bars.iter().map(|bar| brute_force(&spans, clip(bar, range)).0).sum();
            assert_eq!(covered, brute_force(&spans, range).0, "{range:?} {min_nanos}");
        }
    }
    assert!(from_buckets > 50 && from_rows > 1000, "{from_buckets} {from_rows}");
}

fn clip(bar: &Bar, range: TimeRange) -> TimeRange {
    TimeRange::new(bar.range.begin.max(range.begin), bar.range.end.min(range.end))
}

#[test]
fn summaries_and_rows_agree_at_every_zoom() {
    let bytes = synth::bytes(&Options::new(300_000, 2, 11)).unwrap();
    assert_agree(&open(bytes.clone()), 1, 60);
    // Without its footer, and so without summaries of whole lanes.
    let trace = open(bytes.clone());
    let end = trace.file.blocks.last().unwrap().offset;
    let killed = open(bytes[..end as usize].to_vec());
    assert!(!killed.warnings.is_empty());
    assert_agree(&killed, 2, 30);
}

#[test]
fn samples_without_segments_agree_too() {
    for name in ["gemma3-270m-2t", "qwen3moe-synthetic-2t"] {
        let path = format!("{}/../sample-traces/{name}.llmtrace", env!("CARGO_MANIFEST_DIR"));
        assert_agree(&open(std::fs::read(path).unwrap()), 3, 80);
    }
}

#[test]
fn a_small_cache_is_enough() {
    let trace = open(synth::bytes(&Options::new(300_000, 2, 4)).unwrap());
    trace.set_cache_bytes(3 << 20);
    for lane in trace.lanes() {
        for part in 0..40 {
            let nanos = trace.range().nanos() / 40;
            let range = TimeRange::new(part * nanos, (part + 1) * nanos);
            let mut bars = Vec::new();
            fold_whole(&trace, lane, range, 10_000, &mut bars);
            assert!(!bars.is_empty());
            assert!(trace.cache_bytes() <= 3 << 20);
        }
    }
}

#[test]
fn a_damaged_block_is_a_gap_and_everything_else_works() {
    let bytes = synth::bytes(&Options::new(600_000, 2, 5)).unwrap();
    let whole = open(bytes.clone());
    let blocks: Vec<_> = whole.file.blocks_of::<OpSpans>().filter(|block| block.lane == 1).copied().collect();
    let victim = blocks[2];
    let mut damaged = bytes;
    damaged[(victim.offset + victim.file_len() - 9) as usize] ^= 0x20;
    let trace = open(damaged);
    assert_eq!(trace.all_warnings(), []);
    let lane = trace.lane(1).unwrap();
    let mut bars = Vec::new();
    fold_whole(&trace, lane, victim.range, 20_000, &mut bars);
    assert!(bars.iter().all(|bar| !bar.range.overlaps(victim.range)), "{:?}", bars.first());
    assert_eq!(trace.damaged(), [victim]);
    assert!(trace.all_warnings()[0].to_string().contains("op spans"));
    // Its neighbours are there, and so is the other lane, and the picture from summaries.
    let mut missing = Vec::new();
    fold(&trace, lane, trace.range(), trace.range().nanos() / 500, &mut bars, &mut missing);
    assert!(missing.is_empty() && bars.len() > 200, "{} {}", missing.len(), bars.len());
    for block in [blocks[1], blocks[3]] {
        bars.clear();
        let middle = TimeRange::new(block.range.begin, block.range.begin + 5_000_000);
        fold_whole(&trace, lane, middle, 1000, &mut bars);
        assert!(!bars.is_empty());
    }
    assert_eq!(trace.spans(0), whole.spans(0));
    assert_eq!(trace.spans(1).len() as u64, lane.rows - u64::from(victim.rows));
    // Totals of the whole trace come from its sums.
    let totals = |trace: &Trace| totals_in_range(trace, trace.range(), By::Op, &|_| true).unwrap();
    assert_eq!(totals(&trace), totals(&whole));
}

#[test]
fn damaged_summaries_are_made_from_the_rows() {
    let bytes = synth::bytes(&Options::new(280_000, 2, 6)).unwrap();
    let whole = open(bytes.clone());
    let mut damaged = bytes;
    for block in
        whole.file.blocks.iter().filter(|block| matches!(block.kind, kind::BUCKETS | kind::NODE_TOTALS))
    {
        damaged[(block.offset + block.file_len() - 3) as usize] ^= 0x20;
    }
    let trace = open(damaged);
    let range = TimeRange::new(trace.range().end / 3, trace.range().end / 2);
    for lane in whole.lanes() {
        let (mut read, mut made) = (Vec::new(), Vec::new());
        fold_whole(&whole, lane, range, 1 << 20, &mut read);
        fold_whole(&trace, trace.lane(lane.id).unwrap(), range, 1 << 20, &mut made);
        assert!(read == made && !read.is_empty());
    }
    let totals = |trace: &Trace| totals_in_range(trace, trace.range(), By::Layer, &|_| true).unwrap();
    assert_eq!(totals(&trace), totals(&whole));
}
