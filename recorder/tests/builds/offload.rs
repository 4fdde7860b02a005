//! A real offload: llama.cpp's Vulkan backend on Mesa's llvmpipe, with none, some and all layers
//! on the device.

use crate::build::Form;
use crate::workload::{Run, open, recorder};
use llmtrace_analysis::experts::{Query, experts};
use llmtrace_analysis::offload::{backend_name, totals};
use llmtrace_analysis::{Phase, Trace};
use llmtrace_format::constants::NONE;
use llmtrace_format::meta::{Level, NameSource};
use llmtrace_format::offload::Direction;
use llmtrace_format::tables::{Selection, SelectionStatus, Selections};
use std::env;
use std::path::PathBuf;

const NAME: &str = "vulkan-3.22.1";
/// Bytes of a number.
const F32: u64 = 4;
/// Of Gemma 3 270M: what is handed from layer to layer, for each token.
const EMBEDDING: u64 = 640;

fn record(form: Form, layers: &str, arguments: &[&str]) -> Trace {
    record_model(form, layers, arguments, None)
}

/// With another model than Gemma.
fn record_model(form: Form, layers: &str, arguments: &[&str], model: Option<&str>) -> Trace {
    let builds = PathBuf::from(env::var_os("LLMTRACE_TEST_BUILDS").expect("LLMTRACE_TEST_BUILDS"));
    let form = if form == Form::Stripped { "stripped" } else { "as-shipped" };
    let command = builds.join(NAME).join(form).join("run");
    assert!(command.exists(), "not prepared: {}", command.display());
    let run = Run::new();
    let mut recorder = recorder(&run, &["-q", "--max-overhead", "100"]);
    recorder.args(arguments).arg("--").arg(command).args(["2", "4", layers]).args(model);
    let status = recorder.status().unwrap();
    // This build ends by itself, by a segmentation fault, when llvmpipe decodes a mixture.
    assert!(status.success() || model.is_some());
    let trace = open(&run);
    let ending = trace.file.ending.as_ref().unwrap();
    assert_eq!((ending.lost, trace.warnings.len()), (0, 0));
    trace
}

/// The backends of the splits of each scheduler run of decode calls, in order.
fn patterns(trace: &Trace) -> Vec<Vec<String>> {
    let runs = trace.offload.runs.iter().filter(|run| {
        trace
            .token_at(run.begin)
            .is_some_and(|token| token.phase == Phase::Decode && run.ubatch == token.ubatch)
    });
    let splits = |run: u32| {
        let splits = trace.offload.splits.iter().filter(move |split| split.run == run);
        splits.map(|split| backend_name(trace, split.backend)).collect()
    };
    runs.map(|run| splits(run.id)).collect()
}

/// What holds for each recording of an offload.
fn check(trace: &Trace) {
    let recording = trace.file.recording.as_ref().unwrap();
    let names: Vec<&str> = recording.backends.iter().map(|backend| backend.name.as_str()).collect();
    assert_eq!(names.len(), 2, "{:?}", recording.backends);
    let backend = |name| recording.backends.iter().find(|backend| backend.name == name).expect(name);
    let (cpu, vulkan) = (backend("CPU"), backend("Vulkan0"));
    assert!(recording.backends.iter().all(|backend| backend.name_source == NameSource::Target));
    assert!(vulkan.description.contains("llvmpipe"), "{vulkan:?}");
    assert_eq!(vulkan.object, "libggml-vulkan.so");
    assert!(vulkan.synchronizes && !cpu.synchronizes);
    let offload = &trace.offload;
    // The last token is not computed: its text is all that is wanted.
    assert_eq!(patterns(trace).len(), 3);
    for run in &offload.runs {
        let splits: Vec<_> = offload.splits.iter().filter(|split| split.run == run.id).collect();
        assert!(!splits.is_empty());
        // The splits are the graph, one after the other.
        let mut next = 0;
        for split in splits {
            assert!(run.begin < split.begin && split.end < run.end);
            assert_eq!((split.first_node, split.nodes > 0), (next, true), "{split:?}");
            next += split.nodes;
            let graph = trace.graph(split.graph).expect("its nodes were read");
            assert_eq!(graph.nodes, split.nodes);
            // The CPU's computation is there as a graph span as well, and is the same one.
            let on_cpu = backend_name(trace, split.backend) == "CPU";
            assert_eq!(on_cpu, split.graph_span != NONE, "{split:?}");
            if let Some(span) = trace.graph_span(split.graph_span) {
                assert!(split.begin < span.begin && span.end < split.end);
                assert_eq!(span.graph, split.graph);
            }
        }
    }
    for copy in offload.copies.iter().filter(|copy| copy.split != NONE) {
        let split = offload.splits.iter().find(|split| split.id == copy.split).expect("its split");
        assert!(copy.end < split.begin && copy.run == split.run);
    }
    // Memory that loading the model used may be gone before it was looked at; that is unknown, then.
    let mut of_runs = offload.copies.iter().filter(|copy| copy.run != NONE);
    assert!(of_runs.all(|copy| copy.direction != Direction::Unknown as u8));
    // Somebody waits for all that a device was given.
    assert!(
        offload
            .bounds
            .iter()
            .zip(&offload.splits)
            .all(|(bound, split)| bound.is_some_and(|b| b >= split.end))
    );
}

/// Bytes copied for the splits of the last decode call, to and from the device, as inputs.
fn inputs(trace: &Trace) -> Vec<(String, u64, Direction)> {
    let run = trace.offload.runs.last().unwrap().id;
    let copies = trace.offload.copies.iter().filter(|copy| copy.run == run && copy.split != NONE);
    copies
        .map(|copy| {
            let name = trace.file.string(llmtrace_format::meta::StrId(copy.tensor)).to_owned();
            (name, copy.bytes, Direction::from_u8(copy.direction))
        })
        .collect()
}

pub(crate) fn no_layers(form: Form) {
    let trace = record(form, "0", &["--level", "graph"]);
    check(&trace);
    for pattern in patterns(&trace) {
        assert!(pattern.iter().all(|backend| backend == "CPU"), "{pattern:?}");
    }
}

pub(crate) fn some_layers(form: Form) {
    let trace = record(form, "9", &["--level", "thread"]);
    check(&trace);
    // The first layers stay on the CPU, the last nine of 18 and the output's go to the device.
    for pattern in patterns(&trace) {
        let devices = pattern.iter().filter(|backend| *backend == "Vulkan0").count();
        assert_eq!((pattern.first().map(String::as_str), devices > 0), (Some("CPU"), true), "{pattern:?}");
    }
    // What one layer hands to the next is copied to the device.
    let inputs = inputs(&trace);
    let of_layer = |name: &str| name.rsplit_once('-').is_some_and(|(_, layer)| layer.parse::<u32>().is_ok());
    let mut handed = inputs.iter().filter(|(name, ..)| of_layer(name));
    let is_row = |(_, bytes, way): &(String, u64, Direction)| {
        (*bytes, *way) == (EMBEDDING * F32, Direction::HostToDevice)
    };
    assert!(handed.clone().count() > 0 && handed.all(is_row), "{inputs:?}");
    // Operators of the CPU's part are recorded as ever.
    assert!(trace.op_span_count() > 0);
    let decode = totals(&trace, None, Some(Phase::Decode));
    let [first, second] = &decode.backends[..] else { panic!("{decode:?}") };
    for backend in [first, second] {
        assert!(
            backend.splits >= 3 && backend.work.flops > Some(0) && backend.unknown_splits == 0,
            "{backend:?}"
        );
        assert!(backend.bound_nanos.is_some_and(|bound| bound >= backend.host_nanos), "{backend:?}");
    }
}

pub(crate) fn all_layers(form: Form) {
    let trace = record(form, "max", &["--level", "graph"]);
    check(&trace);
    // All but the row of the embedding, and what the device does not know, is computed there.
    for pattern in patterns(&trace) {
        assert!(pattern.iter().any(|backend| backend == "Vulkan0"), "{pattern:?}");
    }
    let nodes = |name: &str| {
        let splits = trace.offload.splits.iter().filter(|split| backend_name(&trace, split.backend) == name);
        splits.map(|split| u64::from(split.nodes)).sum::<u64>()
    };
    assert!(nodes("Vulkan0") > 10 * nodes("CPU"));
    // The last layer's row of each token comes back: the output's weights are the embedding's,
    // which stays with the CPU.
    let back = trace.offload.copies.iter().filter(|copy| copy.direction == Direction::DeviceToHost as u8);
    assert!(back.filter(|copy| copy.bytes == EMBEDDING * F32).count() >= 3);
}

pub(crate) fn switched_off(form: Form) {
    let trace = record(form, "9", &["--level", "graph", "--no-offload"]);
    assert!(trace.offload.is_empty());
    let recording = trace.file.recording.as_ref().unwrap();
    assert_eq!((recording.level, recording.backends.len()), (Level::Graph, 0));
    assert!(recording.probes.iter().all(|probe| !probe.symbol.contains("ggml_backend")));
    assert!(!trace.graph_spans.is_empty());
}

/// A mixture of experts with half of its layers on the device: what is chosen there is unknown, layer
/// by layer, and nothing of it is guessed.
pub(crate) fn experts_on_the_device(form: Form) {
    let trace = record_model(form, "4", &["--level", "graph"], Some("qwen3moe-synthetic-8x32x512.gguf"));
    let mut rows: Vec<Selection> = Vec::new();
    trace.file.read_all::<Selections>(|_, table| rows.extend(table.rows()), &mut Vec::new());
    let (there, here): (Vec<Selection>, Vec<Selection>) = rows.iter().partition(|row| row.split != NONE);
    assert!(!there.is_empty() && !here.is_empty(), "{rows:?}");
    for row in &there {
        let split = trace.offload.splits.iter().find(|split| split.id == row.split).expect("its split");
        assert_eq!(backend_name(&trace, split.backend), "Vulkan0");
        assert_eq!(
            trace.file.string(trace.graph(split.graph).unwrap().tensors[row.node as usize].op),
            "MUL_MAT_ID"
        );
        let known = (row.graph_span, row.recorded, SelectionStatus::from_u8(row.status));
        assert_eq!(known, (NONE, 0, SelectionStatus::Unknown), "{row:?}");
        assert_eq!((row.used, row.tokens > 0), (4, true));
    }
    assert!(here.iter().all(|row| row.graph_span != NONE && row.recorded == row.tokens), "{here:?}");
    let found = experts(&trace, &Query::default(), &|| true).unwrap();
    // All layers are there: some with all of their tokens, some with none.
    assert_eq!(found.layers.iter().filter_map(|layer| layer.layer).collect::<Vec<_>>(), Vec::from_iter(0..8));
    assert_eq!((found.unknown, found.whole), (there.len() as u64, here.len() as u64));
    let known = found.layers.iter().filter(|layer| layer.tokens > 0).count();
    assert!((3..=5).contains(&known), "{known} of 8 layers are known");
    assert!(
        found.layers.iter().all(|layer| layer.tokens > 0 || layer.counts.iter().all(|count| *count == 0))
    );
}
