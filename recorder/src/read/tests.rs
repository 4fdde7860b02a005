//! The reading commands on generated traces.

use super::{Read, info, print_short_summary, stats, summary};
use clap::Parser;
use llmtrace_analysis::synth::{self, Options};
use serde_json::Value;
use std::path::Path;
use tempfile::TempDir;

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    read: Read,
}

fn run(args: &[&str]) -> anyhow::Result<String> {
    let mut out = Vec::new();
    match Cli::try_parse_from(std::iter::once("llmtrace").chain(args.iter().copied()))?.read {
        Read::Info(args) => info::run(&args, &mut out)?,
        Read::Summary(args) => summary::run(&args, &mut out)?,
        Read::Stats(args) => stats::run(&args, &mut out)?,
    }
    Ok(String::from_utf8(out)?)
}

fn json(args: &[&str]) -> Value {
    serde_json::from_str(&run(args).unwrap()).unwrap()
}

fn file(spans: u64, threads: u32) -> (TempDir, String) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("t.llmtrace");
    std::fs::write(&path, synth::bytes(&Options::new(spans, threads, 1)).unwrap()).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (folder, path)
}

/// The names of all fields, such as `decode.tpot_ms.p50`.
fn fields(value: &Value, prefix: &str, into: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                let dot = if prefix.is_empty() { "" } else { "." };
                fields(value, &format!("{prefix}{dot}{name}"), into);
            }
        }
        Value::Array(list) => {
            list.iter().take(1).for_each(|first| fields(first, &format!("{prefix}[]"), into))
        }
        _ => into.push(prefix.to_owned()),
    }
}

#[test]
fn every_json_field_is_documented() {
    let manual = include_str!("../../../docs/cli.md");
    let (_folder, path) = file(5_000, 2);
    let mut names = Vec::new();
    fields(&json(&["info", &path, "--json"]), "", &mut names);
    fields(&json(&["summary", &path, "--json"]), "", &mut names);
    for by in ["op", "name", "layer", "thread", "token"] {
        fields(&json(&["stats", &path, "--json", "--by", by]), "", &mut names);
    }
    for name in names {
        assert!(manual.contains(&format!("| `{name}` |")), "docs/cli.md does not define `{name}`");
    }
}

#[test]
fn summary_json_holds_what_was_promised() {
    let (_folder, path) = file(20_000, 2);
    let found = json(&["summary", &path, "--json"]);
    for number in [
        &found["prefill"]["tokens"],
        &found["prefill"]["tokens_per_second"],
        &found["decode"]["tokens"],
        &found["decode"]["tokens_per_second"],
        &found["decode"]["tpot_ms"]["p50"],
        &found["decode"]["tpot_ms"]["p95"],
        &found["decode"]["tpot_ms"]["max"],
        &found["op_spans"],
        &found["lost_events"],
        &found["file_bytes"],
        &found["threads"],
    ] {
        assert!(number.is_number(), "{found:#}");
    }
    for operator in found["operators"].as_array().unwrap() {
        assert!(operator["op"].is_string());
        assert!(["count", "time_ms", "wait_ms", "share"].iter().all(|name| operator[name].is_number()));
    }
    assert_eq!(found["file_bytes"], std::fs::metadata(&path).unwrap().len());
}

#[test]
fn text_is_limited_and_json_is_not() {
    let (_folder, path) = file(5_000, 1);
    assert!(run(&["stats", &path, "--by", "name"]).unwrap().contains("20 of 400"));
    assert_eq!(json(&["stats", &path, "--by", "name", "--json"])["rows"].as_array().unwrap().len(), 400);
    let three = json(&["stats", &path, "--by", "name", "--json", "--limit", "3"]);
    assert_eq!(three["rows"].as_array().unwrap().len(), 3);
    assert!(run(&["stats", &path, "--limit", "0"]).unwrap().contains("RMS_NORM+MUL"));
    assert!(run(&["stats", &path, "--by", "nonsense"]).is_err());
    let decode = json(&["stats", &path, "--by", "token", "--phase", "decode", "--json"]);
    assert_eq!(decode["rows"][0]["key"], "decode 0");
}

#[test]
fn text_names_the_model_the_speed_and_the_losses() {
    let (_folder, path) = file(5_000, 2);
    let text = run(&["info", &path]).unwrap();
    for part in ["synthetic-270m-q4_k_m.gguf", "level", "op spans", "0 lost", "format", "2 CPUs"] {
        assert!(text.contains(part), "no `{part}` in:\n{text}");
    }
    let text = run(&["summary", &path]).unwrap();
    for part in ["tokens/s: 128 tokens", "per token  p50", "0 events", "MUL_MAT"] {
        assert!(text.contains(part), "no `{part}` in:\n{text}");
    }
    let mut short = Vec::new();
    print_short_summary(Path::new(&path), &mut short).unwrap();
    assert!((3..=6).contains(&String::from_utf8(short).unwrap().lines().count()));
}

#[test]
fn errors_say_what_and_where() {
    let (folder, path) = file(2_000, 1);
    let error = |path: &str| format!("{:#}", run(&["info", path]).unwrap_err());
    let missing = folder.path().join("none.llmtrace");
    let missing = missing.to_str().unwrap();
    assert_eq!(error(missing), format!("cannot open: no such file: {missing}"));
    std::fs::write(missing, "hello world").unwrap();
    assert!(error(missing).contains("not an .llmtrace file") && error(missing).ends_with(missing));
    assert!(error(folder.path().to_str().unwrap()).contains("folder"));
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    assert!(
        json(&["info", &path, "--json"])["warnings"][0].as_str().unwrap().contains("not closed properly")
    );
    assert!(run(&["summary", &path]).is_ok());
}
