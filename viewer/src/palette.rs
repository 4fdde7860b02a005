//! The command palette: every command by name, and nodes of the trace.

use crate::command::{Command, TABLE, key_name};
use crate::find::go_to;
use crate::state::State;
use crate::theme::{PaletteChoice, ThemeChoice};
use egui::{Align2, Key, Modifiers, ScrollArea, TextEdit, Ui, Window, vec2};
use llmtrace_analysis::search::matches;

/// Width of the palette.
const WIDTH: f32 = 520.0;
/// Height of its list.
const HEIGHT: f32 = 340.0;
/// Most nodes that are offered.
const NODES: usize = 12;

/// The palette's own state.
#[derive(Default)]
pub struct Palette {
    query: String,
    chosen: usize,
    /// Nodes found, for which query.
    nodes: Option<(String, Vec<(String, Command)>)>,
}

/// One line to choose.
struct Offer {
    name: String,
    help: String,
    keys: String,
    command: Command,
}

impl Palette {
    /// Shows the palette over the window.
    pub(crate) fn palette_ui(&mut self, ui: &mut Ui, state: &State, commands: &mut Vec<Command>) {
        let offers = self.offers(ui, state);
        self.chosen = self.chosen.min(offers.len().saturating_sub(1));
        let (enter, step) = ui.input_mut(|input| {
            let mut key = |key| input.consume_key(Modifiers::NONE, key);
            let step = isize::from(key(Key::ArrowDown)) - isize::from(key(Key::ArrowUp));
            (key(Key::Enter), step)
        });
        self.chosen = self.chosen.saturating_add_signed(step).min(offers.len().saturating_sub(1));
        let mut ran = enter.then(|| offers.get(self.chosen)).flatten().map(|offer| offer.command.clone());
        Window::new("Command palette")
            .title_bar(false)
            .auto_sized()
            .collapsible(false)
            .anchor(Align2::CENTER_TOP, vec2(0.0, 60.0))
            .show(ui.ctx(), |ui| {
                ui.set_width(WIDTH);
                let before = self.query.clone();
                let field = TextEdit::singleline(&mut self.query).desired_width(f32::INFINITY);
                let field = ui.add(field.hint_text("a command, or a node of the trace"));
                field.accessible_name("Command").request_focus();
                if self.query != before {
                    self.chosen = 0;
                }
                if offers.is_empty() {
                    ui.weak("nothing is called so");
                }
                ScrollArea::vertical().auto_shrink([false, true]).max_height(HEIGHT).show(ui, |ui| {
                    for (at, offer) in offers.iter().enumerate() {
                        let button = egui::Button::selectable(at == self.chosen, offer.name.as_str())
                            .shortcut_text(offer.keys.as_str())
                            .min_size(vec2(ui.available_width(), 0.0));
                        let mut button = ui.add(button);
                        if !offer.help.is_empty() {
                            button = button.on_hover_text(offer.help.as_str());
                        }
                        if at == self.chosen && step != 0 {
                            button.scroll_to_me(None);
                        }
                        if button.clicked() {
                            ran = Some(offer.command.clone());
                        }
                    }
                });
            });
        if let Some(command) = ran {
            self.query.clear();
            commands.push(Command::Palette);
            commands.push(command);
        }
    }

    fn offers(&mut self, ui: &Ui, state: &State) -> Vec<Offer> {
        let open = state.open();
        let mut found: Vec<(u32, Offer)> = TABLE
            .iter()
            .filter(|entry| entry.command != Command::Palette && (!entry.needs_trace || open.is_some()))
            .filter_map(|entry| {
                // What its name lacks, its description may say.
                let wanted = self.query.trim().to_lowercase();
                let by_help = || entry.help.to_lowercase().find(&wanted).map(|at| at as u32 + 100);
                let score = score(&self.query, entry.name).or_else(by_help)?;
                let keys = state.settings.keys.of(entry);
                let keys = keys.first().map(|key| key_name(ui.ctx(), key)).unwrap_or_default();
                let (name, help) = (entry.name.to_owned(), entry.help.to_owned());
                Some((score, Offer { name, help, keys, command: entry.command.clone() }))
            })
            .collect();
        // What menus have as choices.
        let themes = ThemeChoice::ALL.map(|(theme, name)| (name.to_owned(), Command::Theme(theme)));
        let colours = PaletteChoice::ALL
            .map(|(palette, name)| (format!("Colours: {}", name.to_lowercase()), Command::Colours(palette)));
        for (name, command) in themes.into_iter().chain(colours) {
            if let Some(score) = score(&self.query, &name) {
                let offer = Offer { name, help: String::new(), keys: String::new(), command };
                found.push((score, offer));
            }
        }
        found.sort_by_key(|(score, _)| *score);
        let mut offers: Vec<Offer> = found.into_iter().map(|(_, offer)| offer).collect();
        if let Some(open) = open
            && self.query.trim().len() >= 2
            && open.trace.nodes().is_some()
        {
            if self.nodes.as_ref().is_none_or(|(of, _)| *of != self.query) {
                let found = matches(&open.trace, self.query.trim());
                let each = |node: &llmtrace_analysis::search::NodeMatch| {
                    (format!("{}  {}", node.key.name, node.key.op), go_to(node))
                };
                self.nodes = Some((self.query.clone(), found.iter().take(NODES).map(each).collect()));
            }
            let nodes = self.nodes.iter().flat_map(|(_, nodes)| nodes);
            offers.extend(nodes.map(|(name, command)| Offer {
                name: name.clone(),
                help: "Its first execution on the timeline".to_owned(),
                keys: "node".to_owned(),
                command: command.clone(),
            }));
        }
        offers
    }
}

/// How well `query` fits a name; lower is better. Its letters must occur in order: at best in a row
/// at the begin, then at begins of words, then anywhere.
fn score(query: &str, name: &str) -> Option<u32> {
    let (query, name) = (query.trim().to_lowercase(), name.to_lowercase());
    if let Some(at) = name.find(&query) {
        let at_word = at == 0 || name.as_bytes().get(at - 1) == Some(&b' ');
        return Some(at as u32 + if at_word { 0 } else { 20 });
    }
    let mut letters = name.chars().enumerate();
    let (mut last, mut gaps) = (None, 0);
    for wanted in query.chars().filter(|char| !char.is_whitespace()) {
        let (at, _) = letters.by_ref().find(|(_, letter)| *letter == wanted)?;
        gaps += last.map_or(at, |last| at - last - 1) as u32;
        last = Some(at);
    }
    Some(40 + gaps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn begins_and_words_come_before_scattered_letters() {
        let names = ["Next occurrence", "Open…", "Whole trace", "Zoom out", "Timeline"];
        let best = |query: &str| {
            let scored = names.iter().filter_map(|name| Some((score(query, name)?, *name)));
            scored.min().map(|(_, name)| name)
        };
        assert_eq!(best("whole"), Some("Whole trace"));
        assert_eq!(best("out"), Some("Zoom out"));
        assert_eq!(best("nxoc"), Some("Next occurrence"));
        assert_eq!(best("tl"), Some("Timeline"));
        assert_eq!(best("xyz"), None);
        assert_eq!(score("", "anything"), Some(0));
    }
}
