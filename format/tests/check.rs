//! Checking files, and repairing damaged ones.
#![expect(clippy::unwrap_used, reason = "tests may panic")]

use llmtrace_format::check::{Checked, check};
use llmtrace_format::constants::{NONE, kind};
use llmtrace_format::meta::{Ending, Graph, Tensor};
use llmtrace_format::tables::{Decode, GraphSpan, Thread, Ubatch};
use llmtrace_format::{Header, OpSpan, ProblemKind, Source, TraceFile, Writer};

const SPANS: u32 = 1000;

/// A whole trace of a few blocks; `change` may spoil a span.
fn sample(change: impl Fn(u32, &mut OpSpan)) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), Header::new(5, 6)).unwrap();
    let (op, other) = (writer.string("MUL_MAT"), writer.string("ADD"));
    let tensor = |op| Tensor { name: op, op, ..Tensor::default() };
    let tensors = vec![tensor(op), tensor(other)];
    writer.write_graph(&Graph { id: 0, tensors, nodes: 2 }).unwrap();
    writer.push_thread(Thread { id: 0, ith: 0, tid: 7, pid: 7 });
    for id in 0..SPANS / 100 {
        let (begin, end) = (u64::from(id) * 10_000, u64::from(id + 1) * 10_000);
        writer.push_decode(Decode { id, begin, end, tokens: 1, ..Decode::default() });
        writer.push_ubatch(Ubatch { id, begin, end, decode: id, tokens: 1, sequences: 1, phase: 2 });
        writer.push_graph_span(GraphSpan { id, begin, end, ubatch: id, ..GraphSpan::default() });
        for i in id * 100..(id + 1) * 100 {
            let mut span = OpSpan {
                begin: u64::from(i) * 100,
                compute: 70 + u64::from(i % 7),
                node: i % 2,
                graph_span: id,
                ..OpSpan::default()
            };
            change(i, &mut span);
            writer.push_op_span(0, span).unwrap();
        }
        writer.flush().unwrap();
    }
    writer.finish(&Ending::default()).unwrap()
}

fn checked(bytes: Vec<u8>) -> Checked {
    check(Source::Bytes(bytes), &mut |_| true).unwrap()
}

fn kinds(checked: &Checked) -> Vec<(ProblemKind, u64)> {
    checked.problems.iter().map(|problem| (problem.kind, problem.count)).collect()
}

fn repaired(checked: &Checked) -> Vec<u8> {
    checked.repair(Vec::new(), &mut |_| true).unwrap()
}

#[test]
fn whole_files_are_whole_and_repair_changes_nothing() {
    let bytes = sample(|_, _| {});
    let found = checked(bytes.clone());
    assert_eq!(kinds(&found), []);
    assert!(found.is_whole());
    assert_eq!(repaired(&found), bytes);
}

#[test]
fn dangling_references_are_counted_and_kept() {
    let found = checked(sample(|i, span| match i {
        0..5 => span.thread = 9,
        5..8 => span.node = 2,
        8..10 => span.fused = u32::MAX,
        10 => span.graph_span = 77,
        11 => span.graph_span = NONE,
        _ => {}
    }));
    assert_eq!(
        kinds(&found),
        [(ProblemKind::NoThread, 5), (ProblemKind::NoGraphSpan, 2), (ProblemKind::NoNode, 5)]
    );
    let again = checked(repaired(&found));
    assert_eq!(kinds(&again), kinds(&found));
    assert_eq!(again.summaries, found.summaries);
}

#[test]
fn a_damaged_column_is_located_and_its_block_left_out() {
    let bytes = sample(|_, _| {});
    let trace = TraceFile::open(Source::Bytes(bytes.clone())).unwrap();
    let block = *trace.blocks.iter().filter(|block| block.kind == kind::OP_SPANS).nth(3).unwrap();
    let mut damaged = bytes;
    let last = (block.offset + block.file_len() - 1) as usize;
    damaged[last] ^= 0x10;
    let found = checked(damaged);
    assert_eq!(kinds(&found), [(ProblemKind::Damaged, 1), (ProblemKind::Summary, 1)]);
    let problem = found.problems[0];
    assert!(problem.offset > block.offset && problem.offset <= last as u64, "{problem:?}");
    assert_eq!((problem.table, problem.lane), ("op spans", Some(0)));
    let again = checked(repaired(&found));
    assert_eq!(kinds(&again), []);
    assert_eq!(again.summaries[0].spans, u64::from(SPANS) - 100);
}

#[test]
fn a_file_cut_off_anywhere_is_repaired_to_a_whole_one() {
    let bytes = sample(|_, _| {});
    for len in (40..bytes.len()).step_by(97) {
        let found = checked(bytes[..len].to_vec());
        assert!(found.problems.iter().any(|problem| problem.kind == ProblemKind::NoFooter), "{len}");
        let again = checked(repaired(&found));
        assert!(!again.problems.iter().any(|p| p.kind == ProblemKind::NoFooter), "{:?}", again.problems);
        assert_eq!(again.readable.len(), found.readable.len());
    }
}

#[test]
fn no_flipped_byte_goes_unnoticed() {
    let bytes = sample(|_, _| {});
    for at in (40..bytes.len()).step_by(53) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x40;
        let found = checked(damaged);
        // Four bytes of the trailer are reserved and mean nothing.
        let reserved = bytes.len() - 12..bytes.len() - 8;
        assert!(!found.is_whole() || reserved.contains(&at), "byte {at}");
        repaired(&found);
    }
}

#[test]
fn a_wrong_index_and_a_wrong_summary_are_found() {
    let footer =
        |bytes: &[u8]| u64::from_le_bytes(bytes[bytes.len() - 24..][..8].try_into().unwrap()) as usize;
    let (one, other) = (sample(|_, _| {}), sample(|i, span| span.compute += u64::from(i % 3)));
    // The footer of one file behind the blocks of another, with a trailer that points at it.
    let mut mixed = other[..footer(&other)].to_vec();
    mixed.extend_from_slice(&one[footer(&one)..]);
    let trailer = mixed.len() - 24;
    let offset = (footer(&other) as u64).to_le_bytes();
    mixed[trailer..trailer + 8].copy_from_slice(&offset);
    mixed[trailer + 8..trailer + 12].copy_from_slice(&crc32fast::hash(&offset).to_le_bytes());
    let found = checked(mixed);
    for kind in [ProblemKind::Index, ProblemKind::Summary] {
        assert!(found.problems.iter().any(|problem| problem.kind == kind), "{:?}", found.problems);
    }
    assert!(checked(repaired(&found)).is_whole());
}

#[test]
fn checking_can_be_cancelled() {
    assert!(check(Source::Bytes(sample(|_, _| {})), &mut |_| false).is_err());
}
