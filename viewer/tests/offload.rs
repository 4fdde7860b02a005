//! Lanes of backends, without a display.

use egui::{pos2, vec2};
use egui_kittest::Harness;
use egui_kittest::kittest::{NodeT, Queryable};
use llmtrace_viewer::app::ViewerApp;
use llmtrace_viewer::command::Command;
use llmtrace_viewer::memo::Jobs;
use llmtrace_viewer::recent::Store;
use llmtrace_viewer::state::Page;
use std::path::Path;

fn texts(harness: &Harness<'_, ViewerApp>) -> String {
    let mut all = String::new();
    let mut nodes = vec![harness.root()];
    while let Some(node) = nodes.pop() {
        let access = node.accesskit_node();
        for text in [access.label(), access.value()].into_iter().flatten() {
            all.push_str(&text);
            all.push('\n');
        }
        nodes.extend(node.children());
    }
    all
}

fn harness(sample: &str) -> Harness<'static, ViewerApp> {
    let mut harness = Harness::builder()
        .with_size(vec2(1280.0, 720.0))
        .with_max_steps(60)
        .build_eframe(|creation| ViewerApp::new(&creation.egui_ctx, Store::default(), Jobs::Inline));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sample-traces").join(sample);
    let context = harness.ctx.clone();
    harness.state_mut().open(&context, path);
    harness.run_steps(3);
    harness.state_mut().apply(&context, Command::Show(Page::Timeline));
    harness.run_steps(3);
    harness
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
