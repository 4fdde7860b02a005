//! Every number that is shown says what it is and how it is computed: its heading is hovered, and what
//! appears is held against the glossary.

mod sample;

use egui::Vec2;
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable;
use llmtrace_analysis::glossary::term;
use llmtrace_viewer::app::ViewerApp;
use llmtrace_viewer::command::Command;
use llmtrace_viewer::state::Page;
use sample::texts;
use std::path::Path;

/// Label and term of each heading of numbers.
type Headings = &'static [(&'static str, &'static str)];

const OVERVIEW: Headings = &[
    ("Decode speed", "tokens/s, decode"),
    ("Prefill speed", "tokens/s, prefill"),
    ("Time per token", "time per token"),
    ("share", "share"),
    ("time", "time"),
    ("wait", "wait"),
    ("count", "count"),
    ("TTFT", "TTFT"),
    ("TPOT", "TPOT"),
    ("Waits", "barrier waits"),
    ("Other", "unattributed"),
];

const OPERATORS: Headings = &[
    ("share", "share"),
    ("time ⏷", "time"),
    ("wait", "wait share"),
    ("mean", "mean"),
    ("p50", "median"),
    ("p99", "percentile"),
    ("durations", "histogram"),
    ("GB/s", "bytes/s"),
];

const ROOFLINE: Headings = &[
    ("wall", "wall"),
    ("each", "each"),
    ("op/byte", "intensity"),
    ("Gop/s", "op/s"),
    ("GB/s", "bytes/s"),
    ("of roof", "of roof"),
    ("limit", "verdict"),
    ("confidence", "confidence"),
];

const EXPERTS: Headings = &[
    ("share of tokens", "share of tokens"),
    ("bytes read", "bytes read"),
    ("time", "expert time"),
    ("selections", "selection"),
    ("Load balance over time", "variation"),
    ("most used got", "top share"),
    ("Reuse distance", "reuse distance"),
    ("Most often chosen together", "chosen together"),
    ("of all", "chosen together"),
];

const COUNTERS: Headings =
    &[("op spans", "op span"), ("task-clock", "counted"), ("page-faults", "counter rate")];

const COMPARE: Headings = &[
    ("slower", "change of the median"),
    ("part", "part"),
    ("part", "without a CPU"),
    ("B − A", "B − A"),
    ("%", "% of A"),
    ("± 95 %", "± 95 %"),
    ("Waterfall", "waterfall"),
    ("Durations", "histogram"),
    ("Rooflines", "intensity"),
];

const DURATIONS: Headings = &[("p50", "median"), ("p99", "percentile"), ("change", "% of A")];

/// Hovers what has a label, or contains it, until the term and its formula are shown.
fn explained(harness: &mut Harness<'static, ViewerApp>, label: &str, wanted: &str) -> bool {
    let term = term(wanted).unwrap_or_else(|| panic!("no such term: {wanted}"));
    let mut places: Vec<_> = harness.query_all_by_label(label).map(|node| node.rect()).collect();
    places.extend(harness.query_all_by_label_contains(label).map(|node| node.rect()));
    for rect in places.into_iter().take(24) {
        harness.hover_at(rect.left_center() + Vec2::new(rect.width().min(30.0) / 2.0, 0.0));
        harness.run_steps(45);
        let read = texts(harness);
        if read.contains(term.is) && read.contains(term.formula) {
            return true;
        }
    }
    false
}

fn all_explained(harness: &mut Harness<'static, ViewerApp>, page: &str, headings: Headings) {
    for (label, wanted) in headings {
        assert!(explained(harness, label, wanted), "{page}: {label} does not say what {wanted} is");
    }
}

#[test]
fn every_column_and_card_of_one_trace_is_explained() {
    for (page, name, headings) in [
        (Page::Overview, "gemma3-270m-server-1t.llmtrace", OVERVIEW),
        (Page::Operators, "gemma3-270m-2t.llmtrace", OPERATORS),
        (Page::Roofline, "gemma3-270m-2t.llmtrace", ROOFLINE),
        (Page::Experts, "qwen3moe-synthetic-2t.llmtrace", EXPERTS),
        (Page::Counters, "gemma3-270m-counters-2t.llmtrace", COUNTERS),
    ] {
        let mut harness = sample::harness(name, page, 2400.0);
        // Narrow tables leave columns out.
        harness.set_size(egui::vec2(1900.0, 2400.0));
        harness.run_steps(3);
        all_explained(&mut harness, &format!("{page:?}"), headings);
    }
}

#[test]
fn every_number_of_a_comparison_is_explained() {
    let mut harness = sample::harness("gemma3-270m-undisturbed-2t.llmtrace", Page::Overview, 900.0);
    let other =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../sample-traces/gemma3-270m-preempted-2t.llmtrace");
    let context = harness.ctx.clone();
    harness.state_mut().apply(&context, Command::CompareWithPath(other));
    harness.run_steps(6);
    all_explained(&mut harness, "Compare", COMPARE);
    harness.get_by_label("Durations").click();
    harness.run_steps(4);
    all_explained(&mut harness, "Durations", DURATIONS);
}
