//! Many rectangles as one mesh.

use egui::epaint::{Mesh, Vertex, WHITE_UV};
use egui::{Color32, Pos2, Rect, Shape, pos2};

/// Distance between stripes.
const STRIPE_STEP: f32 = 7.0;
/// Horizontal extent of a stripe.
const STRIPE_WIDTH: f32 = 1.6;

/// Rectangles to draw at once, cut off at a clip rectangle.
pub(crate) struct Quads {
    mesh: Mesh,
    clip: Rect,
}

impl Quads {
    pub(crate) fn new(clip: Rect, capacity: usize) -> Self {
        let mut mesh = Mesh::default();
        mesh.reserve_vertices(capacity * 4);
        mesh.reserve_triangles(capacity * 2);
        Self { mesh, clip }
    }

    /// Adds a rectangle.
    pub(crate) fn rect(&mut self, rect: Rect, color: Color32) {
        let rect = rect.intersect(self.clip);
        if rect.is_positive() {
            self.mesh.add_colored_rect(rect, color);
        }
    }

    /// Adds diagonal stripes over a rectangle. Their place depends on the
    /// screen alone, so that neighbours match.
    pub(crate) fn stripes(&mut self, rect: Rect, color: Color32) {
        let rect = rect.intersect(self.clip);
        if !rect.is_positive() || rect.width() < 3.0 {
            return;
        }
        let rise = rect.height();
        let mut foot = ((rect.left() - rise) / STRIPE_STEP).floor() * STRIPE_STEP;
        while foot < rect.right() {
            self.stripe(rect, foot, rise, color);
            foot += STRIPE_STEP;
        }
    }

    /// One stripe from (`foot`, bottom) to (`foot + rise`, top), cut off at the
    /// rectangle's left and right.
    fn stripe(&mut self, rect: Rect, foot: f32, rise: f32, color: Color32) {
        let left = foot.max(rect.left());
        let right = (foot + rise).min(rect.right() - STRIPE_WIDTH);
        if right <= left {
            return;
        }
        let at = |x: f32| pos2(x, rect.bottom() - (x - foot));
        let (a, b) = (at(left), at(right));
        self.quad([a, pos2(a.x + STRIPE_WIDTH, a.y), pos2(b.x + STRIPE_WIDTH, b.y), b], color);
    }

    fn quad(&mut self, corners: [Pos2; 4], color: Color32) {
        let first = self.mesh.vertices.len() as u32;
        self.mesh.vertices.extend(corners.map(|pos| Vertex { pos, uv: WHITE_UV, color }));
        self.mesh.add_triangle(first, first + 1, first + 2);
        self.mesh.add_triangle(first, first + 2, first + 3);
    }

    /// What to give the painter.
    pub(crate) fn into_shape(self) -> Shape {
        Shape::mesh(self.mesh)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stripes_stay_inside_their_rectangle() {
        let clip = Rect::from_min_max(pos2(0.0, 0.0), pos2(200.0, 40.0));
        let rect = Rect::from_min_max(pos2(13.0, 5.0), pos2(77.0, 35.0));
        let mut quads = Quads::new(clip, 1);
        quads.stripes(rect, Color32::RED);
        assert!(!quads.mesh.vertices.is_empty());
        assert!(quads.mesh.vertices.iter().all(|vertex| rect.expand(0.01).contains(vertex.pos)));
    }

    #[test]
    fn rectangles_are_clipped() {
        let clip = Rect::from_min_max(pos2(0.0, 0.0), pos2(10.0, 10.0));
        let mut quads = Quads::new(clip, 1);
        quads.rect(Rect::from_min_max(pos2(-1e7, 2.0), pos2(1e7, 4.0)), Color32::RED);
        quads.rect(Rect::from_min_max(pos2(20.0, 2.0), pos2(30.0, 4.0)), Color32::RED);
        assert_eq!(quads.mesh.vertices.len(), 4);
        assert!(quads.mesh.vertices.iter().all(|vertex| clip.contains(vertex.pos)));
    }
}
