//! Hostile files in the app, without a display: each page is drawn, and nothing odd is shown.

mod sample;

use llmtrace_testing::hostile;
use llmtrace_viewer::command::Command;
use llmtrace_viewer::state::Page;
use sample::{harness, harness_of, texts};

#[test]
fn hostile_files_are_drawn_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    for file in hostile::all().unwrap() {
        // A million spans take a while without optimisation.
        if file.name == "constant-spans" {
            continue;
        }
        let path = folder.path().join(format!("{}.llmtrace", file.name));
        std::fs::write(&path, &file.bytes).unwrap();
        for page in [Page::Timeline, Page::Overview, Page::Operators, Page::Graph] {
            let harness = harness_of(&path, page, 720.0);
            let all = texts(&harness);
            let odd = all.chars().find(|c| {
                (c.is_control() && *c != '\n' && *c != '\t')
                    || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
            });
            assert_eq!(odd, None, "{} {page:?}: {}", file.name, all.escape_debug());
        }
    }
}

#[test]
fn real_names_are_shown_as_they_are() {
    let harness = harness("gemma3-270m-1t.llmtrace", Page::Overview, 720.0);
    let all = texts(&harness);
    assert!(all.contains("gemma-3-270m") && !all.contains("\\u{"), "{all}");
}

#[test]
fn who_finds_nothing_is_told_that_names_are_missing() {
    let folder = tempfile::tempdir().unwrap();
    let files = hostile::all().unwrap();
    let path = folder.path().join("bomb.llmtrace");
    let file = files.iter().find(|file| file.name == "strings-bomb").unwrap();
    std::fs::write(&path, &file.bytes).unwrap();
    let find = |mut harness: egui_kittest::Harness<'_, llmtrace_viewer::app::ViewerApp>| {
        let context = harness.ctx.clone();
        harness.state_mut().apply(&context, Command::FindFor("no such node".into()));
        harness.run_steps(8);
        texts(&harness)
    };
    let told = "nothing found; descriptions of nodes are missing from the file";
    let said = find(harness_of(&path, Page::Timeline, 720.0));
    assert!(said.contains(told), "{said}");
    let said = find(harness("gemma3-270m-1t.llmtrace", Page::Timeline, 720.0));
    assert!(said.contains("nothing found") && !said.contains(told), "{said}");
}
