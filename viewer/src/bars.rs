//! What stands around a page: what is wrong with the trace, how saving goes, hints, where files drop.

use crate::command::Command;
use crate::save::Saving;
use crate::state::{Live, Open, file_name};
use crate::theme::Colors;
use egui::{Frame, Margin, Panel, RichText, Ui};
use llmtrace_analysis::format::Warning;
use std::path::Path;

pub(crate) fn bar_frame(colors: &Colors) -> Frame {
    Frame::new().fill(colors.card).inner_margin(Margin::symmetric(8, 4))
}

/// Said as long as a file is open from which one can read what was said.
const HAS_TOKENS: &str = "private: prompts and answers can be read from this file (recorded with --tokens)";

/// What is wrong with the trace, if anything is.
pub(crate) fn banners_ui(ui: &mut Ui, open: &Open, colors: &Colors) {
    // A file that is being recorded has no end yet.
    let is_end = |warning: &Warning| matches!(warning, Warning::NoFooter { .. } | Warning::CutOff { .. });
    let warnings = open.trace.all_warnings();
    let shown = warnings.iter().filter(|warning| open.live != Live::Growing || !is_end(warning));
    let mut lines: Vec<String> = shown.map(ToString::to_string).collect();
    let lost = open.summary.lost_events;
    if lost > 0 {
        lines.push(format!(
            "{} events were lost while recording; times near the red marks may be wrong",
            crate::text::count(lost)
        ));
    }
    if open.summary.inference.has_tokens {
        lines.push(HAS_TOKENS.to_owned());
    }
    if lines.is_empty() {
        return;
    }
    let tint = colors.background.lerp_to_gamma(colors.warning, 0.16);
    Panel::top("banner").frame(Frame::new().fill(tint).inner_margin(Margin::symmetric(12, 4))).show(
        ui,
        |ui| {
            let more = lines.len().saturating_sub(2);
            for line in lines.iter().take(2) {
                ui.label(RichText::new(format!("⚠ {line}")).color(colors.text));
            }
            if more > 0 {
                ui.weak(format!("and {more} more")).on_hover_text(lines.join("\n"));
            }
        },
    );
}

/// How saving goes, until the user has seen it.
pub(crate) fn saving_ui(
    ui: &mut Ui,
    path: &Path,
    saving: &Saving,
    colors: &Colors,
    commands: &mut Vec<Command>,
) {
    let name = file_name(path);
    Panel::bottom("saving").frame(bar_frame(colors)).show(ui, |ui| {
        ui.horizontal(|ui| {
            let button = match saving {
                Saving::Progress(progress) => {
                    ui.label(format!("Saving {name}"));
                    ui.add(egui::ProgressBar::new(*progress).desired_width(200.0).show_percentage());
                    "Cancel"
                }
                Saving::Done(len) => {
                    ui.label(format!("Saved {name}, {}", crate::text::bytes(*len)));
                    let trace = path.extension().is_some_and(|extension| extension == "llmtrace");
                    if trace && ui.button("Open it").clicked() {
                        commands.push(Command::EndSaving);
                        commands.push(Command::OpenPath(path.to_owned()));
                    }
                    "Close"
                }
                Saving::Failed(why) => {
                    ui.colored_label(colors.loss, format!("Cannot save {name}: {why}"));
                    "Close"
                }
                Saving::Cancelled => {
                    ui.label(format!("{name} was not saved"));
                    "Close"
                }
            };
            if ui.button(button).clicked() {
                commands.push(Command::EndSaving);
            }
        });
    });
}

pub(crate) fn hint_ui(ui: &mut Ui, colors: &Colors) {
    let frame = Frame::new().fill(colors.background).inner_margin(Margin::symmetric(8, 2));
    Panel::bottom("hint").frame(frame).show(ui, |ui| {
        let hint = "wheel or W S zoom · Shift+wheel or A D move · drag selects a range · Shift or right drag moves · double click fills the window · [ ] same node · F frame · 0 all · ? keys";
        ui.add(egui::Label::new(RichText::new(hint).size(11.5).color(colors.weak)).truncate());
    });
}

/// While files hover over the window.
pub(crate) fn drop_ui(ui: &Ui, colors: &Colors) {
    if ui.ctx().input(|input| input.raw.hovered_files.is_empty()) {
        return;
    }
    let layer = egui::LayerId::new(egui::Order::Foreground, egui::Id::unique("drop"));
    let painter = ui.ctx().layer_painter(layer);
    let rect = ui.ctx().viewport_rect();
    painter.rect_filled(rect, 0.0, colors.background.gamma_multiply(0.85));
    let font = egui::FontId::proportional(22.0);
    painter.text(
        rect.center(),
        egui::Align2::CENTER_CENTER,
        "Drop to open, two to compare",
        font,
        colors.text,
    );
}
