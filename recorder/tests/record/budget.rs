//! What the recording costs the target, and that nothing is lost in silence.

use crate::workload::{Engine, Run, open, recorder, signal, wait_until};
use llmtrace_analysis::Trace;
use llmtrace_format::meta::{Level, StrId};
use std::collections::HashSet;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Graph spans from a time on: those with operators, and all.
fn graphs_with_operators(trace: &Trace, from: u64) -> (usize, usize) {
    let spans = trace.lanes().iter().flat_map(|lane| trace.spans(lane.id));
    let with: HashSet<u32> = spans.map(|span| span.graph_span).collect();
    let all = || trace.graph_spans.iter().filter(|graph| graph.begin >= from);
    (all().filter(|graph| with.contains(&graph.id)).count(), all().count())
}

#[test]
#[ignore = "needs root, BTF and a real llama.cpp"]
fn the_budget_is_kept_by_recording_fewer_operators() {
    let run = Run::new();
    let engine = Engine::start(&run, 1);
    let arguments = ["-p", &engine.pid().to_string(), "-d", "10", "--max-overhead", "0.1"];
    assert!(recorder(&run, &arguments).status().unwrap().success());
    let trace = open(&run);
    let recording = trace.file.recording.as_ref().unwrap();
    assert_eq!((recording.max_overhead_permille, recording.level), (1, Level::Thread));
    let narrowed = trace.level_changes.iter().find(|change| change.window > 1).expect("too dear");
    let (with, all) = graphs_with_operators(&trace, narrowed.time);
    assert!(with * 3 < all * 2, "{with} of {all} graphs have operators");
    let whys: Vec<&str> =
        trace.level_changes.iter().map(|change| trace.file.string(StrId(change.reason))).collect();
    assert!(whys.iter().any(|why| why.starts_with("probes would take")), "{whys:?}");
    // Probes are really gone meanwhile: nothing but the call itself is hit.
    let bare = trace.graph_spans.iter().filter(|graph| graph.probe_hits == 2).count();
    assert!(bare * 2 > all - with, "{bare} of {} graphs", all - with);
    assert_eq!(trace.file.ending.as_ref().unwrap().lost, 0);
}

#[test]
#[ignore = "needs root, BTF and a real llama.cpp"]
fn a_window_records_the_operators_of_one_token_in_n() {
    let run = Run::new();
    let engine = Engine::start(&run, 1);
    let arguments = ["-p", &engine.pid().to_string(), "-d", "8", "--window", "4"];
    assert!(recorder(&run, &arguments).status().unwrap().success());
    let trace = open(&run);
    let (with, all) = graphs_with_operators(&trace, 0);
    let share = with as f64 / all as f64;
    assert!((0.1..0.45).contains(&share), "{with} of {all} graphs have operators");
    assert!(trace.level_changes.len() >= 4);
    assert!(trace.level_changes.is_sorted_by_key(|change| change.time));
    assert!(trace.decodes.len() + 4 > all, "every token is timed");
}

/// How often the programs of a recorder ran: the kernel's own count, which knows
/// nothing of ours.
fn runs(recorder: u32) -> u64 {
    let number =
        |info: &str| info.lines().find_map(|line| line.strip_prefix("prog_id:")?.trim().parse().ok());
    let folder = std::fs::read_dir(format!("/proc/{recorder}/fdinfo")).unwrap();
    let infos = folder.filter_map(|entry| std::fs::read_to_string(entry.unwrap().path()).ok());
    // A link's description names its program, too.
    let ids: HashSet<u64> =
        infos.filter(|info| info.contains("prog_tag")).filter_map(|info| number(&info)).collect();
    let shown = Command::new("bpftool").args(["prog", "show", "-j"]).output().unwrap();
    let programs: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    let of_probes = |program: &&serde_json::Value| {
        let name = program["name"].as_str().unwrap_or_default();
        ids.contains(&program["id"].as_u64().unwrap_or(0)) && !name.starts_with("process_")
            // Runs of these give records of another channel, or none.
            && !name.starts_with("experts_")
    };
    let runs = programs.as_array().unwrap().iter().filter(of_probes).filter(|p| p["name"] != "nothing");
    runs.map(|program| program["run_cnt"].as_u64().unwrap_or(0)).sum()
}

#[test]
#[ignore = "needs root, BTF and a real llama.cpp"]
fn recorded_and_lost_are_exactly_the_hits() {
    if Command::new("bpftool").arg("version").output().is_err() {
        panic!("bpftool is not installed: `make setup` installs it");
    }
    let statistics = "/proc/sys/kernel/bpf_stats_enabled";
    std::fs::write(statistics, "1").unwrap();
    let run = Run::new();
    let go = run.trace.with_extension("go");
    let ready = run.trace.with_extension("ready");
    let command = run.generate(1, 24);
    let mut engine = Command::new(&command[0])
        .args(&command[1..])
        .args(["--wait-file".as_ref(), ready.as_os_str(), "--go-file".as_ref(), go.as_os_str()])
        .args(["--repeat", "2"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    wait_until("the model is loaded", || ready.exists());
    // Rings of 128 slots, and a consumer that stands still from before the first hit.
    let pid = engine.id().to_string();
    let mut arguments = vec!["-p", &pid, "--ring-bytes", "8192", "--exact-begins"];
    // Of these a hit gives several records.
    arguments.extend(["--without", "sequences", "--no-offload", "--moe=off"]);
    let mut child = recorder(&run, &arguments).spawn().unwrap();
    // Calibration has run, too, by the time that the recording is described.
    wait_until("it is attached", || run.trace_bytes() > 1000);
    std::thread::sleep(Duration::from_millis(300));
    let calibrated = runs(child.id());
    std::fs::write(&go, "").unwrap();
    wait_until("some is written", || run.trace_bytes() > 8000);
    for _ in 0..2 {
        signal(child.id(), "STOP");
        std::thread::sleep(Duration::from_millis(300));
        signal(child.id(), "CONT");
        std::thread::sleep(Duration::from_millis(100));
    }
    // It must not end by itself before the runs are counted.
    signal(child.id(), "STOP");
    wait_until("it has generated", || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", engine.id())).unwrap_or_default();
        stat.contains(") Z ")
    });
    let hits = runs(child.id());
    signal(child.id(), "CONT");
    assert!(engine.wait().unwrap().success());
    assert!(child.wait().unwrap().success());
    std::fs::write(statistics, "0").unwrap();
    let trace = open(&run);
    let ending = trace.file.ending.as_ref().unwrap();
    assert!(ending.lost > 1000, "{}", ending.lost);
    // A graph's begin is two records.
    let begins =
        ending.hits.iter().filter(|row| row.purpose == "graph nodes").map(|row| row.hits).sum::<u64>();
    let begins_lost = trace.losses.iter().filter(|row| row.event == 10).map(|row| row.count).sum::<u64>();
    let counted = ending.events + ending.lost - begins - begins_lost;
    assert_eq!(counted, hits - calibrated, "{calibrated} by calibration");
    assert_eq!(ending.hits.iter().map(|row| row.hits).sum::<u64>(), ending.events);
    assert_eq!(trace.losses.iter().map(|row| row.count).sum::<u64>(), ending.lost);
    assert!(trace.losses.iter().all(|row| row.begin < row.end && row.cpu < 4096));
}
