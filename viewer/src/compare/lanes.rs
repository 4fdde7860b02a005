//! Both timelines, and between them how much longer each token took.

use super::{ComparePage, Pair};
use crate::command::Command;
use crate::panel::Cx;
use crate::seek::Seek;
use crate::state::Open;
use crate::text;
use crate::theme::{Colors, GUTTER_WIDTH, MIN_BAR};
use crate::timeline::{Manner, Quads};
use egui::accesskit::Role;
use egui::{
    Align2, CursorIcon, FontId, Painter, Rect, Response, Sense, Stroke, Ui, UiBuilder, WidgetInfo, pos2, vec2,
};
use llmtrace_analysis::align::{AlignBy, Column, Pair as Tokens};
use llmtrace_analysis::{Found, TimeRange};

/// Height of the lane between the timelines.
const HEIGHT: f32 = 50.0;
/// Space around it.
const GAP: f32 = 3.0;
/// How much longer than nine in ten bars a bar may be before it is cut off.
const CUT: f64 = 3.0;
/// Narrowest bars.
const NARROW: f32 = 2.0;

/// The state of the lane of differences.
#[derive(Default)]
pub(super) struct Lane {
    dragged: bool,
}

impl ComparePage {
    pub(super) fn lanes_ui(&mut self, ui: &mut Ui, cx: &mut Cx<'_>, pair: Pair<'_>) {
        let full = ui.available_rect_before_wrap();
        let each = ((full.height() - HEIGHT - 2.0 * GAP) / 2.0).floor().max(40.0);
        let strip = |top: f32, height: f32| {
            Rect::from_min_max(pos2(full.left(), top), pos2(full.right(), top + height))
        };
        let above = strip(full.top(), each);
        let between = strip(above.bottom() + GAP, HEIGHT);
        let below = strip(between.bottom() + GAP, each);
        let left = full.left() + GUTTER_WIDTH;
        let pointer = ui.input(|input| input.pointer.hover_pos());
        let pointer = pointer.filter(|at| at.x >= left && at.x <= full.right() && full.contains(*at));
        // A window over the page, such as a menu, has the pointer.
        let pointer =
            pointer.filter(|at| ui.ctx().layer_id_at(*at).is_none_or(|layer| layer == ui.layer_id()));
        let over = |rect: Rect| pointer.is_some_and(|at| rect.contains(at));
        let mut done = [Vec::new(), Vec::new()];
        let sides = [(pair.a, above, "A"), (pair.b, below, "B")];
        for (((open, rect, name), timeline), commands) in
            sides.into_iter().zip(&mut self.timelines).zip(&mut done)
        {
            let second = name == "B";
            let mut child = ui.new_child(UiBuilder::new().max_rect(rect).id_salt(("side", name)));
            child.set_clip_rect(rect.intersect(ui.clip_rect()));
            let manner = Manner {
                minimap: false,
                brief: !self.all_lanes,
                keys: second == over(below),
                cursor: pointer.map(|at| at.x).filter(|_| !over(rect)),
                prefix: if second { "B " } else { "A " },
            };
            let mut cx = Cx { open, colors: cx.colors, jobs: cx.jobs, commands };
            timeline.show_ui(&mut child, &mut cx, &manner);
            let color = cx.colors.side(second);
            let tag = Rect::from_min_size(pos2(left - 20.0, rect.top() + 3.0), vec2(16.0, 16.0));
            ui.painter().rect_filled(tag, 3.0, color);
            let font = FontId::proportional(11.5);
            ui.painter().text(tag.center(), Align2::CENTER_CENTER, name, font, cx.colors.text_on(color));
        }
        let [of_a, of_b] = done;
        forward(cx, pair, of_a, of_b);
        self.lane.show_ui(ui, cx, pair, between);
        if let Some(at) = pointer {
            let stroke = Stroke::new(1.0, cx.colors.weak.gamma_multiply(0.6));
            ui.painter().vline(ui.painter().round_to_pixel_center(at.x), between.y_range(), stroke);
        }
    }
}

/// What the timelines ask for: the first one's as it is, the second one's for the second trace. A
/// node that is selected on one side is selected on the other, too.
fn forward(cx: &mut Cx<'_>, pair: Pair<'_>, of_a: Vec<Command>, of_b: Vec<Command>) {
    let second = |command: Command| Command::Second(Box::new(command));
    for command in of_a {
        if let Command::Select(found) = &command {
            let at = pair.comparison.differences.at(found.span.begin, 0);
            let there = at.and_then(|at| pair.comparison.differences.pairs.get(at)).map(|token| token.b);
            cx.commands.push(second(Command::ClearSelection));
            cx.commands.extend(there.map(|range| second(counterpart(pair.a, found, range))));
        }
        cx.commands.push(command);
    }
    for command in of_b {
        match command {
            Command::Select(found) => {
                let at = pair.comparison.differences.at_in_b(found.span.begin);
                let there = at.and_then(|at| pair.comparison.differences.pairs.get(at)).map(|token| token.a);
                cx.commands.push(Command::ClearSelection);
                cx.commands.push(second(Command::Select(found)));
                cx.commands.extend(there.map(|range| counterpart(pair.b, &found, range)));
            }
            Command::ClearSelection => cx.commands.push(Command::ClearSelection),
            command => cx.commands.push(second(command)),
        }
    }
}

/// Looks for the same node in the other side's token.
fn counterpart(open: &Open, found: &Found, range: TimeRange) -> Command {
    Command::Seek(Seek::Within { key: open.key(&found.span), lane: found.place.lane, range })
}

impl Lane {
    fn show_ui(&mut self, ui: &mut Ui, cx: &mut Cx<'_>, pair: Pair<'_>, rect: Rect) {
        let (colors, differences) = (cx.colors, &pair.comparison.differences);
        let right = Rect::from_min_max(pos2(rect.left() + GUTTER_WIDTH, rect.top()), rect.max);
        let response = ui.interact(right, ui.scope_id().with("differences"), Sense::click_and_drag());
        let view = pair.a.view.with_width(right.width());
        let columns = differences.columns(view.range(), view.nanos_from_pixels(NARROW.max(MIN_BAR)));
        let scale = scale(&columns);
        response.widget_info(|| {
            let sum = differences.sum(0..differences.pairs.len());
            let mut info = WidgetInfo::labeled(Role::ListBox, true, "differences");
            let mean = sum.mean().map_or_else(|| "not known".to_owned(), signed);
            info.current_text_value = Some(format!("{} tokens, mean {mean}", differences.pairs.len()));
            info
        });
        self.drag(&response, cx, pair);
        let painter = ui.painter().with_clip_rect(right.intersect(ui.clip_rect()));
        painter.rect_filled(right, 0.0, colors.lane);
        let bars = Bars { colors, rect: right, scale };
        let mut quads = Quads::new(right, columns.len() * 2 + 4);
        for column in &columns {
            let (from, to) = (view.x_from_time(column.range.begin), view.x_from_time(column.range.end));
            let to = if to - from > 4.0 { to - 1.0 } else { to.max(from + 1.0) };
            bars.paint(&mut quads, right.left() + from..=right.left() + to, column);
        }
        painter.add(quads.into_shape());
        painter.hline(right.x_range(), right.center().y, Stroke::new(1.0, colors.line));
        if columns.is_empty() {
            let what = if differences.pairs.is_empty() {
                "no token of one trace has a counterpart in the other"
            } else {
                "no tokens that both have"
            };
            painter.text(
                right.center(),
                Align2::CENTER_CENTER,
                what,
                FontId::proportional(11.5),
                colors.weak,
            );
        }
        gutter(ui.painter(), rect, scale, colors);
        let Some(pointer) = response.hover_pos() else { return };
        if !response.dragged() {
            ui.set_cursor_icon(CursorIcon::ResizeHorizontal);
        }
        let time = view.time_from_x(pointer.x - right.left());
        let slack = view.nanos_from_pixels(NARROW);
        let near = |column: &&Column| {
            column.range.begin <= time.saturating_add(slack) && time <= column.range.end.saturating_add(slack)
        };
        let Some(column) = columns.iter().find(near) else { return };
        if response.clicked() {
            show(cx, pair, column);
        }
        if !response.dragged() {
            response.on_hover_ui_at_pointer(|ui| tooltip_ui(ui, cx.colors, pair, column));
        }
    }

    /// Dragging moves the second trace.
    fn drag(&mut self, response: &Response, cx: &mut Cx<'_>, pair: Pair<'_>) {
        if response.dragged() {
            self.dragged = true;
            let pixels = f64::from(response.ctx.input(|input| input.pointer.delta().x));
            let nanos = (pixels * pair.a.view.nanos_per_pixel()).round() as i64;
            if nanos != 0 {
                cx.commands.push(Command::ShiftSecond(nanos));
            }
        } else if std::mem::take(&mut self.dragged) {
            // Keeps it.
            cx.commands.push(Command::Align(AlignBy::Hand));
        }
    }
}

/// Shows the tokens of a bar, on both sides; a single one is selected.
fn show(cx: &mut Cx<'_>, pair: Pair<'_>, column: &Column) {
    let tokens = pair.comparison.differences.pairs.get(column.tokens.clone()).unwrap_or_default();
    let (Some(first), Some(last)) = (tokens.first(), tokens.last()) else { return };
    let (a, b) = (
        TimeRange::new(first.a.begin, last.a.end),
        TimeRange::new(first.b.begin, last.b.end.max(first.b.begin)),
    );
    cx.commands.push(Command::SelectRange(a));
    cx.commands.push(Command::Second(Box::new(Command::SelectRange(b))));
    let longer = a.nanos().max(b.nanos());
    cx.commands.push(Command::ZoomTo(TimeRange::new(a.begin, a.begin.saturating_add(longer))));
}

/// Nanoseconds at which bars reach the edge: the longest, unless few are far longer than most.
fn scale(columns: &[Column]) -> f64 {
    let mut all: Vec<f64> = columns.iter().filter_map(|column| column.sum.mean()).map(f64::abs).collect();
    all.sort_by(f64::total_cmp);
    let most = all.last().copied().unwrap_or(0.0);
    let usual = all.get(all.len() * 9 / 10).copied().unwrap_or(0.0);
    let scale = if usual > 0.0 { most.min(usual * CUT) } else { most };
    scale.max(1.0)
}

fn signed(nanos: f64) -> String {
    let sign = if nanos < 0.0 { "−" } else { "+" };
    format!("{sign}{}", text::nanos_f64(nanos.abs()))
}

struct Bars {
    colors: &'static Colors,
    rect: Rect,
    scale: f64,
}

impl Bars {
    fn paint(&self, quads: &mut Quads, x: std::ops::RangeInclusive<f32>, column: &Column) {
        let middle = self.rect.center().y;
        let Some(mean) = column.sum.mean() else {
            // Another number of tokens in the batch: there is no difference to tell.
            quads.stripes(Rect::from_x_y_ranges(x, middle - 6.0..=middle + 6.0), self.colors.line);
            return;
        };
        let half = self.rect.height() / 2.0 - 2.0;
        let height = |nanos: f64| ((nanos.abs() / self.scale).min(1.0) as f32 * half).max(1.0);
        let bar = |nanos: f64| {
            let height = height(nanos);
            let y = if nanos >= 0.0 { middle - height..=middle } else { middle..=middle + height };
            Rect::from_x_y_ranges(x.clone(), y)
        };
        let color = |nanos: f64| if nanos >= 0.0 { self.colors.slower() } else { self.colors.faster() };
        // Of several tokens the extremes, too.
        for extreme in [column.sum.least as f64, column.sum.most as f64] {
            if column.sum.known > 1 {
                quads.rect(bar(extreme), self.colors.lane.lerp_to_gamma(color(extreme), 0.35));
            }
        }
        quads.rect(bar(mean), color(mean));
        if mean.abs() > self.scale * 1.001 {
            // Cut off: it goes on beyond the edge.
            let edge = if mean >= 0.0 { self.rect.top() } else { self.rect.bottom() - 3.0 };
            quads.rect(Rect::from_x_y_ranges(x, edge..=edge + 3.0), self.colors.text);
        }
    }
}

fn gutter(painter: &Painter, rect: Rect, scale: f64, colors: &Colors) {
    let font = FontId::proportional(11.5);
    let at = pos2(rect.left() + 8.0, rect.center().y);
    painter.text(at, Align2::LEFT_CENTER, "B − A", font, colors.text);
    let small = FontId::proportional(10.0);
    for (y, align, sign) in [(rect.top(), Align2::LEFT_TOP, "+"), (rect.bottom(), Align2::LEFT_BOTTOM, "−")]
    {
        let text = format!("{sign}{}", text::nanos_f64(scale));
        painter.text(pos2(at.x, y), align, text, small.clone(), colors.weak);
    }
}

fn tooltip_ui(ui: &mut Ui, colors: &Colors, pair: Pair<'_>, column: &Column) {
    let tokens = pair.comparison.differences.pairs.get(column.tokens.clone()).unwrap_or_default();
    let name = |token: &Tokens| format!("{} {}", token.phase.name(), token.number);
    match tokens {
        [token] => {
            ui.strong(name(token));
            ui.label(format!("A {}", text::nanos(token.a.nanos())));
            ui.label(format!("B {}", text::nanos(token.b.nanos())));
            match token.longer {
                Some(longer) => {
                    let share = longer as f64 * 100.0 / token.a.nanos().max(1) as f64;
                    let color = if longer >= 0 { colors.slower() } else { colors.faster() };
                    ui.colored_label(color, format!("{}, {share:+.1} %", signed(longer as f64)));
                }
                None => {
                    ui.label("the batches have different numbers of tokens");
                }
            }
        }
        [first, .., last] => {
            ui.strong(format!("{} to {}", name(first), name(last)));
            if let Some(mean) = column.sum.mean() {
                ui.label(format!("{} a token on average", signed(mean)));
                let (least, most) = (signed(column.sum.least as f64), signed(column.sum.most as f64));
                ui.label(format!("from {least} to {most}"));
            }
        }
        [] => {}
    }
    ui.weak("click to go there; drag to move B");
}

#[cfg(test)]
mod tests {
    use super::*;
    use llmtrace_analysis::align::Sum;

    #[test]
    fn one_long_token_does_not_make_the_others_invisible() {
        let column = |nanos: i64| Column {
            range: TimeRange::new(0, 1),
            tokens: 0..1,
            sum: Sum { known: 1, nanos, least: nanos, most: nanos },
        };
        let mut columns: Vec<Column> = (0..100).map(|at| column(at % 7 - 3)).collect();
        assert_eq!(scale(&columns), 3.0);
        columns.push(column(5_000));
        assert_eq!(scale(&columns), 9.0);
        assert_eq!(scale(&[]), 1.0);
        assert_eq!(scale(&[column(-40)]), 40.0);
    }
}
