//! Draws egui's triangles on the CPU, for pictures without a display.
//!
//! Own code, because it is short and the alternatives need a GPU, a software
//! Vulkan driver, or an older egui. Colours are blended in gamma space with
//! premultiplied alpha, as egui's own painters do.

use egui::epaint::{ClippedPrimitive, ImageData, Mesh, Primitive, Vertex, textures::TexturesDelta};
use egui::{Color32, Pos2, Rect, TextureId};
use image::{Rgba, RgbaImage};
use std::collections::HashMap;

/// Textures that egui asked to keep.
#[derive(Default)]
pub struct Textures {
    images: HashMap<TextureId, Texture>,
}

struct Texture {
    width: usize,
    height: usize,
    pixels: Vec<Color32>,
}

impl Texture {
    /// The colour at texture coordinates, interpolated.
    fn sample(&self, uv: Pos2) -> [f32; 4] {
        let x = (uv.x * self.width as f32 - 0.5).clamp(0.0, self.width.saturating_sub(1) as f32);
        let y = (uv.y * self.height as f32 - 0.5).clamp(0.0, self.height.saturating_sub(1) as f32);
        let (x0, y0) = (x as usize, y as usize);
        let (fx, fy) = (x - x0 as f32, y - y0 as f32);
        let at = |x: usize, y: usize| {
            let (x, y) = (x.min(self.width.saturating_sub(1)), y.min(self.height.saturating_sub(1)));
            self.pixels.get(y * self.width + x).map_or([0.0; 4], |color| color.to_array().map(f32::from))
        };
        if fx < 1e-3 && fy < 1e-3 {
            return at(x0, y0).map(|c| c / 255.0);
        }
        let (a, b, c, d) = (at(x0, y0), at(x0 + 1, y0), at(x0, y0 + 1), at(x0 + 1, y0 + 1));
        std::array::from_fn(|i| {
            let top = a[i] + (b[i] - a[i]) * fx;
            let bottom = c[i] + (d[i] - c[i]) * fx;
            (top + (bottom - top) * fy) / 255.0
        })
    }
}

impl Textures {
    /// Applies what changed in a frame.
    pub fn apply(&mut self, mut delta: TexturesDelta) {
        for (id, changes) in delta.set.drain() {
            for change in changes {
                let ImageData::Color(image) = change.image;
                let [width, height] = image.size;
                let Some([left, top]) = change.pos else {
                    self.images.insert(id, Texture { width, height, pixels: image.pixels.clone() });
                    continue;
                };
                let Some(texture) = self.images.get_mut(&id) else { continue };
                for (row, pixels) in image.pixels.chunks(width.max(1)).enumerate() {
                    let begin = (top + row) * texture.width + left;
                    if let Some(target) = texture.pixels.get_mut(begin..begin + pixels.len()) {
                        target.copy_from_slice(pixels);
                    }
                }
            }
        }
        for id in delta.free.drain() {
            self.images.remove(&id);
        }
    }
}

/// A picture being drawn.
pub struct Canvas {
    width: usize,
    height: usize,
    scale: f32,
    /// Premultiplied, from 0 to 1.
    pixels: Vec<[f32; 4]>,
}

impl Canvas {
    /// A picture of one colour; `scale` is pixels per point.
    pub fn new(width: usize, height: usize, scale: f32, background: Color32) -> Self {
        let background = background.to_array().map(|c| f32::from(c) / 255.0);
        Self { width, height, scale, pixels: vec![background; width * height] }
    }

    /// Draws what egui tessellated. Paint callbacks, which need a GPU, are
    /// left out; the app has none.
    pub fn draw(&mut self, primitives: &[ClippedPrimitive], textures: &Textures) {
        for primitive in primitives {
            if let Primitive::Mesh(mesh) = &primitive.primitive
                && let Some(texture) = textures.images.get(&mesh.texture_id)
            {
                self.draw_mesh(mesh, primitive.clip_rect, texture);
            }
        }
    }

    /// The picture.
    pub fn into_image(self) -> RgbaImage {
        let mut image = RgbaImage::new(self.width as u32, self.height as u32);
        for (target, pixel) in image.pixels_mut().zip(&self.pixels) {
            let [r, g, b, _] = pixel.map(|c| (c * 255.0 + 0.5).clamp(0.0, 255.0) as u8);
            *target = Rgba([r, g, b, 255]);
        }
        image
    }

    fn draw_mesh(&mut self, mesh: &Mesh, clip: Rect, texture: &Texture) {
        let edge = |value: f32, limit: usize| (value * self.scale).round().clamp(0.0, limit as f32) as usize;
        let clip = Clip {
            left: edge(clip.left(), self.width),
            right: edge(clip.right(), self.width),
            top: edge(clip.top(), self.height),
            bottom: edge(clip.bottom(), self.height),
        };
        for corners in mesh.indices.chunks_exact(3) {
            let vertex = |index: usize| mesh.vertices.get(corners[index] as usize);
            if let (Some(a), Some(b), Some(c)) = (vertex(0), vertex(1), vertex(2)) {
                self.draw_triangle([a, b, c], &clip, texture);
            }
        }
    }

    fn draw_triangle(&mut self, corners: [&Vertex; 3], clip: &Clip, texture: &Texture) {
        let mut corners = corners;
        let area = cross(corners[0].pos, corners[1].pos, corners[2].pos);
        if area == 0.0 || !area.is_finite() {
            return;
        }
        if area < 0.0 {
            corners.swap(1, 2);
        }
        let [a, b, c] = corners.map(|vertex| (vertex.pos.to_vec2() * self.scale).to_pos2());
        let area = cross(a, b, c);
        let colors = corners.map(|vertex| vertex.color.to_array().map(|c| f32::from(c) / 255.0));
        let solid_texel = (corners[0].uv == corners[1].uv && corners[1].uv == corners[2].uv)
            .then(|| texture.sample(corners[0].uv));
        let low = |values: [f32; 3]| values.into_iter().fold(f32::INFINITY, f32::min).max(0.0) as usize;
        let high = |values: [f32; 3]| values.into_iter().fold(0.0, f32::max).ceil() as usize;
        let columns = low([a.x, b.x, c.x]).max(clip.left)..high([a.x, b.x, c.x]).min(clip.right);
        let rows = low([a.y, b.y, c.y]).max(clip.top)..high([a.y, b.y, c.y]).min(clip.bottom);
        let owned = [owns_edge(b, c), owns_edge(c, a), owns_edge(a, b)];
        for y in rows {
            for x in columns.clone() {
                let p = Pos2::new(x as f32 + 0.5, y as f32 + 0.5);
                let weights = [cross(b, c, p), cross(c, a, p), cross(a, b, p)];
                let inside = weights.iter().zip(owned).all(|(&w, owned)| w > 0.0 || (w == 0.0 && owned));
                if !inside {
                    continue;
                }
                let w = weights.map(|weight| weight / area);
                let texel = solid_texel.unwrap_or_else(|| {
                    let uv: egui::Vec2 =
                        (0..3).map(|i| corners[i].uv.to_vec2() * w[i]).fold(egui::Vec2::ZERO, |s, v| s + v);
                    texture.sample(uv.to_pos2())
                });
                let pixel = &mut self.pixels[y * self.width + x];
                let color: [f32; 4] = std::array::from_fn(|i| {
                    (colors[0][i] * w[0] + colors[1][i] * w[1] + colors[2][i] * w[2]) * texel[i]
                });
                for i in 0..4 {
                    pixel[i] = color[i] + pixel[i] * (1.0 - color[3]);
                }
            }
        }
    }
}

struct Clip {
    left: usize,
    right: usize,
    top: usize,
    bottom: usize,
}

/// Twice the area of a triangle, positive when it turns clockwise on screen.
fn cross(a: Pos2, b: Pos2, p: Pos2) -> f32 {
    (b.x - a.x) * (p.y - a.y) - (b.y - a.y) * (p.x - a.x)
}

/// Whether pixels exactly on an edge belong to this triangle and not to its
/// neighbour.
fn owns_edge(from: Pos2, to: Pos2) -> bool {
    (from.y == to.y && to.x > from.x) || to.y < from.y
}

#[cfg(test)]
mod tests {
    use super::*;

    fn white() -> Textures {
        let texture = Texture { width: 1, height: 1, pixels: vec![Color32::WHITE] };
        Textures { images: HashMap::from([(TextureId::default(), texture)]) }
    }

    fn draw(canvas: &mut Canvas, rect: Rect, clip: Rect, color: Color32) {
        let mut mesh = Mesh::default();
        mesh.add_colored_rect(rect, color);
        canvas.draw(&[ClippedPrimitive { clip_rect: clip, primitive: Primitive::Mesh(mesh) }], &white());
    }

    fn rect(left: f32, top: f32, right: f32, bottom: f32) -> Rect {
        Rect::from_min_max(Pos2::new(left, top), Pos2::new(right, bottom))
    }

    #[test]
    fn every_pixel_of_a_rectangle_is_drawn_once() {
        let mut canvas = Canvas::new(20, 20, 1.0, Color32::BLACK);
        let half = Color32::from_rgba_premultiplied(100, 0, 0, 128);
        draw(&mut canvas, rect(2.0, 3.0, 12.0, 9.0), Rect::EVERYTHING, half);
        let image = canvas.into_image();
        for (x, y, pixel) in image.enumerate_pixels() {
            let inside = (2..12).contains(&x) && (3..9).contains(&y);
            assert_eq!(pixel.0[0], if inside { 100 } else { 0 }, "{x},{y}");
        }
    }

    #[test]
    fn clip_and_scale_are_kept() {
        let mut canvas = Canvas::new(20, 20, 2.0, Color32::WHITE);
        draw(&mut canvas, rect(0.0, 0.0, 10.0, 10.0), rect(1.0, 1.0, 3.0, 3.0), Color32::BLACK);
        let image = canvas.into_image();
        assert_eq!(image.pixels().filter(|pixel| pixel.0[0] == 0).count(), 16);
        assert_eq!(image.get_pixel(2, 2).0[0], 0);
    }

    #[test]
    fn alpha_blends_premultiplied() {
        let mut canvas = Canvas::new(1, 1, 1.0, Color32::from_rgb(200, 100, 0));
        draw(
            &mut canvas,
            rect(0.0, 0.0, 1.0, 1.0),
            Rect::EVERYTHING,
            Color32::from_rgba_premultiplied(10, 0, 50, 51),
        );
        assert_eq!(canvas.into_image().get_pixel(0, 0).0, [170, 80, 50, 255]);
    }

    #[test]
    fn textures_are_patched() {
        let mut textures = white();
        let mut delta = TexturesDelta::default();
        let image = egui::ColorImage::filled([1, 1], Color32::RED);
        let patch = egui::epaint::ImageDelta::partial([0, 0], image, egui::TextureOptions::LINEAR);
        delta.set.entry(TextureId::default()).or_default().push(patch);
        textures.apply(delta);
        assert_eq!(textures.images[&TextureId::default()].sample(Pos2::new(0.5, 0.5)), [1.0, 0.0, 0.0, 1.0]);
    }
}
