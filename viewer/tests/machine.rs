//! Strips of thread states and the lane of page faults on the timeline, without a display.
#![expect(clippy::unwrap_used, reason = "tests may panic")]

mod sample;

use egui::{Pos2, Rect};
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable;
use llmtrace_analysis::format::machine::State;
use llmtrace_analysis::{Nanos, TimeRange};
use llmtrace_viewer::app::ViewerApp;
use llmtrace_viewer::command::Command;
use llmtrace_viewer::state::{Open, Page};
use sample::texts;

fn harness(sample: &str) -> Harness<'static, ViewerApp> {
    sample::harness(sample, Page::Timeline, 900.0)
}

fn opened<'a>(harness: &'a Harness<'_, ViewerApp>) -> &'a Open {
    harness.state().state.open().unwrap()
}

fn apply(harness: &mut Harness<'_, ViewerApp>, command: Command) {
    let context = harness.ctx.clone();
    harness.state_mut().apply(&context, command);
    harness.run_steps(3);
}

/// What is said of a time in a lane: what the pointer brings up there.
fn hovered(harness: &mut Harness<'_, ViewerApp>, lane: Rect, time: Nanos, share: f32) -> String {
    let view = opened(harness).view;
    let x = lane.right() - view.width() + view.x_from_time(time);
    harness.hover_at(Pos2::new(x, lane.top() + lane.height() * share));
    harness.run_steps(12);
    texts(harness)
}

#[test]
fn strips_say_the_state_of_a_thread_and_who_preempted_it() {
    let mut harness = harness("gemma3-270m-preempted-2t.llmtrace");
    for lane in [0, 1] {
        let thread = harness.get_by_label(&format!("thread {lane}")).rect();
        let strip = harness.get_by_label(&format!("state of thread {lane}")).rect();
        assert!(strip.top() >= thread.bottom() && strip.top() - thread.bottom() < 4.0, "{strip:?}");
    }
    for state in [State::Preempted, State::Running] {
        let trace = &opened(&harness).trace;
        let rows = trace.lane_states(0, trace.range()).unwrap();
        let of_state = rows.rows().iter().filter(|row| State::from_u8(row.state) == state);
        let longest = *of_state.max_by_key(|row| row.end - row.begin).unwrap();
        let range = TimeRange::new(longest.begin, longest.end);
        let by = trace.file.string(llmtrace_analysis::format::meta::StrId(longest.other)).to_owned();
        apply(&mut harness, Command::ZoomTo(range));
        let strip = harness.get_by_label("state of thread 0").rect();
        let all = hovered(&mut harness, strip, range.begin + range.nanos() / 2, 0.5);
        let whose = format!("thread {}", longest.tid);
        assert!(all.contains(&format!("{}\n", state.name())) && all.contains(&whose), "{state:?}: {all}");
        assert!(state != State::Preempted || all.contains(&format!("by {by}")), "{by}: {all}");
    }
}

#[test]
fn totals_of_a_range_are_those_of_the_analysis() {
    let mut harness = harness("gemma3-270m-preempted-2t.llmtrace");
    let tokens = &opened(&harness).trace.tokens;
    let range = TimeRange::new(tokens[2].range.begin, tokens[tokens.len() - 2].range.end);
    apply(&mut harness, Command::SelectRange(range));
    let all = texts(&harness);
    for lane in [0, 1] {
        let trace = &opened(&harness).trace;
        let sums = trace.lane_state_sums(lane, range);
        // From rows, one by one, as a slow second opinion.
        let rows = trace.lane_states(lane, range).unwrap();
        let mut known = 0;
        for state in State::ALL {
            let inside = rows.rows().iter().filter(|row| State::from_u8(row.state) == state);
            let nanos: u64 =
                inside.map(|row| row.end.min(range.end).saturating_sub(row.begin.max(range.begin))).sum();
            assert_eq!(sums.of(state), nanos, "{state:?} of lane {lane}");
            known += nanos;
            let share = match nanos as f64 / range.nanos() as f64 * 100.0 {
                part if part < 0.1 => "<0.1 %\n".to_owned(),
                part => format!("{part:.1} %\n"),
            };
            assert!(nanos == 0 || all.contains(&share), "{state:?} {share}: {all}");
        }
        assert!(known > range.nanos() / 2, "{known} of {}", range.nanos());
    }
}

#[test]
fn the_lane_of_faults_says_which_file_was_missing() {
    let mut harness = harness("gemma3-270m-cold-1t.llmtrace");
    let (fault, read, range) = {
        let trace = &opened(&harness).trace;
        let fault = *trace.machine.major_faults.iter().max_by_key(|fault| fault.end - fault.begin).unwrap();
        let read = *trace.machine.reads.iter().max_by_key(|read| read.end - read.begin).unwrap();
        (fault, read, trace.range())
    };
    apply(&mut harness, Command::ZoomTo(TimeRange::new(fault.begin, fault.end)));
    let lane = harness.get_by_label("faults, reads").rect();
    let middle = |begin: u64, end: u64| begin + (end - begin) / 2;
    let all = hovered(&mut harness, lane, middle(fault.begin, fault.end), 0.2);
    let (file, tensor) = llmtrace_analysis::machine::place_of(&opened(&harness).trace, &fault);
    assert!(all.contains(" page faults") && all.contains("waited for a disk"), "{all}");
    assert!(all.contains(&file) && all.contains(&tensor), "{tensor} in {file}: {all}");
    apply(&mut harness, Command::ZoomTo(TimeRange::new(read.begin, read.end)));
    let lane = harness.get_by_label("faults, reads").rect();
    let all = hovered(&mut harness, lane, middle(read.begin, read.end), 0.8);
    assert!(all.contains("read from a disk") && all.contains("asked for by thread"), "{all}");
    // Of everything: what the analysis counts.
    apply(&mut harness, Command::SelectRange(range));
    let reads = opened(&harness).trace.machine.read_sums(range).0;
    assert!(reads > 0);
    let all = texts(&harness).replace(['\u{202f}', ','], "");
    assert!(all.contains(&format!("{reads} reads from disks")), "{reads}: {all}");
}
