//! Draws the picture, and handles pointer and keys over it.

use super::part::{Cost, spread};
use super::picture::{Picture, Shown, is_view};
use super::{Costs, GraphPage, Heat};
use crate::command::Command;
use crate::panel::Cx;
use crate::seek::Seek;
use crate::text;
use crate::theme::{Colors, OpClass};
use egui::accesskit::Role;
use egui::epaint::CubicBezierShape;
use egui::{
    Align2, Color32, FontId, Key, Painter, Pos2, Rect, Sense, Stroke, StrokeKind, Ui, WidgetInfo, pos2, vec2,
};
use llmtrace_analysis::NodeKey;
use llmtrace_analysis::dag::{Edge, Kind, Outline};
use llmtrace_analysis::format::meta::Graph;
use llmtrace_analysis::node;
use std::sync::Arc;

/// Scale below which names cannot be read.
const READABLE: f32 = 0.4;
/// Scale below which edges are straight.
const CURVED: f32 = 0.12;

/// How hot a part is, from 0 to 1, and what to say about it.
struct Said {
    /// What lies over the part's colour, and how much of it.
    heat: Option<(Color32, f32)>,
    line: String,
}

impl GraphPage {
    pub(crate) fn canvas_ui(
        &mut self,
        ui: &mut Ui,
        cx: &mut Cx<'_>,
        (index, graph, outline): (u32, &Graph, &Arc<Outline>),
        costs: Option<&Costs>,
    ) {
        let shown = Shown { graph: index, expanded: self.expanded.clone(), views: self.views };
        let (trace, of, wanted) = (Arc::clone(&cx.open.trace), Arc::clone(outline), shown.clone());
        let answer = self.picture.get(&shown, cx.jobs, ui.ctx(), move |_| {
            let graph = trace.file.graphs.get(wanted.graph as usize)?;
            Some(Arc::new(Picture::of(&trace.file, graph, &of, &wanted)))
        });
        let answer = answer.map(|(picture, current)| (Arc::clone(picture), current));
        let window = ui.available_rect_before_wrap();
        let response = ui.interact(window, ui.scope_id().with("canvas"), Sense::click_and_drag());
        response.widget_info(|| WidgetInfo::labeled(Role::Pane, true, "compute graph"));
        let Some((picture, current)) = answer else {
            ui.centered_and_justified(|ui| ui.spinner());
            return;
        };
        if !current {
            ui.ctx().request_repaint();
        }
        self.camera.update(window, &picture.layout);
        self.camera.input(&response, window);
        if current && let Some(part) = self.reveal.take() {
            let placed = picture.item_of(outline, part).and_then(|item| picture.layout.placed.get(item));
            if let Some(placed) = placed {
                self.camera.reveal(window, placed);
            }
        }
        let hovered = response.hover_pos().and_then(|pointer| {
            let at = self.camera.picture_from_screen(window, pointer);
            picture.at(at.x, at.y)
        });
        if current {
            self.act(ui, cx, &response, (graph, outline, &picture), (hovered, costs));
        }
        let painter = ui.painter().with_clip_rect(window);
        painter.rect_filled(window, 4.0, cx.colors.lane);
        self.paint_edges(&painter, window, cx.colors, &picture, outline, costs);
        self.paint_parts(ui, &painter, window, cx, (outline, &picture), (hovered, costs));
        self.paint_legend(ui, &painter, window, cx.colors, costs);
        if let Some(item) = hovered {
            response.on_hover_ui_at_pointer(|ui| item_ui(ui, cx, (graph, outline, &picture), item, costs));
        }
    }

    /// Click chooses, double click and Enter expand or fold, arrows go to the next part.
    fn act(
        &mut self,
        ui: &Ui,
        cx: &mut Cx<'_>,
        response: &egui::Response,
        (graph, outline, picture): (&Graph, &Outline, &Picture),
        (hovered, costs): (Option<usize>, Option<&Costs>),
    ) {
        let part_of = |item: usize| picture.visible.items.get(item).copied();
        let chosen = self.chosen.and_then(|part| picture.item_of(outline, part));
        let free = !ui.ctx().egui_wants_keyboard_input();
        let (down, up, enter, back) = ui.input_mut(|input| {
            let mut key = |key| free && input.consume_key(egui::Modifiers::NONE, key);
            (key(Key::ArrowDown), key(Key::ArrowUp), key(Key::Enter), key(Key::Backspace))
        });
        if response.double_clicked() {
            if let Some(part) = hovered.and_then(part_of) {
                self.toggle(outline, part);
            }
        } else if response.clicked() {
            self.chosen = hovered.and_then(part_of);
            self.select(cx, graph, outline, costs);
        }
        if down || up {
            let last = picture.visible.items.len().saturating_sub(1);
            let next = match chosen {
                None => 0,
                Some(at) if down => (at + 1).min(last),
                Some(at) => at.saturating_sub(1),
            };
            self.chosen = part_of(next);
            self.reveal = self.chosen;
            self.select(cx, graph, outline, costs);
        }
        if enter && let Some(part) = chosen.and_then(part_of) {
            self.toggle(outline, part);
        }
        if back && let Some(part) = self.chosen.and_then(|part| outline.around(part).next()) {
            self.expanded.remove(&part);
            self.chosen = Some(part);
            self.reveal = Some(part);
        }
    }

    /// Expands a part, or folds what a node is part of.
    fn toggle(&mut self, outline: &Outline, part: usize) {
        let expandable = outline.parts.get(part).is_some_and(|part| !part.parts.is_empty());
        if expandable {
            self.expanded.insert(part);
            let first = outline.parts.get(part).and_then(|part| part.parts.first()).copied();
            self.chosen = first;
            self.reveal = first;
        } else if let Some(around) = outline.around(part).next() {
            self.expanded.remove(&around);
            self.chosen = Some(around);
            self.reveal = Some(around);
        }
    }

    /// A chosen node is selected everywhere.
    fn select(&mut self, cx: &mut Cx<'_>, graph: &Graph, outline: &Outline, costs: Option<&Costs>) {
        let chosen = self.chosen.and_then(|part| outline.parts.get(part)).map(|part| part.kind);
        let Some(Kind::Node(index)) = chosen else { return };
        // A fused node's execution is that of the first of the kernel.
        let fused = |index: u32| {
            costs.and_then(|costs| costs.nodes.get(index as usize)).map(|heat| (heat.count, heat.fused))
        };
        let first = (index.saturating_sub(8)..=index)
            .rev()
            .find(|&first| fused(first).is_some_and(|(count, more)| count > 0 && first + more >= index));
        let Some(first) = first else { return };
        let file = &cx.open.trace.file;
        let more = fused(first).map_or(0, |(_, more)| more);
        let name = node::result(graph, first, more).map_or("", |tensor| file.string(tensor.name));
        let key = NodeKey { name: name.to_owned(), op: node::op_label(file, graph, first, more) };
        let time = cx.open.view.range().begin;
        cx.commands.push(Command::Seek(Seek::Node { key, graph: graph.id, time }));
    }

    fn paint_edges(
        &self,
        painter: &Painter,
        window: Rect,
        colors: &Colors,
        picture: &Picture,
        outline: &Outline,
        costs: Option<&Costs>,
    ) {
        let scale = self.camera.scale();
        let chosen = self.chosen.and_then(|part| picture.item_of(outline, part));
        let placed = &picture.layout.placed;
        let critical = |item: u32| {
            let part = picture.visible.items.get(item as usize).and_then(|part| outline.parts.get(*part));
            self.critical && part.is_some_and(|part| is_critical(costs, part.nodes.clone()))
        };
        for edge in &picture.visible.edges {
            let (Some(from), Some(to)) = (placed.get(edge.from as usize), placed.get(edge.to as usize))
            else {
                continue;
            };
            let begin = self.camera.at(window, from.x, from.y + from.height / 2.0);
            let end = self.camera.at(window, to.x, to.y - to.height / 2.0);
            if !Rect::from_two_pos(begin, end).expand(40.0).intersects(window) {
                continue;
            }
            let touches = chosen.is_some_and(|item| item == edge.from as usize || item == edge.to as usize);
            let color = if critical(edge.from) && critical(edge.to) {
                colors.loss
            } else if touches {
                colors.accent
            } else {
                colors.weak.gamma_multiply(0.55)
            };
            let stroke = Stroke::new((width(edge) * scale).clamp(0.4, 12.0), color);
            if scale < CURVED {
                painter.line_segment([begin, end], stroke);
                continue;
            }
            let bend = vec2(0.0, ((end.y - begin.y) * 0.45).clamp(6.0, 90.0));
            let points = [begin, begin + bend, end - bend, end];
            painter.add(CubicBezierShape::from_points_stroke(points, false, Color32::TRANSPARENT, stroke));
        }
    }

    fn paint_parts(
        &self,
        ui: &Ui,
        painter: &Painter,
        window: Rect,
        cx: &Cx<'_>,
        (outline, picture): (&Outline, &Picture),
        (hovered, costs): (Option<usize>, Option<&Costs>),
    ) {
        let scale = self.camera.scale();
        let chosen = self.chosen.and_then(|part| picture.item_of(outline, part));
        let hottest = self.hottest(outline, picture, costs);
        for (item, placed) in picture.layout.placed.iter().enumerate() {
            let rect = self.camera.screen_from_picture(window, placed);
            let part = picture.visible.items.get(item).and_then(|part| outline.parts.get(*part));
            let Some(part) = part.filter(|_| rect.intersects(window)) else { continue };
            let op = picture.ops.get(item).map_or("", String::as_str);
            let said = self.say(cx.colors, outline, part, op, (costs, hottest));
            let class = cx.colors.op(OpClass::of(op));
            let fill = match said.heat {
                Some((color, heat)) => cx.colors.card.lerp_to_gamma(color, heat * 0.85),
                None if self.heat == Heat::Operator && !op.is_empty() => class,
                None => cx.colors.card,
            };
            let round = (if part.parts.is_empty() { 4.0 } else { 9.0 } * scale).min(9.0);
            if let Kind::Stack(..) = part.kind
                && scale > 0.1
            {
                // More of the same behind it.
                for behind in [8.0, 4.0] {
                    let behind = rect.translate(vec2(behind, -behind) * scale);
                    painter.rect(
                        behind,
                        round,
                        cx.colors.card,
                        Stroke::new(1.0, cx.colors.line),
                        StrokeKind::Inside,
                    );
                }
            }
            let critical = self.critical && is_critical(costs, part.nodes.clone());
            let stroke = match (chosen == Some(item), critical, hovered == Some(item)) {
                (true, ..) => Stroke::new(2.5, cx.colors.accent),
                (_, true, _) => Stroke::new(2.0, cx.colors.loss),
                (_, _, true) => Stroke::new(1.5, cx.colors.text),
                _ => Stroke::new(1.0, cx.colors.line),
            };
            painter.rect(rect, round, fill, stroke, StrokeKind::Inside);
            if !op.is_empty() && self.heat != Heat::Operator && scale > 0.15 {
                let stripe =
                    Rect::from_min_size(rect.min + vec2(2.0, 3.0), vec2(4.0 * scale, rect.height() - 6.0));
                painter.rect_filled(stripe, 1.0, class);
            }
            let name = picture.names.get(item).map_or("", String::as_str);
            if scale >= READABLE {
                let ink = cx.colors.text_on(fill);
                paint_text(painter, rect, scale, (name, &said.line), ink);
                paint_leaves(painter, rect, scale, cx.colors, picture, item);
                let label = format!("{name} {op} {}", said.line);
                let response =
                    ui.interact(rect.intersect(window), ui.scope_id().with(("part", item)), Sense::hover());
                response.widget_info(|| {
                    WidgetInfo::selected(Role::TreeItem, true, chosen == Some(item), label.trim())
                });
            }
        }
    }

    /// The hottest of what is drawn.
    fn hottest(&self, outline: &Outline, picture: &Picture, costs: Option<&Costs>) -> f64 {
        let Some(costs) = costs else { return 0.0 };
        let parts = picture.visible.items.iter().filter_map(|part| outline.parts.get(*part));
        let each = parts.filter_map(|part| self.measure(costs, part.nodes.clone()));
        each.fold(0.0, |most, value| f64::max(most, value.abs()))
    }

    fn measure(&self, costs: &Costs, nodes: std::ops::Range<u32>) -> Option<f64> {
        let cost = Cost::of(costs, nodes.clone());
        match self.heat {
            _ if cost.ran == 0 => None,
            Heat::Time => Some(cost.wall as f64),
            Heat::Wait => Some(cost.wait_share()),
            Heat::Bytes => cost.bytes.map(|bytes| bytes as f64),
            Heat::Roof => cost.roof.map(|share| 1.0 - share.min(1.0)),
            Heat::Difference => self.baseline.as_ref()?.change(costs, nodes),
            Heat::Operator => None,
        }
    }

    fn say(
        &self,
        colors: &Colors,
        outline: &Outline,
        part: &llmtrace_analysis::dag::Part,
        op: &str,
        (costs, hottest): (Option<&Costs>, f64),
    ) -> Said {
        let Some(costs) = costs else { return Said { heat: None, line: op.to_owned() } };
        let cost = Cost::of(costs, part.nodes.clone());
        // By the root, so that what costs a tenth can still be told from nothing.
        let heat = self.measure(costs, part.nodes.clone()).map(|value| {
            // What is shorter than before is cold.
            let color = if value < 0.0 { colors.scale[0] } else { colors.scale[1] };
            (color, (value.abs() / hottest.max(1e-12)).sqrt() as f32)
        });
        let value = match self.heat {
            _ if cost.ran == 0 && is_view(op) => "view".to_owned(),
            _ if cost.ran == 0 && is_fused(costs, part.nodes.start) => "fused".to_owned(),
            _ if cost.ran == 0 => "not recorded".to_owned(),
            Heat::Time | Heat::Operator => match (part.kind, spread(costs, outline, part)) {
                (Kind::Stack(..), Some((low, high))) => {
                    let mean = cost.mean(costs) / part.parts.len().max(1) as f64;
                    format!(
                        "each {} ({}–{})",
                        text::nanos_f64(mean),
                        text::nanos_f64(low),
                        text::nanos_f64(high)
                    )
                }
                _ => text::nanos_f64(cost.mean(costs)),
            },
            Heat::Wait => format!("waits {}", text::percent(cost.wait_share())),
            Heat::Bytes => cost.bytes.map_or_else(|| "bytes unknown".to_owned(), text::bytes),
            Heat::Roof => cost.roof.map_or_else(
                || "no roof known".to_owned(),
                |share| format!("{} of roof", text::percent(share)),
            ),
            Heat::Difference => {
                let both = self.baseline.as_ref().and_then(|kept| kept.both(costs, part.nodes.clone()));
                both.filter(|(_, before)| *before > 0.0).map_or_else(
                    || "not in both".to_owned(),
                    |(now, before)| {
                        let sign = if now < before { "−" } else { "+" };
                        let share = (now / before - 1.0).abs() * 100.0;
                        format!("{sign}{share:.1} %  {sign}{}", text::nanos_f64((now - before).abs()))
                    },
                )
            }
        };
        // Beside what is said of a difference there is no room for the operator.
        let line =
            if op.is_empty() || self.heat == Heat::Difference { value } else { format!("{op}  {value}") };
        Said { heat, line }
    }

    fn paint_legend(&self, ui: &Ui, painter: &Painter, window: Rect, colors: &Colors, costs: Option<&Costs>) {
        let mut lines = Vec::new();
        if let Some(costs) = costs {
            if costs.executions == 0 {
                lines.push("no op spans of this graph: costs are unknown".to_owned());
            } else if self.critical {
                let all: f64 = costs.nodes.iter().map(|node| node.mean()).sum();
                let (path, all) = (text::nanos_f64(costs.critical_nanos), text::nanos_f64(all));
                lines.push(format!("critical path {path} of {all} in nodes"));
            }
            if self.heat == Heat::Roof && costs.nodes.iter().all(|node| node.roof_share.is_none()) {
                lines.push("no ceilings of the host in this trace: run llmtrace calibrate there".to_owned());
            }
        }
        if self.heat == Heat::Difference && self.baseline.is_some() {
            lines.push("warm: longer than what is compared with · cold: shorter".to_owned());
        }
        lines.push("w weights · kv cache · in inputs of the call · copied: of another backend · wider edges carry more bytes".to_owned());
        lines.push("double click or Enter expands, Backspace folds, arrows go along".to_owned());
        let mut y = window.bottom() - 6.0;
        for line in lines.iter().rev() {
            let galley = painter.layout_no_wrap(line.clone(), FontId::proportional(11.0), colors.weak);
            y -= galley.size().y;
            let at = pos2(window.left() + 8.0, y);
            painter.rect_filled(Rect::from_min_size(at, galley.size()).expand(2.0), 2.0, colors.lane);
            let rect = Rect::from_min_size(at, galley.size());
            painter.galley(at, galley, colors.weak);
            let response = ui.interact(rect, ui.scope_id().with(("legend", line)), Sense::hover());
            response.widget_info(|| WidgetInfo::labeled(Role::Label, true, line));
        }
    }
}

/// Whether a kernel that begins at an earlier node computes this one.
fn is_fused(costs: &Costs, node: u32) -> bool {
    (node.saturating_sub(8)..node).any(|first| {
        costs.nodes.get(first as usize).is_some_and(|heat| heat.count > 0 && first + heat.fused >= node)
    })
}

fn is_critical(costs: Option<&Costs>, nodes: std::ops::Range<u32>) -> bool {
    let marked = costs.and_then(|costs| costs.critical.get(nodes.start as usize..nodes.end as usize));
    marked.is_some_and(|marked| marked.contains(&true))
}

/// Width of an edge: one point, and one more for each fourfold of a KiB.
fn width(edge: &Edge) -> f32 {
    let kib = edge.bytes.unwrap_or(0) as f32 / 1024.0;
    1.0 + (kib.max(1.0).log2() / 2.0).clamp(0.0, 7.0)
}

/// How much smaller text may become to fit.
const SMALLEST: f32 = 0.85;

fn paint_text(painter: &Painter, rect: Rect, scale: f32, (name, line): (&str, &str), color: Color32) {
    let size = (13.0 * scale).min(16.0);
    let small = (11.0 * scale).min(13.5);
    let room = rect.width() - 14.0 * scale;
    let text = |text: &str, size: f32, at: Pos2, color: Color32| {
        let layout = |size: f32| {
            egui::text::LayoutJob::simple_singleline(text.to_owned(), FontId::proportional(size), color)
        };
        let wide = painter.layout_job(layout(size)).size().x;
        // A little smaller, before its end is cut off.
        let mut job = layout(size * (room / wide.max(1.0)).clamp(SMALLEST, 1.0));
        job.wrap = egui::text::TextWrapping::truncate_at_width(room);
        let galley = painter.layout_job(job);
        let at = Align2::CENTER_CENTER.anchor_size(at, galley.size()).min;
        painter.galley(at, galley, color);
    };
    let middle = rect.center();
    text(name, size, middle - vec2(0.0, 7.0 * scale), color);
    text(line, small, middle + vec2(0.0, 9.0 * scale), color.gamma_multiply(0.82));
}

/// What a part reads that no node computes, on its upper edge.
fn paint_leaves(painter: &Painter, rect: Rect, scale: f32, colors: &Colors, picture: &Picture, item: usize) {
    let Some(leaves) = picture.visible.leaves.get(item).filter(|_| scale >= 0.6) else { return };
    let mut left = rect.left() + 8.0 * scale;
    for (name, sum, color) in [
        ("w", leaves.weights, colors.op(OpClass::Copy)),
        ("kv", leaves.caches, colors.op(OpClass::Position)),
        ("in", leaves.inputs, colors.op(OpClass::Elementwise)),
        ("copied", leaves.copied, colors.op(OpClass::Routing)),
    ] {
        if sum.tensors == 0 {
            continue;
        }
        let bytes = sum.bytes.map_or_else(|| "?".to_owned(), text::bytes);
        let font = FontId::proportional((9.5 * scale).min(11.0));
        let galley = painter.layout_no_wrap(format!("{name} {bytes}"), font, colors.text_on(color));
        let size = galley.size() + vec2(8.0, 2.0) * scale.min(1.0);
        let pill = Rect::from_min_size(pos2(left, rect.top() - size.y * 0.6), size);
        if pill.right() > rect.right() + 40.0 * scale {
            break;
        }
        painter.rect_filled(pill, size.y / 2.0, color);
        painter.galley(pill.center() - galley.size() / 2.0, galley, colors.text);
        left = pill.right() + 3.0;
    }
}

/// What the pointer says about an item.
fn item_ui(
    ui: &mut Ui,
    cx: &Cx<'_>,
    (graph, outline, picture): (&Graph, &Outline, &Picture),
    item: usize,
    costs: Option<&Costs>,
) {
    let Some(part) = picture.visible.items.get(item).and_then(|part| outline.parts.get(*part)) else {
        return;
    };
    ui.strong(picture.names.get(item).map_or("", String::as_str));
    if let Kind::Node(index) = part.kind
        && let Some(tensor) = graph.tensors.get(index as usize)
    {
        let file = &cx.open.trace.file;
        ui.label(format!(
            "{}  {} {}",
            node::op_name(file, tensor),
            node::type_name(file, tensor),
            node::shape(tensor)
        ));
        for source in &tensor.sources {
            let Some(source) = graph.tensors.get(*source as usize) else { continue };
            let shape = format!("{} {}", node::type_name(file, source), node::shape(source));
            ui.weak(format!("from {}  {shape}", file.string(source.name)));
        }
    } else {
        ui.label(format!("{} nodes", part.nodes.len()));
    }
    if let Some(costs) = costs.filter(|costs| costs.executions > 0) {
        let cost = Cost::of(costs, part.nodes.clone());
        let line = format!(
            "{} a computation, waiting {}",
            text::nanos_f64(cost.mean(costs)),
            text::percent(cost.wait_share())
        );
        ui.label(line);
    }
    if let Some(leaves) = picture.visible.leaves.get(item) {
        for (name, sum) in [
            ("weights", leaves.weights),
            ("KV cache", leaves.caches),
            ("inputs", leaves.inputs),
            ("copied from another backend", leaves.copied),
        ] {
            if sum.tensors > 0 {
                let bytes = sum.bytes.map_or_else(|| "size unknown".to_owned(), text::bytes);
                ui.weak(format!("{name}: {} tensors, {bytes}", sum.tensors));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_are_the_wider_the_more_bytes_they_carry() {
        let of = |bytes| width(&Edge { from: 0, to: 1, bytes, tensors: 1 });
        let widths = [Some(4), Some(1 << 12), Some(1 << 16), Some(1 << 22)].map(of);
        assert!(widths.is_sorted_by(|less, more| less < more), "{widths:?}");
        // What is not known is as thin as the thinnest, and nothing is a bar.
        assert_eq!(of(None), widths[0]);
        assert_eq!(of(Some(u64::MAX)), 8.0);
    }
}
