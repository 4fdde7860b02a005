//! Files that end anywhere, and files with flipped bits: what was whole before is read, what is
//! wrong is said, and repairing makes a whole file of it.
#![expect(clippy::unwrap_used, reason = "tests may panic")]

use llmtrace_format::check::{Checked, check};
use llmtrace_format::constants::{HEADER_LEN, kind};
use llmtrace_format::{Error, ProblemKind, Source, TraceFile};
use llmtrace_testing::{Random, samples};

/// A short piece of a real recording.
fn sample() -> Vec<u8> {
    samples::seeds(4).unwrap().pop().unwrap()
}

fn checked(bytes: &[u8]) -> Checked {
    check(Source::Bytes(bytes.to_vec()), &mut |_| true).unwrap()
}

fn spans(checked: &Checked) -> u64 {
    let blocks = checked.readable.iter().filter(|block| block.kind == kind::OP_SPANS);
    blocks.map(|block| u64::from(block.rows)).sum()
}

fn has(checked: &Checked, kind: ProblemKind) -> bool {
    checked.problems.iter().any(|problem| problem.kind == kind)
}

/// Repairs, and finds what was readable in a file that has no such damage any more.
fn repaired(damaged: &Checked) {
    let whole = checked(&damaged.repair(Vec::new(), &mut |_| true).unwrap());
    let torn = [
        ProblemKind::NoFooter,
        ProblemKind::CutOff,
        ProblemKind::NoBlock,
        ProblemKind::Damaged,
        ProblemKind::Index,
        ProblemKind::Summary,
    ];
    assert!(!torn.iter().any(|kind| has(&whole, *kind)), "{:?}", whole.problems);
    assert_eq!(spans(&whole), spans(damaged));
    assert_eq!(whole.file.strings, damaged.file.strings);
    assert_eq!(whole.file.graphs.len(), damaged.file.graphs.len());
}

#[test]
fn a_file_cut_between_or_inside_blocks_loses_only_what_comes_after() {
    let bytes = sample();
    let file = TraceFile::open(Source::Bytes(bytes.clone())).unwrap();
    let mut random = Random::new(31);
    let ends: Vec<u64> = file.blocks.iter().map(|block| block.offset + block.file_len()).collect();
    let inside = (0..40).map(|_| (HEADER_LEN + random.below(bytes.len() - HEADER_LEN)) as u64);
    let cuts = [HEADER_LEN as u64].into_iter().chain(ends).chain(inside);
    for cut in cuts {
        let before = file.blocks.iter().filter(|block| block.offset + block.file_len() <= cut);
        let (blocks, rows) = before.fold((0, 0), |(blocks, rows), block| {
            (blocks + 1, rows + if block.kind == kind::OP_SPANS { u64::from(block.rows) } else { 0 })
        });
        let torn = checked(&bytes[..cut as usize]);
        assert_eq!(torn.file.blocks, file.blocks[..blocks], "cut at {cut}");
        assert_eq!(spans(&torn), rows, "cut at {cut}");
        // After all blocks and the whole footer only the trailer can be missing.
        assert!(has(&torn, ProblemKind::NoFooter), "cut at {cut}: {:?}", torn.problems);
        let at_an_end = blocks == 0 && cut == HEADER_LEN as u64
            || blocks > 0 && file.blocks[blocks - 1].offset + file.blocks[blocks - 1].file_len() == cut
            || blocks == file.blocks.len();
        assert!(at_an_end || has(&torn, ProblemKind::CutOff), "cut at {cut}: {:?}", torn.problems);
        repaired(&torn);
    }
    for cut in 0..HEADER_LEN {
        let opened = TraceFile::open(Source::Bytes(bytes[..cut].to_vec()));
        assert!(matches!(opened, Err(Error::TooShort { .. } | Error::Foreign { .. })), "cut at {cut}");
    }
}

#[test]
fn a_flipped_bit_costs_a_block_at_most_and_never_goes_unnoticed() {
    let bytes = sample();
    let file = TraceFile::open(Source::Bytes(bytes.clone())).unwrap();
    let all = spans(&checked(&bytes));
    let most = file.blocks.iter().map(|block| u64::from(block.rows)).max().unwrap();
    let mut random = Random::new(32);
    for _ in 0..120 {
        let at = random.below(bytes.len());
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << random.below(8);
        let torn = match check(Source::Bytes(flipped), &mut |_| true) {
            Ok(torn) => torn,
            Err(Error::Foreign { .. } | Error::NewerVersion { .. } | Error::Checksum { .. }) => {
                assert!(at < HEADER_LEN, "byte {at} is not of the header");
                continue;
            }
            Err(error) => panic!("byte {at}: {error}"),
        };
        assert!(!torn.is_whole(), "byte {at} was flipped and nobody noticed");
        assert!(spans(&torn) + most >= all, "byte {at} costs more than a block");
        repaired(&torn);
    }
}
