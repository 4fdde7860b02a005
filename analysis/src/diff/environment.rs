//! What differs around two runs, and whether they can be compared at all.

use super::Side;
use super::run::Calls;
use crate::summary::calls;
use crate::{Phase, Trace, node, price};
use llmtrace_format::meta::Recording;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};

/// Something that is not the same on both sides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// What.
    pub what: &'static str,
    /// On side A; several runs' values with ` / ` between.
    pub a: String,
    /// On side B.
    pub b: String,
    /// Whether it alone may change how long tokens take.
    pub matters: bool,
}

/// Facts by name, in the order in which they are shown; whether each matters.
type Facts = BTreeMap<(u32, &'static str), (String, bool)>;

/// What differs between the sides, what matters first.
pub(super) fn differences(sides: [&[(&Trace, &Calls)]; 2]) -> Vec<Difference> {
    let joined = sides.map(|runs| {
        let mut all: BTreeMap<(u32, &'static str), (Vec<String>, bool)> = BTreeMap::new();
        for (trace, calls) in runs {
            for (key, (value, matters)) in facts(trace, calls) {
                let (values, _) = all.entry(key).or_insert_with(|| (Vec::new(), matters));
                if !values.contains(&value) {
                    values.push(value);
                }
            }
        }
        all.into_iter().map(|(key, (mut values, matters))| {
            values.sort();
            (key, (values.join(" / "), matters))
        })
    });
    let [a, b] = joined;
    let (a, mut b): (Vec<_>, HashMap<_, _>) = (a.collect(), b.collect());
    let mut found: Vec<Difference> = a
        .into_iter()
        .filter_map(|(key, (a, matters))| {
            let (b, _) = b.remove(&key)?;
            (a != b).then_some(Difference { what: key.1, a, b, matters })
        })
        .collect();
    found.sort_by_key(|difference| !difference.matters);
    found
}

fn facts(trace: &Trace, compared: &Calls) -> Facts {
    let mut facts = Facts::new();
    let mut add = |what: &'static str, value: String, matters: bool| {
        let value = if value.is_empty() { "not known".to_owned() } else { value };
        facts.insert((facts.len() as u32, what), (value, matters));
    };
    let empty = Recording::default();
    let recording = trace.file.recording.as_ref();
    let of = recording.unwrap_or(&empty);
    add("model", of.target.models.join(", "), true);
    add("threads", threads(trace), true);
    add("CPU", of.host.cpu_model.clone(), true);
    add("CPUs online", number(of.host.cpus.into()), true);
    add("architecture", of.host.arch.clone(), true);
    add("level", recording.map_or("", |of| of.level.name()).to_owned(), true);
    add("begins of nodes", begins(trace), true);
    add("operators of one token in", number(of.window.max(1).into()), true);
    add("attention", attention(trace), true);
    add("KV cache", cache_type(trace), true);
    add("prompt tokens", number(prompt_tokens(trace)), true);
    add("tokens in a call", tokens_in_call(compared), true);
    add(
        "most tokens in a micro-batch",
        number(trace.ubatches.iter().map(|row| row.tokens.into()).max().unwrap_or(0)),
        false,
    );
    add("host", of.host.name.clone(), false);
    add("memory, MB", number(of.host.memory_bytes / 1_000_000), false);
    add("kernel", of.host.kernel.clone(), false);
    add("program", of.target.exe.clone(), false);
    add("ggml", of.target.ggml_version.clone(), false);
    add("llama.cpp", of.target.llama_version.clone(), false);
    let objects = of.target.objects.iter().map(|object| {
        let id: String = object.build_id.chars().take(12).collect();
        format!("{} {}", object.name, if id.is_empty() { "without build id" } else { &id })
    });
    add("build", objects.collect::<Vec<_>>().join(", "), false);
    add("recorder", of.recorder_version.clone(), false);
    let mut probes: Vec<String> = of
        .probes
        .iter()
        .map(|probe| format!("{}{}", probe.purpose, if probe.emulated { "" } else { " (single-stepped)" }))
        .collect();
    probes.sort();
    probes.dedup();
    add("probes", probes.join(", "), true);
    add("overhead allowed, ‰", number(of.max_overhead_permille.into()), false);
    facts
}

fn number(number: u64) -> String {
    if number == 0 { String::new() } else { number.to_string() }
}

/// Threads of most graph runs.
fn threads(trace: &Trace) -> String {
    let mut runs: BTreeMap<u32, usize> = BTreeMap::new();
    for span in &trace.graph_spans {
        *runs.entry(span.threads).or_default() += 1;
    }
    runs.into_iter()
        .max_by_key(|(_, runs)| *runs)
        .map_or_else(String::new, |(threads, _)| number(threads.into()))
}

fn begins(trace: &Trace) -> String {
    let inferred = trace.graph_spans.iter().filter(|span| span.inferred_begins != 0).count();
    match (trace.lanes().is_empty(), inferred * 2 > trace.graph_spans.len()) {
        (true, _) => String::new(),
        (_, true) => "told by barriers".to_owned(),
        _ => "probed".to_owned(),
    }
}

/// The graph that ran most often.
fn main_graph(trace: &Trace) -> Option<&llmtrace_format::meta::Graph> {
    let mut runs: BTreeMap<u32, usize> = BTreeMap::new();
    for span in &trace.graph_spans {
        *runs.entry(span.graph).or_default() += 1;
    }
    let most = runs.into_iter().max_by_key(|(_, runs)| *runs)?;
    trace.graph(most.0)
}

fn attention(trace: &Trace) -> String {
    let Some(graph) = main_graph(trace) else { return String::new() };
    let has = |op: &str| graph.tensors.iter().any(|tensor| trace.file.string(tensor.op) == op);
    match (has("FLASH_ATTN_EXT"), has("SOFT_MAX")) {
        (true, _) => "flash attention".to_owned(),
        (_, true) => "without flash attention".to_owned(),
        _ => String::new(),
    }
}

fn cache_type(trace: &Trace) -> String {
    let Some(graph) = main_graph(trace) else { return String::new() };
    let type_of = |prefix: &str| {
        let found = graph.tensors.iter().find(|tensor| trace.file.string(tensor.name).starts_with(prefix));
        found.map(|tensor| node::type_name(&trace.file, tensor))
    };
    match (type_of("cache_k_"), type_of("cache_v_")) {
        (Some(k), Some(v)) => format!("K {k}, V {v}"),
        _ => String::new(),
    }
}

fn prompt_tokens(trace: &Trace) -> u64 {
    let all = calls(trace);
    all.iter().filter(|call| call.phase == Phase::Prefill).filter_map(|call| call.tokens).max().unwrap_or(0)
}

fn tokens_in_call(calls: &Calls) -> String {
    let mut counts: Vec<u64> = calls.calls.iter().map(|call| call.tokens as u64).collect();
    counts.sort_unstable();
    number(counts.get(counts.len() / 2).copied().unwrap_or(0))
}

/// Nanoseconds that probes add to a token, on average over a side's runs; `None` when a
/// recorder did not measure it.
pub(super) fn probe_nanos(runs: &[(&Trace, &Calls)], phase: Phase) -> Option<f64> {
    let each = runs.iter().map(|(trace, calls)| {
        let tokens: f64 = calls.calls.iter().map(|call| call.tokens).sum();
        let nanos = price::probe_nanos(trace, phase)?;
        (tokens > 0.0 && nanos > 0).then(|| nanos as f64 / tokens)
    });
    let all: Option<Vec<f64>> = each.collect();
    all.filter(|all| !all.is_empty()).map(|all| all.iter().sum::<f64>() / all.len() as f64)
}

/// Whether a recording is on both sides.
pub(super) fn same_recording(runs: [&[(&Trace, &Calls)]; 2]) -> bool {
    let ids = |(trace, _): &(&Trace, &Calls)| {
        let header = trace.file.header;
        let end = trace.file.ending.as_ref().map_or(0, |ending| ending.end_nanos);
        (header.start_unix_nanos, header.start_monotonic_nanos, trace.file.len(), end, trace.op_span_count())
    };
    let [a, b] = runs.map(|side| side.iter().map(ids).collect::<Vec<_>>());
    a.iter().any(|id| b.contains(id))
}

/// What differs and matters, for people.
pub(super) fn differing(found: &[Difference]) -> impl Iterator<Item = String> {
    let matter = found.iter().filter(|difference| difference.matters);
    matter.map(|difference| {
        format!("{} differ: {} → {}", plural_of(difference.what), difference.a, difference.b)
    })
}

/// What to say when a recording is on both sides.
pub(super) const SAME: &str = "the same recording is on both sides: it says nothing about how runs differ";

/// What to say before any number, the gravest first.
pub(super) fn warnings(
    runs: [&[(&Trace, &Calls)]; 2],
    sides: [&Side; 2],
    matched: Option<f64>,
    found: &[Difference],
) -> Vec<String> {
    let mut all = Vec::new();
    if same_recording(runs) {
        all.push(SAME.to_owned());
    }
    if matched.is_some_and(|matched| matched < 0.5) {
        // Never a negative zero.
        let percent = matched.unwrap_or(0.0).max(0.0) * 100.0 + 0.0;
        all.push(format!(
            "not comparable: only {percent:.0} % of the time is in nodes that both have in the same size; these are different models or builds"
        ));
    }
    all.extend(differing(found));
    for (name, side) in ["A", "B"].into_iter().zip(sides) {
        if side.calls < super::bootstrap::FEWEST {
            let calls = side.calls;
            all.push(format!("{name} has {calls} to compare: too few to tell chance from change"));
        }
        if side.sampled == 0 {
            all.push(format!("{name} has no operators: only the time of the whole can be compared"));
        }
        if side.lossy > 0 {
            all.push(format!(
                "{name} lost events; {} of the sampled calls are left out of the nodes",
                side.lossy
            ));
        }
        if side.left_out > 0 {
            all.push(format!(
                "{name} has {} calls of other contexts or processes, which are not compared",
                side.left_out
            ));
        }
    }
    let probes = sides.map(|side| side.probe_ms);
    if let [Some(a), Some(b)] = probes
        && (a - b).abs() > 0.01 * sides[0].median_ms
    {
        all.push(format!("probes cost {a:.2} → {b:.2} ms: a part of the change is recording"));
    }
    let files = runs.map(|side| side.iter().map(|(trace, _)| trace.all_warnings().len()).sum::<usize>());
    for (name, count) in ["A", "B"].into_iter().zip(files) {
        if count > 0 {
            all.push(format!("{name} has damaged or missing parts, see `llmtrace check`"));
        }
    }
    all
}

fn plural_of(what: &str) -> String {
    match what {
        "model" | "CPU" | "level" | "architecture" | "KV cache" => format!("{what}s"),
        other => other.to_owned(),
    }
}
