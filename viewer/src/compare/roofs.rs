//! What operators reach of what the hosts could do, of both traces on one chart.

use super::Pair;
use crate::answers::Answers;
use crate::panel::Cx;
use crate::roofline::{axes, place};
use crate::text;
use egui::{ComboBox, RichText, Ui};
use egui_plot::{Line, MarkerShape, PlotPoint, PlotPoints, Points, Text};
use llmtrace_analysis::Phase;
use llmtrace_analysis::explain::Explanation;
use llmtrace_analysis::roofline::{Of, Row, rows};
use std::sync::Arc;

/// Most arrows from A to B.
const MOST: usize = 60;

/// The chart's own state.
pub(super) struct Rooflines {
    of: Of,
    known: Option<(Of, Phase, [Vec<Row>; 2])>,
}

impl Default for Rooflines {
    fn default() -> Self {
        Self { of: Of::Op, known: None }
    }
}

impl Rooflines {
    pub(super) fn rooflines_ui(
        &mut self,
        ui: &mut Ui,
        cx: &Cx<'_>,
        pair: Pair<'_>,
        answers: [&mut Answers; 2],
        (phase, chosen): (Phase, Option<&str>),
    ) {
        let [of_a, of_b] = answers;
        let commands = &mut Vec::new();
        let second = Cx { open: pair.b, colors: cx.colors, jobs: cx.jobs, commands };
        let (a, b) = (of_a.get_ui(ui, cx), of_b.get_ui(ui, &second));
        let (Some(a), Some(b)) = (a, b) else { return };
        ui.horizontal(|ui| {
            ui.label("by");
            ComboBox::from_id_salt("compared roofs").selected_text(self.of.name()).show_ui(ui, |ui| {
                for of in Of::ALL {
                    ui.selectable_value(&mut self.of, of, of.name());
                }
            });
            ui.colored_label(cx.colors.side(false), "A: circles");
            ui.colored_label(cx.colors.side(true), "B: diamonds");
        });
        let none = [&a, &b].map(|found| found.roofs.bytes.is_none());
        let why = match none {
            [true, true] => "no roofs: neither host was calibrated before recording",
            [true, false] => "A has no roof: its host was not calibrated before recording",
            [false, true] => "B has no roof: its host was not calibrated before recording",
            [false, false] => "",
        };
        if !why.is_empty() {
            ui.add(egui::Label::new(RichText::new(why).color(cx.colors.weak)).truncate());
        }
        if self.known.as_ref().is_none_or(|(of, known, _)| (*of, *known) != (self.of, phase)) {
            let found = [&a, &b].map(|found| rows(&found.profile, &found.roofs, self.of, Some(phase)));
            self.known = Some((self.of, phase, found));
        }
        let Some((_, _, rows)) = &self.known else { return };
        plot_ui(ui, cx, rows, [&a, &b], chosen);
    }
}

/// A point of the chart.
struct Dot<'a> {
    row: &'a Row,
    place: [f64; 2],
    second: bool,
}

fn dots(rows: &[Vec<Row>; 2]) -> Vec<Dot<'_>> {
    let mut dots = Vec::new();
    for (rows, second) in rows.iter().zip([false, true]) {
        dots.extend(rows.iter().filter_map(|row| Some(Dot { row, place: place(row)?, second })));
    }
    dots
}

fn plot_ui(
    ui: &mut Ui,
    cx: &Cx<'_>,
    rows: &[Vec<Row>; 2],
    found: [&Arc<Explanation>; 2],
    chosen: Option<&str>,
) {
    let dots = dots(rows);
    if dots.is_empty() {
        ui.weak("nothing of this phase has known work");
        return;
    }
    let colors = cx.colors;
    let edge = |at: fn(f64, f64) -> f64, axis: usize, other: f64| {
        dots.iter().filter_map(|dot| dot.place.get(axis)).fold(other, |edge, value| at(edge, *value))
    };
    let (left, right) = (edge(f64::min, 0, 0.0) - 0.3, edge(f64::max, 0, 1.0) + 0.3);
    let roofs = found.iter().filter_map(|found| found.roofs.int8_ops.or(found.roofs.f32_ops));
    let top = roofs.map(f64::log10).fold(edge(f64::max, 1, 8.0), f64::max);
    let labels: Vec<(String, [f64; 2])> = dots.iter().map(|dot| (label(dot), dot.place)).collect();
    axes("compared rooflines", (left, right), edge(f64::min, 1, 8.0) - 0.3, labels, colors)
        .height(ui.available_height().max(120.0))
        // Room for the names of the roofs.
        .include_y(top + 0.5)
        .show(ui, |plot| {
            // Of the same host there is one roof, of neither side's colour.
            let [in_a, in_b] = found.map(|found| &found.roofs);
            let same = [in_a.bytes, in_a.f32_ops, in_a.int8_ops] == [in_b.bytes, in_b.f32_ops, in_b.int8_ops];
            for (found, second) in found.into_iter().zip([false, true]).skip(usize::from(same)) {
                for (name, ops) in [("f32", found.roofs.f32_ops), ("int8", found.roofs.int8_ops)] {
                    let (Some(ops), Some(bytes)) = (ops, found.roofs.bytes) else { continue };
                    let (top, bytes) = (ops.log10(), bytes.log10());
                    let knee = top - bytes;
                    let end = right.max(knee + 0.3);
                    let line = vec![[left, left + bytes], [knee, top], [end, top]];
                    let color = if same { colors.weak } else { colors.side(second).gamma_multiply(0.7) };
                    let line = Line::new(name, PlotPoints::from(line)).color(color).width(1.4);
                    plot.line(line.allow_hover(false));
                    let anchor = if second { egui::Align2::RIGHT_TOP } else { egui::Align2::RIGHT_BOTTOM };
                    let text = RichText::new(name).color(colors.weak);
                    plot.text(Text::new(name, PlotPoint::new(end, top), text).anchor(anchor));
                }
            }
            for (a, b) in moves(&dots).into_iter().take(MOST) {
                let strong = chosen.is_some_and(|chosen| chosen.contains(&a.row.key));
                let color = if strong { colors.text } else { colors.weak.gamma_multiply(0.6) };
                let line = PlotPoints::from(vec![a.place, b.place]);
                let width = if strong { 2.0 } else { 1.0 };
                plot.line(Line::new("", line).color(color).width(width).allow_hover(false));
            }
            for dot in &dots {
                let shape = if dot.second { MarkerShape::Diamond } else { MarkerShape::Circle };
                let strong = chosen.is_some_and(|chosen| chosen.contains(&dot.row.key));
                plot.points(
                    Points::new(dot.row.key.clone(), PlotPoints::from(vec![dot.place]))
                        .radius(if strong { 7.0 } else { 4.5 })
                        .shape(shape)
                        .color(colors.side(dot.second)),
                );
            }
        });
}

/// What both have, from A to B.
fn moves<'a>(dots: &'a [Dot<'a>]) -> Vec<(&'a Dot<'a>, &'a Dot<'a>)> {
    let of = |second: bool| dots.iter().filter(move |dot| dot.second == second);
    let same = |a: &Dot<'_>, b: &Dot<'_>| a.row.key == b.row.key && a.row.op == b.row.op;
    of(false).filter_map(|a| Some((a, of(true).find(|b| same(a, b))?))).collect()
}

fn label(dot: &Dot<'_>) -> String {
    let side = if dot.second { "B" } else { "A" };
    let share = dot.row.group.roof_share();
    let share = share.map_or_else(String::new, |share| format!("\n{} of its roof", text::percent(share)));
    format!("{side}: {}{share}\n{}", dot.row.key, dot.row.verdict.bound.name())
}
