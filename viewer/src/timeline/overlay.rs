//! What lies over all lanes: the selected range, the pointer's time, losses.

use super::lanes::Canvas;
use super::ruler;
use super::view::View;
use crate::state::Open;
use crate::text;
use crate::theme::Colors;
use egui::{FontId, Painter, Pos2, Rect, Stroke, pos2, vec2};
use llmtrace_analysis::TimeRange;

/// The selected range, with its length.
pub(super) fn paint_range(painter: &Painter, rect: Rect, open: &Open, view: &View, colors: &Colors) {
    let Some(range) = open.range else { return };
    let left = (rect.left() + view.x_from_time(range.begin)).clamp(rect.left() - 5.0, rect.right() + 5.0);
    let right = (rect.left() + view.x_from_time(range.end)).clamp(left, rect.right() + 5.0);
    let band = Rect::from_x_y_ranges(left..=right.max(left + 1.0), rect.y_range());
    painter.rect_filled(band, 0.0, colors.veil());
    let stroke = Stroke::new(1.0, colors.accent);
    painter.vline(band.left(), rect.y_range(), stroke);
    painter.vline(band.right(), rect.y_range(), stroke);
    let visible = band.intersect(rect);
    let label = text::nanos(range.nanos());
    let galley = painter.layout_no_wrap(label, FontId::proportional(11.5), colors.text_on(colors.accent));
    let size = galley.size() + vec2(8.0, 2.0);
    if visible.is_positive() {
        let x = visible.center().x.clamp(rect.left() + size.x / 2.0, rect.right() - size.x / 2.0);
        let tag = Rect::from_center_size(pos2(x, rect.bottom() - size.y), size);
        painter.rect_filled(tag, 3.0, colors.accent);
        painter.galley(tag.min + vec2(4.0, 1.0), galley, colors.text_on(colors.accent));
    }
}

/// A line at the pointer and the time there.
pub(super) fn paint_pointer(
    painter: &Painter,
    ruler: Rect,
    lanes: Rect,
    pointer: Pos2,
    view: &View,
    colors: &Colors,
) {
    let x = painter.round_to_pixel_center(pointer.x);
    painter.vline(x, lanes.y_range(), Stroke::new(1.0, colors.weak.gamma_multiply(0.6)));
    let step = ruler::step(view, 4.0);
    let time = view.time_from_x(pointer.x - ruler.left());
    let label = text::time_at_step((time / step * step) as i64, step);
    let galley = painter.layout_no_wrap(label, FontId::proportional(11.0), colors.text);
    let size = galley.size() + vec2(8.0, 2.0);
    let left = (x - size.x / 2.0).clamp(ruler.left(), (ruler.right() - size.x).max(ruler.left()));
    let tag = Rect::from_min_size(pos2(left, ruler.top()), size);
    painter.rect_filled(tag, 3.0, colors.card);
    painter.galley(tag.min + vec2(4.0, 1.0), galley, colors.text);
}

/// Where events were lost: one mark a pixel at most.
pub(super) fn paint_losses(painter: &Painter, rect: Rect, open: &Open, view: &View, colors: &Colors) {
    let losses = &open.trace.losses;
    let window = view.range();
    let pixel = view.nanos_from_pixels(2.0);
    let mut at = losses.partition_point(|loss| loss.begin < window.begin).saturating_sub(1);
    while let Some(loss) = losses.get(at).filter(|loss| loss.begin < window.end) {
        let left = (rect.left() + view.x_from_time(loss.begin)).max(rect.left() - 2.0);
        let right = (rect.left() + view.x_from_time(loss.end)).clamp(left + 2.0, rect.right() + 4.0);
        let band = Rect::from_x_y_ranges(left..=right, rect.y_range());
        painter.rect_filled(band, 0.0, colors.loss.gamma_multiply(0.35));
        let next = loss.begin.saturating_add(pixel);
        at += 1 + losses.get(at + 1..).unwrap_or_default().partition_point(|loss| loss.begin < next);
    }
}

/// The same in the strip of the whole trace: ticks, which a short loss would not be wide enough for.
pub(super) fn paint_loss_ticks(canvas: &Canvas<'_>, open: &Open) {
    let range = |loss: &llmtrace_analysis::format::tables::Loss| TimeRange::new(loss.begin, loss.end);
    canvas.each_in_sight(&open.trace.losses, range, |bar, _| {
        let tick = Rect::from_x_y_ranges(bar.x_range(), bar.bottom() - 5.0..=bar.bottom());
        canvas.painter.rect_filled(tick, 0.0, canvas.colors.loss);
    });
}
