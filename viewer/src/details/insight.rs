//! What the panel shows while nothing is selected: the totals of what is in
//! sight, and the colours.

use super::Totals;
use super::range::totals_ui;
use crate::command::Command;
use crate::counters::heat;
use crate::memo::Jobs;
use crate::panel::{Cx, swatch_ui};
use crate::session::{Change, ColorBy};
use crate::text;
use crate::theme::StateClass;
use crate::timeline::coloring;
use egui::{Color32, Grid, Ui};
use llmtrace_analysis::TimeRange;
use llmtrace_analysis::stats::By;
use llmtrace_analysis::totals::totals_in_range;
use std::sync::Arc;

/// Seconds that the window must rest before its totals are computed.
const REST: f64 = 0.15;

/// When the window last moved, and where to.
#[derive(Default)]
pub(crate) struct InSight {
    range: TimeRange,
    since: f64,
}

impl InSight {
    /// Marks and colours are of lanes, and shown beside those.
    pub(crate) fn in_sight_ui(&mut self, ui: &mut Ui, cx: &mut Cx<'_>, totals: &mut Totals, lanes: bool) {
        ui.heading(if lanes { "In sight" } else { "In sight on the timeline" });
        let range = cx.open.view.range();
        let now = ui.input(|input| input.time);
        if range != self.range {
            *self = Self { range, since: now };
        }
        ui.weak(format!("{} of the trace", text::nanos_f64(cx.open.view.nanos().min(range.nanos() as f64))));
        ui.weak(if lanes {
            "Click a bar for its node, drag over the lanes for the totals of a range."
        } else {
            "Click a node for its times and threads, a part for what it consists of."
        });
        ui.separator();
        self.rows_ui(ui, cx, now, totals);
        if !lanes {
            return;
        }
        ui.separator();
        crate::timeline::marks::list_ui(ui, cx);
        ui.separator();
        colours_ui(ui, cx);
        if cx.open.trace.machine.thread_count() > 0 {
            ui.add_space(6.0);
            ui.weak("Under a thread's lane, what the kernel had it do:");
            for class in StateClass::ALL {
                named_ui(ui, cx.colors.state(class), class.name());
            }
        }
        ui.add_space(6.0);
        ui.weak(
            "Solid is computing; striped is waiting for the other threads at the barrier that ends a node.",
        );
        if !cx.open.trace.offload.is_empty() {
            ui.weak("In lanes of backends, solid is a split, striped is waiting for the device, and marks are copies.");
        }
    }

    fn rows_ui(&self, ui: &mut Ui, cx: &mut Cx<'_>, now: f64, totals: &mut Totals) {
        let rests = cx.jobs == Jobs::Inline || now - self.since >= REST;
        if !rests {
            ui.ctx().request_repaint_after_secs((REST - (now - self.since)) as f32);
        }
        let trace = Arc::clone(&cx.open.trace);
        let range = self.range;
        let answer = if rests {
            totals.get(&(range, By::Op), cx.jobs, ui.ctx(), move |going| {
                totals_in_range(&trace, range, By::Op, &|_| going.on()).ok()
            })
        } else {
            totals.last().map(|rows| (rows, false))
        };
        if let Some((rows, current)) = answer {
            ui.scope(|ui| {
                if !current {
                    ui.set_opacity(0.6);
                }
                totals_ui(ui, cx, By::Op, rows);
            });
        }
    }
}

fn named_ui(ui: &mut Ui, color: Color32, name: &str) {
    ui.horizontal(|ui| {
        ui.spacing_mut().item_spacing.x = 6.0;
        swatch_ui(ui, color);
        ui.label(name);
    });
}

/// What the colours of bars are by, and what they mean.
fn colours_ui(ui: &mut Ui, cx: &mut Cx<'_>) {
    let counter = cx.open.counters.color.and_then(|number| cx.open.trace.counters().get(number as usize));
    let by = cx.open.session.color;
    ui.strong("Colours by");
    ui.horizontal_wrapped(|ui| {
        for (color, name) in ColorBy::ALL {
            if ui.selectable_label(counter.is_none() && by == color, name).clicked() {
                cx.commands.push(Command::Session(Change::Color(color)));
            }
        }
    });
    if let Some(counter) = counter {
        // By order of magnitude.
        for (share, what) in [(0.0, "no"), (0.5, "some"), (1.0, "most")] {
            named_ui(ui, heat(cx.colors, share), &format!("{what} {} a node", counter.name));
        }
        return;
    }
    Grid::new("colours").num_columns(2).spacing([24.0, 4.0]).show(ui, |ui| {
        for pair in coloring::legend(by, cx.colors).chunks(2) {
            pair.iter().for_each(|(name, color)| named_ui(ui, *color, name));
            ui.end_row();
        }
    });
    if by != ColorBy::Operator {
        ui.weak("Grey where it is not known; zoom in where bars stand for many nodes.");
    }
}
