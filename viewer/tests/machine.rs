//! Strips of thread states and the lane of page faults on the timeline, without a display.
#![expect(clippy::unwrap_used, reason = "tests may panic")]

mod sample;

use egui::vec2;
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable;
use llmtrace_analysis::TimeRange;
use llmtrace_analysis::format::machine::{State, ThreadState};
use llmtrace_analysis::machine::place_of;
use llmtrace_viewer::app::ViewerApp;
use llmtrace_viewer::command::Command;
use llmtrace_viewer::session::Change;
use llmtrace_viewer::state::{Open, Page};
use sample::texts;

fn opened<'a>(harness: &'a Harness<'_, ViewerApp>) -> &'a Open {
    harness.state().state.open().unwrap()
}

fn apply(harness: &mut Harness<'_, ViewerApp>, command: Command) {
    let context = harness.ctx.clone();
    harness.state_mut().apply(&context, command);
    harness.run_steps(4);
}

/// The longest time in a state of lane 0 for which something holds.
fn longest(open: &Open, state: State, wanted: impl Fn(&ThreadState) -> bool) -> ThreadState {
    let rows = open.trace.lane_states(0, open.trace.range()).unwrap();
    let of = rows.rows().iter().filter(|row| State::from_u8(row.state) == state && wanted(row));
    *of.max_by_key(|row| row.end - row.begin).unwrap()
}

/// What the pointer says at a place under the middle of a lane, once a range fills the width.
fn told(harness: &mut Harness<'_, ViewerApp>, range: TimeRange, lane: &str, below: f32) -> String {
    apply(harness, Command::ZoomTo(range));
    let row = harness.get_by_label(lane).rect();
    harness.hover_at(row.center() + vec2(0.0, below));
    harness.run_steps(12);
    texts(harness)
}

#[test]
fn a_strip_under_a_thread_says_its_state_and_who_ran_instead() {
    let mut harness = sample::harness("gemma3-270m-preempted-2t.llmtrace", Page::Timeline, 900.0);
    let open = opened(&harness);
    let preempted = longest(open, State::Preempted, |row| row.other != 0);
    let by = open.trace.file.string(llmtrace_analysis::format::meta::StrId(preempted.other)).to_owned();
    assert!(!by.is_empty());
    let running = longest(open, State::Running, |_| true);
    let range = TimeRange::new(preempted.begin, preempted.end);
    let text = told(&mut harness, range, "state of thread 0", 0.0);
    for wanted in [State::Preempted.name(), &format!("by {by}"), &format!("thread {}", preempted.tid)] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
    let range = TimeRange::new(running.begin, running.end);
    let text = told(&mut harness, range, "state of thread 0", 0.0);
    for wanted in [State::Running.name(), &format!("CPU {}", running.cpu)] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
    // Far away they are together.
    let all = opened(&harness).trace.range();
    let text = told(&mut harness, all, "state of thread 0", 0.0);
    assert!(text.contains("several states") && text.contains("zoom in"), "{text}");
    // A strip goes with its thread.
    let top = harness.get_by_label("thread 1").rect().top();
    apply(&mut harness, Command::Session(Change::Hide("thread 0".into(), true)));
    assert!(!texts(&harness).lines().any(|line| line == "thread 0"));
    assert!(harness.get_by_label("thread 1").rect().top() < top);
}

#[test]
fn the_lane_of_faults_says_where_pages_were_missing() {
    let mut harness = sample::harness("gemma3-270m-cold-1t.llmtrace", Page::Timeline, 900.0);
    let trace = &opened(&harness).trace;
    let fault = *trace.machine.major_faults.iter().max_by_key(|fault| fault.wait).unwrap();
    let (file, tensor) = place_of(trace, &fault);
    assert!(file.ends_with(".gguf"), "{file}");
    let range = TimeRange::new(fault.begin, fault.end.max(fault.begin + 1000));
    let height = harness.get_by_label("faults, reads").rect().height();
    let text = told(&mut harness, range, "faults, reads", -height / 4.0);
    for wanted in ["page faults", "waited for a disk", &file, &tensor] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
    let read = *opened(&harness).trace.machine.reads.iter().max_by_key(|read| read.bytes).unwrap();
    let range = TimeRange::new(read.begin, read.end.max(read.begin + 1000));
    let text = told(&mut harness, range, "faults, reads", height / 3.0);
    let device = format!("device {}:{}", read.device >> 20, read.device & 0xf_ffff);
    for wanted in ["read from a disk", &device] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
}

#[test]
fn a_trace_without_states_has_no_strips_and_no_lane_of_faults() {
    let harness = sample::harness("gemma3-270m-2t.llmtrace", Page::Timeline, 900.0);
    let open = opened(&harness);
    assert!(open.trace.lane_ids().iter().all(|lane| !open.trace.machine.has_lane(*lane)));
    assert!(!texts(&harness).contains("faults, reads"));
}
