//! What the kernel did: a strip of states under each thread's lane, and a lane of page faults
//! above reads from disks.

use super::lanes::Canvas;
use super::paint::Quads;
use crate::panel::swatch_ui;
use crate::state::Open;
use crate::text;
use crate::theme::{Colors, MIN_BAR, StateClass};
use egui::{Rect, Ui};
use llmtrace_analysis::format::constants::NONE;
use llmtrace_analysis::format::machine::{BlockRead, Fault, State, ThreadState};
use llmtrace_analysis::format::meta::StrId;
use llmtrace_analysis::machine::{Piece, place_of};
use llmtrace_analysis::{Nanos, TimeRange};

/// Part of the lane of faults that faults take; below are reads.
const FAULTS_SHARE: f32 = 0.6;

/// What is under the pointer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Item {
    /// A state, or several.
    States(Piece),
    /// Page faults.
    Fault(Fault),
    /// A read from a disk.
    Read(BlockRead),
}

impl Item {
    /// Its time.
    pub(crate) fn range(&self) -> TimeRange {
        match self {
            Self::States(piece) => piece.range,
            Self::Fault(fault) => TimeRange::new(fault.begin, fault.end.max(fault.begin + 1)),
            Self::Read(read) => TimeRange::new(read.begin, read.end),
        }
    }
}

/// Whether there is a lane of faults.
pub(crate) fn any_faults(open: &Open) -> bool {
    !open.trace.machine.faults.is_empty() || !open.trace.machine.reads.is_empty()
}

/// The state of a lane at `time`, at a scale of `min_nanos`.
pub(crate) fn state_at(open: &Open, lane: u32, time: Nanos, min_nanos: u64) -> Option<Item> {
    let mut pieces = Vec::new();
    let range = TimeRange::new(time.saturating_sub(min_nanos), time.saturating_add(1));
    open.trace.fold_lane_states(lane, range, min_nanos, &mut pieces);
    let inside = |piece: &&Piece| piece.range.begin <= time && time < piece.range.end;
    pieces.iter().rev().find(inside).copied().map(Item::States)
}

/// The fault, or the read, near `time`; `share` of the lane's height is above the pointer.
pub(crate) fn fault_at(open: &Open, time: Nanos, slack: Nanos, share: f32) -> Option<Item> {
    let machine = &open.trace.machine;
    let near = |range: TimeRange| {
        range.begin <= time.saturating_add(slack) && time <= range.end.saturating_add(slack)
    };
    if share > FAULTS_SHARE {
        let after = machine.reads.partition_point(|read| read.begin <= time.saturating_add(slack));
        let last = machine.reads.get(..after)?.iter().rev().take(64);
        return last.copied().map(Item::Read).find(|item| near(item.range()));
    }
    let last = |faults: &[Fault]| {
        let after = faults.partition_point(|fault| fault.begin <= time.saturating_add(slack));
        let before = faults.get(..after)?.iter().rev().take(64);
        before.copied().map(Item::Fault).find(|item| near(item.range()))
    };
    // Those that waited for a disk are drawn above the others.
    last(&machine.major_faults).or_else(|| last(&machine.faults))
}

/// Says what is there.
pub(crate) fn found_ui(ui: &mut Ui, open: &Open, item: &Item) {
    match item {
        Item::States(piece) => match &piece.row {
            Some(row) => state_ui(ui, open, row),
            None => sums_ui(ui, piece),
        },
        Item::Fault(fault) => fault_ui(ui, open, fault),
        Item::Read(read) => {
            ui.strong("read from a disk");
            let (major, minor) = (read.device >> 20, read.device & 0xf_ffff);
            let took = text::nanos(read.end.saturating_sub(read.begin));
            ui.label(format!("{took} · {} · device {major}:{minor}", text::bytes(read.bytes.into())));
            ui.weak(format!("asked for by thread {}", read.tid));
        }
    }
}

fn state_ui(ui: &mut Ui, open: &Open, row: &ThreadState) {
    let state = State::from_u8(row.state);
    let colors = Colors::of(ui.visuals());
    ui.horizontal(|ui| {
        swatch_ui(ui, colors.state(StateClass::of(state)));
        ui.strong(state.name());
    });
    let duration = text::nanos(row.end.saturating_sub(row.begin));
    let cpu = if row.cpu == NONE { "an unknown CPU".to_owned() } else { format!("CPU {}", row.cpu) };
    ui.label(format!("{duration} · {cpu} · thread {}", row.tid));
    match state {
        State::Preempted => {
            ui.label(preempted_by(open, row));
        }
        State::Woken => {
            if row.other_tid != NONE {
                ui.label(format!("woken by thread {}", row.other_tid));
            }
            ui.weak("wake-up latency: from being woken to running");
        }
        State::Faulting => {
            ui.weak("a page was missing; see the lane of faults");
        }
        State::Running => {
            if let Some(khz) = open.trace.machine.frequency_at(row.cpu, row.end) {
                ui.weak(format!("about {} MHz, by the kernel's last sample", khz / 1000));
            }
        }
        _ => {}
    }
    if row.touched_by_loss != 0 {
        ui.weak("events were lost near here: the state may be wrong");
    }
}

/// Who ran instead.
pub(crate) fn preempted_by(open: &Open, row: &ThreadState) -> String {
    let name = open.trace.file.string(StrId(row.other));
    let name = if name.is_empty() { "unknown" } else { name };
    match (row.other_pid, row.other_tid) {
        (NONE, _) => format!("by {name}"),
        (pid, tid) if pid == tid => format!("by {name}, pid {pid}"),
        (pid, tid) => format!("by {name}, thread {tid} of pid {pid}"),
    }
}

fn sums_ui(ui: &mut Ui, piece: &Piece) {
    ui.strong("several states");
    for state in State::ALL {
        let nanos = piece.sums.of(state);
        if nanos > 0 {
            ui.label(format!("{} {}", state.name(), text::nanos(nanos)));
        }
    }
    ui.weak("zoom in to see each");
}

fn fault_ui(ui: &mut Ui, open: &Open, fault: &Fault) {
    ui.strong(format!("{} page faults", text::count(fault.count.into())));
    let major = match fault.major {
        NONE => "how many waited for a disk is unknown".to_owned(),
        major => format!("{} waited for a disk", text::count(major.into())),
    };
    ui.label(major);
    if fault.wait > 0 {
        ui.label(format!("asleep in them for {}", text::nanos(fault.wait)));
    }
    if fault.unaddressed > 0 {
        let count = text::count(fault.unaddressed.into());
        ui.weak(format!("{count} made by system calls, at unknown addresses"));
    }
    let (file, tensor) = place_of(&open.trace, fault);
    ui.label(if tensor.is_empty() { file } else { format!("{tensor} in {file}") });
    if fault.known != 0 {
        ui.weak(format!("{} from {:#x} · thread {}", text::bytes(fault.bytes), fault.address, fault.tid));
    }
    if fault.touched_by_loss != 0 {
        ui.weak("events were lost near here: there were more");
    }
}

/// Draws the strip of a lane.
pub(crate) fn paint_states(canvas: &Canvas<'_>, open: &Open, lane: u32) {
    let mut pieces = Vec::new();
    let min_nanos = canvas.view.nanos_from_pixels(MIN_BAR);
    open.trace.fold_lane_states(lane, canvas.view.range(), min_nanos, &mut pieces);
    let mut quads = Quads::new(canvas.rect, pieces.len() * 2 + 8);
    for piece in &pieces {
        let bar = canvas.exact_bar(piece.range);
        let mut bottom = bar.bottom();
        let nanos = piece.range.nanos().max(1) as f32;
        for class in StateClass::ALL {
            let of_class = State::ALL.into_iter().filter(|state| StateClass::of(*state) == class);
            let sum = of_class.fold(0u64, |sum, state| sum.saturating_add(piece.sums.of(state)));
            if sum > 0 {
                let height = (sum as f32 / nanos).min(1.0) * bar.height();
                let top = if piece.row.is_some() { bar.top() } else { (bottom - height).max(bar.top()) };
                quads.rect(Rect::from_x_y_ranges(bar.x_range(), top..=bottom), canvas.colors.state(class));
                bottom = top;
            }
        }
    }
    canvas.painter.add(quads.into_shape());
}

/// Draws the lane of faults and reads.
pub(crate) fn paint_faults(canvas: &Canvas<'_>, open: &Open) {
    let machine = &open.trace.machine;
    let middle = canvas.rect.top() + (canvas.rect.height() * FAULTS_SHARE).round();
    let mut quads = Quads::new(canvas.rect, 256);
    let range = |fault: &Fault| TimeRange::new(fault.begin, fault.end);
    // What waited for a disk is drawn last, so that nothing hides it.
    let waited = canvas.colors.state(StateClass::Fault);
    let kinds = [(&machine.faults, canvas.colors.weak), (&machine.major_faults, waited)];
    for (faults, color) in kinds {
        canvas.each_in_sight(faults, range, |bar, _| {
            quads.rect(Rect::from_x_y_ranges(bar.x_range(), bar.top()..=middle - 1.0), color);
        });
    }
    let read = canvas.colors.state(StateClass::Disk);
    canvas.each_in_sight(
        &machine.reads,
        |read| TimeRange::new(read.begin, read.end),
        |bar, _| quads.rect(Rect::from_x_y_ranges(bar.x_range(), middle + 1.0..=bar.bottom()), read),
    );
    canvas.painter.add(quads.into_shape());
}
