//! Records a real llama.cpp. Needs root, BTF, and what `make test` prepares.
//!
//! The tests check invariants of what was recorded, not numbers of this machine.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic")]

#[path = "record/budget.rs"]
mod budget;
#[path = "record/containers.rs"]
mod containers;
#[path = "record/counters.rs"]
mod counters;
#[path = "record/doctor.rs"]
mod doctor;
#[path = "record/elsewhere.rs"]
mod elsewhere;
#[path = "record/errors.rs"]
mod errors;
#[path = "record/experts.rs"]
mod experts;
#[path = "record/following.rs"]
mod following;
#[path = "record/invariants.rs"]
mod invariants;
#[path = "record/machine.rs"]
mod machine;
#[path = "record/outputs.rs"]
mod outputs;
#[path = "record/privileges.rs"]
mod privileges;
#[path = "record/sequences.rs"]
mod sequences;
#[path = "record/several.rs"]
mod several;
#[path = "record/torn.rs"]
mod torn;
#[path = "record/unharmed.rs"]
mod unharmed;
#[path = "record/verdicts.rs"]
mod verdicts;
#[path = "record/workload.rs"]
mod workload;

use invariants::check_whole;
use llmtrace_analysis::Phase;
use llmtrace_format::Warning;
use llmtrace_format::meta::Level;
use std::os::unix::fs::MetadataExt as _;
use workload::{Engine, Run, open, recorder};

#[test]
#[ignore = "needs root, BTF and a real llama.cpp"]
fn launched_run_is_recorded_whole() {
    let run = Run::new();
    let status = recorder(&run, &[]).arg("--").args(run.generate(1, 24)).status().unwrap();
    assert!(status.success());
    let trace = open(&run);
    check_whole(&trace, 1);
    // The prompt is one ubatch; the prompt's last token gives the first of 24.
    let decodes = trace.tokens.iter().filter(|token| token.phase == Phase::Decode).count();
    assert_eq!(decodes, 23);
    assert!(trace.tokens.iter().any(|token| token.phase == Phase::Prefill && token.tokens >= 100));
    let recording = trace.file.recording.as_ref().unwrap();
    assert!(recording.target.launched);
    assert_eq!(recording.target.models, ["gemma-3-270m-q4_k_m.gguf"]);
    let stepped = recording.probes.iter().filter(|probe| !probe.emulated);
    assert!(stepped.clone().all(|probe| probe.instruction == "ret"), "{:?}", stepped.collect::<Vec<_>>());
    let ending = trace.file.ending.as_ref().unwrap();
    assert_eq!((ending.reason.as_str(), ending.exit_code), ("target exited", Some(0)));
    // It may have been within a call when it was attached to.
    assert!(ending.orphans <= 1, "{} events without a graph or call", ending.orphans);
}

#[test]
#[ignore = "needs root, BTF and a real llama.cpp"]
fn threads_meet_at_barriers() {
    let run = Run::new();
    let status = recorder(&run, &[]).arg("--").args(run.generate(2, 6)).status().unwrap();
    assert!(status.success());
    let trace = open(&run);
    check_whole(&trace, 2);
    let waited: u64 = trace.lanes().iter().flat_map(|lane| trace.spans(lane.id)).map(|span| span.wait).sum();
    assert!(waited > 0, "two threads never arrive together every time");
}

#[test]
#[ignore = "needs root, BTF and a real llama.cpp"]
fn counting_barriers_tells_the_same_nodes_as_seeing_their_begins() {
    // Both ways on the same run: begins stay attached and are compared.
    let run = Run::new();
    let both = recorder(&run, &["--exact-begins"])
        .env("RUST_LOG", "debug")
        .arg("--")
        .args(run.generate(2, 16))
        .output()
        .unwrap();
    let said = String::from_utf8(both.stderr).unwrap();
    let line = said.lines().find(|line| line.contains("counting against seeing")).expect("compared");
    let number = |name: &str| -> u64 {
        let rest = line.split_once(&format!("{name}: ")).expect("a figure").1;
        rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()
    };
    assert!(number("graphs") >= 10, "{line}");
    assert_eq!(number("misplaced"), 0, "{line}");
    assert_eq!(number("late_nanos"), 0, "nothing begins before the last thread arrived: {line}");
    check_whole(&open(&run), 2);
    assert!(open(&run).graph_spans.iter().all(|graph| graph.inferred_begins == 0));

    // And by itself: begins are given up after a while, and nothing is missing.
    let run = Run::new();
    assert!(recorder(&run, &["-q"]).arg("--").args(run.generate(1, 40)).status().unwrap().success());
    let trace = open(&run);
    check_whole(&trace, 1);
    assert!(trace.graph_spans.iter().filter(|graph| graph.inferred_begins == 1).count() > 10);
}

#[test]
#[ignore = "needs root, BTF and a real llama.cpp"]
fn running_process_is_recorded_and_goes_on_undisturbed() {
    let run = Run::new();
    let mut engine = Engine::start(&run, 1);
    let pid = engine.pid().to_string();
    let status = recorder(&run, &["-p", &pid, "-d", "2"]).status().unwrap();
    assert!(status.success());
    engine.generates_on();
    let trace = open(&run);
    check_whole(&trace, 1);
    let ending = trace.file.ending.as_ref().unwrap();
    assert_eq!((ending.reason.as_str(), ending.exit_code), ("duration reached", None));
    // By name, too; the kernel calls the process by its executable.
    let name = trace.file.recording.as_ref().unwrap().target.exe.clone();
    let named = Run::new();
    assert!(recorder(&named, &["-n", &name, "-d", "0.5"]).status().unwrap().success());
    // Others may have the same name.
    let trace = open(&named);
    let processes = &trace.file.recording.as_ref().unwrap().processes;
    assert!(processes.iter().any(|process| process.pid == engine.pid()));
    engine.generates_on();
}

#[test]
#[ignore = "needs root, BTF and a real llama.cpp"]
fn each_level_records_what_it_says() {
    let run = Run::new();
    let engine = Engine::start(&run, 1);
    let pid = engine.pid().to_string();
    for (level, name) in [(Level::Token, "token"), (Level::Graph, "graph"), (Level::Op, "op")] {
        let run = Run::new();
        let status = recorder(&run, &["-p", &pid, "-d", "2", "--level", name]).status().unwrap();
        assert!(status.success());
        let trace = open(&run);
        assert_eq!(trace.file.recording.as_ref().unwrap().level, level);
        assert!(trace.tokens.iter().any(|token| token.phase == Phase::Decode));
        assert_eq!(!trace.graph_spans.is_empty(), level >= Level::Graph);
        assert_eq!(trace.op_span_count() > 0, level >= Level::Op);
        let waits = trace.lanes().iter().flat_map(|lane| trace.spans(lane.id)).any(|span| span.wait > 0);
        assert!(!waits, "level {name} knows nothing of barriers");
    }
}

#[test]
#[ignore = "needs root, BTF and a real llama.cpp"]
fn interrupt_ends_the_recording_cleanly() {
    let run = Run::new();
    let mut engine = Engine::start(&run, 1);
    let mut child = recorder(&run, &["-p", &engine.pid().to_string()]).spawn().unwrap();
    workload::wait_until("some is written", || run.trace_bytes() > 20_000);
    workload::signal(child.id(), "INT");
    assert!(child.wait().unwrap().success());
    check_whole(&open(&run), 1);
    engine.generates_on();
}

#[test]
#[ignore = "needs root, BTF and a real llama.cpp"]
fn losses_are_counted_stored_and_marked() {
    let run = Run::new();
    let mut engine = Engine::start(&run, 1);
    // A ring of a few milliseconds, and a consumer that stands still.
    let arguments = ["-p", &engine.pid().to_string(), "--ring-bytes", "65536", "--exact-begins"];
    let mut child = recorder(&run, &arguments).spawn().unwrap();
    workload::wait_until("some is written", || run.trace_bytes() > 20_000);
    workload::signal(child.id(), "STOP");
    engine.generates_on();
    workload::signal(child.id(), "CONT");
    workload::wait_until("it goes on", || run.trace_bytes() > 40_000);
    workload::signal(child.id(), "INT");
    assert!(child.wait().unwrap().success());
    let trace = open(&run);
    let lost = trace.file.ending.as_ref().unwrap().lost;
    assert!(lost > 1000, "{lost}");
    assert_eq!(trace.losses.iter().map(|loss| loss.count).sum::<u64>(), lost);
    assert!(trace.losses.iter().all(|loss| loss.begin < loss.end));
    // Every graph that ran meanwhile is marked, and none that ended before.
    let first = trace.losses.iter().map(|loss| loss.begin).min().unwrap();
    assert!(trace.graph_spans.iter().any(|graph| graph.touched_by_loss == 1));
    assert!(trace.graph_spans.iter().all(|graph| graph.touched_by_loss == 0 || graph.end > first));
    engine.generates_on();
}

#[test]
#[ignore = "needs root, BTF and a real llama.cpp"]
fn killed_recorder_leaves_a_trace_and_a_running_target() {
    let run = Run::new();
    let mut engine = Engine::start(&run, 1);
    let mut child = recorder(&run, &["-p", &engine.pid().to_string()]).spawn().unwrap();
    workload::wait_until("some is written", || run.trace_bytes() > 60_000);
    child.kill().unwrap();
    child.wait().unwrap();
    engine.generates_on();
    let trace = open(&run);
    assert!(trace.warnings.iter().any(|warning| matches!(warning, Warning::NoFooter { .. })));
    assert!(trace.op_span_count() > 1000);
}

#[test]
#[ignore = "needs root, BTF and a real llama.cpp"]
fn target_that_is_killed_ends_the_recording() {
    let run = Run::new();
    let engine = Engine::start(&run, 1);
    let mut child = recorder(&run, &["-p", &engine.pid().to_string()]).spawn().unwrap();
    workload::wait_until("some is written", || run.trace_bytes() > 20_000);
    drop(engine);
    assert!(child.wait().unwrap().success());
    assert_eq!(open(&run).file.ending.as_ref().unwrap().reason, "target exited");
}

#[test]
#[ignore = "needs root, BTF and a real llama.cpp"]
fn command_runs_as_the_caller_of_sudo_and_owns_the_file() {
    let run = Run::new();
    run.open_to_everybody();
    let output = recorder(&run, &[])
        .env("SUDO_UID", "65534")
        .env("SUDO_GID", "65534")
        .args(["--", "sh", "-c", "id -u; id -g; echo $HOME; exit 7"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(7), "the command's exit code is passed on");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.starts_with("65534\n65534\n"), "{said}");
    let owner = run.trace.metadata().unwrap();
    assert_eq!((owner.uid(), owner.gid()), (65534, 65534));
    assert!(String::from_utf8(output.stderr).unwrap().contains("nothing was recorded"));
}

#[test]
#[ignore = "needs root, BTF and a real llama.cpp"]
fn signals_are_passed_on() {
    let run = Run::new();
    let mut child = recorder(&run, &[]).args(["--", "sleep", "60"]).spawn().unwrap();
    workload::wait_until("the command runs", || workload::child_named(child.id(), "sleep"));
    workload::signal(child.id(), "TERM");
    assert_eq!(child.wait().unwrap().code(), Some(128 + 15));
    assert!(open(&run).file.ending.is_some());
}
