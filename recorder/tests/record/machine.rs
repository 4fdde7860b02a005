//! What the kernel did: thread states, page faults, reads from disks.

use crate::invariants::check_whole;
use crate::workload::{Run, open, recorder, var};
use llmtrace_analysis::machine::{fault_groups, fault_totals, state_totals, tensors_of};
use llmtrace_analysis::{TimeRange, Trace};
use llmtrace_format::constants::NONE;
use llmtrace_format::machine::{Fault, State, ThreadState};
use llmtrace_format::meta::Source;
use std::process::{Command, Stdio};

fn source<'a>(trace: &'a Trace, name: &str) -> &'a Source {
    let sources = &trace.file.recording.as_ref().expect("described").sources;
    sources.iter().find(|source| source.name == name).expect("a source of this name")
}

fn recorded(arguments: &[&str], command: &[String]) -> Trace {
    let run = Run::new();
    let status = recorder(&run, arguments).arg("--").args(command).stdout(Stdio::null()).status().unwrap();
    assert!(status.success());
    open(&run)
}

/// What holds for states in any recording in which nothing was lost.
fn check_states(trace: &Trace) {
    assert!(trace.machine.has_states && trace.machine.thread_count() > 0);
    for (process, tid) in trace.machine.threads() {
        let states = trace.thread_states(process, tid, trace.range()).expect("a short run has them all");
        assert!(states.rows().iter().all(|row| row.begin < row.end));
        let follow = states.rows().windows(2).all(|two| two[0].end == two[1].begin);
        assert!(follow, "a thread is in one state at all times");
        // The kernel leaves out a switch now and then.
        let unknown = |row: &&ThreadState| State::from_u8(row.state) == State::Unknown;
        let unknown = states.rows().iter().filter(unknown).count();
        assert!(unknown <= 5 + states.rows().len() / 100, "{unknown} of {}", states.rows().len());
    }
    // Whoever arrives at a barrier runs.
    for lane in trace.lanes() {
        for span in trace.spans(lane.id) {
            let thread = trace.thread_of(&span).expect("a span has its thread");
            let states = trace.thread_states(lane.id >> 20, thread.tid, trace.range());
            let states = states.expect("it has states");
            let state = states.at(span.compute_end()).map(|row| State::from_u8(row.state));
            let around = TimeRange::new(span.begin, span.end() + 1_000_000);
            assert_eq!(state, Some(State::Running), "{span:?} {:?}", states.within(around));
            let during = TimeRange::new(span.begin, span.end());
            let known = states.sums(during).known();
            let unknown = states.within(during).iter().any(|row| State::from_u8(row.state) == State::Unknown);
            assert!(unknown || known == during.nanos(), "all of a node's time is of some state");
        }
    }
}

/// States and faults of a whole run fit what the probes saw, and nothing is lost.
#[test]
#[ignore = "needs root, BTF and a real llama.cpp"]
fn threads_are_somewhere_at_all_times() {
    let run = Run::new();
    let trace = recorded(&["--sched", "--faults"], &run.generate(2, 16));
    check_whole(&trace, 2);
    check_states(&trace);
    assert!(
        source(&trace, "thread states").recorded && source(&trace, "page faults and block reads").recorded
    );
    // What they cost is known, and counted.
    let costs = &trace.file.recording.as_ref().expect("described").costs;
    let price = |purpose: &str| costs.iter().find(|cost| cost.purpose == purpose).map(|cost| cost.nanos);
    let prices = ["thread switch", "page fault", "block read"].map(price);
    assert!(prices.iter().flatten().all(|nanos| (1..20_000).contains(nanos)), "{prices:?}");
    assert!(prices[2].is_some(), "{prices:?}");
    // A context's memory is touched for the first time.
    let totals = fault_totals(&trace, None, None);
    assert!(totals.count > 1000, "{totals:?}");
    assert_eq!(totals.unknown, 0);
    let inside = |fault: &Fault| fault.begin <= fault.end && fault.count >= fault.unaddressed.max(1);
    assert!(trace.machine.faults.iter().all(inside));
    // Without the options there is nothing, and the file says so.
    let trace = recorded(&[], &run.generate(1, 4));
    assert!(trace.machine.is_empty() && !source(&trace, "thread states").recorded);
}

/// A loop that never sleeps, on the same CPU as a thread that computes.
#[test]
#[ignore = "needs root, BTF and a real llama.cpp"]
fn a_busy_neighbour_is_named() {
    let run = Run::new();
    let mut neighbour = Command::new("taskset")
        .args(["-c", "0", &var("LLMTRACE_TEST_PYTHON"), "-c", "while True: pass"])
        .spawn()
        .expect("taskset is there");
    let mut command: Vec<String> = ["taskset", "-c", "0"].map(str::to_owned).into();
    command.extend(run.generate(1, 24));
    let trace = recorded(&["--sched"], &command);
    neighbour.kill().unwrap();
    neighbour.wait().unwrap();
    check_states(&trace);
    let totals = state_totals(&trace, None);
    let named = totals.preempters.iter().find(|row| row.pid == Some(neighbour.id()));
    let named = named.unwrap_or_else(|| panic!("{:?}", totals.preempters));
    assert!(named.name.starts_with("python") && !named.is_target, "{named:?}");
    let computing = totals.threads.first().expect("a thread that computes");
    assert!(!computing.places.is_empty());
    // Two that never sleep share a CPU.
    let (ran, waited) = (computing.sums.of(State::Running), computing.sums.runnable());
    assert!(waited > ran / 4, "it ran {ran} ns and was runnable {waited} ns");
    assert!(computing.preemptions > 5);
    // Whatever came in between, nobody is preempted by itself.
    for (process, tid) in trace.machine.threads() {
        let states = trace.thread_states(process, tid, trace.range()).expect("a short run has them all");
        assert!(states.rows().iter().all(|row| row.other_tid != tid));
    }
}

/// A mapped model whose pages are on the disk: faults are told by file, tensor and operator.
#[test]
#[ignore = "needs root, BTF and a real llama.cpp"]
fn a_cold_model_is_read_by_tensor() {
    let run = Run::new();
    let mut command = run.generate(2, 8);
    command.extend(["--evict", "--prompt-tokens", "16"].map(str::to_owned));
    let trace = recorded(&["--sched", "--faults"], &command);
    check_whole(&trace, 2);
    check_states(&trace);
    let model = var("LLMTRACE_TEST_MODEL");
    let name = model.rsplit('/').next().expect("a name");
    let files = &trace.file.recording.as_ref().expect("described").files;
    let file = files.iter().position(|file| file.name == name).expect("the model is among the files");
    assert!(files[file].tensors.len() > 200 && files[file].bytes == std::fs::metadata(&model).unwrap().len());
    let of_model = |fault: &&Fault| fault.known == 1 && fault.file == file as u32;
    let faults: Vec<&Fault> = trace.machine.faults.iter().filter(of_model).collect();
    assert!(faults.iter().map(|fault| fault.wait).sum::<u64>() > 0, "somebody waited for the disk");
    assert!(faults.iter().filter(|fault| fault.major != NONE).any(|fault| fault.major > 0));
    let read: u64 = trace.machine.reads.iter().map(|read| u64::from(read.bytes)).sum();
    assert!(read > 50_000_000, "{read} bytes were read of a model of {}", files[file].bytes);
    assert!(trace.machine.reads.iter().all(|read| read.begin <= read.end && read.bytes > 0));
    // A matrix product misses pages of the matrix that it reads.
    let (mut right, mut all) = (0, 0);
    for lane in trace.lanes() {
        for span in trace.spans(lane.id) {
            let Some((graph, tensor)) = trace.node_of(&span) else { continue };
            if trace.file.string(tensor.op) != "MUL_MAT" {
                continue;
            }
            let sources = tensor.sources.iter().filter_map(|source| graph.tensors.get(*source as usize));
            let sources: Vec<&str> = sources.map(|source| trace.file.string(source.name)).collect();
            let tid = trace.thread_of(&span).expect("a span has its thread").tid;
            let during = TimeRange::new(span.begin, span.compute_end());
            for fault in trace.machine.faults_of(lane.id >> 20, tid, during).filter(of_model) {
                all += 1;
                right +=
                    u32::from(tensors_of(&trace, fault).iter().any(|of| sources.contains(&of.name.as_str())));
            }
        }
    }
    assert!(all > 20 && right == all, "{right} of {all} faults are in a tensor that the node reads");
    let groups = fault_groups(&trace, None, None);
    assert!(groups.iter().any(|group| group.during == "GET_ROWS" && group.tensor == "token_embd.weight"));
}

/// Programs of the kernel's tracepoints need no tracefs.
#[test]
#[ignore = "needs root, BTF and a real llama.cpp"]
fn tracefs_is_not_needed() {
    let run = Run::new();
    let inner = recorder(&run, &["--sched", "--faults"]);
    let status = Command::new("unshare")
        .args([
            "-m",
            "sh",
            "-c",
            "umount -l /sys/kernel/tracing; umount -l /sys/kernel/debug; exec \"$@\"",
            "sh",
        ])
        .arg(inner.get_program())
        .args(inner.get_args())
        .arg("--")
        .args(run.generate(1, 4))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    let trace = open(&run);
    check_states(&trace);
    assert!(trace.machine.has_faults && !trace.machine.faults.is_empty());
}
