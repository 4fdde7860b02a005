//! The reading commands on generated traces.

use super::{
    Read, advise, check, compact, cut, diff, experts, explain, export, import, info, print_short_summary,
    report, stats, summary,
};
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
        Read::Experts(args) => experts::run(&args, &mut out)?,
        Read::Explain(args) => explain::run(&args, &mut out)?,
        Read::Diff(args) => drop(diff::run(&args, &mut out)?),
        Read::Advise(args) => advise::run(&args, &mut out)?,
        Read::Report(args) => report::run(&args, &mut out)?,
        Read::Check(args) => drop(check::run(&args, &mut out)?),
        Read::Cut(args) => cut::run(&args, &mut out)?,
        Read::Compact(args) => compact::run(&args, &mut out)?,
        Read::Export(args) => export::run(&args, &mut out)?,
        Read::Import(args) => import::run(&args, &mut out)?,
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

/// Whether a field has a row of its own, or the row of what it is part of names it.
fn is_defined(manual: &str, name: &str) -> bool {
    let (whole, part) = (name.split(['[', '.']).next().unwrap_or(name), name.rsplit(['[', '.']).next());
    let part = match part.unwrap_or(name) {
        // A list of plain values.
        "]" => name.trim_end_matches("[]").rsplit(['[', '.']).next().unwrap_or(name),
        part => part,
    };
    let row = |line: &str| ["`", "[", "."].iter().any(|next| line.starts_with(&format!("| `{whole}{next}")));
    let first_cell = |line: &str| {
        line.starts_with("| `")
            && line.split('|').nth(1).is_some_and(|cell| cell.contains(&format!("`{name}`")))
    };
    let names = |line: &str| {
        line.contains(&format!("`{part}`"))
            || line.contains(&format!(".{part}`"))
            || line.contains(&format!(".{part}[]`"))
    };
    manual.lines().any(|line| first_cell(line) || row(line) && names(line))
}

/// Where the manual defines a field that has the shape of another one.
fn as_documented(name: &str) -> String {
    // As in `calibrate --json`.
    let name = name.strip_prefix("ceilings.").unwrap_or(name);
    if let Some((_, part)) = name.split_once("parts_ms.") {
        return part.to_owned();
    }
    if let Some(at) = name.find("verdict.") {
        return name[at..].trim_end_matches("[][]").to_owned()
            + if name.ends_with("[][]") { "[]" } else { "" };
    }
    // What is told of one side or of groups holds for the other side and for nodes.
    for (other, told) in [("b.", "a."), ("nodes[].", "contributions[].")] {
        if let Some(field) = name.strip_prefix(other) {
            return format!("{told}{field}");
        }
    }
    name.to_owned()
}

#[test]
fn every_json_field_is_documented() {
    let manual = include_str!("../../../docs/cli.md");
    let (_folder, path) = file(5_000, 2);
    let mut names = Vec::new();
    fields(&json(&["info", &path, "--json"]), "", &mut names);
    fields(&json(&["summary", &path, "--json"]), "", &mut names);
    let damaged = Path::new(&path).with_extension("damaged");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&damaged, &bytes[..bytes.len() / 2]).unwrap();
    fields(&json(&["check", damaged.to_str().unwrap(), "--json", "--repair"]), "", &mut names);
    for by in ["op", "name", "layer", "thread", "token"] {
        fields(&json(&["stats", &path, "--json", "--by", by]), "", &mut names);
    }
    let server = concat!(env!("CARGO_MANIFEST_DIR"), "/../sample-traces/gemma3-270m-server-1t.llmtrace");
    fields(&json(&["info", server, "--json"]), "", &mut names);
    fields(&json(&["explain", server, "--json"]), "", &mut names);
    fields(&json(&["diff", &path, server, "--json"]), "", &mut names);
    fields(&json(&["advise", &path, server, "--json"]), "", &mut names);
    let missing: Vec<&String> = names
        .iter()
        .filter(|name| {
            let name = &as_documented(name);
            !is_defined(manual, name)
        })
        .collect();
    assert!(missing.is_empty(), "docs/cli.md does not define {missing:?}");
}

#[test]
fn parts_of_a_phase_add_up_to_its_wall_time_and_each_by_has_rows() {
    let (_folder, path) = file(20_000, 2);
    for by in ["phase", "module", "layer", "op", "node"] {
        let found = json(&["explain", &path, "--json", "--by", by]);
        assert!(found["roofline"].as_array().is_some_and(|rows| !rows.is_empty()), "{by}");
        for row in found["roofline"].as_array().unwrap() {
            assert!(row["verdict"]["bound"].is_string() && row["wall_nanos"].is_number());
        }
    }
    let found = json(&["explain", &path, "--json"]);
    let decode = found["phases"].as_array().unwrap().iter().find(|phase| phase["phase"] == "decode").unwrap();
    let parts: f64 = decode["parts_ms"].as_object().unwrap().values().filter_map(Value::as_f64).sum();
    let summary = json(&["summary", &path, "--json"]);
    let between = decode["parts_ms"]["between_calls"].as_f64().unwrap();
    assert!((parts - between - summary["decode"]["ms"].as_f64().unwrap()).abs() < 1e-6);
    assert!(decode["unattributed_share"].as_f64().unwrap() <= 0.005);
    assert_eq!(found["ceilings"], Value::Null);
    let text = run(&["explain", &path]).unwrap();
    let requests = run(&["explain", &path, "--by", "sequence"]).unwrap();
    assert!(requests.contains("requests"), "{requests}");
    for part in ["memory-bound", "between calls", "100.0 %", "roofline with 2 threads", "not known: ceilings"]
    {
        assert!(text.contains(part), "no `{part}` in:\n{text}");
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

#[test]
fn a_cut_trace_holds_its_range_and_nothing_is_overwritten_by_mistake() {
    let (folder, path) = file(50_000, 2);
    let out = folder.path().join("cut.llmtrace");
    let out = out.to_str().unwrap();
    run(&["cut", &path, "--range", "token:2..token:5", "-o", out]).unwrap();
    assert_eq!(json(&["check", out, "--json"])["whole"], true);
    assert_eq!(json(&["summary", out, "--json"])["decode"]["calls"], 3);
    let precious = folder.path().join("notes.txt");
    std::fs::write(&precious, "precious").unwrap();
    assert!(run(&["cut", &path, "--range", "all", "-o", precious.to_str().unwrap()]).is_err());
    assert_eq!(std::fs::read(&precious).unwrap(), b"precious");
    assert!(run(&["cut", &path, "--range", "all", "-o", &path]).is_err());
    assert!(run(&["export", &path, "--format", "chrome", "-o", &path]).is_err());
    assert!(run(&["cut", &path, "--range", "tomorrow", "-o", out]).is_err());
    let left = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(left, 3, "temporary files were left behind");
}

#[test]
fn a_damaged_file_is_repaired_beside_itself() {
    let (folder, path) = file(20_000, 2);
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() * 3 / 4]).unwrap();
    let found = json(&["check", &path, "--json", "--repair"]);
    assert_eq!(found["whole"], false);
    let repaired = folder.path().join("t.repaired.llmtrace");
    assert_eq!(found["repaired"], repaired.to_str().unwrap());
    assert_eq!(found["repaired_bytes"], std::fs::metadata(&repaired).unwrap().len());
    assert_eq!(std::fs::read(&path).unwrap().len(), bytes.len() * 3 / 4);
    let kinds = json(&["check", repaired.to_str().unwrap(), "--json"]);
    assert!(!kinds["problems"].as_array().unwrap().iter().any(|problem| problem["kind"] == "no_footer"));
}

/// What a command prints of a sample.
fn of_sample(name: &str, args: &[&str]) -> String {
    let path = format!("{}/../sample-traces/{name}.llmtrace", env!("CARGO_MANIFEST_DIR"));
    run(&[&args[..1], &[&path], &args[1..]].concat()).unwrap()
}

#[test]
fn every_source_has_a_line_and_calls_and_requests_tables() {
    let info = of_sample("gemma3-270m-server-1t", &["info"]);
    let parsed: Value =
        serde_json::from_str(&of_sample("gemma3-270m-server-1t", &["info", "--json"])).unwrap();
    for line in parsed["around"].as_array().unwrap().iter().chain(parsed["machine"].as_array().unwrap()) {
        assert!(info.contains(line["text"].as_str().unwrap()), "{line}");
    }
    assert!(!parsed["around"].as_array().unwrap().is_empty());
    for line in ["sequences ", "KV operations ", "calls ", "offloading "] {
        assert!(info.lines().any(|found| found.starts_with(line)), "{line}: {info}");
    }
    assert!(of_sample("gemma3-270m-vulkan9-2t", &["info"]).contains(" copies of "));
    assert!(of_sample("qwen3moe-synthetic-2t", &["info"]).contains(" selections, "));
    let table = of_sample("gemma3-270m-server-1t", &["stats", "--by", "call"]);
    let json = of_sample("gemma3-270m-server-1t", &["stats", "--by", "call", "--json"]);
    let calls: serde_json::Value = serde_json::from_str(&json).unwrap();
    let calls = calls.as_array().unwrap();
    assert!(calls.iter().any(|call| call["kind"] == "sample" && call["count"].as_u64() > Some(1)), "{json}");
    assert!(calls.iter().all(|call| table.contains(call["kind"].as_str().unwrap())), "{table}");
    let requests =
        of_sample("gemma3-270m-server-1t", &["stats", "--by", "request", "--json", "--limit", "2"]);
    let requests: serde_json::Value = serde_json::from_str(&requests).unwrap();
    assert_eq!(requests.as_array().unwrap().len(), 2);
    let (folder, path) = file(100, 1);
    assert!(run(&["stats", &path, "--by", "call"]).unwrap().starts_with("no calls"));
    assert!(run(&["stats", &path, "--by", "request"]).unwrap().starts_with("no requests"));
    drop(folder);
}

#[test]
fn csv_is_a_folder_with_a_file_for_each_table() {
    let (folder, path) = file(5_000, 2);
    let out = folder.path().join("tables");
    run(&["export", &path, "--format", "csv", "-o", out.to_str().unwrap()]).unwrap();
    run(&["export", &path, "--format", "csv", "-o", out.to_str().unwrap(), "--range", "token:1"]).unwrap();
    let decodes = std::fs::read_to_string(out.join("decodes.csv")).unwrap();
    assert_eq!(decodes.lines().count(), 2);
    assert_eq!(std::fs::read_dir(&out).unwrap().count(), llmtrace_analysis::export::CSV_FILES.len());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn parquet_is_a_folder_that_is_replaced_as_a_whole_and_takes_no_other_place() {
    let (folder, path) = file(5_000, 2);
    let out = folder.path().join("tables");
    let export = |out: &Path, range: &str| {
        run(&["export", &path, "--format", "parquet", "-o", out.to_str().unwrap(), "--range", range])
    };
    let names = |out: &Path| {
        let mut names: Vec<_> =
            std::fs::read_dir(out).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    std::fs::create_dir(&out).unwrap();
    assert!(export(&out, "all").unwrap().contains(" op spans, "));
    let whole = (names(&out), std::fs::metadata(out.join("op_spans.parquet")).unwrap().len());
    let mut wanted = llmtrace_analysis::export::PARQUET_FILES.map(std::ffi::OsString::from);
    wanted.sort();
    assert_eq!(whole.0, wanted);
    export(&out, "token:1").unwrap();
    assert_eq!(names(&out), wanted);
    assert!(std::fs::metadata(out.join("op_spans.parquet")).unwrap().len() < whole.1);
    // An empty range of another export is an error before anything is touched.
    assert!(export(&out, "2s..1s").is_err());
    assert_eq!(names(&out), wanted);
    std::fs::write(out.join("notes.txt"), "precious").unwrap();
    let error = export(&out, "all").unwrap_err().to_string();
    assert!(error.contains("`notes.txt`") && error.ends_with(out.to_str().unwrap()), "{error}");
    assert!(export(Path::new(&path), "all").unwrap_err().to_string().contains("it is a file"));
    assert_eq!(std::fs::read(out.join("notes.txt")).unwrap(), b"precious");
    assert_eq!(names(folder.path()).len(), 2, "temporary files were left behind");
}

#[test]
fn odd_events_are_imported_left_out_or_counted() {
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (json_file, trace) = (at("t.json"), at("t.llmtrace"));
    let text = r#"[
        {"name":"MUL_MAT-a\u002d0","ph":"X","ts":1e1,"dur":2.5,"tid":"worker","args":{"x":[{"y":"}"}]}},
        {"ph":"X","ts":20,"dur":1,"tid":"worker","name":"ADD-b","extra":{"a":[1,2,"]"]}},
        {"name":"ADD-b","ph":"X","ts":13,"dur":1,"tid":"worker","args":"none"},
        {"name":"ADD-b","ph":"X","ts":"30","dur":null,"tid":"worker"},
        {"name":"broken","ph":"X" "ts":1},
        {"name":7,"ph":"X","ts":1},
        {"name":"ADD-b","ph":"X"},
        {}
    "#;
    std::fs::write(&json_file, text).unwrap();
    run(&["import", &json_file, "-o", &trace]).unwrap();
    let stats = json(&["stats", &trace, "--by", "name", "--json"]);
    let row = |row: &Value| (row["key"].clone(), row["count"].clone(), row["time_ms"].clone());
    let found: Vec<_> = stats["rows"].as_array().unwrap().iter().map(row).collect();
    // All three of `b` are of one graph run, and so one execution.
    assert_eq!(found, [("a-0".into(), 1.into(), 0.0025.into()), ("b".into(), 1.into(), 0.002.into())]);
    assert_eq!(json(&["info", &trace, "--json"])["op_spans"], 4);
}

#[test]
fn a_trace_exported_to_chrome_and_imported_again_says_the_same() {
    for name in ["gemma3-270m-1t", "gemma3-270m-2t", "qwen3moe-synthetic-2t"] {
        let path = format!("{}/../sample-traces/{name}.llmtrace", env!("CARGO_MANIFEST_DIR"));
        let folder = TempDir::new().unwrap();
        let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let (chrome, again) = (at("t.json"), at("again.llmtrace"));
        run(&["export", &path, "--format", "chrome", "-o", &chrome]).unwrap();
        run(&["import", &chrome, "-o", &again]).unwrap();
        assert_eq!(json(&["check", &again, "--json"])["problems"], Value::Array(Vec::new()));
        for by in ["op", "layer", "thread"] {
            let stats = |path: &str| json(&["stats", path, "--by", by, "--json"]);
            let (before, after) = (stats(&path), stats(&again));
            let rows = |value: &Value| value["rows"].as_array().unwrap().clone();
            assert_eq!(rows(&before).len(), rows(&after).len());
            for (before, after) in rows(&before).iter().zip(&rows(&after)) {
                for field in ["key", "count", "time_ms", "wait_ms"] {
                    assert_eq!(before[field], after[field], "{name} by {by}: {field}");
                }
            }
        }
        let summary = |path: &str| json(&["summary", path, "--json"]);
        let (before, after) = (summary(&path), summary(&again));
        assert_eq!(before["decode"]["tokens"], after["decode"]["tokens"]);
        assert_eq!(before["prefill"]["tokens"], after["prefill"]["tokens"]);
        assert_eq!(before["graph_runs"], after["graph_runs"]);
    }
}

#[test]
fn diff_prints_parts_that_add_up_and_fails_where_it_is_told_to() {
    let folder = TempDir::new().unwrap();
    let write = |name: &str, seed: u64, slow: &str| {
        let slow = if slow.is_empty() { Vec::new() } else { vec![slow.parse().unwrap()] };
        let path = folder.path().join(name);
        std::fs::write(&path, synth::bytes(&Options { slow, ..Options::new(12_000, 2, seed) }).unwrap())
            .unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (a, b) = (write("a", 1, ""), write("b", 2, "MUL_MAT=+20%"));
    let code = |args: &[&str]| {
        let args = ["llmtrace", "diff"].iter().chain(args).copied();
        let Ok(Cli { read: Read::Diff(args) }) = Cli::try_parse_from(args) else { panic!() };
        diff::run(&args, &mut Vec::new()).unwrap()
    };
    assert_eq!([code(&[&a, &b]), code(&[&a, &b, "--fail-over", "3"])], [0, 1]);
    assert_eq!([code(&[&a, &b, "--fail-over", "50"]), code(&[&b, &a, "--fail-over", "0"])], [0, 0]);
    let text = run(&["diff", &a, &b, "--by", "op", "--limit", "2"]).unwrap();
    assert!(text.starts_with("B is 1") || text.starts_with("B is 2"), "{text}");
    // What is printed adds up, to the last digit.
    let change = |line: &str| {
        line.split_whitespace()
            .find_map(|word| word.strip_prefix(['+', '-']).map(|_| word.parse::<f64>().unwrap()))
    };
    let lines: Vec<&str> = text
        .lines()
        .skip_while(|line| !line.starts_with("part"))
        .skip(1)
        .take_while(|line| !line.is_empty())
        .collect();
    let (last, parts) = lines.split_last().unwrap();
    let sum: f64 = parts.iter().filter_map(|line| change(line)).sum();
    assert!((sum - change(last).unwrap()).abs() < 1e-9, "{text}");
    let found = json(&["diff", &a, &b, "--json", "--limit", "3"]);
    assert_eq!((&found["outcome"], found["contributions"].as_array().unwrap().len()), (&"slower".into(), 3));
    assert!(run(&["diff", &a]).is_err() && run(&["diff", &a, &b, "--phase", "encode"]).is_err());
    let advice = run(&["advise", &a, &b]).unwrap();
    assert!(advice.starts_with("no advice"), "{advice}");
}

#[test]
fn a_report_is_there_whole_and_never_on_a_trace() {
    let (folder, path) = file(5_000, 2);
    let page = folder.path().join("report.html");
    let written = run(&["report", &path, "-o", page.to_str().unwrap()]).unwrap();
    assert!(written.contains("report.html"));
    let text = std::fs::read_to_string(&page).unwrap();
    assert!(text.starts_with("<!DOCTYPE html>") && text.ends_with("</html>\n"));
    let onto = run(&["report", &path, "-o", &path]).unwrap_err().to_string();
    assert!(onto.contains("onto its trace"), "{onto}");
    let another = folder.path().join("another.llmtrace");
    std::fs::copy(&path, &another).unwrap();
    assert!(run(&["report", &path, "-o", another.to_str().unwrap()]).is_err());
    let left = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(left, 3, "nothing else is left behind");
}
