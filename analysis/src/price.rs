//! What recording cost the target, by the recorder's own calibration.
//!
//! A graph span carries the number of probe hits of its busiest thread; the
//! recording carries the measured price of a hit. Their product is time that an
//! unrecorded run would not have spent.

use crate::{Phase, Trace};
use llmtrace_format::meta::{Level, Recording};
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
    let in_graphs = hits.fold(0u64, u64::saturating_add).saturating_mul(in_graph);
    let calls = trace.ubatches.iter().filter(|row| row.phase == phase as u8).count() as u64;
    Some(in_graphs.saturating_add(calls.saturating_mul(HITS_OF_A_CALL).saturating_mul(call)))
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
    let op = price(recording, "op begin")?;
    match recording.level {
        Level::Thread => Some(op.saturating_add(price(recording, "barrier")?) / 2),
        _ => Some(op),
    }
}

fn price(recording: &Recording, purpose: &str) -> Option<u64> {
    recording.costs.iter().find(|cost| cost.purpose == purpose).map(|cost| cost.nanos)
}
