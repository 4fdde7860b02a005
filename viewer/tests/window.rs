//! The window without a display: found by label, acted on, read back.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic")]

#[path = "sample/texts.rs"]
mod texts;

use egui::accesskit::Role;
use egui::{Event, Key, Modifiers, MouseWheelSource, MouseWheelUnit, TouchPhase, pos2, vec2};
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable;
use llmtrace_analysis::TimeRange;
use llmtrace_analysis::synth::{Options, bytes};
use llmtrace_viewer::app::ViewerApp;
use llmtrace_viewer::command::Command;
use llmtrace_viewer::memo::Jobs;
use llmtrace_viewer::recent::Store;
use llmtrace_viewer::state::{Document, Open, Page};
use std::path::{Path, PathBuf};
use texts::texts;

type App = Harness<'static, ViewerApp>;

/// A recorded sample if the repository has it, else a synthetic trace.
fn sample(folder: &Path) -> PathBuf {
    let recorded = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sample-traces/gemma3-270m-2t.llmtrace");
    if recorded.exists() { recorded } else { synthetic(folder) }
}

fn synthetic(folder: &Path) -> PathBuf {
    let path = folder.join("synthetic.llmtrace");
    std::fs::write(&path, bytes(&Options::new(60_000, 2, 1)).unwrap()).unwrap();
    path
}

fn harness() -> App {
    Harness::builder()
        .with_size(vec2(1280.0, 720.0))
        .with_max_steps(60)
        .build_eframe(|creation| ViewerApp::new(&creation.egui_ctx, Store::default(), Jobs::Inline))
}

fn open(harness: &mut App, path: &Path) {
    let context = harness.ctx.clone();
    harness.state_mut().open(&context, path.to_owned());
    harness.run_steps(3);
}

fn opened(harness: &App) -> &Open {
    harness.state().state.open().expect("a trace is open")
}

fn apply(harness: &mut App, command: Command) {
    let context = harness.ctx.clone();
    harness.state_mut().apply(&context, command);
    harness.run_steps(2);
}

#[test]
fn overview_shows_the_figures_of_the_summary() {
    let folder = tempfile::tempdir().unwrap();
    let mut harness = harness();
    // The table of operators is below the findings.
    harness.set_size(egui::vec2(1280.0, 2000.0));
    open(&mut harness, &sample(folder.path()));
    let summary = opened(&harness).summary.clone();
    let texts = texts(&harness);
    assert!(texts.contains("Decode speed"), "{texts}");
    assert!(texts.contains("Lost events: 0"), "{texts}");
    assert!(!summary.operators.is_empty());
    for operator in summary.operators.iter().take(3) {
        assert!(texts.contains(&operator.op), "{} is missing", operator.op);
    }
}

#[test]
fn operator_is_clicked_and_its_details_read() {
    let folder = tempfile::tempdir().unwrap();
    let mut harness = harness();
    open(&mut harness, &sample(folder.path()));
    harness.get_by_role_and_label(Role::Button, "Timeline").click();
    harness.run_steps(3);
    for lane in ["minimap", "ruler", "tokens", "graph", "thread 0", "thread 1"] {
        harness.get_by_label(lane);
    }
    // Zoom in on a token with the wheel until single nodes are in sight.
    let token = *opened(&harness).trace.tokens.iter().find(|token| token.number == 3).unwrap();
    apply(&mut harness, Command::ZoomTo(token.range));
    let lane = harness.get_by_label("thread 0").rect();
    let target = lane.left_center() + vec2(lane.width() * 0.3, 0.0);
    harness.hover_at(target);
    let before = opened(&harness).view.nanos_per_pixel();
    for _ in 0..12 {
        wheel(&mut harness, 120.0);
    }
    let after = opened(&harness).view.nanos_per_pixel();
    assert!(after < before / 50.0, "{before} {after}");
    // Click what is there: the pointer may be over a gap, so look right of it.
    let place = (0..40).find_map(|step| {
        click(&mut harness, target + vec2(step as f32 * 10.0, 0.0));
        opened(&harness).selected
    });
    let place = place.expect("a span was clicked");
    let key = opened(&harness).key(&place.span);
    let read = texts(&harness);
    for wanted in [&*key.name, &*key.op, "This execution", "On each thread", "All occurrences in", "source 0"]
    {
        assert!(read.contains(wanted), "{wanted} is missing in {read}");
    }
    assert!(read.contains(&format!("selected {} {}", key.op, key.name)));
    // The same node the next time, and back.
    harness.key_press(Key::CloseBracket);
    harness.run_steps(3);
    let next = opened(&harness).selected.unwrap();
    assert_ne!(next, place);
    assert_eq!(opened(&harness).key(&next.span), key);
    harness.key_press(Key::OpenBracket);
    harness.run_steps(3);
    assert_eq!(opened(&harness).selected, Some(place));
    harness.key_press(Key::Escape);
    harness.run_steps(2);
    assert_eq!(opened(&harness).selected, None);
}

#[test]
fn dragging_selects_a_range_and_shows_its_totals() {
    let folder = tempfile::tempdir().unwrap();
    let mut harness = harness();
    open(&mut harness, &sample(folder.path()));
    apply(&mut harness, Command::Show(Page::Timeline));
    let lane = harness.get_by_label("thread 1").rect();
    let (from, to) = (lane.center(), lane.center() + vec2(150.0, 0.0));
    drag(&mut harness, from, to, Modifiers::NONE);
    let range = opened(&harness).range.expect("a range is selected");
    let pixels = range.nanos() as f64 / opened(&harness).view.nanos_per_pixel();
    assert!((pixels - 150.0).abs() < 3.0, "{pixels}");
    let read = texts(&harness);
    assert!(read.contains("Totals by operator") && read.contains("MUL_MAT"), "{read}");
    // With Shift it moves instead.
    apply(&mut harness, Command::ClearSelection);
    apply(&mut harness, Command::ZoomTo(range));
    let before = opened(&harness).view;
    drag(&mut harness, from, to, Modifiers::SHIFT);
    assert_eq!(opened(&harness).range, None);
    assert!(opened(&harness).view.begin() < before.begin());
    assert!((opened(&harness).view.nanos() - before.nanos()).abs() < 1.0);
}

#[test]
fn find_jumps_to_a_node() {
    let folder = tempfile::tempdir().unwrap();
    let mut harness = harness();
    open(&mut harness, &sample(folder.path()));
    harness.key_press_modifiers(Modifiers::COMMAND, Key::F);
    harness.run_steps(3);
    harness.get_by_role_and_label(Role::TextInput, "Find").type_text("ffn_up-2");
    harness.run_steps(4);
    assert_eq!(harness.state().state.find.query, "ffn_up-2");
    harness.key_press(Key::Enter);
    harness.run_steps(3);
    let open = opened(&harness);
    let span = open.selected.expect("the node is selected").span;
    assert_eq!(open.name(&span), "ffn_up-2");
    assert!(open.view.range().contains(span.begin));
}

#[test]
fn broken_file_is_explained_and_the_app_stays_usable() {
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken.llmtrace");
    std::fs::write(&broken, b"this is no trace, whatever its name says").unwrap();
    let mut harness = harness();
    open(&mut harness, &broken);
    let read = texts(&harness);
    assert!(read.contains("Cannot open broken.llmtrace"), "{read}");
    assert!(read.contains("not an .llmtrace file") && read.contains("llmtrace record"), "{read}");
    open(&mut harness, &folder.path().join("missing.llmtrace"));
    assert!(texts(&harness).contains("Cannot open missing.llmtrace"));
    open(&mut harness, &sample(folder.path()));
    assert!(opened(&harness).loading.is_none());
    apply(&mut harness, Command::Close);
    assert!(matches!(harness.state().state.document, Document::Empty));
    assert!(texts(&harness).contains("Open trace…"));
}

#[test]
fn file_cut_off_opens_with_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let path = synthetic(folder.path());
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() * 2 / 3]).unwrap();
    let mut harness = harness();
    open(&mut harness, &path);
    assert!(!opened(&harness).trace.lanes().is_empty() && opened(&harness).loading.is_none());
    assert!(texts(&harness).contains("not closed properly"), "{}", texts(&harness));
}

#[test]
fn a_selection_is_saved_as_a_trace() {
    let folder = tempfile::tempdir().unwrap();
    let mut harness = harness();
    let path = synthetic(folder.path());
    open(&mut harness, &path);
    let range = opened(&harness).trace.tokens[4].range;
    apply(&mut harness, Command::SelectRange(range));
    apply(&mut harness, Command::SaveRange(range, path.clone()));
    assert!(texts(&harness).contains("cannot be saved onto itself"), "{}", texts(&harness));
    let part = folder.path().join("part.llmtrace");
    apply(&mut harness, Command::SaveRange(range, part.clone()));
    assert!(texts(&harness).contains("Saved part.llmtrace"), "{}", texts(&harness));
    harness.get_by_role_and_label(Role::Button, "Open it").click();
    harness.run_steps(4);
    assert_eq!(opened(&harness).path, part);
    assert_eq!(opened(&harness).trace.graph_spans.len(), 1);
}

#[test]
fn a_damaged_block_shows_as_a_gap_with_a_notice() {
    let folder = tempfile::tempdir().unwrap();
    let path = synthetic(folder.path());
    let mut bytes = std::fs::read(&path).unwrap();
    let victim = {
        let mut harness = harness();
        open(&mut harness, &path);
        let blocks = &opened(&harness).trace.file.blocks;
        *blocks.iter().rfind(|block| block.kind == 19 && block.lane == 1).unwrap()
    };
    bytes[(victim.offset + victim.file_len() - 7) as usize] ^= 0x10;
    std::fs::write(&path, bytes).unwrap();
    let mut harness = harness();
    open(&mut harness, &path);
    apply(&mut harness, Command::Show(Page::Timeline));
    let begin = victim.range.begin;
    apply(&mut harness, Command::ZoomTo(llmtrace_analysis::TimeRange::new(begin, begin + 2_000_000)));
    harness.run_steps(6);
    assert_eq!(opened(&harness).trace.damaged(), [victim]);
    assert!(texts(&harness).contains("op spans"), "{}", texts(&harness));
}

#[test]
fn keys_move_about() {
    let folder = tempfile::tempdir().unwrap();
    let mut harness = harness();
    open(&mut harness, &sample(folder.path()));
    harness.key_press(Key::Num2);
    harness.run_steps(3);
    assert_eq!(harness.state().state.page, Page::Timeline);
    let whole = opened(&harness).view;
    harness.key_down(Key::W);
    harness.run_steps(20);
    harness.key_up(Key::W);
    harness.run_steps(2);
    let zoomed = opened(&harness).view;
    assert!(zoomed.nanos() < whole.nanos() * 0.8);
    harness.key_down(Key::D);
    harness.run_steps(5);
    harness.key_up(Key::D);
    harness.run_steps(2);
    assert!(opened(&harness).view.begin() > zoomed.begin());
    harness.key_press(Key::Num0);
    harness.run_steps(2);
    assert_eq!(opened(&harness).view, whole);
}

fn wheel(harness: &mut App, points: f32) {
    let (unit, phase, source) = (MouseWheelUnit::Point, TouchPhase::Move, MouseWheelSource::Wheel);
    let (delta, modifiers) = (vec2(0.0, points), Modifiers::NONE);
    harness.event(Event::MouseWheel { unit, delta, phase, source, modifiers });
    harness.run_steps(12);
}

fn button(harness: &mut App, pos: egui::Pos2, pressed: bool, modifiers: Modifiers) {
    harness.event(Event::PointerMoved(pos));
    let button = egui::PointerButton::Primary;
    harness.event(Event::PointerButton { pos, button, pressed, modifiers });
    harness.step();
}

fn click(harness: &mut App, pos: egui::Pos2) {
    // Two clicks close together would be a double click.
    harness.run_steps(30);
    button(harness, pos, true, Modifiers::NONE);
    button(harness, pos, false, Modifiers::NONE);
    harness.run_steps(2);
}

fn drag(harness: &mut App, from: egui::Pos2, to: egui::Pos2, modifiers: Modifiers) {
    harness.event(Event::ModifiersChanged(modifiers));
    button(harness, from, true, modifiers);
    for step in 1..=10 {
        let at = from + (to - from) * (step as f32 / 10.0);
        harness.event(Event::PointerMoved(pos2(at.x, at.y)));
        harness.step();
    }
    button(harness, to, false, modifiers);
    harness.event(Event::ModifiersChanged(Modifiers::NONE));
    harness.run_steps(3);
}

#[test]
fn changes_of_what_is_recorded_and_marks_have_a_lane() {
    use llmtrace_analysis::format::meta::{Ending, Level, Recording};
    use llmtrace_analysis::format::tables::{Decode, LevelChange, Mark};
    use llmtrace_analysis::format::{Header, Writer};

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("changes.llmtrace");
    let mut writer = Writer::new(std::fs::File::create(&path).unwrap(), Header::new(1, 1)).unwrap();
    let recording = Recording { level: Level::Thread, ..Recording::default() };
    writer.write_recording(&recording).unwrap();
    writer.push_decode(Decode { end: 1_000_000_000, tokens: 1, ..Decode::default() });
    let reason = writer.string("probes would take 9.0 % of the time").0;
    let change = LevelChange { time: 500_000_000, level: 1, window: 3, reason, ..LevelChange::default() };
    writer.push_level_change(change);
    let label = writer.string("token of 93 ms").0;
    writer.push_mark(Mark { time: 250_000_000, label });
    writer.finish(&Ending::default()).unwrap();

    let mut harness = harness();
    open(&mut harness, &path);
    apply(&mut harness, Command::Show(Page::Timeline));
    let lane = harness.get_by_label("recorded").rect();
    // The lane's name lies left of it.
    let view = opened(&harness).view;
    let left = lane.right() - view.width();
    let at = |share: f32| pos2(left + view.x_from_time((share * 1e9) as u64), lane.center().y);
    for (share, says) in [(0.75, "probes would take 9.0 %"), (0.75, "level graph"), (0.25, "token of 93 ms")]
    {
        harness.event(Event::PointerMoved(at(share)));
        harness.run_steps(40);
        let read = texts(&harness);
        assert!(read.contains(says), "{says} is missing at {share} in {read}");
    }
    click(&mut harness, at(0.75));
    let range = opened(&harness).range.expect("the range of the level");
    assert_eq!((range.begin, range.end), (500_000_000, 1_000_000_000));
}

/// The recorded server of the samples.
fn server() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../sample-traces/gemma3-270m-server-1t.llmtrace")
}

#[test]
fn sequences_calls_and_the_kv_cache_have_lanes_and_details() {
    let mut harness = harness();
    open(&mut harness, &server());
    apply(&mut harness, Command::Show(Page::Timeline));
    let lanes = texts(&harness);
    for lane in ["seq 0", "seq 1", "seq 2", "calls", "KV cells"] {
        assert!(lanes.contains(&format!("{lane}\n")), "{lane} is missing: {lanes}");
    }
    assert!(!lanes.contains("private"), "it has no ids of tokens");
    let trace = opened(&harness).trace.clone();
    let request = trace.around().requests.last().expect("requests").clone();
    apply(&mut harness, Command::SelectRange(TimeRange::new(request.begin, request.end)));
    let details = texts(&harness);
    for text in ["Requests", "Calls around graphs", "sample", "KV cache at the end"] {
        assert!(details.contains(text), "{text} is missing: {details}");
    }
    let prompt = format!("{}\n", request.prompt_tokens);
    assert!(details.contains(&prompt), "{details}");
}

#[test]
fn a_private_file_says_so() {
    use llmtrace_analysis::format::inference::{InferenceRow, TokenRow};
    use llmtrace_analysis::format::{Header, Writer};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("private.llmtrace");
    let mut writer = Writer::new(Vec::new(), Header::new(0, 0)).unwrap();
    writer.push_inference(InferenceRow::Token(TokenRow { time: 5, token: 7, ..TokenRow::default() }));
    std::fs::write(&path, writer.finish(&Default::default()).unwrap()).unwrap();
    let mut harness = harness();
    open(&mut harness, &path);
    assert!(texts(&harness).contains("private: prompts and answers can be read"), "{}", texts(&harness));
}
