//! What every panel gets.

use crate::command::Command;
use crate::memo::Jobs;
use crate::state::Open;
use crate::theme::Colors;
use egui::{Color32, Sense, Ui, vec2};

/// A small square in an operator's colour.
pub(crate) fn swatch_ui(ui: &mut Ui, color: Color32) {
    let (rect, _) = ui.allocate_exact_size(vec2(11.0, 11.0), Sense::hover());
    ui.painter().rect_filled(rect, 2.0, color);
}

/// What a panel reads, and where it sends what it wants changed.
pub struct Cx<'a> {
    /// The open trace.
    pub open: &'a Open,
    /// The theme's colours.
    pub colors: &'static Colors,
    /// How to do slow work.
    pub jobs: Jobs,
    /// What to do after this frame.
    pub commands: &'a mut Vec<Command>,
}
