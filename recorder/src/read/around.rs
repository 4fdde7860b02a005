//! What `summary` says of requests, the KV cache and calls.

use super::text::{Columns, clean, count, duration, heading, known, percent, plural, three};
use llmtrace_analysis::inference::{
    CallSummary, InferenceReport, KvReport, RequestReport, SpeculationSummary,
};
use std::io::Write;

/// Said wherever a file with ids of tokens is described.
pub(super) const HAS_TOKENS: &str = "yes: prompts and answers can be read from it (recorded with --tokens)";

/// Lines for the facts of a trace.
pub(super) fn facts(found: &InferenceReport) -> Vec<(&'static str, String)> {
    let time = |kind: &str| found.calls.iter().find(|call| call.kind == kind);
    let mut facts = Vec::new();
    if let Some(sample) = time("sample") {
        let (median, most) = (duration(sample.median_nanos as f64), duration(sample.max_nanos as f64));
        facts.push((
            "  sampling",
            format!("p50 {median}, max {most}, {}", plural(sample.count, "call", "calls")),
        ));
    }
    if let Some(ms) = found.around_probes_ms.filter(|ms| *ms > 0.0) {
        let sum = duration(ms * 1e6);
        facts.push(("  its probes", format!("about {sum} in all, for calls, the KV cache and drafts")));
    }
    facts.extend(found.speculation.as_ref().map(|drafts| ("speculation", speculation(drafts))));
    facts.extend(found.kv.iter().map(|kv| ("KV cache", kv_cache(kv))));
    if let Some(tokens) = found.tokens_of_unknown_sequence.filter(|tokens| *tokens > 0) {
        facts.push((
            "sequences",
            format!("of {} it is not known which they are of", plural(tokens, "token", "tokens")),
        ));
    }
    if found.has_tokens {
        facts.push(("token ids", HAS_TOKENS.to_owned()));
    }
    facts
}

fn speculation(found: &SpeculationSummary) -> String {
    let accepted = known(found.acceptance, percent);
    let tokens = known(found.tokens_per_round, three);
    let unknown = match found.unknown_rounds {
        0 => String::new(),
        rounds => format!("; {} of unknown length", plural(rounds, "round", "rounds")),
    };
    let (rounds, drafted) = (plural(found.rounds, "round", "rounds"), count(found.drafted));
    format!("{rounds}, {drafted} tokens drafted, {accepted} accepted, {tokens} tokens a round{unknown}")
}

fn kv_cache(kv: &KvReport) -> String {
    let of = kv.context.map_or_else(|| "unknown context".to_owned(), |context| format!("context {context}"));
    let least = if kv.whole { "" } else { "at least " };
    let operations: Vec<String> =
        kv.operations.iter().map(|(operation, number)| format!("{} {operation}", count(*number))).collect();
    let operations =
        if operations.is_empty() { String::new() } else { format!("; {}", operations.join(", ")) };
    let cells = plural(kv.most_cells, "cell", "cells");
    format!("{of}: {least}{cells} in use at most, {least}{} at the end{operations}", count(kv.cells_at_end))
}

/// Tables behind the facts; of requests at most `limit`, 0 for all.
pub(super) fn print(found: &InferenceReport, limit: usize, out: &mut dyn Write) -> std::io::Result<()> {
    print_requests(found, limit, out)?;
    if !found.calls.is_empty() {
        heading("calls around graphs", out)?;
        let mut columns = Columns::new(&["call", "time", "count", "p50", "max"], 1);
        for call in &found.calls {
            let nanos = |nanos: u64| duration(nanos as f64);
            let CallSummary { kind, count: number, nanos: all, median_nanos, max_nanos } = call;
            columns.row([clean(kind), nanos(*all), count(*number), nanos(*median_nanos), nanos(*max_nanos)]);
        }
        columns.print(out)?;
    }
    if found.attention.len() > 1 {
        heading("decode by the length of attention", out)?;
        let mut columns = Columns::new(&["cells", "runs", "a run", "attention", "share"], 0);
        for row in &found.attention {
            let runs = row.runs.max(1) as f64;
            columns.row([
                count(row.cells),
                count(row.runs),
                duration(row.graph_nanos as f64 / runs),
                known(row.attention_ms, |ms| duration(ms * 1e6 / runs)),
                known(row.share, percent),
            ]);
        }
        columns.print(out)?;
    }
    Ok(())
}

fn print_requests(found: &InferenceReport, limit: usize, out: &mut dyn Write) -> std::io::Result<()> {
    if found.requests.is_empty() {
        return Ok(());
    }
    heading("requests by sequence", out)?;
    let processes = found.requests.iter().any(|request| request.process > 0);
    let headings =
        ["context", "sequence", "begin", "prompt", "reused", "generated", "TTFT", "TPOT", "shared"];
    let headings: Vec<&str> = processes.then_some("process").into_iter().chain(headings).collect();
    let mut columns = Columns::new(&headings, 0);
    let shown = if limit == 0 { found.requests.len() } else { limit };
    for request in found.requests.iter().take(shown) {
        columns.row(processes.then(|| request.process.to_string()).into_iter().chain(cells(request)));
    }
    columns.print(out)?;
    if shown < found.requests.len() {
        writeln!(out, "{shown} of {}; --limit 0 shows all", count(found.requests.len() as u64))?;
    }
    if found.requests.iter().any(|request| !request.whole) {
        writeln!(out, "… before a number of prompt tokens: began before the recording, or unseen")?;
    }
    Ok(())
}

fn cells(request: &RequestReport) -> [String; 9] {
    let millis = |ms: Option<f64>| known(ms, |ms| duration(ms * 1e6));
    let draft = if request.draft { " (draft)" } else { "" };
    let partial = if request.whole { "" } else { "…" };
    let share = f64::from(request.shared_ubatches) / f64::from(request.ubatches.max(1));
    [
        request.context.map_or_else(|| "unknown".to_owned(), |context| format!("{context}{draft}")),
        request.sequence.to_string(),
        duration(request.begin_s * 1e9),
        format!("{partial}{}", count(request.prompt_tokens.into())),
        count(request.reused_tokens.into()),
        known(request.generated_tokens, |tokens| count(tokens.into())),
        millis(request.ttft_ms),
        millis(request.tpot_ms),
        percent(share),
    ]
}
