//! The table of operators.

use crate::command::Command;
use crate::panel::{Cx, Explained as _, swatch_ui};
use crate::text;
use crate::theme::OpClass;
use egui::{Align, Layout, Rect, RichText, Sense, Ui, vec2};
use egui_extras::{Column, TableBuilder};
use llmtrace_analysis::summary::Operator;
use std::cmp::Ordering;

const ROW: f32 = 22.0;

/// How the table is sorted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sort {
    by: By,
    ascending: bool,
}

impl Default for Sort {
    fn default() -> Self {
        Self { by: By::Time, ascending: false }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Op,
    Time,
    Wait,
    Count,
    Mean,
}

/// Column, header, term of the glossary.
const HEADERS: [(By, &str, &str); 6] = [
    (By::Op, "operator", "operator"),
    (By::Time, "share", "share"),
    (By::Time, "time", "time"),
    (By::Wait, "wait", "wait"),
    (By::Count, "count", "count"),
    (By::Mean, "per execution", "each"),
];

impl Sort {
    pub(crate) fn operators_ui(&mut self, ui: &mut Ui, cx: &mut Cx<'_>) {
        let summary = std::sync::Arc::clone(&cx.open.summary);
        if let Some(progress) = cx.open.loading {
            ui.add(egui::ProgressBar::new(progress).desired_width(240.0).text("counting nodes"));
            return;
        }
        if summary.operators.is_empty() {
            ui.weak("no op spans were recorded; record at level op or thread to see operators");
            return;
        }
        let rows = self.sorted(&summary.operators);
        let top = summary.operators.iter().map(|op| op.share).fold(0.0, f64::max);
        ui.push_id("operators", |ui| {
            TableBuilder::new(ui)
                .striped(true)
                .vscroll(false)
                .sense(Sense::click())
                .cell_layout(Layout::left_to_right(Align::Center))
                .column(Column::auto().at_least(190.0))
                .column(Column::remainder().at_least(120.0))
                .columns(Column::exact(84.0), 2)
                .column(Column::exact(74.0))
                .column(Column::exact(96.0))
                .header(ROW, |mut header| {
                    for (by, name, term) in HEADERS {
                        header.col(|ui| self.header_ui(ui, cx, by, name, term));
                    }
                })
                .body(|body| {
                    body.rows(ROW, rows.len(), |mut row| {
                        let Some(operator) = rows.get(row.index()) else { return };
                        row_ui(&mut row, cx, operator, top);
                        let response =
                            row.response().on_hover_text("Click to find its nodes in the timeline");
                        if response.clicked() {
                            cx.commands.push(Command::FindFor(operator.op.clone()));
                        }
                    });
                });
        });
    }

    fn header_ui(&mut self, ui: &mut Ui, cx: &Cx<'_>, by: By, name: &str, term: &'static str) {
        let numeric = !matches!(name, "operator" | "share");
        let layout =
            if numeric { Layout::right_to_left(Align::Center) } else { Layout::left_to_right(Align::Center) };
        ui.with_layout(layout, |ui| {
            let arrow = match (self.by == by && name != "share", self.ascending) {
                (false, _) => "",
                (true, true) => " ⏶",
                (true, false) => " ⏷",
            };
            let text = RichText::new(format!("{name}{arrow}")).small().color(cx.colors.weak);
            let label = egui::Label::new(text).sense(Sense::click()).selectable(false);
            if ui.add(label).explained(&[term]).clicked() {
                *self = if self.by == by {
                    Self { by, ascending: !self.ascending }
                } else {
                    Self { by, ascending: by == By::Op }
                };
            }
        });
    }

    fn sorted<'a>(&self, operators: &'a [Operator]) -> Vec<&'a Operator> {
        let mut rows: Vec<&Operator> = operators.iter().collect();
        rows.sort_by(|a, b| {
            let order = match self.by {
                By::Op => a.op.cmp(&b.op),
                By::Time => a.compute_nanos.cmp(&b.compute_nanos),
                By::Wait => a.wait_nanos.cmp(&b.wait_nanos),
                By::Count => a.count.cmp(&b.count),
                By::Mean => mean(a).partial_cmp(&mean(b)).unwrap_or(Ordering::Equal),
            };
            if self.ascending { order } else { order.reverse() }
        });
        rows
    }
}

fn mean(operator: &Operator) -> f64 {
    operator.critical_nanos as f64 / operator.count.max(1) as f64
}

fn row_ui(row: &mut egui_extras::TableRow<'_, '_>, cx: &Cx<'_>, operator: &Operator, top: f64) {
    let color = cx.colors.op(OpClass::of(&operator.op));
    row.col(|ui| {
        ui.spacing_mut().item_spacing.x = 6.0;
        swatch_ui(ui, color);
        ui.add(egui::Label::new(operator.op.as_str()).selectable(false));
    });
    row.col(|ui| {
        let (rect, _) = ui.allocate_exact_size(vec2(ui.available_width() - 12.0, 12.0), Sense::hover());
        let full = rect.width() - 58.0;
        let width = (operator.share / top.max(1e-9)) as f32 * full;
        ui.painter().rect_filled(
            Rect::from_min_size(rect.min, vec2(width.max(1.0), rect.height())),
            2.0,
            color,
        );
        let at = egui::pos2(rect.left() + width + 6.0, rect.center().y);
        let font = egui::FontId::proportional(12.0);
        ui.painter().text(at, egui::Align2::LEFT_CENTER, text::percent(operator.share), font, cx.colors.text);
    });
    let wait = operator.wait_nanos.map_or_else(|| "–".into(), text::nanos);
    for value in [
        text::nanos(operator.compute_nanos),
        wait,
        text::count(operator.count),
        text::nanos_f64(mean(operator)),
    ] {
        row.col(|ui| {
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                ui.add(egui::Label::new(value).selectable(false));
            });
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_sort_by_every_column() {
        let op = |op: &str, compute_nanos, wait_nanos, count| Operator {
            op: op.into(),
            count,
            compute_nanos,
            wait_nanos: Some(wait_nanos),
            critical_nanos: compute_nanos,
            share: 0.5,
            wait_share: None,
        };
        let operators = [op("A", 10, 3, 7), op("B", 30, 1, 90), op("C", 20, 2, 8)];
        let order = |by, ascending| {
            let rows = Sort { by, ascending }.sorted(&operators);
            rows.iter().map(|row| row.op.as_str()).collect::<String>()
        };
        assert_eq!(order(By::Time, false), "BCA");
        assert_eq!(order(By::Time, true), "ACB");
        assert_eq!(order(By::Wait, false), "ACB");
        assert_eq!(order(By::Count, false), "BCA");
        assert_eq!(order(By::Op, true), "ABC");
        assert_eq!(order(By::Mean, false), "CAB");
    }
}
