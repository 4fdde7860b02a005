//! Experts of a mixture, against what numpy says they must be.

use crate::invariants::check_every;
use crate::workload::{Run, mixture, open, recorder, tool, var, wait_until};
use llmtrace_analysis::experts::{Chosen, Query, chosen, experts};
use llmtrace_analysis::{Phase, TimeRange, Trace};
use llmtrace_format::tables::{EVENT_KINDS, Selection, SelectionStatus, Selections};
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

const LAYERS: u32 = 4;
const EXPERTS: u32 = 64;
const USED: u32 = 6;
const PROMPT: usize = 700;
const TOKENS: usize = 24;

/// Records a generation, whose prefill takes two micro-batches of many records each; what
/// it must have chosen.
fn record(run: &Run, arguments: &[&str]) -> serde_json::Value {
    let model = mixture();
    let file = |name: &str| run.folder().join(name);
    let (ready, go, output) = (file("ready"), file("go"), file("reference.json"));
    let mut engine = Command::new(var("LLMTRACE_TEST_PYTHON"))
        .arg(tool("reference_experts.py"))
        .arg("--model")
        .arg(&model)
        .arg("--output")
        .arg(&output)
        .args(["--prompt-tokens", &PROMPT.to_string(), "--tokens", &TOKENS.to_string()])
        .args(["--wait-file".as_ref(), ready.as_os_str(), "--go-file".as_ref(), go.as_os_str()])
        .spawn()
        .unwrap();
    wait_until("the model is loaded", || ready.exists());
    let mut child = recorder(run, &["-p", &engine.id().to_string()]).args(arguments).spawn().unwrap();
    wait_until("it is attached", || run.trace_bytes() > 1000);
    std::fs::write(&go, "").unwrap();
    assert!(engine.wait().unwrap().success());
    assert!(child.wait().unwrap().success());
    serde_json::from_slice(&std::fs::read(output).unwrap()).unwrap()
}

fn selections(trace: &Trace) -> Vec<Selection> {
    let mut rows = Vec::new();
    trace.file.read_all::<Selections>(|_, table| rows.extend(table.rows()), &mut Vec::new());
    rows
}

fn statuses(trace: &Trace) -> BTreeMap<SelectionStatus, usize> {
    let mut counts = BTreeMap::new();
    for row in selections(trace) {
        *counts.entry(SelectionStatus::from_u8(row.status)).or_default() += 1;
    }
    counts
}

/// Compares what was recorded with what must have been chosen; how many tokens were compared.
fn compare(trace: &Trace, reference: &serde_json::Value, weights: bool) -> usize {
    let all = chosen(trace, TimeRange::new(0, u64::MAX), usize::MAX);
    let mut compared = 0;
    for (layer, expected) in (0u32..).zip(reference["layers"].as_array().unwrap()) {
        let rows: Vec<&Chosen> = all.iter().filter(|row| row.layer == Some(layer)).collect();
        let tokens = expected["tokens"].as_array().unwrap();
        assert_eq!(rows.len(), tokens.len(), "layer {layer}");
        for (at, (row, ids)) in rows.iter().zip(tokens).enumerate() {
            // Two logits were too close to tell which is larger.
            let Some(ids) = ids.as_array() else { continue };
            let ids: Vec<u32> = ids.iter().map(|id| id.as_u64().unwrap() as u32).collect();
            assert_eq!(row.chosen, ids, "layer {layer}, token {at}");
            assert_eq!(row.experts, EXPERTS);
            compared += 1;
            if weights {
                let expected = expected["weights"][at].as_array().unwrap();
                assert_eq!(row.weights.len(), expected.len());
                for (weight, expected) in row.weights.iter().zip(expected) {
                    let expected = expected.as_f64().unwrap();
                    let error = (f64::from(*weight) - expected).abs();
                    assert!(error < 1e-4 * expected.max(1e-3), "{weight} is not {expected}");
                }
            }
        }
    }
    compared
}

/// Tokens of all layers; the last one computes only those that give outputs.
const ALL_TOKENS: usize = (LAYERS as usize - 1) * (PROMPT + TOKENS - 1) + TOKENS;

#[test]
#[ignore = "needs root, BTF and a real llama.cpp"]
fn experts_are_those_that_numpy_computes() {
    let run = Run::new();
    let reference = record(&run, &["--moe-weights"]);
    let trace = open(&run);
    check_every(&trace, 2);
    assert_eq!(trace.file.ending.as_ref().unwrap().lost, 0);
    let compared = compare(&trace, &reference, true);
    assert!(compared * 20 > ALL_TOKENS * 19, "{compared} of {ALL_TOKENS}");
    assert_eq!(statuses(&trace).keys().collect::<Vec<_>>(), [&SelectionStatus::Whole]);
    // A selection a layer and micro-batch; the last layer has nothing to do for one without outputs.
    assert_eq!(selections(&trace).len(), trace.graph_spans.len() * LAYERS as usize - 1);
    assert!(selections(&trace).iter().all(|row| row.recorded == row.tokens && row.used == USED));
    let recording = trace.file.recording.as_ref().unwrap();
    assert_eq!(recording.experts, "where their weights are gathered");

    let found = experts(&trace, &Query::default(), &|| true).unwrap();
    assert_eq!(found.layers.len() as u32, LAYERS);
    let counted: u64 = found.layers.iter().map(|layer| layer.tokens).sum();
    assert_eq!(counted, ALL_TOKENS as u64);
    for layer in &found.layers {
        assert_eq!(layer.counts.iter().sum::<u64>(), layer.tokens * u64::from(USED));
        // Three matrices of 256 by 96 in Q8_0: 34 bytes for 32 weights.
        assert_eq!(layer.expert_bytes, 3 * 256 * 96 / 32 * 34);
        assert!(layer.compute_nanos.unwrap() > 0);
    }
    let query = Query { phase: Some(Phase::Decode), range: None };
    let decodes = experts(&trace, &query, &|| true).unwrap();
    assert!(decodes.layers.iter().all(|layer| layer.tokens == TOKENS as u64 - 1));
}

#[test]
#[ignore = "needs root, BTF and a real llama.cpp"]
fn experts_read_at_each_node_are_the_same() {
    let run = Run::new();
    let reference = record(&run, &["--moe=nodes"]);
    let trace = open(&run);
    let compared = compare(&trace, &reference, false);
    assert!(compared * 20 > ALL_TOKENS * 19, "{compared} of {ALL_TOKENS}");
    let all = chosen(&trace, TimeRange::new(0, u64::MAX), usize::MAX);
    assert!(all.iter().all(|row| row.weights.is_empty()), "weights are not known there");
}

/// A prefill of 512 tokens and one of 188, with so much room for experts and enough for all else.
/// Returns how many selections are whole, partial and lost.
fn overflow(bulk_bytes: &str) -> [u64; 3] {
    let run = Run::new();
    let reference = record(&run, &["--bulk-bytes", bulk_bytes, "--level", "graph"]);
    let trace = open(&run);
    assert!(
        trace.losses.iter().all(|loss| EVENT_KINDS[loss.event as usize] == "experts"),
        "{:?}",
        trace.losses
    );
    let lost: u64 = trace.losses.iter().map(|loss| loss.count).sum();
    assert_eq!(trace.file.ending.as_ref().unwrap().lost, lost);
    // A selection is there for each layer of each graph, whatever became of it.
    let all = selections(&trace);
    assert_eq!(all.len(), trace.graph_spans.len() * LAYERS as usize - 1);
    let found = statuses(&trace);
    let wanted = [SelectionStatus::Whole, SelectionStatus::Partial, SelectionStatus::Lost];
    assert!(!found.contains_key(&SelectionStatus::Unknown), "{found:?}");
    for row in &all {
        let status = SelectionStatus::from_u8(row.status);
        let expected = match row.recorded {
            0 => SelectionStatus::Lost,
            some if some < row.tokens => SelectionStatus::Partial,
            _ => SelectionStatus::Whole,
        };
        assert_eq!((status, row.used), (expected, USED), "{row:?}");
    }
    assert_eq!(all.iter().map(|row| row.tokens as usize).sum::<usize>(), ALL_TOKENS);
    // What was recorded and what was lost is all that there was: as many records.
    let rows = chosen(&trace, TimeRange::new(0, u64::MAX), usize::MAX);
    let mut missing = 0;
    for layer in 0..LAYERS {
        let tokens = reference["layers"][layer as usize]["tokens"].as_array().unwrap();
        let mut offset = 0;
        for row in all.iter().filter(|row| layer_of(&trace, row) == layer) {
            let of_it: Vec<&Chosen> =
                rows.iter().filter(|it| (it.graph_span, it.layer) == (row.graph_span, Some(layer))).collect();
            assert_eq!(of_it.len() as u32, row.recorded);
            let records: BTreeSet<u32> = of_it.iter().map(|it| it.token / TOKENS_OF_A_RECORD).collect();
            missing += u64::from(row.tokens.div_ceil(TOKENS_OF_A_RECORD)) - records.len() as u64;
            // And what is there is right.
            for it in of_it {
                let Some(ids) = tokens[offset + it.token as usize].as_array() else { continue };
                let ids: Vec<u32> = ids.iter().map(|id| id.as_u64().unwrap() as u32).collect();
                assert_eq!(it.chosen, ids);
            }
            offset += row.tokens as usize;
        }
        assert_eq!(offset, tokens.len());
    }
    assert_eq!(missing, lost);
    let sums = experts(&trace, &Query::default(), &|| true).unwrap();
    let count = |status: SelectionStatus| found.get(&status).map_or(0, |&count| count as u64);
    assert_eq!([sums.whole, sums.partial, sums.lost], wanted.map(count));
    assert_eq!(sums.layers.iter().map(|layer| layer.tokens).sum::<u64>(), rows.len() as u64);
    let said = Command::new(env!("CARGO_BIN_EXE_llmtrace")).arg("experts").arg(&run.trace).output().unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    for (count, status) in [(sums.partial, "partial"), (sums.lost, "lost")] {
        assert!(count == 0 || said.contains(&format!("{count} {status}")), "{said}");
    }
    [sums.whole, sums.partial, sums.lost]
}

#[test]
#[ignore = "needs root, BTF and a real llama.cpp"]
fn experts_that_find_no_room_are_lost_and_counted() {
    // No record of the prefill fits: of each layer all of both micro-batches (of the last one only a
    // token of the second) is lost.
    let [_, partial, lost] = overflow("8192");
    assert!(partial == 0 && lost >= 6, "{partial} partial, {lost} lost");
    // One fits of the two that a layer makes at once of the first micro-batch.
    let [_, partial, lost] = overflow("16384");
    assert!(partial + lost >= 3 && partial > 0, "{partial} partial, {lost} lost");
    // There is room for all.
    assert_eq!(overflow("4194304")[1..], [0, 0]);
}

/// Of the model here: 2,048 values in a record, room for the longest token kept (experts.bpf.h).
const TOKENS_OF_A_RECORD: u32 = (2048 - 256) / USED;

fn layer_of(trace: &Trace, row: &Selection) -> u32 {
    let graph = trace.graph(trace.graph_span(row.graph_span).unwrap().graph).unwrap();
    let weights = &graph.tensors[graph.tensors[row.node as usize].sources[0] as usize];
    llmtrace_analysis::node::layer(trace.file.string(weights.name)).unwrap()
}

#[test]
#[ignore = "needs root, BTF and a real llama.cpp"]
fn experts_are_recorded_only_when_wanted() {
    let run = Run::new();
    record(&run, &["--moe=off"]);
    let trace = open(&run);
    assert!(selections(&trace).is_empty());
    let recording = trace.file.recording.as_ref().unwrap();
    assert!(recording.probes.iter().all(|probe| !probe.purpose.starts_with("experts")));
}
