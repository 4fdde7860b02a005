//! The page before a second trace is open.

use crate::command::Command;
use crate::panel::Cx;
use crate::state::{Document, file_name};
use egui::{ProgressBar, RichText, Ui};
use std::path::PathBuf;

/// Asks for a second trace, shows how far it is, or what is wrong with it.
pub(super) fn invitation_ui(ui: &mut Ui, cx: &mut Cx<'_>, second: &Document, recent: &[PathBuf]) {
    ui.vertical_centered(|ui| {
        ui.add_space((ui.available_height() * 0.2).max(16.0));
        match second {
            Document::Loading { path, progress } => {
                ui.heading(format!("Opening {}", file_name(path)));
                ui.add_space(10.0);
                ui.add(ProgressBar::new(*progress).desired_width(320.0).show_percentage());
                ui.add_space(10.0);
                if ui.button("Cancel").clicked() {
                    cx.commands.push(Command::CloseSecond);
                }
                return;
            }
            Document::Failed { path, why, advice } => {
                let text = format!("Cannot open {}", file_name(path));
                ui.label(RichText::new(text).heading().color(cx.colors.loss));
                ui.add_space(8.0);
                ui.label(why);
                ui.label(*advice);
                ui.weak(path.display().to_string());
            }
            _ => {
                ui.label(RichText::new("Compare with a second trace").heading());
                ui.add_space(8.0);
                ui.label("Its timeline under this one, token by token, and what makes the difference.");
            }
        }
        ui.add_space(16.0);
        let button = egui::Button::new(RichText::new("Choose a trace…").size(15.0));
        if ui.add(button.min_size(egui::vec2(150.0, 34.0))).clicked() {
            cx.commands.push(Command::CompareWith);
        }
        let here = std::path::absolute(&cx.open.path).unwrap_or_else(|_| cx.open.path.clone());
        let mut others = recent.iter().filter(|path| **path != here).peekable();
        if others.peek().is_some() {
            ui.add_space(20.0);
            ui.strong("Recent");
        }
        for path in others {
            if ui.link(file_name(path)).on_hover_text(path.display().to_string()).clicked() {
                cx.commands.push(Command::CompareWithPath(path.clone()));
            }
        }
    });
}
