//! What the kernel did meanwhile: states of threads, page faults, reads from disks.

use crate::panel::{Cx, swatch_ui};
use crate::text;
use crate::theme::StateClass;
use crate::timeline::preempted_by;
use egui::{Grid, Ui};
use llmtrace_analysis::format::machine::{Fault, State, ThreadState};
use llmtrace_analysis::machine::{FaultTotals, StateRows, StateSums, place_of};
use llmtrace_analysis::{OpSpan, TimeRange, lane_name};

/// Rows looked at for who preempted a thread.
const LOOKED_AT: usize = 4096;
/// Places of faults shown.
const MOST: usize = 4;

/// What happened to a thread while it computed a node.
pub(crate) fn span_ui(ui: &mut Ui, cx: &Cx<'_>, lane: u32, span: &OpSpan) {
    let machine = &cx.open.trace.machine;
    let Some(thread) = cx.open.trace.thread_of(span) else { return };
    let process = lane >> 20;
    let range = TimeRange::new(span.begin, span.end());
    if let Some(states) = cx.open.trace.thread_states(process, thread.tid, range) {
        let sums = states.sums(range);
        ui.separator();
        ui.strong("Meanwhile its thread was")
            .on_hover_text("By the kernel's scheduler, from the node's begin until the last thread arrived");
        sums_ui(ui, cx, &sums, range);
        preempted_ui(ui, cx, &states, range);
    }
    if machine.has_faults {
        let faults: Vec<&Fault> = machine.faults_of(process, thread.tid, range).collect();
        let mut totals = FaultTotals::default();
        faults.iter().for_each(|fault| totals.add(fault));
        totals_ui(ui, &totals);
        for fault in faults.iter().take(MOST) {
            let (file, tensor) = place_of(&cx.open.trace, fault);
            let place = if tensor.is_empty() { file } else { format!("{tensor} in {file}") };
            ui.weak(format!("{} in {place}", text::count(fault.count.into())));
        }
        if faults.len() > MOST {
            ui.weak(format!("and {} more places", faults.len() - MOST));
        }
    }
}

/// What happened in a range.
pub(crate) fn range_ui(ui: &mut Ui, cx: &Cx<'_>, range: TimeRange) {
    let machine = &cx.open.trace.machine;
    let lanes = cx.open.trace.lane_ids();
    let lanes: Vec<u32> = lanes.into_iter().filter(|lane| machine.has_lane(*lane)).collect();
    if !lanes.is_empty() {
        ui.separator();
        ui.strong("Threads").on_hover_text("By the kernel's scheduler");
        for &lane in lanes.iter().take(16) {
            ui.label(lane_name(lane));
            sums_ui(ui, cx, &cx.open.trace.lane_state_sums(lane, range), range);
            if let Some(states) = cx.open.trace.lane_states(lane, range) {
                preempted_ui(ui, cx, &states, range);
            }
        }
        if lanes.len() > 16 {
            ui.weak(format!("and {} more lanes", lanes.len() - 16));
        }
    }
    if machine.has_faults {
        ui.separator();
        ui.strong("Page faults and reads");
        totals_ui(ui, &machine.fault_sums(range));
        let (reads, bytes) = machine.read_sums(range);
        if reads > 0 {
            ui.label(format!("{} reads from disks, {}", text::count(reads), text::bytes(bytes)));
        }
    }
}

fn sums_ui(ui: &mut Ui, cx: &Cx<'_>, sums: &StateSums, range: TimeRange) {
    let whole = range.nanos().max(1) as f64;
    Grid::new(ui.next_auto_id()).num_columns(3).spacing([10.0, 2.0]).show(ui, |ui| {
        for state in State::ALL.into_iter().filter(|state| sums.of(*state) > 0) {
            ui.horizontal(|ui| {
                ui.spacing_mut().item_spacing.x = 6.0;
                swatch_ui(ui, cx.colors.state(StateClass::of(state)));
                ui.label(state.name());
            });
            ui.label(text::nanos(sums.of(state)));
            ui.weak(text::percent(sums.of(state) as f64 / whole));
            ui.end_row();
        }
        let unknown = range.nanos().saturating_sub(sums.known());
        // Engines with new threads for every graph have none in between.
        if unknown > range.nanos() / 100 {
            ui.weak("unknown, or no thread");
            ui.label(text::nanos(unknown));
            ui.weak(text::percent(unknown as f64 / whole));
            ui.end_row();
        }
    });
}

/// Who ran instead for the longest time.
fn preempted_ui(ui: &mut Ui, cx: &Cx<'_>, states: &StateRows, range: TimeRange) {
    let rows = states.within(range);
    let preempted = |row: &&ThreadState| State::from_u8(row.state) == State::Preempted;
    let longest = rows.iter().take(LOOKED_AT).filter(preempted).max_by_key(|row| row.end - row.begin);
    if let Some(row) = longest {
        let for_so_long = text::nanos(row.end.saturating_sub(row.begin));
        ui.weak(format!("preempted longest {}: {for_so_long}", preempted_by(cx.open, row)));
    }
}

fn totals_ui(ui: &mut Ui, totals: &FaultTotals) {
    if totals.count == 0 {
        ui.weak("no page faults");
        return;
    }
    let major = match totals.unknown {
        0 => text::count(totals.major),
        _ => format!("at least {}", text::count(totals.major)),
    };
    let asleep = match totals.wait_nanos {
        0 => String::new(),
        nanos => format!(", asleep {}", text::nanos(nanos)),
    };
    ui.label(format!("{} page faults, {major} waited for a disk{asleep}", text::count(totals.count)));
}
