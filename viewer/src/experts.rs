//! The experts of a mixture: a heat map of layers and experts, how evenly tokens
//! are spread over time, and one layer closely.

use crate::command::Command;
use crate::memo::Memo;
use crate::panel::{Cx, Explained as _};
use crate::plot;
use crate::state::Page;
use crate::text;
use crate::theme::{Colors, OpClass};
use egui::{
    Align2, Color32, FontId, Frame, Pos2, Rect, RichText, ScrollArea, Sense, Stroke, Ui, WidgetInfo, vec2,
};
use egui_plot::{Legend, Line, PlotPoints};
use llmtrace_analysis::experts::{DISTANCES, Experts, Layer, Query, experts, has_experts};
use llmtrace_analysis::{Phase, TimeRange};
use std::sync::Arc;

/// Width of the column of layers.
const GUTTER: f32 = 56.0;
/// Height of the row of expert numbers.
const RULER: f32 = 18.0;
/// Least and greatest height of a layer's row.
const ROW: std::ops::RangeInclusive<f32> = 7.0..=22.0;
/// Height of the heat map, if rows may shrink to that.
const MAP_HEIGHT: f32 = 360.0;
/// Height of the plots.
const PLOT_HEIGHT: f32 = 150.0;

/// What a cell's colour says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Measure {
    #[default]
    Tokens,
    Bytes,
    Time,
}

impl Measure {
    /// With names, and the terms of the glossary.
    const ALL: [(Self, &'static str, &'static [&'static str]); 3] = [
        (Self::Tokens, "share of tokens", &["share of tokens"]),
        (Self::Bytes, "bytes read", &["bytes read", "expert reads"]),
        (Self::Time, "time", &["expert time"]),
    ];

    fn of(self, layer: &Layer, expert: usize) -> Option<f64> {
        if layer.tokens == 0 {
            return None;
        }
        match self {
            Self::Tokens => Some(layer.share(expert)),
            Self::Bytes => Some(layer.bytes(expert) as f64),
            Self::Time => layer.nanos(expert),
        }
    }

    fn text(self, value: f64) -> String {
        match self {
            Self::Tokens => text::percent(value),
            Self::Bytes => text::bytes(value as u64),
            Self::Time => text::nanos_f64(value),
        }
    }
}

/// The page's own state.
#[derive(Default)]
pub struct ExpertsPage {
    phase: Option<Phase>,
    measure: Measure,
    /// Place in the layers.
    layer: usize,
    answer: Memo<(Option<Phase>, bool), Arc<Experts>>,
}

impl ExpertsPage {
    /// The phase that it is about; `None` for all.
    pub(crate) fn phase(&self) -> Option<Phase> {
        self.phase
    }

    /// Draws the page.
    pub fn experts_ui(&mut self, ui: &mut Ui, cx: &mut Cx<'_>) {
        if !has_experts(&cx.open.trace) {
            return nothing_ui(ui, cx);
        }
        // Once nodes are counted, times are known.
        let key = (self.phase, cx.open.loading.is_none());
        let trace = Arc::clone(&cx.open.trace);
        let phase = self.phase;
        let compute = move |going: &crate::memo::Going| {
            experts(&trace, &Query { phase, range: None }, &|| going.on()).map(Arc::new)
        };
        let answer = self.answer.get(&key, cx.jobs, ui.ctx(), compute).map(|(found, _)| Arc::clone(found));
        ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
            Frame::new().inner_margin(16).show(ui, |ui| {
                let Some(found) = answer else {
                    ui.spinner();
                    return;
                };
                self.head_ui(ui, cx, &found);
                ui.add_space(8.0);
                self.map_ui(ui, cx, &found);
                ui.add_space(12.0);
                balance_ui(ui, cx, &found);
                ui.add_space(12.0);
                if let Some(layer) = found.layers.get(self.layer) {
                    layer_ui(ui, cx.colors, layer);
                }
            });
        });
    }

    fn head_ui(&mut self, ui: &mut Ui, cx: &Cx<'_>, found: &Experts) {
        ui.horizontal_wrapped(|ui| {
            ui.label(RichText::new("Experts").heading().strong());
            let phases = [(None, "all"), (Some(Phase::Prefill), "prefill"), (Some(Phase::Decode), "decode")];
            for (phase, name) in phases {
                ui.selectable_value(&mut self.phase, phase, name);
            }
            ui.separator();
            for (measure, name, terms) in Measure::ALL {
                ui.selectable_value(&mut self.measure, measure, name).explained(terms);
            }
        });
        let all = found.whole + found.partial + found.lost + found.unknown;
        let mut line = format!("{} selections", text::count(all));
        for (count, name) in [(found.partial, "partial"), (found.lost, "lost"), (found.unknown, "unknown")] {
            if count > 0 {
                line += &format!(", {} {name}", text::count(count));
            }
        }
        let missing = found.partial + found.lost + found.unknown > 0;
        let text = RichText::new(line).color(if missing { cx.colors.loss } else { cx.colors.weak });
        ui.label(text).explained(&["selection"]);
    }

    /// Layers by experts; a click chooses a layer.
    fn map_ui(&mut self, ui: &mut Ui, cx: &Cx<'_>, found: &Experts) {
        let Self { measure, .. } = *self;
        let most = found.layers.iter().map(|layer| layer.experts).max().unwrap_or(0) as usize;
        if most == 0 {
            ui.weak("nothing was recorded of what was chosen in this phase");
            return;
        }
        let row = (MAP_HEIGHT / found.layers.len() as f32).clamp(*ROW.start(), *ROW.end());
        let size = vec2(ui.available_width(), RULER + row * found.layers.len() as f32);
        let (rect, response) = ui.allocate_exact_size(size, Sense::click());
        response
            .widget_info(|| WidgetInfo::labeled(egui::Role::Image, true, "heat map of layers and experts"));
        let cells = Rect::from_min_max(rect.min + vec2(GUTTER, RULER), rect.max);
        let width = cells.width() / most as f32;
        let values = found
            .layers
            .iter()
            .flat_map(|layer| (0..layer.counts.len()).filter_map(move |expert| measure.of(layer, expert)));
        let top = values.fold(0.0, f64::max);
        let painter = ui.painter_at(rect);
        let small = FontId::proportional(11.0);
        let step = (40.0 / width).ceil().max(1.0) as usize;
        for expert in (0..most).step_by(step) {
            let at = Pos2::new(cells.left() + width * (expert as f32 + 0.5), rect.top() + RULER / 2.0);
            painter.text(at, Align2::CENTER_CENTER, expert, small.clone(), cx.colors.weak);
        }
        let rows = (16.0 / row).ceil().max(1.0) as usize;
        for (place, layer) in found.layers.iter().enumerate() {
            let y = cells.top() + row * place as f32;
            if place % rows == 0 {
                let name = text::shorten(&format!("layer {}", layer.name()), 12);
                let at = Pos2::new(rect.left(), y + row / 2.0);
                painter.text(at, Align2::LEFT_CENTER, name, small.clone(), cx.colors.weak);
            }
            for expert in 0..layer.counts.len() {
                let corner = Pos2::new(cells.left() + width * expert as f32, y);
                let cell = Rect::from_min_size(corner, vec2(width, row)).shrink(0.5);
                let color = match measure.of(layer, expert) {
                    // Unknown is not zero.
                    None => Color32::TRANSPARENT,
                    Some(value) => heat(cx.colors, value / top.max(f64::MIN_POSITIVE)),
                };
                painter.rect_filled(cell, 1.0, color);
            }
            let line = Rect::from_min_size(Pos2::new(cells.left(), y), vec2(cells.width(), row));
            let item = ui.interact(line, response.id.with(("layer", place)), Sense::hover());
            item.widget_info(|| {
                let of_most = (0..layer.counts.len())
                    .filter_map(|expert| Some((measure.of(layer, expert)?, expert)))
                    .max_by(|a, b| a.0.total_cmp(&b.0));
                let most = of_most.map_or_else(String::new, |(value, expert)| {
                    format!(", most expert {expert}: {}", measure.text(value))
                });
                let name = format!("layer {}: {} experts{most}", layer.name(), layer.experts);
                WidgetInfo::selected(egui::Role::ListBoxOption, true, place == self.layer, name)
            });
            if place == self.layer {
                let band = Rect::from_min_size(Pos2::new(cells.left(), y), vec2(cells.width(), row));
                painter.rect_stroke(band, 1.0, Stroke::new(1.5, cx.colors.accent), egui::StrokeKind::Outside);
            }
        }
        let under = |at: Pos2| {
            let place = ((at.y - cells.top()) / row) as usize;
            let expert = ((at.x - cells.left()) / width) as usize;
            let layer = found.layers.get(place).filter(|_| cells.contains(at))?;
            (expert < layer.counts.len()).then_some((place, expert))
        };
        if response.clicked()
            && let Some((place, _)) = response.interact_pointer_pos().and_then(under)
        {
            self.layer = place;
        }
        if let Some((place, expert)) = response.hover_pos().and_then(under)
            && let Some(layer) = found.layers.get(place)
        {
            response.on_hover_ui_at_pointer(|ui| cell_ui(ui, layer, expert));
        }
        scale_ui(ui, cx.colors, measure, top);
    }
}

/// Without experts: why.
fn nothing_ui(ui: &mut Ui, cx: &Cx<'_>) {
    let how = cx.open.trace.file.recording.as_ref().map_or("", |recording| recording.experts.as_str());
    ui.vertical_centered(|ui| {
        ui.add_space(80.0);
        ui.label(RichText::new("No experts in this trace").heading());
        ui.weak(match how {
            "" => "It was recorded before experts were.",
            "where their weights are gathered" | "at each node" => {
                "The model is no mixture: no MUL_MAT_ID was computed."
            }
            why => why,
        });
    });
}

fn cell_ui(ui: &mut Ui, layer: &Layer, expert: usize) {
    ui.strong(format!("layer {}, expert {expert}", layer.name()));
    let tokens = layer.counts.get(expert).copied().unwrap_or(0);
    ui.label(format!("{} of {} tokens", text::count(tokens), text::count(layer.tokens)));
    for (measure, name, _) in Measure::ALL {
        let value =
            measure.of(layer, expert).map_or_else(|| "unknown".to_owned(), |value| measure.text(value));
        ui.label(format!("{name}: {value}"));
    }
}

/// The colour of a share of the largest value.
fn heat(colors: &Colors, share: f64) -> Color32 {
    // A square root shows small differences near zero, where most experts are.
    colors.lane.lerp_to_gamma(colors.op(OpClass::Matmul), share.clamp(0.0, 1.0).sqrt() as f32)
}

fn scale_ui(ui: &mut Ui, colors: &Colors, measure: Measure, top: f64) {
    ui.horizontal(|ui| {
        ui.add_space(GUTTER);
        ui.weak("0");
        let (rect, _) = ui.allocate_exact_size(vec2(160.0, 10.0), Sense::hover());
        for step in 0..40 {
            let left = rect.left() + rect.width() * step as f32 / 40.0;
            let part = Rect::from_min_size(Pos2::new(left, rect.top()), vec2(rect.width() / 40.0, 10.0));
            ui.painter().rect_filled(part, 0.0, heat(colors, f64::from(step) / 39.0));
        }
        ui.weak(measure.text(top));
        ui.weak("· click a layer to see it below");
    });
}

/// How evenly tokens were spread, over time.
fn balance_ui(ui: &mut Ui, cx: &mut Cx<'_>, found: &Experts) {
    ui.strong("Load balance over time").explained(&["variation", "top share"]);
    let line = |value: fn(&llmtrace_analysis::experts::Balance) -> f64| -> PlotPoints<'static> {
        found.over_time.iter().map(|part| [part.begin_nanos as f64 / 1e9, value(part)]).collect()
    };
    let highest = found.over_time.iter().map(|part| part.variation.max(part.top_share)).fold(0.0, f64::max);
    let [variation, top] = [line(|part| part.variation), line(|part| part.top_share)];
    let colors = cx.colors;
    let plot = plot::still("balance")
        .height(plot::height(ui, PLOT_HEIGHT))
        .include_y(0.0)
        // Room for the legend, above the lines.
        .include_y(highest * 1.6)
        .legend(Legend::default())
        .x_axis_formatter(|mark, _| format!("{} s", text::trim(mark.value)))
        .grid_color(colors.line)
        .show(ui, |plot| {
            let color = colors.op(OpClass::Matmul);
            plot.line(Line::new("coefficient of variation", variation).color(color).width(1.6));
            let color = colors.op(OpClass::Attention);
            plot.line(Line::new("share of the most used experts", top).color(color).width(1.6));
            plot.pointer_coordinate().map(|at| at.x * 1e9)
        });
    plot::announce(ui, &plot, "load balance over time", found.over_time.len(), |at| {
        let part = found.over_time.get(at)?;
        let time = text::nanos(part.begin_nanos);
        Some((
            [part.begin_nanos as f64 / 1e9, part.variation],
            format!("variation {:.2} at {time}", part.variation),
        ))
    });
    if plot.response.clicked()
        && let Some(time) = plot.inner
        && let Some(part) = found.over_time.iter().rfind(|part| part.begin_nanos as f64 <= time)
    {
        cx.commands.push(Command::Show(Page::Timeline));
        cx.commands.push(Command::ZoomTo(TimeRange::new(part.begin_nanos, part.end_nanos)));
    }
    ui.weak(
        "Means over layers. 0 is even; an even router with few tokens in a part varies, too. Click to see the time in the timeline.",
    );
}

/// One layer closely.
fn layer_ui(ui: &mut Ui, colors: &Colors, layer: &Layer) {
    ui.strong(format!("Layer {}", layer.name()));
    ui.weak(format!(
        "{}: {} of {} experts a token, {} an expert · {} tokens · variation {:.2} · the {} most used got {} of the tokens",
        layer.weights,
        layer.used,
        layer.experts,
        text::bytes(layer.expert_bytes),
        text::count(layer.tokens),
        layer.variation,
        layer.used,
        text::percent(layer.top_share),
    ))
    .explained(&["expert use", "variation", "top share"]);
    ui.add_space(6.0);
    ui.columns(2, |columns| {
        if let [left, right] = columns {
            distances_ui(left, colors, layer);
            pairs_ui(right, layer);
        }
    });
}

/// After how many micro-batches an expert is used again.
fn distances_ui(ui: &mut Ui, colors: &Colors, layer: &Layer) {
    ui.label("Reuse distance: micro-batches until an expert is used again")
        .explained(&["reuse distance", "median"]);
    let Some(median) = layer.median_distance() else {
        ui.weak("no expert was used twice");
        return;
    };
    let all: u64 = layer.distances.iter().sum();
    let bars = layer.distances.iter().zip(1u32..).map(|(&count, distance)| {
        egui_plot::Bar::new(f64::from(distance), count as f64 / all.max(1) as f64).width(0.9)
    });
    let bars: Vec<_> = bars.collect();
    let plot = plot::still("distances")
        .height(plot::height(ui, PLOT_HEIGHT))
        .y_axis_formatter(|mark, _| text::percent(mark.value))
        .grid_color(colors.line)
        .show(ui, |plot| {
            plot.bar_chart(egui_plot::BarChart::new("reuse", bars).color(colors.op(OpClass::Matmul)));
        });
    plot::announce(ui, &plot, "reuse distances", layer.distances.len(), |at| {
        let share = *layer.distances.get(at)? as f64 / all.max(1) as f64;
        Some(([at as f64 + 1.0, share], format!("{} after {}", text::percent(share), at + 1)))
    });
    let more = if median >= DISTANCES { " or more" } else { "" };
    ui.weak(format!("median {median}{more}; the last bar is {DISTANCES} and more"));
}

fn pairs_ui(ui: &mut Ui, layer: &Layer) {
    ui.label("Most often chosen together").explained(&["chosen together"]);
    if layer.pairs.is_empty() {
        ui.weak("no two experts were chosen together");
        return;
    }
    egui::Grid::new("pairs").num_columns(3).spacing([24.0, 4.0]).striped(true).show(ui, |ui| {
        for name in ["experts", "tokens", "of all"] {
            ui.weak(name).explained(&["chosen together"]);
        }
        ui.end_row();
        for &(low, high, tokens) in layer.pairs.iter().take(8) {
            ui.label(format!("{low} and {high}"));
            ui.label(text::count(tokens));
            ui.label(text::percent(tokens as f64 / layer.tokens.max(1) as f64));
            ui.end_row();
        }
    });
}
