//! The headline figures.

use crate::panel::{Cx, Explained as _};
use crate::text;
use egui::accesskit::Role;
use egui::{Frame, Margin, RichText, Stroke, Ui, WidgetInfo};

/// Least width of a card.
const CARD_WIDTH: f32 = 148.0;

struct Figure {
    name: &'static str,
    value: String,
    more: String,
    /// Terms of the glossary.
    terms: &'static [&'static str],
    alarm: bool,
}

pub(crate) fn figures_ui(ui: &mut Ui, cx: &Cx<'_>) {
    let figures = figures(cx);
    let gap = ui.spacing().item_spacing.x;
    let columns = (((ui.available_width() + gap) / (CARD_WIDTH + gap)) as usize).clamp(1, figures.len());
    // Even rows look better than a full one and a lonely card.
    let rows = figures.len().div_ceil(columns);
    let columns = figures.len().div_ceil(rows);
    for row in figures.chunks(columns) {
        ui.columns(columns, |cells| {
            for (ui, figure) in cells.iter_mut().zip(row) {
                figure_ui(ui, cx, figure);
            }
        });
        ui.add_space(2.0);
    }
}

fn figure_ui(ui: &mut Ui, cx: &Cx<'_>, figure: &Figure) {
    let card = Frame::new()
        .fill(cx.colors.card)
        .stroke(Stroke::new(1.0, cx.colors.line))
        .corner_radius(6)
        .inner_margin(Margin::symmetric(12, 9));
    let response = card.show(ui, |ui| {
        ui.set_min_width(ui.available_width());
        ui.spacing_mut().item_spacing.y = 2.0;
        ui.label(RichText::new(figure.name).color(cx.colors.weak).size(12.0));
        let value = RichText::new(&figure.value).size(21.0);
        let color = if figure.alarm { cx.colors.loss } else { cx.colors.text };
        ui.add(egui::Label::new(value.color(color)).truncate());
        ui.add(egui::Label::new(RichText::new(&figure.more).color(cx.colors.weak).size(11.5)).truncate());
    });
    let response = response.response.explained(figure.terms);
    response.widget_info(|| {
        WidgetInfo::labeled(Role::Group, true, format!("{}: {} {}", figure.name, figure.value, figure.more))
    });
}

fn figures(cx: &Cx<'_>) -> Vec<Figure> {
    let summary = &cx.open.summary;
    let unknown = || "–".to_owned();
    let rate = |rate: Option<f64>| rate.map_or_else(unknown, |rate| format!("{} tok/s", text::trim(rate)));
    let number = |value: Option<u64>| value.map_or_else(unknown, text::count);
    let tpot = summary.decode.tpot_ms;
    let decode = &summary.decode.phase;
    let prefill = &summary.prefill;
    let between =
        summary.decode.between_ms.map(|spread| format!("{} between calls", text::millis(spread.p50)));
    // What the recorder added is known where it measured the price of a hit.
    let corrected = summary.decode.tokens_per_second_corrected;
    let corrected = corrected.map(|rate| format!("≈ {} without probes", text::trim(rate)));
    let lost = summary.lost_events;
    vec![
        Figure {
            name: "Decode speed",
            value: rate(decode.tokens_per_second),
            more: corrected.or(between).unwrap_or_default(),
            terms: &["tokens/s, decode", "tokens/s without recording", "between calls, time"],
            alarm: false,
        },
        Figure {
            name: "Time per token",
            value: tpot.map_or_else(unknown, |spread| text::millis(spread.p50)),
            more: tpot.map_or_else(String::new, |s| {
                format!("p95 {} · max {}", text::millis(s.p95), text::millis(s.max))
            }),
            terms: &["time per token", "percentile"],
            alarm: false,
        },
        Figure {
            name: "Prefill speed",
            value: rate(prefill.tokens_per_second),
            more: prefill.ms.map_or_else(String::new, |ms| format!("{} in all", text::millis(ms))),
            terms: &["tokens/s, prefill", "prefill"],
            alarm: false,
        },
        Figure {
            name: "Tokens",
            value: number(decode.tokens),
            more: format!("decoded · {} prompt", number(prefill.tokens)),
            terms: &["token", "decode", "prefill"],
            alarm: false,
        },
        Figure {
            name: "Op spans",
            value: text::count(summary.op_spans),
            more: format!("in {} graph runs", text::count(summary.graph_runs)),
            terms: &["op span", "graph run"],
            alarm: false,
        },
        Figure {
            name: "Threads",
            value: number(summary.threads.map(u64::from)),
            more: cx
                .open
                .trace
                .file
                .recording
                .as_ref()
                .map_or_else(String::new, |r| format!("of {} CPUs", r.host.cpus)),
            terms: &["threads"],
            alarm: false,
        },
        Figure {
            name: "Lost events",
            value: text::count(lost),
            more: if lost == 0 { "complete".into() } else { "times near them may be wrong".into() },
            terms: &["lost events"],
            alarm: lost > 0,
        },
    ]
}
