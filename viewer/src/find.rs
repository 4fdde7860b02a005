//! Find nodes by name or operator: a list that follows the typing.

use crate::command::Command;
use crate::panel::{Cx, swatch_ui};
use crate::seek::Seek;
use crate::state::Find;
use crate::text;
use crate::theme::OpClass;
use egui::{Align2, Key, ScrollArea, TextEdit, Ui, Window, vec2};
use llmtrace_analysis::Trace;
use llmtrace_analysis::format::Warning;
use llmtrace_analysis::search::{NodeMatch, matches};

/// Height of a result.
const ROW: f32 = 20.0;

/// The panel's own state.
#[derive(Default)]
pub struct FindPanel {
    /// What was found, for which query.
    found: Option<(String, Vec<NodeMatch>)>,
    chosen: usize,
    query_of_chosen: String,
}

impl FindPanel {
    /// Shows the panel over the page. What is typed goes back through a
    /// command, like everything else.
    pub fn find_ui(&mut self, ui: &mut Ui, find: &Find, cx: &mut Cx<'_>) {
        let area = ui.max_rect();
        Window::new("Find")
            .title_bar(false)
            .resizable(false)
            .collapsible(false)
            .pivot(Align2::RIGHT_TOP)
            .fixed_pos(area.right_top() + vec2(-8.0, 8.0))
            .fixed_size(vec2(380.0, 320.0))
            .show(ui.ctx(), |ui| self.contents_ui(ui, find, cx));
    }

    fn contents_ui(&mut self, ui: &mut Ui, find: &Find, cx: &mut Cx<'_>) {
        let mut query = find.query.clone();
        let (enter, step) = ui.input_mut(|input| {
            let down = input.consume_key(egui::Modifiers::NONE, Key::ArrowDown);
            let up = input.consume_key(egui::Modifiers::NONE, Key::ArrowUp);
            (input.key_pressed(Key::Enter), isize::from(down) - isize::from(up))
        });
        ui.horizontal(|ui| {
            let field =
                TextEdit::singleline(&mut query).hint_text("node name or operator").desired_width(300.0);
            let field = ui.add(field).accessible_name("Find");
            if find.wants_focus {
                field.request_focus();
            }
            if ui.button("Close").clicked() {
                cx.commands.push(Command::CloseFind);
            }
        });
        if query != find.query {
            cx.commands.push(Command::FindFor(query.clone()));
        }
        if self.query_of_chosen != query {
            self.query_of_chosen.clone_from(&query);
            self.chosen = 0;
        }
        if cx.open.trace.nodes().is_none() {
            ui.weak("counting nodes");
            return;
        }
        // A trace has a few hundred different nodes, whatever its length.
        if self.found.as_ref().is_none_or(|(of, _)| *of != query) {
            self.found = Some((query.clone(), matches(&cx.open.trace, &query)));
        }
        let found = self.found.as_ref().map_or(&[][..], |(_, found)| found);
        self.chosen = self.chosen.saturating_add_signed(step).min(found.len().saturating_sub(1));
        if enter && let Some(first) = found.get(self.chosen) {
            cx.commands.push(go_to(first));
        }
        ui.weak(match found.len() {
            0 if left_out(&cx.open.trace) => {
                "nothing found; descriptions of nodes are missing from the file, see its warnings".to_owned()
            }
            0 => "nothing found".to_owned(),
            1 => "1 node, Enter to go there".to_owned(),
            more => format!(
                "{} nodes, Enter for the chosen one, then ] for its next occurrence",
                text::count(more as u64)
            ),
        });
        results_ui(ui, cx, found, self.chosen);
    }
}

/// Whether names of nodes are in the file, but could not be read.
fn left_out(trace: &Trace) -> bool {
    trace.warnings.iter().any(|of| matches!(of, Warning::TooLarge { .. } | Warning::Unreadable { .. }))
}

/// To the first execution of a node.
pub(crate) fn go_to(found: &NodeMatch) -> Command {
    Command::Seek(Seek::First { key: found.key.clone(), lane: found.lane, time: found.first })
}

fn results_ui(ui: &mut Ui, cx: &mut Cx<'_>, found: &[NodeMatch], chosen: usize) {
    ScrollArea::vertical().auto_shrink(false).show_rows(ui, ROW - 4.0, found.len(), |ui, rows| {
        ui.spacing_mut().item_spacing.y = 4.0;
        for index in rows {
            let Some(result) = found.get(index) else { continue };
            let label = format!("{}  {}  ×{}", result.key.name, result.key.op, text::count(result.count));
            ui.horizontal(|ui| {
                ui.set_height(ROW - 4.0);
                swatch_ui(ui, cx.colors.op(OpClass::of(&result.key.op)));
                let row = ui.add(egui::Button::selectable(index == chosen, text::shorten(&label, 56)));
                if row.clicked() {
                    cx.commands.push(go_to(result));
                }
            });
        }
    });
}
