//! What recording cost the target, by the recorder's own calibration.
//!
//! A graph span carries the number of probe hits of its busiest thread; the
//! recording carries the measured price of a hit. Their product is time that an
//! unrecorded run would not have spent.

use crate::{Nanos, Phase, TimeRange, Trace};
use llmtrace_format::inference::CallKind;
use llmtrace_format::machine::State;
use llmtrace_format::meta::{Level, Recording};
use llmtrace_format::tables::Selections;
use std::collections::HashMap;

/// Entry and return of a decode call and of its micro-batch.
const HITS_OF_A_CALL: u64 = 4;

/// Estimated nanoseconds that probes added to all micro-batches of a phase;
/// `None` when the recorder did not measure the price of a hit.
pub fn probe_nanos(trace: &Trace, phase: Phase) -> Option<u64> {
    let recording = trace.file.recording.as_ref()?;
    let in_graph = price_in_graph(recording)?;
    let call = price(recording, "decode begin").unwrap_or(in_graph);
    let phases: HashMap<u32, u8> = trace.ubatches.iter().map(|row| (row.id, row.phase)).collect();
    let of_phase = |ubatch| phases.get(&ubatch) == Some(&(phase as u8));
    let hits =
        trace.graph_spans.iter().filter(|span| of_phase(span.ubatch)).map(|span| u64::from(span.probe_hits));
    let offload = offload_nanos(trace, phase, recording);
    let in_graphs = hits.fold(0u64, u64::saturating_add).saturating_mul(in_graph);
    let gathered = price(recording, "experts").unwrap_or(0);
    let graphs: HashMap<u32, u32> = trace.graph_spans.iter().map(|row| (row.id, row.ubatch)).collect();
    let mut experts = 0u64;
    trace.file.read_all::<Selections>(
        |_, table| {
            let of_it = table
                .graph_span
                .iter()
                .filter_map(|span| graphs.get(span))
                .filter(|&&ubatch| of_phase(ubatch));
            experts = experts.saturating_add(of_it.count() as u64);
        },
        // Opening and `experts` say what is damaged.
        &mut Vec::new(),
    );
    let in_graphs = in_graphs.saturating_add(experts.saturating_mul(gathered));
    let calls = trace.ubatches.iter().filter(|row| row.phase == phase as u8).count() as u64;
    // The begin of a micro-batch also tells its sequences.
    let ubatch = price(recording, "ubatch begin").unwrap_or(call);
    let each = (HITS_OF_A_CALL - 1).saturating_mul(call).saturating_add(ubatch);
    let machine = machine_nanos(trace, phase, recording);
    let around = offload.saturating_add(machine).saturating_add(calls.saturating_mul(each));
    Some(in_graphs.saturating_add(around))
}

/// Nanoseconds that programs at switches, page faults and reads added, on the thread with the
/// most of them.
fn machine_nanos(trace: &Trace, phase: Phase, recording: &Recording) -> u64 {
    let [switch, fault, read] =
        ["thread switch", "page fault", "block read"].map(|purpose| price(recording, purpose).unwrap_or(0));
    let of_phase = |begin| trace.token_at(begin).is_some_and(|token| token.phase == phase);
    let machine = &trace.machine;
    let mut threads: HashMap<(u32, u32), u64> = HashMap::new();
    let mut add = |process, tid, nanos: u64| {
        let sum = threads.entry((process, tid)).or_default();
        *sum = sum.saturating_add(nanos);
    };
    trace.each_state(TimeRange::new(0, Nanos::MAX), |row| {
        // Once it comes back, it has left before.
        if row.state == State::Running as u8 && row.continues == 0 && of_phase(row.begin) {
            add(row.process, row.tid, switch);
        }
    });
    for row in machine.faults.iter().filter(|row| of_phase(row.begin)) {
        // Those of system calls are not seen one by one.
        let seen = u64::from(row.count.saturating_sub(row.unaddressed));
        add(row.process, row.tid, seen.saturating_mul(fault));
    }
    for row in machine.reads.iter().filter(|row| of_phase(row.begin)) {
        add(row.process, row.tid, read);
    }
    threads.into_values().max().unwrap_or(0)
}

/// Nanoseconds that probes of schedulers and backends added. The begins of splits and copies
/// read more than others; their ends, and both ends of runs and waits, are as dear as a call.
fn offload_nanos(trace: &Trace, phase: Phase, recording: &Recording) -> u64 {
    let offload = &trace.offload;
    let of_phase = |begin| trace.token_at(begin).is_some_and(|token| token.phase == phase);
    let call = price(recording, "decode begin").unwrap_or(0);
    let both = |purpose: &str| price(recording, purpose).unwrap_or(call).saturating_add(call);
    let splits = offload.splits.iter().filter(|row| of_phase(row.begin)).count() as u64;
    let copies = offload.copies.iter().filter(|row| of_phase(row.begin)).count() as u64;
    let others = offload.syncs.iter().filter(|row| of_phase(row.begin)).count()
        + offload.runs.iter().filter(|row| of_phase(row.begin)).count();
    splits
        .saturating_mul(both("split begin"))
        .saturating_add(copies.saturating_mul(both("copy begin")))
        .saturating_add((others as u64).saturating_mul(2).saturating_mul(call))
}

/// Estimated nanoseconds that probes of calls, KV operations and drafts took, between decode
/// calls; `None` when the recorder did not measure the price of a hit.
pub fn around_nanos(trace: &Trace) -> Option<u64> {
    let recording = trace.file.recording.as_ref()?;
    let call = price(recording, "decode begin").or_else(|| price_in_graph(recording))?;
    // Out of these an exception may come, so that their ends are probed where they return.
    let stepped = price(recording, "empty, single-stepped").unwrap_or(call);
    let ends = trace.inference.calls.iter().map(|row| match CallKind::from_u8(row.kind) {
        CallKind::Sample | CallKind::Tokenize | CallKind::Draft => stepped,
        _ => call,
    });
    let around = &trace.inference;
    let others = around.calls.len() + around.kv.len() + around.speculations.len();
    Some(ends.fold((others as u64).saturating_mul(call), u64::saturating_add))
}

/// Prices of a hit in nanoseconds: while a graph runs, and of a call; `None` when the
/// recorder did not measure them.
pub(crate) fn of_hits(trace: &Trace) -> Option<(u64, u64)> {
    let recording = trace.file.recording.as_ref()?;
    let in_graph = price_in_graph(recording)?;
    let call = price(recording, "decode begin").unwrap_or(in_graph);
    Some((in_graph, call.saturating_mul(HITS_OF_A_CALL)))
}

/// The price of a hit while a graph runs: begins of nodes, and as many or more
/// arrivals at barriers at level `thread`.
fn price_in_graph(recording: &Recording) -> Option<u64> {
    // Counting is paid at each hit.
    let op = price(recording, "op begin")?.saturating_add(price(recording, "counters").unwrap_or(0));
    match recording.level {
        Level::Thread => {
            let barrier =
                price(recording, "barrier")?.saturating_add(price(recording, "counters").unwrap_or(0));
            Some(op.saturating_add(barrier) / 2)
        }
        _ => Some(op),
    }
}

fn price(recording: &Recording, purpose: &str) -> Option<u64> {
    recording.costs.iter().find(|cost| cost.purpose == purpose).map(|cost| cost.nanos)
}
