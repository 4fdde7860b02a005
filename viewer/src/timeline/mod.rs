//! The timeline page: minimap, ruler, tokens, graphs and threads over time.
//!
//! ```text
//! │ minimap: the whole trace, with the visible window
//! │ ruler of tokens: d0 │ d5 │ d10
//! │ ruler ───┬──────────┬──────────┬──────
//! │ tokens   │ prefill 128 tokens  │ d0 │ d1 │ d2
//! │ graph    │ graph 0 · 727 nodes ────
//! │ recorded │ thread │ graph │ thread      level and marks, where they changed
//! │ ⏷ Inference ─────────────────────      a group, which can be collapsed
//! │ seq 0    │ 42 tokens │▪│▪│▪│           what each micro-batch does for it, and requests
//! │ calls    │      ▪ sample ▪ sample        what happens between micro-batches
//! │ KV cells │ ▁▂▂▃▃▄▄▅▅▁▁▂                  in use, and operations on them
//! │ experts  │ ▓▒░▓ ▓▒▓▓ ░▒▓▓            of each token (column) in each layer (row)
//! │ memory   │ ▁▁▂▃▄▄▄▄▄▄▄▄▄▄▄▄          counters and samples, those that were chosen
//! │ CPU      │ ▇▇▇▇▇▇          ▇▇          backends, where there are several
//! │ faults   │ ▮▮ ▮▮▮▮  ▮               page faults; below, reads from disks
//! │ thread 0 │ ▇▇▇▇▇▇░▇▇▇▇▇▇▇▇░░▇▇▇▇▇   compute solid, wait striped
//! │          │ ─────────┄┄┄┄──────────   on a CPU, runnable, asleep
//! ```

mod access;
mod around;
mod arrange;
mod backends;
pub(crate) mod coloring;
mod counters;
mod experts;
pub(crate) mod flows;
mod gaps;
mod highlight;
mod input;
mod lanes;
mod levels;
mod machine;
pub(crate) mod marks;
mod minimap;
mod overlay;
mod paint;
mod pick;
pub(crate) mod rows;
mod ruler;
mod token_ruler;
mod tooltip;
pub mod view;

use crate::command::Command;
use crate::panel::Cx;
use crate::session::{Change, Metric};
use crate::state::Open;
use crate::theme::{GUTTER_WIDTH, MIN_BAR, MINIMAP_HEIGHT, RULER_HEIGHT, TOKEN_RULER_HEIGHT};
use access::Announcer;
pub(crate) use arrange::Group;
use coloring::Coloring;
use egui::accesskit::Role;
use egui::containers::menu::{MenuButton, MenuConfig};
use egui::{
    FontId, PopupCloseBehavior, Rect, Response, ScrollArea, Sense, Stroke, TextEdit, Ui, WidgetInfo, pos2,
    vec2,
};
use gaps::Gap;
pub(crate) use gaps::no_threads;
use input::{Drag, Held};
use lanes::Canvas;
use llmtrace_analysis::fold::Bar;
use llmtrace_analysis::{Found, Nanos, TimeRange};
pub(crate) use machine::preempted_by;
use minimap::Minimap;
pub(crate) use paint::Quads;
use pick::{bar_at, clicks, snap};
use rows::{Kind, Row};
use tooltip::Hit;
use view::View;

/// The page's own state.
#[derive(Default)]
pub struct Timeline {
    minimap: Minimap,
    drag: Option<Drag>,
    ruler_drag: Option<Drag>,
    /// Token at which a drag over their ruler began.
    token_drag: Option<usize>,
    held: Held,
    /// The keys that zoom and move while they are held.
    keys: [Option<egui::Key>; 4],
    coloring: Coloring,
    /// What the list of lanes is filtered by.
    lane_filter: String,
    /// What names of the lanes that are shown have in common.
    shown_filter: String,
    flows: flows::Around,
    experts: experts::Lane,
    counters: counters::Lanes,
    /// Bars of each row, kept for their memory.
    bars: Vec<Vec<Bar>>,
    /// What of each row is not recorded.
    gaps: Vec<Vec<Gap>>,
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
    /// Forgets what was computed of a trace that has grown since, but not what was chosen.
    pub(crate) fn forget(&mut self) {
        self.coloring = Coloring::default();
        self.counters = counters::Lanes::default();
        let folded = self.experts.folded;
        self.experts = experts::Lane::default();
        self.experts.folded = folded;
    }

    /// Draws the page and handles its input; `keys` are those to hold, as [`crate::keys::Keys::held`] says.
    pub fn timeline_ui(&mut self, ui: &mut Ui, cx: &mut Cx<'_>, keys: [Option<egui::Key>; 4]) {
        self.keys = keys;
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
        let below = minimap.bottom() + if manner.minimap { 3.0 } else { 0.0 };
        let tokens = strip(below, if manner.minimap { TOKEN_RULER_HEIGHT } else { 0.0 });
        let ruler = strip(tokens.bottom(), RULER_HEIGHT);
        let lanes = Rect::from_min_max(pos2(full.left(), ruler.bottom()), full.max);

        if manner.minimap {
            let response = ui.interact(minimap, ui.scope_id().with("minimap"), Sense::click_and_drag());
            announce(&response, Role::ScrollBar, "minimap", manner);
            self.minimap.input(&response, &mut view);
            input::wheel(&response, &mut view, left, false);
            let response = ui.interact(tokens, ui.scope_id().with("token ruler"), Sense::click_and_drag());
            announce(&response, Role::Label, "token ruler", manner);
            token_ruler::input(&response, &mut self.token_drag, &view, left, cx.open, cx.commands);
            input::wheel(&response, &mut view, left, false);
        }
        let response = ui.interact(ruler, ui.scope_id().with("ruler"), Sense::click_and_drag());
        announce(&response, Role::Label, "ruler", manner);
        self.ruler_input(&response, &mut view, left);
        let pointer = ui.input(|input| input.pointer.hover_pos());
        let pointer = pointer.filter(|pointer| lanes.contains(*pointer) && pointer.x >= left);
        if manner.keys {
            let x = pointer.map(|pointer| pointer.x - left);
            input::held_keys(ui.ctx(), (&mut self.held, &self.keys), &mut view, x);
        } else {
            self.held = Held::default();
        }

        self.lanes_ui(ui, lanes, &mut view, cx, manner);

        let painter = ui.painter().clone();
        self.gutter_ui(ui, (minimap, tokens, ruler), cx, manner);
        if manner.minimap {
            self.minimap.paint(&painter, minimap, cx.open, &view, cx.colors);
        }
        let below = Rect::from_min_max(pos2(left, lanes.top()), lanes.max);
        if manner.minimap {
            token_ruler::paint(&painter, tokens, cx.open, &view, cx.colors);
        }
        let cursor = pointer.or(manner.cursor.map(|x| pos2(x, lanes.top())));
        ruler::paint(&painter, ruler, cursor.map(|pointer| pointer.x), &view, cx.colors);
        let under = tokens.union(below);
        overlay::paint_range(&painter.with_clip_rect(under), under, cx.open, &view, cx.colors);
        marks::paint(&painter, ruler, below, cx.open, &view, cx.colors);
        highlight::paint(&painter, (minimap, ruler, below), cx.open, &view, cx.colors);
        if let Some(pointer) = cursor {
            overlay::paint_pointer(&painter, ruler, below, pointer, &view, cx.colors);
        }
        if view != cx.open.view {
            cx.commands.push(Command::Look(view));
        }
    }

    /// Left of minimap and ruler: what the one shows, and which lanes there are.
    fn gutter_ui(
        &mut self,
        ui: &mut Ui,
        (minimap, tokens, ruler): (Rect, Rect, Rect),
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
            let field = TextEdit::singleline(&mut self.shown_filter).hint_text("filter lanes");
            let field = field.font(FontId::proportional(11.0)).margin(egui::Margin::symmetric(4, 1));
            let place = at(tokens).translate(vec2(-4.0, 0.0)).shrink2(vec2(2.0, 0.0));
            ui.put(place, field.desired_width(place.width() - 8.0)).accessible_name("Lanes shown");
        }
        let mut child = ui.new_child(egui::UiBuilder::new().max_rect(at(ruler)));
        let hidden = cx.open.session.hidden.len();
        let name = if hidden == 0 { "lanes ⏷".to_owned() } else { format!("{hidden} hidden ⏷") };
        let button = egui::Button::new(egui::RichText::new(name).size(11.5)).frame(false);
        MenuButton::from_button(button).config(stays()).ui(&mut child, |ui| {
            let all = rows::rows(cx.open, self.experts.height());
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
        let mut all = rows::rows(cx.open, self.experts.height());
        if manner.brief {
            all.retain(|row| matches!(row.kind, Kind::Tokens | Kind::Graphs | Kind::Thread(_)));
        }
        let found_any = !all.is_empty();
        let rows = arrange::arrange(all, cx.open, rect.height(), &self.shown_filter);
        if rows.is_empty() {
            return self.nothing_ui(ui, rect, found_any);
        }
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
            self.gaps.resize_with(rows.len(), Vec::new);
            for ((row, bars), gaps) in rows.iter().zip(&mut self.bars).zip(&mut self.gaps) {
                if let Kind::Thread(lane) = row.kind {
                    lanes::bars(cx.open, lane, view, bars);
                    *gaps = gaps::gaps(cx.open, lane, bars, view);
                }
            }
            // Those who do not see the bars read them.
            let mut announcer = Announcer::new(&response);
            let hit = self.hit(&response, &rows, all, left, view, cx.open);
            clicks(&response, hit.as_ref(), cx);
            self.paint_rows(ui, (&rows, all), view, (hit.as_ref(), &mut announcer), cx, manner);
            if let Some(why) = gaps::no_threads(cx.open) {
                let top = all.top() + rows::height(&rows) + 24.0;
                let place = Rect::from_min_max(pos2(left, top), pos2(all.right(), top + 40.0));
                ui.put(place, egui::Label::new(egui::RichText::new(why).color(cx.colors.weak)));
            }
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

    /// Says why there is no lane.
    fn nothing_ui(&mut self, ui: &mut Ui, rect: Rect, found_any: bool) {
        let mut ui = ui.new_child(egui::UiBuilder::new().max_rect(rect));
        ui.vertical_centered(|ui| {
            ui.add_space(40.0);
            if !found_any {
                ui.heading("Nothing was recorded");
                ui.label(
                    "The file has neither calls nor threads: the program computed nothing while it was recorded, or the recorder found none of its functions. llmtrace doctor says what it would find.",
                );
            } else if self.shown_filter.trim().is_empty() {
                ui.label("All lanes are hidden.");
            } else {
                ui.label(format!("No lane is called “{}”.", self.shown_filter.trim()));
                if ui.button("Show all").clicked() {
                    self.shown_filter.clear();
                }
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
                let bar = bar_at(bars, time, view.nanos_from_pixels(1.0));
                let gap = || self.gaps.get(index)?.iter().find(|gap| gap.range.contains(time)).copied();
                bar.map(|(index, bar)| Hit::Bar { lane, index, bar }).or_else(|| gap().map(Hit::Gap))
            }
            Kind::Group(_) => None,
        }
    }

    fn paint_rows(
        &mut self,
        ui: &mut Ui,
        (rows, all): (&[Row], Rect),
        view: &View,
        (hit, announcer): (Option<&Hit>, &mut Announcer),
        cx: &mut Cx<'_>,
        manner: &Manner,
    ) {
        let left = all.left() + GUTTER_WIDTH;
        let everywhere = ui.painter().clone();
        let selected = cx.open.selected;
        let marked = selected.map(|found| cx.open.on_each_lane(&found.span)).unwrap_or_default();
        let grid = Rect::from_min_max(pos2(left, all.top()), all.max);
        for ((row, bars), gaps) in rows.iter().zip(&self.bars).zip(&self.gaps) {
            let rect = Rect::from_min_max(
                pos2(left, all.top() + row.top),
                pos2(all.right(), all.top() + row.top + row.height),
            );
            if !ui.is_rect_visible(rect) {
                continue;
            }
            let painter =
                everywhere.with_clip_rect(rect.expand2(vec2(0.0, 2.0)).intersect(everywhere.clip_rect()));
            let gutter = Rect::from_min_max(pos2(all.left(), rect.top()), pos2(left, rect.bottom()));
            if let Kind::Group(group) = row.kind {
                arrange::head_ui(ui, group, (gutter, rect), cx);
                if cx.open.session.is_collapsed(group.name()) {
                    painter.rect_filled(rect, 0.0, cx.colors.lane);
                    let canvas = Canvas { painter: &painter, colors: cx.colors, view, rect };
                    lanes::collapsed(&canvas, cx.open, group);
                }
                continue;
            }
            painter.rect_filled(rect, 0.0, cx.colors.lane);
            let canvas = Canvas { painter: &painter, colors: cx.colors, view, rect };
            let hovered = match hit {
                Some(Hit::Token(token)) => Some(token.range.begin),
                _ => None,
            };
            match row.kind {
                Kind::Group(_) => {}
                Kind::Tokens => {
                    canvas.tokens(&cx.open.trace.tokens, hovered, true);
                    announcer.tokens(ui, &canvas, cx);
                }
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
                    canvas.thread(cx.open, bars, colors.as_deref(), hovered, true);
                    gaps::paint(&canvas, gaps);
                    canvas.damaged(cx.open, lane);
                    announcer.bars(ui, &canvas, (lane, bars, gaps), cx);
                    outline_selected(&canvas, lane, &marked, cx);
                }
            }
            let canvas = Canvas { painter: &everywhere, ..canvas };
            if !matches!(row.kind, Kind::States(_)) {
                canvas.name(cx.open, row, gutter);
            }
            announce_row(ui, row, rect, (bars, view), cx.open, manner);
        }
        let painter = everywhere.with_clip_rect(grid.intersect(everywhere.clip_rect()));
        let canvas = Canvas { painter: &painter, colors: cx.colors, view, rect: grid };
        backends::paint_lines(&canvas, cx.open, rows, all.top());
        gaps::paint_changes(&canvas, cx.open);
        self.flows.paint(&canvas, cx.open, rows, all.top());
        overlay::paint_losses(&painter, grid, cx.open, view, cx.colors);
        announcer.losses(ui, &canvas, cx);
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

/// A lane's name and what is selected on it, or what it does, for those who do not see it.
fn announce_row(ui: &Ui, row: &Row, rect: Rect, (bars, view): (&[Bar], &View), open: &Open, manner: &Manner) {
    let response = ui.interact(rect, ui.scope_id().with(("row", row.name(open))), Sense::hover());
    let selected = open.selected.filter(|found| row.kind == Kind::Thread(found.place.lane));
    response.widget_info(|| {
        let mut info =
            WidgetInfo::labeled(Role::ListBox, true, format!("{}{}", manner.prefix, row.name(open)));
        info.current_text_value = match selected {
            Some(found) => {
                let key = open.key(&found.span);
                Some(format!("selected {} {}", key.op, key.name))
            }
            None if matches!(row.kind, Kind::Thread(_)) => Some(access::in_sight(bars, view)),
            None => None,
        };
        info
    });
}
