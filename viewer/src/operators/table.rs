//! The table: one row an operator, name, node, layer, module, shape or phase. The overview has the
//! short form of it.

use crate::panel::{Cx, Explained as _, swatch_ui};
use crate::text;
use crate::theme::OpClass;
use egui::{Align, Layout, Rect, RichText, Sense, Ui, pos2, vec2};
use egui_extras::{Column, TableBuilder};
use llmtrace_analysis::operators::{Group, Row};
use llmtrace_analysis::stats::waits_known;
use std::collections::HashMap;

const ROW: f32 = 22.0;
/// Bars of the small histograms.
const BARS: usize = 24;

/// How the table is sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    Key,
    Time,
    Wait,
    Count,
    Mean,
    Median,
    Tail,
    Longest,
    Bytes,
    Change,
}

/// Which columns there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// All for which there is room; rows can be chosen and drilled into.
    Full,
    /// Those that the sums of a file tell.
    Short,
}

/// What a table shows.
pub(crate) struct Contents<'a> {
    pub(crate) form: Form,
    pub(crate) group: Group,
    /// In order.
    pub(crate) rows: &'a [Row],
    /// Key of the chosen row.
    pub(crate) chosen: Option<&'a str>,
    /// A row to bring into sight.
    pub(crate) reveal: Option<usize>,
    /// Means of what is compared with, by key.
    pub(crate) kept: Option<&'a HashMap<String, f64>>,
}

/// Column, header, terms of the glossary.
const HEADERS: [(By, &str, &[&str]); 11] = [
    (By::Key, "", &[]),
    (By::Time, "share", &["share"]),
    (By::Time, "time", &["time"]),
    (By::Wait, "wait", &["wait", "wait share"]),
    (By::Count, "count", &["count"]),
    (By::Mean, "mean", &["mean", "wall"]),
    (By::Median, "p50", &["median", "wall"]),
    (By::Tail, "p99", &["percentile", "wall"]),
    (By::Longest, "durations", &["histogram"]),
    (By::Bytes, "GB/s", &["bytes/s"]),
    (By::Change, "change", &["change"]),
];

/// What the user did to a row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Acted {
    /// Chose it, or chose nothing again.
    Choose(String),
    /// Drilled into it.
    Into(String),
}

impl Sort {
    /// Draws the table of rows that are in order.
    pub(crate) fn table_ui(&mut self, ui: &mut Ui, cx: &Cx<'_>, contents: &Contents<'_>) -> Option<Acted> {
        let Contents { form, group, rows, chosen, kept, .. } = *contents;
        let waits = waits_known(&cx.open.trace);
        let top = rows.iter().map(|row| row.share).fold(0.0, f64::max);
        let mut acted = None;
        let width = ui.available_width();
        // Narrow tables leave out what the panel beside them tells as well.
        let columns: Vec<(By, &str, &[&str])> = HEADERS
            .into_iter()
            .filter(|(by, name, _)| match (form, by) {
                (Form::Short, _) => {
                    matches!(by, By::Key | By::Time | By::Wait | By::Count | By::Mean)
                }
                (_, By::Change) => kept.is_some(),
                _ => width >= 900.0 || !matches!(*name, "mean" | "p99" | "GB/s"),
            })
            .collect();
        let first = if group == Group::Shape { 300.0 } else { 170.0 };
        let mut table = TableBuilder::new(ui)
            .striped(true)
            .vscroll(form == Form::Full)
            .sense(Sense::click())
            .cell_layout(Layout::left_to_right(Align::Center))
            .column(Column::initial(first).at_least(120.0).resizable(true).clip(true))
            .column(Column::remainder().at_least(96.0).clip(true));
        if let Some(row) = contents.reveal {
            table = table.scroll_to_row(row, None);
        }
        for (_, name, _) in columns.iter().skip(2) {
            table = table.column(Column::exact(if *name == "durations" { 96.0 } else { 70.0 }));
        }
        table
            .header(ROW, |mut header| {
                for (by, name, terms) in &columns {
                    let name = if *by == By::Key { group.name() } else { name };
                    header.col(|ui| self.header_ui(ui, cx, *by, name, terms));
                }
            })
            .body(|body| {
                body.rows(ROW, rows.len(), |mut line| {
                    let Some(row) = rows.get(line.index()) else { return };
                    line.set_selected(chosen == Some(row.key.as_str()));
                    let drilled = (form == Form::Full).then_some(group).and_then(Group::below).is_some();
                    let change = kept.and_then(|kept| change(row, kept));
                    let into = row_ui(&mut line, cx, (row, drilled), (top, waits, change), &columns);
                    let response = line.response();
                    let name = format!("{}: {}", row.key, text::percent(row.share));
                    crate::plot::announce_row(&response, chosen == Some(row.key.as_str()), &[name]);
                    if into || drilled && response.double_clicked() {
                        acted = Some(Acted::Into(row.key.clone()));
                    } else if response.clicked() {
                        acted = Some(Acted::Choose(row.key.clone()));
                    }
                });
            });
        acted
    }

    fn header_ui(&mut self, ui: &mut Ui, cx: &Cx<'_>, by: By, name: &str, terms: &[&'static str]) {
        let left = by == By::Key || name == "share" || name == "durations";
        let layout =
            if left { Layout::left_to_right(Align::Center) } else { Layout::right_to_left(Align::Center) };
        ui.with_layout(layout, |ui| {
            let arrow = match (self.by == by && name != "share", self.ascending) {
                (false, _) => "",
                (true, true) => " ⏶",
                (true, false) => " ⏷",
            };
            let text = RichText::new(format!("{name}{arrow}")).small().color(cx.colors.weak);
            let label = egui::Label::new(text).sense(Sense::click()).selectable(false);
            if ui.add(label).explained(terms).clicked() {
                *self = if self.by == by {
                    Self { by, ascending: !self.ascending }
                } else {
                    Self { by, ascending: by == By::Key }
                };
            }
        });
    }

    /// Puts rows in order. Keys are found once: a trace may have a million names.
    pub(crate) fn apply(self, rows: &mut [Row], kept: Option<&HashMap<String, f64>>) {
        let percentile = |row: &Row, percent| row.sums.walls.percentile(percent).unwrap_or(0);
        rows.sort_by_cached_key(|row| {
            let number = match self.by {
                // Layers are numbers, and sort as such.
                By::Key => row.key.parse().unwrap_or(u64::MAX),
                By::Time => row.sums.compute,
                // Bits of what is not negative sort as its value does.
                By::Wait => wait_share(row).to_bits(),
                By::Count => row.sums.count,
                By::Mean => row.sums.mean().to_bits(),
                By::Median => percentile(row, 50.0),
                By::Tail => percentile(row, 99.0),
                By::Longest => row.sums.longest.0,
                By::Bytes => rate(row).unwrap_or(0.0).to_bits(),
                // From -1 up; what was not there before comes last.
                By::Change => {
                    kept.and_then(|kept| change(row, kept)).map_or(0, |change| (change + 2.0).to_bits())
                }
            };
            (number, row.key.clone())
        });
        if !self.ascending {
            rows.reverse();
        }
    }
}

/// How much longer an execution takes than it did in what was kept, as a part of that.
fn change(row: &Row, kept: &HashMap<String, f64>) -> Option<f64> {
    let before = *kept.get(&row.key)?;
    (before > 0.0).then(|| row.sums.mean() / before - 1.0)
}

fn wait_share(row: &Row) -> f64 {
    row.sums.wait as f64 / (row.sums.wait.saturating_add(row.sums.compute)).max(1) as f64
}

/// Bytes a nanosecond, which is GB/s, while the threads computed.
fn rate(row: &Row) -> Option<f64> {
    let bytes = row.bytes.filter(|&bytes| bytes > 0)?;
    let threads = row.sums.lanes.values().filter(|(compute, _)| *compute > 0).count().max(1);
    (row.sums.compute > 0).then(|| bytes as f64 / (row.sums.compute as f64 / threads as f64))
}

/// Draws a row; says whether it was drilled into.
fn row_ui(
    line: &mut egui_extras::TableRow<'_, '_>,
    cx: &Cx<'_>,
    (row, drilled): (&Row, bool),
    (top, waits, change): (f64, bool, Option<f64>),
    columns: &[(By, &str, &[&str])],
) -> bool {
    let color = row.op.as_deref().map_or(cx.colors.weak, |op| cx.colors.op(OpClass::of(op)));
    let mut into = false;
    line.col(|ui| {
        ui.spacing_mut().item_spacing.x = 6.0;
        swatch_ui(ui, color);
        if drilled {
            let button = egui::Button::new("⏵").small().frame(false);
            let hint = format!("{} different nodes; see what it is made of", row.nodes);
            into = ui.add(button).on_hover_text(hint).clicked();
        }
        ui.add(egui::Label::new(row.key.as_str()).selectable(false).truncate());
    });
    line.col(|ui| {
        let (rect, _) = ui.allocate_exact_size(vec2(ui.available_width() - 8.0, 12.0), Sense::hover());
        let full = (rect.width() - 48.0).max(1.0);
        let width = ((row.share / top.max(1e-9)) as f32 * full).max(1.0);
        ui.painter().rect_filled(Rect::from_min_size(rect.min, vec2(width, rect.height())), 2.0, color);
        let at = pos2(rect.left() + width + 5.0, rect.center().y);
        let font = egui::FontId::proportional(12.0);
        ui.painter().text(at, egui::Align2::LEFT_CENTER, text::percent(row.share), font, cx.colors.text);
    });
    let percentile = |percent| row.sums.walls.percentile(percent).map_or_else(|| "–".into(), text::nanos);
    for (by, name, _) in columns.iter().skip(2) {
        line.col(|ui| {
            if *name == "durations" {
                return small_histogram_ui(ui, cx, row, color);
            }
            let value = match by {
                By::Wait if !waits => "–".into(),
                By::Wait => text::percent(wait_share(row)),
                By::Change => change.map_or_else(|| "–".into(), |part| format!("{:+.1} %", part * 100.0)),
                By::Count => text::count(row.sums.count),
                By::Mean => text::nanos_f64(row.sums.mean()),
                By::Median => percentile(50.0),
                By::Tail => percentile(99.0),
                By::Bytes => rate(row).map_or_else(|| "–".into(), text::trim),
                By::Key | By::Time | By::Longest => text::nanos(row.sums.compute),
            };
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                ui.add(egui::Label::new(value).selectable(false));
            });
        });
    }
    into
}

fn small_histogram_ui(ui: &mut Ui, cx: &Cx<'_>, row: &Row, color: egui::Color32) {
    let (rect, response) = ui.allocate_exact_size(vec2(ui.available_width() - 4.0, 16.0), Sense::hover());
    let picture = row.sums.walls.picture(BARS);
    let most = picture.iter().max().copied().unwrap_or(0).max(1) as f32;
    let each = rect.width() / BARS as f32;
    for (at, count) in picture.iter().enumerate().filter(|(_, count)| **count > 0) {
        let height = (*count as f32 / most * rect.height()).max(1.0);
        let left = rect.left() + at as f32 * each;
        let bar = Rect::from_min_max(
            pos2(left, rect.bottom() - height),
            pos2(left + (each - 0.5).max(1.0), rect.bottom()),
        );
        ui.painter().rect_filled(bar, 0.0, color);
    }
    ui.painter().hline(rect.x_range(), rect.bottom(), egui::Stroke::new(1.0, cx.colors.line));
    response.on_hover_ui(|ui| {
        ui.label(format!("{} to {}", text::nanos(row.sums.shortest), text::nanos(row.sums.longest.0)));
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use llmtrace_analysis::operators::{Histogram, Sums};

    fn row(key: &str, compute: u64, wait: u64, walls: &[u64]) -> Row {
        let mut histogram = Histogram::default();
        walls.iter().for_each(|wall| histogram.add(*wall));
        let sums = Sums {
            count: walls.len() as u64,
            compute,
            wait,
            wall: walls.iter().sum(),
            longest: (walls.iter().max().copied().unwrap_or(0), 0),
            walls: histogram,
            ..Sums::default()
        };
        Row { key: key.into(), op: None, nodes: 1, sums, share: 0.1, bytes: None }
    }

    #[test]
    fn every_column_sorts() {
        let rows = [row("10", 100, 30, &[5, 9]), row("9", 300, 10, &[1]), row("2", 200, 80, &[2, 2, 90])];
        let order = |by, ascending| {
            let mut rows = rows.clone();
            Sort { by, ascending }.apply(&mut rows, None);
            rows.iter().map(|row| row.key.as_str()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(order(By::Key, true), "2 9 10");
        assert_eq!(order(By::Time, false), "9 2 10");
        assert_eq!(order(By::Wait, false), "2 10 9");
        assert_eq!(order(By::Count, false), "2 10 9");
        assert_eq!(order(By::Mean, true), "9 10 2");
        assert_eq!(order(By::Median, true), "9 2 10");
        assert_eq!(order(By::Longest, false), "2 10 9");
        // Means are 7, 1 and 31.3.
        let kept = HashMap::from([("10".to_owned(), 14.0), ("2".to_owned(), 10.0)]);
        let mut rows = rows.clone();
        Sort { by: By::Change, ascending: false }.apply(&mut rows, Some(&kept));
        assert_eq!(rows.iter().map(|row| row.key.as_str()).collect::<Vec<_>>(), ["2", "10", "9"]);
        assert_eq!(change(&rows[1], &kept), Some(-0.5));
    }
}
