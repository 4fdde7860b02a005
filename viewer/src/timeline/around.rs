//! Lanes of what goes on around graphs: sequences, calls, cells of the KV cache.

use super::lanes::Canvas;
use super::paint::Quads;
use crate::state::Open;
use crate::text;
use crate::theme::MIN_BAR;
use egui::{Color32, Rect, Stroke, Ui, pos2};
use llmtrace_analysis::format::constants::NONE;
use llmtrace_analysis::format::inference::{
    ALL_SEQUENCES, Call, CallKind, KvOperation, KvOperationRow, UNKNOWN_RESULT,
};
use llmtrace_analysis::inference::{KvCurve, Request, SequenceKey, Step};
use llmtrace_analysis::{Nanos, TimeRange};

/// How many items may lie inside of another one and still leave it in sight.
const DEEP: usize = 256;
/// Sequences with a lane of their own; the others share one.
const OWN_LANES: usize = 16;

/// How many lanes sequences take.
pub(crate) fn sequence_lanes(open: &Open) -> usize {
    open.trace.around().sequences.len().min(OWN_LANES + 1)
}

/// What a lane of sequences shows, by its number.
fn sequences_of(open: &Open, lane: usize) -> &[(SequenceKey, Vec<Step>)] {
    let all = &open.trace.around().sequences;
    let end = if lane < OWN_LANES { lane + 1 } else { all.len() };
    all.get(lane..end.min(all.len())).unwrap_or_default()
}

/// A sequence's name, long enough to tell it from the others.
pub(crate) fn sequence_name(open: &Open, lane: usize) -> String {
    let [(key, _)] = sequences_of(open, lane) else {
        return format!("{} others", open.trace.around().sequences.len().saturating_sub(OWN_LANES));
    };
    let all = &open.trace.around().sequences;
    let contexts = all.iter().any(|(other, _)| (other.process, other.context) != (key.process, key.context));
    let draft = open.trace.around().drafts.contains(&key.context);
    match (contexts, draft) {
        (_, true) => format!("seq {} draft", key.sequence),
        (true, false) if key.context != NONE => format!("seq {} ctx {}", key.sequence, key.context),
        _ => format!("seq {}", key.sequence),
    }
}

/// What is under the pointer.
#[derive(Clone, Debug)]
pub(crate) enum Around {
    /// What a micro-batch does for a sequence, and the request that it belongs to.
    Step(SequenceKey, Step, Option<Box<Request>>),
    /// A call.
    Call(Call),
    /// An operation on the KV cache, within a few pixels.
    Operation(KvOperationRow),
    /// Cells of a context at a time: the curve's place.
    Cells(usize),
}

impl Around {
    /// The range to select or to zoom to.
    pub(crate) fn range(&self) -> Option<TimeRange> {
        match self {
            Self::Step(_, step, request) => Some(
                request.as_ref().map_or(step.range, |request| TimeRange::new(request.begin, request.end)),
            ),
            Self::Call(call) => Some(TimeRange::new(call.begin, call.end)),
            Self::Operation(_) | Self::Cells(_) => None,
        }
    }
}

/// The item that a time lies in, of items by begin; the innermost.
fn inside<T>(items: &[T], time: Nanos, range: impl Fn(&T) -> TimeRange) -> Option<&T> {
    let after = items.partition_point(|item| range(item).begin <= time);
    let recent = items.get(after.saturating_sub(DEEP)..after).unwrap_or_default();
    recent.iter().rev().find(|item| time < range(item).end)
}

/// What a sequence does at a time.
pub(crate) fn step_at(open: &Open, lane: usize, time: Nanos) -> Option<Around> {
    let found = sequences_of(open, lane).iter();
    let mut found = found.filter_map(|(key, steps)| Some((*key, *inside(steps, time, |step| step.range)?)));
    let (key, step) = found.next()?;
    let request = open.trace.around().request_at(key, time).cloned().map(Box::new);
    Some(Around::Step(key, step, request))
}

/// The innermost call at a time, or one within `slack`.
pub(crate) fn call_at(open: &Open, time: Nanos, slack: Nanos) -> Option<Around> {
    let calls = &open.trace.inference.calls;
    let near = |call: &Call| TimeRange::new(call.begin.saturating_sub(slack), call.end.saturating_add(slack));
    let exact = inside(calls, time, |call| TimeRange::new(call.begin, call.end));
    exact.or_else(|| inside(calls, time, near)).copied().map(Around::Call)
}

/// An operation on a KV cache within `slack`, or the cells of one; `share` of the
/// lane's height is above the pointer.
pub(crate) fn cells_at(open: &Open, time: Nanos, slack: Nanos, share: f32) -> Option<Around> {
    let curves = &open.trace.around().kv;
    let at = ((share * curves.len() as f32) as usize).min(curves.len().saturating_sub(1));
    let curve = curves.get(at)?;
    let rows = &open.trace.inference.kv;
    let after = rows.partition_point(|row| row.time.saturating_add(slack) < time);
    let near = rows.get(after..).unwrap_or_default().iter();
    let mut near = near.take_while(|row| row.time <= time.saturating_add(slack));
    let of_it = |row: &&KvOperationRow| (row.process, row.context) == (curve.process, curve.context);
    near.find(of_it).copied().map(Around::Operation).or(Some(Around::Cells(at)))
}

/// Calls `draw` for items in sight, by begin; those that end within a pixel of one that was
/// drawn are left out. A long one after a short one is not, as it would be by
/// [`Canvas::each_in_sight`].
fn each_visible<'a, T>(
    canvas: &Canvas<'_>,
    items: &'a [T],
    range: impl Fn(&T) -> TimeRange,
    mut draw: impl FnMut(Rect, &'a T),
) {
    let window = canvas.view.range();
    let pixel = canvas.view.nanos_from_pixels(MIN_BAR);
    // Those before may reach into the window, and lie around others.
    let first = items.partition_point(|item| range(item).begin < window.begin).saturating_sub(DEEP);
    let mut drawn = 0;
    for item in items.get(first..).unwrap_or_default() {
        let item_range = range(item);
        if item_range.begin >= window.end {
            break;
        }
        if item_range.end >= window.begin && (drawn == 0 || item_range.end >= drawn) {
            draw(canvas.bar(item_range), item);
            drawn = item_range.begin.saturating_add(pixel);
        }
    }
}

/// Draws a lane of sequences.
pub(crate) fn paint_sequences(canvas: &Canvas<'_>, open: &Open, lane: usize) {
    let mut quads = Quads::new(canvas.rect, 256);
    let mut labels = Vec::new();
    for (key, steps) in sequences_of(open, lane) {
        each_visible(
            canvas,
            steps,
            |step| step.range,
            |bar, step| {
                let bar = bar.shrink2(egui::vec2(0.0, 2.0));
                let color = step_color(canvas, step);
                quads.rect(bar, color);
                if bar.width() >= 24.0 {
                    labels.push((bar, step, color));
                }
            },
        );
        // A line as long as each request.
        let requests: Vec<&Request> =
            open.trace.around().requests.iter().filter(|request| request.key == *key).collect();
        each_visible(
            canvas,
            &requests,
            |request| TimeRange::new(request.begin, request.end),
            |bar, _| {
                let line = Rect::from_min_max(pos2(bar.left(), bar.bottom() - 2.0), bar.max);
                quads.rect(line, canvas.colors.accent);
            },
        );
    }
    canvas.painter.add(quads.into_shape());
    for (bar, step, color) in labels {
        let [long, short] = step_names(step);
        canvas.label(bar, &[&long, &short], bar.center().y, canvas.colors.text_on(color));
    }
}

fn step_color(canvas: &Canvas<'_>, step: &Step) -> Color32 {
    if step.failed {
        return canvas.colors.loss;
    }
    match step.outputs {
        Some(outputs) if outputs < step.tokens => canvas.colors.prefill,
        None if step.tokens > 1 => canvas.colors.prefill,
        Some(outputs) if outputs > 1 => canvas.colors.decode[1],
        _ => canvas.colors.decode[0],
    }
}

fn step_names(step: &Step) -> [String; 2] {
    if step.tokens == 1 {
        return [format!("at {}", step.position), String::new()];
    }
    [format!("{} tokens", text::count(step.tokens.into())), step.tokens.to_string()]
}

/// Draws the lane of calls, those inside others on top.
pub(crate) fn paint_calls(canvas: &Canvas<'_>, open: &Open) {
    let mut quads = Quads::new(canvas.rect, 256);
    let mut labels = Vec::new();
    each_visible(
        canvas,
        &open.trace.inference.calls,
        |call| TimeRange::new(call.begin, call.end),
        |bar, call| {
            let kind = CallKind::from_u8(call.kind);
            // What has others inside leaves room for them.
            let bar = match kind {
                CallKind::Draft => bar,
                _ => bar.shrink2(egui::vec2(0.0, 3.0)),
            };
            let color = call_color(canvas, kind);
            quads.rect(bar, color);
            if bar.width() >= 24.0 {
                labels.push((bar, kind, color));
            }
        },
    );
    canvas.painter.add(quads.into_shape());
    for (bar, kind, color) in labels {
        canvas.label(bar, &[kind.name()], bar.center().y, canvas.colors.text_on(color));
    }
}

fn call_color(canvas: &Canvas<'_>, kind: CallKind) -> Color32 {
    match kind {
        CallKind::Sample => canvas.colors.accent,
        CallKind::Draft => canvas.colors.graph,
        CallKind::Tokenize => canvas.colors.warning,
        _ => canvas.colors.weak,
    }
}

/// Draws the lane of cells in use, a band for each context.
pub(crate) fn paint_cells(canvas: &Canvas<'_>, open: &Open) {
    let curves = &open.trace.around().kv;
    let each = canvas.rect.height() / curves.len().max(1) as f32;
    let end = open.trace.range().end;
    for (index, curve) in curves.iter().enumerate() {
        let top = canvas.rect.top() + each * index as f32;
        let band = Rect::from_x_y_ranges(canvas.rect.x_range(), top..=(top + each - 1.0));
        let most = curve.most().max(1) as f32;
        let color = if curve.whole { canvas.colors.decode[0] } else { canvas.colors.weak };
        let mut quads = Quads::new(band, 256);
        let (window, pixel) = (canvas.view.range(), canvas.view.nanos_from_pixels(MIN_BAR));
        let points = &curve.points;
        let mut at = points.partition_point(|point| point.time <= window.begin).saturating_sub(1);
        while let Some(point) = points.get(at).filter(|point| point.time < window.end) {
            let next_pixel = point.time.saturating_add(pixel);
            let rest = points.get(at..).unwrap_or_default();
            let after = at + rest.partition_point(|point| point.time < next_pixel).max(1);
            // Of what happens within a pixel the last holds until the next one.
            let cells = points.get(after - 1).map_or(0, |point| point.cells);
            let until = points.get(after).map_or(end, |point| point.time);
            let left = canvas.rect.left() + canvas.view.x_from_time(point.time);
            let right = canvas.rect.left() + canvas.view.x_from_time(until);
            let high = cells as f32 / most * band.height();
            let bar = Rect::from_min_max(pos2(left, band.bottom() - high), pos2(right, band.bottom()));
            quads.rect(bar, color.gamma_multiply(0.7));
            at = after;
        }
        canvas.painter.add(quads.into_shape());
        let rows: Vec<&KvOperationRow> =
            open.trace.inference.kv.iter().filter(|row| of_curve(row, curve)).collect();
        each_visible(
            canvas,
            &rows,
            |row| TimeRange::new(row.time, row.time),
            |bar, row| {
                let color = match KvOperation::from_u8(row.operation) {
                    KvOperation::Remove | KvOperation::Keep | KvOperation::Clear => canvas.colors.weak,
                    _ => canvas.colors.accent,
                };
                canvas.painter.vline(bar.left(), band.top()..=(band.top() + 6.0), Stroke::new(1.5, color));
            },
        );
    }
}

fn of_curve(row: &KvOperationRow, curve: &KvCurve) -> bool {
    (row.process, row.context) == (curve.process, curve.context)
}

/// Says what is there.
pub(crate) fn found_ui(ui: &mut Ui, open: &Open, found: &Around, time: Nanos) {
    match found {
        Around::Step(key, step, request) => step_ui(ui, key, step, request.as_deref()),
        Around::Call(call) => call_ui(ui, call),
        Around::Operation(row) => {
            ui.strong(operation_text(row));
            ui.weak(text::nanos(row.time));
        }
        Around::Cells(at) => {
            let Some(curve) = open.trace.around().kv.get(*at) else { return };
            let least = if curve.whole { "" } else { "at least " };
            match curve.at(time) {
                Some(point) => {
                    let cells = text::count(point.cells);
                    ui.strong(format!("{least}{cells} cells of {} sequences", point.sequences));
                }
                None => {
                    ui.strong("nothing is known of the KV cache yet");
                }
            }
            ui.weak(format!("{least}{} at most", text::count(curve.most())));
            if !curve.whole {
                ui.weak("the recording did not see all that happened to it");
            }
        }
    }
}

fn step_ui(ui: &mut Ui, key: &SequenceKey, step: &Step, request: Option<&Request>) {
    let tokens = if step.tokens == 1 { "1 token".to_owned() } else { format!("{} tokens", step.tokens) };
    ui.strong(format!("sequence {}: {tokens} at {}", key.sequence, step.position));
    let outputs = match step.outputs {
        None => "it is not known how many with an output".to_owned(),
        Some(outputs) => format!("{outputs} with an output"),
    };
    ui.label(outputs);
    if step.failed {
        ui.label("the call failed");
    }
    let Some(request) = request else { return };
    let unknown = || "–".to_owned();
    let prompt = if request.whole {
        format!("{} tokens of prompt, {} reused", request.prompt_tokens, request.reused_tokens)
    } else {
        "its prompt is not in the recording".to_owned()
    };
    let generated = request.generated_tokens.map_or_else(unknown, |tokens| tokens.to_string());
    ui.label(format!("request: {prompt}, {generated} generated"));
    let ttft = request.ttft_nanos().map_or_else(unknown, text::nanos);
    let tpot = request.tpot_nanos().map_or_else(unknown, text::nanos);
    ui.label(format!("TTFT {ttft} · TPOT {tpot}"));
    ui.weak("click to select the request");
}

fn call_ui(ui: &mut Ui, call: &Call) {
    let kind = CallKind::from_u8(call.kind);
    ui.strong(format!("{}: {}", kind.name(), text::nanos(call.end.saturating_sub(call.begin))));
    if let Some(what) = kind.argument().filter(|_| call.argument != NONE) {
        ui.label(format!("{what}: {}", call.argument as i32));
    }
    if let Some(what) = kind.result().filter(|_| call.result != UNKNOWN_RESULT) {
        ui.label(format!("{what}: {}", call.result as i64));
    }
    ui.weak(format!("thread {}", call.tid));
}

/// An operation in words.
pub(crate) fn operation_text(row: &KvOperationRow) -> String {
    let operation = KvOperation::from_u8(row.operation);
    let sequence = match row.sequence {
        ALL_SEQUENCES => "all sequences".to_owned(),
        NONE => "an unknown sequence".to_owned(),
        sequence => format!("sequence {sequence}"),
    };
    let end = if row.end == NONE { "the end".to_owned() } else { row.end.to_string() };
    let range = format!("from {} to {end}", row.begin);
    let value = row.value as i32;
    match operation {
        KvOperation::Clear => "KV cache: clear".to_owned(),
        KvOperation::Keep => format!("KV cache: keep {sequence} only"),
        KvOperation::Copy => format!("KV cache: copy {sequence} {range} to sequence {value}"),
        KvOperation::Add => format!("KV cache: shift {sequence} {range} by {value}"),
        KvOperation::Divide => format!("KV cache: divide {sequence} {range} by {value}"),
        operation => format!("KV cache: {} {sequence} {range}", operation.name()),
    }
}
