//! Runs that one thing limits, on purpose, and whether `explain` says by which.
//!
//! Nothing here is timed against this machine: a debug build cannot measure ceilings, so none are
//! used, and states of threads tell what other programs took, which is left out.

use crate::workload::{Engine, Run, generate, open, recorder, signal, synthetic, var, wait_until_it_writes};
use llmtrace_analysis::Phase;
use llmtrace_analysis::explain::explain;
use llmtrace_analysis::verdict::{Bound, Confidence, Verdict};
use std::process::{Command, Stdio};

/// What generates with a model; the last of an argument that stands twice counts.
fn command(model: &str, threads: u32, arguments: &[&str]) -> Vec<String> {
    let engine = [var("LLMTRACE_TEST_PYTHON"), var("LLMTRACE_TEST_GENERATE"), model.to_owned()];
    let mut command = generate(&engine, threads, 16);
    command.extend(arguments.iter().map(|argument| (*argument).to_owned()));
    command
}

/// The recorder, without the ceilings that this host may have.
fn recording(run: &Run, arguments: &[&str]) -> Command {
    let mut command = recorder(run, &["-q", "--sched", "--faults"]);
    command.args(arguments).env("XDG_CACHE_HOME", run.folder());
    command
}

fn verdict_on(run: &Run, phase: Phase) -> Verdict {
    let found = explain(&open(run), &|_| true).unwrap();
    let answer = found.phases.iter().find(|answer| answer.phase == phase);
    answer.unwrap_or_else(|| panic!("{:?}", found.phases)).verdict.clone()
}

/// The verdict on a phase of a run of `model`.
fn verdict(model: &str, threads: u32, phase: Phase, arguments: &[&str]) -> Verdict {
    let run = Run::new();
    let command = command(model, threads, arguments);
    let status = recording(&run, &["--"]).args(command).stdout(Stdio::null()).status().unwrap();
    assert!(status.success());
    verdict_on(&run, phase)
}

fn cpus() -> u32 {
    std::thread::available_parallelism().map_or(1, |cpus| cpus.get() as u32)
}

/// Each weight is used for every token of a long prompt: hundreds of operations a byte.
#[test]
#[ignore = "needs root, BTF and a real llama.cpp"]
fn a_long_prompt_on_one_thread_computes() {
    let arguments = ["--prompt-tokens", "600", "--tokens", "2"];
    let found = verdict(&var("LLMTRACE_TEST_MODEL"), 1, Phase::Prefill, &arguments);
    assert_eq!(found.bound, Bound::Compute, "{found:?}");
    assert!(found.missing.iter().any(|missing| missing.contains("ceilings")), "{found:?}");
}

/// Each weight is read once a token, for two operations: a model is larger than any cache.
#[test]
#[ignore = "needs root, BTF and a real llama.cpp"]
fn generating_with_a_model_that_no_cache_holds_reads_memory() {
    let arguments = ["--prompt-tokens", "16", "--tokens", "32"];
    let found = verdict(&var("LLMTRACE_TEST_MODEL"), 1, Phase::Decode, &arguments);
    assert_eq!(found.bound, Bound::Memory, "{found:?}");
}

/// At each barrier all wait for threads that have no CPU.
#[test]
#[ignore = "needs root, BTF and a real llama.cpp"]
fn more_threads_than_cpus_wait_for_each_other() {
    let arguments = ["--prompt-tokens", "16", "--tokens", "12"];
    let found = verdict(&var("LLMTRACE_TEST_MODEL"), 4 * cpus(), Phase::Decode, &arguments);
    assert_eq!(found.bound, Bound::Synchronisation, "{found:?}");
    assert!(found.confidence > Confidence::Low, "{found:?}");
}

/// A model whose nodes take a microsecond or two: starting them is most of it.
#[test]
#[ignore = "needs root, BTF and a real llama.cpp"]
fn a_tiny_model_mostly_starts_nodes() {
    let run = Run::new();
    let model = synthetic(&["--layers", "8", "--embd", "64"], "overhead-8x64");
    let command = command(&model.to_string_lossy(), 1, &["--prompt-tokens", "16", "--tokens", "200"]);
    // It would be over before the recorder has found all functions.
    let engine = Engine::start_as(Command::new(&command[0]).args(&command[1..]));
    let mut recorder = recording(&run, &["-p", &engine.pid().to_string()]).spawn().unwrap();
    wait_until_it_writes(&run, &mut recorder, 200_000);
    signal(recorder.id(), "INT");
    assert!(recorder.wait().unwrap().success());
    let found = verdict_on(&run, Phase::Decode);
    assert_eq!(found.bound, Bound::Overhead, "{found:?}");
}

/// A mapped model whose pages are on the disk.
#[test]
#[ignore = "needs root, BTF and a real llama.cpp"]
fn a_cold_model_waits_for_the_disk() {
    let arguments = ["--prompt-tokens", "1", "--tokens", "4", "--evict"];
    let found = verdict(&var("LLMTRACE_TEST_MODEL"), 1, Phase::Prefill, &arguments);
    assert_eq!(found.bound, Bound::Io, "{found:?}");
}
