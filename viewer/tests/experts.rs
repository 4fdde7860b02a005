//! The page of experts, without a display.

mod sample;

use egui_kittest::Harness;
use egui_kittest::kittest::Queryable;
use llmtrace_viewer::app::ViewerApp;
use llmtrace_viewer::state::Page;
use sample::texts;

fn harness(sample: &str) -> Harness<'static, ViewerApp> {
    sample::harness(sample, Page::Experts, 1000.0)
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
