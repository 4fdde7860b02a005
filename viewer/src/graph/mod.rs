//! The page of the compute graph: parts that expand in place, coloured by what they cost.
//!
//! ```text
//! │ graph · heat · whole run or a token · views · critical path · find      │
//! │ what is kept to compare with                                            │
//! │ split 1 CPU ⏵ split 2 Vulkan0 ⏵ …      (where there are several)        │
//! │ ┌ canvas: drag moves, wheel zooms, click selects ┐ ┌ part ────────────┐ │
//! │ │        ┌───────────┐                           │ │ times, bytes      │ │
//! │ │        │ embedding │                           │ ├ details ──────────┤ │
//! │ │        └─────┬─────┘                           │ │ selected node     │ │
//! │ │    ┌─────────┴─────────┐                       │ │                   │ │
//! │ │    │ layers 0–16  ×17  │                       │ │                   │ │
//! │ └────┴───────────────────┴───────────────────────┘ └───────────────────┘ │
//! ```

mod baseline;
mod camera;
mod canvas;
mod part;
mod picture;
mod splits;

use crate::details::Details;
use crate::memo::{Going, Memo};
use crate::panel::Cx;
use crate::state::Open;
use crate::text;
use crate::theme::DETAILS_WIDTH;
use baseline::Baseline;
use camera::Camera;
use egui::{ComboBox, Frame, Margin, Panel, RichText, TextEdit, Ui};
use llmtrace_analysis::dag::{NodeHeat, Outline, Part, critical_path, heat};
use llmtrace_analysis::format::meta::Graph;
use llmtrace_analysis::{Found, TimeRange};
use picture::{Picture, Shown};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// What parts are coloured by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Heat {
    /// Wall time.
    #[default]
    Time,
    /// Part of the threads' time that they waited.
    Wait,
    /// Bytes to read and write.
    Bytes,
    /// Part of the roof that is reached: what is far below it is hot.
    Roof,
    /// How much longer or shorter than in what was kept to compare.
    Difference,
    /// The class of the operator.
    Operator,
}

/// Which computations costs are of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Scope {
    /// All of the trace.
    #[default]
    All,
    /// The token of the selection, or in the middle of the timeline's window.
    Token,
    /// Those that begin in the selected range.
    Selection,
}

impl Heat {
    const ALL: [(Self, &'static str); 6] = [
        (Self::Time, "time"),
        (Self::Wait, "wait"),
        (Self::Bytes, "bytes"),
        (Self::Roof, "roof"),
        (Self::Difference, "difference"),
        (Self::Operator, "operator"),
    ];
}

/// What nodes cost, and which bound the time.
pub(crate) struct Costs {
    /// By index of the node.
    pub(crate) nodes: Vec<NodeHeat>,
    /// Whether each is on the critical path.
    pub(crate) critical: Vec<bool>,
    /// Nanoseconds of that path.
    pub(crate) critical_nanos: f64,
    /// Computations of the graph.
    pub(crate) executions: u64,
}

/// The page's own state.
#[derive(Default)]
pub struct GraphPage {
    /// Index into the file's graphs.
    graph: Option<u32>,
    outline: Option<(u32, Arc<Outline>)>,
    expanded: BTreeSet<usize>,
    views: bool,
    heat: Heat,
    scope: Scope,
    /// What is compared with.
    baseline: Option<Baseline>,
    /// What is compared with is the second trace.
    with_second: bool,
    /// Costs of the second trace's graph that is like one of the first, by which trace is the
    /// second and by index.
    second: Memo<(usize, u32), Option<Baseline>>,
    critical: bool,
    query: String,
    picture: Memo<Shown, Arc<Picture>>,
    costs: Memo<(u32, Option<TimeRange>), Arc<Costs>>,
    camera: Camera,
    /// The chosen part, by index into the outline.
    chosen: Option<usize>,
    /// The selection that was last shown.
    followed: Option<Found>,
    /// A part to bring into sight once it is placed.
    reveal: Option<usize>,
    /// Whether to expand or fold all once there is an outline.
    expand_next: Option<bool>,
    /// Computations of each graph, by its id.
    counts: Option<HashMap<u32, u64>>,
}

impl GraphPage {
    /// Draws the page.
    pub fn graph_ui(&mut self, ui: &mut Ui, cx: &mut Cx<'_>, details: &mut Details, second: Option<&Open>) {
        if cx.open.trace.file.graphs.iter().all(|graph| graph.nodes == 0) {
            return nothing_ui(ui, cx);
        }
        self.follow_selection(cx);
        let trace = Arc::clone(&cx.open.trace);
        let index = self.graph.unwrap_or_else(|| self.busiest(cx)).min(trace.file.graphs.len() as u32 - 1);
        self.graph = Some(index);
        let Some(graph) = trace.file.graphs.get(index as usize) else { return };
        let outline = self.outline(cx, index, graph);
        if let Some(expand) = self.expand_next.take() {
            self.expand_all(expand);
        }
        Frame::new().inner_margin(Margin { left: 12, right: 12, top: 8, bottom: 4 }).show(ui, |ui| {
            self.head_ui(ui, cx, graph);
            splits::splits_ui(ui, cx, graph, &mut self.graph);
            let costs = self.costs(ui, cx, index);
            self.second(ui, cx, index, second);
            ui.horizontal_wrapped(|ui| {
                self.find_ui(ui, cx, graph, &outline);
                ui.separator();
                self.fold_ui(ui);
                ui.separator();
                self.compare_ui(ui, cx, (index, graph), (costs.as_deref(), second));
            });
            let mut ui = ui.new_child(egui::UiBuilder::new().max_rect(ui.available_rect_before_wrap()));
            Panel::right("graph details")
                .default_size(DETAILS_WIDTH)
                .size_range(260.0..=640.0)
                .resizable(true)
                .frame(Frame::new().inner_margin(Margin { left: 12, ..Margin::ZERO }))
                .show(&mut ui, |ui| {
                    if let Some(part) = self.chosen.and_then(|part| outline.parts.get(part))
                        && !part.parts.is_empty()
                    {
                        part::part_ui(ui, cx, (graph, &outline, part), costs.as_deref());
                        ui.separator();
                    }
                    details.details_ui(ui, cx, false);
                });
            let frame = Frame::new().inner_margin(Margin { right: 8, ..Margin::ZERO });
            egui::CentralPanel::default().frame(frame).show(&mut ui, |ui| {
                self.canvas_ui(ui, cx, (index, graph, &outline), costs.as_deref());
            });
        });
    }

    /// The graph of which most nodes were computed.
    fn busiest(&mut self, cx: &Cx<'_>) -> u32 {
        let counts = self.counts(cx);
        let graphs = (0u32..).zip(&cx.open.trace.file.graphs).filter(|(_, graph)| graph.nodes > 0);
        let count = |graph: &Graph| counts.get(&graph.id).copied().unwrap_or(0);
        // One of a few nodes may be a part that another backend was not given.
        graphs
            .max_by_key(|(_, graph)| count(graph).saturating_mul(u64::from(graph.nodes)))
            .map_or(0, |(index, _)| index)
    }

    fn counts(&mut self, cx: &Cx<'_>) -> &HashMap<u32, u64> {
        self.counts.get_or_insert_with(|| {
            let mut counts = HashMap::new();
            for span in &cx.open.trace.graph_spans {
                *counts.entry(span.graph).or_default() += 1;
            }
            counts
        })
    }

    fn outline(&mut self, cx: &Cx<'_>, index: u32, graph: &Graph) -> Arc<Outline> {
        match &self.outline {
            Some((of, outline)) if *of == index => Arc::clone(outline),
            _ => {
                let outline = Arc::new(Outline::of(&cx.open.trace.file, graph));
                self.outline = Some((index, Arc::clone(&outline)));
                self.expanded.clear();
                self.chosen = None;
                self.camera = Camera::default();
                outline
            }
        }
    }

    /// What another page selected is shown here.
    fn follow_selection(&mut self, cx: &Cx<'_>) {
        if self.followed == cx.open.selected {
            return;
        }
        self.followed = cx.open.selected;
        let Some(found) = cx.open.selected else { return };
        let Some((graph, _)) = cx.open.trace.node_of(&found.span) else { return };
        let index = cx.open.trace.file.graphs.iter().position(|other| other.id == graph.id);
        let Some(index) = index.map(|index| index as u32) else { return };
        self.graph = Some(index);
        let outline = self.outline(cx, index, graph);
        if let Some(part) = outline.of_node(found.span.node) {
            self.show(&outline, part);
        }
    }

    fn costs(&mut self, ui: &Ui, cx: &Cx<'_>, index: u32) -> Option<Arc<Costs>> {
        let middle = cx.open.view.time_from_x(cx.open.view.width() / 2.0);
        let at = cx.open.selected.map_or(middle, |found| found.span.begin);
        let range = match self.scope {
            Scope::All => None,
            Scope::Token => cx.open.trace.token_at(at).map(|token| token.range),
            Scope::Selection => cx.open.range,
        };
        let trace = Arc::clone(&cx.open.trace);
        let compute = move |going: &Going| {
            let nodes = heat(&trace, index, range, &|_| going.on()).ok()?;
            let graph = trace.file.graphs.get(index as usize)?;
            let (path, critical_nanos) = critical_path(&trace.file, graph, &nodes);
            let mut critical = vec![false; nodes.len()];
            for node in path {
                if let Some(of) = critical.get_mut(node as usize) {
                    *of = true;
                }
            }
            let executions = nodes.iter().map(|node| node.count).max().unwrap_or(0);
            Some(Arc::new(Costs { nodes, critical, critical_nanos, executions }))
        };
        let answer = self.costs.get(&(index, range), cx.jobs, ui.ctx(), compute);
        // What another graph's nodes cost would be shown for this one's.
        answer.filter(|(_, current)| *current).map(|(costs, _)| Arc::clone(costs))
    }

    /// Compares with the second trace, as long as it is wanted and there is one.
    fn second(&mut self, ui: &Ui, cx: &Cx<'_>, index: u32, second: Option<&Open>) {
        let Some(second) = second else {
            self.second = Memo::default();
            if std::mem::take(&mut self.with_second) {
                self.stop_comparing();
            }
            return;
        };
        if !self.with_second {
            return;
        }
        let (trace, other) = (Arc::clone(&cx.open.trace), Arc::clone(&second.trace));
        let name = second.file_name();
        let key = (Arc::as_ptr(&second.trace) as usize, index);
        let compute =
            move |going: &Going| Baseline::of_second(&trace, index, (&other, &name), &|| going.on());
        let answer = self.second.get(&key, cx.jobs, ui.ctx(), compute);
        let found = answer.filter(|(_, current)| *current).and_then(|(found, _)| found.as_ref());
        match (found, &self.baseline) {
            (Some(found), Some(known)) if found.is(known) => {}
            (found, _) => self.baseline = found.cloned(),
        }
    }

    fn stop_comparing(&mut self) {
        self.baseline = None;
        self.with_second = false;
        if self.heat == Heat::Difference {
            self.heat = Heat::Time;
        }
    }

    fn head_ui(&mut self, ui: &mut Ui, cx: &Cx<'_>, graph: &Graph) {
        self.counts(cx);
        ui.horizontal_wrapped(|ui| {
            ui.label(RichText::new("Graph").heading().strong());
            let counts = self.counts.as_ref();
            let name = |graph: &Graph| {
                let count = counts.and_then(|counts| counts.get(&graph.id)).copied().unwrap_or(0);
                let times = if count == 1 { "once".into() } else { format!("{} times", text::count(count)) };
                format!("{} · {} nodes · computed {times}", graph.id, graph.nodes)
            };
            ComboBox::from_id_salt("graph").width(230.0).selected_text(name(graph)).show_ui(ui, |ui| {
                let graphs = (0u32..).zip(&cx.open.trace.file.graphs);
                for (index, graph) in graphs.filter(|(_, graph)| graph.nodes > 0).take(200) {
                    ui.selectable_value(&mut self.graph, Some(index), name(graph));
                }
            });
            ui.separator();
            ui.label("colour");
            for (heat, name) in Heat::ALL {
                ui.selectable_value(&mut self.heat, heat, name);
            }
            ui.separator();
            ui.selectable_value(&mut self.scope, Scope::All, "all computations");
            ui.selectable_value(&mut self.scope, Scope::Token, "one token")
                .on_hover_text("The token of the selection, or in the middle of the timeline's window");
            let selected = cx.open.range.is_some();
            if !selected && self.scope == Scope::Selection {
                self.scope = Scope::All;
            }
            ui.add_enabled_ui(selected, |ui| {
                ui.selectable_value(&mut self.scope, Scope::Selection, "selected range")
                    .on_disabled_hover_text("Drag over the timeline to select a range");
            });
            ui.separator();
            ui.toggle_value(&mut self.critical, "critical path").on_hover_text(
                "The longest way by mean wall time: what is left if all else were done beside it",
            );
            ui.toggle_value(&mut self.views, "views")
                .on_hover_text("Also nodes that only look at others, and take no time");
        });
    }

    fn fold_ui(&mut self, ui: &mut Ui) {
        if ui.button("Fit").on_hover_text("All of it in sight").clicked() {
            self.camera.fit();
        }
        if ui.button("Fold all").clicked() {
            self.expand_all(false);
        }
        if ui.button("Expand all").clicked() {
            self.expand_all(true);
        }
    }

    /// Keeps costs, to colour by how others differ from them.
    fn compare_ui(
        &mut self,
        ui: &mut Ui,
        cx: &Cx<'_>,
        (index, graph): (u32, &Graph),
        (costs, second): (Option<&Costs>, Option<&Open>),
    ) {
        let known = costs.filter(|costs| costs.executions > 0);
        if let Some((baseline, costs)) = self.baseline.as_mut().zip(known) {
            baseline.find(&cx.open.trace.file, (index, graph), costs);
        }
        ui.horizontal_wrapped(|ui| {
            let Some(baseline) = &self.baseline else {
                if self.with_second {
                    ui.weak(if self.second.last().is_some() {
                        "B has no graph like this one"
                    } else {
                        "counting B…"
                    });
                    if ui.button("Stop comparing").clicked() {
                        self.stop_comparing();
                    }
                    return;
                }
                if let Some(second) = second {
                    let button = ui.button("Difference to B");
                    let hover = format!(
                        "Colours show how much longer or shorter nodes take than in {}, by their names",
                        second.file_name()
                    );
                    if button.on_hover_text(hover).clicked() {
                        (self.with_second, self.heat) = (true, Heat::Difference);
                    }
                }
                let button = ui.add_enabled(known.is_some(), egui::Button::new("Keep to compare"));
                let button = button
                    .on_hover_text("Then choose another token, range or graph: colours show the difference");
                if let Some(costs) = known.filter(|_| button.clicked()) {
                    let of = match self.scope {
                        Scope::All => "all computations".to_owned(),
                        Scope::Token => "one token".to_owned(),
                        Scope::Selection => "the selected range".to_owned(),
                    };
                    let name = format!("{of} of graph {}", graph.id);
                    self.baseline = Some(Baseline::of(name, &cx.open.trace.file, graph, costs));
                    self.heat = Heat::Difference;
                }
                if self.heat == Heat::Difference {
                    ui.weak("nothing is kept to compare with yet");
                }
                return;
            };
            ui.label(format!("compared with {}", baseline.name));
            let all = known.and_then(|costs| baseline.both(costs, 0..graph.nodes));
            if let Some((now, before)) = all {
                let change = (now / before.max(1e-9) - 1.0) * 100.0;
                ui.weak(format!(
                    "{}, then {} ({change:+.1} %), of nodes in both",
                    text::nanos_f64(before),
                    text::nanos_f64(now)
                ));
            } else if known.is_some() {
                ui.weak("no node is in both");
            }
            if ui.button("Stop comparing").clicked() {
                self.stop_comparing();
            }
        });
    }

    /// Shows every node, or all parts folded.
    pub fn expand_all(&mut self, expand: bool) {
        if self.outline.is_none() {
            // The page has not been drawn yet.
            self.expand_next = Some(expand);
            return;
        }
        let parts = self.outline.iter().flat_map(|(_, outline)| (0..).zip(&outline.parts));
        let all = parts.filter(|(_, part)| expand && !part.parts.is_empty());
        self.expanded = all.map(|(at, _)| at).collect();
        self.camera.fit();
    }

    fn find_ui(&mut self, ui: &mut Ui, cx: &Cx<'_>, graph: &Graph, outline: &Outline) {
        ui.horizontal(|ui| {
            let field = TextEdit::singleline(&mut self.query).desired_width(150.0);
            let field = ui.add(field.hint_text("find in the graph")).accessible_name("Find in the graph");
            let enter = field.lost_focus() && ui.input(|input| input.key_pressed(egui::Key::Enter));
            let next = ui.button("Next").clicked() || enter;
            if self.query.trim().is_empty() {
                return;
            }
            let wanted = self.query.trim().to_lowercase();
            let file = &cx.open.trace.file;
            let has = |text: &str| text.to_lowercase().contains(&wanted);
            let nodes = (0u32..).zip(graph.tensors.iter().take(graph.nodes as usize));
            let found: Vec<u32> = nodes
                .filter(|(_, tensor)| has(file.string(tensor.name)) || has(file.string(tensor.op)))
                .map(|(node, _)| node)
                .collect();
            ui.weak(format!("{} nodes", text::count(found.len() as u64)));
            if next {
                let at = self.chosen.and_then(|part| outline.parts.get(part)).map(|part| part.nodes.start);
                let after = at.and_then(|at| found.iter().find(|node| **node > at));
                let target = after.or(found.first()).and_then(|node| outline.of_node(*node));
                if let Some(target) = target {
                    self.show(outline, target);
                }
            }
            if enter {
                field.request_focus();
            }
        });
    }

    /// Expands what a part is within, chooses it and brings it into sight.
    fn show(&mut self, outline: &Outline, part: usize) {
        self.expanded.extend(outline.around(part));
        self.chosen = Some(part);
        self.reveal = Some(part);
    }
}

/// A part by name, for a label and for those who do not see it.
pub(crate) fn part_name(cx: &Cx<'_>, graph: &Graph, part: &Part) -> String {
    picture::name(&cx.open.trace.file, graph, part)
}

fn nothing_ui(ui: &mut Ui, cx: &Cx<'_>) {
    ui.vertical_centered(|ui| {
        ui.add_space(60.0);
        ui.label(RichText::new("No graphs").heading());
        let spans = cx.open.trace.graph_spans.len() as u64;
        ui.label(if spans > 0 {
            format!(
                "{} computations of graphs were recorded, but not what the graphs consist of: the recorder did not know this build's layout, or recorded below level op.",
                text::count(spans)
            )
        } else {
            "No computation of a graph was recorded. Record at level op or thread while tokens are computed.".to_owned()
        });
    });
}
