//! `llmtrace stats`: where the time went.

use super::backends::{self, Rows};
use super::text::{Columns, clean, count, duration, known, percent, plural};
use super::{Input, open, print_json, warn_of_new};
use super::{around, machine};
use anyhow::Result;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use llmtrace_analysis::stats::{By, Counted, Query, Row, Stats, stats};
use llmtrace_analysis::{Phase, offload};
use std::io::Write;

const PHASES: [Phase; 4] = [Phase::Prefill, Phase::Decode, Phase::Encode, Phase::Unknown];

/// Arguments of `stats`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(flatten)]
    input: Input,
    /// What a row stands for
    #[arg(long, default_value = "op", value_parser = by_parser())]
    by: What,
    /// Only what was computed in this phase
    #[arg(long, value_parser = phase_parser())]
    phase: Option<Phase>,
    /// Most rows to print; 0 prints all [default: 20 for text, all for JSON]
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
}

/// What rows stand for: groups of executions, or what was given to backends.
#[derive(Clone, Copy, Debug)]
enum What {
    Executions(By),
    Offload(Rows),
    Machine(machine::Rows),
    Around(around::Rows),
}

const AROUND: [(&str, around::Rows); 2] =
    [("call", around::Rows::Calls), ("request", around::Rows::Requests)];

const OFFLOAD: [(&str, Rows); 2] = [("backend", Rows::Backends), ("copy", Rows::Copies)];

const MACHINE: [(&str, machine::Rows); 2] =
    [("state", machine::Rows::States), ("fault", machine::Rows::Faults)];

fn by_parser() -> impl TypedValueParser<Value = What> {
    let names = By::ALL.map(By::name).into_iter().chain(OFFLOAD.map(|(name, _)| name));
    let names = names.chain(MACHINE.map(|(name, _)| name)).chain(AROUND.map(|(name, _)| name));
    PossibleValuesParser::new(names).map(|name| {
        let offload = OFFLOAD.into_iter().find(|(known, _)| *known == name);
        let by = By::ALL.into_iter().find(|by| by.name() == name).unwrap_or(By::Op);
        let machine = MACHINE.into_iter().find(|(known, _)| *known == name);
        let around = AROUND.into_iter().find(|(known, _)| *known == name);
        match (offload, machine, around) {
            (Some((_, rows)), ..) => What::Offload(rows),
            (_, Some((_, rows)), _) => What::Machine(rows),
            (.., Some((_, rows))) => What::Around(rows),
            _ => What::Executions(by),
        }
    })
}

pub(super) fn phase_parser() -> impl TypedValueParser<Value = Phase> {
    let names = PossibleValuesParser::new(PHASES.map(Phase::name));
    names.map(|name| PHASES.into_iter().find(|phase| phase.name() == name).unwrap_or(Phase::Unknown))
}

/// Prints the groups of a trace.
pub(super) fn run(args: &Args, out: &mut dyn Write) -> Result<()> {
    let trace = open(&args.input.file)?;
    let by = match args.by {
        What::Executions(by) => by,
        What::Offload(rows) => {
            warn_of_new(&trace, &args.input.file);
            let found = offload::totals(&trace, None, args.phase);
            return backends::print(&found, rows, args.input.json, out);
        }
        What::Machine(rows) => {
            warn_of_new(&trace, &args.input.file);
            return machine::print(&trace, rows, args.phase, args.limit, args.input.json, out);
        }
        What::Around(rows) => {
            warn_of_new(&trace, &args.input.file);
            return around::stats(&trace, rows, args.limit, args.input.json, out);
        }
    };
    let query = Query { by, range: None, phase: args.phase };
    let mut found = stats(&trace, &query, &|_| true)?;
    warn_of_new(&trace, &args.input.file);
    let all = found.rows.len();
    let limit = args.limit.unwrap_or(if args.input.json { 0 } else { 20 });
    if limit > 0 {
        found.rows.truncate(limit);
    }
    if args.input.json {
        return print_json(&found, out);
    }
    print(&found, all, out)?;
    Ok(())
}

fn print(found: &Stats, all: usize, out: &mut dyn Write) -> std::io::Result<()> {
    if found.rows.is_empty() {
        return writeln!(out, "no op spans: recorded below level `op`, or nothing was computed");
    }
    let by_name = found.by == By::Name;
    let mut headings = vec![found.by.name()];
    if by_name {
        headings.push("op");
    }
    headings.extend([
        "time",
        "share",
        "wait",
        "wait share",
        "count",
        "mean",
        "p5",
        "median",
        "p95",
        "p99",
        "max",
    ]);
    headings.extend(found.counters.iter().map(String::as_str));
    let mut columns = Columns::new(&headings, if by_name { 2 } else { 1 });
    for row in &found.rows {
        columns.row(cells(row));
    }
    columns.print(out)?;
    writeln!(out)?;
    if found.rows.len() < all {
        writeln!(out, "{} of {}; --limit 0 shows all", count(found.rows.len() as u64), count(all as u64))?;
    }
    let executions = match found.by {
        By::Thread => plural(found.count, "op span", "op spans"),
        _ => plural(found.count, "node execution", "node executions"),
    };
    let wait = known(found.wait_nanos, |nanos| duration(nanos as f64));
    writeln!(
        out,
        "{executions}; computing {}, waiting {wait}, summed over threads",
        duration(found.compute_nanos as f64)
    )
}

fn cells(row: &Row) -> Vec<String> {
    let mut cells = vec![clean(&row.key)];
    cells.extend(row.op.as_deref().map(clean));
    cells.extend([
        duration(row.compute_nanos as f64),
        percent(row.share),
        known(row.wait_nanos, |nanos| duration(nanos as f64)),
        known(row.wait_share, percent),
        count(row.count),
    ]);
    let wall = &row.wall;
    let durations =
        [wall.mean_nanos, wall.p5_nanos, wall.median_nanos, wall.p95_nanos, wall.p99_nanos, wall.max_nanos];
    cells.extend(durations.map(|nanos| duration(nanos as f64)));
    cells.extend(row.counters.iter().map(counted));
    cells
}

/// A sum, marked where counts of some op spans are missing from it.
fn counted(counted: &Counted) -> String {
    let partial = if counted.unknown > 0 { "≥ " } else { "" };
    known(counted.sum, |sum| format!("{partial}{}", count(sum)))
}
