//! Which process, which context: several at once, children, late libraries, containers.

use crate::invariants::check_whole;
use crate::workload::{Engine, Run, open, recorder, signal, wait_until};
use llmtrace_analysis::{Phase, Trace};
use std::collections::HashSet;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Records until the file has so many bytes.
fn record_until(run: &Run, pids: &str, bytes: u64) {
    let mut child = recorder(run, &["-p", pids]).spawn().unwrap();
    wait_until("enough is written", || run.trace_bytes() > bytes);
    signal(child.id(), "INT");
    assert!(child.wait().unwrap().success());
}

fn decoded(trace: &Trace, process: u32) -> usize {
    let decodes = trace.decodes.iter().filter(|decode| decode.process == process);
    let generates =
        |id| trace.ubatches.iter().any(|row| row.decode == id && row.phase == Phase::Decode as u8);
    decodes.filter(|decode| generates(decode.id)).count()
}

#[test]
#[ignore = "needs root, BTF and a real llama.cpp"]
fn two_processes_in_one_file_are_told_apart() {
    let run = Run::new();
    let engines = [Engine::start(&run, 1), Engine::start(&run, 1)];
    let pids = engines.each_ref().map(|engine| engine.pid());
    record_until(&run, &format!("{},{}", pids[0], pids[1]), 80_000);
    let trace = open(&run);
    let recording = trace.file.recording.as_ref().unwrap();
    assert_eq!(recording.processes.iter().map(|process| process.pid).collect::<Vec<_>>(), pids);
    assert!(decoded(&trace, 0) > 0 && decoded(&trace, 1) > 0);
    // Each computes with a context and on lanes of its own.
    let contexts = |process| -> HashSet<u32> {
        trace.decodes.iter().filter(|row| row.process == process).map(|row| row.context).collect()
    };
    assert!(contexts(0).is_disjoint(&contexts(1)));
    let lanes: Vec<HashSet<u32>> = trace
        .lanes()
        .iter()
        .map(|lane| trace.spans(lane.id).iter().filter_map(|span| Some(trace.thread_of(span)?.pid)).collect())
        .collect();
    assert_eq!(lanes.len(), 2);
    assert!(lanes.iter().all(|pids| pids.len() == 1) && lanes[0] != lanes[1], "{lanes:?}");
    assert_eq!(trace.file.ending.as_ref().unwrap().lost, 0);
}

#[test]
#[ignore = "needs root, BTF and a real llama.cpp"]
fn what_a_command_starts_is_recorded_too() {
    let run = Run::new();
    let generate = run.generate(1, 8).join(" ");
    // One by fork and exec, one more level down, and the shell leaves before they end.
    let script = format!("{generate} & sh -c '{generate}; true' & sleep 0.1; exit 5");
    let status = recorder(&run, &["--", "sh", "-c", &script]).status().unwrap();
    assert_eq!(status.code(), Some(5), "the command's exit code is passed on");
    let trace = open(&run);
    let recording = trace.file.recording.as_ref().unwrap();
    assert!(recording.processes.iter().all(|process| process.parent != 0));
    // Both are seen from their first token to their last.
    let decoded = (0..recording.processes.len()).map(|process| decoded(&trace, process as u32));
    assert_eq!(decoded.filter(|tokens| *tokens > 0).collect::<Vec<_>>(), [7, 7]);
    assert_eq!(trace.file.ending.as_ref().unwrap().reason, "target exited");
}

#[test]
#[ignore = "needs root, BTF and a real llama.cpp"]
fn draft_and_target_model_are_told_apart() {
    let run = Run::new();
    let command = run.generate(1, 12);
    let script = r#"
import sys, runpy, xllamacpp, generate
plain = generate.engine_params
def with_draft(model, threads):
    params = plain(model, threads)
    params.speculative.types = [xllamacpp.common_speculative_type.COMMON_SPECULATIVE_TYPE_DRAFT_SIMPLE]
    params.speculative.draft.mparams.path = str(model)
    params.speculative.draft.n_max = 3
    params.speculative.draft.n_gpu_layers = 0
    params.speculative.draft.cpuparams.n_threads = threads
    return params
generate.engine_params = with_draft
generate.main()
"#;
    let folder = std::path::Path::new(&command[1]).parent().unwrap();
    let status = recorder(&run, &["--"])
        .arg(&command[0])
        .args(["-c", script])
        .args(&command[2..])
        .env("PYTHONPATH", folder)
        .status()
        .unwrap();
    assert!(status.success());
    let trace = open(&run);
    let contexts: HashSet<u32> = trace.decodes.iter().map(|decode| decode.context).collect();
    assert_eq!(contexts.len(), 2, "the draft's and the target's");
    assert!(contexts.contains(&0) && contexts.contains(&1));
    assert_eq!(trace.file.ending.as_ref().unwrap().lost, 0);
}

#[test]
#[ignore = "needs root, BTF and a real llama.cpp"]
fn a_library_that_is_loaded_late_is_waited_for() {
    let run = Run::new();
    let command = run.generate(1, 8);
    let script = format!(
        "import sys, runpy; input(); sys.argv = {:?}; runpy.run_path(sys.argv[0], run_name='__main__')",
        &command[1..]
    );
    let mut engine = Command::new(&command[0])
        .args(["-c", &script])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let pid = engine.id().to_string();
    let refused = recorder(&run, &["-p", &pid]).output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8(refused.stderr).unwrap().contains("--wait"));

    let mut child = recorder(&run, &["-p", &pid, "--wait"]).spawn().unwrap();
    wait_until("it records", || run.trace_bytes() > 0);
    std::thread::sleep(Duration::from_millis(500));
    writeln!(engine.stdin.take().unwrap()).unwrap();
    assert!(engine.wait().unwrap().success());
    assert!(child.wait().unwrap().success());
    check_whole(&open(&run), 1);
    assert_eq!(decoded(&open(&run), 0), 7);
}

#[test]
#[ignore = "needs root, BTF and a real llama.cpp"]
fn two_recorders_see_the_same() {
    let (first, second) = (Run::new(), Run::new());
    let mut engine = Engine::start(&first, 1);
    let pid = engine.pid().to_string();
    let mut child = recorder(&first, &["-p", &pid]).spawn().unwrap();
    wait_until("the first records", || first.trace_bytes() > 20_000);
    record_until(&second, &pid, 80_000);
    signal(child.id(), "INT");
    assert!(child.wait().unwrap().success());
    let (first, second) = (open(&first), open(&second));
    check_whole(&first, 1);
    check_whole(&second, 1);
    // The same calls, by the clock of the machine, but for what each handler costs the other.
    let calls = |trace: &Trace| -> Vec<u64> {
        trace.decodes.iter().map(|row| row.begin + trace.file.header.start_monotonic_nanos).collect()
    };
    let all = calls(&first);
    let near = |time: &u64| all.iter().any(|other| other.abs_diff(*time) < 2_000_000);
    let both = calls(&second);
    // A machine that is busy may stop the thread between the two handlers.
    assert!(both.len() > 5 && both.iter().filter(|call| near(call)).count() * 4 > both.len() * 3);
    engine.generates_on();
}

#[test]
#[ignore = "needs root, BTF and a real llama.cpp"]
fn from_inside_a_container_it_records_what_it_starts_there() {
    let run = Run::new();
    let status = Command::new("unshare")
        .args(["--pid", "--fork", "--mount-proc", env!("CARGO_BIN_EXE_llmtrace"), "record", "-o"])
        .arg(&run.trace)
        .arg("--")
        .args(run.generate(1, 8))
        .status()
        .unwrap();
    assert!(status.success());
    let trace = open(&run);
    check_whole(&trace, 1);
    let decodes = trace.tokens.iter().filter(|token| token.phase == Phase::Decode).count();
    assert_eq!(decodes, 7);
}
