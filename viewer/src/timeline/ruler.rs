//! The time ruler: marks at 1, 2 or 5 times a power of ten.

use super::view::View;
use crate::text;
use crate::theme::{Colors, RULER_STEP};
use egui::{FontId, Painter, Rect, Stroke, pos2};

/// Nanoseconds between marks so that they are at least `pixels` apart.
pub(crate) fn step(view: &View, pixels: f32) -> u64 {
    let least = (f64::from(pixels) * view.nanos_per_pixel()).ceil() as u64;
    let mut power: u64 = 1;
    loop {
        for factor in [1, 2, 5] {
            let step = power.saturating_mul(factor);
            if step >= least || step == u64::MAX {
                return step;
            }
        }
        power = power.saturating_mul(10);
    }
}

/// The marks in sight.
pub(crate) fn marks(view: &View, step: u64) -> impl Iterator<Item = u64> + use<> {
    let range = view.range();
    let first = range.begin.next_multiple_of(step);
    let count = (range.end.saturating_sub(first) / step).min(10_000);
    (0..=count).map(move |index| first + index * step)
}

/// Draws the ruler into `rect`, without labels near `pointer`, which has its own.
pub(crate) fn paint(painter: &Painter, rect: Rect, pointer: Option<f32>, view: &View, colors: &Colors) {
    let step = step(view, RULER_STEP);
    let painter = painter.with_clip_rect(rect);
    painter.hline(rect.x_range(), rect.bottom(), Stroke::new(1.0, colors.line));
    let fine = Stroke::new(1.0, colors.line.gamma_multiply(0.55));
    for minor in marks(view, (step / 5).max(1)).filter(|_| step >= 5) {
        let x = rect.left() + view.x_from_time(minor);
        painter.vline(x, rect.bottom() - 4.0..=rect.bottom(), fine);
    }
    for mark in marks(view, step) {
        let x = painter.round_to_pixel_center(rect.left() + view.x_from_time(mark));
        painter.vline(x, rect.bottom() - 9.0..=rect.bottom(), Stroke::new(1.0, colors.weak));
        let label = text::time_at_step(mark as i64, step);
        let font = FontId::proportional(11.0);
        let galley = painter.layout_no_wrap(label, font, colors.weak);
        let right = x + 4.0 + galley.size().x;
        let hidden = pointer.is_some_and(|pointer| x - 45.0 < pointer && pointer < right + 45.0);
        if right <= rect.right() && !hidden {
            painter.galley(pos2(x + 4.0, rect.top() + 1.0), galley, colors.weak);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use llmtrace_analysis::TimeRange;

    #[test]
    fn marks_are_apart_and_in_sight() {
        let mut view = View::whole(TimeRange::new(0, 3_600_000_000_000), 1500.0);
        for _ in 0..90 {
            let step = step(&view, RULER_STEP);
            let xs: Vec<f32> = marks(&view, step).map(|mark| view.x_from_time(mark)).collect();
            assert!(xs.len() <= 16, "{}", xs.len());
            assert!(xs.windows(2).all(|pair| pair[1] - pair[0] >= RULER_STEP * 0.9));
            view.zoom(1.4, 700.0);
        }
    }
}
