//! `llmtrace stats --by state` and `--by fault`: what threads did, and which pages were missing.

use super::print_json;
use super::text::{Columns, bytes, clean, count, duration, known, plural};
use anyhow::Result;
use llmtrace_analysis::format::constants::NONE;
use llmtrace_analysis::machine::{
    FaultGroup, FaultTotals, Preempter, StateTotals, fault_groups, fault_totals, state_totals,
};
use llmtrace_analysis::{Phase, Trace};
use llmtrace_format::machine::State;
use serde::Serialize;
use std::io::Write;

/// Which table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rows {
    States,
    Faults,
}

/// Everything that `stats --by fault --json` prints; `docs/cli.md` defines the fields.
#[derive(Serialize)]
struct Faults {
    recorded: bool,
    #[serde(flatten)]
    totals: FaultTotals,
    reads: u64,
    read_bytes: u64,
    rows: Vec<FaultGroup>,
}

/// Rows shown as text.
const SHOWN: usize = 20;

pub(super) fn print(
    trace: &Trace,
    rows: Rows,
    phase: Option<Phase>,
    limit: Option<usize>,
    json: bool,
    out: &mut dyn Write,
) -> Result<()> {
    match rows {
        Rows::States if json => print_json(&state_totals(trace, None), out),
        Rows::States => Ok(print_states(trace, &state_totals(trace, None), limit.unwrap_or(SHOWN), out)?),
        Rows::Faults => {
            let reads = trace.machine.reads.iter();
            let found = Faults {
                recorded: trace.machine.has_faults,
                totals: fault_totals(trace, None, phase),
                reads: trace.machine.reads.len() as u64,
                read_bytes: reads.fold(0, |sum, read| sum.saturating_add(read.bytes.into())),
                rows: fault_groups(trace, None, phase),
            };
            if json {
                return print_json(&found, out);
            }
            Ok(print_faults(&found, limit.unwrap_or(SHOWN), out)?)
        }
    }
}

fn print_states(
    trace: &Trace,
    found: &StateTotals,
    limit: usize,
    out: &mut dyn Write,
) -> std::io::Result<()> {
    if found.threads.is_empty() {
        return writeln!(out, "no states of threads: recorded without --sched, or the kernel refused");
    }
    let headings = [
        "thread",
        "place",
        "on CPU",
        "preempted",
        "woken",
        "asleep",
        "in faults",
        "uninterruptible",
        "preemptions",
        "migrations",
        "wake-up p50",
        "p99",
        "max",
    ];
    let mut columns = Columns::new(&headings, 2);
    let limit = if limit == 0 { usize::MAX } else { limit };
    for thread in found.threads.iter().take(limit) {
        let time = |state| duration(thread.sums.of(state) as f64);
        let wake = |nanos: Option<u64>| known(nanos, |nanos| duration(nanos as f64));
        columns.row([
            thread.tid.to_string(),
            if thread.places.is_empty() { "–".to_owned() } else { thread.places.join(", ") },
            time(State::Running),
            time(State::Preempted),
            time(State::Woken),
            time(State::Sleeping),
            time(State::Faulting),
            time(State::Uninterruptible),
            count(thread.preemptions),
            count(thread.migrations),
            wake(thread.wake_p50_nanos),
            wake(thread.wake_p99_nanos),
            wake(thread.wake_max_nanos),
        ]);
    }
    columns.print(out)?;
    let all = found.threads.len();
    if all > limit {
        writeln!(out, "\n{limit} of {}; --limit 0 shows all", plural(all as u64, "thread", "threads"))?;
    }
    if !found.preempters.is_empty() {
        writeln!(out)?;
        let mut columns = Columns::new(&["ran instead of threads that compute", "pid", "times", "for"], 1);
        for row in found.preempters.iter().take(limit) {
            columns.row([
                preempter(row),
                known(row.pid, |pid| pid.to_string()),
                count(row.count),
                duration(row.nanos as f64),
            ]);
        }
        columns.print(out)?;
    }
    if !trace.machine.has_states {
        writeln!(out, "\nparts of the recording have no states")?;
    }
    Ok(())
}

fn preempter(row: &Preempter) -> String {
    let name = if row.name.is_empty() { "unknown".to_owned() } else { clean(&row.name) };
    if row.is_target { format!("{name} (the program itself)") } else { name }
}

fn print_faults(found: &Faults, limit: usize, out: &mut dyn Write) -> std::io::Result<()> {
    if !found.recorded && found.rows.is_empty() {
        return writeln!(out, "no page faults: recorded without --faults, or the kernel refused");
    }
    let headings = ["during", "file", "tensor", "faults", "major", "by calls", "asleep"];
    let mut columns = Columns::new(&headings, 3);
    let limit = if limit == 0 { usize::MAX } else { limit };
    for row in found.rows.iter().take(limit) {
        let totals = &row.totals;
        let major =
            if totals.unknown > 0 { format!("≥ {}", count(totals.major)) } else { count(totals.major) };
        columns.row([
            clean(&row.during),
            clean(&row.file),
            clean(&row.tensor),
            count(totals.count),
            major,
            count(totals.unaddressed),
            duration(totals.wait_nanos as f64),
        ]);
    }
    columns.print(out)?;
    writeln!(out)?;
    if found.rows.len() > limit {
        writeln!(out, "{limit} of {} rows; --limit 0 shows all", count(found.rows.len() as u64))?;
    }
    writeln!(out, "{}", line(&found.totals))?;
    writeln!(out, "{}", reads(found.reads, found.read_bytes))
}

/// Faults in one line.
fn line(totals: &FaultTotals) -> String {
    let unknown = if totals.unknown > 0 { " at least" } else { "" };
    format!(
        "{}, {}{unknown} major, {} made by system calls, {} asleep in them",
        plural(totals.count, "page fault", "page faults"),
        count(totals.major),
        count(totals.unaddressed),
        duration(totals.wait_nanos as f64)
    )
}

fn reads(number: u64, read: u64) -> String {
    format!("{}, {}", plural(number, "read from a disk", "reads from disks"), bytes(read))
}

/// Lines for `info`; empty where nothing was recorded.
pub(super) fn info(trace: &Trace) -> Vec<(&'static str, String)> {
    let machine = &trace.machine;
    let mut lines = Vec::new();
    if machine.thread_count() > 0 {
        let preempted = state_totals(trace, None);
        let (times, nanos) = preempted
            .preempters
            .iter()
            .fold((0, 0u64), |(times, nanos), row| (times + row.count, nanos.saturating_add(row.nanos)));
        lines.push((
            "thread states",
            format!(
                "{} of {}; those that compute were preempted {}, for {}",
                count(machine.state_rows()),
                plural(machine.thread_count() as u64, "thread", "threads"),
                plural(times, "time", "times"),
                duration(nanos as f64)
            ),
        ));
    }
    if machine.has_faults {
        lines.push(("page faults", line(&fault_totals(trace, None, None))));
        let read = machine.reads.iter().fold(0u64, |sum, read| sum.saturating_add(read.bytes.into()));
        lines.push(("block reads", reads(machine.reads.len() as u64, read)));
    }
    let khz: Vec<u32> = machine.frequencies.iter().map(|row| row.khz).filter(|khz| *khz != NONE).collect();
    if let Some((low, high)) = khz.iter().min().zip(khz.iter().max()) {
        let mhz = |khz: &u32| count(u64::from(*khz) / 1000);
        lines.push(("CPU frequency", format!("{} to {} MHz", mhz(low), mhz(high))));
    }
    lines
}
