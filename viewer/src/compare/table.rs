//! The table of what adds up to the change.

use crate::panel::{Cx, Explained as _};
use crate::text;
use egui::accesskit::Role;
use egui::{Align, Color32, Label, Layout, Rect, RichText, Sense, Ui, WidgetInfo, pos2, vec2};
use egui_extras::{Column, TableBuilder, TableRow};
use llmtrace_analysis::diff::{Contribution, Diff, NodeId};

const ROW: f32 = 21.0;

/// How the table is sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sort {
    by: By,
    reversed: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum By {
    /// What is beyond chance first, the largest change first.
    #[default]
    Sure,
    Name,
    A,
    B,
    Change,
    Percent,
}

/// A line.
pub(super) struct Line<'a> {
    name: String,
    a_ms: Option<f64>,
    b_ms: Option<f64>,
    ms: f64,
    half: Option<f64>,
    significant: bool,
    note: String,
    /// What can be chosen.
    part: Option<&'a Contribution>,
}

/// Column, header, terms of the glossary.
const HEADERS: [(By, &str, &[&str]); 7] = [
    (By::Name, "part", &["part", "between nodes", "outside graphs", "without a CPU", "rest"]),
    (By::A, "A", &["side A"]),
    (By::B, "B", &["side B", "side A"]),
    (By::Change, "B − A", &["B − A", "change of the median"]),
    (By::Percent, "%", &["% of A"]),
    (By::Sure, "± 95 %", &["± 95 %"]),
    // What became of it, and which node it mostly is.
    (By::Sure, "", &[]),
];

/// All lines of a comparison, in order.
pub(super) fn rows<'a>(diff: &Diff, parts: &'a [Contribution], sort: Sort) -> Vec<Line<'a>> {
    let mut lines: Vec<Line<'a>> = parts.iter().map(line).collect();
    let share = |line: &Line<'_>| line.a_ms.filter(|ms| *ms > 0.0).map_or(f64::INFINITY, |ms| line.ms / ms);
    match sort.by {
        By::Sure => {}
        By::Name => lines.sort_by(|a, b| a.name.cmp(&b.name)),
        By::A => lines.sort_by(|a, b| b.a_ms.unwrap_or(0.0).total_cmp(&a.a_ms.unwrap_or(0.0))),
        By::B => lines.sort_by(|a, b| b.b_ms.unwrap_or(0.0).total_cmp(&a.b_ms.unwrap_or(0.0))),
        By::Change => lines.sort_by(|a, b| b.ms.total_cmp(&a.ms)),
        By::Percent => lines.sort_by(|a, b| share(b).total_cmp(&share(a))),
    }
    if sort.reversed {
        lines.reverse();
    }
    let other = |name: &str, ms: f64, note: &str| Line {
        name: name.to_owned(),
        a_ms: None,
        b_ms: None,
        ms,
        half: None,
        significant: false,
        note: note.to_owned(),
        part: None,
    };
    if !parts.is_empty() {
        lines.extend(diff.outside_nodes(true).into_iter().map(|(name, ms, note)| other(name, ms, note)));
    }
    lines.push(Line {
        a_ms: Some(diff.a.median_ms),
        b_ms: Some(diff.b.median_ms),
        half: diff.change.ms_half,
        significant: diff.change.significant,
        ..other("change", diff.change.ms, "of the median")
    });
    lines
}

fn line(part: &Contribution) -> Line<'_> {
    let mut notes = Vec::new();
    match (part.a_ms, part.b_ms) {
        (None, _) => notes.push("only in B".to_owned()),
        (_, None) => notes.push("only in A".to_owned()),
        _ => {}
    }
    notes.extend(part.became.as_deref().map(text::arrows));
    notes.extend(part.mostly.as_ref().map(|name| format!("mostly {name}")));
    Line {
        name: if part.nodes > 1 { format!("{} ×{}", part.key, part.nodes) } else { part.key.clone() },
        a_ms: part.a_ms,
        b_ms: part.b_ms,
        ms: part.ms,
        half: part.ms_half,
        significant: part.significant,
        note: notes.join("; "),
        part: Some(part),
    }
}

impl Sort {
    /// Draws it; says which row was clicked.
    pub(super) fn table_ui<'a>(
        &mut self,
        ui: &mut Ui,
        cx: &Cx<'_>,
        lines: &[Line<'a>],
        chosen: Option<&[NodeId]>,
    ) -> Option<&'a Contribution> {
        let most = lines.iter().filter(|line| line.part.is_some()).map(|line| line.ms.abs());
        let most = most.fold(0.0, f64::max);
        let mut clicked = None;
        TableBuilder::new(ui)
            .striped(true)
            // As high as the panel, however low that is.
            .min_scrolled_height(0.0)
            .auto_shrink(false)
            .sense(Sense::click())
            .cell_layout(Layout::left_to_right(Align::Center))
            .column(Column::initial(200.0).at_least(110.0).resizable(true).clip(true))
            .columns(Column::exact(64.0), 2)
            .column(Column::exact(92.0))
            .columns(Column::exact(64.0), 2)
            .column(Column::remainder().at_least(60.0).clip(true))
            .header(ROW, |mut header| {
                for (by, name, terms) in HEADERS {
                    header.col(|ui| self.header_ui(ui, cx, by, name, terms));
                }
            })
            .body(|body| {
                body.rows(ROW, lines.len(), |mut row| {
                    let Some(line) = lines.get(row.index()) else { return };
                    let members = line.part.map(|part| part.members.as_slice());
                    row.set_selected(members.is_some() && members == chosen);
                    line.cells_ui(&mut row, cx, most);
                    let response = row.response();
                    response.widget_info(|| {
                        let name = format!("{}: {:+.4} ms", line.name, line.ms);
                        WidgetInfo::labeled(Role::Row, true, name)
                    });
                    if response.clicked() {
                        clicked = line.part;
                    }
                });
            });
        clicked
    }

    fn header_ui(&mut self, ui: &mut Ui, cx: &Cx<'_>, by: By, name: &str, terms: &[&'static str]) {
        let left = by == By::Name || name.is_empty();
        let layout =
            if left { Layout::left_to_right(Align::Center) } else { Layout::right_to_left(Align::Center) };
        ui.with_layout(layout, |ui| {
            let mark = match (self.by == by && !name.is_empty(), self.reversed) {
                (false, _) => "",
                (true, false) => " ⏷",
                (true, true) => " ⏶",
            };
            let text = RichText::new(format!("{name}{mark}")).small().color(cx.colors.weak);
            let label = ui.add(Label::new(text).sense(Sense::click())).explained(terms);
            if label.clicked() {
                *self = Self { by, reversed: self.by == by && !self.reversed };
            }
        });
    }
}

impl Line<'_> {
    fn cells_ui(&self, row: &mut TableRow<'_, '_>, cx: &Cx<'_>, most: f64) {
        let weak = self.part.is_none() && self.name != "change";
        let color = if weak { cx.colors.weak } else { cx.colors.text };
        let name = |ui: &mut Ui, text: &str, color: Color32| {
            let label = Label::new(RichText::new(text).color(color)).truncate().selectable(false);
            ui.add(label).on_hover_text(text);
        };
        let number = |ui: &mut Ui, text: RichText| {
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| ui.label(text.color(color)));
        };
        let ms = |value: Option<f64>| RichText::new(value.map_or_else(String::new, |ms| format!("{ms:.4}")));
        row.col(|ui| name(ui, &self.name, color));
        row.col(|ui| number(ui, ms(self.a_ms)));
        row.col(|ui| number(ui, ms(self.b_ms)));
        row.col(|ui| {
            if self.part.is_some() {
                self.bar_ui(ui, cx, most);
            }
            let text = RichText::new(format!("{:+.4}", self.ms));
            number(ui, if self.significant { text.strong() } else { text });
        });
        row.col(|ui| {
            let share = self.a_ms.filter(|ms| *ms > 0.0).map(|ms| self.ms * 100.0 / ms);
            number(ui, RichText::new(share.map_or_else(String::new, |share| format!("{share:+.1}"))));
        });
        row.col(|ui| {
            let star = if self.significant { " *" } else { "" };
            let text = self.half.map_or_else(String::new, |half| format!("{half:.4}{star}"));
            number(ui, RichText::new(text));
        });
        row.col(|ui| name(ui, &self.note, cx.colors.weak));
    }

    /// How large the change is beside the largest; pale where it may be chance.
    fn bar_ui(&self, ui: &Ui, cx: &Cx<'_>, most: f64) {
        let rect = ui.max_rect();
        let share = (self.ms.abs() / most.max(f64::MIN_POSITIVE)).min(1.0) as f32;
        let tint = if self.ms >= 0.0 { cx.colors.slower() } else { cx.colors.faster() };
        let size = vec2((rect.width() - 2.0) * share, rect.height() - 4.0);
        let bar = Rect::from_min_size(pos2(rect.right() - size.x, rect.top() + 2.0), size);
        ui.painter().rect_filled(bar, 2.0, tint.gamma_multiply(if self.significant { 0.42 } else { 0.18 }));
    }
}
