//! Findings about experts, devices and losses.

use super::{Finding, Seen, percent};
use crate::experts::{Query, experts as all_experts, has_experts};
use crate::offload;
use crate::stats::ratio;
use crate::{Phase, TimeRange};
use std::collections::HashMap;

/// Routing is uneven beyond chance when it varies so many times as much as a fair draw would.
const UNEVEN: f64 = 2.0;

/// Some experts get far more than their part of the tokens.
pub(super) fn experts(seen: &Seen<'_>) -> Option<Finding> {
    if !has_experts(seen.trace) {
        return None;
    }
    let query = Query { range: None, phase: Some(Phase::Decode) };
    let found = all_experts(seen.trace, &query, &|| true)?;
    let mut uneven: Vec<(f64, &crate::experts::Layer)> = Vec::new();
    for layer in found.layers.iter().filter(|layer| layer.experts > layer.used && layer.tokens > 0) {
        // The spread of fair draws around their mean, relative to it.
        let fair = f64::from(layer.used) / f64::from(layer.experts);
        let by_chance = ((1.0 - fair) / (fair * layer.tokens as f64)).sqrt();
        if layer.variation > UNEVEN * by_chance {
            uneven.push((layer.variation / by_chance, layer));
        }
    }
    if uneven.is_empty() {
        return None;
    }
    uneven.sort_by(|a, b| b.0.total_cmp(&a.0));
    let layers = found.layers.len();
    let mut evidence = vec![format!("{} of {layers} layers are more uneven than chance", uneven.len())];
    evidence.extend(uneven.iter().take(3).map(|(_, layer)| {
        format!(
            "layer {}: {} of {} experts get {} of its tokens, {} were even; coefficient of variation {:.2}",
            layer.name(),
            layer.used,
            layer.experts,
            percent(layer.top_share),
            percent(f64::from(layer.used) / f64::from(layer.experts)),
            layer.variation
        )
    }));
    let unsure = found.partial + found.lost + found.unknown;
    if unsure > 0 {
        evidence.push(format!("{unsure} selections are partial, lost or unknown, and not in it"));
    }
    let advice = "no cost by itself where all experts are in the same memory; with an offload keep the most used \
                  ones on the fast device (`-ot`)";
    let title = "Some experts get most of the tokens".to_owned();
    // Each token computes as many experts, whichever they are.
    Some(Finding { ms_per_token: None, share: None, ..seen.finding(title, 0, evidence, advice) })
}

/// Copies between memories.
pub(super) fn copies(seen: &Seen<'_>) -> Option<Finding> {
    let copied = seen.parts.copies?;
    let totals = offload::totals(seen.trace, None, Some(Phase::Decode));
    let mut copies = totals.copies;
    copies.sort_by_key(|copy| std::cmp::Reverse(copy.sums.nanos));
    let evidence = copies.iter().take(3).map(|copy| {
        let name =
            |name: &str| if name.is_empty() { "the program's memory".to_owned() } else { name.to_owned() };
        let sums = &copy.sums;
        format!(
            "{} → {}: {:.1} a token, {:.1} KB each, {:.2} GB/s",
            name(&copy.from),
            name(&copy.to),
            sums.count as f64 / seen.tokens,
            ratio(sums.bytes, sums.count) / 1e3,
            ratio(sums.bytes, sums.nanos)
        )
    });
    let advice = "fewer splits: whole layers with their cache on one device (`-ngl`, no `--no-kv-offload`)";
    let title = "Copies between backends".to_owned();
    Some(seen.finding(title, copied, evidence.collect(), advice))
}

/// Nanoseconds in decode calls during which the calling thread waited for a device.
pub(super) fn waiting_for_devices(seen: &Seen<'_>) -> u64 {
    let mut until: HashMap<u32, u64> = HashMap::new();
    let mut waited = 0u64;
    for sync in &seen.trace.offload.syncs {
        let reached = until.entry(sync.tid).or_default();
        let begin = sync.begin.max(*reached);
        *reached = sync.end.max(*reached);
        let after = seen.calls.partition_point(|call| call.range.begin <= sync.begin);
        let call = after.checked_sub(1).and_then(|at| seen.calls.get(at));
        if let Some(call) = call {
            waited = waited.saturating_add(sync.end.min(call.range.end).saturating_sub(begin));
        }
    }
    waited.min(seen.parts.build)
}

/// The host waits for a device.
pub(super) fn devices(seen: &Seen<'_>) -> Option<Finding> {
    let waited = waiting_for_devices(seen);
    if waited == 0 {
        return None;
    }
    let totals = offload::totals(seen.trace, None, Some(Phase::Decode));
    let with_bounds = totals.backends.iter().filter_map(|backend| {
        let bound = backend.bound_nanos.filter(|bound| *bound > 0)?;
        Some(format!(
            "{}: {:.1} splits a token, busy at most {:.2} ms",
            backend.name,
            backend.splits as f64 / seen.tokens,
            bound as f64 / seen.tokens / 1e6
        ))
    });
    let evidence = with_bounds.take(3).collect();
    let advice = "what the device computes, which is not recorded there; CPUs are idle meanwhile";
    Some(seen.finding("The host waits for a device".to_owned(), waited, evidence, advice))
}

/// Tokens of which events were lost: what they tell is not complete.
pub(super) fn losses(seen: &Seen<'_>) -> Option<Finding> {
    let losses = &seen.trace.losses;
    let touched =
        |range: TimeRange| losses.iter().any(|loss| loss.begin < range.end && range.begin <= loss.end);
    let calls: Vec<_> = seen.calls.iter().filter(|call| touched(call.range)).collect();
    let first = calls.first()?;
    let unexplained = calls.iter().fold(0u64, |sum, call| sum.saturating_add(call.parts.unattributed));
    let evidence = vec![format!(
        "{} of {} tokens; what no event explains in them is counted here, what else is missing is not known",
        calls.len(),
        seen.calls.len()
    )];
    let advice = "`--window`, `--max-overhead` or a lower level record less; `check` lists what was lost";
    let mut found = seen.finding("Events were lost".to_owned(), unexplained, evidence, advice);
    found.place = Some(first.range);
    Some(found)
}
