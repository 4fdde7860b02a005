//! Marks of the user: flags on the ruler, lines over the lanes, notes beside them.

use super::view::View;
use crate::command::Command;
use crate::panel::Cx;
use crate::session::Change;
use crate::state::Open;
use crate::text;
use crate::theme::Colors;
use egui::{Align2, FontId, Painter, Rect, Stroke, TextEdit, Ui, pos2, vec2};
use llmtrace_analysis::TimeRange;

/// Longest note that a flag shows, in characters.
const SHORT: usize = 28;

/// Draws the marks that are in sight.
pub(crate) fn paint(painter: &Painter, ruler: Rect, lanes: Rect, open: &Open, view: &View, colors: &Colors) {
    let window = view.range();
    let mut free = ruler.left();
    for (at, note) in open.session.notes.iter().enumerate() {
        if !window.contains(note.time) {
            continue;
        }
        let x = ruler.left() + view.x_from_time(note.time);
        painter.vline(x, ruler.top()..=lanes.bottom(), Stroke::new(1.0, colors.warning));
        let label =
            if note.text.is_empty() { format!("{}", at + 1) } else { text::shorten(&note.text, SHORT) };
        let galley = painter.layout_no_wrap(label, FontId::proportional(11.0), colors.background);
        let size = galley.size() + vec2(8.0, 2.0);
        if x < free {
            continue;
        }
        let flag = Align2::LEFT_TOP.anchor_size(pos2(x, ruler.top()), size);
        painter.rect_filled(flag, 2.0, colors.warning);
        painter.galley(flag.min + vec2(4.0, 1.0), galley, colors.background);
        free = flag.right() + 2.0;
    }
}

/// The list of marks, to go to, to write to, to forget.
pub(crate) fn list_ui(ui: &mut Ui, cx: &mut Cx<'_>) {
    let open = cx.open;
    ui.horizontal(|ui| {
        ui.strong("Marks");
        if ui.button("Mark this time").on_hover_text("At the selection, else in the middle  M").clicked() {
            cx.commands.push(Command::MarkHere);
        }
    });
    if open.session.notes.is_empty() {
        ui.weak("none; M marks the selection, or the middle of the window");
        return;
    }
    for (at, note) in open.session.notes.iter().enumerate() {
        ui.horizontal(|ui| {
            if ui.button(text::nanos(note.time)).on_hover_text("Go there").clicked() {
                cx.commands.push(Command::Reveal(TimeRange::new(note.time, note.time.saturating_add(1))));
            }
            let mut written = note.text.clone();
            let field = TextEdit::singleline(&mut written).desired_width(170.0).hint_text("note");
            if ui.add(field).accessible_name(format!("Note {}", at + 1)).changed() {
                cx.commands.push(Command::Session(Change::Write(at, written)));
            }
            if ui.small_button("✖").on_hover_text("Forget this mark").clicked() {
                cx.commands.push(Command::Session(Change::Unmark(at)));
            }
        });
    }
}
