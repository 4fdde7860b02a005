//! The timeline page: minimap, ruler, tokens, graphs and threads over time.
//!
//! ```text
//! │ minimap: the whole trace, with the visible window
//! │ ruler ───┬──────────┬──────────┬──────
//! │ tokens   │ prefill 128 tokens  │ d0 │ d1 │ d2
//! │ graph    │ graph 0 · 727 nodes ────
//! │ seq 0    │ 42 tokens │▪│▪│▪│           what each micro-batch does for it, and requests
//! │ calls    │      ▪ sample ▪ sample        what happens between micro-batches
//! │ KV cells │ ▁▂▂▃▃▄▄▅▅▁▁▂                  in use, and operations on them
//! │ recorded │ thread │ graph │ thread      level and marks, where they changed
//! │ experts  │ ▓▒░▓ ▓▒▓▓ ░▒▓▓            of each token (column) in each layer (row)
//! │ memory   │ ▁▁▂▃▄▄▄▄▄▄▄▄▄▄▄▄          counters and samples, those that were chosen
//! │ CPU      │ ▇▇▇▇▇▇          ▇▇          backends, where there are several
//! │ faults   │ ▮▮ ▮▮▮▮  ▮               page faults; below, reads from disks
//! │ thread 0 │ ▇▇▇▇▇▇░▇▇▇▇▇▇▇▇░░▇▇▇▇▇   compute solid, wait striped
//! │          │ ─────────┄┄┄┄──────────   on a CPU, runnable, asleep
//! ```

mod around;
mod arrange;
mod backends;
pub(crate) mod coloring;
mod counters;
mod experts;
mod highlight;
mod input;
mod lanes;
mod levels;
mod machine;
pub(crate) mod marks;
mod minimap;
mod paint;
mod rows;
mod ruler;
mod tooltip;
pub mod view;

use crate::command::Command;
use crate::panel::Cx;
use crate::seek::Seek;
use crate::session::{Change, Metric};
use crate::state::Open;
use crate::text;
use crate::theme::{Colors, GUTTER_WIDTH, MIN_BAR, MINIMAP_HEIGHT, RULER_HEIGHT};
use coloring::Coloring;
use egui::accesskit::Role;
use egui::containers::menu::{MenuButton, MenuConfig};
use egui::{
    FontId, Painter, PopupCloseBehavior, Pos2, Rect, Response, ScrollArea, Sense, Stroke, Ui, WidgetInfo,
    pos2, vec2,
};
use input::{Drag, Held};
use lanes::Canvas;
use levels::Moment;
use llmtrace_analysis::fold::{Bar, What};
use llmtrace_analysis::{Found, Nanos, Place, TimeRange};
pub(crate) use machine::preempted_by;
use minimap::Minimap;
pub(crate) use paint::Quads;
use rows::{Kind, Row};
use tooltip::Hit;
use view::View;

/// The page's own state.
#[derive(Default)]
pub struct Timeline {
    minimap: Minimap,
    drag: Option<Drag>,
    ruler_drag: Option<Drag>,
    held: Held,
    coloring: Coloring,
    /// What the list of lanes is filtered by.
    lane_filter: String,
    experts: experts::Lane,
    counters: counters::Lanes,
    /// Bars of each row, kept for their memory.
    bars: Vec<Vec<Bar>>,
}

/// How much of the page is shown: all of it, or a part beside another trace's.
#[derive(Clone, Copy)]
pub(crate) struct Manner {
    /// Whether the whole trace is shown above.
    pub(crate) minimap: bool,
    /// Whether only tokens, graphs and threads are shown.
    pub(crate) brief: bool,
    /// Whether held keys move it.
    pub(crate) keys: bool,
    /// Where the pointer is over another trace's lanes, in points of the window.
    pub(crate) cursor: Option<f32>,
    /// What is put before names that are announced.
    pub(crate) prefix: &'static str,
}

impl Manner {
    const WHOLE: Self = Self { minimap: true, brief: false, keys: true, cursor: None, prefix: "" };
}

impl Timeline {
    /// Draws the page and handles its input.
    pub fn timeline_ui(&mut self, ui: &mut Ui, cx: &mut Cx<'_>) {
        self.show_ui(ui, cx, &Manner::WHOLE);
    }

    /// Draws as much of the page as is wanted.
    pub(crate) fn show_ui(&mut self, ui: &mut Ui, cx: &mut Cx<'_>, manner: &Manner) {
        let full = ui.available_rect_before_wrap();
        let left = full.left() + GUTTER_WIDTH;
        let mut view = cx.open.view.with_width(full.right() - left);
        let strip =
            |top: f32, height: f32| Rect::from_min_max(pos2(left, top), pos2(full.right(), top + height));
        let minimap = strip(full.top(), if manner.minimap { MINIMAP_HEIGHT } else { 0.0 });
        let ruler = strip(minimap.bottom() + if manner.minimap { 4.0 } else { 0.0 }, RULER_HEIGHT);
        let lanes = Rect::from_min_max(pos2(full.left(), ruler.bottom()), full.max);

        if manner.minimap {
            let response = ui.interact(minimap, ui.scope_id().with("minimap"), Sense::click_and_drag());
            announce(&response, Role::ScrollBar, "minimap", manner);
            self.minimap.input(&response, &mut view);
            input::wheel(&response, &mut view, left, false);
        }
        let response = ui.interact(ruler, ui.scope_id().with("ruler"), Sense::click_and_drag());
        announce(&response, Role::Label, "ruler", manner);
        self.ruler_input(&response, &mut view, left);
        let pointer = ui.input(|input| input.pointer.hover_pos());
        let pointer = pointer.filter(|pointer| lanes.contains(*pointer) && pointer.x >= left);
        if manner.keys {
            input::held_keys(ui.ctx(), &mut self.held, &mut view, pointer.map(|pointer| pointer.x - left));
        } else {
            self.held = Held::default();
        }

        self.lanes_ui(ui, lanes, &mut view, cx, manner);

        let painter = ui.painter().clone();
        self.gutter_ui(ui, (minimap, ruler, lanes), cx, manner);
        if manner.minimap {
            self.minimap.paint(&painter, minimap, cx.open, &view, cx.colors);
        }
        let below = Rect::from_min_max(pos2(left, lanes.top()), lanes.max);
        let cursor = pointer.or(manner.cursor.map(|x| pos2(x, lanes.top())));
        ruler::paint(&painter, ruler, cursor.map(|pointer| pointer.x), &view, cx.colors);
        paint_range(
            &painter.with_clip_rect(ruler.union(below)),
            ruler.union(below),
            cx.open,
            &view,
            cx.colors,
        );
        marks::paint(&painter, ruler, below, cx.open, &view, cx.colors);
        highlight::paint(&painter, (minimap, ruler, below), cx.open, &view, cx.colors);
        if let Some(pointer) = cursor {
            paint_pointer(&painter, ruler, below, pointer, &view, cx.colors);
        }
        if view != cx.open.view {
            cx.commands.push(Command::Look(view));
        }
    }

    /// Left of minimap and ruler: what the one shows, and which lanes there are.
    fn gutter_ui(
        &mut self,
        ui: &mut Ui,
        (minimap, ruler, lanes): (Rect, Rect, Rect),
        cx: &mut Cx<'_>,
        manner: &Manner,
    ) {
        let at = |strip: Rect| {
            Rect::from_min_max(pos2(strip.left() - GUTTER_WIDTH + 8.0, strip.top()), strip.left_bottom())
        };
        let stays = || MenuConfig::new().close_behavior(PopupCloseBehavior::CloseOnClickOutside);
        if manner.minimap {
            let mut child = ui.new_child(egui::UiBuilder::new().max_rect(at(minimap)));
            let name = Metric::ALL.iter().find(|(metric, _)| *metric == cx.open.session.metric);
            let button = egui::Button::new(egui::RichText::new(name.map_or("", |(_, name)| name)).size(11.5));
            MenuButton::from_button(button.frame(false).truncate()).ui(&mut child, |ui| {
                for (metric, name) in Metric::ALL {
                    if ui.radio(cx.open.session.metric == metric, name).clicked() {
                        cx.commands.push(Command::Session(Change::Metric(metric)));
                    }
                }
            });
        }
        let mut child = ui.new_child(egui::UiBuilder::new().max_rect(at(ruler)));
        let hidden = cx.open.session.hidden.len();
        let name = if hidden == 0 { "lanes ⏷".to_owned() } else { format!("{hidden} hidden ⏷") };
        let button = egui::Button::new(egui::RichText::new(name).size(11.5)).frame(false);
        MenuButton::from_button(button).config(stays()).ui(&mut child, |ui| {
            let all = rows::rows(cx.open, lanes.height(), self.experts.height());
            arrange::menu_ui(ui, cx, &all, &mut self.lane_filter);
        });
    }

    fn ruler_input(&mut self, response: &Response, view: &mut View, left: f32) {
        if response.drag_started() {
            self.ruler_drag = Some(Drag::Pan);
        }
        if response.dragged() && self.ruler_drag.is_some() {
            view.pan(-response.drag_delta().x);
        }
        if response.double_clicked() {
            *view = View::whole(view.trace(), view.width());
        }
        input::wheel(response, view, left, false);
    }

    fn lanes_ui(&mut self, ui: &mut Ui, rect: Rect, view: &mut View, cx: &mut Cx<'_>, manner: &Manner) {
        let rows = rows::rows(cx.open, rect.height(), self.experts.height());
        let rows = arrange::arrange(rows, cx.open, rect.height(), manner.brief);
        let height = rows::height(&rows).max(rect.height());
        let scrolls = rows::height(&rows) > rect.height() + 0.5;
        let mut ui = ui.new_child(egui::UiBuilder::new().max_rect(rect).id_salt("lanes"));
        ui.spacing_mut().scroll = egui::style::ScrollStyle::floating();
        let source = egui::scroll_area::ScrollSource {
            mouse_wheel: false,
            drag: egui::scroll_area::DragScroll::Never,
            scroll_bar: true,
        };
        let area = ScrollArea::vertical().auto_shrink(false).scroll_source(source);
        area.show(&mut ui, |ui| {
            let (all, response) = ui.allocate_exact_size(vec2(rect.width(), height), Sense::click_and_drag());
            announce(&response, Role::Pane, "lanes", manner);
            let left = rect.left() + GUTTER_WIDTH;
            let over_gutter = response.hover_pos().is_some_and(|pointer| pointer.x < left);
            if over_gutter && scrolls {
                let scroll = ui.input(|input| input.smooth_scroll_delta());
                ui.scroll_with_delta(vec2(0.0, scroll.y));
            }
            input::wheel(&response, view, left, over_gutter && scrolls);
            let snap = |time: Nanos, slack: u64| snap(cx.open, &self.bars, time, slack);
            input::drag(&response, &mut self.drag, view, left, snap, cx.commands);
            if rows.iter().any(|row| row.kind == Kind::Experts) {
                self.experts.prepare(ui, view, cx);
            }
            self.counters.prepare(ui, view, cx);
            self.bars.resize_with(rows.len(), Vec::new);
            for (row, bars) in rows.iter().zip(&mut self.bars) {
                if let Kind::Thread(lane) = row.kind {
                    lanes::bars(cx.open, lane, view, bars);
                }
            }
            let hit = self.hit(&response, &rows, all, left, view, cx.open);
            clicks(&response, hit.as_ref(), cx);
            self.paint_rows(ui, (&rows, all), view, hit.as_ref(), cx, manner);
            if let Some(row) = rows.iter().find(|row| row.kind == Kind::Experts) {
                let top = all.top() + row.top;
                let gutter = Rect::from_x_y_ranges(all.left()..=left, top..=top + row.height);
                self.experts.gutter_ui(ui, gutter, cx.colors);
            }
            if let Some((hit, pointer)) = hit.zip(response.hover_pos())
                && self.drag.is_none()
            {
                let time = view.time_from_x(pointer.x - left);
                response.on_hover_ui_at_pointer(|ui| tooltip::hit_ui(ui, cx.open, &hit, time));
            }
        });
    }

    /// What is under the pointer.
    fn hit(
        &self,
        response: &Response,
        rows: &[Row],
        all: Rect,
        left: f32,
        view: &View,
        open: &Open,
    ) -> Option<Hit> {
        let pointer =
            response.hover_pos().or(response.interact_pointer_pos()).filter(|pointer| pointer.x >= left)?;
        let y = pointer.y - all.top();
        let (index, row) = rows.iter().enumerate().find(|(_, row)| row.contains(y))?;
        let time = view.time_from_x(pointer.x - left);
        match row.kind {
            Kind::Tokens => open.trace.token_at(time).copied().map(Hit::Token),
            Kind::Graphs => {
                let spans = &open.trace.graph_spans;
                let after = spans.partition_point(|span| span.begin <= time);
                spans.get(after.checked_sub(1)?).filter(|span| time < span.end).copied().map(Hit::Graph)
            }
            Kind::Sequence(lane) => around::step_at(open, lane, time).map(Hit::Around),
            Kind::Calls => around::call_at(open, time, view.nanos_from_pixels(2.0)).map(Hit::Around),
            Kind::Cells => {
                let share = (y - row.top) / row.height;
                around::cells_at(open, time, view.nanos_from_pixels(3.0), share).map(Hit::Around)
            }
            Kind::Levels => {
                let share = (y - row.top) / row.height;
                levels::at(open, time, view.nanos_from_pixels(3.0), share).map(Hit::Level)
            }
            Kind::Experts => self.experts.at(open, time, (y - row.top) / row.height).map(Hit::Experts),
            Kind::Counter(series) => counters::point(&self.counters, series, time).map(Hit::Counter),
            Kind::Backend(backend) => {
                let share = (y - row.top) / row.height;
                backends::at(open, backend, time, view.nanos_from_pixels(2.0), share).map(Hit::Backend)
            }
            Kind::Faults => {
                let share = (y - row.top) / row.height;
                machine::fault_at(open, time, view.nanos_from_pixels(2.0), share).map(Hit::Machine)
            }
            Kind::States(lane) => {
                machine::state_at(open, lane, time, view.nanos_from_pixels(MIN_BAR)).map(Hit::Machine)
            }
            Kind::Thread(lane) => {
                let bars = self.bars.get(index)?;
                bar_at(bars, time, view.nanos_from_pixels(1.0)).map(|(index, bar)| Hit::Bar {
                    lane,
                    index,
                    bar,
                })
            }
        }
    }

    fn paint_rows(
        &self,
        ui: &Ui,
        (rows, all): (&[Row], Rect),
        view: &View,
        hit: Option<&Hit>,
        cx: &Cx<'_>,
        manner: &Manner,
    ) {
        let left = all.left() + GUTTER_WIDTH;
        let everywhere = ui.painter().clone();
        let selected = cx.open.selected;
        let marked = selected.map(|found| cx.open.on_each_lane(&found.span)).unwrap_or_default();
        let grid = Rect::from_min_max(pos2(left, all.top()), all.max);
        for (row, bars) in rows.iter().zip(&self.bars) {
            let rect = Rect::from_min_max(
                pos2(left, all.top() + row.top),
                pos2(all.right(), all.top() + row.top + row.height),
            );
            if !ui.is_rect_visible(rect) {
                continue;
            }
            let painter =
                everywhere.with_clip_rect(rect.expand2(vec2(0.0, 2.0)).intersect(everywhere.clip_rect()));
            painter.rect_filled(rect, 0.0, cx.colors.lane);
            let canvas = Canvas { painter: &painter, colors: cx.colors, view, rect };
            let hovered = match hit {
                Some(Hit::Token(token)) => Some(token.range.begin),
                _ => None,
            };
            match row.kind {
                Kind::Tokens => canvas.tokens(&cx.open.trace.tokens, hovered, true),
                Kind::Graphs => canvas.graphs(cx.open),
                Kind::Sequence(lane) => around::paint_sequences(&canvas, cx.open, lane),
                Kind::Calls => around::paint_calls(&canvas, cx.open),
                Kind::Cells => around::paint_cells(&canvas, cx.open),
                Kind::Levels => levels::paint(&canvas, cx.open),
                Kind::Experts => self.experts.paint(&canvas),
                Kind::Counter(series) => self.counters.paint(&canvas, cx.open, series),
                Kind::Backend(backend) => backends::paint(&canvas, cx.open, backend),
                Kind::Faults => machine::paint_faults(&canvas, cx.open),
                Kind::States(lane) => machine::paint_states(&canvas, cx.open, lane),
                Kind::Thread(lane) => {
                    let hovered = hit.and_then(|hit| match hit {
                        Hit::Bar { lane: over, index, .. } if *over == lane => Some(*index),
                        _ => None,
                    });
                    let colors = self.counters.colors(cx.open, lane, bars, cx.colors);
                    let colors = colors.or_else(|| self.coloring.colors(cx.open, bars, cx.colors));
                    canvas.thread(cx.open, bars, colors.as_deref(), hovered);
                    canvas.damaged(cx.open, lane);
                    outline_selected(&canvas, lane, &marked, cx);
                }
            }
            let gutter = Rect::from_min_max(pos2(all.left(), rect.top()), pos2(left, rect.bottom()));
            let canvas = Canvas { painter: &everywhere, ..canvas };
            if !matches!(row.kind, Kind::States(_)) {
                canvas.name(cx.open, row, gutter);
            }
            announce_row(ui, row, rect, cx.open, manner);
        }
        let painter = everywhere.with_clip_rect(grid.intersect(everywhere.clip_rect()));
        let canvas = Canvas { painter: &painter, colors: cx.colors, view, rect: grid };
        backends::paint_lines(&canvas, cx.open, rows, all.top());
        paint_losses(
            &everywhere.with_clip_rect(grid.intersect(everywhere.clip_rect())),
            grid,
            cx.open,
            view,
            cx.colors,
        );
    }
}

/// The begin or end of a token or a bar nearest to a time, if one is within `slack`.
fn snap(open: &Open, bars: &[Vec<Bar>], time: Nanos, slack: u64) -> Nanos {
    let mut best = (slack.saturating_add(1), time);
    let mut look = |edge: Nanos| {
        let distance = edge.abs_diff(time);
        if distance < best.0 {
            best = (distance, edge);
        }
    };
    let tokens = &open.trace.tokens;
    let at = tokens.partition_point(|token| token.range.begin <= time);
    for token in tokens.iter().skip(at.saturating_sub(1)).take(2) {
        look(token.range.begin);
        look(token.range.end);
    }
    for bars in bars {
        let at = bars.partition_point(|bar| bar.range.begin <= time);
        for bar in bars.iter().skip(at.saturating_sub(1)).take(2) {
            look(bar.range.begin);
            look(bar.range.end);
        }
    }
    best.1
}

/// The bar at a time, or the one that ends or begins within `slack`.
fn bar_at(bars: &[Bar], time: Nanos, slack: u64) -> Option<(usize, Bar)> {
    let after = bars.partition_point(|bar| bar.range.begin <= time);
    let near = |index: usize| {
        let bar = bars.get(index)?;
        let inside =
            bar.range.begin <= time.saturating_add(slack) && time < bar.range.end.saturating_add(slack);
        inside.then_some((index, *bar))
    };
    after.checked_sub(1).and_then(near).or_else(|| near(after))
}

fn clicks(response: &Response, hit: Option<&Hit>, cx: &mut Cx<'_>) {
    if response.double_clicked() {
        let range = match hit {
            Some(Hit::Token(token)) => token.range,
            Some(Hit::Graph(span)) => TimeRange::new(span.begin, span.end),
            Some(Hit::Bar { bar, .. }) => bar.range,
            Some(Hit::Backend(item)) => item.range(),
            Some(Hit::Counter(_)) => return,
            Some(Hit::Experts(pick)) => pick.range(),
            Some(Hit::Machine(item)) => item.range(),
            Some(Hit::Level(Moment::Range(range))) => range.range,
            Some(Hit::Around(found)) => match found.range() {
                Some(range) => range,
                None => return,
            },
            Some(Hit::Level(Moment::Mark(_))) | None => return,
        };
        cx.commands.push(Command::ZoomTo(range));
    } else if response.clicked() {
        match hit {
            Some(Hit::Token(token)) => cx.commands.push(Command::SelectRange(token.range)),
            Some(Hit::Graph(span)) => {
                cx.commands.push(Command::SelectRange(TimeRange::new(span.begin, span.end)))
            }
            Some(Hit::Bar { lane, bar, .. }) => {
                let lane = *lane;
                cx.commands.push(match bar.what {
                    What::Span(index, span) | What::Folded(index, span) => {
                        Command::Select(Found { place: Place { lane, index }, span })
                    }
                    What::Buckets { .. } => Command::Seek(Seek::Longest { lane, range: bar.range }),
                });
            }
            Some(Hit::Backend(item)) => cx.commands.push(Command::SelectRange(item.range())),
            Some(Hit::Experts(pick)) => cx.commands.push(Command::SelectRange(pick.range())),
            Some(Hit::Machine(item)) => cx.commands.push(Command::SelectRange(item.range())),
            Some(Hit::Level(Moment::Range(range))) => cx.commands.push(Command::SelectRange(range.range)),
            Some(Hit::Around(found)) => cx.commands.push(match found.range() {
                Some(range) => Command::SelectRange(range),
                None => Command::ClearSelection,
            }),
            Some(Hit::Level(Moment::Mark(_)) | Hit::Counter(_)) | None => {
                cx.commands.push(Command::ClearSelection)
            }
        }
    }
}

fn outline_selected(canvas: &Canvas<'_>, lane: u32, marked: &[Found], cx: &Cx<'_>) {
    for Found { place, span } in marked.iter().filter(|found| found.place.lane == lane) {
        let chosen = cx.open.selected.is_some_and(|found| found.place == *place);
        let stroke = Stroke::new(if chosen { 2.5 } else { 1.25 }, cx.colors.text);
        canvas.outline(TimeRange::new(span.begin, span.end()), stroke);
    }
}

fn announce(response: &Response, role: Role, name: &str, manner: &Manner) {
    response.widget_info(|| WidgetInfo::labeled(role, true, format!("{}{name}", manner.prefix)));
}

/// A lane's name and what is selected on it, for those who do not see it.
fn announce_row(ui: &Ui, row: &Row, rect: Rect, open: &Open, manner: &Manner) {
    let response = ui.interact(rect, ui.scope_id().with(("row", row.name(open))), Sense::hover());
    let selected = open.selected.filter(|found| row.kind == Kind::Thread(found.place.lane));
    response.widget_info(|| {
        let mut info =
            WidgetInfo::labeled(Role::ListBox, true, format!("{}{}", manner.prefix, row.name(open)));
        if let Some(found) = selected {
            let key = open.key(&found.span);
            info.current_text_value = Some(format!("selected {} {}", key.op, key.name));
        }
        info
    });
}

fn paint_range(painter: &Painter, rect: Rect, open: &Open, view: &View, colors: &Colors) {
    let Some(range) = open.range else { return };
    let left = (rect.left() + view.x_from_time(range.begin)).clamp(rect.left() - 5.0, rect.right() + 5.0);
    let right = (rect.left() + view.x_from_time(range.end)).clamp(left, rect.right() + 5.0);
    let band = Rect::from_x_y_ranges(left..=right.max(left + 1.0), rect.y_range());
    painter.rect_filled(band, 0.0, colors.veil());
    let stroke = Stroke::new(1.0, colors.accent);
    painter.vline(band.left(), rect.y_range(), stroke);
    painter.vline(band.right(), rect.y_range(), stroke);
    let visible = band.intersect(rect);
    let label = text::nanos(range.nanos());
    let galley = painter.layout_no_wrap(label, FontId::proportional(11.5), colors.text_on(colors.accent));
    let size = galley.size() + vec2(8.0, 2.0);
    if visible.is_positive() {
        let x = visible.center().x.clamp(rect.left() + size.x / 2.0, rect.right() - size.x / 2.0);
        let tag = Rect::from_center_size(pos2(x, rect.bottom() - size.y), size);
        painter.rect_filled(tag, 3.0, colors.accent);
        painter.galley(tag.min + vec2(4.0, 1.0), galley, colors.text_on(colors.accent));
    }
}

/// A line at the pointer and the time there.
fn paint_pointer(painter: &Painter, ruler: Rect, lanes: Rect, pointer: Pos2, view: &View, colors: &Colors) {
    let x = painter.round_to_pixel_center(pointer.x);
    painter.vline(x, lanes.y_range(), Stroke::new(1.0, colors.weak.gamma_multiply(0.6)));
    let step = ruler::step(view, 4.0);
    let time = view.time_from_x(pointer.x - ruler.left());
    let label = text::time_at_step((time / step * step) as i64, step);
    let galley = painter.layout_no_wrap(label, FontId::proportional(11.0), colors.text);
    let size = galley.size() + vec2(8.0, 2.0);
    let left = (x - size.x / 2.0).clamp(ruler.left(), (ruler.right() - size.x).max(ruler.left()));
    let tag = Rect::from_min_size(pos2(left, ruler.top()), size);
    painter.rect_filled(tag, 3.0, colors.card);
    painter.galley(tag.min + vec2(4.0, 1.0), galley, colors.text);
}

/// Where events were lost: one mark a pixel at most.
fn paint_losses(painter: &Painter, rect: Rect, open: &Open, view: &View, colors: &Colors) {
    let losses = &open.trace.losses;
    let window = view.range();
    let pixel = view.nanos_from_pixels(2.0);
    let mut at = losses.partition_point(|loss| loss.begin < window.begin).saturating_sub(1);
    while let Some(loss) = losses.get(at).filter(|loss| loss.begin < window.end) {
        let left = (rect.left() + view.x_from_time(loss.begin)).max(rect.left() - 2.0);
        let right = (rect.left() + view.x_from_time(loss.end)).clamp(left + 2.0, rect.right() + 4.0);
        let band = Rect::from_x_y_ranges(left..=right, rect.y_range());
        painter.rect_filled(band, 0.0, colors.loss.gamma_multiply(0.35));
        let next = loss.begin.saturating_add(pixel);
        at += 1 + losses.get(at + 1..).unwrap_or_default().partition_point(|loss| loss.begin < next);
    }
}
