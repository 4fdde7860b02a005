//! The panel at the right: the selected node, or the totals of the selected
//! range.

mod node;
mod range;

use crate::memo::Memo;
use crate::panel::Cx;
use crate::theme::OpClass;
use egui::{RichText, ScrollArea, Ui};
use llmtrace_analysis::stats::{Distribution, OpTotal};
use llmtrace_analysis::{NodeKey, TimeRange};

/// The panel's own state.
#[derive(Default)]
pub struct Details {
    distribution: Memo<(NodeKey, Option<u32>), Distribution>,
    totals: Memo<TimeRange, Vec<OpTotal>>,
}

impl Details {
    /// Draws the panel's contents.
    pub fn details_ui(&mut self, ui: &mut Ui, cx: &mut Cx<'_>) {
        ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
            ui.add_space(4.0);
            if let Some(range) = cx.open.range {
                range::range_ui(ui, cx, range, &mut self.totals);
            } else if let Some((place, span)) = cx.open.selected.zip(cx.open.selected_span().copied()) {
                node::node_ui(ui, cx, place, &span, &mut self.distribution);
            } else {
                nothing_ui(ui, cx);
            }
            ui.add_space(8.0);
        });
    }
}

fn nothing_ui(ui: &mut Ui, cx: &Cx<'_>) {
    ui.heading("Nothing selected");
    ui.label("Click a bar for its node, drag over the lanes for the totals of a range.");
    ui.add_space(10.0);
    ui.strong("Colours");
    for class in OpClass::ALL {
        ui.horizontal(|ui| {
            ui.spacing_mut().item_spacing.x = 6.0;
            ui.label(RichText::new("■").color(cx.colors.op(class)));
            ui.label(class.name());
        });
    }
    ui.add_space(6.0);
    ui.weak("Solid is computing; striped is waiting for the other threads at the barrier that ends a node.");
}
