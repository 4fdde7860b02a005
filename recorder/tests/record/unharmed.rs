//! What happens to a target that is recorded, attached to again and again, or that ends badly.

use crate::workload::{
    Engine, Run, open, record_some, recorder, signal, var, wait_until, wait_until_it_writes,
};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// `LLMTRACE_TEST_CYCLES` of them; `make unharmed` asks for 100.
#[test]
#[ignore = "needs root, BTF and a real llama.cpp"]
fn attaching_again_and_again_leaves_nothing_behind() {
    let cycles: u32 = std::env::var("LLMTRACE_TEST_CYCLES").map_or(3, |cycles| cycles.parse().unwrap());
    let first = Run::new();
    let mut engine = Engine::start(&first, 2);
    let pid = engine.pid();
    let maps = || fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let before = code_pages(&maps());
    for cycle in 0..cycles {
        if cycle % 10 == 9 {
            // Also empties its pipe, which would stop it when full.
            engine.generates_on();
        }
        let run = Run::new();
        record_some(&run, &mut recorder(&run, &["-q", "-p", &engine.pid().to_string()]));
        assert!(open(&run).op_span_count() > 0);
    }
    // The kernel adds one mapping for what it single-steps, once, and never takes it away.
    let after = code_pages(&maps());
    assert!(after <= before + 1, "{before} executable mappings, {after} after {cycles} recordings");
    engine.generates_on();
}

fn code_pages(maps: &str) -> usize {
    maps.lines().filter(|line| line.contains("r-xp") || line.contains("--xp")).count()
}

#[test]
#[ignore = "needs root, BTF and a real llama.cpp"]
fn a_target_that_becomes_another_program_ends_the_recording() {
    let run = Run::new();
    let generate = run.generate(1, 8);
    let script = format!("'{}' && exec true", generate.join("' '"));
    let output =
        recorder(&run, &["-q"]).args(["--", "sh", "-c", &script]).stdout(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // And one that was recorded itself, and is gone by `exec`.
    let run = Run::new();
    let code = "import os, runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__'); \
                os.execv('/bin/true', ['true'])";
    let (python, rest) = generate.split_first().unwrap();
    let mut command = recorder(&run, &["-q", "--", python, "-c", code]);
    let output = command.args(rest).stdout(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let trace = open(&run);
    assert!(trace.op_span_count() > 0);
    assert_eq!(trace.file.ending.as_ref().unwrap().reason, "target exited");
}

#[test]
#[ignore = "needs root, BTF and a real llama.cpp"]
fn a_target_that_crashes_ends_the_recording_with_its_signal() {
    for name in ["SEGV", "KILL"] {
        let run = Run::new();
        let engine = Engine::start(&run, 1);
        let mut child = recorder(&run, &["-q", "-p", &engine.pid().to_string()]).spawn().unwrap();
        wait_until_it_writes(&run, &mut child, 20_000);
        signal(engine.pid(), name);
        assert!(child.wait().unwrap().success());
        let trace = open(&run);
        assert!(trace.op_span_count() > 0);
        assert_eq!(trace.file.ending.as_ref().unwrap().reason, "target exited", "{name}");
    }
}

#[test]
#[ignore = "needs root, BTF and a real llama.cpp"]
fn a_library_that_is_unloaded_while_probed_takes_nobody_with_it() {
    // Loads a copy of ggml's library by itself, lets it be probed, and unloads it, three times.
    let run = Run::new();
    let found = Command::new(var("LLMTRACE_TEST_PYTHON"))
        .args(["-c", "import xllamacpp, glob, os; d = os.path.dirname(xllamacpp.__file__); print(glob.glob(d + '/*.so')[0])"])
        .output()
        .unwrap();
    let library = String::from_utf8(found.stdout).unwrap().trim().to_owned();
    let code = "import ctypes, _ctypes, sys, time\n\
                for _ in range(3):\n    \
                    h = ctypes.PyDLL(sys.argv[1])._handle\n    \
                    print('loaded', flush=True)\n    \
                    time.sleep(1)\n    \
                    _ctypes.dlclose(h)\n\
                print('survived', flush=True)";
    let mut command = recorder(&run, &["-q", "--", &var("LLMTRACE_TEST_PYTHON"), "-c", code, &library]);
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.ends_with("survived\n"), "{said}{}", String::from_utf8_lossy(&output.stderr));
}

/// A control group of its own for memory, in either version of them; gone with this.
struct Memory(PathBuf);

impl Memory {
    /// None where groups are not to be had.
    fn limited_to(bytes: u64) -> Option<Self> {
        let name = format!("llmtrace-test-{}", std::process::id());
        let both = [
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.swappiness"),
            ("/sys/fs/cgroup", "memory.max", "memory.swap.max"),
        ];
        both.into_iter().find_map(|(parent, limit, swap)| {
            let group = Self(Path::new(parent).join(&name));
            fs::create_dir(&group.0).ok()?;
            fs::write(group.0.join(limit), bytes.to_string()).ok()?;
            let _ = fs::write(group.0.join(swap), "0");
            Some(group)
        })
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
#[ignore = "needs root, BTF and a real llama.cpp"]
fn a_target_that_runs_out_of_memory_ends_the_recording() {
    let run = Run::new();
    let Some(group) = Memory::limited_to(1 << 30) else {
        println!("SKIPPED: no control group for memory");
        return;
    };
    // Generates, and from the moment that a file is there takes more and more.
    let eat = run.folder().join("eat");
    let code = "import os, runpy, sys, threading, time\n\
                group, eat = sys.argv[1:3]\n\
                open(group + '/cgroup.procs', 'w').write(str(os.getpid()))\n\
                def more():\n    \
                    kept = []\n    \
                    while not os.path.exists(eat): time.sleep(0.05)\n    \
                    while True: kept.append(b'x' * (8 << 20))\n\
                threading.Thread(target=more, daemon=True).start()\n\
                sys.argv = sys.argv[3:]\n\
                runpy.run_path(sys.argv[0], run_name='__main__')";
    let generate = run.generate(1, 16);
    let (python, rest) = generate.split_first().unwrap();
    let mut command = Command::new(python);
    let mut engine = Engine::start_as(command.args(["-c", code]).arg(&group.0).arg(&eat).args(rest));
    let mut child = recorder(&run, &["-q", "-p", &engine.pid().to_string()]).spawn().unwrap();
    wait_until_it_writes(&run, &mut child, 20_000);
    fs::write(&eat, "").unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(engine.ended_by(), Some(9), "the kernel killed it");
    let trace = open(&run);
    assert!(trace.op_span_count() > 0);
    assert_eq!(trace.file.ending.as_ref().unwrap().reason, "target exited");
}

/// `LLMTRACE_TEST_STILL` seconds; `make unharmed` asks for a minute.
#[test]
#[ignore = "needs root, BTF and a real llama.cpp"]
fn a_recorder_that_stands_still_holds_nobody_up() {
    let secs: u64 = std::env::var("LLMTRACE_TEST_STILL").map_or(10, |secs| secs.parse().unwrap());
    let run = Run::new();
    let mut engine = Engine::start(&run, 1);
    let mut child = recorder(&run, &["-q", "-p", &engine.pid().to_string()]).spawn().unwrap();
    wait_until_it_writes(&run, &mut child, 20_000);
    signal(child.id(), "STOP");
    let (begin, mut generations) = (Instant::now(), 0);
    while begin.elapsed() < Duration::from_secs(secs) {
        generations += engine.generates_on();
    }
    let before = run.trace_bytes();
    signal(child.id(), "CONT");
    wait_until("it goes on", || run.trace_bytes() > before + 20_000);
    signal(child.id(), "INT");
    assert!(child.wait().unwrap().success());
    let trace = open(&run);
    // What the rings could not keep is told, and when; what came after is recorded.
    let lost: u64 = trace.losses.iter().map(|loss| loss.count).sum();
    assert_eq!(lost, trace.file.ending.as_ref().unwrap().lost);
    let last = trace.graph_spans.iter().map(|graph| graph.end).max().unwrap();
    assert!(trace.losses.iter().all(|loss| loss.begin < last), "nothing was recorded after the stop");
    engine.generates_on();
    println!(
        "unharmed: recorder stopped for {secs} s, {generations} generations meanwhile, {lost} events lost"
    );
}
