//! Durations of the executions: percentiles, and a histogram to brush. What is brushed shows on
//! the timeline.

use super::{Behind, Brush, ranges};
use crate::command::Command;
use crate::panel::{Cx, Explained as _};
use crate::plot;
use crate::state::{Highlight, Page};
use crate::text;
use crate::theme::OpClass;
use egui::{Color32, Grid, Ui, vec2};
use egui_plot::{Bar, BarChart, HoverPosition, Line, PlotPoint, PlotPoints, Polygon, VLine};
use llmtrace_analysis::stats::percentile;
use std::ops::Range;
use std::sync::Arc;

const HEIGHT: f32 = 170.0;
const BINS: usize = 60;
/// Percentiles of the table, in hundredths, and their names.
const PERCENTILES: [(u32, &str); 4] = [(50, "p50"), (75, "p75"), (90, "p90"), (99, "p99")];

/// How the histogram is shown.
#[derive(Default)]
pub(crate) struct HistogramView {
    linear: bool,
    cumulative: bool,
    log_count: bool,
    /// Where a drag over the plot began.
    anchor: Option<f64>,
    brush: Brush,
}

/// Counts between edges.
struct Bins {
    /// One more than there are bins; nanoseconds.
    edges: Vec<f64>,
    counts: Vec<u64>,
    /// Durations beyond the last edge.
    longer: u64,
}

impl HistogramView {
    /// What was brushed belongs to other executions.
    pub(crate) fn forget_brush(&mut self) {
        self.brush = None;
    }

    fn x(&self, nanos: f64) -> f64 {
        if self.linear { nanos } else { nanos.max(1.0).log10() }
    }

    fn nanos(&self, x: f64) -> f64 {
        if self.linear { x } else { 10f64.powf(x) }
    }

    /// Draws it; says which durations are brushed.
    pub(crate) fn histogram_ui(
        &mut self,
        ui: &mut Ui,
        cx: &mut Cx<'_>,
        (name, behind): (&str, &Behind),
        kept: Option<(&str, &Behind)>,
    ) -> Brush {
        if behind.walls.is_empty() {
            ui.weak("no executions");
            return None;
        }
        percentiles_ui(ui, cx, (name, behind), kept);
        ui.horizontal_wrapped(|ui| {
            ui.selectable_value(&mut self.linear, false, "log");
            ui.selectable_value(&mut self.linear, true, "linear");
            ui.separator();
            ui.toggle_value(&mut self.cumulative, "cumulative")
                .on_hover_text("Part of the executions that take at most so long");
            ui.toggle_value(&mut self.log_count, "log counts")
                .on_hover_text("So that rare durations can be seen beside common ones");
        });
        self.plot_ui(ui, cx, behind, kept);
        self.brush_ui(ui, cx, name, behind);
        self.brush.clone()
    }

    fn bins(&self, walls: &[u64], (low, high): (u64, u64)) -> Bins {
        let (from, to) = (self.x(low as f64), self.x(high as f64 + 1.0));
        let step = ((to - from) / BINS as f64).max(1e-9);
        let edges: Vec<f64> = (0..=BINS).map(|at| self.nanos(from + step * at as f64)).collect();
        let below: Vec<usize> =
            edges.iter().map(|edge| walls.partition_point(|wall| (*wall as f64) < *edge)).collect();
        let counts = below
            .windows(2)
            .map(|pair| match pair {
                [a, b] => (b - a) as u64,
                _ => 0,
            })
            .collect();
        let longer = walls.len().saturating_sub(below.last().copied().unwrap_or(0)) as u64;
        Bins { edges, counts, longer }
    }

    /// From the shortest to the longest; linear steps would be empty up to a single long one.
    fn extent(&self, all: &[&[u64]]) -> (u64, u64) {
        let low = all.iter().filter_map(|walls| walls.first()).min().copied().unwrap_or(0);
        let last = |walls: &&&[u64]| {
            if self.linear { percentile(walls, 99) } else { walls.last().copied() }
        };
        (low, all.iter().filter_map(|walls| last(&walls)).max().unwrap_or(1).max(low + 1))
    }

    fn plot_ui(&mut self, ui: &mut Ui, cx: &Cx<'_>, behind: &Behind, kept: Option<(&str, &Behind)>) {
        let mut all: Vec<&[u64]> = vec![&behind.walls];
        all.extend(kept.map(|(_, kept)| kept.walls.as_slice()));
        let extent = self.extent(&all);
        let colors = cx.colors;
        let color = colors.op(OpClass::Matmul);
        let bins = self.bins(&behind.walls, extent);
        let other = kept.map(|(_, kept)| (self.bins(&kept.walls, extent), kept.walls.len()));
        // Two runs of different length are compared by share.
        let by_share = kept.is_some() || self.cumulative;
        let (linear, log_count) = (self.linear, self.log_count && !self.cumulative);
        let y = move |count: u64, all: usize| {
            let value = if by_share { count as f64 * 100.0 / all.max(1) as f64 } else { count as f64 };
            if log_count { (value + 1.0).log10() } else { value }
        };
        let nanos_at = move |x: f64| if linear { x } else { 10f64.powf(x) };
        let mut median = Vec::new();
        for percent in [50, 99] {
            median.extend(percentile(&behind.walls, percent).map(|wall| self.x(wall as f64)));
        }
        let response = plot::still("durations")
            .width(ui.available_width())
            .height(plot::height(ui, HEIGHT))
            .show_grid([false, true])
            .grid_color(colors.line)
            .include_y(0.0)
            .set_margin_fraction(vec2(0.01, 0.05))
            .x_axis_formatter(move |mark, _| text::nanos_f64(nanos_at(mark.value)))
            .y_axis_formatter(move |mark, _| {
                let value = if log_count { 10f64.powf(mark.value) - 1.0 } else { mark.value };
                if by_share { format!("{} %", text::trim(value)) } else { text::trim(value) }
            })
            .label_formatter(move |at| match at {
                HoverPosition::NearDataPoint { position, .. } | HoverPosition::Elsewhere { position } => {
                    Some(text::nanos_f64(nanos_at(position.x)))
                }
            })
            .show(ui, |plot| {
                if let Some(brush) = &self.brush {
                    let (from, to) = (self.x(brush.start as f64), self.x(brush.end as f64));
                    let top = plot.plot_bounds().max()[1].max(1.0);
                    let corners = vec![[from, 0.0], [to, 0.0], [to, top], [from, top]];
                    plot.polygon(
                        Polygon::new("brushed", PlotPoints::from(corners))
                            .fill_color(colors.veil())
                            .stroke(egui::Stroke::NONE)
                            .allow_hover(false),
                    );
                }
                if self.cumulative {
                    plot.line(self.curve("now", &bins, behind.walls.len(), color));
                } else {
                    plot.bar_chart(self.chart("now", &bins, color, |count| y(count, behind.walls.len())));
                }
                if let Some((bins, len)) = &other {
                    let color = colors.op(OpClass::Attention);
                    if self.cumulative {
                        plot.line(self.curve("kept", bins, *len, color));
                    } else {
                        plot.line(self.steps("kept", bins, color, |count| y(count, *len)));
                    }
                }
                for (at, name) in median.iter().zip(["p50", "p99"]) {
                    plot.vline(VLine::new(name, *at).color(colors.weak).width(1.0).allow_hover(false));
                }
                plot.pointer_coordinate()
            });
        plot::announce(ui, &response, "durations", bins.counts.len(), |at| {
            let count = bins.counts.get(at).copied().filter(|count| *count > 0)?;
            let (from, to) = (*bins.edges.get(at)?, *bins.edges.get(at + 1)?);
            if self.cumulative {
                let until = bins.counts.iter().take(at + 1).sum();
                let share = y(until, behind.walls.len());
                let said = format!("{share:.1} % take at most {}", text::nanos_f64(to));
                return Some(([self.x(to), share], said));
            }
            let place = [(self.x(from) + self.x(to)) / 2.0, y(count, behind.walls.len())];
            let ends = (text::nanos_f64(from), text::nanos_f64(to));
            Some((place, format!("{} of {} to {}", text::count(count), ends.0, ends.1)))
        });
        self.drag(&response.response, response.inner, extent);
        if bins.longer > 0 {
            ui.weak(format!("{} longer ones are right of the picture", text::count(bins.longer)));
        }
    }

    fn drag(&mut self, response: &egui::Response, at: Option<PlotPoint>, (low, high): (u64, u64)) {
        if response.drag_started() {
            self.anchor = at.map(|at| at.x);
        }
        if let Some((anchor, at)) = self.anchor.zip(at).filter(|_| response.dragged()) {
            let ends = [anchor.min(at.x), anchor.max(at.x)].map(|x| self.nanos(x).max(0.0));
            let (from, to) = (ends[0].max(low as f64) as u64, ends[1].min(high as f64 + 1.0).ceil() as u64);
            self.brush = (from < to).then_some(from..to);
        }
        if response.clicked() {
            self.brush = None;
        }
        if response.drag_stopped() {
            self.anchor = None;
        }
    }

    fn chart(&self, name: &str, bins: &Bins, color: Color32, y: impl Fn(u64) -> f64) -> BarChart {
        let each = |(edges, count): (&[f64], &u64)| {
            let (from, to) = (self.x(*edges.first()?), self.x(*edges.last()?));
            let bar = Bar::new((from + to) / 2.0, y(*count)).width(to - from).fill(color);
            Some(bar.stroke(egui::Stroke::NONE))
        };
        let bars = bins.edges.windows(2).zip(&bins.counts).filter_map(each).collect();
        BarChart::new(name.to_owned(), bars).allow_hover(false)
    }

    /// An outline, over the bars of another one.
    fn steps<'a>(&self, name: &str, bins: &Bins, color: Color32, y: impl Fn(u64) -> f64) -> Line<'a> {
        let mut points = Vec::with_capacity(bins.counts.len() * 2);
        for (edges, count) in bins.edges.windows(2).zip(&bins.counts) {
            points.extend(edges.iter().map(|edge| [self.x(*edge), y(*count)]));
        }
        Line::new(name.to_owned(), PlotPoints::from(points)).color(color).width(2.0).allow_hover(false)
    }

    /// Percent of the executions up to each edge.
    fn curve<'a>(&self, name: &str, bins: &Bins, len: usize, color: Color32) -> Line<'a> {
        let mut seen = 0;
        let mut points = vec![[self.x(bins.edges.first().copied().unwrap_or(1.0)), 0.0]];
        for (edge, count) in bins.edges.iter().skip(1).zip(&bins.counts) {
            seen += count;
            points.push([self.x(*edge), seen as f64 * 100.0 / len.max(1) as f64]);
        }
        Line::new(name.to_owned(), PlotPoints::from(points)).color(color).width(2.0).allow_hover(false)
    }

    fn brush_ui(&mut self, ui: &mut Ui, cx: &mut Cx<'_>, name: &str, behind: &Behind) {
        let Some(brush) = self.brush.clone() else {
            ui.weak("Lines: p50 and p99. Drag over the bars to pick durations.");
            return;
        };
        ui.horizontal_wrapped(|ui| {
            let count = brushed(&behind.walls, &brush) as u64;
            let (from, to) = (text::nanos(brush.start), text::nanos(brush.end));
            ui.label(format!("{} of {from} to {to}", text::count(count)));
            let button = ui.add_enabled(count > 0, egui::Button::new("Show on the timeline"));
            if button.on_hover_text("Marks these executions there; N goes to the next").clicked() {
                let name = format!("{name}, {from} to {to}");
                let ranges = ranges(&behind.found, &brush);
                if let Some(first) = ranges.first().copied() {
                    cx.commands.push(Command::Highlight(Some(Arc::new(Highlight { name, ranges }))));
                    cx.commands.push(Command::Show(Page::Timeline));
                    cx.commands.push(Command::Reveal(first));
                }
            }
            if ui.button("Clear").clicked() {
                self.brush = None;
            }
        });
    }
}

/// How many of sorted durations lie in a range.
fn brushed(walls: &[u64], brush: &Range<u64>) -> usize {
    let below = |edge: u64| walls.partition_point(|wall| *wall < edge);
    below(brush.end).saturating_sub(below(brush.start))
}

/// Mean and standard deviation.
pub(crate) fn mean_and_spread(walls: &[u64]) -> (f64, f64) {
    let n = walls.len().max(1) as f64;
    let mean = walls.iter().map(|wall| *wall as f64).sum::<f64>() / n;
    let variance = walls.iter().map(|wall| (*wall as f64 - mean).powi(2)).sum::<f64>() / n;
    (mean, variance.sqrt())
}

/// Terms of the glossary that explain a number of the distribution.
fn terms(name: &str) -> &'static [&'static str] {
    match name {
        "count" => &["count"],
        "p50" => &["median", "wall"],
        "mean" => &["mean", "wall"],
        "σ" => &["σ", "wall"],
        _ => &["percentile", "wall"],
    }
}

/// Exact numbers; of two selections side by side, with how they differ.
fn percentiles_ui(ui: &mut Ui, cx: &Cx<'_>, (name, behind): (&str, &Behind), kept: Option<(&str, &Behind)>) {
    let row = |behind: &Behind| {
        let (walls, (mean, sigma)) = (behind.walls.as_slice(), behind.mean_and_spread);
        let mut cells = vec![walls.len() as f64, walls.first().copied().unwrap_or(0) as f64];
        cells.extend(PERCENTILES.map(|(percent, _)| percentile(walls, percent).unwrap_or(0) as f64));
        cells.extend([walls.last().copied().unwrap_or(0) as f64, mean, sigma]);
        cells
    };
    let now = row(behind);
    let before = kept.map(|(_, kept)| row(kept));
    let names = ["count", "min"].into_iter().chain(PERCENTILES.map(|(_, name)| name));
    let names: Vec<&str> = names.chain(["max", "mean", "σ"]).collect();
    let show = |at: usize, value: f64| {
        if at == 0 { text::count(value as u64) } else { text::nanos_f64(value) }
    };
    Grid::new("percentiles").spacing([12.0, 3.0]).show(ui, |ui| {
        let Some(before) = &before else {
            for (at, (name, value)) in names.iter().zip(&now).enumerate() {
                ui.weak(*name).explained(terms(name));
                ui.label(show(at, *value));
                if at % 3 == 2 {
                    ui.end_row();
                }
            }
            return;
        };
        let kept_name = kept.map_or("", |(name, _)| name);
        ui.label("");
        for (name, color) in
            [(kept_name, cx.colors.op(OpClass::Attention)), (name, cx.colors.op(OpClass::Matmul))]
        {
            ui.colored_label(color, text::shorten(name, 24)).on_hover_text(name);
        }
        ui.weak("change").explained(&["change"]);
        ui.end_row();
        for (at, name) in names.iter().enumerate() {
            let (a, b) = (before.get(at).copied().unwrap_or(0.0), now.get(at).copied().unwrap_or(0.0));
            ui.weak(*name).explained(terms(name));
            ui.label(show(at, a));
            ui.label(show(at, b));
            let change = if a > 0.0 { format!("{:+.1} %", (b / a - 1.0) * 100.0) } else { "–".to_owned() };
            ui.label(change);
            ui.end_row();
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_hold_every_duration_up_to_the_last_edge() {
        let mut walls: Vec<u64> = (0..1000).map(|at| 500 + at * 37 % 9000).collect();
        walls.push(4_000_000);
        walls.sort_unstable();
        for linear in [false, true] {
            let view = HistogramView { linear, ..HistogramView::default() };
            let bins = view.bins(&walls, view.extent(&[&walls]));
            let counted: u64 = bins.counts.iter().sum();
            assert_eq!(counted + bins.longer, walls.len() as u64, "{linear}");
            assert_eq!(bins.longer > 0, linear);
            assert_eq!(bins.edges.len(), bins.counts.len() + 1);
        }
    }

    #[test]
    fn what_is_brushed_is_counted() {
        let walls = [1, 2, 2, 3, 10];
        assert_eq!(brushed(&walls, &(2..4)), 3);
        assert_eq!(brushed(&walls, &(11..20)), 0);
        let (mean, sigma) = mean_and_spread(&[2, 4, 4, 4, 5, 5, 7, 9]);
        assert!((mean - 5.0).abs() < 1e-9 && (sigma - 2.0).abs() < 1e-9);
    }
}
