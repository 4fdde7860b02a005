//! What is not in a recording shows as such: gaps of windows and levels, losses, wakers.
#![expect(clippy::unwrap_used, reason = "tests may panic")]

mod made;
#[path = "sample/texts.rs"]
mod texts;

use egui::accesskit::Role;
use egui_kittest::Harness;
use egui_kittest::kittest::{NodeT, Queryable};
use llmtrace_analysis::TimeRange;
use llmtrace_analysis::format::machine::{MachineRow, State, ThreadState};
use llmtrace_analysis::format::meta::Level;
use llmtrace_analysis::format::tables::{LevelChange, Loss};
use llmtrace_viewer::app::ViewerApp;
use llmtrace_viewer::command::Command;
use llmtrace_viewer::state::Page;
use made::Made;
use texts::texts;

fn timeline(harness: &mut Harness<'_, ViewerApp>) {
    let context = harness.ctx.clone();
    harness.state_mut().apply(&context, Command::Show(Page::Timeline));
    harness.run_steps(3);
}

fn gaps(harness: &Harness<'_, ViewerApp>) -> Vec<String> {
    let items = harness.query_all_by_role(Role::ListBoxOption);
    let labels = items.filter_map(|node| node.accesskit_node().label());
    labels.filter(|label| label.starts_with("operators not recorded")).collect()
}

#[test]
fn windows_leave_gaps_that_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let made = Made {
        operators: |token| token % 4 == 0,
        more: |writer| {
            let reason = writer.string("the overhead was too high").0;
            let change = |time, level: Level, window| LevelChange {
                time,
                process: 0,
                level: level as u8,
                begins: 0,
                window,
                reason,
            };
            writer.push_level_change(change(500_000, Level::Thread, 4));
        },
        ..Made::default()
    };
    let mut harness = made.open(folder.path());
    timeline(&mut harness);
    let found = gaps(&harness);
    // Between the tokens 0, 4 and 8 and after the last, on two threads.
    assert_eq!(found.len(), 6, "{found:?}");
    assert!(
        found.iter().all(|text| text.contains("one token in 4") && text.contains("overhead")),
        "{found:?}"
    );
    // One token with operators in sight: nothing is left out.
    let context = harness.ctx.clone();
    let token = TimeRange::new(Made::begin(4), Made::begin(4) + made::NODE * 6);
    harness.state_mut().apply(&context, Command::ZoomTo(token));
    harness.run_steps(3);
    assert_eq!(gaps(&harness), Vec::<String>::new());
}

#[test]
fn a_lower_level_is_no_idle_time() {
    let folder = tempfile::tempdir().unwrap();
    let made = Made {
        operators: |token| token < 5,
        more: |writer| {
            let reason = writer.string("asked for").0;
            let time = Made::begin(5) - 1000;
            let (level, process, begins, window) = (Level::Graph as u8, 0, 0, 1);
            writer.push_level_change(LevelChange { time, process, level, begins, window, reason });
        },
        ..Made::default()
    };
    let mut harness = made.open(folder.path());
    timeline(&mut harness);
    let found = gaps(&harness);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].contains("level graph only: asked for"), "{found:?}");
    harness.get_by_label("recorded");
}

#[test]
fn losses_are_told_on_top_and_near_the_spans() {
    let folder = tempfile::tempdir().unwrap();
    let made = Made {
        more: |writer| {
            let (begin, end) = (Made::begin(3), Made::begin(4));
            writer.push_loss(Loss { begin, end, event: 9, count: 17, ..Loss::default() });
        },
        ..Made::default()
    };
    let mut harness = made.open(folder.path());
    timeline(&mut harness);
    assert!(texts(&harness).contains("17 events were lost"), "{}", texts(&harness));
    assert!(texts(&harness).contains("lost here: 17"), "{}", texts(&harness));
}

#[test]
fn who_woke_a_thread_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let made = Made {
        more: |writer| {
            let state = |tid, begin, end, state: State, other_tid| {
                let (process, cpu, other_pid, other, continues, touched_by_loss) = (0, 0, 70, 0, 0, 0);
                MachineRow::State(ThreadState {
                    begin,
                    end,
                    tid,
                    process,
                    state: state as u8,
                    cpu,
                    other_tid,
                    other_pid,
                    other,
                    continues,
                    touched_by_loss,
                })
            };
            let none = llmtrace_analysis::format::constants::NONE;
            let end = Made::begin(12);
            writer.push_machine(state(70, 1, end, State::Running, none));
            writer.push_machine(state(71, 1, 1_000_000, State::Sleeping, none));
            writer.push_machine(state(71, 1_000_000, 3_000_000, State::Woken, 70));
            writer.push_machine(state(71, 3_000_000, end, State::Running, none));
        },
        ..Made::default()
    };
    let mut harness = made.open(folder.path());
    timeline(&mut harness);
    let strip = harness.get_by_label("state of thread 1").rect();
    let open = harness.state().state.open().unwrap();
    let x = strip.left() + open.view.x_from_time(2_000_000);
    harness.hover_at(egui::pos2(x, strip.center().y));
    harness.run_steps(30);
    assert!(texts(&harness).contains("woken by thread 70"), "{}", texts(&harness));
}
