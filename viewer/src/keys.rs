//! Which keys run which commands: those of the table of commands, or those that the user chose.
//!
//! A chosen key goes by its place on the keyboard. The others go by what is written on them; where
//! a keyboard has nothing like it, as German ones have no `[` without a modifier, by their place
//! on the American one.

use crate::command::{Command, Entry, HELD, TABLE};
use crate::copy::What;
use crate::state::Page;
use egui::{Event, Key, KeyboardShortcut, Modifiers};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The user's keys by the name of the command; of commands that are not in it those of the table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Keys(BTreeMap<String, Vec<String>>);

impl Keys {
    /// The keys of a command.
    pub fn of(&self, entry: &Entry) -> Vec<KeyboardShortcut> {
        match self.0.get(entry.name) {
            Some(chosen) => chosen.iter().filter_map(|text| shortcut(text)).collect(),
            None => entry.keys.to_vec(),
        }
    }

    /// Whether the user chose them.
    pub fn are_chosen(&self, entry: &Entry) -> bool {
        self.0.contains_key(entry.name)
    }

    /// The command, other than one, that has a key where that one works.
    pub fn conflict(&self, entry: &Entry, key: &KeyboardShortcut) -> Option<&'static Entry> {
        let meets = |other: &Entry| match (entry.page, other.page) {
            (Some(a), Some(b)) => a == b,
            _ => true,
        };
        every().find(|other| {
            other.name != entry.name && meets(other) && self.of(other).iter().any(|known| same(known, key))
        })
    }

    /// Gives a key to a command, in place of all that it had; other commands lose it.
    pub fn bind(&mut self, name: &str, key: KeyboardShortcut) {
        let Some(entry) = every().find(|entry| entry.name == name) else { return };
        while let Some(other) = self.conflict(entry, &key) {
            let rest = self.of(other).into_iter().filter(|known| !same(known, &key));
            self.0.insert(other.name.to_owned(), rest.map(|key| text(&key)).collect());
        }
        self.0.insert(name.to_owned(), vec![text(&key)]);
    }

    /// The keys that are held to zoom in, zoom out and move to earlier and later times, by their
    /// place; `None` where another command has the key.
    pub fn held(&self) -> [Option<Key>; 4] {
        std::array::from_fn(|at| self.of(HELD.get(at)?).first().map(|key| key.logical_key))
    }

    /// Gives a command its own keys back, or all of them.
    pub fn reset(&mut self, name: Option<&str>) {
        match name {
            Some(name) => {
                self.0.remove(name);
            }
            None => self.0.clear(),
        }
    }

    /// The command of a key that was just pressed on a page; takes the key. An open menu keeps the
    /// keys that it knows, a field of text what one may type.
    pub fn pressed(&self, context: &egui::Context, page: Page) -> Option<Command> {
        let typing = context.egui_wants_keyboard_input();
        if !typing && wants_copy(context) {
            // The system's event is the same with Shift.
            let table = context.input(|input| input.modifiers.shift);
            return Some(Command::Copy(if table { What::Table } else { What::Selection }));
        }
        if egui::Popup::is_any_open(context) && context.input(|input| input.key_pressed(Key::Escape)) {
            return None;
        }
        let entries = || TABLE.iter().filter(move |entry| entry.page.is_none_or(|of| of == page));
        // A field of text has its own undo.
        let is_text = |key: &KeyboardShortcut| {
            let plain = key.modifiers.is_none() || key.logical_key == Key::Z;
            typing && plain && key.logical_key != Key::Escape
        };
        let command = context.input_mut(|input| {
            let held = self.held();
            if page == Page::Timeline && !typing && input.events.iter().any(|event| is_held(event, &held)) {
                return None;
            }
            let own = |entry: &&Entry| self.are_chosen(entry);
            let chosen = entries().filter(own);
            let chosen = chosen
                .map(|entry| (entry, self.of(entry)))
                .find(|(_, keys)| keys.iter().any(|key| !is_text(key) && take(input, key, Place::Only)));
            if let Some((entry, _)) = chosen {
                return Some(entry.command.clone());
            }
            let rest = || entries().filter(|entry| !self.are_chosen(entry));
            let by_letter = rest()
                .find(|entry| entry.keys.iter().any(|key| !is_text(key) && input.consume_shortcut(key)));
            let found = by_letter.or_else(|| {
                rest().find(|entry| {
                    entry.keys.iter().any(|key| !is_text(key) && take(input, key, Place::NotLetter))
                })
            });
            found.map(|entry| entry.command.clone())
        });
        if command.is_some() {
            egui::Popup::close_all(context);
        }
        command
    }
}

/// Whether the system's keys for copying were pressed, and no text of a label is marked, which is
/// what they copy then. The system tells of these keys by an event of its own.
fn wants_copy(context: &egui::Context) -> bool {
    let marked = context.plugin::<egui::text_selection::LabelSelectionState>().lock().has_selection();
    !marked && context.input(|input| input.events.contains(&Event::Copy))
}

/// The key that was just pressed, to be given to a command; takes it. Escape is none.
pub fn captured(context: &egui::Context) -> Option<KeyboardShortcut> {
    context.input_mut(|input| {
        let at = input.events.iter().position(
            |event| matches!(event, Event::Key { key, pressed: true, .. } if *key != Key::Escape),
        )?;
        match input.events.remove(at) {
            Event::Key { key, physical_key, modifiers, .. } => {
                let modifiers =
                    Modifiers { ctrl: false, mac_cmd: false, command: modifiers.command, ..modifiers };
                Some(KeyboardShortcut::new(modifiers, physical_key.unwrap_or(key)))
            }
            _ => None,
        }
    })
}

/// How a key is looked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// By its place.
    Only,
    /// By its place, if what is written there is another one.
    NotLetter,
}

/// Takes a key out of the input, if it was pressed with exactly these modifiers.
fn take(input: &mut egui::InputState, wanted: &KeyboardShortcut, how: Place) -> bool {
    let is_it = |event: &Event| match event {
        Event::Key { key, physical_key, pressed: true, modifiers, .. } => {
            let other = how == Place::Only || physical_key.is_some_and(|place| place != *key);
            let pressed = KeyboardShortcut::new(*modifiers, physical_key.unwrap_or(*key));
            other && same(&pressed, wanted)
        }
        _ => false,
    };
    let at = input.events.iter().position(is_it);
    at.map(|at| input.events.remove(at)).is_some()
}

fn same(a: &KeyboardShortcut, b: &KeyboardShortcut) -> bool {
    let parts = |key: &KeyboardShortcut| {
        (key.logical_key, key.modifiers.command, key.modifiers.alt, key.modifiers.shift)
    };
    parts(a) == parts(b)
}

/// Everything that has a key.
fn every() -> impl Iterator<Item = &'static Entry> {
    TABLE.iter().chain(&HELD)
}

/// Whether it is one of the keys that are held, where other letters may be.
fn is_held(event: &Event, held: &[Option<Key>; 4]) -> bool {
    match event {
        Event::Key { physical_key: Some(place), modifiers, .. } => {
            held.contains(&Some(*place)) && (modifiers.is_none() || modifiers.shift_only())
        }
        _ => false,
    }
}

/// As it is kept: `Ctrl+Shift+P`.
fn text(key: &KeyboardShortcut) -> String {
    let mut text = String::new();
    for (held, name) in
        [(key.modifiers.command, "Ctrl+"), (key.modifiers.alt, "Alt+"), (key.modifiers.shift, "Shift+")]
    {
        if held {
            text.push_str(name);
        }
    }
    text + key.logical_key.name()
}

fn shortcut(text: &str) -> Option<KeyboardShortcut> {
    let mut modifiers = Modifiers::NONE;
    let mut rest = text;
    for (name, modifier) in
        [("Ctrl+", Modifiers::COMMAND), ("Alt+", Modifiers::ALT), ("Shift+", Modifiers::SHIFT)]
    {
        if let Some(after) = rest.strip_prefix(name) {
            (modifiers, rest) = (modifiers.plus(modifier), after);
        }
    }
    Some(KeyboardShortcut::new(modifiers, Key::from_name(rest)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str) -> &'static Entry {
        TABLE.iter().find(|entry| entry.name == name).expect("a command")
    }

    fn key(modifiers: Modifiers, key: Key) -> KeyboardShortcut {
        KeyboardShortcut::new(modifiers, key)
    }

    #[test]
    fn keys_are_written_as_they_are_read() {
        for entry in TABLE {
            for known in entry.keys {
                let back = shortcut(&text(known)).expect("a key");
                assert!(same(&back, known), "{}", text(known));
            }
        }
        assert_eq!(shortcut("Ctrl+Nonsense"), None);
        assert_eq!(shortcut(""), None);
    }

    #[test]
    fn a_key_has_one_command() {
        let mut keys = Keys::default();
        let mark = key(Modifiers::NONE, Key::M);
        assert_eq!(keys.conflict(entry("Find…"), &mark).map(|entry| entry.name), Some("Mark this time"));
        keys.bind("Find…", mark);
        assert_eq!(keys.of(entry("Find…")), [mark]);
        assert_eq!(keys.of(entry("Mark this time")), []);
        assert!(keys.conflict(entry("Find…"), &mark).is_none());
        keys.reset(None);
        assert_eq!(keys.of(entry("Mark this time")), [mark]);
    }

    #[test]
    fn nonsense_in_the_settings_costs_a_key_and_no_more() {
        let keys: Keys =
            serde_json::from_str(r#"{"Find…":["???","Ctrl+J"],"of tomorrow":["X"]}"#).expect("JSON");
        assert_eq!(keys.of(entry("Find…")), [key(Modifiers::COMMAND, Key::J)]);
    }
}
