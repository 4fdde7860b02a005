//! The lanes of backends: splits above, copies below, waits striped, and lines from copies to
//! the split that they are inputs of.
//!
//! ```text
//! │ CPU     │ ▇▇▇▇▇▇ 365 nodes ▇▇              ▇▇
//! │         │                   ╲▄  copies     ╱
//! │ Vulkan0 │                     ▇▇░░░░░░////▇     calls, still busy at most, waiting
//! ```

use super::lanes::Canvas;
use super::paint::Quads;
use super::rows::{Kind, Row};
use crate::state::Open;
use crate::text;
use crate::theme::{MIN_TEXT_BAR, OpClass};
use egui::{Color32, Pos2, Rect, Shape, Stroke, Ui, pos2};
use llmtrace_analysis::format::constants::NONE;
use llmtrace_analysis::format::meta::{NameSource, StrId};
use llmtrace_analysis::format::offload::{Copy, CopyCall, Direction, Split, Sync};
use llmtrace_analysis::offload::{BackendLane, backend_name, backend_of};
use llmtrace_analysis::work::graph_work;
use llmtrace_analysis::{Nanos, TimeRange};

/// Part of a lane's height that splits take.
const SPLITS_SHARE: f32 = 0.66;
/// Splits at least so wide have lines to their copies.
const MIN_SPLIT: f32 = 6.0;
/// Lines drawn at most.
const MAX_LINES: usize = 400;

/// What is under the pointer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Item {
    /// A split, and when its work was certainly done.
    Split(Split, Option<Nanos>),
    /// A copy.
    Copy(Copy),
    /// A wait.
    Wait(Sync),
}

impl Item {
    /// Its time.
    pub(crate) fn range(&self) -> TimeRange {
        match self {
            Self::Split(row, _) => TimeRange::new(row.begin, row.end),
            Self::Copy(row) => TimeRange::new(row.begin, row.end),
            Self::Wait(row) => TimeRange::new(row.begin, row.end),
        }
    }
}

/// The lanes to show: none where one backend does all.
pub(crate) fn lanes(open: &Open) -> &[BackendLane] {
    let lanes = &open.trace.offload.lanes;
    if lanes.len() > 1 { lanes } else { &[] }
}

fn lane(open: &Open, backend: u32) -> Option<&BackendLane> {
    open.trace.offload.lanes.iter().find(|lane| lane.backend == backend)
}

/// What is at `time` in a lane; `share` of its height is above the pointer.
pub(crate) fn at(open: &Open, backend: u32, time: Nanos, slack: Nanos, share: f32) -> Option<Item> {
    let lane = lane(open, backend)?;
    let inside = |range: TimeRange| {
        range.begin <= time.saturating_add(slack) && time <= range.end.saturating_add(slack)
    };
    fn last<T: std::marker::Copy>(rows: &[T], begin: impl Fn(&T) -> Nanos, until: Nanos) -> Option<T> {
        rows.get(rows.partition_point(|row| begin(row) <= until).checked_sub(1)?).copied()
    }
    let until = time.saturating_add(slack);
    let copy = last(&lane.copies, |row| row.begin, until).map(Item::Copy);
    let wait = last(&lane.syncs, |row| row.begin, until).map(Item::Wait);
    let split = last(&lane.splits, |(row, _)| row.begin, until).map(|(row, bound)| Item::Split(row, bound));
    if share > SPLITS_SHARE {
        return copy.filter(|item| inside(item.range()));
    }
    // Where the device may still be busy is the split's, too.
    let reach = |item: &Item| match item {
        Item::Split(row, bound) => inside(TimeRange::new(row.begin, bound.unwrap_or(row.end))),
        other => inside(other.range()),
    };
    [split.filter(|split| inside(split.range())), wait.filter(reach), split.filter(reach)]
        .into_iter()
        .flatten()
        .next()
}

/// Says what is there.
pub(crate) fn found_ui(ui: &mut Ui, open: &Open, item: &Item) {
    let range = item.range();
    let nanos = text::nanos(range.nanos());
    let touched = match item {
        Item::Split(split, bound) => {
            split_ui(ui, open, split, *bound);
            split.touched_by_loss
        }
        Item::Copy(copy) => {
            copy_ui(ui, open, copy);
            copy.touched_by_loss
        }
        Item::Wait(wait) => {
            ui.strong(format!("waits for {}", backend_name(&open.trace, wait.backend)));
            ui.label(format!("{nanos} · until it is done with all that it was given"));
            wait.touched_by_loss
        }
    };
    if touched != 0 {
        ui.weak("events were lost near here: times may be wrong");
    }
}

fn split_ui(ui: &mut Ui, open: &Open, split: &Split, bound: Option<Nanos>) {
    let trace = &open.trace;
    ui.strong(format!("split on {}", backend_name(trace, split.backend)));
    let backend = backend_of(trace, split.backend);
    if let Some(backend) = backend {
        if backend.name_source == NameSource::File {
            ui.weak("named after the file with its code: its own name could not be read");
        }
        if !backend.description.is_empty() {
            ui.weak(backend.description.as_str());
        }
    }
    let nodes = match split.first_node {
        NONE => format!("{} nodes", text::count(split.nodes.into())),
        first => format!("nodes {first} to {}", first.saturating_add(split.nodes)),
    };
    ui.label(format!("{} · {nodes}", text::nanos(split.end.saturating_sub(split.begin))));
    if let Some(graph) = trace.graph(split.graph) {
        let work = graph_work(&trace.file, graph);
        let unknown = || "unknown".to_owned();
        let flops = work.flops.map_or_else(unknown, |flops| text::trim(flops as f64 / 1e9));
        let bytes = work.bytes().map_or_else(unknown, text::bytes);
        let most = if work.at_most { "at most " } else { "" };
        ui.label(format!("{most}{flops} GFLOP, touches {most}{bytes} by its shapes"));
    }
    let inputs: Vec<&Copy> = inputs(open, split).collect();
    if !inputs.is_empty() {
        let bytes: u64 = inputs.iter().fold(0, |sum, copy| sum.saturating_add(copy.bytes));
        ui.label(format!("{} inputs copied, {}", inputs.len(), text::bytes(bytes)));
    }
    if backend.is_none_or(|backend| backend.synchronizes) {
        let most = bound.map(|bound| text::nanos(bound.saturating_sub(split.begin)));
        ui.weak(match most {
            Some(most) => format!("device busy {most} at most: bounded by host calls, not its kernel time"),
            None => "bounded by host calls: nobody waited for it, when it was done is unknown".to_owned(),
        });
    }
}

fn copy_ui(ui: &mut Ui, open: &Open, copy: &Copy) {
    let file = &open.trace.file;
    let name = |id: u32, other: &str| match file.string(StrId(id)) {
        "" => other.to_owned(),
        known => known.to_owned(),
    };
    ui.strong(format!("copy of {}", name(copy.tensor, "a tensor without a name")));
    let duration = text::nanos(copy.end.saturating_sub(copy.begin));
    ui.label(format!(
        "{duration} · {} · {}",
        text::bytes(copy.bytes),
        Direction::from_u8(copy.direction).name()
    ));
    let call = CopyCall::from_u8(copy.call);
    let sets = matches!(call, CopyCall::Set | CopyCall::SetAsync);
    let gets = matches!(call, CopyCall::Get | CopyCall::GetAsync);
    let other = |own: bool| if own { "the program" } else { "unknown memory" };
    let (from, to) = (name(copy.source_memory, other(sets)), name(copy.target_memory, other(gets)));
    ui.weak(format!("{} from {from} to {to}", call.name()));
}

/// Copies that are inputs of a split: in its lane, before it.
fn inputs<'a>(open: &'a Open, split: &Split) -> impl Iterator<Item = &'a Copy> {
    let copies = lane(open, split.backend).map_or(&[][..], |lane| &lane.copies);
    let until = copies.partition_point(|copy| copy.begin < split.begin);
    let (id, run) = (split.id, split.run);
    let before = copies.get(..until).unwrap_or_default().iter().rev();
    before.take_while(move |copy| copy.run == run && copy.split == id)
}

/// Draws one lane.
pub(crate) fn paint(canvas: &Canvas<'_>, open: &Open, backend: u32) {
    let Some(lane) = lane(open, backend) else { return };
    let color = color(canvas, open, backend);
    let [splits, copies] = strips(canvas.rect);
    let mut quads = Quads::new(canvas.rect, 256);
    let mut labels = Vec::new();
    let range = |(row, bound): &(Split, Option<Nanos>)| {
        TimeRange::new(row.begin, bound.unwrap_or(row.end).max(row.end))
    };
    canvas.each_in_sight(&lane.splits, range, |bar, (split, _)| {
        quads.rect(at_height(bar, splits), canvas.colors.lane.lerp_to_gamma(color, 0.35));
        let bar = at_height(canvas.bar(TimeRange::new(split.begin, split.end)), splits);
        quads.rect(bar, color);
        labels.push((bar, split));
    });
    for range in merged(&lane.syncs, canvas.view.range(), canvas.view.nanos_from_pixels(1.0)) {
        quads.stripes(at_height(canvas.bar(range), splits), canvas.colors.lane.lerp_to_gamma(color, 0.75));
    }
    canvas.each_in_sight(
        &lane.copies,
        |row| TimeRange::new(row.begin, row.end),
        |bar, _| {
            quads.rect(at_height(bar, copies), canvas.colors.op(OpClass::Copy));
        },
    );
    canvas.painter.add(quads.into_shape());
    for (bar, split) in labels.into_iter().filter(|(bar, _)| bar.width() >= MIN_TEXT_BAR) {
        let long = format!("{} nodes", text::count(split.nodes.into()));
        let short = text::count(split.nodes.into());
        canvas.label(bar, &[&long, &short], bar.center().y, canvas.colors.text_on(color));
    }
}

/// Draws lines from the copies in sight to the splits that they are inputs of; from the lane of
/// the backend whose memory is copied, where it has another one.
pub(crate) fn paint_lines(canvas: &Canvas<'_>, open: &Open, rows: &[Row], top: f32) {
    let strips_of = |backend: u32| {
        let row = rows.iter().find(|row| row.kind == Kind::Backend(backend))?;
        let range = top + row.top..=top + row.top + row.height;
        Some(strips(Rect::from_x_y_ranges(canvas.rect.x_range(), range)))
    };
    let stroke = Stroke::new(1.0, canvas.colors.text.gamma_multiply(0.55));
    let mut lines = 0;
    for lane in lanes(open) {
        let Some([splits, copies]) = strips_of(lane.backend) else { continue };
        let range = |(row, _): &(Split, Option<Nanos>)| TimeRange::new(row.begin, row.end);
        canvas.each_in_sight(&lane.splits, range, |bar, (split, _)| {
            if bar.width() < MIN_SPLIT {
                return;
            }
            for copy in inputs(open, split) {
                lines += 1;
                if lines > MAX_LINES {
                    return;
                }
                let from_bar = canvas.bar(TimeRange::new(copy.begin, copy.end));
                let source = (copy.source != lane.backend).then(|| strips_of(copy.source)).flatten();
                let y = source.map_or(copies.center().y, |[splits, _]| splits.center().y);
                let from = pos2(from_bar.center().x, y);
                let to = pos2(bar.left(), splits.center().y);
                arrow(canvas, from, to, stroke);
            }
        });
    }
}

/// The waits in a window, those less than `pixel` apart as one: a long wait is seen, too, where it
/// begins within the pixel of a short one.
fn merged(waits: &[Sync], window: TimeRange, pixel: Nanos) -> Vec<TimeRange> {
    // The one before may reach into the window.
    let first = waits.partition_point(|wait| wait.begin < window.begin).saturating_sub(1);
    let mut merged: Vec<TimeRange> = Vec::new();
    for wait in waits.iter().skip(first).take_while(|wait| wait.begin < window.end) {
        match merged.last_mut() {
            Some(last) if wait.begin < last.end.saturating_add(pixel) => last.end = last.end.max(wait.end),
            _ => merged.push(TimeRange::new(wait.begin, wait.end.max(wait.begin))),
        }
    }
    merged
}

fn arrow(canvas: &Canvas<'_>, from: Pos2, to: Pos2, stroke: Stroke) {
    canvas.painter.line_segment([from, to], stroke);
    arrow_head(canvas, from, to, stroke.color);
}

/// The head of a line, if there is room for one.
pub(super) fn arrow_head(canvas: &Canvas<'_>, from: Pos2, to: Pos2, color: Color32) {
    let along = (to - from).normalized();
    let across = along.rot90();
    if (to - from).length() > 6.0 {
        let tip = [to, to - along * 6.0 + across * 2.5, to - along * 6.0 - across * 2.5];
        canvas.painter.add(Shape::convex_polygon(tip.to_vec(), color, Stroke::NONE));
    }
}

fn strips(rect: Rect) -> [Rect; 2] {
    let middle = rect.top() + (rect.height() * SPLITS_SHARE).round();
    [
        Rect::from_x_y_ranges(rect.x_range(), rect.top()..=middle - 1.0),
        Rect::from_x_y_ranges(rect.x_range(), middle + 1.0..=rect.bottom()),
    ]
}

fn at_height(bar: Rect, strip: Rect) -> Rect {
    Rect::from_x_y_ranges(bar.x_range(), strip.y_range())
}

/// Backends that compute within the call look like graphs, devices stand out.
fn color(canvas: &Canvas<'_>, open: &Open, backend: u32) -> Color32 {
    let waits = backend_of(&open.trace, backend).is_some_and(|backend| backend.synchronizes);
    if waits { canvas.colors.op(OpClass::Position) } else { canvas.colors.decode[1] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_wait_after_a_short_one_is_seen() {
        let wait = |begin, end| Sync { begin, end, ..Sync::default() };
        let waits = [wait(0, 90), wait(100, 101), wait(102, 900), wait(905, 906), wait(950, 990)];
        let ranges = |window, pixel| -> Vec<(Nanos, Nanos)> {
            merged(&waits, window, pixel).into_iter().map(|range| (range.begin, range.end)).collect()
        };
        let window = TimeRange::new(95, 940);
        assert_eq!(ranges(window, 10), [(0, 90), (100, 906)]);
        assert_eq!(ranges(window, 1), [(0, 90), (100, 101), (102, 900), (905, 906)]);
        assert_eq!(ranges(TimeRange::new(940, 2000), 10), [(905, 906), (950, 990)]);
        assert_eq!(merged(&[], window, 10), []);
    }
}
