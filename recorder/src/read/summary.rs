//! `llmtrace summary`: the run on one page.

use super::backends;
use super::text::{Columns, bytes, clean, count, duration, heading, known, pairs, percent, plural, three};
use super::{Input, around, open, open_quietly, print_json, warn_of_new};
use anyhow::Result;
use llmtrace_analysis::summary::{PhaseSummary, Spread, Summary, summary};
use std::io::Write;
use std::path::Path;

/// Arguments of `summary`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(flatten)]
    input: Input,
    /// Most operators to print; 0 prints all [default: 20 for text, all for JSON]
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
}

/// Prints the summary of a trace.
pub(super) fn run(args: &Args, out: &mut dyn Write) -> Result<()> {
    let trace = open(&args.input.file)?;
    trace.load_nodes(&|_| true)?;
    warn_of_new(&trace, &args.input.file);
    let mut found = summary(&trace);
    let all = found.operators.len();
    let limit = args.limit.unwrap_or(if args.input.json { 0 } else { 20 });
    if limit > 0 {
        found.operators.truncate(limit);
    }
    if args.input.json {
        return print_json(&found, out);
    }
    pairs(&facts(&found), out)?;
    // With one backend there is nothing to tell apart.
    if found.backends.len() > 1 {
        heading("backends; the host's calls", out)?;
        for totals in &found.backends {
            writeln!(out, "{}", backends::line(totals))?;
        }
    }
    if !found.operators.is_empty() {
        heading("operators by time, summed over threads", out)?;
        print_operators(&found, out)?;
    }
    if found.operators.len() < all {
        writeln!(out, "{} of {all}; --limit 0 shows all", found.operators.len())?;
    }
    around::print(&found.inference, limit, out)?;
    Ok(())
}

/// A few lines about a trace, such as at the end of its recording. Does not
/// decode op spans, so that it is quick however long the trace.
#[cfg_attr(not(any(target_os = "linux", test)), expect(dead_code, reason = "only Linux records"))]
pub(crate) fn print_short_summary(path: &Path, out: &mut dyn Write) -> Result<()> {
    let found = summary(&open_quietly(path)?);
    let names = ["recorded", "prefill", "decode", "lost"];
    let mut facts = facts(&found);
    facts.retain(|(name, _)| names.contains(name));
    facts.push(("file", clean(&path.display().to_string())));
    pairs(&facts, out)?;
    for warning in &found.warnings {
        writeln!(out, "warning: {warning}")?;
    }
    Ok(())
}

fn facts(found: &Summary) -> Vec<(&'static str, String)> {
    let models: Vec<String> = found.models.iter().map(|model| clean(model)).collect();
    let mut recorded = vec![duration(found.duration_s * 1e9)];
    recorded.extend(found.threads.map(|threads| plural(threads.into(), "thread", "threads")));
    recorded.extend(found.level.map(|level| format!("level {}", level.name())));
    recorded.push(plural(found.graph_runs, "graph run", "graph runs"));
    recorded.push(plural(found.op_spans, "op span", "op spans"));
    let per_span = found
        .bytes_per_op_span
        .map_or_else(String::new, |size| format!(", {} bytes an op span", three(size)));
    recorded.push(format!("{}{per_span}", bytes(found.file_bytes)));
    let mut facts = vec![
        ("model", models.join(", ")),
        ("recorded", recorded.join(", ")),
        ("prefill", speed(&found.prefill)),
        ("decode", speed(&found.decode.phase)),
        ("  per token", found.decode.tpot_ms.map_or_else(String::new, spread)),
        ("  probes", found.decode.probe_ms_per_token.map_or_else(String::new, |ms| probes(ms, found))),
        ("  between", found.decode.between_ms.map_or_else(String::new, spread)),
        (
            "failed",
            if found.failed_calls > 0 { plural(found.failed_calls, "call", "calls") } else { String::new() },
        ),
        ("lost", plural(found.lost_events, "event", "events")),
    ];
    // What goes on between decode calls stands with their time.
    let at = facts.iter().position(|(name, _)| *name == "failed").unwrap_or(facts.len());
    facts.splice(at..at, around::facts(&found.inference));
    facts
}

/// What recording cost, and the speed without it.
fn probes(ms: f64, found: &Summary) -> String {
    let share = found.decode.tpot_ms.map(|tpot| ms / tpot.mean);
    let share = share.map_or_else(String::new, |share| format!(", {}", percent(share)));
    let speed = found.decode.tokens_per_second_corrected.map(three).unwrap_or_default();
    format!("about {} a token{share}; {speed} tokens/s without them", duration(ms * 1e6))
}

fn speed(phase: &PhaseSummary) -> String {
    if phase.calls == 0 {
        return "none".to_owned();
    }
    let tokens = known(phase.tokens, count);
    let rate = known(phase.tokens_per_second, three);
    let calls = plural(phase.calls, "call", "calls");
    let time = known(phase.ms, |ms| duration(ms * 1e6));
    format!("{rate} tokens/s: {tokens} tokens in {time}, {calls}")
}

fn spread(spread: Spread) -> String {
    let text = |millis: f64| duration(millis * 1e6);
    format!("p50 {}, p95 {}, max {}", text(spread.p50), text(spread.p95), text(spread.max))
}

fn print_operators(found: &Summary, out: &mut dyn Write) -> std::io::Result<()> {
    let mut columns = Columns::new(&["op", "time", "share", "wait", "wait share", "count"], 1);
    for operator in &found.operators {
        columns.row([
            clean(&operator.op),
            duration(operator.compute_nanos as f64),
            percent(operator.share),
            known(operator.wait_nanos, |nanos| duration(nanos as f64)),
            known(operator.wait_share, percent),
            count(operator.count),
        ]);
    }
    columns.print(out)
}
