//! The selected node: what it is, how long it took on each thread this time,
//! and how long it takes in general.

use crate::command::Command;
use crate::memo::Memo;
use crate::panel::{Cx, Explained as _, swatch_ui};
use crate::plot;
use crate::text;
use crate::timeline::flows::Around;
use egui::accesskit::Role;
use egui::{
    Align2, CollapsingHeader, CornerRadius, FontId, Grid, Rect, RichText, Sense, Ui, WidgetInfo, pos2, vec2,
};
use egui_plot::{Bar, BarChart, VLine};
use llmtrace_analysis::format::meta::{Graph, Tensor};
use llmtrace_analysis::stats::{Distribution, distribution_in};
use llmtrace_analysis::{Found, NodeKey, OpSpan, Phase, Place, node};
use std::sync::Arc;

type Answer = Memo<(NodeKey, Phase), Distribution>;

pub(crate) fn node_ui(ui: &mut Ui, cx: &mut Cx<'_>, found: Found, memo: &mut Answer, around: &mut Around) {
    let (place, span) = (found.place, &found.span);
    let key = cx.open.key(span);
    ui.horizontal(|ui| {
        swatch_ui(ui, cx.colors.op(cx.open.class_of(span)));
        ui.add(egui::Label::new(RichText::new(&key.name).heading()).truncate());
    });
    ui.label(RichText::new(&key.op).strong().monospace());
    steps_ui(ui, cx);
    ui.separator();
    if let Some((graph, _)) = cx.open.trace.node_of(span) {
        tensors_ui(ui, cx, graph, span);
        ui.separator();
    }
    this_time_ui(ui, cx, place, span);
    super::machine::span_ui(ui, cx, place.lane, span);
    ui.separator();
    threads_ui(ui, cx, span);
    ui.separator();
    super::flows::flows_ui(ui, cx, around);
    ui.separator();
    distribution_ui(ui, cx, &key, span, memo);
}

fn steps_ui(ui: &mut Ui, cx: &mut Cx<'_>) {
    ui.horizontal(|ui| {
        for (name, command, hint) in [
            ("◀", Command::PreviousOccurrence, "Same node, time before  [ "),
            ("▶", Command::NextOccurrence, "Same node, next time  ]"),
            ("Frame", Command::FrameSelection, "Fill the window with it  F"),
            ("Clear", Command::ClearSelection, "Select nothing  Esc"),
        ] {
            if ui.button(name).on_hover_text(hint).clicked() {
                cx.commands.push(command);
            }
        }
    });
}

/// Type and shape of the result and of each source.
fn tensors_ui(ui: &mut Ui, cx: &Cx<'_>, graph: &Graph, span: &OpSpan) {
    let file = &cx.open.trace.file;
    let last = span.node.saturating_add(span.fused);
    Grid::new("tensors").num_columns(3).spacing([10.0, 3.0]).show(ui, |ui| {
        let row = |ui: &mut Ui, role: &str, tensor: &Tensor| {
            ui.weak(role);
            ui.label(format!("{} {}", node::type_name(file, tensor), node::shape(tensor)));
            let name = text::shorten(file.string(tensor.name), 30);
            ui.add(egui::Label::new(RichText::new(name).small()).truncate());
            ui.end_row();
        };
        for index in span.node..=last.min(span.node.saturating_add(8)) {
            let Some(tensor) = graph.tensors.get(index as usize) else { break };
            let role = if span.fused > 0 { node::op_name(file, tensor) } else { "result" };
            row(ui, role, tensor);
            for (number, source) in tensor.sources.iter().enumerate() {
                // A fused kernel never writes what is between its nodes.
                let is_inner = (span.node..index).contains(source);
                if let Some(source) = graph.tensors.get(*source as usize).filter(|_| !is_inner) {
                    row(ui, &format!("source {number}"), source);
                }
            }
        }
    });
    if span.fused > 0 {
        ui.weak(format!("One kernel computes {} nodes of the graph.", span.fused + 1));
    }
    CollapsingHeader::new("Strides and parameters").id_salt("strides").show(ui, |ui| {
        let Some(tensor) = node::result(graph, span.node, span.fused) else { return };
        ui.label(format!("result, bytes between elements: {:?}", tensor.nb));
        for (number, source) in tensor.sources.iter().enumerate() {
            if let Some(source) = graph.tensors.get(*source as usize) {
                ui.label(format!("source {number}: {:?}", source.nb));
            }
        }
        ui.label(format!("parameters: {:?}", tensor.op_params));
        ui.label(format!("node {} of graph {}", span.node, graph.id));
    });
}

fn this_time_ui(ui: &mut Ui, cx: &Cx<'_>, place: Place, span: &OpSpan) {
    ui.strong("This execution");
    Grid::new("execution").num_columns(2).spacing([12.0, 3.0]).show(ui, |ui| {
        let mut row = |name: &str, value: String, hint: &str| {
            ui.weak(name).on_hover_text(hint);
            ui.label(value);
            ui.end_row();
        };
        row(
            "compute",
            text::nanos(span.compute),
            "From the begin of the node on this thread to its arrival at the barrier",
        );
        row("wait", text::nanos(span.wait), "From there until the last thread arrived");
        row("begin", text::nanos(span.begin), "Since the start of the recording");
        let thread =
            cx.open.trace.thread_of(span).map_or(String::new(), |thread| format!(", tid {}", thread.tid));
        row(
            "thread",
            format!("{}{thread}, cpu {}", place.lane, span.cpu),
            "Place in the thread pool, kernel thread, CPU",
        );
        if let Some(token) = cx.open.trace.token_at(span.begin) {
            let what = format!("{} {}, batch of {}", token.phase.name(), token.number, token.tokens);
            row("token", what, "The micro-batch that this was part of");
        }
    });
    if span.touched_by_loss {
        ui.colored_label(cx.colors.loss, "⚠ Events were lost here: times may be wrong.");
    }
}

/// One bar a thread, on the time of this execution.
fn threads_ui(ui: &mut Ui, cx: &Cx<'_>, span: &OpSpan) {
    ui.strong("On each thread");
    let spans: Vec<(u32, OpSpan)> =
        cx.open.on_each_lane(span).into_iter().map(|found| (found.place.lane, found.span)).collect();
    let begin = spans.iter().map(|(_, span)| span.begin).min().unwrap_or(0);
    let end = spans.iter().map(|(_, span)| span.end()).max().unwrap_or(1);
    let scale = 1.0 / end.saturating_sub(begin).max(1) as f32;
    let class = cx.open.class_of(span);
    const NAME: f32 = 26.0;
    const VALUE: f32 = 112.0;
    for (lane, span) in spans {
        let (rect, response) = ui.allocate_exact_size(vec2(ui.available_width(), 16.0), Sense::hover());
        let times = format!("{} + {}", text::nanos(span.compute), text::nanos(span.wait));
        let name =
            format!("thread {lane}: compute {}, wait {}", text::nanos(span.compute), text::nanos(span.wait));
        response.widget_info(|| WidgetInfo::labeled(Role::Label, true, name.as_str()));
        let bars =
            Rect::from_min_max(rect.min + vec2(NAME, 2.0), pos2(rect.right() - VALUE, rect.bottom() - 2.0));
        let x = |time: u64| bars.left() + time.saturating_sub(begin) as f32 * scale * bars.width();
        let painter = ui.painter();
        let font = FontId::proportional(11.5);
        painter.text(
            rect.left_center(),
            Align2::LEFT_CENTER,
            format!("t{lane}"),
            font.clone(),
            cx.colors.weak,
        );
        painter.rect_filled(bars, 2.0, cx.colors.lane);
        let part = |from: u64, to: u64| Rect::from_x_y_ranges(x(from)..=x(to), bars.y_range());
        let square = CornerRadius::same(1);
        painter.rect_filled(part(span.compute_end(), span.end()), square, cx.colors.waiting(class));
        painter.rect_filled(part(span.begin, span.compute_end()), square, cx.colors.op(class));
        painter.text(rect.right_center(), Align2::RIGHT_CENTER, times, font, cx.colors.text);
        response.on_hover_text(name);
    }
}

fn distribution_ui(ui: &mut Ui, cx: &mut Cx<'_>, key: &NodeKey, span: &OpSpan, memo: &mut Answer) {
    let phase = cx.open.trace.token_at(span.begin).map_or(Phase::Unknown, |token| token.phase);
    ui.strong(format!("All occurrences in {}", phase.name())).on_hover_text(
        "Wall time of this node over the whole trace, in the same phase: from the first thread's begin until the last thread was done",
    );
    let trace = Arc::clone(&cx.open.trace);
    let wanted = key.clone();
    let answer = memo.get(&(key.clone(), phase), cx.jobs, ui.ctx(), move |going| {
        distribution_in(&trace, &wanted, None, Some(phase), &|_| going.on()).ok()
    });
    let Some((found, current)) = answer else {
        ui.spinner();
        return;
    };
    ui.scope(|ui| {
        if !current {
            ui.set_opacity(0.6);
        }
        let d = &found.durations;
        Grid::new("distribution").num_columns(4).spacing([10.0, 3.0]).show(ui, |ui| {
            let cell = |ui: &mut Ui, name: &str, value: String, terms: &[&'static str]| {
                ui.weak(name).explained(terms);
                ui.label(value);
            };
            cell(ui, "count", text::count(found.count), &["count"]);
            cell(ui, "median", text::nanos(d.median_nanos), &["median", "wall"]);
            ui.end_row();
            cell(ui, "5 %", text::nanos(d.p5_nanos), &["percentile", "wall"]);
            cell(ui, "95 %", text::nanos(d.p95_nanos), &["percentile", "wall"]);
            ui.end_row();
            cell(ui, "mean", text::nanos(d.mean_nanos), &["mean", "wall"]);
            cell(ui, "max", text::nanos(d.max_nanos), &["wall"]);
            ui.end_row();
        });
        histogram_ui(ui, cx, found, wall(cx, span));
    });
}

/// Wall time of this execution.
fn wall(cx: &Cx<'_>, span: &OpSpan) -> u64 {
    let places = cx.open.on_each_lane(span);
    let spans = || places.iter().map(|found| &found.span);
    let begin = spans().map(|span| span.begin).min().unwrap_or(span.begin);
    let end = spans().map(OpSpan::compute_end).max().unwrap_or(span.compute_end());
    end.saturating_sub(begin)
}

fn histogram_ui(ui: &mut Ui, cx: &Cx<'_>, found: &Distribution, this: u64) {
    let step = found.bins.first().map_or(1, |bin| bin.to_nanos.saturating_sub(bin.from_nanos)).max(1) as f64;
    let color = cx.colors.op(crate::theme::OpClass::Matmul);
    let bars: Vec<Bar> = found
        .bins
        .iter()
        .map(|bin| {
            // The last bin reaches to the longest; drawn as wide as the others.
            let middle = bin.from_nanos as f64 + step / 2.0;
            Bar::new(middle, bin.count as f64).width(step).fill(color).stroke(egui::Stroke::NONE)
        })
        .collect();
    let last = found.bins.last().map_or(1.0, |bin| bin.from_nanos as f64 + step);
    let response = plot::still("histogram")
        .width(ui.available_width() - 14.0)
        .height(110.0)
        .show_grid([false, true])
        .show_axes([true, false])
        .grid_color(cx.colors.line)
        .show_y(false)
        .set_margin_fraction(vec2(0.02, 0.06))
        .x_axis_formatter(|mark, _| text::nanos_f64(mark.value))
        .y_axis_formatter(|mark, _| text::trim(mark.value))
        .label_formatter(|at| match at {
            egui_plot::HoverPosition::NearDataPoint { position, .. }
            | egui_plot::HoverPosition::Elsewhere { position } => Some(text::nanos_f64(position.x)),
        })
        .show(ui, |plot| {
            plot.bar_chart(BarChart::new("occurrences", bars).allow_hover(false));
            plot.vline(VLine::new("this one", (this as f64).min(last)).color(cx.colors.text).width(1.5));
        });
    plot::announce(ui, &response, "how long occurrences took", found.bins.len(), |at| {
        let bin = found.bins.get(at).filter(|bin| bin.count > 0)?;
        let from = text::nanos(bin.from_nanos);
        let place = [bin.from_nanos as f64 + step / 2.0, bin.count as f64];
        Some((place, format!("{} from {from}", text::count(bin.count))))
    });
    ui.weak("The line is this execution; the last bar also holds what is longer.");
}
