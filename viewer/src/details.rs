//! The panel at the right: the selected node, or the totals of the selected
//! range.

mod around;
mod flows;
mod insight;
mod machine;
mod node;
mod range;

use crate::memo::Memo;
use crate::panel::Cx;
use crate::timeline::flows::Around;
use egui::{Frame, Margin, ScrollArea, Ui};
use insight::InSight;
use llmtrace_analysis::stats::{By, Distribution};
use llmtrace_analysis::totals::Total;
use llmtrace_analysis::{NodeKey, Phase, TimeRange};

/// Totals of a range.
pub(crate) type Totals = Memo<(TimeRange, By), Vec<Total>>;

/// The panel's own state.
#[derive(Default)]
pub struct Details {
    distribution: Memo<(NodeKey, Phase), Distribution>,
    totals: Totals,
    /// What the totals of a selected range are by.
    by: range::TotalsBy,
    in_sight: InSight,
    flows: Around,
}

impl Details {
    /// Draws the panel's contents; `lanes` are whether it stands beside those.
    pub fn details_ui(&mut self, ui: &mut Ui, cx: &mut Cx<'_>, lanes: bool) {
        ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
            // The bar that scrolls is drawn over what is at the edge.
            let margin = Margin { right: 10, top: 4, bottom: 8, ..Margin::ZERO };
            Frame::new().inner_margin(margin).show(ui, |ui| {
                if let Some(range) = cx.open.range {
                    range::range_ui(ui, cx, range, &mut self.by, &mut self.totals);
                } else if let Some(found) = cx.open.selected {
                    node::node_ui(ui, cx, found, &mut self.distribution, &mut self.flows);
                } else {
                    self.in_sight.in_sight_ui(ui, cx, &mut self.totals, lanes);
                }
            });
        });
    }
}
