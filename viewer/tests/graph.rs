//! The page of the compute graph, without a display.
#![expect(clippy::unwrap_used, reason = "tests may panic")]

mod sample;

use egui::Key;
use egui::accesskit::Role;
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable;
use llmtrace_viewer::app::ViewerApp;
use llmtrace_viewer::command::Command;
use llmtrace_viewer::seek::Seek;
use llmtrace_viewer::state::{Open, Page};
use sample::texts;

fn harness(sample: &str) -> Harness<'static, ViewerApp> {
    sample::harness(sample, Page::Graph, 900.0)
}

fn opened<'a>(harness: &'a Harness<'_, ViewerApp>) -> &'a Open {
    harness.state().state.open().unwrap()
}

fn press(harness: &mut Harness<'_, ViewerApp>, key: Key) {
    harness.key_press(key);
    harness.run_steps(3);
}

#[test]
fn layers_are_folded_and_expand_in_place_down_to_nodes() {
    let mut harness = harness("gemma3-270m-2t.llmtrace");
    let folded = texts(&harness);
    assert!(folded.contains("layers 0–16  ×17"), "{folded}");
    assert!(folded.contains("result_output MUL_MAT"), "{folded}");
    assert!(!folded.contains("ffn_up-3"), "{folded}");
    // To the stack, into it, into a layer, into its first block with others.
    press(&mut harness, Key::ArrowDown);
    press(&mut harness, Key::ArrowDown);
    assert!(texts(&harness).contains("each layer"), "{}", texts(&harness));
    press(&mut harness, Key::Enter);
    assert!(texts(&harness).contains("layer 1 "), "{}", texts(&harness));
    press(&mut harness, Key::Enter);
    let blocks = texts(&harness);
    assert!(blocks.contains("attention ") && blocks.contains("ffn "), "{blocks}");
    press(&mut harness, Key::Backspace);
    assert!(!texts(&harness).contains("attention "), "{}", texts(&harness));
    harness.get_by_label("Fold all").click();
    harness.run_steps(4);
    assert!(texts(&harness).contains("layers 0–16  ×17"));
}

#[test]
fn a_node_that_is_found_is_selected_everywhere_and_the_other_way_round() {
    let mut harness = harness("gemma3-270m-2t.llmtrace");
    harness.get_by_label("Find in the graph").focus();
    harness.run_steps(2);
    harness.get_by_label("Find in the graph").type_text("ffn_up-7");
    harness.run_steps(3);
    harness.get_by_label("Next").click();
    harness.run_steps(4);
    let all = texts(&harness);
    assert!(all.contains("ffn_up-7 MUL_MAT"), "{all}");
    // Selected on the timeline, it is shown here.
    let context = harness.ctx.clone();
    let (key, lane, time) = {
        let open = opened(&harness);
        let nodes = open.trace.nodes().unwrap();
        let node = nodes.iter().find(|node| node.key.as_ref().is_some_and(|key| key.name == "ffn_gate-11"));
        (node.unwrap().key.clone().unwrap(), node.unwrap().lane, node.unwrap().first)
    };
    harness.state_mut().apply(&context, Command::Seek(Seek::First { key, lane, time }));
    harness.run_steps(2);
    assert_eq!(harness.state().state.page, Page::Timeline);
    harness.state_mut().apply(&context, Command::Show(Page::Graph));
    harness.run_steps(4);
    let all = texts(&harness);
    assert!(all.contains("ffn_gate-11 MUL_MAT"), "{all}");
    assert!(all.contains("On each thread"), "{all}");
}

#[test]
fn heat_critical_path_and_one_token() {
    let mut harness = harness("qwen3moe-synthetic-2t.llmtrace");
    for (label, says) in
        [("wait", "waits "), ("bytes", " KiB"), ("roof", "roof"), ("critical path", "critical path ")]
    {
        // The panel beside it has buttons of the same name for the timeline's colours.
        let found = harness.get_all_by_role_and_label(Role::Button, label);
        found.min_by(|a, b| a.rect().top().total_cmp(&b.rect().top())).unwrap().click();
        harness.run_steps(4);
        assert!(texts(&harness).contains(says), "{label}: {}", texts(&harness));
    }
    harness.get_by_label("one token").click();
    harness.run_steps(4);
    harness.get_by_label("Expand all").click();
    harness.run_steps(4);
    let shown = texts(&harness);
    assert!(shown.contains("compute graph"), "{shown}");
}

#[test]
fn without_graphs_it_says_why() {
    use llmtrace_analysis::format::tables::GraphSpan;
    use llmtrace_analysis::format::{Header, Writer};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("graphless.llmtrace");
    let mut writer = Writer::new(std::fs::File::create(&path).unwrap(), Header::new(1, 1)).unwrap();
    writer.push_graph_span(GraphSpan { begin: 5, end: 9, ..GraphSpan::default() });
    writer.finish(&Default::default()).unwrap();
    let mut harness = harness("gemma3-270m-2t.llmtrace");
    let context = harness.ctx.clone();
    harness.state_mut().open(&context, path);
    harness.run_steps(4);
    let text = texts(&harness);
    assert!(text.contains("1 computations of graphs were recorded, but not what"), "{text}");
}

#[test]
fn splits_of_a_scheduler_are_steps_from_backend_to_backend() {
    let mut harness = harness("gemma3-270m-vulkan9-2t.llmtrace");
    let all = texts(&harness);
    assert!(all.contains("given to") && all.contains("CPU (401 nodes)"), "{all}");
    harness.get_by_label("Vulkan0 (325 nodes)").click();
    harness.run_steps(4);
    let device = texts(&harness);
    // No op spans come from a device: that is said, and nothing is made up.
    assert!(device.contains("325 nodes") && device.contains("costs are unknown"), "{device}");
}

#[test]
fn two_tokens_are_held_against_each_other() {
    let mut harness = harness("gemma3-270m-2t.llmtrace");
    let tokens: Vec<_> = opened(&harness).trace.tokens.iter().map(|token| token.range).collect();
    let context = harness.ctx.clone();
    harness.state_mut().apply(&context, Command::SelectRange(tokens[5]));
    harness.run_steps(3);
    harness.get_by_label("selected range").click();
    harness.run_steps(3);
    harness.get_by_label("Keep to compare").click();
    harness.run_steps(3);
    // With itself there is no difference.
    assert!(texts(&harness).contains("(+0.0 %), of nodes in both"), "{}", texts(&harness));
    harness.state_mut().apply(&context, Command::SelectRange(tokens[30]));
    harness.run_steps(4);
    let all = texts(&harness);
    assert!(all.contains("compared with the selected range of graph"), "{all}");
    assert!(!all.contains("(+0.0 %), of nodes in both"), "{all}");
    assert!(all.contains("layers 0–16  ×17  ") && all.contains(" %  "), "{all}");
    harness.get_by_label("Stop comparing").click();
    harness.run_steps(3);
    assert!(!texts(&harness).contains("compared with"));
}
