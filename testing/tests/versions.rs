//! Files of versions to come: a newer minor version is read as far as it is known, a newer major
//! version is refused by name. Files of earlier versions are `format/tests/pinned.rs`.
#![expect(clippy::unwrap_used, reason = "tests may panic")]

use llmtrace_analysis::{TimeRange, Trace, cut};
use llmtrace_format::check::check;
use llmtrace_format::constants::{HEADER_LEN, NO_LANE, VERSION_MAJOR, VERSION_MINOR, encoding, kind};
use llmtrace_format::{Error, ProblemKind, Source, TraceFile, Warning};
use llmtrace_testing::{Block, Column, File, samples};

/// The newest fixture, which has every table.
fn newest() -> Vec<u8> {
    std::fs::read(samples::fixtures().unwrap().pop().unwrap()).unwrap()
}

/// The same as a later minor version may write it: another table, another column, further fields.
fn newer_minor() -> Vec<u8> {
    let mut file = File::parse(&newest()).unwrap();
    file.header[10..12].copy_from_slice(&(VERSION_MINOR + 1).to_le_bytes());
    for block in &mut file.blocks {
        let structured = block.columns.first().is_some_and(|column| column.encoding == encoding::STRUCTURED);
        if structured && block.kind != kind::STRINGS {
            block.columns[0].raw.extend([7; 20]);
        } else if block.kind == kind::OP_SPANS {
            block.columns.push(Column::constant(60, 5));
        }
    }
    let columns = vec![Column { id: 0, encoding: 99, raw: vec![1, 2, 3], ..Column::default() }];
    file.blocks.insert(2, Block { kind: 79, version: 3, lane: NO_LANE, rows: 3, begin: 1, end: 9, columns });
    file.write()
}

#[test]
fn a_newer_minor_version_is_read_and_what_is_unknown_is_skipped() {
    let [before, after] =
        [newest(), newer_minor()].map(|bytes| TraceFile::open(Source::Bytes(bytes)).unwrap());
    assert_eq!(after.warnings, [Warning::NewerMinor { major: VERSION_MAJOR, minor: VERSION_MINOR + 1 }]);
    assert_eq!((before.strings, before.graphs), (after.strings, after.graphs));
    assert_eq!(before.recording, after.recording);
    assert_eq!(before.ending, after.ending);
    assert_eq!(before.summaries, after.summaries);
    assert_eq!(before.blocks.len() + 1, after.blocks.len());
    let checked = check(Source::Bytes(newer_minor()), &mut |_| true).unwrap();
    let damaged = checked.problems.iter().find(|problem| problem.kind == ProblemKind::Damaged);
    assert_eq!(damaged, None);
    let [before, after] =
        [newest(), newer_minor()].map(|bytes| Trace::open(Source::Bytes(bytes), &mut |_| true).unwrap());
    assert_eq!(before.op_span_count(), after.op_span_count());
    assert_eq!(before.decodes, after.decodes);
    for lane in before.lanes() {
        assert_eq!(before.spans(lane.id), after.spans(lane.id));
    }
    // And can be cut; what is unknown does not come along.
    let (bytes, _) = cut::cut(&after, TimeRange::new(0, u64::MAX), Vec::new(), &mut |_| true).unwrap();
    assert_eq!(TraceFile::open(Source::Bytes(bytes)).unwrap().warnings, []);
}

#[test]
fn a_newer_major_version_is_refused_by_name() {
    let mut file = File::parse(&newest()).unwrap();
    file.header[8..10].copy_from_slice(&(VERSION_MAJOR + 1).to_le_bytes());
    let mut bytes = file.write();
    for spoil in [false, true] {
        // Whatever else the file is: not even its header's checksum may matter.
        if spoil {
            bytes.truncate(HEADER_LEN);
            bytes[39] ^= 1;
        }
        let Err(error) = TraceFile::open(Source::Bytes(bytes.clone())) else { panic!("opened") };
        assert!(matches!(error, Error::NewerVersion { .. }), "{error}");
        let said = error.to_string();
        assert!(said.contains(&format!("version {}.", VERSION_MAJOR + 1)), "{said}");
        assert!(said.contains("use a newer llmtrace"), "{said}");
    }
}
