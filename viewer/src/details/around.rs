//! What goes on around graphs in a selected range: requests, calls, the KV cache.

use crate::panel::Cx;
use crate::text;
use egui::{Grid, Ui};
use llmtrace_analysis::TimeRange;
use llmtrace_analysis::inference::{CallSummary, Request, call_summaries, speculation};

/// Requests shown; a long range has thousands.
const MOST: usize = 12;

pub(crate) fn around_ui(ui: &mut Ui, cx: &Cx<'_>, range: TimeRange) {
    let trace = &cx.open.trace;
    let touches = |request: &&Request| TimeRange::new(request.begin, request.end).overlaps(range);
    let requests: Vec<&Request> = trace.around().requests.iter().filter(touches).collect();
    if !requests.is_empty() {
        ui.separator();
        ui.strong("Requests").on_hover_text(
            "A prompt on a sequence and what was generated from it. TTFT: from its first micro-batch to \
             its first output; TPOT: for each token after that",
        );
        requests_ui(ui, cx, &requests);
    }
    let calls = call_summaries(trace, Some(range));
    if !calls.is_empty() {
        ui.separator();
        ui.strong("Calls around graphs");
        calls_ui(ui, &calls);
    }
    if let Some(drafts) = speculation(trace, Some(range)) {
        let (drafted, accepted) = (text::count(drafts.drafted), text::count(drafts.accepted));
        ui.label(format!("{} rounds of drafts: {accepted} of {drafted} tokens accepted", drafts.rounds));
    }
    for curve in &trace.around().kv {
        if let Some(point) = curve.at(range.end) {
            let least = if curve.whole { "" } else { "at least " };
            let cells = text::count(point.cells);
            ui.label(format!("KV cache at the end: {least}{cells} cells of {} sequences", point.sequences));
        }
    }
}

fn requests_ui(ui: &mut Ui, cx: &Cx<'_>, requests: &[&Request]) {
    let unknown = || "–".to_owned();
    Grid::new("requests").num_columns(5).spacing([10.0, 2.0]).show(ui, |ui| {
        for name in ["sequence", "prompt", "generated", "TTFT", "TPOT"] {
            ui.weak(name);
        }
        ui.end_row();
        for request in requests.iter().take(MOST) {
            let draft =
                if cx.open.trace.around().drafts.contains(&request.key.context) { " draft" } else { "" };
            ui.label(format!("{}{draft}", request.key.sequence));
            let partial = if request.whole { "" } else { "…" };
            ui.label(format!("{partial}{}", request.prompt_tokens));
            ui.label(request.generated_tokens.map_or_else(unknown, |tokens| tokens.to_string()));
            ui.label(request.ttft_nanos().map_or_else(unknown, text::nanos));
            ui.label(request.tpot_nanos().map_or_else(unknown, text::nanos));
            ui.end_row();
        }
    });
    if requests.len() > MOST {
        ui.weak(format!("{MOST} of {}", text::count(requests.len() as u64)));
    }
}

fn calls_ui(ui: &mut Ui, calls: &[CallSummary]) {
    Grid::new("calls").num_columns(4).spacing([10.0, 2.0]).show(ui, |ui| {
        for name in ["call", "time", "count", "longest"] {
            ui.weak(name);
        }
        ui.end_row();
        for call in calls {
            ui.label(call.kind);
            ui.label(text::nanos(call.nanos));
            ui.label(text::count(call.count));
            ui.label(text::nanos(call.max_nanos));
            ui.end_row();
        }
    });
}
