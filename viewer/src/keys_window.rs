//! The list of keys and what the mouse does; keys are changed here.

use crate::command::{Command, Entry, HELD, TABLE, key_name};
use crate::keys::captured;
use crate::menu::MOUSE;
use crate::state::State;
use crate::theme::Colors;
use egui::{Frame, Grid, KeyboardShortcut, Margin, Modifiers, ScrollArea, TextEdit, Ui, Window};

/// Height of the list, where the app's window has room for it.
const LEAST: f32 = 640.0;

/// The window's own state.
#[derive(Default)]
pub struct KeysWindow {
    filter: String,
    /// The command that gets the next key.
    captures: Option<&'static Entry>,
    /// A key that another command has: what it is for, which, and whose it is.
    conflict: Option<(&'static Entry, KeyboardShortcut, &'static Entry)>,
}

impl KeysWindow {
    /// Whether the next key is for it, not for what the key does.
    pub fn captures(&self) -> bool {
        self.captures.is_some()
    }

    /// Draws it.
    pub(crate) fn keys_ui(&mut self, ui: &mut Ui, state: &State, commands: &mut Vec<Command>) {
        self.capture(ui, state, commands);
        let mut visible = true;
        let height = (ui.ctx().viewport_rect().height() - 150.0).max(200.0);
        Window::new("Keys and mouse")
            .open(&mut visible)
            .collapsible(false)
            .resizable(false)
            .anchor(egui::Align2::CENTER_CENTER, egui::Vec2::ZERO)
            .show(ui.ctx(), |ui| {
                ui.horizontal(|ui| {
                    let field = TextEdit::singleline(&mut self.filter).desired_width(220.0);
                    ui.add(field.hint_text("filter commands")).accessible_name("Filter commands");
                    if ui.button("Reset all keys").clicked() {
                        commands.push(Command::ResetKeys(None));
                        (self.captures, self.conflict) = (None, None);
                    }
                });
                self.conflict_ui(ui, commands);
                let least = height.min(LEAST);
                ScrollArea::vertical().max_height(height).min_scrolled_height(least).show(ui, |ui| {
                    // Beside the bar that scrolls.
                    let margin = Margin { right: 16, ..Margin::ZERO };
                    Frame::new().inner_margin(margin).show(ui, |ui| self.list_ui(ui, state, commands));
                });
            });
        if !visible {
            (self.captures, self.conflict) = (None, None);
            commands.push(Command::Keys);
        }
    }

    fn list_ui(&mut self, ui: &mut Ui, state: &State, commands: &mut Vec<Command>) {
        let wanted = self.filter.trim().to_lowercase();
        let has = |text: &str| text.to_lowercase().contains(&wanted);
        Grid::new("mouse").num_columns(2).spacing([24.0, 5.0]).show(ui, |ui| {
            for (keys, what) in MOUSE.iter().filter(|(keys, what)| has(keys) || has(what)) {
                ui.strong(*keys);
                ui.label(*what);
                ui.end_row();
            }
        });
        ui.add_space(6.0);
        let keys = &state.settings.keys;
        Grid::new("keys").num_columns(4).spacing([18.0, 4.0]).striped(true).show(ui, |ui| {
            let all = HELD.iter().chain(TABLE);
            for entry in all.filter(|entry| has(entry.name) || has(entry.help)) {
                ui.label(entry.name).on_hover_text(entry.help);
                let names: Vec<String> = keys.of(entry).iter().map(|key| key_name(ui.ctx(), key)).collect();
                let captures = self.captures.is_some_and(|of| of.name == entry.name);
                if captures {
                    ui.strong("press a key… (Esc keeps it)");
                } else if names.is_empty() {
                    ui.weak("none");
                } else {
                    ui.strong(names.join(", "));
                }
                let change = ui.small_button(if captures { "Cancel" } else { "Change" });
                // Buttons of a long list sound alike without their command.
                change.widget_info(|| {
                    let name = format!("Change the key of {}", entry.name);
                    egui::WidgetInfo::labeled(egui::accesskit::Role::Button, true, name)
                });
                if change.clicked() {
                    change.surrender_focus();
                    (self.captures, self.conflict) = ((!captures).then_some(entry), None);
                }
                if keys.are_chosen(entry) && ui.small_button("Reset").clicked() {
                    commands.push(Command::ResetKeys(Some(entry.name)));
                }
                ui.end_row();
            }
        });
    }

    /// Receives the key that a command is to get.
    fn capture(&mut self, ui: &Ui, state: &State, commands: &mut Vec<Command>) {
        let Some(entry) = self.captures else { return };
        if ui.input(|input| input.key_pressed(egui::Key::Escape)) {
            self.captures = None;
            return;
        }
        let Some(key) = captured(ui.ctx()) else { return };
        self.captures = None;
        // What is held has no modifiers: with them, keys are other commands'.
        let held = HELD.iter().any(|of| of.name == entry.name);
        let key = if held { KeyboardShortcut::new(Modifiers::NONE, key.logical_key) } else { key };
        match state.settings.keys.conflict(entry, &key) {
            Some(other) => self.conflict = Some((entry, key, other)),
            None => commands.push(Command::Bind(entry.name, key)),
        }
    }

    /// Says whose a key is already.
    fn conflict_ui(&mut self, ui: &mut Ui, commands: &mut Vec<Command>) {
        let Some((entry, key, other)) = self.conflict else { return };
        let colors = Colors::of(ui.visuals());
        ui.horizontal(|ui| {
            let key_name = key_name(ui.ctx(), &key);
            ui.colored_label(colors.warning, format!("{key_name} is the key of “{}”.", other.name));
            if ui.button(format!("Give it to “{}”", entry.name)).clicked() {
                commands.push(Command::Bind(entry.name, key));
                self.conflict = None;
            }
            if ui.button("Leave it").clicked() {
                self.conflict = None;
            }
        });
    }
}
