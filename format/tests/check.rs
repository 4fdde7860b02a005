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
    let tables: Vec<_> = found.problems.iter().map(|it| (it.kind, it.table)).collect();
    let summaries = ["buckets", "node totals", "footer", "execution totals"];
    let expected: Vec<_> = summaries.map(|table| (ProblemKind::Summary, table)).into();
    assert_eq!((tables[0], &tables[1..]), ((ProblemKind::Damaged, "op spans"), &expected[..]));
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
        let rows = |checked: &Checked| {
            let summary = |kind| (kind::BUCKETS..=kind::EXECUTION_TOTALS).contains(&kind);
            checked.readable.iter().filter(|block| !summary(block.kind)).count()
        };
        assert_eq!(rows(&again), rows(&found));
        let kinds: Vec<_> = again.problems.iter().map(|problem| problem.kind).collect();
        assert!(!kinds.contains(&ProblemKind::Summary), "{:?}", again.problems);
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

/// Several segments on each of two lanes, flushed in small blocks.
fn long() -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), Header::new(5, 6)).unwrap();
    let op = writer.string("MUL_MAT");
    let tensors = vec![Tensor { name: op, op, ..Tensor::default() }; 50];
    writer.write_graph(&Graph { id: 0, tensors, nodes: 50 }).unwrap();
    for lane in 0..2 {
        writer.push_thread(Thread { id: lane, ith: lane, tid: 7 + lane, pid: 7 });
    }
    for id in 0..2400u32 {
        let begin = u64::from(id) * 100_000;
        writer.push_graph_span(GraphSpan {
            id,
            begin,
            end: begin + 90_000,
            ubatch: NONE,
            ..GraphSpan::default()
        });
        for lane in 0..2 {
            for node in 0..50 {
                let (begin, compute) =
                    (begin + u64::from(node) * 1500 + u64::from(lane), 1000 + u64::from(id % 90));
                let wait = u64::from(node % 3);
                let span =
                    OpSpan { begin, compute, wait, node, graph_span: id, thread: lane, ..OpSpan::default() };
                writer.push_op_span(lane, span).unwrap();
            }
        }
        if id % 200 == 199 {
            writer.flush().unwrap();
        }
    }
    writer.finish(&Ending::default()).unwrap()
}

/// Where a block's bytes of a column begin, by the directory.
fn column_at(bytes: &[u8], block: u64, columns: u16, index: usize) -> (usize, usize) {
    let directory = block as usize + 48;
    let stored = |index: usize| {
        u32::from_le_bytes(bytes[directory + index * 16 + 4..][..4].try_into().unwrap()) as usize
    };
    let begin = directory + usize::from(columns) * 16 + (0..index).map(stored).sum::<usize>();
    (begin, stored(index))
}

#[test]
fn summaries_that_contradict_their_rows_are_found_and_rebuilt() {
    let bytes = long();
    let found = checked(bytes.clone());
    assert_eq!(kinds(&found), []);
    assert_eq!(repaired(&found), bytes);
    for kind in [kind::BUCKETS, kind::NODE_TOTALS, kind::EXECUTION_TOTALS] {
        let blocks: Vec<_> = found.file.blocks.iter().filter(|block| block.kind == kind).collect();
        assert_eq!(blocks.len(), if kind == kind::EXECUTION_TOTALS { 1 } else { 6 });
        let block = blocks[blocks.len() / 2];
        // A changed number with checksums that hold: constants are stored as they are.
        let mut changed = bytes.clone();
        let constant = (0..usize::from(block.columns))
            .find(|&index| index > 1 && column_at(&bytes, block.offset, block.columns, index).1 == 8)
            .unwrap();
        let (at, len) = column_at(&bytes, block.offset, block.columns, constant);
        changed[at] ^= 1;
        let entry = block.offset as usize + 48 + constant * 16;
        let crc = crc32fast::hash(&changed[at..at + len]).to_le_bytes();
        changed[entry + 12..entry + 16].copy_from_slice(&crc);
        let head = block.offset as usize;
        let mut crc = crc32fast::Hasher::new();
        crc.update(&changed[head..head + 44]);
        crc.update(&changed[head + 48..head + 48 + usize::from(block.columns) * 16]);
        changed[head + 44..head + 48].copy_from_slice(&crc.finalize().to_le_bytes());
        let wrong = checked(changed);
        assert_eq!(kinds(&wrong), [(ProblemKind::Summary, 1)]);
        assert_eq!(wrong.problems[0].offset, block.offset);
        let again = checked(repaired(&wrong));
        assert_eq!(kinds(&again), []);
        assert!(again.file.len().abs_diff(bytes.len() as u64) < 50, "{} {}", again.file.len(), bytes.len());
    }
}

#[test]
fn summaries_of_a_file_without_them_are_written() {
    let bytes = long();
    let trace = TraceFile::open(Source::Bytes(bytes.clone())).unwrap();
    let end = trace.blocks.iter().find(|block| block.kind == kind::EXECUTION_TOTALS).unwrap().offset;
    let again = checked(repaired(&checked(bytes[..end as usize].to_vec())));
    assert_eq!(kinds(&again), []);
    assert_eq!(again.summaries, trace.summaries);
    let tables = |blocks: &[llmtrace_format::BlockInfo]| {
        let mut tables: Vec<_> = blocks
            .iter()
            .filter(|block| block.kind == kind::EXECUTION_TOTALS)
            .map(|it| it.payload_len)
            .collect();
        tables.sort_unstable();
        tables
    };
    assert_eq!(tables(&again.file.blocks), tables(&trace.blocks));
}
