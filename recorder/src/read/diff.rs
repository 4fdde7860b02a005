//! `llmtrace diff`: what got slower from A to B, by how much, and how sure that is.

use super::stats::phase_parser;
use super::text::{Columns, clean, count, heading, known, plural};
use super::{open, print_json, warn_of_new};
use anyhow::{Result, bail};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use llmtrace_analysis::diff::{Contribution, Diff, Grain, Options, Side, diff};
use llmtrace_analysis::{Phase, Trace};
use serde::Serialize;
use std::io::Write;
use std::path::PathBuf;

/// Arguments of `diff`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  llmtrace diff before.llmtrace after.llmtrace
  llmtrace diff a1.llmtrace a2.llmtrace a3.llmtrace --vs b1.llmtrace b2.llmtrace b3.llmtrace
  llmtrace diff main.llmtrace branch.llmtrace --fail-over 3

Exit code: 1 when --fail-over is given and B is slower by more than that, beyond chance; else 0; 2 on
errors, also when there is nothing to compare.")]
pub(crate) struct Args {
    /// A and B; with --vs all of them are runs of A
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Runs of B; three or more a side tell how much runs of the same thing differ
    #[arg(long, value_name = "FILE", num_args = 1..)]
    vs: Vec<PathBuf>,
    /// What to compare [default: decode, where both have it]
    #[arg(long, value_parser = phase_parser())]
    phase: Option<Phase>,
    /// What a contribution stands for
    #[arg(long, default_value = "role", value_parser = by_parser())]
    by: Grain,
    /// Exit with 1 when the median is more than PCT percent slower, beyond chance
    #[arg(long, value_name = "PCT", value_parser = percent_parser)]
    fail_over: Option<f64>,
    /// Most contributions to print; 0 prints all [default: 10 for text, all for JSON]
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Print JSON (documented in docs/cli.md) instead of text
    #[arg(long)]
    json: bool,
}

/// A comparison, and what came of `--fail-over`.
#[derive(Serialize)]
struct Json {
    gate: Option<Gate>,
    #[serde(flatten)]
    found: Diff,
}

#[derive(Serialize)]
struct Gate {
    percent: f64,
    failed: bool,
}

fn by_parser() -> impl TypedValueParser<Value = Grain> {
    let names = PossibleValuesParser::new(Grain::ALL.map(Grain::name));
    names.map(|name| Grain::ALL.into_iter().find(|by| by.name() == name).unwrap_or(Grain::Role))
}

fn percent_parser(text: &str) -> Result<f64, String> {
    let percent: f64 = text.parse().map_err(|_| "not a number of percent".to_owned())?;
    if (0.0..1e6).contains(&percent) { Ok(percent) } else { Err("not 0 or more".to_owned()) }
}

/// Prints the comparison; returns the exit code.
pub(super) fn run(args: &Args, out: &mut dyn Write) -> Result<i32> {
    let (a, b): (&[PathBuf], &[PathBuf]) = match (args.files.as_slice(), args.vs.as_slice()) {
        ([a, b], []) => (std::slice::from_ref(a), std::slice::from_ref(b)),
        (_, []) => bail!("name two traces, or several for each side: diff A1 A2 A3 --vs B1 B2 B3"),
        (a, b) => (a, b),
    };
    let open_all = |paths: &[PathBuf]| paths.iter().map(|path| open(path)).collect::<Result<Vec<Trace>>>();
    let (in_a, in_b) = (open_all(a)?, open_all(b)?);
    let options = Options { phase: args.phase, grain: args.by };
    let found = diff(&in_a, &in_b, &options, &|_| true)?;
    for (trace, path) in in_a.iter().chain(&in_b).zip(a.iter().chain(b)) {
        warn_of_new(trace, path);
    }
    let failed = args.fail_over.is_some_and(|percent| found.is_regression(percent));
    if args.json {
        let mut found = found;
        if let Some(limit) = args.limit.filter(|limit| *limit > 0) {
            found.contributions.truncate(limit);
            found.nodes.truncate(limit);
        }
        let gate = args.fail_over.map(|percent| Gate { percent, failed });
        print_json(&Json { gate, found }, out)?;
    } else {
        print(&found, args.limit.unwrap_or(10), out)?;
        if let Some(percent) = args.fail_over {
            let what =
                if failed { "failed: slower by more than" } else { "passed: not surely slower by more than" };
            writeln!(out, "\n{what} {percent} %")?;
        }
    }
    Ok(i32::from(failed))
}

fn print(found: &Diff, limit: usize, out: &mut dyn Write) -> Result<()> {
    writeln!(out, "{}", found.verdict())?;
    for warning in &found.warnings {
        writeln!(out, "! {}", clean(warning))?;
    }
    print_sides(found, out)?;
    print_types(found, out)?;
    print_waterfall(found, limit, out)?;
    print_nodes(found, out)?;
    print_unmatched(found, out)?;
    let others: Vec<_> = found.environment.iter().filter(|difference| !difference.matters).collect();
    if !others.is_empty() {
        heading("also different", out)?;
        for difference in others {
            writeln!(out, "  {}: {} → {}", difference.what, clean(&difference.a), clean(&difference.b))?;
        }
    }
    writeln!(out, "\n{}", found.method)?;
    Ok(())
}

fn print_sides(found: &Diff, out: &mut dyn Write) -> Result<()> {
    writeln!(out)?;
    let mut columns = Columns::new(&["side", "runs", "calls", "median", "mean", "p95", "probes"], 1);
    let mut row = |name: &str, side: &Side| {
        let calls = if side.calls == side.calls_recorded {
            count(side.calls as u64)
        } else {
            format!("{} of {}", count(side.calls as u64), count(side.calls_recorded as u64))
        };
        let ms = |ms: f64| format!("{ms:.3} ms");
        columns.row([
            name.to_owned(),
            count(side.runs as u64),
            calls,
            ms(side.median_ms),
            ms(side.mean_ms),
            ms(side.p95_ms),
            known(side.probe_ms, ms),
        ]);
    };
    row("A", &found.a);
    row("B", &found.b);
    columns.print(out)?;
    if let Some(own) = &found.undisturbed {
        let percent = known(own.percent, |percent| format!("{percent:+.1} %"));
        writeln!(out, "without interruptions {percent}: {}", own.interval())?;
    }
    if let Some(lost) = &found.preempted {
        let ms = |side: &Side| known(side.preempted_ms, |ms| format!("{ms:.3}"));
        writeln!(out, "without a CPU on average {} → {} ms: {}", ms(&found.a), ms(&found.b), {
            let range = lost.ms_half.map(|half| (lost.ms - half, lost.ms + half));
            known(range, |(low, high)| format!("change {low:+.3} to {high:+.3} ms with 95 % confidence"))
        })?;
        for (name, side) in [("A", &found.a), ("B", &found.b)] {
            let who = side.preempters.iter().take(3).map(|(who, ms)| format!("{} {ms:.3} ms", clean(who)));
            let who: Vec<String> = who.collect();
            if !who.is_empty() {
                writeln!(out, "  threads of {name} preempted by {}", who.join(", "))?;
            }
        }
    }
    let mean = &found.mean_change;
    if mean.significant != found.change.significant {
        writeln!(
            out,
            "the mean changed by {}: {}",
            known(mean.percent, |p| format!("{p:+.1} %")),
            mean.interval()
        )?;
    }
    Ok(())
}

fn print_types(found: &Diff, out: &mut dyn Write) -> Result<()> {
    if found.type_changes.is_empty() {
        return Ok(());
    }
    heading("types of weights that changed; bytes of one execution of each node", out)?;
    let mut columns = Columns::new(&["type", "nodes", "A", "B", "bytes", "change of ms"], 1);
    for change in &found.type_changes {
        let megabytes = |bytes: u64| format!("{:.2} MB", bytes as f64 / 1e6);
        let both = change.a_bytes.zip(change.b_bytes).filter(|(a, _)| *a > 0);
        columns.row([
            format!("{} → {}", clean(&change.a), clean(&change.b)),
            count(change.nodes as u64),
            known(change.a_bytes, megabytes),
            known(change.b_bytes, megabytes),
            known(both, |(a, b)| format!("{:+.1} %", (b as f64 / a as f64 - 1.0) * 100.0)),
            format!("{:+.4}", change.ms),
        ]);
    }
    columns.print(out)?;
    Ok(())
}

/// The contributions, so rounded that what is printed adds up.
fn print_waterfall(found: &Diff, limit: usize, out: &mut dyn Write) -> Result<()> {
    let unit = found.unit.name();
    heading(
        format!("what adds up to the change of ms a {unit}, by {}; * beyond chance", found.by.name()),
        out,
    )?;
    let mut columns = Columns::new(&["part", "change", "± 95 %", "", "A", "B", "note"], 1);
    let (mut units, whole) = (0i64, tenths(found.change.ms));
    let shown = if limit == 0 { found.contributions.len() } else { limit };
    let (top, others) = found.contributions.split_at(shown.min(found.contributions.len()));
    let print_ms = |units: i64| format!("{:+.4}", units as f64 / 1e4);
    for part in top {
        units += tenths(part.ms);
        columns.row([
            named(part),
            print_ms(tenths(part.ms)),
            known(part.ms_half, |half| format!("{half:.4}")),
            if part.significant { "*" } else { "" }.to_owned(),
            known(part.a_ms, |ms| format!("{ms:.4}")),
            known(part.b_ms, |ms| format!("{ms:.4}")),
            note(part),
        ]);
    }
    let mut line = |name: String, ms: i64, note: &str| {
        let blank = String::new;
        columns.row([name, print_ms(ms), blank(), blank(), blank(), blank(), note.to_owned()]);
    };
    if !others.is_empty() {
        let sum = tenths(others.iter().map(|part| part.ms).sum());
        units += sum;
        line(plural(others.len() as u64, "other", "others"), sum, "--limit 0 shows all");
    }
    for (name, ms, note) in found.outside_nodes(true) {
        // The rest is also what rounding leaves.
        let ms = if name == "rest" { whole - units } else { tenths(ms) };
        units += ms;
        line(name.to_owned(), ms, note);
    }
    line("change".to_owned(), whole, "");
    columns.print(out)?;
    Ok(())
}

/// Tenths of a microsecond.
fn tenths(ms: f64) -> i64 {
    (ms * 1e4).round() as i64
}

fn named(part: &Contribution) -> String {
    let mut name = clean(&part.key);
    if part.nodes > 1 {
        name.push_str(&format!(" ×{}", part.nodes));
    }
    name
}

fn note(part: &Contribution) -> String {
    let mut notes = Vec::new();
    match (part.a_ms, part.b_ms) {
        (None, _) => notes.push("only in B".to_owned()),
        (_, None) => notes.push("only in A".to_owned()),
        _ => {}
    }
    notes.extend(part.mostly.as_ref().map(|name| format!("mostly {}", clean(name))));
    notes.extend(part.became.as_ref().map(|became| clean(became)));
    notes.join("; ")
}

fn print_nodes(found: &Diff, out: &mut dyn Write) -> Result<()> {
    let surely: Vec<&Contribution> = found.nodes.iter().filter(|node| node.significant).collect();
    if surely.is_empty() || found.by == Grain::Name {
        return Ok(());
    }
    let all = plural(surely.len() as u64, "node", "nodes");
    heading(format!("{all} changed beyond chance; the most"), out)?;
    let mut columns = Columns::new(&["node", "layer", "module", "change", "± 95 %", "A", "B"], 3);
    for node in surely.iter().take(5) {
        columns.row([
            clean(&node.key),
            known(node.layer, |layer| layer.to_string()),
            node.module.map_or("", |module| module.name()).to_owned(),
            format!("{:+.4}", node.ms),
            known(node.ms_half, |half| format!("{half:.4}")),
            known(node.a_ms, |ms| format!("{ms:.4}")),
            known(node.b_ms, |ms| format!("{ms:.4}")),
        ]);
    }
    columns.print(out)?;
    Ok(())
}

fn print_unmatched(found: &Diff, out: &mut dyn Write) -> Result<()> {
    for (name, only) in [("A", true), ("B", false)] {
        let of = |node: &&Contribution| if only { node.b_ms.is_none() } else { node.a_ms.is_none() };
        let nodes: Vec<&Contribution> = found.nodes.iter().filter(of).collect();
        if nodes.is_empty() {
            continue;
        }
        let ms: f64 = nodes.iter().map(|node| node.ms.abs()).sum();
        let names: Vec<String> = nodes.iter().take(4).map(|node| clean(&node.key)).collect();
        let more = if nodes.len() > 4 { ", …" } else { "" };
        let all = plural(nodes.len() as u64, "node", "nodes");
        writeln!(out, "\nonly in {name}: {all}, {ms:.4} ms: {}{more}", names.join(", "))?;
    }
    Ok(())
}
