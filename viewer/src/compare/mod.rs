//! The page of two traces.
//!
//! ```text
//! │ A name   B name   swap   align by token · phase · time · hand            │
//! │ B is 21 % slower …                                                        │
//! │ ! what does not match                                                     │
//! ├ A ────────────────────────────────────────────────────────────────────────┤
//! │ timeline                                                                  │
//! ├ B − A ──── ▂▃▂▇▃▂▂▃ ms longer, by token ──────────────────────────────────┤
//! │ timeline of B, under A's times                                            │
//! ├ what adds up to the change ──────────┬ waterfall · durations · rooflines ─┤
//! │ table                                │ of the chosen row                  │
//! └──────────────────────────────────────┴────────────────────────────────────┘
//! ```

mod comparison;
mod durations;
mod head;
mod invitation;
mod lanes;
mod roofs;
mod second;
mod table;
mod waterfall;

pub use comparison::Comparison;
pub(crate) use second::Second;

use crate::answers::Answers;
use crate::command::Command;
use crate::memo::{Going, Memo};
use crate::panel::{Cx, Explained as _};
use crate::state::{Document, Open};
use crate::timeline::Timeline;
use egui::{CentralPanel, Frame, Margin, Panel, ProgressBar, Ui};
use lanes::Lane;
use llmtrace_analysis::diff::{
    Contribution, Diff, Failure, Grain, NodeId, Options, Samples, diff_with_samples, execution_in,
};
use llmtrace_analysis::format::Error;
use llmtrace_analysis::search::first_from;
use llmtrace_analysis::{Found, Phase, TimeRange, Trace};
use roofs::Rooflines;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use table::Sort;

/// Part of the page that the table has when it is first shown.
const BELOW_SHARE: f32 = 0.36;
/// How much longer than the executions themselves the window may be that shows both.
const FAR: u64 = 40;

/// Both sides, and what is known of the pair.
#[derive(Clone, Copy)]
pub(crate) struct Pair<'a> {
    a: &'a Open,
    b: &'a Open,
    comparison: &'a Comparison,
}

/// What a comparison found.
pub(crate) struct Compared {
    diff: Diff,
    samples: Samples,
}

/// A row of the table: its nodes on both sides.
#[derive(Clone, Debug, PartialEq)]
struct Chosen {
    name: String,
    members: Arc<Vec<NodeId>>,
}

impl Chosen {
    fn of(part: &Contribution) -> Self {
        Self { name: part.key.clone(), members: Arc::new(part.members.clone()) }
    }
}

/// What stands beside the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Chart {
    #[default]
    Waterfall,
    Durations,
    Rooflines,
}

/// The page's own state.
#[derive(Default)]
pub struct ComparePage {
    timelines: [Timeline; 2],
    lane: Lane,
    /// Whether lanes beside tokens, graphs and threads are shown.
    all_lanes: bool,
    /// Whether all that does not match is shown.
    all_warnings: bool,
    phase: Option<Phase>,
    grain: Option<Grain>,
    found: Memo<Option<Phase>, Result<Arc<Compared>, String>>,
    /// Bits of an `f32` from 0 to 1.
    progress: Arc<AtomicU32>,
    /// Whether the user stopped the comparison.
    stopped: bool,
    sort: Sort,
    chosen: Option<Chosen>,
    /// A row to choose once it is there, by a piece of its name.
    wanted: Option<String>,
    /// Typical executions of the chosen row, and whether they were gone to.
    typical: Memo<Chosen, [Option<Found>; 2]>,
    jumped: bool,
    /// What to do after this frame.
    after: Vec<Command>,
    chart: Chart,
    durations: durations::Shown,
    rooflines: Rooflines,
}

impl ComparePage {
    /// Chooses a row by a piece of its name, once it is there.
    pub(crate) fn choose(&mut self, name: &str) {
        self.wanted = Some(name.to_owned());
        self.chart = Chart::Durations;
    }

    /// What was asked of the comparison: the phase, where the user chose one, and what a row stands for.
    pub(crate) fn asked(&self) -> (Option<Phase>, Grain) {
        (self.phase, self.grain())
    }

    /// The comparison, and the parts of it that the table shows.
    pub(crate) fn shown(&self) -> Option<(&Diff, &[Contribution])> {
        let found = self.found.known()?.as_ref().ok()?;
        Some((&found.diff, found.samples.groups(self.grain())))
    }

    /// Whether the comparison is there.
    pub(crate) fn is_compared(&mut self) -> bool {
        self.found.last().is_some()
    }

    /// Draws the page.
    pub fn compare_ui(
        &mut self,
        ui: &mut Ui,
        cx: &mut Cx<'_>,
        (second, comparison): (&Document, Option<&Comparison>),
        answers: [&mut Answers; 2],
        recent: &[PathBuf],
    ) {
        let (Some(b), Some(comparison)) = (second.open(), comparison) else {
            return invitation::invitation_ui(ui, cx, second, recent);
        };
        let pair = Pair { a: cx.open, b, comparison };
        let answer = self.answer(ui, cx, pair);
        let bare = |left, top| Frame::new().inner_margin(Margin { left, right: 12, top, bottom: 4 });
        Panel::top("compare head")
            .frame(bare(12, 8))
            .show(ui, |ui| self.head_ui(ui, cx, pair, answer.as_ref()));
        let height = ui.available_height();
        Panel::bottom("compare below")
            .default_size((height * BELOW_SHARE).clamp(250.0, 620.0))
            .size_range(90.0..=(height - 200.0).max(91.0))
            .resizable(true)
            .frame(bare(12, 6))
            .show(ui, |ui| self.below_ui(ui, cx, pair, answer.as_ref(), answers));
        CentralPanel::default().frame(Frame::new()).show(ui, |ui| self.lanes_ui(ui, cx, pair));
        // After what the timelines say of their windows, such as a new width.
        cx.commands.append(&mut self.after);
    }

    /// The comparison, once it is there; `None` while it is computed or when it was stopped.
    fn answer(&mut self, ui: &Ui, cx: &Cx<'_>, pair: Pair<'_>) -> Option<Result<Arc<Compared>, String>> {
        if self.stopped {
            return None;
        }
        let (a, b) = (Arc::clone(&pair.a.trace), Arc::clone(&pair.b.trace));
        let (progress, context, phase) = (Arc::clone(&self.progress), ui.ctx().clone(), self.phase);
        let compute = move |going: &Going| {
            let report = |part: f32| {
                progress.store(part.to_bits(), Ordering::Relaxed);
                context.request_repaint();
                going.on()
            };
            let options = Options { phase, grain: Grain::Role };
            match diff_with_samples(&[a], &[b], &options, &report) {
                Ok((diff, samples)) => Some(Ok(Arc::new(Compared { diff, samples }))),
                Err(Failure::Read(Error::Cancelled)) => None,
                Err(failure) => Some(Err(failure.to_string())),
            }
        };
        let (answer, current) = self.found.get(&phase, cx.jobs, ui.ctx(), compute)?;
        current.then(|| answer.clone())
    }

    fn progress_ui(&mut self, ui: &mut Ui) {
        ui.horizontal(|ui| {
            if self.stopped {
                ui.label("The comparison was stopped.");
                if ui.button("Compare").clicked() {
                    self.stopped = false;
                }
                return;
            }
            let part = f32::from_bits(self.progress.load(Ordering::Relaxed));
            ui.add(ProgressBar::new(part).desired_width(260.0).text("comparing node by node"));
            if ui.button("Stop").clicked() {
                self.stopped = true;
                self.found = Memo::default();
            }
        });
    }

    /// The table, and beside it what belongs to the chosen row.
    fn below_ui(
        &mut self,
        ui: &mut Ui,
        cx: &mut Cx<'_>,
        pair: Pair<'_>,
        answer: Option<&Result<Arc<Compared>, String>>,
        answers: [&mut Answers; 2],
    ) {
        // As high before the table is there as with it, so that the timelines stay where they are.
        ui.set_min_height(ui.available_height());
        let found = match answer {
            None => return self.progress_ui(ui),
            Some(Err(why)) => {
                ui.label(format!("Only the timelines can be compared: {why}."));
                return;
            }
            Some(Ok(found)) => found,
        };
        if let Some(name) = self.wanted.take() {
            let rows = found.samples.groups(self.grain());
            let exact = rows.iter().find(|part| part.key == name);
            self.chosen = exact.or_else(|| rows.iter().find(|part| part.key.contains(&name))).map(Chosen::of);
            self.jumped = false;
        }
        self.jump(ui, cx, pair, found);
        let width = ui.available_width();
        Panel::right("compare charts")
            .default_size((width * 0.42).clamp(320.0, 1000.0))
            .size_range(300.0..=(width - 420.0).max(301.0))
            .resizable(true)
            .frame(Frame::new().inner_margin(Margin { left: 12, ..Margin::ZERO }))
            .show(ui, |ui| self.charts_ui(ui, cx, pair, found, answers));
        let frame = Frame::new().inner_margin(Margin { right: 8, ..Margin::ZERO });
        CentralPanel::default().frame(frame).show(ui, |ui| self.table_ui(ui, cx, found));
    }

    fn grain(&self) -> Grain {
        self.grain.unwrap_or(Grain::Role)
    }

    fn table_ui(&mut self, ui: &mut Ui, cx: &Cx<'_>, found: &Compared) {
        ui.horizontal_wrapped(|ui| {
            ui.strong(format!("What adds up to the change of ms a {}, by", found.diff.unit.name()));
            for grain in Grain::ALL {
                if ui.selectable_label(self.grain() == grain, grain.name()).clicked() {
                    self.grain = Some(grain);
                    self.chosen = None;
                }
            }
        });
        let rows = table::rows(&found.diff, found.samples.groups(self.grain()), self.sort);
        let chosen = self.chosen.as_ref().map(|chosen| &chosen.members);
        if let Some(part) = self.sort.table_ui(ui, cx, &rows, chosen.map(|members| members.as_slice())) {
            self.take(part);
        }
    }

    /// Chooses a row, or lets it go.
    fn take(&mut self, part: &Contribution) {
        let part = Chosen::of(part);
        self.jumped = false;
        self.chosen = if self.chosen.as_ref() == Some(&part) { None } else { Some(part) };
        if self.chosen.is_some() && self.chart == Chart::Waterfall {
            self.chart = Chart::Durations;
        }
    }

    fn charts_ui(
        &mut self,
        ui: &mut Ui,
        cx: &mut Cx<'_>,
        pair: Pair<'_>,
        found: &Compared,
        answers: [&mut Answers; 2],
    ) {
        ui.horizontal(|ui| {
            let charts: [(Chart, &str, &[&str]); 3] = [
                (Chart::Waterfall, "Waterfall", &["waterfall"]),
                (Chart::Durations, "Durations", &["histogram", "median"]),
                (Chart::Rooflines, "Rooflines", &["intensity", "op/s", "of roof"]),
            ];
            for (chart, name, terms) in charts {
                ui.selectable_value(&mut self.chart, chart, name).explained(terms);
            }
        });
        match self.chart {
            Chart::Waterfall => {
                let rows = found.samples.groups(self.grain());
                if let Some(part) = waterfall::waterfall_ui(ui, cx, &found.diff, rows) {
                    self.take(part);
                }
            }
            Chart::Durations => {
                let chosen = self.chosen.as_ref().map(|chosen| (&*chosen.name, chosen.members.as_slice()));
                self.durations.durations_ui(ui, cx, found, chosen);
            }
            Chart::Rooflines => {
                let name = self.chosen.as_ref().map(|chosen| chosen.name.as_str());
                self.rooflines.rooflines_ui(ui, cx, pair, answers, (found.diff.phase, name));
            }
        }
    }

    /// Goes to a typical execution of the chosen row, on both sides.
    fn jump(&mut self, ui: &Ui, cx: &Cx<'_>, pair: Pair<'_>, found: &Compared) {
        if self.jumped {
            return;
        }
        let Some(chosen) = self.chosen.clone() else { return };
        let calls = found.samples.typical(&chosen.members);
        let traces = [pair.a, pair.b].map(|open| Arc::clone(&open.trace));
        let members = Arc::clone(&chosen.members);
        // Of several nodes the one that changed most, the same on both sides.
        let nodes = found.samples.groups(Grain::Name).iter();
        let nodes = nodes.filter(|node| node.members.iter().all(|id| members.contains(id)));
        let lead = nodes.max_by(|a, b| a.ms.abs().total_cmp(&b.ms.abs()));
        let lead = lead.map(|node| node.members.clone()).unwrap_or_default();
        let compute = move |_: &Going| {
            let [a, b] = traces;
            let [in_a, in_b] = calls;
            let either = |trace: &Trace, call: Option<TimeRange>| {
                execution(trace, call, &lead).or_else(|| execution(trace, call, &members))
            };
            Some([either(&a, in_a), either(&b, in_b)])
        };
        let Some((executions, true)) = self.typical.get(&chosen, cx.jobs, ui.ctx(), compute) else { return };
        let executions = *executions;
        self.jumped = true;
        self.after = go_to(pair, executions);
    }
}

/// The longest execution of some nodes in a call.
fn execution(trace: &Trace, call: Option<TimeRange>, members: &[NodeId]) -> Option<Found> {
    let (key, lane, begin) = execution_in(trace, call?, members).ok()??;
    first_from(trace, &key, (lane, begin), &|| true)
}

/// Selects an execution on each side and shows both; aligns them by hand if they lie far apart.
fn go_to(pair: Pair<'_>, executions: [Option<Found>; 2]) -> Vec<Command> {
    let [a, b] =
        executions.map(|found| found.map(|found| TimeRange::new(found.span.begin, found.span.end())));
    let [in_a, in_b] = executions;
    let mut commands = vec![Command::ClearSelection];
    commands.extend(in_a.map(Command::Select));
    commands.extend(in_b.map(|found| Command::Second(Box::new(Command::Select(found)))));
    let widened = |range: TimeRange| {
        let margin = range.nanos();
        TimeRange::new(range.begin.saturating_sub(margin), range.end.saturating_add(margin))
    };
    match (a, b) {
        (Some(a), Some(b)) => {
            let middle = i64::try_from(a.begin).unwrap_or(i64::MAX);
            let offset = pair.comparison.offset_at(middle);
            let moved = |time: u64| u64::try_from(i128::from(time) - i128::from(offset)).unwrap_or(0);
            let under = TimeRange::new(moved(b.begin), moved(b.end));
            let both = TimeRange::new(a.begin.min(under.begin), a.end.max(under.end));
            if both.nanos() <= a.nanos().max(b.nanos()).saturating_mul(FAR) {
                commands.push(Command::ZoomTo(widened(both)));
            } else {
                let longer = TimeRange::new(a.begin, a.begin.saturating_add(a.nanos().max(b.nanos())));
                commands.push(Command::ZoomTo(widened(longer)));
                let offset = i128::from(b.begin) - i128::from(a.begin);
                commands.push(Command::AlignAt(i64::try_from(offset).unwrap_or(0)));
            }
        }
        (Some(a), None) => commands.push(Command::ZoomTo(widened(a))),
        (None, Some(b)) => commands.push(Command::Second(Box::new(Command::ZoomTo(widened(b))))),
        (None, None) => {}
    }
    commands
}
