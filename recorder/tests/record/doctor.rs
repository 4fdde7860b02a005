//! `llmtrace doctor`: what it says of this host, and of a real llama.cpp.

use crate::elsewhere::{Elsewhere, THREE, as_nobody};
use crate::workload::{Engine, Run, var};
use serde_json::Value;
use std::fs;
use std::process::Command;

fn report(command: &mut Command) -> (Option<i32>, Value) {
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    (output.status.code(), serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")))
}

fn doctor() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_llmtrace"));
    command.args(["doctor", "--json"]);
    command
}

fn check<'a>(report: &'a Value, name: &str) -> &'a Value {
    let checks = report["host"].as_array().unwrap();
    checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no {name} in {report}"))
}

#[test]
#[ignore = "needs root and BTF"]
fn host_is_described_whole_and_what_is_wrong_comes_with_advice() {
    let (code, report) = report(&mut doctor());
    assert_eq!((code, &report["can_record"]), (Some(0), &Value::Bool(true)));
    let names = [
        "machine",
        "kernel",
        "BTF",
        "CAP_BPF",
        "CAP_PERFMON",
        "CAP_SYS_PTRACE",
        "CAP_DAC_READ_SEARCH",
        "CAP_CHECKPOINT_RESTORE",
        "BPF programs",
        "uprobe_multi",
        "counters",
        "lockdown",
        "seccomp",
        "perf_event_paranoid",
        "unprivileged_bpf_disabled",
        "kptr_restrict",
        "memlock",
        "tracefs",
        "PMU",
    ];
    let found: Vec<&str> =
        report["host"].as_array().unwrap().iter().map(|check| check["name"].as_str().unwrap()).collect();
    assert_eq!(found, names);
    for check in report["host"].as_array().unwrap() {
        assert_eq!(check["status"] == "ok", check["advice"] == "", "{check}");
        assert_ne!(check["found"], "", "{check}");
    }
    let paranoid = fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").unwrap();
    let found = check(&report, "perf_event_paranoid")["found"].as_str().unwrap();
    assert!(found.starts_with(&format!("{};", paranoid.trim())), "{found}");
}

#[test]
#[ignore = "needs root and BTF"]
fn missing_capability_is_a_problem_with_its_purpose() {
    let run = Run::new();
    run.open_to_everybody();
    let there = Elsewhere::new(run.folder());
    let with = |capabilities: &[&str]| {
        let mut command = there.command(&[]);
        command.args(as_nobody(capabilities)).arg(&there.recorder).args(["doctor", "--json"]);
        report(&mut command)
    };
    let (code, report) = with(&["bpf", "sys_ptrace"]);
    assert_eq!((code, &report["can_record"]), (Some(1), &Value::Bool(false)));
    let missing = check(&report, "CAP_PERFMON");
    assert_eq!(missing["status"], "problem");
    assert_eq!(missing["found"], "missing: attaches them to a process");
    assert!(missing["advice"].as_str().unwrap().contains("setcap"), "{missing}");
    assert_eq!(check(&report, "CAP_BPF")["status"], "ok");
    assert_eq!(report["probe_costs"], Value::Array(Vec::new()));
    // Without those for libraries it is limited, but records.
    let (code, report) = with(&THREE);
    assert_eq!((code, &report["can_record"]), (Some(0), &Value::Bool(true)));
    assert_eq!(check(&report, "CAP_CHECKPOINT_RESTORE")["status"], "limited");
}

#[test]
#[ignore = "needs root and BTF"]
fn other_way_to_attach_and_absent_tracefs_are_told() {
    let (code, report_of_single) = report(doctor().env("LLMTRACE_UPROBES", "single"));
    let multi = check(&report_of_single, "uprobe_multi");
    assert_eq!((code, multi["status"].as_str()), (Some(0), Some("limited")));
    assert_eq!(multi["found"], "probes are attached by single uprobes");
    let script =
        "umount -R /sys/kernel/tracing 2>/dev/null; umount -R /sys/kernel/debug 2>/dev/null; exec \"$@\"";
    let inner = doctor();
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]).arg(inner.get_program()).args(inner.get_args());
    let (code, report) = report(&mut command);
    assert_eq!(code, Some(0));
    let tracefs = check(&report, "tracefs");
    assert_eq!(tracefs["status"], "ok");
    assert!(tracefs["found"].as_str().unwrap().starts_with("not mounted; not needed"), "{tracefs}");
}

#[test]
#[ignore = "needs root, BTF and a real llama.cpp"]
fn every_probe_point_and_level_of_a_process_is_described() {
    let run = Run::new();
    let engine = Engine::start(&run, 1);
    let pid = engine.pid().to_string();
    let (code, report_of_process) = report(doctor().args(["-p", &pid]));
    assert_eq!(code, Some(0));
    let target = &report_of_process["targets"][0];
    assert!(target["name"].as_str().unwrap().starts_with(&format!("process {pid} (")), "{target}");
    assert_eq!((&target["refused"], &target["learn_error"]), (&Value::from(""), &Value::from("")));
    let points = target["points"].as_array().unwrap();
    let objects: Vec<&Value> = target["objects"].as_array().unwrap().iter().map(|it| &it["name"]).collect();
    for purpose in
        ["decode begin", "decode end", "ubatch begin", "graph begin", "graph end", "op begin", "barrier"]
    {
        let point = points.iter().find(|point| point["purpose"] == purpose).expect(purpose);
        assert!(objects.contains(&&point["object"]), "{point}");
        assert!(point["instruction"].as_str().unwrap().len() > 2 && point["emulated"] == true, "{point}");
        // What was measured on this host gives the price.
        let measured = report_of_process["probe_costs"].as_array().unwrap();
        assert_eq!(point["nanos"].is_null(), measured.is_empty(), "{point}");
    }
    let levels = target["levels"].as_array().unwrap();
    let names: Vec<&Value> = levels.iter().map(|level| &level["level"]).collect();
    assert_eq!(names, ["token", "graph", "op", "thread"]);
    assert!(levels.iter().all(|level| level["available"] == true && level["reason"] == ""));
    for level in &levels[2..] {
        assert_eq!(
            level["nanos_per_call"].is_null(),
            report_of_process["probe_costs"] == Value::Array(Vec::new())
        );
        assert_eq!(level["nanos_per_node"].is_null(), level["nanos_per_node_at_first"].is_null());
    }
    // The text names each level and each point, too.
    let text = Command::new(env!("CARGO_BIN_EXE_llmtrace")).args(["doctor", "-p", &pid]).output().unwrap();
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains("level thread") && text.contains("barrier  "), "{text}");
    let told = |line: &&str| line.contains("`, emulated") || line.contains("`, single-stepped");
    assert_eq!(text.lines().filter(told).count(), points.len(), "{text}");
}

#[test]
#[ignore = "needs root and a real llama.cpp"]
fn file_without_ggml_gives_no_level() {
    let (code, report) = report(doctor().arg("/bin/sleep"));
    assert_eq!(code, Some(1));
    let levels = report["targets"][0]["levels"].as_array().unwrap();
    assert!(levels.iter().all(|level| level["available"] == false));
    assert!(levels[0]["reason"].as_str().unwrap().contains("ggml_graph_compute"));
    let output = doctor().arg(var("LLMTRACE_TEST_MODEL")).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("not an ELF file"));
}
