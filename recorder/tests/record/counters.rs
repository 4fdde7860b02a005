//! Counters of operators, against what perf and the kernel say of the same threads.

use super::invariants::check_whole;
use super::workload::{Engine, Run, open, recorder, signal};
use llmtrace_analysis::Trace;
use llmtrace_analysis::counters::Series;
use llmtrace_format::Source;
use llmtrace_format::counters::{OpCounter, OpCounters, WITH_WAIT_BEFORE};
use std::process::{Child, Command, Stdio};

/// Counters that the kernel keeps for each thread, and the same as events of perf: faults
/// and time on a CPU. The events count what happens on a CPU, whoever runs there.
const BOTH_WAYS: &str =
    "page-faults,software/config=2/,task-clock,software/config=0/,context-switches,cpu-migrations";

fn rows(trace: &Trace) -> Vec<OpCounter> {
    let mut rows = Vec::new();
    trace.file.read_all::<OpCounters>(|_, table| rows.extend(table.rows()), &mut Vec::new());
    rows
}

fn sum(rows: &[OpCounter], counter: usize) -> u64 {
    rows.iter().filter_map(|row| row.count(counter)).sum()
}

/// Ends a child with us.
struct Kill(Child);

impl Drop for Kill {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A process on one of the CPUs that never sleeps, and faults all the time.
fn busy() -> Kill {
    let faults = "while :; do a=$(echo 1); done";
    let child = Command::new("taskset").args(["-c", "0", "bash", "-c", faults]).spawn();
    Kill(child.expect("taskset and bash"))
}

#[test]
#[ignore = "needs root, BTF and a real llama.cpp"]
fn events_of_a_cpu_are_those_of_the_thread_that_ran_there() {
    let run = Run::new();
    let busy = busy();
    let options = ["--counters", BOTH_WAYS, "--max-overhead", "100"];
    let status = recorder(&run, &options).arg("--").args(run.generate(2, 4)).status().unwrap();
    drop(busy);
    assert!(status.success());
    let trace = open(&run);
    check_whole(&trace, 2);
    let rows = rows(&trace);
    assert_eq!(rows.len() as u64, trace.op_span_count());
    // Threads were preempted, and others faulted meanwhile on the same CPUs.
    assert!(sum(&rows, 4) > 50, "{} switches", sum(&rows, 4));
    let both: Vec<_> = rows.iter().filter_map(|row| Some((row.count(0)?, row.count(1)?))).collect();
    assert!(both.len() * 100 > rows.len() * 95, "{} of {} are known", both.len(), rows.len());
    let differ: Vec<_> = both.iter().filter(|(task, event)| task != event).collect();
    assert!(
        differ.len() * 1000 < both.len(),
        "faults: {} of {} differ: {differ:?}",
        differ.len(),
        both.len()
    );
    // The event's clock goes on during interrupts.
    let clocks = rows.iter().filter_map(|row| Some((row.count(2)?, row.count(3)?)));
    let (task, event) = clocks.fold((0, 0), |(task, event), (a, b)| (task + a, event + b));
    assert!(task > 0 && task.abs_diff(event) * 50 < task, "task {task} ns, event {event} ns");
    // They had a CPU for much less than the time that passed.
    let wall: u64 = trace.lanes().iter().flat_map(|lane| trace.spans(lane.id)).map(|span| span.compute).sum();
    assert!(task < wall, "{task} of {wall} ns");
}

#[test]
#[ignore = "needs root, BTF and a real llama.cpp"]
fn counts_are_those_of_perf_stat() {
    if Command::new("perf").arg("--version").stdout(Stdio::null()).status().is_err() {
        eprintln!("skipped: perf is not installed (apt-get install linux-perf)");
        return;
    }
    let run = Run::new();
    let engine = Engine::start(&run, 1);
    let pid = engine.pid().to_string();
    // perf looks for a little longer, at all that the process does.
    let perf = Command::new("perf")
        .args(["stat", "-x", ",", "-e", "task-clock,page-faults,context-switches", "-p", &pid])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let list = "task-clock,page-faults,context-switches";
    let options = ["-p", &pid, "-d", "3", "--counters", list, "--max-overhead", "100", "--exact-begins"];
    assert!(recorder(&run, &options).status().unwrap().success());
    signal(perf.id(), "INT");
    let said = String::from_utf8(perf.wait_with_output().unwrap().stderr).unwrap();
    let of_perf = |name: &str| -> f64 {
        let line = said.lines().find(|line| line.contains(name)).unwrap_or_else(|| panic!("{name}: {said}"));
        line.split(',').next().unwrap().parse().unwrap()
    };
    let trace = open(&run);
    let rows = rows(&trace);
    let known = rows.iter().filter(|row| row.count(0).is_some()).count();
    assert!(known * 100 > rows.len() * 99, "{known} of {}", rows.len());
    let ours = sum(&rows, 0) as f64 / 1e6;
    let theirs = of_perf("task-clock");
    // Operators are nearly all that the process does, and never more than that. Before and after us
    // perf counts for as long as it takes to begin and to end.
    assert!(ours < theirs && ours > 0.2 * theirs, "{ours} ms of {theirs} ms");
    // Samples say the same of our own time.
    let cpus = trace.drawn(Series::Cpus(0), trace.range(), 1).points;
    let mean = cpus.iter().filter_map(|(_, cpus)| *cpus).sum::<f64>() / cpus.len() as f64;
    let of_ops = ours / 1e3 / (trace.range().nanos() as f64 / 1e9);
    assert!(of_ops < mean * 1.1 && of_ops > mean * 0.7, "{of_ops} of {mean} CPUs");
    assert!(sum(&rows, 1) as f64 <= of_perf("page-faults"));
    assert!(sum(&rows, 2) as f64 <= of_perf("context-switches"));
}

#[test]
#[ignore = "needs root, BTF and a real llama.cpp"]
fn what_is_not_there_is_said_and_the_rest_is_counted() {
    let run = Run::new();
    let list = "task-clock,page-fautls,r01c2,nothing/event/";
    let recorded =
        recorder(&run, &["--counters", list]).arg("--").args(run.generate(2, 24)).output().unwrap();
    assert!(recorded.status.success());
    let said = String::from_utf8(recorded.stderr).unwrap();
    assert!(said.contains("did you mean page-faults"), "{said}");
    assert!(said.contains("no PMU nothing; it has"), "{said}");
    let trace = open(&run);
    check_whole(&trace, 2);
    let recording = trace.file.recording.as_ref().unwrap();
    let has_pmu = std::path::Path::new("/sys/bus/event_source/devices/cpu").exists();
    if !has_pmu {
        assert!(said.contains("no PMU that counts r01c2"), "{said}");
        assert_eq!(recording.counters.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["task-clock"]);
        assert_eq!(recording.counters_missing.len(), 3);
    }
    let rows = rows(&trace);
    assert_eq!(rows.len() as u64, trace.op_span_count());
    // Once begins are not seen, counts begin at the barrier before, but not for the first node of a
    // thread that others wake: nothing is known of it.
    let inferred: Vec<&OpCounter> = rows.iter().filter(|row| row.flags == WITH_WAIT_BEFORE).collect();
    let graphs = trace.graph_spans.iter().filter(|graph| graph.inferred_begins == 1).count();
    assert!(graphs > 0 && !inferred.is_empty());
    assert_eq!(inferred.iter().filter(|row| row.count(0).is_none()).count(), graphs);
    assert!(trace.series().contains(&Series::Model(0)));
    // Nothing that was asked for: what is counted everywhere is.
    let run = Run::new();
    let recorded =
        recorder(&run, &["--counters", "xyz"]).arg("--").args(run.generate(1, 4)).output().unwrap();
    assert!(String::from_utf8_lossy(&recorded.stderr).contains("counted instead: page-faults"));
    assert!(rows_are_known(&open(&run)));
}

fn rows_are_known(trace: &Trace) -> bool {
    let rows = rows(trace);
    !rows.is_empty() && rows.iter().any(|row| row.count(2).is_some())
}

#[test]
#[ignore = "needs root, BTF and a real llama.cpp"]
fn samples_are_left_out_when_asked_and_counters_are_in_rings_and_rotated_files() {
    let run = Run::new();
    let engine = Engine::start(&run, 1);
    let pid = engine.pid().to_string();
    let status = recorder(&run, &["-p", &pid, "-d", "1", "--without", "samples"]).status().unwrap();
    assert!(status.success());
    let trace = open(&run);
    assert!(trace.counts.samples.processes.is_empty() && trace.series().is_empty());
    let run = Run::new();
    let options = ["-p", &pid, "-d", "1", "--ring", "10", "--counters", "task-clock"];
    assert!(recorder(&run, &options).status().unwrap().success());
    let trace = open(&run);
    assert_eq!(rows(&trace).len() as u64, trace.op_span_count());
    assert!(trace.counts.samples.processes.len() > 1);
    let source = Source::Bytes(std::fs::read(&run.trace).unwrap());
    let checked = llmtrace_format::check::check(source, &mut |_| true).unwrap();
    assert!(checked.is_whole(), "{:?}", checked.problems);
}
