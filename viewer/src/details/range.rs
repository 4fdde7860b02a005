//! Totals of a selected range, by operator, layer, thread or name.

use super::Totals;
use crate::command::Command;
use crate::panel::{Cx, Explained as _, swatch_ui};
use crate::text;
use crate::theme::OpClass;
use egui::{Align, Layout, RichText, Ui};
use egui_extras::{Column, TableBuilder};
use llmtrace_analysis::TimeRange;
use llmtrace_analysis::stats::By;
use llmtrace_analysis::totals::{Total, totals_in_range};
use std::sync::Arc;

const ROW: f32 = 20.0;

/// What totals are by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TotalsBy(By);

impl Default for TotalsBy {
    fn default() -> Self {
        Self(By::Op)
    }
}

pub(crate) fn range_ui(
    ui: &mut Ui,
    cx: &mut Cx<'_>,
    range: TimeRange,
    by: &mut TotalsBy,
    totals: &mut Totals,
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
    super::around::around_ui(ui, cx, range);
    super::machine::range_ui(ui, cx, range);
    ui.separator();
    ui.horizontal(|ui| {
        ui.weak("totals by");
        for (choice, name) in
            [(By::Op, "operator"), (By::Layer, "layer"), (By::Thread, "thread"), (By::Name, "name")]
        {
            ui.selectable_value(&mut by.0, choice, name);
        }
    });
    let trace = Arc::clone(&cx.open.trace);
    let by = by.0;
    let answer = totals.get(&(range, by), cx.jobs, ui.ctx(), move |going| {
        totals_in_range(&trace, range, by, &|_| going.on()).ok()
    });
    let Some((rows, current)) = answer else {
        ui.spinner();
        return;
    };
    ui.scope(|ui| {
        if !current {
            ui.set_opacity(0.6);
        }
        totals_ui(ui, cx, by, rows);
    });
}

pub(crate) fn totals_ui(ui: &mut Ui, cx: &mut Cx<'_>, by: By, rows: &[Total]) {
    let compute: u64 = rows.iter().map(|row| row.compute_nanos).sum();
    let wait: Option<u64> = rows.iter().map(|row| row.wait_nanos).sum();
    let what = if by == By::Op { "operator" } else { by.name() };
    ui.strong(format!("Totals by {what}"));
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
            for (name, term) in
                [(what, "operator"), ("share", "share"), ("compute", "time"), ("wait", "wait")]
            {
                header.col(|ui| {
                    let layout = match name {
                        _ if name == what => Layout::left_to_right(Align::Center),
                        _ => Layout::right_to_left(Align::Center),
                    };
                    ui.with_layout(layout, |ui| {
                        ui.label(RichText::new(name).small().color(cx.colors.weak)).explained(&[term]);
                    });
                });
            }
        })
        .body(|body| {
            body.rows(ROW, rows.len(), |mut row| {
                let Some(total) = rows.get(row.index()) else { return };
                row.col(|ui| {
                    ui.with_layout(Layout::left_to_right(Align::Center), |ui| {
                        ui.spacing_mut().item_spacing.x = 5.0;
                        if by == By::Op {
                            swatch_ui(ui, cx.colors.op(OpClass::of(&total.key)));
                        }
                        let label = ui.add(egui::Label::new(total.key.as_str()).truncate());
                        label.on_hover_text(format!("{} op spans", text::count(total.spans)));
                    });
                });
                row.col(|ui| {
                    ui.label(text::percent(total.share));
                });
                row.col(|ui| {
                    ui.label(text::nanos(total.compute_nanos));
                });
                let wait = total.wait_nanos.map_or_else(|| "–".into(), text::nanos);
                row.col(|ui| {
                    ui.label(wait.as_str());
                });
                let cells =
                    [total.key.clone(), text::percent(total.share), text::nanos(total.compute_nanos), wait];
                crate::plot::announce_row(&row.response(), false, &cells);
            });
        });
}
