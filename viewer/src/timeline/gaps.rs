//! Time of which operators are not in the recording: what the level or the window left out. Drawn
//! as such, so that nobody takes it for idle time.

use super::lanes::Canvas;
use super::paint::Quads;
use super::rows::PROCESS_SHIFT;
use super::view::View;
use crate::state::Open;
use crate::text;
use egui::{Rect, Stroke, Ui};
use llmtrace_analysis::fold::Bar;
use llmtrace_analysis::format::meta::{Level, StrId};
use llmtrace_analysis::{LevelRange, TimeRange};

/// Gaps narrower than this are not drawn, in points.
const LEAST: f32 = 3.0;
/// Graph computations of other processes that are passed over at an end of a gap.
const PASSED: usize = 64;
/// Changes of level drawn at most.
const MOST_CHANGES: usize = 400;

/// A gap, and what left it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Gap {
    pub(crate) range: TimeRange,
    why: LevelRange,
}

/// At which levels a process was recorded in a range.
fn levels(open: &Open, process: u32, range: TimeRange) -> Vec<LevelRange> {
    let of_it = |ranges: &&Vec<LevelRange>| ranges.first().is_some_and(|first| first.process == process);
    match open.trace.levels.iter().find(of_it) {
        Some(ranges) => {
            let from = ranges.partition_point(|one| one.range.end <= range.begin);
            let to = ranges.partition_point(|one| one.range.begin < range.end);
            ranges.get(from..to.max(from)).unwrap_or_default().to_vec()
        }
        None => {
            let Some(recording) = &open.trace.file.recording else { return Vec::new() };
            let known = recording.processes.get(process as usize);
            let level = Some(known.map_or(recording.level, |known| known.level));
            let (window, reason) = (recording.window.max(1), StrId::default());
            vec![LevelRange { range: open.trace.range(), process, level, window, reason }]
        }
    }
}

/// What of a lane in sight is not recorded; `bars` are what is.
pub(crate) fn gaps(open: &Open, lane: u32, bars: &[Bar], view: &View) -> Vec<Gap> {
    let (sight, least) = (view.range(), view.nanos_from_pixels(LEAST));
    let process = lane >> PROCESS_SHIFT;
    let mut found = Vec::new();
    for why in levels(open, process, sight) {
        let with_operators = matches!(why.level, Some(Level::Op | Level::Thread) | None);
        if with_operators && why.window <= 1 {
            continue;
        }
        let part = TimeRange::new(why.range.begin.max(sight.begin), why.range.end.min(sight.end));
        if part.nanos() < least || part.end <= part.begin {
            continue;
        }
        let from = bars.partition_point(|bar| bar.range.end <= part.begin);
        let mut begin = part.begin;
        let after = bars.get(from..).unwrap_or_default().iter();
        let edges = after.take_while(|bar| bar.range.begin < part.end).map(|bar| bar.range);
        for edge in edges.chain([TimeRange::new(part.end, part.end)]) {
            let between = TimeRange::new(begin, edge.begin.max(begin));
            begin = begin.max(edge.end);
            let graphs = (between.nanos() >= least).then(|| graphs_within(open, process, between)).flatten();
            found.extend(graphs.filter(|range| range.nanos() >= least).map(|range| Gap { range, why }));
        }
    }
    found
}

/// From the first to the last computation of a graph that lies in a range, if one does.
fn graphs_within(open: &Open, process: u32, range: TimeRange) -> Option<TimeRange> {
    let spans = &open.trace.graph_spans;
    let from = spans.partition_point(|span| span.begin < range.begin);
    let to = spans.partition_point(|span| span.begin < range.end);
    let inside = spans.get(from..to.max(from))?;
    let first = inside.iter().take(PASSED).find(|span| span.process == process)?;
    let last = inside.iter().rev().take(PASSED);
    let last = last.clone().find(|span| span.process == process && span.end <= range.end)?;
    (first.begin < last.end).then(|| TimeRange::new(first.begin, last.end))
}

/// Draws the gaps of a lane.
pub(crate) fn paint(canvas: &Canvas<'_>, gaps: &[Gap]) {
    if gaps.is_empty() {
        return;
    }
    let mut quads = Quads::new(canvas.rect, gaps.len() * 8);
    for gap in gaps {
        let bar = canvas.exact_bar(gap.range);
        quads.rect(bar, canvas.colors.weak.gamma_multiply(0.12));
        quads.stripes(bar, canvas.colors.weak.gamma_multiply(0.35));
    }
    canvas.painter.add(quads.into_shape());
    for gap in gaps {
        let bar = canvas.exact_bar(gap.range).intersect(canvas.rect);
        if bar.width() < 60.0 || bar.height() < 14.0 {
            continue;
        }
        let label = "operators not recorded";
        let width = 150.0f32.min(bar.width() - 8.0);
        let back = Rect::from_center_size(bar.center(), egui::vec2(width, 14.0)).intersect(bar);
        if width >= 140.0 {
            canvas.painter.rect_filled(back, 2.0, canvas.colors.lane);
            canvas.painter.text(
                bar.center(),
                egui::Align2::CENTER_CENTER,
                label,
                egui::FontId::proportional(11.0),
                canvas.colors.weak,
            );
        }
    }
}

/// Says what a gap is.
pub(crate) fn found_ui(ui: &mut Ui, open: &Open, gap: &Gap) {
    ui.strong("operators not recorded");
    ui.label(reason(open, gap));
    ui.weak(format!("{} of graphs that were computed", text::nanos(gap.range.nanos())));
}

/// Why there is nothing.
pub(crate) fn reason(open: &Open, gap: &Gap) -> String {
    let level = gap.why.level.map_or("unknown", Level::name);
    let mut reason = match gap.why.level {
        Some(Level::Token | Level::Graph) => format!("recorded at level {level} only"),
        _ => format!("operators of one token in {} are recorded", gap.why.window),
    };
    let why = open.trace.file.string(gap.why.reason);
    if !why.is_empty() {
        reason.push_str(": ");
        reason.push_str(why);
    }
    reason
}

/// Why there is no lane of a thread, if there is none.
pub(crate) fn no_threads(open: &Open) -> Option<String> {
    if !open.trace.lanes().is_empty() {
        return None;
    }
    let recording = open.trace.file.recording.as_ref();
    let reason = recording.map_or("", |recording| recording.level_reason.as_str());
    let because = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    let graphs = open.trace.graph_spans.len() as u64;
    Some(match recording.map(|recording| recording.level) {
        Some(level @ (Level::Token | Level::Graph)) => {
            format!("No threads: operators are not recorded at level {}{because}", level.name())
        }
        _ if graphs == 0 => "No threads: no graph was computed while it was recorded".to_owned(),
        _ => format!(
            "No threads: of {} computed graphs no operator was recorded{because}",
            text::count(graphs)
        ),
    })
}

/// A line through all lanes where the level changed.
pub(crate) fn paint_changes(canvas: &Canvas<'_>, open: &Open) {
    let mut drawn = 0;
    let stroke = Stroke::new(1.0, canvas.colors.accent.gamma_multiply(0.55));
    let changes = &open.trace.level_changes;
    canvas.each_in_sight(
        changes,
        |change| TimeRange::new(change.time, change.time),
        |bar, _| {
            drawn += 1;
            if drawn <= MOST_CHANGES {
                let ends = [bar.left_top(), bar.left_bottom()];
                canvas.painter.extend(egui::Shape::dashed_line(&ends, stroke, 4.0, 3.0));
            }
        },
    );
}
