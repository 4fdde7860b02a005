//! Where the time of each request went, as `llmtrace explain --by sequence` tells it.

use crate::command::Command;
use crate::panel::{Cx, Explained as _};
use crate::state::Page;
use crate::text;
use egui::{Grid, RichText, ScrollArea, Ui};
use llmtrace_analysis::TimeRange;
use llmtrace_analysis::attribution::Parts;
use llmtrace_analysis::shares::{Share, Shares};

/// Rows that are shown; more are summed up.
const MOST_ROWS: usize = 12;

const COLUMNS: [(&str, &[&str]); 13] = [
    ("Sequence", &["sequence", "request"]),
    ("Tokens", &["token", "request"]),
    ("TTFT", &["TTFT"]),
    ("TPOT", &["TPOT"]),
    ("Prompt", &["prompt"]),
    ("Output", &["output"]),
    ("Operators", &["operators"]),
    ("Waits", &["barrier waits"]),
    ("Build", &["graph build and call"]),
    ("Sampling", &["sampling"]),
    ("Between", &["between calls"]),
    ("Probes", &["probes"]),
    ("Other", &["between nodes", "copies", "unattributed"]),
];

pub(super) fn requests_ui(ui: &mut Ui, cx: &mut Cx<'_>, shares: &Shares) {
    ui.add(
        egui::Label::new(
            RichText::new("Calls are shared among the requests in them by tokens. Click one to see it.")
                .color(cx.colors.weak),
        )
        .wrap(),
    );
    ScrollArea::horizontal().show(ui, |ui| {
        Grid::new("requests").num_columns(COLUMNS.len()).striped(true).spacing([18.0, 4.0]).show(ui, |ui| {
            for (name, terms) in COLUMNS {
                ui.label(RichText::new(name).color(cx.colors.weak)).explained(terms);
            }
            ui.end_row();
            rows_ui(ui, cx, shares);
        });
    });
}

fn rows_ui(ui: &mut Ui, cx: &mut Cx<'_>, shares: &Shares) {
    let (mut all, mut rest) = (shares.between_requests, Parts::default());
    all.add(&shares.unknown);
    for (index, share) in shares.requests.iter().enumerate() {
        let mut sum = share.prompt;
        sum.add(&share.output);
        all.add(&sum);
        if index < MOST_ROWS {
            request_ui(ui, cx, share, &sum);
        } else {
            rest.add(&sum);
        }
    }
    let more = shares.requests.len().saturating_sub(MOST_ROWS);
    if more > 0 {
        line_ui(ui, &format!("{more} more"), &rest);
    }
    for (name, parts) in [("between", &shares.between_requests), ("unknown", &shares.unknown)] {
        if parts.wall() > 0 {
            line_ui(ui, name, parts);
        }
    }
    line_ui(ui, "all", &all);
}

fn request_ui(ui: &mut Ui, cx: &mut Cx<'_>, share: &Share, sum: &Parts) {
    let request = &share.request;
    let number = request.key.sequence.to_string();
    if ui.link(&number).on_hover_text("Show it in the timeline").clicked() {
        cx.commands.push(Command::Show(Page::Timeline));
        cx.commands.push(Command::ZoomTo(TimeRange::new(request.begin, request.end.max(request.begin + 1))));
    }
    ui.label(text::count(share.tokens));
    for nanos in [request.ttft_nanos(), request.tpot_nanos()] {
        ui.label(nanos.map_or_else(|| "–".to_owned(), text::nanos));
    }
    ui.label(text::nanos(share.prompt.wall()));
    ui.label(text::nanos(share.output.wall()));
    parts_ui(ui, sum);
    ui.end_row();
}

fn line_ui(ui: &mut Ui, name: &str, parts: &Parts) {
    ui.weak(name);
    for _ in 0..4 {
        ui.label("");
    }
    ui.label(text::nanos(parts.wall()));
    parts_ui(ui, parts);
    ui.end_row();
}

fn parts_ui(ui: &mut Ui, parts: &Parts) {
    let other =
        parts.between_nodes.saturating_add(parts.unattributed).saturating_add(parts.copies.unwrap_or(0));
    let of = [
        Some(parts.operators),
        Some(parts.waits),
        Some(parts.build),
        parts.sampling,
        Some(parts.between_calls),
        parts.probes,
        Some(other),
    ];
    for nanos in of {
        ui.label(nanos.map_or_else(|| "–".to_owned(), text::nanos));
    }
}
