//! Counters and samples: graphs over time, and what operators counted. What is chosen here is
//! shown on the timeline, too.

use crate::command::Command;
use crate::memo::Memo;
use crate::panel::{Cx, Explained as _, swatch_ui};
use crate::plot;
use crate::state::Open;
use crate::text;
use crate::theme::{Colors, OpClass};
use egui::{Color32, Frame, Grid, RichText, ScrollArea, Ui};
use egui_plot::{Legend, Line, PlotPoints};
use llmtrace_analysis::counters::{Drawn, Series};
use llmtrace_analysis::stats::{Counted, counts_by_operator};
use llmtrace_analysis::{Nanos, Trace};
use std::collections::HashMap;
use std::sync::Arc;

/// Parts of a graph.
const BINS: usize = 600;
/// Height of a graph that has its own scale, and of one that several share.
const PLOT_HEIGHT: f32 = 120.0;
const SHARED_HEIGHT: f32 = 220.0;

/// Which counters are shown, and how.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CounterView {
    /// Drawn over time, here and on the timeline.
    pub shown: Vec<Series>,
    /// Whether those of one unit share a scale.
    pub shared: bool,
    /// The counter that gives operators their colour on the timeline.
    pub color: Option<u32>,
}

impl CounterView {
    /// What is shown of a trace at first: its first counters, or the CPU time of its processes.
    pub fn of(trace: &Trace) -> Self {
        let all = trace.series();
        let counters = all.iter().filter(|series| matches!(series, Series::Counter(_))).take(3);
        let mut shown: Vec<Series> = counters.copied().collect();
        if !shown.is_empty() {
            shown.extend(all.iter().find(|series| matches!(series, Series::Resident(_))));
        }
        Self { shown, shared: false, color: None }
    }
}

/// A value with its unit.
pub(crate) fn value(value: f64, unit: &str) -> String {
    match unit {
        "bytes" => text::bytes(value as u64),
        "bytes/s" => format!("{}/s", text::bytes(value as u64)),
        "/s" if value >= 1e6 => format!("{} M/s", text::trim(value / 1e6)),
        "/s" if value >= 1e4 => format!("{} k/s", text::trim(value / 1e3)),
        "/s" => format!("{}/s", text::trim(value)),
        unit => format!("{} {unit}", text::trim(value)),
    }
}

/// A colour for a series, the same on all pages.
pub(crate) fn color(colors: &Colors, open: &Open, series: Series) -> Color32 {
    let classes = [
        OpClass::Matmul,
        OpClass::Attention,
        OpClass::Norm,
        OpClass::Position,
        OpClass::Routing,
        OpClass::Recurrent,
        OpClass::Copy,
        OpClass::Elementwise,
    ];
    let place = open.trace.series().iter().position(|other| *other == series).unwrap_or(0);
    classes.get(place % classes.len()).map_or(colors.accent, |class| colors.op(*class))
}

/// From little (as a lane) to much.
pub(crate) fn heat(colors: &Colors, share: f64) -> Color32 {
    let low = colors.line;
    let high = colors.scale[1];
    low.lerp_to_gamma(high, share.clamp(0.0, 1.0) as f32)
}

/// What operators counted: sums, and means of an op span.
#[derive(Clone, Debug, Default)]
pub(crate) struct Means {
    /// By operators, the most of the first counter first.
    pub(crate) rows: Vec<(String, Vec<Counted>)>,
    /// By the first operator of those that are fused.
    means: HashMap<String, Vec<Option<f64>>>,
    most: Vec<f64>,
}

/// Goes through all counts; `None` when it was cancelled.
pub(crate) fn means(trace: &Trace, going: &dyn Fn() -> bool) -> Option<Means> {
    let mut rows: Vec<(String, Vec<Counted>)> = counts_by_operator(trace);
    if !going() {
        return None;
    }
    let first = |counted: &[Counted]| counted.first().and_then(|counted| counted.sum);
    rows.sort_by(|a, b| first(&b.1).cmp(&first(&a.1)).then_with(|| a.0.cmp(&b.0)));
    let mut sums: HashMap<String, Vec<Counted>> = HashMap::new();
    for (op, counted) in &rows {
        let all =
            sums.entry(first_of(op).to_owned()).or_insert_with(|| vec![Counted::default(); counted.len()]);
        all.iter_mut().zip(counted).for_each(|(sum, more)| sum.merge(more));
    }
    let mean = |counted: &Counted| Some(counted.sum? as f64 / counted.known.max(1) as f64);
    let means: HashMap<String, Vec<Option<f64>>> =
        sums.into_iter().map(|(op, counted)| (op, counted.iter().map(mean).collect())).collect();
    let mut most = vec![0.0f64; trace.counters().len()];
    for values in means.values() {
        for (most, value) in most.iter_mut().zip(values) {
            *most = most.max(value.unwrap_or(0.0));
        }
    }
    Some(Means { rows, means, most })
}

fn first_of(op: &str) -> &str {
    op.split('+').next().unwrap_or(op)
}

impl Means {
    /// Mean count of an operator's op spans; `None` when it is unknown.
    pub(crate) fn of(&self, op: &str, counter: usize) -> Option<f64> {
        *self.means.get(first_of(op))?.get(counter)?
    }

    /// How much a count is beside the greatest mean, by its order of magnitude, from 0 to 1.
    pub(crate) fn share(&self, count: f64, counter: usize) -> f64 {
        let most = self.most.get(counter).copied().unwrap_or(0.0);
        if most <= 0.0 { 0.0 } else { (1.0 + count).ln() / (1.0 + most).ln() }
    }
}

type Graphs = Vec<(Series, Arc<Drawn>)>;

/// The page's own state.
#[derive(Default)]
pub struct CountersPage {
    in_sight: bool,
    graphs: Memo<(Vec<Series>, Nanos, Nanos), Graphs>,
    means: Memo<(), Arc<Means>>,
}

impl CountersPage {
    /// Draws the page.
    pub fn counters_ui(&mut self, ui: &mut Ui, cx: &mut Cx<'_>) {
        ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
            Frame::new().inner_margin(16).show(ui, |ui| {
                ui.label(RichText::new("Counters").heading().strong());
                what_ui(ui, cx);
                if cx.open.trace.series().is_empty() {
                    ui.add_space(12.0);
                    ui.label("Nothing was counted or sampled.");
                    ui.weak("llmtrace record --counters page-faults,context-switches,task-clock -p PID");
                    ui.weak("llmtrace record --counters help lists what there is");
                    return;
                }
                ui.add_space(8.0);
                self.choice_ui(ui, cx);
                ui.add_space(8.0);
                self.graphs_ui(ui, cx);
                ui.add_space(12.0);
                self.operators_ui(ui, cx);
            });
        });
    }

    /// Which series are shown, here and on the timeline.
    fn choice_ui(&mut self, ui: &mut Ui, cx: &mut Cx<'_>) {
        let mut view = cx.open.counters.clone();
        ui.horizontal_wrapped(|ui| {
            for series in cx.open.trace.series() {
                let mut on = view.shown.contains(&series);
                swatch_ui(ui, color(cx.colors, cx.open, series));
                let (name, _) = cx.open.trace.series_name(series);
                if ui.checkbox(&mut on, name).on_hover_text("Here, and as a lane of the timeline").changed() {
                    view.shown.retain(|other| *other != series);
                    if on {
                        view.shown.push(series);
                        view.shown.sort_unstable();
                    }
                }
                ui.add_space(6.0);
            }
        });
        ui.horizontal_wrapped(|ui| {
            ui.weak("scale");
            ui.selectable_value(&mut view.shared, false, "own");
            ui.selectable_value(&mut view.shared, true, "shared by unit");
            ui.separator();
            ui.weak("time");
            ui.selectable_value(&mut self.in_sight, false, "whole trace");
            ui.selectable_value(&mut self.in_sight, true, "what the timeline shows");
            if !cx.open.trace.counters().is_empty() {
                ui.separator();
                ui.weak("colour of operators on the timeline");
                ui.selectable_value(&mut view.color, None, "operator");
                for (counter, number) in cx.open.trace.counters().iter().zip(0..) {
                    ui.selectable_value(&mut view.color, Some(number), text::shorten(&counter.name, 24));
                }
            }
        });
        if view != cx.open.counters {
            cx.commands.push(Command::ShowCounters(view));
        }
    }

    fn graphs_ui(&mut self, ui: &mut Ui, cx: &mut Cx<'_>) {
        let range = if self.in_sight { cx.open.view.range() } else { cx.open.trace.range() };
        let shown = cx.open.counters.shown.clone();
        let trace = Arc::clone(&cx.open.trace);
        let key = (shown.clone(), range.begin, range.end);
        let compute = move |going: &crate::memo::Going| {
            let draw =
                |series: &Series| going.on().then(|| (*series, Arc::new(trace.drawn(*series, range, BINS))));
            shown.iter().map(draw).collect::<Option<Graphs>>()
        };
        let Some((graphs, _)) = self.graphs.get(&key, cx.jobs, ui.ctx(), compute) else {
            ui.spinner();
            return;
        };
        let graphs = graphs.clone();
        let unit = |series: Series| cx.open.trace.series_name(series).1;
        let mut groups: Vec<(&str, Graphs)> = Vec::new();
        for (series, drawn) in graphs {
            let of_it = unit(series);
            match groups.iter_mut().find(|(unit, _)| cx.open.counters.shared && *unit == of_it) {
                Some((_, group)) => group.push((series, drawn)),
                None => groups.push((of_it, vec![(series, drawn)])),
            }
        }
        for (place, (unit, group)) in groups.into_iter().enumerate() {
            let names: Vec<String> =
                group.iter().map(|(series, _)| cx.open.trace.series_name(*series).0).collect();
            let partial = if group.iter().any(|(_, drawn)| drawn.partial) {
                ", counts of some op spans unknown"
            } else {
                ""
            };
            ui.label(RichText::new(format!("{} ({unit}){partial}", names.join(", "))).strong())
                .explained(&["counter rate", "counter"]);
            let height = if group.len() > 1 { SHARED_HEIGHT } else { PLOT_HEIGHT };
            let unit_name = unit;
            let unit = unit.to_owned();
            let formatted = unit.clone();
            // Marks at round numbers of MiB.
            let scale = if unit.starts_with("bytes") { f64::from(1 << 20) } else { 1.0 };
            let mut plot = plot::still(("counters", place))
                .height(plot::height(ui, height))
                .include_y(0.0)
                .include_x(range.begin as f64 / 1e9)
                .include_x(range.end as f64 / 1e9)
                .y_axis_min_width(76.0)
                .y_grid_spacer(plot::few_marks)
                .x_axis_formatter(|mark, _| format!("{} s", text::trim(mark.value)))
                .y_axis_formatter(move |mark, _| value(mark.value * scale, &formatted))
                .link_cursor(egui::Id::unique("counters"), [true, false])
                .grid_color(cx.colors.line);
            if group.len() > 1 {
                plot = plot.legend(Legend::default());
            }
            let shown = plot.show(ui, |plot| {
                for ((series, drawn), name) in group.iter().zip(&names) {
                    let color = color(cx.colors, cx.open, *series);
                    // Where nothing is known the line has a hole.
                    for run in drawn.points.split(|(_, value)| value.is_none()) {
                        let points: PlotPoints<'_> = run
                            .iter()
                            .filter_map(|(time, value)| Some([*time as f64 / 1e9, (*value)? / scale]))
                            .collect();
                        let line = Line::new(name.clone(), points).color(color).width(1.5);
                        plot.line(if group.len() > 1 { line } else { line.fill(0.0) });
                    }
                }
                plot.pointer_coordinate().map(|at| at.x * 1e9)
            });
            if let Some((_, drawn)) = group.first() {
                let name = format!("{} over time", names.join(", "));
                plot::announce(ui, &shown, &name, drawn.points.len(), |at| {
                    let (time, known) = drawn.points.get(at)?;
                    let value = known.map_or_else(|| "unknown".to_owned(), |known| value(known, unit_name));
                    let place = [*time as f64 / 1e9, known.unwrap_or(0.0) / scale];
                    Some((place, format!("{value} at {}", text::nanos(*time))))
                });
            }
            if shown.response.clicked()
                && let Some(time) = shown.inner
            {
                let time = time.max(0.0) as u64;
                let width = cx.open.view.nanos() as u64 / 2;
                let around =
                    llmtrace_analysis::TimeRange::new(time.saturating_sub(width), time.saturating_add(width));
                cx.commands.push(Command::Reveal(around));
                cx.commands.push(Command::Show(crate::state::Page::Timeline));
            }
            ui.add_space(6.0);
        }
    }

    /// What operators counted.
    fn operators_ui(&mut self, ui: &mut Ui, cx: &Cx<'_>) {
        let counters = cx.open.trace.counters();
        if counters.is_empty() {
            return;
        }
        let trace = Arc::clone(&cx.open.trace);
        let compute = move |going: &crate::memo::Going| means(&trace, &|| going.on()).map(Arc::new);
        let Some((found, _)) = self.means.get(&(), cx.jobs, ui.ctx(), compute) else {
            ui.spinner();
            return;
        };
        ui.strong("By operator, all threads");
        ui.weak("sum, and in brackets for each node and thread; ≥ where the count of some is unknown");
        ui.add_space(4.0);
        ScrollArea::horizontal().id_salt("counts").show(ui, |ui| {
            Grid::new("counts").num_columns(counters.len() + 2).striped(true).spacing([22.0, 4.0]).show(
                ui,
                |ui| {
                    ui.weak("operator").explained(&["operator"]);
                    ui.weak("op spans").explained(&["op span"]);
                    for counter in counters {
                        let unit = match counter.unit.as_str() {
                            // Times have their units in the cells.
                            "" | "ns" => String::new(),
                            unit => format!(" ({unit})"),
                        };
                        ui.weak(format!("{}{unit}", text::shorten(&counter.name, 28)))
                            .explained(&["counted", "counter"]);
                    }
                    ui.end_row();
                    for (op, counted) in &found.rows {
                        ui.horizontal(|ui| {
                            swatch_ui(ui, cx.colors.op(OpClass::of(op)));
                            ui.label(op);
                        });
                        let spans = counted.first().map_or(0, |counted| counted.known + counted.unknown);
                        ui.label(text::count(spans));
                        for (of, counter) in counted.iter().zip(counters) {
                            ui.label(counted_text(of, &counter.unit));
                        }
                        ui.end_row();
                    }
                },
            );
        });
    }
}

fn counted_text(counted: &Counted, unit: &str) -> String {
    let Some(sum) = counted.sum else { return "unknown".to_owned() };
    let partial = if counted.unknown > 0 { "≥ " } else { "" };
    let mean = sum as f64 / counted.known.max(1) as f64;
    if unit == "ns" {
        return format!("{partial}{}  ({})", text::nanos(sum), text::nanos_f64(mean));
    }
    format!("{partial}{}  ({})", text::count(sum), text::trim(mean))
}

/// What was counted, by whom, and what was not.
fn what_ui(ui: &mut Ui, cx: &Cx<'_>) {
    let Some(recording) = &cx.open.trace.file.recording else { return };
    let by = |source: &str| {
        let of_it = recording.counters.iter().filter(|counter| counter.source == source);
        of_it.map(|counter| counter.name.as_str()).collect::<Vec<_>>().join(", ")
    };
    let (task, perf) = (by("task"), by("perf"));
    let parts = [
        (!task.is_empty()).then(|| format!("counted by the kernel for each thread: {task}")),
        (!perf.is_empty()).then(|| format!("events of perf: {perf}")),
    ];
    let line = parts.into_iter().flatten().collect::<Vec<_>>().join("; ");
    if !line.is_empty() {
        ui.weak(line);
    }
    for missing in &recording.counters_missing {
        let text = format!("not counted: {}: {}", missing.name, missing.reason);
        ui.label(RichText::new(text).color(cx.colors.warning));
    }
}
