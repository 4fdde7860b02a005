use super::super::disk::tests::Small;
use super::*;
use llmtrace_format::check::check;
use llmtrace_format::meta::{Graph, Tensor};
use llmtrace_format::tables::Thread;
use llmtrace_format::{Source, TraceFile};

fn live() -> Live {
    let mut live = Live::default();
    let op = live.string("MUL_MAT").0;
    let tensor = Tensor { name: live.string("ffn_up-7").0, op, ..Tensor::default() };
    live.add_graph(&Graph { id: 0, tensors: vec![tensor; 40], nodes: 40 }).unwrap();
    live.recording = Recording { recorder_version: "test".into(), ..Recording::default() };
    (0..2).for_each(|id| live.add_thread(Thread { id, ith: id, tid: 100 + id, pid: 100 }));
    live
}

/// Adds a graph of two lanes, whose micro-batch returns after it and whose call
/// returns after two. `Ok(false)` when the file is full.
fn add<M: Medium>(segment: &mut Segment<M>, live: &Live, id: u32) -> Result<bool> {
    let at = u64::from(id) * 1_000_000;
    segment.advance(at);
    let row = GraphSpan { id, begin: at, end: at + 900_000, graph: 0, ubatch: id, ..GraphSpan::default() };
    if !segment.graph_span(row, live)? {
        return Ok(false);
    }
    for lane in 0..2 {
        for node in 0..40 {
            let begin = at + u64::from(node) * 20_000;
            let compute = 9_000 + u64::from(node * 7919 * (id + 1) % 9_000);
            let span =
                OpSpan { begin, compute, node, graph_span: id, thread: lane, cpu: lane, ..OpSpan::default() };
            if !segment.op_span(lane, span, live)? {
                return Ok(false);
            }
        }
    }
    let decode = id / 2;
    let (begin, end) = (at, at + 950_000);
    let ubatch = Ubatch { id, begin, end, decode, tokens: 1, ..Ubatch::default() };
    let call = Decode { id: decode, begin, end, tokens: 2, ..Decode::default() };
    Ok(segment.ubatch(ubatch)? && (id.is_multiple_of(2) || segment.decode(call)?))
}

fn begin<M: Medium>(medium: M, live: &Live, limit: Option<u64>) -> Result<Segment<M>> {
    Segment::begin(medium, "a.llmtrace".into(), Header::new(1, 2), live, limit, Totals::default())
}

fn ending() -> Ending {
    Ending { reason: "done".into(), ..Ending::default() }
}

fn whole(bytes: Vec<u8>) -> TraceFile {
    let checked = check(Source::Bytes(bytes.clone()), &mut |_| true).unwrap();
    assert_eq!(checked.problems, []);
    TraceFile::open(Source::Bytes(bytes)).unwrap()
}

#[test]
fn a_file_that_ends_in_the_middle_of_a_call_refers_to_nothing_that_it_lacks() {
    let live = live();
    for graphs in 1..5 {
        let mut segment = begin(Small::new(usize::MAX, false), &live, None).unwrap();
        for id in 0..graphs {
            assert!(add(&mut segment, &live, id).unwrap());
        }
        let row = GraphSpan { id: graphs, graph: 0, ubatch: graphs, ..GraphSpan::default() };
        assert!(segment.graph_span(row, &live).unwrap());
        assert!(!segment.is_quiet());
        segment.close(&ending()).unwrap();
        let trace = whole(segment.writer.sink().medium().bytes.clone());
        assert_eq!((trace.threads.rows().count(), trace.graphs.len()), (2, 1));
    }
}

#[test]
fn a_limited_file_is_never_larger() {
    let live = live();
    for limit in [600_000, 1_000_000] {
        let mut segment = begin(Small::new(usize::MAX, false), &live, Some(limit)).unwrap();
        let mut id = 0u32;
        while add(&mut segment, &live, id).unwrap() {
            id += 1;
            if id.is_multiple_of(50) {
                segment.flush().unwrap();
            }
        }
        segment.close(&ending()).unwrap();
        let bytes = segment.writer.sink().medium().bytes.clone();
        assert!(bytes.len() as u64 <= limit, "{} of {limit}", bytes.len());
        assert!(bytes.len() as u64 > limit / 2, "{} of {limit}", bytes.len());
        whole(bytes);
    }
}

/// Records until the disk is full; whether the file got a footer, and the file.
fn fill(room: usize, reserves: bool, every: u32) -> (Saved, Vec<u8>) {
    let live = live();
    let mut segment = begin(Small::new(room, reserves), &live, None).unwrap();
    let mut id = 0u32;
    let error = loop {
        let added = add(&mut segment, &live, id);
        id += 1;
        let done =
            if id.is_multiple_of(every) { added.and_then(|_| segment.flush()) } else { added.map(drop) };
        if let Err(error) = done {
            break error;
        }
    };
    assert!(format!("{error:#}").contains("no storage space"), "{error:#}");
    let saved = segment.rescue(&ending());
    (saved, segment.writer.sink().medium().bytes.clone())
}

#[test]
fn a_full_disk_leaves_a_whole_file_where_room_can_be_set_aside() {
    for room in (400_000..500_000).step_by(9_973) {
        let (saved, bytes) = fill(room, true, 7);
        assert!(saved.closed);
        assert_eq!(saved.bytes, bytes.len() as u64);
        let trace = whole(bytes);
        assert_eq!(trace.ending.unwrap().reason, "done");
        assert!(saved.until > 100_000_000, "{saved:?}");
    }
}

#[test]
fn a_full_disk_leaves_all_whole_blocks_where_it_cannot() {
    for room in (400_000..500_000).step_by(9_973) {
        let (saved, bytes) = fill(room, false, 7);
        assert_eq!(saved.bytes, bytes.len() as u64, "{saved:?}");
        let trace = TraceFile::open(Source::Bytes(bytes.clone())).unwrap();
        assert!(trace.blocks.len() > 100);
        // No part of a block is left behind; a footer that fits is written.
        let problems = check(Source::Bytes(bytes), &mut |_| true).unwrap().problems;
        assert!(
            problems.iter().all(|problem| !saved.closed && problem.count > 0 && problem.table != "graph")
        );
        assert_eq!(trace.ending.is_some(), saved.closed);
    }
}

#[test]
fn a_broken_disk_is_no_panic() {
    let live = live();
    let mut medium = Small::new(usize::MAX, true);
    medium.room = 10 << 20;
    let mut segment = begin(medium, &live, None).unwrap();
    assert!(add(&mut segment, &live, 0).unwrap());
    segment.flush().unwrap();
    assert!(add(&mut segment, &live, 1).unwrap());
    let whole = segment.writer.bytes();
    segment.writer.sink_mut().medium_mut().broken = true;
    assert!(segment.flush().is_err());
    let saved = segment.rescue(&ending());
    assert_eq!((saved.bytes, saved.closed), (whole, false));
}
