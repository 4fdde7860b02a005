//! Long recordings of a real llama.cpp: the last seconds, triggers, sizes, several
//! files, full disks. Needs root, BTF, and what `make test` prepares.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "tests may panic")]

#[expect(dead_code, reason = "other tests use the rest")]
#[path = "record/workload.rs"]
mod workload;

use llmtrace_analysis::Trace;
use llmtrace_format::Source;
use llmtrace_format::check::check;
use llmtrace_format::constants::NONE;
use llmtrace_format::tables::{Experts, Selection, SelectionStatus, Selections};
use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use workload::{Engine, Run, generate, mixture, recorder, signal, var, wait_until};

/// The trace, in which nothing may be wrong.
fn whole(path: &Path) -> Trace {
    let checked = check(Source::from_file(File::open(path).unwrap()), &mut |_| true).unwrap();
    assert_eq!(checked.problems, [], "{}", path.display());
    let trace = Trace::open(Source::from_file(File::open(path).unwrap()), &mut |_| true).unwrap();
    let warnings: Vec<String> = trace.all_warnings().iter().map(ToString::to_string).collect();
    assert!(warnings.is_empty(), "{warnings:?}");
    trace
}

fn reason(trace: &Trace) -> &str {
    &trace.file.ending.as_ref().unwrap().reason
}

fn beside(run: &Run, name: &str) -> PathBuf {
    run.trace.with_file_name(name)
}

#[test]
#[ignore = "needs root, BTF and a real llama.cpp"]
fn a_ring_keeps_the_last_seconds() {
    let run = Run::new();
    let engine = Engine::start(&run, 1);
    let pid = engine.pid().to_string();
    let mut child = recorder(&run, &["-q", "-p", &pid, "--ring", "2", "-d", "5"]).spawn().unwrap();
    wait_until("the file is there", || run.trace_bytes() > 0);
    assert!(run.trace_bytes() < 1000, "nothing is written before the end");
    assert!(child.wait().unwrap().success());
    let trace = whole(&run.trace);
    assert_eq!(reason(&trace), "duration reached; ring of 2 s");
    let first = trace.graph_spans.iter().map(|graph| graph.end).min().unwrap();
    let end = trace.file.ending.as_ref().unwrap().end_nanos;
    // A second more than two: what was compressed together is dropped together.
    assert!(first > 500_000_000 && end - first < 4_500_000_000, "{first} to {end}");
    assert!(trace.op_span_count() > 300);
}

#[test]
#[ignore = "needs root, BTF and a real llama.cpp"]
fn a_slow_token_and_a_signal_are_saved_and_watching_goes_on() {
    let run = Run::new();
    let mut engine = Engine::start(&run, 1);
    let pid = engine.pid().to_string();
    // No token is that slow by itself, only one that stands still.
    let arguments = ["-q", "-p", &pid, "--trigger-tpot", "1200", "--ring", "3", "--triggers", "2"];
    let mut child = recorder(&run, &arguments).spawn().unwrap();
    wait_until("the file is there", || run.trace_bytes() > 0);
    let first = beside(&run, "run-1.llmtrace");
    wait_until("a token was slow", || {
        // In a prompt, or between two calls, no token is slowed; then again.
        signal(engine.pid(), "STOP");
        std::thread::sleep(std::time::Duration::from_millis(1500));
        signal(engine.pid(), "CONT");
        std::thread::sleep(std::time::Duration::from_millis(1300));
        first.exists()
    });
    signal(child.id(), "USR1");
    assert!(child.wait().unwrap().success(), "the second save is the last");
    let trace = whole(&first);
    let mark = trace.marks.first().unwrap();
    let slow = trace.decodes.iter().find(|call| call.begin == mark.time).unwrap();
    assert!(slow.end - slow.begin > 1_200_000_000);
    let label = trace.file.string(llmtrace_format::meta::StrId(mark.label));
    assert!(label.starts_with("token of ") && label.ends_with("above 1200 ms"), "{label}");
    assert!(reason(&trace).starts_with(label) && reason(&trace).ends_with("; ring of 3 s"));
    assert!(trace.decodes.iter().any(|call| call.begin > slow.end), "a tail follows");
    let second = whole(&beside(&run, "run-2.llmtrace"));
    assert!(reason(&second).starts_with("asked for by a signal"), "{}", reason(&second));
    assert!(!run.trace.exists(), "there is nothing else to keep");
    engine.generates_on();
}

#[test]
#[ignore = "needs root, BTF and a real llama.cpp"]
fn a_file_of_limited_size_ends_the_recording_and_the_command_goes_on() {
    let run = Run::new();
    let mut command = recorder(&run, &["--max-size", "400K", "--exact-begins"]);
    let output = command.arg("--").args(run.generate(1, 400)).output().unwrap();
    assert!(output.status.success(), "its exit code is passed on");
    let trace = whole(&run.trace);
    assert_eq!(reason(&trace), "size reached");
    assert!((150_000..=400_000).contains(&run.trace_bytes()), "{}", run.trace_bytes());
    assert!(String::from_utf8(output.stdout).unwrap().contains("generated_tokens"));
}

#[test]
#[ignore = "needs root, BTF and a real llama.cpp"]
fn files_of_a_rotation_open_by_themselves_and_follow_each_other() {
    let run = Run::new();
    let engine = Engine::start(&run, 1);
    let pid = engine.pid().to_string();
    let arguments = ["-q", "-p", &pid, "-d", "7", "--rotate", "2s", "--keep", "3"];
    assert!(recorder(&run, &arguments).status().unwrap().success());
    let mut files: Vec<_> =
        fs::read_dir(run.trace.parent().unwrap()).unwrap().map(|it| it.unwrap().path()).collect();
    files.sort();
    assert_eq!(files.len(), 3);
    let traces: Vec<Trace> = files.iter().map(|path| whole(path)).collect();
    for (pair, names) in traces.windows(2).zip(files.windows(2)) {
        let name = names[1].file_name().unwrap().to_str().unwrap();
        assert_eq!(reason(&pair[0]), format!("continued in {name}"));
        assert_eq!(pair[0].file.header, pair[1].file.header);
        let last = pair[0].graph_spans.iter().map(|graph| graph.id).max().unwrap();
        let next = pair[1].graph_spans.iter().map(|graph| graph.id).min().unwrap();
        assert_eq!(last + 1, next, "no graph is missing between files");
    }
    assert_eq!(reason(&traces[2]), "duration reached");
}

/// An engine that generates with a mixture of experts.
fn expert_engine() -> Engine {
    let model = mixture().to_str().unwrap().to_owned();
    let command = generate(&[var("LLMTRACE_TEST_PYTHON"), var("LLMTRACE_TEST_GENERATE"), model], 1, 16);
    Engine::start_as(Command::new(&command[0]).args(&command[1..]))
}

/// Ids of the selections, each of which has its graph and its experts; each run of a sequence has its
/// micro-batch.
fn rows_belong_together(trace: &Trace) -> HashSet<u32> {
    let mut selections: HashMap<u32, Selection> = HashMap::new();
    trace.file.read_all::<Selections>(
        |_, table| selections.extend(table.rows().map(|row| (row.id, row))),
        &mut Vec::new(),
    );
    let mut experts: HashMap<u32, u32> = HashMap::new();
    trace.file.read_all::<Experts>(
        |_, table| table.selection.iter().for_each(|id| *experts.entry(*id).or_default() += 1),
        &mut Vec::new(),
    );
    for row in selections.values() {
        assert!(trace.graph_span(row.graph_span).is_some(), "{row:?}");
        assert_eq!((row.status, row.recorded), (SelectionStatus::Whole as u8, row.tokens), "{row:?}");
        assert_eq!(experts.remove(&row.id), Some(row.tokens * row.used), "{row:?}");
    }
    assert!(experts.is_empty(), "experts of selections that are not there: {experts:?}");
    let ubatches: HashMap<u32, u32> = trace.ubatches.iter().map(|row| (row.id, row.tokens)).collect();
    let mut tokens: HashMap<u32, u32> = HashMap::new();
    for run in &trace.inference.sequences {
        *tokens.entry(run.ubatch).or_default() += run.tokens;
    }
    assert_eq!(tokens, ubatches, "each micro-batch tells all of its sequences");
    selections.into_keys().collect()
}

/// Runs of graphs whose nodes are known. Each has selections of four layers, of which the last one
/// computes no more than outputs. This engine builds graphs anew, and a recorder built for debugging
/// may not read them all in time.
fn graphs_read(trace: &Trace) -> usize {
    let read = trace.graph_spans.iter().filter(|span| span.graph != NONE).count();
    assert!(read > 10, "{read} of {}", trace.graph_spans.len());
    read
}

#[test]
#[ignore = "needs root, BTF and a real llama.cpp"]
fn experts_and_sequences_are_in_the_file_of_their_call() {
    let run = Run::new();
    let engine = expert_engine();
    let pid = engine.pid().to_string();
    let arguments = ["-q", "-p", &pid, "-d", "5", "--rotate", "1s"];
    assert!(recorder(&run, &arguments).status().unwrap().success());
    let files = fs::read_dir(run.trace.parent().unwrap()).unwrap().map(|it| it.unwrap().path());
    let mut files: Vec<PathBuf> = files.collect();
    files.sort();
    assert!(files.len() >= 4, "{files:?}");
    let mut seen = HashSet::new();
    for path in &files {
        let trace = whole(path);
        let ids = rows_belong_together(&trace);
        assert!(ids.len() >= 3 * graphs_read(&trace), "{} of {}", ids.len(), graphs_read(&trace));
        assert!(ids.iter().all(|id| seen.insert(*id)), "a selection is in two files");
    }
    let last = seen.iter().max().expect("some were recorded");
    assert_eq!(seen.len() as u32, last + 1, "no selection is missing between files");
}

#[test]
#[ignore = "needs root, BTF and a real llama.cpp"]
fn a_ring_keeps_experts_and_sequences_of_its_calls() {
    let run = Run::new();
    let engine = expert_engine();
    let pid = engine.pid().to_string();
    assert!(recorder(&run, &["-q", "-p", &pid, "--ring", "1", "-d", "4"]).status().unwrap().success());
    let trace = whole(&run.trace);
    assert_eq!(reason(&trace), "duration reached; ring of 1 s");
    let ids = rows_belong_together(&trace);
    assert!(ids.len() >= 3 * graphs_read(&trace), "{} of {}", ids.len(), graphs_read(&trace));
    assert!(ids.iter().min().unwrap() > &0, "old ones were dropped");
}

/// A file system of its own, gone with this.
struct Mount(PathBuf);

impl Mount {
    fn new(run: &Run, size: &str) -> Self {
        let folder = beside(run, "small");
        fs::create_dir(&folder).unwrap();
        let options = format!("size={size}");
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&folder).status();
        assert!(mount.unwrap().success());
        Self(folder)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
#[ignore = "needs root, BTF and a real llama.cpp"]
fn a_full_disk_ends_the_recording_with_a_whole_file() {
    let mut run = Run::new();
    let mut engine = Engine::start(&run, 1);
    let mount = Mount::new(&run, "400k");
    run.trace = mount.0.join("run.llmtrace");
    let pid = engine.pid().to_string();
    let output = recorder(&run, &["-p", &pid, "--exact-begins"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert_eq!(said.trim_end().lines().count(), 1, "{said}");
    assert!(said.contains("No space left on device") && said.contains("are saved: "), "{said}");
    let trace = whole(&run.trace);
    assert!(trace.op_span_count() > 1000);
    assert!(reason(&trace).contains("No space left on device"), "{}", reason(&trace));
    engine.generates_on();
}
