//! Lanes of backends, without a display.

mod sample;

use egui::pos2;
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable;
use llmtrace_viewer::app::ViewerApp;
use llmtrace_viewer::command::Command;
use llmtrace_viewer::state::Page;
use sample::texts;

fn harness(sample: &str) -> Harness<'static, ViewerApp> {
    sample::harness(sample, Page::Timeline, 720.0)
}

#[test]
fn a_split_of_a_device_says_that_its_time_is_bounded_by_host_calls() {
    let mut harness = harness("gemma3-270m-vulkan9-2t.llmtrace");
    let trace = &harness.state().state.open().expect("a trace is open").trace;
    let lane = trace
        .offload
        .lanes
        .iter()
        .find(|lane| lane.splits.iter().any(|(split, _)| split.graph_span == u32::MAX));
    let (split, _) = *lane.expect("a device").splits.last().unwrap();
    let context = harness.ctx.clone();
    let range = llmtrace_analysis::TimeRange::new(split.begin, split.end);
    harness.state_mut().apply(&context, Command::ZoomTo(range));
    harness.run_steps(3);
    assert!(texts(&harness).contains("CPU"));
    let row = harness.get_by_label("Vulkan0").rect();
    harness.hover_at(pos2(row.center().x, row.top() + 8.0));
    harness.run_steps(12);
    let texts = texts(&harness);
    assert!(texts.contains("split on Vulkan0"), "{texts}");
    assert!(texts.contains("bounded by host calls"), "{texts}");
    assert!(texts.contains("inputs copied"), "{texts}");
}

#[test]
fn one_backend_has_no_lane_of_its_own() {
    let harness = harness("gemma3-270m-2t.llmtrace");
    assert!(!texts(&harness).lines().any(|line| line == "CPU"));
}
