//! What every panel gets.

use crate::command::Command;
use crate::memo::Jobs;
use crate::state::Open;
use crate::theme::Colors;
use egui::{Color32, Response, RichText, Sense, Ui, vec2};
use llmtrace_analysis::glossary;

/// A small square in an operator's colour.
pub(crate) fn swatch_ui(ui: &mut Ui, color: Color32) {
    let (rect, _) = ui.allocate_exact_size(vec2(11.0, 11.0), Sense::hover());
    ui.painter().rect_filled(rect, 2.0, color);
}

/// Tooltips from the glossary, so that a word is defined in one place.
pub(crate) trait Explained {
    /// Says on hover what terms of the glossary mean, and how they are computed.
    fn explained(self, names: &[&'static str]) -> Self;
}

impl Explained for Response {
    fn explained(self, names: &[&'static str]) -> Self {
        debug_assert!(names.iter().all(|name| glossary::term(name).is_some()), "no such term: {names:?}");
        if names.is_empty() {
            return self;
        }
        self.on_hover_ui(|ui| {
            ui.set_max_width(380.0);
            for term in names.iter().filter_map(|name| glossary::term(name)) {
                ui.strong(term.name);
                ui.label(term.is);
                if !term.formula.is_empty() {
                    ui.label(RichText::new(format!("= {}", term.formula)).italics().weak());
                }
            }
        })
    }
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
