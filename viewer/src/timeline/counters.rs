//! Lanes of counters and samples: graphs over time, and operators coloured by a counter.
//!
//! ```text
//! task-clock  │ 1.9 CPUs  ▇▇▇▇▇▇▇▅▇▇▇▇  ▇▇▇      from the greatest value in sight (or, on a shared
//! memory      │ 512 MB    ▁▁▂▃▄▄▄▄▄▄▄▄▄▄▄▄▄      scale, of all graphs of its unit) down to zero;
//!                                                 where nothing is known there is nothing
//! ```

use super::lanes::Canvas;
use super::view::View;
use crate::counters::{self, Means, value};
use crate::memo::Memo;
use crate::panel::Cx;
use crate::state::Open;
use crate::theme::Colors;
use egui::{Align2, Color32, FontId, Mesh, Pos2, Shape, Stroke, Ui, pos2};
use llmtrace_analysis::Nanos;
use llmtrace_analysis::counters::{Drawn, Series};
use llmtrace_analysis::fold::{Bar, What};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Width of a part of a graph, in points.
const BIN: f32 = 2.0;

type Answer = Memo<(Nanos, Nanos), Arc<Drawn>>;

/// What the lanes keep.
#[derive(Default)]
pub(super) struct Lanes {
    answers: BTreeMap<Series, Answer>,
    shown: BTreeMap<Series, Arc<Drawn>>,
    means: Memo<(), Arc<Means>>,
    colored: Option<(u32, Arc<Means>)>,
}

impl Lanes {
    /// Gets the graphs for what is in sight.
    pub(super) fn prepare(&mut self, ui: &Ui, view: &View, cx: &Cx<'_>) {
        self.shown.clear();
        let range = view.range();
        let bins = (view.width() / BIN).max(1.0) as usize;
        for &series in &cx.open.counters.shown {
            let trace = Arc::clone(&cx.open.trace);
            let compute = move |going: &crate::memo::Going| {
                going.on().then(|| Arc::new(trace.drawn(series, range, bins)))
            };
            let answer = self.answers.entry(series).or_default();
            if let Some((drawn, _)) = answer.get(&(range.begin, range.end), cx.jobs, ui.ctx(), compute) {
                self.shown.insert(series, Arc::clone(drawn));
            }
        }
        self.colored = None;
        if let Some(counter) = cx.open.counters.color {
            let trace = Arc::clone(&cx.open.trace);
            let compute =
                move |going: &crate::memo::Going| counters::means(&trace, &|| going.on()).map(Arc::new);
            let means = self.means.get(&(), cx.jobs, ui.ctx(), compute);
            self.colored = means.map(|(means, _)| (counter, Arc::clone(means)));
        }
    }

    /// The greatest value of a series' scale.
    fn top(&self, open: &Open, series: Series) -> f64 {
        let unit = |series| open.trace.series_name(series).1.to_owned();
        let of_it = unit(series);
        let all = self
            .shown
            .iter()
            .filter(|(other, _)| **other == series || open.counters.shared && unit(**other) == of_it);
        let values = all.flat_map(|(_, drawn)| drawn.points.iter().filter_map(|(_, value)| *value));
        values.fold(0.0, f64::max)
    }

    /// Draws a lane.
    pub(super) fn paint(&self, canvas: &Canvas<'_>, open: &Open, series: Series) {
        let Some(drawn) = self.shown.get(&series) else { return };
        let top = self.top(open, series);
        let color = counters::color(canvas.colors, open, series);
        let rect = canvas.rect.shrink2(egui::vec2(0.0, 2.0));
        let at = |time: Nanos, value: f64| {
            let share = if top > 0.0 { (value / top).clamp(0.0, 1.0) as f32 } else { 0.0 };
            let x = (canvas.rect.left() + canvas.view.x_from_time(time))
                .clamp(canvas.rect.left() - 2.0, canvas.rect.right() + 2.0);
            pos2(x, rect.bottom() - share * rect.height())
        };
        // Of counters, a point stands for a part of time, so that a lone one is one, too.
        let half = if matches!(series, Series::Counter(_)) { BIN / 2.0 } else { 0.0 };
        for run in drawn.points.split(|(_, value)| value.is_none()) {
            let points: Vec<Pos2> =
                run.iter().filter_map(|(time, value)| Some(at(*time, (*value)?))).collect();
            let (Some(first), Some(last)) = (points.first(), points.last()) else { continue };
            let ends = [pos2(first.x - half, first.y)].into_iter().chain(points.iter().copied());
            let line: Vec<Pos2> = ends.chain([pos2(last.x + half, last.y)]).collect();
            canvas.painter.add(area(&line, rect.bottom(), color.gamma_multiply(0.35)));
            canvas.painter.add(Shape::line(line, Stroke::new(1.2, color)));
        }
        let (name, unit) = open.trace.series_name(series);
        let mut label = format!("{name}: up to {}", value(top, unit));
        if drawn.partial {
            label.push_str(", some unknown");
        }
        let font = FontId::proportional(10.5);
        let galley = canvas.painter.layout_no_wrap(label, font, canvas.colors.text);
        let place =
            Align2::LEFT_TOP.anchor_size(canvas.rect.left_top() + egui::vec2(4.0, 1.0), galley.size());
        canvas.painter.rect_filled(
            place.expand2(egui::vec2(3.0, 0.0)),
            2.0,
            canvas.colors.lane.gamma_multiply(0.8),
        );
        canvas.painter.galley(place.min, galley, canvas.colors.text);
    }

    /// The value at a time.
    pub(super) fn at(&self, series: Series, time: Nanos) -> Option<Option<f64>> {
        let points = &self.shown.get(&series)?.points;
        let after = points.partition_point(|(at, _)| *at <= time);
        let near = [after.checked_sub(1), Some(after)];
        let nearest = near.into_iter().flatten().filter_map(|index| points.get(index));
        nearest.min_by_key(|(at, _)| at.abs_diff(time)).map(|(_, value)| *value)
    }

    /// Colours of a thread's bars, when a counter gives them; `None` for one whose count is
    /// unknown.
    pub(super) fn colors(
        &self,
        open: &Open,
        lane: u32,
        bars: &[Bar],
        colors: &Colors,
    ) -> Option<Vec<Option<Color32>>> {
        let (counter, means) = self.colored.as_ref()?;
        let counter = *counter as usize;
        let color = |bar: &Bar| {
            let count = match &bar.what {
                What::Span(_, span) => open.trace.counts_of_span(lane, span)?.count(counter)? as f64,
                What::Folded(_, span) => means.of(open.op(span), counter)?,
                What::Buckets { op, .. } => means.of(open.trace.file.string(*op), counter)?,
            };
            Some(counters::heat(colors, means.share(count, counter)))
        };
        Some(bars.iter().map(color).collect())
    }
}

/// What is between a line and the ground.
fn area(line: &[Pos2], bottom: f32, color: Color32) -> Shape {
    let mut mesh = Mesh::default();
    for (index, point) in line.iter().enumerate() {
        mesh.colored_vertex(*point, color);
        mesh.colored_vertex(pos2(point.x, bottom), color);
        if let Some(before) = (2 * index as u32).checked_sub(2) {
            mesh.add_triangle(before, before + 1, before + 2);
            mesh.add_triangle(before + 1, before + 2, before + 3);
        }
    }
    Shape::mesh(mesh)
}

/// A graph under the pointer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Point {
    pub(crate) series: Series,
    pub(crate) value: Option<f64>,
}

/// Says what a graph has at the pointer.
pub(crate) fn found_ui(ui: &mut Ui, open: &Open, point: &Point) {
    let (name, unit) = open.trace.series_name(point.series);
    ui.strong(name);
    ui.label(point.value.map_or("unknown".to_owned(), |found| value(found, unit)));
    if matches!(point.series, Series::Counter(_)) {
        ui.weak("of all threads, in their operators");
    }
}

/// What is under the pointer on a lane.
pub(super) fn point(lanes: &Lanes, series: Series, time: Nanos) -> Option<Point> {
    Some(Point { series, value: lanes.at(series, time)? })
}
