//! Flow arrows, groups, tokens, gaps and losses on the timeline, without a display.
#![expect(clippy::unwrap_used, reason = "tests may panic")]

mod sample;

use egui::accesskit::Role;
use egui::{Key, Modifiers};
use egui_kittest::Harness;
use egui_kittest::kittest::{NodeT, Queryable};
use llmtrace_analysis::TimeRange;
use llmtrace_viewer::app::ViewerApp;
use llmtrace_viewer::command::Command;
use llmtrace_viewer::session::Change;
use llmtrace_viewer::state::{Open, Page};
use sample::texts;

fn harness() -> Harness<'static, ViewerApp> {
    sample::harness("gemma3-270m-2t.llmtrace", Page::Timeline, 900.0)
}

fn opened<'a>(harness: &'a Harness<'_, ViewerApp>) -> &'a Open {
    harness.state().state.open().unwrap()
}

fn apply(harness: &mut Harness<'_, ViewerApp>, command: Command) {
    let context = harness.ctx.clone();
    harness.state_mut().apply(&context, command);
    harness.run_steps(3);
}

fn press(harness: &mut Harness<'_, ViewerApp>, key: Key) {
    harness.key_press(key);
    harness.run_steps(3);
}

/// What items of lanes are called.
fn items(harness: &Harness<'_, ViewerApp>) -> Vec<String> {
    let found = harness.query_all_by_role(Role::ListBoxOption);
    found.filter_map(|node| node.accesskit_node().label()).collect()
}

#[test]
fn the_selected_span_leads_to_what_it_reads_and_who_reads_it() {
    let mut harness = harness();
    let token = opened(&harness).trace.tokens[9].range;
    apply(&mut harness, Command::ZoomTo(token));
    apply(&mut harness, Command::FindFor("ffn_up-3".into()));
    press(&mut harness, Key::Enter);
    press(&mut harness, Key::Escape);
    let all = texts(&harness);
    assert!(all.contains("Reads from\n") && all.contains("Read by\n"), "{all}");
    let selected = opened(&harness).selected.unwrap();
    assert_eq!(opened(&harness).name(&selected.span), "ffn_up-3");
    // Both projections read the same norm.
    harness.get_by_role_and_label(Role::Link, "ffn_norm-3").click();
    harness.run_steps(3);
    let source = opened(&harness).selected.unwrap();
    assert_eq!(opened(&harness).name(&source.span), "ffn_norm-3");
    assert_eq!(source.span.graph_span, selected.span.graph_span);
    assert!(source.span.compute_end() <= selected.span.begin);
    assert!(texts(&harness).contains("ffn_gate-3\n"), "{}", texts(&harness));
}

#[test]
fn the_same_node_is_found_in_the_next_token_and_the_one_before() {
    let mut harness = harness();
    apply(&mut harness, Command::FindFor("ffn_up-3".into()));
    press(&mut harness, Key::Enter);
    press(&mut harness, Key::Escape);
    let first = opened(&harness).selected.unwrap();
    apply(&mut harness, Command::NextOccurrence);
    let next = opened(&harness).selected.unwrap();
    assert!(next.span.begin > first.span.end());
    assert_eq!(opened(&harness).name(&next.span), "ffn_up-3");
    assert_ne!(next.span.graph_span, first.span.graph_span);
    // No other is in between.
    let trace = &opened(&harness).trace;
    let graph = |id| trace.graph_spans.iter().position(|span| span.id == id).unwrap();
    let between = graph(next.span.graph_span) - graph(first.span.graph_span);
    assert_eq!(between, 1, "the next computation");
    apply(&mut harness, Command::PreviousOccurrence);
    assert_eq!(opened(&harness).selected.unwrap().place, first.place);
}

#[test]
fn groups_collapse_to_their_head_and_are_remembered() {
    let mut harness = harness();
    harness.get_by_label("thread 1");
    harness.get_by_label("Collapse Threads").click();
    harness.run_steps(3);
    assert!(!texts(&harness).contains("thread 1\n"), "{}", texts(&harness));
    assert_eq!(opened(&harness).session.collapsed, ["Threads"]);
    harness.get_by_label("Expand Threads").click();
    harness.run_steps(3);
    harness.get_by_label("thread 1");
    apply(&mut harness, Command::CollapseLanes(true));
    assert!(!texts(&harness).contains("thread 0\n") && texts(&harness).contains("tokens\n"));
    apply(&mut harness, Command::Session(Change::ShowAll));
    harness.get_by_label("thread 0");
}

#[test]
fn lanes_are_filtered_by_their_names() {
    let mut harness = harness();
    let filter = |harness: &mut Harness<'_, ViewerApp>, text: &str| {
        harness.get_by_label("Lanes shown").focus();
        harness.run_steps(2);
        harness.key_press_modifiers(Modifiers::COMMAND, Key::A);
        harness.get_by_label("Lanes shown").type_text(text);
        harness.run_steps(4);
    };
    filter(&mut harness, "Thread 1");
    let all = texts(&harness);
    assert!(all.contains("thread 1\n") && !all.contains("thread 0\n"), "{all}");
    filter(&mut harness, "of nothing");
    assert!(texts(&harness).contains("No lane is called"), "{}", texts(&harness));
    harness.get_by_label("Show all").click();
    harness.run_steps(4);
    harness.get_by_label("thread 0");
}

#[test]
fn tokens_are_selected_one_after_the_other_and_in_runs() {
    let mut harness = harness();
    let tokens: Vec<TimeRange> = opened(&harness).trace.tokens.iter().map(|token| token.range).collect();
    apply(&mut harness, Command::SelectRange(tokens[4]));
    press(&mut harness, Key::Period);
    assert_eq!(opened(&harness).range, Some(tokens[5]));
    press(&mut harness, Key::Comma);
    press(&mut harness, Key::Comma);
    assert_eq!(opened(&harness).range, Some(tokens[3]));
    apply(&mut harness, Command::ZoomTo(TimeRange::new(tokens[10].begin, tokens[20].end)));
    let ruler = harness.get_by_label("token ruler").rect();
    let view = opened(&harness).view;
    let at = |range: TimeRange| {
        let x = ruler.left() + view.x_from_time(range.begin + range.nanos() / 2);
        egui::pos2(x, ruler.center().y)
    };
    harness.drag_at(at(tokens[12]));
    harness.step();
    harness.hover_at(at(tokens[13]));
    harness.step();
    harness.hover_at(at(tokens[15]));
    harness.step();
    harness.drop_at(at(tokens[15]));
    harness.run_steps(3);
    assert_eq!(opened(&harness).range, Some(TimeRange::new(tokens[12].begin, tokens[15].end)));
}

#[test]
fn spans_in_sight_are_items_with_names_and_can_be_walked_by_keys() {
    let mut harness = harness();
    // Everything in sight: folded bars and tokens, and no more than some hundreds.
    let all = items(&harness);
    assert!(all.iter().any(|name| name.starts_with("token d")), "{all:?}");
    let whole = texts(&harness);
    assert!(whole.contains("in sight ") && whole.contains(" nodes: computing "), "{whole}");
    assert!(all.len() <= 240, "{}", all.len());
    let token = opened(&harness).trace.tokens[7].range;
    let part = TimeRange::new(token.begin + token.nanos() / 2, token.begin + token.nanos() / 2 + 200_000);
    apply(&mut harness, Command::ZoomTo(part));
    press(&mut harness, Key::ArrowRight);
    let first = opened(&harness).selected.unwrap();
    let other = |harness: &Harness<'_, ViewerApp>| opened(harness).selected.unwrap();
    press(&mut harness, Key::ArrowDown);
    let below = other(&harness);
    assert_ne!(below.place.lane, first.place.lane);
    assert_eq!(below.span.node, first.span.node);
    press(&mut harness, Key::ArrowUp);
    assert_eq!(other(&harness).place, first.place);
    press(&mut harness, Key::ArrowRight);
    assert_eq!(other(&harness).place.index, first.place.index + 1);
    // A screen reader's click selects.
    let labels_of = |harness: &Harness<'_, ViewerApp>, selected: bool| {
        let found = harness.query_all_by_role(Role::ListBoxOption);
        let of = found.filter(|node| node.accesskit_node().is_selected() == Some(selected));
        let labels = of.filter_map(|node| node.accesskit_node().label());
        labels.filter(|label| label.contains(": computing ")).collect::<Vec<String>>()
    };
    let wanted = labels_of(&harness, false).into_iter().find(|label| !label.contains(" nodes: ")).unwrap();
    harness.query_all_by_label(&wanted).next().unwrap().click_accesskit();
    harness.run_steps(3);
    let now = labels_of(&harness, true);
    assert!(now.contains(&wanted), "{wanted}: {now:?}");
}

/// Presses at the first place, moves to the others, and calls `each` before the release.
fn drag(
    harness: &mut Harness<'_, ViewerApp>,
    places: &[egui::Pos2],
    mut each: impl FnMut(&Harness<'_, ViewerApp>),
) {
    let button = |pos, pressed| egui::Event::PointerButton {
        pos,
        button: egui::PointerButton::Primary,
        pressed,
        modifiers: Modifiers::NONE,
    };
    let (first, last) = (places[0], places[places.len() - 1]);
    harness.event(egui::Event::PointerMoved(first));
    harness.step();
    harness.event(button(first, true));
    harness.step();
    for place in places {
        harness.event(egui::Event::PointerMoved(*place));
        // What was dragged to is seen in the frame after.
        harness.run_steps(2);
        each(harness);
    }
    harness.event(button(last, false));
    harness.run_steps(3);
}

#[test]
fn the_window_is_dragged_and_resized_in_the_minimap() {
    let mut harness = harness();
    let tokens: Vec<TimeRange> = opened(&harness).trace.tokens.iter().map(|token| token.range).collect();
    apply(&mut harness, Command::ZoomTo(TimeRange::new(tokens[10].begin, tokens[30].end)));
    let map = harness.get_by_role_and_label(Role::ScrollBar, "minimap").rect();
    let view = |harness: &Harness<'_, ViewerApp>| opened(harness).view;
    let before = view(&harness);
    let whole = before.whole_with_room().with_width(map.width());
    let x = |time: u64| map.left() + whole.x_from_time(time);
    let at = |x: f32| egui::pos2(x, map.center().y);
    let near = |time: u64, other: u64| time.abs_diff(other) <= whole.nanos_from_pixels(2.0);
    // By its middle it moves, as long as it is.
    let sight = before.range();
    let middle = (x(sight.begin) + x(sight.end)) / 2.0;
    let places = [0.0, 20.0, 40.0, 60.0].map(|more| at(middle + more));
    drag(&mut harness, &places, |_| {});
    let moved = view(&harness);
    assert!((moved.nanos() - before.nanos()).abs() < 2.0);
    assert!(near(moved.range().begin, sight.begin + whole.nanos_from_pixels(60.0)), "{moved:?} {before:?}");
    // By its right edge it is made longer.
    let sight = moved.range();
    let edge = x(sight.end);
    drag(&mut harness, &[at(edge), at(edge + 15.0), at(edge + 30.0)], |_| {});
    let longer = view(&harness);
    assert!(near(longer.range().begin, sight.begin) && longer.nanos() > moved.nanos());
    assert!(near(longer.range().end, sight.end + whole.nanos_from_pixels(30.0)), "{longer:?}");
    // Beside it a new one is drawn, and a click moves that.
    let (from, to) = (x(tokens[0].begin), x(tokens[2].end));
    drag(&mut harness, &[at(from), at((from + to) / 2.0), at(to)], |_| {});
    let new = view(&harness).range();
    assert!(near(new.begin, tokens[0].begin) && near(new.end, tokens[2].end), "{new:?}");
    let far = x(tokens[50].begin);
    drag(&mut harness, &[at(far)], |_| {});
    assert!(view(&harness).range().contains(tokens[50].begin), "{:?}", view(&harness));
}

#[test]
fn totals_follow_the_pointer_while_a_range_is_dragged() {
    let mut harness = harness();
    let tokens: Vec<TimeRange> = opened(&harness).trace.tokens.iter().map(|token| token.range).collect();
    apply(&mut harness, Command::ZoomTo(TimeRange::new(tokens[10].begin, tokens[20].end)));
    let lane = harness.get_by_label("thread 0").rect();
    let view = opened(&harness).view;
    let at = |time: u64| egui::pos2(lane.right() - view.width() + view.x_from_time(time), lane.center().y);
    let places = [10, 12, 15, 19].map(|token: usize| at(tokens[token].begin + tokens[token].nanos() / 2));
    let mut seen = Vec::new();
    drag(&mut harness, &places, |harness| {
        let Some(range) = opened(harness).range else { return };
        let all = texts(harness);
        assert!(all.contains("Range of ") && all.contains("Totals by operator"), "{all}");
        let computing = all.lines().find(|line| line.starts_with("all threads: computing ")).unwrap();
        seen.push((range.nanos(), computing.to_owned()));
    });
    // Before the button was released.
    assert_eq!(seen.len(), 3, "{seen:?}");
    assert!(seen.is_sorted_by(|a, b| a.0 < b.0 && a.1 != b.1), "{seen:?}");
    assert_eq!(opened(&harness).range.map(|range| range.nanos()), seen.last().map(|seen| seen.0));
}

#[test]
fn the_wheel_zooms_at_the_pointer_down_to_a_nanosecond() {
    use egui::{MouseWheelSource, MouseWheelUnit, TouchPhase};
    let mut harness = harness();
    let lane = harness.get_by_label("thread 0").rect();
    let wheel = |harness: &mut Harness<'_, ViewerApp>, points: f32| {
        let (unit, phase, source) = (MouseWheelUnit::Point, TouchPhase::Move, MouseWheelSource::Wheel);
        let (delta, modifiers) = (egui::vec2(0.0, points), Modifiers::NONE);
        harness.event(egui::Event::MouseWheel { unit, delta, phase, source, modifiers });
        harness.run_steps(12);
    };
    let width = opened(&harness).view.width();
    let pointer = egui::pos2(lane.right() - width * 0.4, lane.center().y);
    harness.event(egui::Event::PointerMoved(pointer));
    harness.run_steps(2);
    let under = |harness: &Harness<'_, ViewerApp>| opened(harness).view.time_from_x(width * 0.6);
    let first = under(&harness);
    let mut last = opened(&harness).view.nanos();
    for _ in 0..80 {
        let (time, slack) = (under(&harness), opened(&harness).view.nanos_from_pixels(1.0) + 1);
        wheel(&mut harness, 300.0);
        let now = opened(&harness).view.nanos();
        assert!(now <= last, "{now} {last}");
        assert!(under(&harness).abs_diff(time) <= slack, "{} {time} {slack}", under(&harness));
        last = now;
    }
    assert!(under(&harness).abs_diff(first) < 1000);
    // A nanosecond is wide enough to be seen, and the whole trace is some turns away.
    let deepest = opened(&harness).view;
    assert!(deepest.nanos_per_pixel() < 0.05, "{deepest:?}");
    for _ in 0..80 {
        wheel(&mut harness, -300.0);
    }
    assert!(opened(&harness).view.nanos() >= opened(&harness).trace.range().nanos() as f64);
}
