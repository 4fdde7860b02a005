//! Numbers that may never change, and files that must always open.
#![expect(clippy::unwrap_used, reason = "tests may panic")]

use llmtrace_format::counters::{
    CounterSums, OpCounter, OpCounters, ProcessSample, ProcessSamples, SystemSample, SystemSamples,
    WITH_WAIT_BEFORE,
};
use llmtrace_format::inference::{
    ALL_SEQUENCES, Call, CallKind, Calls, InferenceRow, KvOperation, KvOperationRow, KvOperations,
    SequenceRun, SequenceRuns, Speculation, Speculations, TokenRow, Tokens, UNKNOWN_RESULT,
};
use llmtrace_format::machine::{
    BlockRead, BlockReads, Fault, Faults, Frequencies, Frequency, MachineRow, State, ThreadState,
    ThreadStates,
};
use llmtrace_format::meta::{
    Backend, CeilingRate, Ceilings, Counter, Ending, FileTensor, Graph, Host, Level, MappedFile, NameSource,
    Object, Probe, ProbeCost, ProbeHits, Process, Quantity, Recording, Source as RecordedSource, Target,
    Tensor, TensorType,
};
use llmtrace_format::offload::{
    Copies, Copy, CopyCall, Direction, OffloadRow, SchedulerRun, SchedulerRuns, Split, Splits, Sync, Syncs,
};
use llmtrace_format::tables::{
    Buckets, Decode, Decodes, ExecutionTotals, Expert, Experts, GraphSpan, GraphSpans, LevelChange,
    LevelChanges, Loss, Losses, Mark, Marks, NodeTotals, Phase, Selection, SelectionStatus, Selections,
    Thread, Ubatch, Ubatches,
};
use llmtrace_format::{ColumnSet, Header, OpSpan, OpSpans, Source, TraceFile, Writer};
use std::fmt::Write as _;

use llmtrace_format::constants::*;

#[test]
fn constants_keep_their_values() {
    assert_eq!((&MAGIC, &END_MAGIC), (b"LLMTRACE", b"LLMTREND"));
    assert_eq!((VERSION_MAJOR, VERSION_MINOR), (1, 3));
    assert_eq!((HEADER_LEN, TRAILER_LEN, BLOCK_HEADER_LEN, DIRECTORY_ENTRY_LEN), (40, 24, 48, 16));
    assert_eq!(&BLOCK_MARKER, b"\xABBLK");
    let kinds = [
        (kind::RECORDING, 1),
        (kind::STRINGS, 2),
        (kind::GRAPH, 3),
        (kind::ENDING, 4),
        (kind::THREADS, 8),
        (kind::DECODES, 16),
        (kind::UBATCHES, 17),
        (kind::GRAPH_SPANS, 18),
        (kind::OP_SPANS, 19),
        (kind::BUCKETS, 24),
        (kind::NODE_TOTALS, 25),
        (kind::EXECUTION_TOTALS, 26),
        (kind::LOSSES, 32),
        (kind::LEVEL_CHANGES, 33),
        (kind::MARKS, 34),
        (kind::SEQUENCE_RUNS, 50),
        (kind::KV_OPERATIONS, 51),
        (kind::CALLS, 52),
        (kind::SPECULATIONS, 53),
        (kind::TOKENS, 54),
        (kind::SPLITS, 45),
        (kind::COPIES, 46),
        (kind::SYNCS, 47),
        (kind::SCHEDULER_RUNS, 48),
        (kind::THREAD_STATES, 60),
        (kind::FREQUENCIES, 61),
        (kind::FAULTS, 62),
        (kind::BLOCK_READS, 63),
        (kind::SELECTIONS, 40),
        (kind::EXPERTS, 41),
        (kind::OP_COUNTERS, 65),
        (kind::COUNTER_SUMS, 66),
        (kind::PROCESS_SAMPLES, 67),
        (kind::SYSTEM_SAMPLES, 68),
        (kind::LONG_FOOTER, 0xFFFE),
        (kind::FOOTER, 0xFFFF),
    ];
    assert!(kinds.iter().all(|(constant, value)| constant == value));
    assert_eq!((encoding::PLANES, encoding::CONSTANT, encoding::DELTA, encoding::RUNS), (0, 1, 2, 3));
    assert_eq!((encoding::PERIODIC, encoding::SIBLING), (4, 5));
    assert_eq!((encoding::STRUCTURED, compression::NONE, compression::ZSTD), (255, 0, 1));
}

/// A small file with a row in every table.
fn every_table() -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), Header::new(1_790_000_000_000_000_000, 123_456_789)).unwrap();
    let object = Object { name: "libggml-cpu.so".into(), build_id: "c0ffee".into(), stripped: true };
    let probe = Probe {
        purpose: "barrier".into(),
        symbol: "ggml_barrier".into(),
        object: "libggml-cpu.so".into(),
        offset: 14,
        instruction: "je".into(),
        emulated: true,
        on_return: false,
    };
    let recording = Recording {
        recorder_version: "0.1.0".into(),
        level_asked: Level::Thread,
        level: Level::Op,
        level_reason: "an example".into(),
        host: Host { name: "box".into(), cpus: 2, memory_bytes: 1 << 34, ..Host::default() },
        target: Target { pid: 42, exe: "llama-cli".into(), objects: vec![object], ..Target::default() },
        probes: vec![probe],
        types: vec![TensorType { name: "f32".into(), block_elements: 1, block_bytes: 4 }],
        costs: vec![ProbeCost { purpose: "barrier".into(), nanos: 800 }],
        processes: vec![Process { pid: 42, parent: 1, exe: "llama-cli".into(), ..Process::default() }],
        max_overhead_permille: 50,
        window: 1,
        sources: vec![RecordedSource {
            name: "tokens".into(),
            recorded: false,
            reason: "not asked for".into(),
        }],
        backends: vec![Backend {
            name: "Vulkan0".into(),
            name_source: NameSource::Target,
            device: "Vulkan0".into(),
            description: "a device".into(),
            object: "libggml-vulkan.so".into(),
            process: 0,
            synchronizes: true,
        }],
        experts: "where their weights are gathered".into(),
        ceilings: Some(Ceilings {
            measured_unix_secs: 1_790_000_000,
            cpu_model: "a CPU".into(),
            simd: "avx2, fma".into(),
            buffer_bytes: 1 << 29,
            rates: vec![CeilingRate {
                quantity: Quantity::Int8Ops,
                threads: 2,
                rounds: 7,
                median: 900_000_000_000,
                lowest: 800_000_000_000,
                highest: 910_000_000_000,
            }],
        }),
        counters: vec![
            counter("page-faults", "", "task", ""),
            counter("cycles", "", "perf", "type 0, config 0x0"),
        ],
        counters_missing: vec![RecordedSource {
            name: "r1234".into(),
            recorded: false,
            reason: "no PMU".into(),
        }],
        sampled: vec![counter("package-0", "µJ", "powercap", "")],
        files: vec![MappedFile {
            name: "gemma.gguf".into(),
            bytes: 1 << 20,
            tensors: vec![FileTensor { name: "blk.0.w".into(), offset: 0x4000, bytes: 0x8000 }],
        }],
    };
    writer.write_recording(&recording).unwrap();
    let weight = Tensor { name: writer.string("blk.0.w"), op: writer.string("NONE"), ..Tensor::default() };
    let node = |writer: &mut Writer<Vec<u8>>, name: &str| Tensor {
        name: writer.string(name),
        op: writer.string("MUL_MAT"),
        ne: [4, 3, 1, 1],
        nb: [4, 16, 48, 48],
        sources: vec![2],
        view_of: (name == "b").then_some(0),
        op_params: [-1; 16],
        ..Tensor::default()
    };
    let tensors = vec![node(&mut writer, "a"), node(&mut writer, "b"), weight];
    writer.write_graph(&Graph { id: 0, tensors, nodes: 2 }).unwrap();
    writer.push_thread(Thread { id: 0, ith: 0, tid: 42, pid: 42 });
    writer.push_decode(Decode {
        id: 0,
        begin: 10,
        end: 900,
        tid: 42,
        tokens: 3,
        is_encode: 0,
        result: u32::MAX,
        context: 0,
        process: 0,
    });
    let phase = Phase::Prefill as u8;
    writer.push_ubatch(Ubatch { id: 0, begin: 20, end: 890, decode: 0, tokens: 3, sequences: 1, phase });
    for id in 0..40 {
        let begin = 100 * u64::from(id + 1);
        let span = GraphSpan {
            id,
            begin,
            end: begin + 90,
            graph: 0,
            ubatch: 0,
            threads: 1,
            tid: 42,
            touched_by_loss: 0,
            probe_hits: 5,
            inferred_begins: 1,
            process: 0,
        };
        writer.push_graph_span(span);
        for node in 0..2 {
            let begin = begin + 40 * u64::from(node);
            let span = OpSpan {
                begin,
                compute: 30 + u64::from(id),
                wait: 3,
                node,
                graph_span: id,
                cpu: 1,
                ..OpSpan::default()
            };
            writer.push_op_span(0, span).unwrap();
        }
    }
    writer.push_loss(Loss { begin: 0, end: 50, event: 9, count: 7, cpu: 1 });
    let reason = writer.string("above the budget").0;
    let change = LevelChange { time: 60, process: 0, level: Level::Op as u8, begins: 1, window: 4, reason };
    writer.push_level_change(change);
    let label = writer.string("slow token").0;
    writer.push_mark(Mark { time: 70, label });
    inference_rows().into_iter().for_each(|row| writer.push_inference(row));
    push_offload(&mut writer);
    push_counters(&mut writer);
    push_machine(&mut writer);
    for (id, status) in [(0, SelectionStatus::Whole), (1, SelectionStatus::Partial)] {
        let recorded = 2 - id;
        writer.push_selection(Selection {
            id,
            time: 110 + u64::from(id),
            graph_span: id,
            node: 1,
            tokens: 2,
            used: 2,
            recorded,
            status: status as u8,
            split: NONE,
        });
        for token in 0..recorded {
            let expert = |expert, weight| Expert { selection: id, token, expert, weight };
            writer.push_expert(110 + u64::from(id), expert(300 + token, 0.5f32.to_bits())).unwrap();
            writer.push_expert(110 + u64::from(id), expert(7, NONE)).unwrap();
        }
    }
    let ending = Ending {
        reason: "interrupted".into(),
        events: 99,
        lost: 7,
        exit_code: Some(3),
        hits: vec![ProbeHits { purpose: "barrier".into(), ith: 0, hits: 6 }],
        ..Ending::default()
    };
    writer.finish(&ending).unwrap()
}

/// A row in each table of what goes on around graphs.
fn inference_rows() -> Vec<InferenceRow> {
    let sequence =
        SequenceRun { time: 20, ubatch: 0, sequence: 2, position: 5, tokens: 3, outputs: 1, further: 1 };
    let kv = KvOperationRow {
        time: 12,
        tid: 42,
        operation: KvOperation::Add as u8,
        memory: 0,
        context: 0,
        sequence: ALL_SEQUENCES,
        begin: 8,
        end: NONE,
        value: (-4i32) as u32,
        process: 0,
    };
    let call = Call {
        begin: 901,
        end: 950,
        kind: CallKind::Sample as u8,
        tid: 42,
        context: 0,
        argument: NONE,
        result: UNKNOWN_RESULT,
        process: 0,
    };
    let round =
        Speculation { time: 960, tid: 42, sequence: 2, ubatch: 0, drafted: 3, accepted: 2, process: 0 };
    let token = TokenRow { time: 20, ubatch: 0, index: 1, token: 2364, tid: 42, process: 0 };
    vec![
        InferenceRow::Sequence(sequence),
        InferenceRow::Kv(kv),
        InferenceRow::Call(call),
        InferenceRow::Speculation(round),
        InferenceRow::Token(token),
    ]
}

fn counter(name: &str, unit: &str, source: &str, event: &str) -> Counter {
    Counter { name: name.into(), unit: unit.into(), source: source.into(), event: event.into() }
}

fn push_counters(writer: &mut Writer<Vec<u8>>) {
    for (id, count) in [(0, None), (1, Some(0)), (2, Some(70_000))] {
        let row = OpCounter {
            begin: 100 * u64::from(id + 1),
            node: 0,
            fused: 0,
            graph_span: id,
            flags: if id == 0 { 0 } else { WITH_WAIT_BEFORE },
            scaled: if id == 2 { 2 } else { 0 },
            ..OpCounter::default()
        };
        let counts = [Some(1), count, None, None, None, None, None, None];
        writer.push_op_counter(0, row.with_counts(counts)).unwrap();
    }
    writer.push_process_sample(ProcessSample {
        time: 500,
        process: 0,
        cpu_nanos: 401,
        resident: (1 << 28) + 1,
        resident_files: (1 << 27) + 1,
        model_resident: 0,
        model_share: 0,
    });
    writer.push_system_sample(SystemSample { time: 500, source: 0, value: 123_456_789 });
}

fn push_machine(writer: &mut Writer<Vec<u8>>) {
    let other = writer.string("stress").0;
    let state = |begin, end, state: State| ThreadState {
        begin,
        end,
        tid: 42,
        state: state as u8,
        cpu: 1,
        other_tid: NONE,
        other_pid: NONE,
        ..ThreadState::default()
    };
    let preempted = ThreadState { other_tid: 78, other_pid: 77, other, ..state(200, 260, State::Preempted) };
    for row in [state(100, 200, State::Running), preempted, state(260, 270, State::Faulting)] {
        writer.push_machine(MachineRow::State(row));
    }
    let sample = Frequency { begin: 0, end: 500, cpu: 1, khz: 3_400_000, touched_by_loss: 0 };
    writer.push_machine(MachineRow::Frequency(sample));
    writer.push_machine(MachineRow::Fault(Fault {
        begin: 255,
        end: 270,
        tid: 42,
        process: 0,
        count: 3,
        major: 1,
        unaddressed: 1,
        wait: 10,
        address: 0x7f00_0000_1000,
        bytes: 0x11000,
        file: 0,
        offset: 0x4000,
        known: 1,
        touched_by_loss: 0,
    }));
    let (bytes, device) = (131_072, 254 << 20);
    let read = BlockRead { begin: 258, end: 268, tid: 42, process: 0, bytes, device, touched_by_loss: 0 };
    writer.push_machine(MachineRow::Read(read));
}

fn push_offload(writer: &mut Writer<Vec<u8>>) {
    let run = SchedulerRun { id: 0, begin: 80, end: 99, ubatch: 0, tid: 42, process: 0, touched_by_loss: 0 };
    writer.push_offload(OffloadRow::Run(run));
    writer.push_offload(OffloadRow::Split(Split {
        id: 0,
        begin: 86,
        end: 92,
        run: 0,
        backend: 0,
        graph: 0,
        first_node: 7,
        nodes: 2,
        graph_span: NONE,
        tid: 42,
        process: 0,
        touched_by_loss: 0,
    }));
    let [source_memory, target_memory, tensor] =
        ["CPU", "Vulkan0", "l_out-8"].map(|text| writer.string(text).0);
    writer.push_offload(OffloadRow::Copy(Copy {
        begin: 81,
        end: 84,
        call: CopyCall::Copy as u8,
        direction: Direction::HostToDevice as u8,
        source: NONE,
        target: 0,
        source_memory,
        target_memory,
        bytes: 2560,
        tensor,
        split: 0,
        run: 0,
        tid: 42,
        process: 0,
        touched_by_loss: 1,
    }));
    writer.push_offload(OffloadRow::Sync(Sync {
        begin: 93,
        end: 98,
        backend: 0,
        run: 0,
        tid: 42,
        process: 0,
        touched_by_loss: 0,
    }));
}

/// Writes the fixture of the current version, and the texts of the earlier ones, in which later
/// fields appear; only ever for a new version.
#[test]
#[ignore = "writes a file; run once for a new version"]
fn write_fixture() {
    std::fs::write("tests/fixtures/new.llmtrace", every_table()).unwrap();
    let text = describe(&TraceFile::open(Source::Bytes(every_table())).unwrap());
    std::fs::write("tests/fixtures/new.txt", text).unwrap();
    for (minor, bytes, _) in WRITTEN {
        let text = describe(&TraceFile::open(Source::Bytes(bytes.to_vec())).unwrap());
        std::fs::write(format!("tests/fixtures/v1.{minor}.txt"), text).unwrap();
    }
}

#[test]
fn writer_still_writes_what_the_fixture_holds() {
    assert_eq!(
        describe(&TraceFile::open(Source::Bytes(every_table())).unwrap()),
        include_str!("fixtures/v1.3.txt")
    );
}

/// Files that the writers of each version wrote, and what was in them. What later versions
/// added reads as absent.
const WRITTEN: &[(u16, &[u8], &str)] = &[
    (0, include_bytes!("fixtures/v1.0.llmtrace"), include_str!("fixtures/v1.0.txt")),
    (1, include_bytes!("fixtures/v1.1.llmtrace"), include_str!("fixtures/v1.1.txt")),
    (2, include_bytes!("fixtures/v1.2.llmtrace"), include_str!("fixtures/v1.2.txt")),
    (3, include_bytes!("fixtures/v1.3.llmtrace"), include_str!("fixtures/v1.3.txt")),
];

#[test]
fn every_version_still_opens_and_says_the_same() {
    assert_eq!(WRITTEN.len(), usize::from(VERSION_MINOR) + 1);
    for (minor, bytes, text) in WRITTEN {
        let trace = TraceFile::open(Source::Bytes(bytes.to_vec())).unwrap();
        assert_eq!(trace.warnings, []);
        assert_eq!((trace.header.major, trace.header.minor), (1, *minor));
        assert_eq!(describe(&trace), *text);
    }
}

/// Everything in a trace, as text.
fn describe(trace: &TraceFile) -> String {
    let mut text =
        format!("{:#?}\n{:#?}\n", trace.recording.as_ref().unwrap(), trace.ending.as_ref().unwrap());
    for graph in &trace.graphs {
        for tensor in &graph.tensors {
            let (name, op) = (trace.string(tensor.name), trace.string(tensor.op));
            writeln!(text, "{name} {op} {:?} {:?} {:?}", tensor.ne, tensor.nb, tensor.sources).unwrap();
        }
    }
    for block in trace.blocks_of::<OpSpans>() {
        let table: OpSpans = trace.read(block, ColumnSet::ALL).unwrap();
        table.spans(block.range).for_each(|span| writeln!(text, "lane {} {span:?}", block.lane).unwrap());
    }
    trace.threads.rows().for_each(|row| writeln!(text, "{row:?}").unwrap());
    let mut rest = Vec::new();
    macro_rules! rows {
        ($($table:ident)+) => { $( trace.read_all::<$table>(
            |_, table| rest.extend(table.rows().map(|row| format!("{row:?}"))),
            &mut Vec::new(),
        ); )+ };
    }
    rows!(Decodes Ubatches GraphSpans Losses LevelChanges Marks Buckets NodeTotals ExecutionTotals);
    rows!(SequenceRuns KvOperations Calls Speculations Tokens);
    rows!(SchedulerRuns Splits Copies Syncs Selections Experts);
    rows!(OpCounters CounterSums ProcessSamples SystemSamples);
    rows!(ThreadStates Frequencies Faults BlockReads);
    writeln!(text, "{}\n{:?}", rest.join("\n"), trace.summaries).unwrap();
    text
}
