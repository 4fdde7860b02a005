//! The page of experts, without a display.

use egui::vec2;
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
        .with_size(vec2(1280.0, 1000.0))
        .with_max_steps(60)
        .build_eframe(|creation| ViewerApp::new(&creation.egui_ctx, Store::default(), Jobs::Inline));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sample-traces").join(sample);
    let context = harness.ctx.clone();
    harness.state_mut().open(&context, path);
    harness.run_steps(3);
    harness.state_mut().apply(&context, Command::Show(Page::Experts));
    harness.run_steps(3);
    harness
}

#[test]
fn layers_and_experts_are_shown_and_phases_tell_them_apart() {
    let mut harness = harness("qwen3moe-synthetic-2t.llmtrace");
    let all = texts(&harness);
    // 73 micro-batches, 8 layers each.
    assert!(all.contains("584 selections"), "{all}");
    assert!(all.contains("heat map of layers and experts"), "{all}");
    assert!(all.contains("4 of 32 experts a token"), "{all}");
    harness.get_by_label("decode").click();
    harness.run_steps(3);
    let decode = texts(&harness);
    assert!(decode.contains("568 selections"), "{decode}");
    harness.get_by_label("bytes read").click();
    harness.run_steps(3);
    assert!(texts(&harness).contains("MiB"), "{}", texts(&harness));
}

#[test]
fn a_dense_model_says_that_it_has_none() {
    let text = texts(&harness("gemma3-270m-2t.llmtrace"));
    assert!(text.contains("no experts") || text.contains("No experts"), "{text}");
}
