//! Lanes, colours, marks and snapping on the timeline, without a display.
#![expect(clippy::unwrap_used, reason = "tests may panic")]

mod sample;

use egui::{Event, Key, Modifiers, PointerButton, Pos2, vec2};
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable;
use llmtrace_viewer::app::ViewerApp;
use llmtrace_viewer::command::Command;
use llmtrace_viewer::memo::Jobs;
use llmtrace_viewer::recent::Store;
use llmtrace_viewer::session::{Change, ColorBy, Metric};
use llmtrace_viewer::state::{Open, Page};
use sample::texts;
use std::path::Path;

fn harness() -> Harness<'static, ViewerApp> {
    sample::harness("gemma3-270m-2t.llmtrace", Page::Timeline, 720.0)
}

fn opened<'a>(harness: &'a Harness<'_, ViewerApp>) -> &'a Open {
    harness.state().state.open().unwrap()
}

fn apply(harness: &mut Harness<'_, ViewerApp>, command: Command) {
    let context = harness.ctx.clone();
    harness.state_mut().apply(&context, command);
    harness.run_steps(3);
}

fn change(harness: &mut Harness<'_, ViewerApp>, change: Change) {
    apply(harness, Command::Session(change));
}

#[test]
fn lanes_are_hidden_and_pinned_from_their_list() {
    let mut harness = harness();
    let top = |harness: &Harness<'_, ViewerApp>, lane: &str| harness.get_by_label(lane).rect().top();
    assert!(top(&harness, "thread 0") < top(&harness, "thread 1"));
    harness.get_by_label("lanes ⏷").click();
    harness.run_steps(4);
    harness.get_by_label("Filter lanes").focus();
    harness.run_steps(2);
    harness.get_by_label("Filter lanes").type_text("thread 1");
    harness.run_steps(4);
    harness.get_by_label("pin").click();
    harness.run_steps(4);
    assert_eq!(opened(&harness).session.pinned, ["thread 1"]);
    harness.key_press(Key::Escape);
    harness.run_steps(4);
    assert!(top(&harness, "thread 1") < top(&harness, "thread 0"));
    assert!(top(&harness, "thread 1") < top(&harness, "tokens"));
    let before = harness.get_by_label("thread 1").rect().height();
    change(&mut harness, Change::Hide("thread 0".into(), true));
    assert!(!texts(&harness).contains("thread 0\n"), "{}", texts(&harness));
    assert!(harness.get_by_label("thread 1").rect().height() >= before);
    assert!(texts(&harness).contains("1 hidden"));
    change(&mut harness, Change::ShowAll);
    assert!(top(&harness, "thread 0") < top(&harness, "thread 1"));
}

#[test]
fn pinned_lanes_are_put_in_another_order() {
    let mut harness = harness();
    let top = |harness: &Harness<'_, ViewerApp>, lane: &str| harness.get_by_label(lane).rect().top();
    change(&mut harness, Change::Pin("thread 0".into(), true));
    change(&mut harness, Change::Pin("thread 1".into(), true));
    assert!(top(&harness, "thread 0") < top(&harness, "thread 1"));
    assert!(top(&harness, "thread 1") < top(&harness, "tokens"));
    harness.get_by_label("lanes ⏷").click();
    harness.run_steps(4);
    // The first one stays where it is.
    let last = harness.get_all_by_label("up").max_by(|a, b| a.rect().top().total_cmp(&b.rect().top()));
    last.unwrap().click();
    harness.run_steps(4);
    harness.key_press(Key::Escape);
    harness.run_steps(4);
    assert_eq!(opened(&harness).session.pinned, ["thread 1", "thread 0"]);
    assert!(top(&harness, "thread 1") < top(&harness, "thread 0"));
    change(&mut harness, Change::ShowAll);
    assert!(top(&harness, "tokens") < top(&harness, "thread 0"));
}

#[test]
fn every_colour_and_metric_has_its_legend() {
    let mut harness = harness();
    let token = opened(&harness).trace.tokens[3].range;
    apply(&mut harness, Command::ZoomTo(token));
    for (color, says) in [
        (ColorBy::Layer, "layer 0, 4, 8…"),
        (ColorBy::Module, "attention"),
        (ColorBy::Wait, "only waits"),
        (ColorBy::Roof, "far below it"),
        (ColorBy::Operator, "matmul"),
    ] {
        change(&mut harness, Change::Color(color));
        assert!(texts(&harness).contains(says), "{says}: {}", texts(&harness));
    }
    for (metric, says) in Metric::ALL {
        change(&mut harness, Change::Metric(metric));
        assert!(texts(&harness).contains(says), "{says}");
    }
}

#[test]
fn marks_are_made_written_to_and_kept_for_the_next_time() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("copy.llmtrace");
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sample-traces/gemma3-270m-2t.llmtrace");
    std::fs::copy(sample, &trace).unwrap();
    let before = std::fs::read(&trace).unwrap();
    let open = || {
        let store = Store::at(folder.path().join("data/viewer.json"));
        let mut harness = Harness::builder()
            .with_size(vec2(1280.0, 720.0))
            .build_eframe(move |creation| ViewerApp::new(&creation.egui_ctx, store, Jobs::Inline));
        let context = harness.ctx.clone();
        harness.state_mut().open(&context, trace.clone());
        harness.run_steps(3);
        harness.state_mut().apply(&context, Command::Show(Page::Timeline));
        harness.run_steps(3);
        harness
    };
    let mut first = open();
    first.key_press(Key::M);
    first.run_steps(3);
    assert_eq!(opened(&first).session.notes.len(), 1);
    first.get_by_label("Note 1").focus();
    first.run_steps(2);
    first.get_by_label("Note 1").type_text("slow from here");
    first.run_steps(4);
    let kept = opened(&first).session.clone();
    assert_eq!(kept.notes[0].text, "slow from here");
    drop(first);
    let second = open();
    assert_eq!(opened(&second).session, kept);
    assert!(texts(&second).contains("slow from here"));
    assert_eq!(std::fs::read(&trace).unwrap(), before, "the trace itself is left alone");
}

#[test]
fn ends_of_a_range_snap_to_tokens_unless_ctrl_is_held() {
    let mut harness = harness();
    let tokens: Vec<_> =
        opened(&harness).trace.tokens.iter().skip(3).take(3).map(|token| token.range).collect();
    let sight = llmtrace_analysis::TimeRange::new(tokens[0].begin, tokens[2].end);
    apply(&mut harness, Command::ZoomTo(sight));
    let lane = harness.get_by_label("tokens").rect();
    let drag = |harness: &mut Harness<'_, ViewerApp>, modifiers: Modifiers| {
        let view = opened(harness).view;
        let left = lane.right() - view.width();
        let x = |time: u64| left + view.x_from_time(time) + 2.0;
        let (from, to) = (x(tokens[0].begin), x(tokens[1].end));
        let at = |x: f32| Pos2::new(x, lane.center().y);
        let button =
            |pos, pressed| Event::PointerButton { pos, button: PointerButton::Primary, pressed, modifiers };
        harness.event(Event::ModifiersChanged(modifiers));
        harness.event(Event::PointerMoved(at(from)));
        harness.event(button(at(from), true));
        harness.step();
        for step in 1..=10 {
            harness.event(Event::PointerMoved(at(from + (to - from) * step as f32 / 10.0)));
            harness.step();
        }
        harness.event(button(at(to), false));
        harness.event(Event::ModifiersChanged(Modifiers::NONE));
        harness.run_steps(3);
        opened(harness).range.unwrap()
    };
    let edges: Vec<u64> = {
        let threads = opened(&harness).trace.tokens.iter();
        threads.flat_map(|token| [token.range.begin, token.range.end]).collect()
    };
    let snapped = drag(&mut harness, Modifiers::NONE);
    let view = opened(&harness).view;
    let near = |time: u64, edge: u64| time.abs_diff(edge) <= view.nanos_from_pixels(4.0);
    assert!(near(snapped.begin, tokens[0].begin) && near(snapped.end, tokens[1].end));
    apply(&mut harness, Command::ClearSelection);
    let exact = drag(&mut harness, Modifiers::COMMAND);
    assert!(!edges.contains(&exact.begin) && !edges.contains(&exact.end));
    assert_ne!(snapped, exact);
}
