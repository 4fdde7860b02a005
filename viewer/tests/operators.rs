//! The page of operators, without a display: drill down, brush, mark, compare.
#![expect(clippy::unwrap_used, reason = "tests may panic")]

mod sample;

use egui::accesskit::Role;
use egui::{Event, Modifiers, PointerButton, Pos2, Rect, vec2};
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable;
use llmtrace_viewer::app::ViewerApp;
use llmtrace_viewer::command::Command;
use llmtrace_viewer::state::Page;
use sample::texts;

fn harness() -> Harness<'static, ViewerApp> {
    sample::harness("gemma3-270m-2t.llmtrace", Page::Operators, 1400.0)
}

fn button(harness: &mut Harness<'_, ViewerApp>, pos: Pos2, pressed: bool) {
    harness.event(Event::PointerMoved(pos));
    let (button, modifiers) = (PointerButton::Primary, Modifiers::NONE);
    harness.event(Event::PointerButton { pos, button, pressed, modifiers });
    harness.step();
}

fn click(harness: &mut Harness<'_, ViewerApp>, pos: Pos2) {
    // Two clicks close together would be a double click.
    harness.run_steps(30);
    button(harness, pos, true);
    button(harness, pos, false);
    harness.run_steps(3);
}

fn row(harness: &Harness<'_, ViewerApp>, begins: &str) -> Rect {
    let found = harness.get_all_by_role(Role::Row);
    let mut of = found.filter(|node| {
        use egui_kittest::kittest::NodeT;
        node.accesskit_node().label().is_some_and(|label| label.starts_with(begins))
    });
    of.next().unwrap().rect()
}

#[test]
fn from_an_operator_down_to_single_executions() {
    let mut harness = harness();
    let all = texts(&harness);
    for text in ["MUL_MAT: 9", "FLASH_ATTN_EXT", "p99", "On each thread", "Longest executions"] {
        assert!(all.contains(text), "{text} is missing: {all}");
    }
    let into = |harness: &mut Harness<'_, ViewerApp>, begins: &str| {
        // The arrow stands between swatch and name.
        let at = row(harness, begins).left_center() + vec2(26.0, 0.0);
        click(harness, at);
    };
    into(&mut harness, "MUL_MAT");
    assert!(texts(&harness).contains("ffn_up: "), "{}", texts(&harness));
    into(&mut harness, "ffn_up:");
    let nodes = texts(&harness);
    assert!(nodes.contains("ffn_up-7: ") && nodes.contains("ffn_up-0: "), "{nodes}");
    let at = row(&harness, "ffn_up-7:").center();
    click(&mut harness, at);
    let node = texts(&harness);
    // 73 tokens: one prefill and what was decoded.
    assert!(node.contains("ffn_up-7\n"), "{node}");
    harness.get_by_label("All").click();
    harness.run_steps(3);
    assert!(texts(&harness).contains("FLASH_ATTN_EXT: "));
}

#[test]
fn brushed_durations_are_marked_on_the_timeline() {
    let mut harness = harness();
    harness.get_by_label("decode").click();
    harness.run_steps(3);
    let beside = harness.get_by_label("log counts").rect();
    let y = beside.bottom() + 80.0;
    let left = harness.get_by_label("log").rect().left();
    let (from, to) = (left + 160.0, left + 260.0);
    button(&mut harness, Pos2::new(from, y), true);
    for step in 1..=10 {
        harness.event(Event::PointerMoved(Pos2::new(from + (to - from) * step as f32 / 10.0, y)));
        harness.step();
    }
    button(&mut harness, Pos2::new(to, y), false);
    harness.run_steps(3);
    harness.get_by_label("Show on the timeline").click();
    harness.run_steps(4);
    assert_eq!(harness.state().state.page, Page::Timeline);
    let open = harness.state().state.open().unwrap();
    let highlight = open.highlight.clone().unwrap();
    assert!(!highlight.ranges.is_empty() && highlight.ranges.is_sorted_by_key(|range| range.begin));
    let walls: Vec<u64> = highlight.ranges.iter().map(|range| range.nanos()).collect();
    let (low, high) = (walls.iter().min().unwrap(), walls.iter().max().unwrap());
    assert!(*high < low * 40, "{low} to {high}");
    // From one to the next and back.
    let middle = |harness: &Harness<'_, ViewerApp>| {
        let view = harness.state().state.open().unwrap().view;
        view.time_from_x(view.width() / 2.0)
    };
    let before = middle(&harness);
    harness.key_press(egui::Key::N);
    harness.run_steps(3);
    let after = middle(&harness);
    assert!(after > before);
    assert!(
        highlight.ranges.iter().any(|range| range.begin <= after + 50_000 && after <= range.end + 50_000)
    );
    harness.key_press_modifiers(Modifiers::SHIFT, egui::Key::N);
    harness.run_steps(3);
    assert!(middle(&harness) < after);
    harness.key_press(egui::Key::Escape);
    harness.run_steps(2);
    assert_eq!(harness.state().state.open().unwrap().highlight, None);
}

#[test]
fn two_selections_are_compared() {
    let mut harness = harness();
    harness.get_by_label("prefill").click();
    harness.run_steps(3);
    harness.get_by_label("Keep to compare").click();
    harness.run_steps(3);
    harness.get_by_label("decode").click();
    harness.run_steps(3);
    let all = texts(&harness);
    assert!(all.contains("all rows, prefill") && all.contains("all rows, decode"), "{all}");
    assert!(all.contains("change\n") && all.contains(" %\n"), "{all}");
    harness.get_by_label("Stop comparing").click();
    harness.run_steps(3);
    assert!(!texts(&harness).contains("change\n"));
}

#[test]
fn a_filter_and_a_range_narrow_the_table() {
    let mut harness = harness();
    harness.get_by_role_and_label(Role::TextInput, "Filter").focus();
    harness.run_steps(2);
    harness.get_by_role_and_label(Role::TextInput, "Filter").type_text("ffn_gate");
    harness.run_steps(4);
    let all = texts(&harness);
    assert!(all.contains("MUL_MAT: 100.0 %") && !all.contains("FLASH_ATTN_EXT: "), "{all}");
    harness.get_by_label("Clear").click();
    harness.run_steps(3);
    let context = harness.ctx.clone();
    let token = harness.state().state.open().unwrap().trace.tokens[4];
    harness.state_mut().apply(&context, Command::SelectRange(token.range));
    harness.run_steps(2);
    harness.get_by_label("selected range").click();
    harness.run_steps(4);
    let rows = texts(&harness);
    assert!(rows.contains("MUL_MAT: "), "{rows}");
}

#[test]
fn without_op_spans_it_says_why_there_is_nothing() {
    use llmtrace_analysis::format::{Header, Writer};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("empty.llmtrace");
    let writer = Writer::new(std::fs::File::create(&path).unwrap(), Header::new(1, 1)).unwrap();
    writer.finish(&Default::default()).unwrap();
    let mut harness = harness();
    let context = harness.ctx.clone();
    harness.state_mut().open(&context, path);
    harness.run_steps(4);
    assert!(texts(&harness).contains("No op spans were recorded"), "{}", texts(&harness));
}

#[test]
fn rows_are_walked_by_keys_and_compared_in_the_table() {
    let mut harness = harness();
    let press = |harness: &mut Harness<'_, ViewerApp>, key| {
        harness.key_press(key);
        harness.run_steps(3);
    };
    harness.get_by_label("prefill").click();
    harness.run_steps(3);
    harness.get_by_label("Keep to compare").click();
    harness.run_steps(3);
    harness.get_by_label("decode").click();
    harness.run_steps(3);
    // Decoding one token takes less than prefilling many.
    let changes = texts(&harness);
    assert!(
        changes.lines().filter(|line| line.starts_with('-') && line.ends_with(" %")).count() > 4,
        "{changes}"
    );
    press(&mut harness, egui::Key::ArrowDown);
    press(&mut harness, egui::Key::ArrowDown);
    press(&mut harness, egui::Key::ArrowUp);
    let selected = |harness: &Harness<'_, ViewerApp>| {
        use egui_kittest::kittest::NodeT;
        let mut rows = harness.get_all_by_role(Role::Row);
        let row = rows.find(|row| row.accesskit_node().is_selected() == Some(true));
        row.and_then(|row| row.accesskit_node().label())
    };
    let first = selected(&harness).unwrap();
    assert!(first.starts_with("MUL_MAT: "), "{first}");
    press(&mut harness, egui::Key::Enter);
    assert!(texts(&harness).contains("ffn_up: "), "{}", texts(&harness));
    press(&mut harness, egui::Key::Backspace);
    assert_eq!(selected(&harness), Some(first));
}

#[test]
fn plots_and_tables_can_be_read_without_seeing_them() {
    let harness = harness();
    let count = |role| harness.query_all_by_role(role).count();
    assert!(count(Role::Figure) >= 2);
    let points = count(Role::GraphicsSymbol);
    assert!((20..200).contains(&points), "{points}");
    assert!(count(Role::Row) > 10);
    let all = texts(&harness);
    assert!(all.contains("wall times of executions") && all.contains("durations"), "{all}");
}

/// Places of the histogram's points, by what they say.
fn bars(harness: &Harness<'_, ViewerApp>) -> Vec<(String, Rect)> {
    use egui_kittest::kittest::NodeT;
    let frame = harness.get_by_role_and_label(Role::Figure, "durations").rect();
    let points = harness.query_all_by_role(Role::GraphicsSymbol);
    points
        .filter(|point| frame.contains(point.rect().center()))
        .map(|point| (point.accesskit_node().label().unwrap(), point.rect()))
        .collect()
}

#[test]
fn the_histogram_shows_counts_their_logarithms_and_sums() {
    let mut harness = harness();
    let press = |harness: &mut Harness<'_, ViewerApp>, label: &str| {
        harness.get_by_label(label).click();
        harness.run_steps(3);
    };
    let counts = bars(&harness);
    assert!(counts.len() > 10 && counts.iter().all(|(said, _)| said.contains(" of ")), "{counts:?}");
    let frame = harness.get_by_role_and_label(Role::Figure, "durations").rect();
    let lowest = |bars: &[(String, Rect)]| {
        bars.iter().map(|(_, rect)| rect.center().y).fold(f32::NEG_INFINITY, f32::max)
    };
    // Rare ones are hardly seen, until counts are logarithms.
    let rare = lowest(&counts);
    press(&mut harness, "log counts");
    let logarithms = bars(&harness);
    let said = |bars: &[(String, Rect)]| bars.iter().map(|(said, _)| said.clone()).collect::<Vec<_>>();
    assert_eq!(said(&counts), said(&logarithms), "the same counts");
    assert!(lowest(&logarithms) < rare - 4.0, "{} {rare} {frame}", lowest(&logarithms));
    press(&mut harness, "log counts");
    press(&mut harness, "cumulative");
    let sums = bars(&harness);
    assert!(sums.iter().all(|(said, _)| said.contains(" % take at most ")), "{sums:?}");
    assert!(sums.is_sorted_by(|a, b| a.1.center().x < b.1.center().x && a.1.center().y >= b.1.center().y));
    // Not every point is announced.
    assert!(sums.last().unwrap().0.starts_with("99.") || sums.last().unwrap().0.starts_with("100"));
    press(&mut harness, "cumulative");
    press(&mut harness, "linear");
    let linear = bars(&harness);
    assert_ne!(said(&linear), said(&counts));
    press(&mut harness, "log");
    assert_eq!(bars(&harness), counts);
}
