//! `llmtrace stats --by backend` and `--by copy`: what was given to which backend.

use super::print_json;
use super::text::{Columns, bytes, clean, count, duration, heading, known, plural};
use anyhow::Result;
use llmtrace_analysis::offload::{BackendTotals, CopySums, OffloadTotals};
use std::io::Write;

/// Which table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rows {
    Backends,
    Copies,
}

/// What a device's times are.
const BOUNDED: &str = "\"device at most\": from the call that gave a split to the return of the next wait for \
                       its backend. It is bounded by calls of the host; kernel times are not recorded.";

pub(super) fn print(found: &OffloadTotals, rows: Rows, json: bool, out: &mut dyn Write) -> Result<()> {
    if json {
        return print_json(found, out);
    }
    if found.backends.is_empty() && found.copies.is_empty() {
        writeln!(
            out,
            "no splits or copies: recorded below level `graph` or with --no-offload, or none happened"
        )?;
        return Ok(());
    }
    match rows {
        Rows::Backends => print_backends(found, out)?,
        Rows::Copies => print_copies(found, out)?,
    }
    Ok(())
}

/// One line for each backend, for the summary.
pub(super) fn line(totals: &BackendTotals) -> String {
    let mut parts = vec![
        clean(&totals.name),
        format!("{} in {}", plural(totals.splits, "split", "splits"), duration(totals.host_nanos as f64)),
    ];
    if totals.waits > 0 {
        parts.push(format!("waited for {}", duration(totals.wait_nanos as f64)));
    }
    let copied = |sums: &CopySums, way: &str| {
        (sums.count > 0)
            .then(|| format!("{} copied {way} in {}", bytes(sums.bytes), duration(sums.nanos as f64)))
    };
    parts.extend(copied(&totals.copies_in, "in"));
    parts.extend(copied(&totals.copies_out, "out"));
    parts.join(", ")
}

fn print_backends(found: &OffloadTotals, out: &mut dyn Write) -> std::io::Result<()> {
    let headings = [
        "backend",
        "device",
        "splits",
        "nodes",
        "host calls",
        "waits",
        "waiting",
        "device at most",
        "GFLOP",
        "touches",
        "copied in",
        "copying in",
        "copied out",
        "copying out",
    ];
    let mut columns = Columns::new(&headings, 2);
    for totals in &found.backends {
        let mark = if totals.name_is_files { " (its file)" } else { "" };
        let sums = |sums: &CopySums| [bytes(sums.bytes), duration(sums.nanos as f64)];
        let work = (totals.unknown_splits == 0 && totals.splits > 0).then_some(totals.work);
        let mut cells = vec![
            format!("{}{mark}", clean(&totals.name)),
            if totals.description.is_empty() { "–".to_owned() } else { clean(&totals.description) },
            count(totals.splits),
            count(totals.nodes),
            duration(totals.host_nanos as f64),
            count(totals.waits),
            duration(totals.wait_nanos as f64),
            known(totals.bound_nanos, |nanos| duration(nanos as f64)),
            known(work.and_then(|work| work.flops), |flops| format!("{:.3}", flops as f64 / 1e9)),
            known(work.and_then(|work| work.bytes()), bytes),
        ];
        cells.extend(sums(&totals.copies_in));
        cells.extend(sums(&totals.copies_out));
        columns.row(cells);
    }
    columns.print(out)?;
    writeln!(out, "\n{}", plural(found.runs, "scheduler run", "scheduler runs"))?;
    writeln!(out, "{BOUNDED}")
}

fn print_copies(found: &OffloadTotals, out: &mut dyn Write) -> std::io::Result<()> {
    heading("copies, most bytes first; an asynchronous one may go on after its call", out)?;
    let mut columns = Columns::new(&["direction", "from", "to", "copies", "bytes", "time"], 3);
    for row in &found.copies {
        let memory = |name: &str| if name.is_empty() { "–".to_owned() } else { clean(name) };
        columns.row([
            row.direction.to_owned(),
            memory(&row.from),
            memory(&row.to),
            count(row.sums.count),
            bytes(row.sums.bytes),
            duration(row.sums.nanos as f64),
        ]);
    }
    columns.print(out)
}
