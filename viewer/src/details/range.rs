//! Totals by operator of a selected range.

use crate::command::Command;
use crate::memo::Memo;
use crate::panel::{Cx, swatch_ui};
use crate::text;
use crate::theme::OpClass;
use egui::{Align, Layout, RichText, Ui};
use egui_extras::{Column, TableBuilder};
use llmtrace_analysis::TimeRange;
use llmtrace_analysis::stats::{OpTotal, totals_in_range};
use std::sync::Arc;

const ROW: f32 = 20.0;

pub(crate) fn range_ui(
    ui: &mut Ui,
    cx: &mut Cx<'_>,
    range: TimeRange,
    totals: &mut Memo<TimeRange, Vec<OpTotal>>,
) {
    ui.heading(format!("Range of {}", text::nanos(range.nanos())));
    ui.weak(format!("from {} to {}", text::nanos(range.begin), text::nanos(range.end)));
    let tokens = cx.open.trace.tokens.iter().filter(|token| token.range.overlaps(range)).count();
    ui.label(format!("touches {} tokens", text::count(tokens as u64)));
    ui.horizontal(|ui| {
        if ui.button("Fill the window").clicked() {
            cx.commands.push(Command::ZoomTo(range));
        }
        if ui.button("Clear").clicked() {
            cx.commands.push(Command::ClearSelection);
        }
    });
    ui.separator();
    if !cx.open.trace.is_loaded() {
        ui.horizontal(|ui| {
            ui.spinner();
            ui.weak("loading spans");
        });
        return;
    }
    let trace = Arc::clone(&cx.open.trace);
    let answer = totals.get(&range, cx.jobs, ui.ctx(), move || totals_in_range(&trace, range));
    let Some((rows, current)) = answer else {
        ui.spinner();
        return;
    };
    ui.scope(|ui| {
        if !current {
            ui.set_opacity(0.6);
        }
        totals_ui(ui, cx, rows);
    });
}

pub(crate) fn totals_ui(ui: &mut Ui, cx: &mut Cx<'_>, rows: &[OpTotal]) {
    let compute: u64 = rows.iter().map(|row| row.compute_nanos).sum();
    let wait: Option<u64> = rows.iter().map(|row| row.wait_nanos).sum();
    ui.strong("Totals by operator");
    let waiting = wait.map_or(String::new(), |wait| format!(", waiting {}", text::nanos(wait)));
    ui.weak(format!("all threads: computing {}{waiting}", text::nanos(compute)));
    let right = Layout::right_to_left(Align::Center);
    TableBuilder::new(ui)
        .id_salt("totals")
        .vscroll(false)
        .cell_layout(right)
        .column(Column::remainder().clip(true))
        .column(Column::exact(50.0))
        .columns(Column::exact(60.0), 2)
        .header(ROW, |mut header| {
            for (name, hint) in [
                ("operator", "What the nodes compute; fused operators together"),
                ("share", "Part of all computing inside the range"),
                ("compute", "Time computing inside the range, summed over threads"),
                ("wait", "Time waiting at barriers inside the range, summed over threads"),
            ] {
                header.col(|ui| {
                    let layout = match name {
                        "operator" => Layout::left_to_right(Align::Center),
                        _ => Layout::right_to_left(Align::Center),
                    };
                    ui.with_layout(layout, |ui| {
                        ui.label(RichText::new(name).small().color(cx.colors.weak)).on_hover_text(hint);
                    });
                });
            }
        })
        .body(|body| {
            body.rows(ROW, rows.len(), |mut row| {
                let Some(total) = rows.get(row.index()) else { return };
                row.col(|ui| {
                    ui.with_layout(Layout::left_to_right(Align::Center), |ui| {
                        let color = cx.colors.op(OpClass::of(&total.op));
                        ui.spacing_mut().item_spacing.x = 5.0;
                        swatch_ui(ui, color);
                        let label = ui.add(egui::Label::new(total.op.as_str()).truncate());
                        label.on_hover_text(format!("{} executions", text::count(total.count)));
                    });
                });
                row.col(|ui| {
                    ui.label(text::percent(total.share));
                });
                row.col(|ui| {
                    ui.label(text::nanos(total.compute_nanos));
                });
                row.col(|ui| {
                    ui.label(total.wait_nanos.map_or_else(|| "–".into(), text::nanos));
                });
            });
        });
}
