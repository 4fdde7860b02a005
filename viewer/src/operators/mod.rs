//! The page of operators: a table to sort, group, filter and drill into, and beside it the
//! executions behind the chosen row.
//!
//! ```text
//! │ phase · range · group by · filter                                     │
//! │ All ▸ MUL_MAT ▸ ffn_up                                                 │
//! │ ┌ table ───────────────────────┐ ┌ distribution ─────────────────────┐ │
//! │ │ row, share, times, histogram │ │ percentiles, histogram (brush it) │ │
//! │ │                              │ ├ scatter ──────────────────────────┤ │
//! │ │                              │ ├ threads ──────────────────────────┤ │
//! │ │                              │ ├ executions ───────────────────────┤ │
//! │ └──────────────────────────────┘ └───────────────────────────────────┘ │
//! ```

mod histogram;
mod list;
mod scatter;
pub(crate) mod table;
mod threads;

use crate::memo::{Going, Memo};
use crate::panel::Cx;
use crate::text;
use egui::{Align, Key, Layout, Modifiers, Panel, RichText, ScrollArea, TextEdit, Ui};
use histogram::HistogramView;
use llmtrace_analysis::operators::{Filter, Group, Node, Occurrences, Query, Row, nodes, occurrences, rows};
use llmtrace_analysis::{Phase, TimeRange};
use scatter::Scatter;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use table::{Contents, Form, Sort};

/// Part of the page that what stands beside the table has when it is first shown.
const SIDE_SHARE: f32 = 0.37;

/// Which executions the page is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Scope {
    /// All of the trace.
    #[default]
    Trace,
    /// Those that begin in the range that is selected on the timeline.
    Selection,
    /// Those that begin in what the timeline shows.
    Window,
}

/// The page's own state.
#[derive(Default)]
pub struct OperatorsPage {
    phase: Option<Phase>,
    scope: Scope,
    group: Group,
    filter: Filter,
    sort: Sort,
    /// Key of the chosen row.
    chosen: Option<String>,
    nodes: Memo<Query, Arc<Vec<Node>>>,
    rows: Option<(Shown, Vec<Row>)>,
    behind: Memo<Wanted, Arc<Behind>>,
    histogram: HistogramView,
    scatter: Scatter,
    /// What to compare with.
    kept: Option<Kept>,
}

/// A selection that others are compared with.
struct Kept {
    name: String,
    behind: Arc<Behind>,
    /// What the rows of the table were, and their mean times by key.
    group: Group,
    means: HashMap<String, f64>,
}

/// What the rows of the table are of, and their order.
type Shown = (Query, Group, Filter, Sort);

/// What the executions beside the table are of.
type Wanted = (Query, Filter);

/// The executions behind a row, and what follows from them.
pub(crate) struct Behind {
    pub(crate) found: Occurrences,
    /// Wall times, sorted.
    pub(crate) walls: Vec<u64>,
    /// Places in `found`, the shortest first.
    pub(crate) by_wall: Vec<u32>,
    /// Mean of the wall times and their standard deviation, nanoseconds.
    pub(crate) mean_and_spread: (f64, f64),
}

impl Behind {
    fn of(found: Occurrences) -> Self {
        let walls = found.sorted_walls();
        let mut by_wall: Vec<u32> = (0..found.all.len() as u32).collect();
        by_wall.sort_by_key(|at| found.all.get(*at as usize).map(|one| one.wall));
        let mean_and_spread = histogram::mean_and_spread(&walls);
        Self { found, walls, by_wall, mean_and_spread }
    }
}

impl OperatorsPage {
    /// Draws the page.
    pub fn operators_ui(&mut self, ui: &mut Ui, cx: &mut Cx<'_>) {
        if cx.open.trace.op_span_count() == 0 {
            return nothing_ui(ui);
        }
        let query = self.query(cx);
        let trace = Arc::clone(&cx.open.trace);
        let compute = move |going: &Going| nodes(&trace, &query, &|_| going.on()).ok().map(Arc::new);
        let answer = self.nodes.get(&query, cx.jobs, ui.ctx(), compute);
        let answer = answer.map(|(nodes, current)| (Arc::clone(nodes), current));
        egui::Frame::new().inner_margin(egui::Margin::symmetric(16, 10)).show(ui, |ui| {
            self.head_ui(ui, cx);
            ui.add_space(4.0);
            let Some((nodes, current)) = answer else {
                ui.spinner();
                ui.weak("looking at every op span");
                return;
            };
            self.path_ui(ui);
            if current {
                self.refresh(query, &nodes);
            }
            self.body_ui(ui, cx, query, current);
        });
    }

    /// The rows that the table shows, and what each stands for.
    pub(crate) fn shown(&self) -> Option<(&'static str, &[Row])> {
        self.rows.as_ref().map(|((_, group, ..), rows)| (group.name(), rows.as_slice()))
    }

    /// Forgets what was computed, but not what was chosen.
    pub(crate) fn forget(&mut self) {
        (self.nodes, self.rows, self.behind, self.kept) = (Memo::default(), None, Memo::default(), None);
    }

    /// What `llmtrace stats` groups by to print the same, as near as it can, and the phase.
    pub(crate) fn asked(&self) -> (&'static str, Option<Phase>) {
        let by = match self.group {
            Group::Name | Group::Node | Group::Shape => "name",
            Group::Layer => "layer",
            _ => "op",
        };
        (by, self.phase)
    }

    fn query(&self, cx: &Cx<'_>) -> Query {
        let range = match self.scope {
            Scope::Trace => None,
            Scope::Selection => cx.open.range,
            Scope::Window => Some(cx.open.view.range()),
        };
        Query { range, phase: self.phase }
    }

    fn head_ui(&mut self, ui: &mut Ui, cx: &mut Cx<'_>) {
        ui.horizontal_wrapped(|ui| {
            ui.label(RichText::new("Operators").heading().strong());
            ui.add_space(8.0);
            let has = |phase: Phase| cx.open.trace.tokens.iter().any(|token| token.phase == phase);
            ui.selectable_value(&mut self.phase, None, "all phases");
            for phase in [Phase::Prefill, Phase::Decode, Phase::Encode].into_iter().filter(|p| has(*p)) {
                ui.selectable_value(&mut self.phase, Some(phase), phase.name());
            }
            ui.separator();
            ui.selectable_value(&mut self.scope, Scope::Trace, "whole trace");
            let selected = cx.open.range.is_some();
            if !selected && self.scope == Scope::Selection {
                self.scope = Scope::Trace;
            }
            ui.add_enabled_ui(selected, |ui| {
                ui.selectable_value(&mut self.scope, Scope::Selection, "selected range")
                    .on_disabled_hover_text("Drag over the timeline to select a range");
            });
            ui.selectable_value(&mut self.scope, Scope::Window, "timeline's window");
            ui.separator();
            ui.label("by");
            for group in Group::ALL {
                let button = ui.selectable_label(self.group == group, group.name());
                if button.clicked() {
                    self.group = group;
                    self.chosen = None;
                }
            }
        });
    }

    /// What rows must contain, and where the table has been drilled into.
    fn path_ui(&mut self, ui: &mut Ui) {
        ui.horizontal_wrapped(|ui| {
            let field = TextEdit::singleline(&mut self.filter.text).desired_width(180.0);
            ui.add(field.hint_text("filter: name, operator, shape")).accessible_name("Filter");
            if !self.filter.text.is_empty() && ui.button("Clear").clicked() {
                self.filter.text.clear();
            }
            ui.separator();
            let mut cut = None;
            if ui.link("All").clicked() {
                cut = Some(0);
            }
            for (at, (group, key)) in self.filter.path.iter().enumerate() {
                ui.weak("⏵");
                let hint = format!("{}: {key}", group.name());
                if ui.link(text::shorten(key, 60)).on_hover_text(hint).clicked() {
                    cut = Some(at + 1);
                }
            }
            if let Some(cut) = cut.filter(|cut| *cut < self.filter.path.len()) {
                if let Some((group, _)) = self.filter.path.get(cut) {
                    self.group = *group;
                }
                self.filter.path.truncate(cut);
                self.chosen = None;
            }
        });
    }

    fn refresh(&mut self, query: Query, nodes: &[Node]) {
        let shown = (query, self.group, self.filter.clone(), self.sort);
        let kept = self.kept.as_ref().filter(|kept| kept.group == self.group).map(|kept| &kept.means);
        match &mut self.rows {
            Some((of, _)) if *of == shown => {}
            // Only the order has changed.
            Some((of, known)) if (&of.0, &of.1, &of.2) == (&shown.0, &shown.1, &shown.2) => {
                self.sort.apply(known, kept);
                of.3 = self.sort;
            }
            _ => {
                let mut rows = rows(nodes, self.group, &self.filter);
                self.sort.apply(&mut rows, kept);
                self.rows = Some((shown, rows));
            }
        }
    }

    fn body_ui(&mut self, ui: &mut Ui, cx: &mut Cx<'_>, query: Query, current: bool) {
        let wide = ui.available_width() >= 1000.0;
        let mut ui = ui.new_child(egui::UiBuilder::new().max_rect(ui.available_rect_before_wrap()));
        if !current {
            ui.set_opacity(0.6);
        }
        if wide {
            Panel::right("behind")
                .default_size((ui.available_width() * SIDE_SHARE).clamp(360.0, 820.0))
                .size_range(340.0..=ui.available_width() - 520.0)
                .resizable(true)
                .frame(egui::Frame::new().inner_margin(egui::Margin { left: 12, ..Default::default() }))
                .show(&mut ui, |ui| self.behind_ui(ui, cx, query));
        } else {
            Panel::bottom("behind below")
                .default_size(240.0)
                .resizable(true)
                .frame(egui::Frame::new().inner_margin(egui::Margin { top: 6, ..Default::default() }))
                .show(&mut ui, |ui| self.behind_ui(ui, cx, query));
        }
        let frame = egui::Frame::new().inner_margin(egui::Margin { right: 10, ..Default::default() });
        egui::CentralPanel::default().frame(frame).show(&mut ui, |ui| self.table_ui(ui, cx));
    }

    fn table_ui(&mut self, ui: &mut Ui, cx: &mut Cx<'_>) {
        let Some(((_, group, ..), rows)) = &self.rows else { return };
        if rows.is_empty() {
            ui.weak("nothing ran that fits; choose another phase or range, or clear the filter");
            return;
        }
        let (group, below) = (*group, group.below());
        let (by_key, reveal) = self.step(ui, rows);
        let contents = Contents {
            form: Form::Full,
            group,
            rows,
            chosen: self.chosen.as_deref(),
            reveal,
            kept: self.kept.as_ref().filter(|kept| kept.group == group).map(|kept| &kept.means),
        };
        let acted = self.sort.table_ui(ui, cx, &contents);
        match acted.or(by_key) {
            Some(table::Acted::Choose(key)) => {
                self.chosen = if self.chosen.as_ref() == Some(&key) { None } else { Some(key) };
                self.histogram.forget_brush();
            }
            Some(table::Acted::Into(key)) => {
                if let Some(below) = below {
                    self.filter.path.push((group, key));
                    self.group = below;
                    self.chosen = None;
                }
            }
            None => {}
        }
        let up = !ui.ctx().egui_wants_keyboard_input()
            && ui.input_mut(|input| input.consume_key(Modifiers::NONE, Key::Backspace));
        if let Some((group, key)) = up.then(|| self.filter.path.pop()).flatten() {
            // Where one came from.
            (self.group, self.chosen) = (group, Some(key));
        }
    }

    /// Up and down choose a row, Enter shows what it is made of.
    fn step(&self, ui: &Ui, rows: &[Row]) -> (Option<table::Acted>, Option<usize>) {
        if ui.ctx().egui_wants_keyboard_input() {
            return (None, None);
        }
        let (down, up, enter) = ui.input_mut(|input| {
            let mut key = |key| input.consume_key(Modifiers::NONE, key);
            (key(Key::ArrowDown), key(Key::ArrowUp), key(Key::Enter))
        });
        let at = self.chosen.as_ref().and_then(|key| rows.iter().position(|row| row.key == *key));
        if enter {
            return (self.chosen.clone().map(table::Acted::Into), None);
        }
        let next = match at {
            _ if down == up => return (None, None),
            None => 0,
            Some(at) if down => (at + 1).min(rows.len().saturating_sub(1)),
            Some(at) => at.saturating_sub(1),
        };
        if at == Some(next) {
            return (None, None);
        }
        (rows.get(next).map(|row| table::Acted::Choose(row.key.clone())), Some(next))
    }

    /// What the executions are of: the chosen row, or all of the table.
    fn wanted(&self) -> Filter {
        let mut filter = self.filter.clone();
        filter.path.extend(self.chosen.clone().map(|key| (self.group, key)));
        filter
    }

    fn behind_ui(&mut self, ui: &mut Ui, cx: &mut Cx<'_>, query: Query) {
        let filter = self.wanted();
        let rows = self.rows.as_ref().map_or(&[][..], |(_, rows)| rows);
        let of = rows.iter().filter(|row| self.chosen.as_ref().is_none_or(|key| row.key == *key));
        let count = of.clone().fold(0u64, |all, row| all.saturating_add(row.sums.count));
        let mut lanes = llmtrace_analysis::operators::Sums::default();
        of.for_each(|row| lanes.merge(&row.sums));
        let (trace, wanted) = (Arc::clone(&cx.open.trace), filter.clone());
        let answer = self.behind.get(&(query, filter), cx.jobs, ui.ctx(), move |going| {
            let found = occurrences(&trace, &query, &wanted, count, &|_| going.on()).ok()?;
            Some(Arc::new(Behind::of(found)))
        });
        let answer = answer.map(|(behind, current)| (Arc::clone(behind), current));
        let title = self.title();
        ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
            ui.set_max_width(ui.available_width() - 10.0);
            self.title_ui(ui, cx, &title, answer.as_ref().map(|(behind, _)| behind));
            let Some((behind, current)) = answer else {
                ui.spinner();
                return;
            };
            if !current {
                ui.set_opacity(0.6);
            }
            if lanes.touched_by_loss > 0 {
                let lost = text::count(lanes.touched_by_loss);
                let text = format!("⚠ events were lost near {lost} of these: their times may be wrong");
                ui.colored_label(cx.colors.loss, text);
            }
            if behind.found.left_out > 0 {
                let (kept, all) = (behind.found.all.len() as u64, behind.found.left_out);
                let all = text::count(kept.saturating_add(all));
                ui.weak(format!("an even sample: {} of {all} executions", text::count(kept)));
            }
            let kept = self.kept.as_ref().map(|kept| (kept.name.as_str(), &*kept.behind));
            let brushed = self.histogram.histogram_ui(ui, cx, (&title, &behind), kept);
            ui.add_space(10.0);
            self.scatter.scatter_ui(ui, cx, &behind.found, brushed.clone());
            ui.add_space(10.0);
            threads::threads_ui(ui, cx, &lanes);
            ui.add_space(10.0);
            list::list_ui(ui, cx, &behind, brushed);
        });
    }

    fn title(&self) -> String {
        let last = self.filter.path.last().map(|(_, key)| key.clone());
        let mut title = self.chosen.clone().or(last).unwrap_or_else(|| "all rows".to_owned());
        if let Some(phase) = self.phase {
            title.push_str(", ");
            title.push_str(phase.name());
        }
        title
    }

    fn title_ui(&mut self, ui: &mut Ui, cx: &Cx<'_>, title: &str, behind: Option<&Arc<Behind>>) {
        ui.horizontal(|ui| {
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                if self.kept.is_some() {
                    if ui.button("Stop comparing").clicked() {
                        (self.kept, self.rows) = (None, None);
                    }
                } else if let Some(behind) = behind {
                    let button = ui.button("Keep to compare");
                    if button.on_hover_text("Then choose another row, phase or range").clicked() {
                        let rows = self.rows.take().map_or_else(Vec::new, |(_, rows)| rows);
                        let means = rows.into_iter().map(|row| (row.key, row.sums.mean())).collect();
                        let (name, behind) = (title.to_owned(), Arc::clone(behind));
                        self.kept = Some(Kept { name, behind, group: self.group, means });
                    }
                }
                ui.with_layout(Layout::left_to_right(Align::Center), |ui| {
                    let text = RichText::new(title).strong().size(14.0).color(cx.colors.text);
                    ui.add(egui::Label::new(text).truncate());
                });
            });
        });
    }
}

/// Wall times that are brushed, from the shortest up to the end.
pub(crate) type Brush = Option<Range<u64>>;

/// The ranges of the timeline that a brush selects, by begin.
pub(crate) fn ranges(found: &Occurrences, walls: &Range<u64>) -> Vec<TimeRange> {
    found.within(walls.clone()).map(|occurrence| occurrence.range()).collect()
}

fn nothing_ui(ui: &mut Ui) {
    ui.vertical_centered(|ui| {
        ui.add_space(60.0);
        ui.label(RichText::new("No operators").heading());
        ui.label("No op spans were recorded. Record at level op or thread to see operators.");
    });
}
