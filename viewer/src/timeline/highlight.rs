//! Executions that another page marked: veils over the lanes, ticks on the ruler and the minimap.

use super::lanes::Canvas;
use super::paint::Quads;
use super::view::View;
use crate::state::Open;
use crate::theme::Colors;
use egui::{Align2, FontId, Painter, Rect, pos2, vec2};

/// Height of the ticks.
const TICK: f32 = 6.0;

/// Draws what is marked, over minimap, ruler and lanes.
pub(crate) fn paint(
    painter: &Painter,
    (minimap, ruler, lanes): (Rect, Rect, Rect),
    open: &Open,
    view: &View,
    colors: &'static Colors,
) {
    let Some(highlight) = &open.highlight else { return };
    let mut quads = Quads::new(ruler.union(lanes), 512);
    let canvas = Canvas { painter, colors, view, rect: lanes };
    canvas.each_in_sight(
        &highlight.ranges,
        |range| *range,
        |bar, _| {
            quads.rect(bar, colors.veil());
            let tick = Rect::from_x_y_ranges(bar.x_range(), ruler.bottom() - TICK..=ruler.bottom());
            quads.rect(tick, colors.accent);
        },
    );
    painter.add(quads.into_shape());
    let whole = View::whole(view.trace(), minimap.width());
    let canvas = Canvas { painter, colors, view: &whole, rect: minimap };
    let mut quads = Quads::new(minimap, 512);
    canvas.each_in_sight(
        &highlight.ranges,
        |range| *range,
        |bar, _| {
            let tick = Rect::from_x_y_ranges(bar.x_range(), minimap.bottom() - TICK..=minimap.bottom());
            quads.rect(tick, colors.accent);
        },
    );
    painter.add(quads.into_shape());
    let count = crate::text::count(highlight.ranges.len() as u64);
    let text = format!("{count} marked: {} (N next, Esc clears)", highlight.name);
    let galley = painter.layout_no_wrap(text, FontId::proportional(11.5), colors.text);
    let size = galley.size() + vec2(12.0, 6.0);
    let at = Align2::RIGHT_BOTTOM.anchor_size(pos2(lanes.right() - 8.0, lanes.bottom() - 8.0), size);
    painter.rect_filled(at, 4.0, colors.card);
    painter.rect_stroke(at, 4.0, egui::Stroke::new(1.0, colors.line), egui::StrokeKind::Inside);
    painter.galley(at.min + vec2(6.0, 3.0), galley, colors.text);
}
