//! The page of counters, and their lanes on the timeline, without a display.

mod sample;

use egui_kittest::Harness;
use egui_kittest::kittest::Queryable;
use llmtrace_analysis::TimeRange;
use llmtrace_analysis::counters::Series;
use llmtrace_viewer::app::ViewerApp;
use llmtrace_viewer::command::Command;
use llmtrace_viewer::counters::CounterView;
use llmtrace_viewer::state::Page;
use sample::texts;

const SAMPLE: &str = "gemma3-270m-counters-2t.llmtrace";

fn open(harness: &Harness<'_, ViewerApp>) -> CounterView {
    harness.state().state.open().map(|open| open.counters.clone()).unwrap_or_default()
}

#[test]
fn counters_are_shown_by_operator_and_chosen_for_both_pages() {
    let mut harness = sample::harness(SAMPLE, Page::Counters, 1400.0);
    let text = texts(&harness);
    for wanted in ["counted by the kernel for each thread", "task-clock", "MUL_MAT", "≥ "] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
    assert!(open(&harness).shown.contains(&Series::Counter(0)));
    assert!(!open(&harness).shown.contains(&Series::Cpus(0)));
    harness.get_by_label("CPU time").click();
    harness.run_steps(3);
    assert!(open(&harness).shown.contains(&Series::Cpus(0)));
    harness.get_by_label("shared by unit").click();
    harness.run_steps(3);
    assert!(open(&harness).shared);
    let context = harness.ctx.clone();
    harness.state_mut().apply(&context, Command::Show(Page::Timeline));
    harness.run_steps(3);
    let text = texts(&harness);
    for lane in ["page-faults", "CPU time", "memory"] {
        assert!(text.lines().any(|line| line == lane), "{lane}: {text}");
    }
}

#[test]
fn a_span_says_what_was_counted_and_a_graph_its_value() {
    let mut harness = sample::harness(SAMPLE, Page::Timeline, 900.0);
    let trace = &harness.state().state.open().expect("a trace is open").trace;
    let spans = trace.spans(0);
    let span = *spans.iter().rfind(|span| span.compute > 50_000).expect("a long span");
    let counts = trace.counts_of_span(0, &span).expect("it was counted");
    assert!(counts.count(3).is_some());
    let context = harness.ctx.clone();
    let range = TimeRange::new(span.begin, span.compute_end());
    harness.state_mut().apply(&context, Command::ZoomTo(range));
    harness.run_steps(4);
    let row = harness.get_by_label("thread 0").rect();
    harness.hover_at(row.center());
    harness.run_steps(12);
    let text = texts(&harness);
    assert!(text.contains("task-clock  "), "{text}");
    let row = harness.get_by_label("page-faults").rect();
    harness.hover_at(row.center());
    harness.run_steps(12);
    let text = texts(&harness);
    assert!(text.contains("of all threads, in their operators") && text.contains("/s"), "{text}");
}

#[test]
fn a_trace_without_counters_says_how_to_get_them() {
    let harness = sample::harness("qwen3moe-synthetic-2t.llmtrace", Page::Counters, 700.0);
    let text = texts(&harness);
    assert!(text.contains("Nothing was counted or sampled") && text.contains("--counters help"), "{text}");
}
