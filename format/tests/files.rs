//! Whole files: written, read back, cut off, damaged.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic")]

use llmtrace_format::check::check;
use llmtrace_format::constants::{NO_LANE, NONE};
use llmtrace_format::meta::{Ending, Graph, Level, Recording, Tensor};
use llmtrace_format::tables::{Decode, Decodes, GraphSpan, Thread};
use llmtrace_format::{
    ColumnSet, Error, Header, OpSpan, OpSpans, RawBlock, Source, TraceFile, Warning, Writer,
};

fn recording() -> Recording {
    Recording {
        recorder_version: "test".into(),
        level_asked: Level::Thread,
        level: Level::Thread,
        ..Recording::default()
    }
}

fn spans(lane: u32) -> Vec<OpSpan> {
    let mut at = 1000 + u64::from(lane);
    (0..500u32)
        .map(|i| {
            let span = OpSpan {
                begin: at,
                compute: 1000 + u64::from(i * 7919 % 313),
                wait: u64::from(i % 5),
                node: i % 4,
                fused: u32::from(i % 4 == 1),
                graph_span: i / 4,
                thread: lane,
                cpu: lane,
                touched_by_loss: i == 77,
            };
            at = span.end() + u64::from(i % 11);
            span
        })
        .collect()
}

/// A small trace; `flushes` is how many blocks each lane's spans are cut into.
fn sample(flushes: usize, close: bool) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), Header::new(5, 6)).unwrap();
    writer.write_recording(&recording()).unwrap();
    let op = writer.string("MUL_MAT");
    let tensor = Tensor { name: writer.string("ffn_up-7"), op, ..Tensor::default() };
    writer.write_graph(&Graph { id: 0, tensors: vec![tensor; 4], nodes: 4 }).unwrap();
    for id in 0..2 {
        writer.push_thread(Thread { id, ith: id, tid: 100 + id, pid: 100 });
    }
    for id in 0..125 {
        writer.push_graph_span(GraphSpan { id, graph: 0, threads: 2, ..GraphSpan::default() });
    }
    writer.push_decode(Decode { id: 0, begin: 1000, end: 900_000, tokens: 3, ..Decode::default() });
    for part in 0..flushes {
        for lane in 0..2 {
            let all = spans(lane);
            let size = all.len() / flushes;
            for span in &all[part * size..(part + 1) * size] {
                writer.push_op_span(lane, *span).unwrap();
            }
        }
        writer.flush().unwrap();
    }
    if close {
        return writer.finish(&Ending { reason: "done".into(), ..Ending::default() }).unwrap();
    }
    writer.sink().clone()
}

fn open(bytes: Vec<u8>) -> TraceFile {
    TraceFile::open(Source::Bytes(bytes)).expect("opens")
}

fn read_lane(trace: &TraceFile, lane: u32) -> Vec<OpSpan> {
    let mut all = Vec::new();
    for block in trace.blocks_of::<OpSpans>().filter(|block| block.lane == lane) {
        let table: OpSpans = trace.read(block, ColumnSet::ALL).expect("reads");
        all.extend(table.spans(block.range));
    }
    all
}

#[test]
fn what_was_written_is_read() {
    let trace = open(sample(5, true));
    assert_eq!(trace.warnings, []);
    assert_eq!(trace.recording, Some(recording()));
    assert_eq!(trace.ending.as_ref().unwrap().reason, "done");
    assert_eq!(trace.string(trace.graphs[0].tensors[3].name), "ffn_up-7");
    assert_eq!(trace.threads.rows().count(), 2);
    for lane in 0..2 {
        assert_eq!(read_lane(&trace, lane), spans(lane));
    }
    let summary = &trace.summaries[1];
    assert_eq!((summary.lane, summary.spans), (1, 500));
    assert_eq!(summary.compute.iter().sum::<u64>(), spans(1).iter().map(|span| span.compute).sum());
    assert_eq!(trace.string(summary.op[0]), "MUL_MAT");
}

#[test]
fn only_the_asked_columns_are_decoded() {
    let trace = open(sample(1, true));
    let block = *trace.blocks_of::<OpSpans>().next().unwrap();
    let table: OpSpans = trace.read(&block, ColumnSet::only::<OpSpans>(&["compute"])).unwrap();
    assert_eq!(table.compute.len(), 500);
    assert!(table.node.is_empty() && table.gap.is_empty());
    assert!(matches!(trace.read::<Decodes>(&block, ColumnSet::ALL), Err(Error::Malformed { .. })));
    assert_ne!(block.lane, NO_LANE);
}

#[test]
fn a_file_without_footer_opens_with_a_warning() {
    let trace = open(sample(5, false));
    assert!(matches!(trace.warnings[..], [Warning::NoFooter { .. }]));
    assert_eq!(read_lane(&trace, 0), spans(0));
    assert!(trace.ending.is_none());
}

#[test]
fn a_file_cut_anywhere_opens_with_all_whole_blocks_or_says_why_not() {
    let bytes = sample(3, true);
    let whole = open(bytes.clone());
    for len in 0..bytes.len() {
        match TraceFile::open(Source::Bytes(bytes[..len].to_vec())) {
            Ok(trace) => {
                let expected =
                    whole.blocks.iter().filter(|block| block.offset + block.file_len() <= len as u64);
                assert!(expected.eq(trace.blocks.iter()), "cut at {len}");
                assert!(!trace.warnings.is_empty());
            }
            Err(error) => assert!(len < 40, "cut at {len}: {error}"),
        }
    }
}

#[test]
fn a_flipped_bit_never_panics_and_is_never_silent() {
    let bytes = sample(2, true);
    let whole: Vec<_> = (0..2).map(spans).collect();
    for at in (0..bytes.len()).step_by(3) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        let Ok(trace) = TraceFile::open(Source::Bytes(damaged)) else {
            assert!(at < 40, "only the header makes a file unreadable, not byte {at}");
            continue;
        };
        let mut errors = trace.warnings.len();
        for lane in 0..2u32 {
            let mut all = Vec::new();
            for block in trace.blocks_of::<OpSpans>().filter(|block| block.lane == lane) {
                match trace.read::<OpSpans>(block, ColumnSet::ALL) {
                    Ok(table) => all.extend(table.spans(block.range)),
                    Err(_) => errors += 1,
                }
            }
            assert!(errors > 0 || all == whole[lane as usize], "byte {at}");
        }
    }
}

#[test]
fn damage_between_blocks_is_skipped() {
    let mut bytes = sample(5, false);
    let trace = open(bytes.clone());
    let victim = *trace.blocks_of::<OpSpans>().next().unwrap();
    bytes[victim.offset as usize + 20] ^= 0xFF;
    let trace = open(bytes);
    let skipped = Warning::Skipped { offset: victim.offset, bytes: victim.file_len() };
    assert!(trace.warnings.contains(&skipped), "{:?}", trace.warnings);
    assert_eq!(read_lane(&trace, 1), spans(1));
}

/// A writer with the dictionaries and graph spans of [`sample`].
fn begun<W: std::io::Write>(sink: W) -> Writer<W> {
    let mut writer = Writer::new(sink, Header::new(5, 6)).unwrap();
    writer.write_recording(&recording()).unwrap();
    let op = writer.string("MUL_MAT");
    let tensor = Tensor { name: writer.string("ffn_up-7"), op, ..Tensor::default() };
    let graph = RawBlock::graph(&Graph { id: 0, tensors: vec![tensor; 4], nodes: 4 }).unwrap();
    writer.write_raw(&graph).unwrap();
    for id in 0..2 {
        writer.push_thread(Thread { id, ith: id, tid: 100 + id, pid: 100 });
    }
    for id in 0..125 {
        writer.push_graph_span(GraphSpan { id, graph: 0, ubatch: NONE, threads: 2, ..GraphSpan::default() });
    }
    writer
}

fn assert_whole(bytes: Vec<u8>) {
    let checked = check(Source::Bytes(bytes), &mut |_| true).unwrap();
    assert_eq!(checked.problems, []);
}

#[test]
fn blocks_encoded_before_are_as_good_as_rows() {
    let mut writer = begun(Vec::new());
    for lane in 0..2 {
        for part in spans(lane).chunks(77) {
            writer.write_raw(&RawBlock::op_spans(lane, part).unwrap()).unwrap();
        }
    }
    let bytes = writer.finish(&Ending::default()).unwrap();
    let (raw, pushed) = (open(bytes.clone()), open(sample(7, true)));
    for lane in 0..2 {
        assert_eq!(read_lane(&raw, lane), spans(lane));
    }
    assert_eq!(raw.graphs, pushed.graphs);
    // The sample leaves out what does not fill its last part.
    let summary = &raw.summaries[0];
    assert_eq!((summary.spans, raw.string(summary.op[0])), (500, "MUL_MAT"));
    assert_whole(bytes);
}

#[test]
fn closing_takes_no_more_bytes_than_announced() {
    for rows in [0, 1, 10, 500] {
        let mut writer = begun(Vec::new());
        for (index, span) in spans(0).iter().take(rows).enumerate() {
            writer.push_op_span(index as u32 % 2, *span).unwrap();
        }
        writer.flush().unwrap();
        let (before, announced) = (writer.bytes(), writer.closing_bytes());
        let ending = Ending { reason: "done".into(), ..Ending::default() };
        let end = writer.finish(&ending).unwrap().len() as u64;
        let of_ending = 300;
        assert!(end - before <= announced + of_ending, "{} of {announced}", end - before);
    }
}

/// Takes so many bytes, then is full; what did not fit whole is not taken.
struct Small(Vec<u8>, usize);

impl std::io::Write for Small {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0.len() + bytes.len() > self.1 {
            return Err(std::io::ErrorKind::StorageFull.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn what_was_written_before_the_disk_was_full_can_be_finished() {
    let mut cut = 0;
    for room in (4000..30_000).step_by(500) {
        let mut writer = begun(Small(Vec::new(), room));
        let mut full = false;
        'all: for part in 0..10 {
            for lane in 0..2 {
                for span in &spans(lane)[part * 50..(part + 1) * 50] {
                    writer.push_op_span(lane, *span).unwrap();
                }
            }
            if writer.flush().is_err() {
                full = true;
                break 'all;
            }
        }
        if full {
            cut += 1;
            assert_eq!(writer.sink().0.len() as u64, writer.bytes());
            writer.discard();
        }
        writer.sink_mut().1 = usize::MAX;
        assert_whole(writer.finish(&Ending::default()).unwrap().0);
    }
    assert!(cut > 5, "{cut}");
}
