//! What `summary` says of requests, the KV cache and calls.

use super::print_json;
use super::text::{Columns, clean, count, duration, heading, known, percent, plural, three};
use llmtrace_analysis::Trace;
use llmtrace_analysis::inference::{
    CallSummary, InferenceReport, KvReport, RequestReport, SpeculationSummary,
};
use llmtrace_analysis::inference::{call_summaries, report, unknown_tokens};
use llmtrace_format::ColumnSet;
use llmtrace_format::inference::KvOperation;
use llmtrace_format::tables::{SelectionStatus, Selections};
use std::collections::BTreeMap;
use std::io::Write;

/// Which table of `stats`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rows {
    Calls,
    Requests,
}

/// `stats --by call` and `--by request`.
pub(super) fn stats(
    trace: &Trace,
    rows: Rows,
    limit: Option<usize>,
    json: bool,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let found = report(trace);
    let limit = limit.unwrap_or(if json { 0 } else { 20 });
    let most = if limit == 0 { usize::MAX } else { limit };
    match rows {
        Rows::Calls if json => print_json(&found.calls, out)?,
        Rows::Calls if found.calls.is_empty() => {
            writeln!(
                out,
                "no calls: recorded without them, or none happened; `info` says what was recorded"
            )?;
        }
        Rows::Calls => print_calls(&found.calls, out)?,
        Rows::Requests if json => {
            let shown: Vec<&RequestReport> = found.requests.iter().take(most).collect();
            print_json(&shown, out)?;
        }
        Rows::Requests if found.requests.is_empty() => {
            writeln!(
                out,
                "no requests: recorded without sequences, or none computed; `info` says what was recorded"
            )?;
        }
        Rows::Requests => print_requests(&found, limit, out)?,
    }
    Ok(())
}

/// Lines for `info`: how many rows each source has; none where it has nothing.
pub(super) fn info(trace: &Trace) -> Vec<(&'static str, String)> {
    let (inference, offload) = (&trace.inference, &trace.offload);
    let mut lines = Vec::new();
    if !inference.sequences.is_empty() {
        let tokens = inference.sequences.iter().fold(0u64, |sum, row| sum.saturating_add(row.tokens.into()));
        let unknown = match unknown_tokens(trace) {
            Some(unknown) if unknown > 0 => {
                format!(", {} more of an unknown sequence", plural(unknown, "token", "tokens"))
            }
            _ => String::new(),
        };
        let runs = plural(inference.sequences.len() as u64, "run", "runs");
        lines.push(("sequences", format!("{runs} of {}{unknown}", plural(tokens, "token", "tokens"))));
    }
    let mut operations: BTreeMap<&str, u64> = BTreeMap::new();
    for row in &inference.kv {
        *operations.entry(KvOperation::from_u8(row.operation).name()).or_default() += 1;
    }
    if !operations.is_empty() {
        let each = operations.iter().map(|(name, number)| format!("{} {name}", count(*number)));
        lines.push(("KV operations", each.collect::<Vec<_>>().join(", ")));
    }
    let calls = call_summaries(trace, None);
    if !calls.is_empty() {
        let each = calls.iter().map(|call| {
            let (all, median) = (duration(call.nanos as f64), duration(call.median_nanos as f64));
            format!("{} {} ({all}, p50 {median})", count(call.count), clean(call.kind))
        });
        lines.push(("calls", each.collect::<Vec<_>>().join(", ")));
    }
    let drafts = llmtrace_analysis::inference::speculation(trace, None);
    lines.extend(drafts.iter().map(|drafts| ("speculation", speculation(drafts))));
    if !offload.is_empty() {
        let bytes = offload.copies.iter().fold(0u64, |sum, copy| sum.saturating_add(copy.bytes));
        let lost = offload.splits.iter().filter(|row| row.touched_by_loss != 0).count();
        let lost = if lost > 0 { format!(", {lost} splits touched by losses") } else { String::new() };
        lines.push((
            "offloading",
            format!(
                "{}, {}, {} of {}, {}{lost}",
                plural(offload.runs.len() as u64, "scheduler run", "scheduler runs"),
                plural(offload.splits.len() as u64, "split", "splits"),
                plural(offload.copies.len() as u64, "copy", "copies"),
                super::text::bytes(bytes),
                plural(offload.syncs.len() as u64, "wait", "waits"),
            ),
        ));
    }
    lines
}

/// How many selections of experts are not whole, in words; empty when all are.
pub(super) fn selections_lacking(trace: &Trace) -> String {
    let mut lacking: BTreeMap<SelectionStatus, u64> = BTreeMap::new();
    let mut unreadable = 0u64;
    for block in trace.file.blocks_of::<Selections>() {
        let Ok(rows) = trace.file.read::<Selections>(block, ColumnSet::ALL) else {
            unreadable += u64::from(block.rows);
            continue;
        };
        for row in rows.rows() {
            *lacking.entry(SelectionStatus::from_u8(row.status)).or_default() += 1;
        }
    }
    lacking.remove(&SelectionStatus::Whole);
    let each = lacking.iter().map(|(status, number)| format!(", {} {}", count(*number), status.name()));
    let unreadable = (unreadable > 0).then(|| format!(", {} unreadable", count(unreadable)));
    each.chain(unreadable).collect()
}

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
        print_calls(&found.calls, out)?;
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

fn print_calls(calls: &[CallSummary], out: &mut dyn Write) -> std::io::Result<()> {
    let mut columns = Columns::new(&["call", "time", "count", "p50", "max"], 1);
    for call in calls {
        let nanos = |nanos: u64| duration(nanos as f64);
        let CallSummary { kind, count: number, nanos: all, median_nanos, max_nanos } = call;
        columns.row([clean(kind), nanos(*all), count(*number), nanos(*median_nanos), nanos(*max_nanos)]);
    }
    columns.print(out)
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
