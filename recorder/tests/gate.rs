//! `llmtrace diff` as a gate of CI: its exit codes, and what it says where.
#![expect(clippy::unwrap_used, reason = "tests may panic")]

use std::process::{Command, Output};

const SAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../sample-traces");

fn diff(a: &str, b: &str, more: &[&str]) -> Output {
    let path = |name: &str| format!("{SAMPLES}/{name}.llmtrace");
    let mut command = Command::new(env!("CARGO_BIN_EXE_llmtrace"));
    command.args(["diff", &path(a), &path(b)]).args(more).output().unwrap()
}

#[test]
fn it_fails_on_a_regression_passes_without_and_tells_errors_apart() {
    // One thread is no match for two.
    let (slow, fast) = ("gemma3-270m-1t", "gemma3-270m-2t");
    let code = |a, b, more: &[&str]| diff(a, b, more).status.code().unwrap();
    assert_eq!(code(fast, slow, &[]), 0, "nobody asked");
    assert_eq!(code(fast, slow, &["--fail-over", "3"]), 1);
    assert_eq!(code(fast, slow, &["--fail-over", "500"]), 0, "not by so much");
    assert_eq!(code(slow, fast, &["--fail-over", "0"]), 0, "it is faster");
    assert_eq!(code(slow, slow, &["--fail-over", "0"]), 0, "the same");
    for more in [&["--phase", "encode"][..], &["--fail-over", "lots"], &["--fail-over", "-3"], &["--no-such"]]
    {
        assert_eq!(code(fast, slow, more), 2, "{more:?}");
    }
    let missing = diff(fast, "nothing", &["--fail-over", "3"]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(missing.stdout.is_empty());
    assert!(String::from_utf8(missing.stderr).unwrap().contains("nothing.llmtrace"));
}

#[test]
fn json_says_whether_it_failed_and_by_how_much_it_may() {
    let found = diff("gemma3-270m-2t", "gemma3-270m-1t", &["--json", "--fail-over", "3"]);
    assert_eq!(found.status.code(), Some(1));
    let json: serde_json::Value = serde_json::from_slice(&found.stdout).unwrap();
    assert_eq!((&json["gate"]["percent"], &json["gate"]["failed"]), (&3.0.into(), &true.into()));
    let free = diff("gemma3-270m-2t", "gemma3-270m-1t", &["--json"]);
    let json: serde_json::Value = serde_json::from_slice(&free.stdout).unwrap();
    assert!(json["gate"].is_null() && json["outcome"] == "slower");
}
