//! Totals of backends: what is counted once, and what is not known.
#![expect(clippy::unwrap_used, reason = "tests may panic")]

use llmtrace_analysis::offload::totals;
use llmtrace_analysis::work::graph_work;
use llmtrace_analysis::{TimeRange, Trace, cut};
use llmtrace_format::constants::NONE;
use llmtrace_format::meta::{Backend, Ending, Graph, NameSource, Recording, Tensor, TensorType};
use llmtrace_format::offload::{Copy, CopyCall, Direction, OffloadRow, SchedulerRun, Split, Sync};
use llmtrace_format::{Header, Source, Writer};

fn split(id: u32, backend: u32, begin: u64, end: u64, graph: u32) -> OffloadRow {
    let split = Split { id, begin, end, run: 0, backend, graph, nodes: 1, ..Split::default() };
    OffloadRow::Split(Split { graph_span: NONE, ..split })
}

fn sync(backend: u32, begin: u64, end: u64) -> OffloadRow {
    OffloadRow::Sync(Sync { begin, end, backend, run: NONE, ..Sync::default() })
}

/// A CPU that computes within the call, and a device whose name is that of its file.
fn bytes() -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), Header::new(0, 0)).unwrap();
    let cpu = Backend { name: "CPU".into(), name_source: NameSource::Target, ..Backend::default() };
    let device = Backend {
        name: "libggml-x.so".into(),
        name_source: NameSource::File,
        synchronizes: true,
        ..Backend::default()
    };
    let types = vec![
        TensorType { name: "f32".into(), block_elements: 1, block_bytes: 4 },
        TensorType { name: "q8_0".into(), block_elements: 32, block_bytes: 34 },
    ];
    let recording = Recording { backends: vec![cpu, device], types, ..Recording::default() };
    writer.write_recording(&recording).unwrap();
    let tensor = |op, ne, tensor_type, sources| {
        // A stride of 0 would mean that rows are repeated.
        Tensor { op, ne, nb: [1; 4], tensor_type, sources, ..Tensor::default() }
    };
    let (mul_mat, none) = (writer.string("MUL_MAT"), writer.string("NONE"));
    let tensors = vec![
        tensor(mul_mat, [3, 2, 1, 1], 0, vec![1, 2]),
        tensor(none, [64, 3, 1, 1], 1, vec![]),
        tensor(none, [64, 2, 1, 1], 0, vec![]),
    ];
    writer.write_graph(&Graph { id: 0, tensors, nodes: 1 }).unwrap();
    writer.push_offload(OffloadRow::Run(SchedulerRun {
        begin: 0,
        end: 900,
        ubatch: NONE,
        ..SchedulerRun::default()
    }));
    // Two splits of the device before one wait; then one for which nobody waits.
    let rows =
        [split(0, 0, 10, 110, 0), split(1, 1, 200, 220, 0), split(2, 1, 230, 240, 0), sync(1, 300, 400)];
    rows.into_iter().for_each(|row| writer.push_offload(row));
    let [host, there] = ["host", "there"].map(|text| writer.string(text).0);
    let copy = |direction: Direction, source: u32, target: u32, bytes: u64| {
        let copy = Copy {
            begin: 150,
            end: 160,
            call: CopyCall::Copy as u8,
            source,
            target,
            bytes,
            ..Copy::default()
        };
        OffloadRow::Copy(Copy {
            direction: direction as u8,
            source_memory: host,
            target_memory: there,
            split: 1,
            ..copy
        })
    };
    writer.push_offload(copy(Direction::HostToDevice, 0, 1, 100));
    // Within the device's own memory of the host.
    writer.push_offload(copy(Direction::HostToHost, 1, 1, 7));
    writer.push_offload(copy(Direction::Unknown, NONE, NONE, 9));
    writer.finish(&Ending::default()).unwrap()
}

fn open(bytes: Vec<u8>) -> Trace {
    let trace = Trace::open(Source::Bytes(bytes), &mut |_| true).unwrap();
    assert_eq!(trace.warnings, []);
    trace
}

#[test]
fn a_device_is_busy_at_most_until_the_next_wait_and_once() {
    let trace = open(bytes());
    assert_eq!(trace.offload.bounds, [Some(110), Some(400), Some(400)]);
    let found = totals(&trace, None, None);
    let [cpu, device] = &found.backends[..] else { panic!("{found:?}") };
    assert_eq!((cpu.splits, cpu.host_nanos, cpu.bound_nanos, cpu.waits), (1, 100, Some(100), 0));
    assert_eq!((device.splits, device.host_nanos, device.bound_nanos), (2, 30, Some(200)));
    assert_eq!((device.waits, device.wait_nanos, device.name_is_files), (1, 100, true));
    assert_eq!((device.copies_in.count, device.copies_in.bytes, device.copies_in.nanos), (1, 100, 10));
    // The host's memory is nobody's device.
    assert_eq!((device.copies_out.count, cpu.copies_out.count), (0, 0));
    let ways: Vec<_> = found.copies.iter().map(|row| (row.direction, row.sums.bytes)).collect();
    assert_eq!(ways, [("host to device", 100), ("unknown", 9), ("host to host", 7)]);
}

#[test]
fn a_device_for_which_nobody_waits_is_not_bounded() {
    let trace = open(bytes());
    let found = totals(&trace, Some(TimeRange::new(0, 250)), None);
    // The wait is known all the same: it ended what began before.
    assert_eq!(found.backends.iter().map(|backend| backend.waits).sum::<u64>(), 0);
    assert_eq!(found.backends.last().unwrap().bound_nanos, Some(200));
    let mut file = Vec::new();
    (file, _) = cut::cut(&trace, TimeRange::new(0, 250), file, &mut |_| true).unwrap();
    let trace = open(file);
    assert_eq!(trace.offload.bounds, [Some(110), None, None]);
    let found = totals(&trace, None, None);
    let device = found.backends.last().unwrap();
    assert_eq!((device.splits, device.bound_nanos), (2, None));
    // Nodes and names came along.
    assert_eq!((device.unknown_splits, device.work.flops > Some(0)), (0, true));
    assert!(found.copies.iter().all(|row| row.from == "host" && row.to == "there"));
}

#[test]
fn work_follows_from_shapes() {
    let trace = open(bytes());
    let work = graph_work(&trace.file, trace.graph(0).unwrap());
    // Six results of 64 products and sums; a quantised weight of three rows of two blocks.
    assert_eq!(work.flops, Some(6 * 64 * 2));
    assert_eq!(work.bytes(), Some(3 * 2 * 34 + 2 * 64 * 4 + 6 * 4));
}
