//! The pages without a trace: nothing open, loading, failed.

use crate::command::Command;
use crate::state::{Document, State, file_name};
use crate::theme::Colors;
use egui::{Align, Key, KeyboardShortcut, Layout, Modifiers, ProgressBar, RichText, Ui};
use std::path::Path;

/// Width of the column in the middle.
const WIDTH: f32 = 520.0;

/// Draws the page of a document that is not open.
pub(crate) fn page_ui(ui: &mut Ui, state: &State, commands: &mut Vec<Command>) {
    let many = matches!(state.document, Document::Empty) && !state.samples.is_empty();
    let top = (ui.available_height() * if many { 0.08 } else { 0.24 }).max(16.0);
    ui.vertical_centered(|ui| {
        ui.add_space(top);
        ui.set_max_width(WIDTH.min(ui.available_width() - 32.0));
        match &state.document {
            Document::Empty => empty_ui(ui, state, commands),
            Document::Loading { path, progress } => loading_ui(ui, path, *progress, commands),
            Document::Failed { path, why, advice } => {
                failed_ui(ui, path, why, advice, commands);
                ui.add_space(24.0);
                recent_ui(ui, state, commands);
            }
            Document::Open(_) => {}
        }
    });
}

fn open_button(ui: &mut Ui, name: &str, commands: &mut Vec<Command>) {
    let keys = ui.ctx().format_shortcut(&KeyboardShortcut::new(Modifiers::COMMAND, Key::O));
    let button = egui::Button::new(RichText::new(name).size(15.0)).min_size(egui::vec2(150.0, 34.0));
    if ui.add(button).on_hover_text(keys).clicked() {
        commands.push(Command::Open);
    }
}

fn empty_ui(ui: &mut Ui, state: &State, commands: &mut Vec<Command>) {
    ui.label(RichText::new("llmtrace").size(30.0).strong());
    ui.add_space(4.0);
    ui.label("See what llama.cpp does, operator by operator.");
    ui.add_space(18.0);
    open_button(ui, "Open trace…", commands);
    ui.add_space(8.0);
    ui.weak("or drop an .llmtrace file on this window");
    ui.add_space(26.0);
    recent_ui(ui, state, commands);
    samples_ui(ui, state, commands);
    ui.add_space(18.0);
    ui.weak("No trace yet? Record one:");
    ui.add_space(2.0);
    ui.add(egui::Label::new(
        RichText::new("sudo llmtrace record -o run.llmtrace -- llama-cli -m model.gguf").code(),
    ));
}

fn recent_ui(ui: &mut Ui, state: &State, commands: &mut Vec<Command>) {
    if state.settings.recent.is_empty() {
        return;
    }
    ui.strong("Recent");
    ui.add_space(2.0);
    for path in &state.settings.recent {
        let link = ui.link(file_name(path)).on_hover_text(path.display().to_string());
        if link.clicked() {
            commands.push(Command::OpenPath(path.clone()));
        }
    }
}

/// Traces that come with the app.
fn samples_ui(ui: &mut Ui, state: &State, commands: &mut Vec<Command>) {
    if state.samples.is_empty() {
        return;
    }
    ui.add_space(18.0);
    ui.strong("Look at a sample");
    ui.add_space(2.0);
    for sample in &state.samples {
        if ui.link(&sample.shows).on_hover_text(file_name(&sample.path)).clicked() {
            commands.push(Command::OpenPath(sample.path.clone()));
        }
    }
}

fn loading_ui(ui: &mut Ui, path: &Path, progress: f32, commands: &mut Vec<Command>) {
    ui.heading(format!("Opening {}", file_name(path)));
    ui.add_space(10.0);
    ui.add(ProgressBar::new(progress).desired_width(320.0).show_percentage());
    ui.add_space(10.0);
    if ui.button("Cancel").clicked() {
        commands.push(Command::Cancel);
    }
}

fn failed_ui(ui: &mut Ui, path: &Path, why: &str, advice: &str, commands: &mut Vec<Command>) {
    let colors = Colors::of(ui.visuals());
    ui.label(RichText::new(format!("Cannot open {}", file_name(path))).heading().color(colors.loss));
    ui.add_space(8.0);
    ui.label(why);
    ui.add_space(4.0);
    ui.label(advice);
    ui.add_space(4.0);
    ui.weak(path.display().to_string());
    ui.add_space(16.0);
    ui.with_layout(Layout::top_down(Align::Center), |ui| {
        open_button(ui, "Open another…", commands);
        ui.add_space(4.0);
        if ui.button("Try again").clicked() {
            commands.push(Command::OpenPath(path.to_owned()));
        }
    });
}
