//! `llmtrace advise`: how many threads to use, from runs with different numbers of them.

use super::text::{Columns, clean, count, heading, known, percent, three};
use super::{open, print_json, warn_of_new};
use anyhow::Result;
use llmtrace_analysis::Trace;
use llmtrace_analysis::diff::advise::{Advice, advise};
use std::io::Write;
use std::path::PathBuf;

/// Arguments of `advise`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Runs of one model with different numbers of threads
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Most operators to print; 0 prints all [default: 8 for text, all for JSON]
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Print JSON (documented in docs/cli.md) instead of text
    #[arg(long)]
    json: bool,
}

/// Prints the advice.
pub(super) fn run(args: &Args, out: &mut dyn Write) -> Result<()> {
    let traces = args.files.iter().map(|path| open(path)).collect::<Result<Vec<Trace>>>()?;
    let mut found = advise(&traces, &|_| true)?;
    for (trace, path) in traces.iter().zip(&args.files) {
        warn_of_new(trace, path);
    }
    let limit = args.limit.unwrap_or(if args.json { 0 } else { 8 });
    if limit > 0 {
        found.operators.truncate(limit);
    }
    if args.json { print_json(&found, out) } else { print(&found, out) }
}

fn print(found: &Advice, out: &mut dyn Write) -> Result<()> {
    match found.decode_threads {
        Some(threads) => writeln!(out, "use {threads} for generating (-t {threads})")?,
        None => writeln!(out, "no advice: fewer than two numbers of threads were recorded")?,
    }
    if let Some(threads) = found.prefill_threads.filter(|threads| Some(*threads) != found.decode_threads) {
        writeln!(out, "and {threads} for prompts (-tb {threads})")?;
    }
    for warning in &found.warnings {
        writeln!(out, "! {}", clean(warning))?;
    }
    for evidence in &found.evidence {
        writeln!(out, "  {evidence}")?;
    }
    writeln!(out)?;
    let headings = [
        "threads",
        "runs",
        "tokens",
        "ms a token",
        "± 95 %",
        "speed-up",
        "prompt tokens/s",
        "waiting",
        "GB/s",
    ];
    let mut columns = Columns::new(&headings, 0);
    for of in &found.counts {
        columns.row([
            count(of.threads.into()),
            count(of.runs as u64),
            count(of.calls as u64),
            format!("{:.3}", of.ms_per_token),
            known(of.ms_half, |half| format!("{half:.3}")),
            format!("{:.2}×", of.speedup),
            known(of.prefill_tokens_per_second, three),
            known(of.wait_share, percent),
            known(of.gigabytes_per_second, three),
        ]);
    }
    columns.print(out)?;
    if found.counts.len() > 1 && !found.operators.is_empty() {
        heading("operators: ms a token, and how many times faster than on the fewest threads", out)?;
        let names: Vec<String> = found
            .counts
            .iter()
            .map(|of| super::text::plural(of.threads.into(), "thread", "threads"))
            .collect();
        let mut headings = vec!["op"];
        headings.extend(names.iter().map(String::as_str));
        let mut columns = Columns::new(&headings, 1);
        for operator in &found.operators {
            let cell = |(ms, speedup): (&Option<f64>, &Option<f64>)| {
                known(ms.zip(*speedup), |(ms, speedup)| format!("{ms:.3} {speedup:.2}×"))
            };
            let cells = operator.ms.iter().zip(&operator.speedup).map(cell);
            columns.row(std::iter::once(clean(&operator.op)).chain(cells));
        }
        columns.print(out)?;
    }
    Ok(())
}
