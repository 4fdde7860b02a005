//! Sequences, the KV cache, calls and speculation of a real server, against what it says itself.

use super::workload::{Run, open, recorder, var};
use llmtrace_analysis::Trace;
use llmtrace_analysis::inference::{
    Request, is_recorded, kv_curves, report, requests, speculation, unknown_tokens,
};
use llmtrace_format::constants::NONE;
use llmtrace_format::inference::{Call, CallKind, KvOperation, TokenRow};
use serde_json::Value;
use std::process::Command;

/// The server's own words: a row for each request.
fn serve(recorder: &mut Command, arguments: &[&str]) -> Vec<Value> {
    let script = var("LLMTRACE_TEST_GENERATE").replace("generate.py", "serve.py");
    let output = recorder
        .args(["--", &var("LLMTRACE_TEST_PYTHON"), &script, "--model", &var("LLMTRACE_TEST_MODEL")])
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).unwrap();
    said.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn number(row: &Value, name: &str) -> f64 {
    row["timings"][name].as_f64().unwrap_or_else(|| panic!("no {name} in {row}"))
}

/// Nothing lost, nothing unknown, nothing private.
fn check_around(trace: &Trace) {
    assert_eq!(trace.file.ending.as_ref().unwrap().lost, 0);
    assert_eq!(trace.all_warnings(), []);
    assert_eq!(unknown_tokens(trace), Some(0));
    for name in ["sequences", "KV cache", "calls", "speculation"] {
        assert!(is_recorded(trace, name), "{name}");
    }
    assert!(!is_recorded(trace, "tokens") && trace.inference.tokens.is_empty());
}

fn calls_of(trace: &Trace, kind: CallKind) -> impl Iterator<Item = &Call> {
    trace.inference.calls.iter().filter(move |call| call.kind == kind as u8)
}

/// The requests that the server was sent, without those of its own at its start.
fn sent(trace: &Trace) -> Vec<Request> {
    requests(trace).into_iter().filter(|request| request.prompt_tokens > 2).collect()
}

#[test]
#[ignore = "needs root, BTF and a real llama.cpp"]
fn requests_take_as_long_as_the_server_says() {
    let run = Run::new();
    let said = serve(
        recorder(&run, &["--level", "token"]).arg("-q"),
        &["--slots", "3", "--requests", "7", "--tokens", "12"],
    );
    let trace = open(&run);
    check_around(&trace);
    let found = sent(&trace);
    assert_eq!((found.len(), said.len()), (7, 7));
    let longest = trace.decodes.iter().map(|row| row.end - row.begin).max().unwrap() as f64 / 1e6;
    // The requests of a slot come one after the other, in both lists.
    for slot in 0..3 {
        let of_slot = |row: &&Value| row["slot"].as_u64() == Some(slot);
        let said: Vec<&Value> = said.iter().filter(of_slot).collect();
        let found: Vec<&Request> =
            found.iter().filter(|request| u64::from(request.key.sequence) == slot).collect();
        assert_eq!(said.len(), found.len(), "slot {slot}");
        assert!(!found.is_empty(), "slot {slot} was used");
        for (said, found) in said.into_iter().zip(found) {
            assert_eq!(f64::from(found.prompt_tokens), number(said, "prompt_n"));
            assert_eq!(found.generated_tokens.map(f64::from), Some(number(said, "predicted_n")));
            assert!(found.whole && found.reused_tokens == 0 && found.failed == 0);
            // Outputs are there when a call returns, and counted when they are sampled.
            let tpot = found.tpot_nanos().unwrap() as f64 / 1e6;
            let expected = number(said, "predicted_per_token_ms");
            assert!((tpot - expected).abs() < expected * 0.05 + 2.0, "{tpot} ms, {said}");
            // The server's clock begins before ours: other slots may compute meanwhile.
            let waited = number(said, "prompt_ms") - found.ttft_nanos().unwrap() as f64 / 1e6;
            assert!((-5.0..longest + 100.0).contains(&waited), "{waited} ms, {said}");
        }
    }
    assert!(found.iter().any(|request| request.shared_ubatches > 2), "batches were shared");
    // Each request has its slot cleared, and each token is sampled.
    let removals = trace.inference.kv.iter().filter(|row| row.operation == KvOperation::Remove as u8);
    assert!(removals.count() >= 7);
    let sampled = calls_of(&trace, CallKind::Sample).count();
    let generated: u32 = found.iter().filter_map(|request| request.generated_tokens).sum();
    assert!(sampled as u32 >= generated, "{sampled} of {generated}");
    // Each prompt was cut into as many tokens as the server says.
    let cut: Vec<f64> = calls_of(&trace, CallKind::Tokenize).map(|call| call.result as i64 as f64).collect();
    for row in &said {
        assert!(cut.contains(&number(row, "prompt_n")), "{row}, {cut:?}");
    }
    assert!(calls_of(&trace, CallKind::Tokenize).all(|call| call.argument != NONE && call.begin < call.end));
    let [curve] = &kv_curves(&trace)[..] else { panic!("one context") };
    assert!(curve.whole);
    let most: u32 = found.iter().map(|request| request.prompt_tokens + 24).max().unwrap();
    assert!((u64::from(most)..u64::from(3 * most)).contains(&curve.most()), "{}", curve.most());
}

#[test]
#[ignore = "needs root, BTF and a real llama.cpp"]
fn a_prefix_that_is_reused_is_no_prompt() {
    let run = Run::new();
    let said = serve(
        recorder(&run, &["--level", "token"]).arg("-q"),
        &["--slots", "1", "--requests", "4", "--tokens", "4", "--cache-prompt"],
    );
    let trace = open(&run);
    check_around(&trace);
    let found = requests(&trace);
    let found = &found[found.len() - 4..];
    for (said, found) in said.iter().zip(found) {
        assert_eq!(f64::from(found.prompt_tokens), number(said, "prompt_n"), "{said}");
        assert_eq!(f64::from(found.reused_tokens), number(said, "cache_n"), "{said}");
        assert_eq!(found.generated_tokens.map(f64::from), Some(number(said, "predicted_n")));
    }
    assert!(found.iter().any(|request| request.reused_tokens > 0));
}

#[test]
#[ignore = "needs root, BTF and a real llama.cpp"]
fn a_context_that_is_shifted_stays_one_request() {
    let run = Run::new();
    // 256 cells, and more tokens than that.
    let arguments = ["--slots", "1", "--requests", "1", "--tokens", "240", "--context", "256", "--shift"];
    let said = serve(recorder(&run, &["--level", "token"]).arg("-q"), &arguments);
    let trace = open(&run);
    check_around(&trace);
    let shifts = trace.inference.kv.iter().filter(|row| row.operation == KvOperation::Add as u8);
    assert!(shifts.clone().count() > 0 && shifts.clone().all(|row| (row.value as i32) < 0));
    let found = sent(&trace);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].generated_tokens.map(f64::from), Some(number(&said[0], "predicted_n")));
    let curve = &kv_curves(&trace)[0];
    assert!(curve.whole && (200..=256).contains(&curve.most()), "{}", curve.most());
}

#[test]
#[ignore = "needs root, BTF and a real llama.cpp"]
fn drafts_are_counted_as_the_server_does() {
    let run = Run::new();
    let model = var("LLMTRACE_TEST_MODEL");
    let arguments =
        ["--slots", "1", "--requests", "2", "--tokens", "14", "--draft", "4", "--draft-model", &model];
    let said = serve(recorder(&run, &["--level", "token"]).arg("-q"), &arguments);
    let trace = open(&run);
    check_around(&trace);
    let sum = |name| said.iter().map(|row| number(row, name)).sum::<f64>();
    let found = speculation(&trace, None).unwrap();
    assert_eq!(found.unknown_rounds, 0);
    assert_eq!(found.drafted as f64, sum("draft_n"));
    assert_eq!(found.accepted as f64, sum("draft_n_accepted"));
    let all = report(&trace).requests;
    let target: Vec<_> = all.iter().filter(|request| !request.draft && request.prompt_tokens > 2).collect();
    assert_eq!(target.len(), 2);
    let generated: u32 = target.iter().filter_map(|request| request.generated_tokens).sum();
    // What the last round gave beyond the length that was asked for is thrown away.
    assert!(f64::from(generated) >= sum("predicted_n"), "{target:?}");
    assert!(all.iter().any(|request| request.draft), "the draft's context is known as such");
}

#[test]
#[ignore = "needs root, BTF and a real llama.cpp"]
fn token_ids_are_there_only_when_they_were_asked_for() {
    let without = Run::new();
    assert!(recorder(&without, &["-q"]).arg("--").args(without.generate(1, 6)).status().unwrap().success());
    let trace = open(&without);
    assert!(trace.inference.tokens.is_empty());
    assert!(trace.file.blocks.iter().all(|block| block.kind != llmtrace_format::constants::kind::TOKENS));
    let sources = &trace.file.recording.as_ref().unwrap().sources;
    let tokens = sources.iter().find(|source| source.name == "tokens").unwrap();
    assert_eq!((tokens.recorded, tokens.reason.as_str()), (false, "not asked for"));

    let with = Run::new();
    let arguments = ["-q", "--tokens", "--level", "token"];
    assert!(recorder(&with, &arguments).arg("--").args(with.generate(1, 6)).status().unwrap().success());
    let trace = open(&with);
    let computed: u32 = trace.ubatches.iter().map(|row| row.tokens).sum();
    let (into, sampled): (Vec<&TokenRow>, Vec<&TokenRow>) =
        trace.inference.tokens.iter().partition(|row| row.ubatch != NONE);
    assert_eq!(into.len(), computed as usize);
    assert_eq!(sampled.len(), 6);
    // What is sampled goes into the next micro-batch.
    let next: Vec<u32> = into.iter().rev().take(5).rev().map(|row| row.token).collect();
    let given: Vec<u32> = sampled.iter().take(5).map(|row| row.token).collect();
    assert_eq!(next, given);
    let info = Command::new(env!("CARGO_BIN_EXE_llmtrace")).arg("info").arg(&with.trace).output().unwrap();
    assert!(String::from_utf8(info.stdout).unwrap().contains("prompts and answers can be read"));
}

#[test]
#[ignore = "needs root, BTF and a real llama.cpp"]
fn what_is_left_out_is_said_to_be() {
    let run = Run::new();
    let arguments = ["-q", "--level", "token", "--without", "sequences,kv,calls"];
    assert!(recorder(&run, &arguments).arg("--").args(run.generate(1, 4)).status().unwrap().success());
    let trace = open(&run);
    let around = &trace.inference;
    assert!(around.sequences.is_empty() && around.kv.is_empty() && around.calls.is_empty());
    assert_eq!(unknown_tokens(&trace), None);
    let recording = trace.file.recording.as_ref().unwrap();
    assert!(recording.sources.iter().all(|source| !source.recorded && source.reason == "not asked for"));
    assert!(trace.ubatches.iter().all(|row| row.tokens > 0), "micro-batches are there all the same");
}
