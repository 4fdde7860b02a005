//! Which part of the picture is in sight.

use egui::{Pos2, Rect, Response, Vec2, pos2, vec2};
use llmtrace_analysis::dag::{Layout, Placed};

/// Smallest and greatest scale, in points on screen for a point of the picture.
const SCALE: std::ops::RangeInclusive<f32> = 0.004..=3.0;
/// The scale at which a picture is first shown, at most.
const FIRST: f32 = 1.1;
/// Height of a window in which a small picture is shown larger.
const ROOMY: f32 = 800.0;
/// Space around a picture that fits.
const MARGIN: f32 = 24.0;

/// Place and scale. Fits the picture until it is moved.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Camera {
    /// The picture's point in the middle of the window.
    middle: Pos2,
    scale: f32,
    fits: bool,
}

impl Default for Camera {
    fn default() -> Self {
        Self { middle: Pos2::ZERO, scale: 1.0, fits: true }
    }
}

impl Camera {
    /// Shows all of the picture.
    pub(crate) fn fit(&mut self) {
        self.fits = true;
    }

    pub(crate) fn scale(&self) -> f32 {
        self.scale
    }

    /// Before drawing: fits, if that is wanted. A picture that would be too small to read shows its
    /// top instead.
    pub(crate) fn update(&mut self, window: Rect, layout: &Layout) {
        if !self.fits {
            return;
        }
        let size = vec2(layout.width.max(1.0), layout.height.max(1.0));
        let room = window.size() - Vec2::splat(2.0 * MARGIN);
        let all = (room.x / size.x).min(room.y / size.y);
        self.scale = all.clamp(*SCALE.start(), FIRST * (window.height() / ROOMY).clamp(1.0, 1.6));
        self.middle = pos2(size.x / 2.0, size.y / 2.0);
    }

    /// Moves and zooms as the pointer says.
    pub(crate) fn input(&mut self, response: &Response, window: Rect) {
        if response.dragged() {
            self.fits = false;
            self.middle -= response.drag_delta() / self.scale;
        }
        let Some(pointer) = response.hover_pos() else { return };
        let (zoom, scroll) = response.ctx.input(|input| (input.zoom_delta(), input.smooth_scroll_delta()));
        let factor = if zoom != 1.0 { zoom } else { (scroll.y / 180.0).exp2() };
        if factor != 1.0 {
            self.fits = false;
            let before = self.picture_from_screen(window, pointer);
            self.scale = (self.scale * factor).clamp(*SCALE.start(), *SCALE.end());
            let after = self.picture_from_screen(window, pointer);
            self.middle += before - after;
        }
        if scroll.x != 0.0 {
            self.fits = false;
            self.middle.x -= scroll.x / self.scale;
        }
    }

    /// Brings a part into sight, at a scale at which it can be read.
    pub(crate) fn reveal(&mut self, window: Rect, placed: &Placed) {
        let rect = self.screen_from_picture(window, placed);
        let inside = window.shrink(20.0).contains_rect(rect);
        if inside && self.scale >= 0.45 {
            return;
        }
        self.fits = false;
        self.scale = self.scale.max(0.8);
        self.middle = pos2(placed.x, placed.y);
    }

    pub(crate) fn picture_from_screen(&self, window: Rect, at: Pos2) -> Pos2 {
        self.middle + (at - window.center()) / self.scale
    }

    pub(crate) fn at(&self, window: Rect, x: f32, y: f32) -> Pos2 {
        window.center() + (pos2(x, y) - self.middle) * self.scale
    }

    pub(crate) fn screen_from_picture(&self, window: Rect, placed: &Placed) -> Rect {
        let size = vec2(placed.width, placed.height) * self.scale;
        Rect::from_center_size(self.at(window, placed.x, placed.y), size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_that_fits_is_in_sight() {
        let window = Rect::from_min_size(pos2(100.0, 50.0), vec2(800.0, 600.0));
        let layout = Layout { placed: Vec::new(), width: 3000.0, height: 9000.0 };
        let mut camera = Camera::default();
        camera.update(window, &layout);
        assert!(window.contains(camera.at(window, 0.0, 0.0)));
        assert!(window.contains(camera.at(window, 3000.0, 9000.0)));
        let at = pos2(321.0, 400.0);
        let there = camera.picture_from_screen(window, at);
        assert!(camera.at(window, there.x, there.y).distance(at) < 0.01);
    }

    #[test]
    fn what_is_revealed_can_be_read() {
        let window = Rect::from_min_size(Pos2::ZERO, vec2(800.0, 600.0));
        let layout = Layout { placed: Vec::new(), width: 500.0, height: 200_000.0 };
        let mut camera = Camera::default();
        camera.update(window, &layout);
        let placed = Placed { x: 250.0, y: 150_000.0, width: 120.0, height: 34.0 };
        camera.reveal(window, &placed);
        assert!(camera.scale() >= 0.45);
        assert!(window.contains_rect(camera.screen_from_picture(window, &placed)));
        // What can be seen already stays where it is.
        let before = camera.at(window, 250.0, 150_000.0);
        camera.reveal(window, &Placed { y: 150_050.0, ..placed });
        assert_eq!(camera.at(window, 250.0, 150_000.0), before);
    }
}
