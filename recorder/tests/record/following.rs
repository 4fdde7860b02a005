//! A file that is read while it is recorded.

use crate::workload::{Engine, Run, open, recorder, signal, wait_until};
use llmtrace_analysis::Trace;
use llmtrace_format::Source;
use std::fs::File;
use std::process::Stdio;

/// The file as it is now, if it has a beginning already.
fn now(run: &Run) -> Option<Trace> {
    Trace::open(Source::from_file(File::open(&run.trace).ok()?), &mut |_| true).ok()
}

#[test]
#[ignore = "needs root, BTF and a real llama.cpp"]
fn a_recording_is_followed_until_it_ends() {
    let run = Run::new();
    let engine = Engine::start(&run, 1);
    let pid = engine.pid().to_string();
    let mut child = recorder(&run, &["-q", "-p", &pid]).stderr(Stdio::null()).spawn().unwrap();
    let mut seen: Vec<Trace> = Vec::new();
    wait_until("the file has grown three times", || {
        let grown = now(&run).filter(|trace| {
            !trace.tokens.is_empty() && seen.last().is_none_or(|last| trace.tokens.len() > last.tokens.len())
        });
        if let Some(trace) = grown {
            assert!(trace.is_open_ended());
            if let Some(last) = seen.last() {
                // What was there is there, in the same place.
                assert_eq!(trace.tokens.get(..last.tokens.len()), Some(&last.tokens[..]));
                assert!(trace.op_span_count() >= last.op_span_count());
                last.load_nodes(&|_| true).unwrap();
                trace.adopt(last);
            }
            seen.push(trace);
        }
        seen.len() >= 3
    });
    signal(child.id(), "INT");
    assert!(child.wait().unwrap().success());
    let whole = open(&run);
    assert!(!whole.is_open_ended());
    let last = seen.last().unwrap();
    assert_eq!(whole.tokens.get(..last.tokens.len()), Some(&last.tokens[..]));
    drop(engine);
}
