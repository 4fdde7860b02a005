use super::super::Long;
use super::super::Sink;
use super::super::long::Rotate;
use super::*;
use crate::record::target::Caller;
use llmtrace_format::check::check;
use llmtrace_format::meta::{Graph, Recording, Tensor};
use llmtrace_format::tables::{Marks, Thread};
use llmtrace_format::{ColumnSet, OpSpans, Source, TraceFile};
use std::path::Path;
use std::time::Duration;

const MILLI: u64 = 1_000_000;

fn long() -> Long {
    Long { ring: None, trigger_tpot: None, triggers: None, max_size: None, rotate: None, keep: None }
}

fn sink(folder: &Path, long: &Long) -> Sink {
    let mut outputs = Outputs::create(long, folder.join("a.llmtrace"), Caller::from_env()).unwrap();
    outputs.take_pending().unwrap().keep();
    let mut sink = Sink::begin(outputs, long, Header::new(1, 2)).unwrap();
    sink.write_recording(&Recording { recorder_version: "test".into(), ..Recording::default() }).unwrap();
    let op = sink.string("MUL_MAT");
    let tensor = Tensor { name: sink.string("ffn_up-7"), op, ..Tensor::default() };
    for id in 0..3 {
        sink.write_graph(&Graph { id, tensors: vec![tensor.clone(); 30], nodes: 30 }).unwrap();
    }
    (0..2).for_each(|id| sink.push_thread(Thread { id, ith: id, tid: 100 + id, pid: 100 }));
    let reason = sink.string("asked for").0;
    for time in 0..5 {
        sink.push_level_change(LevelChange { time, reason, ..LevelChange::default() }).unwrap();
    }
    sink
}

/// One token each 50 ms, and a look at the output after each; the slow one takes
/// 40 ms, others 20.
fn tokens(sink: &mut Sink, ids: std::ops::Range<u32>, slow: Option<u32>) {
    for id in ids {
        let begin = u64::from(id) * 50 * MILLI;
        let end = begin + if slow == Some(id) { 40 } else { 20 } * MILLI;
        // As the session does: calls come first.
        sink.push_decode(Decode { id, begin, end, tokens: 1, ..Decode::default() }).unwrap();
        let ubatch = Ubatch { id, begin, end, decode: id, tokens: 1, sequences: 1, phase: 2 };
        sink.push_ubatch(ubatch).unwrap();
        let graph = id % 3;
        let row = GraphSpan { id, begin, end, graph, ubatch: id, ..GraphSpan::default() };
        sink.push_graph_span(row).unwrap();
        for lane in 0..2 {
            for node in 0..30 {
                let begin = begin + u64::from(node) * MILLI / 2;
                let span = OpSpan {
                    begin,
                    compute: 300_000,
                    node,
                    graph_span: id,
                    thread: lane,
                    ..OpSpan::default()
                };
                sink.push_op_span(lane, span).unwrap();
            }
        }
        let now = u64::from(id + 1) * 50 * MILLI;
        sink.tick(Totals { now, events: u64::from(id), ..Totals::default() }).unwrap();
        if id.is_multiple_of(18) {
            sink.flush().unwrap();
        }
    }
}

/// How far the last look at the output was.
fn sink_now(sink: &Sink) -> Totals {
    match &sink.out {
        super::super::Out::Files(files) => files.totals,
        super::super::Out::Ring(ring) => ring.totals,
    }
}

fn end(sink: &mut Sink, reason: &str) -> Option<PathBuf> {
    let now = sink_now(sink);
    sink.finish(&Ending { reason: reason.into(), events: 1000, ..Ending::default() }, now).unwrap().path
}

/// The trace, in which nothing may be wrong.
fn whole(path: &Path) -> TraceFile {
    let bytes = std::fs::read(path).unwrap();
    let checked = check(Source::Bytes(bytes.clone()), &mut |_| true).unwrap();
    assert_eq!(checked.problems, []);
    assert!(checked.summaries.iter().all(|lane| lane.op.iter().any(|op| op.0 > 0)));
    TraceFile::open(Source::Bytes(bytes)).unwrap()
}

/// Numbers of the tokens whose op spans are there, first and last.
fn first_and_last(trace: &TraceFile) -> (u32, u32) {
    let mut ids = Vec::new();
    for block in trace.blocks_of::<OpSpans>() {
        ids.extend(trace.read::<OpSpans>(block, ColumnSet::ALL).unwrap().graph_span);
    }
    (*ids.iter().min().unwrap(), *ids.iter().max().unwrap())
}

fn marks(trace: &TraceFile) -> Vec<(u64, String)> {
    let read = |block| trace.read::<Marks>(block, ColumnSet::ALL).unwrap();
    let rows = trace.blocks_of::<Marks>().flat_map(|block| read(block).rows().collect::<Vec<_>>());
    rows.map(|row| (row.time, trace.strings[row.label as usize].clone())).collect()
}

#[test]
fn a_ring_keeps_the_last_seconds_and_nothing_refers_to_what_was_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = sink(folder.path(), &Long { ring: Some(Duration::from_secs(2)), ..long() });
    tokens(&mut sink, 0..200, None);
    let path = end(&mut sink, "interrupted").unwrap();
    let trace = whole(&path);
    let (first, last) = first_and_last(&trace);
    assert_eq!(last, 199);
    // Two seconds are 40 tokens; a chunk more at most.
    assert!((141..=160).contains(&first), "{first}");
    let ending = trace.ending.unwrap();
    assert_eq!(ending.reason, "interrupted; ring of 2 s");
    assert!((820..=860).contains(&ending.events), "{}", ending.events);
    assert_eq!(trace.graphs.len(), 3);
}

#[test]
fn a_ring_that_cannot_hold_its_seconds_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = sink(folder.path(), &Long { ring: Some(Duration::from_secs(60)), ..long() });
    let super::super::Out::Ring(ring) = &mut sink.out else { panic!("no ring") };
    ring.max_bytes = 30_000;
    tokens(&mut sink, 0..300, None);
    let super::super::Out::Ring(ring) = &sink.out else { panic!("no ring") };
    assert!(ring.bytes <= 30_000);
    let now = sink_now(&sink);
    let written = sink.finish(&Ending { reason: "interrupted".into(), ..Ending::default() }, now).unwrap();
    let trace = whole(&written.path.unwrap());
    assert!(first_and_last(&trace).0 > 50);
    let reason = trace.ending.as_ref().unwrap().reason.clone();
    assert!(reason.starts_with("interrupted; ring of 60 s, of which 0 MB held "), "{reason}");
    assert!(written.notes[0].starts_with("warning: ring of 60 s, of which"), "{:?}", written.notes);
    assert!(marks(&trace)[0].1.starts_with("begins late: of which"), "{:?}", marks(&trace));
}

#[test]
fn a_slow_token_is_saved_with_what_led_to_it_a_tail_and_a_mark() {
    let folder = tempfile::tempdir().unwrap();
    let trigger_tpot = Some(Duration::from_millis(30));
    let ring = Some(Duration::from_secs(2));
    let mut sink = sink(folder.path(), &Long { ring, trigger_tpot, triggers: Some(2), ..long() });
    tokens(&mut sink, 0..100, Some(90));
    assert!(!folder.path().join("a-1.llmtrace").exists(), "the tail is not over");
    tokens(&mut sink, 100..180, None);
    let trace = whole(&folder.path().join("a-1.llmtrace"));
    let (first, last) = first_and_last(&trace);
    assert!((32..=50).contains(&first) && (109..=112).contains(&last), "{first} {last}");
    assert_eq!(marks(&trace), [(90 * 50 * MILLI, "token of 40.0 ms, above 30 ms".to_owned())]);
    assert_eq!(trace.ending.unwrap().reason, "token of 40.0 ms, above 30 ms; ring of 2 s");
    assert_eq!(sink.done(), None);
    sink.save("asked for by a signal");
    tokens(&mut sink, 180..300, None);
    assert_eq!(sink.done(), Some(super::super::TRIGGERS));
    let path = end(&mut sink, super::super::TRIGGERS).unwrap();
    assert_eq!(path, folder.path().join("a-2.llmtrace"));
    assert_eq!(marks(&whole(&path))[0].1, "asked for by a signal");
    // What was created to see that it can be is gone.
    assert!(!folder.path().join("a.llmtrace").exists());
}

#[test]
fn an_ending_cuts_the_tail_short_and_saves_both() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = sink(folder.path(), &Long { trigger_tpot: Some(Duration::from_millis(30)), ..long() });
    tokens(&mut sink, 0..100, Some(98));
    let path = end(&mut sink, "target exited").unwrap();
    assert_eq!(first_and_last(&whole(&path)), (0, 99));
    assert_eq!(first_and_last(&whole(&folder.path().join("a-1.llmtrace"))), (0, 99));
}

#[test]
fn files_follow_each_other_without_gap_and_the_oldest_go() {
    let folder = tempfile::tempdir().unwrap();
    let rotate = Some(Rotate::Every(Duration::from_secs(1)));
    let mut sink = sink(folder.path(), &Long { rotate, keep: Some(4), ..long() });
    let label = sink.string("here").0;
    tokens(&mut sink, 0..195, None);
    sink.push_mark(Mark { time: 9_750 * MILLI, label }).unwrap();
    // However late the end is, no file without rows is begun for it.
    let late = Totals { now: 60_000 * MILLI, ..Totals::default() };
    let ending = Ending { reason: "interrupted".into(), events: 200, ..Ending::default() };
    let written = sink.finish(&ending, late).unwrap();
    let mut names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|it| it.unwrap().path()).collect();
    names.sort();
    assert_eq!(names.len(), 4);
    assert_eq!(written.path.as_ref(), names.last());
    assert!(written.notes[0].contains("older removed"), "{:?}", written.notes);
    let traces: Vec<_> = names.iter().map(|path| whole(path)).collect();
    for pair in traces.windows(2) {
        assert_eq!(
            first_and_last(&pair[0]).1 + 1,
            first_and_last(&pair[1]).0,
            "the next token is in the next file"
        );
        assert_eq!(pair[0].header, pair[1].header, "times count from the same start");
        assert!(pair[0].ending.as_ref().unwrap().reason.starts_with("continued in a-0"));
    }
    for trace in &traces {
        assert!(trace.recording.is_some());
        assert_eq!((trace.graphs.len(), trace.threads.rows().count()), (3, 2));
        let levels =
            trace.blocks.iter().filter(|block| block.kind == llmtrace_format::constants::kind::LEVEL_CHANGES);
        assert_eq!(levels.map(|block| block.rows).sum::<u32>(), 1, "the level that holds is repeated");
    }
    assert_eq!(first_and_last(&traces[3]).1, 194);
    assert_eq!(marks(&traces[3])[0].1, "here");
}

#[test]
fn files_of_a_size_keep_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = sink(folder.path(), &Long { rotate: Some(Rotate::Bytes(400_000)), ..long() });
    tokens(&mut sink, 0..1500, None);
    end(&mut sink, "interrupted");
    let mut names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|it| it.unwrap().path()).collect();
    names.sort();
    assert!(names.len() > 1);
    let mut next = 0;
    for path in &names {
        assert!(path.metadata().unwrap().len() <= 400_000);
        let (first, last) = first_and_last(&whole(path));
        assert_eq!(first, next);
        next = last + 1;
    }
    assert_eq!(next, 1500);
}
