//! One build, its workload, and what its recording must show.

use crate::invariants::{check_every, decodes_have_the_same_nodes, operators_are_named};
use crate::workload::{Run, open, recorder};
use llmtrace_analysis::inference::{Request, requests, unknown_tokens};
use llmtrace_analysis::{Phase, Trace};
use llmtrace_format::constants::NONE;
use llmtrace_format::meta::{Graph, Level};
use std::collections::HashMap;
use std::env;
use std::path::PathBuf;
use std::process::Command;

const THREADS: usize = 2;
/// Nodes in a graph of the smallest model here.
const LEAST_NODES: usize = 30;

/// What is recorded, and what is known of it.
pub(crate) struct Build {
    /// Its folder.
    pub(crate) name: &'static str,
    /// How much it computes: tokens to generate, or graphs.
    pub(crate) workload: u32,
    /// Decode calls of one token each; `None` without llama.
    pub(crate) decodes: Option<usize>,
    /// Some of its operators.
    pub(crate) operators: &'static [&'static str],
    /// Whether it can tell its version.
    pub(crate) ggml_version: bool,
    /// The instruction at which an arrival at a barrier is seen.
    pub(crate) barrier: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    AsShipped,
    Stripped,
}

/// The build gives operators and waits: all that there is.
pub(crate) fn thread_level(build: &Build, form: Form) {
    let run = record(build, form);
    let trace = open(&run);
    check_every(&trace, THREADS);
    check_target(&trace, build, form);
    operators_are_named(&trace, build.operators);
    equal_graphs_have_equal_nodes(&trace);
    let recording = trace.file.recording.as_ref().unwrap();
    let barriers: Vec<_> = recording.probes.iter().filter(|probe| probe.purpose == "barrier").collect();
    assert!(!barriers.is_empty());
    for probe in barriers {
        assert_eq!(probe.instruction, build.barrier, "{probe:?}");
        assert!(probe.symbol.contains("in the loop"), "{probe:?}");
    }
    let waited: u64 = trace.lanes().iter().flat_map(|lane| trace.spans(lane.id)).map(|span| span.wait).sum();
    assert!(waited > 0, "two threads never arrive together every time");
    match build.decodes {
        Some(decodes) => {
            decodes_have_the_same_nodes(&trace, LEAST_NODES);
            sequences_are_known(&trace, decodes);
        }
        None => assert!(trace.decodes.is_empty() && trace.ubatches.is_empty()),
    }
    // An engine that makes each graph anew may have replaced one before it was read: on a machine
    // that does other things, too, this is many of those that take a millisecond.
    let known = trace.graph_spans.iter().filter(|graph| graph.graph != NONE).count();
    assert!(known * 4 > trace.graph_spans.len(), "{known} of {}", trace.graph_spans.len());
    if known < trace.graph_spans.len() {
        return;
    }
    // Attached in the middle of a graph at most.
    let orphans = trace.file.ending.as_ref().unwrap().orphans;
    let largest = trace.file.graphs.iter().map(|graph| u64::from(graph.nodes)).max().unwrap();
    assert!(orphans <= 2 * largest * THREADS as u64, "{orphans} events without a graph");
}

/// The layout of the build's micro-batches is known: positions follow each other.
fn sequences_are_known(trace: &Trace, decodes: usize) {
    assert_eq!(unknown_tokens(trace), Some(0));
    let requests = requests(trace);
    let generated = |request: &Request| request.generated_tokens == Some(decodes as u32 + 1);
    assert!(requests.iter().any(|request| request.whole && generated(request)), "{requests:?}");
    assert!(requests.iter().all(|request| request.key.sequence < 64), "{requests:?}");
}

/// The build does not say where nodes begin: the reason is given, and graphs are recorded.
pub(crate) fn graph_level(build: &Build, form: Form) {
    let run = record(build, form);
    let trace = open(&run);
    check_target(&trace, build, form);
    let recording = trace.file.recording.as_ref().unwrap();
    assert_eq!((recording.level_asked, recording.level), (Level::Thread, Level::Graph));
    let reason = "the target has no function ggml_cpu_extra_compute_forward";
    assert!(recording.level_reason.starts_with(reason), "{}", recording.level_reason);
    // What a probe would tell that cannot be used is not probed.
    for probe in &recording.probes {
        let useful = ["decode", "graph", "scheduler", "backends", "split", "wait", "KV", "call", "experts"];
        assert!(useful.iter().any(|of| probe.purpose.starts_with(of)), "{probe:?}");
    }
    assert_eq!((trace.op_span_count(), trace.lanes().len()), (0, 0));
    assert!(trace.graph_spans.iter().all(|graph| graph.threads == THREADS as u32));
    // Graphs of this age have no number: one that is gone before it is read stays unknown.
    let known = trace.graph_spans.iter().filter(|graph| graph.graph != NONE).count();
    assert!(known * 2 > trace.graph_spans.len(), "{known} of {}", trace.graph_spans.len());
    // `src` lies elsewhere in this version: graphs have edges only if it is found.
    operators_are_named(&trace, build.operators);
    assert!(trace.file.graphs.iter().all(edges_are_read));
    // One for the prompt, one for all tokens.
    assert_eq!(trace.file.graphs.len(), 2);
    says_why(&run, &recording.level_reason);
}

/// `llmtrace info` says which level there is, and why, as text and as JSON.
fn says_why(run: &Run, reason: &str) {
    let info = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_llmtrace"));
        let output = command.arg("info").arg(&run.trace).args(arguments).output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(info(&[]).contains(&format!("graph (thread was asked for: {reason})")));
    let json: serde_json::Value = serde_json::from_str(&info(&["--json"])).unwrap();
    assert_eq!([&json["level"], &json["level_asked"], &json["level_reason"]], ["graph", "thread", reason]);
}

fn record(build: &Build, form: Form) -> Run {
    let variable = "LLMTRACE_TEST_BUILDS";
    let builds = env::var_os(variable)
        .unwrap_or_else(|| panic!("{variable} is not set: run the tests with `make test`"));
    let folder = PathBuf::from(builds).join(build.name);
    let form = match form {
        Form::AsShipped => "as-shipped",
        Form::Stripped => "stripped",
    };
    let program = folder.join(form).join("run");
    assert!(program.exists(), "{} was not prepared; see {}", build.name, folder.join("skipped").display());
    let run = Run::new();
    let mut command = recorder(&run, &["-q", "--"]);
    command.arg(program).arg(THREADS.to_string()).arg(build.workload.to_string());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    run
}

/// What is known of the target; tokens are counted at every level.
fn check_target(trace: &Trace, build: &Build, form: Form) {
    let recording = trace.file.recording.as_ref().unwrap();
    let target = &recording.target;
    for object in &target.objects {
        assert_eq!(object.stripped, form == Form::Stripped, "{object:?}");
    }
    assert_eq!(!target.ggml_version.is_empty(), build.ggml_version);
    assert!(recording.types.iter().any(|known| known.name == "q8_0" && known.block_bytes == 34));
    // Those that are hit a few times a request may be stepped: old builds change an argument at once.
    let seldom =
        |purpose: &str| ["KV operation", "call begin", "call end, where it returns"].contains(&purpose);
    for probe in recording.probes.iter().filter(|probe| !probe.emulated) {
        let sampling = probe.purpose == "call begin" && probe.symbol.contains("sample");
        assert!(seldom(&probe.purpose) && !sampling, "{probe:?}");
    }
    let ending = trace.file.ending.as_ref().unwrap();
    assert_eq!((ending.lost, ending.reason.as_str()), (0, "target exited"));
    let Some(decodes) = build.decodes else { return };
    let of_phase = |phase| trace.tokens.iter().filter(move |token| token.phase == phase);
    assert!(of_phase(Phase::Decode).all(|token| token.tokens == 1), "{:?}", trace.tokens);
    assert_eq!(of_phase(Phase::Decode).count(), decodes);
    assert!(of_phase(Phase::Prefill).any(|token| token.tokens > 20), "{:?}", trace.tokens);
}

/// Runs of graphs with the same operators in the same order show as many nodes, or none: of one that
/// was read half while it was made, nothing is told rather than something wrong.
fn equal_graphs_have_equal_nodes(trace: &Trace) {
    let mut nodes: HashMap<u32, usize> = HashMap::new();
    for span in &trace.spans(trace.lanes()[0].id) {
        *nodes.entry(span.graph_span).or_default() += 1;
    }
    let mut counts: HashMap<Vec<&str>, Vec<usize>> = HashMap::new();
    // The one that ran when the recorder attached may not be whole.
    for span in trace.graph_spans.iter().filter(|span| span.graph != NONE && span.id > 0) {
        let graph = trace.file.graphs.iter().find(|graph| graph.id == span.graph).unwrap();
        let computed = graph.tensors.iter().take(graph.nodes as usize);
        let operators = computed.map(|tensor| trace.file.string(tensor.op)).collect();
        counts.entry(operators).or_default().push(nodes.get(&span.id).copied().unwrap_or(0));
    }
    let most = counts.values().max_by_key(|runs| runs.len()).unwrap();
    assert!(most.len() > 4, "{counts:?}");
    let seen = |runs: &[usize]| runs.iter().copied().filter(|&nodes| nodes > 0).collect::<Vec<_>>();
    let whole = |runs: &[usize]| seen(runs).iter().min() == seen(runs).iter().max();
    assert!(counts.values().all(|runs| whole(runs)), "{counts:?}");
    let all: Vec<usize> = counts.values().flatten().copied().collect();
    assert!(seen(&all).len() * 4 > all.len() * 3, "{counts:?}");
}

/// Whether most nodes have sources, and views know what they are of.
fn edges_are_read(graph: &Graph) -> bool {
    let nodes = &graph.tensors[..graph.nodes as usize];
    nodes.iter().all(|node| !node.sources.is_empty()) && nodes.iter().any(|node| node.view_of.is_some())
}
