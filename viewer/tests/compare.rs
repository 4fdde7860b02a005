//! Two traces side by side: found by label, acted on, read back.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic")]

#[expect(dead_code, reason = "two traces are opened here, not one")]
mod sample;

use egui::accesskit::Role;
use egui::{Event, Key, Modifiers, MouseWheelSource, MouseWheelUnit, Pos2, TouchPhase, vec2};
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable;
use llmtrace_analysis::align::AlignBy;
use llmtrace_analysis::diff::{Grain, Options as Compare, diff};
use llmtrace_analysis::synth::{Options, bytes};
use llmtrace_viewer::app::ViewerApp;
use llmtrace_viewer::command::Command;
use llmtrace_viewer::memo::Jobs;
use llmtrace_viewer::recent::Store;
use llmtrace_viewer::state::{Document, Open, Page};
use sample::texts;
use std::path::{Path, PathBuf};
use std::sync::Arc;

type App = Harness<'static, ViewerApp>;

fn samples() -> [PathBuf; 2] {
    ["undisturbed", "preempted"].map(|name| sample_trace(&format!("gemma3-270m-{name}-2t")))
}

fn sample_trace(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../sample-traces/{name}.llmtrace"))
}

/// A run, and one with a node that is slower.
fn planted(folder: &Path, slower: &str) -> [PathBuf; 2] {
    let write = |name: &str, seed: u64, slow: &[&str]| {
        let path = folder.join(name);
        let slow = slow.iter().map(|slow| slow.parse().unwrap()).collect();
        std::fs::write(&path, bytes(&Options { slow, ..Options::new(30_000, 2, seed) }).unwrap()).unwrap();
        path
    };
    [write("before.llmtrace", 1, &[]), write("after.llmtrace", 2, &[slower])]
}

fn harness(store: Store) -> App {
    Harness::builder()
        .with_size(vec2(1280.0, 900.0))
        .with_max_steps(60)
        .build_eframe(|creation| ViewerApp::new(&creation.egui_ctx, store, Jobs::Inline))
}

fn compared([a, b]: [PathBuf; 2]) -> App {
    let mut harness = harness(Store::default());
    let context = harness.ctx.clone();
    harness.state_mut().open(&context, a);
    apply(&mut harness, Command::CompareWithPath(b));
    harness.run_steps(6);
    assert!(harness.state().state.pair().is_some(), "both are open");
    assert_eq!(harness.state().state.page, Page::Compare);
    harness
}

fn apply(harness: &mut App, command: Command) {
    let context = harness.ctx.clone();
    harness.state_mut().apply(&context, command);
    harness.run_steps(4);
}

fn side(harness: &App, second: bool) -> &Open {
    let (a, b, _) = harness.state().state.pair().expect("both are open");
    if second { b } else { a }
}

fn offset(harness: &App) -> i64 {
    side(harness, true).view.begin() - side(harness, false).view.begin()
}

fn wheel(harness: &mut App, at: Pos2, points: f32) {
    harness.hover_at(at);
    let (unit, phase, source) = (MouseWheelUnit::Point, TouchPhase::Move, MouseWheelSource::Wheel);
    let (delta, modifiers) = (vec2(0.0, points), Modifiers::NONE);
    harness.event(Event::MouseWheel { unit, delta, phase, source, modifiers });
    harness.run_steps(12);
}

fn button(harness: &mut App, pos: Pos2, pressed: bool) {
    harness.event(Event::PointerMoved(pos));
    let (button, modifiers) = (egui::PointerButton::Primary, Modifiers::NONE);
    harness.event(Event::PointerButton { pos, button, pressed, modifiers });
    harness.step();
}

fn click(harness: &mut App, pos: Pos2) {
    // Two clicks close together would be a double click.
    harness.run_steps(30);
    button(harness, pos, true);
    button(harness, pos, false);
    harness.run_steps(4);
}

fn click_row(harness: &mut App, name: &str) {
    let at = harness.get_by_label(name).rect().left_center() + vec2(20.0, 0.0);
    click(harness, at);
    harness.run_steps(6);
}

fn drag(harness: &mut App, from: Pos2, to: Pos2) {
    harness.run_steps(30);
    button(harness, from, true);
    for step in 1..=10u8 {
        harness.event(Event::PointerMoved(from + (to - from) * (f32::from(step) / 10.0)));
        harness.step();
    }
    button(harness, to, false);
    harness.run_steps(4);
}

#[test]
fn the_regression_pair_is_shown_with_the_verdict_of_the_command_line() {
    let harness = compared(samples());
    let read = texts(&harness);
    for lane in ["A tokens", "A thread 0", "A thread 1", "B tokens", "B thread 1", "differences"] {
        assert!(read.contains(&format!("{lane}\n")), "{lane} is missing in {read}");
    }
    let (a, b) = (side(&harness, false), side(&harness, true));
    let options = Compare { phase: None, grain: Grain::Role };
    let found = diff(&[&*a.trace], &[&*b.trace], &options, &|_| true).unwrap();
    assert!(read.contains(&found.verdict().replace('→', "⏵")), "{read}");
    for warning in found.warnings.iter().take(3) {
        assert!(read.contains(&warning.replace('→', "⏵")), "{warning} is missing in {read}");
    }
    for part in found.contributions.iter().take(3) {
        assert!(read.contains(&format!("{:+.4} ms", part.ms)), "{part:?} is missing in {read}");
    }
    // The nth decoded token of one lies under that of the other.
    let pairs = &harness.state().state.comparison.as_ref().unwrap().differences.pairs;
    assert!(pairs.len() > 20 && pairs.iter().all(|pair| pair.longer.is_some()));
}

#[test]
fn windows_move_together_whichever_side_is_zoomed_or_moved() {
    let mut harness = compared(samples());
    for lane in ["A thread 0", "B thread 0"] {
        let before = side(&harness, false).view.nanos();
        let rect = harness.get_by_label(lane).rect();
        wheel(&mut harness, rect.center(), 400.0);
        let (a, b) = (side(&harness, false).view, side(&harness, true).view);
        assert!(a.nanos() < before / 3.0, "{lane}");
        assert_eq!((a.nanos(), a.width()), (b.nanos(), b.width()));
        assert_eq!(offset(&harness), harness.state().state.comparison.as_ref().unwrap().offset(&a));
    }
    // A token in the middle begins where its counterpart does.
    let pair = harness.state().state.comparison.as_ref().unwrap().differences.pairs[20];
    apply(&mut harness, Command::ZoomTo(pair.a));
    let x = [(false, pair.a), (true, pair.b)]
        .map(|(second, token)| side(&harness, second).view.x_from_time(token.begin));
    assert!((x[0] - x[1]).abs() < 0.01, "{x:?}");
    // Dragging B's ruler moves both.
    let ruler = harness.get_by_label("B ruler").rect().center();
    let before = side(&harness, false).view.begin();
    drag(&mut harness, ruler, ruler + vec2(150.0, 0.0));
    assert!(side(&harness, false).view.begin() < before);
    // Whole means all of both.
    harness.hover_at(ruler);
    harness.key_press(Key::Num0);
    harness.run_steps(3);
    for second in [false, true] {
        let open = side(&harness, second);
        let range = open.trace.range();
        assert!(open.view.x_from_time(range.begin) >= -1.0, "{second}");
        assert!(open.view.x_from_time(range.end) <= open.view.width() + 1.0, "{second}");
    }
}

#[test]
fn traces_are_aligned_by_token_phase_time_and_hand() {
    let mut harness = compared(samples());
    let begins = [false, true].map(|second| side(&harness, second).trace.range().begin as i64);
    harness.get_by_role_and_label(Role::Button, "time").click();
    harness.run_steps(3);
    assert_eq!(offset(&harness), begins[1] - begins[0]);
    harness.get_by_role_and_label(Role::Button, "phase").click();
    harness.run_steps(3);
    let by = |harness: &App| harness.state().state.comparison.as_ref().unwrap().aligned.by;
    assert_eq!(by(&harness), AlignBy::Phase);
    // The lane between them, dragged to the right: B's picture moves right.
    let before = offset(&harness);
    let lane = harness.get_by_label("differences").rect().center();
    drag(&mut harness, lane, lane + vec2(80.0, 0.0));
    assert_eq!(by(&harness), AlignBy::Hand);
    let nanos = side(&harness, false).view.nanos_per_pixel() * 80.0;
    assert!(((before - offset(&harness)) as f64 - nanos).abs() < nanos * 0.2, "{nanos}");
    let dragged = offset(&harness);
    harness.key_press(Key::Comma);
    harness.run_steps(2);
    assert!(offset(&harness) > dragged);
    harness.key_press(Key::Period);
    harness.run_steps(2);
    assert_eq!(offset(&harness), dragged);
    harness.get_by_role_and_label(Role::Button, "token").click();
    harness.run_steps(3);
    assert_eq!(by(&harness), AlignBy::Token);
}

#[test]
fn a_planted_regression_is_found_in_the_table_and_shown_on_both_sides() {
    let folder = tempfile::tempdir().unwrap();
    let mut harness = compared(planted(folder.path(), "ffn_up-7=+40%"));
    let (a, b) = (Arc::clone(&side(&harness, false).trace), Arc::clone(&side(&harness, true).trace));
    let found = diff(&[&*a], &[&*b], &Compare { phase: None, grain: Grain::Role }, &|_| true).unwrap();
    let first = &found.contributions[0];
    assert_eq!(first.mostly.as_deref(), Some("ffn_up-7"));
    let row = format!("{} ×{}: {:+.4} ms", first.key, first.nodes, first.ms);
    click_row(&mut harness, &row);
    harness.run_steps(8);
    for second in [false, true] {
        let open = side(&harness, second);
        let found = open.selected.expect("a typical execution is selected");
        assert_eq!(open.name(&found.span), "ffn_up-7", "the one that changed most");
        let x = open.view.x_from_time(found.span.begin);
        assert!(x > 0.0 && x < open.view.width(), "{x}");
    }
    let read = texts(&harness);
    assert!(read.contains(&format!("{}, time a token in the sampled calls", first.key)), "{read}");
    // One node, then it alone: the slower one.
    harness.get_by_role_and_label(Role::Button, "name").click();
    harness.run_steps(3);
    let node = &found.nodes[0];
    assert!(node.key.starts_with("ffn_up-7"));
    click_row(&mut harness, &format!("{}: {:+.4} ms", node.key, node.ms));
    harness.run_steps(8);
    let spans = [false, true].map(|second| {
        let open = side(&harness, second);
        let found = open.selected.unwrap();
        assert_eq!(open.name(&found.span), "ffn_up-7");
        open.trace.token_at(found.span.begin).unwrap().number
    });
    assert_eq!(spans[0], spans[1], "of the same token");
    harness.get_by_role_and_label(Role::Button, "Waterfall").click();
    harness.run_steps(3);
    harness.get_by_role_and_label(Role::Button, "Rooflines").click();
    harness.run_steps(4);
    assert!(texts(&harness).contains("B: diamonds"));
}

#[test]
fn a_node_that_is_selected_on_one_side_is_selected_on_the_other() {
    let mut harness = compared(samples());
    let pair = harness.state().state.comparison.as_ref().unwrap().differences.pairs[12];
    apply(&mut harness, Command::ZoomTo(pair.a));
    for _ in 0..3 {
        apply(&mut harness, Command::ZoomIn);
    }
    for second in [false, true] {
        let lane = harness.get_by_label(if second { "B thread 0" } else { "A thread 0" }).rect();
        let hit = (0..40u8).find_map(|step| {
            let at = lane.left_center() + vec2(lane.width() * 0.4 + f32::from(step) * 9.0, 0.0);
            click(&mut harness, at);
            let (a, b) = (side(&harness, false), side(&harness, true));
            a.selected.zip(b.selected).map(|(in_a, in_b)| (a.key(&in_a.span), b.key(&in_b.span)))
        });
        let (in_a, in_b) = hit.expect("a node on both sides");
        assert_eq!(in_a, in_b);
        harness.key_press(Key::Escape);
        harness.run_steps(2);
        assert!(side(&harness, false).selected.is_none() && side(&harness, true).selected.is_none());
    }
}

#[derive(Debug)]
struct Dropped(PathBuf);

impl egui::DroppedFile for Dropped {
    fn path(&self) -> &Path {
        &self.0
    }

    fn bytes(&self) -> Result<Vec<u8>, String> {
        std::fs::read(&self.0).map_err(|error| error.to_string())
    }
}

#[test]
fn two_dropped_files_are_compared() {
    let mut harness = harness(Store::default());
    for path in samples() {
        harness.input_mut().dropped_files.push(Arc::new(Dropped(path)));
    }
    harness.run_steps(6);
    let [a, b] = samples();
    assert_eq!([false, true].map(|second| side(&harness, second).path.clone()), [a, b]);
    assert_eq!(harness.state().state.page, Page::Compare);
}

#[test]
fn sides_are_swapped_and_the_session_comes_back_with_the_trace() {
    let folder = tempfile::tempdir().unwrap();
    let store = || Store::at(folder.path().join("viewer.json"));
    let [a, b] = planted(folder.path(), "MUL_MAT=+30%");
    let mut first = harness(store());
    let context = first.ctx.clone();
    first.state_mut().open(&context, a.clone());
    apply(&mut first, Command::CompareWithPath(b.clone()));
    first.run_steps(4);
    apply(&mut first, Command::Align(AlignBy::Time));
    apply(&mut first, Command::NudgeRight);
    let before = offset(&first);
    assert!(texts(&first).contains("slower than A"));
    first.get_by_role_and_label(Role::Button, "Swap").click();
    first.run_steps(6);
    assert_eq!((&side(&first, false).path, &side(&first, true).path), (&b, &a));
    assert_eq!(offset(&first), -before);
    assert!(texts(&first).contains("faster than A"), "{}", texts(&first));
    // Other pages are about the new A.
    apply(&mut first, Command::Show(Page::Overview));
    assert!(texts(&first).contains("after.llmtrace"));
    drop(first);

    let mut second = harness(store());
    let context = second.ctx.clone();
    second.state_mut().open(&context, b.clone());
    second.run_steps(6);
    assert_eq!((&side(&second, false).path, &side(&second, true).path), (&b, &a));
    assert_eq!(second.state().state.page, Page::Compare);
    assert_eq!(offset(&second), -before);
    // Once the second one is closed, it stays so.
    second.get_by_role_and_label(Role::Button, "Close B").click();
    second.run_steps(4);
    assert!(texts(&second).contains("Compare with a second trace"));
    second.get_by_role_and_label(Role::Button, "Choose a trace…");
    drop(second);
    let mut third = harness(store());
    third.state_mut().open(&context, b);
    third.run_steps(4);
    assert!(matches!(third.state().state.second, Document::Empty));
}

#[test]
fn what_does_not_match_is_said_at_the_top_and_all_else_is_compared() {
    let said = |a: PathBuf, b: PathBuf, wanted: &str| {
        let mut harness = compared([a, b]);
        // Few lines at first; all of them when they are asked for.
        let more = harness.query_by_label_contains(" more").map(|more| more.rect().center());
        if let Some(more) = more {
            click(&mut harness, more);
        }
        let read = texts(&harness);
        assert!(read.contains(wanted), "{wanted} is missing in {read}");
        assert!(read.contains("A tokens\n") && read.contains("B tokens\n"), "{read}");
    };
    let [sample, _] = samples();
    said(sample.clone(), sample.clone(), "the same recording is on both sides");
    said(sample_trace("gemma3-270m-1t"), sample_trace("gemma3-270m-2t"), "threads differ: 1 ⏵ 2");
    said(sample_trace("gemma3-270m-2t"), sample_trace("qwen3moe-synthetic-2t"), "not comparable");
    said(sample_trace("gemma3-270m-2t"), sample_trace("qwen3moe-synthetic-2t"), "models differ");
    // A trace of calls alone, of which there are few.
    let folder = tempfile::tempdir().unwrap();
    let bare = folder.path().join("bare.llmtrace");
    write_bare(&bare);
    said(sample.clone(), bare.clone(), "levels differ");
    said(sample, bare.clone(), "B has no operators");
    // One that has nothing to compare at all.
    let nothing = folder.path().join("nothing.llmtrace");
    let writer =
        llmtrace_analysis::format::Writer::new(Vec::new(), llmtrace_analysis::format::Header::new(5, 5));
    std::fs::write(&nothing, writer.unwrap().finish(&Default::default()).unwrap()).unwrap();
    let harness = compared([bare, nothing]);
    let read = texts(&harness);
    assert!(read.contains("Only the timelines can be compared: run 1 of side"), "{read}");
    assert!(read.contains("no token of one trace has a counterpart") || read.contains("differences"));
}

fn write_bare(path: &Path) {
    use llmtrace_analysis::format::meta::{Ending, Level, Recording};
    use llmtrace_analysis::format::tables::Decode;
    use llmtrace_analysis::format::{Header, Writer};
    let mut writer = Writer::new(std::fs::File::create(path).unwrap(), Header::new(1, 1)).unwrap();
    writer.write_recording(&Recording { level: Level::Token, ..Recording::default() }).unwrap();
    for token in 0..20u64 {
        let begin = token * 6_000_000;
        writer.push_decode(Decode { begin, end: begin + 5_000_000, tokens: 1, ..Decode::default() });
    }
    writer.finish(&Ending::default()).unwrap();
}

#[test]
fn a_broken_second_file_is_explained_beside_the_first_and_another_is_chosen() {
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken.llmtrace");
    std::fs::write(&broken, b"this is no trace").unwrap();
    let [sample, other] = samples();
    let mut harness = harness(Store::default());
    let context = harness.ctx.clone();
    harness.state_mut().open(&context, sample);
    apply(&mut harness, Command::CompareWithPath(broken));
    let read = texts(&harness);
    assert!(read.contains("Cannot open broken.llmtrace") && read.contains("Choose a trace…"), "{read}");
    assert!(harness.state().state.open().is_some());
    apply(&mut harness, Command::CompareWithPath(other));
    assert!(harness.state().state.pair().is_some());
    // A trace that is opened instead is alone.
    let [sample, _] = samples();
    harness.state_mut().open(&context, sample);
    harness.run_steps(3);
    assert!(harness.state().state.pair().is_none() && harness.state().state.open().is_some());
}

#[test]
fn the_graph_shows_the_difference_to_the_second_run() {
    let mut app = compared(samples());
    apply(&mut app, Command::Show(Page::Graph));
    app.get_by_label("Difference to B").click();
    app.run_steps(6);
    let all = texts(&app);
    assert!(all.contains("compared with graph") && all.contains("gemma3-270m-preempted-2t"), "{all}");
    // The undisturbed run takes less, of the nodes in both.
    let line = all.lines().find(|line| line.contains("of nodes in both")).expect("a difference");
    assert!(line.contains("(-"), "{line}");
    apply(&mut app, Command::SwapSides);
    apply(&mut app, Command::Show(Page::Graph));
    app.get_by_label("Difference to B").click();
    app.run_steps(6);
    let all = texts(&app);
    let line = all.lines().find(|line| line.contains("of nodes in both")).expect("a difference");
    assert!(line.contains("(+") && !line.contains("(+0.0"), "{line}");
    apply(&mut app, Command::CloseSecond);
    app.run_steps(3);
    let all = texts(&app);
    assert!(!all.contains("compared with") && !all.contains("Difference to B"), "{all}");
}
