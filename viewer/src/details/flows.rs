//! What the selected span reads and who reads its result, to go there.

use crate::command::Command;
use crate::panel::{Cx, swatch_ui};
use crate::text;
use crate::timeline::flows::Around;
use egui::Ui;
use llmtrace_analysis::Found;

/// Neighbours listed on either side.
const MOST: usize = 6;

pub(crate) fn flows_ui(ui: &mut Ui, cx: &mut Cx<'_>, around: &mut Around) {
    let Some(flows) = around.selected(cx.open) else { return };
    let flows = flows.clone();
    list_ui(ui, cx, "Reads from", &flows.sources);
    list_ui(ui, cx, "Read by", &flows.readers);
    if flows.unseen > 0 {
        let count = text::count(flows.unseen as u64);
        ui.weak(format!("{count} more in the graph, without spans in this computation"));
    }
    if flows.sources.is_empty() && flows.readers.is_empty() && flows.unseen == 0 {
        ui.weak("reads only weights, caches and inputs, and no node reads it");
    }
}

fn list_ui(ui: &mut Ui, cx: &mut Cx<'_>, title: &str, spans: &[Found]) {
    if spans.is_empty() {
        return;
    }
    ui.strong(title).on_hover_text("In the compute graph, views looked through; arrows on the timeline");
    for found in spans.iter().take(MOST) {
        let key = cx.open.key(&found.span);
        ui.horizontal(|ui| {
            ui.spacing_mut().item_spacing.x = 6.0;
            swatch_ui(ui, cx.colors.op(cx.open.class_of(&found.span)));
            let name = text::shorten(&key.name, 28);
            if ui.link(name).on_hover_text(format!("Go to {}", key.name)).clicked() {
                cx.commands.push(Command::GoTo(*found));
            }
            ui.weak(text::shorten(&key.op, 22));
            ui.weak(text::nanos(found.span.compute));
        });
    }
    if spans.len() > MOST {
        ui.weak(format!("and {} more", spans.len() - MOST));
    }
}
