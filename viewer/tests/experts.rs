//! The page of experts, without a display.

mod sample;

use egui::pos2;
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable;
use llmtrace_analysis::Phase;
use llmtrace_analysis::experts::chosen;
use llmtrace_viewer::app::ViewerApp;
use llmtrace_viewer::command::Command;
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
fn the_timeline_says_which_experts_a_token_got() {
    let mut harness = sample::harness("qwen3moe-synthetic-2t.llmtrace", Page::Timeline, 720.0);
    let trace = &harness.state().state.open().expect("a trace is open").trace;
    let token = *trace.tokens.iter().rfind(|token| token.phase == Phase::Decode).expect("a token");
    let rows = chosen(trace, token.range, usize::MAX);
    let of_layer =
        |layer: u32| rows.iter().find(|row| row.layer == Some(layer)).expect("a layer").chosen.clone();
    let (first, last) = (of_layer(0), of_layer(7));
    assert_ne!(first, last);
    let context = harness.ctx.clone();
    harness.state_mut().apply(&context, Command::ZoomTo(token.range));
    harness.run_steps(3);
    let row = harness.get_by_label("experts").rect();
    for (y, layer, experts) in [(row.top() + 2.0, 0, first), (row.bottom() - 2.0, 7, last)] {
        harness.hover_at(pos2(row.center().x, y));
        harness.run_steps(12);
        let texts = texts(&harness);
        assert!(texts.contains(&format!("layer {layer}")) && texts.contains("4 of 32 experts:"), "{texts}");
        for expert in experts {
            assert!(texts.lines().any(|line| line == format!("expert {expert}")), "{expert}: {texts}");
        }
        assert!(!texts.contains("zoom in to see each token"), "{texts}");
    }
}

#[test]
fn the_lane_of_experts_folds() {
    let mut harness = sample::harness("qwen3moe-synthetic-2t.llmtrace", Page::Timeline, 720.0);
    let height = |harness: &Harness<'_, ViewerApp>| harness.get_by_label("experts").rect().height();
    let whole = height(&harness);
    harness.get_by_label("fold experts").click();
    harness.run_steps(3);
    let folded = height(&harness);
    assert!(folded * 3.0 < whole, "{folded} of {whole}");
    harness.get_by_label("unfold experts").click();
    harness.run_steps(3);
    assert_eq!(height(&harness), whole);
}

#[test]
fn a_dense_model_has_no_lane_of_experts() {
    let harness = sample::harness("gemma3-270m-2t.llmtrace", Page::Timeline, 720.0);
    assert!(!texts(&harness).lines().any(|line| line == "experts"));
}

#[test]
fn a_dense_model_says_that_it_has_none() {
    let text = texts(&harness("gemma3-270m-2t.llmtrace"));
    assert!(text.contains("no experts") || text.contains("No experts"), "{text}");
}
