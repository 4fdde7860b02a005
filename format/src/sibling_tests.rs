//! Columns told by another lane, against what was written.

use super::*;
use crate::constants::{NO_LANE, kind};
use crate::{OpSpan, Table as _, column};

struct Random(u64);

impl Random {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 20) % most
    }
}

/// Lanes that compute the same nodes; `keep` says which rows of a lane there are, and
/// `jitter` by how much lanes may leave a barrier apart.
fn lanes(count: usize, jitter: u64, keep: impl Fn(usize, u32) -> bool) -> Vec<OpSpans> {
    let mut random = Random(count as u64 + jitter);
    let mut lanes = vec![OpSpans::default(); count];
    let mut ends = vec![5000u64; count];
    for row in 0..3000u32 {
        let begins: Vec<u64> = ends.iter().map(|end| end + random.below(300)).collect();
        let arrivals: Vec<u64> = begins.iter().map(|begin| begin + 1000 + random.below(9000)).collect();
        let release = arrivals.iter().copied().max().unwrap_or(0);
        for (lane, rows) in lanes.iter_mut().enumerate().filter(|(lane, _)| keep(*lane, row)) {
            let (begin, compute) = (begins[lane], arrivals[lane] - begins[lane]);
            let wait = release - arrivals[lane] + random.below(jitter + 1);
            let span =
                OpSpan { begin, compute, wait, node: row % 70, graph_span: row / 70, ..OpSpan::default() };
            rows.push_span(&span, ends[lane]);
            ends[lane] = span.end();
        }
    }
    lanes
}

fn info(rows: &OpSpans) -> BlockInfo {
    let range = TimeRange::new(5000, u64::MAX);
    let (kind, rows) = (kind::OP_SPANS, rows.len() as u32);
    BlockInfo { offset: 40, kind, version: 1, lane: 3, rows, range, payload_len: 0, columns: 9 }
}

/// Packed bytes of compute and of wait, each told by the reference.
fn round_trip(rows: &OpSpans, reference: &OpSpans) -> [usize; 2] {
    let ends = Ends::of(reference, 5000);
    [Told::Compute, Told::Wait].map(|told| {
        let mut bytes = Vec::new();
        assert_eq!(encode(rows, 5000, told, &info(reference), &ends, &mut bytes), encoding::SIBLING);
        let (named, planes) = Reference::split(&bytes).expect("long enough");
        assert!(named.is(&info(reference)));
        // What is told must not be needed to decode it.
        let mut known = rows.clone();
        match told {
            Told::Compute => known.compute.clear(),
            Told::Wait => known.wait.clear(),
        }
        let values = if told == Told::Compute { &rows.compute } else { &rows.wait };
        assert_eq!(decode(planes, &known, 5000, told, &ends).as_ref(), Some(values));
        assert_eq!(decode(&planes[..planes.len() - 1], &known, 5000, told, &ends), None);
        assert_eq!(decode(&[planes, &[0]].concat(), &known, 5000, told, &ends), None);
        column::packed(&bytes)
    })
}

#[test]
fn lanes_that_leave_together_cost_nothing_and_all_others_are_exact() {
    for count in [2, 3, 8] {
        let all = lanes(count, 0, |_, _| true);
        assert!(all[1..].iter().all(|rows| round_trip(rows, &all[0]).iter().all(|bytes| *bytes < 60)));
        let apart = lanes(count, 50, |_, _| true);
        assert!(apart[1..].iter().all(|rows| round_trip(rows, &apart[0]).iter().all(|bytes| *bytes > 1500)));
    }
}

#[test]
fn rows_are_matched_by_what_they_compute() {
    // The second lane computes some graph runs only, and not from the beginning.
    let all = lanes(2, 0, |lane, row| lane == 0 || row > 1111 && row / 70 % 3 != 1);
    assert_eq!(Ends::of(&all[0], 5000).matches(&all[1]), all[1].len());
    assert!(round_trip(&all[1], &all[0])[0] < 400);
    // And the other way round: most of the rows have no match.
    assert_eq!(Ends::of(&all[1], 5000).matches(&all[0]), all[1].len());
    round_trip(&all[0], &all[1]);
    let all = lanes(2, 0, |lane, row| row % 17 != lane as u32);
    round_trip(&all[1], &all[0]);
    round_trip(&all[1], &OpSpans::default());
    round_trip(&OpSpans::default(), &all[1]);
}

#[test]
fn any_numbers_are_exact() {
    let mut random = Random(9);
    let mut lane = || {
        let mut rows = OpSpans::default();
        for _ in 0..500 {
            let mut any = || match random.below(4) {
                0 => u64::MAX - random.below(3),
                1 => random.below(5),
                _ => random.below(u64::MAX) << 20,
            };
            let stored = crate::tables::StoredOpSpan {
                gap: any(),
                compute: any(),
                wait: any(),
                node: any() as u32,
                graph_span: any() as u32 % 4,
                ..Default::default()
            };
            rows.push(stored);
        }
        rows
    };
    let (a, b) = (lane(), lane());
    round_trip(&a, &b);
    round_trip(&b, &a);
}

#[test]
fn a_reference_is_found_by_all_that_its_header_says() {
    let block = info(&OpSpans::default());
    let blocks = [BlockInfo { kind: kind::BUCKETS, ..block }, BlockInfo { rows: 7, ..block }];
    let references = References::default();
    assert_eq!(references.find(&Reference::to(&blocks[1]), &blocks), Some(blocks[1]));
    assert_eq!(references.find(&Reference::to(&block), &blocks), None);
    assert_eq!(references.find(&Reference::to(&BlockInfo { lane: NO_LANE, ..blocks[1] }), &blocks), None);
}

#[test]
fn kept_references_are_bounded_and_the_last_stay() {
    let references = References::default();
    let ends = Arc::new(Ends { keys: vec![0; KEPT_ROWS / 2], ends: Vec::new() });
    for offset in [1, 2, 1, 3] {
        if references.get(offset).is_none() {
            references.put(offset, &ends);
        }
    }
    assert_eq!([1, 2, 3].map(|offset| references.get(offset).is_some()), [true, false, true]);
}
