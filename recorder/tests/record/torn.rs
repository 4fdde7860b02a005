//! Recorders that are killed at any moment leave files that open.

use crate::workload::{Engine, Run, recorder, wait_until};
use llmtrace_analysis::Trace;
use llmtrace_format::Source;
use nix::time::{ClockId, clock_gettime};
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};

/// Longest time before the kill, in milliseconds, of which nothing need be in the file. The recorder
/// writes twice a second, but the machine of a test may be busy with other things; `make torn` asks
/// for the second that is promised.
const MOST_MISSING_MILLIS: u64 = 10_000;

fn check(path: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_llmtrace"));
    let output = command.args(["check", "--json"]).arg(path).args(arguments).output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

fn op_spans(path: &Path) -> (Trace, u64) {
    let trace = Trace::open(Source::from_file(File::open(path).unwrap()), &mut |_| true).unwrap();
    let count = trace.op_span_count();
    (trace, count)
}

/// `LLMTRACE_TEST_KILLS` of them; `make torn` asks for 200.
#[test]
#[ignore = "needs root, BTF and a real llama.cpp"]
fn recorders_killed_at_random_moments_leave_files_that_open() {
    let kills: u64 = std::env::var("LLMTRACE_TEST_KILLS").map_or(5, |kills| kills.parse().unwrap());
    let most: u64 =
        std::env::var("LLMTRACE_TEST_MISSING").map_or(MOST_MISSING_MILLIS, |most| most.parse().unwrap());
    let first = Run::new();
    let mut engine = Engine::start(&first, 2);
    let mut random = llmtrace_testing::Random::new(41);
    let (mut missing_millis, mut empty) = (Vec::new(), 0);
    for kill in 0..kills {
        if kill % 5 == 4 {
            // Also empties its pipe, which would stop it when full.
            engine.generates_on();
        }
        let run = Run::new();
        let mut command = recorder(&run, &["-q", "-p", &engine.pid().to_string()]);
        let mut child = command.stderr(Stdio::null()).spawn().unwrap();
        // From the first bytes on, in the middle of whatever it does.
        let bytes = random.below(60_000) as u64;
        wait_until("it writes", || run.trace_bytes() > bytes);
        // Taken before: the kernel takes a second to detach, in which nothing is recorded any more.
        let killed = clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap();
        let killed = killed.tv_sec() as u64 * 1_000_000_000 + killed.tv_nsec() as u64;
        child.kill().unwrap();
        child.wait().unwrap();

        let (code, said) = check(&run.trace, &[]);
        assert_eq!(code, Some(1), "kill {kill}: {said}");
        assert!(said.contains("no_footer"), "kill {kill}: {said}");
        let (trace, count) = op_spans(&run.trace);
        if count == 0 {
            empty += 1;
        } else {
            let missing = killed.saturating_sub(trace.file.header.start_monotonic_nanos + trace.range().end);
            missing_millis.push(missing / 1_000_000);
        }
        let whole = run.trace.with_extension("whole.llmtrace");
        let (_, said) = check(&run.trace, &["--repair", "-o", whole.to_str().unwrap()]);
        let (_, after) = check(&whole, &[]);
        for problem in ["no_footer", "cut_off", "no_block", "damaged", "index", "summary"] {
            assert!(!after.contains(&format!("\"{problem}\"")), "kill {kill}: {said}\n{after}");
        }
        assert_eq!(op_spans(&whole).1, count, "kill {kill}: repairing loses nothing");
    }
    engine.generates_on();
    missing_millis.sort_unstable();
    let at = |part: usize| missing_millis.get(missing_millis.len() * part / 100).copied().unwrap_or(0);
    let longest = missing_millis.last().copied().unwrap_or(0);
    println!(
        "torn: {kills} of {kills} killed recordings open and are repaired, {empty} of them without op spans yet; \
         before the kill are missing {} ms (median), {} ms (95 %), {longest} ms (most; {most} ms are allowed)",
        at(50),
        at(95),
    );
    assert!(longest <= most, "{longest} ms before a kill are missing");
}
