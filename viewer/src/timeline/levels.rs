//! The lane of what was recorded: the level over time, and marks.

use super::lanes::Canvas;
use super::paint::Quads;
use crate::state::Open;
use crate::text;
use egui::{Color32, Rect, Stroke, Ui};
use llmtrace_analysis::format::meta::{Level, StrId};
use llmtrace_analysis::format::tables::Mark;
use llmtrace_analysis::{LevelRange, Nanos};

/// Whether there is anything to show.
pub(crate) fn any(open: &Open) -> bool {
    !open.trace.levels.is_empty() || !open.trace.marks.is_empty()
}

/// What is under the pointer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Moment {
    /// A mark, within a few pixels.
    Mark(Mark),
    /// A level that held for a while.
    Range(LevelRange),
}

/// What happened at `time`, or for marks within `slack`; `share` of the lane's
/// height is above the pointer.
pub(crate) fn at(open: &Open, time: Nanos, slack: Nanos, share: f32) -> Option<Moment> {
    let marks = &open.trace.marks;
    let after = marks.partition_point(|mark| mark.time.saturating_add(slack) < time);
    if let Some(mark) = marks.get(after).filter(|mark| mark.time <= time.saturating_add(slack)) {
        return Some(Moment::Mark(*mark));
    }
    let processes = &open.trace.levels;
    let process = (share * processes.len() as f32) as usize;
    let ranges = processes.get(process.min(processes.len().saturating_sub(1)))?;
    let after = ranges.partition_point(|range| range.range.begin <= time);
    ranges.get(after.checked_sub(1)?).map(|range| Moment::Range(*range))
}

/// Says what is there.
pub(crate) fn found_ui(ui: &mut Ui, open: &Open, found: &Moment) {
    match found {
        Moment::Mark(mark) => {
            ui.strong(open.trace.file.string(StrId(mark.label)));
            ui.weak(text::nanos(mark.time));
        }
        Moment::Range(range) => {
            let processes =
                open.trace.file.recording.as_ref().map_or(0, |recording| recording.processes.len());
            let of = if processes > 1 { format!("process {} ", range.process) } else { String::new() };
            ui.strong(format!("{of}recorded at level {}", name(range)));
            let reason = open.trace.file.string(range.reason);
            if !reason.is_empty() {
                ui.label(reason);
            }
            if range.window > 1 {
                ui.weak(format!("operators of one token in {}", range.window));
            }
        }
    }
}

fn name(range: &LevelRange) -> &'static str {
    range.level.map_or("unknown", Level::name)
}

/// Draws the lane.
pub(crate) fn paint(canvas: &Canvas<'_>, open: &Open) {
    let processes = &open.trace.levels;
    let each = canvas.rect.height() / processes.len().max(1) as f32;
    for (index, ranges) in processes.iter().enumerate() {
        let top = canvas.rect.top() + each * index as f32;
        let rows = top..=(top + each - if processes.len() > 1 { 1.0 } else { 0.0 });
        let mut quads = Quads::new(canvas.rect, 64);
        let mut labels = Vec::new();
        canvas.each_in_sight(
            ranges,
            |range| range.range,
            |bar, range| {
                let bar = Rect::from_x_y_ranges(bar.x_range(), rows.clone());
                let color = color(canvas, range);
                quads.rect(bar, color);
                labels.push((bar, range));
            },
        );
        canvas.painter.add(quads.into_shape());
        for (bar, range) in labels.into_iter().filter(|_| each >= 12.0) {
            canvas.label(bar, &[name(range)], bar.center().y, canvas.colors.text);
        }
    }
    let here = |mark: &Mark| llmtrace_analysis::TimeRange::new(mark.time, mark.time);
    canvas.each_in_sight(&open.trace.marks, here, |bar, _| {
        let stroke = Stroke::new(2.0, canvas.colors.loss);
        canvas.painter.vline(bar.left(), canvas.rect.y_range(), stroke);
    });
}

/// The more is recorded, the stronger.
fn color(canvas: &Canvas<'_>, range: &LevelRange) -> Color32 {
    let strength = match range.level {
        Some(Level::Thread | Level::Op) => 0.45,
        Some(Level::Graph) => 0.2,
        _ => 0.08,
    };
    canvas.colors.accent.gamma_multiply(strength)
}
