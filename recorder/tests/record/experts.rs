//! Experts of a mixture, against what numpy says they must be.

use crate::invariants::check_every;
use crate::workload::{Run, open, recorder, signal, var, wait_until};
use llmtrace_analysis::experts::{Chosen, Query, chosen, experts};
use llmtrace_analysis::{Phase, TimeRange, Trace};
use llmtrace_format::tables::{Selection, SelectionStatus, Selections};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const LAYERS: u32 = 4;
const EXPERTS: u32 = 64;
const USED: u32 = 6;
const PROMPT: usize = 700;
const TOKENS: usize = 24;

fn tool(name: &str) -> PathBuf {
    Path::new(&var("LLMTRACE_TEST_GENERATE")).with_file_name(name)
}

/// A model in which embedding and router alone decide.
fn planted() -> PathBuf {
    // It takes a while, and is the same each time.
    let model = Path::new(env!("CARGO_TARGET_TMPDIR")).join("planted-4x64x256.gguf");
    if model.exists() {
        return model;
    }
    let status = Command::new(var("LLMTRACE_TEST_PYTHON"))
        .arg(tool("make_moe.py"))
        .arg(&model)
        .args(["--planted", "--tokenizer-from", &var("LLMTRACE_TEST_MODEL"), "--seed", "3", "--embd", "256"])
        .args(["--vocab", "4000", "--layers", &LAYERS.to_string()])
        .args(["--experts", &EXPERTS.to_string(), "--used", &USED.to_string()])
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    model
}

/// Records a generation, whose prefill takes two micro-batches of many records each; what
/// it must have chosen. `meanwhile` gets the pids of recorder and engine before it begins.
fn record(run: &Run, arguments: &[&str], meanwhile: impl FnOnce(u32, u32)) -> serde_json::Value {
    let model = planted();
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
    meanwhile(child.id(), engine.id());
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
    let reference = record(&run, &["--moe-weights"], |_, _| ());
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
    let reference = record(&run, &["--moe=nodes"], |_, _| ());
    let trace = open(&run);
    let compared = compare(&trace, &reference, false);
    assert!(compared * 20 > ALL_TOKENS * 19, "{compared} of {ALL_TOKENS}");
    let all = chosen(&trace, TimeRange::new(0, u64::MAX), usize::MAX);
    assert!(all.iter().all(|row| row.weights.is_empty()), "weights are not known there");
}

#[test]
#[ignore = "needs root, BTF and a real llama.cpp"]
fn experts_that_find_no_room_are_lost_and_not_guessed() {
    let run = Run::new();
    // Room for three records of the ten that the prefill makes in each layer, and nobody who
    // takes them.
    let reference = record(&run, &["--ring-bytes", "32768"], |recorder, engine| {
        signal(recorder, "STOP");
        let ended = || {
            let stat = std::fs::read_to_string(format!("/proc/{engine}/stat")).unwrap_or_default();
            stat.contains(") Z ")
        };
        wait_until("it has generated", ended);
        signal(recorder, "CONT");
    });
    let trace = open(&run);
    let lost = trace.losses.iter().filter(|loss| loss.event == 12).map(|loss| loss.count).sum::<u64>();
    assert!(lost > 0, "{:?}", trace.losses);
    let statuses = statuses(&trace);
    assert!(!statuses.contains_key(&SelectionStatus::Unknown), "{statuses:?}");
    // What is there is right: by the token's place in the first micro-batch of the prefill.
    let all = chosen(&trace, TimeRange::new(0, u64::MAX), usize::MAX);
    let first = selections(&trace).into_iter().find(|row| row.tokens > 100);
    if let Some(first) = first {
        let rows = all.iter().filter(|row| row.graph_span == first.graph_span && row.layer == Some(0));
        for row in rows {
            let Some(ids) = reference["layers"][0]["tokens"][row.token as usize].as_array() else { continue };
            let ids: Vec<u32> = ids.iter().map(|id| id.as_u64().unwrap() as u32).collect();
            assert_eq!(row.chosen, ids);
        }
    }
}

#[test]
#[ignore = "needs root, BTF and a real llama.cpp"]
fn experts_are_recorded_only_when_wanted() {
    let run = Run::new();
    record(&run, &["--moe=off"], |_, _| ());
    let trace = open(&run);
    assert!(selections(&trace).is_empty());
    let recording = trace.file.recording.as_ref().unwrap();
    assert!(recording.probes.iter().all(|probe| !probe.purpose.starts_with("experts")));
}
