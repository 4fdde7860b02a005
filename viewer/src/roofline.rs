//! The roofline: what each operator reaches of what the machine could do.

use crate::answers::Answers;
use crate::command::Command;
use crate::panel::{Cx, Explained as _, swatch_ui};
use crate::plot;
use crate::state::Page;
use crate::text;
use crate::theme::{Colors, OpClass};
use egui::{Align, ComboBox, Layout, RichText, ScrollArea, Sense, Ui};
use egui_extras::{Column, TableBuilder};
use egui_plot::{HoverPosition, Line, Plot, PlotPoint, PlotPoints, Points, Text};
use llmtrace_analysis::Phase;
use llmtrace_analysis::ceilings::Roofs;
use llmtrace_analysis::explain::Explanation;
use llmtrace_analysis::roofline::{Of, Row, rows};
use std::sync::Arc;

const PLOT_HEIGHT: f32 = 360.0;
const ROW: f32 = 22.0;
/// Width of a column of numbers.
const NUMBER: f32 = 78.0;
/// Most rows of the table; the plot shows all.
const MOST_ROWS: usize = 200;
/// How near to a point the pointer counts, in powers of ten.
const NEAR: f64 = 0.08;

/// The page's own state.
pub struct Roofline {
    of: Of,
    phase: Phase,
    /// The rows of the shown choice.
    known: Option<(Of, Phase, Vec<Row>)>,
}

impl Default for Roofline {
    fn default() -> Self {
        Self { of: Of::Op, phase: Phase::Decode, known: None }
    }
}

impl Roofline {
    /// The rows that are shown; `None` before they are known.
    pub(crate) fn shown(&self) -> Option<&[Row]> {
        self.known.as_ref().map(|(.., rows)| rows.as_slice())
    }

    /// Forgets the rows, but not what was chosen.
    pub(crate) fn forget(&mut self) {
        self.known = None;
    }

    /// What they stand for.
    pub(crate) fn of(&self) -> Of {
        self.of
    }

    /// Draws the page.
    pub fn roofline_ui(&mut self, ui: &mut Ui, cx: &mut Cx<'_>, answers: &mut Answers) {
        ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
            egui::Frame::new().inner_margin(16).show(ui, |ui| {
                if let Some(why) = crate::timeline::no_threads(cx.open) {
                    ui.label(RichText::new("No roofline").heading());
                    ui.label(format!("{why}. It is not known how long operators took."));
                    return;
                }
                let Some(found) = answers.get_ui(ui, cx) else { return };
                self.contents_ui(ui, cx, &found);
            });
        });
    }

    fn contents_ui(&mut self, ui: &mut Ui, cx: &mut Cx<'_>, found: &Arc<Explanation>) {
        ui.horizontal_wrapped(|ui| {
            ui.label(RichText::new("Roofline").heading().strong());
            ui.add_space(12.0);
            ComboBox::from_id_salt("phase").selected_text(self.phase.name()).show_ui(ui, |ui| {
                for answer in &found.phases {
                    ui.selectable_value(&mut self.phase, answer.phase, answer.phase.name());
                }
            });
            ui.label("by");
            ComboBox::from_id_salt("of").selected_text(self.of.name()).show_ui(ui, |ui| {
                for of in Of::ALL {
                    ui.selectable_value(&mut self.of, of, of.name());
                }
            });
            ui.weak(roofs_text(&found.roofs, found.profile.threads));
        });
        if found.roofs.bytes.is_none() {
            ui.label("This trace has no ceilings of its host, so that there are no roofs. Run `llmtrace calibrate` there, then record again.");
        }
        if !found.phases.iter().any(|answer| answer.phase == self.phase) {
            self.phase = found.phases.first().map_or(Phase::Decode, |answer| answer.phase);
        }
        let fresh = self.known.as_ref().is_some_and(|(of, phase, _)| (*of, *phase) == (self.of, self.phase));
        if !fresh {
            let rows = rows(&found.profile, &found.roofs, self.of, Some(self.phase));
            self.known = Some((self.of, self.phase, rows));
        }
        let Some((_, _, rows)) = &self.known else { return };
        plot_ui(ui, cx, rows, &found.roofs);
        ui.weak("Click a point or a row to see its longest execution in the timeline. Above the slope, operands came from caches.");
        ui.add_space(8.0);
        table_ui(ui, cx, rows);
    }
}

fn roofs_text(roofs: &Roofs, threads: u32) -> String {
    let giga = |rate: Option<f64>| rate.map_or_else(|| "–".to_owned(), |rate| text::trim(rate / 1e9));
    format!(
        "roofs with {threads} threads: {} GB/s · {} Gop/s f32 · {} Gop/s int8",
        giga(roofs.bytes),
        giga(roofs.f32_ops),
        giga(roofs.int8_ops)
    )
}

/// Powers of ten of operations a byte and operations a second.
pub(crate) fn place(row: &Row) -> Option<[f64; 2]> {
    Some([row.group.intensity()?.log10(), row.group.flops_per_second()?.log10()])
}

/// An empty roofline: logarithms of operations a second over operations a byte, from `left` to
/// `right` and at least from `bottom` on. `labels` are shown at their places.
pub(crate) fn axes(
    id: &'static str,
    (left, right): (f64, f64),
    bottom: f64,
    labels: Vec<(String, [f64; 2])>,
    colors: &Colors,
) -> Plot<'static> {
    plot::still(id)
        .include_x(left)
        .include_x(right)
        .include_y(bottom)
        .grid_color(colors.line)
        .x_axis_label("operations a byte")
        .x_axis_formatter(|mark, _| power(mark.value, ""))
        .y_axis_formatter(|mark, _| power(mark.value - 9.0, " Gop/s"))
        .label_formatter(move |at| match at {
            HoverPosition::NearDataPoint { position, .. } => {
                let same = |place: &[f64; 2]| {
                    (place[0] - position.x).abs() < 1e-9 && (place[1] - position.y).abs() < 1e-9
                };
                labels.iter().find(|(_, place)| same(place)).map(|(label, _)| label.clone())
            }
            HoverPosition::Elsewhere { .. } => None,
        })
}

fn plot_ui(ui: &mut Ui, cx: &mut Cx<'_>, rows: &[Row], roofs: &Roofs) {
    let points: Vec<(&Row, [f64; 2])> = rows.iter().filter_map(|row| Some((row, place(row)?))).collect();
    let colors = cx.colors;
    let edge = |at: fn(f64, f64) -> f64, axis: usize, other: f64| {
        points.iter().filter_map(|(_, place)| place.get(axis)).fold(other, |edge, value| at(edge, *value))
    };
    let (left, right) = (edge(f64::min, 0, -2.0) - 0.2, edge(f64::max, 0, 3.0) + 0.2);
    let near = |at: PlotPoint| {
        let distance = |place: &[f64; 2]| (place[0] - at.x).hypot((place[1] - at.y) * 0.5);
        let nearest = points.iter().min_by(|a, b| distance(&a.1).total_cmp(&distance(&b.1)))?;
        (distance(&nearest.1) < NEAR).then_some(nearest.0)
    };
    let labels: Vec<(String, [f64; 2])> = points.iter().map(|(row, place)| (label(row), *place)).collect();
    let response = axes("roofline", (left, right), edge(f64::min, 1, 8.0) - 0.3, labels, colors)
        .height(plot::height(ui, PLOT_HEIGHT))
        .show(ui, |plot| {
            for (name, ops) in [("f32", roofs.f32_ops), ("int8", roofs.int8_ops)] {
                let (Some(ops), Some(bytes)) = (ops, roofs.bytes) else { continue };
                let (top, bytes) = (ops.log10(), bytes.log10());
                let knee = top - bytes;
                let line = vec![[left, left + bytes], [knee, top], [right.max(knee + 0.3), top]];
                plot.line(Line::new(name, PlotPoints::from(line)).color(colors.weak).width(1.4));
                let text = RichText::new(name).color(colors.weak);
                let at = PlotPoint::new(right.max(knee + 0.3), top);
                plot.text(Text::new(name, at, text).anchor(egui::Align2::RIGHT_BOTTOM));
            }
            for (row, place) in &points {
                let op = row.op.as_deref().unwrap_or(&row.key);
                let color = colors.op(OpClass::of(op));
                plot.points(
                    Points::new(row.key.clone(), PlotPoints::from(vec![*place])).radius(4.5).color(color),
                );
            }
            plot.pointer_coordinate()
        });
    plot::announce(ui, &response, "operators against the roofs", points.len(), |at| {
        let (row, place) = points.get(at)?;
        Some((*place, label(row).replace('\n', ", ")))
    });
    let clicked = response.response.clicked();
    if let Some(row) = response.inner.filter(|_| clicked).and_then(near) {
        show(cx, row);
    }
}

fn label(row: &Row) -> String {
    let share = row
        .group
        .roof_share()
        .map_or_else(String::new, |share| format!("\n{} of its roof", text::percent(share)));
    format!("{}{share}\n{}", row.key, row.verdict.bound.name())
}

/// A power of ten as a number.
fn power(exponent: f64, unit: &str) -> String {
    if exponent.fract().abs() > 1e-6 {
        return String::new();
    }
    format!("{}{unit}", 10f64.powf(exponent))
}

fn show(cx: &mut Cx<'_>, row: &Row) {
    cx.commands.push(Command::Show(Page::Timeline));
    cx.commands.push(Command::ZoomTo(row.group.longest));
}

/// Cells of a row; the one of bytes from memory only where these were counted.
const COLUMNS: usize = 10;
const FROM_MEMORY: &str = "from memory";
const FROM_MEMORY_AT: usize = 6;

fn table_ui(ui: &mut Ui, cx: &mut Cx<'_>, rows: &[Row]) {
    let counted = rows.iter().any(|row| row.group.traffic.is_some());
    let headers: [(&str, &[&'static str]); COLUMNS] = [
        ("", &[]),
        ("wall", &["wall"]),
        ("each", &["each"]),
        ("op/byte", &["intensity"]),
        ("Gop/s", &["op/s"]),
        ("GB/s", &["bytes/s"]),
        (FROM_MEMORY, &["from memory"]),
        ("of roof", &["of roof", "roof", "ceiling"]),
        ("limit", &["verdict", "memory-bound", "compute-bound"]),
        ("confidence", &["confidence"]),
    ];
    let rows = rows.get(..MOST_ROWS).unwrap_or(rows);
    let numbers = if counted { 7 } else { 6 };
    // Numbers stand near what they are of, however wide the window is.
    let others = numbers as f32 * (NUMBER + ui.spacing().item_spacing.x) + 300.0;
    let name = (ui.available_width() - others).clamp(150.0, 380.0);
    TableBuilder::new(ui)
        .striped(true)
        .vscroll(false)
        .sense(Sense::click())
        .cell_layout(Layout::left_to_right(Align::Center))
        .column(Column::exact(name).clip(true))
        .columns(Column::exact(NUMBER), numbers)
        .column(Column::exact(170.0))
        .column(Column::remainder())
        .header(ROW, |mut header| {
            for (name, terms) in headers.into_iter().filter(|(name, _)| counted || *name != FROM_MEMORY) {
                header.col(|ui| {
                    ui.label(RichText::new(name).small().color(cx.colors.weak)).explained(terms);
                });
            }
        })
        .body(|body| {
            body.rows(ROW, rows.len(), |mut line| {
                let Some(row) = rows.get(line.index()) else { return };
                let mut cells = cells(row).to_vec();
                if !counted {
                    cells.remove(FROM_MEMORY_AT);
                }
                for (at, cell) in cells.iter().enumerate() {
                    line.col(|ui| {
                        if at == 0 {
                            swatch_ui(ui, cx.colors.op(OpClass::of(row.op.as_deref().unwrap_or(&row.key))));
                        }
                        ui.add(egui::Label::new(cell.as_str()).truncate());
                    });
                }
                plot::announce_row(&line.response(), false, &cells);
                if line.response().clicked() {
                    show(cx, row);
                }
            });
        });
}

fn cells(row: &Row) -> [String; COLUMNS] {
    let group = &row.group;
    let traffic = group.traffic;
    let unknown = || "–".to_owned();
    let most = if group.at_most { "≤ " } else { "" };
    let rate =
        |rate: Option<f64>| rate.map_or_else(unknown, |rate| format!("{most}{}", text::trim(rate / 1e9)));
    [
        row.key.clone(),
        text::nanos(group.wall_nanos),
        text::nanos_f64(group.mean_nanos()),
        group.intensity().map_or_else(unknown, text::trim),
        rate(group.flops_per_second()),
        rate(group.bytes_per_second()),
        traffic.and_then(|traffic| traffic.ratio()).map_or_else(unknown, |ratio| format!("{ratio:.2} ×")),
        group.roof_share().map_or_else(unknown, text::percent),
        row.verdict.bound.name().to_owned(),
        row.verdict.confidence.name().to_owned(),
    ]
}
