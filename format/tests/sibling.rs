//! Files in which one lane's blocks tell another's: written, damaged, forged.
#![expect(clippy::unwrap_used, reason = "tests may panic")]

use llmtrace_format::check::check;
use llmtrace_format::constants::{BLOCK_HEADER_LEN, DIRECTORY_ENTRY_LEN, NONE, encoding, kind};
use llmtrace_format::meta::Ending;
use llmtrace_format::tables::{GraphSpan, Thread};
use llmtrace_format::{
    BlockInfo, ColumnSet, Error, Header, OpSpan, OpSpans, ProblemKind, Source, TraceFile, Writer,
};

/// Two blocks of each of three lanes, of which the second and the third follow the first.
fn sample() -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), Header::new(5, 6)).unwrap();
    writer.prefer_small();
    (0..3).for_each(|id| writer.push_thread(Thread { id, ith: id, tid: 7 + id, pid: 7 }));
    let mut at = 1000;
    for id in 0..20u32 {
        let begin = at;
        for node in 0..100u32 {
            let compute = |lane: u32| 1000 + u64::from((id * 100 + node + lane * 37) * 7919 % 60_013);
            let release = at + (0..3).map(compute).max().unwrap();
            for lane in 0..3 {
                let (compute, wait) = (compute(lane), release - at - compute(lane));
                let (graph_span, thread) = (id, lane);
                let span = OpSpan { begin: at, compute, wait, node, graph_span, thread, ..OpSpan::default() };
                writer.push_op_span(lane, span).unwrap();
            }
            at = release;
        }
        writer.push_graph_span(GraphSpan {
            id,
            begin,
            end: at,
            graph: NONE,
            ubatch: NONE,
            threads: 3,
            ..GraphSpan::default()
        });
        if id % 10 == 9 {
            writer.flush().unwrap();
        }
    }
    writer.finish(&Ending::default()).unwrap()
}

fn open(bytes: &[u8]) -> TraceFile {
    TraceFile::open(Source::Bytes(bytes.to_vec())).unwrap()
}

fn blocks(bytes: &[u8]) -> Vec<BlockInfo> {
    open(bytes).blocks_of::<OpSpans>().copied().collect()
}

/// The entry of the column that another lane tells.
fn told(bytes: &[u8], block: &BlockInfo) -> Option<usize> {
    let entry = |index| block.offset as usize + BLOCK_HEADER_LEN + index * DIRECTORY_ENTRY_LEN;
    (0..usize::from(block.columns)).map(entry).find(|at| bytes[at + 2] == encoding::SIBLING)
}

/// Makes the checksum of a block's header hold again.
fn seal(bytes: &mut [u8], block: &BlockInfo) {
    let at = block.offset as usize;
    let mut crc = crc32fast::Hasher::new();
    crc.update(&bytes[at..at + 44]);
    crc.update(&bytes[at + 48..at + 48 + usize::from(block.columns) * DIRECTORY_ENTRY_LEN]);
    bytes[at + 44..at + 48].copy_from_slice(&crc.finalize().to_le_bytes());
}

fn read(bytes: &[u8], block: &BlockInfo) -> Result<OpSpans, Error> {
    open(bytes).read(block, ColumnSet::ALL)
}

#[test]
fn each_column_reads_by_itself_as_with_all_others() {
    let bytes = sample();
    let found = blocks(&bytes);
    let referring: Vec<bool> = found.iter().map(|block| told(&bytes, block).is_some()).collect();
    assert_eq!(referring, [false, true, true, false, true, true]);
    for block in &found {
        let all: OpSpans = read(&bytes, block).unwrap();
        let only = |name| open(&bytes).read::<OpSpans>(block, ColumnSet::only::<OpSpans>(&[name])).unwrap();
        assert_eq!((only("compute").compute, only("wait").wait), (all.compute.clone(), all.wait.clone()));
        assert!(only("wait").compute.is_empty());
    }
    let ends: Vec<Vec<u64>> = found
        .iter()
        .map(|block| read(&bytes, block).unwrap().spans(block.range).map(|span| span.end()).collect())
        .collect();
    assert_eq!((&ends[0], &ends[3]), (&ends[1], &ends[5]));
    let checked = check(Source::Bytes(bytes.clone()), &mut |_| true).unwrap();
    assert_eq!(checked.problems, []);
    // Blocks stay as they are; only the footer is written anew.
    assert_eq!(blocks(&checked.repair(Vec::new(), &mut |_| true).unwrap()), found);
}

#[test]
fn a_damaged_reference_takes_along_what_it_tells_and_nothing_else() {
    let mut bytes = sample();
    let found = blocks(&bytes);
    let last = (found[0].offset + found[0].file_len() - 1) as usize;
    let compute = (found[0].offset as usize) + BLOCK_HEADER_LEN + 9 * DIRECTORY_ENTRY_LEN + 40;
    assert!(compute < last);
    bytes[compute] ^= 4;
    let works: Vec<bool> = found.iter().map(|block| read(&bytes, block).is_ok()).collect();
    assert_eq!(works, [false, false, false, true, true, true]);
    let text = read(&bytes, &found[1]).unwrap_err().to_string();
    assert!(text.contains("other lane") && text.contains("at byte"), "{text}");
    // What does not need it reads all the same.
    assert!(open(&bytes).read::<OpSpans>(&found[1], ColumnSet::only::<OpSpans>(&["node"])).is_ok());
    let checked = check(Source::Bytes(bytes), &mut |_| true).unwrap();
    let damaged = checked.problems.iter().filter(|problem| problem.kind == ProblemKind::Damaged);
    assert_eq!(damaged.map(|problem| problem.lane).collect::<Vec<_>>(), [Some(0), Some(1), Some(2)]);
    // The other three survive, and find their reference where it is now.
    let repaired = checked.repair(Vec::new(), &mut |_| true).unwrap();
    let again = check(Source::Bytes(repaired.clone()), &mut |_| true).unwrap();
    assert_eq!(again.problems, []);
    assert_eq!(blocks(&repaired).len(), 3);
}

/// Changes what a told column says of its reference; it is stored as zstd packs it.
fn forge(block_index: usize, change: impl Fn(&mut Vec<u8>)) -> Result<OpSpans, Error> {
    let mut bytes = sample();
    let block = blocks(&bytes)[block_index];
    let entry = told(&bytes, &block).unwrap();
    let field = |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let (stored, raw) = (field(&bytes, entry + 4), field(&bytes, entry + 8));
    let directory = block.offset as usize + BLOCK_HEADER_LEN;
    let before = (directory..entry).step_by(DIRECTORY_ENTRY_LEN).map(|at| field(&bytes, at + 4));
    let at = directory + usize::from(block.columns) * DIRECTORY_ENTRY_LEN + before.sum::<usize>();
    let mut column = zstd::bulk::decompress(&bytes[at..at + stored], raw).unwrap();
    change(&mut column);
    // The file goes on behind the block: what is forged stands at its end, alone.
    let packed = zstd::bulk::compress(&column, 3).unwrap();
    let rest = bytes[at + stored..(block.offset + block.file_len()) as usize].to_vec();
    bytes.truncate(at);
    bytes.extend_from_slice(&packed);
    bytes.extend_from_slice(&rest);
    let payload = bytes.len() - block.offset as usize - BLOCK_HEADER_LEN;
    let head = block.offset as usize;
    bytes[head + 32..head + 36].copy_from_slice(&(payload as u32).to_le_bytes());
    bytes[entry + 4..entry + 8].copy_from_slice(&(packed.len() as u32).to_le_bytes());
    bytes[entry + 8..entry + 12].copy_from_slice(&(column.len() as u32).to_le_bytes());
    bytes[entry + 12..entry + 16].copy_from_slice(&crc32fast::hash(&packed).to_le_bytes());
    seal(&mut bytes, &block);
    // A check of it must not fail either.
    check(Source::Bytes(bytes.clone()), &mut |_| true).unwrap();
    read(&bytes, &BlockInfo { payload_len: payload as u32, ..block })
}

#[test]
fn forged_references_are_errors() {
    assert!(forge(1, |_| {}).is_ok());
    let set = |at: usize, value: &'static [u8]| {
        move |column: &mut Vec<u8>| column[at..at + value.len()].copy_from_slice(value)
    };
    let errors = [
        // Itself, another lane that refers too, no lane, other rows, another time.
        forge(1, set(0, &[1, 0, 0, 0])),
        forge(2, set(0, &[1, 0, 0, 0])),
        forge(1, set(0, &[9, 0, 0, 0])),
        forge(1, set(4, &[1, 0, 0, 0])),
        forge(1, set(8, &[1, 0, 0, 0, 0, 0, 0, 0xFF])),
        forge(1, set(16, &[0xFF; 8])),
        // Too short, too long, a width that is none.
        forge(1, |column| column.truncate(23)),
        forge(1, |column| column.truncate(24)),
        forge(1, |column| column.truncate(column.len() - 1)),
        forge(1, |column| column.push(0)),
        forge(1, set(24, &[3])),
    ];
    for (index, error) in errors.into_iter().enumerate() {
        let error = error.unwrap_err();
        assert!(matches!(error, Error::Malformed { what: "column", .. }), "{index}: {error}");
    }
    assert!(forge(1, set(25, &[0xFF; 700])).is_ok(), "other numbers are numbers");
}

#[test]
fn an_encoding_of_a_later_version_is_named_as_such() {
    let mut bytes = sample();
    let block = blocks(&bytes)[1];
    let entry = told(&bytes, &block).unwrap();
    bytes[entry + 2] = 6;
    seal(&mut bytes, &block);
    let text = read(&bytes, &block).unwrap_err().to_string();
    assert!(text.contains("not known to this build"), "{text}");
    // In a column, or a table, that no other lane tells.
    for (kind, at) in [(kind::OP_SPANS, 0), (kind::GRAPH_SPANS, 1)] {
        let mut bytes = sample();
        let block = *open(&bytes).blocks.iter().find(|block| block.kind == kind).unwrap();
        bytes[block.offset as usize + BLOCK_HEADER_LEN + at * DIRECTORY_ENTRY_LEN + 2] = encoding::SIBLING;
        seal(&mut bytes, &block);
        let checked = check(Source::Bytes(bytes), &mut |_| true).unwrap();
        assert!(checked.problems.iter().any(|problem| problem.kind == ProblemKind::Damaged));
    }
}
