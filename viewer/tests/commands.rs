//! The command palette, history, settings and the manual, without a display.
#![expect(clippy::unwrap_used, reason = "tests may panic")]

mod sample;

use egui::accesskit::Role;
use egui::{Event, Key, Modifiers};
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable;
use llmtrace_viewer::app::ViewerApp;
use llmtrace_viewer::command::Command;
use llmtrace_viewer::state::{Open, Page};
use llmtrace_viewer::theme::ThemeChoice;
use sample::texts;

fn harness() -> Harness<'static, ViewerApp> {
    sample::harness("gemma3-270m-2t.llmtrace", Page::Timeline, 720.0)
}

fn opened<'a>(harness: &'a Harness<'_, ViewerApp>) -> &'a Open {
    harness.state().state.open().unwrap()
}

fn apply(harness: &mut Harness<'_, ViewerApp>, command: Command) {
    let context = harness.ctx.clone();
    harness.state_mut().apply(&context, command);
    harness.run_steps(2);
}

fn palette(harness: &mut Harness<'_, ViewerApp>, text: &str) {
    harness.key_press_modifiers(Modifiers::COMMAND, Key::K);
    harness.run_steps(4);
    harness.get_by_role_and_label(Role::TextInput, "Command").type_text(text);
    harness.run_steps(4);
}

#[test]
fn the_palette_runs_commands_and_goes_to_nodes() {
    let mut harness = harness();
    palette(&mut harness, "opera");
    assert!(texts(&harness).contains("Operators in a table") || texts(&harness).contains("Operators"));
    harness.key_press(Key::Enter);
    harness.run_steps(4);
    assert_eq!(harness.state().state.page, Page::Operators);
    assert!(!harness.state().state.palette_visible);
    palette(&mut harness, "ffn_up-9");
    harness.key_press(Key::Enter);
    harness.run_steps(4);
    let open = opened(&harness);
    assert_eq!(open.name(&open.selected.unwrap().span), "ffn_up-9");
    assert_eq!(harness.state().state.page, Page::Timeline);
    // Escape closes it and nothing else.
    harness.key_press_modifiers(Modifiers::COMMAND, Key::K);
    harness.run_steps(3);
    harness.key_press(Key::Escape);
    harness.run_steps(3);
    assert!(!harness.state().state.palette_visible && opened(&harness).selected.is_some());
}

#[test]
fn going_back_undoes_changes_of_page_window_and_selection() {
    let mut harness = harness();
    let whole = opened(&harness).view;
    let token = opened(&harness).trace.tokens[5].range;
    apply(&mut harness, Command::ZoomTo(token));
    let zoomed = opened(&harness).view;
    apply(&mut harness, Command::SelectRange(token));
    apply(&mut harness, Command::Show(Page::Graph));
    for (page, view, range) in
        [(Page::Timeline, zoomed, Some(token)), (Page::Timeline, zoomed, None), (Page::Timeline, whole, None)]
    {
        harness.key_press_modifiers(Modifiers::ALT, Key::ArrowLeft);
        harness.run_steps(3);
        assert_eq!(harness.state().state.page, page);
        assert!((opened(&harness).view.nanos() - view.nanos()).abs() < 1.0);
        assert_eq!(opened(&harness).range, range);
    }
    harness.key_press_modifiers(Modifiers::COMMAND.plus(Modifiers::SHIFT), Key::Z);
    harness.run_steps(3);
    assert!((opened(&harness).view.nanos() - zoomed.nanos()).abs() < 1.0);
    harness.key_press_modifiers(Modifiers::COMMAND, Key::Z);
    harness.run_steps(3);
    assert!((opened(&harness).view.nanos() - whole.nanos()).abs() < 1.0);
}

#[test]
fn size_motion_and_theme_are_settings() {
    let mut harness = harness();
    apply(&mut harness, Command::Scale(150));
    harness.run_steps(3);
    assert!((harness.ctx.zoom_factor() - 1.5).abs() < 1e-6);
    apply(&mut harness, Command::Scale(100_000));
    assert_eq!(harness.state().state.settings.scale_percent, 300);
    apply(&mut harness, Command::ReducedMotion(true));
    assert_eq!(harness.ctx.global_style().animation_time, 0.0);
    apply(&mut harness, Command::Theme(ThemeChoice::Dark));
    assert_eq!(harness.ctx.theme(), egui::Theme::Dark);
}

#[test]
fn keys_that_are_held_go_by_their_place() {
    let mut harness = harness();
    let whole = opened(&harness).view;
    // Where W is on a QWERTY keyboard an AZERTY one has Z.
    let key = |pressed| Event::Key {
        key: Key::Z,
        physical_key: Some(Key::W),
        pressed,
        repeat: false,
        modifiers: Modifiers::NONE,
    };
    harness.event(key(true));
    harness.run_steps(20);
    harness.event(key(false));
    harness.run_steps(2);
    let zoomed = opened(&harness).view;
    assert!(zoomed.nanos() < whole.nanos() * 0.8);
    harness.run_steps(5);
    assert_eq!(opened(&harness).view, zoomed);
}

// A Mac names its keys otherwise.
#[cfg(not(target_os = "macos"))]
#[test]
fn the_manual_in_the_documentation_is_what_the_table_gives() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/viewer.md");
    let written = std::fs::read_to_string(path).unwrap();
    assert_eq!(
        written,
        llmtrace_viewer::command::manual(),
        "write `llmtrace-viewer --manual` to docs/viewer.md"
    );
}

#[test]
fn keys_are_changed_by_place_and_a_conflict_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("viewer.json");
    let store = llmtrace_viewer::recent::Store::at(path.clone());
    let mut harness = Harness::builder().with_size(egui::vec2(1280.0, 900.0)).build_eframe(move |creation| {
        ViewerApp::new(&creation.egui_ctx, store, llmtrace_viewer::memo::Jobs::Inline)
    });
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/../sample-traces/gemma3-270m-2t.llmtrace");
    let context = harness.ctx.clone();
    harness.state_mut().open(&context, sample.into());
    harness.run_steps(3);
    apply(&mut harness, Command::Show(Page::Timeline));
    let press = |harness: &mut Harness<'_, ViewerApp>, key, physical_key| {
        let (pressed, repeat, modifiers) = (true, false, Modifiers::NONE);
        harness.event(Event::Key { key, physical_key, pressed, repeat, modifiers });
        harness.event(Event::Key { key, physical_key, pressed: false, repeat, modifiers });
        harness.run_steps(4);
    };
    harness.key_press(Key::F1);
    harness.run_steps(4);
    let change = |harness: &mut Harness<'_, ViewerApp>, command: &str| {
        harness.get_by_label("Filter commands").focus();
        harness.run_steps(2);
        harness.key_press_modifiers(Modifiers::COMMAND, Key::A);
        harness.get_by_label("Filter commands").type_text(command);
        harness.run_steps(4);
        harness.get_by_label(&format!("Change the key of {command}")).click();
        harness.run_steps(4);
    };
    // M marks: whoever wants it for something else is told.
    change(&mut harness, "Whole trace");
    press(&mut harness, Key::M, Some(Key::M));
    let all = texts(&harness);
    assert!(all.contains("M is the key of “Mark this time”."), "{all}");
    harness.get_by_label("Leave it").click();
    harness.run_steps(3);
    // On a French keyboard `ù` lies where others have the apostrophe.
    change(&mut harness, "Mark this time");
    press(&mut harness, Key::Colon, Some(Key::Quote));
    harness.key_press(Key::Escape);
    harness.run_steps(4);
    press(&mut harness, Key::M, Some(Key::M));
    assert!(opened(&harness).session.notes.is_empty());
    press(&mut harness, Key::Colon, Some(Key::Quote));
    assert_eq!(opened(&harness).session.notes.len(), 1);
    let kept = std::fs::read_to_string(&path).unwrap();
    assert!(kept.contains("Mark this time"), "{kept}");
    // What is held to zoom is changed like any other key.
    harness.key_press(Key::F1);
    harness.run_steps(4);
    change(&mut harness, "Hold to zoom in");
    press(&mut harness, Key::E, Some(Key::E));
    harness.key_press(Key::Escape);
    harness.run_steps(4);
    let width = |harness: &Harness<'_, ViewerApp>| opened(harness).view.range().nanos();
    let whole = width(&harness);
    let hold = |harness: &mut Harness<'_, ViewerApp>, key: Key| {
        let event = |pressed| Event::Key {
            key,
            physical_key: Some(key),
            pressed,
            repeat: false,
            modifiers: Modifiers::NONE,
        };
        harness.event(event(true));
        harness.run_steps(4);
        harness.event(event(false));
        harness.run_steps(2);
    };
    hold(&mut harness, Key::W);
    assert_eq!(width(&harness), whole, "W is no longer the key");
    hold(&mut harness, Key::E);
    assert!(width(&harness) < whole, "E is");
    apply(&mut harness, Command::ResetKeys(None));
    let before = width(&harness);
    hold(&mut harness, Key::W);
    assert!(width(&harness) < before);
    press(&mut harness, Key::M, Some(Key::M));
    assert!(!std::fs::read_to_string(&path).unwrap().contains("Mark this time"));
}

#[test]
fn keys_that_a_keyboard_lacks_are_found_by_their_place() {
    let mut harness = harness();
    let token = opened(&harness).trace.tokens[5].range;
    apply(&mut harness, Command::ZoomTo(token));
    harness.key_press(Key::ArrowRight);
    harness.run_steps(3);
    let first = opened(&harness).selected.unwrap();
    // What a German keyboard has where others have `]` is none of the keys of the table.
    let (key, physical_key, pressed, repeat) = (Key::F30, Some(Key::CloseBracket), true, false);
    harness.event(Event::Key { key, physical_key, pressed, repeat, modifiers: Modifiers::NONE });
    harness.run_steps(4);
    let next = opened(&harness).selected.unwrap();
    assert_ne!(next.place, first.place);
    assert_eq!(opened(&harness).key(&next.span), opened(&harness).key(&first.span));
}

#[test]
fn colours_and_size_are_chosen_and_kept() {
    use llmtrace_viewer::theme::{Colors, DARK, DARK_SAFE, PaletteChoice};
    let mut harness = harness();
    apply(&mut harness, Command::Theme(ThemeChoice::Dark));
    let colors = |harness: &Harness<'_, ViewerApp>| Colors::of(&harness.ctx.global_style().visuals);
    assert!(std::ptr::eq(colors(&harness), &DARK));
    harness.get_by_label("View").click();
    harness.run_steps(4);
    harness.get_by_role_and_label(Role::Button, "Colours").hover();
    harness.run_steps(10);
    harness.get_by_label("Safe for colour-blind eyes").click();
    harness.run_steps(4);
    assert!(std::ptr::eq(colors(&harness), &DARK_SAFE));
    assert_eq!(harness.state().state.settings.palette, PaletteChoice::ColourBlindSafe);
    harness.key_press_modifiers(Modifiers::COMMAND, Key::Plus);
    harness.run_steps(3);
    assert_eq!(harness.state().state.settings.scale_percent, 110);
    harness.key_press_modifiers(Modifiers::COMMAND, Key::Num0);
    harness.run_steps(3);
    assert_eq!(harness.state().state.settings.scale_percent, 100);
}
