//! A few thousand changed files through everything that reads them; `make fuzz` does it for hours.

use llmtrace_format::{Source, TraceFile};
use llmtrace_testing::{File, Random, rounds, samples, tables, targets};

#[test]
fn files_open_or_say_why() {
    rounds::run("open", targets::open, &samples::seeds(1).unwrap(), 400, 1);
}

#[test]
fn tables_decode_or_are_damaged() {
    rounds::run("tables", targets::decode_tables, &samples::seeds(1).unwrap(), 600, 2);
}

#[test]
fn columns_decode_or_do_not() {
    let seeds: Vec<Vec<u8>> = (0..7).map(|encoding| vec![encoding, 4, 0, 1, 0, 0, 0, 1, 4, 1, 9]).collect();
    rounds::run("columns", targets::decode_column, &seeds, 20_000, 3);
}

#[test]
fn what_is_written_is_read() {
    let mut random = Random::new(4);
    for _ in 0..12 {
        let len = random.below(600);
        let bytes: Vec<u8> = (0..len).map(|_| random.u64() as u8).collect();
        targets::round_trip(&bytes);
    }
}

#[test]
fn questions_are_answered_whatever_is_in_the_file() {
    rounds::run("answers", targets::answers, &samples::seeds(1).unwrap(), 60, 5);
}

#[test]
fn files_are_taken_apart_and_put_together_alike() {
    for bytes in samples::seeds(2).unwrap() {
        let file = File::parse(&bytes).unwrap();
        let again = file.write();
        // Not byte by byte: zstd was given another level.
        assert_eq!(File::parse(&again).unwrap(), file);
        let [before, after] = [bytes, again].map(|bytes| TraceFile::open(Source::Bytes(bytes)).unwrap());
        assert!(after.warnings.is_empty(), "{:?}", after.warnings);
        assert_eq!(before.strings, after.strings);
        assert_eq!(before.blocks.len(), after.blocks.len());
        assert_eq!(before.summaries, after.summaries);
    }
}

#[test]
fn every_table_of_the_format_is_known_here() {
    let path = samples::fixtures().unwrap().pop().unwrap();
    let file = File::parse(&std::fs::read(path).unwrap()).unwrap();
    let structured = [1, 2, 3, 4];
    for block in file.blocks.iter().filter(|block| !structured.contains(&block.kind)) {
        assert!(tables::ALL.iter().any(|(kind, _)| *kind == block.kind), "kind {}", block.kind);
    }
}
