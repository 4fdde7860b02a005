//! Traces that lack things: every page says what is missing and why, instead of being empty.
#![expect(clippy::unwrap_used, reason = "tests may panic")]

mod made;
#[path = "sample/texts.rs"]
mod texts;

use egui::Key;
use egui_kittest::Harness;
use llmtrace_analysis::format::meta::Level;
use llmtrace_viewer::app::ViewerApp;
use llmtrace_viewer::command::Command;
use llmtrace_viewer::state::Page;
use made::Made;
use texts::texts;

const PAGES: [Page; 7] = [
    Page::Overview,
    Page::Timeline,
    Page::Operators,
    Page::Graph,
    Page::Experts,
    Page::Counters,
    Page::Roofline,
];

/// What a page says.
fn page(harness: &mut Harness<'_, ViewerApp>, page: Page) -> String {
    let context = harness.ctx.clone();
    harness.state_mut().apply(&context, Command::Show(page));
    harness.run_steps(4);
    texts(harness)
}

fn says(harness: &mut Harness<'_, ViewerApp>, of: Page, wanted: &str) {
    let all = page(harness, of);
    assert!(all.contains(wanted), "{of:?} does not say {wanted:?}: {all}");
}

#[test]
fn without_graphs_nodes_are_unknown_and_it_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let mut harness = Made { graphs: false, ..Made::default() }.open(folder.path());
    says(&mut harness, Page::Overview, "unknown");
    says(
        &mut harness,
        Page::Graph,
        "12 computations of graphs were recorded, but not what the graphs consist of",
    );
    says(&mut harness, Page::Operators, "unknown: 100.0 %");
    says(&mut harness, Page::Timeline, "thread 1\n");
    says(&mut harness, Page::Roofline, "no ceilings of its host");
}

#[test]
fn without_threads_each_page_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let made = Made { operators: |_| false, level: Level::Graph, ..Made::default() };
    let mut harness = made.open(folder.path());
    says(&mut harness, Page::Timeline, "No threads: operators are not recorded at level graph");
    says(&mut harness, Page::Operators, "No op spans were recorded");
    says(&mut harness, Page::Overview, "no op spans were recorded");
    says(&mut harness, Page::Graph, "costs are unknown");
    says(&mut harness, Page::Counters, "Nothing was counted or sampled");
    says(&mut harness, Page::Experts, "No experts");
    says(&mut harness, Page::Roofline, "No roofline");
}

#[test]
fn one_token_is_enough_for_every_page() {
    let folder = tempfile::tempdir().unwrap();
    let mut harness = Made { tokens: 1, ..Made::default() }.open(folder.path());
    says(&mut harness, Page::Overview, "d0: ");
    says(&mut harness, Page::Timeline, "token d0");
    says(&mut harness, Page::Operators, "MUL_MAT: 100.0 %");
    says(&mut harness, Page::Graph, "computed once");
    // Its neighbours are itself.
    harness.key_press(Key::Period);
    harness.run_steps(3);
    for of in PAGES {
        assert!(page(&mut harness, of).len() > 60, "{of:?}");
    }
}

#[test]
fn nothing_at_all_is_said_to_be_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut harness = Made { tokens: 0, threads: 0, graphs: false, ..Made::default() }.open(folder.path());
    says(&mut harness, Page::Timeline, "Nothing was recorded");
    says(&mut harness, Page::Overview, "no token was decoded");
    says(&mut harness, Page::Graph, "No computation of a graph was recorded");
}

#[test]
fn as_many_names_as_executions_are_found_and_listed() {
    let folder = tempfile::tempdir().unwrap();
    let made = Made {
        tokens: 60,
        nodes: 80,
        threads: 1,
        name: |token, node| format!("node {token}/{node}"),
        ..Made::default()
    };
    let mut harness = made.open(folder.path());
    let context = harness.ctx.clone();
    harness.state_mut().apply(&context, Command::FindFor("/79".into()));
    harness.run_steps(4);
    assert!(texts(&harness).contains("60 nodes"), "{}", texts(&harness));
    for of in PAGES {
        let all = page(&mut harness, of);
        // What is in sight is announced, not all that there is.
        assert!(all.lines().count() < 2000, "{of:?}: {}", all.lines().count());
    }
}

#[test]
fn a_hundred_thousand_names_cost_a_frame_no_more_than_a_few() {
    let folder = tempfile::tempdir().unwrap();
    let few =
        Made { tokens: 5, nodes: 20, threads: 1, name: |_, node| format!("node {node}"), ..Made::default() };
    let many = Made {
        tokens: 60,
        nodes: 2000,
        threads: 1,
        // As long a file as names that say something make: readers bound what a short one claims.
        name: |token, node| {
            let mixed =
                u128::from(token * 2000 + node + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
            format!("node {token}/{node} {:032x}", mixed ^ (mixed >> 61))
        },
        ..Made::default()
    };
    let times = |made: &Made| {
        let mut harness = made.open(folder.path());
        let frame = |of: Page| {
            // The first frames wait for what the page asks for; each of these is one like another.
            let all = page(&mut harness, of);
            assert!(all.len() > 60 && all.lines().count() < 2000, "{of:?}: {}", all.lines().count());
            let best = (0..5).map(|_| {
                let begin = std::time::Instant::now();
                harness.run_steps(1);
                begin.elapsed()
            });
            best.min().unwrap()
        };
        let times = PAGES.map(frame);
        (harness, times)
    };
    let (_, small) = times(&few);
    let (mut harness, large) = times(&many);
    for ((of, small), large) in PAGES.iter().zip(small).zip(large) {
        eprintln!("{of:?}: {small:?} with 20 names, {large:?} with 120,000");
        // More is in sight, but not six thousand times as much.
        assert!(large < small * 10 + std::time::Duration::from_millis(50), "{of:?}: {small:?}, {large:?}");
    }
    let context = harness.ctx.clone();
    harness.state_mut().apply(&context, Command::FindFor("59/1999 ".into()));
    harness.run_steps(4);
    assert!(texts(&harness).contains("1 node, Enter"), "{}", texts(&harness));
    harness.key_press(Key::Enter);
    harness.run_steps(4);
    let open = harness.state().state.open().unwrap();
    assert!(open.name(&open.selected.unwrap().span).starts_with("node 59/1999 "));
}

#[test]
fn a_file_that_was_cut_short_is_shown_with_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let made = Made::default();
    let bytes = made.bytes();
    let path = folder.path().join("short.llmtrace");
    let mut harness = made.open(folder.path());
    // Without the last block, the footer and the trailer.
    std::fs::write(&path, &bytes[..bytes.len() - 400]).unwrap();
    let context = harness.ctx.clone();
    harness.state_mut().open(&context, path);
    harness.run_steps(4);
    for of in PAGES {
        let all = page(&mut harness, of);
        assert!(all.contains('⚠'), "{of:?}: {all}");
    }
}
