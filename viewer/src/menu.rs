//! The menu bar and the tabs, from the table of commands.

use crate::command::{Command, Entry, Menu, TABLE, key_name};
use crate::state::{Live, Page, State, file_name};
use crate::theme::{Colors, PaletteChoice, ThemeChoice};
use egui::{Button, MenuBar, RichText, Ui, Window};
use llmtrace_analysis::glossary::{TERMS, Topic};

/// Menus within that of what is shown: all in one would be higher than small windows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Lanes,
    Graph,
    Pair,
    /// In the menu of sizes.
    Size,
}

impl Part {
    const ALL: [(Self, &'static str); 3] = [
        (Self::Lanes, "Lanes of the timeline"),
        (Self::Graph, "Parts of the graph"),
        (Self::Pair, "Two traces"),
    ];

    fn of(entry: &Entry) -> Option<Self> {
        match entry.command {
            Command::Session(_) | Command::CollapseLanes(_) => Some(Self::Lanes),
            Command::ExpandGraph | Command::FoldGraph => Some(Self::Graph),
            Command::SwapSides | Command::Align(_) => Some(Self::Pair),
            Command::Larger | Command::Smaller | Command::Scale(_) => Some(Self::Size),
            _ => None,
        }
    }
}

/// Draws the bar at the top.
pub(crate) fn bar_ui(ui: &mut Ui, state: &State, commands: &mut Vec<Command>) {
    MenuBar::new().ui(ui, |ui| {
        for (menu, name) in
            [(Menu::File, "File"), (Menu::View, "View"), (Menu::Go, "Go"), (Menu::Help, "Help")]
        {
            ui.menu_button(name, |ui| {
                ui.set_min_width(200.0);
                let entries = || TABLE.iter().filter(move |entry| entry.menu == menu);
                let compares = |entry: &&Entry| entry.command == Command::CompareWith;
                for entry in entries().filter(|entry| Part::of(entry).is_none() && !compares(entry)) {
                    item_ui(ui, state, entry, commands);
                    if entry.command == Command::Open {
                        recent_ui(ui, state, commands);
                        // In the table it stands before what has its key without Shift.
                        entries().filter(compares).for_each(|entry| item_ui(ui, state, entry, commands));
                    }
                }
                if menu == Menu::View {
                    for (part, name) in Part::ALL {
                        ui.menu_button(name, |ui| part_ui(ui, state, part, commands));
                    }
                    ui.separator();
                    themes_ui(ui, state, commands);
                    ui.separator();
                    palette_ui(ui, state, commands);
                    memory_ui(ui, state, commands);
                    scale_ui(ui, state, commands);
                    let mut reduced = state.settings.reduced_motion;
                    if ui.checkbox(&mut reduced, "Reduced motion").clicked() {
                        commands.push(Command::ReducedMotion(reduced));
                    }
                }
            });
        }
        let Some(open) = state.open() else { return };
        ui.separator();
        for (page, name) in [
            (Page::Overview, "Overview"),
            (Page::Timeline, "Timeline"),
            (Page::Operators, "Operators"),
            (Page::Graph, "Graph"),
            (Page::Experts, "Experts"),
            (Page::Counters, "Counters"),
            (Page::Roofline, "Roofline"),
            (Page::Compare, "Compare"),
        ] {
            if ui.add(Button::selectable(state.page == page, name)).clicked() {
                commands.push(Command::Show(page));
            }
        }
        ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
            if ui.button("Find…").on_hover_text("Find nodes by name or operator").clicked() {
                commands.push(Command::Find);
            }
            if open.live == Live::Growing {
                live_ui(ui, commands);
            }
            if let Some(progress) = open.loading {
                ui.add(egui::ProgressBar::new(progress).desired_width(120.0).text("counting nodes"));
            }
            ui.add(egui::Label::new(RichText::new(open.file_name()).weak()).truncate())
                .on_hover_text(open.path.display().to_string());
        });
    });
}

/// Says that the file grows.
fn live_ui(ui: &mut Ui, commands: &mut Vec<Command>) {
    let colors = Colors::of(ui.visuals());
    let mark = Button::new(RichText::new("⏺ live").color(colors.loss).strong());
    let hint = "Still being recorded. The timeline and the overview's figures follow; if the end is in sight, it stays \
        in sight. Tables, answers and the lane of experts are of when they were first shown: click, or F5, to compute them anew.";
    if ui.add(mark).on_hover_text(hint).clicked() {
        commands.push(Command::Refresh);
    }
}

fn part_ui(ui: &mut Ui, state: &State, part: Part, commands: &mut Vec<Command>) {
    let entries = TABLE.iter().filter(|entry| Part::of(entry) == Some(part));
    entries.for_each(|entry| item_ui(ui, state, entry, commands));
}

fn item_ui(ui: &mut Ui, state: &State, entry: &Entry, commands: &mut Vec<Command>) {
    let keys = state.settings.keys.of(entry);
    let keys = keys.first().map(|key| key_name(ui.ctx(), key)).unwrap_or_default();
    let enabled = !entry.needs_trace || state.open().is_some();
    let item = ui.add_enabled(enabled, Button::new(entry.name).shortcut_text(keys));
    if item.on_hover_text(entry.help).clicked() {
        commands.push(entry.command.clone());
        ui.close();
    }
}

fn recent_ui(ui: &mut Ui, state: &State, commands: &mut Vec<Command>) {
    ui.add_enabled_ui(!state.settings.recent.is_empty(), |ui| {
        ui.menu_button("Open recent", |ui| {
            for path in &state.settings.recent {
                if ui.button(file_name(path)).on_hover_text(path.display().to_string()).clicked() {
                    commands.push(Command::OpenPath(path.clone()));
                    ui.close();
                }
            }
            ui.separator();
            if ui.button("Forget these").clicked() {
                commands.push(Command::ForgetRecent);
                ui.close();
            }
        });
    });
}

fn themes_ui(ui: &mut Ui, state: &State, commands: &mut Vec<Command>) {
    for (theme, name) in ThemeChoice::ALL {
        if ui.radio(state.settings.theme == theme, name).clicked() {
            commands.push(Command::Theme(theme));
            ui.close();
        }
    }
}

/// Which colours operators have.
fn palette_ui(ui: &mut Ui, state: &State, commands: &mut Vec<Command>) {
    ui.menu_button("Colours", |ui| {
        for (palette, name) in PaletteChoice::ALL {
            if ui.radio(state.settings.palette == palette, name).clicked() {
                commands.push(Command::Colours(palette));
                ui.close();
            }
        }
    });
}

/// How large everything is.
fn scale_ui(ui: &mut Ui, state: &State, commands: &mut Vec<Command>) {
    ui.menu_button("Size of everything", |ui| {
        part_ui(ui, state, Part::Size, commands);
        ui.separator();
        for percent in [75, 90, 100, 110, 125, 150, 175, 200] {
            if ui.radio(state.settings.scale_percent == percent, format!("{percent} %")).clicked() {
                commands.push(Command::Scale(percent));
                ui.close();
            }
        }
    });
}

/// How much memory decoded op spans may take.
fn memory_ui(ui: &mut Ui, state: &State, commands: &mut Vec<Command>) {
    ui.menu_button("Memory for op spans", |ui| {
        for mib in [128, 256, 512, 1024, 4096] {
            if ui.radio(state.settings.cache_mib == mib, format!("{mib} MiB")).clicked() {
                commands.push(Command::CacheMib(mib));
                ui.close();
            }
        }
    });
}

/// What the mouse does, for the list of keys.
pub(crate) const MOUSE: &[(&str, &str)] = &[
    ("Wheel, pinch", "Zoom at the pointer"),
    ("Shift+wheel", "Move sideways"),
    ("Drag", "Select a range, see its totals; its ends snap to tokens and bars"),
    ("Ctrl+drag", "Select a range exactly as far as the pointer goes"),
    ("Shift+drag, right or middle drag", "Move sideways"),
    ("Click", "Select a node, a token or a graph"),
    ("Double click", "Fill the window with it"),
    ("Click or drag on the ruler of tokens", "Select a token, or a run of whole ones"),
];

/// The glossary: what words and numbers mean.
pub(crate) fn glossary_ui(ui: &mut Ui, commands: &mut Vec<Command>) {
    let mut visible = true;
    let height = ui.ctx().viewport_rect().height() * 0.85;
    Window::new("What the words mean")
        .open(&mut visible)
        .collapsible(false)
        .resizable(false)
        .anchor(egui::Align2::CENTER_CENTER, egui::Vec2::ZERO)
        .vscroll(true)
        .default_height(height)
        .max_height(height)
        .show(ui.ctx(), |ui| {
            ui.set_width(620.0);
            for (topic, heading) in Topic::ALL {
                ui.add_space(6.0);
                ui.label(RichText::new(heading).heading());
                for term in TERMS.iter().filter(|term| term.topic == topic) {
                    ui.add_space(4.0);
                    ui.strong(term.name);
                    ui.label(term.is);
                    if !term.formula.is_empty() {
                        ui.label(RichText::new(format!("= {}", term.formula)).italics().weak());
                    }
                }
            }
        });
    if !visible {
        commands.push(Command::Glossary);
    }
}
