//! Backend boundaries: a scheduler cuts a graph into splits, each a graph of its own.

use crate::panel::Cx;
use egui::Ui;
use llmtrace_analysis::format::constants::NONE;
use llmtrace_analysis::format::meta::Graph;
use llmtrace_analysis::format::offload::Split;
use llmtrace_analysis::offload::backend_name;

/// Most splits of a graph that are shown.
const MOST: usize = 40;

/// A button for each split of the run that a graph is part of.
pub(crate) fn splits_ui(ui: &mut Ui, cx: &Cx<'_>, graph: &Graph, chosen: &mut Option<u32>) {
    let all = &cx.open.trace.offload.splits;
    let Some(own) = all.iter().find(|split| split.graph == graph.id && split.run != NONE) else { return };
    let run: Vec<&Split> =
        all.iter().filter(|split| (split.run, split.process) == (own.run, own.process)).collect();
    if run.len() < 2 {
        return;
    }
    // A line to scroll along: a graph may be cut into hundreds.
    let row = |ui: &mut Ui| {
        ui.weak("given to").on_hover_text("A scheduler cuts a graph where the backend changes");
        for (at, split) in run.iter().take(MOST).enumerate() {
            if at > 0 {
                ui.weak("⏵");
            }
            let name = format!("{} ({} nodes)", backend_name(&cx.open.trace, split.backend), split.nodes);
            let graphs = &cx.open.trace.file.graphs;
            let index = graphs.iter().position(|other| other.id == split.graph && other.nodes > 0);
            ui.add_enabled_ui(index.is_some(), |ui| {
                let button = ui.selectable_label(split.graph == graph.id, name);
                if button.on_disabled_hover_text("its nodes were not read").clicked() {
                    *chosen = index.map(|index| index as u32);
                }
            });
        }
        if run.len() > MOST {
            ui.weak(format!("and {} more", run.len() - MOST));
        }
    };
    egui::ScrollArea::horizontal().id_salt("splits").show(ui, |ui| ui.horizontal(row));
}
