//! Comparisons of generated runs: what was planted is found, and nothing else.
#![expect(clippy::unwrap_used, reason = "tests may panic")]

use llmtrace_analysis::diff::advise::advise;
use llmtrace_analysis::diff::{Diff, Failure, Grain, Options as Compare, Outcome, diff};
use llmtrace_analysis::format::Source;
use llmtrace_analysis::synth::{self, Options, Slow};
use llmtrace_analysis::{Phase, TimeRange, Trace};

fn trace(spans: u64, threads: u32, seed: u64, slow: &[&str]) -> Trace {
    let slow: Vec<Slow> = slow.iter().map(|slow| slow.parse().unwrap()).collect();
    let bytes = synth::bytes(&Options { slow, ..Options::new(spans, threads, seed) }).unwrap();
    Trace::open(Source::Bytes(bytes), &mut |_| true).unwrap()
}

fn compare(a: &[Trace], b: &[Trace], grain: Grain) -> Diff {
    diff(a, b, &Compare { phase: None, grain }, &|_| true).unwrap()
}

/// Everything that is shown adds up to the change, to the nanosecond.
fn assert_adds_up(found: &Diff) {
    let nanos = |ms: f64| (ms * 1e6).round() as i64;
    for parts in [&found.contributions, &found.nodes] {
        let parts: i64 = parts.iter().map(|part| nanos(part.ms)).sum();
        let lost = found.preempted_ms.unwrap_or(0.0);
        let others = [found.between_nodes_ms, found.outside_graphs_ms, found.rest_ms, lost];
        assert_eq!(parts + others.map(nanos).iter().sum::<i64>(), nanos(found.change.ms));
    }
}

#[test]
fn a_planted_slowdown_of_one_node_is_ranked_first_always() {
    // From a dozen tokens on.
    for (spans, threads, seed) in [(6_000, 1, 1), (12_000, 2, 2), (30_000, 2, 3), (30_000, 4, 4)] {
        for name in ["ffn_up-7", "attn_out-3", "ffn_out-17"] {
            let a = trace(spans, threads, seed, &[]);
            let b = trace(spans, threads, seed + 100, &[&format!("{name}=+20%")]);
            let found = compare(&[a], &[b], Grain::Role);
            let first = found.nodes.first().unwrap();
            assert_eq!(
                first.key,
                format!("{name} MUL_MAT"),
                "{spans} {threads} {seed} {:?}",
                &found.nodes[..3]
            );
            assert!(first.significant && first.ms > 0.0);
            let role = found.contributions.first().unwrap();
            assert_eq!(role.mostly.as_deref(), Some(name), "{role:?}");
            assert_adds_up(&found);
        }
    }
}

#[test]
fn a_planted_slowdown_is_ranked_first_whatever_the_seed() {
    let layers = ["ffn_up-2", "ffn_gate-11", "attn_out-5", "ffn_out-0", "ffn_up-16", "attn_out-14"];
    for (seed, name) in (20..).zip(layers) {
        let a = trace(12_000, 2, seed, &[]);
        let b = trace(12_000, 2, seed + 500, &[&format!("{name}=+20%")]);
        let found = compare(&[a], &[b], Grain::Role);
        let first = found.nodes.first().unwrap();
        assert!(first.key == format!("{name} MUL_MAT") && first.significant, "{seed}: {first:?}");
    }
}

fn sample(name: &str) -> Trace {
    let path = format!("{}/../sample-traces/{name}.llmtrace", env!("CARGO_MANIFEST_DIR"));
    Trace::open(Source::from_file(std::fs::File::open(path).unwrap()), &mut |_| true).unwrap()
}

#[test]
fn a_process_that_takes_a_cpu_is_named_and_no_regression_of_the_program() {
    let [a, b] = ["gemma3-270m-undisturbed-2t", "gemma3-270m-preempted-2t"].map(sample);
    let found = compare(&[a], &[b], Grain::Role);
    assert_eq!(found.outcome, Outcome::Disturbed, "{:?} {:?}", found.change, found.undisturbed);
    assert!(!found.is_regression(0.0));
    let lost = found.preempted.unwrap();
    assert!(lost.significant && lost.ms > 0.5 * found.mean_change.ms, "{lost:?} {:?}", found.mean_change);
    let (who, ms) = found.b.preempters.first().unwrap();
    assert!(who.starts_with("python") && *ms > 1.0, "{:?}", found.b.preempters);
    assert!(found.a.preempted_ms < found.b.preempted_ms);
    assert_adds_up(&found);
}

#[test]
fn other_types_of_weights_are_named_with_their_bytes() {
    let [a, b] = ["gemma3-270m-undisturbed-2t", "gemma3-270m-q8-2t"].map(sample);
    let found = compare(&[a], &[b], Grain::Role);
    let change = found.type_changes.iter().find(|change| (&*change.a, &*change.b) == ("q4_K", "q8_0"));
    let change = change.unwrap_or_else(|| panic!("{:?}", found.type_changes));
    // 4.5 bits a weight become 8.5.
    let more = change.b_bytes.unwrap() as f64 / change.a_bytes.unwrap() as f64;
    assert!(change.nodes > 10 && (1.7..1.9).contains(&more), "{change:?}");
    assert!(
        found.warnings.iter().any(|warning| warning.starts_with("models differ")),
        "{:?}",
        found.warnings
    );
    assert!(found.nodes.iter().any(|node| node.became.as_deref() == Some("q4_K → q8_0")));
    assert_adds_up(&found);
    // Nothing else had other types.
    assert!(found.type_changes.iter().all(|change| change.b == "q8_0"), "{:?}", found.type_changes);
}

#[test]
fn runs_of_the_same_thing_are_not_a_regression() {
    let mut regressions = 0;
    for seed in 0..12 {
        let found =
            compare(&[trace(20_000, 2, seed, &[])], &[trace(20_000, 2, seed + 1000, &[])], Grain::Name);
        regressions += u32::from(found.outcome == Outcome::Slower);
        let nodes = found.nodes.iter().filter(|node| node.significant).count();
        assert!(nodes <= 2, "{nodes} nodes changed: {:?}", &found.nodes[..3]);
        assert_adds_up(&found);
        assert!(found.warnings.is_empty(), "{:?}", found.warnings);
    }
    // One side of a 95 % interval: one in forty.
    assert!(regressions <= 2, "{regressions} of 12");
}

#[test]
fn a_slowdown_of_everything_is_a_regression_of_its_size() {
    let runs = |from: u64, slow: &[&str]| {
        (from..from + 3).map(|seed| trace(40_000, 2, seed, slow)).collect::<Vec<_>>()
    };
    let (a, b) = (runs(1, &[]), runs(11, &["MUL_MAT=+20%"]));
    let found = compare(&a, &b, Grain::Op);
    assert_eq!(found.outcome, Outcome::Slower);
    assert!(found.is_regression(3.0) && !found.is_regression(50.0));
    let (first, change) = (found.contributions.first().unwrap(), found.change);
    assert_eq!(first.key, "MUL_MAT");
    assert!((first.ms / first.a_ms.unwrap() - 0.2).abs() < 0.02, "{first:?}");
    assert!(change.percent_low < change.percent && change.percent < change.percent_high);
    assert!(found.method.contains("over runs"), "{}", found.method);
    // The other way round it is faster by as much.
    let back = compare(&b, &a, Grain::Op);
    assert_eq!((back.outcome, back.change.ms), (Outcome::Faster, -change.ms));
    assert!(!back.is_regression(0.0));
}

#[test]
fn the_same_files_give_the_same_answer() {
    let json = || {
        let found = compare(&[trace(20_000, 2, 1, &[])], &[trace(20_000, 2, 2, &[])], Grain::Layer);
        serde_json::to_string(&found).unwrap()
    };
    assert_eq!(json(), json());
}

#[test]
fn a_long_run_is_sampled_and_says_so() {
    let (a, b) = (trace(350_000, 1, 1, &[]), trace(260_000, 1, 2, &["ffn_up-7=+20%"]));
    let found = compare(&[a], &[b], Grain::Module);
    assert_eq!(found.a.calls, found.b.calls);
    assert!(found.a.calls < found.a.calls_recorded, "{:?}", found.a);
    assert!(found.a.sampled <= 640 && found.a.sampled >= 600, "{:?}", found.a);
    assert_eq!(found.nodes[0].key, "ffn_up-7 MUL_MAT");
    assert_eq!(found.contributions[0].key, "ffn");
}

#[test]
fn what_cannot_be_compared_is_said_first() {
    let a = trace(20_000, 2, 1, &[]);
    let same = compare(std::slice::from_ref(&a), &[trace(20_000, 2, 1, &[])], Grain::Role);
    assert!(same.warnings[0].contains("same recording"), "{:?}", same.warnings);
    assert_eq!(same.change.ms, 0.0);
    let threads = compare(std::slice::from_ref(&a), &[trace(40_000, 4, 1, &[])], Grain::Role);
    assert!(
        threads.warnings.iter().any(|warning| warning.starts_with("threads differ: 2 → 4")),
        "{:?}",
        threads.warnings
    );
    let few = compare(std::slice::from_ref(&a), &[trace(2_000, 2, 9, &[])], Grain::Role);
    assert_eq!((few.outcome, few.change.ms_half), (Outcome::NotKnown, None));
    assert!(few.warnings.iter().any(|warning| warning.contains("too few")), "{:?}", few.warnings);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../sample-traces/qwen3moe-synthetic-2t.llmtrace");
    let other = Trace::open(Source::from_file(std::fs::File::open(path).unwrap()), &mut |_| true).unwrap();
    let models = compare(std::slice::from_ref(&a), &[other], Grain::Role);
    assert_eq!(models.comparable, Some(false));
    assert!(models.warnings[0].starts_with("not comparable"), "{:?}", models.warnings);
    assert!(
        models.nodes.iter().any(|node| node.b_ms.is_none())
            && models.nodes.iter().any(|node| node.a_ms.is_none())
    );
    assert_adds_up(&models);
    let options = Compare { phase: Some(Phase::Encode), grain: Grain::Role };
    let nothing = diff(std::slice::from_ref(&a), std::slice::from_ref(&a), &options, &|_| true);
    assert!(matches!(nothing, Err(Failure::NoCalls { side: "A", run: 1, phase: "encode" })));
}

#[test]
fn a_comparison_is_cancelled_and_its_samples_lead_to_executions() {
    use llmtrace_analysis::diff::{diff_with_samples, execution_in, mismatch};
    use llmtrace_analysis::format::Error;
    let (a, b) = (trace(20_000, 2, 1, &[]), trace(20_000, 2, 2, &["ffn_up-7=+40%"]));
    let options = Compare { phase: None, grain: Grain::Role };
    let cancelled = diff(&[&a], &[&b], &options, &|_| false);
    assert!(matches!(cancelled, Err(Failure::Read(Error::Cancelled))));
    let (found, samples) = diff_with_samples(&[&a], &[&b], &options, &|_| true).unwrap();
    for grain in Grain::ALL {
        let alone = compare(std::slice::from_ref(&a), std::slice::from_ref(&b), grain);
        assert_eq!(samples.groups(grain), alone.contributions);
    }
    let node = samples.groups(Grain::Name).iter().find(|part| part.key == "ffn_up-7 MUL_MAT");
    let node = node.unwrap();
    let median = |walls: &[u64]| walls[walls.len() / 2] as f64 / 1e6;
    let [in_a, in_b] = samples.nodes(&node.members);
    assert!((median(&in_a) - node.a_ms.unwrap()).abs() < 0.05 * node.a_ms.unwrap());
    assert!(median(&in_b) > median(&in_a) * 1.3);
    let [calls, _] = samples.calls();
    assert_eq!(calls.len(), found.a.calls);
    // The nth call of both, and the node in it.
    let [Some(call_a), Some(call_b)] = samples.typical(&node.members) else { panic!() };
    // A call begins before its token.
    let number =
        |trace: &Trace, call: TimeRange| trace.token_at(call.begin + call.nanos() / 2).unwrap().number;
    assert_eq!(number(&a, call_a), number(&b, call_b));
    for (trace, call) in [(&a, call_a), (&b, call_b)] {
        let (key, _, begin) = execution_in(trace, call, &node.members).unwrap().unwrap();
        assert_eq!((key.name.as_str(), key.op.as_str()), ("ffn_up-7", "MUL_MAT"));
        assert!(call.contains(begin));
    }
    let (warnings, _) = mismatch(&a, &trace(20_000, 4, 1, &[]));
    assert!(warnings.iter().any(|line| line.starts_with("threads differ: 2 → 4")), "{warnings:?}");
    assert!(mismatch(&a, &a).0[0].contains("same recording"));
}

#[test]
fn threads_are_advised_from_runs_with_different_numbers() {
    let runs = [trace(30_000, 1, 1, &[]), trace(60_000, 4, 2, &[]), trace(40_000, 2, 3, &[])];
    let found = advise(&runs, &|_| true).unwrap();
    assert_eq!(found.counts.iter().map(|count| count.threads).collect::<Vec<_>>(), [1, 2, 4]);
    assert_eq!(found.decode_threads, Some(4));
    let products = &found.operators[0];
    assert_eq!(products.op, "MUL_MAT");
    let speedup: Vec<f64> = products.speedup.iter().map(|speedup| speedup.unwrap()).collect();
    assert!(speedup[0] == 1.0 && (speedup[1] - 2.0).abs() < 0.2 && speedup[2] > 3.0, "{speedup:?}");
    assert!(
        found.counts.iter().all(|count| count.gigabytes_per_second.is_some_and(|rate| rate > 1.0)),
        "{:?}",
        found.counts
    );
    let one = advise(&runs[..1], &|_| true).unwrap();
    assert_eq!((one.decode_threads, one.warnings.len()), (None, 1));
}

/// `cargo test --release -p llmtrace-analysis --test diff -- --ignored --nocapture`
#[test]
#[ignore = "a measurement, for release builds on a machine with nothing else to do"]
fn two_runs_of_twenty_million_spans_take_two_seconds() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = |seed: u64| {
        let path = folder.path().join(seed.to_string());
        let sink = std::io::BufWriter::new(std::fs::File::create(&path).unwrap());
        synth::write(sink, &synth::gemma(128), &Options::new(20_000_000, 2, seed)).unwrap();
        path
    };
    let paths = [path(1), path(2)];
    let started = std::time::Instant::now();
    let [a, b] = paths.map(|path| {
        Trace::open(Source::from_file(std::fs::File::open(path).unwrap()), &mut |_| true).unwrap()
    });
    let opened = started.elapsed();
    let found = compare(&[a], &[b], Grain::Role);
    let all = started.elapsed();
    eprintln!("opened in {opened:.2?}, compared after {all:.2?}: {:?}", found.change);
    assert!(all.as_secs_f64() < 2.0, "{all:?}");
}
