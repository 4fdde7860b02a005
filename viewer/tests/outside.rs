//! What leaves the app: copies, reports, pictures; and what it offers when nothing is open.

mod sample;

use egui::accesskit::Role;
use egui::{Event, Key, Modifiers, OutputCommand, ViewportCommand};
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable;
use llmtrace_viewer::app::ViewerApp;
use llmtrace_viewer::command::Command;
use llmtrace_viewer::copy::What;
use llmtrace_viewer::memo::Jobs;
use llmtrace_viewer::recent::Store;
use llmtrace_viewer::samples;
use llmtrace_viewer::save::Saving;
use llmtrace_viewer::state::{Document, Page};
use sample::texts;
use std::path::Path;
use std::sync::Arc;

type App = Harness<'static, ViewerApp>;

const TWO: &str = "gemma3-270m-2t.llmtrace";

fn apply(harness: &mut App, command: Command) {
    let context = harness.ctx.clone();
    harness.state_mut().apply(&context, command);
}

/// What is on the clipboard within some frames.
fn copied(harness: &mut App) -> String {
    for _ in 0..5 {
        harness.step();
        for command in &harness.output().platform_output.commands {
            if let OutputCommand::CopyText(text) = command {
                return text.clone();
            }
        }
    }
    panic!("nothing was copied on the page {:?}", harness.state().state.page);
}

#[test]
fn keys_copy_the_selection_in_words() {
    let mut harness = sample::harness(TWO, Page::Timeline, 720.0);
    let token = harness.state().state.open().unwrap().trace.tokens[5].range;
    apply(&mut harness, Command::SelectRange(token));
    harness.run_steps(2);
    harness.event(Event::Copy);
    let text = copied(&mut harness);
    assert!(
        text.starts_with("range ") && text.contains(&format!("from {} ns to {} ns", token.begin, token.end))
    );
    assert!(text.ends_with(TWO), "{text}");
    // A node.
    harness.key_press_modifiers(Modifiers::COMMAND, Key::K);
    harness.run_steps(4);
    harness.get_by_role_and_label(Role::TextInput, "Command").type_text("ffn_up-9");
    harness.run_steps(4);
    harness.key_press(Key::Enter);
    harness.run_steps(4);
    harness.event(Event::Copy);
    let text = copied(&mut harness);
    let span = harness.state().state.open().unwrap().selected.unwrap().span;
    assert!(text.starts_with("MUL_MAT ffn_up-9 on thread "), "{text}");
    assert!(text.contains(&format!("compute {} ns, wait {} ns", span.compute, span.wait)), "{text}");
}

#[test]
fn each_page_gives_its_table_as_csv() {
    for (page, name, columns) in [
        (Page::Overview, TWO, "operator,count,time_ns"),
        (Page::Timeline, TWO, "operator,op_spans,time_ns"),
        (Page::Operators, TWO, "operator,operator,nodes,count"),
        (Page::Graph, TWO, "name,operator,count,time_ns"),
        (Page::Roofline, TWO, "phase,key,operator,count"),
        (Page::Experts, "qwen3moe-synthetic-2t.llmtrace", "layer,expert,tokens"),
        (Page::Counters, "gemma3-270m-counters-2t.llmtrace", "operator,counter,unit"),
    ] {
        let mut harness = sample::harness(name, page, 720.0);
        // Only the press: each event has a frame, and the clipboard is asked for in that one.
        harness.event(Event::Key {
            key: Key::C,
            physical_key: None,
            pressed: true,
            repeat: false,
            modifiers: Modifiers::COMMAND.plus(Modifiers::SHIFT),
        });
        let text = copied(&mut harness);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with(columns), "{page:?}: {}", lines[0]);
        assert!(lines.len() > 3, "{page:?}: {text}");
        let fields = |line: &str| line.split(',').count();
        assert!(lines.iter().all(|line| line.contains('"') || fields(line) == fields(lines[0])), "{page:?}");
    }
}

#[test]
fn the_totals_of_a_range_are_those_of_the_analysis() {
    let mut harness = sample::harness(TWO, Page::Timeline, 720.0);
    let open = harness.state().state.open().unwrap();
    let (trace, range) = (Arc::clone(&open.trace), open.trace.tokens[5].range);
    apply(&mut harness, Command::SelectRange(range));
    harness.run_steps(2);
    apply(&mut harness, Command::Copy(What::Table));
    let text = copied(&mut harness);
    let by = llmtrace_analysis::stats::By::Op;
    let rows = llmtrace_analysis::totals::totals_in_range(&trace, range, by, &|_| true).unwrap();
    let first = &rows[0];
    let expected = format!("{},{},{},", first.key, first.spans, first.compute_nanos);
    assert!(text.lines().nth(1).unwrap().starts_with(&expected), "{text}");
    assert_eq!(text.lines().count(), rows.len() + 1);
}

#[test]
fn each_page_gives_a_command() {
    for (page, command) in [
        (Page::Overview, "llmtrace summary "),
        (Page::Timeline, "llmtrace stats "),
        (Page::Operators, "llmtrace stats "),
        (Page::Graph, "llmtrace stats "),
        (Page::Experts, "llmtrace experts "),
        (Page::Counters, "llmtrace stats "),
        (Page::Roofline, "llmtrace explain "),
    ] {
        let mut harness = sample::harness(TWO, page, 720.0);
        apply(&mut harness, Command::Copy(What::CommandLine));
        let text = copied(&mut harness);
        assert!(text.starts_with(command) && text.contains(TWO), "{page:?}: {text}");
    }
    let mut harness = sample::harness(TWO, Page::Timeline, 720.0);
    let range = harness.state().state.open().unwrap().trace.tokens[5].range;
    apply(&mut harness, Command::SelectRange(range));
    apply(&mut harness, Command::Copy(What::CommandLine));
    let text = copied(&mut harness);
    assert!(text.contains(&format!("--range {}ns..{}ns", range.begin, range.end)), "{text}");
}

/// Everything that a comparison says can be had outside, and its parts add up there, too.
#[test]
fn a_comparison_gives_its_table_and_its_command() {
    let mut harness = sample::harness("gemma3-270m-undisturbed-2t.llmtrace", Page::Overview, 720.0);
    let other =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../sample-traces/gemma3-270m-preempted-2t.llmtrace");
    apply(&mut harness, Command::CompareWithPath(other));
    harness.run_steps(6);
    apply(&mut harness, Command::Copy(What::CommandLine));
    let text = copied(&mut harness);
    assert!(text.starts_with("llmtrace diff ") && text.ends_with("--by role --limit 0"), "{text}");
    let at = |name: &str| text.find(name).unwrap_or_else(|| panic!("{name} is missing in {text}"));
    assert!(at("undisturbed") < at("preempted"));
    // With what was chosen.
    harness.get_by_role_and_label(Role::Button, "op").click();
    harness.run_steps(3);
    apply(&mut harness, Command::Copy(What::CommandLine));
    assert!(copied(&mut harness).ends_with("--by op --limit 0"));
    apply(&mut harness, Command::Copy(What::Table));
    let table = copied(&mut harness);
    let rows: Vec<Vec<&str>> = table.lines().skip(1).map(|line| line.split(',').collect()).collect();
    assert!(rows.len() > 8 && rows.iter().any(|row| row[0] == "without a CPU"), "{table}");
    let change = |row: &Vec<&str>| row[4].parse::<f64>().unwrap();
    let (whole, parts) = rows.split_last().unwrap();
    assert_eq!(whole[0], "change");
    let sum: f64 = parts.iter().map(change).sum();
    assert!((sum - change(whole)).abs() < 1e-6, "{sum}: {table}");
}

#[test]
fn a_report_is_saved_and_never_onto_the_trace() {
    let folder = tempfile::tempdir().unwrap();
    let mut harness = sample::harness(TWO, Page::Overview, 720.0);
    let path = folder.path().join("report.html");
    apply(&mut harness, Command::SaveReportTo(path.clone()));
    harness.run_steps(3);
    assert!(
        matches!(harness.state().state.saving, Some((_, Saving::Done(_)))),
        "{:?}",
        harness.state().state.saving
    );
    let page = std::fs::read_to_string(&path).unwrap();
    assert!(page.contains("<section id=findings") && page.contains(TWO));
    assert!(texts(&harness).contains("Saved report.html"));
    let own = harness.state().state.open().unwrap().path.clone();
    apply(&mut harness, Command::SaveReportTo(own));
    harness.run_steps(2);
    assert!(matches!(harness.state().state.saving, Some((_, Saving::Failed(_)))));
}

#[test]
fn a_picture_of_the_window_is_saved() {
    let folder = tempfile::tempdir().unwrap();
    let mut harness = sample::harness(TWO, Page::Overview, 720.0);
    let path = folder.path().join("page.png");
    apply(&mut harness, Command::SavePictureTo(path.clone()));
    // What the system would do: give a picture to whoever asked.
    let mut asked = None;
    for _ in 0..3 {
        harness.step();
        let viewports = harness.output().viewport_output.values();
        let found = viewports.flat_map(|viewport| &viewport.commands).find_map(|command| match command {
            ViewportCommand::Screenshot(callback) => Some(callback.clone()),
            _ => None,
        });
        asked = asked.or(found);
    }
    let image = egui::ColorImage::new([2, 2], vec![egui::Color32::from_rgb(1, 2, 3); 4]);
    asked.unwrap().complete(Arc::new(image));
    harness.run_steps(3);
    let read = image::open(&path).unwrap().into_rgb8();
    assert_eq!((read.dimensions(), read.get_pixel(1, 1).0), ((2, 2), [1, 2, 3]));
}

#[test]
fn the_glossary_is_a_command_and_escape_closes_it() {
    let mut harness = sample::harness(TWO, Page::Overview, 2000.0);
    apply(&mut harness, Command::Glossary);
    harness.run_steps(3);
    for topic in llmtrace_analysis::glossary::Topic::ALL {
        assert!(texts(&harness).contains(topic.1), "{}", topic.1);
    }
    harness.key_press(Key::Escape);
    harness.run_steps(3);
    assert!(!harness.state().state.glossary_visible);
}

#[test]
fn an_empty_window_offers_samples() {
    let mut harness = Harness::builder()
        .with_size(egui::vec2(1280.0, 720.0))
        .build_eframe(|creation| ViewerApp::new(&creation.egui_ctx, Store::default(), Jobs::Inline));
    harness.run_steps(2);
    assert!(!texts(&harness).contains("Look at a sample"), "there are none here");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sample-traces");
    harness.state_mut().state.samples = samples::in_folder(&folder);
    harness.run_steps(2);
    assert!(texts(&harness).contains("Look at a sample"));
    harness.get_by_label("A mixture of experts").click();
    harness.run_steps(4);
    assert!(
        matches!(&harness.state().state.document, Document::Open(open) if open.file_name() == "qwen3moe-synthetic-2t.llmtrace")
    );
}
